//! Which sales a core is to read, and when: what it was told of, what it must look at again, and whose holds end.
//!
//! Each sale is read by one core for all, and is in each of the lists here at most once. At most
//! [`SNAPSHOTS_IN_FLIGHT_MAX`] questions are on the way, and each answer makes room for the next; past
//! [`READS_PER_SYNC_MAX`] of a host the rest waits for the next sync, in its order. A sale of which nothing is to be
//! learnt costs nothing: it waits in no list but that of all, of which a sync takes the next few.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashSet;

use super::LineIndex;
use crate::booking::SaleName;
use crate::clock::Monotonic;
use crate::limits::{
    READS_PER_SWEEP, READS_PER_SYNC_MAX, SLOW_ROUND_MS, SNAPSHOTS_IN_FLIGHT_MAX, SWEEP_PAUSE_MS,
    SYNC_INTERVAL_MS,
};

/// Where one sale is in the lists.
#[derive(Debug, Default)]
pub(super) struct LineReads {
    /// The serial of the question that is on the way.
    pub(super) asked: Option<u64>,
    wanted: bool,
    again: bool,
    due: Option<Monotonic>,
    /// From when on its holds are to be expired instead of it being read.
    expire_from: Option<Monotonic>,
    pausing: bool,
}

/// What to ask next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// How a sale stands that this host does not know; whether its name is in the ledger's list.
    Unknown(SaleName, bool),
    Snapshot(LineIndex),
    /// A sale with holds that are over, or may be.
    Expire(LineIndex),
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Reads {
    /// All that this core reads.
    mine: Vec<LineIndex>,
    /// To be read now.
    wanted: VecDeque<LineIndex>,
    /// To be read at the next sync.
    again: Vec<LineIndex>,
    /// To be read at that time.
    due: BTreeSet<(Monotonic, LineIndex)>,
    /// More holds had ended than one call enters as expired: the next one is sent at that time, between two syncs. All pause
    /// for [`SWEEP_PAUSE_MS`], so that they are in the order of their times.
    pausing: VecDeque<(Monotonic, LineIndex)>,
    /// Names of sales that this host does not know: to be asked for now, and at the next sync.
    unknown: VecDeque<(SaleName, bool)>,
    unknown_again: Vec<(SaleName, bool)>,
    /// Those that wait or are on the way.
    unknown_names: FxHashSet<SaleName>,
    in_flight: usize,
    /// How many reads are left of this sync.
    left: usize,
    /// Where the slow round is, and how much of a step it is owed, in milliseconds times sales.
    round_next: usize,
    round_owed: u64,
}

/// The lines of a desk, as far as this module looks at them.
pub(super) trait Lines {
    fn reads(&mut self, line: LineIndex) -> &mut LineReads;
}

impl Lines for [super::Line] {
    fn reads(&mut self, line: LineIndex) -> &mut LineReads {
        &mut self[line.0 as usize].reads
    }
}

impl Reads {
    /// A sale that this core reads no more: it was removed.
    pub(super) fn forget(&mut self, line: LineIndex, lines: &mut (impl Lines + ?Sized)) {
        self.mine.retain(|mine| *mine != line);
        self.wanted.retain(|wanted| *wanted != line);
        self.again.retain(|again| *again != line);
        self.pausing.retain(|(_, pausing)| *pausing != line);
        self.set_due(line, None, None, lines);
        let reads = lines.reads(line);
        (reads.wanted, reads.again, reads.pausing) = (false, false, false);
    }

    /// A sale that this core reads from now on; soon, since it may have changed since this host learnt of it.
    pub(super) fn add(&mut self, line: LineIndex, lines: &mut (impl Lines + ?Sized)) {
        self.mine.push(line);
        self.again(line, lines);
    }

    /// Reads the sale now.
    pub(super) fn want(&mut self, line: LineIndex, lines: &mut (impl Lines + ?Sized)) {
        if !std::mem::replace(&mut lines.reads(line).wanted, true) {
            self.wanted.push_back(line);
        }
    }

    /// Reads all of them now.
    pub(super) fn want_all(&mut self, lines: &mut (impl Lines + ?Sized)) {
        for index in 0..self.mine.len() {
            self.want(self.mine[index], lines);
        }
    }

    /// Reads the sale at the next sync.
    pub(super) fn again(&mut self, line: LineIndex, lines: &mut (impl Lines + ?Sized)) {
        if !std::mem::replace(&mut lines.reads(line).again, true) {
            self.again.push(line);
        }
    }

    /// Reads the sale after a pause.
    pub(super) fn pause(&mut self, line: LineIndex, now: Monotonic, lines: &mut (impl Lines + ?Sized)) {
        if !std::mem::replace(&mut lines.reads(line).pausing, true) {
            self.pausing.push_back((now.plus_ms(SWEEP_PAUSE_MS), line));
        }
    }

    /// When the first pause is over.
    pub(super) fn pause_ends(&self) -> Option<Monotonic> {
        self.pausing.front().map(|&(ends, _)| ends)
    }

    /// Wants those whose pause is over. Gives whether there are any.
    pub(super) fn end_pauses(&mut self, now: Monotonic, lines: &mut (impl Lines + ?Sized)) -> bool {
        let mut any = false;
        while let Some((_, line)) = self.pausing.pop_front_if(|(ends, _)| *ends <= now) {
            lines.reads(line).pausing = false;
            self.want(line, lines);
            any = true;
        }
        any
    }

    /// The sale was announced as changed, by an answer to a question of that serial.
    pub(super) fn tell(&mut self, line: LineIndex, serial: u64, lines: &mut (impl Lines + ?Sized)) {
        match lines.reads(line).asked {
            // Asked after the announcements were: it knows of the change.
            Some(asked) if asked > serial => {}
            Some(_) => self.again(line, lines),
            None => self.want(line, lines),
        }
    }

    /// Holds end then, and it is to be read then or at `other`, whichever is sooner.
    pub(super) fn set_due(
        &mut self,
        line: LineIndex,
        holds: Option<Monotonic>,
        other: Option<Monotonic>,
        lines: &mut (impl Lines + ?Sized),
    ) {
        let reads = lines.reads(line);
        reads.expire_from = holds;
        let due = holds.into_iter().chain(other).min();
        if due != reads.due {
            if let Some(before) = reads.due.take() {
                self.due.remove(&(before, line));
            }
            if let Some(due) = due {
                self.due.insert((due, line));
            }
            reads.due = due;
        }
    }

    /// Asks how that sale stands, which this host does not know. `named` says that its name is in the ledger's list.
    pub(super) fn ask_for(&mut self, sale: SaleName, named: bool) {
        if self.unknown_names.insert(sale) {
            self.unknown.push_back((sale, named));
        }
    }

    /// A sync begins, on a host of so many cores.
    pub(super) fn begin(&mut self, cores: usize, now: Monotonic, lines: &mut (impl Lines + ?Sized)) {
        self.left = READS_PER_SYNC_MAX.div_ceil(cores);
        self.unknown.extend(self.unknown_again.drain(..));
        for line in std::mem::take(&mut self.again) {
            lines.reads(line).again = false;
            self.want(line, lines);
        }
        while let Some(&(due, line)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            lines.reads(line).due = None;
            self.want(line, lines);
        }
        self.round_owed += self.mine.len() as u64 * SYNC_INTERVAL_MS;
        while self.round_owed >= SLOW_ROUND_MS {
            self.round_owed -= SLOW_ROUND_MS;
            let line = self.mine[self.round_next % self.mine.len()];
            self.round_next = (self.round_next + 1) % self.mine.len();
            self.want(line, lines);
        }
    }

    /// What to ask next, if there is anything and it may be asked. It is on the way from now on:
    /// [`note_asked`](Reads::note_asked).
    pub(super) fn next(&mut self, now: Monotonic, lines: &mut (impl Lines + ?Sized)) -> Option<Question> {
        if self.in_flight >= SNAPSHOTS_IN_FLIGHT_MAX || self.left == 0 {
            return None;
        }
        // Once for each name: they do not keep the others waiting for long.
        if let Some((sale, named)) = self.unknown.pop_front() {
            self.in_flight += 1;
            self.left -= 1;
            return Some(Question::Unknown(sale, named));
        }
        while let Some(line) = self.wanted.pop_front() {
            let reads = lines.reads(line);
            reads.wanted = false;
            // With the ledger silent, one question on the way is enough.
            if reads.asked.is_some() {
                self.again(line, lines);
                continue;
            }
            let expires = reads.expire_from.is_some_and(|from| from <= now);
            let cost = if expires { READS_PER_SWEEP } else { 1 };
            self.in_flight += 1;
            self.left = self.left.saturating_sub(cost);
            return Some(if expires { Question::Expire(line) } else { Question::Snapshot(line) });
        }
        None
    }

    /// The question was sent with that serial.
    pub(super) fn note_asked(&mut self, line: LineIndex, serial: u64, lines: &mut (impl Lines + ?Sized)) {
        lines.reads(line).asked = Some(serial);
    }

    /// It was answered.
    pub(super) fn note_answered(&mut self, line: LineIndex, lines: &mut (impl Lines + ?Sized)) {
        self.in_flight -= 1;
        lines.reads(line).asked = None;
    }

    /// The question about a sale that this host did not know was answered; or not, and is asked again.
    pub(super) fn note_found(&mut self, sale: SaleName, named: bool, is_answered: bool) {
        self.in_flight -= 1;
        match is_answered {
            true => {
                self.unknown_names.remove(&sale);
            }
            false => self.unknown_again.push((sale, named)),
        }
    }

    /// Panics where it contradicts itself or the lines.
    pub(super) fn check_invariants<'a>(
        &self,
        in_flight: usize,
        lines: impl Iterator<Item = (bool, &'a LineReads)>,
    ) {
        assert_eq!(self.in_flight, in_flight, "questions on the way are counted");
        for (index, (is_mine, reads)) in lines.enumerate() {
            let line = LineIndex(index as u32);
            assert_eq!(is_mine, self.mine.contains(&line));
            assert_eq!(reads.wanted, self.wanted.contains(&line));
            assert_eq!(reads.again, self.again.contains(&line));
            assert_eq!(reads.pausing, self.pausing.iter().any(|(_, pausing)| *pausing == line));
            assert_eq!(reads.due, self.due.iter().find(|(_, due)| *due == line).map(|(at, _)| *at));
        }
    }
}
