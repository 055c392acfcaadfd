//! A host: the real board, engines, and the loop that ships around each of them: what is read, read again, written, closed and
//! dialled is decided by the product's [`Driver`] and [`Router`], over the simulated network ([`kernel`](crate::kernel)).
//!
//! A loop has mail: what came since its last turn. A turn takes it in, drives the link to Redis, ends the engine's turn, sends
//! calls, and writes to clients, in the worker's order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boxoffice::booking::{SaleName, SaleState};
use boxoffice::clock::{Monotonic, Now, WallTime};
use boxoffice::connections::{Admission, ConnectionServer, Driver};
use boxoffice::engine::{Engine, Settings};
use boxoffice::ledger::Trouble;
use boxoffice::ledger::url::LedgerUrl;
use boxoffice::limits::{ClientLimits, READ_CHUNK_BYTES};
use boxoffice::metrics::CoreMetrics;
use boxoffice::net::{Asker, Endpoint, Moves};
use boxoffice::protocol::{Answer, Call, CallId, HostId, LedgerOp, LedgerResult, SaleOp, SaleResult};
use boxoffice::runtime::redis_link::{NodeIndex, RedisLink};
use boxoffice::runtime::router::Router;
use boxoffice::stock::{Board, CoreIndex, HostCard};

use crate::kernel::{Ends, Kernel};
use crate::ledger::BASE_US;
use crate::mutants::Seam;
use crate::network::{Network, Piece, PipeId, Place};
use crate::random::Random;
use crate::scenario::{SALE, Scenario};
use crate::served::Served;

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
    /// It has not heard that the primary was replaced.
    pub is_with_former: bool,
    /// Tells its loops that.
    pub moves: Moves,
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
    /// Takes note of the ids in what is written to a client.
    pub fn note_said(&mut self, output: &[u8]) {
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
    /// The brain, and what a mutant puts before it.
    pub served: Served,
    router: Router<PipeId>,
    driver: Driver<PipeId>,
    kernel: Kernel,
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
            is_with_former: false,
            moves: Moves::default(),
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
        self.is_with_former = false;
        let mut random =
            Random::new(scenario.seed, "host", self.number as u64 * 1_000 + u64::from(self.incarnation));
        let board = Board::new(scenario.cores, scenario.buffer).with_hash_key((random.next(), random.next()));
        let board = Arc::new(board.with_card(HostCard {
            id: HostId((self.number as u128) << 32 | u128::from(self.incarnation)),
            address: format!("host-{}:3005", self.number),
            weight: scenario.weights[self.number],
            started_at_ms: now / 1_000,
        }));
        if let Some(&opened) = self.known.last() {
            board.remember(&sale(), opened).expect("room for one sale");
        }
        match first {
            Some(Answer::Sale { state, .. }) => {
                board.learn(&sale(), state).expect("room for one sale");
            }
            Some(Answer::Lost) => {
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
                    Some(crate::mutants::SeamKind::TellEarly) => boxoffice::protocol::Durability::Ack,
                    _ => scenario.keeping.durability(),
                };
                let link = RedisLink::new(
                    Asker::known_as_it_moves(
                        self.moves.clone(),
                        Ok(Endpoint::Unix("/sim/redis.sock".into())),
                    ),
                    url.clone(),
                    durability,
                    random.next(),
                    (Trouble::default(), index),
                    at.monotonic,
                );
                // So short a buffer that a pipeline takes many reads, or one that takes it in one.
                let read_bytes =
                    if random.chance(500) { random.range(40, 600) as usize } else { READ_CHUNK_BYTES };
                let place = Place::Loop { host: self.number, core: index, incarnation: self.incarnation };
                let seam = Seam::new(seam, random.clone());
                Core {
                    index,
                    served: Served::new(engine, &seam),
                    router: Router::to_one(link),
                    driver: Driver::new(read_bytes),
                    kernel: Kernel::new(place),
                    mail: Vec::new(),
                    turn_at: None,
                    submitted: BTreeMap::new(),
                    quiet: false,
                    ahead_ms: i64::MIN,
                    seam,
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
            for (pipe, side) in core.kernel.pipes(&core.mail) {
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
        let mut turn = Turn { net, redis, now, clocks, watch: &mut self.watch, board: &board };
        self.cores[core].turn(&mut turn);
        self.check(&board);
    }

    /// Between turns nothing contradicts itself, and every permit that is with the ledger is with an entry.
    fn check(&self, board: &Board) {
        let sale = sale();
        let directory = board.directory();
        let (mut held, mut marked) = (0, 0);
        for core in &self.cores {
            core.served.engine.check_invariants();
            held += core.served.engine.desk().permits_held(&sale);
            marked += core.served.engine.desk().ids_marked(&sale);
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
        let redis = Place::Redis { incarnation: 0 };
        let mut turn = Turn { net, redis, now, clocks, watch: &mut self.watch, board: &board };
        for core in &mut self.cores {
            core.begin_drain(&mut turn);
        }
    }

    /// Whether a draining host has nothing left to do.
    pub fn is_drained(&self) -> bool {
        self.cores.iter().all(|core| core.served.engine.is_drained())
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
        self.cores.iter().all(|core| core.router.is_up())
    }

    /// Entries and orphans that wait for the ledger.
    pub fn waiting(&self) -> usize {
        self.cores.iter().map(|core| core.served.engine.desk().waiting()).sum()
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
}

impl Turn<'_> {
    fn taken(&self) -> u64 {
        self.board.directory().get(SALE).map_or(0, |sale| sale.totals().map(|shard| shard.taken).sum())
    }
}

impl Core {
    /// As `Worker::run`.
    fn turn(&mut self, turn: &mut Turn<'_>) {
        self.turn_at = None;
        self.served.begin_turn(turn.clocks, turn.now / 1_000);
        self.kernel.take(&mut self.mail);
        self.handle_events(turn);
        let mut taken = turn.taken();
        self.served.wake_streams();
        self.handle_ledger(turn);
        self.served.engine.end_turn();
        taken = taken.max(turn.taken());
        if turn.watch.taken.last().is_none_or(|(_, before)| *before != taken) {
            turn.watch.taken.push((turn.now, taken));
        }
        self.send_calls(turn);
        self.drive(turn, |driver, ends, served, _| driver.flush_touched(ends, served));
        self.plan_turn(turn.now);
    }

    /// Has the driver or the router do something over this loop's ends of the network.
    fn drive<R>(
        &mut self,
        turn: &mut Turn<'_>,
        act: impl FnOnce(&mut Driver<PipeId>, &mut Ends<'_>, &mut Served, &mut Router<PipeId>) -> R,
    ) -> R {
        let Core { driver, served, router, kernel, seam, .. } = self;
        let (net, watch) = (&mut *turn.net, &mut *turn.watch);
        let mut ends =
            Ends { net, redis: turn.redis, now: turn.now, kernel, seam, watch, has_lost_link: false };
        let done = act(driver, &mut ends, served, router);
        if ends.has_lost_link {
            self.quiet = false;
            self.seam.note_loss(&self.submitted);
        }
        done
    }

    fn handle_events(&mut self, turn: &mut Turn<'_>) {
        let now = turn.clocks.monotonic;
        self.drive(turn, |driver, ends, served, router| {
            served.reads_again(|served| driver.begin_turn(ends, served, now));
            if ends.kernel.has_newcomers() {
                driver.handle_newcomers(ends, served, now);
            }
            while let Some((pipe, is)) = ends.kernel.poll_event() {
                match ends.kernel.index_of(pipe) {
                    Some(index) => driver.handle_ready(index, is, ends, served),
                    None => {
                        if is.writable || is.ended {
                            router.handle_writable(NodeIndex(0), ends, now);
                        }
                        if is.readable || is.ended {
                            router.handle_readable(NodeIndex(0), driver.buffer(), is.ended, ends, now);
                        }
                    }
                }
            }
        });
    }

    /// As `Worker::is_done` does once.
    fn begin_drain(&mut self, turn: &mut Turn<'_>) {
        let now = turn.clocks.monotonic;
        self.served.begin_turn(turn.clocks, turn.now / 1_000);
        self.kernel.take(&mut self.mail);
        self.drive(turn, |driver, ends, served, _| {
            driver.accept_last(ends, served, now);
            served.drain();
            driver.flush_touched(ends, served);
        });
        self.plan_turn(turn.now);
    }

    fn plan_turn(&mut self, now: u64) {
        let deadlines = [
            Some(self.served.engine.next_deadline()),
            self.router.next_deadline(),
            self.driver.next_deadline(),
        ];
        let deadline = deadlines.into_iter().flatten().min().map_or(now + 1, |at| at.0.div_ceil(1_000));
        self.turn_at = Some(deadline.max(now + 1));
    }

    /// As `Worker::handle_ledger`.
    fn handle_ledger(&mut self, turn: &mut Turn<'_>) {
        let now = turn.clocks.monotonic;
        self.drive(turn, |_, ends, _, router| router.drive(ends, now));
        while let Some((id, answer)) = self.router.poll_answer() {
            let Some((asked_at, call)) = self.submitted.remove(&id.0) else { continue };
            let told = answer.as_ref().ok().and_then(level_in).cloned();
            if let Call::Ledger(LedgerOp::Changes { after }) = &call
                && self.served.engine.desk().reads_sale(&sale())
            {
                let is_still = matches!(&answer, Ok(Answer::Ledger(LedgerResult::Changes { names, reset: false, .. }))
                    if after.is_some() && !names.contains(&sale()));
                self.quiet &= is_still || answer.is_err();
                if let Ok(Answer::Ledger(LedgerResult::Changes { now, .. })) = &answer {
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
                self.served.engine.handle_answer(id, answer);
            }
            if let Some(told) = told {
                let is_believed = turn.board.directory().get(SALE).is_some_and(|sale| {
                    let place =
                        |state: &SaleState| (state.opened, state.lineage, state.version, state.sequence);
                    sale.level().is_none_or(|known| place(&known) <= place(&told))
                });
                let is_sync = matches!(call, Call::Sale { op: SaleOp::Snapshot | SaleOp::Expire, .. });
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
        while let Some(change) = self.router.poll_change() {
            match change.is_up {
                true => self.served.engine.handle_ledger_up(change.slots),
                false => self.served.engine.handle_ledger_down(change.slots),
            }
        }
    }

    fn send_calls(&mut self, turn: &mut Turn<'_>) {
        while let Some((id, call)) = self.served.engine.poll_call() {
            self.submitted.insert(id.0, (turn.now, call.clone()));
            self.router.submit(id, call, turn.clocks.monotonic);
        }
        for (id, call) in self.seam.more_calls(self.router.is_up()) {
            self.submitted.insert(id.0, (turn.now, call.clone()));
            self.router.submit(id, call, turn.clocks.monotonic);
        }
        let now = turn.clocks.monotonic;
        self.drive(turn, |_, ends, _, router| router.flush(ends, now));
    }
}

/// How the sale stands, if an answer tells the desk.
fn level_in(answer: &Answer) -> Option<&SaleState> {
    match answer {
        Answer::Sale {
            result:
                SaleResult::Restored(_) | SaleResult::Log(_) | SaleResult::Refused(_) | SaleResult::Counting,
            ..
        } => None,
        Answer::Sale { state, .. } => Some(state),
        _ => None,
    }
}

/// Never a call id of the desk's.
pub const FIRST_OWN_CALL: u64 = 1 << 40;

/// As the desk would name a call that is none of its own.
pub fn own_call(number: u64) -> CallId {
    CallId(FIRST_OWN_CALL + number)
}
