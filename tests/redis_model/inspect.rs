//! What checkers look at, past the protocol: the sales as they are stored.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::ModelRedis;
use super::dataset::Held;
use super::stream::{EntryId, Stream};
use super::values::{Hash, SortedSet};

/// The stock hash of a sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    pub total: u64,
    pub held: u64,
    pub sold: u64,
    pub version: u64,
    /// When the sale was opened, and whether an operator opened it.
    pub opened_ms: u64,
    pub by_operator: bool,
    pub sequence: u64,
    pub status: String,
    pub hold_ms: Option<u64>,
    pub hold_max_ms: Option<u64>,
    pub per_buyer: Option<u64>,
    pub starts_ms: Option<u64>,
    pub ends_ms: Option<u64>,
    pub clock_ms: u64,
    /// Holds that end by then are not in `held`.
    pub lapsed_ms: u64,
    /// Nothing is booked before that, by the sale's clock; 0 where it was never frozen.
    pub frozen_until_ms: u64,
}

/// A booking's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// `h`, `c`, `e`, `x` or `t`.
    pub letter: char,
    /// 0 for a tombstone.
    pub quantity: u64,
    pub deadline_ms: Option<u64>,
    pub buyer: Option<String>,
    /// Whether its tickets count among those of its buyer.
    pub is_counted: bool,
}

/// An entry of a sale's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub ms: u64,
    pub sequence: u64,
    pub booking: String,
    pub status: String,
    pub quantity: u64,
    pub buyer: String,
    /// While it is held.
    pub deadline_ms: Option<u64>,
}

impl Stock {
    /// Nobody has had a hand in it but a host that started.
    pub fn is_unattended(&self) -> bool {
        !self.by_operator && self.version == 1
    }
}

/// Each panics on what no script writes: the simulator plants no corruption.
impl ModelRedis {
    /// Names of all sales there are, whether they are among `bx:sales` or not.
    pub fn sale_names(&self) -> BTreeSet<String> {
        let name = |key: &Vec<u8>| Some(text(key).strip_prefix("bx:{")?.strip_suffix("}:stock")?.to_owned());
        self.data.keys.keys().filter_map(name).collect()
    }

    pub fn stock(&self, sale: &str) -> Option<Stock> {
        let hash: &Hash = self.part(sale, "stock")?;
        let field = |name: &str| hash.get(name.as_bytes()).map(|value| text(value)).unwrap_or_default();
        let count = |name: &str| number(&field(name));
        let term = |name: &str| Some(field(name)).filter(|text| !text.is_empty()).map(|text| number(&text));
        Some(Stock {
            total: count("total"),
            held: count("held"),
            sold: count("sold"),
            version: count("version"),
            opened_ms: count("opened"),
            by_operator: field("by_operator") == "1",
            sequence: count("sequence"),
            status: field("status"),
            hold_ms: term("hold"),
            hold_max_ms: term("hold_max"),
            per_buyer: term("per_buyer"),
            starts_ms: term("starts"),
            ends_ms: term("ends"),
            clock_ms: term("clock").unwrap_or(0),
            lapsed_ms: term("lapsed").unwrap_or(0),
            frozen_until_ms: term("frozen_until").unwrap_or(0),
        })
    }

    /// By their ids as text, tombstones among them.
    pub fn bookings(&self, sale: &str) -> BTreeMap<String, Booking> {
        let hash = self.part::<Hash>(sale, "bookings").into_iter().flat_map(Hash::iter);
        hash.map(|(id, record)| (id_text(id), booking(&text(record)))).collect()
    }

    /// Each hold's deadline with the ids of its groups.
    pub fn holds(&self, sale: &str) -> Vec<(u64, Vec<String>)> {
        let set = self.part::<SortedSet>(sale, "holds").into_iter().flat_map(SortedSet::iter);
        set.map(|(deadline, group)| (deadline.0 as u64, group_ids(group))).collect()
    }

    /// Tickets of holds that end in each span of time, by its length and which one it is, as they are counted.
    pub fn spans(&self, sale: &str) -> BTreeMap<(u64, u64), u64> {
        let hash = self.part::<Hash>(sale, "due").into_iter().flat_map(Hash::iter);
        let span = |(field, tickets): &(Vec<u8>, Vec<u8>)| {
            let (field, tickets) = (text(field), text(tickets));
            let (kind, index) = field.split_once(':').expect("a span");
            ((64_u64.pow(number(kind) as u32 - 1), number(index)), number(&tickets))
        };
        hash.map(span).collect()
    }

    /// Tickets of each buyer, as they are counted, without holds that end by then.
    pub fn buyers(&self, sale: &str, by_ms: u64) -> BTreeMap<String, u64> {
        let buckets = self.part::<Hash>(sale, "buyers").into_iter().flat_map(Hash::iter);
        let mut buyers = BTreeMap::new();
        for (_, bucket) in buckets {
            for entry in text(bucket).split_whitespace() {
                let (buyer, tickets) = entry.split_once('=').expect("a buyer and its tickets");
                let before = buyers.insert(buyer.to_owned(), buyer_tickets(tickets, by_ms));
                assert_eq!(before, None, "{buyer} is in two places");
            }
        }
        buyers.retain(|_, tickets| *tickets > 0);
        buyers
    }

    /// Ids of bookings that were found forgotten and could not be put back.
    pub fn lost(&self, sale: &str) -> BTreeSet<String> {
        let fields = self.part::<Hash>(sale, "lost").into_iter().flat_map(Hash::iter);
        fields.map(|(id, _)| id_text(id)).filter(|id| !id.starts_with('@')).collect()
    }

    pub fn log(&self, sale: &str) -> Vec<LogEntry> {
        let Some(stream) = self.part::<Stream>(sale, "log") else { return Vec::new() };
        let entry = |(id, fields): &(EntryId, super::stream::Fields)| {
            let value = |index: usize| text(&fields[2 * index + 1]);
            LogEntry {
                ms: id.ms,
                sequence: id.sequence,
                booking: value(0),
                status: value(1),
                quantity: number(&value(2)),
                buyer: value(3),
                deadline_ms: fields
                    .get(9)
                    .map(|text_of| text(text_of))
                    .filter(|it| !it.is_empty())
                    .map(|it| number(&it)),
            }
        };
        stream.range(EntryId::default(), EntryId::MAX).map(entry).collect()
    }

    fn part<T: Held>(&self, sale: &str, part: &str) -> Option<&T> {
        let key = format!("bx:{{{sale}}}:{part}");
        self.data.get(key.as_bytes()).unwrap_or_else(|error| panic!("{key}: {error:?}"))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec())
        .unwrap_or_else(|_| panic!("{:?} is no text", bytes.escape_ascii().to_string()))
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no count"))
}

/// `2hRzG_rB3`: confirmed tickets, then holds.
fn buyer_tickets(entry: &str, by_ms: u64) -> u64 {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (confirmed, mut holds) = entry.split_at(digits(entry.as_bytes()));
    let mut tickets = number(confirmed);
    while !holds.is_empty() {
        let (stamp, rest) = holds.split_at(7);
        let (quantity, rest) = rest.split_at(digits(rest.as_bytes()));
        let deadline_ms = stamp.bytes().fold(0, |sum, byte| sum * 64 + u64::from(byte - b'?'));
        if deadline_ms > by_ms {
            tickets += if quantity.is_empty() { 1 } else { number(quantity) };
        }
        holds = rest;
    }
    tickets
}

fn id_text(stored: &[u8]) -> String {
    match stored.split_first() {
        Some((0, uuid)) => Uuid::from_slice(uuid).expect("16 bytes").hyphenated().to_string(),
        _ => text(stored),
    }
}

fn group_ids(group: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    let mut rest = group;
    while !rest.is_empty() {
        let length =
            if rest[0] == 0 { 17 } else { memchr::memchr(b' ', rest).expect("a space after each id") };
        ids.push(id_text(&rest[..length]));
        rest = &rest[length + 1..];
    }
    ids
}

fn booking(record: &str) -> Booking {
    // How often it was given to another buyer.
    let record = record.split_once('!').map_or(record, |(record, _)| record);
    let (terms, buyer) = match record.split_once(':') {
        Some((terms, buyer)) => (terms, Some(buyer.to_owned())),
        None => (record, None),
    };
    let letter = terms.chars().next().expect("a record begins with a letter");
    let (quantity, deadline) = match terms[1..].split_once('@') {
        Some((quantity, deadline)) => {
            (quantity, Some(number(deadline.split_once('-').map_or(deadline, |(deadline, _)| deadline))))
        }
        None => (&terms[1..], None),
    };
    // Behind a slash, what it was made with.
    let quantity = quantity.split_once('/').map_or(quantity, |(quantity, _)| quantity);
    Booking {
        letter: letter.to_ascii_lowercase(),
        quantity: if letter == 't' { 0 } else { number(quantity) },
        deadline_ms: deadline,
        buyer,
        is_counted: letter.is_ascii_uppercase(),
    }
}
