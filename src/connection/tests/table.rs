//! The raw bytes of the suite `tests/wire`, here in every fragmentation, and seen from behind the connection: which
//! requests it understood.

use super::*;
use crate::limits;

#[path = "../../../tests/wire/cases/mod.rs"]
#[allow(dead_code, reason = "what nginx answers is for the suite on sockets")]
pub(super) mod cases;

use cases::Case;

/// What came of it once all was sent.
pub(super) fn outcome(bench: &Bench) -> String {
    let statuses = statuses(&bench.written);
    assert_eq!(statuses.len(), bench.mirror.seen.len() - bench.mirror.waiting.len());
    let mut entries: Vec<String> = Vec::new();
    for (seen, status) in bench.mirror.seen.iter().zip(statuses) {
        let seen = match seen.split_once(' ') {
            Some((method, rest)) if rest.len() > 5_000 => format!("{method} long"),
            _ => seen.trim_start_matches('?').trim_end().to_owned(),
        };
        entries.push(format!("{status} {seen}"));
    }
    let is_open = !matches!(bench.connection.reading, Reading::Finished);
    assert_eq!(is_open, bench.connection.close_state() == CloseState::Open, "what is answered ends");
    if is_open && !bench.connection.input.is_empty() {
        entries.push("...".into());
    }
    entries.push(if is_open { "open" } else { "closed" }.into());
    entries.join(" | ")
}

/// The statuses of the final responses, which must be well-formed and nothing else.
pub(super) fn statuses(mut written: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !written.is_empty() {
        let head_bytes = memchr::memmem::find(written, b"\r\n\r\n").expect("a whole head") + 4;
        let head = std::str::from_utf8(&written[..head_bytes]).unwrap();
        written = &written[head_bytes..];
        let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
        if status == 100 {
            continue;
        }
        let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        // The mirror's answers begin with the method, so that those to HEAD are known by what follows.
        let is_head = written.starts_with(b"HTTP/1.1 ") || written.is_empty();
        written = &written[if is_head { 0 } else { length.parse().unwrap() }..];
        statuses.push(status);
    }
    statuses
}

/// What is to come of it here, where every request that is understood is answered 200: the status is the API's to say.
pub(super) fn expected(case: &Case) -> String {
    let entries =
        case.answers.split(" | ").filter(|entry| *entry != "100").map(|entry| match entry.split_once(' ') {
            Some((_, request)) if request.starts_with(char::is_uppercase) => format!("200 {request}"),
            _ => entry.to_owned(),
        });
    entries.collect::<Vec<_>>().join(" | ")
}

#[test]
fn every_case_in_every_fragmentation() {
    let cases = cases::all();
    assert!(cases.len() >= 250, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let expected = expected(case);
        let mut check = |way: &dyn Fn() -> String, pieces: &[&[u8]]| {
            let mut bench = Bench::new();
            pieces.iter().for_each(|piece| bench.send(piece));
            let found = outcome(&bench);
            if found != expected {
                wrong.push(format!(
                    "{} ({}), {}: {found:?}, not {expected:?}",
                    case.name,
                    case.section,
                    way()
                ));
            }
        };
        let bytes = &case.bytes[..];
        check(&|| "whole".to_owned(), &[bytes]);
        check(&|| "byte by byte".to_owned(), &bytes.chunks(1).collect::<Vec<_>>());
        for at in 0..bytes.len() {
            check(&|| format!("split at {at}"), &[&bytes[..at], &bytes[at..]]);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(30)].join("\n"));
}
