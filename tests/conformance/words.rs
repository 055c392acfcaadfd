//! Short ways to say calls and to read answers.

use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::protocol::*;

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
    SaleOp::Open { terms, by: Opener::Operator }.on(sale())
}

pub fn alter(change: SaleChange) -> Call {
    SaleOp::Alter(change).on(sale())
}

pub fn reserve(claims: impl IntoIterator<Item = Claim>) -> Call {
    BookingOp::Reserve(claims.into_iter().collect()).on(sale(), Watermark::default())
}

/// Reserves one ticket for each id.
pub fn reserve_ids(ids: &[&str]) -> Call {
    reserve(ids.iter().map(|text| claim(text, 1, None)))
}

pub fn look_up(ids: &[&str]) -> Call {
    SaleOp::LookUp(ids.iter().map(|text| id(text)).collect()).on(sale())
}

pub fn confirm(ids: &[&str]) -> Call {
    BookingOp::Confirm(ids.iter().map(|text| id(text)).collect()).on(sale(), Watermark::default())
}

pub fn cancel(ids: &[&str]) -> Call {
    BookingOp::Cancel(ids.iter().map(|text| Cancel { id: id(text), tombstone: false }).collect())
        .on(sale(), Watermark::default())
}

pub fn amend(amendments: &[(&str, Amendment)]) -> Call {
    let amendments = amendments.iter().map(|(text, amendment)| (id(text), *amendment)).collect();
    BookingOp::Amend(amendments).on(sale(), Watermark::default())
}

pub fn assign(text: &str, buyer: Option<&str>) -> Call {
    let buyer = buyer.map(|buyer| Box::new(BuyerId::parse(buyer).unwrap()));
    BookingOp::Assign { id: id(text), buyer }.on(sale(), Watermark::default())
}

pub fn release(remaining: u64) -> Amendment {
    Amendment::Release { remaining: Quantity::new(remaining).unwrap() }
}

pub fn tombstone(text: &str) -> Call {
    BookingOp::Cancel(vec![Cancel { id: id(text), tombstone: true }]).on(sale(), Watermark::default())
}

pub fn snapshot() -> Call {
    SaleOp::Snapshot.on(sale())
}

pub fn expire() -> Call {
    SaleOp::Expire.on(sale())
}

pub fn log_after(after: u64) -> Call {
    SaleOp::Log { after }.on(sale())
}

pub fn trim() -> Call {
    SaleOp::Trim.on(sale())
}

pub fn state(answer: Answer) -> SaleState {
    match answer {
        Answer::Sale { state, .. } | Answer::Stale(state) => state,
        other => panic!("has no state: {other:?}"),
    }
}

pub fn reservations(answer: Answer) -> Vec<Reservation> {
    match answer {
        Answer::Sale { result: SaleResult::Reserved(reservations), .. } => reservations,
        other => panic!("not reservations: {other:?}"),
    }
}

pub fn amended(answer: Answer) -> Vec<Amended> {
    match answer {
        Answer::Sale { result: SaleResult::Amended(bookings), .. } => bookings,
        Answer::Sale { result: SaleResult::Assigned(amended), .. } => vec![amended],
        other => panic!("not amendments: {other:?}"),
    }
}

pub fn bookings(answer: Answer) -> Vec<Option<Booking>> {
    match answer {
        Answer::Sale { result: SaleResult::Found(bookings), .. } => bookings,
        other => panic!("not bookings: {other:?}"),
    }
}

pub fn log_entries(answer: Answer) -> Vec<LogEntry> {
    match answer {
        Answer::Sale { result: SaleResult::Log(entries), .. } => entries,
        other => panic!("not a log: {other:?}"),
    }
}

pub const GRANTED: Reservation = Reservation::Granted { expires_at: None };

pub fn granted_until(expires_at: u64) -> Reservation {
    Reservation::Granted { expires_at: Some(WallTime(expires_at)) }
}
