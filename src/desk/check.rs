//! Checks whether a desk contradicts itself: for tests and the simulator, after every turn.

use super::Desk;
use super::batches::EntryKind;
use super::calls::PendingCall;
use crate::booking::SaleName;

impl<C> Desk<C> {
    /// Panics if the desk contradicts itself: each part by itself, and the parts together.
    pub fn check_invariants(&self) {
        self.reach.check_invariants();
        self.calls.check_invariants();
        self.batches.check_invariants(self.calls.iter().filter_map(|call| match &call.pending {
            PendingCall::Batch { lane, kind, entries } => Some((*lane, *kind, &entries[..])),
            _ => None,
        }));
        self.guard.check_invariants(|lane| {
            let is_of_it =
                |pending: &PendingCall| matches!(pending, PendingCall::Restore { lane: its, .. } if *its == lane);
            self.calls.iter().filter(|call| is_of_it(&call.pending)).count()
        });
        self.sync.check_invariants(self.calls.iter().map(|call| (&call.pending, call.serial)));
        self.notices.check_invariants();
        for lane in self.lanes.indexes() {
            assert_eq!(
                self.lanes[lane].is_read_here,
                self.sync.reads.has(lane),
                "each core reads its own lanes"
            );
        }
        let beats = self.calls.iter().filter(|call| matches!(call.pending, PendingCall::Beat));
        self.beats.check_invariants(beats.count());
        let recalls = self.calls.iter().filter(|call| matches!(call.pending, PendingCall::Recall { .. }));
        assert_eq!(usize::from(self.losses.is_recalling()), recalls.count(), "one recall at a time");
        assert_eq!(
            self.orphans.on_the_way(),
            self.batches.iter().filter(|entry| entry.kind.is_own()).count(),
            "cancellations on the desk's own behalf are counted"
        );
    }

    /// Permits of that sale that wait with an entry of this desk for the ledger.
    pub fn permits_held(&self, sale: &SaleName) -> u64 {
        let is_there = |lane| self.sale(lane).name() == sale && !self.sale(lane).is_removed();
        let of_sale = self.batches.iter().filter(|entry| is_there(entry.lane));
        of_sale
            .map(|entry| match &entry.kind {
                EntryKind::Reserve { permits, .. } => permits.count(),
                _ => 0,
            })
            .sum()
    }

    /// Ids of that sale that are marked as in flight on this desk's account.
    pub fn ids_marked(&self, sale: &SaleName) -> usize {
        let entries = self.batches.iter().map(|entry| (entry.lane, entry.marked));
        let orphans = self.orphans.iter().map(|orphan| (orphan.lane, orphan.marked));
        let is_there = |lane| self.sale(lane).name() == sale && !self.sale(lane).is_removed();
        entries.chain(orphans).filter(|&(lane, marked)| marked && is_there(lane)).count()
    }
}
