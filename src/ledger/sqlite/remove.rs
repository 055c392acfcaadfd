//! The end of a sale, and what is left of one whose row is gone.

use rusqlite::{Connection, Result, params};

use super::feed::announce;
use super::sale::Sale;
use super::unsoundness;
use crate::booking::{SaleName, SaleStatus};
use crate::clock::WallTime;
use crate::limits::REMOVED_PER_CALL;
use crate::protocol::{Answer, ChangeFault, SaleResult};

/// The tables that have rows of a sale beside its own, the long ones first.
const TABLES: [&str; 5] = ["bookings", "log", "buyers", "lost", "forgotten"];

/// Whether any row of the sale is left, apart from its own.
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
            let fault = match state.status {
                SaleStatus::Closed if state.held == 0 => None,
                SaleStatus::Closed => Some(ChangeFault::StillHeld),
                SaleStatus::Open | SaleStatus::Paused => Some(ChangeFault::NotClosed),
            };
            if let Some(fault) = fault {
                return Ok(Answer::Sale { state, result: SaleResult::Refused(fault) });
            }
        }
        Ok(None) if !is_left(connection, name)? => return Ok(Answer::Missing),
        Ok(None) => {}
        // A sale that is not sound sells nothing.
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
