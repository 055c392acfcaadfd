//! HTTP/1.1 as clients meet it, and the API's answers, on the wire.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Client;
use crate::support::host::Host;
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
fn refusals_say_what_is_wrong() {
    let _turn = turn::shared();
    let site = site();
    let mut client = site.host.client();
    client.put("/v1/sales/gone/bookings/a", "{}").expect_problem(409, "sold-out");
    client.put("/v1/sales/ticket/bookings/a", "{\"quantity\":101}").expect_problem(409, "sold-out");
    client.put("/v1/sales/nothing/bookings/a", "{}").expect_problem(404, "no-such-sale");
    client.get("/").expect_problem(404, "no-such-path");
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
