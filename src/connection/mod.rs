//! One client's connection: what was read, what is to be written, and which answer's turn it is.
//!
//! It owns the order of answers, back pressure, time limits and the way a connection ends. It never touches a
//! socket or a clock: the engine hands it bytes and time, writes what [`Connection::output`] holds, and asks
//! for [`Connection::fate`]. Requests go to a [`Service`], which answers at once or later, in any order.
//!
//! Reading and writing are two machines. Reading goes `Head -> Sized | Chunked -> Head ...` until `Finished`:
//! after a framing error, or a last request, no byte is ever read as a request again. Writing is a window of
//! sequence numbers, from `next_answer` to `next_request`: the answer whose turn it is goes straight into the
//! output, and one that is early waits in the window.
//!
//! Bytes that make whole requests are served from the engine's read buffer without a copy. Only a remainder
//! is kept, in a buffer borrowed from the core's [`BufferPool`]; an idle connection owns no heap at all.

mod pool;
mod reply;
#[cfg(test)]
mod tests;

pub use pool::BufferPool;
pub use reply::{Answered, Exchange, Handled, Reply};

use std::collections::VecDeque;

use crate::clock::Monotonic;
use crate::http::body::ChunkedDecoder;
use crate::http::framing::BodyLength;
use crate::http::parse::{self, Head, HeadScanner, Scan};
use crate::http::{DateCache, HttpError, Method, Reason, Request, Version, encode};
use crate::limits;
use reply::Manner;

/// What answers requests.
pub trait Service {
    /// Answers through `reply`, or keeps [`Reply::later`]'s exchange and answers it with
    /// [`Connection::reply`].
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled;

    /// Answers a request that HTTP itself refuses: status, body and counting are the service's; the
    /// connection closes after it.
    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered;
}

/// What a connection borrows from its core while it works.
pub struct Turn<'a> {
    /// The time of this turn of the loop.
    pub now: Monotonic,
    /// The current Date line.
    pub date: &'a DateCache,
    /// The core's spare buffers.
    pub pool: &'a mut BufferPool,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Read and write as wanted.
    Open,
    /// All is written: shut down the writing side (once), and go on reading until the end or the deadline, so
    /// that a client that still sends can read its answer (RFC 9112 section 9.6).
    Linger,
    /// Close the socket. The connection owns nothing any more.
    Closed,
}

/// Why [`Connection::handle_deadline`] ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing was asked for `IDLE_TIMEOUT_MS`.
    Idle,
    /// The client did not read for `WRITE_STALL_TIMEOUT_MS`; what was unsent is lost.
    Stalled,
    /// The client did not close within `LINGER_TIMEOUT_MS`.
    Lingered,
}

/// Early answers: the front is the place of `next_answer`, and empty places wait for theirs.
type HeldAnswers = VecDeque<Option<Vec<u8>>>;

#[derive(Debug)]
enum Reading {
    /// `input` holds the head so far (or requests that wait for back pressure to end).
    Head(HeadScanner),
    /// `input` holds head and body so far; the request is complete at `total_bytes`.
    Sized { head_bytes: u32, total_bytes: u32 },
    /// `input` holds the head and, after it, what was decoded so far.
    Chunked { head_bytes: u32, decoder: ChunkedDecoder },
    /// No more requests: what arrives is dropped.
    Finished,
}

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    reading: Reading,
    /// A remainder that is no whole request yet; owns no heap when there is none.
    input: Vec<u8>,
    /// Bytes at the front of `input` that are done with.
    input_start: u32,
    /// Bytes at the front of `output` that are written.
    output_start: u32,
    output: Vec<u8>,
    held: HeldAnswers,
    held_bytes: u32,
    /// The sequence number of the next request.
    next_request: u32,
    /// The sequence number of the answer whose turn it is.
    next_answer: u32,
    /// The last request that will be answered, once it is known: its answer says `Connection: close`.
    last_request: Option<u32>,
    /// When the current head, body, idleness or lingering ends.
    read_deadline: Monotonic,
    /// When the client must have read something; of meaning while there is output.
    write_deadline: Monotonic,
    fate: Fate,
    /// Whole or partial requests wait in `input` for back pressure to end.
    parked: bool,
    /// The current request waits for `100 Continue`.
    continue_due: bool,
    /// The peer will send no more.
    peer_ended: bool,
    /// The client may still be sending when all is written.
    must_linger: bool,
    draining: bool,
}

impl Connection {
    /// A connection that was just accepted. Until its first byte it is idle.
    pub fn new(now: Monotonic) -> Connection {
        Connection {
            reading: Reading::Head(HeadScanner::default()),
            input: Vec::new(),
            input_start: 0,
            output_start: 0,
            output: Vec::new(),
            held: VecDeque::new(),
            held_bytes: 0,
            next_request: 0,
            next_answer: 0,
            last_request: None,
            read_deadline: now.plus_ms(limits::IDLE_TIMEOUT_MS),
            write_deadline: now,
            fate: Fate::Open,
            parked: false,
            continue_due: false,
            peer_ended: false,
            must_linger: false,
            draining: false,
        }
    }

    /// Takes bytes that arrived. To be called where [`Connection::wants_read`]; each call takes all of
    /// `bytes`.
    pub fn handle_bytes(&mut self, bytes: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) {
        if matches!(self.reading, Reading::Finished) {
            // The client sends although nothing more is answered: a close now could reset its unread answer.
            self.must_linger |= !bytes.is_empty();
            return;
        }
        if self.input.is_empty() || matches!(self.reading, Reading::Chunked { .. }) {
            let taken = self.read(bytes, turn, service);
            let rest = &bytes[taken..];
            if !rest.is_empty() {
                turn.pool.reserve(&mut self.input, rest.len());
                self.input.extend_from_slice(rest);
                self.begin_head_clock(turn.now);
            }
        } else {
            self.compact_input();
            turn.pool.reserve(&mut self.input, bytes.len());
            self.input.extend_from_slice(bytes);
            if !self.parked {
                self.read_input(turn, service);
            }
        }
        self.settle(turn);
    }

    /// Takes the end of the client's stream. What was asked is still answered; half a request is dropped.
    pub fn handle_end(&mut self, turn: &mut Turn<'_>) {
        self.peer_ended = true;
        if !self.parked {
            self.finish_reading(turn);
        }
        self.settle(turn);
    }

    /// Goes on with requests that waited for back pressure to end. To be called after answers and writes;
    /// costs nothing where none waits.
    pub fn resume(&mut self, turn: &mut Turn<'_>, service: &mut impl Service) {
        if !self.wants_resume() {
            return;
        }
        self.parked = false;
        self.read_input(turn, service);
        if !self.parked {
            if self.peer_ended {
                self.finish_reading(turn);
            } else if !self.input.is_empty() {
                self.begin_head_clock(turn.now);
            }
        }
        self.settle(turn);
    }

    /// Whether [`Connection::resume`] has something to do.
    pub fn wants_resume(&self) -> bool {
        self.parked && !self.is_full()
    }

    /// The way to answer a request that was put off. `None` where the connection has closed since.
    pub fn reply<'a>(&'a mut self, exchange: Exchange, turn: &'a mut Turn<'_>) -> Option<Reply<'a>> {
        let ahead = exchange.sequence().wrapping_sub(self.next_answer);
        let is_awaited = self.fate == Fate::Open
            && ahead < self.unanswered()
            && self.held.get(ahead as usize).is_none_or(Option::is_none);
        is_awaited.then(|| Reply::new(self, exchange, turn))
    }

    /// What is to be written now; empty where there is nothing.
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_start as usize..]
    }

    /// Takes note that the first `bytes` of [`Connection::output`] are written.
    pub fn handle_written(&mut self, bytes: usize, turn: &mut Turn<'_>) {
        let was_full = self.is_full();
        self.output_start += bytes as u32;
        assert!(self.output_start as usize <= self.output.len(), "more was written than there was");
        if self.output_start as usize == self.output.len() {
            turn.pool.put(&mut self.output);
            self.output_start = 0;
            if self.is_idle() {
                self.read_deadline = turn.now.plus_ms(limits::IDLE_TIMEOUT_MS);
            }
        } else if bytes > 0 {
            self.write_deadline = turn.now.plus_ms(limits::WRITE_STALL_TIMEOUT_MS);
        }
        if was_full {
            self.renew_read_clock(turn.now);
        }
        self.settle(turn);
    }

    /// Whether more bytes are to be read. False while too much waits to be answered or written: back pressure
    /// instead of memory.
    pub fn wants_read(&self) -> bool {
        match self.fate {
            Fate::Closed => false,
            Fate::Linger => true,
            Fate::Open if self.peer_ended || self.parked => false,
            Fate::Open => matches!(self.reading, Reading::Finished) || !self.is_full(),
        }
    }

    /// The next instant at which [`Connection::handle_deadline`] has something to do.
    pub fn deadline(&self) -> Option<Monotonic> {
        match self.fate {
            Fate::Closed => None,
            Fate::Linger => Some(self.read_deadline),
            Fate::Open => match (self.read_clock_runs(), self.output.is_empty()) {
                (true, true) => Some(self.read_deadline),
                (true, false) => Some(self.read_deadline.min(self.write_deadline)),
                (false, false) => Some(self.write_deadline),
                (false, true) => None,
            },
        }
    }

    /// Does what is due by now: answers 408 to a request that does not end, closes an idle connection
    /// silently, drops a client that does not read. Returns why the connection was cut, where it was.
    pub fn handle_deadline(&mut self, turn: &mut Turn<'_>, service: &mut impl Service) -> Option<Cut> {
        if self.deadline().is_none_or(|deadline| turn.now < deadline) {
            return None;
        }
        let cut = if self.fate == Fate::Linger {
            Cut::Lingered
        } else if !self.output.is_empty() && self.write_deadline <= turn.now {
            Cut::Stalled
        } else if self.is_idle() {
            Cut::Idle
        } else {
            let in_head = matches!(self.reading, Reading::Head(_));
            let reason = if in_head { Reason::HeadTimeout } else { Reason::BodyTimeout };
            let head_only = self.input[self.input_start as usize..].starts_with(b"HEAD ");
            self.refuse(reason.into(), head_only, turn, service);
            self.settle(turn);
            return None;
        };
        self.close(turn.pool);
        Some(cut)
    }

    /// What is to become of the connection.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Whether the client waits for nothing and asks nothing: no part of a request, no answer outstanding.
    pub fn is_idle(&self) -> bool {
        self.fate == Fate::Open
            && self.unanswered() == 0
            && self.output.is_empty()
            && self.input.is_empty()
            && !matches!(self.reading, Reading::Finished)
    }

    /// The host is going: what was asked is answered, the last answer says `Connection: close`, and an idle
    /// connection ends now. A request that has begun to arrive counts as asked.
    pub fn drain(&mut self, turn: &mut Turn<'_>) {
        if self.draining || self.fate != Fate::Open || matches!(self.reading, Reading::Finished) {
            return;
        }
        self.draining = true;
        if self.input.is_empty() {
            self.must_linger = true;
            self.finish_reading(turn);
            self.settle(turn);
        }
    }

    /// Drops everything at once, as after a reset: buffers go back to the pool, and no reply is awaited.
    pub fn close(&mut self, pool: &mut BufferPool) {
        self.fate = Fate::Closed;
        self.reading = Reading::Finished;
        self.parked = false;
        pool.put(&mut self.input);
        pool.put(&mut self.output);
        (self.input_start, self.output_start) = (0, 0);
        for mut answer in self.held.drain(..).flatten() {
            pool.put(&mut answer);
        }
        pool.put_queue(&mut self.held);
        self.held_bytes = 0;
    }

    /// Panics where the connection contradicts itself. For tests and the simulator, after every step.
    pub fn check_invariants(&self) {
        let owns = |buffer: &Vec<u8>| buffer.capacity() > 0;
        assert_eq!(owns(&self.input), !self.input.is_empty(), "a buffer without bytes belongs to the pool");
        assert_eq!(owns(&self.output), !self.output.is_empty(), "a buffer without bytes belongs to the pool");
        assert!(self.input_start == 0 || (self.input_start as usize) < self.input.len());
        assert!(self.output_start == 0 || (self.output_start as usize) < self.output.len());
        let held_bytes: usize = self.held.iter().flatten().map(Vec::len).sum();
        assert_eq!(held_bytes, self.held_bytes as usize);
        assert!(self.held.len() <= self.unanswered() as usize, "an answer nobody asked for");
        assert!(!matches!(self.held.front(), Some(Some(_))), "the answer whose turn it is does not wait");
        assert!(self.unanswered() as usize <= limits::PIPELINE_DEPTH_MAX + 1, "the depth, and a refusal");
        let is_finished = matches!(self.reading, Reading::Finished);
        assert!(!(is_finished && (self.parked || !self.input.is_empty())), "what is not read is not kept");
        assert!(!self.parked || (matches!(self.reading, Reading::Head(_)) && !self.input.is_empty()));
        assert!(
            !self.continue_due || matches!(self.reading, Reading::Sized { .. } | Reading::Chunked { .. })
        );
        assert!(self.fate == Fate::Open || (is_finished && self.output.is_empty()));
        // Nothing lasts for ever: a clock runs, or the service owes an answer, or the engine owes a resume.
        let is_awaited = self.unanswered() > 0 || self.wants_resume();
        assert!(self.fate == Fate::Closed || self.deadline().is_some() || is_awaited);
    }

    /// Requests that were given to the service and whose answer's turn has not come.
    fn unanswered(&self) -> u32 {
        self.next_request.wrapping_sub(self.next_answer)
    }

    /// Whether so much waits that no further request is begun.
    fn is_full(&self) -> bool {
        self.unanswered() as usize >= limits::PIPELINE_DEPTH_MAX
            || self.output.len() - self.output_start as usize + self.held_bytes as usize
                >= limits::UNSENT_BYTES_MAX
    }

    /// Whether the client has until `read_deadline` to send something: it is in a request that we are willing
    /// to read, or it is idle. While we keep it waiting, no clock runs against it.
    fn read_clock_runs(&self) -> bool {
        if matches!(self.reading, Reading::Finished) || self.parked || self.is_full() {
            return false;
        }
        !self.input.is_empty() || (self.unanswered() == 0 && self.output.is_empty())
    }

    /// Starts the head's clock where `input` has just become the beginning of a head.
    fn begin_head_clock(&mut self, now: Monotonic) {
        if matches!(self.reading, Reading::Head(_)) {
            self.read_deadline = now.plus_ms(limits::HEAD_TIMEOUT_MS);
        }
    }

    /// Gives a request whose clock stood still, because the connection was full, its time anew.
    fn renew_read_clock(&mut self, now: Monotonic) {
        if !self.is_full() && !self.input.is_empty() {
            let span = match self.reading {
                Reading::Head(_) => limits::HEAD_TIMEOUT_MS,
                _ => limits::BODY_TIMEOUT_MS,
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
            let is_full = self.is_full();
            match &mut self.reading {
                Reading::Finished => {
                    self.must_linger = true;
                    return bytes.len();
                }
                Reading::Head(_) if is_full => {
                    self.parked = true;
                    return at;
                }
                Reading::Head(scanner) => match scanner.scan(rest) {
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
                    // Some of the body has come: the client does not wait for leave to send it.
                    self.continue_due = false;
                    let Some(whole) = rest.get(..total_bytes) else { return at };
                    let (head, body) = whole.split_at(head_bytes);
                    self.serve_gathered(head, body, turn, service);
                    at += total_bytes;
                }
                Reading::Chunked { head_bytes, decoder } => {
                    self.continue_due = false;
                    let head_bytes = *head_bytes as usize;
                    turn.pool.reserve(&mut self.input, rest.len());
                    match decoder.decode(rest, &mut self.input) {
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

    /// Reads a head whose end is known, and its request where that is whole. Returns how many bytes are done
    /// with; 0 where all of `bytes` is to be kept until more arrives.
    fn read_head(
        &mut self,
        bytes: &[u8],
        head_bytes: usize,
        turn: &mut Turn<'_>,
        service: &mut impl Service,
    ) -> usize {
        let mut room = parse::field_room();
        let head = match parse::parse_head(&bytes[..head_bytes], &mut room) {
            Ok(head) => head,
            Err(error) => {
                self.refuse(error, bytes.starts_with(b"HEAD "), turn, service);
                return bytes.len();
            }
        };
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
                turn.pool.reserve(&mut self.input, head_bytes);
                self.input.extend_from_slice(&bytes[..head_bytes]);
                let decoder = ChunkedDecoder::default();
                self.reading = Reading::Chunked { head_bytes: head_bytes as u32, decoder };
                head_bytes
            }
        };
        self.read_deadline = turn.now.plus_ms(limits::BODY_TIMEOUT_MS);
        self.continue_due = head.expects_continue && bytes.len() == head_bytes;
        self.write_due_continue(turn.now, turn.pool);
        taken
    }

    /// Serves a request whose body took more than one read: its head is parsed a second time, which is
    /// cheaper than keeping what the first time found.
    fn serve_gathered(&mut self, head: &[u8], body: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) {
        let mut room = parse::field_room();
        match parse::parse_head(head, &mut room) {
            Ok(head) => self.serve(&head, body, turn, service),
            Err(error) => unreachable!("a head that was valid before: {error}"),
        }
    }

    fn serve(&mut self, head: &Head<'_>, body: &[u8], turn: &mut Turn<'_>, service: &mut impl Service) {
        let sequence = self.next_request;
        self.next_request = sequence.wrapping_add(1);
        self.continue_due = false;
        if head.persists && !self.draining {
            self.reading = Reading::Head(HeadScanner::default());
        } else {
            self.last_request = Some(sequence);
            // A client that asked to close sends no more; one that did not may well be sending.
            self.must_linger |= head.persists;
            self.finish_reading(turn);
        }
        let request = Request { body, ..head.request };
        let manner = Manner {
            head_only: request.method == Method::Head,
            announces_keep_alive: request.version == Version::Http10,
        };
        service.handle(&request, Reply::new(self, Exchange::new(sequence, manner), turn));
    }

    /// Has the service answer what HTTP refuses, in its turn, as the last answer.
    #[cold]
    fn refuse(&mut self, error: HttpError, head_only: bool, turn: &mut Turn<'_>, service: &mut impl Service) {
        let sequence = self.next_request;
        self.next_request = sequence.wrapping_add(1);
        self.last_request = Some(sequence);
        self.must_linger = true;
        self.finish_reading(turn);
        let manner = Manner { head_only, announces_keep_alive: false };
        service.refuse(&error, Reply::new(self, Exchange::new(sequence, manner), turn));
    }

    /// Reads no request any more, and drops half a one.
    fn finish_reading(&mut self, turn: &mut Turn<'_>) {
        self.reading = Reading::Finished;
        self.parked = false;
        self.continue_due = false;
        turn.pool.put(&mut self.input);
        self.input_start = 0;
        if self.last_request.is_none() && self.unanswered() > 0 {
            self.last_request = Some(self.next_request.wrapping_sub(1));
        }
    }

    /// Ends the connection where nothing is left to do.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.reading, Reading::Finished) || self.unanswered() > 0 || !self.output.is_empty() {
            return;
        }
        if self.fate == Fate::Closed {
            return;
        }
        if self.peer_ended || !self.must_linger {
            self.close(turn.pool);
        } else if self.fate == Fate::Open {
            self.fate = Fate::Linger;
            self.read_deadline = turn.now.plus_ms(limits::LINGER_TIMEOUT_MS);
        }
    }

    /// Appends the answer whose turn it is, and those behind it that waited for it.
    fn write_answer(
        &mut self,
        bytes_max: usize,
        now: Monotonic,
        pool: &mut BufferPool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.begin_output(now);
        pool.reserve(&mut self.output, bytes_max);
        encode(&mut self.output);
        self.next_answer = self.next_answer.wrapping_add(1);
        self.held.pop_front();
        while let Some(answer @ Some(_)) = self.held.front_mut() {
            let mut answer = answer.take().unwrap_or_default();
            self.held_bytes -= answer.len() as u32;
            pool.reserve(&mut self.output, answer.len());
            self.output.extend_from_slice(&answer);
            pool.put(&mut answer);
            self.held.pop_front();
            self.next_answer = self.next_answer.wrapping_add(1);
        }
        if self.held_bytes == 0 {
            pool.put_queue(&mut self.held);
        }
        self.write_due_continue(now, pool);
    }

    /// Keeps an answer that is `ahead` places before its turn.
    fn hold_answer(&mut self, ahead: usize, answer: Vec<u8>, pool: &mut BufferPool) {
        if self.held.capacity() == 0 {
            self.held = pool.take_queue();
        }
        if self.held.len() <= ahead {
            self.held.resize_with(ahead + 1, || None);
        }
        self.held_bytes += answer.len() as u32;
        self.held[ahead] = Some(answer);
    }

    /// Writes `100 Continue` where the request that is being read waits for it and every earlier one is
    /// answered.
    fn write_due_continue(&mut self, now: Monotonic, pool: &mut BufferPool) {
        if self.continue_due && self.unanswered() == 0 {
            self.continue_due = false;
            self.begin_output(now);
            pool.reserve(&mut self.output, encode::CONTINUE.len());
            self.output.extend_from_slice(encode::CONTINUE);
        }
    }

    fn begin_output(&mut self, now: Monotonic) {
        if self.output.is_empty() {
            self.write_deadline = now.plus_ms(limits::WRITE_STALL_TIMEOUT_MS);
        }
    }
}
