//! Bookings that an operator gives to another buyer: whose tickets they are then, what stays, and what is told of it later.

use boxoffice::audit::Kind;
use boxoffice::booking::*;
use boxoffice::ledger::Ledger;
use boxoffice::limits::FREEZE_MS;
use boxoffice::protocol::*;

use crate::amend::{counts, done, expect_audited, held_until, log, on_each, refused, terms};
use crate::audits::audit_of;
use crate::subjects::{START, Subject, on_each_ledger};
use crate::words::*;

const UUID: &str = "0198c0de-0a20-7000-8000-00000000000a";

fn one(ledger: &mut dyn Subject, text: &str, buyer: Option<&str>) -> Amended {
    amended(ledger.ask(assign(text, buyer))).remove(0)
}

fn owner(booking: &Booking) -> Option<&str> {
    booking.buyer.as_ref().map(BuyerId::as_str)
}

fn found(ledger: &mut dyn Subject, text: &str) -> Booking {
    bookings(ledger.ask(look_up(&[text]))).remove(0).unwrap()
}

fn book(ledger: &mut dyn Subject, text: &str, quantity: u64, buyer: &str) -> Reservation {
    reservations(ledger.ask(reserve([claim(text, quantity, Some(buyer))]))).remove(0)
}

fn restore(ledger: &mut dyn Subject, told: Booking) -> Restoration {
    match ledger.ask(BookingOp::Restore(vec![told]).on(sale(), Watermark::default())) {
        Answer::Sale { result: SaleResult::Restored(restorations), .. } => restorations[0],
        other => panic!("{}: {other:?}", ledger.name()),
    }
}

#[test]
fn its_tickets_count_for_the_new_buyer_within_that_ones_limit_and_for_the_old_one_no_more() {
    on_each(SaleTerms { per_buyer: Some(2), ..terms(9) }, |ledger| {
        ledger.ask(reserve([claim(UUID, 2, Some("u-1")), claim("paid", 1, Some("u-2"))]));
        ledger.ask(confirm(&["paid"]));
        assert_eq!(one(ledger, UUID, Some("u-2")), refused(Objection::BuyerLimit), "{}", ledger.name());
        for _ in 0..2 {
            let given = done(one(ledger, UUID, Some("u-3")));
            assert_eq!(
                (owner(&given), given.status, given.quantity.get()),
                (Some("u-3"), held_until(START + 1_000), 2)
            );
            assert_eq!(owner(&done(one(ledger, "paid", Some("u-4")))), Some("u-4"));
        }
        assert_eq!(
            (counts(ledger), log(ledger).len()),
            ((2, 1), 5),
            "an entry for each, and none for the repeats"
        );
        let last = log_entries(ledger.ask(log_after(3)));
        assert_eq!(
            last.iter().map(|entry| owner(&entry.booking)).collect::<Vec<_>>(),
            [Some("u-3"), Some("u-4")]
        );
        expect_audited(ledger);
        assert_eq!(book(ledger, "c", 1, "u-3"), Reservation::BuyerLimit);
        assert_eq!(book(ledger, "c", 2, "u-4"), Reservation::BuyerLimit);
        assert_eq!(book(ledger, "c", 2, "u-1"), granted_until(START + 1_000));
        assert_eq!(book(ledger, "d", 2, "u-2"), granted_until(START + 1_000));
        // Nobody has no limit, and gives room to those who had it.
        assert_eq!(owner(&done(one(ledger, "paid", None))), None);
        assert_eq!(book(ledger, "e", 2, "u-4"), granted_until(START + 1_000));
        expect_audited(ledger);
        // The hold counts for its new buyer to its end, and no longer.
        ledger.set_time(START + 999);
        assert_eq!(book(ledger, "f", 1, "u-3"), Reservation::BuyerLimit);
        ledger.set_time(START + 1_000);
        assert_eq!(book(ledger, "f", 2, "u-3"), granted_until(START + 2_000));
        // And back, and away again.
        assert_eq!(owner(&done(one(ledger, "paid", Some("u-2")))), Some("u-2"));
        ledger.ask(cancel(&["paid"]));
        assert_eq!(book(ledger, "g", 2, "u-2"), granted_until(START + 2_000));
        assert_eq!(counts(ledger), (4, 0));
    });
}

#[test]
fn what_is_over_is_given_to_nobody() {
    on_each(terms(9), |ledger| {
        ledger.ask(reserve(["a", "b", "c", "d"].map(|text| claim(text, 1, Some("u-1")))));
        ledger.ask(cancel(&["c"]));
        ledger.ask(tombstone("never"));
        assert_eq!(one(ledger, "c", Some("u-2")), refused(Objection::Cancelled));
        assert_eq!(one(ledger, "c", Some("u-1")), refused(Objection::Cancelled), "not even to whose it was");
        assert_eq!(one(ledger, "never", Some("u-2")), Amended::NotFound);
        assert_eq!(one(ledger, "nobody", Some("u-2")), Amended::NotFound);
        ledger.ask(alter(SaleChange { buyer_required: Some(true), ..SaleChange::default() }));
        assert_eq!(one(ledger, "d", None), refused(Objection::BuyerRequired));
        ledger.ask(alter(SaleChange { buyer_required: Some(false), ..SaleChange::default() }));
        done(one(ledger, "d", None));
        // One that has none already stays so, whatever the sale demands by now.
        ledger.ask(alter(SaleChange { buyer_required: Some(true), ..SaleChange::default() }));
        assert_eq!(owner(&done(one(ledger, "d", None))), None);
        ledger.set_time(START + 1_000);
        // Over: entered as that on the way, and by a sweep before.
        assert_eq!(one(ledger, "a", Some("u-2")), refused(Objection::HoldExpired));
        ledger.ask(expire());
        assert_eq!(one(ledger, "b", Some("u-2")), refused(Objection::HoldExpired));
        assert_eq!(owner(&found(ledger, "a")), Some("u-1"));
        // A sale that sells no more still lets operators help.
        let status = Some(SaleStatus::Closed);
        ledger.ask(confirm(&["b"]));
        ledger.ask(alter(SaleChange { status, ..SaleChange::default() }));
        assert_eq!(owner(&done(one(ledger, "b", Some("u-2")))), Some("u-2"));
    });
}

#[test]
fn all_else_of_it_stays_and_a_repeat_of_the_first_request_is_of_another_booking() {
    on_each(SaleTerms { per_buyer: Some(4), ..terms(9) }, |ledger| {
        ledger.ask(reserve([claim("a", 3, Some("u-1"))]));
        ledger.set_time(START + 500);
        amended(ledger.ask(amend(&[("a", release(2)), ("a", Amendment::Extend { ms: 1_000 })])));
        let given = done(one(ledger, "a", Some("u-2")));
        assert_eq!(
            (given.quantity.get(), given.made_with(), given.status),
            (2, 3, held_until(START + 1_500))
        );
        // How long it is held in all is counted from when it began, and it is changed as before.
        let again = amended(ledger.ask(amend(&[
            ("a", Amendment::Extend { ms: 2_501 }),
            ("a", Amendment::Extend { ms: 2_500 }),
            ("a", release(1)),
        ])));
        assert_eq!(again[0], refused(Objection::HoldLimit));
        assert_eq!(owner(&done(again[2].clone())), Some("u-2"), "{}", ledger.name());
        let repeat = |ledger: &mut dyn Subject, quantity, buyer| {
            reservations(ledger.ask(reserve([claim("a", quantity, buyer)]))).remove(0)
        };
        assert_eq!(repeat(ledger, 3, Some("u-1")), Reservation::IdReused);
        assert_eq!(repeat(ledger, 3, None), Reservation::IdReused);
        assert_eq!(repeat(ledger, 1, Some("u-2")), Reservation::IdReused);
        assert!(
            matches!(repeat(ledger, 3, Some("u-2")), Reservation::Known(booking) if booking.quantity.get() == 1)
        );
        done(one(ledger, "a", None));
        assert!(matches!(repeat(ledger, 3, None), Reservation::Known(booking) if booking.buyer.is_none()));
        done(one(ledger, "a", Some("u-3")));
        // What becomes of it later is as of any other; it expires once.
        ledger.set_time(START + 3_000);
        ledger.ask(expire());
        ledger.ask(expire());
        let told = log(ledger);
        assert_eq!(told.iter().filter(|(_, status, _)| *status == BookingStatus::Expired).count(), 1);
        assert_eq!(
            owner(&done(amended(ledger.ask(amend(&[("a", Amendment::HoldAgain)]))).remove(0))),
            Some("u-3")
        );
        ledger.ask(confirm(&["a"]));
        let paid = found(ledger, "a");
        assert_eq!((owner(&paid), paid.status, paid.reassigned), (Some("u-3"), BookingStatus::Confirmed, 3));
        assert_eq!(counts(ledger), (0, 1));
    });
}

#[test]
fn a_first_limit_counts_what_was_given_away_before_for_whose_it_is_by_then() {
    on_each(terms(9), |ledger| {
        ledger.ask(reserve([claim("a", 2, Some("u-1")), claim("b", 1, Some("u-1"))]));
        done(one(ledger, "a", Some("u-2")));
        ledger.ask(alter(SaleChange { per_buyer: Some(Some(2)), ..SaleChange::default() }));
        assert_eq!(book(ledger, "c", 1, "u-2"), Reservation::BuyerLimit);
        assert_eq!(book(ledger, "c", 1, "u-1"), granted_until(START + 1_000));
    });
}

/// Each host offers what it told its clients whenever it connects, and may have told it before the booking went to another.
#[test]
fn a_word_of_before_is_no_proof_of_a_loss_and_one_of_after_is_put_back() {
    on_each(SaleTerms { per_buyer: Some(2), ..terms(9) }, |ledger| {
        ledger.ask(reserve(["a", "b", "c"].map(|text| claim(text, 2, Some(text)))));
        ledger.ask(confirm(&["b"]));
        let [first, paid, third] = ["a", "b", "c"].map(|text| found(ledger, text));
        for (text, buyer) in [("a", "u-1"), ("b", "u-2")] {
            done(one(ledger, text, Some(buyer)));
        }
        assert_eq!(restore(ledger, first.clone()), Restoration::Stands, "{}", ledger.name());
        assert_eq!(restore(ledger, paid), Restoration::Stands);
        assert!(!state(ledger.ask(snapshot())).is_frozen(), "nothing was forgotten");
        assert_eq!((owner(&found(ledger, "a")), owner(&found(ledger, "b"))), (Some("u-1"), Some("u-2")));
        // A confirmation of before is put back, and takes nothing from whose it is now.
        let confirmed = Booking { status: BookingStatus::Confirmed, ..first };
        assert_eq!(restore(ledger, confirmed), Restoration::PutBack);
        let a = found(ledger, "a");
        assert_eq!((owner(&a), a.status, a.reassigned), (Some("u-1"), BookingStatus::Confirmed, 1));
        expect_audited(ledger);
        // This one was given away, and told so, by what the ledger has forgotten; and twice, of which it has the first.
        let given = |booking: &Booking, times, buyer| Booking {
            buyer: claim("x", 1, Some(buyer)).buyer,
            reassigned: times,
            ..booking.clone()
        };
        assert_eq!(restore(ledger, given(&third, 1, "u-3")), Restoration::PutBack);
        assert_eq!(restore(ledger, given(&third, 1, "u-3")), Restoration::Stands);
        assert_eq!(restore(ledger, given(&a, 2, "u-4")), Restoration::PutBack);
        let c = found(ledger, "c");
        assert_eq!((owner(&c), c.status, c.reassigned), (Some("u-3"), third.status, 1));
        ledger.set_time(START + FREEZE_MS);
        ledger.ask(cancel(&["c"]));
        assert_eq!(restore(ledger, given(&third, 2, "u-5")), Restoration::Stands);
        assert_eq!(book(ledger, "d", 1, "u-4"), Reservation::BuyerLimit);
        for (text, buyer) in [("d", "u-1"), ("e", "u-3")] {
            assert_eq!(book(ledger, text, 2, buyer), granted_until(START + FREEZE_MS + 1_000), "{buyer}");
        }
    });
}

/// A booking under an id that was granted again after the ledger had forgotten it is not the one that was told of.
#[test]
fn two_words_of_bookings_that_were_given_away_as_often_are_of_two_bookings() {
    on_each_ledger(|ledger| {
        ledger.ask(open(9));
        for (text, times) in [("a", 0), ("b", 1)] {
            ledger.ask(reserve([claim(text, 2, Some("u-1"))]));
            if times > 0 {
                done(one(ledger, text, Some("u-2")));
            }
            let told = Booking { buyer: claim("x", 1, Some("u-9")).buyer, ..found(ledger, text) };
            assert_eq!(restore(ledger, told), Restoration::Lost(LostCause::IdTaken), "{}", ledger.name());
        }
        let mine = owner(&found(ledger, "a")).map(str::to_owned);
        assert_eq!(mine.as_deref(), Some("u-1"));
    });
}

#[test]
fn nothing_is_given_away_by_who_has_seen_more_than_there_is() {
    on_each_ledger(|ledger| {
        ledger.ask(open(9));
        ledger.ask(reserve([claim("a", 2, Some("u-1"))]));
        let seen = Watermark::of(&state(ledger.ask(snapshot())));
        let ahead = Watermark { sequence: seen.sequence + 1, ..seen };
        for seen in [ahead, Watermark::default()] {
            let call = BookingOp::Assign { id: id("a"), buyer: None }.on(sale(), seen);
            let Answer::Stale(state) = ledger.ask(call) else { panic!("{}: given away", ledger.name()) };
            assert!(state.is_frozen());
        }
        assert_eq!(owner(&found(ledger, "a")), Some("u-1"));
        ledger.set_time(START + FREEZE_MS);
        assert_eq!(owner(&done(one(ledger, "a", Some("u-2")))), Some("u-2"));
    });
}

/// A ledger in which an operator gives a booking away whenever an audit has just read what buyers have.
struct Meddled<'a> {
    ledger: &'a mut dyn Subject,
    times: u32,
}

impl Ledger for Meddled<'_> {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let is_past_buyers = calls
            .iter()
            .any(|call| matches!(call, Call::Sale { op: SaleOp::Survey { part: Part::Lost, .. }, .. }));
        if is_past_buyers && self.times > 0 {
            self.times -= 1;
            done(one(self.ledger, "a", Some(&format!("v-{}", self.times))));
        }
        self.ledger.execute(calls)
    }
}

#[test]
fn an_audit_finds_nothing_though_bookings_are_given_away_while_it_reads() {
    on_each_ledger(|ledger| {
        if ledger.name() == "model" {
            return;
        }
        ledger.ask(open_on(SaleTerms { per_buyer: Some(4), ..terms(9) }));
        ledger.ask(reserve([claim("a", 2, Some("u-1"))]));
        for (times, note) in [(1, "read again"), (10, "were not compared")] {
            let findings = audit_of(&mut Meddled { ledger, times }, sale());
            let differs: Vec<_> = findings.listed.iter().filter(|it| it.kind != Kind::Clock).collect();
            assert!(differs.is_empty(), "{}: {differs:?}", ledger.name());
            assert!(
                findings.notes.iter().any(|it| it.contains(note)),
                "{}: {:?}",
                ledger.name(),
                findings.notes
            );
        }
        expect_audited(ledger);
    });
}
