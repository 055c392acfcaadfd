//! How a sale is opened, also over what is left of a lost one, and which sales are known to have been removed.

use rusqlite::{Connection, Result, params};

use super::feed::announce;
use super::remove::is_left;
use super::rows::{integer, unsound};
use super::sale::Sale;
use crate::booking::{SaleName, SaleState, SaleStatus, SaleTerms};
use crate::clock::WallTime;
use crate::protocol::{Answer, ChangeFault, LedgerResult, Opener, SaleResult};

/// Opens a sale that does not exist; leaves an existing one as it is.
pub(super) fn open(
    connection: &Connection,
    name: &SaleName,
    terms: &SaleTerms,
    by: Opener,
    clock: WallTime,
) -> Result<Answer> {
    if let Some(sale) = Sale::read(connection, name, clock)? {
        return Ok(Answer::Sale { state: sale.state, result: SaleResult::Exists });
    }
    let is_left = is_left(connection, name)?;
    if is_left && by == Opener::Start {
        return Ok(Answer::Lost);
    }
    let state = SaleState {
        terms: terms.clone(),
        version: 1,
        now: clock,
        opened: clock.0,
        lineage: clock.0,
        announced_at: clock,
        by_operator: by == Opener::Operator,
        ..SaleState::default()
    };
    if is_left {
        return open_over(connection, name, state);
    }
    let is_counted = terms.per_buyer.is_some();
    insert(connection, name, state, is_counted)
}

/// Makes the row of a sale that is opened. `is_counted` says whether its bookings, if there are any, count for their buyers.
fn insert(connection: &Connection, name: &SaleName, state: SaleState, is_counted: bool) -> Result<Answer> {
    announce(connection, name)?;
    let terms = &state.terms;
    connection
        .prepare_cached(
            "INSERT INTO sales (name, total, held, sold, version, sequence, status, hold_ms, per_buyer, starts_at_ms,
             ends_at_ms, clock_ms, opened_ms, lineage, due_at_ms, announced_at_ms, by_operator, buyer_required, counted,
             hold_max_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
        )?
        .execute(params![
            name.as_str(),
            integer(terms.total),
            integer(state.held),
            integer(state.sold),
            integer(state.version),
            integer(state.sequence),
            state.status.word(),
            terms.hold_ms.map(integer),
            terms.per_buyer,
            terms.starts_at.map(|at| integer(at.0)),
            terms.ends_at.map(|at| integer(at.0)),
            integer(state.now.0),
            integer(state.opened),
            integer(state.lineage),
            integer(state.due_at.unwrap_or_default().0),
            integer(state.announced_at.0),
            state.by_operator,
            terms.buyer_required,
            if is_counted { "all" } else { "" },
            terms.hold_max_ms.map(integer),
        ])?;
    Ok(Answer::Sale { state, result: SaleResult::Created })
}

/// Opens a sale over the bookings of a lost one: paused, and with their sums as its counts.
fn open_over(connection: &Connection, name: &SaleName, mut state: SaleState) -> Result<Answer> {
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
        u64::try_from(number).map_err(|_| unsound("its bookings add up to less than nothing".to_owned()))
    };
    (state.held, state.sold, state.sequence) = (counts(held)?, counts(sold)?, counts(sequence)?);
    state.status = SaleStatus::Paused;
    state.now = state.now.max(WallTime(counts(clock)?));
    (state.opened, state.lineage, state.announced_at) = (state.now.0, state.now.0, state.now);
    state.due_at = Some(WallTime(counts(due)?)).filter(|due| due.0 > 0);
    if state.held + state.sold > state.terms.total {
        return Ok(Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) });
    }
    // Only this tells whether the existing bookings were counted for their buyers.
    let is_counted =
        connection.prepare_cached("SELECT 1 FROM buyers WHERE sale = ?1 LIMIT 1")?.exists([name.as_str()])?;
    if !is_counted {
        state.terms.per_buyer = None;
    }
    insert(connection, name, state, is_counted)
}

/// A sale whose row is gone is lost if some of it is left, and was removed if nothing is.
pub(super) fn recall(connection: &Connection, sales: &[(SaleName, u64)]) -> Result<LedgerResult> {
    let is_removed = |(name, _): &(SaleName, u64)| {
        let is_there =
            connection.prepare_cached("SELECT 1 FROM sales WHERE name = ?1")?.exists([name.as_str()])?;
        Ok(!is_there && !is_left(connection, name)?)
    };
    Ok(LedgerResult::Recalled { removed: sales.iter().map(is_removed).collect::<Result<_>>()? })
}
