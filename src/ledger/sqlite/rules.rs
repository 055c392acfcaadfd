//! What each call does, inside a transaction: the rules of `lua/`, in SQL.

use rusqlite::types::{Type, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::{remove, survey};
use crate::booking::{
    Amendment, Answer, Booking, BookingId, BookingStatus, BuyerId, BuyerTickets, Call, Cancellation,
    ChangeFault, Claim, Confirmation, LogEntry, LostCause, Opener, Quantity, Reservation, Restoration,
    SaleChange, SaleName, SaleState, SaleStatus, SaleTerms, Seen,
};
use crate::clock::WallTime;
use crate::ledger::held;
use crate::limits::{
    CHANGES_KEPT, CHANGES_PER_CALL_MAX, COUNTED_PER_CALL, EXPIRIES_PER_CALL_MAX, LOG_ENTRIES_PER_CALL_MAX,
    PAGE_ENTRIES, SWEPT_PER_CALL,
};

pub(super) type Result<T> = rusqlite::Result<T>;

/// Carries out one call at `clock`.
pub(super) fn execute(connection: &Connection, call: &Call, clock: WallTime) -> Result<Answer> {
    match call {
        Call::Sales => return sales(connection),
        Call::Changes { after } => return changes(connection, *after, clock),
        Call::Recall { sales } => return recall(connection, sales),
        // The file itself is the ledger: there is no other one at its path.
        Call::Identify { .. } => return Ok(Answer::Ledger { id: "file".to_owned(), age_ms: u64::MAX }),
        _ => {}
    }
    let name = sale_of(call);
    match call {
        Call::Survey { part, cursor, .. } => return survey::page(connection, name, *part, cursor, clock),
        Call::Repair { version, sequence, repairs, .. } => {
            return survey::repair(connection, name, (*version, *sequence), repairs, clock);
        }
        _ => {}
    }
    if let Call::Remove { .. } = call {
        return remove::remove(connection, name, clock);
    }
    let sale = Sale::read(connection, name, clock)?;
    if let Call::Open { terms, by, .. } = call {
        return match sale {
            Some(sale) => Ok(Answer::Sale { state: sale.state, created: false }),
            None => open(connection, name, terms, *by, clock),
        };
    }
    let Some(mut sale) = sale else { return Ok(Answer::NoSuchSale) };
    if let Call::Reserve { seen, .. }
    | Call::Confirm { seen, .. }
    | Call::Cancel { seen, .. }
    | Call::Amend { seen, .. }
    | Call::Assign { seen, .. } = call
        && sale.withholds_from(seen)?
    {
        return Ok(Answer::Withheld { state: sale.state });
    }
    match call {
        Call::Alter { .. }
        | Call::Reserve { .. }
        | Call::Confirm { .. }
        | Call::Cancel { .. }
        | Call::Amend { .. }
        | Call::Assign { .. } => {
            sale.sweep(SWEPT_PER_CALL)?;
        }
        Call::Expire { .. } => sale.sweep(EXPIRIES_PER_CALL_MAX)?,
        Call::LookUp { ids, .. } => {
            sale.lapse()?;
            let bookings = ids.iter().map(|id| sale.look_up(id)).collect::<Result<_>>()?;
            return Ok(Answer::Found { state: sale.state, bookings });
        }
        _ => {}
    }
    let answer = match call {
        Call::Open { .. }
        | Call::Remove { .. }
        | Call::Recall { .. }
        | Call::Identify { .. }
        | Call::Sales
        | Call::Changes { .. }
        | Call::LookUp { .. }
        | Call::Survey { .. }
        | Call::Repair { .. } => unreachable!("answered above"),
        Call::Alter { change, .. } => sale.alter(change)?,
        Call::Snapshot { .. } | Call::Expire { .. } => {
            Answer::Sale { state: sale.state.clone(), created: false }
        }
        Call::Reserve { claims, .. } => {
            let reservations = claims.iter().map(|claim| sale.reserve(claim)).collect::<Result<_>>()?;
            Answer::Reserved { state: sale.state.clone(), reservations }
        }
        Call::Confirm { ids, .. } => {
            let confirmations = ids.iter().map(|id| sale.confirm(id)).collect::<Result<_>>()?;
            Answer::Confirmed { state: sale.state.clone(), confirmations }
        }
        Call::Cancel { ids, .. } => {
            let cancel = |(id, tombstone): &(BookingId, bool)| sale.cancel(id, *tombstone);
            let cancellations = ids.iter().map(cancel).collect::<Result<_>>()?;
            Answer::Cancelled { state: sale.state.clone(), cancellations }
        }
        Call::Amend { amendments, .. } => {
            let amend = |(id, amendment): &(BookingId, Amendment)| sale.amend(id, *amendment);
            let bookings = amendments.iter().map(amend).collect::<Result<_>>()?;
            Answer::Amended { state: sale.state.clone(), bookings }
        }
        Call::Assign { id, buyer, .. } => {
            let bookings = vec![sale.assign(id, *buyer)?];
            Answer::Amended { state: sale.state.clone(), bookings }
        }
        Call::Restore { seen, bookings, .. } => match sale.restore(seen, bookings)? {
            Some(restorations) => Answer::Restored { state: sale.state.clone(), restorations },
            None => return Ok(Answer::Withheld { state: sale.state }),
        },
        Call::Page { cursor, .. } => return sale.page(cursor),
        Call::Log { after, .. } => return sale.read_log(*after),
        // A log without consumer groups is kept whole.
        Call::Trim { .. } => return Ok(Answer::Trimmed { groups: 0, removed: 0, left: sale.state.sequence }),
    };
    sale.save()?;
    Ok(answer)
}

fn sale_of(call: &Call) -> &SaleName {
    match call {
        Call::Open { sale, .. }
        | Call::Remove { sale }
        | Call::Alter { sale, .. }
        | Call::Snapshot { sale }
        | Call::Reserve { sale, .. }
        | Call::LookUp { sale, .. }
        | Call::Confirm { sale, .. }
        | Call::Cancel { sale, .. }
        | Call::Amend { sale, .. }
        | Call::Assign { sale, .. }
        | Call::Restore { sale, .. }
        | Call::Expire { sale }
        | Call::Page { sale, .. }
        | Call::Log { sale, .. }
        | Call::Trim { sale }
        | Call::Survey { sale, .. }
        | Call::Repair { sale, .. } => sale,
        Call::Sales | Call::Changes { .. } | Call::Recall { .. } | Call::Identify { .. } => {
            unreachable!("asks for no one sale")
        }
    }
}

fn sales(connection: &Connection) -> Result<Answer> {
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
    Ok(Answer::Sales { names, odd })
}

/// The number of the latest announcement; 0 where there was none.
fn latest_change(connection: &Connection) -> Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(number), 0) FROM changes")?
        .query_row([], |row| unsigned(row, 0))
}

fn changes(connection: &Connection, after: Option<u64>, now: WallTime) -> Result<Answer> {
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
    Ok(Answer::Changes { names, at, more, reset, ledger: String::new(), now })
}

/// Announces a sale as changed.
pub(super) fn announce(connection: &Connection, name: &SaleName) -> Result<()> {
    let number = latest_change(connection)? + 1;
    connection
        .prepare_cached("INSERT OR REPLACE INTO changes (number, sale) VALUES (?1, ?2)")?
        .execute(params![integer(number), name.as_str()])?;
    // Of sales that are gone, too.
    if number.is_multiple_of(1024) {
        connection
            .prepare_cached("DELETE FROM changes WHERE number <= ?1")?
            .execute([integer(number.saturating_sub(CHANGES_KEPT))])?;
    }
    Ok(())
}

/// A sale whose row is gone is lost where some of it is left, and was removed where nothing is.
fn recall(connection: &Connection, sales: &[(SaleName, u64)]) -> Result<Answer> {
    let is_removed = |(name, _): &(SaleName, u64)| {
        let is_there =
            connection.prepare_cached("SELECT 1 FROM sales WHERE name = ?1")?.exists([name.as_str()])?;
        Ok(!is_there && !remove::is_left(connection, name)?)
    };
    Ok(Answer::Recalled { removed: sales.iter().map(is_removed).collect::<Result<_>>()? })
}

fn open(
    connection: &Connection,
    name: &SaleName,
    terms: &SaleTerms,
    by: Opener,
    clock: WallTime,
) -> Result<Answer> {
    let is_left = remove::is_left(connection, name)?;
    if is_left && by == Opener::Start {
        return Ok(Answer::SaleLost);
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
        return remove::open_over(connection, name, state);
    }
    let is_counted = terms.per_buyer.is_some();
    insert(connection, name, state, is_counted)
}

/// Makes the row of a sale that is opened. `is_counted` says whether its bookings, if there are any, count for their buyers.
pub(super) fn insert(
    connection: &Connection,
    name: &SaleName,
    state: SaleState,
    is_counted: bool,
) -> Result<Answer> {
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
    Ok(Answer::Sale { state, created: true })
}

/// A booking as it is stored.
pub(super) struct Record {
    /// `None` is a tombstone.
    pub(super) status: Option<BookingStatus>,
    quantity: u32,
    released: u32,
    buyer: Option<BuyerId>,
    reassigned: u32,
    counted: bool,
    /// How long it is held in all, in milliseconds, where the sale had a longest hold.
    pub(super) hold_ms: Option<u64>,
}

impl Record {
    fn read(row: &Row<'_>) -> Result<Record> {
        let expires_at = optional(row, 4)?.map(WallTime);
        let status = parsed(row, 0, |word| match word {
            "tombstone" => Some(None),
            word => booking_status(word, expires_at).map(Some),
        })?;
        Ok(Record {
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
        let Record { status, released, buyer, reassigned, .. } = *self;
        let quantity = Quantity::new(u64::from(self.quantity))?;
        status.map(|status| Booking { id: *id, status, quantity, released, buyer, reassigned })
    }
}

/// A sale while a call works on it.
pub(super) struct Sale<'a> {
    connection: &'a Connection,
    name: &'a SaleName,
    pub(super) state: SaleState,
    sequence_before: u64,
    /// What is stored of holds.
    saved: (u64, Option<WallTime>, WallTime),
    frozen_since: WallTime,
    /// Up to where what buyers have is counted; see the table.
    counted: String,
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
            return Err(unsound(format!("counts {taken} tickets held and sold, and its bookings are gone")));
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
    fn save(&self) -> Result<()> {
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

    /// Announces a change, at most once in a while. Whoever calls this writes `announced_at`.
    fn announce(&mut self) -> Result<()> {
        if self.state.may_change_unannounced() {
            return Ok(());
        }
        self.state.announced_at = self.state.now;
        announce(self.connection, self.name)
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    fn record(&self, id: &BookingId) -> Result<Option<Record>> {
        self.statement(
            "SELECT status, quantity, buyer, counted, expires_at_ms, released, hold_ms, reassigned FROM bookings
             WHERE sale = ?1 AND id = ?2",
        )?
        .query_row([self.name.as_str(), id.as_str()], Record::read)
        .optional()
    }

    /// Logs a change of a booking and stores the booking as it is now.
    fn write(&mut self, booking: &Booking, counted: bool) -> Result<()> {
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

    /// Keeps how long a booking is held in all.
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
    fn count(&self, buyer: &BuyerId, change: impl FnOnce(&mut BuyerTickets)) -> Result<()> {
        let mut tickets = self.tickets_of(buyer)?;
        change(&mut tickets);
        store_buyer(self.connection, self.name, buyer, &tickets)
    }

    /// Whether what is booked counts for its buyer.
    fn counts(&self, buyer: Option<&BuyerId>) -> bool {
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

    /// Whether holds are over that have not given their tickets back, or are to be entered as expired.
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

    /// Bookkeeping behind [`lapse`](Sale::lapse): overdue holds become expired, oldest first, at most so many.
    fn sweep(&mut self, most: usize) -> Result<()> {
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

    /// The record as it is by now: expires it where it is an overdue hold.
    fn settle(&mut self, id: &BookingId, mut record: Record) -> Result<Record> {
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
    pub(super) fn give_back(&mut self, record: &Record) -> Result<()> {
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

    pub(super) fn settled(&mut self, id: &BookingId) -> Result<Option<Record>> {
        match self.record(id)? {
            Some(record) => self.settle(id, record).map(Some),
            None => Ok(None),
        }
    }

    fn reserve(&mut self, claim: &Claim) -> Result<Reservation> {
        if let Some(record) = self.settled(&claim.id)? {
            return Ok(match record.booking(&claim.id) {
                Some(booking)
                    if booking.made_with() == claim.quantity.get() && booking.buyer == claim.buyer =>
                {
                    Reservation::Known(booking)
                }
                Some(_) => Reservation::IdReused,
                None => Reservation::Known(Booking {
                    id: claim.id,
                    status: BookingStatus::Cancelled,
                    quantity: claim.quantity,
                    released: 0,
                    buyer: claim.buyer,
                    reassigned: 0,
                }),
            });
        }
        if !self.state.on_sale(self.state.now) {
            return Ok(Reservation::NotOnSale);
        }
        if self.state.terms.buyer_required && claim.buyer.is_none() {
            return Ok(Reservation::BuyerRequired);
        }
        if !self.allows(claim.buyer.as_ref(), claim.quantity)? {
            return Ok(Reservation::BuyerLimit);
        }
        if !self.fits(claim.quantity) {
            return Ok(Reservation::SoldOut);
        }
        let Claim { id, quantity, buyer } = *claim;
        let status = BookingStatus::Expired;
        let booking = self.take_anew(Booking { id, status, quantity, released: 0, buyer, reassigned: 0 })?;
        Ok(Reservation::Granted { expires_at: booking.status.deadline() })
    }

    /// Whether so many tickets are left.
    pub(super) fn fits(&self, quantity: Quantity) -> bool {
        self.state.held + self.state.sold + u64::from(quantity.get()) <= self.state.terms.total
    }

    /// Takes tickets for a booking that has none, as the sale's terms have it: held with its hold, or confirmed.
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

    fn look_up(&self, id: &BookingId) -> Result<Option<Booking>> {
        Ok(self.record(id)?.and_then(|record| record.booking(id)).map(|booking| self.as_of_now(booking)))
    }

    /// Tells a hold that is over as expired, without writing that down.
    fn as_of_now(&self, mut booking: Booking) -> Booking {
        if matches!(booking.status, BookingStatus::Held { expires_at } if expires_at <= self.state.now) {
            booking.status = BookingStatus::Expired;
        }
        booking
    }

    fn confirm(&mut self, id: &BookingId) -> Result<Confirmation> {
        let Some(record) = self.settled(id)? else { return Ok(Confirmation::NotFound) };
        let Some(mut booking) = record.booking(id) else { return Ok(Confirmation::NotFound) };
        let quantity = u64::from(booking.quantity.get());
        match booking.status {
            BookingStatus::Confirmed => Ok(Confirmation::Confirmed(booking)),
            BookingStatus::Cancelled => Ok(Confirmation::Cancelled(booking)),
            BookingStatus::Held { .. } => {
                self.give_back(&record)?;
                self.state.sold += quantity;
                booking.status = BookingStatus::Confirmed;
                self.grant(&booking)?;
                Ok(Confirmation::Confirmed(booking))
            }
            BookingStatus::Expired => {
                if !self.fits(booking.quantity) {
                    return Ok(Confirmation::HoldExpired(booking));
                }
                if !self.allows(booking.buyer.as_ref(), booking.quantity)? {
                    return Ok(Confirmation::BuyerLimit(booking));
                }
                self.state.sold += quantity;
                booking.status = BookingStatus::Confirmed;
                self.grant(&booking)?;
                Ok(Confirmation::Confirmed(booking))
            }
        }
    }

    fn cancel(&mut self, id: &BookingId, tombstone: bool) -> Result<Cancellation> {
        let Some(record) = self.settled(id)? else {
            if tombstone {
                self.statement(
                    "INSERT INTO bookings (sale, id, status, quantity, counted, sequence)
                     VALUES (?1, ?2, 'tombstone', 0, 0, 0)",
                )?
                .execute([self.name.as_str(), id.as_str()])?;
            }
            return Ok(Cancellation::NotFound);
        };
        let Some(mut booking) = record.booking(id) else { return Ok(Cancellation::NotFound) };
        if booking.status != BookingStatus::Cancelled {
            self.give_back(&record)?;
            booking.status = BookingStatus::Cancelled;
            self.write(&booking, false)?;
        }
        Ok(Cancellation::Cancelled(booking))
    }

    /// Begins a freeze, or makes one last.
    fn freeze(&mut self, seen: &Seen, less: bool) -> Result<()> {
        let lineage = self.state.lineage;
        self.frozen_since = self.state.freeze(seen, less, self.frozen_since);
        self.announce()?;
        let state = &self.state;
        if state.lineage != lineage {
            let told = if seen.is_something() { seen.sequence } else { self.sequence_before };
            self.statement("INSERT OR REPLACE INTO forgotten VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                self.name.as_str(),
                integer(state.now.0),
                integer(told),
                integer(self.sequence_before),
            ])?;
        }
        self.statement(
            "UPDATE sales SET lineage = ?2, frozen_since_ms = ?3, frozen_until_ms = ?4, announced_at_ms = ?5
             WHERE name = ?1",
        )?
        .execute(params![
            self.name.as_str(),
            integer(state.lineage),
            integer(self.frozen_since.0),
            integer(state.frozen_until.0),
            integer(state.announced_at.0),
        ])?;
        Ok(())
    }

    /// Whether nothing is done for a caller that has seen this.
    fn withholds_from(&mut self, seen: &Seen) -> Result<bool> {
        if self.state.is_less_than(seen) {
            self.freeze(seen, true)?;
        }
        Ok(self.state.withholds_from(seen))
    }

    /// `None` where the caller has seen another sale.
    fn restore(&mut self, seen: &Seen, bookings: &[Booking]) -> Result<Option<Vec<Restoration>>> {
        if seen.is_something() && seen.opened != self.state.opened {
            return Ok(None);
        }
        let less = self.state.is_less_than(seen);
        let restorations = bookings.iter().map(|told| self.put_back(told)).collect::<Result<Vec<_>>>()?;
        let forgotten = |restoration: &Restoration| {
            matches!(restoration, Restoration::PutBack | Restoration::Lost(LostCause::SoldOut))
        };
        if less || restorations.iter().any(forgotten) {
            self.freeze(seen, less)?;
        }
        Ok(Some(restorations))
    }

    fn put_back(&mut self, told: &Booking) -> Result<Restoration> {
        let record = self.record(&told.id)?;
        let now = self.state.now;
        // Whose it is, by the later word.
        let mut owner = (told.buyer, told.reassigned);
        let (status, quantity, hold_ms) = match &record {
            None => {
                let status = match told.status {
                    BookingStatus::Held { expires_at } if expires_at <= now => BookingStatus::Expired,
                    BookingStatus::Expired => BookingStatus::Cancelled,
                    status => status,
                };
                (status, told.quantity, None)
            }
            Some(record) => {
                let found = record.booking(&told.id);
                // One that was given to another buyer meanwhile is still the same.
                let found = found.filter(|it| {
                    it.made_with() == told.made_with()
                        && (it.buyer == told.buyer || it.reassigned != told.reassigned)
                });
                let Some(found) = found else {
                    return match told.status {
                        BookingStatus::Cancelled => Ok(Restoration::Stands),
                        _ => self.lose(told, LostCause::IdTaken),
                    };
                };
                // A booking never gets more tickets than it has: of two words that with fewer is the later.
                let quantity = found.quantity.min(told.quantity);
                let gave_more = quantity < found.quantity;
                let moved_on = told.reassigned > found.reassigned;
                if !moved_on {
                    owner = (found.buyer, found.reassigned);
                }
                let is_news = gave_more || moved_on;
                let (deadline, its_deadline) = (told.status.deadline(), found.status.deadline());
                // It was extended, or held again.
                let is_later = deadline.is_some_and(|deadline| {
                    deadline > now && its_deadline.is_none_or(|its_deadline| its_deadline < deadline)
                });
                let status = match (told.status, found.status) {
                    (BookingStatus::Cancelled, BookingStatus::Cancelled) => return Ok(Restoration::Stands),
                    (BookingStatus::Confirmed, BookingStatus::Held { .. } | BookingStatus::Expired)
                    | (BookingStatus::Cancelled, _) => told.status,
                    (_, BookingStatus::Held { .. } | BookingStatus::Expired) if is_later => told.status,
                    (_, BookingStatus::Held { expires_at }) if is_news && expires_at > now => found.status,
                    (_, BookingStatus::Confirmed) if is_news => found.status,
                    _ => return Ok(Restoration::Stands),
                };
                let longer = status.deadline().zip(its_deadline).map_or(0, |(to, from)| to.0 - from.0);
                (status, quantity, record.hold_ms.map(|hold_ms| hold_ms + longer))
            }
        };
        // What it has already is its own. A hold whose tickets went back already has to find others.
        let has_stock = record.as_ref().and_then(|record| record.status).is_some_and(|status| match status {
            BookingStatus::Held { expires_at } => expires_at > self.state.lapsed_until,
            status => status.holds_stock(),
        });
        if status.holds_stock() && !has_stock && !self.fits(quantity) {
            return self.lose(told, LostCause::SoldOut);
        }
        if let Some(record) = &record {
            self.give_back(record)?;
        }
        match status {
            BookingStatus::Held { .. } => self.state.held += u64::from(quantity.get()),
            BookingStatus::Confirmed => self.state.sold += u64::from(quantity.get()),
            _ => {}
        }
        let released = told.made_with() - quantity.get();
        let (buyer, reassigned) = owner;
        let booking = Booking { id: told.id, status, quantity, released, buyer, reassigned };
        match status.holds_stock() {
            true => self.grant(&booking)?,
            false => self.write(&booking, false)?,
        }
        if status.deadline().is_some() {
            self.keep_hold(&told.id, hold_ms)?;
        }
        // A hold that is over makes good nothing of a confirmation that is lost.
        if status != BookingStatus::Expired {
            self.statement("DELETE FROM lost WHERE sale = ?1 AND id = ?2")?
                .execute([self.name.as_str(), told.id.as_str()])?;
        }
        Ok(Restoration::PutBack)
    }

    fn lose(&mut self, told: &Booking, cause: LostCause) -> Result<Restoration> {
        let expires_at = match told.status {
            BookingStatus::Held { expires_at } => Some(integer(expires_at.0)),
            _ => None,
        };
        self.statement("INSERT OR REPLACE INTO lost VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
            params![
                self.name.as_str(),
                told.id.as_str(),
                told.status.word(),
                told.quantity.get(),
                told.buyer.as_ref().map(BuyerId::as_str),
                expires_at,
                cause.word(),
                told.released,
                told.reassigned,
            ],
        )?;
        Ok(Restoration::Lost(cause))
    }

    fn alter(&mut self, change: &SaleChange) -> Result<Answer> {
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
            return Ok(Answer::ChangeRefused { state: self.state.clone(), fault });
        }
        if terms.per_buyer.is_some() && !self.count_on()? {
            return Ok(Answer::Counting { state: self.state.clone() });
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
        Ok(Answer::Sale { state: self.state.clone(), created: false })
    }

    /// Counts on what buyers have, a bounded number of bookings; whether all of it is counted now.
    fn count_on(&mut self) -> Result<bool> {
        const ALL: &str = "all";
        if self.counted == ALL {
            return Ok(true);
        }
        let after = self.counted.strip_prefix('>').unwrap_or_default().to_owned();
        let rows: Vec<(BookingId, Record)> = self
            .statement(
                "SELECT status, quantity, buyer, counted, expires_at_ms, released, hold_ms, reassigned, id FROM bookings
                 WHERE sale = ?1 AND id > ?2
                 ORDER BY id LIMIT ?3",
            )?
            .query_map(params![self.name.as_str(), after, COUNTED_PER_CALL as i64], |row| {
                Ok((parsed(row, 8, |text| BookingId::parse(text).ok())?, Record::read(row)?))
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
        self.statement("UPDATE sales SET counted = ?2 WHERE name = ?1")?
            .execute([self.name.as_str(), &self.counted])?;
        Ok(self.counted == ALL)
    }

    /// The cursor is the last id of the page before.
    fn page(&self, cursor: &str) -> Result<Answer> {
        let mut statement = self.statement(
            "SELECT status, quantity, buyer, counted, expires_at_ms, released, hold_ms, reassigned, id FROM bookings
             WHERE sale = ?1 AND id > ?2
             ORDER BY id LIMIT ?3",
        )?;
        let rows = statement.query_map(params![self.name.as_str(), cursor, PAGE_ENTRIES as i64], |row| {
            let id = parsed(row, 8, |text| BookingId::parse(text).ok())?;
            Ok((id, Record::read(row)?))
        })?;
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let next = rows.last().filter(|_| rows.len() == PAGE_ENTRIES).map(|(id, _)| id.as_str().to_owned());
        let bookings =
            rows.iter().filter_map(|(id, record)| record.booking(id)).map(|booking| self.as_of_now(booking));
        Ok(Answer::Page { bookings: bookings.collect(), next })
    }

    fn read_log(&self, after: u64) -> Result<Answer> {
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
        entries.collect::<Result<_>>().map(Answer::Log)
    }
}

/// The row of a sale, in the columns' order of the queries that read it.
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

fn optional(row: &Row<'_>, column: usize) -> Result<Option<u64>> {
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

fn buyer(row: &Row<'_>, column: usize) -> Result<Option<BuyerId>> {
    match row.get_ref(column)?.as_str_or_null()? {
        Some(text) => BuyerId::parse(text).map(Some).map_err(|_| malformed(column, Type::Text)),
        None => Ok(None),
    }
}

/// As they are, whatever type the value is stored as.
fn bytes(row: &Row<'_>, column: usize) -> Vec<u8> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.to_vec(),
        _ => Vec::new(),
    }
}

fn parsed<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    parse(row.get_ref(column)?.as_str()?).ok_or_else(|| malformed(column, Type::Text))
}

/// Takes tickets out of a count. Only a file that was changed by hand has fewer there.
fn take(count: &mut u64, tickets: u64) -> Result<()> {
    *count = count.checked_sub(tickets).ok_or_else(|| malformed(0, Type::Integer))?;
    Ok(())
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

fn malformed(column: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, "a value that boxoffice never writes".into())
}

/// The error for a sale that boxoffice does not leave like that.
pub(super) fn unsound(what: String) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(what.into())
}
