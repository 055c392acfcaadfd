//! Audits by HTTP, over ledgers that answer as a test wants.

use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use super::*;
use crate::limits::AUDIT_ROWS_MAX;
use crate::protocol::{Part, Row};

const LOCAL: &str = "Host: 127.0.0.1\r\n";

/// A sale without bookings, whose survey tells of each call and waits for leave to answer it, and tells how many calls there
/// were when nobody has it any more.
struct Empty {
    asked: Sender<()>,
    goes_on: Option<Receiver<()>>,
    calls: u32,
    ended: Sender<u32>,
}

impl Drop for Empty {
    fn drop(&mut self) {
        // A test that has ended waits for nobody.
        let _ = self.ended.send(self.calls);
    }
}

/// A listener whose first audit is of such a sale, and waits; with what it tells, and what lets it go on.
fn waiting() -> (Listener, Receiver<()>, Sender<()>, Receiver<u32>) {
    let ((asked, is_asked), (ended, has_ended), (go_on, goes_on)) = (channel(), channel(), channel());
    let goes_on = Mutex::new(Some(goes_on));
    let listener = auditing(move || {
        let goes_on = goes_on.lock().unwrap().take();
        Ok(Box::new(Empty { asked: asked.clone(), goes_on, calls: 0, ended: ended.clone() }))
    });
    (listener, is_asked, go_on, has_ended)
}

fn surveyed(rows: Vec<Row>, next: String) -> Result<Answer, CallError> {
    let (clock, time) = (WallTime(1_000), WallTime(1_000));
    let result = SaleResult::Surveyed { clock, time, rows, done: next.is_empty(), next };
    Ok(Answer::Sale { state: SaleState { version: 1, now: time, ..SaleState::default() }, result })
}

impl Ledger for Empty {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        self.calls += 1;
        let _ = self.asked.send(());
        if let Some(goes_on) = &self.goes_on {
            let _ = goes_on.recv();
        }
        let answer = |call: &Call| match call {
            Call::Sale { op: SaleOp::Survey { .. }, .. } => surveyed(Vec::new(), String::new()),
            _ => Err(CallError::Refused("a ledger of one sale".to_owned())),
        };
        calls.iter().map(answer).collect()
    }
}

/// A sale whose log is twice as long as may be; so many eighths of that were read.
struct TooLong(usize);

impl Ledger for TooLong {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        self.0 += 1;
        let rows = || vec![Row::Derived(Part::Log); AUDIT_ROWS_MAX as usize / 8];
        let next = if self.0 < 16 { self.0.to_string() } else { String::new() };
        calls.iter().map(|_| surveyed(rows(), next.clone())).collect()
    }
}

struct Missing;

impl Ledger for Missing {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        calls.iter().map(|_| Ok(Answer::Missing)).collect()
    }
}

fn auditing(
    open: impl Fn() -> Result<Box<dyn Ledger + Send>, crate::ledger::OpenError> + Send + Sync + 'static,
) -> Listener {
    Listener::of(Given { open_to_read: Box::new(open), ..Given::default() })
}

/// The events of an answer, and the last one's name and data.
fn last_event(answer: &str) -> (&str, Value) {
    let last = answer.rsplit("event: ").next().unwrap();
    let (name, rest) = last.split_once('\n').unwrap();
    let data = rest.strip_prefix("data: ").unwrap().lines().next().unwrap();
    (name, serde_json::from_str(data).unwrap())
}

#[test]
fn an_audit_that_cannot_begin_is_refused_with_a_problem() {
    let listener = auditing(|| Ok(Box::new(Missing)));
    let answer = listener.ask("POST /v1/sales/ticket/audit", LOCAL);
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("/problems/no-such-sale"), "{answer}");
    let answer = listener.ask("POST /v1/sales/a%20b/audit", LOCAL);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let answer = listener.ask("POST /v1/sales/ticket/audit", &format!("{LOCAL}If-Match: *\r\n"));
    assert!(answer.starts_with("HTTP/1.1 412 "), "{answer}");
    let answer = listener.ask("GET /v1/sales/ticket/audit", LOCAL);
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("Allow: POST"), "{answer}");

    let nowhere = || -> crate::ledger::sqlite::SqliteOpenError {
        crate::ledger::sqlite::SqliteLedger::open_read_only("/nowhere/boxoffice.db").unwrap_err()
    };
    let listener = auditing(move || Err(nowhere().into()));
    let answer = listener.ask("POST /v1/sales/ticket/audit", LOCAL);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("there is no such file"), "{answer}");

    let listener = Listener::of(Given { token: Some("s3cret"), ..Given::default() });
    let answer = listener.ask("POST /v1/sales/ticket/audit", LOCAL);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn one_audit_is_made_at_a_time_and_keeps_nobody_else_waiting() {
    let (listener, is_asked, go_on, _) = waiting();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| listener.ask("POST /v1/sales/ticket/audit", LOCAL));
        is_asked.recv().unwrap();
        let second = listener.ask("POST /v1/sales/other/audit", LOCAL);
        assert!(second.starts_with("HTTP/1.1 503 ") && second.contains("An audit is running"), "{second}");
        assert!(listener.readyz().starts_with("HTTP/1.1 200 "), "probes get through");
        // The administration's own way to the ledger is free.
        let sales = listener.ask("POST /v1/sales/ticket/pause", LOCAL);
        assert!(sales.contains("there is none"), "{sales}");
        drop(go_on);
        let answer = first.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("event: progress\n"), "{answer}");
        let (name, told) = last_event(&answer);
        assert_eq!(name, "failed", "its list of sales cannot be read: {told}");
        assert_eq!(
            (told["type"].as_str(), told["status"].as_u64()),
            (Some("/problems/ledger-unavailable"), Some(503))
        );
    });
    // The first has made room.
    let third = listener.ask("POST /v1/sales/ticket/audit", LOCAL);
    assert!(third.starts_with("HTTP/1.1 200 "), "{third}");
}

#[test]
fn an_audit_that_nobody_waits_for_ends() {
    let (listener, is_asked, go_on, has_ended) = waiting();
    let mut stream = TcpStream::connect(listener.address()).unwrap();
    stream
        .write_all(b"POST /v1/sales/ticket/audit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    is_asked.recv().unwrap();
    go_on.send(()).unwrap();
    // It is told of progress, so that there is an answer to leave; and hangs in its second call.
    is_asked.recv().unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    // Once that is known, calls that follow are not made; the listener knows when it has room for a probe after it.
    assert!(listener.readyz().starts_with("HTTP/1.1 200 "));
    drop(go_on);
    assert_eq!(has_ended.recv().unwrap(), 2, "calls that were made for nobody");
}

#[test]
fn an_audit_that_would_take_too_much_memory_ends() {
    let listener = auditing(|| Ok(Box::new(TooLong(0))));
    let answer = listener.ask("POST /v1/sales/ticket/audit", LOCAL);
    let (name, told) = last_event(&answer);
    assert_eq!((name, told["type"].as_str()), ("failed", Some("/problems/audit-too-large")));
}
