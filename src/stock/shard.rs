//! One core's permits of one sale.

use super::sync::{AtomicU64, Ordering};

/// One core's permits of one sale; alone on its cache lines (the owner pads it).
///
/// All orderings are `Relaxed`: each number stands for itself and publishes no other memory. That no permit is made or
/// lost rests on every change being a single read-modify-write.
pub(super) struct Shard {
    /// Permits free to be taken.
    free: AtomicU64,
    /// Permits of this core's bookings that are with the ledger.
    taken: AtomicU64,
    /// Permits of this core's bookings that are gone, since the start: their tickets are, or there were none.
    ended: AtomicU64,
    /// How often this core took permits from a sibling's shard, since the start.
    steals: AtomicU64,
}

/// What a shard counts, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Permits free to be taken.
    pub free: u64,
    /// Permits that are with the ledger.
    pub taken: u64,
    /// How often this core took permits from a sibling's shard, since the start.
    pub steals: u64,
}

impl Shard {
    pub(super) fn new() -> Shard {
        Shard {
            free: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            steals: AtomicU64::new(0),
        }
    }

    /// Moves up to `most` permits out of the free ones and returns how many; the caller has them now. If there are none,
    /// this only reads, so that refusals leave the cache line shared by all cores.
    pub(super) fn remove_free(&self, most: u64) -> u64 {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            let count = free.min(most);
            if count == 0 {
                return 0;
            }
            // Pairs with itself and `add_free` on other cores: the loser of a race sees the new number and tries again.
            match self.free.compare_exchange_weak(free, free - count, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return count,
                Err(now) => free = now,
            }
        }
    }

    /// Adds free permits.
    pub(super) fn add_free(&self, count: u64) {
        self.free.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts permits as with the ledger.
    pub(super) fn add_taken(&self, count: u64) {
        self.taken.fetch_add(count, Ordering::Relaxed);
    }

    /// No longer counts permits as with the ledger.
    ///
    /// # Panics
    /// If fewer are: permits were settled with a sale that they were not taken from.
    pub(super) fn remove_taken(&self, count: u64) {
        let before = self.taken.fetch_sub(count, Ordering::Relaxed);
        assert!(before >= count, "{count} permits settled where {before} were taken");
    }

    /// Counts permits as gone.
    pub(super) fn count_ended(&self, count: u64) {
        self.ended.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn count_steal(&self) {
        self.steals.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn totals(&self) -> ShardTotals {
        let taken = self.taken.load(Ordering::Relaxed);
        ShardTotals { free: self.free(), taken, steals: self.steals.load(Ordering::Relaxed) }
    }
}
