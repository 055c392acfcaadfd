//! The redis-server of a test, the only one that starts such a server: on a port or a socket of its own, its data kept
//! over [`RedisServer::kill`], [`RedisServer::start_again`] and [`RedisServer::set_options`], ended with the test.
//!
//! Panics where there is no redis-server: a test without it proves nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::process::Process;
use super::{PATIENCE, eventually, free_port};

/// Every write is on disk before it is answered.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A running redis-server.
pub struct RedisServer {
    place: Place,
    folder: Folder,
    /// What it keeps on disk, unless its options say otherwise.
    persistence: &'static [&'static str],
    options: Vec<String>,
    process: Process,
}

/// Where it listens.
enum Place {
    /// On this port of 127.0.0.1.
    Port(u16),
    /// On `redis.sock` in its folder, so that nobody takes its place while it is down.
    Socket,
}

/// Where its data is.
enum Folder {
    Given(PathBuf),
    Own(TempDir),
}

impl RedisServer {
    /// On a TCP port, with its data in `folder`; every write is on disk before it is answered.
    pub fn start(folder: &Path) -> RedisServer {
        RedisServer::start_with(folder, &[])
    }

    /// The same, with more options.
    pub fn start_with(folder: &Path, options: &[&str]) -> RedisServer {
        RedisServer::spawn(Place::Port(free_port()), Folder::Given(folder.to_owned()), DURABLE, options)
    }

    /// On a TCP port, in a folder of its own; every write is on disk before it is answered.
    pub fn durable_on_port(options: &[&str]) -> RedisServer {
        RedisServer::spawn(Place::Port(free_port()), Folder::own(), DURABLE, options)
    }

    /// On a UNIX socket, in a folder of its own; every write is on disk before it is answered.
    pub fn durable_on_socket(options: &[&str]) -> RedisServer {
        RedisServer::spawn(Place::Socket, Folder::own(), DURABLE, options)
    }

    /// On a UNIX socket, in a folder of its own; keeps nothing on disk unless these options say so.
    pub fn on_socket(options: &[&str]) -> RedisServer {
        RedisServer::spawn(Place::Socket, Folder::own(), &[], options)
    }

    fn spawn(
        place: Place,
        folder: Folder,
        persistence: &'static [&'static str],
        options: &[&str],
    ) -> RedisServer {
        let options = owned(options);
        let process = serve(&place, folder.path(), persistence, &options);
        let mut server = RedisServer { place, folder, persistence, options, process };
        server.wait_until_loaded();
        server
    }

    /// Makes it a replica of that server, which listens on a port; returns once it is in step.
    pub fn follow(&mut self, primary: &RedisServer) {
        let port = primary.address().port().to_string();
        primary.command(&["config", "set", "repl-diskless-sync-delay", "0"]);
        self.command(&["replicaof", "127.0.0.1", &port]);
        eventually("the replica is in step", PATIENCE, || {
            self.command(&["info", "replication"]).contains("master_link_status:up").then_some(())
        });
    }

    /// Its address, if it listens on a port.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        match self.place {
            Place::Port(port) => SocketAddr::from(([127, 0, 0, 1], port)),
            Place::Socket => panic!("this redis-server listens on {}", self.socket().display()),
        }
    }

    /// Its socket, if it listens on one.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("redis.sock")
    }

    /// The URL of its database 0, as `--ledger` takes it.
    pub fn url(&self) -> String {
        match self.place {
            Place::Port(port) => format!("redis://127.0.0.1:{port}/0"),
            Place::Socket => format!("redis+unix://{}", self.socket().display()),
        }
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its append-only files.
    pub fn aof(&self) -> PathBuf {
        self.folder().join("appendonlydir")
    }

    /// The append-only file that is written to.
    pub fn aof_tail(&self) -> PathBuf {
        self.aof().join("appendonly.aof.1.incr.aof")
    }

    /// A plain connection, to look at keys and to change them behind a ledger's back.
    pub fn connection(&self) -> ::redis::Connection {
        let url = match self.place {
            Place::Port(port) => format!("redis://127.0.0.1:{port}/0"),
            Place::Socket => format!("unix://{}", self.socket().display()),
        };
        let client = ::redis::Client::open(url).expect("a Redis URL");
        client.get_connection().expect("a connection to redis-server")
    }

    /// SIGKILL: gone without a word.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`RedisServer::kill`], in the same place and on the data that there is; returns once it takes
    /// commands.
    pub fn start_again(&mut self) {
        self.begin_again();
        self.wait_until_loaded();
    }

    /// The same, but does not wait.
    pub fn begin_again(&mut self) {
        self.process = serve(&self.place, self.folder.path(), self.persistence, &self.options);
    }

    /// Kills it and starts it again.
    pub fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Other options from the next start on, in the place of those that it was started with.
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = owned(options);
    }

    /// Waits until it takes commands, which it does not while it loads its data. One that wants a password is up, too.
    pub fn wait_until_loaded(&mut self) {
        eventually("redis-server answers", PATIENCE, || {
            assert!(self.process.status().is_none(), "redis-server ended:\n{}", self.process.said());
            let output = self.cli(&["ping"]).ok()?;
            let said = String::from_utf8_lossy(&output.stdout);
            (said.starts_with("PONG") || said.starts_with("NOAUTH")).then_some(())
        });
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn freeze(&mut self) {
        self.process.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.process.signal(libc::SIGCONT);
    }

    /// What `redis-cli` prints for these words; panics where it does not reach the server.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|said| panic!("redis-cli {words:?}: {said}"))
    }

    /// The same; what it printed is the error if it fails.
    pub fn try_command(&self, words: &[&str]) -> Result<String, String> {
        let output = self.cli(words).map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn cli(&self, words: &[&str]) -> std::io::Result<Output> {
        let mut command = Command::new("redis-cli");
        match self.place {
            Place::Port(port) => command.args(["-p", &port.to_string()]),
            Place::Socket => command.arg("-s").arg(self.socket()),
        };
        command.args(words).output()
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

impl Folder {
    fn own() -> Folder {
        Folder::Own(tempfile::Builder::new().prefix("boxoffice-redis-").tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Given(path) => path,
            Folder::Own(folder) => folder.path(),
        }
    }
}

fn serve(place: &Place, folder: &Path, persistence: &[&str], options: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--save", "", "--dir"]).arg(folder);
    match place {
        Place::Port(port) => command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]),
        // Its options may open a port beside it.
        Place::Socket => command.args(["--port", "0", "--unixsocket"]).arg(folder.join("redis.sock")),
    };
    Process::start("redis-server", command.args(persistence).args(options))
}

fn owned(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}
