//! What a core does with one request: routes it, reads it, asks the desk, and answers now or later.

use super::{Core, Repeat, Waiter};
use crate::api::encode::{self, Instance, ResponseStyle};
use crate::api::{Problem, Route, decode, front_page};
use crate::booking::{Amendment, BookingId, Outcome, Quantity, Refusal, SaleName};
use crate::connection::{Answered, Handled, Reply, Service};
use crate::connections::ConnectionKey;
use crate::desk::{Admitted, BookingAction, BookingRequest, LaneIndex};
use crate::http::precondition::{Current, Preconditions};
use crate::http::{Caching, HttpError, Method, Request, Response, Status};
use crate::limits::Limit;
use crate::outcome_label::OutcomeLabel;

/// Serves the requests of one connection.
pub struct RequestHandler<'a> {
    pub(super) core: &'a mut Core,
    pub(super) connection: ConnectionKey,
}

impl Service for RequestHandler<'_> {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        let Some(route) = Route::find(request.path) else {
            if request.method == Method::Options && request.path == "*" {
                return self.options(reply, "GET, HEAD, POST, PUT, DELETE, OPTIONS");
            }
            return self.problem(request, reply, OutcomeLabel::NoSuchPath, Problem::NO_SUCH_PATH, None);
        };
        match (route, request.method) {
            (Route::Buy { sale }, Method::Get | Method::Post) => self.buy(request, reply, sale),
            (Route::Bookings { sale }, Method::Post) => self.post_booking(request, reply, sale),
            (Route::Booking { sale, id }, Method::Put) => self.put_booking(request, reply, sale, id),
            (Route::Booking { sale, id }, Method::Get | Method::Head) => {
                self.ask_about(request, reply, sale, id, BookingAction::LookUp)
            }
            (Route::Booking { sale, id }, Method::Delete) => match decode::tombstone(request.query) {
                Ok(tombstone) => {
                    self.ask_about(request, reply, sale, id, BookingAction::Cancel { tombstone })
                }
                Err(detail) => self.bad_request(request, reply, &detail),
            },
            (Route::Confirm { sale, id }, Method::Post) => {
                self.ask_about(request, reply, sale, id, BookingAction::Confirm)
            }
            (Route::Extend { sale, id }, Method::Post) => {
                self.amend(request, reply, sale, id, decode::extension_body(request.body))
            }
            (Route::Release { sale, id }, Method::Post) => {
                self.amend(request, reply, sale, id, decode::release_body(request.body))
            }
            (Route::Hold { sale, id }, Method::Post) => {
                self.amend(request, reply, sale, id, Ok(Amendment::HoldAgain))
            }
            (Route::Sale { sale }, Method::Get | Method::Head) => self.show_sale(request, reply, sale),
            (Route::Problem { name }, Method::Get | Method::Head) => self.explain(request, reply, name),
            (Route::FrontPage, Method::Get | Method::Head) => {
                self.core.metrics.count(OutcomeLabel::FrontPage);
                front_page(request, reply).into()
            }
            (route, Method::Options) => self.options(reply, route.allow()),
            (route, _) => self.wrong_method(request, reply, route),
        }
    }

    /// A request that asks the ledger about a booking by its id, to change it, must wait its turn. So must one that shows a
    /// sale, behind bookings in flight. Bookings under generated ids run beside each other and beside look-ups: nobody can
    /// name such an id before its answer, and those of one sale are carried out in the order in which they came, in one
    /// batch or in successive ones.
    fn must_follow(&self, request: &Request<'_>) -> bool {
        match Route::find(request.path) {
            Some(
                Route::Booking { .. }
                | Route::Confirm { .. }
                | Route::Extend { .. }
                | Route::Release { .. }
                | Route::Hold { .. },
            ) => !request.method.is_safe(),
            Some(Route::Bookings { .. }) => request.field_values("Idempotency-Key").next().is_some(),
            Some(Route::Sale { .. }) => true,
            Some(Route::Buy { .. } | Route::Problem { .. } | Route::FrontPage) | None => false,
        }
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        self.core.metrics.count_malformed(error.reason);
        let detail = error.to_string();
        let problem = Problem::of_http(error.reason);
        encode::problem(
            reply,
            &mut self.core.scratch,
            error.status(),
            problem,
            Some(&detail),
            Instance::None,
            &[],
        )
    }

    fn note(&mut self, limit: Limit) {
        self.core.metrics.count_limit(limit);
    }
}

/// What a request that is refused from memory was about.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Request(&'a BookingRequest),
    Booking(&'a BookingId),
    Sale,
}

impl RequestHandler<'_> {
    fn buy(&mut self, request: &Request<'_>, reply: Reply<'_>, sale: &str) -> Handled {
        let Some(lane) = self.core.desk.lane(sale) else { return self.unknown_sale(request, reply, sale) };
        if request.is_conditional
            && let Err(unmet) = self.is_met(request, Current::Absent)
        {
            return self.unmet(request, reply, unmet);
        }
        let wanted = BookingRequest { id: None, quantity: Quantity::ONE, buyer: None };
        self.reserve(request, reply, lane, wanted, ResponseStyle::Buy)
    }

    fn post_booking(&mut self, request: &Request<'_>, reply: Reply<'_>, sale: &str) -> Handled {
        let mut keys = request.field_values("Idempotency-Key");
        let id = match (keys.next(), keys.next()) {
            (None, _) => None,
            (Some(key), None) => match decode::idempotency_key(key) {
                Ok(id) => Some(id),
                Err(detail) => return self.bad_request(request, reply, &detail),
            },
            (Some(_), Some(_)) => {
                return self.bad_request(request, reply, "Idempotency-Key: is given more than once");
            }
        };
        self.book(request, reply, sale, id)
    }

    fn put_booking(&mut self, request: &Request<'_>, reply: Reply<'_>, sale: &str, id: &str) -> Handled {
        if request.is_partial {
            // RFC 9110 section 14.5: a part was sent, and would be taken for the whole.
            let detail = "Content-Range: a booking cannot be sent in parts";
            return self.bad_request(request, reply, detail);
        }
        match BookingId::parse(id) {
            Ok(id) => self.book(request, reply, sale, Some(id)),
            Err(error) => self.bad_request(request, reply, &format!("booking id in the path: {error}")),
        }
    }

    fn book(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        sale: &str,
        id: Option<BookingId>,
    ) -> Handled {
        let body = match decode::booking_body(request.body) {
            Ok(body) => body,
            Err(detail) => return self.bad_request(request, reply, &detail),
        };
        let Some(lane) = self.core.desk.lane(sale) else { return self.unknown_sale(request, reply, sale) };
        let wanted = BookingRequest { id, quantity: body.quantity, buyer: body.buyer };
        match request.is_conditional {
            false => self.reserve(request, reply, lane, wanted, ResponseStyle::Book),
            true => self.reserve_if(request, reply, lane, wanted),
        }
    }

    /// Books under a condition. A booking has no entity tag, and one that was made stays, so a condition can only ask that
    /// it is there, or that it is not.
    #[cold]
    fn reserve_if(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        lane: LaneIndex,
        wanted: BookingRequest,
    ) -> Handled {
        let met = self.is_met(request, Current::Absent);
        let met_by_one = self.is_met(request, Current::Untagged);
        match (met, met_by_one, wanted.id) {
            // POST is not sent to a booking, so there is no state to compare.
            (Ok(()), _, None) | (Ok(()), Ok(()), _) => {
                self.reserve(request, reply, lane, wanted, ResponseStyle::Book)
            }
            (Ok(()), Err(_), _) => self.reserve(request, reply, lane, wanted, ResponseStyle::BookNew),
            (Err(_), Ok(()), Some(id)) => {
                let repeat = Box::new((wanted.quantity, wanted.buyer));
                self.ask_desk(
                    request,
                    reply,
                    lane,
                    &id,
                    BookingAction::LookUp,
                    (ResponseStyle::BookAgain, Some(repeat)),
                )
            }
            (Err(unmet), ..) => self.unmet(request, reply, unmet),
        }
    }

    /// Whether the preconditions are true of that state; if not, why.
    fn is_met(&self, request: &Request<'_>, current: Current<'_>) -> Result<(), Option<String>> {
        match Preconditions::read(request).map_err(Some)?.hold(current) {
            true => Ok(()),
            false => Err(None),
        }
    }

    /// Refuses a request whose precondition is false or malformed.
    #[cold]
    fn unmet(&mut self, request: &Request<'_>, reply: Reply<'_>, malformed: Option<String>) -> Handled {
        match malformed {
            Some(detail) => self.bad_request(request, reply, &detail),
            None => self.problem(
                request,
                reply,
                OutcomeLabel::PreconditionFailed,
                Problem::PRECONDITION_FAILED,
                None,
            ),
        }
    }

    fn reserve(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        lane: LaneIndex,
        wanted: BookingRequest,
        style: ResponseStyle,
    ) -> Handled {
        match self.core.desk.admit_booking(lane, &wanted, self.core.now) {
            Ok(admitted) => self.wait(request, reply, admitted, (style, None), wanted.id.is_some()),
            Err(refusal) => {
                self.refuse_at_once(request, reply, lane, Subject::Request(&wanted), style, refusal)
            }
        }
    }

    /// Puts the answer off until the ledger has answered. `is_deed` means that it may change a booking that has a name: see
    /// [`must_follow`](Service::must_follow).
    fn wait(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        admitted: Admitted,
        (style, repeat): (ResponseStyle, Option<Repeat>),
        is_deed: bool,
    ) -> Handled {
        let client = self.core.log.is_some().then(|| reply.client(request));
        let (pending, handled) = if is_deed { reply.later_alone() } else { reply.later() };
        let waiter = Waiter { connection: self.connection, pending, style, client, repeat };
        let Core { desk, random, now, .. } = &mut *self.core;
        desk.enqueue(admitted, waiter, *now, || super::ids::make(random, now.wall));
        handled
    }

    fn ask_about(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        sale: &str,
        id: &str,
        action: BookingAction,
    ) -> Handled {
        let id = match BookingId::parse(id) {
            Ok(id) => id,
            Err(error) => {
                return self.bad_request(request, reply, &format!("booking id in the path: {error}"));
            }
        };
        let Some(lane) = self.core.desk.lane(sale) else { return self.unknown_sale(request, reply, sale) };
        // If there is no booking the answer is 404, whatever the condition (RFC 9110 section 13.2.1).
        if request.is_conditional && !matches!(action, BookingAction::LookUp) {
            match self.is_met(request, Current::Untagged) {
                Ok(()) => {}
                Err(None) => {
                    let unmet = (ResponseStyle::ExistingUnmet, None);
                    return self.ask_desk(request, reply, lane, &id, BookingAction::LookUp, unmet);
                }
                Err(malformed) => return self.unmet(request, reply, malformed),
            }
        }
        self.ask_desk(request, reply, lane, &id, action, (ResponseStyle::Existing, None))
    }

    fn ask_desk(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        lane: LaneIndex,
        id: &BookingId,
        action: BookingAction,
        (style, repeat): (ResponseStyle, Option<Repeat>),
    ) -> Handled {
        match self.core.desk.admit_action(lane, id, action, self.core.now) {
            Ok(admitted) => {
                let is_deed = !matches!(action, BookingAction::LookUp);
                self.wait(request, reply, admitted, (style, repeat), is_deed)
            }
            Err(refusal) => self.refuse_at_once(request, reply, lane, Subject::Booking(id), style, refusal),
        }
    }

    fn amend(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        sale: &str,
        id: &str,
        amendment: Result<Amendment, String>,
    ) -> Handled {
        match amendment {
            Ok(amendment) => self.ask_about(request, reply, sale, id, BookingAction::Amend(amendment)),
            Err(detail) => self.bad_request(request, reply, &detail),
        }
    }

    /// The cheap way out: no allocation, no lock, nothing sent anywhere.
    fn refuse_at_once(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        lane: LaneIndex,
        subject: Subject<'_>,
        style: ResponseStyle,
        refusal: Refusal,
    ) -> Handled {
        let Core { desk, scratch, metrics, log, .. } = &mut *self.core;
        metrics.count(OutcomeLabel::of_refusal(refusal));
        let sale = desk.sale(lane).name();
        let id = match subject {
            Subject::Request(wanted) => wanted.id.as_ref(),
            Subject::Booking(id) => Some(id),
            Subject::Sale => None,
        };
        let instance = match id {
            Some(id) => Instance::Booking(sale.as_str(), id.as_str()),
            None => Instance::Path(request.path),
        };
        let client = log.is_some().then(|| reply.client(request));
        let answered = encode::refusal(reply, scratch, style, refusal, None, instance);
        if let Subject::Request(wanted) = subject {
            self.core.log_booking(lane, wanted, style, &Outcome::Refused(refusal), client);
        }
        answered.into()
    }

    fn show_sale(&mut self, request: &Request<'_>, reply: Reply<'_>, sale: &str) -> Handled {
        let Some(lane) = self.core.desk.lane(sale) else { return self.unknown_sale(request, reply, sale) };
        match self.core.desk.level(lane) {
            Some(state) => {
                self.core.metrics.count(OutcomeLabel::SaleShown);
                encode::sale(reply, &mut self.core.scratch, sale, &state).into()
            }
            None => {
                let refusal = Refusal::SaleMissing;
                self.refuse_at_once(request, reply, lane, Subject::Sale, ResponseStyle::Existing, refusal)
            }
        }
    }

    fn explain(&mut self, request: &Request<'_>, reply: Reply<'_>, name: &str) -> Handled {
        match Problem::find(name) {
            Some(problem) => {
                self.core.metrics.count(OutcomeLabel::ProblemExplained);
                encode::problem_page(reply, &mut self.core.scratch, problem).into()
            }
            None => self.problem(request, reply, OutcomeLabel::NoSuchPath, Problem::NO_SUCH_PATH, None),
        }
    }

    fn unknown_sale(&mut self, request: &Request<'_>, reply: Reply<'_>, sale: &str) -> Handled {
        match SaleName::parse(sale) {
            // It may have been opened since.
            Ok(name) if self.core.desk.may_have_missed(&name, self.core.now) => self.problem(
                request,
                reply,
                OutcomeLabel::LedgerUnavailable,
                Problem::LEDGER_UNAVAILABLE,
                None,
            ),
            Ok(_) => self.problem(request, reply, OutcomeLabel::NoSuchSale, Problem::NO_SUCH_SALE, None),
            Err(error) => self.bad_request(request, reply, &format!("sale in the path: {error}")),
        }
    }

    fn bad_request(&mut self, request: &Request<'_>, reply: Reply<'_>, detail: &str) -> Handled {
        self.problem(request, reply, OutcomeLabel::BadRequest, Problem::BAD_REQUEST, Some(detail))
    }

    fn problem(
        &mut self,
        request: &Request<'_>,
        reply: Reply<'_>,
        label: OutcomeLabel,
        problem: Problem,
        detail: Option<&str>,
    ) -> Handled {
        self.core.metrics.count(label);
        let instance = Instance::Path(request.path);
        encode::problem(reply, &mut self.core.scratch, problem.status(), problem, detail, instance, &[])
            .into()
    }

    fn wrong_method(&mut self, request: &Request<'_>, reply: Reply<'_>, route: Route<'_>) -> Handled {
        self.core.metrics.count(OutcomeLabel::MethodNotAllowed);
        let problem = Problem::METHOD_NOT_ALLOWED;
        let (instance, allow) = (Instance::Path(request.path), [("Allow", route.allow())]);
        encode::problem(reply, &mut self.core.scratch, problem.status(), problem, None, instance, &allow)
            .into()
    }

    fn options(&mut self, reply: Reply<'_>, allow: &'static str) -> Handled {
        self.core.metrics.count(OutcomeLabel::Options);
        let fields = [("Allow", allow)];
        reply
            .send(&Response {
                status: Status::NoContent,
                content_type: "",
                caching: Caching::NoStore,
                fields: &fields,
                body: b"",
            })
            .into()
    }
}
