//! The one place that reads the machine's clocks for the loops.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::clock::{Monotonic, Now, WallTime};

/// Both clocks of this machine; monotonic time counts from its creation. Copies share that origin.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> SystemClock {
        SystemClock { origin: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let since_origin = self.origin.elapsed().as_nanos();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Now {
            monotonic: Monotonic(u64::try_from(since_origin).unwrap_or(u64::MAX)),
            wall: WallTime(u64::try_from(since_epoch).unwrap_or(u64::MAX)),
        }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}
