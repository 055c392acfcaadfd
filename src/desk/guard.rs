//! The rollback guard: what this core acknowledged is put back into a ledger that has forgotten it, before anything else
//! is booked by it.
//!
//! A core trusts one history of a sale: the lineage that the ledger told when this core had put back all that it
//! remembers. It trusts none on a new connection, when a reading tells of another lineage, or of less than was seen; then
//! it offers what it remembers by [`BookingOp::Restore`], which changes nothing where all of it stands, and sends no other
//! call of the sale until that is answered. Each call that books carries what this host has [`Watermark`], so that the ledger
//! itself notices, before it books for anyone, that it has forgotten something.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desk, Line, LineIndex, Sent};
use crate::booking::{Booking, BookingStatus, Outcome, Quantity, SaleName, SaleState};
use crate::clock::{Monotonic, Now, WallTime};
use crate::limits::{ENTRIES_PER_CALL_MAX, RESTORE_RETRY_MS};
use crate::protocol::{Answer, BookingOp, CallError, Restoration, SaleResult, Watermark};

/// When the sale was opened, and which of its histories it is.
type History = (u64, u64);

fn history_of(state: &SaleState) -> History {
    (state.opened, state.lineage)
}

/// How one core stands to the history of one sale.
#[derive(Default)]
pub(super) struct Guard {
    /// The history that has all that this core remembers.
    trusted: Option<History>,
    /// It is to be asked at the end of the turn.
    due: bool,
    /// Also where there is nothing to put back: a reading has shown that something is forgotten.
    alarm: bool,
    /// Calls on the way.
    pending: usize,
    /// The history that they were answered from, so far.
    found: Option<History>,
    /// They were answered from two.
    torn: bool,
    /// One of them failed.
    failed: bool,
    /// Since one failed: not again before.
    retry_at: Monotonic,
    /// It is among those to be tried again.
    listed: bool,
}

impl Guard {
    /// Of a sale that this core has just heard of.
    pub(super) fn due() -> Guard {
        Guard { due: true, ..Guard::default() }
    }

    /// Calls on the way.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }
}

/// What the guard has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardCounts {
    /// Bookings put back.
    pub put_back: u64,
    /// Acknowledged bookings that the ledger forgot and that could not be put back.
    pub lost: u64,
}

impl<C> Desk<C> {
    /// See [`GuardCounts`].
    pub fn guard_counts(&self) -> GuardCounts {
        self.guard_counts
    }

    /// Whether this core may ask the ledger to change something of that sale.
    pub(super) fn trusts(&self, line: LineIndex) -> bool {
        self.lines[line.0 as usize].guard.trusted.is_some()
    }

    /// What calls that book are to carry.
    pub(super) fn seen(&self, line: LineIndex) -> Watermark {
        let line = &self.lines[line.0 as usize];
        let seen = line.board.seen();
        match line.guard.trusted {
            // Another core has just learnt of another history.
            Some((opened, lineage)) if (opened, lineage) != (seen.opened, seen.lineage) => {
                Watermark { opened, lineage, sequence: 0 }
            }
            _ => seen,
        }
    }

    /// Has what this core remembers of a sale offered to the ledger before anything else of it.
    pub(super) fn distrust(&mut self, line: LineIndex, alarm: bool) {
        let guard = &mut self.lines[line.0 as usize].guard;
        guard.trusted = None;
        guard.alarm |= alarm;
        if !std::mem::replace(&mut guard.due, true) {
            self.distrusted.push(line);
        }
    }

    /// On a new connection nothing is known of the ledger at its other end.
    pub(super) fn distrust_all(&mut self) {
        for index in 0..self.lines.len() {
            self.distrust(LineIndex(index as u32), false);
        }
    }

    /// Distrusts a sale of whose history another core knows more.
    pub(super) fn compare_history(&mut self, line: LineIndex) {
        let entry = &self.lines[line.0 as usize];
        let seen = entry.board.seen();
        if entry.guard.trusted.is_some_and(|trusted| trusted != (seen.opened, seen.lineage)) {
            self.distrust(line, false);
        }
    }

    /// Looks, at each sync, at the sales that nobody asks for.
    pub(super) fn watch_histories(&mut self, now: Monotonic) {
        self.memory.forget_before(now);
        let mut from = 0;
        while let Some(line) = self.memory.next_known(from) {
            from = line.0 as usize + 1;
            self.compare_history(line);
        }
        for line in std::mem::take(&mut self.untrusted) {
            let Line { guard, board, .. } = &mut self.lines[line.0 as usize];
            let is_idle = guard.trusted.is_none() && guard.pending == 0 && !guard.due;
            // Into a sale that is missing nothing can be put.
            let is_time = now >= guard.retry_at && !board.gate(WallTime(0)).is_out_of_order();
            guard.listed = is_idle && !is_time;
            if guard.listed {
                self.untrusted.push(line);
            } else if is_idle {
                self.distrust(line, false);
            }
        }
    }

    /// What a reading says of the history that this core trusts; to be asked before the board learns of it.
    pub(super) fn judge_reading(&mut self, line: LineIndex, state: &SaleState) {
        let entry = &self.lines[line.0 as usize];
        let seen = entry.board.seen();
        // Sequences and clock rise together: less at a later time is proof. Less at an earlier one is a late reading.
        let less = seen.is_ahead_of(state)
            && entry
                .board
                .level()
                .is_some_and(|known| state.now > known.now && known.sequence == seen.sequence);
        if less {
            self.distrust(line, true);
        }
    }

    /// Distrusts where an answer on this core's own connection is of another history. Those never come late.
    pub(super) fn judge_answer(&mut self, line: LineIndex, state: &SaleState) {
        let trusted = self.lines[line.0 as usize].guard.trusted;
        if trusted.is_some_and(|trusted| trusted != history_of(state)) {
            self.distrust(line, false);
        }
    }

    /// Whether "there is no such booking" may be said by that state: not where bookings are yet to be put back.
    pub(super) fn is_complete(&self, line: LineIndex, state: &SaleState) -> bool {
        let trusted = self.lines[line.0 as usize].guard.trusted;
        !state.is_frozen() && trusted == Some(history_of(state))
    }

    /// Offers what is remembered of the sales that are due; those of which there is nothing are trusted at once.
    pub(super) fn put_back(&mut self, now: Monotonic) {
        if self.distrusted.is_empty() {
            return;
        }
        let mut asked = Vec::new();
        for line in std::mem::take(&mut self.distrusted) {
            let knows = self.memory.knows(line);
            let Line { guard, board, .. } = &mut self.lines[line.0 as usize];
            if guard.pending > 0 {
                self.distrusted.push(line);
                continue;
            }
            guard.due = false;
            if knows || guard.alarm {
                asked.push(line);
            } else {
                let seen = board.seen();
                guard.trusted = Some((seen.opened, seen.lineage));
            }
        }
        for (line, told) in self.memory.latest(&asked) {
            let Line { guard, board, .. } = &mut self.lines[line.0 as usize];
            let (sale, seen) = (*board.name(), board.seen());
            (guard.found, guard.torn, guard.failed) = (None, false, false);
            // Of each sale that had this name: which of them the ledger has now, it knows best.
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
                    let call = BookingOp::Restore(offered.clone()).on(sale, seen);
                    self.lines[line.0 as usize].guard.pending += 1;
                    self.send(Sent::Restore { line, opened, offered }, call, now);
                }
            }
        }
    }

    /// What became of what was offered.
    pub(super) fn handle_restored(
        &mut self,
        (line, opened): (LineIndex, u64),
        offered: &[Booking],
        answer: Result<Answer, CallError>,
        now: Now,
    ) {
        let sale = *self.sale(line).name();
        let found = match answer {
            Ok(Answer::Sale { state, result: SaleResult::Restored(restorations) })
                if restorations.len() == offered.len() =>
            {
                self.report(line, offered, &restorations);
                Some(state)
            }
            Ok(Answer::Stale(state)) => {
                self.learn_waiting(line, &state, now);
                // Nobody has said yet that it is to be sold from: what was acknowledged is remembered until somebody does.
                match self.sale(line).is_stranger() {
                    true => None,
                    false => {
                        self.leave_behind(line, offered, opened, &state);
                        Some(state)
                    }
                }
            }
            Ok(Answer::Missing) => {
                self.sale(line).mark_missing();
                None
            }
            Err(CallError::Unsound(what)) => {
                self.note_unsound(line, &what);
                None
            }
            Err(error) => {
                tracing::warn!(%sale, %error, "acknowledged bookings could not be compared with the ledger; nothing is \
                     booked until they are");
                None
            }
            Ok(other) => {
                tracing::error!(%sale, ?other, "acknowledged bookings were answered with something else");
                None
            }
        };
        if let Some(state) = &found {
            self.learn_waiting(line, state, now);
        }
        let guard = &mut self.lines[line.0 as usize].guard;
        guard.pending -= 1;
        match found.as_ref().map(history_of) {
            Some(history) => {
                guard.torn |= guard.found.is_some_and(|before| before != history);
                guard.found = Some(history);
            }
            None => guard.failed = true,
        }
        if guard.pending > 0 {
            return;
        }
        if guard.failed {
            guard.retry_at = now.monotonic.plus_ms(RESTORE_RETRY_MS);
            if !std::mem::replace(&mut guard.listed, true) {
                self.untrusted.push(line);
            }
        } else if guard.torn {
            // What was answered from the older one may be forgotten by now.
            self.distrust(line, false);
        } else if !guard.due {
            guard.trusted = guard.found;
            // Only now: what was not answered is to be asked again, though there may be nothing to put back.
            guard.alarm = false;
        }
    }

    /// The sale was removed on purpose, and its bookings with it.
    pub(super) fn forget_removed(&mut self, line: LineIndex) {
        self.memory.forget(line, |_| true);
    }

    fn report(&mut self, line: LineIndex, offered: &[Booking], restorations: &[Restoration]) {
        let sale = *self.sale(line).name();
        let mut lost = BTreeSet::new();
        let mut put_back = 0;
        for (booking, restoration) in offered.iter().zip(restorations) {
            match restoration {
                Restoration::Stands => {}
                Restoration::PutBack => put_back += 1,
                Restoration::Lost(cause) => {
                    report_lost(&sale, booking, cause.word());
                    lost.insert(booking.id);
                }
            }
        }
        self.guard_counts.put_back += put_back;
        self.guard_counts.lost += lost.len() as u64;
        if put_back > 0 || !lost.is_empty() {
            let lost = lost.len();
            tracing::error!(%sale, put_back, lost, "the ledger had forgotten acknowledged bookings");
        }
        // They were reported.
        self.memory.forget(line, |id| lost.contains(id));
    }

    /// The ledger has another sale of that name, into which nothing of the former one belongs.
    fn leave_behind(&mut self, line: LineIndex, offered: &[Booking], opened: u64, state: &SaleState) {
        let sale = *self.sale(line).name();
        let why = match state.opened < opened {
            true => "the ledger has an older sale of this name",
            false => "the ledger lost its sale, and one of this name was opened anew",
        };
        // A cancelled one has nothing to lose.
        let mut lost = 0;
        for booking in offered.iter().filter(|booking| booking.status.holds_stock()) {
            report_lost(&sale, booking, why);
            lost += 1;
        }
        self.guard_counts.lost += lost;
        self.memory.forget(line, |id| offered.iter().any(|booking| booking.id == *id));
    }

    /// Remembers what a client is told by this outcome, of the sale that was `opened` then.
    pub(super) fn remember(
        &mut self,
        line: LineIndex,
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
            // Whoever cancelled it: it is not to come back.
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
        self.memory.note(line, opened, booking, now);
    }
}

fn report_lost(sale: &SaleName, booking: &Booking, why: &str) {
    let Booking { id, status, quantity, buyer, .. } = booking;
    let (status, quantity) = (status.word(), quantity.get());
    let buyer = buyer.as_ref().map_or("", |buyer| buyer.as_str());
    tracing::error!(%sale, booking = %id, status, quantity, buyer, why, "an acknowledged booking is lost: the ledger has \
         forgotten it, and it could not be put back");
}
