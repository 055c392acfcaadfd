//! Bookings that wait for a permit because other hosts have the permits for what is left.

use super::*;
use crate::protocol::{HostBeat, HostFigures, HostId};
use crate::stock::HostCard;

/// A host of weight 1 beside another of weight 9: of every hundred tickets it has twelve permits.
fn fixture_sharing(available: u64) -> Fixture {
    let card =
        |id, weight| HostCard { id: HostId(id), address: format!("h{id}:1"), weight, started_at_ms: 0 };
    let board = Arc::new(Board::new(1, 0.2).with_card(card(1, 1)));
    let beat = |id, weight| HostBeat {
        id: HostId(id),
        age_ms: 0,
        report: card(id, weight).report(HostFigures::default()),
    };
    board.note_fleet(vec![beat(1, 1), beat(2, 9)]);
    fixture_of(board, available)
}

fn grant(fixture: &mut Fixture, call: CallId, count: usize, left: u64) {
    fixture.answer(call, left, vec![granted(); count]);
}

/// Sends `count` bookings of clients 1 and on; returns the call of those that found a permit.
fn crowd(fixture: &mut Fixture, count: u32) -> (CallId, usize) {
    for client in 1..=count {
        fixture.reserve(client, None, 1).unwrap();
    }
    fixture.turn();
    let (call, asked) = fixture.batch().unwrap();
    (call, asked.entries())
}

#[test]
fn who_finds_no_permit_goes_on_with_the_next_answers_and_nobody_is_refused_in_vain() {
    let mut fixture = fixture_sharing(100);
    let (mut call, mut asked) = crowd(&mut fixture, 30);
    assert_eq!(asked, 12);
    let mut left = 100;
    let mut told = Vec::new();
    for expected in [11, 7] {
        assert!(fixture.batch().is_none(), "the permits are with the ledger");
        left -= asked as u64;
        grant(&mut fixture, call, asked, left);
        fixture.turn();
        told.extend(fixture.told());
        let next = fixture.batch().unwrap();
        (call, asked) = (next.0, next.1.entries());
        assert_eq!(asked, expected);
    }
    grant(&mut fixture, call, asked, left - 7);
    told.extend(fixture.told());
    let clients: Vec<u32> = told.iter().map(|(client, _)| *client).collect();
    assert_eq!(clients, (1..=30).collect::<Vec<_>>(), "in the order in which they came");
    assert!(told.iter().all(|(_, outcome)| matches!(outcome, Outcome::Granted(_))));
    fixture.desk.check_invariants();
}

#[test]
fn who_comes_later_stands_behind_those_who_stand() {
    let mut fixture = fixture_sharing(100);
    let (call, asked) = crowd(&mut fixture, 13);
    // The permits of the next deal are there before the end of the turn in which client 13 moves up.
    grant(&mut fixture, call, asked, 20);
    fixture.reserve(14, None, 1).unwrap();
    fixture.turn();
    fixture.told();
    let (call, asked) = fixture.batch().unwrap();
    assert_eq!(asked.entries(), 2);
    grant(&mut fixture, call, 2, 18);
    assert_eq!(fixture.told().iter().map(|(client, _)| *client).collect::<Vec<_>>(), [13, 14]);
}

#[test]
fn once_nothing_is_left_all_who_stand_hear_it_and_a_repeat_is_looked_up_before() {
    let mut fixture = fixture_sharing(100);
    let (call, asked) = crowd(&mut fixture, 13);
    fixture.reserve(14, Some("own"), 1).unwrap();
    assert_eq!(fixture.reserve(15, Some("own"), 1), Err(Refusal::InProgress));
    assert_eq!(fixture.board.directory().get("ticket").unwrap().ids_in_flight(), 1);
    grant(&mut fixture, call, asked, 0);
    fixture.turn();
    assert_eq!(fixture.told().last(), Some(&(13, Outcome::Refused(Refusal::SoldOut))));
    let (call, asked) = fixture.batch().unwrap();
    assert_eq!(asked, SaleOp::LookUp(vec![id("own")]).on(sale()));
    assert_eq!(fixture.board.directory().get("ticket").unwrap().ids_in_flight(), 0);
    let found = SaleResult::Found(vec![Some(booked("own", 1))]);
    fixture.desk.handle_answer(call, Ok(Answer::Sale { state: state(0, 3), result: found }), fixture.now);
    assert_eq!(fixture.told(), [(14, Outcome::Replayed(booked("own", 1)))]);
    assert_eq!(fixture.reserve(16, None, 1), Err(Refusal::SoldOut));
    fixture.desk.check_invariants();
}

#[test]
fn who_wants_more_than_is_left_is_refused_though_others_stand() {
    let mut fixture = fixture_sharing(100);
    crowd(&mut fixture, 13);
    assert_eq!(fixture.reserve(14, None, 101), Err(Refusal::SoldOut));
    assert_eq!(fixture.reserve(15, None, 100), Ok(()));
}

#[test]
fn of_the_last_ticket_that_this_host_asks_for_nobody_else_waits() {
    let mut fixture = fixture_sharing(1);
    let (call, asked) = crowd(&mut fixture, 1);
    assert_eq!(asked, 1);
    assert_eq!(fixture.reserve(2, None, 1), Err(Refusal::SoldOut));
    // Another host was faster.
    fixture.answer(call, 0, vec![Reservation::SoldOut]);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::SoldOut))]);
}

#[test]
fn a_sale_that_is_paused_lets_nobody_stand() {
    let mut fixture = fixture_sharing(100);
    let (call, _) = crowd(&mut fixture, 13);
    let paused = SaleState { status: SaleStatus::Paused, ..state(88, 1) };
    let result = SaleResult::Reserved(vec![granted(); 12]);
    fixture.desk.handle_answer(call, Ok(Answer::Sale { state: paused, result }), fixture.now);
    fixture.turn();
    let told = fixture.told();
    assert!(matches!(told.last(), Some((13, Outcome::Refused(Refusal::NotOnSale(_))))), "{told:?}");
}

#[test]
fn nobody_stands_longer_than_a_client_waits_and_is_told_that_nothing_was_done() {
    let mut fixture = fixture_sharing(100);
    let (call, asked) = crowd(&mut fixture, 13);
    fixture.reserve(14, Some("own"), 1).unwrap();
    // The ledger answers, but another core of this host takes all permits that come.
    let board = Arc::clone(fixture.board.directory().get("ticket").unwrap());
    fixture.answer(call, 88, vec![granted(); asked]);
    fixture.told();
    let taken: Vec<_> = std::iter::from_fn(|| board.take(CoreIndex(0), Quantity::ONE).ok()).collect();
    fixture.wait(TIMEOUT_MS);
    assert_eq!(
        fixture.told(),
        [(13, Outcome::Refused(Refusal::Overloaded)), (14, Outcome::Refused(Refusal::Overloaded))]
    );
    assert_eq!(board.ids_in_flight(), 0);
    taken.into_iter().for_each(|permits| board.settle(permits, Settlement::Returned));
    fixture.desk.check_invariants();
}

#[test]
fn who_stands_while_the_ledger_is_silent_stands_on_and_who_comes_is_told_of_it() {
    let mut fixture = fixture_sharing(100);
    crowd(&mut fixture, 13);
    fixture.wait(limits::LEDGER_SLOW_MS);
    assert_eq!(fixture.reserve(14, None, 1), Err(Refusal::LedgerUnavailable));
    assert_eq!(fixture.told(), []);
    fixture.wait(TIMEOUT_MS - limits::LEDGER_SLOW_MS);
    let told = fixture.told();
    assert_eq!(told.len(), 13);
    assert_eq!(told.last(), Some(&(13, Outcome::Refused(Refusal::LedgerUnavailable))));
}

/// Its one permit would cover the one ticket that another core has read of, if only the ledger answered.
#[test]
fn what_is_with_a_silent_ledger_says_nothing_about_what_is_left() {
    let mut fixture = fixture_sharing(5);
    let (call, asked) = crowd(&mut fixture, 3);
    assert_eq!(asked, 1);
    fixture.wait(limits::LEDGER_SLOW_MS);
    fixture.board.learn(&sale(), &state(1, 1)).unwrap();
    fixture.wait(limits::STANDING_LOOK_MS);
    assert_eq!(fixture.told(), []);
    fixture.sequence = 1;
    fixture.answer(call, 1, vec![Reservation::SoldOut]);
    fixture.turn();
    // The second has the permit of the last ticket, and who is behind it hears that it is the last.
    assert_eq!(fixture.told(), [1, 3].map(|client| (client, Outcome::Refused(Refusal::SoldOut))));
    assert_eq!(fixture.batch().unwrap().1.entries(), 1);
}

#[test]
fn a_crowd_that_stands_leaves_room_for_those_who_pay() {
    let mut fixture = fixture_sharing(100);
    let most = limits::STANDING_PER_CORE_MAX as u32;
    crowd(&mut fixture, 12 + most);
    assert_eq!(fixture.reserve(0, None, 1), Err(Refusal::Overloaded));
    fixture.ask(0, id("held"), BookingAction::Confirm).unwrap();
}

#[test]
fn a_crowd_that_hears_that_all_is_gone_hears_it_over_several_turns() {
    let mut fixture = fixture_sharing(100);
    let crowd_size = 12 + 3 * limits::STANDING_MOVED_PER_TURN_MAX as u32;
    let (call, asked) = crowd(&mut fixture, crowd_size);
    grant(&mut fixture, call, asked, 0);
    fixture.told();
    let mut turns = 0;
    while fixture.desk.waiting() > 0 {
        fixture.turn();
        assert!(fixture.told().len() <= limits::STANDING_MOVED_PER_TURN_MAX);
        if fixture.desk.waiting() > 0 {
            assert_eq!(
                fixture.desk.next_deadline(),
                fixture.now.monotonic,
                "the next turn is wanted at once"
            );
        }
        turns += 1;
    }
    assert_eq!(turns, 3);
}

/// Another core of this host gives permits back, and does not say so.
#[test]
fn permits_of_other_cores_are_looked_for() {
    let mut fixture = fixture_sharing(100);
    let (call, asked) = crowd(&mut fixture, 13);
    assert!(fixture.desk.next_deadline() <= fixture.now.monotonic.plus_ms(limits::STANDING_LOOK_MS));
    fixture.board.learn(&sale(), &state(200, 1)).unwrap();
    fixture.wait(limits::STANDING_LOOK_MS);
    grant(&mut fixture, call, asked, 188);
    fixture.turn();
    assert_eq!(fixture.batch().unwrap().1.entries(), 1);
}
