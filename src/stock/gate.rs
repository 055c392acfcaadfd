//! Whether a sale is open, readable without a lock.

use super::sync::{AtomicU64, Ordering, fence};
use crate::booking::{OffSale, SaleState, SaleStatus};
use crate::clock::WallTime;

/// Whether requests may pass to the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It is open, as far as this host knows.
    Open,
    /// It is not on sale now.
    NotOnSale(OffSale),
    /// The ledger forgot something of it, and hosts are putting back what they acknowledged.
    Frozen,
    /// The ledger has no such sale. Not the same as sold out.
    Missing,
    /// The ledger's record of it is not sound.
    Unsound,
}

impl Gate {
    /// Whether nothing can be done with the sale, so that only what cannot wait is asked of it.
    pub fn is_out_of_order(self) -> bool {
        matches!(self, Gate::Missing | Gate::Unsound)
    }
}

const OPEN: u64 = 0;
const PAUSED: u64 = 1;
const CLOSED: u64 = 2;
const MISSING: u64 = 3;
const FROZEN: u64 = 4;
const UNSOUND: u64 = 5;

/// What every request of a sale reads, on a cache line that is written only when a reading differs from the last.
///
/// The words are read one by one: while an operator moves a window, a request may see the old start with the new end. It is
/// then let through to the ledger, which judges it, or refused as it would have been a moment before or after. So `Relaxed`
/// is enough; none of the words publishes other memory.
pub(super) struct Front {
    status: AtomicU64,
    /// 0: always begun.
    starts_at: AtomicU64,
    /// `u64::MAX`: never over.
    ends_at: AtomicU64,
    /// What the ledger had left at its last reading.
    available: AtomicU64,
    /// Twice the number of deals that ended what was before, and one more if the permits outstanding cover what is left.
    cover: AtomicU64,
}

/// What [`Front::cover`] showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cover(u64);

impl Cover {
    /// Whether this host asks for all that is left, as soon as none of its permits is free.
    fn is_whole(self) -> bool {
        self.0 % 2 == 1
    }
}

impl Front {
    /// For a sale of which nothing is known yet.
    pub(super) fn new() -> Front {
        Front {
            status: AtomicU64::new(MISSING),
            starts_at: AtomicU64::new(0),
            ends_at: AtomicU64::new(u64::MAX),
            available: AtomicU64::new(0),
            cover: AtomicU64::new(0),
        }
    }

    /// To be read before shards are looked at, for [`was_covered`](Front::was_covered).
    pub(super) fn cover(&self) -> Cover {
        // Acquire, and the fence behind the shards: a seqlock's reader. Pairs with `set_cover`.
        Cover(self.cover.load(Ordering::Acquire))
    }

    /// Whether, all the time since then, the permits outstanding covered what is left.
    pub(super) fn was_covered(&self, then: Cover) -> bool {
        fence(Ordering::Acquire);
        then.is_whole() && self.cover.load(Ordering::Relaxed) == then.0
    }

    /// Says whether they do, and before any permit is moved that they may not. Called under the sale's lock.
    pub(super) fn set_cover(&self, is_whole: bool) {
        let before = Cover(self.cover.load(Ordering::Relaxed));
        if before.is_whole() == is_whole {
            return;
        }
        match is_whole {
            // Release: who sees it sees the permits that were dealt.
            true => self.cover.store(before.0 + 1, Ordering::Release),
            false => {
                self.cover.store(before.0 + 1, Ordering::Relaxed);
                // Who sees a permit that is dealt after this sees that it was said.
                fence(Ordering::Release);
            }
        }
    }

    pub(super) fn show(&self, state: &SaleState) {
        set(&self.starts_at, state.terms.starts_at.map_or(0, |time| time.0));
        set(&self.ends_at, state.terms.ends_at.map_or(u64::MAX, |time| time.0));
        set(&self.available, state.available());
        set(
            &self.status,
            match state.status {
                _ if state.is_frozen() => FROZEN,
                SaleStatus::Open => OPEN,
                SaleStatus::Paused => PAUSED,
                SaleStatus::Closed => CLOSED,
            },
        );
    }

    pub(super) fn show_missing(&self) {
        set(&self.status, MISSING);
        set(&self.available, 0);
    }

    pub(super) fn show_unsound(&self) {
        set(&self.status, UNSOUND);
        set(&self.available, 0);
    }

    pub(super) fn available(&self) -> u64 {
        self.available.load(Ordering::Relaxed)
    }

    /// At the ledger's time `now`.
    pub(super) fn gate(&self, now: WallTime) -> Gate {
        match self.status.load(Ordering::Relaxed) {
            OPEN => {}
            PAUSED => return Gate::NotOnSale(OffSale::Paused),
            CLOSED => return Gate::NotOnSale(OffSale::Closed),
            FROZEN => return Gate::Frozen,
            UNSOUND => return Gate::Unsound,
            _ => return Gate::Missing,
        }
        let starts_at = WallTime(self.starts_at.load(Ordering::Relaxed));
        let ends_at = WallTime(self.ends_at.load(Ordering::Relaxed));
        if now < starts_at {
            Gate::NotOnSale(OffSale::NotYet { starts_at })
        } else if now >= ends_at {
            Gate::NotOnSale(OffSale::Over { ends_at })
        } else {
            Gate::Open
        }
    }
}

/// Writes only what differs: a store of the same value would still take the line away from every other core. One
/// writer at a time: the caller holds the sale's lock.
fn set(word: &AtomicU64, value: u64) {
    if word.load(Ordering::Relaxed) != value {
        word.store(value, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_state_it_shows() {
        let front = Front::new();
        assert_eq!(front.gate(WallTime(5)), Gate::Missing);
        let mut state = SaleState::default();
        for starts_at in [None, Some(WallTime(10)), Some(WallTime(20))] {
            for ends_at in [None, Some(WallTime(20)), Some(WallTime(30))] {
                for status in [SaleStatus::Open, SaleStatus::Paused, SaleStatus::Closed] {
                    state.terms.starts_at = starts_at;
                    state.terms.ends_at = ends_at;
                    state.status = status;
                    front.show(&state);
                    for now in [0, 9, 10, 19, 20, 29, 30, 31].map(WallTime) {
                        let expected = state.off_sale(now).map_or(Gate::Open, Gate::NotOnSale);
                        assert_eq!(front.gate(now), expected, "{state:?} at {now}");
                    }
                }
            }
        }
    }

    #[test]
    fn says_why() {
        let front = Front::new();
        let mut state = SaleState::default();
        state.terms.starts_at = Some(WallTime(10));
        state.terms.ends_at = Some(WallTime(20));
        front.show(&state);
        let not_yet = OffSale::NotYet { starts_at: WallTime(10) };
        assert_eq!(front.gate(WallTime(9)), Gate::NotOnSale(not_yet));
        assert_eq!(front.gate(WallTime(20)), Gate::NotOnSale(OffSale::Over { ends_at: WallTime(20) }));
        state.status = SaleStatus::Paused;
        front.show(&state);
        assert_eq!(front.gate(WallTime(15)), Gate::NotOnSale(OffSale::Paused));
        state.frozen_until = WallTime(16);
        state.now = WallTime(15);
        front.show(&state);
        assert_eq!(front.gate(WallTime(15)), Gate::Frozen);
        state.now = WallTime(16);
        front.show(&state);
        assert_eq!(front.gate(WallTime(16)), Gate::NotOnSale(OffSale::Paused));
        assert!(!front.gate(WallTime(16)).is_out_of_order());
        front.show_missing();
        assert_eq!(front.gate(WallTime(15)), Gate::Missing);
        assert!(front.gate(WallTime(15)).is_out_of_order());
        front.show_unsound();
        assert_eq!((front.gate(WallTime(15)), front.available()), (Gate::Unsound, 0));
        assert!(front.gate(WallTime(15)).is_out_of_order());
        front.show(&state);
        assert_eq!(front.gate(WallTime(16)), Gate::NotOnSale(OffSale::Paused));
    }
}
