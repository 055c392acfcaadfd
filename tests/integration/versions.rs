//! Ledgers of other versions: one of before is read, sold from and found sound; one of a later layout is refused with a reason,
//! and nothing is written to it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::{PATIENCE, eventually, turn};

fn of_before(name: &str) -> Stdio {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts").join(name);
    Stdio::from(File::open(path).unwrap())
}

/// A Redis as version 0.1.0 left it before ledgers had a layout.
fn first_layout(folder: &Path) -> RedisServer {
    let redis = RedisServer::start(folder);
    let port = redis.address().port().to_string();
    let fed =
        Command::new("redis-cli").args(["-e", "-p", &port]).stdin(of_before("1.redis")).output().unwrap();
    let said = String::from_utf8_lossy(&fed.stdout);
    assert!(fed.status.success() && !said.contains("ERR"), "{said}");
    redis
}

/// What tests/layouts/README.md says of both of them.
fn is_served_as_ever(folder: &Path, ledger: &str) {
    let mut host = Host::start(folder, &["--ledger", ledger]);
    let mut client = host.client();
    let mut is = |sale: &str, id: &str, status: &str, quantity: u64| {
        let told = client.get(&format!("/v1/sales/{sale}/bookings/{id}")).expect(200).json();
        assert_eq!((&told["status"], &told["quantity"]), (&status.into(), &quantity.into()), "{id}: {told}");
    };
    is("plain", "order-1", "cancelled", 1);
    is("plain", "order-2", "confirmed", 3);
    is("plain", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "confirmed", 1);
    is("concert", "c-0", "confirmed", 1);
    is("concert", "c-1", "expired", 2);
    is("concert", "c-2", "confirmed", 4);
    is("concert", "c-4", "expired", 1);
    is("concert", "c-5", "confirmed", 2);
    let granted_never = host.client().put("/v1/sales/plain/bookings/never", "{}").expect(200).json();
    assert_eq!(granted_never["status"], "cancelled");
    let repeat = host.client().put("/v1/sales/plain/bookings/order-2", r#"{"quantity":3,"buyer":"u-1"}"#);
    assert_eq!(repeat.expect(200).json()["status"], "confirmed");
    // What buyers have counts, and holds that are over do not.
    let asked = [("a", "a@b+c", 1, 409), ("b", "u-1", 4, 409), ("c", "u-1", 3, 201), ("d", "u-5", 2, 201)];
    for (id, buyer, quantity, status) in asked {
        let body = format!(r#"{{"quantity":{quantity},"buyer":"{buyer}"}}"#);
        host.client().put(&format!("/v1/sales/concert/bookings/{id}"), &body).expect(status);
    }
    for id in ["c", "d"] {
        host.client().ask("POST", &format!("/v1/sales/concert/bookings/{id}/confirm"), None).expect(200);
    }
    // The rest, one by one: 5 of 10 and 12 of 20 are sold.
    for (sale, rest) in [("plain", 5), ("concert", 8)] {
        for number in 0..rest {
            let path = format!("/v1/sales/{sale}/bookings/rest-{number}");
            let told = host.client().put(&path, "{}").expect(201).json();
            if told["status"] == "held" {
                host.client().ask("POST", &format!("{path}/confirm"), None).expect(200);
            }
        }
        host.client().put(&format!("/v1/sales/{sale}/bookings/more"), "{}").expect_problem(409, "sold-out");
    }
    host.expect_sold("plain", 10);
    host.expect_sold("concert", 20);
    host.stop();
    for sale in ["plain", "concert"] {
        assert_audit_agrees(folder, sale, ledger);
    }
}

#[test]
fn a_redis_of_before_is_sold_on_from() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = first_layout(folder.path());
    is_served_as_ever(folder.path(), &redis.url());
    assert_eq!(redis.command(&["HGET", "bx:ledger", "layout"]).trim(), "1", "from now on it says so");
}

#[test]
fn a_file_of_before_is_sold_on_from() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("of-before.db");
    let fed = Command::new("sqlite3").arg(&file).stdin(of_before("5.sql")).output().unwrap();
    assert!(fed.status.success(), "{}", String::from_utf8_lossy(&fed.stderr));
    is_served_as_ever(folder.path(), "sqlite:of-before.db");
}

/// What was written since Redis was last saved; a read adds nothing to it.
fn writes(redis: &RedisServer) -> String {
    let info = redis.command(&["INFO", "persistence"]);
    let line = info.lines().find_map(|line| line.trim().strip_prefix("rdb_changes_since_last_save:"));
    line.expect("a count of writes").to_owned()
}

#[test]
fn nothing_is_written_to_a_ledger_of_a_later_layout() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = first_layout(folder.path());
    redis.command(&["HSET", "bx:ledger", "layout", "2"]);
    let (before, ledger) = (writes(&redis), redis.url());
    let commands: [&[&str]; 8] = [
        &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--sale", "new=5"],
        &["sale", "list"],
        &["sale", "open", "new", "--stock", "5"],
        &["booking", "show", "plain", "order-2"],
        &["audit", "plain", "--repair"],
        &["hosts"],
        &["nginx"],
    ];
    for words in commands {
        let words = [words, &["--ledger", &ledger]].concat();
        boxoffice(folder.path(), &words).expect(1).saying(&["this ledger is of layout 2", "knows 1"]);
    }
    assert_eq!(writes(&redis), before);
}

/// While hosts are upgraded one after the other, a later version may change sales to its own layout.
#[test]
fn a_sale_of_a_later_layout_is_let_alone_and_the_others_sell() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = first_layout(folder.path());
    let mut host = Host::start(folder.path(), &["--ledger", &redis.url()]);
    let why = "bx:{concert}:stock has no known status";
    redis.command(&["HSET", "bx:{concert}:stock", "status", "2:open"]);
    let stock = redis.command(&["HGETALL", "bx:{concert}:stock"]);
    // The first try asks the ledger, where the script finds it out; after that the host knows.
    for id in ["a", "b"] {
        let problem = host.client().put(&format!("/v1/sales/concert/bookings/{id}"), "{}");
        problem.expect_problem(503, "ledger-unavailable");
    }
    host.expect_unready(&[why]);
    host.client().put("/v1/sales/plain/bookings/a", "{}").expect(201);
    assert_eq!(redis.command(&["HGETALL", "bx:{concert}:stock"]), stock);
    boxoffice(folder.path(), &["audit", "concert", "--ledger", &redis.url()])
        .expect(1)
        .saying(&["has no known status"]);
    // The host is upgraded; here the sale goes back.
    redis.command(&["HSET", "bx:{concert}:stock", "status", "open"]);
    host.expect_ready();
    eventually("it sells", PATIENCE, || {
        host.client().put("/v1/sales/concert/bookings/c", "{}").is_booked().then_some(())
    });
    host.stop();
}
