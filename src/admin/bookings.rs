//! What operators do with single bookings: find those of a buyer, and give one to another buyer.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;

use super::error::ApiError;
use super::service::{Operator, Page, unexpected};
use crate::api::{Problem, decode, encode};
use crate::booking::{Booking, BookingId, BuyerId, SaleName};
use crate::http::{Request, Status};
use crate::limits::{BUYER_BOOKINGS_MAX, BUYER_BOOKINGS_MS_MAX};
use crate::protocol::{Amended, Answer, BookingOp, Objection, SaleOp, SaleResult, Watermark};

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
        let sale = self.sale_name(sale)?;
        let bad_request = |detail: String| ApiError::new(Problem::BAD_REQUEST, detail);
        let id =
            BookingId::parse(id).map_err(|error| bad_request(format!("booking in the path: {error}")))?;
        if request.is_partial {
            // RFC 9110 section 14.5.
            return Err(bad_request("Content-Range: a buyer cannot be sent in parts".to_owned()));
        }
        let buyer = decode::owner_body(request.body).map_err(bad_request)?;
        // A ledger that has less than this host has seen is found out by this call as by any other that changes bookings.
        let seen = self.seen(&sale);
        let assign = BookingOp::Assign { id, buyer: buyer.map(Box::new) };
        let (state, amended) = match self.call(assign.on(sale, seen))? {
            Answer::Sale { state, result: SaleResult::Assigned(amended) } => (state, amended),
            Answer::Stale(_) => {
                let detail = "The ledger forgot some of this sale's bookings, and hosts are putting back what they \
                     acknowledged. Nothing was done. Try again after Retry-After.";
                return Err(ApiError::new(Problem::LEDGER_UNAVAILABLE, detail));
            }
            other => return Err(unexpected(&other)),
        };
        self.learn(&sale, &state);
        let booking = match amended {
            Amended::Done(booking) => booking,
            Amended::NotFound => return Err(Problem::NO_SUCH_BOOKING.into()),
            Amended::Refused(objection) => {
                return Err(match objection {
                    Objection::Cancelled => Problem::BOOKING_CANCELLED.into(),
                    Objection::HoldExpired => {
                        let detail =
                            "The hold of this booking has ended, so it has no tickets. Nothing was changed.";
                        ApiError::new(Problem::HOLD_EXPIRED, detail)
                    }
                    Objection::BuyerLimit => Problem::BUYER_LIMIT.into(),
                    Objection::BuyerRequired => Problem::BUYER_REQUIRED.into(),
                    // What speaks against other changes alone.
                    other => {
                        let result = SaleResult::Assigned(Amended::Refused(other));
                        unexpected(&Answer::Sale { state, result })
                    }
                });
            }
        };
        self.told_of_booking(&sale, &booking);
        encode::push_booking(&mut self.scratch, sale.as_str(), &booking);
        Ok(Page::Json(Status::Ok))
    }

    /// The bookings of one buyer, by their ids. Nothing is kept by buyer, so that all of the sale is read, page by page: neither
    /// the ledger nor other operators wait for longer than a page takes.
    pub(super) fn list_bookings(&mut self, query: Option<&str>, sale: &str) -> Result<Page, ApiError> {
        let sale = self.sale_name(sale)?;
        let buyer = buyer_of(query).map_err(|detail| ApiError::new(Problem::BAD_REQUEST, detail))?;
        let until = Instant::now() + Duration::from_millis(BUYER_BOOKINGS_MS_MAX);
        let mut found: BTreeMap<BookingId, Booking> = BTreeMap::new();
        let mut cursor = String::new();
        let more = loop {
            let (bookings, next) = match self.call(SaleOp::Page { cursor }.on(sale))? {
                Answer::Sale { result: SaleResult::Page { bookings, next }, .. } => (bookings, next),
                other => return Err(unexpected(&other)),
            };
            for booking in bookings {
                // It may have been on a page before, and may be another's by now.
                match booking.buyer == Some(buyer) {
                    true => found.insert(booking.id, booking),
                    false => found.remove(&booking.id),
                };
            }
            if found.len() > BUYER_BOOKINGS_MAX {
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
        for (index, booking) in found.values().take(BUYER_BOOKINGS_MAX).enumerate() {
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
        tracing::info!(peer = %self.peer, %sale, booking = %booking.id, buyer, "an operator set the buyer of a booking");
    }
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
}
