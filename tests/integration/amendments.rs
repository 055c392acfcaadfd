//! Bookings that are changed by their clients: holds extended, tickets released, expired bookings held again; repeated, and
//! raced with each other and with expiry on two hosts.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::both_ledgers::on_both_ledgers;
use crate::support::client::{Client, Response};
use crate::support::eventually;
use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

const BOOKINGS: &str = "/v1/sales/ticket/bookings";

fn ask(client: &mut Client, id: &str, what: &str, body: &str) -> Response {
    client.ask("POST", &format!("{BOOKINGS}/{id}/{what}"), Some(body))
}

fn extend(client: &mut Client, id: &str, seconds: u64) -> Response {
    ask(client, id, "extend", &format!("{{\"seconds\":{seconds}}}"))
}

fn release(client: &mut Client, id: &str, remaining: u64) -> Response {
    ask(client, id, "release", &format!("{{\"remaining\":{remaining}}}"))
}

#[test]
fn a_hold_is_extended_as_far_as_the_sale_allows() {
    on_both_ledgers("ticket=5,hold=2m,hold-max=10m", |host| {
        let mut client = host.client();
        let booked = client.put(&format!("{BOOKINGS}/a"), "{\"quantity\":2}").expect(201).json();
        assert_eq!(extend(&mut client, "a", 5).expect(200).json(), booked, "it ends no earlier than it did");
        let longer = extend(&mut client, "a", 300).expect(200).json();
        assert!(longer["expires_at"].as_str() > booked["expires_at"].as_str(), "{longer}");
        assert_eq!(client.get(&format!("{BOOKINGS}/a")).expect(200).json(), longer);
        assert_eq!(extend(&mut client, "a", 60).expect(200).json(), longer);
        extend(&mut client, "a", 601).expect_problem(409, "hold-limit");
        assert_eq!(client.get(&format!("{BOOKINGS}/a")).expect(200).json(), longer, "nothing was changed");
        extend(&mut client, "nobody", 60).expect_problem(404, "no-such-booking");
        extend(&mut client, "a", 0).expect_problem(400, "bad-request");
        ask(&mut client, "a", "extend", "").expect_problem(400, "bad-request");
        ask(&mut client, "a", "confirm", "").expect(200);
        extend(&mut client, "a", 60).expect_problem(409, "booking-confirmed");
        client.ask("DELETE", &format!("{BOOKINGS}/a"), None).expect(200);
        extend(&mut client, "a", 60).expect_problem(409, "booking-cancelled");
        // Without a longest hold there are no extensions.
        client.put(&format!("{BOOKINGS}/b"), "{}").expect(201);
        let terms =
            host.operator().ask("PUT", "/v1/sales/ticket", Some("{\"hold_max_seconds\":null}")).expect(200);
        assert_eq!(terms.json().get("hold_max_seconds"), None);
        extend(&mut client, "b", 121).expect_problem(409, "hold-limit");
    });
}

#[test]
fn a_release_says_what_remains_and_what_came_back_is_sold() {
    on_both_ledgers("ticket=4,hold=1m,per-buyer=3", |host| {
        let mut client = host.client();
        let three = "{\"quantity\":3,\"buyer\":\"u-1\"}";
        client.put(&format!("{BOOKINGS}/a"), three).expect(201);
        client.put(&format!("{BOOKINGS}/b"), "{\"quantity\":2}").expect_problem(409, "sold-out");
        for _ in 0..2 {
            let fewer = release(&mut client, "a", 2).expect(200).json();
            assert_eq!((&fewer["quantity"], &fewer["status"]), (&json!(2), &json!("held")), "{fewer}");
        }
        release(&mut client, "a", 3).expect_problem(409, "not-a-release");
        let said = release(&mut client, "a", 0).expect_problem(400, "bad-request");
        assert!(said["detail"].to_string().contains("DELETE"), "{said}");
        eventually("what came back is sold", Duration::from_secs(5), || {
            client.put(&format!("{BOOKINGS}/b"), "{\"quantity\":2}").is_booked().then_some(())
        });
        // The first request again: the booking as it is, and nothing of what was given back.
        let again = client.put(&format!("{BOOKINGS}/a"), three).expect(200);
        assert_eq!(
            (again.field("idempotency-replayed"), &again.json()["quantity"]),
            (Some("true"), &json!(2))
        );
        client
            .put(&format!("{BOOKINGS}/a"), "{\"quantity\":2,\"buyer\":\"u-1\"}")
            .expect_problem(422, "id-reused");
        ask(&mut client, "a", "confirm", "").expect(200);
        let one = release(&mut client, "a", 1).expect(200).json();
        assert_eq!((&one["quantity"], &one["status"]), (&json!(1), &json!("confirmed")));
        // Its buyer may have others instead.
        eventually("the buyer has room", Duration::from_secs(5), || {
            client
                .put(&format!("{BOOKINGS}/c"), "{\"quantity\":1,\"buyer\":\"u-1\"}")
                .is_booked()
                .then_some(())
        });
        let sale = host.operator().get("/v1/sales/ticket").expect(200).json();
        assert_eq!((&sale["held"], &sale["sold"]), (&json!(3), &json!(1)), "{sale}");
    });
}

#[test]
fn an_expired_booking_is_held_again_only_by_asking_for_it() {
    on_both_ledgers("ticket=2,hold=400ms,per-buyer=2", |host| {
        let mut client = host.client();
        let two = "{\"quantity\":2,\"buyer\":\"u-1\"}";
        client.put(&format!("{BOOKINGS}/a"), two).expect(201);
        let expired = |client: &mut Client| {
            eventually("the hold is over", Duration::from_secs(5), || {
                let status = client.get(&format!("{BOOKINGS}/a")).expect(200).json()["status"].clone();
                (status == "expired").then_some(())
            });
        };
        expired(&mut client);
        let late = client.put(&format!("{BOOKINGS}/a"), two).expect(200).json();
        assert_eq!(late["status"], "expired", "a late repeat of the first try");
        extend(&mut client, "a", 1).expect_problem(409, "hold-expired");
        release(&mut client, "a", 1).expect_problem(409, "hold-expired");
        let again = ask(&mut client, "a", "hold", "").expect(200).json();
        assert_eq!((&again["status"], &again["quantity"]), (&json!("held"), &json!(2)));
        expired(&mut client);
        eventually("somebody else has it", Duration::from_secs(5), || {
            client.put(&format!("{BOOKINGS}/b"), "{}").is_booked().then_some(())
        });
        ask(&mut client, "b", "confirm", "").expect(200);
        ask(&mut client, "a", "hold", "").expect_problem(409, "sold-out");
        host.operator().ask("PUT", "/v1/sales/ticket", Some("{\"total\":9}")).expect(200);
        eventually("its buyer has others", Duration::from_secs(5), || {
            client.put(&format!("{BOOKINGS}/c"), "{\"buyer\":\"u-1\"}").is_booked().then_some(())
        });
        ask(&mut client, "c", "confirm", "").expect(200);
        ask(&mut client, "a", "hold", "").expect_problem(409, "buyer-limit");
        client.ask("DELETE", &format!("{BOOKINGS}/c"), None).expect(200);
        host.operator().ask("POST", "/v1/sales/ticket/pause", None).expect(200);
        ask(&mut client, "a", "hold", "").expect_problem(403, "not-on-sale");
        host.operator().ask("POST", "/v1/sales/ticket/resume", None).expect(200);
        ask(&mut client, "b", "hold", "").expect_problem(409, "booking-confirmed");
        ask(&mut client, "c", "hold", "").expect_problem(409, "booking-cancelled");
        ask(&mut client, "nobody", "hold", "").expect_problem(404, "no-such-booking");
        ask(&mut client, "a", "hold", "").expect(200);
    });
}

/// Everything at once, of few bookings with short holds, each request by two clients, of two hosts.
#[test]
fn changes_raced_with_each_other_and_with_expiry_on_two_hosts_add_up() {
    const IDS: u64 = 24;
    const ROUNDS: u64 = 40;
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let terms = "ticket=40,hold=30ms,hold-max=2s,per-buyer=30";
    let host = || Host::start(folder.path(), &["--ledger", &redis.url(), "--sale", terms]);
    let hosts = [host(), host()];
    let fewest: Vec<std::sync::Mutex<u64>> = (0..IDS).map(|_| std::sync::Mutex::new(u64::MAX)).collect();
    let statuses = std::sync::Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for number in 0..4_u64 {
            let (address, fewest, statuses) = (hosts[number as usize % 2].address, &fewest, &statuses);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                // Pairs of clients go through the same steps, on different hosts.
                let mut chance = number / 2 + 1;
                let mut pick = |below: u64| {
                    chance = chance
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (chance >> 33) % below
                };
                for _ in 0..IDS * ROUNDS {
                    let n = pick(IDS);
                    let id = format!("b-{n}");
                    let (remaining, what) = (1 + pick(3), pick(9));
                    let told = match what {
                        0 | 1 => client.put(
                            &format!("{BOOKINGS}/{id}"),
                            &format!("{{\"quantity\":3,\"buyer\":\"u-{}\"}}", n % 3),
                        ),
                        2 | 3 => extend(&mut client, &id, 1),
                        4 => release(&mut client, &id, remaining),
                        5 | 6 => ask(&mut client, &id, "hold", ""),
                        7 => ask(&mut client, &id, "confirm", ""),
                        _ if n % 4 == 0 => client.ask("DELETE", &format!("{BOOKINGS}/{id}"), None),
                        _ => client.get(&format!("{BOOKINGS}/{id}")),
                    };
                    let body = told.json();
                    let name = body["type"].as_str().unwrap_or_default().to_owned();
                    statuses.lock().unwrap().insert((what, told.status, name));
                    if let Some(quantity) = body["quantity"].as_u64() {
                        let mut fewest = fewest[n as usize].lock().unwrap();
                        *fewest = quantity.min(*fewest);
                    }
                }
            });
        }
    });
    let mut clients = [hosts[0].client(), hosts[1].client()];
    let mut sold = 0;
    for (n, fewest) in fewest.iter().enumerate() {
        let path = format!("{BOOKINGS}/b-{n}");
        let last = eventually("its hold is over", Duration::from_secs(10), || {
            let last = clients[0].get(&path).json();
            (last["status"] != "held").then_some(last)
        });
        assert_eq!(clients[1].get(&path).json(), last);
        if let Some(quantity) = last["quantity"].as_u64() {
            assert!(quantity <= *fewest.lock().unwrap(), "told of fewer tickets than {last}");
            sold += if last["status"] == "confirmed" { quantity } else { 0 };
        }
    }
    let sale = eventually("all is counted", Duration::from_secs(10), || {
        let sale = hosts[0].operator().get("/v1/sales/ticket").expect(200).json();
        (sale["held"] == 0).then_some(sale)
    });
    assert_eq!(sale["sold"], sold, "{sale}");
    let statuses = statuses.into_inner().unwrap();
    let was = |what: std::ops::Range<u64>, status| {
        statuses.iter().any(|(its, code, _)| what.contains(its) && *code == status)
    };
    assert!(was(2..4, 200) && was(4..5, 200) && was(5..7, 200) && was(2..7, 409), "{statuses:?}");
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// As a consumer reads them: the same status again, with another deadline or fewer tickets.
#[test]
fn the_log_has_an_entry_for_each_change_and_none_for_a_repeat() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    for ledger in ["sqlite:log.db", &redis.url()] {
        let mut host =
            Host::start(folder.path(), &["--ledger", ledger, "--sale", "ticket=9,hold=1m,hold-max=1h"]);
        let mut client = host.client();
        client.put(&format!("{BOOKINGS}/a"), "{\"quantity\":3}").expect(201);
        for _ in 0..2 {
            release(&mut client, "a", 2).expect(200);
            ask(&mut client, "a", "hold", "").expect(200);
        }
        extend(&mut client, "a", 600).expect(200);
        extend(&mut client, "a", 1).expect(200);
        ask(&mut client, "a", "confirm", "").expect(200);
        release(&mut client, "a", 1).expect(200);
        host.stop();
        let said = boxoffice(folder.path(), &["sale", "log", "ticket", "--ledger", ledger]).expect(0);
        let entries: Vec<Value> = said
            .said
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let told: Vec<_> = entries
            .iter()
            .map(|it| (it["status"].as_str().unwrap(), it["quantity"].as_u64().unwrap()))
            .collect();
        assert_eq!(told, [("held", 3), ("held", 2), ("held", 2), ("confirmed", 2), ("confirmed", 1)]);
        assert_eq!(entries[0]["expires_at"], entries[1]["expires_at"]);
        assert!(entries[1]["expires_at"].as_str() < entries[2]["expires_at"].as_str());
    }
}
