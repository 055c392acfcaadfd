//! Where a reply ends: RESP2 framing for callers that read from a non-blocking socket.

use crate::limits::LEDGER_REPLY_BYTES_MAX;

/// Nesting of arrays in the deepest reply that is ever asked for (CLUSTER SLOTS), with one to spare.
const DEPTH_MAX: usize = 5;

/// Bytes of a line that only says a type and a length.
const LENGTH_LINE_BYTES_MAX: usize = 32;

/// The bytes are not a RESP2 reply that this version asked for; the connection is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Redis reply: {0}")]
pub struct FrameError(pub(super) &'static str);

/// Bytes of the first whole reply in `buffer`; `None` if it is not all there yet.
pub fn frame_length(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    let length = end(buffer, 0, 0)?;
    if length.unwrap_or(buffer.len()) > LEDGER_REPLY_BYTES_MAX {
        return Err(FrameError("longer than any expected reply"));
    }
    Ok(length)
}

fn end(buffer: &[u8], start: usize, depth: usize) -> Result<Option<usize>, FrameError> {
    let Some(&kind) = buffer.get(start) else { return Ok(None) };
    if !matches!(kind, b'+' | b'-' | b':' | b'$' | b'*') {
        return Err(FrameError("it starts with none of + - : $ *"));
    }
    let rest = &buffer[start + 1..];
    let line_length = memchr::memchr(b'\n', rest);
    // Even if its end is there: the outcome must not depend on how the bytes arrived.
    let is_number = matches!(kind, b':' | b'$' | b'*');
    if is_number && line_length.unwrap_or(rest.len()) > LENGTH_LINE_BYTES_MAX {
        return Err(FrameError("an unterminated number"));
    }
    let Some(line_length) = line_length else { return Ok(None) };
    let Some(line) = rest[..line_length].strip_suffix(b"\r") else {
        return Err(FrameError("a line without CR"));
    };
    let after = start + 1 + line_length + 1;
    if matches!(kind, b'+' | b'-') {
        return Ok(Some(after));
    }
    let number = std::str::from_utf8(line).ok().and_then(|text| text.parse::<i64>().ok());
    let number = number.ok_or(FrameError("an invalid number"))?;
    if kind == b':' || number == -1 {
        return Ok(Some(after));
    }
    let count = usize::try_from(number).ok().filter(|&count| count <= LEDGER_REPLY_BYTES_MAX);
    let count = count.ok_or(FrameError("a length out of range"))?;
    if kind == b'$' {
        let whole = after + count + 2;
        return match buffer.get(after + count..whole) {
            None => Ok(None),
            Some(b"\r\n") => Ok(Some(whole)),
            Some(_) => Err(FrameError("a string longer than its length says")),
        };
    }
    if depth == DEPTH_MAX {
        return Err(FrameError("arrays nested too deeply"));
    }
    let mut at = after;
    for _ in 0..count {
        match end(buffer, at, depth + 1)? {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_end_of_each_kind_and_not_earlier() {
        for whole in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":12\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "$4\r\na\r\nb\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        ] {
            let bytes = whole.as_bytes();
            for cut in 0..bytes.len() {
                assert_eq!(frame_length(&bytes[..cut]), Ok(None), "{whole:?} cut at {cut}");
            }
            let followed = [bytes, b"+more\r\n"].concat();
            assert_eq!(frame_length(&followed), Ok(Some(bytes.len())), "{whole:?}");
        }
    }

    #[test]
    fn a_number_too_long_is_refused_whether_or_not_its_end_has_come() {
        let long = format!(":{}1\r\n", "0".repeat(LENGTH_LINE_BYTES_MAX));
        for cut in 1 + LENGTH_LINE_BYTES_MAX + 1..=long.len() {
            let error = frame_length(&long.as_bytes()[..cut]).unwrap_err();
            assert_eq!(error, FrameError("an unterminated number"), "cut at {cut}");
        }
    }

    #[test]
    fn refuses_what_is_no_reply() {
        let deep = "*1\r\n".repeat(100_000);
        let endless = format!(":{}", "1".repeat(64));
        for bad in [
            "HTTP/1.1 400\r\n",
            "$-2\r\n",
            "$99999999999999999999\r\n",
            "$9223372036854775807\r\n",
            "*1000000000\r\n",
            "$1\r\nabcd",
            "+OK\n",
            "$x\r\n",
            "%1\r\n",
            "_\r\n",
            &deep,
            &endless,
        ] {
            assert!(frame_length(bad.as_bytes()).is_err(), "{:.40}", bad);
        }
    }

    proptest! {
        #[test]
        fn never_panics_nor_reads_beyond_the_buffer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(length)) = frame_length(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }

        #[test]
        fn never_panics_on_near_replies(text in "[*$:+\\-]{1}[0-9\\-]{0,3}(\r\n|\r|\n)[*$:+a1\r\n\\-]{0,24}") {
            if let Ok(Some(length)) = frame_length(text.as_bytes()) {
                prop_assert!(length <= text.len());
                // Whatever is framed here, the parser must take without looking for more.
                let _ = redis::parse_redis_value(&text.as_bytes()[..length]);
            }
        }
    }
}
