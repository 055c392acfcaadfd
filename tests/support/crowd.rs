//! Many buyers at once, and what each of them was told. Bounded in requests and in time.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Client, Response};

/// How long a crowd goes on at most, whatever the server does.
const CROWD_LIMIT: Duration = Duration::from_secs(300);

/// What a crowd without ids was told at `/buy/{sale}`.
#[derive(Debug, Default)]
pub struct Rush {
    /// The booking ids of the answers with code 1.
    pub granted: Vec<String>,
    /// Answers with code -1.
    pub sold_out: u64,
    /// Every other answer, and every connection that broke.
    pub wrong: Vec<String>,
}

/// `clients` connections, each to one of the hosts in turn, buy `each` times at `/buy/{sale}`; every answer is read.
/// Up to `depth` requests are on the way on a connection (1: no pipelining).
pub fn rush(hosts: &[SocketAddr], sale: &str, clients: usize, each: usize, depth: usize) -> Rush {
    let buyers: Vec<JoinHandle<Rush>> = (0..clients)
        .map(|buyer| {
            let host = hosts[buyer % hosts.len()];
            let request = format!("GET /buy/{sale} HTTP/1.1\r\nHost: tickets\r\n\r\n");
            std::thread::spawn(move || {
                let mut told = Rush::default();
                if let Err(error) = buy(host, &request, each, depth, &mut told) {
                    told.wrong.push(format!("buyer {buyer}: {error}"));
                }
                told
            })
        })
        .collect();
    let mut all = Rush::default();
    for buyer in buyers {
        let told = buyer.join().expect("a buyer does not panic");
        all.granted.extend(told.granted);
        all.sold_out += told.sold_out;
        all.wrong.extend(told.wrong);
    }
    all
}

fn buy(host: SocketAddr, request: &str, each: usize, depth: usize, told: &mut Rush) -> io::Result<()> {
    let started = Instant::now();
    let mut client = Client::try_connect(host)?;
    let mut left = each;
    while left > 0 && started.elapsed() < CROWD_LIMIT {
        let batch = left.min(depth);
        client.send(request.repeat(batch))?;
        let mut unavailable = 0;
        for _ in 0..batch {
            let answer = client.receive()?;
            let body = answer.json();
            match (answer.status, body["code"].as_i64(), body["data"]["booking"].as_str()) {
                (200, Some(1), Some(booking)) => told.granted.push(booking.to_owned()),
                (200, Some(-1), None) => told.sold_out += 1,
                // Nothing was booked: the ledger stood still, with all permits on their way to it.
                (503, ..) if answer.text().contains("/ledger-unavailable") => unavailable += 1,
                _ => told.wrong.push(format!("{} {}", answer.status, answer.text())),
            }
        }
        left -= batch - unavailable;
    }
    if left > 0 {
        told.wrong.push(format!("{left} requests left after {CROWD_LIMIT:?}"));
    }
    Ok(())
}

/// What became of one id in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The buyer was told that it is booked.
    Granted,
    /// The buyer was told that the sale is sold out.
    SoldOut,
}

/// What an insisting crowd was told.
#[derive(Debug, Default)]
pub struct Told {
    /// The last word on each id.
    pub fates: BTreeMap<String, Fate>,
    /// Answers 201: booked now.
    pub created: u64,
    /// Answers 200: booked before, told again.
    pub replayed: u64,
    /// Answers 503, each with its Retry-After.
    pub unavailable: u64,
    /// Requests whose connection broke before the answer, or could not be opened.
    pub lost: u64,
    /// The longest that any answer took.
    pub slowest: Duration,
    /// Answers that should not be.
    pub wrong: Vec<String>,
}

impl Told {
    /// The ids that are booked, as far as the crowd was told.
    pub fn granted(&self) -> Vec<&str> {
        let granted = self.fates.iter().filter(|(_, fate)| **fate == Fate::Granted);
        granted.map(|(id, _)| id.as_str()).collect()
    }
}

/// A crowd that never gives up: each buyer books `ids_each` ids of its own, one after the other, and sends each
/// again, with the same id, until it is told that it is booked or that the sale is sold out.
pub struct Insisting {
    buyers: Vec<JoinHandle<Told>>,
    granted: Arc<AtomicU64>,
}

impl Insisting {
    /// Starts it. Buyers take the hosts in turn, and the next one whenever a connection breaks.
    pub fn start(hosts: &[SocketAddr], sale: &str, buyers: usize, ids_each: usize) -> Insisting {
        let granted = Arc::new(AtomicU64::new(0));
        let buyers = (0..buyers).map(|buyer| {
            let (hosts, sale, granted) = (hosts.to_vec(), sale.to_owned(), Arc::clone(&granted));
            std::thread::spawn(move || insist(&hosts, &sale, buyer, ids_each, &granted))
        });
        Insisting { buyers: buyers.collect(), granted }
    }

    /// How many ids were told as booked so far.
    pub fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Waits until that many ids were told as booked.
    pub fn wait_for_granted(&self, count: u64) {
        super::eventually("the crowd gets tickets", Duration::from_secs(30), || {
            (self.granted() >= count).then_some(())
        });
    }

    /// Waits until every buyer is done.
    pub fn finish(self) -> Told {
        let mut all = Told::default();
        for buyer in self.buyers {
            let told = buyer.join().expect("a buyer does not panic");
            all.fates.extend(told.fates);
            all.created += told.created;
            all.replayed += told.replayed;
            all.unavailable += told.unavailable;
            all.lost += told.lost;
            all.slowest = all.slowest.max(told.slowest);
            all.wrong.extend(told.wrong);
        }
        all
    }
}

fn insist(hosts: &[SocketAddr], sale: &str, buyer: usize, ids_each: usize, granted: &AtomicU64) -> Told {
    let started = Instant::now();
    let mut told = Told::default();
    let mut connection: Option<Client> = None;
    let mut host = buyer;
    for number in 0..ids_each {
        let id = format!("buyer-{buyer}-{number}");
        loop {
            if started.elapsed() > CROWD_LIMIT {
                told.wrong.push(format!("{id}: no last word after {CROWD_LIMIT:?}"));
            }
            if !told.wrong.is_empty() {
                return told;
            }
            let asked = Instant::now();
            let address = hosts[host % hosts.len()];
            let answer =
                connection.take().map_or_else(|| Client::try_connect(address), Ok).and_then(|mut client| {
                    let answer = client.try_ask(
                        "PUT",
                        &format!("/v1/sales/{sale}/bookings/{id}"),
                        Some("{\"quantity\":1}"),
                    )?;
                    if !answer.closes() {
                        connection = Some(client);
                    }
                    Ok(answer)
                });
            let Ok(answer) = answer else {
                told.lost += 1;
                host += 1;
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            told.slowest = told.slowest.max(asked.elapsed());
            match read(&answer, &id, &mut told) {
                Some(fate) => {
                    if fate == Fate::Granted {
                        granted.fetch_add(1, Ordering::Relaxed);
                    }
                    told.fates.insert(id, fate);
                    break;
                }
                // Sooner than Retry-After says, to be a nuisance, but not in a busy loop.
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
    told
}

/// The last word on the id, if this is one.
fn read(answer: &Response, id: &str, told: &mut Told) -> Option<Fate> {
    let body = answer.json();
    let replayed = answer.field("idempotency-replayed");
    match (answer.status, body["type"].as_str()) {
        (201, None) if body["booking"] == id && replayed.is_none() => told.created += 1,
        (200, None) if body["booking"] == id && replayed == Some("true") => told.replayed += 1,
        (409, Some("/problems/sold-out")) => return Some(Fate::SoldOut),
        (409, Some("/problems/in-progress")) if answer.field("retry-after").is_some() => return None,
        (
            503,
            Some("/problems/ledger-unavailable" | "/problems/outcome-unknown" | "/problems/overloaded"),
        ) if answer.field("retry-after").is_some() => {
            told.unavailable += 1;
            return None;
        }
        _ => {
            told.wrong.push(format!("{id}: {} {:?} {}", answer.status, answer.fields, answer.text()));
            return None;
        }
    }
    Some(Fate::Granted)
}
