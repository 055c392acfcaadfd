//! The events of `GET /v1/events` (server-sent events, as the HTML standard has them): how the host is doing, and one sale.
//! Counters are since the start, so that who misses an event misses nothing: a rate is the difference of two of them.

use std::fmt::Arguments;
use std::io::Write;

use super::{Shared, readiness, sales};
use crate::api::encode::push_string;
use crate::api::hosts::push_host as push_host_row;
use crate::api::sale as api_sale;
use crate::booking::SaleName;
use crate::clock::{Now, WallTime};
use crate::limits;
use crate::metrics::{CoreMetrics, Histogram, LATENCY_BOUNDS_US};
use crate::outcome_label::OutcomeLabel;
use crate::protocol::with_shares;
use crate::stock::{SaleBoard, ShardTotals};

/// Media type of the events.
pub(super) const CONTENT_TYPE: &str = "text/event-stream";

/// Loops that are told one by one; a host of more is rare, and shows these.
const CORES_MAX: usize = 128;

/// Hosts that are told one by one, with at most some 700 bytes each; GET /v1/hosts tells all.
const HOSTS_MAX: usize = 20;

/// Characters of one fault: some have a text from Redis in them.
const FAULT_CHARACTERS_MAX: usize = 600;

/// Bytes of an event beyond which no sale is added: one more, and a closely watched one, still fit into a part.
const SALES_UNTIL_BYTES: usize = limits::STREAM_PART_BYTES_MAX - 4 * 1024;

fn push(out: &mut Vec<u8>, arguments: Arguments<'_>) {
    out.write_fmt(arguments).expect("a Vec takes every byte");
}

/// A list of JSON values.
fn push_list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, mut one: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        one(out, item);
    }
    out.push(b']');
}

fn push_numbers(out: &mut Vec<u8>, name: &str, numbers: impl Iterator<Item = u64>) {
    push(out, format_args!(r#","{name}":"#));
    push_list(out, numbers, |out, number| push(out, format_args!("{number}")));
}

/// Appends the event `host`. At most [`limits::STREAM_PART_BYTES_MAX`] long, with room for one of a sale.
pub(super) fn push_host(
    out: &mut Vec<u8>,
    shared: &Shared,
    now: Now,
    started_at: WallTime,
    interval_ms: u64,
) {
    let version = env!("CARGO_PKG_VERSION");
    let at_ms = now.monotonic.0 / 1_000_000;
    push(
        out,
        format_args!(
            "event: host\ndata: {{\"at\":\"{}\",\"started_at\":\"{started_at}\",\"elapsed_ms\":{at_ms},\"interval_ms\":{interval_ms},\"version\":\"{version}\"",
            now.wall
        ),
    );
    push(out, format_args!(r#","needs_token":{},"faults":"#, shared.token.is_some()));
    let faults = readiness::unable(shared).into_iter().map(|(_, line)| line);
    push_list(out, faults.chain(readiness::stalled(shared)), |out, line| push_string(out, &shortened(&line)));
    push_requests(out, &shared.metrics);
    push_numbers(out, "latency_bounds_us", LATENCY_BOUNDS_US.into_iter());
    push_histogram(out, "booking_wait", &shared.metrics, |core| &core.booking_wait);
    push_histogram(out, "ledger_round_trip", &shared.metrics, |core| &core.ledger_round_trip);
    push_cores(out, &shared.metrics, &shared.board.totals());
    push_hosts(out, shared);
    push_sales(out, shared);
    out.extend_from_slice(b"}\n\n");
}

/// Without what a line must not have, and no longer than is read.
fn shortened(line: &str) -> String {
    let characters = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    characters.take(FAULT_CHARACTERS_MAX).collect()
}

fn push_requests(out: &mut Vec<u8>, cores: &[std::sync::Arc<CoreMetrics>]) {
    out.extend_from_slice(br#","requests":{"#);
    for (index, &label) in OutcomeLabel::ALL.iter().enumerate() {
        let total: u64 = cores.iter().map(|core| core.ended(label)).sum();
        push(out, format_args!(r#"{}"{}":{total}"#, if index > 0 { "," } else { "" }, label.label()));
    }
    out.push(b'}');
}

fn push_histogram(
    out: &mut Vec<u8>,
    name: &str,
    cores: &[std::sync::Arc<CoreMetrics>],
    read: impl Fn(&CoreMetrics) -> &Histogram,
) {
    let mut counts = [0; LATENCY_BOUNDS_US.len() + 1];
    for core in cores {
        let (buckets, _) = read(core).read();
        counts.iter_mut().zip(buckets).for_each(|(total, count)| *total += count);
    }
    push_numbers(out, name, counts.into_iter());
}

fn push_cores(out: &mut Vec<u8>, cores: &[std::sync::Arc<CoreMetrics>], shards: &[ShardTotals]) {
    push(out, format_args!(r#","cores":{{"count":{}"#, cores.len()));
    let mut column = |name: &str, read: &dyn Fn(&CoreMetrics) -> u64| {
        push_numbers(out, name, cores.iter().take(CORES_MAX).map(|core| read(core)));
    };
    column("connections", &|core| core.connections_open.get());
    column("waiting", &|core| core.waiting.get());
    column("ledger_up", &|core| core.ledger_up().into());
    column("ledger_calls", &|core| core.ledger_calls.get());
    column("ledger_entries", &|core| core.ledger_entries.get());
    let mut column = |name: &str, read: &dyn Fn(&ShardTotals) -> u64| {
        push_numbers(out, name, shards.iter().take(CORES_MAX).map(read));
    };
    column("permits_free", &|shard| shard.free);
    column("permits_taken", &|shard| shard.taken);
    column("steals", &|shard| shard.steals);
    out.push(b'}');
}

fn push_hosts(out: &mut Vec<u8>, shared: &Shared) {
    let fleet = shared.board.fleet();
    let asked = shared.board.card().map(|card| card.id);
    out.extend_from_slice(br#","hosts":"#);
    let hosts = with_shares(&fleet.hosts);
    let more = hosts.len().saturating_sub(HOSTS_MAX);
    push_list(out, hosts.into_iter().take(HOSTS_MAX), |out, (host, share)| {
        push_host_row(out, host, share, asked)
    });
    push(out, format_args!(r#","more_hosts":{more}"#));
}

/// Those that are in trouble first, then by name: the first few, and how many more there are.
fn push_sales(out: &mut Vec<u8>, shared: &Shared) {
    let directory = shared.board.directory();
    let is_well = |sale: &SaleBoard| {
        !sale.is_missing() && sale.unsound().is_none() && !sale.level().is_some_and(|it| it.is_frozen())
    };
    let mut sales: Vec<_> = directory.sales().map(|sale| (is_well(sale), *sale.name(), sale)).collect();
    let most = limits::DASHBOARD_SALES_MAX;
    if sales.len() > most {
        sales.select_nth_unstable_by_key(most, |(is_well, name, _)| (*is_well, *name));
        sales.truncate(most);
    }
    sales.sort_unstable_by_key(|(is_well, name, _)| (*is_well, *name));
    let mut told = 0;
    out.extend_from_slice(br#","sales":["#);
    for (_, _, sale) in &sales {
        if out.len() > SALES_UNTIL_BYTES {
            break;
        }
        if told > 0 {
            out.push(b',');
        }
        push_one(out, sale, false);
        told += 1;
    }
    push(out, format_args!(r#"],"more_sales":{}"#, directory.len() - told));
}

fn push_one(out: &mut Vec<u8>, sale: &SaleBoard, with_terms: bool) {
    match (sale.level(), sale.unsound()) {
        (_, Some(_)) => push(out, format_args!(r#"{{"sale":"{}","status":"unreadable"}}"#, sale.name())),
        (Some(state), None) if with_terms => api_sale::push_sale_with_terms(out, sale.name(), &state),
        (Some(state), None) => api_sale::push_sale(out, sale.name().as_str(), &state),
        (None, None) => sales::push_missing(out, sale.name()),
    }
}

/// Appends the event `sale`: one sale with its terms. One that this host does not know has the status `unknown`.
pub(super) fn push_sale(out: &mut Vec<u8>, shared: &Shared, name: &SaleName) {
    out.extend_from_slice(b"event: sale\ndata: ");
    match shared.board.directory().get(name.as_str()) {
        Some(sale) => push_one(out, sale, true),
        None => push(out, format_args!(r#"{{"sale":"{name}","status":"unknown"}}"#)),
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_fault_is_one_short_line() {
        let long = format!("OOM\n{}", "x".repeat(10_000));
        let told = shortened(&long);
        assert_eq!(told.chars().count(), FAULT_CHARACTERS_MAX);
        assert!(told.starts_with("OOM x"), "{told}");
    }

    /// What has no bound of its own is the number of loops, and what faults say.
    #[test]
    fn what_stands_before_the_sales_leaves_room_for_them() {
        let mut out = Vec::new();
        let cores: Vec<_> = (0..4_096).map(|_| Arc::new(CoreMetrics::default())).collect();
        for core in &cores {
            core.connections_open.set(u64::MAX);
            core.ledger_calls.set(u64::MAX);
            core.ledger_entries.set(u64::MAX);
        }
        let shard = ShardTotals { free: u64::MAX, taken: u64::MAX, steals: u64::MAX };
        push_cores(&mut out, &cores, &vec![shard; cores.len()]);
        let cores = out.len();
        push_requests(&mut out, &[Arc::new(CoreMetrics::default())]);
        let faults = readiness::Inability::all().count() * FAULT_CHARACTERS_MAX * 2;
        let sale = 1_024;
        assert!(cores < 24 * 1024, "{cores}");
        assert!(out.len() + faults + 4 * 1024 < SALES_UNTIL_BYTES, "{} {faults}", out.len());
        assert!(SALES_UNTIL_BYTES + 2 * sale < limits::STREAM_PART_BYTES_MAX);
    }
}
