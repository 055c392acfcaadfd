//! A sale as the file has it, row by row, and the repair of what follows from bookings and log. What boxoffice never writes
//! is a row too, which says what it is.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result, Row as SqlRow, params};

use super::feed::announce;
use super::rows::{booking_status, integer, read_state, store_buyer, unsound};
use super::{remove, schema};
use crate::booking::{Booking, BookingId, BookingStatus, BuyerId, LogEntry, Quantity, SaleName, SaleState};
use crate::clock::WallTime;
use crate::ledger::held;
use crate::limits::{LOG_ENTRIES_PER_CALL_MAX, PAGE_ENTRIES};
use crate::protocol::{
    Answer, BuyerTickets, ChangeFault, LostCause, Part, Repair, Row, SaleResult, StoredBooking,
};

/// Bytes of something unreadable that are shown.
const SHOWN_BYTES_MAX: usize = 80;

const BOOKING: &str = "id, status, quantity, buyer, counted, expires_at_ms, sequence, released, reassigned";

/// A sale, and what is strange about its counts.
struct Surveyed {
    state: SaleState,
    clock: WallTime,
    rows: Vec<Row>,
}

fn find(connection: &Connection, sale: &SaleName, clock: WallTime) -> Result<Option<Surveyed>> {
    let mut statement = connection.prepare_cached(
        "SELECT total, max(held, 0), max(sold, 0), version, sequence, status, hold_ms, per_buyer, starts_at_ms,
         ends_at_ms, clock_ms, opened_ms, lineage, frozen_until_ms, due_at_ms, lapsed_until_ms, announced_at_ms,
         by_operator, buyer_required, hold_max_ms, held, sold FROM sales WHERE name = ?1",
    )?;
    let found = statement.query_row([sale.as_str()], |row| {
        let mut rows = Vec::new();
        for (column, name) in [(20, "held"), (21, "sold")] {
            let count: i64 = row.get(column)?;
            if count < 0 {
                let text = format!("{name} is {count}");
                rows.push(Row::Unreadable { part: Part::Stock, key: name.into(), text });
            }
        }
        let stored = WallTime(row.get::<_, i64>(10)?.unsigned_abs());
        Ok(Surveyed { state: read_state(row, clock)?, clock: stored, rows })
    });
    found.optional()
}

/// One page of a part.
pub(super) fn page(
    connection: &Connection,
    sale: &SaleName,
    part: Part,
    cursor: &str,
    time: WallTime,
) -> Result<Answer> {
    let Some(Surveyed { state, clock, mut rows }) = find(connection, sale, time)? else {
        if remove::is_left(connection, sale)? {
            return Err(unsound("its row is gone, but its bookings or its log are still there".to_owned()));
        }
        return Ok(Answer::Missing);
    };
    let pages = Pages { connection, sale };
    let next = match part {
        Part::Stock => None,
        Part::Due => {
            rows.push(Row::Derived(Part::Due));
            None
        }
        Part::Bookings => pages.keyed("bookings", "id", BOOKING, cursor, &mut rows, read_booking)?,
        Part::Buyers => {
            pages.keyed("buyers", "buyer", "buyer, tickets, holds", cursor, &mut rows, read_buyer)?
        }
        Part::Holds => pages.holds(cursor, &mut rows)?,
        Part::Lost => pages.lost(&mut rows)?,
        Part::Log => return pages.log(cursor, PAGE_ENTRIES, false, (state, clock, time), rows),
        Part::Changes => {
            return pages.log(cursor, LOG_ENTRIES_PER_CALL_MAX, true, (state, clock, time), rows);
        }
    };
    let done = next.is_none();
    let next = next.unwrap_or_default();
    Ok(Answer::Sale { state, result: SaleResult::Surveyed { clock, time, rows, next, done } })
}

struct Pages<'a> {
    connection: &'a Connection,
    sale: &'a SaleName,
}

impl Pages<'_> {
    /// A page of a table whose key is a text. The cursor is the last key, in hexadecimal: it may be any bytes.
    fn keyed(
        &self,
        table: &str,
        key: &str,
        columns: &str,
        cursor: &str,
        rows: &mut Vec<Row>,
        read: fn(&SqlRow<'_>) -> Row,
    ) -> Result<Option<String>> {
        let compare = if cursor.is_empty() { ">=" } else { ">" };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {columns} FROM {table} WHERE sale = ?1 AND {key} {compare} CAST(unhex(?2) AS TEXT)
             AND typeof({key}) = 'text' ORDER BY {key} LIMIT ?3"
        ))?;
        let mut found = statement.query(params![self.sale.as_str(), cursor, PAGE_ENTRIES as i64])?;
        let (mut count, mut last) = (0, Vec::new());
        while let Some(row) = found.next()? {
            count += 1;
            last = bytes(row, 0);
            rows.push(read(row));
        }
        if count == PAGE_ENTRIES {
            return Ok(Some(last.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        // Keys that are not text come after all others, in no order that a cursor could keep.
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {columns} FROM {table} WHERE sale = ?1 AND typeof({key}) <> 'text' LIMIT ?2"
        ))?;
        let mut found = statement.query(params![self.sale.as_str(), PAGE_ENTRIES as i64])?;
        while let Some(row) = found.next()? {
            rows.push(read(row));
        }
        Ok(None)
    }

    /// A page of the index, by which holds expire; the table has the deadlines too.
    fn holds(&self, cursor: &str, rows: &mut Vec<Row>) -> Result<Option<String>> {
        if !self.has_index()? {
            let text = "the index is missing".to_owned();
            rows.push(Row::Unreadable { part: Part::Holds, key: b"holds".to_vec(), text });
            return Ok(None);
        }
        let mut fields = cursor.split(',');
        let mut number = || fields.next().and_then(|field| field.parse::<i64>().ok());
        let (expires_at, sequence) = (number().unwrap_or(i64::MIN), number().unwrap_or(i64::MIN));
        let id = fields.next().unwrap_or_default();
        let mut statement = self.connection.prepare_cached(
            "SELECT id, expires_at_ms, sequence FROM bookings INDEXED BY holds WHERE sale = ?1 AND status = 'held'
             AND (expires_at_ms, sequence, id) > (?2, ?3, CAST(unhex(?4) AS TEXT))
             ORDER BY expires_at_ms, sequence, id LIMIT ?5",
        )?;
        let mut found =
            statement.query(params![self.sale.as_str(), expires_at, sequence, id, PAGE_ENTRIES as i64])?;
        let (mut count, mut next) = (0, String::new());
        while let Some(row) = found.next()? {
            count += 1;
            let id = bytes(row, 0);
            let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
            next =
                format!("{},{},{hex}", whole(row, 1).unwrap_or(i64::MAX), whole(row, 2).unwrap_or(i64::MAX));
            rows.push(match (BookingId::parse(&id), time(row, 1)) {
                (Ok(id), Some(expires_at)) => Row::Group { expires_at, ids: vec![id] },
                _ => unreadable(Part::Holds, id, row, 2),
            });
        }
        Ok((count == PAGE_ENTRIES).then_some(next))
    }

    /// What was forgotten, and what of it was lost: few rows, and no pages.
    fn lost(&self, rows: &mut Vec<Row>) -> Result<Option<String>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT at_ms, seen, remained FROM forgotten WHERE sale = ?1 ORDER BY at_ms")?;
        let mut found = statement.query([self.sale.as_str()])?;
        while let Some(row) = found.next()? {
            let count = |column| whole(row, column).and_then(|number| u64::try_from(number).ok());
            rows.push(match (time(row, 0), count(1), count(2)) {
                (Some(at), Some(seen), Some(left)) => Row::Forgot { at, seen, left },
                _ => unreadable(Part::Lost, bytes(row, 0), row, 3),
            });
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT id, status, quantity, buyer, expires_at_ms, cause, released, reassigned FROM lost WHERE sale = ?1
             ORDER BY id",
        )?;
        let mut found = statement.query([self.sale.as_str()])?;
        while let Some(row) = found.next()? {
            rows.push(match read_lost(row) {
                Some((booking, cause)) => Row::Lost { booking, cause },
                None => unreadable(Part::Lost, bytes(row, 0), row, 8),
            });
        }
        Ok(None)
    }

    fn has_index(&self) -> Result<bool> {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name = 'holds'";
        self.connection.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)? > 0))
    }

    /// A page of the log, and with `changes` what is stored now of the bookings in it. The cursor is the last sequence.
    fn log(
        &self,
        cursor: &str,
        limit: usize,
        changes: bool,
        (state, clock, time): (SaleState, WallTime, WallTime),
        mut rows: Vec<Row>,
    ) -> Result<Answer> {
        let mut statement = self.connection.prepare_cached(
            "SELECT sequence, at_ms, booking, status, quantity, buyer, expires_at_ms FROM log
             WHERE sale = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
        )?;
        let after: i64 = cursor.parse().unwrap_or(i64::MIN);
        let mut found = statement.query(params![self.sale.as_str(), after, limit as i64])?;
        let (mut count, mut next) = (0, cursor.to_owned());
        let mut changed = Vec::new();
        while let Some(row) = found.next()? {
            count += 1;
            next = whole(row, 0).unwrap_or(i64::MAX).to_string();
            rows.push(match read_entry(row) {
                Some(entry) => {
                    changed.push((entry.booking.id, entry.booking.buyer));
                    Row::Change(entry)
                }
                None => unreadable(Part::Log, bytes(row, 0), row, 7),
            });
        }
        for (id, buyer) in changed.iter().filter(|_| changes) {
            self.tell_changed(id, buyer.as_ref(), &mut rows)?;
        }
        let done = count < limit;
        Ok(Answer::Sale { state, result: SaleResult::Surveyed { clock, time, rows, next, done } })
    }

    fn tell_changed(&self, id: &BookingId, buyer: Option<&BuyerId>, rows: &mut Vec<Row>) -> Result<()> {
        let sql = format!("SELECT {BOOKING} FROM bookings WHERE sale = ?1 AND id = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let row = statement.query_row([self.sale.as_str(), id.as_str()], |row| Ok(read_booking(row)));
        let row = row.optional()?.unwrap_or(Row::NoBooking { id: *id });
        if let Row::Booking { record, .. } = &row
            && let Some(BookingStatus::Held { expires_at }) = record.status
            && self.has_index()?
        {
            let mut statement = self.connection.prepare_cached(
                "SELECT count(*) FROM bookings INDEXED BY holds
                 WHERE sale = ?1 AND status = 'held' AND expires_at_ms = ?2 AND id = ?3",
            )?;
            let indexed = params![self.sale.as_str(), integer(expires_at.0), id.as_str()];
            if statement.query_row(indexed, |row| row.get::<_, i64>(0))? > 0 {
                rows.push(Row::Group { expires_at, ids: vec![*id] });
            }
        }
        rows.push(row);
        if let Some(buyer) = buyer {
            let sql = "SELECT buyer, tickets, holds FROM buyers WHERE sale = ?1 AND buyer = ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            let row = statement.query_row([self.sale.as_str(), buyer.as_str()], |row| Ok(read_buyer(row)));
            rows.extend(row.optional()?);
        }
        Ok(())
    }
}

/// Repairs, if the sale has not moved since.
pub(super) fn repair(
    connection: &Connection,
    sale: &SaleName,
    audited: (u64, u64),
    repairs: &[Repair],
    time: WallTime,
) -> Result<Answer> {
    let Some(Surveyed { mut state, .. }) = find(connection, sale, time)? else { return Ok(Answer::Missing) };
    // Not if the bookings of which they are the sums are gone.
    if state.held + state.sold > 0
        && !connection
            .prepare_cached("SELECT 1 FROM bookings WHERE sale = ?1 LIMIT 1")?
            .exists([sale.as_str()])?
    {
        return Err(unsound("its bookings are gone".to_owned()));
    }
    let total = state.terms.total;
    let fits = |repair: &Repair| match repair {
        Repair::Counts { held, sold } => held.checked_add(*sold).is_some_and(|taken| taken <= total),
        _ => true,
    };
    if (state.version, state.sequence) != audited {
        return Ok(Answer::Sale { state, result: SaleResult::Refused(ChangeFault::Moved) });
    }
    if !repairs.iter().all(fits) {
        return Ok(Answer::Sale { state, result: SaleResult::Refused(ChangeFault::CountsTooHigh) });
    }
    let mut index = false;
    for repair in repairs {
        match repair {
            Repair::Counts { held, sold } => {
                connection
                    .prepare_cached("UPDATE sales SET held = ?2, sold = ?3 WHERE name = ?1")?
                    .execute(params![sale.as_str(), integer(*held), integer(*sold)])?;
                (state.held, state.sold) = (*held, *sold);
            }
            Repair::Clock { to } => {
                // Nothing that is not over by this clock can have lapsed.
                connection
                    .prepare_cached(
                        "UPDATE sales SET clock_ms = ?2, lapsed_until_ms = min(lapsed_until_ms, ?2) WHERE name = ?1",
                    )?
                    .execute(params![sale.as_str(), integer(to.0)])?;
                state.now = time.max(*to);
                state.lapsed_until = state.lapsed_until.min(*to);
            }
            Repair::Buyer { buyer, tickets } => store_buyer(connection, sale, buyer, tickets)?,
            Repair::Remove { part: Part::Buyers, key } => {
                connection
                    .prepare_cached("DELETE FROM buyers WHERE sale = ?1 AND CAST(buyer AS BLOB) = ?2")?
                    .execute(params![sale.as_str(), key])?;
            }
            Repair::Hold { .. } | Repair::Remove { part: Part::Holds, .. } => index = true,
            // A sale is named by its row; and nothing else is ever removed, or written here.
            Repair::Name | Repair::Span { .. } | Repair::Remove { .. } => {}
        }
    }
    if index {
        schema::index_holds(connection)?;
    }
    // Hosts must learn of the counts.
    if !state.may_change_unannounced() {
        state.announced_at = state.now;
        announce(connection, sale)?;
    }
    connection
        .prepare_cached(
            "UPDATE sales SET announced_at_ms = ?2, due_at_ms = coalesce((SELECT min(expires_at_ms) FROM bookings
             WHERE sale = ?1 AND status = 'held'), 0) WHERE name = ?1",
        )?
        .execute(params![sale.as_str(), integer(state.announced_at.0)])?;
    Ok(Answer::Sale { state, result: SaleResult::Done })
}

fn read_booking(row: &SqlRow<'_>) -> Row {
    let id = BookingId::parse(bytes(row, 0)).ok();
    match id.zip(stored(row)) {
        Some((id, record)) => Row::Booking { id, record },
        None => unreadable(Part::Bookings, bytes(row, 0), row, 9),
    }
}

fn stored(row: &SqlRow<'_>) -> Option<StoredBooking> {
    let counted = match whole(row, 4)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let (buyer, expires_at) = (buyer(row, 3)?, optional_time(row, 5)?);
    let (status, quantity) = match text(row, 1)? {
        "tombstone" => (None, 0),
        word => (
            Some(booking_status(word, expires_at)?),
            Quantity::new(u64::try_from(whole(row, 2)?).ok()?)?.get(),
        ),
    };
    let may_count = buyer.is_some() && status.is_some_and(BookingStatus::holds_stock);
    let sequence = Some(u64::try_from(whole(row, 6)?).ok()?);
    let released = u32::try_from(whole(row, 7)?).ok()?;
    let reassigned = u32::try_from(whole(row, 8)?).ok()?;
    let record = StoredBooking { status, quantity, released, buyer, reassigned, counted, sequence };
    (may_count || !counted).then_some(record)
}

fn read_buyer(row: &SqlRow<'_>) -> Row {
    let buyer = BuyerId::parse(bytes(row, 0)).ok();
    let confirmed = whole(row, 1).and_then(|tickets| u64::try_from(tickets).ok());
    let tickets = confirmed.zip(text(row, 2).and_then(held::read));
    match buyer.zip(tickets) {
        Some((buyer, (confirmed, holds))) => Row::Buyers(vec![(buyer, BuyerTickets { confirmed, holds })]),
        None => unreadable(Part::Buyers, bytes(row, 0), row, 3),
    }
}

fn read_entry(row: &SqlRow<'_>) -> Option<LogEntry> {
    let booking = Booking {
        id: BookingId::parse(text(row, 2)?).ok()?,
        status: booking_status(text(row, 3)?, optional_time(row, 6)?)?,
        quantity: Quantity::new(u64::try_from(whole(row, 4)?).ok()?)?,
        released: 0,
        buyer: buyer(row, 5)?,
        reassigned: 0,
    };
    Some(LogEntry { sequence: u64::try_from(whole(row, 0)?).ok()?, at: time(row, 1)?, booking })
}

fn read_lost(row: &SqlRow<'_>) -> Option<(Booking, LostCause)> {
    let booking = Booking {
        id: BookingId::parse(text(row, 0)?).ok()?,
        status: booking_status(text(row, 1)?, optional_time(row, 4)?)?,
        quantity: Quantity::new(u64::try_from(whole(row, 2)?).ok()?)?,
        released: u32::try_from(whole(row, 6)?).ok()?,
        buyer: buyer(row, 3)?,
        reassigned: u32::try_from(whole(row, 7)?).ok()?,
    };
    Some((booking, LostCause::from_word(text(row, 5)?)?))
}

fn unreadable(part: Part, key: Vec<u8>, row: &SqlRow<'_>, columns: usize) -> Row {
    let shown = |column| {
        let value = match row.get_ref(column) {
            Ok(ValueRef::Null) => "NULL".to_owned(),
            Ok(ValueRef::Integer(number)) => number.to_string(),
            Ok(ValueRef::Real(number)) => number.to_string(),
            Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
                format!("\"{}\"", bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii())
            }
            Err(error) => error.to_string(),
        };
        let name = row.as_ref().column_name(column).unwrap_or("?").to_owned();
        format!("{name} {value}")
    };
    let text = (0..columns).map(shown).collect::<Vec<_>>().join(", ");
    Row::Unreadable { part, key, text }
}

fn bytes(row: &SqlRow<'_>, column: usize) -> Vec<u8> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.to_vec(),
        Ok(ValueRef::Integer(number)) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

fn text<'a>(row: &'a SqlRow<'_>, column: usize) -> Option<&'a str> {
    row.get_ref(column).ok()?.as_str().ok()
}

fn whole(row: &SqlRow<'_>, column: usize) -> Option<i64> {
    row.get_ref(column).ok()?.as_i64().ok()
}

fn time(row: &SqlRow<'_>, column: usize) -> Option<WallTime> {
    u64::try_from(whole(row, column)?).ok().map(WallTime)
}

/// The outer `None` if it is neither a time nor nothing.
fn optional_time(row: &SqlRow<'_>, column: usize) -> Option<Option<WallTime>> {
    match row.get_ref(column).ok()? {
        ValueRef::Null => Some(None),
        _ => time(row, column).map(Some),
    }
}

/// Like [`optional_time`].
fn buyer(row: &SqlRow<'_>, column: usize) -> Option<Option<BuyerId>> {
    match row.get_ref(column).ok()? {
        ValueRef::Null => Some(None),
        _ => BuyerId::parse(text(row, column)?).ok().map(Some),
    }
}
