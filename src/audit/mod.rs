//! Recounts a sale: reads all that is stored of it, replays its log, holds access logs and metrics against both, and names
//! each difference. [`repair`] mends what follows from bookings and log, and nothing else.
//!
//! The order of an audit: access logs and metrics first, since a booking is in the ledger before anyone is told of it; then
//! the log, bookings, holds and buyers, page by page; then, until there are no more, the changes that the log got
//! meanwhile, each with what is stored now of its booking. What is known then is the sale at one sequence, though it was
//! sold from all the while ([`view`]). [`judge`] compares; [`findings`] lists.

mod access;
mod findings;
mod judge;
mod metrics;
mod view;

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

pub use findings::{Difference, Findings, Kind, Mend};

use crate::booking::{SaleName, SaleState};
use crate::ledger::Ledger;
use crate::limits::REPAIRS_PER_CALL_MAX;
use crate::protocol::{Answer, Call, CallError, ChangeFault, LedgerOp, LedgerResult, SaleOp, SaleResult};
use access::AccessCount;
use metrics::MetricsCount;
use view::View;

/// How often a sale is read, if its log was trimmed meanwhile or its hosts' gauges are of another moment.
const ATTEMPTS: u32 = 3;

/// What is audited, and what is held against it.
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    /// Which sale.
    pub sale: SaleName,
    /// Access logs of the hosts that sell it.
    pub access_logs: &'a [PathBuf],
    /// Where the metrics of those hosts are: addresses or files.
    pub metrics: &'a [String],
}

/// What opens files and asks hosts: an audit does not do so itself.
pub trait Sources {
    /// Opens an access log.
    ///
    /// # Errors
    /// If it cannot be opened.
    fn access_log(&self, path: &Path) -> io::Result<Box<dyn BufRead>>;

    /// Reads a host's metrics. With `again` what was read before was of another moment than the ledger: a host syncs
    /// every [`crate::limits::SYNC_INTERVAL_MS`].
    ///
    /// # Errors
    /// If they cannot be read.
    fn metrics(&self, source: &str, again: bool) -> io::Result<String>;
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The ledger has no sale of that name.
    #[error("the ledger has no sale {0:?}")]
    NoSuchSale(SaleName),
    /// The ledger did not answer, or its answer is of no use.
    #[error("{0}")]
    Ledger(#[from] CallError),
    /// The ledger answered another question than the one asked.
    #[error("unexpected answer from the ledger: {0}")]
    Unexpected(String),
    /// A file or a host could not be read.
    #[error("{name}: {error}")]
    Source {
        /// Which.
        name: String,
        /// Why.
        error: io::Error,
    },
}

/// One call.
fn ask(ledger: &mut dyn Ledger, call: Call) -> Result<Answer, AuditError> {
    let sale = match &call {
        Call::Sale { sale, op: SaleOp::Survey { .. } | SaleOp::Repair { .. } } => Some(*sale),
        _ => None,
    };
    match (ledger.execute(&[call]).pop(), sale) {
        (Some(Ok(Answer::Missing)), Some(sale)) => Err(AuditError::NoSuchSale(sale)),
        (Some(answer), _) => Ok(answer?),
        (None, _) => Err(AuditError::Unexpected("no answer at all".to_owned())),
    }
}

fn unexpected(answer: &Answer) -> AuditError {
    let text = format!("{answer:?}");
    AuditError::Unexpected(text.chars().take(200).collect())
}

impl Audit<'_> {
    /// Audits; changes nothing.
    ///
    /// # Errors
    /// If the sale, its ledger, a file or a host cannot be read.
    pub fn run(&self, ledger: &mut dyn Ledger, sources: &dyn Sources) -> Result<Findings, AuditError> {
        let mut again = Vec::new();
        loop {
            let last = again.len() as u32 + 1 == ATTEMPTS;
            let mut view = View::default();
            let mut access = AccessCount::default();
            for path in self.access_logs {
                let failed = |error| AuditError::Source { name: path.display().to_string(), error };
                let mut reader = sources.access_log(path).map_err(failed)?;
                access.read(&mut *reader, &self.sale, &mut view).map_err(failed)?;
            }
            let mut metrics = MetricsCount::default();
            for name in self.metrics {
                let failed = |error| AuditError::Source { name: name.clone(), error };
                let page = sources.metrics(name, !again.is_empty()).map_err(failed)?;
                metrics.read(name, &page, &self.sale).map_err(failed)?;
            }
            let mut findings = Findings::new(self.sale);
            let state = view.read(ledger, self.sale, &mut findings)?;
            if view.trimmed() && !last {
                again.push("its log was trimmed while it was read: read again".to_owned());
                continue;
            }
            if !view.moved() && !last && metrics.is_of_another_moment(&state) {
                again.push("the hosts' gauges were of another moment: read again".to_owned());
                continue;
            }
            if !view.unsettled.is_empty() && !last {
                again.push("bookings were given to other buyers while it was read: read again".to_owned());
                continue;
            }
            findings.notes.append(&mut again);
            if !view.unsettled.is_empty() {
                findings.note(format!(
                    "bookings were given to other buyers during each of {ATTEMPTS} readings: {} buyers who had some were \
                     not compared",
                    view.unsettled.len()
                ));
            }
            if view.trimmed() {
                findings.note(format!(
                    "its log was trimmed during each of {ATTEMPTS} readings: differences may only be changes made meanwhile"
                ));
            }
            judge::judge(&view, &state, &mut findings);
            judge::judge_name(ledger, self.sale, &mut findings)?;
            if !self.access_logs.is_empty() {
                judge::judge_access(&view, access.missing(), &mut findings);
                access.judge(&mut findings);
            }
            if !self.metrics.is_empty() {
                let others = others_sequences(ledger, &self.sale)?;
                metrics.judge(&view, &state, others, &mut findings);
            }
            findings.counted = vec![
                ("sale", sale_line(&self.sale, &state)),
                ("bookings", view.bookings_line(&state)),
                ("log", view.log_line()),
            ];
            if !self.access_logs.is_empty() {
                findings.counted.push(("access log", access.line(self.access_logs.len())));
            }
            if !self.metrics.is_empty() {
                findings.counted.push(("metrics", metrics.line()));
            }
            findings.state = state;
            return Ok(findings);
        }
    }
}

fn sale_line(sale: &SaleName, state: &SaleState) -> String {
    format!(
        "{sale}: {} in all, {} held, {} sold, {} available, at sequence {}",
        state.terms.total,
        state.held,
        state.sold,
        state.available(),
        state.sequence
    )
}

/// How many changes the other sales of the ledger have seen: no fewer than they have bookings.
fn others_sequences(ledger: &mut dyn Ledger, sale: &SaleName) -> Result<u64, AuditError> {
    let names = match ask(ledger, Call::Ledger(LedgerOp::Sales))? {
        Answer::Ledger(LedgerResult::Sales { names, .. }) => names,
        other => return Err(unexpected(&other)),
    };
    let mut sum = 0;
    for name in names.into_iter().filter(|name| name != sale) {
        match ask(ledger, SaleOp::Snapshot.on(name))? {
            Answer::Sale { state, result: SaleResult::Done } => sum += state.sequence,
            // A name whose sale was never made.
            Answer::Missing => {}
            other => return Err(unexpected(&other)),
        }
    }
    Ok(sum)
}

/// What became of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// All of it was done.
    Done,
    /// The sale has moved since it was audited, after so many of the mends were done.
    Moved(usize),
}

/// Repairs what the audit found, if the sale has not moved since. Up to [`REPAIRS_PER_CALL_MAX`] mends are
/// one call, all or nothing; of more, each call is right by itself. The caller has seen to it that no difference is
/// unexplained.
///
/// # Errors
/// If the ledger does not answer.
pub fn repair(ledger: &mut dyn Ledger, findings: &Findings) -> Result<Repaired, AuditError> {
    assert_eq!(findings.unexplained, 0, "a repair while something is unexplained would hide it");
    for (index, mends) in findings.mends.chunks(REPAIRS_PER_CALL_MAX).enumerate() {
        let call = SaleOp::Repair {
            version: findings.state.version,
            sequence: findings.state.sequence,
            repairs: mends.iter().map(|mend| mend.repair.clone()).collect(),
        }
        .on(findings.sale);
        match ask(ledger, call)? {
            Answer::Sale { result: SaleResult::Done, .. } => {}
            Answer::Sale { result: SaleResult::Refused(ChangeFault::Moved), .. } => {
                return Ok(Repaired::Moved(index * REPAIRS_PER_CALL_MAX));
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(Repaired::Done)
}

#[cfg(all(test, not(loom)))]
mod tests;
