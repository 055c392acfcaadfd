//! Why a command did not do what it was asked for.

use std::io;
use std::net::SocketAddr;

use crate::booking::{SaleName, TermsError};
use crate::client::HostError;
use crate::protocol::CallError;
use crate::rehearsal::CrowdError;

use super::office::{Office, similar_sale};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The ledger has no sale of that name, and perhaps one of a similar name.
    #[error("the ledger has no sale {0:?}; {hint}`boxoffice sale list` shows those it has", hint = did_you_mean(.1))]
    NoSuchSale(SaleName, Option<Box<SaleName>>),
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
    /// What was asked for is refused, as a client would be told.
    #[error("{title}{colon}{detail}", colon = if detail.is_empty() { "" } else { ": " })]
    Problem {
        /// A few words.
        title: String,
        /// What it means, and what to do.
        detail: String,
    },
    /// The host wants its token.
    #[error("the host wants its token: name the file that it is in by --admin-token-file")]
    Unauthorized,
    /// A host that does not answer.
    #[error("{0}")]
    Host(#[from] HostError),
    /// No host does that.
    #[error("`{0}` speaks to a ledger alone: give it --ledger in place of --admin")]
    ByLedgerAlone(&'static str),
    /// A rehearsal on a sale that is there.
    #[error(
        "sale {0:?} is there already, and a rehearsal makes its own: choose another name, or remove that one with `boxoffice sale \
         close {0}` and `boxoffice sale remove {0}`"
    )]
    RehearsedAlready(SaleName),
    /// A host that has not heard of a sale that another one opened.
    #[error("{0} does not have sale {1:?}: does it share the ledger of the host at --admin?")]
    NotThere(SocketAddr, SaleName),
    /// A crowd that could not ask.
    #[error("{0}")]
    Crowd(#[from] CrowdError),
    /// What a rehearsal made is still there.
    #[error(
        "sale {sale:?} of the rehearsal is still there: {error}. Remove it with `boxoffice sale remove {sale}`"
    )]
    NotCleanedUp {
        /// The sale.
        sale: SaleName,
        /// Why.
        error: Box<CommandError>,
    },
    /// A host that is to be shown and is not there.
    #[error("{0}")]
    NotShown(String),
    /// A list that is not whole.
    #[error("there are more than these {0}: what is asked for at once is bounded")]
    More(usize),
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

fn did_you_mean(similar: &Option<Box<SaleName>>) -> String {
    similar.as_ref().map(|similar| format!("did you mean {similar:?}? ")).unwrap_or_default()
}

impl CommandError {
    /// The same; of a sale that is not there, with the name that may have been meant.
    pub(super) fn with_similar(self, sale: SaleName, office: &mut dyn Office) -> CommandError {
        match self {
            CommandError::NoSuchSale(missing, None) if missing == sale => {
                CommandError::NoSuchSale(sale, similar_sale(office, &sale).map(Box::new))
            }
            other => other,
        }
    }

    /// 1 if it failed, 2 if the command line is wrong; 0 if the reader of a pipe has seen enough and left.
    pub fn exit_status(&self) -> u8 {
        match self {
            CommandError::Terms(_) | CommandError::ByLedgerAlone(_) => 2,
            CommandError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }
}
