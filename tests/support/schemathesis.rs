//! schemathesis, which reads a description and asks for all that it promises, and for what it rules out.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::Process;

/// A run takes some ten seconds; a busy machine may take many times that.
const LIMIT: Duration = Duration::from_secs(400);

/// Where `tests/setup.sh` puts it.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/schemathesis/bin/schemathesis");

/// The bearer token that it shows to operators' calls.
pub const TOKEN: &str = "s3cret";

/// Fetches `/{description}` from the listener `admin` and asks `address` for what it says, by the rules of
/// `tests/openapi/{rules}`. Panics where one answer is not as described, with all that schemathesis says.
#[track_caller]
pub fn drive(
    folder: &Path,
    admin: SocketAddr,
    description: &str,
    address: SocketAddr,
    rules: &str,
    words: &[&str],
) {
    assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is not there: `make setup` installs it");
    let rules = format!("{}/tests/openapi/{rules}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(PROGRAM);
    command
        .args(["--config-file", &rules, "run", &format!("http://{admin}/{description}")])
        .args(["--url", &format!("http://{address}"), "--no-color", "--continue-on-failure"])
        // The same requests every time, but for what answers teach; nothing kept from one run to the next.
        .args(["--seed", "1", "--generation-database", "none", "--suppress-health-check", "all"])
        .args(["--request-timeout", "60", "--warnings", "off"])
        .args(words)
        .current_dir(folder)
        .env("ADMIN_TOKEN", TOKEN)
        .env("NO_PROXY", "127.0.0.1");
    let mut process = Process::start("schemathesis", &mut command);
    let status = process.wait(LIMIT);
    assert!(status.success(), "schemathesis: {status}\n{}", process.said());
}
