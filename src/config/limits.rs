//! `--limit NAME=VALUE`: the limits that clients meet, each from the first source that names it.

use super::terms::{digits, parse_span_ms};
use super::words::Word;
use super::{ConfigError, Source};
use crate::limits::{ClientLimits, Limit, Unit};

/// Reads the limits from the words of each source, the strongest first. Unlike sales, each limit is picked by itself: a
/// flag for one leaves the file's others as they are.
pub(super) fn read(sources: [Vec<Word>; 3]) -> Result<ClientLimits, ConfigError> {
    let mut limits = ClientLimits::default();
    let mut set: Vec<(Limit, Word)> = Vec::new();
    for words in sources {
        let stronger = set.len();
        for word in words {
            let (limit, value) = parse(&word.text).map_err(|takes| word.wrong(takes))?;
            if set[stronger..].iter().any(|(other, _)| *other == limit) {
                return Err(word.wrong(format!("names {limit}, which is already set")));
            }
            if !set[..stronger].iter().any(|(other, _)| *other == limit) {
                limits.set(limit, value);
            }
            set.push((limit, word));
        }
    }
    let Err(wrong) = limits.check() else { return Ok(limits) };
    let blamed = wrong.between.iter().find_map(|limit| set.iter().find(|(other, _)| other == limit));
    Err(match blamed {
        Some((limit, word)) if *limit == wrong.between[0] => word.wrong(wrong.takes),
        Some((_, word)) => word.wrong(format!("contradicts {}, which {}", wrong.between[0], wrong.takes)),
        None => ConfigError {
            source_of_word: Source::Flag("--limit".to_owned()),
            word: wrong.between[0].to_string(),
            takes: wrong.takes,
        },
    })
}

/// Reads `NAME=VALUE`.
fn parse(text: &str) -> Result<(Limit, u64), String> {
    let (name, value) = text.split_once('=').ok_or("takes NAME=VALUE, such as idle-time=60s")?;
    let limit = Limit::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        format!("is not a limit; the limits are {}", names.join(", "))
    })?;
    let (least, most) = limit.range();
    number(limit.unit(), value)
        .filter(|number| (least..=most).contains(number))
        .map(|number| (limit, number))
        .ok_or_else(|| limit.takes())
}

fn number(unit: Unit, text: &str) -> Option<u64> {
    match unit {
        Unit::Count => digits(text),
        Unit::Time => parse_span_ms(text),
        Unit::Bytes => {
            const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
            let suffix = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
            let (number, size) = suffix.unwrap_or((text, 1));
            digits(number)?.checked_mul(size)
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_with_their_units() {
        for (text, limit, value) in [
            ("target-bytes=4096", Limit::TargetBytes, 4_096),
            ("target-bytes=4KiB", Limit::TargetBytes, 4_096),
            ("body-bytes=16MiB", Limit::BodyBytes, 16 << 20),
            ("buffered-bytes=1GiB", Limit::BufferedBytes, 1 << 30),
            ("idle-time=1m30s", Limit::IdleTime, 90_000),
            ("linger=100ms", Limit::Linger, 100),
            ("requests=0", Limit::Requests, 0),
            ("pipeline=1", Limit::Pipeline, 1),
        ] {
            assert_eq!(parse(text), Ok((limit, value)), "{text}");
        }
    }

    #[test]
    fn says_what_a_limit_takes() {
        for (text, says) in [
            ("", "takes NAME=VALUE"),
            ("idle-time", "takes NAME=VALUE"),
            ("idle=5s", "is not a limit; the limits are target-bytes, head-bytes, fields,"),
            ("idle-time=5", "takes a duration from 100ms to 1h"),
            ("idle-time=99ms", "takes a duration from 100ms to 1h"),
            ("idle-time=61m", "takes a duration from 100ms to 1h"),
            ("head-bytes=1K", "takes bytes from 1KiB to 60KiB"),
            ("head-bytes=61KiB", "takes bytes from 1KiB to 60KiB"),
            ("head-bytes=-1", "takes bytes from 1KiB to 60KiB"),
            ("head-bytes= 2048", "takes bytes from 1KiB to 60KiB"),
            ("head-bytes=KiB", "takes bytes from 1KiB to 60KiB"),
            ("buffered-bytes=99999999999999999GiB", "takes bytes from 16KiB to 64GiB"),
            ("pipeline=0", "takes a number from 1 to 1024"),
            ("pipeline=+5", "takes a number from 1 to 1024"),
            ("fields=", "takes a number from 8 to 256"),
            ("linger=5s", "takes a duration from 100ms to 4s"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(says), "{text:?}: {error}");
        }
        for &limit in Limit::ALL {
            let (least, most) = limit.range();
            for value in [least, most] {
                let text = format!("{limit}={}", limit.text(value));
                assert_eq!(parse(&text), Ok((limit, value)), "{text}");
            }
            assert_eq!(parse(&format!("{limit}={}", most + 1)).unwrap_err(), limit.takes(), "{limit}");
        }
    }
}
