//! HTTP/1.1 as clients meet it, and the API's answers, on the wire.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Client;
use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::tools::curl;
use crate::support::turn;

struct Site {
    _folder: tempfile::TempDir,
    host: Host,
}

/// A host with 100 tickets on SQLite.
fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=100", "--sale", "gone=0"]);
    Site { host, _folder: folder }
}

#[test]
fn the_answers_of_buy_are_as_documented() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    for method in ["GET", "POST"] {
        let answer = client.ask(method, "/buy/ticket", None).expect(200);
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert!(answer.field("date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
        let id = answer.json()["data"]["booking"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36);
        assert_eq!(
            answer.text(),
            format!(
                "{{\"code\":1,\"msg\":\"Ticket purchase successful\",\"data\":{{\"booking\":\"{id}\"}}}}"
            )
        );
        let booking = client.get(&format!("/v1/sales/ticket/bookings/{id}")).expect(200).json();
        assert_eq!(booking, json!({"booking": id, "sale": "ticket", "status": "confirmed", "quantity": 1}));
        let answer = client.ask(method, "/buy/gone", None).expect(200);
        assert_eq!(answer.text(), "{\"code\":-1,\"msg\":\"Sold out\"}");
        client.ask(method, "/buy/nothing", None).expect_problem(404, "no-such-sale");
    }
    // A body is read and ignored, whatever it is.
    client.ask("POST", "/buy/ticket", Some("{ not json")).expect(200);
    site.host.expect_sold("ticket", 3);
}

#[test]
fn put_books_once() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let target = "/v1/sales/ticket/bookings/order-1";
    let booking = json!({"booking": "order-1", "sale": "ticket", "status": "confirmed", "quantity": 2, "buyer": "u-81"});
    let body = "{\"quantity\":2,\"buyer\":\"u-81\"}";
    let made = client.put(target, body).expect(201);
    assert_eq!(made.field("location"), Some(target));
    assert_eq!(made.field("content-type"), Some("application/json"));
    assert_eq!(made.field("idempotency-replayed"), None);
    assert_eq!(made.json(), booking);
    for _ in 0..3 {
        let again = client.put(target, body).expect(200);
        assert_eq!(again.field("idempotency-replayed"), Some("true"));
        assert_eq!(again.json(), booking);
    }
    for other in
        ["{\"quantity\":3,\"buyer\":\"u-81\"}", "{\"quantity\":2,\"buyer\":\"u-82\"}", "{\"quantity\":2}"]
    {
        client.put(target, other).expect_problem(422, "id-reused");
    }
    assert_eq!(client.get(target).expect(200).json(), booking);
    // Without a body: one ticket, for nobody in particular.
    client.ask("PUT", "/v1/sales/ticket/bookings/order-2", None).expect(201);
    client.put("/v1/sales/ticket/bookings/order-2", "{\"quantity\":1}").expect(200);
    client.get("/v1/sales/ticket/bookings/order-3").expect_problem(404, "no-such-booking");
    site.host.expect_sold("ticket", 3);
}

#[test]
fn post_takes_an_idempotency_key() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let mut post = |key: &str| {
        let body = "{\"quantity\":1}";
        let request = format!(
            "POST /v1/sales/ticket/bookings HTTP/1.1\r\nHost: tickets\r\n{key}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(request).unwrap();
        client.receive().unwrap()
    };
    let made = post("Idempotency-Key: \"key-1\"\r\n").expect(201);
    assert_eq!(made.field("location"), Some("/v1/sales/ticket/bookings/key-1"));
    let again = post("Idempotency-Key: key-1\r\n").expect(200);
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    assert_eq!(again.json()["booking"], "key-1");
    // Without a key, the server makes the id, and each request is an order.
    let (first, second) = (post("").expect(201), post("").expect(201));
    assert_ne!(first.json()["booking"], second.json()["booking"]);
    let location = format!("/v1/sales/ticket/bookings/{}", first.json()["booking"].as_str().unwrap());
    assert_eq!(first.field("location"), Some(location.as_str()));
    post("Idempotency-Key: not a key\r\n").expect_problem(400, "bad-request");
    site.host.expect_sold("ticket", 3);
}

#[test]
fn a_sale_tells_its_state() {
    let _turn = turn::shared();
    let site = site();
    site.host.client().put("/v1/sales/ticket/bookings/a", "{\"quantity\":7}").expect(201);
    site.host.expect_sold("ticket", 7);
    let sale = site.host.sale("ticket");
    let as_of = sale["as_of"].as_str().unwrap().to_owned();
    assert!(as_of.ends_with('Z') && as_of.len() >= 20, "{as_of}");
    assert_eq!(
        sale,
        json!({"sale": "ticket", "status": "open", "total": 100, "available": 93, "held": 0, "sold": 7, "as_of": as_of})
    );
    assert_eq!(site.host.sale("gone")["available"], 0);
    site.host.client().get("/v1/sales/nothing").expect_problem(404, "no-such-sale");
}

#[test]
fn at_its_root_a_host_says_what_it_is_to_people_and_to_programs() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let of_curl = curl(&[&format!("http://{}/", site.host.address)]);
    let short: serde_json::Value = serde_json::from_str(&of_curl).unwrap();
    assert_eq!(short["server"], "boxoffice");
    for (accept, content_type) in [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("image/png", "application/json"),
    ] {
        let of =
            |method: &str| format!("{method} /?from=mail HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
        client.send(of("GET")).unwrap();
        let answer = client.receive().unwrap().expect(200);
        assert_eq!(answer.field("content-type"), Some(content_type), "{accept}");
        assert_eq!(answer.field("vary"), Some("Accept"), "or a cache gives a browser's page to a program");
        assert_eq!(answer.field("cache-control"), Some("max-age=86400"));
        if content_type.starts_with("text/html") {
            assert!(answer.text().starts_with("<!doctype html>"), "{}", answer.text());
            let policy = answer.field("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        } else {
            assert_eq!(answer.json(), short);
        }
        client.send(of("HEAD")).unwrap();
        let head = client.receive_answer_to("HEAD").unwrap().expect(200);
        assert_eq!(head.field("content-length"), Some(answer.body.len().to_string().as_str()));
    }
    client.ask("POST", "/", Some("{}")).expect_problem(405, "method-not-allowed");
    assert_eq!(site.host.metrics()["boxoffice_requests_total{outcome=\"front-page\"}"], 7.0);
}

#[test]
fn refusals_say_what_is_wrong() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    client.put("/v1/sales/gone/bookings/a", "{}").expect_problem(409, "sold-out");
    client.put("/v1/sales/ticket/bookings/a", "{\"quantity\":101}").expect_problem(409, "sold-out");
    client.put("/v1/sales/nothing/bookings/a", "{}").expect_problem(404, "no-such-sale");
    client.get("/v1").expect_problem(404, "no-such-path");
    client.get("/v1/sales/ticket/bookings/a/b").expect_problem(404, "no-such-path");
    for body in [
        "{",
        "[]",
        "[1,\"u-1\"]",
        "{\"quantity\":0}",
        "{\"quantity\":-1}",
        "{\"quantity\":1.5}",
        "{\"quantity\":\"1\"}",
        "{\"quantity\":1000001}",
        "{\"quantity\":99999999999999999999}",
        "{\"buyer\":\"\"}",
        "{\"buyer\":\"a b\"}",
        "{\"buyer\":7}",
        "{\"quantity\":1}{}",
    ] {
        client.put("/v1/sales/ticket/bookings/a", body).expect_problem(400, "bad-request");
    }
    let long = "a".repeat(65);
    for id in ["a%20b", "a%2Fb", long.as_str()] {
        client.put(&format!("/v1/sales/ticket/bookings/{id}"), "{}").expect_problem(400, "bad-request");
    }
    for (method, target, allow) in [
        ("DELETE", "/buy/ticket", &["GET", "POST"][..]),
        ("POST", "/v1/sales/ticket", &["GET"]),
        ("GET", "/v1/sales/ticket/bookings", &["POST"]),
        ("POST", "/v1/sales/ticket/bookings/a", &["PUT", "GET"]),
    ] {
        let answer = client.ask(method, target, None);
        answer.expect_problem(405, "method-not-allowed");
        let allowed = answer.field("allow").unwrap_or_default();
        for method in allow {
            assert!(
                allowed.split(',').any(|word| word.trim() == *method),
                "{method} not in {allowed:?} of {target}"
            );
        }
    }
    // The connection outlived all of it, and nothing was sold.
    client.get("/v1/sales/ticket").expect(200);
    site.host.expect_sold("ticket", 0);
}

#[test]
fn every_problem_explains_itself() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let problem = client.put("/v1/sales/gone/bookings/a", "{}").expect_problem(409, "sold-out");
    let explained = client.get(problem["type"].as_str().unwrap()).expect(200);
    assert!(explained.body.len() > 40, "{}", explained.text());
    client.get("/problems/no-such-problem").expect_problem(404, "no-such-path");
}

#[test]
fn connections_are_kept_and_closed_as_asked() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    for _ in 0..3 {
        assert!(!client.get("/buy/gone").expect(200).closes());
    }
    client.send("GET /buy/gone HTTP/1.1\r\nHost: tickets\r\nConnection: close\r\n\r\n").unwrap();
    assert!(client.receive().unwrap().closes());
    assert!(client.at_end());

    // HTTP/1.0: closed, unless the client asks and is told otherwise.
    let mut client = site.host.client();
    client.send("GET /buy/gone HTTP/1.0\r\n\r\n").unwrap();
    assert!(client.receive().unwrap().expect(200).closes());
    assert!(client.at_end());
    let mut client = site.host.client();
    for _ in 0..3 {
        client.send("GET /buy/gone HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
        let answer = client.receive().unwrap().expect(200);
        let kept = answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"));
        assert!(kept, "{answer:?}");
    }
    // A client that is done sending still gets its answers.
    let mut client = site.host.client();
    client.send("GET /buy/gone HTTP/1.1\r\nHost: tickets\r\n\r\n").unwrap();
    client.finish().unwrap();
    client.receive().unwrap().expect(200);
    assert!(client.at_end());
}

#[test]
fn pipelined_answers_keep_their_order() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let mut requests = String::new();
    for number in 0..40 {
        // One that waits for the ledger, two that are answered at once.
        requests += &format!(
            "PUT /v1/sales/ticket/bookings/p-{number} HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        requests += "GET /buy/gone HTTP/1.1\r\nHost: t\r\n\r\n";
        requests += &format!("GET /nowhere/{number} HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    client.send(requests).unwrap();
    for number in 0..40 {
        assert_eq!(client.receive().unwrap().expect(201).json()["booking"], format!("p-{number}"));
        assert_eq!(client.receive().unwrap().expect(200).json()["code"], -1);
        let problem = client.receive().unwrap().expect_problem(404, "no-such-path");
        assert_eq!(problem["instance"], format!("/nowhere/{number}"));
    }
    site.host.expect_sold("ticket", 40);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let body = "{\"quantity\":3}";
    let request = format!(
        "PUT /v1/sales/ticket/bookings/slow HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for byte in request.as_bytes() {
        client.send([*byte]).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(client.receive().unwrap().expect(201).json()["quantity"], 3);
}

#[test]
fn head_has_the_head_of_get() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let get = client.get("/v1/sales/gone").expect(200);
    let head = client.ask("HEAD", "/v1/sales/gone", None).expect(200);
    assert_eq!(head.field("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(head.field("content-type"), get.field("content-type"));
    assert!(head.body.is_empty());
    // The answer after it is read from the right place.
    client.get("/v1/sales/gone").expect(200);
    // HEAD never books.
    let booked = client.ask("HEAD", "/buy/ticket", None);
    assert_eq!(booked.status, 405, "{booked:?}");
    site.host.expect_sold("ticket", 0);
}

#[test]
fn chunked_bodies() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    let put = |id: &str| {
        format!(
            "PUT /v1/sales/ticket/bookings/{id} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
    };
    client.send(put("c-1") + "5;ext=1\r\n{\"qua\r\nA\r\nntity\":4} \r\n0\r\nTrailer: yes\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().expect(201).json()["quantity"], 4);
    client.send(put("c-2") + "0\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().expect(201).json()["quantity"], 1);
    client.send(put("c-3") + "zz\r\n").unwrap();
    client.receive().unwrap().expect(400);
    assert!(client.at_end());
}

#[test]
fn curl_waits_for_100_continue() {
    let _turn = turn::shared();
    let site = site();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.json");
    std::fs::write(&file, format!("{{\"quantity\":2{}}}", " ".repeat(20_000))).unwrap();
    let data = format!("@{}", file.display());
    let url = format!("http://{}/v1/sales/ticket/bookings/curl-1", site.host.address);
    let trace = folder.path().join("trace");
    let words = [
        "--request",
        "PUT",
        "--header",
        "Expect: 100-continue",
        "--expect100-timeout",
        "10",
        "--data-binary",
        &data,
    ];
    let answer = curl(&[&words[..], &["--include", "--trace-ascii", trace.to_str().unwrap(), &url]].concat());
    assert!(answer.contains("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 "), "{answer}");
    assert!(answer.contains("\"booking\":\"curl-1\""), "{answer}");

    // By hand: the interim answer comes before a single byte of the body.
    let mut client = site.host.client();
    client
        .send("PUT /v1/sales/ticket/bookings/e-1 HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert_eq!(client.receive().unwrap().status, 100);
    client.send("{}").unwrap();
    client.receive().unwrap().expect(201);
    // Too large: refused without asking for it.
    let mut client = site.host.client();
    client
        .send("PUT /v1/sales/ticket/bookings/e-2 HTTP/1.1\r\nHost: t\r\nContent-Length: 70000\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert_eq!(client.receive().unwrap().status, 413);
    assert!(client.at_end());
}

#[test]
fn malformed_input_is_refused_and_the_connection_closed() {
    let _turn = turn::shared();
    let site = site();
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(9_000));
    let long_head =
        format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(600));
    for (request, statuses) in [
        ("nonsense\r\n\r\n", &[400][..]),
        ("GET / HTTP/1.1\r\n\r\n", &[400]),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
        ("GET / HTTP/1.1\r\nHost : t\r\n\r\n", &[400]),
        ("GET  / HTTP/1.1\r\nHost: t\r\n\r\n", &[400]),
        ("GET / HTTP/2.0\r\nHost: t\r\n\r\n", &[400, 505]),
        ("POST /buy/ticket HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", &[400]),
        ("POST /buy/ticket HTTP/1.1\r\nHost: t\r\nContent-Length: +1\r\n\r\na", &[400]),
        (
            "POST /buy/ticket HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[400],
        ),
        ("POST /buy/ticket HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n", &[400, 501]),
        ("POST /buy/ticket HTTP/1.1\r\nHost: t\r\nContent-Length: 70000\r\n\r\n", &[413]),
        (&long_target, &[414]),
        (&long_head, &[431]),
    ] {
        let mut client = site.host.client();
        client.send(request).unwrap();
        let answer = client.receive().unwrap_or_else(|error| panic!("{error} for {request:?}"));
        assert!(statuses.contains(&answer.status), "{answer:?} for {request:?}");
        assert!(answer.closes(), "{answer:?} for {request:?}");
        assert!(client.at_end(), "still open after {request:?}");
    }
    // What was smuggled behind a malformed request is not served.
    let mut client = site.host.client();
    client.send("GET / HTTP/1.1\r\n\r\nGET /buy/ticket HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().status, 400);
    assert!(client.at_end());
    site.host.expect_sold("ticket", 0);
}

/// Clients that go away in the middle of anything take nobody with them.
#[test]
fn rude_clients_are_survived() {
    let _turn = turn::shared();
    let site = site();
    for bytes in [
        "",
        "G",
        "GET /buy/gone HTTP/1.1\r\n",
        "PUT /v1/sales/ticket/bookings/x HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{",
    ] {
        for _ in 0..20 {
            let mut client = site.host.client();
            client.send(bytes).unwrap();
            drop(client);
        }
    }
    // Requests whose answers nobody reads.
    for _ in 0..5 {
        let mut client = site.host.client();
        client.send("GET /buy/gone HTTP/1.1\r\nHost: t\r\n\r\n".repeat(100)).unwrap();
        drop(client);
    }
    let mut client: Client = site.host.client();
    client.get("/buy/gone").expect(200);
    site.host.expect_sold("ticket", 0);
}

/// Without a word a cache may keep an answer to GET and a 404 for as long as it likes (RFC 9111 section 4.2.2): a shop's CDN
/// would sell one ticket to everybody, and never hear that a sale was opened.
#[test]
fn every_answer_says_whether_it_may_be_kept() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    for (method, target, status, kept) in [
        ("GET", "/buy/ticket", 200, "no-store"),
        ("POST", "/buy/ticket", 200, "no-store"),
        ("GET", "/buy/gone", 200, "no-store"),
        ("PUT", "/v1/sales/ticket/bookings/a", 201, "no-store"),
        ("PUT", "/v1/sales/ticket/bookings/a", 200, "no-store"),
        ("GET", "/v1/sales/ticket/bookings/a", 200, "no-store"),
        ("HEAD", "/v1/sales/ticket/bookings/a", 200, "no-store"),
        ("POST", "/v1/sales/ticket/bookings/a/confirm", 200, "no-store"),
        ("DELETE", "/v1/sales/ticket/bookings/a", 200, "no-store"),
        ("POST", "/v1/sales/ticket/bookings", 201, "no-store"),
        ("PUT", "/v1/sales/gone/bookings/a", 409, "no-store"),
        ("GET", "/v1/sales/ticket/bookings/none", 404, "no-store"),
        ("GET", "/v1/sales/none", 404, "no-store"),
        ("GET", "/nowhere", 404, "no-store"),
        ("GET", "/problems/none", 404, "no-store"),
        ("DELETE", "/buy/ticket", 405, "no-store"),
        ("OPTIONS", "/buy/ticket", 204, "no-store"),
        ("GET", "/v1/sales/ticket", 200, "max-age=1"),
        ("HEAD", "/v1/sales/ticket", 200, "max-age=1"),
        ("GET", "/problems/sold-out", 200, "max-age=86400"),
        ("GET", "/%zz", 400, "no-store"),
    ] {
        let answer = client.ask(method, target, None);
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert_eq!(answer.field("cache-control"), Some(kept), "{method} {target}: {answer:?}");
    }
    let mut operator = site.host.operator();
    for target in
        ["/livez", "/readyz", "/metrics", "/v1/sales", "/v1/sales/ticket", "/nowhere", "/v1/sales/none"]
    {
        let answer = operator.get(target);
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{target}: {answer:?}");
    }
}

/// RFC 9110 section 13: a request whose precondition is false changes nothing.
#[test]
fn a_false_precondition_changes_nothing() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "ticket=100,hold=1h"]);
    let mut client = host.client();
    let mut ask = |request: &str, condition: &str, body: &str| {
        let length = body.len();
        client
            .send(format!(
                "{request} HTTP/1.1\r\nHost: t\r\n{condition}\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .unwrap();
        client.receive().unwrap()
    };
    let put = "PUT /v1/sales/ticket/bookings/a";
    for condition in
        ["If-Match: *", "If-Match: \"1\"", "If-Match: W/\"1\"", "If-Match: *\r\nIf-None-Match: *"]
    {
        ask(put, condition, "{}").expect_problem(412, "precondition-failed");
        ask("POST /v1/sales/ticket/bookings", condition, "{}").expect_problem(412, "precondition-failed");
        ask("GET /buy/ticket", condition, "").expect_problem(412, "precondition-failed");
    }
    for condition in ["If-Match: 1", "If-Match: ", "If-None-Match: *, \"1\"", "If-None-Match: \"1"] {
        ask(put, condition, "{}").expect_problem(400, "bad-request");
    }
    // Where there is no booking, that is the answer, and no condition changes it.
    for (method, what) in [("POST", "/confirm"), ("DELETE", "")] {
        let request = format!("{method} /v1/sales/ticket/bookings/a{what}");
        ask(&request, "If-Match: *", "").expect_problem(404, "no-such-booking");
        ask(&request, "If-None-Match: *", "").expect_problem(404, "no-such-booking");
    }
    let sale = |host: &Host| host.operator().get("/v1/sales/ticket").expect(200).json();
    assert_eq!((sale(&host)["held"].clone(), sale(&host)["sequence"].clone()), (json!(0), json!(0)));

    // To book only what is new.
    ask(put, "If-None-Match: *", "{\"quantity\":2}").expect(201);
    ask(put, "If-None-Match: *", "{\"quantity\":2}").expect_problem(412, "precondition-failed");
    ask(put, "If-None-Match: *", "{\"quantity\":3}").expect_problem(412, "precondition-failed");
    ask(put, "If-None-Match: \"1\"", "{\"quantity\":2}").expect(200);
    // To be told of what is there, and to book nothing.
    let again = ask(put, "If-Match: *", "{\"quantity\":2}").expect(200);
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    assert_eq!(again.json()["quantity"], 2);
    ask(put, "If-Match: *", "{\"quantity\":3}").expect_problem(422, "id-reused");
    ask(put, "If-Match: *", "{\"quantity\":2,\"buyer\":\"u\"}").expect_problem(422, "id-reused");
    for condition in ["If-Match: \"1\"", "If-None-Match: *"] {
        for (method, what) in [("POST", "/confirm"), ("DELETE", "")] {
            let request = format!("{method} /v1/sales/ticket/bookings/a{what}");
            ask(&request, condition, "").expect_problem(412, "precondition-failed");
        }
    }
    assert_eq!((sale(&host)["held"].clone(), sale(&host)["sequence"].clone()), (json!(2), json!(1)));
    assert_eq!(
        ask("POST /v1/sales/ticket/bookings/a/confirm", "If-Match: *", "").expect(200).json()["status"],
        "confirmed"
    );
    assert_eq!(
        ask("DELETE /v1/sales/ticket/bookings/a", "If-None-Match: \"1\"", "").expect(200).json()["status"],
        "cancelled"
    );
    let counted = host.metrics()["boxoffice_requests_total{outcome=\"precondition-failed\"}"];
    assert!(counted >= 12.0, "{counted}");
}

/// RFC 9110 sections 7.4, 14.4 and 14.5: what came over an open connection was not to, and a part is not the whole.
#[test]
fn what_was_meant_otherwise_books_nothing() {
    let _turn = turn::shared();
    let site = site();
    let mut operator = site.host.operator();
    for target in ["https://tickets/buy/ticket", "HTTPS://tickets/v1/sales/ticket/bookings/a"] {
        for mut client in [site.host.client(), site.host.operator()] {
            client.ask("PUT", target, Some("{}")).expect_problem(421, "http");
            assert!(client.at_end());
        }
        site.host.client().get(target).expect_problem(421, "http");
    }
    let partial =
        "Host: 127.0.0.1\r\nContent-Range: bytes 0-11/30\r\nContent-Length: 12\r\n\r\n{\"total\":1}\n";
    let mut client = site.host.client();
    client.send(format!("PUT /v1/sales/ticket/bookings/a HTTP/1.1\r\n{partial}")).unwrap();
    client.receive().unwrap().expect_problem(400, "bad-request");
    operator.send(format!("PUT /v1/sales/ticket HTTP/1.1\r\n{partial}")).unwrap();
    operator.receive().unwrap().expect_problem(400, "bad-request");
    client.get("/v1/sales/ticket/bookings/a").expect_problem(404, "no-such-booking");
    assert_eq!(operator.get("/v1/sales/ticket").expect(200).json()["total"], 100);
    site.host.expect_sold("ticket", 0);
}

/// What is accepted can be asked for: clients take `.` and `..` out of a URL before they send it.
#[test]
fn an_id_that_no_url_can_name_is_refused() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    for dots in [".", ".."] {
        let mut refused = |method: &str, target: &str| {
            let problem = client.ask(method, target, Some("{}")).expect_problem(400, "bad-request");
            assert!(problem["detail"].as_str().unwrap().contains("which no URL can name"), "{problem}");
        };
        refused("PUT", &format!("/v1/sales/ticket/bookings/{dots}"));
        refused("GET", &format!("/v1/sales/ticket/bookings/{dots}"));
        refused("DELETE", &format!("/v1/sales/ticket/bookings/{dots}"));
        refused("POST", &format!("/v1/sales/ticket/bookings/{dots}/confirm"));
        refused("GET", &format!("/v1/sales/{dots}"));
        refused("GET", &format!("/buy/{dots}"));
        client
            .send(format!(
                "POST /v1/sales/ticket/bookings HTTP/1.1\r\nHost: t\r\nIdempotency-Key: \"{dots}\"\r\n\r\n"
            ))
            .unwrap();
        client.receive().unwrap().expect_problem(400, "bad-request");
        site.host
            .operator()
            .put(&format!("/v1/sales/{dots}"), "{\"total\":1}")
            .expect_problem(400, "bad-request");
    }
    // Every other one comes back where it was put, also to a client that resolves paths.
    for id in ["...", ".a", "a.", "-", "_", "a..b"] {
        let made = client.put(&format!("/v1/sales/ticket/bookings/{id}"), "{}").expect(201);
        let url = format!("http://{}{}", site.host.address, made.field("location").unwrap());
        let told = curl(&[&url]);
        assert!(told.contains(&format!("\"booking\":\"{id}\"")), "{id}: {told}");
    }
    // As an operator would type it.
    for words in [&["sale", "open", "..", "--stock", "1"][..], &["serve", "--sale", ".=5"]] {
        boxoffice(site._folder.path(), words).expect(2).saying(&["no URL can name"]);
    }
}

/// An id is its bytes: the same with either ledger, though Redis keeps a UUID in small letters otherwise.
#[test]
fn a_uuid_in_capitals_is_another_id() {
    let _turn = turn::shared();
    let data = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(data.path());
    for ledger in ["sqlite:boxoffice.db".to_owned(), redis.url()] {
        let folder = tempfile::tempdir().unwrap();
        let words = ["--ledger", &ledger, "--sale", "ticket=100"];
        let host = Host::start(folder.path(), &words);
        let mut client = host.client();
        let small = "0198c0de-aaaa-7000-8000-00000000000a";
        let (capital, mixed) = (small.to_uppercase(), small.replacen('a', "A", 1));
        let ids = [small, &capital, &mixed];
        for (number, id) in ids.iter().enumerate() {
            let target = format!("/v1/sales/ticket/bookings/{id}");
            client.get(&target).expect_problem(404, "no-such-booking");
            let body = format!("{{\"quantity\":{}}}", number + 1);
            let made = client.put(&target, &body).expect(201);
            assert_eq!(made.json()["booking"], **id, "{ledger}");
            assert_eq!(made.field("location"), Some(target.as_str()));
            client.put(&target, &body).expect(200);
        }
        for (number, id) in ids.iter().enumerate() {
            let booking = client.get(&format!("/v1/sales/ticket/bookings/{id}")).expect(200).json();
            assert_eq!(
                (&booking["booking"], &booking["quantity"]),
                (&json!(id), &json!(number + 1)),
                "{ledger}"
            );
        }
        client.ask("DELETE", &format!("/v1/sales/ticket/bookings/{capital}"), None).expect(200);
        assert_eq!(client.get(&format!("/v1/sales/ticket/bookings/{small}")).json()["status"], "confirmed");
        host.expect_sold("ticket", 4);
        assert_audit_agrees(folder.path(), "ticket", &ledger);
    }
}
