//! A primary that dies and a replica that takes its place, behind one address.

use std::time::{Duration, Instant};

use crate::checker::Rule;
use crate::proxy::{Cut, RedisProxy};
use crate::scene::Scene;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, free_port};
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[(
    "primary killed and a replica promoted, --durability replicas=1",
    "every acknowledged booking is on the replica, also where it was cut off before; until there is another replica, 503",
    with_a_replica,
)];

/// A Redis that can have replicas, and be one.
pub struct Node {
    /// Its process.
    pub redis: RedisServer,
    port: u16,
}

impl Node {
    fn start() -> Node {
        let port = free_port();
        let words = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"];
        Node { redis: RedisServer::durable_on_socket(&words), port }
    }

    /// Makes it a replica of another; returns once it has all that the other has.
    fn follow(&self, primary: &Node) {
        self.redis.command(&["replicaof", "127.0.0.1", &primary.port.to_string()]);
        eventually("a replica is in step", Duration::from_secs(20), || {
            primary.redis.command(&["info", "replication"]).contains("state=online").then_some(())
        });
    }

    /// How far it has come in the stream of replication: what a primary wrote, what a replica carried out.
    fn offset(&self) -> u64 {
        let said = self.redis.command(&["info", "replication"]);
        let of = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        of("slave_repl_offset:").or_else(|| of("master_repl_offset:")).expect("an offset")
    }
}

/// Two Redis, the second following the first; a proxy that leads to the first; hosts that know the proxy alone.
pub struct Pair {
    /// Where the proxy leads at first.
    primary: Node,
    /// What follows it.
    pub replica: Node,
    /// What hosts know as their ledger.
    proxy: RedisProxy,
    /// The hosts; its judge looks at the replica.
    pub scene: Scene,
}

impl Pair {
    /// Starts all of it, with two hosts.
    pub fn start(durability: &str) -> Pair {
        let (primary, replica) = (Node::start(), Node::start());
        replica.follow(&primary);
        let socket = primary.redis.folder().join("proxy.sock");
        let proxy = RedisProxy::start(&socket, &primary.redis.socket(), || Cut::Never);
        // The judge looks at what is left in the end.
        let scene = Scene::with_redis(&proxy.url(), &replica.redis.url(), 2, &["--durability", durability]);
        Pair { primary, replica, proxy, scene }
    }

    /// Cuts the replica off once it has all that was written until now: it keeps what it has, and gets no more.
    pub fn cut_off(&self) {
        let written = self.primary.offset();
        eventually("the replica has what was written", Duration::from_secs(20), || {
            (self.replica.offset() >= written).then_some(())
        });
        self.replica.redis.command(&["replicaof", "127.0.0.1", "1"]);
    }

    /// Kills the primary and makes the replica one, with what it has. Nothing leads there yet.
    pub fn promote(&mut self) {
        self.primary.redis.kill();
        self.replica.redis.command(&["replicaof", "no", "one"]);
    }

    /// Leads the hosts to what was the replica.
    pub fn switch(&self) {
        self.proxy.switch_to(&self.replica.redis.socket());
    }
}

fn with_a_replica(effort: &Effort) -> Row {
    let mut row = Row::default();
    for run in 0..2 * effort.runs {
        let mut pair = Pair::start("replicas=1");
        let crowd = pair.scene.buyers("crowd", 10);
        crowd.wait_for(100);
        if run % 2 == 0 {
            // What is booked from now on only the primary has.
            pair.cut_off();
            let from = Instant::now();
            std::thread::sleep(Duration::from_millis(1_500));
            pair.scene.unable_since(from, &crowd);
        }
        pair.promote();
        pair.switch();
        let alone = Instant::now();
        std::thread::sleep(Duration::from_millis(1_000));
        pair.scene.unable_since(alone, &crowd);
        let third = Node::start();
        third.follow(&pair.replica);
        crowd.wait_for(100);
        pair.scene.keep(crowd);
        row.judge(1, &mut pair.scene);
    }
    row.mutants.push(("durability ack, and hosts killed with the primary", forgotten_by_all()));
    row
}

/// What only a dead primary and dead hosts knew.
pub fn forgotten_by_all() -> crate::checker::Violation {
    let mut pair = Pair::start("ack");
    let crowd = pair.scene.buyers("crowd", 10);
    crowd.wait_for(50);
    pair.cut_off();
    crowd.wait_for(100);
    for host in 0..pair.scene.hosts.len() {
        pair.scene.kill_host(host);
    }
    pair.promote();
    pair.switch();
    for host in 0..pair.scene.hosts.len() {
        pair.scene.restart_host(host);
    }
    pair.scene.keep(crowd);
    pair.scene.expect_conviction(&[Rule::Lost])
}
