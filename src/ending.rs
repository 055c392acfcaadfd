//! How a request ended: the one list of words that the metrics and the access log share.

use crate::booking::{Outcome, Refusal};

macro_rules! endings {
    ($($ending:ident $label:literal,)*) => {
        /// How a request ended: the label `outcome` of `boxoffice_requests_total` and of the access log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Ending {
            $(#[doc = concat!("`", $label, "`.")] $ending,)*
        }

        impl Ending {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [Ending] = &[$(Ending::$ending),*];

            /// The word that users see.
            pub fn label(self) -> &'static str {
                match self {
                    $(Ending::$ending => $label,)*
                }
            }

            /// The ending of that [`label`](Ending::label).
            pub fn from_label(label: &str) -> Option<Ending> {
                Ending::ALL.iter().copied().find(|ending| ending.label() == label)
            }
        }
    };
}

endings! {
    Granted "granted",
    Replayed "replayed",
    Found "found",
    Confirmed "confirmed",
    Cancelled "cancelled",
    Extended "extended",
    Released "released",
    HeldAgain "held-again",
    SoldOut "sold-out",
    BuyerLimit "buyer-limit",
    BuyerRequired "buyer-required",
    NotOnSale "not-on-sale",
    IdReused "id-reused",
    InProgress "in-progress",
    NoSuchBooking "no-such-booking",
    HoldExpired "hold-expired",
    BookingCancelled "booking-cancelled",
    BookingConfirmed "booking-confirmed",
    HoldLimit "hold-limit",
    NotARelease "not-a-release",
    LedgerUnavailable "ledger-unavailable",
    OutcomeUnknown "outcome-unknown",
    Overloaded "overloaded",
    SaleShown "sale-shown",
    ProblemExplained "problem-explained",
    BadRequest "bad-request",
    PreconditionFailed "precondition-failed",
    NoSuchSale "no-such-sale",
    NoSuchPath "no-such-path",
    MethodNotAllowed "method-not-allowed",
    Options "options",
}

impl Ending {
    /// What a refusal is counted and logged as.
    pub fn of_refusal(refusal: Refusal) -> Ending {
        match refusal {
            Refusal::SoldOut => Ending::SoldOut,
            Refusal::BuyerLimit => Ending::BuyerLimit,
            Refusal::BuyerRequired => Ending::BuyerRequired,
            Refusal::NotOnSale(_) => Ending::NotOnSale,
            Refusal::IdReused => Ending::IdReused,
            Refusal::InProgress => Ending::InProgress,
            Refusal::NoSuchBooking => Ending::NoSuchBooking,
            Refusal::HoldExpired => Ending::HoldExpired,
            Refusal::BookingCancelled => Ending::BookingCancelled,
            Refusal::BookingConfirmed => Ending::BookingConfirmed,
            Refusal::HoldLimit => Ending::HoldLimit,
            Refusal::NotARelease => Ending::NotARelease,
            Refusal::LedgerUnavailable
            | Refusal::LedgerRefuses
            | Refusal::SaleMissing
            | Refusal::SaleUnsound
            | Refusal::SaleFrozen => Ending::LedgerUnavailable,
            Refusal::OutcomeUnknown => Ending::OutcomeUnknown,
            Refusal::Overloaded => Ending::Overloaded,
        }
    }

    /// What an outcome is counted and logged as.
    pub fn of(outcome: &Outcome) -> Ending {
        match outcome {
            Outcome::Granted(_) => Ending::Granted,
            Outcome::Replayed(_) => Ending::Replayed,
            Outcome::Found(_) => Ending::Found,
            Outcome::Confirmed(_) => Ending::Confirmed,
            Outcome::Cancelled(_) | Outcome::Tombstoned(_) => Ending::Cancelled,
            Outcome::Extended(_) => Ending::Extended,
            Outcome::Released(_) => Ending::Released,
            Outcome::HeldAgain(_) => Ending::HeldAgain,
            Outcome::Refused(refusal) => Ending::of_refusal(*refusal),
        }
    }
}
