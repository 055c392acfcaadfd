//! What answers of the ledger mean: permits settled, clients told.

use super::orphans::Orphan;
use super::{Desk, Errand, InFlight, LineIndex, Operation, Resolved, Sent};
use crate::booking::{
    Amended, Amendment, Answer, Booking, BookingStatus, CallError, CallId, Cancellation, Confirmation,
    Objection, Outcome, Refusal, Reservation, SaleState,
};
use crate::clock::{Monotonic, Now};
use crate::stock::Settlement;

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

    /// Takes in what came with the answer to a batch.
    fn learn(&mut self, line: LineIndex, state: &SaleState, now: Now) {
        self.learn_clock(line, state, now);
        self.judge_answer(line, state);
        if !self.lines[line.0 as usize].board.learn(state) {
            self.undealt.push(line);
        }
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
        if let Ok(
            Answer::Reserved { state, .. }
            | Answer::Found { state, .. }
            | Answer::Confirmed { state, .. }
            | Answer::Cancelled { state, .. }
            | Answer::Amended { state, .. },
        ) = &answer
        {
            self.answered = (state.opened, now.monotonic);
        }
        // Permits are settled before the new level is learnt: the level already knows of them.
        match answer {
            Ok(Answer::Reserved { state, reservations }) if reservations.len() == entries.len() => {
                let each = entries.iter().zip(&reservations);
                let granted = each.filter(|(_, what)| matches!(what, Reservation::Granted { .. }));
                let ids = granted.map(|(&key, _)| &self.entries[key].id);
                self.lines[line.0 as usize].board.note_all_granted(ids);
                for (key, reservation) in entries.into_iter().zip(reservations) {
                    self.settle_reservation(key, reservation, &state, now.monotonic);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::Found { state, bookings }) if bookings.len() == entries.len() => {
                let complete = self.is_complete(line, &state);
                for (key, booking) in entries.into_iter().zip(bookings) {
                    self.settle_look_up(key, booking, complete);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::Confirmed { state, confirmations }) if confirmations.len() == entries.len() => {
                for (key, confirmation) in entries.into_iter().zip(confirmations) {
                    let outcome = match confirmation {
                        Confirmation::Confirmed(booking) => Outcome::Confirmed(booking),
                        Confirmation::HoldExpired(_) => Outcome::Refused(Refusal::HoldExpired),
                        Confirmation::BuyerLimit(_) => Outcome::Refused(Refusal::BuyerLimit),
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
                        Cancellation::NotFound
                            if matches!(
                                self.entries[key].errand,
                                Errand::Cancel { tombstone: true, own: false }
                            ) =>
                        {
                            Outcome::Tombstoned(self.entries[key].id)
                        }
                        Cancellation::NotFound => Outcome::Refused(Refusal::NoSuchBooking),
                    };
                    self.finish(key, outcome, Settlement::Returned);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::Amended { state, bookings }) if bookings.len() == entries.len() => {
                for (key, amended) in entries.into_iter().zip(bookings) {
                    self.settle_amendment(key, amended, &state);
                }
                self.learn(line, &state, now);
            }
            Ok(Answer::Withheld { state }) => {
                tracing::warn!(%sale, ?operation, frozen = state.is_frozen(), "the ledger had forgotten something; nothing of a \
                     batch happened");
                self.fail_batch(entries, Refusal::SaleFrozen);
                self.learn_clock(line, &state, now);
                self.judge_answer(line, &state);
                self.lines[line.0 as usize].board.learn_waiting(&state);
            }
            Ok(Answer::NoSuchSale) => {
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

    fn fail_batch(&mut self, entries: Vec<usize>, refusal: Refusal) {
        for key in entries {
            if self.entries[key].errand.is_own() {
                self.orphan(key);
            }
            self.finish(key, Outcome::Refused(refusal), Settlement::Returned);
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
            self.finish(key, Outcome::Refused(refusal), Settlement::Returned);
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
        self.finish(key, outcome, settlement);
    }

    fn settle_amendment(&mut self, key: usize, amended: Amended, state: &SaleState) {
        let Errand::Amend(amendment) = self.entries[key].errand else {
            unreachable!("only amendments travel in an amend call")
        };
        let outcome = match (amended, amendment) {
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
        };
        self.finish(key, outcome, Settlement::Returned);
    }

    /// `complete` says that what was not found is not there.
    fn settle_look_up(&mut self, key: usize, found: Option<Booking>, complete: bool) {
        let outcome = match (&self.entries[key].errand, found) {
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
        };
        self.finish(key, outcome, Settlement::Returned);
    }

    /// Tells the client, where one still waits; the entry stays.
    pub(super) fn resolve(&mut self, key: usize, outcome: Outcome) {
        let (line, is_told) = (self.entries[key].line, self.entries[key].client.is_some());
        self.remember(line, &outcome, is_told);
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

    /// The end of an entry: its client is told, its permits are settled, it is gone.
    pub(super) fn finish(&mut self, key: usize, outcome: Outcome, settlement: Settlement) {
        self.resolve(key, outcome);
        let entry = self.entries.remove(key);
        self.orphans.note_ended(&entry.errand);
        let board = &self.lines[entry.line.0 as usize].board;
        if entry.marked {
            board.end(&entry.id);
        }
        if let Errand::Reserve { permits, .. } = entry.errand {
            board.settle(permits, settlement);
        }
    }
}

/// Why a sale does not sell. The state is as of the end of the call, by the clock that the call was judged by.
fn off_sale(state: &SaleState) -> Refusal {
    state.off_sale(state.now).map_or(Refusal::LedgerUnavailable, Refusal::NotOnSale)
}
