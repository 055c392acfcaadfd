//! Losers are cheap: once a sale is sold out, a refusal does not reach the ledger.

use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::host::Host;
use crate::support::redis_server::RedisServer;
use crate::support::tools::{ab, wrk};
use crate::support::turn;

/// What hosts may ask of the ledger for their own sake in that time, whoever comes: levels every 200 ms and a core,
/// presence, the log. An idle host asks a few calls a second and a core; far below one a refusal.
fn upkeep(elapsed: Duration) -> u64 {
    200 + elapsed.as_millis() as u64 / 5
}

#[test]
fn a_hundred_thousand_refusals_do_not_reach_redis() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=50"]);
    let url = format!("http://{}/buy/ticket", host.address);
    ab(&url, 1_000, 20, true, &[]);
    host.expect_sold("ticket", 50);

    let calls = || redis.calls().into_iter().filter(|(name, _)| name != "info").collect::<Vec<_>>();
    let total = |calls: &[(String, u64)]| calls.iter().map(|(_, count)| count).sum::<u64>();
    let started = Instant::now();
    let before = calls();
    let report = ab(&url, 100_000, 100, true, &[]);
    assert_eq!((report.complete, report.failed, report.non_2xx), (100_000, 0, 0));
    let refused = wrk(&url, 50, 2);
    let after = calls();
    let elapsed = started.elapsed();
    assert!(refused > 0, "wrk was answered nothing");
    assert!(
        total(&after) - total(&before) <= upkeep(elapsed),
        "{} refusals in {elapsed:?}\nbefore {before:?}\nafter  {after:?}",
        100_000 + refused
    );
    // Nothing was booked either.
    host.expect_sold("ticket", 50);
}

#[test]
fn refusals_do_not_write_to_sqlite() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=50"]);
    let url = format!("http://{}/buy/ticket", host.address);
    ab(&url, 1_000, 20, true, &[]);
    host.expect_sold("ticket", 50);

    let sizes = || {
        let size = |name: &str| std::fs::metadata(folder.path().join(name)).map(|file| file.len()).ok();
        (size("boxoffice.db"), size("boxoffice.db-wal"))
    };
    let before = sizes();
    ab(&url, 20_000, 50, true, &[]);
    assert_eq!(sizes(), before);
}

/// A sale that is sold out is so for new ids only: one that was granted stays granted, on every host.
#[test]
fn a_granted_id_is_never_told_sold_out() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=1"];
    let (first, second) = (Host::start(folder.path(), &words), Host::start(folder.path(), &words));
    let target = "/v1/sales/ticket/bookings/mine";
    first.client().put(target, "{}").expect(201);
    first.client().put("/v1/sales/ticket/bookings/other", "{}").expect_problem(409, "sold-out");
    first.client().put(target, "{}").expect(200);
    // The other host has to know, or to find out, that the sale is sold out and that the id is not.
    second.client().get(target).expect(200);
    second.client().put("/v1/sales/ticket/bookings/other", "{}").expect_problem(409, "sold-out");
    second.client().put(target, "{}").expect(200);
}

/// Bookings that change hands on one host, between two looks of the other: it must not take the last one for unknown.
#[test]
fn an_id_granted_elsewhere_of_stock_that_came_back_is_known_too() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=1"];
    let (first, second) = (Host::start(folder.path(), &words), Host::start(folder.path(), &words));
    let target = |number: u32| format!("/v1/sales/ticket/bookings/a{number}");
    let mut client = first.client();
    client.put(&target(0), "{}").expect(201);
    let seen = || second.sale("ticket")["available"] == 0;
    eventually("the second host has seen the sale sold out", Duration::from_secs(5), || seen().then_some(()));
    // Its log is read by now, up to there; nobody asks the ledger about an unknown id any more.
    std::thread::sleep(Duration::from_millis(500));
    for number in 1..=10 {
        client.insist("DELETE", &target(number - 1), None).expect(200);
        eventually("the ticket changes hands", Duration::from_secs(5), || {
            client.put(&target(number), "{}").is_booked().then_some(())
        });
    }
    // A sync later the second host knows; until then it may not.
    eventually("the second host finds the booking", Duration::from_secs(5), || {
        (second.client().put(&target(10), "{}").status == 200).then_some(())
    });
    second.client().put("/v1/sales/ticket/bookings/never", "{}").expect_problem(409, "sold-out");
}
