//! The table against a real boxoffice.

use std::net::SocketAddr;

use crate::answers;
use crate::cases::{self, Case};
use crate::support::host::Host;
use crate::support::one_core;
use crate::support::turn;
use crate::talk::{Manner, Talk, Told, hold};

/// A host of one loop with sales that are sold out, and one with two bookings. Its clients may take the time that a busy
/// machine makes them take.
fn host(folder: &tempfile::TempDir, words: &[&str]) -> Host {
    let sales = ["a=0", "b=0", "c=0", "p=0", "last=0", "d=2"].map(|sale| ["--sale", sale]).concat();
    let limits = ["head-time=5m", "body-time=10m", "idle-time=1h", "linger=4s", "requests=0"]
        .map(|limit| ["--limit", limit])
        .concat();
    let host = Host::start(folder.path(), &[&["--cores", &one_core()], &sales[..], &limits, words].concat());
    if !words.is_empty() {
        return host;
    }
    for booking in ["c", "e"] {
        host.client().put(&format!("/v1/sales/d/bookings/{booking}"), "{}").expect(201);
    }
    host
}

/// What came of it, in the words of the table; an error where an answer is not as an answer must be.
fn outcome(told: &Told<'_>) -> Result<String, String> {
    let case = told.talk.case;
    let mut answers = answers::read(&told.bytes)?;
    if case.waits_at.is_none() {
        // Whether leave to send is given depends on what is there already.
        answers.retain(|answer| answer.status != 100);
    }
    let is_closed = answers.last().is_some_and(|answer| answer.closes);
    for (number, answer) in answers.iter().enumerate() {
        if answer.closes && number + 1 < answers.len() {
            return Err(format!("answer {number} says close, and is not the last"));
        }
        if answer.status >= 200 && !answer.is_dated {
            return Err(format!("answer {number} has no Date"));
        }
    }
    let mut entries: Vec<String> = answers.iter().map(ToString::to_string).collect();
    match (is_closed, case.is_incomplete()) {
        _ if !told.ended => entries.push("never ended".to_owned()),
        (true, _) => entries.push("closed".to_owned()),
        (false, true) => entries.extend(["...", "open"].map(str::to_owned)),
        (false, false) if told.took_more => entries.push("open".to_owned()),
        (false, false) => entries.push("ended without a word".to_owned()),
    }
    Ok(entries.join(" | "))
}

#[track_caller]
fn check(address: SocketAddr, talks: Vec<Talk<'_>>, manner: Manner) {
    let mut wrong = Vec::new();
    for told in hold(address, talks, manner) {
        let Case { name, section, .. } = told.talk.case;
        let expected = told.talk.case.on_the_wire();
        let found = outcome(&told).unwrap_or_else(|what| format!("{what}: {}", told.bytes.escape_ascii()));
        if found != expected {
            wrong.push(format!("{name} ({section}), {}: {found}, not {expected}", told.talk.way()));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(30)].join("\n"));
}

#[test]
fn whole_and_byte_by_byte() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder, &[]);
    let cases = cases::all();
    assert!(cases.len() >= 250, "{}", cases.len());
    check(host.address, cases.iter().map(Talk::whole).collect(), Manner::Strict);
    check(
        host.address,
        cases.iter().filter(|case| case.waits_at.is_none()).map(Talk::bytes).collect(),
        Manner::Strict,
    );
    // Every reason that a client's bytes can be refused for is in the table, and was counted.
    let metrics = host.metrics();
    let by_time_or_room = ["head-timeout", "body-timeout", "overloaded", "address-connections"];
    let of_proxies = ["proxy-header", "proxy-header-missing"];
    for reason in boxoffice::http::Reason::ALL.iter().map(|reason| reason.label()) {
        let count = metrics[&format!("boxoffice_malformed_requests_total{{reason=\"{reason}\"}}")];
        let is_of_others = by_time_or_room.contains(&reason) || of_proxies.contains(&reason);
        assert_eq!(count == 0.0, is_of_others, "{reason}: {count}");
    }
}

#[test]
fn in_two_fragments_at_every_offset() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder, &[]);
    let cases = cases::all();
    let talks = cases.iter().filter(|case| case.waits_at.is_none());
    let talks = talks.flat_map(|case| (1..case.bytes.len()).map(|at| Talk::split(case, at)));
    check(host.address, talks.collect(), Manner::Strict);
}

/// The table of connections that are to begin with a PROXY header, in every fragmentation: the test is the trusted proxy.
#[test]
fn behind_a_proxy_header() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder, &["--trusted-proxy", "127.0.0.1", "--proxy-protocol"]);
    let cases = cases::proxied();
    check(host.address, cases.iter().map(Talk::whole).collect(), Manner::Proxied);
    check(host.address, cases.iter().map(Talk::bytes).collect(), Manner::Proxied);
    let talks = cases.iter().flat_map(|case| (1..case.bytes.len().min(600)).map(|at| Talk::split(case, at)));
    check(host.address, talks.collect(), Manner::Proxied);
    let metrics = host.metrics();
    for reason in ["proxy-header", "proxy-header-missing", "proxy-header-unexpected"] {
        let count = metrics[&format!("boxoffice_malformed_requests_total{{reason=\"{reason}\"}}")];
        assert!(count > 0.0, "{reason}");
    }
}
