//! Time as values. This module reads no clock: the runtime does, and hands [`Now`] to everything else, so that
//! the whole engine can run on a simulated clock.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

/// Nanoseconds since some fixed point of this process; never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The span from `earlier` to `self`; zero if `earlier` is later.
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

/// Why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Of another form.
    #[error("is not an RFC 3339 time such as 2026-02-01T10:00:00Z")]
    Form,
    /// A date alone.
    #[error("is a date without a time of day; write it as in 2026-02-01T10:00:00Z")]
    DateOnly,
    /// A date and a time of day alone.
    #[error("has no time zone; add Z or an offset, as in 2026-02-01T10:00:00Z")]
    NoOffset,
    /// A month, a day, an hour, a minute or a second that there is not.
    #[error("is well-formed, but there is no such day or time of day")]
    OutOfRange,
    /// A second 60 where there can be none.
    #[error("has a second 60, which only the last minute of a month (UTC) can have")]
    NoLeapSecond,
    /// Before 1970.
    #[error("is before 1970")]
    TooEarly,
}

/// A time as in RFC 3339 section 5.6: `T` and `Z` in either case, or a space for the `T` as its note allows, any number of
/// digits of a second (what is less than a millisecond is dropped), and leap seconds, which are the second after them.
impl FromStr for WallTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<WallTime, TimeError> {
        match Rfc3339::read(text.as_bytes()) {
            Ok(time) => time.wall_time(),
            // Other forms of ISO 8601 that were always taken.
            Err(TimeError::Form) => {
                let time = text.parse::<jiff::Timestamp>().map_err(|_| TimeError::Form)?;
                u64::try_from(time.as_millisecond()).map(WallTime).map_err(|_| TimeError::TooEarly)
            }
            Err(error) => Err(error),
        }
    }
}

/// The numbers of a `date-time`, each of the digits that its grammar has, not yet known to be in range.
struct Rfc3339 {
    date: [u32; 3],
    time: [u32; 3],
    ms: u32,
    offset_minutes: i64,
}

impl Rfc3339 {
    fn read(text: &[u8]) -> Result<Rfc3339, TimeError> {
        let (date, rest) = numbers(text, [4, 2, 2], b'-').ok_or(TimeError::Form)?;
        let Some((separator, rest)) = rest.split_first() else { return Err(TimeError::DateOnly) };
        if !matches!(separator, b'T' | b't' | b' ') {
            return Err(TimeError::Form);
        }
        let (time, mut rest) = numbers(rest, [2, 2, 2], b':').ok_or(TimeError::Form)?;
        let mut ms = 0;
        if let Some((b'.', fraction)) = rest.split_first() {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return Err(TimeError::Form);
            }
            for place in 0..3 {
                ms = ms * 10 + fraction[..digits].get(place).map_or(0, |digit| u32::from(digit - b'0'));
            }
            rest = &fraction[digits..];
        }
        let offset_minutes = match rest {
            [] => return Err(TimeError::NoOffset),
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), offset @ ..] => {
                let ([hours, minutes], []) = numbers(offset, [2, 2], b':').ok_or(TimeError::Form)? else {
                    return Err(TimeError::Form);
                };
                if hours > 23 || minutes > 59 {
                    return Err(TimeError::OutOfRange);
                }
                let sum = i64::from(hours * 60 + minutes);
                if *sign == b'-' { -sum } else { sum }
            }
            _ => return Err(TimeError::Form),
        };
        Ok(Rfc3339 { date, time, ms, offset_minutes })
    }

    fn wall_time(&self) -> Result<WallTime, TimeError> {
        let [year, month, day] = self.date.map(|number| i16::try_from(number).unwrap_or(i16::MAX));
        let [hour, minute, second] = self.time;
        // At most two digits each but the year.
        let date = jiff::civil::Date::new(year, month as i8, day as i8).map_err(|_| TimeError::OutOfRange)?;
        if hour > 23 || minute > 59 || second > 60 {
            return Err(TimeError::OutOfRange);
        }
        let minute_of_day = i64::from(hour * 60 + minute);
        let epoch = jiff::civil::date(1970, 1, 1);
        let days = i64::from(date.since(epoch).map_err(|_| TimeError::OutOfRange)?.get_days());
        let minutes = days * 24 * 60 + minute_of_day - self.offset_minutes;
        if second == 60 {
            // The minute after it is the first of a month.
            let next_day = (minutes + 1).div_euclid(24 * 60);
            let starts_day = (minutes + 1).rem_euclid(24 * 60) == 0;
            let next = jiff::ToSpan::days(next_day);
            let starts_month = epoch.checked_add(next).is_ok_and(|date| date.day() == 1);
            if !starts_day || !starts_month {
                return Err(TimeError::NoLeapSecond);
            }
            return u64::try_from((minutes + 1) * 60_000).map(WallTime).map_err(|_| TimeError::TooEarly);
        }
        let ms = (minutes * 60 + i64::from(second)) * 1_000 + i64::from(self.ms);
        u64::try_from(ms).map(WallTime).map_err(|_| TimeError::TooEarly)
    }
}

/// Numbers of so many digits each, with `between` between them, and what follows.
fn numbers<const N: usize>(text: &[u8], digits: [usize; N], between: u8) -> Option<([u32; N], &[u8])> {
    let mut found = [0; N];
    let mut rest = text;
    for (place, number) in found.iter_mut().enumerate() {
        if place > 0 {
            rest = rest.strip_prefix(&[between])?;
        }
        let own = rest.get(..digits[place])?;
        for byte in own {
            *number = *number * 10 + byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        }
        rest = &rest[digits[place]..];
    }
    Some((found, rest))
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
    fn every_form_of_rfc_3339_is_taken() {
        const AT: u64 = 1_769_940_000_000; // 2026-02-01T10:00:00Z
        for (text, ms) in [
            ("2026-02-01T10:00:00Z", AT),
            ("2026-02-01t10:00:00z", AT),
            ("2026-02-01 10:00:00Z", AT),
            ("2026-02-01T10:00:00+00:00", AT),
            ("2026-02-01T10:00:00-00:00", AT),
            ("2026-02-01T15:30:00+05:30", AT),
            ("2026-02-01T02:00:00-08:00", AT),
            ("2026-02-02T09:59:00+23:59", AT),
            ("2026-01-31T10:01:00-23:59", AT),
            ("2026-02-01T10:00:00.1Z", AT + 100),
            ("2026-02-01T10:00:00.12Z", AT + 120),
            ("2026-02-01T10:00:00.1239Z", AT + 123),
            ("2026-02-01T10:00:00.00000000000000000000000000000000000000000000001z", AT),
            ("2026-02-01 10:00:00.5+00:00", AT + 500),
            // RFC 3339 section 5.8: the leap second at the end of 1990, twice.
            ("1990-12-31T23:59:60Z", 662_688_000_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000_000),
            ("1990-12-31T23:59:60.9Z", 662_688_000_000),
            ("2016-12-31T23:59:59.999Z", 1_483_228_799_999),
            ("2028-02-29T00:00:00Z", 1_835_395_200_000),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T19:00:00-05:00", 0),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
            // What RFC 3339 does not have, and was always taken.
            ("20260201T100000Z", AT),
            ("2026-02-01T10Z", AT),
            ("2026-02-01T10:00:00+05", AT - 5 * 3_600_000),
        ] {
            assert_eq!(text.parse(), Ok(WallTime(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_why() {
        for (text, error) in [
            ("", TimeError::Form),
            ("tomorrow", TimeError::Form),
            ("2026-02-01T10:00:00.Z", TimeError::Form),
            ("2026-02-01T10:00:00Zz", TimeError::Form),
            ("2026-02-01T10:00:00 Z", TimeError::Form),
            ("2026-02-01T10:00:00+0530x", TimeError::Form),
            ("2026-02-01_10:00:00Z", TimeError::Form),
            ("26-02-01T10:00:00Z", TimeError::Form),
            ("2026-02-01T10:00:00\u{661}", TimeError::Form),
            ("2026-02-01", TimeError::DateOnly),
            ("2026-02-01T10:00:00", TimeError::NoOffset),
            ("2026-02-01T10:00:00.5", TimeError::NoOffset),
            ("2026-02-30T10:00:00Z", TimeError::OutOfRange),
            ("2026-13-01T10:00:00Z", TimeError::OutOfRange),
            ("2027-02-29T10:00:00Z", TimeError::OutOfRange),
            ("2026-02-01T24:00:00Z", TimeError::OutOfRange),
            ("2026-02-01T10:60:00Z", TimeError::OutOfRange),
            ("2026-02-01T10:00:61Z", TimeError::OutOfRange),
            ("2026-02-01T10:00:00+24:00", TimeError::OutOfRange),
            ("2026-02-01T10:00:60Z", TimeError::NoLeapSecond),
            ("2026-02-01T23:59:60Z", TimeError::NoLeapSecond),
            ("2026-02-28T23:59:60+01:00", TimeError::NoLeapSecond),
            ("1969-12-31T23:59:59.999Z", TimeError::TooEarly),
            ("0000-01-01T00:00:00Z", TimeError::TooEarly),
            ("1970-01-01T00:00:00+00:01", TimeError::TooEarly),
        ] {
            assert_eq!(text.parse::<WallTime>(), Err(error), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn reads_what_it_prints_and_never_panics(ms in 0..=253_402_300_799_999_u64, text in "[0-9TtZz .:+-]{0,32}") {
            let _ = text.parse::<WallTime>();
            assert_eq!(WallTime(ms).to_string().parse(), Ok(WallTime(ms)));
        }
    }

    #[test]
    fn spans_never_go_negative() {
        assert_eq!(Monotonic(5).since(Monotonic(9)), Duration::ZERO);
        assert_eq!(Monotonic(5).plus_ms(2), Monotonic(2_000_005));
    }
}
