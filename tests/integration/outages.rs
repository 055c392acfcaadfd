//! Redis gone, or silent, in mid-sale: refused in time, sold again at once, never sold twice.

use std::time::{Duration, Instant};

use crate::sells_exactly::assert_exact;
use crate::support::client::{Client, Response};
use crate::support::crowd::{Insisting, rush};
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

/// How long a buyer waits for an answer at most: far longer than `--ledger-timeout`, as a busy machine may add seconds to
/// it, and far shorter than for ever.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

/// Asserts a 503 of the ledger's absence, with what a client needs to ask again; gives the type's last word.
#[track_caller]
fn expect_unavailable(answer: &Response) -> String {
    assert_eq!(answer.status, 503, "{answer:?} {}", answer.text());
    let seconds = answer.field("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{answer:?}");
    let problem = answer.json();
    let name = problem["type"].as_str().unwrap_or_default().trim_start_matches("/problems/").to_owned();
    assert!(["ledger-unavailable", "outcome-unknown"].contains(&name.as_str()), "{problem}");
    answer.expect_problem(503, &name);
    name
}

#[test]
fn redis_dies_in_mid_sale_and_comes_back() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=20000", "--ledger-timeout", "2s"];
    let hosts = [Host::start(folder.path(), &words), Host::start(folder.path(), &words)];
    let addresses = [hosts[0].address, hosts[1].address];
    let crowd = Insisting::start(&addresses, "ticket", 24, 500);
    let mut ids = Vec::new();
    for granted in [1_000, 4_000] {
        crowd.wait_for_granted(granted);
        redis.kill();
        let gone = Instant::now();

        // While it is gone: told so, in time, with and without an id.
        ids.push(format!("gone-{granted}"));
        let with_id = format!("/v1/sales/ticket/bookings/gone-{granted}");
        std::thread::scope(|scope| {
            for (address, (method, target)) in
                addresses.iter().zip([("PUT", with_id.as_str()), ("GET", "/buy/ticket")])
            {
                scope.spawn(move || {
                    let asked = Instant::now();
                    expect_unavailable(&Client::connect(*address).ask(method, target, None));
                    assert!(asked.elapsed() < TOLD_WITHIN, "{:?} for {target}", asked.elapsed());
                });
            }
        });
        for host in &hosts {
            assert_eq!(host.operator().get("/livez").status, 200);
            eventually("the host is not ready", TOLD_WITHIN, || {
                (host.operator().get("/readyz").status == 503).then_some(())
            });
        }
        std::thread::sleep(Duration::from_millis(1_500).saturating_sub(gone.elapsed()));

        redis.start_again();
        for host in &hosts {
            eventually("sales go on", Duration::from_secs(5), || {
                ids.push(format!("back-{}", ids.len()));
                let answer =
                    host.client().put(&format!("/v1/sales/ticket/bookings/{}", ids[ids.len() - 1]), "{}");
                answer.is_booked().then_some(())
            });
            // Ready is said of all loops: each has its own connection to Redis.
            eventually("every loop is back", Duration::from_secs(5), || {
                (host.operator().get("/readyz").status == 200).then_some(())
            });
        }
    }
    let told = crowd.finish();
    assert_eq!(told.wrong, [""; 0]);
    assert!(told.unavailable > 0, "{told:?}");
    assert_eq!(told.lost, 0, "hosts keep their connections");
    assert!(told.slowest < TOLD_WITHIN, "an answer took {:?}", told.slowest);
    assert_eq!(told.granted().len(), 12_000);

    // What buyers were told is what the ledger has; those who were told nothing ask again and get their one booking.
    let mut client = hosts[0].client();
    for id in told.granted() {
        let target = format!("/v1/sales/ticket/bookings/{id}");
        let booking = client.insist("GET", &target, None).expect(200).json();
        assert_eq!(booking["status"], "confirmed", "{booking}");
    }
    for id in &ids {
        let answer = client.insist("PUT", &format!("/v1/sales/ticket/bookings/{id}"), Some("{}"));
        assert!(answer.is_booked(), "{answer:?} {}", answer.text());
    }
    // Orders without an id that nobody was told of are taken back; then everything sells, to the last ticket.
    let known = 12_000 + ids.len();
    hosts[1].expect_sold("ticket", known as u64);
    let late = rush(&addresses, "ticket", 16, 1_000, 4);
    assert_exact(&late, 20_000 - known, 16_000);
    for host in &hosts {
        host.expect_sold("ticket", 20_000);
    }
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// Redis keeps its connections and says nothing: the client is told at the deadline that the outcome is unknown, and
/// the same id tells it later.
#[test]
fn redis_falls_silent() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=10", "--ledger-timeout", "700ms"];
    let host = Host::start(folder.path(), &words);
    let mut client = host.client();
    assert!(client.insist("PUT", "/v1/sales/ticket/bookings/before", Some("{}")).is_booked());

    redis.freeze();
    let asked = Instant::now();
    let answer = client.put("/v1/sales/ticket/bookings/during", "{}");
    let took = asked.elapsed();
    assert_eq!(expect_unavailable(&answer), "outcome-unknown");
    assert!(answer.text().contains("during"), "no id in {}", answer.text());
    assert!(took >= Duration::from_millis(350) && took < TOLD_WITHIN, "{took:?}");
    // Without an id of the client's own there is nothing to ask again with, and the server takes the booking back.
    expect_unavailable(&client.get("/buy/ticket"));
    redis.thaw();

    let known = client.insist("PUT", "/v1/sales/ticket/bookings/during", Some("{}"));
    assert!(known.is_booked(), "{known:?} {}", known.text());
    eventually("the order that nobody knows of is taken back", Duration::from_secs(5), || {
        (host.sale("ticket")["sold"] == 2).then_some(())
    });
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// A Redis that comes back without its data and scripts is a Redis all the same: scripts are loaded again. What it
/// lost, it lost; here, that is nothing but the scripts.
#[test]
fn scripts_are_loaded_again() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=10"]);
    let mut client = host.client();
    client.put("/v1/sales/ticket/bookings/one", "{}").expect(201);
    redis.command(&["script", "flush"]);
    client.put("/v1/sales/ticket/bookings/two", "{}").expect(201);
    client.put("/v1/sales/ticket/bookings/one", "{}").expect(200);
    host.expect_sold("ticket", 2);
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}
