//! The head of a request: where it ends, and what it says.
//!
//! [`HeadScanner`] sees each byte once however a head is dribbled in; [`parse_head`] then runs on the whole
//! head. httparse does the grammar; what it lets pass and RFC 9112 does not is checked around it.

use std::mem::MaybeUninit;

use super::framing::{self, BodyLength, ConnectionOptions, Expectations, Occurrence};
use super::target;
use super::{ErrorPlace, HttpError, Method, Reason, Request, Version, is_token_byte, is_value_byte};
use crate::limits::{self, ClientLimits, REQUEST_LINE_SPARE_BYTES};

/// Longest method that is told from an endless one.
const METHOD_BYTES_MAX: usize = 64;

/// Longest request line: method, target, version and the spaces between them.
fn request_line_bytes_max(limits: &ClientLimits) -> usize {
    const BESIDE_THE_TARGET: usize = METHOD_BYTES_MAX + 1 + 1 + "HTTP/1.1\r".len();
    const { assert!(BESIDE_THE_TARGET < REQUEST_LINE_SPARE_BYTES) };
    limits.target_bytes + BESIDE_THE_TARGET
}

/// Finds the end of one head in bytes that arrive piece by piece.
///
/// It refuses what makes the end itself doubtful (a bare line feed, too many empty lines) or too far away
/// (414, 431), and a first byte that can begin no request.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// Bytes of the head that were seen.
    scanned: u16,
    /// Where the line begins whose end is looked for.
    line_start: u16,
    /// Empty lines dropped before this head.
    empty_lines: u8,
}

/// What the scanner knows after the bytes it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The head goes on.
    Partial,
    /// Two bytes of an empty line come before the head: drop them, and scan what follows.
    EmptyLine,
    /// The head is this many bytes long, the empty line at its end included.
    Complete(usize),
}

impl HeadScanner {
    /// Looks for the end of the head that begins with `bytes`, which are those of the last call and any that
    /// arrived since.
    pub fn scan(&mut self, bytes: &[u8], limits: &ClientLimits) -> Result<Scan, HttpError> {
        let seen = usize::from(self.scanned);
        let outcome = self.scan_on(bytes, limits);
        match outcome {
            Ok(Scan::Partial) => count_scanned(usize::from(self.scanned) - seen),
            Ok(Scan::EmptyLine) => count_scanned(2 - seen),
            Ok(Scan::Complete(head_bytes)) => count_scanned(head_bytes - seen),
            Err(_) => {}
        }
        outcome
    }

    fn scan_on(&mut self, bytes: &[u8], limits: &ClientLimits) -> Result<Scan, HttpError> {
        let window = &bytes[..bytes.len().min(limits.head_bytes)];
        let request_line_bytes_max = request_line_bytes_max(limits);
        let seen = usize::from(self.scanned);
        if seen == 0 {
            match window.first() {
                None => return Ok(Scan::Partial),
                Some(byte) if is_token_byte(*byte) || matches!(byte, b'\r' | b'\n') => {}
                // The record type of a TLS handshake (RFC 8446 section 5.1).
                Some(0x16) => return Err(Reason::TlsHello.into()),
                Some(_) => return Err(at_head_byte(Reason::RequestLine, 0)),
            }
        }
        for line_feed in memchr::memchr_iter(b'\n', &window[seen..]) {
            let line_feed = seen + line_feed;
            let line_start = usize::from(self.line_start);
            if line_start == 0 && line_feed >= request_line_bytes_max {
                return Err(too_long(window));
            }
            if line_feed == line_start || window[line_feed - 1] != b'\r' {
                return Err(at_head_byte(Reason::BareLineFeed, line_feed));
            }
            if line_feed == line_start + 1 {
                if line_start > 0 {
                    return Ok(Scan::Complete(line_feed + 1));
                }
                let empty_lines = self.empty_lines + 1;
                if usize::from(empty_lines) > limits::LEADING_EMPTY_LINES_MAX {
                    return Err(Reason::LeadingEmptyLines.into());
                }
                *self = HeadScanner { empty_lines, ..HeadScanner::default() };
                return Ok(Scan::EmptyLine);
            }
            self.line_start = (line_feed + 1) as u16;
        }
        if self.line_start == 0 && window.len() > request_line_bytes_max {
            return Err(too_long(window));
        }
        if window.len() == limits.head_bytes {
            return Err(Reason::HeadTooLarge.into());
        }
        self.scanned = window.len() as u16;
        Ok(Scan::Partial)
    }
}

/// A request line without end is a long target, unless not even the method ended.
#[cold]
fn too_long(window: &[u8]) -> HttpError {
    if memchr::memchr(b' ', &window[..=METHOD_BYTES_MAX]).is_none() {
        Reason::MethodNotImplemented.into()
    } else {
        Reason::TargetTooLong.into()
    }
}

/// Room for the fields of one head, on the caller's stack; costs nothing until it is filled.
pub type FieldRoom<'a> = [MaybeUninit<httparse::Header<'a>>; limits::FIELDS_CEILING];

/// An empty [`FieldRoom`].
pub fn field_room<'a>() -> FieldRoom<'a> {
    [const { MaybeUninit::uninit() }; limits::FIELDS_CEILING]
}

/// A whole head, understood.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The request, its body still empty.
    pub request: Request<'a>,
    /// What follows the head.
    pub body: BodyLength,
    /// Whether the client lets the connection persist.
    pub persists: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects_continue: bool,
}

/// Reads a whole head: exactly the bytes that [`HeadScanner`] delimited.
pub fn parse_head<'a>(
    bytes: &'a [u8],
    room: &'a mut FieldRoom<'a>,
    limits: &ClientLimits,
) -> Result<Head<'a>, HttpError> {
    count_scanned(bytes.len());
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut room[..limits.fields]) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(diagnose(bytes, None)),
        Err(error) => return Err(diagnose(bytes, Some(error))),
    }
    let (Some(method_name), Some(target), Some(minor_version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reason::RequestLine.into());
    };
    let fields: &'a [httparse::Header<'a>] = parsed.headers;
    let version = if minor_version == 0 { Version::Http10 } else { Version::Http11 };

    if target.len() > limits.target_bytes {
        return Err(Reason::TargetTooLong.into());
    }
    // CONNECT is among those that are not known: its target has a form of its own, and what follows it would be no HTTP
    // (RFC 9110 section 9.3.6).
    let method = Method::from_name(method_name).ok_or(Reason::MethodNotImplemented)?;
    let target = target::parse_target(target, method)?;

    let mut host = Occurrence::Absent;
    let mut content_length = Occurrence::Absent;
    let mut transfer_encoding = Occurrence::Absent;
    let mut expectations = Expectations::default();
    let mut options = ConnectionOptions::default();
    let (mut is_conditional, mut is_partial) = (false, false);
    for field in fields {
        // The length tells these names apart from nearly all others.
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => host.add(field.value),
            6 if field.name.eq_ignore_ascii_case("expect") => expectations.add(field.value),
            10 if field.name.eq_ignore_ascii_case("connection") => options.add(field.value),
            8 => is_conditional |= field.name.eq_ignore_ascii_case("if-match"),
            13 => {
                is_conditional |= field.name.eq_ignore_ascii_case("if-none-match");
                is_partial |= field.name.eq_ignore_ascii_case("content-range");
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => content_length.add(field.value),
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => transfer_encoding.add(field.value),
            _ => {}
        }
    }
    match host {
        Occurrence::Once(value) if target::is_host(value) => {}
        Occurrence::Absent if version == Version::Http10 => {}
        Occurrence::Absent => return Err(Reason::HostMissing.into()),
        Occurrence::Once(_) => return Err(Reason::HostInvalid.into()),
        Occurrence::Repeated => return Err(Reason::HostRepeated.into()),
    }
    let body = framing::body_length(version, content_length, transfer_encoding, limits.body_bytes)?;
    let expects_continue = expectations.wants_continue(version)?;
    let request = Request {
        method,
        method_name,
        path: target.path,
        query: target.query,
        version,
        body: &[],
        is_conditional,
        is_partial,
        fields,
    };
    Ok(Head { request, body, persists: options.persists(version), expects_continue })
}

/// Says what httparse disliked, and where: it names neither the line nor the rule.
#[cold]
fn diagnose(head: &[u8], error: Option<httparse::Error>) -> HttpError {
    if error == Some(httparse::Error::TooManyHeaders) {
        return Reason::TooManyFields.into();
    }
    let mut offset = 0;
    // Each line feed of the head follows a carriage return, or the scanner would not have let it pass.
    for (index, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line_bytes = line.len();
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let reason = if index == 0 { request_line_fault(line) } else { field_line_fault(line) };
        if let Some(reason) = reason {
            return match reason {
                Reason::BareCarriageReturn | Reason::ControlByte => {
                    let at = line.iter().position(|byte| !is_value_byte(*byte)).unwrap_or(0);
                    at_head_byte(reason, offset + at)
                }
                _ => HttpError { reason, place: ErrorPlace::Line(index as u32 + 1) },
            };
        }
        offset += line_bytes;
    }
    Reason::RequestLine.into()
}

fn control_fault(line: &[u8]) -> Option<Reason> {
    match line.iter().find(|byte| !is_value_byte(**byte))? {
        b'\r' => Some(Reason::BareCarriageReturn),
        _ => Some(Reason::ControlByte),
    }
}

fn request_line_fault(line: &[u8]) -> Option<Reason> {
    if line == b"PRI * HTTP/2.0" {
        return Some(Reason::Http2Preface);
    }
    if line.starts_with(b"PROXY TCP") || line.starts_with(b"PROXY UNKNOWN") {
        return Some(Reason::ProxyHeaderUnexpected);
    }
    if let Some(reason) = control_fault(line) {
        return Some(reason);
    }
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Some(Reason::RequestLine);
    };
    if method.is_empty() || target.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Some(Reason::RequestLine);
    }
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" if target.is_ascii() => None,
        b"HTTP/1.0" | b"HTTP/1.1" => Some(Reason::TargetByte),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Some(Reason::VersionUnsupported)
        }
        _ => Some(Reason::RequestLine),
    }
}

fn field_line_fault(line: &[u8]) -> Option<Reason> {
    if line.is_empty() {
        return None;
    }
    if matches!(line[0], b' ' | b'\t') {
        return Some(Reason::ObsoleteFolding);
    }
    if let Some(reason) = control_fault(line) {
        return Some(reason);
    }
    let Some(colon) = memchr::memchr(b':', line) else { return Some(Reason::FieldName) };
    let name = &line[..colon];
    match name.trim_ascii_end() {
        b"" => Some(Reason::FieldName),
        trimmed if !trimmed.iter().all(|byte| is_token_byte(*byte)) => Some(Reason::FieldName),
        trimmed if trimmed.len() < name.len() => Some(Reason::SpaceBeforeColon),
        _ => None,
    }
}

fn at_head_byte(reason: Reason, at: usize) -> HttpError {
    HttpError { reason, place: ErrorPlace::HeadByte(at as u32) }
}

#[cfg(debug_assertions)]
thread_local! {
    static BYTES_SCANNED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Bytes that scanner and parser have looked at on this thread: tests assert on work, not on time.
#[cfg(debug_assertions)]
pub fn bytes_scanned() -> usize {
    BYTES_SCANNED.get()
}

/// Counts work if invariants are checked; does nothing in a release.
#[inline]
fn count_scanned(bytes: usize) {
    #[cfg(debug_assertions)]
    BYTES_SCANNED.set(BYTES_SCANNED.get() + bytes);
    let _ = bytes;
}
