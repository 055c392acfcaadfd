//! The commands that the scripts and the hosts send: what they are, and what they do to a dataset.
//!
//! Only the forms in use are modelled. Any other is a panic that names it, never a guess.

mod hashes;
mod keys;
mod numbers;
mod sets;
mod sorted_sets;
mod streams;

use super::dataset::Dataset;
use super::wire::{Reply, Words};

pub use numbers::{integer, shortest_17};

/// A command of the model.
pub struct Command {
    pub name: &'static str,
    /// Words with its name, at least that many where negative.
    arity: i32,
    kind: Kind,
    run: Run,
}

/// How trouble treats a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    /// Changes data and needs no more memory for it.
    Write,
    /// Changes data, and is denied where memory is short.
    Grow,
    /// Of the connection or the server, and not for scripts.
    Server,
}

impl Kind {
    pub fn writes(self) -> bool {
        matches!(self, Kind::Write | Kind::Grow)
    }
}

/// The error reply is an `Err`.
type Outcome = Result<Reply, Reply>;

enum Run {
    Read(fn(&Dataset, &[Vec<u8>]) -> Outcome),
    Write(fn(&mut Dataset, &[Vec<u8>]) -> Outcome),
    /// Replaces the words by what a replica is to carry out.
    Rewrite(fn(&mut Dataset, &mut Words) -> Outcome),
    /// The server's own.
    Server,
}

const COMMANDS: &[Command] = &[
    read("EXISTS", -2, keys::exists),
    read("TYPE", 2, keys::type_of),
    read("KEYS", 2, keys::keys),
    read("GET", 2, keys::get),
    grow("SET", -3, keys::set),
    grow("INCR", 2, keys::incr),
    write("DEL", -2, keys::del),
    write("UNLINK", -2, keys::del),
    grow("SADD", -3, sets::sadd),
    write("SREM", -3, sets::srem),
    read("SISMEMBER", 3, sets::sismember),
    read("SMEMBERS", 2, sets::smembers),
    grow("HSET", -4, hashes::hset),
    read("HGET", 3, hashes::hget),
    read("HMGET", -3, hashes::hmget),
    read("HGETALL", 2, hashes::hgetall),
    read("HLEN", 2, hashes::hlen),
    write("HDEL", -3, hashes::hdel),
    read("HSCAN", -3, hashes::hscan),
    grow("ZADD", -4, sorted_sets::zadd),
    write("ZREM", -3, sorted_sets::zrem),
    read("ZCARD", 2, sorted_sets::zcard),
    read("ZSCORE", 3, sorted_sets::zscore),
    read("ZRANGE", -4, sorted_sets::zrange),
    write("ZREMRANGEBYSCORE", 4, sorted_sets::zremrangebyscore),
    read("ZRANGEBYSCORE", -4, sorted_sets::zrangebyscore),
    read("ZSCAN", -3, sorted_sets::zscan),
    grow("XADD", -5, streams::xadd),
    read("XLEN", 2, streams::xlen),
    read("XRANGE", -4, streams::xrange),
    read("XREVRANGE", -4, streams::xrevrange),
    Command { name: "XTRIM", arity: -4, kind: Kind::Write, run: Run::Rewrite(streams::xtrim) },
    read("XINFO", -2, streams::xinfo),
    read("XPENDING", -3, streams::xpending),
    grow("XGROUP", -2, streams::xgroup),
    write("XREADGROUP", -7, streams::xreadgroup),
    write("XACK", -4, streams::xack),
    // What scripts may call besides.
    Command { name: "TIME", arity: 1, kind: Kind::Read, run: Run::Server },
    Command { name: "PING", arity: -1, kind: Kind::Read, run: Run::Server },
    server("AUTH", -2),
    server("SELECT", 2),
    server("CLIENT", -2),
    server("CONFIG", -2),
    server("INFO", -1),
    server("ROLE", 1),
    server("SCRIPT", -2),
    server("EVALSHA", -3),
    server("WAIT", 3),
];

const fn read(name: &'static str, arity: i32, run: fn(&Dataset, &[Vec<u8>]) -> Outcome) -> Command {
    Command { name, arity, kind: Kind::Read, run: Run::Read(run) }
}

const fn write(name: &'static str, arity: i32, run: fn(&mut Dataset, &[Vec<u8>]) -> Outcome) -> Command {
    Command { name, arity, kind: Kind::Write, run: Run::Write(run) }
}

const fn grow(name: &'static str, arity: i32, run: fn(&mut Dataset, &[Vec<u8>]) -> Outcome) -> Command {
    Command { name, arity, kind: Kind::Grow, run: Run::Write(run) }
}

const fn server(name: &'static str, arity: i32) -> Command {
    Command { name, arity, kind: Kind::Server, run: Run::Server }
}

impl Command {
    /// The command of that name, in any case.
    pub fn named(name: &[u8]) -> Option<&'static Command> {
        COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
    }

    /// Whether it takes that many words.
    pub fn takes(&self, words: usize) -> bool {
        let arity = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { words >= arity } else { words == arity }
    }

    /// How trouble treats it with these words.
    pub fn kind(&self, words: &[Vec<u8>]) -> Kind {
        match words.get(1) {
            Some(what) if self.name == "XGROUP" && !what.eq_ignore_ascii_case(b"CREATE") => Kind::Write,
            _ => self.kind,
        }
    }

    /// The error of one that does not take as many words as it was given.
    pub fn wrong_arity(&self) -> Reply {
        wrong_arity(&self.name.to_ascii_lowercase())
    }

    /// Carries it out. Afterwards the words are what a replica, and the append-only file, are to carry out.
    ///
    /// Panics on a command of the server.
    pub fn run(&self, data: &mut Dataset, words: &mut Words) -> Reply {
        let outcome = match self.run {
            Run::Read(run) => run(data, words),
            Run::Write(run) => run(data, words),
            Run::Rewrite(run) => run(data, words),
            Run::Server => panic!("{} is the server's own", self.name),
        };
        outcome.unwrap_or_else(|error| error)
    }
}

fn wrong_arity(name: &str) -> Reply {
    Reply::Error(format!("ERR wrong number of arguments for '{name}' command"))
}

fn syntax_error() -> Reply {
    Reply::error("ERR syntax error")
}

/// The model does not know this form of a command.
pub fn unmodelled(words: &[Vec<u8>]) -> ! {
    let words: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
    panic!("the model has no {words:?}")
}
