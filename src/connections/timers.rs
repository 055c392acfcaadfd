//! Deadlines of connections: a wheel of coarse slots that is only ever looked at once a turn.
//!
//! A connection's deadline moves with nearly every request, but nearly always to later. So an entry is not moved: when its
//! slot comes up, the engine looks at the connection's real deadline and puts it back if that is still to come.

use std::collections::VecDeque;

use crate::clock::Monotonic;
use crate::limits;

/// Width of a slot, in nanoseconds (10 ms): the precision of every connection time-out, and so fine that connections that
/// came one after another are also cut one after another, with the others' requests in between.
const TICK_NS: u64 = 10_000_000;
/// Slots of the wheel: one revolution is longer than the default time-outs. A longer one comes up, and is put back, once
/// per revolution.
const SLOTS: u64 = 8192;

const _: () = assert!(limits::IDLE_TIMEOUT_MS * 1_000_000 < TICK_NS * (SLOTS - 1));

/// See the [module](self). `K` names what the deadline is of.
#[derive(Debug)]
pub struct Timers<K> {
    slots: Vec<Vec<(K, Monotonic)>>,
    /// The first tick not taken yet.
    tick: u64,
    entries: usize,
}

impl<K: Copy> Timers<K> {
    /// An empty wheel that begins at `now`.
    pub fn new(now: Monotonic) -> Timers<K> {
        Timers { slots: (0..SLOTS).map(|_| Vec::new()).collect(), tick: now.0 / TICK_NS, entries: 0 }
    }

    /// Puts `key` in, to come out once `at` has passed. A deadline more than a revolution away comes out early, which does
    /// no harm: the caller looks at the real deadline.
    pub fn insert(&mut self, key: K, at: Monotonic) {
        let tick = (at.0 / TICK_NS + 1).clamp(self.tick, self.tick + SLOTS - 1);
        self.slots[(tick % SLOTS) as usize].push((key, at));
        self.entries += 1;
    }

    /// Moves everything that came up by `now` to `due`, each with the deadline that it was put in with.
    pub fn take_due(&mut self, now: Monotonic, due: &mut VecDeque<(K, Monotonic)>) {
        let now_tick = now.0 / TICK_NS;
        if self.entries == 0 {
            self.tick = self.tick.max(now_tick);
            return;
        }
        // After a long stall one revolution of the wheel has seen every slot.
        let first = self.tick.max((now_tick + 1).saturating_sub(SLOTS));
        for tick in first..=now_tick {
            let slot = &mut self.slots[(tick % SLOTS) as usize];
            self.entries -= slot.len();
            due.extend(slot.drain(..));
        }
        self.tick = self.tick.max(now_tick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut Timers<u32>, ms: u64) -> Vec<u32> {
        let mut due = VecDeque::new();
        timers.take_due(Monotonic(ms * 1_000_000), &mut due);
        due.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn comes_out_once_and_not_early() {
        let mut timers = Timers::new(Monotonic(0));
        timers.insert(1, Monotonic(50_000_000));
        timers.insert(2, Monotonic(250_000_000));
        assert!(due(&mut timers, 49).is_empty());
        assert_eq!(due(&mut timers, 60), [1]);
        assert!(due(&mut timers, 249).is_empty());
        assert_eq!(due(&mut timers, 260), [2]);
        assert!(due(&mut timers, 100_000).is_empty());
    }

    #[test]
    fn later_than_a_whole_turn_of_the_wheel_comes_up_once_a_turn() {
        let mut timers = Timers::new(Monotonic(0));
        let turn_ms = TICK_NS * (SLOTS - 1) / 1_000_000;
        for turn in 0..3 {
            let now = turn * turn_ms;
            timers.insert(1, Monotonic((now + 3 * turn_ms) * 1_000_000));
            for ms in [now, now + 10, now + turn_ms / 2, now + turn_ms - 10] {
                assert!(due(&mut timers, ms).is_empty(), "{ms} ms");
            }
            assert_eq!(due(&mut timers, now + turn_ms), [1]);
        }
    }

    #[test]
    fn survives_a_stall_of_many_turns_and_deadlines_in_the_past() {
        let mut timers = Timers::new(Monotonic(0));
        for key in 0..500 {
            timers.insert(key, Monotonic(u64::from(key) * 170_000_000));
        }
        let mut out = due(&mut timers, 10_000_000);
        out.sort_unstable();
        assert_eq!(out, (0..500).collect::<Vec<_>>());
        timers.insert(7, Monotonic(3));
        assert_eq!(due(&mut timers, 10_000_200), [7]);
    }
}
