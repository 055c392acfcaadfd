//! The dashboard's page and its events, as a browser gets them.

use std::io::BufRead;

use serde_json::Value;

use super::*;
use crate::limits;

/// A stream of events that is open.
struct Watching {
    lines: std::io::Lines<std::io::BufReader<TcpStream>>,
    head: String,
}

impl Watching {
    fn open(listener: &Listener, query: &str) -> Watching {
        let mut stream = TcpStream::connect(listener.address()).unwrap();
        // In HTTP/1.0 no chunks are in between.
        let request = format!("GET /v1/events{query} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut lines = std::io::BufReader::new(stream).lines();
        let head = lines.by_ref().map(Result::unwrap).take_while(|line| !line.is_empty());
        let head = head.collect::<Vec<_>>().join("\n");
        Watching { lines, head }
    }

    fn begins(&self, status: &str) -> bool {
        self.head.starts_with(&format!("HTTP/1.1 {status} "))
    }

    /// The next event, its name and what it says.
    fn next(&mut self) -> (String, Value) {
        let mut line = || self.lines.next().expect("the stream goes on").unwrap();
        let name = line().strip_prefix("event: ").expect("an event has its name").to_owned();
        let data = line();
        assert!(line().is_empty(), "an empty line ends an event");
        (name, serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
    }

    /// The next one of that name that is as wanted.
    fn until(&mut self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (named, event) = self.next();
            if named == name && is(&event) {
                return event;
            }
        }
    }
}

fn state(total: u64, sold: u64) -> SaleState {
    let terms = SaleTerms { total, hold_ms: Some(90_000), ..SaleTerms::default() };
    SaleState { terms, sold, version: 1, sequence: sold, now: WallTime(1_000), ..SaleState::default() }
}

#[test]
fn the_page_and_what_it_loads_come_with_a_strict_policy() {
    let listener = Listener::start();
    for asset in &dashboard::ASSETS {
        let answer = listener.ask(&format!("GET {}", asset.path), "Host: 127.0.0.1\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && body == asset.text, "{}: {head}", asset.path);
        assert!(head.contains(&format!("Content-Type: {}\r\n", asset.content_type)), "{head}");
        assert!(head.contains("Content-Security-Policy: default-src 'none'; script-src 'self';"), "{head}");
        assert!(
            head.contains("X-Content-Type-Options: nosniff") && head.contains("Cache-Control: no-store"),
            "{head}"
        );
    }
    let answer = listener.ask("GET /dashboard/../limits.rs", "Host: 127.0.0.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn events_tell_of_the_host_and_of_the_sale_that_is_watched() {
    let listener = Listener::start();
    listener.learn("ticket", &state(10, 3));
    listener.learn("other", &state(5, 0));
    let mut watching = Watching::open(&listener, "?sale=ticket");
    assert!(
        watching.begins("200") && watching.head.contains("Content-Type: text/event-stream"),
        "{}",
        watching.head
    );
    let (name, host) = watching.next();
    assert_eq!(
        (name.as_str(), &host["faults"], host["needs_token"].as_bool()),
        ("host", &serde_json::json!([]), Some(false))
    );
    assert_eq!(host["sales"][0]["sale"], "other");
    assert_eq!(host["sales"][1]["sold"], 3);
    assert_eq!(host["requests"]["sold-out"], 0);
    assert_eq!(host["cores"]["ledger_up"], serde_json::json!([1]));
    let buckets = |name: &str| host[name].as_array().unwrap().len();
    assert_eq!(buckets("latency_bounds_us") + 1, buckets("booking_wait"));
    assert_eq!(buckets("latency_bounds_us") + 1, buckets("ledger_round_trip"));
    let (name, sale) = watching.next();
    assert_eq!(
        (name.as_str(), sale["hold_seconds"].as_f64(), sale["version"].as_u64()),
        ("sale", Some(90.0), Some(1))
    );

    listener.learn("ticket", &SaleState { sequence: 4, ..state(10, 4) });
    watching.until("sale", |sale| sale["sold"] == 4);
    listener.board.mark_missing("ticket");
    let host = watching.until("host", |host| host["faults"] != serde_json::json!([]));
    assert!(host["faults"][0].as_str().unwrap().contains("has lost sale ticket"), "{host}");
    // What is in trouble comes first.
    assert_eq!(host["sales"][0], serde_json::json!({"sale": "ticket", "status": "missing"}));
    watching.until("sale", |sale| sale["status"] == "missing");
    listener.drain.begin();
    let host = watching.until("host", |host| host["faults"].as_array().unwrap().len() == 2);
    assert_eq!(host["faults"][0], "draining");

    let mut stranger = Watching::open(&listener, "?sale=nowhere");
    assert_eq!(stranger.until("sale", |_| true), serde_json::json!({"sale": "nowhere", "status": "unknown"}));
    for query in ["?sale=", "?sale=a%20b", "?sales=a", "?sale=a&sale=b"] {
        assert!(Watching::open(&listener, query).begins("400"), "{query}");
    }
}

#[test]
fn an_event_is_told_once_and_the_next_one_follows_by_itself() {
    let listener = Listener::start();
    let mut watching = Watching::open(&listener, "");
    let elapsed: Vec<u64> = (0..3)
        .map(|_| {
            let (name, event) = watching.next();
            assert_eq!(name, "host");
            event["elapsed_ms"].as_u64().unwrap()
        })
        .collect();
    let least = limits::DASHBOARD_INTERVAL_MS_MIN;
    assert!(elapsed[1] >= elapsed[0] + least && elapsed[2] >= elapsed[1] + least, "{elapsed:?}");
}

/// All are told the same: made once.
#[test]
fn one_event_is_made_for_all_who_watch() {
    let listener = Listener::start();
    let mut watching: Vec<_> = (0..DASHBOARDS).map(|_| Watching::open(&listener, "")).collect();
    let mut told: Vec<Vec<u64>> = watching
        .iter_mut()
        .map(|watching| (0..4).map(|_| watching.next().1["elapsed_ms"].as_u64().unwrap()).collect())
        .collect();
    // They came one after the other, so that each missed at most what was before it.
    let last = told.pop().unwrap();
    for others in told {
        assert!(last[..2].iter().all(|at| others.contains(at)), "{last:?} {others:?}");
    }
}

#[test]
fn no_more_dashboards_than_may_be_are_open_and_who_leaves_makes_room() {
    let listener = Listener::start();
    let mut watching: Vec<_> = (0..DASHBOARDS).map(|_| Watching::open(&listener, "")).collect();
    watching.iter_mut().for_each(|watching| assert_eq!(watching.next().0, "host"));
    let refused = Watching::open(&listener, "");
    assert!(refused.begins("503") && refused.head.contains("Retry-After: 1"), "{}", refused.head);
    // Who only asks for the head takes no place, and goes on to ask.
    for _ in 0..2 {
        let head = listener.ask("HEAD /v1/events", "Host: 127.0.0.1\r\n");
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    }
    drop(watching.pop());
    let again = std::iter::repeat_with(|| Watching::open(&listener, "")).find(|again| again.begins("200"));
    assert_eq!(again.unwrap().next().0, "host");
    assert!(watching.iter_mut().all(|watching| watching.next().0 == "host"), "the others stay");
    let head = listener.ask("HEAD /v1/events", "Host: 127.0.0.1\r\n");
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
}

/// The places of operators' connections are for those who ask: a dashboard on every desk keeps no probe out.
#[test]
fn places_are_left_for_probes_however_many_watch() {
    let listener =
        Listener::of(Given { dashboards_max: 2 * limits::ADMIN_CONNECTIONS_MAX, ..Given::default() });
    let watching: Vec<_> =
        (0..2 * limits::ADMIN_CONNECTIONS_MAX).map(|_| Watching::open(&listener, "")).collect();
    assert!(watching.iter().all(|watching| watching.begins("200")), "none is kept out by those before it");
    assert!(listener.readyz().starts_with("HTTP/1.1 200 "));
}

#[test]
fn who_watches_stays_however_many_ask() {
    let listener = Listener::start();
    let mut watching = Watching::open(&listener, "");
    assert_eq!(watching.next().0, "host");
    let idle: Vec<_> = (0..2 * limits::ADMIN_CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = TcpStream::connect(listener.address()).unwrap();
            // Those that have given way by then cannot send.
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
            stream
        })
        .collect();
    assert!(listener.readyz().starts_with("HTTP/1.1 200 "));
    // It is older than all of them, and goes on.
    (0..3).for_each(|_| assert_eq!(watching.next().0, "host"));
    drop(idle);
}

#[test]
fn an_event_of_very_many_sales_fits_into_a_part() {
    let listener = Listener::start();
    let name = |number: usize| format!("{number:0>64}");
    for number in 0..3_000 {
        listener.learn(&name(number), &state(limits::STOCK_MAX, limits::STOCK_MAX - 1));
    }
    listener.board.mark_missing(&name(2_999));
    let mut watching = Watching::open(&listener, &format!("?sale={}", name(2_998)));
    let (_, host) = watching.next();
    let sales = host["sales"].as_array().unwrap();
    assert_eq!(sales.len(), limits::DASHBOARD_SALES_MAX);
    assert_eq!(host["more_sales"], 3_000 - limits::DASHBOARD_SALES_MAX);
    assert_eq!(sales[0]["status"], "missing");
    assert_eq!(
        (sales[1]["sale"].as_str(), sales[49]["sale"].as_str()),
        (Some(name(0).as_str()), Some(name(48).as_str()))
    );
    assert_eq!(watching.next().1["sale"], name(2_998));
}
