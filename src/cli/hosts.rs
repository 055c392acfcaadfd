//! `boxoffice hosts`: who shares a ledger.

use clap::Args;
use serde::Deserialize;

use super::office::Office;
use super::screen::{Cell, Column};
use super::{CommandError, HostFlag, LedgerFlag, Screen};

/// `boxoffice hosts`.
#[derive(Debug, Args)]
#[command(after_help = "A SQLite ledger has one host: ask that one, by --admin.")]
pub struct HostsFlags {
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerFlag,
    /// Or by which host.
    #[command(flatten)]
    pub host: HostFlag,
    /// Print JSON, as the admin listener has it
    #[arg(long)]
    pub json: bool,
}

/// A host, for a table.
#[derive(Debug, Deserialize)]
struct HostRow {
    address: String,
    status: String,
    silent_ms: u64,
    weight: u32,
    share: f64,
    bookings_per_second: u64,
    refusals_per_second: u64,
    waiting: u64,
    permits: Option<u64>,
    round_trip_us: u64,
    version: String,
}

#[derive(Debug, Deserialize)]
struct HostRows {
    hosts: Vec<HostRow>,
}

impl HostsFlags {
    /// Writes the table.
    ///
    /// # Errors
    /// If nobody answers, or it cannot be written.
    pub fn run(&self, office: &mut dyn Office, screen: &mut Screen<'_>) -> Result<(), CommandError> {
        let document = office.hosts()?;
        if self.json {
            return screen.json(&document);
        }
        let told: HostRows =
            serde_json::from_str(&document).map_err(|error| CommandError::Unexpected(error.to_string()))?;
        if told.hosts.is_empty() {
            return screen.line("No host has said in the last minute that it lives.");
        }
        let columns = [
            Column::Words("ADDRESS"),
            Column::Words("STATUS"),
            Column::Numbers("WEIGHT"),
            Column::Numbers("SHARE"),
            Column::Numbers("BOOKINGS/S"),
            Column::Numbers("REFUSALS/S"),
            Column::Numbers("WAITING"),
            Column::Numbers("PERMITS"),
            Column::Numbers("ROUND TRIP"),
            Column::Words("VERSION"),
        ];
        let rows: Vec<Vec<Cell>> = told.hosts.iter().map(row).collect();
        screen.table(&columns, &rows)
    }
}

fn row(host: &HostRow) -> Vec<Cell> {
    let status = match host.status.as_str() {
        "silent" => format!("silent, {:.0} s", host.silent_ms as f64 / 1e3),
        status => status.to_owned(),
    };
    vec![
        Cell::new(host.address.as_str()),
        Cell::status(status),
        Cell::new(host.weight.to_string()),
        Cell::new(format!("{:.1} %", host.share * 100.0)),
        Cell::new(host.bookings_per_second.to_string()),
        Cell::new(host.refusals_per_second.to_string()),
        Cell::new(host.waiting.to_string()),
        Cell::new(host.permits.map_or_else(|| "-".to_owned(), |permits| permits.to_string())),
        Cell::new(format!("{:.2} ms", host.round_trip_us as f64 / 1e3)),
        Cell::new(host.version.as_str()),
    ]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::cli::office::LedgerOffice;
    use crate::cli::screen::Style;
    use crate::ledger::Ledger;
    use crate::limits::HOST_GONE_MS;
    use crate::protocol::{
        Answer, Call, CallError, HostBeat, HostFigures, HostId, HostReport, LedgerOp, LedgerResult,
    };

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
        let mut ledger = Told(hosts);
        flags.run(&mut LedgerOffice::new(&mut ledger), &mut Screen::new(&mut out, Style::default())).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_a_table_of_those_that_live_and_those_that_are_silent() {
        let hosts = vec![
            beat(1, "10.0.0.2:3005", 3, 0),
            beat(2, "10.0.0.1:3005", 1, HOST_GONE_MS),
            beat(3, "\u{1b}x:1", 9, 20_000),
        ];
        assert_eq!(
            printed(hosts, false),
            "ADDRESS        STATUS        WEIGHT   SHARE  BOOKINGS/S  REFUSALS/S  WAITING  PERMITS  ROUND TRIP  VERSION\n\
             10.0.0.1:3005  live               1  25.0 %         340       12000        5       12     0.42 ms  0.1.0\n\
             10.0.0.2:3005  live               3  75.0 %         340       12000        5       12     0.42 ms  0.1.0\n\
             \\u{1b}x:1      silent, 20 s       9   0.0 %         340       12000        5        -     0.42 ms  0.1.0\n"
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
