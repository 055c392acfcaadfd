//! Bookings that live: holds, payment, expiry, buyer limits, windows; and that stock that comes back is sold again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::both_ledgers::on_both_ledgers;
use crate::support::client::Client;
use crate::support::crowd::rush;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::turn;
use crate::support::{eventually, one_core};

const BOOKINGS: &str = "/v1/sales/ticket/bookings";

#[test]
fn a_hold_is_paid_or_given_back() {
    on_both_ledgers("ticket=2,hold=1m", |host| {
        let mut client = host.client();
        let held = client.put(&format!("{BOOKINGS}/a"), "{\"buyer\":\"u-1\"}").expect(201).json();
        assert_eq!((&held["status"], held["expires_at"].is_string()), (&json!("held"), true), "{held}");
        client.put(&format!("{BOOKINGS}/b"), "{}").expect(201);
        client.put(&format!("{BOOKINGS}/c"), "{}").expect_problem(409, "sold-out");

        let confirm =
            |client: &mut Client, id: &str| client.ask("POST", &format!("{BOOKINGS}/{id}/confirm"), Some(""));
        let confirmed = confirm(&mut client, "a").expect(200).json();
        assert_eq!(
            (&confirmed["status"], confirmed.get("expires_at")),
            (&json!("confirmed"), None),
            "{confirmed}"
        );
        assert_eq!(confirm(&mut client, "a").expect(200).json(), confirmed);
        confirm(&mut client, "nobody").expect_problem(404, "no-such-booking");

        let cancelled = client.ask("DELETE", &format!("{BOOKINGS}/b"), None).expect(200).json();
        assert_eq!(cancelled["status"], "cancelled");
        assert_eq!(client.ask("DELETE", &format!("{BOOKINGS}/b"), None).expect(200).json(), cancelled);
        confirm(&mut client, "b").expect_problem(409, "booking-cancelled");
        eventually("the ticket that came back is sold", Duration::from_secs(5), || {
            client.put(&format!("{BOOKINGS}/c"), "{}").is_booked().then_some(())
        });
        assert_eq!((&host.sale("ticket")["sold"], &host.sale("ticket")["held"]), (&json!(1), &json!(1)));
    });
}

#[test]
fn buy_says_that_it_is_a_hold_and_until_when_and_nothing_of_the_kind_without_one() {
    on_both_ledgers("ticket=2,hold=1m", |host| {
        let bought = host.client().get("/buy/ticket").expect(200).json();
        let id = bought["data"]["booking"].as_str().unwrap();
        let booking = host.client().get(&format!("{BOOKINGS}/{id}")).expect(200).json();
        let data = json!({"booking": id, "status": "held", "expires_at": booking["expires_at"]});
        assert_eq!(bought, json!({"code": 1, "msg": "Ticket purchase successful", "data": data}));
        host.operator().ask("PUT", "/v1/sales/ticket", Some("{\"hold_seconds\":null}")).expect(200);
        let bought = host.client().get("/buy/ticket").expect(200).json();
        assert_eq!(bought["data"].as_object().unwrap().len(), 1, "{bought}");
    });
}

#[test]
fn an_id_with_a_tombstone_is_never_granted() {
    on_both_ledgers("ticket=2", |host| {
        let mut client = host.client();
        let bury = |client: &mut Client, id: &str| {
            client.ask("DELETE", &format!("{BOOKINGS}/{id}?tombstone=true"), None).expect(200).json()
        };
        client.ask("DELETE", &format!("{BOOKINGS}/late"), None).expect_problem(404, "no-such-booking");
        let never = json!({"booking": "late", "sale": "ticket", "status": "cancelled"});
        assert_eq!(bury(&mut client, "late"), never);
        assert_eq!(bury(&mut client, "late"), never);
        // The first try arrives at last: it is answered as one for a cancelled booking, whatever it asks for.
        for body in ["{}", "{\"quantity\":2,\"buyer\":\"u-1\"}"] {
            let late = client.put(&format!("{BOOKINGS}/late"), body).expect(200);
            assert_eq!(late.json()["status"], "cancelled");
        }
        client.get(&format!("{BOOKINGS}/late")).expect_problem(404, "no-such-booking");
        // One that is there is cancelled, with or without.
        let kept = client.put(&format!("{BOOKINGS}/there"), "{\"quantity\":2}").expect(201).json();
        let gone = bury(&mut client, "there");
        assert_eq!((&gone["status"], &gone["quantity"]), (&json!("cancelled"), &kept["quantity"]));
        assert_eq!(host.sale("ticket")["sold"], 0);
        client
            .ask("DELETE", &format!("{BOOKINGS}/late?tombstone=perhaps"), None)
            .expect_problem(400, "bad-request");
    });
}

#[test]
fn a_hold_that_is_over_is_sold_again_and_confirms_only_where_stock_is_left() {
    on_both_ledgers("ticket=1,hold=300ms", |host| {
        let mut client = host.client();
        client.put(&format!("{BOOKINGS}/late"), "{}").expect(201);
        // Nobody asks for anything: the host itself finds the hold over, and enters it as the second change.
        eventually("the hold is over", Duration::from_secs(5), || {
            let sale = host.operator().get("/v1/sales/ticket").expect(200).json();
            (sale["sequence"] == 2 && host.sale("ticket")["available"] == 1).then_some(())
        });
        assert_eq!(client.get(&format!("{BOOKINGS}/late")).expect(200).json()["status"], "expired");
        // Stock is left, so it is taken again.
        client.ask("POST", &format!("{BOOKINGS}/late/confirm"), Some("")).expect(200);
        client.ask("DELETE", &format!("{BOOKINGS}/late"), None).expect(200);
        eventually("the next one holds it", Duration::from_secs(5), || {
            client.put(&format!("{BOOKINGS}/slow"), "{}").is_booked().then_some(())
        });
        eventually("another one has it then", Duration::from_secs(5), || {
            client.put(&format!("{BOOKINGS}/quick"), "{}").is_booked().then_some(())
        });
        client.ask("POST", &format!("{BOOKINGS}/quick/confirm"), Some("")).expect(200);
        client.ask("POST", &format!("{BOOKINGS}/slow/confirm"), Some("")).expect_problem(409, "hold-expired");
        client.get(&format!("{BOOKINGS}/slow")).expect(200);
    });
}

#[test]
fn a_late_payment_that_the_limit_forbids_is_told_so_and_not_that_the_tickets_are_gone() {
    on_both_ledgers("ticket=60,hold=300ms,per-buyer=2", |host| {
        let mut client = host.client();
        let two = "{\"quantity\":2,\"buyer\":\"a.b+c@d.example\"}";
        client.put(&format!("{BOOKINGS}/late"), two).expect(201);
        eventually("it is booked again, when the hold is over", Duration::from_secs(5), || {
            (client.put(&format!("{BOOKINGS}/again"), two).status == 201).then_some(())
        });
        client.ask("POST", &format!("{BOOKINGS}/again/confirm"), Some("")).expect(200);
        client.ask("POST", &format!("{BOOKINGS}/late/confirm"), Some("")).expect_problem(409, "buyer-limit");
        assert_eq!(host.sale("ticket")["available"], 58);
        // And what an operator may not do is told by its reason.
        let mut operator = host.operator();
        let mut refused = |body: &str, name: &str| {
            operator.ask("PUT", "/v1/sales/ticket", Some(body)).expect_problem(409, name)
        };
        let detail = refused("{\"total\":1}", "total-too-low")["detail"].to_string();
        assert!(detail.contains("0 held and 2 sold"), "{detail}");
        operator.ask("PUT", "/v1/sales/ticket", Some("{\"ends_at\":\"2126-02-01 10:00:00z\"}")).expect(200);
        let mut refused = |body: &str, name: &str| {
            operator.ask("PUT", "/v1/sales/ticket", Some(body)).expect_problem(409, name)
        };
        refused("{\"starts_at\":\"2126-02-01T10:00:00+00:00\"}", "empty-window");
    });
}

#[test]
fn a_buyer_gets_the_limit_and_no_more() {
    on_both_ledgers("ticket=10,per-buyer=3", |host| {
        let mut client = host.client();
        let two = "{\"quantity\":2,\"buyer\":\"u-1\"}";
        client.put(&format!("{BOOKINGS}/a"), two).expect(201);
        client.put(&format!("{BOOKINGS}/b"), two).expect_problem(409, "buyer-limit");
        client.put(&format!("{BOOKINGS}/c"), "{\"buyer\":\"u-1\"}").expect(201);
        client.put(&format!("{BOOKINGS}/d"), "{\"buyer\":\"u-1\"}").expect_problem(409, "buyer-limit");
        client.ask("DELETE", &format!("{BOOKINGS}/a"), None).expect(200);
        client.put(&format!("{BOOKINGS}/b"), two).expect(201);
        // All or nothing: 7 are left.
        client.put(&format!("{BOOKINGS}/e"), "{\"quantity\":8}").expect_problem(409, "sold-out");
        client.put(&format!("{BOOKINGS}/e"), "{\"quantity\":7}").expect(201);
        host.expect_sold("ticket", 10);
    });
}

#[test]
fn a_sale_opens_on_every_host_at_its_start_and_not_before() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    // Far off, however long it takes until both hosts were asked.
    let words = ["--ledger", &redis.url(), "--sale", "ticket=100,starts=2999-01-01T00:00:00Z"];
    let hosts = [Host::start(folder.path(), &words), Host::start(folder.path(), &words)];
    for host in &hosts {
        let problem =
            host.client().put(&format!("{BOOKINGS}/early"), "{}").expect_problem(403, "not-on-sale");
        assert!(problem["starts_at"].is_string(), "{problem}");
        assert!(problem["detail"].to_string().contains("has not started yet"), "{problem}");
        assert_eq!(host.sale("ticket")["status"], "scheduled");
        host.client().get("/buy/ticket").expect_problem(403, "not-on-sale");
    }
    let starts = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let terms = json!({"starts_at": starts.to_string()}).to_string();
    hosts[0].operator().put("/v1/sales/ticket", &terms).expect(200);
    for host in &hosts {
        eventually("the sale is open", Duration::from_secs(20), || {
            (host.client().get("/buy/ticket").status == 200).then_some(())
        });
    }
    // What was booked was booked in time, by the ledger's own log.
    let log =
        crate::support::host::boxoffice(folder.path(), &["sale", "log", "ticket", "--ledger", &redis.url()])
            .expect(0);
    let at: Vec<jiff::Timestamp> = log
        .said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            entry["at"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    assert!(
        at.len() == 2 && at.iter().all(|at| at.as_millisecond() >= starts.as_millisecond()),
        "{at:?} {starts}"
    );
}

#[test]
fn operators_pause_resume_and_close() {
    on_both_ledgers("ticket=100", |host| {
        let (mut client, mut operator) = (host.client(), host.operator());
        client.put(&format!("{BOOKINGS}/mine"), "{}").expect(201);
        for (action, status) in [("pause", "paused"), ("close", "closed")] {
            let state =
                operator.ask("POST", &format!("/v1/sales/ticket/{action}"), Some("")).expect(200).json();
            assert_eq!(state["status"], status);
            client.put(&format!("{BOOKINGS}/other"), "{}").expect_problem(403, "not-on-sale");
            // Who asked before still gets the booking, and may give it back or look at it.
            client.put(&format!("{BOOKINGS}/mine"), "{}").expect(200);
            client.get(&format!("{BOOKINGS}/mine")).expect(200);
            operator.ask("POST", "/v1/sales/ticket/resume", Some("")).expect(200);
            client.put(&format!("{BOOKINGS}/after-{action}"), "{}").expect(201);
        }
        operator.ask("POST", "/v1/sales/nothing/pause", Some("")).expect_problem(404, "no-such-sale");
    });
}

#[test]
fn changing_calls_need_the_token_and_no_page_of_another_origin() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "s3cret\n").unwrap();
    let host = Host::start(
        folder.path(),
        &["--sale", "ticket=5", "--admin-token-file", token_file.to_str().unwrap()],
    );
    let mut operator = host.operator();
    let pause = |fields: &str| {
        format!(
            "POST /v1/sales/ticket/pause HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: 0\r\n\r\n"
        )
    };
    for fields in [
        "",
        "Authorization: Bearer s3cre\r\n",
        "Authorization: Bearer s3crets\r\n",
        "Authorization: Basic s3cret\r\n",
    ] {
        operator.send(pause(fields)).unwrap();
        operator.receive().unwrap().expect_problem(401, "unauthorized");
    }
    let token = "Authorization: Bearer s3cret\r\n";
    operator.send(pause(&format!("{token}Origin: http://evil.example\r\n"))).unwrap();
    operator.receive().unwrap().expect_problem(403, "forbidden");
    host.client().put(&format!("{BOOKINGS}/still-open"), "{}").expect(201);
    operator.get("/v1/sales/ticket").expect(200);
    operator.send(pause(&format!("{token}{token}"))).unwrap();
    operator.receive().unwrap().expect_problem(401, "unauthorized");
    operator.send(pause("authorization: bEARER   s3cret\r\nOrigin: HTTP://LocalHost\r\n")).unwrap();
    operator.receive().unwrap().expect(200);
    let problem = host.client().put(&format!("{BOOKINGS}/late"), "{}").expect_problem(403, "not-on-sale");
    assert!(problem["detail"].to_string().contains("paused"), "{problem}");
    // Who did what is on record.
    eventually("it is logged", Duration::from_secs(5), || {
        host.process.said().contains("paused").then_some(())
    });
}

/// A server-made id that its client was never told as booked is cancelled, and can never be granted by a late try.
#[test]
fn an_unknown_outcome_strands_no_ticket() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(folder.path());
    let host = Host::start(
        folder.path(),
        &["--ledger", &redis.url(), "--sale", "ticket=3", "--ledger-timeout", "300ms"],
    );
    eventually("every loop is up", Duration::from_secs(5), || {
        (host.operator().get("/readyz").status == 200).then_some(())
    });
    redis.freeze();
    let made = host.client().ask("POST", BOOKINGS, Some("{}"));
    let problem = made.expect_problem(503, "outcome-unknown");
    assert_eq!(made.field("retry-after"), Some("1"));
    let id = problem["booking"].as_str().expect("the booking's id").to_owned();
    let own = host.client().put(&format!("{BOOKINGS}/own"), "{}");
    assert_eq!(own.status, 503, "{own:?}");
    redis.thaw();
    eventually("the made one is given back", Duration::from_secs(10), || {
        let sale = host.sale("ticket");
        let left = host.client().get(&format!("{BOOKINGS}/{id}"));
        let gone = left.status == 404 || left.json()["status"] == "cancelled";
        (gone && sale["sold"].as_u64().unwrap() <= 1).then_some(())
    });
    // The client with its own id asks again and has one booking, however the first try ended.
    eventually("the own one is booked once", Duration::from_secs(5), || {
        host.client().put(&format!("{BOOKINGS}/own"), "{}").is_booked().then_some(())
    });
    eventually("all else is sold", Duration::from_secs(5), || {
        rush(&[host.address], "ticket", 1, 5, 1);
        (host.sale("ticket")["sold"] == 3).then_some(())
    });
    // The id stays spent.
    let late = host.client().put(&format!("{BOOKINGS}/{id}"), "{}");
    assert_ne!(late.status, 201, "{}", late.text());
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// A client that hangs up before its answer has no way to the booking; its ticket is for the next one.
#[test]
fn a_client_that_hangs_up_strands_no_ticket() {
    hang_up_after("GET /buy/ticket HTTP/1.1\r\nHost: a\r\n\r\n", 1);
}

/// What it asked last has to wait for what it asked first, so that its socket is not read when the reset comes.
#[test]
fn a_client_that_hangs_up_while_it_is_not_read_strands_no_ticket() {
    let buy = "GET /buy/ticket HTTP/1.1\r\nHost: a\r\n\r\n";
    let put = "PUT /v1/sales/ticket/bookings/late HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    hang_up_after(&format!("{buy}{buy}{put}"), 2);
}

/// Sends these requests while Redis stands still, of which so many book under ids of the host, and is gone.
fn hang_up_after(requests: &str, bookings: u32) {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut redis = RedisServer::start(folder.path());
    let host = Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", "ticket=2"]);
    redis.freeze();
    let mut client = host.client();
    client.send(requests).unwrap();
    eventually("the requests are on their way", Duration::from_secs(5), || {
        let waiting = |name: &String| name.starts_with("boxoffice_waiting_requests");
        host.metrics()
            .iter()
            .any(|(name, value)| waiting(name) && *value == f64::from(bookings))
            .then_some(())
    });
    // An end alone would not tell: who has said all may still read.
    client.reset();
    eventually("the host has noticed", Duration::from_secs(5), || {
        let open = |name: &String| name.starts_with("boxoffice_connections_open");
        host.metrics().iter().all(|(name, value)| !open(name) || *value == 0.0).then_some(())
    });
    redis.thaw();
    eventually("the booking was made and cancelled", Duration::from_secs(10), || {
        let metrics = host.metrics();
        let sum = |prefix: &str| -> f64 {
            metrics.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
        };
        let made = sum("boxoffice_requests_total{outcome=\"granted\"}") == f64::from(bookings);
        let settled = sum("boxoffice_waiting_requests") == 0.0;
        (made && settled && host.sale("ticket")["available"] == 2).then_some(())
    });
    assert_eq!(rush(&[host.address], "ticket", 1, 5, 1).granted.len(), 2);
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// What each buyer of the crowd was told last.
#[derive(Default)]
struct Told {
    confirmed: BTreeSet<String>,
    per_buyer: BTreeMap<String, u64>,
}

const STOCK: u64 = 2_000;
const LIMIT: u64 = 4;

/// 2,000 tickets on 8 hosts, holds of 2 s, half of the crowd never pays, everybody asks until told twice.
#[test]
fn in_the_end_every_ticket_is_paid_for_once() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let sale = format!("ticket={STOCK},hold=2s,per-buyer={LIMIT}");
    let words = ["--ledger", &redis.url(), "--cores", &one_core(), "--no-pin", "--sale", &sale];
    let hosts: Vec<Host> = (0..8).map(|_| Host::start(folder.path(), &words)).collect();
    let addresses: Vec<SocketAddr> = hosts.iter().map(|host| host.address).collect();
    let told = Mutex::new(Told::default());
    let until = Instant::now() + Duration::from_secs(400);
    std::thread::scope(|scope| {
        for crowd in 0..16_usize {
            let (addresses, told) = (&addresses, &told);
            scope.spawn(move || Crowd::new(crowd, addresses).buy(told, until));
        }
    });
    let told = told.into_inner().unwrap();
    assert_eq!(told.confirmed.len() as u64, STOCK, "every ticket is paid for, none twice");
    assert!(told.per_buyer.values().all(|&tickets| tickets <= LIMIT));
    for host in &hosts {
        eventually("the host agrees", Duration::from_secs(5), || {
            let sale = host.sale("ticket");
            (sale["sold"] == STOCK && sale["held"] == 0 && sale["available"] == 0).then_some(())
        });
    }
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// Buyers that come one after another through one connection to each host.
struct Crowd {
    number: usize,
    clients: Vec<Client>,
    turn: usize,
}

impl Crowd {
    fn new(number: usize, hosts: &[SocketAddr]) -> Crowd {
        Crowd { number, clients: hosts.iter().map(|&host| Client::connect(host)).collect(), turn: number }
    }

    fn client(&mut self) -> &mut Client {
        self.turn += 1;
        let hosts = self.clients.len();
        &mut self.clients[self.turn % hosts]
    }

    /// The same request on one host after another, until two have said the same.
    fn twice(&mut self, method: &str, target: &str, body: &str) -> (u16, String) {
        let mut last = None;
        loop {
            let answer = self.client().ask(method, target, Some(body));
            let now = match answer.status {
                200 | 201 => (200, answer.json()["status"].as_str().unwrap().to_owned()),
                status => (status, answer.json()["type"].as_str().unwrap().to_owned()),
            };
            if answer.says_ask_again() {
                continue;
            }
            if last.as_ref() == Some(&now) {
                return now;
            }
            last = Some(now);
        }
    }

    fn buy(&mut self, told: &Mutex<Told>, until: Instant) {
        for visit in 0.. {
            if Instant::now() >= until {
                let paid = told.lock().unwrap().confirmed.len();
                let sales: Vec<String> = self
                    .clients
                    .iter_mut()
                    .map(|host| host.get("/v1/sales/ticket").text().to_owned())
                    .collect();
                panic!("tickets are stranded: {paid} paid for; {sales:#?}");
            }
            if told.lock().unwrap().confirmed.len() as u64 >= STOCK {
                return;
            }
            let id = format!("c{}-v{visit}", self.number);
            let buyer = format!("u{}-{}", self.number, visit / 6);
            let target = format!("{BOOKINGS}/{id}");
            let (status, word) = self.twice("PUT", &target, &format!("{{\"buyer\":\"{buyer}\"}}"));
            match (status, word.as_str()) {
                (200, "held") if visit % 2 == 0 => {
                    let (status, word) = self.twice("POST", &format!("{target}/confirm"), "");
                    if (status, word.as_str()) == (200, "confirmed") {
                        let mut told = told.lock().unwrap();
                        assert!(told.confirmed.insert(id), "a booking was confirmed to two buyers");
                        *told.per_buyer.entry(buyer).or_default() += 1;
                    }
                }
                // Never pays.
                (200, "held" | "expired") => {}
                (409, "/problems/buyer-limit") => {}
                (409, "/problems/sold-out") => std::thread::sleep(Duration::from_millis(20)),
                other => panic!("{id}: {other:?}"),
            }
        }
    }
}
