//! A connection with all that an engine would lend it, and a service that answers with what it saw.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use boxoffice::clock::{Monotonic, WallTime};
use boxoffice::connection::{
    Answered, BufferPool, Connection, CutReason, Handled, Origin, PendingReply, Reply, Service, Turn,
};
use boxoffice::http::{DateCache, HttpError, Request, Response, Status};
use boxoffice::limits::{ClientLimits, Limit};
use boxoffice::proxies::{Client as Asker, TrustedProxies};

/// Where the other end is.
pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// The smallest limits that go together, so that short inputs meet them.
pub fn small_limits() -> ClientLimits {
    let limits = ClientLimits {
        target_bytes: 256,
        head_bytes: 1_024,
        fields: 8,
        body_bytes: 512,
        chunk_overhead_bytes: 40,
        ..ClientLimits::default()
    };
    assert_eq!(limits.check(), Ok(()));
    limits
}

/// What the service was asked, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Request {
        method: String,
        path: String,
        query: Option<String>,
        body: Vec<u8>,
        fields: Vec<Vec<u8>>,
        client: Asker,
    },
    Refusal(HttpError),
}

impl Seen {
    fn of(request: &Request<'_>, client: Asker) -> Seen {
        Seen::Request {
            method: request.method_name.to_owned(),
            path: request.path.to_owned(),
            query: request.query.map(str::to_owned),
            body: request.body.to_vec(),
            fields: FIELDS.iter().flat_map(|name| request.field_values(name)).map(<[u8]>::to_vec).collect(),
            client,
        }
    }

    pub fn is_refusal(&self) -> bool {
        matches!(self, Seen::Refusal(_))
    }

    /// Whether an interim answer to it can be due; of what was refused that is not known.
    fn may_expect(&self) -> bool {
        match self {
            Seen::Request { fields, .. } => {
                fields.iter().any(|value| value.eq_ignore_ascii_case(b"100-continue"))
            }
            Seen::Refusal(_) => true,
        }
    }

    fn is_safe(&self) -> bool {
        matches!(self, Seen::Request { method, .. } if matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY"))
    }

    fn is_head(&self) -> bool {
        matches!(self, Seen::Request { method, .. } if method == "HEAD")
    }
}

/// The fields whose values are compared: those that frame, and one that does not.
const FIELDS: [&str; 6] = ["host", "connection", "content-length", "transfer-encoding", "expect", "a"];

/// Numbers what it is asked, and answers each with its number: at once, or where `defers` says so later. What has an unsafe
/// method is begun when all before it is answered, and nothing is begun while it waits.
#[derive(Default)]
pub struct Counter {
    pub seen: Vec<Seen>,
    pub waiting: Vec<(PendingReply, usize)>,
    /// One bit a request, used in turn: 1 puts it off.
    pub defers: u8,
    /// Bytes of the body of each answer.
    pub answer_bytes: usize,
}

impl Counter {
    pub fn answer(reply: Reply<'_>, number: usize, status: Status, bytes: usize) -> Answered {
        let text = number.to_string();
        let body = vec![b'x'; bytes];
        let fields = [("X-Number", text.as_str())];
        reply.send(&Response {
            status,
            content_type: "text/plain",
            caching: Default::default(),
            fields: &fields,
            body: &body,
        })
    }
}

impl Service for Counter {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        let number = self.seen.len();
        let is_safe = request.method.is_safe();
        assert!(
            is_safe || self.waiting.is_empty(),
            "a change is begun before what came before it is answered"
        );
        let changes = |(_, number): &(PendingReply, usize)| !self.seen[*number].is_safe();
        assert!(!self.waiting.iter().any(changes), "a request is begun beside a change");
        self.seen.push(Seen::of(request, reply.client(request)));
        if self.defers.rotate_right(number as u32) & 1 == 1 {
            let (pending, handled) = if is_safe { reply.later() } else { reply.later_alone() };
            self.waiting.push((pending, number));
            return handled;
        }
        Counter::answer(reply, number, Status::Ok, self.answer_bytes).into()
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        self.seen.push(Seen::Refusal(*error));
        Counter::answer(reply, self.seen.len() - 1, error.status(), self.answer_bytes)
    }

    fn note(&mut self, limit: Limit) {
        assert!(limit.range().0 <= limit.range().1);
    }
}

/// One client's connection as a worker would run it.
pub struct Client {
    pub connection: Connection,
    pub service: Counter,
    pub pool: BufferPool,
    pub now: Monotonic,
    pub written: Vec<u8>,
    date: DateCache,
}

impl Client {
    pub fn new(limits: &ClientLimits) -> Client {
        Client::behind(&Arc::default(), limits)
    }

    /// One whose peer may be a trusted proxy.
    pub fn behind(proxies: &Arc<TrustedProxies>, limits: &ClientLimits) -> Client {
        let origin = Origin::new(PEER, proxies);
        Client {
            connection: Connection::new(Monotonic(0), Arc::new(limits.clone()), origin),
            service: Counter::default(),
            pool: BufferPool::new(limits.buffered_bytes),
            now: Monotonic(0),
            written: Vec::new(),
            date: DateCache::new(WallTime(784_111_777_000)),
        }
    }

    /// One step, after which all must be in order.
    pub fn step<R>(&mut self, act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut Counter) -> R) -> R {
        let mut turn = Turn { now: self.now, date: &self.date, pool: &mut self.pool, is_parting: false };
        let result = act(&mut self.connection, &mut turn, &mut self.service);
        self.connection.check_invariants();
        assert_eq!(self.pool.lent_bytes(), self.connection.buffered_bytes(), "all is lent by the pool");
        result
    }

    /// Brings bytes, as far as they are wanted; says whether they were.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let wanted = self.connection.wants_read();
        if wanted {
            self.step(|connection, turn, service| connection.handle_bytes(bytes, turn, service));
        }
        wanted
    }

    /// The kernel takes so much of what is to be written.
    pub fn write(&mut self, bytes_max: usize) {
        let bytes = bytes_max.min(self.connection.output().len());
        self.written.extend_from_slice(&self.connection.output()[..bytes]);
        if bytes > 0 {
            self.step(|connection, turn, _| connection.handle_written(bytes, turn));
        }
    }

    pub fn resume(&mut self) {
        self.step(|connection, turn, service| connection.resume(turn, service));
    }

    /// Writes all there is, and goes on reading what waited for that.
    pub fn flush(&mut self) {
        self.write(usize::MAX);
        while self.connection.wants_resume() {
            self.resume();
            self.write(usize::MAX);
        }
    }

    /// Answers one of the requests that were put off.
    pub fn answer(&mut self, index: usize) {
        let (pending, number) = self.service.waiting.remove(index);
        let bytes = self.service.answer_bytes;
        self.step(|connection, turn, _| {
            let reply = connection.reply(pending, turn);
            reply.map(|reply| Counter::answer(reply, number, Status::Accepted, bytes));
        });
    }

    pub fn end(&mut self) {
        self.step(|connection, turn, _| connection.handle_end(turn));
    }

    pub fn drain(&mut self) {
        self.step(|connection, turn, _| connection.drain(turn));
    }

    /// Lets time pass to the next deadline.
    pub fn expire(&mut self) -> Option<CutReason> {
        let deadline = self.connection.deadline()?;
        self.now = self.now.max(deadline);
        self.step(|connection, turn, service| connection.handle_deadline(turn, service))
    }

    /// How many answers were written, which must be those to the first requests in their order. Where
    /// `may_be_cut`, the last of them may be incomplete.
    pub fn answers(&self, may_be_cut: bool) -> usize {
        let mut rest = &self.written[..];
        let mut count = 0;
        let mut is_last = false;
        while !rest.is_empty() {
            let Some(head_bytes) = memchr::memmem::find(rest, b"\r\n\r\n").map(|at| at + 4) else {
                assert!(may_be_cut, "an answer without an end");
                return count;
            };
            let head = std::str::from_utf8(&rest[..head_bytes]).expect("an answer's head is text");
            rest = &rest[head_bytes..];
            assert!(!is_last, "an answer after the one that said `close`");
            if head.starts_with("HTTP/1.1 100 ") {
                let is_due = self.service.seen.get(count).is_none_or(Seen::may_expect);
                assert!(is_due, "a `100 Continue` before the answers that come first");
                continue;
            }
            let field =
                |name: &str| head.split_once(name).map(|(_, rest)| rest.split("\r\n").next().unwrap_or(""));
            assert_eq!(field("X-Number: "), Some(count.to_string().as_str()), "answers in their order");
            is_last = head.contains("\r\nConnection: close\r\n");
            let length: usize =
                field("Content-Length: ").and_then(|text| text.parse().ok()).expect("a length");
            // What is refused while its head goes on may be HEAD as well: its answer has no body then.
            let is_head = match &self.service.seen[count] {
                Seen::Refusal(_) => !rest.starts_with(b"x"),
                seen => seen.is_head(),
            };
            if !is_head && rest.len() < length {
                assert!(may_be_cut, "an answer shorter than it says");
                return count;
            }
            rest = &rest[if is_head { 0 } else { length }..];
            count += 1;
        }
        count
    }
}
