//! Many holds that end at once, and limits for buyers: what is over counts for nobody, on every ledger.

use boxoffice::audit::Kind;
use boxoffice::booking::*;
use boxoffice::limits::ENTRIES_PER_CALL_MAX;
use boxoffice::protocol::*;

use crate::audits::audit_of;
use crate::subjects::{START, Subject, on_each_ledger};
use crate::words::*;

fn status(answer: Answer) -> BookingStatus {
    bookings(answer).remove(0).expect("a booking").status
}

fn book_all(ledger: &mut dyn Subject, count: usize, buyer: impl Fn(usize) -> String) {
    let names: Vec<String> = (0..count).map(|n| format!("b{n}")).collect();
    for (chunk, some) in names.chunks(ENTRIES_PER_CALL_MAX).enumerate() {
        let first = chunk * ENTRIES_PER_CALL_MAX;
        let claims = some.iter().enumerate().map(|(n, name)| claim(name, 1, Some(&buyer(first + n))));
        let all = reservations(ledger.ask(reserve(claims)));
        assert!(all.iter().all(|one| matches!(one, Reservation::Granted { .. })), "{}", ledger.name());
        // So that they end in many moments.
        ledger.set_time(START + chunk as u64);
    }
}

/// Far more holds end at once than any call enters as expired: whoever asks next finds all of them available.
#[test]
fn what_is_overdue_is_available_at_once_however_much_it_is() {
    on_each_ledger(|ledger| {
        let terms =
            SaleTerms { total: 3_000, hold_ms: Some(100), per_buyer: Some(3_000), ..SaleTerms::default() };
        ledger.ask(open_on(terms));
        book_all(ledger, 3_000, |_| "u-81".to_owned());
        assert_eq!(reservations(ledger.ask(reserve_ids(&["x"]))), [Reservation::SoldOut]);
        ledger.set_time(START + 99);
        assert_eq!(reservations(ledger.ask(reserve_ids(&["x"]))), [Reservation::SoldOut], "not yet");
        ledger.set_time(START + 1_000);
        // A reading says so, a booking of any size is granted at its first try, its buyer's limit is free, and so is the
        // total: all of it long before the holds are entered as expired.
        let told = state(ledger.ask(look_up(&[])));
        assert_eq!((told.held, told.sold, told.available()), (0, 0, 3_000), "{}", ledger.name());
        let all = reservations(ledger.ask(reserve([claim("group", 2_999, Some("u-81"))])));
        assert_eq!(all, [granted_until(START + 1_100)], "{}", ledger.name());
        let refused = reservations(ledger.ask(reserve([claim("more", 2, Some("u-81"))])));
        assert_eq!(refused, [Reservation::BuyerLimit], "{}", ledger.name());
        ledger.ask(cancel(&["group"]));
        let change = SaleChange { total: Some(0), ..SaleChange::default() };
        assert_eq!(state(ledger.ask(alter(change))).terms.total, 0, "{}", ledger.name());
        assert_eq!(status(ledger.ask(look_up(&["b0"]))), BookingStatus::Expired);
        // Then the books are brought up to date, and nothing is counted twice.
        let mut calls = 0;
        loop {
            let state = state(ledger.ask(expire()));
            assert_eq!((state.held, state.sold), (0, 0), "{}", ledger.name());
            if state.due_at.is_none_or(|due| due > state.now) {
                break;
            }
            calls += 1;
            assert!(calls < 3_000, "{}: nothing is entered as expired", ledger.name());
        }
        assert_eq!(state(ledger.ask(snapshot())).sequence, 3_000 + 2 + 3_000, "{}", ledger.name());
    });
}

/// After hours in which nobody asked for anything, spans of every length have ended.
#[test]
fn holds_that_end_over_days_are_available_whenever_somebody_asks() {
    on_each_ledger(|ledger| {
        ledger.ask(open(40));
        let mut ends: Vec<u64> = Vec::new();
        for (n, hold_ms) in [1, 63, 64, 65, 4_095, 4_096, 262_143, 262_144, 300_000, 16_777_217, 86_400_000]
            .into_iter()
            .enumerate()
        {
            let change = SaleChange { hold_ms: Some(Some(hold_ms)), ..SaleChange::default() };
            ledger.ask(alter(change));
            ledger.ask(reserve([claim(&format!("b{n}"), 1 + n as u64 % 3, None)]));
            ends.push(START + hold_ms);
        }
        let quantity = |n: usize| 1 + n as u64 % 3;
        let times =
            [0, 1, 62, 63, 64, 1_000, 4_095, 5_000, 262_143, 262_144, 299_999, 20_000_000, 86_400_000];
        for ms in times {
            ledger.set_time(START + ms);
            let live = ends.iter().enumerate().filter(|(_, end)| **end > START + ms);
            let held: u64 = live.map(|(n, _)| quantity(n)).sum();
            assert_eq!(state(ledger.ask(look_up(&[]))).held, held, "{} after {ms} ms", ledger.name());
            if ms % 2 == 0 {
                assert_eq!(state(ledger.ask(expire())).held, held, "{} after {ms} ms", ledger.name());
            }
        }
        assert_eq!(state(ledger.ask(expire())).due_at, None, "{}", ledger.name());
    });
}

#[test]
fn a_limit_set_in_mid_sale_counts_what_buyers_have() {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms { total: 2_000, ..SaleTerms::default() }));
        book_all(ledger, 1_000, |n| format!("u-{}", n % 300));
        ledger.ask(reserve([claim("big", 10, Some("u-big")), claim("nobody", 50, None)]));
        let limited = |limit| alter(SaleChange { per_buyer: Some(limit), ..SaleChange::default() });
        let state_of = |answer| match answer {
            Answer::Sale { state, result: SaleResult::Done } => state,
            other => panic!("{other:?}"),
        };
        let after = state_of(ledger.ask(limited(Some(4))));
        assert_eq!((after.terms.per_buyer, after.version), (Some(4), 2), "{}", ledger.name());
        let try_to = |ledger: &mut dyn Subject, name: &str, quantity, buyer| {
            reservations(ledger.ask(reserve([claim(name, quantity, Some(buyer))]))).remove(0)
        };
        // 3 or 4 each had before; ten for one who may keep them, and gets no more.
        assert_eq!(try_to(ledger, "a", 1, "u-99"), Reservation::BuyerLimit, "{}", ledger.name());
        assert_eq!(try_to(ledger, "b", 1, "u-100"), GRANTED, "{}", ledger.name());
        assert_eq!(try_to(ledger, "c", 1, "u-100"), Reservation::BuyerLimit, "{}", ledger.name());
        assert_eq!(try_to(ledger, "d", 1, "u-big"), Reservation::BuyerLimit, "{}", ledger.name());
        assert_eq!(try_to(ledger, "e", 4, "u-new"), GRANTED, "{}", ledger.name());
        // Off and on again.
        ledger.ask(limited(None));
        assert_eq!(try_to(ledger, "f", 3, "u-new"), GRANTED, "{}", ledger.name());
        ledger.ask(cancel(&["big"]));
        ledger.ask(limited(Some(8)));
        assert_eq!(try_to(ledger, "g", 2, "u-new"), Reservation::BuyerLimit, "{}", ledger.name());
        assert_eq!(try_to(ledger, "h", 1, "u-new"), GRANTED, "{}", ledger.name());
        assert_eq!(try_to(ledger, "i", 8, "u-big"), GRANTED, "{}", ledger.name());
        if ledger.name() != "model" {
            let findings = audit_of(&mut crate::random::Audited(ledger), sale());
            let differs: Vec<_> = findings.listed.iter().filter(|it| it.kind != Kind::Clock).collect();
            assert!(differs.is_empty(), "{differs:?}");
        }
    });
}

#[test]
fn a_sale_that_demands_a_buyer_books_for_nobody_else() {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms {
            total: 9,
            per_buyer: Some(2),
            buyer_required: true,
            ..SaleTerms::default()
        }));
        let answers = reservations(ledger.ask(reserve([claim("a", 1, None), claim("b", 1, Some("u"))])));
        assert_eq!(answers, [Reservation::BuyerRequired, GRANTED], "{}", ledger.name());
        assert_eq!(reservations(ledger.ask(reserve_ids(&["a", "c"]))), vec![Reservation::BuyerRequired; 2]);
        ledger.ask(alter(SaleChange { buyer_required: Some(false), ..SaleChange::default() }));
        assert_eq!(reservations(ledger.ask(reserve_ids(&["a"]))), [GRANTED], "{}", ledger.name());
        ledger.ask(alter(SaleChange { buyer_required: Some(true), ..SaleChange::default() }));
        let known = reservations(ledger.ask(reserve_ids(&["a", "d"])));
        assert!(
            matches!(&known[..], [Reservation::Known(_), Reservation::BuyerRequired]),
            "{}: {known:?}",
            ledger.name()
        );
        assert_eq!(state(ledger.ask(snapshot())).version, 3, "{}", ledger.name());
    });
}
