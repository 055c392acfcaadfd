//! Corruption of every kind, planted in real ledgers: an audit names it, and what follows from bookings and log is mended.

use std::io::{self, BufRead};
use std::path::Path;

use boxoffice::audit::{Audit, Findings, Kind, Repaired, Sources, repair};
use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::ledger::Ledger;
use boxoffice::ledger::redis::RedisLedger;
use boxoffice::ledger::sqlite::SqliteLedger;
use boxoffice::protocol::*;

use crate::subjects::{RedisSubject, START, SqliteSubject, Subject, connect};
use crate::support::redis_server::RedisServer;
use crate::words::*;

const UUID: &str = "0198c0de-0a20-7000-8000-00000000000a";

/// An audit of the ledger alone.
pub struct Nothing;

impl Sources for Nothing {
    fn access_log(&self, _: &Path) -> io::Result<Box<dyn BufRead>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn metrics(&self, _: &str, _: bool) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

pub fn audit_of(ledger: &mut dyn Ledger, sale: SaleName) -> Findings {
    Audit { sale, access_logs: &[], metrics: &[] }.run(ledger, &Nothing).unwrap()
}

fn report(findings: &Findings) -> String {
    findings.lines().join("\n")
}

/// 20 tickets, of which 2 and 1 are held, 1 is sold and 1 was given back.
fn sell(ledger: &mut dyn Ledger) {
    let terms = SaleTerms { total: 20, hold_ms: Some(60_000), per_buyer: Some(4), ..SaleTerms::default() };
    let calls = [
        open_on(terms),
        reserve([claim("a", 2, Some("u-81"))]),
        reserve([claim("b", 1, Some("u.82"))]),
        reserve([claim(UUID, 1, None), claim("d", 1, Some("u-81"))]),
        confirm(&["b"]),
        cancel(&["d"]),
        tombstone("t"),
    ];
    for answer in ledger.execute(&calls) {
        answer.unwrap();
    }
}

/// Everything that a repair must not touch: bookings and log.
fn untouchable(ledger: &mut dyn Ledger) -> Vec<String> {
    let survey = |part| SaleOp::Survey { part, cursor: String::new() }.on(sale());
    let answers = ledger.execute(&[survey(Part::Bookings), survey(Part::Log)]).into_iter();
    let rows = answers.flat_map(|answer| match answer.unwrap() {
        Answer::Sale { result: SaleResult::Surveyed { rows, done: true, .. }, .. } => rows,
        other => panic!("{other:?}"),
    });
    let of_stock = |row: &Row| matches!(row, Row::Unreadable { part: Part::Stock, .. });
    let mut rows: Vec<String> = rows.filter(|row| !of_stock(row)).map(|row| format!("{row:?}")).collect();
    rows.sort();
    assert!(rows.len() >= 11, "5 bookings and 6 entries of the log: {rows:?}");
    rows
}

/// The audit names it and nothing is unexplained; after the repair no audit finds anything.
#[track_caller]
fn is_mended(ledger: &mut dyn Ledger, what: &str, named: &[&str]) {
    let before = untouchable(ledger);
    let findings = audit_of(ledger, sale());
    for named in named {
        assert!(report(&findings).contains(named), "{what}: no {named:?} in\n{}", report(&findings));
    }
    assert_eq!(findings.unexplained, 0, "{what}:\n{}", report(&findings));
    assert!(findings.differences > 0 && findings.mends.iter().all(|mend| !mend.said.is_empty()), "{what}");
    assert_eq!(repair(ledger, &findings).unwrap(), Repaired::Done, "{what}");
    let after = audit_of(ledger, sale());
    assert_eq!(after.differences, 0, "{what}:\n{}", report(&after));
    assert_eq!(untouchable(ledger), before, "{what}");
    // Twice does no harm: neither version nor sequence have moved.
    assert_eq!(repair(ledger, &findings).unwrap(), Repaired::Done, "{what}");
    assert_eq!(audit_of(ledger, sale()).differences, 0, "{what}");
}

/// The audit names it, and nothing explains it.
#[track_caller]
fn stays(ledger: &mut dyn Ledger, what: &str, named: &[&str]) {
    let findings = audit_of(ledger, sale());
    for named in named {
        assert!(report(&findings).contains(named), "{what}: no {named:?} in\n{}", report(&findings));
    }
    assert!(findings.unexplained > 0, "{what}:\n{}", report(&findings));
}

/// A Redis with that sale, and commands in which `@BUCKET` is that of u-81 and `@LOG-N` the id of an entry.
struct Planted {
    server: RedisServer,
    ledger: RedisLedger,
}

impl Planted {
    fn new() -> Planted {
        let server = RedisServer::on_socket(&[]);
        let mut ledger = connect(&server);
        sell(&mut ledger);
        let findings = audit_of(&mut ledger, sale());
        assert_eq!(findings.differences, 0, "{}", report(&findings));
        Planted { server, ledger }
    }

    fn again(&mut self) {
        redis::cmd("FLUSHDB").exec(&mut self.server.connection()).unwrap();
        sell(&mut self.ledger);
    }

    fn plant(&mut self, commands: &[&[&str]]) {
        let mut connection = self.server.connection();
        for words in commands {
            let mut command = redis::cmd(words[0]);
            for word in &words[1..] {
                match *word {
                    "@BUCKET" => {
                        let buyers: Vec<(String, String)> =
                            redis::cmd("HGETALL").arg("bx:{ticket}:buyers").query(&mut connection).unwrap();
                        let bucket = buyers.into_iter().find(|(_, text)| text.contains(" u-81=")).unwrap().0;
                        command.arg(bucket);
                    }
                    word if word.starts_with("@LOG-") => {
                        type Entries = Vec<(String, Vec<String>)>;
                        let range = ["bx:{ticket}:log", "-", "+"];
                        let log: Entries = redis::cmd("XRANGE").arg(&range).query(&mut connection).unwrap();
                        let at: usize = word["@LOG-".len()..].parse().unwrap();
                        command.arg(&log[at - 1].0);
                    }
                    word => {
                        command.arg(word);
                    }
                }
            }
            command.exec(&mut connection).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }
}

const STOCK: &str = "bx:{ticket}:stock";
const BOOKINGS: &str = "bx:{ticket}:bookings";
const HOLDS: &str = "bx:{ticket}:holds";
const BUYERS: &str = "bx:{ticket}:buyers";
const LOG: &str = "bx:{ticket}:log";
const DUE: &str = "bx:{ticket}:due";

type Case<'a> = (&'a [&'a [&'a str]], &'a [&'a str]);

#[test]
fn what_follows_from_the_bookings_is_mended_in_redis() {
    let cases: &[Case<'_>] = &[
        (
            &[&["HINCRBY", STOCK, "held", "1"]],
            &["held: the ledger counts 4, but its bookings add up to 3 (count)"],
        ),
        (&[&["HSET", STOCK, "sold", "-2"]], &["stock: sold is -2 (record)"]),
        (&[&["HSET", STOCK, "sold", "100"]], &["oversold: by its counts 103 tickets held and sold, of 20"]),
        (
            &[&["HSET", BUYERS, "@BUCKET", " u-81=9"]],
            &["buyer u-81: the ledger counts 9 tickets, but the bookings that count add up to 2 (buyer)"],
        ),
        (&[&["HDEL", BUYERS, "@BUCKET"]], &["buyer u-81: the ledger counts 0"]),
        (&[&["HSET", BUYERS, "@BUCKET", " u-81=2 mm0=3"]], &["buyer mm0: the ledger counts 3"]),
        (
            &[&["HSET", BUYERS, "@BUCKET", " u-81=two"]],
            &["buyers: what is stored cannot be read", "u-81=two"],
        ),
        (&[&["HSET", BUYERS, "0", " stranger=3"]], &["bucket \"0\" is \" stranger=3\" (record)"]),
        (&[&["DEL", BUYERS]], &["buyer u-81: the ledger counts 0", "buyer u.82: the ledger counts 0"]),
        (
            &[&["HSET", BUYERS, "@BUCKET", " u-81=2"]],
            &["add up to 2, and their holds end at other times (buyer)"],
        ),
        (
            &[&["HSET", BUYERS, "@BUCKET", " u-81=0soon"]],
            &["buyers: what is stored cannot be read", "u-81=0soon"],
        ),
        (&[&["DEL", DUE]], &["spans of time do not add up to the holds that end in them (hold)"]),
        (&[&["HSET", DUE, "5:999999", "7"]], &["1 spans of time do not add up"]),
        (
            &[&["HSET", DUE, "6:1", "1"]],
            &["due: what is stored cannot be read: span \"6:1\" is \"1\" (record)"],
        ),
        (
            &[&["ZREM", HOLDS, "a "]],
            &["booking a: is held until", "would never expire: it is missing from the list of holds"],
        ),
        (&[&["ZINCRBY", HOLDS, "1000", "a "]], &["booking a: is held until", "but would be checked at"]),
        (&[&["ZADD", HOLDS, "5", "no group"]], &["holds: what is stored cannot be read: \"no group\""]),
        (&[&["ZADD", HOLDS, "inf", "a "]], &["\"a \" at \"inf\"", "booking a: is held until"]),
        (&[&["DEL", HOLDS]], &["booking a: is held until", &format!("booking {UUID}: is held until")]),
        (&[&["SREM", "bx:sales", "ticket"]], &["name: is missing from the ledger's list of sales (name)"]),
        (
            &[&["HSET", STOCK, "clock", "4000000000000"]],
            &["clock: the sale's clock is at 2096-", "end late (clock)"],
        ),
        (
            &[
                &["HSET", STOCK, "held", "0", "sold", "20", "clock", "4000000000000"],
                &["DEL", HOLDS, BUYERS, "bx:sales"],
                &["ZADD", HOLDS, "5", "no group"],
            ],
            &["audit       9 differences"],
        ),
    ];
    let mut redis = Planted::new();
    for (commands, named) in cases {
        redis.again();
        redis.plant(commands);
        is_mended(&mut redis.ledger, &format!("{commands:?}"), named);
    }
}

#[test]
fn what_nothing_explains_is_named_in_redis() {
    let cases: &[Case<'_>] = &[
        (
            &[&["HSET", BOOKINGS, "a", "z9"]],
            &["bookings: what is stored cannot be read: a is \"z9\" (record)"],
        ),
        (&[&["HSET", BOOKINGS, "a", "h0@5:u-81"]], &["a is \"h0@5:u-81\""]),
        (&[&["HSET", BOOKINGS, "bad id", "c1"]], &["\"bad id\" is not a booking's id; its record is \"c1\""]),
        (
            &[&["HDEL", BOOKINGS, "a"]],
            &[
                "booking a: is 2 held until",
                "according to the log, but the ledger has no such booking (replay)",
                "booking a: was held until",
            ],
        ),
        (
            &[&["HSET", BOOKINGS, "ghost", "c1"]],
            &["booking ghost: is 1 confirmed for nobody in the ledger, but its log"],
        ),
        (
            &[&["HSET", BOOKINGS, "b", "C3:u.82"]],
            &["booking b: is 3 confirmed for u.82 in the ledger, but 1 confirmed"],
        ),
        (&[&["HSET", BOOKINGS, "a", "t"]], &["booking a: is a tombstone in the ledger, but 2 held until"]),
        (&[&["XDEL", LOG, "@LOG-3"]], &["log: sequence 4 follows 2, with a gap or out of order (log)"]),
        (&[&["HINCRBY", STOCK, "sequence", "1"]], &["log: ends at sequence 6, but the sale is at 7"]),
        (&[&["HINCRBY", STOCK, "sequence", "-1"]], &["log: ends at sequence 6, but the sale is at 5"]),
        (&[&["DEL", LOG]], &["log: has no entries, but the sale is at sequence 6"]),
        (
            &[&["XADD", LOG, "9999999999999-50", "booking", "a"]],
            &["log: what is stored cannot be read: entry"],
        ),
        (
            &[&[
                "XADD",
                LOG,
                "9999999999999-50",
                "booking",
                "e",
                "status",
                "expired",
                "quantity",
                "1",
                "buyer",
                "",
            ]],
            &[
                "with a gap or out of order",
                "booking e: is 1 expired for nobody according to the log, but the ledger has no",
            ],
        ),
        (&[&["HSET", STOCK, "total", "3"]], &["oversold: 4 tickets held and sold, of 3 (oversold)"]),
        (&[&["HSET", STOCK, "per_buyer", "1"]], &["buyer u-81: has 2 tickets, but the limit is 1 (limit)"]),
        (
            &[&["ZADD", HOLDS, "9999999999999", "lost "]],
            &["booking lost: was held until", "no such booking (hold)"],
        ),
        (&[&["DEL", HOLDS], &["SET", HOLDS, "x"]], &["holds: cannot be read: a key is of a type"]),
        (&[&["DEL", BUYERS], &["SET", BUYERS, "x"]], &["buyers: cannot be read: a key is of a type"]),
        (&[&["DEL", LOG], &["SET", LOG, "x"]], &["log: cannot be read: a key is of a type"]),
        (
            &[&["DEL", "bx:sales"], &["SET", "bx:sales", "x"]],
            &["name: the ledger's list of sales cannot be read"],
        ),
    ];
    let mut redis = Planted::new();
    for (commands, named) in cases {
        redis.again();
        redis.plant(commands);
        stays(&mut redis.ledger, &format!("{commands:?}"), named);
    }
    redis.again();
    redis.plant(&[&["HSET", STOCK, "total", "many"]]);
    let audit = Audit { sale: sale(), access_logs: &[], metrics: &[] };
    let error = audit.run(&mut redis.ledger, &Nothing).unwrap_err().to_string();
    assert!(error.contains("not sound: bx:{ticket}:stock has no number in total"), "{error}");
}

fn sqlite_with(statement: &str) -> (SqliteSubject, SqliteLedger) {
    let mut subject = SqliteSubject::new();
    subject.close();
    let mut ledger = crate::files::reopen(&subject.path());
    sell(&mut ledger);
    let findings = audit_of(&mut ledger, sale());
    assert_eq!(findings.differences, 0, "{}", report(&findings));
    let plain = rusqlite::Connection::open(subject.path()).unwrap();
    plain.execute_batch(&format!("PRAGMA ignore_check_constraints = ON; {statement}")).unwrap();
    (subject, ledger)
}

#[test]
fn what_follows_from_the_bookings_is_mended_in_sqlite() {
    // While the index has another condition in the schema, what is held is not entered.
    let unindexed = "DELETE FROM bookings WHERE id = 'a';
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, '''held''', '''nobody''') WHERE name = 'holds';
        PRAGMA writable_schema = RESET;
        INSERT INTO bookings SELECT 'ticket', 'a', 'held', 2, 'u-81', 1, expires_at_ms, 1, 0, NULL, 0 FROM log WHERE sequence = 1;
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, '''nobody''', '''held''') WHERE name = 'holds';
        PRAGMA writable_schema = RESET;";
    let cases: &[(&str, &[&str])] = &[
        (
            "UPDATE sales SET held = held + 1",
            &["held: the ledger counts 4, but its bookings add up to 3 (count)"],
        ),
        ("UPDATE sales SET sold = -2", &["stock: sold is -2 (record)"]),
        ("UPDATE sales SET sold = 100", &["oversold: by its counts 103 tickets held and sold, of 20"]),
        ("UPDATE buyers SET tickets = 9 WHERE buyer = 'u-81'", &["buyer u-81: the ledger counts 11 tickets"]),
        (
            "UPDATE buyers SET tickets = 2, holds = '' WHERE buyer = 'u-81'",
            &["the ledger counts 2 tickets, but the bookings that count add up \
                    to 2, and their holds end at other times"],
        ),
        (
            "UPDATE buyers SET holds = 'soon' WHERE buyer = 'u-81'",
            &["buyer \"u-81\", tickets 0, holds \"soon\""],
        ),
        ("UPDATE buyers SET tickets = -9 WHERE buyer = 'u-81'", &["buyer \"u-81\", tickets -9"]),
        ("DELETE FROM buyers", &["buyer u-81: the ledger counts 0", "buyer u.82: the ledger counts 0"]),
        ("INSERT INTO buyers VALUES ('ticket', 'mm0', 3, '')", &["buyer mm0: the ledger counts 3"]),
        (
            "INSERT INTO buyers VALUES ('ticket', 'no name', 3, '')",
            &["buyer \"no name\", tickets 3, holds \"\" (record)"],
        ),
        (
            "INSERT INTO buyers VALUES ('ticket', x'00ff', 3, '')",
            &["buyer \"\\x00\\xff\", tickets 3, holds \"\" (record)"],
        ),
        ("UPDATE bookings SET counted = 0 WHERE id = 'a'", &["buyer u-81: the ledger counts 2"]),
        ("DROP INDEX holds", &["holds: what is stored cannot be read: the index is missing"]),
        (unindexed, &["booking a: is held until", "would never expire"]),
        ("UPDATE sales SET clock_ms = 4000000000000", &["clock: the sale's clock is at 2096-"]),
    ];
    for (statement, named) in cases {
        let (_file, mut ledger) = sqlite_with(statement);
        is_mended(&mut ledger, statement, named);
    }
}

#[test]
fn what_nothing_explains_is_named_in_sqlite() {
    let cases: &[(&str, &[&str])] = &[
        ("UPDATE bookings SET status = 'odd' WHERE id = 'a'", &["id \"a\", status \"odd\", quantity 2"]),
        ("UPDATE bookings SET quantity = 0 WHERE id = 'a'", &["id \"a\", status \"held\", quantity 0"]),
        (
            "UPDATE bookings SET id = 'bad id' WHERE id = 'a'",
            &["id \"bad id\"", "booking a: is 2 held until"],
        ),
        ("UPDATE bookings SET id = x'ff' WHERE id = 'a'", &["id \"\\xff\""]),
        ("UPDATE bookings SET id = '' WHERE id = 'a'", &["id \"\", status"]),
        ("UPDATE bookings SET expires_at_ms = NULL WHERE id = 'a'", &["expires_at_ms NULL"]),
        (
            "DELETE FROM bookings WHERE id = 'a'",
            &["booking a: is 2 held until", "the ledger has no such booking"],
        ),
        (
            "UPDATE bookings SET quantity = 3 WHERE id = 'b'",
            &["booking b: is 3 confirmed for u.82 in the ledger, but 1"],
        ),
        (
            "UPDATE bookings SET expires_at_ms = expires_at_ms + 5 WHERE id = 'a'",
            &["booking a: is 2 held until", "in the ledger, but 2 held until"],
        ),
        (
            "UPDATE bookings SET sequence = 2 WHERE id = 'a'",
            &["booking a: is at sequence 2 in the ledger, but at 1 according to its log"],
        ),
        (
            "INSERT INTO bookings VALUES ('ticket', 'ghost', 'confirmed', 1, NULL, 0, NULL, 9, 0, NULL, 0)",
            &["booking ghost: is 1 confirmed for nobody in the ledger, but its log never says so"],
        ),
        ("DELETE FROM log WHERE sequence = 3", &["log: sequence 4 follows 2, with a gap or out of order"]),
        ("UPDATE sales SET sequence = 7", &["log: ends at sequence 6, but the sale is at 7"]),
        ("DELETE FROM log", &["log: has no entries"]),
        (
            "UPDATE log SET status = 'odd' WHERE sequence = 2",
            &["log: what is stored cannot be read: sequence 2"],
        ),
        (
            "UPDATE log SET at_ms = 5 WHERE sequence = 3",
            &["log: sequence 3 is at 1970-01-01T00:00:00.005Z, earlier"],
        ),
        ("UPDATE sales SET total = 3", &["oversold: 4 tickets held and sold, of 3"]),
        ("UPDATE sales SET per_buyer = 1", &["buyer u-81: has 2 tickets, but the limit is 1"]),
    ];
    for (statement, named) in cases {
        let (_file, mut ledger) = sqlite_with(statement);
        stays(&mut ledger, statement, named);
    }
}

fn repairing(version: u64, sequence: u64, repairs: Vec<Repair>) -> Call {
    SaleOp::Repair { version, sequence, repairs }.on(sale())
}

fn on_both(test: impl Fn(&mut dyn Subject)) {
    test(&mut SqliteSubject::new());
    test(&mut RedisSubject::new());
}

/// All that an audit reads.
fn all_rows(ledger: &mut dyn Subject) -> Vec<Answer> {
    let parts = [Part::Bookings, Part::Holds, Part::Buyers, Part::Log];
    let survey = |part| SaleOp::Survey { part, cursor: String::new() }.on(sale());
    let answers = parts.map(|part| match ledger.ask(survey(part)) {
        // Redis' own clock goes on.
        Answer::Sale { state, result: SaleResult::Surveyed { clock, rows, next, done, .. } } => {
            Answer::Sale {
                state,
                result: SaleResult::Surveyed { clock, time: WallTime(0), rows, next, done },
            }
        }
        other => panic!("{other:?}"),
    });
    answers.into()
}

#[test]
fn a_repair_of_a_sale_that_has_moved_does_nothing() {
    on_both(|ledger| {
        ledger.ask(open_on(SaleTerms {
            total: 5,
            hold_ms: Some(500),
            per_buyer: Some(5),
            ..SaleTerms::default()
        }));
        ledger.ask(reserve([claim("a", 2, Some("u-81"))]));
        let before = all_rows(ledger);
        let buyer = BuyerId::parse("u-81").unwrap();
        let mends = || {
            vec![
                Repair::Buyer { buyer, tickets: BuyerTickets { confirmed: 9, holds: Vec::new() } },
                Repair::Hold { expires_at: WallTime(7), ids: vec![id("a")] },
                Repair::Clock { to: WallTime(START + 9_000) },
                Repair::Counts { held: 4, sold: 1 },
            ]
        };
        for (version, sequence) in [(1, 0), (1, 2), (0, 1), (2, 1)] {
            let answer = ledger.ask(repairing(version, sequence, mends()));
            let moved =
                matches!(answer, Answer::Sale { result: SaleResult::Refused(ChangeFault::Moved), .. });
            assert!(moved, "{}: {answer:?}", ledger.name());
        }
        // Counts above the total are refused, with all else in the call.
        let mut too_many = mends();
        too_many.push(Repair::Counts { held: 4, sold: 2 });
        let answer = ledger.ask(repairing(1, 1, too_many));
        let too_high =
            matches!(answer, Answer::Sale { result: SaleResult::Refused(ChangeFault::CountsTooHigh), .. });
        assert!(too_high, "{}: {answer:?}", ledger.name());
        assert_eq!(all_rows(ledger), before, "{}", ledger.name());
        // A hold that is over is not swept by a repair: that would move the sale.
        ledger.set_time(START + 600);
        let after = state(ledger.ask(repairing(1, 1, vec![Repair::Counts { held: 4, sold: 1 }])));
        assert_eq!(
            (after.held, after.sold, after.sequence, after.version),
            (4, 1, 1, 1),
            "{}",
            ledger.name()
        );
        assert_eq!(
            ledger.ask(SaleOp::Repair { version: 1, sequence: 1, repairs: vec![] }.on(sale_named("none"))),
            Answer::Missing
        );
        assert_eq!(
            ledger.ask(SaleOp::Survey { part: Part::Log, cursor: String::new() }.on(sale_named("none"))),
            Answer::Missing
        );
    });
}

fn sale_named(text: &str) -> SaleName {
    SaleName::parse(text).unwrap()
}

#[test]
fn a_hold_that_was_mended_expires_and_gives_its_tickets_back() {
    let mut ledger = RedisSubject::new();
    ledger.ask(open_on(SaleTerms {
        total: 200,
        hold_ms: Some(500),
        per_buyer: Some(5),
        ..SaleTerms::default()
    }));
    let names: Vec<String> = (0..150).map(|n| format!("b-{n}")).collect();
    ledger.ask(reserve(names.iter().map(|name| claim(name, 1, Some(name)))));
    ledger.ask(reserve([claim(UUID, 1, Some("u-81"))]));
    redis::cmd("DEL").arg(HOLDS).exec(&mut ledger.server.connection()).unwrap();
    let mut findings = audit_of(&mut ledger.ledger, sale());
    // The test's clock is ahead of Redis' on purpose.
    assert!(findings.listed.iter().any(|difference| difference.kind == Kind::Clock));
    findings.mends.retain(|mend| !matches!(mend.repair, Repair::Clock { .. }));
    assert_eq!(findings.differences, 152, "{}", report(&findings));
    assert_eq!(findings.mends.len(), 3, "151 bookings of one deadline are three groups");
    assert_eq!(repair(&mut ledger.ledger, &findings).unwrap(), Repaired::Done);
    ledger.set_time(START + 500);
    assert_eq!(state(ledger.ask(expire())).held, 0);
    assert_eq!(ledger.ask(look_up(&["b-149", UUID])).clone(), {
        let expired = |text: &str, buyer: &str| {
            let buyer = Some(BuyerId::parse(buyer).unwrap());
            Some(Booking {
                id: id(text),
                status: BookingStatus::Expired,
                quantity: Quantity::ONE,
                released: 0,
                buyer,
                reassigned: 0,
            })
        };
        let state = state(ledger.ask(snapshot()));
        Answer::Sale {
            state,
            result: SaleResult::Found(vec![expired("b-149", "b-149"), expired(UUID, "u-81")]),
        }
    });
}

#[test]
fn a_repair_on_a_key_of_another_type_changes_nothing() {
    let mut redis = Planted::new();
    for key in [HOLDS, BUYERS] {
        redis.again();
        redis.plant(&[&["DEL", key], &["SET", key, "x"]]);
        let calls = [repairing(1, 6, vec![Repair::Counts { held: 0, sold: 0 }]), snapshot()];
        let mut answers = redis.ledger.execute(&calls).into_iter();
        assert!(answers.next().unwrap().is_err());
        let after = state(answers.next().unwrap().unwrap());
        assert_eq!((after.held, after.sold), (3, 1));
    }
}

/// More than a page of everything, while another client books, pays, cancels and lets holds run out.
#[test]
fn an_audit_of_a_sale_in_motion_sees_one_moment() {
    let server = RedisServer::on_socket(&[]);
    let mut ledger = connect(&server);
    let terms = SaleTerms { total: 100_000, hold_ms: Some(20), per_buyer: Some(50), ..SaleTerms::default() };
    ledger.execute(&[open_on(terms)]).remove(0).unwrap();
    let batch = |ledger: &mut RedisLedger, round: usize| {
        let names: Vec<String> = (0..40).map(|n| format!("r{round}-{n}")).collect();
        let buyers: Vec<String> = (0..40).map(|n| format!("u-{}", (round * 40 + n) % 997)).collect();
        let each = || names.iter().map(String::as_str);
        let calls = [
            reserve(each().zip(&buyers).map(|(name, buyer)| claim(name, 1, Some(buyer)))),
            confirm(&each().take(15).collect::<Vec<_>>()),
            cancel(&each().skip(10).take(15).collect::<Vec<_>>()),
        ];
        ledger.execute(&calls).into_iter().for_each(|answer| drop(answer.unwrap()));
    };
    (0..30).for_each(|round| batch(&mut ledger, round));
    let done = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        let mut other = connect(&server);
        let done = &done;
        let seller = scope.spawn(move || {
            let mut round = 30;
            while !done.load(relaxed) {
                batch(&mut other, round);
                round += 1;
                // So that there is an end to what changed meanwhile.
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            round
        });
        // Also if the audit finds something: the seller would sell for ever.
        struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let stop = Stop(done);
        let mut sequences = Vec::new();
        for _ in 0..4 {
            let findings = audit_of(&mut ledger, sale());
            assert_eq!(findings.differences, 0, "{}", report(&findings));
            sequences.push(findings.state.sequence);
        }
        drop(stop);
        assert!(
            seller.join().unwrap() > 30 && sequences[0] < sequences[3],
            "it was in motion: {sequences:?}"
        );
    });
}
