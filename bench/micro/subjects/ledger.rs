//! Calls to the bytes of Redis commands, replies to answers.

use std::hint::black_box;

use boxoffice::booking::{BookingId, BuyerId, Quantity, SaleName};
use boxoffice::ledger::redis::codec;
use boxoffice::protocol::{Answer, BookingOp, Call, Claim, SaleResult, Watermark};

use super::{Subject, Work, plain};

pub(super) const SUBJECTS: &[Subject] = &[
    Subject { name: "pack/1 entry", set_up: || pack(1) },
    Subject { name: "pack/32 entries", set_up: || pack(32) },
    Subject { name: "pack/256 entries", set_up: || pack(256) },
    Subject { name: "read/1 entry", set_up: || read(1) },
    Subject { name: "read/32 entries", set_up: || read(32) },
    Subject { name: "read/256 entries", set_up: || read(256) },
];

/// A batch of bookings: every other one with a buyer, every fourth under an id that is no UUID.
fn reserve(entries: u32) -> Call {
    let claim = |number: u32| {
        let id = match number % 4 {
            3 => format!("order-{number}"),
            _ => format!("0198c0de-0000-7000-8000-{number:012}"),
        };
        let buyer = (number % 2 == 1).then(|| BuyerId::parse(format!("u-{number}")).expect("well-formed"));
        Claim { id: BookingId::parse(id).expect("well-formed"), quantity: Quantity::ONE, buyer }
    };
    let sale = SaleName::parse("ticket").expect("well-formed");
    BookingOp::Reserve((0..entries).map(claim).collect()).on(sale, Watermark::default())
}

fn pack(entries: u32) -> Box<dyn Work> {
    let call = reserve(entries);
    // As a session has it: a buffer that has grown to what it needs.
    let mut out = Vec::with_capacity(64 * 1024);
    plain(move || {
        out.clear();
        codec::pack(black_box(&call), &mut out);
        black_box(&out);
    })
}

/// What Redis answers where all were granted with a hold.
fn read(entries: u32) -> Box<dyn Work> {
    let call = reserve(entries);
    let mut text = format!("100000,{entries},0,1,{entries},open,300000,4,,,1763827200123,5,5,0,0,0,0,0,0");
    for _ in 0..entries {
        text.push_str("\ng1763827500123");
    }
    let reply = format!("${}\r\n{text}\r\n", text.len()).into_bytes();
    plain(move || {
        // As a session does: where the reply ends, then what it says.
        let length = codec::replies_length(&call, black_box(&reply)).expect("it is well-formed");
        let answer = codec::read(&call, &reply[..length.expect("it is whole")]);
        assert!(
            matches!(&answer, Ok(Answer::Sale { result: SaleResult::Reserved(reservations), .. }) if !reservations.is_empty())
        );
        black_box(&answer);
    })
}
