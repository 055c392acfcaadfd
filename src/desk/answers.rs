//! Handles the ledger's answers: settles permits, resolves clients.

use super::Desk;
use super::batches::{CallKind, Entry, EntryKind};
use super::calls::{InFlight, PendingCall};
use super::lanes::LaneIndex;
use super::orphans::Orphan;
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
    /// If `id` is not that of a call in flight: answers would be matched to the wrong requests, and stopping is better than
    /// selling on.
    pub fn handle_answer(&mut self, id: CallId, answer: Result<Answer, CallError>, now: Now) -> Monotonic {
        let InFlight { pending, since, serial } = self.calls.answered(id);
        match pending {
            PendingCall::Batch { lane, kind, entries } => self.handle_batch(lane, kind, entries, answer, now),
            PendingCall::Restore { lane, opened, offered } => {
                self.handle_restored((lane, opened), &offered, answer, now);
            }
            PendingCall::Snapshot { lane } => self.handle_snapshot(lane, answer, now),
            PendingCall::Discovery { sale, named } => {
                self.handle_discovery(sale, named, answer, now.monotonic);
            }
            PendingCall::Recall { lanes } => self.handle_recalled(&lanes, answer, now.monotonic),
            PendingCall::Pause { lane } => self.handle_paused(lane, answer, now),
            PendingCall::Log { lane, after } => self.handle_log(lane, after, answer, now.monotonic),
            PendingCall::Sales => self.handle_sales(answer, now.monotonic),
            PendingCall::Beat => self.handle_beat(answer, since, now.monotonic),
            PendingCall::Changes { connection } => {
                self.handle_changes(connection, (serial, since), answer, now.monotonic)
            }
        }
        since
    }

    /// Takes in the state that came with the answer to a batch.
    fn learn(&mut self, lane: LaneIndex, state: &SaleState, now: Now) {
        self.lanes[lane].learn_clock(state, now);
        self.guard.judge_answer(lane, state);
        if !self.lanes[lane].board.learn(state) {
            self.sync.note_undealt(lane);
        }
    }

    /// Like [`learn`](Desk::learn), for an answer that somebody waits for: takes in the level even if another core is busy
    /// with it.
    pub(super) fn learn_waiting(&mut self, lane: LaneIndex, state: &SaleState, now: Now) {
        self.lanes[lane].learn_clock(state, now);
        self.lanes[lane].board.learn_waiting(state);
    }

    fn handle_batch(
        &mut self,
        lane: LaneIndex,
        kind: CallKind,
        entries: Vec<usize>,
        answer: Result<Answer, CallError>,
        now: Now,
    ) {
        let sale = *self.lanes[lane].board.name();
        match answer {
            // Permits are settled before the new level is learnt: the level already knows of them.
            Ok(Answer::Sale { state, result }) => {
                match self.settle_batch(lane, kind, &entries, result, &state, now.monotonic) {
                    Ok(()) => self.learn(lane, &state, now),
                    Err(reason) => self.lose_batch(lane, entries, &reason),
                }
            }
            Ok(Answer::Stale(state)) => {
                tracing::warn!(%sale, operation = ?kind, frozen = state.is_frozen(), "ledger rollback detected: a batch \
                     was not applied");
                self.fail_batch(entries, Refusal::SaleFrozen);
                self.guard.judge_answer(lane, &state);
                self.learn_waiting(lane, &state, now);
            }
            Ok(Answer::Missing) => {
                self.lanes[lane].board.mark_missing();
                self.fail_batch(entries, Refusal::SaleMissing);
            }
            Err(CallError::Unsound(what)) => {
                tracing::debug!(%sale, operation = ?kind, what, "the sale's record is not sound: a batch was not applied");
                // Permits come back before those that are free are withdrawn.
                self.fail_batch(entries, Refusal::SaleUnsound);
                self.note_unsound(lane, &what);
            }
            Err(CallError::Refused(reason)) => {
                // Operators hear of it once, from the place that knows when it begins and ends.
                tracing::debug!(%sale, operation = ?kind, reason, "the ledger refused a batch: it was not applied");
                self.fail_batch(entries, Refusal::LedgerRefuses);
            }
            Err(error) => self.lose_batch(lane, entries, &error.to_string()),
            Ok(other) => self.lose_batch(lane, entries, &not_to_this(&other)),
        }
    }

    /// Ends the entries of a batch by what became of each; an error if the result does not belong to this batch.
    fn settle_batch(
        &mut self,
        lane: LaneIndex,
        kind: CallKind,
        entries: &[usize],
        result: SaleResult,
        state: &SaleState,
        now: Monotonic,
    ) -> Result<(), String> {
        match (kind, result) {
            (CallKind::Reserve, SaleResult::Reserved(reservations))
                if reservations.len() == entries.len() =>
            {
                let each = entries.iter().zip(&reservations);
                let granted = each.filter(|(_, what)| matches!(what, Reservation::Granted { .. }));
                let ids = granted.map(|(&key, _)| &self.batches[key].id);
                self.lanes[lane].board.note_all_granted(ids);
                for (&key, reservation) in entries.iter().zip(reservations) {
                    self.settle_reservation(key, reservation, state, now);
                }
            }
            (CallKind::LookUp, SaleResult::Found(bookings)) if bookings.len() == entries.len() => {
                let complete = self.guard.is_complete(lane, state);
                for (&key, booking) in entries.iter().zip(bookings) {
                    let outcome = outcome_of_look_up(&self.batches[key].kind, booking, complete);
                    self.conclude(key, outcome, state, now);
                }
            }
            (CallKind::Confirm, SaleResult::Confirmed(confirmations))
                if confirmations.len() == entries.len() =>
            {
                for (&key, confirmation) in entries.iter().zip(confirmations) {
                    self.conclude(key, outcome_of_confirmation(confirmation), state, now);
                }
            }
            (CallKind::Cancel, SaleResult::Cancelled(cancellations))
                if cancellations.len() == entries.len() =>
            {
                for (&key, cancellation) in entries.iter().zip(cancellations) {
                    let outcome = outcome_of_cancellation(&self.batches[key], cancellation);
                    self.conclude(key, outcome, state, now);
                }
            }
            (CallKind::Amend, SaleResult::Amended(bookings)) if bookings.len() == entries.len() => {
                for (&key, amended) in entries.iter().zip(bookings) {
                    let outcome = outcome_of_amendment(&self.batches[key].kind, amended, state);
                    self.conclude(key, outcome, state, now);
                }
            }
            (_, other) => return Err(not_to_this(&other)),
        }
        Ok(())
    }

    /// The answer to a restore call.
    pub(super) fn handle_restored(
        &mut self,
        (lane, opened): (LaneIndex, u64),
        offered: &[Booking],
        answer: Result<Answer, CallError>,
        now: Now,
    ) {
        let sale = *self.sale(lane).name();
        let found = match answer {
            Ok(Answer::Sale { state, result: SaleResult::Restored(restorations) })
                if restorations.len() == offered.len() =>
            {
                self.guard.report(&sale, lane, offered, &restorations);
                Some(state)
            }
            Ok(Answer::Stale(state)) => {
                self.learn_waiting(lane, &state, now);
                // Nobody has said yet that this sale is to be sold: until then, what was acknowledged is kept in memory.
                match self.sale(lane).is_stranger() {
                    true => None,
                    false => {
                        self.guard.leave_behind(&sale, lane, offered, opened, &state);
                        Some(state)
                    }
                }
            }
            Ok(Answer::Missing) => {
                self.sale(lane).mark_missing();
                None
            }
            Err(CallError::Unsound(what)) => {
                self.note_unsound(lane, &what);
                None
            }
            Err(error) => {
                tracing::warn!(%sale, %error, "acknowledged bookings could not be compared with the ledger; the sale books \
                     nothing until they are");
                None
            }
            Ok(other) => {
                tracing::error!(%sale, ?other, "unexpected answer to a restore call");
                None
            }
        };
        if let Some(state) = &found {
            self.learn_waiting(lane, state, now);
        }
        self.guard.note_answered(lane, found.as_ref(), now.monotonic);
    }

    fn fail_batch(&mut self, entries: Vec<usize>, refusal: Refusal) {
        for key in entries {
            if self.batches[key].kind.is_own() {
                self.orphan(key);
            }
            self.finish(key, Outcome::Refused(refusal));
        }
    }

    /// Nobody knows what became of these entries. Clients with ids of their own may ask again; for the others the desk
    /// cancels.
    fn lose_batch(&mut self, lane: LaneIndex, entries: Vec<usize>, reason: &str) {
        let (sale, entries_lost) = (self.sale(lane), entries.len());
        tracing::error!(sale = %sale.name(), entries_lost, reason, "a batch got no usable answer: its outcome is unknown");
        for key in entries {
            let kind = &self.batches[key].kind;
            let refusal = kind.refusal_when_lost();
            if kind.is_own() || kind.is_made_here() {
                self.orphan(key);
            }
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
        let entry = &self.batches[key];
        let EntryKind::Reserve { quantity, buyer, made_here, .. } = entry.kind else {
            unreachable!("only reservations travel in a reserve call")
        };
        let (id, lane, abandoned) = (entry.id, entry.lane, entry.client.is_none());
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
            // A generated id is known to nobody else: this is our own batch, sent again after a lost connection. Its hold
            // may have run out before the answer came.
            Reservation::Known(booking) if made_here && !booking.status.holds_stock() => {
                Outcome::Refused(Refusal::LedgerUnavailable)
            }
            Reservation::Known(booking) if made_here => {
                settlement = Settlement::Spent;
                Outcome::Granted(booking)
            }
            // The same, and an operator has given the booking to another buyer since.
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
            self.lanes[lane].board.note_granted(&id, replayed);
        }
        if made_here && abandoned && matches!(outcome, Outcome::Granted(_)) {
            let marked = std::mem::take(&mut self.batches[key].marked);
            self.cancel_orphan(Orphan { lane, id, marked }, now);
        }
        self.remember_told(key, &outcome, state, now);
        self.granted += u64::from(matches!(outcome, Outcome::Granted(_)));
        self.refused += u64::from(matches!(outcome, Outcome::Refused(_)));
        if let Some(permits) = self.end(key, outcome) {
            self.lanes[lane].board.settle(permits, settlement);
        }
    }

    /// Ends an entry that the ledger has answered: answers the client, and remembers the answer.
    fn conclude(&mut self, key: usize, outcome: Outcome, state: &SaleState, now: Monotonic) {
        self.remember_told(key, &outcome, state, now);
        self.finish(key, outcome);
    }

    /// Remembers what the client of an entry is about to be told by an answer that came now.
    fn remember_told(&mut self, key: usize, outcome: &Outcome, state: &SaleState, now: Monotonic) {
        let Entry { lane, client, .. } = &self.batches[key];
        let (lane, is_told) = (*lane, client.is_some());
        self.guard.remember(lane, outcome, is_told, state.opened, now);
    }

    /// Ends an entry that took nothing: answers its client, frees its permits, removes it.
    pub(super) fn finish(&mut self, key: usize, outcome: Outcome) {
        let lane = self.batches[key].lane;
        if let Some(permits) = self.end(key, outcome) {
            self.lanes[lane].board.settle(permits, Settlement::Returned);
        }
    }

    /// Answers the client and removes the entry; the caller settles its permits.
    fn end(&mut self, key: usize, outcome: Outcome) -> Option<Permits> {
        let Entry { lane, id, marked, kind, .. } = self.batches.end(key, outcome);
        self.orphans.note_ended(&kind);
        if marked {
            self.lanes[lane].board.end(&id);
        }
        match kind {
            EntryKind::Reserve { permits, .. } => Some(permits),
            _ => None,
        }
    }
}

fn not_to_this(answer: &dyn std::fmt::Debug) -> String {
    format!("unexpected kind or length of answer: {answer:?}")
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
    match (cancellation, &entry.kind) {
        (Cancellation::Cancelled(booking), _) => Outcome::Cancelled(booking),
        (Cancellation::NotFound, EntryKind::Cancel { tombstone: true }) => Outcome::Tombstoned(entry.id),
        (Cancellation::NotFound, _) => Outcome::Refused(Refusal::NoSuchBooking),
    }
}

fn outcome_of_amendment(asked: &EntryKind, amended: Amended, state: &SaleState) -> Outcome {
    let EntryKind::Amend(amendment) = asked else { unreachable!("only amendments travel in an amend call") };
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

/// `complete` means that a booking that was not found does not exist.
fn outcome_of_look_up(asked: &EntryKind, found: Option<Booking>, complete: bool) -> Outcome {
    match (asked, found) {
        (EntryKind::LookUpBeforeRefusal { quantity, buyer, .. }, Some(booking)) => {
            match booking.made_with() == quantity.get() && booking.buyer == *buyer {
                true => Outcome::Replayed(booking),
                false => Outcome::Refused(Refusal::IdReused),
            }
        }
        (_, None) if !complete => Outcome::Refused(Refusal::SaleFrozen),
        (EntryKind::LookUpBeforeRefusal { refusal, .. }, None) => Outcome::Refused(*refusal),
        (_, Some(booking)) => Outcome::Found(booking),
        (_, None) => Outcome::Refused(Refusal::NoSuchBooking),
    }
}

/// Why a sale does not sell, as of the end of the call, by the clock that the call was judged by.
fn off_sale(state: &SaleState) -> Refusal {
    state.off_sale(state.now).map_or(Refusal::LedgerUnavailable, Refusal::NotOnSale)
}
