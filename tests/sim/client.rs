//! Clients: people with a wish, and with bytes of real HTTP. They ask again with the same id, go elsewhere, pipeline, fall
//! silent, hang up, and remember every answer.

use std::collections::VecDeque;

use crate::network::PipeId;
use crate::random::Random;
use crate::scenario::{SALE, Scenario};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `PUT` with an id of its own.
    Put,
    /// `POST` with the id as a key.
    PostKey,
    /// `POST` without.
    PostMade,
    /// `/buy`.
    Buy,
    /// `GET` of a booking.
    Get,
    /// Pays for it.
    Confirm,
    /// Gives it back.
    Cancel,
    /// Gives it back, and sees to it that its id is never granted.
    Tombstone,
    /// Wants to keep it so many seconds from now.
    Extend,
    /// Gives back all but so many.
    Release,
    /// Takes it again once it is over.
    HoldAgain,
    /// How the sale stands.
    ShowSale,
}

impl Kind {
    /// Whether it asks for a booking.
    pub fn books(self) -> bool {
        matches!(self, Kind::Put | Kind::PostKey | Kind::PostMade | Kind::Buy)
    }
}

/// What a client wants to ask.
#[derive(Clone, Debug)]
pub struct Request {
    /// What.
    pub kind: Kind,
    /// About which booking; `None` where the server makes the id.
    pub id: Option<String>,
    /// How many tickets.
    pub quantity: u64,
    /// For how many seconds, or how many are to remain.
    pub amount: u64,
    /// For whom.
    pub buyer: Option<String>,
    /// How often it was asked before.
    pub tries: u32,
}

/// How a booking stands, as an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// `held`, `confirmed`, `cancelled`, `expired`; `/buy` does not say.
    pub status: Option<String>,
    /// How many tickets; likewise.
    pub quantity: Option<u64>,
    /// For whom.
    pub buyer: Option<String>,
    /// Until when it is held.
    pub until_ms: Option<u64>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// 201, or a `/buy` that bought.
    Booked(Told),
    /// 200 with `Idempotency-Replayed`.
    Replayed(Told),
    /// 200 about a booking.
    Is(Told),
    /// How the sale stands: available, held, sold, total.
    Sale { available: u64, held: u64, sold: u64, total: u64 },
    /// A refusal: the name of its type, and which booking it is about.
    Refused { name: String, instance: String },
    /// Not understood.
    Wrong(String),
}

/// A request that was sent.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What.
    pub request: Request,
    /// By whom.
    #[expect(dead_code, reason = "people read it where a promise is broken")]
    pub client: usize,
    /// To which host.
    pub host: usize,
    /// On which connection.
    pub pipe: PipeId,
    /// When its first byte left.
    pub sent_at: u64,
    /// When the last byte of its answer came, and what it said.
    pub answer: Option<(u64, Word)>,
    /// When its client knew that no answer would come.
    pub given_up_at: Option<u64>,
    /// Whether all of it was sent.
    pub whole: bool,
}

/// A client's connection.
#[derive(Debug)]
pub struct Link {
    /// Which.
    pub pipe: PipeId,
    /// To which host.
    pub host: usize,
    /// Asks whose answers are due, oldest first.
    pub waiting: VecDeque<usize>,
    /// What came and is no whole answer yet.
    pub received: Vec<u8>,
    /// When its client's patience is over.
    pub give_up_at: u64,
}

/// See the [module](self).
pub struct Client {
    /// What it draws.
    pub random: Random,
    /// What it draws where it sends several deeds on one booking at once.
    deeds: Random,
    number: usize,
    hosts: usize,
    cores: usize,
    home: usize,
    /// In whose name it books; empty for none.
    pub buyer: Option<String>,
    quantity_max: u64,
    /// What it has yet to ask.
    pub todo: VecDeque<Request>,
    /// Its connection.
    pub link: Option<Link>,
    wishes_left: usize,
    made: usize,
    /// Ids that it has asked for.
    pub ids: Vec<(String, u64)>,
    /// When it does something next.
    pub wake_at: Option<u64>,
    /// It wants nothing new any more.
    pub tired: bool,
    pace_us: u64,
    depth: usize,
}

impl Client {
    /// With wishes, but nothing asked yet.
    pub fn new(number: usize, scenario: &Scenario) -> Client {
        let mut random = Random::new(scenario.seed, "client", number as u64);
        let buyer = match random.below(3) {
            0 => None,
            1 => Some("u-shared".to_owned()),
            _ => Some(format!("u-{number}")),
        };
        let home = random.below(scenario.hosts);
        let quantity_max = random.pick(&[1, 1, 2, 4]);
        let pace_us = random.pick(&[500, 20_000, 150_000, 400_000]);
        let depth = random.pick(&[1, 1, 3, 6]);
        Client {
            number,
            hosts: scenario.hosts,
            cores: scenario.cores,
            home,
            buyer,
            quantity_max,
            todo: VecDeque::new(),
            link: None,
            wishes_left: scenario.wishes,
            made: 0,
            ids: Vec::new(),
            wake_at: Some(random.range(0, scenario.healed_at / 2)),
            tired: false,
            pace_us,
            depth,
            deeds: Random::new(scenario.seed, "deeds", number as u64),
            random,
        }
    }

    /// Where it turns to now.
    pub fn choose_loop(&mut self) -> (usize, usize) {
        let host = if self.random.chance(750) { self.home } else { self.random.below(self.hosts) };
        (host, self.random.below(self.cores))
    }

    /// What it sends next, on a connection without an answer due.
    pub fn next_requests(&mut self) -> Vec<Request> {
        if self.wishes_left > 0 && !self.tired && self.deeds.chance(80) {
            self.wishes_left -= 1;
            return self.deeds_on_one();
        }
        let depth = 1 + self.random.below(self.depth);
        while self.todo.len() < depth && self.wishes_left > 0 && !self.tired {
            self.wishes_left -= 1;
            let wish = self.wish();
            self.todo.push_back(wish);
        }
        let count = self.todo.len().min(depth);
        self.todo.drain(..count).collect()
    }

    /// Whether it has more to ask.
    pub fn wants_more(&self) -> bool {
        !self.todo.is_empty() || self.wishes_left > 0 && !self.tired
    }

    /// When it asks on.
    pub fn pause(&mut self) -> u64 {
        self.random.range(1, self.pace_us)
    }

    fn wish(&mut self) -> Request {
        self.made += 1;
        let kind =
            self.random.pick(&[Kind::Put, Kind::Put, Kind::Put, Kind::PostKey, Kind::PostMade, Kind::Buy]);
        let mut id = match self.random.below(4) {
            // As a UUID, which is stored in another form.
            0 => format!(
                "{:08x}-0000-4000-8000-{:04x}{:08x}",
                self.random.next() as u32,
                self.number,
                self.made
            ),
            _ => format!("c{}-{}", self.number, self.made),
        };
        let mut quantity = self.random.range(1, self.quantity_max);
        if self.random.chance(60)
            && let Some((other, _)) = self.ids.last()
        {
            id.clone_from(other);
            quantity = self.random.range(1, self.quantity_max);
        }
        let (id, quantity) = match kind {
            Kind::PostMade => (None, quantity),
            Kind::Buy => (None, 1),
            _ => (Some(id), quantity),
        };
        if let Some(id) = &id {
            self.ids.push((id.clone(), quantity));
        }
        let buyer = if kind == Kind::Buy { None } else { self.buyer.clone() };
        Request { kind, id, quantity, amount: 0, buyer, tries: 0 }
    }

    /// Several deeds on one booking, in one packet: it books, looks, pays, gives back, in any order. Nobody else knows of
    /// that booking.
    fn deeds_on_one(&mut self) -> Vec<Request> {
        self.made += 1;
        let id = format!("d{}-{}", self.number, self.made);
        let kinds = [Kind::Put, Kind::Put, Kind::PostKey, Kind::Get, Kind::Confirm, Kind::Cancel];
        let request = |kind| Request {
            kind,
            id: Some(id.clone()),
            quantity: 1,
            buyer: self.buyer.clone(),
            amount: 0,
            tries: 0,
        };
        let count = self.deeds.range(2, 6);
        (0..count).map(|_| request(self.deeds.pick(&kinds))).collect()
    }

    /// What it asks after that answer; and how long it waits before.
    pub fn follow_up(&mut self, request: &Request, word: &Word) -> Option<(u64, Request)> {
        let again = || Request { tries: request.tries + 1, ..request.clone() };
        let about = |kind: Kind, id: &str| Request {
            kind,
            id: Some(id.to_owned()),
            quantity: request.quantity,
            amount: 0,
            buyer: request.buyer.clone(),
            tries: 0,
        };
        let soon = self.pause();
        match word {
            Word::Booked(told) | Word::Replayed(told) | Word::Is(told) => {
                let held = told.status.as_deref() == Some("held");
                let tickets = told.quantity.unwrap_or(0);
                let has_some = held || told.status.as_deref() == Some("confirmed");
                match self.random.below(9) {
                    0 if held => {
                        let amount = self.random.range(1, 3);
                        return Some((soon, Request { amount, ..about(Kind::Extend, &told.id) }));
                    }
                    1 if has_some && tickets > 0 => {
                        // Now and then more than it has.
                        let amount = self.random.range(1, tickets + u64::from(tickets == 1));
                        return Some((soon, Request { amount, ..about(Kind::Release, &told.id) }));
                    }
                    2..=5 if told.status.as_deref() == Some("expired") => {
                        return Some((soon, about(Kind::HoldAgain, &told.id)));
                    }
                    6 if self.random.chance(200) => return Some((soon, about(Kind::HoldAgain, &told.id))),
                    _ => {}
                }
                match self.random.below(if held { 5 } else { 12 }) {
                    0 | 1 if held => Some((soon, about(Kind::Confirm, &told.id))),
                    2 => Some((soon, about(Kind::Cancel, &told.id))),
                    3 => Some((soon, about(Kind::Get, &told.id))),
                    4 if request.kind.books() && request.id.is_some() && request.tries < 3 => {
                        Some((soon, again()))
                    }
                    5 => Some((soon, Request { kind: Kind::ShowSale, ..about(Kind::ShowSale, "") })),
                    _ => None,
                }
            }
            Word::Refused { name, instance } => match name.as_str() {
                "ledger-unavailable" | "outcome-unknown" | "overloaded" | "in-progress" => {
                    if request.id.is_none() {
                        // It was told which id the server made.
                        let made = instance.rsplit('/').next().filter(|id| id.len() == 36)?;
                        return self.random.chance(300).then(|| (soon, about(Kind::Get, made)));
                    }
                    if request.kind.books() && self.random.chance(60) {
                        return Some((soon, Request { kind: Kind::Tombstone, tries: 0, ..request.clone() }));
                    }
                    // Most do as Retry-After says.
                    let wait_us = if self.random.chance(600) { 1_000_000 } else { soon };
                    (request.tries < 5).then(|| (wait_us, again()))
                }
                "sold-out" | "not-on-sale" => {
                    (request.tries < 2 && request.id.is_some() && self.random.chance(300))
                        .then(|| (soon, again()))
                }
                "hold-expired" if self.random.chance(400) => {
                    Some((soon, about(Kind::HoldAgain, request.id.as_deref()?)))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// What it does where no answer came: it asks again with the same id, if it has one.
    pub fn after_silence(&mut self, request: &Request) -> Option<Request> {
        if request.kind.books() && request.id.is_some() && self.random.chance(60) {
            // Or it wants it no more, and cannot know whether it has it.
            return Some(Request { kind: Kind::Tombstone, tries: 0, ..request.clone() });
        }
        let again = request.id.is_some() && request.tries < 4 && self.random.chance(850);
        again.then(|| Request { tries: request.tries + 1, ..request.clone() })
    }
}

impl Request {
    /// As bytes, in one of the ways that clients write them.
    pub fn bytes(&self, random: &mut Random) -> Vec<u8> {
        let id = self.id.as_deref().unwrap_or_default();
        let (method, path) = match self.kind {
            Kind::Put => ("PUT", format!("/v1/sales/{SALE}/bookings/{id}")),
            Kind::PostKey | Kind::PostMade => ("POST", format!("/v1/sales/{SALE}/bookings")),
            Kind::Buy if random.chance(500) => ("POST", format!("/buy/{SALE}")),
            Kind::Buy => ("GET", format!("/buy/{SALE}")),
            Kind::Get => ("GET", format!("/v1/sales/{SALE}/bookings/{id}")),
            Kind::Confirm => ("POST", format!("/v1/sales/{SALE}/bookings/{id}/confirm")),
            Kind::Cancel => ("DELETE", format!("/v1/sales/{SALE}/bookings/{id}")),
            Kind::Tombstone => ("DELETE", format!("/v1/sales/{SALE}/bookings/{id}?tombstone=true")),
            Kind::Extend => ("POST", format!("/v1/sales/{SALE}/bookings/{id}/extend")),
            Kind::Release => ("POST", format!("/v1/sales/{SALE}/bookings/{id}/release")),
            Kind::HoldAgain => ("POST", format!("/v1/sales/{SALE}/bookings/{id}/hold")),
            Kind::ShowSale => ("GET", format!("/v1/sales/{SALE}")),
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: sim\r\n");
        if self.kind == Kind::PostKey {
            head += &match random.chance(500) {
                true => format!("Idempotency-Key: \"{id}\"\r\n"),
                false => format!("Idempotency-Key: {id}\r\n"),
            };
        }
        let body = match self.kind {
            Kind::Put | Kind::PostKey | Kind::PostMade => self.body(random),
            Kind::Extend => format!(r#"{{"seconds":{}}}"#, self.amount),
            Kind::Release => format!(r#"{{"remaining":{}}}"#, self.amount),
            _ => String::new(),
        };
        if !body.is_empty() && random.chance(200) {
            head += &format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        } else if !body.is_empty() || method == "POST" {
            head += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        } else {
            head += "\r\n";
        }
        head.into_bytes()
    }

    fn body(&self, random: &mut Random) -> String {
        match &self.buyer {
            Some(buyer) => format!(r#"{{"quantity":{},"buyer":"{buyer}"}}"#, self.quantity),
            None if self.quantity == 1 && random.chance(500) => String::new(),
            None => format!(r#"{{"quantity":{}}}"#, self.quantity),
        }
    }
}

/// The first whole answer in `received`, and its length; `None` where it is not whole yet.
pub fn read_answer(received: &[u8]) -> Option<(Word, usize)> {
    let head_end = memchr::memmem::find(received, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&received[..head_end]).into_owned();
    let field = |name: &str| {
        head.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let length: usize = field("Content-Length").map_or(0, |(_, value)| value.trim().parse().unwrap_or(0));
    let body = received.get(head_end..head_end + length)?;
    let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
    let word = word(status, field("Idempotency-Replayed").is_some(), &head, body);
    Some((word, head_end + length))
}

fn word(status: u16, replayed: bool, head: &str, body: &[u8]) -> Word {
    let wrong = || Word::Wrong(format!("{head}{}", String::from_utf8_lossy(body)));
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return wrong() };
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    if let Some(code) = json["code"].as_i64() {
        return match (status, code, json["data"]["booking"].as_str()) {
            (200, 1, Some(id)) => {
                let id = id.to_owned();
                Word::Booked(Told { id, status: None, quantity: None, buyer: None, until_ms: None })
            }
            (200, -1, None) => Word::Refused { name: "sold-out".to_owned(), instance: String::new() },
            _ => wrong(),
        };
    }
    if let Some(name) = json["type"].as_str().and_then(|text| text.strip_prefix("/problems/")) {
        let instance = text("instance").unwrap_or_default();
        return Word::Refused { name: name.to_owned(), instance };
    }
    if let (Some(available), Some(held), Some(sold), Some(total)) =
        (json["available"].as_u64(), json["held"].as_u64(), json["sold"].as_u64(), json["total"].as_u64())
    {
        return Word::Sale { available, held, sold, total };
    }
    let Some(id) = text("booking") else { return wrong() };
    let until = text("expires_at").and_then(|time| time.parse::<boxoffice::clock::WallTime>().ok());
    let told = Told {
        id,
        status: text("status"),
        quantity: json["quantity"].as_u64(),
        buyer: text("buyer"),
        until_ms: until.map(|time| time.0),
    };
    match (status, replayed) {
        (201, false) => Word::Booked(told),
        (200, true) => Word::Replayed(told),
        (200, false) => Word::Is(told),
        _ => wrong(),
    }
}
