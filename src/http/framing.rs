//! Where a request ends and what becomes of the connection after it.
//!
//! Pure functions of a few field values. [`body_length`] is the only place that decides a message's length:
//! request smuggling lives on two places that decide it differently.

use super::{Reason, Version};

/// How often a field came, and its value if that was once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence<'a> {
    /// Not at all.
    Absent,
    /// Once, with this value.
    Once(&'a [u8]),
    /// More than once.
    Repeated,
}

impl<'a> Occurrence<'a> {
    /// Counts one more field with this value.
    pub fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Occurrence::Absent => Occurrence::Once(value),
            _ => Occurrence::Repeated,
        };
    }
}

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes follow the head: 0 to the limit `body-bytes`.
    Bytes(usize),
    /// Chunks follow the head.
    Chunked,
}

/// The length of a request's body (RFC 9112 section 6.3), stricter than it where it leaves a choice.
///
/// - Transfer-Encoding with Content-Length: refused, though rule 3 would let the first win.
/// - Transfer-Encoding in HTTP/1.0: refused; section 6.1 calls such framing faulty.
/// - Transfer-Encoding other than `chunked` alone, in one field: 501 (section 6.1). Where `chunked` is not last,
///   rule 4 asks for 400; as the connection closes on both, one status for "not understood" is kept.
/// - Content-Length more than once, or a list: refused even if all values are equal.
pub fn body_length(
    version: Version,
    content_length: Occurrence<'_>,
    transfer_encoding: Occurrence<'_>,
    body_bytes_max: usize,
) -> Result<BodyLength, Reason> {
    match (transfer_encoding, content_length) {
        (Occurrence::Absent, Occurrence::Absent) => Ok(BodyLength::Bytes(0)),
        (Occurrence::Absent, Occurrence::Repeated) => Err(Reason::LengthRepeated),
        (Occurrence::Absent, Occurrence::Once(value)) => {
            let bytes = decimal(value).ok_or(Reason::LengthInvalid)?;
            if bytes > body_bytes_max as u64 {
                return Err(Reason::BodyTooLarge);
            }
            Ok(BodyLength::Bytes(bytes as usize))
        }
        (_, Occurrence::Once(_) | Occurrence::Repeated) => Err(Reason::LengthAndEncoding),
        _ if version == Version::Http10 => Err(Reason::EncodingInHttp10),
        (Occurrence::Once(value), Occurrence::Absent) if value.eq_ignore_ascii_case(b"chunked") => {
            Ok(BodyLength::Chunked)
        }
        _ => Err(Reason::EncodingUnknown),
    }
}

/// `1*DIGIT` that fits 64 bits: no sign, no space, no list (RFC 9110 section 8.6).
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// What the Connection fields of a request ask for (RFC 9110 section 7.6.1). Options other than these two
/// concern proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl ConnectionOptions {
    /// Takes in the value of one Connection field.
    pub fn add(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether the client lets the connection persist after this request (RFC 9112 section 9.3).
    pub fn persists(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// What the Expect fields of a request ask for: all of them are one list (RFC 9110 sections 5.3 and 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    continues: bool,
    others: bool,
}

impl Expectations {
    /// Takes in the value of one Expect field.
    pub fn add(&mut self, value: &[u8]) {
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            match member {
                // An empty element of a list does not count (section 5.6.1.2).
                b"" => {}
                member if member.eq_ignore_ascii_case(b"100-continue") => self.continues = true,
                _ => self.others = true,
            }
        }
    }

    /// Whether the client waits for `100 Continue` before it sends the body. In HTTP/1.0 the field is to be ignored.
    pub fn wants_continue(self, version: Version) -> Result<bool, Reason> {
        match self {
            _ if version == Version::Http10 => Ok(false),
            Expectations { others: true, .. } => Err(Reason::ExpectationUnknown),
            Expectations { continues, .. } => Ok(continues),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Occurrence::{Absent, Once, Repeated};
    use super::*;
    use crate::limits;

    fn body_length(
        version: Version,
        content_length: Occurrence<'_>,
        transfer_encoding: Occurrence<'_>,
    ) -> Result<BodyLength, Reason> {
        super::body_length(version, content_length, transfer_encoding, limits::BODY_BYTES_MAX)
    }

    #[test]
    fn content_length_is_digits_and_nothing_else() {
        let length = |value: &'static [u8]| body_length(Version::Http11, Once(value), Absent);
        assert_eq!(length(b"0"), Ok(BodyLength::Bytes(0)));
        assert_eq!(length(b"0042"), Ok(BodyLength::Bytes(42)));
        assert_eq!(length(b"65536"), Ok(BodyLength::Bytes(65536)));
        assert_eq!(length(b"65537"), Err(Reason::BodyTooLarge));
        assert_eq!(length(b"18446744073709551615"), Err(Reason::BodyTooLarge));
        for value in [
            &b""[..],
            b"+5",
            b"-5",
            b"0x5",
            b"5a",
            b"5 ",
            b" 5",
            b"5,5",
            b"5, 5",
            b"18446744073709551616",
            b"5.0",
            b"\xb2",
        ] {
            assert_eq!(length(value), Err(Reason::LengthInvalid), "{value:?}");
        }
        assert_eq!(body_length(Version::Http11, Repeated, Absent), Err(Reason::LengthRepeated));
    }

    #[test]
    fn transfer_encoding_is_chunked_and_nothing_else() {
        let length = |value: &'static [u8]| body_length(Version::Http11, Absent, Once(value));
        assert_eq!(length(b"chunked"), Ok(BodyLength::Chunked));
        assert_eq!(length(b"CHUNKED"), Ok(BodyLength::Chunked));
        for value in [
            &b""[..],
            b"gzip",
            b"gzip, chunked",
            b"chunked, gzip",
            b"chunked,",
            b"xchunked",
            b"identity",
            b"chunked;q=1",
            b"\x0bchunked",
        ] {
            assert_eq!(length(value), Err(Reason::EncodingUnknown), "{value:?}");
        }
        assert_eq!(body_length(Version::Http11, Absent, Repeated), Err(Reason::EncodingUnknown));
        assert_eq!(body_length(Version::Http10, Absent, Once(b"chunked")), Err(Reason::EncodingInHttp10));
        for both in [Once(&b"5"[..]), Repeated, Once(b"x")] {
            assert_eq!(body_length(Version::Http11, both, Once(b"chunked")), Err(Reason::LengthAndEncoding));
            assert_eq!(body_length(Version::Http10, both, Once(b"chunked")), Err(Reason::LengthAndEncoding));
        }
    }

    #[test]
    fn connections_persist_as_their_version_says() {
        let persists = |version, values: &[&str]| {
            let mut options = ConnectionOptions::default();
            values.iter().for_each(|value| options.add(value.as_bytes()));
            options.persists(version)
        };
        assert!(persists(Version::Http11, &[]));
        assert!(!persists(Version::Http11, &["close"]));
        assert!(!persists(Version::Http11, &["keep-alive, Close"]));
        assert!(!persists(Version::Http11, &["keep-alive", "x , CLOSE"]));
        assert!(!persists(Version::Http11, &[",, ,\tClose\t,", ""]));
        assert!(persists(Version::Http10, &[", keep-alive ,,"]));
        assert!(persists(Version::Http11, &["closed"]));
        assert!(!persists(Version::Http10, &[]));
        assert!(persists(Version::Http10, &["Keep-Alive"]));
        assert!(!persists(Version::Http10, &["keep-alive", "close"]));
    }

    #[test]
    fn expectations() {
        let wants = |version, values: &[&str]| {
            let mut expectations = Expectations::default();
            values.iter().for_each(|value| expectations.add(value.as_bytes()));
            expectations.wants_continue(version)
        };
        for one in [&["100-Continue"][..], &["100-continue, 100-CONTINUE"], &["100-continue", "100-continue"]]
        {
            assert_eq!(wants(Version::Http11, one), Ok(true), "{one:?}");
        }
        assert_eq!(wants(Version::Http11, &[" ,\t100-continue ,,"]), Ok(true));
        for none in [&[][..], &[""], &[" , ,"]] {
            assert_eq!(wants(Version::Http11, none), Ok(false), "{none:?}");
        }
        for other in ["200-ok", "100-continue, x", "x=\",\"", "100-continue;q=1", "x 100-continue"] {
            assert_eq!(wants(Version::Http11, &[other]), Err(Reason::ExpectationUnknown), "{other}");
            assert_eq!(wants(Version::Http10, &[other]), Ok(false), "{other}");
        }
        assert_eq!(wants(Version::Http11, &["x", "100-continue"]), Err(Reason::ExpectationUnknown));
        assert_eq!(wants(Version::Http10, &["100-continue"]), Ok(false));
    }
}
