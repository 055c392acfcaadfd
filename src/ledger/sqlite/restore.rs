//! What a host acknowledged and the file has forgotten: the rules of `withhold` in `lua/sale.lua` and of `lua/restore.lua`, in
//! SQL.

use rusqlite::{Result, params};

use super::rows::integer;
use super::sale::Sale;
use crate::booking::{Booking, BookingStatus, BuyerId};
use crate::protocol::{LostCause, Restoration, Watermark, freeze};

impl Sale<'_> {
    /// Begins a freeze, or extends one.
    fn freeze(&mut self, seen: &Watermark, is_behind: bool) -> Result<()> {
        let lineage = self.state.lineage;
        self.frozen_since = freeze(&mut self.state, seen, is_behind, self.frozen_since);
        self.announce()?;
        let state = &self.state;
        if state.lineage != lineage {
            let told = if seen.is_something() { seen.sequence } else { self.sequence_before };
            self.statement("INSERT OR REPLACE INTO forgotten VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                self.name.as_str(),
                integer(state.now.0),
                integer(told),
                integer(self.sequence_before),
            ])?;
        }
        self.statement(
            "UPDATE sales SET lineage = ?2, frozen_since_ms = ?3, frozen_until_ms = ?4, announced_at_ms = ?5
             WHERE name = ?1",
        )?
        .execute(params![
            self.name.as_str(),
            integer(state.lineage),
            integer(self.frozen_since.0),
            integer(state.frozen_until.0),
            integer(state.announced_at.0),
        ])?;
        Ok(())
    }

    /// Whether to do nothing for a caller that has seen this.
    pub(super) fn is_stale_for(&mut self, seen: &Watermark) -> Result<bool> {
        if seen.is_ahead_of(&self.state) {
            self.freeze(seen, true)?;
        }
        Ok(seen.is_stale_for(&self.state))
    }

    /// Puts back what a host acknowledged, if it has seen no other sale of this name.
    pub(super) fn restore(&mut self, seen: &Watermark, bookings: &[Booking]) -> Result<Vec<Restoration>> {
        let is_behind = seen.is_ahead_of(&self.state);
        let restorations = bookings.iter().map(|told| self.put_back(told)).collect::<Result<Vec<_>>>()?;
        let forgotten = |restoration: &Restoration| {
            matches!(restoration, Restoration::PutBack | Restoration::Lost(LostCause::SoldOut))
        };
        if is_behind || restorations.iter().any(forgotten) {
            self.freeze(seen, is_behind)?;
        }
        Ok(restorations)
    }

    fn put_back(&mut self, told: &Booking) -> Result<Restoration> {
        let record = self.record(&told.id)?;
        let now = self.state.now;
        // Who owns it, by the later of both.
        let mut owner = (told.buyer, told.reassigned);
        let (status, quantity, hold_ms) = match &record {
            None => {
                let status = match told.status {
                    BookingStatus::Held { expires_at } if expires_at <= now => BookingStatus::Expired,
                    BookingStatus::Expired => BookingStatus::Cancelled,
                    status => status,
                };
                (status, told.quantity, None)
            }
            Some(record) => {
                let found = record.booking(&told.id);
                // One that was given to another buyer meanwhile is still the same.
                let found = found.filter(|it| {
                    it.made_with() == told.made_with()
                        && (it.buyer == told.buyer || it.reassigned != told.reassigned)
                });
                let Some(found) = found else {
                    return match told.status {
                        BookingStatus::Cancelled => Ok(Restoration::Stands),
                        _ => self.lose(told, LostCause::IdTaken),
                    };
                };
                // A booking never gains tickets: of two versions, that with fewer is the later.
                let quantity = found.quantity.min(told.quantity);
                let gave_more = quantity < found.quantity;
                let moved_on = told.reassigned > found.reassigned;
                if !moved_on {
                    owner = (found.buyer, found.reassigned);
                }
                let is_news = gave_more || moved_on;
                let (deadline, its_deadline) = (told.status.deadline(), found.status.deadline());
                // It was extended, or held again.
                let is_later = deadline.is_some_and(|deadline| {
                    deadline > now && its_deadline.is_none_or(|its_deadline| its_deadline < deadline)
                });
                let status = match (told.status, found.status) {
                    (BookingStatus::Cancelled, BookingStatus::Cancelled) => return Ok(Restoration::Stands),
                    (BookingStatus::Confirmed, BookingStatus::Held { .. } | BookingStatus::Expired)
                    | (BookingStatus::Cancelled, _) => told.status,
                    (_, BookingStatus::Held { .. } | BookingStatus::Expired) if is_later => told.status,
                    (_, BookingStatus::Held { expires_at }) if is_news && expires_at > now => found.status,
                    (_, BookingStatus::Confirmed) if is_news => found.status,
                    _ => return Ok(Restoration::Stands),
                };
                let longer = status.deadline().zip(its_deadline).map_or(0, |(to, from)| to.0 - from.0);
                (status, quantity, record.hold_ms.map(|hold_ms| hold_ms + longer))
            }
        };
        // What it has already is its own. A hold whose tickets went back already must find others.
        let has_stock = record.as_ref().and_then(|record| record.status).is_some_and(|status| match status {
            BookingStatus::Held { expires_at } => expires_at > self.state.lapsed_until,
            status => status.holds_stock(),
        });
        if status.holds_stock() && !has_stock && !self.fits(quantity) {
            return self.lose(told, LostCause::SoldOut);
        }
        if let Some(record) = &record {
            self.give_back(record)?;
        }
        match status {
            BookingStatus::Held { .. } => self.state.held += u64::from(quantity.get()),
            BookingStatus::Confirmed => self.state.sold += u64::from(quantity.get()),
            _ => {}
        }
        let released = told.made_with() - quantity.get();
        let (buyer, reassigned) = owner;
        let booking = Booking { id: told.id, status, quantity, released, buyer, reassigned };
        match status.holds_stock() {
            true => self.grant(&booking)?,
            false => self.write(&booking, false)?,
        }
        if status.deadline().is_some() {
            self.keep_hold(&told.id, hold_ms)?;
        }
        // A hold that is over does not make up for a lost confirmation.
        if status != BookingStatus::Expired {
            self.statement("DELETE FROM lost WHERE sale = ?1 AND id = ?2")?
                .execute([self.name.as_str(), told.id.as_str()])?;
        }
        Ok(Restoration::PutBack)
    }

    fn lose(&mut self, told: &Booking, cause: LostCause) -> Result<Restoration> {
        let expires_at = match told.status {
            BookingStatus::Held { expires_at } => Some(integer(expires_at.0)),
            _ => None,
        };
        self.statement("INSERT OR REPLACE INTO lost VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
            params![
                self.name.as_str(),
                told.id.as_str(),
                told.status.word(),
                told.quantity.get(),
                told.buyer.as_ref().map(BuyerId::as_str),
                expires_at,
                cause.word(),
                told.released,
                told.reassigned,
            ],
        )?;
        Ok(Restoration::Lost(cause))
    }
}
