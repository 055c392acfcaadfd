//! A host that dies by SIGKILL in mid-sale: what was acknowledged is there, nothing is there twice, the rest sells.

use std::path::Path;

use crate::support::crowd::{Fate, Insisting, Told, rush};
use crate::support::free_port;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

/// Asserts that the crowd's word and the ledger's agree, that stock is left for late comers, and sells the rest.
#[track_caller]
fn assert_nothing_lost(told: &Told, host: &Host, stock: u64) {
    assert_eq!(told.wrong, [""; 0]);
    let granted = told.granted();
    assert!(told.fates.values().all(|fate| *fate == Fate::Granted), "told sold out while there was stock");
    let mut client = host.client();
    for id in &granted {
        let target = format!("/v1/sales/ticket/bookings/{id}");
        let booking = client.insist("GET", &target, None).expect(200).json();
        assert_eq!(booking["status"], "confirmed", "{booking}");
        assert_eq!(booking["booking"], **id);
    }
    let sold = granted.len() as u64;
    host.expect_sold("ticket", sold);

    let late = rush(&[host.address], "ticket", 8, usize::try_from(stock).unwrap() / 4, 4);
    assert_eq!(late.wrong, [""; 0]);
    assert_eq!(late.granted.len() as u64, stock - sold);
    host.expect_sold("ticket", stock);
}

fn killed_in_mid_sale(folder: &Path, ledger: &str) {
    const STOCK: u64 = 12_000;
    // While no host listens there, nobody else may, and no buyer's own connection may come from there.
    let address = format!("127.0.0.1:{}", free_port());
    let mut host = Host::start(folder, &["--ledger", ledger, "--sale", "ticket=12000", "--listen", &address]);
    let crowd = Insisting::start(&[host.address], "ticket", 32, 300);
    for granted in [1_500, 5_000] {
        crowd.wait_for_granted(granted);
        host.process.kill();
        host = Host::start(folder, &["--ledger", ledger, "--listen", &address]);
    }
    let told = crowd.finish();
    assert!(told.lost > 0, "the kill came too late to hurt: {told:?}");
    assert_eq!(told.fates.len(), 9_600);
    assert_nothing_lost(&told, &host, STOCK);
    host.stop();
    assert_audit_agrees(folder, "ticket", ledger);
}

#[test]
fn killed_in_mid_sale_with_sqlite() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    killed_in_mid_sale(folder.path(), "sqlite:box office.db");
}

#[test]
fn killed_in_mid_sale_with_redis() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    killed_in_mid_sale(folder.path(), &redis.url());
}

/// One of two hosts dies and stays dead. The other one sells everything: no ticket is left in a dead host's hands.
#[test]
fn a_dead_host_strands_no_ticket() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=6000"];
    let mut doomed = Host::start(folder.path(), &words);
    let survivor = Host::start(folder.path(), &words);
    let crowd = Insisting::start(&[doomed.address, survivor.address], "ticket", 16, 300);
    crowd.wait_for_granted(1_000);
    doomed.process.kill();
    let told = crowd.finish();
    assert_eq!(told.fates.len(), 4_800);
    assert_nothing_lost(&told, &survivor, 6_000);
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}
