//! The feed: which sales were announced as changed, in order, and the names of all.

use rusqlite::{Connection, Result, params};

use super::rows::{bytes, integer, unsigned};
use crate::booking::SaleName;
use crate::clock::WallTime;
use crate::limits::{CHANGES_KEPT, CHANGES_PER_CALL_MAX};
use crate::protocol::LedgerResult;

pub(super) fn sales(connection: &Connection) -> Result<LedgerResult> {
    let mut statement = connection.prepare_cached("SELECT name FROM sales")?;
    let (mut names, mut odd) = (Vec::new(), Vec::new());
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let bytes = bytes(row, 0);
        match SaleName::parse(&bytes) {
            Ok(name) => names.push(name),
            Err(_) => odd.push(bytes.escape_ascii().to_string()),
        }
    }
    Ok(LedgerResult::Sales { names, odd })
}

/// The number of the latest announcement; 0 if there was none.
fn latest_change(connection: &Connection) -> Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(number), 0) FROM changes")?
        .query_row([], |row| unsigned(row, 0))
}

pub(super) fn changes(connection: &Connection, after: Option<u64>, now: WallTime) -> Result<LedgerResult> {
    let latest = latest_change(connection)?;
    let mut statement = connection
        .prepare_cached("SELECT number, sale FROM changes WHERE number > ?1 ORDER BY number LIMIT ?2")?;
    let mut rows =
        statement.query(params![integer(after.unwrap_or(u64::MAX)), CHANGES_PER_CALL_MAX as i64])?;
    let (mut names, mut told, mut last) = (Vec::new(), 0, 0);
    while let Some(row) = rows.next()? {
        last = unsigned(row, 0)?;
        names.extend(SaleName::parse(bytes(row, 1)));
        told += 1;
    }
    let more = told >= CHANGES_PER_CALL_MAX;
    let reset = after.is_some_and(|after| latest < after || latest - after > CHANGES_KEPT);
    let at = if more { last } else { latest };
    Ok(LedgerResult::Changes { names, at, more, reset, ledger: String::new(), now })
}

/// Announces a sale as changed.
pub(super) fn announce(connection: &Connection, name: &SaleName) -> Result<()> {
    let number = latest_change(connection)? + 1;
    connection
        .prepare_cached("INSERT OR REPLACE INTO changes (number, sale) VALUES (?1, ?2)")?
        .execute(params![integer(number), name.as_str()])?;
    // Also those of sales that are gone.
    if number.is_multiple_of(1024) {
        connection
            .prepare_cached("DELETE FROM changes WHERE number <= ?1")?
            .execute([integer(number.saturating_sub(CHANGES_KEPT))])?;
    }
    Ok(())
}
