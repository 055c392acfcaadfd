//! The access log: one JSON object a line for every booking request, written off the loops.
//!
//! | field | what |
//! | --- | --- |
//! | `at` | when the answer was made, by the host's clock, RFC 3339 in UTC with milliseconds |
//! | `sale` | the sale's name; `null` where the request's was not well-formed |
//! | `booking` | the booking's id; `null` where there was none yet (sold out before an id was made) or it was not well-formed |
//! | `quantity` | tickets asked for; for `replayed`, `confirmed` and `cancelled` those of the booking |
//! | `buyer` | the buyer; absent where none was named |
//! | `outcome` | see [`Outcome`] |
//! | `status` | the HTTP status of the answer |
//!
//! ```json
//! {"at":"2026-02-01T10:00:00.123Z","sale":"ticket","booking":"b-1","quantity":2,"buyer":"u-81","outcome":"granted","status":201}
//! ```
//!
//! What an audit may rely on: a `granted` line stands for exactly one booking in the ledger, and each booking there
//! was told by a `granted` or `replayed` line or left open by an `outcome-unknown` one. Lines of one core stand in the
//! order of their answers; those of different cores interleave.
//!
//! A line `{"dropped":N}` says that N lines before it were not written (the disk was slower than the crowd, or full):
//! the log is incomplete and an audit says so. A process that is killed may leave its last line torn; the next one
//! that opens the file ends it with a line feed, so that one line is lost and not two. Empty lines mean nothing.
//!
//! Each loop fills a [`LineBuffer`] and hands it over at the end of its turn; one thread writes. A loop never waits for
//! the disk.

mod buffer;
mod writer;

pub use buffer::LineBuffer;
pub use writer::{AccessLog, AccessLogCounters, Sink};

use crate::booking::{BookingId, BuyerId, Quantity, SaleName};
use crate::clock::WallTime;

/// What one line says.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When the answer was made.
    pub at: WallTime,
    /// Of which sale.
    pub sale: Option<&'a SaleName>,
    /// Which booking.
    pub booking: Option<&'a BookingId>,
    /// How many tickets.
    pub quantity: Quantity,
    /// For whom.
    pub buyer: Option<&'a BuyerId>,
    /// What became of it.
    pub outcome: Outcome,
    /// The HTTP status of the answer.
    pub status: u16,
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What became of a booking request. The words of refusals are those of their problem types.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Outcome {
            $($(#[$doc])* $name,)*
        }

        impl Outcome {
            /// All of them.
            pub const ALL: &[Outcome] = &[$(Outcome::$name,)*];

            /// The word in the log.
            pub fn word(self) -> &'static str {
                match self {
                    $(Outcome::$name => $word,)*
                }
            }
        }
    };
}

outcomes! {
    /// Booked by this request: the ledger took the tickets for it.
    Granted = "granted",
    /// The id was booked before; nothing was booked now.
    Replayed = "replayed",
    /// No ticket (or too few) left.
    SoldOut = "sold-out",
    /// The buyer has as many as the sale allows.
    BuyerLimit = "buyer-limit",
    /// Not yet, no more, or paused.
    NotOnSale = "not-on-sale",
    /// The id was used for another quantity or buyer.
    IdReused = "id-reused",
    /// The id is in flight on this host.
    InProgress = "in-progress",
    /// Not well-formed.
    BadRequest = "bad-request",
    /// No such sale.
    NoSuchSale = "no-such-sale",
    /// The ledger did nothing, for sure.
    LedgerUnavailable = "ledger-unavailable",
    /// The ledger may have booked or not: nobody knows yet.
    OutcomeUnknown = "outcome-unknown",
    /// Too much in flight on this host; the ledger was not asked.
    Overloaded = "overloaded",
    /// A booking was confirmed.
    Confirmed = "confirmed",
    /// A booking was not confirmed: its hold is over and its tickets gone.
    HoldExpired = "hold-expired",
    /// A booking was cancelled.
    Cancelled = "cancelled",
    /// No such booking.
    NotFound = "not-found",
}

impl Outcome {
    /// The outcome of that [`word`](Outcome::word).
    pub fn from_word(word: &str) -> Option<Outcome> {
        Outcome::ALL.iter().copied().find(|outcome| outcome.word() == word)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
