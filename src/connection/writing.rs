//! The writing half: answers in the order of their requests, and how long the client has to read them.

use std::collections::VecDeque;

use super::reply::{PendingReply, Reply};
use super::{BufferPool, CloseState, Connection, Turn};
use crate::clock::Monotonic;
use crate::http::encode;

/// Early answers: the front is the place of `next_answer`, and empty places wait for theirs.
pub(super) type HeldAnswers = VecDeque<Option<Vec<u8>>>;

impl Connection {
    /// The right to answer a request that was put off. `None` if the connection has closed since.
    pub fn reply<'a>(&'a mut self, pending: PendingReply, turn: &'a mut Turn<'_>) -> Option<Reply<'a>> {
        let ahead = pending.sequence().wrapping_sub(self.next_answer);
        let is_awaited = self.close_state == CloseState::Open
            && ahead < self.unanswered()
            && self.held.get(ahead as usize).is_none_or(Option::is_none);
        is_awaited.then(|| Reply::new(self, pending, turn))
    }

    /// What must be written now; empty if there is nothing.
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_start as usize..]
    }

    /// Takes note that the first `bytes` of [`Connection::output`] are written; if that is not all, the socket takes no
    /// more now.
    pub fn handle_written(&mut self, bytes: usize, turn: &mut Turn<'_>) {
        let was_full = self.is_full();
        self.output_start += bytes as u32;
        assert!(self.output_start as usize <= self.output.len(), "more was written than there was");
        self.unread = (self.output_start as usize) < self.output.len();
        if !self.unread {
            turn.pool.put(&mut self.output);
            self.output_start = 0;
            if self.is_idle() {
                self.read_deadline = turn.now.plus_ms(self.limits.idle_time_ms);
            }
        } else if bytes > 0 {
            self.write_deadline = turn.now.plus_ms(self.limits.write_stall_ms);
            self.output_start = turn.pool.shrink(&mut self.output, self.output_start as usize) as u32;
        }
        if was_full {
            self.renew_read_clock(turn.now);
        }
        self.settle(turn);
    }

    /// Appends the answer whose turn it is, and those behind it that waited for it.
    pub(super) fn write_answer(
        &mut self,
        bytes_max: usize,
        now: Monotonic,
        pool: &mut BufferPool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.begin_output(now);
        self.make_room(bytes_max, pool);
        encode(&mut self.output);
        self.next_answer = self.next_answer.wrapping_add(1);
        self.held.pop_front();
        while let Some(answer @ Some(_)) = self.held.front_mut() {
            let mut answer = answer.take().unwrap_or_default();
            self.held_bytes -= answer.len() as u32;
            self.make_room(answer.len(), pool);
            self.output.extend_from_slice(&answer);
            pool.put(&mut answer);
            self.held.pop_front();
            self.next_answer = self.next_answer.wrapping_add(1);
        }
        if self.held_bytes == 0 {
            pool.put_queue(&mut self.held);
        }
        if self.stream.is_some() {
            self.open_stream(now, pool);
        }
        self.write_due_continue(now, pool);
    }

    /// Keeps an answer that is `ahead` places before its turn.
    pub(super) fn hold_answer(&mut self, ahead: usize, answer: Vec<u8>, pool: &mut BufferPool) {
        if self.held.capacity() == 0 {
            self.held = pool.take_queue();
        }
        if self.held.len() <= ahead {
            pool.grow_queue(&mut self.held, ahead + 1);
        }
        self.held_bytes += answer.len() as u32;
        self.held[ahead] = Some(answer);
    }

    /// Writes `100 Continue` if the request that is being read waits for it and every earlier one is answered.
    pub(super) fn write_due_continue(&mut self, now: Monotonic, pool: &mut BufferPool) {
        if self.continue_due && self.unanswered() == 0 {
            self.continue_due = false;
            self.begin_output(now);
            self.make_room(encode::CONTINUE.len(), pool);
            self.output.extend_from_slice(encode::CONTINUE);
        }
    }

    pub(super) fn make_room(&mut self, bytes: usize, pool: &mut BufferPool) {
        self.output_start = pool.reserve_behind(&mut self.output, self.output_start as usize, bytes) as u32;
    }

    pub(super) fn begin_output(&mut self, now: Monotonic) {
        if self.output.is_empty() {
            self.write_deadline = now.plus_ms(self.limits.write_stall_ms);
        }
    }
}
