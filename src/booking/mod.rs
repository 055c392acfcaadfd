//! The domain: names, sales, bookings, and what a client is told of them.
//!
//! Only values. It knows nothing of HTTP, of a ledger, or of what is asked of one ([`crate::protocol`]): all of them use
//! these types.

mod identifier;
mod outcome;
mod sale;

pub use identifier::{Alphabet, BookingId, BuyerId, IdentifierError, SaleName};
pub use outcome::{Outcome, Refusal};
pub use sale::{OffSale, SaleChange, SaleState, SaleStatus, SaleTerms, TermsError};

use crate::clock::WallTime;
use crate::limits;

/// How many tickets a booking asks for: 1 to [`limits::QUANTITY_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u32);

impl Quantity {
    /// One ticket, what a request without a quantity asks for.
    pub const ONE: Quantity = Quantity(1);

    /// `None` if `tickets` is 0 or above [`limits::QUANTITY_MAX`].
    pub fn new(tickets: u64) -> Option<Quantity> {
        match u32::try_from(tickets) {
            Ok(tickets) if (1..=limits::QUANTITY_MAX).contains(&tickets) => Some(Quantity(tickets)),
            _ => None,
        }
    }

    /// The number of tickets.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The status of a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookingStatus {
    /// Unpaid; its tickets go back on sale at `expires_at`, by the ledger's clock.
    Held {
        /// The hold's deadline.
        expires_at: WallTime,
    },
    /// Sold for good.
    Confirmed,
    /// Given back by its buyer or by an operator, or a tombstone: an id that may never be granted.
    Cancelled,
    /// A hold whose deadline passed.
    Expired,
}

impl BookingStatus {
    /// The word that users see: `held`, `confirmed`, `cancelled`, `expired`.
    pub fn word(self) -> &'static str {
        match self {
            BookingStatus::Held { .. } => "held",
            BookingStatus::Confirmed => "confirmed",
            BookingStatus::Cancelled => "cancelled",
            BookingStatus::Expired => "expired",
        }
    }

    /// When its hold ends; `None` if it is not held.
    pub fn deadline(&self) -> Option<WallTime> {
        match self {
            BookingStatus::Held { expires_at } => Some(*expires_at),
            _ => None,
        }
    }

    /// Whether it takes tickets: held or confirmed.
    pub fn holds_stock(self) -> bool {
        matches!(self, BookingStatus::Held { .. } | BookingStatus::Confirmed)
    }
}

/// One buyer's claim on tickets of a sale, as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// The booking's id, unique within its sale.
    pub id: BookingId,
    /// Its status.
    pub status: BookingStatus,
    /// How many tickets it has.
    pub quantity: Quantity,
    /// How many it gave back since it was made; 0 in an entry of the log, which records each release separately.
    pub released: u32,
    /// Its buyer, if the client named one, or an operator has since.
    pub buyer: Option<BuyerId>,
    /// How often an operator gave it to another buyer, so that the later of two versions of a booking is known; 0 in an
    /// entry of the log.
    pub reassigned: u32,
}

impl Booking {
    /// How many tickets it was made with: a request for that many with its id is a repeat.
    pub fn made_with(&self) -> u32 {
        self.quantity.get().saturating_add(self.released)
    }
}

/// How a booking is to change; the same again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amendment {
    /// Its hold must end no earlier than that long from now, by the ledger's clock.
    Extend {
        /// How long, in milliseconds, 1 to [`limits::HOLD_MS_MAX`].
        ms: u64,
    },
    /// It gives back what it has beyond these.
    Release {
        /// How many should remain.
        remaining: Quantity,
    },
    /// If it is expired, its tickets are taken again, like those of a new booking: held with the sale's hold, or confirmed
    /// if the sale has none.
    HoldAgain,
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
