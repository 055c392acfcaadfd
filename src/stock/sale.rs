//! One sale on this host: its gate, its shards, and the last reading of the ledger.

use std::sync::Arc;
// Not loom's: it says how old figures are, and decides nothing.
use std::sync::atomic::AtomicBool;

use crossbeam::utils::CachePadded;

use super::board::PermitsPerTicket;
use super::gate::Front;
use super::granted::GrantedIds;
use super::in_flight::IdsInFlight;
use super::shard::Shard;
use super::sync::{AtomicU64, Mutex, Ordering, lock};
use super::watermark::SharedWatermark;
use super::{CoreIndex, Gate, Permits, Settlement, ShardTotals};
use crate::booking::{BookingId, Quantity, SaleName, SaleState};
use crate::clock::WallTime;
use crate::protocol::Watermark;

/// One sale on this host, shared by all cores. [`take`](SaleBoard::take), [`gate`](SaleBoard::gate) and
/// [`settle`](SaleBoard::settle) neither lock nor allocate; a refusal only reads.
pub struct SaleBoard {
    name: SaleName,
    front: CachePadded<Front>,
    shards: Box<[CachePadded<Shard>]>,
    permits_per_ticket: Arc<PermitsPerTicket>,
    level: Mutex<Level>,
    granted: GrantedIds,
    in_flight: IdsInFlight,
    seen: SharedWatermark,
    /// Whether it is still as its level says, as far as its reader has heard of announcements.
    quiet: AtomicBool,
    /// The sequence up to which `granted` has every id of the ledger's log.
    followed: AtomicU64,
    /// The sequence at which the sale last stopped selling (sold out, or off sale); what was granted before is in the
    /// log up to there. `SELLING` while it sells.
    stopped_at: AtomicU64,
    /// An operator has removed it.
    removed: AtomicBool,
}

/// Where a reading comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// The answer to a batch.
    Reply,
    /// A question about the state of the sale, on any connection.
    Question,
    /// The periodic sync: one core, which asks again only once it has been answered.
    Sync,
}

/// No sequence.
const SELLING: u64 = u64::MAX;

/// Why a booking gets no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dry {
    /// The ledger has fewer tickets than that, or this host asks for all that it has.
    SoldOut,
    /// The ledger has more tickets than this host has asked for: they are other hosts' to sell, and its own with the next
    /// answers.
    Elsewhere,
}

/// What a host knows of an id, of a sale that does not sell now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It was never granted.
    Absent,
    /// It was granted, or this host cannot tell (yet): ask the ledger.
    MaybePresent,
}

/// The last reading of the ledger, and the right to deal: permits are issued and withdrawn only under this lock, so that
/// two readings never both fill the same gap.
struct Level {
    /// `None` if the ledger has no such sale.
    state: Option<SaleState>,
    dealt: Dealt,
    /// The last sync brought what looks older than what is known, and nothing was learnt since.
    doubted: bool,
    /// What is wrong with the ledger's record of it.
    unsound: Option<String>,
    /// The ledger has another sale of this name than the one that this host knew, opened by a host when it started.
    stranger: bool,
    /// Where the next deal starts, so that odd permits go round.
    next_shard: usize,
}

/// Permits ever issued to and withdrawn from the shards of a sale. `issued - withdrawn` less those spent and refused
/// are outstanding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dealt {
    /// Permits ever issued.
    pub issued: u64,
    /// Permits ever taken back while free.
    pub withdrawn: u64,
}

impl SaleBoard {
    pub(super) fn new(
        name: SaleName,
        cores: usize,
        permits_per_ticket: Arc<PermitsPerTicket>,
        hash_key: (u64, u64),
    ) -> SaleBoard {
        SaleBoard {
            name,
            front: CachePadded::new(Front::new()),
            shards: (0..cores).map(|_| CachePadded::new(Shard::new())).collect(),
            permits_per_ticket,
            level: Mutex::new(Level {
                state: None,
                dealt: Dealt::default(),
                doubted: false,
                unsound: None,
                stranger: false,
                next_shard: 0,
            }),
            granted: GrantedIds::new(hash_key),
            in_flight: IdsInFlight::new(hash_key),
            seen: SharedWatermark::default(),
            quiet: AtomicBool::new(false),
            followed: AtomicU64::new(0),
            stopped_at: AtomicU64::new(SELLING),
            removed: AtomicBool::new(false),
        }
    }

    /// Marks a client's id as waiting for the ledger; `false` if it already is, on any core of this host.
    pub fn begin(&self, id: &BookingId) -> bool {
        self.in_flight.begin(id)
    }

    /// The id no longer waits.
    pub fn end(&self, id: &BookingId) {
        self.in_flight.end(id);
    }

    /// Whether the id waits for the ledger on this host. Locks only if some client id does.
    pub fn is_in_flight(&self, id: &BookingId) -> bool {
        self.in_flight.contains(id)
    }

    /// Notes that all of these were granted just now, before anybody is told.
    pub fn note_all_granted<'i>(&self, ids: impl Iterator<Item = &'i BookingId>) {
        self.granted.insert_all_new(ids);
    }

    /// How many ids wait for the ledger on this host. For tests and the simulator.
    pub fn ids_in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Notes that an id was granted: just now, or (`replayed`) at some time before.
    pub fn note_granted(&self, id: &BookingId, replayed: bool) {
        match replayed {
            true => self.granted.insert(id),
            false => self.granted.insert_new(id),
        }
    }

    /// Notes ids granted, from the log after `after`, as [`follow_from`](SaleBoard::follow_from) said, up to `sequence`,
    /// without a gap.
    pub fn note_log<'i>(&self, after: u64, sequence: u64, granted: impl Iterator<Item = &'i BookingId>) {
        granted.for_each(|id| self.granted.insert(id));
        // Release: pairs with the Acquire in `membership`, which must see these ids once it sees the sequence. If the log
        // was begun anew meanwhile, this page was of the old one and proves nothing: Relaxed.
        let _ = self.followed.compare_exchange(after, sequence, Ordering::Release, Ordering::Relaxed);
    }

    /// The log must be read from its start again: the ledger may have forgotten some of it and written it anew.
    pub fn forget_log(&self) {
        // Relaxed: ids that are known stay known; until the log is read, unknown ones are the ledger's to judge.
        self.followed.store(0, Ordering::Relaxed);
    }

    /// The sequence after which the log is to be read next; `None` if nothing of it is needed now.
    pub fn follow_from(&self) -> Option<u64> {
        // Relaxed: hints of when to read on; a core that is late reads at the next sync.
        let followed = self.followed.load(Ordering::Relaxed);
        let stopped_at = self.stopped_at.load(Ordering::Relaxed);
        (stopped_at != SELLING && followed < stopped_at).then_some(followed)
    }

    /// What this host knows of an id, from memory and without a lock. Ids that another host granted since the last sync,
    /// from stock that came back since then, may be missing.
    pub fn membership(&self, id: &BookingId) -> Membership {
        // Acquire: pairs with `note_log`. `stopped_at` is Relaxed: an older one was true a moment ago.
        let followed = self.followed.load(Ordering::Acquire);
        let complete = followed >= self.stopped_at.load(Ordering::Relaxed);
        match complete && !self.granted.contains(id) {
            true => Membership::Absent,
            false => Membership::MaybePresent,
        }
    }

    /// The most that any core has seen of this sale. A ledger that knows less has forgotten something; also one that comes
    /// back after it was [missing](SaleBoard::mark_missing).
    pub fn seen(&self) -> Watermark {
        self.seen.get()
    }

    /// The sale's name.
    pub fn name(&self) -> &SaleName {
        &self.name
    }

    /// Whether it is open at the ledger's time `now`, as far as this host knows. The ledger has the last word.
    pub fn gate(&self, now: WallTime) -> Gate {
        self.front.gate(now)
    }

    /// What the ledger had left at its last reading, in tickets.
    pub fn available(&self) -> u64 {
        self.front.available()
    }

    /// The last reading of the sale (`now` in it says when, by the ledger's clock); `None` if the ledger has no such sale.
    /// Locks: for the few that ask for the state of a sale, never on the way of a booking.
    pub fn level(&self) -> Option<SaleState> {
        lock(&self.level).state.clone()
    }

    /// Says whether nothing has changed since the level was read, as far as was announced. Only called by its reader.
    pub fn set_quiet(&self, quiet: bool) {
        // Release: whoever sees it finds the level that it is about.
        self.quiet.store(quiet, std::sync::atomic::Ordering::Release);
    }

    /// See [`set_quiet`](SaleBoard::set_quiet).
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Takes permits for a booking of `quantity` tickets: from the core's own shard, then from its siblings', beginning
    /// with the next. One for each ticket, or all that are free but at least one (this host's share may be smaller than
    /// what the ledger has left, and the ledger decides).
    ///
    /// # Errors
    /// If no permit is free, or if the last reading had fewer tickets than that.
    ///
    /// # Panics
    /// If the board has no such core.
    pub fn take(&self, core: CoreIndex, quantity: Quantity) -> Result<Permits, Dry> {
        let wanted = u64::from(quantity.get());
        if wanted > self.front.available() {
            return Err(Dry::SoldOut);
        }
        let cover = self.front.cover();
        let own = &self.shards[core.0];
        let mut count = own.remove_free(wanted);
        if count < wanted {
            for sibling in self.shards[core.0 + 1..].iter().chain(&self.shards[..core.0]) {
                let stolen = sibling.remove_free(wanted - count);
                if stolen > 0 {
                    own.count_steal();
                    count += stolen;
                    if count == wanted {
                        break;
                    }
                }
            }
        }
        if count == 0 {
            return Err(match self.front.was_covered(cover) {
                true => Dry::SoldOut,
                false => Dry::Elsewhere,
            });
        }
        own.add_taken(count);
        Ok(Permits::new(core, count))
    }

    /// Ends permits by the rule of [`Settlement`], on any core. Settle all that a reply decides before
    /// [`learn`](SaleBoard::learn)ing from it: `available` no longer has the granted tickets.
    ///
    /// # Panics
    /// If they were taken from another sale.
    pub fn settle(&self, permits: Permits, settlement: Settlement) {
        let shard = &self.shards[permits.core().0];
        let count = permits.resolve();
        shard.remove_taken(count);
        match settlement {
            Settlement::Spent | Settlement::Refused => shard.count_ended(count),
            Settlement::Returned => shard.add_free(count),
        }
    }

    /// Takes in a reading that came with a reply, and brings the permits outstanding (free and taken) to
    /// `ceil(available * share * (1 + buffer))`. Readings may come late, in any order, from any core: one that is
    /// older than what is known changes nothing of it, but still evens out the permits.
    ///
    /// Does nothing, and returns `false`, if another core is busy with it, since a loop must not wait for it. The sync
    /// reads what changed; [`deal_anew`](SaleBoard::deal_anew) corrects the permits later.
    pub fn learn(&self, reading: &SaleState) -> bool {
        match self.level.try_lock() {
            Ok(mut level) => {
                self.take_in(&mut level, reading, Reader::Reply);
                true
            }
            Err(_) => false,
        }
    }

    /// Evens out the permits by what is known.
    pub fn deal_anew(&self) {
        self.deal(&mut lock(&self.level));
    }

    /// Like [`learn`](SaleBoard::learn), but waits for its turn. For the few that ask for the state of the sale.
    pub fn learn_waiting(&self, reading: &SaleState) {
        self.take_in(&mut lock(&self.level), reading, Reader::Question);
    }

    /// Like [`learn_waiting`](SaleBoard::learn_waiting), only for the periodic sync. What looks older than what is known is
    /// believed the second time in a row: it was asked for after the first time, and so after all that is known. Otherwise
    /// a ledger that has lost its memory, and whose clock went back as well, could not be told from a late reading. Returns
    /// whether it was believed: if not, it must be asked for again.
    pub fn learn_synced(&self, reading: &SaleState) -> bool {
        let mut level = lock(&self.level);
        self.take_in(&mut level, reading, Reader::Sync);
        !level.doubted
    }

    /// The ledger says that it has no such sale: free permits are withdrawn and the gate says so, until the next reading;
    /// that one is believed whatever its sequence, since it may be another sale of the same name.
    pub fn mark_missing(&self) {
        let mut level = lock(&self.level);
        (level.unsound, level.stranger) = (None, false);
        self.lose(&mut level);
    }

    /// Nothing can be sold of it until a reading is believed.
    fn lose(&self, level: &mut Level) {
        level.state = None;
        // If a sale of this name comes back, its log is another one.
        self.followed.store(0, Ordering::Relaxed);
        self.stopped_at.store(SELLING, Ordering::Relaxed);
        self.front.show_missing();
        self.deal(level);
    }

    /// Whether the ledger last said that it has no such sale.
    pub fn is_missing(&self) -> bool {
        let level = lock(&self.level);
        level.state.is_none() && level.unsound.is_none()
    }

    /// The ledger's record of the sale is not sound, and why: free permits are withdrawn and the gate says so, until the
    /// next reading.
    pub fn mark_unsound(&self, why: &str) {
        let mut level = lock(&self.level);
        level.unsound = Some(why.to_owned());
        self.front.show_unsound();
        self.deal(&mut level);
    }

    /// See [`mark_unsound`](SaleBoard::mark_unsound).
    pub fn unsound(&self) -> Option<String> {
        lock(&self.level).unsound.clone()
    }

    /// Whether the ledger has another sale of this name than the one that this host has seen, opened by some host when it
    /// started: the ledger had lost the one that was seen. Nothing is sold of it until an operator changes its terms or its
    /// status.
    pub fn is_stranger(&self) -> bool {
        lock(&self.level).stranger
    }

    /// This host knows of the sale from what it noted before it started.
    pub(super) fn note_former(&self, opened: u64) {
        let _writing = lock(&self.level);
        self.seen.note_former(opened);
    }

    /// The sale that this host has seen was removed on purpose: the next one of its name is as good as any.
    pub fn forget_former(&self) {
        let mut level = lock(&self.level);
        level.stranger = false;
        self.seen.forget();
    }

    /// An operator has removed it.
    pub(super) fn mark_removed(&self) {
        // Release: pairs with `is_removed`; the directory that is without it is handed over under its lock.
        self.removed.store(true, std::sync::atomic::Ordering::Release);
    }

    /// Whether an operator has removed it: its lane on a desk is of no more use.
    pub fn is_removed(&self) -> bool {
        self.removed.load(std::sync::atomic::Ordering::Acquire)
    }

    /// What each core's shard counts, in the order of the cores. Read one by one: a sum may be off by what moves.
    pub fn totals(&self) -> impl Iterator<Item = ShardTotals> + '_ {
        self.shards.iter().map(|shard| shard.totals())
    }

    /// Permits ever issued and withdrawn.
    pub fn dealt(&self) -> Dealt {
        lock(&self.level).dealt
    }

    /// Keeps `stopped_at`, up to which the log must be read before an unknown id may be refused from memory.
    ///
    /// Only the sync moves it on while the sale does not sell. If stock came back and was granted again on another host,
    /// perhaps only the sequence in a reading shows it, and the sync reads the log right behind it. Replies, which may come
    /// thousands a second while buyers pay, would keep the log unread all the time.
    fn note_stop(&self, known: Option<&SaleState>, reading: &SaleState, reader: Reader) {
        // Relaxed, all: written under the lock of the level; readers take them as hints.
        if known.is_some_and(|known| reading.sequence < known.sequence) {
            // The ledger has forgotten some of its log, and writes it anew.
            self.followed.store(0, Ordering::Relaxed);
        }
        let sells = reading.available() > 0 && reading.on_sale(reading.now);
        let stopped_at = self.stopped_at.load(Ordering::Relaxed);
        if sells {
            self.stopped_at.store(SELLING, Ordering::Relaxed);
        } else if stopped_at == SELLING || reader != Reader::Reply {
            self.stopped_at.store(reading.sequence, Ordering::Relaxed);
        }
    }

    fn take_in(&self, level: &mut Level, reading: &SaleState, reader: Reader) {
        let older = level.state.as_ref().is_some_and(|known| is_older(reading, known));
        let late = older && !(reader == Reader::Sync && level.doubted);
        let seen = self.seen.get().opened;
        if !late && seen != 0 && seen != reading.opened && reading.is_unattended() {
            (level.unsound, level.stranger, level.doubted) = (None, true, false);
            self.lose(level);
            return;
        }
        self.seen.note(reading, late);
        if !late {
            self.front.show(reading);
            self.note_stop(level.state.as_ref(), reading, reader);
            level.state = Some(reading.clone());
            (level.doubted, level.stranger, level.unsound) = (false, false, None);
        } else if reader == Reader::Sync {
            level.doubted = true;
        }
        // Even after an older reading: the permits of its reply were settled just before, and the newer reading that
        // overtook it counted them as outstanding.
        self.deal(level);
    }

    /// Brings the permits outstanding to their target. An entry in flight may be in the reading or not; it counts as not,
    /// so that at most the entries in flight are issued too few, until their replies come.
    ///
    /// What is outstanding is computed from what was issued, withdrawn and ended. The sum of what is free and taken would
    /// not do: a permit that is given back between the two readings is counted twice, one too few is issued, and if the
    /// sale is not read any more (a quiet one is not) that is a "sold out" with a ticket left.
    fn deal(&self, level: &mut Level) {
        let available = match (&level.state, &level.unsound) {
            (Some(state), None) => state.available(),
            _ => 0,
        };
        let target = self.permits_per_ticket.target(available);
        let ended: u64 = self.shards.iter().map(|shard| shard.ended()).sum();
        // The lock of the level shows all that was issued, and none ends before that.
        let outstanding = (level.dealt.issued - level.dealt.withdrawn)
            .checked_sub(ended)
            .expect("no permit ends that was not issued");
        // Who finds no permit free may then say "sold out": as many are with the ledger as it has tickets.
        let is_whole = target >= available;
        if target != outstanding || !is_whole {
            self.front.set_cover(false);
        }
        if target > outstanding {
            self.top_up(level, target - outstanding);
        } else if target < outstanding {
            self.shrink(level, outstanding - target);
        }
        self.front.set_cover(is_whole);
        level.next_shard = (level.next_shard + 1) % self.shards.len();
    }

    /// Issues `missing` permits so that every shard ends near its part of those that are free.
    fn top_up(&self, level: &mut Level, missing: u64) {
        let part = (self.free() + missing).div_ceil(self.shards.len() as u64);
        let mut left = missing;
        for shard in self.shards_from(level.next_shard) {
            let count = part.saturating_sub(shard.free()).min(left);
            if count > 0 {
                shard.add_free(count);
                left -= count;
            }
        }
        // Some were given back meanwhile, so a shard has its part already.
        if left > 0 {
            self.shards[level.next_shard].add_free(left);
        }
        level.dealt.issued += missing;
    }

    /// Withdraws up to `excess` free permits so that every shard ends near its part of those that stay free. What bookings
    /// take meanwhile can no longer be withdrawn.
    fn shrink(&self, level: &mut Level, excess: u64) {
        let part = self.free().saturating_sub(excess) / self.shards.len() as u64;
        let mut left = excess;
        for shard in self.shards_from(level.next_shard) {
            let count = shard.remove_free(shard.free().saturating_sub(part).min(left));
            level.dealt.withdrawn += count;
            left -= count;
        }
    }

    /// Permits that are free, read one shard after the other: good for spreading them, not for counting.
    fn free(&self) -> u64 {
        self.shards.iter().map(|shard| shard.free()).sum()
    }

    fn shards_from(&self, first: usize) -> impl Iterator<Item = &CachePadded<Shard>> {
        self.shards[first..].iter().chain(&self.shards[..first])
    }
}

/// Whether `reading` was made before `known`: an older sale, lineage, version or sequence, and no later clock. A ledger
/// that has less at a later time has lost its memory (restored, emptied, or failed over to a replica that lagged); what it
/// says now is the truth, and a host that waited for the old sequence would be blind until the new one caught up.
fn is_older(reading: &SaleState, known: &SaleState) -> bool {
    let place = |state: &SaleState| (state.opened, state.lineage, state.version, state.sequence);
    place(reading) < place(known) && reading.now <= known.now
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::booking::SaleStatus;

    const BUFFER: f64 = 0.5;

    fn board(cores: usize) -> SaleBoard {
        let permits_per_ticket = Arc::new(PermitsPerTicket::new(1.0, BUFFER));
        SaleBoard::new(SaleName::parse("ticket").unwrap(), cores, permits_per_ticket, (0, 0))
    }

    fn state(available: u64, sequence: u64) -> SaleState {
        let mut state = SaleState { version: 1, sequence, now: WallTime(sequence), ..SaleState::default() };
        state.terms.total = available;
        state
    }

    fn quantity(tickets: u64) -> Quantity {
        Quantity::new(tickets).unwrap()
    }

    fn free(board: &SaleBoard) -> Vec<u64> {
        board.totals().map(|totals| totals.free).collect()
    }

    #[test]
    fn what_is_not_sound_is_not_missing_though_it_was_never_read() {
        let board = board(1);
        board.mark_unsound("why");
        assert_eq!((board.is_missing(), board.gate(WallTime(0))), (false, Gate::Unsound));
        assert_eq!(board.unsound().as_deref(), Some("why"));
        board.mark_missing();
        assert_eq!((board.is_missing(), board.gate(WallTime(0))), (true, Gate::Missing));
        assert_eq!(board.unsound(), None);
    }

    #[test]
    fn knows_nothing_before_the_first_reading() {
        let board = board(2);
        assert_eq!(board.gate(WallTime(0)), Gate::Missing);
        assert_eq!(board.level(), None);
        assert!(board.take(CoreIndex(0), Quantity::ONE).is_err());
    }

    #[test]
    fn deals_evenly_and_gives_the_odd_permit_to_one() {
        let board = board(3);
        board.learn(&state(9, 1));
        assert_eq!(free(&board).iter().sum::<u64>(), 14);
        assert!(free(&board).iter().all(|count| (4..=5).contains(count)), "{:?}", free(&board));
        board.learn(&state(2, 2));
        assert_eq!(free(&board), [1, 1, 1]);
        board.learn(&state(0, 3));
        assert_eq!(free(&board), [0, 0, 0]);
        board.learn(&state(1, 4));
        assert_eq!(free(&board).iter().sum::<u64>(), 2);
    }

    #[test]
    fn takes_its_own_then_its_siblings_then_none() {
        let board = board(3);
        board.learn(&state(2, 1));
        assert_eq!(free(&board), [1, 1, 1]);
        let mut permits = VecDeque::new();
        for left in [[1, 0, 1], [1, 0, 0], [0, 0, 0]] {
            permits.push_back(board.take(CoreIndex(1), Quantity::ONE).unwrap());
            assert_eq!(free(&board), left);
        }
        assert!(board.take(CoreIndex(1), Quantity::ONE).is_err());
        let core = board.totals().nth(1).unwrap();
        assert_eq!((core.taken, core.steals), (3, 2));
        board.settle(permits.pop_front().unwrap(), Settlement::Returned);
        assert_eq!(free(&board), [0, 1, 0]);
        board.settle(permits.pop_front().unwrap(), Settlement::Spent);
        board.settle(permits.pop_front().unwrap(), Settlement::Refused);
        assert_eq!(free(&board), [0, 1, 0]);
        assert_eq!(board.totals().map(|totals| totals.taken).sum::<u64>(), 0);
    }

    #[test]
    fn a_group_takes_what_is_free_but_not_more_than_the_ledger_has() {
        let board = board(2);
        board.learn(&state(4, 1));
        let first = board.take(CoreIndex(0), quantity(4)).unwrap();
        assert_eq!(first.count(), 4);
        let second = board.take(CoreIndex(0), quantity(4)).unwrap();
        assert_eq!(second.count(), 2);
        assert!(board.take(CoreIndex(0), Quantity::ONE).is_err());
        board.settle(first, Settlement::Returned);
        assert!(board.take(CoreIndex(0), quantity(5)).is_err());
        board.settle(second, Settlement::Returned);
    }

    #[test]
    fn a_late_reading_changes_nothing_known_but_repairs_the_permits() {
        let board = board(1);
        board.learn(&state(4, 10));
        let permits = board.take(CoreIndex(0), quantity(4)).unwrap();
        // The booking is in this reading already, yet its permits are still out: too few are free.
        board.learn(&state(4, 20));
        assert_eq!(free(&board), [2]);
        board.settle(permits, Settlement::Spent);
        board.learn(&state(9, 15));
        assert_eq!(board.level().unwrap(), state(4, 20));
        assert_eq!((board.available(), free(&board)), (4, vec![6]));
    }

    #[test]
    fn a_ledger_that_lost_its_memory_is_believed() {
        let board = board(1);
        board.learn(&state(0, 1000));
        let mut restored = state(7, 3);
        restored.now = WallTime(1001);
        board.learn(&restored);
        assert_eq!(board.available(), 7);
    }

    #[test]
    fn a_ledger_that_lost_its_memory_and_its_time_is_believed_by_the_second_sync() {
        let board = board(1);
        let known = SaleState { opened: 900, lineage: 900, ..state(0, 1000) };
        let back = SaleState { opened: 5, lineage: 5, by_operator: true, ..state(7, 10) };
        board.learn_synced(&known);
        board.learn_synced(&back);
        assert_eq!(board.available(), 0, "it may be late");
        // Something was learnt in between: the first one was late.
        board.learn(&SaleState { now: WallTime(1001), ..known });
        board.learn_synced(&back);
        board.learn_waiting(&back);
        board.learn(&back);
        assert_eq!((board.available(), board.seen().opened), (0, 900));
        board.learn_synced(&back);
        assert_eq!((board.available(), board.seen().opened), (7, 5));
    }

    #[test]
    fn two_syncs_in_a_row_are_believed_and_one_behind_late_answers_is_not() {
        let known = SaleState { opened: 900, lineage: 900, ..state(0, 1000) };
        let back = SaleState { opened: 5, lineage: 5, by_operator: true, ..state(7, 10) };
        let synced = board(1);
        synced.learn_synced(&known);
        synced.learn_synced(&back);
        synced.learn_synced(&back);
        assert_eq!((synced.available(), synced.seen().opened), (7, 5));
        let answered = board(1);
        answered.learn_synced(&known);
        answered.learn(&back);
        answered.learn_waiting(&back);
        answered.learn_synced(&back);
        assert_eq!((answered.available(), answered.seen().opened), (0, 900));
    }

    fn id(text: &str) -> BookingId {
        BookingId::parse(text).unwrap()
    }

    /// A board of a sale that sold out at sequence 10, and whose log is read up to there: all other ids are new.
    fn followed() -> SaleBoard {
        let board = board(1);
        board.learn(&state(0, 10));
        assert_eq!((board.follow_from(), board.membership(&id("new"))), (Some(0), Membership::MaybePresent));
        board.note_log(0, 10, [id("granted")].iter());
        assert_eq!((board.follow_from(), board.membership(&id("new"))), (None, Membership::Absent));
        assert_eq!(board.membership(&id("granted")), Membership::MaybePresent);
        board
    }

    #[test]
    fn of_a_sale_that_comes_back_no_id_is_known_to_be_new() {
        let board = followed();
        board.mark_missing();
        // Another sale of that name, sold out on other hosts, whose log was never read here.
        board.learn(&SaleState { opened: 20, lineage: 20, now: WallTime(20), ..state(0, 7) });
        assert_eq!(
            (board.membership(&id("theirs")), board.follow_from()),
            (Membership::MaybePresent, Some(0))
        );
    }

    #[test]
    fn of_a_ledger_that_lost_some_of_its_log_no_id_is_known_to_be_new() {
        let board = followed();
        board.learn(&SaleState { now: WallTime(20), ..state(0, 8) });
        assert_eq!(
            (board.membership(&id("again")), board.follow_from()),
            (Membership::MaybePresent, Some(0))
        );
        assert_eq!(board.membership(&id("granted")), Membership::MaybePresent, "what is known stays known");
    }

    #[test]
    fn a_page_of_a_log_that_was_begun_anew_meanwhile_proves_nothing() {
        let board = board(1);
        board.learn(&state(0, 10));
        board.note_log(0, 4, [].iter());
        assert_eq!(board.follow_from(), Some(4));
        // The page after 4 is on its way.
        board.forget_log();
        board.note_log(4, 10, [id("old")].iter());
        assert_eq!((board.follow_from(), board.membership(&id("new"))), (Some(0), Membership::MaybePresent));
    }

    #[test]
    fn only_the_sync_has_more_of_the_log_read_while_nothing_is_sold() {
        let board = followed();
        // As the replies to those who pay, thousands a second.
        board.learn(&state(0, 12));
        assert_eq!((board.follow_from(), board.membership(&id("new"))), (None, Membership::Absent));
        board.learn_synced(&state(0, 12));
        assert_eq!((board.follow_from(), board.membership(&id("new"))), (Some(10), Membership::MaybePresent));
        board.learn(&state(1, 13));
        assert_eq!(board.follow_from(), None, "it sells");
    }

    #[test]
    fn missing_is_not_sold_out_and_ends_with_any_reading() {
        let board = board(2);
        board.learn(&state(5, 100));
        board.mark_missing();
        assert_eq!(board.gate(WallTime(0)), Gate::Missing);
        assert_eq!((board.is_missing(), board.level(), free(&board)), (true, None, vec![0, 0]));
        assert!(board.take(CoreIndex(0), Quantity::ONE).is_err());
        board.learn(&state(1, 1));
        assert_eq!(board.gate(WallTime(0)), Gate::Open);
        assert_eq!(free(&board).iter().sum::<u64>(), 2);
    }

    #[test]
    fn a_missed_try_is_made_up_by_the_next_reading() {
        let board = board(1);
        board.learn(&state(5, 1));
        {
            let _held = board.level.lock().unwrap();
            board.learn(&state(0, 2));
        }
        assert_eq!(board.available(), 5);
        board.learn_waiting(&state(0, 2));
        assert_eq!((board.available(), free(&board)), (0, vec![0]));
    }

    #[test]
    fn a_changed_share_takes_effect_with_the_next_reading() {
        let permits_per_ticket = Arc::new(PermitsPerTicket::new(1.0, 0.0));
        let board = SaleBoard::new(SaleName::parse("ticket").unwrap(), 2, permits_per_ticket.clone(), (0, 0));
        board.learn(&state(100, 1));
        permits_per_ticket.set_share(0.25);
        board.learn(&state(100, 1));
        assert_eq!(free(&board).iter().sum::<u64>(), 25);
    }

    #[test]
    #[should_panic(expected = "permits settled where")]
    fn permits_of_another_sale_are_refused_loudly() {
        let (one, other) = (board(1), board(1));
        one.learn(&state(1, 1));
        let permits = one.take(CoreIndex(0), Quantity::ONE).unwrap();
        other.settle(permits, Settlement::Returned);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take { core: usize, quantity: u64 },
        Settle { which: usize, settlement: Settlement },
        Learn { available: u64, late: u64, status: SaleStatus },
        Missing,
    }

    fn step() -> impl Strategy<Value = Step> {
        let settlement =
            prop_oneof![Just(Settlement::Spent), Just(Settlement::Refused), Just(Settlement::Returned)];
        let status = prop_oneof![3 => Just(SaleStatus::Open), 1 => Just(SaleStatus::Paused)];
        prop_oneof![
            6 => (0..4usize, 1..6u64).prop_map(|(core, quantity)| Step::Take { core, quantity }),
            5 => (any::<usize>(), settlement).prop_map(|(which, settlement)| Step::Settle { which, settlement }),
            3 => (0..20u64, 0..3u64, status)
                .prop_map(|(available, late, status)| Step::Learn { available, late, status }),
            1 => Just(Step::Missing),
        ]
    }

    /// The permits of a sale, told without cores or atomics.
    #[derive(Default)]
    struct Model {
        free: u64,
        taken: u64,
        ended: u64,
        sequence: u64,
        available: u64,
        missing: bool,
    }

    impl Model {
        fn deal(&mut self) {
            let target = (self.available as f64 * (1.0 + BUFFER)).ceil() as u64;
            self.free = target.saturating_sub(self.taken);
        }
    }

    proptest! {
        #[test]
        fn behaves_as_the_model(cores in 1..5usize, steps in proptest::collection::vec(step(), 1..80)) {
            let board = board(cores);
            let mut model = Model { missing: true, ..Model::default() };
            let mut out: Vec<Permits> = Vec::new();
            let mut clock = 1000;
            for step in steps {
                match step {
                    Step::Take { core, quantity: tickets } => {
                        let permits = board.take(CoreIndex(core % cores), quantity(tickets));
                        let count = if tickets > model.available { 0 } else { tickets.min(model.free) };
                        model.free -= count;
                        model.taken += count;
                        prop_assert_eq!(permits.as_ref().map_or(0, Permits::count), count);
                        // Alone it asks for all there is as soon as no permit is free.
                        prop_assert_ne!(permits.as_ref().err(), Some(&Dry::Elsewhere));
                        out.extend(permits.ok());
                    }
                    Step::Settle { which, settlement } if !out.is_empty() => {
                        let permits = out.swap_remove(which % out.len());
                        let count = permits.count();
                        board.settle(permits, settlement);
                        model.taken -= count;
                        match settlement {
                            Settlement::Returned => model.free += count,
                            _ => model.ended += count,
                        }
                    }
                    Step::Settle { .. } => {}
                    Step::Learn { available, late, status } => {
                        clock += 1;
                        let mut reading = state(available, clock - late);
                        reading.status = status;
                        board.learn(&reading);
                        if model.missing || reading.sequence >= model.sequence {
                            model.sequence = reading.sequence;
                            model.available = available;
                            model.missing = false;
                        }
                        model.deal();
                    }
                    Step::Missing => {
                        board.mark_missing();
                        model.missing = true;
                        model.available = 0;
                        model.deal();
                    }
                }
                let shards: Vec<ShardTotals> = board.totals().collect();
                prop_assert_eq!(shards.iter().map(|shard| shard.free).sum::<u64>(), model.free);
                prop_assert_eq!(shards.iter().map(|shard| shard.taken).sum::<u64>(), model.taken);
                let Dealt { issued, withdrawn } = board.dealt();
                prop_assert_eq!(issued, withdrawn + model.free + model.taken + model.ended);
                prop_assert_eq!(board.available(), model.available);
                prop_assert_eq!(board.is_missing(), model.missing);
            }
            for permits in out {
                board.settle(permits, Settlement::Returned);
            }
        }
    }
}
