//! A real nginx: with the configuration of `nginx/`, with only its ports replaced, or with a test's own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::process::Process;
use super::{eventually, free_port};

/// An nginx over four hosts.
pub struct Nginx {
    /// Where clients connect.
    pub address: SocketAddr,
    process: Process,
    log: std::path::PathBuf,
    folder: std::path::PathBuf,
}

impl Nginx {
    /// Starts it over these hosts, which stand in for ports 3001 to 3004; `folder` is empty and its own.
    pub fn start(folder: &Path, hosts: &[SocketAddr; 4]) -> Nginx {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("nginx");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut configuration =
            std::fs::read_to_string(source.join("boxoffice.conf")).expect("boxoffice.conf");
        let mut replace = |words: &str, by: String| {
            assert_eq!(configuration.matches(words).count(), 1, "{words:?} in boxoffice.conf");
            configuration = configuration.replace(words, &by);
        };
        replace("listen 80;", format!("listen {address};"));
        for (host, weight) in hosts.iter().zip(1..) {
            replace(
                &format!("server 127.0.0.1:300{weight} weight={weight} "),
                format!("server {host} weight={weight} "),
            );
        }
        std::fs::write(folder.join("boxoffice.conf"), configuration).expect("a configuration");
        let whole = std::fs::read_to_string(source.join("nginx.conf")).expect("nginx.conf");
        Nginx::of(folder, address, &whole)
    }

    /// Starts it with a whole configuration that listens on `address`; likewise.
    pub fn of(folder: &Path, address: SocketAddr, configuration: &str) -> Nginx {
        std::fs::create_dir(folder.join("logs")).expect("a folder for logs");
        std::fs::write(folder.join("nginx.conf"), configuration).expect("a configuration");
        let checked = command(folder).arg("-t").output().expect("nginx (`make setup` installs it)");
        assert!(checked.status.success(), "nginx -t: {}", String::from_utf8_lossy(&checked.stderr));
        let mut process = Process::start("nginx", command(folder).args(["-g", "daemon off;"]));
        eventually("nginx listens", Duration::from_secs(10), || {
            assert!(process.status().is_none(), "nginx ended:\n{}", process.said());
            Client::try_connect(address).ok()
        });
        Nginx { address, process, log: folder.join("logs/boxoffice.log"), folder: folder.to_owned() }
    }

    /// The configuration that its hosts are in.
    pub fn hosts_file(&self) -> std::path::PathBuf {
        self.folder.join("boxoffice.conf")
    }

    /// The words by which nginx knows which of its processes is meant.
    pub fn words(&self) -> [std::ffi::OsString; 4] {
        ["-p".into(), self.folder.clone().into(), "-c".into(), self.folder.join("nginx.conf").into()]
    }

    /// Lets it finish what is in flight; gives its access log.
    pub fn stop(mut self) -> Vec<Value> {
        self.process.signal(libc::SIGQUIT);
        self.process.wait(Duration::from_secs(20));
        let log = std::fs::read_to_string(&self.log).expect("nginx's access log");
        log.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The workers end with the master only where it is told: after SIGKILL they would serve on.
        self.process.signal(libc::SIGTERM);
        self.process.wait(Duration::from_secs(10));
    }
}

fn command(folder: &Path) -> Command {
    // Debian keeps nginx in sbin, which is not on everybody's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nginx");
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .arg("-e")
        .arg(folder.join("logs/error.log"));
    command
}
