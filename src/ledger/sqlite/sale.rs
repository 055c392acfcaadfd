//! A sale while a call works on it: its counts, its bookings' rows, and what its buyers have. What a call does to them is
//! in the files beside this one, each named after the script in `lua/` that has the same rules.

use rusqlite::types::Type;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, params};

use super::feed;
use super::rows::{BookingRow, integer, malformed, parsed, read_state, store_buyer, unsigned, unsound};
use crate::booking::{Booking, BookingId, BookingStatus, BuyerId, Quantity, SaleName, SaleState, SaleTerms};
use crate::clock::WallTime;
use crate::ledger::held;
use crate::protocol::BuyerTickets;

/// A sale while a call works on it.
pub(super) struct Sale<'a> {
    pub(super) connection: &'a Connection,
    pub(super) name: &'a SaleName,
    pub(super) state: SaleState,
    pub(super) sequence_before: u64,
    /// What is stored of holds.
    saved: (u64, Option<WallTime>, WallTime),
    pub(super) frozen_since: WallTime,
    /// Up to which booking the tickets of buyers are counted; see the table.
    pub(super) counted: String,
}

impl<'a> Sale<'a> {
    pub(super) fn read(
        connection: &'a Connection,
        name: &'a SaleName,
        clock: WallTime,
    ) -> Result<Option<Sale<'a>>> {
        let mut statement = connection.prepare_cached(
            "SELECT total, held, sold, version, sequence, status, hold_ms, per_buyer, starts_at_ms, ends_at_ms, clock_ms,
             opened_ms, lineage, frozen_until_ms, due_at_ms, lapsed_until_ms, announced_at_ms, by_operator,
             buyer_required, hold_max_ms, frozen_since_ms, counted FROM sales WHERE name = ?1",
        )?;
        let found = statement.query_row([name.as_str()], |row| {
            Ok((read_state(row, clock)?, WallTime(unsigned(row, 20)?), row.get(21)?))
        });
        let Some((state, frozen_since, counted)) = found.optional()? else { return Ok(None) };
        let taken = state.held.saturating_add(state.sold);
        if taken > state.terms.total {
            return Err(unsound("has more tickets held and sold than there are".to_owned()));
        }
        if taken > 0
            && !connection
                .prepare_cached("SELECT 1 FROM bookings WHERE sale = ?1 LIMIT 1")?
                .exists([name.as_str()])?
        {
            return Err(unsound(format!("counts {taken} tickets held and sold, but its bookings are gone")));
        }
        Ok(Some(Sale {
            connection,
            name,
            sequence_before: state.sequence,
            saved: (state.held, state.due_at, state.lapsed_until),
            state,
            frozen_since,
            counted,
        }))
    }

    /// Writes what changed in the counts.
    pub(super) fn save(&self) -> Result<()> {
        let state = &self.state;
        if state.sequence != self.sequence_before
            || self.saved != (state.held, state.due_at, state.lapsed_until)
        {
            self.statement(
                "UPDATE sales SET held = ?2, sold = ?3, sequence = ?4, clock_ms = ?5, due_at_ms = ?6,
                 lapsed_until_ms = ?7, announced_at_ms = ?8 WHERE name = ?1",
            )?
            .execute(params![
                self.name.as_str(),
                integer(state.held),
                integer(state.sold),
                integer(state.sequence),
                integer(state.now.0),
                integer(state.due_at.unwrap_or_default().0),
                integer(state.lapsed_until.0),
                integer(state.announced_at.0),
            ])?;
        }
        Ok(())
    }

    /// Announces a change, at most once in a while. The caller writes `announced_at`.
    pub(super) fn announce(&mut self) -> Result<()> {
        if self.state.may_change_unannounced() {
            return Ok(());
        }
        self.state.announced_at = self.state.now;
        feed::announce(self.connection, self.name)
    }

    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    pub(super) fn record(&self, id: &BookingId) -> Result<Option<BookingRow>> {
        self.statement(
            "SELECT status, quantity, buyer, counted, expires_at_ms, released, hold_ms, reassigned FROM bookings
             WHERE sale = ?1 AND id = ?2",
        )?
        .query_row([self.name.as_str(), id.as_str()], BookingRow::read)
        .optional()
    }

    /// Logs a change of a booking and stores the booking as it is now.
    pub(super) fn write(&mut self, booking: &Booking, counted: bool) -> Result<()> {
        self.state.sequence += 1;
        self.announce()?;
        let expires_at = match booking.status {
            BookingStatus::Held { expires_at } => Some(integer(expires_at.0)),
            _ => None,
        };
        let buyer = booking.buyer.as_ref().map(BuyerId::as_str);
        self.statement(
            "INSERT INTO log (sale, sequence, at_ms, booking, status, quantity, buyer, expires_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            self.name.as_str(),
            integer(self.state.sequence),
            integer(self.state.now.0),
            booking.id.as_str(),
            booking.status.word(),
            booking.quantity.get(),
            buyer,
            expires_at,
        ])?;
        self.statement(
            "INSERT INTO bookings (sale, id, status, quantity, buyer, counted, expires_at_ms, sequence, released, reassigned)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (sale, id) DO UPDATE SET status = ?3, quantity = ?4, buyer = ?5, counted = ?6, expires_at_ms = ?7,
             sequence = ?8, released = ?9, hold_ms = NULL, reassigned = ?10",
        )?
        .execute(params![
            self.name.as_str(),
            booking.id.as_str(),
            booking.status.word(),
            booking.quantity.get(),
            buyer,
            counted,
            expires_at,
            integer(self.state.sequence),
            booking.released,
            booking.reassigned,
        ])?;
        Ok(())
    }

    /// Stores how long a booking is held in all.
    pub(super) fn keep_hold(&self, id: &BookingId, hold_ms: Option<u64>) -> Result<()> {
        if let Some(hold_ms) = hold_ms {
            self.statement("UPDATE bookings SET hold_ms = ?3 WHERE sale = ?1 AND id = ?2")?
                .execute(params![self.name.as_str(), id.as_str(), integer(hold_ms)])?;
        }
        Ok(())
    }

    /// What a buyer has, without holds that are over.
    fn tickets_of(&self, buyer: &BuyerId) -> Result<BuyerTickets> {
        let found = self
            .statement("SELECT tickets, holds FROM buyers WHERE sale = ?1 AND buyer = ?2")?
            .query_row([self.name.as_str(), buyer.as_str()], |row| {
                Ok(BuyerTickets { confirmed: unsigned(row, 0)?, holds: parsed(row, 1, held::read)? })
            })
            .optional()?;
        let mut tickets = found.unwrap_or_default();
        tickets.holds.retain(|(deadline, _)| *deadline > self.state.now);
        Ok(tickets)
    }

    /// Changes what a buyer has; a row is kept only while there is something to count.
    pub(super) fn count(&self, buyer: &BuyerId, change: impl FnOnce(&mut BuyerTickets)) -> Result<()> {
        let mut tickets = self.tickets_of(buyer)?;
        change(&mut tickets);
        store_buyer(self.connection, self.name, buyer, &tickets)
    }

    /// Whether what is booked counts for its buyer.
    pub(super) fn counts(&self, buyer: Option<&BuyerId>) -> bool {
        buyer.is_some() && !self.counted.is_empty()
    }

    /// Whether the buyer may have that many more.
    pub(super) fn allows(&self, buyer: Option<&BuyerId>, quantity: Quantity) -> Result<bool> {
        match (self.state.terms.per_buyer, buyer) {
            (Some(limit), Some(buyer)) => {
                let has = self.tickets_of(buyer)?.total(self.state.now);
                Ok(has + u64::from(quantity.get()) <= u64::from(limit))
            }
            _ => Ok(true),
        }
    }

    /// Whether holds are over that have not given their tickets back, or are not entered as expired yet.
    fn is_due(&self) -> bool {
        // A hold may have been confirmed in what was forgotten.
        !self.state.is_frozen() && self.state.due_at.is_some_and(|due| due <= self.state.now)
    }

    /// Gives back the tickets of all holds that are over, however many.
    pub(super) fn lapse(&mut self) -> Result<()> {
        if !self.is_due() || self.state.lapsed_until >= self.state.now {
            return Ok(());
        }
        let tickets = self
            .statement(
                "SELECT coalesce(sum(quantity), 0) FROM bookings
                 WHERE sale = ?1 AND status = 'held' AND expires_at_ms > ?2 AND expires_at_ms <= ?3",
            )?
            .query_row(
                params![self.name.as_str(), integer(self.state.lapsed_until.0), integer(self.state.now.0)],
                |row| unsigned(row, 0),
            )?;
        take(&mut self.state.held, tickets)?;
        self.state.lapsed_until = self.state.now;
        Ok(())
    }

    /// Bookkeeping behind [`lapse`](Sale::lapse): overdue holds become expired, oldest first, at most that many.
    pub(super) fn sweep(&mut self, most: usize) -> Result<()> {
        self.lapse()?;
        if !self.is_due() {
            return Ok(());
        }
        let overdue: Vec<BookingId> = self
            .statement(
                "SELECT id FROM bookings WHERE sale = ?1 AND status = 'held' AND expires_at_ms <= ?2
                 ORDER BY expires_at_ms, sequence LIMIT ?3",
            )?
            .query_map(params![self.name.as_str(), integer(self.state.lapsed_until.0), most as i64], |row| {
                parsed(row, 0, |text| BookingId::parse(text).ok())
            })?
            .collect::<Result<_>>()?;
        for id in overdue {
            if let Some(record) = self.record(&id)? {
                self.settle(&id, record)?;
            }
        }
        let next = self
            .statement(
                "SELECT expires_at_ms FROM bookings WHERE sale = ?1 AND status = 'held'
                 ORDER BY expires_at_ms LIMIT 1",
            )?
            .query_row([self.name.as_str()], |row| unsigned(row, 0))
            .optional()?;
        self.state.due_at = next.map(WallTime);
        Ok(())
    }

    /// The record as of now: expires it if it is an overdue hold.
    fn settle(&mut self, id: &BookingId, mut record: BookingRow) -> Result<BookingRow> {
        if let Some(BookingStatus::Held { expires_at }) = record.status
            && expires_at <= self.state.now
        {
            self.give_back(&record)?;
            record.status = Some(BookingStatus::Expired);
            record.counted = false;
            if let Some(booking) = record.booking(id) {
                self.write(&booking, false)?;
            }
        }
        Ok(record)
    }

    /// Returns a booking's tickets to the stock and to its buyer's allowance.
    pub(super) fn give_back(&mut self, record: &BookingRow) -> Result<()> {
        let quantity = record.quantity;
        match record.status {
            Some(BookingStatus::Held { expires_at }) if expires_at > self.state.lapsed_until => {
                take(&mut self.state.held, u64::from(quantity))?;
            }
            Some(BookingStatus::Held { .. }) => {}
            Some(BookingStatus::Confirmed) => take(&mut self.state.sold, u64::from(quantity))?,
            _ => return Ok(()),
        }
        let Some(buyer) = record.buyer.as_ref().filter(|_| record.counted) else { return Ok(()) };
        self.count(buyer, |tickets| match record.status {
            Some(BookingStatus::Held { expires_at }) => {
                let hold = (expires_at, quantity);
                if let Some(place) = tickets.holds.iter().position(|other| *other == hold) {
                    tickets.holds.remove(place);
                }
            }
            _ => tickets.confirmed = tickets.confirmed.saturating_sub(u64::from(quantity)),
        })
    }

    pub(super) fn settled(&mut self, id: &BookingId) -> Result<Option<BookingRow>> {
        match self.record(id)? {
            Some(record) => self.settle(id, record).map(Some),
            None => Ok(None),
        }
    }

    /// Whether that many tickets are left.
    pub(super) fn fits(&self, quantity: Quantity) -> bool {
        self.state.held + self.state.sold + u64::from(quantity.get()) <= self.state.terms.total
    }

    /// Takes tickets for a booking that has none, by the sale's terms: held if the sale has a hold, else confirmed.
    pub(super) fn take_anew(&mut self, mut booking: Booking) -> Result<Booking> {
        let SaleTerms { hold_ms, hold_max_ms, .. } = self.state.terms;
        let quantity = u64::from(booking.quantity.get());
        booking.status = match hold_ms {
            Some(hold_ms) => {
                self.state.held += quantity;
                BookingStatus::Held { expires_at: WallTime(self.state.now.0 + hold_ms) }
            }
            None => {
                self.state.sold += quantity;
                BookingStatus::Confirmed
            }
        };
        self.grant(&booking)?;
        self.keep_hold(&booking.id, hold_ms.filter(|_| hold_max_ms.is_some()))?;
        Ok(booking)
    }

    /// Stores a booking that takes stock anew, and counts it for its buyer.
    pub(super) fn grant(&mut self, booking: &Booking) -> Result<()> {
        let buyer = booking.buyer.as_ref().filter(|buyer| self.counts(Some(buyer)));
        self.write(booking, buyer.is_some())?;
        let quantity = booking.quantity.get();
        if let BookingStatus::Held { expires_at } = booking.status {
            self.state.due_at = Some(self.state.due_at.map_or(expires_at, |due| due.min(expires_at)));
        }
        match buyer {
            Some(buyer) => self.count(buyer, |tickets| match booking.status {
                BookingStatus::Held { expires_at } => tickets.holds.push((expires_at, quantity)),
                _ => tickets.confirmed += u64::from(quantity),
            }),
            None => Ok(()),
        }
    }
}

/// Takes tickets out of a count. Only a file that was changed by hand has fewer there.
fn take(count: &mut u64, tickets: u64) -> Result<()> {
    *count = count.checked_sub(tickets).ok_or_else(|| malformed(0, Type::Integer))?;
    Ok(())
}
