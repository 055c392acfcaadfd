//! A loop's connections to the primaries of a Redis Cluster, and where each call goes.
//!
//! Which node has a slot is learnt off the loop and told as a move ([`ClusterSource`]), and from each node that says of a call
//! that its slot is elsewhere. A slot is up while its primary is connected; one without a primary stops nobody but its own sales.
//!
//! **The order of a sale.** All calls of one slot that are on the way are on the way to one node. Once a node has handed one
//! back, nothing more is sent of that slot until all that was on the way is answered, or handed back as well. Then it goes
//! where the slot is by then: what was handed back, in its order, and behind it what came meanwhile. Before both go restores,
//! as on any new connection. Each call keeps its id and everything else, so that it is carried out once, wherever that is.
//!
//! **ASK** is followed for the call alone. **TRYAGAIN** is what a script gets while some keys of its slot are over and some are
//! not; it is sent again after a pause. Nothing was done in either case, nor by a call that is refused for having been sent on
//! too often.

#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustc_hash::{FxHashMap, FxHashSet};

use super::reach::ReachChange;
use super::redis_link::{NodeIndex, RedisLink, Streams};
use crate::clock::Monotonic;
use crate::ledger::redis::cluster;
use crate::ledger::redis::finder::FoundSlots;
use crate::ledger::redis::keys::Keys;
use crate::ledger::redis::place::Whereabouts;
use crate::ledger::redis::redirect::Redirect;
use crate::ledger::redis::session::Errand;
use crate::ledger::redis::slots::{NODES_MAX, SlotMap};
use crate::ledger::url::{HostPort, RedisUrl};
use crate::ledger::{Cause, Trouble, Way};
use crate::limits::{REDIRECTS_AT_ONCE, REDIRECTS_MAX, SLOT_PAUSE_MS, SYNC_INTERVAL_MS};
use crate::net::Asker;
use crate::protocol::{Answer, BookingOp, Call, CallError, CallId, Durability, LedgerOp, Slot, SlotRange};

/// Parts of calls have ids of their own from here on; a desk counts from 0.
const PARTS_FROM: u64 = 1 << 63;

/// The number of the connection by which the slots of no node are reported.
const NO_NODE: usize = NODES_MAX;

/// Nobody has the slot.
const NOBODY: usize = usize::MAX;

/// Slots of sales.
const SLOTS: usize = Slot::COUNT as usize;

/// Gives one that asks where that node is.
pub type NodeAsker = dyn FnMut(&HostPort) -> Asker<Whereabouts> + Send;

/// Where the nodes of a Cluster are.
pub struct ClusterSource {
    /// Gives the map of slots, and tells that it is another.
    pub maps: Asker<FoundSlots>,
    /// Asks where each of them is.
    pub node: Box<NodeAsker>,
    /// Has the map asked for soon.
    pub nudge: Box<dyn Fn() + Send>,
}

struct Node<T> {
    place: HostPort,
    link: RedisLink<T>,
    /// How many slots it has.
    slots: usize,
    /// What was seen last.
    was_up: bool,
    /// It is driven.
    is_wanted: bool,
}

/// The calls of one slot.
#[derive(Default)]
struct Flight {
    /// Where they are on the way to.
    node: usize,
    in_flight: usize,
    /// None was handed back, or sent to a node that does not have the slot.
    is_disturbed: bool,
    /// To be sent once nothing is on the way: restores, what was handed back, and what came since.
    restores: VecDeque<Errand>,
    handed_back: VecDeque<Errand>,
    waiting: VecDeque<Errand>,
    /// Not before that.
    paused_until: Option<Monotonic>,
}

impl Flight {
    fn has_queue(&self) -> bool {
        !(self.restores.is_empty() && self.handed_back.is_empty() && self.waiting.is_empty())
    }
}

/// A call on its way, or in a queue.
struct Carried {
    slot: u16,
    /// How often it was handed back.
    redirects: u32,
}

/// A call that was sent in parts.
struct WholeCall {
    call: Call,
    answers: Vec<Option<Result<Answer, CallError>>>,
    missing: usize,
}

/// See the [module](self).
pub struct Cluster<T> {
    source: ClusterSource,
    /// When to ask for the map, where there is none yet; `None` while it is asked for, and once it is there.
    ask_at: Option<Monotonic>,
    url: RedisUrl,
    durability: Durability,
    seeds: StdRng,
    trouble: Trouble,
    core: usize,
    nodes: Vec<Node<T>>,
    /// The place among the nodes of whoever has a slot.
    owners: Vec<usize>,
    /// Slots that another node has got.
    moved: FxHashSet<u16>,
    /// Owners are others than when nodes and slots were looked at last.
    is_changed: bool,
    /// What was told of each slot.
    told: Vec<bool>,
    is_directory_told: bool,
    changes: VecDeque<ReachChange>,
    flights: FxHashMap<u16, Flight>,
    carried: FxHashMap<CallId, Carried>,
    /// Slots whose queues may be sent.
    ready: Vec<u16>,
    paused: Vec<(Monotonic, u16)>,
    parts: FxHashMap<CallId, (CallId, usize)>,
    wholes: FxHashMap<CallId, WholeCall>,
    next_part: u64,
    answers: VecDeque<(CallId, Result<Answer, CallError>)>,
}

impl<T> Cluster<T> {
    /// Connections of that core that are made when it is first [driven](Cluster::drive).
    pub fn new(
        source: ClusterSource,
        url: RedisUrl,
        durability: Durability,
        seed: u64,
        (trouble, core): (Trouble, usize),
        now: Monotonic,
    ) -> Cluster<T> {
        Cluster {
            source,
            ask_at: Some(now),
            url,
            durability,
            seeds: StdRng::seed_from_u64(seed),
            trouble,
            core,
            nodes: Vec::new(),
            owners: vec![NOBODY; SLOTS],
            moved: FxHashSet::default(),
            is_changed: false,
            told: vec![false; SLOTS],
            is_directory_told: false,
            changes: VecDeque::new(),
            flights: FxHashMap::default(),
            carried: FxHashMap::default(),
            ready: Vec::new(),
            paused: Vec::new(),
            parts: FxHashMap::default(),
            wholes: FxHashMap::default(),
            next_part: PARTS_FROM,
            answers: VecDeque::new(),
        }
    }

    /// Whether all slots are up.
    pub fn is_up(&self) -> bool {
        self.owners.iter().all(|&owner| self.nodes.get(owner).is_some_and(|node| node.link.is_up()))
    }

    /// Accepts a call.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        if let Some(sale) = call.sale() {
            let slot = Slot::of(sale);
            return self.carry(slot, Errand::new(id, call, Keys::Sale), now);
        }
        let parts = cluster::parts_of(&call);
        if parts.is_empty() {
            let answer = cluster::answer_of(&call, Vec::new());
            self.answers.push_back((id, answer));
            return;
        }
        let gathering = WholeCall { call, answers: vec![None; parts.len()], missing: parts.len() };
        self.wholes.insert(id, gathering);
        for (place, part) in parts.into_iter().enumerate() {
            let part_id = CallId(self.next_part);
            self.next_part += 1;
            self.parts.insert(part_id, (id, place));
            match self.told[usize::from(part.slot.number())] {
                true => self.carry(part.slot, Errand::new(part_id, part.call, part.keys), now),
                false => {
                    let why = CallError::Refused("the node with this part of it is down".to_owned());
                    self.gather(part_id, Err(why));
                }
            }
        }
    }

    fn carry(&mut self, slot: Slot, errand: Errand, now: Monotonic) {
        let number = slot.number();
        self.carried.insert(errand.id, Carried { slot: number, redirects: 0 });
        let owner = self.owners[usize::from(number)];
        let flight = self.flights.entry(number).or_default();
        let is_elsewhere = flight.in_flight > 0 && flight.node != owner;
        if owner == NOBODY || is_elsewhere || flight.is_disturbed || flight.has_queue() {
            let is_restore = matches!(errand.call, Call::Bookings { op: BookingOp::Restore(_), .. });
            let queue = if is_restore { &mut flight.restores } else { &mut flight.waiting };
            queue.push_back(errand);
            self.ready.push(number);
            return;
        }
        flight.node = owner;
        flight.in_flight += 1;
        self.nodes[owner].link.carry(errand, now);
    }

    /// Sends what waited for what was on the way of that slot, if it may be sent.
    fn send_queue(&mut self, number: u16, now: Monotonic) {
        let owner = self.owners[usize::from(number)];
        let Some(flight) = self.flights.get_mut(&number) else { return };
        if flight.in_flight > 0 {
            return;
        }
        if owner == NOBODY {
            let (parts, calls) = std::mem::take(&mut flight.waiting)
                .into_iter()
                .partition::<VecDeque<_>, _>(|errand| errand.id.0 >= PARTS_FROM);
            flight.waiting = calls;
            for part in parts {
                self.carried.remove(&part.id);
                self.tell(part.id, Err(part.refused("no node has its slot".to_owned())));
            }
            return;
        }
        if flight.paused_until.is_some_and(|until| now < until) {
            return;
        }
        let flight = self.flights.remove(&number).unwrap_or_default();
        let Flight { restores, handed_back, waiting, .. } = flight;
        let mut sent = 0;
        for errand in restores.into_iter().chain(handed_back).chain(waiting) {
            self.nodes[owner].link.carry(errand, now);
            sent += 1;
        }
        if sent > 0 {
            let flight = Flight { node: owner, in_flight: sent, ..Flight::default() };
            self.flights.insert(number, flight);
        }
    }

    /// A call is not on its way any more.
    fn land(&mut self, number: u16) {
        let Some(flight) = self.flights.get_mut(&number) else { return };
        flight.in_flight -= 1;
        if flight.in_flight == 0 {
            match flight.is_disturbed || flight.has_queue() {
                true => self.ready.push(number),
                false => drop(self.flights.remove(&number)),
            }
        }
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Answer, CallError>)> {
        loop {
            if let Some(answered) = self.answers.pop_front() {
                return Some(answered);
            }
            let (id, answer) = self.nodes.iter_mut().find_map(|node| node.link.poll_answer())?;
            self.finish(id, answer);
        }
    }

    /// That is the answer to a call that was on its way.
    fn finish(&mut self, id: CallId, answer: Result<Answer, CallError>) {
        if let Some(Carried { slot, .. }) = self.carried.remove(&id) {
            self.land(slot);
        }
        self.tell(id, answer);
    }

    fn tell(&mut self, id: CallId, answer: Result<Answer, CallError>) {
        match self.parts.contains_key(&id) {
            true => self.gather(id, answer),
            false => self.answers.push_back((id, answer)),
        }
    }

    fn gather(&mut self, part: CallId, answer: Result<Answer, CallError>) {
        let Some((id, place)) = self.parts.remove(&part) else { return };
        let Some(gathering) = self.wholes.get_mut(&id) else { return };
        gathering.answers[place] = Some(answer);
        gathering.missing -= 1;
        if gathering.missing > 0 {
            return;
        }
        let Some(WholeCall { call, answers, .. }) = self.wholes.remove(&id) else { return };
        let mut answers: Vec<_> = answers.into_iter().flatten().collect();
        // A list that lacks what is on nodes that are down is better than none: whoever asks only learns of what it has.
        if matches!(call, Call::Ledger(LedgerOp::Sales)) && answers.iter().any(Result::is_ok) {
            answers.retain(Result::is_ok);
        }
        let answer = cluster::answer_of(&call, answers);
        self.answers.push_back((id, answer));
    }

    /// Takes what a node has handed back.
    fn take_redirects(&mut self, node: usize, now: Monotonic) {
        while let Some((errand, redirect)) = self.nodes[node].link.poll_redirect() {
            let Some(carried) = self.carried.get_mut(&errand.id) else { continue };
            carried.redirects += 1;
            let (number, redirects) = (carried.slot, carried.redirects);
            let (Redirect::Moved(slot, _) | Redirect::Ask(slot, _)) = &redirect else {
                self.hand_back(number, errand, redirects, true, now);
                continue;
            };
            if slot.number() != number {
                let what = format!(
                    "{} says where slot {} is, of a call to slot {number}",
                    self.nodes[node].place,
                    slot.number()
                );
                self.finish(errand.id, Err(CallError::Garbled(what)));
                continue;
            }
            let (Redirect::Moved(_, place) | Redirect::Ask(_, place)) = &redirect else { continue };
            let place = place.seen_from(&self.nodes[node].place.host);
            let Some(other) = self.node_at(&place, now) else {
                self.hand_back(number, errand, redirects, true, now);
                continue;
            };
            match redirect {
                Redirect::Ask(..) if redirects <= REDIRECTS_MAX => {
                    if let Some(flight) = self.flights.get_mut(&number) {
                        flight.is_disturbed = true;
                    }
                    self.nodes[other].link.carry(Errand { asking: true, ..errand }, now);
                    self.is_changed = true;
                }
                _ => {
                    if matches!(redirect, Redirect::Moved(..)) {
                        self.set_owner(number, other);
                    }
                    self.hand_back(number, errand, redirects, redirects > REDIRECTS_AT_ONCE, now);
                }
            }
        }
    }

    /// It is to be sent where its slot is, once nothing of that is on the way; after a pause, if `pauses`.
    fn hand_back(&mut self, number: u16, errand: Errand, redirects: u32, pauses: bool, now: Monotonic) {
        (self.source.nudge)();
        if redirects > REDIRECTS_MAX {
            let why = "its slot is on the way from one node of the Cluster to another".to_owned();
            let error = errand.refused(why);
            return self.finish(errand.id, Err(error));
        }
        let flight = self.flights.entry(number).or_default();
        flight.is_disturbed = true;
        flight.handed_back.push_back(Errand { asking: false, ..errand });
        if pauses {
            let until = now.plus_ms(SLOT_PAUSE_MS);
            flight.paused_until = Some(until);
            self.paused.push((until, number));
        }
        self.land(number);
    }

    fn set_owner(&mut self, number: u16, node: usize) {
        let owner = &mut self.owners[usize::from(number)];
        if std::mem::replace(owner, node) != node {
            self.moved.insert(number);
            self.is_changed = true;
            if self.flights.contains_key(&number) {
                self.ready.push(number);
            }
        }
    }

    /// The place of that node among the nodes; `None` if there are too many.
    fn node_at(&mut self, place: &HostPort, now: Monotonic) -> Option<usize> {
        if let Some(known) = self.nodes.iter().position(|node| node.place == *place) {
            return Some(known);
        }
        let spare =
            self.nodes.iter().position(|node| node.slots == 0 && !node.is_wanted && node.link.is_idle());
        let index = match spare {
            // It may have got slots that were not counted yet.
            Some(spare) if !self.owners.contains(&spare) => spare,
            _ if self.nodes.len() < NODES_MAX => self.nodes.len(),
            _ => return None,
        };
        let way = Way::to_node(self.core, index);
        let asker = (self.source.node)(place);
        let seed = self.seeds.random();
        let trouble = (self.trouble.clone(), way);
        let link = RedisLink::new(asker, self.url.clone(), self.durability, seed, trouble, now);
        let node = Node { place: place.clone(), link, slots: 0, was_up: false, is_wanted: true };
        match self.nodes.get_mut(index) {
            Some(spare) => *spare = node,
            None => self.nodes.push(node),
        }
        self.is_changed = true;
        Some(index)
    }

    fn take_map(&mut self, map: &SlotMap, now: Monotonic) {
        let mut owners = vec![NOBODY; SLOTS];
        for (range, place) in map.ranges() {
            let node = self.node_at(place, now).unwrap_or(NOBODY);
            owners[usize::from(range.first())..=usize::from(range.last())].fill(node);
            // Others that are new are not to take its place.
            if let Some(node) = self.nodes.get_mut(node) {
                node.is_wanted = true;
            }
        }
        for (number, owner) in (0..).zip(owners) {
            self.set_owner(number, owner);
        }
    }

    /// When [`Cluster::drive`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        // What is answered without asking anybody waits for no event.
        if !self.answers.is_empty() {
            return Some(Monotonic::default());
        }
        let wanted = self.nodes.iter().filter(|node| node.is_wanted);
        let of_links = wanted.filter_map(|node| node.link.next_deadline());
        of_links.chain(self.ask_at).chain(self.paused.iter().map(|(until, _)| *until)).min()
    }

    /// Dials, or gives up silent connections, if it is time for that; takes the map of slots if it is another.
    pub fn drive<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        self.ask_for_map(now);
        self.look_at_nodes(streams, now);
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_wanted {
                self.nodes[index].link.drive(NodeIndex(index), streams, now);
            }
            self.reclaim(index, now);
        }
        let ready = &mut self.ready;
        self.paused.retain(|(until, number)| {
            let is_over = now >= *until;
            if is_over {
                ready.push(*number);
            }
            !is_over
        });
    }

    fn ask_for_map(&mut self, now: Monotonic) {
        if self.source.maps.poll_move() {
            self.ask_at = Some(now);
        }
        if self.ask_at.is_some_and(|at| now >= at) {
            // Asked again if nobody answers.
            self.ask_at = Some(now.plus_ms(SYNC_INTERVAL_MS));
            if let Err(error) = self.source.maps.ask() {
                tracing::debug!(%error, "there is no thread to ask for the nodes of the Cluster");
            }
        }
        match self.source.maps.poll() {
            Some(Ok(map)) => {
                self.ask_at = None;
                self.take_map(&map, now);
            }
            Some(Err(error)) => {
                let way = Way::to_node(self.core, NO_NODE);
                self.trouble.report(way, Some((error.cause(), &error.to_string())));
            }
            None => {}
        }
    }

    /// Which nodes have how many slots, after a change of that; leaves those that have none.
    fn look_at_nodes<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        if std::mem::take(&mut self.is_changed) {
            let (mut counts, mut homes) = (vec![0; self.nodes.len()], vec![None; self.nodes.len()]);
            for (slot, &owner) in (0..).map_while(Slot::new).zip(&self.owners) {
                if owner != NOBODY {
                    counts[owner] += 1;
                    // The last one before the first: whoever moves slots mostly begins with the first.
                    homes[owner] = Some((slot, homes[owner].map_or(slot, |(_, first)| first)));
                }
            }
            for ((node, slots), homes) in self.nodes.iter_mut().zip(counts).zip(homes) {
                // It may be a primary that was replaced and does not know, and may never answer.
                if std::mem::replace(&mut node.slots, slots) > 0 && slots == 0 {
                    node.link.leave(streams, now);
                }
                node.link.set_homes(homes);
            }
            self.report_unserved();
        }
        for node in &mut self.nodes {
            let is_wanted = node.slots > 0 || !node.link.is_idle();
            if std::mem::replace(&mut node.is_wanted, is_wanted) && !is_wanted {
                node.link.leave(streams, now);
            }
        }
    }

    /// Tells operators of slots that nobody has.
    fn report_unserved(&self) {
        let unserved = ranges_of(&self.owners, |owner| *owner == NOBODY);
        let way = Way::to_node(self.core, NO_NODE);
        match &unserved[..] {
            [] => self.trouble.report(way, None),
            ranges => {
                let told: Vec<_> = ranges.iter().take(3).map(SlotRange::to_string).collect();
                let more = if ranges.len() > 3 { " and others" } else { "" };
                let what = format!(
                    "slots {}{more} of the Cluster are of no node: their sales are not sold",
                    told.join(", ")
                );
                self.trouble.report(way, Some((Cause::Unreachable, &what)));
            }
        }
    }

    /// Takes back what a node that is not connected is not to carry out, since its slot is elsewhere.
    fn reclaim(&mut self, index: usize, now: Monotonic) {
        if self.nodes[index].link.is_idle() {
            return;
        }
        let Cluster { nodes, owners, carried, .. } = self;
        let is_elsewhere = |errand: &Errand| {
            let owner = carried.get(&errand.id).map(|carried| owners[usize::from(carried.slot)]);
            // Parts are asked again by whoever needs the whole; until then nobody is to wait for them.
            owner != Some(index) || errand.id.0 >= PARTS_FROM
        };
        for errand in nodes[index].link.take_back(is_elsewhere) {
            let Some(carried) = self.carried.get_mut(&errand.id) else { continue };
            carried.redirects += 1;
            let (number, redirects) = (carried.slot, carried.redirects);
            match errand.id.0 >= PARTS_FROM {
                true => {
                    let why = CallError::Unknown("the connection was lost".to_owned());
                    self.finish(errand.id, Err(why));
                }
                false => self.hand_back(number, errand, redirects, redirects > REDIRECTS_AT_ONCE, now),
            }
        }
    }

    /// Which slots went up or down. To be polled after the answers, which came before.
    pub fn poll_change(&mut self) -> Option<ReachChange> {
        if self.changes.is_empty() {
            self.look_at_reach();
        }
        self.changes.pop_front()
    }

    fn look_at_reach(&mut self) {
        let mut is_news = !self.moved.is_empty();
        for node in &mut self.nodes {
            let is_up = node.link.is_up();
            if std::mem::replace(&mut node.was_up, is_up) != is_up {
                is_news = true;
                if !is_up {
                    (self.source.nudge)();
                }
            }
        }
        if !is_news {
            return;
        }
        let is_up: Vec<bool> =
            self.owners.iter().map(|&owner| self.nodes.get(owner).is_some_and(|node| node.was_up)).collect();
        // Whoever has got a slot may have forgotten something of it, even if it was never out of reach.
        let moved = std::mem::take(&mut self.moved);
        let goes_down: Vec<bool> = (0..)
            .zip(self.told.iter().zip(&is_up))
            .map(|(number, (told, is_up))| *told && (!is_up || moved.contains(&number)))
            .collect();
        let goes_up: Vec<bool> = self
            .told
            .iter()
            .zip(&goes_down)
            .zip(&is_up)
            .map(|((told, down), up)| *up && (!told || *down))
            .collect();
        let is_directory_up = is_up.contains(&true);
        let is_directory_news = is_directory_up != self.is_directory_told;
        let directory = ReachChange { slots: SlotRange::DIRECTORY, is_up: is_directory_up };
        for slots in ranges_of(&goes_down, |down| *down) {
            self.changes.push_back(ReachChange { slots, is_up: false });
        }
        for slots in ranges_of(&goes_up, |up| *up) {
            self.changes.push_back(ReachChange { slots, is_up: true });
        }
        // Behind the sales, which it names.
        if is_directory_news {
            self.changes.push_back(directory);
        }
        (self.told, self.is_directory_told) = (is_up, is_directory_up);
    }

    /// Reads what has arrived from a node; if the node has `ended` its side, to the end.
    pub fn handle_readable<S: Streams<Stream = T>>(
        &mut self,
        NodeIndex(index): NodeIndex,
        buffer: &mut [u8],
        ended: bool,
        streams: &mut S,
        now: Monotonic,
    ) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.link.handle_readable(buffer, ended, streams, now);
            self.take_redirects(index, now);
        }
    }

    /// The connection to a node is established, or can take more.
    pub fn handle_writable<S: Streams<Stream = T>>(
        &mut self,
        NodeIndex(index): NodeIndex,
        streams: &mut S,
        now: Monotonic,
    ) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.link.handle_writable(streams, now);
        }
    }

    /// Writes what is to be sent.
    pub fn flush<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        for number in std::mem::take(&mut self.ready) {
            self.send_queue(number, now);
        }
        // A node that was heard of just now is dialled at once.
        if self.is_changed {
            self.look_at_nodes(streams, now);
            for index in 0..self.nodes.len() {
                if self.nodes[index].is_wanted {
                    self.nodes[index].link.drive(NodeIndex(index), streams, now);
                }
            }
        }
        for node in &mut self.nodes {
            node.link.flush(streams, now);
        }
    }
}

/// The ranges of slots of which that holds.
fn ranges_of<V>(slots: &[V], holds: impl Fn(&V) -> bool) -> Vec<SlotRange> {
    let mut ranges = Vec::new();
    let mut first = None;
    for number in 0..=slots.len() {
        match (slots.get(number).is_some_and(&holds), first) {
            (true, None) => first = Some(number),
            (false, Some(from)) => {
                let range = |from, last| SlotRange::new(u16::try_from(from).ok()?, u16::try_from(last).ok()?);
                ranges.extend(range(from, number - 1));
                first = None;
            }
            _ => {}
        }
    }
    ranges
}
