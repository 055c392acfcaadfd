//! The promise, counted by clients: as many tickets as there are, and not one more, whatever the crowd.

use std::collections::BTreeSet;

use crate::support::crowd::{Rush, rush};
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::tools::{AbReport, ab, sqlite3};
use crate::support::turn;

/// Asserts that a rush got exactly `stock` different tickets, and every other answer was "sold out".
#[track_caller]
pub fn assert_exact(told: &Rush, stock: usize, requests: usize) {
    assert_eq!(told.wrong, [""; 0]);
    let distinct: BTreeSet<&String> = told.granted.iter().collect();
    assert_eq!(distinct.len(), told.granted.len(), "a ticket was sold twice");
    assert_eq!(told.granted.len(), stock);
    assert_eq!(usize::try_from(told.sold_out).unwrap(), requests - stock);
}

/// Asserts that ab got an answer to each request, and no other than 2xx but those that the ledger could not serve: its disk
/// may have stood still while all permits were on their way to it.
#[track_caller]
fn assert_answered(report: &AbReport, requests: u64, host: &Host) {
    assert_eq!((report.complete, report.failed), (requests, 0), "{report:?}");
    let unavailable = host.metrics()["boxoffice_requests_total{outcome=\"ledger-unavailable\"}"];
    assert_eq!(report.non_2xx as f64, unavailable, "{report:?}");
}

/// The command of the README: 100,000 requests by ab for 10,000 tickets. ab does not tell how many answers had code
/// 1, so the sale and its audit do, and ab that none failed.
fn ab_sells_out(host: &Host, folder: &std::path::Path, ledger: &str) {
    let report = ab(&format!("http://{}/buy/ticket", host.address), 100_000, 100, true, &[]);
    assert_answered(&report, 100_000, host);
    assert!(report.kept_alive >= 99_000, "{report:?}");
    host.expect_sold("ticket", 10_000);
    // Whoever comes now, with ab or not, is too late.
    assert_exact(&rush(&[host.address], "ticket", 4, 100, 8), 0, 400);
    assert_audit_agrees(folder, "ticket", ledger);
}

#[test]
fn ten_thousand_of_a_hundred_thousand_with_sqlite() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    // No --ledger: the default is a file in the working directory.
    let host = Host::start(folder.path(), &["--sale", "ticket=10000"]);
    ab_sells_out(&host, folder.path(), "sqlite:boxoffice.db");
    // A file that anybody can read, also while it sells.
    let told = sqlite3(&folder.path().join("boxoffice.db"), "SELECT sold FROM sales WHERE name = 'ticket'");
    assert_eq!(told.trim(), "10000");
}

#[test]
fn ten_thousand_of_a_hundred_thousand_with_redis() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=10000"]);
    ab_sells_out(&host, folder.path(), &redis.url());
}

#[test]
fn every_answer_counts_with_sqlite() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=2000"]);
    assert_exact(&rush(&[host.address], "ticket", 50, 400, 1), 2_000, 20_000);
    host.expect_sold("ticket", 2_000);
    assert_audit_agrees(folder.path(), "ticket", "sqlite:boxoffice.db");
}

#[test]
fn every_answer_counts_with_redis_and_pipelining() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=2000"]);
    assert_exact(&rush(&[host.address], "ticket", 50, 400, 16), 2_000, 20_000);
    host.expect_sold("ticket", 2_000);
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

#[test]
fn four_hosts_share_one_redis() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let ledger = redis.url();
    let hosts: Vec<Host> =
        (0..4).map(|_| Host::start(folder.path(), &["--ledger", &ledger, "--sale", "ticket=2000"])).collect();
    let addresses: Vec<_> = hosts.iter().map(|host| host.address).collect();
    assert_exact(&rush(&addresses, "ticket", 48, 400, 4), 2_000, 19_200);
    for host in &hosts {
        host.expect_sold("ticket", 2_000);
    }
    assert_audit_agrees(folder.path(), "ticket", &ledger);
}

#[test]
fn without_keep_alive_too() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=200"]);
    let report = ab(&format!("http://{}/buy/ticket", host.address), 2_000, 50, false, &[]);
    assert_answered(&report, 2_000, &host);
    assert_eq!(report.kept_alive, 0);
    host.expect_sold("ticket", 200);
    assert_audit_agrees(folder.path(), "ticket", "sqlite:boxoffice.db");
}

#[test]
fn a_post_of_abs_counts_like_a_get() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("order.json");
    std::fs::write(&body, "{\"order\":\"read and ignored\"}").unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=200"]);
    let post = ["-p", body.to_str().unwrap(), "-T", "application/json"];
    let report = ab(&format!("http://{}/buy/ticket", host.address), 2_000, 50, true, &post);
    assert_answered(&report, 2_000, &host);
    host.expect_sold("ticket", 200);
}

/// The last ticket is sold and nothing after it: a reference design whose script asks `total >= sold` before it
/// counts sells total + 1.
#[test]
fn never_total_plus_one() {
    let _turn = turn::shared();
    for (stock, requests) in [(0, 20), (1, 40), (7, 80)] {
        let folder = tempfile::tempdir().unwrap();
        let sale = format!("ticket={stock}");
        let host = Host::start(folder.path(), &["--sale", &sale]);
        assert_exact(&rush(&[host.address], "ticket", 4, requests / 4, 4), stock, requests);
        host.expect_sold("ticket", u64::try_from(stock).unwrap());
        assert_audit_agrees(folder.path(), "ticket", "sqlite:boxoffice.db");
    }
}
