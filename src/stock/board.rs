//! All sales of this host, and how each core finds one without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use rustc_hash::FxBuildHasher;

use super::fleet::{Fleet, HostCard};
use super::sync::{AtomicU64, Mutex, Ordering, lock};
use super::{CoreIndex, SaleBoard, ShardTotals};
use crate::booking::{SaleName, SaleState};
use crate::clock::WallTime;
use crate::limits;
use crate::protocol::HostBeat;

/// All sales of this host; one, shared by its cores.
/// A core keeps a [`Directory`] of its own and asks for another one when [`directory_version`](Board::directory_version)
/// says that it is out of date.
pub struct Board {
    cores: usize,
    permits_per_ticket: Arc<PermitsPerTicket>,
    directory: Mutex<Arc<Directory>>,
    version: AtomicU64,
    sales_max: usize,
    /// For the hashes of booking ids.
    hash_key: (u64, u64),
    /// Which cores have waited for an answer of the ledger for too long.
    silent: Box<[CachePadded<AtomicU64>]>,
    /// The ledger's time up to which each core has heard of all announcements.
    told_at: Box<[CachePadded<AtomicU64>]>,
    suspicions: AtomicU64,
    /// What this host tells of itself to others; `None` if it keeps to itself.
    card: Option<HostCard>,
    fleet: Mutex<Arc<Fleet>>,
    /// How often the share has changed.
    share_version: AtomicU64,
    counts: Box<[CachePadded<CoreCounts>]>,
}

/// What a core has done since it started, as it last said.
#[derive(Debug)]
struct CoreCounts {
    granted: AtomicU64,
    refused: AtomicU64,
    waiting: AtomicU64,
}

/// What cores have done since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bookings granted.
    pub granted: u64,
    /// Requests for bookings that were refused.
    pub refused: u64,
    /// Requests that wait now.
    pub waiting: u64,
}

/// The board already follows [`limits::SALES_MAX`] sales, and none of them is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host already follows the maximum of {} sales", limits::SALES_MAX)]
pub struct BoardFull;

/// The sales of a board at one moment.
#[derive(Clone, Default)]
pub struct Directory {
    version: u64,
    // Keyed by operators' names; what clients ask for is looked up and never put in, so a hash without a secret is safe
    // here.
    sales: HashMap<SaleName, Arc<SaleBoard>, FxBuildHasher>,
    /// The same in the order in which they came, so that a core looks only at the new ones.
    order: Vec<Arc<SaleBoard>>,
    /// How often sales were taken out.
    removals: u64,
}

/// How much of a directory was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryPlace {
    removals: u64,
    sales: usize,
}

impl DirectoryPlace {
    /// Whether sales were taken out between both.
    pub fn is_after_removals(&self, before: DirectoryPlace) -> bool {
        self.removals != before.removals
    }
}

impl Directory {
    /// What [`Board::directory_version`] was when it was made.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The sale of that name, missing ones included (their gate says so).
    pub fn get(&self, name: &str) -> Option<&Arc<SaleBoard>> {
        self.sales.get(name)
    }

    /// All sales, in no particular order.
    pub fn sales(&self) -> impl Iterator<Item = &Arc<SaleBoard>> {
        self.sales.values()
    }

    /// Those that came after that place; all of them if some were taken out since.
    pub fn sales_after(&self, place: DirectoryPlace) -> impl Iterator<Item = &Arc<SaleBoard>> {
        let from = if place.removals == self.removals { place.sales.min(self.order.len()) } else { 0 };
        self.order[from..].iter()
    }

    /// The place after all of them.
    pub fn place(&self) -> DirectoryPlace {
        DirectoryPlace { removals: self.removals, sales: self.order.len() }
    }

    /// How many sales.
    pub fn len(&self) -> usize {
        self.sales.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sales.is_empty()
    }
}

impl Board {
    /// A board for `cores` loops (1 or more), of a host that is alone as far as it knows, with its `buffer` of spare permits
    /// (0 or more, as a part of the stock).
    ///
    /// # Panics
    /// If there is no core.
    pub fn new(cores: usize, buffer: f64) -> Board {
        assert!(cores > 0, "a board needs a core");
        Board {
            cores,
            permits_per_ticket: Arc::new(PermitsPerTicket::new(1.0, buffer)),
            directory: Mutex::new(Arc::new(Directory::default())),
            version: AtomicU64::new(0),
            sales_max: limits::SALES_MAX,
            hash_key: (0, 0),
            silent: (0..cores).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            told_at: (0..cores).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            suspicions: AtomicU64::new(0),
            card: None,
            fleet: Mutex::new(Arc::default()),
            share_version: AtomicU64::new(0),
            counts: (0..cores).map(|_| CachePadded::new(CoreCounts::new())).collect(),
        }
    }

    /// As a host that tells others of itself.
    pub fn with_card(self, card: HostCard) -> Board {
        Board { card: Some(card), ..self }
    }

    /// What this host tells of itself to others; `None` if it keeps to itself.
    pub fn card(&self) -> Option<&HostCard> {
        self.card.as_ref()
    }

    /// The hosts as this one last heard of them. Locks: for those who ask, and once a beat.
    pub fn fleet(&self) -> Arc<Fleet> {
        lock(&self.fleet).clone()
    }

    /// The ledger has named the hosts. Returns whether this host's share is another one now.
    pub fn note_fleet(&self, hosts: Vec<HostBeat>) -> bool {
        let share = self.card.as_ref().map_or(1.0, |card| card.share(&hosts));
        *lock(&self.fleet) = Arc::new(Fleet { hosts });
        let is_new = self.permits_per_ticket.set_share(share);
        if is_new {
            // Release: whoever sees the number deals by the share.
            self.share_version.fetch_add(1, Ordering::Release);
        }
        is_new
    }

    /// Differs from what it was if the permits of all sales must be dealt anew.
    pub fn share_version(&self) -> u64 {
        self.share_version.load(Ordering::Acquire)
    }

    /// What a core has done, for the figures of this host.
    pub fn set_counts(&self, core: CoreIndex, counts: Counts) {
        // Relaxed: figures.
        let shown = &self.counts[core.0];
        shown.granted.store(counts.granted, Ordering::Relaxed);
        shown.refused.store(counts.refused, Ordering::Relaxed);
        shown.waiting.store(counts.waiting, Ordering::Relaxed);
    }

    /// What all cores have done, as they last said.
    pub fn counts(&self) -> Counts {
        self.counts.iter().fold(Counts::default(), |sum, core| Counts {
            granted: sum.granted + core.granted.load(Ordering::Relaxed),
            refused: sum.refused + core.refused.load(Ordering::Relaxed),
            waiting: sum.waiting + core.waiting.load(Ordering::Relaxed),
        })
    }

    /// A core has heard of all announcements up to then; those of its sales that were announced as changed are no longer
    /// [quiet](SaleBoard::set_quiet).
    pub fn set_told_at(&self, core: CoreIndex, now: WallTime) {
        // Release: whoever sees this sees which sales are no longer quiet.
        self.told_at[core.0].store(now.0, Ordering::Release);
    }

    /// See [`set_told_at`](Board::set_told_at).
    pub fn told_at(&self, core: CoreIndex) -> WallTime {
        WallTime(self.told_at[core.0].load(Ordering::Acquire))
    }

    /// Tells the other cores whether the ledger is silent towards this one.
    pub fn set_silent(&self, core: CoreIndex, silent: bool) {
        // Relaxed: a hint, for choosing between two refusals.
        self.silent[core.0].store(silent.into(), Ordering::Relaxed);
    }

    /// Whether the ledger is silent towards some core, whose permits then say nothing about what is left.
    pub fn any_silent(&self) -> bool {
        self.silent.iter().any(|silent| silent.load(Ordering::Relaxed) != 0)
    }

    /// With a secret key for the hashes of booking ids, so that no client can make ids up that collide.
    pub fn with_hash_key(self, hash_key: (u64, u64)) -> Board {
        Board { hash_key, ..self }
    }

    /// How many cores share it.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Differs from [`Directory::version`] if that directory is out of date.
    ///
    /// `Relaxed`: the directory itself is handed over under the lock, and carries its own version; a core that sees
    /// the new number a turn late has only asked a turn early.
    pub fn directory_version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The sales as of now. Locks: once a change of the directory and core, never once a request.
    pub fn directory(&self) -> Arc<Directory> {
        lock(&self.directory).clone()
    }

    /// Takes in a reading of a sale, which is added if it is new. Waits for its turn at the sale: for the periodic sync,
    /// for sales that are opened and for those that a client asks for; replies go to [`SaleBoard::learn`].
    ///
    /// # Errors
    /// [`BoardFull`] if the sale is new and no missing one can make room for it.
    pub fn learn(&self, name: &SaleName, reading: &SaleState) -> Result<Arc<SaleBoard>, BoardFull> {
        let sale = self.find_or_add(name)?;
        sale.learn_waiting(reading);
        Ok(sale)
    }

    /// A sale that this host knew before it started, opened at that time, and that the ledger has lost.
    ///
    /// # Errors
    /// Like [`learn`](Board::learn).
    pub fn remember(&self, name: &SaleName, opened: u64) -> Result<Arc<SaleBoard>, BoardFull> {
        let sale = self.find_or_add(name)?;
        sale.note_former(opened);
        Ok(sale)
    }

    /// An operator has removed the sale: it is unknown here from now on. Does nothing if the ledger has one of that name
    /// again.
    pub fn remove(&self, name: &str) {
        let mut guard = lock(&self.directory);
        let Some(sale) = guard.get(name).cloned() else { return };
        sale.forget_former();
        if !sale.is_missing() {
            return;
        }
        sale.mark_removed();
        let directory = Arc::make_mut(&mut guard);
        directory.sales.remove(name);
        directory.order.retain(|other| !Arc::ptr_eq(other, &sale));
        directory.removals += 1;
        directory.version += 1;
        self.version.store(directory.version, Ordering::Relaxed);
    }

    /// A call found some sale unsound: the core that reads it for all must look at it.
    pub fn note_suspicion(&self) {
        // Relaxed: the sale itself says what is wrong; this says when to look.
        self.suspicions.fetch_add(1, Ordering::Relaxed);
    }

    /// How often [`note_suspicion`](Board::note_suspicion) was called.
    pub fn suspicions(&self) -> u64 {
        self.suspicions.load(Ordering::Relaxed)
    }

    /// The ledger says that it has no such sale. See [`SaleBoard::mark_missing`].
    pub fn mark_missing(&self, name: &str) {
        if let Some(sale) = self.directory().get(name) {
            sale.mark_missing();
        }
    }

    /// What each core's shards count over all sales, in the order of the cores. Costs a walk over all sales: for the
    /// metrics.
    pub fn totals(&self) -> Vec<ShardTotals> {
        let mut totals = vec![ShardTotals::default(); self.cores];
        for sale in self.directory().sales() {
            for (sum, shard) in totals.iter_mut().zip(sale.totals()) {
                sum.free += shard.free;
                sum.taken += shard.taken;
                sum.steals += shard.steals;
            }
        }
        totals
    }

    /// Permits of all sales, free and with the ledger; `None` if there are more sales than `most`.
    pub fn permits(&self, most: usize) -> Option<u64> {
        let directory = self.directory();
        let totals = || directory.sales().flat_map(|sale| sale.totals());
        (directory.len() <= most).then(|| totals().map(|shard| shard.free + shard.taken).sum())
    }

    fn find_or_add(&self, name: &SaleName) -> Result<Arc<SaleBoard>, BoardFull> {
        let mut guard = lock(&self.directory);
        if let Some(sale) = guard.get(name.as_str()) {
            return Ok(sale.clone());
        }
        let full = guard.len() >= self.sales_max;
        if full && !guard.sales().any(|sale| sale.is_missing()) {
            return Err(BoardFull);
        }
        let sale =
            Arc::new(SaleBoard::new(*name, self.cores, self.permits_per_ticket.clone(), self.hash_key));
        // Copies the directory only if a core is looking at it: a host that learns of thousands of sales at once copies it
        // once per turn of a core, not once per sale.
        let directory = Arc::make_mut(&mut guard);
        if full {
            // Bookings in flight keep their sale alive; what they settle no longer counts anywhere, and does not matter.
            directory.sales.retain(|_, sale| !sale.is_missing());
            directory.order.retain(|sale| directory.sales.contains_key(sale.name()));
            directory.removals += 1;
        }
        directory.sales.insert(*name, sale.clone());
        directory.order.push(sale.clone());
        directory.version += 1;
        self.version.store(directory.version, Ordering::Relaxed);
        Ok(sale)
    }
}

impl CoreCounts {
    fn new() -> CoreCounts {
        let none = || AtomicU64::new(0);
        CoreCounts { granted: none(), refused: none(), waiting: none() }
    }
}

/// How many permits a host has for each ticket that the ledger has left: share * (1 + buffer), in millionths, so that
/// targets are exact on every machine.
pub(super) struct PermitsPerTicket {
    buffer: f64,
    millionths: AtomicU64,
}

impl PermitsPerTicket {
    pub(super) fn new(share: f64, buffer: f64) -> PermitsPerTicket {
        PermitsPerTicket { buffer, millionths: AtomicU64::new(millionths(share, buffer)) }
    }

    /// `Relaxed`, like its reader: a number for itself, and the next deal of a sale sees it. Returns whether it is another
    /// one.
    pub(super) fn set_share(&self, share: f64) -> bool {
        let millionths = millionths(share, self.buffer);
        self.millionths.swap(millionths, Ordering::Relaxed) != millionths
    }

    /// Permits for `available` tickets, rounded up: while a ticket is left, every host that sells has a permit.
    pub(super) fn target(&self, available: u64) -> u64 {
        let millionths = u128::from(self.millionths.load(Ordering::Relaxed));
        let permits = (u128::from(available) * millionths).div_ceil(1_000_000);
        u64::try_from(permits).unwrap_or(u64::MAX)
    }
}

/// Whole millionths, rounded to the nearest but never a share down to nothing. NaN and anything below 0 count as 0.
fn millionths(share: f64, buffer: f64) -> u64 {
    let exact = share * (1.0 + buffer) * 1e6;
    let rounded = exact.round() as u64;
    if exact > 0.0 { rounded.max(1) } else { 0 }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::booking::Quantity;
    use crate::stock::{Gate, Settlement};

    fn name(text: &str) -> SaleName {
        SaleName::parse(text).unwrap()
    }

    fn state(total: u64) -> SaleState {
        let mut state = SaleState { version: 1, ..SaleState::default() };
        state.terms.total = total;
        state
    }

    #[test]
    fn targets_are_rounded_up_and_exact() {
        for (share, buffer, available, target) in [
            (1.0, 0.2, 0, 0),
            (1.0, 0.2, 1, 2),
            (1.0, 0.2, 10, 12),
            (1.0, 0.2, 10_000, 12_000),
            (1.0, 0.0, 7, 7),
            (1.0, 0.1, 100, 110),
            (0.1, 0.2, 1, 1),
            (1e-9, 0.0, 1, 1),
            (0.0, 0.2, 5, 0),
            (1.0, 0.2, limits::STOCK_MAX, limits::STOCK_MAX / 5 * 6),
        ] {
            let permits = PermitsPerTicket::new(share, buffer).target(available);
            assert_eq!(permits, target, "{available} tickets, share {share}, buffer {buffer}");
        }
    }

    #[test]
    fn a_view_is_out_of_date_exactly_when_a_sale_was_added() {
        let board = Board::new(2, 0.0);
        let view = board.directory();
        assert_eq!(view.version(), board.directory_version());
        board.learn(&name("a"), &state(3)).unwrap();
        assert_ne!(view.version(), board.directory_version());
        assert!(view.get("a").is_none());
        let view = board.directory();
        board.learn(&name("a"), &state(2)).unwrap();
        assert_eq!(view.version(), board.directory_version());
        assert_eq!(view.get("a").unwrap().available(), 2);
        assert!(view.get("b").is_none());
    }

    #[test]
    fn a_sale_that_a_start_opened_in_place_of_one_known_from_before_is_a_stranger() {
        let board = Board::new(1, 0.0);
        let opened = |opened| SaleState { opened, ..state(3) };
        let sale = board.remember(&name("a"), 1_000).unwrap();
        board.learn(&name("a"), &opened(2_000)).unwrap();
        assert!(sale.is_stranger());
        assert_eq!((sale.gate(WallTime(0)), sale.available()), (Gate::Missing, 0));
        // The one that was noted is back.
        board.learn(&name("a"), &opened(1_000)).unwrap();
        assert!(!sale.is_stranger());
        assert_eq!(sale.available(), 3);
        // What was read is newer than any note.
        board.remember(&name("a"), 500).unwrap();
        assert_eq!(sale.seen().opened, 1_000);
    }

    #[test]
    fn a_full_board_makes_room_only_of_missing_sales() {
        let mut board = Board::new(1, 0.0);
        board.sales_max = 2;
        board.learn(&name("a"), &state(1)).unwrap();
        board.learn(&name("b"), &state(1)).unwrap();
        assert_eq!(board.learn(&name("c"), &state(1)).err(), Some(BoardFull));
        board.mark_missing("a");
        board.mark_missing("never heard of");
        let view = board.directory();
        assert_eq!(view.get("a").unwrap().gate(WallTime(0)), Gate::Missing);
        board.learn(&name("c"), &state(1)).unwrap();
        let view = board.directory();
        assert_eq!((view.len(), view.get("a").is_none(), view.get("c").is_some()), (2, true, true));
    }

    #[test]
    fn a_core_looks_at_what_came_since_and_at_everything_once_some_are_gone() {
        let mut board = Board::new(1, 0.0);
        board.sales_max = 3;
        let after = |board: &Board, place| {
            board.directory().sales_after(place).map(|sale| sale.name().to_string()).collect::<Vec<_>>()
        };
        board.learn(&name("a"), &state(1)).unwrap();
        let place = board.directory().place();
        assert_eq!(after(&board, DirectoryPlace::default()), ["a"]);
        board.learn(&name("b"), &state(1)).unwrap();
        board.learn(&name("c"), &state(1)).unwrap();
        assert_eq!(after(&board, place), ["b", "c"]);
        let place = board.directory().place();
        assert!(after(&board, place).is_empty());
        board.mark_missing("b");
        board.learn(&name("d"), &state(1)).unwrap();
        assert_eq!(after(&board, place), ["a", "c", "d"]);
    }

    #[test]
    fn totals_add_up_over_the_sales() {
        let board = Board::new(2, 0.0);
        let one = board.learn(&name("a"), &state(4)).unwrap();
        board.learn(&name("b"), &state(2)).unwrap();
        let permits = one.take(CoreIndex(1), Quantity::ONE).unwrap();
        let expected =
            [ShardTotals { free: 3, taken: 0, steals: 0 }, ShardTotals { free: 2, taken: 1, steals: 0 }];
        assert_eq!(board.totals(), expected);
        one.settle(permits, Settlement::Spent);
    }
}
