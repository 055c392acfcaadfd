//! What is asked on one connection is carried out in that order, however much of it comes in one packet.

use serde_json::Value;

use crate::support::client::{Client, Response};
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::one_core;
use crate::support::redis_server::RedisServer;
use crate::support::turn;

/// A request about a booking of the sale `concert`.
fn about(method: &str, id: &str, behind: &str) -> String {
    format!(
        "{method} /v1/sales/concert/bookings/{id}{behind} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    )
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Sends all of it in one write, and reads an answer to each.
fn pipeline(client: &mut Client, requests: &[String]) -> Vec<Response> {
    client.send(requests.concat()).unwrap();
    requests.iter().map(|_| client.receive().unwrap()).collect()
}

/// Each answer as its status and what it says of the booking.
fn told(answers: &[Response]) -> Vec<(u16, String)> {
    let word = |json: Value| {
        let word = json["status"].as_str().or(json["type"].as_str()).unwrap_or_default();
        word.trim_start_matches("/problems/").to_owned()
    };
    answers.iter().map(|answer| (answer.status, word(answer.json()))).collect()
}

#[test]
fn deeds_in_one_packet_are_done_in_its_order() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    for ledger in ["sqlite:order.db", &redis.url()] {
        let sales = ["--sale", "concert=1000,hold=1h", "--sale", "ticket=100", "--sale", "last=1"];
        // One loop: another one could be at the sale's level when an answer brings the next.
        let words = ["--cores", &one_core(), "--ledger", ledger];
        let host = Host::start(folder.path(), &[&words[..], &sales[..]].concat());
        let mut client = host.client();
        let [put, confirm, cancel, look] = [("PUT", ""), ("POST", "/confirm"), ("DELETE", ""), ("GET", "")]
            .map(|(method, behind)| move |id: &str| about(method, id, behind));

        let answers = pipeline(
            &mut client,
            &[look("a"), put("a"), put("a"), confirm("a"), look("a"), cancel("a"), confirm("a"), look("a")],
        );
        let expected = [
            (404, "no-such-booking"),
            (201, "held"),
            (200, "held"),
            (200, "confirmed"),
            (200, "confirmed"),
            (200, "cancelled"),
            (409, "booking-cancelled"),
            (200, "cancelled"),
        ];
        assert_eq!(told(&answers), expected.map(|(status, word)| (status, word.to_owned())), "{ledger}");

        // The last ticket comes back, shows, and is sold again. It cannot be without the one before.
        let sold = client.ask("PUT", "/v1/sales/last/bookings/first", None).expect(201);
        assert_eq!(sold.json()["status"], "confirmed");
        let back = "DELETE /v1/sales/last/bookings/first HTTP/1.1\r\nHost: h\r\n\r\n".to_owned();
        let answers = pipeline(&mut client, &[back, get("/v1/sales/last"), get("/buy/last")]);
        assert_eq!(answers[0].json()["status"], "cancelled");
        assert_eq!(answers[1].json()["available"], 1, "{ledger}: {}", answers[1].text());
        assert_eq!(answers[2].json()["code"], 1, "{ledger}: {}", answers[2].text());

        // Bookings without ids of the clients' go on beside each other; what shows the sale follows them.
        let bought =
            pipeline(&mut client, &[vec![get("/buy/ticket"); 16], vec![get("/v1/sales/ticket")]].concat());
        assert!(bought[..16].iter().all(|answer| answer.json()["code"] == 1), "{ledger}");
        assert_eq!(bought[16].json()["available"], 84, "{ledger}");
        for sale in ["concert", "ticket", "last"] {
            assert_audit_agrees(folder.path(), sale, ledger);
        }
    }
}

#[test]
fn the_last_that_a_client_heard_is_what_the_ledger_has() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    for ledger in ["sqlite:order.db", &redis.url()] {
        let host = Host::start(folder.path(), &["--ledger", ledger, "--sale", "concert=1000,hold=1h"]);
        let address = host.address;
        let crowd: Vec<_> = (0..8)
            .map(|number| {
                std::thread::spawn(move || {
                    let (mut client, mut other) = (Client::connect(address), Client::connect(address));
                    let mut state = 88_172_645_463_325_252_u64 + number;
                    for round in 0..40 {
                        let id = format!("c{number}-{round}");
                        pipeline(&mut client, &[about("PUT", &id, "")]);
                        let requests = (0..6).map(|_| {
                            // xorshift: another mixture each time, and the same in each run.
                            state ^= state << 13;
                            state ^= state >> 7;
                            state ^= state << 17;
                            match state % 4 {
                                0 => about("DELETE", &id, ""),
                                1 => about("POST", &id, "/confirm"),
                                2 => about("PUT", &id, ""),
                                _ => about("GET", &id, ""),
                            }
                        });
                        let requests: Vec<_> = requests.collect();
                        let answers = told(&pipeline(&mut client, &requests));
                        let heard = answers.iter().rev().find(|(status, _)| *status < 300);
                        let found = other.get(&format!("/v1/sales/concert/bookings/{id}")).expect(200);
                        assert_eq!(
                            heard.map(|(_, status)| status.as_str()),
                            found.json()["status"].as_str(),
                            "{id}: {requests:?} {answers:?}"
                        );
                    }
                })
            })
            .collect();
        crowd.into_iter().for_each(|client| client.join().unwrap());
        assert_audit_agrees(folder.path(), "concert", ledger);
    }
}
