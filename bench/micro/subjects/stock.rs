//! Permits, and ids that were granted.

use std::hint::black_box;
use std::sync::Arc;

use boxoffice::booking::{BookingId, Quantity, SaleName, SaleState, SaleTerms};
use boxoffice::clock::WallTime;
use boxoffice::stock::{Board, CoreIndex, Membership, SaleBoard, Settlement};

use super::{Subject, Work, plain};

pub(super) const SUBJECTS: &[Subject] = &[
    Subject { name: "permits/take and return", set_up: take_and_return },
    Subject { name: "permits/refuse", set_up: refuse },
    Subject { name: "granted/known id", set_up: || look_up(true) },
    Subject { name: "granted/unknown id", set_up: || look_up(false) },
];

const CORES: usize = 2;
const GRANTED: u64 = 10_000;

/// A sale of a host with two cores, with so many tickets left.
pub fn sale(available: u64) -> Arc<SaleBoard> {
    let board = Board::new(CORES, 0.2);
    let total = available.max(1);
    let terms = SaleTerms { total, ..Default::default() };
    let sold = total - available;
    let state =
        SaleState { terms, sold, version: 1, sequence: sold, now: WallTime(1_000), ..Default::default() };
    let name = SaleName::parse("ticket").expect("it is well-formed");
    board.learn(&name, &state).expect("there is room for a sale")
}

fn take_and_return() -> Box<dyn Work> {
    let sale = sale(1_000_000);
    plain(move || {
        let permits = sale.take(CoreIndex(0), black_box(Quantity::ONE)).expect("there are permits");
        sale.settle(permits, Settlement::Returned);
    })
}

fn refuse() -> Box<dyn Work> {
    let sale = sale(0);
    plain(move || assert!(sale.take(CoreIndex(0), black_box(Quantity::ONE)).is_err()))
}

/// Ids looked up in a sale that is sold out, as repeats are; with ten thousand granted.
fn look_up(known: bool) -> Box<dyn Work> {
    struct LookUp(Arc<SaleBoard>, Vec<BookingId>, Membership);
    impl Work for LookUp {
        fn operations(&self) -> u64 {
            self.1.len() as u64
        }

        fn run(&mut self) {
            for id in black_box(&self.1) {
                assert_eq!(self.0.membership(id), self.2);
            }
        }
    }
    let sale = sale(0);
    let id = |number: u64| BookingId::parse(format!("0198c0de-0000-7000-8000-{number:012}"));
    let ids = |from, to| -> Vec<_> { (from..to).map(|number| id(number).expect("well-formed")).collect() };
    let granted = ids(0, GRANTED);
    // The whole log, so that what is not in it is known to be unknown.
    sale.note_log(0, 1, granted.iter());
    match known {
        true => Box::new(LookUp(sale, granted[..64].to_vec(), Membership::MaybePresent)),
        false => Box::new(LookUp(sale, ids(GRANTED, GRANTED + 64), Membership::Absent)),
    }
}
