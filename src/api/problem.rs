//! The problem types (RFC 9457) that this server answers with, each with the page that explains it.

use crate::booking::Refusal;
use crate::http::{Reason, Status};

/// A kind of refusal or error, named by the last part of its `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `sold-out` in `/problems/sold-out`.
    pub name: &'static str,
    code: u16,
    /// A few words, the same for every occurrence.
    pub title: &'static str,
    /// What it means and what the client can do; served at its `type`, and the default `detail`.
    pub explanation: &'static str,
}

macro_rules! problems {
    ($($constant:ident: $name:literal, $status:literal, $title:literal, $explanation:literal;)*) => {
        impl Problem {
            $(#[doc = concat!("`", $name, "`, ", stringify!($status), ".")]
            pub const $constant: Problem =
                Problem { name: $name, code: $status, title: $title, explanation: $explanation };)*

            /// All of them.
            pub const ALL: &'static [Problem] = &[$(Problem::$constant),*];
        }
    };
}

problems! {
    SOLD_OUT: "sold-out", 409, "Sold out",
        "Not enough tickets are left. Tickets may come back when holds expire or bookings are cancelled; the same id may \
         be used again.";
    BUYER_LIMIT: "buyer-limit", 409, "Buyer limit reached",
        "The buyer would have more tickets than the sale allows per buyer.";
    BUYER_REQUIRED: "buyer-required", 400, "Buyer required",
        "The sale limits the tickets of each buyer, so a booking must name its buyer. Send a buyer.";
    NOT_ON_SALE: "not-on-sale", 403, "Not on sale",
        "The sale has not started, is over, paused or closed; the detail says which. If it has not started, starts_at says \
         when it does.";
    ID_REUSED: "id-reused", 422, "Booking id reused",
        "A booking with this id already exists, with another quantity or buyer. Use a new id for a new booking.";
    IN_PROGRESS: "in-progress", 409, "Request in progress",
        "A request with this id is still being carried out. Try again in a moment with the same id.";
    HOLD_EXPIRED: "hold-expired", 409, "Hold expired",
        "The hold of this booking has ended. A late confirmation needs enough tickets to be left, and too few are; to \
         extend it or to release some of its tickets, hold it again first.";
    HOLD_LIMIT: "hold-limit", 409, "Longest hold reached",
        "The hold would become longer than the sale allows, counted from when it began. Nothing was changed.";
    NOT_A_RELEASE: "not-a-release", 409, "Not a release",
        "The booking has fewer tickets than should remain. A release only gives tickets back; to get more, book with a new \
         id.";
    BOOKING_CANCELLED: "booking-cancelled", 409, "Booking cancelled",
        "The booking was cancelled, and that is final. Book again with a new id.";
    BOOKING_CONFIRMED: "booking-confirmed", 409, "Booking confirmed",
        "The booking is confirmed: its tickets are sold, and it has no hold to extend or to take again.";
    BAD_REQUEST: "bad-request", 400, "Bad request",
        "The request is not well-formed; the detail says what and where.";
    PRECONDITION_FAILED: "precondition-failed", 412, "Precondition failed",
        "The condition in If-Match or If-None-Match is false, so nothing was changed. A booking has no entity tag; that of \
         a sale is its version, which is in the ETag of each answer.";
    NO_SUCH_SALE: "no-such-sale", 404, "No such sale",
        "There is no sale of this name.";
    NO_SUCH_BOOKING: "no-such-booking", 404, "No such booking",
        "The sale has no booking of this id.";
    NO_SUCH_PATH: "no-such-path", 404, "No such path",
        "Nothing is served at this path.";
    METHOD_NOT_ALLOWED: "method-not-allowed", 405, "Method not allowed",
        "The path exists but does not take this method; Allow lists those it takes.";
    LEDGER_UNAVAILABLE: "ledger-unavailable", 503, "Ledger unavailable",
        "The ledger, which has the last word on every ticket, is not available now, or not for this sale. Nothing was \
         done. Try again after Retry-After.";
    OUTCOME_UNKNOWN: "outcome-unknown", 503, "Outcome unknown",
        "The ledger did not answer in time, so the request may or may not have been carried out. Send it again with the \
         same id: it is never carried out twice.";
    OVERLOADED: "overloaded", 503, "Overloaded",
        "This host has reached its limit of connections or requests in flight. Nothing was done. Try again after \
         Retry-After.";
    TOTAL_TOO_LOW: "total-too-low", 409, "Total too low",
        "The new total is below the tickets that are held and sold. Nothing was changed.";
    SALE_NOT_CLOSED: "sale-not-closed", 409, "Sale not closed",
        "A sale can only be removed once it is closed and none of its tickets are held; the detail says which is not so. \
         Nothing was changed.";
    SALE_UNSOUND: "sale-unsound", 409, "Sale not sound",
        "The ledger's record of this sale is in a state that boxoffice never leaves behind; the detail says how. Nothing \
         was changed. `boxoffice audit` says more and can repair counts; `boxoffice sale remove` ends the sale.";
    EMPTY_WINDOW: "empty-window", 409, "Empty window",
        "The sale would end before it starts, or at the same time. Nothing was changed.";
    UNAUTHORIZED: "unauthorized", 401, "Unauthorized",
        "A call that changes something, and any call that does not name the host by its address or as localhost, needs the bearer token that the operator set with --admin-token-file.";
    FORBIDDEN: "forbidden", 403, "Forbidden",
        "This call came from a web page of another origin, or it names the host neither by its address nor as localhost \
         and no token is set; the detail says which.";
    TOKEN_NEEDED: "token-needed", 403, "Token needed",
        "This call is only accepted if the operator has set a token. Start the host with --admin-token-file, and send the \
         token.";
    AUDIT_TOO_LARGE: "audit-too-large", 409, "Audit too large",
        "The sale has more bookings, or a longer log, than a host holds in memory for an audit. Run `boxoffice audit` on a \
         machine that has room.";
    PROFILE_RUNNING: "profile-running", 409, "Profile running",
        "A profile of this host is already being taken. Try again when it is done.";
    PROFILE_FAILED: "profile-failed", 500, "Profile failed",
        "The profile could not be taken or drawn; the detail says why. The host goes on as before.";
    HTTP: "http", 400, "HTTP request refused",
        "What was received is not a request that this server accepts (RFC 9112), exceeds a limit, or took too long; the \
         detail says what and where. The connection is closed.";
}

impl Problem {
    /// The problem of that name.
    pub fn find(name: &str) -> Option<Problem> {
        Problem::ALL.iter().copied().find(|problem| problem.name == name)
    }

    /// The problem that a refusal is reported as.
    pub fn of(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::SoldOut => Problem::SOLD_OUT,
            Refusal::BuyerLimit => Problem::BUYER_LIMIT,
            Refusal::BuyerRequired => Problem::BUYER_REQUIRED,
            Refusal::NotOnSale(_) => Problem::NOT_ON_SALE,
            Refusal::IdReused => Problem::ID_REUSED,
            Refusal::InProgress => Problem::IN_PROGRESS,
            Refusal::NoSuchBooking => Problem::NO_SUCH_BOOKING,
            Refusal::HoldExpired => Problem::HOLD_EXPIRED,
            Refusal::BookingCancelled => Problem::BOOKING_CANCELLED,
            Refusal::BookingConfirmed => Problem::BOOKING_CONFIRMED,
            Refusal::HoldLimit => Problem::HOLD_LIMIT,
            Refusal::NotARelease => Problem::NOT_A_RELEASE,
            Refusal::LedgerUnavailable
            | Refusal::LedgerRefuses
            | Refusal::SaleMissing
            | Refusal::SaleUnsound
            | Refusal::SaleFrozen => Problem::LEDGER_UNAVAILABLE,
            Refusal::OutcomeUnknown => Problem::OUTCOME_UNKNOWN,
            Refusal::Overloaded => Problem::OVERLOADED,
        }
    }

    /// The problem that a refusal by HTTP is reported as.
    pub fn of_http(reason: Reason) -> Problem {
        match reason {
            Reason::Overloaded | Reason::AddressConnections => Problem::OVERLOADED,
            _ => Problem::HTTP,
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> Status {
        Status::from_code(self.code).expect("problems have statuses that this server speaks")
    }

    /// Whether a client is told when to try again.
    pub fn retry_after(self) -> bool {
        self.code == 503 || self == Problem::IN_PROGRESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_text_fits_into_json_as_it_is() {
        for (index, problem) in Problem::ALL.iter().enumerate() {
            assert_eq!(Problem::find(problem.name), Some(*problem), "{index}");
            assert!(problem.status().code() >= 400);
            for text in [problem.name, problem.title, problem.explanation] {
                assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{text:?}");
                assert!(!text.contains(['"', '\\']), "{text:?}");
            }
        }
    }
}
