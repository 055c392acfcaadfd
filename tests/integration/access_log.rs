//! The access log, and the audit that proves log, bookings and counts agree, or names what does not.

use std::path::Path;

use serde_json::Value;

use crate::support::crowd::rush;
use crate::support::host::{Host, boxoffice};
use crate::support::redis_server::RedisServer;
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
    assert_eq!(lines(folder.path()).len(), 203, "one line a booking request");
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

    std::fs::write(&log, format!("{honest}not a line of ours\n")).unwrap();
    audit().expect(1).saying(&["access.log"]);

    std::fs::write(&log, honest).unwrap();
    audit().expect(0);
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
