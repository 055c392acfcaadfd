//! Bookings that wait for a permit, since other hosts have the permits for what is left.
//!
//! A host has permits for its share. If more ask here than that, the ledger still has tickets, and "sold out" would not be
//! true: the requests stand in a queue of their sale, in the order in which they came, and go on as soon as answers of the
//! ledger bring permits (which are dealt by what is left), or are refused once nothing is left or this host asks for all of
//! it. How many may stand is bounded, and nobody stands longer than a client waits for the ledger.

use super::Desk;
use super::batches::{EntryKind, Standing};
use super::lanes::LaneIndex;
use crate::booking::{Outcome, Refusal};
use crate::clock::{Monotonic, Now};
use crate::limits;
use crate::stock::{Dry, Membership, Permits};

/// What becomes of the first that stands in a lane.
enum Passage {
    /// It asks the ledger.
    Goes(Permits),
    /// It is refused.
    Ends(Refusal),
    /// It stands on.
    Stands,
}

impl<C> Desk<C> {
    /// Lets those go on that stand first and find a permit, and refuses those for whom there will be none; so many in a
    /// turn.
    pub(super) fn move_standing(&mut self, now: Now) {
        let mut left = limits::STANDING_MOVED_PER_TURN_MAX;
        for lane in self.batches.lanes_standing() {
            while left > 0
                && let Some(standing) = self.batches.first_standing(lane)
            {
                match self.passage_of(lane, &standing, now) {
                    Passage::Goes(permits) => self.batches.let_go(lane, permits),
                    Passage::Ends(refusal) => self.end_standing(lane, &standing, refusal),
                    Passage::Stands => break,
                }
                left -= 1;
            }
        }
        // Permits may also come from other cores of this host, and they do not say so.
        let pause = if left == 0 { 0 } else { limits::STANDING_LOOK_MS };
        self.next_look_at = now.monotonic.plus_ms(pause);
    }

    fn passage_of(&self, lane: LaneIndex, standing: &Standing, now: Now) -> Passage {
        if let Err(refusal) = self.pass_window(lane, now) {
            return Passage::Ends(refusal);
        }
        let sale = &self.lanes[lane].board;
        match sale.take(self.core, standing.quantity) {
            Ok(permits) => Passage::Goes(permits),
            Err(Dry::Elsewhere) => Passage::Stands,
            // What is with a silent ledger says nothing about what is left.
            Err(Dry::SoldOut) if sale.available() > 0 && self.is_silent_anywhere(now.monotonic) => {
                Passage::Stands
            }
            Err(Dry::SoldOut) => Passage::Ends(Refusal::SoldOut),
        }
    }

    /// Refuses the first that stands, unless it may be a repeat of a granted request: that one is looked up before.
    fn end_standing(&mut self, lane: LaneIndex, standing: &Standing, refusal: Refusal) {
        let board = &self.lanes[lane].board;
        let may_be_repeat = matches!(refusal, Refusal::SoldOut | Refusal::NotOnSale(_))
            && !standing.made_here
            && board.membership(&standing.id) == Membership::MaybePresent;
        if may_be_repeat {
            board.end(&standing.id);
            self.batches.look_up_first(lane, refusal);
            return;
        }
        let key = self.batches.leave_first(lane);
        self.refused += 1;
        self.finish(key, Outcome::Refused(refusal));
    }

    /// What a client is told that stood until its deadline: nothing was done.
    pub(super) fn refusal_of_standing(&self, kind: &EntryKind, now: Monotonic) -> Option<Refusal> {
        let stood = matches!(kind, EntryKind::Stand { .. });
        stood.then(|| match self.is_silent_anywhere(now) {
            true => Refusal::LedgerUnavailable,
            false => Refusal::Overloaded,
        })
    }

    /// Whether the ledger is silent towards some core of this host.
    pub(super) fn is_silent_anywhere(&self, now: Monotonic) -> bool {
        self.ledger_is_silent(now) || self.board.any_silent()
    }
}
