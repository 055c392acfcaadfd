//! What answers of the ledger mean: permits settled, clients told.

use super::orphans::Orphan;
use super::{Desk, Entry, Errand, InFlight, LineIndex, Operation, Resolved, Sent};
use crate::booking::{Amendment, Booking, BookingStatus, Outcome, Refusal, SaleState};
use crate::clock::{Monotonic, Now};
use crate::protocol::{
    Amended, Answer, CallError, CallId, Cancellation, Confirmation, Objection, Reservation, SaleResult,
};
use crate::stock::{Permits, Settlement};

impl<C> Desk<C> {
    /// The ledger's answer to a call. Returns when the call was sent.
    ///
    /// # Panics
    /// Where `id` is of no call on the way: answers are then matched to the wrong requests, and to stop is better than
    /// to go on selling.
    pub fn handle_answer(&mut self, id: CallId, answer: Result<Answer, CallError>, now: Now) -> Monotonic {
        let key = usize::try_from(id.0).expect("call ids are slab keys");
        let InFlight { sent, since, serial } = self.in_flight.remove(key);
        self.forget_answered();
        match sent {
            Sent::Batch { line, operation, entries } => {
                self.lines[line.0 as usize].calls_in_flight -= 1;
                self.handle_batch(line, operation, entries, answer, now);
            }
            Sent::Restore { line, opened, offered } => {
                self.handle_restored((line, opened), &offered, answer, now);
            }
            Sent::Snapshot { line } => self.handle_snapshot(line, answer, now),
            Sent::Discovery { sale, named } => self.handle_discovery(sale, named, answer, now.monotonic),
            Sent::Recall { lines } => self.handle_recalled(&lines, answer, now.monotonic),
            Sent::Pause { line } => self.handle_paused(line, answer, now),
            Sent::Log { line, after } => self.handle_log(line, after, answer, now.monotonic),
            Sent::Sales => self.handle_sales(answer, now.monotonic),
            Sent::Changes { connection } => {
                self.handle_changes(connection, (serial, since), answer, now.monotonic)
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

    /// The clocks of two sales may differ: each never goes back, not even where the ledger's machine did.
    pub(super) fn learn_clock(&mut self, line: LineIndex, state: &SaleState, now: Now) {
        let ledger = i64::try_from(state.now.0).unwrap_or(i64::MAX);
        let here = i64::try_from(now.wall.0).unwrap_or(i64::MAX);
        self.lines[line.0 as usize].clock_offset_ms = ledger.saturating_sub(here);
    }

    /// Takes in the state that came with the answer to a batch.
    fn learn(&mut self, line: LineIndex, state: &SaleState, now: Now) {
        self.learn_clock(line, state, now);
        self.judge_answer(line, state);
        if !self.lines[line.0 as usize].board.learn(state) {
            self.undealt.push(line);
        }
    }

    /// As [`learn`](Desk::learn), of an answer that is waited for: the level is taken in whoever else is at it.
    pub(super) fn learn_waiting(&mut self, line: LineIndex, state: &SaleState, now: Now) {
        self.learn_clock(line, state, now);
        self.lines[line.0 as usize].board.learn_waiting(state);
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
        match answer {
            // Permits are settled before the new level is learnt: the level already knows of them.
            Ok(Answer::Sale { state, result }) => {
                match self.settle_batch(line, operation, &entries, result, &state, now.monotonic) {
                    Ok(()) => self.learn(line, &state, now),
                    Err(other) => {
                        let reason = format!("an answer of another kind or length: {other:?}");
                        self.lose_batch(line, entries, &reason);
                    }
                }
            }
            Ok(Answer::Stale(state)) => {
                tracing::warn!(%sale, ?operation, frozen = state.is_frozen(), "the ledger had forgotten something; nothing of a \
                     batch happened");
                self.fail_batch(entries, Refusal::SaleFrozen);
                self.judge_answer(line, &state);
                self.learn_waiting(line, &state, now);
            }
            Ok(Answer::Missing) => {
                self.lines[line.0 as usize].board.mark_missing();
                self.fail_batch(entries, Refusal::SaleMissing);
            }
            Err(CallError::Unsound(what)) => {
                tracing::debug!(%sale, ?operation, what, "nothing of a batch happened");
                // Permits come back before those that are free are withdrawn.
                self.fail_batch(entries, Refusal::SaleUnsound);
                self.note_unsound(line, &what);
            }
            Err(CallError::Refused(reason)) => {
                // Operators are told once, by whoever knows when it begins and ends.
                tracing::debug!(%sale, ?operation, reason, "the ledger refused a batch; nothing of it happened");
                self.fail_batch(entries, Refusal::LedgerRefuses);
            }
            Err(error) => self.lose_batch(line, entries, &error.to_string()),
            Ok(other) => {
                let reason = format!("an answer of another kind or length: {other:?}");
                self.lose_batch(line, entries, &reason);
            }
        }
    }

    /// Ends the entries of a batch by what became of each; gives a result back that is none of this batch.
    fn settle_batch(
        &mut self,
        line: LineIndex,
        operation: Operation,
        entries: &[usize],
        result: SaleResult,
        state: &SaleState,
        now: Monotonic,
    ) -> Result<(), SaleResult> {
        match (operation, result) {
            (Operation::Reserve, SaleResult::Reserved(reservations))
                if reservations.len() == entries.len() =>
            {
                let each = entries.iter().zip(&reservations);
                let granted = each.filter(|(_, what)| matches!(what, Reservation::Granted { .. }));
                let ids = granted.map(|(&key, _)| &self.entries[key].id);
                self.lines[line.0 as usize].board.note_all_granted(ids);
                for (&key, reservation) in entries.iter().zip(reservations) {
                    self.settle_reservation(key, reservation, state, now);
                }
            }
            (Operation::LookUp, SaleResult::Found(bookings)) if bookings.len() == entries.len() => {
                let complete = self.is_complete(line, state);
                for (&key, booking) in entries.iter().zip(bookings) {
                    let outcome = outcome_of_look_up(&self.entries[key].errand, booking, complete);
                    self.conclude(key, outcome, state, now);
                }
            }
            (Operation::Confirm, SaleResult::Confirmed(confirmations))
                if confirmations.len() == entries.len() =>
            {
                for (&key, confirmation) in entries.iter().zip(confirmations) {
                    self.conclude(key, outcome_of_confirmation(confirmation), state, now);
                }
            }
            (Operation::Cancel, SaleResult::Cancelled(cancellations))
                if cancellations.len() == entries.len() =>
            {
                for (&key, cancellation) in entries.iter().zip(cancellations) {
                    let outcome = outcome_of_cancellation(&self.entries[key], cancellation);
                    self.conclude(key, outcome, state, now);
                }
            }
            (Operation::Amend, SaleResult::Amended(bookings)) if bookings.len() == entries.len() => {
                for (&key, amended) in entries.iter().zip(bookings) {
                    let outcome = outcome_of_amendment(&self.entries[key].errand, amended, state);
                    self.conclude(key, outcome, state, now);
                }
            }
            (_, other) => return Err(other),
        }
        Ok(())
    }

    fn fail_batch(&mut self, entries: Vec<usize>, refusal: Refusal) {
        for key in entries {
            if self.entries[key].errand.is_own() {
                self.orphan(key);
            }
            self.finish(key, Outcome::Refused(refusal));
        }
    }

    /// Nobody knows what became of these. Clients with ids of their own may ask again; for the others the desk cancels.
    fn lose_batch(&mut self, line: LineIndex, entries: Vec<usize>, reason: &str) {
        let (sale, entries_lost) = (self.sale(line), entries.len());
        tracing::error!(sale = %sale.name(), entries_lost, reason, "a batch without a usable answer");
        for key in entries {
            let errand = &self.entries[key].errand;
            if errand.is_own() || matches!(errand, Errand::Reserve { made_here: true, .. }) {
                self.orphan(key);
            }
            let refusal = self.entries[key].errand.refusal_when_lost();
            self.finish(key, Outcome::Refused(refusal));
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
        let mut settlement = Settlement::from(&reservation);
        let noted = matches!(reservation, Reservation::Granted { .. });
        let outcome = match reservation {
            Reservation::Granted { expires_at } => {
                let status = match expires_at {
                    Some(expires_at) => BookingStatus::Held { expires_at },
                    None => BookingStatus::Confirmed,
                };
                Outcome::Granted(Booking { id, status, quantity, released: 0, buyer, reassigned: 0 })
            }
            // An id made here is known to nobody else: this is our own batch, sent again after a lost connection. Its
            // hold may have run out before the answer came.
            Reservation::Known(booking) if made_here && !booking.status.holds_stock() => {
                Outcome::Refused(Refusal::LedgerUnavailable)
            }
            Reservation::Known(booking) if made_here => {
                settlement = Settlement::Spent;
                Outcome::Granted(booking)
            }
            // Likewise, and an operator has given what it booked to somebody else since.
            Reservation::IdReused if made_here => {
                settlement = Settlement::Spent;
                Outcome::Refused(Refusal::LedgerUnavailable)
            }
            Reservation::Known(booking) => Outcome::Replayed(booking),
            Reservation::IdReused => Outcome::Refused(Refusal::IdReused),
            Reservation::SoldOut => Outcome::Refused(Refusal::SoldOut),
            Reservation::BuyerLimit => Outcome::Refused(Refusal::BuyerLimit),
            Reservation::BuyerRequired => Outcome::Refused(Refusal::BuyerRequired),
            Reservation::NotOnSale => Outcome::Refused(off_sale(state)),
        };
        if !noted && let Outcome::Granted(_) | Outcome::Replayed(_) = outcome {
            let replayed = matches!(outcome, Outcome::Replayed(_));
            self.lines[line.0 as usize].board.note_granted(&id, replayed);
        }
        if made_here && abandoned && matches!(outcome, Outcome::Granted(_)) {
            let marked = std::mem::take(&mut self.entries[key].marked);
            self.cancel_orphan(Orphan { line, id, marked }, now);
        }
        self.remember_told(key, &outcome, state, now);
        if let Some(permits) = self.end(key, outcome) {
            self.lines[line.0 as usize].board.settle(permits, settlement);
        }
    }

    /// The end of an entry that the ledger has answered: the client is told, and what it is told is remembered.
    fn conclude(&mut self, key: usize, outcome: Outcome, state: &SaleState, now: Monotonic) {
        self.remember_told(key, &outcome, state, now);
        self.finish(key, outcome);
    }

    /// Remembers what the client of an entry is about to be told by an answer that came now.
    fn remember_told(&mut self, key: usize, outcome: &Outcome, state: &SaleState, now: Monotonic) {
        let Entry { line, client, .. } = &self.entries[key];
        let (line, is_told) = (*line, client.is_some());
        self.remember(line, outcome, is_told, state.opened, now);
    }

    /// Tells the client, if one still waits; the entry stays.
    pub(super) fn resolve(&mut self, key: usize, outcome: Outcome) {
        let entry = &mut self.entries[key];
        let Some(client) = entry.client.take() else { return };
        let made_here = matches!(entry.errand, Errand::Reserve { made_here: true, .. });
        let wish = match entry.errand {
            Errand::Reserve { quantity, buyer, .. } | Errand::Replay { quantity, buyer, .. } => {
                Some((quantity, buyer))
            }
            Errand::LookUp | Errand::Confirm | Errand::Cancel { .. } | Errand::Amend(_) => None,
        };
        let (line, id, asked_at) = (entry.line, entry.id, entry.asked_at);
        self.resolved.push_back(Resolved { client, line, id, made_here, wish, asked_at, outcome });
    }

    /// The end of an entry that took nothing: its client is told, its permits are free again, it is gone.
    pub(super) fn finish(&mut self, key: usize, outcome: Outcome) {
        let line = self.entries[key].line;
        if let Some(permits) = self.end(key, outcome) {
            self.lines[line.0 as usize].board.settle(permits, Settlement::Returned);
        }
    }

    /// Tells the client and removes the entry; its permits are the caller's to settle.
    fn end(&mut self, key: usize, outcome: Outcome) -> Option<Permits> {
        self.resolve(key, outcome);
        let entry = self.entries.remove(key);
        self.orphans.note_ended(&entry.errand);
        if entry.marked {
            self.lines[entry.line.0 as usize].board.end(&entry.id);
        }
        match entry.errand {
            Errand::Reserve { permits, .. } => Some(permits),
            _ => None,
        }
    }
}

fn outcome_of_confirmation(confirmation: Confirmation) -> Outcome {
    match confirmation {
        Confirmation::Confirmed(booking) => Outcome::Confirmed(booking),
        Confirmation::HoldExpired(_) => Outcome::Refused(Refusal::HoldExpired),
        Confirmation::BuyerLimit(_) => Outcome::Refused(Refusal::BuyerLimit),
        Confirmation::Cancelled(_) => Outcome::Refused(Refusal::BookingCancelled),
        Confirmation::NotFound => Outcome::Refused(Refusal::NoSuchBooking),
    }
}

fn outcome_of_cancellation<C>(entry: &Entry<C>, cancellation: Cancellation) -> Outcome {
    match (cancellation, &entry.errand) {
        (Cancellation::Cancelled(booking), _) => Outcome::Cancelled(booking),
        (Cancellation::NotFound, Errand::Cancel { tombstone: true, own: false }) => {
            Outcome::Tombstoned(entry.id)
        }
        (Cancellation::NotFound, _) => Outcome::Refused(Refusal::NoSuchBooking),
    }
}

fn outcome_of_amendment(errand: &Errand, amended: Amended, state: &SaleState) -> Outcome {
    let Errand::Amend(amendment) = errand else { unreachable!("only amendments travel in an amend call") };
    match (amended, amendment) {
        (Amended::Done(booking), Amendment::Extend { .. }) => Outcome::Extended(booking),
        (Amended::Done(booking), Amendment::Release { .. }) => Outcome::Released(booking),
        (Amended::Done(booking), Amendment::HoldAgain) => Outcome::HeldAgain(booking),
        (Amended::NotFound, _) => Outcome::Refused(Refusal::NoSuchBooking),
        (Amended::Refused(objection), _) => Outcome::Refused(match objection {
            Objection::Confirmed => Refusal::BookingConfirmed,
            Objection::Cancelled => Refusal::BookingCancelled,
            Objection::HoldExpired => Refusal::HoldExpired,
            Objection::HoldLimit => Refusal::HoldLimit,
            Objection::NotARelease => Refusal::NotARelease,
            Objection::NotOnSale => off_sale(state),
            Objection::BuyerRequired => Refusal::BuyerRequired,
            Objection::BuyerLimit => Refusal::BuyerLimit,
            Objection::SoldOut => Refusal::SoldOut,
        }),
    }
}

/// `complete` says that what was not found is not there.
fn outcome_of_look_up(errand: &Errand, found: Option<Booking>, complete: bool) -> Outcome {
    match (errand, found) {
        (Errand::Replay { quantity, buyer, .. }, Some(booking)) => {
            match booking.made_with() == quantity.get() && booking.buyer == *buyer {
                true => Outcome::Replayed(booking),
                false => Outcome::Refused(Refusal::IdReused),
            }
        }
        (_, None) if !complete => Outcome::Refused(Refusal::SaleFrozen),
        (Errand::Replay { otherwise, .. }, None) => Outcome::Refused(*otherwise),
        (_, Some(booking)) => Outcome::Found(booking),
        (_, None) => Outcome::Refused(Refusal::NoSuchBooking),
    }
}

/// Why a sale does not sell. The state is as of the end of the call, by the clock that the call was judged by.
fn off_sale(state: &SaleState) -> Refusal {
    state.off_sale(state.now).map_or(Refusal::LedgerUnavailable, Refusal::NotOnSale)
}
