//! `boxoffice rehearse`: a crowd at a sale of its own, what came of it, and whether that is right.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::office::{Office, SaleShown, read};
use super::sale::or_none;
use super::screen::{Cell, Column, Screen};
use super::{CommandError, OneHostFlag, TermValue};
use crate::booking::{SaleChange, SaleName, SaleStatus, SaleTerms};
use crate::config::{DEFAULT_LISTEN, parse_hold_ms, parse_span, parse_stock};
use crate::rehearsal::{
    BUYERS_MAX, BuyerAnswer, CONNECTIONS_MAX, CrowdError, Plan, ProgressShown, RATE_MAX, Tally,
};

/// What the name of a sale for rehearsals begins with: a real one cannot be mistaken for it.
const PREFIX: &str = "rehearsal-";

/// How many come for each ticket, if nothing is said.
const BUYERS_A_TICKET: u64 = 10;

/// Without any patience nobody would hear anything.
const PATIENCE_MIN: Duration = Duration::from_millis(1);

/// The latencies that are told, as parts of one.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// `boxoffice rehearse`.
#[derive(Debug, Args)]
#[command(
    after_help = "It opens the sale, lets the crowd in, audits what came of it, and removes the sale. Exit status: 0 it came out \
    right, 1 it did not, or failed.\n\nExample: boxoffice rehearse rehearsal-1 --buyers 100000 --rate 5000"
)]
pub struct RehearseFlags {
    /// The sale that is made for it; begins with rehearsal-, and must not be there
    #[arg(value_parser = rehearsal_name)]
    pub name: SaleName,
    /// By which host the sale is opened, audited and removed.
    #[command(flatten)]
    pub host: OneHostFlag,
    /// Where the buyers ask, a host or what is in front of it (repeatable: shared among these)
    #[arg(long, value_name = "ADDR:PORT", default_value = DEFAULT_LISTEN)]
    to: Vec<SocketAddr>,
    /// How many buyers come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=BUYERS_MAX))]
    buyers: u64,
    /// How many of them a second
    #[arg(long, value_name = "R", default_value = "1000", value_parser = parse_rate)]
    rate: f64,
    /// Tickets there are, one a buyer [default: a tenth of the buyers]
    #[arg(long, value_name = "N", value_parser = parse_stock)]
    stock: Option<u64>,
    /// How long a ticket is held until it is paid for; none: it is sold at once
    #[arg(long, value_name = "DURATION|none", default_value = "1m", value_parser = or_none(parse_hold_ms))]
    hold: TermValue<u64>,
    /// The part of those with a held ticket that pays
    #[arg(long, value_name = "PART", default_value = "0.8", value_parser = parse_part)]
    pay: f64,
    /// The part of them that gives it back; the rest lets the hold run out
    #[arg(long, value_name = "PART", default_value = "0.1", value_parser = parse_part)]
    give_back: f64,
    /// How long they think before they do
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_span)]
    think: Duration,
    /// How long a buyer waits for an answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_patience)]
    patience: Duration,
    /// How often a buyer tries again who was sold out, told to come later, or not answered
    #[arg(long, value_name = "N", default_value = "1")]
    retries: u32,
    /// How long before that
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_span)]
    retry_after: Duration,
    /// Connections that the buyers share
    #[arg(long, value_name = "N", default_value = "256", value_parser = parse_connections)]
    connections: usize,
    /// What all chance comes from: the same crowd again
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Keep the sale
    #[arg(long)]
    keep: bool,
    /// Report as one JSON object
    #[arg(long)]
    json: bool,
}

fn rehearsal_name(text: &str) -> Result<SaleName, String> {
    let name = SaleName::parse(text).map_err(|error| error.to_string())?;
    match name.as_str().strip_prefix(PREFIX) {
        Some(rest) if !rest.is_empty() => Ok(name),
        _ => Err(format!(
            "takes a name that begins with {PREFIX}, such as {PREFIX}{text}: no real sale is rehearsed on"
        )),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= RATE_MAX);
    rate.ok_or_else(|| format!("takes a number above 0, at most {RATE_MAX}"))
}

fn parse_patience(text: &str) -> Result<Duration, String> {
    parse_span(text)?
        .checked_sub(PATIENCE_MIN)
        .map(|more| more + PATIENCE_MIN)
        .ok_or_else(|| "takes 1ms to 1h".to_owned())
}

fn parse_part(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|part| (0.0..=1.0).contains(part)).ok_or_else(|| "takes 0 to 1".to_owned())
}

fn parse_connections(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=CONNECTIONS_MAX).contains(count));
    count.ok_or_else(|| format!("takes 1 to {CONNECTIONS_MAX}"))
}

/// What a rehearsal needs of the world.
pub trait Rehearsing {
    /// Waits until every host of the plan has the sale.
    ///
    /// # Errors
    /// If one does not come to have it.
    fn wait_for_sale(&mut self, plan: &Plan) -> Result<(), CommandError>;

    /// As [`crate::rehearsal::run`].
    ///
    /// # Errors
    /// Likewise.
    fn crowd(&mut self, plan: &Plan) -> Result<Tally, CrowdError>;

    /// As [`crate::rehearsal::give_back`].
    ///
    /// # Errors
    /// Likewise.
    fn give_back(&mut self, plan: &Plan, buyers: &[u64]) -> Result<Tally, CrowdError>;

    /// The findings of an audit of the sale, as JSON.
    ///
    /// # Errors
    /// If there are none.
    fn audit(&mut self, sale: SaleName) -> Result<Value, CommandError>;
}

/// How a rehearsal came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Passed,
    /// Not so; the report says how.
    Failed,
}

impl RehearseFlags {
    /// Carries it out, and writes a report.
    ///
    /// # Errors
    /// If there is no sale, no crowd or no audit; the sale is removed all the same.
    pub fn run(
        &self,
        office: &mut dyn Office,
        world: &mut dyn Rehearsing,
        screen: &mut Screen<'_>,
        threads: usize,
    ) -> Result<Verdict, CommandError> {
        let plan = self.plan(threads);
        let terms = SaleTerms {
            total: self.stock.unwrap_or_else(|| (self.buyers / BUYERS_A_TICKET).max(1)),
            hold_ms: self.hold.into(),
            ..SaleTerms::default()
        };
        office.open(self.name, terms).map_err(|error| match error {
            CommandError::SaleExists(sale) => CommandError::RehearsedAlready(sale),
            error => error,
        })?;
        let done = world.wait_for_sale(&plan).and_then(|()| {
            let tally = world.crowd(&plan)?;
            let sale: SaleShown = read(&office.sale(self.name)?)?;
            let audit = world.audit(self.name)?;
            Ok((tally, sale, audit))
        });
        let (tally, sale, audit) = match done {
            Ok(done) => done,
            Err(error) => {
                // What went wrong first is what is told.
                let _ = self.clean_up(office, world, &plan, &[]);
                return Err(error);
            }
        };
        let faults = faults(&tally, &sale, &audit);
        match self.json {
            true => screen.json(&self.report(&tally, &sale, &audit, &faults).to_string())?,
            false => self.write(screen, &tally, &sale, &audit, &faults)?,
        }
        if let Err(error) = self.clean_up(office, world, &plan, &tally.may_hold) {
            return Err(CommandError::NotCleanedUp { sale: self.name, error: Box::new(error) });
        }
        Ok(if faults.is_empty() { Verdict::Passed } else { Verdict::Failed })
    }

    fn plan(&self, threads: usize) -> Plan {
        Plan {
            hosts: self.to.clone(),
            sale: self.name.to_string(),
            prefix: "buyer".to_owned(),
            buyers: self.buyers,
            rate: self.rate,
            pay: self.pay,
            give_back: self.give_back,
            think: self.think,
            patience: self.patience,
            retries: self.retries,
            retry_after: self.retry_after,
            connections: self.connections,
            threads: threads.clamp(1, self.connections),
            seed: self.seed,
        }
    }

    /// How many connections the buyers share.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How far the crowd is, for a bar.
    pub fn progress(&self, shown: ProgressShown) -> (u64, u64, String) {
        let ProgressShown { done, booked, refused } = shown;
        (done, self.buyers, format!("{done} buyers, {booked} booked, {refused} without"))
    }

    fn clean_up(
        &self,
        office: &mut dyn Office,
        world: &mut dyn Rehearsing,
        plan: &Plan,
        may_hold: &[u64],
    ) -> Result<(), CommandError> {
        if self.keep {
            return Ok(());
        }
        office.change(
            self.name,
            SaleChange { status: Some(SaleStatus::Closed), ..SaleChange::default() },
            None,
        )?;
        // A sale of which something is held cannot be removed.
        if !may_hold.is_empty() {
            world.give_back(plan, may_hold)?;
        }
        office.remove(self.name)
    }

    fn write(
        &self,
        screen: &mut Screen<'_>,
        tally: &Tally,
        sale: &SaleShown,
        audit: &Value,
        faults: &[String],
    ) -> Result<(), CommandError> {
        let titles = ["P50", "P90", "P99", "P99.9"];
        let columns: Vec<Column> = [Column::Words("REQUEST"), Column::Numbers("COUNT")]
            .into_iter()
            .chain(titles.map(Column::Numbers))
            .chain([Column::Numbers("MAX")])
            .collect();
        let rows: Vec<Vec<Cell>> = tally
            .latencies
            .iter()
            .map(|(act, latencies)| {
                let quantiles = QUANTILES.map(|(_, part)| latencies.value_at_quantile(part));
                let times = quantiles.into_iter().chain([latencies.max()]).map(|ns| Cell::new(in_words(ns)));
                [Cell::new(act.words()), Cell::new(latencies.len().to_string())]
                    .into_iter()
                    .chain(times)
                    .collect()
            })
            .collect();
        screen.table(&columns, &rows)?;
        screen.line("")?;
        let answers: Vec<Vec<Cell>> = tally
            .heard
            .iter()
            .map(|((act, heard), count)| {
                vec![Cell::new(act.words()), Cell::new(heard.words()), Cell::new(count.to_string())]
            })
            .collect();
        screen.table(
            &[Column::Words("REQUEST"), Column::Words("ANSWER"), Column::Numbers("COUNT")],
            &answers,
        )?;
        screen.line("")?;
        let number = |number: Option<u64>| number.unwrap_or(0);
        let differences = audit["differences_total"].as_u64().unwrap_or(0);
        screen.record(&[
            ("buyers", Cell::new(format!("{} in {:.1} s", tally.buyers, tally.took.as_secs_f64()))),
            (
                "tickets",
                Cell::new(format!(
                    "{} in all, {} sold, {} held, {} available",
                    number(sale.total),
                    number(sale.sold),
                    number(sale.held),
                    number(sale.available)
                )),
            ),
            (
                "audit",
                Cell::new(match differences {
                    0 => "no difference".to_owned(),
                    1 => "1 difference".to_owned(),
                    more => format!("{more} differences"),
                }),
            ),
        ])?;
        for difference in audit["differences"].as_array().into_iter().flatten() {
            let word = |name: &str| difference[name].as_str().unwrap_or_default().to_owned();
            screen.line(&format!("difference {}: {} ({})", word("subject"), word("text"), word("kind")))?;
        }
        for fault in faults {
            screen.line(&format!("wrong      {fault}"))?;
        }
        if self.keep {
            screen.line(&format!("kept       boxoffice sale show {}", self.name))?;
        }
        screen.line(if faults.is_empty() { "verdict    right" } else { "verdict    wrong" })
    }

    fn report(&self, tally: &Tally, sale: &SaleShown, audit: &Value, faults: &[String]) -> Value {
        let us = |ns: u64| ns as f64 / 1000.0;
        let latencies: serde_json::Map<String, Value> = tally
            .latencies
            .iter()
            .map(|(act, latencies)| {
                let mut told = json!({ "count": latencies.len(), "max": us(latencies.max()) });
                for (name, part) in QUANTILES {
                    told[name] = json!(us(latencies.value_at_quantile(part)));
                }
                (act.words().to_owned(), told)
            })
            .collect();
        let mut answers = json!({});
        for ((act, heard), count) in &tally.heard {
            answers[act.words()][heard.words()] = json!(count);
        }
        json!({
            "sale": sale.sale, "total": sale.total, "sold": sale.sold, "held": sale.held, "available": sale.available,
            "buyers": tally.buyers, "seconds": tally.took.as_secs_f64(), "latency_us": latencies, "answers": answers,
            "audit": audit, "wrong": faults, "passed": faults.is_empty(),
        })
    }
}

/// What is not as it should be, a sentence each.
fn faults(tally: &Tally, sale: &SaleShown, audit: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    match audit["differences_total"].as_u64() {
        Some(0) => {}
        Some(differences) => faults.push(format!("the audit found {differences} differences")),
        None => faults.push("the audit did not say how many differences there are".to_owned()),
    }
    let (total, held, sold) = (sale.total.unwrap_or(0), sale.held.unwrap_or(0), sale.sold.unwrap_or(0));
    if held + sold > total {
        faults.push(format!("{held} tickets are held and {sold} sold, of {total} in all"));
    }
    if sold < tally.sold {
        faults.push(format!("buyers were told of {} sold tickets, and the ledger has {sold}", tally.sold));
    }
    let most = tally.sold + tally.unsure;
    if sold > most {
        faults.push(format!("the ledger has {sold} sold tickets, and buyers know of {most} at most"));
    }
    let silent = tally.count(BuyerAnswer::Silence) + tally.count(BuyerAnswer::Broken);
    if tally.heard.values().sum::<u64>() == silent {
        faults.push("no buyer was answered".to_owned());
    }
    faults
}

/// A time as people read it.
fn in_words(ns: u64) -> String {
    match ns as f64 / 1e9 {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds if seconds >= 1e-3 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{:.0} us", seconds * 1e6),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::office::LedgerOffice;
    use crate::cli::screen::Style;
    use crate::cli::{Cli, Command};
    use crate::ledger::for_tests::{TestLedger, claim};
    use crate::rehearsal::Act;

    /// A world in which the crowd has come and gone.
    struct Played {
        sold: u64,
        differences: u64,
        given_back: Vec<u64>,
    }

    impl Rehearsing for Played {
        fn wait_for_sale(&mut self, _: &Plan) -> Result<(), CommandError> {
            Ok(())
        }

        fn crowd(&mut self, plan: &Plan) -> Result<Tally, CrowdError> {
            let mut tally =
                Tally { buyers: plan.buyers, sold: self.sold, may_hold: vec![7], ..Tally::default() };
            tally.heard.insert((Act::Book, BuyerAnswer::SoldOut), 1);
            Ok(tally)
        }

        fn give_back(&mut self, _: &Plan, buyers: &[u64]) -> Result<Tally, CrowdError> {
            self.given_back = buyers.to_vec();
            Ok(Tally::default())
        }

        fn audit(&mut self, _: SaleName) -> Result<Value, CommandError> {
            let difference = json!({ "kind": "count", "subject": "held", "text": "is 5 and should be 4" });
            Ok(
                json!({ "differences_total": self.differences, "differences": vec![difference; self.differences as usize] }),
            )
        }
    }

    fn rehearse(
        ledger: &mut TestLedger,
        world: &mut Played,
        more: &str,
    ) -> (Result<Verdict, String>, String) {
        let line = format!("boxoffice rehearse rehearsal-a --buyers 50 {more}");
        let Command::Rehearse(flags) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("{line}")
        };
        let mut out = Vec::new();
        let outcome =
            flags.run(&mut LedgerOffice::new(ledger), world, &mut Screen::new(&mut out, Style::default()), 2);
        (outcome.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_rehearsal_is_right_if_ledger_audit_and_buyers_agree_and_leaves_nothing_behind() {
        let mut ledger = TestLedger::new();
        for (sold, differences, verdict, says) in [
            (0, 0, Verdict::Passed, "verdict    right"),
            (0, 1, Verdict::Failed, "difference held: is 5 and should be 4 (count)"),
            (3, 0, Verdict::Failed, "buyers were told of 3 sold tickets, and the ledger has 0"),
        ] {
            let mut world = Played { sold, differences, given_back: Vec::new() };
            let (outcome, said) = rehearse(&mut ledger, &mut world, "");
            assert_eq!(outcome, Ok(verdict), "{said}");
            assert!(said.contains(says) && said.contains("5 in all"), "{said}");
            assert_eq!(world.given_back, [7]);
            assert!(LedgerOffice::new(&mut ledger).sales().unwrap().is_empty());
        }
        let (outcome, said) = rehearse(
            &mut ledger,
            &mut Played { sold: 0, differences: 0, given_back: Vec::new() },
            "--keep --json",
        );
        assert_eq!(outcome, Ok(Verdict::Passed));
        let report: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&report["passed"], &report["answers"]["book"]["sold out"]), (&json!(true), &json!(1)));
        assert_eq!(ledger.state("rehearsal-a").terms.hold_ms, Some(60_000));
    }

    #[test]
    fn a_sale_that_is_there_is_not_rehearsed_on_and_not_touched() {
        let mut ledger = TestLedger::with("rehearsal-a", SaleTerms { total: 9, ..SaleTerms::default() });
        ledger.book("rehearsal-a", &[claim("b", 2, None)]);
        let mut world = Played { sold: 0, differences: 0, given_back: Vec::new() };
        let (outcome, said) = rehearse(&mut ledger, &mut world, "");
        assert!(outcome.unwrap_err().contains("boxoffice sale remove rehearsal-a"), "{said}");
        assert_eq!((ledger.state("rehearsal-a").sold, said.as_str()), (2, ""));
        for line in [
            "ticket --buyers 5",
            "rehearsal- --buyers 5",
            "rehearsal-a --buyers 0",
            "rehearsal-a --buyers 5 --pay 1.1",
        ] {
            let words = ["boxoffice", "rehearse"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn what_the_ledger_sold_is_known_to_buyers_but_for_those_who_were_not_answered() {
        let sale: SaleShown =
            read(r#"{"sale":"rehearsal-a","status":"open","total":10,"held":1,"sold":8,"available":1}"#)
                .unwrap();
        let audit = json!({ "differences_total": 0 });
        let mut tally = Tally { sold: 6, unsure: 2, ..Tally::default() };
        tally.heard.insert((Act::Book, BuyerAnswer::Sold), 6);
        assert_eq!(faults(&tally, &sale, &audit), [""; 0]);
        tally.unsure = 1;
        assert_eq!(
            faults(&tally, &sale, &audit),
            ["the ledger has 8 sold tickets, and buyers know of 7 at most"]
        );
        let over = SaleShown { total: Some(8), ..sale };
        tally.unsure = 2;
        assert_eq!(faults(&tally, &over, &audit), ["1 tickets are held and 8 sold, of 8 in all"]);
        tally.heard = [((Act::Book, BuyerAnswer::Silence), 6)].into();
        assert_eq!(faults(&tally, &over, &json!({})).len(), 3);
    }

    #[test]
    fn times_are_told_in_units_of_their_own() {
        for (ns, words) in
            [(999, "1 us"), (250_000, "250 us"), (1_500_000, "1.50 ms"), (2_000_000_000, "2.00 s")]
        {
            assert_eq!(in_words(ns), words);
        }
    }
}
