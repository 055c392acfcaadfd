use super::*;
use crate::booking::{BookingStatus, Quantity, SaleTerms};
use crate::cli::fake_ledger::{FakeLedger, id, name};
use crate::clock::WallTime;

/// Three bookings in a sale of ten, and one cancelled.
fn sold() -> FakeLedger {
    let terms = SaleTerms { total: 10, hold_ms: Some(1000), per_buyer: Some(4), ..SaleTerms::default() };
    let mut ledger = FakeLedger::with("ticket", terms);
    let sale = ledger.sale("ticket");
    sale.book("a", 1, Some("ann"));
    sale.book("b", 2, Some("bob"));
    sale.book("c", 3, None);
    sale.book("d", 1, Some("bob"));
    sale.set("b", BookingStatus::Confirmed);
    sale.set("d", BookingStatus::Cancelled);
    ledger
}

fn line(booking: &str, quantity: u32, buyer: &str, outcome: &str) -> String {
    let buyer = if buyer.is_empty() { String::new() } else { format!("\"buyer\":\"{buyer}\",") };
    format!(
        "{{\"at\":\"2026-02-01T10:00:00.123Z\",\"sale\":\"ticket\",\"booking\":{booking},\"quantity\":{quantity},{buyer}\
         \"outcome\":\"{outcome}\",\"status\":201}}\n"
    )
}

fn whole_log() -> String {
    [
        line("\"a\"", 1, "ann", "granted"),
        line("\"b\"", 2, "bob", "granted"),
        line("null", 1, "", "sold-out"),
        line("\"a\"", 1, "ann", "replayed"),
        line("\"d\"", 1, "bob", "granted"),
        line("\"c\"", 3, "", "granted"),
        "\n".to_owned(),
        line("\"zz\"", 3, "", "granted").replace("ticket", "another"),
    ]
    .concat()
}

/// The verdict and the report.
fn audit(ledger: &mut FakeLedger, logs: &[&str]) -> (u64, String) {
    let flags = AuditFlags {
        name: name("ticket"),
        ledger: LedgerFlag { ledger: "sqlite:x".to_owned() },
        access_log: (0..logs.len()).map(|index| PathBuf::from(index.to_string())).collect(),
        repair: false,
    };
    let open = |path: &Path| -> io::Result<Box<dyn BufRead>> {
        let index: usize = path.to_str().unwrap().parse().unwrap();
        Ok(Box::new(io::Cursor::new(logs[index].to_owned())))
    };
    let mut out = Vec::new();
    let report = flags.run(ledger, &mut out, &open).unwrap();
    (report.differences, String::from_utf8(out).unwrap())
}

/// That the audit finds exactly these differences.
#[track_caller]
fn finds(ledger: &mut FakeLedger, logs: &[&str], differences: &[&str]) {
    let (count, report) = audit(ledger, logs);
    for difference in differences {
        assert!(report.contains(&format!("difference  {difference}")), "{difference:?} is not in:\n{report}");
    }
    assert_eq!(count, differences.len() as u64, "{report}");
}

#[test]
fn an_honest_sale_has_no_difference() {
    let (count, report) = audit(&mut sold(), &[&whole_log()]);
    assert_eq!(
        report,
        "sale        ticket: 10 in all, 4 held, 2 sold, 4 available, at sequence 6\n\
         bookings    4: 2 held, 1 confirmed, 1 cancelled, 0 expired; 6 tickets held and sold\n\
         log         6 entries, sequence 1 to 6\n\
         access log  1 files, 6 lines of this sale: 4 granted (7 tickets), 1 replayed, 1 sold out, 0 unknown\n\
         audit       no difference\n"
    );
    assert_eq!(count, 0);
    finds(&mut sold(), &[], &[]);
    finds(&mut FakeLedger::with("ticket", SaleTerms::default()), &[""], &[]);
}

#[test]
fn counts_that_do_not_sum_up_are_found() {
    let mut ledger = sold();
    ledger.sale("ticket").state.held = 5;
    finds(&mut ledger, &[], &["held: the ledger counts 5, its bookings sum to 4"]);
    let mut ledger = sold();
    ledger.sale("ticket").state.sold = 1;
    finds(&mut ledger, &[], &["sold: the ledger counts 1, its bookings sum to 2"]);
    let mut ledger = sold();
    ledger.sale("ticket").state.terms.total = 5;
    finds(
        &mut ledger,
        &[],
        &[
            "oversold: 6 tickets held and sold, of 5",
            "log: at sequence 3 6 tickets were held and sold, of 5",
            "log: at sequence 4 7 tickets were held and sold, of 5",
            "log: at sequence 5 7 tickets were held and sold, of 5",
            "log: at sequence 6 6 tickets were held and sold, of 5",
        ],
    );
}

#[test]
fn a_buyer_over_the_limit_is_found() {
    let mut ledger = sold();
    ledger.sale("ticket").book("e", 3, Some("bob"));
    finds(&mut ledger, &[], &["buyer bob: has 5 tickets, of 4 at most"]);
    ledger.sale("ticket").state.version = 2;
    let (count, report) = audit(&mut ledger, &[]);
    assert!(count == 0 && report.contains("note        1 buyers have more than the limit"), "{report}");
}

#[test]
fn a_log_that_is_not_the_bookings_is_found() {
    let mut ledger = sold();
    ledger.sale("ticket").log.remove(2);
    finds(
        &mut ledger,
        &[],
        &[
            "log: sequence 4 follows 2, with a gap or out of order",
            "booking c: is 3 held until 1970-01-01T00:00:01.001Z for nobody in the ledger, but its log never says so",
        ],
    );
    let mut ledger = sold();
    ledger.sale("ticket").log.pop();
    finds(
        &mut ledger,
        &[],
        &[
            "log: ends at sequence 5, the sale is at 6",
            "booking d: is 1 cancelled for bob in the ledger, but 1 held until 1970-01-01T00:00:01.001Z for bob by its log",
        ],
    );
    let mut ledger = sold();
    let sale = ledger.sale("ticket");
    sale.bookings.retain(|booking| booking.id != id("b"));
    sale.state.sold = 0;
    finds(
        &mut ledger,
        &[],
        &["booking b: is 2 confirmed for bob by the log, but the ledger has no such booking"],
    );
    let mut ledger = sold();
    ledger.sale("ticket").log[1].at = WallTime(0);
    finds(
        &mut ledger,
        &[],
        &["log: sequence 2 is of 1970-01-01T00:00:00.000Z, earlier than the entry before"],
    );
}

#[test]
fn a_log_that_was_trimmed_is_said_and_still_replayed() {
    let mut ledger = sold();
    ledger.sale("ticket").log.drain(..4);
    let (count, report) = audit(&mut ledger, &[]);
    assert!(count == 0 && report.contains("note        the log is kept from sequence 5 on"), "{report}");
    ledger.sale("ticket").log[0].booking.quantity = Quantity::new(4).unwrap();
    finds(
        &mut ledger,
        &[],
        &["booking b: is 2 confirmed for bob in the ledger, but 4 confirmed for bob by its log"],
    );
    ledger.sale("ticket").log.clear();
    assert!(audit(&mut ledger, &[]).1.contains("note        the ledger keeps no log"));
}

#[test]
fn a_log_that_is_trimmed_while_it_is_read_has_no_gap() {
    let mut ledger = sold();
    let last = ledger.sale("ticket").state.sequence;
    assert!(last > 4, "two pages");
    ledger.sale("ticket").trimmed_meanwhile = last - 1;
    let (count, report) = audit(&mut ledger, &[]);
    assert_eq!(count, 0, "{report}");
    assert!(report.contains(&format!("note        the log is kept from sequence {last} on")), "{report}");
}

#[test]
fn what_clients_were_told_is_held_against_the_ledger() {
    let log = whole_log();
    finds(
        &mut sold(),
        &[&log, &line("\"e\"", 2, "", "granted")],
        &["booking e: was granted 2 tickets, but the ledger has no such booking"],
    );
    finds(
        &mut sold(),
        &[&log, &line("\"e\"", 2, "", "replayed")],
        &["booking e: was told to its client, but the ledger has no such booking"],
    );
    finds(&mut sold(), &[&log, &line("\"a\"", 1, "ann", "granted")], &["booking a: was granted 2 times"]);
    finds(
        &mut sold(),
        &[&log.replace("\"quantity\":2", "\"quantity\":1")],
        &["booking b: was granted as 1 for bob, but is 2 confirmed for bob in the ledger"],
    );
    finds(
        &mut sold(),
        &[&log.replace("ann", "eve")],
        &[
            "booking a: was granted as 1 for eve, but is 1 held until 1970-01-01T00:00:01.001Z for ann in the ledger",
        ],
    );
    let without_c = log.replace(&line("\"c\"", 3, "", "granted"), "");
    let untold = "booking c: is 3 held until 1970-01-01T00:00:01.001Z for nobody in the ledger, but no line tells of it";
    finds(&mut sold(), &[&without_c], &[untold]);
    for outcome in ["sold-out", "ledger-unavailable"] {
        finds(&mut sold(), &[&without_c, &line("\"c\"", 3, "", outcome)], &[untold]);
    }
    for outcome in ["outcome-unknown", "replayed"] {
        finds(&mut sold(), &[&without_c, &line("\"c\"", 3, "", outcome)], &[]);
    }
    // A tombstone needs no line; an expired booking does.
    finds(&mut sold(), &[&log.replace(&line("\"d\"", 1, "bob", "granted"), "")], &[]);
    let mut ledger = sold();
    ledger.sale("ticket").set("c", BookingStatus::Expired);
    finds(
        &mut ledger,
        &[&without_c],
        &["booking c: is 3 expired for nobody in the ledger, but no line tells of it"],
    );
}

#[test]
fn a_log_that_is_not_whole_says_so() {
    let log = whole_log();
    let (count, report) = audit(&mut sold(), &[&log, "{\"dropped\":17}\n{\"dropped\":3}\n"]);
    assert!(count == 0 && report.contains("incomplete: 20 lines were dropped"), "{report}");
}

#[test]
fn torn_lines_are_tolerated_and_told() {
    let log = whole_log();
    let (count, report) = audit(&mut sold(), &[&format!("{log}{{\"at\":\"2026-02-01T10:0")]);
    assert!(count == 0 && report.contains("note        1 files end within a line"), "{report}");
    // A whole line without its line feed counts.
    finds(&mut sold(), &[log.trim_end()], &[]);
    // Torn by a kill, ended by the next process; and something that is no log at all.
    for middle in ["{\"at\":\"2026-0\n".to_owned(), "x".repeat(3 * 4096 + 5) + "\n", "{}\n".to_owned()] {
        let (count, report) = audit(&mut sold(), &[&format!("{middle}{log}")]);
        assert!(count == 0 && report.contains("incomplete: 1 lines are torn"), "{report}");
    }
}

#[test]
fn a_sale_in_motion_is_counted_again() {
    let mut ledger = sold();
    ledger.bookings_between = 2;
    let (count, report) = audit(&mut ledger, &[]);
    assert_eq!(count, 0, "{report}");
    assert!(report.starts_with("the sale went from sequence 6 to 7 while it was counted; counting again\n"));
    let mut ledger = sold();
    ledger.sale("ticket").state.terms.total = 100;
    ledger.bookings_between = 100;
    let (_, report) = audit(&mut ledger, &[]);
    assert_eq!(report.matches("counting again").count(), 2, "{report}");
    assert!(report.contains("during each of 3 counts"));
}

#[test]
fn what_cannot_be_audited_fails() {
    let mut flags = AuditFlags {
        name: name("tickets"),
        ledger: LedgerFlag { ledger: "sqlite:x".to_owned() },
        access_log: Vec::new(),
        repair: false,
    };
    let open = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    let run = |flags: &AuditFlags, ledger: &mut FakeLedger| {
        flags.run(ledger, &mut Vec::new(), &open).map(|_| ()).unwrap_err()
    };
    assert!(matches!(run(&flags, &mut sold()), CommandError::NoSuchSale(_)));
    flags.name = name("ticket");
    flags.access_log = vec!["missing.log".into()];
    assert_eq!(run(&flags, &mut sold()).to_string(), "missing.log: entity not found");
    flags.repair = true;
    assert_eq!(run(&flags, &mut sold()).exit_status(), 2);
}
