//! The text of a script's reply: a state, then a line an entry. See the headers in `lua/`.

use crate::booking::{
    Booking, BookingId, BookingStatus, BuyerId, LogEntry, Quantity, SaleState, SaleStatus, SaleTerms,
};
use crate::clock::WallTime;

/// A booking without its id, which the caller knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) status: BookingStatus,
    pub(super) quantity: Quantity,
    pub(super) released: u32,
    pub(super) buyer: Option<BuyerId>,
    pub(super) reassigned: u32,
}

impl Record {
    pub(super) fn booking(self, id: BookingId) -> Booking {
        let Record { status, quantity, released, buyer, reassigned } = self;
        Booking { id, status, quantity, released, buyer, reassigned }
    }

    /// Reads `c2:u-81`, `c1/2` or `h1@1763827200123-300000:u-81!1`.
    pub(super) fn read(text: &str) -> Option<Record> {
        let letter = *text.as_bytes().first()?;
        let rest = text.get(1..)?;
        let (terms, buyer, reassigned) = read_owner(rest)?;
        let (amount, deadline) = read_terms(terms)?;
        let status = match (letter, deadline) {
            (b'h', Some(deadline)) => BookingStatus::Held { expires_at: WallTime(deadline) },
            (b'c', None) => BookingStatus::Confirmed,
            (b'x', None) => BookingStatus::Cancelled,
            (b'e', None) => BookingStatus::Expired,
            _ => return None,
        };
        let (quantity, released) = read_amount(amount)?;
        Some(Record { status, quantity, released, buyer, reassigned })
    }
}

/// Splits off the end of a record, `:u-82!1`: what is before it, the buyer, and how often an operator gave it to another
/// one.
pub(super) fn read_owner(rest: &str) -> Option<(&str, Option<BuyerId>, u32)> {
    let (rest, reassigned) = match rest.split_once('!') {
        Some((rest, times)) => {
            (rest, u32::try_from(number(times)?).ok().filter(|reassigned| *reassigned > 0)?)
        }
        None => (rest, 0),
    };
    Some(match rest.split_once(':') {
        Some((terms, buyer)) => (terms, Some(BuyerId::parse(buyer).ok()?), reassigned),
        None => (rest, None, reassigned),
    })
}

/// Reads `1/2`, or that with `@1763827200123`, or with a hyphen and how long it is held behind that: the amount and the
/// deadline.
pub(super) fn read_terms(terms: &str) -> Option<(&str, Option<u64>)> {
    let Some((amount, deadline)) = terms.split_once('@') else { return Some((terms, None)) };
    let deadline = match deadline.split_once('-') {
        Some((deadline, length)) => {
            number(length)?;
            deadline
        }
        None => deadline,
    };
    Some((amount, Some(number(deadline)?)))
}

/// Reads `2`, or `1/2` of a booking that was made with two and gave one back: what it has, and what it gave back.
pub(super) fn read_amount(amount: &str) -> Option<(Quantity, u32)> {
    let Some((quantity, made_with)) = amount.split_once('/') else {
        return Some((Quantity::new(number(amount)?)?, 0));
    };
    let (quantity, made_with) = (Quantity::new(number(quantity)?)?, Quantity::new(number(made_with)?)?);
    let released = made_with.get().checked_sub(quantity.get()).filter(|released| *released > 0)?;
    Some((quantity, released))
}

/// Digits and nothing else: `u64::from_str` would take a sign. In one pass, since replies are numbers for the most part.
pub(super) fn number(text: &str) -> Option<u64> {
    let mut number = (!text.is_empty()).then_some(0_u64)?;
    for byte in text.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(number)
}

/// Reads the first line; every comma-separated field must be there.
pub(super) fn read_state(line: &str) -> Option<SaleState> {
    fn term(text: &str) -> Option<Option<u64>> {
        if text.is_empty() { Some(None) } else { number(text).map(Some) }
    }
    fn flag(text: &str) -> Option<bool> {
        match text {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }
    }
    // Byte by byte: a field is too short for `split` to pay off.
    let mut rest = Some(line);
    let mut next = || {
        let text = rest?;
        let comma = text.bytes().position(|byte| byte == b',');
        let (field, after) = comma.map_or((text, None), |at| (&text[..at], Some(&text[at + 1..])));
        rest = after;
        Some(field)
    };
    let (total, held, sold) = (number(next()?)?, number(next()?)?, number(next()?)?);
    let (version, sequence) = (number(next()?)?, number(next()?)?);
    let status = SaleStatus::from_word(next()?)?;
    let hold_ms = term(next()?)?;
    let per_buyer = match term(next()?)? {
        Some(tickets) => Some(u32::try_from(tickets).ok()?),
        None => None,
    };
    let (starts_at, ends_at) = (term(next()?)?.map(WallTime), term(next()?)?.map(WallTime));
    let now = WallTime(number(next()?)?);
    let (opened, lineage) = (number(next()?)?, number(next()?)?);
    let frozen_until = WallTime(number(next()?)?);
    let due_at = Some(WallTime(number(next()?)?)).filter(|due| due.0 > 0);
    let (lapsed_until, announced_at) = (WallTime(number(next()?)?), WallTime(number(next()?)?));
    let (by_operator, buyer_required) = (flag(next()?)?, flag(next()?)?);
    // A script leaves it out if there is none; it is 0 or nothing if it is not stored.
    let hold_max_ms = match next() {
        Some(text) => term(text)?.filter(|ms| *ms > 0),
        None => None,
    };
    held.checked_add(sold)?;
    let terms = SaleTerms { total, hold_ms, hold_max_ms, per_buyer, starts_at, ends_at, buyer_required };
    rest.is_none().then_some(SaleState {
        terms,
        status,
        held,
        sold,
        version,
        sequence,
        now,
        opened,
        lineage,
        frozen_until,
        due_at,
        lapsed_until,
        announced_at,
        by_operator,
    })
}

/// Reads `sequence,ms,status,quantity,buyer,deadline,id`.
pub(super) fn read_log_entry(line: &str) -> Option<LogEntry> {
    let mut fields = line.split(',');
    let mut next = || fields.next();
    let sequence = number(next()?)?;
    let at = WallTime(number(next()?)?);
    let word = next()?;
    let quantity = Quantity::new(number(next()?)?)?;
    let buyer = match next()? {
        "" => None,
        buyer => Some(BuyerId::parse(buyer).ok()?),
    };
    let deadline = next()?;
    let status = match (word, deadline) {
        ("held", deadline) => BookingStatus::Held { expires_at: WallTime(number(deadline)?) },
        ("confirmed", "") => BookingStatus::Confirmed,
        ("cancelled", "") => BookingStatus::Cancelled,
        ("expired", "") => BookingStatus::Expired,
        _ => return None,
    };
    let id = BookingId::parse(next()?).ok()?;
    fields.next().is_none().then_some(LogEntry {
        sequence,
        at,
        booking: Booking { id, status, quantity, released: 0, buyer, reassigned: 0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_records() {
        let held = Record::read("h2@1763827200123:u-81").unwrap();
        assert_eq!(held.status, BookingStatus::Held { expires_at: WallTime(1_763_827_200_123) });
        assert_eq!((held.quantity.get(), held.buyer.unwrap().as_str()), (2, "u-81"));
        assert_eq!(Record::read("c1").unwrap().buyer, None);
        let part = Record::read("h1/3@7-5:u-81").unwrap();
        assert_eq!(part.status, BookingStatus::Held { expires_at: WallTime(7) });
        assert_eq!((part.quantity.get(), part.released), (1, 2));
        for bad in [
            "",
            "c",
            "c0",
            "c-1",
            "c+1",
            "c1:",
            "c1: ",
            "h1",
            "c1@5",
            "h1@",
            "h1@5-",
            "h1@5-x",
            "c1-5",
            "c/2",
            "c1/",
            "c2/2",
            "c3/2",
            "c1/2/3",
            "t",
            "z1",
            "c1000001",
            "c99999999999999999999",
            "\u{e9}1",
            "h1@1:a:b",
        ] {
            assert_eq!(Record::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_digits_that_fit() {
        let most = u64::MAX.to_string();
        for (text, value) in [("0", 0), ("0042", 42), (&most, u64::MAX), (&format!("00000{most}"), u64::MAX)]
        {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for bad in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "/",
            ":",
            "18446744073709551616",
            "99999999999999999999",
        ] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn reads_states() {
        let state = read_state("10,1,2,3,4,paused,500,,7,,9,5,6,11,12,13,14,1,0").unwrap();
        assert_eq!((state.terms.total, state.held, state.sold, state.available()), (10, 1, 2, 7));
        assert_eq!((state.terms.hold_ms, state.terms.per_buyer), (Some(500), None));
        assert_eq!((state.terms.starts_at, state.terms.ends_at), (Some(WallTime(7)), None));
        assert_eq!((state.opened, state.lineage, state.frozen_until), (5, 6, WallTime(11)));
        let holds = (state.due_at, state.lapsed_until, state.announced_at);
        assert_eq!(holds, (Some(WallTime(12)), WallTime(13), WallTime(14)));
        assert!(state.by_operator && !state.terms.buyer_required);
        let longest = |last: &str| {
            let line = format!("10,1,2,3,4,paused,500,,7,,9,5,6,11,12,13,14,1,0{last}");
            read_state(&line).unwrap().terms.hold_max_ms
        };
        assert_eq!([",900", ",0", ",", ""].map(longest), [Some(900), None, None, None]);
        let huge = format!("10,{0},{0},3,4,open,,,,,9,5,5,0,0,0,0,0,0", u64::MAX);
        for bad in [
            "",
            "10,1,2,3,4,open,,,,,9",
            "10,1,2,3,4,open,,,,,9,5,5",
            "10,1,2,3,4,open,,,,,9,5,5,",
            "10,1,2,3,4,open,,,,,9,5,5,0,0,0,0,0,2",
            "10,1,2,3,4,open,,,,,9,5,5,0,0,0,0,0,0,x",
            "10,1,2,3,4,open,,,,,9,5,5,0,0,0,0,0,0,7,",
            "10,1,2,3,4,shut,,,,,9,5,5,0",
            "10,-1,2,3,4,open,,,,,9,5,5,0,0,0,0,0,0",
            "1e12,1,2,3,4,open,,,,,9,5,5,0,0,0,0,0,0",
            "10,1,2,3,4,open,,5000000000,,,9,5,5,0,0,0,0,0,0",
            &huge,
        ] {
            assert_eq!(read_state(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[hcext0-9@:,a-z\u{e9}-]{0,32}") {
            let _ = (Record::read(&text), read_state(&text), read_log_entry(&text));
        }
    }
}
