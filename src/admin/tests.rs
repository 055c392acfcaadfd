//! The listener on a socket, before a host that has no loops and no ledger: who may ask for what, and what it says.

use super::*;
use crate::booking::{Answer, Call, CallError, SaleName, SaleState, SaleTerms};
use crate::clock::WallTime;
use crate::stock::CoreIndex;

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

impl Listener {
    fn start() -> Listener {
        let (board, drain) = (Arc::new(Board::new(1, 1.0, 0.2)), Drain::new(Vec::new()));
        let metrics = Arc::new(CoreMetrics::default());
        metrics.set_ledger_up(true);
        let parts = Parts {
            board: Arc::clone(&board),
            metrics: vec![metrics],
            access_log: None,
            ledger: Box::new(NoLedger),
            trouble: Trouble::default(),
            drain: drain.clone(),
            token_file: None,
            clock: SystemClock::new(),
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
        self.ask("GET /readyz", "Host: h\r\n")
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

/// A page whose name was made to resolve to this machine is of the same origin as the host that it calls, as browsers see
/// it. Without a token only a host that is called by its address can tell.
#[test]
fn without_a_token_a_page_under_a_name_changes_nothing() {
    let listener = Listener::start();
    let port = listener.address().port();
    for name in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil"] {
        for host in [name.to_owned(), format!("{name}:{port}")] {
            let fields = format!("Host: {host}\r\nOrigin: http://{host}\r\n");
            for path in ["/v1/drain", "/v1/sales/ticket/pause"] {
                let answer = listener.ask(&format!("POST {path}"), &fields);
                assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
                assert!(answer.contains("\"type\":\"/problems/forbidden\""), "{answer}");
            }
        }
    }
    // One under an address, of another origin all the same.
    let fields = format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{}\r\n", port ^ 1);
    assert!(listener.ask("POST /v1/drain", &fields).starts_with("HTTP/1.1 403 "));
    assert!(!listener.drain.has_begun());
    for host in ["127.0.0.1", "[::1]", "localhost", "LOCALHOST"] {
        let fields = format!("Host: {host}:{port}\r\nOrigin: http://{host}:{port}\r\n");
        let answer = listener.ask("POST /v1/drain", &fields);
        assert!(answer.starts_with("HTTP/1.1 202 "), "{host}: {answer}");
    }
    assert!(listener.drain.has_begun());
}

/// What is no page says no origin.
#[test]
fn a_program_may_call_a_host_by_its_name() {
    let listener = Listener::start();
    assert!(listener.ask("POST /v1/drain", "Host: box.internal\r\n").starts_with("HTTP/1.1 202 "));
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
    is_unready("of sale ticket is not sound, so that nothing of it is sold: bx:{ticket}:holds is gone;");
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
