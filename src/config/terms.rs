//! The terms of a sale as people write them: `ticket=10000,hold=5m,per-buyer=4,starts=2026-02-01T10:00:00Z`.

use std::time::Duration;

use crate::booking::{SaleName, SaleTerms};
use crate::clock::{TimeError, WallTime};
use crate::limits;

/// Reads `NAME=STOCK[,hold=5m][,hold-max=30m][,per-buyer=4][,starts=TIME][,ends=TIME]`.
///
/// # Errors
/// What is wrong with it and what it takes, to be put behind the word.
pub fn parse_sale(text: &str) -> Result<(SaleName, SaleTerms), String> {
    const TAKES: &str = "takes NAME=STOCK[,hold=5m][,hold-max=30m][,per-buyer=4][,starts=TIME][,ends=TIME]";
    let mut parts = text.split(',');
    let (name, stock) = parts.next().and_then(|part| part.split_once('=')).ok_or_else(|| TAKES.to_owned())?;
    let name = SaleName::parse(name).map_err(|error| format!("has a name that {error}"))?;
    let mut terms = SaleTerms { total: parse_stock(stock)?, ..SaleTerms::default() };
    let mut seen: Vec<&str> = Vec::new();
    for part in parts {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("has {part:?}, which is not a term: it {TAKES}"))?;
        if seen.contains(&key) {
            return Err(format!("has {key} twice"));
        }
        seen.push(key);
        match key {
            "hold" => terms.hold_ms = Some(parse_hold_ms(value)?),
            "hold-max" => terms.hold_max_ms = Some(parse_hold_max_ms(value)?),
            "per-buyer" => terms.per_buyer = Some(parse_per_buyer(value)?),
            "starts" => {
                terms.starts_at = Some(parse_time(value).map_err(|error| format!("starts: {error}"))?)
            }
            "ends" => terms.ends_at = Some(parse_time(value).map_err(|error| format!("ends: {error}"))?),
            _ => return Err(format!("has {key:?}, which is not a term: it {TAKES}")),
        }
    }
    terms.check().map_err(|error| error.to_string())?;
    Ok((name, terms))
}

/// Tickets, 0 to [`limits::STOCK_MAX`].
pub fn parse_stock(text: &str) -> Result<u64, String> {
    digits(text)
        .filter(|stock| *stock <= limits::STOCK_MAX)
        .ok_or_else(|| format!("stock: takes 0 to {} tickets", limits::STOCK_MAX))
}

/// How long a booking stays unpaid, in milliseconds, 1 to [`limits::HOLD_MS_MAX`].
pub fn parse_hold_ms(text: &str) -> Result<u64, String> {
    hold_span_ms(text)
        .ok_or_else(|| "hold: takes a duration of 1ms to 720h, such as 500ms, 5m or 1h30m".to_owned())
}

/// How long a hold may become by extensions, in milliseconds, 1 to [`limits::HOLD_MS_MAX`].
pub fn parse_hold_max_ms(text: &str) -> Result<u64, String> {
    hold_span_ms(text)
        .ok_or_else(|| "hold-max: takes a duration of 1ms to 720h, such as 30m or 1h30m".to_owned())
}

fn hold_span_ms(text: &str) -> Option<u64> {
    parse_span_ms(text).filter(|ms| (1..=limits::HOLD_MS_MAX).contains(ms))
}

/// Most tickets of one buyer, 1 to [`limits::QUANTITY_MAX`].
pub fn parse_per_buyer(text: &str) -> Result<u32, String> {
    digits(text)
        .and_then(|tickets| u32::try_from(tickets).ok())
        .filter(|tickets| (1..=limits::QUANTITY_MAX).contains(tickets))
        .ok_or_else(|| format!("per-buyer: takes 1 to {} tickets", limits::QUANTITY_MAX))
}

/// A time in RFC 3339 with its offset, not before 1970.
pub fn parse_time(text: &str) -> Result<WallTime, String> {
    text.parse::<WallTime>().map_err(|error| match error {
        // A variable's sales stand apart by white space: of a time with one in it this is the first half.
        TimeError::DateOnly => format!("{text:?} {error}; in a variable with T and no space between them"),
        error => format!("{text:?} {error}"),
    })
}

/// A duration of an hour at most.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    const MS_MAX: u64 = 3_600_000;
    let ms = parse_span_ms(text).filter(|ms| *ms <= MS_MAX);
    ms.map(Duration::from_millis)
        .ok_or_else(|| "takes a duration of 0s to 1h, such as 500ms or 2s".to_owned())
}

/// A duration, in milliseconds: one or more numbers, each with its unit (`ms`, `s`, `m`, `h`, `d`), from large to small,
/// each unit once.
pub(super) fn parse_span_ms(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut smaller = &UNITS[..];
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|letter: char| letter.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let place = smaller.iter().position(|(name, _)| *name == unit)?;
        sum = sum.checked_add(digits(number)?.checked_mul(smaller[place].1)?)?;
        smaller = &smaller[place + 1..];
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

pub(super) fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn reads_all_terms() {
        let (name, terms) = parse_sale(
            "ticket=10000,hold=5m,hold-max=1h,per-buyer=4,starts=2026-02-01T10:00:00+01:00,ends=2026-02-02T00:00:00Z",
        )
        .unwrap();
        assert_eq!(name.as_str(), "ticket");
        assert_eq!(
            terms,
            SaleTerms {
                total: 10_000,
                hold_ms: Some(300_000),
                hold_max_ms: Some(3_600_000),
                per_buyer: Some(4),
                starts_at: Some(WallTime(1_769_936_400_000)),
                ends_at: Some(WallTime(1_769_990_400_000)),
                buyer_required: false,
            }
        );
        assert_eq!(parse_sale("a=0").unwrap().1, SaleTerms::default());
        let spaced = parse_sale("a=0,starts=2026-02-01 10:00:00.5z,ends=2026-02-28t23:59:60z").unwrap().1;
        assert_eq!(
            (spaced.starts_at, spaced.ends_at),
            (Some(WallTime(1_769_940_000_500)), Some(WallTime(1_772_323_200_000)))
        );
    }

    #[test]
    fn says_what_a_sale_takes() {
        for (text, says) in [
            ("ticket", "takes NAME=STOCK"),
            ("", "takes NAME=STOCK"),
            ("=5", "has a name that is empty"),
            ("a b=5", "has a name that has a byte at offset 1"),
            ("a=", "stock: takes 0 to"),
            ("a=-1", "stock: takes 0 to"),
            ("a=+1", "stock: takes 0 to"),
            ("a=1000000000001", "stock: takes 0 to 1000000000000"),
            ("a=5,hold", "has \"hold\", which is not a term"),
            ("a=5,holds=5m", "has \"holds\", which is not a term"),
            ("a=5,hold=5", "hold: takes a duration"),
            ("a=5,hold=0s", "hold: takes a duration"),
            ("a=5,hold=31d", "hold: takes a duration"),
            ("a=5,hold=1m,hold=2m", "has hold twice"),
            ("a=5,hold-max=31d", "hold-max: takes a duration"),
            ("a=5,per-buyer=0", "per-buyer: takes 1 to"),
            ("a=5,starts=tomorrow", "starts: \"tomorrow\" is not an RFC 3339 time"),
            ("a=5,starts=2026-02-01", "starts: \"2026-02-01\" is a date without a time of day"),
            ("a=5,ends=2026-02-01T10:00:00", "ends: \"2026-02-01T10:00:00\" has no time zone"),
            ("a=5,ends=1969-02-01T10:00:00Z", "ends: \"1969-02-01T10:00:00Z\" is before 1970"),
            ("a=5,ends=2026-02-30T10:00:00Z", "ends: \"2026-02-30T10:00:00Z\" is well-formed, but there is"),
            ("a=5,starts=2026-02-02T00:00:00Z,ends=2026-02-01T00:00:00Z", "ends: must be later than starts"),
        ] {
            let error = parse_sale(text).unwrap_err();
            assert!(error.starts_with(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn reads_durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2s", 2_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("720h", limits::HOLD_MS_MAX),
        ] {
            assert_eq!(parse_span_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "-5m",
            "1m1h",
            "1m1m",
            "5x",
            "1.5s",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert_eq!(parse_span_ms(text), None, "{text:?}");
        }
    }
}
