//! A real redis-server that tests stop, kill and start again, with its data kept between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::{eventually, free_port};

/// A Redis on a TCP port of its own. Every write is on disk before it is answered: `appendfsync always`.
pub struct RedisServer {
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
    process: Process,
}

impl RedisServer {
    /// Starts it, with its data in `folder`.
    pub fn start(folder: &Path) -> RedisServer {
        RedisServer::start_with(folder, &[])
    }

    /// Likewise, with more options.
    pub fn start_with(folder: &Path, options: &[&str]) -> RedisServer {
        let port = free_port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = serve(folder, port, &options);
        RedisServer { port, folder: folder.to_owned(), options, process }
    }

    /// Makes it a replica of that server, from now on and at once.
    pub fn follow(&self, primary: &RedisServer) {
        primary.command(&["config", "set", "repl-diskless-sync-delay", "0"]);
        self.command(&["replicaof", "127.0.0.1", &primary.port.to_string()]);
        eventually("the replica is in step", Duration::from_secs(15), || {
            self.command(&["info", "replication"]).contains("master_link_status:up").then_some(())
        });
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The ledger URL of database 0.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// SIGKILL: gone without a word.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`RedisServer::kill`], on the same port and data; returns when it answers.
    pub fn start_again(&mut self) {
        self.process = serve(&self.folder, self.port, &self.options);
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&mut self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.process.signal(libc::SIGCONT);
    }

    /// `redis-cli` with these words: what it prints.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        ask(self.port, words).unwrap_or_else(|problem| panic!("redis-cli {words:?}: {problem}"))
    }

    /// How often each command was called since the start, from `INFO commandstats`, by its name in lower case.
    #[track_caller]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let stats = self.command(&["info", "commandstats"]);
        let of_line = |line: &str| {
            let (name, rest) = line.trim().strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_ascii_lowercase(), rest.split(',').next()?.parse().ok()?))
        };
        stats.lines().filter_map(of_line).collect()
    }
}

fn serve(folder: &Path, port: u16, options: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
    command.args(["--appendonly", "yes", "--appendfsync", "always"]).args(options);
    let mut process = Process::start("redis-server", &mut command);
    eventually("redis-server answers", Duration::from_secs(15), || {
        assert!(process.status().is_none(), "redis-server ended:\n{}", process.said());
        ask(port, &["ping"]).is_ok_and(|pong| pong.trim() == "PONG").then_some(())
    });
    process
}

fn ask(port: u16, words: &[&str]) -> Result<String, String> {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output();
    let output = output.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}
