//! Hosts that share a Redis know of each other, share the crowd by their weights, and leave nothing to one that is gone.

use serde_json::Value;

use crate::sells_exactly::assert_exact;
use crate::support::crowd::rush;
use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::{PATIENCE, eventually, turn};

struct Fleet {
    folder: tempfile::TempDir,
    redis: RedisServer,
    hosts: Vec<Host>,
}

impl Fleet {
    /// Hosts of these weights, which know of each other.
    fn start(weights: &[u32], sale: &str) -> Fleet {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(folder.path());
        let mut fleet = Fleet { folder, redis, hosts: Vec::new() };
        for weight in weights {
            let host = fleet.host(*weight, sale);
            fleet.hosts.push(host);
        }
        fleet.wait_until_all_know(weights.len());
        fleet
    }

    fn host(&self, weight: u32, sale: &str) -> Host {
        let state = format!("{}.state", self.hosts.len());
        let words = [
            "--ledger",
            &self.redis.url(),
            "--sale",
            sale,
            "--weight",
            &weight.to_string(),
            "--state",
            &state,
        ];
        Host::start(self.folder.path(), &words)
    }

    fn wait_until_all_know(&self, live: usize) {
        for host in &self.hosts {
            eventually(&format!("{live} hosts are known"), PATIENCE, || {
                (live_addresses(host).len() == live).then_some(())
            });
        }
    }
}

fn told(host: &Host) -> Vec<Value> {
    let told = host.operator().get("/v1/hosts").expect(200).json();
    told["hosts"].as_array().unwrap().clone()
}

fn live_addresses(host: &Host) -> Vec<String> {
    let live = told(host).into_iter().filter(|host| host["status"] == "live");
    live.map(|host| host["address"].as_str().unwrap().to_owned()).collect()
}

fn share(host: &Host) -> f64 {
    host.metrics()["boxoffice_share"]
}

#[test]
fn shares_are_by_weight_and_follow_those_who_live() {
    let _turn = turn::shared();
    let mut fleet = Fleet::start(&[1, 2, 5], "ticket=1000");
    let url = fleet.redis.url();
    let addresses: Vec<String> = fleet.hosts.iter().map(|host| host.address.to_string()).collect();
    let mut sorted = addresses.clone();
    sorted.sort();
    for (host, expected) in fleet.hosts.iter().zip([0.125, 0.25, 0.625]) {
        assert_eq!(live_addresses(host), sorted);
        assert_eq!(share(host), expected);
        let told = told(host);
        let own: Vec<&Value> = told.iter().filter(|row| row["is_this"] == true).collect();
        assert_eq!(own.len(), 1, "{told:?}");
        assert_eq!(
            (&own[0]["address"], &own[0]["share"]),
            (&host.address.to_string().into(), &expected.into())
        );
        assert_eq!(own[0]["version"], env!("CARGO_PKG_VERSION"));
        // As a whole, of 1,000 tickets 1,200 permits.
        eventually("permits are dealt by the share", PATIENCE, || {
            let permits: f64 = host
                .metrics()
                .iter()
                .filter(|(name, _)| name.starts_with("boxoffice_permits_free"))
                .map(|(_, count)| count)
                .sum();
            (permits == 1_200.0 * expected).then_some(())
        });
    }
    // The commands see the same.
    let table = boxoffice(fleet.folder.path(), &["hosts", "--ledger", &url]).expect(0);
    table.saying(&["12.5 %", "25.0 %", "62.5 %", &addresses[0], &addresses[1], &addresses[2]]);
    let block = boxoffice(fleet.folder.path(), &["nginx", "--ledger", &url]).expect(0).said;
    for (address, weight) in addresses.iter().zip([1, 2, 5]) {
        assert!(block.contains(&format!("server {address} weight={weight} ")), "{block}");
    }

    // One dies: it is silent, and its share is the others'.
    fleet.hosts[2].process.kill();
    eventually("the shares of those who live", PATIENCE, || {
        let shares = [share(&fleet.hosts[0]), share(&fleet.hosts[1])];
        (shares == [1.0 / 3.0, 2.0 / 3.0]).then_some(())
    });
    let gone = told(&fleet.hosts[0]).into_iter().find(|row| row["address"] == addresses[2].as_str()).unwrap();
    assert_eq!((&gone["status"], &gone["share"]), (&"silent".into(), &0.0.into()));
    assert_eq!(fleet.hosts[0].metrics()["boxoffice_hosts{status=\"silent\"}"], 1.0);
    boxoffice(fleet.folder.path(), &["hosts", "--ledger", &url]).expect(0).saying(&["silent, "]);
    let block = boxoffice(fleet.folder.path(), &["nginx", "--ledger", &url]).expect(0).said;
    assert!(!block.contains(&addresses[2]), "{block}");

    // One drains: it says so itself, and nobody waits for it to be missed.
    fleet.hosts[1].stop();
    eventually("one is alone", PATIENCE, || (share(&fleet.hosts[0]) == 1.0).then_some(()));
    assert!(!told(&fleet.hosts[0]).iter().any(|row| row["address"] == addresses[1].as_str()));

    // One comes.
    let newcomer = fleet.host(3, "ticket=1000");
    eventually("there are two", PATIENCE, || {
        ([share(&fleet.hosts[0]), share(&newcomer)] == [0.25, 0.75]).then_some(())
    });
}

/// The whole crowd is on the host that has a hundredth of the weights.
#[test]
fn a_host_of_a_small_share_sells_all_there_is_and_tells_nobody_sold_out_in_vain() {
    let _turn = turn::alone();
    let fleet = Fleet::start(&[1, 99], "ticket=2000");
    let crowded = &fleet.hosts[0];
    assert_exact(&rush(&[crowded.address], "ticket", 50, 60, 4), 2_000, 3_000);
    crowded.expect_sold("ticket", 2_000);
    let metrics = crowded.metrics();
    let entries: f64 = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("boxoffice_ledger_entries"))
        .map(|(_, count)| count)
        .sum();
    // What this host could ask for: no more than there is, and what its share may have had too much in the end.
    assert!((2_000.0..=2_002.0).contains(&entries), "{entries} claims for 2000 tickets");
    assert_audit_agrees(fleet.folder.path(), "ticket", &fleet.redis.url());
}

/// Operators' hands: what hosts tell of themselves is deleted, or something else is put there.
#[test]
fn what_becomes_of_the_list_of_hosts_keeps_nobody_from_selling() {
    let _turn = turn::shared();
    let fleet = Fleet::start(&[1, 1], "ticket=1000");
    fleet.redis.command(&["del", "bx:hosts"]);
    fleet.wait_until_all_know(2);
    fleet.redis.command(&["set", "bx:hosts", "mine"]);
    let host = &fleet.hosts[0];
    eventually("it is logged", PATIENCE, || {
        host.process.said().contains("the ledger does not tell which hosts share it").then_some(())
    });
    assert_exact(&rush(&[host.address], "ticket", 4, 50, 1), 200, 200);
    assert_eq!(share(host), 0.5, "it keeps the share that it had");
    boxoffice(fleet.folder.path(), &["hosts", "--ledger", &fleet.redis.url()])
        .expect(1)
        .saying(&["bx:hosts", "Delete that key"]);
    fleet.redis.command(&["del", "bx:hosts"]);
    eventually("they hear of each other again", PATIENCE, || {
        host.process.said().contains("this host hears of others again").then_some(())
    });
    let told = host.process.said().matches("does not tell which hosts share it").count();
    assert_eq!(told, 1, "once, and not with each beat");
}

#[test]
fn a_ledger_without_hosts_is_no_configuration() {
    let _turn = turn::shared();
    let redis = RedisServer::on_socket(&[]);
    let folder = tempfile::tempdir().unwrap();
    let ended = boxoffice(folder.path(), &["nginx", "--ledger", &redis.url()]).expect(1);
    ended.saying(&["no host that shares this ledger"]);
    boxoffice(folder.path(), &["hosts", "--ledger", &redis.url()]).expect(0).saying(&["No host"]);
    let advertised = "edge-1.example.org:80";
    let mut host = Host::start(folder.path(), &["--ledger", &redis.url(), "--advertise", advertised]);
    eventually("it says where it is", PATIENCE, || {
        let block = boxoffice(folder.path(), &["nginx", "--ledger", &redis.url()]);
        (block.status.success() && block.said.contains("server edge-1.example.org:80 weight=1 "))
            .then_some(())
    });
    // A drain that begins as the host starts: it takes itself out all the same.
    host.stop();
    boxoffice(folder.path(), &["nginx", "--ledger", &redis.url()]).expect(1);
}
