//! A real redis-server of one test: in a directory of its own, on a socket of its own, gone when the test ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a redis-server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running redis-server. Its data survives [`restart`](RedisServer::restart) where its options say so.
pub struct RedisServer {
    directory: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one with these options besides those that keep it to itself, such as `["--appendonly", "yes"]`.
    ///
    /// Panics where there is no redis-server: a test without it proves nothing.
    pub fn start(options: &[&str]) -> RedisServer {
        let directory =
            tempfile::Builder::new().prefix("boxoffice-redis-").tempdir().expect("a temporary directory");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = RedisServer { directory, options, child: None };
        server.spawn();
        server
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// As `--ledger` takes it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// A plain connection, to look at keys and to change them behind a ledger's back.
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("unix://{}", self.socket().display())).expect("a Redis URL");
        client.get_connection().expect("a connection to redis-server")
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("to kill redis-server");
            child.wait().expect("to wait for redis-server");
        }
    }

    /// Kills it with SIGKILL where it runs, and starts it again on the same data.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    fn spawn(&mut self) {
        // A socket left by one that was killed would look like one that is starting.
        let _ = std::fs::remove_file(self.socket());
        let log = self.directory.path().join("redis.log");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--daemonize", "no", "--dir"])
            .arg(self.directory.path())
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--logfile")
            .arg(&log)
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        self.child = match child {
            Ok(child) => Some(child),
            Err(error) => {
                panic!("redis-server does not start ({error}): run `make setup`, which installs it")
            }
        };
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.answers() {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if exited.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("redis-server does not come up ({exited:?}); its log:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it takes commands, which it does not while it loads its data.
    fn answers(&self) -> bool {
        let ping = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.write_all(b"PING\r\n")?;
            let mut reply = String::new();
            BufReader::new(stream).read_line(&mut reply)?;
            Ok(reply)
        };
        // One that wants a password is up, too.
        ping().is_ok_and(|reply| reply.starts_with("+PONG") || reply.starts_with("-NOAUTH"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
