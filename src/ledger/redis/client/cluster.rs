//! Blocking connections to the nodes of a Cluster, each made when it is needed first.
//!
//! Calls of one batch leave together, those to one node in their order. One that a node hands back is sent where its slot is; one
//! whose slot is on the way waits for that, as on a loop.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::cluster::{self, CallPart, Steps};
use super::super::finder::{ClusterFinder, FoundSlots};
use super::super::place::{self, FindError};
use super::super::redirect::Redirect;
use super::super::session::Errand;
use super::super::slots::SlotMap;
use super::{ConnectError, NodeClient, NodeReply};
use crate::ledger::url::{HostPort, RedisUrl};
use crate::limits::{NEW_LEDGER_MS, REDIRECTS_AT_ONCE, REDIRECTS_MAX, SLOT_PAUSE_MS};
use crate::net::Asker;
use crate::protocol::{Answer, Call, CallError, CallId, Durability, Opener, SaleOp, Slot};

const PAUSE: Duration = Duration::from_millis(SLOT_PAUSE_MS);

/// How long a start waits for a sale that another one has named and not opened yet, before it takes the sale for lost.
const OPENING: Duration = Duration::from_millis(NEW_LEDGER_MS);

/// See the [module](self).
pub(super) struct ClusterClient {
    finder: ClusterFinder,
    url: RedisUrl,
    timeout: Duration,
    durability: Option<Durability>,
    maps: Asker<FoundSlots>,
    map: Arc<SlotMap>,
    /// Slots that a node said to be elsewhere since the map was taken.
    moved: BTreeMap<Slot, HostPort>,
    nodes: BTreeMap<HostPort, NodeClient>,
}

/// A part that is not answered yet.
struct Pending {
    index: usize,
    part: CallPart,
    /// The node to be asked, though it does not have the slot yet.
    ask: Option<HostPort>,
    redirects: u32,
}

impl ClusterClient {
    /// Connects to one of the nodes, so that what is wrong with all of them is known at once.
    pub(super) fn connect(
        finder: ClusterFinder,
        url: &RedisUrl,
        timeout: Duration,
    ) -> Result<ClusterClient, ConnectError> {
        let mut maps = finder.maps(|| ());
        let address = || url.address.to_string();
        let not_found = |cause: String| ConnectError::NotFound { address: address(), cause };
        maps.ask().map_err(|cause| ConnectError::Unreachable { address: address(), cause })?;
        let map = match maps.wait(timeout) {
            Some(Ok(map)) => map,
            Some(Err(FindError::TlsFiles(error))) => return Err(error.into()),
            Some(Err(FindError::Password(error))) => return Err(error.into()),
            Some(Err(error)) => return Err(not_found(error.to_string())),
            None => return Err(not_found(place::slow_look_up(&url.address, timeout.as_millis()))),
        };
        let mut client = ClusterClient {
            finder,
            url: url.clone(),
            timeout,
            durability: None,
            maps,
            map,
            moved: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        let nodes = client.map.nodes().to_vec();
        let mut outcome = Err(not_found("no node of the Cluster has a slot".to_owned()));
        for place in &nodes {
            outcome = client.open(place);
            if outcome.is_ok() {
                break;
            }
        }
        outcome.map(|()| client)
    }

    pub(super) fn wait_as(&mut self, of_host: Durability) {
        self.durability = Some(of_host);
        for node in self.nodes.values_mut() {
            node.wait_as(of_host);
        }
    }

    /// Connects to that node, unless that was done.
    fn open(&mut self, place: &HostPort) -> Result<(), ConnectError> {
        if !self.nodes.contains_key(place) {
            let asker = self.finder.node(place, || ());
            let mut node = NodeClient::connect(asker, &self.url, self.timeout)?;
            if let Some(durability) = self.durability {
                node.wait_as(durability);
            }
            self.nodes.insert(place.clone(), node);
        }
        Ok(())
    }

    fn node_of(&self, slot: Slot) -> Option<&HostPort> {
        self.moved.get(&slot).or_else(|| self.map.node_of(slot))
    }

    /// Takes the map of slots, if it has become another.
    fn refresh(&mut self) {
        if self.maps.poll_move()
            && self.maps.ask().is_ok()
            && let Some(Ok(map)) = self.maps.wait(self.timeout)
        {
            self.map = map;
            self.moved.clear();
            let map = Arc::clone(&self.map);
            self.nodes.retain(|place, _| map.nodes().contains(place));
        }
    }

    pub(super) fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        self.refresh();
        if calls.iter().any(|call| Steps::of(call).is_some()) {
            return calls.iter().map(|call| self.execute_one(call)).collect();
        }
        let parts: Vec<Vec<CallPart>> = calls.iter().map(cluster::parts_of).collect();
        let mut answers = self.ask_all(parts.iter().flatten().cloned().collect()).into_iter();
        let whole = |(call, parts): (&Call, &Vec<CallPart>)| {
            cluster::answer_of(call, answers.by_ref().take(parts.len()).collect())
        };
        calls.iter().zip(&parts).map(whole).collect()
    }

    fn execute_one(&mut self, call: &Call) -> Result<Answer, CallError> {
        let until = Instant::now() + OPENING;
        loop {
            let Some(mut steps) = Steps::of(call) else {
                let answers = self.ask_all(cluster::parts_of(call));
                return cluster::answer_of(call, answers);
            };
            let answer = loop {
                let answer = self.ask_all(vec![steps.part()]).pop();
                let nothing = || Err(CallError::Unknown("no answer".to_owned()));
                if let Some(answer) = steps.take(answer.unwrap_or_else(nothing)) {
                    break answer;
                }
            };
            // Another start may be between naming it and opening it.
            let is_start = matches!(call, Call::Sale { op: SaleOp::Open { by: Opener::Start, .. }, .. });
            if !(is_start && answer == Ok(Answer::Lost)) || Instant::now() >= until {
                return answer;
            }
            std::thread::sleep(5 * PAUSE);
        }
    }

    /// The answers to these parts, in their order.
    fn ask_all(&mut self, parts: Vec<CallPart>) -> Vec<Result<Answer, CallError>> {
        let mut answers = vec![None; parts.len()];
        let pending = |(index, part)| Pending { index, part, ask: None, redirects: 0 };
        let mut left: Vec<Pending> = parts.into_iter().enumerate().map(pending).collect();
        while !left.is_empty() {
            let mut by_node = BTreeMap::<HostPort, Vec<Pending>>::new();
            let mut pauses = false;
            for pending in left.drain(..) {
                let node = pending.ask.as_ref().or_else(|| self.node_of(pending.part.slot)).cloned();
                match node {
                    Some(node) => by_node.entry(node).or_default().push(pending),
                    None => {
                        let why = format!("no node of the Cluster has slot {}", pending.part.slot.number());
                        answers[pending.index] = Some(Err(CallError::Refused(why)));
                    }
                }
            }
            for (place, batch) in by_node {
                match self.ask_node(&place, &batch) {
                    Err(error) => {
                        for pending in batch {
                            answers[pending.index] = Some(Err(error.clone()));
                        }
                    }
                    Ok(replies) => {
                        for (pending, reply) in batch.into_iter().zip(replies) {
                            match reply {
                                NodeReply::Answer(answer) => answers[pending.index] = Some(*answer),
                                NodeReply::Redirect(redirect) => {
                                    match self.follow(pending, redirect, &place, &mut pauses) {
                                        Ok(pending) => left.push(pending),
                                        Err((index, error)) => answers[index] = Some(Err(error)),
                                    }
                                }
                            }
                        }
                    }
                }
            }
            // In their order again.
            left.sort_by_key(|pending| pending.index);
            if pauses {
                std::thread::sleep(PAUSE);
                self.refresh();
            }
        }
        answers.into_iter().flatten().collect()
    }

    fn ask_node(&mut self, place: &HostPort, batch: &[Pending]) -> Result<Vec<NodeReply>, CallError> {
        if let Err(error) = self.open(place) {
            self.finder.nudge();
            return Err(CallError::Unknown(error.to_string()));
        }
        let errand = |pending: &Pending| Errand {
            asking: pending.ask.is_some(),
            ..Errand::new(CallId(0), pending.part.call.clone(), pending.part.keys)
        };
        let errands: Vec<Errand> = batch.iter().map(errand).collect();
        let mut ranges = self.map.ranges().filter(|(_, node)| *node == place).map(|(range, _)| range);
        let first = ranges.next();
        let last = ranges.last().or(first);
        let homes = first
            .zip(last)
            .and_then(|(first, last)| Some((Slot::new(last.last())?, Slot::new(first.first())?)));
        let node = self.nodes.get_mut(place).expect("it was opened");
        node.set_homes(homes);
        let outcome = node.execute(&errands);
        if outcome.is_err() {
            self.nodes.remove(place);
            self.finder.nudge();
        }
        outcome
    }

    /// A part that a node has handed back, as it is to be sent next.
    fn follow(
        &mut self,
        pending: Pending,
        redirect: Redirect,
        place: &HostPort,
        pauses: &mut bool,
    ) -> Result<Pending, (usize, CallError)> {
        self.finder.nudge();
        let Pending { index, part, redirects, .. } = pending;
        let redirects = redirects + 1;
        if redirects > REDIRECTS_MAX {
            let why = "its slot is on the way from one node of the Cluster to another";
            return Err((index, CallError::Refused(why.to_owned())));
        }
        let ask = match redirect {
            Redirect::Again => {
                *pauses = true;
                None
            }
            Redirect::Ask(_, to) => Some(to.seen_from(&place.host)),
            Redirect::Moved(_, to) => {
                self.moved.insert(part.slot, to.seen_from(&place.host));
                *pauses |= redirects > REDIRECTS_AT_ONCE;
                None
            }
        };
        Ok(Pending { index, part, ask, redirects })
    }
}

impl fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClient")
            .field("url", &self.url)
            .field("nodes", &self.nodes.keys())
            .finish_non_exhaustive()
    }
}
