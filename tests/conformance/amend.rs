//! Bookings that are changed: a hold extended, tickets released, an expired booking held again; by whom, how far, how often.

use boxoffice::audit::Kind;
use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::protocol::*;

use crate::audits::audit_of;
use crate::subjects::{START, Subject, on_each_ledger};
use crate::words::*;

const UUID: &str = "0198c0de-0a20-7000-8000-00000000000a";

fn one(ledger: &mut dyn Subject, text: &str, amendment: Amendment) -> Amended {
    amended(ledger.ask(amend(&[(text, amendment)]))).remove(0)
}

fn extend(ms: u64) -> Amendment {
    Amendment::Extend { ms }
}

pub fn refused(objection: Objection) -> Amended {
    Amended::Refused(objection)
}

#[track_caller]
pub fn done(amended: Amended) -> Booking {
    match amended {
        Amended::Done(booking) => booking,
        other => panic!("{other:?}"),
    }
}

pub fn held_until(at: u64) -> BookingStatus {
    BookingStatus::Held { expires_at: WallTime(at) }
}

pub fn counts(ledger: &mut dyn Subject) -> (u64, u64) {
    let Answer::Sale { state, result: SaleResult::Found(_) } = ledger.ask(look_up(&[])) else { panic!() };
    (state.held, state.sold)
}

pub fn log(ledger: &mut dyn Subject) -> Vec<(String, BookingStatus, u32)> {
    let entries = log_entries(ledger.ask(log_after(0))).into_iter();
    entries
        .map(|LogEntry { booking, .. }| (booking.id.to_string(), booking.status, booking.quantity.get()))
        .collect()
}

/// An audit finds nothing: the books add up.
#[track_caller]
pub fn expect_audited(ledger: &mut dyn Subject) {
    if ledger.name() != "model" {
        let findings = audit_of(&mut crate::random::Audited(ledger), sale());
        let differs: Vec<_> = findings.listed.iter().filter(|it| it.kind != Kind::Clock).collect();
        assert!(differs.is_empty(), "{}: {differs:?}", findings.sale);
    }
}

pub fn on_each(terms: SaleTerms, test: impl Fn(&mut dyn Subject)) {
    on_each_ledger(|ledger| {
        ledger.ask(open_on(terms.clone()));
        test(ledger);
        expect_audited(ledger);
    });
}

pub fn terms(total: u64) -> SaleTerms {
    SaleTerms { total, hold_ms: Some(1_000), hold_max_ms: Some(3_000), ..SaleTerms::default() }
}

#[test]
fn a_hold_is_extended_up_to_the_longest_counted_from_when_it_began_and_never_ends_earlier() {
    on_each(SaleTerms { per_buyer: Some(2), ..terms(3) }, |ledger| {
        ledger.ask(reserve([claim(UUID, 2, Some("u-1")), claim("b", 1, None)]));
        let until = |told: Amended| done(told).status;
        assert_eq!(
            until(one(ledger, UUID, extend(500))),
            held_until(START + 1_000),
            "no earlier than it was"
        );
        ledger.set_time(START + 400);
        assert_eq!(until(one(ledger, UUID, extend(1_600))), held_until(START + 2_000));
        assert_eq!(until(one(ledger, UUID, extend(1_600))), held_until(START + 2_000), "again: no change");
        assert_eq!(
            until(one(ledger, UUID, extend(2_600))),
            held_until(START + 3_000),
            "to the last millisecond"
        );
        assert_eq!(one(ledger, UUID, extend(2_601)), refused(Objection::HoldLimit));
        // As the terms are when it is asked for.
        ledger.ask(alter(SaleChange {
            hold_ms: Some(Some(5)),
            hold_max_ms: Some(Some(3_100)),
            ..SaleChange::default()
        }));
        assert_eq!(one(ledger, UUID, extend(2_701)), refused(Objection::HoldLimit));
        assert_eq!(until(one(ledger, UUID, extend(2_700))), held_until(START + 3_100));
        ledger.ask(alter(SaleChange { hold_max_ms: Some(None), ..SaleChange::default() }));
        assert_eq!(
            one(ledger, UUID, extend(2_701)),
            refused(Objection::HoldLimit),
            "without one, no extension"
        );
        assert_eq!(counts(ledger), (3, 0));
        // Its old deadline is nobody's any more: not for the sweep, nor for the limit of its buyer.
        ledger.set_time(START + 1_000);
        ledger.ask(expire());
        assert_eq!(counts(ledger), (2, 0));
        assert_eq!(
            reservations(ledger.ask(reserve([claim("c", 1, Some("u-1"))]))),
            [Reservation::BuyerLimit]
        );
        assert_eq!(one(ledger, "b", extend(1)), refused(Objection::HoldExpired));
        assert_eq!(one(ledger, "nobody", extend(1)), Amended::NotFound);
        ledger.set_time(START + 3_099);
        assert_eq!(counts(ledger), (2, 0));
        ledger.set_time(START + 3_100);
        assert_eq!(counts(ledger), (0, 0));
        assert_eq!(reservations(ledger.ask(reserve([claim("c", 2, Some("u-1"))]))).len(), 1);
        let told = log(ledger);
        let of_uuid: Vec<_> =
            told.iter().filter(|(id, ..)| id == UUID).map(|(_, status, _)| *status).collect();
        let held = [1_000, 2_000, 3_000, 3_100].map(|ms| held_until(START + ms));
        assert_eq!(
            of_uuid,
            [&held[..], &[BookingStatus::Expired]].concat(),
            "an entry for each change, and no other"
        );
    });
}

#[test]
fn an_extended_hold_expires_once_though_nobody_looked_until_all_its_deadlines_were_past() {
    on_each(terms(9), |ledger| {
        ledger.ask(reserve_ids(&["a", "b"]));
        ledger.ask(reserve_ids(&["c"]));
        for (booking, ms) in [("a", 1_600), ("c", 1_700), ("a", 1_800)] {
            done(one(ledger, booking, extend(ms)));
        }
        ledger.set_time(START + 2_500);
        for _ in 0..2 {
            ledger.ask(expire());
        }
        assert_eq!(counts(ledger), (0, 0));
        let told = log(ledger);
        for booking in ["a", "b", "c"] {
            let over =
                told.iter().filter(|(id, status, _)| id == booking && *status == BookingStatus::Expired);
            assert_eq!(over.count(), 1, "{}: {told:?}", ledger.name());
        }
    });
}

#[test]
fn a_hold_that_is_over_is_not_extended_though_there_are_tickets() {
    on_each(terms(3), |ledger| {
        ledger.ask(reserve_ids(&["swept", "not-swept"]));
        ledger.set_time(START + 1_000);
        assert_eq!(one(ledger, "not-swept", extend(500)), refused(Objection::HoldExpired));
        ledger.ask(expire());
        assert_eq!(one(ledger, "swept", extend(500)), refused(Objection::HoldExpired));
        ledger.ask(confirm(&["swept"]));
        assert_eq!(one(ledger, "swept", extend(500)), refused(Objection::Confirmed));
        ledger.ask(cancel(&["swept"]));
        assert_eq!(one(ledger, "swept", extend(500)), refused(Objection::Cancelled));
        ledger.ask(tombstone("never"));
        assert_eq!(one(ledger, "never", extend(500)), Amended::NotFound);
        assert_eq!(counts(ledger), (0, 0));
    });
}

#[test]
fn a_release_says_what_is_to_remain_and_its_repeat_changes_nothing() {
    on_each(SaleTerms { per_buyer: Some(4), ..terms(7) }, |ledger| {
        ledger.ask(reserve([claim("paid", 4, Some("u-1")), claim("held", 3, Some("u-2"))]));
        ledger.ask(confirm(&["paid"]));
        for _ in 0..2 {
            let paid = done(one(ledger, "paid", release(2)));
            assert_eq!((paid.status, paid.quantity.get(), paid.released), (BookingStatus::Confirmed, 2, 2));
            let held = done(one(ledger, "held", release(1)));
            assert_eq!((held.status, held.quantity.get(), held.released), (held_until(START + 1_000), 1, 2));
        }
        assert_eq!((counts(ledger), log(ledger).len()), ((1, 2), 5), "each release once");
        assert_eq!(one(ledger, "paid", release(3)), refused(Objection::NotARelease), "a late one of before");
        // What came back is sold, also to the same buyers, and to no more than that.
        let more = reserve([claim("a", 2, Some("u-1")), claim("b", 3, Some("u-2"))]);
        assert_eq!(reservations(ledger.ask(more)), [granted_until(START + 1_000), Reservation::SoldOut]);
        // Who asks again as it was first asked for gets the booking as it is.
        let again = reservations(ledger.ask(reserve([
            claim("paid", 4, Some("u-1")),
            claim("paid", 2, Some("u-1")),
            claim("held", 3, Some("u-2")),
        ])));
        assert!(
            matches!(&again[..], [Reservation::Known(paid), Reservation::IdReused, Reservation::Known(held)]
                if paid.quantity.get() == 2 && held.quantity.get() == 1),
            "{again:?}"
        );
        assert_eq!(done(one(ledger, "paid", release(1))).released, 3, "as often as one likes");
        // A hold ends with what remains of it.
        ledger.set_time(START + 1_000);
        assert_eq!(counts(ledger), (0, 1));
        assert_eq!(one(ledger, "held", release(1)), refused(Objection::HoldExpired));
        assert_eq!(done(one(ledger, "held", Amendment::HoldAgain)).quantity.get(), 1);
        ledger.ask(cancel(&["held", "paid"]));
        assert_eq!(counts(ledger), (0, 0));
        assert_eq!(one(ledger, "paid", release(1)), refused(Objection::Cancelled));
        assert_eq!(one(ledger, "nobody", release(1)), Amended::NotFound);
        let gone = bookings(ledger.ask(look_up(&["paid"]))).remove(0).unwrap();
        assert_eq!((gone.quantity.get(), gone.made_with()), (1, 4));
    });
}

#[test]
fn an_expired_booking_is_held_again_as_a_new_one_would_be_and_never_by_a_late_first_try() {
    on_each(SaleTerms { per_buyer: Some(2), ..terms(3) }, |ledger| {
        let again = Amendment::HoldAgain;
        let first = || reserve([claim(UUID, 2, Some("u-1"))]);
        ledger.ask(first());
        let held = done(one(ledger, UUID, again));
        assert_eq!(held.status, held_until(START + 1_000), "one that is held stays as it is");
        done(one(ledger, UUID, extend(3_000)));
        // Over, and not swept; then the same where it is.
        for round in 1..=3_u64 {
            let now = START + 5_000 * round;
            ledger.set_time(now);
            if round == 2 {
                ledger.ask(expire());
            }
            let late = reservations(ledger.ask(first()));
            assert!(
                matches!(&late[..], [Reservation::Known(booking)] if booking.status == BookingStatus::Expired)
            );
            assert_eq!(counts(ledger), (0, 0), "a late first try takes nothing");
            if round == 3 {
                // By a payment that finds no room it is entered as expired, while its group is still there.
                ledger.ask(reserve([claim("others", 3, None)]));
                assert!(
                    matches!(ledger.ask(confirm(&[UUID])), Answer::Sale { result: SaleResult::Confirmed(confirmations), .. }
                    if matches!(confirmations[..], [Confirmation::HoldExpired(_)]))
                );
                assert_eq!(one(ledger, UUID, again), refused(Objection::SoldOut));
                ledger.ask(cancel(&["others"]));
            }
            assert_eq!(done(one(ledger, UUID, again)).status, held_until(now + 1_000));
            assert_eq!(done(one(ledger, UUID, again)).status, held_until(now + 1_000), "again: no change");
            assert_eq!(counts(ledger), (2, 0));
            // It has begun anew.
            assert_eq!(done(one(ledger, UUID, extend(3_000))).status, held_until(now + 3_000));
            assert_eq!(one(ledger, UUID, extend(3_001)), refused(Objection::HoldLimit));
            expect_audited(ledger);
        }
        // On the terms of now.
        ledger.set_time(START + 30_000);
        ledger.ask(reserve([claim("other", 1, Some("u-1"))]));
        assert_eq!(one(ledger, UUID, again), refused(Objection::BuyerLimit));
        ledger.ask(cancel(&["other"]));
        ledger.ask(alter(SaleChange { status: Some(SaleStatus::Paused), ..SaleChange::default() }));
        assert_eq!(one(ledger, UUID, again), refused(Objection::NotOnSale));
        let status = Some(SaleStatus::Open);
        ledger.ask(alter(SaleChange { status, hold_ms: Some(None), ..SaleChange::default() }));
        assert_eq!(done(one(ledger, UUID, again)).status, BookingStatus::Confirmed, "a sale without hold");
        assert_eq!(one(ledger, UUID, again), refused(Objection::Confirmed));
        ledger.ask(cancel(&[UUID]));
        assert_eq!(one(ledger, UUID, again), refused(Objection::Cancelled));
        assert_eq!(one(ledger, "nobody", again), Amended::NotFound);
        assert_eq!(counts(ledger), (0, 0));
    });
}

#[test]
fn one_that_names_no_buyer_is_not_held_again_where_the_sale_demands_one() {
    on_each(terms(3), |ledger| {
        ledger.ask(reserve([claim("a", 1, None), claim("b", 1, Some("u-1"))]));
        ledger.ask(alter(SaleChange { buyer_required: Some(true), ..SaleChange::default() }));
        ledger.set_time(START + 1_000);
        assert_eq!(one(ledger, "a", Amendment::HoldAgain), refused(Objection::BuyerRequired));
        done(one(ledger, "b", Amendment::HoldAgain));
    });
}

#[test]
fn what_one_call_asks_is_done_in_its_order() {
    on_each(terms(4), |ledger| {
        ledger.ask(reserve([claim("a", 4, None)]));
        let told = amended(ledger.ask(amend(&[
            ("a", extend(2_000)),
            ("a", release(3)),
            ("a", release(4)),
            ("a", Amendment::HoldAgain),
            ("a", extend(3_000)),
            ("a", release(1)),
        ])));
        let last = done(told.last().unwrap().clone());
        assert_eq!((last.status, last.quantity.get(), last.released), (held_until(START + 3_000), 1, 3));
        assert_eq!(told[2], refused(Objection::NotARelease));
        assert_eq!(counts(ledger), (1, 0));
    });
}

/// As clients were told, into a ledger that has less.
#[test]
fn what_was_told_of_an_extension_a_release_and_a_new_hold_is_put_back() {
    on_each(SaleTerms { per_buyer: Some(4), ..terms(9) }, |ledger| {
        let ids = ["longer", "fewer", "paid", "again", "gone"];
        ledger.ask(reserve(ids.map(|text| claim(text, if text == "again" { 1 } else { 2 }, Some(text)))));
        ledger.ask(confirm(&["paid"]));
        ledger.set_time(START + 900);
        ledger.ask(amend(&[("longer", extend(400)), ("fewer", extend(400)), ("gone", extend(300))]));
        ledger.set_time(START + 1_200);
        // `again` and `gone` are over, by what this ledger knows.
        ledger.ask(expire());
        let told = |text: &str, quantity: u64, released, status| Booking {
            id: id(text),
            status,
            quantity: Quantity::new(quantity).unwrap(),
            released,
            buyer: Some(BuyerId::parse(text).unwrap()),
            reassigned: 0,
        };
        let offered = vec![
            told("longer", 2, 0, held_until(START + 2_000)),
            told("fewer", 1, 1, held_until(START + 1_250)),
            told("paid", 1, 1, BookingStatus::Confirmed),
            told("again", 1, 0, held_until(START + 2_000)),
            // Over by now, whatever was told.
            told("gone", 1, 1, held_until(START + 1_199)),
        ];
        let restore = || BookingOp::Restore(offered.clone()).on(sale(), Watermark::default());
        use Restoration::{PutBack, Stands};
        for expected in [[PutBack, PutBack, PutBack, PutBack, Stands], [Stands; 5]] {
            let Answer::Sale { state, result: SaleResult::Restored(restorations) } = ledger.ask(restore())
            else {
                panic!()
            };
            assert_eq!(restorations, expected, "{}", ledger.name());
            assert!(state.is_frozen());
        }
        let now = bookings(ledger.ask(look_up(&ids)));
        let stands: Vec<_> = now.iter().flatten().map(|it| (it.status, it.quantity.get())).collect();
        assert_eq!(
            stands[..4],
            [
                (held_until(START + 2_000), 2),
                (held_until(START + 1_300), 1),
                (BookingStatus::Confirmed, 1),
                (held_until(START + 2_000), 1),
            ]
        );
        expect_audited(ledger);
        // A longer word than what is left of the sale is lost, and named.
        let Answer::Sale { result: SaleResult::Restored(restorations), .. } = ledger.ask(
            BookingOp::Restore(vec![
                told("crowd", 4, 0, BookingStatus::Confirmed),
                told("gone", 2, 0, held_until(START + 9_000)),
            ])
            .on(sale(), Watermark::default()),
        ) else {
            panic!()
        };
        assert_eq!(restorations, [PutBack, Restoration::Lost(LostCause::SoldOut)], "{}", ledger.name());
        ledger.set_time(START + 60_000);
        ledger.ask(expire());
        let Answer::Sale { result: SaleResult::Restored(restorations), .. } = ledger.ask(
            BookingOp::Restore(vec![told("gone", 2, 0, held_until(START + 90_000))])
                .on(sale(), Watermark::default()),
        ) else {
            panic!()
        };
        assert_eq!(
            restorations,
            [PutBack],
            "{}: by now there is room, and it is named no more",
            ledger.name()
        );
    });
}
