//! What is refused from memory, and what is asked first.

use super::*;

#[test]
fn sold_out_without_an_id_makes_no_call_and_no_id() {
    let mut fixture = fixture(0);
    assert_eq!(fixture.reserve(1, None, 1), Err(Refusal::SoldOut));
    fixture.turn();
    assert!(fixture.batch().is_none());
    assert_eq!(fixture.made, 0);
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
fn what_is_to_change_a_booking_on_the_way_waits_for_it() {
    let mut fixture = fixture(10);
    fixture.reserve(1, Some("a"), 1).unwrap();
    assert_eq!(fixture.ask(2, id("a"), BookingAction::Cancel { tombstone: false }), Err(Refusal::InProgress));
    assert_eq!(fixture.ask(3, id("a"), BookingAction::Confirm), Err(Refusal::InProgress));
    fixture.ask(4, id("a"), BookingAction::LookUp).unwrap();
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
