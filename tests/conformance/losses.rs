//! Sales that the ledger has lost, or half of: nobody sells them again by accident, and nothing acts on what is not sound.

use boxoffice::audit::{Findings, Repaired, repair};
use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::ledger::Ledger;
use boxoffice::ledger::redis::RedisLedger;
use boxoffice::limits::REMOVED_PER_CALL;
use boxoffice::protocol::*;

use crate::audits::audit_of;
use crate::subjects::{RedisSubject, START, SqliteSubject, Subject, connect, on_each_ledger};
use crate::support::redis_server::RedisServer;
use crate::words::*;

const STOCK: &str = "bx:{ticket}:stock";

fn opened_by(by: Opener, total: u64) -> Call {
    SaleOp::Open { terms: SaleTerms { total, ..SaleTerms::default() }, by }.on(sale())
}

fn remove() -> Call {
    SaleOp::Remove.on(sale())
}

fn set(status: SaleStatus) -> Call {
    alter(SaleChange { status: Some(status), ..SaleChange::default() })
}

fn recall(opened: u64) -> Call {
    Call::Ledger(LedgerOp::Recall { sales: vec![(sale(), opened)] })
}

fn unsound(answer: Result<Answer, CallError>) -> String {
    match answer {
        Err(CallError::Unsound(what)) => what,
        other => panic!("{other:?}"),
    }
}

/// 4 of 10 tickets taken, one of them held for a minute from `START` on.
fn sell(ledger: &mut dyn Subject) {
    ledger.ask(open_on(SaleTerms {
        total: 10,
        hold_ms: Some(60_000),
        per_buyer: Some(4),
        ..SaleTerms::default()
    }));
    ledger.set_time(START);
    ledger.ask(reserve([claim("a", 2, Some("u-1")), claim("b", 1, Some("u-2")), claim("c", 1, None)]));
    ledger.ask(confirm(&["a", "b"]));
}

/// Takes the sale's row or hash away.
fn lose_stock(ledger: &mut Lossy) {
    match ledger {
        Lossy::Redis(redis) => redis_do(&redis.server, &["DEL", STOCK]),
        Lossy::Sqlite(sqlite) => sqlite_do(sqlite, "DELETE FROM sales"),
    }
}

fn redis_do(server: &RedisServer, words: &[&str]) {
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut server.connection()).unwrap();
}

fn sqlite_do(ledger: &SqliteSubject, statement: &str) {
    let plain = rusqlite::Connection::open(ledger.path()).unwrap();
    plain.execute_batch("PRAGMA ignore_check_constraints = 1").unwrap();
    plain.execute(statement, []).unwrap();
}

enum Lossy {
    Redis(RedisSubject),
    Sqlite(SqliteSubject),
}

impl Lossy {
    fn both() -> [Lossy; 2] {
        [Lossy::Redis(RedisSubject::new()), Lossy::Sqlite(SqliteSubject::new())]
    }

    fn subject(&mut self) -> &mut dyn Subject {
        match self {
            Lossy::Redis(redis) => redis,
            Lossy::Sqlite(sqlite) => sqlite,
        }
    }

    fn ask(&mut self, call: Call) -> Answer {
        self.subject().ask(call)
    }
}

/// As an audit reads it.
struct Plain<'a>(&'a mut dyn Subject);

impl Ledger for Plain<'_> {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        self.0.execute(calls)
    }
}

/// What an audit finds, except that the test's clock is far ahead of Redis' own.
fn differences(findings: &Findings) -> Vec<String> {
    let mut lines = findings.lines();
    lines.retain(|line| line.starts_with("difference ") && !line.starts_with("difference  clock"));
    lines
}

#[test]
fn a_start_opens_a_sale_once_and_says_who_opened_it() {
    on_each_ledger(|ledger| {
        let first = state(ledger.ask(opened_by(Opener::Start, 3)));
        assert!(first.is_unattended(), "{}", ledger.name());
        let again = ledger.ask(opened_by(Opener::Operator, 9));
        assert!(matches!(&again, Answer::Sale { state, result: SaleResult::Exists } if !state.by_operator));
        let paused = state(ledger.ask(set(SaleStatus::Paused)));
        assert!(!paused.is_unattended(), "An operator has to fix this");
    });
    let mut ledger = SqliteSubject::new();
    assert!(!state(ledger.ask(opened_by(Opener::Operator, 3))).is_unattended());
}

#[test]
fn half_a_sale_is_opened_by_nobody_but_an_operator_and_sold_from_once_it_is_counted() {
    for mut ledger in Lossy::both() {
        sell(ledger.subject());
        lose_stock(&mut ledger);
        assert_eq!(ledger.ask(snapshot()), Answer::Missing);
        assert_eq!(ledger.ask(opened_by(Opener::Start, 10)), Answer::Lost);
        let reserved = ledger.ask(reserve_ids(&["x"]));
        assert_eq!(reserved, Answer::Missing);
        let audited =
            ledger
                .subject()
                .execute(&[SaleOp::Survey { part: Part::Bookings, cursor: String::new() }.on(sale())]);
        assert!(unsound(audited.into_iter().next().unwrap()).contains("gone"));

        let opened = state(ledger.ask(opened_by(Opener::Operator, 10)));
        assert_eq!((opened.status, opened.sequence, opened.by_operator), (SaleStatus::Paused, 5, true));
        // Until it is counted nothing can be done with it; SQLite counts at once.
        if let Lossy::Redis(redis) = &mut ledger {
            for call in
                [set(SaleStatus::Open), reserve_ids(&["x"]), cancel(&["a"]), expire(), look_up(&["a"])]
            {
                let what = unsound(redis.execute(&[call]).remove(0));
                assert!(what.contains("no number in held"), "{what}");
            }
            // Of what an operator opens, another total is no more than a correction.
            assert!(matches!(
                redis.ask(opened_by(Opener::Operator, 8)),
                Answer::Sale { result: SaleResult::Created, .. }
            ));
            assert_eq!(
                unsound(redis.execute(&[opened_by(Opener::Start, 8)]).remove(0)),
                format!("{STOCK} has no number in held")
            );
            assert!(matches!(
                redis.ask(opened_by(Opener::Operator, 10)),
                Answer::Sale { result: SaleResult::Created, .. }
            ));
        }
        let mut plain = Plain(ledger.subject());
        let findings = audit_of(&mut plain, sale());
        assert_eq!(findings.unexplained, 0, "{:?}", findings.lines());
        if findings.differences > 0 {
            assert_eq!(repair(&mut plain, &findings).unwrap(), Repaired::Done);
        }
        assert_eq!(differences(&audit_of(&mut plain, sale())), Vec::<String>::new());
        let counted = state(ledger.ask(set(SaleStatus::Open)));
        assert_eq!((counted.held, counted.sold, counted.terms.total), (1, 3, 10));
        let granted = reservations(ledger.ask(reserve((0..8).map(|n| claim(&format!("n-{n}"), 1, None)))));
        assert_eq!(granted.iter().filter(|one| **one == GRANTED).count(), 6);
        assert_eq!(granted[6..], [Reservation::SoldOut, Reservation::SoldOut]);
        assert!(matches!(
            reservations(ledger.ask(reserve([claim("a", 2, Some("u-1"))])))[..],
            [Reservation::Known(_)]
        ));
    }
}

#[test]
fn a_total_that_is_too_low_for_what_is_left_is_told_and_may_be_corrected() {
    let mut ledger = Lossy::Sqlite(SqliteSubject::new());
    sell(ledger.subject());
    lose_stock(&mut ledger);
    let refused = ledger.ask(opened_by(Opener::Operator, 3));
    assert!(
        matches!(refused, Answer::Sale { result: SaleResult::Refused(ChangeFault::TotalTooLow), .. }),
        "{refused:?}"
    );
    assert!(matches!(
        ledger.ask(opened_by(Opener::Operator, 4)),
        Answer::Sale { result: SaleResult::Created, .. }
    ));

    let mut ledger = Lossy::Redis(RedisSubject::new());
    sell(ledger.subject());
    lose_stock(&mut ledger);
    ledger.ask(opened_by(Opener::Operator, 3));
    let findings = audit_of(&mut Plain(ledger.subject()), sale());
    assert!(findings.lines().join("\n").contains("4 tickets held and sold, of 3"), "{:?}", findings.lines());
    assert!(findings.unexplained > 0);
}

/// One field of the stock, or one key, as nothing of ours leaves it; what is said of it, and whether counting mends it.
const ODD: &[(&[&str], &str, bool)] = &[
    (&["HSET", STOCK, "sold", "-1"], "bx:{ticket}:stock has no number in sold", true),
    (&["HSET", STOCK, "held", "-3"], "bx:{ticket}:stock has no number in held", true),
    (&["HSET", STOCK, "sold", "many"], "bx:{ticket}:stock has no number in sold", true),
    (&["HSET", STOCK, "sold", "1.5"], "bx:{ticket}:stock has no number in sold", true),
    (&["HSET", STOCK, "held", "nan"], "bx:{ticket}:stock has no number in held", true),
    (&["HSET", STOCK, "sold", "9999999999999999"], "bx:{ticket}:stock has no number in sold", true),
    (&["HDEL", STOCK, "held"], "bx:{ticket}:stock has no number in held", true),
    (&["HSET", STOCK, "sold", "10"], "bx:{ticket}:stock has more tickets held and sold than there are", true),
    (
        &["HSET", STOCK, "total", "2"],
        "bx:{ticket}:stock has more tickets held and sold than there are",
        false,
    ),
    (&["HDEL", STOCK, "total"], "bx:{ticket}:stock has no number in total", false),
    (&["HSET", STOCK, "total", "inf"], "bx:{ticket}:stock has no number in total", false),
    (&["HSET", STOCK, "status", "ajar"], "bx:{ticket}:stock has no known status", false),
    // Of a later layout.
    (&["HSET", STOCK, "status", "2:open"], "bx:{ticket}:stock has no known status", false),
    (&["HSET", STOCK, "hold", "soon"], "bx:{ticket}:stock has no number in hold", false),
    (&["HSET", STOCK, "per_buyer", "-1"], "bx:{ticket}:stock has no number in per_buyer", false),
    (&["HSET", STOCK, "ends", "never"], "bx:{ticket}:stock has no number in ends", false),
    (&["HSET", STOCK, "due", "x"], "bx:{ticket}:stock has no number in due", false),
    (&["DEL", "bx:{ticket}:bookings"], "bx:{ticket}:bookings is gone", false),
    (&["DEL", "bx:{ticket}:holds"], "bx:{ticket}:holds is gone", true),
    (&["DEL", "bx:{ticket}:due"], "bx:{ticket}:due is gone", true),
];

#[test]
fn no_call_acts_on_a_sale_that_is_not_sound_and_counting_mends_what_follows_from_bookings() {
    for (words, said, mends) in ODD {
        let mut ledger = RedisSubject::new();
        sell(&mut ledger);
        redis_do(&ledger.server, words);
        let all = |server: &RedisServer| {
            let mut connection = server.connection();
            let mut dump = |part| {
                let key = format!("bx:{{ticket}}:{part}");
                redis::cmd("DUMP").arg(key).query::<Option<Vec<u8>>>(&mut connection).unwrap()
            };
            ["stock", "bookings", "holds", "buyers", "log", "due"].map(&mut dump)
        };
        let before = all(&ledger.server);
        for call in [
            reserve_ids(&["x"]),
            confirm(&["c"]),
            cancel(&["a"]),
            expire(),
            look_up(&["a"]),
            look_up(&[]),
            set(SaleStatus::Closed),
            SaleOp::Page { cursor: String::new() }.on(sale()),
            log_after(0),
            opened_by(Opener::Start, 10),
            opened_by(Opener::Operator, 10),
            BookingOp::Restore(vec![Booking {
                id: id("z"),
                status: BookingStatus::Confirmed,
                quantity: Quantity::ONE,
                released: 0,
                buyer: None,
                reassigned: 0,
            }])
            .on(sale(), Watermark::default()),
        ] {
            let answer = ledger.execute(std::slice::from_ref(&call)).remove(0);
            assert_eq!(unsound(answer), *said, "{words:?}: {call:?}");
        }
        assert_eq!(all(&ledger.server), before, "{words:?}");
        // The hosts' reading, which no script makes, says the same of the counts.
        let read = ledger.execute(&[snapshot()]).remove(0);
        if words[1] == STOCK {
            assert_eq!(unsound(read), *said, "{words:?}");
        }
        let mended = audit_of_or_error(&mut ledger).is_some_and(|unexplained| unexplained == 0);
        assert_eq!(mended, *mends, "{words:?}");
        if *mends {
            assert_eq!(state(ledger.ask(look_up_nothing())).held, 1, "{words:?}");
        }
    }
}

fn look_up_nothing() -> Call {
    SaleOp::LookUp(Vec::new()).on(sale())
}

/// How much is unexplained, after a repair where nothing is; `None` where there is no audit.
fn audit_of_or_error(ledger: &mut RedisSubject) -> Option<u64> {
    use boxoffice::audit::Audit;
    let audit = Audit { sale: sale(), access_logs: &[], metrics: &[] };
    let findings = audit.run(&mut Plain(ledger), &crate::audits::Nothing).ok()?;
    if findings.unexplained == 0 {
        assert_eq!(repair(&mut Plain(ledger), &findings).unwrap(), Repaired::Done);
        assert_eq!(differences(&audit_of(&mut Plain(ledger), sale())), Vec::<String>::new());
    }
    Some(findings.unexplained)
}

#[test]
fn a_key_of_another_type_is_named_when_the_sale_is_asked_for_alone() {
    for part in ["stock", "bookings", "holds", "buyers", "log", "lost", "due"] {
        let mut ledger = RedisSubject::new();
        sell(&mut ledger);
        let key = format!("bx:{{ticket}}:{part}");
        redis_do(&ledger.server, &["DEL", &key]);
        redis_do(&ledger.server, &["SET", &key, "x"]);
        let what = unsound(ledger.execute(&[look_up_nothing()]).remove(0));
        assert!(what.starts_with(&format!("{key} is not a ")), "{what}");
        let reserved = ledger.execute(&[reserve([claim("x", 1, Some("u-1"))])]).remove(0);
        if part != "lost" {
            unsound(reserved);
        }
    }
}

#[test]
fn counts_that_are_less_than_what_ends_stop_the_sale() {
    let mut ledger = RedisSubject::new();
    sell(&mut ledger);
    redis_do(&ledger.server, &["HSET", STOCK, "held", "0"]);
    ledger.set_time(START + 60_000);
    let what = unsound(ledger.execute(&[reserve_ids(&["x"])]).remove(0));
    assert_eq!(what, "bx:{ticket}:stock has fewer tickets held than the holds that are over");
    assert_eq!(audit_of_or_error(&mut ledger), Some(0));
    let granted = reservations(ledger.ask(reserve((0..8).map(|n| claim(&format!("n-{n}"), 1, None)))));
    assert_eq!(granted.iter().filter(|one| !matches!(one, Reservation::SoldOut)).count(), 7);
}

#[test]
fn a_file_changed_by_hand_is_told_and_not_acted_on() {
    for (statement, said) in [
        ("UPDATE sales SET sold = -1", "never writes"),
        ("UPDATE sales SET held = 99", "has more tickets held and sold than there are"),
        ("UPDATE sales SET total = 1", "has more tickets held and sold than there are"),
        ("UPDATE sales SET status = 'ajar'", "never writes"),
        ("DELETE FROM bookings", "counts 4 tickets held and sold, but its bookings are gone"),
    ] {
        let mut ledger = SqliteSubject::new();
        sell(&mut ledger);
        sqlite_do(&ledger, statement);
        for call in [
            snapshot(),
            reserve_ids(&["x"]),
            confirm(&["c"]),
            cancel(&["a"]),
            expire(),
            look_up(&["a"]),
            opened_by(Opener::Operator, 9),
        ] {
            let answers = ledger.execute(&[call.clone(), Call::Ledger(LedgerOp::Sales)]);
            assert!(
                matches!(answers[1], Ok(Answer::Ledger(LedgerResult::Sales { .. }))),
                "the others of its batch are answered"
            );
            let what = unsound(answers.into_iter().next().unwrap());
            assert!(what.contains(said), "{statement}: {call:?}: {what}");
        }
    }
}

#[test]
fn only_a_closed_sale_of_which_nothing_is_held_is_removed_and_nothing_is_left_of_it() {
    on_each_ledger(|ledger| {
        let name = ledger.name();
        assert_eq!(ledger.ask(remove()), Answer::Missing);
        sell(ledger);
        let fault = |answer: Answer| match answer {
            Answer::Sale { result: SaleResult::Refused(fault), .. } => fault,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(fault(ledger.ask(remove())), ChangeFault::NotClosed);
        ledger.ask(set(SaleStatus::Closed));
        assert_eq!(fault(ledger.ask(remove())), ChangeFault::StillHeld);
        // A hold that is over holds nothing, whether anybody has looked or not.
        ledger.set_time(START + 60_000);
        let Answer::Ledger(LedgerResult::Changes { at, .. }) =
            ledger.ask(Call::Ledger(LedgerOp::Changes { after: None }))
        else {
            panic!()
        };
        assert_eq!(ledger.ask(remove()), Answer::Removed { done: true });
        let Answer::Ledger(LedgerResult::Changes { names, .. }) =
            ledger.ask(Call::Ledger(LedgerOp::Changes { after: Some(at) }))
        else {
            panic!()
        };
        assert_eq!(names, [sale()], "{name}: hosts are told");
        assert_eq!(ledger.ask(snapshot()), Answer::Missing);
        assert_eq!(
            ledger.ask(Call::Ledger(LedgerOp::Sales)),
            Answer::Ledger(LedgerResult::Sales { names: vec![], odd: vec![] })
        );
        assert_eq!(ledger.ask(recall(START)), Answer::Ledger(LedgerResult::Recalled { removed: vec![true] }));
        // Another one of its name has nothing of it.
        ledger.set_time(START + 120_000);
        let opened = state(ledger.ask(opened_by(Opener::Start, 3)));
        assert_eq!((opened.sold, opened.sequence, opened.status), (0, 0, SaleStatus::Open));
        assert_eq!(bookings(ledger.ask(look_up(&["a"]))), [None]);
        assert_eq!(reservations(ledger.ask(reserve([claim("a", 3, None)]))), [GRANTED]);
    });
}

#[test]
fn a_removed_sale_leaves_no_key_but_the_news_of_it() {
    let mut ledger = RedisSubject::new();
    sell(&mut ledger);
    ledger.ask(set(SaleStatus::Closed));
    ledger.set_time(START + 60_000);
    ledger.ask(remove());
    let mut connection = ledger.server.connection();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    keys.sort();
    assert_eq!(keys, ["bx:changes", "bx:feed", "bx:removed"]);
    assert_eq!(ledger.ask(remove()), Answer::Removed { done: true }, "asked again, it is done");
    // What is lost, or not sound, is removed as it is.
    for words in [&["DEL", STOCK][..], &["HSET", STOCK, "sold", "-1"]] {
        sell(&mut ledger);
        redis_do(&ledger.server, words);
        assert_eq!(ledger.ask(remove()), Answer::Removed { done: true }, "{words:?}");
        let left: Vec<String> = redis::cmd("KEYS").arg("bx:{*").query(&mut connection).unwrap();
        assert_eq!(left, Vec::<String>::new());
    }
}

#[test]
fn a_file_is_cleared_of_a_sale_in_bounded_steps() {
    let mut ledger = SqliteSubject::new();
    let rows = REMOVED_PER_CALL + 1_000;
    ledger.ask(open(rows as u64));
    for batch in (0..rows).collect::<Vec<_>>().chunks(1_000) {
        ledger.ask(reserve(batch.iter().map(|n| claim(&format!("b-{n}"), 1, None))));
    }
    ledger.ask(set(SaleStatus::Closed));
    let mut steps = 0;
    while ledger.ask(remove()) == (Answer::Removed { done: false }) {
        steps += 1;
        // Neither sold from nor opened anew in between, and it goes on after a restart.
        assert_eq!(ledger.ask(reserve_ids(&["x"])), Answer::Missing);
        assert_eq!(ledger.ask(opened_by(Opener::Start, 1)), Answer::Lost);
        ledger.disturb();
    }
    assert_eq!(steps, 2, "bookings and log have each more rows than one step takes");
    assert_eq!(ledger.ask(remove()), Answer::Missing);
}

#[test]
fn who_knows_a_sale_names_it_and_no_start_opens_it_then() {
    let mut ledger = RedisSubject::new();
    let opened = state(ledger.ask(opened_by(Opener::Start, 5))).opened;
    ledger.empty();
    assert_eq!(ledger.ask(recall(opened)), Answer::Ledger(LedgerResult::Recalled { removed: vec![false] }));
    assert_eq!(
        ledger.ask(Call::Ledger(LedgerOp::Sales)),
        Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: vec![] })
    );
    assert_eq!(ledger.ask(opened_by(Opener::Start, 5)), Answer::Lost);
    assert_eq!(ledger.ask(snapshot()), Answer::Missing);
    assert!(matches!(
        ledger.ask(opened_by(Opener::Operator, 5)),
        Answer::Sale { result: SaleResult::Created, .. }
    ));
    // Of many at once, each is answered for itself.
    ledger.ask(set(SaleStatus::Closed));
    ledger.ask(remove());
    let other = SaleName::parse("other").unwrap();
    let both =
        Call::Ledger(LedgerOp::Recall { sales: vec![(sale(), opened), (other, 7), (sale(), u64::MAX)] });
    assert_eq!(
        ledger.ask(both),
        Answer::Ledger(LedgerResult::Recalled { removed: vec![true, false, false] })
    );
}

#[test]
fn a_ledger_keeps_its_name_until_it_has_lost_everything() {
    let mut ledger = RedisSubject::new();
    let who = |ledger: &mut RedisSubject, id: u128| match ledger
        .ask(Call::Ledger(LedgerOp::Identify { id: LedgerId(id) }))
    {
        Answer::Ledger(LedgerResult::Identified { id, age_ms }) => (id, age_ms),
        other => panic!("{other:?}"),
    };
    let (name, age) = who(&mut ledger, 7);
    assert_eq!((name.as_str(), age), ("00000000000000000000000000000007", 0));
    assert_eq!(who(&mut ledger, 8).0, name);
    let Answer::Ledger(LedgerResult::Changes { ledger: told, .. }) =
        ledger.ask(Call::Ledger(LedgerOp::Changes { after: None }))
    else {
        panic!()
    };
    assert_eq!(told, name);
    ledger.empty();
    assert_eq!(who(&mut ledger, 9).0, "00000000000000000000000000000009");
}

/// A user without the rights of `sale remove` is told before anything of it is done.
#[test]
fn removing_needs_rights_of_its_own() {
    let mut ledger = RedisSubject::new();
    sell(&mut ledger);
    ledger.ask(set(SaleStatus::Closed));
    ledger.set_time(START + 60_000);
    redis_do(&ledger.server, &["ACL", "SETUSER", "default", "-unlink"]);
    let mut poor: RedisLedger = connect(&ledger.server);
    let Err(CallError::Refused(said)) = poor.execute(&[remove()]).remove(0) else { panic!() };
    assert!(said.contains("+unlink"), "{said}");
    assert_eq!(state(ledger.ask(snapshot())).status, SaleStatus::Closed);
    assert_eq!(
        ledger.ask(Call::Ledger(LedgerOp::Sales)),
        Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: vec![] })
    );
    assert!(matches!(state(ledger.ask(snapshot())).now, WallTime(now) if now > START));
}
