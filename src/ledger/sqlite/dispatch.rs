//! Each call, inside a transaction: which rules apply to it, and what all calls on a sale have in common. Whether the sale
//! exists, whether the caller must hear that its view is stale, and the state in the answer are decided here alone.

use rusqlite::{Connection, Result};

use super::sale::Sale;
use super::{feed, opening, remove, survey};
use crate::booking::SaleName;
use crate::clock::WallTime;
use crate::ledger::LAYOUT;
use crate::limits::{EXPIRIES_PER_CALL_MAX, SWEPT_PER_CALL};
use crate::protocol::{
    Answer, BookingOp, Call, HostBeat, LedgerOp, LedgerResult, SaleOp, SaleResult, Watermark,
};

/// Carries out one call at `clock`.
pub(super) fn execute(connection: &Connection, call: &Call, clock: WallTime) -> Result<Answer> {
    match call {
        Call::Bookings { sale, seen, op } => on_bookings(connection, sale, seen, op, clock),
        Call::Sale { sale, op } => on_sale(connection, sale, op, clock),
        Call::Ledger(op) => on_ledger(connection, op, clock).map(Answer::Ledger),
    }
}

fn on_bookings(
    connection: &Connection,
    name: &SaleName,
    seen: &Watermark,
    op: &BookingOp,
    clock: WallTime,
) -> Result<Answer> {
    let Some(mut sale) = Sale::read(connection, name, clock)? else { return Ok(Answer::Missing) };
    let is_stale = match op {
        BookingOp::Restore(_) => seen.is_of_another(&sale.state),
        _ => sale.is_stale_for(seen)?,
    };
    if is_stale {
        return Ok(Answer::Stale(sale.state));
    }
    if !matches!(op, BookingOp::Restore(_)) {
        sale.sweep(SWEPT_PER_CALL)?;
    }
    let result = match op {
        BookingOp::Reserve(claims) => SaleResult::Reserved(each(claims, |claim| sale.reserve(claim))?),
        BookingOp::Confirm(ids) => SaleResult::Confirmed(each(ids, |id| sale.confirm(id))?),
        BookingOp::Cancel(cancels) => SaleResult::Cancelled(each(cancels, |cancel| sale.cancel(cancel))?),
        BookingOp::Amend(amendments) => {
            SaleResult::Amended(each(amendments, |(id, amendment)| sale.amend(id, *amendment))?)
        }
        BookingOp::Assign { id, buyer } => SaleResult::Assigned(sale.assign(id, buyer.as_deref().copied())?),
        BookingOp::Restore(bookings) => SaleResult::Restored(sale.restore(seen, bookings)?),
    };
    sale.save()?;
    Ok(Answer::Sale { state: sale.state, result })
}

fn on_sale(connection: &Connection, name: &SaleName, op: &SaleOp, clock: WallTime) -> Result<Answer> {
    match op {
        // Even if the sale is missing, or not sound: each of these finds that out for itself.
        SaleOp::Open { terms, by } => opening::open(connection, name, terms, *by, clock),
        SaleOp::Remove => remove::remove(connection, name, clock),
        SaleOp::Survey { part, cursor } => survey::page(connection, name, *part, cursor, clock),
        SaleOp::Repair { version, sequence, repairs } => {
            survey::repair(connection, name, (*version, *sequence), repairs, clock)
        }
        SaleOp::Alter(change) => with_sale(connection, name, clock, |sale| {
            sale.sweep(SWEPT_PER_CALL)?;
            let result = sale.alter(change)?;
            sale.save()?;
            Ok(result)
        }),
        SaleOp::Expire => with_sale(connection, name, clock, |sale| {
            sale.sweep(EXPIRIES_PER_CALL_MAX)?;
            sale.save()?;
            Ok(SaleResult::Done)
        }),
        SaleOp::Snapshot => with_sale(connection, name, clock, |_| Ok(SaleResult::Done)),
        SaleOp::LookUp(ids) => with_sale(connection, name, clock, |sale| {
            sale.lapse()?;
            Ok(SaleResult::Found(each(ids, |id| sale.look_up(id))?))
        }),
        SaleOp::Page { cursor } => with_sale(connection, name, clock, |sale| sale.page(cursor)),
        SaleOp::Log { after } => with_sale(connection, name, clock, |sale| sale.read_log(*after)),
        // A log without consumer groups is kept whole.
        SaleOp::Trim => with_sale(connection, name, clock, |sale| {
            Ok(SaleResult::Trimmed { groups: 0, removed: 0, left: sale.state.sequence })
        }),
    }
}

fn with_sale(
    connection: &Connection,
    name: &SaleName,
    clock: WallTime,
    act: impl FnOnce(&mut Sale<'_>) -> Result<SaleResult>,
) -> Result<Answer> {
    let Some(mut sale) = Sale::read(connection, name, clock)? else { return Ok(Answer::Missing) };
    let result = act(&mut sale)?;
    Ok(Answer::Sale { state: sale.state, result })
}

fn on_ledger(connection: &Connection, op: &LedgerOp, clock: WallTime) -> Result<LedgerResult> {
    match op {
        LedgerOp::Sales => feed::sales(connection),
        LedgerOp::Changes { after } => feed::changes(connection, *after, clock),
        LedgerOp::Recall { sales } => opening::recall(connection, sales),
        // The file itself is the ledger: there is no other one at its path.
        // One process has the file, and nobody to share with.
        LedgerOp::Beat { host, report, .. } => {
            let own =
                report.iter().map(|report| HostBeat { id: *host, age_ms: 0, report: (**report).clone() });
            Ok(LedgerResult::Hosts { hosts: own.collect(), is_untidy: false })
        }
        LedgerOp::Hosts => Ok(LedgerResult::Hosts { hosts: Vec::new(), is_untidy: false }),
        // That of a file is its schema, which is looked at when it is opened.
        LedgerOp::Layout => Ok(LedgerResult::Layout(LAYOUT)),
        LedgerOp::Identify { .. } => Ok(LedgerResult::Identified { id: "file".to_owned(), age_ms: u64::MAX }),
    }
}

fn each<A, B>(asked: &[A], act: impl FnMut(&A) -> Result<B>) -> Result<Vec<B>> {
    asked.iter().map(act).collect()
}
