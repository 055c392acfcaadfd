//! A Redis with two replicas and three sentinels that look after them, each on a port of its own.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::Process;
use super::redis_server::RedisServer;
use super::{PATIENCE, eventually, free_port};

/// What the sentinels call the primary.
pub const NAME: &str = "mymaster";

/// The user by whom sentinels and replicas come: [`SentinelSet::cut_off`] locks it out.
const INSIDER: &str = "insider";

const INSIDERS_PASSWORD: &str = "within";

/// See the [module](self).
pub struct SentinelSet {
    /// The Redis; the first was the primary at the start.
    pub nodes: Vec<RedisServer>,
    /// Who looks after them.
    pub sentinels: Vec<Sentinel>,
}

/// One of those who look after them.
pub struct Sentinel {
    /// Where it listens.
    pub port: u16,
    file: PathBuf,
    _folder: TempDir,
    process: Process,
}

impl SentinelSet {
    /// All in step, and the sentinels know of each other. Every Redis gets these options, every sentinel these lines.
    pub fn start(options: &[&str], lines: &[&str]) -> SentinelSet {
        let insider = format!("user {INSIDER} on >{INSIDERS_PASSWORD} ~* &* +@all");
        let insider: Vec<_> = insider.split(' ').collect();
        let within =
            ["--masteruser", INSIDER, "--masterauth", INSIDERS_PASSWORD, "--repl-diskless-sync-delay", "0"];
        let words: Vec<&str> = [&["--user"][..], &insider[1..], &within, options].concat();
        let mut nodes: Vec<_> = (0..3).map(|_| RedisServer::durable_on_port(&words)).collect();
        let (primary, replicas) = nodes.split_at_mut(1);
        for replica in replicas {
            replica.follow(&primary[0]);
        }
        let mut set = SentinelSet { nodes, sentinels: Vec::new() };
        let port = set.nodes[0].address().port();
        set.sentinels = (0..3).map(|_| Sentinel::start(port, lines)).collect();
        eventually("the sentinels know of each other and of both replicas", PATIENCE, || {
            let said: Vec<_> =
                set.sentinels.iter().filter_map(|sentinel| sentinel.ask(&["master", NAME])).collect();
            let knows = |said: &String| {
                fact(said, "num-slaves") == Some("2") && fact(said, "num-other-sentinels") == Some("2")
            };
            (said.len() == 3 && said.iter().all(knows)).then_some(())
        });
        set
    }

    /// As `--ledger` takes it.
    pub fn url(&self) -> String {
        let places: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{NAME}", places.join(","))
    }

    /// Which of the nodes at least two sentinels name as the primary.
    pub fn primary(&self) -> Option<usize> {
        let named: Vec<_> = self.sentinels.iter().filter_map(Sentinel::primary).collect();
        let is_named =
            |node: &RedisServer| named.iter().filter(|port| **port == node.address().port()).count() >= 2;
        self.nodes.iter().position(is_named)
    }

    /// Waits until at least two of them name another than that; gives it, once it is a primary itself.
    #[track_caller]
    pub fn wait_for_another(&self, than: usize) -> usize {
        eventually("another primary is named, and is one", PATIENCE, || {
            self.primary().filter(|named| *named != than && self.is_primary(*named))
        })
    }

    /// Whether that node says that it is a primary.
    pub fn is_primary(&self, node: usize) -> bool {
        self.nodes[node].try_command(&["role"]).is_ok_and(|said| said.starts_with("master"))
    }

    /// Waits until that node follows another.
    #[track_caller]
    pub fn wait_for_replica(&self, node: usize) {
        eventually("it follows another", PATIENCE, || {
            let said = self.nodes[node].try_command(&["info", "replication"]).unwrap_or_default();
            (said.contains("role:slave") && said.contains("master_link_status:up")).then_some(())
        });
    }

    /// Waits until that many nodes follow the primary.
    #[track_caller]
    pub fn wait_for_replicas(&self, primary: usize, count: usize) {
        eventually("its replicas are in step", PATIENCE, || {
            let said = self.nodes[primary].try_command(&["info", "replication"]).unwrap_or_default();
            (said.matches("state=online").count() >= count).then_some(())
        });
    }

    /// Waits until the primary that is named has both of the others behind it, whichever that is by then: on a busy machine
    /// sentinels may take one for dead that is not.
    #[track_caller]
    pub fn settle(&self) -> usize {
        eventually("a primary with two replicas", PATIENCE, || {
            let primary = self.primary()?;
            let said = self.nodes[primary].try_command(&["info", "replication"]).ok()?;
            (said.contains("role:master") && said.matches("state=online").count() == 2).then_some(primary)
        })
    }

    /// Locks sentinels and replicas out of that node; whoever else is connected notices nothing. A sentinel that may not come
    /// as the user of its own comes as anybody, whose PING is denied as well.
    pub fn cut_off(&self, node: usize) {
        self.nodes[node].command(&["acl", "setuser", "default", "-ping"]);
        self.nodes[node].command(&["acl", "setuser", INSIDER, "off"]);
        self.nodes[node].command(&["client", "kill", "user", INSIDER]);
    }

    /// Lets them in again.
    pub fn let_in(&self, node: usize) {
        self.nodes[node].command(&["acl", "setuser", INSIDER, "on"]);
        self.nodes[node].command(&["acl", "setuser", "default", "+ping"]);
    }

    /// Has a replica take that primary's place, as an operator does by hand: again if it comes to nothing, as where the sentinels
    /// have yet to agree on who is a replica.
    #[track_caller]
    pub fn fail_over(&self, from: usize) {
        let mut asked_at: Option<Instant> = None;
        eventually("a failover by hand", 2 * PATIENCE, || {
            if asked_at.is_none_or(|at| at.elapsed() > Duration::from_secs(10)) {
                // Refused while one is under way.
                let said = self.sentinels[0].ask(&["failover", NAME]);
                asked_at = said.filter(|said| said.starts_with("OK")).map(|_| Instant::now()).or(asked_at);
            }
            self.primary().filter(|named| *named != from)
        });
    }
}

impl Sentinel {
    fn start(port_of_primary: u16, lines: &[&str]) -> Sentinel {
        let port = free_port();
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {port_of_primary} 2\n\
             sentinel auth-user {NAME} {INSIDER}\nsentinel auth-pass {NAME} {INSIDERS_PASSWORD}\n\
             sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 4000\n{}\n",
            lines.join("\n")
        );
        Sentinel::with(port, &text)
    }

    /// One that listens on that port, as these lines of its file say.
    pub fn with(port: u16, text: &str) -> Sentinel {
        let folder = tempfile::Builder::new().prefix("boxoffice-sentinel-").tempdir().expect("a folder");
        let file = folder.path().join("sentinel.conf");
        let text = format!("dir {}\n{text}", folder.path().display());
        std::fs::write(&file, text).expect("the folder is ours");
        let process = run(&file);
        Sentinel { port, file, _folder: folder, process }
    }

    /// What it answers to `SENTINEL` with these words, if it does.
    pub fn ask(&self, words: &[&str]) -> Option<String> {
        let mut command = Command::new("redis-cli");
        let output = command.args(["-p", &self.port.to_string(), "sentinel"]).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The port of the primary that it names.
    pub fn primary(&self) -> Option<u16> {
        self.ask(&["get-master-addr-by-name", NAME])?.lines().nth(1)?.trim().parse().ok()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// After [`Sentinel::kill`].
    pub fn start_again(&mut self) {
        self.process = run(&self.file);
    }

    /// Waits on a thread until it tells of another primary; gives when that was.
    pub fn next_switch(&self) -> std::thread::JoinHandle<Option<Instant>> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).expect("a URL");
        let mut connection = client.get_connection().expect("a sentinel answers");
        connection.set_read_timeout(Some(Duration::from_secs(60))).expect("above zero");
        let (subscribed, is_subscribed) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut news = connection.as_pubsub();
            news.subscribe("+switch-master").expect("it takes subscribers");
            subscribed.send(()).expect("the test waits");
            news.get_message().ok().map(|_| Instant::now())
        });
        is_subscribed.recv_timeout(PATIENCE).expect("it subscribes");
        thread
    }
}

fn run(file: &std::path::Path) -> Process {
    Process::start("sentinel", Command::new("redis-server").arg(file).arg("--sentinel"))
}

/// Of a reply that `redis-cli` prints as lines of names and values.
fn fact<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = said.lines().map(str::trim);
    lines.find(|line| *line == name)?;
    lines.next()
}
