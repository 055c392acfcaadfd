//! The access log: one JSON object a line for every request to book whose sale is known, written off the loops.
//! Malformed requests, look-ups, confirmations and cancellations have no line.
//!
//! | field | what |
//! | --- | --- |
//! | `at` | when the answer was made, by the host's clock, RFC 3339 in UTC with milliseconds |
//! | `sale` | the sale's name |
//! | `booking` | the booking's id; `null` if there was none yet (refused before an id was made) |
//! | `quantity` | tickets asked for |
//! | `buyer` | the buyer; absent if none was named |
//! | `outcome` | see [`OutcomeLabel`] |
//! | `status` | the HTTP status of the answer |
//! | `client` | the client's address: the peer's, or what a [trusted proxy](crate::proxies) says |
//! | `proxy` | the address of the trusted proxy that named the client; absent if none did |
//!
//! ```json
//! {"at":"2026-02-01T10:00:00.123Z","sale":"a","booking":"b","quantity":2,"outcome":"granted","status":201,"client":"10.0.0.7"}
//! ```
//!
//! What an audit may rely on: a `granted` line stands for exactly one booking in the ledger, and each booking there
//! was reported by a `granted` or `replayed` line or left open by an `outcome-unknown` one. Lines of one core stand in the
//! order of their answers; those of different cores interleave.
//!
//! A line `{"dropped":N}` says that N lines before it were not written (the disk was slower than the crowd, or full):
//! the log is incomplete and an audit says so. A process that is killed may leave its last line torn; the next one
//! that opens the file ends it with a line feed, so that one line is lost and not two. Empty lines mean nothing.
//!
//! A file that is renamed or removed while it is written, as by `logrotate`, is opened anew when the host is told so
//! ([`Reopener`]), or within two seconds. Each line is in the one file or in the other, and none in both.
//!
//! Each loop fills a [`LineBuffer`] and hands it over at the end of its turn; one thread writes. A loop never waits for
//! the disk.

mod buffer;
mod file;
mod sink;
mod writer;

pub use buffer::LineBuffer;
pub use sink::{Look, Sink};
pub use writer::{AccessLog, AccessLogCounters, Reopener};

use std::net::IpAddr;

use crate::booking::{BookingId, BuyerId, Quantity, SaleName};
use crate::clock::WallTime;
use crate::outcome_label::OutcomeLabel;

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
    pub outcome: OutcomeLabel,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Who asked.
    pub client: IpAddr,
    /// The trusted proxy that named the client.
    pub proxy: Option<IpAddr>,
}

#[cfg(all(test, not(loom)))]
mod tests;
