//! Rows of the tables as values, and values as columns. What boxoffice never writes is an error here; an audit reads the
//! same rows in `survey.rs`, where it is a finding.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, Result, Row, params};

use crate::booking::{
    Booking, BookingId, BookingStatus, BuyerId, Quantity, SaleName, SaleState, SaleStatus, SaleTerms,
};
use crate::clock::WallTime;
use crate::ledger::held;
use crate::protocol::BuyerTickets;

/// A booking as it is stored.
pub(super) struct BookingRow {
    /// `None` is a tombstone.
    pub(super) status: Option<BookingStatus>,
    pub(super) quantity: u32,
    pub(super) released: u32,
    pub(super) buyer: Option<BuyerId>,
    pub(super) reassigned: u32,
    pub(super) counted: bool,
    /// How long it is held in all, in milliseconds, if the sale had a longest hold.
    pub(super) hold_ms: Option<u64>,
}

impl BookingRow {
    pub(super) fn read(row: &Row<'_>) -> Result<BookingRow> {
        let expires_at = optional(row, 4)?.map(WallTime);
        let status = parsed(row, 0, |word| match word {
            "tombstone" => Some(None),
            word => booking_status(word, expires_at).map(Some),
        })?;
        Ok(BookingRow {
            status,
            quantity: row.get(1)?,
            released: row.get(5)?,
            buyer: buyer(row, 2)?,
            counted: row.get(3)?,
            hold_ms: optional(row, 6)?,
            reassigned: row.get(7)?,
        })
    }

    /// The booking; `None` for a tombstone.
    pub(super) fn booking(&self, id: &BookingId) -> Option<Booking> {
        let BookingRow { status, released, buyer, reassigned, .. } = *self;
        let quantity = Quantity::new(u64::from(self.quantity))?;
        status.map(|status| Booking { id: *id, status, quantity, released, buyer, reassigned })
    }
}

/// The row of a sale, with the columns in the order of the queries that read it.
pub(super) fn read_state(row: &Row<'_>, clock: WallTime) -> Result<SaleState> {
    Ok(SaleState {
        terms: SaleTerms {
            total: unsigned(row, 0)?,
            hold_ms: optional(row, 6)?,
            per_buyer: row.get(7)?,
            starts_at: optional(row, 8)?.map(WallTime),
            ends_at: optional(row, 9)?.map(WallTime),
            buyer_required: row.get(18)?,
            hold_max_ms: optional(row, 19)?,
        },
        held: unsigned(row, 1)?,
        sold: unsigned(row, 2)?,
        version: unsigned(row, 3)?,
        sequence: unsigned(row, 4)?,
        status: parsed(row, 5, SaleStatus::from_word)?,
        // The sale's clock never goes back, whatever the machine's does.
        now: clock.max(WallTime(unsigned(row, 10)?)),
        opened: unsigned(row, 11)?,
        lineage: unsigned(row, 12)?,
        frozen_until: WallTime(unsigned(row, 13)?),
        due_at: Some(WallTime(unsigned(row, 14)?)).filter(|due| due.0 > 0),
        lapsed_until: WallTime(unsigned(row, 15)?),
        announced_at: WallTime(unsigned(row, 16)?),
        by_operator: row.get(17)?,
    })
}

/// As SQLite stores it. Only a window's ends can be above `i64::MAX`, and are then as good as never.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| malformed(column, Type::Integer))
}

pub(super) fn optional(row: &Row<'_>, column: usize) -> Result<Option<u64>> {
    match row.get::<_, Option<i64>>(column)? {
        Some(number) => u64::try_from(number).map(Some).map_err(|_| malformed(column, Type::Integer)),
        None => Ok(None),
    }
}

pub(super) fn booking_status(word: &str, expires_at: Option<WallTime>) -> Option<BookingStatus> {
    match (word, expires_at) {
        ("held", Some(expires_at)) => Some(BookingStatus::Held { expires_at }),
        ("confirmed", None) => Some(BookingStatus::Confirmed),
        ("cancelled", None) => Some(BookingStatus::Cancelled),
        ("expired", None) => Some(BookingStatus::Expired),
        _ => None,
    }
}

pub(super) fn buyer(row: &Row<'_>, column: usize) -> Result<Option<BuyerId>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => BuyerId::parse(text).map(Some).map_err(|_| malformed(column, Type::Text)),
        None => Ok(None),
    }
}

/// As they are, whatever type the value is stored as.
pub(super) fn bytes(row: &Row<'_>, column: usize) -> Vec<u8> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.to_vec(),
        _ => Vec::new(),
    }
}

pub(super) fn parsed<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    parse(row.get_ref(column)?.as_str()?).ok_or_else(|| malformed(column, Type::Text))
}

/// Writes what a buyer has.
pub(super) fn store_buyer(
    connection: &Connection,
    sale: &SaleName,
    buyer: &BuyerId,
    tickets: &BuyerTickets,
) -> Result<()> {
    if *tickets == BuyerTickets::default() {
        connection
            .prepare_cached("DELETE FROM buyers WHERE sale = ?1 AND buyer = ?2")?
            .execute([sale.as_str(), buyer.as_str()])?;
        return Ok(());
    }
    let mut holds = String::new();
    for (expires_at, quantity) in &tickets.holds {
        held::push(&mut holds, *expires_at, *quantity);
    }
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO buyers (sale, buyer, tickets, holds) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![sale.as_str(), buyer.as_str(), integer(tickets.confirmed), holds])?;
    Ok(())
}

pub(super) fn malformed(column: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, "a value that boxoffice never writes".into())
}

/// The error for a record that boxoffice never leaves behind.
pub(super) fn unsound(what: String) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(what.into())
}
