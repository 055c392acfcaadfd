//! Commands that only read, on a ledger that nobody can write: a backup on a file system that is mounted read-only, or the file
//! of another user.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::host::{Ended, Host};
use crate::support::process::Process;
use crate::support::turn;
use crate::support::{PATIENCE, eventually};

/// Nobody's user and group.
const NOBODY: u32 = 65_534;

/// A folder that nobody may write, not even who made it, while this exists.
struct Sealed {
    folder: tempfile::TempDir,
    program: PathBuf,
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Sealed {
    /// `fill` puts files into `data` below it.
    fn with(fill: impl FnOnce(&Path)) -> Sealed {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        fill(&data);
        // Where the program is may be closed to others.
        let program = folder.path().join("boxoffice");
        // By a process of its own: a test beside this one may fork while the copy is open for writing, and what it starts would
        // keep it so for a moment ("text file busy").
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_boxoffice")).arg(&program).status().unwrap();
        assert!(copied.success());
        set_mode(&program, 0o755);
        for entry in std::fs::read_dir(&data).unwrap() {
            set_mode(&entry.unwrap().path(), 0o444);
        }
        set_mode(&data, 0o555);
        Sealed { folder, program }
    }

    /// Runs a command there, as nobody if this is root, whom no mode keeps out.
    fn run(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path().join("data")).env_remove("BOXOFFICE_LEDGER").args(words);
        // SAFETY: geteuid takes nothing and cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut process = Process::start("boxoffice", &mut command);
        let status = process.wait(PATIENCE);
        Ended { status, said: process.said() }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        set_mode(&self.folder.path().join("data"), 0o755);
    }
}

fn sold(folder: &Path, ledger: &str) -> Host {
    let host = Host::start(folder, &["--ledger", ledger, "--sale", "ticket=100", "--sale", "other=5"]);
    host.client().put("/v1/sales/ticket/bookings/a", "{\"quantity\":3}").expect(201);
    host
}

#[track_caller]
fn reads(sealed: &Sealed, ledger: &str) {
    let flags = ["--ledger", ledger];
    sealed.run(&[&["sale", "list"], &flags[..]].concat()).expect(0).saying(&["ticket", "97", "other"]);
    sealed.run(&[&["sale", "show", "ticket"], &flags[..]].concat()).expect(0).saying(&["97"]);
    sealed.run(&[&["sale", "log", "ticket"], &flags[..]].concat()).expect(0).saying(&["\"quantity\":3"]);
    sealed.run(&[&["audit", "ticket"], &flags[..]].concat()).expect(0).saying(&["no difference"]);
    // And nothing else is done.
    sealed.run(&[&["sale", "pause", "ticket"], &flags[..]].concat()).expect(1);
}

/// As its host left it when it ended.
#[test]
fn a_ledger_that_was_closed_can_be_read() {
    let _turn = turn::shared();
    let sealed = Sealed::with(|data| sold(data, "sqlite:box?of%20.db").stop());
    reads(&sealed, "sqlite:box?of%20.db");
    assert!(!sealed.folder.path().join("data/box?of%20.db-wal").exists());
}

/// As a copy of a host that runs, or was killed, has it: with its write-ahead log and the index of that.
#[test]
fn a_ledger_with_its_log_can_be_read() {
    let _turn = turn::shared();
    let sealed = Sealed::with(|data| {
        let mut host = sold(data, "sqlite:boxoffice.db");
        host.process.kill();
        eventually("its log is there", PATIENCE, || data.join("boxoffice.db-wal").exists().then_some(()));
    });
    reads(&sealed, "sqlite:boxoffice.db");
}

/// Half of a copy: what is in the log must not be left out unseen.
#[test]
fn a_log_that_cannot_be_read_is_named() {
    let _turn = turn::shared();
    let sealed = Sealed::with(|data| {
        let mut host = sold(data, "sqlite:boxoffice.db");
        host.process.kill();
        std::fs::remove_file(data.join("boxoffice.db-shm")).unwrap();
    });
    for words in [&["sale", "list"][..], &["audit", "ticket"]] {
        sealed.run(words).expect(1).saying(&["boxoffice.db-wal", "copy both"]);
    }
}
