//! What a ledger knows of its hosts. Redis keeps it for all of them; a SQLite file has one host, and tells it of itself.

use std::time::{Duration, Instant};

use boxoffice::limits::{HOST_FORGOTTEN_MS, HOST_GONE_MS};
use boxoffice::protocol::*;

use crate::subjects::{RedisSubject, SqliteSubject, Subject};

const KEY: &str = "bx:hosts";

fn report(address: &str, weight: u32) -> HostReport {
    let figures = HostFigures { permits: Some(7), bookings_per_second: 3, ..HostFigures::default() };
    HostReport { address: address.to_owned(), weight, version: "9.9.9".to_owned(), started_at_ms: 5, figures }
}

fn beat(id: u128, report: Option<HostReport>) -> Call {
    Call::Ledger(LedgerOp::Beat { host: HostId(id), report: report.map(Box::new), forgets: false })
}

/// The same, after which those to be forgotten are.
fn tidying(id: u128) -> Call {
    let report = Some(Box::new(report("t:1", 1)));
    Call::Ledger(LedgerOp::Beat { host: HostId(id), report, forgets: true })
}

fn is_untidy(answer: &Answer) -> bool {
    matches!(answer, Answer::Ledger(LedgerResult::Hosts { is_untidy: true, .. }))
}

fn hosts(answer: Answer) -> Vec<HostBeat> {
    let Answer::Ledger(LedgerResult::Hosts { mut hosts, .. }) = answer else { panic!("{answer:?}") };
    hosts.sort_by_key(|host| host.id);
    hosts
}

fn ids(answer: Answer) -> Vec<u128> {
    hosts(answer).iter().map(|host| host.id.0).collect()
}

/// How many ms the clock of Redis is ahead, and its time.
fn now_of(ledger: &RedisSubject) -> u64 {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut ledger.server.connection()).unwrap();
    seconds * 1_000 + micros / 1_000
}

fn write(ledger: &RedisSubject, field: &str, value: &str) {
    redis::cmd("HSET").arg(KEY).arg(field).arg(value).exec(&mut ledger.server.connection()).unwrap();
}

fn fields(ledger: &RedisSubject) -> Vec<String> {
    let mut fields: Vec<String> =
        redis::cmd("HKEYS").arg(KEY).query(&mut ledger.server.connection()).unwrap();
    fields.sort();
    fields
}

#[test]
fn each_hears_of_all_that_have_said_so() {
    let mut ledger = RedisSubject::new();
    assert_eq!(ids(ledger.ask(Call::Ledger(LedgerOp::Hosts))), []);
    let first = hosts(ledger.ask(beat(2, Some(report("b:1", 4)))));
    assert_eq!(first, [HostBeat { id: HostId(2), age_ms: 0, report: report("b:1", 4) }]);
    ledger.disturb();
    assert_eq!(ids(ledger.ask(beat(1, Some(report("a:1", 1))))), [1, 2]);
    // Again is not twice.
    assert_eq!(ids(ledger.ask(beat(1, Some(report("a:1", 1))))), [1, 2]);
    assert_eq!(ids(ledger.ask(beat(2, None))), [1]);
    assert_eq!(ids(ledger.ask(Call::Ledger(LedgerOp::Hosts))), [1]);
    assert!(hosts(ledger.ask(Call::Ledger(LedgerOp::Hosts))).iter().all(HostBeat::is_live));
}

#[test]
fn one_that_is_silent_is_told_as_gone_and_forgotten_later() {
    let mut ledger = RedisSubject::new();
    let told = serde_json::to_string(&report("a:1", 1)).unwrap();
    let at = |ago: u64| format!("{} {told}", now_of(&ledger) - ago);
    for (id, ago) in [(1, 100), (2, HOST_GONE_MS + 100), (3, HOST_FORGOTTEN_MS + 1)] {
        write(&ledger, &HostId(id).to_string(), &at(ago));
    }
    let told = ledger.ask(Call::Ledger(LedgerOp::Hosts));
    assert!(is_untidy(&told));
    let seen: Vec<(u128, bool)> = hosts(told).iter().map(|host| (host.id.0, host.is_live())).collect();
    assert_eq!(seen, [(1, true), (2, false)]);
    assert_eq!(ids(ledger.ask(beat(4, Some(report("d:1", 1))))), [1, 2, 4]);
    assert_eq!(fields(&ledger).len(), 4, "nobody has said that it is to be forgotten");
    assert_eq!(ids(ledger.ask(tidying(4))), [1, 2, 4]);
    assert_eq!(fields(&ledger).len(), 3);
    assert!(!is_untidy(&ledger.ask(Call::Ledger(LedgerOp::Hosts))));
}

/// A failover to a Redis whose clock is behind: a host that died before it must not seem to live until that clock has come by.
#[test]
fn a_time_that_is_yet_to_come_counts_from_now_on() {
    let mut ledger = RedisSubject::new();
    let told = serde_json::to_string(&report("a:1", 1)).unwrap();
    write(&ledger, &HostId(1).to_string(), &format!("{} {told}", now_of(&ledger) + 3_600_000));
    let told = ledger.ask(beat(2, Some(report("b:1", 1))));
    assert!(is_untidy(&told));
    let seen: Vec<(u128, u64)> = hosts(told).iter().map(|host| (host.id.0, host.age_ms)).collect();
    assert_eq!(seen, [(1, 0), (2, 0)]);
    ledger.ask(tidying(2));
    let until = Instant::now() + Duration::from_secs(60);
    while hosts(ledger.ask(beat(2, Some(report("b:1", 1)))))
        .iter()
        .any(|host| host.id.0 == 1 && host.is_live())
    {
        assert!(Instant::now() < until, "it lives for an hour");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_somebody_else_put_there_is_left_alone_and_told_to_nobody() {
    let mut ledger = RedisSubject::new();
    let now = now_of(&ledger);
    let told = serde_json::to_string(&report("a:1", 1)).unwrap();
    let odd = [
        ("readme".to_owned(), format!("{now} {told}")),
        (HostId(1).to_string(), "gone".to_owned()),
        (HostId(2).to_string(), format!("x\n{now} {told}")),
        (HostId(3).to_string(), format!("{now} {{\"weight\":1}}")),
        (HostId(4).to_string(), format!("{now} {}", told.replace("\"weight\":1", "\"weight\":0"))),
        (HostId(5).to_string(), format!("{now} {}", told.replace("a:1", &"a".repeat(300)))),
        (HostId(6).to_string(), format!("{now} no JSON")),
        (HostId(8).to_string(), format!("{now} {}", told.replace("a:1", "a\\u001b[2J:1"))),
        (HostId(9).to_string(), format!("{now} {}", told.replace("9.9.9", &"9".repeat(65)))),
        ("x".repeat(32), format!("{now} {told}")),
    ];
    for (field, value) in &odd {
        write(&ledger, field, value);
    }
    for call in [beat(7, Some(report("g:1", 1))), tidying(7)] {
        assert_eq!(ids(ledger.ask(call)), [7]);
        assert_eq!(fields(&ledger).len(), odd.len() + 1);
    }
    // Of another type, nobody is told of anybody, and that is an error and no empty list.
    redis::cmd("DEL").arg(KEY).exec(&mut ledger.server.connection()).unwrap();
    redis::cmd("SET").arg(KEY).arg("x").exec(&mut ledger.server.connection()).unwrap();
    for call in [beat(7, Some(report("g:1", 1))), Call::Ledger(LedgerOp::Hosts)] {
        let answer = ledger.execute(&[call]).remove(0);
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[test]
fn a_file_has_one_host() {
    let mut ledger = SqliteSubject::new();
    assert_eq!(ids(ledger.ask(beat(1, Some(report("a:1", 1))))), [1]);
    assert_eq!(ids(ledger.ask(beat(1, None))), []);
    assert_eq!(ids(ledger.ask(Call::Ledger(LedgerOp::Hosts))), []);
}
