//! The desk against a ledger played by hand: what leaves, when, and what clients are told.

mod guard;
mod losses;
mod membership;
mod news;
mod orphans;
mod reach;

use std::sync::Arc;

use super::*;
use crate::booking::{
    Amendment, Booking, BookingStatus, LogEntry, Quantity, SaleName, SaleState, SaleStatus, SaleTerms,
};
use crate::clock::WallTime;
use crate::protocol::{
    Answer, BookingOp, CallError, Cancel, Cancellation, LedgerOp, LedgerResult, Reservation, SaleOp,
    SaleResult, Watermark,
};

const TIMEOUT_MS: u64 = 2_000;

/// A desk of one core over one sale, a clock, and counters of made ids.
struct Fixture {
    desk: Desk<u32>,
    board: Arc<Board>,
    lane: LaneIndex,
    now: Now,
    made: u32,
    sequence: u64,
}

fn sale() -> SaleName {
    SaleName::parse("ticket").unwrap()
}

fn id(text: &str) -> BookingId {
    BookingId::parse(text).unwrap()
}

fn fixture(available: u64) -> Fixture {
    fixture_beside(0, available)
}

/// Beside the desks of so many other cores.
fn fixture_beside(others: usize, available: u64) -> Fixture {
    let board = Arc::new(Board::new(1 + others, 1.0, 0.2));
    let now = Now { monotonic: Monotonic(0), wall: WallTime(1_000_000) };
    board.learn(&sale(), &state(available, 0)).unwrap();
    let mut desk = Desk::new(CoreIndex(0), Arc::clone(&board), TIMEOUT_MS, now);
    desk.refresh_lanes();
    desk.handle_ledger_up(SlotRange::ALL);
    let lane = desk.lane("ticket").unwrap();
    let mut fixture = Fixture { desk, board, lane, now, made: 0, sequence: 0 };
    // The first sync asks for the sales and for the level.
    fixture.turn();
    while let Some((call, asked)) = fixture.desk.poll_call() {
        let answer = match asked {
            Call::Ledger(LedgerOp::Sales) => {
                Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: Vec::new() })
            }
            Call::Ledger(LedgerOp::Changes { .. }) => changes(&[]),
            _ => Answer::Sale { state: state(available, 0), result: SaleResult::Done },
        };
        fixture.desk.handle_answer(call, Ok(answer), fixture.now);
    }
    fixture
}

fn state(available: u64, sequence: u64) -> SaleState {
    SaleState {
        terms: SaleTerms { total: available, ..Default::default() },
        status: SaleStatus::Open,
        version: 1,
        sequence,
        now: WallTime(1_000_000 + sequence),
        ..Default::default()
    }
}

/// These were announced as changed.
fn changes(names: &[SaleName]) -> Answer {
    let ledger = String::new();
    Answer::Ledger(LedgerResult::Changes {
        names: names.to_vec(),
        at: 1,
        more: false,
        reset: false,
        ledger,
        now: WallTime(0),
    })
}

impl Fixture {
    /// One request of each kind, by clients 1 to 5, and the end of the turn: reserve, look up, confirm, cancel, amend.
    fn ask_all_that_there_is(&mut self) {
        self.reserve(1, Some("a"), 1).unwrap();
        self.ask(2, id("b"), BookingAction::LookUp).unwrap();
        self.ask(3, id("c"), BookingAction::Confirm).unwrap();
        self.ask(4, id("d"), BookingAction::Cancel { tombstone: false }).unwrap();
        self.ask(5, id("e"), BookingAction::Amend(Amendment::HoldAgain)).unwrap();
        self.turn();
    }

    fn ask(&mut self, client: u32, id: BookingId, action: BookingAction) -> Result<(), Refusal> {
        let admitted = self.desk.admit_action(self.lane, &id, action, self.now)?;
        self.desk.enqueue(admitted, client, self.now, || panic!("it has an id"));
        Ok(())
    }

    fn reserve(&mut self, client: u32, own_id: Option<&str>, quantity: u64) -> Result<(), Refusal> {
        let quantity = Quantity::new(quantity).unwrap();
        let wanted = BookingRequest { id: own_id.map(id), quantity, buyer: None };
        let admitted = self.desk.admit_booking(self.lane, &wanted, self.now)?;
        let made = &mut self.made;
        let make_id = || {
            *made += 1;
            id(&format!("made-{made}"))
        };
        self.desk.enqueue(admitted, client, self.now, make_id);
        Ok(())
    }

    fn turn(&mut self) {
        self.desk.handle_deadline(self.now);
        self.desk.end_turn(self.now);
    }

    fn wait(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.plus_ms(ms);
        self.now.wall.0 += ms;
        self.turn();
    }

    /// The next call that is about bookings.
    fn batch(&mut self) -> Option<(CallId, Call)> {
        std::iter::from_fn(|| self.desk.poll_call()).find(|(_, call)| call.entries() > 0)
    }

    fn answer(&mut self, call: CallId, available: u64, reservations: Vec<Reservation>) {
        self.sequence += 1;
        let state = state(available, self.sequence);
        self.desk.handle_answer(
            call,
            Ok(Answer::Sale { state, result: SaleResult::Reserved(reservations) }),
            self.now,
        );
    }

    fn told(&mut self) -> Vec<(u32, Outcome)> {
        std::iter::from_fn(|| self.desk.poll_resolved())
            .map(|resolved| (resolved.client, resolved.outcome))
            .collect()
    }

    fn permits(&self) -> (u64, u64) {
        let totals = self.board.totals();
        (totals[0].free, totals[0].taken)
    }
}

fn granted() -> Reservation {
    Reservation::Granted { expires_at: None }
}

#[test]
fn gathers_a_turn_into_one_call_and_keeps_gathering_while_calls_are_on_the_way() {
    let mut fixture = fixture(100);
    for client in 0..3 {
        fixture.reserve(client, None, 1).unwrap();
    }
    assert!(fixture.batch().is_none(), "nothing leaves before the turn ends");
    fixture.turn();
    let (first, call) = fixture.batch().unwrap();
    assert_eq!(call.entries(), 3);
    for client in 3..6 {
        fixture.reserve(client, None, 1).unwrap();
        fixture.turn();
        assert!(fixture.batch().is_none());
    }
    fixture.answer(first, 97, vec![granted(), granted(), granted()]);
    assert_eq!(fixture.told().len(), 3);
    fixture.turn();
    assert_eq!(fixture.batch().unwrap().1.entries(), 3);
}

#[test]
fn splits_what_gathered_at_the_cap() {
    let mut fixture = fixture(10_000);
    let clients = u32::try_from(limits::ENTRIES_PER_CALL_MAX).unwrap() + 1;
    for client in 0..clients {
        fixture.reserve(client, None, 1).unwrap();
    }
    fixture.turn();
    assert_eq!(fixture.batch().unwrap().1.entries(), limits::ENTRIES_PER_CALL_MAX);
    assert_eq!(fixture.batch().unwrap().1.entries(), 1);
}

#[test]
fn sold_out_without_an_id_makes_no_call_and_no_id() {
    let mut fixture = fixture(0);
    assert_eq!(fixture.reserve(1, None, 1), Err(Refusal::SoldOut));
    fixture.turn();
    assert!(fixture.batch().is_none());
    assert_eq!(fixture.made, 0);
}

fn booked(text: &str, quantity: u64) -> Booking {
    Booking {
        id: id(text),
        status: BookingStatus::Confirmed,
        quantity: Quantity::new(quantity).unwrap(),
        released: 0,
        buyer: None,
        reassigned: 0,
    }
}

/// A sale that was sold out at sequence 3 before this host came, its log not read yet.
fn sold_out_before() -> Fixture {
    let mut fixture = fixture(0);
    fixture.board.learn(&sale(), &state(1, 2)).unwrap();
    fixture.board.learn(&sale(), &state(0, 3)).unwrap();
    fixture.sequence = 3;
    fixture
}

#[test]
fn sold_out_with_an_id_asks_whether_it_is_a_repeat_while_the_log_is_unread() {
    let mut fixture = sold_out_before();
    fixture.reserve(1, Some("a"), 1).unwrap();
    fixture.reserve(2, Some("b"), 1).unwrap();
    fixture.reserve(3, Some("c"), 1).unwrap();
    fixture.turn();
    let (call, asked) = fixture.batch().unwrap();
    assert_eq!(asked, SaleOp::LookUp(vec![id("a"), id("b"), id("c")]).on(sale()));
    let bookings = vec![Some(booked("a", 1)), Some(booked("b", 2)), None];
    fixture.desk.handle_answer(
        call,
        Ok(Answer::Sale { state: state(0, 3), result: SaleResult::Found(bookings) }),
        fixture.now,
    );
    assert_eq!(
        fixture.told(),
        [
            (1, Outcome::Replayed(booked("a", 1))),
            (2, Outcome::Refused(Refusal::IdReused)),
            (3, Outcome::Refused(Refusal::SoldOut)),
        ]
    );
}

#[test]
fn follows_the_log_of_a_sold_out_sale_and_then_refuses_unknown_ids_from_memory() {
    let mut fixture = sold_out_before();
    let mut pages = 0;
    for _ in 0..10 {
        fixture.wait(limits::SYNC_INTERVAL_MS);
        while let Some((call, asked)) = fixture.desk.poll_call() {
            let answer = match asked {
                Call::Sale { op: SaleOp::Log { after }, .. } => {
                    pages += 1;
                    // One entry a page, so that it takes three.
                    let booking = booked(&format!("elsewhere-{}", after + 1), 1);
                    Answer::Sale {
                        state: state(0, 3),
                        result: SaleResult::Log(vec![LogEntry {
                            sequence: after + 1,
                            at: WallTime(1),
                            booking,
                        }]),
                    }
                }
                Call::Ledger(LedgerOp::Sales) => {
                    Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: Vec::new() })
                }
                Call::Ledger(LedgerOp::Changes { .. }) => changes(&[sale()]),
                _ => Answer::Sale { state: state(0, 3), result: SaleResult::Done },
            };
            fixture.desk.handle_answer(call, Ok(answer), fixture.now);
        }
    }
    assert_eq!(pages, 3, "each page is read once, and none after the end");
    for sequence in 1..=3 {
        fixture.reserve(sequence, Some(&format!("elsewhere-{sequence}")), 1).unwrap();
    }
    assert_eq!(fixture.reserve(4, Some("never-granted"), 1), Err(Refusal::SoldOut));
    fixture.turn();
    assert_eq!(fixture.batch().unwrap().1.entries(), 3);
}

#[test]
fn a_log_with_a_gap_leaves_unknown_ids_to_the_ledger() {
    let mut fixture = sold_out_before();
    let mut pages = 0;
    for _ in 0..3 {
        fixture.wait(limits::SYNC_INTERVAL_MS);
        while let Some((call, asked)) = fixture.desk.poll_call() {
            let answer = match asked {
                Call::Sale { op: SaleOp::Log { .. }, .. } => {
                    pages += 1;
                    Answer::Sale {
                        state: state(0, 3),
                        result: SaleResult::Log(vec![LogEntry {
                            sequence: 3,
                            at: WallTime(1),
                            booking: booked("c", 1),
                        }]),
                    }
                }
                Call::Ledger(LedgerOp::Sales) => {
                    Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: Vec::new() })
                }
                Call::Ledger(LedgerOp::Changes { .. }) => changes(&[sale()]),
                _ => Answer::Sale { state: state(0, 3), result: SaleResult::Done },
            };
            fixture.desk.handle_answer(call, Ok(answer), fixture.now);
        }
    }
    assert_eq!(pages, 1, "what is gone is not asked for at every sync");
    fixture.reserve(1, Some("a"), 1).unwrap();
}

#[test]
fn an_own_grant_is_found_again_at_once_when_the_sale_is_sold_out() {
    let mut fixture = fixture(1);
    fixture.reserve(1, Some("own"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.answer(call, 0, vec![granted()]);
    assert_eq!(fixture.told().len(), 1);
    fixture.reserve(2, Some("own"), 1).unwrap();
    fixture.turn();
    assert!(matches!(fixture.batch().unwrap().1, Call::Sale { op: SaleOp::LookUp(_), .. }));
}

#[test]
fn an_id_on_the_way_is_in_progress_with_permits_left_and_without() {
    for available in [100, 1] {
        let mut fixture = fixture(available);
        fixture.reserve(1, Some("a"), 1).unwrap();
        assert_eq!(fixture.reserve(2, Some("a"), 1), Err(Refusal::InProgress));
        while fixture.reserve(3, None, 1).is_ok() {}
        assert_eq!(fixture.reserve(4, Some("a"), 1), Err(Refusal::InProgress));
        fixture.wait(TIMEOUT_MS);
        fixture.desk.handle_ledger_up(SlotRange::ALL);
        // Nothing had left, so the id is free again.
        fixture.reserve(5, Some("a"), 1).unwrap();
        fixture.turn();
        let (call, _) = fixture.batch().unwrap();
        fixture.answer(call, 0, vec![Reservation::SoldOut]);
        assert_ne!(fixture.reserve(6, Some("a"), 1), Err(Refusal::InProgress));
    }
}

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
fn an_entry_that_never_left_is_told_as_not_done_and_gives_its_permit_back() {
    let mut fixture = fixture(10);
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.reserve(1, None, 1).unwrap();
    fixture.turn();
    assert!(fixture.batch().is_none());
    fixture.wait(TIMEOUT_MS - 1);
    assert!(fixture.told().is_empty());
    fixture.wait(1);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::LedgerUnavailable))]);
    assert_eq!((fixture.permits(), fixture.desk.waiting()), ((12, 0), 0));
    // By now the ledger is known to be away, and nobody waits for it in vain.
    assert_eq!(fixture.reserve(2, None, 1), Err(Refusal::LedgerUnavailable));
    assert_eq!(fixture.reserve(2, Some("a"), 1), Err(Refusal::LedgerUnavailable));
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    fixture.turn();
    assert!(fixture.batch().is_none());
    fixture.reserve(3, None, 1).unwrap();
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
fn what_is_to_change_a_booking_on_the_way_waits_for_it() {
    let mut fixture = fixture(10);
    fixture.reserve(1, Some("a"), 1).unwrap();
    assert_eq!(fixture.ask(2, id("a"), BookingAction::Cancel { tombstone: false }), Err(Refusal::InProgress));
    assert_eq!(fixture.ask(3, id("a"), BookingAction::Confirm), Err(Refusal::InProgress));
    fixture.ask(4, id("a"), BookingAction::LookUp).unwrap();
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
fn no_permit_while_the_ledger_is_silent_is_not_sold_out() {
    let mut fixture = fixture(1);
    fixture.reserve(1, None, 1).unwrap();
    fixture.reserve(2, None, 1).unwrap();
    fixture.turn();
    assert!(fixture.batch().is_some());
    assert_eq!(fixture.reserve(3, None, 1), Err(Refusal::SoldOut));
    fixture.wait(limits::LEDGER_SLOW_MS);
    assert_eq!(fixture.reserve(3, None, 1), Err(Refusal::LedgerUnavailable));
}

#[test]
fn a_missing_sale_is_not_sold_out() {
    let mut fixture = fixture(10);
    fixture.reserve(1, None, 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.desk.handle_answer(call, Ok(Answer::Missing), fixture.now);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::SaleMissing))]);
    assert_eq!(fixture.reserve(2, None, 1), Err(Refusal::SaleMissing));
}

#[test]
fn a_refusal_says_why_a_sale_does_not_sell_by_the_gate_and_by_the_ledger() {
    use crate::booking::OffSale;
    let (starts_at, ends_at) = (WallTime(2_000_000), WallTime(3_000_000));
    let window =
        SaleTerms { total: 9, starts_at: Some(starts_at), ends_at: Some(ends_at), ..Default::default() };
    for (status, at, why) in [
        (SaleStatus::Open, 1_999_999, OffSale::NotYet { starts_at }),
        (SaleStatus::Open, 3_000_000, OffSale::Over { ends_at }),
        // An operator's word comes before the window: that one says nothing of when it sells.
        (SaleStatus::Paused, 1_999_999, OffSale::Paused),
        (SaleStatus::Paused, 2_500_000, OffSale::Paused),
        (SaleStatus::Closed, 1_999_999, OffSale::Closed),
        (SaleStatus::Closed, 3_000_000, OffSale::Closed),
    ] {
        let refused = Refusal::NotOnSale(why);
        let off = SaleState { terms: window.clone(), status, now: WallTime(at), ..state(9, 2) };
        // Of a sale that was on when it was asked for.
        let mut fixture = fixture(9);
        fixture.reserve(1, Some("a"), 1).unwrap();
        fixture.turn();
        let (call, _) = fixture.batch().unwrap();
        let answer =
            Answer::Sale { state: off.clone(), result: SaleResult::Reserved(vec![Reservation::NotOnSale]) };
        fixture.desk.handle_answer(call, Ok(answer), fixture.now);
        assert_eq!(fixture.told(), [(1, Outcome::Refused(refused))]);
        // And from memory.
        fixture.board.learn(&sale(), &off).unwrap();
        assert_eq!(fixture.reserve(2, None, 1), Err(refused));
    }
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

#[test]
fn the_first_core_that_finds_the_ledger_silent_says_so_and_that_it_answers_again() {
    for (other_was_first, is_up) in [(false, true), (true, true), (false, false)] {
        let mut fixture = fixture_beside(1, 10);
        fixture.board.set_silent(CoreIndex(1), other_was_first);
        fixture.reserve(1, None, 1).unwrap();
        fixture.turn();
        let (call, _) = fixture.batch().unwrap();
        fixture.wait(limits::LEDGER_SLOW_MS - 1);
        assert!(!fixture.desk.notices.is_silence_told());
        if !is_up {
            // That the connection is lost is told elsewhere.
            fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
        }
        fixture.wait(1);
        assert_eq!(
            fixture.desk.notices.is_silence_told(),
            is_up && !other_was_first,
            "{other_was_first} {is_up}"
        );
        assert!(fixture.board.any_silent());
        fixture.answer(call, 9, vec![granted()]);
        while let Some((call, _)) = fixture.desk.poll_call() {
            fixture.desk.handle_answer(call, Err(CallError::Refused("OOM".to_owned())), fixture.now);
        }
        fixture.desk.handle_ledger_up(SlotRange::ALL);
        fixture.turn();
        assert!(!fixture.desk.notices.is_silence_told());
        assert_eq!(fixture.board.any_silent(), other_was_first);
    }
}

/// Whether operators are still told of a sale depends on how many others are in trouble.
#[test]
fn a_sale_that_can_be_sold_again_is_no_longer_counted_as_in_trouble() {
    let mut fixture = fixture(10);
    for _ in 0..3 {
        for (trouble, expected) in
            [(Some("it is missing"), 1), (Some("it is worse"), 1), (None, 0), (None, 0)]
        {
            fixture.desk.note_trouble(fixture.lane, trouble);
            assert_eq!(fixture.desk.notices.troubles(), expected, "{trouble:?}");
        }
    }
}

#[test]
fn takes_only_so_much_in_flight() {
    let mut fixture = fixture(1_000_000);
    let most = u32::try_from(limits::WAITING_PER_CORE_MAX).unwrap();
    for client in 0..most {
        fixture.reserve(client, None, 1).unwrap();
    }
    let before = fixture.permits();
    assert_eq!(fixture.reserve(most, None, 1), Err(Refusal::Overloaded));
    assert_eq!(fixture.permits(), before);
}
