//! A real `boxoffice serve`, and the other commands of the same binary.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::process::Process;
use super::{PATIENCE, eventually};

/// How long a command other than `serve` may take: an audit reads all of a sale.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A host that is ready.
pub struct Host {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The process; tests signal it.
    pub process: Process,
    /// What it printed up to `ready`.
    pub greeting: Vec<String>,
}

/// A command that ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it said, on both outputs.
    pub said: String,
}

impl Ended {
    /// Asserts the exit status, showing what was said where it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.status.code(), Some(code), "{}", self.said);
        self
    }

    /// Asserts that it said each of these words.
    #[track_caller]
    pub fn saying(self, words: &[&str]) -> Ended {
        for word in words {
            assert!(self.said.contains(word), "no {word:?} in what it said:\n{}", self.said);
        }
        self
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BOXOFFICE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `boxoffice` with these words, in that folder, to its end.
pub fn boxoffice(folder: &Path, words: &[&str]) -> Ended {
    let mut process = boxoffice_started(folder, words);
    let status = process.wait(COMMAND_LIMIT);
    Ended { status, said: process.said() }
}

/// Starts `boxoffice` with these words, in that folder, for a command that goes on.
pub fn boxoffice_started(folder: &Path, words: &[&str]) -> Process {
    Process::start("boxoffice", command(folder).args(words))
}

/// Asserts that `boxoffice audit` finds nothing wrong with the sale.
#[track_caller]
pub fn assert_audit_agrees(folder: &Path, sale: &str, ledger: &str) {
    boxoffice(folder, &["audit", sale, "--ledger", ledger]).expect(0);
}

impl Host {
    /// `boxoffice serve` with these words, in that folder, on ports that the kernel chooses unless the words say
    /// others. Panics where it does not get ready.
    #[track_caller]
    pub fn start(folder: &Path, words: &[&str]) -> Host {
        match Host::try_start(folder, words) {
            Ok(host) => host,
            Err(ended) => panic!("boxoffice serve {words:?} ended with {}:\n{}", ended.status, ended.said),
        }
    }

    /// The same; gives how it ended where it did before it was ready.
    pub fn try_start(folder: &Path, words: &[&str]) -> Result<Host, Ended> {
        let mut command = command(folder);
        // The disk of a shared machine may stand still for seconds. Tests of the time limit say one.
        command.env("BOXOFFICE_LEDGER_TIMEOUT", "15s");
        command.arg("serve");
        for option in ["--listen", "--admin"] {
            if !words.contains(&option) {
                command.args([option, "127.0.0.1:0"]);
            }
        }
        Host::wait_for(Process::start("boxoffice serve", command.args(words)))
    }

    /// The same in a mount namespace of its own, for which nobody has to be root, after that script has mounted something there:
    /// the host sees it, and nobody else does. The output has `mounted` if the script came to its end.
    pub fn try_start_behind(mounts: &str, folder: &Path, words: &[&str]) -> Result<Host, Ended> {
        // As root in a container there may be no user namespace, and otherwise there must be one.
        // SAFETY: it takes nothing and cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        let mut command = Command::new("unshare");
        command.current_dir(folder).arg("--mount").args(["--propagation", "private"]);
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        let script = format!("{mounts} && echo mounted && exec \"$@\"");
        command.args(["sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_boxoffice"), "serve"]);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(words);
        Host::wait_for(Process::start("boxoffice serve", &mut command))
    }

    /// The same on sockets that listen already, as a service manager passes them, and that outlive the process: those of clients,
    /// and one for operators. `variables` are what it says besides.
    #[track_caller]
    pub fn start_on(
        (clients, admin): (&[TcpListener], &TcpListener),
        variables: &[(&str, &str)],
        folder: &Path,
        words: &[&str],
    ) -> Host {
        let mut command = Command::new("sh");
        // Which process they are for only that process can say.
        command.current_dir(folder).args(["-c", "LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"", "sh"]);
        command.arg(env!("CARGO_BIN_EXE_boxoffice")).arg("serve").args(words);
        let sockets: Vec<i32> = clients.iter().chain([admin]).map(AsRawFd::as_raw_fd).collect();
        let names = "clients:".repeat(clients.len()) + "admin";
        command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
        command.envs(variables.iter().copied());
        // SAFETY: between fork and exec it calls fcntl and dup2 alone, on descriptors that the parent keeps open meanwhile, and
        // allocates nothing.
        unsafe { command.pre_exec(move || place_from_three(&sockets)) };
        match Host::wait_for(Process::start("boxoffice serve", &mut command)) {
            Ok(host) => host,
            Err(ended) => panic!("boxoffice serve {words:?} ended with {}:\n{}", ended.status, ended.said),
        }
    }

    /// Waits until a `boxoffice serve` that was started by other means is ready; likewise.
    pub fn wait_for(mut process: Process) -> Result<Host, Ended> {
        let mut greeting = Vec::new();
        loop {
            match process.next_line(PATIENCE) {
                Some(line) if line == "ready" => break,
                Some(line) => greeting.push(line),
                None => {
                    let status = process.wait(PATIENCE);
                    return Err(Ended { status, said: process.said() });
                }
            }
        }
        let after = |words: &str| {
            let line = greeting.iter().find_map(|line| line.strip_prefix(words));
            let address = line.and_then(|line| line.split(' ').next()).and_then(|word| word.parse().ok());
            address.unwrap_or_else(|| panic!("no address after {words:?} in {greeting:?}"))
        };
        Ok(Host { address: after("listening on "), admin: after("admin on "), process, greeting })
    }

    /// A new connection for a client.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// How many event loops it has, as it says itself.
    pub fn loops(&self) -> usize {
        let count = self.greeting.iter().find_map(|line| {
            let (_, of_loops) = line.strip_prefix("listening on ")?.split_once('(')?;
            of_loops.split(' ').next()?.parse().ok()
        });
        count.unwrap_or_else(|| panic!("no loops in {:?}", self.greeting))
    }

    /// A new connection for an operator.
    #[track_caller]
    pub fn operator(&self) -> Client {
        Client::connect(self.admin)
    }

    /// The sale as this host tells it.
    #[track_caller]
    pub fn sale(&self, sale: &str) -> Value {
        self.client().get(&format!("/v1/sales/{sale}")).expect(200).json()
    }

    /// Waits until it is ready.
    #[track_caller]
    pub fn expect_ready(&self) {
        eventually("it is ready", PATIENCE, || (self.operator().get("/readyz").status == 200).then_some(()));
    }

    /// Waits until it is not, and says each of these words; gives all that it says.
    #[track_caller]
    pub fn expect_unready(&self, words: &[&str]) -> String {
        eventually(&format!("/readyz says {words:?}"), PATIENCE, || {
            let answer = self.operator().get("/readyz");
            let says_so = answer.status == 503 && words.iter().all(|word| answer.text().contains(word));
            says_so.then(|| answer.text().to_owned())
        })
    }

    /// Asserts that soon (a host tells a sale from memory) held is 0 and sold is as given.
    #[track_caller]
    pub fn expect_sold(&self, sale: &str, sold: u64) {
        let mut told = Value::Null;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            told = self.sale(sale);
            if told["sold"] == sold && told["held"] == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not {sold} sold, but {told}");
    }

    /// Every sample of `/metrics`, by name and labels as they stand there.
    #[track_caller]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.operator().get("/metrics").expect(200);
        let samples = text.text().lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
                (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
            })
            .collect()
    }

    /// SIGTERM; asserts that it drains and ends with status 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(libc::SIGTERM);
        let status = self.process.wait(PATIENCE);
        assert_eq!(status.code(), Some(0), "{}", self.process.said());
    }
}

/// Makes those descriptors number 3, 4 and so on, open after exec.
fn place_from_three(descriptors: &[i32]) -> io::Result<()> {
    const ASIDE: i32 = 100;
    let checked = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // First out of the way of each other.
    for (index, descriptor) in (ASIDE..).zip(descriptors) {
        // SAFETY: integers alone.
        checked(unsafe { libc::dup2(*descriptor, index) })?;
    }
    for (index, place) in (ASIDE..).zip(3..).take(descriptors.len()) {
        // SAFETY: integers alone.
        checked(unsafe { libc::dup2(index, place) })?;
        // SAFETY: integers alone.
        checked(unsafe { libc::close(index) })?;
    }
    Ok(())
}

impl Drop for Host {
    fn drop(&mut self) {
        // A panic of a loop may leave the process up, and the test without a wrong answer: it is a failure all the same.
        let said = self.process.said();
        assert!(std::thread::panicking() || !said.contains("panicked at"), "a host panicked:\n{said}");
    }
}
