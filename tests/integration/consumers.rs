//! The log as its consumers meet it: the documentation's own script behind a consumer group, and `sale log --follow`, while a
//! crowd books, pays, cancels and lets holds run out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees, boxoffice, boxoffice_started};
use crate::support::process::Process;
use crate::support::redis_server::RedisServer;
use crate::support::turn;

const LOG: &str = "bx:{ticket}:log";

/// The script as docs/consuming-the-log.md has it, in a file.
fn orders_script(folder: &Path) -> PathBuf {
    let page = include_str!("../../docs/consuming-the-log.md");
    let (_, after) = page.split_once("<!-- orders.py").expect("the script's marker");
    let (_, after) = after.split_once("```python\n").expect("a block of Python");
    let (script, after) = after.split_once("```\n").expect("the block's end");
    assert!(after.starts_with("<!-- end of orders.py -->"), "one block between the markers");
    let path = folder.join("orders.py");
    std::fs::write(&path, script).unwrap();
    path
}

/// The script at work on `ticket`, into `orders.jsonl`.
fn consumer(folder: &Path, redis: &RedisServer) -> Process {
    let address = redis.url();
    let address = address.strip_prefix("redis://").and_then(|rest| rest.strip_suffix("/0")).unwrap();
    let mut command = Command::new("python3");
    command.arg(orders_script(folder)).args([address, "ticket"]).arg(folder.join("orders.jsonl"));
    Process::start("orders.py", &mut command)
}

/// Whole lines of that text, each JSON.
fn entries(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// Buyers who book one after another: of four bookings one is paid, one paid and then cancelled, one cancelled, one
/// left to run out. Returns when `count` were made.
fn buy(address: SocketAddr, count: usize, name: &str) {
    std::thread::scope(|scope| {
        for buyer in 0..4 {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for n in 0..count / 4 {
                    let booking = format!("/v1/sales/ticket/bookings/{name}-{buyer}-{n}");
                    let body = format!("{{\"quantity\":{},\"buyer\":\"u-{buyer}\"}}", 1 + n % 3);
                    client.put(&booking, &body).expect(201);
                    if n % 4 < 2 {
                        client.ask("POST", &format!("{booking}/confirm"), Some("")).expect(200);
                    }
                    if (1..3).contains(&(n % 4)) {
                        client.ask("DELETE", &booking, None).expect(200);
                    }
                }
            });
        }
    });
}

/// Sequences 1, 2, 3 and so on; times that do not run back; and each booking on a path that bookings can take.
#[track_caller]
fn assert_in_order(entries: &[Value]) {
    let mut status: BTreeMap<&str, &str> = BTreeMap::new();
    for (entry, sequence) in entries.iter().zip(1_u64..) {
        assert_eq!(entry["sequence"], sequence, "{entry}");
        let (booking, now) = (entry["booking"].as_str().unwrap(), entry["status"].as_str().unwrap());
        let before = status.insert(booking, now);
        let legal = matches!(
            (before, now),
            (None, "held")
                | (Some("held"), "confirmed" | "cancelled" | "expired")
                | (Some("confirmed"), "cancelled")
        );
        assert!(legal, "{booking} went from {before:?} to {now}");
    }
}

#[test]
fn a_consumer_group_sees_every_change_once_and_in_order_whoever_dies() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let (folder, redis) = (folder.path(), RedisServer::start(folder.path()));
    let words = ["--ledger", &redis.url(), "--sale", "ticket=100000,hold=6s,per-buyer=100000"];
    let host = Host::start(folder, &words);
    let written = || entries(&std::fs::read_to_string(folder.join("orders.jsonl")).unwrap_or_default());

    let mut script = consumer(folder, &redis);
    for round in 0..4 {
        std::thread::scope(|scope| {
            let (address, before) = (host.address, written().len());
            scope.spawn(move || buy(address, 400, &format!("r{round}")));
            eventually("the consumer is at work", Duration::from_secs(10), || {
                assert!(script.status().is_none(), "{}", script.said());
                (written().len() > before + 100).then_some(())
            });
            // Killed wherever it is. While it is away another one takes entries and dies on them.
            script.kill();
            let read = ["xreadgroup", "group", "orders", "doomed", "count", "7", "streams", LOG, ">"];
            eventually("another consumer has entries", Duration::from_secs(10), || {
                redis.command(&read).contains("booking").then_some(())
            });
            script = consumer(folder, &redis);
        });
    }
    // Held, paid, cancelled, or over: that is entered a while after it counts for nobody any more.
    let count = 1_600 + 800 + 800 + 400;
    eventually("every hold is paid, cancelled or over", Duration::from_secs(60), || {
        let sale = host.operator().get("/v1/sales/ticket").expect(200).json();
        assert!(sale["sequence"].as_u64().unwrap() <= count, "{sale}");
        (sale["sequence"] == count).then_some(())
    });
    eventually("the consumer has everything", Duration::from_secs(10), || {
        assert!(script.status().is_none(), "{}", script.said());
        (written().len() as u64 >= count).then_some(())
    });
    let written = written();
    assert_eq!(written.len() as u64, count);
    assert_in_order(&written);
    for (status, least) in [("held", 1_600), ("confirmed", 800), ("cancelled", 800), ("expired", 400)] {
        let found = written.iter().filter(|entry| entry["status"] == status).count();
        assert_eq!(found, least, "{status}");
    }
    // The very same that the command prints, but for the form of numbers and times.
    let printed = boxoffice(folder, &["sale", "log", "ticket", "--ledger", &redis.url()]).expect(0);
    let printed: Vec<Value> = entries(&printed.said);
    assert_eq!(printed.len(), written.len());
    for (printed, written) in printed.iter().zip(&written) {
        for name in ["sequence", "booking", "status", "buyer"] {
            assert_eq!(printed[name], written[name]);
        }
        assert_eq!(printed["quantity"].to_string(), written["quantity"].as_str().unwrap());
    }

    // All of it is consumed, so that all but the last entry may go; for a second group that is behind, less.
    redis.command(&[
        "xgroup",
        "create",
        LOG,
        "slow",
        written[9]["at"].as_u64().map(|at| format!("{at}-10")).as_deref().unwrap(),
    ]);
    let trim = ["sale", "trim", "ticket", "--ledger", &redis.url()];
    eventually("the consumer has acknowledged everything", Duration::from_secs(10), || {
        (redis.command(&["xpending", LOG, "orders"]).trim().starts_with('0')).then_some(())
    });
    boxoffice(folder, &trim).expect(0).saying(&["removed 10 entries", "2 consumer groups"]);
    redis.command(&["xgroup", "destroy", LOG, "slow"]);
    boxoffice(folder, &trim)
        .expect(0)
        .saying(&[&format!("removed {} entries", count - 11), "1 entries are left"]);
    boxoffice(folder, &["audit", "ticket", "--ledger", &redis.url()])
        .expect(0)
        .saying(&[&format!("the log starts at sequence {count}"), "no difference"]);
    // And the consumer goes on.
    buy(host.address, 4, "after");
    eventually("the consumer goes on", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(folder.join("orders.jsonl")).unwrap();
        (entries(&text).len() as u64 >= count + 8).then_some(())
    });
}

/// A host that starts when the log of a sold-out sale is gone cannot know who was granted: the ledger says.
#[test]
fn a_late_host_without_the_log_still_knows_every_booking() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=300"];
    let put = |client: &mut Client, n: u32| client.put(&format!("/v1/sales/ticket/bookings/b-{n}"), "{}");
    let early = Host::start(folder.path(), &words);
    let mut client = early.client();
    (0..300).for_each(|n| drop(put(&mut client, n).expect(201)));
    redis.command(&["xgroup", "create", LOG, "orders", "$"]);
    boxoffice(folder.path(), &["sale", "trim", "ticket", "--ledger", &redis.url()])
        .expect(0)
        .saying(&["removed 299 entries"]);
    let late = Host::start(folder.path(), &words);
    let mut client = late.client();
    late.expect_sold("ticket", 300);
    // Some syncs later it has seen that the log does not tell.
    let scripts = || {
        let calls = redis.calls();
        ["xrange", "xrevrange"].iter().filter_map(|name| calls.get(*name)).sum::<u64>()
    };
    let at_rest = || {
        let (mut read, mut since) = (scripts(), Instant::now());
        eventually("the log is read no more", Duration::from_secs(20), || {
            let now = scripts();
            if now != read {
                (read, since) = (now, Instant::now());
            }
            (read > 0 && since.elapsed() > Duration::from_secs(2)).then_some(read)
        })
    };
    let read = at_rest();
    for n in [0, 150, 298, 299] {
        assert_eq!(put(&mut client, n).expect(200).field("idempotency-replayed"), Some("true"));
    }
    put(&mut client, 300).expect_problem(409, "sold-out");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(at_rest(), read, "what is gone is not asked for again and again");
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

#[test]
fn the_log_is_followed_while_it_is_written() {
    let _turn = turn::shared();
    for on_redis in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let redis = on_redis.then(|| RedisServer::start(folder.path()));
        let ledger = redis.as_ref().map_or("sqlite:followed.db".to_owned(), RedisServer::url);
        let sale = "ticket=10000,hold=6s,per-buyer=10000";
        let host = Host::start(folder.path(), &["--ledger", &ledger, "--sale", sale]);
        buy(host.address, 48, "before");
        let follow = ["sale", "log", "ticket", "--follow", "--ledger", &ledger];
        let mut follower = boxoffice_started(folder.path(), &follow);
        buy(host.address, 208, "during");
        let mut seen = Vec::new();
        // 256 held; half of them confirmed, half cancelled, a quarter expired.
        while seen.len() < 576 {
            let line =
                follower.next_line(Duration::from_secs(10)).expect("it goes on until it is interrupted");
            seen.push(serde_json::from_str(&line).unwrap());
        }
        assert_eq!(host.operator().get("/v1/sales/ticket").expect(200).json()["sequence"], 576);
        assert_in_order(&seen);
        // Not SIGINT, which whatever a shell starts in the background ignores.
        follower.signal(libc::SIGTERM);
        follower.wait(Duration::from_secs(5));
        let printed = boxoffice(folder.path(), &["sale", "log", "ticket", "--ledger", &ledger]).expect(0);
        assert_eq!(entries(&printed.said), seen, "{ledger}");
        if !on_redis {
            boxoffice(folder.path(), &["sale", "trim", "ticket", "--ledger", &ledger])
                .expect(0)
                .saying(&["removed nothing", "576 entries"]);
        }
    }
}

/// Whose a booking is after an operator has given it away: an entry of the same status, for the new buyer.
#[test]
fn a_consumer_is_told_when_a_booking_is_given_to_another_buyer() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let (folder, redis) = (folder.path(), RedisServer::start(folder.path()));
    let host = Host::start(folder, &["--ledger", &redis.url(), "--sale", "ticket=9,hold=10m,per-buyer=4"]);
    let mut script = consumer(folder, &redis);
    let path = "/v1/sales/ticket/bookings/a";
    host.client().put(path, "{\"quantity\":2,\"buyer\":\"u-81\"}").expect(201);
    for body in ["{\"buyer\":\"u-82\"}", "{\"buyer\":\"u-82\"}", "{\"buyer\":null}", "{\"buyer\":\"u-83\"}"] {
        host.operator().put(&format!("{path}/buyer"), body).expect(200);
    }
    host.client().ask("POST", &format!("{path}/confirm"), None).expect(200);
    host.operator().put(&format!("{path}/buyer"), "{\"buyer\":\"u-84\"}").expect(200);
    let written = eventually("the consumer has everything", Duration::from_secs(20), || {
        assert!(script.status().is_none(), "{}", script.said());
        let written = entries(&std::fs::read_to_string(folder.join("orders.jsonl")).unwrap_or_default());
        (written.len() >= 6).then_some(written)
    });
    let told: Vec<(&str, &str)> = written
        .iter()
        .map(|entry| (entry["status"].as_str().unwrap(), entry["buyer"].as_str().unwrap()))
        .collect();
    let expected = [
        ("held", "u-81"),
        ("held", "u-82"),
        ("held", ""),
        ("held", "u-83"),
        ("confirmed", "u-83"),
        ("confirmed", "u-84"),
    ];
    assert_eq!(told, expected);
    for held in &written[..4] {
        assert_eq!((&held["expires_at"], &held["quantity"]), (&written[0]["expires_at"], &Value::from("2")));
    }
}
