//! Bulk strings within a reply that is [whole](super::frame::frame_length): nothing of it is missing, but it may be of
//! another kind.

use super::reply::number;

/// The bulk string at the start of `bytes`, the inner `None` if it is nil, and what follows it.
fn first(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (line, rest) = split_once(bytes, b'\n')?;
    let length = line.strip_prefix(b"$")?.strip_suffix(b"\r")?;
    if length == b"-1" {
        return Some((None, rest));
    }
    let length = usize::try_from(number(std::str::from_utf8(length).ok()?)?).ok()?;
    let (string, rest) = rest.split_at_checked(length)?;
    Some((Some(string), rest.strip_prefix(b"\r\n")?))
}

/// What is before the first `at`, and what follows it.
pub(super) fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let offset = memchr::memchr(at, bytes)?;
    Some((&bytes[..offset], &bytes[offset + 1..]))
}

/// A reply that is one bulk string, and not nil.
pub fn bulk_string(reply: &[u8]) -> Option<&[u8]> {
    let (string, rest) = first(reply)?;
    string.filter(|_| rest.is_empty())
}

/// A reply that is one bulk string; the inner `None` if it is nil.
pub fn nullable(reply: &[u8]) -> Option<Option<&[u8]>> {
    let (string, rest) = first(reply)?;
    rest.is_empty().then_some(string)
}

/// The elements of a reply that is an array of bulk strings, `None` for nil. It also ends at an element of another kind: a
/// caller that needs all of them counts them.
pub struct BulkStrings<'a> {
    /// As many as the array says it has.
    pub count: u64,
    rest: &'a [u8],
}

impl<'a> BulkStrings<'a> {
    /// `None` if it is not an array.
    pub fn of(reply: &'a [u8]) -> Option<BulkStrings<'a>> {
        let (line, rest) = split_once(reply, b'\n')?;
        let count = std::str::from_utf8(line.strip_prefix(b"*")?.strip_suffix(b"\r")?).ok()?;
        Some(BulkStrings { count: number(count)?, rest })
    }
}

impl<'a> Iterator for BulkStrings<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let (string, rest) = first(self.rest)?;
        self.rest = rest;
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bulk_string_and_nothing_else() {
        assert_eq!(bulk_string(b"$4\r\na\r\nb\r\n"), Some(&b"a\r\nb"[..]));
        assert_eq!(bulk_string(b"$0\r\n\r\n"), Some(&b""[..]));
        for other in [
            &b""[..],
            b"$-1\r\n",
            b":1\r\n",
            b"+OK\r\n",
            b"*0\r\n",
            b"$2\r\na\r\n",
            b"$1\r\nab\r\n",
            b"$+1\r\na\r\n",
            b"$1\na\r\n",
            b"$1\r\na\r\n$1\r\nb\r\n",
            b"$18446744073709551616\r\na\r\n",
            b"$18446744073709551615\r\na\r\n",
        ] {
            assert_eq!(bulk_string(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn arrays_of_them_end_at_anything_else() {
        let strings =
            |reply| BulkStrings::of(reply).map(|strings| (strings.count, strings.collect::<Vec<_>>()));
        let (a, empty) = (Some(&b"a"[..]), Some(&b""[..]));
        assert_eq!(strings(b"*0\r\n"), Some((0, vec![])));
        assert_eq!(strings(b"*3\r\n$1\r\na\r\n$-1\r\n$0\r\n\r\n"), Some((3, vec![a, None, empty])));
        assert_eq!(strings(b"*2\r\n$1\r\na\r\n:1\r\n"), Some((2, vec![a])));
        for other in [&b""[..], b"$1\r\na\r\n", b"*-1\r\n", b"*x\r\n", b"*1\n$1\r\na\r\n"] {
            assert_eq!(strings(other), None, "{}", other.escape_ascii());
        }
    }
}
