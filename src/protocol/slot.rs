//! Which part of a ledger a sale is in.
//!
//! A ledger may consist of several nodes; each sale is whole on one of them. A sale's [`Slot`] follows from its name alone and
//! never changes; which node has a slot may change at any time. Slots are those of Redis Cluster, by the hash tag in the keys
//! of a sale.

use std::fmt;

use crate::booking::SaleName;

/// The smallest part into which a ledger can be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// How many there are.
    pub const COUNT: u16 = 16_384;
    /// The slot of what concerns no single sale: the list of sales, and the feed.
    pub const DIRECTORY: Slot = Slot(0);

    /// The slot of a sale.
    pub fn of(sale: &SaleName) -> Slot {
        Slot(crc16(sale.as_str().as_bytes()) % Slot::COUNT)
    }

    /// Its number, below [`Slot::COUNT`].
    pub fn number(self) -> u16 {
        self.0
    }
}

/// CRC-16/XMODEM, by which Redis Cluster hashes keys.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

/// Consecutive slots, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    first: u16,
    last: u16,
}

impl SlotRange {
    /// All of them, as a ledger of one node has.
    pub const ALL: SlotRange = SlotRange { first: 0, last: Slot::COUNT - 1 };

    /// From `first` to `last`, both included; `None` if that is empty, or goes beyond the last slot.
    pub fn new(first: u16, last: u16) -> Option<SlotRange> {
        (first <= last && last < Slot::COUNT).then_some(SlotRange { first, last })
    }

    /// The number of the first.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The number of the last.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether it is one of them.
    pub fn contains(self, slot: Slot) -> bool {
        (self.first..=self.last).contains(&slot.0)
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sale_is_in_the_slot_that_redis_cluster_says() {
        // The check value of CRC-16/XMODEM, and two examples of the specification of Redis Cluster.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (name, slot) in [("foo", 12_182), ("hello", 866), ("123456789", 12_739)] {
            assert_eq!(Slot::of(&SaleName::parse(name).unwrap()).number(), slot, "{name}");
        }
    }

    #[test]
    fn a_range_has_its_ends_and_nothing_else() {
        let range = SlotRange::new(3, 5).unwrap();
        let contained = (0..10).filter(|&slot| range.contains(Slot(slot)));
        assert_eq!(contained.collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(SlotRange::new(5, 3), None);
        assert_eq!(SlotRange::new(0, Slot::COUNT), None);
        assert_eq!(SlotRange::new(0, Slot::COUNT - 1), Some(SlotRange::ALL));
        assert!(SlotRange::ALL.contains(Slot::DIRECTORY));
        assert_eq!(range.to_string(), "3-5");
    }
}
