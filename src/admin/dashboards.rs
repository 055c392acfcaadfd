//! Who watches: the dashboards that are open, and what they are told. An event is made once for all of them, at an interval that
//! grows with their number, and handed out a few a turn; who reads slowly gets the latest when it has read, and holds one part.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use super::{Shared, event};
use crate::booking::SaleName;
use crate::clock::{Monotonic, Now, WallTime};
use crate::connection::{Produced, StreamPart};
use crate::connections::ConnectionKey;
use crate::limits;

/// Pause between two turns that hand out one event.
const TURN_PAUSE_MS: u64 = 5;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Dashboards {
    /// By the index of their connections.
    open: BTreeMap<usize, Dashboard>,
    most: usize,
    /// When this host began to serve operators: who is told of another time is told by another process, which counts from 0.
    started_at: WallTime,
    made_at: Monotonic,
    /// The latest one.
    event: Vec<u8>,
    /// Of the latest event, for those who watch one sale more closely.
    of_sales: BTreeMap<SaleName, Vec<u8>>,
    /// Those that are still to be told of it.
    due: VecDeque<ConnectionKey>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Dashboard {
    key: ConnectionKey,
    sale: Option<SaleName>,
}

impl Dashboards {
    /// Nobody watches, and at most so many may.
    pub(super) fn new(most: usize, started_at: WallTime) -> Dashboards {
        Dashboards {
            open: BTreeMap::new(),
            most,
            started_at,
            made_at: Monotonic::default(),
            event: Vec::new(),
            of_sales: BTreeMap::new(),
            due: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// Whether there is no room for another one.
    pub(super) fn are_full(&self) -> bool {
        self.open.len() >= self.most
    }

    /// Another one watches, and that sale closely. It is told of the latest event, which is new enough for the others; while
    /// nobody watched none was made.
    pub(super) fn join(&mut self, key: ConnectionKey, sale: Option<SaleName>, shared: &Shared, now: Now) {
        if self.open.is_empty() {
            self.make(shared, now);
        }
        self.open.insert(key.index(), Dashboard { key, sale });
    }

    /// Its connection has ended.
    pub(super) fn leave(&mut self, key: ConnectionKey) {
        if let Entry::Occupied(open) = self.open.entry(key.index())
            && open.get().key == key
        {
            open.remove();
        }
    }

    /// How long an event is the latest one, in milliseconds.
    fn interval_ms(&self) -> u64 {
        let parts = self.open.len() as u64 * 1_000 / limits::DASHBOARD_PARTS_PER_SECOND_MAX;
        parts.max(limits::DASHBOARD_INTERVAL_MS_MIN)
    }

    /// When there is something to do; `None` while nobody watches.
    pub(super) fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        match (self.open.is_empty(), self.due.is_empty()) {
            (true, _) => None,
            (false, true) => Some(self.made_at.plus_ms(self.interval_ms())),
            (false, false) => Some(now.plus_ms(TURN_PAUSE_MS)),
        }
    }

    /// Begins a turn: makes the next event, if it is time for it.
    pub(super) fn begin_turn(&mut self, shared: &Shared, now: Now) {
        if !self.open.is_empty() && now.monotonic >= self.made_at.plus_ms(self.interval_ms()) {
            self.make(shared, now);
            self.due.clear();
            self.due.extend(self.open.values().map(|dashboard| dashboard.key));
        }
    }

    /// Those to be woken in this turn.
    pub(super) fn take_due(&mut self) -> Vec<ConnectionKey> {
        let count = self.due.len().min(limits::DASHBOARDS_PER_TURN_MAX);
        self.due.drain(..count).collect()
    }

    fn make(&mut self, shared: &Shared, now: Now) {
        self.made_at = now.monotonic;
        self.event.clear();
        self.of_sales.clear();
        let interval_ms = self.interval_ms();
        event::push_host(&mut self.event, shared, now, self.started_at, interval_ms);
    }

    /// Tells a dashboard of the latest event: once when it joined, and once for each after that.
    pub(super) fn tell(&mut self, key: ConnectionKey, shared: &Shared, part: StreamPart<'_>) -> Produced {
        let dashboard = self.open.get(&key.index()).filter(|dashboard| dashboard.key == key);
        let Some(dashboard) = dashboard else { return part.end() };
        let Some(sale) = dashboard.sale else { return part.send(&self.event) };
        let of_sale = self.of_sales.entry(sale).or_insert_with(|| {
            let mut text = Vec::new();
            event::push_sale(&mut text, shared, &sale);
            text
        });
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.event);
        self.scratch.extend_from_slice(of_sale);
        part.send(&self.scratch)
    }
}
