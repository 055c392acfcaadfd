//! The OpenAPI descriptions against the real server: every path and method, well-formed and malformed, and each answer
//! held against what is written.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::schemathesis::{TOKEN, drive};
use crate::support::turn;

/// Sales of every kind; `tests/openapi/clients.toml` has their names.
const SALES: [&str; 9] = [
    "ticket=1000000000",
    "held=1000000000,hold=1h,hold-max=2h",
    "short=3,hold=1ms",
    "spent=1,hold=1ms",
    "limited=1000000000,per-buyer=1",
    "gone=0",
    "paused=5",
    "early=5,starts=2999-01-01T00:00:00Z",
    "over=5,ends=2020-01-01T00:00:00Z",
];

/// All but `use_after_free`: a cancelled booking stays, as cancelled.
const CHECKS: [&str; 4] = ["--checks", "all", "--exclude-checks", "use_after_free"];

/// With the ledger gone, a 503 is the answer; it has to be the one that is described.
const FORM: [&str; 6] = [
    "--checks",
    "status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance",
    "--phases",
    "coverage,fuzzing",
    "--max-examples",
    "5",
];

fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let sales = SALES.iter().flat_map(|sale| ["--sale", sale]);
    sales.chain(more.iter().copied()).collect()
}

/// What the description of that name has, as the host serves it.
fn description(host: &Host, name: &str) -> Value {
    let answer = host.operator().get(&format!("/{name}")).expect(200);
    assert_eq!(answer.field("content-type"), Some("application/json"));
    answer.json()
}

/// Asserts that the host gave each of these answers to clients: none was right only because nobody asked.
#[track_caller]
fn assert_answered(host: &Host, outcomes: &[&str]) {
    let metrics = host.metrics();
    let count = |outcome: &&str| metrics[&format!("boxoffice_requests_total{{outcome=\"{outcome}\"}}")];
    let never: Vec<_> = outcomes.iter().filter(|outcome| count(outcome) == 0.0).collect();
    assert!(never.is_empty(), "never answered: {never:?}");
}

#[test]
fn clients_are_answered_as_described() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &words(&[]));
    host.operator().ask("POST", "/v1/sales/paused/pause", None).expect(200);
    // Holds whose ticket somebody else bought.
    let mut client = host.client();
    for id in ["a", "b", "c", "other"] {
        eventually("the ticket is there again", Duration::from_secs(5), || {
            client.put(&format!("/v1/sales/spent/bookings/{id}"), "{}").is_booked().then_some(())
        });
    }
    client.ask("POST", "/v1/sales/spent/bookings/other/confirm", None).expect(200);
    // And a booking that was given back.
    client.put("/v1/sales/held/bookings/c", "{}").expect(201);
    client.ask("DELETE", "/v1/sales/held/bookings/c", None).expect(200);
    client.ask("POST", "/v1/sales/held/bookings/c/confirm", None).expect(409);
    // A buyer who has all that the sale allows, and a hold that is over and can be held again.
    client.put("/v1/sales/limited/bookings/a", "{\"buyer\":\"u-1\"}").expect(201);
    client.put("/v1/sales/limited/bookings/b", "{\"buyer\":\"u-1\"}").expect(409);
    client.put("/v1/sales/short/bookings/a", "{}").expect(201);
    client.ask("POST", "/v1/sales/short/bookings/a/hold", None).expect(200);
    // One that is held, of several tickets, and one that is paid for.
    client.put("/v1/sales/held/bookings/a", "{\"quantity\":1000000}").expect(201);
    client.ask("POST", "/v1/sales/held/bookings/a/extend", Some("{\"seconds\":5000}")).expect(200);
    client.ask("POST", "/v1/sales/held/bookings/a/extend", Some("{\"seconds\":7201}")).expect(409);
    client.put("/v1/sales/held/bookings/b", "{}").expect(201);
    client.ask("POST", "/v1/sales/held/bookings/b/confirm", None).expect(200);

    drive(folder.path(), host.admin, "openapi.json", host.address, "clients.toml", &CHECKS);

    let outcomes = [
        "granted",
        "replayed",
        "found",
        "confirmed",
        "cancelled",
        "extended",
        "released",
        "held-again",
        "sold-out",
        "buyer-limit",
        "not-on-sale",
        "id-reused",
        "no-such-booking",
        "hold-expired",
        "booking-cancelled",
        "booking-confirmed",
        "hold-limit",
        "not-a-release",
        "sale-shown",
        "problem-explained",
        "front-page",
        "bad-request",
        "no-such-sale",
        "no-such-path",
        "method-not-allowed",
        "options",
    ];
    assert_answered(&host, &outcomes);
    for sale in SALES {
        let sale = sale.split('=').next().unwrap();
        assert_audit_agrees(folder.path(), sale, "sqlite:boxoffice.db");
    }
}

#[test]
fn operators_are_answered_as_described() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let mut host = Host::start(folder.path(), &words(&["--admin-token-file", "token"]));
    host.client().put("/v1/sales/ticket/bookings/a", "{\"quantity\":5}").expect(201);

    drive(folder.path(), host.admin, "openapi-admin.json", host.admin, "operators.toml", &CHECKS);

    // What ends the host is asked once, by hand.
    let described =
        description(&host, "openapi-admin.json")["paths"]["/v1/drain"]["post"]["responses"].take();
    let mut operator = host.operator();
    operator.ask("POST", "/v1/drain", None).expect_problem(401, "unauthorized");
    let request =
        format!("POST /v1/drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    operator.send(request).unwrap();
    let answer = operator.receive().unwrap().expect(202);
    assert_eq!(answer.json(), json!({"draining": true}));
    assert!(described["202"].is_object() && described["401"].is_object(), "{described}");
    assert_eq!(host.process.wait(Duration::from_secs(15)).code(), Some(0));
}

#[test]
fn an_outage_is_told_as_described() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &words(&["--ledger", &redis.url(), "--ledger-timeout", "10ms"]));
    eventually("every loop has its ledger", Duration::from_secs(5), || {
        (host.operator().get("/readyz").status == 200).then_some(())
    });
    let (clients, admin) = (host.address, host.admin);
    // Silent again and again, never so long that the host gives its connection up.
    std::thread::scope(|scope| {
        let driven =
            scope.spawn(|| drive(folder.path(), admin, "openapi.json", clients, "clients.toml", &FORM));
        while !driven.is_finished() {
            redis.freeze();
            std::thread::sleep(Duration::from_millis(400));
            redis.thaw();
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_answered(&host, &["outcome-unknown"]);
    redis.kill();
    drive(folder.path(), host.admin, "openapi.json", host.address, "clients.toml", &FORM);
    drive(folder.path(), host.admin, "openapi-admin.json", host.admin, "operators.toml", &FORM);
    assert_answered(&host, &["ledger-unavailable"]);
}
