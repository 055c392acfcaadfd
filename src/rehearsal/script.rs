//! What a buyer does next. Knows neither sockets nor clocks; all chance comes from the seed and the buyer's number.

use std::fmt::Write;
use std::time::Duration;

use super::{BuyerAnswer, Plan};

/// What a buyer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// For a ticket.
    Book,
    /// To pay for it.
    Pay,
    /// To take it back.
    GiveBack,
}

impl Act {
    /// In a table.
    pub fn words(self) -> &'static str {
        match self {
            Act::Book => "book",
            Act::Pay => "pay",
            Act::GiveBack => "give back",
        }
    }
}

/// A request of a buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BuyerStep {
    pub(super) buyer: u64,
    pub(super) act: Act,
    /// How often it was tried before.
    pub(super) tried: u32,
}

/// How it goes on with a buyer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// With this, after so long.
    Ask(BuyerStep, Duration),
    /// Not at all: the buyer has a ticket for good.
    Sold,
    /// Not at all: nobody knows whether the buyer has one for good.
    Unsure,
    /// Not at all: the buyer may hold one, until its hold ends.
    MayHold,
    /// Not at all: the buyer has none.
    Without,
}

/// What happens to a buyer who has heard that of this request.
pub(super) fn next(plan: &Plan, asking: BuyerStep, heard: BuyerAnswer) -> Next {
    let BuyerStep { buyer, act, tried } = asking;
    let may_try = tried < plan.retries;
    let again = Next::Ask(BuyerStep { tried: tried + 1, ..asking }, plan.retry_after);
    match (act, heard) {
        (_, BuyerAnswer::Sold) => Next::Sold,
        (_, BuyerAnswer::GivenBack) => Next::Without,
        (Act::Book, BuyerAnswer::Held) => {
            let drawn = chance(plan.seed, buyer, 0);
            let act = match drawn {
                _ if drawn < plan.pay => Act::Pay,
                _ if drawn < plan.pay + plan.give_back => Act::GiveBack,
                _ => return Next::MayHold,
            };
            let think = plan.think.mul_f64(0.5 + chance(plan.seed, buyer, 1));
            Next::Ask(BuyerStep { buyer, act, tried: 0 }, think)
        }
        (Act::Pay | Act::GiveBack, BuyerAnswer::Held) => Next::MayHold,
        (Act::Book, BuyerAnswer::SoldOut | BuyerAnswer::Later) if may_try => again,
        (Act::Book, BuyerAnswer::SoldOut | BuyerAnswer::Refused | BuyerAnswer::Later) => Next::Without,
        // The same id is at most one booking, so that to ask again is right.
        (_, heard) if may_try && (heard.is_unsure() || heard == BuyerAnswer::Later) => again,
        (Act::Pay, heard) if heard.is_unsure() => Next::Unsure,
        // What was to be paid for, or given back, and was not.
        (Act::Pay | Act::GiveBack, _) => Next::MayHold,
        // It may be held; in a sale without holds it may be sold.
        (Act::Book, _) => Next::Unsure,
    }
}

/// Appends the request.
pub(super) fn request(plan: &Plan, asking: BuyerStep, out: &mut String) {
    let Plan { sale, prefix, .. } = plan;
    let buyer = asking.buyer;
    let (method, ending, body) = match asking.act {
        Act::Book => ("PUT", "", format!("{{\"buyer\":\"{prefix}-{buyer}\"}}")),
        Act::Pay => ("POST", "/confirm", String::new()),
        Act::GiveBack => ("DELETE", "", String::new()),
    };
    write!(
        out,
        "{method} /v1/sales/{sale}/bookings/{prefix}-{buyer}{ending} HTTP/1.1\r\nHost: rehearsal\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a String takes every character");
}

/// What an answer with that status and body means to a buyer.
pub(super) fn heard(status: u16, body: &[u8]) -> BuyerAnswer {
    let has = |words: &str| memchr::memmem::find(body, words.as_bytes()).is_some();
    match status {
        200 | 201 if has("\"status\":\"held\"") => BuyerAnswer::Held,
        200 | 201 if has("\"status\":\"confirmed\"") => BuyerAnswer::Sold,
        // Of a hold that is over, or was given back.
        200 | 201 => BuyerAnswer::GivenBack,
        409 if has("/problems/sold-out") => BuyerAnswer::SoldOut,
        503 if has("/problems/outcome-unknown") => BuyerAnswer::Unknown,
        // Nothing was done.
        429 | 502 | 503 | 504 => BuyerAnswer::Later,
        409 if has("/problems/in-progress") => BuyerAnswer::Later,
        _ => BuyerAnswer::Refused,
    }
}

/// From 0 to 1, the same for the same numbers (SplitMix64).
pub(super) fn chance(seed: u64, buyer: u64, salt: u64) -> f64 {
    let mut mixed =
        seed ^ buyer.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xd1b5_4a32_d192_ed03);
    mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            hosts: vec!["127.0.0.1:1".parse().unwrap()],
            sale: "rehearsal-a".to_owned(),
            prefix: "r".to_owned(),
            buyers: 10,
            rate: 10.0,
            pay: 0.7,
            give_back: 0.2,
            think: Duration::from_secs(2),
            patience: Duration::from_secs(5),
            retries: 1,
            retry_after: Duration::from_secs(1),
            connections: 1,
            threads: 1,
            seed: 7,
        }
    }

    #[test]
    fn those_who_hold_a_ticket_pay_give_back_or_leave_as_the_plan_says() {
        const BUYERS: u64 = 20_000;
        let plan = plan();
        let (mut pay, mut give, mut leave) = (0.0, 0.0, 0.0);
        for buyer in 0..BUYERS {
            match next(&plan, BuyerStep { buyer, act: Act::Book, tried: 0 }, BuyerAnswer::Held) {
                Next::Ask(BuyerStep { act: Act::Pay, .. }, think) => {
                    assert!((1.0..=3.0).contains(&think.as_secs_f64()), "{think:?}");
                    pay += 1.0;
                }
                Next::Ask(BuyerStep { act: Act::GiveBack, .. }, _) => give += 1.0,
                Next::MayHold => leave += 1.0,
                other => panic!("{other:?}"),
            }
        }
        for (counted, part) in [(pay, 0.7), (give, 0.2), (leave, 0.1)] {
            let part_counted = counted / BUYERS as f64;
            assert!((part_counted - part).abs() < 0.02_f64, "{part_counted} of {part}");
        }
    }

    #[test]
    fn a_buyer_tries_again_as_often_as_the_plan_says_and_under_the_same_id() {
        let plan = plan();
        let first = |act| BuyerStep { buyer: 3, act, tried: 0 };
        for (act, heard, ending) in [
            (Act::Book, BuyerAnswer::SoldOut, Next::Without),
            (Act::Book, BuyerAnswer::Later, Next::Without),
            (Act::Book, BuyerAnswer::Silence, Next::Unsure),
            (Act::Book, BuyerAnswer::Unknown, Next::Unsure),
            (Act::Pay, BuyerAnswer::Broken, Next::Unsure),
            (Act::Pay, BuyerAnswer::Later, Next::MayHold),
            (Act::GiveBack, BuyerAnswer::Silence, Next::MayHold),
        ] {
            let Next::Ask(again, after) = next(&plan, first(act), heard) else { panic!("{act:?} {heard:?}") };
            assert_eq!((again, after), (BuyerStep { tried: 1, ..first(act) }, plan.retry_after));
            assert_eq!(next(&plan, again, heard), ending, "{act:?} {heard:?}");
            let requests = [first(act), again].map(|asking| {
                let mut out = String::new();
                request(&plan, asking, &mut out);
                out
            });
            assert_eq!(requests[0], requests[1]);
        }
        for (act, heard, ending) in [
            (Act::Book, BuyerAnswer::Sold, Next::Sold),
            (Act::Pay, BuyerAnswer::Sold, Next::Sold),
            (Act::GiveBack, BuyerAnswer::GivenBack, Next::Without),
            (Act::Book, BuyerAnswer::Refused, Next::Without),
            (Act::Pay, BuyerAnswer::Refused, Next::MayHold),
        ] {
            assert_eq!(next(&plan, first(act), heard), ending, "{act:?} {heard:?}");
        }
    }

    #[test]
    fn answers_are_understood() {
        for (status, body, meaning) in [
            (201, r#"{"booking":"r-1","sale":"a","status":"held","quantity":1}"#, BuyerAnswer::Held),
            (200, r#"{"booking":"r-1","sale":"a","status":"confirmed","quantity":1}"#, BuyerAnswer::Sold),
            (
                200,
                r#"{"booking":"r-1","sale":"a","status":"cancelled","quantity":1}"#,
                BuyerAnswer::GivenBack,
            ),
            (409, r#"{"type":"/problems/sold-out","status":409}"#, BuyerAnswer::SoldOut),
            (409, r#"{"type":"/problems/in-progress","status":409}"#, BuyerAnswer::Later),
            (409, r#"{"type":"/problems/hold-expired","status":409}"#, BuyerAnswer::Refused),
            (503, r#"{"type":"/problems/outcome-unknown","status":503}"#, BuyerAnswer::Unknown),
            (503, r#"{"type":"/problems/overloaded","status":503}"#, BuyerAnswer::Later),
            (502, "<html>", BuyerAnswer::Later),
            (404, "", BuyerAnswer::Refused),
        ] {
            assert_eq!(heard(status, body.as_bytes()), meaning, "{status} {body}");
        }
    }
}
