//! All that is stored of a sale, read page by page while it is sold from, and brought to one sequence at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU32;

use rustc_hash::FxBuildHasher;

use super::findings::{Findings, Kind};
use super::{AuditError, ask, unexpected};
use crate::booking::{BookingId, BookingStatus, BuyerId, LogEntry, SaleName, SaleState};
use crate::clock::WallTime;
use crate::ledger::Ledger;
use crate::protocol::{Answer, BuyerTickets, LostCause, Part, Row, SaleOp, SaleResult, Span, StoredBooking};

/// Calls for what changed meanwhile before the reading stops: a sale that is sold from faster than it can be read.
const CHANGES_CALLS_MAX: u32 = 20_000;

/// Everything known of a sale, by booking. Holds one entry a booking, about 250 bytes, and no text twice.
pub(super) struct View {
    pub(super) entries: HashMap<BookingId, Evidence, FxBuildHasher>,
    pub(super) buyers: Buyers,
    pub(super) log: LogRead,
    /// Tickets of holds that end in each span, as the ledger counts them.
    pub(super) spans: BTreeMap<Span, u64>,
    /// Whether those are of the moment to which all else was brought.
    pub(super) spans_are_of_now: bool,
    /// Tickets of holds that are not over at the last entry of the log, by their deadlines.
    live_holds: BTreeMap<WallTime, u64>,
    pub(super) unreadable: BTreeMap<(Part, Vec<u8>), String>,
    /// Who had bookings that were given to others since what buyers have was read: no later row tells what is left to them.
    /// By their places among the names.
    pub(super) unsettled: BTreeSet<usize>,
    /// The sale's clock as stored, and the ledger's own.
    pub(super) clocks: (WallTime, WallTime),
    /// Version and sequence at the first page.
    began_at: Option<(u64, u64)>,
    ended_at: (u64, u64),
    /// The first sequence that did not follow the one before.
    gap_at: Option<u64>,
    trimmed: bool,
    /// When the ledger was found to have forgotten something: the sequence that was seen, and the one that was left.
    pub(super) forgotten: BTreeMap<WallTime, (u64, u64)>,
    /// What of it could not be put back, as it was last acknowledged.
    pub(super) lost: BTreeMap<BookingId, (Claimed, LostCause)>,
}

/// What each source says of one booking.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) in_ledger: Option<Claimed>,
    pub(super) last_logged: Option<Claimed>,
    pub(super) told: LoggedAnswers,
    /// The deadline of a group that it is in: its own if there is such a group.
    pub(super) grouped: Option<WallTime>,
}

/// What the access logs say of one booking.
#[derive(Default)]
pub(super) struct LoggedAnswers {
    pub(super) granted: u32,
    pub(super) replayed: bool,
    pub(super) unknown: bool,
    /// As the first granted or replayed line has it.
    pub(super) quantity: u32,
    pub(super) buyer: Option<BuyerIndex>,
}

/// A booking without its id.
#[derive(Clone, Copy)]
pub(super) struct Claimed {
    /// `None` is a tombstone.
    pub(super) status: Option<BookingStatus>,
    pub(super) quantity: u32,
    /// Tickets given back since it was made; the log tells of each release by itself.
    pub(super) released: u32,
    pub(super) buyer: Option<BuyerIndex>,
    /// How often an operator gave it to another buyer; the log tells of each time by itself.
    pub(super) reassigned: u32,
    pub(super) counted: bool,
    /// Of its latest change; 0 if it is not known.
    pub(super) sequence: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BuyerIndex(NonZeroU32);

impl BuyerIndex {
    pub(super) fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Default)]
pub(super) struct Buyers {
    indexes: HashMap<BuyerId, BuyerIndex, FxBuildHasher>,
    pub(super) names: Vec<BuyerId>,
    /// What the ledger counts for each.
    pub(super) counted: Vec<BuyerTickets>,
}

impl Buyers {
    fn index(&mut self, buyer: Option<&BuyerId>) -> Option<BuyerIndex> {
        let buyer = buyer?;
        let next = u32::try_from(self.names.len() + 1).ok().and_then(NonZeroU32::new);
        let next = BuyerIndex(next.expect("fewer buyers than 2^32 fit in memory"));
        Some(*self.indexes.entry(*buyer).or_insert_with(|| {
            self.names.push(*buyer);
            self.counted.push(BuyerTickets::default());
            next
        }))
    }

    pub(super) fn word(&self, buyer: Option<BuyerIndex>) -> &str {
        buyer.map_or("nobody", |buyer| self.names[buyer.at()].as_str())
    }
}

/// What was read of the ledger's log.
#[derive(Clone, Copy, Default)]
pub(super) struct LogRead {
    pub(super) entries: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) last_at: WallTime,
    /// Tickets held and sold at its last entry, by the log: a hold that was over by then is not.
    tickets: u64,
}

impl Claimed {
    pub(super) fn tickets(&self) -> u64 {
        match self.status {
            Some(status) if status.holds_stock() => u64::from(self.quantity),
            _ => 0,
        }
    }

    /// How many it was made with.
    pub(super) fn made_with(&self) -> u32 {
        self.quantity.saturating_add(self.released)
    }

    /// Without those of a hold that gave its own back by then.
    pub(super) fn tickets_after(&self, lapsed_until: WallTime) -> u64 {
        match self.status {
            Some(BookingStatus::Held { expires_at }) if expires_at <= lapsed_until => 0,
            _ => self.tickets(),
        }
    }

    /// Whether it was made with so many tickets for that buyer; for whom it was made is not known of one that was given to
    /// another since.
    pub(super) fn was_made_as(&self, quantity: u32, buyer: Option<BuyerIndex>) -> bool {
        self.made_with() == quantity && (self.buyer == buyer || self.reassigned > 0)
    }

    /// Whether both say the same of a booking; who counts it and where it is logged aside.
    pub(super) fn agrees(&self, other: &Claimed) -> bool {
        (self.status, self.quantity, self.buyer) == (other.status, other.quantity, other.buyer)
    }

    pub(super) fn shown<'a>(&'a self, buyers: &'a Buyers) -> impl fmt::Display + 'a {
        struct Shown<'a>(&'a Claimed, &'a Buyers);
        impl fmt::Display for Shown<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Shown(claimed, buyers) = self;
                let Some(status) = claimed.status else { return f.write_str("a tombstone") };
                write!(f, "{} {}", claimed.quantity, status.word())?;
                if let BookingStatus::Held { expires_at } = status {
                    write!(f, " until {expires_at}")?;
                }
                write!(f, " for {}", buyers.word(claimed.buyer))
            }
        }
        Shown(self, buyers)
    }
}

/// The oldest sequence that is kept.
fn first_of_log(ledger: &mut dyn Ledger, sale: SaleName) -> Result<Option<u64>, AuditError> {
    match ask(ledger, SaleOp::Survey { part: Part::Log, cursor: String::new() }.on(sale))? {
        Answer::Sale { result: SaleResult::Surveyed { rows, .. }, .. } => {
            Ok(rows.iter().find_map(|row| match row {
                Row::Change(entry) => Some(entry.sequence),
                _ => None,
            }))
        }
        other => Err(unexpected(&other)),
    }
}

/// Whether a booking may go from one to the other. In a ledger that has `forgotten` something, what is put back may have
/// been cancelled or over when it was, and have had several changes at once, or ones that show nowhere: given away and back.
fn follows(before: Option<&Claimed>, after: &Claimed, forgotten: bool) -> bool {
    use BookingStatus::{Cancelled, Confirmed, Expired, Held};
    let Some(before) = before else {
        return match after.status {
            Some(Held { .. } | Confirmed) => true,
            Some(Expired | Cancelled) => forgotten,
            None => false,
        };
    };
    let released = after.quantity < before.quantity;
    let reassigned = after.buyer != before.buyer;
    let may_differ = match (before.status, after.status) {
        // Extended, or some of it released, or given to another buyer.
        (Some(Held { expires_at: from }), Some(Held { expires_at: to })) => {
            if to < from || to == from && !released && !reassigned && !forgotten {
                return false;
            }
            to == from || forgotten
        }
        (Some(Confirmed), Some(Confirmed)) if released || reassigned || forgotten => true,
        (Some(Held { .. }), Some(Confirmed | Cancelled | Expired))
        | (Some(Confirmed), Some(Cancelled))
        // The second: held again.
        | (Some(Expired), Some(Held { .. } | Confirmed | Cancelled)) => forgotten,
        _ => return false,
    };
    let is_one_change = !(released && reassigned) || forgotten;
    after.quantity <= before.quantity && (!released && !reassigned || may_differ && is_one_change)
}

impl Default for View {
    fn default() -> View {
        View {
            entries: HashMap::default(),
            buyers: Buyers::default(),
            log: LogRead::default(),
            spans: BTreeMap::new(),
            spans_are_of_now: true,
            live_holds: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            clocks: Default::default(),
            began_at: None,
            ended_at: (0, 0),
            gap_at: None,
            trimmed: false,
            forgotten: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }
}

impl View {
    /// Reads the sale; gives its state at the sequence to which all that was read was brought.
    pub(super) fn read(
        &mut self,
        ledger: &mut dyn Ledger,
        sale: SaleName,
        findings: &mut Findings,
    ) -> Result<SaleState, AuditError> {
        let (mut state, mut failure) = (None, None);
        let mut log_end = String::new();
        for part in [Part::Log, Part::Bookings, Part::Holds, Part::Buyers, Part::Lost, Part::Changes] {
            let start = if part == Part::Changes { log_end.clone() } else { String::new() };
            match self.read_part(ledger, sale, part, start, findings) {
                Ok((end, as_of)) => {
                    if part == Part::Log {
                        log_end = end;
                    }
                    state = Some(as_of);
                }
                // A key of another type, say: the other parts can be read all the same.
                Err(AuditError::Ledger(error)) if error.is_of_what_is_stored() => {
                    if part != Part::Changes {
                        findings.differ(
                            Kind::Record,
                            part.word(),
                            format!("cannot be read: {}", error.words()),
                        );
                    }
                    failure = Some(AuditError::Ledger(error));
                }
                Err(error) => return Err(error),
            }
        }
        match (state, failure) {
            (Some(state), _) => {
                self.ended_at = (state.version, state.sequence);
                self.read_spans(ledger, sale, &state, findings)?;
                Ok(state)
            }
            (None, Some(error)) => Err(error),
            (None, None) => unreachable!("each part was read or failed"),
        }
    }

    /// Reads what is counted of holds by time. It is a sum over all of them, so that it says something only of the moment to
    /// which they were brought.
    fn read_spans(
        &mut self,
        ledger: &mut dyn Ledger,
        sale: SaleName,
        of: &SaleState,
        findings: &mut Findings,
    ) -> Result<(), AuditError> {
        let moment = |state: &SaleState| (state.version, state.sequence, state.lapsed_until);
        match self.read_part(ledger, sale, Part::Due, String::new(), findings) {
            Ok((_, state)) => self.spans_are_of_now &= moment(&state) == moment(of),
            Err(AuditError::Ledger(error)) if error.is_of_what_is_stored() => {
                findings.differ(Kind::Record, Part::Due.word(), format!("cannot be read: {}", error.words()));
                self.spans_are_of_now = false;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads all pages of a part; gives the last cursor, and the state that came with the last page.
    fn read_part(
        &mut self,
        ledger: &mut dyn Ledger,
        sale: SaleName,
        part: Part,
        mut cursor: String,
        findings: &mut Findings,
    ) -> Result<(String, SaleState), AuditError> {
        let mut calls = 0;
        loop {
            match ask(ledger, SaleOp::Survey { part, cursor: cursor.clone() }.on(sale))? {
                Answer::Sale { state, result: SaleResult::Surveyed { clock, time, rows, next, done } } => {
                    self.began_at.get_or_insert((state.version, state.sequence));
                    self.clocks = (clock, time);
                    let gap_before = self.gap_at;
                    self.take_in(part, rows, &state, findings);
                    if gap_before != self.gap_at {
                        // Trimming takes the oldest entries: those that were read, and some that were not.
                        self.trimmed = first_of_log(ledger, sale)? == self.gap_at;
                    }
                    calls += 1;
                    let too_many = part == Part::Changes && calls == CHANGES_CALLS_MAX;
                    if too_many && !done {
                        findings.note(
                            "the sale changes faster than it can be read: differences may only be changes made meanwhile; \
                             pause it for an exact count",
                        );
                    }
                    if done || too_many {
                        return Ok((next, state));
                    }
                    if next == cursor {
                        return Err(AuditError::Unexpected(format!(
                            "the pages of {} never end",
                            part.word()
                        )));
                    }
                    cursor = next;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Whether the log lost entries while it was read that were not read yet.
    pub(super) fn trimmed(&self) -> bool {
        self.trimmed
    }

    /// Whether the sale changed while it was read.
    pub(super) fn moved(&self) -> bool {
        self.began_at != Some(self.ended_at)
    }

    fn take_in(&mut self, part: Part, rows: Vec<Row>, state: &SaleState, findings: &mut Findings) {
        if part == Part::Changes {
            // A buyer who has nothing any more has no row: what was read of it before is over.
            let mut told = Vec::new();
            for row in &rows {
                let Row::Change(entry) = row else { continue };
                let buyer = self.buyers.index(entry.booking.buyer.as_ref());
                let before = self.entries.get(&entry.booking.id);
                let before = before.and_then(|entry| entry.last_logged.or(entry.in_ledger));
                let before = before.and_then(|before| before.buyer).filter(|&its| Some(its) != buyer);
                self.unsettled.extend(before.map(BuyerIndex::at));
                if let Some(buyer) = buyer {
                    self.buyers.counted[buyer.at()] = BuyerTickets::default();
                    told.push(buyer);
                }
            }
            // These are reported as they are after all that is on this page.
            for buyer in told {
                self.unsettled.remove(&buyer.at());
            }
        }
        // Records before groups: a group counts if its deadline is the record's.
        let (groups, others): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| matches!(row, Row::Group { .. }));
        for row in others.into_iter().chain(groups) {
            match row {
                Row::Booking { id, record } => {
                    let claimed = self.stored(&record);
                    self.unreadable.remove(&(Part::Bookings, id.as_str().into()));
                    self.entries.entry(id).or_default().in_ledger = Some(claimed);
                }
                Row::NoBooking { id } => self.entries.entry(id).or_default().in_ledger = None,
                Row::Group { expires_at, ids } => ids.iter().for_each(|id| self.group(id, expires_at)),
                Row::Buyers(buyers) => {
                    for (buyer, tickets) in buyers {
                        let buyer = self.buyers.index(Some(&buyer)).expect("a buyer has an index");
                        self.buyers.counted[buyer.at()] = tickets;
                    }
                }
                Row::Span { span, tickets } => {
                    self.spans.insert(span, tickets);
                }
                Row::Derived(_) => self.spans_are_of_now = false,
                Row::Change(entry) => self.replay(&entry, state, findings),
                Row::Forgot { at, seen, left } => {
                    self.forgotten.insert(at, (seen, left));
                }
                Row::Lost { booking, cause } => {
                    let claimed = Claimed {
                        status: Some(booking.status),
                        quantity: booking.quantity.get(),
                        released: booking.released,
                        buyer: self.buyers.index(booking.buyer.as_ref()),
                        reassigned: booking.reassigned,
                        counted: false,
                        sequence: 0,
                    };
                    self.lost.insert(booking.id, (claimed, cause));
                }
                Row::Unreadable { part, key, text } => {
                    self.unreadable.insert((part, key), text);
                }
            }
        }
    }

    fn group(&mut self, id: &BookingId, deadline: WallTime) {
        let entry = self.entries.entry(*id).or_default();
        let own = match entry.in_ledger {
            Some(Claimed { status: Some(BookingStatus::Held { expires_at }), .. }) => Some(expires_at),
            _ => None,
        };
        // It may be in two. The right one is enough.
        if entry.grouped.is_none() || entry.grouped != own {
            entry.grouped = Some(deadline);
        }
    }

    /// One entry of the log, in its order.
    fn replay(&mut self, entry: &LogEntry, state: &SaleState, findings: &mut Findings) {
        let log = self.log;
        let sequence = entry.sequence;
        if log.entries == 0 {
            self.log.first = sequence;
        } else if sequence != log.last + 1 {
            self.gap_at.get_or_insert(sequence);
            let text = format!("sequence {sequence} follows {}, with a gap or out of order", log.last);
            findings.differ(Kind::Log, "log", text);
        }
        if entry.at < log.last_at {
            let text = format!("sequence {sequence} is at {}, earlier than the entry before it", entry.at);
            findings.differ(Kind::Log, "log", text);
        }
        let booking = &entry.booking;
        let claimed = Claimed {
            status: Some(booking.status),
            quantity: booking.quantity.get(),
            released: 0,
            buyer: self.buyers.index(booking.buyer.as_ref()),
            reassigned: 0,
            counted: false,
            sequence,
        };
        let last = self.entries.entry(booking.id).or_default().last_logged.replace(claimed);
        self.log.entries += 1;
        (self.log.last, self.log.last_at) = (sequence, entry.at);
        self.move_tickets(last.as_ref(), &claimed, entry.at);
        let is_known = self.log.first == 1 || last.is_some();
        if is_known && !follows(last.as_ref(), &claimed, state.has_forgotten()) {
            let before = match &last {
                Some(last) => last.shown(&self.buyers).to_string(),
                None => "nothing".to_owned(),
            };
            let text = format!(
                "sequence {sequence} makes it {}, though it was {before}",
                claimed.shown(&self.buyers)
            );
            findings.differ(Kind::Log, format!("booking {}", booking.id), text);
        }
        // An altered sale may have had another total then; the log does not say.
        if self.log.first == 1 && state.version <= 1 && self.log.tickets > state.terms.total {
            let text = format!(
                "at sequence {sequence} {} tickets were held and sold, of {}",
                self.log.tickets, state.terms.total
            );
            findings.differ(Kind::Log, "log", text);
        }
    }

    /// Brings the tickets held and sold by the log to this entry. A hold gives its own back at its deadline; that it is
    /// entered as expired may come later.
    fn move_tickets(&mut self, before: Option<&Claimed>, after: &Claimed, at: WallTime) {
        while let Some(over) = self.live_holds.first_entry().filter(|hold| *hold.key() <= at) {
            self.log.tickets = self.log.tickets.saturating_sub(over.remove());
        }
        if let Some(before) = before {
            let tickets = match before.status {
                Some(BookingStatus::Held { expires_at }) => match self.live_holds.get_mut(&expires_at) {
                    Some(tickets) => {
                        let given_back = before.tickets().min(*tickets);
                        *tickets -= given_back;
                        given_back
                    }
                    None => 0,
                },
                _ => before.tickets(),
            };
            self.log.tickets = self.log.tickets.saturating_sub(tickets);
        }
        self.log.tickets += after.tickets();
        if let Some(BookingStatus::Held { expires_at }) = after.status {
            *self.live_holds.entry(expires_at).or_default() += after.tickets();
        }
    }

    /// Takes in a line that granted (`true`) or replayed a booking.
    pub(super) fn told(&mut self, id: BookingId, quantity: u32, buyer: Option<&BuyerId>, granted: bool) {
        let buyer = self.buyers.index(buyer);
        let told = &mut self.entries.entry(id).or_default().told;
        if told.granted == 0 && (granted || !told.replayed) {
            (told.quantity, told.buyer) = (quantity, buyer);
        }
        match granted {
            true => told.granted += 1,
            false => told.replayed = true,
        }
    }

    /// Takes in a line that left a booking open.
    pub(super) fn left_unknown(&mut self, id: BookingId) {
        self.entries.entry(id).or_default().told.unknown = true;
    }

    pub(super) fn bookings_line(&self, state: &SaleState) -> String {
        let mut counts = [0_u64; 5];
        let mut tickets = 0;
        for claimed in self.entries.values().filter_map(|entry| entry.in_ledger.as_ref()) {
            tickets += claimed.tickets_after(state.lapsed_until);
            counts[match claimed.status {
                // Over, but not entered as expired yet.
                Some(BookingStatus::Held { expires_at }) if expires_at <= state.lapsed_until => 3,
                Some(BookingStatus::Held { .. }) => 0,
                Some(BookingStatus::Confirmed) => 1,
                Some(BookingStatus::Cancelled) => 2,
                Some(BookingStatus::Expired) => 3,
                None => 4,
            }] += 1;
        }
        let [held, confirmed, cancelled, expired, tombstones] = counts;
        let mut line = format!(
            "{}: {held} held, {confirmed} confirmed, {cancelled} cancelled, {expired} expired; {tickets} tickets held and \
             sold",
            held + confirmed + cancelled + expired
        );
        if tombstones > 0 {
            line.push_str(&format!("; {tombstones} tombstones"));
        }
        line
    }

    pub(super) fn log_line(&self) -> String {
        match self.log.entries {
            0 => "no entries".to_owned(),
            entries => format!("{entries} entries, sequence {} to {}", self.log.first, self.log.last),
        }
    }

    fn stored(&mut self, record: &StoredBooking) -> Claimed {
        Claimed {
            status: record.status,
            quantity: record.quantity,
            released: record.released,
            buyer: self.buyers.index(record.buyer.as_ref()),
            reassigned: record.reassigned,
            counted: record.counted,
            sequence: record.sequence.unwrap_or(0),
        }
    }
}
