//! The ids that were granted, as fingerprints: what lets a host refuse an unknown id from memory once a sale is sold out,
//! and still find the booking of a client that asks again.
//!
//! A fingerprint that is found may be another id's: the ledger is then asked in vain. One that is not found belongs to no
//! id that was put in. So the set may only err towards asking.
//!
//! Fingerprints are of a keyed hash, so that nobody can make up ids that collide. They are kept in tables, each twice as
//! large as the one before; a full one is never moved, so readers need no lock. A grant costs 4 bytes over a load of 3/4;
//! when the largest table has just begun that is 11 bytes, and never more than 16 (tested).

use std::hash::Hasher;
use std::sync::OnceLock;
// Not loom's: a slot is set once and for all, and readers act on nothing but its value.
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

use crate::booking::BookingId;

/// Slots of the first table; a power of two.
const SLOTS_FIRST: usize = 1 << 6;
/// Tables, each twice as large as the one before: room for 2^37 ids, far beyond any memory.
const TABLES: usize = 32;
/// A table takes 3 ids in 4 slots: then a miss probes 2 to 3 slots behind its place on average.
const fn ids_max(slots: usize) -> u64 {
    (slots / 4 * 3) as u64
}

/// See the [module](self).
pub(super) struct GrantedIds {
    key: (u64, u64),
    tables: [OnceLock<Box<[AtomicU32]>>; TABLES],
    ids: AtomicU64,
}

/// An id's place and fingerprint; never 0, which is an empty slot.
#[derive(Clone, Copy)]
struct Print {
    place: u32,
    print: u32,
}

impl GrantedIds {
    pub(super) fn new(key: (u64, u64)) -> GrantedIds {
        GrantedIds { key, tables: [const { OnceLock::new() }; TABLES], ids: AtomicU64::new(0) }
    }

    fn print(&self, id: &BookingId) -> Print {
        let hash = hash(self.key, id.as_str());
        Print { place: hash as u32, print: ((hash >> 32) as u32).max(1) }
    }

    /// Whether the id may have been put in.
    pub(super) fn contains(&self, id: &BookingId) -> bool {
        let print = self.print(id);
        self.tables.iter().map_while(OnceLock::get).any(|table| matches!(find(table, print), Found::There))
    }

    /// Puts in an id that may be there already.
    pub(super) fn insert(&self, id: &BookingId) {
        if !self.contains(id) {
            self.insert_new(id);
        }
    }

    /// Puts in an id that is not there, as the ledger has just said. Looks only at the largest table: searching the others,
    /// each a cache miss or two, would cost more than the rest of a grant. An id that is put in twice takes two places and
    /// does no other harm; two cores may do so with [`GrantedIds::insert`], too.
    pub(super) fn insert_new(&self, id: &BookingId) {
        self.put(self.print(id));
    }

    /// Like [`GrantedIds::insert_new`], for a whole batch. Every place is a cache miss, a tenth of what a booking costs the
    /// host; if all are touched one right after the other, before any is used, their waits overlap.
    pub(super) fn insert_all_new<'i>(&self, ids: impl Iterator<Item = &'i BookingId>) {
        let prints: Vec<Print> = ids.map(|id| self.print(id)).collect();
        if let Some(table) = self.tables.iter().map_while(OnceLock::get).last() {
            // Relaxed: what is there does not matter yet.
            let touch =
                |print: &Print| table[print.place as usize & (table.len() - 1)].load(Ordering::Relaxed);
            std::hint::black_box(prints.iter().map(touch).fold(0, |all, each| all | each));
        }
        prints.into_iter().for_each(|print| self.put(print));
    }

    fn put(&self, print: Print) {
        let mut room = 0;
        // Relaxed: a count for choosing the table; it is off by the cores that insert at this instant, which the slack
        // absorbs.
        let ids = self.ids.load(Ordering::Relaxed);
        for (index, table) in self.tables.iter().enumerate() {
            let slots = SLOTS_FIRST << index;
            room += ids_max(slots);
            if ids >= room {
                continue;
            }
            let table = table.get_or_init(|| (0..slots).map(|_| AtomicU32::new(0)).collect());
            // If the table is full, more cores insert at this instant than the slack absorbs: the next table has room.
            loop {
                match find(table, print) {
                    Found::There => return,
                    Found::Full => break,
                    Found::Free(slot) => {
                        // Relaxed: the fingerprint is all there is to see. If another core took the slot, look on.
                        let taken = table[slot].compare_exchange(
                            0,
                            print.print,
                            Ordering::Relaxed,
                            Ordering::Relaxed,
                        );
                        if taken.is_ok() {
                            self.ids.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Ids put in, and the bytes that their tables take.
    #[cfg(all(test, not(loom)))]
    fn size(&self) -> (u64, usize) {
        let slots: usize = self.tables.iter().filter_map(OnceLock::get).map(|table| table.len()).sum();
        (self.ids.load(Ordering::Relaxed), slots * size_of::<AtomicU32>())
    }
}

/// Where a search ends.
enum Found {
    There,
    Free(usize),
    Full,
}

fn find(table: &[AtomicU32], Print { place, print }: Print) -> Found {
    let mask = table.len() - 1;
    for step in 0..table.len() {
        let slot = (place as usize + step) & mask;
        // Relaxed: see `insert`.
        match table[slot].load(Ordering::Relaxed) {
            0 => return Found::Free(slot),
            found if found == print => return Found::There,
            _ => {}
        }
    }
    Found::Full
}

/// A keyed hash of an id.
pub(super) fn hash(key: (u64, u64), id: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key.0, key.1);
    hasher.write(id.as_bytes());
    hasher.finish()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn id(number: u32) -> BookingId {
        BookingId::parse(format!("b-{number}")).unwrap()
    }

    #[test]
    fn finds_what_was_put_in_and_next_to_nothing_else() {
        let granted = GrantedIds::new((1, 2));
        assert!(!granted.contains(&id(0)));
        for number in 0..200_000 {
            granted.insert(&id(number));
            granted.insert(&id(number));
        }
        assert!((0..200_000).all(|number| granted.contains(&id(number))));
        let wrong = (200_000..1_200_000).filter(|&number| granted.contains(&id(number))).count();
        assert!(wrong < 1_000, "{wrong} of 1,000,000 unknown ids were taken for granted ones");
    }

    #[test]
    fn takes_batches() {
        let granted = GrantedIds::new((5, 6));
        for batch in 0..1_000 {
            let ids: Vec<_> = (batch * 100..batch * 100 + 100).map(id).collect();
            granted.insert_all_new(ids.iter());
            assert!(ids.iter().all(|id| granted.contains(id)), "batch {batch}");
        }
        assert!((0..100_000).all(|number| granted.contains(&id(number))));
    }

    #[test]
    fn takes_at_most_16_bytes_an_id() {
        let granted = GrantedIds::new((1, 2));
        let mut most = 0.0_f64;
        for number in 0..1_000_000 {
            granted.insert(&id(number));
            let (ids, bytes) = granted.size();
            if ids >= 100 {
                most = most.max(bytes as f64 / ids as f64);
            }
        }
        assert!(most <= 16.0, "{most} bytes an id");
    }

    #[test]
    fn cores_may_put_ids_in_at_the_same_time() {
        let granted = GrantedIds::new((3, 4));
        std::thread::scope(|scope| {
            for core in 0..4 {
                let granted = &granted;
                scope.spawn(move || {
                    (0..50_000).for_each(|number| granted.insert(&id(core * 25_000 + number)))
                });
            }
        });
        assert!((0..125_000).all(|number| granted.contains(&id(number))));
    }
}
