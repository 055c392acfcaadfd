//! Rights of the Redis user: one that is missing sells nothing and leaves nothing half-done, whenever it is taken away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::redis_connections::documented_rights;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

const PATIENCE: Duration = Duration::from_secs(10);

/// How long a buyer insists on one id.
const INSISTENCE: Duration = Duration::from_secs(60);

fn set_rights(redis: &RedisServer, rights: &[&str]) {
    redis.command(&[&["acl", "setuser", "boxoffice", "reset"], rights].concat());
}

fn without<'a>(rights: &[&'a str], right: &str) -> Vec<&'a str> {
    rights.iter().copied().filter(|other| *other != right).collect()
}

/// Everything that is stored, as Redis dumps it.
fn contents(redis: &RedisServer) -> String {
    let script = "local all = redis.call('KEYS', '*') table.sort(all) for i, key in ipairs(all) do all[i] = key .. \
                  redis.sha1hex(redis.call('DUMP', key)) end return all";
    redis.command(&["-n", "1", "eval", script, "0"])
}

/// In database 1, so that every right is needed, also that to choose it.
#[test]
fn without_any_single_right_nothing_is_sold_and_nothing_is_left_half_done() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let rights = documented_rights();
    let url = format!("redis://boxoffice:secret@{}/1", redis.address());
    let judge_url = format!("redis://{}/1", redis.address());
    let terms = "ticket=1000,hold=10m,per-buyer=1000";
    set_rights(&redis, &rights);
    let words = ["--cores", "0", "--ledger-timeout", "300ms", "--ledger", &url];
    let mut host = Host::start(folder.path(), &[&words[..], &["--sale", terms]].concat());
    host.client().put("/v1/sales/ticket/bookings/early", r#"{"buyer":"u-1"}"#).expect(201);
    host.stop();
    let before = contents(&redis);
    // A Redis at a fixed address may keep its role to itself.
    set_rights(&redis, &without(&rights, "+role"));
    let mut host = Host::start(folder.path(), &words);
    host.client().get("/v1/sales/ticket/bookings/early").expect(200);
    host.stop();
    for right in rights.iter().filter(|right| right.starts_with('+') && **right != "+role") {
        set_rights(&redis, &without(&rights, right));
        // Without a sale to open, so that a host starts wherever it can read.
        let started = Host::try_start(folder.path(), &words);
        let name = &right[1..];
        match &started {
            Err(ended) => assert!(ended.said.contains(name), "without {right}: {}", ended.said),
            Ok(host) => {
                eventually(&format!("/readyz names {name}"), PATIENCE, || {
                    let answer = host.operator().get("/readyz");
                    assert_eq!(answer.status, 503, "ready without {right}");
                    answer.text().contains(name).then_some(())
                });
                assert_eq!(host.metrics()["boxoffice_unable{reason=\"denied\"}"], 1.0, "without {right}");
                for (method, target) in [
                    ("PUT", "/v1/sales/ticket/bookings/late"),
                    ("POST", "/v1/sales/ticket/bookings/early/confirm"),
                    ("DELETE", "/v1/sales/ticket/bookings/early"),
                ] {
                    let body = (method == "PUT").then_some(r#"{"buyer":"u-1"}"#);
                    let answer = host.client().ask(method, target, body);
                    assert_eq!(answer.status, 503, "without {right}: {}", answer.text());
                    answer.expect_problem(503, "ledger-unavailable");
                }
                // An operator's connection is another one.
                let answer = host.operator().ask("POST", "/v1/sales/ticket/pause", None);
                assert!(
                    answer.status == 503 && answer.text().contains(name),
                    "without {right}: {}",
                    answer.text()
                );
            }
        }
        let opened = boxoffice(folder.path(), &["sale", "open", "new", "--stock", "5", "--ledger", &url]);
        assert!(
            opened.status.code() == Some(1) && opened.said.contains(name),
            "without {right}: {}",
            opened.said
        );
        drop(started);
        assert_eq!(contents(&redis), before, "something was left without {right}");
    }
    assert_audit_agrees(folder.path(), "ticket", &judge_url);
    set_rights(&redis, &rights);
    let host = Host::start(folder.path(), &words);
    host.client().put("/v1/sales/ticket/bookings/late", r#"{"buyer":"u-1"}"#).expect(201);
}

/// A right that is needed by `sale trim` alone is asked for by nobody else.
#[test]
fn sale_trim_says_which_right_it_lacks_and_removes_nothing() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let mut rights = documented_rights();
    set_rights(&redis, &rights);
    let url = format!("redis://boxoffice:secret@{}/0", redis.address());
    let host = Host::start(folder.path(), &["--sale", "ticket=10", "--ledger", &url]);
    host.client().put("/v1/sales/ticket/bookings/one", "{}").expect(201);
    redis.command(&["xgroup", "create", "bx:{ticket}:log", "mail", "$"]);
    let of_trim = ["+exists", "+xinfo|groups", "+xlen", "+xpending", "+xtrim"];
    rights.extend(of_trim);
    let trim = || boxoffice(folder.path(), &["sale", "trim", "ticket", "--ledger", &url]);
    for right in of_trim {
        set_rights(&redis, &without(&rights, right));
        trim().expect(1).saying(&[right.trim_start_matches('+')]);
        assert_eq!(host.operator().get("/readyz").status, 200);
    }
    set_rights(&redis, &rights);
    trim().expect(0);
    assert_audit_agrees(folder.path(), "ticket", &url);
}

#[test]
fn a_command_that_was_renamed_is_named() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start_with(folder.path(), &["--rename-command", "ZADD", "secret-zadd"]);
    let host = Host::start(folder.path(), &["--cores", "0", "--ledger", &redis.url()]);
    let said = eventually("/readyz names it", PATIENCE, || {
        let answer = host.operator().get("/readyz");
        answer.text().contains("ZADD").then(|| answer.text().to_owned())
    });
    assert!(said.contains("renamed"), "{said}");
}

/// Buyers that insist on each id until it is booked. They know no other end: the sale is large enough.
struct Buyers {
    stop: Arc<AtomicBool>,
    booked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<BTreeSet<String>>>,
}

impl Buyers {
    fn start(hosts: &[SocketAddr], count: usize) -> Buyers {
        let (stop, booked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count)
            .map(|buyer| {
                let (stop, booked) = (Arc::clone(&stop), Arc::clone(&booked));
                let host = hosts[buyer % hosts.len()];
                std::thread::spawn(move || {
                    let mut client = Client::connect(host);
                    let mut ids = BTreeSet::new();
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let id = format!("b{buyer}-{number}");
                        insist(&mut client, &id, buyer);
                        booked.fetch_add(1, Ordering::Relaxed);
                        ids.insert(id);
                    }
                    ids
                })
            })
            .collect();
        Buyers { stop, booked, threads }
    }

    fn wait_for(&self, more: u64) {
        let goal = self.booked.load(Ordering::Relaxed) + more;
        eventually("buyers get tickets", PATIENCE, || {
            (self.booked.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    fn finish(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|buyer| buyer.join().expect("a buyer does not panic")).collect()
    }
}

fn insist(client: &mut Client, id: &str, buyer: usize) {
    let started = Instant::now();
    loop {
        let answer =
            client.put(&format!("/v1/sales/ticket/bookings/{id}"), &format!(r#"{{"buyer":"u-{buyer}"}}"#));
        match answer.status {
            200 | 201 => return,
            503 | 409 => assert!(started.elapsed() < INSISTENCE, "{id}: {}", answer.text()),
            _ => panic!("{id}: {} {}", answer.status, answer.text()),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Each call that is on its way is carried out whole or not at all.
#[test]
fn a_right_that_is_taken_away_in_mid_sale_leaves_nothing_half_done() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let rights = documented_rights();
    set_rights(&redis, &rights);
    let url = format!("redis://boxoffice:secret@{}/0", redis.address());
    let terms = "ticket=1000000,hold=10m,per-buyer=1000000";
    let words = ["--sale", terms, "--ledger", &url, "--ledger-timeout", "1s"];
    let hosts = [Host::start(folder.path(), &words), Host::start(folder.path(), &words)];
    let buyers = Buyers::start(&hosts.each_ref().map(|host| host.address), 12);
    for right in ["hset", "zadd", "hget", "xadd", "hmget", "evalsha", "zrem", "hdel"] {
        buyers.wait_for(100);
        redis.command(&["acl", "setuser", "boxoffice", &format!("-{right}")]);
        for host in &hosts {
            eventually(&format!("/readyz names {right}"), PATIENCE, || {
                let answer = host.operator().get("/readyz");
                (answer.status == 503 && answer.text().contains(right)).then_some(())
            });
        }
        redis.command(&["acl", "setuser", "boxoffice", &format!("+{right}")]);
        for host in &hosts {
            eventually("it sells again", PATIENCE, || {
                (host.operator().get("/readyz").status == 200).then_some(())
            });
        }
    }
    let ids = buyers.finish();
    let sale = hosts[0].operator().get("/v1/sales/ticket").expect(200).json();
    assert_eq!(sale["held"], ids.len(), "{sale}");
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// On a Redis that cannot be asked for a right (6.2), each command is tried instead.
#[test]
fn rights_are_found_missing_by_trial_as_well() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let script = include_str!("../../lua/rights.lua").replace("redis.acl_check_cmd", "nil");
    let commands: Vec<&str> = script.split("['").skip(1).filter_map(|part| part.split("']").next()).collect();
    assert!(commands.len() > 50, "{commands:?}");
    let ask = |rights: &[&str]| {
        redis.command(
            &[&["acl", "setuser", "poor", "reset", "on", ">secret", "~bx:*", "+eval"], rights].concat(),
        );
        let user = [
            "--user",
            "poor",
            "--pass",
            "secret",
            "--no-auth-warning",
            "eval",
            &script,
            "1",
            "bx:sales",
            "1",
        ];
        redis.command(&[&user[..], &commands].concat())
    };
    assert_eq!(ask(&["+@all"]).trim(), "");
    let all: Vec<String> = commands.iter().map(|command| format!("denied {command}")).collect();
    // Without HSET there is nothing to try some of them on.
    let found = ask(&["+hset", "+hdel"]);
    let denied: Vec<&str> = found.lines().filter(|line| !line.starts_with("refused")).collect();
    let expected: Vec<&String> =
        all.iter().filter(|line| !["denied HSET", "denied HDEL"].contains(&line.as_str())).collect();
    assert_eq!(denied, expected);
    assert_eq!(redis.command(&["keys", "*"]).trim(), "", "something was left");
    for (setting, on, off, word) in
        [("maxmemory", "1", "0", "refused OOM"), ("min-replicas-to-write", "1", "0", "refused NOREPLICAS")]
    {
        redis.command(&["config", "set", setting, on]);
        let told = ask(&["+@all"]);
        assert!(told.contains(word), "{told}");
        redis.command(&["config", "set", setting, off]);
    }
}
