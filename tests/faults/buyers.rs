//! Buyers who write down every request and every answer: own ids and made ones, several tickets, keep-alive, and the
//! same id again until there is a last word.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::checker::{Booking, Told, Word};
use crate::support::client::{Client, Response};
use crate::support::eventually;

/// How long a buyer insists on an id, at most, before the lack of a last word is held against the server.
const INSISTENCE: Duration = Duration::from_secs(180);

/// Between two requests of a buyer: a crowd, not a benchmark.
const PAUSE: Duration = Duration::from_millis(2);

/// Where hosts are now: those that start again have new ports.
pub type Addresses = Arc<RwLock<Vec<SocketAddr>>>;

/// A crowd that buys until it is told to stop.
pub struct Buyers {
    threads: Vec<JoinHandle<()>>,
    told: Arc<Mutex<Vec<Told>>>,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Buyers {
    /// `count` buyers whose ids begin with `name`, which no other crowd of the sale may have.
    pub fn start(addresses: &Addresses, name: &str, count: usize) -> Buyers {
        let (told, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let threads = (0..count)
            .map(|index| {
                let mut buyer = Buyer {
                    name: format!("{name}-{index}"),
                    host: index,
                    addresses: Arc::clone(addresses),
                    connection: None,
                    told: Arc::clone(&told),
                    acknowledged: Arc::clone(&acknowledged),
                };
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || buyer.buy_until(&stop))
            })
            .collect();
        Buyers { threads, told, acknowledged, stop }
    }

    /// How many answers were "booked", so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` are, than are now.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        let goal = self.acknowledged() + more;
        eventually("buyers get tickets", Duration::from_secs(40), || {
            (self.acknowledged() >= goal).then_some(())
        });
    }

    /// What was told so far.
    pub fn so_far(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets each buyer come to the end of its id, and gives all that they were told.
    pub fn finish(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a buyer does not panic");
        }
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Buyer {
    name: String,
    host: usize,
    addresses: Addresses,
    connection: Option<Client>,
    told: Arc<Mutex<Vec<Told>>>,
    acknowledged: Arc<AtomicU64>,
}

impl Buyer {
    fn buy_until(&mut self, stop: &AtomicBool) {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if number % 4 == 3 {
                // Nothing to insist with: one request, one answer.
                self.ask(None, 1, None);
            } else {
                let id = format!("{}-{number}", self.name);
                let buyer = (number % 2 == 0).then(|| self.name.clone());
                self.insist(&id, 1 + number % 3, buyer.as_deref());
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn insist(&mut self, id: &str, quantity: u64, buyer: Option<&str>) {
        let started = Instant::now();
        loop {
            match self.ask(Some(id), quantity, buyer) {
                Word::Unavailable | Word::Unknown | Word::NotOnSale | Word::InProgress | Word::NoAnswer => {}
                _ => return,
            }
            if started.elapsed() > INSISTENCE {
                let last = Word::Wrong(format!("no last word in {INSISTENCE:?}"));
                self.note(Some(id), quantity, buyer, started, last);
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    fn ask(&mut self, id: Option<&str>, quantity: u64, buyer: Option<&str>) -> Word {
        let asked_at = Instant::now();
        let address = {
            let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
            addresses[self.host % addresses.len()]
        };
        let connection = self.connection.take().map_or_else(|| Client::try_connect(address), Ok);
        let answer = connection.and_then(|mut client| {
            let answer = request(&mut client, id, quantity, buyer)?;
            if !answer.closes() {
                self.connection = Some(client);
            }
            Ok(answer)
        });
        let word = match answer {
            Ok(answer) => read(&answer, id.is_some()),
            Err(_) => {
                self.host += 1;
                Word::NoAnswer
            }
        };
        self.note(id, quantity, buyer, asked_at, word.clone());
        word
    }

    fn note(&self, id: Option<&str>, quantity: u64, buyer: Option<&str>, asked_at: Instant, word: Word) {
        let acknowledges = matches!(word, Word::Booked { .. } | Word::Known { .. });
        let (id, buyer) = (id.map(str::to_owned), buyer.map(str::to_owned));
        let told = Told { id, quantity, buyer, asked_at, answered_at: Instant::now(), word };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        self.acknowledged.fetch_add(u64::from(acknowledges), Ordering::Relaxed);
    }
}

/// One request with an own id at that address, written down.
pub fn ask_once(address: SocketAddr, id: &str, quantity: u64) -> Told {
    let asked_at = Instant::now();
    let answer =
        Client::try_connect(address).and_then(|mut client| request(&mut client, Some(id), quantity, None));
    let word = answer.map_or(Word::NoAnswer, |answer| read(&answer, true));
    Told { id: Some(id.to_owned()), quantity, buyer: None, asked_at, answered_at: Instant::now(), word }
}

fn request(
    client: &mut Client,
    id: Option<&str>,
    quantity: u64,
    buyer: Option<&str>,
) -> std::io::Result<Response> {
    match id {
        None => client.try_ask("GET", "/buy/ticket", None),
        Some(id) => {
            let buyer = buyer.map(|buyer| format!(",\"buyer\":\"{buyer}\"")).unwrap_or_default();
            let body = format!("{{\"quantity\":{quantity}{buyer}}}");
            client.try_ask("PUT", &format!("/v1/sales/ticket/bookings/{id}"), Some(&body))
        }
    }
}

fn read(answer: &Response, own_id: bool) -> Word {
    let wrong = || Word::Wrong(format!("{} {:?} {}", answer.status, answer.fields, answer.text()));
    let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else { return wrong() };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let retry = answer.field("retry-after").is_some();
    if !own_id && answer.status == 200 {
        return match (body["code"].as_i64(), text(&body["data"]["booking"])) {
            (Some(1), Some(id)) => Word::Booked { id, booking: None },
            (Some(-1), None) => Word::SoldOut,
            _ => wrong(),
        };
    }
    match (answer.status, body["type"].as_str()) {
        (201 | 200, None) => {
            let (Some(id), Some(status)) = (text(&body["booking"]), text(&body["status"])) else {
                return wrong();
            };
            let Some(quantity) = body["quantity"].as_u64() else { return wrong() };
            let booking = Booking { quantity, buyer: text(&body["buyer"]), status };
            match (answer.status, answer.field("idempotency-replayed")) {
                (201, None) => Word::Booked { id, booking: Some(booking) },
                (200, Some("true")) => Word::Known { id, booking },
                _ => wrong(),
            }
        }
        (403, Some("/problems/not-on-sale")) => Word::NotOnSale,
        (409, Some("/problems/sold-out")) => Word::SoldOut,
        (409, Some("/problems/in-progress")) if retry => Word::InProgress,
        (503, Some("/problems/ledger-unavailable" | "/problems/overloaded")) if retry => Word::Unavailable,
        (503, Some("/problems/outcome-unknown")) if retry => Word::Unknown,
        _ => wrong(),
    }
}
