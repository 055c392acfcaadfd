//! The counters as a Prometheus page (OpenMetrics text). Labels are bounded: no buyer, no booking.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::Shared;
use super::readiness::{self, Inability};
use crate::connection::CutReason;
use crate::http::Reason;
use crate::limits::Limit;
use crate::metrics::{CoreMetrics, Histogram, LATENCY_BOUNDS_US};
use crate::stock::{SaleBoard, ShardTotals};

/// Media type of the page.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page of this moment.
pub(super) fn render(shared: &Shared) -> String {
    let directory = shared.board.directory();
    let sales = directory
        .sales()
        .filter_map(|sale| {
            let state = sale.level()?;
            let levels = [state.available(), state.held, state.sold];
            Some((sale.name().as_str().to_owned(), levels, state.is_frozen()))
        })
        .collect();
    let unable = readiness::unable(shared).into_iter().map(|(reason, _)| reason).collect();
    let count = |holds: fn(&SaleBoard) -> bool| directory.sales().filter(|sale| holds(sale)).count() as u64;
    let (missing, unreadable) = (count(SaleBoard::is_missing), count(|sale| sale.unsound().is_some()));
    let access_log = shared.access_log.as_ref().map(|log| (log.dropped(), log.write_errors()));
    let page = Exposition {
        cores: shared.metrics.clone(),
        shards: shared.board.totals(),
        sales,
        unable,
        missing,
        unreadable,
        access_log,
    };
    let mut registry = Registry::with_prefix("boxoffice");
    registry.register_collector(Box::new(page));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a String takes every byte");
    out
}

struct Exposition {
    cores: Vec<std::sync::Arc<CoreMetrics>>,
    shards: Vec<ShardTotals>,
    /// Available, held, sold, and whether it is frozen.
    sales: Vec<(String, [u64; 3], bool)>,
    /// Why not everything is sold.
    unable: Vec<Inability>,
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
        for (sale, levels, _) in &self.sales {
            for (state, level) in states.iter().zip(levels) {
                let labels = [("sale", sale.clone()), ("state", (*state).to_owned())];
                metric.encode_family(&labels)?.encode_gauge(&level.cast_signed())?;
            }
        }
        let frozen = self.sales.iter().filter(|(_, _, frozen)| *frozen).count() as i64;
        let help = "Sales that book nothing while hosts put back what the ledger forgot";
        encoder.encode_descriptor("sales_frozen", help, None, MetricType::Gauge)?.encode_gauge(&frozen)?;
        let help = "Sales that this host knows but the ledger has lost";
        let missing = self.missing.cast_signed();
        encoder.encode_descriptor("sales_missing", help, None, MetricType::Gauge)?.encode_gauge(&missing)?;
        let help = "Sales whose record in the ledger is not sound";
        let unreadable = self.unreadable.cast_signed();
        encoder
            .encode_descriptor("sales_unreadable", help, None, MetricType::Gauge)?
            .encode_gauge(&unreadable)
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
        self.readiness(encoder)?;
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
            ("waiting_requests", "Requests waiting for the ledger now", Gauge),
            |core| core.waiting.get(),
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
