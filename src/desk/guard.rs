//! The rollback guard: puts what this core acknowledged back into a ledger that has forgotten it, before this core books
//! anything else there.
//!
//! A core trusts one history of a sale: the lineage that the ledger reported once this core had put back all that it
//! remembers. It stops trusting it on a new connection, and when a reading reports another lineage, or less than was seen.
//! Then it offers what it remembers by [`BookingOp::Restore`](crate::protocol::BookingOp::Restore), which changes nothing
//! if all of it stands, and sends no other call of the sale until that is answered. Each call that books carries what this
//! host has seen ([`Watermark`]), so that the ledger itself notices that it has forgotten something, before it books for
//! anyone.
//!
//! It owns what is remembered and which histories are trusted. It sends nothing itself: the desk carries its
//! [offers](Offer) and reports what became of them.

use std::collections::{BTreeMap, BTreeSet};

use super::lanes::{LaneIndex, Lanes, PerLane};
use super::memory::Memory;
use super::reach::Reach;
use crate::booking::{Booking, BookingStatus, Outcome, Quantity, SaleName, SaleState};
use crate::clock::Monotonic;
use crate::limits::{ENTRIES_PER_CALL_MAX, RESTORE_RETRY_MS};
use crate::protocol::{Restoration, Watermark};
use crate::stock::SaleBoard;

/// When the sale was opened, and which of its histories it is.
type History = (u64, u64);

fn history_of(state: &SaleState) -> History {
    (state.opened, state.lineage)
}

/// How one core stands to the history of one sale.
#[derive(Debug)]
enum Trust {
    /// What is remembered is to be offered at the end of the turn.
    Due,
    /// It was offered, and not all of it is answered.
    Verifying(Verification),
    /// It was offered, and not all of it could be taken: not again before that time.
    Failed { retry_at: Monotonic },
    /// This history has all that this core remembers.
    Verified(History),
}

/// Offers of a sale in flight.
#[derive(Debug, Default)]
struct Verification {
    /// Those that are not answered yet.
    pending: usize,
    /// What the others were answered from.
    found: AnsweredFrom,
    /// One of them failed.
    has_failed: bool,
    /// Once they are answered, all is to be offered anew.
    is_due_again: bool,
}

/// Which history offers were answered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum AnsweredFrom {
    /// None was answered yet.
    #[default]
    Nothing,
    /// All of them from this one.
    One(History),
    /// What was answered from the older of two may be forgotten by now.
    Torn,
}

/// What the guard keeps of one sale.
#[derive(Debug)]
struct GuardedLane {
    trust: Trust,
    /// The ledger must be asked even if nothing is remembered: a reading has shown that it has forgotten something.
    alarm: bool,
}

impl GuardedLane {
    /// The history that has all that this core remembers.
    fn verified(&self) -> Option<History> {
        match self.trust {
            Trust::Verified(history) => Some(history),
            Trust::Due | Trust::Verifying(_) | Trust::Failed { .. } => None,
        }
    }
}

/// What one call offers to the ledger.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) lane: LaneIndex,
    /// When the sale was opened to which they belong.
    pub(super) opened: u64,
    /// The watermark that the call carries.
    pub(super) seen: Watermark,
    pub(super) bookings: Vec<Booking>,
}

/// What the guard has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardCounts {
    /// Bookings put back.
    pub put_back: u64,
    /// Acknowledged bookings that the ledger forgot and that could not be put back.
    pub lost: u64,
}

/// See the [module](self).
pub(super) struct Guard {
    lanes: PerLane<GuardedLane>,
    /// What clients were told.
    memory: Memory,
    /// Lanes that are due, now or once their offers in flight are answered.
    due: Vec<LaneIndex>,
    /// Lanes that failed; and some that have done so.
    failed: BTreeSet<LaneIndex>,
    counts: GuardCounts,
}

impl Guard {
    pub(super) fn new() -> Guard {
        Guard {
            lanes: PerLane::default(),
            memory: Memory::new(),
            due: Vec::new(),
            failed: BTreeSet::new(),
            counts: GuardCounts::default(),
        }
    }

    /// A new lane: what is remembered of it must be offered first.
    pub(super) fn add_lane(&mut self) {
        let lane = self.lanes.add(GuardedLane { trust: Trust::Due, alarm: false });
        self.due.push(lane);
    }

    /// See [`GuardCounts`].
    pub(super) fn counts(&self) -> GuardCounts {
        self.counts
    }

    /// Whether this core may ask the ledger to change something of that sale.
    pub(super) fn trusts(&self, lane: LaneIndex) -> bool {
        self.lanes[lane].verified().is_some()
    }

    /// The watermark of calls that book, if the host has `seen` that.
    pub(super) fn watermark(&self, lane: LaneIndex, seen: Watermark) -> Watermark {
        match self.lanes[lane].verified() {
            // Another core has just learnt of another history.
            Some((opened, lineage)) if (opened, lineage) != (seen.opened, seen.lineage) => {
                Watermark { opened, lineage, sequence: 0 }
            }
            _ => seen,
        }
    }

    /// Makes sure that what this core remembers of a sale is offered to the ledger before anything else of it is sent.
    pub(super) fn distrust(&mut self, lane: LaneIndex) {
        let was_due = match &mut self.lanes[lane].trust {
            Trust::Verifying(verification) => std::mem::replace(&mut verification.is_due_again, true),
            trust => matches!(std::mem::replace(trust, Trust::Due), Trust::Due),
        };
        if !was_due {
            self.due.push(lane);
        }
    }

    /// Distrusts a sale if another core, which has `seen` that, knows more of its history.
    pub(super) fn compare_history(&mut self, lane: LaneIndex, seen: Watermark) {
        if self.lanes[lane].verified().is_some_and(|verified| verified != (seen.opened, seen.lineage)) {
            self.distrust(lane);
        }
    }

    /// At each sync, looks at the sales that nobody asks for.
    pub(super) fn watch(&mut self, lanes: &Lanes, reach: &Reach, now: Monotonic) {
        let (mut from, mut is_offered) = (0, true);
        while let Some(lane) = self.memory.next_known(from) {
            from = lane.0 as usize + 1;
            self.compare_history(lane, lanes[lane].board.seen());
            is_offered &= self.trusts(lane);
        }
        // What is yet to be offered may be older than the time for which the ledger was away.
        if reach.is_all_up() && is_offered {
            self.memory.forget_before(now);
        }
        for lane in std::mem::take(&mut self.failed) {
            let Trust::Failed { retry_at } = self.lanes[lane].trust else { continue };
            // Nothing can be put back into a missing sale.
            match now >= retry_at && !lanes[lane].is_out_of_order() {
                true => self.distrust(lane),
                false => drop(self.failed.insert(lane)),
            }
        }
    }

    /// Compares a reading with the history that this core trusts; must be called before the board learns of it.
    pub(super) fn judge_reading(&mut self, lane: LaneIndex, board: &SaleBoard, state: &SaleState) {
        let seen = board.seen();
        // Sequences and clock rise together: less at a later time is proof. Less at an earlier one is a late reading.
        let is_less = seen.is_ahead_of(state)
            && board.level().is_some_and(|known| state.now > known.now && known.sequence == seen.sequence);
        if is_less {
            self.lanes[lane].alarm = true;
            self.distrust(lane);
        }
    }

    /// Distrusts if an answer on this core's own connection is of another history. Such answers never come late.
    pub(super) fn judge_answer(&mut self, lane: LaneIndex, state: &SaleState) {
        if self.lanes[lane].verified().is_some_and(|verified| verified != history_of(state)) {
            self.distrust(lane);
        }
    }

    /// Whether that state allows the answer "there is no such booking": not while bookings are yet to be put back.
    pub(super) fn is_complete(&self, lane: LaneIndex, state: &SaleState) -> bool {
        !state.is_frozen() && self.lanes[lane].verified() == Some(history_of(state))
    }

    /// Offers what is remembered of the sales that are due and can be asked; those of which nothing is remembered are
    /// trusted at once. Offers are in flight from now on.
    pub(super) fn take_offers(&mut self, lanes: &Lanes, reach: &Reach) -> Vec<Offer> {
        let mut offers = Vec::new();
        if self.due.is_empty() {
            return offers;
        }
        let mut asked = Vec::new();
        for lane in std::mem::take(&mut self.due) {
            let guarded = &mut self.lanes[lane];
            if matches!(guarded.trust, Trust::Verifying(_)) || !reach.is_up(lanes[lane].slot) {
                self.due.push(lane);
            } else if self.memory.knows(lane) || guarded.alarm {
                asked.push(lane);
            } else {
                let seen = lanes[lane].board.seen();
                guarded.trust = Trust::Verified((seen.opened, seen.lineage));
            }
        }
        for (lane, told) in self.memory.latest(&asked) {
            let seen = lanes[lane].board.seen();
            let mut verification = Verification::default();
            // For each sale that had this name: the ledger knows best which of them it has now.
            let mut of_sale: BTreeMap<u64, Vec<Booking>> = BTreeMap::new();
            for (opened, booking) in told {
                of_sale.entry(opened).or_default().push(booking);
            }
            of_sale.entry(seen.opened).or_default();
            for (opened, mut bookings) in of_sale {
                let seen = match opened == seen.opened {
                    true => seen,
                    false => Watermark { opened, lineage: opened, sequence: 0 },
                };
                for _ in 0..bookings.len().div_ceil(ENTRIES_PER_CALL_MAX).max(1) {
                    let rest = bookings.split_off(bookings.len().min(ENTRIES_PER_CALL_MAX));
                    let offered = std::mem::replace(&mut bookings, rest);
                    verification.pending += 1;
                    offers.push(Offer { lane, opened, seen, bookings: offered });
                }
            }
            self.lanes[lane].trust = Trust::Verifying(verification);
        }
        offers
    }

    /// An offer was answered by a ledger in that state; or it failed, and is repeated later.
    pub(super) fn note_answered(&mut self, lane: LaneIndex, found: Option<&SaleState>, now: Monotonic) {
        let guarded = &mut self.lanes[lane];
        let Trust::Verifying(verification) = &mut guarded.trust else {
            unreachable!("an offer that was never made is answered")
        };
        verification.pending -= 1;
        match found.map(history_of) {
            Some(history) => {
                verification.found = match verification.found {
                    AnsweredFrom::Nothing => AnsweredFrom::One(history),
                    AnsweredFrom::One(before) if before == history => AnsweredFrom::One(history),
                    AnsweredFrom::One(_) | AnsweredFrom::Torn => AnsweredFrom::Torn,
                }
            }
            None => verification.has_failed = true,
        }
        let Verification { pending, found, has_failed, is_due_again } = *verification;
        if pending > 0 {
            return;
        }
        match found {
            // It is in the list of those.
            _ if is_due_again => guarded.trust = Trust::Due,
            _ if has_failed => {
                guarded.trust = Trust::Failed { retry_at: now.plus_ms(RESTORE_RETRY_MS) };
                self.failed.insert(lane);
            }
            AnsweredFrom::One(history) => {
                guarded.trust = Trust::Verified(history);
                // Only now: an offer that was not answered must be repeated, even if there is nothing to put back.
                guarded.alarm = false;
            }
            AnsweredFrom::Nothing | AnsweredFrom::Torn => {
                guarded.trust = Trust::Due;
                self.due.push(lane);
            }
        }
    }

    /// Forgets what is too old. Must not be called while any part of the ledger is away.
    pub(super) fn forget_before(&mut self, now: Monotonic) {
        self.memory.forget_before(now);
    }

    /// The sale was removed on purpose, and its bookings with it.
    pub(super) fn forget_removed(&mut self, lane: LaneIndex) {
        self.memory.forget(lane, |_| true);
    }

    /// Logs what became of the bookings that were offered.
    pub(super) fn report(
        &mut self,
        sale: &SaleName,
        lane: LaneIndex,
        offered: &[Booking],
        restorations: &[Restoration],
    ) {
        let mut lost = BTreeSet::new();
        let mut put_back = 0;
        for (booking, restoration) in offered.iter().zip(restorations) {
            match restoration {
                Restoration::Stands => {}
                Restoration::PutBack => put_back += 1,
                Restoration::Lost(cause) => {
                    report_lost(sale, booking, cause.word());
                    lost.insert(booking.id);
                }
            }
        }
        self.counts.put_back += put_back;
        self.counts.lost += lost.len() as u64;
        if put_back > 0 || !lost.is_empty() {
            let lost = lost.len();
            tracing::error!(%sale, put_back, lost, "the ledger had forgotten acknowledged bookings");
        }
        // They were reported.
        self.memory.forget(lane, |id| lost.contains(id));
    }

    /// The ledger has another sale of that name; nothing of the former one belongs in it.
    pub(super) fn leave_behind(
        &mut self,
        sale: &SaleName,
        lane: LaneIndex,
        offered: &[Booking],
        opened: u64,
        state: &SaleState,
    ) {
        let why = match state.opened < opened {
            true => "the ledger has an older sale of this name",
            false => "the ledger lost the sale, and a new one was opened under its name",
        };
        // A cancelled one has nothing to lose.
        let mut lost = 0;
        for booking in offered.iter().filter(|booking| booking.status.holds_stock()) {
            report_lost(sale, booking, why);
            lost += 1;
        }
        self.counts.lost += lost;
        self.memory.forget(lane, |id| offered.iter().any(|booking| booking.id == *id));
    }

    /// Remembers what a client is told by this outcome, of the sale that was `opened` then.
    pub(super) fn remember(
        &mut self,
        lane: LaneIndex,
        outcome: &Outcome,
        is_told: bool,
        opened: u64,
        now: Monotonic,
    ) {
        let barred;
        let booking = match outcome {
            // A tombstone has no quantity: what is put back is a cancelled booking of its id, which is never granted either.
            Outcome::Tombstoned(id) => {
                let (status, quantity) = (BookingStatus::Cancelled, Quantity::ONE);
                barred = Booking { id: *id, status, quantity, released: 0, buyer: None, reassigned: 0 };
                &barred
            }
            // No matter who cancelled it: it must not come back.
            Outcome::Cancelled(booking) => booking,
            Outcome::Granted(booking)
            | Outcome::Replayed(booking)
            | Outcome::Confirmed(booking)
            | Outcome::Extended(booking)
            | Outcome::Released(booking)
            | Outcome::HeldAgain(booking)
                if is_told && booking.status.holds_stock() =>
            {
                booking
            }
            _ => return,
        };
        self.memory.note(lane, opened, booking, now);
    }

    /// Whether anything is remembered of that sale.
    #[cfg(test)]
    pub(super) fn knows(&self, lane: LaneIndex) -> bool {
        self.memory.knows(lane)
    }

    /// Panics if it contradicts itself, or `pending`: the number of offers of a lane that are in flight.
    pub(super) fn check_invariants(&self, pending: impl Fn(LaneIndex) -> usize) {
        for (lane, GuardedLane { trust, .. }) in self.lanes.iter() {
            let (in_flight, is_due) = match trust {
                Trust::Due => (0, true),
                Trust::Verifying(verification) => (verification.pending, verification.is_due_again),
                Trust::Failed { .. } | Trust::Verified(_) => (0, false),
            };
            assert_eq!(in_flight, pending(lane), "offers in flight are counted");
            assert!(!matches!(trust, Trust::Verifying(Verification { pending: 0, .. })), "all is answered");
            assert_eq!(usize::from(is_due), self.due.iter().filter(|due| **due == lane).count());
            assert!(
                !matches!(trust, Trust::Failed { .. }) || self.failed.contains(&lane),
                "it is tried again"
            );
        }
    }
}

fn report_lost(sale: &SaleName, booking: &Booking, why: &str) {
    let Booking { id, status, quantity, buyer, .. } = booking;
    let (status, quantity) = (status.word(), quantity.get());
    let buyer = buyer.as_ref().map_or("", |buyer| buyer.as_str());
    tracing::error!(%sale, booking = %id, status, quantity, buyer, why, "an acknowledged booking is lost: the ledger has \
         forgotten it, and it could not be put back");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::booking::BookingId;
    use crate::clock::WallTime;
    use crate::stock::Board;

    const LANE: LaneIndex = LaneIndex(0);
    const OPENED: u64 = 5;

    fn state(lineage: u64, sequence: u64, now: u64) -> SaleState {
        let now = WallTime(now);
        SaleState { opened: OPENED, lineage, sequence, now, ..SaleState::default() }
    }

    fn confirmed(text: &str) -> Booking {
        Booking {
            id: BookingId::parse(text).unwrap(),
            status: BookingStatus::Confirmed,
            quantity: Quantity::ONE,
            released: 0,
            buyer: None,
            reassigned: 0,
        }
    }

    /// A guard over one lane, which knows of one booking, and the board that has that history.
    fn guard() -> (Guard, Lanes, Arc<SaleBoard>) {
        let board = Board::new(1, 0.0);
        let sale = board.learn(&SaleName::parse("ticket").unwrap(), &state(OPENED, 9, 100)).unwrap();
        let mut lanes = Lanes::new();
        lanes.take_in(&board.directory(), |_| true, |_| true);
        let mut guard = Guard::new();
        guard.add_lane();
        guard.remember(LANE, &Outcome::Granted(confirmed("a")), true, OPENED, Monotonic(0));
        (guard, lanes, sale)
    }

    fn offers(guard: &mut Guard, lanes: &Lanes) -> usize {
        let offers = guard.take_offers(lanes, &Reach::of_all());
        assert!(offers.iter().all(|offer| offer.lane == LANE && offer.opened == OPENED));
        guard.check_invariants(|_| offers.len());
        offers.len()
    }

    #[test]
    fn trusts_a_history_once_what_is_remembered_was_answered_from_it() {
        let (mut guard, lanes, _) = guard();
        assert!(!guard.trusts(LANE));
        assert_eq!(offers(&mut guard, &lanes), 1);
        assert!(!guard.trusts(LANE), "it is being asked");
        guard.note_answered(LANE, Some(&state(OPENED, 9, 101)), Monotonic(0));
        assert!(guard.trusts(LANE) && guard.is_complete(LANE, &state(OPENED, 9, 101)));
        assert_eq!(offers(&mut guard, &lanes), 0);
        // An answer of another history: all of it once more.
        guard.judge_answer(LANE, &state(7, 3, 102));
        assert!(!guard.trusts(LANE));
        assert_eq!(offers(&mut guard, &lanes), 1);
    }

    #[test]
    fn what_failed_is_tried_again_later_and_what_was_torn_at_once() {
        let (mut guard, lanes, _) = guard();
        assert_eq!(offers(&mut guard, &lanes), 1);
        guard.note_answered(LANE, None, Monotonic(0));
        guard.watch(&lanes, &Reach::of_all(), Monotonic(0));
        assert_eq!(offers(&mut guard, &lanes), 0);
        guard.watch(&lanes, &Reach::of_all(), Monotonic(0).plus_ms(RESTORE_RETRY_MS));
        assert_eq!(offers(&mut guard, &lanes), 1);
        guard.note_answered(LANE, Some(&state(OPENED, 9, 101)), Monotonic(0));
        // Beside so much more that it takes two calls, of which each is answered from another history.
        for n in 0..ENTRIES_PER_CALL_MAX {
            let told = Outcome::Granted(confirmed(&format!("b-{n}")));
            guard.remember(LANE, &told, true, OPENED, Monotonic(0));
        }
        guard.distrust(LANE);
        assert_eq!(offers(&mut guard, &lanes), 2);
        for lineage in [OPENED, 7] {
            guard.note_answered(LANE, Some(&state(lineage, 9, 101)), Monotonic(0));
        }
        assert!(!guard.trusts(LANE));
        assert_eq!(offers(&mut guard, &lanes), 2);
    }

    #[test]
    fn less_at_a_later_time_is_proof_though_nothing_is_remembered() {
        let (mut guard, lanes, sale) = guard();
        guard.forget_removed(LANE);
        assert_eq!(offers(&mut guard, &lanes), 0);
        assert!(guard.trusts(LANE));
        guard.judge_reading(LANE, &sale, &state(OPENED, 8, 99));
        assert!(guard.trusts(LANE), "a late reading");
        guard.judge_reading(LANE, &sale, &state(OPENED, 8, 101));
        assert!(!guard.trusts(LANE));
        assert_eq!(offers(&mut guard, &lanes), 1);
    }

    #[test]
    fn carries_no_sequence_of_a_history_that_it_does_not_trust_yet() {
        let (mut guard, lanes, sale) = guard();
        guard.forget_removed(LANE);
        offers(&mut guard, &lanes);
        assert_eq!(guard.watermark(LANE, sale.seen()), sale.seen());
        let other = Watermark { opened: OPENED, lineage: 7, sequence: 4 };
        let own = Watermark { opened: OPENED, lineage: OPENED, sequence: 0 };
        assert_eq!(guard.watermark(LANE, other), own);
        guard.compare_history(LANE, other);
        assert!(!guard.trusts(LANE));
    }
}
