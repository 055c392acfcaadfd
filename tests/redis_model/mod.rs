//! A model of a Redis server that runs the real scripts of `lua/`: deterministic, in memory, on virtual time.
//!
//! It owns one server process: the data, the append-only file, the script cache, the connections. It never does I/O, reads
//! no clock and draws no random number. `tests/sim` puts it behind its network; `tests/scripts` holds it
//! against a real redis-server, reply by reply.
//!
//! It speaks RESP2 in the words of Redis 7.0, has one database, and knows the commands in use and no other: one that it does
//! not know is a panic. WAIT is that of Redis 7.2, the stricter one: it waits for the last write of its own connection.

mod append_only;
mod commands;
mod dataset;
mod inspect;
pub mod lines;
mod refusals;
mod replication;
mod script;
mod server;
mod stream;
mod values;
mod wire;

use std::collections::BTreeMap;

use append_only::AppendOnlyFile;
use dataset::Dataset;
use refusals::Refusals;
use replication::History;

pub use append_only::{Effect, Fsync, Loss};
pub use inspect::{Booking, LogEntry, Stock};
pub use refusals::Trouble;
pub use replication::{FullCopy, Position};

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Options {
    pub appendonly: bool,
    pub fsync: Fsync,
    /// Starts as a replica, which takes no writes but those of its primary.
    pub is_replica: bool,
    /// What clients must say first.
    pub password: Option<String>,
}

impl Default for Options {
    /// A primary that syncs every write.
    fn default() -> Options {
        Options { appendonly: true, fsync: Fsync::Always, is_replica: false, password: None }
    }
}

/// A connection. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u32);

/// What is run in place of a script.
type Rewrite = Box<dyn Fn(&str) -> String>;

/// One server process, over its restarts.
pub struct ModelRedis {
    options: Options,
    data: Dataset,
    file: AppendOnlyFile,
    synced_us: u64,
    history: History,
    /// What each connected replica has said that it has.
    replicas: BTreeMap<u32, u64>,
    /// The scripts that were loaded since the start, by their hash, and the hash of what is run for each.
    scripts: BTreeMap<String, String>,
    rewrite: Option<Rewrite>,
    clients: BTreeMap<ClientId, Client>,
    last_client: u32,
    /// Who made the last change.
    last_writer: Option<ClientId>,
    /// The last number that a client was told, which begin anew with each process.
    last_number: u64,
    refusals: Refusals,
    now_us: u64,
    clock_offset_us: i64,
}

#[derive(Debug, Default)]
struct Client {
    /// Its number in this process.
    number: u64,
    name: Vec<u8>,
    input: Vec<u8>,
    output: Vec<u8>,
    is_authenticated: bool,
    /// The offset of its last write.
    written: u64,
    wait: Option<Wait>,
}

/// A WAIT that has not been answered. What its client sent after it is carried out afterwards.
#[derive(Clone, Copy, Debug)]
struct Wait {
    replicas: i64,
    until_us: Option<u64>,
}

impl ModelRedis {
    /// A server without data.
    pub fn new(options: Options) -> ModelRedis {
        let refusals = Refusals { trouble: None, is_replica: options.is_replica };
        ModelRedis {
            options,
            data: Dataset::default(),
            file: AppendOnlyFile::default(),
            synced_us: 0,
            history: History::new(),
            replicas: BTreeMap::new(),
            scripts: BTreeMap::new(),
            rewrite: None,
            clients: BTreeMap::new(),
            last_client: 0,
            last_writer: None,
            last_number: 0,
            refusals,
            now_us: 0,
            clock_offset_us: 0,
        }
    }

    /// Accepts a connection.
    pub fn connect(&mut self) -> ClientId {
        self.last_client += 1;
        self.last_number += 1;
        let client = ClientId(self.last_client);
        let is_authenticated = self.options.password.is_none();
        self.clients
            .insert(client, Client { number: self.last_number, is_authenticated, ..Client::default() });
        client
    }

    /// The client closed its connection, or the network did. What it sent and was not begun is not carried out.
    pub fn disconnect(&mut self, client: ClientId) {
        self.clients.remove(&client);
    }

    /// Who made the last change.
    pub fn last_writer(&self) -> Option<ClientId> {
        self.last_writer
    }

    /// Whether the connection is open.
    pub fn is_connected(&self, client: ClientId) -> bool {
        self.clients.contains_key(&client)
    }

    /// Bytes of a client, in any fragmentation; whole commands are carried out in their order. Bytes of a connection that
    /// is closed are ignored. `now_us` is virtual time, which never goes back.
    pub fn handle_bytes(&mut self, client: ClientId, bytes: &[u8], now_us: u64) {
        self.handle_time(now_us);
        if let Some(state) = self.clients.get_mut(&client) {
            state.input.extend_from_slice(bytes);
            self.serve(client);
        }
    }

    /// The reply bytes that are ready.
    pub fn poll_output(&mut self, client: ClientId) -> Vec<u8> {
        self.clients.get_mut(&client).map(|client| std::mem::take(&mut client.output)).unwrap_or_default()
    }

    /// Time has come this far: what is due is done.
    pub fn handle_time(&mut self, now_us: u64) {
        assert!(now_us >= self.now_us, "virtual time went back");
        self.now_us = now_us;
        self.sync_if_due();
        self.answer_waits();
    }

    /// When [`handle_time`](ModelRedis::handle_time) has something to do, if nothing else happens.
    pub fn next_deadline(&self) -> Option<u64> {
        server::next_deadline_of(self)
    }

    /// The server's wall clock, which TIME tells, is that far ahead of virtual time.
    pub fn set_clock_offset(&mut self, offset_us: i64) {
        self.clock_offset_us = offset_us;
    }

    /// Killed, and started again: connections and script cache are gone, and so is what the loss takes. Whatever was wrong
    /// is over. Replicas have to copy everything anew.
    pub fn crash_and_restart(&mut self, loss: Loss, now_us: u64) {
        assert!(now_us >= self.now_us, "virtual time went back");
        self.now_us = now_us;
        self.clients.clear();
        self.last_number = 0;
        self.scripts.clear();
        self.replicas.clear();
        self.refusals.trouble = None;
        let loss = if self.options.appendonly { loss } else { Loss::Everything };
        self.data = self.file.read_after(loss);
        self.synced_us = now_us;
        self.history = History::new();
    }

    /// `SCRIPT FLUSH` by somebody else.
    pub fn script_flush(&mut self) {
        self.scripts.clear();
    }

    /// Scripts that are loaded from now on run as another text, under the hash of their own: for mutants.
    pub fn rewrite_scripts(&mut self, rewrite: impl Fn(&str) -> String + 'static) {
        self.rewrite = Some(Box::new(rewrite));
    }

    /// `FLUSHALL` by somebody else: no data, and none to find again.
    pub fn flush_all(&mut self) {
        self.data = Dataset::default();
        self.file = AppendOnlyFile::default();
        self.history = History::new();
    }

    /// `DEL` of one key by somebody else.
    pub fn delete(&mut self, key: &str) {
        if self.data.keys.remove(key.as_bytes()).is_some() {
            self.record(std::rc::Rc::new(vec![vec![b"DEL".to_vec(), key.as_bytes().to_vec()]]));
            self.last_writer = None;
        }
    }

    /// What is wrong from now on.
    pub fn set_trouble(&mut self, trouble: Option<Trouble>) {
        self.refusals.trouble = trouble;
    }

    /// How many effects a machine that goes down now may lose.
    pub fn unsynced(&self) -> usize {
        self.file.unsynced()
    }
}
