//! The counters of one core. Each is written only by its own loop and read by the admin listener: relaxed loads and
//! stores, no read-modify-write on the data path.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::Monotonic;
use crate::connection::CutReason;
use crate::http::Reason;
use crate::limits::Limit;
use crate::outcome_label::OutcomeLabel;

/// A number that only one thread raises.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Raises it by `by`.
    pub fn add(&self, by: u64) {
        // Relaxed, and not a fetch_add: there is one writer, and readers want nothing but the number.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Sets it: for a level rather than a count.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, in microseconds; above the last one counts as infinite.
pub const LATENCY_BOUNDS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600, 819_200,
    2_000_000,
];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; LATENCY_BOUNDS_US.len() + 1],
    sum_ns: Count,
}

impl Histogram {
    /// Counts one that lasted from `from` to `to`.
    pub fn record(&self, from: Monotonic, to: Monotonic) {
        let span = to.since(from);
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| bound < us);
        self.buckets[bucket].add(1);
        self.sum_ns.add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many fell into each bucket (not cumulative; the last is above all bounds), and the sum in seconds.
    pub fn read(&self) -> ([u64; LATENCY_BOUNDS_US.len() + 1], f64) {
        (std::array::from_fn(|bucket| self.buckets[bucket].get()), self.sum_ns.get() as f64 / 1e9)
    }
}

/// Everything that one core counts.
#[derive(Debug)]
pub struct CoreMetrics {
    requests: [Count; OutcomeLabel::ALL.len()],
    malformed: [Count; Reason::ALL.len()],
    limits: [Count; Limit::ALL.len()],
    /// Connections open now.
    pub connections_open: Count,
    /// Connections accepted since the start.
    pub connections_accepted: Count,
    /// Connections refused with a canned 503.
    pub connections_refused: Count,
    /// Connections of peers that are no trusted proxies, closed unanswered.
    pub connections_untrusted: Count,
    /// Connections that could not be accepted for lack of file descriptors or memory.
    pub accept_failures: Count,
    /// Bytes of buffers that connections hold now.
    pub buffered_bytes: Count,
    cuts: [Count; CutReason::ALL.len()],
    /// Ledger calls sent.
    pub ledger_calls: Count,
    /// Bookings and look-ups carried by those calls.
    pub ledger_entries: Count,
    /// Time from sending a call to its answer.
    pub ledger_round_trip: Histogram,
    /// Time from a request's arrival to its answer, for requests that asked the ledger.
    pub booking_wait: Histogram,
    /// Requests that wait for the ledger now, or for a permit.
    pub waiting: Count,
    /// Requests that wait for a permit now, while other hosts have some.
    pub standing: Count,
    /// Times that the ledger's connection was lost.
    pub ledger_losses: Count,
    /// Bookings put back into a ledger that had forgotten them.
    pub bookings_put_back: Count,
    /// Acknowledged bookings that the ledger forgot and that could not be put back.
    pub bookings_lost: Count,
    /// The loop's last turn, by the process's monotonic clock, in milliseconds.
    pub last_turn_ms: Count,
    ledger_up: AtomicBool,
}

impl Default for CoreMetrics {
    fn default() -> CoreMetrics {
        CoreMetrics {
            requests: std::array::from_fn(|_| Count::default()),
            malformed: std::array::from_fn(|_| Count::default()),
            limits: std::array::from_fn(|_| Count::default()),
            connections_open: Count::default(),
            connections_accepted: Count::default(),
            connections_refused: Count::default(),
            connections_untrusted: Count::default(),
            accept_failures: Count::default(),
            buffered_bytes: Count::default(),
            cuts: Default::default(),
            ledger_calls: Count::default(),
            ledger_entries: Count::default(),
            ledger_round_trip: Histogram::default(),
            booking_wait: Histogram::default(),
            waiting: Count::default(),
            standing: Count::default(),
            ledger_losses: Count::default(),
            bookings_put_back: Count::default(),
            bookings_lost: Count::default(),
            last_turn_ms: Count::default(),
            ledger_up: AtomicBool::new(false),
        }
    }
}

impl CoreMetrics {
    /// Counts a connection that was cut, and the limit that it hit.
    pub fn count_cut(&self, cut: CutReason) {
        self.cuts[cut as usize].add(1);
        self.count_limit(cut.limit());
    }

    /// How often connections were cut so.
    pub fn cut(&self, cut: CutReason) -> u64 {
        self.cuts[cut as usize].get()
    }

    /// Counts a request that HTTP refused, and the limit that it hit, if it was one.
    pub fn count_malformed(&self, reason: Reason) {
        self.malformed[reason as usize].add(1);
        if let Some(limit) = reason.limit() {
            self.count_limit(limit);
        }
    }

    /// How often requests were refused so.
    pub fn malformed(&self, reason: Reason) -> u64 {
        self.malformed[reason as usize].get()
    }

    /// Counts a client that hit a limit.
    pub fn count_limit(&self, limit: Limit) {
        self.limits[limit as usize].add(1);
    }

    /// How often clients hit that limit.
    pub fn limit(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].get()
    }

    /// Counts a request that ended so.
    pub fn count(&self, label: OutcomeLabel) {
        self.requests[label as usize].add(1);
    }

    /// How often requests ended so.
    pub fn ended(&self, label: OutcomeLabel) -> u64 {
        self.requests[label as usize].get()
    }

    /// Whether this core's connection to the ledger is up.
    pub fn ledger_up(&self) -> bool {
        self.ledger_up.load(Ordering::Relaxed)
    }

    /// See [`CoreMetrics::ledger_up`].
    pub fn set_ledger_up(&self, up: bool) {
        self.ledger_up.store(up, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_counts_into_the_bucket_whose_bound_is_not_below() {
        let histogram = Histogram::default();
        for us in [50, 51, 3_000_000] {
            histogram.record(Monotonic(0), Monotonic(us * 1_000));
        }
        let (buckets, sum) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[16]), (1, 1, 1));
        assert!((sum - 3.000_101).abs() < 1e-9);
    }
}
