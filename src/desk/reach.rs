//! Which parts of the ledger are up, and since when the others are down.
//!
//! A part is a range of [slots](Slot). The desk knows nothing of connections: a ledger of one node is one part, which is up or
//! down as a whole.

use crate::clock::Monotonic;
use crate::protocol::{Slot, SlotRange};

/// The first behind all slots, the [directory](Slot::DIRECTORY) included.
const END: u16 = Slot::COUNT + 1;

/// Neighbouring slots in the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    /// The first after them.
    end: u16,
    /// Since when they are down; `None` if they are up.
    down_since: Option<Monotonic>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Reach {
    /// In ascending order, without gaps.
    parts: Vec<Stretch>,
}

impl Reach {
    /// All of it is down.
    pub(super) fn new(now: Monotonic) -> Reach {
        Reach { parts: vec![Stretch { end: END, down_since: Some(now) }] }
    }

    /// All of it is up.
    #[cfg(all(test, not(loom)))]
    pub(super) fn of_all() -> Reach {
        let mut reach = Reach::new(Monotonic(0));
        reach.note_up(SlotRange::ALL);
        reach
    }

    /// That part is up.
    pub(super) fn note_up(&mut self, slots: SlotRange) {
        self.set(slots, |_| None);
    }

    /// That part is down. What was down before stays so since then.
    pub(super) fn note_down(&mut self, slots: SlotRange, now: Monotonic) {
        self.set(slots, |before| before.or(Some(now)));
    }

    fn set(&mut self, slots: SlotRange, change: impl Fn(Option<Monotonic>) -> Option<Monotonic>) {
        let (first, end) = (slots.first(), slots.last() + 1);
        let mut parts = Vec::with_capacity(self.parts.len() + 2);
        let mut add = |part: Stretch| match parts.last_mut() {
            Some(Stretch { end, down_since }) if *down_since == part.down_since => *end = part.end,
            _ => parts.push(part),
        };
        let mut begin = 0;
        for part in &self.parts {
            let changed = change(part.down_since);
            for (from, to, down_since) in [
                (begin, part.end.min(first), part.down_since),
                (begin.max(first), part.end.min(end), changed),
                (begin.max(end), part.end, part.down_since),
            ] {
                if from < to {
                    add(Stretch { end: to, down_since });
                }
            }
            begin = part.end;
        }
        self.parts = parts;
    }

    /// Since when that slot is down; `None` if it is up.
    pub(super) fn down_since(&self, slot: Slot) -> Option<Monotonic> {
        let place = self.parts.partition_point(|part| part.end <= slot.number());
        self.parts[place].down_since
    }

    /// Whether that slot is up.
    pub(super) fn is_up(&self, slot: Slot) -> bool {
        self.down_since(slot).is_none()
    }

    /// Whether all slots are up.
    pub(super) fn is_all_up(&self) -> bool {
        self.parts.iter().all(|part| part.down_since.is_none())
    }

    /// Whether any slot is up.
    pub(super) fn is_any_up(&self) -> bool {
        self.parts.iter().any(|part| part.down_since.is_none())
    }

    /// Panics if it contradicts itself.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.parts.last().map(|part| part.end), Some(END), "each slot is in a part");
        assert!(self.parts.is_sorted_by(|part, next| part.end < next.end));
        assert!(self.parts.is_sorted_by(|part, next| part.down_since != next.down_since), "parts are merged");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::booking::SaleName;

    #[test]
    fn what_was_down_before_is_away_for_longer() {
        let mut reach = Reach::new(Monotonic(1));
        assert!(!reach.is_any_up());
        let half = SlotRange::new(0, 8_191).unwrap();
        reach.note_up(half);
        assert!(reach.is_any_up() && !reach.is_all_up() && !reach.is_up(Slot::DIRECTORY));
        reach.note_up(SlotRange::DIRECTORY);
        reach.note_down(SlotRange::ALL, Monotonic(5));
        assert_eq!(reach.down_since(Slot::DIRECTORY), Some(Monotonic(5)));
        let of_other_half = ["foo", "123456789"].map(|name| Slot::of(&SaleName::parse(name).unwrap()));
        for slot in of_other_half {
            assert_eq!(reach.down_since(slot), Some(Monotonic(1)));
        }
        reach.note_up(SlotRange::ALL);
        assert!(reach.is_all_up());
        reach.check_invariants();
    }

    proptest! {
        #[test]
        fn each_slot_stands_as_it_was_last_told(
            changes in prop::collection::vec((0..Slot::COUNT, 0..Slot::COUNT, any::<bool>()), 0..20),
            names in prop::collection::vec("[a-z]{1,8}", 1..20),
        ) {
            let mut reach = Reach::new(Monotonic(0));
            let mut model = vec![Some(Monotonic(0)); usize::from(END)];
            for (turn, &(one, other, is_up)) in (1..).zip(&changes) {
                let slots = SlotRange::new(one.min(other), one.max(other)).unwrap();
                match is_up {
                    true => reach.note_up(slots),
                    false => reach.note_down(slots, Monotonic(turn)),
                }
                for slot in &mut model[usize::from(slots.first())..=usize::from(slots.last())] {
                    *slot = if is_up { None } else { slot.or(Some(Monotonic(turn))) };
                }
                reach.check_invariants();
            }
            for name in names {
                let slot = Slot::of(&SaleName::parse(name).unwrap());
                prop_assert_eq!(reach.down_since(slot), model[usize::from(slot.number())]);
            }
            prop_assert_eq!(reach.is_all_up(), model.iter().all(|down| down.is_none()));
            prop_assert_eq!(reach.is_any_up(), model.iter().any(|down| down.is_none()));
        }
    }
}
