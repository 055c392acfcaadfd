//! A ledger in memory for the tests of the commands; small pages, and open to be broken on purpose.

use std::collections::BTreeMap;

use crate::booking::{
    Booking, BookingId, BookingStatus, BuyerId, LogEntry, Quantity, SaleName, SaleState, SaleStatus,
    SaleTerms,
};
use crate::clock::WallTime;
use crate::ledger::Ledger;
use crate::protocol::{
    Answer, BuyerTickets, Call, CallError, ChangeFault, LedgerOp, LedgerResult, Opener, Part, Repair, Row,
    SaleOp, SaleResult, StoredBooking,
};

const PAGE: usize = 3;

#[derive(Default)]
pub(crate) struct FakeSale {
    pub(crate) state: SaleState,
    pub(crate) bookings: Vec<Booking>,
    pub(crate) log: Vec<LogEntry>,
    /// Up to where it is trimmed once its first page is read.
    pub(crate) trimmed_meanwhile: u64,
    /// How far each consumer group of the log has acknowledged it.
    pub(crate) groups: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct FakeLedger {
    pub(crate) sales: BTreeMap<SaleName, FakeSale>,
    /// So often another operator adds a ticket behind the back of whoever has read a sale.
    pub(crate) changes_between: u32,
    /// Calls after which the next booking is made, as if someone bought meanwhile.
    pub(crate) bookings_between: u32,
    pub(crate) down: bool,
    clock: u64,
}

pub(crate) fn name(text: &str) -> SaleName {
    SaleName::parse(text).unwrap()
}

pub(crate) fn id(text: &str) -> BookingId {
    BookingId::parse(text).unwrap()
}

impl FakeLedger {
    /// One sale of that name.
    pub(crate) fn with(sale: &str, terms: SaleTerms) -> FakeLedger {
        let mut ledger = FakeLedger::default();
        ledger.answer(SaleOp::Open { terms, by: Opener::Operator }.on(name(sale)));
        ledger
    }

    pub(crate) fn sale(&mut self, sale: &str) -> &mut FakeSale {
        self.sales.get_mut(sale).unwrap()
    }
}

impl FakeSale {
    pub(crate) fn book(&mut self, booking: &str, quantity: u64, buyer: Option<&str>) {
        let status = match self.state.terms.hold_ms {
            Some(ms) => BookingStatus::Held { expires_at: WallTime(self.state.now.0 + ms) },
            None => BookingStatus::Confirmed,
        };
        let buyer = buyer.map(|buyer| BuyerId::parse(buyer).unwrap());
        self.bookings.push(Booking {
            id: id(booking),
            status,
            quantity: Quantity::new(quantity).unwrap(),
            released: 0,
            buyer,
            reassigned: 0,
        });
        self.record(self.bookings.len() - 1);
    }

    pub(crate) fn set(&mut self, booking: &str, status: BookingStatus) {
        let index = self.bookings.iter().position(|known| known.id.as_str() == booking).unwrap();
        self.bookings[index].status = status;
        self.record(index);
    }

    fn record(&mut self, index: usize) {
        let state = &mut self.state;
        state.sequence += 1;
        self.log.push(LogEntry {
            sequence: state.sequence,
            at: state.now,
            booking: self.bookings[index].clone(),
        });
        let sum = |held: bool| {
            let counted = self.bookings.iter().filter(|booking| match booking.status {
                BookingStatus::Held { .. } => held,
                BookingStatus::Confirmed => !held,
                _ => false,
            });
            counted.map(|booking| u64::from(booking.quantity.get())).sum()
        };
        (state.held, state.sold) = (sum(true), sum(false));
    }
}

impl FakeLedger {
    fn answer(&mut self, call: Call) -> Answer {
        self.clock += 1;
        match call {
            Call::Ledger(LedgerOp::Sales) => {
                let names = self.sales.keys().rev().copied().collect();
                Answer::Ledger(LedgerResult::Sales { names, odd: Vec::new() })
            }
            Call::Sale { sale, op: SaleOp::Remove } => self.remove(&sale),
            Call::Sale { sale, op: SaleOp::Open { terms, .. } } => {
                let result = match self.sales.contains_key(&sale) {
                    true => SaleResult::Exists,
                    false => SaleResult::Created,
                };
                let fresh =
                    SaleState { terms, version: 1, now: WallTime(self.clock), ..SaleState::default() };
                let sale = self.sales.entry(sale).or_insert(FakeSale { state: fresh, ..FakeSale::default() });
                Answer::Sale { state: sale.state.clone(), result }
            }
            Call::Sale { sale, op } => self.act(&sale, op),
            other => panic!("no command asks that: {other:?}"),
        }
    }

    fn remove(&mut self, name: &SaleName) -> Answer {
        let Some(known) = self.sales.get(name) else { return Answer::Missing };
        let state = known.state.clone();
        let fault = match state.status {
            SaleStatus::Closed if state.held > 0 => ChangeFault::StillHeld,
            SaleStatus::Closed => {
                self.sales.remove(name);
                return Answer::Removed { done: true };
            }
            _ => ChangeFault::NotClosed,
        };
        Answer::Sale { state, result: SaleResult::Refused(fault) }
    }

    /// The state in the answer is as it was before somebody else came in between.
    fn act(&mut self, name: &SaleName, op: SaleOp) -> Answer {
        let Some(sale) = self.sales.get_mut(name) else { return Answer::Missing };
        sale.state.now = WallTime(self.clock);
        let mut state = sale.state.clone();
        let result = match op {
            SaleOp::Alter(change) => {
                let mut terms = sale.state.terms.clone();
                terms.total = change.total.unwrap_or(terms.total);
                terms.hold_ms = change.hold_ms.unwrap_or(terms.hold_ms);
                terms.hold_max_ms = change.hold_max_ms.unwrap_or(terms.hold_max_ms);
                terms.per_buyer = change.per_buyer.unwrap_or(terms.per_buyer);
                terms.starts_at = change.starts_at.unwrap_or(terms.starts_at);
                terms.ends_at = change.ends_at.unwrap_or(terms.ends_at);
                if change.if_version.is_some_and(|version| version != sale.state.version) {
                    return Answer::Sale { state, result: SaleResult::Refused(ChangeFault::OtherVersion) };
                }
                if terms.total < sale.state.held + sale.state.sold {
                    return Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) };
                }
                if terms.check().is_err() {
                    return Answer::Sale { state, result: SaleResult::Refused(ChangeFault::EmptyWindow) };
                }
                sale.state.terms = terms;
                sale.state.status = change.status.unwrap_or(sale.state.status);
                sale.state.version += 1;
                state = sale.state.clone();
                SaleResult::Done
            }
            SaleOp::Snapshot => SaleResult::Done,
            SaleOp::LookUp(ids) if ids.is_empty() => {
                if self.changes_between > 0 {
                    self.changes_between -= 1;
                    sale.state.terms.total += 1;
                    sale.state.version += 1;
                }
                if self.bookings_between > 0 {
                    self.bookings_between -= 1;
                    sale.book(&format!("meanwhile-{}", self.clock), 1, None);
                }
                SaleResult::Found(Vec::new())
            }
            SaleOp::Page { cursor } => {
                let from: usize = if cursor.is_empty() { 0 } else { cursor.parse().unwrap() };
                let to = (from + PAGE).min(sale.bookings.len());
                let next = (to < sale.bookings.len()).then(|| to.to_string());
                SaleResult::Page { bookings: sale.bookings[from..to].to_vec(), next }
            }
            SaleOp::Log { after } => {
                let entries = sale.log.iter().filter(|entry| entry.sequence > after);
                let page = entries.take(PAGE).cloned().collect();
                sale.log.retain(|entry| entry.sequence > sale.trimmed_meanwhile);
                SaleResult::Log(page)
            }
            SaleOp::Trim => {
                let done = sale.groups.iter().min().copied().unwrap_or(0);
                let removed = sale.log.iter().take(PAGE).filter(|entry| entry.sequence <= done).count();
                sale.log.drain(..removed);
                let (groups, left) = (sale.groups.len() as u64, sale.log.len() as u64);
                SaleResult::Trimmed { groups, removed: removed as u64, left }
            }
            SaleOp::Survey { part, cursor } => {
                let rows = match part {
                    Part::Changes => sale.changes(cursor.parse().unwrap_or(0)),
                    part => sale.rows(part),
                };
                // A page of the log goes on after a sequence, any other after so many rows.
                let of_log = matches!(part, Part::Log | Part::Changes);
                let after: usize = cursor.parse().unwrap_or(0);
                let skipped = match of_log {
                    true => sale.log.iter().filter(|entry| entry.sequence <= after as u64).count(),
                    false => after,
                };
                let rows: Vec<Row> = match part {
                    Part::Changes => rows,
                    _ => rows.into_iter().skip(skipped).take(PAGE).collect(),
                };
                let last = rows.iter().rev().find_map(|row| match row {
                    Row::Change(entry) => Some(entry.sequence.to_string()),
                    _ => None,
                });
                let done = rows.len() < PAGE || part == Part::Changes;
                let next = if of_log { last.unwrap_or(cursor) } else { (after + rows.len()).to_string() };
                let now = sale.state.now;
                sale.log.retain(|entry| entry.sequence > sale.trimmed_meanwhile);
                if self.bookings_between > 0 && !matches!(part, Part::Changes | Part::Due) {
                    self.bookings_between -= 1;
                    sale.book(&format!("meanwhile-{}", self.clock), 1, None);
                }
                SaleResult::Surveyed { clock: now, time: now, rows, next, done }
            }
            SaleOp::Repair { version, sequence, repairs } => {
                if (version, sequence) != (sale.state.version, sale.state.sequence) {
                    return Answer::Sale { state, result: SaleResult::Refused(ChangeFault::Moved) };
                }
                for repair in repairs {
                    match repair {
                        Repair::Counts { held, sold } => (sale.state.held, sale.state.sold) = (held, sold),
                        other => panic!("nothing else is ever wrong here: {other:?}"),
                    }
                }
                state = sale.state.clone();
                SaleResult::Done
            }
            other => panic!("no command asks that: {other:?}"),
        };
        Answer::Sale { state, result }
    }
}

impl FakeSale {
    /// What a real ledger would have stored.
    fn rows(&self, part: Part) -> Vec<Row> {
        let booking = |booking: &Booking| Row::Booking { id: booking.id, record: self.stored(booking) };
        match part {
            Part::Bookings => self.bookings.iter().map(booking).collect(),
            Part::Holds => self.bookings.iter().filter_map(group).collect(),
            Part::Buyers => {
                let mut tickets: BTreeMap<BuyerId, BuyerTickets> = BTreeMap::new();
                for booking in self.bookings.iter().filter(|booking| self.stored(booking).counted) {
                    let tickets = tickets.entry(booking.buyer.unwrap()).or_default();
                    match booking.status {
                        BookingStatus::Held { expires_at } => {
                            tickets.holds.push((expires_at, booking.quantity.get()));
                        }
                        _ => tickets.confirmed += u64::from(booking.quantity.get()),
                    }
                }
                vec![Row::Buyers(tickets.into_iter().collect())]
            }
            Part::Log => self.log.iter().cloned().map(Row::Change).collect(),
            Part::Due => vec![Row::Derived(Part::Due)],
            Part::Stock | Part::Lost | Part::Changes => Vec::new(),
        }
    }

    fn changes(&self, after: u64) -> Vec<Row> {
        let mut rows = Vec::new();
        for entry in self.log.iter().filter(|entry| entry.sequence > after) {
            rows.push(Row::Change(entry.clone()));
            let booking = self.bookings.iter().find(|booking| booking.id == entry.booking.id).unwrap();
            rows.push(Row::Booking { id: booking.id, record: self.stored(booking) });
            rows.extend(group(booking));
        }
        rows.extend(self.rows(Part::Buyers));
        rows
    }

    fn stored(&self, booking: &Booking) -> StoredBooking {
        let Booking { status, quantity, released, buyer, reassigned, .. } = *booking;
        let counted = status.holds_stock() && buyer.is_some() && self.state.terms.per_buyer.is_some();
        let quantity = quantity.get();
        StoredBooking { status: Some(status), quantity, released, buyer, reassigned, counted, sequence: None }
    }
}

fn group(booking: &Booking) -> Option<Row> {
    match booking.status {
        BookingStatus::Held { expires_at } => Some(Row::Group { expires_at, ids: vec![booking.id] }),
        _ => None,
    }
}

impl Ledger for FakeLedger {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let down = self.down;
        let carry_out = |call: &Call| match down {
            true => Err(CallError::Unknown("connection refused".to_owned())),
            false => Ok(self.answer(call.clone())),
        };
        calls.iter().map(carry_out).collect()
    }
}
