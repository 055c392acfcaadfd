//! Every interleaving of a few cores on one sale: `RUSTFLAGS="--cfg loom" cargo test --release --lib stock`.

use std::sync::Arc;

use loom::thread;

use super::board::PermitsPerTicket;
use super::{Board, CoreIndex, Dealt, Dry, Gate, Permits, SaleBoard, Settlement};
use crate::booking::{Quantity, SaleName, SaleState};
use crate::clock::WallTime;

/// Explores all runs with at most `preemptions` forced switches of thread. Loom's authors advise two or three, since
/// almost every race shows itself with two; the tests of many steps take two so that all of them end within a minute.
fn explore(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(test);
}

fn state(available: u64, sequence: u64) -> SaleState {
    let mut state = SaleState { version: 1, sequence, now: WallTime(sequence), ..SaleState::default() };
    state.terms.total = available;
    state
}

/// A sale of two cores without spare permits, of which the ledger has told `available`.
fn sale(available: u64) -> Arc<SaleBoard> {
    let name = SaleName::parse("ticket").unwrap();
    let sale = SaleBoard::new(name, 2, Arc::new(PermitsPerTicket::new(1.0, 0.0)), (0, 0));
    sale.learn_waiting(&state(available, 1));
    Arc::new(sale)
}

fn tickets(count: u64) -> Quantity {
    Quantity::new(count).unwrap()
}

/// Takes, settles, and says how many permits ended for good.
fn take_and_settle(sale: &SaleBoard, core: usize, count: u64, settlement: Settlement) -> u64 {
    let Ok(permits) = sale.take(CoreIndex(core), tickets(count)) else { return 0 };
    let taken = permits.count();
    assert!((1..=count).contains(&taken));
    sale.settle(permits, settlement);
    if settlement == Settlement::Returned { 0 } else { taken }
}

fn free(sale: &SaleBoard) -> u64 {
    sale.totals().map(|shard| shard.free).sum()
}

fn outstanding(sale: &SaleBoard) -> u64 {
    sale.totals().map(|shard| shard.free + shard.taken).sum()
}

/// Nothing is with the ledger any more; every permit that was issued is accounted for.
fn check_conserved(sale: &SaleBoard, ended: u64) {
    assert_eq!(sale.totals().map(|shard| shard.taken).sum::<u64>(), 0);
    let Dealt { issued, withdrawn } = sale.dealt();
    assert_eq!(issued, free(sale) + ended + withdrawn, "a permit was made or lost");
}

/// The next reading brings the permits to their target, whatever happened before.
fn check_repaired(sale: &SaleBoard, available: u64) {
    sale.learn_waiting(&state(available, 100));
    assert_eq!(free(sale), available);
}

#[test]
fn one_permit_is_taken_once() {
    explore(3, || {
        let sale = sale(1);
        let other = {
            let sale = sale.clone();
            thread::spawn(move || sale.take(CoreIndex(1), Quantity::ONE))
        };
        let mine = sale.take(CoreIndex(0), Quantity::ONE);
        let permits: Vec<Permits> = mine.into_iter().chain(other.join().unwrap()).collect();
        assert_eq!(permits.len(), 1);
        permits.into_iter().for_each(|permits| sale.settle(permits, Settlement::Spent));
        check_conserved(&sale, 1);
    });
}

/// This host has permits for half of what is left, and one ticket goes while another core looks for a permit: before that
/// answer is taken in the other ticket is another host's to sell, and afterwards there is a permit for it.
#[test]
fn nobody_is_told_sold_out_while_there_is_more_than_this_host_asks_for() {
    explore(3, || {
        let name = SaleName::parse("ticket").unwrap();
        let sale = SaleBoard::new(name, 2, Arc::new(PermitsPerTicket::new(0.5, 0.0)), (0, 0));
        sale.learn_waiting(&state(2, 1));
        let sale = Arc::new(sale);
        let permits = sale.take(CoreIndex(0), Quantity::ONE).unwrap();
        let other = {
            let sale = sale.clone();
            thread::spawn(move || match sale.take(CoreIndex(1), Quantity::ONE) {
                Ok(permits) => sale.settle(permits, Settlement::Returned),
                Err(dry) => assert_eq!(dry, Dry::Elsewhere),
            })
        };
        sale.settle(permits, Settlement::Spent);
        sale.learn_waiting(&state(1, 2));
        other.join().unwrap();
        check_conserved(&sale, 1);
    });
}

#[test]
fn three_takers_share_two_permits() {
    explore(3, || {
        let sale = sale(2);
        let others: Vec<_> = [0, 1]
            .map(|core| {
                let sale = sale.clone();
                thread::spawn(move || take_and_settle(&sale, core, 1, Settlement::Spent))
            })
            .into_iter()
            .collect();
        let mut ended = take_and_settle(&sale, 1, 1, Settlement::Refused);
        ended += others.into_iter().map(|other| other.join().unwrap()).sum::<u64>();
        assert_eq!(ended, 2);
        check_conserved(&sale, 2);
    });
}

#[test]
fn groups_steal_and_give_back_without_loss() {
    explore(3, || {
        let sale = sale(3);
        let other = {
            let sale = sale.clone();
            thread::spawn(move || take_and_settle(&sale, 1, 3, Settlement::Returned))
        };
        let ended = take_and_settle(&sale, 0, 2, Settlement::Spent);
        other.join().unwrap();
        check_conserved(&sale, ended);
        check_repaired(&sale, 3);
    });
}

/// No other reading comes: nothing is told of a quiet sale, and who is refused from memory asks for none.
#[test]
fn a_permit_that_comes_back_during_a_reading_leaves_no_ticket_unsold() {
    explore(3, || {
        let sale = sale(1);
        let permits = sale.take(CoreIndex(0), Quantity::ONE).unwrap();
        let giver = {
            let sale = sale.clone();
            thread::spawn(move || sale.settle(permits, Settlement::Returned))
        };
        sale.learn_waiting(&state(1, 2));
        giver.join().unwrap();
        assert_eq!(take_and_settle(&sale, 1, 1, Settlement::Spent), 1, "sold out with a ticket left");
        check_conserved(&sale, 1);
    });
}

#[test]
fn permits_that_come_back_to_every_shard_during_a_top_up_are_not_taken_for_new_ones() {
    explore(3, || {
        let sale = sale(2);
        let permits = [0, 1].map(|core| sale.take(CoreIndex(core), Quantity::ONE).unwrap());
        let giver = {
            let sale = sale.clone();
            thread::spawn(move || permits.map(|permits| sale.settle(permits, Settlement::Returned)))
        };
        sale.learn_waiting(&state(3, 2));
        giver.join().unwrap();
        assert_eq!(free(&sale), 3);
        check_conserved(&sale, 0);
    });
}

#[test]
fn whatever_is_taken_and_given_back_during_a_reading_its_target_is_met() {
    for (count, settlement) in
        [(1, None), (2, None), (1, Some(Settlement::Returned)), (2, Some(Settlement::Returned))]
    {
        explore(3, move || {
            let sale = sale(2);
            let taker = {
                let sale = sale.clone();
                thread::spawn(move || {
                    let permits = sale.take(CoreIndex(1), tickets(count)).ok()?;
                    match settlement {
                        Some(settlement) => sale.settle(permits, settlement),
                        None => return Some(permits),
                    }
                    None
                })
            };
            sale.learn_waiting(&state(2, 2));
            let kept = taker.join().unwrap();
            assert_eq!(outstanding(&sale), 2);
            kept.into_iter().for_each(|permits| sale.settle(permits, Settlement::Returned));
            check_conserved(&sale, 0);
        });
    }
}

#[test]
fn shrink_and_top_up_meet_take_and_give_back() {
    explore(2, || {
        let sale = sale(2);
        let taker = {
            let sale = sale.clone();
            thread::spawn(move || take_and_settle(&sale, 0, 2, Settlement::Spent))
        };
        let giver = {
            let sale = sale.clone();
            thread::spawn(move || take_and_settle(&sale, 1, 1, Settlement::Returned))
        };
        sale.learn_waiting(&state(1, 2));
        sale.learn_waiting(&state(3, 3));
        let ended = taker.join().unwrap() + giver.join().unwrap();
        check_conserved(&sale, ended);
        check_repaired(&sale, 2);
    });
}

#[test]
fn two_cores_learn_at_once_while_a_third_takes() {
    explore(2, || {
        let sale = sale(1);
        let learner = {
            let sale = sale.clone();
            thread::spawn(move || sale.learn(&state(3, 3)))
        };
        let taker = {
            let sale = sale.clone();
            thread::spawn(move || take_and_settle(&sale, 1, 1, Settlement::Refused))
        };
        sale.learn(&state(0, 2));
        learner.join().unwrap();
        let ended = taker.join().unwrap();
        check_conserved(&sale, ended);
        check_repaired(&sale, 2);
    });
}

#[test]
fn a_reading_of_nothing_withdraws_while_permits_come_back() {
    explore(3, || {
        let sale = sale(2);
        let permits = sale.take(CoreIndex(0), Quantity::ONE).unwrap();
        let giver = {
            let sale = sale.clone();
            thread::spawn(move || sale.settle(permits, Settlement::Returned))
        };
        sale.learn_waiting(&state(0, 2));
        assert!(sale.take(CoreIndex(1), Quantity::ONE).is_err(), "the ledger told of no ticket");
        giver.join().unwrap();
        check_conserved(&sale, 0);
        check_repaired(&sale, 0);
    });
}

#[test]
fn a_top_up_after_sold_out_is_seen() {
    explore(3, || {
        let sale = sale(0);
        assert!(sale.take(CoreIndex(1), Quantity::ONE).is_err());
        let learner = {
            let sale = sale.clone();
            thread::spawn(move || {
                sale.learn_waiting(&state(0, 2));
                sale.learn_waiting(&state(1, 3));
            })
        };
        let early = take_and_settle(&sale, 1, 1, Settlement::Returned);
        learner.join().unwrap();
        assert_eq!(take_and_settle(&sale, 0, 1, Settlement::Spent), 1);
        check_conserved(&sale, early + 1);
    });
}

#[test]
fn a_missing_sale_sells_nothing_and_loses_nothing() {
    explore(3, || {
        let sale = sale(2);
        let taker = {
            let sale = sale.clone();
            thread::spawn(move || take_and_settle(&sale, 0, 1, Settlement::Returned))
        };
        sale.mark_missing();
        assert_eq!(sale.gate(WallTime(0)), Gate::Missing);
        taker.join().unwrap();
        check_conserved(&sale, 0);
        check_repaired(&sale, 1);
    });
}

#[test]
fn a_new_sale_is_in_every_view_that_is_up_to_date() {
    explore(3, || {
        let board = Arc::new(Board::new(1, 0.0));
        let learner = {
            let board = board.clone();
            thread::spawn(move || {
                board.learn(&SaleName::parse("a").unwrap(), &state(1, 1)).unwrap();
            })
        };
        let version = board.directory_version();
        let view = board.directory();
        assert!(view.version() >= version);
        assert_eq!(view.version() == 1, view.get("a").is_some());
        learner.join().unwrap();
        assert_eq!(board.directory_version(), 1);
        assert!(board.directory().get("a").is_some());
    });
}
