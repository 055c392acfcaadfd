//! The feed: which sales were announced as changed, and when hosts must read all of them anew.

use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::limits::{ANNOUNCE_MS, CHANGES_KEPT, CHANGES_PER_CALL_MAX};
use boxoffice::protocol::*;

use crate::audits::audit_of;
use crate::random::Audited;
use crate::subjects::{RedisSubject, START, SqliteSubject, Subject, on_each_ledger};
use crate::words::*;

fn changes(after: u64) -> Call {
    Call::Ledger(LedgerOp::Changes { after: Some(after) })
}

/// The names told after that number, the number up to which they tell, and whether all is to be read anew.
fn told(ledger: &mut dyn Subject, after: Option<u64>) -> (Vec<String>, u64, bool) {
    match ledger.ask(Call::Ledger(LedgerOp::Changes { after })) {
        Answer::Ledger(LedgerResult::Changes { names, at, more: false, reset, .. }) => {
            (names.iter().map(SaleName::to_string).collect(), at, reset)
        }
        other => panic!("{}: {other:?}", ledger.name()),
    }
}

fn open_named(name: &str) -> Call {
    let terms = SaleTerms { total: 5, hold_ms: Some(50), ..SaleTerms::default() };
    SaleOp::Open { terms, by: Opener::Operator }.on(SaleName::parse(name).unwrap())
}

#[test]
fn each_change_is_announced_and_what_changes_nothing_is_not() {
    on_each_ledger(|ledger| {
        let mut now = START;
        let mut at = 0;
        let mut announces = |ledger: &mut dyn Subject, call: Call, expected: bool| {
            now += ANNOUNCE_MS;
            ledger.set_time(now);
            let answer = ledger.ask(call.clone());
            let (names, latest, reset) = told(ledger, Some(at));
            let expected = if expected { vec!["ticket"] } else { vec![] };
            assert_eq!(names, expected, "{}: {call:?} {answer:?}", ledger.name());
            assert!(!reset && latest == at + names.len() as u64);
            at = latest;
        };
        let pause = alter(SaleChange { status: Some(SaleStatus::Paused), ..SaleChange::default() });
        let resume = alter(SaleChange { status: Some(SaleStatus::Open), ..SaleChange::default() });
        let total = |total| alter(SaleChange { total: Some(total), ..SaleChange::default() });
        for (call, expected) in [
            (open_named("ticket"), true),
            (open_named("ticket"), false),
            (reserve_ids(&["a", "b"]), true),
            (reserve_ids(&[]), true), // Their holds are over.
            (reserve_ids(&["a"]), false),
            (reserve_ids(&["c"]), true),
            (confirm(&["none"]), true), // Likewise.
            (confirm(&["c"]), true),
            (confirm(&["c"]), false),
            (cancel(&["c"]), true),
            (cancel(&["c"]), false),
            (tombstone("d"), false),
            (look_up(&["c"]), false),
            (expire(), false),
            (reserve_ids(&["e"]), true),
            (expire(), true),
            (pause.clone(), true),
            (pause, false),
            (resume, true),
            (total(9), true),
            (total(9), false),
            (snapshot(), false),
            (log_after(0), false),
            (trim(), false),
        ] {
            announces(ledger, call, expected);
        }
        let state = state(ledger.ask(snapshot()));
        let seen = Watermark { sequence: state.sequence + 1, ..Watermark::of(&state) };
        announces(ledger, BookingOp::Reserve(Vec::new()).on(sale(), seen), true);
    });
}

#[test]
fn a_sale_that_changes_all_the_time_is_announced_once_in_a_while() {
    on_each_ledger(|ledger| {
        ledger.ask(open(1_000));
        let opened = told(ledger, None).1;
        let mut announced = Vec::new();
        for ms in 0..=2 * ANNOUNCE_MS {
            ledger.set_time(START + ms);
            let state = state(ledger.ask(reserve_ids(&[&format!("b-{ms}")])));
            assert!(state.now >= state.announced_at);
            // Within that time whoever reads the sale knows that it may change without a word.
            assert!(state.may_change_unannounced(), "{}", ledger.name());
            let (names, at, _) = told(ledger, Some(opened + announced.len() as u64));
            if !names.is_empty() {
                assert_eq!(
                    (state.announced_at, at),
                    (WallTime(START + ms), opened + announced.len() as u64 + 1)
                );
                announced.push(ms);
            }
        }
        assert_eq!(announced, [ANNOUNCE_MS, 2 * ANNOUNCE_MS], "{}", ledger.name());
        ledger.set_time(START + 3 * ANNOUNCE_MS);
        assert!(!state(ledger.ask(snapshot())).may_change_unannounced());
    });
}

#[test]
fn tells_each_sale_once_and_only_of_what_came_after() {
    on_each_ledger(|ledger| {
        assert_eq!(told(ledger, None), (vec![], 0, false));
        assert_eq!(told(ledger, Some(0)), (vec![], 0, false));
        for name in ["a", "b", "ticket"] {
            ledger.ask(open_named(name));
        }
        assert_eq!(told(ledger, None), (vec![], 3, false), "{}", ledger.name());
        let all = ["a", "b", "ticket"].map(str::to_owned).to_vec();
        assert_eq!(told(ledger, Some(0)), (all, 3, false));
        ledger.set_time(START + ANNOUNCE_MS);
        let pause = SaleChange { status: Some(SaleStatus::Paused), ..SaleChange::default() };
        ledger.ask(SaleOp::Alter(pause).on(SaleName::parse("a").unwrap()));
        assert_eq!(
            told(ledger, Some(1)),
            (vec!["b".to_owned(), "ticket".to_owned(), "a".to_owned()], 4, false)
        );
        assert_eq!(told(ledger, Some(3)), (vec!["a".to_owned()], 4, false));
        assert_eq!(told(ledger, Some(4)), (vec![], 4, false));
        // Whoever has heard more heard it of another ledger, or of what this one has forgotten.
        assert_eq!(told(ledger, Some(5)), (vec![], 4, true));
        ledger.disturb();
        assert_eq!(told(ledger, Some(3)), (vec!["a".to_owned()], 4, false));
    });
}

#[test]
fn many_changes_are_told_page_by_page() {
    for mut ledger in [Box::new(SqliteSubject::new()) as Box<dyn Subject>, Box::new(RedisSubject::new())] {
        let sales = 2 * CHANGES_PER_CALL_MAX + 1;
        let calls: Vec<Call> = (0..sales).map(|number| open_named(&format!("sale-{number}"))).collect();
        // Past the test's own way, which moves the clock of each sale.
        for calls in calls.chunks(256) {
            match ledger.name() {
                "Redis" => drop(ledger.execute(&[calls, &[Call::Ledger(LedgerOp::Sales)]].concat())),
                _ => drop(ledger.execute(calls)),
            }
        }
        let (mut found, mut after, mut pages) = (Vec::new(), 0, 0);
        loop {
            let Answer::Ledger(LedgerResult::Changes { names, at, more, reset: false, .. }) =
                ledger.ask(changes(after))
            else {
                panic!()
            };
            found.extend(names);
            (after, pages) = (at, pages + 1);
            if !more {
                break;
            }
        }
        assert_eq!((found.len(), after as usize, pages), (sales, sales, 3), "{}", ledger.name());
        assert!(found.iter().enumerate().all(|(number, name)| name.as_str() == format!("sale-{number}")));
    }
}

#[test]
fn what_somebody_else_put_among_the_names_hides_no_sale() {
    let mut ledger = RedisSubject::new();
    ledger.ask(open(5));
    let mut connection = ledger.server.connection();
    redis::cmd("SADD").arg("bx:sales").arg("no name").arg("").exec(&mut connection).unwrap();
    redis::cmd("ZADD").arg("bx:changes").arg(7).arg("no name").exec(&mut connection).unwrap();
    let Answer::Ledger(LedgerResult::Sales { names, mut odd }) = ledger.ask(Call::Ledger(LedgerOp::Sales))
    else {
        panic!()
    };
    odd.sort();
    assert_eq!((names, odd), (vec![sale()], vec![String::new(), "no name".to_owned()]));
    assert_eq!(told(&mut ledger, Some(0)), (vec!["ticket".to_owned()], 1, false));
    let findings = audit_of(&mut Audited(&mut ledger), sale());
    let named: Vec<&str> = findings.listed.iter().map(|difference| difference.text.as_str()).collect();
    assert!(named.iter().any(|text| text.contains("\"no name\", which is not a sale's name")), "{named:?}");
}

#[test]
fn a_feed_that_somebody_broke_stops_no_booking() {
    for (key, command) in
        [("bx:feed", "HSET"), ("bx:feed", "SET"), ("bx:changes", "SET"), ("bx:changes", "HSET")]
    {
        let mut ledger = RedisSubject::new();
        let mut connection = ledger.server.connection();
        let mut plant = redis::cmd(command);
        plant.arg(key).arg("x");
        if command == "HSET" {
            plant.arg("y");
        }
        plant.exec(&mut connection).unwrap();
        ledger.ask(open(5));
        ledger.set_time(START + ANNOUNCE_MS);
        assert_eq!(reservations(ledger.ask(reserve_ids(&["a"]))), [GRANTED], "{key} {command}");
        ledger.set_time(START + 2 * ANNOUNCE_MS);
        assert_eq!(state(ledger.ask(alter(SaleChange { total: Some(7), ..SaleChange::default() }))).sold, 1);
        assert!(ledger.execute(&[changes(0)]).remove(0).is_err());
    }
}

#[test]
fn names_the_ledger_and_forgets_announcements_of_long_ago() {
    let mut ledger = RedisSubject::new();
    let mut connection = ledger.server.connection();
    redis::cmd("HSET").arg("bx:ledger").arg("id").arg("l-1").exec(&mut connection).unwrap();
    redis::cmd("ZADD").arg("bx:changes").arg(1).arg("gone").exec(&mut connection).unwrap();
    redis::cmd("SET").arg("bx:feed").arg(1024 * 1000 - 1).exec(&mut connection).unwrap();
    ledger.ask(open(5));
    let Answer::Ledger(LedgerResult::Changes { names, at, reset, ledger: id, .. }) = ledger.ask(changes(0))
    else {
        panic!()
    };
    assert_eq!((names, at, reset, id.as_str()), (vec![sale()], 1024 * 1000, true, "l-1"));
    assert!(at > CHANGES_KEPT);
    let left: u64 = redis::cmd("ZCARD").arg("bx:changes").query(&mut connection).unwrap();
    assert_eq!(left, 1);
    assert!(!told(&mut ledger, Some(at - CHANGES_KEPT)).2);
    assert!(told(&mut ledger, Some(at - CHANGES_KEPT - 1)).2);
}
