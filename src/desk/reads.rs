//! Which sales a core must read, and when: those announced as changed, those to look at again, and those whose holds end.
//!
//! Each sale is read by one core for all, and is in each of the lists here at most once. At most
//! [`SNAPSHOTS_IN_FLIGHT_MAX`] questions are in flight, and each answer makes room for the next; beyond
//! [`READS_PER_SYNC_MAX`] per host the rest waits for the next sync, in its order. A sale without news costs nothing: it is
//! only in the list of all sales, of which each sync takes the next few.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashSet;

use super::lanes::{LaneIndex, PerLane};
use super::reach::Reach;
use crate::booking::SaleName;
use crate::clock::Monotonic;
use crate::limits::{
    READS_PER_SWEEP, READS_PER_SYNC_MAX, SLOW_ROUND_MS, SNAPSHOTS_IN_FLIGHT_MAX, SWEEP_PAUSE_MS,
    SYNC_INTERVAL_MS,
};
use crate::protocol::Slot;

/// Where one sale is in the lists.
#[derive(Debug)]
struct ReadPlace {
    slot: Slot,
    /// The serial of the question in flight.
    asked: Option<u64>,
    wanted: bool,
    again: bool,
    due: Option<Monotonic>,
    /// From when on its holds are expired, instead of reading it.
    expire_from: Option<Monotonic>,
    pausing: bool,
}

impl ReadPlace {
    /// In none of them.
    fn new(slot: Slot) -> ReadPlace {
        ReadPlace {
            slot,
            asked: None,
            wanted: false,
            again: false,
            due: None,
            expire_from: None,
            pausing: false,
        }
    }
}

/// What to ask next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// The state of a sale that this host does not know; whether its name is in the ledger's list.
    Unknown(SaleName, bool),
    Snapshot(LaneIndex),
    /// A sale with holds that are over, or may be.
    Expire(LaneIndex),
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Reads {
    places: PerLane<ReadPlace>,
    /// All that this core reads.
    mine: Vec<LaneIndex>,
    /// To be read now.
    wanted: VecDeque<LaneIndex>,
    /// To be read at the next sync.
    again: Vec<LaneIndex>,
    /// To be read at that time.
    due: BTreeSet<(Monotonic, LaneIndex)>,
    /// More holds had ended than one call enters as expired: the next call is sent at that time, between two syncs. All
    /// pauses are [`SWEEP_PAUSE_MS`] long, so that they are in the order of their times.
    pausing: VecDeque<(Monotonic, LaneIndex)>,
    /// Names of sales that this host does not know: to be asked for now, and at the next sync.
    unknown: VecDeque<(SaleName, bool)>,
    unknown_again: Vec<(SaleName, bool)>,
    /// Those that wait or are in flight.
    unknown_names: FxHashSet<SaleName>,
    in_flight: usize,
    /// How many reads are left of this sync.
    left: usize,
    /// Where the slow round is, and how much of a step it is owed, in milliseconds times sales.
    round_next: usize,
    round_owed: u64,
}

impl Reads {
    /// A new lane, of a sale in that slot. If this core reads it, it does so soon, since the sale may have changed since this
    /// host learnt of it.
    pub(super) fn add_lane(&mut self, slot: Slot, is_read_here: bool) {
        let lane = self.places.add(ReadPlace::new(slot));
        if is_read_here {
            self.mine.push(lane);
            self.again(lane);
        }
    }

    /// This core no longer reads the sale: it was removed.
    pub(super) fn forget(&mut self, lane: LaneIndex) {
        self.mine.retain(|mine| *mine != lane);
        self.wanted.retain(|wanted| *wanted != lane);
        self.again.retain(|again| *again != lane);
        self.pausing.retain(|(_, pausing)| *pausing != lane);
        self.set_due(lane, None, None);
        let place = &mut self.places[lane];
        (place.wanted, place.again, place.pausing) = (false, false, false);
    }

    /// Reads the sale now.
    pub(super) fn want(&mut self, lane: LaneIndex) {
        if !std::mem::replace(&mut self.places[lane].wanted, true) {
            self.wanted.push_back(lane);
        }
    }

    /// Reads all of them now.
    pub(super) fn want_all(&mut self) {
        for index in 0..self.mine.len() {
            self.want(self.mine[index]);
        }
    }

    /// Reads the sale at the next sync.
    pub(super) fn again(&mut self, lane: LaneIndex) {
        if !std::mem::replace(&mut self.places[lane].again, true) {
            self.again.push(lane);
        }
    }

    /// Reads the sale after a pause.
    pub(super) fn pause(&mut self, lane: LaneIndex, now: Monotonic) {
        if !std::mem::replace(&mut self.places[lane].pausing, true) {
            self.pausing.push_back((now.plus_ms(SWEEP_PAUSE_MS), lane));
        }
    }

    /// When the first pause is over.
    pub(super) fn pause_ends(&self) -> Option<Monotonic> {
        self.pausing.front().map(|&(ends, _)| ends)
    }

    /// Wants those whose pause is over. Returns whether there are any.
    pub(super) fn end_pauses(&mut self, now: Monotonic) -> bool {
        let mut any = false;
        while let Some((_, lane)) = self.pausing.pop_front_if(|(ends, _)| *ends <= now) {
            self.places[lane].pausing = false;
            self.want(lane);
            any = true;
        }
        any
    }

    /// The sale was announced as changed, by an answer to a question of that serial.
    pub(super) fn tell(&mut self, lane: LaneIndex, serial: u64) {
        match self.places[lane].asked {
            // It was asked after the announcements were read: it knows of the change.
            Some(asked) if asked > serial => {}
            Some(_) => self.again(lane),
            None => self.want(lane),
        }
    }

    /// Its holds end then; it must be read then or at `other`, whichever is sooner.
    pub(super) fn set_due(&mut self, lane: LaneIndex, holds: Option<Monotonic>, other: Option<Monotonic>) {
        let place = &mut self.places[lane];
        place.expire_from = holds;
        let due = holds.into_iter().chain(other).min();
        if due != place.due {
            if let Some(before) = place.due.take() {
                self.due.remove(&(before, lane));
            }
            if let Some(due) = due {
                self.due.insert((due, lane));
            }
            place.due = due;
        }
    }

    /// Asks for the state of a sale that this host does not know. `named` means that its name is in the ledger's list.
    pub(super) fn ask_for(&mut self, sale: SaleName, named: bool) {
        if self.unknown_names.insert(sale) {
            self.unknown.push_back((sale, named));
        }
    }

    /// A sync begins, on a host with that many cores.
    pub(super) fn begin(&mut self, cores: usize, now: Monotonic) {
        self.left = READS_PER_SYNC_MAX.div_ceil(cores);
        self.unknown.extend(self.unknown_again.drain(..));
        for lane in std::mem::take(&mut self.again) {
            self.places[lane].again = false;
            self.want(lane);
        }
        while let Some(&(due, lane)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            self.places[lane].due = None;
            self.want(lane);
        }
        self.round_owed += self.mine.len() as u64 * SYNC_INTERVAL_MS;
        while self.round_owed >= SLOW_ROUND_MS {
            self.round_owed -= SLOW_ROUND_MS;
            let lane = self.mine[self.round_next % self.mine.len()];
            self.round_next = (self.round_next + 1) % self.mine.len();
            self.want(lane);
        }
    }

    /// What to ask next, if there is anything and it may be asked. It is in flight from now on:
    /// [`note_asked`](Reads::note_asked). Sales in a part of the ledger that is down wait for the next sync, so that they
    /// do not use up the questions that may be in flight.
    pub(super) fn next(&mut self, reach: &Reach, now: Monotonic) -> Option<Question> {
        if self.in_flight >= SNAPSHOTS_IN_FLIGHT_MAX || self.left == 0 {
            return None;
        }
        // Each name is asked for once, so they do not keep the others waiting for long.
        while let Some((sale, named)) = self.unknown.pop_front() {
            if !reach.is_up(Slot::of(&sale)) {
                self.unknown_again.push((sale, named));
                continue;
            }
            self.in_flight += 1;
            self.left -= 1;
            return Some(Question::Unknown(sale, named));
        }
        while let Some(lane) = self.wanted.pop_front() {
            let place = &mut self.places[lane];
            place.wanted = false;
            // While the ledger is silent, one question in flight is enough.
            if place.asked.is_some() || !reach.is_up(place.slot) {
                self.again(lane);
                continue;
            }
            let expires = place.expire_from.is_some_and(|from| from <= now);
            let cost = if expires { READS_PER_SWEEP } else { 1 };
            self.in_flight += 1;
            self.left = self.left.saturating_sub(cost);
            return Some(if expires { Question::Expire(lane) } else { Question::Snapshot(lane) });
        }
        None
    }

    /// The question was sent with that serial.
    pub(super) fn note_asked(&mut self, lane: LaneIndex, serial: u64) {
        self.places[lane].asked = Some(serial);
    }

    /// It was answered.
    pub(super) fn note_answered(&mut self, lane: LaneIndex) {
        self.in_flight -= 1;
        self.places[lane].asked = None;
    }

    /// The question about a sale that this host did not know was answered; or it failed, and is repeated.
    pub(super) fn note_found(&mut self, sale: SaleName, named: bool, is_answered: bool) {
        self.in_flight -= 1;
        match is_answered {
            true => {
                self.unknown_names.remove(&sale);
            }
            false => self.unknown_again.push((sale, named)),
        }
    }

    /// Panics if it contradicts itself, or what is in flight: `asked` are the questions about lanes, each with its serial;
    /// `unknown` more are about sales that are not known.
    pub(super) fn check_invariants(&self, asked: &[(LaneIndex, u64)], unknown: usize) {
        assert_eq!(self.in_flight, asked.len() + unknown, "questions on the way are counted");
        for (lane, place) in self.places.iter() {
            let of_lane = asked.iter().find(|(asked, _)| *asked == lane).map(|(_, serial)| *serial);
            assert_eq!(place.asked, of_lane);
            assert_eq!(place.wanted, self.wanted.contains(&lane));
            assert_eq!(place.again, self.again.contains(&lane));
            assert_eq!(place.pausing, self.pausing.iter().any(|(_, pausing)| *pausing == lane));
            assert_eq!(place.due, self.due.iter().find(|(_, due)| *due == lane).map(|(at, _)| *at));
        }
    }

    /// Whether this core reads that lane.
    pub(super) fn has(&self, lane: LaneIndex) -> bool {
        self.mine.contains(&lane)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::protocol::SlotRange;

    fn reads(lanes: u32) -> Reads {
        let mut reads = Reads::default();
        for _ in 0..lanes {
            reads.add_lane(Slot::DIRECTORY, true);
        }
        reads
    }

    /// What is asked until nothing more may be, and answered at once.
    fn asked(reads: &mut Reads, now: Monotonic) -> Vec<Question> {
        let mut questions = Vec::new();
        while let Some(question) = reads.next(&Reach::of_all(), now) {
            if let Question::Snapshot(lane) | Question::Expire(lane) = question {
                let serial = questions.len() as u64;
                reads.note_asked(lane, serial);
                reads.check_invariants(&[(lane, serial)], 0);
                reads.note_answered(lane);
            }
            questions.push(question);
        }
        reads.check_invariants(&[], 0);
        questions
    }

    #[test]
    fn a_lane_is_asked_for_once_a_sync_however_often_it_is_wanted() {
        let mut reads = reads(2);
        let (one, other) = (LaneIndex(0), LaneIndex(1));
        for _ in 0..3 {
            reads.want(other);
            reads.again(one);
        }
        reads.begin(1, Monotonic(0));
        assert_eq!(asked(&mut reads, Monotonic(0)), [Question::Snapshot(other), Question::Snapshot(one)]);
        reads.begin(1, Monotonic(1));
        assert_eq!(asked(&mut reads, Monotonic(1)), []);
    }

    #[test]
    fn holds_that_are_over_are_expired_and_those_that_end_later_wait() {
        let mut reads = reads(1);
        let lane = LaneIndex(0);
        reads.begin(1, Monotonic(0));
        asked(&mut reads, Monotonic(0));
        reads.set_due(lane, Some(Monotonic(5)), Some(Monotonic(3)));
        reads.begin(1, Monotonic(2));
        assert_eq!(asked(&mut reads, Monotonic(2)), []);
        reads.begin(1, Monotonic(3));
        assert_eq!(asked(&mut reads, Monotonic(3)), [Question::Snapshot(lane)]);
        reads.set_due(lane, Some(Monotonic(5)), None);
        reads.begin(1, Monotonic(5));
        assert_eq!(asked(&mut reads, Monotonic(5)), [Question::Expire(lane)]);
    }

    #[test]
    fn what_is_on_the_way_is_asked_for_again_later_and_what_is_forgotten_never() {
        let mut reads = reads(1);
        let lane = LaneIndex(0);
        reads.begin(1, Monotonic(0));
        assert_eq!(reads.next(&Reach::of_all(), Monotonic(0)), Some(Question::Snapshot(lane)));
        reads.note_asked(lane, 7);
        // Announced by an answer to an older question: the one on the way knows of it.
        reads.tell(lane, 6);
        reads.begin(1, Monotonic(1));
        assert_eq!(reads.next(&Reach::of_all(), Monotonic(1)), None);
        reads.tell(lane, 8);
        reads.note_answered(lane);
        reads.begin(1, Monotonic(2));
        assert_eq!(asked(&mut reads, Monotonic(2)), [Question::Snapshot(lane)]);
        reads.again(lane);
        reads.forget(lane);
        reads.begin(1, Monotonic(3));
        assert_eq!(asked(&mut reads, Monotonic(3)), []);
        assert!(!reads.has(lane));
    }

    #[test]
    fn what_cannot_be_asked_waits_and_keeps_nobody_else_waiting() {
        let mut reads = Reads::default();
        let (away, there) = (LaneIndex(0), LaneIndex(1));
        let [sale_away, sale_there] = ["foo", "hello"].map(|name| SaleName::parse(name).unwrap());
        reads.add_lane(Slot::of(&sale_away), true);
        reads.add_lane(Slot::of(&sale_there), true);
        let mut reach = Reach::of_all();
        let first = Slot::of(&sale_away).number();
        reach.note_down(SlotRange::new(first, first).unwrap(), Monotonic(0));
        reads.ask_for(sale_away, true);
        reads.ask_for(sale_there, true);
        reads.begin(1, Monotonic(0));
        assert_eq!(reads.next(&reach, Monotonic(0)), Some(Question::Unknown(sale_there, true)));
        assert_eq!(reads.next(&reach, Monotonic(0)), Some(Question::Snapshot(there)));
        assert_eq!(reads.next(&reach, Monotonic(0)), None);
        reads.note_asked(there, 1);
        reads.check_invariants(&[(there, 1)], 1);
        reads.begin(1, Monotonic(1));
        assert_eq!(reads.next(&Reach::of_all(), Monotonic(1)), Some(Question::Unknown(sale_away, true)));
        assert_eq!(reads.next(&Reach::of_all(), Monotonic(1)), Some(Question::Snapshot(away)));
    }
}
