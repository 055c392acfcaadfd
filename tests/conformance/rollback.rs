//! A ledger that has forgotten something: who notices, what is withheld, what is put back, and what an audit says then.
//! What real servers forget, `tests/faults` shows.

use boxoffice::audit::Kind;
use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::limits::{FREEZE_MS, FREEZE_MS_MAX};
use boxoffice::protocol::*;

use crate::audits::audit_of;
use crate::subjects::{START, Subject, on_each_ledger};
use crate::words::*;

const UUID: &str = "0198c0de-0a20-7000-8000-00000000000a";

fn told(text: &str, quantity: u64, buyer: Option<&str>, status: BookingStatus) -> Booking {
    let Claim { id, quantity, buyer } = claim(text, quantity, buyer);
    Booking { id, status, quantity, released: 0, buyer, reassigned: 0 }
}

fn confirmed(text: &str) -> Booking {
    told(text, 1, None, BookingStatus::Confirmed)
}

fn seen_now(ledger: &mut dyn Subject) -> Watermark {
    Watermark::of(&state(ledger.ask(snapshot())))
}

fn restore(ledger: &mut dyn Subject, seen: Watermark, bookings: &[Booking]) -> (SaleState, Vec<Restoration>) {
    match ledger.ask(BookingOp::Restore(bookings.to_vec()).on(sale(), seen)) {
        Answer::Sale { state, result: SaleResult::Restored(restorations) } => (state, restorations),
        other => panic!("{}: {other:?}", ledger.name()),
    }
}

fn reserve_seeing(seen: Watermark, text: &str) -> Call {
    BookingOp::Reserve(vec![claim(text, 1, None)]).on(sale(), seen)
}

#[track_caller]
fn expect_withheld(ledger: &mut dyn Subject, call: Call) -> SaleState {
    match ledger.ask(call) {
        Answer::Stale(state) => state,
        other => panic!("{}: {other:?}", ledger.name()),
    }
}

/// An audit finds nothing: the books add up.
#[track_caller]
fn expect_audited(ledger: &mut dyn Subject) {
    if ledger.name() != "model" {
        let findings = audit_of(&mut crate::random::Audited(ledger), sale());
        let differs: Vec<_> = findings.listed.iter().filter(|it| it.kind != Kind::Clock).collect();
        assert!(differs.is_empty(), "{differs:?}");
    }
}

#[test]
fn a_caller_that_has_seen_more_freezes_the_sale_before_anything_is_booked() {
    on_each_ledger(|ledger| {
        ledger.ask(open(10));
        ledger.ask(reserve_ids(&["a"]));
        let seen = Watermark { sequence: 4, ..seen_now(ledger) };
        for (call, before) in [(reserve_seeing(seen, "b"), true), (reserve_ids(&["b"]), false)] {
            let state = expect_withheld(ledger, call);
            assert_eq!((state.sequence, state.sold), (1, 1), "{}: something was booked", ledger.name());
            assert!(state.is_frozen() && (before || state.lineage > seen.lineage));
        }
        let ids = vec![id("a")];
        expect_withheld(ledger, BookingOp::Confirm(ids).on(sale(), Watermark::default()));
        expect_withheld(ledger, cancel(&["a"]));
        assert_eq!(bookings(ledger.ask(look_up(&["a"]))), [Some(confirmed("a"))], "looking up is fine");

        // Who has seen no more than there is does not end it; its time does, for those who know of it.
        ledger.set_time(START + FREEZE_MS - 1);
        assert!(state(ledger.ask(snapshot())).is_frozen());
        ledger.set_time(START + FREEZE_MS);
        let now = seen_now(ledger);
        expect_withheld(ledger, reserve_seeing(seen, "b"));
        expect_withheld(ledger, reserve_seeing(Watermark { sequence: 0, ..seen }, "b"));
        assert_eq!(seen_now(ledger), now, "an old lineage is no proof of a new loss");
        assert_eq!(reservations(ledger.ask(reserve_seeing(now, "b"))), [GRANTED]);
    });
}

#[test]
fn what_was_forgotten_is_put_back_once_and_what_stands_is_left_alone() {
    on_each_ledger(|ledger| {
        let hold_ms = Some(60_000);
        ledger.ask(open_on(SaleTerms { total: 12, hold_ms, per_buyer: Some(1), ..SaleTerms::default() }));
        let until = START + 60_000;
        ledger.ask(reserve([claim("held", 1, None), claim("late", 1, Some("u-1")), claim("gone", 1, None)]));
        ledger.ask(cancel(&["gone"]));
        ledger.ask(reserve([claim("stays", 1, None)]));
        let seen = seen_now(ledger);
        let held = |at| BookingStatus::Held { expires_at: WallTime(at) };
        let offered = [
            told("stays", 1, None, held(until)),
            told("held", 1, None, BookingStatus::Confirmed),
            told("late", 1, Some("u-1"), BookingStatus::Cancelled),
            told("gone", 1, None, BookingStatus::Confirmed),
            told(UUID, 2, Some("u-1"), held(until)),
            told("new", 2, Some("u-1"), BookingStatus::Confirmed),
            told("over", 1, None, held(START)),
            told("off", 1, None, BookingStatus::Cancelled),
        ];
        use Restoration::{PutBack, Stands};
        let (state, restorations) = restore(ledger, seen, &offered);
        let expected = [Stands, PutBack, PutBack, Stands, PutBack, PutBack, PutBack, PutBack];
        assert_eq!(restorations, expected, "{}", ledger.name());
        assert!(state.is_frozen() && state.lineage > seen.lineage, "the rest of the hosts must hear of it");
        assert_eq!((state.held, state.sold, state.sequence), (3, 3, seen.sequence + 6));
        let words: Vec<_> = offered.iter().map(|booking| booking.id).collect();
        let found = bookings(ledger.ask(SaleOp::LookUp(words).on(sale())));
        let status =
            |booking: &Option<Booking>| booking.as_ref().map(|booking| booking.status.word()).unwrap();
        assert_eq!(
            found.iter().map(status).collect::<Vec<_>>(),
            ["held", "confirmed", "cancelled", "cancelled", "held", "confirmed", "expired", "cancelled"]
        );
        assert_eq!(found[4].as_ref().unwrap().status, held(until), "a hold keeps its deadline");
        let (again, restorations) = restore(ledger, Watermark::of(&state), &offered);
        assert_eq!(
            (Watermark::of(&again), restorations),
            (Watermark::of(&state), vec![Stands; 8]),
            "{}",
            ledger.name()
        );
        // A hold that was put back ends as any other does, and its buyer's tickets with it.
        ledger.set_time(until);
        let state = crate::words::state(ledger.ask(expire()));
        assert_eq!((state.held, state.sold), (0, 3), "{}", ledger.name());
        expect_audited(ledger);
    });
}

/// By what is put back a buyer is charged as by what was booked, whether that was before the sale's first limit or after.
#[test]
fn what_is_put_back_counts_for_its_buyer_as_what_was_booked_does() {
    on_each_ledger(|ledger| {
        let held = BookingStatus::Held { expires_at: WallTime(START + 60_000) };
        let terms = SaleTerms { total: 40, hold_ms: Some(60_000), ..SaleTerms::default() };
        ledger.ask(open_on(terms));
        // Of no limit yet.
        let seen = seen_now(ledger);
        let early = [
            told("e1", 2, Some("u-1"), BookingStatus::Confirmed),
            told("e2", 1, Some("u-1"), held),
            told("e3", 3, Some("u-1"), BookingStatus::Cancelled),
        ];
        assert_eq!(restore(ledger, seen, &early).1, [Restoration::PutBack; 3], "{}", ledger.name());
        expect_audited(ledger);
        let mut now = START + FREEZE_MS;
        ledger.set_time(now);
        ledger.ask(alter(SaleChange { per_buyer: Some(Some(4)), ..SaleChange::default() }));
        // From the limit on: what is there has changed since, and what is not there at all.
        ledger.ask(reserve([claim("paid", 2, Some("u-3")), claim("off", 4, Some("u-4"))]));
        let seen = seen_now(ledger);
        let late = [
            told("l1", 2, Some("u-2"), BookingStatus::Confirmed),
            told("l2", 1, Some("u-2"), held),
            told("paid", 2, Some("u-3"), BookingStatus::Confirmed),
            told("off", 4, Some("u-4"), BookingStatus::Cancelled),
        ];
        assert_eq!(restore(ledger, seen, &late).1, [Restoration::PutBack; 4], "{}", ledger.name());
        now += FREEZE_MS;
        ledger.set_time(now);
        for (buyer, left) in [("u-1", 1), ("u-2", 1), ("u-3", 2), ("u-4", 4)] {
            let too_many = claim(&format!("{buyer}-more"), left + 1, Some(buyer));
            let answer = reservations(ledger.ask(reserve([too_many])));
            assert_eq!(answer, [Reservation::BuyerLimit], "{} of {buyer}", ledger.name());
            let all = claim(&format!("{buyer}-all"), left, Some(buyer));
            let answer = reservations(ledger.ask(reserve([all])));
            assert!(
                matches!(answer[..], [Reservation::Granted { .. }]),
                "{} of {buyer}: {answer:?}",
                ledger.name()
            );
        }
        // Paid is paid; the holds end, and count no more.
        ledger.ask(confirm(&["u-1-all"]));
        ledger.set_time(START + 60_000 + 2 * FREEZE_MS);
        for (buyer, left) in [("u-1", 1), ("u-2", 2), ("u-3", 2), ("u-4", 4)] {
            let too_many = claim(&format!("{buyer}-again"), left + 1, Some(buyer));
            let answer = reservations(ledger.ask(reserve([too_many])));
            assert_eq!(answer, [Reservation::BuyerLimit], "{} of {buyer}", ledger.name());
            let all = claim(&format!("{buyer}-rest"), left, Some(buyer));
            let answer = reservations(ledger.ask(reserve([all])));
            assert!(
                matches!(answer[..], [Reservation::Granted { .. }]),
                "{} of {buyer}: {answer:?}",
                ledger.name()
            );
        }
        expect_audited(ledger);
    });
}

#[test]
fn what_cannot_be_put_back_is_named_by_an_audit_from_then_on() {
    on_each_ledger(|ledger| {
        ledger.ask(open(3));
        ledger.ask(reserve([claim("mine", 2, Some("u-1")), claim("other", 1, None)]));
        ledger.ask(tombstone("dead"));
        let offered = [
            told("mine", 1, Some("u-1"), BookingStatus::Confirmed),
            told("dead", 1, None, BookingStatus::Confirmed),
            told("late", 1, None, BookingStatus::Confirmed),
        ];
        let (state, restorations) = restore(ledger, Watermark::default(), &offered);
        let lost = [LostCause::IdTaken, LostCause::IdTaken, LostCause::SoldOut].map(Restoration::Lost);
        assert_eq!(restorations, lost, "{}", ledger.name());
        assert_eq!((state.sold, state.sequence), (3, 2));
        if ledger.name() == "model" {
            return;
        }
        let subjects = |ledger: &mut dyn Subject| {
            let findings = audit_of(&mut crate::random::Audited(ledger), sale());
            assert_eq!(findings.unexplained, 0, "a loss that is explained hinders no repair");
            let of_kind = findings.listed.iter().filter(|difference| difference.kind == Kind::Lost);
            of_kind.map(|difference| difference.subject.clone()).collect::<Vec<_>>()
        };
        assert_eq!(subjects(ledger), ["booking dead", "booking late", "booking mine"]);
        // Tickets come back, and the booking with them.
        ledger.set_time(START + FREEZE_MS);
        ledger.ask(cancel(&["other"]));
        assert_eq!(restore(ledger, Watermark::default(), &offered[2..]).1, [Restoration::PutBack]);
        assert_eq!(subjects(ledger), ["booking dead", "booking mine"]);
    });
}

#[test]
fn a_freeze_lasts_while_bookings_are_put_back_and_never_for_good() {
    on_each_ledger(|ledger| {
        ledger.ask(open(1_000));
        let (mut state, _) = restore(ledger, Watermark::default(), &[confirmed("b-0")]);
        let lineage = state.lineage;
        let mut at = START;
        for n in 1.. {
            at += FREEZE_MS / 2;
            ledger.set_time(at);
            if !crate::words::state(ledger.ask(snapshot())).is_frozen() {
                break;
            }
            (state, _) = restore(ledger, Watermark::of(&state), &[confirmed(&format!("b-{n}"))]);
            assert_eq!(state.lineage, lineage, "it is one freeze");
            // Who brings nothing new does not prolong it.
            let until = state.frozen_until;
            assert_eq!(restore(ledger, Watermark::of(&state), &[confirmed("b-0")]).0.frozen_until, until);
        }
        assert_eq!(at, START + FREEZE_MS_MAX, "{}", ledger.name());
    });
}

#[test]
fn holds_are_not_expired_while_their_confirmation_may_be_put_back() {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(SaleTerms { total: 1, hold_ms: Some(10), ..SaleTerms::default() }));
        ledger.ask(reserve_ids(&["a"]));
        let seen = seen_now(ledger);
        restore(ledger, Watermark { sequence: seen.sequence + 1, ..seen }, &[]);
        ledger.set_time(START + 10);
        assert_eq!(state(ledger.ask(expire())).held, 1);
        assert_eq!(restore(ledger, seen, &[confirmed("a")]).1, [Restoration::PutBack]);
        let state = state(ledger.ask(snapshot()));
        assert_eq!((state.held, state.sold), (0, 1), "{}", ledger.name());
    });
}

#[test]
fn nothing_is_put_into_another_sale_of_that_name() {
    on_each_ledger(|ledger| {
        ledger.ask(open(5));
        let seen = Watermark { opened: START - 1, lineage: START + 9, sequence: 70 };
        let bookings = vec![confirmed("a")];
        let state = expect_withheld(ledger, BookingOp::Restore(bookings).on(sale(), seen));
        assert_eq!((state.sequence, state.is_frozen()), (0, false), "{}", ledger.name());
        let state = expect_withheld(ledger, reserve_seeing(seen, "b"));
        assert!(!state.is_frozen());
        assert_eq!(reservations(ledger.ask(reserve_seeing(Watermark::of(&state), "b"))), [GRANTED]);
    });
}
