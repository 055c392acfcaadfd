//! A session against a Redis played by hand.

use super::*;
use crate::booking::{SaleName, Seen};
use crate::ledger::url::RedisAddress;

fn session() -> Session {
    session_with(Durability::Ack)
}

fn session_with(durability: Durability) -> Session {
    let address = RedisAddress::Unix("/nowhere".into());
    let url = RedisUrl { address, user: None, password: Some("secret".to_owned()), database: 3 };
    Session::new(url, durability, 7, Monotonic(0))
}

fn ms(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn expire(name: &str) -> Call {
    Call::Expire { sale: SaleName::parse(name).unwrap() }
}

/// Takes what the session writes, and counts the commands in it.
fn take_commands(session: &mut Session) -> Vec<String> {
    let bytes = session.output().to_vec();
    session.handle_written(bytes.len());
    let mut commands = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = codec::frames_length(1, rest).unwrap().expect("whole commands");
        commands.push(String::from_utf8_lossy(&rest[..length]).into_owned());
        rest = &rest[length..];
    }
    commands
}

/// Dials and answers the set-up; returns what was written behind it.
fn connect(session: &mut Session, now: Monotonic) -> Vec<String> {
    let commands = dial(session, now);
    set_up(session, &commands, "", now).unwrap();
    assert!(session.is_up());
    take_commands(session)
}

/// Answers these commands of a set-up, those about the fitness with that, and what is written on these answers.
fn set_up(session: &mut Session, commands: &[String], fitness: &str, now: Monotonic) -> Result<(), String> {
    session.handle_bytes((set_up_replies(commands) + fitness).as_bytes(), now)?;
    assert!(!session.is_up());
    let end = take_commands(session);
    assert!(end.len() == 1 && end[0].contains("KILL"), "{end:?}");
    session.handle_bytes(b":0\r\n", now)
}

fn set_up_replies(commands: &[String]) -> String {
    let kinds = ["\r\n$2\r\nID\r\n$", "\r\n$2\r\nID\r\n", "\r\nCONFIG\r\n", "\r\nINFO\r\n"];
    let reply = |command: &String| match kinds.iter().position(|words| command.contains(words)) {
        None => "+OK\r\n",
        Some(0) => "$0\r\n\r\n",
        Some(1) => ":7\r\n",
        Some(_) => "",
    };
    commands.iter().map(reply).collect()
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
    let error = session.handle_bytes(b"-WRONGPASS invalid username-password pair\r\n", ms(1)).unwrap_err();
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
    let own = format!("id=7 name={}\n", session.fence.name());
    let found = format!("${}\r\n{own}\r\n", own.len());
    // However many dials that takes: without an answer nobody knows whether it has ended.
    for at in [100, 1_000, 2_000] {
        let commands = dial(&mut session, ms(at));
        assert!(list(&commands), "{commands:?}");
        let replies = set_up_replies(&commands).replace(":7\r\n", ":9\r\n").replace("$0\r\n\r\n", &found);
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
    assert!(!list(&dial(&mut session, ms(9_000))));
}

#[test]
fn a_redis_that_ends_no_connection_is_not_used() {
    let mut session = session();
    let commands = dial(&mut session, ms(0));
    session.handle_bytes(set_up_replies(&commands).as_bytes(), ms(1)).unwrap();
    let error = session.handle_bytes(b"-NOPERM no\r\n", ms(1)).unwrap_err();
    assert!(error.contains("+client|kill"), "{error}");
    assert!(!session.is_up());
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
    let restore =
        Call::Restore { sale: SaleName::parse("b").unwrap(), seen: Seen::default(), bookings: Vec::new() };
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
    let reserve = |name: &str| Call::Reserve {
        sale: SaleName::parse(name).unwrap(),
        seen: Seen::default(),
        claims: Vec::new(),
    };
    session.submit(CallId(1), reserve("a"), ms(1));
    session.handle_lost("reset", ms(2));
    session.submit(CallId(2), reserve("b"), ms(3));
    connect(&mut session, ms(20));
    let text = "10,0,1,1,1,open,,,,,9,5,6,20,0,0,0,0,0\nwithheld";
    session.handle_bytes(format!("${}\r\n{text}\r\n", text.len()).repeat(2).as_bytes(), ms(21)).unwrap();
    assert!(matches!(session.poll_answer(), Some((CallId(1), Err(CallError::Unknown(_))))));
    assert!(matches!(session.poll_answer(), Some((CallId(2), Ok(Answer::Withheld { .. })))));
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
    assert_eq!(session.next_deadline(), None);
    assert!(!session.handle_deadline(ms(60_000)));
    session.submit(CallId(1), expire("a"), ms(60_000));
    assert!(!session.handle_deadline(ms(60_000 + limits::LEDGER_SILENCE_MS - 1)));
    assert!(session.handle_deadline(ms(60_000 + limits::LEDGER_SILENCE_MS)));
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
    let unfit = set_up(&mut session, &commands, &AOF.replace("always", "everys"), ms(1)).unwrap_err();
    assert!(unfit.contains("CONFIG SET appendfsync always") && session.is_unfit(), "{unfit}");
    let commands = dial(&mut session, ms(500));
    set_up(&mut session, &commands, AOF, ms(501)).unwrap();
    assert!(session.is_up() && !session.is_unfit());
    assert_eq!(take_commands(&mut session).len(), 2);
}

#[test]
fn a_redis_that_becomes_unfit_while_it_is_used_is_lost() {
    let mut session = session_with(Durability::Aof);
    let commands = dial(&mut session, ms(0));
    set_up(&mut session, &commands, AOF, ms(0)).unwrap();
    assert_eq!(session.next_deadline(), Some(ms(limits::FITNESS_CHECK_MS)));
    assert!(!session.handle_deadline(ms(limits::FITNESS_CHECK_MS)));
    assert_eq!(take_commands(&mut session).len(), 2);
    session.handle_bytes(AOF.as_bytes(), ms(1_001)).unwrap();
    assert!(session.is_up());
    session.handle_deadline(ms(2_000));
    assert!(session.handle_bytes(AOF.replace("yes", "off").as_bytes(), ms(2_001)).is_err());
    assert!(session.is_unfit() && !session.is_up());
}

fn look_up(name: &str) -> Call {
    let id = crate::booking::BookingId::parse("b-1").unwrap();
    Call::LookUp { sale: SaleName::parse(name).unwrap(), ids: vec![id] }
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
    session.handle_bytes(&FOUND.repeat(2), ms(2)).unwrap();
    session.handle_bytes(MISSING, ms(2)).unwrap();
    assert_eq!(answers(&mut session), [3], "no client is told anything by a sweep");
    session.handle_bytes(b"+OK\r\n", ms(2)).unwrap();
    assert!(answers(&mut session).is_empty());
    session.handle_bytes(b":1\r\n", ms(2)).unwrap();
    assert_eq!(answers(&mut session), [1, 2]);
    // Nothing that needs a replica leaves, so nothing waits for one.
    session.submit(CallId(4), expire("a"), ms(3));
    assert_eq!(take_commands(&mut session).len(), 1);
}

#[test]
fn what_too_few_replicas_have_is_not_answered_and_sent_again() {
    let mut session = session_with(Durability::Replicas(1));
    connect_with_replicas(&mut session, ms(0));
    session.submit(CallId(1), look_up("a"), ms(1));
    take_commands(&mut session);
    session.handle_bytes(&[FOUND, b"+OK\r\n:0\r\n"].concat(), ms(900)).unwrap_err();
    assert!(answers(&mut session).is_empty() && session.is_unfit());
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
