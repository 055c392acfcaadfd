//! The end of a sale, and what is left of one whose row is gone.

use rusqlite::{Connection, params};

use super::rules::{Result, Sale, announce, insert, unsound};
use super::unsoundness;
use crate::booking::{Answer, ChangeFault, SaleName, SaleState, SaleStatus};
use crate::clock::WallTime;
use crate::limits::REMOVED_PER_CALL;

/// The tables that have rows of a sale beside its own, the long ones first.
const TABLES: [&str; 5] = ["bookings", "log", "buyers", "lost", "forgotten"];

/// Whether any row of the sale is there, its own aside.
pub(super) fn is_left(connection: &Connection, name: &SaleName) -> Result<bool> {
    for table in TABLES {
        let sql = format!("SELECT 1 FROM {table} WHERE sale = ?1 LIMIT 1");
        if connection.prepare_cached(&sql)?.exists([name.as_str()])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the sale's row first, so that nothing is sold any more, then a bounded number of others at each call.
pub(super) fn remove(connection: &Connection, name: &SaleName, clock: WallTime) -> Result<Answer> {
    match Sale::read(connection, name, clock) {
        Ok(Some(mut sale)) => {
            sale.lapse()?;
            let state = sale.state;
            if state.status != SaleStatus::Closed {
                return Ok(Answer::ChangeRefused { state, fault: ChangeFault::NotClosed });
            }
            if state.held > 0 {
                return Ok(Answer::ChangeRefused { state, fault: ChangeFault::StillHeld });
            }
        }
        Ok(None) if !is_left(connection, name)? => return Ok(Answer::NoSuchSale),
        Ok(None) => {}
        // What is not sound sells nothing.
        Err(error) if unsoundness(&error).is_some() => {}
        Err(error) => return Err(error),
    }
    connection.prepare_cached("DELETE FROM sales WHERE name = ?1")?.execute([name.as_str()])?;
    announce(connection, name)?;
    for table in TABLES {
        // Tables without a rowid: the keys of a bounded number of rows.
        let key = match table {
            "bookings" | "lost" => "id",
            "log" => "sequence",
            "buyers" => "buyer",
            _ => "at_ms",
        };
        let sql = format!(
            "DELETE FROM {table} WHERE sale = ?1 AND {key} IN (SELECT {key} FROM {table} WHERE sale = ?1 LIMIT ?2)"
        );
        let removed =
            connection.prepare_cached(&sql)?.execute(params![name.as_str(), REMOVED_PER_CALL as i64])?;
        if removed == REMOVED_PER_CALL {
            return Ok(Answer::Removed { done: false });
        }
    }
    Ok(Answer::Removed { done: true })
}

/// Opens a sale over the bookings of a lost one: paused, and with what they sum to.
pub(super) fn open_over(connection: &Connection, name: &SaleName, mut state: SaleState) -> Result<Answer> {
    let (held, sold, due): (i64, i64, i64) = connection.query_row(
        "SELECT coalesce(sum(quantity) FILTER (WHERE status = 'held'), 0),
         coalesce(sum(quantity) FILTER (WHERE status = 'confirmed'), 0),
         coalesce(min(expires_at_ms) FILTER (WHERE status = 'held'), 0) FROM bookings WHERE sale = ?1",
        [name.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let (sequence, clock): (i64, i64) = connection.query_row(
        "SELECT coalesce(max(sequence), 0), coalesce(max(at_ms), 0) FROM log WHERE sale = ?1",
        [name.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let counts = |number: i64| {
        u64::try_from(number).map_err(|_| unsound("its bookings sum to less than nothing".to_owned()))
    };
    (state.held, state.sold, state.sequence) = (counts(held)?, counts(sold)?, counts(sequence)?);
    state.status = SaleStatus::Paused;
    state.now = state.now.max(WallTime(counts(clock)?));
    (state.opened, state.lineage, state.announced_at) = (state.now.0, state.now.0, state.now);
    state.due_at = Some(WallTime(counts(due)?)).filter(|due| due.0 > 0);
    if state.held + state.sold > state.terms.total {
        return Ok(Answer::ChangeRefused { state, fault: ChangeFault::TotalTooLow });
    }
    // Whether the bookings that are there were counted for their buyers, only this tells.
    let is_counted =
        connection.prepare_cached("SELECT 1 FROM buyers WHERE sale = ?1 LIMIT 1")?.exists([name.as_str()])?;
    if !is_counted {
        state.terms.per_buyer = None;
    }
    insert(connection, name, state, is_counted)
}
