//! One client's connection: what was read, what must be written, and which answer's turn it is.
//!
//! It owns the order of requests and answers, back pressure, time limits and the way a connection ends. It never touches a
//! socket or a clock: the engine hands it bytes and time, writes what [`Connection::output`] holds, and asks for
//! [`Connection::close_state`]. Requests go to a [`Service`], which answers at once or later, in any order.
//!
//! Reading and writing are two state machines, each in its own file, and a third file has answers that go on; this one has
//! what they decide together: deadlines and the end. Reading goes `Head -> Sized | Chunked -> Head ...` until `Finished`,
//! behind a trusted proxy with `ProxyHeader -> Named` before it:
//! after a framing error, or a last request, no byte is ever read as a request again. Writing is a window of sequence
//! numbers, from `next_answer` to `next_request`: the answer whose turn it is goes straight into the output, and one that
//! is early waits in the window. An answer that goes on ([`Reply::stream`]) keeps its place until it ends, and is asked for
//! more only when the socket has taken everything before.
//!
//! Requests may wait for their answers concurrently as long as none of them depends on another; the service says which do
//! ([`Service::must_follow`], [`Reply::later_alone`]). A request that depends on earlier ones is begun when all of them are
//! answered, and until then the connection is not read: what a client heard last is what was done last (RFC 9112 section
//! 9.3.2).
//!
//! Bytes that make whole requests are served from the engine's read buffer without a copy. Only a remainder
//! is kept, in a buffer borrowed from the core's [`BufferPool`]; an idle connection owns no heap at all.

mod origin;
mod pool;
mod reading;
mod reply;
mod stream;
#[cfg(test)]
mod tests;
mod writing;

pub use origin::Origin;
pub use pool::BufferPool;
pub use reply::{Answered, Handled, PendingReply, Reply};
pub use stream::{Produced, StreamPart};

use std::sync::Arc;

use crate::clock::Monotonic;
use crate::http::parse::HeadScanner;
use crate::http::{DateCache, HttpError, Reason, Request};
use crate::limits::{self, ClientLimits, Limit};
use reading::Reading;
use stream::ReplyStream;
use writing::HeldAnswers;

/// What answers requests.
pub trait Service {
    /// Answers through `reply`, or keeps the [`PendingReply`] of [`Reply::later`] and answers it with
    /// [`Connection::reply`].
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled;

    /// Whether the request may be begun only when all earlier ones of its connection are answered. Asked if some are not,
    /// with the request's head alone. By default: every request with an unsafe method.
    fn must_follow(&self, request: &Request<'_>) -> bool {
        !request.method.is_safe()
    }

    /// Answers a request that HTTP itself refuses: status, body and counting are the service's; the
    /// connection closes after it.
    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered;

    /// Writes the next part of the stream that [`Reply::stream`] has begun on this connection. Called once at its
    /// beginning, and then once when there is room after it was [woken](Connection::wake_stream), however often that was.
    fn produce(&mut self, part: StreamPart<'_>) -> Produced {
        part.end()
    }

    /// Takes note of a limit that the client hit and that refuses nothing: a request that waits for those before it
    /// (`pipeline`, `unsent-bytes`), the last request of a connection (`requests`).
    fn note(&mut self, limit: Limit) {
        let _ = limit;
    }
}

/// What a connection borrows from its core while it works.
pub struct Turn<'a> {
    /// The time of this turn of the loop.
    pub now: Monotonic,
    /// The current Date line.
    pub date: &'a DateCache,
    /// The core's spare buffers.
    pub pool: &'a mut BufferPool,
    /// The host is about to stop: each connection ends with the answer to its next request, so that no client sends one
    /// into a connection that is just closing.
    pub is_parting: bool,
}

/// What to do with the socket of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseState {
    /// Read and write as wanted.
    Open,
    /// All is written: shut down the writing side (once), and keep reading until the end or the deadline, so that a client
    /// that still sends can read its answer (RFC 9112 section 9.6).
    Linger,
    /// Close the socket. The connection owns nothing any more.
    Closed,
}

/// Why [`Connection::handle_deadline`], or the core, ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// No request for `idle-time` since the last answer.
    Idle,
    /// The client read nothing for `write-stall`; what was unsent is lost.
    Stalled,
    /// The client did not close within `linger`.
    Lingered,
    /// The core was short of room (`buffered-bytes`), and this client held more of it than others by not reading; what was
    /// unsent is lost.
    Unread,
    /// No request for `head-time` since the connection began.
    Unasked,
}

impl CutReason {
    /// All of them, in the order of their discriminants.
    pub const ALL: [CutReason; 5] =
        [CutReason::Idle, CutReason::Stalled, CutReason::Lingered, CutReason::Unread, CutReason::Unasked];

    /// A short name for counters.
    pub fn label(self) -> &'static str {
        match self {
            CutReason::Idle => "idle",
            CutReason::Stalled => "stalled",
            CutReason::Lingered => "lingered",
            CutReason::Unread => "unread",
            CutReason::Unasked => "unasked",
        }
    }

    /// The limit that was hit.
    pub fn limit(self) -> Limit {
        match self {
            CutReason::Idle => Limit::IdleTime,
            CutReason::Stalled => Limit::WriteStall,
            CutReason::Lingered => Limit::Linger,
            CutReason::Unread => Limit::BufferedBytes,
            CutReason::Unasked => Limit::HeadTime,
        }
    }
}

/// One client's connection.
#[derive(Debug)]
pub struct Connection {
    limits: Arc<ClientLimits>,
    origin: Origin,
    reading: Reading,
    /// A remainder that is not a whole request yet; owns no heap when there is none.
    input: Vec<u8>,
    /// Bytes at the front of `input` that are done with.
    input_start: u32,
    /// Bytes at the front of `output` that are written.
    output_start: u32,
    output: Vec<u8>,
    held: HeldAnswers,
    held_bytes: u32,
    /// The answer that goes on, if there is one.
    stream: Option<Box<ReplyStream>>,
    /// The sequence number of the next request.
    next_request: u32,
    /// The sequence number of the answer whose turn it is.
    next_answer: u32,
    /// The last request that will be answered, once it is known: its answer says `Connection: close`.
    last_request: Option<u32>,
    /// When the current head, body, idleness or lingering ends.
    read_deadline: Monotonic,
    /// When the client must have read something; only meaningful while there is output.
    write_deadline: Monotonic,
    close_state: CloseState,
    /// Whole or partial requests wait in `input` for back pressure to end.
    parked: bool,
    /// No request is begun before all earlier ones are answered: the last of them changes what others ask, or the next one
    /// must follow them. Meaningless once all are answered.
    in_order: bool,
    /// The socket did not take all of the output when it was last written: the client does not read as fast as it asks.
    unread: bool,
    /// The current request waits for `100 Continue`.
    continue_due: bool,
    /// A request was begun: from then on the time of a head runs from its first byte.
    asked: bool,
    /// The peer will send no more.
    peer_ended: bool,
    /// The client may still be sending when all is written.
    must_linger: bool,
    draining: bool,
}

impl Connection {
    /// A connection that was just accepted from there. The time for its first head is running, PROXY header included.
    pub fn new(now: Monotonic, limits: Arc<ClientLimits>, origin: Origin) -> Connection {
        Connection {
            read_deadline: now.plus_ms(limits.head_time_ms),
            limits,
            reading: match origin.expects_header() {
                true => Reading::ProxyHeader,
                false => Reading::Head(HeadScanner::default()),
            },
            origin,
            input: Vec::new(),
            input_start: 0,
            output_start: 0,
            output: Vec::new(),
            held: HeldAnswers::new(),
            held_bytes: 0,
            stream: None,
            next_request: 0,
            next_answer: 0,
            last_request: None,
            write_deadline: now,
            close_state: CloseState::Open,
            parked: false,
            in_order: false,
            unread: false,
            continue_due: false,
            asked: false,
            peer_ended: false,
            must_linger: false,
            draining: false,
        }
    }

    /// The next instant at which [`Connection::handle_deadline`] has something to do.
    pub fn deadline(&self) -> Option<Monotonic> {
        match self.close_state {
            CloseState::Closed => None,
            CloseState::Linger => Some(self.read_deadline),
            CloseState::Open => match (self.read_clock_runs(), self.output.is_empty()) {
                (true, true) => Some(self.read_deadline),
                (true, false) => Some(self.read_deadline.min(self.write_deadline)),
                (false, false) => Some(self.write_deadline),
                (false, true) => None,
            },
        }
    }

    /// Does what is due by now: answers 408 to a request that does not end, closes an idle connection silently, drops a
    /// client that does not read. Returns why the connection was cut, if it was.
    pub fn handle_deadline(&mut self, turn: &mut Turn<'_>, service: &mut impl Service) -> Option<CutReason> {
        if self.deadline().is_none_or(|deadline| turn.now < deadline) {
            return None;
        }
        let cut = if self.close_state == CloseState::Linger {
            CutReason::Lingered
        } else if !self.output.is_empty() && self.write_deadline <= turn.now {
            CutReason::Stalled
        } else if self.is_idle() {
            if self.asked { CutReason::Idle } else { CutReason::Unasked }
        } else {
            let in_head = matches!(self.reading, Reading::ProxyHeader | Reading::Head(_));
            let reason = if in_head { Reason::HeadTimeout } else { Reason::BodyTimeout };
            let head_only = self.input[self.input_start as usize..].starts_with(b"HEAD ");
            self.refuse(reason.into(), head_only, turn, service);
            self.settle(turn);
            return None;
        };
        self.close(turn.pool);
        Some(cut)
    }

    /// What to do with the socket of the connection.
    pub fn close_state(&self) -> CloseState {
        self.close_state
    }

    /// Whether the connection ends with its output: nothing more is read, and no answer is outstanding.
    pub fn ends_with_output(&self) -> bool {
        matches!(self.reading, Reading::Finished) && self.unanswered() == 0
    }

    /// Whether the connection may still ask for the first time.
    pub fn is_unasked(&self) -> bool {
        !self.asked
    }

    /// Whether the client waits for nothing and asks nothing: no part of a request, no answer outstanding.
    pub fn is_idle(&self) -> bool {
        self.close_state == CloseState::Open
            && self.unanswered() == 0
            && self.output.is_empty()
            && self.input.is_empty()
            && !matches!(self.reading, Reading::Finished)
    }

    /// The host is stopping: what was asked is answered, the last answer says `Connection: close`, and an idle connection
    /// ends now; but one that has asked nothing yet, whose client is about to, has a little time for one request. A request
    /// that has begun to arrive counts as asked. A stream ends.
    pub fn drain(&mut self, turn: &mut Turn<'_>) {
        if self.stream.is_some() && self.close_state == CloseState::Open {
            self.end_stream(turn.now, turn.pool);
            self.settle(turn);
        }
        if self.draining || self.close_state != CloseState::Open || matches!(self.reading, Reading::Finished)
        {
            return;
        }
        self.draining = true;
        if self.is_idle() && !self.asked {
            let until = turn.now.plus_ms(limits::DRAIN_UNASKED_MS);
            self.read_deadline = self.read_deadline.min(until);
            return;
        }
        if self.input.is_empty() {
            self.must_linger = true;
            self.finish_reading(turn.pool);
            self.settle(turn);
        }
    }

    /// Drops everything at once, as after a reset: buffers go back to the pool, and no reply is expected.
    pub fn close(&mut self, pool: &mut BufferPool) {
        self.close_state = CloseState::Closed;
        self.reading = Reading::Finished;
        self.parked = false;
        self.unread = false;
        self.continue_due = false;
        pool.put(&mut self.input);
        pool.put(&mut self.output);
        self.drop_stream(pool);
        (self.input_start, self.output_start) = (0, 0);
        for mut answer in self.held.drain(..).flatten() {
            pool.put(&mut answer);
        }
        pool.put_queue(&mut self.held);
        self.held_bytes = 0;
    }

    /// Panics if the connection contradicts itself. For tests and the simulator, after every step.
    pub fn check_invariants(&self) {
        let owns = |buffer: &Vec<u8>| buffer.capacity() > 0;
        assert_eq!(owns(&self.input), !self.input.is_empty(), "a buffer without bytes belongs to the pool");
        assert_eq!(owns(&self.output), !self.output.is_empty(), "a buffer without bytes belongs to the pool");
        assert!(!self.unread || !self.output.is_empty(), "what is not read is there");
        assert!(self.input_start == 0 || (self.input_start as usize) < self.input.len());
        assert!(self.output_start == 0 || (self.output_start as usize) < self.output.len());
        let held_bytes: usize = self.held.iter().flatten().map(Vec::len).sum();
        assert_eq!(held_bytes, self.held_bytes as usize);
        assert!(self.held.len() <= self.unanswered() as usize, "an answer nobody asked for");
        assert!(!matches!(self.held.front(), Some(Some(_))), "the answer whose turn it is does not wait");
        assert!(self.unanswered() as usize <= self.limits.pipeline + 1, "the depth, and a refusal");
        self.check_stream();
        let is_finished = matches!(self.reading, Reading::Finished);
        assert!(!(is_finished && (self.parked || !self.input.is_empty())), "what is not read is not kept");
        let is_named = matches!(self.reading, Reading::Named);
        let has_requests = matches!(self.reading, Reading::Head(_)) && !self.input.is_empty();
        assert!(if self.parked { is_named || has_requests } else { !is_named });
        assert!(
            !self.continue_due || matches!(self.reading, Reading::Sized { .. } | Reading::Chunked { .. })
        );
        assert!(self.close_state == CloseState::Open || (is_finished && self.output.is_empty()));
        // Nothing lasts for ever: a clock is running, or the service owes an answer, or the engine owes a resume.
        let is_awaited = self.unanswered() > 0 || self.wants_resume();
        assert!(self.close_state == CloseState::Closed || self.deadline().is_some() || is_awaited);
    }

    /// Whether the turn of that request's answer has not come yet, even if the answer is already made.
    pub fn owes(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.next_answer) < self.unanswered()
    }

    /// Requests that were given to the service and whose answer's turn has not come.
    fn unanswered(&self) -> u32 {
        self.next_request.wrapping_sub(self.next_answer)
    }

    /// Whether no further request is begun: too much is waiting, or what waits must be answered first.
    fn is_full(&self) -> bool {
        self.keeps_order() || self.full_of().is_some()
    }

    /// Whether all requests that were begun must be answered before the next one is begun.
    fn keeps_order(&self) -> bool {
        self.in_order && self.unanswered() > 0
    }

    /// The limit that keeps further requests from being begun.
    fn full_of(&self) -> Option<Limit> {
        let unsent_bytes = self.output.len() - self.output_start as usize + self.held_bytes as usize;
        if self.unanswered() as usize >= self.limits.pipeline {
            Some(Limit::Pipeline)
        } else if unsent_bytes >= self.limits.unsent_bytes {
            Some(Limit::UnsentBytes)
        } else {
            None
        }
    }

    /// Heap bytes that the connection holds while its client does not read what it asked for; 0 if it reads.
    pub fn unread_bytes(&self) -> usize {
        if self.unread { self.buffered_bytes() } else { 0 }
    }

    /// Heap bytes that the connection holds. Its pool counts the same.
    pub fn buffered_bytes(&self) -> usize {
        let held: usize = self.held.iter().flatten().map(Vec::capacity).sum();
        self.input.capacity()
            + self.output.capacity()
            + held
            + pool::queue_bytes(&self.held)
            + self.stream_bytes()
    }

    /// Ends the connection if nothing is left to do.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        if !self.ends_with_output() || !self.output.is_empty() {
            return;
        }
        if self.close_state == CloseState::Closed {
            return;
        }
        if self.peer_ended || !self.must_linger {
            self.close(turn.pool);
        } else if self.close_state == CloseState::Open {
            self.close_state = CloseState::Linger;
            self.read_deadline = turn.now.plus_ms(self.limits.linger_ms);
        }
    }
}
