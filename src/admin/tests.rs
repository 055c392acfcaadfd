//! The listener on a socket, before a host that has no loops and no ledger: who may ask for what, and what it says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;
use crate::booking::{Booking, BookingId, BookingStatus, BuyerId, Quantity, SaleName, SaleState, SaleTerms};
use crate::clock::WallTime;
use crate::protocol::{Answer, Call, CallError, SaleOp, SaleResult};
use crate::stock::CoreIndex;

mod audits;
mod dashboards;

/// A ledger that carries nothing out.
struct NoLedger;

impl Ledger for NoLedger {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        vec![Err(CallError::Refused("there is none".to_owned())); calls.len()]
    }
}

/// A listener that ends with the test.
struct Listener {
    admin: Option<Admin>,
    board: Arc<Board>,
    drain: Drain,
}

/// What a listener is started with.
struct Given {
    ledger: Box<dyn Ledger + Send>,
    open_to_read: OpenLedger,
    token: Option<&'static str>,
    dashboards_max: usize,
    shares_port: bool,
}

impl Default for Given {
    fn default() -> Given {
        Given {
            ledger: Box::new(NoLedger),
            open_to_read: Box::new(|| Ok(Box::new(NoLedger))),
            token: None,
            dashboards_max: DASHBOARDS,
            shares_port: false,
        }
    }
}

impl Listener {
    fn start() -> Listener {
        Listener::of(Given::default())
    }

    fn of(given: Given) -> Listener {
        let Given { ledger, open_to_read, token, dashboards_max, shares_port } = given;
        let token_file = token.map(|token| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), token).unwrap();
            file
        });
        let (board, drain) = (Arc::new(Board::new(1, 0.2)), Drain::new(Vec::new(), Duration::ZERO, || ()));
        let metrics = Arc::new(CoreMetrics::default());
        metrics.set_ledger_up(true);
        let parts = Parts {
            proxies: Arc::default(),
            board: Arc::clone(&board),
            metrics: vec![metrics],
            access_log: None,
            ledger,
            open_to_read,
            trouble: Trouble::default(),
            drain: drain.clone(),
            token_file: token_file.as_ref().map(|file| file.path().to_owned()),
            clock: SystemClock::new(),
            dashboards_max,
            shares_port,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Listener { admin: Some(Admin::start(listener, parts).unwrap()), board, drain }
    }

    fn address(&self) -> SocketAddr {
        self.admin.as_ref().unwrap().address()
    }

    /// The whole answer to a request without a body.
    fn ask(&self, line: &str, fields: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        let request = format!("{line} HTTP/1.1\r\n{fields}Connection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn readyz(&self) -> String {
        self.ask("GET /readyz", "Host: 127.0.0.1\r\n")
    }

    /// As any reading of it is learnt.
    fn learn(&self, sale: &str, state: &SaleState) {
        self.board.learn(&SaleName::parse(sale).unwrap(), state).unwrap();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.admin.take().into_iter().for_each(Admin::stop);
    }
}

/// As many as watch in these tests.
const DASHBOARDS: usize = 3;

const NAMES: [&str; 4] = ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil"];

/// Of each kind of answer; the last two change something.
const CALLS: [&str; 8] = [
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
    "HEAD /v1/sales",
    "GET /v1/sales/ticket",
    "GET /openapi-admin.json",
    "POST /v1/sales/ticket/pause",
    "POST /v1/drain",
];

/// A page whose name was made to resolve to this machine is of the same origin as the host that it calls, as browsers see
/// it, and what it only reads carries no Origin. Only the name itself can tell.
#[test]
fn under_a_name_nobody_reads_or_changes_anything() {
    let listener = Listener::start();
    let port = listener.address().port();
    for name in NAMES {
        for host in [name.to_owned(), format!("{name}:{port}")] {
            for fields in [format!("Host: {host}\r\n"), format!("Host: {host}\r\nOrigin: http://{host}\r\n")]
            {
                for call in CALLS {
                    let answer = listener.ask(call, &fields);
                    assert!(answer.starts_with("HTTP/1.1 403 "), "{call} {host}: {answer}");
                    assert!(!call.starts_with("GET") || answer.contains("/problems/forbidden"), "{answer}");
                }
            }
        }
    }
    // One under an address, of another origin all the same.
    let fields = format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{}\r\n", port ^ 1);
    for call in CALLS {
        assert!(listener.ask(call, &fields).starts_with("HTTP/1.1 403 "), "{call}");
    }
    assert!(!listener.drain.has_begun());
}

/// Probes and scrapers call an address, and those of HTTP/1.0 may say no name at all.
#[test]
fn by_its_address_or_as_localhost_a_host_is_called_as_ever() {
    let listener = Listener::start();
    let port = listener.address().port();
    for host in ["127.0.0.1", "[::1]", "localhost", "LOCALHOST", "10.1.2.3"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            for path in ["/livez", "/readyz", "/metrics", "/v1/sales"] {
                let answer = listener.ask(&format!("GET {path}"), &format!("Host: {host}\r\n"));
                assert!(answer.starts_with("HTTP/1.1 200 "), "{host} {path}: {answer}");
            }
        }
    }
    for host in ["127.0.0.1", "[::1]", "localhost", "LOCALHOST"] {
        let fields = format!("Host: {host}:{port}\r\nOrigin: http://{host}:{port}\r\n");
        let answer = listener.ask("POST /v1/drain", &fields);
        assert!(answer.starts_with("HTTP/1.1 202 "), "{host}: {answer}");
    }
    assert!(listener.drain.has_begun());
    let mut stream = TcpStream::connect(listener.address()).unwrap();
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// No page knows the token, so that who does is none, whatever it calls the host.
#[test]
fn with_the_token_a_host_may_be_called_by_any_name() {
    let listener = Listener::of(Given { token: Some("s3cret"), ..Given::default() });
    let named = "Host: box.internal\r\n";
    let shown = format!("{named}Authorization: Bearer  s3cret\r\n");
    for path in ["/livez", "/metrics", "/v1/sales"] {
        let answer = listener.ask(&format!("GET {path}"), named);
        assert!(
            answer.starts_with("HTTP/1.1 401 ") && answer.contains("WWW-Authenticate: Bearer"),
            "{answer}"
        );
        assert!(listener.ask(&format!("GET {path}"), &shown).starts_with("HTTP/1.1 200 "), "{path}");
        assert!(listener.ask(&format!("GET {path}"), "Host: 127.0.0.1\r\n").starts_with("HTTP/1.1 200 "));
    }
    for fields in [named, "Host: 127.0.0.1\r\n", "Host: localhost\r\nAuthorization: Bearer s3cre\r\n"] {
        assert!(listener.ask("POST /v1/drain", fields).starts_with("HTTP/1.1 401 "), "{fields}");
    }
    let foreign = format!("{shown}Origin: http://evil.example\r\n");
    assert!(listener.ask("POST /v1/drain", &foreign).starts_with("HTTP/1.1 403 "));
    assert!(!listener.drain.has_begun());
    assert!(listener.ask("POST /v1/drain", &shown).starts_with("HTTP/1.1 202 "));
}

#[test]
fn a_sale_that_sells_nothing_is_named_by_readyz_while_that_is_so() {
    let listener = Listener::start();
    let terms = SaleTerms { total: 9, ..SaleTerms::default() };
    let sound = SaleState { terms, version: 1, now: WallTime(1_000), ..SaleState::default() };
    assert!(listener.readyz().starts_with("HTTP/1.1 200 "));
    listener.learn("ticket", &sound);
    listener.learn("other", &sound);
    assert!(listener.readyz().starts_with("HTTP/1.1 200 "));

    let is_unready = |words: &str| {
        let answer = listener.readyz();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains(words) && !answer.contains("other"), "{answer}");
    };
    listener.learn("ticket", &SaleState { frozen_until: WallTime(3_000), lineage: 1, ..sound.clone() });
    is_unready("sale ticket is frozen");
    listener.learn("ticket", &SaleState { now: WallTime(3_000), lineage: 1, ..sound });
    assert!(listener.readyz().starts_with("HTTP/1.1 200 "));

    let ticket = Arc::clone(listener.board.directory().get("ticket").unwrap());
    ticket.mark_unsound("bx:{ticket}:holds is gone");
    is_unready("of sale ticket is not sound, so no tickets of it are sold: bx:{ticket}:holds is gone;");
    listener.board.mark_missing("ticket");
    is_unready("has lost sale ticket");
}

#[test]
fn a_host_that_drains_or_whose_ledger_is_silent_is_not_ready() {
    let listener = Listener::start();
    listener.board.set_silent(CoreIndex(0), true);
    let answer = listener.readyz();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("has not answered"), "{answer}");
    listener.board.set_silent(CoreIndex(0), false);
    assert!(listener.readyz().starts_with("HTTP/1.1 200 "));
    listener.drain.begin();
    let answer = listener.readyz();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("draining"), "{answer}");
}

/// So that nobody who asks whether the new process is ready hears that the old one is not.
#[test]
fn a_host_that_drains_leaves_a_shared_port_to_the_next_process() {
    for shares_port in [false, true] {
        let listener = Listener::of(Given { shares_port, ..Given::default() });
        let mut stream = TcpStream::connect(listener.address()).unwrap();
        listener.drain.begin();
        let until = Instant::now() + Duration::from_secs(10);
        let is_refused = || TcpStream::connect(listener.address()).is_err();
        while shares_port && !is_refused() {
            assert!(Instant::now() < until, "it goes on listening");
        }
        assert_eq!(is_refused(), shares_port);
        // Who is connected is served on.
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("draining"), "{answer}");
    }
}

/// A ledger of many pages of bookings, each of which takes a while: one booking a page, and that of the page before.
struct Paged {
    pages: usize,
}

impl Paged {
    fn booking(page: usize) -> Booking {
        Booking {
            id: BookingId::parse(format!("b-{page:03}")).unwrap(),
            status: BookingStatus::Confirmed,
            quantity: Quantity::ONE,
            released: 0,
            // All but each tenth.
            buyer: BuyerId::parse(if page.is_multiple_of(10) { "u-2" } else { "u-1" }).ok(),
            reassigned: 0,
        }
    }
}

impl Ledger for Paged {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let answer = |call: &Call| match call {
            Call::Sale { op: SaleOp::Page { cursor }, .. } => {
                std::thread::sleep(Duration::from_millis(20));
                let page: usize = cursor.parse().unwrap_or(0);
                let mut bookings = vec![Paged::booking(page)];
                bookings.extend(page.checked_sub(1).map(|before| {
                    // One has gone to somebody else between the pages.
                    let buyer =
                        if before == 7 { BuyerId::parse("u-2").ok() } else { Paged::booking(before).buyer };
                    Booking { buyer, ..Paged::booking(before) }
                }));
                let next = (page + 1 < self.pages).then(|| (page + 1).to_string());
                Ok(Answer::Sale { state: SaleState::default(), result: SaleResult::Page { bookings, next } })
            }
            _ => Ok(Answer::Sale {
                state: SaleState { version: 1, ..SaleState::default() },
                result: SaleResult::Found(Vec::new()),
            }),
        };
        calls.iter().map(answer).collect()
    }
}

#[test]
fn while_a_long_sale_is_read_for_a_buyer_others_have_their_turn_at_the_ledger() {
    const PAGES: usize = 60;
    let listener = Listener::of(Given { ledger: Box::new(Paged { pages: PAGES }), ..Given::default() });
    let host = "Host: 127.0.0.1\r\n";
    let mut between = 0;
    let list = std::thread::scope(|scope| {
        let list = scope.spawn(|| listener.ask("GET /v1/sales/ticket/bookings?buyer=u-1", host));
        while !list.is_finished() {
            let answer = listener.ask("GET /v1/sales/ticket", host);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            between += 1;
        }
        list.join().unwrap()
    });
    assert!(between > 5, "{between} had their turn");
    let (_, body) = list.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let ids: Vec<&str> =
        body["bookings"].as_array().unwrap().iter().map(|it| it["booking"].as_str().unwrap()).collect();
    let expected: Vec<String> = (0..PAGES)
        .filter(|page| !page.is_multiple_of(10) && *page != 7)
        .map(|page| Paged::booking(page).id.to_string())
        .collect();
    assert_eq!(ids, expected, "each once, and none that is another's by now");
    assert_eq!(body.get("more"), None);
}
