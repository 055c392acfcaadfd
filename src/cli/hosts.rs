//! `boxoffice hosts`: who shares a ledger.

use std::io::Write;

use clap::Args;

use super::{CommandError, LedgerFlag};
use crate::api::hosts::push_hosts;
use crate::ledger::Ledger;
use crate::protocol::{Answer, Call, CallError, HostBeat, LedgerOp, LedgerResult, with_shares};

/// `boxoffice hosts`.
#[derive(Debug, Args)]
#[command(after_help = "A SQLite ledger has one host: ask that one, GET /v1/hosts of its --admin.")]
pub struct HostsFlags {
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerFlag,
    /// As JSON, like GET /v1/hosts of a host's admin listener
    #[arg(long)]
    pub json: bool,
}

/// Asks a ledger for its hosts.
///
/// # Errors
/// If the ledger does not answer.
pub fn ask(ledger: &mut dyn Ledger) -> Result<Vec<HostBeat>, CommandError> {
    match ledger.execute(&[Call::Ledger(LedgerOp::Hosts)]).pop() {
        Some(Ok(Answer::Ledger(LedgerResult::Hosts { hosts, .. }))) => Ok(hosts),
        Some(Err(CallError::Unsound(what))) => Err(CommandError::HostsUnreadable(what)),
        Some(Err(error)) => Err(error.into()),
        other => Err(CommandError::Unexpected(format!("{other:?}"))),
    }
}

impl HostsFlags {
    /// Writes the table.
    ///
    /// # Errors
    /// If the ledger does not answer, or it cannot be written.
    pub fn run(&self, ledger: &mut dyn Ledger, out: &mut dyn Write) -> Result<(), CommandError> {
        let hosts = ask(ledger)?;
        let shared = with_shares(&hosts);
        if self.json {
            let mut json = Vec::new();
            push_hosts(&mut json, shared.into_iter(), None);
            json.push(b'\n');
            return Ok(out.write_all(&json)?);
        }
        if shared.is_empty() {
            return Ok(writeln!(out, "No host has said in the last minute that it lives.")?);
        }
        let title = [
            "ADDRESS",
            "STATUS",
            "WEIGHT",
            "SHARE",
            "BOOKINGS/S",
            "REFUSALS/S",
            "WAITING",
            "PERMITS",
            "ROUND TRIP",
            "VERSION",
        ];
        let rows = shared.iter().map(|(host, share)| row(host, *share));
        let rows: Vec<[String; 10]> = [title.map(str::to_owned)].into_iter().chain(rows).collect();
        let widths: Vec<usize> = (0..title.len())
            .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
            .collect();
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Words to the left, numbers to the right.
                line += &match matches!(column, 0 | 1 | 9) {
                    true => format!("{cell:width$}  "),
                    false => format!("{cell:>width$}  "),
                };
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn row(host: &HostBeat, share: f64) -> [String; 10] {
    let HostBeat { age_ms, report, .. } = host;
    let status = match host.is_live() {
        true => "live".to_owned(),
        false => format!("silent {:.0} s", *age_ms as f64 / 1e3),
    };
    let figures = &report.figures;
    [
        printable(&report.address),
        status,
        report.weight.to_string(),
        format!("{:.1} %", share * 100.0),
        figures.bookings_per_second.to_string(),
        figures.refusals_per_second.to_string(),
        figures.waiting.to_string(),
        figures.permits.map_or_else(|| "-".to_owned(), |permits| permits.to_string()),
        format!("{:.2} ms", figures.round_trip_us as f64 / 1e3),
        printable(&report.version),
    ]
}

/// What a host tells came from whoever may write to the ledger: nothing of it moves a cursor.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '?' }).collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::limits::HOST_GONE_MS;
    use crate::protocol::{HostFigures, HostId, HostReport};

    struct Told(Vec<HostBeat>);

    impl Ledger for Told {
        fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
            assert_eq!(calls, [Call::Ledger(LedgerOp::Hosts)]);
            vec![Ok(Answer::Ledger(LedgerResult::Hosts { hosts: self.0.clone(), is_untidy: false }))]
        }
    }

    fn beat(id: u128, address: &str, weight: u32, age_ms: u64) -> HostBeat {
        let figures = HostFigures {
            permits: (id != 3).then_some(12),
            bookings_per_second: 340,
            refusals_per_second: 12_000,
            waiting: 5,
            round_trip_us: 420,
        };
        let report = HostReport {
            address: address.to_owned(),
            weight,
            version: "0.1.0".to_owned(),
            started_at_ms: 0,
            figures,
        };
        HostBeat { id: HostId(id), age_ms, report }
    }

    fn printed(hosts: Vec<HostBeat>, json: bool) -> String {
        let line = ["boxoffice", "hosts"].into_iter().chain(json.then_some("--json"));
        let cli = <super::super::Cli as clap::Parser>::try_parse_from(line).unwrap();
        let super::super::Command::Hosts(flags) = cli.command else { panic!() };
        let mut out = Vec::new();
        flags.run(&mut Told(hosts), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_a_table_of_those_that_live_and_those_that_are_silent() {
        let hosts = vec![
            beat(1, "10.0.0.2:3005", 3, 0),
            beat(2, "10.0.0.1:3005", 1, HOST_GONE_MS),
            beat(3, "\u{1b}[2Jx:1", 9, 20_000),
        ];
        assert_eq!(
            printed(hosts, false),
            "ADDRESS        STATUS       WEIGHT   SHARE  BOOKINGS/S  REFUSALS/S  WAITING  PERMITS  ROUND TRIP  VERSION\n\
             10.0.0.1:3005  live              1  25.0 %         340       12000        5       12     0.42 ms  0.1.0\n\
             10.0.0.2:3005  live              3  75.0 %         340       12000        5       12     0.42 ms  0.1.0\n\
             ?[2Jx:1        silent 20 s       9   0.0 %         340       12000        5        -     0.42 ms  0.1.0\n"
        );
    }

    #[test]
    fn prints_json_of_the_same_form_as_a_host_and_says_so_where_there_is_none() {
        let told: serde_json::Value =
            serde_json::from_str(&printed(vec![beat(1, "h:1", 1, 0)], true)).unwrap();
        assert_eq!(told["hosts"][0]["share"], 1.0);
        assert_eq!(printed(Vec::new(), true), "{\"hosts\":[]}\n");
        assert_eq!(printed(Vec::new(), false), "No host has said in the last minute that it lives.\n");
    }
}
