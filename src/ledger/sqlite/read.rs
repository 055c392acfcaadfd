//! What is read of a sale without changing it: bookings by their ids or page by page, and its log.

use rusqlite::types::Type;
use rusqlite::{Result, params};

use super::rows::{BookingRow, booking_status, buyer, integer, malformed, optional, parsed, unsigned};
use super::sale::Sale;
use crate::booking::{Booking, BookingId, BookingStatus, LogEntry, Quantity};
use crate::clock::WallTime;
use crate::limits::{LOG_ENTRIES_PER_CALL_MAX, PAGE_ENTRIES};
use crate::protocol::SaleResult;

impl Sale<'_> {
    pub(super) fn look_up(&self, id: &BookingId) -> Result<Option<Booking>> {
        Ok(self.record(id)?.and_then(|record| record.booking(id)).map(|booking| self.as_of_now(booking)))
    }

    /// Reports a hold that is over as expired, without writing that down.
    fn as_of_now(&self, mut booking: Booking) -> Booking {
        if matches!(booking.status, BookingStatus::Held { expires_at } if expires_at <= self.state.now) {
            booking.status = BookingStatus::Expired;
        }
        booking
    }

    /// The cursor is the last id of the previous page.
    pub(super) fn page(&self, cursor: &str) -> Result<SaleResult> {
        let mut statement = self.statement(
            "SELECT status, quantity, buyer, counted, expires_at_ms, released, hold_ms, reassigned, id FROM bookings
             WHERE sale = ?1 AND id > ?2
             ORDER BY id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![self.name.as_str(), cursor, PAGE_ENTRIES as i64], |row| {
            let id = parsed(row, 8, |text| BookingId::parse(text).ok())?;
            Ok((id, BookingRow::read(row)?))
        })?;
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let next = rows.last().filter(|_| rows.len() == PAGE_ENTRIES).map(|(id, _)| id.as_str().to_owned());
        let bookings =
            rows.iter().filter_map(|(id, record)| record.booking(id)).map(|booking| self.as_of_now(booking));
        Ok(SaleResult::Page { bookings: bookings.collect(), next })
    }

    pub(super) fn read_log(&self, after: u64) -> Result<SaleResult> {
        let mut statement = self.statement(
            "SELECT sequence, at_ms, booking, status, quantity, buyer, expires_at_ms FROM log
             WHERE sale = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
        )?;
        let entries = statement.query_map(
            params![self.name.as_str(), integer(after), LOG_ENTRIES_PER_CALL_MAX as i64],
            |row| {
                let expires_at = optional(row, 6)?.map(WallTime);
                let booking = Booking {
                    id: parsed(row, 2, |text| BookingId::parse(text).ok())?,
                    status: parsed(row, 3, |word| booking_status(word, expires_at))?,
                    quantity: Quantity::new(unsigned(row, 4)?).ok_or_else(|| malformed(4, Type::Integer))?,
                    released: 0,
                    buyer: buyer(row, 5)?,
                    reassigned: 0,
                };
                Ok(LogEntry { sequence: unsigned(row, 0)?, at: WallTime(unsigned(row, 1)?), booking })
            },
        )?;
        entries.collect::<Result<_>>().map(SaleResult::Log)
    }
}
