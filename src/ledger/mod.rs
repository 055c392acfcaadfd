//! The ledger: the truth about every ticket. One trait, two implementations, one conformance suite
//! (`tests/conformance`).

mod held;
pub mod redis;
pub mod sqlite;
pub mod url;

use std::sync::{Arc, Mutex, PoisonError};

use crate::booking::{Answer, Call, CallError};

/// A ledger that answers before it returns. The command line, the admin listener and the SQLite thread use it
/// directly; the event loops speak to Redis without blocking and share the packing and reading of calls with it.
pub trait Ledger: Send {
    /// Carries out `calls` in order and answers each. Each call is atomic and durable (as durable as the ledger was
    /// set up to be) before its answer is returned; calls of one batch may share one transaction or one round trip.
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>>;
}

/// What keeps a ledger from selling though it can be asked: said by its owner, read by whoever tells operators.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// What it is, for people.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what it is; `true` where that is news.
    pub fn set(&self, what: String) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = said.as_ref() != Some(&what);
        *said = Some(what);
        news
    }

    /// Says that there is none; `true` where there was.
    pub fn clear(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is wrong.
    #[error(transparent)]
    Url(#[from] url::UrlError),
    /// The file is of no use.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// Redis is not to be had.
    #[error(transparent)]
    Redis(#[from] redis::ConnectError),
}

/// Opens the ledger of that URL, for the command line. With `reads_only` an SQLite file may be in use by a server.
///
/// # Errors
/// See [`OpenError`].
pub fn open(url: &str, reads_only: bool) -> Result<Box<dyn Ledger>, OpenError> {
    Ok(match url.parse()? {
        url::LedgerUrl::Sqlite(path) if reads_only => Box::new(sqlite::SqliteLedger::open_read_only(&path)?),
        url::LedgerUrl::Sqlite(path) => Box::new(sqlite::SqliteLedger::open(&path)?),
        url::LedgerUrl::Redis(url) => Box::new(redis::RedisLedger::connect(&url)?),
    })
}
