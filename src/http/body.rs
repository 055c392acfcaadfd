//! Decodes the chunked transfer coding (RFC 9112 section 7.1), byte by byte where it frames and in bulk where
//! it carries data.
//!
//! The connection calls it with what has arrived. httparse's chunk-size reader is not used: it accepts empty
//! sizes, bare line feeds and extensions without end.

use super::{ErrorPlace, HttpError, Reason, is_token_byte, is_value_byte};
use crate::limits::ClientLimits;

/// Most digits of a chunk size: what fits 64 bits, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

/// One chunked body on its way in.
#[derive(Clone, Copy, Debug)]
pub struct ChunkedDecoder {
    state: ChunkState,
    /// Digits of the size that is being read.
    digits: u8,
    /// The size that is being read, then the bytes left of its chunk.
    size: u64,
    /// Bytes of extensions and trailers so far.
    overhead: u32,
    /// Bytes decoded so far.
    decoded: u32,
    /// Bytes taken so far, framing included; for messages only.
    taken: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    Size,
    /// White space after a size or an extension: a semicolon must follow.
    BeforeSemicolon,
    ExtensionNameStart,
    ExtensionName,
    AfterExtensionName,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionQuotedPair,
    AfterExtensionQuoted,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    EndLineFeed,
    End,
}

impl Default for ChunkedDecoder {
    fn default() -> ChunkedDecoder {
        ChunkedDecoder { state: ChunkState::Size, digits: 0, size: 0, overhead: 0, decoded: 0, taken: 0 }
    }
}

impl ChunkedDecoder {
    /// Takes bytes, appends what they carry to `body` and returns how many it took: all of them, or those up
    /// to the end of the body. Extensions and trailers are checked and dropped.
    ///
    /// # Errors
    /// What the grammar forbids; more decoded bytes than `body-bytes`; more bytes of extensions and trailers than
    /// `chunk-overhead-bytes`. After an error the decoder is not to be used.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        body: &mut Vec<u8>,
        limits: &ClientLimits,
    ) -> Result<usize, HttpError> {
        let mut at = 0;
        while at < bytes.len() && self.state != ChunkState::End {
            if self.state == ChunkState::Data {
                let carried = (bytes.len() - at).min(self.size as usize);
                body.extend_from_slice(&bytes[at..at + carried]);
                self.size -= carried as u64;
                if self.size == 0 {
                    self.state = ChunkState::DataReturn;
                }
                at += carried;
            } else {
                self.state = self.step(bytes[at], limits).map_err(|reason| HttpError {
                    reason,
                    place: ErrorPlace::BodyByte(self.taken + at as u32),
                })?;
                at += 1;
            }
        }
        // No overflow: size lines are bounded by the decoded bytes, all else by the overhead.
        self.taken += at as u32;
        Ok(at)
    }

    /// Whether the whole body was taken.
    pub fn is_complete(&self) -> bool {
        self.state == ChunkState::End
    }

    /// Takes one byte of framing.
    fn step(&mut self, byte: u8, limits: &ClientLimits) -> Result<ChunkState, Reason> {
        match self.state {
            ChunkState::Size => match byte {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => {
                    if self.digits == SIZE_DIGITS_MAX {
                        return Err(Reason::ChunkSize);
                    }
                    self.digits += 1;
                    let digit = (byte as char).to_digit(16).unwrap_or_default();
                    self.size = self.size << 4 | u64::from(digit);
                    Ok(ChunkState::Size)
                }
                _ if self.digits == 0 => Err(Reason::ChunkSize),
                b'\r' => Ok(ChunkState::SizeLineFeed),
                b' ' | b'\t' | b';' => self.after_extension_part(byte, limits),
                _ => Err(Reason::ChunkSize),
            },
            ChunkState::BeforeSemicolon => {
                self.count_overhead(limits)?;
                match byte {
                    b' ' | b'\t' => Ok(ChunkState::BeforeSemicolon),
                    b';' => Ok(ChunkState::ExtensionNameStart),
                    _ => Err(Reason::ChunkExtension),
                }
            }
            ChunkState::ExtensionNameStart => {
                self.count_overhead(limits)?;
                match byte {
                    b' ' | b'\t' => Ok(ChunkState::ExtensionNameStart),
                    _ if is_token_byte(byte) => Ok(ChunkState::ExtensionName),
                    _ => Err(Reason::ChunkExtension),
                }
            }
            ChunkState::ExtensionName => match byte {
                _ if is_token_byte(byte) => self.counted(limits, ChunkState::ExtensionName),
                b'=' => self.counted(limits, ChunkState::ExtensionValueStart),
                b' ' | b'\t' => self.counted(limits, ChunkState::AfterExtensionName),
                _ => self.after_extension_part(byte, limits),
            },
            ChunkState::AfterExtensionName => match byte {
                b'=' => self.counted(limits, ChunkState::ExtensionValueStart),
                b' ' | b'\t' => self.counted(limits, ChunkState::AfterExtensionName),
                b';' => self.counted(limits, ChunkState::ExtensionNameStart),
                _ => Err(Reason::ChunkExtension),
            },
            ChunkState::ExtensionValueStart => match byte {
                b' ' | b'\t' => self.counted(limits, ChunkState::ExtensionValueStart),
                b'"' => self.counted(limits, ChunkState::ExtensionQuoted),
                _ if is_token_byte(byte) => self.counted(limits, ChunkState::ExtensionToken),
                _ => Err(Reason::ChunkExtension),
            },
            ChunkState::ExtensionToken => match byte {
                _ if is_token_byte(byte) => self.counted(limits, ChunkState::ExtensionToken),
                _ => self.after_extension_part(byte, limits),
            },
            ChunkState::ExtensionQuoted => match byte {
                b'"' => self.counted(limits, ChunkState::AfterExtensionQuoted),
                b'\\' => self.counted(limits, ChunkState::ExtensionQuotedPair),
                _ if is_value_byte(byte) => self.counted(limits, ChunkState::ExtensionQuoted),
                _ => Err(Reason::ChunkExtension),
            },
            ChunkState::ExtensionQuotedPair => match byte {
                _ if is_value_byte(byte) => self.counted(limits, ChunkState::ExtensionQuoted),
                _ => Err(Reason::ChunkExtension),
            },
            ChunkState::AfterExtensionQuoted => self.after_extension_part(byte, limits),
            ChunkState::SizeLineFeed => {
                if byte != b'\n' {
                    return Err(Reason::ChunkEnd);
                }
                if self.size == 0 {
                    return Ok(ChunkState::TrailerStart);
                }
                if self.size > limits.body_bytes as u64 - u64::from(self.decoded) {
                    return Err(Reason::BodyTooLarge);
                }
                self.decoded += self.size as u32;
                Ok(ChunkState::Data)
            }
            ChunkState::DataReturn if byte == b'\r' => Ok(ChunkState::DataLineFeed),
            ChunkState::DataLineFeed if byte == b'\n' => {
                self.digits = 0;
                Ok(ChunkState::Size)
            }
            ChunkState::DataReturn | ChunkState::DataLineFeed => Err(Reason::ChunkEnd),
            ChunkState::TrailerStart => match byte {
                b'\r' => Ok(ChunkState::EndLineFeed),
                _ if is_token_byte(byte) => self.counted(limits, ChunkState::TrailerName),
                _ => Err(Reason::Trailer),
            },
            ChunkState::TrailerName => match byte {
                b':' => self.counted(limits, ChunkState::TrailerValue),
                _ if is_token_byte(byte) => self.counted(limits, ChunkState::TrailerName),
                _ => Err(Reason::Trailer),
            },
            ChunkState::TrailerValue => match byte {
                b'\r' => self.counted(limits, ChunkState::TrailerLineFeed),
                _ if is_value_byte(byte) => self.counted(limits, ChunkState::TrailerValue),
                _ => Err(Reason::Trailer),
            },
            ChunkState::TrailerLineFeed if byte == b'\n' => self.counted(limits, ChunkState::TrailerStart),
            ChunkState::EndLineFeed if byte == b'\n' => Ok(ChunkState::End),
            ChunkState::TrailerLineFeed | ChunkState::EndLineFeed => Err(Reason::Trailer),
            ChunkState::Data | ChunkState::End => unreachable!("decode takes no framing in these states"),
        }
    }

    /// The byte after a size, a name, a token or a quoted string: the line ends, or another extension
    /// follows. White space is allowed before the semicolon only (`BWS`).
    fn after_extension_part(&mut self, byte: u8, limits: &ClientLimits) -> Result<ChunkState, Reason> {
        match byte {
            b'\r' => Ok(ChunkState::SizeLineFeed),
            b';' => self.counted(limits, ChunkState::ExtensionNameStart),
            b' ' | b'\t' => self.counted(limits, ChunkState::BeforeSemicolon),
            _ => Err(Reason::ChunkExtension),
        }
    }

    fn counted(&mut self, limits: &ClientLimits, next: ChunkState) -> Result<ChunkState, Reason> {
        self.count_overhead(limits)?;
        Ok(next)
    }

    fn count_overhead(&mut self, limits: &ClientLimits) -> Result<(), Reason> {
        self.overhead += 1;
        if self.overhead as usize > limits.chunk_overhead_bytes {
            return Err(Reason::ChunkOverhead);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    /// Decodes `bytes` in pieces of `step`; the body and the number of bytes taken.
    fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize), Reason> {
        let mut decoder = ChunkedDecoder::default();
        let mut body = Vec::new();
        let mut taken = 0;
        for piece in bytes.chunks(step) {
            taken +=
                decoder.decode(piece, &mut body, &ClientLimits::default()).map_err(|error| error.reason)?;
            if decoder.is_complete() {
                return Ok((body, taken));
            }
        }
        panic!("incomplete: {:?}", decoder.state)
    }

    fn check(bytes: &[u8], expected: Result<&str, Reason>) {
        for step in 1..=bytes.len() {
            match (decode(bytes, step), expected) {
                (Ok((body, _)), Ok(text)) => assert_eq!(body, text.as_bytes()),
                (Err(reason), Err(expected)) => {
                    assert_eq!(reason, expected, "{:?}", bytes.escape_ascii().to_string())
                }
                (found, _) => panic!("{:?} gave {found:?}", bytes.escape_ascii().to_string()),
            }
        }
    }

    #[test]
    fn well_formed_bodies() {
        check(b"0\r\n\r\n", Ok(""));
        check(b"5\r\nhello\r\n0\r\n\r\n", Ok("hello"));
        check(b"00005\r\nhello\r\n1\r\n!\r\n000\r\n\r\n", Ok("hello!"));
        check(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Ok("01234567890123456789"));
        check(b"1;a\r\nx\r\n0;b=c;d=\"e\\\";\"\r\n\r\n", Ok("x"));
        check(b"1 ; a = b ;c\r\nx\r\n0\r\n\r\n", Ok("x"));
        check(b"1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", Ok("x"));
        assert_eq!(decode(b"0\r\n\r\nGET", 8).unwrap().1, 5);
    }

    #[test]
    fn malformed_bodies() {
        check(b"\r\n", Err(Reason::ChunkSize));
        check(b";x\r\n", Err(Reason::ChunkSize));
        check(b"\n", Err(Reason::ChunkSize));
        check(b"\0", Err(Reason::ChunkSize));
        check(b"+5\r\n", Err(Reason::ChunkSize));
        check(b"-1\r\n", Err(Reason::ChunkSize));
        check(b" 5\r\n", Err(Reason::ChunkSize));
        check(b"0x5\r\n", Err(Reason::ChunkSize));
        check(b"5_0\r\n", Err(Reason::ChunkSize));
        check(b"5\n", Err(Reason::ChunkSize));
        check(b"5 \r\n", Err(Reason::ChunkExtension));
        check(b"5;\r\n", Err(Reason::ChunkExtension));
        check(b"5;a=\r\n", Err(Reason::ChunkExtension));
        check(b"5;a\n", Err(Reason::ChunkExtension));
        check(b"5;a=\"b\n", Err(Reason::ChunkExtension));
        check(b"5;a=\"b\"c\r\n", Err(Reason::ChunkExtension));
        check(b"5;a\0\r\n", Err(Reason::ChunkExtension));
        check(b"5;a b\r\n", Err(Reason::ChunkExtension));
        check(b"5\r\r\n", Err(Reason::ChunkEnd));
        check(b"2\r\nabc\r\n", Err(Reason::ChunkEnd));
        check(b"2\r\nab\n0\r\n\r\n", Err(Reason::ChunkEnd));
        check(b"2\r\nab\rX", Err(Reason::ChunkEnd));
        check(b"0\r\n\n", Err(Reason::Trailer));
        check(b"0\r\n\rX", Err(Reason::Trailer));
        check(b"0\r\nA : b\r\n\r\n", Err(Reason::Trailer));
        check(b"0\r\nA: b\r\n c\r\n\r\n", Err(Reason::Trailer));
        check(b"0\r\nA: b\n\r\n", Err(Reason::Trailer));
        check(b"0\r\nA: \0\r\n\r\n", Err(Reason::Trailer));
        check(b"0\r\n: b\r\n\r\n", Err(Reason::Trailer));
        check(b"FFFFFFFFFFFFFFFF\r\n", Err(Reason::BodyTooLarge));
        check(b"FFFFFFFFFFFFFFFE\r\n", Err(Reason::BodyTooLarge));
        check(b"10001\r\n", Err(Reason::BodyTooLarge));
        check(b"00000000000000005\r\n", Err(Reason::ChunkSize));
        check(b"10000000000000005\r\n", Err(Reason::ChunkSize));
    }

    #[test]
    fn sums_are_bounded() {
        let mut bytes = b"FFFF\r\n".to_vec();
        bytes.resize(bytes.len() + 0xffff, b'x');
        bytes.extend_from_slice(b"\r\n");
        let most = [&bytes[..], b"1\r\nx\r\n0\r\n\r\n"].concat();
        assert_eq!(decode(&most, 1000).unwrap().0.len(), limits::BODY_BYTES_MAX);
        let more = [&bytes[..], b"2\r\n"].concat();
        assert_eq!(decode(&more, 1000), Err(Reason::BodyTooLarge));

        let extension = [b"1;", &vec![b'a'; limits::CHUNK_OVERHEAD_BYTES_MAX][..]].concat();
        assert_eq!(decode(&extension, 100), Err(Reason::ChunkOverhead));
        let trailers = [b"0\r\n", &b"A: b\r\n".repeat(limits::CHUNK_OVERHEAD_BYTES_MAX / 6 + 1)[..]].concat();
        assert_eq!(decode(&trailers, 100), Err(Reason::ChunkOverhead));
        let spread = b"1;ab\r\nx\r\n".repeat(limits::CHUNK_OVERHEAD_BYTES_MAX / 3 + 1);
        assert_eq!(decode(&spread, 100), Err(Reason::ChunkOverhead));
    }
}
