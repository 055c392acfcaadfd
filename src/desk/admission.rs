//! Admission: the stages that a request passes before it may wait for the ledger. Each may refuse it from memory: no lock
//! but that of an id, no call, no allocation.
//!
//! A booking passes the *window* (is the sale open, as far as this host knows?), the *permits* (is there a ticket that
//! nobody else is asking for? if other hosts have the permits, it [stands](super::standing) for one) and the *room* (is there
//! a ledger to wait for, and room to wait?). If the sale is closed or
//! no permit is free, a booking with an id of its own may be a repeat of a granted one: it is looked up before it is
//! refused. A request about an existing booking passes the *freeze* and the *room*.

use super::Desk;
use super::batches::EntryKind;
use super::lanes::LaneIndex;
use crate::booking::{Amendment, BookingId, BuyerId, Quantity, Refusal};
use crate::clock::Now;
use crate::limits;
use crate::stock::{Dry, Gate, Membership, Permits, Settlement};

/// A booking that a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct BookingRequest {
    /// The client's own id, or `None` if the server makes one.
    pub id: Option<BookingId>,
    /// How many tickets.
    pub quantity: Quantity,
    /// For whom.
    pub buyer: Option<BuyerId>,
}

/// What a client asks for an existing booking.
#[derive(Clone, Copy, Debug)]
pub enum BookingAction {
    /// Look it up.
    LookUp,
    /// Confirm its hold.
    Confirm,
    /// Cancel it.
    Cancel {
        /// If there is no such booking, its id must never be granted.
        tombstone: bool,
    },
    /// Change it.
    Amend(Amendment),
}

/// A request that was admitted and must be [enqueued](Desk::enqueue) at once: it may hold permits, and an id that is marked
/// as in flight.
#[derive(Debug)]
#[must_use = "what was let in waits for the ledger: enqueue it"]
pub struct Admitted {
    lane: LaneIndex,
    /// `None` if the server makes one.
    id: Option<BookingId>,
    /// Whether the id was marked as in flight.
    marked: bool,
    kind: EntryKind,
}

impl<C> Desk<C> {
    /// Admits a booking or refuses it. A refusal is final and costs only memory reads.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit_booking(
        &mut self,
        lane: LaneIndex,
        request: &BookingRequest,
        now: Now,
    ) -> Result<Admitted, Refusal> {
        let BookingRequest { id, quantity, buyer } = *request;
        let permits = match self.pass_all(lane, quantity, now) {
            Ok(permits) => permits,
            Err(refusal) => {
                let admitted = self.admit_repeat(lane, request, refusal, now);
                self.refused += u64::from(admitted.is_err());
                return admitted;
            }
        };
        let marked = match &id {
            None => false,
            Some(own) if self.lanes[lane].board.begin(own) => true,
            Some(_) => {
                if let Some(permits) = permits {
                    self.lanes[lane].board.settle(permits, Settlement::Returned);
                }
                return Err(Refusal::InProgress);
            }
        };
        let made_here = id.is_none();
        let kind = match permits {
            Some(permits) => EntryKind::Reserve { quantity, buyer, made_here, permits },
            None => EntryKind::Stand { quantity, buyer, made_here },
        };
        Ok(Admitted { lane, id, marked, kind })
    }

    /// Admits a request about an existing booking, or refuses it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit_action(
        &mut self,
        lane: LaneIndex,
        id: &BookingId,
        action: BookingAction,
        now: Now,
    ) -> Result<Admitted, Refusal> {
        let kind = match action {
            BookingAction::LookUp => EntryKind::LookUp,
            BookingAction::Confirm => EntryKind::Confirm,
            BookingAction::Cancel { tombstone } => EntryKind::Cancel { tombstone },
            BookingAction::Amend(amendment) => EntryKind::Amend(amendment),
        };
        if !matches!(action, BookingAction::LookUp) {
            // It is not known yet what becomes of the booking in flight.
            if self.lanes[lane].board.is_in_flight(id) {
                return Err(Refusal::InProgress);
            }
            self.pass_freeze(lane, now)?;
        }
        self.pass_room(lane, now)?;
        Ok(Admitted { lane, id: Some(*id), marked: false, kind })
    }

    /// Makes an admitted request wait for the ledger: its client will be [resolved](Desk::poll_resolved). `make_id` is
    /// called if it has no id of its own.
    pub fn enqueue(&mut self, admitted: Admitted, client: C, now: Now, make_id: impl FnOnce() -> BookingId) {
        let Admitted { lane, id, marked, kind } = admitted;
        self.batches.push(Some(client), lane, id.unwrap_or_else(make_id), marked, kind, now.monotonic);
    }

    /// A booking that found the sale closed or no permit free, and may have been granted before.
    fn admit_repeat(
        &mut self,
        lane: LaneIndex,
        request: &BookingRequest,
        refusal: Refusal,
        now: Now,
    ) -> Result<Admitted, Refusal> {
        let (Refusal::SoldOut | Refusal::NotOnSale(_), Some(own)) = (refusal, &request.id) else {
            return Err(refusal);
        };
        let sale = &self.lanes[lane].board;
        if sale.is_in_flight(own) {
            return Err(Refusal::InProgress);
        }
        if sale.membership(own) == Membership::Absent {
            return Err(refusal);
        }
        self.pass_room(lane, now)?;
        let BookingRequest { quantity, buyer, .. } = *request;
        let kind = EntryKind::LookUpBeforeRefusal { quantity, buyer, refusal };
        Ok(Admitted { lane, id: request.id, marked: false, kind })
    }

    /// All stages of a booking; `None` if it has to [stand](super::standing) for its permits.
    fn pass_all(
        &mut self,
        lane: LaneIndex,
        quantity: Quantity,
        now: Now,
    ) -> Result<Option<Permits>, Refusal> {
        self.pass_window(lane, now)?;
        let permits = self.take_permits(lane, quantity, now)?;
        let room = match &permits {
            None if self.batches.standing() >= limits::STANDING_PER_CORE_MAX => Err(Refusal::Overloaded),
            _ => self.pass_room(lane, now),
        };
        match (room, permits) {
            (Ok(()), permits) => Ok(permits),
            (Err(refusal), None) => Err(refusal),
            (Err(refusal), Some(permits)) => {
                self.lanes[lane].board.settle(permits, Settlement::Returned);
                Err(refusal)
            }
        }
    }

    /// Whether the sale is open, as far as this host knows.
    pub(super) fn pass_window(&self, lane: LaneIndex, now: Now) -> Result<(), Refusal> {
        let lane = &self.lanes[lane];
        match lane.board.gate(lane.ledger_time(now)) {
            Gate::Open => Ok(()),
            Gate::NotOnSale(why) => Err(Refusal::NotOnSale(why)),
            Gate::Missing => Err(Refusal::SaleMissing),
            Gate::Unsound => Err(Refusal::SaleUnsound),
            Gate::Frozen => Err(Refusal::SaleFrozen),
        }
    }

    /// Whether bookings of the sale may be changed: not while hosts put back what the ledger has forgotten.
    fn pass_freeze(&self, lane: LaneIndex, now: Now) -> Result<(), Refusal> {
        let lane = &self.lanes[lane];
        match lane.board.gate(lane.ledger_time(now)) {
            Gate::Frozen => Err(Refusal::SaleFrozen),
            Gate::Open | Gate::NotOnSale(_) | Gate::Missing | Gate::Unsound => Ok(()),
        }
    }

    /// Permits for that many tickets; `None` if other hosts have them, or others stand for them already.
    fn take_permits(
        &self,
        lane: LaneIndex,
        quantity: Quantity,
        now: Now,
    ) -> Result<Option<Permits>, Refusal> {
        let sale = &self.lanes[lane].board;
        let dry = match self.batches.standing() > 0 && self.batches.has_standing(lane) {
            true if u64::from(quantity.get()) > sale.available() => Dry::SoldOut,
            true => Dry::Elsewhere,
            false => match sale.take(self.core, quantity) {
                Ok(permits) => return Ok(Some(permits)),
                Err(dry) => dry,
            },
        };
        // While the ledger is silent, permits in use say nothing about what is left.
        match dry {
            _ if sale.available() > 0 && self.is_silent_anywhere(now.monotonic) => {
                Err(Refusal::LedgerUnavailable)
            }
            Dry::SoldOut => Err(Refusal::SoldOut),
            Dry::Elsewhere => Ok(None),
        }
    }

    /// Whether there is a ledger to wait for, and room to wait.
    fn pass_room(&self, lane: LaneIndex, now: Now) -> Result<(), Refusal> {
        if self.waiting() >= limits::WAITING_PER_CORE_MAX {
            return Err(Refusal::Overloaded);
        }
        if self.is_cut_off(self.lanes[lane].slot, now) {
            return Err(Refusal::LedgerUnavailable);
        }
        Ok(())
    }
}
