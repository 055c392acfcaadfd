//! The operators' routes.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::caller::Caller;
use super::dashboard::{self, Asset};
use super::error::ApiError;
use super::metrics::{self, TextFormat};
use super::places::Leave;
use super::sales::TotalError;
use super::{Shared, profile, readiness, sales};
use crate::api::encode;
use crate::api::sale::push_sale_with_terms;
use crate::api::{Problem, hosts, openapi};
use crate::booking::{SaleChange, SaleName, SaleState, SaleStatus, SaleTerms};
use crate::http::precondition::{Current, Preconditions};
use crate::http::{Method, Request, Status};
use crate::ledger::Ledger;
use crate::limits;
use crate::protocol::{Answer, Call, CallError, ChangeFault, Opener, SaleOp, SaleResult, with_shares};
use crate::support::SupportDeed;

/// How long a call waits for its turn at the ledger.
const LEDGER_TURN_PATIENCE: Duration = Duration::from_millis(500);

/// Answers the requests of one operator; some of them wait for the ledger.
pub(super) struct Operator<'a> {
    pub(super) shared: &'a Shared,
    pub(super) caller: Caller,
    pub(super) scratch: Vec<u8>,
}

/// A sale as it is now, what was done to it, and how that is answered.
type Changed = (SaleState, &'static str, Status);

/// What is answered.
pub(super) enum Page {
    Json(Status),
    /// A sale, and its version.
    Sale(Status, u64),
    Text(Status, &'static str),
    /// A file of the dashboard.
    Asset(&'static Asset),
}

/// What a request comes to: a page and its bytes, or why there is none.
pub(super) type PageResult = Result<(Page, Vec<u8>), ApiError>;

/// Every path, as in the description of this listener, and the methods that it takes.
const PATHS: &[(&str, &str)] = &[
    ("/", "GET, HEAD"),
    ("/dashboard/{file}", "GET, HEAD"),
    ("/livez", "GET, HEAD"),
    ("/readyz", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
    ("/openapi.json", "GET, HEAD"),
    ("/openapi-admin.json", "GET, HEAD"),
    ("/problems/{name}", "GET, HEAD"),
    ("/v1/sales", "GET, HEAD"),
    ("/v1/sales/{sale}", "GET, HEAD, PUT, DELETE"),
    ("/v1/sales/{sale}/bookings", "GET, HEAD"),
    ("/v1/sales/{sale}/bookings/{id}", "GET, HEAD, DELETE"),
    ("/v1/sales/{sale}/bookings/{id}/confirm", "POST"),
    ("/v1/sales/{sale}/bookings/{id}/extend", "POST"),
    ("/v1/sales/{sale}/bookings/{id}/buyer", "PUT"),
    ("/v1/sales/{sale}/log", "GET, HEAD"),
    ("/v1/sales/{sale}/pause", "POST"),
    ("/v1/sales/{sale}/resume", "POST"),
    ("/v1/sales/{sale}/close", "POST"),
    ("/v1/sales/{sale}/audit", "POST"),
    ("/v1/hosts", "GET, HEAD"),
    ("/v1/events", "GET, HEAD"),
    ("/v1/drain", "POST"),
    ("/debug/profile", "POST"),
];

/// The methods that a path takes; empty if there is no such path.
pub(super) fn allow(path: &str) -> &'static str {
    let is_at = |template: &str| {
        template.split('/').count() == path.split('/').count()
            && template.split('/').zip(path.split('/')).all(|(part, it)| part.starts_with('{') || part == it)
    };
    PATHS.iter().find(|(template, _)| is_at(template)).map_or("", |(_, methods)| methods)
}

impl<'a> Operator<'a> {
    pub(super) fn new(shared: &'a Shared, caller: Caller) -> Operator<'a> {
        Operator { shared, caller, scratch: Vec::new() }
    }

    /// Carries out a request that was [admitted](Operator::admit) before it came to a thread: whether it may be is not asked
    /// again.
    pub(super) fn carry_out_admitted(&mut self, request: &Request<'_>) -> Result<Page, ApiError> {
        let conditions = conditions(request)?;
        self.carry_out(request, conditions)
    }

    /// Whether a request may be carried out, and on which conditions.
    pub(super) fn admit<'r>(&self, request: &Request<'r>) -> Result<Option<Preconditions<'r>>, ApiError> {
        let allow = allow(request.path);
        if allow.is_empty() {
            return Err(Problem::NO_SUCH_PATH.into());
        }
        if !allow.split(", ").any(|method| method == request.method_name) {
            return Err(Problem::METHOD_NOT_ALLOWED.into());
        }
        self.authorize(request)?;
        conditions(request)
    }

    /// Whether what is asked of that path waits, for the ledger or for time to pass. All else is answered from memory.
    pub(super) fn may_wait(&self, path: &str) -> bool {
        asks_the_ledger(path) || path == "/debug/profile"
    }

    /// Leave to ask the ledger, for what needs it.
    pub(super) fn ask_leave(&self, path: &str) -> Result<Option<Leave>, ApiError> {
        if !asks_the_ledger(path) {
            return Ok(None);
        }
        let detail = "Too many operators' requests are waiting for the ledger. Nothing was done.";
        let leave = self.shared.asking.begin();
        leave.map(Some).ok_or_else(|| ApiError::new(Problem::OVERLOADED, detail))
    }

    /// Leave to audit a sale. What it comes to has no state that a condition could be about.
    pub(super) fn ask_to_audit(
        &self,
        sale: SaleName,
        conditions: Option<Preconditions<'_>>,
    ) -> Result<(SaleName, Leave), ApiError> {
        if conditions.is_some_and(|conditions| !conditions.hold(Current::Absent)) {
            return Err(Problem::PRECONDITION_FAILED.into());
        }
        let detail = "An audit is running on this host. Wait for its end, or run `boxoffice audit`.";
        let leave = self.shared.auditing.begin();
        let leave = leave.ok_or_else(|| ApiError::new(Problem::OVERLOADED, detail))?;
        self.told("audits", &sale, "from the start");
        Ok((sale, leave))
    }

    /// Carries out a request that was [admitted](Operator::admit).
    pub(super) fn carry_out(
        &mut self,
        request: &Request<'_>,
        conditions: Option<Preconditions<'_>>,
    ) -> Result<Page, ApiError> {
        let segments: Vec<&str> = request.path.split('/').skip(1).collect();
        match segments.as_slice() {
            [""] | ["dashboard", _] => {
                dashboard::asset(request.path).map(Page::Asset).ok_or_else(|| Problem::NO_SUCH_PATH.into())
            }
            ["livez"] => Ok(self.livez()),
            ["readyz"] => Ok(self.readyz()),
            ["metrics"] => {
                let format = TextFormat::of(request);
                self.scratch.extend_from_slice(metrics::render(self.shared, format).as_bytes());
                Ok(Page::Text(Status::Ok, format.content_type()))
            }
            ["openapi.json"] => Ok(self.describe(openapi::CLIENTS)),
            ["openapi-admin.json"] => Ok(self.describe(openapi::OPERATORS)),
            ["problems", name] => self.explain(name),
            ["v1", "sales"] => Ok(self.list_sales()),
            ["v1", "hosts"] => Ok(self.list_hosts()),
            ["v1", "sales", sale] if request.method == Method::Put => {
                self.put_sale(request, sale, conditions)
            }
            ["v1", "sales", sale] if request.method == Method::Delete => self.remove_sale(sale, conditions),
            ["v1", "sales", sale] => self.show_sale(sale),
            ["v1", "sales", sale, "bookings"] => self.list_bookings(request.query, sale),
            ["v1", "sales", sale, "log"] => self.show_log(request.query, sale),
            ["v1", "sales", sale, "pause"] => self.set_status(sale, SaleStatus::Paused, conditions),
            ["v1", "sales", sale, "resume"] => self.set_status(sale, SaleStatus::Open, conditions),
            ["v1", "sales", sale, "close"] => self.set_status(sale, SaleStatus::Closed, conditions),
            // What else is asked to do something has no state that a condition could be about.
            _ if conditions.as_ref().is_some_and(|conditions| !conditions.hold(Current::Absent)) => {
                Err(Problem::PRECONDITION_FAILED.into())
            }
            ["v1", "sales", sale, "bookings", id] if request.method == Method::Delete => {
                self.do_to_booking(sale, id, &SupportDeed::Cancel)
            }
            ["v1", "sales", sale, "bookings", id] => self.do_to_booking(sale, id, &SupportDeed::Show),
            ["v1", "sales", sale, "bookings", id, "confirm"] => {
                self.do_to_booking(sale, id, &SupportDeed::Confirm)
            }
            ["v1", "sales", sale, "bookings", id, "extend"] => self.extend_booking(request, sale, id),
            ["v1", "sales", sale, "bookings", id, "buyer"] => self.put_buyer(request, sale, id),
            ["v1", "drain"] => Ok(self.drain()),
            ["debug", "profile"] => self.profile(request),
            _ => Err(Problem::NO_SUCH_PATH.into()),
        }
    }

    /// Who may call. The same for every method, since what is read here (names, stock, metrics) is no stranger's business
    /// either:
    ///
    /// - A page of another origin may not: a browser on the operator's machine must not be a way around the loopback address.
    /// - Host names an IP address or `localhost`, or the call carries the token. Any other name may be a stranger's that was
    ///   made to resolve to this machine (DNS rebinding): to a browser that stranger's page is of the host's own origin, and
    ///   reads what it answers. An address and `localhost` cannot be made to resolve, and no page knows the token.
    /// - A call that changes something carries the token, if one is set.
    fn authorize(&self, request: &Request<'_>) -> Result<(), ApiError> {
        let host = request.field("Host").unwrap_or_default();
        if request.field_values("Origin").any(|origin| !is_origin_of(origin, host)) {
            let detail = "The page that made this call has another Origin than Host names.";
            return Err(ApiError::new(Problem::FORBIDDEN, detail));
        }
        let changes = !matches!(request.method, Method::Get | Method::Head);
        match &self.shared.token {
            Some(file) if carries(request, &file.token()) => Ok(()),
            Some(_) if changes => Err(Problem::UNAUTHORIZED.into()),
            _ if is_address(host) => Ok(()),
            Some(_) => {
                let detail = "Without the token, call the host by its IP address or as localhost: any other name may \
                     belong to somebody else.";
                Err(ApiError::new(Problem::UNAUTHORIZED, detail))
            }
            None => {
                let detail = "Call the host by its IP address or as localhost: any other name may belong to somebody else. \
                     With --admin-token-file, a call that carries the token may use any name.";
                Err(ApiError::new(Problem::FORBIDDEN, detail))
            }
        }
    }

    fn text(&mut self, status: Status, line: &str) -> Page {
        self.scratch.extend_from_slice(line.as_bytes());
        self.scratch.push(b'\n');
        Page::Text(status, "text/plain; charset=utf-8")
    }

    fn livez(&mut self) -> Page {
        match readiness::stalled(self.shared) {
            None => self.text(Status::Ok, "ok"),
            Some(line) => self.text(Status::ServiceUnavailable, &line),
        }
    }

    fn readyz(&mut self) -> Page {
        let unable = readiness::unable(self.shared);
        if unable.is_empty() {
            return self.text(Status::Ok, "ready");
        }
        let lines: Vec<String> = unable.into_iter().map(|(_, line)| line).collect();
        self.text(Status::ServiceUnavailable, &lines.join("\n"))
    }

    fn describe(&mut self, description: &str) -> Page {
        self.scratch.extend_from_slice(description.as_bytes());
        Page::Json(Status::Ok)
    }

    fn explain(&mut self, name: &str) -> Result<Page, ApiError> {
        let problem = Problem::find(name).ok_or(Problem::NO_SUCH_PATH)?;
        encode::push_problem_page(&mut self.scratch, problem);
        Ok(Page::Json(Status::Ok))
    }

    fn list_sales(&mut self) -> Page {
        let mut sales: Vec<_> = self.shared.board.directory().sales().cloned().collect();
        sales.sort_unstable_by_key(|sale| *sale.name());
        self.scratch.extend_from_slice(br#"{"sales":["#);
        let mut first = true;
        for sale in sales {
            if !std::mem::take(&mut first) {
                self.scratch.push(b',');
            }
            match sale.level() {
                Some(state) => push_sale_with_terms(&mut self.scratch, sale.name(), &state),
                None => sales::push_missing(&mut self.scratch, sale.name()),
            }
        }
        self.scratch.extend_from_slice(b"]}");
        Page::Json(Status::Ok)
    }

    fn list_hosts(&mut self) -> Page {
        let fleet = self.shared.board.fleet();
        let asked = self.shared.board.card().map(|card| card.id);
        hosts::push_hosts(&mut self.scratch, with_shares(&fleet.hosts).into_iter(), asked);
        Page::Json(Status::Ok)
    }

    fn show_sale(&mut self, sale: &str) -> Result<Page, ApiError> {
        let sale = self.sale_name(sale)?;
        // As of now: a snapshot may have holds in it that are over.
        match self.call(SaleOp::LookUp(Vec::new()).on(sale))? {
            Answer::Sale { state, result: SaleResult::Found(_) } => {
                Ok(self.sale_page(Status::Ok, &sale, &state))
            }
            other => Err(unexpected(&other)),
        }
    }

    fn sale_page(&mut self, status: Status, sale: &SaleName, state: &SaleState) -> Page {
        push_sale_with_terms(&mut self.scratch, sale, state);
        Page::Sale(status, state.version)
    }

    fn put_sale(
        &mut self,
        request: &Request<'_>,
        sale: &str,
        conditions: Option<Preconditions<'_>>,
    ) -> Result<Page, ApiError> {
        let sale = self.sale_name(sale)?;
        if request.is_partial {
            // RFC 9110 section 14.5.
            let detail = "Content-Range: the terms of a sale cannot be sent in parts";
            return Err(ApiError::new(Problem::BAD_REQUEST, detail));
        }
        let body = sales::SaleBody::read(request.body)
            .map_err(|detail| ApiError::new(Problem::BAD_REQUEST, detail))?;
        let (state, what, status) = match conditions {
            None if !body.is_relative() => self.open_or_alter(sale, &body)?,
            conditions => {
                let change = |state: &SaleState| {
                    body.change_of(state).map_err(|error| match error {
                        TotalError::TooLow => ApiError::from(Problem::TOTAL_TOO_LOW),
                        TotalError::TooHigh => {
                            let detail =
                                format!("total_change: the total would be above {}", limits::STOCK_MAX);
                            ApiError::new(Problem::BAD_REQUEST, detail)
                        }
                    })
                };
                self.change_if(sale, conditions.as_ref(), &change, &|| body.terms())?
            }
        };
        self.told(what, &sale, &String::from_utf8_lossy(request.body));
        self.learn(&sale, &state);
        Ok(self.sale_page(status, &sale, &state))
    }

    /// Opening changes nothing if the sale exists, so that of two operators who open it at once one opens it and the other
    /// changes it; each finds what was asked for.
    fn open_or_alter(&self, sale: SaleName, body: &sales::SaleBody) -> Result<Changed, ApiError> {
        let opened = match body.terms() {
            Ok(terms) => match self.call(SaleOp::Open { terms, by: Opener::Operator }.on(sale))? {
                Answer::Sale { state, result: SaleResult::Created } => Some(state),
                _ => None,
            },
            Err(detail) => match self.raw_call(SaleOp::Snapshot.on(sale))? {
                Answer::Missing => return Err(ApiError::new(Problem::BAD_REQUEST, detail)),
                _ => None,
            },
        };
        match opened {
            Some(state) => Ok((state, "opened", Status::Created)),
            None => match self.call(SaleOp::Alter(body.change()).on(sale))? {
                Answer::Sale { state, result: SaleResult::Done } => Ok((state, "altered", Status::Ok)),
                other => Err(unexpected(&other)),
            },
        }
    }

    /// Opens or alters a sale, depending on how it is: it is read, and what follows from that is done to this version alone.
    /// If another operator was faster, all of it is repeated.
    fn change_if(
        &self,
        sale: SaleName,
        conditions: Option<&Preconditions<'_>>,
        change: &dyn Fn(&SaleState) -> Result<SaleChange, ApiError>,
        terms: &dyn Fn() -> Result<SaleTerms, String>,
    ) -> Result<Changed, ApiError> {
        for _ in 0..limits::CHANGE_ATTEMPTS_MAX {
            match self.current(sale, conditions)? {
                None => {
                    let terms = terms().map_err(|detail| ApiError::new(Problem::BAD_REQUEST, detail))?;
                    match self.call(SaleOp::Open { terms, by: Opener::Operator }.on(sale))? {
                        Answer::Sale { state, result: SaleResult::Created } => {
                            return Ok((state, "opened", Status::Created));
                        }
                        Answer::Sale { result: SaleResult::Exists, .. } => {}
                        other => return Err(unexpected(&other)),
                    }
                }
                Some(state) => match self.call(SaleOp::Alter(change(&state)?).on(sale))? {
                    Answer::Sale { state, result: SaleResult::Done } => {
                        return Ok((state, "altered", Status::Ok));
                    }
                    Answer::Sale { result: SaleResult::Refused(ChangeFault::OtherVersion), .. } => {}
                    other => return Err(unexpected(&other)),
                },
            }
        }
        let detail = "Others kept changing the sale at the same time. Nothing was done. Try again.";
        Err(ApiError::new(Problem::LEDGER_UNAVAILABLE, detail))
    }

    /// How the sale is, if the conditions are true of it.
    fn current(
        &self,
        sale: SaleName,
        conditions: Option<&Preconditions<'_>>,
    ) -> Result<Option<SaleState>, ApiError> {
        let state = match self.raw_call(SaleOp::LookUp(Vec::new()).on(sale))? {
            Answer::Sale { state, result: SaleResult::Found(_) } => Some(state),
            Answer::Missing => None,
            other => return Err(unexpected(&other)),
        };
        let version = state.as_ref().map(|state| state.version.to_string());
        let current = version.as_deref().map_or(Current::Absent, Current::Tagged);
        if conditions.is_none_or(|conditions| conditions.hold(current)) {
            return Ok(state);
        }
        let detail = match version {
            Some(version) => format!("The sale is at version {version}. Nothing was changed."),
            None => "There is no such sale. Nothing was changed.".to_owned(),
        };
        Err(ApiError::new(Problem::PRECONDITION_FAILED, detail))
    }

    /// Removing a sale again finds it removed.
    fn remove_sale(&mut self, sale: &str, conditions: Option<Preconditions<'_>>) -> Result<Page, ApiError> {
        let sale = self.sale_name(sale)?;
        // What is removed is closed, and stays so or is not removed: nobody else's change of it is lost by that.
        if conditions.is_some() && self.current(sale, None)?.is_some() {
            self.current(sale, conditions.as_ref())?;
        }
        loop {
            match self.call(SaleOp::Remove.on(sale))? {
                // Others have their turn at the ledger in between.
                Answer::Removed { done: false } => {}
                Answer::Removed { done: true } => break,
                other => return Err(unexpected(&other)),
            }
        }
        self.told("removed", &sale, "with its bookings");
        self.shared.board.mark_missing(sale.as_str());
        self.shared.board.remove(sale.as_str());
        sales::push_removed(&mut self.scratch, &sale);
        Ok(Page::Json(Status::Ok))
    }

    fn set_status(
        &mut self,
        sale: &str,
        status: SaleStatus,
        conditions: Option<Preconditions<'_>>,
    ) -> Result<Page, ApiError> {
        let sale = self.sale_name(sale)?;
        let change = SaleChange { status: Some(status), ..SaleChange::default() };
        let state = match conditions {
            None => match self.call(SaleOp::Alter(change).on(sale))? {
                Answer::Sale { state, result: SaleResult::Done } => state,
                other => return Err(unexpected(&other)),
            },
            // If there is no sale, that is the answer, whatever the condition (RFC 9110 section 13.2.1).
            Some(conditions) => {
                if self.current(sale, None)?.is_none() {
                    return Err(Problem::NO_SUCH_SALE.into());
                }
                let change =
                    |state: &SaleState| Ok(SaleChange { if_version: Some(state.version), ..change.clone() });
                let missing = || Err("there is no such sale".to_owned());
                self.change_if(sale, Some(&conditions), &change, &missing)?.0
            }
        };
        self.told("set", &sale, status.word());
        self.learn(&sale, &state);
        Ok(self.sale_page(Status::Ok, &sale, &state))
    }

    fn drain(&mut self) -> Page {
        tracing::info!(peer = %self.caller, "an operator drains this host");
        self.shared.drain.begin();
        self.scratch.extend_from_slice(br#"{"draining":true}"#);
        Page::Json(Status::Accepted)
    }

    /// Unlike other calls it is refused on a host without a token, which anybody on the machine could ask: it shows what
    /// the process is doing, and takes some of its time.
    fn profile(&mut self, request: &Request<'_>) -> Result<Page, ApiError> {
        if self.shared.token.is_none() {
            return Err(Problem::TOKEN_NEEDED.into());
        }
        let seconds =
            profile::seconds(request.query).map_err(|detail| ApiError::new(Problem::BAD_REQUEST, detail))?;
        tracing::info!(peer = %self.caller, seconds, "an operator profiles this host");
        let (drain, stopping) = (&self.shared.drain, &self.shared.stopping);
        let has_ended = || drain.has_begun() || stopping.load(Ordering::SeqCst);
        profile::take(seconds, &has_ended, &mut self.scratch)?;
        Ok(Page::Text(Status::Ok, profile::CONTENT_TYPE))
    }

    pub(super) fn sale_name(&self, sale: &str) -> Result<SaleName, ApiError> {
        SaleName::parse(sale)
            .map_err(|error| ApiError::new(Problem::BAD_REQUEST, format!("sale in the path: {error}")))
    }

    pub(super) fn learn(&self, sale: &SaleName, state: &crate::booking::SaleState) {
        if let Err(full) = self.shared.board.learn(sale, state) {
            tracing::warn!(%sale, %full, "cannot follow a sale");
        }
    }

    fn told(&self, what: &str, sale: &SaleName, how: &str) {
        tracing::info!(peer = %self.caller, %sale, how, "an operator {what} a sale");
    }

    /// Asks the ledger; a sale that it does not have is the caller's mistake.
    pub(super) fn call(&self, call: Call) -> Result<Answer, ApiError> {
        loop {
            return match self.raw_call(call.clone())? {
                Answer::Missing => Err(Problem::NO_SUCH_SALE.into()),
                Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) } => {
                    let (held, sold) = (state.held, state.sold);
                    let detail = format!(
                        "The total cannot be below the tickets already taken: {held} held and {sold} sold."
                    );
                    Err(ApiError::new(Problem::TOTAL_TOO_LOW, detail))
                }
                Answer::Sale { result: SaleResult::Refused(ChangeFault::NotClosed), .. } => Err(
                    ApiError::new(Problem::SALE_NOT_CLOSED, "Close the sale first; then it can be removed."),
                ),
                Answer::Sale { state, result: SaleResult::Refused(ChangeFault::StillHeld) } => {
                    let detail = format!("{} tickets are held. Wait until the holds have ended.", state.held);
                    Err(ApiError::new(Problem::SALE_NOT_CLOSED, detail))
                }
                Answer::Sale { result: SaleResult::Refused(ChangeFault::EmptyWindow), .. } => {
                    Err(Problem::EMPTY_WINDOW.into())
                }
                // Others have their turn at the ledger in between.
                Answer::Sale { result: SaleResult::Counting, .. } => continue,
                answer => Ok(answer),
            };
        }
    }

    fn raw_call(&self, call: Call) -> Result<Answer, ApiError> {
        let mut ledger = self.ledger()?;
        let answer = ledger.execute(std::slice::from_ref(&call)).pop();
        answer.unwrap_or_else(|| Err(CallError::Garbled("no answer at all".to_owned()))).map_err(|error| {
            match call {
                // Nothing can have come of it.
                Call::Sale { op: SaleOp::Snapshot | SaleOp::Page { .. } | SaleOp::Log { .. }, .. } => {
                    ApiError::new(Problem::LEDGER_UNAVAILABLE, error.to_string())
                }
                _ => error.into(),
            }
        })
    }

    /// One call at a time. With the ledger silent, callers do not queue up behind the one that waits for it.
    fn ledger(&self) -> Result<MutexGuard<'_, Box<dyn Ledger + Send>>, ApiError> {
        let until = Instant::now() + LEDGER_TURN_PATIENCE;
        loop {
            match self.shared.ledger.try_lock() {
                Ok(ledger) => return Ok(ledger),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(LEDGER_TURN_PATIENCE / 500)
                }
                Err(TryLockError::WouldBlock) => {
                    let detail = "Another operator's call is still waiting for the ledger. Nothing was done.";
                    return Err(ApiError::new(Problem::LEDGER_UNAVAILABLE, detail));
                }
            }
        }
    }
}

/// Whether what is asked of that path needs the ledger: all that is about one sale.
fn asks_the_ledger(path: &str) -> bool {
    path.strip_prefix("/v1/sales").is_some_and(|rest| rest.starts_with('/'))
}

/// What a request that changes something depends on. Those that read are answered in any case: the tag of a sale is of its
/// terms, and its counts change without them.
fn conditions<'a>(request: &Request<'a>) -> Result<Option<Preconditions<'a>>, ApiError> {
    match request.is_conditional && !matches!(request.method, Method::Get | Method::Head) {
        false => Ok(None),
        true => match Preconditions::read(request) {
            Ok(conditions) => Ok(Some(conditions)),
            Err(detail) => Err(ApiError::new(Problem::BAD_REQUEST, detail)),
        },
    }
}

/// Whether the request has that token, and no other.
fn carries(request: &Request<'_>, token: &str) -> bool {
    let mut fields = request.field_values("Authorization");
    let given = match (fields.next(), fields.next()) {
        (Some(value), None) => bearer_token(value),
        _ => None,
    };
    // Every byte is compared, so that the time taken does not reveal where the first difference is.
    given.is_some_and(|given| {
        let differences = given.iter().zip(token.as_bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        differences == 0 && given.len() == token.len()
    })
}

/// Whether a Host is an IP address or `localhost`, with a port or without; HTTP/1.0 may have none.
fn is_address(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.is_empty() || bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

/// Whether the value of an Origin (RFC 6454 section 7.1) names that host. Neither scheme nor host has a case.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let Some(colon) = memchr::memmem::find(origin, b"://") else { return false };
    let (scheme, named) = (&origin[..colon], &origin[colon + 3..]);
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    is_http && named.eq_ignore_ascii_case(host)
}

/// The token in the value of an Authorization: a scheme in any case, one or more spaces, the token (RFC 9110 section 11.4).
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer".len())?;
    let token = rest.trim_ascii_start();
    let spaces = &rest[..rest.len() - token.len()];
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && !spaces.is_empty();
    (is_bearer && spaces.iter().all(|byte| *byte == b' ')).then_some(token)
}

pub(super) fn unexpected(answer: &Answer) -> ApiError {
    CallError::Garbled(format!("unexpected kind of answer: {answer:?}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_described_with_its_methods_and_no_other_is() {
        let described = openapi::methods(openapi::OPERATORS);
        let served = PATHS.iter().map(|(path, methods)| (path.to_string(), openapi::sorted(methods)));
        assert_eq!(described, served.collect());
    }

    #[test]
    fn a_bearer_token_is_read_as_its_grammar_has_it() {
        for value in ["Bearer s3cret", "bearer s3cret", "BEARER    s3cret"] {
            assert_eq!(bearer_token(value.as_bytes()), Some(&b"s3cret"[..]), "{value}");
        }
        for value in [
            "",
            "Bearer",
            "Bearers3cret",
            "Basic s3cret",
            "Bearer\ts3cret",
            "Bearer \t s3cret",
            " Bearer s3cret",
        ] {
            assert_ne!(bearer_token(value.as_bytes()), Some(&b"s3cret"[..]), "{value:?}");
        }
    }

    #[test]
    fn an_origin_is_the_host_it_names() {
        for (origin, host) in
            [("http://h:1", "h:1"), ("HTTPS://H.example", "h.EXAMPLE"), ("http://[::1]:2", "[::1]:2")]
        {
            assert!(is_origin_of(origin.as_bytes(), host.as_bytes()), "{origin} {host}");
        }
        for (origin, host) in
            [("null", "null"), ("http://h", "h:1"), ("ftp://h", "h"), ("h", "h"), ("", ""), ("://h", "h")]
        {
            assert!(!is_origin_of(origin.as_bytes(), host.as_bytes()), "{origin} {host}");
        }
    }

    #[test]
    fn finds_the_methods_of_a_path() {
        for (path, methods) in [
            ("/v1/sales", "GET, HEAD"),
            ("/v1/sales/", "GET, HEAD, PUT, DELETE"),
            ("/v1/sales/a", "GET, HEAD, PUT, DELETE"),
            ("/v1/sales/a/pause", "POST"),
            ("/v1/sales/a/bookings", "GET, HEAD"),
            ("/v1/sales/a/bookings/b/buyer", "PUT"),
            ("/v1/sales/a/bookings/b", "GET, HEAD, DELETE"),
            ("/v1/sales/a/bookings/b/extend", "POST"),
            ("/v1/sales/a/bookings/b/release", ""),
            ("/v1/sales/a/log", "GET, HEAD"),
            ("/v1/sales/a/b", ""),
            ("/v1/sales/a/pause/", ""),
            ("/", "GET, HEAD"),
            ("/dashboard", ""),
            ("//", ""),
            ("*", ""),
            ("/livez/", ""),
        ] {
            assert_eq!(allow(path), methods, "{path}");
        }
    }
}
