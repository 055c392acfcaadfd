//! The token for permits that are with the ledger, and the one rule for how they end.

use super::CoreIndex;
use crate::protocol::Reservation;

/// Permits taken for one booking: one for each ticket it wants or, if fewer were free, at least one.
///
/// Linear: made by [`take`](super::SaleBoard::take) and consumed by exactly one [`settle`](super::SaleBoard::settle) of the
/// same sale. Dropping one unresolved is a broken invariant and panics in debug builds and tests. In a release build it
/// stays counted as with the ledger: the host then issues one permit less than it might (seen in the metrics as permits
/// taken on an idle host), which sells no ticket twice and leaves the ticket to other permits of this host and to other
/// hosts. Counting it as given back would be worse: its entry may be in flight. A host that shuts down with entries still
/// out settles them as [`Settlement::Returned`].
#[derive(Debug)]
#[must_use = "permits must be settled with the sale they were taken from"]
pub struct Permits {
    core: u32,
    count: u32,
}

impl Permits {
    pub(super) fn new(core: CoreIndex, count: u64) -> Permits {
        let core = u32::try_from(core.0).expect("a host has fewer than 2^32 cores");
        Permits {
            core,
            count: u32::try_from(count).expect("no booking takes more than QUANTITY_MAX permits"),
        }
    }

    /// The core whose shard they are counted with.
    pub fn core(&self) -> CoreIndex {
        CoreIndex(self.core as usize)
    }

    /// How many: 1 to the quantity of the booking.
    pub fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// Ends the token and returns its number.
    pub(super) fn resolve(mut self) -> u64 {
        u64::from(std::mem::take(&mut self.count))
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        debug_assert!(
            self.count == 0 || std::thread::panicking(),
            "{} permits of core {} were dropped unresolved",
            self.count,
            self.core
        );
    }
}

/// What became of permits, in one rule:
///
/// | the ledger | the permits | because |
/// | --- | --- | --- |
/// | granted the booking | are gone | so are its tickets |
/// | said that it has too few tickets | are gone | there was no ticket behind them; should there be some left (a group asked for more), the reading that came with this answer deals new ones |
/// | took no stock (replay, id reused, buyer limit, not on sale), or refused the call, or was never asked | are free again | their tickets are still there |
/// | has not answered | stay taken | the entry is sent again until there is an answer: unknown is never failed |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The ledger booked: the tickets are gone, and the permits with them.
    Spent,
    /// The ledger has no ticket behind these permits.
    Refused,
    /// No stock was taken: the permits are free again, on the core that took them.
    Returned,
}

impl From<&Reservation> for Settlement {
    fn from(reservation: &Reservation) -> Settlement {
        match reservation {
            Reservation::Granted { .. } => Settlement::Spent,
            Reservation::SoldOut => Settlement::Refused,
            Reservation::Known(_)
            | Reservation::IdReused
            | Reservation::BuyerLimit
            | Reservation::BuyerRequired
            | Reservation::NotOnSale => Settlement::Returned,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    #[cfg(debug_assertions)]
    fn dropping_unresolved_permits_is_loud() {
        let dropped = std::panic::catch_unwind(|| drop(Permits::new(CoreIndex(0), 1)));
        assert!(dropped.is_err());
    }

    #[test]
    fn resolved_permits_drop_in_silence() {
        assert_eq!(Permits::new(CoreIndex(3), 7).resolve(), 7);
    }
}
