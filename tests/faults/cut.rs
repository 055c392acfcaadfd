//! Connections to Redis that break after each byte in turn, of what Redis replies and of what the host sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::buyers::ask_once;
use crate::checker::Rule;
use crate::proxy::{Cut, Lie, RedisProxy, liar};
use crate::scene::Scene;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, one_core};
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    (
        "connection to Redis cut in mid-reply, after each byte in turn",
        "what was sent is sent again with the same ids: nothing is lost, nothing is booked twice",
        replies,
    ),
    (
        "connection to Redis cut in mid-request, after each byte in turn",
        "what was sent is sent again with the same ids: nothing is lost, nothing is booked twice",
        requests,
    ),
];

fn replies(effort: &Effort) -> Row {
    cut_each(Cut::Reply, 240 * u64::from(effort.runs))
}

fn requests(effort: &Effort) -> Row {
    cut_each(Cut::Request, 240 * u64::from(effort.runs))
}

/// Cuts one connection after 0 bytes, the next after 1, and so on up to `bytes`.
fn cut_each(at: fn(u64) -> Cut, bytes: u64) -> Row {
    let mut row = Row::default();
    let redis = RedisServer::durable_on_socket(&[]);
    let socket = redis.folder().join("proxy.sock");
    let proxy = RedisProxy::start(&socket, &redis.socket(), || Cut::Never);
    let mut scene = Scene::with_redis(&proxy.url(), &redis.url(), 1, &["--cores", &one_core()]);
    let crowd = scene.buyers("crowd", 8);
    crowd.wait_for(50);
    let next = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&next);
    proxy.cut_by(move || at(counter.fetch_add(1, Ordering::Relaxed)));
    proxy.break_all();
    // At each offset one call is cut, and sent again: it must come through, however often that happens to it.
    eventually("every offset had its turn", Duration::from_secs(60 + bytes / 10), || {
        (proxy.cuts() >= bytes).then_some(())
    });
    proxy.cut_by(|| Cut::Never);
    proxy.break_all();
    crowd.wait_for(100);
    scene.keep(crowd);
    row.judge(u32::try_from(proxy.cuts()).expect("a count of cuts"), &mut scene);

    let id = scene.some_acknowledged_id();
    redis.command(&["hset", "bx:{ticket}:bookings", &id, "c9:somebody"]);
    row.mutants.push(("another's booking under an id", scene.expect_conviction(&[Rule::Altered])));
    let other = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&other.url(), &other.url(), 1, &[]);
    scene.evidence.told.push(ask_once(liar(scene.hosts[0].address, Lie::NewId), "mine", 2));
    let sentence = scene.expect_conviction(&[Rule::Stranded]);
    row.mutants.push(("a request sent again under a new id", sentence));
    row
}
