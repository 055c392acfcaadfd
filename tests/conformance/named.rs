//! One test a promise, on every ledger.

use boxoffice::audit::Kind;
use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::limits::{ENTRIES_PER_CALL_MAX, EXPIRIES_PER_CALL_MAX, LOG_ENTRIES_PER_CALL_MAX};
use boxoffice::protocol::*;

use crate::audits::audit_of;
use crate::random::Audited;
use crate::subjects::{START, Subject, on_each_ledger};
use crate::words::*;

const UUID: &str = "0198c0de-0a20-7000-8000-00000000000a";

fn with_hold(total: u64, hold_ms: u64) -> Call {
    open_on(SaleTerms { total, hold_ms: Some(hold_ms), ..SaleTerms::default() })
}

fn status(answer: Answer) -> BookingStatus {
    bookings(answer).remove(0).expect("a booking").status
}

/// The published reference compares `total >= sold` before it adds, and so sells total + 1.
#[test]
fn strict_stock_where_the_reference_sells_one_too_many() {
    on_each_ledger(|ledger| {
        ledger.ask(open(3));
        let answers = reservations(ledger.ask(reserve_ids(&["a", "b", "c", "d"])));
        assert_eq!(answers, [GRANTED, GRANTED, GRANTED, Reservation::SoldOut], "{}", ledger.name());
        let last = reservations(ledger.ask(reserve_ids(&["e"])));
        assert_eq!(last, [Reservation::SoldOut]);
        let state = state(ledger.ask(snapshot()));
        assert_eq!((state.sold, state.available()), (3, 0));
    });
}

#[test]
fn quantities_are_granted_whole_or_not_at_all() {
    on_each_ledger(|ledger| {
        ledger.ask(open(3));
        let answers = reservations(ledger.ask(reserve([
            claim("a", 2, None),
            claim("b", 2, None),
            claim("c", 1, None),
        ])));
        assert_eq!(answers, [GRANTED, Reservation::SoldOut, GRANTED], "{}", ledger.name());
    });
}

#[test]
fn an_id_books_once_however_often_it_is_asked() {
    on_each_ledger(|ledger| {
        ledger.ask(open(2));
        for text in ["a", UUID] {
            assert_eq!(reservations(ledger.ask(reserve_ids(&[text]))), [GRANTED]);
            let booking = Booking {
                id: id(text),
                status: BookingStatus::Confirmed,
                quantity: Quantity::ONE,
                released: 0,
                buyer: None,
                reassigned: 0,
            };
            assert_eq!(
                reservations(ledger.ask(reserve_ids(&[text]))),
                [Reservation::Known(booking)],
                "{}",
                ledger.name()
            );
        }
        assert_eq!(state(ledger.ask(snapshot())).sold, 2);
    });
}

#[test]
fn an_id_with_another_quantity_or_buyer_is_reused() {
    on_each_ledger(|ledger| {
        ledger.ask(open(9));
        ledger.ask(reserve([claim("a", 1, Some("u-8"))]));
        for other in [
            claim("a", 2, Some("u-8")),
            claim("a", 1, Some("u-81")),
            claim("a", 1, None),
            claim("a", 11, Some("u-8")),
        ] {
            assert_eq!(
                reservations(ledger.ask(reserve([other]))),
                [Reservation::IdReused],
                "{}",
                ledger.name()
            );
        }
        assert_eq!(state(ledger.ask(snapshot())).sold, 1);
    });
}

#[test]
fn the_same_id_twice_in_one_call_books_once() {
    on_each_ledger(|ledger| {
        ledger.ask(with_hold(9, 500));
        let claims = [claim("a", 2, Some("u")), claim("a", 2, Some("u")), claim("a", 1, Some("u"))];
        let answers = reservations(ledger.ask(reserve(claims)));
        let expires_at = WallTime(START + 500);
        let held = Booking {
            id: id("a"),
            status: BookingStatus::Held { expires_at },
            quantity: Quantity::new(2).unwrap(),
            released: 0,
            buyer: Some(BuyerId::parse("u").unwrap()),
            reassigned: 0,
        };
        assert_eq!(
            answers,
            [granted_until(expires_at.0), Reservation::Known(held), Reservation::IdReused],
            "{}",
            ledger.name()
        );
        assert_eq!(state(ledger.ask(snapshot())).held, 2);
    });
}

#[test]
fn a_missing_sale_is_not_a_sold_out_one() {
    on_each_ledger(|ledger| {
        let page = SaleOp::Page { cursor: String::new() }.on(sale());
        let change = SaleChange { total: Some(1), ..SaleChange::default() };
        for call in [
            reserve_ids(&["a"]),
            look_up(&["a"]),
            confirm(&["a"]),
            cancel(&["a"]),
            tombstone("a"),
            snapshot(),
            expire(),
            alter(change),
            page,
            log_after(0),
            trim(),
        ] {
            assert_eq!(ledger.ask(call), Answer::Missing, "{}", ledger.name());
        }
        let sales = |names: &[SaleName]| {
            Answer::Ledger(LedgerResult::Sales { names: names.to_vec(), odd: Vec::new() })
        };
        assert_eq!(ledger.ask(Call::Ledger(LedgerOp::Sales)), sales(&[]));
        ledger.ask(open(0));
        assert_eq!(reservations(ledger.ask(reserve_ids(&["a"]))), [Reservation::SoldOut]);
        assert_eq!(ledger.ask(Call::Ledger(LedgerOp::Sales)), sales(&[sale()]));
    });
}

#[test]
fn open_never_changes_a_sale_that_exists() {
    on_each_ledger(|ledger| {
        ledger.ask(open(2));
        ledger.ask(reserve_ids(&["a"]));
        let before = state(ledger.ask(snapshot()));
        let answer = ledger.ask(open_on(SaleTerms {
            total: 9,
            hold_ms: Some(5),
            per_buyer: Some(1),
            ..SaleTerms::default()
        }));
        assert_eq!(answer, Answer::Sale { state: before, result: SaleResult::Exists }, "{}", ledger.name());
    });
}

#[test]
fn a_window_that_would_be_empty_is_refused_as_such() {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms {
            total: 5,
            starts_at: Some(WallTime(START + 9)),
            ..SaleTerms::default()
        }));
        ledger.ask(reserve([claim("a", 3, None)]));
        for (change, refused) in [
            (SaleChange { ends_at: Some(Some(WallTime(START + 9))), ..SaleChange::default() }, true),
            (SaleChange { ends_at: Some(Some(WallTime(START + 10))), ..SaleChange::default() }, false),
            (SaleChange { starts_at: Some(Some(WallTime(START + 10))), ..SaleChange::default() }, true),
            (SaleChange { starts_at: Some(None), ..SaleChange::default() }, false),
        ] {
            match ledger.ask(alter(change.clone())) {
                Answer::Sale { result: SaleResult::Refused(ChangeFault::EmptyWindow), .. } if refused => {}
                Answer::Sale { result: SaleResult::Done, .. } if !refused => {}
                other => panic!("{}: {change:?}: {other:?}", ledger.name()),
            }
        }
    });
}

/// Of two operators who have seen the same, one changes it, and the other is told.
#[test]
fn a_change_of_one_version_leaves_every_other_as_it_is() {
    on_each_ledger(|ledger| {
        let at = |if_version, total| {
            alter(SaleChange { total: Some(total), if_version: Some(if_version), ..SaleChange::default() })
        };
        let is_refused = |answer: &Answer, version: u64, total: u64| {
            matches!(answer, Answer::Sale { state, result: SaleResult::Refused(ChangeFault::OtherVersion) }
                if state.version == version && state.terms.total == total)
        };
        assert!(matches!(ledger.ask(at(1, 7)), Answer::Missing), "{}", ledger.name());
        ledger.ask(open(5));
        ledger.ask(reserve([claim("a", 3, None)]));
        let changed = state(ledger.ask(at(1, 7)));
        assert_eq!((changed.version, changed.terms.total), (2, 7), "bookings are no other version");
        // The version comes before what else is wrong.
        for (version, total) in [(1, 9), (3, 9), (0, 9), (u64::MAX / 2, 9), (1, 0)] {
            let answer = ledger.ask(at(version, total));
            assert!(is_refused(&answer, 2, 7), "{}, {version}: {answer:?}", ledger.name());
        }
        assert!(matches!(
            ledger.ask(at(2, 0)),
            Answer::Sale { result: SaleResult::Refused(ChangeFault::TotalTooLow), .. }
        ));
        assert_eq!(state(ledger.ask(at(2, 7))).version, 2, "nothing changed");
        // Of two in one batch.
        let answers = [at(2, 8), at(2, 9)].map(|call| ledger.ask(call));
        assert_eq!(state(answers[0].clone()).version, 3, "{}", ledger.name());
        assert!(is_refused(&answers[1], 3, 8), "{}: {answers:?}", ledger.name());
        // A first limit is counted in several calls; its version is that of all of them.
        let limit = SaleChange { per_buyer: Some(Some(4)), if_version: Some(3), ..SaleChange::default() };
        assert_eq!(state(ledger.ask(alter(limit))).version, 4, "{}", ledger.name());
    });
}

#[test]
fn a_payment_after_the_deadline_is_told_what_forbids_it() {
    on_each_ledger(|ledger| {
        let terms = SaleTerms { total: 6, hold_ms: Some(100), per_buyer: Some(2), ..SaleTerms::default() };
        ledger.ask(open_on(terms));
        ledger.ask(reserve([claim("late", 2, Some("u")), claim("other", 2, Some("v"))]));
        ledger.set_time(START + 100);
        ledger.ask(reserve([claim("again", 1, Some("u"))]));
        let why = |ledger: &mut dyn Subject, id: &str| match ledger.ask(confirm(&[id])) {
            Answer::Sale { result: SaleResult::Confirmed(mut confirmations), .. } => confirmations.remove(0),
            other => panic!("{other:?}"),
        };
        // Five tickets are left; its buyer has one by now.
        let told = why(ledger, "late");
        assert!(
            matches!(&told, Confirmation::BuyerLimit(booking)
                if booking.id == id("late") && booking.status == BookingStatus::Expired),
            "{}: {told:?}",
            ledger.name()
        );
        assert_eq!(status(ledger.ask(look_up(&["late"]))), BookingStatus::Expired);
        // Nobody's limit forbids this one, whose tickets are gone; nor does it matter for that one any more.
        ledger.ask(reserve([claim("rest", 2, None), claim("of-it", 2, Some("w"))]));
        for late in ["late", "other"] {
            let told = why(ledger, late);
            assert!(matches!(told, Confirmation::HoldExpired(_)), "{}: {told:?}", ledger.name());
        }
    });
}

#[test]
fn the_total_never_falls_below_what_is_taken() {
    on_each_ledger(|ledger| {
        ledger.ask(open(5));
        ledger.ask(reserve([claim("a", 3, None)]));
        let to = |total| alter(SaleChange { total: Some(total), ..SaleChange::default() });
        assert!(
            matches!(ledger.ask(to(2)), Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) }
                if state.terms.total == 5),
            "{}",
            ledger.name()
        );
        let after = state(ledger.ask(to(3)));
        assert_eq!((after.available(), after.version), (0, 2), "{}", ledger.name());
        assert_eq!(state(ledger.ask(to(3))).version, 2, "nothing changed");
        assert_eq!(state(ledger.ask(to(4))).available(), 1);
    });
}

#[test]
fn a_sale_sells_only_while_it_is_open_and_within_its_window() {
    on_each_ledger(|ledger| {
        let (starts_at, ends_at) = (Some(WallTime(START + 10)), Some(WallTime(START + 20)));
        ledger.ask(open_on(SaleTerms { total: 9, starts_at, ends_at, ..SaleTerms::default() }));
        for (now, expected) in
            [(9, Reservation::NotOnSale), (10, GRANTED), (19, GRANTED), (20, Reservation::NotOnSale)]
        {
            ledger.set_time(START + now);
            assert_eq!(
                reservations(ledger.ask(reserve_ids(&[&format!("at-{now}")]))),
                [expected],
                "{} {now}",
                ledger.name()
            );
        }
        ledger.ask(alter(SaleChange {
            ends_at: Some(None),
            status: Some(SaleStatus::Paused),
            ..SaleChange::default()
        }));
        assert_eq!(reservations(ledger.ask(reserve_ids(&["b"]))), [Reservation::NotOnSale]);
        // What was booked before is still told to those who ask again.
        assert!(matches!(reservations(ledger.ask(reserve_ids(&["at-10"])))[..], [Reservation::Known(_)]));
        ledger.ask(alter(SaleChange { status: Some(SaleStatus::Open), ..SaleChange::default() }));
        assert_eq!(reservations(ledger.ask(reserve_ids(&["b"]))), [GRANTED]);
    });
}

#[test]
fn a_hold_is_held_until_its_deadline_and_then_sells_again() {
    on_each_ledger(|ledger| {
        ledger.ask(with_hold(1, 100));
        assert_eq!(
            reservations(ledger.ask(reserve_ids(&["a"]))),
            [granted_until(START + 100)],
            "{}",
            ledger.name()
        );
        ledger.set_time(START + 99);
        assert_eq!(reservations(ledger.ask(reserve_ids(&["b"]))), [Reservation::SoldOut]);
        assert!(matches!(status(ledger.ask(look_up(&["a"]))), BookingStatus::Held { .. }));
        ledger.set_time(START + 100);
        assert_eq!(
            status(ledger.ask(look_up(&["a"]))),
            BookingStatus::Expired,
            "{}: told before it is swept",
            ledger.name()
        );
        assert_eq!(
            reservations(ledger.ask(reserve_ids(&["b"]))),
            [granted_until(START + 200)],
            "{}: unswept",
            ledger.name()
        );
        assert!(matches!(
            reservations(ledger.ask(reserve_ids(&["a"])))[..],
            [Reservation::Known(Booking { status: BookingStatus::Expired, .. })]
        ));
    });
}

#[test]
fn a_confirmed_hold_outlives_its_deadline() {
    on_each_ledger(|ledger| {
        ledger.ask(with_hold(1, 100));
        ledger.ask(reserve_ids(&["a"]));
        ledger.ask(confirm(&["a"]));
        ledger.set_time(START + 1_000);
        let state = state(ledger.ask(expire()));
        assert_eq!((state.held, state.sold), (0, 1), "{}", ledger.name());
        assert_eq!(status(ledger.ask(look_up(&["a"]))), BookingStatus::Confirmed);
    });
}

#[test]
fn a_payment_after_the_deadline_takes_the_ticket_again_where_one_is_left() {
    on_each_ledger(|ledger| {
        ledger.ask(with_hold(2, 100));
        ledger.ask(reserve_ids(&["a", "b"]));
        ledger.set_time(START + 100);
        ledger.ask(reserve_ids(&["c"]));
        let Answer::Sale { state, result: SaleResult::Confirmed(confirmations) } =
            ledger.ask(confirm(&["a", "b", "nobody"]))
        else {
            panic!()
        };
        assert!(
            matches!(&confirmations[..], [Confirmation::Confirmed(a), Confirmation::HoldExpired(b), Confirmation::NotFound]
                if a.status == BookingStatus::Confirmed && b.status == BookingStatus::Expired),
            "{}: {confirmations:?}",
            ledger.name()
        );
        assert_eq!((state.held, state.sold), (1, 1));
    });
}

#[test]
fn a_cancelled_booking_returns_its_stock_once() {
    on_each_ledger(|ledger| {
        ledger.ask(open(2));
        ledger.ask(reserve([claim("a", 2, None)]));
        for _ in 0..2 {
            let Answer::Sale { state, result: SaleResult::Cancelled(cancellations) } =
                ledger.ask(cancel(&["a"]))
            else {
                panic!()
            };
            assert!(
                matches!(&cancellations[..], [Cancellation::Cancelled(a)] if a.status == BookingStatus::Cancelled)
            );
            assert_eq!(state.available(), 2, "{}", ledger.name());
        }
        let Answer::Sale { result: SaleResult::Confirmed(confirmations), .. } = ledger.ask(confirm(&["a"]))
        else {
            panic!()
        };
        assert!(matches!(confirmations[..], [Confirmation::Cancelled(_)]));
    });
}

#[test]
fn a_tombstone_keeps_a_late_first_try_from_booking() {
    on_each_ledger(|ledger| {
        ledger.ask(open(2));
        let Answer::Sale { result: SaleResult::Cancelled(cancellations), .. } = ledger.ask(tombstone("a"))
        else {
            panic!()
        };
        assert_eq!(cancellations, [Cancellation::NotFound]);
        let answers = reservations(ledger.ask(reserve([claim("a", 2, Some("u"))])));
        assert!(
            matches!(&answers[..], [Reservation::Known(a)] if a.status == BookingStatus::Cancelled && a.quantity.get() == 2),
            "{}: {answers:?}",
            ledger.name()
        );
        assert_eq!(bookings(ledger.ask(look_up(&["a"]))), [None], "a tombstone is no booking");
        let state = state(ledger.ask(snapshot()));
        assert_eq!((state.available(), state.sequence), (2, 0));
    });
}

/// What stands in a buyer's name stands elsewhere as well: before a deadline, in an e-mail address, between numbers.
#[test]
fn a_buyer_may_be_an_e_mail_address() {
    const BUYERS: [&str; 6] = ["a.b+c@d.example", "@", "+", "1@2", "x@1763827200123", "u"];
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms {
            total: 100,
            hold_ms: Some(100),
            per_buyer: Some(3),
            ..SaleTerms::default()
        }));
        let ids: Vec<String> = (0..BUYERS.len()).map(|number| format!("b-{number}")).collect();
        let claims = || ids.iter().zip(BUYERS).map(|(id, buyer)| claim(id, 2, Some(buyer)));
        let answers = reservations(ledger.ask(reserve(claims())));
        assert_eq!(answers, vec![granted_until(START + 100); BUYERS.len()], "{}", ledger.name());
        let again = reservations(ledger.ask(reserve(claims())));
        assert!(again.iter().all(|answer| matches!(answer, Reservation::Known(_))), "{again:?}");
        let others = ids.iter().zip(BUYERS).map(|(id, _)| claim(id, 2, Some("a.b+c@d.exampl")));
        let others = reservations(ledger.ask(reserve(others)));
        assert_eq!(others, vec![Reservation::IdReused; BUYERS.len()], "{}", ledger.name());
        let more =
            BUYERS.iter().enumerate().map(|(number, buyer)| claim(&format!("m-{number}"), 2, Some(buyer)));
        let more = reservations(ledger.ask(reserve(more)));
        assert_eq!(more, vec![Reservation::BuyerLimit; BUYERS.len()], "{}", ledger.name());

        // Confirmed, expired, taken again, cancelled: each with its own buyer all the time.
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        ledger.ask(confirm(&ids[..2]));
        ledger.set_time(START + 100);
        ledger.ask(expire());
        ledger.ask(confirm(&ids[2..4]));
        ledger.ask(cancel(&ids[..1]));
        let found = bookings(ledger.ask(look_up(&ids)));
        let words = ["cancelled", "confirmed", "confirmed", "confirmed", "expired", "expired"];
        for ((booking, buyer), word) in found.iter().zip(BUYERS).zip(words) {
            let booking = booking.as_ref().expect("it was booked");
            let told = booking.buyer.as_ref().map(|buyer| buyer.as_str());
            assert_eq!((told, booking.status.word()), (Some(buyer), word), "{}", ledger.name());
        }
        let log = log_entries(ledger.ask(SaleOp::Log { after: 0 }.on(sale())));
        let logged: Vec<_> = log[..BUYERS.len()].iter().map(|entry| entry.booking.buyer.unwrap()).collect();
        assert_eq!(
            logged.iter().map(|buyer| buyer.as_str()).collect::<Vec<_>>(),
            BUYERS,
            "{}",
            ledger.name()
        );
        let told = found.iter().flatten().filter(|booking| booking.status.word() != "expired").cloned();
        let restored = ledger.ask(BookingOp::Restore(told.collect()).on(sale(), Watermark::default()));
        let Answer::Sale { result: SaleResult::Restored(restorations), .. } = restored else {
            panic!("{restored:?}")
        };
        assert_eq!(restorations, vec![Restoration::Stands; 4], "{}", ledger.name());
        if ledger.name() != "model" {
            let findings = audit_of(&mut Audited(&mut *ledger), sale());
            let wrong = findings.listed.iter().find(|difference| difference.kind != Kind::Clock);
            assert_eq!(wrong, None, "{}", ledger.name());
        }
    });
}

#[test]
fn a_buyer_gets_no_more_than_the_limit_and_gets_it_back() {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms {
            total: 20,
            hold_ms: Some(100),
            per_buyer: Some(3),
            ..SaleTerms::default()
        }));
        let answers = reservations(ledger.ask(reserve([
            claim("a", 2, Some("u")),
            claim("b", 2, Some("u")),
            claim("c", 1, Some("u")),
            claim("d", 1, Some("u")),
            claim("e", 9, None),
            claim("f", 3, Some("v")),
        ])));
        let (granted, refused) = (granted_until(START + 100), Reservation::BuyerLimit);
        assert_eq!(
            answers,
            [granted.clone(), refused.clone(), granted.clone(), refused, granted.clone(), granted],
            "{}",
            ledger.name()
        );
        ledger.ask(confirm(&["c"]));
        ledger.ask(cancel(&["c"]));
        assert!(matches!(
            reservations(ledger.ask(reserve([claim("g", 1, Some("u"))])))[..],
            [Reservation::Granted { .. }]
        ));
        ledger.set_time(START + 100);
        assert!(matches!(
            reservations(ledger.ask(reserve([claim("h", 3, Some("u"))])))[..],
            [Reservation::Granted { .. }]
        ));
    });
}

/// A hold counts until its deadline, a payment for good: neither for nothing, and neither twice.
#[test]
fn what_a_buyer_paid_for_counts_for_good() {
    on_each_ledger(|ledger| {
        let terms = SaleTerms { total: 20, hold_ms: Some(100), per_buyer: Some(3), ..SaleTerms::default() };
        ledger.ask(open_on(terms));
        let left = |ledger: &mut dyn Subject, prefix: &str, left: u64| {
            for (quantity, fits) in
                [(left + 1, false), (left, true)].into_iter().filter(|(quantity, _)| *quantity > 0)
            {
                let name = format!("{prefix}-{quantity}");
                let answer = reservations(ledger.ask(reserve([claim(&name, quantity, Some("u"))])));
                match fits {
                    true => assert!(
                        matches!(answer[..], [Reservation::Granted { .. }]),
                        "{}: {answer:?}",
                        ledger.name()
                    ),
                    false => assert_eq!(answer, [Reservation::BuyerLimit], "{} at {name}", ledger.name()),
                }
            }
        };
        ledger.ask(reserve([claim("paid", 1, Some("u"))]));
        ledger.ask(confirm(&["paid"]));
        left(ledger, "beside-it", 2);
        ledger.set_time(START + 100);
        // Too late, and there is room for it: it is taken again.
        ledger.ask(confirm(&["beside-it-2"]));
        left(ledger, "full", 0);
        ledger.set_time(START + 1_000);
        left(ledger, "still-full", 0);
        ledger.ask(cancel(&["paid"]));
        left(ledger, "given-back", 1);
        ledger.ask(cancel(&["beside-it-2", "given-back-1"]));
        left(ledger, "all", 3);
        assert_eq!(state(ledger.ask(snapshot())).sold, 0, "{}", ledger.name());
    });
}

/// Redis counts many buyers in one field: those whose names hash alike, begin alike or end alike are still apart, and a
/// cancellation finds what a reservation counted, however long the name.
#[test]
fn buyers_are_counted_apart_whatever_their_names() {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms { total: 1_000, per_buyer: Some(1), ..SaleTerms::default() }));
        let alike = ["u-81", "mm0", "mk0v", "o8.n", "rvs3", "u-8", "u-811", "-81", "8", "u-81.", "1"];
        let lengths = (1..=64).map(|length| "Zz9_.-qX".repeat(8)[..length].to_owned());
        let buyers: Vec<String> = alike.iter().map(|name| (*name).to_owned()).chain(lengths).collect();
        let claims = |try_: &str| -> Vec<Claim> {
            let claim = |(n, buyer): (usize, &String)| claim(&format!("{try_}-{n}"), 1, Some(buyer));
            buyers.iter().enumerate().map(claim).collect()
        };
        let all = |reservation: Reservation| vec![reservation; buyers.len()];
        assert_eq!(reservations(ledger.ask(reserve(claims("a")))), all(GRANTED), "{}", ledger.name());
        assert_eq!(reservations(ledger.ask(reserve(claims("b")))), all(Reservation::BuyerLimit));
        let ids: Vec<String> = (0..buyers.len()).map(|n| format!("a-{n}")).collect();
        ledger.ask(cancel(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(reservations(ledger.ask(reserve(claims("c")))), all(GRANTED), "{}", ledger.name());
    });
}

#[test]
fn a_full_call_is_granted_whole() {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms {
            total: 256,
            hold_ms: Some(9),
            per_buyer: Some(1),
            ..SaleTerms::default()
        }));
        let claims = |prefix: &str| -> Vec<Claim> {
            (0..ENTRIES_PER_CALL_MAX)
                .map(|n| claim(&format!("{prefix}{n}"), 1, Some(&format!("u{n}"))))
                .collect()
        };
        let answers = reservations(ledger.ask(reserve(claims("a"))));
        assert!(answers.iter().all(|answer| *answer == granted_until(START + 9)), "{}", ledger.name());
        assert_eq!(state(ledger.ask(snapshot())).held, 256);
        ledger.set_time(START + 9);
        let again = reservations(ledger.ask(reserve(claims("b"))));
        assert!(
            again.iter().all(|answer| *answer == granted_until(START + 18)),
            "{}: {:?}",
            ledger.name(),
            again[0]
        );
    });
}

#[test]
fn one_call_expires_a_bounded_number_and_the_next_goes_on() {
    on_each_ledger(|ledger| {
        if ledger.name() == "model" {
            return; // It has no bound.
        }
        let holds = 2 * EXPIRIES_PER_CALL_MAX + 88;
        ledger.ask(with_hold(holds as u64, 100));
        for n in 0..holds {
            ledger.ask(reserve_ids(&[&format!("b{n}")]));
        }
        ledger.set_time(START + 100);
        let last = format!("b{}", holds - 1);
        let entered = |state: SaleState| (state.held, state.sequence as usize - holds);
        for so_far in [EXPIRIES_PER_CALL_MAX, 2 * EXPIRIES_PER_CALL_MAX] {
            assert_eq!(status(ledger.ask(look_up(&[&last]))), BookingStatus::Expired, "{}", ledger.name());
            let state = state(ledger.ask(expire()));
            assert!(state.due_at.is_some_and(|due| due <= state.now), "{}: more to do", ledger.name());
            assert_eq!(entered(state), (0, so_far), "{}", ledger.name());
        }
        let state = state(ledger.ask(expire()));
        assert_eq!(state.due_at, None, "{}", ledger.name());
        assert_eq!(entered(state), (0, holds), "{}", ledger.name());
    });
}

#[test]
fn overdue_holds_beyond_the_bound_are_settled_when_they_are_touched() {
    on_each_ledger(|ledger| {
        ledger.ask(with_hold(2_000, 100));
        // Each touch sweeps as well, so that the three touched are last in line, well behind four sweeps.
        for from in [0, 200, 400, 600, 800, 1_000, 1_200] {
            let ids: Vec<String> = (from..from + 200).map(|n| format!("b{n}")).collect();
            ledger.ask(reserve_ids(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
            ledger.set_time(START + from);
        }
        ledger.set_time(START + 10_000);
        let known = reservations(ledger.ask(reserve_ids(&["b1399"])));
        assert!(
            matches!(&known[..], [Reservation::Known(b)] if b.status == BookingStatus::Expired),
            "{}: {known:?}",
            ledger.name()
        );
        let Answer::Sale { state: confirmed, result: SaleResult::Confirmed(confirmations) } =
            ledger.ask(confirm(&["b1398"]))
        else {
            panic!()
        };
        assert!(
            matches!(&confirmations[..], [Confirmation::Confirmed(_)]),
            "{}: {confirmations:?}",
            ledger.name()
        );
        assert_eq!(confirmed.sold, 1);
        ledger.ask(cancel(&["b1397"]));
        for _ in 0..6 {
            ledger.ask(expire());
        }
        let after = state(ledger.ask(snapshot()));
        assert_eq!((after.held, after.sold), (0, 1), "{}", ledger.name());
    });
}

#[test]
fn pages_and_the_log_are_read_in_pieces() {
    on_each_ledger(|ledger| {
        if ledger.name() == "model" {
            return; // It has no pages.
        }
        let count = 2 * LOG_ENTRIES_PER_CALL_MAX + 100;
        ledger.ask(open(count as u64));
        let ids: Vec<String> = (0..count).map(|n| format!("b{n:05}")).collect();
        for (n, some) in ids.chunks(ENTRIES_PER_CALL_MAX).enumerate() {
            ledger.set_time(START + n as u64 / 2);
            ledger.ask(reserve_ids(&some.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        let mut seen: Vec<String> = Vec::new();
        let mut cursor = Some(String::new());
        while let Some(from) = cursor {
            let Answer::Sale { result: SaleResult::Page { bookings, next }, .. } =
                ledger.ask(SaleOp::Page { cursor: from }.on(sale()))
            else {
                panic!()
            };
            seen.extend(bookings.iter().map(|booking| booking.id.to_string()));
            cursor = next;
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ids, "{}", ledger.name());
        for after in
            [0, 1, 255, 256, 257, 1_000, 1_023, 1_024, 1_300, 1_499, 1_500, 1_501, 2_499, 2_500, 9_999]
        {
            let entries = log_entries(ledger.ask(log_after(after)));
            let expected = count.saturating_sub(after as usize).min(LOG_ENTRIES_PER_CALL_MAX);
            assert_eq!(entries.len(), expected, "{} after {after}", ledger.name());
            for (entry, sequence) in entries.iter().zip(after + 1..) {
                assert_eq!(entry.sequence, sequence);
                assert_eq!(entry.booking.id.as_str(), ids[sequence as usize - 1]);
            }
        }
    });
}

#[test]
fn a_log_that_nobody_consumes_is_not_trimmed() {
    on_each_ledger(|ledger| {
        ledger.ask(open(5));
        let trimmed = |answer| match answer {
            Answer::Sale { result: SaleResult::Trimmed { groups, removed, left }, .. } => {
                (groups, removed, left)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(trimmed(ledger.ask(trim())), (0, 0, 0));
        ledger.ask(reserve_ids(&["a", "b"]));
        assert_eq!(trimmed(ledger.ask(trim())), (0, 0, 2), "{}", ledger.name());
        assert_eq!(log_entries(ledger.ask(log_after(0))).len(), 2);
    });
}

#[test]
fn calls_of_one_batch_are_carried_out_in_order() {
    on_each_ledger(|ledger| {
        let answers = ledger.execute(&[
            snapshot(),
            open(1),
            reserve_ids(&["a"]),
            cancel(&["a"]),
            reserve_ids(&["b", "c"]),
        ]);
        let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers[0], Answer::Missing, "{}", ledger.name());
        assert_eq!(reservations(answers[4].clone()), [GRANTED, Reservation::SoldOut], "{}", ledger.name());
        let sequences: Vec<u64> = answers[1..].iter().map(|answer| state(answer.clone()).sequence).collect();
        assert_eq!(sequences, [0, 1, 2, 3]);
    });
}
