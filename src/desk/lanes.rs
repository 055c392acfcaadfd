//! The lanes of a desk. A lane is what one call to the ledger covers, and so what gathers together: a sale.
//!
//! This holds what all parts of the desk need of a lane: its sale, the part of the ledger that has it, whether this core
//! reads it for all cores, and how far the ledger's clock is from this host's. What a single part of the desk keeps of a lane
//! it keeps itself, [for each lane](PerLane).

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::booking::{SaleName, SaleState};
use crate::clock::{Now, WallTime};
use crate::protocol::{Slot, SlotRange};
use crate::stock::{Directory, DirectoryPlace, Gate, SaleBoard};

/// A lane of this core's desk. It stays the same as long as the desk exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneIndex(pub(super) u32);

/// Something for each lane, in the order in which the lanes came.
#[derive(Debug)]
pub(super) struct PerLane<T>(Vec<T>);

impl<T> Default for PerLane<T> {
    fn default() -> PerLane<T> {
        PerLane(Vec::new())
    }
}

impl<T> PerLane<T> {
    /// Adds the value of the next lane.
    pub(super) fn add(&mut self, value: T) -> LaneIndex {
        let index = LaneIndex(u32::try_from(self.0.len()).expect("SALES_MAX fits in u32"));
        self.0.push(value);
        index
    }

    /// All lanes.
    pub(super) fn indexes(&self) -> impl Iterator<Item = LaneIndex> + use<T> {
        (0..self.0.len() as u32).map(LaneIndex)
    }

    /// Each with its lane.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LaneIndex, &T)> {
        (0..).map(LaneIndex).zip(&self.0)
    }
}

impl<T> Index<LaneIndex> for PerLane<T> {
    type Output = T;

    fn index(&self, lane: LaneIndex) -> &T {
        &self.0[lane.0 as usize]
    }
}

impl<T> IndexMut<LaneIndex> for PerLane<T> {
    fn index_mut(&mut self, lane: LaneIndex) -> &mut T {
        &mut self.0[lane.0 as usize]
    }
}

/// One lane.
pub(super) struct Lane {
    /// The sale's permits and its level.
    pub(super) board: Arc<SaleBoard>,
    /// Which part of the ledger has it.
    pub(super) slot: Slot,
    /// Whether this core reads the sale's level, and its log, for all cores.
    pub(super) is_read_here: bool,
    /// The ledger's clock for this sale less this host's, in milliseconds.
    clock_offset_ms: i64,
}

impl Lane {
    /// The ledger's clock for the sale, estimated by this host from the last answer: good enough to open a window from
    /// memory, never to judge a hold.
    pub(super) fn ledger_time(&self, now: Now) -> WallTime {
        WallTime(now.wall.0.saturating_add_signed(self.clock_offset_ms))
    }

    /// The clocks of two sales may differ: each never goes back, not even if the ledger's machine did.
    pub(super) fn learn_clock(&mut self, state: &SaleState, now: Now) {
        let ledger = i64::try_from(state.now.0).unwrap_or(i64::MAX);
        let here = i64::try_from(now.wall.0).unwrap_or(i64::MAX);
        self.clock_offset_ms = ledger.saturating_sub(here);
    }

    /// Whether the ledger has no such sale, or can do nothing with it.
    pub(super) fn is_out_of_order(&self) -> bool {
        self.board.gate(WallTime(0)).is_out_of_order()
    }

    /// Whether the ledger's record of the sale is not sound.
    pub(super) fn is_unsound(&self) -> bool {
        self.board.gate(WallTime(0)) == Gate::Unsound
    }
}

/// All lanes of one core.
pub(super) struct Lanes {
    lanes: PerLane<Lane>,
    by_name: FxHashMap<SaleName, LaneIndex>,
    /// The version of the directory that they are of.
    version: u64,
    place: DirectoryPlace,
}

impl Lanes {
    pub(super) fn new() -> Lanes {
        Lanes {
            lanes: PerLane::default(),
            by_name: FxHashMap::default(),
            version: u64::MAX,
            place: DirectoryPlace::default(),
        }
    }

    /// The lane of that sale, or `None` if neither this host nor its last sync knows it.
    pub(super) fn find(&self, sale: &str) -> Option<LaneIndex> {
        self.by_name.get(sale).copied()
    }

    /// All of them.
    pub(super) fn indexes(&self) -> impl Iterator<Item = LaneIndex> + use<> {
        self.lanes.indexes()
    }

    /// Those in these slots.
    pub(super) fn within(&self, slots: SlotRange) -> impl Iterator<Item = LaneIndex> + use<'_> {
        self.lanes.iter().filter(move |(_, lane)| slots.contains(lane.slot)).map(|(index, _)| index)
    }

    /// Those that this core reads for all.
    pub(super) fn read_here(&self) -> impl Iterator<Item = (LaneIndex, &Lane)> {
        self.lanes.iter().filter(|(_, lane)| lane.is_read_here)
    }

    /// Whether they are of this version of the directory.
    pub(super) fn are_of(&self, version: u64) -> bool {
        self.version == version
    }

    /// Lanes whose sales were taken out of this directory since the last look at it; nobody finds them by name any more.
    pub(super) fn take_removed(&mut self, directory: &Directory) -> Vec<LaneIndex> {
        if !directory.place().is_after_removals(self.place) {
            return Vec::new();
        }
        let removed = self.lanes.iter().filter(|(_, lane)| lane.board.is_removed());
        let removed: Vec<LaneIndex> = removed.map(|(index, _)| index).collect();
        for &index in &removed {
            let name = *self.lanes[index].board.name();
            if self.by_name.get(&name) == Some(&index) {
                self.by_name.remove(&name);
            }
        }
        removed
    }

    /// Adds the sales that are new in this directory, and returns their lanes. A sale that the board forgot and learnt
    /// again keeps its lane, once `is_idle` of it; entries in flight hold permits of the former board.
    pub(super) fn take_in(
        &mut self,
        directory: &Directory,
        is_read_here: impl Fn(&SaleName) -> bool,
        is_idle: impl Fn(LaneIndex) -> bool,
    ) -> Vec<LaneIndex> {
        let (mut added, mut is_complete) = (Vec::new(), true);
        for sale in directory.sales_after(self.place) {
            let Some(index) = self.find(sale.name().as_str()) else {
                added.push(self.add(sale, is_read_here(sale.name())));
                continue;
            };
            if Arc::ptr_eq(&self.lanes[index].board, sale) {
                continue;
            }
            match is_idle(index) {
                true => self.lanes[index].board = Arc::clone(sale),
                false => is_complete = false,
            }
        }
        if is_complete {
            self.version = directory.version();
            self.place = directory.place();
        }
        added
    }

    fn add(&mut self, sale: &Arc<SaleBoard>, is_read_here: bool) -> LaneIndex {
        // Its clock is taken to be the host's own until the first answer; the ledger has the last word anyway.
        let lane =
            Lane { board: Arc::clone(sale), slot: Slot::of(sale.name()), is_read_here, clock_offset_ms: 0 };
        let index = self.lanes.add(lane);
        self.by_name.insert(*sale.name(), index);
        index
    }
}

impl Index<LaneIndex> for Lanes {
    type Output = Lane;

    fn index(&self, lane: LaneIndex) -> &Lane {
        &self.lanes[lane]
    }
}

impl IndexMut<LaneIndex> for Lanes {
    fn index_mut(&mut self, lane: LaneIndex) -> &mut Lane {
        &mut self.lanes[lane]
    }
}
