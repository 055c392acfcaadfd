//! The reading half: which request is being read, when it is whole, and how long its client has for it.
//!
//! A connection of a trusted proxy may begin with a PROXY header, before its first request.
//!
//! A request that can be served at once is not kept. Reading stops when the writing half is full
//! ([`Connection::wants_read`]), or when answers must come first, and goes on with [`Connection::resume`].

use std::net::IpAddr;

use super::reply::{PendingReply, Reply, ReplyOptions};
use super::{BufferPool, CloseState, Connection, Service, Turn};
use crate::clock::Monotonic;
use crate::http::body::ChunkedDecoder;
use crate::http::framing::BodyLength;
use crate::http::parse::{self, Head, HeadScanner, Scan};
use crate::http::{HttpError, Method, Reason, Request, Version};
use crate::limits::Limit;
use crate::proxies::header::{self, ProxyHeader, ProxyHeaderError};

/// What the next bytes are a part of.
#[derive(Debug)]
pub(super) enum Reading {
    /// `input` holds the PROXY header so far, with which the connection begins.
    ProxyHeader,
    /// The PROXY header was read: who owns the connection says whether its client may go on
    /// ([`Connection::named_client`]). `input` holds what came behind it.
    Named,
    /// `input` holds the head so far (or requests that wait for back pressure to end).
    Head(HeadScanner),
    /// `input` holds head and body so far; the request is complete at `total_bytes`.
    Sized { head_bytes: u32, total_bytes: u32 },
    /// `input` holds the head and, after it, what was decoded so far.
    Chunked { head_bytes: u32, decoder: ChunkedDecoder },
    /// No more requests: what arrives is dropped.
    Finished,
}

impl Connection {
    /// Takes bytes that arrived. Only to be called if [`Connection::wants_read`]; each call takes all of `bytes`.
    pub fn handle_bytes(&mut self, bytes: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) {
        if matches!(self.reading, Reading::Finished) {
            // The client sends although nothing more is answered: a close now could reset its unread answer.
            self.must_linger |= !bytes.is_empty();
            return;
        }
        if self.input.is_empty() || matches!(self.reading, Reading::Chunked { .. }) {
            let taken = self.read(bytes, turn, service);
            let rest = &bytes[taken..];
            if !rest.is_empty() && self.keep(rest, turn, service) {
                self.begin_head_clock(turn.now);
            }
        } else {
            self.compact_input();
            if self.keep(bytes, turn, service) && !self.parked {
                self.read_input(turn, service);
            }
        }
        self.settle(turn);
    }

    /// Takes the end of the client's stream. What was asked is still answered; half a request is dropped.
    pub fn handle_end(&mut self, turn: &mut Turn<'_>) {
        self.peer_ended = true;
        if !self.parked {
            self.finish_reading(turn.pool);
        }
        // A client that listens to a stream does not end its side first: as far as can be told, nobody is there.
        self.end_stream(turn.now, turn.pool);
        self.settle(turn);
    }

    /// Goes on with requests that waited for back pressure to end, and with a stream that has something to say. Must be
    /// called after answers and writes; costs nothing if nothing waits.
    pub fn resume(&mut self, turn: &mut Turn<'_>, service: &mut impl Service) {
        if self.wants_part() {
            self.ask_for_part(turn, service);
        }
        if !self.parked || self.is_full() {
            self.settle(turn);
            return;
        }
        self.parked = false;
        let was_named = matches!(self.reading, Reading::Named);
        if was_named {
            self.reading = Reading::Head(HeadScanner::default());
        }
        self.read_input(turn, service);
        if !self.parked {
            if self.peer_ended {
                self.finish_reading(turn.pool);
            } else if was_named && self.draining && self.is_idle() {
                // Its PROXY header was on the way when the drain began, and no request.
                self.must_linger = true;
                self.finish_reading(turn.pool);
            } else if !self.input.is_empty() {
                self.begin_head_clock(turn.now);
            }
        }
        self.settle(turn);
    }

    /// The client that a PROXY header has just named, or the peer if it named nobody. Its requests are read with the next
    /// [`Connection::resume`], or [never](Connection::turn_away).
    pub fn named_client(&self) -> Option<IpAddr> {
        matches!(self.reading, Reading::Named).then(|| self.origin.address())
    }

    /// Refuses the [named client](Connection::named_client): it has as many connections as it may have.
    #[cold]
    pub fn turn_away(&mut self, turn: &mut Turn<'_>, service: &mut impl Service) {
        self.refuse(Reason::AddressConnections.into(), false, turn, service);
        self.settle(turn);
    }

    /// Whether [`Connection::resume`] has something to do.
    pub fn wants_resume(&self) -> bool {
        self.parked && !self.is_full() || self.stream.is_some() && self.wants_part()
    }

    /// Whether more bytes should be read. False while too much waits to be answered or written: back pressure instead of
    /// memory.
    pub fn wants_read(&self) -> bool {
        match self.close_state {
            CloseState::Closed => false,
            CloseState::Linger => true,
            CloseState::Open if self.peer_ended || self.parked => false,
            // The end of a client that reads a stream must be noticed.
            CloseState::Open => {
                matches!(self.reading, Reading::Finished) || !self.is_full() || self.stream.is_some()
            }
        }
    }

    /// Whether the client has until `read_deadline` to send something: it is in a request that we are willing
    /// to read, or it is idle. While we keep it waiting, no clock runs against it.
    pub(super) fn read_clock_runs(&self) -> bool {
        if matches!(self.reading, Reading::Finished) || self.parked || self.is_full() {
            return false;
        }
        !self.input.is_empty() || (self.unanswered() == 0 && self.output.is_empty())
    }

    /// Starts the head's clock if `input` has just become the beginning of a head. That of the first one is running
    /// already.
    fn begin_head_clock(&mut self, now: Monotonic) {
        if matches!(self.reading, Reading::Head(_)) && self.asked {
            self.read_deadline = now.plus_ms(self.limits.head_time_ms);
        }
    }

    /// Restarts the clock of a request that stood still because the connection was full.
    pub(super) fn renew_read_clock(&mut self, now: Monotonic) {
        if !self.is_full() && !self.input.is_empty() {
            let span = match self.reading {
                Reading::Head(_) => self.limits.head_time_ms,
                _ => self.limits.body_time_ms,
            };
            self.read_deadline = now.plus_ms(span);
        }
    }

    /// Reads requests from `input` itself.
    fn read_input(&mut self, turn: &mut Turn<'_>, service: &mut impl Service) {
        let mut kept = std::mem::take(&mut self.input);
        let start = std::mem::take(&mut self.input_start) as usize;
        let taken = self.read(&kept[start..], turn, service);
        if start + taken == kept.len() {
            turn.pool.put(&mut kept);
            return;
        }
        // What is left is often a few bytes, and a client may take its time: it must not hold a large buffer.
        self.input_start = turn.pool.shrink(&mut kept, start + taken) as u32;
        self.input = kept;
        if taken > 0 {
            self.begin_head_clock(turn.now);
        }
    }

    /// Keeps `bytes` behind what `input` holds. If the core has no room for them, the request is refused and the connection
    /// reads no more: returns false.
    fn keep(&mut self, bytes: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) -> bool {
        if turn.pool.try_reserve(&mut self.input, bytes.len()) {
            self.input.extend_from_slice(bytes);
            return true;
        }
        let kept = &self.input[self.input_start as usize..];
        let head_only = if kept.is_empty() { bytes } else { kept }.starts_with(b"HEAD ");
        self.refuse(Reason::Overloaded.into(), head_only, turn, service);
        false
    }

    fn compact_input(&mut self) {
        let start = std::mem::take(&mut self.input_start) as usize;
        if start > 0 {
            self.input.drain(..start);
        }
    }

    /// Reads as many requests from `bytes` as are whole and allowed, and returns how many bytes are done
    /// with. `bytes` is never a part of `input`, which is empty unless a chunked body gathers there.
    fn read(&mut self, bytes: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (keeps_order, full_of) = (self.keeps_order(), self.full_of());
            match &mut self.reading {
                Reading::Finished => {
                    self.must_linger = true;
                    return bytes.len();
                }
                Reading::ProxyHeader => match header::read(rest) {
                    Ok(ProxyHeader::Partial) => return at,
                    Ok(ProxyHeader::Whole { bytes, client }) => {
                        self.origin.learn(client);
                        (self.reading, self.parked) = (Reading::Named, true);
                        return at + bytes;
                    }
                    Err(error) => {
                        let reason = match error {
                            ProxyHeaderError::Missing => Reason::ProxyHeaderMissing,
                            ProxyHeaderError::Malformed => Reason::ProxyHeader,
                        };
                        self.refuse(reason.into(), rest.starts_with(b"HEAD "), turn, service);
                        return bytes.len();
                    }
                },
                Reading::Named => return at,
                Reading::Head(_) if keeps_order => {
                    self.parked = true;
                    return at;
                }
                Reading::Head(_) if full_of.is_some() => {
                    self.parked = true;
                    full_of.into_iter().for_each(|limit| service.note(limit));
                    return at;
                }
                Reading::Head(_) if turn.pool.is_exhausted() => {
                    self.refuse(Reason::Overloaded.into(), rest.starts_with(b"HEAD "), turn, service);
                    return bytes.len();
                }
                Reading::Head(scanner) => match scanner.scan(rest, &self.limits) {
                    Ok(Scan::Partial) => return at,
                    Ok(Scan::EmptyLine) => at += 2,
                    Ok(Scan::Complete(head_bytes)) => match self.read_head(rest, head_bytes, turn, service) {
                        0 => return at,
                        taken => at += taken,
                    },
                    Err(error) => {
                        self.refuse(error, rest.starts_with(b"HEAD "), turn, service);
                        return bytes.len();
                    }
                },
                Reading::Sized { head_bytes, total_bytes } => {
                    let (head_bytes, total_bytes) = (*head_bytes as usize, *total_bytes as usize);
                    // Some of the body has arrived: the client does not wait for permission to send it.
                    self.continue_due = false;
                    let Some(whole) = rest.get(..total_bytes) else { return at };
                    let (head, body) = whole.split_at(head_bytes);
                    self.serve_gathered(head, body, turn, service);
                    at += total_bytes;
                }
                Reading::Chunked { head_bytes, decoder } => {
                    self.continue_due = false;
                    let head_bytes = *head_bytes as usize;
                    if !turn.pool.try_reserve(&mut self.input, rest.len()) {
                        let head_only = self.input.starts_with(b"HEAD ");
                        self.refuse(Reason::Overloaded.into(), head_only, turn, service);
                        return bytes.len();
                    }
                    match decoder.decode(rest, &mut self.input, &self.limits) {
                        Ok(taken) => at += taken,
                        Err(error) => {
                            self.refuse(error, self.input.starts_with(b"HEAD "), turn, service);
                            return bytes.len();
                        }
                    }
                    if decoder.is_complete() {
                        let mut whole = std::mem::take(&mut self.input);
                        let (head, body) = whole.split_at(head_bytes);
                        self.serve_gathered(head, body, turn, service);
                        turn.pool.put(&mut whole);
                    }
                }
            }
        }
        at
    }

    /// Reads a head whose end is known, and its request if that is whole. Returns how many bytes are done with; 0 if all of
    /// `bytes` must be kept until more arrives.
    fn read_head(
        &mut self,
        bytes: &[u8],
        head_bytes: usize,
        turn: &mut Turn<'_>,
        service: &mut impl Service,
    ) -> usize {
        let mut room = parse::field_room();
        let head = match parse::parse_head(&bytes[..head_bytes], &mut room, &self.limits) {
            Ok(head) => head,
            Err(error) => {
                self.refuse(error, bytes.starts_with(b"HEAD "), turn, service);
                return bytes.len();
            }
        };
        if self.unanswered() > 0 && service.must_follow(&head.request) {
            // Its head is then read again: that is rare, and cheaper than keeping what was found.
            self.reading = Reading::Head(HeadScanner::default());
            (self.in_order, self.parked) = (true, true);
            return 0;
        }
        let taken = match head.body {
            BodyLength::Bytes(body_bytes) => {
                let total_bytes = head_bytes + body_bytes;
                if let Some(whole) = bytes.get(..total_bytes) {
                    self.serve(&head, &whole[head_bytes..], turn, service);
                    return total_bytes;
                }
                self.reading =
                    Reading::Sized { head_bytes: head_bytes as u32, total_bytes: total_bytes as u32 };
                0
            }
            BodyLength::Chunked => {
                if !self.keep(&bytes[..head_bytes], turn, service) {
                    return bytes.len();
                }
                let decoder = ChunkedDecoder::default();
                self.reading = Reading::Chunked { head_bytes: head_bytes as u32, decoder };
                head_bytes
            }
        };
        self.read_deadline = turn.now.plus_ms(self.limits.body_time_ms);
        self.continue_due = head.expects_continue && bytes.len() == head_bytes;
        self.write_due_continue(turn.now, turn.pool);
        taken
    }

    /// Serves a request whose body took more than one read: its head is parsed a second time, which is
    /// cheaper than keeping what the first time found.
    fn serve_gathered(&mut self, head: &[u8], body: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) {
        let mut room = parse::field_room();
        match parse::parse_head(head, &mut room, &self.limits) {
            Ok(head) => self.serve(&head, body, turn, service),
            Err(error) => unreachable!("a head that was valid before: {error}"),
        }
    }

    fn serve(&mut self, head: &Head<'_>, body: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) {
        let sequence = self.next_request;
        self.next_request = sequence.wrapping_add(1);
        (self.in_order, self.asked) = (false, true);
        self.continue_due = false;
        // Only a nonzero limit is ever reached: with a limit, sequence numbers do not wrap.
        let is_last = self.next_request == self.limits.requests && self.limits.requests > 0;
        if is_last {
            service.note(Limit::Requests);
        }
        if head.persists && !self.draining && !turn.is_parting && !is_last {
            self.reading = Reading::Head(HeadScanner::default());
        } else {
            self.last_request = Some(sequence);
            // A client that asked to close sends no more; one that did not may well be sending.
            self.must_linger |= head.persists;
            self.finish_reading(turn.pool);
        }
        let request = Request { body, ..head.request };
        let options = ReplyOptions {
            head_only: request.method == Method::Head,
            is_http10: request.version == Version::Http10,
        };
        service.handle(&request, Reply::new(self, PendingReply::new(sequence, options), turn));
    }

    /// Has the service answer a request that HTTP refuses, in its turn, as the last answer.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        error: HttpError,
        head_only: bool,
        turn: &mut Turn<'_>,
        service: &mut impl Service,
    ) {
        let sequence = self.next_request;
        self.next_request = sequence.wrapping_add(1);
        self.last_request = Some(sequence);
        self.must_linger = true;
        self.finish_reading(turn.pool);
        let options = ReplyOptions { head_only, is_http10: false };
        service.refuse(&error, Reply::new(self, PendingReply::new(sequence, options), turn));
    }

    /// Stops reading requests, and drops half a one.
    pub(super) fn finish_reading(&mut self, pool: &mut BufferPool) {
        self.reading = Reading::Finished;
        self.parked = false;
        self.continue_due = false;
        pool.put(&mut self.input);
        self.input_start = 0;
        if self.last_request.is_none() && self.unanswered() > 0 {
            self.last_request = Some(self.next_request.wrapping_sub(1));
        }
    }
}
