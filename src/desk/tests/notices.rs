//! What operators are told, and when.

use super::*;

#[test]
fn the_first_core_that_finds_the_ledger_silent_says_so_and_that_it_answers_again() {
    for (other_was_first, is_up) in [(false, true), (true, true), (false, false)] {
        let mut fixture = fixture_beside(1, 10);
        fixture.board.set_silent(CoreIndex(1), other_was_first);
        fixture.reserve(1, None, 1).unwrap();
        fixture.turn();
        let (call, _) = fixture.batch().unwrap();
        fixture.wait(limits::LEDGER_SLOW_MS - 1);
        assert!(!fixture.desk.notices.is_silence_told());
        if !is_up {
            // That the connection is lost is told elsewhere.
            fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
        }
        fixture.wait(1);
        assert_eq!(
            fixture.desk.notices.is_silence_told(),
            is_up && !other_was_first,
            "{other_was_first} {is_up}"
        );
        assert!(fixture.board.any_silent());
        fixture.answer(call, 9, vec![granted()]);
        while let Some((call, _)) = fixture.desk.poll_call() {
            fixture.desk.handle_answer(call, Err(CallError::Refused("OOM".to_owned())), fixture.now);
        }
        fixture.desk.handle_ledger_up(SlotRange::ALL);
        fixture.turn();
        assert!(!fixture.desk.notices.is_silence_told());
        assert_eq!(fixture.board.any_silent(), other_was_first);
    }
}

/// Whether operators are still told of a sale depends on how many others are in trouble.
#[test]
fn a_sale_that_can_be_sold_again_is_no_longer_counted_as_in_trouble() {
    let mut fixture = fixture(10);
    for _ in 0..3 {
        for (trouble, expected) in
            [(Some("it is missing"), 1), (Some("it is worse"), 1), (None, 0), (None, 0)]
        {
            fixture.desk.note_trouble(fixture.lane, trouble);
            assert_eq!(fixture.desk.notices.troubles(), expected, "{trouble:?}");
        }
    }
}
