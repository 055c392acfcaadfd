//! The admin listener, the command line of an operator, and the end of a host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use boxoffice::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_LEDGER_REQUESTS_MAX};

use crate::support::client::{Client, Response};
use crate::support::crowd::{Insisting, rush};
use crate::support::eventually;
use crate::support::host::{Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

#[test]
fn alive_and_ready() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &[]);
    let mut operator = host.operator();
    operator.get("/livez").expect(200);
    operator.get("/readyz").expect(200);
    operator.get("/nowhere").expect(404);
    assert_eq!(operator.ask("DELETE", "/livez", None).status, 405);
    // Operators' paths are not clients'.
    host.client().get("/metrics").expect(404);
    host.client().get("/livez").expect(404);
}

/// A host that is well is not to be restarted because somebody leaves connections open.
#[test]
fn probes_get_through_however_many_connections_of_operators_are_idle() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=10"]);
    for half in ["", "GET /metr", "GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"] {
        let mut idle: Vec<_> = (0..200)
            .map(|_| {
                let mut client = host.operator();
                // Those that have given way by then cannot send.
                let _ = client.send(half);
                client
            })
            .collect();
        for _ in 0..20 {
            for probe in ["/livez", "/readyz"] {
                host.operator().get(probe).expect(200);
            }
        }
        // Who has just come may stay for a moment, and in a burst of them whoever was answered gives way instead. After that a
        // probe that keeps its connection is not the one that gives way.
        std::thread::sleep(Duration::from_millis(300));
        let mut probe = host.operator();
        probe.get("/livez").expect(200);
        let later: Vec<_> = (0..ADMIN_CONNECTIONS_MAX / 2).map(|_| host.operator()).collect();
        probe.get("/readyz").expect(200);
        assert!(
            idle[0].receive().is_err() || !half.is_empty() && idle[0].at_end(),
            "the first has given way"
        );
        drop(later);
    }
    host.client().get("/buy/ticket").expect(200);
}

/// Asks as a probe does: again, if its connection was closed. Whoever says nothing in its first 100 ms may have to give way,
/// and a machine that others load may stand still for longer between a connection and its request.
fn probe(host: &Host, target: &str) -> Response {
    let mut asked = (0..20).map(|_| host.operator().try_ask("GET", target, None));
    asked.find_map(Result::ok).unwrap_or_else(|| panic!("{target} was not answered once in 20 times"))
}

/// Nor because its ledger hangs, and everybody asks what is the matter with it.
#[test]
fn probes_get_through_while_a_crowd_of_operators_waits_for_a_ledger_that_hangs() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=10"]);
    redis.freeze();
    let (is_over, overloaded) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 * ADMIN_LEDGER_REQUESTS_MAX {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(mut operator) = Client::try_connect(host.admin) else { continue };
                    while let Ok(told) = operator.try_ask("GET", "/v1/sales/ticket", None)
                        && !is_over.load(Ordering::Relaxed)
                    {
                        assert_eq!(told.status, 503, "{}", told.text());
                        assert_eq!(told.field("retry-after"), Some("1"), "{told:?}");
                        if told.json()["type"] == "/problems/overloaded" {
                            overloaded.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                }
            });
        }
        // It ends in any case: a scope with somebody who asks on waits for ever.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            eventually("as many ask as may", Duration::from_secs(20), || {
                (overloaded.load(Ordering::Relaxed) > 10).then_some(())
            });
            eventually("the silence is noticed", Duration::from_secs(20), || {
                let told = probe(&host, "/readyz");
                (told.status == 503 && told.text().contains("has not answered")).then_some(())
            });
            let mut kept = host.operator();
            for _ in 0..40 {
                for probe in [&mut kept, &mut host.operator()] {
                    // A connection that was idle for too long has given way.
                    if let Ok(told) = probe.try_ask("GET", "/livez", None) {
                        assert_eq!(told.expect(200).text(), "ok\n");
                    }
                }
                let unready = probe(&host, "/readyz").expect(503);
                assert!(!unready.text().contains("overloaded"), "{}", unready.text());
                assert_eq!(
                    unready.field("content-type"),
                    Some("text/plain; charset=utf-8"),
                    "{}",
                    unready.text()
                );
                assert_eq!(probe(&host, "/livez").expect(200).text(), "ok\n");
                probe(&host, "/metrics").expect(200);
                probe(&host, "/problems/overloaded").expect(200);
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        redis.thaw();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    eventually("operators are answered again", Duration::from_secs(20), || {
        (probe(&host, "/v1/sales/ticket").status == 200).then_some(())
    });
}

#[test]
fn a_sale_is_opened_and_raised_while_it_sells() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &[]);
    let mut operator = host.operator();
    host.client().get("/v1/sales/late").expect_problem(404, "no-such-sale");
    let opened = operator.put("/v1/sales/late", "{\"total\":5}");
    assert!(matches!(opened.status, 200 | 201), "{opened:?} {}", opened.text());
    eventually("the new sale sells", Duration::from_secs(2), || {
        (host.client().get("/v1/sales/late").status == 200).then_some(())
    });
    assert_eq!(rush(&[host.address], "late", 2, 10, 2).granted.len(), 5);

    operator.put("/v1/sales/late", "{\"total\":8}").expect(200);
    eventually("the sale sells again", Duration::from_secs(2), || {
        (host.sale("late")["available"] == 3).then_some(())
    });
    assert_eq!(rush(&[host.address], "late", 2, 10, 2).granted.len(), 3);

    // The total never falls below what is sold.
    let refused = operator.put("/v1/sales/late", "{\"total\":7}");
    assert!((400..500).contains(&refused.status), "{refused:?} {}", refused.text());
    operator.put("/v1/sales/late", "{\"total\":\"many\"}").expect_problem(400, "bad-request");
    host.expect_sold("late", 8);
}

#[test]
fn the_command_line_reads_and_opens_sales() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let ledger = redis.url();
    let run = |words: &[&str]| boxoffice(folder.path(), &[words, &["--ledger", &ledger]].concat());
    run(&["sale", "open", "ticket", "--stock", "12"]).expect(0);
    run(&["sale", "list"]).expect(0).saying(&["ticket"]);
    run(&["sale", "show", "ticket"]).expect(0).saying(&["ticket", "12"]);
    run(&["sale", "show", "nothing"]).expect(1).saying(&["nothing"]);
    let host = Host::start(folder.path(), &["--ledger", &ledger, "--sale", "ticket=99"]);
    // A sale that exists is not changed by --sale.
    assert_eq!(host.sale("ticket")["total"], 12);
    assert_eq!(rush(&[host.address], "ticket", 2, 10, 1).granted.len(), 12);
    run(&["sale", "show", "ticket"]).expect(0).saying(&["12"]);
    run(&["audit", "ticket"]).expect(0);
    run(&["audit", "nothing"]).expect(1).saying(&["nothing"]);
}

/// The exposition format, line by line: every sample belongs to a family with a type and a help, names carry the
/// prefix and the unit, counters end in _total, and no label is a buyer's or a booking's.
#[test]
fn metrics_are_well_formed() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=10"]);
    rush(&[host.address], "ticket", 2, 20, 2);
    let answer = host.operator().get("/metrics").expect(200);
    let content_type = answer.field("content-type").unwrap_or_default().to_owned();
    assert!(
        content_type.starts_with("application/openmetrics-text") || content_type.starts_with("text/plain"),
        "{content_type}"
    );

    assert!(
        answer.text().contains("boxoffice_ledger_round_trip_seconds_bucket{le=\"+Inf\"} "),
        "{}",
        answer.text()
    );
    let mut types = BTreeMap::new();
    let mut helps = BTreeMap::new();
    let mut samples = 0;
    for line in answer.text().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} has two types");
            assert!(name.starts_with("boxoffice_") || name.starts_with("process_"), "{name}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.trim().is_empty(), "{line}");
            helps.insert(name, help);
        } else if line.starts_with('#') {
            assert!(line == "# EOF" || line.starts_with("# UNIT "), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            let endings = ["", "_total", "_bucket", "_sum", "_count", "_info"];
            let family = endings
                .iter()
                .find_map(|ending| name.strip_suffix(ending).filter(|name| types.contains_key(name)));
            let kind = types[family.unwrap_or_else(|| panic!("no type for {line}"))];
            if kind == "counter" {
                assert!(name.ends_with("_total") && value >= 0.0, "{line}");
            }
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("labels not closed: {line}"));
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once('=').unwrap_or_else(|| panic!("not a label: {line}"));
                assert!(!["buyer", "booking"].contains(&label), "{line}");
                assert!(value.starts_with('"') && value.ends_with('"'), "{line}");
            }
            samples += 1;
        }
    }
    for name in types.keys() {
        assert!(helps.contains_key(name), "no help for {name}");
    }
    assert!(samples >= 10, "{}", answer.text());

    // And they count: 10 of 40 requests got a ticket.
    let counted: f64 = host
        .metrics()
        .iter()
        .filter(|(name, _)| name.starts_with("boxoffice_requests_total"))
        .map(|(_, count)| count)
        .sum();
    assert!(counted >= 40.0, "{counted} requests counted");
}

/// SIGTERM in mid-sale: what is in flight is answered, nothing is lost, the exit status is 0.
#[test]
fn sigterm_drains() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=20000"];
    let mut leaving = Host::start(folder.path(), &words);
    let staying = Host::start(folder.path(), &words);
    let crowd = Insisting::start(&[leaving.address, staying.address], "ticket", 16, 300);
    crowd.wait_for_granted(500);
    leaving.stop();
    let told = crowd.finish();
    assert_eq!(told.wrong, [""; 0]);
    assert_eq!(told.granted().len(), 4_800);
    // Nobody had to ask twice: what the leaving host took, it answered.
    assert_eq!(told.replayed, 0, "{} orders were booked and not answered", told.replayed);
    staying.expect_sold("ticket", 4_800);
}

#[test]
fn sigint_ends_an_idle_host_at_once() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(folder.path(), &["--sale", "ticket=5"]);
    // An idle connection is no reason to stay.
    let mut idle = host.client();
    idle.get("/buy/ticket").expect(200);
    host.process.signal(libc::SIGINT);
    let status = host.process.wait(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{}", host.process.said());
    assert!(idle.at_end());
    // And it left its ledger in order.
    let host = Host::start(folder.path(), &[]);
    host.expect_sold("ticket", 1);
}

fn asked(admin: SocketAddr, request: &str, condition: &str, body: &str) -> Response {
    let mut operator = Client::connect(admin);
    let length = body.len();
    operator
        .send(format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\n{condition}Content-Length: {length}\r\n\r\n{body}"
        ))
        .unwrap();
    operator.receive().unwrap()
}

/// Of two operators who set a sale's terms the last one does not win silently, with either ledger.
#[test]
fn operators_do_not_overwrite_each_other() {
    let _turn = turn::shared();
    let data = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(data.path());
    for ledger in ["sqlite:boxoffice.db".to_owned(), redis.url()] {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(folder.path(), &["--ledger", &ledger, "--state", "none"]);
        let admin = host.admin;
        let put = |condition: &str, body: &str| asked(admin, "PUT /v1/sales/late", condition, body);
        let unmet = |condition: &str, body: &str| {
            drop(put(condition, body).expect_problem(412, "precondition-failed"))
        };
        unmet("If-Match: *\r\n", "{\"total\":5}");
        unmet("If-Match: \"1\"\r\n", "{\"total\":5}");
        put("", "{\"total_change\":5}").expect_problem(400, "bad-request");
        asked(host.admin, "POST /v1/sales/late/pause", "If-Match: *\r\n", "")
            .expect_problem(404, "no-such-sale");
        let opened = put("If-None-Match: *\r\n", "{\"total\":5}").expect(201);
        assert_eq!(opened.field("etag"), Some("\"1\""));
        unmet("If-None-Match: *\r\n", "{\"total\":50}");
        let raised = put("If-Match: \"1\"\r\n", "{\"total\":8}").expect(200);
        assert_eq!((raised.field("etag"), &raised.json()["version"]), (Some("\"2\""), &serde_json::json!(2)));
        unmet("If-Match: \"1\"\r\n", "{\"total\":9}");
        unmet("If-Match: W/\"2\"\r\n", "{\"total\":9}");
        unmet("If-None-Match: W/\"2\"\r\n", "{\"total\":9}");
        put("If-Match: 2\r\n", "{\"total\":9}").expect_problem(400, "bad-request");
        put("If-Match: \"1\", \"2\"\r\n", "{\"total_change\":12}").expect(200);
        put("If-Match: *\r\n", "{\"total_change\":-10}").expect(200);
        assert_eq!(put("", "{\"total_change\":0}").expect(200).json()["total"], 10);
        put("", "{\"total_change\":-11}").expect_problem(409, "total-too-low");
        put("", "{\"total\":1,\"total_change\":1}").expect_problem(400, "bad-request");
        // What is no change of the terms, too; and what has no state has no condition.
        for what in ["pause", "resume", "close"] {
            let target = format!("POST /v1/sales/late/{what}");
            asked(host.admin, &target, "If-Match: \"1\"\r\n", "").expect_problem(412, "precondition-failed");
        }
        asked(host.admin, "DELETE /v1/sales/late", "If-Match: \"1\"\r\n", "")
            .expect_problem(412, "precondition-failed");
        asked(host.admin, "POST /v1/drain", "If-Match: *\r\n", "").expect_problem(412, "precondition-failed");
        let shown = host.operator().get("/v1/sales/late").expect(200);
        let tag = shown.field("etag").unwrap().to_owned();
        assert_eq!(
            (&shown.json()["status"], &shown.json()["total"]),
            (&serde_json::json!("open"), &serde_json::json!(10))
        );
        let paused =
            asked(host.admin, "POST /v1/sales/late/pause", &format!("If-Match: {tag}\r\n"), "").expect(200);
        assert_ne!(paused.field("etag"), Some(tag.as_str()));

        // At once: everybody's tickets are added, and of those who saw one version one changes it.
        let (threads, each) = (4, 10);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|_| drop(put("", "{\"total_change\":3}").expect(200))));
            }
        });
        let shown = host.operator().get("/v1/sales/late").expect(200);
        assert_eq!(shown.json()["total"], 10 + 3 * threads * each, "{ledger}");
        let condition = format!("If-Match: {}\r\n", shown.field("etag").unwrap());
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let racers: Vec<_> = (1..=6)
                .map(|total| {
                    let (put, condition) = (&put, &condition);
                    scope.spawn(move || put(condition, &format!("{{\"total\":{total}}}")).status)
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{ledger}: {statuses:?}");
        assert!(statuses.iter().all(|status| [200, 412].contains(status)), "{statuses:?}");
    }
    let run = |words: &[&str]| boxoffice(data.path(), &[words, &["--ledger", &redis.url()]].concat());
    let total = |words: &[&str]| run(&[&["sale", "set", "late", "--stock"], words].concat()).expect(0);
    total(&["100"]);
    total(&["+20"]);
    total(&["-5"]).saying(&["115"]);
    run(&["sale", "set", "late", "--stock", "-116"]).expect(1).saying(&["held"]);
}
