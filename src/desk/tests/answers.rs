//! What clients are told of the answers of the ledger, and what becomes of permits.

use super::*;

#[test]
fn every_answer_settles_its_permits() {
    let mut fixture = fixture(10);
    assert_eq!(fixture.permits(), (12, 0));
    for client in 0..4 {
        fixture.reserve(client, Some(["a", "b", "c", "d"][client as usize]), 1).unwrap();
    }
    assert_eq!(fixture.permits(), (8, 4));
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    let known = Booking {
        id: id("b"),
        status: BookingStatus::Confirmed,
        quantity: Quantity::ONE,
        released: 0,
        buyer: None,
        reassigned: 0,
    };
    let reservations =
        vec![granted(), Reservation::Known(known), Reservation::SoldOut, Reservation::BuyerLimit];
    fixture.answer(call, 9, reservations);
    // 9 left, so 11 permits (9 x 1.2, rounded up); none is taken any more.
    assert_eq!(fixture.permits(), (11, 0));
    assert_eq!(fixture.desk.waiting(), 0);
}

#[test]
fn a_late_grant_of_a_made_id_is_cancelled_with_a_tombstone_until_that_is_done() {
    let mut fixture = fixture(10);
    fixture.reserve(1, None, 1).unwrap();
    fixture.reserve(2, Some("own"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.wait(TIMEOUT_MS);
    let unknown = Outcome::Refused(Refusal::OutcomeUnknown);
    assert_eq!(fixture.told(), [(1, unknown.clone()), (2, unknown)]);
    fixture.answer(call, 8, vec![granted(), granted()]);
    assert!(fixture.told().is_empty(), "nobody is told twice");
    // Who has an id of its own may ask again, so only the made one is cancelled; until it is, nobody is told of it.
    assert_eq!(fixture.reserve(3, Some("made-1"), 1), Err(Refusal::InProgress));
    fixture.turn();
    let seen = Watermark { sequence: 1, ..Watermark::default() };
    let expected = BookingOp::Cancel(vec![Cancel { id: id("made-1"), tombstone: true }]).on(sale(), seen);
    let (cancel, asked) = fixture.batch().unwrap();
    assert_eq!(asked, expected);
    fixture.desk.handle_answer(cancel, Err(CallError::Refused("OOM".to_owned())), fixture.now);
    fixture.wait(limits::SYNC_INTERVAL_MS);
    let (cancel, asked) = fixture.batch().unwrap();
    assert_eq!(asked, expected);
    let booking = Booking {
        id: id("made-1"),
        status: BookingStatus::Cancelled,
        quantity: Quantity::ONE,
        released: 0,
        buyer: None,
        reassigned: 0,
    };
    let cancellations = vec![Cancellation::Cancelled(booking)];
    fixture.desk.handle_answer(
        cancel,
        Ok(Answer::Sale { state: state(9, 9), result: SaleResult::Cancelled(cancellations) }),
        fixture.now,
    );
    assert_eq!((fixture.desk.waiting(), fixture.permits()), (0, (11, 0)));
    fixture.reserve(3, Some("made-1"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.answer(call, 9, vec![Reservation::IdReused]);
    fixture.wait(limits::SYNC_INTERVAL_MS);
    assert!(fixture.batch().is_none());
}

#[test]
fn our_own_batch_sent_again_is_a_grant_to_a_made_id() {
    let mut fixture = fixture(10);
    fixture.reserve(1, None, 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    let booking = Booking {
        id: id("made-1"),
        status: BookingStatus::Confirmed,
        quantity: Quantity::ONE,
        released: 0,
        buyer: None,
        reassigned: 0,
    };
    fixture.answer(call, 9, vec![Reservation::Known(booking.clone())]);
    assert_eq!(fixture.told(), [(1, Outcome::Granted(booking))]);
}

#[test]
fn what_is_not_answered_is_told_by_what_may_have_come_of_it() {
    let lost = || Err(CallError::Unknown("cut".to_owned()));
    for late in [true, false] {
        let mut fixture = fixture(10);
        let now = fixture.now;
        fixture.ask_all_that_there_is();
        let calls: Vec<CallId> = std::iter::from_fn(|| fixture.batch()).map(|(call, _)| call).collect();
        match late {
            true => fixture.wait(TIMEOUT_MS),
            false => calls.into_iter().for_each(|call| {
                fixture.desk.handle_answer(call, lost(), now);
            }),
        }
        let mut told = fixture.told();
        told.sort_by_key(|(client, _)| *client);
        let unknown = || Outcome::Refused(Refusal::OutcomeUnknown);
        // To look changes nothing.
        let unavailable = Outcome::Refused(Refusal::LedgerUnavailable);
        let expected = [(1, unknown()), (2, unavailable), (3, unknown()), (4, unknown()), (5, unknown())];
        assert_eq!(told, expected, "late: {late}");
    }
}

#[test]
fn a_late_payment_is_told_what_forbids_it() {
    use crate::protocol::Confirmation;
    let mut fixture = fixture(10);
    for (client, own) in (0..).zip(["a", "b", "c", "d"]) {
        fixture.ask(client, id(own), BookingAction::Confirm).unwrap();
    }
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    let expired = |own: &str| Booking { status: BookingStatus::Expired, ..booked(own, 1) };
    let confirmations = vec![
        Confirmation::HoldExpired(expired("a")),
        Confirmation::BuyerLimit(expired("b")),
        Confirmation::Cancelled(Booking { status: BookingStatus::Cancelled, ..booked("c", 1) }),
        Confirmation::NotFound,
    ];
    fixture.desk.handle_answer(
        call,
        Ok(Answer::Sale { state: state(9, 2), result: SaleResult::Confirmed(confirmations) }),
        fixture.now,
    );
    let refusals =
        [Refusal::HoldExpired, Refusal::BuyerLimit, Refusal::BookingCancelled, Refusal::NoSuchBooking];
    let told: Vec<_> = fixture.told().into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(told, refusals.map(Outcome::Refused));
}

#[test]
fn each_change_of_a_booking_is_told_as_what_it_is() {
    use crate::booking::OffSale;
    use crate::protocol::{Amended, Objection};
    let mut fixture = fixture(10);
    let ms = 1_000;
    let kinds =
        [Amendment::Extend { ms }, Amendment::Release { remaining: Quantity::ONE }, Amendment::HoldAgain];
    let objections = [
        (Objection::Confirmed, Refusal::BookingConfirmed),
        (Objection::Cancelled, Refusal::BookingCancelled),
        (Objection::HoldExpired, Refusal::HoldExpired),
        (Objection::HoldLimit, Refusal::HoldLimit),
        (Objection::NotARelease, Refusal::NotARelease),
        (Objection::NotOnSale, Refusal::NotOnSale(OffSale::Paused)),
        (Objection::BuyerRequired, Refusal::BuyerRequired),
        (Objection::BuyerLimit, Refusal::BuyerLimit),
        (Objection::SoldOut, Refusal::SoldOut),
    ];
    let amendments: Vec<_> = kinds.into_iter().chain([Amendment::HoldAgain; 10]).collect();
    for (client, amendment) in (0..).zip(&amendments) {
        let own = id(&format!("b-{client}"));
        fixture.ask(client, own, BookingAction::Amend(*amendment)).unwrap();
    }
    fixture.turn();
    let (call, asked) = fixture.batch().unwrap();
    let Call::Bookings { op: BookingOp::Amend(sent), .. } = &asked else { panic!("{asked:?}") };
    assert_eq!(sent.iter().map(|(_, amendment)| *amendment).collect::<Vec<_>>(), amendments);
    let done = ["b-0", "b-1", "b-2"].map(|own| Amended::Done(booked(own, 1)));
    let refused = objections.map(|(objection, _)| Amended::Refused(objection));
    let bookings = done.into_iter().chain(refused).chain([Amended::NotFound]).collect();
    let state = SaleState { status: SaleStatus::Paused, ..state(9, 2) };
    fixture.desk.handle_answer(
        call,
        Ok(Answer::Sale { state, result: SaleResult::Amended(bookings) }),
        fixture.now,
    );
    let told: Vec<_> = fixture.told().into_iter().map(|(_, outcome)| outcome).collect();
    let done = [
        Outcome::Extended(booked("b-0", 1)),
        Outcome::Released(booked("b-1", 1)),
        Outcome::HeldAgain(booked("b-2", 1)),
    ];
    let refused = objections.map(|(_, refusal)| refusal).into_iter().chain([Refusal::NoSuchBooking]);
    assert_eq!(told, done.into_iter().chain(refused.map(Outcome::Refused)).collect::<Vec<_>>());
}

#[test]
fn a_ledger_that_refuses_is_not_one_that_cannot_be_asked() {
    let mut fixture = fixture(10);
    fixture.reserve(1, Some("own"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.desk.handle_answer(call, Err(CallError::Refused("OOM".to_owned())), fixture.now);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::LedgerRefuses))]);
    assert_eq!(fixture.permits(), (12, 0));
}

#[test]
fn a_nonsensical_answer_is_unknown_and_never_a_grant() {
    let mut fixture = fixture(10);
    fixture.reserve(1, Some("own"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.answer(call, 8, vec![granted(), granted()]);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::OutcomeUnknown))]);
    assert_eq!(fixture.desk.waiting(), 0);
}

#[test]
fn an_answer_for_more_or_fewer_than_asked_is_unknown_whatever_was_asked() {
    use crate::protocol::{Amended, Confirmation};
    for length in [0, 2] {
        let mut fixture = fixture(10);
        let now = fixture.now;
        fixture.ask_all_that_there_is();
        while let Some((call, asked)) = fixture.batch() {
            let (state, booking) = (state(9, 1), booked("x", 1));
            let answer = match asked {
                Call::Bookings { op: BookingOp::Reserve(_), .. } => {
                    Answer::Sale { state, result: SaleResult::Reserved(vec![granted(); length]) }
                }
                Call::Sale { op: SaleOp::LookUp(_), .. } => {
                    Answer::Sale { state, result: SaleResult::Found(vec![Some(booking); length]) }
                }
                Call::Bookings { op: BookingOp::Confirm(_), .. } => {
                    let confirmations = vec![Confirmation::Confirmed(booking); length];
                    Answer::Sale { state, result: SaleResult::Confirmed(confirmations) }
                }
                Call::Bookings { op: BookingOp::Cancel(_), .. } => {
                    let cancellations = vec![Cancellation::Cancelled(booking); length];
                    Answer::Sale { state, result: SaleResult::Cancelled(cancellations) }
                }
                Call::Bookings { op: BookingOp::Amend(_), .. } => {
                    Answer::Sale { state, result: SaleResult::Amended(vec![Amended::Done(booking); length]) }
                }
                other => panic!("{other:?}"),
            };
            fixture.desk.handle_answer(call, Ok(answer), now);
        }
        let mut told = fixture.told();
        told.sort_by_key(|(client, _)| *client);
        let unknown = || Outcome::Refused(Refusal::OutcomeUnknown);
        let unavailable = Outcome::Refused(Refusal::LedgerUnavailable);
        let expected = [(1, unknown()), (2, unavailable), (3, unknown()), (4, unknown()), (5, unknown())];
        assert_eq!(told, expected, "{length} for one");
        assert_eq!((fixture.desk.waiting(), fixture.permits()), (0, (12, 0)), "{length} for one");
    }
}
