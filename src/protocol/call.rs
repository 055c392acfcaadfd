//! What can be asked of a ledger.
//!
//! Every call on one sale is atomic: it happens whole or not at all, and its answer carries the sale's state as of the end
//! of the call.

use super::{HostId, HostReport, Part, Repair, Slot, Watermark};
use crate::booking::{Amendment, Booking, BookingId, BuyerId, Quantity, SaleChange, SaleName, SaleTerms};

/// A call in flight; comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// One ledger call. Answered by [`Answer::Missing`](super::Answer::Missing) if it is on a sale that the ledger does not
/// have (except to open one), and otherwise as each operation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Changes bookings of a sale. Answered by [`Answer::Stale`](super::Answer::Stale), with nothing done, unless the ledger
    /// has all that the caller has seen.
    Bookings {
        /// Of which sale.
        sale: SaleName,
        /// What the caller has seen of the sale.
        seen: Watermark,
        /// What is done to them.
        op: BookingOp,
    },
    /// Reads a sale, or changes it, regardless of what the caller has seen of it.
    Sale {
        /// Which sale.
        sale: SaleName,
        /// What is done.
        op: SaleOp,
    },
    /// Not about a single sale.
    Ledger(LedgerOp),
}

/// What is done to bookings. The names of results are those of [`SaleResult`](super::SaleResult).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BookingOp {
    /// Books, in the order of the claims; at most [`crate::limits::ENTRIES_PER_CALL_MAX`]. `Reserved`.
    Reserve(Vec<Claim>),
    /// Makes held bookings confirmed. `Confirmed`.
    Confirm(Vec<BookingId>),
    /// Cancels bookings and returns their stock. `Cancelled`.
    Cancel(Vec<Cancel>),
    /// Changes bookings, in this order; at most [`crate::limits::ENTRIES_PER_CALL_MAX`]. `Amended`.
    Amend(Vec<(BookingId, Amendment)>),
    /// Gives a held or confirmed booking to another buyer, whose limit applies; the same again changes nothing. Its
    /// tickets, its deadline and what it was made with stay. `Assigned`.
    Assign {
        /// Which booking.
        id: BookingId,
        /// To whom; `None` takes its buyer away. Boxed, so that it does not enlarge the other calls.
        buyer: Option<Box<BuyerId>>,
    },
    /// Puts back what clients were last told of these bookings (held, confirmed or cancelled; at most
    /// [`crate::limits::ENTRIES_PER_CALL_MAX`]) if the ledger has less: it has forgotten something then, and is frozen for
    /// all callers until they too have had the time to put back what they know of. `Restored`;
    /// [`Answer::Stale`](super::Answer::Stale) only if this is another sale than the caller has seen; nothing is put into
    /// that.
    ///
    /// A missing booking is taken if it fits into the total (a hold that is over takes nothing), whatever the sale's status
    /// or the buyer's limit. A held one that was acknowledged as confirmed is confirmed; one acknowledged as cancelled is
    /// cancelled; one acknowledged with a later deadline gets it, and takes its tickets again if they went back; one
    /// acknowledged with fewer tickets gives the others back; one acknowledged after it was given to another buyer is that
    /// buyer's. What the ledger has of a later date stands.
    Restore(Vec<Booking>),
}

/// What is done to a sale. The names of results are those of [`SaleResult`](super::SaleResult).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaleOp {
    /// Opens the sale if there is none of that name; never changes an existing one. `Created` or `Exists`;
    /// [`Answer::Lost`](super::Answer::Lost) if the ledger had one and has lost it, unless an operator asks.
    ///
    /// If bookings of a lost sale are left, an operator's sale is opened paused: an [audit](crate::audit) counts them before
    /// anything is done with it. `Refused` if they are more than its total.
    Open {
        /// Its terms, already [checked](SaleTerms::check).
        terms: SaleTerms,
        /// Who asks.
        by: Opener,
    },
    /// Removes a sale that is closed and of which nothing is held, with its bookings and its log; also one that is lost, or
    /// whose record is not sound. [`Answer::Removed`](super::Answer::Removed), or `Refused`.
    Remove,
    /// Changes an existing sale. `Done`; `Refused`, with nothing done, if it is at another version than the change is for,
    /// if the new total is below held + sold, or if the new window is empty; or `Counting`.
    Alter(SaleChange),
    /// Reads a sale's state as it is stored. `Done`. If holds have ended since, which
    /// [`SaleState::due_at`](crate::booking::SaleState::due_at) shows, they may still be in `held`: a
    /// [`LookUp`](SaleOp::LookUp) of nothing tells them apart.
    Snapshot,
    /// Reads bookings, and the sale as of now. `Found`.
    LookUp(Vec<BookingId>),
    /// Enters overdue holds as expired, oldest first, at most [`crate::limits::EXPIRIES_PER_CALL_MAX`]; they have not
    /// counted since their deadlines. `Done`; there is more to enter while
    /// [`SaleState::due_at`](crate::booking::SaleState::due_at) is in the past.
    Expire,
    /// One page of a sale's bookings, in no particular order; a booking that exists throughout is on some page, and may be
    /// on two. `Page`.
    Page {
        /// Empty to start, then what the last page gave as `next`.
        cursor: String,
    },
    /// The sale's log after a sequence, oldest first, at most [`crate::limits::LOG_ENTRIES_PER_CALL_MAX`] entries. `Log`.
    Log {
        /// Entries with a sequence above this one; 0 for all that is kept.
        after: u64,
    },
    /// Removes from the sale's log what every consumer group has read and acknowledged, oldest first, at most about
    /// [`crate::limits::TRIMMED_PER_CALL_MAX`] entries. The last entry stays, and all of them if there is no group. `Trimmed`.
    Trim,
    /// Reads one page of a part of a sale as it is stored, for an audit: what is wrong is a row like any other. A row that
    /// exists throughout is on some page, and may be on two. `Surveyed`.
    Survey {
        /// Which part.
        part: Part,
        /// Empty to start, then what the last page gave as `next`. A cursor of the log also works for its changes.
        cursor: String,
    },
    /// Repairs what follows from bookings and log, all or nothing, if the sale is still at this version and sequence. It
    /// moves neither. `Done`, or `Refused` if the sale has moved, or if the counts would be above the total.
    Repair {
        /// The version that the audit found.
        version: u64,
        /// The sequence that the audit found.
        sequence: u64,
        /// What is repaired, in this order; at most [`crate::limits::REPAIRS_PER_CALL_MAX`].
        repairs: Vec<Repair>,
    },
}

/// Operations on the ledger as a whole. The names of results are those of [`LedgerResult`](super::LedgerResult).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerOp {
    /// Names all sales. `Sales`.
    Sales,
    /// Which sales were announced as changed after that number of the ledger's feed; `None` only asks where the feed is.
    /// `Changes`.
    ///
    /// A sale that changes (bookings, terms, status, a freeze; also one that is opened) is announced unless it was
    /// announced within the last [`crate::limits::ANNOUNCE_MS`]: see
    /// [`SaleState::is_settled`](crate::booking::SaleState::is_settled).
    Changes {
        /// What the last answer gave as `at`.
        after: Option<u64>,
    },
    /// Names sales that the caller knows, at most [`crate::limits::RECALLED_PER_CALL_MAX`], each with the time at which it
    /// was [`opened`](crate::booking::SaleState::opened), in case the ledger has lost their names: then nobody opens them
    /// as if they were new. `Recalled`.
    Recall {
        /// Which.
        sales: Vec<(SaleName, u64)>,
    },
    /// Asks which ledger this is. `Identified`.
    Identify {
        /// The name that it gets if it has none.
        id: LedgerId,
    },
    /// Asks of which layout the ledger is. `Layout`.
    Layout,
    /// A host says that it lives, and asks which others do. `Hosts`.
    Beat {
        /// Which.
        host: HostId,
        /// What it tells of itself; `None` if it leaves, so that nobody counts on it from now on.
        report: Option<Box<HostReport>>,
        /// Whether hosts are removed that have been silent for [`crate::limits::HOST_FORGOTTEN_MS`].
        forgets: bool,
    },
    /// Names the hosts. `Hosts`.
    Hosts,
}

/// One entry of a reserve call: a booking that someone wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The booking's id; asking again with the same id books nothing twice.
    pub id: BookingId,
    /// How many tickets, all or none.
    pub quantity: Quantity,
    /// For whom.
    pub buyer: Option<BuyerId>,
}

/// One entry of a cancel call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// Which booking.
    pub id: BookingId,
    /// If there is no such booking, leave a tombstone: the id can never be granted afterwards.
    pub tombstone: bool,
}

/// Who opens a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A host by itself, when it starts.
    Start,
    /// An operator.
    Operator,
}

/// The name that a ledger was given at random, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerId(pub u128);

impl std::fmt::Display for LedgerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Call {
    /// The sale of the call; `None` if it is not about a single sale.
    pub fn sale(&self) -> Option<&SaleName> {
        match self {
            Call::Bookings { sale, .. } | Call::Sale { sale, .. } => Some(sale),
            Call::Ledger(_) => None,
        }
    }

    /// Which part of the ledger it is for.
    pub fn slot(&self) -> Slot {
        self.sale().map_or(Slot::DIRECTORY, Slot::of)
    }

    /// Bookings that the call is about; 0 for calls about sales.
    pub fn entries(&self) -> usize {
        match self {
            Call::Bookings { op, .. } => match op {
                BookingOp::Reserve(claims) => claims.len(),
                BookingOp::Confirm(ids) => ids.len(),
                BookingOp::Cancel(cancels) => cancels.len(),
                BookingOp::Amend(amendments) => amendments.len(),
                BookingOp::Assign { .. } => 1,
                BookingOp::Restore(bookings) => bookings.len(),
            },
            Call::Sale { op: SaleOp::LookUp(ids), .. } => ids.len(),
            Call::Sale { .. } | Call::Ledger(_) => 0,
        }
    }

    /// Whether it may write anything other than trimming a log.
    pub fn may_write(&self) -> bool {
        match self {
            Call::Bookings { .. } => true,
            Call::Sale { op, .. } => match op {
                SaleOp::Open { .. }
                | SaleOp::Remove
                | SaleOp::Alter(_)
                | SaleOp::Expire
                | SaleOp::Repair { .. } => true,
                SaleOp::Snapshot
                | SaleOp::LookUp(_)
                | SaleOp::Page { .. }
                | SaleOp::Log { .. }
                | SaleOp::Trim
                | SaleOp::Survey { .. } => false,
            },
            Call::Ledger(LedgerOp::Recall { .. } | LedgerOp::Identify { .. } | LedgerOp::Beat { .. }) => true,
            Call::Ledger(LedgerOp::Sales | LedgerOp::Changes { .. } | LedgerOp::Layout | LedgerOp::Hosts) => {
                false
            }
        }
    }
}

impl BookingOp {
    /// The call of this operation on bookings of `sale`, for a caller that has `seen` that of it.
    pub fn on(self, sale: SaleName, seen: Watermark) -> Call {
        Call::Bookings { sale, seen, op: self }
    }
}

impl SaleOp {
    /// The call of this operation on `sale`.
    pub fn on(self, sale: SaleName) -> Call {
        Call::Sale { sale, op: self }
    }
}
