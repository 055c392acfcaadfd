//! ab, wrk, curl and sqlite3, and what they report.

use std::path::Path;
use std::process::{Command, Output};

fn run(name: &str, words: &[&str]) -> Output {
    Command::new(name)
        .args(words)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name} does not start: {error} (`make setup` installs it)"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What ab counted.
#[derive(Debug, PartialEq, Eq)]
pub struct AbReport {
    /// Requests that were answered.
    pub complete: u64,
    /// Requests that ab calls failed.
    pub failed: u64,
    /// Answers with another status than 2xx.
    pub non_2xx: u64,
    /// Answers after which the connection stayed open.
    pub kept_alive: u64,
}

/// `ab -l -n requests -c connections url`, with `-k` where `keep_alive`; `more` stands before the address.
/// Panics unless ab ends well, which it does not where a connection was reset.
#[track_caller]
pub fn ab(url: &str, requests: u64, connections: u64, keep_alive: bool, more: &[&str]) -> AbReport {
    let (requests, connections) = (requests.to_string(), connections.to_string());
    // -s: give up on an answer after 60 s; -q: no progress.
    let mut words = vec!["-q", "-l", "-s", "60", "-n", &requests, "-c", &connections];
    if keep_alive {
        words.push("-k");
    }
    words.extend(more);
    words.push(url);
    let output = run("ab", &words);
    let report = text(&output.stdout);
    assert!(output.status.success(), "ab {words:?}: {}\n{}\n{report}", output.status, text(&output.stderr));
    let count = |label: &str| {
        let line = report.lines().find_map(|line| line.strip_prefix(label));
        line.map(|rest| rest.trim().parse().unwrap_or_else(|_| panic!("{label} {rest}")))
    };
    AbReport {
        complete: count("Complete requests:").unwrap_or_else(|| panic!("no report of ab's:\n{report}")),
        failed: count("Failed requests:").unwrap_or_else(|| panic!("no report of ab's:\n{report}")),
        non_2xx: count("Non-2xx responses:").unwrap_or(0),
        kept_alive: count("Keep-Alive requests:").unwrap_or(0),
    }
}

/// `curl` with these words: its standard output. Panics unless it ends well.
#[track_caller]
pub fn curl(words: &[&str]) -> String {
    let output = run("curl", &[&["--silent", "--show-error", "--max-time", "60"], words].concat());
    assert!(output.status.success(), "curl {words:?}: {}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// The sqlite3 shell: what one statement prints. Panics where it fails.
#[track_caller]
pub fn sqlite3(file: &Path, statement: &str) -> String {
    let output = run("sqlite3", &["-bail", file.to_str().expect("a path in UTF-8"), statement]);
    assert!(output.status.success(), "sqlite3 {statement:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// `wrk` on that address: how many requests were answered. Panics on a socket error or an answer without 2xx.
#[track_caller]
pub fn wrk(url: &str, connections: u32, seconds: u32) -> u64 {
    let connections = format!("-c{connections}");
    let output = run("wrk", &["-t2", "--timeout", "60s", &connections, &format!("-d{seconds}s"), url]);
    let report = text(&output.stdout);
    assert!(output.status.success(), "wrk: {}\n{}", output.status, text(&output.stderr));
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let line = report.lines().find_map(|line| line.trim().split_once(" requests in "));
    line.and_then(|(count, _)| count.parse().ok()).unwrap_or_else(|| panic!("no report of wrk's:\n{report}"))
}
