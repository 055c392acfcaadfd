//! Sales as operators write and read them in JSON.

use std::io::Write;

use serde::{Deserialize, Deserializer};

use crate::api::decode::{self, Whole};
use crate::booking::{SaleChange, SaleName, SaleState, SaleTerms, TermsError};
use crate::clock::{TimeError, WallTime};
use crate::limits;

/// The body of `PUT /v1/sales/{sale}`: a field that is left out is unchanged, `null` removes the term.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleBody {
    total: Option<Whole>,
    /// By how much the total rises, or falls.
    total_change: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    hold_seconds: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    hold_max_seconds: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    per_buyer: Option<Option<Whole>>,
    #[serde(default, deserialize_with = "given")]
    starts_at: Option<Option<Time>>,
    #[serde(default, deserialize_with = "given")]
    ends_at: Option<Option<Time>>,
    #[serde(default, deserialize_with = "given")]
    buyer_required: Option<Option<bool>>,
}

/// RFC 3339.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Time(WallTime);

impl TryFrom<String> for Time {
    type Error = String;
    fn try_from(text: String) -> Result<Time, String> {
        text.parse().map(Time).map_err(|error: TimeError| format!("{text:?} {error}"))
    }
}

/// Tells `null` from a field that is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

impl SaleBody {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// A sentence for people that names the field and what it takes.
    pub fn read(body: &[u8]) -> Result<SaleBody, String> {
        let read: SaleBody = decode::from_json(body)?;
        for (name, span) in [("hold_seconds", read.hold_seconds), ("hold_max_seconds", read.hold_max_seconds)]
        {
            if let Some(Some(seconds)) = span
                && !(0.001..=2_592_000.0).contains(&seconds)
            {
                return Err(format!(
                    "{name}: {seconds} is out of range; it takes 0.001 to 2592000 (30 days)"
                ));
            }
        }
        if let Some(change) = read.total_change {
            if read.total.is_some() {
                return Err("total_change: cannot be combined with total; send one of them".to_owned());
            }
            if change.fract() != 0.0 || change.abs() > limits::STOCK_MAX as f64 {
                return Err(format!(
                    "total_change: {change} is out of range; it takes a whole number from -{0} to {0}",
                    limits::STOCK_MAX
                ));
            }
        }
        let sketch = SaleTerms { total: read.total.map_or(0, |total| total.0), ..read.terms_with(0) };
        sketch.check().map_err(in_its_own_words)?;
        Ok(read)
    }

    /// The terms of a new sale.
    ///
    /// # Errors
    /// If the total is left out, or is a change of one that is not there.
    pub fn terms(&self) -> Result<SaleTerms, String> {
        if self.total_change.is_some() {
            return Err("total_change: there is no such sale; a new one needs its total".to_owned());
        }
        let total = self.total.ok_or("total: is missing; a new sale needs its number of tickets")?;
        Ok(self.terms_with(total.0))
    }

    fn terms_with(&self, total: u64) -> SaleTerms {
        SaleTerms {
            total,
            hold_ms: in_ms(self.hold_seconds).flatten(),
            hold_max_ms: in_ms(self.hold_max_seconds).flatten(),
            per_buyer: self.per_buyer().flatten(),
            starts_at: self.starts_at.flatten().map(|time| time.0),
            ends_at: self.ends_at.flatten().map(|time| time.0),
            buyer_required: self.buyer_required.flatten().unwrap_or_default(),
        }
    }

    fn per_buyer(&self) -> Option<Option<u32>> {
        // What does not fit is out of range all the same.
        self.per_buyer.map(|limit| limit.map(|Whole(tickets)| u32::try_from(tickets).unwrap_or(u32::MAX)))
    }

    /// Whether what is asked for depends on how the sale is.
    pub fn is_relative(&self) -> bool {
        self.total_change.is_some()
    }

    /// The change of a sale that is as `state` says, and no longer so: of that version alone.
    ///
    /// # Errors
    /// How many tickets too many or too few the total would have.
    pub fn change_of(&self, state: &SaleState) -> Result<SaleChange, TotalError> {
        let total = match self.total_change {
            None => self.total.map(|total| total.0),
            // Checked to be whole and small.
            Some(change) => {
                let total = state.terms.total.checked_add_signed(change as i64).ok_or(TotalError::TooLow)?;
                Some(total)
                    .filter(|total| *total <= limits::STOCK_MAX)
                    .map(Some)
                    .ok_or(TotalError::TooHigh)?
            }
        };
        Ok(SaleChange { total, if_version: Some(state.version), ..self.change() })
    }

    /// The change of a sale that exists, however it is; without one of its total by so many.
    pub fn change(&self) -> SaleChange {
        SaleChange {
            total: self.total.map(|total| total.0),
            hold_ms: in_ms(self.hold_seconds),
            hold_max_ms: in_ms(self.hold_max_seconds),
            per_buyer: self.per_buyer(),
            starts_at: self.starts_at.map(|time| time.map(|time| time.0)),
            ends_at: self.ends_at.map(|time| time.map(|time| time.0)),
            buyer_required: self.buyer_required.map(Option::unwrap_or_default),
            status: None,
            if_version: None,
        }
    }
}

/// Why a total cannot be changed by so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TotalError {
    /// It would be below zero, and thus below held + sold.
    TooLow,
    /// It would be above [`limits::STOCK_MAX`].
    TooHigh,
}

/// Checked to be positive and small; whole milliseconds.
fn in_ms(seconds: Option<Option<f64>>) -> Option<Option<u64>> {
    seconds.map(|span| span.map(|seconds| (seconds * 1000.0).round() as u64))
}

/// The command line calls the terms otherwise.
fn in_its_own_words(error: TermsError) -> String {
    match error {
        TermsError::Total => error.to_string(),
        TermsError::Hold => "hold_seconds: takes 0.001 to 2592000 (30 days)".to_owned(),
        TermsError::HoldMax => "hold_max_seconds: takes 0.001 to 2592000 (30 days)".to_owned(),
        TermsError::PerBuyer => format!("per_buyer: takes 1 to {} tickets", limits::QUANTITY_MAX),
        TermsError::Window => "ends_at: must be later than starts_at".to_owned(),
    }
}

/// Appends a sale that this host knows and the ledger has not.
pub(super) fn push_missing(scratch: &mut Vec<u8>, sale: &SaleName) {
    scratch
        .write_fmt(format_args!(r#"{{"sale":"{sale}","status":"missing"}}"#))
        .expect("a Vec takes every byte");
}

/// Appends a sale that was removed.
pub(super) fn push_removed(scratch: &mut Vec<u8>, sale: &SaleName) {
    scratch
        .write_fmt(format_args!(r#"{{"sale":"{sale}","status":"removed"}}"#))
        .expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_null_from_left_out() {
        let body = SaleBody::read(br#"{"total":5,"hold_seconds":2.5,"hold_max_seconds":9,"per_buyer":null}"#)
            .unwrap();
        let change = body.change();
        assert_eq!(
            (change.total, change.hold_ms, change.per_buyer),
            (Some(5), Some(Some(2_500)), Some(None))
        );
        assert_eq!((change.starts_at, change.ends_at, change.status), (None, None, None));
        let terms = body.terms().unwrap();
        assert_eq!((terms.hold_ms, terms.hold_max_ms), (Some(2_500), Some(9_000)));
    }

    #[test]
    fn a_change_of_the_total_is_of_one_version() {
        let terms = SaleTerms { total: 100, ..SaleTerms::default() };
        let state = SaleState { terms, version: 7, ..SaleState::default() };
        let change = |body: &str| SaleBody::read(body.as_bytes()).unwrap().change_of(&state);
        for (body, total) in [
            (r#"{"total_change":50}"#, Some(150)),
            (r#"{"total_change":-100}"#, Some(0)),
            (r#"{"total_change":0}"#, Some(100)),
            (r#"{"total":5}"#, Some(5)),
            (r#"{"per_buyer":2}"#, None),
        ] {
            let change = change(body).unwrap();
            assert_eq!((change.total, change.if_version), (total, Some(7)), "{body}");
        }
        assert_eq!(change(r#"{"total_change":-101}"#), Err(TotalError::TooLow));
        assert_eq!(change(r#"{"total_change":1000000000000}"#), Err(TotalError::TooHigh));
        assert!(SaleBody::read(br#"{"total_change":5}"#).unwrap().terms().is_err());
    }

    #[test]
    fn names_what_is_wrong() {
        for (body, said) in [
            (r#"{"total":-1}"#, "total: "),
            (r#"{"total":1000000000001}"#, "total: "),
            (r#"{"hold_seconds":0}"#, "hold_seconds: "),
            (r#"{"hold_seconds":1e9}"#, "hold_seconds: "),
            (r#"{"hold_max_seconds":0}"#, "hold_max_seconds: "),
            (r#"{"per_buyer":0}"#, "per_buyer: "),
            (r#"{"per_buyer":4294967297}"#, "per_buyer: "),
            (r#"{"starts_at":"soon"}"#, "starts_at: \"soon\" is not an RFC 3339 time"),
            (r#"{"starts_at":"1969-02-01T09:00:00Z"}"#, "starts_at: \"1969-02-01T09:00:00Z\" is before 1970"),
            (r#"{"ends_at":"2026-02-01T09:00:00"}"#, "ends_at: \"2026-02-01T09:00:00\" has no time zone"),
            (
                r#"{"starts_at":"2026-02-01T09:00:00Z","ends_at":"2026-02-01T09:00:00Z"}"#,
                "ends_at: must be later than starts_at",
            ),
            (r#"{"stock":1}"#, "stock: unknown field"),
            (r#"{"total":1,"total_change":1}"#, "total_change: cannot be combined with total"),
            (r#"{"total_change":1.5}"#, "total_change: 1.5 is out of range"),
            (r#"{"total_change":1000000000001}"#, "total_change: 1000000000001 is out of range"),
            (r#"{"total_change":"+5"}"#, "total_change: "),
            ("", "body: "),
            ("[5,null,null,null,null]", "body: "),
        ] {
            let error = SaleBody::read(body.as_bytes()).expect_err(body);
            assert!(error.starts_with(said), "{body}: {error}");
        }
        let body = br#"{"starts_at":"2026-02-01 10:00:00.5z","ends_at":"2026-02-28t23:59:60-00:00"}"#;
        let change = SaleBody::read(body).unwrap().change();
        let times = (WallTime(1_769_940_000_500), WallTime(1_772_323_200_000));
        assert_eq!((change.starts_at, change.ends_at), (Some(Some(times.0)), Some(Some(times.1))));
        assert!(SaleBody::read(b"{}").unwrap().terms().unwrap_err().starts_with("total: is missing"));
    }
}
