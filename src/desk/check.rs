//! Whether a desk contradicts itself: for tests and the simulator, which ask after every turn.

use rustc_hash::FxHashSet;

use super::{Desk, Errand, OPERATIONS, Sent};
use crate::booking::SaleName;

impl<C> Desk<C> {
    /// Panics where the desk contradicts itself.
    pub fn check_invariants(&self) {
        let mut placed = FxHashSet::default();
        let mut calls = vec![0; self.lines.len()];
        let mut restores = calls.clone();
        let mut snapshots = 0;
        for (_, call) in &self.in_flight {
            match &call.sent {
                Sent::Batch { line, operation, entries } => {
                    calls[line.0 as usize] += 1;
                    for &key in entries {
                        let entry = &self.entries[key];
                        assert!(entry.sent && placed.insert(key), "an entry travels once");
                        assert_eq!((entry.line, entry.errand.operation()), (*line, *operation));
                    }
                }
                Sent::Restore { line, .. } => restores[line.0 as usize] += 1,
                Sent::Snapshot { line } => {
                    snapshots += 1;
                    assert_eq!(self.lines[line.0 as usize].reads.asked, Some(call.serial));
                }
                Sent::Log { line, .. } => assert!(self.lines[line.0 as usize].following),
                Sent::Sales => assert!(self.feed.is_listing()),
                Sent::Discovery { .. } => snapshots += 1,
                Sent::Recall { .. } => assert!(self.losses.is_recalling()),
                Sent::Pause { .. } | Sent::Changes { .. } => {}
            }
        }
        for (index, line) in self.lines.iter().enumerate() {
            assert_eq!(line.calls_in_flight, calls[index], "calls on the way are counted");
            assert_eq!(line.guard.pending(), restores[index], "offers on the way are counted");
            assert_eq!(line.dirty, self.dirty.iter().any(|dirty| dirty.0 as usize == index));
            for operation in OPERATIONS {
                for &key in &line.forming[operation as usize] {
                    let entry = &self.entries[key];
                    assert!(!entry.sent && placed.insert(key), "an entry waits in one place");
                    assert_eq!((entry.line.0 as usize, entry.errand.operation()), (index, operation));
                    assert!(line.dirty, "what waits to be sent will be");
                }
            }
        }
        assert_eq!(placed.len(), self.entries.len(), "every entry is somewhere");
        let reads = self.lines.iter().map(|line| (line.synced_here, &line.reads));
        self.reads.check_invariants(snapshots, reads);
        let own = self.entries.iter().filter(|(_, entry)| entry.errand.is_own());
        assert_eq!(
            self.orphans.on_the_way(),
            own.count(),
            "cancellations on the desk's own behalf are counted"
        );
        for (key, entry) in &self.entries {
            let waits =
                || self.deadlines.iter().any(|&(_, other, serial)| (other, serial) == (key, entry.serial));
            assert!(entry.client.is_none() || waits(), "a client that waits has a deadline");
        }
    }

    /// Permits of that sale that wait with an entry of this desk for the ledger.
    pub fn permits_held(&self, sale: &SaleName) -> u64 {
        let is_there = |line| self.sale(line).name() == sale && !self.sale(line).is_removed();
        let of_sale = self.entries.iter().filter(|(_, entry)| is_there(entry.line));
        of_sale
            .map(|(_, entry)| match &entry.errand {
                Errand::Reserve { permits, .. } => permits.count(),
                _ => 0,
            })
            .sum()
    }

    /// Ids of that sale that are marked as in flight on this desk's account.
    pub fn ids_marked(&self, sale: &SaleName) -> usize {
        let entries = self.entries.iter().map(|(_, entry)| (entry.line, entry.marked));
        let orphans = self.orphans.iter().map(|orphan| (orphan.line, orphan.marked));
        let is_there = |line| self.sale(line).name() == sale && !self.sale(line).is_removed();
        entries.chain(orphans).filter(|&(line, marked)| marked && is_there(line)).count()
    }
}
