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

mod answers;
mod check;
mod guard;
mod losses;
mod memory;
mod orphans;
mod reads;
mod sync;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;

use crate::booking::{Amendment, Booking, BookingId, BuyerId, Outcome, Quantity, Refusal, SaleName};
use crate::clock::{Monotonic, Now, WallTime};
use crate::limits;
use crate::protocol::{BookingOp, Call, CallId, Cancel, Claim, SaleOp};
use crate::stock::{Board, CoreIndex, DirectoryPlace, Familiar, Gate, Permits, SaleBoard, Settlement};
use guard::Guard;
use losses::Losses;
use memory::Memory;
use orphans::{Orphan, Orphans};
use reads::{LineReads, Reads};
use sync::Feed;

pub use guard::GuardCounts;

/// A sale as this core knows it: an index into its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineIndex(u32);

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
    /// Whether this host made the id, so that nobody else can ask for it again.
    pub made_here: bool,
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
    Amend,
    Confirm,
    Cancel,
    LookUp,
}

const OPERATIONS: [Operation; 5] =
    [Operation::Reserve, Operation::Amend, Operation::Confirm, Operation::Cancel, Operation::LookUp];

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
    Amend(Amendment),
    Confirm,
    Cancel {
        /// Where there is no such booking, there is to be none ever.
        tombstone: bool,
        /// The desk cancels on its own behalf, a booking whose client was told "unknown".
        own: bool,
    },
}

impl Errand {
    fn operation(&self) -> Operation {
        match self {
            Errand::Reserve { .. } => Operation::Reserve,
            Errand::Replay { .. } | Errand::LookUp => Operation::LookUp,
            Errand::Amend(_) => Operation::Amend,
            Errand::Confirm => Operation::Confirm,
            Errand::Cancel { .. } => Operation::Cancel,
        }
    }

    /// What its client is told where nobody knows what became of it. To look changes nothing; but whoever wishes to book
    /// and may have done so before is not told that nothing was.
    fn refusal_when_lost(&self) -> Refusal {
        match self {
            Errand::LookUp => Refusal::LedgerUnavailable,
            Errand::Reserve { .. }
            | Errand::Replay { .. }
            | Errand::Amend(_)
            | Errand::Confirm
            | Errand::Cancel { .. } => Refusal::OutcomeUnknown,
        }
    }

    /// Whether the desk asks it on its own behalf, so that it must be asked until it is answered.
    fn is_own(&self) -> bool {
        matches!(self, Errand::Cancel { own: true, .. })
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
    /// Whether the id is marked as in flight on this entry's account.
    marked: bool,
    /// Its time is over and it never left.
    overdue: bool,
    errand: Errand,
}

struct Line {
    board: Arc<SaleBoard>,
    forming: [Vec<usize>; OPERATIONS.len()],
    calls_in_flight: usize,
    dirty: bool,
    /// Whether this core reads the sale's level, and its log, for all cores.
    synced_here: bool,
    reads: LineReads,
    /// The ledger's clock for this sale less this host's, in milliseconds.
    clock_offset_ms: i64,
    /// A page of the log is on the way.
    following: bool,
    /// The log goes on after this sequence no more: it was trimmed, and is not asked for again.
    log_gone_after: Option<u64>,
    /// Operators were told that its reading fails.
    in_trouble: bool,
    guard: Guard,
}

#[derive(Debug)]
enum Sent {
    Batch {
        line: LineIndex,
        operation: Operation,
        entries: Vec<usize>,
    },
    Restore {
        line: LineIndex,
        opened: u64,
        offered: Vec<Booking>,
    },
    Snapshot {
        line: LineIndex,
    },
    Discovery {
        sale: SaleName,
        /// Its name is in the ledger's list.
        named: bool,
    },
    Recall {
        lines: Vec<LineIndex>,
    },
    Pause {
        line: LineIndex,
    },
    Log {
        line: LineIndex,
        after: u64,
    },
    Sales,
    /// On the connection of that number.
    Changes {
        connection: u64,
    },
}

#[derive(Debug)]
struct InFlight {
    sent: Sent,
    since: Monotonic,
    serial: u64,
}

/// The booking desk of one core; the head of its module says what it does.
pub struct Desk<C> {
    core: CoreIndex,
    board: Arc<Board>,
    directory_version: u64,
    directory_place: DirectoryPlace,
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
    /// What the board was last told.
    silent: bool,
    /// Operators were told of it.
    silence_told: bool,
    /// Lines in trouble.
    lines_in_trouble: usize,
    ledger_down_since: Monotonic,
    next_sync: Monotonic,
    feed: Feed,
    reads: Reads,
    losses: Losses,
    /// Bookings to cancel on the desk's own behalf.
    orphans: Orphans,
    /// What clients were told.
    memory: Memory,
    /// Lines whose guard is due.
    distrusted: Vec<LineIndex>,
    /// Lines whose guard failed, to be tried again.
    untrusted: Vec<LineIndex>,
    /// Lines of whose permits an answer could not be taken in, since another core was at them.
    undealt: Vec<LineIndex>,
    guard_counts: GuardCounts,
}

impl<C> Desk<C> {
    /// A desk for `core` of the board; the ledger counts as down until [`Desk::handle_ledger_up`].
    pub fn new(core: CoreIndex, board: Arc<Board>, ledger_timeout_ms: u64, now: Now) -> Desk<C> {
        Desk {
            core,
            board,
            directory_version: u64::MAX,
            directory_place: DirectoryPlace::default(),
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
            silent: false,
            silence_told: false,
            lines_in_trouble: 0,
            ledger_down_since: now.monotonic,
            next_sync: now.monotonic,
            feed: Feed::default(),
            reads: Reads::default(),
            losses: Losses::default(),
            orphans: Orphans::default(),
            memory: Memory::new(),
            distrusted: Vec::new(),
            untrusted: Vec::new(),
            undealt: Vec::new(),
            guard_counts: GuardCounts::default(),
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

    /// The ledger's clock for a sale as this host reckons it from the last answer: good for opening a window from memory,
    /// never for judging a hold.
    fn ledger_time(&self, line: LineIndex, now: Now) -> WallTime {
        WallTime(now.wall.0.saturating_add_signed(self.lines[line.0 as usize].clock_offset_ms))
    }

    /// Requests that wait for the ledger, those without a client included; not those that can only wait for a sale that
    /// the ledger no longer has to come back.
    pub fn waiting(&self) -> usize {
        self.entries.len() + self.orphans.due()
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
        let admitted = self.admit(line, quantity, now);
        let sale = &self.lines[line.0 as usize].board;
        let errand = match (admitted, id) {
            (Ok(permits), Some(own)) if !sale.begin(&own) => {
                sale.settle(permits, Settlement::Returned);
                return Err(Refusal::InProgress);
            }
            (Ok(permits), id) => Errand::Reserve { quantity, buyer, made_here: id.is_none(), permits },
            (Err(refusal @ (Refusal::SoldOut | Refusal::NotOnSale(_))), Some(own)) => {
                if sale.is_in_flight(&own) {
                    return Err(Refusal::InProgress);
                }
                if sale.familiar(&own) == Familiar::No {
                    return Err(refusal);
                }
                self.refuse_if_unable(now)?;
                Errand::Replay { quantity, buyer, otherwise: refusal }
            }
            (Err(refusal), _) => return Err(refusal),
        };
        let marked = matches!(errand, Errand::Reserve { made_here: false, .. });
        let id = id.unwrap_or_else(make_id);
        self.enqueue(Some(client()), line, id, marked, errand, now.monotonic);
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

    /// Asks to change a booking; likewise.
    pub fn amend(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        id: BookingId,
        amendment: Amendment,
        now: Now,
    ) -> Result<(), Refusal> {
        self.ask(client, line, id, Errand::Amend(amendment), now)
    }

    /// Asks to cancel a booking, with `tombstone` one that may not be there, so that its id is never granted; likewise.
    pub fn cancel(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        id: BookingId,
        tombstone: bool,
        now: Now,
    ) -> Result<(), Refusal> {
        self.ask(client, line, id, Errand::Cancel { tombstone, own: false }, now)
    }

    /// Cancels a booking that was granted to an id made here, and that its client will never hear of.
    pub fn cancel_unheard(&mut self, line: LineIndex, id: BookingId, now: Now) {
        let marked = self.lines[line.0 as usize].board.begin(&id);
        self.cancel_orphan(Orphan { line, id, marked }, now.monotonic);
    }

    fn ask(
        &mut self,
        client: impl FnOnce() -> C,
        line: LineIndex,
        id: BookingId,
        errand: Errand,
        now: Now,
    ) -> Result<(), Refusal> {
        // What the booking on the way will be is not known yet.
        let changes = !matches!(errand, Errand::LookUp);
        if changes && self.lines[line.0 as usize].board.is_in_flight(&id) {
            return Err(Refusal::InProgress);
        }
        if changes && self.sale(line).gate(self.ledger_time(line, now)) == Gate::Frozen {
            return Err(Refusal::SaleFrozen);
        }
        self.refuse_if_unable(now)?;
        self.enqueue(Some(client()), line, id, false, errand, now.monotonic);
        Ok(())
    }

    /// The gate, then the permits: all of it from memory.
    fn admit(&mut self, line: LineIndex, quantity: Quantity, now: Now) -> Result<Permits, Refusal> {
        let ledger_time = self.ledger_time(line, now);
        let sale = &self.lines[line.0 as usize].board;
        match sale.gate(ledger_time) {
            Gate::Open => {}
            Gate::NotOnSale(why) => return Err(Refusal::NotOnSale(why)),
            Gate::Missing => return Err(Refusal::SaleMissing),
            Gate::Unsound => return Err(Refusal::SaleUnsound),
            Gate::Frozen => return Err(Refusal::SaleFrozen),
        }
        let Some(permits) = sale.take(self.core, quantity) else {
            // With the ledger silent, permits that are on the way say nothing about what is left.
            let silent = || self.ledger_is_silent(now.monotonic) || self.board.any_silent();
            return match sale.available() > 0 && silent() {
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
        if self.waiting() >= limits::WAITING_PER_CORE_MAX {
            return Err(Refusal::Overloaded);
        }
        if self.is_cut_off(now) {
            return Err(Refusal::LedgerUnavailable);
        }
        Ok(())
    }

    /// Whether the ledger has been away for so long that nobody waits for it, and sales that were opened meanwhile are not
    /// known here.
    pub fn is_cut_off(&self, now: Now) -> bool {
        !self.ledger_up && now.monotonic >= self.ledger_down_since.plus_ms(self.ledger_timeout_ms)
    }

    fn ledger_is_silent(&self, now: Monotonic) -> bool {
        let oldest = self.in_flight_order.front().and_then(|&(key, _)| self.in_flight.get(key));
        !self.ledger_up || oldest.is_some_and(|call| now >= call.since.plus_ms(limits::LEDGER_SLOW_MS))
    }

    fn enqueue(
        &mut self,
        client: Option<C>,
        line: LineIndex,
        id: BookingId,
        marked: bool,
        errand: Errand,
        now: Monotonic,
    ) {
        let serial = self.serial();
        let operation = errand.operation();
        let has_client = client.is_some();
        self.orphans.note_begun(&errand);
        let entry =
            Entry { client, serial, line, id, asked_at: now, sent: false, marked, overdue: false, errand };
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
        self.distrust_all();
        self.begin_feed();
    }

    /// The connection to the ledger is lost. Calls on the way stay on the way: the ledger's session sends them again.
    pub fn handle_ledger_down(&mut self, now: Now) {
        if self.ledger_up {
            self.ledger_up = false;
            self.ledger_down_since = now.monotonic;
            self.memory.forget_before(now.monotonic);
            // What comes back may be a ledger that has forgotten something: its logs are read anew.
            for line in self.lines.iter().filter(|line| line.synced_here) {
                line.board.forget_log();
            }
        }
    }

    /// When [`Desk::handle_deadline`] wants to be called.
    pub fn next_deadline(&self) -> Monotonic {
        let deadline = self.deadlines.front().map(|&(deadline, _, _)| deadline);
        deadline.into_iter().chain(self.reads.pause_ends()).fold(self.next_sync, Monotonic::min)
    }

    /// Answers those who have waited too long, and starts a sync where it is time for one.
    pub fn handle_deadline(&mut self, now: Now) {
        let mut never_left = false;
        while let Some(&(deadline, key, serial)) = self.deadlines.front() {
            let entry =
                self.entries.get_mut(key).filter(|entry| entry.serial == serial && entry.client.is_some());
            if entry.is_some() && deadline > now.monotonic {
                break;
            }
            self.deadlines.pop_front();
            match entry {
                None => {}
                Some(entry) if entry.sent => self.give_up_waiting(key),
                Some(entry) => {
                    entry.overdue = true;
                    never_left = true;
                }
            }
        }
        if never_left {
            self.give_up_sending();
        }
        if now.monotonic >= self.next_sync {
            self.next_sync = now.monotonic.plus_ms(limits::SYNC_INTERVAL_MS);
            self.sync(now.monotonic);
        }
        self.end_pauses(now.monotonic);
    }

    /// An entry that was sent and not answered in time.
    fn give_up_waiting(&mut self, key: usize) {
        let entry = &mut self.entries[key];
        if let Errand::Reserve { made_here: true, .. } = entry.errand {
            // Its client learns the id now and could ask with it, while it is to be cancelled.
            entry.marked = self.lines[entry.line.0 as usize].board.begin(&entry.id);
        }
        let refusal = self.entries[key].errand.refusal_when_lost();
        self.resolve(key, Outcome::Refused(refusal));
    }

    /// Ends the overdue entries that never left. Only lines with something to send can have any.
    fn give_up_sending(&mut self) {
        for index in 0..self.dirty.len() {
            let line = self.dirty[index].0 as usize;
            for operation in OPERATIONS {
                let forming = std::mem::take(&mut self.lines[line].forming[operation as usize]);
                let (overdue, kept): (Vec<_>, Vec<_>) =
                    forming.into_iter().partition(|&key| self.entries[key].overdue);
                self.lines[line].forming[operation as usize] = kept;
                for key in overdue {
                    self.finish(key, Outcome::Refused(Refusal::LedgerUnavailable));
                }
            }
        }
    }

    /// Sends what has gathered: called once at the end of each loop turn, after all sockets were drained.
    pub fn end_turn(&mut self, now: Now) {
        self.refresh_lines();
        let silent = self.ledger_is_silent(now.monotonic);
        if std::mem::replace(&mut self.silent, silent) != silent {
            self.tell_of_silence(silent);
            self.board.set_silent(self.core, silent);
        }
        if !self.ledger_up {
            return;
        }
        for index in 0..self.dirty.len() {
            self.compare_history(self.dirty[index]);
        }
        self.put_back(now.monotonic);
        let mut held_back = 0;
        for index in 0..self.dirty.len() {
            let line = self.dirty[index];
            let busy = self.lines[line.0 as usize].calls_in_flight >= limits::CALLS_IN_FLIGHT_MAX;
            if busy || !self.trusts(line) {
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
        let seen = self.seen(line);
        for &key in &entries {
            self.entries[key].sent = true;
        }
        let each = entries.iter().map(|&key| &self.entries[key]);
        let op = match operation {
            Operation::Reserve => BookingOp::Reserve(each.map(Entry::claim).collect()),
            Operation::Confirm => BookingOp::Confirm(each.map(|entry| entry.id).collect()),
            Operation::Amend => BookingOp::Amend(each.map(Entry::amendment).collect()),
            Operation::Cancel => BookingOp::Cancel(each.map(Entry::cancel).collect()),
            Operation::LookUp => {
                let look_up = SaleOp::LookUp(each.map(|entry| entry.id).collect());
                return self.send_entries(line, operation, entries, look_up.on(sale), now);
            }
        };
        self.send_entries(line, operation, entries, op.on(sale, seen), now);
    }

    fn send_entries(
        &mut self,
        line: LineIndex,
        operation: Operation,
        entries: Vec<usize>,
        call: Call,
        now: Monotonic,
    ) {
        self.lines[line.0 as usize].calls_in_flight += 1;
        self.send(Sent::Batch { line, operation, entries }, call, now);
    }

    /// Returns its serial.
    fn send(&mut self, sent: Sent, call: Call, now: Monotonic) -> u64 {
        let serial = self.serial();
        let key = self.in_flight.insert(InFlight { sent, since: now, serial });
        self.in_flight_order.push_back((key, serial));
        self.outgoing.push_back((CallId(key as u64), call));
        serial
    }

    /// The next call to carry to the ledger.
    pub fn poll_call(&mut self) -> Option<(CallId, Call)> {
        self.outgoing.pop_front()
    }

    /// The next request that came to its end.
    pub fn poll_resolved(&mut self) -> Option<Resolved<C>> {
        self.resolved.pop_front()
    }
}

impl<C> Drop for Desk<C> {
    /// A host that stops with entries on the way gives their permits back: they die with its board, or serve the
    /// sibling cores that still run.
    fn drop(&mut self) {
        for entry in self.entries.drain() {
            let board = &self.lines[entry.line.0 as usize].board;
            if entry.marked {
                board.end(&entry.id);
            }
            if let Errand::Reserve { permits, .. } = entry.errand {
                board.settle(permits, Settlement::Returned);
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

    fn cancel(&self) -> Cancel {
        Cancel { id: self.id, tombstone: matches!(self.errand, Errand::Cancel { tombstone: true, .. }) }
    }

    fn amendment(&self) -> (BookingId, Amendment) {
        match self.errand {
            Errand::Amend(amendment) => (self.id, amendment),
            _ => unreachable!("only amendments travel in an amend call"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
