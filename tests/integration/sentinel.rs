//! A Redis whose primary is whoever the sentinels name: hosts and commands find it, follow it, and wait where nobody is named.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::sentinels::{NAME, SentinelSet};
use crate::support::{PATIENCE, eventually, one_core, turn};

/// Nobody is taken for dead because the machine is busy.
const PATIENT: &str = "sentinel down-after-milliseconds mymaster 4000";

fn booked(host: &Host, id: &str) {
    let answer = host.client().insist("PUT", &format!("/v1/sales/ticket/bookings/{id}"), Some("{}"));
    assert!(answer.is_booked(), "{id}: {}", answer.text());
}

#[test]
fn hosts_and_commands_follow_the_primary_that_sentinels_name() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut set = SentinelSet::start(&[], &[PATIENT]);
    let url = set.url();
    let words = ["--ledger", &url, "--state", "none", "--sale", "ticket=100", "--durability", "replicas=1"];
    let hosts = [0, 1].map(|_| Host::start(folder.path(), &words));
    assert!(
        hosts[0].greeting.iter().any(|line| line.contains(&format!("{url}/0"))),
        "{:?}",
        hosts[0].greeting
    );
    hosts.iter().zip(["a", "b"]).for_each(|(host, id)| booked(host, id));

    // It dies.
    set.nodes[0].kill();
    set.wait_for_another(0);
    hosts.iter().zip(["c", "d"]).for_each(|(host, id)| booked(host, id));
    // By the admin listener and by commands as well.
    hosts[0].operator().put("/v1/sales/ticket", "{\"total\":200}").expect(200);
    boxoffice(folder.path(), &["sale", "list", "--ledger", &url]).expect(0).saying(&["ticket", "200"]);
    assert_audit_agrees(folder.path(), "ticket", &url);

    // It comes back as a replica, and takes the place again by an operator's hand.
    set.nodes[0].start_again();
    let second = set.settle();
    set.fail_over(second);
    set.wait_for_another(second);
    hosts.iter().zip(["e", "f"]).for_each(|(host, id)| booked(host, id));
    for (host, id) in hosts.iter().zip(["b", "a"]) {
        host.client().get(&format!("/v1/sales/ticket/bookings/{id}")).expect(200);
        host.expect_ready();
    }
    assert_audit_agrees(folder.path(), "ticket", &url);
    for mut host in hosts {
        host.stop();
    }
}

/// The primary goes on writing for whoever asks it, and sentinels and replicas cannot reach it any more.
#[test]
fn a_primary_that_goes_on_writing_after_another_was_named_is_left_at_once() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let set = SentinelSet::start(&[], &[PATIENT]);
    let url = set.url();
    // One loop, since each tells what it meets while no other is in trouble.
    let core = one_core();
    let words = ["--ledger", &url, "--state", "none", "--sale", "ticket=100", "--cores", &core];
    let mut host = Host::start(folder.path(), &words);
    booked(&host, "a");
    set.wait_for_replicas(0, 2);
    set.cut_off(0);
    // Nobody but the old one has these: the host alone remembers them.
    for id in ["b", "c"] {
        booked(&host, id);
    }
    let next = set.wait_for_another(0);
    assert!(set.is_primary(0), "it has not heard of that");
    host.process
        .expect_lines_with(&["the sentinels name the primary", &set.nodes[next].address().to_string()], 1);
    // No connection was lost: the host left it.
    host.process.expect_lines_with(&["is not the primary any more"], 1);
    booked(&host, "d");
    host.expect_ready();
    for id in ["a", "b", "c", "d"] {
        host.client().get(&format!("/v1/sales/ticket/bookings/{id}")).expect(200);
    }
    let metrics = host.operator().get("/metrics").expect(200);
    let lines = metrics.text().lines().filter(|line| line.starts_with("boxoffice_bookings_put_back_total"));
    let count: f64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!(count >= 2.0, "{}", metrics.text());
    set.let_in(0);
    set.wait_for_replica(0);
    booked(&host, "e");
    assert_audit_agrees(folder.path(), "ticket", &url);
    host.stop();
}

#[test]
fn who_has_no_majority_names_nobody() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut set = SentinelSet::start(&[], &[PATIENT]);
    let url = set.url();
    let words = ["--ledger", &url, "--state", "none", "--sale", "ticket=100"];
    let mut host = Host::start(folder.path(), &words);
    booked(&host, "a");
    // What stands needs no sentinel.
    set.sentinels[0].kill();
    set.sentinels[1].kill();
    booked(&host, "b");
    host.expect_ready();
    host.process.expect_lines_with(&["a sentinel does not name the primary"], 2);
    host.process.expect_lines_with(&["the sentinels name no primary any more"], 1);
    // What is lost does: the one that is left may be cut off with a primary of the past. The others have answered until now,
    // which counts for a moment.
    eventually("nobody is named", PATIENCE, || {
        set.nodes[0].command(&["client", "kill", "type", "normal"]);
        host.operator().get("/readyz").text().contains("no 2 of 3 sentinels agree").then_some(())
    });
    host.expect_unready(&["no 2 of 3 sentinels agree", "Connection refused", "names 127.0.0.1:"]);
    let Err(ended) = Host::try_start(folder.path(), &words) else { panic!("it starts") };
    ended.expect(1).saying(&["no 2 of 3 sentinels agree on the primary \"mymaster\""]);
    host.client().put("/v1/sales/ticket/bookings/c", "{}").expect_problem(503, "ledger-unavailable");
    set.sentinels[1].start_again();
    booked(&host, "c");
    host.expect_ready();
    host.stop();
}

/// Answers each question with this address.
fn liar(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    let port = port.to_string();
    let reply = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let reply = reply.clone();
            std::thread::spawn(move || {
                let asked = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                for _ in asked.filter(|word| word == NAME || word == "+switch-master") {
                    if stream.write_all(reply.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    at
}

#[test]
fn a_sentinel_that_lies_is_outvoted_and_one_that_is_half_of_them_is_waited_for() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let set = SentinelSet::start(&[], &[PATIENT]);
    let other = RedisServer::durable_on_port(&[]);
    let liar = liar(other.address().port());
    let [first, second, _] = &set.sentinels[..] else { unreachable!() };
    let url = format!(
        "redis+sentinel://127.0.0.1:{liar},127.0.0.1:{},127.0.0.1:{}/{NAME}",
        first.port, second.port
    );
    let mut host = Host::start(folder.path(), &["--ledger", &url, "--state", "none", "--sale", "ticket=100"]);
    booked(&host, "a");
    assert!(set.nodes[0].command(&["exists", "bx:{ticket}:stock"]).starts_with('1'));
    host.stop();
    let url = format!("redis+sentinel://127.0.0.1:{liar},127.0.0.1:{}/{NAME}", first.port);
    let ended = boxoffice(folder.path(), &["sale", "list", "--ledger", &url]).expect(1);
    ended.saying(&["no 2 of 2 sentinels agree", &format!("127.0.0.1:{liar} names {}", other.address())]);
    assert_eq!(other.command(&["dbsize"]).trim(), "0", "nobody was sent there");
}

#[test]
fn sentinels_have_a_password_of_their_own_and_say_what_is_wrong() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    // The sentinels know each other by it, too.
    let set = SentinelSet::start(
        &[],
        &[
            PATIENT,
            "user asks on >hunter2 +auth +client +ping +sentinel|get-master-addr-by-name &* +subscribe",
        ],
    );
    let url = set.url();
    let list = |words: &[&str]| boxoffice(folder.path(), &[&["sale", "list"], words].concat());
    std::fs::write(folder.path().join("password"), "hunter2\n").unwrap();
    let login = ["--ledger-sentinel-user", "asks", "--ledger-sentinel-password-file", "password"];
    list(&[&["--ledger", &url][..], &login].concat()).expect(0);
    let gone = ["--ledger-sentinel-password-file", "gone"];
    let said = ["cannot read the sentinels' password from gone: No such file"];
    list(&[&["--ledger", &url][..], &gone].concat()).expect(2).saying(&said);
    let encrypted = url.replace("redis+", "rediss+");
    list(&["--ledger", &encrypted, "--ledger-ca", "gone"])
        .expect(2)
        .saying(&["--ledger-ca gone: cannot be read: No such file"]);
    list(&["--ledger", &encrypted]).expect(1).saying(&["is it the plain port?"]);
    std::fs::write(folder.path().join("password"), "hunter3\n").unwrap();
    list(&[&["--ledger", &url][..], &login].concat()).expect(1).saying(&["WRONGPASS"]);
    let unknown = url.replace(NAME, "nobody");
    list(&["--ledger", &unknown]).expect(1).saying(&["knows no primary \"nobody\""]);
    // A Redis where a sentinel should be, and the other way round.
    let redis = format!("redis+sentinel://{}/{NAME}", set.nodes[0].address());
    list(&["--ledger", &redis]).expect(1).saying(&["ERR unknown command 'SENTINEL'"]);
    list(&["--ledger", "redis://h", "--ledger-sentinel-user", "asks"])
        .expect(2)
        .saying(&["is for redis+sentinel://"]);
}

/// A host at a fixed address that is a replica's: whatever it would write there is lost.
#[test]
fn a_replica_at_a_fixed_address_is_not_sold_from_even_if_it_takes_writes() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let primary = RedisServer::durable_on_port(&[]);
    let mut replica = RedisServer::durable_on_port(&["--replica-read-only", "no"]);
    replica.follow(&primary);
    let url = replica.url();
    let mut host = Host::start(folder.path(), &["--ledger", &url, "--state", "none"]);
    let address = primary.address().to_string();
    host.expect_unready(&["this Redis is a replica of ", &address, "REPLICAOF NO ONE"]);
    replica.command(&["replicaof", "no", "one"]);
    host.expect_ready();
    host.stop();
}
