//! Short ways to say calls and to read answers.

use boxoffice::booking::*;
use boxoffice::clock::WallTime;

pub fn sale() -> SaleName {
    SaleName::parse("ticket").unwrap()
}

pub fn id(text: &str) -> BookingId {
    BookingId::parse(text).unwrap()
}

pub fn claim(text: &str, quantity: u64, buyer: Option<&str>) -> Claim {
    Claim {
        id: id(text),
        quantity: Quantity::new(quantity).unwrap(),
        buyer: buyer.map(|text| BuyerId::parse(text).unwrap()),
    }
}

pub fn open(total: u64) -> Call {
    open_on(SaleTerms { total, ..SaleTerms::default() })
}

pub fn open_on(terms: SaleTerms) -> Call {
    Call::Open { sale: sale(), terms, by: Opener::Operator }
}

pub fn alter(change: SaleChange) -> Call {
    Call::Alter { sale: sale(), change }
}

pub fn reserve(claims: impl IntoIterator<Item = Claim>) -> Call {
    Call::Reserve { sale: sale(), seen: Seen::default(), claims: claims.into_iter().collect() }
}

/// Reserves one ticket for each id.
pub fn reserve_ids(ids: &[&str]) -> Call {
    reserve(ids.iter().map(|text| claim(text, 1, None)))
}

pub fn look_up(ids: &[&str]) -> Call {
    Call::LookUp { sale: sale(), ids: ids.iter().map(|text| id(text)).collect() }
}

pub fn confirm(ids: &[&str]) -> Call {
    Call::Confirm { sale: sale(), seen: Seen::default(), ids: ids.iter().map(|text| id(text)).collect() }
}

pub fn cancel(ids: &[&str]) -> Call {
    Call::Cancel {
        sale: sale(),
        seen: Seen::default(),
        ids: ids.iter().map(|text| (id(text), false)).collect(),
    }
}

pub fn amend(amendments: &[(&str, Amendment)]) -> Call {
    let amendments = amendments.iter().map(|(text, amendment)| (id(text), *amendment)).collect();
    Call::Amend { sale: sale(), seen: Seen::default(), amendments }
}

pub fn assign(text: &str, buyer: Option<&str>) -> Call {
    let buyer = buyer.map(|buyer| BuyerId::parse(buyer).unwrap());
    Call::Assign { sale: sale(), seen: Seen::default(), id: id(text), buyer }
}

pub fn release(remaining: u64) -> Amendment {
    Amendment::Release { remaining: Quantity::new(remaining).unwrap() }
}

pub fn tombstone(text: &str) -> Call {
    Call::Cancel { sale: sale(), seen: Seen::default(), ids: vec![(id(text), true)] }
}

pub fn snapshot() -> Call {
    Call::Snapshot { sale: sale() }
}

pub fn expire() -> Call {
    Call::Expire { sale: sale() }
}

pub fn log_after(after: u64) -> Call {
    Call::Log { sale: sale(), after }
}

pub fn trim() -> Call {
    Call::Trim { sale: sale() }
}

pub fn state(answer: Answer) -> SaleState {
    match answer {
        Answer::Sale { state, .. }
        | Answer::ChangeRefused { state, .. }
        | Answer::Counting { state }
        | Answer::Reserved { state, .. }
        | Answer::Found { state, .. }
        | Answer::Confirmed { state, .. }
        | Answer::Cancelled { state, .. }
        | Answer::Amended { state, .. }
        | Answer::Restored { state, .. }
        | Answer::Withheld { state } => state,
        other => panic!("has no state: {other:?}"),
    }
}

pub fn reservations(answer: Answer) -> Vec<Reservation> {
    match answer {
        Answer::Reserved { reservations, .. } => reservations,
        other => panic!("not reservations: {other:?}"),
    }
}

pub fn amended(answer: Answer) -> Vec<Amended> {
    match answer {
        Answer::Amended { bookings, .. } => bookings,
        other => panic!("not amendments: {other:?}"),
    }
}

pub fn bookings(answer: Answer) -> Vec<Option<Booking>> {
    match answer {
        Answer::Found { bookings, .. } => bookings,
        other => panic!("not bookings: {other:?}"),
    }
}

pub fn log_entries(answer: Answer) -> Vec<LogEntry> {
    match answer {
        Answer::Log(entries) => entries,
        other => panic!("not a log: {other:?}"),
    }
}

pub const GRANTED: Reservation = Reservation::Granted { expires_at: None };

pub fn granted_until(expires_at: u64) -> Reservation {
    Reservation::Granted { expires_at: Some(WallTime(expires_at)) }
}
