use clap::Parser;

use super::*;
use crate::cli::fake_ledger::FakeLedger;
use crate::cli::{Cli, Command};

/// What the command line writes, or its exit status and error.
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

fn run(ledger: &mut FakeLedger, line: &str) -> Result<String, (u8, String)> {
    run_as(ledger, line, false)
}

fn run_as(ledger: &mut FakeLedger, line: &str, says: bool) -> Result<String, (u8, String)> {
    let cli = Cli::try_parse_from(format!("boxoffice sale {line}").split_whitespace()).expect(line);
    let Command::Sale(flags) = cli.command else { panic!("{line}") };
    let mut out = Vec::new();
    match flags.command.run(ledger, &mut out, &mut Says { yes: says, waits: 0 }) {
        Ok(()) => Ok(String::from_utf8(out).unwrap()),
        Err(error) => Err((error.exit_status(), error.to_string())),
    }
}

#[test]
fn opens_shows_and_lists() {
    let mut ledger = FakeLedger::default();
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

#[test]
fn changes_only_what_is_named() {
    let mut ledger = FakeLedger::default();
    run(&mut ledger, "open ticket --stock 100 --hold 5m --per-buyer 4").unwrap();
    run(&mut ledger, "set ticket --stock 120 --hold none").unwrap();
    let terms = &ledger.sale("ticket").state.terms;
    assert_eq!((terms.total, terms.hold_ms, terms.per_buyer), (120, None, Some(4)));
    for (command, status) in
        [("pause", SaleStatus::Paused), ("resume", SaleStatus::Open), ("close", SaleStatus::Closed)]
    {
        run(&mut ledger, &format!("{command} ticket")).unwrap();
        assert_eq!(ledger.sale("ticket").state.status, status);
    }
}

#[test]
fn says_why_not() {
    let mut ledger = FakeLedger::default();
    run(&mut ledger, "open ticket --stock 100").unwrap();
    ledger.sale("ticket").book("b", 7, None);
    let mut fails = |line: &str, status: u8, says: &str| {
        let error = run(&mut ledger, line).expect_err(line);
        assert!(error.0 == status && error.1.contains(says), "{line}: {error:?}");
    };
    fails("show tickets", 1, "no sale \"tickets\"");
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
    ledger.down = true;
    assert_eq!(run(&mut ledger, "list").unwrap_err().0, 1);
}

#[test]
fn prints_the_log_and_follows_it() {
    let mut ledger = FakeLedger::default();
    run(&mut ledger, "open ticket --stock 100 --hold 1s").unwrap();
    for number in 0..7 {
        ledger.sale("ticket").book(&format!("b-{number}"), 2, Some("u-81"));
    }
    ledger.sale("ticket").set("b-0", BookingStatus::Confirmed);
    let log = run(&mut ledger, "log ticket").unwrap();
    assert_eq!(log.lines().count(), 8);
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let expected = json!({
        "sequence": 1, "at": "1970-01-01T00:00:00.001Z", "booking": "b-0", "status": "held", "quantity": 2,
        "buyer": "u-81", "expires_at": "1970-01-01T00:00:01.001Z"
    });
    assert_eq!(first, expected);
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&last["sequence"], &last["status"]), (&json!(8), &json!("confirmed")));
    let mut operator = Says { yes: false, waits: 3 };
    let mut out = Vec::new();
    let follow = SaleCommand::Log { name: SaleName::parse("ticket").unwrap(), follow: true };
    follow.run(&mut ledger, &mut out, &mut operator).unwrap();
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
    let list = SaleCommand::List { json: false };
    let error = list.run(&mut FakeLedger::default(), &mut Gone, &mut Says::default()).unwrap_err();
    assert_eq!(error.exit_status(), 0);
}

#[test]
fn spans_print_as_they_are_read() {
    for ms in [1, 500, 1_000, 61_001, 5_400_000, 90_000_000] {
        assert_eq!(parse_hold_ms(&span(ms)), Ok(ms));
    }
}

#[test]
fn trims_in_steps_and_says_what_is_left() {
    let mut ledger = FakeLedger::with("ticket", SaleTerms { total: 20, ..SaleTerms::default() });
    for n in 0..10 {
        ledger.sale("ticket").book(&format!("b-{n}"), 1, None);
    }
    let said = run(&mut ledger, "trim ticket").unwrap();
    assert!(said.starts_with("removed nothing") && said.contains("10 entries are left"), "{said}");
    ledger.sale("ticket").groups = vec![9, 7];
    let said = run(&mut ledger, "trim ticket").unwrap();
    assert_eq!(
        said,
        "removed 7 entries that each of 2 consumer groups had acknowledged; 3 entries are left\n"
    );
    assert_eq!(run(&mut ledger, "trim other").unwrap_err().0, 1);
}

#[test]
fn remove_asks_and_takes_only_a_closed_sale_of_which_nothing_is_held() {
    let mut ledger =
        FakeLedger::with("ticket", SaleTerms { total: 5, hold_ms: Some(60_000), ..SaleTerms::default() });
    ledger.sale("ticket").book("a", 2, None);
    let (status, said) = run(&mut ledger, "remove ticket").unwrap_err();
    assert!(status == 1 && said.contains("--yes"), "{said}");
    let (_, said) = run(&mut ledger, "remove ticket --yes").unwrap_err();
    assert!(said.contains("boxoffice sale close ticket"), "{said}");
    run(&mut ledger, "close ticket").unwrap();
    let (_, said) = run_as(&mut ledger, "remove ticket", true).unwrap_err();
    assert!(said.contains("2 tickets of \"ticket\" are held"), "{said}");
    ledger.sale("ticket").set("a", BookingStatus::Cancelled);
    assert_eq!(run_as(&mut ledger, "remove ticket", true).unwrap(), "removed ticket\n");
    let (_, said) = run(&mut ledger, "remove ticket --yes").unwrap_err();
    assert!(said.contains("no sale \"ticket\""), "{said}");
}

/// Of two operators who change the total both are heard.
#[test]
fn the_total_changes_by_so_many() {
    let mut ledger = FakeLedger::default();
    run(&mut ledger, "open ticket --stock 100 --hold 5m").unwrap();
    run(&mut ledger, "set ticket --stock +50").unwrap();
    run(&mut ledger, "set ticket --stock -20 --per-buyer 2").unwrap();
    let terms = &ledger.sale("ticket").state.terms;
    assert_eq!((terms.total, terms.hold_ms, terms.per_buyer), (130, Some(300_000), Some(2)));
    run(&mut ledger, "set ticket --stock=-30").unwrap();
    ledger.changes_between = 3;
    run(&mut ledger, "set ticket --stock +5").unwrap();
    assert_eq!(ledger.sale("ticket").state.terms.total, 108, "100, three of the others, five of ours");
    ledger.changes_between = u32::MAX;
    assert_eq!(run(&mut ledger, "set ticket --stock +5").unwrap_err().0, 1);
    ledger.changes_between = 0;
    let (status, said) = run(&mut ledger, "set ticket --stock -1000").unwrap_err();
    assert!(status == 1 && said.contains("held"), "{said}");
    assert_eq!(run(&mut ledger, "set none --stock +1").unwrap_err().0, 1);
    for wrong in ["+", "-", "++5", "+ 5", "5+", "+1000000000001"] {
        let line = format!("boxoffice|sale|set|ticket|--stock|{wrong}");
        let error = Cli::try_parse_from(line.split('|')).expect_err(wrong);
        assert_eq!(error.exit_code(), 2, "{wrong}");
    }
}
