//! Bookings that are made, confirmed and cancelled: the rules of `lua/reserve.lua`, `confirm.lua` and `cancel.lua`, in SQL.

use rusqlite::Result;

use super::sale::Sale;
use crate::booking::{Booking, BookingId, BookingStatus};
use crate::protocol::{Cancel, Cancellation, Claim, Confirmation, Reservation};

impl Sale<'_> {
    pub(super) fn reserve(&mut self, claim: &Claim) -> Result<Reservation> {
        if let Some(record) = self.settled(&claim.id)? {
            return Ok(match record.booking(&claim.id) {
                Some(booking)
                    if booking.made_with() == claim.quantity.get() && booking.buyer == claim.buyer =>
                {
                    Reservation::Known(booking)
                }
                Some(_) => Reservation::IdReused,
                None => Reservation::Known(Booking {
                    id: claim.id,
                    status: BookingStatus::Cancelled,
                    quantity: claim.quantity,
                    released: 0,
                    buyer: claim.buyer,
                    reassigned: 0,
                }),
            });
        }
        if !self.state.on_sale(self.state.now) {
            return Ok(Reservation::NotOnSale);
        }
        if self.state.terms.buyer_required && claim.buyer.is_none() {
            return Ok(Reservation::BuyerRequired);
        }
        if !self.allows(claim.buyer.as_ref(), claim.quantity)? {
            return Ok(Reservation::BuyerLimit);
        }
        if !self.fits(claim.quantity) {
            return Ok(Reservation::SoldOut);
        }
        let Claim { id, quantity, buyer } = *claim;
        let status = BookingStatus::Expired;
        let booking = self.take_anew(Booking { id, status, quantity, released: 0, buyer, reassigned: 0 })?;
        Ok(Reservation::Granted { expires_at: booking.status.deadline() })
    }

    pub(super) fn confirm(&mut self, id: &BookingId) -> Result<Confirmation> {
        let Some(record) = self.settled(id)? else { return Ok(Confirmation::NotFound) };
        let Some(mut booking) = record.booking(id) else { return Ok(Confirmation::NotFound) };
        let quantity = u64::from(booking.quantity.get());
        match booking.status {
            BookingStatus::Confirmed => Ok(Confirmation::Confirmed(booking)),
            BookingStatus::Cancelled => Ok(Confirmation::Cancelled(booking)),
            BookingStatus::Held { .. } => {
                self.give_back(&record)?;
                self.state.sold += quantity;
                booking.status = BookingStatus::Confirmed;
                self.grant(&booking)?;
                Ok(Confirmation::Confirmed(booking))
            }
            BookingStatus::Expired => {
                if !self.fits(booking.quantity) {
                    return Ok(Confirmation::HoldExpired(booking));
                }
                if !self.allows(booking.buyer.as_ref(), booking.quantity)? {
                    return Ok(Confirmation::BuyerLimit(booking));
                }
                self.state.sold += quantity;
                booking.status = BookingStatus::Confirmed;
                self.grant(&booking)?;
                Ok(Confirmation::Confirmed(booking))
            }
        }
    }

    pub(super) fn cancel(&mut self, Cancel { id, tombstone }: &Cancel) -> Result<Cancellation> {
        let Some(record) = self.settled(id)? else {
            if *tombstone {
                self.statement(
                    "INSERT INTO bookings (sale, id, status, quantity, counted, sequence)
                     VALUES (?1, ?2, 'tombstone', 0, 0, 0)",
                )?
                .execute([self.name.as_str(), id.as_str()])?;
            }
            return Ok(Cancellation::NotFound);
        };
        let Some(mut booking) = record.booking(id) else { return Ok(Cancellation::NotFound) };
        if booking.status != BookingStatus::Cancelled {
            self.give_back(&record)?;
            booking.status = BookingStatus::Cancelled;
            self.write(&booking, false)?;
        }
        Ok(Cancellation::Cancelled(booking))
    }
}
