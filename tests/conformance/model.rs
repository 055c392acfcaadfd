//! The contract in its plainest form: maps in memory and a clock that a test turns. Slow, obvious, and right.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::ledger::Ledger;
use boxoffice::limits::{ANNOUNCE_MS, FREEZE_MS, FREEZE_MS_MAX, LOG_ENTRIES_PER_CALL_MAX};
use boxoffice::protocol::*;

/// A clock in milliseconds that only a test moves.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub fn now(&self) -> WallTime {
        WallTime(self.0.load(Ordering::Relaxed))
    }

    pub fn set(&self, now: WallTime) {
        self.0.store(now.0, Ordering::Relaxed);
    }
}

/// All sales, in memory.
pub struct Model {
    clock: TestClock,
    sales: BTreeMap<SaleName, Sale>,
    /// The names that were announced, in order.
    feed: Vec<SaleName>,
}

/// `None` is a tombstone.
type Entry = Option<Booking>;

struct Sale {
    state: SaleState,
    bookings: BTreeMap<BookingId, Entry>,
    /// How long bookings are held in all, where the sale had a longest hold.
    holds_ms: BTreeMap<BookingId, u64>,
    log: Vec<LogEntry>,
    frozen_since: WallTime,
    /// How often it was frozen, or its freeze made to last.
    freezes: u64,
}

impl Model {
    pub fn new(clock: TestClock) -> Model {
        Model { clock, sales: BTreeMap::new(), feed: Vec::new() }
    }

    fn call(&mut self, call: &Call) -> Answer {
        match call {
            Call::Ledger(op) => Answer::Ledger(self.on_ledger(op)),
            Call::Sale { sale, op: SaleOp::Open { terms, by } } => self.open(*sale, terms, *by),
            Call::Sale { sale, op: SaleOp::Remove } => self.remove(sale),
            Call::Sale { sale, op: SaleOp::LookUp(ids) } => match self.sale_now(sale) {
                Some(sale) => sale.look_up(ids),
                None => Answer::Missing,
            },
            Call::Sale { sale, op } => self.on_sale(sale, |sale| Some(sale.act(op))),
            Call::Bookings { sale, seen, op } => self.on_sale(sale, |sale| sale.change(seen, op)),
        }
    }

    fn on_ledger(&self, op: &LedgerOp) -> LedgerResult {
        match op {
            LedgerOp::Sales => {
                LedgerResult::Sales { names: self.sales.keys().copied().collect(), odd: Vec::new() }
            }
            LedgerOp::Changes { after } => self.changes(*after),
            LedgerOp::Recall { sales } => {
                let is_removed = |(name, _): &(SaleName, u64)| !self.sales.contains_key(name);
                LedgerResult::Recalled { removed: sales.iter().map(is_removed).collect() }
            }
            // Of no sale, and not the same on both ledgers: see hosts.rs.
            LedgerOp::Beat { .. } | LedgerOp::Hosts => {
                LedgerResult::Hosts { hosts: Vec::new(), is_untidy: false }
            }
            LedgerOp::Layout => LedgerResult::Layout(boxoffice::ledger::LAYOUT),
            LedgerOp::Identify { .. } => LedgerResult::Identified { id: "model".to_owned(), age_ms: 0 },
        }
    }

    /// The sale, at the time that it is.
    fn sale_now(&mut self, name: &SaleName) -> Option<&mut Sale> {
        let sale = self.sales.get_mut(name)?;
        sale.state.now = self.clock.now();
        Some(sale)
    }

    /// Acts on a sale that is there, and announces what changed; `None` says that the caller's view is stale.
    fn on_sale(&mut self, name: &SaleName, act: impl FnOnce(&mut Sale) -> Option<SaleResult>) -> Answer {
        let Some(sale) = self.sale_now(name) else { return Answer::Missing };
        let before = sale.moments();
        let result = act(sale);
        let (now, announced) = (sale.state.now, sale.state.announced_at);
        let is_news =
            sale.moments() != before && !(announced..WallTime(announced.0 + ANNOUNCE_MS)).contains(&now);
        if is_news {
            sale.state.announced_at = now;
        }
        let state = sale.state.clone();
        if is_news {
            self.feed.push(*name);
        }
        match result {
            Some(result) => Answer::Sale { state, result },
            None => Answer::Stale(state),
        }
    }

    fn open(&mut self, name: SaleName, terms: &SaleTerms, by: Opener) -> Answer {
        let now = self.clock.now();
        let is_there = self.sales.contains_key(&name);
        if !is_there {
            self.feed.push(name);
        }
        let sale = self.sales.entry(name).or_insert_with(|| Sale {
            state: SaleState {
                terms: terms.clone(),
                version: 1,
                opened: now.0,
                lineage: now.0,
                announced_at: now,
                by_operator: by == Opener::Operator,
                ..SaleState::default()
            },
            bookings: BTreeMap::new(),
            holds_ms: BTreeMap::new(),
            log: Vec::new(),
            frozen_since: WallTime(0),
            freezes: 0,
        });
        sale.state.now = now;
        let result = if is_there { SaleResult::Exists } else { SaleResult::Created };
        Answer::Sale { state: sale.state.clone(), result }
    }

    fn remove(&mut self, name: &SaleName) -> Answer {
        let Some(sale) = self.sale_now(name) else { return Answer::Missing };
        sale.lapse();
        let state = sale.state.clone();
        if state.status != SaleStatus::Closed {
            return Answer::Sale { state, result: SaleResult::Refused(ChangeFault::NotClosed) };
        }
        if state.held > 0 {
            return Answer::Sale { state, result: SaleResult::Refused(ChangeFault::StillHeld) };
        }
        self.sales.remove(name);
        self.feed.push(*name);
        Answer::Removed { done: true }
    }

    /// The latest mention of each name counts.
    fn changes(&self, after: Option<u64>) -> LedgerResult {
        let at = self.feed.len() as u64;
        let from = after.unwrap_or(at).min(at) as usize;
        let later = |place: usize| self.feed[place + 1..].contains(&self.feed[place]);
        let names = (from..self.feed.len()).filter(|&place| !later(place)).map(|place| self.feed[place]);
        LedgerResult::Changes {
            names: names.collect(),
            at,
            more: false,
            reset: after.is_some_and(|after| after > at),
            ledger: String::new(),
            now: self.clock.now(),
        }
    }
}

impl Ledger for Model {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        calls.iter().map(|call| Ok(self.call(call))).collect()
    }
}

impl Sale {
    /// Different after every change.
    fn moments(&self) -> (u64, u64, u64) {
        (self.state.version, self.state.sequence, self.freezes)
    }

    /// What is done to bookings; `None` if nothing is, since the caller's view is stale.
    fn change(&mut self, seen: &Watermark, op: &BookingOp) -> Option<SaleResult> {
        if let BookingOp::Restore(bookings) = op {
            return self.restore(seen, bookings);
        }
        if self.is_stale_for(seen) {
            return None;
        }
        self.lapse();
        self.sweep();
        Some(match op {
            BookingOp::Reserve(claims) => {
                SaleResult::Reserved(claims.iter().map(|claim| self.reserve(claim)).collect())
            }
            BookingOp::Confirm(ids) => SaleResult::Confirmed(ids.iter().map(|id| self.confirm(id)).collect()),
            BookingOp::Cancel(cancels) => {
                SaleResult::Cancelled(cancels.iter().map(|cancel| self.cancel(cancel)).collect())
            }
            BookingOp::Amend(amendments) => SaleResult::Amended(
                amendments.iter().map(|(id, amendment)| self.amend(id, *amendment)).collect(),
            ),
            BookingOp::Assign { id, buyer } => {
                SaleResult::Assigned(self.assign(id, buyer.as_deref().copied()))
            }
            BookingOp::Restore(_) => unreachable!("put back above"),
        })
    }

    fn act(&mut self, op: &SaleOp) -> SaleResult {
        match op {
            SaleOp::Snapshot => SaleResult::Done,
            SaleOp::Expire => {
                self.lapse();
                self.sweep();
                SaleResult::Done
            }
            SaleOp::Alter(change) => {
                self.lapse();
                self.sweep();
                self.alter(change)
            }
            SaleOp::Page { .. } => SaleResult::Page {
                bookings: self.bookings.keys().filter_map(|id| self.seen(id)).collect(),
                next: None,
            },
            SaleOp::Log { after } => {
                let later = self.log.iter().filter(|entry| entry.sequence > *after);
                SaleResult::Log(later.take(LOG_ENTRIES_PER_CALL_MAX).cloned().collect())
            }
            // Its log has no consumer groups.
            SaleOp::Trim => SaleResult::Trimmed { groups: 0, removed: 0, left: self.log.len() as u64 },
            SaleOp::Open { .. } | SaleOp::Remove | SaleOp::LookUp(_) => unreachable!("answered before"),
            SaleOp::Survey { .. } | SaleOp::Repair { .. } => {
                unreachable!("nothing is stored here that could be wrong")
            }
        }
    }

    fn look_up(&mut self, ids: &[BookingId]) -> Answer {
        let bookings = ids.iter().map(|id| self.seen(id)).collect();
        // A reading writes nothing down.
        let stored = (self.state.held, self.state.lapsed_until);
        self.lapse();
        let state = self.state.clone();
        (self.state.held, self.state.lapsed_until) = stored;
        Answer::Sale { state, result: SaleResult::Found(bookings) }
    }

    /// The booking as a reader sees it now.
    fn seen(&self, id: &BookingId) -> Option<Booking> {
        let mut booking = self.bookings.get(id)?.clone()?;
        if self.overdue(&booking) {
            booking.status = BookingStatus::Expired;
        }
        Some(booking)
    }

    fn overdue(&self, booking: &Booking) -> bool {
        matches!(booking.status, BookingStatus::Held { expires_at } if expires_at <= self.state.now)
    }

    /// From its deadline on a hold counts for nobody, whenever that is written down.
    fn lapse(&mut self) {
        if self.is_frozen() {
            return;
        }
        let over = |booking: &&Booking| match booking.status {
            BookingStatus::Held { expires_at } => {
                (self.state.lapsed_until.0 + 1..=self.state.now.0).contains(&expires_at.0)
            }
            _ => false,
        };
        let tickets: u64 = self
            .bookings
            .values()
            .flatten()
            .filter(over)
            .map(|booking| u64::from(booking.quantity.get()))
            .sum();
        self.state.held -= tickets;
        self.state.lapsed_until = self.state.now;
    }

    /// Gives a booking a status.
    fn write(&mut self, id: &BookingId, status: BookingStatus) {
        let quantity = self.bookings[id].as_ref().unwrap().quantity;
        self.rewrite(id, status, quantity);
    }

    /// Gives a booking a status and no more tickets than it has: the counts, the record and the log move together.
    fn rewrite(&mut self, id: &BookingId, status: BookingStatus, remaining: Quantity) {
        let lapsed_until = self.state.lapsed_until;
        let booking = self.bookings.get_mut(id).unwrap().as_mut().unwrap();
        let quantity = u64::from(booking.quantity.get());
        match booking.status {
            BookingStatus::Held { expires_at } if expires_at <= lapsed_until => {}
            BookingStatus::Held { .. } => self.state.held -= quantity,
            BookingStatus::Confirmed => self.state.sold -= quantity,
            _ => {}
        }
        booking.released += booking.quantity.get() - remaining.get();
        booking.quantity = remaining;
        match status {
            BookingStatus::Held { .. } => self.state.held += u64::from(remaining.get()),
            BookingStatus::Confirmed => self.state.sold += u64::from(remaining.get()),
            _ => {
                self.holds_ms.remove(id);
            }
        }
        booking.status = status;
        self.state.sequence += 1;
        self.log.push(LogEntry {
            sequence: self.state.sequence,
            at: self.state.now,
            booking: Booking { released: 0, reassigned: 0, ..booking.clone() },
        });
    }

    fn sweep(&mut self) {
        if self.is_frozen() {
            return;
        }
        let mut overdue: Vec<(BookingStatus, BookingId)> = Vec::new();
        for booking in self.bookings.values().flatten() {
            if self.overdue(booking) {
                overdue.push((booking.status, booking.id));
            }
        }
        overdue.sort_by_key(|(status, id)| match status {
            BookingStatus::Held { expires_at } => (*expires_at, *id),
            _ => unreachable!(),
        });
        for (_, id) in overdue {
            self.write(&id, BookingStatus::Expired);
        }
    }

    fn limit_allows(&self, buyer: Option<BuyerId>, quantity: Quantity) -> bool {
        let (Some(limit), Some(buyer)) = (self.state.terms.per_buyer, buyer) else { return true };
        let its = self.bookings.values().flatten().filter(|booking| booking.buyer == Some(buyer));
        let live = its.filter(|booking| booking.status.holds_stock() && !self.overdue(booking));
        let has: u32 = live.map(|booking| booking.quantity.get()).sum();
        has + quantity.get() <= limit
    }

    fn fits(&self, quantity: Quantity) -> bool {
        self.state.held + self.state.sold + u64::from(quantity.get()) <= self.state.terms.total
    }

    fn reserve(&mut self, claim: &Claim) -> Reservation {
        match self.bookings.get(&claim.id) {
            Some(Some(booking))
                if booking.made_with() == claim.quantity.get() && booking.buyer == claim.buyer =>
            {
                return Reservation::Known(booking.clone());
            }
            Some(Some(_)) => return Reservation::IdReused,
            Some(None) => {
                let Claim { id, quantity, buyer } = claim.clone();
                return Reservation::Known(Booking {
                    id,
                    status: BookingStatus::Cancelled,
                    quantity,
                    released: 0,
                    buyer,
                    reassigned: 0,
                });
            }
            None => {}
        }
        if !self.state.on_sale(self.state.now) {
            return Reservation::NotOnSale;
        }
        if self.state.terms.buyer_required && claim.buyer.is_none() {
            return Reservation::BuyerRequired;
        }
        if !self.limit_allows(claim.buyer, claim.quantity) {
            return Reservation::BuyerLimit;
        }
        if !self.fits(claim.quantity) {
            return Reservation::SoldOut;
        }
        let Claim { id, quantity, buyer } = claim.clone();
        // Expired for the moment: what writes the status moves the counts.
        self.bookings.insert(
            id,
            Some(Booking { id, status: BookingStatus::Expired, quantity, released: 0, buyer, reassigned: 0 }),
        );
        Reservation::Granted { expires_at: self.take_anew(&id).deadline() }
    }

    /// Takes the tickets of a booking that has none.
    fn take_anew(&mut self, id: &BookingId) -> BookingStatus {
        let SaleTerms { hold_ms, hold_max_ms, .. } = self.state.terms;
        let status = match hold_ms {
            Some(ms) => BookingStatus::Held { expires_at: WallTime(self.state.now.0 + ms) },
            None => BookingStatus::Confirmed,
        };
        self.write(id, status);
        self.holds_ms.remove(id);
        if let (Some(ms), Some(_)) = (hold_ms, hold_max_ms) {
            self.holds_ms.insert(*id, ms);
        }
        status
    }

    fn amend(&mut self, id: &BookingId, amendment: Amendment) -> Amended {
        use BookingStatus::{Cancelled, Confirmed, Expired, Held};
        let Some(Some(booking)) = self.bookings.get(id).cloned() else { return Amended::NotFound };
        let terms = self.state.terms.clone();
        let objection = match (amendment, booking.status) {
            (_, Cancelled) => Some(Objection::Cancelled),
            (Amendment::Extend { .. } | Amendment::HoldAgain, Confirmed) => Some(Objection::Confirmed),
            (Amendment::Extend { .. } | Amendment::Release { .. }, Expired) => Some(Objection::HoldExpired),
            (Amendment::Extend { ms }, Held { expires_at }) => {
                let wanted = self.state.now.0 + ms;
                if wanted > expires_at.0 {
                    let so_far = self.holds_ms.get(id).copied().or(terms.hold_ms).unwrap_or(0);
                    let in_all = so_far + wanted - expires_at.0;
                    if terms.hold_max_ms.is_none_or(|most| in_all > most) {
                        return Amended::Refused(Objection::HoldLimit);
                    }
                    self.write(id, Held { expires_at: WallTime(wanted) });
                    self.holds_ms.insert(*id, in_all);
                }
                None
            }
            (Amendment::Release { remaining }, Held { .. } | Confirmed) => {
                if remaining > booking.quantity {
                    return Amended::Refused(Objection::NotARelease);
                }
                if remaining < booking.quantity {
                    self.rewrite(id, booking.status, remaining);
                }
                None
            }
            (Amendment::HoldAgain, Held { .. }) => None,
            (Amendment::HoldAgain, Expired) => {
                if !self.state.on_sale(self.state.now) {
                    Some(Objection::NotOnSale)
                } else if terms.buyer_required && booking.buyer.is_none() {
                    Some(Objection::BuyerRequired)
                } else if !self.limit_allows(booking.buyer, booking.quantity) {
                    Some(Objection::BuyerLimit)
                } else if !self.fits(booking.quantity) {
                    Some(Objection::SoldOut)
                } else {
                    self.take_anew(id);
                    None
                }
            }
        };
        match objection {
            Some(objection) => Amended::Refused(objection),
            None => Amended::Done(self.bookings[id].clone().unwrap()),
        }
    }

    fn assign(&mut self, id: &BookingId, buyer: Option<BuyerId>) -> Amended {
        let Some(Some(booking)) = self.bookings.get(id).cloned() else { return Amended::NotFound };
        let objection = match booking.status {
            BookingStatus::Cancelled => Objection::Cancelled,
            BookingStatus::Expired => Objection::HoldExpired,
            _ if booking.buyer == buyer => return Amended::Done(booking),
            _ if buyer.is_none() && self.state.terms.buyer_required => Objection::BuyerRequired,
            _ if !self.limit_allows(buyer, booking.quantity) => Objection::BuyerLimit,
            status => {
                self.give_to(id, buyer, booking.reassigned + 1);
                self.write(id, status);
                return Amended::Done(self.bookings[id].clone().unwrap());
            }
        };
        Amended::Refused(objection)
    }

    /// Says whose it is, and no more: who writes its status logs that.
    fn give_to(&mut self, id: &BookingId, buyer: Option<BuyerId>, reassigned: u32) {
        let booking = self.bookings.get_mut(id).unwrap().as_mut().unwrap();
        (booking.buyer, booking.reassigned) = (buyer, reassigned);
    }

    fn confirm(&mut self, id: &BookingId) -> Confirmation {
        let Some(Some(booking)) = self.bookings.get(id).cloned() else { return Confirmation::NotFound };
        match booking.status {
            BookingStatus::Confirmed => return Confirmation::Confirmed(booking),
            BookingStatus::Cancelled => return Confirmation::Cancelled(booking),
            BookingStatus::Held { .. } => self.write(id, BookingStatus::Confirmed),
            BookingStatus::Expired => {
                if !self.fits(booking.quantity) {
                    return Confirmation::HoldExpired(booking);
                }
                if !self.limit_allows(booking.buyer, booking.quantity) {
                    return Confirmation::BuyerLimit(booking);
                }
                self.write(id, BookingStatus::Confirmed);
            }
        }
        Confirmation::Confirmed(Booking { status: BookingStatus::Confirmed, ..booking })
    }

    fn cancel(&mut self, Cancel { id, tombstone }: &Cancel) -> Cancellation {
        match self.bookings.get(id).cloned() {
            None if *tombstone => {
                self.bookings.insert(*id, None);
                Cancellation::NotFound
            }
            None | Some(None) => Cancellation::NotFound,
            Some(Some(booking)) => {
                if booking.status != BookingStatus::Cancelled {
                    self.write(id, BookingStatus::Cancelled);
                }
                Cancellation::Cancelled(Booking { status: BookingStatus::Cancelled, ..booking })
            }
        }
    }

    fn is_frozen(&self) -> bool {
        self.state.now < self.state.frozen_until
    }

    /// Whether the caller has seen something of this very sale.
    fn knows_this(&self, seen: &Watermark) -> bool {
        seen.is_something() && seen.opened == self.state.opened
    }

    fn has_seen_more(&self, seen: &Watermark) -> bool {
        let more = seen.lineage > self.state.lineage
            || (seen.lineage == self.state.lineage && seen.sequence > self.state.sequence);
        self.knows_this(seen) && more
    }

    fn is_stale_for(&mut self, seen: &Watermark) -> bool {
        if self.has_seen_more(seen) {
            self.freeze(seen, true);
        }
        let same = self.knows_this(seen) && seen.lineage == self.state.lineage;
        self.is_frozen() || (seen.is_something() && !same)
    }

    fn freeze(&mut self, seen: &Watermark, more: bool) {
        let now = self.state.now;
        self.freezes += 1;
        if more || !self.is_frozen() {
            self.state.lineage = [now.0, self.state.lineage + 1, seen.lineage + 1].into_iter().max().unwrap();
            self.frozen_since = now;
        }
        let until = WallTime((now.0 + FREEZE_MS).min(self.frozen_since.0 + FREEZE_MS_MAX));
        self.state.frozen_until = self.state.frozen_until.max(until);
    }

    fn restore(&mut self, seen: &Watermark, told: &[Booking]) -> Option<SaleResult> {
        if seen.is_something() && seen.opened != self.state.opened {
            return None;
        }
        let more = self.has_seen_more(seen);
        let restorations: Vec<Restoration> = told.iter().map(|told| self.put_back(told)).collect();
        let proof = [Restoration::PutBack, Restoration::Lost(LostCause::SoldOut)];
        if more || restorations.iter().any(|restoration| proof.contains(restoration)) {
            self.freeze(seen, more);
        }
        Some(SaleResult::Restored(restorations))
    }

    fn put_back(&mut self, told: &Booking) -> Restoration {
        use BookingStatus::{Cancelled, Confirmed, Expired, Held};
        let here = self.bookings.get(&told.id).cloned();
        let lapsed = |expires_at: WallTime| expires_at <= self.state.lapsed_until;
        let mut remaining = told.quantity;
        let to = match &here {
            None => match told.status {
                Held { expires_at } if expires_at <= self.state.now => Expired,
                Cancelled => Cancelled,
                _ if !self.fits(told.quantity) => return Restoration::Lost(LostCause::SoldOut),
                status => status,
            },
            Some(Some(booking))
                if booking.made_with() == told.made_with()
                    && (booking.buyer == told.buyer || booking.reassigned != told.reassigned) =>
            {
                // Tickets only ever become fewer.
                remaining = told.quantity.min(booking.quantity);
                let is_news = remaining < booking.quantity || told.reassigned > booking.reassigned;
                let now = self.state.now;
                let was_longer = |to: WallTime| match booking.status {
                    Held { expires_at } => to > expires_at && to > now,
                    status => status == Expired && to > now,
                };
                let to = match (told.status, booking.status) {
                    (Confirmed, Held { .. } | Expired) => Confirmed,
                    (Cancelled, Held { .. } | Confirmed | Expired) => Cancelled,
                    (Held { expires_at }, Held { .. } | Expired) if was_longer(expires_at) => told.status,
                    (_, Held { expires_at }) if is_news && expires_at > now => booking.status,
                    (_, Confirmed) if is_news => Confirmed,
                    _ => return Restoration::Stands,
                };
                let has_tickets = match booking.status {
                    Held { expires_at } => !lapsed(expires_at),
                    status => status == Confirmed,
                };
                if to.holds_stock() && !has_tickets && !self.fits(remaining) {
                    return Restoration::Lost(LostCause::SoldOut);
                }
                to
            }
            _ if told.status == Cancelled => return Restoration::Stands,
            _ => return Restoration::Lost(LostCause::IdTaken),
        };
        if here.is_none() {
            self.bookings.insert(told.id, Some(Booking { status: Expired, ..told.clone() }));
        }
        // The later word says whose it is.
        let here = here.flatten();
        if here.as_ref().is_none_or(|booking| told.reassigned > booking.reassigned) {
            self.give_to(&told.id, told.buyer, told.reassigned);
        }
        let before = here.and_then(|booking| booking.status.deadline());
        self.rewrite(&told.id, to, remaining);
        if let (Some(from), Some(to), Some(ms)) = (before, to.deadline(), self.holds_ms.get_mut(&told.id)) {
            *ms += to.0 - from.0;
        }
        Restoration::PutBack
    }

    fn alter(&mut self, change: &SaleChange) -> SaleResult {
        let old = &self.state.terms;
        let terms = SaleTerms {
            total: change.total.unwrap_or(old.total),
            hold_ms: change.hold_ms.unwrap_or(old.hold_ms),
            hold_max_ms: change.hold_max_ms.unwrap_or(old.hold_max_ms),
            per_buyer: change.per_buyer.unwrap_or(old.per_buyer),
            starts_at: change.starts_at.unwrap_or(old.starts_at),
            ends_at: change.ends_at.unwrap_or(old.ends_at),
            buyer_required: change.buyer_required.unwrap_or(old.buyer_required),
        };
        let status = change.status.unwrap_or(self.state.status);
        if change.if_version.is_some_and(|version| version != self.state.version) {
            return SaleResult::Refused(ChangeFault::OtherVersion);
        }
        if terms.total < self.state.held + self.state.sold {
            return SaleResult::Refused(ChangeFault::TotalTooLow);
        }
        if terms.check().is_err() {
            return SaleResult::Refused(ChangeFault::EmptyWindow);
        }
        if terms != *old || status != self.state.status {
            self.state.version += 1;
        }
        (self.state.terms, self.state.status) = (terms, status);
        SaleResult::Done
    }
}
