//! What operators do with single bookings: find those of a buyer, look at one and change it, and read the log.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

use super::error::ApiError;
use super::service::{Operator, Page, unexpected};
use crate::api::{Problem, decode, encode};
use crate::booking::{Amendment, Booking, BookingId, BuyerId, SaleName};
use crate::http::{Request, Status};
use crate::limits::{self, BUYER_BOOKINGS_MS_MAX};
use crate::protocol::{Answer, SaleOp, SaleResult, Watermark};
use crate::support::{BuyersBookings, NotDone, SupportDeed};

/// Between two pages of a sale's bookings; longer than those who wait for their turn at the ledger look away from it.
const PAGE_PAUSE: Duration = Duration::from_millis(2);

impl Operator<'_> {
    /// Gives a booking to the buyer that the body names.
    pub(super) fn put_buyer(
        &mut self,
        request: &Request<'_>,
        sale: &str,
        id: &str,
    ) -> Result<Page, ApiError> {
        if request.is_partial {
            // RFC 9110 section 14.5.
            return Err(bad_request("Content-Range: a buyer cannot be sent in parts".to_owned()));
        }
        let names = self.names(sale, id)?;
        let buyer = decode::owner_body(request.body).map_err(bad_request)?;
        self.support(names, &SupportDeed::Give(buyer.map(Box::new)))
    }

    /// Extends a hold as the body says.
    pub(super) fn extend_booking(
        &mut self,
        request: &Request<'_>,
        sale: &str,
        id: &str,
    ) -> Result<Page, ApiError> {
        let names = self.names(sale, id)?;
        match decode::extension_body(request.body).map_err(bad_request)? {
            Amendment::Extend { ms } => self.support(names, &SupportDeed::Extend { ms }),
            other => Err(bad_request(format!("an extension cannot be read as {other:?}"))),
        }
    }

    /// Does to a booking what its path and method say.
    pub(super) fn do_to_booking(
        &mut self,
        sale: &str,
        id: &str,
        deed: &SupportDeed,
    ) -> Result<Page, ApiError> {
        let names = self.names(sale, id)?;
        self.support(names, deed)
    }

    fn names(&self, sale: &str, id: &str) -> Result<(SaleName, BookingId), ApiError> {
        let sale = self.sale_name(sale)?;
        let id =
            BookingId::parse(id).map_err(|error| bad_request(format!("booking in the path: {error}")))?;
        Ok((sale, id))
    }

    fn support(&mut self, (sale, id): (SaleName, BookingId), deed: &SupportDeed) -> Result<Page, ApiError> {
        // A ledger that has less than this host has seen is found out by this call as by any other that changes bookings.
        let answer = self.call(deed.call(sale, id, self.seen(&sale)))?;
        let (state, booking) = deed.read(answer).map_err(|not_done| match not_done {
            NotDone::Problem(problem, None) => problem.into(),
            NotDone::Problem(problem, Some(detail)) => ApiError::new(problem, detail),
            NotDone::Unexpected(answer) => unexpected(&answer),
        })?;
        if *deed != SupportDeed::Show {
            self.learn(&sale, &state);
            self.told_of_booking(&sale, &booking);
        }
        encode::push_booking(&mut self.scratch, sale.as_str(), &booking);
        Ok(Page::Json(Status::Ok))
    }

    /// One page of a sale's log, oldest first, after the sequence that the query names. A page that is empty is the end.
    pub(super) fn show_log(&mut self, query: Option<&str>, sale: &str) -> Result<Page, ApiError> {
        let sale = self.sale_name(sale)?;
        let after = after_of(query).map_err(bad_request)?;
        let entries = match self.call(SaleOp::Log { after }.on(sale))? {
            Answer::Sale { result: SaleResult::Log(entries), .. } => entries,
            other => return Err(unexpected(&other)),
        };
        let scratch = &mut self.scratch;
        scratch.extend_from_slice(br#"{"entries":["#);
        for (index, entry) in entries.iter().enumerate() {
            if index > 0 {
                scratch.push(b',');
            }
            encode::push_log_entry(scratch, entry);
        }
        scratch.extend_from_slice(b"]}");
        Ok(Page::Json(Status::Ok))
    }

    /// The bookings of one buyer, by their ids. Nothing is kept by buyer, so that all of the sale is read, page by page: neither
    /// the ledger nor other operators wait for longer than a page takes.
    pub(super) fn list_bookings(&mut self, query: Option<&str>, sale: &str) -> Result<Page, ApiError> {
        let sale = self.sale_name(sale)?;
        let buyer = buyer_of(query).map_err(bad_request)?;
        let until = Instant::now() + Duration::from_millis(BUYER_BOOKINGS_MS_MAX);
        let mut found = BuyersBookings::of(buyer);
        let mut cursor = String::new();
        let more = loop {
            let (bookings, next) = match self.call(SaleOp::Page { cursor }.on(sale))? {
                Answer::Sale { result: SaleResult::Page { bookings, next }, .. } => (bookings, next),
                other => return Err(unexpected(&other)),
            };
            if found.take_in(bookings) {
                break true;
            }
            match next {
                None => break false,
                Some(_) if Instant::now() >= until || self.is_stopping() => break true,
                Some(next) => cursor = next,
            }
            std::thread::sleep(PAGE_PAUSE);
        };
        let scratch = &mut self.scratch;
        scratch.extend_from_slice(br#"{"bookings":["#);
        for (index, booking) in found.shown().enumerate() {
            if index > 0 {
                scratch.push(b',');
            }
            encode::push_booking(scratch, sale.as_str(), booking);
        }
        scratch.extend_from_slice(if more { br#"],"more":true}"# } else { b"]}" });
        Ok(Page::Json(Status::Ok))
    }

    /// What this host has seen of a sale.
    fn seen(&self, sale: &SaleName) -> Watermark {
        let sales = self.shared.board.directory();
        sales.get(sale.as_str()).map_or_else(Watermark::default, |sale| sale.seen())
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    fn told_of_booking(&self, sale: &SaleName, booking: &Booking) {
        let buyer = booking.buyer.as_ref().map_or("nobody", BuyerId::as_str);
        let status = booking.status.word();
        tracing::info!(peer = %self.caller, %sale, booking = %booking.id, status, buyer, "an operator changed a booking");
    }
}

fn bad_request(detail: String) -> ApiError {
    ApiError::new(Problem::BAD_REQUEST, detail)
}

/// The sequence of the query `after=N`; 0, before the first entry, without one.
///
/// # Errors
/// A sentence that says what it takes.
fn after_of(query: Option<&str>) -> Result<u64, String> {
    let mut after = None;
    for parameter in query.into_iter().flat_map(|query| query.split('&')).filter(|text| !text.is_empty()) {
        let Some(("after", digits)) = parameter.split_once('=') else {
            return Err("the query takes after=N and nothing else".to_owned());
        };
        // What is larger than every sequence has nothing after it, and JSON and Lua have no larger whole numbers.
        let is_number = (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|number| is_number && *number <= limits::SEQUENCE_MAX);
        let number: u64 = number
            .ok_or_else(|| format!("after: takes a whole number from 0 to {}", limits::SEQUENCE_MAX))?;
        if after.replace(number).is_some() {
            return Err("after: is given more than once".to_owned());
        }
    }
    Ok(after.unwrap_or(0))
}

/// The buyer of the query `buyer=B`, percent-encoded or not (RFC 3986 section 2.1). A plus is a plus: no buyer has a space.
///
/// # Errors
/// A sentence that says what it takes.
fn buyer_of(query: Option<&str>) -> Result<BuyerId, String> {
    let mut buyer = None;
    for parameter in query.into_iter().flat_map(|query| query.split('&')).filter(|text| !text.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name != "buyer" {
            return Err("the query takes buyer=B and nothing else".to_owned());
        }
        // A target that was read has two hexadecimal digits behind each `%`.
        let value: Vec<u8> = percent_decode_str(value).collect();
        let read = BuyerId::parse(value).map_err(|error| format!("buyer: {error}"))?;
        if buyer.replace(read).is_some() {
            return Err("buyer: is given more than once".to_owned());
        }
    }
    buyer.ok_or_else(|| "buyer: is missing; the query takes buyer=B".to_owned())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_buyer_is_read_from_a_query_that_has_nothing_else() {
        for (query, buyer) in [
            ("buyer=u-81", "u-81"),
            ("buyer=a+b@c.example", "a+b@c.example"),
            ("buyer=a%2Bb%40c%2eexample", "a+b@c.example"),
            ("&buyer=%75&", "u"),
        ] {
            assert_eq!(buyer_of(Some(query)).unwrap().as_str(), buyer, "{query}");
        }
        for query in [
            "",
            "&",
            "buyer",
            "buyer=",
            "buyer=a b",
            "buyer=a%20b",
            "buyer=%00",
            "buyer=a%2541",
            "buyer=a&buyer=a",
        ] {
            assert!(buyer_of(Some(query)).unwrap_err().starts_with("buyer: "), "{query}");
        }
        assert!(buyer_of(None).is_err());
        for query in ["buyers=a", "buyer=a&sale=b", "Buyer=a", "b%75yer=a"] {
            assert!(buyer_of(Some(query)).unwrap_err().starts_with("the query takes"), "{query}");
        }
    }

    #[test]
    fn a_log_is_read_after_a_number_that_its_query_names() {
        for (query, after) in [(None, 0), (Some(""), 0), (Some("after=0"), 0), (Some("after=17&"), 17)] {
            assert_eq!(after_of(query), Ok(after), "{query:?}");
        }
        assert_eq!(after_of(Some("after=9007199254740991")), Ok(limits::SEQUENCE_MAX));
        for query in [
            "after",
            "after=",
            "after=-1",
            "after=+1",
            "after=1.0",
            "after=9007199254740992",
            "after=1&after=1",
        ] {
            assert!(after_of(Some(query)).is_err(), "{query}");
        }
        assert!(after_of(Some("before=1")).unwrap_err().starts_with("the query takes"));
    }
}
