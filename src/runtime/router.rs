//! Routes each call to the node of the ledger that has its sale, over this core's own connection to that node.
//!
//! lane -> slot -> node -> session: a desk knows its lanes, a call knows its [slot](Call::slot), and the router knows which
//! node has a slot and which [link](RedisLink) leads to a node. Nothing above it knows how many links there are: it is told
//! [which slots](Router::poll_change) are up or down. Calls on one sale keep their order, since they share a link; calls to
//! different nodes do not.
//!
//! Today there is one node, which has all slots.

use super::redis_link::{NODES_MAX, NodeIndex, RedisLink, Streams};
use crate::clock::Monotonic;
use crate::protocol::{Answer, Call, CallError, CallId, SlotRange};

/// Slots that went up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachChange {
    /// Which.
    pub slots: SlotRange,
    /// Whether they are up now.
    pub is_up: bool,
}

struct Node<T> {
    link: RedisLink<T>,
    slots: SlotRange,
    /// What was reported last.
    is_up: bool,
}

/// See the [module](self).
pub struct Router<T> {
    nodes: Vec<Node<T>>,
}

impl<T> Router<T> {
    /// To a ledger of one node.
    pub fn to_one(link: RedisLink<T>) -> Router<T> {
        Router::to_all(vec![(link, SlotRange::ALL)])
    }

    /// To several, each with its slots; each slot is of one of them.
    fn to_all(nodes: Vec<(RedisLink<T>, SlotRange)>) -> Router<T> {
        assert!(nodes.len() <= NODES_MAX, "each node has a token");
        let nodes = nodes.into_iter().map(|(link, slots)| Node { link, slots, is_up: false });
        Router { nodes: nodes.collect() }
    }

    /// Whether all nodes are up.
    pub fn is_up(&self) -> bool {
        self.nodes.iter().all(|node| node.link.is_up())
    }

    /// Accepts a call.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        let node = match &mut self.nodes[..] {
            [only] => only,
            nodes => {
                let slot = call.slot();
                let has_it = |node: &&mut Node<T>| node.slots.contains(slot);
                nodes.iter_mut().find(has_it).expect("each slot is of a node")
            }
        };
        node.link.submit(id, call, now);
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Answer, CallError>)> {
        self.nodes.iter_mut().find_map(|node| node.link.poll_answer())
    }

    /// Which slots went up or down. To be polled after the answers, which came before.
    pub fn poll_change(&mut self) -> Option<ReachChange> {
        self.nodes.iter_mut().find_map(|node| {
            let is_up = node.link.is_up();
            let has_changed = std::mem::replace(&mut node.is_up, is_up) != is_up;
            has_changed.then_some(ReachChange { slots: node.slots, is_up })
        })
    }

    /// When [`Router::drive`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.nodes.iter().filter_map(|node| node.link.next_deadline()).min()
    }

    /// Dials, or gives up silent connections, if it is time for that.
    pub fn drive<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.link.drive(NodeIndex(index), streams, now);
        }
    }

    /// Reads what has arrived from a node; if the node has `ended` its side, to the end, since the kernel does not tell again.
    pub fn handle_readable<S: Streams<Stream = T>>(
        &mut self,
        NodeIndex(node): NodeIndex,
        buffer: &mut [u8],
        ended: bool,
        streams: &mut S,
        now: Monotonic,
    ) {
        self.nodes[node].link.handle_readable(buffer, ended, streams, now);
    }

    /// The connection to a node is established, or can take more.
    pub fn handle_writable<S: Streams<Stream = T>>(
        &mut self,
        NodeIndex(node): NodeIndex,
        streams: &mut S,
        now: Monotonic,
    ) {
        self.nodes[node].link.handle_writable(streams, now);
    }

    /// Writes what is to be sent.
    pub fn flush<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        for node in &mut self.nodes {
            node.link.flush(streams, now);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;
    use crate::booking::SaleName;
    use crate::ledger::Trouble;
    use crate::ledger::redis::session::for_tests;
    use crate::ledger::url::LedgerUrl;
    use crate::net::{Asker, Endpoint};
    use crate::protocol::{Durability, SaleOp};

    /// Nodes that answer nothing by themselves: what was written to each, and what it is to say.
    #[derive(Default)]
    struct Played {
        written: [Vec<u8>; 2],
        says: [Vec<u8>; 2],
    }

    impl Streams for Played {
        type Stream = usize;

        fn dial(&mut self, NodeIndex(node): NodeIndex, _: &Endpoint, _: usize) -> io::Result<usize> {
            Ok(node)
        }

        fn take_error(&mut self, _: &mut usize) -> io::Result<Option<io::Error>> {
            Ok(None)
        }

        fn read(&mut self, node: &mut usize, buffer: &mut [u8]) -> io::Result<usize> {
            let says = &mut self.says[*node];
            if says.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let bytes = says.len().min(buffer.len());
            buffer[..bytes].copy_from_slice(&says[..bytes]);
            says.drain(..bytes);
            Ok(bytes)
        }

        fn write(&mut self, node: &mut usize, bytes: &[u8]) -> io::Result<usize> {
            self.written[*node].extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn close(&mut self, _: usize) {}
    }

    struct Fixture {
        router: Router<usize>,
        played: Played,
        now: Monotonic,
    }

    impl Fixture {
        /// Of two nodes with half of the slots each.
        fn new() -> Fixture {
            let LedgerUrl::Redis(url) = "redis://name:6379/0".parse().unwrap() else { unreachable!() };
            let link = |seed| {
                let asker = Asker::known(Ok(Endpoint::Unix(PathBuf::from("/nowhere"))));
                let trouble = (Trouble::default(), seed as usize);
                RedisLink::new(asker, url.clone(), Durability::Ack, seed, trouble, Monotonic(0))
            };
            let halves = [SlotRange::new(0, 8_191), SlotRange::new(8_192, 16_383)].map(Option::unwrap);
            let router = Router::to_all((0..).map(link).zip(halves).collect());
            Fixture { router, played: Played::default(), now: Monotonic(0) }
        }

        /// Writes what is to be written, and answers what of it is of a set-up, until nothing more comes.
        fn set_up(&mut self, node: usize) {
            self.router.handle_writable(NodeIndex(node), &mut self.played, self.now);
            loop {
                self.router.flush(&mut self.played, self.now);
                let written = std::mem::take(&mut self.played.written[node]);
                if written.is_empty() {
                    return;
                }
                self.say(node, &for_tests::set_up_replies(&for_tests::commands_in(&written)));
            }
        }

        fn say(&mut self, node: usize, reply: &str) {
            self.played.says[node].extend_from_slice(reply.as_bytes());
            self.router.handle_readable(NodeIndex(node), &mut [0; 65_536], false, &mut self.played, self.now);
        }

        fn changes(&mut self) -> Vec<(u16, bool)> {
            let changes = std::iter::from_fn(|| self.router.poll_change());
            changes.map(|change| (change.slots.first(), change.is_up)).collect()
        }

        fn answered(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| self.router.poll_answer()).map(|(id, _)| id.0).collect()
        }
    }

    #[test]
    fn a_call_goes_to_the_node_that_has_its_slot_and_each_node_comes_and_goes_by_itself() {
        let mut fixture = Fixture::new();
        fixture.router.drive(&mut fixture.played, fixture.now);
        assert_eq!(fixture.changes(), []);
        fixture.set_up(1);
        assert_eq!(fixture.changes(), [(8_192, true)]);
        fixture.set_up(0);
        assert_eq!(fixture.changes(), [(0, true)]);
        assert!(fixture.router.is_up());
        // "hello" is in slot 866, "foo" in 12,182.
        for (id, name) in [(1, "hello"), (2, "foo"), (3, "foo")] {
            let call = SaleOp::Expire.on(SaleName::parse(name).unwrap());
            fixture.router.submit(CallId(id), call, fixture.now);
        }
        fixture.router.flush(&mut fixture.played, fixture.now);
        let written = [0, 1].map(|node| String::from_utf8_lossy(&fixture.played.written[node]).into_owned());
        assert!(written[0].contains("{hello}") && !written[0].contains("{foo}"));
        assert!(!written[1].contains("{hello}") && written[1].matches("bx:{foo}:stock").count() == 2);
        fixture.say(1, "$-1\r\n$-1\r\n");
        assert_eq!(fixture.answered(), [2, 3]);
        // One node is silent: its slots alone cannot be asked, and its call is not forgotten.
        fixture.now = fixture.router.next_deadline().unwrap().max(Monotonic(60_000_000_000));
        fixture.router.drive(&mut fixture.played, fixture.now);
        assert_eq!(fixture.changes(), [(0, false)]);
        assert!(!fixture.router.is_up());
        fixture.now = fixture.router.next_deadline().unwrap().max(fixture.now.plus_ms(1_000));
        fixture.played.written = Default::default();
        fixture.router.drive(&mut fixture.played, fixture.now);
        fixture.set_up(0);
        assert_eq!(fixture.changes(), [(0, true)]);
        fixture.router.flush(&mut fixture.played, fixture.now);
        fixture.say(0, "$-1\r\n");
        assert_eq!(fixture.answered(), [1]);
    }
}
