//! Compares what was read, and lists what does not fit. A difference that follows from a wrong count or index comes with
//! its repair; any other stays unexplained.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Findings, Kind};
use super::view::{BuyerIndex, Claimed, LoggedAnswers, View};
use super::{AuditError, ask, unexpected};
use crate::booking::{BookingId, BookingStatus, SaleName, SaleState};
use crate::clock::WallTime;
use crate::ledger::Ledger;
use crate::limits::{CLOCK_AHEAD_MS_MAX, GROUP_BOOKINGS_MAX};
use crate::protocol::{Answer, BuyerTickets, Call, LedgerOp, LedgerResult, LostCause, Part, Repair, Span};

/// Compares the parts of the ledger with each other.
pub(super) fn judge(view: &View, state: &SaleState, findings: &mut Findings) {
    judge_unreadable(view, findings);
    judge_counts(view, state, findings);
    judge_buyers(view, state, findings);
    judge_holds(view, findings);
    judge_spans(view, state, findings);
    judge_log(view, state, findings);
    judge_clock(view, findings);
    judge_lost(view, findings);
}

/// What the ledger was found to have forgotten. A lost booking is explained by that, so that it hinders no repair.
fn judge_lost(view: &View, findings: &mut Findings) {
    for (at, (seen, left)) in &view.forgotten {
        findings.note(format!(
            "at {at} a host noticed that the ledger had forgotten something: it had seen sequence {seen}, and the ledger \
             was at {left}"
        ));
    }
    for (id, (told, cause)) in &view.lost {
        let now_is = view.entries.get(id).and_then(|entry| entry.in_ledger.as_ref());
        let booked = now_is.is_some_and(|now| {
            let is_same = now.buyer == told.buyer || now.reassigned != told.reassigned;
            now.made_with() == told.made_with() && is_same && now.status.is_some()
        });
        let shown = told.shown(&view.buyers);
        if booked {
            findings
                .note(format!("booking {id} was acknowledged as {shown}, was forgotten, and was made again"));
            continue;
        }
        let why = match cause {
            LostCause::SoldOut => "its tickets had been sold to others by then",
            LostCause::IdTaken => "another booking had its id by then",
        };
        findings.derived(
            Kind::Lost,
            format!("booking {id}"),
            format!(
                "was acknowledged as {shown}, was forgotten by the ledger, and could not be put back: {why}"
            ),
        );
    }
}

fn judge_unreadable(view: &View, findings: &mut Findings) {
    for ((part, key), text) in &view.unreadable {
        match part {
            // The counts are corrected below.
            Part::Stock => findings.derived(Kind::Record, "stock", text),
            Part::Holds | Part::Due | Part::Buyers => {
                findings.derived(Kind::Record, part.word(), format!("what is stored cannot be read: {text}"));
                let repair = Repair::Remove { part: *part, key: key.clone() };
                findings
                    .mend(repair, vec![format!("{}: removed what could not be read: {text}", part.word())]);
            }
            Part::Bookings | Part::Lost | Part::Log | Part::Changes => {
                findings.differ(Kind::Record, part.word(), format!("what is stored cannot be read: {text}"));
            }
        }
    }
}

fn judge_counts(view: &View, state: &SaleState, findings: &mut Findings) {
    let lapsed = lapsed_until(view, state);
    let (mut held, mut sold) = (0, 0);
    for claimed in view.entries.values().filter_map(|entry| entry.in_ledger.as_ref()) {
        match claimed.status {
            Some(BookingStatus::Held { .. }) => held += claimed.tickets_after(lapsed),
            Some(BookingStatus::Confirmed) => sold += u64::from(claimed.quantity),
            _ => {}
        }
    }
    let total = state.terms.total;
    let mut said = Vec::new();
    for (name, counted, sum) in [("held", state.held, held), ("sold", state.sold, sold)] {
        if counted != sum {
            let text = format!("the ledger counts {counted}, but its bookings add up to {sum}");
            findings.derived(Kind::Count, name, text);
        }
        let odd = view.unreadable.get(&(Part::Stock, name.into()));
        match odd {
            Some(odd) => {
                said.push(format!("{name}: from {} to {sum}", odd.rsplit(' ').next().unwrap_or_default()))
            }
            None if counted != sum => said.push(format!("{name}: from {counted} to {sum}")),
            None => {}
        }
    }
    if held + sold > total {
        findings.differ(
            Kind::Oversold,
            "oversold",
            format!("{} tickets held and sold, of {total}", held + sold),
        );
    } else {
        if state.held + state.sold > total {
            let text = format!("by its counts {} tickets held and sold, of {total}", state.held + state.sold);
            findings.derived(Kind::Oversold, "oversold", text);
        }
        if !said.is_empty() {
            findings.mend(Repair::Counts { held, sold }, said);
        }
    }
}

fn judge_buyers(view: &View, state: &SaleState, findings: &mut Findings) {
    // With a clock that goes back, holds are live again that were over by it.
    let now = mended_clock(view).map_or(state.now, |clock| clock.max(view.clocks.1));
    let mut all = vec![0_u64; view.buyers.names.len()];
    let mut counted = vec![BuyerTickets::default(); view.buyers.names.len()];
    for claimed in view.entries.values().filter_map(|entry| entry.in_ledger.as_ref()) {
        let Some(buyer) = claimed.buyer.map(BuyerIndex::at) else { continue };
        all[buyer] += claimed.tickets_after(now);
        match claimed.status {
            Some(BookingStatus::Held { expires_at }) if claimed.counted && expires_at > now => {
                counted[buyer].holds.push((expires_at, claimed.quantity));
            }
            Some(BookingStatus::Confirmed) if claimed.counted => {
                counted[buyer].confirmed += u64::from(claimed.quantity);
            }
            _ => {}
        }
    }
    for (index, buyer) in view.buyers.names.iter().enumerate() {
        if view.unsettled.contains(&index) {
            continue;
        }
        let (told, sum) = (&view.buyers.counted[index], &mut counted[index]);
        sum.holds.sort_unstable();
        if (told.confirmed, &told.held_after(now)) == (sum.confirmed, &sum.holds) {
            continue;
        }
        let (told, new) = (told.total(now), sum.total(now));
        let ends = if told == new { ", and their holds end at other times" } else { "" };
        let text =
            format!("the ledger counts {told} tickets, but the bookings that count add up to {new}{ends}");
        findings.derived(Kind::Buyer, format!("buyer {buyer}"), text);
        let repair = Repair::Buyer { buyer: *buyer, tickets: sum.clone() };
        findings.mend(repair, vec![format!("buyer {buyer}: from {told} to {new} tickets")]);
    }
    let Some(limit) = state.terms.per_buyer else { return };
    let mut over = 0;
    for (buyer, tickets) in view.buyers.names.iter().zip(all) {
        if tickets > u64::from(limit) {
            over += 1;
            if state.version <= 1 && !state.has_forgotten() {
                let text = format!("has {tickets} tickets, but the limit is {limit}");
                findings.differ(Kind::Limit, format!("buyer {buyer}"), text);
            }
        }
    }
    // The limit is that of bookings made from its change on, and nobody knows which those are.
    if over > 0 && state.has_forgotten() {
        findings.note(format!(
            "{over} buyers have more than the limit of {limit} tickets: bookings were put back regardless of the limit"
        ));
    } else if over > 0 && state.version > 1 {
        findings.note(format!(
            "{over} buyers have more than the limit of {limit} tickets; the sale's terms were changed, so the limit may \
             have been higher when they booked"
        ));
    }
}

/// Each held booking is in a group of its deadline: else nobody looks at it then. What else is in a group does no harm,
/// but a booking that is not there must have been once.
fn judge_holds(view: &View, findings: &mut Findings) {
    let mut lost: BTreeMap<WallTime, Vec<BookingId>> = BTreeMap::new();
    for (id, entry) in &view.entries {
        let held = match &entry.in_ledger {
            Some(Claimed { status: Some(BookingStatus::Held { expires_at }), .. }) => *expires_at,
            Some(Claimed { status: None, .. }) | None => {
                if let Some(deadline) = entry.grouped
                    && !view.unreadable.contains_key(&(Part::Bookings, id.as_str().into()))
                {
                    let text = format!("was held until {deadline}, but the ledger has no such booking");
                    findings.differ(Kind::Hold, format!("booking {id}"), text);
                }
                continue;
            }
            Some(_) => continue,
        };
        let text = match entry.grouped {
            Some(deadline) if deadline == held => continue,
            Some(deadline) => format!("is held until {held}, but would be checked at {deadline}"),
            None => {
                format!("is held until {held}, but would never expire: it is missing from the list of holds")
            }
        };
        findings.derived(Kind::Hold, format!("booking {id}"), text);
        lost.entry(held).or_default().push(*id);
    }
    for (expires_at, mut ids) in lost {
        ids.sort_unstable();
        for ids in ids.chunks(GROUP_BOOKINGS_MAX) {
            let said =
                ids.iter().map(|id| format!("booking {id}: added to the holds that end at {expires_at}"));
            findings.mend(Repair::Hold { expires_at, ids: ids.to_vec() }, said.collect());
        }
    }
}

/// Compares what holds give back by time with the holds. A span that is over no longer matters.
fn judge_spans(view: &View, state: &SaleState, findings: &mut Findings) {
    if !view.spans_are_of_now {
        return;
    }
    let lapsed = lapsed_until(view, state);
    let mut expected: BTreeMap<Span, u64> = BTreeMap::new();
    for claimed in view.entries.values().filter_map(|entry| entry.in_ledger.as_ref()) {
        if let Some(BookingStatus::Held { expires_at }) = claimed.status
            && expires_at > lapsed
        {
            for span in Span::around(expires_at) {
                *expected.entry(span).or_default() += u64::from(claimed.quantity);
            }
        }
    }
    let matters = |span: &&Span| span.end().is_some_and(|end| end > lapsed);
    let spans: BTreeSet<Span> = view.spans.keys().filter(matters).chain(expected.keys()).copied().collect();
    let mut wrong = 0;
    for span in spans {
        let count = |spans: &BTreeMap<Span, u64>| spans.get(&span).copied().unwrap_or(0);
        let (told, sum) = (count(&view.spans), count(&expected));
        if told != sum {
            wrong += 1;
            let Span { kind, index } = span;
            let said = format!("due: {}:{index} from {told} to {sum} tickets", kind + 1);
            findings.mend(Repair::Span { span, tickets: sum }, vec![said]);
        }
    }
    if wrong > 0 {
        let text = format!("{wrong} spans of time do not add up to the holds that end in them");
        findings.derived(Kind::Hold, "due", text);
    }
}

fn judge_log(view: &View, state: &SaleState, findings: &mut Findings) {
    let log = view.log;
    if log.entries == 0 {
        if state.sequence > 0 {
            findings.differ(
                Kind::Log,
                "log",
                format!("has no entries, but the sale is at sequence {}", state.sequence),
            );
        }
    } else {
        if log.last != state.sequence {
            let text = format!("ends at sequence {}, but the sale is at {}", log.last, state.sequence);
            findings.differ(Kind::Log, "log", text);
        }
        if log.first > 1 {
            findings
                .note(format!("the log starts at sequence {}: older changes were not replayed", log.first));
        }
    }
    let whole = log.first <= 1;
    for (id, entry) in &view.entries {
        match (&entry.in_ledger, &entry.last_logged) {
            (Some(booking), Some(logged)) if !booking.agrees(logged) => findings.differ(
                Kind::Replay,
                format!("booking {id}"),
                format!(
                    "is {} in the ledger, but {} according to its log",
                    booking.shown(&view.buyers),
                    logged.shown(&view.buyers)
                ),
            ),
            (Some(booking), Some(logged)) if booking.sequence != 0 && booking.sequence != logged.sequence => {
                findings.differ(
                    Kind::Replay,
                    format!("booking {id}"),
                    format!(
                        "is at sequence {} in the ledger, but at {} according to its log",
                        booking.sequence, logged.sequence
                    ),
                );
            }
            (None, Some(logged)) => findings.differ(
                Kind::Replay,
                format!("booking {id}"),
                format!(
                    "is {} according to the log, but the ledger has no such booking",
                    logged.shown(&view.buyers)
                ),
            ),
            // A tombstone is no change of a booking.
            (Some(booking), None) if whole && booking.status.is_some() => findings.differ(
                Kind::Replay,
                format!("booking {id}"),
                format!("is {} in the ledger, but its log never says so", booking.shown(&view.buyers)),
            ),
            (Some(booking), None) if booking.sequence >= log.first.max(1) && log.entries > 0 => findings
                .differ(
                    Kind::Replay,
                    format!("booking {id}"),
                    format!(
                        "is at sequence {} in the ledger, but its log has no such change",
                        booking.sequence
                    ),
                ),
            _ => {}
        }
    }
}

fn is_ahead(view: &View, time: WallTime) -> bool {
    time.0 > view.clocks.1.0.saturating_add(CLOCK_AHEAD_MS_MAX)
}

/// What the sale's clock is to be set back to, if it is ahead and can be.
fn mended_clock(view: &View) -> Option<WallTime> {
    let (stored, ledger) = view.clocks;
    let last = if view.log.entries > 0 { view.log.last_at } else { ledger };
    // An entry of the log is never earlier than the one before, so that the sale cannot go back further.
    (is_ahead(view, stored) && !is_ahead(view, last)).then_some(last)
}

/// Up to when holds have given their tickets back: with a clock that goes back, only those that are over by it.
fn lapsed_until(view: &View, state: &SaleState) -> WallTime {
    mended_clock(view).map_or(state.lapsed_until, |clock| state.lapsed_until.min(clock))
}

/// The sale's clock is that of its last change. It only ever goes forward, so that a time that was far ahead once stays.
fn judge_clock(view: &View, findings: &mut Findings) {
    let (stored, ledger) = view.clocks;
    if !is_ahead(view, stored) {
        return;
    }
    let text = format!(
        "the sale's clock is at {stored}, but the ledger's own is at {ledger}: holds made now end late"
    );
    findings.derived(Kind::Clock, "clock", text);
    match mended_clock(view) {
        Some(to) => findings.mend(Repair::Clock { to }, vec![format!("clock: from {stored} to {to}")]),
        None => findings.note(format!(
            "the clock cannot be set back: the log has an entry at {}, and later entries must not be earlier",
            view.log.last_at
        )),
    }
}

/// Whether the sale is among the ledger's sales: hosts that start find it nowhere else.
pub(super) fn judge_name(
    ledger: &mut dyn Ledger,
    sale: SaleName,
    findings: &mut Findings,
) -> Result<(), AuditError> {
    match ask(ledger, Call::Ledger(LedgerOp::Sales)) {
        Ok(Answer::Ledger(LedgerResult::Sales { names, odd })) => {
            if !names.contains(&sale) {
                findings.derived(Kind::Name, "name", "is missing from the ledger's list of sales");
                findings.mend(Repair::Name, vec!["name: added to the ledger's list of sales".to_owned()]);
            }
            for member in odd {
                let what = format!("the ledger's list of sales has {member:?}, which is not a sale's name");
                findings.differ(Kind::Name, "name", what);
            }
        }
        Ok(other) => return Err(unexpected(&other)),
        Err(AuditError::Ledger(error)) if error.is_of_what_is_stored() => {
            let what = format!("the ledger's list of sales cannot be read: {}", error.words());
            findings.differ(Kind::Name, "name", what);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Compares the bookings with the lines of the access logs, of which `missing` are known to be missing.
pub(super) fn judge_access(view: &View, missing: u64, findings: &mut Findings) {
    let (mut by_replay, mut left_open) = (0_u64, 0_u64);
    let mut untold = Vec::new();
    for (id, entry) in &view.entries {
        let (told, subject) = (&entry.told, || format!("booking {id}"));
        if told.granted > 1 {
            findings.differ(Kind::Told, subject(), format!("was granted {} times", told.granted));
        }
        if view.lost.contains_key(id) {
            // Named already.
            continue;
        }
        let booking = match &entry.in_ledger {
            Some(booking) if booking.status.is_some() => booking,
            none_or_tombstone => {
                let instead =
                    if none_or_tombstone.is_some() { "only a tombstone" } else { "no such booking" };
                if told.granted > 0 {
                    let text = format!("was granted {} tickets, but the ledger has {instead}", told.quantity);
                    findings.differ(Kind::Told, subject(), text);
                } else if told.replayed && none_or_tombstone.is_none() {
                    // A tombstone is reported as a cancelled booking.
                    let text = "was reported to its client, but the ledger has no such booking";
                    findings.differ(Kind::Told, subject(), text);
                }
                continue;
            }
        };
        if (told.granted > 0 || told.replayed) && !booking.was_made_as(told.quantity, told.buyer) {
            let text = format!(
                "was {} as {} for {}, but is {} in the ledger",
                if told.granted > 0 { "granted" } else { "told" },
                told.quantity,
                view.buyers.word(told.buyer),
                booking.shown(&view.buyers)
            );
            findings.differ(Kind::Told, subject(), text);
        }
        match told {
            LoggedAnswers { granted: 1.., .. } => {}
            LoggedAnswers { replayed: true, .. } => by_replay += 1,
            LoggedAnswers { unknown: true, .. } => left_open += 1,
            // It may have been the orphan of a request that got no answer.
            _ if booking.status == Some(BookingStatus::Cancelled) => {}
            _ => untold.push((id, booking)),
        }
    }
    if untold.len() as u64 <= missing && !untold.is_empty() {
        findings.note(format!("{} bookings have no line; {missing} lines are missing", untold.len()));
    } else {
        for (id, booking) in untold {
            let text = format!("is {} in the ledger, but no line mentions it", booking.shown(&view.buyers));
            findings.differ(Kind::Untold, format!("booking {id}"), text);
        }
    }
    if by_replay > 0 {
        findings.note(format!("{by_replay} bookings have lines of repeated requests only"));
    }
    if left_open > 0 {
        findings
            .note(format!("{left_open} bookings were made by requests that were answered outcome-unknown"));
    }
}
