//! `boxoffice rehearse`: a crowd at a sale of its own, on both ledgers, through a ledger that stalls, and with a verdict that can
//! be bad.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::host::{Ended, Host, boxoffice, boxoffice_started};
use crate::support::redis_server::RedisServer;
use crate::support::{PATIENCE, eventually, turn};

fn words<'a>(line: &'a str, to: &'a str, admin: &'a str) -> Vec<&'a str> {
    line.split(' ').chain(["--to", to, "--admin", admin]).collect()
}

fn rehearse(folder: &Path, host: &Host, line: &str) -> Ended {
    let (to, admin) = (host.address.to_string(), host.admin.to_string());
    boxoffice(folder, &words(line, &to, &admin))
}

fn report(ended: &Ended) -> Value {
    let line = ended.said.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("no report in {}", ended.said))).unwrap()
}

#[test]
fn a_crowd_buys_out_a_sale_of_its_own_and_leaves_nothing_behind() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let redis = RedisServer::start(folder);
    for ledger in ["sqlite:box.db", &redis.url()] {
        let host = Host::start(folder, &["--ledger", ledger, "--sale", "ticket=5"]);
        let line = "rehearse rehearsal-1 --buyers 1500 --rate 3000 --stock 100 --think 50ms --retry-after 50ms --json";
        let told = report(&rehearse(folder, &host, line).expect(0));
        assert_eq!(
            (&told["passed"], &told["buyers"], &told["total"]),
            (&json!(true), &json!(1500), &json!(100))
        );
        let count = |act: &str, answer: &str| told["answers"][act][answer].as_u64().unwrap_or(0);
        assert_eq!(Some(count("pay", "sold")), told["sold"].as_u64(), "{told}");
        assert!(count("pay", "sold") > 50 && count("book", "sold out") >= 1_300, "{told}");
        assert!(count("give back", "given back") > 0 && told["held"].as_u64() > Some(0), "{told}");
        let asked = told["latency_us"]["book"]["count"].as_u64().unwrap();
        assert_eq!(asked, count("book", "held") + count("book", "sold out"));
        assert_eq!(told["audit"]["differences_total"], 0);
        host.operator().get("/v1/sales/rehearsal-1").expect(404);

        let said = rehearse(folder, &host, "rehearse rehearsal-2 --buyers 50 --hold none --keep").expect(0);
        said.saying(&[
            "REQUEST",
            "P99.9",
            "5 in all, 5 sold",
            "verdict    right",
            "boxoffice sale show rehearsal-2",
        ]);
        let kept = host.operator().get("/v1/sales/rehearsal-2").expect(200).json();
        assert_eq!((&kept["sold"], &kept["status"]), (&json!(5), &json!("open")));
        // One that is there is left alone, and so is whatever has another name.
        rehearse(folder, &host, "rehearse rehearsal-2 --buyers 50").expect(1).saying(&["is there already"]);
        rehearse(folder, &host, "rehearse ticket --buyers 50").expect(2).saying(&["begins with rehearsal-"]);
        let still = host.operator().get("/v1/sales/rehearsal-2").expect(200).json();
        assert_eq!((&still["sold"], &still["version"]), (&kept["sold"], &kept["version"]));
        assert_eq!(host.sale("ticket")["available"], 5);
    }
}

#[test]
fn what_a_rehearsal_needs_and_does_not_find_is_told() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("token"), "s3cret\n").unwrap();
    let host = Host::start(folder, &["--admin-token-file", "token"]);
    let other = Host::start(folder, &["--ledger", "sqlite:other.db"]);
    rehearse(folder, &host, "rehearse rehearsal-1 --buyers 5").expect(1).saying(&["--admin-token-file"]);
    let line = "rehearse rehearsal-1 --buyers 5 --admin-token-file token";
    let (to, admin) = (other.address.to_string(), host.admin.to_string());
    boxoffice(folder, &words(line, &to, &admin)).expect(1).saying(&["does not have sale \"rehearsal-1\""]);
    boxoffice(folder, &words(line, "127.0.0.1:1", &admin)).expect(1).saying(&["is it running? --to takes"]);
    let mut few = std::process::Command::new("sh");
    few.args(["-c", "ulimit -n 300 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_boxoffice")]);
    let output = few.args(words(line, &to, &admin)).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--connections: 256 is more than the limit of open files allows, which is 236"),
        "{said}"
    );
    // The sale that was made for it is gone each time.
    rehearse(folder, &host, line).expect(0).saying(&["verdict    right"]);
}

/// Buyers who lose patience come again under the same id, so that nobody has two tickets, and what nobody was told of is known to
/// be so.
#[test]
fn a_ledger_that_stalls_costs_patience_and_no_ticket() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut redis = RedisServer::start(folder);
    let host = Host::start(folder, &["--ledger", &redis.url()]);
    let (to, admin) = (host.address.to_string(), host.admin.to_string());
    let line = "rehearse rehearsal-1 --buyers 2000 --rate 500 --stock 2000 --think 100ms --patience 200ms --retries 50 \
                --retry-after 100ms --connections 16 --json";
    let mut running = boxoffice_started(folder, &words(line, &to, &admin));
    eventually("some are sold", PATIENCE, || {
        let told = host.client().get("/v1/sales/rehearsal-1");
        (told.status == 200 && told.json()["sold"].as_u64() > Some(20)).then_some(())
    });
    redis.freeze();
    std::thread::sleep(Duration::from_millis(700));
    redis.thaw();
    let status = running.wait(Duration::from_secs(60));
    let ended = Ended { status, said: running.said() }.expect(0);
    let told = report(&ended);
    assert_eq!((&told["passed"], &told["buyers"]), (&json!(true), &json!(2000)));
    assert!(told["answers"]["book"]["lost patience"].as_u64() > Some(0), "{told}");
}

#[test]
fn a_ledger_that_somebody_changed_by_hand_is_a_bad_verdict() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let redis = RedisServer::start(folder);
    let host = Host::start(folder, &["--ledger", &redis.url()]);
    let (to, admin) = (host.address.to_string(), host.admin.to_string());
    let line = "rehearse rehearsal-1 --buyers 600 --rate 300 --stock 100 --hold none";
    let mut running = boxoffice_started(folder, &words(line, &to, &admin));
    eventually("some are sold", PATIENCE, || {
        let told = host.client().get("/v1/sales/rehearsal-1");
        (told.status == 200 && told.json()["sold"].as_u64() > Some(10)).then_some(())
    });
    redis.command(&["hincrby", "bx:{rehearsal-1}:stock", "sold", "-3"]);
    let status = running.wait(Duration::from_secs(60));
    let ended = Ended { status, said: running.said() }.expect(1);
    ended.saying(&["difference sold: ", "wrong      the audit found", "verdict    wrong"]);
}
