//! What travels between a desk and a ledger: calls, and the answers to them. Both ledgers, the desk, the commands and the
//! admin listener use it, and it is the same for all of them.
//!
//! A [`Call`] is an operation on one sale, or on the ledger as a whole. An operation on bookings carries a [`Watermark`]:
//! what its caller has seen of the sale, so that a ledger that has forgotten something is found out before it does
//! anything. An [`Answer`] gives the state of the sale first (missing, stale for this caller, or its state as of the end of
//! the call), and then the result of the operation. So each of these is looked at in one place, whatever the operation was.
//!
//! It never says how a call is carried: Redis' commands are in [`crate::ledger::redis`], SQL in [`crate::ledger::sqlite`].

mod answer;
mod call;
mod durability;
mod host;
mod slot;
mod survey;
mod watermark;

pub use answer::{
    Amended, Answer, CallError, Cancellation, ChangeFault, Confirmation, LedgerResult, LostCause, Objection,
    Reservation, Restoration, SaleResult,
};
pub use call::{BookingOp, Call, CallId, Cancel, Claim, LedgerId, LedgerOp, Opener, SaleOp};
pub use durability::Durability;
pub use host::{HostBeat, HostFigures, HostId, HostReport, with_shares};
pub use slot::{DirectoryShard, Slot, SlotRange};
pub use survey::{BuyerTickets, Part, Repair, Row, SPANS_MS, Span, StoredBooking};
pub use watermark::{Watermark, freeze};
