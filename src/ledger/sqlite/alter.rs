//! Changes of a sale: the rules of `lua/alter.lua`, in SQL.

use rusqlite::{Result, params};

use super::rows::{BookingRow, integer, parsed};
use super::sale::Sale;
use crate::booking::{BookingId, BookingStatus, SaleChange};
use crate::limits::COUNTED_PER_CALL;
use crate::protocol::{ChangeFault, SaleResult};

impl Sale<'_> {
    pub(super) fn alter(&mut self, change: &SaleChange) -> Result<SaleResult> {
        let mut terms = self.state.terms.clone();
        terms.total = change.total.unwrap_or(terms.total);
        terms.hold_ms = change.hold_ms.unwrap_or(terms.hold_ms);
        terms.hold_max_ms = change.hold_max_ms.unwrap_or(terms.hold_max_ms);
        terms.per_buyer = change.per_buyer.unwrap_or(terms.per_buyer);
        terms.starts_at = change.starts_at.unwrap_or(terms.starts_at);
        terms.ends_at = change.ends_at.unwrap_or(terms.ends_at);
        terms.buyer_required = change.buyer_required.unwrap_or(terms.buyer_required);
        let status = change.status.unwrap_or(self.state.status);
        let fault = match terms.check() {
            _ if change.if_version.is_some_and(|version| version != self.state.version) => {
                Some(ChangeFault::OtherVersion)
            }
            _ if terms.total < self.state.held + self.state.sold => Some(ChangeFault::TotalTooLow),
            Ok(()) => None,
            // Each term by itself was checked before.
            Err(_) => Some(ChangeFault::EmptyWindow),
        };
        if let Some(fault) = fault {
            return Ok(SaleResult::Refused(fault));
        }
        if terms.per_buyer.is_some() && !self.count_on()? {
            return Ok(SaleResult::Counting);
        }
        if terms != self.state.terms || status != self.state.status {
            self.state.version += 1;
            self.announce()?;
            (self.state.terms, self.state.status) = (terms, status);
            let (state, terms) = (&self.state, &self.state.terms);
            // With the counts: they and the total are checked against each other.
            self.statement(
                "UPDATE sales SET total = ?2, status = ?3, hold_ms = ?4, per_buyer = ?5, starts_at_ms = ?6, ends_at_ms = ?7,
                 version = ?8, held = ?9, sold = ?10, buyer_required = ?11, announced_at_ms = ?12,
                 hold_max_ms = ?13 WHERE name = ?1",
            )?
            .execute(params![
                self.name.as_str(),
                integer(terms.total),
                state.status.word(),
                terms.hold_ms.map(integer),
                terms.per_buyer,
                terms.starts_at.map(|at| integer(at.0)),
                terms.ends_at.map(|at| integer(at.0)),
                integer(state.version),
                integer(state.held),
                integer(state.sold),
                terms.buyer_required,
                integer(state.announced_at.0),
                terms.hold_max_ms.map(integer),
            ])?;
        }
        Ok(SaleResult::Done)
    }

    /// Counts what further buyers have, for a bounded number of bookings; returns whether all of it is counted now.
    fn count_on(&mut self) -> Result<bool> {
        const ALL: &str = "all";
        if self.counted == ALL {
            return Ok(true);
        }
        let after = self.counted.strip_prefix('>').unwrap_or_default().to_owned();
        let rows: Vec<(BookingId, BookingRow)> = self
            .statement(
                "SELECT status, quantity, buyer, counted, expires_at_ms, released, hold_ms, reassigned, id FROM bookings
                 WHERE sale = ?1 AND id > ?2
                 ORDER BY id LIMIT ?3",
            )?
            .query_map(params![self.name.as_str(), after, COUNTED_PER_CALL as i64], |row| {
                Ok((parsed(row, 8, |text| BookingId::parse(text).ok())?, BookingRow::read(row)?))
            })?
            .collect::<Result<_>>()?;
        for (id, record) in &rows {
            let (Some(buyer), false) = (&record.buyer, record.counted) else { continue };
            match record.status {
                Some(BookingStatus::Held { expires_at }) if expires_at > self.state.now => {
                    self.count(buyer, |tickets| tickets.holds.push((expires_at, record.quantity)))?;
                }
                Some(BookingStatus::Confirmed) => {
                    self.count(buyer, |tickets| tickets.confirmed += u64::from(record.quantity))?;
                }
                _ => continue,
            }
            self.statement("UPDATE bookings SET counted = 1 WHERE sale = ?1 AND id = ?2")?
                .execute([self.name.as_str(), id.as_str()])?;
        }
        self.counted = match rows.last() {
            Some((last, _)) if rows.len() == COUNTED_PER_CALL => format!(">{last}"),
            _ => ALL.to_owned(),
        };
        // A hold that is over by now is not counted, so it must not be live again with a clock that goes back.
        self.statement("UPDATE sales SET counted = ?2, clock_ms = ?3 WHERE name = ?1")?.execute(params![
            self.name.as_str(),
            self.counted,
            integer(self.state.now.0)
        ])?;
        Ok(self.counted == ALL)
    }
}
