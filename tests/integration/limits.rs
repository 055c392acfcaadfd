//! Limits and overload on real sockets: who is refused, that the others do not notice, and what is counted.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use boxoffice::limits::ACCEPT_PAUSE_MS;

use crate::support::client::Client;
use crate::support::host::Host;
use crate::support::nginx::Nginx;
use crate::support::turn;
use crate::support::{eventually, one_core};

struct Site {
    folder: tempfile::TempDir,
    host: Host,
}

/// A host with a sale that is sold out, and these limits.
fn site(limits: &[&str]) -> Site {
    site_with(&[], limits)
}

fn site_with(words: &[&str], limits: &[&str]) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let mut words = [&["--sale", "gone=0"], words].concat();
    limits.iter().for_each(|limit| words.extend(["--limit", limit]));
    let host = Host::start(folder.path(), &words);
    Site { folder, host }
}

impl Site {
    fn met(&self, limit: &str) -> f64 {
        self.host.metrics()[&format!("boxoffice_limits_met_total{{limit=\"{limit}\"}}")]
    }

    /// A client that is served.
    fn served(&self) -> Client {
        let mut client = self.host.client();
        client.get("/buy/gone").expect(200);
        client
    }

    /// Ends a client, and waits until a new one is served in its place.
    fn replace(&self, client: Client) -> Client {
        drop(client);
        eventually("a place that is given back", Duration::from_secs(10), || {
            let mut client = self.host.client();
            matches!(client.try_ask("GET", "/buy/gone", None), Ok(answer) if answer.status == 200)
                .then_some(client)
        })
    }
}

/// The canned refusal, said unasked, and the end.
#[track_caller]
fn is_refused(mut client: Client) {
    let answer = client.receive().unwrap();
    answer.expect_problem(503, "overloaded");
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert!(answer.closes() && client.at_end());
}

#[test]
fn past_the_limit_of_connections_newcomers_are_refused_and_nobody_else_is() {
    let _turn = turn::shared();
    let site = site(&["connections=8"]);
    // The kernel deals them out by hash: some loop has more than its half of them.
    let mut clients: Vec<_> = (0..8).map(|_| site.served()).collect();
    for _ in 0..20 {
        is_refused(site.host.client());
        clients.iter_mut().for_each(|client| drop(client.get("/buy/gone").expect(200)));
    }
    assert_eq!(site.met("connections"), 20.0);
    let metrics = site.host.metrics();
    let sum = |name: &str| -> f64 {
        metrics.iter().filter(|(sample, _)| sample.starts_with(name)).map(|(_, value)| value).sum()
    };
    assert_eq!((sum("boxoffice_connections_refused_total"), sum("boxoffice_connections_open")), (20.0, 8.0));
    let last = clients.pop().unwrap();
    clients.push(site.replace(last));
    is_refused(site.host.client());
    clients.iter_mut().for_each(|client| drop(client.get("/buy/gone").expect(200)));
}

#[test]
fn past_the_limit_of_one_address_others_are_let_in() {
    let _turn = turn::shared();
    let site = site(&["address-connections=2"]);
    let mut clients = vec![site.served(), site.served()];
    is_refused(site.host.client());
    for last in [2, 3] {
        let mut other = Client::connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), site.host.address);
        other.get("/buy/gone").expect(200);
        clients.push(other);
    }
    assert_eq!(site.met("address-connections"), 1.0);
    clients.iter_mut().for_each(|client| drop(client.get("/buy/gone").expect(200)));
    let first = clients.swap_remove(0);
    clients.push(site.replace(first));
    is_refused(site.host.client());
}

#[test]
fn buffers_that_are_full_of_half_requests_cost_those_who_come_later_and_only_as_long() {
    let _turn = turn::shared();
    let limits = ["target-bytes=256", "head-bytes=1KiB", "body-bytes=512", "unsent-bytes=1KiB"];
    // Time enough for a busy machine to bring all of them before the first one is over.
    let times = ["buffered-bytes=16KiB", "body-time=5s"];
    let site = site_with(&["--cores", &one_core()], &[&limits[..], &times].concat());
    // 16 half requests are all that a loop holds: of 40 the others are refused.
    let mut slow: Vec<_> = (0..40).map(|_| site.host.client()).collect();
    for client in &mut slow {
        // Errors are those of connections that are refused by then.
        let _ =
            client.send("PUT /v1/sales/gone/bookings/a HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{");
    }
    let answers: Vec<_> =
        slow.iter_mut().map(|client| client.receive().map(|answer| answer.status)).collect();
    let count = |status| answers.iter().filter(|answer| matches!(answer, Ok(it) if *it == status)).count();
    assert_eq!(count(408) + count(503), 40, "{answers:?}");
    assert!(count(408) >= 16 && count(503) > 0, "{answers:?}");
    assert_eq!((site.met("buffered-bytes"), site.met("body-time")), (count(503) as f64, count(408) as f64));
    site.served();
}

#[test]
fn slow_and_silent_clients_are_cut_as_configured() {
    let _turn = turn::shared();
    // The slow one begins before it counts as silent, however busy the machine is.
    let site = site(&["head-time=2s", "idle-time=4s", "linger=100ms"]);
    let mut silent = site.served();
    let mut slow = site.host.client();
    let mut unasked = site.host.client();
    slow.send("GET /buy").unwrap();
    slow.receive().unwrap().expect_problem(408, "http");
    assert!(slow.at_end());
    // Nobody has asked it for anything: it ends without a word, long before it counts as idle.
    assert!(unasked.at_end());
    assert_eq!(site.met("idle-time"), 0.0);
    assert!(silent.at_end());
    eventually("all four are counted", Duration::from_secs(10), || {
        let counts = ["head-time", "idle-time", "linger"].map(|limit| site.met(limit));
        (counts == [2.0, 1.0, 1.0]).then_some(())
    });
    assert_eq!(site.host.metrics()["boxoffice_connections_cut_total{reason=\"unasked\"}"], 1.0);
}

#[test]
fn behind_nginx_a_limit_of_requests_is_not_noticed() {
    let _turn = turn::shared();
    let site = site(&["requests=5"]);
    let folder = site.folder.path().join("nginx");
    std::fs::create_dir(&folder).unwrap();
    let nginx = Nginx::start(&folder, &[site.host.address; 4]);
    let mut client = Client::connect(nginx.address);
    for _ in 0..200 {
        client.get("/buy/gone").expect(200);
    }
    // Nginx keeps connections, or there would be none that has come to its last request.
    assert!(site.met("requests") >= 20.0, "{}", site.met("requests"));
    nginx.stop();
}

#[test]
fn without_descriptors_a_host_waits_without_spinning_and_goes_on_afterwards() {
    let _turn = turn::alone();
    let mut site = site(&[]);
    let mut client = site.served();
    // Those that the kernel has completed wait in the listener's queue; each that arrives raises an event.
    let begun = Instant::now();
    site.host.process.limit_descriptors(site.host.process.descriptors());
    let mut waiting: Vec<_> = (0..50).map(|_| site.host.client()).collect();
    let (started, ticks) = (Instant::now(), site.host.process.cpu_time());
    while started.elapsed() < Duration::from_millis(1_500) {
        client.get("/buy/gone").expect(200);
        waiting.push(site.host.client());
        std::thread::sleep(Duration::from_millis(10));
    }
    let (wall, used) = (started.elapsed(), site.host.process.cpu_time() - ticks);
    assert!(used < wall / 2, "{used:?} of CPU time in {wall:?}");
    site.host.process.limit_descriptors(10_000);
    let starved = begun.elapsed();
    for client in &mut waiting {
        client.get("/buy/gone").expect(200);
    }
    client.get("/buy/gone").expect(200);
    let metrics = site.host.metrics();
    let failures = metrics.iter().filter(|(name, _)| name.starts_with("boxoffice_accept_failures_total"));
    let failures: f64 = failures.map(|(_, count)| count).sum();
    // One each pause, not one for each of the newcomers.
    let loops = site.host.loops();
    let pauses = starved.as_millis() as f64 / ACCEPT_PAUSE_MS as f64;
    let most = loops as f64 * (pauses + 2.0);
    assert!((2.0..=most).contains(&failures), "{failures} failures, {} newcomers", waiting.len());
    site.host.stop();
    let said = site.host.process.lines_with(&["cannot accept connections"]);
    assert!((1..=loops).contains(&said), "{}", site.host.process.said());
}
