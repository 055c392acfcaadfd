//! Calls in flight to the ledger: what each was sent for, since when, and how many batches a lane has in flight.
//!
//! Calls leave in the order in which they are sent here. A call stays in flight until it is answered, whatever happens to
//! connections: the ledger's session sends it again.

use std::collections::VecDeque;

use slab::Slab;

use super::batches::CallKind;
use super::lanes::{LaneIndex, PerLane};
use crate::booking::{Booking, SaleName};
use crate::clock::Monotonic;
use crate::protocol::{Call, CallId};

/// What a call was sent for.
#[derive(Debug)]
pub(super) enum PendingCall {
    Batch {
        lane: LaneIndex,
        kind: CallKind,
        entries: Vec<usize>,
    },
    Restore {
        lane: LaneIndex,
        opened: u64,
        offered: Vec<Booking>,
    },
    Snapshot {
        lane: LaneIndex,
    },
    Discovery {
        sale: SaleName,
        /// Whether its name is in the ledger's list.
        named: bool,
    },
    Recall {
        lanes: Vec<LaneIndex>,
    },
    Pause {
        lane: LaneIndex,
    },
    Log {
        lane: LaneIndex,
        after: u64,
    },
    Sales,
    /// Asked on the connection with that number.
    Changes {
        connection: u64,
    },
    Beat,
}

/// A call in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) pending: PendingCall,
    /// When it was sent.
    pub(super) since: Monotonic,
    /// Its place in the order of sending.
    pub(super) serial: u64,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Calls {
    in_flight: Slab<InFlight>,
    /// In the order of sending, for the age of the oldest; answered ones are skipped by their serial.
    order: VecDeque<(usize, u64)>,
    outgoing: VecDeque<(CallId, Call)>,
    last_serial: u64,
    batches: PerLane<usize>,
}

impl Calls {
    /// A new lane, which has none.
    pub(super) fn add_lane(&mut self) {
        self.batches.add(0);
    }

    /// Sends a call. Returns its serial.
    pub(super) fn send(&mut self, pending: PendingCall, call: Call, now: Monotonic) -> u64 {
        if let PendingCall::Batch { lane, .. } = &pending {
            self.batches[*lane] += 1;
        }
        self.last_serial += 1;
        let serial = self.last_serial;
        let key = self.in_flight.insert(InFlight { pending, since: now, serial });
        self.order.push_back((key, serial));
        self.outgoing.push_back((CallId(key as u64), call));
        serial
    }

    /// The next call to carry to the ledger.
    pub(super) fn poll(&mut self) -> Option<(CallId, Call)> {
        self.outgoing.pop_front()
    }

    /// A call was answered.
    ///
    /// # Panics
    /// If the call is not in flight: answers would be matched to the wrong requests, and stopping is better than selling
    /// on.
    pub(super) fn answered(&mut self, id: CallId) -> InFlight {
        let key = usize::try_from(id.0).expect("call ids are slab keys");
        let call = self.in_flight.remove(key);
        if let PendingCall::Batch { lane, .. } = &call.pending {
            self.batches[*lane] -= 1;
        }
        while let Some(&(key, serial)) = self.order.front() {
            if self.in_flight.get(key).is_some_and(|call| call.serial == serial) {
                break;
            }
            self.order.pop_front();
        }
        call
    }

    /// Since when the oldest call has been in flight.
    pub(super) fn oldest(&self) -> Option<Monotonic> {
        let oldest = self.order.front().and_then(|&(key, _)| self.in_flight.get(key));
        oldest.map(|call| call.since)
    }

    /// How many batches of that lane are in flight.
    pub(super) fn batches(&self, lane: LaneIndex) -> usize {
        self.batches[lane]
    }

    /// All that are in flight.
    pub(super) fn iter(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter().map(|(_, call)| call)
    }

    /// Panics if it contradicts itself.
    pub(super) fn check_invariants(&self) {
        for (lane, &count) in self.batches.iter() {
            let is_of_it = |call: &&InFlight| matches!(&call.pending, PendingCall::Batch { lane: its, .. } if *its == lane);
            assert_eq!(self.iter().filter(is_of_it).count(), count, "calls on the way are counted");
        }
        for (_, call) in &self.in_flight {
            assert!(
                self.order.iter().any(|(_, serial)| *serial == call.serial),
                "each has its place in the order"
            );
        }
        assert!(self.order.iter().is_sorted_by_key(|(_, serial)| *serial));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::protocol::LedgerOp;

    #[test]
    fn the_oldest_is_known_in_whatever_order_they_are_answered() {
        let mut calls = Calls::default();
        let mut send = |ms: u64| {
            calls.send(PendingCall::Sales, Call::Ledger(LedgerOp::Sales), Monotonic(ms));
            calls.check_invariants();
            calls.poll().unwrap().0
        };
        let ids = [send(1), send(2), send(3)];
        for (answered, oldest) in [(1, Some(1)), (0, Some(3)), (2, None)] {
            calls.answered(ids[answered]);
            calls.check_invariants();
            assert_eq!(calls.oldest(), oldest.map(Monotonic));
        }
        // The place of one that was answered is taken by another, which is younger.
        assert_eq!(calls.send(PendingCall::Sales, Call::Ledger(LedgerOp::Sales), Monotonic(4)), 4);
        assert_eq!(calls.oldest(), Some(Monotonic(4)));
    }

    #[test]
    fn batches_are_counted_by_lane() {
        let mut calls = Calls::default();
        calls.add_lane();
        calls.add_lane();
        let batch = |lane| PendingCall::Batch { lane, kind: CallKind::Reserve, entries: Vec::new() };
        let (one, other) = (LaneIndex(0), LaneIndex(1));
        for lane in [one, other, one] {
            calls.send(batch(lane), Call::Ledger(LedgerOp::Sales), Monotonic(1));
        }
        calls.send(PendingCall::Snapshot { lane: other }, Call::Ledger(LedgerOp::Sales), Monotonic(1));
        assert_eq!((calls.batches(one), calls.batches(other)), (2, 1));
        let first = calls.poll().unwrap().0;
        calls.answered(first);
        assert_eq!((calls.batches(one), calls.batches(other)), (1, 1));
        calls.check_invariants();
    }
}
