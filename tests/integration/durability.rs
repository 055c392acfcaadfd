//! `--durability`: what a Redis must be like before anything is sold, and what clients are told where it is not.

use crate::support::client::{PATIENCE, Response};
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

fn host_on(folder: &std::path::Path, redis: &RedisServer, durability: &str) -> Host {
    let url = redis.url();
    let words = ["--ledger", &url, "--sale", "ticket=10", "--durability", durability, "--ledger-timeout"];
    Host::start(folder, &[&words[..], &["400ms"]].concat())
}

fn put(host: &Host, id: &str) -> Response {
    host.client().put(&format!("/v1/sales/ticket/bookings/{id}"), "{}")
}

fn not_ready(host: &Host) -> Option<String> {
    let answer = host.operator().get("/readyz");
    (answer.status == 503).then(|| answer.text().to_owned())
}

fn ready(host: &Host) -> Option<()> {
    (host.operator().get("/readyz").status == 200).then_some(())
}

#[test]
fn aof_sells_on_no_redis_that_may_lose_its_tail() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    redis.command(&["config", "set", "appendfsync", "everysec"]);
    let host = host_on(folder.path(), &redis, "aof");
    put(&host, "early").expect_problem(503, "ledger-unavailable");
    let why = not_ready(&host).expect("not ready");
    assert!(why.contains("CONFIG SET appendfsync always"), "{why}");
    eventually("it is logged", PATIENCE, || {
        let said = host.process.said();
        (said.contains("nothing is sold") && said.contains("CONFIG SET appendfsync always")).then_some(())
    });
    assert_eq!(redis.command(&["hlen", "bx:{ticket}:bookings"]).trim(), "0");

    redis.command(&["config", "set", "appendfsync", "always"]);
    eventually("sales begin", PATIENCE, || put(&host, "early").is_booked().then_some(()));
    eventually("every loop is up", PATIENCE, || ready(&host));

    // Somebody changes it in mid-sale.
    redis.command(&["config", "set", "appendonly", "no"]);
    eventually("it is noticed", PATIENCE, || {
        not_ready(&host)?.contains("CONFIG SET appendonly yes").then_some(())
    });
    // Until each loop has noticed, one may have sent it on; and a Redis that closes its file may answer late.
    eventually("sales stop", PATIENCE, || {
        let answer = put(&host, "later");
        (answer.status == 503 && answer.json()["type"] == "/problems/ledger-unavailable").then_some(())
    });
    redis.command(&["config", "set", "appendonly", "yes"]);
    eventually("sales go on", PATIENCE, || put(&host, "later").is_booked().then_some(()));
    host.expect_sold("ticket", 2);
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

#[test]
fn a_redis_that_does_not_tell_how_it_writes_is_refused_with_what_to_do() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    redis.command(&["acl", "setuser", "default", "-config"]);
    let host = host_on(folder.path(), &redis, "aof");
    let why = not_ready(&host).expect("not ready");
    assert!(why.contains("+config|get"), "{why}");
    redis.command(&["acl", "setuser", "default", "+config|get"]);
    eventually("sales begin", PATIENCE, || put(&host, "a").is_booked().then_some(()));
}

#[test]
fn replicas_have_a_booking_before_its_buyer_is_told() {
    let _turn = turn::shared();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let primary = RedisServer::start(folders[0].path());
    let mut replica = RedisServer::start(folders[1].path());
    let host = host_on(folders[0].path(), &primary, "replicas=1");

    // Without a replica nothing is booked at all.
    put(&host, "early").expect_problem(503, "ledger-unavailable");
    let why = not_ready(&host).expect("not ready");
    assert!(why.contains("has 0 of the 1 replicas"), "{why}");
    assert_eq!(primary.command(&["hlen", "bx:{ticket}:bookings"]).trim(), "0");

    replica.follow(&primary);
    // The first try may be told that the outcome is unknown: the replica that is in step has yet to say so.
    eventually("sales begin", PATIENCE, || put(&host, "first").is_booked().then_some(()));
    let exists = |redis: &RedisServer, id: &str| redis.command(&["hexists", "bx:{ticket}:bookings", id]);
    assert_eq!(exists(&replica, "first").trim(), "1");
    eventually("every loop is up", PATIENCE, || ready(&host));

    // The replica is there and silent: what is booked is not told of, and neither is what was booked before.
    replica.freeze();
    put(&host, "second").expect_problem(503, "outcome-unknown");
    eventually("the primary has it", PATIENCE, || (exists(&primary, "second").trim() == "1").then_some(()));
    assert_eq!(host.client().get("/v1/sales/ticket/bookings/first").status, 503);
    assert_eq!(host.client().get("/buy/ticket").status, 503);
    assert_ne!(put(&host, "second").status / 100, 2, "a repeat was told of a booking that one Redis has");
    // Nor is an operator told that something was done which one Redis alone has.
    let change = host.operator().put("/v1/sales/ticket", "{\"total\":11}");
    assert_eq!(change.status, 503, "{}", change.text());
    replica.thaw();
    eventually("the operator's repeat is told", PATIENCE, || {
        (host.operator().put("/v1/sales/ticket", "{\"total\":11}").status == 200).then_some(())
    });
    assert_eq!(replica.command(&["hget", "bx:{ticket}:stock", "total"]).trim(), "11");
    eventually("the repeat is told", PATIENCE, || (put(&host, "second").status == 200).then_some(()));
    assert_eq!(exists(&replica, "second").trim(), "1");
    eventually("the order that nobody knows of is taken back", PATIENCE, || {
        (host.sale("ticket")["sold"] == 2).then_some(())
    });
    assert_audit_agrees(folders[0].path(), "ticket", &primary.url());
}
