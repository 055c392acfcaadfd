use std::collections::VecDeque;
use std::io::Write;

use clap::Parser;

use serde_json::Value;

use super::*;
use crate::booking::SaleState;
use crate::cli::screen::Style;
use crate::cli::{Cli, Command, LedgerOffice};
use crate::ledger::Ledger;
use crate::ledger::for_tests::{TestLedger, claim, name};
use crate::limits;
use crate::protocol::{Answer, Call, CallError, LedgerResult, SaleOp, SaleResult};

/// Gives these answers, one to each call, whatever it is asked.
struct Scripted(VecDeque<Result<Answer, CallError>>);

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Scripted {
        Scripted(answers.into_iter().map(Ok).collect())
    }
}

impl Ledger for Scripted {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        calls
            .iter()
            .map(|call| self.0.pop_front().unwrap_or_else(|| panic!("no answer to {call:?}")))
            .collect()
    }
}

/// Says yes or not, and waits for the log so many times.
#[derive(Default)]
struct Says {
    yes: bool,
    waits: u32,
}

impl Console for Says {
    fn confirms(&mut self, question: &str) -> bool {
        assert!(question.contains("for good"), "{question}");
        self.yes
    }

    fn waits(&mut self) -> bool {
        self.waits = self.waits.saturating_sub(1);
        self.waits > 0
    }
}

fn flags(line: &str) -> SaleFlags {
    let cli = Cli::try_parse_from(format!("boxoffice sale {line}").split_whitespace()).expect(line);
    let Command::Sale(flags) = cli.command else { panic!("{line}") };
    flags
}

/// What the command line writes, or its exit status and error.
fn run(ledger: &mut dyn Ledger, line: &str) -> Result<String, (u8, String)> {
    run_as(ledger, line, false)
}

fn run_as(ledger: &mut dyn Ledger, line: &str, says: bool) -> Result<String, (u8, String)> {
    let flags = flags(line);
    let mut out = Vec::new();
    let mut screen = Screen::new(&mut out, Style::default());
    match flags.run(&mut LedgerOffice::new(ledger), &mut screen, &mut Says { yes: says, waits: 0 }) {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(error) => Err((error.exit_status(), error.to_string())),
    }
}

#[test]
fn opens_shows_and_lists() {
    let mut ledger = TestLedger::new();
    let shown = run(
        &mut ledger,
        "open ticket --stock 100 --hold 1h30m --hold-max 2h --per-buyer 4 --buyer-required true --starts 2026-02-01T10:00:00Z --ends none",
    )
    .unwrap();
    assert_eq!(
        shown,
        "sale       ticket\nstatus     scheduled\ntotal      100\navailable  100\nheld       0\n\
         sold       0\nhold       1h30m\nhold max   2h\nper buyer  4\nbuyer      required\nstarts     2026-02-01T10:00:00.000Z\nends       none\n\
         as of      1970-01-01T00:00:00.001Z\n"
    );
    run(&mut ledger, "open another --stock 5").unwrap();
    let list = run(&mut ledger, "list").unwrap();
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SALE", "STATUS", "TOTAL", "AVAILABLE", "HELD", "SOLD"]);
    assert_eq!(lines[1], ["another", "open", "5", "5", "0", "0"]);
    assert_eq!(lines[2], ["ticket", "scheduled", "100", "100", "0", "0"]);
    let json: Value = serde_json::from_str(&run(&mut ledger, "show ticket --json").unwrap()).unwrap();
    assert_eq!(json["hold_max_seconds"], 7200);
    assert_eq!((&json["status"], &json["buyer_required"]), (&json!("scheduled"), &json!(true)));
    assert_eq!((&json["hold_seconds"], &json["per_buyer"]), (&json!(5400), &json!(4)));
    assert_eq!((&json["starts_at"], &json["ends_at"]), (&json!("2026-02-01T10:00:00.000Z"), &Value::Null));
    assert_eq!(run(&mut ledger, "list --json").unwrap().lines().count(), 2);
}

/// Redis names them in no order, and SQLite in that of their names.
#[test]
fn lists_by_name_whatever_the_order_of_the_ledger() {
    let names = ["c", "a", "b"].map(name).to_vec();
    let sales = Answer::Ledger(LedgerResult::Sales { names, odd: Vec::new() });
    let found = |total| {
        let terms = SaleTerms { total, ..SaleTerms::default() };
        Answer::Sale {
            state: SaleState { terms, ..SaleState::default() },
            result: SaleResult::Found(Vec::new()),
        }
    };
    let list = run(&mut Scripted::new([sales, found(1), found(2), found(3)]), "list").unwrap();
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(lines[1..], [["a", "open", "1"], ["b", "open", "2"], ["c", "open", "3"]]);
}

#[test]
fn changes_only_what_is_named() {
    let mut ledger = TestLedger::new();
    run(&mut ledger, "open ticket --stock 100 --hold 5m --per-buyer 4").unwrap();
    run(&mut ledger, "set ticket --stock 120 --hold none").unwrap();
    let terms = ledger.state("ticket").terms;
    assert_eq!((terms.total, terms.hold_ms, terms.per_buyer), (120, None, Some(4)));
    for (command, status) in
        [("pause", SaleStatus::Paused), ("resume", SaleStatus::Open), ("close", SaleStatus::Closed)]
    {
        run(&mut ledger, &format!("{command} ticket")).unwrap();
        assert_eq!(ledger.state("ticket").status, status);
    }
}

#[test]
fn says_why_not() {
    let mut ledger = TestLedger::new();
    run(&mut ledger, "open ticket --stock 100").unwrap();
    ledger.book("ticket", &[claim("b", 7, None)]);
    let mut fails = |line: &str, status: u8, says: &str| {
        let error = run(&mut ledger, line).expect_err(line);
        assert!(error.0 == status && error.1.contains(says), "{line}: {error:?}");
    };
    fails("show tickets", 1, "no sale \"tickets\"; did you mean \"ticket\"? `boxoffice sale list`");
    fails("show concert", 1, "no sale \"concert\"; `boxoffice sale list`");
    fails("log tickets", 1, "no sale \"tickets\"");
    fails("pause tickets", 1, "no sale \"tickets\"");
    fails("open ticket --stock 5", 1, "sale \"ticket\" already exists");
    fails("set ticket --stock 6", 1, "its total cannot be below 0 held + 7 sold tickets");
    fails(
        "set ticket --ends 1970-01-02T00:00:00Z --starts 1970-01-02T00:00:00Z",
        1,
        "it would end before it starts",
    );
    fails(
        "open other --stock 5 --starts 2026-02-01T00:00:00Z --ends 2026-01-01T00:00:00Z",
        2,
        "ends: must be later than starts",
    );
    let mut down = Scripted([Err(CallError::Unknown("connection refused".to_owned()))].into());
    assert_eq!(run(&mut down, "list").unwrap_err().0, 1);
}

#[test]
fn prints_the_log_and_follows_it() {
    let mut ledger = TestLedger::new();
    run(&mut ledger, "open ticket --stock 2000 --hold 1s").unwrap();
    let bookings = 2 * limits::LOG_ENTRIES_PER_CALL_MAX + 1;
    let claims = (0..bookings).map(|number| claim(&format!("b-{number}"), 2, Some("u-81")));
    ledger.book("ticket", &claims.collect::<Vec<_>>());
    ledger.confirm("ticket", "b-0");
    let log = run(&mut ledger, "log ticket").unwrap();
    assert_eq!(log.lines().count(), bookings + 1);
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let expected = json!({
        "sequence": 1, "at": "1970-01-01T00:00:00.001Z", "booking": "b-0", "status": "held", "quantity": 2,
        "buyer": "u-81", "expires_at": "1970-01-01T00:00:01.001Z"
    });
    assert_eq!(first, expected);
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&last["sequence"], &last["status"]), (&json!(bookings + 1), &json!("confirmed")));
    let mut operator = Says { yes: false, waits: 3 };
    let mut out = Vec::new();
    let mut screen = Screen::new(&mut out, Style::default());
    flags("log ticket --follow")
        .run(&mut LedgerOffice::new(&mut ledger), &mut screen, &mut operator)
        .unwrap();
    assert_eq!((operator.waits, String::from_utf8(out).unwrap()), (0, log));
}

#[test]
fn a_reader_that_left_is_no_failure() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut ledger = TestLedger::new();
    let mut gone = Gone;
    let mut screen = Screen::new(&mut gone, Style::default());
    let list = flags("list").run(&mut LedgerOffice::new(&mut ledger), &mut screen, &mut Says::default());
    let error = list.unwrap_err();
    assert_eq!(error.exit_status(), 0);
}

#[test]
fn spans_print_as_they_are_read() {
    for ms in [1, 500, 1_000, 61_001, 5_400_000, 90_000_000] {
        assert_eq!(parse_hold_ms(&span(ms as f64 / 1000.0)), Ok(ms));
    }
}

#[test]
fn trims_in_steps_and_says_what_is_left() {
    let mut ledger = TestLedger::with("ticket", SaleTerms { total: 20, ..SaleTerms::default() });
    ledger.book("ticket", &(0..10).map(|n| claim(&format!("b-{n}"), 1, None)).collect::<Vec<_>>());
    let said = run(&mut ledger, "trim ticket").unwrap();
    assert!(said.starts_with("removed nothing") && said.contains("10 entries are left"), "{said}");
    assert_eq!(run(&mut ledger, "trim other").unwrap_err().0, 1);
    // A SQLite file has no consumer groups; Redis answers so where one has acknowledged 9 and the other 7 of 10 entries.
    let state = ledger.state("ticket");
    let trimmed = |(removed, left)| Answer::Sale {
        state: state.clone(),
        result: SaleResult::Trimmed { groups: 2, removed, left },
    };
    let mut consumed = Scripted::new([(3, 7), (3, 4), (1, 3), (0, 3)].map(trimmed));
    let said = run(&mut consumed, "trim ticket").unwrap();
    assert_eq!(
        said,
        "removed 7 entries that each of 2 consumer groups had acknowledged; 3 entries are left\n"
    );
    assert!(consumed.0.is_empty(), "it asks until nothing more is removed");
}

#[test]
fn remove_asks_and_takes_only_a_closed_sale_of_which_nothing_is_held() {
    let mut ledger =
        TestLedger::with("ticket", SaleTerms { total: 5, hold_ms: Some(60_000), ..SaleTerms::default() });
    ledger.book("ticket", &[claim("a", 2, None)]);
    let (status, said) = run(&mut ledger, "remove ticket").unwrap_err();
    assert!(status == 1 && said.contains("--yes"), "{said}");
    let (_, said) = run(&mut ledger, "remove ticket --yes").unwrap_err();
    assert!(said.contains("boxoffice sale close ticket"), "{said}");
    run(&mut ledger, "close ticket").unwrap();
    let (_, said) = run_as(&mut ledger, "remove ticket", true).unwrap_err();
    assert!(said.contains("2 tickets of \"ticket\" are held"), "{said}");
    ledger.cancel("ticket", "a");
    assert_eq!(run_as(&mut ledger, "remove ticket", true).unwrap(), "removed ticket\n");
    let (_, said) = run(&mut ledger, "remove ticket --yes").unwrap_err();
    assert!(said.contains("no sale \"ticket\""), "{said}");
}

/// So often another operator adds a ticket behind the back of whoever has read a sale.
fn others_add_a_ticket(mut left: u32) -> impl FnMut(&mut TestLedger, &Call) {
    move |ledger, call| {
        if left > 0 && matches!(call, Call::Sale { op: SaleOp::LookUp(_), .. }) {
            left -= 1;
            let total = Some(ledger.state("ticket").terms.total + 1);
            let answer =
                ledger.ask(SaleOp::Alter(SaleChange { total, ..SaleChange::default() }).on(name("ticket")));
            assert!(matches!(answer, Answer::Sale { result: SaleResult::Done, .. }), "{answer:?}");
        }
    }
}

/// Of two operators who change the total both are heard.
#[test]
fn the_total_changes_by_so_many() {
    let mut ledger = TestLedger::new();
    run(&mut ledger, "open ticket --stock 100 --hold 5m").unwrap();
    run(&mut ledger, "set ticket --stock +50").unwrap();
    run(&mut ledger, "set ticket --stock -20 --per-buyer 2").unwrap();
    let terms = ledger.state("ticket").terms;
    assert_eq!((terms.total, terms.hold_ms, terms.per_buyer), (130, Some(300_000), Some(2)));
    run(&mut ledger, "set ticket --stock=-30").unwrap();
    ledger.meanwhile(others_add_a_ticket(3));
    run(&mut ledger, "set ticket --stock +5").unwrap();
    assert_eq!(ledger.state("ticket").terms.total, 108, "100, three of the others, five of ours");
    ledger.meanwhile(others_add_a_ticket(u32::MAX));
    assert_eq!(run(&mut ledger, "set ticket --stock +5").unwrap_err().0, 1);
    ledger.meanwhile(|_, _| {});
    let (status, said) = run(&mut ledger, "set ticket --stock -1000").unwrap_err();
    assert!(status == 1 && said.contains("held"), "{said}");
    assert_eq!(run(&mut ledger, "set none --stock +1").unwrap_err().0, 1);
    for wrong in ["+", "-", "++5", "+ 5", "5+", "+1000000000001"] {
        let line = format!("boxoffice|sale|set|ticket|--stock|{wrong}");
        let error = Cli::try_parse_from(line.split('|')).expect_err(wrong);
        assert_eq!(error.exit_code(), 2, "{wrong}");
    }
}
