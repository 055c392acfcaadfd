//! A core and its clients without sockets: what each limit does, and that each is counted.

mod proxies;

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use crate::booking::{SaleName, SaleState, SaleTerms};
use crate::clock::WallTime;
use crate::connection::CloseState;
use crate::http::{Reason, Status};
use crate::limits::{self, Limit};
use crate::protocol::{
    BookingOp, Cancel, Cancellation, Confirmation, Reservation, SaleOp, SaleResult, SlotRange,
};

/// One loop, as the worker runs it, with sockets that take everything, or nothing.
struct Loop {
    engine: Engine,
    admission: Arc<Admission>,
    metrics: Arc<CoreMetrics>,
    now: Now,
    /// What each client was sent.
    written: HashMap<ConnectionKey, Vec<u8>>,
    /// Clients that read nothing.
    stuck: HashSet<ConnectionKey>,
    /// What the ledger was asked, but for syncs.
    calls: Vec<(CallId, Call)>,
}

const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 40_000));
const GET: &[u8] = b"GET /v1/sales/ticket HTTP/1.1\r\nHost: h\r\n\r\n";
const BUY_TEXT: &str = "GET /buy/ticket HTTP/1.1\r\nHost: h\r\n\r\n";
const BUY: &[u8] = BUY_TEXT.as_bytes();

/// The sale as the ledger tells it, after what a loop knows at first.
fn selling() -> SaleState {
    let terms = SaleTerms { total: 1_000_000, ..SaleTerms::default() };
    SaleState { terms, version: 1, now: WallTime(2_000), ..SaleState::default() }
}

/// The smallest that a core may buffer, and with it the smallest requests and answers.
fn smallest() -> ClientLimits {
    let limits = ClientLimits {
        target_bytes: 256,
        head_bytes: 1024,
        body_bytes: 512,
        unsent_bytes: 1024,
        buffered_bytes: 16 * 1024,
        ..ClientLimits::default()
    };
    assert_eq!(limits.check(), Ok(()));
    limits
}

impl Loop {
    fn new(limits: &ClientLimits) -> Loop {
        Loop::of(limits, &Arc::new(Admission::new(limits)))
    }

    fn of(limits: &ClientLimits, admission: &Arc<Admission>) -> Loop {
        let board = Arc::new(Board::new(1, 0.2));
        let terms = SaleTerms { total: 1_000_000, ..Default::default() };
        let state = SaleState { terms, version: 1, now: WallTime(1_000), ..Default::default() };
        board.learn(&SaleName::parse("ticket").unwrap(), &state).unwrap();
        let settings = Settings {
            core: CoreIndex(0),
            ledger_timeout_ms: 2_000,
            seed: [7; 32],
            limits: Arc::new(limits.clone()),
            admission: Arc::clone(admission),
        };
        let metrics = Arc::new(CoreMetrics::default());
        let now = Now { monotonic: Monotonic(0), wall: WallTime(1_000) };
        let mut engine = Engine::new(settings, board, Arc::clone(&metrics), None, now);
        engine.begin_turn(now);
        engine.handle_ledger_up(SlotRange::ALL);
        Loop {
            engine,
            admission: Arc::clone(admission),
            metrics,
            now,
            written: HashMap::new(),
            stuck: HashSet::new(),
            calls: Vec::new(),
        }
    }

    fn accept(&mut self) -> Option<ConnectionKey> {
        self.engine.handle_accepted(PEER).ok()
    }

    /// A turn in which this client's bytes arrive, where the loop wants them.
    fn send(&mut self, key: ConnectionKey, bytes: &[u8]) {
        self.engine.begin_turn(self.now);
        if self.engine.wants_read(key) {
            self.engine.handle_bytes(key, bytes);
            if self.engine.is_pressed() {
                self.flush_touched();
                self.engine.relieve();
            }
        }
        self.end_turn();
    }

    fn advance(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.plus_ms(ms);
        self.engine.begin_turn(self.now);
        self.end_turn();
        while self.engine.connections.is_behind() {
            self.engine.begin_turn(self.now);
            self.end_turn();
        }
    }

    fn end_turn(&mut self) {
        self.engine.end_turn();
        while let Some((id, call)) = self.engine.poll_call() {
            if call.entries() > 0 {
                self.calls.push((id, call));
            }
        }
        self.flush_touched();
        self.engine.connections.check_invariants();
    }

    fn flush_touched(&mut self) {
        while let Some(key) = self.engine.poll_touched() {
            while !self.stuck.contains(&key) && !self.engine.output(key).is_empty() {
                let output = self.engine.output(key);
                self.written.entry(key).or_default().extend_from_slice(output);
                let bytes = output.len();
                self.engine.handle_written(key, bytes);
            }
            if self.stuck.contains(&key) && !self.engine.output(key).is_empty() {
                self.engine.handle_written(key, 0);
            }
            if self.engine.close_state(key) == CloseState::Closed {
                self.engine.handle_gone(key);
            }
        }
    }

    /// The ledger grants the one booking that it was asked for; gives its id.
    fn grant_one(&mut self) -> BookingId {
        let place = self
            .calls
            .iter()
            .position(|(_, call)| matches!(call, Call::Bookings { op: BookingOp::Reserve(_), .. }))
            .unwrap();
        let (call, Call::Bookings { op: BookingOp::Reserve(claims), .. }) = self.calls.remove(place) else {
            unreachable!()
        };
        let reservations = vec![Reservation::Granted { expires_at: None }];
        self.engine.begin_turn(self.now);
        self.engine.handle_answer(
            call,
            Ok(Answer::Sale { state: selling(), result: SaleResult::Reserved(reservations) }),
        );
        self.end_turn();
        claims[0].id
    }

    /// The ledger has none of the bookings that it was asked for until now; what waited for that answer leaves.
    fn find_nothing(&mut self) {
        self.engine.begin_turn(self.now);
        for (call, asked) in std::mem::take(&mut self.calls) {
            match asked {
                Call::Sale { op: SaleOp::LookUp(ids), .. } => {
                    let bookings = vec![None; ids.len()];
                    self.engine.handle_answer(
                        call,
                        Ok(Answer::Sale { state: selling(), result: SaleResult::Found(bookings) }),
                    );
                }
                _ => self.calls.push((call, asked)),
            }
        }
        self.end_turn();
    }

    /// The booking that the host cancels by itself.
    fn cancelled(&self) -> Option<BookingId> {
        self.calls
            .iter()
            .find_map(|(_, call)| match call {
                Call::Bookings { op: BookingOp::Cancel(cancels), .. } => Some(cancels[0]),
                _ => None,
            })
            .map(|cancel| {
                assert!(cancel.tombstone, "with a tombstone");
                cancel.id
            })
    }

    fn text(&self, key: ConnectionKey) -> &str {
        self.written.get(&key).map_or("", |bytes| std::str::from_utf8(bytes).unwrap())
    }

    fn answers(&self, key: ConnectionKey) -> usize {
        self.text(key).matches("HTTP/1.1 ").count()
    }
}

/// Bytes that HTTP refuses for that reason, all at once; `None` where it takes time or other clients.
fn malformed(reason: Reason) -> Option<Vec<u8>> {
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n") + body;
    let limits = ClientLimits::default();
    let text = match reason {
        Reason::TlsHello => "\x16\x03\x01".to_owned(),
        Reason::Http2Preface => "PRI * HTTP/2.0\r\n\r\n".to_owned(),
        Reason::LeadingEmptyLines => "\r\n".repeat(5),
        Reason::BareLineFeed => "GET / HTTP/1.1\n".to_owned(),
        Reason::BareCarriageReturn => post("A: b\rc\r\n"),
        Reason::ControlByte => post("A: \x01\r\n"),
        Reason::RequestLine => "GET\r\n\r\n".to_owned(),
        Reason::MethodNotImplemented => "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(),
        Reason::TargetByte => "GET /\" HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        Reason::TargetEscape => "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        Reason::TargetForm => "GET a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        Reason::TargetScheme => "GET https://h/ HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        Reason::TargetTooLong => {
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(limits.target_bytes))
        }
        Reason::VersionUnsupported => "GET / HTTP/1.2\r\nHost: h\r\n\r\n".to_owned(),
        Reason::FieldName => post(": b\r\n"),
        Reason::SpaceBeforeColon => post("A : b\r\n"),
        Reason::ObsoleteFolding => post("A: b\r\n c\r\n"),
        Reason::TooManyFields => post(&"A: b\r\n".repeat(limits.fields)),
        Reason::HeadTooLarge => post(&format!("A: {}\r\n", "b".repeat(limits.head_bytes))),
        Reason::HostMissing => "GET / HTTP/1.1\r\n\r\n".to_owned(),
        Reason::HostRepeated => post("Host: h\r\n"),
        Reason::HostInvalid => "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        Reason::LengthAndEncoding => post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        Reason::EncodingInHttp10 => "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        Reason::EncodingUnknown => post("Transfer-Encoding: gzip\r\n"),
        Reason::LengthRepeated => post("Content-Length: 1\r\nContent-Length: 1\r\n"),
        Reason::LengthInvalid => post("Content-Length: +1\r\n"),
        Reason::BodyTooLarge => post(&format!("Content-Length: {}\r\n", limits.body_bytes + 1)),
        Reason::ExpectationUnknown => post("Expect: tea\r\n"),
        Reason::ChunkSize => chunked("x\r\n"),
        Reason::ChunkExtension => chunked("1;=\r\n"),
        Reason::ChunkEnd => chunked("1\r\nabc"),
        Reason::Trailer => chunked("0\r\n: b\r\n"),
        Reason::ChunkOverhead => chunked(&format!("1;{}\r\n", "a".repeat(limits.chunk_overhead_bytes))),
        Reason::ProxyHeaderUnexpected => "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n\r\n".to_owned(),
        Reason::ProxyHeaderMissing
        | Reason::ProxyHeader
        | Reason::AddressConnections
        | Reason::HeadTimeout
        | Reason::BodyTimeout
        | Reason::Overloaded => return None,
    };
    Some(text.into_bytes())
}

/// Has one request refused for that reason.
fn refuse(reason: Reason) -> (Loop, ConnectionKey) {
    let of_proxy: &[&[u8]] = match reason {
        Reason::ProxyHeaderMissing => &[GET],
        Reason::ProxyHeader => &[b"PROXY TCP4 x\r\n"],
        Reason::AddressConnections => &[b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".as_slice(); 3],
        _ => &[],
    };
    if !of_proxy.is_empty() {
        let mut host = proxies::behind(true);
        let keys: Vec<_> = of_proxy.iter().map(|bytes| host.send_by_proxy(bytes)).collect();
        return (host, keys[keys.len() - 1]);
    }
    let mut host =
        Loop::new(&if reason == Reason::Overloaded { smallest() } else { ClientLimits::default() });
    let key = host.accept().unwrap();
    match (malformed(reason), reason) {
        (Some(bytes), _) => host.send(key, &bytes),
        (None, Reason::HeadTimeout) => {
            host.send(key, b"GET /");
            host.advance(10_200);
        }
        (None, Reason::BodyTimeout) => {
            host.send(key, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n");
            host.advance(10_200);
        }
        (None, _) => {
            // Half a request takes a kilobyte.
            for _ in 0..16 {
                let key = host.accept().unwrap();
                host.send(key, b"GET /");
            }
            host.send(key, b"GET /");
        }
    }
    (host, key)
}

#[test]
fn every_refusal_is_counted_once_under_its_reason_and_its_limit() {
    for &reason in Reason::ALL {
        let (host, key) = refuse(reason);
        for &other in Reason::ALL {
            assert_eq!(host.metrics.malformed(other), u64::from(other == reason), "{other:?} for {reason:?}");
        }
        for &limit in Limit::ALL {
            assert_eq!(
                host.metrics.limit(limit),
                u64::from(reason.limit() == Some(limit)),
                "{limit} for {reason:?}"
            );
        }
        let text = host.text(key);
        assert!(text.starts_with(&format!("HTTP/1.1 {}", reason.status().code())), "{reason:?}: {text}");
        let (name, has_pause) = if reason.status() == Status::ServiceUnavailable {
            ("overloaded", true)
        } else {
            ("http", false)
        };
        assert!(text.contains(&format!("\"type\":\"/problems/{name}\"")), "{text}");
        assert_eq!(text.contains("Retry-After: 1\r\n"), has_pause, "{text}");
        assert!(text.contains("Connection: close\r\n"), "{text}");
        assert_eq!(host.engine.close_state(key), CloseState::Linger, "{reason:?}");
    }
}

/// Has a client meet that limit once.
fn meet(limit: Limit) -> Loop {
    let with = |change: fn(&mut ClientLimits)| {
        let mut limits = ClientLimits::default();
        change(&mut limits);
        Loop::new(&limits)
    };
    match limit {
        Limit::TargetBytes
        | Limit::HeadBytes
        | Limit::Fields
        | Limit::BodyBytes
        | Limit::ChunkOverheadBytes
        | Limit::HeadTime
        | Limit::BodyTime
        | Limit::BufferedBytes => {
            refuse(*Reason::ALL.iter().find(|reason| reason.limit() == Some(limit)).unwrap()).0
        }
        Limit::IdleTime => {
            let mut host = Loop::new(&ClientLimits::default());
            let key = host.accept().unwrap();
            host.send(key, GET);
            host.advance(74_000);
            assert_eq!(host.engine.close_state(key), CloseState::Open);
            host.advance(1_200);
            assert_eq!(host.engine.close_state(key), CloseState::Closed);
            host
        }
        Limit::WriteStall => {
            let mut host = Loop::new(&ClientLimits::default());
            let key = host.accept().unwrap();
            host.stuck.insert(key);
            host.send(key, GET);
            host.advance(10_200);
            assert_eq!(host.engine.close_state(key), CloseState::Closed);
            host
        }
        Limit::Linger => {
            let mut host = Loop::new(&ClientLimits { requests: 0, ..ClientLimits::default() });
            let key = host.accept().unwrap();
            host.send(key, b"GET\r\n\r\n");
            host.advance(2_200);
            assert_eq!(host.engine.close_state(key), CloseState::Closed);
            host
        }
        Limit::Requests => {
            let mut host = with(|limits| limits.requests = 3);
            let key = host.accept().unwrap();
            host.send(key, GET);
            assert!(!host.text(key).contains("Connection: close"));
            host.send(key, &GET.repeat(3));
            assert_eq!(host.answers(key), 3, "what is behind the last one is not answered");
            let last = host.text(key).rfind("HTTP/1.1 200").unwrap();
            assert!(host.text(key).find("Connection: close").unwrap() > last, "{}", host.text(key));
            assert_eq!(host.engine.close_state(key), CloseState::Linger);
            host
        }
        Limit::Pipeline => {
            let mut host = with(|limits| limits.pipeline = 3);
            let key = host.accept().unwrap();
            host.send(key, &BUY.repeat(3));
            assert_eq!(host.metrics.limit(Limit::Pipeline), 0);
            assert!(!host.engine.wants_read(key));
            let key = host.accept().unwrap();
            host.send(key, &BUY.repeat(4));
            assert_eq!(host.engine.core.desk.waiting(), 6);
            host
        }
        Limit::UnsentBytes => {
            let mut host = with(|limits| limits.unsent_bytes = 2_048);
            let key = host.accept().unwrap();
            host.stuck.insert(key);
            host.send(key, &GET.repeat(100));
            let unsent = host.engine.output(key).len();
            assert!((2_048..2_048 + 400).contains(&unsent), "{unsent}");
            assert!(!host.engine.wants_read(key));
            host
        }
        Limit::Connections => {
            let mut host = with(|limits| limits.connections = 2);
            let first = host.accept().unwrap();
            assert!(host.accept().is_some() && host.accept().is_none());
            host.send(first, GET);
            assert_eq!(host.answers(first), 1);
            host.engine.handle_gone(first);
            assert!(host.accept().is_some());
            host
        }
        Limit::AddressConnections => {
            let mut host = with(|limits| limits.address_connections = 2);
            let first = host.accept().unwrap();
            assert!(host.accept().is_some() && host.accept().is_none());
            assert!(host.engine.handle_accepted((Ipv4Addr::new(10, 0, 0, 2), 1).into()).is_ok());
            host.engine.handle_gone(first);
            assert!(host.accept().is_some());
            host
        }
    }
}

#[test]
fn every_limit_has_its_effect_and_its_counter() {
    for &limit in Limit::ALL {
        let host = meet(limit);
        for &other in Limit::ALL {
            assert_eq!(host.metrics.limit(other), u64::from(other == limit), "{other} for {limit}");
        }
    }
}

#[test]
fn every_cut_is_counted() {
    for cut in CutReason::ALL {
        let host = match cut {
            CutReason::Unread => unread().0,
            CutReason::Unasked => {
                let mut host = Loop::new(&ClientLimits::default());
                let key = host.accept().unwrap();
                host.advance(10_200);
                assert_eq!(host.engine.close_state(key), CloseState::Closed);
                host
            }
            _ => meet(cut.limit()),
        };
        for other in CutReason::ALL {
            assert_eq!(host.metrics.cut(other), u64::from(other == cut), "{other:?} for {cut:?}");
        }
    }
}

/// Room for some ten clients that do not read.
fn unread_limits() -> ClientLimits {
    ClientLimits { unsent_bytes: 2_048, buffered_bytes: 256 * 1024, ..smallest() }
}

/// As many clients that read nothing as it takes for one to be cut; gives them, in their order.
fn unread() -> (Loop, Vec<ConnectionKey>) {
    let mut host = Loop::new(&unread_limits());
    let mut crowd = Vec::new();
    while host.metrics.cut(CutReason::Unread) == 0 {
        let key = host.accept().unwrap();
        host.stuck.insert(key);
        host.send(key, &GET.repeat(if crowd.len() == 3 { 300 } else { 100 }));
        crowd.push(key);
        assert!(crowd.len() < 100);
    }
    (host, crowd)
}

#[test]
fn who_does_not_read_pays_for_the_room_that_is_short() {
    let (mut host, crowd) = unread();
    assert!(crowd.len() > 8, "{}", crowd.len());
    let gone = |host: &Loop| crowd.iter().filter(|key| host.engine.connections.get(**key).is_none()).count();
    assert_eq!(gone(&host), 1);
    assert!(host.engine.connections.get(crowd[3]).is_none(), "whoever holds most goes first");
    let others: Vec<_> = (0..20).map(|_| host.accept().unwrap()).collect();
    let mut refilled = 0;
    for round in 1..=50 {
        // The crowd comes again, and again.
        let key = host.accept().expect("nobody is kept out");
        host.stuck.insert(key);
        host.send(key, &GET.repeat(100));
        for &other in &others {
            host.send(other, GET);
            assert_eq!(host.text(other).matches("HTTP/1.1 200").count(), round);
        }
        assert!(host.engine.connections.buffered_bytes() <= unread_limits().buffered_bytes);
        refilled += 1;
    }
    assert!(host.metrics.cut(CutReason::Unread) > refilled / 2, "{}", host.metrics.cut(CutReason::Unread));
    assert_eq!((host.metrics.malformed(Reason::Overloaded), host.metrics.connections_refused.get()), (0, 0));
    // Whoever has begun to read again is none of them.
    let reads =
        *crowd.iter().rev().find(|key| host.engine.connections.get(**key).is_some()).unwrap_or(&others[0]);
    host.stuck.remove(&reads);
    host.engine.begin_turn(host.now);
    host.engine.handle_bytes(reads, b"");
    host.end_turn();
    assert_eq!(host.engine.connections.get(reads).unwrap().unread_bytes(), 0);
}

#[test]
fn a_crowd_whose_time_is_up_at_once_is_cut_a_few_a_turn_and_nobody_else_waits() {
    let mut host = Loop::new(&ClientLimits::default());
    let crowd: Vec<_> = (0..10 * limits::TIMEOUTS_PER_TURN_MAX).map(|_| host.accept().unwrap()).collect();
    crowd.iter().for_each(|&key| host.send(key, b"GET /"));
    host.now.monotonic = host.now.monotonic.plus_ms(10_020);
    host.engine.begin_turn(host.now);
    let other = host.accept().unwrap();
    for turn in 1..=10 {
        host.send(other, GET);
        assert_eq!(host.answers(other), turn, "answered in the same turn");
        let cut = crowd.iter().filter(|&&key| host.answers(key) == 1).count();
        assert_eq!(cut, turn * limits::TIMEOUTS_PER_TURN_MAX, "the longest there first, and no more");
        let is_over = turn == 10;
        assert_eq!(host.engine.next_deadline() <= host.now.monotonic, !is_over, "the loop goes on at once");
    }
    assert!(crowd.iter().all(|&key| host.text(key).starts_with("HTTP/1.1 408")));
}

#[test]
fn loops_share_the_limit_of_connections() {
    let limits = ClientLimits { connections: 5, ..ClientLimits::default() };
    let admission = Arc::new(Admission::new(&limits));
    let (mut one, mut other) = (Loop::of(&limits, &admission), Loop::of(&limits, &admission));
    let keys: Vec<_> = (0..4).map(|_| one.accept().unwrap()).collect();
    assert!(other.accept().is_some(), "a loop may have one of five as another has four");
    assert!(other.accept().is_none() && one.accept().is_none());
    assert_eq!((one.metrics.limit(Limit::Connections), other.metrics.connections_refused.get()), (1, 1));
    keys.into_iter().for_each(|key| one.engine.handle_gone(key));
    assert!((0..4).all(|_| other.accept().is_some()));
    assert_eq!(admission.open(), 5);
}

/// `/buy` grants an id made here, behind a look-up that is not answered yet, and the client is gone: the only way to the
/// booking was in the answer that waited.
#[test]
fn a_booking_that_its_client_can_never_hear_of_is_cancelled() {
    for hears in [false, true] {
        let mut host = Loop::new(&ClientLimits::default());
        let client = host.accept().unwrap();
        let look_up = b"GET /v1/sales/ticket/bookings/other HTTP/1.1\r\nHost: h\r\n\r\n";
        host.send(client, &[&look_up[..], BUY].concat());
        let mut calls = std::mem::take(&mut host.calls);
        calls.sort_by_key(|(_, call)| matches!(call, Call::Sale { op: SaleOp::LookUp(_), .. }));
        let [
            (reserve, Call::Bookings { sale, op: BookingOp::Reserve(claims), .. }),
            (looked_up, Call::Sale { op: SaleOp::LookUp(_), .. }),
        ] = calls.as_slice()
        else {
            panic!("{calls:?}")
        };
        let state = selling();
        host.engine.begin_turn(host.now);
        let reservations = vec![Reservation::Granted { expires_at: None }];
        host.engine.handle_answer(
            *reserve,
            Ok(Answer::Sale { state: state.clone(), result: SaleResult::Reserved(reservations) }),
        );
        let found = Ok(Answer::Sale { state, result: SaleResult::Found(vec![None]) });
        if hears {
            host.engine.handle_answer(*looked_up, found.clone());
        }
        host.end_turn();
        assert_eq!(host.answers(client), if hears { 2 } else { 0 });
        host.engine.handle_gone(client);
        if !hears {
            host.engine.handle_answer(*looked_up, found);
        }
        host.end_turn();
        let cancelled = host.calls.iter().find_map(|(_, call)| match call {
            Call::Bookings { sale, op: BookingOp::Cancel(ids), .. } => Some((*sale, ids.clone())),
            _ => None,
        });
        assert_eq!(cancelled, (!hears).then(|| (*sale, vec![Cancel { id: claims[0].id, tombstone: true }])));
    }
}

/// Part of what was asked before is written while the booking's answer waits: that is no word of the booking.
#[test]
fn a_booking_that_waits_behind_an_answer_being_written_is_cancelled_with_its_client() {
    let mut host = Loop::new(&ClientLimits::default());
    let client = host.accept().unwrap();
    host.stuck.insert(client);
    let look_up = b"GET /v1/sales/ticket/bookings/other HTTP/1.1\r\nHost: h\r\n\r\n";
    host.send(client, &[GET, look_up, BUY].concat());
    let granted = host.grant_one();
    assert_eq!(host.answers(client), 0);
    // The client reads on: what there is for it goes out.
    host.engine.begin_turn(host.now);
    let bytes = host.engine.output(client).len();
    assert!(bytes > 0, "the first answer");
    host.engine.handle_written(client, bytes);
    host.engine.handle_gone(client);
    host.end_turn();
    host.find_nothing();
    assert_eq!(host.cancelled(), Some(granted));
}

/// Its answer was written, and the connection has more to wait for when it breaks.
#[test]
fn a_booking_that_its_client_was_told_of_stays_whatever_becomes_of_the_connection() {
    let mut host = Loop::new(&ClientLimits::default());
    let client = host.accept().unwrap();
    let look_up = b"GET /v1/sales/ticket/bookings/other HTTP/1.1\r\nHost: h\r\n\r\n";
    host.send(client, &[look_up, BUY].concat());
    host.grant_one();
    // Asked before the two answers are written, and not answered any more.
    host.engine.begin_turn(host.now);
    host.engine.handle_bytes(client, look_up);
    host.find_nothing();
    assert_eq!(host.answers(client), 2);
    host.engine.handle_gone(client);
    host.end_turn();
    host.find_nothing();
    assert_eq!(host.cancelled(), None);
}

/// Requests that ask the ledger: how each is written, and whether it changes a booking that has a name.
const ASKS: [(&str, bool); 9] = [
    ("PUT /v1/sales/ticket/bookings/b HTTP/1.1\r\nHost: h\r\n\r\n", true),
    (
        "POST /v1/sales/ticket/bookings HTTP/1.1\r\nHost: h\r\nIdempotency-Key: b\r\nContent-Length: 2\r\n\r\n{}",
        true,
    ),
    ("DELETE /v1/sales/ticket/bookings/b HTTP/1.1\r\nHost: h\r\n\r\n", true),
    ("POST /v1/sales/ticket/bookings/b/confirm HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", true),
    ("GET /v1/sales/ticket/bookings/b HTTP/1.1\r\nHost: h\r\n\r\n", false),
    ("HEAD /v1/sales/ticket/bookings/b HTTP/1.1\r\nHost: h\r\n\r\n", false),
    ("GET /buy/ticket HTTP/1.1\r\nHost: h\r\n\r\n", false),
    ("POST /buy/ticket HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", false),
    ("POST /v1/sales/ticket/bookings HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", false),
];

#[test]
fn what_changes_a_booking_waits_for_those_before_it_and_keeps_those_behind_it_waiting() {
    for (first, first_changes) in ASKS {
        for (second, second_changes) in ASKS {
            let mut host = Loop::new(&ClientLimits::default());
            let client = host.accept().unwrap();
            host.send(client, [first, second].concat().as_bytes());
            let both = !first_changes && !second_changes;
            assert_eq!(host.engine.core.desk.waiting(), if both { 2 } else { 1 }, "{first}{second}");
            assert_eq!(host.engine.wants_read(client), both, "{first}{second}");
            assert_eq!(host.metrics.limit(Limit::Pipeline), 0);
            // However the first ends, the second has its turn then.
            host.advance(2_200);
            // One with the same id is told at once that the first is still on its way.
            assert!(host.answers(client) >= if both { 2 } else { 1 }, "{first}{second}");
            host.advance(2_200);
            assert_eq!(host.answers(client), 2, "{first}{second}: {}", host.text(client));
        }
        // What is answered at once keeps nobody waiting.
        let mut host = Loop::new(&ClientLimits::default());
        let client = host.accept().unwrap();
        host.send(client, &[GET, first.as_bytes()].concat());
        assert_eq!((host.answers(client), host.engine.core.desk.waiting()), (1, 1), "{first}");
    }
}

#[test]
fn what_a_sale_shows_follows_what_is_on_its_way() {
    let mut host = Loop::new(&ClientLimits::default());
    let client = host.accept().unwrap();
    host.send(client, &[BUY, GET, BUY].concat());
    assert_eq!(host.engine.core.desk.waiting(), 1, "what is behind waits, too");
    assert_eq!(host.metrics.ended(OutcomeLabel::SaleShown), 0);
    host.grant_one();
    assert_eq!((host.metrics.ended(OutcomeLabel::SaleShown), host.answers(client)), (1, 2));
    assert_eq!(host.engine.core.desk.waiting(), 1);
}

fn name_of(call: &Call) -> &'static str {
    match call {
        Call::Bookings { op: BookingOp::Reserve(_), .. } => "Reserve",
        Call::Bookings { op: BookingOp::Confirm(_), .. } => "Confirm",
        Call::Bookings { op: BookingOp::Cancel(_), .. } => "Cancel",
        Call::Sale { op: SaleOp::LookUp(_), .. } => "LookUp",
        other => panic!("{other:?}"),
    }
}

#[test]
fn deeds_on_one_booking_are_asked_for_in_the_order_in_which_they_came() {
    let [put, _, delete, confirm, get, ..] = ASKS.map(|(text, _)| text);
    let mut host = Loop::new(&ClientLimits::default());
    let client = host.accept().unwrap();
    host.send(client, [delete, confirm, get, get, put, BUY_TEXT, BUY_TEXT, delete].concat().as_bytes());
    let mut asked = Vec::new();
    for _ in 0..8 {
        host.engine.begin_turn(host.now);
        for (id, call) in std::mem::take(&mut host.calls) {
            let state = selling();
            let answer = match &call {
                Call::Bookings { op: BookingOp::Reserve(claims), .. } => Answer::Sale {
                    state,
                    result: SaleResult::Reserved(vec![
                        Reservation::Granted { expires_at: None };
                        claims.len()
                    ]),
                },
                Call::Bookings { op: BookingOp::Confirm(ids), .. } => Answer::Sale {
                    state,
                    result: SaleResult::Confirmed(vec![Confirmation::NotFound; ids.len()]),
                },
                Call::Bookings { op: BookingOp::Cancel(ids), .. } => Answer::Sale {
                    state,
                    result: SaleResult::Cancelled(vec![Cancellation::NotFound; ids.len()]),
                },
                Call::Sale { op: SaleOp::LookUp(ids), .. } => {
                    Answer::Sale { state, result: SaleResult::Found(vec![None; ids.len()]) }
                }
                other => panic!("{other:?}"),
            };
            asked.push(format!("{} {}", name_of(&call), call.entries()));
            host.engine.handle_answer(id, Ok(answer));
        }
        host.end_turn();
    }
    assert_eq!(asked, ["Cancel 1", "Confirm 1", "LookUp 2", "Reserve 1", "Reserve 2", "Cancel 1"]);
    assert_eq!(host.answers(client), 8);
}

/// "Book anew" is for whoever cannot ask with the same id again: who has an id of its own would have two bookings.
#[test]
fn only_a_client_without_an_id_of_its_own_is_told_to_book_anew() {
    let mut host = Loop::new(&ClientLimits::default());
    let [own, key, made] = std::array::from_fn(|_| host.accept().unwrap());
    let ask = |head: &str| format!("{head} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}");
    // In one turn: they leave together, and nobody is told that nothing was done.
    host.engine.begin_turn(host.now);
    host.engine.handle_bytes(own, ask("PUT /v1/sales/ticket/bookings/mine").as_bytes());
    let keyed = "POST /v1/sales/ticket/bookings HTTP/1.1\r\nHost: h\r\nIdempotency-Key: \"k-1\"\r\nContent-Length: 2\r\n\r\n{}";
    host.engine.handle_bytes(key, keyed.as_bytes());
    host.engine.handle_bytes(made, ask("POST /v1/sales/ticket/bookings").as_bytes());
    host.end_turn();
    host.advance(2_200);
    for (client, is_made) in [(own, false), (key, false), (made, true)] {
        let text = host.text(client);
        assert!(text.contains("\"type\":\"/problems/outcome-unknown\""), "{text}");
        assert_eq!(text.contains("send a new request"), is_made, "{text}");
    }
}

#[test]
fn a_core_buffers_no_more_than_it_may_and_nobody_waits_for_room() {
    let limits = smallest();
    let mut host = Loop::new(&limits);
    let client = host.accept().unwrap();
    let mut slow = Vec::new();
    while let Some(key) = host.accept() {
        slow.push(key);
        host.send(key, b"POST /v1/sales/ticket/bookings HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n{");
        assert!(slow.len() < 100, "half requests fill the core");
    }
    assert_eq!((slow.len(), host.engine.connections.buffered_bytes()), (16, 16 * 1024));
    assert_eq!(host.metrics.limit(Limit::BufferedBytes), 1, "the newcomer");
    // Those that are there already get their answer at once, be it a 503.
    host.send(client, GET);
    assert!(host.text(client).starts_with("HTTP/1.1 503"), "{}", host.text(client));
    // A request that has its room is served, and gives it back.
    host.send(slow[0], &[b' '; 499]);
    assert!(host.text(slow[0]).starts_with("HTTP/1.1 400"), "{}", host.text(slow[0]));
    let client = host.accept().unwrap();
    host.send(client, GET);
    assert!(host.text(client).starts_with("HTTP/1.1 200"), "{}", host.text(client));
    // Clocks run against those that fill it.
    host.advance(10_200);
    assert!(slow[1..].iter().all(|&key| host.text(key).starts_with("HTTP/1.1 408")));
    assert_eq!(host.engine.connections.buffered_bytes(), 0);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 300, failure_persistence: None, ..Default::default()
    })]

    /// Clients of all kinds on a core with hardly any room: memory stays bounded, and all of them end.
    #[test]
    fn whatever_clients_do_memory_is_bounded_and_all_is_given_back(
        steps in proptest::collection::vec((0..12_u8, 0..40_usize, 1..1_200_usize), 0..200),
    ) {
        let limits = ClientLimits {
            connections: 24, address_connections: 24, requests: 9, pipeline: 3, ..smallest()
        };
        let mut host = Loop::new(&limits);
        let mut keys = Vec::new();
        for (action, client, bytes) in steps {
            if action < 3 {
                keys.extend(host.accept());
                continue;
            }
            let Some(&key) = keys.get(client % keys.len().max(1)) else { continue };
            match action {
                3 => host.send(key, GET),
                4 => host.send(key, &BUY.repeat(1 + bytes % 5)),
                5 => host.send(key, &GET[..bytes % GET.len()]),
                6 => host.send(key, &b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;"[..]),
                7 => host.send(key, &vec![b'a'; bytes]),
                8 => { host.stuck.insert(key); }
                9 => { host.stuck.remove(&key); }
                10 => { host.engine.handle_end(key); host.end_turn(); }
                _ => host.advance(bytes as u64),
            }
            // Begun before, or refused: an answer of at most a kilobyte each, in a buffer of at most four times that.
            let most = limits.buffered_bytes + 4 * (limits.connections * (limits.pipeline + 1)) * 1024;
            proptest::prop_assert!(host.engine.connections.buffered_bytes() <= most);
            proptest::prop_assert!(host.admission.open() <= limits.connections);
        }
        // The ledger never answers: those who wait for it are told so, those who do not read are cut.
        for _ in 0..8 {
            host.advance(100_000);
            host.advance(200);
        }
        proptest::prop_assert_eq!(host.engine.connections.buffered_bytes(), 0);
        proptest::prop_assert_eq!((host.engine.connections.len(), host.admission.open()), (0, 0));
    }
}

#[test]
fn a_deed_under_a_condition_that_the_booking_does_not_meet_is_not_done() {
    let deeds = [
        ("DELETE /v1/sales/ticket/bookings/b", "Cancel"),
        ("POST /v1/sales/ticket/bookings/b/confirm", "Confirm"),
    ];
    let look = ("GET /v1/sales/ticket/bookings/b", "LookUp");
    for (head, name) in deeds.into_iter().chain([look]) {
        for (condition, is_met) in [("", true), ("If-Match: *\r\n", true), ("If-None-Match: *\r\n", false)] {
            let mut host = Loop::new(&ClientLimits::default());
            let client = host.accept().unwrap();
            let text = format!("{head} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{condition}\r\n");
            host.send(client, text.as_bytes());
            let (call, asked) = host.calls.pop().unwrap();
            let expected = if is_met { name } else { "LookUp" };
            assert_eq!(name_of(&asked), expected, "{text}: {asked:?}");
            let Call::Sale { op: SaleOp::LookUp(ids), .. } = asked else { continue };
            let (status, quantity) = (crate::booking::BookingStatus::Confirmed, Quantity::ONE);
            let booking = crate::booking::Booking {
                id: ids[0],
                status,
                quantity,
                released: 0,
                buyer: None,
                reassigned: 0,
            };
            let answer = Answer::Sale { state: selling(), result: SaleResult::Found(vec![Some(booking)]) };
            host.engine.begin_turn(host.now);
            host.engine.handle_answer(call, Ok(answer));
            host.end_turn();
            // To look is no deed.
            let status = if name == "LookUp" { "HTTP/1.1 200 " } else { "HTTP/1.1 412 " };
            assert!(host.text(client).starts_with(status), "{text}: {}", host.text(client));
        }
    }
}

#[test]
fn a_client_that_sends_no_more_has_its_answers_and_then_gives_up_its_place() {
    let mut core = Loop::new(&ClientLimits::default());
    let idle = core.accept().unwrap();
    let waiting = core.accept().unwrap();
    core.send(waiting, BUY);
    core.engine.begin_turn(core.now);
    core.engine.handle_end(idle);
    core.engine.handle_end(waiting);
    core.end_turn();
    // What says so of no connection is `Closed`, too.
    assert_eq!(core.metrics.connections_open.get(), 1, "nothing is owed to the one");
    assert_eq!(core.engine.close_state(waiting), CloseState::Open);
    core.grant_one();
    assert_eq!((core.answers(waiting), core.metrics.connections_open.get()), (1, 0));
}

/// By that the admin listener tells whether a loop stands still.
#[test]
fn says_when_its_latest_turn_began() {
    let mut core = Loop::new(&ClientLimits::default());
    for ms in [1, 2_500, 90_000] {
        core.now.monotonic = Monotonic(0).plus_ms(ms);
        core.engine.begin_turn(core.now);
        assert_eq!(core.metrics.last_turn_ms.get(), ms);
    }
}

/// Its client has the id, and will ask with it.
#[test]
fn a_booking_under_the_clients_own_id_outlives_its_connection() {
    let mut host = Loop::new(&ClientLimits::default());
    let client = host.accept().unwrap();
    let put = b"PUT /v1/sales/ticket/bookings/mine HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    host.send(client, put);
    host.engine.handle_gone(client);
    host.grant_one();
    assert_eq!(host.cancelled(), None);
}

#[test]
fn connections_that_cannot_be_accepted_are_counted() {
    let mut host = Loop::new(&ClientLimits::default());
    host.engine.handle_accept_failure();
    assert_eq!(host.metrics.accept_failures.get(), 1);
}

#[test]
fn what_can_be_asked_of_the_server_as_a_whole_is_its_methods_alone() {
    for (line, status) in [("OPTIONS *", "204"), ("OPTIONS /nowhere", "404"), ("GET /nowhere", "404")] {
        let mut host = Loop::new(&ClientLimits::default());
        let client = host.accept().unwrap();
        host.send(client, format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        let text = host.text(client);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {text}");
    }
}

/// A ledger that is there would have told of it, and one that is away cannot have.
#[test]
fn a_sale_that_nobody_has_heard_of_is_unknown_unless_the_ledger_was_away() {
    for (is_away, status) in [(false, "404"), (true, "503")] {
        let mut host = Loop::new(&ClientLimits::default());
        if is_away {
            host.engine.handle_ledger_down(SlotRange::ALL);
            host.advance(2_000);
        }
        let client = host.accept().unwrap();
        host.send(client, b"GET /v1/sales/nothing HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(host.text(client).starts_with(&format!("HTTP/1.1 {status} ")), "{}", host.text(client));
    }
}
