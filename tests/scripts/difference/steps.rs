//! What one sequence does, step by step.

use std::collections::BTreeSet;

use boxoffice::ledger::redis::codec;
use boxoffice::protocol::{Answer, Call, LedgerOp, LedgerResult, SaleOp, SaleResult};
use rand::Rng;
use rand::rngs::StdRng;

use super::calls::{Calls, START_MS};
use super::pair::{Pair, Words, packed, replies_length, without_present};
use crate::redis::Trouble;

const PARTS: [&str; 5] = ["stock", "bookings", "holds", "buyers", "log"];

/// What words are replaced by, to see what the scripts and Redis make of it.
const ODD_WORDS: [&str; 16] = [
    "",
    "0",
    "-1",
    "1e3",
    "0x10",
    " 7",
    "1.5",
    "nan",
    "99999999999999999999",
    "inf",
    "h1@5:u",
    "t",
    "abc def",
    "4000000000050",
    "(5",
    "\n",
];

pub struct Sequence {
    calls: Calls,
    trouble_for: u32,
}

fn key(sale: &str, part: &str) -> String {
    format!("bx:{{{sale}}}:{part}")
}

impl Sequence {
    pub fn new(random: StdRng) -> Sequence {
        Sequence { calls: Calls::new(random), trouble_for: 0 }
    }

    pub fn step(&mut self, pair: &mut Pair) {
        self.end_trouble(pair, 1);
        match self.calls.random.random_range(0..100) {
            0..=59 => self.call(pair),
            60..=69 => self.move_clock(pair),
            70..=79 => self.odd_call(pair),
            80..=86 => self.consume(pair),
            87..=94 => self.plain(pair),
            95 => self.plant(pair),
            96 if self.calls.chance(2) => pair.load_scripts(),
            96 => self.ask_for_rights(pair),
            97 => drop(pair.same_words(&["SCRIPT", "FLUSH"])),
            98 => self.begin_trouble(pair),
            _ => pair.assert_same_data(),
        }
    }

    pub fn end(&mut self, pair: &mut Pair) {
        self.end_trouble(pair, u32::MAX);
        pair.assert_same_data();
        if self.calls.chance(10) {
            pair.restart();
            pair.assert_same_data();
            self.call(pair);
        }
    }

    fn begin_trouble(&mut self, pair: &mut Pair) {
        pair.set_trouble(None);
        let trouble = if self.calls.chance(2) { Trouble::OutOfMemory } else { Trouble::ReadOnly };
        pair.set_trouble(Some(trouble));
        self.trouble_for = self.calls.random.random_range(1..8);
    }

    fn end_trouble(&mut self, pair: &mut Pair, steps: u32) {
        if self.trouble_for > 0 {
            self.trouble_for = self.trouble_for.saturating_sub(steps);
            if self.trouble_for == 0 {
                pair.set_trouble(None);
            }
        }
    }

    fn call(&mut self, pair: &mut Pair) {
        let call = self.calls.call();
        if let Call::Sale { sale, op: SaleOp::Open { .. } | SaleOp::Remove } = &call {
            // Also where there is no sale: it begins at that time, and is known to have been removed at it.
            let now = self.calls.now_ms.to_string();
            pair.same_words(&["HSET", &key(sale.as_str(), "stock"), "clock", &now]);
        }
        let mut bytes = Vec::new();
        codec::pack(&call, &mut bytes);
        let (model, real) = pair.both(&bytes, codec::replies_expected(&call));
        match &call {
            Call::Ledger(LedgerOp::Sales)
            | Call::Sale { op: SaleOp::Page { .. } | SaleOp::Survey { .. }, .. }
                if model != real =>
            {
                self.compare_pages(pair, &call, &model, &real);
            }
            // After the reply to TIME.
            Call::Sale { op: SaleOp::Snapshot, .. } | Call::Ledger(LedgerOp::Changes { .. }) => {
                let after = |reply: &[u8]| reply[replies_length(1, reply).expect("a reply")..].to_vec();
                pair.assert_same(&after(&model), &after(&real));
            }
            _ => pair.assert_same(&model, &real),
        }
        if codec::is_noscript(&real) && self.calls.chance(2) {
            pair.load_scripts();
        }
    }

    /// What is told in no order must be the same all together.
    fn compare_pages(&mut self, pair: &mut Pair, call: &Call, model: &[u8], real: &[u8]) {
        let read = |reply: &[u8]| codec::read(call, reply).ok().map(rows);
        let (Some(mut ours), Some(mut theirs)) = (read(model), read(real)) else {
            // Something planted is no booking: the same bytes, in some order.
            let sorted = |reply: &[u8]| {
                let mut bytes = without_present(reply);
                bytes.sort_unstable();
                bytes
            };
            if sorted(model) != sorted(real) {
                pair.assert_same(model, real);
            }
            return;
        };
        while let Some(next) = ours.next.take() {
            let bytes = page(call, next);
            ours.add(call, &pair.model(&bytes));
        }
        while let Some(next) = theirs.next.take() {
            let bytes = page(call, next);
            theirs.add(call, &pair.real(&bytes, 1));
        }
        let text = |rows: &Rows| rows.rows.iter().cloned().collect::<Vec<_>>().join("\n");
        pair.assert_same(text(&ours).as_bytes(), text(&theirs).as_bytes());
    }

    fn move_clock(&mut self, pair: &mut Pair) {
        // Now and then past the end of a freeze.
        let most = if self.calls.chance(8) { 4_000 } else { 80 };
        self.calls.now_ms += self.calls.random.random_range(1..most);
        let sale = self.calls.sale();
        let stock = key(sale.as_str(), "stock");
        let now = self.calls.now_ms.to_string();
        pair.same_words(&["HSET", &stock, "clock", &now]);
    }

    /// A call with a word missing, too many, or not as it should be.
    fn odd_call(&mut self, pair: &mut Pair) {
        let call = self.calls.call();
        if matches!(
            call,
            Call::Ledger(LedgerOp::Sales | LedgerOp::Changes { .. })
                | Call::Sale {
                    op: SaleOp::Open { .. }
                        | SaleOp::Remove
                        | SaleOp::Snapshot
                        | SaleOp::Page { .. }
                        | SaleOp::Survey { .. },
                    ..
                }
        ) {
            return;
        }
        let mut bytes = Vec::new();
        codec::pack(&call, &mut bytes);
        let mut words = words_of(&bytes);
        let last = words.len() - 1;
        let random = &mut self.calls.random;
        let at = random.random_range(1..=last);
        let odd = ODD_WORDS[random.random_range(0..ODD_WORDS.len())].as_bytes().to_vec();
        match random.random_range(0..10) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, odd),
            2 => words[1].make_ascii_uppercase(),
            3 if last > 10 => {
                // More than Lua's stack takes, sometimes.
                let copies = random.random_range(100..2_500);
                for _ in 0..copies {
                    let again = words[11..=last].to_vec();
                    words.extend(again);
                    if words.len() > 9_000 {
                        break;
                    }
                }
            }
            _ if at > 7 => words[at] = odd,
            _ => words[last] = odd,
        }
        pair.same(&packed(&words), 1);
    }

    /// The one script that is about no sale.
    fn ask_for_rights(&mut self, pair: &mut Pair) {
        const RIGHTS: &str = include_str!("../../../lua/rights.lua");
        pair.same_words(&["SCRIPT", "LOAD", RIGHTS]);
        let hash = ::redis::Script::new(RIGHTS).get_hash().to_owned();
        for mode in ["0", "1"] {
            pair.same_words(&[
                "EVALSHA",
                &hash,
                "1",
                "bx:sales",
                mode,
                "HSET",
                "ZADD",
                "XINFO GROUPS",
                "TIME",
            ]);
        }
    }

    fn consume(&mut self, pair: &mut Pair) {
        let sale = self.calls.sale();
        let log = key(sale.as_str(), "log");
        let group = self.calls.one_of(&["mail", "search"]);
        let consumer = self.calls.one_of(&["one", "two"]);
        match self.calls.random.random_range(0..8) {
            0 => drop(pair.same_words(&["XGROUP", "CREATE", &log, group, "0"])),
            1 => drop(pair.same_words(&["XGROUP", "CREATE", &log, group, "$"])),
            2 => drop(pair.same_words(&["XGROUP", "DESTROY", &log, group])),
            3..=5 => {
                let count = self.calls.random.random_range(1..300).to_string();
                let words = ["XREADGROUP", "GROUP", group, consumer, "COUNT", &count, "STREAMS", &log, ">"];
                let reply = pair.same_words(&words);
                if self.calls.chance(4) {
                    return;
                }
                // Acknowledges most of what it got.
                let ids = entry_ids(&reply);
                let mut words = vec!["XACK".to_owned(), log, group.to_owned()];
                words.extend(ids.into_iter().filter(|_| !self.calls.chance(20)));
                if words.len() > 3 {
                    pair.same_words(&words);
                }
            }
            6 => self.read_between(pair, &log),
            _ => drop(pair.same_words(&["XPENDING", &log, group])),
        }
    }

    /// What lies between two entries, with and without them.
    fn read_between(&mut self, pair: &mut Pair, log: &str) {
        let ids = ids_in(
            ::redis::parse_redis_value(&pair.same_words(&["XRANGE", log, "-", "+", "COUNT", "9"])).ok(),
        );
        if let [first, .., last] = ids.as_slice() {
            let (above, below) = (format!("({first}"), format!("({last}"));
            for (first, last) in [(first, last), (&above, last), (first, &below), (last, first)] {
                pair.same_words(&["XRANGE", log, first, last]);
                pair.same_words(&["XREVRANGE", log, last, first, "COUNT", "8"]);
            }
        }
    }

    /// A command outside of scripts, odd arguments included.
    fn plain(&mut self, pair: &mut Pair) {
        let sale = self.calls.sale();
        let part = self.calls.one_of(&PARTS);
        let key = key(sale.as_str(), part);
        let odd = self.calls.one_of(&ODD_WORDS);
        let other = self.calls.one_of(&ODD_WORDS);
        let near = (START_MS + self.calls.random.random_range(0..500)).to_string();
        let early = (START_MS + self.calls.random.random_range(0..50)).to_string();
        let log = self::key(sale.as_str(), "log");
        let words: Vec<&str> = match self.calls.random.random_range(0..36) {
            0 => vec!["EXISTS", &key, &key, "nothing"],
            1 => vec!["HGET", &key, odd],
            2 => vec!["HMGET", &key, "held", odd, "clock"],
            3 => vec!["HLEN", &key],
            4 => vec!["ZRANGEBYSCORE", &key, odd, other],
            5 => vec!["ZRANGEBYSCORE", &key, "-inf", &near, "LIMIT", odd, other],
            6 => vec!["ZRANGEBYSCORE", &key, "(4000000000020", "+inf", "LIMIT", "1", "2"],
            7 => vec!["ZADD", "spare", odd, other],
            8 => vec!["ZADD", "spare", "1.25", odd, "-7", other, "3e20", "x"],
            9 => vec!["ZREM", "spare", odd, other],
            10 => vec!["XLEN", &key],
            11 => vec!["XRANGE", &key, odd, "+", "COUNT", other],
            12 => vec!["XRANGE", &key, &near, "+", "COUNT", "3"],
            13 => vec!["XREVRANGE", &key, "+", &near, "COUNT", "2"],
            14 => vec!["XREVRANGE", &key, "(4000000000100", "-"],
            15 => vec!["XADD", "stream", "7-7", odd, other],
            16 => vec!["XTRIM", &key, "MINID", odd],
            17 => vec!["XTRIM", &key, "MINID", "=", &early],
            18 => vec!["XTRIM", &key, "MINID", "~", &near, "LIMIT", odd],
            19 => vec!["HSET", "hash", odd, other, "f"],
            20 => vec!["HSET", "hash", odd, other],
            21 => vec!["HDEL", "hash", odd, other],
            22 => vec!["SADD", "set", odd, other],
            // How much goes depends on where the stream's nodes end.
            30 => vec!["ZRANGEBYSCORE", "bx:changes", odd, "+inf", "WITHSCORES", "LIMIT", "0", other],
            31 => vec!["ZRANGEBYSCORE", &key, "-inf", "(4000000000050", "WITHSCORES"],
            32 => vec!["ZREMRANGEBYSCORE", "spare", odd, other],
            33 => vec!["ZREMRANGEBYSCORE", &key, "-inf", &early],
            34 => vec!["INCR", "bx:feed"],
            35 => vec!["INCR", "number"],
            23..=25 => vec!["XTRIM", &log, "MINID", "~", &near],
            26..=28 => vec!["XTRIM", &log, "MINID", "~", &near, "LIMIT", "150"],
            _ => vec!["SREM", "set", odd, other],
        };
        pair.same_words(&words);
    }

    /// Something that the scripts do not expect.
    fn plant(&mut self, pair: &mut Pair) {
        let sale = self.calls.sale();
        let part = self.calls.one_of(&PARTS);
        let id = self.calls.id();
        let odd = self.calls.one_of(&ODD_WORDS);
        let (stock, bookings, holds, buyers) = (
            key(sale.as_str(), "stock"),
            key(sale.as_str(), "bookings"),
            key(sale.as_str(), "holds"),
            key(sale.as_str(), "buyers"),
        );
        let near = self.calls.now_ms.to_string();
        match self.calls.random.random_range(0..11) {
            8 => drop(pair.same_words(&["SET", "bx:feed", odd])),
            9 => drop(pair.same_words(&["SET", "bx:changes", odd])),
            10 => drop(pair.same_words(&["SET", "number", odd])),
            0 => drop(pair.same_words(&["SET", &key(sale.as_str(), part), "not what it should be"])),
            1 => drop(pair.same_words(&["DEL", &key(sale.as_str(), part)])),
            2 => drop(pair.same_words(&["HSET", &stock, "held", odd])),
            3 => drop(pair.same_words(&["HSET", &stock, "status", "half-open"])),
            4 => drop(pair.same_words(&["HSET", &bookings, id.as_str(), odd])),
            5 => drop(pair.same_words(&["ZADD", &holds, &near, odd])),
            6 => drop(pair.same_words(&["HSET", &buyers, "1f", odd])),
            _ => drop(pair.same_words(&["HSET", &stock, "hold", odd])),
        }
    }
}

/// What an answer lists, and how it goes on.
struct Rows {
    rows: BTreeSet<String>,
    next: Option<String>,
}

impl Rows {
    fn add(&mut self, call: &Call, reply: &[u8]) {
        let more = rows(codec::read(call, reply).expect("the first page was one"));
        self.rows.extend(more.rows);
        self.next = more.next;
    }
}

fn rows(answer: Answer) -> Rows {
    let texts = |rows: Vec<String>, next| Rows { rows: rows.into_iter().collect(), next };
    match answer {
        Answer::Ledger(LedgerResult::Sales { names, .. }) => {
            texts(names.iter().map(|name| format!("{name:?}")).collect(), None)
        }
        Answer::Sale { result: SaleResult::Page { bookings, next }, .. } => {
            texts(bookings.iter().map(|row| format!("{row:?}")).collect(), next)
        }
        // Not the time, which is Redis' own.
        Answer::Sale { state, result: SaleResult::Surveyed { clock, rows, next, done, .. } } => {
            let state = format!("{state:?} {clock:?}");
            let rows = rows.iter().map(|row| format!("{row:?}")).chain([state]).collect();
            texts(rows, (!done).then_some(next))
        }
        other => texts(vec![format!("{other:?}")], None),
    }
}

/// The next page of what `call` asked for.
fn page(call: &Call, next: String) -> Vec<u8> {
    let mut call = call.clone();
    if let Call::Sale { op: SaleOp::Page { cursor } | SaleOp::Survey { cursor, .. }, .. } = &mut call {
        *cursor = next;
    }
    let mut bytes = Vec::new();
    codec::pack(&call, &mut bytes);
    bytes
}

/// The last command of these bytes.
fn words_of(bytes: &[u8]) -> Words {
    let mut words = Vec::new();
    let mut rest = bytes;
    let line = |rest: &mut &[u8]| {
        let end = rest.iter().position(|&byte| byte == b'\n').expect("a line");
        let text =
            std::str::from_utf8(&rest[1..end - 1]).expect("a number").parse::<usize>().expect("a number");
        *rest = &rest[end + 1..];
        text
    };
    while !rest.is_empty() {
        words.clear();
        for _ in 0..line(&mut rest) {
            let length = line(&mut rest);
            words.push(rest[..length].to_vec());
            rest = &rest[length + 2..];
        }
    }
    words
}

/// The ids of the entries in a reply to XREADGROUP.
fn entry_ids(reply: &[u8]) -> Vec<String> {
    let Ok(::redis::Value::Array(streams)) = ::redis::parse_redis_value(reply) else { return Vec::new() };
    let Some(::redis::Value::Array(stream)) = streams.into_iter().next() else { return Vec::new() };
    ids_in(stream.into_iter().nth(1))
}

/// The ids of a list of entries.
fn ids_in(entries: Option<::redis::Value>) -> Vec<String> {
    let Some(::redis::Value::Array(entries)) = entries else { return Vec::new() };
    let id = |entry: ::redis::Value| match entry {
        ::redis::Value::Array(parts) => match parts.into_iter().next() {
            Some(::redis::Value::BulkString(id)) => String::from_utf8(id).ok(),
            _ => None,
        },
        _ => None,
    };
    entries.into_iter().filter_map(id).collect()
}
