//! What operators do for buyers: give a booking to another one, while clients go on with it; and find the bookings of one.

use std::collections::BTreeMap;
use std::time::Duration;

use boxoffice::limits::BUYER_BOOKINGS_MAX;
use serde_json::{Value, json};

use crate::both_ledgers::on_both_ledgers;
use crate::support::client::{Client, Response};
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

const BOOKINGS: &str = "/v1/sales/ticket/bookings";

fn give(operator: &mut Client, id: &str, buyer: Option<&str>) -> Response {
    operator.put(&format!("{BOOKINGS}/{id}/buyer"), &json!({ "buyer": buyer }).to_string())
}

fn book(client: &mut Client, id: &str, quantity: u64, buyer: &str) -> Response {
    client.put(&format!("{BOOKINGS}/{id}"), &json!({ "quantity": quantity, "buyer": buyer }).to_string())
}

#[test]
fn a_booking_is_given_to_another_buyer_once_however_often_that_is_asked() {
    on_both_ledgers("ticket=20,hold=1m,hold-max=1h,per-buyer=4", |host| {
        let (mut client, mut operator) = (host.client(), host.operator());
        let held = book(&mut client, "a", 3, "u-1").expect(201).json();
        book(&mut client, "b", 2, "u-2").expect(201);
        give(&mut operator, "a", Some("u-2")).expect_problem(409, "buyer-limit");
        for _ in 0..2 {
            let given = give(&mut operator, "a", Some("u-3")).expect(200).json();
            assert_eq!(given["buyer"], "u-3");
            for stays in ["booking", "sale", "status", "quantity", "expires_at"] {
                assert_eq!(given[stays], held[stays], "{given}");
            }
            assert_eq!(client.get(&format!("{BOOKINGS}/a")).expect(200).json(), given, "as clients get it");
        }
        let sale = operator.get("/v1/sales/ticket").expect(200).json();
        assert_eq!((&sale["held"], &sale["sequence"]), (&json!(5), &json!(3)), "{sale}");
        // The first request again is of a booking that there is no more; the same for its new buyer finds it.
        book(&mut client, "a", 3, "u-1").expect_problem(422, "id-reused");
        let again = book(&mut client, "a", 3, "u-3").expect(200);
        assert_eq!(again.field("idempotency-replayed"), Some("true"));
        // Whoever had it has room again, and who has it has less.
        book(&mut client, "c", 4, "u-1").expect(201);
        book(&mut client, "d", 2, "u-3").expect_problem(409, "buyer-limit");
        // It is paid for and changed as before.
        let paid = client.ask("POST", &format!("{BOOKINGS}/a/confirm"), None).expect(200).json();
        assert_eq!((&paid["buyer"], &paid["status"]), (&json!("u-3"), &json!("confirmed")));
        assert_eq!(give(&mut operator, "a", None).expect(200).json().get("buyer"), None);
        book(&mut client, "d", 4, "u-3").expect(201);
        operator.put("/v1/sales/ticket", "{\"buyer_required\":true}").expect(200);
        give(&mut operator, "b", None).expect_problem(400, "buyer-required");
        assert_eq!(give(&mut operator, "a", Some("u-4")).expect(200).json()["buyer"], "u-4");

        client.ask("DELETE", &format!("{BOOKINGS}/a"), None).expect(200);
        give(&mut operator, "a", Some("u-5")).expect_problem(409, "booking-cancelled");
        give(&mut operator, "nobody", Some("u-5")).expect_problem(404, "no-such-booking");
        operator
            .put("/v1/sales/other/bookings/a/buyer", "{\"buyer\":\"u-5\"}")
            .expect_problem(404, "no-such-sale");
        for body in
            ["", "{}", "{\"buyer\":\"\"}", "{\"buyer\":\"a b\"}", "{\"buyer\":1}", "{\"buyer\":null,\"x\":1}"]
        {
            operator.put(&format!("{BOOKINGS}/b/buyer"), body).expect_problem(400, "bad-request");
        }
        operator
            .put(&format!("{BOOKINGS}/a%20b/buyer"), "{\"buyer\":null}")
            .expect_problem(400, "bad-request");
        let wrong = operator.ask("DELETE", &format!("{BOOKINGS}/b/buyer"), None);
        assert_eq!((wrong.status, wrong.field("allow")), (405, Some("PUT")));
        // Clients cannot do so.
        give(&mut client, "b", Some("u-5")).expect_problem(404, "no-such-path");
        // A booking has no version that a condition could be about.
        let body = "{\"buyer\":\"u-5\"}";
        let conditional = format!(
            "PUT {BOOKINGS}/b/buyer HTTP/1.1\r\nHost: localhost\r\nIf-Match: \"1\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        operator.send(conditional).unwrap();
        operator.receive().unwrap().expect_problem(412, "precondition-failed");
        assert_eq!(client.get(&format!("{BOOKINGS}/b")).expect(200).json()["buyer"], "u-2");
    });
}

#[test]
fn a_hold_that_is_over_is_given_to_nobody() {
    on_both_ledgers("ticket=2,hold=300ms", |host| {
        let (mut client, mut operator) = (host.client(), host.operator());
        book(&mut client, "a", 1, "u-1").expect(201);
        eventually("the hold is over", Duration::from_secs(5), || {
            let told = give(&mut operator, "a", Some("u-1"));
            (told.status != 200).then(|| told.expect_problem(409, "hold-expired"))
        });
        give(&mut operator, "a", Some("u-2")).expect_problem(409, "hold-expired");
        let over = client.get(&format!("{BOOKINGS}/a")).expect(200).json();
        assert_eq!((&over["status"], &over["buyer"]), (&json!("expired"), &json!("u-1")));
    });
}

/// Each host offers what it told its clients whenever it reaches the ledger again, the words of before the booking was given
/// away among them.
#[test]
fn a_host_that_comes_back_to_its_ledger_takes_no_booking_that_was_given_away_for_a_lost_one() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let words = ["--ledger", &redis.url(), "--sale", "ticket=50,hold=10m,per-buyer=50", "--no-pin"];
    let hosts = [Host::start(folder.path(), &words), Host::start(folder.path(), &words)];
    let mut operator = hosts[1].operator();
    for n in 0..10 {
        // Told by each loop that there is.
        book(&mut hosts[0].client(), &format!("b-{n}"), 1, "u-1").expect(201);
        give(&mut operator, &format!("b-{n}"), Some("u-2")).expect(200);
    }
    redis.command(&["client", "kill", "type", "normal"]);
    for host in &hosts {
        eventually("the host sells again", Duration::from_secs(20), || {
            let ready = host.operator().get("/readyz").status == 200;
            (ready && book(&mut host.client(), "after", 1, "u-3").is_booked()).then_some(())
        });
    }
    for n in 0..10 {
        let booking = hosts[0].client().get(&format!("{BOOKINGS}/b-{n}")).expect(200).json();
        assert_eq!(booking["buyer"], "u-2", "{booking}");
    }
    for host in &hosts {
        let metrics = host.metrics();
        for name in ["boxoffice_bookings_lost_total", "boxoffice_bookings_put_back_total"] {
            assert_eq!(metrics.get(name).copied().unwrap_or(0.0), 0.0, "{name}");
        }
    }
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// Few bookings with short holds, booked, paid, given back and held again by clients of two hosts, while operators of both
/// give them to one buyer and another.
#[test]
fn buyers_changed_in_a_race_with_expiry_cancellation_and_payment_on_two_hosts_add_up() {
    const IDS: u64 = 20;
    const STEPS: u64 = 900;
    const LIMIT: u64 = 7;
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let terms = format!("ticket=60,hold=30ms,hold-max=2s,per-buyer={LIMIT}");
    let host = || Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", &terms]);
    let hosts = [host(), host()];
    let told = std::sync::Mutex::new(BTreeMap::<(u64, u16), u64>::new());
    std::thread::scope(|scope| {
        for number in 0..6_u64 {
            let host = &hosts[number as usize % 2];
            let is_operator = number >= 4;
            let (address, told) = (if is_operator { host.admin } else { host.address }, &told);
            scope.spawn(move || {
                let mut caller = Client::connect(address);
                let mut chance = number + 1;
                let mut pick = |below: u64| {
                    chance = chance
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (chance >> 33) % below
                };
                for _ in 0..STEPS {
                    let (id, what) = (format!("b-{}", pick(IDS)), if is_operator { 9 } else { pick(9) });
                    let path = format!("{BOOKINGS}/{id}");
                    let answer = match what {
                        0..=2 => book(&mut caller, &id, 2, &format!("u-{}", pick(4))),
                        3 => caller.ask("POST", &format!("{path}/confirm"), None),
                        4 | 5 => caller.ask("POST", &format!("{path}/hold"), None),
                        6 => caller.ask("POST", &format!("{path}/extend"), Some("{\"seconds\":1}")),
                        7 => caller.ask("POST", &format!("{path}/release"), Some("{\"remaining\":1}")),
                        // Given back, and gone for good: one in five, so that there is something to race for.
                        8 if pick(5) == 0 => caller.ask("DELETE", &path, None),
                        8 => caller.get(&path),
                        _ => {
                            let buyer = pick(5);
                            let buyer = (buyer < 4).then(|| format!("u-{buyer}"));
                            give(&mut caller, &id, buyer.as_deref())
                        }
                    };
                    assert_ne!(answer.status, 503, "{}", answer.text());
                    *told.lock().unwrap().entry((what, answer.status)).or_default() += 1;
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    for met in [(9, 200), (9, 409), (3, 200), (1, 201), (1, 422)] {
        assert!(told.contains_key(&met), "{met:?} was never told: {told:?}");
    }
    let sale = eventually("every hold is over", Duration::from_secs(10), || {
        let sale = hosts[0].operator().get("/v1/sales/ticket").expect(200).json();
        (sale["held"] == 0).then_some(sale)
    });
    // What each buyer has by its list is within the limit, and with what nobody has it is all that was sold.
    let (mut sold, mut listed) = (0, BTreeMap::new());
    for buyer in 0..4 {
        let found =
            hosts[buyer % 2].operator().get(&format!("{BOOKINGS}?buyer=u-{buyer}")).expect(200).json();
        let mut has = 0;
        for booking in found["bookings"].as_array().unwrap() {
            assert_eq!(booking["buyer"], format!("u-{buyer}"));
            listed.insert(booking["booking"].as_str().unwrap().to_owned(), booking.clone());
            if booking["status"] == "confirmed" {
                has += booking["quantity"].as_u64().unwrap();
            }
        }
        assert!(has <= LIMIT, "u-{buyer} has {has}: {found}");
        sold += has;
    }
    let mut clients = [hosts[0].client(), hosts[1].client()];
    for n in 0..IDS {
        let answer = clients[0].get(&format!("{BOOKINGS}/b-{n}"));
        let booking: Value = answer.json();
        assert_eq!(clients[1].get(&format!("{BOOKINGS}/b-{n}")).json(), booking);
        match (answer.status, booking.get("buyer")) {
            (200, Some(_)) => assert_eq!(listed.get(&format!("b-{n}")), Some(&booking)),
            (200, None) if booking["status"] == "confirmed" => sold += booking["quantity"].as_u64().unwrap(),
            _ => {}
        }
    }
    assert_eq!(sale["sold"], sold, "{sale}");
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

#[test]
fn the_bookings_of_a_buyer_are_found_among_those_of_others() {
    on_both_ledgers("ticket=100000,per-buyer=100000", |host| {
        const MANY: usize = BUYER_BOOKINGS_MAX + 20;
        std::thread::scope(|scope| {
            for number in 0..4 {
                let address = host.address;
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    for n in (number..MANY).step_by(4) {
                        book(&mut client, &format!("m-{n}"), 1, "many").expect(201);
                        if n % 100 == 0 {
                            book(&mut client, &format!("f-{n}"), 2, "few+1@a.example").expect(201);
                        }
                    }
                });
            }
        });
        let (mut client, mut operator) = (host.client(), host.operator());
        client.ask("DELETE", &format!("{BOOKINGS}/f-100"), None).expect(200);
        let mut list = |buyer: &str| operator.get(&format!("{BOOKINGS}?buyer={buyer}")).expect(200).json();
        let few = list("few%2B1%40a.example");
        assert_eq!(few, list("few+1@a.example"));
        assert_eq!(few.get("more"), None, "{few}");
        let each: Vec<&Value> = few["bookings"].as_array().unwrap().iter().collect();
        let mut ids: Vec<String> = (0..MANY).step_by(100).map(|n| format!("f-{n}")).collect();
        ids.sort();
        assert_eq!(each.iter().map(|it| it["booking"].as_str().unwrap()).collect::<Vec<_>>(), ids);
        for booking in each {
            let path = format!("{BOOKINGS}/{}", booking["booking"].as_str().unwrap());
            assert_eq!(client.get(&path).expect(200).json(), *booking, "as clients get it");
        }
        let many = list("many");
        let found = many["bookings"].as_array().unwrap();
        assert_eq!((found.len(), &many["more"]), (BUYER_BOOKINGS_MAX, &json!(true)));
        assert!(found.iter().all(|booking| booking["buyer"] == "many"));
        assert_eq!(list("nobody"), json!({ "bookings": [] }));

        for query in
            ["", "?", "?buyer", "?buyer=", "?buyer=a%20b", "?buyer=a&buyer=b", "?buyer=a&more=1", "?sale=a"]
        {
            operator.get(&format!("{BOOKINGS}{query}")).expect_problem(400, "bad-request");
        }
        operator.get("/v1/sales/other/bookings?buyer=a").expect_problem(404, "no-such-sale");
        assert_eq!(operator.ask("HEAD", &format!("{BOOKINGS}?buyer=nobody"), None).status, 200);
        assert_eq!(operator.ask("POST", BOOKINGS, None).field("allow"), Some("GET, HEAD"));
    });
}

/// Nobody books or asks for the sale by its name meanwhile, so that the hold is not entered as expired: it counts as that.
#[test]
fn a_hold_that_is_over_is_listed_as_expired() {
    on_both_ledgers("ticket=5,hold=400ms", |host| {
        book(&mut host.client(), "a", 1, "u-1").expect(201);
        let path = format!("{BOOKINGS}?buyer=u-1");
        let list = || host.operator().get(&path).expect(200).json()["bookings"][0].clone();
        assert_eq!(list()["buyer"], "u-1");
        let over = eventually("the hold is over", Duration::from_secs(5), || {
            let now = list();
            (now["status"] != "held").then_some(now)
        });
        assert_eq!((&over["status"], over.get("expires_at")), (&json!("expired"), None), "{over}");
    });
}

#[test]
fn an_operator_does_with_a_booking_what_its_client_can_and_reads_the_log_of_it() {
    on_both_ledgers("ticket=5,hold=1m,hold-max=2m", |host| {
        let (mut client, mut operator) = (host.client(), host.operator());
        book(&mut client, "a", 2, "u-1").expect(201);
        book(&mut client, "b", 1, "u-1").expect(201);
        let a = format!("{BOOKINGS}/a");
        assert_eq!(operator.get(&a).expect(200).json(), client.get(&a).expect(200).json());
        let extend = |operator: &mut Client, seconds: &str| {
            operator.ask("POST", &format!("{a}/extend"), Some(&format!("{{\"seconds\":{seconds}}}")))
        };
        let held = extend(&mut operator, "100").expect(200).json();
        assert_eq!(held, client.get(&a).expect(200).json());
        extend(&mut operator, "121").expect_problem(409, "hold-limit");
        extend(&mut operator, "0").expect_problem(400, "bad-request");
        for _ in 0..2 {
            let paid = operator.ask("POST", &format!("{a}/confirm"), None).expect(200).json();
            assert_eq!((&paid["status"], &paid["quantity"]), (&json!("confirmed"), &json!(2)));
        }
        extend(&mut operator, "100").expect_problem(409, "booking-confirmed");
        for _ in 0..2 {
            let back = operator.ask("DELETE", &a, None).expect(200).json();
            assert_eq!(back["status"], "cancelled");
        }
        operator.ask("POST", &format!("{a}/confirm"), None).expect_problem(409, "booking-cancelled");
        for asked in [("GET", ""), ("DELETE", ""), ("POST", "/confirm")] {
            let path = format!("{BOOKINGS}/nobody{}", asked.1);
            operator.ask(asked.0, &path, None).expect_problem(404, "no-such-booking");
            let path = format!("/v1/sales/other/bookings/a{}", asked.1);
            operator.ask(asked.0, &path, None).expect_problem(404, "no-such-sale");
        }
        // The tickets are there for others at once, here as well.
        book(&mut client, "c", 4, "u-2").expect(201);

        let log = |query: &str| {
            let path = format!("/v1/sales/ticket/log{query}");
            host.operator().get(&path).expect(200).json()["entries"].as_array().unwrap().clone()
        };
        let entries = log("");
        let told: Vec<_> = entries.iter().map(|it| (it["booking"].as_str(), it["status"].as_str())).collect();
        let expected = [
            ("a", "held"),
            ("b", "held"),
            ("a", "held"),
            ("a", "confirmed"),
            ("a", "cancelled"),
            ("c", "held"),
        ];
        assert_eq!(told, expected.map(|(id, status)| (Some(id), Some(status))));
        assert_eq!(log("?after=4"), entries[4..]);
        assert_eq!(log("?after=6"), [Value::Null; 0]);
        operator.get("/v1/sales/ticket/log?after=x").expect_problem(400, "bad-request");
        operator.get("/v1/sales/other/log").expect_problem(404, "no-such-sale");
        operator.ask("DELETE", &format!("{BOOKINGS}/b"), None).expect(200);
        operator.ask("DELETE", &format!("{BOOKINGS}/c"), None).expect(200);
    });
}
