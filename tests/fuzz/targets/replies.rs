//! Replies of Redis: where they end does not depend on how they arrive, and what is no answer to the call is an error.

use boxoffice::booking::{Amendment, Booking, BookingId, BookingStatus, Quantity, SaleName};
use boxoffice::ledger::redis::codec;
use boxoffice::protocol::{
    Answer, BookingOp, Call, Cancel, Claim, LedgerOp, LedgerResult, Part, SaleOp, SaleResult, Watermark,
};

use super::script::Script;

/// Those that are asked for.
const PARTS: [Part; 5] = [Part::Bookings, Part::Holds, Part::Buyers, Part::Log, Part::Changes];

pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let call = call(&mut script);
    let replies = script.rest();
    check_length(&call, replies);
    if let Ok(Some(length)) = codec::replies_length(&call, replies) {
        let (whole, rest) = replies.split_at(length);
        let answer = codec::read(&call, whole);
        assert_eq!(codec::read(&call, whole), answer, "what is read depends on the bytes alone");
        if let Ok(answer) = &answer {
            check_answer(&call, answer, whole);
            assert!(codec::first_error(whole).is_none(), "an answer beside an error");
        }
        if !rest.is_empty() {
            assert!(codec::read(&call, replies).is_err(), "more than was asked for");
        }
    }
    // The same text as a script's reply, whatever it is.
    let bulk = [format!("${}\r\n", replies.len()).as_bytes(), replies, b"\r\n"].concat();
    for bulk in [[&bulk[..], &bulk].concat(), bulk] {
        check_length(&call, &bulk);
        if let Ok(answer) = codec::read(&call, &bulk) {
            check_answer(&call, &answer, &bulk);
        }
    }
    codec::is_noscript(replies);
}

/// The end of the replies is found as soon as it is there and no sooner, and an error stays one.
fn check_length(call: &Call, replies: &[u8]) {
    let whole = codec::replies_length(call, replies);
    if let Ok(Some(length)) = whole {
        assert!(length <= replies.len());
    }
    let ends = (0..replies.len()).rev().step_by(1 + replies.len() / 300);
    for end in ends {
        match (codec::replies_length(call, &replies[..end]), &whole) {
            (Ok(None), Ok(Some(length))) => assert!(end < *length, "{end} of {length} bytes are enough"),
            (Ok(None), _) => {}
            (part, whole) => assert_eq!(&part, whole, "the first {end} bytes"),
        }
    }
}

fn call(script: &mut Script<'_>) -> Call {
    let sale = SaleName::parse("ticket").expect("a name");
    let entries = 1 + script.below(3);
    let ids = || (0..entries).map(|index| BookingId::parse(format!("b-{index}")).expect("an id"));
    let on_bookings = |op: BookingOp| op.on(sale, Watermark::default());
    let on_sale = |op: SaleOp| op.on(sale);
    match script.below(16) {
        0 => on_sale(SaleOp::Snapshot),
        1 => on_sale(SaleOp::LookUp(ids().collect())),
        2 => on_bookings(BookingOp::Confirm(ids().collect())),
        3 => on_bookings(BookingOp::Cancel(ids().map(|id| Cancel { id, tombstone: true }).collect())),
        4 => on_sale(SaleOp::Page { cursor: String::new() }),
        5 => on_sale(SaleOp::Log { after: 0 }),
        6 => Call::Ledger(LedgerOp::Sales),
        7 => on_sale(SaleOp::Trim),
        8 => on_sale(SaleOp::Survey { part: PARTS[script.below(PARTS.len())], cursor: String::new() }),
        9 => Call::Ledger(LedgerOp::Changes { after: [None, Some(0), Some(1)][script.below(3)] }),
        14 => Call::Ledger(LedgerOp::Hosts),
        15 => Call::Ledger(LedgerOp::Layout),
        11 => {
            let kinds = [
                Amendment::Extend { ms: 1 },
                Amendment::Release { remaining: Quantity::ONE },
                Amendment::HoldAgain,
            ];
            on_bookings(BookingOp::Amend(ids().zip(kinds).collect()))
        }
        13 => on_bookings(BookingOp::Assign { id: BookingId::parse("b-0").expect("an id"), buyer: None }),
        10 => {
            let booking = |id| Booking {
                id,
                status: BookingStatus::Confirmed,
                quantity: Quantity::ONE,
                released: 0,
                buyer: None,
                reassigned: 0,
            };
            on_bookings(BookingOp::Restore(ids().map(booking).collect()))
        }
        _ => {
            let claim = |id| Claim { id, quantity: Quantity::ONE, buyer: None };
            on_bookings(BookingOp::Reserve(ids().map(claim).collect()))
        }
    }
}

/// An answer is one to this call, and can be counted with.
fn check_answer(call: &Call, answer: &Answer, replies: &[u8]) {
    if let Some(state) = answer.state() {
        assert!(state.held.checked_add(state.sold).is_some());
    }
    let entries = match (call, answer) {
        (Call::Bookings { .. } | Call::Sale { .. }, Answer::Missing) => return,
        (Call::Bookings { .. }, Answer::Stale(_)) => return,
        (Call::Bookings { op, .. }, Answer::Sale { result, .. }) => match (op, result) {
            (BookingOp::Reserve(_), SaleResult::Reserved(reservations)) => reservations.len(),
            (BookingOp::Confirm(_), SaleResult::Confirmed(confirmations)) => confirmations.len(),
            (BookingOp::Cancel(_), SaleResult::Cancelled(cancellations)) => cancellations.len(),
            (BookingOp::Amend(_), SaleResult::Amended(bookings)) => bookings.len(),
            (BookingOp::Assign { .. }, SaleResult::Assigned(_)) => 1,
            (BookingOp::Restore(_), SaleResult::Restored(restorations)) => restorations.len(),
            _ => panic!("{result:?} to {op:?}"),
        },
        (Call::Sale { op, .. }, Answer::Sale { result, .. }) => match (op, result) {
            (SaleOp::LookUp(_), SaleResult::Found(bookings)) => bookings.len(),
            (SaleOp::Snapshot, SaleResult::Done)
            | (SaleOp::Page { .. }, SaleResult::Page { .. })
            | (SaleOp::Log { .. }, SaleResult::Log(_))
            | (SaleOp::Trim, SaleResult::Trimmed { .. })
            | (SaleOp::Survey { .. }, SaleResult::Surveyed { .. }) => 0,
            _ => panic!("{result:?} to {op:?}"),
        },
        (Call::Ledger(op), Answer::Ledger(result)) => match (op, result) {
            (LedgerOp::Sales, LedgerResult::Sales { .. })
            | (LedgerOp::Changes { .. }, LedgerResult::Changes { .. })
            | (LedgerOp::Layout, LedgerResult::Layout(_))
            | (LedgerOp::Hosts, LedgerResult::Hosts { .. }) => 0,
            _ => panic!("{result:?} to {op:?}"),
        },
        _ => panic!("{answer:?} to {call:?}"),
    };
    assert_eq!(entries, call.entries(), "one for each that was asked for");
    if entries > 0 {
        // The line with the length, the state, and one for each; the last ends with the reply.
        let lines = replies.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 2 + entries, "lines that nobody asked for");
    }
}
