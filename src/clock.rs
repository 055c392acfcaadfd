//! Time as values. This module reads no clock: the runtime does, and hands [`Now`] to everything else, so that
//! the whole engine can run on a simulated clock.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since some fixed point of this process; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The span from `earlier` to `self`; zero where `earlier` is later.
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This instant and `ms` milliseconds.
    pub fn plus_ms(self, ms: u64) -> Monotonic {
        Monotonic(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
}

impl Add<Duration> for Monotonic {
    type Output = Monotonic;
    fn add(self, span: Duration) -> Monotonic {
        Monotonic(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z by some clock that may jump; prints as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub u64);

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
            Some(time) => write!(f, "{time:.3}"),
            None => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// For spans and deadlines.
    pub monotonic: Monotonic,
    /// For dates that people read; never for deciding a hold, which the ledger's clock does.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_prints_rfc_3339() {
        assert_eq!(WallTime(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(WallTime(1_763_827_200_123).to_string(), "2025-11-22T16:00:00.123Z");
        assert_eq!(WallTime(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn spans_never_go_negative() {
        assert_eq!(Monotonic(5).since(Monotonic(9)), Duration::ZERO);
        assert_eq!(Monotonic(5).plus_ms(2), Monotonic(2_000_005));
    }
}
