//! The right to answer one request: used once, now or later.

use super::{BufferPool, Connection, Turn};
use crate::clock::Monotonic;
use crate::http::encode::{self, Persistence};
use crate::http::{DateCache, Request, Response};
use crate::proxies::Client;

/// A request whose answer was put off. It belongs to the connection that gave it: keep both together.
#[derive(Debug)]
#[must_use = "without it the request is never answered, nor any behind it"]
pub struct PendingReply {
    sequence: u32,
    options: ReplyOptions,
}

/// What the way of writing an answer depends on in the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyOptions {
    /// The request was HEAD.
    pub(super) head_only: bool,
    /// The request was HTTP/1.0: if the connection persists, the answer says so.
    pub(super) is_http10: bool,
}

impl PendingReply {
    pub(super) fn new(sequence: u32, options: ReplyOptions) -> PendingReply {
        PendingReply { sequence, options }
    }

    /// The place of the request among those of its connection, from 0 and wrapping.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }
}

/// Proof that a request was answered.
#[derive(Debug)]
pub struct Answered(());

/// Proof that a request was answered, or is kept to be answered.
#[derive(Debug)]
pub struct Handled(());

impl From<Answered> for Handled {
    fn from(_: Answered) -> Handled {
        Handled(())
    }
}

impl Connection {
    /// What the answer to a request says of the connection.
    fn persistence(&self, sequence: u32, options: ReplyOptions) -> Persistence {
        if self.last_request == Some(sequence) {
            Persistence::Close
        } else if options.is_http10 {
            Persistence::KeepAlive
        } else {
            Persistence::Implied
        }
    }

    /// Writes an answer, or keeps it until its turn.
    fn place_answer(
        &mut self,
        sequence: u32,
        bytes_max: usize,
        now: Monotonic,
        pool: &mut BufferPool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let ahead = sequence.wrapping_sub(self.next_answer);
        if ahead == 0 {
            self.write_answer(bytes_max, now, pool, encode);
        } else {
            let mut answer = pool.take(bytes_max);
            encode(&mut answer);
            self.hold_answer(ahead as usize, answer, pool);
        }
    }
}

/// The right to answer one request.
#[must_use = "a request without an answer holds up all behind it"]
pub struct Reply<'a> {
    connection: &'a mut Connection,
    pending: PendingReply,
    now: Monotonic,
    date: &'a DateCache,
    pool: &'a mut BufferPool,
}

impl<'a> Reply<'a> {
    pub(super) fn new(
        connection: &'a mut Connection,
        pending: PendingReply,
        turn: &'a mut Turn<'_>,
    ) -> Reply<'a> {
        Reply { connection, pending, now: turn.now, date: turn.date, pool: turn.pool }
    }

    /// Whose request it is. What a later limit by client goes by, and the log: looked up only where it is asked for.
    pub fn client(&self, request: &Request<'_>) -> Client {
        self.connection.origin.client_of(request)
    }

    /// Answers. The bytes go to the connection's output, or wait there for their turn.
    pub fn send(self, response: &Response<'_>) -> Answered {
        let Reply { connection, pending: PendingReply { sequence, options }, now, date, pool } = self;
        let persistence = connection.persistence(sequence, options);
        let encode = |out: &mut Vec<u8>| encode::encode(out, response, options.head_only, persistence, date);
        connection.place_answer(sequence, response.encoded_bytes_max(), now, pool, encode);
        Answered(())
    }

    /// Begins an answer that goes on: its parts are asked for by [`Service::produce`](super::Service::produce). The
    /// response has no body. Later requests are begun when the stream has ended, so this is only for the last one that was
    /// begun: in [`Service::handle`](super::Service::handle), or after [`Reply::later_alone`].
    ///
    /// # Panics
    /// If a later request was begun.
    pub fn stream(self, response: &Response<'_>) -> Answered {
        debug_assert!(response.body.is_empty(), "what a stream says comes in parts");
        let Reply { connection, pending: PendingReply { sequence, options }, now, date, pool } = self;
        // HTTP/1.0 knows no chunks (RFC 9112 section 7.1).
        let is_chunked = !options.is_http10;
        let persistence = match is_chunked || options.head_only {
            true => connection.persistence(sequence, options),
            false => Persistence::Close,
        };
        let bytes_max = response.encoded_bytes_max();
        let encode =
            |out: &mut Vec<u8>| encode::encode_stream_head(out, response, is_chunked, persistence, date);
        if options.head_only {
            connection.place_answer(sequence, bytes_max, now, pool, encode);
        } else {
            let mut head = pool.take(bytes_max);
            encode(&mut head);
            connection.begin_stream(sequence, is_chunked, head, now, pool);
        }
        Answered(())
    }

    /// Puts the answer off: keep the pending reply and answer with [`Connection::reply`]. Later requests are begun
    /// meanwhile, except those that [must follow](super::Service::must_follow).
    pub fn later(self) -> (PendingReply, Handled) {
        (self.pending, Handled(()))
    }

    /// The same, but no later request is begun before this one is answered. For one that [must
    /// follow](super::Service::must_follow) those before it.
    pub fn later_alone(self) -> (PendingReply, Handled) {
        debug_assert_eq!(self.connection.unanswered(), 1, "it followed those before it");
        self.connection.in_order = true;
        (self.pending, Handled(()))
    }
}
