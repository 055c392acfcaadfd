//! What a host says of itself, and what it makes of what it hears of others.

use super::*;
use crate::protocol::{HostBeat, HostFigures, HostId, HostReport};
use crate::stock::HostCard;

fn card(id: u128, weight: u32) -> HostCard {
    HostCard { id: HostId(id), address: format!("h{id}:1"), weight, started_at_ms: 7 }
}

fn told(id: u128, weight: u32) -> HostBeat {
    HostBeat { id: HostId(id), age_ms: 0, report: card(id, weight).report(HostFigures::default()) }
}

fn hosts(hosts: &[HostBeat]) -> Answer {
    Answer::Ledger(LedgerResult::Hosts { hosts: hosts.to_vec(), is_untidy: false })
}

fn fixture_with_card() -> Fixture {
    fixture_of(Arc::new(Board::new(1, 0.0).with_card(card(1, 1))), 100)
}

/// What the next beat says; all else is left unanswered.
fn beat(fixture: &mut Fixture) -> Option<(CallId, Option<HostReport>)> {
    std::iter::from_fn(|| fixture.desk.poll_call()).find_map(|(call, asked)| match asked {
        Call::Ledger(LedgerOp::Beat { host: HostId(1), report, .. }) => {
            Some((call, report.map(|report| *report)))
        }
        _ => None,
    })
}

fn answer(fixture: &mut Fixture, call: CallId, answer: Result<Answer, CallError>) {
    fixture.desk.handle_answer(call, answer, fixture.now);
    fixture.desk.check_invariants();
}

#[test]
fn a_host_without_a_card_says_nothing() {
    let mut fixture = fixture(5);
    fixture.wait(limits::HOST_BEAT_MS);
    assert!(beat(&mut fixture).is_none());
}

#[test]
fn a_host_says_what_it_is_and_how_it_does_and_one_beat_is_on_its_way_at_a_time() {
    let mut fixture = fixture_with_card();
    fixture.wait(limits::HOST_BEAT_MS);
    let (call, first) = beat(&mut fixture).unwrap();
    let first = first.unwrap();
    assert_eq!((first.address.as_str(), first.weight, first.started_at_ms), ("h1:1", 1, 7));
    assert_eq!(first.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(first.figures.permits, Some(100));
    fixture.wait(limits::HOST_BEAT_MS);
    assert!(beat(&mut fixture).is_none(), "the first is not answered");
    fixture.now.monotonic.0 += 3_000_000;
    answer(&mut fixture, call, Ok(hosts(&[told(1, 1)])));
    for client in 0..100 {
        fixture.reserve(client, None, 1).unwrap();
    }
    assert_eq!(fixture.reserve(100, None, 1), Err(Refusal::SoldOut));
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    fixture.answer(call, 50, vec![granted(); 100]);
    fixture.wait(limits::SYNC_INTERVAL_MS);
    let (_, second) = beat(&mut fixture).unwrap();
    let span_ms = limits::HOST_BEAT_MS + limits::SYNC_INTERVAL_MS + 3;
    let figures = second.unwrap().figures;
    assert_eq!(figures.bookings_per_second, 100 * 1_000 / span_ms);
    assert_eq!(figures.refusals_per_second, 1_000 / span_ms);
    assert_eq!(figures.round_trip_us, limits::HOST_BEAT_MS * 1_000 + 3_000);
}

#[test]
fn permits_of_a_quiet_sale_follow_the_share_at_once() {
    let mut fixture = fixture_with_card();
    fixture.wait(limits::HOST_BEAT_MS);
    let (call, _) = beat(&mut fixture).unwrap();
    answer(&mut fixture, call, Ok(hosts(&[told(1, 1), told(2, 3)])));
    assert_eq!(fixture.permits().0, 25);
    fixture.wait(limits::HOST_BEAT_MS);
    let (call, _) = beat(&mut fixture).unwrap();
    // The other is silent: its tickets are anybody's.
    let gone = HostBeat { age_ms: limits::HOST_GONE_MS + 1, ..told(2, 3) };
    answer(&mut fixture, call, Ok(hosts(&[told(1, 1), gone])));
    assert_eq!(fixture.permits().0, 100);
    assert_eq!(fixture.board.fleet().live(), 1);
    assert_eq!(fixture.board.fleet().hosts.len(), 2);
}

#[test]
fn a_ledger_that_does_not_tell_changes_no_share() {
    let mut fixture = fixture_with_card();
    fixture.wait(limits::HOST_BEAT_MS);
    let (call, _) = beat(&mut fixture).unwrap();
    answer(&mut fixture, call, Ok(hosts(&[told(1, 1), told(2, 1)])));
    fixture.wait(limits::HOST_BEAT_MS);
    let (call, _) = beat(&mut fixture).unwrap();
    answer(&mut fixture, call, Err(CallError::Refused("NOPERM".to_owned())));
    assert_eq!(fixture.permits().0, 50);
    fixture.wait(limits::HOST_BEAT_MS);
    assert!(beat(&mut fixture).is_some(), "it is tried again");
}

#[test]
fn who_hears_of_hosts_to_be_forgotten_has_them_forgotten_once() {
    let mut fixture = fixture_with_card();
    let mut forgets = Vec::new();
    for is_untidy in [true, false, false] {
        fixture.wait(limits::HOST_BEAT_MS);
        let beat = std::iter::from_fn(|| fixture.desk.poll_call()).find_map(|(call, asked)| match asked {
            Call::Ledger(LedgerOp::Beat { forgets, .. }) => Some((call, forgets)),
            _ => None,
        });
        let (call, it_forgets) = beat.unwrap();
        forgets.push(it_forgets);
        let told = LedgerResult::Hosts { hosts: vec![told(1, 1)], is_untidy };
        answer(&mut fixture, call, Ok(Answer::Ledger(told)));
    }
    assert_eq!(forgets, [false, true, false]);
}

#[test]
fn on_a_new_connection_a_host_says_sooner_that_it_lives() {
    let mut fixture = fixture_with_card();
    fixture.wait(limits::HOST_BEAT_MS);
    let (call, _) = beat(&mut fixture).unwrap();
    answer(&mut fixture, call, Ok(hosts(&[told(1, 1)])));
    fixture.wait(limits::SYNC_INTERVAL_MS);
    assert!(beat(&mut fixture).is_none(), "it has just said so");
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    fixture.wait(limits::SYNC_INTERVAL_MS / 2);
    fixture.wait(limits::SYNC_INTERVAL_MS / 2);
    let (call, _) = beat(&mut fixture).unwrap();
    answer(&mut fixture, call, Ok(hosts(&[told(1, 1)])));
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.wait(2 * limits::HOST_BEAT_MS);
    assert!(beat(&mut fixture).is_none(), "there is nobody to say it to");
}

#[test]
fn a_host_that_leaves_says_so_last_and_waits_for_the_answer() {
    let mut fixture = fixture_with_card();
    fixture.wait(limits::HOST_BEAT_MS);
    let (call, _) = beat(&mut fixture).unwrap();
    fixture.desk.leave(fixture.now.monotonic);
    assert!(beat(&mut fixture).is_none(), "a beat is on its way");
    assert!(fixture.desk.is_leaving());
    answer(&mut fixture, call, Ok(hosts(&[told(1, 1)])));
    let (call, report) = beat(&mut fixture).unwrap();
    assert_eq!(report, None);
    assert!(fixture.desk.is_leaving());
    answer(&mut fixture, call, Ok(hosts(&[])));
    assert!(!fixture.desk.is_leaving());
    fixture.desk.leave(fixture.now.monotonic);
    fixture.wait(2 * limits::HOST_BEAT_MS);
    assert!(beat(&mut fixture).is_none());
    assert_eq!(fixture.permits().0, 100, "for those who still come it has permits");
}

#[test]
fn a_host_that_cannot_say_that_it_leaves_does_not_wait() {
    let mut fixture = fixture_with_card();
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.desk.leave(fixture.now.monotonic);
    assert!(!fixture.desk.is_leaving());
}
