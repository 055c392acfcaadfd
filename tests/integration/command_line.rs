//! The commands on sales and bookings, by a ledger and by a host: the same words, the same JSON, the same refusals.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::host::{Ended, Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::{PATIENCE, eventually, turn};

fn run(folder: &Path, line: &str, way: &[&str]) -> Ended {
    let words: Vec<&str> = line.split(' ').chain(way.iter().copied()).collect();
    boxoffice(folder, &words)
}

fn json_lines(ended: Ended) -> Vec<Value> {
    let ended = ended.expect(0);
    ended.said.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Without what differs from one moment to the next.
fn timeless(mut values: Vec<Value>) -> Vec<Value> {
    for value in &mut values {
        value.as_object_mut().unwrap().remove("as_of");
    }
    values
}

/// A host's list is of what it knows: a sync later that is what the ledger has.
#[track_caller]
fn assert_same<T: PartialEq>(question: &str, ways: [&[&str]; 2], answer: &dyn Fn(&[&str]) -> T) {
    eventually(&format!("{question} is answered the same by both"), PATIENCE, || {
        let [by_host, by_ledger] = ways.map(answer);
        (by_host == by_ledger).then_some(())
    });
}

#[test]
fn a_host_carries_out_what_a_ledger_does_and_says_the_same() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let redis = RedisServer::start(folder);
    std::fs::write(folder.join("token"), "s3cret\n").unwrap();
    let host = Host::start(folder, &["--ledger", &redis.url(), "--admin-token-file", "token"]);
    let admin = host.admin.to_string();
    let url = redis.url();
    let by_host = ["--admin", admin.as_str(), "--admin-token-file", "token"];
    let by_ledger = ["--ledger", url.as_str()];
    // Each by one way, then seen by both.
    for (number, way) in [by_host.as_slice(), by_ledger.as_slice()].into_iter().enumerate() {
        let name = format!("sale-{number}");
        let line = |text: &str| text.replace("NAME", &name);
        let open = line("sale open NAME --stock 9 --hold 5m --hold-max 10m --per-buyer 4 --json");
        let opened = json_lines(run(folder, &open, way));
        assert_eq!((&opened[0]["total"], &opened[0]["hold_seconds"]), (&json!(9), &json!(300)));
        run(folder, &open, way).expect(1).saying(&["already exists", "boxoffice sale set"]);
        run(folder, &line("sale set NAME --stock +3 --per-buyer none"), way)
            .expect(0)
            .saying(&["total      12"]);
        run(folder, &line("sale set NAME --stock 3000000000000"), way).expect(2);
        run(folder, &line("sale set NAMES --stock 3"), way)
            .expect(1)
            .saying(&[&format!("did you mean \"{name}\"?")]);
        run(folder, &line("sale pause NAME"), way).expect(0).saying(&["status     paused"]);
        run(folder, &line("sale resume NAME"), way).expect(0).saying(&["status     open"]);

        let mut client = host.client();
        let booked = |client: &mut Client, id: &str, body: &str| {
            eventually("the host knows the sale", PATIENCE, || {
                let told = client.put(&line(&format!("/v1/sales/NAME/bookings/{id}")), body);
                // It knows what a command did by the ledger a sync later.
                (![403, 404].contains(&told.status)).then(|| told.expect(201))
            })
        };
        booked(&mut client, "b-1", r#"{"quantity":2,"buyer":"a+b@c.example"}"#);
        booked(&mut client, "b-2", r#"{"buyer":"a+b@c.example"}"#);
        booked(&mut client, "b-3", "{}");
        run(folder, &line("sale set NAME --stock 3"), way).expect(1).saying(&["cannot be below", "4 held"]);
        let extended = json_lines(run(folder, &line("booking extend NAME b-1 --hold 8m --json"), way));
        assert_eq!(extended[0]["status"], "held");
        run(folder, &line("booking extend NAME b-1 --hold 11m"), way)
            .expect(1)
            .saying(&["Longest hold reached"]);
        run(folder, &line("booking confirm NAME b-2"), way).expect(0).saying(&["status     confirmed"]);
        run(folder, &line("booking cancel NAME b-3"), way).expect(1).saying(&["nothing was done", "--yes"]);
        run(folder, &line("booking cancel NAME b-3 --yes"), way).expect(0).saying(&["status     cancelled"]);
        run(folder, &line("booking confirm NAME b-3"), way).expect(1).saying(&["Booking cancelled"]);
        run(folder, &line("booking show NAME none"), way).expect(1).saying(&["No such booking"]);
        let ways = [&by_host[..], &by_ledger[..]];
        for question in [
            "booking show NAME b-1 --json",
            "booking list NAME --buyer a+b@c.example --json",
            "sale log NAME --json",
            "sale show NAME --json",
            "sale list --json",
        ] {
            assert_same(question, ways, &|way| {
                let answers = timeless(json_lines(run(folder, &line(question), way)));
                assert!(!answers.is_empty(), "{question}");
                answers
            });
        }
        for question in [
            "booking show NAME b-1",
            "booking list NAME --buyer a+b@c.example",
            "sale list",
            "audit NAME",
            "audit NAME --json",
        ] {
            assert_same(question, ways, &|way| run(folder, &line(question), way).expect(0).said);
        }
        run(folder, &line("audit NAME"), way)
            .expect(0)
            .saying(&["bookings    3:", "audit       no difference"]);
        run(folder, &line("sale remove NAME --yes"), way).expect(1).saying(&["lose"]);
        run(folder, &line("sale close NAME"), way).expect(0).saying(&["status     closed"]);
        run(folder, &line("sale remove NAME --yes"), way).expect(1).saying(&["2 tickets", "are held"]);
        run(folder, &line("booking cancel NAME b-1 --yes"), way).expect(0);
        run(folder, &line("sale remove NAME"), way).expect(1).saying(&["--yes"]);
        let removed = json_lines(run(folder, &line("sale remove NAME --yes --json"), way));
        assert_eq!(removed, [json!({ "sale": name, "status": "removed" })]);
        run(folder, &line("sale show NAME"), way).expect(1);
    }
}

#[test]
fn a_host_that_cannot_be_asked_is_told_with_what_to_do() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("token"), "s3cret\n").unwrap();
    std::fs::write(folder.join("other"), "secret\n").unwrap();
    let host = Host::start(folder, &["--sale", "ticket=5", "--admin-token-file", "token"]);
    let (admin, clients) = (host.admin.to_string(), host.address.to_string());
    let fails = |line: &str, way: &[&str], status: i32, says: &str| {
        run(folder, line, way).expect(status).saying(&[says]);
    };
    // To read takes no token.
    run(folder, "sale show ticket", &["--admin", &admin]).expect(0).saying(&["total      5"]);
    fails("sale pause ticket", &["--admin", &admin], 1, "--admin-token-file");
    fails("sale pause ticket", &["--admin", &admin, "--admin-token-file", "other"], 1, "--admin-token-file");
    fails("sale pause ticket", &["--admin", &admin, "--admin-token-file", "none"], 2, "none: No such file");
    fails("sale trim ticket", &["--admin", &admin], 2, "--ledger");
    fails("sale list", &["--admin", &clients], 1, "another version");
    fails("sale list", &["--admin", "127.0.0.1:1"], 1, "is it running?");
    // The file is the host's while it serves, and it says so.
    fails("booking cancel ticket b --yes", &["--ledger", "sqlite:boxoffice.db"], 1, "boxoffice.db");
    run(folder, "sale pause ticket", &["--admin", &admin, "--admin-token-file", "token"]).expect(0);
}

#[test]
fn the_configuration_is_shown_as_serve_would_take_it() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let example = boxoffice(folder, &["config", "--example"]).expect(0).said;
    std::fs::write(folder.join("box.toml"), format!("weight = 7\n{example}")).unwrap();
    let words = ["--config", "box.toml", "--ledger", "redis://:s3cret@127.0.0.1:1/0", "--json"];
    let ended = boxoffice(folder, &[&["config"][..], &words].concat()).expect(0);
    assert!(!ended.said.contains("s3cret"), "{}", ended.said);
    let shown: Vec<Value> = ended.said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for wanted in [
        json!({ "setting": "weight", "value": "7", "from": "box.toml: weight" }),
        json!({ "setting": "ledger", "value": "redis://:***@127.0.0.1:1/0", "from": "--ledger" }),
        json!({ "setting": "access-log", "value": null, "from": "default" }),
    ] {
        assert!(shown.contains(&wanted), "no {wanted} in {shown:?}");
    }
    boxoffice(folder, &["config", "--weight", "0"]).expect(2).saying(&["--weight: \"0\" takes a number"]);
    boxoffice(folder, &["config", "--config", "none.toml"]).expect(2).saying(&["none.toml"]);
}

#[test]
fn manual_pages_are_written_into_a_folder() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    boxoffice(folder.path(), &["man", "."]).expect(0).saying(&["pages"]);
    let page = std::fs::read_to_string(folder.path().join("boxoffice-booking-cancel.1")).unwrap();
    assert!(page.contains(".TH boxoffice-booking-cancel 1"), "{page}");
    boxoffice(folder.path(), &["man", "none"]).expect(1).saying(&["none/boxoffice.1"]);
}
