//! The most that this host has seen of a sale's log, readable without a lock: it shows a ledger that it has forgotten
//! something.

// Not loom's: a reader takes these as what was seen a moment ago, and the ledger judges.
use std::sync::atomic::{AtomicU64, Ordering};

use crate::booking::SaleState;
use crate::protocol::Watermark;

/// See the [module](self). One writer at a time: the caller holds the sale's lock.
#[derive(Default)]
pub(super) struct SharedWatermark {
    opened: AtomicU64,
    lineage: AtomicU64,
    sequence: AtomicU64,
}

impl SharedWatermark {
    /// Takes in a reading. `late` means that it was made before one that is known.
    pub(super) fn note(&self, reading: &SaleState, late: bool) {
        let known = self.get();
        let new = (reading.opened, reading.lineage) != (known.opened, known.lineage);
        // A lower lineage of the same sale means that the ledger has forgotten that it forgot: what was seen stays.
        let other = match reading.opened == known.opened {
            true => reading.lineage > known.lineage,
            false => !late,
        };
        if new && !other {
            return;
        }
        if new || reading.sequence > known.sequence {
            self.sequence.store(reading.sequence, Ordering::Relaxed);
        }
        if new {
            // Release: pairs with the Acquires in `get`. Whoever sees the new lineage sees a sequence of it, not one of the
            // old, which may be higher: the ledger would take it as proof.
            self.opened.store(reading.opened, Ordering::Release);
            self.lineage.store(reading.lineage, Ordering::Release);
        }
    }

    /// Nothing was seen except that there was a sale, opened at that time.
    pub(super) fn note_former(&self, opened: u64) {
        if !self.get().is_something() {
            self.opened.store(opened, Ordering::Release);
            self.lineage.store(opened, Ordering::Release);
        }
    }

    /// The sale that was seen was removed on purpose.
    pub(super) fn forget(&self) {
        self.sequence.store(0, Ordering::Relaxed);
        self.opened.store(0, Ordering::Release);
        self.lineage.store(0, Ordering::Release);
    }

    pub(super) fn get(&self) -> Watermark {
        // In this order; see `note`. The old lineage with a new sequence does no harm: a caller with an old lineage is
        // stale to the ledger, which then looks at no sequence.
        let lineage = self.lineage.load(Ordering::Acquire);
        let opened = self.opened.load(Ordering::Acquire);
        Watermark { opened, lineage, sequence: self.sequence.load(Ordering::Relaxed) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn reading(opened: u64, lineage: u64, sequence: u64) -> SaleState {
        SaleState { opened, lineage, sequence, ..SaleState::default() }
    }

    fn seen(opened: u64, lineage: u64, sequence: u64) -> Watermark {
        Watermark { opened, lineage, sequence }
    }

    #[test]
    fn keeps_the_highest_of_a_lineage_and_never_goes_back_to_an_older_one() {
        let highest = SharedWatermark::default();
        for (late, told, expected) in [
            (false, (5, 5, 10), seen(5, 5, 10)),
            (false, (5, 5, 8), seen(5, 5, 10)),
            (false, (5, 5, 12), seen(5, 5, 12)),
            // The ledger was found to have forgotten something.
            (false, (5, 7, 9), seen(5, 7, 9)),
            (true, (5, 5, 13), seen(5, 7, 9)),
            (false, (5, 5, 13), seen(5, 7, 9)),
            // Another sale of that name.
            (true, (4, 4, 99), seen(5, 7, 9)),
            (false, (8, 8, 0), seen(8, 8, 0)),
            // A copy of the first one is back.
            (false, (5, 5, 3), seen(5, 5, 3)),
        ] {
            let (opened, lineage, sequence) = told;
            highest.note(&reading(opened, lineage, sequence), late);
            assert_eq!(highest.get(), expected, "{told:?}");
        }
    }
}
