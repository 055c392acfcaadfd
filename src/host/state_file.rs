//! Which sales this host has known, kept over its restarts: a Redis that has lost everything cannot tell that there was
//! anything, and a host that starts would open the same sales again.
//!
//! One file may be shared by hosts and ledgers: each keeps its own part, by the ledger's URL. It is written whole into a
//! file beside it, which then takes its place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::booking::SaleName;
use crate::limits::{STATE_INTERVAL_MS, STATE_LEDGERS_MAX};
use crate::stock::Board;

/// When each sale was opened that a host knows.
pub(super) type KnownSales = BTreeMap<SaleName, u64>;

/// The part of a state file that is about one ledger.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    ledger: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Content {
    ledgers: BTreeMap<String, LedgerPart>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct LedgerPart {
    /// When it was written, in ms since 1970: the oldest one makes room.
    written: u64,
    sales: BTreeMap<String, u64>,
}

impl StateFile {
    pub(super) fn new(path: &Path, ledger: &impl std::fmt::Display) -> StateFile {
        StateFile { path: path.to_owned(), ledger: ledger.to_string() }
    }

    /// Its path, for people.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// What was known of this ledger; nothing if there is no such file.
    pub(super) fn read(&self) -> io::Result<KnownSales> {
        let mut content = self.content()?;
        let sales = content.ledgers.remove(&self.ledger).unwrap_or_default().sales;
        Ok(sales.iter().filter_map(|(name, &opened)| Some((SaleName::parse(name).ok()?, opened))).collect())
    }

    fn content(&self) -> io::Result<Content> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let what = format!("it is not a state file ({error}); remove it, or name another one");
                io::Error::new(io::ErrorKind::InvalidData, what)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes what is known of this ledger, on the disk when it returns.
    pub(super) fn write(&self, known: &KnownSales, now_ms: u64) -> io::Result<()> {
        let mut content = self.content()?;
        let sales = known.iter().map(|(name, &opened)| (name.to_string(), opened)).collect();
        content.ledgers.insert(self.ledger.clone(), LedgerPart { written: now_ms, sales });
        while content.ledgers.len() > STATE_LEDGERS_MAX {
            let oldest = content.ledgers.iter().min_by_key(|(_, part)| part.written);
            let oldest = oldest.map(|(ledger, _)| ledger.clone()).unwrap_or_default();
            content.ledgers.remove(&oldest);
        }
        let mut beside = self.path.clone().into_os_string();
        // Two hosts may write at once.
        beside.push(format!(".{}", std::process::id()));
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(&content)?)?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&beside, &self.path)) {
            // Nothing is lost: the file is as it was.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Writes the file whenever the board knows other sales, until it is stopped.
pub(super) struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Writes it once before it returns.
    pub(super) fn start(file: StateFile, board: Arc<Board>, now_ms: fn() -> u64) -> io::Result<Keeper> {
        let (stop, stopped) = mpsc::channel();
        let mut keep = Keep { file, board, now_ms, written: None, is_failing: false };
        keep.look();
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            loop {
                let ended = stopped.recv_timeout(Duration::from_millis(STATE_INTERVAL_MS));
                keep.look();
                if ended != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Keeper { stop, thread })
    }

    /// Writes it a last time.
    pub(super) fn stop(self) {
        // If it has ended there is nobody to tell.
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the state file may not be up to date: its thread panicked");
        }
    }
}

struct Keep {
    file: StateFile,
    board: Arc<Board>,
    now_ms: fn() -> u64,
    written: Option<KnownSales>,
    is_failing: bool,
}

impl Keep {
    fn look(&mut self) {
        let directory = self.board.directory();
        let known = directory.sales().map(|sale| (*sale.name(), sale.seen().opened));
        let known: KnownSales = known.filter(|(_, opened)| *opened > 0).collect();
        if self.written.as_ref() == Some(&known) {
            return;
        }
        match self.file.write(&known, (self.now_ms)()) {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(path = %self.file.path.display(), "the state file can be written again");
                }
                self.written = Some(known);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(path = %self.file.path.display(), %error, "the state file cannot be written: if Redis \
                         loses everything while no host runs, a start with --sale would sell the same tickets again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(sales: &[(&str, u64)]) -> KnownSales {
        sales.iter().map(|&(name, opened)| (SaleName::parse(name).unwrap(), opened)).collect()
    }

    #[test]
    fn each_ledger_has_its_part_and_the_oldest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let file = |ledger: &str| StateFile::new(&path, &ledger);
        assert_eq!(file("redis://a/0").read().unwrap(), known(&[]));
        file("redis://a/0").write(&known(&[("x", 5), ("y", 6)]), 1).unwrap();
        file("redis://b/0").write(&known(&[("z", 7)]), 2).unwrap();
        file("redis://a/0").write(&known(&[("x", 5)]), 3).unwrap();
        assert_eq!(file("redis://a/0").read().unwrap(), known(&[("x", 5)]));
        assert_eq!(file("redis://b/0").read().unwrap(), known(&[("z", 7)]));
        for other in 0..STATE_LEDGERS_MAX - 1 {
            file(&format!("redis://{other}/0")).write(&known(&[("o", 1)]), 4).unwrap();
        }
        assert_eq!(file("redis://b/0").read().unwrap(), known(&[]));
        assert_eq!(file("redis://a/0").read().unwrap(), known(&[("x", 5)]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_none_is_named_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::write(&path, "{").unwrap();
        let file = StateFile::new(&path, &"redis://a/0");
        assert!(file.read().unwrap_err().to_string().starts_with("it is not a state file"));
        assert!(file.write(&known(&[("x", 5)]), 1).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{");
    }
}
