//! A session against a Redis played by hand.

use super::for_tests::{ALL_RIGHT, commands_in, set_up_replies};
use super::*;
use crate::booking::SaleName;
use crate::ledger::url::{LedgerUrl, RedisAddress};
use crate::protocol::{BookingOp, LedgerOp, SaleOp, Watermark};

fn session() -> Session {
    session_with(Durability::Ack)
}

fn session_with(durability: Durability) -> Session {
    let address = RedisAddress::Unix("/nowhere".into());
    let url = RedisUrl {
        address,
        user: None,
        password: Some("secret".to_owned()),
        password_file: None,
        database: 3,
        tls: None,
    };
    Session::new(url, durability, 7, Monotonic(0))
}

fn ms(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn expire(name: &str) -> Call {
    SaleOp::Expire.on(SaleName::parse(name).unwrap())
}

/// Takes what the session writes, and counts the commands in it.
fn take_commands(session: &mut Session) -> Vec<String> {
    let bytes = session.poll_output().to_vec();
    session.handle_written(bytes.len());
    commands_in(&bytes)
}

/// Dials and answers the set-up; returns what was written behind it.
fn connect(session: &mut Session, now: Monotonic) -> Vec<String> {
    let commands = dial(session, now);
    set_up(session, &commands, "", now).unwrap();
    assert!(session.is_up());
    take_commands(session)
}

/// Answers these commands of a set-up, those about the fitness with that, and what is written on these answers.
fn set_up(
    session: &mut Session,
    commands: &[String],
    fitness: &str,
    now: Monotonic,
) -> Result<(), SessionError> {
    session.handle_bytes((set_up_replies(commands) + fitness).as_bytes(), now)?;
    assert!(!session.is_up());
    let end = take_commands(session);
    assert!(end.len() == 1 && end[0].contains("KILL"), "{end:?}");
    session.handle_bytes(b":0\r\n", now)
}

/// Dials; returns the set-up.
fn dial(session: &mut Session, now: Monotonic) -> Vec<String> {
    session.handle_dialling(now);
    take_commands(session)
}

const MISSING: &[u8] = b"$-1\r\n";

fn answers(session: &mut Session) -> Vec<u64> {
    std::iter::from_fn(|| session.poll_answer()).map(|(id, _)| id.0).collect()
}

#[test]
fn greets_loads_and_is_up_when_all_of_it_is_answered() {
    let mut session = session();
    assert_eq!(session.dial_at(), Some(ms(0)));
    session.handle_dialling(ms(0));
    let commands = take_commands(&mut session);
    assert!(commands[0].contains("AUTH") && commands[0].contains("secret"));
    assert!(commands[1].contains("SELECT"));
    assert!(commands.iter().filter(|command| command.contains("SCRIPT")).count() > 3);
    set_up(&mut session, &commands, "", ms(1)).unwrap();
    assert!(session.is_up());
}

#[test]
fn a_refused_set_up_ends_the_connection_and_says_why() {
    let mut session = session();
    session.handle_dialling(ms(0));
    let error = session
        .handle_bytes(b"-WRONGPASS invalid username-password pair\r\n", ms(1))
        .unwrap_err()
        .to_string();
    assert!(error.contains("WRONGPASS"), "{error}");
    assert!(session.dial_at().is_some_and(|at| at > ms(1)));
}

#[test]
fn answers_go_to_their_calls_in_any_fragmentation() {
    let mut session = session();
    connect(&mut session, ms(0));
    for id in 1..=3 {
        session.submit(CallId(id), expire("a"), ms(1));
    }
    assert_eq!(take_commands(&mut session).len(), 3);
    for byte in MISSING.repeat(3) {
        session.handle_bytes(&[byte], ms(2)).unwrap();
    }
    assert_eq!(answers(&mut session), [1, 2, 3]);
}

#[test]
fn unanswered_calls_are_sent_again_in_their_order_with_what_came_meanwhile() {
    let mut session = session();
    connect(&mut session, ms(0));
    for (id, name) in [(1, "a"), (2, "b"), (3, "c")] {
        session.submit(CallId(id), expire(name), ms(1));
    }
    session.handle_bytes(&MISSING[..5], ms(2)).unwrap();
    assert_eq!(answers(&mut session), [1]);
    session.handle_bytes(&MISSING[..3], ms(2)).unwrap();
    session.handle_lost("reset", ms(3));
    session.submit(CallId(4), expire("d"), ms(4));
    let again = connect(&mut session, ms(20));
    let names: Vec<_> =
        again.iter().map(|command| ["{a}", "{b}", "{c}", "{d}"].map(|name| command.contains(name))).collect();
    assert_eq!(
        names,
        [[false, true, false, false], [false, false, true, false], [false, false, false, true]]
    );
    session.handle_bytes(&MISSING.repeat(3), ms(21)).unwrap();
    assert_eq!(answers(&mut session), [2, 3, 4]);
}

#[test]
fn the_connection_that_took_calls_is_ended_before_they_are_sent_again() {
    let mut session = session();
    connect(&mut session, ms(0));
    session.submit(CallId(1), expire("a"), ms(1));
    take_commands(&mut session);
    session.handle_lost("reset", ms(2));
    let list =
        |commands: &[String]| commands.iter().any(|command| command.contains("LIST\r\n$2\r\nID\r\n$1\r\n7"));
    let own = format!("id=7 name={}\n", session.set_up.name());
    let found = format!("${}\r\n{own}\r\n", own.len());
    // However many dials that takes: without an answer nobody knows whether it has ended.
    for at in [100, 1_000, 2_000] {
        let commands = dial(&mut session, ms(at));
        assert!(list(&commands), "{commands:?}");
        let replies = set_up_replies(&commands).replace(":7\r\n", ":9\r\n").replacen("$0\r\n\r\n", &found, 1);
        session.handle_bytes(replies.as_bytes(), ms(at)).unwrap();
        let end = take_commands(&mut session);
        assert!(end.len() == 1 && end[0].contains("KILL\r\n$2\r\nID\r\n$1\r\n7"), "{end:?}");
        if at < 2_000 {
            session.handle_lost("reset", ms(at));
        }
    }
    session.handle_bytes(b":1\r\n", ms(2_001)).unwrap();
    assert_eq!(take_commands(&mut session).len(), 1, "the call");
    session.handle_lost("reset", ms(2_002));
    let again = dial(&mut session, ms(9_000));
    assert!(
        again.iter().any(|command| command.contains("LIST\r\n$2\r\nID\r\n$1\r\n7\r\n$1\r\n9")),
        "{again:?}"
    );
}

#[test]
fn a_redis_that_ends_no_connection_is_not_used() {
    let mut session = session();
    let commands = dial(&mut session, ms(0));
    session.handle_bytes(set_up_replies(&commands).as_bytes(), ms(1)).unwrap();
    let error = session.handle_bytes(b"-NOPERM no\r\n", ms(1)).unwrap_err().to_string();
    assert!(error.contains("+client|kill"), "{error}");
    assert!(!session.is_up());
}

#[test]
fn a_redis_that_denies_a_right_is_not_used_and_that_is_told() {
    let mut session = session();
    session.submit(CallId(1), expire("a"), ms(0));
    let mut changes = session.condition_changes();
    let mut is_told =
        |session: &Session| std::mem::replace(&mut changes, session.condition_changes()) != changes;
    let commands = dial(&mut session, ms(0));
    let denied =
        set_up_replies(&commands).rsplit_once(ALL_RIGHT).unwrap().0.to_owned() + &bulk("denied HSET");
    let error = session.handle_bytes(denied.as_bytes(), ms(1)).unwrap_err().to_string();
    assert!(error.contains("+hset"), "{error}");
    assert_eq!(session.condition(), Some((Cause::Denied, error.as_str())));
    assert!(is_told(&session));
    // Allowed, used, and taken away: noticed by itself, and at once by a call that meets it.
    assert_eq!(connect(&mut session, ms(600)).len(), 1);
    assert!(is_told(&session) && session.condition().is_none());
    session.handle_bytes(MISSING, ms(601)).unwrap();
    session.handle_deadline(ms(600 + limits::FITNESS_CHECK_MS));
    session.handle_bytes(bulk("denied ZADD").as_bytes(), ms(1_101)).unwrap_err();
    assert_eq!(cause(&session), Some(Cause::Denied));
    connect(&mut session, ms(2_000));
    session.submit(CallId(2), expire("a"), ms(2_001));
    session.submit(CallId(3), expire("a"), ms(2_001));
    let error = "-ERR user_script:118: DENIED HSET script: 4833ab, on @user_script:118.\r\n";
    session.handle_bytes(error.as_bytes(), ms(2_002)).unwrap_err();
    assert_eq!(cause(&session), Some(Cause::Denied));
    assert_eq!(answers(&mut session), [1, 2]);
    // Those of a sale whose keys this user may not use are that sale's business.
    let again = connect(&mut session, ms(3_000));
    assert_eq!(again.len(), 1);
    let error = "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n";
    session.handle_bytes(error.as_bytes(), ms(3_001)).unwrap();
    assert!(session.is_up());
}

const REPLICA: &str = "*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:8\r\n";

#[test]
fn a_replica_is_not_used_and_is_told_what_it_is() {
    let mut session = session();
    let commands = dial(&mut session, ms(0));
    let at = commands.iter().position(|command| command.contains("ROLE")).expect("it is asked");
    let replies = set_up_replies(&commands[..at]) + REPLICA;
    let error = session.handle_bytes(replies.as_bytes(), ms(1)).unwrap_err().to_string();
    assert!(
        error.contains("is a replica of 10.0.0.1:6379") && cause(&session) == Some(Cause::Refusing),
        "{error}"
    );
    assert!(session.dial_at().is_some());
    connect(&mut session, ms(500));
}

/// A failover makes a replica of the Redis in use, and no connection needs to be lost by that.
#[test]
fn a_primary_of_sentinels_is_asked_again_whether_it_is_one() {
    let LedgerUrl::Redis(url) = "redis+sentinel://a,b,c/mymaster".parse().unwrap() else { unreachable!() };
    let mut session = Session::new(url, Durability::Ack, 7, ms(0));
    connect(&mut session, ms(0));
    session.submit(CallId(1), expire("a"), ms(400));
    take_commands(&mut session);
    session.handle_deadline(ms(500));
    let commands = take_commands(&mut session);
    assert!(commands.len() == 2 && commands[0].contains("ROLE"), "{commands:?}");
    session.handle_bytes(&[MISSING, set_up_replies(&commands).as_bytes()].concat(), ms(501)).unwrap();
    assert!(session.is_up() && answers(&mut session) == [1]);
    session.handle_deadline(ms(1_000));
    session.submit(CallId(2), expire("a"), ms(1_000));
    take_commands(&mut session);
    session.handle_bytes(REPLICA.as_bytes(), ms(1_001)).unwrap_err();
    assert!(session.condition().is_some_and(|(_, what)| what.contains("until its primary is named")));
    // Its call is not lost.
    let again = connect(&mut session, ms(1_500));
    assert_eq!(again.len(), 1);
}

/// What it waited for has happened elsewhere.
#[test]
fn a_redis_that_has_moved_is_dialled_without_a_pause() {
    let mut session = session();
    for round in 1..=8 {
        session.handle_dialling(ms(round * 1_000));
        session.handle_lost("refused", ms(round * 1_000));
    }
    assert!(session.dial_at().is_some_and(|at| at > ms(8_200)));
    session.hasten(ms(8_010));
    assert_eq!(session.dial_at(), Some(ms(8_010)));
    session.handle_dialling(ms(8_010));
    session.handle_lost("refused", ms(8_010));
    assert!(session.dial_at().is_some_and(|at| at <= ms(8_020)), "it begins anew with short pauses");
    session.handle_dialling(ms(8_020));
    session.hasten(ms(8_021));
    assert_eq!(session.dial_at(), None, "it is being dialled");
}

#[test]
fn a_redis_that_refuses_writes_is_used_and_that_is_told_as_long_as_it_lasts() {
    let mut session = session();
    connect(&mut session, ms(0));
    let check = |session: &mut Session, at: u64, reply: &str| {
        session.handle_deadline(ms(at));
        assert_eq!(take_commands(session).len(), 1, "one question");
        session.handle_bytes(bulk(reply).as_bytes(), ms(at)).unwrap();
        assert!(session.is_up());
    };
    check(&mut session, 500, "refused READONLY You can't write against a read only replica.");
    let (cause, what) = session.condition().unwrap();
    assert!(cause == Cause::Refusing && what.starts_with("READONLY"), "{what}");
    let told = session.condition_changes();
    check(&mut session, 1_000, "refused READONLY You can't write against a read only replica.");
    assert_eq!(session.condition_changes(), told, "nothing new");
    check(&mut session, 1_500, "");
    assert!(session.condition().is_none() && session.condition_changes() != told);
    // A call that is refused has the question asked at once.
    session.submit(CallId(1), expire("a"), ms(1_501));
    take_commands(&mut session);
    session.handle_bytes(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", ms(1_502)).unwrap();
    assert!(session.next_deadline().is_some_and(|at| at <= ms(1_502)));
    check(&mut session, 1_503, "refused OOM command not allowed when used memory > 'maxmemory'.");
    assert!(session.condition().is_some());
    // A BUSY one answers nothing else, either.
    session.handle_deadline(ms(2_100));
    session.handle_bytes(b"-BUSY Redis is busy running a script.\r\n", ms(2_101)).unwrap();
    assert!(session.condition().is_some_and(|(_, what)| what.starts_with("BUSY")));
    session.handle_lost("reset", ms(2_102));
    assert_eq!(super::tests::cause(&session), Some(Cause::Unreachable));
}

#[test]
fn scripts_that_were_flushed_are_loaded_before_rights_are_asked_for_again() {
    let mut session = session();
    connect(&mut session, ms(0));
    session.handle_deadline(ms(500));
    take_commands(&mut session);
    session.handle_bytes(b"-NOSCRIPT No matching script.\r\n", ms(501)).unwrap();
    let commands = take_commands(&mut session);
    let loads = commands.iter().filter(|command| command.contains("SCRIPT")).count();
    assert_eq!(commands.len(), loads + 1);
    session.handle_bytes(("+sha\r\n".repeat(loads) + ALL_RIGHT).as_bytes(), ms(502)).unwrap();
    assert!(session.is_up() && session.condition().is_none());
}

#[test]
fn what_advice_there_is_keeps_no_call_waiting() {
    let mut session = session();
    let commands = dial(&mut session, ms(0));
    let may_ask = set_up_replies(&commands).rsplit_once(ALL_RIGHT).unwrap().0.to_owned() + &bulk("may INFO");
    session.handle_bytes(may_ask.as_bytes(), ms(1)).unwrap();
    let asked = take_commands(&mut session);
    assert_eq!(asked.iter().filter(|command| command.contains("INFO")).count(), 3, "{asked:?}");
    session.handle_bytes(b":0\r\n", ms(2)).unwrap();
    assert!(session.is_up() && session.take_advice().is_none());
    session
        .handle_bytes((bulk("maxmemory_policy:allkeys-lru") + &bulk("") + &bulk("")).as_bytes(), ms(3))
        .unwrap();
    let advice = session.take_advice().unwrap();
    assert!(advice.len() == 1 && advice[0].contains("allkeys-lru"), "{advice:?}");
    assert!(session.take_advice().is_none());
}

/// Why calls are not carried out.
fn cause(session: &Session) -> Option<Cause> {
    session.condition().map(|(cause, _)| cause)
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[test]
fn a_refusal_of_a_call_that_was_sent_before_says_nothing_of_the_first_try() {
    let mut session = session();
    connect(&mut session, ms(0));
    session.submit(CallId(1), expire("a"), ms(1));
    session.handle_lost("reset", ms(2));
    session.submit(CallId(2), expire("b"), ms(3));
    connect(&mut session, ms(20));
    let refusal = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    session.handle_bytes(&refusal.repeat(2), ms(21)).unwrap();
    assert!(matches!(session.poll_answer(), Some((CallId(1), Err(CallError::Unknown(_))))));
    assert!(matches!(session.poll_answer(), Some((CallId(2), Err(CallError::Refused(_))))));
}

#[test]
fn on_a_new_connection_restores_go_before_what_is_sent_again() {
    let mut session = session();
    connect(&mut session, ms(0));
    session.submit(CallId(1), expire("a"), ms(1));
    take_commands(&mut session);
    session.handle_lost("reset", ms(2));
    let commands = dial(&mut session, ms(20));
    set_up(&mut session, &commands, "", ms(21)).unwrap();
    let restore = BookingOp::Restore(Vec::new()).on(SaleName::parse("b").unwrap(), Watermark::default());
    session.submit(CallId(2), expire("c"), ms(21));
    session.submit(CallId(3), restore, ms(21));
    let names = |commands: Vec<String>| -> Vec<usize> {
        commands
            .iter()
            .map(|text| ["{a}", "{b}", "{c}"].iter().position(|name| text.contains(name)).unwrap())
            .collect()
    };
    assert_eq!(names(take_commands(&mut session)), [1, 0, 2]);
    session.handle_bytes(&MISSING.repeat(3), ms(22)).unwrap();
    assert_eq!(answers(&mut session), [3, 1, 2]);
    // The order of another connection is its own.
    session.submit(CallId(4), expire("a"), ms(23));
    session.handle_lost("reset", ms(24));
    assert_eq!(names(connect(&mut session, ms(600))), [0]);
}

#[test]
fn what_is_withheld_of_a_call_that_was_sent_before_says_nothing_of_the_first_try() {
    let mut session = session();
    connect(&mut session, ms(0));
    let reserve =
        |name: &str| BookingOp::Reserve(Vec::new()).on(SaleName::parse(name).unwrap(), Watermark::default());
    session.submit(CallId(1), reserve("a"), ms(1));
    session.handle_lost("reset", ms(2));
    session.submit(CallId(2), reserve("b"), ms(3));
    connect(&mut session, ms(20));
    let text = "10,0,1,1,1,open,,,,,9,5,6,20,0,0,0,0,0\nwithheld";
    session.handle_bytes(format!("${}\r\n{text}\r\n", text.len()).repeat(2).as_bytes(), ms(21)).unwrap();
    assert!(matches!(session.poll_answer(), Some((CallId(1), Err(CallError::Unknown(_))))));
    assert!(matches!(session.poll_answer(), Some((CallId(2), Ok(Answer::Stale(_))))));
}

#[test]
fn flushed_scripts_are_loaded_once_and_the_calls_sent_again() {
    let mut session = session();
    connect(&mut session, ms(0));
    for id in 1..=2 {
        session.submit(CallId(id), expire("a"), ms(1));
    }
    take_commands(&mut session);
    session
        .handle_bytes(b"-NOSCRIPT No matching script.\r\n-NOSCRIPT No matching script.\r\n", ms(2))
        .unwrap();
    assert!(answers(&mut session).is_empty());
    let commands = take_commands(&mut session);
    let loads = commands.iter().filter(|command| command.contains("SCRIPT")).count();
    assert_eq!(commands.len(), loads + 2);
    session.handle_bytes("+sha\r\n".repeat(loads).as_bytes(), ms(3)).unwrap();
    session.handle_bytes(&MISSING.repeat(2), ms(3)).unwrap();
    assert_eq!(answers(&mut session), [1, 2]);
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_connection() {
    let mut session = session();
    connect(&mut session, ms(0));
    assert!(session.handle_bytes(b"+OK\r\n", ms(1)).is_err());
    assert!(!session.is_up());
}

#[test]
fn bytes_that_are_no_replies_end_the_connection() {
    let mut session = session();
    connect(&mut session, ms(0));
    session.submit(CallId(1), expire("a"), ms(1));
    assert!(session.handle_bytes(b"HTTP/1.1 400 Bad Request\r\n", ms(1)).is_err());
    assert!(session.dial_at().is_some());
}

#[test]
fn silence_is_given_up_only_while_something_is_awaited() {
    let mut session = session();
    connect(&mut session, ms(0));
    assert_eq!(session.next_deadline(), Some(ms(limits::FITNESS_CHECK_MS)), "nothing but the next question");
    // Which is awaited, too.
    assert!(!session.handle_deadline(ms(60_000)));
    assert_eq!(take_commands(&mut session).len(), 1);
    assert_eq!(session.next_deadline(), Some(ms(60_000 + limits::LEDGER_SILENCE_MS)));
    session.handle_bytes(ALL_RIGHT.as_bytes(), ms(60_001)).unwrap();
    session.submit(CallId(1), expire("a"), ms(60_001));
    assert!(!session.handle_deadline(ms(60_001 + limits::LEDGER_SILENCE_MS - 1)));
    assert!(session.handle_deadline(ms(60_001 + limits::LEDGER_SILENCE_MS)));
    assert!(session.dial_at().is_some());
}

#[test]
fn pauses_grow_to_their_cap_and_start_over_after_a_success() {
    let mut session = session();
    let mut now = Monotonic(0);
    let mut longest = 0;
    for _ in 0..20 {
        session.handle_dialling(now);
        session.handle_lost("refused", now);
        let at = session.dial_at().unwrap();
        let pause_ms = u64::try_from(at.since(now).as_millis()).unwrap();
        assert!(pause_ms <= limits::RECONNECT_MS_LAST);
        longest = longest.max(pause_ms);
        now = at;
    }
    assert!(longest >= limits::RECONNECT_MS_LAST / 2);
    connect(&mut session, now);
    session.handle_lost("reset", now);
    assert!(session.dial_at().unwrap() <= now.plus_ms(limits::RECONNECT_MS_FIRST));
}

const AOF: &str = "*6\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n\
                   $25\r\nno-appendfsync-on-rewrite\r\n$2\r\nno\r\n$0\r\n\r\n";

#[test]
fn a_call_waits_until_the_redis_is_found_fit() {
    let mut session = session_with(Durability::Aof);
    session.submit(CallId(1), expire("a"), ms(0));
    let commands = dial(&mut session, ms(0));
    session.submit(CallId(2), expire("b"), ms(0));
    let unfit =
        set_up(&mut session, &commands, &AOF.replace("always", "everys"), ms(1)).unwrap_err().to_string();
    assert!(unfit.contains("CONFIG SET appendfsync always"), "{unfit}");
    assert_eq!(cause(&session), Some(Cause::Durability));
    let commands = dial(&mut session, ms(500));
    set_up(&mut session, &commands, AOF, ms(501)).unwrap();
    assert!(session.is_up() && session.condition().is_none());
    assert_eq!(take_commands(&mut session).len(), 2);
}

#[test]
fn a_redis_that_becomes_unfit_while_it_is_used_is_lost() {
    let mut session = session_with(Durability::Aof);
    let commands = dial(&mut session, ms(0));
    set_up(&mut session, &commands, AOF, ms(0)).unwrap();
    assert_eq!(session.next_deadline(), Some(ms(limits::FITNESS_CHECK_MS)));
    assert!(!session.handle_deadline(ms(limits::FITNESS_CHECK_MS)));
    assert_eq!(take_commands(&mut session).len(), 3);
    session.handle_bytes((ALL_RIGHT.to_owned() + AOF).as_bytes(), ms(1_001)).unwrap();
    assert!(session.is_up());
    session.handle_deadline(ms(2_000));
    let off = ALL_RIGHT.to_owned() + &AOF.replace("yes", "off");
    assert!(session.handle_bytes(off.as_bytes(), ms(2_001)).is_err());
    assert_eq!(cause(&session), Some(Cause::Durability));
}

fn look_up(name: &str) -> Call {
    let id = crate::booking::BookingId::parse("b-1").unwrap();
    SaleOp::LookUp(vec![id]).on(SaleName::parse(name).unwrap())
}

const ONLINE: &str = "$37\r\nrole:master\r\nslave0:ip=1,state=online\r\n";
const FOUND: &[u8] = b"$7\r\nmissing\r\n";

fn connect_with_replicas(session: &mut Session, now: Monotonic) -> Vec<String> {
    let commands = dial(session, now);
    set_up(session, &commands, ONLINE, now).unwrap();
    assert!(session.is_up());
    take_commands(session)
}

#[test]
fn an_answer_is_held_until_enough_replicas_have_what_it_saw() {
    let mut session = session_with(Durability::Replicas(1));
    connect_with_replicas(&mut session, ms(0));
    for id in 1..=2 {
        session.submit(CallId(id), look_up("a"), ms(1));
    }
    session.submit(CallId(3), expire("a"), ms(1));
    let commands = take_commands(&mut session);
    assert_eq!(commands.len(), 5, "one write and one WAIT behind all that left together");
    assert!(commands[3].contains("SET") && commands[4].contains("WAIT"), "{commands:?}");
    session.handle_bytes(&FOUND.repeat(3), ms(2)).unwrap();
    session.handle_bytes(b"+OK\r\n", ms(2)).unwrap();
    assert!(answers(&mut session).is_empty(), "a host remembers what a sweep has told it of the sale");
    session.handle_bytes(b":1\r\n", ms(2)).unwrap();
    assert_eq!(answers(&mut session), [1, 2, 3]);
    // Nothing of a sale leaves, so nothing waits for a replica.
    session.submit(CallId(4), Call::Ledger(LedgerOp::Sales), ms(3));
    assert!(!take_commands(&mut session).iter().any(|command| command.contains("WAIT")));
}

/// The node of a Cluster gives the slot of the mark away, and has others.
#[test]
fn a_mark_whose_slot_moves_is_made_in_another_and_keeps_nobody_waiting() {
    let mut session = session_with(Durability::Replicas(1));
    let [one, other] = [7, 9].map(|number| Slot::new(number).unwrap());
    session.set_homes(Some((one, other)));
    connect_with_replicas(&mut session, ms(0));
    session.submit(CallId(1), expire("ticket"), ms(1));
    let mark_in = |session: &mut Session| {
        let commands = take_commands(session);
        let set =
            commands.iter().find(|command| command.contains("\r\nSET\r\n")).expect("there is a mark").clone();
        let tag = set.split('{').nth(1).and_then(|rest| rest.split('}').next()).unwrap().to_owned();
        Slot::of_tag(&tag)
    };
    assert_eq!(mark_in(&mut session), one);
    session.handle_bytes(b"$7\r\nmissing\r\n-ASK 7 127.0.0.1:7\r\n:0\r\n", ms(2)).unwrap();
    assert_eq!((session.poll_answer(), mark_in(&mut session)), (None, other));
    session.handle_bytes(b"+OK\r\n:1\r\n", ms(3)).unwrap();
    assert_eq!(session.poll_answer(), Some((CallId(1), Ok(Answer::Missing))));
    // That one as well, and then both at once: it is no node for that durability.
    session.submit(CallId(2), expire("ticket"), ms(4));
    assert_eq!(mark_in(&mut session), other);
    session.handle_bytes(b"$7\r\nmissing\r\n-MOVED 9 127.0.0.1:7\r\n:0\r\n", ms(5)).unwrap();
    assert_eq!(mark_in(&mut session), one);
    let ended = session.handle_bytes(b"-MOVED 7 127.0.0.1:7\r\n:0\r\n", ms(6)).unwrap_err();
    assert!(ended.to_string().contains("MOVED"), "{ended}");
}

#[test]
fn what_too_few_replicas_have_is_not_answered_and_sent_again() {
    let mut session = session_with(Durability::Replicas(1));
    connect_with_replicas(&mut session, ms(0));
    session.submit(CallId(1), look_up("a"), ms(1));
    take_commands(&mut session);
    session.handle_bytes(&[FOUND, b"+OK\r\n:0\r\n"].concat(), ms(900)).unwrap_err();
    assert!(answers(&mut session).is_empty());
    assert_eq!(cause(&session), Some(Cause::Durability));
    let again = connect_with_replicas(&mut session, ms(2_000));
    assert!(again.len() == 3 && again[2].contains("WAIT"), "{again:?}");
    session.handle_bytes(&[FOUND, b"+OK\r\n:1\r\n"].concat(), ms(2_001)).unwrap();
    assert_eq!(answers(&mut session), [1]);
}

#[test]
fn a_call_sent_again_for_want_of_its_script_has_a_wait_of_its_own() {
    let mut session = session_with(Durability::Replicas(1));
    connect_with_replicas(&mut session, ms(0));
    session.submit(CallId(1), look_up("a"), ms(1));
    take_commands(&mut session);
    session.handle_bytes(b"-NOSCRIPT No matching script.\r\n+OK\r\n:1\r\n", ms(2)).unwrap();
    assert!(answers(&mut session).is_empty());
    let commands = take_commands(&mut session);
    assert!(commands.last().unwrap().contains("WAIT"));
    session.handle_bytes("+sha\r\n".repeat(commands.len() - 3).as_bytes(), ms(3)).unwrap();
    session.handle_bytes(FOUND, ms(3)).unwrap();
    assert!(answers(&mut session).is_empty());
    session.handle_bytes(b"+OK\r\n:1\r\n", ms(3)).unwrap();
    assert_eq!(answers(&mut session), [1]);
}

#[test]
fn a_command_is_asked_for_a_right_when_it_needs_it_and_for_nothing_else() {
    let LedgerUrl::Redis(url) = "redis://h".parse().unwrap() else { unreachable!() };
    let mut session = Session::of_command(url, 7, ms(0));
    let commands = dial(&mut session, ms(0));
    assert!(!commands.iter().any(|command| command.contains("\r\nbx:sales\r\n")), "{commands:?}");
    set_up(&mut session, &commands, "", ms(1)).unwrap();
    assert!(session.is_up());
    session.ask_right(Need::Trim);
    assert_eq!(take_commands(&mut session).len(), 1);
    session.handle_bytes(bulk("denied XTRIM").as_bytes(), ms(2)).unwrap();
    let denied = session.poll_verdict().unwrap().unwrap_err();
    assert!(denied.contains("+xtrim") && !session.is_allowed(Need::Trim), "{denied}");
    session.ask_right(Need::Change);
    session.handle_bytes(ALL_RIGHT.as_bytes(), ms(3)).unwrap();
    assert_eq!(session.poll_verdict(), Some(Ok(())));
    assert!(session.is_allowed(Need::Change) && session.poll_verdict().is_none());
    // A call that is denied something is that call's business.
    session.submit(CallId(1), expire("a"), ms(4));
    session
        .handle_bytes(b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n", ms(5))
        .unwrap();
    assert_eq!(answers(&mut session), [1]);
    // Another connection may be another user's.
    session.handle_lost("reset", ms(6));
    assert!(!session.is_allowed(Need::Change));
    session.submit(CallId(2), expire("a"), ms(7));
    session.abandon_calls();
    assert!(session.is_up() || connect(&mut session, ms(20)).is_empty());
}

#[test]
fn scripts_that_are_flushed_as_fast_as_a_command_loads_them_are_told() {
    let LedgerUrl::Redis(url) = "redis://h".parse().unwrap() else { unreachable!() };
    let mut session = Session::of_command(url, 7, ms(0));
    let noscript = b"-NOSCRIPT No matching script.\r\n";
    connect(&mut session, ms(0));
    let loaded = |session: &mut Session| {
        let loads = take_commands(session).iter().filter(|command| command.contains("SCRIPT")).count();
        session.handle_bytes("+sha\r\n".repeat(loads).as_bytes(), ms(2)).unwrap();
        loads > 0
    };
    for id in 1..=2 {
        session.submit(CallId(id), expire("a"), ms(1));
    }
    take_commands(&mut session);
    session.handle_bytes(&noscript.repeat(2), ms(2)).unwrap();
    assert!(loaded(&mut session));
    session.handle_bytes(&noscript.repeat(2), ms(3)).unwrap();
    assert!(!loaded(&mut session));
    for _ in 1..=2 {
        let (_, answer) = session.poll_answer().unwrap();
        assert!(matches!(&answer, Err(CallError::Refused(why)) if why.contains("forgets")), "{answer:?}");
    }
    session.ask_right(Need::Remove);
    session.handle_bytes(noscript, ms(4)).unwrap();
    assert!(session.poll_verdict().unwrap().unwrap_err().contains("forgets"));
}
