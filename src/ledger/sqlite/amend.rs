//! Changes of existing bookings: the rules of `lua/amend.lua`, in SQL.

use rusqlite::Result;

use super::rows::BookingRow;
use super::sale::Sale;
use crate::booking::{Amendment, Booking, BookingId, BookingStatus, BuyerId, Quantity};
use crate::clock::WallTime;
use crate::protocol::{Amended, Objection};

impl Sale<'_> {
    pub(super) fn amend(&mut self, id: &BookingId, amendment: Amendment) -> Result<Amended> {
        let Some(record) = self.settled(id)? else { return Ok(Amended::NotFound) };
        let Some(booking) = record.booking(id) else { return Ok(Amended::NotFound) };
        match amendment {
            Amendment::Extend { ms } => self.extend(&record, booking, ms),
            Amendment::Release { remaining } => self.release(&record, booking, remaining),
            Amendment::HoldAgain => self.hold_again(booking),
        }
    }

    /// Gives a booking to another buyer, within that one's limit.
    pub(super) fn assign(&mut self, id: &BookingId, buyer: Option<BuyerId>) -> Result<Amended> {
        let Some(record) = self.settled(id)? else { return Ok(Amended::NotFound) };
        let Some(booking) = record.booking(id) else { return Ok(Amended::NotFound) };
        let objection = match booking.status {
            status if !status.holds_stock() => objection_to(status),
            _ if buyer == booking.buyer => return Ok(Amended::Done(booking)),
            _ if self.state.terms.buyer_required && buyer.is_none() => Objection::BuyerRequired,
            _ if !self.allows(buyer.as_ref(), booking.quantity)? => Objection::BuyerLimit,
            _ => {
                let assigned = Booking { buyer, reassigned: booking.reassigned + 1, ..booking };
                self.rewrite(&record, &assigned, record.hold_ms)?;
                return Ok(Amended::Done(assigned));
            }
        };
        Ok(Amended::Refused(objection))
    }

    fn extend(&mut self, record: &BookingRow, booking: Booking, ms: u64) -> Result<Amended> {
        let expires_at = match booking.status {
            BookingStatus::Held { expires_at } => expires_at,
            other => return Ok(Amended::Refused(objection_to(other))),
        };
        let wanted = WallTime(self.state.now.0 + ms);
        if wanted <= expires_at {
            return Ok(Amended::Done(booking));
        }
        let terms = &self.state.terms;
        // It began that long before its deadline. Bookings made before the sale had a longest hold do not say.
        let hold_ms = record.hold_ms.or(terms.hold_ms).unwrap_or(0) + (wanted.0 - expires_at.0);
        if hold_ms > terms.hold_max_ms.unwrap_or(0) {
            return Ok(Amended::Refused(Objection::HoldLimit));
        }
        let extended = Booking { status: BookingStatus::Held { expires_at: wanted }, ..booking };
        self.rewrite(record, &extended, Some(hold_ms))?;
        Ok(Amended::Done(extended))
    }

    fn release(&mut self, record: &BookingRow, booking: Booking, remaining: Quantity) -> Result<Amended> {
        if !booking.status.holds_stock() {
            return Ok(Amended::Refused(objection_to(booking.status)));
        }
        if remaining > booking.quantity {
            return Ok(Amended::Refused(Objection::NotARelease));
        }
        if remaining == booking.quantity {
            return Ok(Amended::Done(booking));
        }
        let released = booking.made_with() - remaining.get();
        let less = Booking { quantity: remaining, released, ..booking };
        self.rewrite(record, &less, record.hold_ms)?;
        Ok(Amended::Done(less))
    }

    fn hold_again(&mut self, booking: Booking) -> Result<Amended> {
        let objection = match booking.status {
            BookingStatus::Held { .. } => return Ok(Amended::Done(booking)),
            BookingStatus::Confirmed | BookingStatus::Cancelled => objection_to(booking.status),
            BookingStatus::Expired if !self.state.on_sale(self.state.now) => Objection::NotOnSale,
            BookingStatus::Expired if self.state.terms.buyer_required && booking.buyer.is_none() => {
                Objection::BuyerRequired
            }
            BookingStatus::Expired if !self.allows(booking.buyer.as_ref(), booking.quantity)? => {
                Objection::BuyerLimit
            }
            BookingStatus::Expired if !self.fits(booking.quantity) => Objection::SoldOut,
            BookingStatus::Expired => return self.take_anew(booking).map(Amended::Done),
        };
        Ok(Amended::Refused(objection))
    }

    /// Gives back what a booking has, and takes what it will have: no more than that, perhaps for another buyer.
    fn rewrite(&mut self, record: &BookingRow, booking: &Booking, hold_ms: Option<u64>) -> Result<()> {
        self.give_back(record)?;
        let quantity = u64::from(booking.quantity.get());
        match booking.status {
            BookingStatus::Held { .. } => self.state.held += quantity,
            _ => self.state.sold += quantity,
        }
        self.grant(booking)?;
        match booking.status {
            BookingStatus::Held { .. } => self.keep_hold(&booking.id, hold_ms),
            _ => Ok(()),
        }
    }
}

/// Why a booking that is not held, or has no tickets, cannot be changed.
fn objection_to(status: BookingStatus) -> Objection {
    match status {
        BookingStatus::Confirmed => Objection::Confirmed,
        BookingStatus::Cancelled => Objection::Cancelled,
        BookingStatus::Held { .. } | BookingStatus::Expired => Objection::HoldExpired,
    }
}
