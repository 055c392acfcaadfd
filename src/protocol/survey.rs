//! A sale as it is stored, row by row, and what may be repaired in it: the types of an audit.

use super::LostCause;
use crate::booking::{Booking, BookingId, BookingStatus, BuyerId, LogEntry};
use crate::clock::WallTime;

/// The parts of a survey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The counts and terms. Never asked for: each survey has the state; a row of this part is a count that is not valid.
    Stock,
    /// The records of all bookings, tombstones included.
    Bookings,
    /// The index of deadlines, by which holds expire.
    Holds,
    /// The tickets of each buyer, as they are counted.
    Buyers,
    /// How many tickets of holds end in each span of time; they no longer count after it. A ledger that adds them up on
    /// demand has no such part.
    Due,
    /// What the ledger was found to have forgotten, and what of it could not be put back.
    Lost,
    /// The log.
    Log,
    /// What changed after a place in the log: its entries, and what is stored now of each booking, deadline and buyer in
    /// them.
    Changes,
}

impl Part {
    /// As reports write it.
    pub fn word(self) -> &'static str {
        match self {
            Part::Stock => "stock",
            Part::Bookings => "bookings",
            Part::Holds => "holds",
            Part::Buyers => "buyers",
            Part::Due => "due",
            Part::Lost => "lost",
            Part::Log => "log",
            Part::Changes => "changes",
        }
    }
}

/// One row of a [survey](super::SaleOp::Survey).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A booking.
    Booking {
        /// Its id.
        id: BookingId,
        /// What is stored of it.
        record: StoredBooking,
    },
    /// A booking that the log mentions and that is not stored.
    NoBooking {
        /// Its id.
        id: BookingId,
    },
    /// Bookings to look at when this time has come.
    Group {
        /// The time.
        expires_at: WallTime,
        /// The bookings.
        ids: Vec<BookingId>,
    },
    /// What buyers have. One row may have several buyers, and a survey of changes gives a whole row.
    Buyers(Vec<(BuyerId, BuyerTickets)>),
    /// Tickets of holds that end in a span of time.
    Span {
        /// Which.
        span: Span,
        /// How many.
        tickets: u64,
    },
    /// The ledger stores nothing of this part: it adds it up on demand.
    Derived(Part),
    /// An entry of the log.
    Change(LogEntry),
    /// The ledger was found to have forgotten something.
    Forgot {
        /// When, by its clock.
        at: WallTime,
        /// The sequence that a host had seen.
        seen: u64,
        /// The sequence that was left.
        left: u64,
    },
    /// An acknowledged booking that was forgotten and could not be put back, as its client last heard of it.
    Lost {
        /// The booking.
        booking: Booking,
        /// Why.
        cause: LostCause,
    },
    /// Something that no version of boxoffice writes.
    Unreadable {
        /// Where it is.
        part: Part,
        /// Under which key, as it is stored; [`Repair::Remove`] takes it.
        key: Vec<u8>,
        /// What it is, in printable characters.
        text: String,
    },
}

/// A booking as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBooking {
    /// Its status; `None` is a tombstone. A hold that is over and was not swept yet is still held.
    pub status: Option<BookingStatus>,
    /// How many tickets; 0 for a tombstone.
    pub quantity: u32,
    /// How many it gave back since it was made.
    pub released: u32,
    /// Its buyer.
    pub buyer: Option<BuyerId>,
    /// How often an operator gave it to another buyer.
    pub reassigned: u32,
    /// Whether its tickets count among those of its buyer.
    pub counted: bool,
    /// The sequence of its latest change, if the ledger keeps it with the booking; 0 for a tombstone.
    pub sequence: Option<u64>,
}

/// A span of time in which holds end: of [`SPANS_MS`], the `index`-th since 1970 of that `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Which length, from 0.
    pub kind: usize,
    /// Which one of that length.
    pub index: u64,
}

/// Lengths of spans in milliseconds, as in `lua/sale.lua`.
pub const SPANS_MS: [u64; 5] = [1, 64, 64 * 64, 64 * 64 * 64, 64 * 64 * 64 * 64];

impl Span {
    /// The spans in which a hold with that deadline ends.
    pub fn around(deadline: WallTime) -> impl Iterator<Item = Span> {
        let index = move |(kind, length): (usize, &u64)| Span { kind, index: deadline.0 / length };
        SPANS_MS.iter().enumerate().map(index)
    }

    /// The last moment of it; `None` if there is no such span.
    pub fn end(&self) -> Option<WallTime> {
        let past = self.index.checked_add(1)?.checked_mul(*SPANS_MS.get(self.kind)?)?;
        Some(WallTime(past - 1))
    }
}

/// What one buyer has, as it is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuyerTickets {
    /// In confirmed bookings.
    pub confirmed: u64,
    /// In held ones, each with its deadline. One that is over may be missing.
    pub holds: Vec<(WallTime, u32)>,
}

impl BuyerTickets {
    /// Those of the holds that end after `now`, in order.
    pub fn held_after(&self, now: WallTime) -> Vec<(WallTime, u32)> {
        let mut holds: Vec<_> = self.holds.iter().copied().filter(|(deadline, _)| *deadline > now).collect();
        holds.sort_unstable();
        holds
    }

    /// Tickets that count towards a limit.
    pub fn total(&self, now: WallTime) -> u64 {
        self.confirmed + self.held_after(now).iter().map(|(_, tickets)| u64::from(*tickets)).sum::<u64>()
    }
}

/// One repair of what follows from bookings and log; neither is ever repaired itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Sets the counts.
    Counts {
        /// Tickets in unpaid bookings.
        held: u64,
        /// Tickets in confirmed bookings.
        sold: u64,
    },
    /// Sets the sale's clock back.
    Clock {
        /// To this time.
        to: WallTime,
    },
    /// Names the sale among the others.
    Name,
    /// Sets what a buyer has.
    Buyer {
        /// Which.
        buyer: BuyerId,
        /// Tickets held and confirmed that count.
        tickets: BuyerTickets,
    },
    /// Sets how many tickets of holds end in a span; 0 removes it.
    Span {
        /// Which.
        span: Span,
        /// How many.
        tickets: u64,
    },
    /// Enters held bookings among the deadlines.
    Hold {
        /// Their deadline.
        expires_at: WallTime,
        /// Which; at most [`crate::limits::GROUP_BOOKINGS_MAX`].
        ids: Vec<BookingId>,
    },
    /// Removes what is [unreadable](Row::Unreadable) among holds or buyers.
    Remove {
        /// [`Part::Holds`] or [`Part::Buyers`].
        part: Part,
        /// The key that the survey gave.
        key: Vec<u8>,
    },
}
