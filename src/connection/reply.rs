//! The right to answer one request: used once, now or later.

use super::{BufferPool, Connection, Turn};
use crate::clock::Monotonic;
use crate::http::encode::{self, Persistence};
use crate::http::{DateCache, Response};

/// A request whose answer was put off. It belongs to the connection that gave it: keep both together.
#[derive(Debug)]
#[must_use = "without it the request is never answered, nor any behind it"]
pub struct Exchange {
    sequence: u32,
    manner: Manner,
}

/// What of the request decides how its answer is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The request was HEAD.
    pub(super) head_only: bool,
    /// The request was HTTP/1.0: where the connection persists, the answer says so.
    pub(super) announces_keep_alive: bool,
}

impl Exchange {
    pub(super) fn new(sequence: u32, manner: Manner) -> Exchange {
        Exchange { sequence, manner }
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

/// The way to answer one request.
#[must_use = "a request without an answer holds up all behind it"]
pub struct Reply<'a> {
    connection: &'a mut Connection,
    exchange: Exchange,
    now: Monotonic,
    date: &'a DateCache,
    pool: &'a mut BufferPool,
}

impl<'a> Reply<'a> {
    pub(super) fn new(
        connection: &'a mut Connection,
        exchange: Exchange,
        turn: &'a mut Turn<'_>,
    ) -> Reply<'a> {
        Reply { connection, exchange, now: turn.now, date: turn.date, pool: turn.pool }
    }

    /// Answers. The bytes go to the connection's output, or wait there for their turn.
    pub fn send(self, response: &Response<'_>) -> Answered {
        let Reply { connection, exchange: Exchange { sequence, manner }, now, date, pool } = self;
        let persistence = if connection.last_request == Some(sequence) {
            Persistence::Close
        } else if manner.announces_keep_alive {
            Persistence::KeepAlive
        } else {
            Persistence::Implied
        };
        let encode = |out: &mut Vec<u8>| encode::encode(out, response, manner.head_only, persistence, date);
        let bytes_max = response.encoded_bytes_max();
        let ahead = sequence.wrapping_sub(connection.next_answer);
        if ahead == 0 {
            connection.write_answer(bytes_max, now, pool, encode);
        } else {
            let mut answer = pool.take(bytes_max);
            encode(&mut answer);
            connection.hold_answer(ahead as usize, answer, pool);
        }
        Answered(())
    }

    /// Puts the answer off: keep the exchange and answer with [`Connection::reply`]. Later requests are begun meanwhile,
    /// but for those that [must follow](super::Service::must_follow).
    pub fn later(self) -> (Exchange, Handled) {
        (self.exchange, Handled(()))
    }

    /// Likewise, and no later request is begun before this one is answered. For one that [must
    /// follow](super::Service::must_follow) those before it.
    pub fn later_alone(self) -> (Exchange, Handled) {
        debug_assert_eq!(self.connection.unanswered(), 1, "it followed those before it");
        self.connection.in_order = true;
        (self.exchange, Handled(()))
    }
}
