//! The ledger's side of an audit: its bookings summed up, its log replayed, both held against its counts.

use std::collections::HashMap;
use std::fmt;

use rustc_hash::FxBuildHasher;

use super::verdict::Verdict;
use crate::booking::{
    Answer, Booking, BookingId, BookingStatus, BuyerId, Call, LogEntry, SaleName, SaleState,
};
use crate::cli::CommandError;
use crate::cli::sale::{ask, unexpected};
use crate::clock::WallTime;
use crate::ledger::Ledger;

/// Everything known of a sale, by booking. Holds one entry a booking, about 200 bytes, and no text twice.
#[derive(Default)]
pub(super) struct Recount {
    entries: HashMap<BookingId, Entry, FxBuildHasher>,
    buyers: Buyers,
    log: Option<LogRead>,
}

/// What each source says of one booking.
#[derive(Default)]
struct Entry {
    in_ledger: Option<Claimed>,
    last_logged: Option<Claimed>,
    told: Told,
}

/// What the access logs say of one booking.
#[derive(Default)]
struct Told {
    granted: u32,
    /// As the first granted line has it.
    granted_quantity: u32,
    granted_buyer: Option<BuyerIndex>,
    replayed: bool,
    unknown: bool,
}

/// A booking without its id.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Claimed {
    status: BookingStatus,
    quantity: u32,
    buyer: Option<BuyerIndex>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct BuyerIndex(u32);

#[derive(Default)]
struct Buyers {
    indexes: HashMap<BuyerId, BuyerIndex, FxBuildHasher>,
    names: Vec<BuyerId>,
}

impl Buyers {
    fn index(&mut self, buyer: Option<&BuyerId>) -> Option<BuyerIndex> {
        let buyer = buyer?;
        let next = BuyerIndex(u32::try_from(self.names.len()).expect("fewer buyers than 2^32 fit in memory"));
        Some(*self.indexes.entry(*buyer).or_insert_with(|| {
            self.names.push(*buyer);
            next
        }))
    }

    fn word(&self, buyer: Option<BuyerIndex>) -> &str {
        buyer.map_or("nobody", |buyer| self.names[buyer.0 as usize].as_str())
    }
}

/// What was read of the ledger's log.
#[derive(Clone, Copy, Default)]
struct LogRead {
    entries: u64,
    first: u64,
    last: u64,
}

impl Claimed {
    fn tickets(&self) -> u64 {
        if self.status.holds_stock() { u64::from(self.quantity) } else { 0 }
    }

    fn shown<'a>(&'a self, buyers: &'a Buyers) -> impl fmt::Display + 'a {
        struct Shown<'a>(&'a Claimed, &'a Buyers);
        impl fmt::Display for Shown<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Shown(claimed, buyers) = self;
                write!(f, "{} {}", claimed.quantity, claimed.status.word())?;
                if let BookingStatus::Held { expires_at } = claimed.status {
                    write!(f, " until {expires_at}")?;
                }
                write!(f, " for {}", buyers.word(claimed.buyer))
            }
        }
        Shown(self, buyers)
    }
}

/// Whether nothing older than that sequence is kept.
fn log_starts_at(ledger: &mut dyn Ledger, sale: SaleName, sequence: u64) -> Result<bool, CommandError> {
    match ask(ledger, Call::Log { sale, after: 0 })? {
        Answer::Log(entries) => Ok(entries.first().is_some_and(|first| first.sequence == sequence)),
        other => Err(unexpected(&other)),
    }
}

impl Recount {
    /// Reads every page of the sale's bookings.
    pub(super) fn read_bookings(
        &mut self,
        ledger: &mut dyn Ledger,
        sale: SaleName,
    ) -> Result<(), CommandError> {
        let mut cursor = String::new();
        loop {
            let (bookings, next) = match ask(ledger, Call::Page { sale, cursor })? {
                Answer::Page { bookings, next } => (bookings, next),
                Answer::NoSuchSale => return Err(CommandError::NoSuchSale(sale)),
                other => return Err(unexpected(&other)),
            };
            for booking in &bookings {
                // A booking may be on two pages; it is one entry.
                let claimed = self.claimed(booking);
                self.entries.entry(booking.id).or_default().in_ledger = Some(claimed);
            }
            match next {
                Some(next) => cursor = next,
                None => return Ok(()),
            }
        }
    }

    /// Reads the sale's log and checks that it is gapless, that time does not run back in it, and that no entry of it
    /// sold more than there was.
    pub(super) fn replay_log(
        &mut self,
        ledger: &mut dyn Ledger,
        sale: SaleName,
        state: &SaleState,
        verdict: &mut Verdict,
    ) -> Result<(), CommandError> {
        let mut read = LogRead::default();
        let mut at = WallTime(0);
        let mut tickets = 0_u64;
        loop {
            let entries = match ask(ledger, Call::Log { sale, after: read.last })? {
                Answer::Log(entries) => entries,
                Answer::NoSuchSale => return Err(CommandError::NoSuchSale(sale)),
                other => return Err(unexpected(&other)),
            };
            // What was booked after the count began belongs to the next one.
            let entries: Vec<&LogEntry> =
                entries.iter().filter(|entry| entry.sequence <= state.sequence).collect();
            if entries.is_empty() {
                break;
            }
            let asked_after = read.last;
            let start = entries[0].sequence;
            if read.entries > 0 && start != asked_after + 1 && log_starts_at(ledger, sale, start)? {
                // Trimmed while it was read, beyond where we were: what was read before says nothing any more.
                read = LogRead::default();
                self.entries.values_mut().for_each(|entry| entry.last_logged = None);
            }
            for entry in entries {
                if read.entries == 0 {
                    read.first = entry.sequence;
                } else if entry.sequence != read.last + 1 {
                    verdict.difference(format!(
                        "log: sequence {} follows {}, with a gap or out of order",
                        entry.sequence, read.last
                    ));
                }
                if entry.at < at {
                    verdict.difference(format!(
                        "log: sequence {} is of {}, earlier than the entry before",
                        entry.sequence, entry.at
                    ));
                }
                at = entry.at;
                read.entries += 1;
                read.last = entry.sequence;
                let claimed = self.claimed(&entry.booking);
                let last = self.entries.entry(entry.booking.id).or_default().last_logged.replace(claimed);
                tickets = (tickets + claimed.tickets()).saturating_sub(last.map_or(0, |last| last.tickets()));
                // An altered sale may have had another total then; the log does not say.
                if read.first == 1 && state.version <= 1 && tickets > state.terms.total {
                    verdict.difference(format!(
                        "log: at sequence {} {tickets} tickets were held and sold, of {}",
                        entry.sequence, state.terms.total
                    ));
                }
            }
            if read.last <= asked_after {
                return Err(CommandError::Unexpected(format!(
                    "the log after {asked_after} ends at {}",
                    read.last
                )));
            }
        }
        if read.entries > 0 && read.last != state.sequence {
            verdict.difference(format!(
                "log: ends at sequence {}, the sale is at {}",
                read.last, state.sequence
            ));
        }
        if read.entries == 0 && state.sequence > 0 {
            verdict.note("the ledger keeps no log of this sale: nothing was replayed".to_owned());
        } else if read.first > 1 {
            verdict.note(format!(
                "the log is kept from sequence {} on: older changes were not replayed",
                read.first
            ));
        }
        self.log = Some(read);
        Ok(())
    }

    /// Takes in a line that granted, replayed or left open a booking.
    pub(super) fn granted(&mut self, id: BookingId, quantity: u32, buyer: Option<&BuyerId>) {
        let buyer = self.buyers.index(buyer);
        let told = &mut self.entries.entry(id).or_default().told;
        if told.granted == 0 {
            (told.granted_quantity, told.granted_buyer) = (quantity, buyer);
        }
        told.granted += 1;
    }

    /// See [`granted`](Recount::granted).
    pub(super) fn replayed(&mut self, id: BookingId) {
        self.entries.entry(id).or_default().told.replayed = true;
    }

    /// See [`granted`](Recount::granted).
    pub(super) fn left_unknown(&mut self, id: BookingId) {
        self.entries.entry(id).or_default().told.unknown = true;
    }

    /// Holds the bookings against the ledger's counts, its terms and its log.
    pub(super) fn judge(&self, state: &SaleState, verdict: &mut Verdict) {
        let mut held = 0;
        let mut sold = 0;
        let mut of_buyers = vec![0_u64; self.buyers.names.len()];
        for (_, claimed) in self.in_ledger() {
            match claimed.status {
                BookingStatus::Held { .. } => held += u64::from(claimed.quantity),
                BookingStatus::Confirmed => sold += u64::from(claimed.quantity),
                BookingStatus::Cancelled | BookingStatus::Expired => {}
            }
            if let Some(buyer) = claimed.buyer {
                of_buyers[buyer.0 as usize] += claimed.tickets();
            }
        }
        if held != state.held {
            verdict.difference(format!("held: the ledger counts {}, its bookings sum to {held}", state.held));
        }
        if sold != state.sold {
            verdict.difference(format!("sold: the ledger counts {}, its bookings sum to {sold}", state.sold));
        }
        let total = state.terms.total;
        if state.held + state.sold > total || held + sold > total {
            let most = (state.held + state.sold).max(held + sold);
            verdict.difference(format!("oversold: {most} tickets held and sold, of {total}"));
        }
        self.judge_buyers(state, &of_buyers, verdict);
        self.judge_log(verdict);
    }

    fn judge_buyers(&self, state: &SaleState, of_buyers: &[u64], verdict: &mut Verdict) {
        let Some(limit) = state.terms.per_buyer else { return };
        let mut over = 0;
        for (buyer, tickets) in self.buyers.names.iter().zip(of_buyers) {
            if *tickets > u64::from(limit) {
                over += 1;
                if state.version <= 1 {
                    verdict.difference(format!("buyer {buyer}: has {tickets} tickets, of {limit} at most"));
                }
            }
        }
        // The limit is that of bookings made from its change on, and nobody knows which those are.
        if over > 0 && state.version > 1 {
            verdict.note(format!(
                "{over} buyers have more than the limit of {limit} tickets; the sale's terms were changed, and the \
                 limit may have been another then"
            ));
        }
    }

    fn judge_log(&self, verdict: &mut Verdict) {
        let Some(log) = self.log.filter(|log| log.entries > 0) else { return };
        for (id, entry) in &self.entries {
            match (&entry.in_ledger, &entry.last_logged) {
                (Some(booking), Some(logged)) if booking != logged => verdict.difference(format!(
                    "booking {id}: is {} in the ledger, but {} by its log",
                    booking.shown(&self.buyers),
                    logged.shown(&self.buyers)
                )),
                (None, Some(logged)) => verdict.difference(format!(
                    "booking {id}: is {} by the log, but the ledger has no such booking",
                    logged.shown(&self.buyers)
                )),
                // A tombstone changes no booking, so a log may pass over it.
                (Some(booking), None) if log.first == 1 && booking.status != BookingStatus::Cancelled => {
                    verdict.difference(format!(
                        "booking {id}: is {} in the ledger, but its log never says so",
                        booking.shown(&self.buyers)
                    ));
                }
                _ => {}
            }
        }
    }

    /// Holds the bookings against the lines of the access logs.
    pub(super) fn judge_access(&self, verdict: &mut Verdict) {
        let (mut by_replay, mut left_open) = (0_u64, 0_u64);
        for (id, entry) in &self.entries {
            let told = &entry.told;
            if told.granted > 1 {
                verdict.difference(format!("booking {id}: was granted {} times", told.granted));
            }
            let Some(booking) = &entry.in_ledger else {
                if told.granted > 0 {
                    verdict.difference(format!(
                        "booking {id}: was granted {} tickets, but the ledger has no such booking",
                        told.granted_quantity
                    ));
                } else if told.replayed {
                    verdict.difference(format!(
                        "booking {id}: was told to its client, but the ledger has no such booking"
                    ));
                }
                continue;
            };
            if told.granted > 0 {
                let granted = (told.granted_quantity, told.granted_buyer);
                if granted != (booking.quantity, booking.buyer) {
                    verdict.difference(format!(
                        "booking {id}: was granted as {} for {}, but is {} in the ledger",
                        told.granted_quantity,
                        self.buyers.word(told.granted_buyer),
                        booking.shown(&self.buyers)
                    ));
                }
            } else if told.replayed {
                by_replay += 1;
            } else if told.unknown {
                left_open += 1;
            } else if booking.status != BookingStatus::Cancelled {
                // A cancelled one may be a tombstone, which nobody was ever granted.
                verdict.difference(format!(
                    "booking {id}: is {} in the ledger, but no line tells of it",
                    booking.shown(&self.buyers)
                ));
            }
        }
        if by_replay > 0 {
            verdict.note(format!("{by_replay} bookings are known by lines of their replays alone"));
        }
        if left_open > 0 {
            verdict
                .note(format!("{left_open} bookings were made by requests that were told outcome-unknown"));
        }
    }

    pub(super) fn bookings_line(&self) -> String {
        let mut counts = [0_u64; 4];
        let mut tickets = 0;
        for (_, claimed) in self.in_ledger() {
            tickets += claimed.tickets();
            counts[match claimed.status {
                BookingStatus::Held { .. } => 0,
                BookingStatus::Confirmed => 1,
                BookingStatus::Cancelled => 2,
                BookingStatus::Expired => 3,
            }] += 1;
        }
        let [held, confirmed, cancelled, expired] = counts;
        format!(
            "{}: {held} held, {confirmed} confirmed, {cancelled} cancelled, {expired} expired; {tickets} tickets held and \
             sold",
            counts.iter().sum::<u64>()
        )
    }

    pub(super) fn log_line(&self) -> String {
        match self.log {
            Some(log) if log.entries > 0 => {
                format!("{} entries, sequence {} to {}", log.entries, log.first, log.last)
            }
            _ => "no entries".to_owned(),
        }
    }

    fn in_ledger(&self) -> impl Iterator<Item = (&BookingId, &Claimed)> {
        self.entries.iter().filter_map(|(id, entry)| Some((id, entry.in_ledger.as_ref()?)))
    }

    fn claimed(&mut self, booking: &Booking) -> Claimed {
        Claimed {
            status: booking.status,
            quantity: booking.quantity.get(),
            buyer: self.buyers.index(booking.buyer.as_ref()),
        }
    }
}
