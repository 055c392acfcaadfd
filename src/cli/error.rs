//! Why a command did not do what it was asked for.

use std::io;

use crate::booking::{SaleName, TermsError};
use crate::protocol::CallError;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The ledger has no sale of that name.
    #[error("the ledger has no sale {0:?}; `boxoffice sale list` shows those it has")]
    NoSuchSale(SaleName),
    /// There is one of that name already, on other terms or not: opening never changes a sale.
    #[error("sale {0:?} already exists; change it with `boxoffice sale set`")]
    SaleExists(SaleName),
    /// Only a closed sale is removed.
    #[error("{0:?} is not closed: close it with `boxoffice sale close {0}` first")]
    NotClosed(SaleName),
    /// Only a sale of which nothing is held is removed.
    #[error("{held} tickets of {sale:?} are held: wait until the holds have ended")]
    StillHeld {
        /// The sale.
        sale: SaleName,
        /// Tickets in unpaid bookings.
        held: u64,
    },
    /// Nobody said yes.
    #[error("nothing was done: this asks first; --yes answers for you")]
    NotConfirmed,
    /// The ledger refused a window; nothing was changed.
    #[error("the change of {0:?} was refused: it would end before it starts")]
    EmptyWindow(SaleName),
    /// The ledger refused a total; nothing was changed.
    #[error(
        "the change of {sale:?} was refused: its total cannot be below {held} held + {sold} sold tickets"
    )]
    TotalTooLow {
        /// The sale.
        sale: SaleName,
        /// Tickets in unpaid bookings.
        held: u64,
        /// Tickets in confirmed bookings.
        sold: u64,
    },
    /// The list of hosts is not what hosts write.
    #[error("the list of hosts (bx:hosts) cannot be read: {0}. Delete that key: hosts write it again")]
    HostsUnreadable(String),
    /// No host is there to be written into a configuration.
    #[error("no host that shares this ledger has said lately that it lives; nothing was printed")]
    NoHosts,
    /// What a host tells of itself cannot be written into a configuration.
    #[error("a host says that it is at {0:?}, which is no ADDR:PORT; restart it with another --advertise")]
    NoAddress(String),
    /// The terms asked for do not fit together.
    #[error("{0}")]
    Terms(#[from] TermsError),
    /// The ledger did not answer, or refused.
    #[error("{0}")]
    Ledger(#[from] CallError),
    /// The ledger answered another question than the one asked: a broken ledger, or one of another version.
    #[error("unexpected answer from the ledger: {0}")]
    Unexpected(String),
    /// A file could not be read.
    #[error("{path}: {error}")]
    File {
        /// Its name.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The output could not be written.
    #[error("the output could not be written: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// 1 if it failed, 2 if the command line is wrong; 0 if the reader of a pipe has seen enough and left.
    pub fn exit_status(&self) -> u8 {
        match self {
            CommandError::Terms(_) => 2,
            CommandError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }
}
