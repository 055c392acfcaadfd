//! Sales that the ledger has lost, or whose record is not sound.
//!
//! If this host knows a sale that the ledger does not have, it reports the name to the ledger ([`LedgerOp::Recall`]), so
//! that no host that starts opens it as if it were new; or it learns that an operator has removed the sale, and forgets it.
//! If it finds another sale in its place, opened by a host that started before it could know, it pauses that sale: nobody
//! sells the same tickets again until an operator says so.

use std::collections::BTreeSet;

use super::Desk;
use super::calls::PendingCall;
use super::lanes::LaneIndex;
use crate::booking::{SaleChange, SaleStatus};
use crate::clock::{Monotonic, Now, WallTime};
use crate::limits::RECALLED_PER_CALL_MAX;
use crate::protocol::{Answer, Call, CallError, LedgerOp, LedgerResult, SaleOp, SaleResult, Slot};
use crate::stock::Gate;

/// What this core has found of the sales that it reads for all cores.
#[derive(Default)]
pub(super) struct Losses {
    /// To be reported to the ledger.
    found: BTreeSet<LaneIndex>,
    /// A report is in flight.
    recalling: bool,
    /// How many suspicions there were at the last look.
    suspicions: u64,
}

impl Losses {
    /// The ledger does not have this sale.
    pub(super) fn note(&mut self, lane: LaneIndex) {
        self.found.insert(lane);
    }

    /// Whether a report is in flight.
    pub(super) fn is_recalling(&self) -> bool {
        self.recalling
    }
}

impl<C> Desk<C> {
    /// At each sync, looks at what must be done about sales that are lost or not sound.
    pub(super) fn watch_losses(&mut self, now: Monotonic) {
        let suspicions = self.board.suspicions();
        if std::mem::replace(&mut self.losses.suspicions, suspicions) != suspicions {
            let unsound = self.lanes.read_here().filter(|(_, lane)| lane.board.unsound().is_some());
            for (lane, _) in unsound {
                self.sync.reads.want(lane);
            }
        }
        self.recall(now);
    }

    /// A call found the sale unsound. The core that reads it finds out what is wrong with it, and when it is sound again.
    pub(super) fn note_unsound(&mut self, lane: LaneIndex, what: &str) {
        self.sale(lane).mark_unsound(what);
        self.board.note_suspicion();
    }

    /// The ledger has another sale of this name, which some host opened when it started.
    pub(super) fn note_stranger(&mut self, lane: LaneIndex, now: Monotonic) {
        self.losses.note(lane);
        self.recall(now);
        self.sync.reads.set_due(lane, None, None);
        self.sync.reads.again(lane);
    }

    /// This is another ledger than before, or the same one with nothing in it: it may not know that it has lost anything.
    pub(super) fn recall_all(&mut self, now: Monotonic) {
        self.losses.found.extend(self.lanes.read_here().map(|(lane, _)| lane));
        self.recall(now);
    }

    pub(super) fn recall(&mut self, now: Monotonic) {
        if self.losses.recalling || self.losses.found.is_empty() || !self.reach.is_up(Slot::DIRECTORY) {
            return;
        }
        self.losses.recalling = true;
        let found = &mut self.losses.found;
        let lanes: Vec<_> = std::iter::from_fn(|| found.pop_first()).take(RECALLED_PER_CALL_MAX).collect();
        let sales =
            lanes.iter().map(|&lane| (*self.sale(lane).name(), self.sale(lane).seen().opened)).collect();
        self.calls.send(PendingCall::Recall { lanes }, Call::Ledger(LedgerOp::Recall { sales }), now);
    }

    /// The answer to a report of lost sales.
    pub(super) fn handle_recalled(
        &mut self,
        lanes: &[LaneIndex],
        answer: Result<Answer, CallError>,
        now: Monotonic,
    ) {
        self.losses.recalling = false;
        match answer {
            Ok(Answer::Ledger(LedgerResult::Recalled { removed })) if removed.len() == lanes.len() => {
                for (&lane, removed) in lanes.iter().zip(removed) {
                    self.judge_recalled(lane, removed, now);
                }
                self.recall(now);
            }
            other => {
                tracing::debug!(
                    ?other,
                    "lost sales could not be reported to the ledger; the next sync tries again"
                );
                self.losses.found.extend(lanes);
            }
        }
    }

    fn judge_recalled(&mut self, lane: LaneIndex, removed: bool, now: Monotonic) {
        let sale = self.sale(lane);
        let (name, is_missing, is_stranger) = (*sale.name(), sale.is_missing(), sale.is_stranger());
        match (removed, is_missing) {
            (true, true) => {
                tracing::info!(sale = %name, "the sale was removed");
                self.note_trouble(lane, None);
                // A stranger is believed now, and the next reading finds it; any other sale is forgotten here.
                if is_stranger { self.sale(lane).forget_former() } else { self.board.remove(name.as_str()) }
            }
            (false, true) if is_stranger => {
                self.note_trouble(
                    lane,
                    Some(
                        "the ledger lost this sale, and a host opened it again at its start: it is paused now; `boxoffice \
                         sale resume` sells the whole stock again",
                    ),
                );
                let change = SaleChange { status: Some(SaleStatus::Paused), ..SaleChange::default() };
                self.calls.send(PendingCall::Pause { lane }, SaleOp::Alter(change).on(name), now);
            }
            (false, true) if self.sale(lane).gate(WallTime(0)) == Gate::Missing => self.note_trouble(
                lane,
                Some("the ledger has lost this sale: its bookings get 503 until it is back or an operator reopens it"),
            ),
            _ => {}
        }
    }

    /// The answer to pausing a sale that was opened in place of a lost one. If it was not paused, the next reading finds it
    /// unpaused.
    pub(super) fn handle_paused(&mut self, lane: LaneIndex, answer: Result<Answer, CallError>, now: Now) {
        match answer {
            Ok(Answer::Sale { state, result: SaleResult::Done }) => {
                self.learn_waiting(lane, &state, now);
            }
            other => tracing::debug!(?other, "a sale could not be paused; the next sync tries again"),
        }
    }

    /// The lane's sale was removed: nothing is read, found or remembered of it.
    pub(super) fn forget_lane(&mut self, lane: LaneIndex) {
        self.guard.forget_removed(lane);
        self.forget_orphans(lane);
        if std::mem::take(&mut self.lanes[lane].is_read_here) {
            self.sync.reads.forget(lane);
            self.losses.found.remove(&lane);
        }
    }
}
