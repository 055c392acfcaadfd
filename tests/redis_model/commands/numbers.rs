//! Numbers in arguments and replies, as Redis reads and writes them.

use super::super::wire::Reply;

/// # Errors
/// Where it is no integer, as Redis says it.
pub fn integer(text: &[u8]) -> Result<i64, Reply> {
    let parse = || {
        let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        // One way to write each: no plus sign, no zeros in front.
        (number.to_string().as_bytes() == text).then_some(number)
    };
    parse().ok_or_else(|| Reply::error("ERR value is not an integer or out of range"))
}

/// A score, as `strtod` of C reads it.
pub fn float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if let Some(digits) = digits.strip_prefix("0x") {
        let number = u64::from_str_radix(digits, 16).ok()? as f64;
        return Some(if negative { -number } else { number });
    }
    text.parse().ok().filter(|number: &f64| !number.is_nan())
}

/// A bound of a range of scores, where spaces may come first and nothing at all is zero.
pub fn bound(text: &[u8]) -> Option<f64> {
    if text.is_empty() { Some(0.0) } else { float(text.trim_ascii_start()) }
}

/// The cursor of a scan.
///
/// # Errors
/// Where it is none, as Redis says it.
pub fn cursor(text: &[u8]) -> Result<u64, Reply> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Reply::error("ERR invalid cursor"))
}

/// COUNT of a scan, 10 where there is none.
pub fn scan_count(options: &[Vec<u8>]) -> Result<usize, Reply> {
    let mut count = 10;
    for option in options.chunks(2) {
        let [name, value] = option else { return Err(super::syntax_error()) };
        if !name.eq_ignore_ascii_case(b"COUNT") {
            super::unmodelled(options);
        }
        count = match integer(value)? {
            count @ 1.. => count as usize,
            _ => return Err(super::syntax_error()),
        };
    }
    Ok(count)
}

/// A score as a reply has it.
pub fn text_of_score(score: f64) -> String {
    if score.is_infinite() {
        return if score > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    shortest_17(score)
}

/// `%.17g` of C.
pub fn shortest_17(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e17 {
        return if number == 0.0 && number.is_sign_negative() {
            "-0".to_owned()
        } else {
            format!("{number:.0}")
        };
    }
    if !number.is_finite() {
        return format!("{number}").to_ascii_lowercase();
    }
    let scientific = format!("{number:.16e}");
    let (digits, exponent) = scientific.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent in digits");
    let without_zeros = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..17).contains(&exponent) {
        return without_zeros(&format!("{number:.*}", (16 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(digits), exponent.abs())
}
