//! Calls as Redis commands and replies as answers. Pure: bytes in, bytes out, for any kind of connection.
//!
//! A caller appends calls with [`pack`], sends the bytes, gathers what comes back until [`replies_length`] finds the
//! replies of the oldest call whole, and gives those bytes to [`read`]. Where they are [NOSCRIPT](is_noscript), it
//! sends [`load_scripts`] and then the same calls again: every call may be sent twice, since bookings have ids.

use arrayvec::ArrayString;
use redis::{Cmd, Value};
use uuid::Uuid;

use super::reply::{Record, number, read_log_entry, read_state};
use super::scripts::{self, Script};
use crate::booking::{
    Answer, Booking, BookingId, BookingStatus, Call, CallError, Cancellation, Claim, Confirmation,
    Reservation, SaleChange, SaleName, SaleTerms,
};
use crate::clock::WallTime;
use crate::limits::{EXPIRIES_PER_CALL_MAX, IDENTIFIER_BYTES_MAX, LEDGER_REPLY_BYTES_MAX, PAGE_ENTRIES};

pub use super::frame::{FrameError, frame_length};

/// Names all sales; not under any sale's hash tag.
const SALES_KEY: &str = "bx:sales";

/// Bytes of an error's text that are passed on.
const ERROR_BYTES_MAX: usize = 300;

// ---- Packing ----------------------------------------------------------------------------------------------------

/// Appends the commands of `call`.
pub fn pack(call: &Call, out: &mut Vec<u8>) {
    match call {
        Call::Open { sale, terms } => {
            // Before the sale and not after: a sale must never exist without being named. A name without a sale is
            // harmless, and the next open of that name mends it.
            let mut add = redis::cmd("SADD");
            add.arg(SALES_KEY).arg(sale.as_str());
            add.write_packed_command(out);
            open(sale, terms).write_packed_command(out);
        }
        Call::Alter { sale, change } => alter(sale, change).write_packed_command(out),
        Call::Snapshot { sale } => script(&scripts::SNAPSHOT, sale, 0, 0).write_packed_command(out),
        Call::Reserve { sale, claims } => reserve(sale, claims).write_packed_command(out),
        Call::LookUp { sale, ids } => {
            let mut command = script(&scripts::LOOKUP, sale, ids.len(), ids.len() * 24);
            for id in ids {
                command.arg(Stored::of(id).bytes());
            }
            command.write_packed_command(out);
        }
        Call::Confirm { sale, ids } => {
            let mut command = script(&scripts::CONFIRM, sale, 1 + 2 * ids.len(), ids.len() * 60);
            command.arg(EXPIRIES_PER_CALL_MAX);
            for id in ids {
                arg_id(&mut command, id);
            }
            command.write_packed_command(out);
        }
        Call::Cancel { sale, ids } => {
            let mut command = script(&scripts::CANCEL, sale, 1 + 3 * ids.len(), ids.len() * 60);
            command.arg(EXPIRIES_PER_CALL_MAX);
            for (id, tombstone) in ids {
                arg_id(&mut command, id);
                command.arg(if *tombstone { "1" } else { "0" });
            }
            command.write_packed_command(out);
        }
        Call::Expire { sale } => {
            script(&scripts::EXPIRE, sale, 1, 8).arg(EXPIRIES_PER_CALL_MAX).write_packed_command(out);
        }
        Call::Sales => redis::cmd("SMEMBERS").arg(SALES_KEY).write_packed_command(out),
        Call::Page { sale, cursor } => {
            let cursor = if cursor.is_empty() { "0" } else { cursor };
            script(&scripts::PAGE, sale, 2, 32).arg(cursor).arg(PAGE_ENTRIES).write_packed_command(out);
        }
        Call::Log { sale, after } => {
            script(&scripts::LOG, sale, 2, 32).arg(*after).arg(PAGE_ENTRIES).write_packed_command(out);
        }
    }
}

/// How many replies Redis gives to the commands of `call`.
pub fn replies_expected(call: &Call) -> usize {
    match call {
        Call::Open { .. } => 2,
        _ => 1,
    }
}

/// Appends the commands that load all scripts; returns how many replies they get.
pub fn load_scripts(out: &mut Vec<u8>) -> usize {
    let scripts = scripts::all();
    let count = scripts.len();
    for script in scripts {
        redis::cmd("SCRIPT").arg("LOAD").arg(script.text).write_packed_command(out);
    }
    count
}

/// Appends what a new connection says first: who it is, which database, its name; returns how many replies it gets.
pub fn hello(user: Option<&str>, password: Option<&str>, database: u32, out: &mut Vec<u8>) -> usize {
    let mut count = 1;
    if let Some(password) = password {
        let mut auth = redis::cmd("AUTH");
        if let Some(user) = user {
            auth.arg(user);
        }
        auth.arg(password).write_packed_command(out);
        count += 1;
    }
    if database != 0 {
        redis::cmd("SELECT").arg(database).write_packed_command(out);
        count += 1;
    }
    redis::cmd("CLIENT").arg("SETNAME").arg("boxoffice").write_packed_command(out);
    count
}

/// `EVALSHA` with the keys of the sale, and room for `arguments` more of `bytes` together.
fn script(script: &Script, sale: &SaleName, arguments: usize, bytes: usize) -> Cmd {
    let mut command = Cmd::with_capacity(8 + arguments, 160 + 5 * (sale.as_str().len() + 15) + bytes);
    command.arg("EVALSHA").arg(&script.hash).arg(5);
    for key in ["stock", "bookings", "holds", "buyers", "log"] {
        let mut name = ArrayString::<{ IDENTIFIER_BYTES_MAX + 16 }>::new();
        for part in ["bx:{", sale.as_str(), "}:", key] {
            name.push_str(part);
        }
        command.arg(name.as_str());
    }
    command
}

fn reserve(sale: &SaleName, claims: &[Claim]) -> Cmd {
    let mut command = script(&scripts::RESERVE, sale, 1 + 4 * claims.len(), claims.len() * 80);
    command.arg(EXPIRIES_PER_CALL_MAX);
    for claim in claims {
        arg_id(&mut command, &claim.id);
        command.arg(claim.quantity.get()).arg(claim.buyer.as_ref().map_or("", |buyer| buyer.as_str()));
    }
    command
}

fn open(sale: &SaleName, terms: &SaleTerms) -> Cmd {
    let mut command = script(&scripts::OPEN, sale, 5, 64);
    command.arg(terms.total);
    arg_term(&mut command, terms.hold_ms);
    arg_term(&mut command, terms.per_buyer.map(u64::from));
    arg_term(&mut command, terms.starts_at.map(|at| at.0));
    arg_term(&mut command, terms.ends_at.map(|at| at.0));
    command
}

fn alter(sale: &SaleName, change: &SaleChange) -> Cmd {
    let mut command = script(&scripts::ALTER, sale, 13, 160);
    command.arg(EXPIRIES_PER_CALL_MAX);
    if let Some(total) = change.total {
        command.arg("total").arg(total);
    }
    if let Some(status) = change.status {
        command.arg("status").arg(status.word());
    }
    let terms = [
        ("hold", change.hold_ms),
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

fn arg_term(command: &mut Cmd, term: Option<u64>) {
    match term {
        Some(number) => command.arg(number),
        None => command.arg(""),
    };
}

/// The booking as it is stored, and its id where that differs.
fn arg_id(command: &mut Cmd, id: &BookingId) {
    let stored = Stored::of(id);
    command.arg(stored.bytes()).arg(if matches!(stored, Stored::Uuid(_)) { id.as_str() } else { "" });
}

/// How a booking's id is stored: a UUID as a zero byte, which no identifier has, and its 16 bytes; any other as it is.
enum Stored<'a> {
    Uuid([u8; 17]),
    Text(&'a str),
}

impl<'a> Stored<'a> {
    fn of(id: &'a BookingId) -> Stored<'a> {
        let text = id.as_str();
        // Only the one form that comes back the same: with hyphens, in lower case.
        if text.len() == 36
            && !text.bytes().any(|byte| byte.is_ascii_uppercase())
            && let Ok(uuid) = Uuid::try_parse(text)
        {
            let mut bytes = [0; 17];
            bytes[1..].copy_from_slice(uuid.as_bytes());
            return Stored::Uuid(bytes);
        }
        Stored::Text(text)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Stored::Uuid(bytes) => bytes,
            Stored::Text(text) => text.as_bytes(),
        }
    }
}

// ---- Reading ----------------------------------------------------------------------------------------------------

/// Bytes of the replies of `call` at the start of `buffer`; `None` where they are not all there yet. An error says
/// that the connection is of no more use.
pub fn replies_length(call: &Call, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    frames_length(replies_expected(call), buffer)
}

/// Bytes of the first `count` replies in `buffer`; `None` where they are not all there yet.
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

/// Whether Redis did not know the script, so that nothing was done: [load them](load_scripts) and send again.
pub fn is_noscript(replies: &[u8]) -> bool {
    error_lines(replies).any(|line| line.starts_with(b"NOSCRIPT"))
}

/// The first error among replies that should have none, as those to [`hello`] and [`load_scripts`].
pub fn first_error(replies: &[u8]) -> Option<String> {
    error_lines(replies).next().map(bounded)
}

/// The answer that the replies of `call`, [whole](replies_length) and nothing else, give.
pub fn read(call: &Call, replies: &[u8]) -> Result<Answer, CallError> {
    if let Some(line) = error_lines(replies).next() {
        return Err(call_error(line));
    }
    let mut last: &[u8] = &[];
    let mut rest = replies;
    for _ in 0..replies_expected(call) {
        let length = frame_length(rest).map_err(|error| CallError::Garbled(error.to_string()))?;
        let Some(length) = length else { return Err(CallError::Garbled("it ends too early".into())) };
        (last, rest) = rest.split_at(length);
    }
    if !rest.is_empty() {
        return Err(CallError::Garbled("more came than was asked for".into()));
    }
    match redis::parse_redis_value(last) {
        Ok(value) => read_value(call, value),
        Err(error) => Err(CallError::Garbled(error.to_string())),
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

/// Sorts an error by whether Redis carried the call out.
fn call_error(line: &[u8]) -> CallError {
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
    let text = bounded(line);
    let first = text.split(' ').next().unwrap_or_default();
    let of_script = text.starts_with("ERR Error running script");
    let hidden =
        || text.split(' ').filter_map(|word| word.strip_prefix('-')).any(|word| NOT_DONE.contains(&word));
    if NOT_DONE.contains(&first) || of_script && hidden() {
        CallError::Refused(text)
    } else {
        CallError::Garbled(text)
    }
}

fn bounded(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(ERROR_BYTES_MAX)]).into_owned()
}

fn read_value(call: &Call, value: Value) -> Result<Answer, CallError> {
    let answer = match (call, value) {
        (Call::Sales, Value::Array(names)) => read_sales(names),
        (_, Value::BulkString(bytes)) if bytes == b"missing" => Some(Answer::NoSuchSale),
        (Call::Page { .. }, Value::BulkString(bytes)) => read_page(&bytes),
        (_, Value::BulkString(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => read_text(call, &text),
            Err(_) => None,
        },
        _ => None,
    };
    answer.ok_or_else(|| {
        CallError::Garbled("a script's reply is not of the form that this version knows".into())
    })
}

fn read_sales(names: Vec<Value>) -> Option<Answer> {
    let name = |value| match value {
        Value::BulkString(bytes) => SaleName::parse(bytes).ok(),
        _ => None,
    };
    names.into_iter().map(name).collect::<Option<Vec<_>>>().map(Answer::Sales)
}

fn read_text(call: &Call, text: &str) -> Option<Answer> {
    let (first, rest) = match text.split_once('\n') {
        Some((first, rest)) => (first, Some(rest)),
        None => (text, None),
    };
    let state = read_state(first)?;
    let lines = || rest.into_iter().flat_map(|rest| rest.split('\n'));
    match call {
        Call::Open { .. } => match rest? {
            "created" => Some(Answer::Sale { state, created: true }),
            "exists" => Some(Answer::Sale { state, created: false }),
            _ => None,
        },
        Call::Alter { .. } => match rest? {
            "done" => Some(Answer::Sale { state, created: false }),
            "refused" => Some(Answer::ChangeRefused { state }),
            _ => None,
        },
        Call::Snapshot { .. } | Call::Expire { .. } => {
            rest.is_none().then_some(Answer::Sale { state, created: false })
        }
        Call::Reserve { claims, .. } => {
            let reservations = each(claims, lines(), read_reservation)?;
            Some(Answer::Reserved { state, reservations })
        }
        Call::LookUp { ids, .. } => {
            Some(Answer::Found { state, bookings: each(ids, lines(), read_booking)? })
        }
        Call::Confirm { ids, .. } => {
            let confirmations = each(ids, lines(), |id, line| {
                Some(match read_booking(id, line)? {
                    None => Confirmation::NotFound,
                    Some(booking) => match booking.status {
                        BookingStatus::Confirmed => Confirmation::Confirmed(booking),
                        BookingStatus::Expired => Confirmation::HoldExpired(booking),
                        BookingStatus::Cancelled => Confirmation::Cancelled(booking),
                        BookingStatus::Held { .. } => return None,
                    },
                })
            })?;
            Some(Answer::Confirmed { state, confirmations })
        }
        Call::Cancel { ids, .. } => {
            let cancellations = each(ids, lines(), |(id, _), line| {
                Some(match read_booking(id, line)? {
                    None => Cancellation::NotFound,
                    Some(booking) if booking.status == BookingStatus::Cancelled => {
                        Cancellation::Cancelled(booking)
                    }
                    Some(_) => return None,
                })
            })?;
            Some(Answer::Cancelled { state, cancellations })
        }
        Call::Log { .. } => lines().map(read_log_entry).collect::<Option<Vec<_>>>().map(Answer::Log),
        Call::Sales | Call::Page { .. } => None,
    }
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
            buyer: claim.buyer,
        }),
        (b'r', "") => Reservation::IdReused,
        (b's', "") => Reservation::SoldOut,
        (b'b', "") => Reservation::BuyerLimit,
        (b'n', "") => Reservation::NotOnSale,
        _ => return None,
    })
}

fn read_booking(id: &BookingId, line: &str) -> Option<Option<Booking>> {
    match line {
        "-" => Some(None),
        record => Some(Some(Record::read(record)?.booking(*id))),
    }
}

fn read_page(bytes: &[u8]) -> Option<Answer> {
    let (state, rest) = split_once(bytes, b'\n')?;
    read_state(std::str::from_utf8(state).ok()?)?;
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
    Some(Answer::Page { bookings, next: (cursor != "0").then(|| cursor.to_owned()) })
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let offset = memchr::memchr(at, bytes)?;
    Some((&bytes[..offset], &bytes[offset + 1..]))
}

// A page is the longest reply: 1,000 bookings of an id, a record with a buyer, and separators.
const _: () = assert!(PAGE_ENTRIES * (3 * IDENTIFIER_BYTES_MAX + 64) < LEDGER_REPLY_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::Quantity;
    use proptest::prelude::*;

    fn sale() -> SaleName {
        SaleName::parse("ticket").unwrap()
    }

    fn id(text: &str) -> BookingId {
        BookingId::parse(text).unwrap()
    }

    fn reserve_one() -> Call {
        let claim = Claim { id: id("b-1"), quantity: Quantity::ONE, buyer: None };
        Call::Reserve { sale: sale(), claims: vec![claim] }
    }

    fn bulk(text: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
    }

    const STATE: &str = "10,0,1,1,1,open,,,,,9";

    #[test]
    fn uuids_are_stored_in_17_bytes_and_nothing_else_is() {
        let stored = |text: &str| Stored::of(&id(text)).bytes().to_vec();
        let uuid = "0198c0de-0000-7000-8000-00000000000a";
        assert_eq!(stored(uuid).len(), 17);
        assert_eq!(stored(uuid)[..3], [0, 0x01, 0x98]);
        for text in
            [&uuid.to_uppercase(), &uuid.replace('-', ""), "0198c0de00000-700-8000-00000000000ab", "b-1"]
        {
            assert_eq!(stored(text), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn a_reserve_is_one_command_under_the_hash_tag_of_its_sale() {
        let mut out = Vec::new();
        pack(&reserve_one(), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("*13\r\n$7\r\nEVALSHA\r\n$40\r\n"), "{text}");
        assert!(text.contains("\r\nbx:{ticket}:stock\r\n"), "{text}");
        assert!(text.ends_with("$3\r\nb-1\r\n$0\r\n\r\n$1\r\n1\r\n$0\r\n\r\n"), "{text}");
    }

    #[test]
    fn reads_a_grant() {
        let replies = bulk(format!("{STATE}\ng").as_bytes());
        let Ok(Answer::Reserved { state, reservations }) = read(&reserve_one(), &replies) else { panic!() };
        assert_eq!((state.sold, state.available()), (1, 9));
        assert_eq!(reservations, [Reservation::Granted { expires_at: None }]);
    }

    #[test]
    fn a_missing_sale_is_its_own_answer() {
        assert_eq!(read(&reserve_one(), &bulk(b"missing")), Ok(Answer::NoSuchSale));
    }

    #[test]
    fn only_errors_from_before_anything_happened_are_refusals() {
        for line in [
            "LOADING Redis is loading",
            "OOM command not allowed",
            "READONLY You can't",
            "MISCONF Redis is",
            "BUSY Redis is busy",
            "MASTERDOWN Link",
            "CLUSTERDOWN The cluster",
            "NOREPLICAS Not enough",
            "NOAUTH Authentication",
            "NOSCRIPT No matching script",
            "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed",
        ] {
            let error = read(&reserve_one(), format!("-{line}\r\n").as_bytes()).unwrap_err();
            assert_eq!(error, CallError::Refused(line.to_owned()));
        }
        for line in ["ERR unknown", "WRONGTYPE Operation", "GARBLED the stock", "", "ERR the word -OOM alone"]
        {
            let error = read(&reserve_one(), format!("-{line}\r\n").as_bytes()).unwrap_err();
            assert_eq!(error, CallError::Garbled(line.to_owned()));
        }
        assert!(is_noscript(b":1\r\n-NOSCRIPT No matching script\r\n"));
        assert!(!is_noscript(b"$12\r\n-NOSCRIPT No\r\n"));
    }

    #[test]
    fn what_is_not_of_the_form_is_garbled() {
        let call = reserve_one();
        let state_and = |rest: &str| bulk(format!("{STATE}{rest}").as_bytes());
        for replies in [
            state_and(""),
            state_and("\ng\ng"),
            state_and("\nq"),
            state_and("\n"),
            state_and("\ng-5"),
            state_and("\nkc"),
            state_and("\nkh1"),
            bulk(b"\xff\xfe"),
            bulk(b""),
            b"$-1\r\n".to_vec(),
            b":1\r\n".to_vec(),
            b"*0\r\n".to_vec(),
            b"".to_vec(),
            b"$5\r\nab".to_vec(),
            [state_and("\ng"), b":1\r\n".to_vec()].concat(),
        ] {
            let answer = read(&call, &replies);
            assert!(
                matches!(answer, Err(CallError::Garbled(_))),
                "{:?} gave {answer:?}",
                replies.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn reads_a_page_with_a_uuid_that_has_line_ends_and_spaces_in_it() {
        let uuid = "0a200a20-0a20-0a20-0a20-0a200a200a20";
        let stored = Stored::of(&id(uuid)).bytes().to_vec();
        let page = [STATE.as_bytes(), b"\n17\n", &stored, b" c1\nb-1 x2:u-81"].concat();
        let call = Call::Page { sale: sale(), cursor: String::new() };
        let Ok(Answer::Page { bookings, next }) = read(&call, &bulk(&page)) else { panic!() };
        assert_eq!(next.as_deref(), Some("17"));
        assert_eq!(bookings.iter().map(|booking| booking.id.as_str()).collect::<Vec<_>>(), [uuid, "b-1"]);
        assert_eq!(bookings[1].quantity.get(), 2);
    }

    proptest! {
        #[test]
        fn never_panics_on_what_redis_sends(
            bytes in proptest::collection::vec(any::<u8>(), 0..48),
            text in "[0-9,a-z\n@: -]{0,48}",
            which in 0usize..6,
        ) {
            let (sale, id) = (sale(), id("b-1"));
            let call = match which {
                0 => reserve_one(),
                1 => Call::LookUp { sale, ids: vec![id] },
                2 => Call::Page { sale, cursor: String::new() },
                3 => Call::Log { sale, after: 0 },
                4 => Call::Sales,
                _ => Call::Cancel { sale, ids: vec![(id, true)] },
            };
            let _ = read(&call, &bytes);
            let _ = read(&call, &bulk(&bytes));
            let _ = read(&call, &bulk(format!("{STATE}\n{text}").as_bytes()));
            let _ = read(&call, &bulk(&[STATE.as_bytes(), b"\n0\n", &bytes].concat()));
        }
    }
}
