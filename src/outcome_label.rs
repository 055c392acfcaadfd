//! How a request ended: the one list of words that the metrics and the access log share.

use crate::booking::{Outcome, Refusal};

macro_rules! endings {
    ($($outcome:ident $label:literal,)*) => {
        /// How a request ended: the label `outcome` of `boxoffice_requests_total` and of the access log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum OutcomeLabel {
            $(#[doc = concat!("`", $label, "`.")] $outcome,)*
        }

        impl OutcomeLabel {
            /// All of them, in the order of their discriminants.
            pub const ALL: &'static [OutcomeLabel] = &[$(OutcomeLabel::$outcome),*];

            /// The word that users see.
            pub fn label(self) -> &'static str {
                match self {
                    $(OutcomeLabel::$outcome => $label,)*
                }
            }

            /// The one of that [`label`](OutcomeLabel::label).
            pub fn from_label(label: &str) -> Option<OutcomeLabel> {
                OutcomeLabel::ALL.iter().copied().find(|outcome| outcome.label() == label)
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
    FrontPage "front-page",
    BadRequest "bad-request",
    PreconditionFailed "precondition-failed",
    NoSuchSale "no-such-sale",
    NoSuchPath "no-such-path",
    MethodNotAllowed "method-not-allowed",
    Options "options",
}

impl OutcomeLabel {
    /// What a refusal is counted and logged as.
    pub fn of_refusal(refusal: Refusal) -> OutcomeLabel {
        match refusal {
            Refusal::SoldOut => OutcomeLabel::SoldOut,
            Refusal::BuyerLimit => OutcomeLabel::BuyerLimit,
            Refusal::BuyerRequired => OutcomeLabel::BuyerRequired,
            Refusal::NotOnSale(_) => OutcomeLabel::NotOnSale,
            Refusal::IdReused => OutcomeLabel::IdReused,
            Refusal::InProgress => OutcomeLabel::InProgress,
            Refusal::NoSuchBooking => OutcomeLabel::NoSuchBooking,
            Refusal::HoldExpired => OutcomeLabel::HoldExpired,
            Refusal::BookingCancelled => OutcomeLabel::BookingCancelled,
            Refusal::BookingConfirmed => OutcomeLabel::BookingConfirmed,
            Refusal::HoldLimit => OutcomeLabel::HoldLimit,
            Refusal::NotARelease => OutcomeLabel::NotARelease,
            Refusal::LedgerUnavailable
            | Refusal::LedgerRefuses
            | Refusal::SaleMissing
            | Refusal::SaleUnsound
            | Refusal::SaleFrozen => OutcomeLabel::LedgerUnavailable,
            Refusal::OutcomeUnknown => OutcomeLabel::OutcomeUnknown,
            Refusal::Overloaded => OutcomeLabel::Overloaded,
        }
    }

    /// What an outcome is counted and logged as.
    pub fn of(outcome: &Outcome) -> OutcomeLabel {
        match outcome {
            Outcome::Granted(_) => OutcomeLabel::Granted,
            Outcome::Replayed(_) => OutcomeLabel::Replayed,
            Outcome::Found(_) => OutcomeLabel::Found,
            Outcome::Confirmed(_) => OutcomeLabel::Confirmed,
            Outcome::Cancelled(_) | Outcome::Tombstoned(_) => OutcomeLabel::Cancelled,
            Outcome::Extended(_) => OutcomeLabel::Extended,
            Outcome::Released(_) => OutcomeLabel::Released,
            Outcome::HeldAgain(_) => OutcomeLabel::HeldAgain,
            Outcome::Refused(refusal) => OutcomeLabel::of_refusal(*refusal),
        }
    }
}
