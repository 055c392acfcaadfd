//! One connection on which answers go on: requests of all kinds in a pipeline, news at any time, writes of any length, ends.
//! Each answer has its place; a stream says the latest and never something older; and however much is new, a client that does
//! not read holds no more than a part and what it had asked for before.

use std::sync::Arc;

use boxoffice::clock::{Monotonic, WallTime};
use boxoffice::connection::{
    Answered, BufferPool, CloseState, Connection, CutReason, Handled, Origin, PendingReply, Produced, Reply,
    Service, StreamPart, Turn,
};
use boxoffice::http::{DateCache, HttpError, Request, Response, Status};
use boxoffice::limits::ClientLimits;

use super::client::PEER;
use super::script::Script;

/// Numbers its requests, and answers each with its number: at once, later, or by a stream.
#[derive(Default)]
struct News {
    asked: usize,
    waiting: Vec<(PendingReply, usize)>,
    /// What a stream is asked for.
    version: u64,
    /// What the stream that is open has said.
    said: Option<u64>,
    /// It ends when it is asked next.
    is_over: bool,
    /// In how many more parts it says the same.
    parts: u64,
    /// It was not over with the last one.
    has_more: bool,
}

impl News {
    fn response<'a>(fields: &'a [(&'a str, &'a str)], body: &'a [u8]) -> Response<'a> {
        Response { status: Status::Ok, content_type: "text/plain", caching: Default::default(), fields, body }
    }

    fn answer(reply: Reply<'_>, number: usize) -> Answered {
        let text = number.to_string();
        reply.send(&News::response(&[("X-Number", &text)], b"answer"))
    }
}

impl Service for News {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        let number = self.asked;
        self.asked += 1;
        match request.path {
            "/stream" => {
                (self.said, self.is_over, self.parts, self.has_more) = (None, false, 0, false);
                let text = number.to_string();
                reply.stream(&News::response(&[("X-Number", &text)], b"")).into()
            }
            "/later" => {
                let (pending, handled) = reply.later();
                self.waiting.push((pending, number));
                handled
            }
            _ => News::answer(reply, number).into(),
        }
    }

    fn must_follow(&self, request: &Request<'_>) -> bool {
        request.path == "/follow"
    }

    fn refuse(&mut self, _: &HttpError, reply: Reply<'_>) -> Answered {
        let number = self.asked;
        self.asked += 1;
        News::answer(reply, number)
    }

    fn produce(&mut self, part: StreamPart<'_>) -> Produced {
        if self.is_over {
            return part.end();
        }
        let is_new = self.said.is_none_or(|said| said < self.version);
        assert!(is_new || self.has_more, "there is nothing new");
        self.said = Some(self.version);
        let text = format!("v{};", self.version);
        self.has_more = self.parts > 0;
        self.parts = self.parts.saturating_sub(1);
        match self.has_more {
            true => part.send_more(text.as_bytes()),
            false => part.send(text.as_bytes()),
        }
    }
}

struct Play {
    connection: Connection,
    news: News,
    pool: BufferPool,
    date: DateCache,
    now: Monotonic,
    written: Vec<u8>,
}

impl Play {
    fn step<R>(&mut self, act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut News) -> R) -> R {
        let mut turn = Turn { now: self.now, date: &self.date, pool: &mut self.pool, is_parting: false };
        let result = act(&mut self.connection, &mut turn, &mut self.news);
        while self.connection.wants_resume() {
            self.connection.resume(&mut turn, &mut self.news);
        }
        self.connection.check_invariants();
        assert_eq!(self.pool.lent_bytes(), self.connection.buffered_bytes(), "all is lent by the pool");
        result
    }

    fn write(&mut self, bytes_max: usize) {
        let bytes = bytes_max.min(self.connection.output().len());
        self.written.extend_from_slice(&self.connection.output()[..bytes]);
        if bytes > 0 {
            self.step(|connection, turn, _| connection.handle_written(bytes, turn));
        }
    }

    fn flush(&mut self) {
        while !self.connection.output().is_empty() {
            self.write(usize::MAX);
        }
    }

    fn tell(&mut self) {
        // Nothing is new to a stream that has said the latest.
        self.news.version += 1;
        self.step(|connection, _, _| connection.wake_stream());
    }
}

const REQUESTS: [&str; 8] = [
    "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /now HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /later HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /follow HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET /stream HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "POST /stream HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
];

pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let limits = ClientLimits { pipeline: 1 + script.below(8), ..ClientLimits::default() };
    let mut play = Play {
        connection: Connection::new(Monotonic(0), Arc::new(limits), Origin::new(PEER, &Arc::default())),
        news: News::default(),
        pool: BufferPool::default(),
        date: DateCache::new(WallTime(784_111_777_000)),
        now: Monotonic(0),
        written: Vec::new(),
    };
    let mut owed: Vec<u8> = Vec::new();
    let (mut is_cut, mut has_ended) = (false, false);
    while !script.is_over() {
        match script.byte() % 16 {
            0..=4 => {
                owed.extend(REQUESTS[script.below(REQUESTS.len())].as_bytes());
                let sent = owed.len() - script.below(3) * usize::from(script.flip());
                if !has_ended && play.connection.wants_read() {
                    let bytes: Vec<u8> = owed.drain(..sent).collect();
                    play.step(|connection, turn, news| connection.handle_bytes(&bytes, turn, news));
                }
            }
            5 if !play.news.waiting.is_empty() => {
                let (pending, number) = play.news.waiting.remove(0);
                play.step(|connection, turn, _| {
                    connection.reply(pending, turn).map(|reply| News::answer(reply, number));
                });
            }
            6..=7 => play.write(script.below(300)),
            8 => play.flush(),
            9..=10 => {
                let before = play.connection.buffered_bytes();
                let is_behind = !play.connection.output().is_empty();
                play.tell();
                let is_fuller = play.connection.buffered_bytes() > before;
                assert!(!(is_behind && is_fuller), "news wait where there is no room");
            }
            11 => {
                play.news.parts = script.below(4) as u64;
                play.tell();
            }
            12 => {
                play.news.is_over = true;
                play.step(|connection, _, _| connection.wake_stream());
            }
            13 => {
                if let Some(deadline) = play.connection.deadline() {
                    play.now = play.now.max(deadline);
                    let cut = play.step(|connection, turn, news| connection.handle_deadline(turn, news));
                    is_cut |= cut == Some(CutReason::Stalled);
                }
            }
            14 => play.step(|connection, turn, _| connection.drain(turn)),
            _ => {
                has_ended = true;
                play.step(|connection, turn, _| connection.handle_end(turn));
            }
        }
        assert!(
            play.connection.close_state() != CloseState::Closed || play.pool.lent_bytes() == 0,
            "it owns nothing"
        );
    }
    // Whatever is open comes to its end, and all that was asked is answered.
    loop {
        play.flush();
        if !play.news.waiting.is_empty() {
            let (pending, number) = play.news.waiting.remove(0);
            play.step(|connection, turn, _| {
                connection.reply(pending, turn).map(|reply| News::answer(reply, number));
            });
        } else if play.connection.is_streaming() {
            play.news.is_over = true;
            play.step(|connection, _, _| connection.wake_stream());
        } else {
            break;
        }
    }
    check(&play, is_cut);
    for _ in 0..4 {
        if let Some(deadline) = play.connection.deadline() {
            play.now = play.now.max(deadline);
            play.step(|connection, turn, news| connection.handle_deadline(turn, news));
            play.flush();
        }
    }
    assert_eq!((play.connection.close_state(), play.pool.lent_bytes()), (CloseState::Closed, 0));
}

/// What was written is the answers to all requests, in their order.
fn check(play: &Play, is_cut: bool) {
    let mut rest = std::str::from_utf8(&play.written).expect("it is text");
    let mut count = 0;
    while !rest.is_empty() {
        let Some((head, after)) = rest.split_once("\r\n\r\n") else {
            assert!(is_cut, "half a head");
            return;
        };
        rest = after;
        if head.starts_with("HTTP/1.1 100 ") {
            continue;
        }
        let field =
            |name: &str| head.split_once(name).map(|(_, rest)| rest.split("\r\n").next().unwrap_or(""));
        assert_eq!(field("X-Number: "), Some(count.to_string().as_str()), "answers in their order: {head}");
        count += 1;
        let (said, after) = if field("Content-Length: ").is_some() {
            // One to HEAD has no body.
            (String::new(), rest.strip_prefix("answer").unwrap_or(rest))
        } else if field("Transfer-Encoding: ").is_some() {
            match chunks(rest) {
                Some(read) => read,
                // The answer to HEAD, or one that was cut short.
                None if is_cut && !rest.starts_with("HTTP/") => return,
                None => (String::new(), rest),
            }
        } else {
            (rest.to_owned(), "")
        };
        let versions: Vec<u64> =
            said.split_terminator(';').filter_map(|word| word.strip_prefix('v')?.parse().ok()).collect();
        assert!(versions.is_sorted(), "something older is said: {versions:?}");
        rest = after;
    }
    assert!(is_cut || count == play.news.asked, "{count} of {} are answered", play.news.asked);
}

/// What chunks say, and what follows their end; nothing if they have none.
fn chunks(mut rest: &str) -> Option<(String, &str)> {
    let mut said = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        let chunk = after.get(..size)?;
        rest = after[size..].strip_prefix("\r\n")?;
        if size == 0 {
            return Some((said, rest));
        }
        said.push_str(chunk);
    }
}
