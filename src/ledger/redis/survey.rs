//! The reply of `lua/survey.lua` as rows. What boxoffice never writes is a row too, which says what it is.

use arrayvec::ArrayString;
use uuid::Uuid;

use super::bulk::split_once;
use super::pack::bucket_of;
use super::reply::{Record, number, read_amount, read_log_entry, read_owner, read_state, read_terms};
use super::stored::Stored;
use crate::booking::{BookingId, BookingStatus, BuyerId};
use crate::clock::WallTime;
use crate::ledger::held;
use crate::protocol::{
    Answer, BuyerTickets, LostCause, Part, Row, SPANS_MS, SaleResult, Span, StoredBooking,
};

/// Bytes of something unreadable that are shown.
const SHOWN_BYTES_MAX: usize = 80;

/// `None` if the reply does not have the script's form. Whatever is stored gives rows.
pub(super) fn read_survey(reply: &[u8]) -> Option<Answer> {
    let (state, rest) = split_once(reply, b'\n')?;
    let (page, mut rest) = split_once(rest, b'\n')?;
    let mut rows = Vec::new();
    let state = read_state(&without_odd_counts(std::str::from_utf8(state).ok()?, &mut rows))?;
    let mut fields = std::str::from_utf8(page).ok()?.split(',');
    let mut next = || fields.next();
    let cursor = next()?.to_owned();
    let done = match next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let (clock, time) = (WallTime(number(next()?)?), WallTime(number(next()?)?));
    fields.next().is_none().then_some(())?;
    let mut strings = Vec::new();
    while !rest.is_empty() {
        let letter = rest[0];
        let (count, after) = split_once(&rest[1..], b',')?;
        let count: usize = std::str::from_utf8(count).ok()?.parse().ok()?;
        rest = after;
        strings.clear();
        for _ in 0..count {
            let (length, after) = split_once(rest, b':')?;
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            let (string, after) = after.split_at_checked(length)?;
            strings.push(string);
            rest = after;
        }
        rows.push(row(letter, &strings)?);
    }
    Some(Answer::Sale { state, result: SaleResult::Surveyed { clock, time, rows, next: cursor, done } })
}

/// The state with 0 for each invalid count, and a row for each of these.
fn without_odd_counts(state: &str, rows: &mut Vec<Row>) -> String {
    let mut fields: Vec<&str> = state.split(',').collect();
    for (index, name) in [(1, "held"), (2, "sold")] {
        if let Some(field) = fields.get_mut(index)
            && number(field).is_none()
        {
            let text = format!("{name} is {}", shown(field.as_bytes()));
            rows.push(Row::Unreadable { part: Part::Stock, key: name.into(), text });
            *field = "0";
        }
    }
    fields.join(",")
}

/// `None` if the script never writes such a row.
fn row(letter: u8, strings: &[&[u8]]) -> Option<Row> {
    let unreadable = |part, key: &[u8], text: String| Row::Unreadable { part, key: key.to_vec(), text };
    Some(match (letter, strings) {
        (b'b', [stored, record]) => match (booking_id(stored), read_record(record)) {
            (Some(id), Some(record)) => Row::Booking { id, record },
            (id, _) => {
                let text = match id {
                    Some(id) => format!("{id} is {:?}", shown(record)),
                    None => {
                        format!(
                            "{:?} is not a booking's id; its record is {:?}",
                            shown(stored),
                            shown(record)
                        )
                    }
                };
                unreadable(Part::Bookings, stored, text)
            }
        },
        (b'n', [stored]) => match booking_id(stored) {
            Some(id) => Row::NoBooking { id },
            None => unreadable(Part::Log, stored, format!("{:?} is not a booking's id", shown(stored))),
        },
        (b'g', [group, deadline]) => {
            match (group_ids(group), std::str::from_utf8(deadline).ok().and_then(number)) {
                (Some(ids), Some(expires_at)) => Row::Group { expires_at: WallTime(expires_at), ids },
                _ => unreadable(Part::Holds, group, format!("{:?} at {:?}", shown(group), shown(deadline))),
            }
        }
        (b'u', [bucket, buyers]) => match bucket_buyers(bucket, buyers) {
            Some(buyers) => Row::Buyers(buyers),
            None => {
                unreadable(Part::Buyers, bucket, format!("bucket {:?} is {:?}", shown(bucket), shown(buyers)))
            }
        },
        (b's', [field, tickets]) => match span(field, tickets) {
            Some((span, tickets)) => Row::Span { span, tickets },
            None => unreadable(Part::Due, field, format!("span {:?} is {:?}", shown(field), shown(tickets))),
        },
        (b'f', [field, value]) => match lost(field, value) {
            Some(row) => row,
            None => unreadable(Part::Lost, field, format!("{:?} is {:?}", shown(field), shown(value))),
        },
        (b'l', [id, fields @ ..]) => match change(id, fields) {
            Some(row) => row,
            None => {
                let fields: Vec<String> = fields.iter().map(|field| shown(field)).collect();
                unreadable(Part::Log, id, format!("entry {} is {fields:?}", shown(id)))
            }
        },
        _ => return None,
    })
}

fn shown(bytes: &[u8]) -> String {
    let text = bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string();
    if bytes.len() > SHOWN_BYTES_MAX { text + "..." } else { text }
}

/// Only in the form in which boxoffice stores it: in another one it is never found again.
fn booking_id(stored: &[u8]) -> Option<BookingId> {
    let id = match stored.split_first() {
        Some((0, uuid)) => {
            let uuid = Uuid::from_bytes(uuid.try_into().ok()?);
            BookingId::parse(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())).ok()?
        }
        _ => BookingId::parse(stored).ok()?,
    };
    (Stored::of(&id).bytes() == stored).then_some(id)
}

/// Reads `H2@1763827200123:u-81`, and `t`.
fn read_record(record: &[u8]) -> Option<StoredBooking> {
    let text = std::str::from_utf8(record).ok()?;
    if text == "t" {
        let tombstone = StoredBooking {
            status: None,
            quantity: 0,
            released: 0,
            buyer: None,
            reassigned: 0,
            counted: false,
            sequence: None,
        };
        return Some(tombstone);
    }
    let rest = text.get(1..)?;
    let (terms, buyer, reassigned) = read_owner(rest)?;
    let (amount, deadline) = read_terms(terms)?;
    let deadline = deadline.map(WallTime);
    let (status, counted) = match (text.as_bytes()[0], deadline) {
        (b'h', Some(expires_at)) => (BookingStatus::Held { expires_at }, false),
        (b'H', Some(expires_at)) => (BookingStatus::Held { expires_at }, true),
        (b'c', None) => (BookingStatus::Confirmed, false),
        (b'C', None) => (BookingStatus::Confirmed, true),
        (b'x', None) => (BookingStatus::Cancelled, false),
        (b'e', None) => (BookingStatus::Expired, false),
        _ => return None,
    };
    // One that counts, but for no buyer, is not a record of ours.
    (!counted || buyer.is_some()).then_some(())?;
    let (quantity, released) = read_amount(amount)?;
    Some(StoredBooking {
        status: Some(status),
        quantity: quantity.get(),
        released,
        buyer,
        reassigned,
        counted,
        sequence: None,
    })
}

/// Reads ids, each followed by a space.
fn group_ids(mut group: &[u8]) -> Option<Vec<BookingId>> {
    let mut ids = Vec::new();
    while !group.is_empty() {
        let length = if group[0] == 0 { 17 } else { memchr::memchr(b' ', group)? };
        let (stored, rest) = group.split_at_checked(length)?;
        ids.push(booking_id(stored)?);
        group = rest.strip_prefix(b" ")?;
    }
    (!ids.is_empty()).then_some(ids)
}

/// Reads ` u-81=2 u-82=1`: each buyer once, and in the bucket where it is looked for.
fn bucket_buyers(bucket: &[u8], text: &[u8]) -> Option<Vec<(BuyerId, BuyerTickets)>> {
    let text = std::str::from_utf8(text).ok()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    let mut buyers: Vec<(BuyerId, BuyerTickets)> = Vec::new();
    for word in text.strip_prefix(' ')?.split(' ') {
        let (buyer, entry) = word.split_once('=')?;
        let buyer = BuyerId::parse(buyer).ok()?;
        let again = buyers.iter().any(|(known, _)| *known == buyer);
        let digits = entry.bytes().take_while(u8::is_ascii_digit).count();
        if again || digits == 0 || bucket_of(&buyer).as_bytes() != bucket {
            return None;
        }
        let (confirmed, holds) = entry.split_at(digits);
        buyers.push((buyer, BuyerTickets { confirmed: number(confirmed)?, holds: held::read(holds)? }));
    }
    Some(buyers)
}

/// Reads `2:27559800002` and a count.
fn span(field: &[u8], tickets: &[u8]) -> Option<(Span, u64)> {
    let (kind, index) = std::str::from_utf8(field).ok()?.split_once(':')?;
    let kind = usize::try_from(number(kind)?.checked_sub(1)?).ok().filter(|kind| *kind < SPANS_MS.len())?;
    Some((Span { kind, index: number(index)? }, number(std::str::from_utf8(tickets).ok()?)?))
}

/// Reads a field of what was lost: `@<ms>` and two sequences, or a booking and why it is lost.
fn lost(field: &[u8], value: &[u8]) -> Option<Row> {
    let text = std::str::from_utf8(value).ok()?;
    let (first, second) = text.split_once(' ')?;
    if let Some(ms) = field.strip_prefix(b"@") {
        let at = WallTime(number(std::str::from_utf8(ms).ok()?)?);
        return Some(Row::Forgot { at, seen: number(first)?, left: number(second)? });
    }
    let booking = Record::read(second)?.booking(booking_id(field)?);
    Some(Row::Lost { booking, cause: LostCause::from_word(first)? })
}

fn change(id: &[u8], fields: &[&[u8]]) -> Option<Row> {
    let (ms, sequence) = std::str::from_utf8(id).ok()?.split_once('-')?;
    let mut texts = [""; 10];
    if fields.len() > texts.len() {
        return None;
    }
    for (text, field) in texts.iter_mut().zip(fields) {
        *text = std::str::from_utf8(field).ok()?;
    }
    let (booking, status, quantity, buyer, expires_at) = match (fields.len(), texts) {
        (8, ["booking", booking, "status", status, "quantity", quantity, "buyer", buyer, ..]) => {
            (booking, status, quantity, buyer, "")
        }
        (
            10,
            [
                "booking",
                booking,
                "status",
                status,
                "quantity",
                quantity,
                "buyer",
                buyer,
                "expires_at",
                expires_at,
            ],
        ) => (booking, status, quantity, buyer, expires_at),
        _ => return None,
    };
    // In the form of the log's own script.
    let mut line = ArrayString::<512>::new();
    for (index, text) in [sequence, ms, status, quantity, buyer, expires_at, booking].into_iter().enumerate()
    {
        if index > 0 {
            line.try_push(',').ok()?;
        }
        line.try_push_str(text).ok()?;
    }
    (status != "held" || !expires_at.is_empty()).then_some(())?;
    read_log_entry(&line).map(Row::Change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATE: &str = "10,0,1,1,1,open,,,,,9,5,5,0,0,0,0,0,0";

    fn rows(of: &[(u8, &[&[u8]])]) -> Vec<Row> {
        let mut reply = format!("{STATE}\n17,0,8,9\n").into_bytes();
        for (letter, strings) in of {
            reply.extend_from_slice(format!("{}{},", char::from(*letter), strings.len()).as_bytes());
            for string in *strings {
                reply.extend_from_slice(format!("{}:", string.len()).as_bytes());
                reply.extend_from_slice(string);
            }
        }
        let Some(Answer::Sale { result: SaleResult::Surveyed { rows, next, done: false, .. }, .. }) =
            read_survey(&reply)
        else {
            panic!()
        };
        assert_eq!(next, "17");
        rows
    }

    fn id(text: &str) -> BookingId {
        BookingId::parse(text).unwrap()
    }

    #[test]
    fn reads_what_is_stored() {
        let uuid = Stored::of(&id("0a200a20-0a20-0a20-0a20-0a200a200a20")).bytes().to_vec();
        let group = [&uuid[..], b" b-1 "].concat();
        let bucket = bucket_of(&BuyerId::parse("u-81").unwrap());
        let rows = rows(&[
            (b'b', &[&uuid, b"H2@7:u-81"]),
            (b'b', &[b"b-1", b"t"]),
            (b'n', &[b"b-2"]),
            (b'g', &[&group, b"7"]),
            (b'u', &[bucket.as_bytes(), b" u-81=2???????3"]),
            (b'u', &[bucket.as_bytes(), b""]),
            (b'f', &[b"@7", b"12 9"]),
            (b'f', &[&uuid, b"sold-out h2@7:u-81"]),
            (b'l', &[b"5-1", b"booking", b"b-1", b"status", b"confirmed", b"quantity", b"1", b"buyer", b""]),
        ]);
        let Row::Booking { record, .. } = &rows[0] else { panic!("{rows:?}") };
        assert!(record.counted && record.status == Some(BookingStatus::Held { expires_at: WallTime(7) }));
        assert!(matches!(&rows[1], Row::Booking { record, .. } if record.status.is_none()));
        assert_eq!(rows[2], Row::NoBooking { id: id("b-2") });
        let ids = vec![id("0a200a20-0a20-0a20-0a20-0a200a200a20"), id("b-1")];
        assert_eq!(rows[3], Row::Group { expires_at: WallTime(7), ids });
        let two = BuyerTickets { confirmed: 2, holds: vec![(WallTime(0), 3)] };
        assert_eq!(rows[4], Row::Buyers(vec![(BuyerId::parse("u-81").unwrap(), two)]));
        assert_eq!(rows[5], Row::Buyers(vec![]));
        assert_eq!(rows[6], Row::Forgot { at: WallTime(7), seen: 12, left: 9 });
        let Row::Lost { booking, cause: LostCause::SoldOut } = &rows[7] else { panic!("{rows:?}") };
        assert_eq!((booking.id, booking.quantity.get()), (id("0a200a20-0a20-0a20-0a20-0a200a200a20"), 2));
        assert!(matches!(&rows[8], Row::Change(entry) if entry.sequence == 1 && entry.at == WallTime(5)));
    }

    #[test]
    fn what_boxoffice_never_writes_is_named_with_its_key() {
        let uuid_as_text: &[u8] = b"0a200a20-0a20-0a20-0a20-0a200a200a20";
        let bucket = bucket_of(&BuyerId::parse("u-81").unwrap());
        let bucket = bucket.as_bytes();
        let entry = |status: &'static [u8], last: &'static [&'static [u8]]| {
            let first: [&[u8]; 9] =
                [b"5-1", b"booking", b"b", b"status", status, b"quantity", b"1", b"buyer", b""];
            [&first[..], last].concat()
        };
        let bad_entries = [
            entry(b"held", &[]),
            entry(b"sold", &[]),
            entry(b"confirmed", &[b"expires_at"]),
            vec![b"5-1"],
            vec![b"5"],
        ];
        let mut bad: Vec<(u8, Vec<&[u8]>)> = vec![
            (b'b', vec![b"a", b"z1"]),
            (b'b', vec![b"a", b"c0"]),
            (b'b', vec![b"a", b""]),
            (b'b', vec![b"a", b"h1"]),
            (b'b', vec![b"a", b"C1"]),
            (b'b', vec![b"a", b"t1"]),
            (b'b', vec![b"a", b"c1@5"]),
            (b'b', vec![b"a", b"\xff"]),
            (b'b', vec![b"a b", b"c1"]),
            (b'b', vec![b"\0short", b"c1"]),
            (b'b', vec![uuid_as_text, b"c1"]),
            (b'g', vec![b"", b"7"]),
            (b'g', vec![b"a", b"7"]),
            (b'g', vec![b"a  ", b"7"]),
            (b'g', vec![b"a ", b"inf"]),
            (b'g', vec![b"a ", b"7.5"]),
            (b'u', vec![b"0", b" u-81=2"]),
            (b'u', vec![bucket, b" u-81=2 u-81=1"]),
            (b'u', vec![bucket, b" u-81="]),
            (b'u', vec![bucket, b" u-81=-1"]),
            (b'u', vec![bucket, b"u-81=1"]),
            (b'n', vec![b"a b"]),
            (b'f', vec![b"@", b"1 x"]),
            (b'f', vec![b"a", b"sold-out"]),
            (b'f', vec![b"a", b"stolen c1"]),
        ];
        bad.extend(bad_entries.iter().map(|strings| (b'l', strings.clone())));
        for (letter, strings) in &bad {
            let rows = rows(&[(*letter, strings)]);
            let [Row::Unreadable { key, .. }] = &rows[..] else { panic!("{rows:?}") };
            assert_eq!(key, strings[0]);
        }
    }

    #[test]
    fn a_count_that_is_none_is_a_row_and_any_other_number_that_is_none_no_reply() {
        let read = |state: &str| read_survey(format!("{state}\n0,1,8,9\n").as_bytes());
        let Some(Answer::Sale { state, result: SaleResult::Surveyed { rows, .. } }) =
            read("10,-3,1,1,1,open,,,,,9,5,5,0,0,0,0,0,0")
        else {
            panic!()
        };
        assert_eq!((state.held, state.sold), (0, 1));
        assert!(
            matches!(&rows[..], [Row::Unreadable { part: Part::Stock, text, .. }] if text == "held is -3")
        );
        assert_eq!(read("-10,3,1,1,1,open,,,,,9,5,5,0,0,0,0,0,0"), None);
        let Some(Answer::Sale { result: SaleResult::Surveyed { rows, .. }, .. }) =
            read("10,gone,x,1,1,open,,,,,9,5,5,0,0,0,0,0,0")
        else {
            panic!()
        };
        assert!(matches!(&rows[..], [Row::Unreadable { text: held, .. }, Row::Unreadable { text: sold, .. }]
            if held == "held is gone" && sold == "sold is x"));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "[bnugl0-9,:a ]{0,32}") {
            let _ = read_survey(&bytes);
            let _ = read_survey(&[STATE.as_bytes(), b"\n0,1,2,3\n", &bytes].concat());
            let _ = read_survey(format!("{STATE}\n0,1,2,3\n{text}").as_bytes());
        }
    }
}
