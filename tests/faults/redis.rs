//! A redis-server that tests kill, freeze, starve and tear: in a folder of its own, on a UNIX socket, so that nobody
//! takes its port while it is down.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::eventually;
use crate::support::process::Process;

/// How long a redis-server may take to start and to load its data.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running Redis whose every write is on disk before it is answered, unless its options say otherwise.
pub struct Redis {
    folder: TempDir,
    options: Vec<String>,
    process: Process,
}

impl Redis {
    /// Starts one with these options on top.
    pub fn start(options: &[&str]) -> Redis {
        let folder = tempfile::Builder::new().prefix("boxoffice-faults-").tempdir().expect("a folder");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = spawn(folder.path(), &options);
        let redis = Redis { folder, options, process };
        redis.wait_until_loaded();
        redis
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// As `--ledger` takes it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Where its data is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The append-only files.
    pub fn aof(&self) -> PathBuf {
        self.folder.path().join("appendonlydir")
    }

    /// The append-only file that is written to.
    pub fn aof_tail(&self) -> PathBuf {
        self.aof().join("appendonly.aof.1.incr.aof")
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Redis::kill`], on the data that there is; returns once it takes commands.
    pub fn start_again(&mut self) {
        self.begin_again();
        self.wait_until_loaded();
    }

    /// Likewise, but does not wait.
    pub fn begin_again(&mut self) {
        self.process = spawn(self.folder.path(), &self.options);
    }

    /// Other options from the next start on.
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// Waits until it takes commands.
    pub fn wait_until_loaded(&self) {
        eventually("redis-server answers", START_LIMIT, || {
            self.try_command(&["ping"]).is_ok_and(|pong| pong.trim() == "PONG").then_some(())
        });
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: i32) {
        self.process.signal(signal);
    }

    /// What `redis-cli` prints for these words; panics where it does not reach Redis.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap_or_else(|said| panic!("redis-cli {words:?}: {said}"))
    }

    /// The same; what it printed is the error where it fails.
    pub fn try_command(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(words).output();
        let output = output.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}

fn spawn(folder: &Path, options: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir"]);
    command.arg(folder).arg("--unixsocket").arg(folder.join("redis.sock")).args(options);
    Process::start("redis-server", &mut command)
}

/// Copies a folder of plain files.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a file");
    }
}
