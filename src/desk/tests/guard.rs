//! The rollback guard against a ledger that forgets, played by hand.

use super::*;
use crate::desk::GuardCounts;
use crate::protocol::{
    BookingOp, Confirmation, LedgerOp, LostCause, Restoration, SaleOp, SaleResult, Watermark,
};

const OPENED: u64 = 900_000;

/// A state of the sale that was opened then, `lineage` after that.
fn told(lineage: u64, sequence: u64, now: Now) -> SaleState {
    SaleState { opened: OPENED, lineage: OPENED + lineage, now: now.wall, ..state(100, sequence) }
}

fn seen(lineage: u64, sequence: u64) -> Watermark {
    Watermark { opened: OPENED, lineage: OPENED + lineage, sequence }
}

fn confirmed(text: &str) -> Booking {
    Booking {
        id: id(text),
        status: BookingStatus::Confirmed,
        quantity: Quantity::ONE,
        released: 0,
        buyer: None,
        reassigned: 0,
    }
}

/// A fixture whose sale has those bookings, acknowledged, at sequence 10.
fn selling(ids: &[&str]) -> Fixture {
    let mut fixture = fixture(100);
    fixture.board.learn(&sale(), &told(0, 10 - ids.len() as u64, fixture.now)).unwrap();
    fixture.turn();
    for (client, own) in (0..).zip(ids) {
        fixture.reserve(client, Some(own), 1).unwrap();
    }
    fixture.turn();
    if let Some((call, _)) = fixture.batch() {
        let reservations = ids.iter().map(|_| granted()).collect();
        let state = told(0, 10, fixture.now);
        fixture.desk.handle_answer(
            call,
            Ok(Answer::Sale { state, result: SaleResult::Reserved(reservations) }),
            fixture.now,
        );
    }
    assert_eq!(fixture.told().len(), ids.len());
    fixture
}

impl Fixture {
    fn reconnect(&mut self) {
        self.desk.handle_ledger_down(SlotRange::ALL, self.now);
        self.turn();
        self.now.monotonic = self.now.monotonic.plus_ms(20);
        self.now.wall.0 += 20;
        self.desk.handle_ledger_up(SlotRange::ALL);
        self.turn();
    }

    /// What the desk asks of bookings, syncs aside.
    fn asked(&mut self) -> Vec<(CallId, Call)> {
        let of_bookings = |call: &Call| {
            call.entries() > 0 || matches!(call, Call::Bookings { op: BookingOp::Restore(_), .. })
        };
        std::iter::from_fn(|| self.desk.poll_call()).filter(|(_, call)| of_bookings(call)).collect()
    }

    /// The one thing that it asks, which is to put back.
    #[track_caller]
    fn restore(&mut self) -> (CallId, Watermark, Vec<Booking>) {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        match asked.remove(0) {
            (call, Call::Bookings { seen, op: BookingOp::Restore(bookings), .. }) => (call, seen, bookings),
            other => panic!("{other:?}"),
        }
    }

    fn answer_restore(&mut self, call: CallId, state: SaleState, restorations: &[Restoration]) {
        let answer = Answer::Sale { state, result: SaleResult::Restored(restorations.to_vec()) };
        self.desk.handle_answer(call, Ok(answer), self.now);
        self.turn();
    }

    #[track_caller]
    fn reserve_call(&mut self) -> (CallId, Watermark) {
        match self.batch() {
            Some((call, Call::Bookings { seen, op: BookingOp::Reserve(_), .. })) => (call, seen),
            other => panic!("{other:?}"),
        }
    }

    fn answer_with(&mut self, call: CallId, answer: Answer) {
        self.desk.handle_answer(call, Ok(answer), self.now);
    }
}

const FROZEN: Outcome = Outcome::Refused(Refusal::SaleFrozen);

#[test]
fn on_a_new_connection_what_was_acknowledged_comes_before_anything_else() {
    let mut fixture = selling(&["a", "b"]);
    fixture.reserve(9, Some("mine"), 1).unwrap();
    fixture.ask(10, id("b"), BookingAction::Confirm).unwrap();
    fixture.reconnect();
    let (call, told_seen, bookings) = fixture.restore();
    assert_eq!((told_seen, bookings), (seen(0, 10), vec![confirmed("a"), confirmed("b")]));
    fixture.turn();
    assert!(fixture.asked().is_empty(), "nothing is booked until it is answered");
    let state = told(0, 10, fixture.now);
    fixture.answer_restore(call, state, &[Restoration::Stands; 2]);
    assert_eq!(fixture.reserve_call().1, seen(0, 10));
    assert_eq!(fixture.desk.guard_counts(), GuardCounts::default());
}

#[test]
fn an_extension_a_release_and_a_new_hold_that_clients_were_told_of_are_put_back() {
    use crate::protocol::Amended;
    let mut fixture = selling(&["longer", "fewer", "again", "refused"]);
    let remaining = Quantity::ONE;
    for (client, (own, amendment)) in (1..).zip([
        ("longer", Amendment::Extend { ms: 7 }),
        ("fewer", Amendment::Release { remaining }),
        ("again", Amendment::HoldAgain),
        ("refused", Amendment::Extend { ms: 9 }),
    ]) {
        fixture.ask(client, id(own), BookingAction::Amend(amendment)).unwrap();
    }
    fixture.turn();
    let (call, _) = fixture.asked().remove(0);
    let held = BookingStatus::Held { expires_at: WallTime(77) };
    let longer = Booking { status: held, ..confirmed("longer") };
    let fewer = Booking { released: 2, ..confirmed("fewer") };
    let again = Booking { status: held, ..confirmed("again") };
    let mut bookings: Vec<_> = [&longer, &fewer, &again].map(|booking| Amended::Done(booking.clone())).into();
    bookings.push(Amended::Refused(crate::protocol::Objection::HoldLimit));
    let state = told(0, 14, fixture.now);
    fixture.answer_with(call, Answer::Sale { state, result: SaleResult::Amended(bookings) });
    fixture.reconnect();
    let (_, _, offered) = fixture.restore();
    assert_eq!(offered, vec![longer, fewer, again, confirmed("refused")]);
}

#[test]
fn a_tombstone_that_a_client_was_told_of_is_put_back() {
    let mut fixture = selling(&["kept"]);
    fixture.ask(1, id("never"), BookingAction::Cancel { tombstone: true }).unwrap();
    fixture.turn();
    let (call, asked) = fixture.asked().remove(0);
    let Call::Bookings { op: BookingOp::Cancel(ids), .. } = &asked else { panic!("{asked:?}") };
    assert_eq!(ids, &[Cancel { id: id("never"), tombstone: true }]);
    let cancellations = vec![Cancellation::NotFound];
    let state = told(0, 12, fixture.now);
    fixture.answer_with(call, Answer::Sale { state, result: SaleResult::Cancelled(cancellations) });
    assert_eq!(fixture.told().pop(), Some((1, Outcome::Tombstoned(id("never")))));
    fixture.reconnect();
    let (_, _, bookings) = fixture.restore();
    let never = Booking { status: BookingStatus::Cancelled, ..confirmed("never") };
    assert_eq!(bookings, vec![confirmed("kept"), never]);
}

#[test]
fn only_what_clients_were_told_is_remembered_and_their_last_word_counts() {
    let mut fixture = selling(&["kept", "paid", "gone"]);
    fixture.ask(1, id("paid"), BookingAction::Confirm).unwrap();
    fixture.ask(2, id("gone"), BookingAction::Cancel { tombstone: false }).unwrap();
    fixture.reserve(3, Some("unheard"), 1).unwrap();
    fixture.turn();
    let mut late = None;
    for (call, asked) in fixture.asked() {
        let state = told(0, 12, fixture.now);
        match asked {
            Call::Bookings { op: BookingOp::Confirm(_), .. } => {
                let confirmations = vec![Confirmation::Confirmed(confirmed("paid"))];
                fixture
                    .answer_with(call, Answer::Sale { state, result: SaleResult::Confirmed(confirmations) });
            }
            Call::Bookings { op: BookingOp::Cancel(_), .. } => {
                let gone = Booking { status: BookingStatus::Cancelled, ..confirmed("gone") };
                let cancellations = vec![Cancellation::Cancelled(gone)];
                fixture
                    .answer_with(call, Answer::Sale { state, result: SaleResult::Cancelled(cancellations) });
            }
            _ => late = Some(call),
        }
    }
    fixture.wait(TIMEOUT_MS);
    fixture.answer_with(
        late.unwrap(),
        Answer::Sale { state: told(0, 13, fixture.now), result: SaleResult::Reserved(vec![granted()]) },
    );
    fixture.asked();
    fixture.reconnect();
    let (_, _, bookings) = fixture.restore();
    let words: Vec<_> = bookings.iter().map(|it| (it.id.as_str().to_owned(), it.status.word())).collect();
    let expected = [("kept", "confirmed"), ("paid", "confirmed"), ("gone", "cancelled")];
    assert_eq!(words, expected.map(|(id, word)| (id.to_owned(), word)));
}

/// The host that granted it may be gone; whoever repeated the request here was told here.
#[test]
fn what_a_repeat_was_told_is_put_back_as_what_was_granted_is() {
    for sold_out in [false, true] {
        let mut fixture = selling(&[]);
        if sold_out {
            let none = SaleState { terms: state(0, 0).terms, ..told(0, 11, fixture.now) };
            fixture.board.learn(&sale(), &none).unwrap();
        }
        fixture.reserve(1, Some("a"), 1).unwrap();
        fixture.turn();
        let (call, asked) = fixture.batch().unwrap();
        let state = told(0, 12, fixture.now);
        let answer = match asked {
            Call::Sale { op: SaleOp::LookUp(_), .. } => {
                Answer::Sale { state, result: SaleResult::Found(vec![Some(confirmed("a"))]) }
            }
            _ => {
                Answer::Sale { state, result: SaleResult::Reserved(vec![Reservation::Known(confirmed("a"))]) }
            }
        };
        assert_eq!(matches!(answer, Answer::Sale { result: SaleResult::Found(_), .. }), sold_out);
        fixture.answer_with(call, answer);
        assert_eq!(fixture.told(), [(1, Outcome::Replayed(confirmed("a")))]);
        fixture.asked();
        fixture.reconnect();
        assert_eq!(fixture.restore().2, [confirmed("a")], "sold out: {sold_out}");
    }
}

/// Also one that was told as over is not to come back: there is nothing of it to put back.
#[test]
fn a_repeat_of_what_is_over_is_not_put_back() {
    let mut fixture = selling(&[]);
    fixture.reserve(1, Some("a"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    let over = Booking { status: BookingStatus::Expired, ..confirmed("a") };
    let reservations = vec![Reservation::Known(over.clone())];
    fixture.answer_with(
        call,
        Answer::Sale { state: told(0, 10, fixture.now), result: SaleResult::Reserved(reservations) },
    );
    assert_eq!(fixture.told(), [(1, Outcome::Replayed(over))]);
    fixture.reconnect();
    assert!(fixture.asked().is_empty());
}

/// Whoever cancels it, and whether anybody still waits for that: a booking that was granted before must not come back.
#[test]
fn a_cancellation_is_remembered_though_its_client_waits_no_more() {
    let mut fixture = selling(&["a"]);
    fixture.ask(1, id("a"), BookingAction::Cancel { tombstone: false }).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.wait(TIMEOUT_MS);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::OutcomeUnknown))]);
    let gone = Booking { status: BookingStatus::Cancelled, ..confirmed("a") };
    let cancellations = vec![Cancellation::Cancelled(gone.clone())];
    fixture.answer_with(
        call,
        Answer::Sale { state: told(0, 11, fixture.now), result: SaleResult::Cancelled(cancellations) },
    );
    fixture.asked();
    fixture.reconnect();
    assert_eq!(fixture.restore().2, [gone]);
}

#[test]
fn a_ledger_that_withholds_is_given_what_is_remembered_and_then_asked_in_its_new_history() {
    let mut fixture = selling(&["a"]);
    fixture.reserve(7, Some("mine"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.reserve_call();
    let mut frozen = told(5, 8, fixture.now);
    frozen.frozen_until = WallTime(fixture.now.wall.0 + 50);
    fixture.answer_with(call, Answer::Stale(frozen.clone()));
    assert_eq!(fixture.told(), [(7, FROZEN)]);
    assert_eq!(fixture.permits().1, 0, "its permit is free again");

    // Frozen: neither booked nor "sold out", and what is not found may be yet to come.
    fixture.turn();
    let (call, told_seen, bookings) = fixture.restore();
    assert_eq!((told_seen.lineage, bookings), (OPENED + 5, vec![confirmed("a")]));
    assert_eq!(fixture.reserve(8, Some("mine"), 1), Err(Refusal::SaleFrozen));
    assert_eq!(fixture.ask(8, id("a"), BookingAction::Confirm), Err(Refusal::SaleFrozen));
    assert_eq!(fixture.ask(8, id("a"), BookingAction::Cancel { tombstone: false }), Err(Refusal::SaleFrozen));
    frozen.sequence = 9;
    fixture.answer_restore(call, frozen.clone(), &[Restoration::PutBack]);
    assert_eq!(fixture.desk.guard_counts(), GuardCounts { put_back: 1, lost: 0 });
    fixture.ask(8, id("a"), BookingAction::LookUp).unwrap();
    fixture.ask(9, id("b"), BookingAction::LookUp).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    let bookings = vec![Some(confirmed("a")), None];
    fixture.answer_with(call, Answer::Sale { state: frozen, result: SaleResult::Found(bookings) });
    assert_eq!(fixture.told(), [(8, Outcome::Found(confirmed("a"))), (9, FROZEN)]);

    fixture.now.wall.0 += 50;
    let thawed = told(5, 9, fixture.now);
    fixture.board.learn(&sale(), &thawed).unwrap();
    fixture.reserve(10, Some("mine"), 1).unwrap();
    fixture.turn();
    assert_eq!(fixture.reserve_call().1, seen(5, 9));
}

#[test]
fn another_cores_word_of_a_new_history_is_enough_also_for_a_sale_that_nobody_asks_for() {
    let mut fixture = selling(&["a"]);
    fixture.board.learn(&sale(), &told(3, 4, fixture.now)).unwrap();
    fixture.wait(limits::SYNC_INTERVAL_MS);
    let (_, told_seen, bookings) = fixture.restore();
    assert_eq!((told_seen, bookings), (seen(3, 4), vec![confirmed("a")]));
}

#[test]
fn a_reading_of_less_at_a_later_time_is_told_to_the_ledger_and_an_older_one_is_not() {
    for (later_ms, alarm) in [(limits::SYNC_INTERVAL_MS, true), (0, false)] {
        let mut fixture = selling(&[]);
        let before = fixture.now;
        fixture.board.learn(&sale(), &told(0, 10, before)).unwrap();
        fixture.wait(limits::SYNC_INTERVAL_MS);
        let (call, _) = std::iter::from_fn(|| fixture.desk.poll_call())
            .find(|(_, call)| matches!(call, Call::Ledger(LedgerOp::Changes { .. })))
            .unwrap();
        fixture.answer_with(call, changes(&[sale()]));
        let snapshot = std::iter::from_fn(|| fixture.desk.poll_call())
            .find(|(_, call)| matches!(call, Call::Sale { op: SaleOp::Snapshot, .. }))
            .unwrap();
        let mut less = told(0, 8, before);
        less.now.0 += later_ms;
        fixture.answer_with(snapshot.0, Answer::Sale { state: less, result: SaleResult::Done });
        fixture.turn();
        match alarm {
            true => assert_eq!(fixture.restore().1, seen(0, 10), "though there is nothing to put back"),
            false => assert!(fixture.asked().is_empty()),
        }
    }
}

#[test]
fn what_is_lost_is_counted_once() {
    let mut fixture = selling(&["a", "b"]);
    fixture.reconnect();
    let (call, _, _) = fixture.restore();
    let lost = Restoration::Lost(LostCause::SoldOut);
    let state = told(1, 9, fixture.now);
    fixture.answer_restore(call, state, &[lost, Restoration::Stands]);
    assert_eq!(fixture.desk.guard_counts(), GuardCounts { put_back: 0, lost: 1 });
    fixture.reconnect();
    assert_eq!(fixture.restore().2, [confirmed("b")]);
}

#[test]
fn a_pass_that_fails_is_repeated_and_books_nothing_meanwhile() {
    let mut fixture = selling(&["a"]);
    fixture.reconnect();
    let (call, _, _) = fixture.restore();
    fixture.desk.handle_answer(call, Err(CallError::Refused("OOM".to_owned())), fixture.now);
    fixture.reserve(1, Some("mine"), 1).unwrap();
    fixture.wait(limits::RESTORE_RETRY_MS - 1);
    assert!(fixture.asked().is_empty());
    fixture.wait(limits::SYNC_INTERVAL_MS);
    let (call, _, _) = fixture.restore();
    let state = told(0, 10, fixture.now);
    fixture.answer_restore(call, state, &[Restoration::Stands]);
    fixture.reserve_call();
}

#[test]
fn a_pass_that_fails_is_repeated_also_where_there_is_nothing_to_put_back() {
    for failure in ["refused", "unknown", "other kind"] {
        let mut fixture = selling(&[]);
        fixture.board.learn(&sale(), &told(0, 10, fixture.now)).unwrap();
        fixture.wait(limits::SYNC_INTERVAL_MS);
        let (call, _) = std::iter::from_fn(|| fixture.desk.poll_call())
            .find(|(_, call)| matches!(call, Call::Ledger(LedgerOp::Changes { .. })))
            .unwrap();
        fixture.answer_with(call, changes(&[sale()]));
        let (call, _) = std::iter::from_fn(|| fixture.desk.poll_call())
            .find(|(_, call)| matches!(call, Call::Sale { op: SaleOp::Snapshot, .. }))
            .unwrap();
        let less = told(0, 8, fixture.now);
        fixture.answer_with(call, Answer::Sale { state: less.clone(), result: SaleResult::Done });
        fixture.turn();
        let (call, told_seen, bookings) = fixture.restore();
        assert_eq!((told_seen, bookings.len()), (seen(0, 10), 0));
        let answer = match failure {
            "refused" => Err(CallError::Refused("OOM".to_owned())),
            "unknown" => Err(CallError::Unknown("cut".to_owned())),
            _ => Ok(Answer::Sale { state: less, result: SaleResult::Done }),
        };
        fixture.desk.handle_answer(call, answer, fixture.now);
        fixture.wait(limits::RESTORE_RETRY_MS + limits::SYNC_INTERVAL_MS);
        let (call, told_seen, _) = fixture.restore();
        assert_eq!(told_seen, seen(0, 10), "{failure}");
        let frozen = told(5, 8, fixture.now);
        fixture.answer_restore(call, frozen, &[]);
        fixture.wait(limits::RESTORE_RETRY_MS + limits::SYNC_INTERVAL_MS);
        assert!(fixture.asked().is_empty(), "once it is answered it is not asked again");
    }
}

#[test]
fn a_pass_that_is_answered_from_two_histories_is_repeated() {
    let ids: Vec<String> = (0..=limits::ENTRIES_PER_CALL_MAX).map(|n| format!("b-{n}")).collect();
    let mut fixture = fixture(1_000);
    let large = SaleState { terms: state(1_000, 0).terms, ..told(0, 0, fixture.now) };
    fixture.board.learn(&sale(), &large).unwrap();
    fixture.turn();
    for (client, own) in (0..).zip(&ids) {
        fixture.reserve(client, Some(own), 1).unwrap();
    }
    fixture.turn();
    for (call, asked) in fixture.asked() {
        let reservations = vec![granted(); asked.entries()];
        fixture.answer_with(
            call,
            Answer::Sale { state: told(0, 9, fixture.now), result: SaleResult::Reserved(reservations) },
        );
    }
    fixture.reconnect();
    for lineages in [[0, 1], [1, 1]] {
        let asked = fixture.asked();
        assert_eq!(asked.len(), 2);
        fixture.reserve(0, None, 1).unwrap();
        fixture.turn();
        assert!(fixture.asked().is_empty());
        for ((call, asked), lineage) in asked.into_iter().zip(lineages) {
            let restorations = vec![Restoration::Stands; asked.entries()];
            let state = told(lineage, 9, fixture.now);
            fixture.answer_with(call, Answer::Sale { state, result: SaleResult::Restored(restorations) });
        }
        fixture.turn();
    }
    assert_eq!(fixture.reserve_call().1, seen(1, 9));
}

#[test]
fn nothing_is_carried_into_another_sale_of_that_name() {
    for opened in [OPENED + 1, OPENED - 1] {
        let mut fixture = selling(&["a"]);
        fixture.reconnect();
        let (call, _, _) = fixture.restore();
        let other = SaleState { opened, lineage: opened, by_operator: true, ..told(0, 3, fixture.now) };
        fixture.answer_with(call, Answer::Stale(other.clone()));
        assert_eq!(fixture.desk.guard_counts(), GuardCounts { put_back: 0, lost: 1 });
        fixture.reserve(1, Some("mine"), 1).unwrap();
        fixture.turn();
        assert_eq!(fixture.reserve_call().1, Watermark::of(&other));
        fixture.reconnect();
        assert!(
            fixture
                .asked()
                .iter()
                .all(|(_, call)| !matches!(call, Call::Bookings { op: BookingOp::Restore(_), .. }))
        );
    }
}

/// Another core, or the sync, knows of the new sale before this core connects.
#[test]
fn what_was_told_of_a_former_sale_is_offered_to_that_one_alone() {
    let mut fixture = selling(&["a"]);
    fixture.board.mark_missing("ticket");
    let other =
        SaleState { opened: OPENED + 9, lineage: OPENED + 9, by_operator: true, ..told(0, 3, fixture.now) };
    fixture.board.learn(&sale(), &other).unwrap();
    fixture.turn();
    fixture.reconnect();
    for (call, asked) in fixture.asked() {
        let Call::Bookings { seen, op: BookingOp::Restore(bookings), .. } = asked else {
            panic!("{asked:?}")
        };
        let answer = match seen.opened {
            OPENED => {
                assert_eq!(bookings, [confirmed("a")]);
                Answer::Stale(other.clone())
            }
            _ => {
                assert_eq!((seen, bookings.len()), (Watermark::of(&other), 0));
                Answer::Sale { state: other.clone(), result: SaleResult::Restored(Vec::new()) }
            }
        };
        fixture.answer_with(call, answer);
    }
    assert_eq!(fixture.desk.guard_counts(), GuardCounts { put_back: 0, lost: 1 });
    fixture.reserve(1, Some("mine"), 1).unwrap();
    fixture.turn();
    assert_eq!(fixture.reserve_call().1, Watermark::of(&other));
}

#[test]
fn a_ledger_that_is_away_for_long_is_given_what_was_remembered_when_it_went() {
    let mut fixture = selling(&["a"]);
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    for _ in 0..3 {
        fixture.wait(limits::REMEMBERED_MS);
    }
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    // As a loop does: the sync that is due by now comes before what is offered.
    fixture.turn();
    let (call, ..) = fixture.restore();
    // It cannot take it yet, and is given it again, however late that is.
    fixture.desk.handle_answer(call, Err(CallError::Refused("LOADING".to_owned())), fixture.now);
    fixture.wait(limits::RESTORE_RETRY_MS + limits::SYNC_INTERVAL_MS);
    fixture.wait(limits::SYNC_INTERVAL_MS);
    assert_eq!(fixture.restore().2, [confirmed("a")]);

    let mut fixture = selling(&["a"]);
    fixture.wait(limits::REMEMBERED_MS + 1);
    fixture.asked();
    fixture.reconnect();
    assert!(fixture.asked().is_empty(), "too long ago");
}
