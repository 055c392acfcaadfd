//! What becomes of one operator's request: answered at once from memory, or handed to somebody who may wait.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Shared;
use super::error::ApiError;
use super::places::Places;
use super::service::{Operator, Page, PageResult, allow};
use super::work::{Job, Work};
use crate::api::Problem;
use crate::api::encode::{self, Instance, JSON};
use crate::clock::Monotonic;
use crate::connection::{Answered, Handled, Reply, Service};
use crate::connections::ConnectionKey;
use crate::http::{Caching, HttpError, Request, Response};

/// Serves one operator's connection.
pub(super) struct Reception<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) places: &'a mut Places,
    pub(super) work: &'a mut Work,
    pub(super) scratch: &'a mut Vec<u8>,
    pub(super) key: ConnectionKey,
    pub(super) peer: SocketAddr,
    pub(super) now: Monotonic,
}

impl Service for Reception<'_> {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        let mut operator = Operator::new(self.shared, self.peer);
        let admitted = operator.admit(request);
        let conditions = match admitted {
            Ok(conditions) => conditions,
            Err(error) => return self.respond(reply, request.path, Err(error)).into(),
        };
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
        self.work.begin(Job { key: self.key, pending, request, peer: self.peer, leave });
        handled
    }

    /// All operators' requests are done one after another.
    fn must_follow(&self, _: &Request<'_>) -> bool {
        true
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        self.places.end(self.key, self.now);
        let detail = error.to_string();
        let (status, problem) = (error.status(), Problem::of_http(error.reason));
        encode::problem(reply, self.scratch, status, problem, Some(&detail), Instance::None, &[])
    }
}

impl Reception<'_> {
    /// Answers a request for `path`.
    pub(super) fn respond(&mut self, reply: Reply<'_>, path: &str, answer: PageResult) -> Answered {
        self.places.end(self.key, self.now);
        match answer {
            Ok((page, body)) => {
                let (status, content_type, version) = match page {
                    Page::Json(status) => (status, JSON, None),
                    Page::Sale(status, version) => (status, JSON, Some(format!("\"{version}\""))),
                    Page::Text(status, content_type) => (status, content_type, None),
                };
                let tag = version.as_deref().map(|version| ("ETag", version));
                let (caching, fields) = (Caching::NoStore, tag.as_slice());
                reply.send(&Response { status, content_type, caching, fields, body: &body })
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
