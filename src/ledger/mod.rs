//! The ledger: the truth about every ticket. One trait, two implementations, one conformance suite
//! (`tests/conformance`).

#[cfg(all(test, not(loom)))]
pub(crate) mod for_tests;
mod held;
pub mod redis;
pub mod sqlite;
pub mod tls;
mod trouble;
pub mod url;

use crate::protocol::{Answer, Call, CallError, LedgerOp, LedgerResult};
pub use trouble::{Cause, Trouble, Way};

/// What keys a Redis has and what is in them: rises with each change that a host of before would misread. A ledger has it in
/// `bx:ledger`, and each sale of a later one has its number and a colon before its status.
pub const LAYOUT: u64 = 1;

/// A ledger that answers before it returns. The command line, the admin listener and the SQLite thread use it
/// directly; the event loops speak to Redis without blocking and share the packing and reading of calls with it.
pub trait Ledger {
    /// Carries out `calls` in order and answers each. Each call is atomic and durable (as durable as the ledger was
    /// set up to be) before its answer is returned; calls of one batch may share one transaction or one round trip.
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>>;
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is wrong.
    #[error(transparent)]
    Url(#[from] url::UrlError),
    /// The file cannot be used.
    #[error(transparent)]
    Sqlite(#[from] sqlite::SqliteOpenError),
    /// There is no connection to Redis.
    #[error(transparent)]
    Redis(#[from] redis::ConnectError),
    /// See [`LayoutError`].
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Why a ledger is not touched.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A later version has been at work there.
    #[error(
        "this ledger is of layout {found}, and this version of boxoffice knows {LAYOUT}: use the newer version, here as on the other hosts"
    )]
    Newer {
        /// Its layout.
        found: u64,
    },
    /// It does not say.
    #[error("the ledger does not tell its layout (bx:ledger): {}", .0.words())]
    Unknown(CallError),
}

/// Refuses a ledger that this version would misread. Changes nothing.
///
/// # Errors
/// See [`LayoutError`].
pub fn check_layout(ledger: &mut dyn Ledger) -> Result<(), LayoutError> {
    let answer = ledger.execute(&[Call::Ledger(LedgerOp::Layout)]).pop();
    match answer {
        Some(Ok(Answer::Ledger(LedgerResult::Layout(found)))) if found > LAYOUT => {
            Err(LayoutError::Newer { found })
        }
        Some(Ok(Answer::Ledger(LedgerResult::Layout(_)))) => Ok(()),
        Some(Err(error)) => Err(LayoutError::Unknown(error)),
        _ => Err(LayoutError::Unknown(CallError::Garbled("another answer".to_owned()))),
    }
}

impl OpenError {
    /// Whether the configuration is wrong, and not the ledger.
    pub fn is_of_configuration(&self) -> bool {
        match self {
            OpenError::Url(_) => true,
            OpenError::Redis(error) => error.is_of_configuration(),
            OpenError::Sqlite(_) | OpenError::Layout(_) => false,
        }
    }
}

/// Opens the ledger at that URL, for the command line; its password and what TLS needs may be in files. With `reads_only` a
/// SQLite file may be in use by a server.
///
/// # Errors
/// See [`OpenError`].
pub fn open(
    url: &str,
    files: &url::LedgerFiles,
    reads_only: bool,
) -> Result<Box<dyn Ledger + Send>, OpenError> {
    match url.parse::<url::LedgerUrl>()?.with_files(files)? {
        url::LedgerUrl::Sqlite(path) if !reads_only => Ok(Box::new(sqlite::SqliteLedger::open(&path)?)),
        url => open_to_read(&url),
    }
}

/// Opens the ledger at that URL to read from it: a SQLite file may be in use by a server, also by this process.
///
/// # Errors
/// See [`OpenError`].
pub fn open_to_read(url: &url::LedgerUrl) -> Result<Box<dyn Ledger + Send>, OpenError> {
    Ok(match url {
        url::LedgerUrl::Sqlite(path) => Box::new(sqlite::SqliteLedger::open_read_only(path)?),
        url::LedgerUrl::Redis(url) => {
            let mut ledger = redis::RedisLedger::connect(url)?;
            check_layout(&mut ledger)?;
            Box::new(ledger)
        }
    })
}
