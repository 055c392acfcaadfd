//! Redis' replies as answers.

use std::collections::BTreeMap;
use std::fmt::Write;

use arrayvec::{ArrayString, ArrayVec};
use uuid::Uuid;

use super::bulk::{BulkStrings, bulk_string, nullable, split_once};
use super::frame::{FrameError, frame_length};
use super::pack::{CLOCK_FIELD, STATE_FIELDS, replies_expected};
use super::reply::{Record, number, read_log_entry, read_state};
use super::survey::read_survey;
use crate::booking::{Booking, BookingId, BookingStatus, SaleName, SaleStatus};
use crate::clock::WallTime;
use crate::limits::{
    ADVERTISED_BYTES_MAX, CHANGES_KEPT, CHANGES_PER_CALL_MAX, HOST_FORGOTTEN_MS, IDENTIFIER_BYTES_MAX,
    LEDGER_REPLY_BYTES_MAX, PAGE_ENTRIES, VERSION_BYTES_MAX, WEIGHT_MAX,
};
use crate::protocol::{
    Amended, Answer, BookingOp, Call, CallError, Cancel, Cancellation, ChangeFault, Claim, Confirmation,
    HostBeat, HostId, HostReport, LedgerOp, LedgerResult, LostCause, Objection, Reservation, Restoration,
    SaleOp, SaleResult,
};

/// Bytes of a state's line: numbers of at most 20 digits, a word and commas.
const STATE_LINE_BYTES_MAX: usize = 256;

/// Replies of one call.
const REPLIES_MAX: usize = 4;

/// Bytes that are passed on of an entry that is not a name.
const ODD_BYTES_MAX: usize = 100;

/// The whole reply of a script if the ledger has no such sale.
const MISSING: &[u8] = b"missing";

/// Bytes of an error's text that are passed on.
const ERROR_BYTES_MAX: usize = 300;

// A page is the longest reply: 1,000 bookings of an id, a record with a buyer, and separators.
const _: () = assert!(PAGE_ENTRIES * (3 * IDENTIFIER_BYTES_MAX + 64) < LEDGER_REPLY_BYTES_MAX);

/// Bytes of the replies of `call` at the start of `buffer`; `None` if they are not all there yet. An error means that the
/// connection is unusable.
pub fn replies_length(call: &Call, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    frames_length(replies_expected(call), buffer)
}

/// Bytes of the first `count` replies in `buffer`; `None` if they are not all there yet.
pub fn frames_length(count: usize, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    let mut at = 0;
    for _ in 0..count {
        match frame_length(&buffer[at..])? {
            Some(length) => at += length,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Whether Redis did not know the script, so that nothing was done: [load them](super::codec::load_scripts) and send again.
pub fn is_noscript(replies: &[u8]) -> bool {
    error_lines(replies).any(|line| line.starts_with(b"NOSCRIPT"))
}

/// The first error among replies that should have none, as those to [`hello`](super::codec::hello) and
/// [`load_scripts`](super::codec::load_scripts).
pub fn first_error(replies: &[u8]) -> Option<String> {
    error_lines(replies).next().map(bounded)
}

/// The answer in the replies of `call`, which must be [whole](replies_length) and nothing else.
pub fn read(call: &Call, replies: &[u8]) -> Result<Answer, CallError> {
    if let Some(line) = error_lines(replies).next() {
        return Err(call_error(line));
    }
    let mut each = ArrayVec::<&[u8], REPLIES_MAX>::new();
    let (mut before, mut last): (&[u8], &[u8]) = (&[], &[]);
    let mut rest = replies;
    for _ in 0..replies_expected(call) {
        let length = frame_length(rest).map_err(|error| CallError::Garbled(error.to_string()))?;
        let Some(length) = length else { return Err(CallError::Garbled("it ends too early".into())) };
        before = last;
        (last, rest) = rest.split_at(length);
        each.push(last);
    }
    if !rest.is_empty() {
        return Err(CallError::Garbled("it has more than was asked for".into()));
    }
    match call {
        Call::Bookings { op, .. } => read_of_bookings(op, last).ok_or_else(garbled),
        Call::Sale { sale, op: SaleOp::Snapshot } => {
            read_snapshot(before, last).ok_or_else(|| match what_is_wrong(last) {
                Some(what) => CallError::Unsound(format!("bx:{{{sale}}}:stock {what}")),
                None => garbled(),
            })
        }
        Call::Sale { op, .. } => read_of_sale(op, last).ok_or_else(garbled),
        Call::Ledger(op) => read_of_ledger(op, &each).map(Answer::Ledger).ok_or_else(garbled),
    }
}

/// The texts of all top-level error replies, without their `-`.
fn error_lines(replies: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = replies;
    std::iter::from_fn(move || {
        loop {
            let length = frame_length(rest).ok().flatten()?;
            let (frame, after) = rest.split_at(length);
            rest = after;
            if let Some(line) = frame.strip_prefix(b"-") {
                return Some(line.trim_ascii_end());
            }
        }
    })
}

/// Classifies an error by whether Redis carried the call out.
fn call_error(line: &[u8]) -> CallError {
    let text = bounded(line);
    if let Some(what) = unsoundness(&text) {
        return CallError::Unsound(what);
    }
    if is_refusal(&text) { CallError::Refused(text) } else { CallError::Garbled(text) }
}

/// What an error says is wrong with what is stored. Scripts find it before they write anything: they read all their keys,
/// or log first, before they write another.
fn unsoundness(text: &str) -> Option<String> {
    const OTHER_TYPE: &str = "a key is of a type that boxoffice never gives it";
    if let Some(what) = text.strip_prefix("UNSOUND ") {
        return Some(what.to_owned());
    }
    // Behind where it was raised, before the name of the script.
    if let Some((_, what)) = text.split_once(": UNSOUND ") {
        return Some(what.split(" script: ").next().unwrap_or_default().trim_end().to_owned());
    }
    // Redis 6.2 puts words of its own before a script's error.
    let is_other_type = text.starts_with("WRONGTYPE ")
        || text.starts_with("ERR Error running script") && text.contains("-WRONGTYPE ");
    is_other_type.then(|| OTHER_TYPE.to_owned())
}

/// Whether an error means that nothing was carried out.
pub fn is_refusal(text: &str) -> bool {
    // Redis says these before it runs a command, or before a script's first write; Redis 6.2 puts them behind words
    // of its own, with a hyphen.
    const NOT_DONE: [&str; 16] = [
        "NOSCRIPT",
        "LOADING",
        "OOM",
        "READONLY",
        "MISCONF",
        "BUSY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "NOREPLICAS",
        "NOAUTH",
        "WRONGPASS",
        "NOPERM",
        "TRYAGAIN",
        "MOVED",
        "ASK",
        "CROSSSLOT",
    ];
    // Our own scripts, before their first write.
    if text.contains(": DENIED ") {
        return true;
    }
    // Redis 7.2 says so of a command within a script; nobody knows what the script did before.
    if text.starts_with("NOPERM ACL failure in script") {
        return false;
    }
    let first = text.split(' ').next().unwrap_or_default();
    let of_script = text.starts_with("ERR Error running script");
    let hidden =
        || text.split(' ').filter_map(|word| word.strip_prefix('-')).any(|word| NOT_DONE.contains(&word));
    NOT_DONE.contains(&first) || of_script && hidden()
}

fn bounded(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(ERROR_BYTES_MAX)]).into_owned()
}

/// The reply to an operation on bookings.
fn read_of_bookings(op: &BookingOp, reply: &[u8]) -> Option<Answer> {
    let bytes = bulk_string(reply)?;
    if bytes == MISSING {
        return Some(Answer::Missing);
    }
    let (first, rest) = lines_of(bytes)?;
    let state = read_state(first)?;
    if rest == Some("withheld") {
        return Some(Answer::Stale(state));
    }
    let lines = rest.into_iter().flat_map(|rest| rest.split('\n'));
    let result = match op {
        BookingOp::Reserve(claims) => SaleResult::Reserved(each(claims, lines, read_reservation)?),
        BookingOp::Confirm(ids) => SaleResult::Confirmed(each(ids, lines, read_confirmation)?),
        BookingOp::Cancel(cancels) => SaleResult::Cancelled(each(cancels, lines, read_cancellation)?),
        BookingOp::Amend(amendments) => {
            SaleResult::Amended(each(amendments, lines, |(id, _), line| read_amended(id, line))?)
        }
        BookingOp::Assign { id, .. } => {
            SaleResult::Assigned(each(std::slice::from_ref(id), lines, read_amended)?.pop()?)
        }
        BookingOp::Restore(bookings) => SaleResult::Restored(each(bookings, lines, read_restoration)?),
    };
    Some(Answer::Sale { state, result })
}

/// The reply to an operation on a sale.
fn read_of_sale(op: &SaleOp, reply: &[u8]) -> Option<Answer> {
    let bytes = bulk_string(reply)?;
    match (op, bytes) {
        (_, MISSING) => return Some(Answer::Missing),
        (SaleOp::Open { .. }, b"lost") => return Some(Answer::Lost),
        (SaleOp::Remove, b"removed") => return Some(Answer::Removed { done: true }),
        (SaleOp::Page { .. }, bytes) => return read_page(bytes),
        (SaleOp::Survey { .. }, bytes) => return read_survey(bytes),
        _ => {}
    }
    let (first, rest) = lines_of(bytes)?;
    let state = read_state(first)?;
    let mut lines = rest.into_iter().flat_map(|rest| rest.split('\n'));
    let result = match op {
        SaleOp::LookUp(ids) => SaleResult::Found(each(ids, lines, read_booking)?),
        SaleOp::Log { .. } => SaleResult::Log(lines.map(read_log_entry).collect::<Option<Vec<_>>>()?),
        SaleOp::Expire => lines.next().is_none().then_some(SaleResult::Done)?,
        SaleOp::Trim => {
            let mut counts = rest?.split(',').map(number);
            let mut next = || counts.next().flatten();
            let result = SaleResult::Trimmed { groups: next()?, removed: next()?, left: next()? };
            counts.next().is_none().then_some(result)?
        }
        op => match (op, rest?) {
            (SaleOp::Open { .. }, "created") => SaleResult::Created,
            (SaleOp::Open { .. }, "exists") => SaleResult::Exists,
            (SaleOp::Alter(_) | SaleOp::Repair { .. }, "done") => SaleResult::Done,
            (SaleOp::Alter(_), "counting") => SaleResult::Counting,
            (op, word) => SaleResult::Refused(read_fault(op, word)?),
        },
    };
    Some(Answer::Sale { state, result })
}

/// Why a sale was not changed.
fn read_fault(op: &SaleOp, word: &str) -> Option<ChangeFault> {
    Some(match (op, word) {
        (SaleOp::Alter(_), "version") => ChangeFault::OtherVersion,
        (SaleOp::Alter(_), "total") => ChangeFault::TotalTooLow,
        (SaleOp::Alter(_), "window") => ChangeFault::EmptyWindow,
        (SaleOp::Remove, "closed") => ChangeFault::NotClosed,
        (SaleOp::Remove, "held") => ChangeFault::StillHeld,
        (SaleOp::Repair { .. }, "moved") => ChangeFault::Moved,
        (SaleOp::Repair { .. }, "counts") => ChangeFault::CountsTooHigh,
        _ => return None,
    })
}

/// The replies to an operation on the ledger as a whole: those of its script, or of its commands.
fn read_of_ledger(op: &LedgerOp, replies: &[&[u8]]) -> Option<LedgerResult> {
    match op {
        LedgerOp::Changes { after } => read_changes(*after, replies),
        LedgerOp::Sales => read_sales(replies.first()?),
        LedgerOp::Recall { sales } => read_recalled(sales.len(), bulk_string(replies.first()?)?),
        LedgerOp::Identify { .. } => {
            read_identified(std::str::from_utf8(bulk_string(replies.first()?)?).ok()?)
        }
        LedgerOp::Layout => read_layout(nullable(replies.first()?)?),
        LedgerOp::Beat { .. } | LedgerOp::Hosts => {
            read_hosts(&String::from_utf8_lossy(bulk_string(replies.first()?)?))
        }
    }
}

/// The text of a script's reply: the line of the state, and what follows it.
fn lines_of(bytes: &[u8]) -> Option<(&str, Option<&str>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(match text.split_once('\n') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    })
}

fn garbled() -> CallError {
    CallError::Garbled("a reply does not have a form that this version knows".into())
}

/// The replies to TIME and to HMGET of the [`STATE_FIELDS`]: what `state` in `lua/sale.lua` makes of the same.
fn read_snapshot(time: &[u8], stock: &[u8]) -> Option<Answer> {
    let mut fields = BulkStrings::of(stock)?;
    if fields.count != STATE_FIELDS.len() as u64 {
        return None;
    }
    let text = |string| std::str::from_utf8(string).ok();
    let now_ms = read_time(time)?;
    let mut line = ArrayString::<STATE_LINE_BYTES_MAX>::new();
    for field in 0..STATE_FIELDS.len() {
        if field > 0 {
            line.try_push(',').ok()?;
        }
        match (field, fields.next()?) {
            (0, None) => return fields.all(|field| field.is_none()).then_some(Answer::Missing),
            (CLOCK_FIELD, None) => write!(line, "{now_ms}").ok()?,
            (CLOCK_FIELD, Some(clock)) => write!(line, "{}", now_ms.max(number(text(clock)?)?)).ok()?,
            (CLOCK_FIELD.., None) => line.try_push('0').ok()?,
            (_, value) => line.try_push_str(text(value.unwrap_or_default())?).ok()?,
        }
    }
    let state = read_state(&line)?;
    (state.held + state.sold <= state.terms.total).then_some(Answer::Sale { state, result: SaleResult::Done })
}

/// What is wrong with a stock that cannot be read, in the words of `lua/sale.lua`; `None` if it is not the fields.
fn what_is_wrong(stock: &[u8]) -> Option<String> {
    let fields: Vec<Option<&[u8]>> = BulkStrings::of(stock)?.collect();
    if fields.len() != STATE_FIELDS.len() {
        return None;
    }
    // As large as the scripts allow.
    const PAST: u64 = 1_000_000_000_000_000;
    let number_in = |field: usize| {
        let number = fields[field].and_then(|text| number(std::str::from_utf8(text).ok()?));
        number.filter(|number| *number < PAST)
    };
    let is_number = |field: usize| match (field, fields[field].unwrap_or_default()) {
        (0..=4, _) => number_in(field).is_some(),
        (5, word) => std::str::from_utf8(word).ok().and_then(SaleStatus::from_word).is_some(),
        (_, text) => text.is_empty() || number_in(field).is_some(),
    };
    match (0..fields.len()).find(|&field| !is_number(field)) {
        Some(5) => Some("has no known status".to_owned()),
        Some(field) => Some(format!("has no number in {}", STATE_FIELDS[field])),
        None if number_in(1)?.saturating_add(number_in(2)?) > number_in(0)? => {
            Some("has more tickets held and sold than there are".to_owned())
        }
        None => None,
    }
}

/// One letter per sale.
fn read_recalled(sales: usize, letters: &[u8]) -> Option<LedgerResult> {
    let removed = letters.iter().map(|letter| match letter {
        b'k' => Some(false),
        b'r' => Some(true),
        _ => None,
    });
    let removed = removed.collect::<Option<Vec<_>>>()?;
    (removed.len() == sales).then_some(LedgerResult::Recalled { removed })
}

/// A name and an age.
fn read_identified(text: &str) -> Option<LedgerResult> {
    let (id, age_ms) = text.rsplit_once(',')?;
    (!id.is_empty()).then_some(LedgerResult::Identified { id: id.to_owned(), age_ms: number(age_ms)? })
}

/// A number; a ledger that has none is of the first layout, or is empty.
fn read_layout(text: Option<&[u8]>) -> Option<LedgerResult> {
    let layout = match text {
        Some(text) => number(std::str::from_utf8(text).ok()?)?,
        None => 1,
    };
    Some(LedgerResult::Layout(layout))
}

/// The time, then an id and what belongs to it, a line each. What is no host, or tells what this version does not understand,
/// was put there by somebody else.
fn read_hosts(text: &str) -> Option<LedgerResult> {
    let mut lines = text.lines();
    let now = number(lines.next()?)?;
    let (mut hosts, mut is_untidy, mut id) = (BTreeMap::new(), false, None);
    for line in lines {
        // Somebody else's lines may stand between.
        if let Some(next) = HostId::parse(line) {
            id = Some(next);
            continue;
        }
        let told = line.split_once(' ').and_then(|(at, told)| Some((number(at)?, told)));
        let (Some(id), Some((at, told))) = (id.take(), told) else { continue };
        let Some(report) = serde_json::from_str(told).ok().filter(is_sane) else { continue };
        let age_ms = now.saturating_sub(at);
        // One of the future would seem to live until then.
        is_untidy |= at > now || age_ms > HOST_FORGOTTEN_MS;
        if age_ms <= HOST_FORGOTTEN_MS {
            hosts.insert(id, HostBeat { id, age_ms, report });
        }
    }
    Some(LedgerResult::Hosts { hosts: hosts.into_values().collect(), is_untidy })
}

/// What others are told of a host is short and printable, whoever wrote it.
fn is_sane(report: &HostReport) -> bool {
    let is_plain = |text: &str, bytes_max: usize| {
        let is_odd = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\\');
        text.len() <= bytes_max && !text.bytes().any(is_odd)
    };
    (1..=WEIGHT_MAX).contains(&report.weight)
        && is_plain(&report.address, ADVERTISED_BYTES_MAX)
        && is_plain(&report.version, VERSION_BYTES_MAX)
}

/// The reply to TIME, in milliseconds.
fn read_time(reply: &[u8]) -> Option<u64> {
    let mut time = BulkStrings::of(reply)?;
    let mut next = || number(std::str::from_utf8(time.next()??).ok()?);
    let (seconds, micros) = (next()?, next()?);
    (time.count == 2).then_some(())?;
    seconds.checked_mul(1_000)?.checked_add(micros / 1_000)
}

/// A member that is not a sale's name must not hide the others.
fn read_sales(reply: &[u8]) -> Option<LedgerResult> {
    let members = BulkStrings::of(reply)?;
    let count = members.count;
    let (mut names, mut odd) = (Vec::new(), Vec::new());
    for member in members {
        let member = member?;
        match SaleName::parse(member) {
            Ok(name) => names.push(name),
            Err(_) => odd.push(member[..member.len().min(ODD_BYTES_MAX)].escape_ascii().to_string()),
        }
    }
    ((names.len() + odd.len()) as u64 == count).then_some(LedgerResult::Sales { names, odd })
}

/// The replies to TIME, to GET of the feed's number, to HGET of the ledger's name, and to ZRANGEBYSCORE.
fn read_changes(after: Option<u64>, replies: &[&[u8]]) -> Option<LedgerResult> {
    let [time, latest, ledger, changes] = *replies else { return None };
    let now = WallTime(read_time(time)?);
    let text = |string| std::str::from_utf8(string).ok();
    let latest = match nullable(latest)? {
        Some(latest) => number(text(latest)?)?,
        None => 0,
    };
    let ledger = text(nullable(ledger)?.unwrap_or_default())?.to_owned();
    let mut strings = BulkStrings::of(changes)?;
    let count = usize::try_from(strings.count).ok()?;
    let mut names = Vec::with_capacity(count.min(2 * CHANGES_PER_CALL_MAX) / 2);
    let mut last = 0;
    for _ in 0..count / 2 {
        let member = strings.next()??;
        last = number(text(strings.next()??)?)?;
        // As in the list of all sales.
        names.extend(SaleName::parse(member));
    }
    // What was announced between the first command and the last is reported again the next time.
    let more = count / 2 >= CHANGES_PER_CALL_MAX && last < latest;
    let at = if more { last } else { latest };
    let reset = after.is_some_and(|after| latest < after || latest - after > CHANGES_KEPT);
    count.is_multiple_of(2).then_some(LedgerResult::Changes { names, at, more, reset, ledger, now })
}

/// Reads exactly one line for each of `asked`.
fn each<'a, A, B>(
    asked: &[A],
    mut lines: impl Iterator<Item = &'a str>,
    read: impl Fn(&A, &'a str) -> Option<B>,
) -> Option<Vec<B>> {
    if asked.is_empty() {
        // An empty text still splits into one empty line.
        return lines.all(str::is_empty).then(Vec::new);
    }
    let mut answers = Vec::with_capacity(asked.len());
    for entry in asked {
        answers.push(read(entry, lines.next()?)?);
    }
    lines.next().is_none().then_some(answers)
}

fn read_reservation(claim: &Claim, line: &str) -> Option<Reservation> {
    let rest = line.get(1..)?;
    Some(match (line.as_bytes()[0], rest) {
        (b'g', "") => Reservation::Granted { expires_at: None },
        (b'g', deadline) => Reservation::Granted { expires_at: Some(WallTime(number(deadline)?)) },
        (b'k', record) => Reservation::Known(Record::read(record)?.booking(claim.id)),
        (b't', "") => Reservation::Known(Booking {
            id: claim.id,
            status: BookingStatus::Cancelled,
            quantity: claim.quantity,
            released: 0,
            buyer: claim.buyer,
            reassigned: 0,
        }),
        (b'r', "") => Reservation::IdReused,
        (b's', "") => Reservation::SoldOut,
        (b'b', "") => Reservation::BuyerLimit,
        (b'q', "") => Reservation::BuyerRequired,
        (b'n', "") => Reservation::NotOnSale,
        _ => return None,
    })
}

fn read_confirmation(id: &BookingId, line: &str) -> Option<Confirmation> {
    let (beyond_limit, line) = match line.strip_prefix('b') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    Some(match read_booking(id, line)? {
        Some(booking) if beyond_limit => match booking.status {
            BookingStatus::Expired => Confirmation::BuyerLimit(booking),
            _ => return None,
        },
        None if beyond_limit => return None,
        None => Confirmation::NotFound,
        Some(booking) => match booking.status {
            BookingStatus::Confirmed => Confirmation::Confirmed(booking),
            BookingStatus::Expired => Confirmation::HoldExpired(booking),
            BookingStatus::Cancelled => Confirmation::Cancelled(booking),
            BookingStatus::Held { .. } => return None,
        },
    })
}

fn read_cancellation(cancel: &Cancel, line: &str) -> Option<Cancellation> {
    Some(match read_booking(&cancel.id, line)? {
        None => Cancellation::NotFound,
        Some(booking) if booking.status == BookingStatus::Cancelled => Cancellation::Cancelled(booking),
        Some(_) => return None,
    })
}

fn read_restoration(_: &Booking, line: &str) -> Option<Restoration> {
    Some(match line {
        "=" => Restoration::Stands,
        "+" => Restoration::PutBack,
        "s" => Restoration::Lost(LostCause::SoldOut),
        "r" => Restoration::Lost(LostCause::IdTaken),
        _ => return None,
    })
}

fn read_amended(id: &BookingId, line: &str) -> Option<Amended> {
    let objection = match line {
        "!c" => Objection::Confirmed,
        "!x" => Objection::Cancelled,
        "!e" => Objection::HoldExpired,
        "!l" => Objection::HoldLimit,
        "!r" => Objection::NotARelease,
        "!n" => Objection::NotOnSale,
        "!q" => Objection::BuyerRequired,
        "!b" => Objection::BuyerLimit,
        "!s" => Objection::SoldOut,
        record => {
            return Some(match read_booking(id, record)? {
                Some(booking) if booking.status.holds_stock() => Amended::Done(booking),
                Some(_) => return None,
                None => Amended::NotFound,
            });
        }
    };
    Some(Amended::Refused(objection))
}

fn read_booking(id: &BookingId, line: &str) -> Option<Option<Booking>> {
    match line {
        "-" => Some(None),
        record => Some(Some(Record::read(record)?.booking(*id))),
    }
}

fn read_page(bytes: &[u8]) -> Option<Answer> {
    let (state, rest) = split_once(bytes, b'\n')?;
    let state = read_state(std::str::from_utf8(state).ok()?)?;
    let (cursor, mut rest) = match split_once(rest, b'\n') {
        Some((cursor, rest)) => (cursor, rest),
        None => (rest, &[][..]),
    };
    let cursor = std::str::from_utf8(cursor).ok()?;
    number(cursor)?;
    let mut bookings = Vec::new();
    while !rest.is_empty() {
        let id;
        (id, rest) = if rest[0] == 0 {
            let uuid = Uuid::from_bytes(rest.get(1..17)?.try_into().ok()?);
            let mut text = Uuid::encode_buffer();
            (
                BookingId::parse(uuid.hyphenated().encode_lower(&mut text)).ok()?,
                rest[17..].strip_prefix(b" ")?,
            )
        } else {
            let (id, rest) = split_once(rest, b' ')?;
            (BookingId::parse(id).ok()?, rest)
        };
        let record;
        (record, rest) = split_once(rest, b'\n').unwrap_or((rest, &[]));
        bookings.push(Record::read(std::str::from_utf8(record).ok()?)?.booking(id));
    }
    let result = SaleResult::Page { bookings, next: (cursor != "0").then(|| cursor.to_owned()) };
    Some(Answer::Sale { state, result })
}
