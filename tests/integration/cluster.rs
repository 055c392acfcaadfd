//! A Redis Cluster as a ledger: each sale on the node that has its slot, wherever that goes, and nobody stopped by another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::redis_connections::documented_rights;
use crate::support::clusters::ClusterSet;
use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::{PATIENCE, eventually, turn};

/// A sale in each third of the slots.
const IN_ALL: [&str; 3] = ["hello", "opera", "foo"];

/// The last of them, and its slot.
const LAST: (&str, u16) = ("foo", 12_182);

fn booked(host: &Host, sale: &str, id: &str) {
    let answer = host.client().insist("PUT", &format!("/v1/sales/{sale}/bookings/{id}"), Some("{}"));
    assert!(answer.is_booked(), "{sale} {id}: {}", answer.text());
}

/// Two hosts with a sale of so many tickets in each third of the slots.
fn hosts(folder: &std::path::Path, set: &ClusterSet, total: u32, words: &[&str]) -> Vec<Host> {
    let url = set.url();
    let sales: Vec<String> = IN_ALL.iter().map(|sale| format!("{sale}={total}")).collect();
    let mut all = vec!["--ledger", &url, "--state", "none"];
    for sale in &sales {
        all.extend(["--sale", sale]);
    }
    all.extend(words);
    (0..2).map(|_| Host::start(folder, &all)).collect()
}

/// Buyers of all sales who never let up, at both hosts; each sale has fewer tickets than they ask for.
struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Vec<(String, String)>>>,
}

impl Crowd {
    fn start(hosts: &[Host], name: &str) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            for sale in IN_ALL {
                let (mut client, stop, name) = (host.client(), Arc::clone(&stop), name.to_owned());
                threads.push(std::thread::spawn(move || {
                    let mut booked = Vec::new();
                    for turn in 0.. {
                        let id = format!("{name}-{number}-{turn}");
                        let path = format!("/v1/sales/{sale}/bookings/{id}");
                        if client.insist("PUT", &path, Some("{}")).is_booked() {
                            booked.push((sale.to_owned(), id));
                        }
                        if stop.load(Ordering::Relaxed) {
                            return booked;
                        }
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    booked
                }));
            }
        }
        Crowd { stop, threads }
    }

    /// What they were told they have.
    fn finish(self) -> Vec<(String, String)> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("a buyer does not panic")).collect()
    }
}

/// Each booking that was acknowledged is there, no sale has more than it had, and all accounts agree.
fn assert_kept(folder: &std::path::Path, url: &str, hosts: &[Host], told: &[(String, String)], total: u32) {
    for (sale, id) in told {
        let answer = hosts[0].client().insist("GET", &format!("/v1/sales/{sale}/bookings/{id}"), None);
        assert_eq!(answer.status, 200, "{sale} {id}: {}", answer.text());
    }
    for sale in IN_ALL {
        assert_audit_agrees(folder, sale, url);
        let count = told.iter().filter(|(its, _)| its == sale).count();
        assert!(count <= total as usize, "{count} bookings of {sale}");
    }
}

#[test]
fn each_sale_is_sold_exactly_and_seen_by_every_host_and_command() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let set = ClusterSet::start(&[]);
    let url = set.url();
    let total = 60;
    let hosts = hosts(folder.path(), &set, total, &["--durability", "replicas=1"]);
    assert!(hosts[0].greeting.iter().any(|line| line.contains(&url)), "{:?}", hosts[0].greeting);
    let crowd = Crowd::start(&hosts, "crowd");
    for sale in IN_ALL {
        eventually("it is sold out", PATIENCE, || {
            let answer = hosts[0].operator().get(&format!("/v1/sales/{sale}"));
            answer.text().contains("\"available\":0").then_some(())
        });
    }
    let told = crowd.finish();
    assert_eq!(told.len(), IN_ALL.len() * total as usize);
    assert_kept(folder.path(), &url, &hosts, &told, total);
    // Each node has some of it, and the names of its own sales.
    for (node, sale) in set.nodes.iter().zip(IN_ALL) {
        assert_eq!(node.command(&["exists", &format!("bx:{{{sale}}}:stock")]).trim(), "1");
        let names = node.command(&["keys", "bx:sales:*"]);
        let names = names.lines().map(|key| node.command(&["smembers", key.trim()]));
        assert_eq!(names.map(|names| names.trim().to_owned()).collect::<Vec<_>>(), [sale]);
    }

    // By commands, and a sale that another host learns of without any feed.
    let commands = |words: &[&str]| boxoffice(folder.path(), &[words, &["--ledger", &url]].concat());
    commands(&["sale", "list"]).expect(0).saying(&IN_ALL);
    commands(&["sale", "open", "late", "--stock", "5"]).expect(0);
    for host in &hosts {
        eventually("it is known", PATIENCE, || {
            (host.client().get("/v1/sales/late").status == 200).then_some(())
        });
    }
    booked(&hosts[0], "late", "a");
    // Stock that comes back sells on the other host as well.
    hosts[1].client().insist("DELETE", "/v1/sales/late/bookings/a", None).expect(200);
    for id in ["b", "c", "d", "e", "f"] {
        booked(&hosts[1], "late", id);
    }
    commands(&["sale", "trim", "late"]).expect(0);
    // Its name is lost, and not the sale: the hosts that know it name it again.
    unname(&set, "late");
    eventually("it is named again", PATIENCE, || {
        commands(&["sale", "list"]).expect(0).said.contains("late").then_some(())
    });
    commands(&["sale", "close", "late"]).expect(0);
    commands(&["sale", "remove", "late", "--yes"]).expect(0);
    let list = commands(&["sale", "list"]).expect(0).said;
    assert!(!list.contains("late"), "{list}");
    for host in &hosts {
        eventually("it is forgotten", PATIENCE, || {
            (host.client().get("/v1/sales/late").status == 404).then_some(())
        });
        host.expect_ready();
    }
    for mut host in hosts {
        host.stop();
    }
    // With no host that knows it an audit finds that, and mends it.
    unname(&set, "hello");
    commands(&["audit", "hello"]).expect(1);
    commands(&["audit", "hello", "--repair"]).expect(0);
    commands(&["audit", "hello"]).expect(0);
    commands(&["sale", "list"]).expect(0).saying(&["hello"]);
}

/// Takes the name of a sale away, wherever it is.
fn unname(set: &ClusterSet, sale: &str) {
    for node in &set.nodes[..3] {
        for key in node.command(&["keys", "bx:sales:*"]).lines() {
            node.command(&["srem", key.trim(), sale]);
        }
    }
}

#[test]
fn hosts_follow_a_primary_that_dies_and_one_that_is_replaced_by_hand() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut set = ClusterSet::start(&[]);
    let (url, total) = (set.url(), 100_000);
    // What its replica had not got, the hosts put back.
    let hosts = hosts(folder.path(), &set, total, &["--durability", "ack"]);
    let crowd = Crowd::start(&hosts, "crowd");
    let (sale, slot) = LAST;
    booked(&hosts[0], sale, "a");

    let first = set.owner(slot).expect("it has one");
    set.nodes[first].kill();
    let second = set.wait_for_another(slot, first);
    hosts.iter().zip(["b", "c"]).for_each(|(host, id)| booked(host, sale, id));
    set.nodes[first].start_again();
    set.settle();
    set.wait_for_replica(second);
    hosts.iter().for_each(Host::expect_ready);
    assert_audit_agrees(folder.path(), sale, &url);
    hosts[0].operator().put(&format!("/v1/sales/{sale}"), "{\"total\":200000}").expect(200);

    set.fail_over(slot, second);
    set.settle();
    hosts.iter().zip(["d", "e"]).for_each(|(host, id)| booked(host, sale, id));
    hosts.iter().for_each(Host::expect_ready);
    let told = crowd.finish();
    assert_kept(folder.path(), &url, &hosts, &told, total);
    for mut host in hosts {
        host.stop();
    }
}

/// With half of its keys on each node no script of the sale can run, and nobody is told anything untrue of it.
#[test]
fn a_slot_moves_there_and_back_under_load_and_to_a_node_that_joins() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut set = ClusterSet::of_primaries(&[]);
    let (url, total) = (set.url(), 100_000);
    let hosts = hosts(folder.path(), &set, total, &["--ledger-timeout", "2s"]);
    let crowd = Crowd::start(&hosts, "crowd");
    let (sale, slot) = LAST;
    booked(&hosts[0], sale, "a");
    let first = set.owner(slot).expect("it has one");
    let joined = set.add();
    for (from, to, id) in [(first, joined, "b"), (joined, first, "c"), (first, (first + 1) % 3, "d")] {
        set.move_slot(slot, from, to, || {
            std::thread::sleep(Duration::from_millis(200));
            // Nobody else waits for it.
            let other = hosts[0].client().put(&format!("/v1/sales/hello/bookings/half-{id}"), "{}");
            assert!(other.is_booked(), "{}", other.text());
            let answer = hosts[1].client().put(&format!("/v1/sales/{sale}/bookings/half-{id}"), "{}");
            assert_eq!(answer.status, 503, "{}", answer.text());
        });
        for (host, end) in hosts.iter().zip(["1", "2"]) {
            booked(host, sale, &format!("{id}-{end}"));
            booked(host, sale, &format!("half-{id}"));
            host.expect_ready();
        }
        assert_audit_agrees(folder.path(), sale, &url);
    }
    let told = crowd.finish();
    assert_kept(folder.path(), &url, &hosts, &told, total);
    for mut host in hosts {
        host.stop();
    }
}

#[test]
fn a_slot_without_a_primary_stops_its_own_sales_and_no_others() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut set = ClusterSet::of_primaries(&[]);
    let mut hosts = hosts(folder.path(), &set, 100, &[]);
    IN_ALL.iter().for_each(|sale| booked(&hosts[0], sale, "a"));
    let (sale, slot) = LAST;
    let dead = set.owner(slot).expect("it has one");
    set.nodes[dead].kill();
    let place = set.nodes[dead].address().to_string();
    for host in &hosts {
        host.expect_unready(&["no connection to the ledger", &place]);
        eventually("its sale is not sold", PATIENCE, || {
            let answer = host.client().put(&format!("/v1/sales/{sale}/bookings/b"), "{}");
            (answer.status == 503).then_some(())
        });
        for id in ["b", "c", "d"] {
            assert!(host.client().put(&format!("/v1/sales/hello/bookings/{id}"), "{}").is_booked());
        }
    }
    let said = boxoffice(folder.path(), &["sale", "list", "--ledger", &set.url()]).expect(1);
    said.saying(&[&place]);
    set.nodes[dead].start_again();
    set.settle();
    for host in &hosts {
        booked(host, sale, "b");
        host.expect_ready();
    }
    // It has lost everything: nobody opens its sales anew but an operator.
    set.nodes[dead].command(&["flushall"]);
    hosts[0].expect_unready(&["the ledger has lost", sale]);
    hosts.pop();
    let url = set.url();
    let late =
        Host::start(folder.path(), &["--ledger", &url, "--state", "none", "--sale", &format!("{sale}=100")]);
    late.expect_unready(&["the ledger has lost", sale]);
    late.client()
        .put(&format!("/v1/sales/{sale}/bookings/z"), "{}")
        .expect_problem(503, "ledger-unavailable");
    boxoffice(folder.path(), &["sale", "open", sale, "--stock", "7", "--ledger", &url]).expect(0);
    booked(&late, sale, "z");
    booked(&hosts[0], sale, "y");
}

/// The rights of one Redis, and those that a Cluster needs beside them.
#[test]
fn a_user_with_the_documented_rights_sells_and_without_one_of_them_nothing_is_sold() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let set = ClusterSet::of_primaries(&[]);
    let more = ["+asking", "+cluster|slots", "+cluster|info"];
    let all = [&documented_rights()[..], &more].concat();
    let allow = |rights: &[&str]| {
        for node in &set.nodes {
            node.command(&[&["acl", "setuser", "boxoffice", "reset"], rights].concat());
        }
    };
    allow(&all);
    let url = set.url().replace("://", "://boxoffice:secret@");
    let mut host = Host::start(folder.path(), &["--ledger", &url, "--state", "none", "--sale", "foo=100000"]);
    booked(&host, "foo", "a");
    host.expect_ready();
    for right in ["+asking", "+hset"] {
        allow(&all.iter().copied().filter(|other| *other != right).collect::<Vec<_>>());
        host.expect_unready(&["denies this user", right]);
        // Each loop asks each node, twice a second.
        let mut ids = 0..;
        eventually("nothing is sold", PATIENCE, || {
            let path = format!("/v1/sales/foo/bookings/{}-{}", &right[1..], ids.next()?);
            let answer = host.client().put(&path, "{}");
            (answer.status == 503).then_some(())
        });
        allow(&all);
        booked(&host, "foo", right.trim_start_matches('+'));
        host.expect_ready();
    }
    // Connections that stand need no map; a command does.
    allow(&all.iter().copied().filter(|other| !more[1..].contains(other)).collect::<Vec<_>>());
    boxoffice(folder.path(), &["sale", "list", "--ledger", &url])
        .expect(1)
        .saying(&["NOPERM", "cluster|info"]);
    booked(&host, "foo", "c");
    host.stop();
}

#[test]
fn what_is_no_cluster_is_told_as_that() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let one = crate::support::redis_server::RedisServer::durable_on_port(&[]);
    let list = |url: &str| boxoffice(folder.path(), &["sale", "list", "--ledger", url]).expect(1);
    list(&format!("redis+cluster://{}", one.address()))
        .saying(&["cluster support disabled", "one Redis is redis://HOST:PORT"]);
    list("redis+cluster://127.0.0.1:1").saying(&["no node of the Cluster says", "Connection refused"]);
}
