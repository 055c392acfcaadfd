//! A CPU profile by the admin listener: what it shows, who may ask for it, and that it harms nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::client::{Client, Response};
use crate::support::crowd::rush;
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::turn;

const TOKEN: &str = "s3cret";

/// A host that takes profiles; with a sale that is sold out, and one that is not.
fn host(folder: &std::path::Path) -> Host {
    std::fs::write(folder.join("token"), TOKEN).unwrap();
    Host::start(folder, &["--admin-token-file", "token", "--sale", "ticket=1000000", "--sale", "gone=0"])
}

/// Asks without waiting for the answer.
fn send(operator: &mut Client, query: &str, fields: &str) {
    operator.send(format!("POST /debug/profile{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).unwrap();
}

/// Asks with the token.
fn profile(operator: &mut Client, query: &str) -> Response {
    send(operator, query, &format!("Authorization: Bearer {TOKEN}\r\n"));
    operator.receive().unwrap()
}

/// Asserts that the answer is one of those described.
#[track_caller]
fn assert_described(host: &Host, answer: &Response) {
    let description = host.operator().get("/openapi-admin.json").expect(200).json();
    let described = &description["paths"]["/debug/profile"]["post"]["responses"][answer.status.to_string()];
    let response = match described["$ref"].as_str() {
        Some(reference) => description.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => described,
    };
    let content_type = answer.field("content-type").unwrap();
    let schema = &response["content"][content_type]["schema"];
    assert!(schema.is_object(), "{} {content_type}: {described}", answer.status);
    if content_type == "application/problem+json" {
        let problem = &answer.json()["type"];
        let kind = &schema["allOf"][1]["properties"]["type"];
        let types = kind["enum"].as_array();
        assert!(kind["const"] == *problem || types.is_some_and(|types| types.contains(problem)), "{problem}");
    }
}

#[test]
fn a_profile_under_load_shows_the_loops_and_harms_no_buyer() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut host = host(folder.path());
    let address = host.address;
    let enough = AtomicBool::new(false);
    let (mut answers, sold) = std::thread::scope(|scope| {
        let load = |sale: &'static str, depth: usize| {
            let enough = &enough;
            scope.spawn(move || {
                let mut granted = 0;
                while !enough.load(Ordering::Relaxed) {
                    let told = rush(&[address], sale, 8, 100, depth);
                    assert_eq!(told.wrong, Vec::<String>::new());
                    granted += told.granted.len();
                }
                granted
            })
        };
        let (buyers, losers) = (load("ticket", 1), load("gone", 16));
        // Of two that ask at once one is told to wait for its turn.
        let asked = [(); 2].map(|()| {
            let mut operator = host.operator();
            scope.spawn(move || profile(&mut operator, "?seconds=3"))
        });
        let answers = asked.map(|asked| asked.join().unwrap());
        enough.store(true, Ordering::Relaxed);
        assert_eq!(losers.join().unwrap(), 0);
        (answers, buyers.join().unwrap())
    });
    answers.sort_by_key(|answer| answer.status);
    let [taken, refused] = &answers;
    taken.clone().expect(200);
    refused.expect_problem(409, "profile-running");
    for answer in &answers {
        assert_described(&host, answer);
    }
    let svg = taken.text();
    assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"));
    // The threads at the bottom, and functions of ours above them.
    for name in ["<title>loop-", "<title>boxoffice::runtime::worker::", "<title>boxoffice::engine::"] {
        assert!(svg.contains(name), "no {name} in {svg}");
    }
    // What is between the sample and the profiler is not shown.
    assert!(!svg.contains("perf_signal_handler"), "{svg}");

    host.expect_sold("ticket", sold as u64);
    // And again, now that the first one has ended.
    profile(&mut host.operator(), "?seconds=1").expect(200);
    host.stop();
    assert_audit_agrees(folder.path(), "ticket", "sqlite:boxoffice.db");
}

#[test]
fn a_profile_takes_a_token_and_well_formed_seconds() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let mut operator = host.operator();
    for query in
        ["?seconds=0", "?seconds=61", "?seconds=ten", "?seconds=", "?seconds=1&seconds=2", "?minutes=1"]
    {
        let answer = profile(&mut operator, query);
        let problem = answer.expect_problem(400, "bad-request");
        assert!(problem["detail"].as_str().unwrap().contains("1 to 60"), "{problem}");
        assert_described(&host, &answer);
    }
    for fields in ["", "Authorization: Bearer other\r\n"] {
        send(&mut operator, "?seconds=1", fields);
        let answer = operator.receive().unwrap();
        answer.expect_problem(401, "unauthorized");
        assert_described(&host, &answer);
    }
    send(
        &mut operator,
        "?seconds=1",
        &format!("Authorization: Bearer {TOKEN}\r\nOrigin: http://elsewhere.example\r\n"),
    );
    let answer = operator.receive().unwrap();
    answer.expect_problem(403, "forbidden");
    assert_described(&host, &answer);
    operator.get("/debug/profile").expect_problem(405, "method-not-allowed");

    // Without a token other changing calls are taken from loopback; this one says what to do.
    let other_folder = tempfile::tempdir().unwrap();
    let open = Host::start(other_folder.path(), &[]);
    let answer = open.operator().ask("POST", "/debug/profile?seconds=1", None);
    let problem = answer.expect_problem(403, "token-needed");
    assert!(problem["detail"].as_str().unwrap().contains("--admin-token-file"), "{problem}");
    assert_described(&open, &answer);
}

#[test]
fn a_host_that_drains_does_not_wait_for_its_profile() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut host = host(folder.path());
    let mut operator = host.operator();
    send(&mut operator, "?seconds=60", &format!("Authorization: Bearer {TOKEN}\r\n"));
    eventually("the profile has begun", Duration::from_secs(5), || {
        host.process.said().contains("an operator profiles this host").then_some(())
    });
    host.stop();
    // It answers with what it has of the minute, if it comes to that before it ends.
    if let Ok(answer) = operator.receive() {
        let svg = answer.expect(200);
        let (_, seconds) = svg.text().split_once("CPU time of ").unwrap();
        let seconds: f64 = seconds.split(' ').next().unwrap().parse().unwrap();
        assert!(seconds < 60.0, "{}", svg.text());
    }
}
