//! What gathers, what leaves in one call, and what never leaves.

use super::*;

#[test]
fn gathers_a_turn_into_one_call_and_keeps_gathering_while_calls_are_on_the_way() {
    let mut fixture = fixture(100);
    for client in 0..3 {
        fixture.reserve(client, None, 1).unwrap();
    }
    assert!(fixture.batch().is_none(), "nothing leaves before the turn ends");
    fixture.turn();
    let (first, call) = fixture.batch().unwrap();
    assert_eq!(call.entries(), 3);
    for client in 3..6 {
        fixture.reserve(client, None, 1).unwrap();
        fixture.turn();
        assert!(fixture.batch().is_none());
    }
    fixture.answer(first, 97, vec![granted(), granted(), granted()]);
    assert_eq!(fixture.told().len(), 3);
    fixture.turn();
    assert_eq!(fixture.batch().unwrap().1.entries(), 3);
}

#[test]
fn splits_what_gathered_at_the_cap() {
    let mut fixture = fixture(10_000);
    let clients = u32::try_from(limits::ENTRIES_PER_CALL_MAX).unwrap() + 1;
    for client in 0..clients {
        fixture.reserve(client, None, 1).unwrap();
    }
    fixture.turn();
    assert_eq!(fixture.batch().unwrap().1.entries(), limits::ENTRIES_PER_CALL_MAX);
    assert_eq!(fixture.batch().unwrap().1.entries(), 1);
}

#[test]
fn an_entry_that_never_left_is_told_as_not_done_and_gives_its_permit_back() {
    let mut fixture = fixture(10);
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.reserve(1, None, 1).unwrap();
    fixture.turn();
    assert!(fixture.batch().is_none());
    fixture.wait(TIMEOUT_MS - 1);
    assert!(fixture.told().is_empty());
    fixture.wait(1);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::LedgerUnavailable))]);
    assert_eq!((fixture.permits(), fixture.desk.waiting()), ((12, 0), 0));
    // By now the ledger is known to be away, and nobody waits for it in vain.
    assert_eq!(fixture.reserve(2, None, 1), Err(Refusal::LedgerUnavailable));
    assert_eq!(fixture.reserve(2, Some("a"), 1), Err(Refusal::LedgerUnavailable));
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    fixture.turn();
    assert!(fixture.batch().is_none());
    fixture.reserve(3, None, 1).unwrap();
}

#[test]
fn takes_only_so_much_in_flight() {
    let mut fixture = fixture(1_000_000);
    let most = u32::try_from(limits::WAITING_PER_CORE_MAX).unwrap();
    for client in 0..most {
        fixture.reserve(client, None, 1).unwrap();
    }
    let before = fixture.permits();
    assert_eq!(fixture.reserve(most, None, 1), Err(Refusal::Overloaded));
    assert_eq!(fixture.permits(), before);
}

/// The place of an answered entry is taken by another, whose time is not up with that of the first.
#[test]
fn who_takes_the_place_of_one_that_was_answered_waits_as_long_as_everybody() {
    let mut fixture = fixture(10);
    fixture.reserve(1, None, 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.wait(TIMEOUT_MS / 2);
    fixture.answer(call, 9, vec![granted()]);
    assert_eq!(fixture.told().len(), 1);
    fixture.reserve(2, Some("own"), 1).unwrap();
    fixture.turn();
    fixture.wait(TIMEOUT_MS / 2);
    assert_eq!(fixture.told(), [], "half of its time");
    fixture.wait(TIMEOUT_MS / 2);
    assert_eq!(fixture.told(), [(2, Outcome::Refused(Refusal::OutcomeUnknown))]);
}

/// The board forgot a missing sale for want of room and learnt it again, while a booking of the former one waits here with its
/// permits: those are settled where they were taken.
#[test]
fn a_lane_with_something_to_send_keeps_the_sale_that_its_permits_are_of() {
    let mut fixture = fixture(5);
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.reserve(1, None, 1).unwrap();
    fixture.turn();
    fixture.board.mark_missing("ticket");
    for number in 0..limits::SALES_MAX {
        fixture.board.learn(&SaleName::parse(format!("s{number}")).unwrap(), &state(1, 1)).unwrap();
    }
    assert!(fixture.board.directory().get("ticket").is_none());
    fixture.board.mark_missing("s0");
    fixture.board.learn(&sale(), &state(5, 9)).unwrap();
    fixture.desk.refresh_lanes();
    fixture.wait(TIMEOUT_MS);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::LedgerUnavailable))]);
    fixture.turn();
    let now_sold =
        fixture.board.directory().get("ticket").unwrap().totals().map(|core| core.free).sum::<u64>();
    assert_eq!(now_sold, 6, "none of the former one's is among them");
}
