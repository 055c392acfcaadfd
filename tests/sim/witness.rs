//! What the ledger was at every moment of a run, and whether each of its steps was allowed: looked at after every step of
//! the Redis, from its own data and not by its scripts.

use std::collections::{BTreeMap, BTreeSet};

use crate::checks::Violation;
use crate::ledger::Ledger;
use crate::network::PipeId;
use crate::redis::{Booking, LogEntry, Stock};
use crate::scenario::SALE;

/// How a booking stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Until then, in the ledger's milliseconds.
    Held { until_ms: u64 },
    /// For good.
    Confirmed,
    /// Given back.
    Cancelled,
    /// Over.
    Expired,
    /// Not there (any more).
    None,
}

/// One booking, from its first entry in the log on.
#[derive(Clone, Debug)]
pub struct Story {
    /// Tickets that it was made with.
    pub quantity: u64,
    /// Tickets that it has or had, each number with the time from which on.
    pub amounts: Vec<(u64, u64)>,
    /// When its hold began, in the ledger's milliseconds.
    pub began_ms: u64,
    /// When it was last entered as expired, likewise.
    pub expired_ms: u64,
    /// Whose it is or was, each with the time from which on; empty for nobody's.
    pub buyers: Vec<(u64, String)>,
    /// Each standing with the time it began, in microseconds.
    pub standings: Vec<(u64, Standing)>,
    /// Which connection's bytes made the first entry.
    pub by: Option<PipeId>,
}

impl Story {
    /// How it stands now.
    pub fn now(&self) -> Standing {
        self.standings.last().map_or(Standing::None, |(_, standing)| *standing)
    }

    /// Tickets that it has, or had last.
    pub fn amount(&self) -> u64 {
        self.amounts.last().map_or(self.quantity, |(_, amount)| *amount)
    }

    /// Whose it is.
    pub fn buyer(&self) -> &str {
        self.buyers.last().map_or("", |(_, buyer)| buyer)
    }

    /// Whose it was at some moment from `from` to `to`.
    pub fn buyers_between(&self, from: u64, to: u64) -> impl Iterator<Item = &str> + '_ {
        let first = self.buyers.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        self.buyers[first..].iter().take_while(move |(at, _)| *at <= to).map(|(_, buyer)| buyer.as_str())
    }

    /// Whether an operator has given it to another buyer.
    pub fn was_given_away(&self) -> bool {
        self.buyers.windows(2).any(|pair| pair[0].1 != pair[1].1)
    }

    /// Whether it is held or confirmed.
    pub fn has_tickets(&self) -> bool {
        matches!(self.now(), Standing::Held { .. } | Standing::Confirmed)
    }

    /// Each number of tickets that it had at some moment from `from` to `to`.
    pub fn amounts_between(&self, from: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        let first = self.amounts.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        self.amounts[first..].iter().take_while(move |(at, _)| *at <= to).map(|(_, amount)| *amount)
    }

    /// Each standing that it had at some moment from `from` to `to`.
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = Standing> + '_ {
        let first = self.standings.partition_point(|(at, _)| *at <= from);
        let before = first.checked_sub(1).map_or(Standing::None, |index| self.standings[index].1);
        let during = self.standings[first..].iter().take_while(move |(at, _)| *at <= to);
        std::iter::once(before).chain(during.map(|(_, standing)| *standing))
    }
}

/// See the [module](self).
#[derive(Default)]
pub struct Witness {
    /// The sale at each moment at which it changed; `None` while there is none.
    pub levels: Vec<(u64, Option<Stock>)>,
    /// By id.
    pub stories: BTreeMap<String, Story>,
    /// Tickets of each buyer at each moment at which they changed, without holds that were over.
    pub buyers: BTreeMap<String, Vec<(u64, u64)>>,
    /// Bookings of which the ledger has forgotten something, and when.
    pub forgotten: BTreeMap<String, u64>,
    /// Bookings that were made, and by whose bytes.
    pub booked: Vec<(String, Option<PipeId>)>,
    /// When the Redis has last crashed or was replaced: tombstones may be gone, which no log tells of.
    pub fell_back_at: Option<u64>,
    /// Expiries seen.
    pub expiries: u64,
    /// The sale as it was when its bookings were deleted: it must stay so, since nobody may act on it, until an operator has
    /// removed it.
    pub lost_half: Option<Stock>,
    /// Bookings were deleted, now or before an operator removed what was left: a Redis may fall back to the time in between.
    pub has_lost_half: bool,
    /// When the stock was deleted.
    pub deleted_at: Option<u64>,
    /// The booking that an operator gives to another buyer just now, and to whom.
    ordered: Option<(String, String)>,
    sequence: u64,
}

impl Witness {
    /// The sale now.
    pub fn level(&self) -> Option<&Stock> {
        self.levels.last()?.1.as_ref()
    }

    /// Whether there was a sale at some time.
    pub fn was_there(&self) -> bool {
        self.levels.iter().any(|(_, level)| level.is_some())
    }

    /// Tickets that can be booked now.
    pub fn available(&self) -> u64 {
        self.level().map_or(0, available)
    }

    /// Each level that the sale had at some moment from `from` to `to`.
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = Option<&Stock>> + '_ {
        let first = self.levels.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        self.levels[first..].iter().take_while(move |(at, _)| *at <= to).map(|(_, level)| level.as_ref())
    }

    /// The Redis has made a step. `forgot` where it may have gone back.
    pub fn observe(&mut self, ledger: &Ledger, now: u64) -> Result<(), Violation> {
        if let Some(pipe) = ledger.overtaken {
            return Err(Violation::new(
                "overtaken",
                format!("a call of {pipe:?} after one of the next connection"),
            ));
        }
        let stock = ledger.redis().stock(SALE);
        if let Some(half) = &self.lost_half {
            return match stock.as_ref() == Some(half) {
                true => Ok(()),
                false => Err(Violation::new("half a sale acted on", format!("{half:?} is {stock:?}"))),
            };
        }
        if let Some(stock) = &stock {
            self.check_stock(stock)?;
        }
        let sequence = stock.as_ref().map_or(0, |stock| stock.sequence);
        if self.level() != stock.as_ref() {
            let first = usize::try_from(self.sequence).expect("a short log");
            if sequence < self.sequence {
                return Err(Violation::new("went back", format!("from {} to {sequence}", self.sequence)));
            }
            if sequence > self.sequence {
                let log = ledger.redis().log(SALE);
                for entry in &log[first.min(log.len())..] {
                    self.take_in(entry, ledger, now)?;
                }
                if self.sequence != sequence {
                    return Err(Violation::new(
                        "log and sequence",
                        format!("the log ends at {}, the sale is at {sequence}", self.sequence),
                    ));
                }
            }
            let booked = sequence != self.level().map_or(0, |before| before.sequence);
            self.levels.push((now, stock));
            self.recount(ledger)?;
            if booked {
                self.check_overdue(ledger)?;
            }
        }
        Ok(())
    }

    /// Whoever books finds what is overdue available, unless the sale is frozen.
    fn check_overdue(&self, ledger: &Ledger) -> Result<(), Violation> {
        let Some(stock) = self.level().filter(|stock| stock.frozen_until_ms <= stock.clock_ms) else {
            return Ok(());
        };
        let live = |booking: &&Booking| booking.deadline_ms.is_some_and(|deadline| deadline > stock.clock_ms);
        let bookings = ledger.redis().bookings(SALE);
        let held: u64 = bookings.values().filter(live).map(|booking| booking.quantity).sum();
        match held == stock.held {
            true => Ok(()),
            false => Err(Violation::new("overdue and held", format!("{held} live tickets are {stock:?}"))),
        }
    }

    /// An operator gives that booking to another buyer.
    pub fn order(&mut self, id: &str, buyer: &str) {
        self.ordered = Some((id.to_owned(), buyer.to_owned()));
    }

    /// What an operator wanted was done, or was not.
    pub fn disorder(&mut self) {
        self.ordered = None;
    }

    /// Tickets that a buyer has, by the log, without holds that end by then.
    pub fn tickets_of(&self, buyer: &str, by_ms: u64) -> u64 {
        let its = self.stories.values().filter(|story| story.buyer() == buyer);
        let live = its.filter(|story| match story.now() {
            Standing::Held { until_ms } => until_ms > by_ms,
            standing => standing == Standing::Confirmed,
        });
        live.map(Story::amount).sum()
    }

    fn check_stock(&self, stock: &Stock) -> Result<(), Violation> {
        match stock.held + stock.sold <= stock.total {
            true => Ok(()),
            false => Err(Violation::new("oversold", format!("{stock:?}"))),
        }
    }

    fn take_in(&mut self, entry: &LogEntry, ledger: &Ledger, now: u64) -> Result<(), Violation> {
        if entry.sequence != self.sequence + 1 {
            return Err(Violation::new("log and sequence", format!("{entry:?} follows {}", self.sequence)));
        }
        self.sequence = entry.sequence;
        let after = match entry.status.as_str() {
            "held" => Standing::Held { until_ms: entry.deadline_ms.unwrap_or(0) },
            "confirmed" => Standing::Confirmed,
            "cancelled" => Standing::Cancelled,
            "expired" => Standing::Expired,
            other => return Err(Violation::new("log", format!("{other:?} is no standing: {entry:?}"))),
        };
        let stock = ledger.redis().stock(SALE);
        let longest_ms = stock.as_ref().and_then(|stock| stock.hold_max_ms).unwrap_or(0);
        let has_hold = ledger.redis().stock(SALE).is_some_and(|stock| stock.hold_ms.is_some());
        let story = self.stories.entry(entry.booking.clone()).or_insert_with(|| Story {
            quantity: entry.quantity,
            amounts: Vec::new(),
            began_ms: 0,
            expired_ms: 0,
            buyers: Vec::new(),
            standings: Vec::new(),
            by: ledger.last_writer(),
        });
        let before = story.now();
        // A host that remembers what the ledger has forgotten puts it back.
        let is_put_back = self.forgotten.contains_key(&entry.booking);
        let released = before != Standing::None && entry.quantity < story.amount();
        let owner = story.buyer().to_owned();
        let reassigned = before != Standing::None && owner != entry.buyer;
        let is_ordered = self.ordered.as_ref() == Some(&(entry.booking.clone(), entry.buyer.clone()));
        let allowed = match (before, after) {
            (Standing::None, _) if is_put_back => true,
            // Given away and back, by what was forgotten.
            _ if is_put_back && !reassigned && before == after && !released => story.has_tickets(),
            // Given to another buyer, and no more than that.
            _ if reassigned && before == after && !released => {
                matches!(after, Standing::Held { .. } | Standing::Confirmed)
            }
            _ if reassigned && !is_put_back => false,
            // A tombstone that was forgotten is put back as this.
            (Standing::None, Standing::Cancelled) => self.fell_back_at.is_some(),
            (Standing::None, Standing::Held { .. }) => has_hold,
            (Standing::None, Standing::Confirmed) => !has_hold,
            _ if released && !is_put_back && before != after => false,
            // Some of it given back.
            _ if released => is_put_back || matches!(after, Standing::Held { .. } | Standing::Confirmed),
            (Standing::Held { until_ms: from }, Standing::Held { until_ms: to }) => {
                to > from && (is_put_back || to - story.began_ms <= longest_ms)
            }
            // Held again; [`checks`] knows whether anybody asked for that.
            (Standing::Expired, Standing::Held { .. }) => is_put_back || has_hold,
            (Standing::Held { .. }, Standing::Confirmed | Standing::Cancelled) => true,
            (Standing::Held { until_ms }, Standing::Expired) => entry.ms >= until_ms,
            (Standing::Confirmed, Standing::Cancelled) => true,
            (Standing::Expired, Standing::Confirmed | Standing::Cancelled) => true,
            _ => false,
        };
        if !allowed {
            return Err(Violation::new(
                "transition",
                format!("{}: {before:?} to {after:?} by {entry:?}", entry.booking),
            ));
        }
        if before == Standing::None && after == Standing::Cancelled {
            self.forgotten.entry(entry.booking.clone()).or_insert(self.fell_back_at.unwrap_or(now));
        }
        if before == Standing::None {
            self.booked.push((entry.booking.clone(), ledger.last_writer()));
            (story.quantity, story.by) = (entry.quantity, ledger.last_writer());
        }
        if before == Standing::None || reassigned {
            story.buyers.push((now, entry.buyer.clone()));
        }
        let has_others = story.amount() != entry.quantity && !released && before != Standing::None;
        if has_others || reassigned && !is_ordered && !is_put_back {
            return Err(Violation::new("altered", format!("{story:?} by {entry:?}")));
        }
        story.standings.push((now, after));
        story.amounts.push((now, entry.quantity));
        match (before, after) {
            (Standing::Held { .. }, Standing::Held { .. }) => {}
            (_, Standing::Held { .. }) => story.began_ms = entry.ms,
            (_, Standing::Expired) => story.expired_ms = entry.ms,
            _ => {}
        }
        self.expiries += u64::from(after == Standing::Expired);
        let holds = |standing: Standing| matches!(standing, Standing::Held { .. } | Standing::Confirmed);
        if reassigned && !owner.is_empty() {
            let tickets = self.tickets_of(&owner, entry.ms);
            self.buyers.entry(owner).or_default().push((now, tickets));
        }
        if !entry.buyer.is_empty() && (holds(before) != holds(after) || released || reassigned) {
            let tickets = self.tickets_of(&entry.buyer, entry.ms);
            let limit = ledger.redis().stock(SALE).and_then(|stock| stock.per_buyer);
            // What was acknowledged and forgotten is put back whatever the limit; and who had more before it may keep that.
            let adds = holds(after) && (!holds(before) || reassigned);
            if adds && self.forgotten.is_empty() && limit.is_some_and(|limit| tickets > limit) {
                return Err(Violation::new(
                    "buyer's limit",
                    format!("{} has {tickets}, {entry:?}", entry.buyer),
                ));
            }
            self.buyers.entry(entry.buyer.clone()).or_default().push((now, tickets));
        }
        Ok(())
    }

    /// The counts of the ledger are the sum of its bookings, and these are as their stories say.
    fn recount(&self, ledger: &Ledger) -> Result<(), Violation> {
        let Some(stock) = self.level() else { return Ok(()) };
        let (mut held, mut sold) = (0, 0);
        let bookings = ledger.redis().bookings(SALE);
        let mut ending: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for (id, booking) in &bookings {
            match booking.letter {
                'h' if booking.deadline_ms.is_some_and(|deadline| deadline > stock.lapsed_ms) => {
                    held += booking.quantity;
                    for length in [1, 64, 64 * 64, 64 * 64 * 64, 64 * 64 * 64 * 64] {
                        let index = booking.deadline_ms.unwrap_or(0) / length;
                        *ending.entry((length, index)).or_default() += booking.quantity;
                    }
                }
                'c' => sold += booking.quantity,
                _ => {}
            }
            let told = self.stories.get(id).map_or(Standing::None, Story::now);
            let agrees = matches!(
                (booking.letter, told),
                ('h', Standing::Held { .. })
                    | ('c', Standing::Confirmed)
                    | ('x', Standing::Cancelled)
                    | ('e', Standing::Expired)
                    | ('t', Standing::None)
            );
            let story = self.stories.get(id).filter(|story| story.now() != Standing::None);
            let agrees = agrees
                && story.is_none_or(|story| story.buyer() == booking.buyer.as_deref().unwrap_or_default())
                && story.is_none_or(|story| match story.now() {
                    Standing::Held { until_ms } => {
                        (Some(until_ms), story.amount()) == (booking.deadline_ms, booking.quantity)
                    }
                    _ => story.amount() == booking.quantity,
                });
            if !agrees {
                return Err(Violation::new(
                    "record and log",
                    format!("{id} is {booking:?}, by its log {told:?}"),
                ));
            }
        }
        if (held, sold) != (stock.held, stock.sold) {
            return Err(Violation::new(
                "miscounted",
                format!("{held} held and {sold} sold, counted as {stock:?}"),
            ));
        }
        let mut spans = ledger.redis().spans(SALE);
        spans.retain(|(length, index), _| (index + 1) * length > stock.lapsed_ms + 1);
        if spans != ending {
            return Err(Violation::new(
                "miscounted",
                format!("{ending:?} end, counted as {spans:?}: {stock:?}"),
            ));
        }
        let standing = self.stories.iter().filter(|(_, story)| story.now() != Standing::None);
        if let Some((id, story)) = standing.into_iter().find(|(id, _)| !bookings.contains_key(*id)) {
            return Err(Violation::new("record and log", format!("{id} is not there, by its log {story:?}")));
        }
        if stock.per_buyer.is_some() {
            let counted = ledger.redis().buyers(SALE, stock.clock_ms);
            let buyers: BTreeSet<&str> =
                self.stories.values().map(Story::buyer).filter(|buyer| !buyer.is_empty()).collect();
            let each =
                buyers.into_iter().map(|buyer| (buyer.to_owned(), self.tickets_of(buyer, stock.clock_ms)));
            let expected: BTreeMap<String, u64> = each.filter(|(_, tickets)| *tickets > 0).collect();
            if counted != expected {
                return Err(Violation::new(
                    "miscounted",
                    format!("buyers {counted:?}, by the log {expected:?}"),
                ));
            }
        }
        Ok(())
    }

    /// The Redis has crashed or was replaced: what does it still have? Returns how many bookings it has forgotten
    /// something of.
    pub fn look_again(&mut self, ledger: &Ledger, now: u64) -> Result<usize, Violation> {
        self.fell_back_at = Some(now);
        let before: BTreeMap<String, Standing> =
            self.stories.iter().map(|(id, story)| (id.clone(), story.now())).collect();
        let log = ledger.redis().log(SALE);
        let stock = ledger.redis().stock(SALE);
        // What Redis has come back with is of the time in which half of the sale was lost.
        let is_half = stock.as_ref().is_some_and(|stock| stock.held + stock.sold > 0)
            && ledger.redis().bookings(SALE).is_empty();
        if self.has_lost_half && is_half {
            self.lost_half = stock;
            return Ok(0);
        }
        // Removed by an operator; or what Redis has come back with still had all of it.
        if self.lost_half.is_some() && (stock.is_none() || !ledger.redis().bookings(SALE).is_empty()) {
            self.lost_half = None;
        } else if self.lost_half.is_some() {
            self.lost_half = stock;
            return Ok(0);
        }
        let mut after: BTreeMap<&str, &LogEntry> = BTreeMap::new();
        for entry in &log {
            after.insert(&entry.booking, entry);
        }
        let mut forgotten = BTreeSet::new();
        for (id, story) in &mut self.stories {
            let amount = after.get(id.as_str()).map_or(story.amount(), |entry| entry.quantity);
            if amount != story.amount() {
                forgotten.insert(id.clone());
                story.amounts.push((now, amount));
            }
            if let Some(entry) = after.get(id.as_str()).filter(|entry| entry.buyer != story.buyer()) {
                forgotten.insert(id.clone());
                story.buyers.push((now, entry.buyer.clone()));
            }
            let standing = match after.get(id.as_str()) {
                None => Standing::None,
                Some(entry) => match entry.status.as_str() {
                    "held" => Standing::Held { until_ms: entry.deadline_ms.unwrap_or(0) },
                    "confirmed" => Standing::Confirmed,
                    "cancelled" => Standing::Cancelled,
                    _ => Standing::Expired,
                },
            };
            if before[id] != standing {
                forgotten.insert(id.clone());
                story.standings.push((now, standing));
            }
        }
        for id in &forgotten {
            self.forgotten.insert(id.clone(), now);
        }
        let clock_ms = stock.as_ref().map_or(0, |stock| stock.clock_ms);
        for buyer in self.buyers.keys().cloned().collect::<Vec<_>>() {
            let tickets = self.tickets_of(&buyer, clock_ms);
            self.buyers.entry(buyer).or_default().push((now, tickets));
        }
        self.sequence = stock.as_ref().map_or(0, |stock| stock.sequence);
        self.levels.push((now, stock));
        self.recount(ledger)?;
        Ok(forgotten.len())
    }
}

/// Tickets that can be booked.
pub fn available(stock: &Stock) -> u64 {
    stock.total.saturating_sub(stock.held + stock.sold)
}
