//! The access log as operators keep it: rotated by logrotate, removed, piped, or printed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::crowd::rush;
use crate::support::host::{Host, boxoffice};
use crate::support::turn;
use crate::support::{PATIENCE, eventually, one_core};

/// The bookings that the lines of a log tell of, in their order.
fn bookings(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", path.display());
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            line["booking"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned()
        })
        .collect()
}

fn logrotate(folder: &Path, configuration: &Path) {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("logrotate")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .arg("--force")
        .arg("--state")
        .arg(folder.join("logrotate.state"))
        .arg(configuration)
        .output()
        .expect("logrotate (`make setup` installs it)");
    assert!(output.status.success(), "logrotate: {}", String::from_utf8_lossy(&output.stderr));
}

/// Under load: each line is in one file, and each file has the lines of its own time.
fn rotates(rules: &str) {
    const ROUNDS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    // One loop, whose lines stand in the order of their answers.
    let words = ["--sale", "ticket=1000000", "--access-log", "access.log", "--cores", &one_core()];
    let mut host = Host::start(folder.path(), &words);
    let configuration = folder.path().join("logrotate.conf");
    let text = format!(
        "\"{}\" {{\n  rotate 100\n  missingok\n  su {}\n{}\n  postrotate\n    kill -HUP {}\n  endscript\n}}\n",
        log.display(),
        owner(),
        rules,
        host.process.id()
    );
    std::fs::write(&configuration, text).unwrap();
    let rotated = |number: usize| PathBuf::from(format!("{}.{number}", log.display()));
    let mut granted = Vec::new();
    for round in 1..=ROUNDS {
        let buyers = std::thread::spawn({
            let address = host.address;
            move || rush(&[address], "ticket", 4, 250, 2)
        });
        // In the middle of it, as far as the machine lets us choose.
        let begun = log.metadata().map_or(0, |file| file.len());
        eventually("the crowd is at it", PATIENCE, || {
            (log.metadata().is_ok_and(|file| file.len() > begun) || buyers.is_finished()).then_some(())
        });
        logrotate(folder.path(), &configuration);
        let told = buyers.join().unwrap();
        assert_eq!(told.wrong, [""; 0]);
        granted.extend(told.granted);
        eventually("the log was opened anew", PATIENCE, || {
            (host.process.said().matches("the access log was reopened").count() == round).then_some(())
        });
    }
    // One more, of which every line is in the fresh file.
    let last = rush(&[host.address], "ticket", 1, 10, 1).granted;
    host.stop();
    assert!(
        bookings(&log).ends_with(&last),
        "lines of after the rotation are not in the file of after the rotation"
    );
    assert_eq!(host.process.said().matches("renamed or removed").count(), 0);
    granted.extend(last);

    // Oldest first: what was granted in this order was written in this order.
    let files: Vec<PathBuf> = (1..=ROUNDS).rev().map(&rotated).chain([log.clone()]).collect();
    assert!(!rotated(ROUNDS + 1).exists());
    let lines: Vec<String> = files.iter().flat_map(|file| bookings(file)).collect();
    assert_eq!(lines.len(), granted.len(), "lines were lost, or written twice");
    assert_eq!(lines.iter().collect::<BTreeSet<_>>(), granted.iter().collect::<BTreeSet<_>>());
    // Ids that a host makes begin with the time; of one loop they rise with it.
    let time = |id: &String| id[..13].to_owned();
    assert!(lines.windows(2).all(|pair| time(&pair[0]) <= time(&pair[1])), "a line is in the wrong file");
    assert!(files.iter().filter(|file| file.metadata().unwrap().len() > 0).count() > ROUNDS / 2);
    let names: Vec<String> = files.iter().map(|file| file.to_str().unwrap().to_owned()).collect();
    let audit =
        ["audit", "ticket", "--access-log"].map(str::to_owned).into_iter().chain(names).collect::<Vec<_>>();
    boxoffice(folder.path(), &audit.iter().map(String::as_str).collect::<Vec<_>>()).expect(0);
}

/// As `su` of logrotate wants it: a folder that others may write needs it.
fn owner() -> String {
    let id = |flag: &str| {
        let output = Command::new("id").arg(flag).output().expect("id");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    format!("{} {}", id("-un"), id("-gn"))
}

#[test]
fn logrotate_loses_no_line_where_it_makes_the_next_file() {
    let _turn = turn::shared();
    rotates("  create 0644");
}

#[test]
fn logrotate_loses_no_line_where_the_host_makes_the_next_file() {
    let _turn = turn::shared();
    rotates("  nocreate");
}

/// Nobody tells the host: it notices by itself.
#[test]
fn a_log_that_was_removed_is_noticed() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let mut host = Host::start(folder.path(), &["--sale", "ticket=100", "--access-log", "access.log"]);
    for (round, aside) in [None, Some(folder.path().join("aside.log"))].into_iter().enumerate() {
        host.client().get("/buy/ticket").expect(200);
        eventually("the line is there", PATIENCE, || (bookings(&log).len() == 1).then_some(()));
        match aside {
            None => std::fs::remove_file(&log).unwrap(),
            Some(aside) => std::fs::rename(&log, aside).unwrap(),
        }
        eventually("there is another one", PATIENCE, || log.exists().then_some(()));
        eventually("it says so", PATIENCE, || {
            (host.process.said().matches("was renamed or removed").count() == round + 1).then_some(())
        });
    }
    host.client().get("/buy/ticket").expect(200);
    host.stop();
    assert_eq!(bookings(&log).len(), 1);
}

/// To the end, too: what cannot be synced is not asked to be.
#[test]
fn it_goes_to_the_standard_outputs_as_well() {
    let _turn = turn::shared();
    for output in ["/dev/stdout", "/dev/stderr", "/dev/fd/2"] {
        let folder = tempfile::tempdir().unwrap();
        let mut host = Host::start(folder.path(), &["--sale", "ticket=100", "--access-log", output]);
        let told = rush(&[host.address], "ticket", 2, 10, 1);
        host.process.signal(libc::SIGHUP);
        host.client().get("/buy/ticket").expect(200);
        host.stop();
        let said = host.process.said();
        for id in &told.granted {
            assert!(said.contains(&format!("\"booking\":\"{id}\"")), "{output}: no line of {id} in\n{said}");
        }
        assert_eq!(
            said.lines().filter(|line| line.contains("\"outcome\":\"granted\"")).count(),
            21,
            "{output}"
        );
    }
}

fn pipe(folder: &Path) -> PathBuf {
    let pipe = folder.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    pipe
}

/// A reader that comes late, goes, and is followed by another one: every line is read by one of them.
#[test]
fn it_goes_into_a_pipe() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let pipe = pipe(folder.path());
    let mut host = Host::start(folder.path(), &["--sale", "ticket=10000", "--access-log", "pipe"]);
    let reader = |name: &str| {
        let out = std::fs::File::create(folder.path().join(name)).unwrap();
        Command::new("cat").arg(&pipe).stdout(Stdio::from(out)).spawn().expect("cat")
    };
    // Into the pipe's own room: nobody reads yet.
    let mut granted = rush(&[host.address], "ticket", 1, 20, 1).granted;
    let mut first = reader("first");
    eventually("they are read", PATIENCE, || {
        (bookings_so_far(&folder.path().join("first")) == 20).then_some(())
    });
    first.kill().unwrap();
    first.wait().unwrap();
    granted.extend(rush(&[host.address], "ticket", 4, 500, 2).granted);
    let mut second = reader("second");
    host.process.signal(libc::SIGHUP);
    granted.extend(rush(&[host.address], "ticket", 4, 500, 2).granted);
    host.stop();
    assert!(second.wait().unwrap().success(), "the pipe ends with the host");
    let read: Vec<String> =
        ["first", "second"].iter().flat_map(|name| bookings(&folder.path().join(name))).collect();
    assert_eq!(read.iter().collect::<BTreeSet<_>>(), granted.iter().collect::<BTreeSet<_>>());
    assert_eq!(read.len(), granted.len());
}

fn bookings_so_far(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().matches("\"booking\"").count()
}

/// Its pipe is full and nobody reads: sales go on, and the host ends all the same, and says that lines are lost.
#[test]
fn a_pipe_that_nobody_reads_keeps_no_host_from_ending() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    pipe(folder.path());
    let mut host = Host::start(folder.path(), &["--sale", "ticket=10000", "--access-log", "pipe"]);
    // Some 130 bytes a line; a pipe has room for 64 KiB.
    assert_eq!(rush(&[host.address], "ticket", 4, 500, 4).granted.len(), 2_000);
    host.process.signal(libc::SIGTERM);
    assert_eq!(host.process.wait(PATIENCE).code(), Some(1), "{}", host.process.said());
    assert!(host.process.said().contains("takes no more lines"), "{}", host.process.said());
}
