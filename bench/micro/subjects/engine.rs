//! Whole turns of a core, without sockets, and its timers.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boxoffice::booking::{SaleName, SaleState, SaleTerms};
use boxoffice::clock::{Monotonic, Now, WallTime};
use boxoffice::connections::timers::Timers;
use boxoffice::connections::{Admission, ConnectionKey, ConnectionServer};
use boxoffice::engine::{Engine, Settings};
use boxoffice::limits::ClientLimits;
use boxoffice::metrics::CoreMetrics;
use boxoffice::protocol::{Answer, BookingOp, Call, Reservation, SaleResult, SlotRange};
use boxoffice::stock::{Board, CoreIndex};

use super::{Subject, Work};

pub(super) const SUBJECTS: &[Subject] = &[
    Subject { name: "turn/16 pipelined refusals", set_up: || Box::new(Refusals::new()) },
    Subject { name: "turn/64 bookings", set_up: || Box::new(Bookings::new()) },
    Subject { name: "timers/arm and fire", set_up: || Box::new(Wheel::new()) },
];

const PIPELINED: usize = 16;
const CLIENTS: usize = 64;

/// Time stands still: a sync would be another turn than its neighbours.
const NOW: Now = Now { monotonic: Monotonic(0), wall: WallTime(1_763_827_200_000) };

/// A core as the worker runs it.
struct Core {
    engine: Engine,
    clients: Vec<ConnectionKey>,
}

impl Core {
    fn new(state: &SaleState, clients: usize) -> Core {
        let board = Arc::new(Board::new(1, 0.2));
        let name = SaleName::parse("ticket").expect("well-formed");
        board.learn(&name, state).expect("there is room for a sale");
        let limits = Arc::new(ClientLimits { requests: 0, ..ClientLimits::default() });
        let admission = Arc::new(Admission::new(&limits));
        let settings =
            Settings { core: CoreIndex(0), ledger_timeout_ms: 2_000, seed: [7; 32], limits, admission };
        let mut engine = Engine::new(settings, board, Arc::new(CoreMetrics::default()), None, NOW);
        engine.begin_turn(NOW);
        engine.handle_ledger_up(SlotRange::ALL);
        let accept =
            |_| engine.handle_accepted((Ipv4Addr::LOCALHOST, 1).into()).expect("there is room for a client");
        let clients = (0..clients).map(accept).collect();
        let mut core = Core { engine, clients };
        // The sync that an engine begins with; nobody answers it.
        core.engine.end_turn();
        while core.engine.poll_call().is_some() {}
        core.write();
        core
    }

    /// Everything that the clients are to be sent is sent; returns how many bytes.
    fn write(&mut self) -> usize {
        let mut all = 0;
        while let Some(key) = self.engine.poll_touched() {
            let bytes = black_box(self.engine.output(key)).len();
            all += bytes;
            self.engine.handle_written(key, bytes);
        }
        all
    }
}

/// Sixteen requests that arrive at once, of a sale that is sold out; one of them is an operation.
struct Refusals {
    core: Core,
    requests: Vec<u8>,
}

impl Refusals {
    fn new() -> Refusals {
        let state = SaleState { version: 1, now: NOW.wall, ..Default::default() };
        let buy = b"GET /buy/ticket HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ab\r\nAccept: */*\r\n\r\n";
        Refusals { core: Core::new(&state, 1), requests: buy.repeat(PIPELINED) }
    }
}

impl Work for Refusals {
    fn operations(&self) -> u64 {
        PIPELINED as u64
    }

    fn run(&mut self) {
        let Core { engine, clients } = &mut self.core;
        engine.begin_turn(NOW);
        engine.handle_bytes(clients[0], &self.requests);
        engine.end_turn();
        assert!(engine.poll_call().is_none());
        assert!(self.core.write() > 100 * PIPELINED);
    }
}

/// Sixty-four clients that book, and the turn in which the ledger's answer comes; one booking is an operation. The ids are
/// the same each time: the ledger is not there to remember them.
struct Bookings {
    core: Core,
    requests: Vec<Vec<u8>>,
    state: SaleState,
}

impl Bookings {
    fn new() -> Bookings {
        let terms = SaleTerms { total: 1_000_000, hold_ms: Some(300_000), ..Default::default() };
        let state = SaleState { terms, version: 1, now: NOW.wall, ..Default::default() };
        let request = |number| {
            let path = format!("/v1/sales/ticket/bookings/0198c0de-0000-7000-8000-{number:012}");
            let body = format!(r#"{{"quantity":1,"buyer":"u-{number}"}}"#);
            let length = body.len();
            format!(
                "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .into_bytes()
        };
        Bookings { core: Core::new(&state, CLIENTS), requests: (0..CLIENTS).map(request).collect(), state }
    }
}

impl Work for Bookings {
    fn operations(&self) -> u64 {
        CLIENTS as u64
    }

    fn run(&mut self) {
        let Core { engine, clients } = &mut self.core;
        engine.begin_turn(NOW);
        for (client, request) in clients.iter().zip(&self.requests) {
            engine.handle_bytes(*client, request);
        }
        engine.end_turn();
        let (id, call) = engine.poll_call().expect("the bookings left");
        let Call::Bookings { op: BookingOp::Reserve(claims), .. } = &call else {
            panic!("not a batch of bookings: {call:?}")
        };
        assert_eq!(claims.len(), CLIENTS);
        assert_eq!(self.core.write(), 0);

        let granted = Reservation::Granted { expires_at: Some(WallTime(NOW.wall.0 + 300_000)) };
        let reservations = vec![granted; CLIENTS];
        let engine = &mut self.core.engine;
        engine.begin_turn(NOW);
        engine.handle_answer(
            id,
            Ok(Answer::Sale { state: self.state.clone(), result: SaleResult::Reserved(reservations) }),
        );
        engine.end_turn();
        assert!(self.core.write() > 300 * CLIENTS);
    }
}

/// A thousand deadlines that are armed over ten seconds, and come up.
struct Wheel {
    timers: Timers<u32>,
    start: u64,
    due: VecDeque<(u32, Monotonic)>,
}

const DEADLINES: u32 = 1_000;

impl Wheel {
    fn new() -> Wheel {
        Wheel {
            timers: Timers::new(Monotonic(0)),
            start: 0,
            due: VecDeque::with_capacity(DEADLINES as usize),
        }
    }
}

impl Work for Wheel {
    fn operations(&self) -> u64 {
        DEADLINES.into()
    }

    fn run(&mut self) {
        for key in 0..DEADLINES {
            // Spread by a step that is no part of a tick.
            let after = u64::from(key) * 7_919_000_000 % 10_000_000_000;
            self.timers.insert(key, Monotonic(self.start + after));
        }
        for second in 0..=11 {
            self.timers.take_due(Monotonic(self.start + second * 1_000_000_000), &mut self.due);
        }
        assert_eq!(self.due.len(), DEADLINES as usize);
        self.due.clear();
        self.start += 11_000_000_000;
    }
}
