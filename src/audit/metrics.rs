//! The hosts' metrics held against the ledger.
//!
//! A counter starts at zero with its host and is of all its sales, so that it proves one thing alone: no more bookings
//! were granted than the ledger has. The gauges of a sale are the ledger's own counts, at most one sync old.

use std::io;

use super::findings::{Findings, Kind};
use super::view::View;
use crate::booking::{SaleName, SaleState};

/// What the pages of all hosts say.
#[derive(Default)]
pub(super) struct MetricsCount {
    hosts: Vec<Gauges>,
    granted: u64,
}

/// What one host knows of the sale.
struct Gauges {
    source: String,
    /// Available, held, sold; none if it does not follow the sale.
    tickets: Option<[u64; 3]>,
}

const STATES: [&str; 3] = ["available", "held", "sold"];

impl MetricsCount {
    /// Reads a page of Prometheus' or OpenMetrics' text.
    ///
    /// # Errors
    /// If it is not a page of a host.
    pub(super) fn read(&mut self, source: &str, page: &str, sale: &SaleName) -> io::Result<()> {
        let value = |name: &str| {
            let sample = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            sample.split(' ').next()?.parse::<u64>().ok()
        };
        let no_page = || io::Error::new(io::ErrorKind::InvalidData, "not a metrics page of a host");
        let granted = "boxoffice_requests_total{outcome=\"granted\"}";
        self.granted += value(granted).ok_or_else(no_page)?;
        let gauge = |state| value(&format!("boxoffice_tickets{{sale=\"{sale}\",state=\"{state}\"}}"));
        let [available, held, sold] = STATES.map(gauge);
        let tickets = available.zip(held).zip(sold).map(|((available, held), sold)| [available, held, sold]);
        self.hosts.push(Gauges { source: source.to_owned(), tickets });
        Ok(())
    }

    fn differing<'a>(&'a self, state: &SaleState) -> impl Iterator<Item = (&'a str, [u64; 3])> {
        let now = [state.available(), state.held, state.sold];
        self.hosts
            .iter()
            .filter_map(move |host| Some((host.source.as_str(), host.tickets?)))
            .filter(move |(_, told)| *told != now)
    }

    /// Whether some host tells other counts than the ledger.
    pub(super) fn is_of_another_moment(&self, state: &SaleState) -> bool {
        self.differing(state).next().is_some()
    }

    /// `others` is how many bookings the other sales of the ledger have at most.
    pub(super) fn judge(&self, view: &View, state: &SaleState, others: u64, findings: &mut Findings) {
        let stored =
            |entry: &&super::view::Evidence| entry.in_ledger.is_some_and(|booking| booking.status.is_some());
        let bookings = view.entries.values().filter(stored).count() as u64;
        if self.granted > bookings + others {
            let of_others =
                if others > 0 { format!(", and {others} changes of other sales") } else { String::new() };
            let text = format!(
                "the hosts granted {}, but the ledger has {bookings} bookings{of_others}",
                self.granted
            );
            findings.differ(Kind::Metrics, "metrics", text);
        } else if self.granted < bookings && others == 0 {
            findings.note(format!(
                "the hosts granted {} of {bookings} bookings since they started: the others were made before, by other \
                 hosts, or by requests that were answered outcome-unknown",
                self.granted
            ));
        }
        for (source, [available, held, sold]) in self.differing(state) {
            let text = format!(
                "reports {available} available, {held} held, {sold} sold; the ledger has {}, {}, {}",
                state.available(),
                state.held,
                state.sold
            );
            if view.moved() {
                findings.note(format!("{source}: {text}; the sale was changed meanwhile"));
            } else {
                findings.differ(Kind::Metrics, format!("metrics {source}"), text);
            }
        }
        for host in self.hosts.iter().filter(|host| host.tickets.is_none()) {
            findings.note(format!("{}: the host does not follow the sale", host.source));
        }
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{} hosts, {} requests granted, of all sales, since they started",
            self.hosts.len(),
            self.granted
        )
    }
}
