//! Bodies and fields to the domain's words; every error says which field, and what it takes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::booking::{Amendment, BookingId, BuyerId, Quantity};
use crate::limits;

/// What the body of a booking request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookingBody {
    /// How many tickets; 1 if the body does not say.
    pub quantity: Quantity,
    /// For whom.
    pub buyer: Option<BuyerId>,
}

/// `B` is the buyer's text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBooking<B> {
    quantity: Option<Whole>,
    buyer: Option<B>,
}

/// Reads the body of a booking request; an empty one asks for one ticket for nobody in particular.
///
/// # Errors
/// A sentence for people that names the field and what it takes.
pub fn booking_body(body: &[u8]) -> Result<BookingBody, String> {
    if body.is_empty() {
        return Ok(BookingBody { quantity: Quantity::ONE, buyer: None });
    }
    // What nearly everybody sends is read in place. If that fails, reading again with copies takes texts with
    // escapes, and finds out where an error is.
    match serde_json::from_slice::<Object<RawBooking<&str>>>(body) {
        Ok(Object(raw)) => checked(raw.quantity, raw.buyer),
        Err(_) => {
            let raw: RawBooking<String> = from_json(body)?;
            checked(raw.quantity, raw.buyer.as_deref())
        }
    }
}

fn checked(quantity: Option<Whole>, buyer: Option<&str>) -> Result<BookingBody, String> {
    let quantity = match quantity {
        None => Quantity::ONE,
        Some(Whole(tickets)) => Quantity::new(tickets).ok_or_else(|| {
            format!("quantity: {tickets} is out of range; it takes 1 to {}", limits::QUANTITY_MAX)
        })?,
    };
    let buyer = match buyer {
        None => None,
        Some(buyer) => Some(BuyerId::parse(buyer).map_err(|error| format!("buyer: {error}"))?),
    };
    Ok(BookingBody { quantity, buyer })
}

/// A whole number of at least 0. JSON does not tell 2 from 2.0, and neither does an `integer` of JSON Schema.
#[derive(Clone, Copy, Debug)]
pub struct Whole(pub u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Whole, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of at least 0")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
                // Up to here a double has every whole number.
                const EXACT_MAX: f64 = (1_u64 << 53) as f64;
                match number.fract() == 0.0 && (0.0..=EXACT_MAX).contains(&number) {
                    true => Ok(Whole(number as u64)),
                    false => Err(E::invalid_value(Unexpected::Float(number), &self)),
                }
            }
        }

        reader.deserialize_u64(Number)
    }
}

/// A `T` that is written as a JSON object and as nothing else: serde would read a struct from an array as well, field by
/// field, and `[2, "u-1"]` would book.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Object<T>, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        reader.deserialize_map(Members(PhantomData))
    }
}

/// Reads a JSON object into `T`.
///
/// # Errors
/// A sentence that names the field by its path, the line and the column.
pub fn from_json<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let Object(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." => format!("body: {}", error.inner()),
            _ => format!("{path}: {}", error.inner()),
        }
    })?;
    reader.end().map_err(|error| format!("body: {error}"))?;
    Ok(value)
}

/// Reads the value of `Idempotency-Key`, bare or as the quoted string of the IETF draft.
///
/// # Errors
/// A sentence that says what it takes.
pub fn idempotency_key(value: &[u8]) -> Result<BookingId, String> {
    let bare = match value {
        [b'"', inner @ .., b'"'] => inner,
        // A structured field may have parameters (RFC 9651 section 3.3).
        [b'"', rest @ ..] if memchr::memchr(b'"', rest).is_some() => {
            return Err("Idempotency-Key: has something after the quoted key; parameters are not supported"
                .to_owned());
        }
        bare => bare,
    };
    BookingId::parse(bare).map_err(|error| format!("Idempotency-Key: {error}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtension {
    seconds: Whole,
}

/// Reads the body of an extension, `{"seconds":120}`.
///
/// # Errors
/// A sentence for people that names the field and what it takes.
pub fn extension_body(body: &[u8]) -> Result<Amendment, String> {
    const SECONDS_MAX: u64 = limits::HOLD_MS_MAX / 1000;
    let RawExtension { seconds: Whole(seconds) } = from_json(body)?;
    match seconds {
        1..=SECONDS_MAX => Ok(Amendment::Extend { ms: seconds * 1000 }),
        _ => Err(format!("seconds: {seconds} is out of range; it takes 1 to {SECONDS_MAX} (30 days)")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRelease {
    remaining: Whole,
}

/// Reads the body of a release, `{"remaining":1}`.
///
/// # Errors
/// A sentence for people that names the field and what it takes.
pub fn release_body(body: &[u8]) -> Result<Amendment, String> {
    let RawRelease { remaining: Whole(remaining) } = from_json(body)?;
    match Quantity::new(remaining) {
        Some(remaining) => Ok(Amendment::Release { remaining }),
        // Too easily sent by mistake to end a booking.
        None if remaining == 0 => {
            Err("remaining: is 0; to give back all of a booking, cancel it (DELETE)".to_owned())
        }
        None => {
            Err(format!("remaining: {remaining} is out of range; it takes 1 to {}", limits::QUANTITY_MAX))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOwner {
    // So that `null` is said, and not left out by mistake.
    #[serde(deserialize_with = "Option::deserialize")]
    buyer: Option<String>,
}

/// Reads the body that says whose a booking is, `{"buyer":"u-82"}`; `null` is nobody.
///
/// # Errors
/// A sentence for people that names the field and what it takes.
pub fn owner_body(body: &[u8]) -> Result<Option<BuyerId>, String> {
    let RawOwner { buyer } = from_json(body)?;
    buyer.map(|buyer| BuyerId::parse(buyer).map_err(|error| format!("buyer: {error}"))).transpose()
}

/// Whether the query of a cancellation asks for a tombstone: `tombstone=true`. Other parameters are passed over, as they are
/// with every request.
///
/// # Errors
/// A sentence that says what it takes.
pub fn tombstone(query: Option<&str>) -> Result<bool, String> {
    let mut asked = None;
    for parameter in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name != "tombstone" {
            continue;
        }
        let is_set = match value {
            "true" => true,
            "false" => false,
            _ => return Err("tombstone: takes true or false".to_owned()),
        };
        if asked.replace(is_set).is_some() {
            return Err("tombstone: is given more than once".to_owned());
        }
    }
    Ok(asked.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(body: impl AsRef<[u8]>) -> String {
        booking_body(body.as_ref()).expect_err("a malformed body")
    }

    #[test]
    fn reads_what_is_asked_for() {
        let anyone = BookingBody { quantity: Quantity::ONE, buyer: None };
        assert_eq!(booking_body(b""), Ok(anyone));
        assert_eq!(booking_body(b" {} "), Ok(anyone));
        assert_eq!(booking_body(br#"{"quantity":null,"buyer":null}"#), Ok(anyone));
        let two =
            BookingBody { quantity: Quantity::new(2).unwrap(), buyer: Some(BuyerId::parse("u-81").unwrap()) };
        assert_eq!(booking_body(br#"{"quantity":2,"buyer":"u-81"}"#), Ok(two));
        assert_eq!(booking_body(br#"{"buyer":"u\u002d81","quantity":2}"#), Ok(two));
        for text in ["a.b+c@d.example", "a.b\\u002bc\\u0040d.example"] {
            let body = booking_body(format!(r#"{{"buyer":"{text}"}}"#).as_bytes()).unwrap();
            assert_eq!(body.buyer.unwrap().as_str(), "a.b+c@d.example");
        }
        for quantity in ["2.0", "2e0", "0.2e1"] {
            let body = format!(r#"{{"quantity":{quantity},"buyer":"u-81"}}"#);
            assert_eq!(booking_body(body.as_bytes()), Ok(two), "{quantity}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        for quantity in [
            "0",
            "-1",
            "9223372036854775808",
            "99999999999999999999",
            "1.5",
            "1e-3",
            "1e20",
            "1e999",
            "\"1\"",
            "true",
            "[]",
        ] {
            let said = error(format!(r#"{{"quantity":{quantity}}}"#));
            assert!(said.starts_with("quantity: "), "{quantity}: {said}");
        }
        assert!(error(br#"{"quantity":1,"quantity":2}"#).contains("duplicate field `quantity`"));
        assert!(error(br#"{"qty":1}"#).contains("unknown field `qty`"));
        assert!(error(br#"{"buyer":"a b"}"#).starts_with("buyer: has a byte at offset 1"));
        assert!(
            error(br#"{"buyer":""}"#)
                .starts_with("buyer: is empty; it takes 1 to 64 of A-Z a-z 0-9 . _ - @ +")
        );
        assert!(error(br#"{"buyer":7}"#).starts_with("buyer: "));
        for broken in [
            "{",
            "nonsense",
            "{}x",
            "[1]",
            "1",
            "null",
            "[2,\"u-1\"]",
            "[null,null]",
            "\u{feff}{}",
            "{\"buyer\":\"\\ud800\"}",
        ] {
            let said = error(broken);
            assert!(said.contains("line 1"), "{broken}: {said}");
        }
        assert!(error("[2,\"u-1\"]").starts_with("body: invalid type: sequence, expected a JSON object"));
        assert!(error(b"{\"buyer\":\"\xff\"}").starts_with("buyer: "));
        let deep = format!("{{\"buyer\":{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert!(error(deep).starts_with("buyer: "));
    }

    #[test]
    fn reads_how_a_booking_is_to_change() {
        assert_eq!(extension_body(br#"{"seconds":120}"#), Ok(Amendment::Extend { ms: 120_000 }));
        assert_eq!(
            extension_body(br#"{"seconds":2592000.0}"#),
            Ok(Amendment::Extend { ms: limits::HOLD_MS_MAX })
        );
        for body in ["0", "-1", "2592001", "1.5", "null", "\"1\"", "99999999999999999999"] {
            let said = extension_body(format!("{{\"seconds\":{body}}}").as_bytes()).unwrap_err();
            assert!(said.starts_with("seconds: "), "{body}: {said}");
        }
        let remaining = Quantity::new(2).unwrap();
        assert_eq!(release_body(br#"{"remaining":2}"#), Ok(Amendment::Release { remaining }));
        assert!(release_body(br#"{"remaining":0}"#).unwrap_err().contains("cancel it (DELETE)"));
        for body in ["-1", "1000001", "1.5", "null"] {
            let said = release_body(format!("{{\"remaining\":{body}}}").as_bytes()).unwrap_err();
            assert!(said.starts_with("remaining: "), "{body}: {said}");
        }
        for body in ["", "{}", "[1]", "1", "{\"seconds\":1,\"remaining\":1}"] {
            assert!(
                extension_body(body.as_bytes()).is_err() && release_body(body.as_bytes()).is_err(),
                "{body}"
            );
        }
    }

    #[test]
    fn reads_whose_a_booking_is_to_be_and_takes_nothing_for_nobody_that_does_not_say_so() {
        let buyer = BuyerId::parse("a+b@c.example").unwrap();
        assert_eq!(owner_body(br#"{"buyer":"a+b\u0040c.example"}"#), Ok(Some(buyer)));
        assert_eq!(owner_body(br#"{"buyer":null}"#), Ok(None));
        for body in ["", "{}", "null", "[null]", "{\"buyer\":7}", "{\"buyer\":\"a\",\"quantity\":1}"] {
            assert!(owner_body(body.as_bytes()).is_err(), "{body}");
        }
        assert!(owner_body(br#"{"buyer":""}"#).unwrap_err().starts_with("buyer: is empty"));
    }

    #[test]
    fn a_tombstone_is_asked_for_by_one_word() {
        for (query, asked) in [
            (None, false),
            (Some(""), false),
            (Some("tombstone=false"), false),
            (Some("tombstone=true"), true),
            (Some("a=b&tombstone=true&c"), true),
            (Some("tombstones=true"), false),
        ] {
            assert_eq!(tombstone(query), Ok(asked), "{query:?}");
        }
        for query in
            ["tombstone", "tombstone=", "tombstone=1", "tombstone=TRUE", "tombstone=true&tombstone=true"]
        {
            assert!(tombstone(Some(query)).unwrap_err().starts_with("tombstone: "), "{query}");
        }
    }

    #[test]
    fn reads_keys_bare_and_quoted() {
        let key = BookingId::parse("k-1").unwrap();
        assert_eq!(idempotency_key(b"k-1"), Ok(key));
        assert_eq!(idempotency_key(b"\"k-1\""), Ok(key));
        for bad in [&b""[..], b"\"\"", b"\"k", b"k 1", b"k\"1"] {
            assert!(idempotency_key(bad).unwrap_err().starts_with("Idempotency-Key: "), "{bad:?}");
        }
        assert!(idempotency_key(b"\"k-1\";a=1").unwrap_err().contains("parameters are not supported"));
        // A key is an id, and a buyer's signs are not an id's.
        assert!(idempotency_key(b"a@b").unwrap_err().ends_with("that is not one of A-Z a-z 0-9 . _ -"));
    }
}
