//! Routes each call to the node of the ledger that has its sale, over this core's own connection to that node.
//!
//! lane -> slot -> node -> session: a desk knows its lanes, a call knows its [slot](Call::slot), and the router knows which
//! node has a slot and which [link](RedisLink) leads to a node. Nothing above it knows how many links there are: it is told
//! [which slots](Router::poll_change) are up or down. Calls on one sale keep their order; calls to different nodes do not.
//!
//! Of one Redis that is little; of a [Cluster] it is all that this module's neighbour does.

use super::cluster::Cluster;
use super::reach::ReachChange;
use super::redis_link::{NodeIndex, RedisLink, Streams};
use crate::clock::Monotonic;
use crate::protocol::{Answer, Call, CallError, CallId, SlotRange};

/// See the [module](self).
pub struct Router<T>(Nodes<T>);

#[expect(clippy::large_enum_variant, reason = "a loop has one of it")]
enum Nodes<T> {
    /// One Redis, which has all slots.
    One {
        link: RedisLink<T>,
        /// What was reported last.
        is_up: bool,
    },
    Many(Box<Cluster<T>>),
}

/// The only node of a ledger that has one.
const ONLY: NodeIndex = NodeIndex(0);

impl<T> Router<T> {
    /// To a ledger of one node.
    pub fn to_one(link: RedisLink<T>) -> Router<T> {
        Router(Nodes::One { link, is_up: false })
    }

    /// To a Cluster.
    pub fn to_cluster(cluster: Cluster<T>) -> Router<T> {
        Router(Nodes::Many(Box::new(cluster)))
    }

    /// Whether all slots are up.
    pub fn is_up(&self) -> bool {
        match &self.0 {
            Nodes::One { link, .. } => link.is_up(),
            Nodes::Many(cluster) => cluster.is_up(),
        }
    }

    /// Accepts a call.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        match &mut self.0 {
            Nodes::One { link, .. } => link.submit(id, call, now),
            Nodes::Many(cluster) => cluster.submit(id, call, now),
        }
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Answer, CallError>)> {
        match &mut self.0 {
            Nodes::One { link, .. } => link.poll_answer(),
            Nodes::Many(cluster) => cluster.poll_answer(),
        }
    }

    /// Which slots went up or down. To be polled after the answers, which came before.
    pub fn poll_change(&mut self) -> Option<ReachChange> {
        match &mut self.0 {
            Nodes::One { link, is_up: told } => {
                let is_up = link.is_up();
                let has_changed = std::mem::replace(told, is_up) != is_up;
                has_changed.then_some(ReachChange { slots: SlotRange::ALL, is_up })
            }
            Nodes::Many(cluster) => cluster.poll_change(),
        }
    }

    /// When [`Router::drive`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        match &self.0 {
            Nodes::One { link, .. } => link.next_deadline(),
            Nodes::Many(cluster) => cluster.next_deadline(),
        }
    }

    /// Dials, or gives up silent connections, if it is time for that.
    pub fn drive<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        match &mut self.0 {
            Nodes::One { link, .. } => link.drive(ONLY, streams, now),
            Nodes::Many(cluster) => cluster.drive(streams, now),
        }
    }

    /// Reads what has arrived from a node; if the node has `ended` its side, to the end, since the kernel does not tell again.
    pub fn handle_readable<S: Streams<Stream = T>>(
        &mut self,
        node: NodeIndex,
        buffer: &mut [u8],
        ended: bool,
        streams: &mut S,
        now: Monotonic,
    ) {
        match &mut self.0 {
            Nodes::One { link, .. } => link.handle_readable(buffer, ended, streams, now),
            Nodes::Many(cluster) => cluster.handle_readable(node, buffer, ended, streams, now),
        }
    }

    /// The connection to a node is established, or can take more.
    pub fn handle_writable<S: Streams<Stream = T>>(
        &mut self,
        node: NodeIndex,
        streams: &mut S,
        now: Monotonic,
    ) {
        match &mut self.0 {
            Nodes::One { link, .. } => link.handle_writable(streams, now),
            Nodes::Many(cluster) => cluster.handle_writable(node, streams, now),
        }
    }

    /// Writes what is to be sent.
    pub fn flush<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        match &mut self.0 {
            Nodes::One { link, .. } => link.flush(streams, now),
            Nodes::Many(cluster) => cluster.flush(streams, now),
        }
    }
}
