//! A Redis Cluster of three primaries, a replica of each, and nodes that may join it, each on a port of its own.

use std::time::{Duration, Instant};

use super::redis_server::RedisServer;
use super::{PATIENCE, eventually, free_port};

/// Slots of a Cluster.
const SLOTS: usize = 16_384;

/// See the [module](self).
pub struct ClusterSet {
    /// The first three were the primaries at the start, each with a third of the slots, and the next three their replicas.
    pub nodes: Vec<RedisServer>,
    options: Vec<String>,
}

impl ClusterSet {
    /// All in step. Every node gets these options.
    pub fn start(options: &[&str]) -> ClusterSet {
        ClusterSet::of(6, options)
    }

    /// Without replicas.
    pub fn of_primaries(options: &[&str]) -> ClusterSet {
        ClusterSet::of(3, options)
    }

    fn of(count: usize, options: &[&str]) -> ClusterSet {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut set = ClusterSet { nodes: Vec::new(), options };
        set.nodes = (0..count).map(|_| set.node()).collect();
        let port_of = |node: &RedisServer| node.address().port().to_string();
        for node in 0..count {
            set.ok(node, &["cluster", "set-config-epoch", &(node + 1).to_string()]);
            set.meet(node);
        }
        for primary in 0..3 {
            let (first, end) = (SLOTS * primary / 3, SLOTS * (primary + 1) / 3);
            let range = [first.to_string(), (end - 1).to_string()];
            set.ok(primary, &["cluster", "addslotsrange", &range[0], &range[1]]);
        }
        set.wait_until_known(count);
        for replica in 3..count {
            let id = set.id(replica - 3);
            eventually(&format!("{} takes a primary", port_of(&set.nodes[replica])), PATIENCE, || {
                let said = set.nodes[replica].try_command(&["cluster", "replicate", &id]);
                said.is_ok_and(|said| said.starts_with("OK")).then_some(())
            });
        }
        set.settle();
        set
    }

    /// One more node, of no Cluster yet.
    fn node(&self) -> RedisServer {
        let bus = free_port().to_string();
        let own = [
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
            // A node whose last slot has gone stays what it is.
            "--cluster-allow-replica-migration",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let options: Vec<&str> = own.into_iter().chain(self.options.iter().map(String::as_str)).collect();
        RedisServer::durable_on_port(&options)
    }

    /// Has it join; gives its place.
    pub fn add(&mut self) -> usize {
        let node = self.node();
        self.nodes.push(node);
        let place = self.nodes.len() - 1;
        self.meet(place);
        self.wait_until_known(self.nodes.len());
        // It takes part only after a while.
        self.settle();
        place
    }

    fn meet(&self, node: usize) {
        let port = self.nodes[0].address().port().to_string();
        let bus = self.nodes[0].command(&["config", "get", "cluster-port"]);
        let bus = bus.lines().nth(1).expect("it has one").trim().to_owned();
        self.ok(node, &["cluster", "meet", "127.0.0.1", &port, &bus]);
    }

    /// Has a node do that; `redis-cli` takes an error for an answer.
    #[track_caller]
    fn ok(&self, node: usize, words: &[&str]) {
        let said = self.nodes[node].command(words);
        assert!(said.starts_with("OK"), "{words:?}: {said}");
    }

    /// Waits until each node knows that many, and each slot.
    fn wait_until_known(&self, count: usize) {
        eventually("the nodes know each other", PATIENCE, || {
            let knows = |node: &RedisServer| {
                let said = node.try_command(&["cluster", "info"]).unwrap_or_default();
                let has = |fact: String| said.lines().any(|line| line.trim() == fact);
                has(format!("cluster_known_nodes:{count}")) && has(format!("cluster_slots_ok:{SLOTS}"))
            };
            self.nodes.iter().all(knows).then_some(())
        });
    }

    /// As `--ledger` takes it.
    pub fn url(&self) -> String {
        let places: Vec<_> = self.nodes.iter().take(3).map(|node| node.address().to_string()).collect();
        format!("redis+cluster://{}", places.join(","))
    }

    /// The name of that node in the Cluster.
    pub fn id(&self, node: usize) -> String {
        self.nodes[node].command(&["cluster", "myid"]).trim().to_owned()
    }

    /// Which node that runs has the slot, as all that run agree.
    pub fn owner(&self, slot: u16) -> Option<usize> {
        let mut named = self.nodes.iter().filter_map(|node| {
            let said = node.try_command(&["cluster", "nodes"]).ok()?;
            Some(said.lines().find(|line| has_slot(line, slot)).and_then(port_in))
        });
        let first = named.next()??;
        let all_agree = named.all(|port| port == Some(first));
        let place = self.nodes.iter().position(|node| node.address().port() == first)?;
        (all_agree && is_primary(&self.nodes[place])).then_some(place)
    }

    /// Waits until another than that has the slot.
    #[track_caller]
    pub fn wait_for_another(&self, slot: u16, than: usize) -> usize {
        eventually("another node has the slot", PATIENCE, || self.owner(slot).filter(|owner| *owner != than))
    }

    /// Waits until each primary has its replica, where there are any, and each node takes the Cluster for whole.
    #[track_caller]
    pub fn settle(&self) {
        eventually("the Cluster is in step", 2 * PATIENCE, || {
            let is_settled = |node: &RedisServer| {
                let role = node.try_command(&["info", "replication"]).unwrap_or_default();
                let info = node.try_command(&["cluster", "info"]).unwrap_or_default();
                let is_in_step = match role.contains("role:master") {
                    true => true,
                    false => role.contains("master_link_status:up"),
                };
                is_in_step && info.contains("cluster_state:ok") && info.contains(&format!("slots_ok:{SLOTS}"))
            };
            self.nodes.iter().all(is_settled).then_some(())
        });
    }

    /// Waits until that primary has a replica online.
    #[track_caller]
    pub fn wait_for_replica(&self, primary: usize) {
        eventually("its replica is in step", PATIENCE, || {
            let said = self.nodes[primary].try_command(&["info", "replication"]).unwrap_or_default();
            said.contains("state=online").then_some(())
        });
    }

    /// Has its replica take the place of the primary of that slot, as an operator does by hand: again if it comes to nothing,
    /// as on a machine that is too busy for it.
    #[track_caller]
    pub fn fail_over(&self, slot: u16, primary: usize) -> usize {
        let mut asked_at: Option<Instant> = None;
        eventually("a failover by hand", 2 * PATIENCE, || {
            if asked_at.is_none_or(|at| at.elapsed() > Duration::from_secs(8))
                && let Some(replica) = self.replica_of(primary)
            {
                asked_at = Some(Instant::now());
                // Refused while one is under way.
                let _ = self.nodes[replica].try_command(&["cluster", "failover"]);
            }
            self.owner(slot).filter(|owner| *owner != primary)
        })
    }

    /// A replica of that primary.
    fn replica_of(&self, primary: usize) -> Option<usize> {
        let port = format!("master_port:{}", self.nodes[primary].address().port());
        self.nodes.iter().position(|node| {
            let said = node.try_command(&["info", "replication"]).unwrap_or_default();
            said.lines().any(|line| line.trim() == port)
        })
    }

    /// Moves a slot from one node to another, as `redis-cli --cluster reshard` does: step by step, so that for a while some of
    /// its keys are here and some are there. What is `between` runs when half of them are over.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize, between: impl FnOnce()) {
        let number = slot.to_string();
        let (source, target) = (self.id(from), self.id(to));
        self.ok(to, &["cluster", "setslot", &number, "importing", &source]);
        self.ok(from, &["cluster", "setslot", &number, "migrating", &target]);
        let keys = self.nodes[from].command(&["cluster", "getkeysinslot", &number, "1000"]);
        let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
        let (first, rest) = keys.split_at(keys.len() / 2);
        self.migrate(first, from, to);
        between();
        self.migrate(rest, from, to);
        loop {
            // What was written meanwhile.
            let more = self.nodes[from].command(&["cluster", "getkeysinslot", &number, "1000"]);
            let more: Vec<&str> = more.lines().filter(|key| !key.is_empty()).collect();
            if more.is_empty() {
                break;
            }
            self.migrate(&more, from, to);
        }
        let primaries = self.nodes.iter().filter(|node| is_primary(node));
        self.ok(to, &["cluster", "setslot", &number, "node", &target]);
        self.ok(from, &["cluster", "setslot", &number, "node", &target]);
        for node in primaries {
            let _ = node.try_command(&["cluster", "setslot", &number, "node", &target]);
        }
    }

    fn migrate(&self, keys: &[&str], from: usize, to: usize) {
        if keys.is_empty() {
            return;
        }
        let port = self.nodes[to].address().port().to_string();
        let words = ["migrate", "127.0.0.1", &port, "", "0", "5000", "keys"];
        self.ok(from, &[&words[..], keys].concat());
    }
}

fn is_primary(node: &RedisServer) -> bool {
    node.try_command(&["role"]).is_ok_and(|said| said.starts_with("master"))
}

/// Whether a line of CLUSTER NODES is of a primary that has the slot and that nobody takes for dead.
fn has_slot(line: &str, slot: u16) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let is_alive = words.get(2).is_some_and(|flags| flags.contains("master") && !flags.contains("fail"));
    let covers = |word: &&str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
    };
    is_alive && words.iter().skip(8).any(covers)
}

/// The port in such a line.
fn port_in(line: &str) -> Option<u16> {
    let address = line.split(' ').nth(1)?.split('@').next()?;
    address.rsplit(':').next()?.parse().ok()
}
