//! The model and a real redis-server, which are told the same and must say the same.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boxoffice::ledger::redis::codec;

use crate::redis::{ClientId, Loss, ModelRedis, Options, Trouble};
use crate::support::redis_server::RedisServer;

pub type Words = Vec<Vec<u8>>;

/// Commands that a failure shows.
const SHOWN_MAX: usize = 12;

/// A command's bytes.
pub fn packed(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Both servers.
pub struct Pair {
    server: RedisServer,
    stream: UnixStream,
    received: Vec<u8>,
    model: ModelRedis,
    client: ClientId,
    seed: u64,
    said: VecDeque<String>,
    /// How often each kind of reply was compared: first words of errors, types of others.
    replies: BTreeMap<String, u64>,
}

impl Pair {
    pub fn start() -> Pair {
        // Written before each reply, and read back after a SIGKILL; `everysec` may write later than that.
        let server = RedisServer::on_socket(&["--appendonly", "yes", "--appendfsync", "no"]);
        let stream = connect(&server);
        let mut model = ModelRedis::new(Options::default());
        let client = model.connect();
        let said = VecDeque::new();
        Pair { server, stream, received: Vec::new(), model, client, seed: 0, said, replies: BTreeMap::new() }
    }

    /// Empty servers that know no script.
    pub fn begin(&mut self, seed: u64) {
        self.seed = seed;
        self.said.clear();
        self.real_words(&["FLUSHALL"]);
        self.real_words(&["SCRIPT", "FLUSH"]);
        self.model = ModelRedis::new(Options::default());
        self.client = self.model.connect();
        self.load_scripts();
    }

    pub fn load_scripts(&mut self) {
        let mut bytes = Vec::new();
        let replies = codec::load_scripts(&mut bytes);
        self.same(&bytes, replies);
    }

    /// What both reply to these words, which must be the same.
    #[track_caller]
    pub fn same_words(&mut self, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
        self.same(&packed(words), 1)
    }

    /// What both reply to these bytes, which must be the same.
    #[track_caller]
    pub fn same(&mut self, bytes: &[u8], replies: usize) -> Vec<u8> {
        let (model, real) = self.both(bytes, replies);
        self.assert_same(&model, &real);
        real
    }

    /// What the model and the real one reply.
    pub fn both(&mut self, bytes: &[u8], replies: usize) -> (Vec<u8>, Vec<u8>) {
        self.note(bytes);
        let model = self.model(bytes);
        let real = self.real(bytes, replies);
        let kind = match real.first() {
            _ if real == b"$7\r\nremoved\r\n" => "removed".to_owned(),
            Some(b'-') => {
                String::from_utf8_lossy(&real).split([' ', '\r']).next().unwrap_or_default().to_owned()
            }
            first => first.map(|&byte| char::from(byte)).into_iter().collect(),
        };
        *self.replies.entry(kind).or_default() += 1;
        (model, real)
    }

    #[track_caller]
    pub fn assert_same(&self, model: &[u8], real: &[u8]) {
        if model != real && without_present(model) != without_present(real) {
            let said: Vec<&str> = self.said.iter().map(String::as_str).collect();
            panic!(
                "after\n  {}\nthe model says\n  {}\nand Redis\n  {}\nreplay: SEED={} SEQUENCES=1 cargo test --profile quick --test scripts",
                said.join("\n  "),
                model.escape_ascii(),
                real.escape_ascii(),
                self.seed
            );
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        if self.said.len() == SHOWN_MAX {
            self.said.pop_front();
        }
        let mut text = bytes.escape_ascii().to_string();
        if text.len() > 1_500 {
            text.truncate(1_500);
            text += "...";
        }
        self.said.push_back(text);
    }

    pub fn model(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.model.set_clock_offset(present_ms() as i64 * 1_000);
        self.model.handle_bytes(self.client, bytes, 0);
        self.model.poll_output(self.client)
    }

    pub fn real(&mut self, bytes: &[u8], replies: usize) -> Vec<u8> {
        self.stream.write_all(bytes).expect("redis-server reads");
        loop {
            if let Some(length) = replies_length(replies, &self.received) {
                let rest = self.received.split_off(length);
                return std::mem::replace(&mut self.received, rest);
            }
            let mut chunk = [0; 65_536];
            let read = read_once(&mut self.stream, &mut chunk);
            assert!(read > 0, "redis-server closed the connection");
            self.received.extend_from_slice(&chunk[..read]);
        }
    }

    fn real_words(&mut self, words: &[&str]) -> Vec<u8> {
        self.real(&packed(words), 1)
    }

    /// Lets both meet that trouble, or none.
    pub fn set_trouble(&mut self, trouble: Option<Trouble>) {
        match trouble {
            Some(Trouble::OutOfMemory) => self.set_real(&["CONFIG", "SET", "maxmemory", "1"]),
            Some(Trouble::ReadOnly) => self.set_real(&["REPLICAOF", "127.0.0.1", "1"]),
            None => {
                self.set_real(&["CONFIG", "SET", "maxmemory", "0"]);
                self.set_real(&["REPLICAOF", "NO", "ONE"]);
            }
            Some(other) => panic!("a real server is not brought into {other:?} cheaply"),
        }
        self.model.set_trouble(trouble);
    }

    fn set_real(&mut self, words: &[&str]) {
        let reply = self.real_words(words);
        assert!(reply.starts_with(b"+OK"), "{words:?}: {}", reply.escape_ascii());
    }

    /// Kills both and starts them again on what they have on disk, whole: what was written is the system's.
    pub fn restart(&mut self) {
        self.server.restart();
        self.stream = connect(&self.server);
        self.received.clear();
        self.model.crash_and_restart(Loss::Nothing, 0);
        self.client = self.model.connect();
    }

    /// Compares all keys, each with all it holds.
    #[track_caller]
    pub fn assert_same_data(&mut self) {
        let keys = self.sorted(&["KEYS", "*"], 1);
        for key in keys.into_iter().flatten() {
            let reply = self.same_words(&[b"TYPE".as_slice(), &key]);
            match reply.as_slice() {
                b"+string\r\n" => drop(self.same_words(&[b"GET".as_slice(), &key])),
                b"+hash\r\n" => drop(self.sorted(&[b"HGETALL".as_slice(), &key], 2)),
                b"+set\r\n" => drop(self.sorted(&[b"SMEMBERS".as_slice(), &key], 1)),
                b"+zset\r\n" => {
                    drop(self.same_words(&[b"ZRANGE".as_slice(), &key, b"0", b"-1", b"WITHSCORES"]))
                }
                b"+stream\r\n" => drop(self.same_words(&[b"XRANGE".as_slice(), &key, b"-", b"+"])),
                other => panic!("a type: {}", other.escape_ascii()),
            }
        }
    }

    /// What both reply to these words: a list of rows of that many strings, the same in some order.
    #[track_caller]
    pub fn sorted(&mut self, words: &[impl AsRef<[u8]>], strings: usize) -> Vec<Words> {
        let (model, real) = self.both(&packed(words), 1);
        let rows = |reply: &[u8]| -> Option<Vec<Words>> {
            let mut strings_of = reply_strings(reply)?;
            let mut rows: Vec<Words> = strings_of.chunks_mut(strings).map(|row| row.to_vec()).collect();
            rows.sort();
            Some(rows)
        };
        match (rows(&model), rows(&real)) {
            (Some(ours), Some(theirs)) if ours == theirs => theirs,
            _ => {
                self.assert_same(&model, &real);
                Vec::new()
            }
        }
    }

    /// Ends another connection of both as a host does; what that connection sent and was not carried out must not be
    /// carried out any more.
    pub fn assert_same_ends(&mut self) {
        let mut victim = connect(&self.server);
        let model_victim = self.model.connect();
        let asked = [packed(&["CLIENT", "SETNAME", "victim"]), packed(&["CLIENT", "ID"])].concat();
        victim.write_all(&asked).expect("redis-server reads");
        self.model.handle_bytes(model_victim, &asked, 0);
        let mut said = [0; 4_096];
        let read = read_once(&mut victim, &mut said);
        let ids = (id_in(&said[..read]), id_in(&self.model.poll_output(model_victim)));
        let own = packed(&["CLIENT", "ID"]);
        let own = (id_in(&self.real(&own, 1)), id_in(&self.model(&own)));
        let nobody = ("9223372036854775807".to_owned(), "9223372036854775807".to_owned());
        let named = |list: &[u8]| memchr::memmem::find(list, b" name=victim ").is_some();
        let (real, model) = self.about("LIST", &ids);
        assert!(named(&real) && named(&model), "{} {}", real.escape_ascii(), model.escape_ascii());
        assert_eq!(self.about("LIST", &nobody), (b"$0\r\n\r\n".to_vec(), b"$0\r\n\r\n".to_vec()));
        let zero = (b":0\r\n".to_vec(), b":0\r\n".to_vec());
        assert_eq!(self.about("KILL", &nobody), zero);
        assert_eq!(self.about("KILL", &own), zero, "not who asks");
        // Half a command that its rest would make whole.
        let late = packed(&["SADD", "late", "late"]);
        let (half, rest) = late.split_at(late.len() / 2);
        victim.write_all(half).expect("redis-server reads");
        self.model.handle_bytes(model_victim, half, 0);
        assert_eq!(self.about("KILL", &ids), (b":1\r\n".to_vec(), b":1\r\n".to_vec()));
        // An error is that of a connection that is gone, as it should be.
        let _ = victim.write_all(rest);
        self.model.handle_bytes(model_victim, rest, 0);
        assert_eq!(victim.read(&mut said).unwrap_or(0), 0, "it is closed");
        assert_eq!(self.about("KILL", &ids), zero);
        assert_eq!(self.same_words(&["EXISTS", "late"]), b":0\r\n");
    }

    /// What the real one and the model reply about a connection, which has numbers of its own in each.
    fn about(&mut self, what: &str, (real, model): &(String, String)) -> (Vec<u8>, Vec<u8>) {
        let words = |id: &String| packed(&["CLIENT", what, "ID", id]);
        (self.real(&words(real), 1), self.model(&words(model)))
    }

    /// A run that never met one of these has shown less than it says.
    pub fn assert_covered(&self) {
        println!("replies compared: {:?}", self.replies);
        for kind in [
            "+",
            ":",
            "$",
            "*",
            "-WRONGTYPE",
            "-NOSCRIPT",
            "-OOM",
            "-READONLY",
            "-UNSOUND",
            "-ERR",
            "removed",
        ] {
            assert!(self.replies.contains_key(kind), "no {kind} in {:?}", self.replies);
        }
    }
}

/// The number that is the last reply of these.
fn id_in(replies: &[u8]) -> String {
    let text = String::from_utf8_lossy(replies);
    text.rsplit_once(':').unwrap_or_else(|| panic!("no number: {text}")).1.trim_end().to_owned()
}

fn present_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    since.as_millis() as u64
}

/// A reply without the present time in milliseconds, which a survey tells and no two servers tell alike.
pub fn without_present(reply: &[u8]) -> Vec<u8> {
    let present = present_ms();
    let is_present = |digits: &[u8]| {
        let number: Option<u64> = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
        number.is_some_and(|number| number.abs_diff(present) < 60_000)
    };
    let mut rest = reply;
    let mut kept = Vec::with_capacity(reply.len());
    while !rest.is_empty() {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if is_present(&rest[..digits]) {
            kept.extend_from_slice(b"NOW");
        } else {
            kept.extend_from_slice(&rest[..digits.max(1)]);
        }
        rest = &rest[digits.max(1)..];
    }
    kept
}

/// Where that many replies end; `None` where they are not whole.
pub fn replies_length(replies: usize, bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut expected = replies;
    while expected > 0 {
        let end = at + bytes[at..].iter().position(|&byte| byte == b'\n')? + 1;
        let number = || std::str::from_utf8(&bytes[at + 1..end - 2]).ok()?.parse::<i64>().ok();
        match bytes[at] {
            b'*' => expected += usize::try_from(number()?).unwrap_or(0),
            b'$' if number()? >= 0 => {
                let whole = end + number()? as usize + 2;
                bytes.get(whole - 1)?;
                at = whole;
                expected -= 1;
                continue;
            }
            _ => {}
        }
        at = end;
        expected -= 1;
    }
    Some(at)
}

/// The strings of an array; `None` where it is none.
fn reply_strings(reply: &[u8]) -> Option<Words> {
    let ::redis::Value::Array(items) = ::redis::parse_redis_value(reply).ok()? else { return None };
    let strings = items.into_iter().map(|item| match item {
        ::redis::Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    strings.collect()
}

/// What redis-server says next. A process that was stopped and goes on is told that its read was interrupted.
fn read_once(stream: &mut UnixStream, room: &mut [u8]) -> usize {
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome.expect("redis-server answers"),
        }
    }
}

fn connect(server: &RedisServer) -> UnixStream {
    let stream = UnixStream::connect(server.socket()).expect("redis-server takes connections");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out above zero");
    stream
}
