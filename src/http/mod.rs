//! HTTP/1.1 messages: bytes in, [`Request`] out; [`Response`] in, bytes out.
//!
//! Owns the wire format of RFC 9112 and nothing else: it knows no tickets, no sockets and no clock. The
//! connection calls it with what has arrived; the API reads [`Request`] and fills [`Response`].
//!
//! A head goes through two steps, so that the outcome never depends on how its bytes were fragmented:
//! [`parse::HeadScanner`] finds the head's end and sees every byte once, and [`parse::parse_head`] is a pure
//! function of the whole head. How long the body is, is decided in one place: [`framing::body_length`].

pub mod accept;
pub mod body;
pub mod date;
pub mod encode;
mod error;
pub mod framing;
pub mod parse;
pub mod precondition;
mod request;
mod target;

pub use date::DateCache;
pub use encode::{Caching, Field, OVERLOADED, Response, Status};
pub use error::{ErrorPlace, HttpError, Reason};
pub use request::{KeptRequest, Method, Request, Version};

/// Whether `byte` may stand in a token: a method, a field name (RFC 9110 section 5.6.2).
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether `byte` may stand in a field value: anything but control bytes, of which only the tab may (RFC 9110
/// section 5.5). Bytes above 127 are opaque.
pub(crate) fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
