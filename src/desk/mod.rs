//! The booking desk of one core: checks requests against the permits, gathers them into batches, and turns the ledger's
//! answers into outcomes.
//!
//! It owns every request that waits for the ledger and every permit those hold. It does no I/O and reads no clock; the
//! engine hands it requests and answers, and takes [calls](Desk::poll_call) and [outcomes](Desk::poll_resolved) from it.
//! `C` is the address of a waiting client, opaque to the desk.
//!
//! It is made of parts, each with its own state: [lanes] (what one call covers), [admission] (what is refused from memory),
//! [standing] (what waits for a permit), [batches] (what waits and gathers), [calls] (what is in flight), the [sync] with its
//! [feed] and [reads] (what is learnt without being asked), the [beats] (what hosts know of each other), the rollback
//! [guard], [losses] and [orphans]. The desk itself passes on between them what an answer means. Its [reach] says which
//! parts of the ledger can be asked; lanes of the other parts wait.
//!
//! **Batching is group commit.** Entries of one sale gather while the core drains its sockets; [`Desk::end_turn`] sends
//! them as one call per operation, unless that sale has a burst in flight: then they keep gathering until it is answered.
//! An idle desk adds no delay, a loaded one makes few, large calls.
//!
//! **Every client gets an answer, and a true one.** At its deadline it is told that nothing happened
//! ([`Refusal::LedgerUnavailable`], if its entry never left) or that nobody knows ([`Refusal::OutcomeUnknown`]). An entry
//! that was sent stays here, without its client, until the ledger answers. If the server generated the id, nobody can ask
//! for that booking again, so it is then cancelled, with a tombstone against a late first try.

mod admission;
mod answers;
mod batches;
mod beats;
mod calls;
mod check;
mod feed;
mod guard;
mod lanes;
mod losses;
mod memory;
mod notices;
mod orphans;
mod reach;
mod reads;
mod standing;
mod sync;

use std::sync::Arc;

use crate::booking::{BookingId, Outcome, Refusal, SaleName};
use crate::clock::{Monotonic, Now};
use crate::limits;
use crate::protocol::{BookingOp, Call, CallId, DirectoryShard, Slot, SlotRange};
use crate::stock::{Board, CoreIndex, SaleBoard, Settlement};
use batches::{Batches, CALL_KINDS, EntryKind, Overdue};
use beats::Beats;
use calls::{Calls, PendingCall};
use guard::{Guard, Offer};
use lanes::{Lane, Lanes};
use losses::Losses;
use notices::Notices;
use orphans::{Orphan, Orphans};
use reach::Reach;
use sync::SyncRound;

pub use admission::{Admitted, BookingAction, BookingRequest};
pub use batches::Resolved;
pub use guard::GuardCounts;
pub use lanes::LaneIndex;

/// The booking desk of one core; the head of its module says what it does.
pub struct Desk<C> {
    core: CoreIndex,
    board: Arc<Board>,
    lanes: Lanes,
    batches: Batches<C>,
    calls: Calls,
    sync: SyncRound,
    guard: Guard,
    losses: Losses,
    orphans: Orphans,
    notices: Notices,
    reach: Reach,
    ledger_timeout_ms: u64,
    /// What the board was told last.
    silent: bool,
    beats: Beats,
    /// When those that stand are looked at without an answer of the ledger.
    next_look_at: Monotonic,
    /// Bookings granted, and requests for bookings refused, since the start.
    granted: u64,
    refused: u64,
}

impl<C> Desk<C> {
    /// A desk for `core` of the board; all of the ledger counts as down until [`Desk::handle_ledger_up`].
    pub fn new(core: CoreIndex, board: Arc<Board>, ledger_timeout_ms: u64, now: Now) -> Desk<C> {
        Desk {
            core,
            board,
            lanes: Lanes::new(),
            batches: Batches::new(ledger_timeout_ms),
            calls: Calls::default(),
            sync: SyncRound::new(now.monotonic),
            guard: Guard::new(),
            losses: Losses::default(),
            orphans: Orphans::default(),
            notices: Notices::default(),
            reach: Reach::new(now.monotonic),
            ledger_timeout_ms,
            silent: false,
            beats: Beats::default(),
            next_look_at: Monotonic(0),
            granted: 0,
            refused: 0,
        }
    }

    /// The lane of the sale of that name, or `None` if neither this host nor its last sync knows it.
    pub fn lane(&self, sale: &str) -> Option<LaneIndex> {
        self.lanes.find(sale)
    }

    /// The permits and the last known level of a sale.
    pub fn sale(&self, lane: LaneIndex) -> &SaleBoard {
        &self.lanes[lane].board
    }

    /// Requests that wait for the ledger or for a permit, including those without a client; not those that wait for a lost
    /// sale to come back.
    pub fn waiting(&self) -> usize {
        self.batches.len() + self.orphans.due()
    }

    /// Of those, how many wait for a permit that other hosts have.
    pub fn standing(&self) -> usize {
        self.batches.standing()
    }

    /// Cancels a booking that was granted under a generated id, and that its client will never hear of.
    pub fn cancel_unheard(&mut self, lane: LaneIndex, id: BookingId, now: Now) {
        let marked = self.lanes[lane].board.begin(&id);
        self.cancel_orphan(Orphan { lane, id, marked }, now.monotonic);
    }

    /// See [`GuardCounts`].
    pub fn guard_counts(&self) -> GuardCounts {
        self.guard.counts()
    }

    /// Whether a sale of that name, unknown here, may have been opened while this desk could not learn of it, neither from the
    /// feed nor by reading it.
    pub fn may_have_missed(&self, sale: &SaleName, now: Now) -> bool {
        // Where the ledger is a Cluster its name may be on another node than the sale.
        let slots = [Slot::DIRECTORY, Slot::of(sale), DirectoryShard::of(sale).slot()];
        slots.iter().any(|&slot| self.is_cut_off(slot, now))
    }

    /// Whether that part of the ledger has been away for so long that no request waits for it.
    fn is_cut_off(&self, slot: Slot, now: Now) -> bool {
        self.reach
            .down_since(slot)
            .is_some_and(|since| now.monotonic >= since.plus_ms(self.ledger_timeout_ms))
    }

    /// Whether all of the ledger is up.
    pub fn reaches_all(&self) -> bool {
        self.reach.is_all_up()
    }

    /// Whether any part of the ledger leaves calls unanswered.
    fn ledger_is_silent(&self, now: Monotonic) -> bool {
        let is_slow = |since: Monotonic| now >= since.plus_ms(limits::LEDGER_SLOW_MS);
        !self.reach.is_all_up() || self.calls.oldest().is_some_and(is_slow)
    }

    /// That part of the ledger is up: what has gathered may leave.
    pub fn handle_ledger_up(&mut self, slots: SlotRange) {
        self.reach.note_up(slots);
        for lane in self.lanes.within(slots) {
            self.guard.distrust(lane);
        }
        match slots.contains(Slot::DIRECTORY) {
            true => {
                self.beats.hasten();
                self.begin_feed();
            }
            false => self.read_within(slots),
        }
    }

    /// That part of the ledger is down. Calls stay in flight: they are sent again once it is up.
    pub fn handle_ledger_down(&mut self, slots: SlotRange, now: Now) {
        if self.reach.is_all_up() {
            self.guard.forget_before(now.monotonic);
        }
        for lane in self.lanes.within(slots) {
            let Lane { board, is_read_here, slot, .. } = &self.lanes[lane];
            // The ledger that comes back may have forgotten something: its logs are read from the start.
            if *is_read_here && self.reach.is_up(*slot) {
                board.forget_log();
            }
        }
        self.reach.note_down(slots, now.monotonic);
    }

    /// When [`Desk::handle_deadline`] wants to be called.
    pub fn next_deadline(&self) -> Monotonic {
        let look = (self.batches.standing() > 0).then_some(self.next_look_at);
        let others = self.batches.next_deadline().into_iter().chain(look);
        others.fold(self.sync.next_deadline(), Monotonic::min)
    }

    /// Answers requests that have waited too long, and starts a sync if it is time for one.
    pub fn handle_deadline(&mut self, now: Now) {
        let Overdue { sent, unsent } = self.batches.take_overdue(now.monotonic);
        for key in sent {
            self.give_up_waiting(key);
        }
        for key in unsent {
            let kind = &self.batches[key].kind;
            let refusal = self.refusal_of_standing(kind, now.monotonic).unwrap_or(Refusal::LedgerUnavailable);
            self.finish(key, Outcome::Refused(refusal));
        }
        if self.sync.begins(now.monotonic) {
            self.sync(now.monotonic);
            self.beat(now);
        }
        self.end_pauses(now.monotonic);
    }

    /// An entry that was sent and not answered in time.
    fn give_up_waiting(&mut self, key: usize) {
        let entry = &mut self.batches[key];
        if entry.kind.is_made_here() {
            // Its client learns the id now and could ask with it, while the booking is to be cancelled.
            entry.marked = self.lanes[entry.lane].board.begin(&entry.id);
        }
        let refusal = entry.kind.refusal_when_lost();
        self.batches.resolve(key, Outcome::Refused(refusal));
    }

    /// Sends what has gathered: called once at the end of each loop turn, after all sockets are drained.
    pub fn end_turn(&mut self, now: Now) {
        self.refresh_lanes();
        self.note_silence(now.monotonic);
        if self.batches.standing() > 0 {
            self.move_standing(now);
        }
        if !self.reach.is_any_up() {
            return;
        }
        for &lane in self.batches.ready() {
            self.guard.compare_history(lane, self.lanes[lane].board.seen());
        }
        self.put_back(now.monotonic);
        let mut ready = self.batches.take_ready();
        ready.retain(|&lane| {
            let is_held_back = self.calls.batches(lane) >= limits::CALLS_IN_FLIGHT_MAX
                || !self.guard.trusts(lane)
                || !self.reach.is_up(self.lanes[lane].slot);
            if !is_held_back {
                self.send_burst(lane, now.monotonic);
            }
            is_held_back
        });
        self.batches.hold_back(ready);
    }

    /// Tells the board, for all cores, whether the ledger leaves calls of this core unanswered.
    fn note_silence(&mut self, now: Monotonic) {
        let silent = self.ledger_is_silent(now);
        if std::mem::replace(&mut self.silent, silent) == silent {
            return;
        }
        match silent {
            true => self.notices.note_silence(!self.reach.is_all_up(), self.board.any_silent()),
            false => self.notices.note_answers(),
        }
        self.board.set_silent(self.core, silent);
    }

    /// Offers what is remembered of the sales whose history is not trusted, and that can be asked.
    fn put_back(&mut self, now: Monotonic) {
        for Offer { lane, opened, seen, bookings: offered } in
            self.guard.take_offers(&self.lanes, &self.reach)
        {
            let call = BookingOp::Restore(offered.clone()).on(*self.lanes[lane].board.name(), seen);
            self.calls.send(PendingCall::Restore { lane, opened, offered }, call, now);
        }
    }

    /// Sends all that has gathered in a lane: a call per kind, or several if there are many entries.
    fn send_burst(&mut self, lane: LaneIndex, now: Monotonic) {
        let sale = *self.lanes[lane].board.name();
        for kind in CALL_KINDS {
            let mut gathered = self.batches.take_gathered(lane, kind);
            while !gathered.is_empty() {
                let rest = gathered.split_off(gathered.len().min(limits::ENTRIES_PER_CALL_MAX));
                let seen = self.guard.watermark(lane, self.lanes[lane].board.seen());
                let call = self.batches.seal(kind, &gathered, sale, seen);
                self.calls.send(PendingCall::Batch { lane, kind, entries: gathered }, call, now);
                gathered = rest;
            }
        }
    }

    /// Adds the sales that the board has learnt of since the last turn.
    pub fn refresh_lanes(&mut self) {
        if self.lanes.are_of(self.board.directory_version()) {
            return;
        }
        let directory = self.board.directory();
        for lane in self.lanes.take_removed(&directory) {
            self.forget_lane(lane);
        }
        let (core, cores) = (self.core, self.board.cores());
        let is_idle = |lane| self.calls.batches(lane) == 0 && self.batches.is_empty(lane);
        let added = self.lanes.take_in(&directory, |sale| sync::reader_of(sale, cores) == core.0, is_idle);
        for lane in added {
            self.batches.add_lane();
            self.calls.add_lane();
            self.guard.add_lane();
            self.notices.add_lane();
            self.sync.add_lane(self.lanes[lane].slot, self.lanes[lane].is_read_here);
        }
    }

    /// The next call to carry to the ledger.
    pub fn poll_call(&mut self) -> Option<(CallId, Call)> {
        self.calls.poll()
    }

    /// The next request that has ended.
    pub fn poll_resolved(&mut self) -> Option<Resolved<C>> {
        self.batches.poll_resolved()
    }
}

impl<C> Drop for Desk<C> {
    /// A host that stops with entries in flight gives their permits back: they end with its board, or serve the cores that
    /// still run.
    fn drop(&mut self) {
        for entry in self.batches.drain() {
            let board = &self.lanes[entry.lane].board;
            if entry.marked {
                board.end(&entry.id);
            }
            if let EntryKind::Reserve { permits, .. } = entry.kind {
                board.settle(permits, Settlement::Returned);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
