//! Bookings that this core acknowledged recently: put back into a ledger that has forgotten them.
//!
//! One ring for all sales, allocated at the start: remembering a booking costs a copy of it, and nothing at all if nothing
//! was booked. Bounded by count and, while the ledger is there, by time.

use std::collections::{BTreeMap, VecDeque};

use super::lanes::LaneIndex;
use crate::booking::{Booking, BookingId};
use crate::clock::Monotonic;
use crate::limits::{REMEMBERED_MS, REMEMBERED_PER_CORE_MAX};

struct Acknowledged {
    lane: LaneIndex,
    /// When the sale was opened: another one may have been opened under its name since.
    opened: u64,
    at: Monotonic,
    booking: Booking,
}

/// See the [module](self).
pub(super) struct Memory {
    told: VecDeque<Acknowledged>,
    /// How many there are of each lane.
    counts: Vec<u32>,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory { told: VecDeque::with_capacity(REMEMBERED_PER_CORE_MAX), counts: Vec::new() }
    }

    /// Remembers what a client was told of a booking of the sale that was `opened` then; the latest counts.
    pub(super) fn note(&mut self, lane: LaneIndex, opened: u64, booking: &Booking, now: Monotonic) {
        if self.told.len() == REMEMBERED_PER_CORE_MAX {
            self.forget_oldest();
        }
        let index = lane.0 as usize;
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.told.push_back(Acknowledged { lane, opened, at: now, booking: booking.clone() });
    }

    /// Forgets what is too old. Must not be called while any part of the ledger is away: the state with which it comes back
    /// may be as old as its absence is long.
    pub(super) fn forget_before(&mut self, now: Monotonic) {
        while self.told.front().is_some_and(|told| now > told.at.plus_ms(REMEMBERED_MS)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(told) = self.told.pop_front() {
            self.counts[told.lane.0 as usize] -= 1;
        }
    }

    /// Whether anything of that sale is remembered.
    pub(super) fn knows(&self, lane: LaneIndex) -> bool {
        self.counts.get(lane.0 as usize).is_some_and(|&count| count > 0)
    }

    /// The first sale from that one on of which anything is remembered.
    pub(super) fn next_known(&self, from: usize) -> Option<LaneIndex> {
        let counts = self.counts.get(from..)?;
        let place = counts.iter().position(|&count| count > 0)?;
        u32::try_from(from + place).ok().map(LaneIndex)
    }

    /// What clients were last told of each booking of these sales, in the order of first mention, with the time at which
    /// its sale was opened.
    pub(super) fn latest(&self, lanes: &[LaneIndex]) -> Vec<(LaneIndex, Vec<(u64, Booking)>)> {
        let mut found: Vec<(LaneIndex, Vec<(u64, Booking)>)> =
            lanes.iter().map(|&lane| (lane, Vec::new())).collect();
        let place: BTreeMap<u32, usize> = lanes.iter().enumerate().map(|(at, lane)| (lane.0, at)).collect();
        // Not by a hash without a secret: clients choose the ids.
        let mut seen: BTreeMap<(u32, &BookingId), usize> = BTreeMap::new();
        for Acknowledged { lane, opened, booking, .. } in &self.told {
            let Some(&at) = place.get(&lane.0) else { continue };
            let bookings = &mut found[at].1;
            match seen.get(&(lane.0, &booking.id)) {
                Some(&before) => bookings[before] = (*opened, booking.clone()),
                None => {
                    seen.insert((lane.0, &booking.id), bookings.len());
                    bookings.push((*opened, booking.clone()));
                }
            }
        }
        found
    }

    /// Forgets the bookings of a sale that `which` selects.
    pub(super) fn forget(&mut self, lane: LaneIndex, which: impl Fn(&BookingId) -> bool) {
        let before = self.told.len();
        self.told.retain(|told| told.lane != lane || !which(&told.booking.id));
        if let Some(count) = self.counts.get_mut(lane.0 as usize) {
            *count -= (before - self.told.len()) as u32;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::booking::{BookingStatus, Quantity};
    use crate::clock::WallTime;

    fn booking(id: &str, status: BookingStatus) -> Booking {
        let id = BookingId::parse(id).unwrap();
        Booking { id, status, quantity: Quantity::ONE, released: 0, buyer: None, reassigned: 0 }
    }

    fn ms(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    fn of(memory: &Memory, lane: u32) -> Vec<(String, &'static str)> {
        let latest = memory.latest(&[LaneIndex(lane)]).remove(0).1;
        latest.iter().map(|(_, booking)| (booking.id.to_string(), booking.status.word())).collect()
    }

    #[test]
    fn the_latest_word_of_each_booking_counts() {
        let mut memory = Memory::new();
        let held = BookingStatus::Held { expires_at: WallTime(9) };
        for (lane, id, status) in [
            (0, "a", held),
            (1, "a", held),
            (0, "b", held),
            (0, "a", BookingStatus::Confirmed),
            (0, "b", BookingStatus::Cancelled),
        ] {
            memory.note(LaneIndex(lane), 1, &booking(id, status), ms(1));
        }
        assert_eq!(of(&memory, 0), [("a".to_owned(), "confirmed"), ("b".to_owned(), "cancelled")]);
        assert_eq!(of(&memory, 1), [("a".to_owned(), "held")]);
        memory.forget(LaneIndex(0), |id| id.as_str() == "a");
        assert_eq!(of(&memory, 0), [("b".to_owned(), "cancelled")]);
        assert_eq!(of(&memory, 1), [("a".to_owned(), "held")]);
        memory.forget(LaneIndex(0), |_| true);
        assert_eq!(
            (memory.knows(LaneIndex(0)), memory.knows(LaneIndex(1)), memory.knows(LaneIndex(2))),
            (false, true, false)
        );
    }

    #[test]
    fn forgets_by_time_and_by_count_and_never_grows() {
        let mut memory = Memory::new();
        let room = memory.told.capacity();
        memory.note(LaneIndex(0), 1, &booking("old", BookingStatus::Confirmed), ms(0));
        memory.note(LaneIndex(0), 1, &booking("new", BookingStatus::Confirmed), ms(REMEMBERED_MS));
        assert_eq!(of(&memory, 0).len(), 2);
        memory.forget_before(ms(REMEMBERED_MS + 1));
        assert_eq!(of(&memory, 0), [("new".to_owned(), "confirmed")]);
        for n in 0..REMEMBERED_PER_CORE_MAX {
            memory.note(
                LaneIndex(1),
                1,
                &booking(&format!("b-{n}"), BookingStatus::Confirmed),
                ms(REMEMBERED_MS + 2),
            );
        }
        assert!(!memory.knows(LaneIndex(0)), "the oldest goes where there is no room");
        assert_eq!(of(&memory, 1).len(), REMEMBERED_PER_CORE_MAX);
        assert_eq!(memory.told.capacity(), room);
    }
}
