//! What was wrong with a request: one type for every refusal that HTTP itself makes.

use std::fmt;

use super::Status;
use crate::limits::Limit;

/// A request that cannot be served: the client erred, or asked for what this server does not do. It is
/// answered once, and the connection closes: where the next request would begin is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpError {
    /// What was wrong.
    pub reason: Reason,
    /// Where it was seen.
    pub place: ErrorPlace,
}

/// Where in the request something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPlace {
    /// Nowhere in particular.
    Request,
    /// A byte of the head, counted from 0.
    HeadByte(u32),
    /// A byte of the request target, counted from 0.
    TargetByte(u32),
    /// A line of the head; the request line is 1.
    Line(u32),
    /// A byte of the body as it was sent, chunk framing included, counted from 0.
    BodyByte(u32),
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $status:ident, $label:literal, $sentence:literal;)*) => {
        /// Why a request was refused. Each has a status, a label for counters and a sentence for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of their discriminants: a counter for each is an array of this
            /// length.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The status that answers it.
            pub fn status(self) -> Status {
                match self { $(Reason::$name => Status::$status,)* }
            }

            /// A short name for counters: lower case and hyphens, never changed.
            pub fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)* }
            }

            /// What was wrong, in one sentence without its place and without a full stop.
            pub fn sentence(self) -> &'static str {
                match self { $(Reason::$name => $sentence,)* }
            }
        }
    };
}

reasons! {
    /// A connection of a trusted proxy that does not begin with a PROXY header, though each is to.
    ProxyHeaderMissing, BadRequest, "proxy-header-missing", "this port takes connections with a PROXY header, but this one began without";
    /// A PROXY header that is malformed, or longer than `PROXY_HEADER_BYTES_MAX`.
    ProxyHeader, BadRequest, "proxy-header", "a malformed PROXY header";
    /// A PROXY header on a port that takes none.
    ProxyHeaderUnexpected, BadRequest, "proxy-header-unexpected", "this port takes no PROXY header (see --proxy-protocol), but the client began with one";
    /// As many connections of the client that a PROXY header names as the limit `address-connections` allows.
    AddressConnections, ServiceUnavailable, "address-connections", "this address has as many connections as it may have";
    /// A TLS client hello on a port that speaks plain HTTP.
    TlsHello, BadRequest, "tls-hello", "this port speaks plain HTTP, but the client began a TLS handshake";
    /// The connection preface of RFC 9113 section 3.4.
    Http2Preface, BadRequest, "http2-preface", "this port speaks HTTP/1.1, but the client began HTTP/2";
    /// More empty lines before a request line than `LEADING_EMPTY_LINES_MAX` (RFC 9112 section 2.2).
    LeadingEmptyLines, BadRequest, "leading-empty-lines", "too many empty lines before the request line";
    /// A line feed that no carriage return precedes (RFC 9112 section 2.2 lets a server refuse it).
    BareLineFeed, BadRequest, "bare-line-feed", "a line feed without a carriage return before it";
    /// A carriage return that no line feed follows (RFC 9112 section 2.2).
    BareCarriageReturn, BadRequest, "bare-carriage-return", "a carriage return without a line feed after it";
    /// NUL or another control byte in the head (RFC 9110 section 5.5).
    ControlByte, BadRequest, "control-byte", "a control byte in the request head";
    /// Not `method SP target SP version` (RFC 9112 section 3).
    RequestLine, BadRequest, "request-line", "the request line is not `method target HTTP/1.1`";
    /// A method that this server does not know, CONNECT among them (RFC 9110 sections 9.1 and 15.6.2).
    MethodNotImplemented, NotImplemented, "method-not-implemented", "this method is not implemented";
    /// A byte that a target may not hold unescaped (RFC 9112 section 3.2, RFC 3986 section 3).
    TargetByte, BadRequest, "target-byte", "the request target holds a byte that must be percent-encoded";
    /// `%` without two hexadecimal digits (RFC 3986 section 2.1).
    TargetEscape, BadRequest, "target-escape", "the request target holds `%` without two hexadecimal digits";
    /// Not origin-form, absolute-form, or `*` with OPTIONS (RFC 9112 section 3.2).
    TargetForm, BadRequest, "target-form", "the request target is neither an absolute path nor an http URI";
    /// An https URI over a connection that is not secured (RFC 9110 section 7.4).
    TargetScheme, MisdirectedRequest, "target-scheme", "the request target is an https URI, but this connection is not secured";
    /// A target longer than the limit `target-bytes`.
    TargetTooLong, UriTooLong, "target-too-long", "the request target is too long";
    /// A version other than HTTP/1.0 and HTTP/1.1.
    VersionUnsupported, VersionNotSupported, "version-unsupported", "only HTTP/1.1 and HTTP/1.0 are spoken here";
    /// A field line without a colon, or a name that is no token (RFC 9112 section 5).
    FieldName, BadRequest, "field-name", "a header field has no valid name before a colon";
    /// White space between a field's name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon, BadRequest, "space-before-colon", "white space between a field name and its colon";
    /// A field line continued on the next (RFC 9112 section 5.2).
    ObsoleteFolding, BadRequest, "obsolete-folding", "a header line begins with white space";
    /// More fields than the limit `fields`.
    TooManyFields, FieldsTooLarge, "too-many-fields", "too many header fields";
    /// A head longer than the limit `head-bytes`.
    HeadTooLarge, FieldsTooLarge, "head-too-large", "the request head is too large";
    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    HostMissing, BadRequest, "host-missing", "an HTTP/1.1 request needs a Host field";
    /// Host more than once (RFC 9112 section 3.2).
    HostRepeated, BadRequest, "host-repeated", "more than one Host field";
    /// Host is no `host[:port]` (RFC 9112 section 3.2).
    HostInvalid, BadRequest, "host-invalid", "the Host field is not a host with an optional port";
    /// Transfer-Encoding and Content-Length in one request (RFC 9112 section 6.3).
    LengthAndEncoding, BadRequest, "length-and-encoding", "both Content-Length and Transfer-Encoding";
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1).
    EncodingInHttp10, BadRequest, "encoding-in-http10", "Transfer-Encoding in an HTTP/1.0 request";
    /// A transfer coding other than `chunked` alone (RFC 9112 section 6.1).
    EncodingUnknown, NotImplemented, "encoding-unknown", "a Transfer-Encoding other than `chunked` alone, in one field";
    /// More than one Content-Length field; equal ones too (RFC 9112 section 6.3).
    LengthRepeated, BadRequest, "length-repeated", "more than one Content-Length field";
    /// Content-Length that is no decimal number, or none that fits 64 bits (RFC 9112 section 6.3).
    LengthInvalid, BadRequest, "length-invalid", "Content-Length is not one decimal number";
    /// A body longer than the limit `body-bytes`.
    BodyTooLarge, ContentTooLarge, "body-too-large", "the request body is too large";
    /// Expect other than `100-continue` (RFC 9110 section 10.1.1).
    ExpectationUnknown, ExpectationFailed, "expectation-unknown", "an Expect other than `100-continue`";
    /// A chunk size that is no hexadecimal number of 1 to 16 digits (RFC 9112 section 7.1).
    ChunkSize, BadRequest, "chunk-size", "a chunk size is not a hexadecimal number";
    /// A chunk extension that the grammar forbids (RFC 9112 section 7.1.1).
    ChunkExtension, BadRequest, "chunk-extension", "a malformed chunk extension";
    /// No CRLF where a chunk or a chunk's size ends (RFC 9112 section 7.1).
    ChunkEnd, BadRequest, "chunk-end", "a chunk does not end with CR LF where its size says";
    /// A trailer line that the grammar forbids (RFC 9112 section 7.1.2).
    Trailer, BadRequest, "trailer", "a malformed trailer field";
    /// Extensions and trailers longer than the limit `chunk-overhead-bytes`.
    ChunkOverhead, ContentTooLarge, "chunk-overhead", "too many bytes of chunk extensions and trailers";
    /// A head that did not end within the limit `head-time`.
    HeadTimeout, RequestTimeout, "head-timeout", "the request head took too long to arrive";
    /// A body that did not end within the limit `body-time`.
    BodyTimeout, RequestTimeout, "body-timeout", "the request body took too long to arrive";
    /// The core's buffers are used up (the limit `buffered-bytes`): the client did nothing wrong.
    Overloaded, ServiceUnavailable, "overloaded", "this host's buffers are full";
}

impl Reason {
    /// The limit that was hit, if it was one.
    pub fn limit(self) -> Option<Limit> {
        match self {
            Reason::TargetTooLong => Some(Limit::TargetBytes),
            Reason::TooManyFields => Some(Limit::Fields),
            Reason::HeadTooLarge => Some(Limit::HeadBytes),
            Reason::BodyTooLarge => Some(Limit::BodyBytes),
            Reason::ChunkOverhead => Some(Limit::ChunkOverheadBytes),
            Reason::HeadTimeout => Some(Limit::HeadTime),
            Reason::BodyTimeout => Some(Limit::BodyTime),
            Reason::Overloaded => Some(Limit::BufferedBytes),
            Reason::AddressConnections => Some(Limit::AddressConnections),
            _ => None,
        }
    }
}

impl HttpError {
    /// The status that answers it.
    pub fn status(&self) -> Status {
        self.reason.status()
    }
}

impl From<Reason> for HttpError {
    fn from(reason: Reason) -> HttpError {
        HttpError { reason, place: ErrorPlace::Request }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.sentence())?;
        match self.place {
            ErrorPlace::Request => Ok(()),
            ErrorPlace::HeadByte(at) => write!(f, " (byte {at} of the head)"),
            ErrorPlace::TargetByte(at) => write!(f, " (byte {at} of the target)"),
            ErrorPlace::Line(line) => write!(f, " (line {line} of the head)"),
            ErrorPlace::BodyByte(at) => write!(f, " (byte {at} of the body)"),
        }
    }
}

impl std::error::Error for HttpError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_fit_a_counter() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert!(
            labels.iter().all(|label| label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        );
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(reason.status().code() >= 400, "{reason:?}");
        }
    }

    #[test]
    fn the_sentence_says_what_and_where() {
        let error = HttpError { reason: Reason::ObsoleteFolding, place: ErrorPlace::Line(3) };
        assert_eq!(error.to_string(), "a header line begins with white space (line 3 of the head)");
        assert_eq!(HttpError::from(Reason::BodyTooLarge).to_string(), "the request body is too large");
    }
}
