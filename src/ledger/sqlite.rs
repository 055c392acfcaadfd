//! The embedded ledger: one SQLite file, one process that writes it, one transaction a batch.
//!
//! The rules are in `rules`, the same as those of `lua/`; here are the file, its lock and its transactions.

mod rules;
mod schema;
mod survey;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::booking::{Answer, Call, CallError};
use crate::clock::WallTime;
use crate::ledger::Ledger;

/// Prepared statements that are kept: more than there are.
const STATEMENTS_MAX: usize = 64;

/// How long a write waits for a program that reads or writes the file beside us, such as `sqlite3`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a file cannot be the ledger.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes it.
    #[error(
        "{path} is in use by another boxoffice; stop that one, or change its sales through its admin address: PUT /v1/sales/NAME"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or made.
    #[error("cannot open {path}: {cause}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        cause: String,
    },
    /// It holds something else, and is left as it is.
    #[error("{path} is not a boxoffice ledger ({what}); it was left as it is, choose another path")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// A later version wrote it.
    #[error(
        "{path} has schema {found}, of a newer boxoffice than this one, which knows {known}; use the newer one"
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

/// Where a ledger has its time from.
type Clock = Box<dyn FnMut() -> WallTime + Send>;

/// A ledger in one SQLite file.
pub struct SqliteLedger {
    connection: Connection,
    path: PathBuf,
    clock: Clock,
    /// Held for as long as the file may be written; `None` where it is only read.
    lock: Option<File>,
}

impl SqliteLedger {
    /// Opens the file for serving, or makes it. No other process can open it so until this one is gone.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteLedger, OpenError> {
        SqliteLedger::open_with_clock(path, system_time)
    }

    /// As [`open`](SqliteLedger::open), with another clock than the system's.
    pub fn open_with_clock(
        path: impl AsRef<Path>,
        clock: impl FnMut() -> WallTime + Send + 'static,
    ) -> Result<SqliteLedger, OpenError> {
        let path = path.as_ref();
        // A file beside the database, since SQLite's own locks come and go with transactions, and `audit` and
        // `sqlite3` are to read while we serve. The system lets go of it however we end, so that it is never stale.
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| unusable(path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(unusable(path, error)),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = connect(path, flags)?;
        if schema::check(&connection, path)? == schema::Found::Nothing {
            schema::create(&connection).map_err(|error| unusable(path, error))?;
        }
        schema::make_durable(&connection).map_err(|error| unusable(path, error))?;
        Ok(SqliteLedger { connection, path: path.to_owned(), clock: Box::new(clock), lock: Some(lock) })
    }

    /// Opens the file for reading, also while another process serves it. Calls that change something are refused.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<SqliteLedger, OpenError> {
        let path = path.as_ref();
        if !path.exists() {
            return Err(OpenError::Unusable { path: path.to_owned(), cause: "there is no such file".into() });
        }
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        match schema::check(&connection, path)? {
            schema::Found::Ours => Ok(SqliteLedger {
                connection,
                path: path.to_owned(),
                clock: Box::new(system_time),
                lock: None,
            }),
            schema::Found::Nothing => Err(OpenError::Foreign { path: path.to_owned(), what: "it is empty" }),
        }
    }

    /// Carries out `calls` in one transaction; an error is for all of them.
    fn transaction(&mut self, calls: &[Call]) -> Result<Vec<Answer>, CallError> {
        let begin = if self.lock.is_some() { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.connection.execute_batch(begin).map_err(|error| self.refused(&error))?;
        let answers: rusqlite::Result<Vec<Answer>> =
            calls.iter().map(|call| rules::execute(&self.connection, call, (self.clock)())).collect();
        let answers = answers.map_err(|error| {
            let error = self.refused(&error);
            self.roll_back();
            error
        })?;
        match self.connection.execute_batch("COMMIT") {
            Ok(()) => Ok(answers),
            Err(error) => {
                // A full disk is found before the commit is written. After any other failure the commit may be in
                // the file all the same.
                let refused =
                    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy));
                let error = if refused {
                    self.refused(&error)
                } else {
                    CallError::Unknown(format!("{}: {error}", self.path.display()))
                };
                self.roll_back();
                Err(error)
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

    /// Whether another program holds the file's write lock this very moment.
    fn is_locked(&self) -> bool {
        let waits = self.connection.busy_timeout(Duration::ZERO);
        let begun = waits.and_then(|()| self.connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK"));
        let restored = self.connection.busy_timeout(BUSY_TIMEOUT);
        begun.and(restored).is_err()
    }

    fn refused(&self, error: &rusqlite::Error) -> CallError {
        let path = self.path.display();
        CallError::Refused(match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => {
                format!("no space is left for {path}; free some, nothing needs a restart")
            }
            Some(ErrorCode::DatabaseBusy) => {
                format!("another program holds {path} locked; end its transaction, nothing needs a restart")
            }
            _ => format!("{path}: {error}"),
        })
    }
}

impl Ledger for SqliteLedger {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        if self.lock.is_none() && calls.iter().any(changes) {
            let refusal = CallError::Refused(format!("{} is open for reading only", self.path.display()));
            return vec![Err(refusal); calls.len()];
        }
        match self.transaction(calls) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // One call that cannot be carried out must not take the others of its batch with it. A file that somebody
            // else has locked is locked for all of them, and each would wait for it anew.
            Err(CallError::Refused(_)) if calls.len() > 1 && !self.is_locked() => {
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
            .field("writes", &self.lock.is_some())
            .finish()
    }
}

/// Whether a call may write.
fn changes(call: &Call) -> bool {
    !matches!(
        call,
        Call::Snapshot { .. }
            | Call::LookUp { .. }
            | Call::Sales
            | Call::Page { .. }
            | Call::Log { .. }
            | Call::Trim { .. }
            | Call::Survey { .. }
    )
}

fn system_time() -> WallTime {
    // A clock before 1970 is as good as one at 1970: the ledger's time stands until the clock is set.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    // Not a URI: a path may have a question mark in it.
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
    let connection = connection.map_err(|error| unusable(path, error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| unusable(path, error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

fn unusable(path: &Path, cause: impl std::fmt::Display) -> OpenError {
    OpenError::Unusable { path: path.to_owned(), cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::{BookingId, Claim, Quantity, SaleName, SaleTerms};

    #[test]
    fn a_full_disk_refuses_whole_calls_and_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = SqliteLedger::open(directory.path().join("boxoffice.db")).unwrap();
        let sale = SaleName::parse("ticket").unwrap();
        let terms = SaleTerms { total: 100_000, ..SaleTerms::default() };
        ledger.execute(&[Call::Open { sale, terms }]).remove(0).unwrap();
        // SQLite answers as it does on a full disk.
        ledger.connection.execute_batch("PRAGMA max_page_count = 40").unwrap();
        let mut granted = 0;
        let refusal = (0..200).find_map(|call: u32| {
            let claim = |n| {
                let id = BookingId::parse(format!("booking-{call}-{n}")).unwrap();
                Claim { id, quantity: Quantity::ONE, buyer: None }
            };
            let answer =
                ledger.execute(&[Call::Reserve { sale, claims: (0..50).map(claim).collect() }]).remove(0);
            granted += 50 * u64::from(answer.is_ok());
            answer.err()
        });
        let Some(CallError::Refused(text)) = refusal else { panic!("{refusal:?}") };
        assert!(text.contains("no space is left"), "{text}");
        let answer = ledger.execute(&[Call::Snapshot { sale }]).remove(0);
        assert!(
            matches!(answer, Ok(Answer::Sale { state, .. }) if state.sold == granted && state.sequence == granted)
        );
    }
}
