//! What a client is told: the outcome of its request, or the refusal of it. A refusal is an answer, not an error.

use super::{Booking, BookingId, OffSale};

/// How a request that reached the desk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Booked now.
    Granted(Booking),
    /// Booked before, by an earlier try with the same id.
    Replayed(Booking),
    /// Looked up.
    Found(Booking),
    /// Confirmed, now or before.
    Confirmed(Booking),
    /// Cancelled, now or before.
    Cancelled(Booking),
    /// There is no such booking, and never will be: its id has a tombstone.
    Tombstoned(BookingId),
    /// Its hold ends no earlier than was asked for.
    Extended(Booking),
    /// It has as many tickets as should remain.
    Released(Booking),
    /// Held, now or before; or confirmed, in a sale without hold.
    HeldAgain(Booking),
    /// Not done, and why.
    Refused(Refusal),
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not enough tickets are left.
    SoldOut,
    /// The buyer would have more than the sale allows.
    BuyerLimit,
    /// The sale demands a buyer.
    BuyerRequired,
    /// Paused, closed, or outside of the sale's window.
    NotOnSale(OffSale),
    /// The id is taken by a booking of another quantity or buyer.
    IdReused,
    /// A request with the same id waits on this host.
    InProgress,
    /// No booking of that id.
    NoSuchBooking,
    /// The hold was over and its tickets are gone.
    HoldExpired,
    /// The booking was cancelled before.
    BookingCancelled,
    /// The booking is confirmed, and has no hold any more.
    BookingConfirmed,
    /// The hold would be longer than the sale allows.
    HoldLimit,
    /// The booking has fewer tickets than should remain.
    NotARelease,
    /// Nothing happened, since the ledger is not available.
    LedgerUnavailable,
    /// Nothing happened, since the ledger refuses writes.
    LedgerRefuses,
    /// Nothing happened, since the ledger no longer has the sale.
    SaleMissing,
    /// Nothing happened, since the ledger's record of the sale is not sound.
    SaleUnsound,
    /// Nothing happened, since the ledger forgot something of the sale, and hosts are putting it back.
    SaleFrozen,
    /// The ledger did not answer in time: the request may have been carried out or not.
    OutcomeUnknown,
    /// This host has reached its limit of requests in flight.
    Overloaded,
}
