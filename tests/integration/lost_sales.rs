//! A Redis that has lost a sale, all of it or half: no start sells it a second time, an operator may; and sales that
//! operators remove are lost for nobody.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::Response;
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

const PATIENCE: Duration = Duration::from_secs(15);

fn host(folder: &Path, redis: &RedisServer, more: &[&str]) -> Host {
    let url = redis.url();
    let mut words = vec!["--ledger", &url, "--sale", "ticket=10"];
    words.extend(more);
    Host::start(folder, &words)
}

fn put(host: &Host, id: &str) -> Response {
    host.client().put(&format!("/v1/sales/ticket/bookings/{id}"), "{}")
}

/// Books so many; each is there, whatever the first answer was.
fn book(host: &Host, name: &str, count: usize) {
    for number in 0..count {
        eventually("a booking", PATIENCE, || {
            put(host, &format!("{name}-{number}")).is_booked().then_some(())
        });
    }
}

fn expect_lost(host: &Host) {
    host.expect_unready(&["has lost sale ticket"]);
    let problem = put(host, "late").expect_problem(503, "ledger-unavailable");
    assert!(problem["detail"].as_str().unwrap_or_default().contains("no longer has this sale"), "{problem}");
}

/// Whoever asks now sells exactly so many, and everybody else is told that there are no more.
fn expect_sells(hosts: &[&Host], name: &str, count: usize) {
    for host in hosts {
        host.expect_ready();
    }
    let mut booked = 0;
    for number in 0..count + 5 {
        let (host, id) = (hosts[number % hosts.len()], format!("{name}-{number}"));
        let told = eventually("an answer", PATIENCE, || {
            let answer = put(host, &id);
            (answer.is_booked() || answer.status == 409).then_some(answer)
        });
        booked += usize::from(told.is_booked());
    }
    assert_eq!(booked, count);
}

#[test]
fn everything_is_lost_under_two_hosts_and_one_is_started_again() {
    let _turn = turn::shared();
    for remembers in [true, false] {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let redis = RedisServer::start(folder.path());
        let mut first = host(folder.path(), &redis, &[]);
        let second = host(folder.path(), &redis, &[]);
        book(&first, "first", 4);
        book(&second, "second", 4);
        redis.command(&["flushall"]);
        expect_lost(&first);
        expect_lost(&second);
        first.stop();
        // With its state file, or as a new machine.
        let first = host(if remembers { folder.path() } else { elsewhere.path() }, &redis, &[]);
        for _ in 0..3 {
            expect_lost(&first);
            expect_lost(&second);
        }
        eventually("it is told", PATIENCE, || {
            first.process.said().contains("has lost this sale, so it is not opened").then_some(())
        });
        assert_eq!(redis.command(&["exists", "bx:{ticket}:stock"]).trim(), "0");
        boxoffice(folder.path(), &["sale", "open", "ticket", "--stock", "2", "--ledger", &redis.url()])
            .expect(0);
        expect_sells(&[&first, &second], "new", 2);
        assert_audit_agrees(folder.path(), "ticket", &redis.url());
        // Of what was told, that is gone; the host that told it says so.
        eventually("the losses are counted", PATIENCE, || {
            let metrics = second.metrics();
            let lost = metrics.iter().filter(|(name, _)| name.starts_with("boxoffice_bookings_lost_total"));
            (lost.map(|(_, count)| count).sum::<f64>() == 4.0).then_some(())
        });
    }
}

#[test]
fn everything_is_lost_while_no_host_runs() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let mut before = host(folder.path(), &redis, &[]);
    book(&before, "early", 4);
    before.stop();
    redis.command(&["flushall"]);
    let mut after = host(folder.path(), &redis, &["--sale", "other=3"]);
    expect_lost(&after);
    // A sale that it never knew is opened all the same.
    after.client().put("/v1/sales/other/bookings/a", "{}").expect_any(&[200, 201]);
    after.stop();
    // Who is told to remember nothing cannot know.
    redis.command(&["flushall"]);
    let forgetful = host(folder.path(), &redis, &["--state", "none"]);
    expect_sells(&[&forgetful], "again", 10);
}

#[test]
fn a_state_file_that_cannot_be_read_or_written_is_told() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    std::fs::write(folder.path().join("odd"), "not one").unwrap();
    let url = redis.url();
    let Err(ended) = Host::try_start(folder.path(), &["--ledger", &url, "--state", "odd"]) else {
        panic!("it started")
    };
    ended.expect(1).saying(&["cannot read the state file odd", "remove it, or name another one"]);
    let host = host(folder.path(), &redis, &["--state", "no/such/folder/state"]);
    book(&host, "a", 1);
    eventually("it is told", PATIENCE, || {
        host.process.said().contains("the state file cannot be written").then_some(())
    });
}

#[test]
fn half_a_sale_is_lost_and_counted_again() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let mut first = host(folder.path(), &redis, &[]);
    let second = host(folder.path(), &redis, &[]);
    book(&first, "first", 3);
    book(&second, "second", 3);
    redis.command(&["del", "bx:{ticket}:stock"]);
    expect_lost(&second);
    first.stop();
    let first = host(folder.path(), &redis, &[]);
    expect_lost(&first);
    let url = redis.url();
    let command = |words: &[&str]| boxoffice(folder.path(), &[words, &["--ledger", &url]].concat());
    command(&["audit", "ticket"]).expect(1).saying(&["bx:{ticket}:stock is gone"]);
    command(&["sale", "open", "ticket", "--stock", "10"]).expect(0).saying(&["audit ticket --repair"]);
    second.expect_unready(&["bx:{ticket}:stock has no number in held"]);
    command(&["sale", "resume", "ticket"]).expect(1).saying(&["has no number in held"]);
    command(&["audit", "ticket", "--repair"]).expect(0).saying(&["repaired    sold: from gone to 6"]);
    command(&["sale", "resume", "ticket"]).expect(0);
    expect_sells(&[&first, &second], "rest", 4);
    first.client().get("/v1/sales/ticket/bookings/second-0").expect(200);
    assert_audit_agrees(folder.path(), "ticket", &url);
}

#[test]
fn a_count_that_somebody_set_below_zero_stops_the_sale_until_it_is_mended() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let hosts = [host(folder.path(), &redis, &[]), host(folder.path(), &redis, &[])];
    book(&hosts[0], "early", 3);
    redis.command(&["hset", "bx:{ticket}:stock", "sold", "-5"]);
    for host in &hosts {
        for number in 0..10 {
            let answer = put(host, &format!("no-{number}"));
            answer.expect_problem(503, "ledger-unavailable");
        }
        host.expect_unready(&["bx:{ticket}:stock has no number in sold"]);
    }
    let url = redis.url();
    boxoffice(folder.path(), &["audit", "ticket", "--repair", "--ledger", &url]).expect(0);
    expect_sells(&[&hosts[0], &hosts[1]], "rest", 7);
    assert_audit_agrees(folder.path(), "ticket", &url);
}

#[test]
fn a_sale_is_removed_and_every_host_forgets_it() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let hosts = [host(folder.path(), &redis, &["--sale", "other=3"]), host(folder.path(), &redis, &[])];
    book(&hosts[0], "a", 3);
    let remove = || hosts[0].operator().ask("DELETE", "/v1/sales/ticket", None);
    remove().expect_problem(409, "sale-not-closed");
    hosts[0].operator().ask("POST", "/v1/sales/ticket/close", None).expect(200);
    let removed = remove().expect(200).json();
    assert_eq!(removed["status"], Value::from("removed"));
    remove().expect(200);
    hosts[0].operator().ask("DELETE", "/v1/sales/unheard-of", None).expect_problem(404, "no-such-sale");
    for host in &hosts {
        eventually("it is unknown", PATIENCE, || (put(host, "late").status == 404).then_some(()));
        host.expect_ready();
        let sales = host.operator().get("/v1/sales").expect(200).json();
        assert!(!sales.to_string().contains("ticket"), "{sales}");
    }
    // As the command does it, for a sale that is lost, too; and a start may open one of its name.
    let url = redis.url();
    let command = |words: &[&str]| boxoffice(folder.path(), &[words, &["--ledger", &url]].concat());
    command(&["sale", "remove", "other"]).expect(1).saying(&["--yes"]);
    command(&["sale", "close", "other"]).expect(0);
    command(&["sale", "remove", "other", "--yes"]).expect(0).saying(&["removed other"]);
    command(&["sale", "remove", "other-that-never-was", "--yes"]).expect(1).saying(&["no sale"]);
    let third = host(folder.path(), &redis, &[]);
    expect_sells(&[&third, &hosts[0], &hosts[1]], "new", 10);
    for host in &hosts {
        assert!(!host.process.said().contains("ERROR"), "{}", host.process.said());
    }
}

#[test]
fn a_sale_of_a_file_is_removed_by_the_server_that_has_it() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=10"]);
    book(&host, "a", 3);
    host.operator().ask("POST", "/v1/sales/ticket/close", None).expect(200);
    host.operator().ask("DELETE", "/v1/sales/ticket", None).expect(200);
    eventually("it is unknown", PATIENCE, || (put(&host, "late").status == 404).then_some(()));
    host.operator().ask("PUT", "/v1/sales/ticket", Some(r#"{"total":2}"#)).expect(201);
    expect_sells(&[&host], "new", 2);
    assert!(!host.process.said().contains("ERROR"), "{}", host.process.said());
}
