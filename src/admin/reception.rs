//! What becomes of one operator's request: answered at once from memory, or handed to somebody who may wait.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Shared;
use super::audits::Audits;
use super::caller::Caller;
use super::dashboard;
use super::dashboards::Dashboards;
use super::error::ApiError;
use super::event;
use super::places::Places;
use super::service::{Operator, Page, PageResult, allow};
use super::work::{Job, Work};
use crate::api::Problem;
use crate::api::encode::{self, Instance, JSON};
use crate::booking::SaleName;
use crate::clock::Now;
use crate::connection::{Answered, Handled, Produced, Reply, Service, StreamPart};
use crate::connections::ConnectionKey;
use crate::http::{Caching, HttpError, Method, Request, Response, Status};

/// The path of the events.
const EVENTS: &str = "/v1/events";

/// The sale of a path `/v1/sales/{sale}/audit`.
fn audited(path: &str) -> Option<&str> {
    let sale = path.strip_prefix("/v1/sales/")?.strip_suffix("/audit")?;
    (!sale.contains('/')).then_some(sale)
}

/// Serves one operator's connection.
pub(super) struct Reception<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) places: &'a mut Places,
    pub(super) dashboards: &'a mut Dashboards,
    pub(super) audits: &'a mut Audits,
    pub(super) work: &'a mut Work,
    pub(super) scratch: &'a mut Vec<u8>,
    pub(super) key: ConnectionKey,
    pub(super) peer: SocketAddr,
    pub(super) now: Now,
}

impl Service for Reception<'_> {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        let caller = Caller { peer: self.peer, client: reply.client(request) };
        let mut operator = Operator::new(self.shared, caller);
        let admitted = operator.admit(request);
        let conditions = match admitted {
            Ok(conditions) => conditions,
            Err(error) => return self.respond(reply, request.path, Err(error)).into(),
        };
        if request.path == EVENTS {
            return match self.picked(request.query) {
                Ok(sale) => self.watch(request, reply, sale),
                Err(error) => self.respond(reply, request.path, Err(error)),
            }
            .into();
        }
        if let Some(sale) = audited(request.path) {
            let begun = operator.sale_name(sale).and_then(|sale| operator.ask_to_audit(sale, conditions));
            return match begun {
                Ok((sale, leave)) => {
                    self.places.begin(self.key);
                    let (pending, handled) = reply.later_alone();
                    self.audits.begin((self.key, pending), request.path, sale, leave);
                    handled
                }
                Err(error) => self.respond(reply, request.path, Err(error)).into(),
            };
        }
        if !operator.may_wait(request.path) {
            let answer = operator.carry_out(request, conditions).map(|page| (page, operator.scratch));
            return self.respond(reply, request.path, answer).into();
        }
        let leave = match operator.ask_leave(request.path) {
            Ok(leave) => leave,
            Err(error) => return self.respond(reply, request.path, Err(error)).into(),
        };
        self.places.begin(self.key);
        let (pending, handled) = reply.later_alone();
        let request = request.keep();
        self.work.begin(Job { key: self.key, pending, request, caller, leave });
        handled
    }

    /// All operators' requests are done one after another.
    fn must_follow(&self, _: &Request<'_>) -> bool {
        true
    }

    fn produce(&mut self, part: StreamPart<'_>) -> Produced {
        match self.audits.has(self.key) {
            true => {
                let told = self.audits.tell(self.key, part);
                if !self.audits.has(self.key) {
                    self.places.end(self.key, self.now.monotonic);
                }
                told
            }
            false => self.dashboards.tell(self.key, self.shared, part),
        }
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        self.places.end(self.key, self.now.monotonic);
        let detail = error.to_string();
        let (status, problem) = (error.status(), Problem::of_http(error.reason));
        encode::problem(reply, self.scratch, status, problem, Some(&detail), Instance::None, &[])
    }
}

impl Reception<'_> {
    /// The sale that a dashboard watches closely, if there is room for another dashboard.
    fn picked(&self, query: Option<&str>) -> Result<Option<SaleName>, ApiError> {
        let bad_request = |detail: String| ApiError::new(Problem::BAD_REQUEST, detail);
        let sale = match query.filter(|query| !query.is_empty()) {
            None => None,
            Some(query) => {
                let name = query.strip_prefix("sale=");
                let name =
                    name.ok_or_else(|| bad_request("the query takes sale=NAME and nothing else".to_owned()))?;
                Some(SaleName::parse(name).map_err(|error| bad_request(format!("sale: {error}")))?)
            }
        };
        match self.dashboards.are_full() {
            true => {
                Err(ApiError::new(Problem::OVERLOADED, "As many dashboards are open as may be. Close some."))
            }
            false => Ok(sale),
        }
    }

    /// Begins a stream of events. Its connection is no longer one of those that probes compete with.
    fn watch(&mut self, request: &Request<'_>, reply: Reply<'_>, sale: Option<SaleName>) -> Answered {
        match request.method {
            Method::Head => self.places.end(self.key, self.now.monotonic),
            _ => {
                self.places.give_back(self.key);
                self.dashboards.join(self.key, sale, self.shared, self.now);
            }
        }
        self.begin_events(reply)
    }

    /// Begins an answer of server-sent events.
    pub(super) fn begin_events(&mut self, reply: Reply<'_>) -> Answered {
        reply.stream(&Response {
            status: Status::Ok,
            content_type: event::CONTENT_TYPE,
            caching: Caching::NoStore,
            fields: &[("X-Accel-Buffering", "no")],
            body: b"",
        })
    }

    /// Answers a request for `path`.
    pub(super) fn respond(&mut self, reply: Reply<'_>, path: &str, answer: PageResult) -> Answered {
        self.places.end(self.key, self.now.monotonic);
        match answer {
            Ok((page, body)) => {
                let caching = Caching::NoStore;
                let version = match &page {
                    Page::Sale(_, version) => Some(format!("\"{version}\"")),
                    Page::Text(..) | Page::Json(_) | Page::Asset(_) => None,
                };
                let tag = version.as_deref().map(|version| ("ETag", version));
                let (status, content_type, fields, body) = match page {
                    Page::Sale(status, _) | Page::Json(status) => (status, JSON, tag.as_slice(), &body[..]),
                    Page::Text(status, content_type) => (status, content_type, tag.as_slice(), &body[..]),
                    Page::Asset(asset) => {
                        (Status::Ok, asset.content_type, dashboard::FIELDS, asset.text.as_bytes())
                    }
                };
                reply.send(&Response { status, content_type, caching, fields, body })
            }
            Err(ApiError { problem, detail }) => {
                let instance = Instance::Path(path);
                let allow = [("Allow", allow(path))];
                let unauthorized = [("WWW-Authenticate", "Bearer")];
                let more: &[_] = match problem {
                    Problem::METHOD_NOT_ALLOWED => &allow,
                    Problem::UNAUTHORIZED => &unauthorized,
                    _ => &[],
                };
                let (status, detail) = (problem.status(), detail.as_deref());
                encode::problem(reply, self.scratch, status, problem, detail, instance, more)
            }
        }
    }
}
