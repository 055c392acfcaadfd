//! The domain's words to bodies and status codes. Bodies are written into a scratch buffer that the core reuses, so
//! that no answer allocates.

use arrayvec::ArrayString;

use super::sale::push_sale;
use super::{Problem, push};
use crate::booking::{Booking, BookingStatus, LogEntry, OffSale, Outcome, Refusal, SaleState};
use crate::connection::{Answered, Reply};
use crate::http::Status;
use crate::http::encode::{Caching, Field, Response};
use crate::limits;
use crate::outcome_label::OutcomeLabel;

/// Media type of everything but problems.
pub const JSON: &str = "application/json";
/// Media type of problems (RFC 9457 section 3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of a refused `/buy`, as its users compare it.
pub const BUY_SOLD_OUT: &[u8] = br#"{"code":-1,"msg":"Sold out"}"#;

/// The detail of an unknown outcome if asking again with the same id is of no use.
const UNKNOWN_OF_MADE_ID: &str = "The ledger did not answer in time, so the booking may or may not have been made. The \
     server generated its id, and will cancel it as soon as the ledger answers: send a new request. With an id of your own \
     you could repeat the request.";

/// How a request wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseStyle {
    /// By `/buy`: the bodies of ab and curl.
    Buy,
    /// For a new booking.
    Book,
    /// The same, if the id has none yet (`If-None-Match: *`).
    BookNew,
    /// The same, if the id has one (`If-Match: *`): it is looked up, and compared.
    BookAgain,
    /// To look up, confirm or cancel.
    Existing,
    /// To confirm or cancel under a condition that no booking meets: it is looked up alone.
    ExistingUnmet,
}

impl ResponseStyle {
    /// Whether that outcome says that the request's precondition is false; nothing was changed then.
    fn is_unmet_by(self, outcome: &Outcome) -> bool {
        matches!(
            (self, outcome),
            (ResponseStyle::BookNew, Outcome::Replayed(_) | Outcome::Refused(Refusal::IdReused))
                | (ResponseStyle::BookAgain, Outcome::Refused(Refusal::NoSuchBooking))
                | (ResponseStyle::ExistingUnmet, Outcome::Found(_))
        )
    }
}

/// The same for plain strings, on the hot path: formatting them would cost ten times as much.
fn join(scratch: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        scratch.extend_from_slice(part.as_bytes());
    }
}

/// Appends `text` as a JSON string.
pub fn push_string(scratch: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(scratch, text).expect("a Vec takes every byte");
}

/// Appends a booking as JSON.
pub fn push_booking(scratch: &mut Vec<u8>, sale: &str, booking: &Booking) {
    let mut quantity = itoa::Buffer::new();
    let (id, status, quantity) =
        (booking.id.as_str(), booking.status.word(), quantity.format(booking.quantity.get()));
    join(
        scratch,
        &[
            r#"{"booking":""#,
            id,
            r#"","sale":""#,
            sale,
            r#"","status":""#,
            status,
            r#"","quantity":"#,
            quantity,
        ],
    );
    if let Some(buyer) = &booking.buyer {
        join(scratch, &[r#","buyer":""#, buyer.as_str(), "\""]);
    }
    if let BookingStatus::Held { expires_at } = booking.status {
        push(scratch, format_args!(r#","expires_at":"{expires_at}""#));
    }
    scratch.push(b'}');
}

/// Appends an entry of a sale's log as JSON.
pub fn push_log_entry(scratch: &mut Vec<u8>, entry: &LogEntry) {
    let LogEntry { sequence, at, booking } = entry;
    let (id, status, quantity) = (booking.id, booking.status.word(), booking.quantity.get());
    push(
        scratch,
        format_args!(
            r#"{{"sequence":{sequence},"at":"{at}","booking":"{id}","status":"{status}","quantity":{quantity}"#
        ),
    );
    if let Some(buyer) = &booking.buyer {
        join(scratch, &[r#","buyer":""#, buyer.as_str(), "\""]);
    }
    if let BookingStatus::Held { expires_at } = booking.status {
        push(scratch, format_args!(r#","expires_at":"{expires_at}""#));
    }
    scratch.push(b'}');
}

/// The status that an outcome is answered with.
pub fn status_of(style: ResponseStyle, outcome: &Outcome) -> Status {
    match outcome {
        outcome if style.is_unmet_by(outcome) => Status::PreconditionFailed,
        Outcome::Refused(Refusal::SoldOut) if style == ResponseStyle::Buy => Status::Ok,
        Outcome::Refused(refusal) => Problem::of(*refusal).status(),
        Outcome::Granted(_) if matches!(style, ResponseStyle::Book | ResponseStyle::BookNew) => {
            Status::Created
        }
        _ => Status::Ok,
    }
}

/// What an outcome is counted as.
pub fn label_of(style: ResponseStyle, outcome: &Outcome) -> OutcomeLabel {
    if style.is_unmet_by(outcome) { OutcomeLabel::PreconditionFailed } else { OutcomeLabel::of(outcome) }
}

/// Which occurrence of a problem this is: the path asked for, or of the booking in question.
#[derive(Clone, Copy, Debug)]
pub enum Instance<'a> {
    /// A path as it was asked for.
    Path(&'a str),
    /// A booking of a sale.
    Booking(&'a str, &'a str),
    /// Nothing that has a path.
    None,
}

/// Answers with a problem (RFC 9457). `detail` says what is wrong this time; without it the problem's explanation does.
pub fn problem(
    reply: Reply<'_>,
    scratch: &mut Vec<u8>,
    status: Status,
    problem: Problem,
    detail: Option<&str>,
    instance: Instance<'_>,
    more: &[Field<'_>],
) -> Answered {
    write_problem(scratch, status, problem, detail, instance);
    send_problem(reply, scratch, status, problem, more)
}

/// Puts such a document in the place of what is in `out`.
pub fn write_problem(
    out: &mut Vec<u8>,
    status: Status,
    problem: Problem,
    detail: Option<&str>,
    instance: Instance<'_>,
) {
    begin_problem(out, status, problem, detail, instance);
    out.push(b'}');
}

fn begin_problem(
    scratch: &mut Vec<u8>,
    status: Status,
    problem: Problem,
    detail: Option<&str>,
    instance: Instance<'_>,
) {
    scratch.clear();
    let Problem { name, title, explanation, .. } = problem;
    let mut code = itoa::Buffer::new();
    let code = code.format(status.code());
    join(
        scratch,
        &[r#"{"type":"/problems/"#, name, r#"","title":""#, title, r#"","status":"#, code, r#","detail":"#],
    );
    match detail {
        Some(detail) => push_string(scratch, detail),
        None => join(scratch, &["\"", explanation, "\""]),
    }
    match instance {
        Instance::Path(path) => {
            scratch.extend_from_slice(br#","instance":"#);
            push_string(scratch, path);
        }
        Instance::Booking(sale, id) => {
            join(scratch, &[r#","instance":"/v1/sales/"#, sale, "/bookings/", id, "\""]);
        }
        Instance::None => {}
    }
}

fn send_problem(
    reply: Reply<'_>,
    scratch: &[u8],
    status: Status,
    problem: Problem,
    more: &[Field<'_>],
) -> Answered {
    const { assert!(limits::RETRY_AFTER_SECONDS == 1) };
    let retry: &[Field<'_>] = if problem.retry_after() { &[("Retry-After", "1")] } else { &[] };
    // The two never come together: what carries further fields is no 503.
    let fields = if more.is_empty() { retry } else { more };
    let caching = Caching::NoStore;
    reply.send(&Response { status, content_type: PROBLEM_JSON, caching, fields, body: scratch })
}

/// Answers with a refusal of the domain, about the booking `id` of `sale`, or the path asked for.
pub fn refusal(
    reply: Reply<'_>,
    scratch: &mut Vec<u8>,
    style: ResponseStyle,
    refusal: Refusal,
    detail: Option<&str>,
    instance: Instance<'_>,
) -> Answered {
    if style == ResponseStyle::Buy && refusal == Refusal::SoldOut {
        return reply.send(&Response {
            status: Status::Ok,
            content_type: JSON,
            caching: Caching::NoStore,
            fields: &[],
            body: BUY_SOLD_OUT,
        });
    }
    let problem = match style.is_unmet_by(&Outcome::Refused(refusal)) {
        true => Problem::PRECONDITION_FAILED,
        false => Problem::of(refusal),
    };
    let status = problem.status();
    begin_problem(scratch, status, problem, detail.or_else(|| detail_of(refusal)), instance);
    if let Refusal::NotOnSale(OffSale::NotYet { starts_at }) = refusal {
        push(scratch, format_args!(r#","starts_at":"{starts_at}""#));
    }
    // Problems are compared by their texts, and most refusals have another status.
    if let Instance::Booking(_, id) = instance
        && status == Status::ServiceUnavailable
        && matches!(problem, Problem::OUTCOME_UNKNOWN | Problem::LEDGER_UNAVAILABLE)
    {
        push(scratch, format_args!(r#","booking":"{id}""#));
    }
    scratch.push(b'}');
    send_problem(reply, scratch, status, problem, &[])
}

/// Which of a problem's reasons it is, if it has several.
fn detail_of(refusal: Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::NotOnSale(OffSale::NotYet { .. }) => {
            "The sale has not started yet; starts_at says when it does."
        }
        Refusal::NotOnSale(OffSale::Over { .. }) => "The sale is over.",
        Refusal::NotOnSale(OffSale::Paused) => "The sale is paused and may resume.",
        Refusal::NotOnSale(OffSale::Closed) => "The sale is closed.",
        Refusal::LedgerRefuses => {
            "The ledger, which has the last word on every ticket, refuses writes at the moment. Nothing was done. Try \
             again after Retry-After."
        }
        Refusal::SaleMissing => {
            "The ledger no longer has this sale. Nothing was done. An operator has to fix this first."
        }
        Refusal::SaleUnsound => {
            "The ledger's record of this sale is not sound. Nothing was done. An operator has to fix this first."
        }
        Refusal::SaleFrozen => {
            "The ledger forgot some of this sale's bookings, and hosts are putting back what they acknowledged. Nothing \
             was done. Try again after Retry-After."
        }
        _ => return None,
    })
}

/// Which booking an outcome is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Its sale.
    pub sale: &'a str,
    /// Its id.
    pub id: &'a str,
    /// Whether the server made the id.
    pub made_here: bool,
}

/// 200 with that JSON, which nobody may keep.
fn done(reply: Reply<'_>, body: &[u8]) -> Answered {
    reply.send(&Response {
        status: Status::Ok,
        content_type: JSON,
        caching: Caching::NoStore,
        fields: &[],
        body,
    })
}

/// Answers a request that asked the ledger.
pub fn outcome(
    reply: Reply<'_>,
    scratch: &mut Vec<u8>,
    style: ResponseStyle,
    about: About<'_>,
    outcome: &Outcome,
) -> Answered {
    let About { sale, id, made_here } = about;
    let booking = match outcome {
        Outcome::Refused(reason) => {
            let detail = (made_here && *reason == Refusal::OutcomeUnknown).then_some(UNKNOWN_OF_MADE_ID);
            return refusal(reply, scratch, style, *reason, detail, Instance::Booking(sale, id));
        }
        Outcome::Tombstoned(id) => {
            scratch.clear();
            // As a booking, without tickets.
            join(
                scratch,
                &[r#"{"booking":""#, id.as_str(), r#"","sale":""#, sale, r#"","status":"cancelled"}"#],
            );
            return done(reply, scratch);
        }
        Outcome::Granted(booking)
        | Outcome::Replayed(booking)
        | Outcome::Found(booking)
        | Outcome::Confirmed(booking)
        | Outcome::Cancelled(booking)
        | Outcome::Extended(booking)
        | Outcome::Released(booking)
        | Outcome::HeldAgain(booking) => booking,
    };
    if style.is_unmet_by(outcome) {
        let unmet = Problem::PRECONDITION_FAILED;
        let instance = Instance::Booking(sale, id);
        return problem(reply, scratch, unmet.status(), unmet, None, instance, &[]);
    }
    scratch.clear();
    if style == ResponseStyle::Buy {
        let before = r#"{"code":1,"msg":"Ticket purchase successful","data":{"booking":""#;
        join(scratch, &[before, booking.id.as_str(), "\""]);
        // A buyer must pay in time: a sale without hold says no more than its load generators count.
        if let BookingStatus::Held { expires_at } = booking.status {
            push(scratch, format_args!(r#","status":"held","expires_at":"{expires_at}""#));
        }
        join(scratch, &["}}"]);
        return done(reply, scratch);
    }
    if !matches!(outcome, Outcome::Granted(_)) {
        push_booking(scratch, sale, booking);
        let replayed: &[Field<'_>] = match outcome {
            Outcome::Replayed(_) => &[("Idempotency-Replayed", "true")],
            _ => &[],
        };
        return reply.send(&Response {
            status: Status::Ok,
            content_type: JSON,
            caching: Caching::NoStore,
            fields: replayed,
            body: scratch,
        });
    }
    let mut location = ArrayString::<{ 2 * limits::IDENTIFIER_BYTES_MAX + 24 }>::new();
    for part in ["/v1/sales/", sale, "/bookings/", id] {
        location.push_str(part);
    }
    push_booking(scratch, sale, booking);
    reply.send(&Response {
        status: Status::Created,
        content_type: JSON,
        caching: Caching::NoStore,
        fields: &[("Location", &location)],
        body: scratch,
    })
}

/// What caches may give to anybody.
fn send_kept(reply: Reply<'_>, caching: Caching, body: &[u8]) -> Answered {
    reply.send(&Response { status: Status::Ok, content_type: JSON, caching, fields: &[], body })
}

/// Answers with a sale's level.
pub fn sale(reply: Reply<'_>, scratch: &mut Vec<u8>, name: &str, state: &SaleState) -> Answered {
    scratch.clear();
    push_sale(scratch, name, state);
    send_kept(reply, Caching::Second, scratch)
}

/// Appends the page of a problem type as JSON.
pub fn push_problem_page(scratch: &mut Vec<u8>, problem: Problem) {
    let Problem { name, title, explanation, .. } = problem;
    let status = problem.status().code();
    push(
        scratch,
        format_args!(
            r#"{{"type":"/problems/{name}","title":"{title}","status":{status},"explanation":"{explanation}"}}"#
        ),
    );
}

/// Answers with the page of a problem type.
pub fn problem_page(reply: Reply<'_>, scratch: &mut Vec<u8>, problem: Problem) -> Answered {
    scratch.clear();
    push_problem_page(scratch, problem);
    send_kept(reply, Caching::Day, scratch)
}
