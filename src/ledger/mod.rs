//! The ledger: the truth about every ticket. One trait, two implementations, one conformance suite
//! (`tests/conformance`).

pub mod redis;
pub mod sqlite;
pub mod url;

use crate::booking::{Answer, Call, CallError};

/// A ledger that answers before it returns. The command line, the admin listener and the SQLite thread use it
/// directly; the event loops speak to Redis without blocking and share the packing and reading of calls with it.
pub trait Ledger: Send {
    /// Carries out `calls` in order and answers each. Each call is atomic and durable (as durable as the ledger was
    /// set up to be) before its answer is returned; calls of one batch may share one transaction or one round trip.
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>>;
}
