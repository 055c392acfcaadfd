//! The header of the PROXY protocol, versions 1 (text) and 2 (binary), as of HAProxy's `doc/proxy-protocol.txt`: who is at the
//! other end of a proxy's other connection.
//!
//! [`read`] is a pure function of the first bytes of a connection, so that its outcome does not depend on how these were
//! fragmented. What it takes to be followed by more is bounded: [`PROXY_HEADER_BYTES_MAX`] bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::{self, FromStr};

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// How version 1 begins.
const TEXT: &[u8] = b"PROXY ";
/// Longest header of version 1, its CR LF included (section 2.1).
const TEXT_BYTES_MAX: usize = 107;

/// How version 2 begins (section 2.2). No request begins so: it is empty lines, and then a zero byte.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 2 before the addresses: the signature, version and command, family and transport, length.
const BINARY_FIXED_BYTES: usize = 16;

/// What is known after the bytes that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// It goes on.
    Partial,
    /// It is whole.
    Whole {
        /// How many bytes it has; what follows is the client's.
        bytes: usize,
        /// The client's address; `None` if the proxy speaks for itself, as for its health checks, or cannot tell.
        client: Option<IpAddr>,
    },
}

/// Why what a connection begins with is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It begins otherwise.
    Missing,
    /// It begins as one, and is malformed or too long.
    Malformed,
}

use ProxyHeaderError::{Malformed, Missing};

/// Reads the header that a connection begins with. `bytes` are all of it so far, and whatever follows.
///
/// # Errors
/// If it is none. More bytes change nothing about that.
pub fn read(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    match (begins(TEXT), begins(BINARY)) {
        (true, false) if bytes.len() > TEXT.len() => read_text(bytes),
        (false, true) if bytes.len() > BINARY.len() => read_binary(bytes),
        (false, false) => Err(Missing),
        _ => Ok(ProxyHeader::Partial),
    }
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 4711 80` and CR LF; `PROXY UNKNOWN`, whatever follows that.
fn read_text(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(line_feed) = memchr::memchr(b'\n', window) else {
        return if window.len() == TEXT_BYTES_MAX { Err(Malformed) } else { Ok(ProxyHeader::Partial) };
    };
    let line = window[TEXT.len()..line_feed].strip_suffix(b"\r").ok_or(Malformed)?;
    // Others end the line with the first carriage return.
    let line = str::from_utf8(line).ok().filter(|line| !line.contains('\r')).ok_or(Malformed)?;
    let mut words = line.split(' ');
    let client = match words.next() {
        Some("TCP4") => Some(IpAddr::V4(text_client::<Ipv4Addr>(words)?)),
        Some("TCP6") => Some(IpAddr::V6(text_client::<Ipv6Addr>(words)?)),
        Some("UNKNOWN") => None,
        _ => return Err(Malformed),
    };
    Ok(ProxyHeader::Whole { bytes: line_feed + 1, client: client.map(|address| address.to_canonical()) })
}

/// The first of two addresses and two ports.
fn text_client<'a, A: FromStr>(mut words: impl Iterator<Item = &'a str>) -> Result<A, ProxyHeaderError> {
    let mut word = || words.next().ok_or(Malformed);
    let client: A = word()?.parse().map_err(|_| Malformed)?;
    let _: A = word()?.parse().map_err(|_| Malformed)?;
    for port in [word()?, word()?] {
        let is_plain =
            port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
        if !is_plain || port.parse::<u16>().is_err() {
            return Err(Malformed);
        }
    }
    match words.next() {
        None => Ok(client),
        Some(_) => Err(Malformed),
    }
}

/// Everything behind the addresses is skipped: what else a proxy may tell ("TLVs") is not needed here.
fn read_binary(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let Some((fixed, rest)) = bytes.split_at_checked(BINARY_FIXED_BYTES) else {
        return Ok(ProxyHeader::Partial);
    };
    let [.., version_and_command, family_and_transport, high, low] = *fixed else { return Err(Malformed) };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if BINARY_FIXED_BYTES + length > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed);
    }
    // Of a LOCAL connection the family is not looked at. Unix sockets and datagrams have no client with an address that we
    // know by a stream.
    let address_bytes = match family_and_transport {
        _ if is_local => 0,
        0x11 => 2 * (4 + 2),
        0x21 => 2 * (16 + 2),
        0x00..=0x02 | 0x10 | 0x12 | 0x20 | 0x22 | 0x30..=0x32 => 0,
        _ => return Err(Malformed),
    };
    if length < address_bytes {
        return Err(Malformed);
    }
    let Some(rest) = rest.get(..length) else { return Ok(ProxyHeader::Partial) };
    let client = match (address_bytes, rest.first_chunk::<4>(), rest.first_chunk::<16>()) {
        (12, Some(client), _) => Some(IpAddr::from(*client)),
        (36, _, Some(client)) => Some(IpAddr::from(*client)),
        _ => None,
    };
    let client = client.map(|address| address.to_canonical());
    Ok(ProxyHeader::Whole { bytes: BINARY_FIXED_BYTES + length, client })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tests::ip;
    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        [BINARY, &[command, family], &(rest.len() as u16).to_be_bytes(), rest].concat()
    }

    /// What comes of it, which must be the same whatever follows, and the same or not known yet of each beginning.
    #[track_caller]
    fn outcome(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
        let whole = read(bytes);
        for at in 0..bytes.len() {
            let partial = read(&bytes[..at]);
            match partial {
                Ok(ProxyHeader::Partial) => {}
                _ => assert_eq!(partial, whole, "of the first {at} bytes"),
            }
            if let Ok(ProxyHeader::Whole { bytes, .. }) = whole {
                assert_eq!(at < bytes, partial == Ok(ProxyHeader::Partial), "of the first {at} bytes");
            }
        }
        if whole != Ok(ProxyHeader::Partial) {
            assert_eq!(read(&[bytes, b"GET / HTTP/1.1\r\n\r\n"].concat()), whole);
        }
        whole
    }

    #[track_caller]
    fn client(bytes: &[u8]) -> Option<IpAddr> {
        match outcome(bytes) {
            Ok(ProxyHeader::Whole { bytes: length, client }) => {
                assert_eq!(length, bytes.len());
                client
            }
            other => panic!("{other:?} of {}", bytes.escape_ascii()),
        }
    }

    #[test]
    fn a_line_of_text_names_the_client() {
        for (line, expected) in [
            ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n", Some("203.0.113.9")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255")),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Some("0.0.0.0")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", Some("2001:db8::7")),
            ("PROXY TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.1 4711 80\r\n", Some("203.0.113.9")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:: x 0 %\r\n", None),
        ] {
            assert_eq!(client(line.as_bytes()), expected.map(ip), "{line}");
        }
        // The longest that may be, and one byte more.
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX - 16));
        assert_eq!((long.len(), client(long.as_bytes())), (TEXT_BYTES_MAX, None));
        let longer = format!("PROXY UNKNOWN {}\r\n", "x".repeat(TEXT_BYTES_MAX - 15));
        assert_eq!(outcome(longer.as_bytes()), Err(Malformed));
    }

    #[test]
    fn a_line_that_is_malformed_names_nobody() {
        for line in [
            "PROXY \r\n",
            "PROXY  TCP4 203.0.113.9 10.0.0.1 4711 80\r\n",
            "PROXY tcp4 203.0.113.9 10.0.0.1 4711 80\r\n",
            "PROXY TCP5 203.0.113.9 10.0.0.1 4711 80\r\n",
            "PROXY UDP4 203.0.113.9 10.0.0.1 4711 80\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80 \r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80 x\r\n",
            "PROXY TCP4  203.0.113.9 10.0.0.1 4711 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\r\n",
            "PROXY UNKNOWN \r \r\n",
            "PROXY TCP4 203.0.113.9\t10.0.0.1 4711 80\r\n",
            "PROXY TCP4 203.0.113.09 10.0.0.1 4711 80\r\n",
            "PROXY TCP4 2001:db8::7 10.0.0.1 4711 80\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 4711 80\r\n",
            "PROXY TCP6 203.0.113.9 10.0.0.1 4711 80\r\n",
            "PROXY TCP6 [2001:db8::7] 2001:db8::1 4711 80\r\n",
            "PROXY TCP4 203.0.113.9 x 4711 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 04711 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 +4711 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 \r\n",
            "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\0\r\n",
        ] {
            assert_eq!(outcome(line.as_bytes()), Err(Malformed), "{line:?}");
        }
        assert_eq!(outcome(b"PROXY UNKNOWN \xff\r\n"), Err(Malformed));
    }

    #[test]
    fn a_binary_header_names_the_client() {
        let v4 = [&[203, 0, 113, 9, 10, 0, 0, 1][..], &[0x12, 0x67, 0, 80]].concat();
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let v6 = [&address("2001:db8::7")[..], &address("2001:db8::1"), &[0x12, 0x67, 0, 80]].concat();
        let mapped = [&address("::ffff:203.0.113.9")[..], &address("::ffff:10.0.0.1"), &[0; 4]].concat();
        let noted = [&v4[..], &[0x05, 0, 3, 1, 2, 3, 0xea, 0, 0]].concat();
        for (bytes, expected) in [
            (binary(0x21, 0x11, &v4), Some("203.0.113.9")),
            (binary(0x21, 0x11, &noted), Some("203.0.113.9")),
            (binary(0x21, 0x21, &v6), Some("2001:db8::7")),
            (binary(0x21, 0x21, &mapped), Some("203.0.113.9")),
            // The proxy speaks for itself, whatever else it says.
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &v4), None),
            (binary(0x20, 0xff, &[7; 3]), None),
            // For somebody without an address that we know.
            (binary(0x21, 0x00, &[]), None),
            (binary(0x21, 0x12, &v4), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
            (binary(0x21, 0x00, &[7; PROXY_HEADER_BYTES_MAX - BINARY_FIXED_BYTES]), None),
        ] {
            assert_eq!(client(&bytes), expected.map(ip), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_binary_header_that_is_malformed_names_nobody() {
        for bytes in [
            binary(0x11, 0x11, &[0; 12]),
            binary(0x31, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x2f, 0x11, &[0; 12]),
            binary(0x21, 0x13, &[0; 12]),
            binary(0x21, 0x41, &[0; 12]),
            binary(0x21, 0xf1, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x21, &[0; 12]),
            binary(0x21, 0x00, &[7; PROXY_HEADER_BYTES_MAX - BINARY_FIXED_BYTES + 1]),
            binary(0x20, 0x00, &[7; PROXY_HEADER_BYTES_MAX - BINARY_FIXED_BYTES + 1]),
        ] {
            assert_eq!(outcome(&bytes), Err(Malformed), "{}", bytes[..16].escape_ascii());
        }
    }

    #[test]
    fn what_begins_otherwise_is_none() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"POST",
            b"PROXY\r\n",
            b"PROXYTCP4 ",
            b"proxy TCP4 ",
            b" PROXY ",
            b"\0",
        ] {
            assert_eq!(outcome(bytes), Err(Missing), "{}", bytes.escape_ascii());
        }
        for bytes in
            [&b"\r\n\r\n\r\nQUIT\n"[..], b"\r\nGET / HTTP/1.1\r\n", b"\r\n\r\n\0\r\nQUIT\r", b"\x16\x03\x01"]
        {
            assert_eq!(outcome(bytes), Err(Missing), "{}", bytes.escape_ascii());
        }
        assert_eq!(read(b""), Ok(ProxyHeader::Partial));
    }
}
