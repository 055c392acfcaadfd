//! Bookings that the desk cancels on its own behalf: granted, or perhaps granted, under a generated id, to a client that
//! will never hear of them.
//!
//! Nobody else knows of such a booking, so the desk asks until the ledger has cancelled it: a cancellation that was
//! refused, withheld, lost or not understood is tried again at the next sync. A bounded number is in flight at once. If the
//! ledger no longer has the sale, the cancellation is set aside and costs nothing until the sale is back, perhaps with the
//! booking in it.

use std::collections::VecDeque;

use super::Desk;
use super::batches::{Entry, EntryKind};
use super::lanes::LaneIndex;
use crate::booking::BookingId;
use crate::clock::Monotonic;
use crate::limits::{ORPHANS_AT_ONCE_MAX, ORPHANS_SET_ASIDE_MAX};

/// A booking to cancel.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) lane: LaneIndex,
    pub(super) id: BookingId,
    /// Whether the id is marked as in flight on its account.
    pub(super) marked: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// To be tried at the next sync.
    due: VecDeque<Orphan>,
    /// Of sales that were missing when they were last looked at, the oldest first.
    set_aside: VecDeque<Orphan>,
    /// How many entries of the desk are cancellations on its own behalf.
    on_the_way: usize,
}

impl Orphans {
    /// How many are due.
    pub(super) fn due(&self) -> usize {
        self.due.len()
    }

    /// How many are entries of the desk.
    pub(super) fn on_the_way(&self) -> usize {
        self.on_the_way
    }

    /// All that are not entries now.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Orphan> {
        self.due.iter().chain(&self.set_aside)
    }

    /// An entry of the desk ended; perhaps it was one of these.
    pub(super) fn note_ended(&mut self, kind: &EntryKind) {
        self.on_the_way -= usize::from(kind.is_own());
    }
}

impl<C> Desk<C> {
    /// Has the entry's booking cancelled, from the next sync on. Its id stays marked until that is done, so that nobody is
    /// told of a booking that is about to be cancelled.
    pub(super) fn orphan(&mut self, key: usize) {
        let Entry { lane, id, marked, .. } = &mut self.batches[key];
        let (lane, id, was_marked) = (*lane, *id, std::mem::take(marked));
        let marked = was_marked || self.lanes[lane].board.begin(&id);
        self.orphans.due.push_back(Orphan { lane, id, marked });
    }

    /// Cancels a booking now, or at a sync if enough are being cancelled already.
    pub(super) fn cancel_orphan(&mut self, orphan: Orphan, now: Monotonic) {
        if self.orphans.on_the_way >= ORPHANS_AT_ONCE_MAX {
            self.orphans.due.push_back(orphan);
            return;
        }
        let Orphan { lane, id, marked } = orphan;
        self.orphans.on_the_way += 1;
        self.batches.push(None, lane, id, marked, EntryKind::CancelOrphan, now);
    }

    /// Tries again what is due, for sales that are there.
    pub(super) fn cancel_orphans(&mut self, now: Monotonic) {
        self.set_aside_forming();
        for _ in 0..self.orphans.set_aside.len().min(ORPHANS_AT_ONCE_MAX) {
            let Some(orphan) = self.orphans.set_aside.pop_front() else { break };
            match self.is_gone(orphan.lane) {
                true => self.orphans.set_aside.push_back(orphan),
                false => self.orphans.due.push_back(orphan),
            }
        }
        for _ in 0..self.orphans.due.len() {
            if self.orphans.on_the_way >= ORPHANS_AT_ONCE_MAX {
                break;
            }
            let Some(orphan) = self.orphans.due.pop_front() else { break };
            match self.is_gone(orphan.lane) {
                true => self.set_aside(orphan),
                false => self.cancel_orphan(orphan, now),
            }
        }
    }

    fn is_gone(&self, lane: LaneIndex) -> bool {
        self.lanes[lane].is_out_of_order()
    }

    /// Cancellations that gathered and cannot leave, since nothing is sent for a missing sale.
    fn set_aside_forming(&mut self) {
        for index in 0..self.batches.ready().len() {
            let lane = self.batches.ready()[index];
            if !self.is_gone(lane) {
                continue;
            }
            for Entry { lane, id, marked, kind, .. } in self.batches.take_own(lane) {
                self.orphans.note_ended(&kind);
                self.set_aside(Orphan { lane, id, marked });
            }
        }
    }

    /// The lane's sale was removed, with all its bookings.
    pub(super) fn forget_orphans(&mut self, lane: LaneIndex) {
        let board = &self.lanes[lane].board;
        let mut stays = |orphan: &Orphan| {
            let stays = orphan.lane != lane;
            if !stays && orphan.marked {
                board.end(&orphan.id);
            }
            stays
        };
        self.orphans.due.retain(&mut stays);
        self.orphans.set_aside.retain(&mut stays);
    }

    fn set_aside(&mut self, orphan: Orphan) {
        if self.orphans.set_aside.len() >= ORPHANS_SET_ASIDE_MAX
            && let Some(Orphan { lane, id, marked }) = self.orphans.set_aside.pop_front()
        {
            let board = &self.lanes[lane].board;
            if marked {
                board.end(&id);
            }
            tracing::error!(sale = %board.name(), booking = %id, "an orphaned booking will not be cancelled: the ledger \
                 does not have its sale, and too many other orphans already wait for a lost sale");
        }
        self.orphans.set_aside.push_back(orphan);
    }
}
