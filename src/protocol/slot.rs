//! Which part of a ledger a sale is in.
//!
//! A ledger may consist of several nodes; each sale is whole on one of them. A sale's [`Slot`] follows from its name alone and
//! never changes; which node has a slot may change at any time. Slots are those of Redis Cluster, by the hash tag in the keys
//! of a sale.
//!
//! What concerns no single sale (the names of all sales, above all) has a slot of its own, [`Slot::DIRECTORY`], on a ledger of
//! one node. On a Cluster it is divided into [shards](DirectoryShard), so that there is no one key that all hosts need.

use std::fmt;

use crate::booking::SaleName;

/// The smallest part into which a ledger can be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// How many there are for sales.
    pub const COUNT: u16 = 16_384;
    /// What concerns no single sale: the list of sales, and the feed. No sale is in it.
    pub const DIRECTORY: Slot = Slot(Slot::COUNT);

    /// The slot of a sale.
    pub fn of(sale: &SaleName) -> Slot {
        Slot::of_tag(sale.as_str())
    }

    /// The slot of keys with that hash tag.
    pub fn of_tag(tag: &str) -> Slot {
        Slot(crc16(tag.as_bytes()) % Slot::COUNT)
    }

    /// The one with that number; `None` if that is no slot of sales.
    pub fn new(number: u16) -> Option<Slot> {
        (number < Slot::COUNT).then_some(Slot(number))
    }

    /// Its number, below [`Slot::COUNT`] if sales may be in it.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A part of the directory of a Cluster: the names of the sales in a sixteenth of the slots. Its keys are in one of those
/// slots, so that mostly the node that has a sale has its name as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryShard(u8);

impl DirectoryShard {
    /// How many there are. All are asked for a list, every few seconds.
    pub const COUNT: u8 = 16;

    /// The shard with the name of that sale.
    pub fn of(sale: &SaleName) -> DirectoryShard {
        DirectoryShard((Slot::of(sale).0 / (Slot::COUNT / u16::from(DirectoryShard::COUNT))) as u8)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = DirectoryShard> {
        (0..DirectoryShard::COUNT).map(DirectoryShard)
    }

    /// The hash tag in its keys: the smallest number whose slot is among those of its sales.
    pub fn tag(self) -> &'static str {
        const TAGS: [&str; DirectoryShard::COUNT as usize] =
            ["10", "3", "61", "43", "11", "2", "60", "42", "12", "1", "63", "41", "13", "0", "62", "40"];
        TAGS[usize::from(self.0)]
    }

    /// The slot of its keys.
    pub fn slot(self) -> Slot {
        Slot::of_tag(self.tag())
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
    pub const ALL: SlotRange = SlotRange { first: 0, last: Slot::COUNT };

    /// What concerns no single sale, and nothing else.
    pub const DIRECTORY: SlotRange = SlotRange { first: Slot::COUNT, last: Slot::COUNT };

    /// From `first` to `last`, both included; `None` if that is empty, or goes beyond the last slot of sales.
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
    fn the_name_of_a_sale_is_in_a_slot_near_its_own() {
        let mut slots: Vec<u16> = DirectoryShard::all().map(|shard| shard.slot().number()).collect();
        for (shard, slot) in DirectoryShard::all().zip(&slots) {
            assert_eq!(slot / 1_024, u16::from(shard.0), "{shard:?}");
        }
        slots.dedup();
        assert_eq!(slots.len(), usize::from(DirectoryShard::COUNT));
        for name in ["foo", "hello", "123456789"] {
            let sale = SaleName::parse(name).unwrap();
            assert_eq!(DirectoryShard::of(&sale).slot().number() / 1_024, Slot::of(&sale).number() / 1_024);
        }
    }

    #[test]
    fn a_range_has_its_ends_and_nothing_else() {
        let range = SlotRange::new(3, 5).unwrap();
        let contained = (0..10).filter(|&slot| range.contains(Slot(slot)));
        assert_eq!(contained.collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(SlotRange::new(5, 3), None);
        assert_eq!(SlotRange::new(0, Slot::COUNT), None);
        assert!(SlotRange::new(0, Slot::COUNT - 1).is_some_and(|sales| !sales.contains(Slot::DIRECTORY)));
        assert!(SlotRange::ALL.contains(Slot::DIRECTORY));
        assert_eq!(range.to_string(), "3-5");
    }
}
