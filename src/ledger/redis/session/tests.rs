//! A session against a Redis played by hand.

use super::*;
use crate::booking::SaleName;
use crate::ledger::url::RedisAddress;

fn session() -> Session {
    let address = RedisAddress::Unix("/nowhere".into());
    let url = RedisUrl { address, user: None, password: Some("secret".to_owned()), database: 3 };
    Session::new(url, 7, Monotonic(0))
}

fn ms(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn snapshot(name: &str) -> Call {
    Call::Snapshot { sale: SaleName::parse(name).unwrap() }
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
    session.handle_dialling(now);
    let commands = take_commands(session);
    let calls = commands.iter().position(|command| command.contains("EVALSHA")).unwrap_or(commands.len());
    session.handle_bytes("+OK\r\n".repeat(calls).as_bytes(), now).unwrap();
    assert!(session.is_up());
    commands[calls..].to_vec()
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
    for _ in &commands {
        assert!(!session.is_up());
        session.handle_bytes(b"+OK\r\n", ms(1)).unwrap();
    }
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
        session.submit(CallId(id), snapshot("a"), ms(1));
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
        session.submit(CallId(id), snapshot(name), ms(1));
    }
    session.handle_bytes(&MISSING[..5], ms(2)).unwrap();
    assert_eq!(answers(&mut session), [1]);
    session.handle_bytes(&MISSING[..3], ms(2)).unwrap();
    session.handle_lost("reset", ms(3));
    session.submit(CallId(4), snapshot("d"), ms(4));
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
fn a_refusal_of_a_call_that_was_sent_before_says_nothing_of_the_first_try() {
    let mut session = session();
    connect(&mut session, ms(0));
    session.submit(CallId(1), snapshot("a"), ms(1));
    session.handle_lost("reset", ms(2));
    session.submit(CallId(2), snapshot("b"), ms(3));
    connect(&mut session, ms(20));
    let refusal = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    session.handle_bytes(&refusal.repeat(2), ms(21)).unwrap();
    assert!(matches!(session.poll_answer(), Some((CallId(1), Err(CallError::Unknown(_))))));
    assert!(matches!(session.poll_answer(), Some((CallId(2), Err(CallError::Refused(_))))));
}

#[test]
fn flushed_scripts_are_loaded_once_and_the_calls_sent_again() {
    let mut session = session();
    connect(&mut session, ms(0));
    for id in 1..=2 {
        session.submit(CallId(id), snapshot("a"), ms(1));
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
    session.submit(CallId(1), snapshot("a"), ms(1));
    assert!(session.handle_bytes(b"HTTP/1.1 400 Bad Request\r\n", ms(1)).is_err());
    assert!(session.dial_at().is_some());
}

#[test]
fn silence_is_given_up_only_while_something_is_awaited() {
    let mut session = session();
    connect(&mut session, ms(0));
    assert_eq!(session.next_deadline(), None);
    assert!(!session.handle_deadline(ms(60_000)));
    session.submit(CallId(1), snapshot("a"), ms(60_000));
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
