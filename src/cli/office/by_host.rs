//! Commands that ask a host by its admin listener.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Document, Office, TotalChange, Trimming};
use crate::booking::{BookingId, BuyerId, SaleChange, SaleName, SaleStatus, SaleTerms};
use crate::cli::CommandError;
use crate::client::{AskHost, HostAnswer, HostError, HostRequest};
use crate::clock::WallTime;
use crate::support::SupportDeed;

/// Asks a host.
pub struct HostOffice<'a> {
    host: &'a mut dyn AskHost,
}

/// What is in a problem document (RFC 9457).
#[derive(Deserialize)]
struct ProblemShown {
    r#type: String,
    title: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct SalesShown<'d> {
    #[serde(borrow)]
    sales: Vec<&'d RawValue>,
}

#[derive(Deserialize)]
struct BookingsShown<'d> {
    #[serde(borrow)]
    bookings: Vec<&'d RawValue>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct LogShown<'d> {
    #[serde(borrow)]
    entries: Vec<&'d RawValue>,
}

#[derive(Deserialize)]
struct Sequence {
    sequence: u64,
}

impl<'a> HostOffice<'a> {
    /// Of that host.
    pub fn new(host: &'a mut dyn AskHost) -> HostOffice<'a> {
        HostOffice { host }
    }

    /// The body of an answer that does not refuse.
    fn ask(&mut self, sale: Option<SaleName>, request: &HostRequest) -> Result<String, CommandError> {
        let answer = self.host.ask(request)?;
        match answer.status {
            200..=299 => Ok(answer.body),
            _ => Err(refusal(self.host.address(), sale, &answer)),
        }
    }

    fn one(&mut self, sale: SaleName, request: &HostRequest) -> Result<Document, CommandError> {
        let body = self.ask(Some(sale), request)?;
        self.parsed::<&RawValue>(&body).map(|value| value.get().to_owned())
    }

    /// The same under a condition, and what it is if that is not met.
    fn one_if(
        &mut self,
        sale: SaleName,
        request: &HostRequest,
        unmet: impl FnOnce() -> CommandError,
    ) -> Result<Document, CommandError> {
        let answer = self.host.ask(request)?;
        match answer.status {
            412 => Err(unmet()),
            200..=299 => self.parsed::<&RawValue>(&answer.body).map(|value| value.get().to_owned()),
            _ => Err(refusal(self.host.address(), Some(sale), &answer)),
        }
    }

    fn parsed<'d, T: Deserialize<'d>>(&self, body: &'d str) -> Result<T, CommandError> {
        serde_json::from_str(body).map_err(|error| {
            let address = self.host.address().to_owned();
            HostError::Garbled { address, what: error.to_string() }.into()
        })
    }
}

/// Why a host refused.
pub(in crate::cli) fn refusal(address: &str, sale: Option<SaleName>, answer: &HostAnswer) -> CommandError {
    let Ok(problem) = serde_json::from_str::<ProblemShown>(&answer.body) else {
        let what = format!("status {} without a problem document", answer.status);
        return HostError::Garbled { address: address.to_owned(), what }.into();
    };
    match (problem.r#type.trim_start_matches("/problems/"), sale) {
        ("no-such-sale", Some(sale)) => CommandError::NoSuchSale(sale, None),
        ("unauthorized", _) => CommandError::Unauthorized,
        ("no-such-path" | "method-not-allowed", _) => CommandError::Unexpected(format!(
            "the host at {address} does not know this call: is it of another version?"
        )),
        _ => CommandError::Problem { title: problem.title, detail: problem.detail },
    }
}

fn path(sale: SaleName) -> String {
    format!("/v1/sales/{sale}")
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// The body of a change, as the listener reads it: what is left out stays, `null` ends a term.
fn body(change: &SaleChange, by: Option<TotalChange>) -> String {
    let time = |time: WallTime| time.to_string();
    let mut fields = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    set("total", change.total.map(Value::from));
    set("total_change", by.map(Value::from));
    set("hold_seconds", change.hold_ms.map(|ms| json!(ms.map(seconds))));
    set("hold_max_seconds", change.hold_max_ms.map(|ms| json!(ms.map(seconds))));
    set("per_buyer", change.per_buyer.map(|tickets| json!(tickets)));
    set("starts_at", change.starts_at.map(|at| json!(at.map(time))));
    set("ends_at", change.ends_at.map(|at| json!(at.map(time))));
    set("buyer_required", change.buyer_required.map(Value::from));
    Value::Object(fields).to_string()
}

impl Office for HostOffice<'_> {
    fn hosts(&mut self) -> Result<Document, CommandError> {
        let body = self.ask(None, &HostRequest::new("GET", "/v1/hosts"))?;
        self.parsed::<&RawValue>(&body).map(|value| value.get().to_owned())
    }

    fn sales(&mut self) -> Result<Vec<Document>, CommandError> {
        let body = self.ask(None, &HostRequest::new("GET", "/v1/sales"))?;
        let SalesShown { sales } = self.parsed(&body)?;
        Ok(sales.into_iter().map(|sale| sale.get().to_owned()).collect())
    }

    fn sale(&mut self, sale: SaleName) -> Result<Document, CommandError> {
        self.one(sale, &HostRequest::new("GET", path(sale)))
    }

    fn open(&mut self, sale: SaleName, terms: SaleTerms) -> Result<Document, CommandError> {
        let SaleTerms { total, hold_ms, hold_max_ms, per_buyer, starts_at, ends_at, buyer_required } = terms;
        let change = SaleChange {
            total: Some(total),
            hold_ms: hold_ms.map(Some),
            hold_max_ms: hold_max_ms.map(Some),
            per_buyer: per_buyer.map(Some),
            starts_at: starts_at.map(Some),
            ends_at: ends_at.map(Some),
            buyer_required: Some(buyer_required),
            ..SaleChange::default()
        };
        let request = HostRequest {
            condition: Some("If-None-Match: *"),
            body: Some(body(&change, None)),
            ..HostRequest::new("PUT", path(sale))
        };
        self.one_if(sale, &request, || CommandError::SaleExists(sale))
    }

    fn change(
        &mut self,
        sale: SaleName,
        change: SaleChange,
        by: Option<TotalChange>,
    ) -> Result<Document, CommandError> {
        let request = match change.status {
            Some(status) => {
                let word = match status {
                    SaleStatus::Open => "resume",
                    SaleStatus::Paused => "pause",
                    SaleStatus::Closed => "close",
                };
                HostRequest::new("POST", format!("{}/{word}", path(sale)))
            }
            // Without the condition it would open a sale that is not there.
            None => HostRequest {
                condition: Some("If-Match: *"),
                body: Some(body(&change, by)),
                ..HostRequest::new("PUT", path(sale))
            },
        };
        self.one_if(sale, &request, || CommandError::NoSuchSale(sale, None))
    }

    fn what_remove_would_take(&mut self, sale: SaleName) -> Result<String, CommandError> {
        match self.sale(sale) {
            Ok(document) => {
                let shown: super::SaleShown = super::read(&document)?;
                let (sold, held) = (shown.sold.unwrap_or(0), shown.held.unwrap_or(0));
                Ok(format!("{sold} tickets sold, {held} held"))
            }
            Err(CommandError::NoSuchSale(..)) => Ok("what is left of it".to_owned()),
            // Not sound: it can be removed all the same.
            Err(CommandError::Problem { detail, .. }) => Ok(detail),
            Err(error) => Err(error),
        }
    }

    fn remove(&mut self, sale: SaleName) -> Result<(), CommandError> {
        self.ask(Some(sale), &HostRequest::new("DELETE", path(sale))).map(drop)
    }

    fn log(&mut self, sale: SaleName, after: u64) -> Result<Vec<(u64, Document)>, CommandError> {
        let request = HostRequest::new("GET", format!("{}/log?after={after}", path(sale)));
        let body = self.ask(Some(sale), &request)?;
        let LogShown { entries } = self.parsed(&body)?;
        let told = entries.into_iter().map(|entry| {
            let Sequence { sequence } = self.parsed(entry.get())?;
            Ok((sequence, entry.get().to_owned()))
        });
        told.collect()
    }

    fn trim(&mut self, _: SaleName) -> Result<Trimming, CommandError> {
        Err(CommandError::ByLedgerAlone("boxoffice sale trim"))
    }

    fn support(
        &mut self,
        sale: SaleName,
        id: BookingId,
        deed: &SupportDeed,
    ) -> Result<Document, CommandError> {
        let at = format!("{}/bookings/{id}", path(sale));
        let request = match deed {
            SupportDeed::Show => HostRequest::new("GET", at),
            SupportDeed::Confirm => HostRequest::new("POST", format!("{at}/confirm")),
            SupportDeed::Cancel => HostRequest::new("DELETE", at),
            SupportDeed::Extend { ms } => HostRequest {
                body: Some(json!({ "seconds": ms / 1000 }).to_string()),
                ..HostRequest::new("POST", format!("{at}/extend"))
            },
            SupportDeed::Give(buyer) => HostRequest {
                body: Some(json!({ "buyer": buyer.as_ref().map(|buyer| buyer.as_str()) }).to_string()),
                ..HostRequest::new("PUT", format!("{at}/buyer"))
            },
        };
        self.one(sale, &request)
    }

    fn bookings_of(&mut self, sale: SaleName, buyer: BuyerId) -> Result<(Vec<Document>, bool), CommandError> {
        let buyer = utf8_percent_encode(buyer.as_str(), NON_ALPHANUMERIC);
        let request = HostRequest::new("GET", format!("{}/bookings?buyer={buyer}", path(sale)));
        let body = self.ask(Some(sale), &request)?;
        let BookingsShown { bookings, more } = self.parsed(&body)?;
        Ok((bookings.into_iter().map(|booking| booking.get().to_owned()).collect(), more))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ledger::for_tests::name;

    /// A host that gives this answer, and what it was asked.
    struct Answers {
        status: u16,
        body: &'static str,
        asked: Vec<HostRequest>,
    }

    impl AskHost for Answers {
        fn ask(&mut self, request: &HostRequest) -> Result<HostAnswer, HostError> {
            self.asked.push(request.clone());
            Ok(HostAnswer { status: self.status, body: self.body.to_owned() })
        }

        fn events(
            &mut self,
            request: &HostRequest,
            _: &mut dyn FnMut(&str, &str) -> bool,
        ) -> Result<HostAnswer, HostError> {
            self.ask(request)
        }

        fn address(&self) -> &str {
            "host:1"
        }
    }

    fn said(status: u16, body: &'static str) -> String {
        let mut host = Answers { status, body, asked: Vec::new() };
        let change = SaleChange { total: Some(5), ..SaleChange::default() };
        HostOffice::new(&mut host).change(name("ticket"), change, None).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_says_what_to_do_and_what_is_no_answer_is_none() {
        const LOW: &str = r#"{"type":"/problems/total-too-low","title":"Total too low","status":409,"detail":"7 are sold."}"#;
        assert_eq!(said(409, LOW), "Total too low: 7 are sold.");
        assert!(said(412, "{}").contains("no sale \"ticket\""), "a change opens nothing");
        let unauthorized =
            said(401, r#"{"type":"/problems/unauthorized","title":"Unauthorized","status":401}"#);
        assert!(unauthorized.contains("--admin-token-file"), "{unauthorized}");
        let other = said(404, r#"{"type":"/problems/no-such-path","title":"No such path","status":404}"#);
        assert!(other.contains("another version"), "{other}");
        for (status, body) in [(200, "{"), (200, ""), (404, "<html>not here</html>"), (302, "")] {
            assert!(said(status, body).contains("does not answer as a host"), "{body}");
        }
    }

    #[test]
    fn a_change_says_what_changes_and_no_more() {
        let mut host = Answers { status: 200, body: "{}", asked: Vec::new() };
        let mut office = HostOffice::new(&mut host);
        let change =
            SaleChange { hold_ms: Some(Some(1_500)), per_buyer: Some(None), ..SaleChange::default() };
        office.change(name("a"), change, Some(-5)).unwrap();
        let terms = SaleTerms { total: 7, ends_at: Some(WallTime(1_000)), ..SaleTerms::default() };
        office.open(name("a"), terms).unwrap();
        office
            .change(name("a"), SaleChange { status: Some(SaleStatus::Closed), ..SaleChange::default() }, None)
            .unwrap();
        office.bookings_of(name("a"), BuyerId::parse("a+b@c").unwrap()).unwrap_err();
        let asked: Vec<_> = host
            .asked
            .iter()
            .map(|it| {
                format!(
                    "{} {} {:?} {}",
                    it.method,
                    it.target,
                    it.condition,
                    it.body.as_deref().unwrap_or("-")
                )
            })
            .collect();
        assert_eq!(
            asked,
            [
                r#"PUT /v1/sales/a Some("If-Match: *") {"hold_seconds":1.5,"per_buyer":null,"total_change":-5}"#,
                r#"PUT /v1/sales/a Some("If-None-Match: *") {"buyer_required":false,"ends_at":"1970-01-01T00:00:01.000Z","total":7}"#,
                "POST /v1/sales/a/close None -",
                "GET /v1/sales/a/bookings?buyer=a%2Bb%40c None -",
            ]
        );
    }
}
