//! What a caller has seen of a sale, and how a ledger that has less is found out: the rules of the rollback guard, which
//! are also in `lua/sale.lua`.

use crate::booking::SaleState;
use crate::clock::WallTime;
use crate::limits;

/// The high-water mark of a caller: a ledger that has less than that of the same sale has forgotten something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// [`SaleState::opened`]; everything is 0 for a caller that has seen nothing, which has nothing to put back.
    pub opened: u64,
    /// [`SaleState::lineage`].
    pub lineage: u64,
    /// The highest [`SaleState::sequence`] of that lineage.
    pub sequence: u64,
}

impl Watermark {
    /// The watermark of a caller that reads this state.
    pub fn of(state: &SaleState) -> Watermark {
        Watermark { opened: state.opened, lineage: state.lineage, sequence: state.sequence }
    }

    /// Whether anything was seen.
    pub fn is_something(&self) -> bool {
        *self != Watermark::default()
    }

    /// Whether the caller has seen another sale of that name.
    pub fn is_of_another(&self, state: &SaleState) -> bool {
        self.is_something() && self.opened != state.opened
    }

    /// Whether the ledger has forgotten some of what the caller has seen of the same sale.
    pub fn is_ahead_of(&self, state: &SaleState) -> bool {
        let same_sale = self.is_something() && self.opened == state.opened;
        same_sale && (self.lineage, self.sequence) > (state.lineage, state.sequence)
    }

    /// Whether a caller that has seen this must put back what it acknowledged before the ledger books for it: the state is
    /// of another sale or of another history, or it is frozen.
    pub fn is_stale_for(&self, state: &SaleState) -> bool {
        let stranger = (self.opened, self.lineage) != (state.opened, state.lineage);
        state.is_frozen() || (self.is_something() && stranger)
    }
}

/// Begins a freeze with a new lineage if there is none, or the caller has seen more (`is_behind`); otherwise extends the
/// current one, up to [`limits::FREEZE_MS_MAX`] after `frozen_since`. Returns when it began.
pub fn freeze(state: &mut SaleState, seen: &Watermark, is_behind: bool, frozen_since: WallTime) -> WallTime {
    let mut since = frozen_since;
    if is_behind || !state.is_frozen() {
        state.lineage = state.now.0.max(state.lineage + 1).max(seen.lineage + 1);
        since = state.now;
    }
    let until = (state.now.0 + limits::FREEZE_MS).min(since.0 + limits::FREEZE_MS_MAX);
    state.frozen_until = state.frozen_until.max(WallTime(until));
    since
}
