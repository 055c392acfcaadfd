//! The embedded ledger: one SQLite file, one process that writes it, one transaction per batch.
//!
//! `dispatch` carries out a call by the rules of `lua/`, each in a file of its script's name; here are the file, its lock and
//! its transactions. `watch` notices if the file is taken away from under us.

mod alter;
mod amend;
mod dispatch;
mod feed;
mod opening;
mod read;
mod remove;
mod restore;
mod rows;
mod rules;
mod sale;
mod schema;
mod survey;
mod watch;

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::clock::WallTime;
use crate::ledger::{Cause, Ledger, Trouble};
use crate::protocol::{Answer, Call, CallError};
use watch::Watch;

/// Symbolic links that are followed: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Prepared statements to keep: more than there are.
const STATEMENTS_MAX: usize = 64;

/// How long a write waits for another program that reads or writes the file, such as `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Pages of the write-ahead log at which it is checkpointed into the database: SQLite's own default.
const CHECKPOINT_PAGES: i32 = 1_000;

/// How often a file that could not be written is tried again.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// The one connection to this ledger.
const WAY: usize = 0;

/// What PATH.lock says once PATH has been a ledger.
const LEDGER_MARK: &str = "the file beside this one is a boxoffice ledger\n";

/// Why a file cannot be the ledger.
#[derive(Debug, thiserror::Error)]
pub enum SqliteOpenError {
    /// Another process writes it.
    #[error(
        "{path} is in use by another boxoffice; stop that one, or change its sales through its admin address: PUT /v1/sales/NAME"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is a ledger under another name.
    #[error(
        "{path} is another name (a hard link, or a mount of the file) of a file that is already a ledger; serve it under \
         its original name (instead of the file, mount its folder), or copy it: the latest writes are in a file beside the \
         original name"
    )]
    OtherName {
        /// The name.
        path: PathBuf,
    },
    /// It cannot be read or created.
    #[error("cannot open {path}: {cause}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        cause: String,
    },
    /// It holds something else, and is left unchanged.
    #[error("{path} is not a boxoffice ledger ({what}); it was left unchanged; choose another path")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// There was a ledger, and now there is none.
    #[error(
        "{path} was a ledger and is gone ({path}.lock says so); put it back, or, to start over with nothing sold, remove \
         {path}.lock"
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// It is a ledger, or was, and cannot be trusted any more.
    #[error(
        "{path} is damaged ({what}); it was left unchanged; restore a backup, or see what `sqlite3 {path} .recover` can \
         save"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A later version wrote it.
    #[error(
        "{path} has schema {found}, made by a newer boxoffice than this one, which knows schema {known}; use the newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
}

/// Where a ledger gets its time from.
type Clock = Box<dyn FnMut() -> WallTime + Send>;

/// A ledger in one SQLite file.
pub struct SqliteLedger {
    connection: Connection,
    path: PathBuf,
    clock: Clock,
    /// What may be written; `None` if the file is only read.
    writing: Option<Writing>,
    trouble: Trouble,
}

/// What only the process that writes the file has.
struct Writing {
    /// Locked for as long as this exists: the file beside the database, and the database itself.
    _locks: [File; 2],
    watch: Watch,
    /// Pages in the write-ahead log after the last commit, as SQLite reports.
    log_pages: Arc<AtomicI32>,
    /// SQLite found the file damaged: nothing that it says counts until somebody has looked at it.
    damaged: Option<String>,
    /// It cannot be written, whatever is asked.
    refused: Option<Refused>,
    /// It was reported that nothing is sold.
    is_told: bool,
}

/// A file that could not be written.
struct Refused {
    tried_at: Instant,
    /// Another program has it locked.
    is_locked: bool,
}

impl SqliteLedger {
    /// Opens the file for serving, or creates it. No other process can open it so until this one is gone, by whichever
    /// path: a lock on the file itself keeps it out.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteLedger, SqliteOpenError> {
        SqliteLedger::open_with_clock(path, system_time)
    }

    /// Like [`open`](SqliteLedger::open), with another clock than the system's.
    pub fn open_with_clock(
        path: impl AsRef<Path>,
        clock: impl FnMut() -> WallTime + Send + 'static,
    ) -> Result<SqliteLedger, SqliteOpenError> {
        // SQLite keeps its log beside the file that a link leads to, and everything else that belongs to the file is there,
        // too.
        let path = &target(path.as_ref())?;
        // A file beside the database, since SQLite's own locks come and go with transactions, and `audit` and `sqlite3`
        // should be able to read while we serve. The system releases it however we end, so that it is never stale.
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(&lock_path);
        let mut lock = lock.map_err(|error| unusable(path, error))?;
        take(&lock, path)?;
        let mut mark = String::new();
        lock.read_to_string(&mut mark).map_err(|error| unusable(path, error))?;
        let was_ledger = mark == LEDGER_MARK;
        let is_there = path.metadata().is_ok_and(|file| file.len() > 0);
        if was_ledger && !is_there {
            return Err(SqliteOpenError::Gone { path: path.to_owned() });
        }
        // Other paths to the same file (hard links, mounts) have another file beside them, so the file itself is locked,
        // too: before SQLite opens it, and until after it has closed it, since closing a second descriptor drops the locks
        // that SQLite holds.
        let itself = match is_there {
            true => Some(File::open(path).map_err(|error| unusable(path, error))?),
            false => None,
        };
        if let Some(itself) = &itself {
            take(itself, path)?;
            let names = itself.metadata().map_err(|error| unusable(path, error))?.nlink();
            if (names > 1 || is_mounted(path)) && !was_ledger {
                return Err(SqliteOpenError::OtherName { path: path.to_owned() });
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut connection = connect(path, flags)?;
        let found = schema::check(&connection, path).map_err(|error| match error {
            // It was ours once: "choose another path" would be bad advice.
            SqliteOpenError::Foreign { path, what } if was_ledger => {
                SqliteOpenError::Damaged { path, what: what.to_owned() }
            }
            error => error,
        })?;
        match found {
            schema::FileKind::Nothing if was_ledger => {
                return Err(SqliteOpenError::Gone { path: path.to_owned() });
            }
            schema::FileKind::Nothing => {
                schema::create(&connection).map_err(|error| unusable(path, error))?
            }
            schema::FileKind::Ours => schema::check_pages(&connection, path)?,
        }
        let itself = match itself {
            Some(itself) => itself,
            None => {
                let made = File::open(path).map_err(|error| unusable(path, error))?;
                take(&made, path)?;
                made
            }
        };
        if !was_ledger {
            let marked = lock.set_len(0).and_then(|()| lock.write_all_at(LEDGER_MARK.as_bytes(), 0));
            marked.map_err(|error| unusable(path, error))?;
        }
        schema::make_durable(&connection).map_err(|error| unusable(path, error))?;
        let log_pages = Arc::new(AtomicI32::new(0));
        let told = Arc::clone(&log_pages);
        // Instead of SQLite's own hook, which would write the database at moments that the watch does not know of.
        // Relaxed: it is called on the thread that commits.
        let hook = move |_: &mut Wal, pages| {
            told.store(pages, Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(|error| unusable(path, error))?;
        let watch = Watch::start(path).map_err(|error| unusable(path, error))?;
        let writing = Writing {
            _locks: [lock, itself],
            watch,
            log_pages,
            damaged: None,
            refused: None,
            is_told: false,
        };
        Ok(SqliteLedger {
            connection,
            path: path.to_owned(),
            clock: Box::new(clock),
            writing: Some(writing),
            trouble: Trouble::default(),
        })
    }

    /// Opens the file for reading, also while another process serves it. Calls that change something are refused.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<SqliteLedger, SqliteOpenError> {
        let path = path.as_ref();
        if !path.exists() {
            return Err(SqliteOpenError::Unusable {
                path: path.to_owned(),
                cause: "there is no such file".into(),
            });
        }
        let connection = connect_to_read(path)?;
        match schema::check(&connection, path)? {
            schema::FileKind::Ours => Ok(SqliteLedger {
                connection,
                path: path.to_owned(),
                clock: Box::new(system_time),
                writing: None,
                trouble: Trouble::default(),
            }),
            schema::FileKind::Nothing => {
                Err(SqliteOpenError::Foreign { path: path.to_owned(), what: "it is empty" })
            }
        }
    }

    /// What keeps this ledger from selling, for another thread to read.
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Carries out `calls` in one transaction; an error is for all of them.
    fn transaction(&mut self, calls: &[Call]) -> Result<Vec<Answer>, CallError> {
        let begin = if self.writing.is_some() { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.connection.execute_batch(begin).map_err(|error| self.refused(&error))?;
        let answers: rusqlite::Result<Vec<Answer>> =
            calls.iter().map(|call| dispatch::execute(&self.connection, call, (self.clock)())).collect();
        let answers = answers.map_err(|error| {
            let error = self.refused(&error);
            self.roll_back();
            error
        })?;
        match self.connection.execute_batch("COMMIT") {
            Ok(()) => {}
            Err(error) => {
                // A full disk is found before the commit is written. After any other failure the commit may be in
                // the file all the same.
                let refused =
                    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy));
                let refusal = self.refused(&error);
                self.roll_back();
                return Err(match refused {
                    true => refusal,
                    false => CallError::Unknown(format!("{}: {error}", self.path.display())),
                });
            }
        }
        // What was committed into a file that is no longer at its path is not there for anybody else.
        self.check_files().map_err(CallError::Unknown)?;
        self.carry_log_over();
        Ok(answers)
    }

    /// Whether the file can be served: it is the one that was opened, and sound as far as known.
    fn check_files(&mut self) -> Result<(), String> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let sound = match &writing.damaged {
            Some(what) => Err(what.clone()),
            None => writing.watch.check(),
        };
        if let Err(what) = &sound {
            writing.is_told = true;
            self.trouble.report(WAY, Some((Cause::File, what)));
            // Closing would delete a write-ahead log at our path, which may be another file's by now.
            if let Err(error) =
                self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            {
                tracing::warn!(%error, "SQLite may write to the ledger's path when this host stops");
            }
        } else if writing.refused.is_none() && std::mem::take(&mut writing.is_told) {
            self.trouble.report(WAY, None);
        }
        sound
    }

    /// Checkpoints the write-ahead log into the database once it is long enough. A failure is retried after the next
    /// commit: the log has everything.
    fn carry_log_over(&mut self) {
        let Some(writing) = &mut self.writing else { return };
        if writing.log_pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES {
            let done = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            writing.watch.note_checkpoint();
            if let Err(error) = done {
                tracing::warn!(%error, path = %self.path.display(), "the write-ahead log could not be checkpointed; the \
                     next commit tries again");
            }
        }
    }

    /// After the file could not be written: checks whether it still cannot be. Without a try nobody would know, since a
    /// host that is not ready is sent no bookings.
    fn probe_writing(&mut self) {
        let Some(Refused { tried_at, is_locked }) =
            self.writing.as_ref().and_then(|writing| writing.refused.as_ref())
        else {
            return;
        };
        if tried_at.elapsed() < PROBE_INTERVAL {
            return;
        }
        let is_refused = match is_locked {
            true => self.is_locked(),
            false => schema::rewrite(&self.connection).is_err(),
        };
        if is_refused {
            self.roll_back();
        }
        if let Some(writing) = &mut self.writing {
            match &mut writing.refused {
                Some(refused) if is_refused => refused.tried_at = Instant::now(),
                refused => *refused = None,
            }
        }
    }

    /// SQLite rolls back by itself after some errors and not after others.
    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, path = %self.path.display(), "a transaction could not be rolled back");
        }
    }

    /// Whether another program holds the file's write lock at this moment.
    fn is_locked(&self) -> bool {
        let waits = self.connection.busy_timeout(Duration::ZERO);
        let begun = waits.and_then(|()| self.connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK"));
        let restored = self.connection.busy_timeout(BUSY_TIMEOUT);
        begun.and(restored).is_err()
    }

    /// The refusal for an error that changed nothing. Reports it if it concerns the file.
    fn refused(&mut self, error: &rusqlite::Error) -> CallError {
        if let Some(what) = unsoundness(error) {
            return CallError::Unsound(what);
        }
        let path = self.path.display();
        let code = error.sqlite_error_code();
        let what = match code {
            Some(ErrorCode::DiskFull) => {
                format!("no space is left for {path}; free some, no restart is needed")
            }
            Some(ErrorCode::DatabaseBusy) => {
                format!("another program has {path} locked; end its transaction, no restart is needed")
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                let what = format!(
                    "{path} is damaged ({error}), so nothing is sold from it any more; stop this host and restore a \
                     backup, or see what `sqlite3 {path} .recover` can save"
                );
                if let Some(writing) = &mut self.writing {
                    writing.damaged = Some(what.clone());
                }
                what
            }
            _ => format!("{path}: {error}"),
        };
        // Other errors concern one call.
        let of_the_file = matches!(
            code,
            Some(
                ErrorCode::DiskFull
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::ReadOnly
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::PermissionDenied
            )
        );
        if of_the_file && let Some(writing) = &mut self.writing {
            let is_locked = code == Some(ErrorCode::DatabaseBusy);
            writing.refused = Some(Refused { tried_at: Instant::now(), is_locked });
            writing.is_told = true;
            self.trouble.report(WAY, Some((Cause::Refusing, &what)));
        } else {
            tracing::warn!("a call could not be carried out: {what}");
        }
        CallError::Refused(what)
    }
}

impl Ledger for SqliteLedger {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        if self.writing.is_none() && calls.iter().any(Call::may_write) {
            let refusal = CallError::Refused(format!("{} is open for reading only", self.path.display()));
            return vec![Err(refusal); calls.len()];
        }
        self.probe_writing();
        if let Err(what) = self.check_files() {
            return vec![Err(CallError::Refused(what)); calls.len()];
        }
        match self.transaction(calls) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // One call that cannot be carried out must not take the others of its batch with it. A file that somebody else
            // has locked is locked for all of them, and each would wait again.
            Err(CallError::Refused(_) | CallError::Unsound(_)) if calls.len() > 1 && !self.is_locked() => {
                let alone =
                    |call| self.transaction(std::slice::from_ref(call)).map(|mut answers| answers.remove(0));
                calls.iter().map(alone).collect()
            }
            Err(error) => vec![Err(error); calls.len()],
        }
    }
}

impl std::fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteLedger")
            .field("path", &self.path)
            .field("writes", &self.writing.is_some())
            .finish()
    }
}

/// What an error says is wrong with what is stored; `None` if it is about the file or the system.
fn unsoundness(error: &rusqlite::Error) -> Option<String> {
    match error {
        rusqlite::Error::ToSqlConversionFailure(what) => Some(what.to_string()),
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..) => Some(error.to_string()),
        _ => match error.sqlite_error_code()? {
            // The tables check what is written.
            ErrorCode::ConstraintViolation => Some(error.to_string()),
            _ => None,
        },
    }
}

/// Whether the file at that path is mounted there by itself: what belongs to it is beside another path. A system that
/// cannot tell (before Linux 5.8) says no.
fn is_mounted(path: &Path) -> bool {
    let told = statx(CWD, path, AtFlags::empty(), StatxFlags::empty());
    told.is_ok_and(|told| told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Locks a file for as long as it is open.
fn take(file: &File, path: &Path) -> Result<(), SqliteOpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(SqliteOpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(unusable(path, error)),
    }
}

/// What a path leads to, if it is a symbolic link, or a link to one; nothing need be there yet. Folders on the way may be
/// links as well: what is beside the file is found through them, too.
fn target(path: &Path) -> Result<PathBuf, SqliteOpenError> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&target) {
            Ok(next) => {
                // An absolute one replaces all of it.
                target.pop();
                target.push(next);
            }
            // EINVAL: it is not a link. If anything else is wrong with it, opening it tells.
            Err(_) => return Ok(target),
        }
    }
    Err(unusable(path, "too many levels of symbolic links"))
}

fn system_time() -> WallTime {
    // A clock before 1970 is as good as one at 1970: the ledger's time stands until the clock is set.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, SqliteOpenError> {
    // Not a URI: a path may have a question mark in it.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = connection.map_err(|error| unusable(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| unusable(path, error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Opens a file that may be on a file system, or in a folder, that cannot be written. SQLite then reads a file by an index
/// that it makes beside it, unless it is told that nobody writes the file.
fn connect_to_read(path: &Path) -> Result<Connection, SqliteOpenError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    let Err(error) = read else { return Ok(connection) };
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {}
        // Any other fault is found, and named, when the schema is read.
        _ => return Ok(connection),
    }
    let mut log = target(path)?.into_os_string();
    log.push("-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        let cause = format!(
            "{error}; its write-ahead log {} can only be read in a folder that can be written: copy both to one, and name \
             the copy",
            Path::new(&log).display()
        );
        return Err(unusable(path, cause));
    }
    drop(connection);
    // Nothing waits in a log, and nobody can write one here.
    let mut uri = b"file:".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' => uri.push(byte),
            _ if byte.is_ascii_alphanumeric() => uri.push(byte),
            _ => uri.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    let uri = Path::new(OsStr::from_bytes(&uri));
    connect(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
        .map_err(|_| unusable(path, error))
}

fn unusable(path: &Path, cause: impl std::fmt::Display) -> SqliteOpenError {
    SqliteOpenError::Unusable { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::{BookingId, Quantity, SaleName, SaleTerms};
    use crate::protocol::{BookingOp, Claim, Opener, SaleOp, SaleResult, Watermark};

    fn sale() -> SaleName {
        SaleName::parse("ticket").unwrap()
    }

    /// A ledger at that path with a sale of 100,000.
    fn selling(path: &Path) -> SqliteLedger {
        let mut ledger = SqliteLedger::open(path).unwrap();
        let terms = SaleTerms { total: 100_000, ..SaleTerms::default() };
        ledger.execute(&[SaleOp::Open { terms, by: Opener::Start }.on(sale())]).remove(0).unwrap();
        ledger
    }

    /// Books `count` tickets, each with an id of its own that begins with `prefix`.
    fn book(ledger: &mut SqliteLedger, prefix: &str, count: u32) -> Result<Answer, CallError> {
        let claim = |n| {
            let id = BookingId::parse(format!("{prefix}-{n}")).unwrap();
            Claim { id, quantity: Quantity::ONE, buyer: None }
        };
        ledger
            .execute(&[BookingOp::Reserve((0..count).map(claim).collect()).on(sale(), Watermark::default())])
            .remove(0)
    }

    #[track_caller]
    fn expect_refused(answer: Result<Answer, CallError>, words: &str) {
        assert!(matches!(&answer, Err(CallError::Refused(text)) if text.contains(words)), "{answer:?}");
    }

    fn log_of(path: &Path) -> PathBuf {
        path.with_extension("db-wal")
    }

    #[test]
    fn a_file_that_is_moved_away_sells_nothing_until_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (directory.path().join("a.db"), directory.path().join("aside"));
        let mut ledger = selling(&path);
        for file in [path.clone(), log_of(&path)] {
            std::fs::rename(&file, &aside).unwrap();
            expect_refused(book(&mut ledger, "away", 1), "deleted or moved");
            expect_refused(ledger.execute(&[SaleOp::Snapshot.on(sale())]).remove(0), "deleted or moved");
            assert!(ledger.trouble().get().is_some());
            std::fs::rename(&aside, &file).unwrap();
            book(&mut ledger, file.to_str().unwrap().rsplit('.').next().unwrap(), 1).unwrap();
            assert_eq!(ledger.trouble().get(), None);
        }
    }

    /// The old file has every acknowledged booking; the new one is left as it is, also at the end.
    #[test]
    fn a_file_that_is_replaced_sells_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a.db"), directory.path().join("b.db"));
        let mut ledger = selling(&path);
        let mut foreign = selling(&other);
        book(&mut foreign, "theirs", 7).unwrap();
        // Killed, as far as the files tell: with its log.
        for file in [other.clone(), log_of(&other)] {
            std::fs::copy(&file, directory.path().join("copy")).unwrap();
            std::fs::rename(
                directory.path().join("copy"),
                path.with_file_name(file.file_name().unwrap().to_str().unwrap().replace("b.db", "a.db")),
            )
            .unwrap();
        }
        expect_refused(book(&mut ledger, "ours", 1), "was replaced");
        drop(ledger);
        assert!(log_of(&path).exists(), "the log of the file that is there now was deleted");
        let mut there = reopened(&path);
        let answer = there.execute(&[SaleOp::Snapshot.on(sale())]).remove(0);
        assert!(matches!(answer, Ok(Answer::Sale { state, result: SaleResult::Done }) if state.sold == 7));
    }

    /// As `cp` does it: the same file, other bytes.
    #[test]
    fn a_file_that_is_written_over_sells_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut ledger = selling(&path);
        // Our own checkpoints are no reason to stop.
        for call in 0..150 {
            book(&mut ledger, &format!("call-{call}"), 200).unwrap();
        }
        let checkpointed = path.metadata().unwrap().len();
        assert!(checkpointed > 500_000, "no checkpoint yet at {checkpointed} bytes");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        expect_refused(book(&mut ledger, "late", 1), "another program");
    }

    /// Opens a file that was open in this process until now; see `tests/conformance/files.rs`.
    fn reopened(path: &Path) -> SqliteLedger {
        let started = Instant::now();
        loop {
            match SqliteLedger::open(path) {
                Err(SqliteOpenError::Locked { .. }) if started.elapsed() < Duration::from_secs(10) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => return opened.unwrap(),
            }
        }
    }

    /// SQLite syncs the log at each commit with these settings, and with none below them. Only a power cut would show it.
    #[test]
    fn a_commit_is_on_the_disk_before_it_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let is_durable = |ledger: SqliteLedger| {
            let word =
                ledger.connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
            let level = ledger.connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0));
            assert_eq!((word.unwrap().as_str(), level.unwrap()), ("wal", 2), "2 is FULL");
        };
        is_durable(selling(&path));
        // It is a setting of the connection, not of the file.
        is_durable(reopened(&path));
    }

    #[test]
    fn a_file_that_is_moved_away_within_a_commit_has_nothing_that_is_acknowledged() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (directory.path().join("a.db"), directory.path().join("aside"));
        let mut ledger = selling(&path);
        for (file, booked) in [(path.clone(), 1), (log_of(&path), 2)] {
            let (from, to) = (file.clone(), aside.clone());
            let move_away = move || {
                std::fs::rename(&from, &to).unwrap();
                false
            };
            ledger.connection.commit_hook(Some(move_away)).unwrap();
            let answer = book(&mut ledger, &format!("lost-{booked}"), 1);
            ledger.connection.commit_hook(None::<fn() -> bool>).unwrap();
            assert!(
                matches!(&answer, Err(CallError::Unknown(what)) if what.contains("deleted or moved")),
                "{answer:?}"
            );
            assert!(ledger.trouble().get().is_some());
            // Unknown, not failed: whoever puts the file back has it.
            std::fs::rename(&aside, &file).unwrap();
            let answer = ledger.execute(&[SaleOp::Snapshot.on(sale())]).remove(0);
            assert!(
                matches!(&answer, Ok(Answer::Sale { state, result: SaleResult::Done }) if state.sold == booked),
                "{answer:?}"
            );
        }
    }

    /// SQLite says what went wrong, not whether the commit is in the file.
    #[test]
    fn a_commit_that_fails_may_be_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = selling(&directory.path().join("a.db"));
        ledger.connection.commit_hook(Some(|| true)).unwrap();
        let answer = book(&mut ledger, "perhaps", 1);
        assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
        ledger.connection.commit_hook(None::<fn() -> bool>).unwrap();
        book(&mut ledger, "after", 1).unwrap();
    }

    #[test]
    fn a_ledger_that_is_gone_is_not_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        drop(selling(&path));
        std::fs::remove_file(&path).unwrap();
        let begin = || loop {
            match SqliteLedger::open(&path) {
                Err(SqliteOpenError::Locked { .. }) => std::thread::sleep(Duration::from_millis(1)),
                opened => return opened,
            }
        };
        for empty in [false, true] {
            if empty {
                std::fs::write(&path, "").unwrap();
            }
            let error = begin().unwrap_err();
            assert!(matches!(error, SqliteOpenError::Gone { .. }), "{error}");
            assert_eq!(path.exists(), empty, "it must be left as it is");
        }
        std::fs::remove_file(directory.path().join("a.db.lock")).unwrap();
        begin().unwrap();
    }

    /// SQLite keeps the write-ahead log beside the file that a link leads to: one that is looked for beside the link is not
    /// there, and one that is locked beside the link locks nothing.
    #[test]
    fn a_path_through_links_leads_to_one_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        fs::create_dir(at("real")).unwrap();
        link("real", "folder");
        link("real/a.db", "link");
        link("link", "link-to-link");
        std::os::unix::fs::symlink(at("real/a.db"), at("absolute")).unwrap();
        let paths = ["real/a.db", "link", "link-to-link", "absolute", "folder/a.db", "real/../folder/./a.db"];
        // Also where there is nothing yet.
        let mut sold = 0;
        for path in paths.iter().rev() {
            let mut ledger = if sold == 0 { selling(&at(path)) } else { reopened(&at(path)) };
            book(&mut ledger, &format!("by-{sold}"), 1).unwrap();
            sold += 1;
            for other in paths {
                let refused = SqliteLedger::open(at(other)).unwrap_err();
                assert!(
                    matches!(refused, SqliteOpenError::Locked { .. }),
                    "{other} beside {path}: {refused}"
                );
                let mut reader = SqliteLedger::open_read_only(at(other)).unwrap();
                let answer = reader.execute(&[SaleOp::Snapshot.on(sale())]).remove(0);
                assert!(
                    matches!(&answer, Ok(Answer::Sale { state, result: SaleResult::Done }) if state.sold == sold),
                    "{other}: {answer:?}"
                );
            }
        }
        let beside: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".lock") || name.contains("-wal"))
            .collect();
        assert_eq!(beside, [""; 0], "what belongs to the file is beside the file");
        link("round", "round");
        let refused = SqliteLedger::open(at("round")).unwrap_err();
        assert!(refused.to_string().contains("too many levels"), "{refused}");
    }

    /// Each name has a write-ahead log of its own, so that who opens the other one sees an old file, and writes over the new.
    #[test]
    fn another_name_of_a_ledger_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("a.db"), directory.path().join("b.db"));
        let mut ledger = selling(&path);
        book(&mut ledger, "early", 1).unwrap();
        fs::hard_link(&path, &other).unwrap();
        let refused = SqliteLedger::open(&other).unwrap_err();
        assert!(matches!(refused, SqliteOpenError::Locked { .. }), "{refused}");
        book(&mut ledger, "late", 1).unwrap();
        drop(ledger);
        drop(reopened(&path));
        let started = Instant::now();
        loop {
            let refused = SqliteLedger::open(&other).unwrap_err();
            if matches!(refused, SqliteOpenError::OtherName { .. }) {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{refused}");
            std::thread::sleep(Duration::from_millis(1));
        }
        // The name goes, and with it what kept it out.
        fs::remove_file(&path).unwrap();
        fs::remove_file(directory.path().join("a.db.lock")).unwrap();
        let mut ledger = reopened(&other);
        let answer = ledger.execute(&[SaleOp::Snapshot.on(sale())]).remove(0);
        assert!(
            matches!(&answer, Ok(Answer::Sale { state, result: SaleResult::Done }) if state.sold == 2),
            "{answer:?}"
        );
    }

    #[test]
    fn a_damaged_file_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut ledger = selling(&path);
        for call in 0..10 {
            book(&mut ledger, &format!("call-{call}"), 200).unwrap();
        }
        drop(ledger);
        let honest = std::fs::read(&path).unwrap();
        let mut holed = honest.clone();
        holed[4096 * 5..4096 * 8].fill(0x5a);
        let mut headless = honest.clone();
        headless[..16].fill(0);
        for bytes in [&holed[..], &headless[..], &honest[..honest.len() / 2]] {
            std::fs::write(&path, bytes).unwrap();
            let error = SqliteLedger::open(&path).unwrap_err();
            assert!(matches!(error, SqliteOpenError::Damaged { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "it must be left as it is");
        }
        std::fs::write(&path, &honest).unwrap();
        reopened(&path);
    }

    /// A page that the disk gives back as another: nobody wrote the file, and the page of the sale itself is sound.
    #[test]
    fn a_file_that_was_found_damaged_sells_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut ledger = selling(&path);
        book(&mut ledger, "early", 100).unwrap();
        ledger.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        ledger.writing.as_mut().unwrap().watch.note_checkpoint();
        let number = "SELECT rootpage FROM sqlite_schema WHERE name = 'bookings'";
        let page = ledger.connection.query_row(number, [], |row| row.get::<_, u32>(0)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(&[0x5a; 4096], 4096 * u64::from(page - 1)).unwrap();
        file.set_modified(modified).unwrap();
        // What SQLite has read it remembers.
        ledger.connection.execute_batch("PRAGMA shrink_memory").unwrap();
        expect_refused(book(&mut ledger, "late", 1), "is damaged");
        expect_refused(ledger.execute(&[SaleOp::Snapshot.on(sale())]).remove(0), "is damaged");
        let told = ledger.trouble().all();
        assert!(matches!(&told[..], [(WAY, Cause::File, what)] if what.contains("is damaged")), "{told:?}");
    }

    /// The rules count; this is for what they miss.
    #[test]
    fn a_file_takes_no_sale_of_more_tickets_than_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = selling(&directory.path().join("a.db"));
        for counts in
            ["held = 100001", "sold = 100001", "held = 60000, sold = 60000", "held = -1", "sold = -1"]
        {
            let refusal = ledger.connection.execute(&format!("UPDATE sales SET {counts}"), []).unwrap_err();
            assert_eq!(
                refusal.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation),
                "{counts}: {refusal}"
            );
        }
        ledger.connection.execute("UPDATE sales SET held = 40000, sold = 60000", []).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_trouble_until_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut ledger = selling(&path);
        let other = Connection::open(&path).unwrap();
        let until_it_is_over = |ledger: &mut SqliteLedger| {
            std::thread::sleep(PROBE_INTERVAL);
            ledger.execute(&[SaleOp::Snapshot.on(sale())]).remove(0).unwrap();
            assert_eq!(ledger.trouble().get(), None);
        };
        // Another program has begun to write.
        ledger.connection.busy_timeout(Duration::ZERO).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        expect_refused(book(&mut ledger, "locked", 1), "locked; end its transaction");
        let told = ledger.trouble().all();
        assert!(matches!(&told[..], [(WAY, Cause::Refusing, what)] if what.contains("locked")), "{told:?}");
        other.execute_batch("ROLLBACK").unwrap();
        until_it_is_over(&mut ledger);
        // SQLite answers as it does where the file system was made read-only.
        ledger.connection.execute_batch("PRAGMA query_only = 1").unwrap();
        expect_refused(book(&mut ledger, "read-only", 1), "readonly");
        assert!(ledger.trouble().get().is_some_and(|what| what.contains("readonly")));
        ledger.connection.execute_batch("PRAGMA query_only = 0").unwrap();
        until_it_is_over(&mut ledger);
        book(&mut ledger, "late", 1).unwrap();
    }

    #[test]
    fn a_full_disk_refuses_whole_calls_and_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = selling(&directory.path().join("a.db"));
        // SQLite answers as it does on a full disk.
        ledger.connection.execute_batch("PRAGMA max_page_count = 40").unwrap();
        let mut granted = 0;
        let refusal = (0..200).find_map(|call: u32| {
            let answer = book(&mut ledger, &format!("call-{call}"), 50);
            granted += 50 * u64::from(answer.is_ok());
            answer.err()
        });
        expect_refused(Err(refusal.expect("40 pages are enough")), "no space is left");
        assert!(ledger.trouble().get().is_some_and(|what| what.contains("no space is left")));
        let answer = ledger.execute(&[SaleOp::Snapshot.on(sale())]).remove(0);
        assert!(
            matches!(answer, Ok(Answer::Sale { state, result: SaleResult::Done }) if state.sold == granted && state.sequence == granted)
        );
        assert!(ledger.trouble().get().is_some(), "reading says nothing about space");
        // Whoever only reads finds out once there is space again.
        std::thread::sleep(PROBE_INTERVAL);
        ledger.execute(&[SaleOp::Snapshot.on(sale())]).remove(0).unwrap();
        assert_eq!(ledger.trouble().get(), None);
    }
}
