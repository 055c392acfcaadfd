//! Which client ids of a sale wait for the ledger on this host, on any core: a second request with the same id is told so,
//! instead of being refused because the first one holds the permit.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::booking::BookingId;

/// Locks; two cores that book different ids seldom meet at one.
const SHARDS: usize = 16;

/// See the [module](self). Ids are kept as 64-bit keyed hashes: a collision costs a client one "in progress", and
/// nobody can make one up without the key.
pub(super) struct IdsInFlight {
    key: (u64, u64),
    shards: [Mutex<HashSet<u64, BuildHasherDefault<Identity>>>; SHARDS],
    /// How many are marked, so that nobody locks just to find none.
    marked: AtomicUsize,
}

/// The elements are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 is hashed here");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl IdsInFlight {
    pub(super) fn new(key: (u64, u64)) -> IdsInFlight {
        IdsInFlight { key, shards: Default::default(), marked: AtomicUsize::new(0) }
    }

    fn with<R>(
        &self,
        id: &BookingId,
        act: impl FnOnce(&mut HashSet<u64, BuildHasherDefault<Identity>>, u64) -> R,
    ) -> R {
        let hash = super::granted::hash(self.key, id.as_str());
        let mutex = &self.shards[(hash >> 60) as usize % SHARDS];
        // Every critical section leaves the set whole, so a panic elsewhere does no harm to it.
        act(&mut mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner), hash)
    }

    /// Marks an id; `false` if it was marked already.
    pub(super) fn begin(&self, id: &BookingId) -> bool {
        // Relaxed, as in `contains`: two concurrent requests may see each other or not.
        self.marked.fetch_add(1, Ordering::Relaxed);
        let is_new = self.with(id, |set, hash| set.insert(hash));
        if !is_new {
            self.marked.fetch_sub(1, Ordering::Relaxed);
        }
        is_new
    }

    /// How many are marked.
    pub(super) fn count(&self) -> usize {
        self.marked.load(Ordering::Relaxed)
    }

    /// Whether the id is marked.
    pub(super) fn contains(&self, id: &BookingId) -> bool {
        self.marked.load(Ordering::Relaxed) > 0 && self.with(id, |set, hash| set.contains(&hash))
    }

    /// Removes the mark.
    pub(super) fn end(&self, id: &BookingId) {
        if self.with(id, |set, hash| set.remove(&hash)) {
            self.marked.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_in_flight_once() {
        let ids = IdsInFlight::new((1, 2));
        let (a, b) = (BookingId::parse("a").unwrap(), BookingId::parse("b").unwrap());
        assert!(ids.begin(&a) && ids.begin(&b));
        assert!(!ids.begin(&a) && ids.contains(&a));
        ids.end(&a);
        assert!(!ids.contains(&a) && ids.contains(&b) && ids.begin(&a));
    }
}
