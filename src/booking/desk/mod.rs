//! The booking desk of one core: admits requests against the permits, gathers them into batches, and turns the
//! ledger's answers into outcomes.
//!
//! It owns every request that waits for the ledger and every permit those hold. It performs no I/O and reads no
//! clock; the engine hands it requests and answers, and takes [calls](Desk::poll_call) and
//! [outcomes](Desk::poll_resolved) from it. `C` is the address of a waiting client, opaque to the desk.
//!
//! **Batching is group commit.** Entries of one sale gather while the core drains its sockets;
//! [`Desk::end_turn`] sends them as one call an operation, unless that sale has a burst on the way: then they keep
//! gathering until it is answered. An idle desk adds no delay, a loaded one makes few, large calls.
//!
//! **A client is never left waiting and never lied to.** At its deadline it is told that nothing happened
//! ([`Refusal::LedgerUnavailable`], where its entry never left) or that nobody knows ([`Refusal::OutcomeUnknown`]).
//! An entry that was sent stays here, without its client, until the ledger answers. Where the server had made the
//! id, nobody can ask for that booking again, so it is then cancelled, with a tombstone against a late first try.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};
use slab::Slab;

use super::{
    Answer, Booking, BookingId, BookingStatus, BuyerId, Call, CallError, Cancellation, Claim, Confirmation,
    Outcome, Quantity, Refusal, Reservation, SaleName, SaleState,
};
use crate::clock::{Monotonic, Now, WallTime};
use crate::limits;
use crate::stock::{Board, CoreIndex, Gate, OffSale, Permits, SaleBoard, Settlement};

/// A sale as this core knows it: an index into its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineIndex(u32);

/// A call on its way; comes back with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// A booking that a client wishes to make.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The client's own id, or `None` where the server makes one.
    pub id: Option<BookingId>,
    /// How many tickets.
    pub quantity: Quantity,
    /// For whom.
    pub buyer: Option<BuyerId>,
}

/// A request that waited, and how it ended.
#[derive(Debug)]
pub struct Resolved<C> {
    /// Who asked.
    pub client: C,
    /// Of which sale.
    pub line: LineIndex,
    /// About which booking; the server's own where it made the id.
    pub id: BookingId,
    /// What was asked for, where it was a booking that was asked for.
    pub wish: Option<(Quantity, Option<BuyerId>)>,
    /// When it was asked.
    pub asked_at: Monotonic,
    /// The end of it.
    pub outcome: Outcome,
}

/// What kind of entry travels in a call; calls of one burst leave in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Reserve,
    Confirm,
    Cancel,
    LookUp,
}

const OPERATIONS: [Operation; 4] =
    [Operation::Reserve, Operation::Confirm, Operation::Cancel, Operation::LookUp];

/// What an entry asks of the ledger.
#[derive(Debug)]
enum Errand {
    Reserve {
        quantity: Quantity,
        buyer: Option<BuyerId>,
        made_here: bool,
        permits: Permits,
    },
    /// No permit was to be had (`otherwise` says why), but the client has an id of its own: it may be a repeat of a
    /// granted one.
    Replay {
        quantity: Quantity,
        buyer: Option<BuyerId>,
        otherwise: Refusal,
    },
    LookUp,
    Confirm,
    /// With `tombstone` the desk cancels on its own behalf, for a booking whose client was told "unknown".
    Cancel {
        tombstone: bool,
    },
}

impl Errand {
    fn operation(&self) -> Operation {
        match self {
            Errand::Reserve { .. } => Operation::Reserve,
            Errand::Replay { .. } | Errand::LookUp => Operation::LookUp,
            Errand::Confirm => Operation::Confirm,
            Errand::Cancel { .. } => Operation::Cancel,
        }
    }
}

#[derive(Debug)]
struct Entry<C> {
    /// `None` once the client was answered.
    client: Option<C>,
    serial: u64,
    line: LineIndex,
    id: BookingId,
    asked_at: Monotonic,
    sent: bool,
    errand: Errand,
}

struct Line {
    board: Arc<SaleBoard>,
    forming: [Vec<usize>; OPERATIONS.len()],
    calls_in_flight: usize,
    dirty: bool,
    /// Whether this core reads the sale's level for all cores.
    synced_here: bool,
}

#[derive(Debug)]
enum Sent {
    Batch { line: LineIndex, operation: Operation, entries: Vec<usize> },
    Snapshot { sale: SaleName },
    Sales,
}

#[derive(Debug)]
struct InFlight {
    sent: Sent,
    since: Monotonic,
    serial: u64,
}

/// See the [module](self).
pub struct Desk<C> {
    core: CoreIndex,
    board: Arc<Board>,
    directory_version: u64,
    lines: Vec<Line>,
    line_by_name: FxHashMap<SaleName, LineIndex>,
    entries: Slab<Entry<C>>,
    in_flight: Slab<InFlight>,
    /// In the order of sending, for the age of the oldest; answered ones are skipped by their serial.
    in_flight_order: VecDeque<(usize, u64)>,
    dirty: Vec<LineIndex>,
    outgoing: VecDeque<(CallId, Call)>,
    resolved: VecDeque<Resolved<C>>,
    deadlines: VecDeque<(Monotonic, usize, u64)>,
    next_serial: u64,
    ledger_timeout_ms: u64,
    ledger_up: bool,
    ledger_down_since: Monotonic,
    /// The ledger's clock less this host's, in milliseconds.
    ledger_clock_offset_ms: i64,
    next_sync: Monotonic,
    syncs: u64,
    snapshots_in_flight: usize,
    sync_cursor: usize,
    /// Bookings to cancel on the desk's own behalf whose cancellation failed: tried again at the next sync.
    orphans: Vec<(LineIndex, BookingId)>,
}

impl<C> Desk<C> {
    /// A desk for `core` of the board; the ledger counts as down until [`Desk::handle_ledger_up`].
    pub fn new(core: CoreIndex, board: Arc<Board>, ledger_timeout_ms: u64, now: Now) -> Desk<C> {
        Desk {
            core,
            board,
            directory_version: u64::MAX,
            lines: Vec::new(),
            line_by_name: FxHashMap::default(),
            entries: Slab::new(),
            in_flight: Slab::new(),
            in_flight_order: VecDeque::new(),
            dirty: Vec::new(),
            outgoing: VecDeque::new(),
            resolved: VecDeque::new(),
            deadlines: VecDeque::new(),
            next_serial: 0,
            ledger_timeout_ms,
            ledger_up: false,
            ledger_down_since: now.monotonic,
            ledger_clock_offset_ms: 0,
            next_sync: now.monotonic,
            syncs: 0,
            snapshots_in_flight: 0,
            sync_cursor: 0,
            orphans: Vec::new(),
        }
    }

    /// The sale of that name, or `None` where neither this host nor its last sync knows it.
    pub fn line(&self, sale: &str) -> Option<LineIndex> {
        self.line_by_name.get(sale).copied()
    }

    /// The permits and the last known level of a sale.
    pub fn sale(&self, line: LineIndex) -> &SaleBoard {
        &self.lines[line.0 as usize].board
    }

    /// The ledger's clock as this host reckons it from the last answer: good for opening a window from memory, never
    /// for judging a hold.
    pub fn ledger_time(&self, now: Now) -> WallTime {
        WallTime(now.wall.0.saturating_add_signed(self.ledger_clock_offset_ms))
    }

    /// Requests that wait for the ledger, those without a client included.
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// Asks for a booking. `Ok` means that the client waits and will be [resolved](Desk::poll_resolved); a refusal is
    /// final and cost nothing but memory reads. `client` is called only on `Ok`, `make_id` where an id is needed too.
    pub fn reserve(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        wish: Wish,
        now: Now,
        make_id: impl FnOnce() -> BookingId,
    ) -> Result<(), Refusal> {
        let Wish { id, quantity, buyer } = wish;
        let errand = match (self.admit(line, quantity, now), id) {
            (Ok(permits), id) => Errand::Reserve { quantity, buyer, made_here: id.is_none(), permits },
            (Err(refusal @ (Refusal::SoldOut | Refusal::NotOnSale { .. })), Some(_)) => {
                self.refuse_if_unable(now)?;
                Errand::Replay { quantity, buyer, otherwise: refusal }
            }
            (Err(refusal), _) => return Err(refusal),
        };
        let id = id.unwrap_or_else(make_id);
        self.enqueue(Some(client()), line, id, errand, now.monotonic);
        Ok(())
    }

    /// Asks for a booking as the ledger has it; likewise.
    pub fn look_up(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        id: BookingId,
        now: Now,
    ) -> Result<(), Refusal> {
        self.ask(client, line, id, Errand::LookUp, now)
    }

    /// Asks to confirm a held booking; likewise.
    pub fn confirm(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        id: BookingId,
        now: Now,
    ) -> Result<(), Refusal> {
        self.ask(client, line, id, Errand::Confirm, now)
    }

    /// Asks to cancel a booking; likewise.
    pub fn cancel(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        id: BookingId,
        now: Now,
    ) -> Result<(), Refusal> {
        self.ask(client, line, id, Errand::Cancel { tombstone: false }, now)
    }

    fn ask(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        id: BookingId,
        errand: Errand,
        now: Now,
    ) -> Result<(), Refusal> {
        self.refuse_if_unable(now)?;
        self.enqueue(Some(client()), line, id, errand, now.monotonic);
        Ok(())
    }

    /// The gate, then the permits: all of it from memory.
    fn admit(&mut self, line: LineIndex, quantity: Quantity, now: Now) -> Result<Permits, Refusal> {
        let ledger_time = self.ledger_time(now);
        let sale = &self.lines[line.0 as usize].board;
        match sale.gate(ledger_time) {
            Gate::Open => {}
            Gate::NotOnSale(OffSale::NotYet { starts_at }) => {
                return Err(Refusal::NotOnSale { starts_at: Some(starts_at) });
            }
            Gate::NotOnSale(_) => return Err(Refusal::NotOnSale { starts_at: None }),
            Gate::Missing => return Err(Refusal::LedgerUnavailable),
        }
        let Some(permits) = sale.take(self.core, quantity) else {
            // With the ledger silent, permits that are on the way say nothing about what is left.
            return match sale.available() > 0 && self.ledger_is_silent(now.monotonic) {
                true => Err(Refusal::LedgerUnavailable),
                false => Err(Refusal::SoldOut),
            };
        };
        if let Err(refusal) = self.refuse_if_unable(now) {
            self.lines[line.0 as usize].board.settle(permits, Settlement::Returned);
            return Err(refusal);
        }
        Ok(permits)
    }

    fn refuse_if_unable(&self, now: Now) -> Result<(), Refusal> {
        if self.entries.len() >= limits::WAITING_PER_CORE_MAX {
            return Err(Refusal::Overloaded);
        }
        let down_too_long = self.ledger_down_since.plus_ms(self.ledger_timeout_ms);
        if !self.ledger_up && now.monotonic >= down_too_long {
            return Err(Refusal::LedgerUnavailable);
        }
        Ok(())
    }

    fn ledger_is_silent(&self, now: Monotonic) -> bool {
        let oldest = self.in_flight_order.front().and_then(|&(key, _)| self.in_flight.get(key));
        !self.ledger_up || oldest.is_some_and(|call| now >= call.since.plus_ms(limits::LEDGER_SLOW_MS))
    }

    fn enqueue(&mut self, client: Option<C>, line: LineIndex, id: BookingId, errand: Errand, now: Monotonic) {
        let serial = self.serial();
        let operation = errand.operation();
        let has_client = client.is_some();
        let entry = Entry { client, serial, line, id, asked_at: now, sent: false, errand };
        let key = self.entries.insert(entry);
        if has_client {
            self.deadlines.push_back((now.plus_ms(self.ledger_timeout_ms), key, serial));
        }
        self.lines[line.0 as usize].forming[operation as usize].push(key);
        self.mark_dirty(line);
    }

    fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    fn mark_dirty(&mut self, line: LineIndex) {
        let entry = &mut self.lines[line.0 as usize];
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(line);
        }
    }

    /// The connection to the ledger works from now on: what gathered may leave.
    pub fn handle_ledger_up(&mut self) {
        self.ledger_up = true;
    }

    /// The connection to the ledger is lost. Calls on the way stay on the way: the ledger's session sends them again.
    pub fn handle_ledger_down(&mut self, now: Now) {
        if self.ledger_up {
            self.ledger_up = false;
            self.ledger_down_since = now.monotonic;
        }
    }

    /// When [`Desk::handle_deadline`] wants to be called.
    pub fn next_deadline(&self) -> Monotonic {
        self.deadlines.front().map_or(self.next_sync, |&(deadline, _, _)| deadline.min(self.next_sync))
    }

    /// Answers those who have waited too long, and starts a sync where it is time for one.
    pub fn handle_deadline(&mut self, now: Now) {
        while let Some(&(deadline, key, serial)) = self.deadlines.front() {
            let answered =
                self.entries.get(key).is_none_or(|entry| entry.serial != serial || entry.client.is_none());
            if !answered && deadline > now.monotonic {
                break;
            }
            self.deadlines.pop_front();
            if !answered {
                self.time_out(key);
            }
        }
        if now.monotonic >= self.next_sync {
            self.next_sync = now.monotonic.plus_ms(limits::SYNC_INTERVAL_MS);
            self.sync(now.monotonic);
        }
    }

    fn time_out(&mut self, key: usize) {
        let entry = &mut self.entries[key];
        if entry.sent {
            self.resolve(key, Outcome::Refused(Refusal::OutcomeUnknown));
            return;
        }
        let (line, operation) = (entry.line, entry.errand.operation());
        // Entries time out in the order in which they gathered, so this is the first one or close to it.
        let forming = &mut self.lines[line.0 as usize].forming[operation as usize];
        if let Some(position) = forming.iter().position(|&other| other == key) {
            forming.remove(position);
        }
        self.finish(key, Outcome::Refused(Refusal::LedgerUnavailable), Settlement::Returned);
    }

    /// Sends what has gathered: called once at the end of each loop turn, after all sockets were drained.
    pub fn end_turn(&mut self, now: Now) {
        self.refresh_lines();
        if !self.ledger_up {
            return;
        }
        let mut held_back = 0;
        for index in 0..self.dirty.len() {
            let line = self.dirty[index];
            if self.lines[line.0 as usize].calls_in_flight >= limits::CALLS_IN_FLIGHT_MAX {
                self.dirty[held_back] = line;
                held_back += 1;
                continue;
            }
            self.lines[line.0 as usize].dirty = false;
            self.send_burst(line, now.monotonic);
        }
        self.dirty.truncate(held_back);
    }

    fn send_burst(&mut self, line: LineIndex, now: Monotonic) {
        for operation in OPERATIONS {
            let mut gathered = std::mem::take(&mut self.lines[line.0 as usize].forming[operation as usize]);
            while !gathered.is_empty() {
                let rest = gathered.split_off(gathered.len().min(limits::ENTRIES_PER_CALL_MAX));
                self.send_batch(line, operation, gathered, now);
                gathered = rest;
            }
        }
    }

    fn send_batch(&mut self, line: LineIndex, operation: Operation, entries: Vec<usize>, now: Monotonic) {
        let sale = *self.lines[line.0 as usize].board.name();
        for &key in &entries {
            self.entries[key].sent = true;
        }
        let each = entries.iter().map(|&key| &self.entries[key]);
        let call = match operation {
            Operation::Reserve => Call::Reserve { sale, claims: each.map(Entry::claim).collect() },
            Operation::Confirm => Call::Confirm { sale, ids: each.map(|entry| entry.id).collect() },
            Operation::LookUp => Call::LookUp { sale, ids: each.map(|entry| entry.id).collect() },
            Operation::Cancel => Call::Cancel {
                sale,
                ids: each
                    .map(|entry| (entry.id, matches!(entry.errand, Errand::Cancel { tombstone: true })))
                    .collect(),
            },
        };
        self.lines[line.0 as usize].calls_in_flight += 1;
        self.send(Sent::Batch { line, operation, entries }, call, now);
    }

    fn send(&mut self, sent: Sent, call: Call, now: Monotonic) {
        let serial = self.serial();
        let key = self.in_flight.insert(InFlight { sent, since: now, serial });
        self.in_flight_order.push_back((key, serial));
        self.outgoing.push_back((CallId(key as u64), call));
    }

    /// The next call to carry to the ledger.
    pub fn poll_call(&mut self) -> Option<(CallId, Call)> {
        self.outgoing.pop_front()
    }

    /// The next request that came to its end.
    pub fn poll_resolved(&mut self) -> Option<Resolved<C>> {
        self.resolved.pop_front()
    }

    /// The ledger's answer to a call. Returns when the call was sent.
    ///
    /// # Panics
    /// Where `id` is of no call on the way: answers are then matched to the wrong requests, and to stop is better than
    /// to go on selling.
    pub fn handle_answer(&mut self, id: CallId, answer: Result<Answer, CallError>, now: Now) -> Monotonic {
        let key = usize::try_from(id.0).expect("call ids are slab keys");
        let InFlight { sent, since, .. } = self.in_flight.remove(key);
        self.forget_answered();
        match sent {
            Sent::Batch { line, operation, entries } => {
                self.lines[line.0 as usize].calls_in_flight -= 1;
                self.handle_batch(line, operation, entries, answer, now);
            }
            Sent::Snapshot { sale } => {
                self.snapshots_in_flight -= 1;
                match answer {
                    Ok(Answer::Sale { state, .. }) => {
                        self.learn_clock(&state, now);
                        if let Err(full) = self.board.learn(&sale, &state) {
                            tracing::warn!(%sale, %full, "a sale is left out");
                        }
                    }
                    Ok(Answer::NoSuchSale) => self.board.mark_missing(sale.as_str()),
                    Ok(other) => {
                        tracing::error!(%sale, ?other, "a snapshot was answered with something else")
                    }
                    Err(error) => {
                        tracing::debug!(%sale, %error, "a snapshot failed; the next sync repeats it")
                    }
                }
            }
            Sent::Sales => {
                if let Ok(Answer::Sales(sales)) = answer {
                    self.discover(sales, now.monotonic);
                }
            }
        }
        since
    }

    fn forget_answered(&mut self) {
        while let Some(&(key, serial)) = self.in_flight_order.front() {
            if self.in_flight.get(key).is_some_and(|call| call.serial == serial) {
                break;
            }
            self.in_flight_order.pop_front();
        }
    }

    fn learn_clock(&mut self, state: &SaleState, now: Now) {
        self.ledger_clock_offset_ms = state.now.0.cast_signed() - now.wall.0.cast_signed();
    }

    /// Takes in what came with the answer to a batch.
    fn learn(&mut self, line: LineIndex, state: &SaleState, now: Now) {
        self.learn_clock(state, now);
        self.lines[line.0 as usize].board.learn(state);
    }

    fn handle_batch(
        &mut self,
        line: LineIndex,
        operation: Operation,
        entries: Vec<usize>,
        answer: Result<Answer, CallError>,
        now: Now,
    ) {
        let sale = *self.lines[line.0 as usize].board.name();
        // Permits are settled before the new level is learnt: the level already knows of them.
        match answer {
            Ok(Answer::Reserved { state, reservations }) if reservations.len() == entries.len() => {
                for (key, reservation) in entries.into_iter().zip(reservations) {
                    self.settle_reservation(key, reservation, &state, now.monotonic);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::Found { state, bookings }) if bookings.len() == entries.len() => {
                for (key, booking) in entries.into_iter().zip(bookings) {
                    self.settle_look_up(key, booking);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::Confirmed { state, confirmations }) if confirmations.len() == entries.len() => {
                for (key, confirmation) in entries.into_iter().zip(confirmations) {
                    let outcome = match confirmation {
                        Confirmation::Confirmed(booking) => Outcome::Confirmed(booking),
                        Confirmation::HoldExpired(_) => Outcome::Refused(Refusal::HoldExpired),
                        Confirmation::Cancelled(_) => Outcome::Refused(Refusal::BookingCancelled),
                        Confirmation::NotFound => Outcome::Refused(Refusal::NoSuchBooking),
                    };
                    self.finish(key, outcome, Settlement::Returned);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::Cancelled { state, cancellations }) if cancellations.len() == entries.len() => {
                for (key, cancellation) in entries.into_iter().zip(cancellations) {
                    let outcome = match cancellation {
                        Cancellation::Cancelled(booking) => Outcome::Cancelled(booking),
                        Cancellation::NotFound => Outcome::Refused(Refusal::NoSuchBooking),
                    };
                    self.finish(key, outcome, Settlement::Returned);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::NoSuchSale) => {
                self.lines[line.0 as usize].board.mark_missing();
                self.fail_batch(entries, Refusal::LedgerUnavailable);
            }
            Err(CallError::Refused(reason)) => {
                tracing::warn!(%sale, ?operation, reason, "the ledger refused a batch; nothing of it happened");
                self.fail_batch(entries, Refusal::LedgerUnavailable);
            }
            Err(error) => self.lose_batch(line, entries, &error.to_string()),
            Ok(other) => {
                let reason = format!("an answer of another kind or length: {other:?}");
                self.lose_batch(line, entries, &reason);
            }
        }
    }

    fn fail_batch(&mut self, entries: Vec<usize>, refusal: Refusal) {
        for key in entries {
            let entry = &self.entries[key];
            if matches!(entry.errand, Errand::Cancel { tombstone: true }) {
                self.orphans.push((entry.line, entry.id));
            }
            self.finish(key, Outcome::Refused(refusal), Settlement::Returned);
        }
    }

    /// Nobody knows what became of these. Clients with ids of their own may ask again; for the others the desk cancels.
    fn lose_batch(&mut self, line: LineIndex, entries: Vec<usize>, reason: &str) {
        tracing::error!(sale = %self.sale(line).name(), entries = entries.len(), reason, "a batch without a usable answer");
        for key in entries {
            let entry = &self.entries[key];
            let orphan = matches!(
                entry.errand,
                Errand::Reserve { made_here: true, .. } | Errand::Cancel { tombstone: true }
            );
            if orphan {
                self.orphans.push((line, entry.id));
            }
            self.finish(key, Outcome::Refused(Refusal::OutcomeUnknown), Settlement::Returned);
        }
    }

    fn settle_reservation(
        &mut self,
        key: usize,
        reservation: Reservation,
        state: &SaleState,
        now: Monotonic,
    ) {
        let entry = &self.entries[key];
        let Errand::Reserve { quantity, buyer, made_here, .. } = entry.errand else {
            unreachable!("only reservations travel in a reserve call")
        };
        let (id, line, abandoned) = (entry.id, entry.line, entry.client.is_none());
        let (outcome, settlement) = match reservation {
            Reservation::Granted { expires_at } => {
                let status = match expires_at {
                    Some(expires_at) => BookingStatus::Held { expires_at },
                    None => BookingStatus::Confirmed,
                };
                (Outcome::Granted(Booking { id, status, quantity, buyer }), Settlement::Spent)
            }
            // An id made here is known to nobody else: this is our own batch, sent again after a lost connection.
            Reservation::Known(booking) if made_here => (Outcome::Granted(booking), Settlement::Spent),
            Reservation::Known(booking) => (Outcome::Replayed(booking), Settlement::Returned),
            Reservation::IdReused => (Outcome::Refused(Refusal::IdReused), Settlement::Returned),
            Reservation::SoldOut => (Outcome::Refused(Refusal::SoldOut), Settlement::Refused),
            Reservation::BuyerLimit => (Outcome::Refused(Refusal::BuyerLimit), Settlement::Returned),
            Reservation::NotOnSale => {
                let starts_at = state.terms.starts_at.filter(|&starts| state.now < starts);
                (Outcome::Refused(Refusal::NotOnSale { starts_at }), Settlement::Returned)
            }
        };
        let orphan = made_here && abandoned && matches!(outcome, Outcome::Granted(_));
        self.finish(key, outcome, settlement);
        if orphan {
            self.enqueue(None, line, id, Errand::Cancel { tombstone: true }, now);
        }
    }

    fn settle_look_up(&mut self, key: usize, found: Option<Booking>) {
        let outcome = match (&self.entries[key].errand, found) {
            (Errand::Replay { quantity, buyer, .. }, Some(booking)) => {
                match booking.quantity == *quantity && booking.buyer == *buyer {
                    true => Outcome::Replayed(booking),
                    false => Outcome::Refused(Refusal::IdReused),
                }
            }
            (Errand::Replay { otherwise, .. }, None) => Outcome::Refused(*otherwise),
            (_, Some(booking)) => Outcome::Found(booking),
            (_, None) => Outcome::Refused(Refusal::NoSuchBooking),
        };
        self.finish(key, outcome, Settlement::Returned);
    }

    /// Tells the client, where one still waits; the entry stays.
    fn resolve(&mut self, key: usize, outcome: Outcome) {
        let entry = &mut self.entries[key];
        let Some(client) = entry.client.take() else { return };
        let wish = match entry.errand {
            Errand::Reserve { quantity, buyer, .. } | Errand::Replay { quantity, buyer, .. } => {
                Some((quantity, buyer))
            }
            Errand::LookUp | Errand::Confirm | Errand::Cancel { .. } => None,
        };
        let (line, id, asked_at) = (entry.line, entry.id, entry.asked_at);
        self.resolved.push_back(Resolved { client, line, id, wish, asked_at, outcome });
    }

    /// The end of an entry: its client is told, its permits are settled, it is gone.
    fn finish(&mut self, key: usize, outcome: Outcome, settlement: Settlement) {
        self.resolve(key, outcome);
        let entry = self.entries.remove(key);
        if let Errand::Reserve { permits, .. } = entry.errand {
            self.lines[entry.line.0 as usize].board.settle(permits, settlement);
        }
    }

    /// Reads the levels of this core's share of the sales, and now and then which sales there are.
    fn sync(&mut self, now: Monotonic) {
        if !self.ledger_up {
            return;
        }
        if self.syncs.is_multiple_of(limits::SYNCS_PER_DISCOVERY) && self.core.0 == 0 {
            self.send(Sent::Sales, Call::Sales, now);
        }
        self.syncs += 1;
        for (line, id) in std::mem::take(&mut self.orphans) {
            self.enqueue(None, line, id, Errand::Cancel { tombstone: true }, now);
        }
        for _ in 0..self.lines.len() {
            if self.snapshots_in_flight >= limits::SNAPSHOTS_IN_FLIGHT_MAX {
                break;
            }
            self.sync_cursor = (self.sync_cursor + 1) % self.lines.len();
            let line = &self.lines[self.sync_cursor];
            if line.synced_here {
                let sale = *line.board.name();
                let sweeps = line.board.level().is_some_and(|level| level.held > 0);
                self.send_snapshot(sale, sweeps, now);
            }
        }
    }

    fn send_snapshot(&mut self, sale: SaleName, sweeps: bool, now: Monotonic) {
        self.snapshots_in_flight += 1;
        let call = if sweeps { Call::Expire { sale } } else { Call::Snapshot { sale } };
        self.send(Sent::Snapshot { sale }, call, now);
    }

    fn discover(&mut self, sales: Vec<SaleName>, now: Monotonic) {
        for sale in sales {
            if !self.line_by_name.contains_key(&sale)
                && self.snapshots_in_flight < limits::SNAPSHOTS_IN_FLIGHT_MAX
            {
                self.send_snapshot(sale, false, now);
            }
        }
    }

    /// Takes over sales that the board has learnt of since the last turn.
    pub fn refresh_lines(&mut self) {
        let version = self.board.directory_version();
        if version == self.directory_version {
            return;
        }
        let mut complete = true;
        for sale in self.board.directory().sales() {
            let Some(&LineIndex(index)) = self.line_by_name.get(sale.name()) else {
                self.add_line(sale);
                continue;
            };
            let line = &mut self.lines[index as usize];
            if Arc::ptr_eq(&line.board, sale) {
                continue;
            }
            // Forgotten by the board and learnt anew. Entries on the way hold permits of the old one.
            let idle = line.calls_in_flight == 0 && line.forming.iter().all(Vec::is_empty);
            match idle {
                true => line.board = Arc::clone(sale),
                false => complete = false,
            }
        }
        if complete {
            self.directory_version = version;
        }
    }

    fn add_line(&mut self, sale: &Arc<SaleBoard>) {
        let index = LineIndex(u32::try_from(self.lines.len()).expect("SALES_MAX fits in u32"));
        self.line_by_name.insert(*sale.name(), index);
        // By the name alone, so that all cores agree on who reads which sale.
        let reader = FxBuildHasher.hash_one(sale.name()) % self.board.cores() as u64;
        self.lines.push(Line {
            board: Arc::clone(sale),
            forming: Default::default(),
            calls_in_flight: 0,
            dirty: false,
            synced_here: reader == self.core.0 as u64,
        });
    }
}

impl<C> Drop for Desk<C> {
    /// A host that stops with entries on the way gives their permits back: they die with its board, or serve the
    /// sibling cores that still run.
    fn drop(&mut self) {
        for entry in self.entries.drain() {
            if let Errand::Reserve { permits, .. } = entry.errand {
                self.lines[entry.line.0 as usize].board.settle(permits, Settlement::Returned);
            }
        }
    }
}

impl<C> Entry<C> {
    fn claim(&self) -> Claim {
        match self.errand {
            Errand::Reserve { quantity, buyer, .. } => Claim { id: self.id, quantity, buyer },
            _ => unreachable!("only reservations travel in a reserve call"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
