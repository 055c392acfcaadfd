//! Answers that go on: their place, their parts, what waits behind them, and how they end.

use super::*;
use crate::connection::{Produced, StreamPart};

/// Streams what is under `/stream`, puts off what is under `/later`, and answers all else with its path.
#[derive(Default)]
struct Ticker {
    /// What a stream says when it is asked.
    latest: String,
    asked: usize,
    is_over: bool,
    has_more: bool,
    waiting: Vec<(PendingReply, String)>,
}

impl Service for Ticker {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        match request.path {
            "/stream" => reply.stream(&ok(b"")).into(),
            "/later" => {
                let (pending, handled) = reply.later();
                self.waiting.push((pending, request.path.to_owned()));
                handled
            }
            path => reply.send(&ok(path.as_bytes())).into(),
        }
    }

    fn must_follow(&self, _: &Request<'_>) -> bool {
        false
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        reply.send(&Response { status: error.status(), ..ok(b"refused") })
    }

    fn produce(&mut self, part: StreamPart<'_>) -> Produced {
        self.asked += 1;
        match (self.is_over, self.has_more) {
            (true, _) => part.end(),
            (false, true) => part.send_more(self.latest.as_bytes()),
            (false, false) => part.send(self.latest.as_bytes()),
        }
    }
}

struct Play {
    connection: Connection,
    ticker: Ticker,
    pool: BufferPool,
    date: DateCache,
    now: Monotonic,
    written: Vec<u8>,
}

impl Play {
    fn new() -> Play {
        Play {
            connection: Connection::new(
                Monotonic(0),
                Arc::new(ClientLimits::default()),
                Origin::new(PEER, &Arc::default()),
            ),
            ticker: Ticker { latest: "one".to_owned(), ..Ticker::default() },
            pool: BufferPool::default(),
            date: DateCache::new(WallTime(784_111_777_000)),
            now: Monotonic(0),
            written: Vec::new(),
        }
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut Ticker) -> R) -> R {
        let mut turn = Turn { now: self.now, date: &self.date, pool: &mut self.pool, is_parting: false };
        let result = act(&mut self.connection, &mut turn, &mut self.ticker);
        while self.connection.wants_resume() {
            self.connection.resume(&mut turn, &mut self.ticker);
        }
        self.connection.check_invariants();
        assert_eq!(self.pool.lent_bytes(), self.connection.buffered_bytes(), "all is lent by the pool");
        result
    }

    fn send(&mut self, bytes: &str) {
        assert!(self.connection.wants_read());
        self.with(|connection, turn, ticker| connection.handle_bytes(bytes.as_bytes(), turn, ticker));
    }

    /// There is something new.
    fn say(&mut self, latest: &str) {
        self.ticker.latest = latest.to_owned();
        self.with(|connection, _, _| connection.wake_stream());
    }

    /// The socket takes everything that is there now; gives it.
    fn write(&mut self) -> String {
        let bytes = self.connection.output().to_vec();
        self.written.extend_from_slice(&bytes);
        self.with(|connection, turn, _| connection.handle_written(bytes.len(), turn));
        String::from_utf8(bytes).unwrap()
    }

    fn answer(&mut self) {
        let (pending, body) = self.ticker.waiting.remove(0);
        self.with(|connection, turn, _| {
            connection.reply(pending, turn).map(|reply| reply.send(&ok(body.as_bytes())))
        });
    }
}

const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n";
const NOW: &str = "GET /now HTTP/1.1\r\nHost: h\r\n\r\n";
const LATER: &str = "GET /later HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_stream_is_a_head_and_chunks_and_an_end_and_then_the_connection_goes_on() {
    let mut play = Play::new();
    play.send(STREAM);
    let first = play.write();
    assert!(
        first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{first}"
    );
    assert!(!first.contains("Content-Length") && !first.contains("Connection:"), "{first}");
    assert!(first.ends_with("\r\n\r\n3\r\none\r\n"), "the first part goes with the head: {first}");
    assert_eq!(play.write(), "", "nothing is asked for before there is something new");
    play.say("and more, some of it");
    assert_eq!(play.write(), "14\r\nand more, some of it\r\n");
    // No chunk is empty but the last one.
    play.say("");
    assert_eq!(play.write(), "");
    play.ticker.is_over = true;
    play.say("");
    assert_eq!(play.write(), "0\r\n\r\n");
    assert!(play.connection.is_idle());
    play.send(NOW);
    assert!(play.write().ends_with("/now"));
}

/// However much is new meanwhile, a client that does not read holds one part, and is told the latest when it has read that.
#[test]
fn what_is_new_while_there_is_no_room_is_told_once_and_as_the_latest() {
    let mut play = Play::new();
    play.send(STREAM);
    let held = play.connection.buffered_bytes();
    for number in 0..1_000 {
        play.say(&number.to_string());
    }
    assert_eq!((play.ticker.asked, play.connection.buffered_bytes()), (1, held));
    assert!(play.write().ends_with("\r\none\r\n"));
    assert_eq!((play.write(), play.ticker.asked), ("3\r\n999\r\n".to_owned(), 2));
    assert_eq!((play.write(), play.ticker.asked), (String::new(), 2));
    // A part of it is not enough.
    play.say("a");
    play.say("b");
    play.with(|connection, turn, _| connection.handle_written(1, turn));
    assert_eq!(play.ticker.asked, 3);
    play.write();
    assert_eq!(play.write(), "1\r\nb\r\n");
}

#[test]
fn who_has_more_to_say_is_asked_again_as_soon_as_there_is_room() {
    let mut play = Play::new();
    play.ticker.has_more = true;
    play.send(STREAM);
    for _ in 0..3 {
        assert!(play.write().ends_with("3\r\none\r\n"));
    }
    play.ticker.latest.clear();
    play.write();
    assert_eq!(play.write(), "", "who says nothing is not asked again and again");
}

#[test]
fn a_stream_waits_for_the_answers_before_it_and_those_behind_wait_for_its_end() {
    let mut play = Play::new();
    play.send(&[LATER, STREAM, NOW].concat());
    play.say("two");
    assert_eq!((play.write(), play.ticker.asked), (String::new(), 0), "its turn has not come");
    play.answer();
    let both = play.write();
    assert!(both.contains("/later") && both.ends_with("3\r\ntwo\r\n") && !both.contains("/now"), "{both}");
    assert!(!play.connection.wants_read(), "what is behind waits in the socket");
    play.ticker.is_over = true;
    play.say("");
    let end = play.write();
    assert!(end.starts_with("0\r\n\r\nHTTP/1.1 200 OK\r\n") && end.ends_with("/now"), "{end}");
    assert!(play.connection.is_idle());
}

#[test]
fn to_http_1_0_a_stream_lasts_until_the_connection_closes() {
    for field in ["", "Connection: keep-alive\r\n"] {
        let mut play = Play::new();
        play.send(&format!("GET /stream HTTP/1.0\r\n{field}\r\n"));
        let first = play.write();
        assert!(
            first.contains("\r\nConnection: close\r\n") && !first.contains("Transfer-Encoding"),
            "{first}"
        );
        assert!(first.ends_with("\r\n\r\none"), "{first}");
        play.say("two");
        assert!(!play.connection.ends_with_output(), "there may be more");
        assert_eq!(play.write(), "two");
        play.ticker.is_over = true;
        play.say("");
        assert_ne!(play.connection.close_state(), CloseState::Open);
    }
}

#[test]
fn head_gets_the_fields_alone_and_nothing_is_asked_for() {
    let mut play = Play::new();
    play.send(&[&STREAM.replace("GET", "HEAD"), NOW].concat());
    let both = play.write();
    assert!(both.contains("Transfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\n"), "{both}");
    assert_eq!(play.ticker.asked, 0);
}

#[test]
fn a_drain_ends_a_stream_and_its_connection() {
    let mut play = Play::new();
    play.send(STREAM);
    play.write();
    play.with(|connection, turn, _| connection.drain(turn));
    assert_eq!(play.write(), "0\r\n\r\n");
    assert_ne!(play.connection.close_state(), CloseState::Open);
    // One whose turn has not come has its place all the same, and one that begins now ends at once.
    let mut play = Play::new();
    play.send(&[LATER, STREAM].concat());
    play.with(|connection, turn, _| connection.drain(turn));
    play.answer();
    let all = play.write();
    assert!(all.contains("/later") && all.ends_with("chunked\r\n\r\n0\r\n\r\n"), "{all}");
    assert_eq!(play.ticker.asked, 0);
    let mut play = Play::new();
    play.send(&STREAM[..10]);
    play.with(|connection, turn, _| connection.drain(turn));
    play.send(&STREAM[10..]);
    let all = play.write();
    assert!(all.contains("\r\nConnection: close\r\n") && all.ends_with("\r\n\r\n0\r\n\r\n"), "{all}");
    assert_ne!(play.connection.close_state(), CloseState::Open);
}

#[test]
fn who_ends_its_side_or_does_not_read_hears_no_more_of_a_stream() {
    let mut play = Play::new();
    play.send(STREAM);
    play.write();
    assert!(play.connection.wants_read(), "or its end would not be noticed");
    play.with(|connection, turn, _| connection.handle_end(turn));
    assert_eq!(play.write(), "0\r\n\r\n");
    assert_eq!(play.connection.close_state(), CloseState::Closed);
    let mut play = Play::new();
    play.send(STREAM);
    play.write();
    assert_eq!(play.connection.deadline(), None, "it may be quiet for as long as nothing is new");
    play.say("two");
    play.now = play.connection.deadline().expect("it has so long to read that");
    let cut = play.with(|connection, turn, ticker| connection.handle_deadline(turn, ticker));
    assert_eq!(
        (cut, play.connection.close_state(), play.pool.lent_bytes()),
        (Some(CutReason::Stalled), CloseState::Closed, 0)
    );
}
