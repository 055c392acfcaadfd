//! The requests that wait for the ledger: gathered by lane and kind until they leave together, and kept until they are
//! answered.
//!
//! An entry is in one place at a time: gathering here, or with a call that is on the way. Its client is told once, in the end
//! or at its deadline, whichever comes first; the entry stays until the ledger has answered. Batches never decide what a client
//! is told, and know nothing of permits but that an entry holds them.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use slab::Slab;

use super::lanes::{LaneIndex, PerLane};
use crate::booking::{Amendment, BookingId, BuyerId, Outcome, Quantity, Refusal, SaleName};
use crate::clock::Monotonic;
use crate::protocol::{BookingOp, Call, Cancel, Claim, SaleOp, Watermark};
use crate::stock::Permits;

/// A request that waited, and how it ended.
#[derive(Debug)]
pub struct Resolved<C> {
    /// Who asked.
    pub client: C,
    /// Of which lane.
    pub lane: LaneIndex,
    /// About which booking; the server's own if it made the id.
    pub id: BookingId,
    /// Whether this host made the id, so that nobody else can ask for it again.
    pub made_here: bool,
    /// What was asked for, if it was a booking that was asked for.
    pub terms: Option<(Quantity, Option<BuyerId>)>,
    /// When it was asked.
    pub asked_at: Monotonic,
    /// The end of it.
    pub outcome: Outcome,
}

/// What kind of entries travel in a call; calls of one burst leave in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Reserve,
    Amend,
    Confirm,
    Cancel,
    LookUp,
}

/// All kinds, in the order in which they leave.
pub(super) const CALL_KINDS: [CallKind; 5] =
    [CallKind::Reserve, CallKind::Amend, CallKind::Confirm, CallKind::Cancel, CallKind::LookUp];

/// What an entry asks of the ledger.
#[derive(Debug)]
pub(super) enum EntryKind {
    Reserve {
        quantity: Quantity,
        buyer: Option<BuyerId>,
        made_here: bool,
        permits: Permits,
    },
    /// No permit was to be had (`refusal` says why), but the client has an id of its own: it may be a repeat of a granted
    /// request, which is looked up before it is refused.
    LookUpBeforeRefusal {
        quantity: Quantity,
        buyer: Option<BuyerId>,
        refusal: Refusal,
    },
    LookUp,
    Amend(Amendment),
    Confirm,
    /// As a client asks.
    Cancel {
        /// If there is no such booking, there is to be none ever.
        tombstone: bool,
    },
    /// As the desk asks on its own behalf, of a booking of which nobody was told, or will be: with a tombstone, and again
    /// until it is answered.
    CancelOrphan,
}

impl EntryKind {
    pub(super) fn call_kind(&self) -> CallKind {
        match self {
            EntryKind::Reserve { .. } => CallKind::Reserve,
            EntryKind::LookUpBeforeRefusal { .. } | EntryKind::LookUp => CallKind::LookUp,
            EntryKind::Amend(_) => CallKind::Amend,
            EntryKind::Confirm => CallKind::Confirm,
            EntryKind::Cancel { .. } | EntryKind::CancelOrphan => CallKind::Cancel,
        }
    }

    /// What its client is told if nobody knows what became of it. To look changes nothing; but whoever wishes to book and may
    /// have done so before is not told that nothing was.
    pub(super) fn refusal_when_lost(&self) -> Refusal {
        match self {
            EntryKind::LookUp => Refusal::LedgerUnavailable,
            EntryKind::Reserve { .. }
            | EntryKind::LookUpBeforeRefusal { .. }
            | EntryKind::Amend(_)
            | EntryKind::Confirm
            | EntryKind::Cancel { .. }
            | EntryKind::CancelOrphan => Refusal::OutcomeUnknown,
        }
    }

    /// Whether it books under an id that was made here.
    pub(super) fn is_made_here(&self) -> bool {
        matches!(self, EntryKind::Reserve { made_here: true, .. })
    }

    /// Whether the desk asks it on its own behalf.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, EntryKind::CancelOrphan)
    }
}

/// One request that waits.
#[derive(Debug)]
pub(super) struct Entry<C> {
    /// `None` once the client was told, or if there is none.
    pub(super) client: Option<C>,
    pub(super) lane: LaneIndex,
    pub(super) id: BookingId,
    /// Whether the id is marked as in flight on this entry's account.
    pub(super) marked: bool,
    pub(super) kind: EntryKind,
    asked_at: Monotonic,
    serial: u64,
    is_sent: bool,
    /// Its time is over and it never left.
    is_overdue: bool,
}

/// What gathers in one lane.
#[derive(Debug, Default)]
struct Gathering {
    keys: [Vec<usize>; CALL_KINDS.len()],
    /// It is in the list of those with something to send.
    is_listed: bool,
}

/// Entries whose clients have waited too long.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    /// They are on the way.
    pub(super) sent: Vec<usize>,
    /// They never left, and will not.
    pub(super) unsent: Vec<usize>,
}

/// See the [module](self).
pub(super) struct Batches<C> {
    entries: Slab<Entry<C>>,
    gathering: PerLane<Gathering>,
    /// Lanes with something to send.
    ready: Vec<LaneIndex>,
    /// In the order of time, since all wait for as long; those that ended are skipped by their serial.
    deadlines: VecDeque<(Monotonic, usize, u64)>,
    last_serial: u64,
    resolved: VecDeque<Resolved<C>>,
    timeout_ms: u64,
}

impl<C> Batches<C> {
    /// None yet; clients will wait for so long at most.
    pub(super) fn new(timeout_ms: u64) -> Batches<C> {
        Batches {
            entries: Slab::new(),
            gathering: PerLane::default(),
            ready: Vec::new(),
            deadlines: VecDeque::new(),
            last_serial: 0,
            resolved: VecDeque::new(),
            timeout_ms,
        }
    }

    /// A new lane, in which nothing gathers yet.
    pub(super) fn add_lane(&mut self) {
        self.gathering.add(Gathering::default());
    }

    /// How many entries there are, those without a client included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing gathers in that lane.
    pub(super) fn is_empty(&self, lane: LaneIndex) -> bool {
        self.gathering[lane].keys.iter().all(Vec::is_empty)
    }

    /// A request begins to wait.
    pub(super) fn push(
        &mut self,
        client: Option<C>,
        lane: LaneIndex,
        id: BookingId,
        marked: bool,
        kind: EntryKind,
        now: Monotonic,
    ) {
        self.last_serial += 1;
        let serial = self.last_serial;
        let call_kind = kind.call_kind();
        let has_client = client.is_some();
        let entry = Entry {
            client,
            lane,
            id,
            marked,
            kind,
            asked_at: now,
            serial,
            is_sent: false,
            is_overdue: false,
        };
        let key = self.entries.insert(entry);
        if has_client {
            self.deadlines.push_back((now.plus_ms(self.timeout_ms), key, serial));
        }
        let gathering = &mut self.gathering[lane];
        gathering.keys[call_kind as usize].push(key);
        if !std::mem::replace(&mut gathering.is_listed, true) {
            self.ready.push(lane);
        }
    }

    /// When a client will have waited too long.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.deadlines.front().map(|&(deadline, _, _)| deadline)
    }

    /// Those whose clients have waited too long by now, each once. Who never left does not gather any more.
    pub(super) fn take_overdue(&mut self, now: Monotonic) -> Overdue {
        let mut overdue = Overdue::default();
        let mut never_left = false;
        while let Some(&(deadline, key, serial)) = self.deadlines.front() {
            let entry =
                self.entries.get_mut(key).filter(|entry| entry.serial == serial && entry.client.is_some());
            if entry.is_some() && deadline > now {
                break;
            }
            self.deadlines.pop_front();
            match entry {
                None => {}
                Some(entry) if entry.is_sent => overdue.sent.push(key),
                Some(entry) => {
                    entry.is_overdue = true;
                    never_left = true;
                }
            }
        }
        if never_left {
            // Only lanes with something to send can have any.
            for &lane in &self.ready {
                for keys in &mut self.gathering[lane].keys {
                    overdue.unsent.extend(keys.extract_if(.., |key| self.entries[*key].is_overdue));
                }
            }
        }
        overdue
    }

    /// The lanes with something to send.
    pub(super) fn ready(&self) -> &[LaneIndex] {
        &self.ready
    }

    /// Takes the lanes with something to send: those that send nothing now are to be [held back](Batches::hold_back).
    pub(super) fn take_ready(&mut self) -> Vec<LaneIndex> {
        std::mem::take(&mut self.ready)
    }

    /// These lanes have something to send on.
    pub(super) fn hold_back(&mut self, lanes: Vec<LaneIndex>) {
        debug_assert!(self.ready.is_empty(), "nothing gathers while what has gathered leaves");
        self.ready = lanes;
    }

    /// Takes all entries of one kind that have gathered in a lane that is not held back.
    pub(super) fn take_gathered(&mut self, lane: LaneIndex, kind: CallKind) -> Vec<usize> {
        let gathering = &mut self.gathering[lane];
        gathering.is_listed = false;
        std::mem::take(&mut gathering.keys[kind as usize])
    }

    /// The call of these entries, which are of that kind and on the way from now on.
    pub(super) fn seal(&mut self, kind: CallKind, keys: &[usize], sale: SaleName, seen: Watermark) -> Call {
        for &key in keys {
            self.entries[key].is_sent = true;
        }
        let each = keys.iter().map(|&key| &self.entries[key]);
        let op = match kind {
            CallKind::Reserve => BookingOp::Reserve(each.map(Entry::claim).collect()),
            CallKind::Confirm => BookingOp::Confirm(each.map(|entry| entry.id).collect()),
            CallKind::Amend => BookingOp::Amend(each.map(Entry::amendment).collect()),
            CallKind::Cancel => BookingOp::Cancel(each.map(Entry::cancel).collect()),
            CallKind::LookUp => return SaleOp::LookUp(each.map(|entry| entry.id).collect()).on(sale),
        };
        op.on(sale, seen)
    }

    /// Takes the desk's own cancellations that gather in a lane.
    pub(super) fn take_own(&mut self, lane: LaneIndex) -> Vec<Entry<C>> {
        let keys = &mut self.gathering[lane].keys[CallKind::Cancel as usize];
        let own: Vec<usize> = keys.extract_if(.., |key| self.entries[*key].kind.is_own()).collect();
        own.into_iter().map(|key| self.entries.remove(key)).collect()
    }

    /// Tells the client, if one still waits; the entry stays.
    pub(super) fn resolve(&mut self, key: usize, outcome: Outcome) {
        let entry = &mut self.entries[key];
        let Some(client) = entry.client.take() else { return };
        let made_here = entry.kind.is_made_here();
        let terms = match entry.kind {
            EntryKind::Reserve { quantity, buyer, .. }
            | EntryKind::LookUpBeforeRefusal { quantity, buyer, .. } => Some((quantity, buyer)),
            EntryKind::LookUp
            | EntryKind::Confirm
            | EntryKind::Cancel { .. }
            | EntryKind::CancelOrphan
            | EntryKind::Amend(_) => None,
        };
        let (lane, id, asked_at) = (entry.lane, entry.id, entry.asked_at);
        self.resolved.push_back(Resolved { client, lane, id, made_here, terms, asked_at, outcome });
    }

    /// The end of an entry that does not gather any more: its client is told. What it holds is the caller's to give back.
    pub(super) fn end(&mut self, key: usize, outcome: Outcome) -> Entry<C> {
        self.resolve(key, outcome);
        self.entries.remove(key)
    }

    /// The next request that came to its end.
    pub(super) fn poll_resolved(&mut self) -> Option<Resolved<C>> {
        self.resolved.pop_front()
    }

    /// All entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<C>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// Takes all entries out, untold.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry<C>> + '_ {
        self.entries.drain()
    }

    /// Panics if it contradicts itself, or the calls that are `travelling` with entries.
    pub(super) fn check_invariants<'a>(
        &self,
        travelling: impl Iterator<Item = (LaneIndex, CallKind, &'a [usize])>,
    ) {
        let mut placed = rustc_hash::FxHashSet::default();
        for (lane, kind, keys) in travelling {
            for &key in keys {
                let entry = &self.entries[key];
                assert!(entry.is_sent && placed.insert(key), "an entry travels once");
                assert_eq!((entry.lane, entry.kind.call_kind()), (lane, kind));
            }
        }
        for (lane, gathering) in self.gathering.iter() {
            assert_eq!(gathering.is_listed, self.ready.contains(&lane));
            for kind in CALL_KINDS {
                for &key in &gathering.keys[kind as usize] {
                    let entry = &self.entries[key];
                    assert!(!entry.is_sent && placed.insert(key), "an entry waits in one place");
                    assert_eq!((entry.lane, entry.kind.call_kind()), (lane, kind));
                    assert!(gathering.is_listed, "what waits to be sent will be");
                }
            }
        }
        assert_eq!(placed.len(), self.entries.len(), "every entry is somewhere");
        for (key, entry) in &self.entries {
            let waits =
                || self.deadlines.iter().any(|&(_, other, serial)| (other, serial) == (key, entry.serial));
            assert!(entry.client.is_none() || waits(), "a client that waits has a deadline");
        }
    }
}

impl<C> Index<usize> for Batches<C> {
    type Output = Entry<C>;

    fn index(&self, key: usize) -> &Entry<C> {
        &self.entries[key]
    }
}

impl<C> IndexMut<usize> for Batches<C> {
    fn index_mut(&mut self, key: usize) -> &mut Entry<C> {
        &mut self.entries[key]
    }
}

impl<C> Entry<C> {
    fn claim(&self) -> Claim {
        match self.kind {
            EntryKind::Reserve { quantity, buyer, .. } => Claim { id: self.id, quantity, buyer },
            _ => unreachable!("only reservations travel in a reserve call"),
        }
    }

    fn cancel(&self) -> Cancel {
        let tombstone = matches!(self.kind, EntryKind::Cancel { tombstone: true } | EntryKind::CancelOrphan);
        Cancel { id: self.id, tombstone }
    }

    fn amendment(&self) -> (BookingId, Amendment) {
        match self.kind {
            EntryKind::Amend(amendment) => (self.id, amendment),
            _ => unreachable!("only amendments travel in an amend call"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const LANE: LaneIndex = LaneIndex(0);

    fn id(text: &str) -> BookingId {
        BookingId::parse(text).unwrap()
    }

    fn batches() -> Batches<u32> {
        let mut batches = Batches::new(100);
        batches.add_lane();
        batches
    }

    fn call(batches: &mut Batches<u32>, kind: CallKind, keys: &[usize]) -> Call {
        batches.seal(kind, keys, SaleName::parse("ticket").unwrap(), Watermark::default())
    }

    #[test]
    fn what_gathers_is_taken_by_kind_and_told_once() {
        let mut batches = batches();
        for (client, kind) in [(1, EntryKind::Confirm), (2, EntryKind::LookUp), (3, EntryKind::Confirm)] {
            batches.push(Some(client), LANE, id(&format!("b-{client}")), false, kind, Monotonic(0));
            batches.check_invariants(std::iter::empty());
        }
        assert_eq!(batches.take_ready(), [LANE]);
        let confirms = batches.take_gathered(LANE, CallKind::Confirm);
        let looks = batches.take_gathered(LANE, CallKind::LookUp);
        assert_eq!((confirms.len(), looks.len(), batches.is_empty(LANE)), (2, 1, true));
        assert_eq!(call(&mut batches, CallKind::Confirm, &confirms).entries(), 2);
        assert_eq!(call(&mut batches, CallKind::LookUp, &looks).entries(), 1);
        let travelling = [(LANE, CallKind::Confirm, &confirms[..]), (LANE, CallKind::LookUp, &looks[..])];
        batches.check_invariants(travelling.into_iter());
        batches.resolve(looks[0], Outcome::Refused(Refusal::LedgerUnavailable));
        for key in [looks[0], confirms[1], confirms[0]] {
            batches.end(key, Outcome::Refused(Refusal::NoSuchBooking));
        }
        let told: Vec<_> = std::iter::from_fn(|| batches.poll_resolved())
            .map(|resolved| (resolved.client, resolved.outcome))
            .collect();
        let none = Outcome::Refused(Refusal::NoSuchBooking);
        assert_eq!(told, [(2, Outcome::Refused(Refusal::LedgerUnavailable)), (3, none.clone()), (1, none)]);
        batches.check_invariants(std::iter::empty());
        assert_eq!(batches.len(), 0);
    }

    #[test]
    fn overdue_are_those_whose_client_still_waits_by_whether_they_left() {
        let mut batches = batches();
        for (client, at) in [(Some(1), 0), (Some(2), 1), (None, 2), (Some(3), 3)] {
            let kind = if client.is_some() { EntryKind::Confirm } else { EntryKind::CancelOrphan };
            batches.push(client, LANE, id("b"), false, kind, Monotonic(at));
        }
        let deadline = Monotonic(0).plus_ms(100);
        assert_eq!(batches.next_deadline(), Some(deadline));
        let ready = batches.take_ready();
        let mut gathered = batches.take_gathered(LANE, CallKind::Confirm);
        let unsent = gathered.split_off(1);
        call(&mut batches, CallKind::Confirm, &gathered);
        // Two stay: one whose time comes, and one whose time does not yet.
        for &key in &unsent {
            batches.gathering[LANE].keys[CallKind::Confirm as usize].push(key);
        }
        batches.gathering[LANE].is_listed = true;
        batches.hold_back(ready);
        let overdue = batches.take_overdue(Monotonic(deadline.0 + 1));
        assert_eq!((&overdue.sent, &overdue.unsent), (&gathered, &unsent[..1].to_vec()));
        let again = batches.take_overdue(Monotonic(deadline.0 + 1));
        assert!(again.sent.is_empty() && again.unsent.is_empty(), "each once");
        batches.resolve(overdue.sent[0], Outcome::Refused(Refusal::OutcomeUnknown));
        batches.end(overdue.unsent[0], Outcome::Refused(Refusal::LedgerUnavailable));
        batches.check_invariants([(LANE, CallKind::Confirm, &gathered[..])].into_iter());
    }

    #[test]
    fn the_desks_own_cancellations_are_taken_and_those_of_clients_stay() {
        let mut batches = batches();
        batches.push(Some(1), LANE, id("theirs"), false, EntryKind::Cancel { tombstone: true }, Monotonic(0));
        batches.push(None, LANE, id("own"), true, EntryKind::CancelOrphan, Monotonic(0));
        let own = batches.take_own(LANE);
        assert_eq!(own.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id("own")]);
        batches.check_invariants(std::iter::empty());
        let keys = batches.take_gathered(LANE, CallKind::Cancel);
        batches.take_ready();
        let Call::Bookings { op: BookingOp::Cancel(cancels), .. } =
            call(&mut batches, CallKind::Cancel, &keys)
        else {
            panic!()
        };
        assert_eq!(cancels, [Cancel { id: id("theirs"), tombstone: true }]);
    }
}
