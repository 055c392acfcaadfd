//! A host: the real board and engines, and around each engine what `runtime/worker.rs` and `runtime/redis_link.rs` do with
//! mio, done with the simulated network.
//!
//! A loop has mail: what came since its last turn. A turn takes it in, drives the session with Redis, ends the engine's
//! turn, sends calls, and writes to clients, in the worker's order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boxoffice::booking::{Answer, Call, CallId, SaleName, SaleState};
use boxoffice::clock::{Monotonic, Now, WallTime};
use boxoffice::connection::Fate;
use boxoffice::engine::{Admission, ConnectionKey, Engine, Settings};
use boxoffice::http::encode::OVERLOADED;
use boxoffice::ledger::redis::session::Session;
use boxoffice::ledger::url::LedgerUrl;
use boxoffice::limits::ClientLimits;
use boxoffice::metrics::CoreMetrics;
use boxoffice::stock::{Board, CoreIndex};

use crate::client::read_answer;
use crate::ledger::BASE_US;
use crate::mutants::Seam;
use crate::network::{Network, Piece, PipeId, Place, Side};
use crate::random::Random;
use crate::scenario::{SALE, Scenario};

/// Whether a host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// It does.
    Yes,
    /// It stands still.
    Paused { until: u64 },
    /// It ends, and answers what it was asked.
    Draining { until: u64, down_us: u64 },
    /// It is not there.
    Down,
}

/// A host, over its restarts.
pub struct Host {
    /// Its number.
    pub number: usize,
    /// See [`Running`].
    pub running: Running,
    /// Counts its starts.
    pub incarnation: u32,
    /// Its wall clock is so far ahead of the world's.
    pub skew_ms: i64,
    /// What its loops share; `None` while it is down.
    pub board: Option<Arc<Board>>,
    /// Its loops; none while it is down.
    pub cores: Vec<Core>,
    /// When each sale of the name was opened that it has known, in its file of state too where it keeps one.
    pub known: BTreeSet<u64>,
    /// It has waited for those that know a ledger that is new, as it started.
    pub has_waited: bool,
    /// Since when all its loops have reached Redis.
    pub linked_since: Option<u64>,
    /// What checkers know of it.
    pub watch: Watch,
}

/// What a host knew and held when, for whoever judges a refusal.
#[derive(Debug, Default)]
pub struct Watch {
    /// (when learnt, when asked for) of each reading of the sale that came from the ledger.
    pub readings: Vec<(u64, u64)>,
    /// The last sync brought what looks older than what is known.
    pub doubted: bool,
    /// (when, most permits that were with the ledger at once in that turn).
    pub taken: Vec<(u64, u64)>,
    /// When clients were turned away, since the host drained.
    pub turned_away: Vec<u64>,
    /// Ids in what was made for clients to read.
    pub said: BTreeSet<String>,
}

impl Watch {
    fn note_said(&mut self, output: &[u8]) {
        const MARK: &[u8] = b"\"booking\":\"";
        for at in memchr::memmem::find_iter(output, MARK) {
            let id = output[at + MARK.len()..].split(|byte| *byte == b'"').next().unwrap_or_default();
            self.said.insert(String::from_utf8_lossy(id).into_owned());
        }
    }
}

/// One loop.
pub struct Core {
    index: usize,
    place: Place,
    /// The brain.
    pub engine: Engine,
    /// The session with Redis.
    pub session: Session,
    link: Option<PipeId>,
    connected: bool,
    ledger_up: bool,
    sockets: BTreeMap<PipeId, Socket>,
    by_index: BTreeMap<usize, PipeId>,
    /// What came since the last turn.
    pub mail: Vec<(PipeId, Piece)>,
    /// When its next turn is.
    pub turn_at: Option<u64>,
    submitted: BTreeMap<u64, (u64, Call)>,
    /// This loop's last reading of the sale was of a moment after which every change is announced, and none was since.
    quiet: bool,
    /// By how much the ledger's clock was ahead of the world's at least, in milliseconds.
    ahead_ms: i64,
    seam: Seam,
}

struct Socket {
    key: ConnectionKey,
    received: Vec<u8>,
    /// Requests that a mutant serves apart, in their order: what each was answered so far.
    apart: Vec<(ConnectionKey, Vec<u8>)>,
    ended: bool,
    told_end: bool,
    shut: bool,
    writable: bool,
}

impl Host {
    /// One that is down.
    pub fn new(number: usize) -> Host {
        Host {
            number,
            running: Running::Down,
            incarnation: 0,
            skew_ms: 0,
            board: None,
            cores: Vec::new(),
            known: BTreeSet::new(),
            has_waited: false,
            linked_since: None,
            watch: Watch::default(),
        }
    }

    /// Both clocks as it reads them.
    pub fn now(&self, now: u64) -> Now {
        Now {
            monotonic: Monotonic(now * 1_000),
            wall: WallTime((BASE_US + now).saturating_add_signed(self.skew_ms * 1_000) / 1_000),
        }
    }

    /// Starts, with the sale as the ledger told it.
    pub fn start(
        &mut self,
        scenario: &Scenario,
        first: Option<&Answer>,
        seam: Option<crate::mutants::SeamKind>,
        now: u64,
    ) {
        self.incarnation += 1;
        self.has_waited = false;
        let mut random =
            Random::new(scenario.seed, "host", self.number as u64 * 1_000 + u64::from(self.incarnation));
        let board = Arc::new(
            Board::new(scenario.cores, 1.0, scenario.buffer).with_hash_key((random.next(), random.next())),
        );
        if let Some(&opened) = self.known.last() {
            board.remember(&sale(), opened).expect("room for one sale");
        }
        match first {
            Some(Answer::Sale { state, .. }) => {
                board.learn(&sale(), state).expect("room for one sale");
            }
            Some(Answer::SaleLost) => {
                board.remember(&sale(), 0).expect("room for one sale");
            }
            _ => {}
        }
        self.watch.readings.push((now, now));
        self.watch.doubted = false;
        self.watch.taken.push((now, 0));
        let limits = Arc::new(ClientLimits::default());
        let admission = Arc::new(Admission::new(&limits));
        let LedgerUrl::Redis(url) = "redis://sim:6379/0".parse().expect("a URL") else { unreachable!() };
        let at = self.now(now);
        self.cores = (0..scenario.cores)
            .map(|index| {
                let settings = Settings {
                    core: CoreIndex(index),
                    ledger_timeout_ms: scenario.ledger_timeout_ms,
                    seed: random.bytes(),
                    limits: Arc::clone(&limits),
                    admission: Arc::clone(&admission),
                };
                let metrics = Arc::new(CoreMetrics::default());
                let engine = Engine::new(settings, Arc::clone(&board), metrics, None, at);
                let durability = match seam {
                    Some(crate::mutants::SeamKind::TellEarly) => boxoffice::booking::Durability::Ack,
                    _ => scenario.keeping.durability(),
                };
                Core {
                    index,
                    place: Place::Loop { host: self.number, core: index, incarnation: self.incarnation },
                    engine,
                    session: Session::new(url.clone(), durability, random.next(), at.monotonic),
                    link: None,
                    connected: false,
                    ledger_up: false,
                    sockets: BTreeMap::new(),
                    by_index: BTreeMap::new(),
                    mail: Vec::new(),
                    turn_at: None,
                    submitted: BTreeMap::new(),
                    quiet: false,
                    ahead_ms: i64::MIN,
                    seam: Seam::new(seam, random.clone()),
                }
            })
            .collect();
        self.board = Some(board);
        self.running = Running::Yes;
    }

    /// What a turn has changed of what it knows, and whether it reaches Redis.
    pub fn note_known(&mut self, now: u64) {
        let sale = self.board.as_ref().and_then(|board| board.directory().get(SALE).cloned());
        match sale {
            Some(sale) => {
                let opened = sale.seen().opened;
                if opened > 0 {
                    self.known.insert(opened);
                }
            }
            // It was removed.
            None => self.known.clear(),
        }
        match self.is_linked() {
            true => {
                self.linked_since.get_or_insert(now);
            }
            false => self.linked_since = None,
        }
    }

    /// Ends at once, as by SIGKILL: what its kernel was given may still arrive.
    pub fn kill(&mut self, net: &mut Network, random: &mut Random, now: u64) {
        for core in std::mem::take(&mut self.cores) {
            let pipes: Vec<(PipeId, Side)> = core
                .sockets
                .keys()
                .map(|&pipe| (pipe, Side::Acceptor))
                .chain(core.link.map(|pipe| (pipe, Side::Dialler)))
                .collect();
            // Connections that it was about to accept go with it.
            let unaccepted = core.mail.iter().map(|(pipe, _)| *pipe).filter(|pipe| Some(*pipe) != core.link);
            for (pipe, side) in pipes.into_iter().chain(unaccepted.map(|pipe| (pipe, Side::Acceptor))) {
                match random.chance(600) {
                    true => net.close(pipe, side, now),
                    false => net.abort(pipe, side, now),
                }
            }
        }
        self.board = None;
        self.linked_since = None;
        self.running = Running::Down;
    }

    /// One turn of a loop. `redis` is where the ledger is now.
    pub fn turn(&mut self, core: usize, net: &mut Network, redis: Place, now: u64) {
        let clocks = self.now(now);
        let board = self.board.clone().expect("a host that runs has a board");
        let draining = matches!(self.running, Running::Draining { .. });
        let mut turn = Turn { net, redis, now, clocks, watch: &mut self.watch, board: &board, draining };
        self.cores[core].turn(&mut turn);
        self.check(&board);
    }

    /// Between turns nothing contradicts itself, and every permit that is with the ledger is with an entry.
    fn check(&self, board: &Board) {
        let sale = sale();
        let directory = board.directory();
        let (mut held, mut marked) = (0, 0);
        for core in &self.cores {
            core.engine.check_invariants();
            held += core.engine.desk().permits_held(&sale);
            marked += core.engine.desk().ids_marked(&sale);
        }
        if let Some(sale) = directory.get(SALE) {
            let taken: u64 = sale.totals().map(|shard| shard.taken).sum();
            assert_eq!(taken, held, "permits are conserved: those taken are those that entries hold");
            assert_eq!(sale.ids_in_flight(), marked, "an id is in flight while an entry waits with it");
        }
    }

    /// Takes no more connections and answers what it was asked, for so long; then it is down for a while.
    pub fn begin_drain(&mut self, until: u64, down_us: u64, net: &mut Network, now: u64) {
        self.running = Running::Draining { until, down_us };
        let (clocks, board) = (self.now(now), self.board.clone().expect("it runs"));
        for core in &mut self.cores {
            core.engine.begin_turn(clocks);
            core.engine.drain();
            core.flush_touched(net, &mut self.watch, &board, clocks, now);
        }
    }

    /// Whether a draining host has nothing left to do.
    pub fn is_drained(&self) -> bool {
        self.cores.iter().all(|core| core.engine.is_drained())
    }

    /// Whether it knows the sale.
    pub fn knows_sale(&self) -> bool {
        let sale = self.board.as_ref().and_then(|board| board.directory().get(SALE).cloned());
        sale.is_some_and(|sale| !sale.is_missing())
    }

    /// The sale as it knows it.
    pub fn level(&self) -> Option<SaleState> {
        self.board.as_ref()?.directory().get(SALE)?.level()
    }

    /// Whether all its loops reach Redis.
    pub fn is_linked(&self) -> bool {
        self.cores.iter().all(|core| core.session.is_up())
    }

    /// Entries and orphans that wait for the ledger.
    pub fn waiting(&self) -> usize {
        self.cores.iter().map(|core| core.engine.desk().waiting()).sum()
    }
}

/// The name of the sale.
pub fn sale() -> SaleName {
    SaleName::parse(SALE).expect("a name")
}

struct Turn<'a> {
    net: &'a mut Network,
    redis: Place,
    now: u64,
    clocks: Now,
    watch: &'a mut Watch,
    board: &'a Board,
    draining: bool,
}

impl Turn<'_> {
    fn taken(&self) -> u64 {
        self.board.directory().get(SALE).map_or(0, |sale| sale.totals().map(|shard| shard.taken).sum())
    }
}

impl Core {
    fn turn(&mut self, turn: &mut Turn<'_>) {
        self.turn_at = None;
        self.engine.begin_turn(turn.clocks);
        for (pipe, piece) in std::mem::take(&mut self.mail) {
            match Some(pipe) == self.link {
                true => self.handle_ledger_piece(pipe, piece, turn),
                false => self.handle_client_piece(pipe, piece, turn),
            }
        }
        let mut taken = turn.taken();
        let pipes: Vec<PipeId> = self.sockets.keys().copied().collect();
        for pipe in pipes {
            self.read(pipe);
            taken = taken.max(turn.taken());
        }
        self.handle_ledger(turn);
        self.engine.end_turn();
        taken = taken.max(turn.taken());
        if turn.watch.taken.last().is_none_or(|(_, before)| *before != taken) {
            turn.watch.taken.push((turn.now, taken));
        }
        self.send_calls(turn);
        while let Some(key) = self.engine.poll_touched() {
            self.flush(key, turn);
        }
        self.plan_turn(turn.now);
    }

    fn plan_turn(&mut self, now: u64) {
        let unread = self.sockets.values().any(|socket| {
            let is_whole = !self.seam.serves_beside() || whole_request(&socket.received).is_some();
            (!socket.received.is_empty() && is_whole || socket.ended && !socket.told_end)
                && self.engine.wants_read(socket.key)
        });
        let deadlines = [Some(self.engine.next_deadline()), self.session.next_deadline()];
        let deadline = deadlines.into_iter().flatten().min().map_or(now + 1, |at| at.0.div_ceil(1_000));
        self.turn_at = Some(if unread { now + 1 } else { deadline.max(now + 1) });
    }

    fn handle_ledger_piece(&mut self, pipe: PipeId, piece: Piece, turn: &mut Turn<'_>) {
        let now = turn.clocks.monotonic;
        match piece {
            Piece::Open => {
                self.connected = true;
                self.session.handle_connected(now);
            }
            Piece::Bytes(bytes) => {
                if self.session.handle_bytes(&bytes, now).is_err() {
                    self.drop_link(pipe, turn);
                }
            }
            Piece::End | Piece::Reset => {
                self.session.handle_lost("Redis closed the connection", now);
                self.drop_link(pipe, turn);
            }
            Piece::Taken => {}
        }
    }

    fn drop_link(&mut self, pipe: PipeId, turn: &mut Turn<'_>) {
        turn.net.close(pipe, Side::Dialler, turn.now);
        self.link = None;
        self.connected = false;
        self.quiet = false;
        self.seam.note_loss(&self.submitted);
    }

    fn handle_client_piece(&mut self, pipe: PipeId, piece: Piece, turn: &mut Turn<'_>) {
        match piece {
            Piece::Open => {
                let peer = std::net::Ipv4Addr::new(10, 0, 0, 1).into();
                match (turn.draining, self.engine.handle_accepted(peer)) {
                    (false, Some(key)) => {
                        let socket = Socket {
                            key,
                            received: Vec::new(),
                            apart: Vec::new(),
                            ended: false,
                            told_end: false,
                            shut: false,
                            writable: true,
                        };
                        self.sockets.insert(pipe, socket);
                        self.by_index.insert(key.index(), pipe);
                    }
                    (_, None) => {
                        turn.watch.turned_away.push(turn.now);
                        turn.net.write(pipe, Side::Acceptor, OVERLOADED, turn.now);
                        turn.net.close(pipe, Side::Acceptor, turn.now);
                    }
                    (true, Some(_)) => unreachable!("a draining engine accepts nobody"),
                }
            }
            Piece::Bytes(bytes) => {
                if let Some(socket) = self.sockets.get_mut(&pipe) {
                    socket.received.extend(bytes);
                }
            }
            Piece::End => {
                if let Some(socket) = self.sockets.get_mut(&pipe) {
                    socket.ended = true;
                }
            }
            Piece::Reset => self.drop_socket(pipe, turn),
            Piece::Taken => {
                if let Some(socket) = self.sockets.get_mut(&pipe) {
                    socket.writable = true;
                    let key = socket.key;
                    self.flush(key, turn);
                }
            }
        }
    }

    /// Reads once.
    fn read(&mut self, pipe: PipeId) {
        let Some(socket) = self.sockets.get_mut(&pipe) else { return };
        let key = socket.key;
        if !self.engine.wants_read(key) {
            return;
        }
        while self.seam.serves_beside()
            && let Some(length) = whole_request(&socket.received)
            && let Some(apart) = self.engine.handle_accepted(std::net::Ipv4Addr::LOCALHOST.into())
        {
            let request: Vec<u8> = socket.received.drain(..length).collect();
            socket.apart.push((apart, Vec::new()));
            self.by_index.insert(apart.index(), pipe);
            self.engine.handle_bytes(apart, &request);
        }
        if !socket.received.is_empty() && self.seam.serves_beside() {
            // The rest of a request is to come.
        } else if !socket.received.is_empty() {
            let length = socket.received.len().min(boxoffice::limits::READ_CHUNK_BYTES);
            let bytes: Vec<u8> = socket.received.drain(..length).collect();
            self.engine.handle_bytes(key, &bytes);
        } else if socket.ended && !std::mem::replace(&mut socket.told_end, true) {
            self.engine.handle_end(key);
        }
    }

    fn drop_socket(&mut self, pipe: PipeId, turn: &mut Turn<'_>) {
        if let Some(socket) = self.sockets.remove(&pipe) {
            for (apart, _) in socket.apart {
                self.engine.handle_gone(apart);
                self.by_index.remove(&apart.index());
            }
            self.engine.handle_gone(socket.key);
            self.by_index.remove(&socket.key.index());
        }
        turn.net.close(pipe, Side::Acceptor, turn.now);
    }

    /// As `RedisLink::drive` and `Worker::handle_ledger`.
    fn handle_ledger(&mut self, turn: &mut Turn<'_>) {
        let now = turn.clocks.monotonic;
        if self.session.handle_deadline(now)
            && let Some(pipe) = self.link
        {
            self.drop_link(pipe, turn);
        }
        if self.session.dial_at().is_some_and(|at| now >= at) {
            self.session.handle_dialling(now);
            self.connected = false;
            self.link = Some(turn.net.dial(self.place, turn.redis, turn.now));
        }
        while let Some((id, answer)) = self.session.poll_answer() {
            let Some((asked_at, call)) = self.submitted.remove(&id.0) else { continue };
            let told = answer.as_ref().ok().and_then(level_in).cloned();
            if let Call::Changes { after } = &call
                && self.engine.desk().reads_sale(&sale())
            {
                let is_still = matches!(&answer, Ok(Answer::Changes { names, reset: false, .. })
                    if after.is_some() && !names.contains(&sale()));
                self.quiet &= is_still || answer.is_err();
                if let Ok(Answer::Changes { now, .. }) = &answer {
                    // Its clock has gone back, perhaps to where a change is not announced.
                    self.quiet &= now.0 as i64 - (asked_at / 1_000) as i64 + 1 >= self.ahead_ms;
                    self.ahead_ms = now.0 as i64 - turn.now.div_ceil(1_000) as i64;
                }
                // Not to be announced is as good as to be read.
                if self.quiet && is_still {
                    turn.watch.readings.push((turn.now, asked_at));
                }
            }
            for (id, answer) in self.seam.answers(id, &call, answer, turn.board, self.index) {
                self.engine.handle_answer(id, answer);
            }
            if let Some(told) = told {
                let is_believed = turn.board.directory().get(SALE).is_some_and(|sale| {
                    let place =
                        |state: &SaleState| (state.opened, state.lineage, state.version, state.sequence);
                    sale.level().is_none_or(|known| place(&known) <= place(&told))
                });
                let is_sync = matches!(call, Call::Snapshot { .. } | Call::Expire { .. });
                // What looks older than what is known: a sync is believed the second time in a row, anything else is not.
                let is_due = is_believed || is_sync && turn.watch.doubted;
                if is_sync {
                    self.quiet = is_due && told.is_settled() && told.announced_at <= told.now;
                }
                turn.watch.doubted = !is_believed && (is_sync || turn.watch.doubted);
                if is_due {
                    turn.watch.readings.push((turn.now, asked_at));
                }
            }
        }
        let up = self.session.is_up();
        if up != std::mem::replace(&mut self.ledger_up, up) {
            match up {
                true => self.engine.handle_ledger_up(),
                false => self.engine.handle_ledger_down(),
            }
        }
    }

    fn send_calls(&mut self, turn: &mut Turn<'_>) {
        while let Some((id, call)) = self.engine.poll_call() {
            self.submitted.insert(id.0, (turn.now, call.clone()));
            self.session.submit(id, call, turn.clocks.monotonic);
        }
        for (id, call) in self.seam.more_calls(self.session.is_up()) {
            self.submitted.insert(id.0, (turn.now, call.clone()));
            self.session.submit(id, call, turn.clocks.monotonic);
        }
        while self.connected
            && let Some(pipe) = self.link
        {
            let output = self.session.poll_output();
            if output.is_empty() {
                return;
            }
            let length = output.len();
            let written = turn.net.write(pipe, Side::Dialler, &self.seam.calls(output), turn.now);
            self.session.handle_written(written);
            if written < length {
                return;
            }
        }
    }

    /// As `Worker::flush`.
    fn flush(&mut self, key: ConnectionKey, turn: &mut Turn<'_>) {
        let Some(&pipe) = self.by_index.get(&key.index()) else { return };
        loop {
            let Some(socket) = self.sockets.get_mut(&pipe) else { return };
            if socket.key != key {
                return self.flush_apart(pipe, key, turn);
            }
            let output = self.engine.output(key);
            if output.is_empty() || !socket.writable {
                break;
            }
            let output = self.seam.output(output);
            let written = turn.net.write(pipe, Side::Acceptor, &output, turn.now);
            socket.writable = written == output.len();
            turn.watch.note_said(&output);
            self.engine.handle_written(key, written);
        }
        match self.engine.fate(key) {
            Fate::Open => {}
            Fate::Linger => {
                let socket = self.sockets.get_mut(&pipe).expect("it was there");
                if !std::mem::replace(&mut socket.shut, true) {
                    turn.net.end(pipe, Side::Acceptor, turn.now);
                }
            }
            Fate::Closed => self.drop_socket(pipe, turn),
        }
    }

    /// Takes the answer of a request that is served apart, and writes those whose turn it is.
    fn flush_apart(&mut self, pipe: PipeId, key: ConnectionKey, turn: &mut Turn<'_>) {
        let Some(socket) = self.sockets.get_mut(&pipe) else { return };
        let Some((_, answer)) = socket.apart.iter_mut().find(|(apart, _)| *apart == key) else { return };
        let output = self.engine.output(key).to_vec();
        answer.extend_from_slice(&output);
        self.engine.handle_written(key, output.len());
        while let Some((apart, answer)) =
            self.sockets.get(&pipe).and_then(|socket| socket.apart.first()).cloned()
            && read_answer(&answer).is_some()
        {
            turn.watch.note_said(&answer);
            turn.net.write_all(pipe, Side::Acceptor, &answer, turn.now);
            self.engine.handle_gone(apart);
            self.by_index.remove(&apart.index());
            self.sockets.get_mut(&pipe).expect("it was there").apart.remove(0);
        }
    }

    /// Writes what draining made.
    fn flush_touched(&mut self, net: &mut Network, watch: &mut Watch, board: &Board, clocks: Now, now: u64) {
        let redis = Place::Redis { incarnation: 0 };
        let mut turn = Turn { net, redis, now, clocks, watch, board, draining: true };
        while let Some(key) = self.engine.poll_touched() {
            self.flush(key, &mut turn);
        }
        self.plan_turn(now);
    }
}

/// The length of the request that `received` begins with, where it is whole. As clients here write them.
fn whole_request(received: &[u8]) -> Option<usize> {
    let head_bytes = memchr::memmem::find(received, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&received[..head_bytes]);
    if head.contains("Transfer-Encoding: chunked") {
        return Some(head_bytes + memchr::memmem::find(&received[head_bytes..], b"\r\n0\r\n\r\n")? + 7);
    }
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let whole = head_bytes + length.unwrap_or(0);
    (whole <= received.len()).then_some(whole)
}

/// How the sale stands, where an answer says it.
fn level_in(answer: &Answer) -> Option<&SaleState> {
    match answer {
        Answer::Sale { state, .. }
        | Answer::Reserved { state, .. }
        | Answer::Found { state, .. }
        | Answer::Confirmed { state, .. }
        | Answer::Cancelled { state, .. }
        | Answer::Amended { state, .. } => Some(state),
        _ => None,
    }
}

/// Never a call id of the desk's.
pub const FIRST_OWN_CALL: u64 = 1 << 40;

/// As the desk would name a call that is none of its own.
pub fn own_call(number: u64) -> CallId {
    CallId(FIRST_OWN_CALL + number)
}
