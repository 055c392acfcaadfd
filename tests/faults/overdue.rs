//! Very many holds that end within one second, while buyers go on: what they held is on sale at once, all of it.

use std::time::Instant;

use boxoffice::booking::{BookingId, Quantity, SaleChange, SaleName, SaleState};
use boxoffice::clock::WallTime;
use boxoffice::ledger::Ledger;
use boxoffice::limits::ENTRIES_PER_CALL_MAX;
use boxoffice::protocol::{Answer, BookingOp, Call, Claim, Reservation, SaleOp, SaleResult, Watermark};

use crate::buyers::ask_once;
use crate::checker::{Rule, Told, Violation, Word};
use crate::hosts::forget_one;
use crate::scene::{Scene, TOTAL};
use crate::support::redis_server::RedisServer;
use crate::support::{PATIENCE, eventually};
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[(
    "up to 100,000 holds that end within one second",
    "a group is booked at its first try as soon as they are over, and nobody else is told \"sold out\"; counts are right",
    ended_together,
)];

/// Tickets of all those holds.
const HELD: u64 = 200_000;

/// What a group asks for: more than is left beside the holds, so that it shows what became of them. There is room for one at
/// each of two hosts, and for a crowd.
const GROUP: u64 = (TOTAL - HELD) + 10_000;

/// How many holds: 100,000 in `make faults`.
fn holds(effort: &Effort) -> u64 {
    (u64::from(effort.kills) * 100).clamp(100, 100_000)
}

fn sale() -> SaleName {
    SaleName::parse("ticket").expect("a name")
}

fn ask(ledger: &mut dyn Ledger, call: Call) -> Answer {
    ledger.execute(&[call]).remove(0).expect("the ledger answers")
}

/// Whatever the sale's terms, this is how long what is booked from now on is held.
fn set_hold(ledger: &mut dyn Ledger, hold_ms: Option<u64>) -> SaleState {
    let change = SaleChange { hold_ms: Some(hold_ms), ..SaleChange::default() };
    match ask(ledger, SaleOp::Alter(change).on(sale())) {
        Answer::Sale { state, result: SaleResult::Done } => state,
        other => panic!("{other:?}"),
    }
}

/// The ledger's time.
fn now(ledger: &mut dyn Ledger) -> u64 {
    match ask(ledger, SaleOp::LookUp(Vec::new()).on(sale())) {
        Answer::Sale { state, result: SaleResult::Found(_) } => state.now.0,
        other => panic!("{other:?}"),
    }
}

/// The first and the last moment at which one of the holds ends.
struct Ends {
    first: WallTime,
    last: WallTime,
}

/// So many holds, past the hosts, that all end within a second, `after_ms` from now on; what is booked afterwards is
/// confirmed. `None` where that was too soon for this machine.
fn fill(ledger: &mut dyn Ledger, name: &str, count: u64, after_ms: u64) -> Option<Ends> {
    let begin = now(ledger);
    let mut at = begin;
    let mut ends: Vec<WallTime> = Vec::new();
    for first in (0..count).step_by(ENTRIES_PER_CALL_MAX) {
        let hold_ms = (begin + after_ms + 900 * first / count).checked_sub(at).filter(|ms| *ms > 0);
        if hold_ms.is_none() {
            break;
        }
        set_hold(ledger, hold_ms);
        let claim = |number: u64| Claim {
            id: BookingId::parse(format!("{name}-{number}")).expect("an id"),
            quantity: Quantity::new(HELD * (number + 1) / count - HELD * number / count).expect("a quantity"),
            buyer: None,
        };
        let claims = (first..count.min(first + ENTRIES_PER_CALL_MAX as u64)).map(claim).collect();
        match ask(ledger, BookingOp::Reserve(claims).on(sale(), Watermark::default())) {
            Answer::Sale { state, result: SaleResult::Reserved(reservations) } => {
                at = state.now.0;
                ends.extend(reservations.iter().map(|one| match one {
                    Reservation::Granted { expires_at: Some(at) } => *at,
                    other => panic!("no hold: {other:?}"),
                }));
            }
            other => panic!("{other:?}"),
        }
    }
    at = set_hold(ledger, None).now.0;
    let ends = Ends { first: *ends.iter().min()?, last: *ends.iter().max()? };
    (at < ends.first.0).then_some(ends)
}

/// A scene of which most is held, and a group was told so; nobody else has asked for anything.
fn filled(redis: &RedisServer, count: u64) -> (Scene, Ends, Told) {
    // Twice the time where a busy machine has not done it in time. A new sale for each try keeps them apart.
    for attempt in 0.. {
        let scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
        let mut ledger =
            boxoffice::ledger::open(&redis.url(), &Default::default(), false).expect("Redis can be reached");
        let after_ms = (1_500 + count / 20) << attempt;
        if let Some(ends) = fill(&mut *ledger, "held", count, after_ms) {
            let told = ask_once(scene.hosts[0].address, "too-early", GROUP);
            if now(&mut *ledger) < ends.first.0 {
                return (scene, ends, told);
            }
        }
        drop(scene);
        redis.command(&["flushall"]);
    }
    unreachable!("a count has no end")
}

/// Once a host's reading is of after the last end, it has none of them in its counts, and a group gets its tickets there at
/// the first try that is answered.
fn ask_each_host(scene: &mut Scene, ends: &Ends) -> Vec<Violation> {
    let mut broken = Vec::new();
    let last = ends.last.to_string();
    for (number, host) in scene.hosts.iter().enumerate() {
        let told = eventually("a host reads the sale after the last hold", PATIENCE, || {
            let sale = host.sale("ticket");
            (sale["as_of"].as_str().expect("a time") > last.as_str()).then_some(sale)
        });
        if told["held"] != 0 {
            broken.push(Violation { rule: Rule::Miscounted, what: format!("holds end by {last}: {told}") });
        }
        let started = Instant::now();
        let told = loop {
            let told = ask_once(host.address, &format!("group-{number}"), GROUP);
            let is_answered = !matches!(told.word, Word::Unavailable | Word::Unknown | Word::InProgress);
            if is_answered || started.elapsed() > PATIENCE {
                break told;
            }
        };
        // One that was told "sold out" the checker convicts: all that was asked for by then is less than there is.
        if !matches!(told.word, Word::Booked { .. } | Word::Known { .. } | Word::SoldOut) {
            broken.push(Violation { rule: Rule::Unsold, what: format!("a group was told {:?}", told.word) });
        }
        scene.evidence.told.push(told);
    }
    broken
}

fn ended_together(effort: &Effort) -> Row {
    let mut row = Row::default();
    for run in 0..effort.runs {
        let redis = RedisServer::durable_on_socket(&[]);
        let (mut scene, ends, refused) = filled(&redis, holds(effort));
        if refused.word != Word::SoldOut {
            let what = format!("held until {}, and a group was told {:?}", ends.first, refused.word);
            row.violations.push(Violation { rule: Rule::Oversold, what });
        }
        let crowd = scene.buyers("crowd", 4);
        crowd.wait_for(20);
        row.violations.extend(ask_each_host(&mut scene, &ends));
        crowd.wait_for(50);
        scene.keep(crowd);
        if run == 0 {
            let told = &mut scene.evidence.told;
            let group = told.iter().position(|told| told.id.as_deref() == Some("group-1")).expect("a group");
            let honest = std::mem::replace(&mut told[group].word, refused.word);
            let sentence = scene.expect_conviction(&[Rule::FalseSoldOut]);
            row.mutants.push(("a group told after the end what it was told before", sentence));
            scene.evidence.told[group].word = honest;
        }
        row.judge(1, &mut scene);
        if run == 0 {
            forget_one(&redis, &mut scene, &mut row);
        }
    }
    row
}
