use super::*;
use crate::booking::{Amendment, BookingStatus, Quantity, SaleTerms};
use crate::clock::WallTime;
use crate::ledger::for_tests::{TestLedger, buyer, claim, id, name};
use crate::limits::PAGE_ENTRIES;
use crate::protocol::{Amended, BookingOp, Part, Watermark};

/// Three bookings in a sale of ten, and one cancelled.
fn sold() -> TestLedger {
    sold_of(10)
}

/// The same bookings in a sale of that many tickets.
fn sold_of(total: u64) -> TestLedger {
    let terms = SaleTerms { total, hold_ms: Some(1000), per_buyer: Some(4), ..SaleTerms::default() };
    let mut ledger = TestLedger::with("ticket", terms);
    let claims = [
        claim("a", 1, Some("ann")),
        claim("b", 2, Some("bob")),
        claim("c", 3, None),
        claim("d", 1, Some("bob")),
    ];
    ledger.book("ticket", &claims);
    ledger.confirm("ticket", "b");
    ledger.cancel("ticket", "d");
    ledger
}

/// Books one ticket for each of so many buyers.
fn book_crowd(ledger: &mut TestLedger, count: usize) {
    let claim = |number| claim(&format!("m-{number}"), 1, Some(&format!("u-{number}")));
    ledger.book("ticket", &(0..count).map(claim).collect::<Vec<_>>());
}

/// Whether the call reads a page of a part on which the audit is not to find what has changed since.
fn reads_page(call: &Call) -> bool {
    match call {
        Call::Sale { op: SaleOp::Survey { part, .. }, .. } => !matches!(part, Part::Changes | Part::Due),
        _ => false,
    }
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

/// Texts in the place of files and hosts; a source is an index.
struct Texts<'a> {
    logs: &'a [&'a str],
    metrics: &'a [&'a str],
}

impl Sources for Texts<'_> {
    fn access_log(&self, path: &Path) -> io::Result<Box<dyn BufRead>> {
        let index: usize = path.to_str().unwrap().parse().map_err(|_| io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(self.logs[index].to_owned())))
    }

    fn metrics(&self, source: &str, _again: bool) -> io::Result<String> {
        Ok(self.metrics[source.parse::<usize>().unwrap()].to_owned())
    }
}

fn run(ledger: &mut TestLedger, logs: &[&str], metrics: &[&str]) -> Findings {
    let paths: Vec<PathBuf> = (0..logs.len()).map(|index| PathBuf::from(index.to_string())).collect();
    let names: Vec<String> = (0..metrics.len()).map(|index| index.to_string()).collect();
    let audit = Audit { sale: name("ticket"), access_logs: &paths, metrics: &names };
    audit.run(ledger, &Texts { logs, metrics }).unwrap()
}

/// The verdict and the report.
fn audit(ledger: &mut TestLedger, logs: &[&str]) -> (u64, String) {
    let findings = run(ledger, logs, &[]);
    (findings.differences, findings.lines().join("\n") + "\n")
}

/// That the audit finds exactly these differences.
#[track_caller]
fn finds(ledger: &mut TestLedger, logs: &[&str], differences: &[&str]) {
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
    finds(&mut TestLedger::with("ticket", SaleTerms::default()), &[""], &[]);
}

#[test]
fn counts_that_do_not_sum_up_are_found() {
    let mut ledger = sold();
    ledger.plant("UPDATE sales SET held = 5");
    finds(&mut ledger, &[], &["held: the ledger counts 5, but its bookings add up to 4"]);
    let mut ledger = sold();
    ledger.plant("UPDATE sales SET sold = 1");
    finds(&mut ledger, &[], &["sold: the ledger counts 1, but its bookings add up to 2"]);
    let mut ledger = sold();
    ledger.plant("UPDATE sales SET total = 5");
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
    ledger.plant("UPDATE sales SET per_buyer = 5");
    ledger.book("ticket", &[claim("e", 3, Some("bob"))]);
    ledger.plant("UPDATE sales SET per_buyer = 4");
    finds(&mut ledger, &[], &["buyer bob: has 5 tickets, but the limit is 4"]);
    ledger.plant("UPDATE sales SET version = 2");
    let (count, report) = audit(&mut ledger, &[]);
    assert!(count == 0 && report.contains("note        1 buyers have more than the limit"), "{report}");
}

#[test]
fn a_log_that_is_not_the_bookings_is_found() {
    let mut ledger = sold();
    ledger.plant("DELETE FROM log WHERE sequence = 3");
    finds(
        &mut ledger,
        &[],
        &[
            "log: sequence 4 follows 2, with a gap or out of order",
            "booking c: is 3 held until 1970-01-01T00:00:01.001Z for nobody in the ledger, but its log never says so",
        ],
    );
    let mut ledger = sold();
    ledger.plant("DELETE FROM log WHERE sequence = 6");
    finds(
        &mut ledger,
        &[],
        &[
            "log: ends at sequence 5, but the sale is at 6",
            "booking d: is 1 cancelled for bob in the ledger, but 1 held until 1970-01-01T00:00:01.001Z for bob according to its log",
        ],
    );
    let mut ledger = sold();
    ledger.plant(
        "DELETE FROM bookings WHERE id = 'b'; UPDATE sales SET sold = 0; DELETE FROM buyers WHERE buyer = 'bob'",
    );
    finds(
        &mut ledger,
        &[],
        &["booking b: is 2 confirmed for bob according to the log, but the ledger has no such booking"],
    );
    let mut ledger = sold();
    ledger.plant("UPDATE log SET at_ms = 0 WHERE sequence = 2");
    finds(
        &mut ledger,
        &[],
        &["log: sequence 2 is at 1970-01-01T00:00:00.000Z, earlier than the entry before it"],
    );
}

#[test]
fn a_log_that_was_trimmed_is_said_and_still_replayed() {
    let mut ledger = sold();
    ledger.plant("DELETE FROM log WHERE sequence <= 4");
    let (count, report) = audit(&mut ledger, &[]);
    assert!(count == 0 && report.contains("note        the log starts at sequence 5"), "{report}");
    ledger.plant("UPDATE log SET quantity = 4 WHERE sequence = 5");
    finds(
        &mut ledger,
        &[],
        &["booking b: is 2 confirmed for bob in the ledger, but 4 confirmed for bob according to its log"],
    );
    ledger.plant("DELETE FROM log");
    assert!(audit(&mut ledger, &[]).1.contains("log: has no entries, but the sale is at sequence 6"));
}

#[test]
fn a_log_that_is_trimmed_while_it_is_read_has_no_gap() {
    let mut ledger = sold_of(2_000);
    book_crowd(&mut ledger, PAGE_ENTRIES);
    let last = ledger.state("ticket").sequence;
    assert!(last > PAGE_ENTRIES as u64 + 1, "two pages");
    ledger.meanwhile(move |ledger, call| {
        if matches!(call, Call::Sale { op: SaleOp::Survey { part: Part::Log, .. }, .. }) {
            ledger.plant(&format!("DELETE FROM log WHERE sequence < {last}"));
        }
    });
    let (count, report) = audit(&mut ledger, &[]);
    assert_eq!(count, 0, "{report}");
    assert!(report.contains(&format!("note        the log starts at sequence {last}")), "{report}");
    assert!(report.contains("note        its log was trimmed while it was read: read again"), "{report}");
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
        &["booking e: was reported to its client, but the ledger has no such booking"],
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
    let untold = "booking c: is 3 held until 1970-01-01T00:00:01.001Z for nobody in the ledger, but no line mentions it";
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
    ledger.set_time(1_001);
    ledger.ask(SaleOp::Expire.on(name("ticket")));
    finds(
        &mut ledger,
        &[&without_c],
        &["booking c: is 3 expired for nobody in the ledger, but no line mentions it"],
    );
}

#[test]
fn a_log_that_is_not_whole_says_so() {
    let log = whole_log();
    let (count, report) = audit(&mut sold(), &[&log, "{\"dropped\":17}\n{\"dropped\":3}\n"]);
    assert!(count == 0 && report.contains("incomplete: it records that 20 lines were dropped"), "{report}");
}

#[test]
fn torn_lines_are_tolerated_and_told() {
    let log = whole_log();
    let (count, report) = audit(&mut sold(), &[&format!("{log}{{\"at\":\"2026-02-01T10:0")]);
    assert!(count == 0 && report.contains("note        1 files end in the middle of a line"), "{report}");
    // A whole line without its line feed counts.
    finds(&mut sold(), &[log.trim_end()], &[]);
    // Torn by a kill, ended by the next process; and something that is no log at all.
    for middle in ["{\"at\":\"2026-0\n".to_owned(), "x".repeat(3 * 4096 + 5) + "\n", "{}\n".to_owned()] {
        let (count, report) = audit(&mut sold(), &[&format!("{middle}{log}")]);
        assert!(count == 0 && report.contains("incomplete: 1 lines are torn"), "{report}");
    }
}

#[test]
fn a_sale_in_motion_is_brought_to_one_moment() {
    let mut ledger = sold_of(2_000);
    book_crowd(&mut ledger, PAGE_ENTRIES);
    let before = ledger.state("ticket").sequence;
    // One booking with each page that is read.
    ledger.meanwhile(|ledger, call| {
        if reads_page(call) {
            let sequence = ledger.state("ticket").sequence;
            ledger.book("ticket", &[claim(&format!("meanwhile-{sequence}"), 1, None)]);
        }
    });
    let told = |number| line(&format!("\"m-{number}\""), 1, &format!("u-{number}"), "granted");
    let crowd: String = (0..PAGE_ENTRIES).map(told).collect();
    let (count, report) = audit(&mut ledger, &[&whole_log(), &crowd]);
    let pages = ledger.state("ticket").sequence - before;
    assert!(pages > 6, "{pages}");
    assert!(report.contains(&format!("at sequence {}", before + pages)), "{report}");
    assert_eq!(count, pages, "each of them is there, and no line mentions it:\n{report}");
    assert_eq!(report.matches("but no line mentions it (untold)").count() as u64, pages, "{report}");
}

#[test]
fn a_count_is_repaired_and_nothing_else() {
    let mut ledger = sold();
    ledger.plant("UPDATE sales SET held = 5");
    let findings = run(&mut ledger, &[], &[]);
    let Findings { differences: 1, unexplained: 0, .. } = findings else { panic!("{findings:?}") };
    assert_eq!(findings.mends[0].said, ["held: from 5 to 4"]);
    assert_eq!(findings.json()["repairable"], true);
    ledger.book("ticket", &[claim("e", 1, None)]);
    assert_eq!(repair(&mut ledger, &findings).unwrap(), Repaired::Moved(0));
    ledger.plant("UPDATE sales SET held = 9");
    let findings = run(&mut ledger, &[], &[]);
    assert_eq!(repair(&mut ledger, &findings).unwrap(), Repaired::Done);
    let state = ledger.state("ticket");
    assert_eq!((state.held, state.sold), (5, 2));
    finds(&mut ledger, &[], &[]);
}

#[test]
#[should_panic(expected = "would hide it")]
fn nothing_is_repaired_while_something_is_unexplained() {
    let mut ledger = sold();
    ledger.plant("UPDATE sales SET held = 5");
    ledger.plant("DELETE FROM log WHERE sequence = 6");
    let findings = run(&mut ledger, &[], &[]);
    let _ = repair(&mut ledger, &findings);
}

fn page(granted: u64, [available, held, sold]: [u64; 3]) -> String {
    format!(
        "# HELP boxoffice_requests x\nboxoffice_requests_total{{outcome=\"granted\"}} {granted}\n\
         boxoffice_tickets{{sale=\"ticket\",state=\"available\"}} {available}\n\
         boxoffice_tickets{{sale=\"ticket\",state=\"held\"}} {held}\n\
         boxoffice_tickets{{sale=\"ticket\",state=\"sold\"}} {sold}\n# EOF\n"
    )
}

#[test]
fn metrics_are_held_against_the_ledger() {
    let honest = page(2, [4, 4, 2]);
    let verdict = |ledger: &mut TestLedger, metrics: &[&str]| {
        let findings = run(ledger, &[], metrics);
        (findings.differences, findings.lines().join("\n"))
    };
    let (count, report) = verdict(&mut sold(), &[&honest, &honest]);
    assert_eq!(count, 0, "{report}");
    assert!(report.contains("metrics     2 hosts, 4 requests granted"), "{report}");
    let (count, report) = verdict(&mut sold(), &[&honest]);
    assert!(
        count == 0 && report.contains("the hosts granted 2 of 4 bookings since they started"),
        "{report}"
    );
    let (count, report) = verdict(&mut sold(), &[&honest, &page(3, [4, 4, 2])]);
    assert_eq!(count, 1, "{report}");
    assert!(
        report.contains("metrics: the hosts granted 5, but the ledger has 4 bookings (metrics)"),
        "{report}"
    );
    let (count, report) = verdict(&mut sold(), &[&page(4, [5, 3, 2])]);
    assert_eq!(count, 1, "{report}");
    assert!(
        report.contains("metrics 0: reports 5 available, 3 held, 2 sold; the ledger has 4, 4, 2"),
        "{report}"
    );
    assert!(report.contains("the hosts' gauges were of another moment: read again"), "{report}");
    // A sale that is being sold is of another moment by now.
    let mut ledger = sold();
    let mut books = true;
    ledger.meanwhile(move |ledger, call| {
        if reads_page(call) && std::mem::take(&mut books) {
            ledger.book("ticket", &[claim("meanwhile", 1, None)]);
        }
    });
    let (count, report) = verdict(&mut ledger, &[&honest]);
    assert!(count == 0 && report.contains("the sale was changed meanwhile"), "{report}");
    // What other sales granted is counted by the same hosts.
    let mut ledger = sold();
    ledger.open("other", SaleTerms { total: 1, ..SaleTerms::default() });
    ledger.book("other", &[claim("o", 1, None)]);
    let (count, report) = verdict(&mut ledger, &[&page(5, [4, 4, 2])]);
    assert_eq!(count, 0, "{report}");
    let (count, report) = verdict(&mut ledger, &[&page(6, [4, 4, 2])]);
    assert!(count == 1 && report.contains("4 bookings, and 1 changes of other sales"), "{report}");
    let nothing = "boxoffice_requests_total{outcome=\"granted\"} 0\n";
    let (count, report) = verdict(&mut sold(), &[nothing]);
    assert!(count == 0 && report.contains("the host does not follow the sale"), "{report}");
}

#[test]
fn what_cannot_be_audited_fails() {
    let run = |sale: &str, logs: &[PathBuf], metrics: &[String]| {
        let audit = Audit { sale: name(sale), access_logs: logs, metrics };
        let texts = Texts { logs: &[], metrics: &["no metrics at all"] };
        audit.run(&mut sold(), &texts).unwrap_err()
    };
    assert!(matches!(run("tickets", &[], &[]), AuditError::NoSuchSale(sale) if sale == name("tickets")));
    let missing = run("ticket", &["missing.log".into()], &[]);
    assert_eq!(missing.to_string(), "missing.log: entity not found");
    assert_eq!(run("ticket", &[], &["0".into()]).to_string(), "0: not a metrics page of a host");
}

/// How a booking stands, with how many tickets, and for whom.
type Step = ((BookingStatus, u64), Option<&'static str>);

/// Asserts whether a booking may go that way, from one entry of the log to the next. How it came to where it was before is not
/// the question here: no ledger would take all of these steps, so that they are planted.
#[track_caller]
fn assert_way(ledger: &mut TestLedger, steps: [Step; 2], may: bool) {
    let entry = |(sequence, ((status, quantity), buyer)): (usize, &Step)| {
        let or_null = |text: Option<String>| text.unwrap_or_else(|| "NULL".to_owned());
        let buyer = or_null(buyer.map(|buyer| format!("'{buyer}'")));
        let deadline = or_null(status.deadline().map(|at| at.0.to_string()));
        format!("('ticket', {}, 1, 'a', '{}', {quantity}, {buyer}, {deadline})", sequence + 1, status.word())
    };
    let entries: Vec<String> = steps.iter().enumerate().map(entry).collect();
    ledger.plant(&format!(
        "DELETE FROM log;
         INSERT INTO log (sale, sequence, at_ms, booking, status, quantity, buyer, expires_at_ms) VALUES {};
         UPDATE bookings SET (status, quantity, buyer, expires_at_ms, sequence) =
         (SELECT status, quantity, buyer, expires_at_ms, sequence FROM log WHERE sequence = 2);
         UPDATE sales SET sequence = 2",
        entries.join(", ")
    ));
    let findings = run(ledger, &[], &[]);
    let says_so = |it: &Difference| it.text.starts_with("sequence 2 makes it");
    assert_eq!(!findings.listed.iter().any(says_so), may, "{steps:?}: {:?}", findings.listed);
    assert_eq!(findings.counted[2], ("log", "2 entries, sequence 1 to 2".to_owned()), "{steps:?}");
}

/// A sale with one booking, `a`.
fn with_one_booking() -> TestLedger {
    let terms = SaleTerms { total: 10, hold_ms: Some(5_000), ..SaleTerms::default() };
    let mut ledger = TestLedger::with("ticket", terms);
    ledger.book("ticket", &[claim("a", 2, None)]);
    ledger
}

#[test]
fn a_release_and_an_extension_are_ways_that_a_booking_may_take_and_others_are_not() {
    let held = |ms| BookingStatus::Held { expires_at: WallTime(ms) };
    let (confirmed, expired) = (BookingStatus::Confirmed, BookingStatus::Expired);
    let mut ledger = with_one_booking();
    // How it stood before and how it stands then, each with its tickets; whether it may go that way.
    for (before, after, may) in [
        ((held(5_000), 2), (held(5_001), 2), true),
        ((held(5_000), 2), (held(4_999), 2), false),
        ((held(5_000), 2), (held(5_000), 2), false),
        ((held(5_000), 2), (held(5_000), 1), true),
        ((held(5_000), 2), (held(5_001), 1), false),
        ((held(5_000), 2), (held(5_000), 3), false),
        ((held(5_000), 2), (held(5_001), 3), false),
        ((held(5_000), 2), (confirmed, 3), false),
        ((confirmed, 2), (confirmed, 1), true),
        ((confirmed, 2), (confirmed, 2), false),
        ((confirmed, 1), (confirmed, 2), false),
        ((held(5_000), 2), (confirmed, 1), false),
        ((expired, 2), (held(5_000), 2), true),
        ((expired, 2), (held(5_000), 1), false),
        ((confirmed, 2), (held(5_000), 2), false),
    ] {
        assert_way(&mut ledger, [(before, None), (after, None)], may);
    }
    // Who was told of what it was made with was told the truth.
    let mut ledger = sold();
    let release = Amendment::Release { remaining: Quantity::ONE };
    let answer =
        ledger.ask(BookingOp::Amend(vec![(id("b"), release)]).on(name("ticket"), Watermark::default()));
    let Answer::Sale { result: SaleResult::Amended(amended), .. } = answer else { panic!("{answer:?}") };
    assert!(matches!(amended[..], [Amended::Done(_)]), "{amended:?}");
    finds(&mut ledger, &[&whole_log()], &[]);
}

#[test]
fn a_booking_may_go_to_another_buyer_and_nothing_else_of_it_with_that() {
    let held = |ms| BookingStatus::Held { expires_at: WallTime(ms) };
    let (confirmed, cancelled) = (BookingStatus::Confirmed, BookingStatus::Cancelled);
    let mut ledger = with_one_booking();
    for (before, after, may) in [
        ((held(5_000), 2), (held(5_000), 2), true),
        ((held(5_000), 2), (held(5_001), 2), false),
        ((held(5_000), 2), (held(5_000), 1), false),
        ((held(5_000), 2), (confirmed, 2), false),
        ((confirmed, 2), (confirmed, 2), true),
        ((confirmed, 2), (confirmed, 1), false),
        ((confirmed, 2), (cancelled, 2), false),
        ((cancelled, 2), (cancelled, 2), false),
    ] {
        assert_way(&mut ledger, [(before, Some("ann")), (after, Some("bob"))], may);
    }
    // Who was told of it before it was another's was told the truth; of how many tickets is held against it all the same.
    let mut ledger = sold();
    let assign = BookingOp::Assign { id: id("b"), buyer: Some(Box::new(buyer("eve"))) };
    let answer = ledger.ask(assign.on(name("ticket"), Watermark::default()));
    assert!(
        matches!(answer, Answer::Sale { result: SaleResult::Assigned(Amended::Done(_)), .. }),
        "{answer:?}"
    );
    finds(&mut ledger, &[&whole_log()], &[]);
    let fewer = whole_log().replace("\"quantity\":2", "\"quantity\":1");
    let told = "booking b: was granted as 1 for bob, but is 2 confirmed for eve in the ledger";
    finds(&mut ledger, &[&fewer], &[told]);
}

#[test]
fn what_cannot_be_in_a_log_is_found() {
    let mut ledger = sold();
    ledger.plant(
        "INSERT INTO log (sale, sequence, at_ms, booking, status, quantity, buyer)
         VALUES ('ticket', 7, 1, 'd', 'confirmed', 1, 'bob');
         UPDATE bookings SET status = 'confirmed', counted = 1, sequence = 7 WHERE id = 'd';
         UPDATE buyers SET tickets = 3 WHERE buyer = 'bob';
         UPDATE sales SET sequence = 7, sold = 3",
    );
    let (count, report) = audit(&mut ledger, &[]);
    assert_eq!(count, 1, "{report}");
    assert!(
        report.contains(
            "booking d: sequence 7 makes it 1 confirmed for bob, though it was 1 cancelled for bob (log)"
        ),
        "{report}"
    );
    let mut ledger = sold();
    ledger.plant("UPDATE log SET quantity = 3 WHERE sequence = 5");
    finds(
        &mut ledger,
        &[],
        &[
            "booking b: sequence 5 makes it 3 confirmed for bob, though it was 2 held until 1970-01-01T00:00:01.001Z for \
             bob",
            "booking b: is 2 confirmed for bob in the ledger, but 3 confirmed for bob according to its log",
        ],
    );
}
