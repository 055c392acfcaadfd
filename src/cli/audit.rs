//! `boxoffice audit`: the command around [`crate::audit`].

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::office::refusal;
use super::screen::{Screen, plain};
use super::{CommandError, HostFlag, LedgerFlag};
use crate::audit::{Audit, AuditError, Findings, Repaired, Sources, repair};
use crate::booking::SaleName;
use crate::client::{AskHost, HostAnswer, HostError, HostRequest};
use crate::ledger::Ledger;
use crate::protocol::{Answer, Call, CallError, SaleResult};

/// Who hears how many rows were read, and about how many there are; `None` once it is over.
pub type AuditProgress<'a> = &'a mut dyn FnMut(Option<(u64, u64)>);

/// How often a repair is tried, of a sale that moves on each time.
const ATTEMPTS: u32 = 3;

/// `boxoffice audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Give the access logs of all hosts that sell the sale: a booking whose line is in none of \
    them is a difference. Exit status: 0 no difference (or none any more), 1 some difference or the audit failed, 2 wrong \
    usage."
)]
pub struct AuditFlags {
    /// The sale
    pub name: SaleName,
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerFlag,
    /// Or by which host, which reads its ledger slowly so that it is not in the way of sales.
    #[command(flatten)]
    pub host: HostFlag,
    /// Access logs to compare with the bookings
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "admin")]
    pub access_log: Vec<PathBuf>,
    /// Metrics of the hosts to compare with the bookings: http://ADDR:PORT/metrics, or files with them
    #[arg(long, value_name = "URL|FILE", num_args = 1.., conflicts_with = "admin")]
    pub metrics: Vec<String>,
    /// Repair counts, buyers' tickets, the index of holds and the list of sales; never bookings or the log. Refused while
    /// a difference is unexplained
    #[arg(long, conflicts_with = "admin")]
    pub repair: bool,
    /// Report as one JSON object
    #[arg(long, conflicts_with = "repair")]
    pub json: bool,
}

/// What an audit came to; it has written its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// How many differences there are, after the repair if one was asked for; the exit status is 1 if there are any.
    pub differences: u64,
}

impl AuditFlags {
    /// Audits and writes a report: what was counted, notes, each difference by id, and the verdict in the last line.
    /// Repairs if that was asked for, and audits again. `told` hears how far it is.
    ///
    /// # Errors
    /// If the sale, its ledger, a file or a host cannot be read, or the report not be written.
    pub fn run(
        &self,
        ledger: &mut dyn Ledger,
        out: &mut dyn Write,
        sources: &dyn Sources,
        told: AuditProgress<'_>,
    ) -> Result<AuditReport, CommandError> {
        let audit = Audit { sale: self.name, access_logs: &self.access_log, metrics: &self.metrics };
        let mut watched = WatchedLedger { ledger: &mut *ledger, told, rows: 0 };
        let read = audit.run(&mut watched, sources);
        (watched.told)(None);
        let mut findings = read?;
        if self.json {
            writeln!(out, "{}", findings.json())?;
        } else {
            write_report(out, &findings)?;
        }
        if self.repair && findings.differences > 0 {
            findings = self.repair(ledger, out, sources, &audit, findings)?;
        }
        out.flush()?;
        Ok(AuditReport { differences: findings.differences })
    }

    /// Has a host do it, and writes the same report.
    ///
    /// # Errors
    /// See [`audit_by_host`].
    pub fn run_by_host(
        &self,
        host: &mut dyn AskHost,
        screen: &mut Screen<'_>,
        told: AuditProgress<'_>,
    ) -> Result<AuditReport, CommandError> {
        let findings = audit_by_host(host, self.name, told)?;
        let differences = findings["differences_total"].as_u64().ok_or_else(|| {
            CommandError::Unexpected("an audit that does not say how many differences there are".to_owned())
        })?;
        match self.json {
            true => screen.json(&findings.to_string())?,
            false => lines_of(&findings, differences).iter().try_for_each(|line| screen.line(line))?,
        }
        Ok(AuditReport { differences })
    }

    fn repair(
        &self,
        ledger: &mut dyn Ledger,
        out: &mut dyn Write,
        sources: &dyn Sources,
        audit: &Audit<'_>,
        mut findings: Findings,
    ) -> Result<Findings, CommandError> {
        for attempt in 1..=ATTEMPTS {
            if findings.unexplained > 0 {
                writeln!(
                    out,
                    "refused     {} of the differences above do not follow from a wrong count or index, and to mend the \
                     others might hide why; nothing was changed",
                    findings.unexplained
                )?;
                return Ok(findings);
            }
            if findings.mends.is_empty() {
                writeln!(out, "refused     there is nothing that a repair could change")?;
                return Ok(findings);
            }
            let repaired = repair(ledger, &findings)?;
            let done = match repaired {
                Repaired::Done => findings.mends.len(),
                Repaired::Moved(done) => done,
            };
            for said in findings.mends[..done].iter().flat_map(|mend| &mend.said) {
                writeln!(out, "repaired    {said}")?;
            }
            if repaired != Repaired::Done && attempt == ATTEMPTS {
                writeln!(
                    out,
                    "refused     the sale changed between each of {ATTEMPTS} audits and its repair; pause it and try again"
                )?;
                return Ok(findings);
            }
            findings = audit.run(ledger, sources)?;
            if repaired == Repaired::Done {
                break;
            }
            writeln!(out, "note        the sale changed before it was repaired: audited again")?;
        }
        write_report(out, &findings)?;
        Ok(findings)
    }
}

/// The lines of a report, as [`Findings::lines`] has them.
fn lines_of(findings: &Value, differences: u64) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for word in COUNTED {
        let counted = &findings["counted"][word];
        lines.extend(counted.as_str().map(|line| format!("{word:<12}{line}")));
    }
    let list = |name: &str| findings[name].as_array().cloned().unwrap_or_default();
    lines.extend(list("notes").iter().map(|note| format!("{:<12}{}", "note", text(note))));
    let listed = list("differences");
    lines.extend(listed.iter().map(|it| {
        let (subject, how, kind) = (text(&it["subject"]), text(&it["text"]), text(&it["kind"]));
        format!("{:<12}{subject}: {how} ({kind})", "difference")
    }));
    let unlisted = differences.saturating_sub(listed.len() as u64);
    if unlisted > 0 {
        lines.push(format!("{:<12}and {unlisted} more", "difference"));
    }
    let verdict = match differences {
        0 => "no difference".to_owned(),
        1 => "1 difference".to_owned(),
        count => format!("{count} differences"),
    };
    lines.push(format!("{:<12}{verdict}", "audit"));
    lines
}

/// What an audit by a host counts, in the order of a report.
const COUNTED: [&str; 3] = ["sale", "bookings", "log"];

/// A ledger, and how much of it was read.
struct WatchedLedger<'a> {
    ledger: &'a mut dyn Ledger,
    told: AuditProgress<'a>,
    rows: u64,
}

impl Ledger for WatchedLedger<'_> {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let answers = self.ledger.execute(calls);
        for answer in answers.iter().flatten() {
            if let Answer::Sale { state, result: SaleResult::Surveyed { rows, .. } } = answer {
                self.rows += rows.len() as u64;
                (self.told)(Some((self.rows, whole(state.sequence))));
            }
        }
        answers
    }
}

/// About how many rows there are: a log entry for each change of a booking, and no more bookings than that.
fn whole(sequence: u64) -> u64 {
    2 * sequence
}

/// Has a host audit a sale: the findings, as JSON. `told` hears how far it is.
///
/// # Errors
/// If the host cannot be asked, or does not come to an end.
pub fn audit_by_host(
    host: &mut dyn AskHost,
    sale: SaleName,
    told: AuditProgress<'_>,
) -> Result<Value, CommandError> {
    let request = HostRequest::new("POST", format!("/v1/sales/{sale}/audit"));
    let mut outcome = None;
    let answer = host.events(&request, &mut |name, data| {
        match name {
            "progress" => {
                let progress: Value = serde_json::from_str(data).unwrap_or_default();
                let number = |name: &str| progress[name].as_u64().unwrap_or(0);
                told(Some((number("rows"), whole(number("sequence")))));
            }
            "findings" | "failed" => outcome = Some((name == "findings", data.to_owned())),
            _ => {}
        }
        outcome.is_none()
    });
    told(None);
    let answer = answer?;
    let garbled = |what: String| HostError::Garbled { address: host.address().to_owned(), what };
    match outcome {
        Some((true, findings)) => {
            serde_json::from_str(&findings).map_err(|error| garbled(error.to_string()).into())
        }
        Some((false, body)) => {
            Err(refusal(host.address(), Some(sale), &HostAnswer { status: answer.status, body }))
        }
        None if answer.status == 200 => Err(garbled("its audit has no end".to_owned()).into()),
        None => Err(refusal(host.address(), Some(sale), &answer)),
    }
}

fn write_report(out: &mut dyn Write, findings: &Findings) -> io::Result<()> {
    findings.lines().iter().try_for_each(|line| writeln!(out, "{}", plain(line)))
}

impl From<AuditError> for CommandError {
    fn from(error: AuditError) -> CommandError {
        match error {
            AuditError::NoSuchSale(sale) => CommandError::NoSuchSale(sale, None),
            AuditError::Ledger(error) => CommandError::Ledger(error),
            AuditError::Unexpected(text) => CommandError::Unexpected(text),
            AuditError::Source { name, error } => CommandError::File { path: name, error },
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_audit_that_fails_is_a_command_that_fails() {
        let sale = SaleName::parse("tickets").unwrap();
        let error = CommandError::from(AuditError::NoSuchSale(sale));
        assert!(matches!(error, CommandError::NoSuchSale(named, None) if named == sale), "{error}");
        assert_eq!(error.exit_status(), 1);
        let error = io::Error::from(io::ErrorKind::NotFound);
        let missing = CommandError::from(AuditError::Source { name: "missing.log".to_owned(), error });
        assert_eq!(
            (missing.to_string().as_str(), missing.exit_status()),
            ("missing.log: entity not found", 1)
        );
    }

    #[test]
    fn a_host_tells_the_same_report_as_a_ledger() {
        use crate::audit::Audit;
        use crate::booking::SaleTerms;
        use crate::ledger::for_tests::{TestLedger, claim, name};

        struct Nothing;

        impl Sources for Nothing {
            fn access_log(&self, _: &std::path::Path) -> io::Result<Box<dyn io::BufRead>> {
                Err(io::ErrorKind::Unsupported.into())
            }
            fn metrics(&self, _: &str, _: bool) -> io::Result<String> {
                Err(io::ErrorKind::Unsupported.into())
            }
        }

        let mut ledger = TestLedger::with("ticket", SaleTerms { total: 9, ..SaleTerms::default() });
        ledger.book("ticket", &[claim("a", 2, None), claim("b", 1, None)]);
        let (mut read, mut of) = (0, 0);
        let mut told = |progress: Option<(u64, u64)>| (read, of) = progress.unwrap_or((read, of));
        let mut watched = WatchedLedger { ledger: &mut ledger, told: &mut told, rows: 0 };
        let audit = Audit { sale: name("ticket"), access_logs: &[], metrics: &[] };
        let mut findings = audit.run(&mut watched, &Nothing).unwrap();
        assert!(read >= 4 && of == 4, "{read} of {of}");
        assert_eq!(lines_of(&findings.json(), 0), findings.lines());
        findings.notes = vec!["something".to_owned()];
        let (kind, subject, text) = (crate::audit::Kind::Count, "held".to_owned(), "is 5".to_owned());
        findings.listed = vec![crate::audit::Difference { kind, subject, text }];
        for differences in [1, 7] {
            findings.differences = differences;
            assert_eq!(lines_of(&findings.json(), differences), findings.lines());
        }
    }
}
