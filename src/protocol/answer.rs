//! What a ledger answers: the state of the sale, and what became of the operation.

use super::{HostBeat, Row};
use crate::booking::{Booking, LogEntry, SaleName, SaleState};
use crate::clock::WallTime;

/// A ledger's answer to a [`Call`](super::Call).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ledger has no sale of that name, and nothing was done. Not the same as sold out.
    Missing,
    /// To [`SaleOp::Open`](super::SaleOp::Open): the ledger knows a sale of that name and no longer has it. Nothing was
    /// done.
    Lost,
    /// To [`SaleOp::Remove`](super::SaleOp::Remove): the sale is removed. `done` says whether all its data is gone; the
    /// same call again goes on.
    Removed {
        /// See there.
        done: bool,
    },
    /// To [`Call::Bookings`](super::Call::Bookings): nothing was done. The sale is frozen, or the ledger has forgotten
    /// something of what the caller has seen (and is frozen from now on), or it did so before and the caller does not know:
    /// the caller must put back what it acknowledged before it asks again. To
    /// [`BookingOp::Restore`](super::BookingOp::Restore): see there.
    Stale(SaleState),
    /// To a call on an existing sale.
    Sale {
        /// The sale as of the end of the call.
        state: SaleState,
        /// What became of the call.
        result: SaleResult,
    },
    /// To [`Call::Ledger`](super::Call::Ledger).
    Ledger(LedgerResult),
}

impl Answer {
    /// The sale as of the end of the call, if it is there.
    pub fn state(&self) -> Option<&SaleState> {
        match self {
            Answer::Stale(state) | Answer::Sale { state, .. } => Some(state),
            Answer::Missing | Answer::Lost | Answer::Removed { .. } | Answer::Ledger(_) => None,
        }
    }

    /// Like [`state`](Answer::state), to be changed.
    pub fn state_mut(&mut self) -> Option<&mut SaleState> {
        match self {
            Answer::Stale(state) | Answer::Sale { state, .. } => Some(state),
            Answer::Missing | Answer::Lost | Answer::Removed { .. } | Answer::Ledger(_) => None,
        }
    }
}

/// The result of an operation on an existing sale. Each says which operations it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaleResult {
    /// `Open`: this call has made it.
    Created,
    /// `Open`: it existed, and is unchanged.
    Exists,
    /// `Alter`, `Repair` and `Expire`: done. `Snapshot`: the state is all there is.
    Done,
    /// `Alter`, `Remove` and `Repair`: nothing was done.
    Refused(ChangeFault),
    /// `Alter`, if the sale gets its first limit for buyers: what they have is counted before the limit applies, a bounded
    /// number of bookings by each call. Nothing is altered yet; the same call again goes on.
    Counting,
    /// `Reserve`: one for each claim, in their order.
    Reserved(Vec<Reservation>),
    /// `LookUp`: one for each id, in their order. A hold that is over but not swept yet is found as expired.
    Found(Vec<Option<Booking>>),
    /// `Confirm`: one for each id, in their order.
    Confirmed(Vec<Confirmation>),
    /// `Cancel`: one for each id, in their order.
    Cancelled(Vec<Cancellation>),
    /// `Amend`: one for each amendment, in their order.
    Amended(Vec<Amended>),
    /// `Assign`.
    Assigned(Amended),
    /// `Restore`: one for each booking, in their order.
    Restored(Vec<Restoration>),
    /// `Page`.
    Page {
        /// The bookings of this page.
        bookings: Vec<Booking>,
        /// Where the next page starts; `None` at the end.
        next: Option<String>,
    },
    /// `Log`.
    Log(Vec<LogEntry>),
    /// `Trim`.
    Trimmed {
        /// Consumer groups of the log; a ledger that has no such thing has none.
        groups: u64,
        /// Entries removed by this call; 0 if there is nothing more to remove.
        removed: u64,
        /// Entries that are left.
        left: u64,
    },
    /// `Survey`. A count below zero is given as zero in the state, and as a row.
    Surveyed {
        /// The sale's clock as it is stored.
        clock: WallTime,
        /// The ledger's own clock; the state's `now` is the later of both.
        time: WallTime,
        /// The rows of this page.
        rows: Vec<Row>,
        /// Where the next page starts.
        next: String,
        /// Whether this was the last page there is now.
        done: bool,
    },
}

/// The result of an operation on the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerResult {
    /// `Sales`.
    Sales {
        /// In no particular order.
        names: Vec<SaleName>,
        /// Members of the list that are not a sale's name, made readable: somebody else wrote them.
        odd: Vec<String>,
    },
    /// `Changes`.
    Changes {
        /// Each once, in the order of their latest announcements; at most [`crate::limits::CHANGES_PER_CALL_MAX`].
        names: Vec<SaleName>,
        /// The number up to which all announcements are known by this.
        at: u64,
        /// Whether there are more after `at`, to be asked for at once.
        more: bool,
        /// Whether the feed cannot give everything that has changed since the number that was asked for: it is younger than
        /// that, or has moved on too far. Everything must be read again.
        reset: bool,
        /// Which ledger this is; empty if it has no name.
        ledger: String,
        /// The ledger's clock: what changed before is included, for sales that were [settled](SaleState::is_settled).
        now: WallTime,
    },
    /// `Changes`, of a ledger that announces nothing: each sale must be read for what has changed of it.
    Unannounced,
    /// `Recall`, in the order of the sales: whether a sale of that name was removed since the one that the caller knows was
    /// opened. Then it was not named again.
    Recalled {
        /// One for each.
        removed: Vec<bool>,
    },
    /// `Identify`.
    Identified {
        /// Its name, which never changes.
        id: String,
        /// How long it has had it, in milliseconds; 0 if it has just got it.
        age_ms: u64,
    },
    /// `Layout`: see [`crate::ledger::LAYOUT`].
    Layout(u64),
    /// `Beat`, `Hosts`.
    Hosts {
        /// All that have said so within [`crate::limits::HOST_FORGOTTEN_MS`], in no particular order, each once.
        hosts: Vec<HostBeat>,
        /// Whether there are others to be forgotten.
        is_untidy: bool,
    },
}

/// What became of a [`Claim`](super::Claim).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Booked now: held until then, or confirmed if the sale has no hold.
    Granted {
        /// The hold's deadline.
        expires_at: Option<WallTime>,
    },
    /// The id was known, with the same quantity and buyer; nothing was booked now. This is the booking as it is now. A
    /// tombstone, which is known with any quantity and buyer, counts as cancelled.
    Known(Booking),
    /// The id was known with another quantity or buyer.
    IdReused,
    /// Not enough tickets are left.
    SoldOut,
    /// The buyer would have more than the sale allows.
    BuyerLimit,
    /// The sale demands a buyer, and the claim has none.
    BuyerRequired,
    /// The sale is paused, closed, or outside of its window by the ledger's clock.
    NotOnSale,
}

/// What became of a confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Confirmed, now or before. A hold that had expired was taken again from the stock that was left.
    Confirmed(Booking),
    /// Its hold was over and its stock is gone; the booking is expired.
    HoldExpired(Booking),
    /// Its hold was over. There are tickets for it, but its buyer has booked others since, and would have more than the
    /// sale allows; the booking is expired.
    BuyerLimit(Booking),
    /// It was cancelled.
    Cancelled(Booking),
    /// No such booking.
    NotFound,
}

/// What became of a cancellation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// Cancelled, now or before.
    Cancelled(Booking),
    /// There was no such booking; if asked for, there is a tombstone now.
    NotFound,
}

/// What became of an [`Amendment`](crate::booking::Amendment), or of a booking that was to be
/// [given to another buyer](super::BookingOp::Assign).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amended {
    /// The booking is as it was asked for, now or before.
    Done(Booking),
    /// Nothing was done.
    Refused(Objection),
    /// No such booking.
    NotFound,
}

/// Why an [`Amendment`](crate::booking::Amendment), or `Assign`, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// `Extend`, `HoldAgain`: the booking is confirmed.
    Confirmed,
    /// The booking is cancelled.
    Cancelled,
    /// `Extend`, `Release`, `Assign`: its hold is over, and its tickets are no longer its own.
    HoldExpired,
    /// `Extend`: the hold would be longer than the sale allows, counted from when it began.
    HoldLimit,
    /// `Release`: it has fewer tickets than should remain.
    NotARelease,
    /// `HoldAgain`: the sale is paused, closed, or outside of its window by the ledger's clock.
    NotOnSale,
    /// `HoldAgain`: the sale demands a buyer by now, and the booking has none. `Assign`: it would have none.
    BuyerRequired,
    /// `HoldAgain`, `Assign`: its buyer has others, and with these more than the sale allows.
    BuyerLimit,
    /// `HoldAgain`: fewer tickets are left than it needs.
    SoldOut,
}

/// What became of a booking that was to be [put back](super::BookingOp::Restore).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoration {
    /// The ledger has it, as it was acknowledged or later.
    Stands,
    /// It was forgotten, and is there again.
    PutBack,
    /// It was forgotten, and cannot be put back. An audit names it from now on.
    Lost(LostCause),
}

/// Why a forgotten booking cannot be put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostCause {
    /// Its tickets are sold to others by now.
    SoldOut,
    /// Its id belongs to another booking by now, or to none for ever.
    IdTaken,
}

impl LostCause {
    /// As reports and ledgers write it.
    pub fn word(self) -> &'static str {
        match self {
            LostCause::SoldOut => "sold-out",
            LostCause::IdTaken => "id-taken",
        }
    }

    /// The cause of that [`word`](LostCause::word).
    pub fn from_word(word: &str) -> Option<LostCause> {
        [LostCause::SoldOut, LostCause::IdTaken].into_iter().find(|cause| cause.word() == word)
    }
}

/// Why a sale was not changed as requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeFault {
    /// `Alter`: the sale is at another version than the change is for.
    OtherVersion,
    /// `Alter`: the total would be below held + sold.
    TotalTooLow,
    /// `Alter`: the sale would end before it starts, or at once.
    EmptyWindow,
    /// `Remove`: the sale is not closed.
    NotClosed,
    /// `Remove`: bookings are held.
    StillHeld,
    /// `Repair`: the sale has moved since it was audited.
    Moved,
    /// `Repair`: the counts would be above the total.
    CountsTooHigh,
}

/// Why a call has no answer. Only `Refused` and `Unsound` say that nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The ledger did not answer: the call may have been carried out or not.
    #[error("the ledger did not answer: {0}")]
    Unknown(String),
    /// The ledger said that it did not carry the call out (Redis LOADING, OOM, READONLY, MISCONF; a full disk).
    #[error("the ledger refused: {0}")]
    Refused(String),
    /// The ledger's record of the sale is in a state that boxoffice never leaves behind (a count below zero, a key gone),
    /// described here: nothing was done, and nothing will be until somebody fixes it.
    #[error("the ledger's record of the sale is not sound: {0}")]
    Unsound(String),
    /// The ledger's answer makes no sense to this version: the call may have been carried out or not.
    #[error("the ledger's answer was not understood: {0}")]
    Garbled(String),
}

impl CallError {
    /// Whether the stored data is at fault, and not the connection.
    pub fn is_of_what_is_stored(&self) -> bool {
        matches!(self, CallError::Garbled(_) | CallError::Unsound(_))
    }

    /// Only what was said.
    pub fn words(&self) -> &str {
        let (CallError::Unknown(words)
        | CallError::Refused(words)
        | CallError::Unsound(words)
        | CallError::Garbled(words)) = self;
        words
    }
}
