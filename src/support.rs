//! What support does to a single booking: look at it, confirm, cancel or extend it, give it to another buyer. The commands that
//! speak to a ledger and the admin listener ask and are refused in the same words.

use std::collections::BTreeMap;

use crate::api::Problem;
use crate::booking::{Amendment, Booking, BookingId, BuyerId, SaleName, SaleState};
use crate::limits::BUYER_BOOKINGS_MAX;
use crate::protocol::{
    Amended, Answer, BookingOp, Call, Cancel, Cancellation, Confirmation, Objection, SaleOp, SaleResult,
    Watermark,
};

/// What is done to a booking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupportDeed {
    /// It is looked up.
    Show,
    /// It is sold; if its hold is over, only if its tickets are left.
    Confirm,
    /// Its tickets are given back, for good.
    Cancel,
    /// It is held until so many milliseconds from now, if that is later.
    Extend {
        /// So many.
        ms: u64,
    },
    /// It is that buyer's, or nobody's.
    Give(Option<Box<BuyerId>>),
}

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// As a client would be told. The text says more than the problem's own explanation.
    Problem(Problem, Option<&'static str>),
    /// The ledger answered another question.
    Unexpected(Box<Answer>),
}

const FORGOT: &str = "The ledger forgot some of this sale's bookings, and hosts are putting back what they acknowledged. Nothing \
     was done. Try again after Retry-After.";

const WITHOUT_TICKETS: &str =
    "The hold of this booking has ended, so it has no tickets. Nothing was changed.";

impl SupportDeed {
    /// The call that does it, for a caller that has `seen` that of the sale.
    pub fn call(&self, sale: SaleName, id: BookingId, seen: Watermark) -> Call {
        match self {
            SupportDeed::Show => SaleOp::LookUp(vec![id]).on(sale),
            SupportDeed::Confirm => BookingOp::Confirm(vec![id]).on(sale, seen),
            SupportDeed::Cancel => BookingOp::Cancel(vec![Cancel { id, tombstone: false }]).on(sale, seen),
            SupportDeed::Extend { ms } => {
                BookingOp::Amend(vec![(id, Amendment::Extend { ms: *ms })]).on(sale, seen)
            }
            SupportDeed::Give(buyer) => BookingOp::Assign { id, buyer: buyer.clone() }.on(sale, seen),
        }
    }

    /// The booking after that call, and its sale.
    ///
    /// # Errors
    /// Why it was not done.
    pub fn read(&self, answer: Answer) -> Result<(SaleState, Booking), NotDone> {
        let (state, result) = match answer {
            Answer::Sale { state, result } => (state, result),
            Answer::Missing => return Err(Problem::NO_SUCH_SALE.into()),
            Answer::Stale(_) => return Err(NotDone::Problem(Problem::LEDGER_UNAVAILABLE, Some(FORGOT))),
            other => return Err(NotDone::Unexpected(Box::new(other))),
        };
        let booking = match (self, &result) {
            (SupportDeed::Show, SaleResult::Found(found)) if found.len() == 1 => {
                found[0].clone().ok_or(Problem::NO_SUCH_BOOKING)?
            }
            (SupportDeed::Confirm, SaleResult::Confirmed(done)) if done.len() == 1 => match &done[0] {
                Confirmation::Confirmed(booking) => booking.clone(),
                Confirmation::HoldExpired(_) => return Err(Problem::HOLD_EXPIRED.into()),
                Confirmation::BuyerLimit(_) => return Err(Problem::BUYER_LIMIT.into()),
                Confirmation::Cancelled(_) => return Err(Problem::BOOKING_CANCELLED.into()),
                Confirmation::NotFound => return Err(Problem::NO_SUCH_BOOKING.into()),
            },
            (SupportDeed::Cancel, SaleResult::Cancelled(done)) if done.len() == 1 => match &done[0] {
                Cancellation::Cancelled(booking) => booking.clone(),
                Cancellation::NotFound => return Err(Problem::NO_SUCH_BOOKING.into()),
            },
            (SupportDeed::Extend { .. }, SaleResult::Amended(done)) if done.len() == 1 => amended(&done[0])?,
            (SupportDeed::Give(_), SaleResult::Assigned(done)) => amended(done)?,
            _ => return Err(NotDone::Unexpected(Box::new(Answer::Sale { state, result }))),
        };
        Ok((state, booking))
    }
}

/// The bookings of one buyer, gathered from all pages of a sale.
#[derive(Debug)]
pub struct BuyersBookings {
    buyer: BuyerId,
    found: BTreeMap<BookingId, Booking>,
}

impl BuyersBookings {
    /// Of that buyer, none yet.
    pub fn of(buyer: BuyerId) -> BuyersBookings {
        BuyersBookings { buyer, found: BTreeMap::new() }
    }

    /// Takes in a page. Returns whether there are more than are shown: no other page is needed.
    pub fn take_in(&mut self, page: Vec<Booking>) -> bool {
        for booking in page {
            // It may have been on a page before, and may be another's by now.
            match booking.buyer == Some(self.buyer) {
                true => self.found.insert(booking.id, booking),
                false => self.found.remove(&booking.id),
            };
        }
        self.found.len() > BUYER_BOOKINGS_MAX
    }

    /// Those that are shown, by their ids.
    pub fn shown(&self) -> impl Iterator<Item = &Booking> {
        self.found.values().take(BUYER_BOOKINGS_MAX)
    }
}

impl From<Problem> for NotDone {
    fn from(problem: Problem) -> NotDone {
        NotDone::Problem(problem, None)
    }
}

fn amended(done: &Amended) -> Result<Booking, NotDone> {
    match done {
        Amended::Done(booking) => Ok(booking.clone()),
        Amended::NotFound => Err(Problem::NO_SUCH_BOOKING.into()),
        Amended::Refused(objection) => Err(match objection {
            Objection::HoldExpired => NotDone::Problem(Problem::HOLD_EXPIRED, Some(WITHOUT_TICKETS)),
            Objection::Confirmed => Problem::BOOKING_CONFIRMED.into(),
            Objection::Cancelled => Problem::BOOKING_CANCELLED.into(),
            Objection::HoldLimit => Problem::HOLD_LIMIT.into(),
            Objection::NotARelease => Problem::NOT_A_RELEASE.into(),
            Objection::NotOnSale => Problem::NOT_ON_SALE.into(),
            Objection::BuyerRequired => Problem::BUYER_REQUIRED.into(),
            Objection::BuyerLimit => Problem::BUYER_LIMIT.into(),
            Objection::SoldOut => Problem::SOLD_OUT.into(),
        }),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::booking::SaleTerms;
    use crate::ledger::for_tests::{TestLedger, claim, name};

    fn done(ledger: &mut TestLedger, deed: &SupportDeed, id: &str) -> Result<&'static str, &'static str> {
        let call = deed.call(name("ticket"), BookingId::parse(id).unwrap(), Watermark::default());
        match deed.read(ledger.ask(call)) {
            Ok((_, booking)) => Ok(booking.status.word()),
            Err(NotDone::Problem(problem, _)) => Err(problem.name),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_deed_is_done_or_refused_with_its_problem() {
        let terms = SaleTerms {
            total: 9,
            hold_ms: Some(60_000),
            hold_max_ms: Some(90_000),
            per_buyer: Some(4),
            ..SaleTerms::default()
        };
        let ledger = &mut TestLedger::with("ticket", terms);
        ledger.book("ticket", &[claim("a", 3, Some("u-1")), claim("b", 2, Some("u-2"))]);
        let to = |buyer: &str| SupportDeed::Give(Some(Box::new(BuyerId::parse(buyer).unwrap())));
        for (deed, id, outcome) in [
            (SupportDeed::Show, "a", Ok("held")),
            (SupportDeed::Show, "z", Err("no-such-booking")),
            (SupportDeed::Extend { ms: 80_000 }, "a", Ok("held")),
            (SupportDeed::Extend { ms: 91_000 }, "a", Err("hold-limit")),
            (SupportDeed::Extend { ms: 1_000 }, "z", Err("no-such-booking")),
            (to("u-2"), "a", Err("buyer-limit")),
            (to("u-3"), "a", Ok("held")),
            (SupportDeed::Confirm, "a", Ok("confirmed")),
            (SupportDeed::Confirm, "z", Err("no-such-booking")),
            (SupportDeed::Extend { ms: 80_000 }, "a", Err("booking-confirmed")),
            (SupportDeed::Cancel, "a", Ok("cancelled")),
            (SupportDeed::Cancel, "a", Ok("cancelled")),
            (SupportDeed::Cancel, "z", Err("no-such-booking")),
            (SupportDeed::Confirm, "a", Err("booking-cancelled")),
            (SupportDeed::Extend { ms: 1 }, "a", Err("booking-cancelled")),
            (to("u-4"), "a", Err("booking-cancelled")),
        ] {
            assert_eq!(done(ledger, &deed, id), outcome, "{deed:?} {id}");
        }
        assert_eq!(SupportDeed::Confirm.read(Answer::Missing), Err(Problem::NO_SUCH_SALE.into()));
    }

    /// A ledger of another version, or one that was tampered with.
    #[test]
    fn an_answer_to_another_question_is_none() {
        let found = |count: usize| Answer::Sale {
            state: SaleState::default(),
            result: SaleResult::Found(vec![None; count]),
        };
        assert_eq!(SupportDeed::Show.read(found(1)), Err(Problem::NO_SUCH_BOOKING.into()));
        for (deed, count) in [(SupportDeed::Show, 0), (SupportDeed::Show, 2), (SupportDeed::Cancel, 1)] {
            let other = NotDone::Unexpected(Box::new(found(count)));
            assert_eq!(deed.read(found(count)), Err(other), "{deed:?}");
        }
        let stale = SupportDeed::Confirm.read(Answer::Stale(SaleState::default()));
        assert!(matches!(stale, Err(NotDone::Problem(Problem::LEDGER_UNAVAILABLE, Some(_)))));
    }
}
