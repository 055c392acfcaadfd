//! The access log, and the audit that proves log, bookings and counts agree, or names what does not.

use std::path::Path;

use serde_json::Value;

use crate::support::crowd::rush;
use crate::support::host::{Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::tools::sqlite3;
use crate::support::turn;

fn lines(folder: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(folder.join("access.log")).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// 60 tickets, 200 requests, then a repeat and a refusal with ids; gives a granted id. The host has ended.
fn sell(folder: &Path, ledger: &str) -> String {
    let mut host =
        Host::start(folder, &["--ledger", ledger, "--sale", "ticket=60", "--access-log", "access.log"]);
    host.client().put("/v1/sales/ticket/bookings/mine", "{\"quantity\":3}").expect(201);
    host.client().put("/v1/sales/ticket/bookings/mine", "{\"quantity\":3}").expect(200);
    let told = rush(&[host.address], "ticket", 10, 20, 2);
    assert_eq!(told.granted.len(), 57);
    host.client().put("/v1/sales/ticket/bookings/late", "{}").expect_problem(409, "sold-out");
    host.stop();
    told.granted[20].clone()
}

fn proves(ledger_of: impl Fn(&Path) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path());
    sell(folder.path(), &ledger);
    // A buyer that a ledger which stood still could not serve asked again: those lines are more.
    let answered = lines(folder.path()).iter().filter(|line| line["status"] != 503).count();
    assert_eq!(answered, 203, "one line a booking request");
    boxoffice(folder.path(), &["audit", "ticket", "--ledger", &ledger, "--access-log", "access.log"])
        .expect(0);
}

#[test]
fn it_proves_a_sale_with_sqlite() {
    let _turn = turn::shared();
    proves(|_| "sqlite:boxoffice.db".to_owned());
}

#[test]
fn it_proves_a_sale_with_redis() {
    let _turn = turn::shared();
    let data = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(data.path());
    proves(|_| redis.url());
}

/// An answer in the log that the ledger does not know of, and the other way round.
#[test]
fn it_names_a_booking_that_log_and_ledger_disagree_on() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let ledger = "sqlite:boxoffice.db";
    let id = sell(folder.path(), ledger);
    let log = folder.path().join("access.log");
    let honest = std::fs::read_to_string(&log).unwrap();
    let audit =
        || boxoffice(folder.path(), &["audit", "ticket", "--ledger", ledger, "--access-log", "access.log"]);
    audit().expect(0);

    let forged = honest.replace(&id, "01890000-0000-7000-8000-000000000000");
    std::fs::write(&log, forged).unwrap();
    audit().expect(1).saying(&["01890000-0000-7000-8000-000000000000"]);

    // A line that a crash tore is no difference, but it is said.
    std::fs::write(&log, format!("{honest}{{\"time\":\"2026-")).unwrap();
    audit().expect(0).saying(&["end in the middle of a line"]);
}

/// Every place of the ledger that says what was sold is checked against the others, and the booking is named.
#[test]
fn it_names_a_booking_that_was_tampered_with_in_sqlite() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let ledger = "sqlite:boxoffice.db";
    sell(folder.path(), ledger);
    let file = folder.path().join("boxoffice.db");
    let honest = std::fs::read(&file).unwrap();
    let audit = || boxoffice(folder.path(), &["audit", "ticket", "--ledger", ledger]);
    for (statement, named) in [
        ("DELETE FROM bookings WHERE id = 'mine'", "mine"),
        ("UPDATE bookings SET quantity = 2 WHERE id = 'mine'", "mine"),
        ("UPDATE bookings SET status = 'cancelled' WHERE id = 'mine'", "mine"),
        ("UPDATE bookings SET id = 'ghost' WHERE id = 'mine'", "ghost"),
        ("DELETE FROM log WHERE sequence = 30", "31 follows 29"),
        ("UPDATE sales SET sold = sold - 1", "sold"),
        ("UPDATE sales SET sequence = sequence + 1", "sequence"),
    ] {
        sqlite3(&file, statement);
        audit().expect(1).saying(&[named]);
        for leftover in ["boxoffice.db-wal", "boxoffice.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(leftover));
        }
        std::fs::write(&file, &honest).unwrap();
        audit().expect(0);
    }
}

#[test]
fn it_names_a_booking_that_was_tampered_with_in_redis() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let ledger = redis.url();
    sell(folder.path(), &ledger);
    let audit = || boxoffice(folder.path(), &["audit", "ticket", "--ledger", &ledger]);
    let honest = redis.command(&["hget", "bx:{ticket}:bookings", "mine"]);
    audit().expect(0);
    redis.command(&["hdel", "bx:{ticket}:bookings", "mine"]);
    audit().expect(1).saying(&["mine"]);
    redis.command(&["hset", "bx:{ticket}:bookings", "mine", honest.trim(), "ghost", honest.trim()]);
    audit().expect(1).saying(&["ghost"]);
    redis.command(&["hdel", "bx:{ticket}:bookings", "ghost"]);
    audit().expect(0);
    redis.command(&["hincrby", "bx:{ticket}:stock", "sold", "-1"]);
    audit().expect(1).saying(&["sold"]);
}

/// Another host's refusals and tickets are in another file: the audit takes several.
#[test]
fn it_takes_the_logs_of_several_hosts() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let ledger = redis.url();
    let mut hosts: Vec<Host> = ["one.log", "two.log"]
        .map(|log| {
            Host::start(folder.path(), &["--ledger", &ledger, "--sale", "ticket=30", "--access-log", log])
        })
        .into();
    let addresses: Vec<_> = hosts.iter().map(|host| host.address).collect();
    assert_eq!(rush(&addresses, "ticket", 4, 20, 1).granted.len(), 30);
    hosts.iter_mut().for_each(Host::stop);
    let words =
        ["audit", "ticket", "--ledger", &ledger, "--access-log", "one.log", "--access-log", "two.log"];
    boxoffice(folder.path(), &words).expect(0);
}
