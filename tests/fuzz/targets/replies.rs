//! Replies of Redis: where they end does not depend on how they arrive, and what is no answer to the call is an error.

use boxoffice::booking::{
    Amendment, Answer, Booking, BookingId, BookingStatus, Call, Claim, Part, Quantity, SaleName, SaleState,
    Seen,
};
use boxoffice::ledger::redis::codec;

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
    let seen = Seen::default();
    match script.below(14) {
        0 => Call::Snapshot { sale },
        1 => Call::LookUp { sale, ids: ids().collect() },
        2 => Call::Confirm { sale, seen, ids: ids().collect() },
        3 => Call::Cancel { sale, seen, ids: ids().map(|id| (id, true)).collect() },
        4 => Call::Page { sale, cursor: String::new() },
        5 => Call::Log { sale, after: 0 },
        6 => Call::Sales,
        7 => Call::Trim { sale },
        8 => Call::Survey { sale, part: PARTS[script.below(PARTS.len())], cursor: String::new() },
        9 => Call::Changes { after: [None, Some(0), Some(1)][script.below(3)] },
        11 => {
            let kinds = [
                Amendment::Extend { ms: 1 },
                Amendment::Release { remaining: Quantity::ONE },
                Amendment::HoldAgain,
            ];
            Call::Amend { sale, seen, amendments: ids().zip(kinds).collect() }
        }
        13 => Call::Assign { sale, seen, id: BookingId::parse("b-0").expect("an id"), buyer: None },
        10 => {
            let booking = |id| Booking {
                id,
                status: BookingStatus::Confirmed,
                quantity: Quantity::ONE,
                released: 0,
                buyer: None,
                reassigned: 0,
            };
            Call::Restore { sale, seen, bookings: ids().map(booking).collect() }
        }
        _ => {
            let claim = |id| Claim { id, quantity: Quantity::ONE, buyer: None };
            Call::Reserve { sale, seen, claims: ids().map(claim).collect() }
        }
    }
}

/// An answer is one to this call, and can be counted with.
fn check_answer(call: &Call, answer: &Answer, replies: &[u8]) {
    let state_is_sound = |state: &SaleState| assert!(state.held.checked_add(state.sold).is_some());
    let entries = match answer {
        Answer::NoSuchSale => {
            assert!(!matches!(call, Call::Sales | Call::Changes { .. }));
            return;
        }
        Answer::SaleLost | Answer::Removed { .. } | Answer::Recalled { .. } | Answer::Ledger { .. } => {
            panic!("an answer to no call that was made: {answer:?}")
        }
        Answer::Reserved { state, reservations } => {
            state_is_sound(state);
            assert!(matches!(call, Call::Reserve { .. }));
            reservations.len()
        }
        Answer::Found { state, bookings } => {
            state_is_sound(state);
            assert!(matches!(call, Call::LookUp { .. }));
            bookings.len()
        }
        Answer::Confirmed { state, confirmations } => {
            state_is_sound(state);
            assert!(matches!(call, Call::Confirm { .. }));
            confirmations.len()
        }
        Answer::Cancelled { state, cancellations } => {
            state_is_sound(state);
            assert!(matches!(call, Call::Cancel { .. }));
            cancellations.len()
        }
        Answer::Amended { state, bookings } => {
            state_is_sound(state);
            assert!(matches!(call, Call::Amend { .. } | Call::Assign { .. }));
            bookings.len()
        }
        Answer::Restored { state, restorations } => {
            state_is_sound(state);
            assert!(matches!(call, Call::Restore { .. }));
            restorations.len()
        }
        Answer::Withheld { state } => {
            state_is_sound(state);
            let may_be = matches!(
                call,
                Call::Reserve { .. }
                    | Call::Confirm { .. }
                    | Call::Cancel { .. }
                    | Call::Amend { .. }
                    | Call::Assign { .. }
                    | Call::Restore { .. }
            );
            assert!(may_be, "withheld of {call:?}");
            return;
        }
        Answer::Sale { state, .. } => {
            state_is_sound(state);
            assert!(matches!(call, Call::Snapshot { .. }));
            0
        }
        Answer::Surveyed { .. } => {
            assert!(matches!(call, Call::Survey { .. }));
            0
        }
        Answer::Page { .. } => {
            assert!(matches!(call, Call::Page { .. }));
            0
        }
        Answer::Log(_) => {
            assert!(matches!(call, Call::Log { .. }));
            0
        }
        Answer::Sales { .. } => {
            assert!(matches!(call, Call::Sales));
            0
        }
        Answer::Changes { .. } => {
            assert!(matches!(call, Call::Changes { .. }));
            0
        }
        Answer::Trimmed { .. } => {
            assert!(matches!(call, Call::Trim { .. }));
            0
        }
        Answer::ChangeRefused { .. } | Answer::Counting { .. } => {
            panic!("an answer to no call that was made")
        }
    };
    assert_eq!(entries, call.entries(), "one for each that was asked for");
    if entries > 0 {
        // The line with the length, the state, and one for each; the last ends with the reply.
        let lines = replies.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 2 + entries, "lines that nobody asked for");
    }
}
