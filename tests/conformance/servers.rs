//! What can happen to a Redis.

use std::time::{Duration, Instant};

use boxoffice::booking::*;
use boxoffice::ledger::Ledger;
use boxoffice::ledger::redis::{ConnectError, RedisLedger};
use boxoffice::ledger::url::{LedgerUrl, RedisUrl};
use boxoffice::protocol::*;

use crate::subjects::{RedisSubject, START, Subject, connect};
use crate::support::redis_server::RedisServer;
use crate::words::*;

fn url(text: &str) -> RedisUrl {
    match text.parse().unwrap() {
        LedgerUrl::Redis(url) => url,
        LedgerUrl::Sqlite(_) => panic!("{text} is no Redis"),
    }
}

#[test]
fn a_restart_from_the_append_only_file_resumes_where_it_stopped() {
    let mut ledger = RedisSubject::with_options(&["--appendonly", "yes", "--appendfsync", "always"]);
    ledger.ask(open(2));
    ledger.ask(reserve_ids(&["a"]));
    ledger.server.restart();
    assert!(matches!(reservations(ledger.ask(reserve_ids(&["a"])))[..], [Reservation::Known(_)]));
    assert_eq!(reservations(ledger.ask(reserve_ids(&["b", "c"]))), [GRANTED, Reservation::SoldOut]);
    let entries = log_entries(ledger.ask(log_after(0)));
    assert_eq!(entries.len(), 2);
}

#[test]
fn scripts_that_redis_forgot_are_loaded_again() {
    let mut ledger = RedisSubject::new();
    ledger.ask(open(3));
    ledger.disturb();
    let answers =
        ledger.execute(&[reserve_ids(&["a"]), Call::Ledger(LedgerOp::Sales), look_up(&["a"]), open(9)]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(state(ledger.ask(snapshot())).sold, 1);
}

#[test]
fn a_redis_that_is_not_there_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nobody.sock");
    let error = RedisLedger::connect(&url(&format!("redis+unix://{}", path.display()))).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{text}");
    assert!(text.contains("cannot reach Redis at") && text.contains("nobody.sock"), "{text}");
    assert!(text.contains("redis-server --appendonly yes --appendfsync always"), "{text}");
}

#[test]
fn a_redis_that_goes_away_leaves_the_outcome_unknown_and_is_found_again() {
    let mut ledger = RedisSubject::with_options(&["--appendonly", "yes", "--appendfsync", "always"]);
    ledger.ask(open(3));
    ledger.server.kill();
    let answers = ledger.execute(&[reserve_ids(&["a"]), snapshot()]);
    assert!(matches!(answers[..], [Err(CallError::Unknown(_)), Err(CallError::Unknown(_))]), "{answers:?}");
    ledger.server.restart();
    assert_eq!(reservations(ledger.ask(reserve_ids(&["a"]))), [GRANTED]);
}

#[test]
fn a_redis_that_hangs_is_not_waited_for_forever() {
    let server = RedisServer::on_socket(&[]);
    let mut ledger = RedisLedger::connect_with_timeout(&url(&server.url()), Duration::from_secs(2)).unwrap();
    redis::cmd("CLIENT").arg("PAUSE").arg(600_000).exec(&mut server.connection()).unwrap();
    let started = Instant::now();
    let answer = ledger.execute(&[Call::Ledger(LedgerOp::Sales)]).remove(0);
    assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// Carried out unheard it would be refused the second time, for the version that it made itself.
#[test]
fn a_change_of_one_version_is_not_sent_twice() {
    let mut ledger = RedisSubject::new();
    ledger.ask(open(5));
    let to =
        |total, if_version| alter(SaleChange { total: Some(total), if_version, ..SaleChange::default() });
    for (call, is_sent_again) in [(to(6, None), true), (to(7, Some(2)), false)] {
        let mut connection = ledger.server.connection();
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut connection).unwrap();
        let answer = ledger.execute(&[call]).remove(0);
        assert_eq!(
            matches!(answer, Ok(Answer::Sale { result: SaleResult::Done, .. })),
            is_sent_again,
            "{answer:?}"
        );
        assert!(is_sent_again || matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
    }
    assert_eq!(state(ledger.ask(to(7, Some(2)))).version, 3, "whoever asked decides");
}

#[test]
fn a_password_is_asked_for_and_taken() {
    let server = RedisServer::on_socket(&["--requirepass", "open sesame"]);
    let socket = server.socket();
    let error = RedisLedger::connect(&url(&server.url())).unwrap_err();
    assert!(matches!(&error, ConnectError::Refused { cause, .. } if cause.starts_with("NOAUTH")), "{error}");
    let right = url(&format!("redis+unix://:open%20sesame@{}?db=3", socket.display()));
    let mut ledger = RedisLedger::connect(&right).unwrap();
    assert_eq!(
        ledger.execute(&[Call::Ledger(LedgerOp::Sales)]),
        [Ok(Answer::Ledger(LedgerResult::Sales { names: vec![], odd: vec![] }))]
    );
    assert!(!format!("{ledger:?}").contains("sesame"));
}

/// Breaks one key of a sale and says what the calls then answer.
fn broken(key: &str, command: &[&str]) -> Vec<Result<Answer, CallError>> {
    let mut ledger = RedisSubject::new();
    ledger.ask(open_on(SaleTerms {
        total: 5,
        hold_ms: Some(60_000),
        per_buyer: Some(5),
        ..SaleTerms::default()
    }));
    ledger.ask(reserve([claim("a", 1, Some("u"))]));
    let mut connection = ledger.server.connection();
    let key = format!("bx:{{ticket}}:{key}");
    if command[0] != "HSET" {
        redis::cmd("DEL").arg(&key).exec(&mut connection).unwrap();
    }
    redis::cmd(command[0]).arg(&key).arg(&command[1..]).exec(&mut connection).unwrap();
    let before = redis::cmd("HGETALL").arg("bx:{ticket}:stock").query::<Vec<String>>(&mut connection).ok();
    let page = SaleOp::Page { cursor: String::new() }.on(sale());
    let calls = [
        snapshot(),
        reserve([claim("b", 1, Some("u"))]),
        look_up(&["a"]),
        confirm(&["a"]),
        page,
        log_after(0),
        expire(),
        trim(),
    ];
    let answers = calls.map(|call| ledger.execute(&[call]).remove(0));
    if answers.iter().skip(1).all(Result::is_err) {
        let after = redis::cmd("HGETALL").arg("bx:{ticket}:stock").query::<Vec<String>>(&mut connection).ok();
        assert_eq!(before, after, "a script that fails changes nothing");
    }
    answers.into()
}

#[test]
fn keys_of_another_type_or_content_are_told_and_never_panic() {
    for (key, command, fails) in [
        ("stock", &["SET", "x"][..], 7),
        ("stock", &["HSET", "total", "many"], 7),
        ("stock", &["HSET", "status", "ajar"], 7),
        ("bookings", &["SET", "x"], 4),
        ("bookings", &["HSET", "a", "??"], 3),
        ("bookings", &["HSET", "a", "h1@99999999999999999999999:u"], 1),
        ("bookings", &["HSET", "a b\n", "c1"], 1),
        ("holds", &["SET", "x"], 3),
        ("buyers", &["SET", "x"], 1),
        ("log", &["SET", "x"], 3),
    ] {
        let answers = broken(key, command);
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failed.len() >= fails, "{key} {command:?}: {answers:#?}");
        assert!(
            failed.iter().all(|error| !matches!(error, CallError::Unknown(_))),
            "{key} {command:?}: {failed:?}"
        );
    }
}

#[test]
fn a_full_redis_refuses_and_nothing_is_half_done() {
    let mut ledger = RedisSubject::new();
    ledger.ask(open(5));
    let mut connection = ledger.server.connection();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut connection).unwrap();
    let refusal = ledger.execute(&[reserve_ids(&["a"])]).remove(0).unwrap_err();
    assert!(matches!(&refusal, CallError::Refused(text) if text.starts_with("OOM")), "{refusal}");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(&mut connection).unwrap();
    assert_eq!(state(ledger.ask(snapshot())).sequence, 0);
    assert_eq!(log_entries(ledger.ask(log_after(0))), []);
    assert_eq!(reservations(ledger.ask(reserve_ids(&["a"]))), [GRANTED]);
}

#[test]
fn a_name_whose_sale_is_not_there_is_mended_by_an_operator() {
    let mut ledger = RedisSubject::new();
    redis::cmd("SADD").arg("bx:sales").arg("ticket").exec(&mut ledger.server.connection()).unwrap();
    assert_eq!(
        ledger.ask(Call::Ledger(LedgerOp::Sales)),
        Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: vec![] })
    );
    assert_eq!(ledger.ask(snapshot()), Answer::Missing);
    assert!(matches!(ledger.ask(open(1)), Answer::Sale { result: SaleResult::Created, .. }));
}

#[test]
fn keys_are_those_that_consumers_rely_on() {
    let mut ledger = RedisSubject::new();
    ledger.ask(open_on(SaleTerms {
        total: 5,
        hold_ms: Some(60_000),
        per_buyer: Some(5),
        ..SaleTerms::default()
    }));
    ledger.ask(reserve([claim("0198c0de-0a20-7000-8000-00000000000a", 2, Some("u-81"))]));
    let mut connection = ledger.server.connection();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    keys.sort();
    let expected = [
        "bx:changes",
        "bx:feed",
        "bx:sales",
        "bx:{ticket}:bookings",
        "bx:{ticket}:buyers",
        "bx:{ticket}:due",
        "bx:{ticket}:holds",
        "bx:{ticket}:log",
        "bx:{ticket}:stock",
    ];
    assert_eq!(keys, expected);
    type Entry = (String, Vec<String>);
    let entries: Vec<Entry> =
        redis::cmd("XRANGE").arg("bx:{ticket}:log").arg("-").arg("+").query(&mut connection).unwrap();
    let (entry, fields) = &entries[0];
    assert!(entry.ends_with("-1"), "{entry}");
    let expires_at = &fields[9];
    assert_eq!(
        fields[..],
        [
            "booking",
            "0198c0de-0a20-7000-8000-00000000000a",
            "status",
            "held",
            "quantity",
            "2",
            "buyer",
            "u-81",
            "expires_at",
            expires_at
        ]
    );
}

#[test]
fn what_nobody_holds_any_more_leaves_nothing_but_its_record() {
    let mut ledger = RedisSubject::new();
    let terms = SaleTerms { total: 5, hold_ms: Some(500), per_buyer: Some(5), ..SaleTerms::default() };
    ledger.ask(open_on(terms));
    // The buyers of one bucket, and one of another.
    ledger.ask(reserve([
        claim("a", 1, Some("u-81")),
        claim("b", 2, Some("mm0")),
        claim("c", 1, Some("u.82")),
    ]));
    ledger.ask(cancel(&["b"]));
    let mut connection = ledger.server.connection();
    let mut buyers = || {
        let mut of_buckets: Vec<String> =
            redis::cmd("HVALS").arg("bx:{ticket}:buyers").query(&mut connection).unwrap();
        of_buckets.sort();
        of_buckets
    };
    // No confirmed tickets, and a hold each.
    assert_eq!(buyers(), [" u-81=0yLQdCFs", " u.82=0yLQdCFs"]);
    ledger.set_time(START + 500);
    ledger.ask(expire());
    assert_eq!(buyers(), [""; 0]);
    let left = ["bx:{ticket}:holds", "bx:{ticket}:due"];
    let left: u64 = redis::cmd("EXISTS").arg(&left).query(&mut connection).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_sale_without_holds_logs_no_deadlines() {
    let mut ledger = RedisSubject::new();
    ledger.ask(open(5));
    ledger.ask(reserve([claim("a", 1, None)]));
    type Entry = (String, Vec<String>);
    let entries: Vec<Entry> = redis::cmd("XRANGE")
        .arg("bx:{ticket}:log")
        .arg("-")
        .arg("+")
        .query(&mut ledger.server.connection())
        .unwrap();
    assert_eq!(entries[0].1, ["booking", "a", "status", "confirmed", "quantity", "1", "buyer", ""]);
}

#[test]
fn two_hosts_share_one_stock() {
    let server = RedisServer::on_socket(&[]);
    let (mut one, mut other) = (connect(&server), connect(&server));
    one.execute(&[open(1)]);
    assert_eq!(reservations(one.execute(&[reserve_ids(&["a"])]).remove(0).unwrap()), [GRANTED]);
    assert_eq!(
        reservations(other.execute(&[reserve_ids(&["b"])]).remove(0).unwrap()),
        [Reservation::SoldOut]
    );
    assert!(matches!(
        reservations(other.execute(&[reserve_ids(&["a"])]).remove(0).unwrap())[..],
        [Reservation::Known(_)]
    ));
}
