//! Responses to bytes: copies of prebuilt parts and one number, straight into the connection's output.

use super::DateCache;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        /// The statuses that this server answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Status {
            $($(#[$doc])* $name = $code,)*
        }

        impl Status {
            /// The status with this code.
            pub fn from_code(code: u16) -> Option<Status> {
                match code { $($code => Some(Status::$name),)* _ => None }
            }

            /// The reason phrase, `Not Found`.
            pub fn phrase(self) -> &'static str {
                match self { $(Status::$name => $reason,)* }
            }

            fn line(self) -> &'static str {
                match self { $(Status::$name => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n"),)* }
            }

            /// The status line and the field that nearly every answer has: one copy instead of two.
            fn line_of_unstored(self) -> &'static str {
                match self {
                    $(Status::$name =>
                        concat!("HTTP/1.1 ", $code, " ", $reason, "\r\nCache-Control: no-store\r\n"),)*
                }
            }
        }
    };
}

statuses! {
    /// 200
    Ok = 200, "OK";
    /// 201
    Created = 201, "Created";
    /// 202
    Accepted = 202, "Accepted";
    /// 204: has no body and no Content-Length.
    NoContent = 204, "No Content";
    /// 303
    SeeOther = 303, "See Other";
    /// 304: has no body and no Content-Length.
    NotModified = 304, "Not Modified";
    /// 400
    BadRequest = 400, "Bad Request";
    /// 401
    Unauthorized = 401, "Unauthorized";
    /// 403
    Forbidden = 403, "Forbidden";
    /// 404
    NotFound = 404, "Not Found";
    /// 405
    MethodNotAllowed = 405, "Method Not Allowed";
    /// 406
    NotAcceptable = 406, "Not Acceptable";
    /// 408
    RequestTimeout = 408, "Request Timeout";
    /// 409
    Conflict = 409, "Conflict";
    /// 412
    PreconditionFailed = 412, "Precondition Failed";
    /// 413
    ContentTooLarge = 413, "Content Too Large";
    /// 414
    UriTooLong = 414, "URI Too Long";
    /// 415
    UnsupportedMediaType = 415, "Unsupported Media Type";
    /// 417
    ExpectationFailed = 417, "Expectation Failed";
    /// 421
    MisdirectedRequest = 421, "Misdirected Request";
    /// 422
    UnprocessableContent = 422, "Unprocessable Content";
    /// 429
    TooManyRequests = 429, "Too Many Requests";
    /// 431
    FieldsTooLarge = 431, "Request Header Fields Too Large";
    /// 500
    InternalServerError = 500, "Internal Server Error";
    /// 501
    NotImplemented = 501, "Not Implemented";
    /// 503
    ServiceUnavailable = 503, "Service Unavailable";
    /// 505
    VersionNotSupported = 505, "HTTP Version Not Supported";
}

impl Status {
    /// The number, 200 to 599.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Whether it never has a body, nor a Content-Length (RFC 9110 section 8.6; for 304 it is left out).
    fn is_bodiless(self) -> bool {
        matches!(self, Status::NoContent | Status::NotModified)
    }
}

/// Whether caches between here and a client may keep an answer (RFC 9111 section 5.2.2). Without a word they may keep what
/// answers GET, and a 404 or 405, for as long as they like (section 4.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// Nobody keeps it: it is true of this moment, or it is of one client.
    #[default]
    NoStore,
    /// For a second: what is read from memory is a part of that old already.
    Second,
    /// For a day: it changes with the version of this program alone.
    Day,
}

/// A header field of a response: name and value.
pub type Field<'a> = (&'a str, &'a str);

/// What a request is answered with. Date, Content-Length and Connection are added by the encoder.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status.
    pub status: Status,
    /// The media type of the body; empty if there is none.
    pub content_type: &'static str,
    /// Whether caches may keep it.
    pub caching: Caching,
    /// Further fields. A CR, LF or NUL in a value is sent as a space.
    pub fields: &'a [Field<'a>],
    /// The body; of an answer to HEAD only its length is sent.
    pub body: &'a [u8],
}

impl Response<'_> {
    /// No fewer bytes than the response takes when encoded.
    pub fn encoded_bytes_max(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        FRAME_BYTES_MAX + self.content_type.len() + fields + self.body.len()
    }
}

/// The bytes of a response without the value of Content-Type, further fields and the body: the longest status
/// line (44), Cache-Control (30), Date (37), `Content-Type: ` (16), Content-Length (38), Connection (24) and an empty
/// line (2).
const FRAME_BYTES_MAX: usize = 192;

/// What the Connection field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: HTTP/1.1 keeps alive anyhow.
    Implied,
    /// `keep-alive`: an HTTP/1.0 client that asked for it must be told (ab -k).
    KeepAlive,
    /// `close`: this is the last answer.
    Close,
}

/// The interim answer to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The whole answer to a connection that finds no room: to be written once, then the connection closes.
/// Asks for a second's pause, as `RETRY_AFTER_SECONDS` says. It has no Date: a 5xx may go without
/// (RFC 9110 section 6.6.1).
pub const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
Cache-Control: no-store\r\n\
Content-Type: application/problem+json\r\n\
Content-Length: 131\r\n\
Retry-After: 1\r\n\
Connection: close\r\n\
\r\n\
{\"type\":\"/problems/overloaded\",\"title\":\"Overloaded\",\"status\":503,\"detail\":\"no room for another connection; try again in a second\"}\n";

/// Appends the response to `out`. With `head_only` (HEAD) the fields of the whole response go out and the
/// body does not.
pub fn encode(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    head_only: bool,
    persistence: Persistence,
    date: &DateCache,
) {
    push_start(out, response);
    out.extend_from_slice(date.line());
    let bodiless = response.status.is_bodiless();
    if !bodiless {
        if !response.content_type.is_empty() {
            // Never of a client's making, so without a look for line ends.
            for part in ["Content-Type: ", response.content_type, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(response.body.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    push_persistence(out, persistence);
    for (name, value) in response.fields {
        encode_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    if !head_only && !bodiless {
        out.extend_from_slice(response.body);
    }
}

/// Appends the head of a response whose body comes in parts: in chunks, or until the connection closes.
pub fn encode_stream_head(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    is_chunked: bool,
    persistence: Persistence,
    date: &DateCache,
) {
    push_start(out, response);
    out.extend_from_slice(date.line());
    let coding: &[&str] = if is_chunked { &["Transfer-Encoding: chunked\r\n"] } else { &[] };
    for part in ["Content-Type: ", response.content_type, "\r\n"].iter().chain(coding) {
        out.extend_from_slice(part.as_bytes());
    }
    push_persistence(out, persistence);
    for (name, value) in response.fields {
        encode_field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn push_start(out: &mut Vec<u8>, response: &Response<'_>) {
    match response.caching {
        Caching::NoStore => out.extend_from_slice(response.status.line_of_unstored().as_bytes()),
        Caching::Second => for_seconds(out, response.status, "Cache-Control: max-age=1\r\n"),
        Caching::Day => for_seconds(out, response.status, "Cache-Control: max-age=86400\r\n"),
    }
}

fn push_persistence(out: &mut Vec<u8>, persistence: Persistence) {
    match persistence {
        Persistence::Implied => {}
        Persistence::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"Connection: close\r\n"),
    }
}

fn for_seconds(out: &mut Vec<u8>, status: Status, field: &str) {
    out.extend_from_slice(status.line().as_bytes());
    out.extend_from_slice(field.as_bytes());
}

fn encode_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let start = out.len();
    out.extend_from_slice(value.as_bytes());
    // A value may carry what a client sent; it must never begin a line of its own (RFC 9110 section 5.5).
    if memchr::memchr3(b'\r', b'\n', b'\0', value.as_bytes()).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\r' | b'\n' | b'\0') {
                *byte = b' ';
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::limits;

    fn encoded(response: &Response<'_>, head_only: bool, persistence: Persistence) -> String {
        let mut out = Vec::new();
        encode(&mut out, response, head_only, persistence, &DateCache::new(WallTime(784_111_777_000)));
        assert!(out.len() <= response.encoded_bytes_max());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_response_in_full() {
        let response = Response {
            status: Status::Created,
            content_type: "application/json",
            caching: Caching::NoStore,
            fields: &[("Location", "/v1/a"), ("X-Bad", "a\r\nSet-Cookie: b\0")],
            body: b"{}",
        };
        let head = "HTTP/1.1 201 Created\r\nCache-Control: no-store\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
                    Content-Length: 2\r\nConnection: keep-alive\r\nLocation: /v1/a\r\nX-Bad: a  Set-Cookie: b \r\n\r\n";
        assert_eq!(encoded(&response, false, Persistence::KeepAlive), format!("{head}{{}}"));
        assert_eq!(encoded(&response, true, Persistence::KeepAlive), head);
    }

    #[test]
    fn bodiless_statuses_have_no_length() {
        let response = Response {
            status: Status::NoContent,
            content_type: "",
            caching: Caching::NoStore,
            fields: &[],
            body: b"",
        };
        let expected = "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                        Connection: close\r\n\r\n";
        assert_eq!(encoded(&response, false, Persistence::Close), expected);
    }

    /// One field, whichever it is: a cache that finds two keeps to the stricter one, or to neither.
    #[test]
    fn every_answer_says_once_whether_it_may_be_kept() {
        for code in 0..=999 {
            let Some(status) = Status::from_code(code) else { continue };
            for (caching, value) in [
                (Caching::NoStore, "no-store"),
                (Caching::Second, "max-age=1"),
                (Caching::Day, "max-age=86400"),
            ] {
                let response = Response { status, content_type: "a", caching, fields: &[], body: b"x" };
                let text = encoded(&response, false, Persistence::Close);
                let (line, rest) = text.split_once("\r\n").unwrap();
                assert!(line.starts_with(&format!("HTTP/1.1 {code} ")), "{text}");
                assert!(rest.starts_with(&format!("Cache-Control: {value}\r\n")), "{text}");
                assert_eq!(text.matches("Cache-Control").count(), 1, "{text}");
            }
        }
    }

    #[test]
    fn the_bound_holds_for_the_longest_frame() {
        for code in 0..=999 {
            let Some(status) = Status::from_code(code) else { continue };
            assert_eq!(status.code(), code);
            let body = vec![0; 1 << 20];
            let response =
                Response { status, content_type: "a", caching: Caching::Day, fields: &[], body: &body };
            let mut out = Vec::new();
            encode(&mut out, &response, false, Persistence::KeepAlive, &DateCache::new(WallTime(0)));
            assert!(out.len() + 12 <= response.encoded_bytes_max());
        }
    }

    #[test]
    fn the_canned_refusal_is_consistent() {
        let text = std::str::from_utf8(OVERLOADED).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(head.contains(&format!("Retry-After: {}\r\n", limits::RETRY_AFTER_SECONDS)));
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
