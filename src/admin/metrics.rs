//! The counters as a page for Prometheus: OpenMetrics for who asks for it, as Prometheus does, otherwise its older text
//! format. Labels are bounded: no buyer, no booking, and so many sales.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Shared;
use super::readiness::{self, Inability};
use crate::clock::Monotonic;
use crate::connection::CutReason;
use crate::http::{Reason, Request, accept};
use crate::limits::{self, Limit};
use crate::metrics::{CoreMetrics, Histogram, LATENCY_BOUNDS_US};
use crate::stock::{SaleBoard, ShardTotals};

/// In which text format a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// That of Prometheus, version 0.0.4: all tools read it.
    Prometheus,
}

/// Media type of OpenMetrics, without parameters.
const OPEN_METRICS: &str = "application/openmetrics-text";

impl TextFormat {
    /// What a request prefers.
    pub(super) fn of(request: &Request<'_>) -> TextFormat {
        let weight = accept::weight(request, OPEN_METRICS);
        match weight > 0 && weight >= accept::weight(request, "text/plain") {
            true => TextFormat::OpenMetrics,
            false => TextFormat::Prometheus,
        }
    }

    /// Media type of the page.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            TextFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The page of this moment.
pub(super) fn render(shared: &Shared, format: TextFormat) -> String {
    let directory = shared.board.directory();
    let is_frozen = |sale: &SaleBoard| sale.level().is_some_and(|state| state.is_frozen());
    let unable = readiness::unable(shared).into_iter().map(|(reason, _)| reason).collect();
    let count = |holds: fn(&SaleBoard) -> bool| directory.sales().filter(|sale| holds(sale)).count() as u64;
    let (missing, unreadable) = (count(SaleBoard::is_missing), count(|sale| sale.unsound().is_some()));
    let frozen = directory.sales().filter(|sale| is_frozen(sale)).count() as u64;
    let mut listed: Vec<_> = directory.sales().map(|sale| (*sale.name(), sale)).collect();
    let most = limits::SALES_MEASURED_MAX;
    if listed.len() > most {
        // The same ones each time.
        listed.select_nth_unstable_by_key(most, |(name, _)| *name);
        listed.truncate(most);
    }
    listed.sort_unstable_by_key(|(name, _)| *name);
    let levels = listed.iter().filter_map(|(name, sale)| {
        let state = sale.level()?;
        Some((name.as_str().to_owned(), [state.available(), state.held, state.sold]))
    });
    let sales = levels.collect();
    let fleet = shared.board.fleet();
    let live = fleet.live();
    let now = shared.clock.now().monotonic;
    let access_log = shared.access_log.as_ref().map(|log| (log.dropped(), log.write_errors()));
    let page = Exposition {
        cores: shared.metrics.clone(),
        shards: shared.board.totals(),
        sales,
        followed: directory.len() as u64,
        hosts: [live, fleet.hosts.len() - live].map(|count| count as u64),
        share: shared.board.card().map_or(1.0, |card| card.share(&fleet.hosts)),
        now,
        unable,
        frozen,
        missing,
        unreadable,
        access_log,
    };
    let mut registry = Registry::with_prefix("boxoffice");
    registry.register_collector(Box::new(page));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a String takes every byte");
    match format {
        TextFormat::OpenMetrics => out,
        TextFormat::Prometheus => in_older_format(&out),
    }
}

/// The same page in version 0.0.4 of the text format: the family of a counter is named as its samples are, with `_total`; there
/// are no units, and no mark of the end.
fn in_older_format(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + 1024);
    let mut lines = page.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF").peekable();
    while let Some(line) = lines.next() {
        // The type follows the help.
        let described = lines.peek().copied().unwrap_or_default();
        let is_counter =
            [line, described].iter().any(|line| line.starts_with("# TYPE ") && line.ends_with(" counter"));
        let named = line.strip_prefix("# ").and_then(|rest| {
            let (word, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((word, name, rest))
        });
        match named.filter(|_| is_counter) {
            Some((word, name, rest)) => out.extend(["# ", word, " ", name, "_total ", rest, "\n"]),
            None => out.extend([line, "\n"]),
        }
    }
    out
}

struct Exposition {
    cores: Vec<std::sync::Arc<CoreMetrics>>,
    shards: Vec<ShardTotals>,
    /// Available, held, sold.
    sales: Vec<(String, [u64; 3])>,
    /// How many there are, with those that are not among these.
    followed: u64,
    /// Hosts that live, hosts that are silent.
    hosts: [u64; 2],
    /// This host's part of the crowd.
    share: f64,
    now: Monotonic,
    /// Why not everything is sold.
    unable: Vec<Inability>,
    /// Sales that book nothing for now.
    frozen: u64,
    /// Sales that the ledger has lost.
    missing: u64,
    /// Sales that cannot be read.
    unreadable: u64,
    /// Lines dropped, writes failed.
    access_log: Option<(u64, u64)>,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

/// A label and its value.
type Label = [(&'static str, String); 1];

fn counter(encoder: &mut MetricEncoder<'_>, labels: &Label, value: u64) -> fmt::Result {
    encoder.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge(encoder: &mut MetricEncoder<'_>, labels: &Label, value: u64) -> fmt::Result {
    // Far below 2^63: tickets, connections and permits.
    encoder.encode_family(labels)?.encode_gauge(&value.cast_signed())
}

/// A gauge without labels.
fn one(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    value: u64,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, kind)?.encode_gauge(&value.cast_signed())
}

impl Exposition {
    fn each_core(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, kind): (&str, &str, MetricType),
        read: impl Fn(&CoreMetrics) -> u64,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for (core, metrics) in self.cores.iter().enumerate() {
            let labels = [("core", core.to_string())];
            match kind {
                MetricType::Gauge => gauge(&mut metric, &labels, read(metrics))?,
                _ => counter(&mut metric, &labels, read(metrics))?,
            }
        }
        Ok(())
    }

    fn each_shard(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, kind): (&str, &str, MetricType),
        read: impl Fn(&ShardTotals) -> u64,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for (core, totals) in self.shards.iter().enumerate() {
            let labels = [("core", core.to_string())];
            match kind {
                MetricType::Gauge => gauge(&mut metric, &labels, read(totals))?,
                _ => counter(&mut metric, &labels, read(totals))?,
            }
        }
        Ok(())
    }

    fn histogram(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        read: impl Fn(&CoreMetrics) -> &Histogram,
    ) -> fmt::Result {
        let mut counts = [0; LATENCY_BOUNDS_US.len() + 1];
        let mut sum = 0.0;
        for core in &self.cores {
            let (buckets, seconds) = read(core).read();
            sum += seconds;
            for (total, count) in counts.iter_mut().zip(buckets) {
                *total += count;
            }
        }
        let bounds = LATENCY_BOUNDS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let mut metric =
            encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Client requests by outcome";
        let mut metric = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for &label in crate::outcome_label::OutcomeLabel::ALL {
            let total = self.cores.iter().map(|core| core.ended(label)).sum();
            counter(&mut metric, &[("outcome", label.label().to_owned())], total)?;
        }
        let help =
            "Requests refused as invalid HTTP, by reason; each was answered once and its connection closed";
        let mut metric = encoder.encode_descriptor("malformed_requests", help, None, MetricType::Counter)?;
        for &reason in Reason::ALL {
            let total = self.cores.iter().map(|core| core.malformed(reason)).sum();
            counter(&mut metric, &[("reason", reason.label().to_owned())], total)?;
        }
        let help = "Client connections that the host cut off, by reason";
        let mut metric = encoder.encode_descriptor("connections_cut", help, None, MetricType::Counter)?;
        for cut in CutReason::ALL {
            let total = self.cores.iter().map(|core| core.cut(cut)).sum();
            counter(&mut metric, &[("reason", cut.label().to_owned())], total)?;
        }
        let help = "Times that a client hit a limit of serve --limit, by limit";
        let mut metric = encoder.encode_descriptor("limits_met", help, None, MetricType::Counter)?;
        for &limit in Limit::ALL {
            let total = self.cores.iter().map(|core| core.limit(limit)).sum();
            counter(&mut metric, &[("limit", limit.name().to_owned())], total)?;
        }
        Ok(())
    }

    fn access_log(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some((dropped, write_errors)) = self.access_log else { return Ok(()) };
        let help = "Access-log lines dropped because the disk was too slow or full";
        encoder
            .encode_descriptor("access_log_lines_dropped", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&dropped, None)?;
        let help = "Failed writes to the access log";
        encoder
            .encode_descriptor("access_log_write_errors", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&write_errors, None)
    }

    fn stock(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let states = ["available", "held", "sold"];
        let mut metric = encoder.encode_descriptor(
            "tickets",
            "Tickets by sale and state, as of the last sync",
            None,
            MetricType::Gauge,
        )?;
        for (sale, levels) in &self.sales {
            for (state, level) in states.iter().zip(levels) {
                let labels = [("sale", sale.clone()), ("state", (*state).to_owned())];
                metric.encode_family(&labels)?.encode_gauge(&level.cast_signed())?;
            }
        }
        one(encoder, ("sales", "Sales that this host follows", MetricType::Gauge), self.followed)?;
        let help = "Sales that book nothing while hosts put back what the ledger forgot";
        one(encoder, ("sales_frozen", help, MetricType::Gauge), self.frozen)?;
        let help = "Sales that this host knows but the ledger has lost";
        one(encoder, ("sales_missing", help, MetricType::Gauge), self.missing)?;
        let help = "Sales whose record in the ledger is not sound";
        one(encoder, ("sales_unreadable", help, MetricType::Gauge), self.unreadable)
    }

    fn hosts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Hosts that share the ledger, as this host last heard: live, or silent for up to a minute";
        let mut metric = encoder.encode_descriptor("hosts", help, None, MetricType::Gauge)?;
        for (status, count) in ["live", "silent"].into_iter().zip(self.hosts) {
            gauge(&mut metric, &[("status", status.to_owned())], count)?;
        }
        let help = "This host's part of the crowd, 0 to 1";
        encoder.encode_descriptor("share", help, None, MetricType::Gauge)?.encode_gauge(&self.share)
    }

    /// How long ago each loop turned: one that stands still serves nobody.
    fn turns(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time since the loop's last turn";
        let mut metric = encoder.encode_descriptor("turn_age_seconds", help, None, MetricType::Gauge)?;
        for (core, metrics) in self.cores.iter().enumerate() {
            let age_ms = (self.now.0 / 1_000_000).saturating_sub(metrics.last_turn_ms.get());
            metric.encode_family(&[("core", core.to_string())])?.encode_gauge(&(age_ms as f64 / 1e3))?;
        }
        Ok(())
    }

    fn readiness(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "1 for each reason why this host cannot sell, or not every sale; /readyz says more";
        let mut metric = encoder.encode_descriptor("unable", help, None, MetricType::Gauge)?;
        for reason in Inability::all() {
            let labels = [("reason", reason.label().to_owned())];
            gauge(&mut metric, &labels, self.unable.contains(&reason).into())?;
        }
        Ok(())
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge};
        let encoder = &mut encoder;
        self.requests(encoder)?;
        self.stock(encoder)?;
        self.hosts(encoder)?;
        self.readiness(encoder)?;
        self.turns(encoder)?;
        self.access_log(encoder)?;
        self.each_core(encoder, ("connections_open", "Client connections open now", Gauge), |core| {
            core.connections_open.get()
        })?;
        self.each_core(
            encoder,
            ("connections_accepted", "Client connections accepted since the start", Counter),
            |core| core.connections_accepted.get(),
        )?;
        self.each_core(
            encoder,
            ("connections_refused", "Connections answered with a canned 503", Counter),
            |core| core.connections_refused.get(),
        )?;
        self.each_core(
            encoder,
            (
                "connections_untrusted",
                "Connections closed because their peer is no trusted proxy, with --proxy-protocol",
                Counter,
            ),
            |core| core.connections_untrusted.get(),
        )?;
        self.each_core(
            encoder,
            (
                "accept_failures",
                "Connections that could not be accepted for lack of file descriptors or memory",
                Counter,
            ),
            |core| core.accept_failures.get(),
        )?;
        self.each_core(
            encoder,
            ("buffered_bytes", "Bytes of buffers held by client connections now", Gauge),
            |core| core.buffered_bytes.get(),
        )?;
        self.each_core(
            encoder,
            ("waiting_requests", "Requests waiting for the ledger now, or for a permit", Gauge),
            |core| core.waiting.get(),
        )?;
        self.each_core(
            encoder,
            ("standing_requests", "Requests waiting now for a permit, while other hosts have some", Gauge),
            |core| core.standing.get(),
        )?;
        self.each_core(
            encoder,
            ("ledger_up", "1 if the loop's connection to the ledger is up", Gauge),
            |core| u64::from(core.ledger_up()),
        )?;
        self.each_core(
            encoder,
            ("ledger_losses", "Times that the connection to the ledger was lost", Counter),
            |core| core.ledger_losses.get(),
        )?;
        self.each_core(
            encoder,
            (
                "bookings_put_back",
                "Acknowledged bookings put back into a ledger that had forgotten them",
                Counter,
            ),
            |core| core.bookings_put_back.get(),
        )?;
        self.each_core(
            encoder,
            (
                "bookings_lost",
                "Acknowledged bookings that the ledger forgot and that could not be put back; the log names them",
                Counter,
            ),
            |core| core.bookings_lost.get(),
        )?;
        self.each_core(
            encoder,
            ("ledger_calls", "Calls sent to the ledger, including syncs", Counter),
            |core| core.ledger_calls.get(),
        )?;
        self.each_core(
            encoder,
            ("ledger_entries", "Bookings and look-ups carried by those calls", Counter),
            |core| core.ledger_entries.get(),
        )?;
        self.each_shard(encoder, ("permits_free", "Permits free in the core's shards", Gauge), |shard| {
            shard.free
        })?;
        self.each_shard(
            encoder,
            ("permits_taken", "Permits in use by calls to the ledger", Gauge),
            |shard| shard.taken,
        )?;
        self.each_shard(
            encoder,
            ("permits_stolen", "Permits that the core took from other cores", Counter),
            |shard| shard.steals,
        )?;
        self.histogram(encoder, ("ledger_round_trip", "Time from sending a call to its answer"), |core| {
            &core.ledger_round_trip
        })?;
        self.histogram(
            encoder,
            ("booking_wait", "Time from a request's arrival to its answer, if the ledger was asked"),
            |core| &core.booking_wait,
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_a_counter_as_its_samples_are_named() {
        let page = "# HELP a Some things\n# TYPE a counter\na_total{b=\"# TYPE x counter\"} 1\n# HELP c_seconds How long\n\
                    # TYPE c_seconds histogram\n# UNIT c_seconds seconds\nc_seconds_sum 0.5\n# HELP d Level\n# TYPE d gauge\n\
                    d 3\n# EOF\n";
        let expected = "# HELP a_total Some things\n# TYPE a_total counter\na_total{b=\"# TYPE x counter\"} 1\n\
                        # HELP c_seconds How long\n# TYPE c_seconds histogram\nc_seconds_sum 0.5\n# HELP d Level\n\
                        # TYPE d gauge\nd 3\n";
        assert_eq!(in_older_format(page), expected);
    }
}
