//! What can be asked of a ledger and what it answers: the contract between the desk and both ledgers.
//!
//! Every call of one sale is atomic: it happens whole or not at all, and its answer carries the sale's state as of
//! the end of the call.

use super::{
    Booking, BookingId, BuyerId, Part, Quantity, Repair, Row, SaleChange, SaleName, SaleState, SaleTerms,
    Seen,
};
use crate::clock::WallTime;

/// A call on its way; comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

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

/// How a booking is to change; the same again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amendment {
    /// Its hold is to end no earlier than so long from now, by the ledger's clock.
    Extend {
        /// How long, in milliseconds, 1 to [`crate::limits::HOLD_MS_MAX`].
        ms: u64,
    },
    /// It gives back what it has beyond these.
    Release {
        /// How many are to remain.
        remaining: Quantity,
    },
    /// Where it is expired, its tickets are taken again, as those of a new booking are: held with the sale's hold, or confirmed
    /// where the sale has none.
    HoldAgain,
}

/// One ledger call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opens the sale where there is none of that name; never changes one that exists. Answered by [`Answer::Sale`]; by
    /// [`Answer::SaleLost`] where the ledger had one and has lost it, and no operator asks for it.
    ///
    /// Where bookings of a lost sale are left, an operator's sale is opened paused: an [audit](crate::audit) counts them
    /// before anything is done with it.
    Open {
        /// Its name.
        sale: SaleName,
        /// Its terms, already [checked](SaleTerms::check).
        terms: SaleTerms,
        /// Who asks.
        by: Opener,
    },
    /// Removes a sale that is closed and of which nothing is held, with its bookings and its log; also one that is lost, or
    /// whose record is not sound. Answered by [`Answer::Removed`], or [`Answer::ChangeRefused`].
    Remove {
        /// Its name.
        sale: SaleName,
    },
    /// Names sales that the caller knows, at most [`crate::limits::RECALLED_PER_CALL_MAX`], each with its
    /// [`SaleState::opened`], where the ledger has lost their names: nobody opens them then as if they were new. Answered by
    /// [`Answer::Recalled`].
    Recall {
        /// Which.
        sales: Vec<(SaleName, u64)>,
    },
    /// Asks which ledger this is. Answered by [`Answer::Ledger`].
    Identify {
        /// The name that it gets where it has none.
        id: LedgerId,
    },
    /// Changes a sale that exists. Answered by [`Answer::Sale`]; by [`Answer::ChangeRefused`] if it is at another version than
    /// the change is for, or else the new total is below held + sold, or else the new window is empty, and nothing of it is
    /// done; or by [`Answer::Counting`].
    Alter {
        /// Its name.
        sale: SaleName,
        /// What changes.
        change: SaleChange,
    },
    /// Reads a sale's state as it is stored. Answered by [`Answer::Sale`]. Where holds have ended since, which
    /// [`SaleState::due_at`] tells, they may still be in `held`: a [`Call::LookUp`] of nothing tells them apart.
    Snapshot {
        /// Its name.
        sale: SaleName,
    },
    /// Books, in the order of the claims. Answered by [`Answer::Reserved`], or [`Answer::Withheld`].
    Reserve {
        /// Of which sale.
        sale: SaleName,
        /// What the caller has seen of it.
        seen: Seen,
        /// What is asked for; at most [`crate::limits::ENTRIES_PER_CALL_MAX`].
        claims: Vec<Claim>,
    },
    /// Reads bookings, and the sale as of now. Answered by [`Answer::Found`].
    LookUp {
        /// Of which sale.
        sale: SaleName,
        /// Which bookings.
        ids: Vec<BookingId>,
    },
    /// Makes held bookings confirmed. Answered by [`Answer::Confirmed`], or [`Answer::Withheld`].
    Confirm {
        /// Of which sale.
        sale: SaleName,
        /// What the caller has seen of it.
        seen: Seen,
        /// Which bookings.
        ids: Vec<BookingId>,
    },
    /// Cancels bookings and returns their stock. Answered by [`Answer::Cancelled`], or [`Answer::Withheld`].
    Cancel {
        /// Of which sale.
        sale: SaleName,
        /// What the caller has seen of it.
        seen: Seen,
        /// Which bookings; `true` beside an id leaves a tombstone where there is no such booking, so that the id can
        /// never be granted afterwards.
        ids: Vec<(BookingId, bool)>,
    },
    /// Changes bookings. Answered by [`Answer::Amended`], or [`Answer::Withheld`].
    Amend {
        /// Of which sale.
        sale: SaleName,
        /// What the caller has seen of it.
        seen: Seen,
        /// Which bookings, and how, in this order; at most [`crate::limits::ENTRIES_PER_CALL_MAX`].
        amendments: Vec<(BookingId, Amendment)>,
    },
    /// Gives a held or confirmed booking to another buyer, whose limit holds; the same again changes nothing. Its tickets,
    /// its deadline and what it was made with stay. Answered by [`Answer::Amended`] with one booking, or
    /// [`Answer::Withheld`].
    Assign {
        /// Of which sale.
        sale: SaleName,
        /// What the caller has seen of it.
        seen: Seen,
        /// Which booking.
        id: BookingId,
        /// To whom; `None` takes its buyer away. Apart, so that no other call is the larger for it.
        buyer: Option<Box<BuyerId>>,
    },
    /// Puts back what clients were last told of these bookings, where the ledger has less: it has forgotten something
    /// then, and is frozen for all callers until they too had the time to put back what they know of. Answered by
    /// [`Answer::Restored`]; by [`Answer::Withheld`] where this is another sale than the caller has seen, into which
    /// nothing is put.
    ///
    /// A booking that is not there is taken where it fits into the total (a hold that is over takes nothing), whatever the
    /// sale's status or the buyer's limit; a held one that was told as confirmed is confirmed; one that was told as
    /// cancelled is cancelled; one that was told with a later deadline has it, and takes its tickets again where they went
    /// back; one that was told with fewer tickets gives the others back; one that was told after it was given to another
    /// buyer is that buyer's. What the ledger has of a later date stands.
    Restore {
        /// Of which sale.
        sale: SaleName,
        /// What the caller has seen of it.
        seen: Seen,
        /// Held, confirmed or cancelled, as they were told; at most [`crate::limits::ENTRIES_PER_CALL_MAX`].
        bookings: Vec<Booking>,
    },
    /// Enters overdue holds as expired, oldest first, at most [`crate::limits::EXPIRIES_PER_CALL_MAX`]: they have counted for
    /// nobody since their deadlines. Answered by [`Answer::Sale`]; there is more to enter while [`SaleState::due_at`] is
    /// past.
    Expire {
        /// Of which sale.
        sale: SaleName,
    },
    /// Names all sales. Answered by [`Answer::Sales`].
    Sales,
    /// Which sales were announced as changed after that number of the ledger's feed; `None` only asks where the feed is.
    /// Answered by [`Answer::Changes`].
    ///
    /// A sale that changes (bookings, terms, status, a freeze; also one that is opened) is announced unless it was within
    /// the last [`crate::limits::ANNOUNCE_MS`]: see [`SaleState::is_settled`].
    Changes {
        /// What the last answer gave as `at`.
        after: Option<u64>,
    },
    /// One page of a sale's bookings, in no particular order; a booking that exists all the while is on some page, and
    /// may be on two. Answered by [`Answer::Page`].
    Page {
        /// Of which sale.
        sale: SaleName,
        /// Empty to start, then what the last page gave as `next`.
        cursor: String,
    },
    /// The sale's log after a sequence, oldest first, at most [`crate::limits::LOG_ENTRIES_PER_CALL_MAX`] entries.
    /// Answered by [`Answer::Log`].
    Log {
        /// Of which sale.
        sale: SaleName,
        /// Entries with a sequence above this one; 0 for all that is kept.
        after: u64,
    },
    /// Removes from the sale's log what every consumer group has read and acknowledged, oldest first, at most about
    /// [`crate::limits::TRIMMED_PER_CALL_MAX`] entries. The last entry stays, and all of them where there is no group.
    /// Answered by [`Answer::Trimmed`].
    Trim {
        /// Of which sale.
        sale: SaleName,
    },
    /// Reads one page of a part of a sale as it is stored, for an audit: what is wrong is a row like any other. A row
    /// that exists all the while is on some page, and may be on two. Answered by [`Answer::Surveyed`].
    Survey {
        /// Of which sale.
        sale: SaleName,
        /// Which part.
        part: Part,
        /// Empty to start, then what the last page gave as `next`. That of the log is good for its changes.
        cursor: String,
    },
    /// Mends what follows from bookings and log, all or nothing, where the sale is still at this version and sequence.
    /// It moves neither. Answered by [`Answer::Sale`], or [`Answer::ChangeRefused`] where the sale has moved, or else the
    /// counts would be above the total.
    Repair {
        /// Which sale.
        sale: SaleName,
        /// The version that the audit found.
        version: u64,
        /// The sequence that the audit found.
        sequence: u64,
        /// What is mended, in this order; at most [`crate::limits::REPAIRS_PER_CALL_MAX`].
        repairs: Vec<Repair>,
    },
}

impl Call {
    /// Bookings that the call is about; 0 for calls about sales.
    pub fn entries(&self) -> usize {
        match self {
            Call::Reserve { claims, .. } => claims.len(),
            Call::LookUp { ids, .. } | Call::Confirm { ids, .. } => ids.len(),
            Call::Cancel { ids, .. } => ids.len(),
            Call::Amend { amendments, .. } => amendments.len(),
            Call::Assign { .. } => 1,
            Call::Restore { bookings, .. } => bookings.len(),
            _ => 0,
        }
    }
}

/// Who opens a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// A host by itself, as it starts.
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

/// What became of a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Booked now: held until then, or confirmed where the sale has no hold.
    Granted {
        /// The hold's deadline.
        expires_at: Option<WallTime>,
    },
    /// The id was known, with the same quantity and buyer; nothing was booked now. Here is the booking as it stands. Of a
    /// tombstone, which is known with any quantity and buyer: cancelled.
    Known(Booking),
    /// The id was known with another quantity or buyer.
    IdReused,
    /// Fewer tickets are left than asked for.
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
    /// Its hold was over. There are tickets for it, but its buyer has others by now, and with these more than the sale
    /// allows; the booking is expired.
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
    /// There was no such booking; where asked for, a tombstone is there now.
    NotFound,
}

/// What became of an [`Amendment`], or of a booking that was to be [given to another buyer](Call::Assign).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amended {
    /// The booking is as it was asked for, now or before.
    Done(Booking),
    /// Nothing was done.
    Refused(Objection),
    /// No such booking.
    NotFound,
}

/// What speaks against an [`Amendment`], or against `Assign`.
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
    /// `Release`: it has fewer tickets than are to remain.
    NotARelease,
    /// `HoldAgain`: the sale is paused, closed, or outside of its window by the ledger's clock.
    NotOnSale,
    /// `HoldAgain`: the sale demands a buyer by now, and the booking has none. `Assign`: it would have none.
    BuyerRequired,
    /// `HoldAgain`, `Assign`: its buyer has others, and with these more than the sale allows.
    BuyerLimit,
    /// `HoldAgain`: fewer tickets are left than it has.
    SoldOut,
}

/// What became of a booking that was to be [put back](Call::Restore).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restoration {
    /// The ledger has it, as it was told or later.
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
    /// Its id is that of another booking by now, or of none for ever.
    IdTaken,
}

impl LostCause {
    /// As reports and ledgers have it.
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

/// Why a sale is not changed as it was asked for.
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

/// One change of a booking, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the sale's log: 1, 2, 3 and so on, without gaps.
    pub sequence: u64,
    /// When, by the ledger's clock (never earlier than the entry before).
    pub at: WallTime,
    /// The booking after the change. A held booking's `expires_at` is in it.
    pub booking: Booking,
}

/// A ledger's answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ledger has no sale of that name. Not the same as sold out.
    NoSuchSale,
    /// To `Open` (`created` says whether it made it), `Alter`, `Snapshot`, `Expire` and `Repair`.
    Sale {
        /// The sale as it is now.
        state: SaleState,
        /// Whether this call created it.
        created: bool,
    },
    /// To `Open`: the ledger knows a sale of that name and does not have it any more. Nothing was done.
    SaleLost,
    /// To `Remove`: `done` says whether all is gone; the same call again goes on.
    Removed {
        /// See there.
        done: bool,
    },
    /// To `Recall`, in the order of the sales: whether a sale of that name was removed since the one was opened that the
    /// caller knows. Then it was not named again.
    Recalled {
        /// One for each.
        removed: Vec<bool>,
    },
    /// To `Identify`.
    Ledger {
        /// Its name, which never changes.
        id: String,
        /// How long it has had it, in milliseconds; 0 if it has just got it.
        age_ms: u64,
    },
    /// To `Alter`, `Remove` and `Repair`: nothing was done.
    ChangeRefused {
        /// The sale as it is.
        state: SaleState,
        /// Why.
        fault: ChangeFault,
    },
    /// To `Alter`, where the sale gets its first limit for buyers: what they have is counted before the limit is in force, a
    /// bounded number of bookings by each call. Nothing is altered yet; the same call again goes on.
    Counting {
        /// The sale as it is.
        state: SaleState,
    },
    /// To `Reserve`: one reservation a claim, in order.
    Reserved {
        /// The sale after the call.
        state: SaleState,
        /// One for each claim, in its order.
        reservations: Vec<Reservation>,
    },
    /// To `LookUp`: one a booking asked for, in order. A hold that is over but not swept yet is told as expired.
    Found {
        /// The sale as it is.
        state: SaleState,
        /// One for each id, in its order.
        bookings: Vec<Option<Booking>>,
    },
    /// To `Confirm`.
    Confirmed {
        /// The sale after the call.
        state: SaleState,
        /// One for each id, in its order.
        confirmations: Vec<Confirmation>,
    },
    /// To `Cancel`.
    Cancelled {
        /// The sale after the call.
        state: SaleState,
        /// One for each id, in its order.
        cancellations: Vec<Cancellation>,
    },
    /// To `Amend` and `Assign`.
    Amended {
        /// The sale after the call.
        state: SaleState,
        /// One for each amendment, in its order; one to `Assign`.
        bookings: Vec<Amended>,
    },
    /// To `Restore`.
    Restored {
        /// The sale after the call.
        state: SaleState,
        /// One for each booking, in its order.
        restorations: Vec<Restoration>,
    },
    /// To `Reserve`, `Confirm`, `Cancel`, `Amend` and `Assign`: nothing was done. The sale is frozen, or the ledger has
    /// forgotten something of what the caller has seen (and is frozen from now on), or it did so before and the caller does
    /// not know: it puts back what it acknowledged before it asks again. To `Restore`: see there.
    Withheld {
        /// The sale as it is.
        state: SaleState,
    },
    /// To `Sales`.
    Sales {
        /// In no particular order.
        names: Vec<SaleName>,
        /// What stands among them and is no name of a sale, made readable: somebody else wrote it.
        odd: Vec<String>,
    },
    /// To `Changes`.
    Changes {
        /// Each once, in the order of their latest announcements; at most [`crate::limits::CHANGES_PER_CALL_MAX`].
        names: Vec<SaleName>,
        /// The number up to which this tells of all.
        at: u64,
        /// Whether there are more after `at`, to be asked for at once.
        more: bool,
        /// Whether the feed cannot tell all that has changed since the number that was asked for: it is younger than that,
        /// or has moved on too far. Everything is to be read anew.
        reset: bool,
        /// Which ledger this is; empty where it has no name.
        ledger: String,
        /// The ledger's clock: what changed before is told, of sales that were [settled](SaleState::is_settled).
        now: WallTime,
    },
    /// To `Page`.
    Page {
        /// The bookings of this page.
        bookings: Vec<Booking>,
        /// Where the next page starts; `None` at the end.
        next: Option<String>,
    },
    /// To `Log`.
    Log(Vec<LogEntry>),
    /// To `Trim`.
    Trimmed {
        /// Consumer groups of the log; a ledger that has no such thing has none.
        groups: u64,
        /// Entries removed by this call; 0 says that there is no more to remove.
        removed: u64,
        /// Entries that are left.
        left: u64,
    },
    /// To `Survey`.
    Surveyed {
        /// The sale as it is now. A count that is below zero is told as zero here, and as a row.
        state: SaleState,
        /// The sale's clock as it is stored.
        clock: WallTime,
        /// The ledger's own clock; `state.now` is the later of both.
        time: WallTime,
        /// The rows of this page.
        rows: Vec<Row>,
        /// Where the next page starts.
        next: String,
        /// Whether this was the last page there is now.
        done: bool,
    },
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
    /// What the ledger has of the sale is nothing that boxoffice leaves behind (a count below zero, a key gone), as it says
    /// here: nothing was done, and nothing will be until somebody has seen to it.
    #[error("the ledger's record of the sale is not sound: {0}")]
    Unsound(String),
    /// The ledger's answer makes no sense to this version: the call may have been carried out or not.
    #[error("the ledger's answer was not understood: {0}")]
    Garbled(String),
}

impl CallError {
    /// Whether it is what is stored that is wrong, and not the way there.
    pub fn is_of_what_is_stored(&self) -> bool {
        matches!(self, CallError::Garbled(_) | CallError::Unsound(_))
    }

    /// What was said, alone.
    pub fn words(&self) -> &str {
        let (CallError::Unknown(words)
        | CallError::Refused(words)
        | CallError::Unsound(words)
        | CallError::Garbled(words)) = self;
        words
    }
}
