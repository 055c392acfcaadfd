//! Audits that operators ask a host for, beside the command that audits a ledger itself.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::client::{Client, Response};
use crate::support::host::{Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

/// What an audit of the sale told at its end: the event's name, and what it says. The ones before are progress.
fn audit(host: &Host, sale: &str) -> (String, Value) {
    let mut operator = host.operator();
    // In HTTP/1.0 no chunks are in between, and the end is the end.
    operator
        .send(format!("POST /v1/sales/{sale}/audit HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"))
        .unwrap();
    let mut text = Vec::new();
    while let Ok(more) = operator.receive_some() {
        text.extend(more);
    }
    let text = String::from_utf8(text).unwrap();
    let (head, events) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{text}");
    let mut events: Vec<_> = events.split_terminator("\n\n").collect();
    let last = events.pop().unwrap();
    assert!(
        !events.is_empty() && events.iter().all(|event| event.starts_with("event: progress\n")),
        "{text}"
    );
    let (name, data) = last.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
    (name.to_owned(), serde_json::from_str(data).unwrap())
}

fn by_command(folder: &Path, sale: &str, ledger: &str, status: i32) -> Value {
    let ended = boxoffice(folder, &["audit", sale, "--ledger", ledger, "--json"]).expect(status);
    serde_json::from_str(ended.said.lines().last().unwrap()).unwrap()
}

fn book(client: &mut Client, number: u32) -> Response {
    let body = format!("{{\"quantity\":{},\"buyer\":\"u-{}\"}}", 1 + number % 3, number % 50);
    client.put(&format!("/v1/sales/ticket/bookings/b-{number}"), &body)
}

/// One form, whoever audits; with either ledger, while a host has it open.
#[test]
fn a_host_finds_what_the_command_finds() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    for ledger in [redis.url(), "sqlite:boxoffice.db".to_owned()] {
        let host = Host::start(folder.path(), &["--ledger", &ledger, "--sale", "ticket=100000,hold=1h"]);
        let mut client = host.client();
        for number in 0..500 {
            assert!(book(&mut client, number).is_booked());
            if number % 3 == 0 {
                client
                    .ask("POST", &format!("/v1/sales/ticket/bookings/b-{number}/confirm"), None)
                    .expect(200);
            }
        }
        let (name, findings) = audit(&host, "ticket");
        assert_eq!((name.as_str(), &findings["differences_total"]), ("findings", &json!(0)), "{findings}");
        assert_eq!(findings, by_command(folder.path(), "ticket", &ledger, 0));
        host.operator().ask("POST", "/v1/sales/nowhere/audit", None).expect_problem(404, "no-such-sale");
    }
    // What somebody changed behind everybody's back.
    let url = redis.url();
    let host = Host::start(folder.path(), &["--ledger", &url]);
    redis.command(&["hdel", "bx:{ticket}:bookings", "b-7"]);
    let (name, findings) = audit(&host, "ticket");
    assert_eq!(name, "findings");
    let told = findings["differences"].as_array().unwrap();
    assert!(told.iter().any(|it| it["subject"] == "booking b-7" && it["kind"] == "replay"), "{findings}");
    assert_eq!(findings, by_command(folder.path(), "ticket", &url, 1));
}

/// It takes what is sold meanwhile for what it is, and nobody who books waits for it.
#[test]
fn a_sale_is_audited_while_it_sells() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=100000000,hold=1h"]);
    let is_over = AtomicBool::new(false);
    let sold = std::thread::scope(|scope| {
        let (address, is_over) = (host.address, &is_over);
        let crowd = scope.spawn(move || {
            let mut client = Client::connect(address);
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                assert!(book(&mut client, number).is_booked());
            }
            number
        });
        // However the audits end: a scope with somebody who asks on waits for ever.
        let audits = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..5).map(|_| audit(&host, "ticket")).collect::<Vec<_>>()
        }));
        is_over.store(true, Ordering::Relaxed);
        let audits = audits.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let sequences = audits.iter().map(|(name, findings)| {
            assert_eq!(
                (name.as_str(), &findings["differences_total"]),
                ("findings", &json!(0)),
                "{findings}"
            );
            findings["sequence"].as_u64().unwrap()
        });
        let sequences: Vec<_> = sequences.collect();
        assert!(sequences.is_sorted() && sequences[0] < sequences[4], "it was sold from: {sequences:?}");
        crowd.join().unwrap()
    });
    let (_, findings) = audit(&host, "ticket");
    assert_eq!(findings["sequence"], sold);
}

#[test]
fn an_audit_of_a_ledger_that_is_gone_fails_with_words() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=10"]);
    redis.kill();
    let problem = host.operator().ask("POST", "/v1/sales/ticket/audit", None);
    let detail = problem.expect_problem(503, "ledger-unavailable")["detail"].to_string();
    assert!(detail.contains("cannot reach Redis"), "{detail}");
    redis.start_again();
    assert_eq!(audit(&host, "ticket").0, "findings");
}
