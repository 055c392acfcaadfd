//! The dashboard: its events as any client reads them, and its page in a real Chromium, which tests/browser/dashboard.py drives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::process::Process;
use crate::support::redis_server::RedisServer;
use crate::support::{eventually, free_port, turn};

/// Where `tests/setup.sh` puts what drives the browser.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/browser/bin/python");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/dashboard.py");

/// Of the host, as its operators know it.
const TOKEN: &str = "s3cret";

/// How long a step in the browser may take, all that it waits for included.
const STEP_LIMIT: Duration = Duration::from_secs(240);

/// The folder for screenshots, if some are wanted: `make screenshots` sets it. Without, they are made and thrown away.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("SCREENSHOTS").map(PathBuf::from)
}

/// Buys until it is told to end, from whoever listens there; some pay at once, and what is sold out is asked for, too.
fn buy(address: SocketAddr, buyer: usize, is_over: &AtomicBool) {
    let mut client = None;
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        let connected = match client.take() {
            Some(client) => Ok(client),
            None => Client::try_connect(address),
        };
        // A host that was killed is there again soon.
        let Ok(mut one) = connected else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        number += 1;
        let booking = format!("/v1/sales/concert/bookings/order-{buyer}-{number}");
        let body = format!("{{\"quantity\":{},\"buyer\":\"u-{buyer}-{number}\"}}", 1 + number % 4);
        let mut asked = vec![("PUT", booking.clone(), Some(body))];
        if number % 3 > 0 {
            asked.push(("POST", format!("{booking}/confirm"), None));
        }
        for _ in 0..1 + number / 64 % 5 {
            asked.push(("GET", "/buy/matinee".to_owned(), None));
        }
        let told =
            asked.iter().all(|(method, target, body)| one.try_ask(method, target, body.as_deref()).is_ok());
        std::thread::sleep(Duration::from_millis(4));
        if told {
            client = Some(one);
        }
    }
}

/// Ends the crowd, however the test ends: a scope with somebody who asks on waits for ever.
struct Closing<'a>(&'a AtomicBool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn drive(host: &Host, folder: &Path) -> Process {
    assert!(Path::new(PYTHON).exists(), "{PYTHON} is not there: `make setup` installs it");
    let pictures = pictures();
    let mut command = Command::new(PYTHON);
    command.arg(SCRIPT).arg(format!("http://{}/", host.admin)).arg(TOKEN);
    command.arg(pictures.as_deref().unwrap_or(folder));
    if pictures.is_some() {
        command.arg("25");
    }
    command.env("NO_PROXY", "127.0.0.1").current_dir(folder);
    Process::start("the browser", &mut command)
}

#[test]
fn an_operator_sees_a_sale_in_a_browser_and_drives_it() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let mut redis = RedisServer::start(folder.path());
    let (listen, admin) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    // For pictures a part of it is to be sold in their time; for the test, some is to be left at the end.
    let stock = if pictures().is_some() { 90_000 } else { 100_000_000 };
    let (concert, url) = (format!("concert={stock},hold=20s,per-buyer=4"), redis.url());
    let words = ["--listen", &listen, "--admin", &admin, "--admin-token-file", "token", "--ledger", &url];
    let sales =
        ["--sale", &concert, "--sale", "matinee=400", "--sale", "late-show=900,starts=2999-01-01T00:00:00Z"];
    let words = [&words[..], &sales].concat();
    let mut host = Host::start(folder.path(), &words);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _closing = Closing(&is_over);
        for buyer in 0..4 {
            let (address, is_over) = (host.address, &is_over);
            scope.spawn(move || buy(address, buyer, is_over));
        }
        let mut browser = drive(&host, folder.path());
        let shown =
            |host: &Host, sale: &str| host.operator().get(&format!("/v1/sales/{sale}")).expect(200).json();
        while let Some(line) = browser.next_line(STEP_LIMIT) {
            match line.as_str() {
                // What the page shows, the ledger has.
                "paused" => assert_eq!(shown(&host, "concert")["status"], "paused"),
                "resumed" => assert_eq!(shown(&host, "concert")["status"], "open"),
                "raised" => assert_eq!(shown(&host, "concert")["total"], stock + 50),
                "opened" => assert_eq!(
                    [&shown(&host, "opened-here")["total"], &shown(&host, "opened-here")["hold_seconds"]],
                    [7, 90]
                ),
                "closed" => {
                    assert_eq!(shown(&host, "opened-here")["status"], "closed");
                    assert_eq!(shown(&host, "matinee")["total"], 400);
                }
                "please: falsify late-show" => {
                    drop(redis.command(&["hincrby", "bx:{late-show}:stock", "held", "1"]));
                }
                "please: mend late-show" => {
                    drop(redis.command(&["hincrby", "bx:{late-show}:stock", "held", "-1"]));
                }
                "please: stop redis" => redis.kill(),
                "please: start redis" => redis.start_again(),
                "please: kill the host" => host.process.kill(),
                "please: start the host" => host = Host::start(folder.path(), &words),
                _ => {}
            }
        }
        let status = browser.wait(STEP_LIMIT);
        assert!(status.success() && browser.lines_with(&["done"]) == 1, "{status}\n{}", browser.said());
        if pictures().is_some() {
            println!("{}", browser.said());
        }
    });
    for sale in ["concert", "matinee", "late-show"] {
        assert_audit_agrees(folder.path(), sale, &url);
    }
}

/// Who watches a host.
struct Dashboard {
    client: Client,
    unread: Vec<u8>,
}

impl Dashboard {
    fn open(host: &Host, query: &str) -> Dashboard {
        let mut client = host.operator();
        // In HTTP/1.0 no chunks are in between.
        client.send(format!("GET /v1/events{query} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")).unwrap();
        let mut dashboard = Dashboard { client, unread: Vec::new() };
        let head = dashboard.block(b"\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
        dashboard
    }

    fn block(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|bytes| bytes == end) {
                let block: Vec<u8> = self.unread.drain(..at + end.len()).collect();
                return String::from_utf8(block).unwrap();
            }
            self.unread.extend(self.client.receive_some().expect("the stream goes on"));
        }
    }

    /// The next event `host`.
    fn next(&mut self) -> Value {
        loop {
            let event = self.block(b"\n\n");
            if let Some(data) = event.strip_prefix("event: host\ndata: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

#[test]
fn events_tell_what_was_booked_and_refused() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(folder.path(), &["--sale", "ticket=5"]);
    let mut dashboard = Dashboard::open(&host, "?sale=ticket");
    let before = dashboard.next();
    assert_eq!((&before["sales"][0]["available"], &before["requests"]["granted"]), (&5.into(), &0.into()));
    let mut client = host.client();
    (0..8).for_each(|_| drop(client.get("/buy/ticket").expect(200)));
    let after = eventually("it is told", STEP_LIMIT, || {
        let event = dashboard.next();
        (event["sales"][0]["sold"] == 5).then_some(event)
    });
    assert_eq!((&after["requests"]["granted"], &after["requests"]["sold-out"]), (&5.into(), &3.into()));
    let sum = |name: &str| after[name].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(sum("booking_wait"), 5, "all that asked the ledger");
    assert!(sum("ledger_round_trip") > 0);
    let cores =
        |name: &str| after["cores"][name].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!((cores("ledger_entries"), cores("ledger_up")), (5, host.loops() as u64));
    // A host that ends is told of by its end, and does not wait for who watches.
    host.stop();
    eventually("the stream ends", STEP_LIMIT, || dashboard.client.receive_some().is_err().then_some(()));
}

/// As many as may be, each told less often than if there were few; one that reads is not told later because others do not.
#[test]
fn a_thousand_dashboards_are_told_beside_one_that_reads() {
    let _turn = turn::alone();
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=1000"]);
    let mut reader = Dashboard::open(&host, "");
    assert_eq!(reader.next()["interval_ms"], 500);
    let crowd: Vec<Dashboard> = (1..1_000).map(|_| Dashboard::open(&host, "?sale=ticket")).collect();
    let mut refused = host.operator();
    refused.send("GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    refused.receive().unwrap().expect_problem(503, "overloaded");
    // Each is told less often, so that all of them are not told more.
    eventually("the interval grows", STEP_LIMIT, || (reader.next()["interval_ms"] == 1_000).then_some(()));
    let bytes = || crate::support::process::resident_bytes(host.process.id());
    let before = bytes();
    for _ in 0..3 {
        host.operator().get("/livez").expect(200);
        host.client().get("/buy/ticket").expect(200);
        reader.next();
    }
    // One part each, if the sockets took no more: below that, since they still do.
    assert!(bytes() < before + 1_000 * 64 * 1024, "{before} then {}", bytes());
    for mut dashboard in crowd {
        let (first, next) = (dashboard.next(), dashboard.next());
        assert!(next["elapsed_ms"].as_u64() > first["elapsed_ms"].as_u64());
    }
}
