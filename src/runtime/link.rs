//! A core's connection to the ledger, whichever ledger it is.

use mio::Registry;
use mio::event::Event;

use super::ledger_thread::CoreHandle;
use super::reach::ReachChange;
use super::redis_link::{MioStreams, node_of};
use super::router::Router;
use crate::clock::Monotonic;
use crate::net::Stream;
use crate::protocol::{Answer, Call, CallError, CallId, SlotRange};

/// See the [module](self).
pub enum Link {
    /// Its own connections to Redis.
    Redis(Box<Router<Stream>>),
    /// The thread of the embedded ledger.
    Thread {
        /// The core's end of it.
        handle: CoreHandle,
        /// The core knows that it is up.
        is_told: bool,
    },
}

impl Link {
    /// To the thread of the embedded ledger.
    pub fn to_thread(handle: CoreHandle) -> Link {
        Link::Thread { handle, is_told: false }
    }

    /// When [`Link::drive`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        match self {
            Link::Redis(router) => router.next_deadline(),
            Link::Thread { .. } => None,
        }
    }

    /// Handles an event of the loop; `false` if it is not about a connection to the ledger.
    pub fn handle_event(
        &mut self,
        event: &Event,
        buffer: &mut [u8],
        registry: &Registry,
        now: Monotonic,
    ) -> bool {
        let Some(node) = node_of(event.token()) else { return false };
        if let Link::Redis(router) = self {
            let streams = &mut MioStreams { registry };
            if event.is_writable() || event.is_error() {
                router.handle_writable(node, streams, now);
            }
            if event.is_readable() || event.is_read_closed() {
                let ended = event.is_read_closed() || event.is_error();
                router.handle_readable(node, buffer, ended, streams, now);
            }
        }
        true
    }

    /// Dials, or gives up a silent connection, if it is time for that.
    pub fn drive(&mut self, registry: &Registry, now: Monotonic) {
        if let Link::Redis(router) = self {
            router.drive(&mut MioStreams { registry }, now);
        }
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Answer, CallError>)> {
        match self {
            Link::Redis(router) => router.poll_answer(),
            Link::Thread { handle, .. } => handle.poll_answer(),
        }
    }

    /// Which part of the ledger went up or down. To be polled after the answers, which came before.
    pub fn poll_change(&mut self) -> Option<ReachChange> {
        match self {
            Link::Redis(router) => router.poll_change(),
            Link::Thread { is_told, .. } => (!std::mem::replace(is_told, true))
                .then_some(ReachChange { slots: SlotRange::ALL, is_up: true }),
        }
    }

    /// Accepts a call.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        match self {
            Link::Redis(router) => router.submit(id, call, now),
            Link::Thread { handle, .. } => handle.submit(id, call),
        }
    }

    /// Writes what is to be sent.
    pub fn flush(&mut self, registry: &Registry, now: Monotonic) {
        if let Link::Redis(router) = self {
            router.flush(&mut MioStreams { registry }, now);
        }
    }
}
