//! Calls as the bytes of Redis commands.

use std::fmt::Write;

use arrayvec::ArrayString;
use redis::Cmd;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::frame::frame_length;
use super::keys::{self, Keys};
use super::scripts::{self, Script};
use super::stored::Stored;
use crate::booking::{
    Amendment, Booking, BookingId, BookingStatus, BuyerId, Quantity, SaleChange, SaleName, SaleTerms,
};
use crate::ledger::{LAYOUT, held};
use crate::limits::{
    CHANGES_PER_CALL_MAX, EXPIRIES_PER_CALL_MAX, GROUPS_PER_PAGE, HOST_FORGOTTEN_MS, IDENTIFIER_BYTES_MAX,
    LOG_ENTRIES_PER_CALL_MAX, PAGE_ENTRIES, SWEPT_PER_CALL, TRIMMED_PER_CALL_MAX,
};
use crate::protocol::{
    BookingOp, BuyerTickets, Call, Cancel, Claim, LedgerOp, Opener, Part, Repair, SaleOp, Span, Watermark,
};

/// Appends the commands of `call`, on the one Redis that has all.
pub fn pack(call: &Call, out: &mut Vec<u8>) {
    pack_at(call, Keys::One, out);
}

/// Appends the commands of `call`, whose keys are there.
pub fn pack_at(call: &Call, keys: Keys, out: &mut Vec<u8>) {
    match call {
        Call::Bookings { sale, seen, op } => on_bookings((keys, sale), seen, op, out),
        Call::Sale { sale, op } => on_sale((keys, sale), op, out),
        Call::Ledger(op) => on_ledger(keys, op, out),
    }
}

/// Appends the commands of `call`, each behind an ASKING: for a node that is to get a slot, and does not have it yet. Each
/// command gets one more reply, before its own.
pub fn pack_asking(call: &Call, keys: Keys, out: &mut Vec<u8>) {
    let mut commands = Vec::new();
    pack_at(call, keys, &mut commands);
    let mut rest = &commands[..];
    while let Some(length) = frame_length(rest).ok().flatten() {
        out.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
        out.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
    }
}

/// A sale, and where the keys of a call on it are.
type Placed<'a> = (Keys, &'a SaleName);

fn on_bookings(sale: Placed<'_>, seen: &Watermark, op: &BookingOp, out: &mut Vec<u8>) {
    match op {
        BookingOp::Reserve(claims) => reserve(sale, seen, claims, out),
        BookingOp::Confirm(ids) => {
            let mut command = script(&scripts::CONFIRM, sale, 1 + 2 * ids.len(), 64 + ids.len() * 60);
            arg_seen(&mut command, SWEPT_PER_CALL, seen);
            for id in ids {
                arg_id(&mut command, id);
            }
            command.write_packed_command(out);
        }
        BookingOp::Cancel(cancels) => {
            let mut command = script(&scripts::CANCEL, sale, 1 + 3 * cancels.len(), 64 + cancels.len() * 60);
            arg_seen(&mut command, SWEPT_PER_CALL, seen);
            for Cancel { id, tombstone } in cancels {
                arg_id(&mut command, id);
                command.arg(flag(*tombstone));
            }
            command.write_packed_command(out);
        }
        BookingOp::Amend(amendments) => {
            let mut command =
                script(&scripts::AMEND, sale, 1 + 4 * amendments.len(), 64 + amendments.len() * 80);
            arg_seen(&mut command, SWEPT_PER_CALL, seen);
            for (id, amendment) in amendments {
                arg_id(&mut command, id);
                match amendment {
                    Amendment::Extend { ms } => command.arg("extend").arg(*ms),
                    Amendment::Release { remaining } => command.arg("release").arg(remaining.get()),
                    Amendment::HoldAgain => command.arg("hold").arg(""),
                };
            }
            command.write_packed_command(out);
        }
        BookingOp::Assign { id, buyer } => {
            let mut command = script(&scripts::AMEND, sale, 5, 256);
            arg_seen(&mut command, SWEPT_PER_CALL, seen);
            arg_id(&mut command, id);
            command.arg("buyer").arg(buyer.as_ref().map_or("", |buyer| buyer.as_str()));
            command.write_packed_command(out);
        }
        BookingOp::Restore(bookings) => restore(sale, seen, bookings).write_packed_command(out),
    }
}

fn on_sale(sale: Placed<'_>, op: &SaleOp, out: &mut Vec<u8>) {
    match op {
        SaleOp::Open { terms, by } => open(sale, terms, *by).write_packed_command(out),
        SaleOp::Remove => {
            let mut command =
                script_with(&scripts::REMOVE, sale, &[SharedKey::Sales, SharedKey::Removed], 1, 64);
            command.arg(sale.1.as_str()).write_packed_command(out);
        }
        SaleOp::Alter(change) => alter(sale, change).write_packed_command(out),
        SaleOp::Snapshot => snapshot(sale.1, out),
        SaleOp::LookUp(ids) => {
            let mut command = script(&scripts::LOOKUP, sale, ids.len(), ids.len() * 24);
            for id in ids {
                command.arg(Stored::of(id).bytes());
            }
            command.write_packed_command(out);
        }
        SaleOp::Expire => {
            script(&scripts::EXPIRE, sale, 1, 8).arg(EXPIRIES_PER_CALL_MAX).write_packed_command(out);
        }
        SaleOp::Page { cursor } => {
            let cursor = if cursor.is_empty() { "0" } else { cursor };
            script(&scripts::PAGE, sale, 2, 32).arg(cursor).arg(PAGE_ENTRIES).write_packed_command(out);
        }
        SaleOp::Log { after } => {
            script(&scripts::LOG, sale, 2, 32)
                .arg(*after)
                .arg(LOG_ENTRIES_PER_CALL_MAX)
                .write_packed_command(out);
        }
        SaleOp::Trim => {
            script(&scripts::TRIM, sale, 1, 8).arg(TRIMMED_PER_CALL_MAX).write_packed_command(out);
        }
        SaleOp::Survey { part, cursor } => {
            let rows = match part {
                Part::Holds => GROUPS_PER_PAGE,
                Part::Changes => LOG_ENTRIES_PER_CALL_MAX,
                _ => PAGE_ENTRIES,
            };
            script(&scripts::SURVEY, sale, 3, 64)
                .arg(part.word())
                .arg(cursor.as_str())
                .arg(rows)
                .write_packed_command(out);
        }
        SaleOp::Repair { version, sequence, repairs } => {
            if repairs.contains(&Repair::Name) {
                // In another slot than the sale, so beside the script. Naming a sale that is there is right, whatever
                // becomes of the rest.
                name(sale.1).write_packed_command(out);
            }
            repair(sale, *version, *sequence, repairs).write_packed_command(out);
        }
    }
}

fn on_ledger(keys: Keys, op: &LedgerOp, out: &mut Vec<u8>) {
    match op {
        LedgerOp::Sales => redis::cmd("SMEMBERS").arg(keys.sales(None).as_str()).write_packed_command(out),
        LedgerOp::Changes { after } => changes(*after, out),
        LedgerOp::Recall { sales } => {
            let mut command = Cmd::with_capacity(5 + 2 * sales.len(), 96 + 80 * sales.len());
            command.arg("EVALSHA").arg(&scripts::RECALL.hash).arg(2);
            command.arg(keys.sales(None).as_str()).arg(keys.removed(None).as_str());
            for (sale, opened) in sales {
                command.arg(sale.as_str()).arg(*opened);
            }
            command.write_packed_command(out);
        }
        LedgerOp::Identify { id } => {
            let mut command = redis::cmd("EVALSHA");
            command.arg(&scripts::IDENTIFY.hash).arg(1).arg(keys.ledger().as_str());
            command.arg(id.to_string()).arg(LAYOUT);
            command.write_packed_command(out);
        }
        LedgerOp::Layout => {
            redis::cmd("HGET").arg(keys.ledger().as_str()).arg("layout").write_packed_command(out);
        }
        LedgerOp::Beat { host, report, forgets } => {
            let patience = if *forgets { HOST_FORGOTTEN_MS.to_string() } else { String::new() };
            let told =
                report.as_deref().map(|report| serde_json::to_string(report).expect("it has no odd keys"));
            beat(keys, &host.to_string(), &told.unwrap_or_default(), &patience).write_packed_command(out);
        }
        LedgerOp::Hosts => beat(keys, "", "", "").write_packed_command(out),
    }
}

fn beat(keys: Keys, host: &str, told: &str, patience: &str) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&scripts::BEAT.hash).arg(1).arg(keys.hosts().as_str()).arg(host).arg(told).arg(patience);
    command
}

/// How many replies Redis gives to the commands of `call`.
pub fn replies_expected(call: &Call) -> usize {
    match call {
        Call::Sale { op: SaleOp::Snapshot, .. } => 2,
        Call::Ledger(LedgerOp::Changes { .. }) => 4,
        Call::Sale { op: SaleOp::Repair { repairs, .. }, .. } if repairs.contains(&Repair::Name) => 2,
        _ => 1,
    }
}

/// Appends the commands that load all scripts; returns how many replies they get.
pub fn load_scripts(out: &mut Vec<u8>) -> usize {
    let mut count = 0;
    for script in scripts::all() {
        count += 1;
        redis::cmd("SCRIPT").arg("LOAD").arg(script.text.as_str()).write_packed_command(out);
    }
    count
}

/// Says who it is; without a user it is Redis' `default`.
pub(super) fn auth(user: Option<&str>, password: &str) -> redis::Cmd {
    let mut auth = redis::cmd("AUTH");
    if let Some(user) = user {
        auth.arg(user);
    }
    auth.arg(password);
    auth
}

/// Appends what a new connection says first: who it is, which database, its name; returns how many replies it gets.
pub fn hello(
    user: Option<&str>,
    password: Option<&str>,
    database: u32,
    name: &str,
    out: &mut Vec<u8>,
) -> usize {
    let mut count = 1;
    if let Some(password) = password {
        auth(user, password).write_packed_command(out);
        count += 1;
    }
    if database != 0 {
        redis::cmd("SELECT").arg(database).write_packed_command(out);
        count += 1;
    }
    redis::cmd("CLIENT").arg("SETNAME").arg(name).write_packed_command(out);
    count
}

/// The time, then the sale's state as it is stored, in two commands and not in a script: every host asks this of every
/// sale every 200 ms, and a script would cost Redis five times as much. In this order, since a state may be of a later
/// moment than its clock says, and never of an earlier one.
fn snapshot(sale: &SaleName, out: &mut Vec<u8>) {
    out.extend_from_slice(TIME);
    let mut command = Cmd::with_capacity(2 + STATE_FIELDS.len(), 160 + sale.as_str().len());
    command.arg("HMGET").arg(keys::of_sale(sale, "stock").as_str());
    for field in STATE_FIELDS {
        command.arg(field);
    }
    command.write_packed_command(out);
}

/// The time and the latest number first: all up to it are among the announcements then, and perhaps some more. Without a
/// script, since every loop of every host asks this every 200 ms.
fn changes(after: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(TIME);
    redis::cmd("GET").arg(keys::FEED).write_packed_command(out);
    redis::cmd("HGET").arg(keys::LEDGER).arg("id").write_packed_command(out);
    let mut command = redis::cmd("ZRANGEBYSCORE");
    command.arg(keys::CHANGES);
    match after {
        Some(after) => command.arg(format!("({after}")),
        None => command.arg("+inf"),
    };
    command.arg("+inf").arg("WITHSCORES").arg("LIMIT").arg(0).arg(CHANGES_PER_CALL_MAX);
    command.write_packed_command(out);
}

/// The command of that name.
const TIME: &[u8] = b"*1\r\n$4\r\nTIME\r\n";

/// The fields of the stock hash in the order of a state's line, with [`CLOCK_FIELD`] in place of the time.
pub(super) const STATE_FIELDS: [&str; 20] = [
    "total",
    "held",
    "sold",
    "version",
    "sequence",
    "status",
    "hold",
    "per_buyer",
    "starts",
    "ends",
    "clock",
    "opened",
    "lineage",
    "frozen_until",
    "due",
    "lapsed",
    "announced",
    "by_operator",
    "buyer_required",
    "hold_max",
];

/// The place of `clock` among them. Those behind it are 0 if they are not stored.
pub(super) const CLOCK_FIELD: usize = 10;

const _: () = assert!(matches!(STATE_FIELDS[CLOCK_FIELD].as_bytes(), b"clock"));

/// The keys of a sale, and those that all sales share: what each script is given, in this order.
const PARTS: [&str; 7] = ["stock", "bookings", "holds", "buyers", "log", "lost", "due"];
const ANNOUNCED: [&str; 2] = [keys::CHANGES, keys::FEED];
const KEYS: usize = PARTS.len() + ANNOUNCED.len();

/// Keys of all sales that only some scripts are given.
#[derive(Clone, Copy)]
enum SharedKey {
    Sales,
    Removed,
}

/// `EVALSHA` with the keys of the sale, and room for `arguments` more of `bytes` together.
fn script(script: &Script, sale: Placed<'_>, arguments: usize, bytes: usize) -> Cmd {
    script_with(script, sale, &[], arguments, bytes)
}

/// Same, with keys of all sales before the last two.
fn script_with(
    script: &Script,
    (keys, sale): Placed<'_>,
    more: &[SharedKey],
    arguments: usize,
    bytes: usize,
) -> Cmd {
    let count = KEYS + more.len();
    let mut command =
        Cmd::with_capacity(3 + count + arguments, 192 + PARTS.len() * (sale.as_str().len() + 15) + bytes);
    command.arg("EVALSHA").arg(&script.hash).arg(count);
    for part in PARTS {
        command.arg(keys.of_sale(sale, part).as_str());
    }
    for key in more {
        let key = match key {
            SharedKey::Sales => keys.sales(Some(sale)),
            SharedKey::Removed => keys.removed(Some(sale)),
        };
        command.arg(key.as_str());
    }
    for name in ANNOUNCED {
        command.arg(keys.announced(name, sale).as_str());
    }
    command
}

/// The claims by columns, so that the script hands a column to Redis unchanged. In most batches all bookings are alike, and
/// the columns that would say so of each are left out: an argument costs Redis 60 ns.
///
/// Written straight to `out`, head included, since this is the one call that leaves by the thousand: a [`Cmd`] gathers its
/// arguments first.
fn reserve((keys, sale): Placed<'_>, seen: &Watermark, claims: &[Claim], out: &mut Vec<u8>) {
    let alike = alike(claims);
    let columns = if alike.is_some() { 2 } else { 5 };
    out.reserve(512 + claims.len() * 96);
    out.push(b'*');
    push_number(out, 3 + KEYS + 2 + columns * claims.len());
    push_bulk(out, b"EVALSHA");
    push_bulk(out, scripts::RESERVE.hash.as_bytes());
    push_bulk(out, itoa::Buffer::new().format(KEYS).as_bytes());
    for part in PARTS {
        push_bulk(out, keys::of_sale(sale, part).as_bytes());
    }
    for name in ANNOUNCED {
        match keys {
            Keys::One => push_bulk(out, name.as_bytes()),
            Keys::Sale | Keys::Shard(_) => push_bulk(out, keys.announced(name, sale).as_bytes()),
        }
    }
    push_bulk(out, seen_words(SWEPT_PER_CALL, seen).as_bytes());
    let mut number = itoa::Buffer::new();
    push_bulk(out, alike.map_or("", |quantity| number.format(quantity.get())).as_bytes());
    let stored: Vec<Stored<'_>> = claims.iter().map(|claim| Stored::of(&claim.id)).collect();
    for stored in &stored {
        push_bulk(out, stored.bytes());
    }
    for (claim, stored) in claims.iter().zip(&stored) {
        push_bulk(out, text_beside(stored, &claim.id).as_bytes());
    }
    if alike.is_none() {
        for claim in claims {
            push_bulk(out, number.format(claim.quantity.get()).as_bytes());
        }
        for claim in claims {
            push_bulk(out, claim.buyer.as_ref().map_or(&[], |buyer| buyer.as_str().as_bytes()));
        }
        for claim in claims {
            let bucket = claim.buyer.as_ref().map(bucket_of);
            push_bulk(out, bucket.as_ref().map_or(&[], |bucket| bucket.as_bytes()));
        }
    }
}

/// Appends the number and the end of its line.
fn push_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a bulk string.
fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'$');
    push_number(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// The quantity of all claims, if none has a buyer, all have the same quantity, and no booking occurs twice.
fn alike(claims: &[Claim]) -> Option<Quantity> {
    let quantity = claims.first()?.quantity;
    let mut ids = FxHashSet::with_capacity_and_hasher(claims.len(), FxBuildHasher);
    let mut each = claims.iter();
    let alike = each.all(|Claim { id, quantity: its, buyer }| {
        *its == quantity && buyer.is_none() && ids.insert(id.as_str())
    });
    alike.then_some(quantity)
}

fn restore(sale: Placed<'_>, seen: &Watermark, bookings: &[Booking]) -> Cmd {
    let mut command = script(&scripts::RESTORE, sale, 1 + 3 * bookings.len(), 64 + bookings.len() * 120);
    arg_seen(&mut command, 0, seen);
    for booking in bookings {
        let Booking { id, status, quantity, released, buyer, reassigned } = booking;
        arg_id(&mut command, id);
        let mut record = ArrayString::<{ IDENTIFIER_BYTES_MAX + 64 }>::new();
        let letter = match status {
            BookingStatus::Held { .. } => 'h',
            BookingStatus::Confirmed => 'c',
            BookingStatus::Cancelled | BookingStatus::Expired => 'x',
        };
        // A `String` would be one more allocation a booking; the record fits whatever the numbers are.
        let mut written = write!(record, "{letter}{}", quantity.get());
        if *released > 0 {
            written = written.and_then(|()| write!(record, "/{}", booking.made_with()));
        }
        if let BookingStatus::Held { expires_at } = status {
            written = written.and_then(|()| write!(record, "@{}", expires_at.0));
        }
        if let Some(buyer) = buyer {
            written = written.and_then(|()| write!(record, ":{buyer}"));
        }
        if *reassigned > 0 {
            written = written.and_then(|()| write!(record, "!{reassigned}"));
        }
        written.expect("four numbers and a buyer fit");
        command.arg(record.as_str());
    }
    command
}

/// The buyer's bucket, as `lua/sale.lua` computes it too: computed there, it would cost the hot path 0.4 us a claim.
pub(super) fn bucket_of(buyer: &BuyerId) -> ArrayString<8> {
    // The modulus is a prime below 2^18: at a million buyers a bucket has four.
    let hash = buyer.as_str().bytes().fold(0_u32, |hash, byte| (hash * 6_007 + u32::from(byte)) % 262_139);
    let mut bucket = ArrayString::new();
    write!(bucket, "{hash:x}").expect("five digits fit");
    bucket
}

fn name(sale: &SaleName) -> Cmd {
    let mut command = redis::cmd("SADD");
    command.arg(Keys::One.sales(None).as_str()).arg(sale.as_str());
    command
}

fn repair(sale: Placed<'_>, version: u64, sequence: u64, repairs: &[Repair]) -> Cmd {
    let mut command = script(&scripts::REPAIR, sale, 2 + 3 * repairs.len(), repairs.len() * 80);
    command.arg(version).arg(sequence);
    for repair in repairs {
        match repair {
            Repair::Counts { held, sold } => command.arg("counts").arg(held).arg(sold),
            Repair::Clock { to } => command.arg("clock").arg(to.0).arg(""),
            Repair::Buyer { buyer, tickets } => {
                command.arg("buyer").arg(buyer.as_str()).arg(buyer_entry(tickets))
            }
            Repair::Span { span: Span { kind, index }, tickets } => {
                // Lua counts from 1.
                command.arg("span").arg(format!("{}:{index}", kind + 1)).arg(tickets)
            }
            Repair::Hold { expires_at, ids } => {
                let mut group = Vec::with_capacity(ids.len() * 24);
                for id in ids {
                    group.extend_from_slice(Stored::of(id).bytes());
                    group.push(b' ');
                }
                command.arg("hold").arg(expires_at.0).arg(group)
            }
            Repair::Remove { part: Part::Holds, key } => command.arg("ungroup").arg(key.as_slice()).arg(""),
            Repair::Remove { part: Part::Due, key } => command.arg("span").arg(key.as_slice()).arg(0),
            Repair::Remove { part: Part::Buyers, key } => command.arg("unbucket").arg(key.as_slice()).arg(""),
            // Named beside the script; and nothing else is ever removed.
            Repair::Name | Repair::Remove { .. } => &mut command,
        };
    }
    command
}

/// What follows a buyer's name in a bucket; empty for nothing.
fn buyer_entry(tickets: &BuyerTickets) -> String {
    let mut entry = String::new();
    if *tickets != BuyerTickets::default() {
        entry.push_str(itoa::Buffer::new().format(tickets.confirmed));
        for (expires_at, quantity) in &tickets.holds {
            held::push(&mut entry, *expires_at, *quantity);
        }
    }
    entry
}

fn open(sale: Placed<'_>, terms: &SaleTerms, by: Opener) -> Cmd {
    let mut command = script_with(&scripts::OPEN, sale, &[SharedKey::Sales], 9, 128);
    command.arg(terms.total);
    arg_term(&mut command, terms.hold_ms);
    arg_term(&mut command, terms.per_buyer.map(u64::from));
    arg_term(&mut command, terms.starts_at.map(|at| at.0));
    arg_term(&mut command, terms.ends_at.map(|at| at.0));
    command.arg(flag(terms.buyer_required)).arg(flag(by == Opener::Operator)).arg(sale.1.as_str());
    arg_term(&mut command, terms.hold_max_ms);
    command
}

fn alter(sale: Placed<'_>, change: &SaleChange) -> Cmd {
    let mut command = script(&scripts::ALTER, sale, 17, 192);
    command.arg(SWEPT_PER_CALL);
    if let Some(version) = change.if_version {
        command.arg("only").arg(version);
    }
    if let Some(total) = change.total {
        command.arg("total").arg(total);
    }
    if let Some(status) = change.status {
        command.arg("status").arg(status.word());
    }
    if let Some(buyer_required) = change.buyer_required {
        command.arg("buyer_required").arg(flag(buyer_required));
    }
    let terms = [
        ("hold", change.hold_ms),
        ("hold_max", change.hold_max_ms),
        ("per_buyer", change.per_buyer.map(|tickets| tickets.map(u64::from))),
        ("starts", change.starts_at.map(|at| at.map(|at| at.0))),
        ("ends", change.ends_at.map(|at| at.map(|at| at.0))),
    ];
    for (name, term) in terms {
        if let Some(term) = term {
            command.arg(name);
            arg_term(&mut command, term);
        }
    }
    command
}

fn flag(is_set: bool) -> &'static str {
    if is_set { "1" } else { "0" }
}

fn arg_term(command: &mut Cmd, term: Option<u64>) {
    match term {
        Some(number) => command.arg(number),
        None => command.arg(""),
    };
}

fn arg_seen(command: &mut Cmd, expiries: usize, seen: &Watermark) {
    command.arg(seen_words(expiries, seen).as_str());
}

/// How many holds to expire, and what the caller has seen.
fn seen_words(expiries: usize, seen: &Watermark) -> ArrayString<96> {
    let mut words = ArrayString::new();
    let Watermark { opened, lineage, sequence } = seen;
    let written = match seen.is_something() {
        true => write!(words, "{expiries} {opened} {lineage} {sequence}"),
        false => write!(words, "{expiries}"),
    };
    written.expect("four numbers fit");
    words
}

/// The booking as it is stored, and its id if that differs.
fn arg_id(command: &mut Cmd, id: &BookingId) {
    let stored = Stored::of(id);
    command.arg(stored.bytes()).arg(text_beside(&stored, id));
}

/// The id, if it is not what is stored.
fn text_beside<'a>(stored: &Stored<'_>, id: &'a BookingId) -> &'a str {
    match stored {
        Stored::Uuid(_) => id.as_str(),
        Stored::Text(_) => "",
    }
}
