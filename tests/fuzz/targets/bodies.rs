//! Bodies of bookings and of sales, keys and paths: what is taken means what a plain reading of it means.

use boxoffice::admin::sales::SaleBody;
use boxoffice::api::Route;
use boxoffice::api::decode::{BookingBody, booking_body, idempotency_key};
use boxoffice::booking::SaleChange;
use boxoffice::limits::{self, HOLD_MS_MAX};
use serde_json::Value;

pub fn run(bytes: &[u8]) {
    check_booking(bytes);
    check_sale(bytes);
    if let Ok(key) = idempotency_key(bytes) {
        let quoted = [b"\"", key.as_str().as_bytes(), b"\""].concat();
        assert_eq!(idempotency_key(&quoted), Ok(key));
    }
    if let Ok(path) = std::str::from_utf8(bytes) {
        check_route(path);
    }
}

fn check_booking(bytes: &[u8]) {
    let read = booking_body(bytes);
    let value = serde_json::from_slice::<Value>(bytes).ok();
    let plain = value.as_ref().and_then(plain_booking);
    match &read {
        Ok(body) if bytes.is_empty() => assert_eq!((body.quantity.get(), body.buyer), (1, None)),
        Ok(body) => assert_eq!(plain, Some(*body), "it means something else"),
        Err(said) => assert!(said.contains(": "), "it names no place: {said}"),
    }
    // A member that comes twice is refused; a plain reading sees the last one alone.
    if let (Some(value), Some(plain)) = (value, plain) {
        assert_eq!(booking_body(value.to_string().as_bytes()), Ok(plain), "{value}");
    }
}

/// The body as its description has it.
fn plain_booking(value: &Value) -> Option<BookingBody> {
    let members = value.as_object()?;
    let known = ["quantity", "buyer"];
    members.keys().all(|key| known.contains(&key.as_str())).then_some(())?;
    let quantity = match members.get("quantity") {
        None | Some(Value::Null) => 1,
        Some(number) => whole(number)?,
    };
    let buyer = match members.get("buyer") {
        None | Some(Value::Null) => None,
        Some(buyer) => Some(buyer.as_str()?.parse().ok()?),
    };
    let quantity = boxoffice::booking::Quantity::new(quantity)?;
    Some(BookingBody { quantity, buyer })
}

/// A whole number, however it is written.
fn whole(number: &Value) -> Option<u64> {
    let double = number.as_f64()?;
    number
        .as_u64()
        .or((double.fract() == 0.0 && (0.0..=2_f64.powi(53)).contains(&double)).then_some(double as u64))
}

fn check_sale(bytes: &[u8]) {
    let body = match SaleBody::read(bytes) {
        Ok(body) => body,
        Err(said) => return assert!(said.contains(": "), "it names no place: {said}"),
    };
    let value: Value = serde_json::from_slice(bytes).expect("what was read is JSON");
    let members = value.as_object().expect("what was read is an object");
    let change = body.change();
    let is_given = |name: &str| members.contains_key(name);
    let SaleChange {
        total,
        hold_ms,
        hold_max_ms,
        per_buyer,
        starts_at,
        ends_at,
        buyer_required,
        status,
        if_version,
    } = &change;
    assert_eq!(*total, members.get("total").and_then(whole), "the total");
    assert_eq!((status, if_version), (&None, &None));
    assert_eq!(
        [
            hold_ms.is_some(),
            hold_max_ms.is_some(),
            per_buyer.is_some(),
            starts_at.is_some(),
            ends_at.is_some(),
            buyer_required.is_some()
        ],
        ["hold_seconds", "hold_max_seconds", "per_buyer", "starts_at", "ends_at", "buyer_required"]
            .map(is_given),
        "left out is not null"
    );
    for (name, span) in [("hold_seconds", hold_ms), ("hold_max_seconds", hold_max_ms)] {
        let Some(Some(ms)) = span else { continue };
        let seconds = members[name].as_f64().expect("a number");
        assert!(
            (1..=HOLD_MS_MAX).contains(ms) && (seconds * 1_000.0 - *ms as f64).abs() <= 0.5,
            "{name}: {seconds}: {ms}"
        );
    }
    if let Some(Some(tickets)) = per_buyer {
        assert_eq!(whole(&members["per_buyer"]), Some(u64::from(*tickets)));
    }
    match body.terms() {
        Ok(terms) => {
            assert_eq!(terms.check(), Ok(()), "terms that no ledger takes");
            assert_eq!((Some(terms.total), terms.hold_ms), (*total, hold_ms.flatten()));
            assert!(terms.total <= limits::STOCK_MAX);
        }
        Err(said) => assert!(total.is_none(), "{said}"),
    }
}

fn check_route(path: &str) {
    let Some(route) = Route::find(path) else { return };
    let again = match route {
        Route::Buy { sale } => format!("/buy/{sale}"),
        Route::Sale { sale } => format!("/v1/sales/{sale}"),
        Route::Bookings { sale } => format!("/v1/sales/{sale}/bookings"),
        Route::Booking { sale, id } => format!("/v1/sales/{sale}/bookings/{id}"),
        Route::Confirm { sale, id } => format!("/v1/sales/{sale}/bookings/{id}/confirm"),
        Route::Extend { sale, id } => format!("/v1/sales/{sale}/bookings/{id}/extend"),
        Route::Release { sale, id } => format!("/v1/sales/{sale}/bookings/{id}/release"),
        Route::Hold { sale, id } => format!("/v1/sales/{sale}/bookings/{id}/hold"),
        Route::Problem { name } => format!("/problems/{name}"),
        Route::FrontPage => "/".to_owned(),
    };
    assert_eq!(again, path, "a route is its path and nothing else");
    let (Route::Buy { sale } | Route::Sale { sale } | Route::Bookings { sale }) = route else { return };
    assert!(!sale.contains('/') && !route.allow().is_empty());
}
