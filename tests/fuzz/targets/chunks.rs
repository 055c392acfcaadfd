//! Chunked bodies: in any fragmentation the same bytes, the same end, the same error, and what a naive reading gives.

use boxoffice::http::HttpError;
use boxoffice::http::body::ChunkedDecoder;
use boxoffice::limits::ClientLimits;

use super::client::small_limits;

/// Body, bytes taken, and whether the end was reached.
type Decoded = Result<(Vec<u8>, usize, bool), HttpError>;

pub fn run(bytes: &[u8]) {
    for limits in [ClientLimits::default(), small_limits()] {
        let whole = decode(&[bytes], &limits);
        assert_eq!(decode(&bytes.chunks(1).collect::<Vec<_>>(), &limits), whole, "byte by byte");
        for at in 0..bytes.len().min(64) {
            assert_eq!(decode(&[&bytes[..at], &bytes[at..]], &limits), whole, "cut at {at}");
        }
        if let Ok((body, taken, true)) = whole {
            assert!(body.len() <= limits.body_bytes);
            assert_eq!(read_naively(&bytes[..taken]), Some(body));
        }
    }
}

fn decode(pieces: &[&[u8]], limits: &ClientLimits) -> Decoded {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let count = decoder.decode(piece, &mut body, limits)?;
        taken += count;
        assert!(count == piece.len() || decoder.is_complete(), "it takes all, up to the end");
    }
    Ok((body, taken, decoder.is_complete()))
}

/// RFC 9112 section 7.1 with the whole body at hand: lines are cut at CR LF, and what is between must fit.
fn read_naively(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let line;
        (line, rest) = split_line(rest)?;
        let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next()?;
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let line;
        (line, rest) = split_line(rest)?;
        if line.is_empty() {
            return rest.is_empty().then_some(body);
        }
        line.contains(&b':').then_some(())?;
    }
}

/// A line without its end, which may hold no other end.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memmem::find(bytes, b"\r\n")?;
    let line = &bytes[..at];
    (!line.contains(&b'\n') && !line.contains(&0)).then_some((line, &bytes[at + 2..]))
}
