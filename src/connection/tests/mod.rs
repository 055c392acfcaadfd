//! The connection against raw bytes: a table of cases in every fragmentation, pipelines, time, back pressure.

mod behaviour;
mod proxied;
mod random;
mod stream;
mod table;

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::clock::WallTime;
use crate::http::{Response, Status, encode};
use crate::limits;
use crate::proxies::Client;

/// Where the clients of these tests are.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// Answers every request with what it saw; puts those under `/later` off, and those under `/alone`, which change what others
/// ask. These and those under `/follow` are to be begun when all before them is answered.
#[derive(Default)]
struct Mirror {
    /// `METHOD path?query body` of every request, `?label` of every refusal.
    seen: Vec<String>,
    waiting: Vec<(PendingReply, String)>,
    /// Whose requests they were.
    clients: Vec<Client>,
    /// Limits that were met and refused nothing.
    noted: Vec<Limit>,
}

fn ok(body: &[u8]) -> Response<'_> {
    Response {
        status: Status::Ok,
        content_type: "text/plain",
        caching: Default::default(),
        fields: &[],
        body,
    }
}

impl Service for Mirror {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
        let body = request.body.escape_ascii();
        let seen = format!("{} {}{query} {body}", request.method_name, request.path);
        self.seen.push(seen.clone());
        self.clients.push(reply.client(request));
        let is_alone = |(_, seen): &(PendingReply, String)| seen.contains(" /alone");
        assert!(!self.waiting.iter().any(is_alone), "{seen} was begun beside {:?}", self.waiting);
        if request.path.starts_with("/alone") {
            assert!(self.waiting.is_empty(), "{seen} was begun behind {:?}", self.waiting);
            let (pending, handled) = reply.later_alone();
            self.waiting.push((pending, seen));
            return handled;
        }
        if request.path.starts_with("/later") {
            let (pending, handled) = reply.later();
            self.waiting.push((pending, seen));
            return handled;
        }
        reply.send(&ok(seen.as_bytes())).into()
    }

    fn must_follow(&self, request: &Request<'_>) -> bool {
        request.path.starts_with("/alone") || request.path.starts_with("/follow")
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        self.seen.push(format!("?{}", error.reason.label()));
        reply.send(&Response { status: error.status(), ..ok(error.to_string().as_bytes()) })
    }

    fn note(&mut self, limit: Limit) {
        self.noted.push(limit);
    }
}

/// A connection with its service and all that the engine would lend it.
struct Bench {
    connection: Connection,
    mirror: Mirror,
    pool: BufferPool,
    date: DateCache,
    now: Monotonic,
    /// Everything that was written.
    written: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with_limits(&ClientLimits::default())
    }

    fn with_limits(limits: &ClientLimits) -> Bench {
        Bench::with_origin(limits, Origin::new(PEER, &Arc::default()))
    }

    fn with_origin(limits: &ClientLimits, origin: Origin) -> Bench {
        assert_eq!(limits.check(), Ok(()));
        Bench {
            connection: Connection::new(Monotonic(0), Arc::new(limits.clone()), origin),
            mirror: Mirror::default(),
            pool: BufferPool::new(limits.buffered_bytes),
            date: DateCache::new(WallTime(784_111_777_000)),
            now: Monotonic(0),
            written: Vec::new(),
        }
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut Mirror) -> R) -> R {
        let mut turn = Turn { now: self.now, date: &self.date, pool: &mut self.pool, is_parting: false };
        let result = act(&mut self.connection, &mut turn, &mut self.mirror);
        self.connection.check_invariants();
        assert_eq!(self.pool.lent_bytes(), self.connection.buffered_bytes(), "all is lent by the pool");
        result
    }

    /// Sends as the engine would: only while the connection wants to read, and writing in between.
    fn send(&mut self, bytes: &[u8]) {
        if self.connection.wants_read() {
            self.with(|connection, turn, mirror| connection.handle_bytes(bytes, turn, mirror));
        }
        self.flush();
    }

    fn flush(&mut self) {
        loop {
            let bytes = self.connection.output().len();
            self.written.extend_from_slice(self.connection.output());
            if bytes > 0 {
                let is_last = self.connection.ends_with_output();
                self.with(|connection, turn, _| connection.handle_written(bytes, turn));
                // What is held back for the end to come must not be kept waiting, nor what is not last be cut in two.
                let has_ended = self.connection.close_state() != CloseState::Open;
                assert_eq!(is_last, has_ended, "the end goes with the last bytes, and with no others");
            }
            if !self.connection.wants_resume() {
                break;
            }
            self.with(|connection, turn, mirror| connection.resume(turn, mirror));
        }
    }

    fn end(&mut self) {
        self.with(|connection, turn, _| connection.handle_end(turn));
        self.flush();
    }

    fn expire(&mut self) -> Option<CutReason> {
        self.now = self.connection.deadline().expect("a clock runs");
        let cut = self.with(|connection, turn, mirror| connection.handle_deadline(turn, mirror));
        self.flush();
        cut
    }

    /// Answers the put-off request at `index`.
    fn answer(&mut self, index: usize) {
        let (pending, body) = self.mirror.waiting.remove(index);
        let _ = self.with(|connection, turn, _| {
            connection.reply(pending, turn).map(|reply| reply.send(&ok(body.as_bytes())))
        });
        self.flush();
    }
}

#[test]
fn a_request_is_answered_and_the_connection_stays_idle() {
    let mut bench = Bench::new();
    bench.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    let written = String::from_utf8_lossy(&bench.written);
    assert_eq!(
        written,
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nGET /a "
    );
    assert!(bench.connection.is_idle());
}
