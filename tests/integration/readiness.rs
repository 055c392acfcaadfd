//! A host that cannot sell, though it runs and Redis answers: `/readyz` says why, the log does once, a metric can raise an
//! alert, and clients are told what is so. Nobody need book for that.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::Response;
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

const PATIENCE: Duration = Duration::from_secs(10);

/// What begins a line of the log, in mid-trouble and after it.
const REFUSES: &str = "the ledger refuses writes";
const DENIES: &str = "the ledger denies this host access that it needs";
const OVER: &str = "the ledger is available again";

fn two_hosts(folder: &Path, url: &str, sales: &[&str]) -> [Host; 2] {
    let mut words = vec!["--ledger", url];
    words.extend(sales.iter().flat_map(|&sale| ["--sale", sale]));
    [Host::start(folder, &words), Host::start(folder, &words)]
}

fn put(host: &Host, sale: &str, id: &str) -> Response {
    host.client().put(&format!("/v1/sales/{sale}/bookings/{id}"), "{}")
}

/// What there is a reason for, as an alert would read it.
fn reasons(host: &Host) -> Vec<String> {
    let metrics = host.metrics();
    let unable = metrics.iter().filter(|(_, value)| **value != 0.0);
    let reason =
        |name: &str| Some(name.strip_prefix("boxoffice_unable{reason=\"")?.strip_suffix("\"}")?.to_owned());
    unable.filter_map(|(name, _)| reason(name)).collect()
}

/// Redis refuses writes, said as `word`, from `begin` to `end`.
fn writes_are_refused(word: &str, begin: impl Fn(&RedisServer, &Path), end: impl Fn(&RedisServer, &Path)) {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let hosts = two_hosts(folder.path(), &redis.url(), &["ticket=1000"]);
    for host in &hosts {
        put(host, "ticket", "early").expect_any(&[200, 201]);
        assert_eq!(reasons(host), [""; 0]);
    }
    for round in 1..=2 {
        begin(&redis, folder.path());
        for host in &hosts {
            host.expect_unready(&[word]);
            assert_eq!(reasons(host), ["refusing"]);
        }
        for host in &hosts {
            for number in 0..20 {
                let problem = put(host, "ticket", &format!("r{round}-{number}"))
                    .expect_problem(503, "ledger-unavailable");
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(detail.contains("refuses writes") && !detail.contains(word), "{detail}");
            }
            // What is there is told all the same.
            put(host, "ticket", "early").expect(200);
            host.client().get("/v1/sales/ticket/bookings/early").expect(200);
        }
        end(&redis, folder.path());
        for host in &hosts {
            host.expect_ready();
            assert_eq!(reasons(host), [""; 0]);
            host.process.expect_lines_with(&[REFUSES, word], round);
            host.process.expect_lines_with(&[OVER], round);
            put(host, "ticket", &format!("late-{round}")).expect_any(&[200, 201]);
        }
    }
    hosts[0].expect_sold("ticket", 3);
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

#[test]
fn a_redis_without_memory() {
    let set = |redis: &RedisServer, bytes: &str| drop(redis.command(&["config", "set", "maxmemory", bytes]));
    writes_are_refused("OOM", |redis, _| set(redis, "1"), |redis, _| set(redis, "0"));
}

#[test]
fn a_redis_that_was_made_a_replica() {
    // Of a primary that is not there: it keeps what it has.
    let begin = |redis: &RedisServer, _: &Path| drop(redis.command(&["replicaof", "127.0.0.1", "1"]));
    let end = |redis: &RedisServer, _: &Path| drop(redis.command(&["replicaof", "no", "one"]));
    writes_are_refused("READONLY", begin, end);
}

#[test]
fn a_redis_that_lacks_the_replicas_it_asks_for() {
    let set = |redis: &RedisServer, count: &str| {
        drop(redis.command(&["config", "set", "min-replicas-to-write", count]))
    };
    writes_are_refused("NOREPLICAS", |redis, _| set(redis, "1"), |redis, _| set(redis, "0"));
}

/// A snapshot that cannot be written stops writes. The file's name is a folder's, which also stops root.
#[test]
fn a_redis_that_cannot_save() {
    let save = |redis: &RedisServer, status: &str| {
        redis.command(&["bgsave"]);
        eventually("the snapshot ends", PATIENCE, || {
            redis.command(&["info", "persistence"]).contains(status).then_some(())
        });
    };
    let begin = move |redis: &RedisServer, folder: &Path| {
        let _ = std::fs::remove_file(folder.join("dump.rdb"));
        std::fs::create_dir(folder.join("dump.rdb")).unwrap();
        redis.command(&["config", "set", "save", "86400 1"]);
        save(redis, "rdb_last_bgsave_status:err");
    };
    let end = move |redis: &RedisServer, folder: &Path| {
        std::fs::remove_dir(folder.join("dump.rdb")).unwrap();
        save(redis, "rdb_last_bgsave_status:ok");
    };
    writes_are_refused("MISCONF", begin, end);
}

#[test]
fn a_sale_that_the_ledger_has_lost() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let hosts = two_hosts(folder.path(), &redis.url(), &["ticket=1000", "other=1000"]);
    put(&hosts[0], "ticket", "early").expect(201);
    for part in ["stock", "bookings", "log"] {
        redis.command(&["del", &format!("bx:{{ticket}}:{part}")]);
    }
    for host in &hosts {
        let why = host.expect_unready(&["the ledger has lost sale ticket"]);
        assert!(!why.contains("other"), "{why}");
        assert_eq!(reasons(host), ["sale-missing"]);
        assert_eq!(host.metrics()["boxoffice_sales_missing"], 1.0);
        let sales = host.operator().get("/v1/sales").expect(200).json();
        let status = |at: usize| (sales["sales"][at]["sale"].clone(), sales["sales"][at]["status"].clone());
        assert_eq!(status(0), (Value::from("other"), Value::from("open")), "{sales}");
        assert_eq!(status(1), (Value::from("ticket"), Value::from("missing")), "{sales}");
        for number in 0..20 {
            let problem =
                put(host, "ticket", &format!("b{number}")).expect_problem(503, "ledger-unavailable");
            assert!(
                problem["detail"].as_str().unwrap_or_default().contains("no longer has this sale"),
                "{problem}"
            );
        }
        host.client().get("/v1/sales/ticket").expect_problem(503, "ledger-unavailable");
        put(host, "other", "any").expect_any(&[200, 201]);
    }
    let opened = hosts[0].operator().ask("PUT", "/v1/sales/ticket", Some(r#"{"total":7}"#));
    assert_eq!(opened.status, 201, "{}", opened.text());
    for host in &hosts {
        // It is another sale: what was acknowledged of the first is not put into it.
        host.expect_ready();
        assert_eq!(reasons(host), [""; 0]);
        eventually("it sells again", PATIENCE, || {
            matches!(put(host, "ticket", "late").status, 200 | 201).then_some(())
        });
        host.process.expect_lines_with(&["has lost this sale", "sale=ticket"], 1);
        host.process.expect_lines_with(&["can be sold again", "sale=ticket"], 1);
    }
}

#[test]
fn a_sale_that_cannot_be_read() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let hosts = two_hosts(folder.path(), &redis.url(), &["ticket=1000", "other=1000"]);
    put(&hosts[0], "ticket", "early").expect(201);
    redis.command(&["hset", "bx:{ticket}:stock", "total", "many"]);
    for host in &hosts {
        host.expect_unready(&["the ledger's record of sale ticket is not sound, so no tickets of it are \
                sold: bx:{ticket}:stock has no number in total"]);
        assert_eq!(reasons(host), ["sale-unreadable"]);
        assert_eq!(host.metrics()["boxoffice_sales_unreadable"], 1.0);
        for number in 0..5 {
            let problem =
                put(host, "ticket", &format!("b{number}")).expect_problem(503, "ledger-unavailable");
            assert!(problem["detail"].as_str().unwrap_or_default().contains("is not sound"), "{problem}");
        }
        put(host, "other", "any").expect_any(&[200, 201]);
    }
    redis.command(&["hset", "bx:{ticket}:stock", "total", "1000"]);
    for host in &hosts {
        host.expect_ready();
        put(host, "ticket", "late").expect_any(&[200, 201]);
        host.process.expect_lines_with(&["is not sound", "sale=ticket"], 1);
        assert_eq!(host.process.lines_with(&["a batch got no usable answer"]), 0, "{}", host.process.said());
    }
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// A password that was changed harms no connection there is, and lets no new one in.
#[test]
fn a_password_that_was_changed() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let set = |password: &str| {
        redis.command(&["acl", "setuser", "boxoffice", "on", "resetpass", password, "~bx:*", "+@all"]);
    };
    set(">secret");
    let url = format!("redis://boxoffice:secret@{}/0", redis.address());
    let hosts = two_hosts(folder.path(), &url, &["ticket=1000"]);
    set(">another");
    for host in &hosts {
        put(host, "ticket", "early").expect_any(&[200, 201]);
        assert_eq!(host.operator().get("/readyz").status, 200);
    }
    redis.command(&["client", "kill", "user", "boxoffice"]);
    for host in &hosts {
        host.expect_unready(&["WRONGPASS"]);
        eventually("each loop has met it", PATIENCE, || (reasons(host) == ["denied"]).then_some(()));
        eventually("clients are told", PATIENCE, || {
            let answer = put(host, "ticket", "meanwhile");
            (answer.status == 503).then(|| answer.expect_problem(503, "ledger-unavailable"))
        });
    }
    set(">secret");
    for host in &hosts {
        host.expect_ready();
        put(host, "ticket", "late").expect_any(&[200, 201]);
        host.process.expect_lines_with(&[DENIES, "WRONGPASS"], 1);
        host.process.expect_lines_with(&[OVER], 1);
        let log = host.process.said();
        assert!(!log.contains("secret"), "{log}");
    }
}

/// Settings by which a Redis may lose what it acknowledged are no reason not to sell, and are said.
#[test]
fn settings_that_may_lose_bookings_are_said_where_redis_lets_them_be_read() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    redis.command(&["config", "set", "maxmemory-policy", "allkeys-lru"]);
    redis.command(&["config", "set", "appendonly", "no"]);
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=10"]);
    put(&host, "ticket", "one").expect(201);
    redis.command(&["client", "kill", "type", "normal"]);
    eventually("the host is back", PATIENCE, || {
        matches!(put(&host, "ticket", "two").status, 200 | 201).then_some(())
    });
    host.expect_ready();
    for words in ["maxmemory-policy allkeys-lru", "no append-only file"] {
        host.process.expect_lines_with(&[words], 1);
    }
    // Who may not read them is not asked.
    redis.command(&["acl", "setuser", "few", "on", ">secret", "~bx:*", "+@all", "-info", "-config"]);
    let url = format!("redis://few:secret@{}/0", redis.address());
    let host = Host::start(folder.path(), &["--ledger", &url, "--sale", "ticket=10"]);
    put(&host, "ticket", "three").expect(201);
    assert_eq!(host.process.lines_with(&["maxmemory-policy"]), 0, "{}", host.process.said());
    assert_eq!(redis.command(&["acl", "log"]).trim(), "");
}
