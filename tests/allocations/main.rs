//! Losers are cheap: once a sale is sold out, a refusal allocates nothing and asks the ledger nothing.
//!
//! A binary of its own, because it has an allocator of its own, which counts for each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use boxoffice::access_log::AccessLog;
use boxoffice::booking::{SaleName, SaleState, SaleTerms};
use boxoffice::clock::{Monotonic, Now, WallTime};
use boxoffice::connections::{Admission, ConnectionKey, ConnectionServer};
use boxoffice::engine::{Engine, Settings};
use boxoffice::limits::ClientLimits;
use boxoffice::metrics::CoreMetrics;
use boxoffice::protocol::SlotRange;
use boxoffice::proxies::TrustedProxies;
use boxoffice::stock::{Board, CoreIndex};

struct Counting;

thread_local! {
    /// Those of this thread: what the harness does meanwhile is its own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches none of its memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Host {
    engine: Engine,
    client: ConnectionKey,
    turns: u64,
}

impl Host {
    fn new(available: u64, log: Option<&AccessLog>) -> Host {
        Host::behind(TrustedProxies::default(), available, log)
    }

    fn behind(proxies: TrustedProxies, available: u64, log: Option<&AccessLog>) -> Host {
        let board = Arc::new(Board::new(1, 0.2));
        let terms = SaleTerms { total: available, ..Default::default() };
        let state = SaleState { terms, version: 1, now: WallTime(1_000), ..Default::default() };
        board.learn(&SaleName::parse("ticket").unwrap(), &state).unwrap();
        // One connection asks far more than the default of `requests`.
        let limits = Arc::new(ClientLimits { requests: 0, ..ClientLimits::default() });
        let admission = Arc::new(Admission::new(&limits).behind(Arc::new(proxies)));
        let settings =
            Settings { core: CoreIndex(0), ledger_timeout_ms: 2_000, seed: [7; 32], limits, admission };
        let now = Now { monotonic: Monotonic(0), wall: WallTime(1_000) };
        let mut engine =
            Engine::new(settings, board, Arc::new(CoreMetrics::default()), log.map(AccessLog::buffer), now);
        engine.begin_turn(now);
        engine.handle_ledger_up(SlotRange::ALL);
        let client =
            engine.handle_accepted((std::net::Ipv4Addr::LOCALHOST, 1).into()).expect("room for a client");
        let mut host = Host { engine, client, turns: 0 };
        // The sync that a new engine begins with; nobody answers it, and none is due again within this test's clock.
        host.turn(b"");
        while host.engine.poll_call().is_some() {}
        host
    }

    /// One turn of the loop, as the worker runs it. Returns the answer's bytes and how many calls left.
    fn turn(&mut self, request: &[u8]) -> (usize, usize) {
        self.turns += 1;
        // A microsecond a turn: the whole test stays within one sync interval.
        let now =
            Now { monotonic: Monotonic(self.turns * 1_000), wall: WallTime(1_000 + self.turns / 1_000) };
        self.engine.begin_turn(now);
        self.engine.handle_bytes(self.client, request);
        self.engine.end_turn();
        let mut calls = 0;
        while self.engine.poll_call().is_some() {
            calls += 1;
        }
        let mut written = 0;
        while let Some(key) = self.engine.poll_touched() {
            let bytes = self.engine.output(key).len();
            written += bytes;
            self.engine.handle_written(key, bytes);
        }
        (written, calls)
    }
}

const REFUSALS: u64 = 50_000;

#[test]
fn a_refusal_allocates_nothing_and_asks_nothing() {
    let buy: &[u8] = b"GET /buy/ticket HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ab\r\nAccept: */*\r\n\r\n";
    let post: &[u8] = b"POST /v1/sales/ticket/bookings HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n{\"quantity\":2,\"buyer\":\"u-1\"}";
    let pipeline = buy.repeat(16);
    for (name, request, requests) in [("buy", buy, 1), ("post", post, 1), ("pipeline", &pipeline, 16)] {
        let mut host = Host::new(0, None);
        for _ in 0..100 {
            host.turn(request);
        }
        let before = allocations();
        for _ in 0..REFUSALS {
            let (written, calls) = host.turn(request);
            assert!(written > 100 * requests, "{name}: every request is answered");
            assert_eq!(calls, 0, "{name}: the ledger is asked nothing");
        }
        let count = allocations() - before;
        assert_eq!(count, 0, "{name}: allocations in {REFUSALS} turns");
    }

    // With an access log, whose blocks go round between the loop and the log's thread: next to nothing.
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(&directory.path().join("access.log")).unwrap();
    let mut host = Host::new(0, Some(&log));
    for _ in 0..1_000 {
        host.turn(buy);
    }
    let before = allocations();
    for _ in 0..REFUSALS {
        host.turn(buy);
    }
    let count = allocations() - before;
    assert!(count < REFUSALS / 10, "{count} allocations in {REFUSALS} logged refusals");

    // That the counter counts: a booking makes a call, and a call allocates.
    let mut host = Host::new(10, None);
    let before = allocations();
    assert_eq!(host.turn(buy), (0, 1));
    assert!(allocations() > before);
}

/// Neither does one for which a proxy speaks, whose client is looked up for the log.
#[test]
fn a_refusal_behind_a_proxy_allocates_nothing_either() {
    let forwarded: &[u8] =
        b"GET /buy/ticket HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.66, 2001:db8::7\r\n\
        X-Forwarded-For: 127.0.0.1, [::1]:4711\r\n\r\n";
    let header: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 80\r\n";
    let directory = tempfile::tempdir().unwrap();
    let log = AccessLog::open(&directory.path().join("access.log")).unwrap();
    for (expects_header, begins) in [(false, &b""[..]), (true, header)] {
        for (log, most) in [(None, 0), (Some(&log), REFUSALS / 10)] {
            let networks = ["127.0.0.0/8", "::1"].map(|network| network.parse().unwrap());
            let mut host = Host::behind(TrustedProxies::new(networks.to_vec(), expects_header), 0, log);
            host.turn(begins);
            for _ in 0..1_000 {
                host.turn(forwarded);
            }
            let before = allocations();
            for _ in 0..REFUSALS {
                assert!(host.turn(forwarded).0 > 100);
            }
            let count = allocations() - before;
            assert!(count <= most, "{count} allocations in {REFUSALS} refusals");
        }
    }
    log.close().unwrap();
    let text = std::fs::read_to_string(directory.path().join("access.log")).unwrap();
    let lines =
        text.lines().filter(|line| line.ends_with(",\"client\":\"2001:db8::7\",\"proxy\":\"127.0.0.1\"}"));
    assert!(lines.count() > 0, "{:?}", text.lines().next());
}
