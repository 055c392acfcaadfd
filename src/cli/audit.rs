//! `boxoffice audit`: recounts a sale from its bookings, replays its log, and holds access logs against both.

mod access;
mod recount;
mod verdict;

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::sale::state_of;
use super::{CommandError, LedgerFlag};
use crate::booking::{Call, SaleName, SaleState};
use crate::ledger::Ledger;
use access::AccessCount;
use recount::Recount;
use verdict::Verdict;

/// How often a sale that is being sold meanwhile is counted before the last count stands.
const ATTEMPTS: u32 = 3;

/// `boxoffice audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "Give the access logs of all hosts that sell the sale: a booking whose line is in none of \
    them is a difference. Exit status: 0 no difference, 1 some difference or the audit failed, 2 wrong usage."
)]
pub struct AuditFlags {
    /// Which sale
    pub name: SaleName,
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerFlag,
    /// Access logs to hold against the bookings
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub access_log: Vec<PathBuf>,
    /// Repair what can be repaired (not available in this version)
    #[arg(long)]
    pub repair: bool,
}

/// What an audit came to; it has written its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditReport {
    /// How many differences; the exit status is 1 where there are any.
    pub differences: u64,
}

impl AuditFlags {
    /// Audits and writes a report: what was counted, notes, each difference by id, and the verdict in the last line.
    /// `open` opens an access log; it is called again for each attempt.
    ///
    /// # Errors
    /// Where the sale, its ledger or a file cannot be read, or the report not be written.
    pub fn run(
        &self,
        ledger: &mut dyn Ledger,
        out: &mut dyn Write,
        open: &dyn Fn(&Path) -> io::Result<Box<dyn BufRead>>,
    ) -> Result<AuditReport, CommandError> {
        if self.repair {
            return Err(CommandError::NotAvailable("--repair"));
        }
        let mut attempt = 1;
        loop {
            let before = self.state(ledger)?;
            let mut recount = Recount::default();
            // The files first: a line is written after its booking, so that no line is newer than the bookings read.
            let mut access = AccessCount::default();
            for path in &self.access_log {
                let file = |error| CommandError::File { path: path.display().to_string(), error };
                let mut reader = open(path).map_err(file)?;
                access.read(&mut *reader, &self.name, &mut recount).map_err(file)?;
            }
            recount.read_bookings(ledger, self.name)?;
            let mut verdict = Verdict::default();
            recount.replay_log(ledger, self.name, &before, &mut verdict)?;
            let after = self.state(ledger)?;
            let moved = (before.version, before.sequence) != (after.version, after.sequence);
            if moved && attempt < ATTEMPTS {
                writeln!(
                    out,
                    "the sale went from sequence {} to {} while it was counted; counting again",
                    before.sequence, after.sequence
                )?;
                attempt += 1;
                continue;
            }
            if moved {
                verdict.note(format!(
                    "the sale went from sequence {} to {} during each of {ATTEMPTS} counts: pause it for a count of \
                     one moment; differences below may be what moved",
                    before.sequence, after.sequence
                ));
            }
            recount.judge(&before, &mut verdict);
            if !self.access_log.is_empty() {
                recount.judge_access(&mut verdict);
                access.judge(&mut verdict);
            }
            self.report(out, &before, &recount, &access, &verdict)?;
            return Ok(AuditReport { differences: verdict.differences() });
        }
    }

    fn state(&self, ledger: &mut dyn Ledger) -> Result<SaleState, CommandError> {
        state_of(ledger, self.name, Call::Snapshot { sale: self.name })
    }

    fn report(
        &self,
        out: &mut dyn Write,
        state: &SaleState,
        recount: &Recount,
        access: &AccessCount,
        verdict: &Verdict,
    ) -> Result<(), CommandError> {
        writeln!(
            out,
            "sale        {}: {} in all, {} held, {} sold, {} available, at sequence {}",
            self.name,
            state.terms.total,
            state.held,
            state.sold,
            state.available(),
            state.sequence
        )?;
        writeln!(out, "bookings    {}", recount.bookings_line())?;
        writeln!(out, "log         {}", recount.log_line())?;
        if !self.access_log.is_empty() {
            writeln!(out, "access log  {}", access.line(self.access_log.len()))?;
        }
        verdict.write(out)?;
        out.flush()?;
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
