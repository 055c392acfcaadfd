//! Everything at once, as it is on the day: four hosts of weights 1 to 4 behind nginx, on a Redis that sentinels watch, and while
//! a crowd buys a host is killed and comes back, another drains, and the primary is killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::crowd::rush;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::nginx::Nginx;
use crate::support::sentinels::SentinelSet;
use crate::support::{PATIENCE, eventually, free_port, turn};

/// How long a host that drains goes on accepting connections.
const DELAY: Duration = Duration::from_millis(1_500);

/// Nobody is taken for dead because the machine is busy.
const DOWN_AFTER: &str = "sentinel down-after-milliseconds mymaster 2000";

/// What buyers hear, told as it comes.
#[derive(Default)]
struct Heard {
    stop: AtomicBool,
    granted: AtomicU64,
    /// Anything that is no success while the ledger is there, which nginx should have kept from its client.
    wrong: std::sync::Mutex<Vec<String>>,
}

impl Heard {
    /// What went wrong since it was asked last, but for what was said of a ledger that is away, where that is so.
    fn take_wrong(&self, ledger_is_away: bool) -> Vec<String> {
        let mut wrong = std::mem::take(&mut *self.wrong.lock().unwrap());
        if ledger_is_away {
            let of_ledger = ["/ledger-unavailable", "/outcome-unknown", "/overloaded", "/in-progress"];
            wrong.retain(|text| !of_ledger.iter().any(|problem| text.contains(problem)));
        }
        wrong
    }

    fn wait_for(&self, more: u64) {
        let wanted = self.granted.load(Ordering::Relaxed) + more;
        eventually("the crowd gets tickets", PATIENCE, || {
            (self.granted.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }
}

/// A buyer of one ticket after the other, who asks again until it is booked; gives all ids that are.
fn buy(address: SocketAddr, buyer: usize, heard: &Heard) -> Vec<String> {
    let mut client = Client::connect(address);
    let mut booked = Vec::new();
    while !heard.stop.load(Ordering::Relaxed) {
        let id = format!("buyer-{buyer}-{}", booked.len());
        loop {
            let answer = client.try_ask("PUT", &format!("/v1/sales/ticket/bookings/{id}"), Some("{}"));
            let wrong = match &answer {
                Ok(answer) if answer.is_booked() => break,
                Ok(answer) => format!("{id}: {} {}", answer.status, answer.text()),
                Err(error) => format!("{id}: {error}"),
            };
            heard.wrong.lock().unwrap().push(wrong);
            if answer.map_or(true, |answer| answer.closes()) {
                client = Client::connect(address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        heard.granted.fetch_add(1, Ordering::Relaxed);
        booked.push(id);
    }
    booked
}

fn host(folder: &Path, ledger: &str, port: u16, number: usize) -> Host {
    let (listen, state, weight) =
        (format!("127.0.0.1:{port}"), format!("{number}.state"), (number + 1).to_string());
    let delay = format!("{}ms", DELAY.as_millis());
    let words = ["--listen", &listen, "--ledger", ledger, "--state", &state, "--weight", &weight];
    let terms = ["--sale", "ticket=1000000", "--durability", "replicas=1", "--drain-delay", &delay];
    Host::start(folder, &[&words[..], &terms].concat())
}

/// Every booking that its buyer was told of is there.
fn assert_all_there(host: &Host, ids: &[String]) {
    let mut client = host.client();
    for some in ids.chunks(100) {
        let requests: String = some
            .iter()
            .map(|id| format!("GET /v1/sales/ticket/bookings/{id} HTTP/1.1\r\nHost: t\r\n\r\n"))
            .collect();
        client.send(&requests).unwrap();
        for id in some {
            let answer = client.receive().unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(answer.status, 200, "{id} was acknowledged: {}", answer.text());
        }
    }
}

#[test]
fn four_hosts_of_weights_1_to_4_sell_on_whatever_dies() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut set = SentinelSet::start(&[], &[DOWN_AFTER]);
    set.wait_for_replicas(0, 2);
    let ledger = set.url();
    let ports = [(); 4].map(|()| free_port());
    let start = |number: usize| host(folder.path(), &ledger, ports[number], number);
    let mut hosts: Vec<Host> = (0..4).map(start).collect();
    let addresses = [0, 1, 2, 3].map(|number: usize| hosts[number].address);
    let home = folder.path().join("nginx");
    std::fs::create_dir(&home).unwrap();
    let nginx = Nginx::start(&home, &addresses);
    let all_live = |hosts: &[Host]| {
        eventually("all hosts are there", PATIENCE, || {
            let told = hosts[0].operator().get("/v1/hosts").expect(200).json();
            let live = told["hosts"].as_array().unwrap().iter().filter(|host| host["status"] == "live");
            (live.count() == 4).then_some(())
        });
        // nginx takes a host that refused a connection back after a second.
        std::thread::sleep(Duration::from_millis(1_200));
    };
    all_live(&hosts);

    // By their weights.
    let told = rush(&[nginx.address], "ticket", 10, 100, 1);
    assert_eq!((told.wrong.len(), told.granted.len()), (0, 1_000), "{:?}", told.wrong);

    let heard = Arc::new(Heard::default());
    let buyers: Vec<JoinHandle<Vec<String>>> = (0..8)
        .map(|buyer| {
            let (address, heard) = (nginx.address, Arc::clone(&heard));
            std::thread::spawn(move || buy(address, buyer, &heard))
        })
        .collect();
    heard.wait_for(500);
    let fine = |what: &str| {
        let wrong = heard.take_wrong(false);
        assert!(wrong.is_empty(), "{what}: buyers heard {wrong:?}");
    };

    // The host of the largest share is killed, and revived.
    hosts[3].process.signal(libc::SIGKILL);
    heard.wait_for(1_000);
    hosts[3] = start(3);
    all_live(&hosts);
    fine("a host was killed");

    // Another is told to end, and is started again.
    hosts[1].stop();
    hosts[1] = start(1);
    all_live(&hosts);
    fine("a host was drained");

    // The primary is killed: who asks meanwhile is told so, and to ask again.
    let switched = set.sentinels[0].next_switch();
    set.nodes[0].kill();
    let next = set.wait_for_another(0);
    let named = switched.join().unwrap().unwrap_or_else(Instant::now);
    heard.wait_for(1);
    println!("node {next} is the primary; the first ticket after {:?}", named.elapsed());
    heard.wait_for(1_000);
    for host in &hosts {
        host.expect_ready();
    }
    let wrong = heard.take_wrong(true);
    assert!(wrong.is_empty(), "the primary was killed: buyers heard {wrong:?}");

    heard.stop.store(true, Ordering::Relaxed);
    let mut booked: Vec<String> = buyers.into_iter().flat_map(|buyer| buyer.join().unwrap()).collect();
    let wrong = heard.take_wrong(true);
    assert!(wrong.is_empty(), "afterwards buyers heard {wrong:?}");
    booked.extend(told.granted);
    println!("{} booked", booked.len());
    assert_all_there(&hosts[2], &booked);
    hosts[2].expect_sold("ticket", booked.len() as u64);
    assert_audit_agrees(folder.path(), "ticket", &ledger);

    // Within 1 % of 1,000: nginx looked at nobody else meanwhile.
    let mut shares = BTreeMap::<String, i64>::new();
    for line in nginx.stop().into_iter().take(1_000) {
        *shares.entry(line["host"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for (address, wanted) in addresses.iter().zip([100, 200, 300, 400]) {
        let share = shares.get(&address.to_string()).copied().unwrap_or(0);
        assert!((share - wanted).abs() <= 10, "{share} requests, not {wanted}: {shares:?}");
    }
}
