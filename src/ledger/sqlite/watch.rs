//! Notices that the files of an open ledger are no longer its files: deleted, moved, replaced, truncated or overwritten.
//!
//! SQLite goes on with what it has open, and would acknowledge bookings that nobody finds again. Nothing is opened here:
//! closing a second descriptor of a file would drop the locks that SQLite holds on it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file as found at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds. It moves with each write, and not with a new owner, mode or link.
    modified: (i64, i64),
}

/// The database and its write-ahead log, as this process has them open.
#[derive(Debug)]
pub(super) struct Watch {
    database: PathBuf,
    log: PathBuf,
    database_seen: FileStamp,
    log_seen: FileStamp,
}

/// Both files of a ledger are watched: a commit is in the log, and later in the database.
impl Watch {
    /// Takes the files as they are: they must be those that SQLite has just opened.
    ///
    /// # Errors
    /// If one of them is not there.
    pub(super) fn start(database: &Path) -> io::Result<Watch> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        let (database_seen, log_seen) = (look(database)?, look(&log)?);
        Ok(Watch { database: database.to_owned(), log, database_seen, log_seen })
    }

    /// Whether both are still the same.
    ///
    /// # Errors
    /// What is wrong and what to do, for people.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let now = self.look_at(&self.database, self.database_seen)?;
        // Nobody but us writes it, and we do only at a checkpoint.
        if (now.bytes, now.modified) != (self.database_seen.bytes, self.database_seen.modified) {
            return Err(format!(
                "{} was written by another program while this host serves it, so nothing is sold from it any more; stop \
                 this host, check the file with `boxoffice audit` or restore it, and start again",
                self.database.display()
            ));
        }
        let now = self.look_at(&self.log, self.log_seen)?;
        // It is written at each commit, and never shortened while it is open.
        if now.bytes < self.log_seen.bytes {
            return Err(format!(
                "{} was truncated while this host serves it, so nothing is sold any more; stop this host, check the ledger \
                 with `boxoffice audit`, and start again",
                self.log.display()
            ));
        }
        self.log_seen = now;
        Ok(())
    }

    /// Accepts the database as it is after a checkpoint of our own. Only its size and time may have changed: whether it is
    /// the same file is left to the next [check](Watch::check).
    pub(super) fn note_checkpoint(&mut self) {
        if let Ok(now) = look(&self.database)
            && (now.device, now.inode) == (self.database_seen.device, self.database_seen.inode)
        {
            self.database_seen = now;
        }
    }

    fn look_at(&self, path: &Path, seen: FileStamp) -> Result<FileStamp, String> {
        match look(path) {
            Ok(now) if (now.device, now.inode) == (seen.device, seen.inode) => Ok(now),
            Ok(_) => Err(gone(path, "was replaced")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(gone(path, "was deleted or moved")),
            Err(error) => Err(format!("{} cannot be examined: {error}", path.display())),
        }
    }
}

fn gone(path: &Path, what: &str) -> String {
    format!(
        "{} {what} while this host serves it, so nothing is sold until it is back. Move it back; if it was deleted, this \
         process still has it open: copy it from /proc/{}/fd before the host stops, then start again",
        path.display(),
        std::process::id()
    )
}

fn look(path: &Path) -> io::Result<FileStamp> {
    let file = fs::metadata(path)?;
    Ok(FileStamp {
        device: file.dev(),
        inode: file.ino(),
        bytes: file.size(),
        modified: (file.mtime(), file.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_each_change_from_our_own_writes() {
        let directory = tempfile::tempdir().unwrap();
        let (database, log) = (directory.path().join("a.db"), directory.path().join("a.db-wal"));
        let aside = directory.path().join("aside");
        let fresh = || {
            fs::write(&database, "pages").unwrap();
            fs::write(&log, "frames").unwrap();
            Watch::start(&database).unwrap()
        };
        let mut watch = fresh();
        watch.check().unwrap();
        fs::write(&log, "frames and more").unwrap();
        watch.check().unwrap();
        fs::write(&database, "pages and more").unwrap();
        watch.note_checkpoint();
        watch.check().unwrap();

        fs::write(&log, "frames").unwrap();
        assert!(watch.check().unwrap_err().contains("was truncated"));
        watch = fresh();
        fs::write(&database, "other pages").unwrap();
        assert!(watch.check().unwrap_err().contains("another program"));
        for path in [&database, &log] {
            watch = fresh();
            fs::rename(path, &aside).unwrap();
            assert!(watch.check().unwrap_err().contains("deleted or moved"));
            fs::rename(&aside, path).unwrap();
            watch.check().unwrap();
            fs::copy(path, &aside).unwrap();
            fs::rename(&aside, path).unwrap();
            assert!(watch.check().unwrap_err().contains("was replaced"));
            watch.note_checkpoint();
            assert!(watch.check().is_err(), "a checkpoint into the old file says nothing of the new one");
        }
    }
}
