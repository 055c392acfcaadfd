//! One core's whole brain, without I/O: bytes and time in, bytes and ledger calls out.
//!
//! It wires the stages of a request together: connection, API, desk, and back. The runtime hands it what sockets and
//! the ledger brought (`handle_*`), ends the turn, then takes what is to be written and sent (`poll_*`). So the same engine
//! runs on mio and in tests that have no socket.

mod admission;
mod ids;
mod service;
#[cfg(all(test, not(loom)))]
mod tests;
pub mod timers;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;

use crate::access_log::{Line, LineBuffer};
use crate::api::encode::{self, About, Asked};
use crate::booking::{Answer, BookingId, BuyerId, Call, CallError, CallId, Outcome, Quantity, Refusal};

use crate::clock::{Monotonic, Now};
use crate::connection::{BufferPool, Connection, Cut, Exchange, Fate, Turn};
use crate::desk::{Desk, LineIndex, Resolved, Wish};
use crate::ending::Ending;
use crate::http::DateCache;
use crate::limits::{self, ClientLimits, Limit};
use crate::metrics::CoreMetrics;
use crate::stock::{Board, CoreIndex};
pub use admission::Admission;
use admission::Admitted;
use service::Clerk;
use timers::Timers;

/// A connection of this core. A key is never used for two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    index: u32,
    generation: u32,
}

impl ConnectionKey {
    /// The connection's place, small and reused by later connections: for a table of sockets beside the engine.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// The address of a waiting request: which one, of which connection, and how it wants to be answered.
#[derive(Debug)]
pub(crate) struct Waiter {
    connection: ConnectionKey,
    exchange: Exchange,
    asked: Asked,
    /// What the booking that is looked up is to be.
    repeat: Option<Repeat>,
}

/// Tickets and buyer of a booking that is asked for only if it is there. Apart from its waiter, since hardly any has one.
type Repeat = Box<(Quantity, Option<BuyerId>)>;

#[derive(Debug)]
struct Slot {
    connection: Connection,
    generation: u32,
    touched: bool,
    /// The deadline that the wheel knows of; entries with another one are stale.
    timer_at: Option<Monotonic>,
    admitted: Admitted,
    /// Bookings under ids made here whose answers wait for those before them: with them the ids would be lost.
    untold: Vec<Untold>,
}

#[derive(Debug)]
struct Untold {
    sequence: u32,
    line: LineIndex,
    id: BookingId,
}

/// What an engine is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which of the host's loops it is.
    pub core: CoreIndex,
    /// How long a client waits for the ledger, in milliseconds.
    pub ledger_timeout_ms: u64,
    /// Secret randomness for the ids it makes.
    pub seed: [u8; 32],
    /// What its clients are limited to.
    pub limits: Arc<ClientLimits>,
    /// The count of connections that it shares with the host's other loops.
    pub admission: Arc<Admission>,
}

/// What the request handlers of one core share: everything of the engine but its connections.
struct Core {
    desk: Desk<Waiter>,
    metrics: Arc<CoreMetrics>,
    random: StdRng,
    /// Bodies are put together here.
    scratch: Vec<u8>,
    log: Option<LineBuffer>,
    now: Now,
}

impl Core {
    /// Writes the access-log line of a booking request.
    fn log_booking(&mut self, line: LineIndex, wish: &Wish, asked: Asked, outcome: &Outcome) {
        let Some(log) = &mut self.log else { return };
        log.push(&Line {
            at: self.now.wall,
            sale: Some(self.desk.sale(line).name()),
            booking: wish.id.as_ref(),
            quantity: wish.quantity,
            buyer: wish.buyer.as_ref(),
            outcome: Ending::of(outcome),
            status: encode::status_of(asked, outcome).code(),
        });
    }
}

/// See the [module](self).
pub struct Engine {
    core: Core,
    connections: Slab<Slot>,
    limits: Arc<ClientLimits>,
    admission: Arc<Admission>,
    next_generation: u32,
    timers: Timers<ConnectionKey>,
    /// What the wheel has handed over and no turn had room for yet.
    due: VecDeque<(ConnectionKey, Monotonic)>,
    touched: Vec<ConnectionKey>,
    /// Those that hold most of what their clients do not read, the most last; some may have gone, or read on.
    unread: Vec<ConnectionKey>,
    /// When they are looked up again at the earliest.
    look_again_at: Monotonic,
    pool: BufferPool,
    date: DateCache,
    draining: bool,
}

impl Engine {
    /// An engine without connections, whose ledger counts as down. Without a `log` no access-log lines are written.
    pub fn new(
        settings: Settings,
        board: Arc<Board>,
        metrics: Arc<CoreMetrics>,
        log: Option<LineBuffer>,
        now: Now,
    ) -> Engine {
        let mut desk = Desk::new(settings.core, board, settings.ledger_timeout_ms, now);
        desk.refresh_lines();
        Engine {
            core: Core {
                desk,
                metrics,
                random: StdRng::from_seed(settings.seed),
                scratch: Vec::with_capacity(1024),
                log,
                now,
            },
            connections: Slab::new(),
            admission: settings.admission,
            next_generation: 0,
            timers: Timers::new(now.monotonic),
            due: VecDeque::new(),
            touched: Vec::new(),
            unread: Vec::new(),
            look_again_at: now.monotonic,
            pool: BufferPool::new(settings.limits.buffered_bytes),
            limits: settings.limits,
            date: DateCache::new(now.wall),
            draining: false,
        }
    }

    /// Begins a turn of the loop: everything until [`Engine::end_turn`] happens at `now`.
    pub fn begin_turn(&mut self, now: Now) {
        self.core.now = now;
        // A sale that another core has heard of is known to whoever asks in this turn.
        self.core.desk.refresh_lines();
        self.date.update(now.wall);
        self.core.metrics.last_turn_ms.set(now.monotonic.0 / 1_000_000);
    }

    /// A client connected from `peer`; `None` where there is no room for it (answer it with
    /// [`OVERLOADED`](crate::http::encode::OVERLOADED) and close).
    pub fn handle_accepted(&mut self, peer: IpAddr) -> Option<ConnectionKey> {
        self.relieve();
        let admitted = match self.admit(peer) {
            Ok(admitted) => admitted,
            Err(limit) => {
                self.core.metrics.connections_refused.add(1);
                limit.into_iter().for_each(|limit| self.core.metrics.count_limit(limit));
                return None;
            }
        };
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let connection = Connection::new(self.core.now.monotonic, Arc::clone(&self.limits));
        let slot =
            Slot { connection, generation, touched: false, timer_at: None, admitted, untold: Vec::new() };
        let index =
            u32::try_from(self.connections.insert(slot)).expect("the limit of connections fits in u32");
        let key = ConnectionKey { index, generation };
        self.core.metrics.connections_accepted.add(1);
        self.core.metrics.connections_open.set(self.connections.len() as u64);
        self.arm(key);
        Some(key)
    }

    /// The system would not let a connection be accepted.
    pub fn count_accept_failure(&mut self) {
        self.core.metrics.accept_failures.add(1);
    }

    /// Lets a connection in, or names the limit that keeps it out; none where the host drains.
    fn admit(&self, peer: IpAddr) -> Result<Admitted, Option<Limit>> {
        if self.draining {
            return Err(None);
        }
        if self.pool.is_exhausted() {
            return Err(Some(Limit::BufferedBytes));
        }
        self.admission.admit(peer).map_err(Some)
    }

    /// Bytes from a client, in any fragmentation.
    pub fn handle_bytes(&mut self, key: ConnectionKey, bytes: &[u8]) {
        self.on_connection(key, |connection, turn, clerk| connection.handle_bytes(bytes, turn, clerk));
    }

    /// Whether buffers are so nearly used up that what is to be written is to be written at once, and not at the end of the
    /// turn: what stays is then what clients do not read, and [`Engine::relieve`] knows whose.
    pub fn is_pressed(&self) -> bool {
        self.pool.is_pressed()
    }

    /// Where buffers are nearly used up, cuts the connections that hold most since their clients do not read, so that no
    /// other client is refused for their sake.
    pub fn relieve(&mut self) {
        while self.pool.is_short() {
            let Some(key) = self.next_unread() else { return };
            let Some(slot) = self.connections.get_mut(key.index()) else { continue };
            if slot.generation != key.generation || slot.connection.unread_bytes() == 0 {
                continue;
            }
            slot.connection.close(&mut self.pool);
            self.core.metrics.count_cut(Cut::Unread);
            if !std::mem::replace(&mut slot.touched, true) {
                self.touched.push(key);
            }
        }
    }

    /// The connection to be cut next, where the pool is short: a look at all of them gives many.
    fn next_unread(&mut self) -> Option<ConnectionKey> {
        if self.unread.is_empty() && self.core.now.monotonic >= self.look_again_at {
            let slots =
                self.connections.iter().map(|(index, slot)| (slot.connection.unread_bytes(), index, slot));
            let mut unread: Vec<_> = slots
                .filter(|(bytes, ..)| *bytes > 0)
                .map(|(bytes, index, slot)| {
                    (bytes, ConnectionKey { index: index as u32, generation: slot.generation })
                })
                .collect();
            let most = unread.len().min(limits::UNREAD_LOOKED_UP_MAX);
            if most < unread.len() {
                unread.select_nth_unstable_by_key(most, |(bytes, _)| std::cmp::Reverse(*bytes));
                unread.truncate(most);
            }
            unread.sort_unstable_by_key(|(bytes, _)| *bytes);
            self.unread.extend(unread.into_iter().map(|(_, key)| key));
            if self.unread.is_empty() {
                self.look_again_at = self.core.now.monotonic.plus_ms(limits::UNREAD_LOOK_MS);
            }
        }
        self.unread.pop()
    }

    /// A client will send no more.
    pub fn handle_end(&mut self, key: ConnectionKey) {
        self.on_connection(key, |connection, turn, _| connection.handle_end(turn));
    }

    /// A client's socket broke, or the runtime closed it: whatever it waits for has nobody to go to.
    pub fn handle_gone(&mut self, key: ConnectionKey) {
        if let Some(slot) = self.connections.get_mut(key.index())
            && slot.generation == key.generation
        {
            slot.connection.close(&mut self.pool);
            let slot = self.connections.remove(key.index());
            for Untold { sequence, line, id } in slot.untold {
                if slot.connection.owes(sequence) {
                    self.core.desk.cancel_unheard(line, id, self.core.now);
                }
            }
            self.admission.release(slot.admitted);
            self.core.metrics.connections_open.set(self.connections.len() as u64);
        }
    }

    /// Runs `act` on a connection, lets it go on where it was held back, and notes what must be written.
    fn on_connection<R>(
        &mut self,
        key: ConnectionKey,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut Clerk<'_>) -> R,
    ) -> Option<R> {
        let slot = self.connections.get_mut(key.index())?;
        if slot.generation != key.generation {
            return None;
        }
        let mut turn = Turn { now: self.core.now.monotonic, date: &self.date, pool: &mut self.pool };
        let mut clerk = Clerk { core: &mut self.core, connection: key };
        let result = act(&mut slot.connection, &mut turn, &mut clerk);
        while slot.connection.wants_resume() {
            slot.connection.resume(&mut turn, &mut clerk);
        }
        if self.draining {
            slot.connection.drain(&mut turn);
        }
        if !slot.touched {
            slot.touched = true;
            self.touched.push(key);
        }
        self.arm(key);
        Some(result)
    }

    /// Sees to it that the wheel wakes the engine no later than the connection's deadline.
    fn arm(&mut self, key: ConnectionKey) {
        let Some(slot) = self.connections.get_mut(key.index()) else { return };
        let Some(deadline) = slot.connection.deadline() else { return };
        if slot.timer_at.is_none_or(|at| deadline < at) {
            slot.timer_at = Some(deadline);
            self.timers.insert(key, deadline);
        }
    }

    /// Whether the runtime should read this client's socket.
    pub fn wants_read(&self, key: ConnectionKey) -> bool {
        self.connection(key).is_some_and(Connection::wants_read)
    }

    /// What is to be written to this client now.
    pub fn output(&self, key: ConnectionKey) -> &[u8] {
        self.connection(key).map_or(&[], Connection::output)
    }

    /// Whether the client gets no more than that, and its socket is then shut down or closed.
    pub fn ends_with_output(&self, key: ConnectionKey) -> bool {
        self.connection(key).is_some_and(Connection::ends_with_output)
    }

    /// What is to become of this client's socket.
    pub fn fate(&self, key: ConnectionKey) -> Fate {
        self.connection(key).map_or(Fate::Closed, Connection::fate)
    }

    fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        let slot = self.connections.get(key.index())?;
        (slot.generation == key.generation).then_some(&slot.connection)
    }

    /// That much of [`Engine::output`] was written.
    pub fn handle_written(&mut self, key: ConnectionKey, bytes: usize) {
        let Some(slot) = self.connections.get_mut(key.index()) else { return };
        if slot.generation != key.generation {
            return;
        }
        let mut turn = Turn { now: self.core.now.monotonic, date: &self.date, pool: &mut self.pool };
        slot.connection.handle_written(bytes, &mut turn);
        if !slot.untold.is_empty() && slot.connection.is_idle() {
            slot.untold = Vec::new();
        }
        if slot.connection.wants_resume() {
            self.on_connection(key, |_, _, _| ());
        } else {
            self.arm(key);
        }
    }

    /// The next connection that has something to be written, or another fate.
    pub fn poll_touched(&mut self) -> Option<ConnectionKey> {
        let key = self.touched.pop()?;
        if let Some(slot) = self.connections.get_mut(key.index())
            && slot.generation == key.generation
        {
            slot.touched = false;
        }
        Some(key)
    }

    /// The way to the ledger works.
    pub fn handle_ledger_up(&mut self) {
        self.core.desk.handle_ledger_up();
        self.core.metrics.set_ledger_up(true);
    }

    /// The way to the ledger broke.
    pub fn handle_ledger_down(&mut self) {
        self.core.desk.handle_ledger_down(self.core.now);
        if self.core.metrics.ledger_up() {
            self.core.metrics.ledger_losses.add(1);
        }
        self.core.metrics.set_ledger_up(false);
    }

    /// The ledger answered a call.
    pub fn handle_answer(&mut self, id: CallId, answer: Result<Answer, CallError>) {
        let since = self.core.desk.handle_answer(id, answer, self.core.now);
        self.core.metrics.ledger_round_trip.record(since, self.core.now.monotonic);
    }

    /// When [`Engine::end_turn`] is wanted at the latest.
    pub fn next_deadline(&self) -> Monotonic {
        if self.due.is_empty() { self.core.desk.next_deadline() } else { self.core.now.monotonic }
    }

    /// Ends the turn: does what is due, answers those whose outcome came, and sends what gathered.
    pub fn end_turn(&mut self) {
        self.core.desk.handle_deadline(self.core.now);
        self.handle_due_connections();
        while let Some(resolved) = self.core.desk.poll_resolved() {
            self.answer(resolved);
        }
        self.core.desk.end_turn(self.core.now);
        self.relieve();
        if !self.pool.is_pressed() {
            self.unread.clear();
        }
        let guard = self.core.desk.guard_counts();
        self.core.metrics.bookings_put_back.set(guard.put_back);
        self.core.metrics.bookings_lost.set(guard.lost);
        self.core.metrics.waiting.set(self.core.desk.waiting() as u64);
        self.core.metrics.buffered_bytes.set(self.pool.lent_bytes() as u64);
        if let Some(log) = &mut self.core.log {
            log.hand_over();
        }
    }

    fn handle_due_connections(&mut self) {
        self.timers.take_due(self.core.now.monotonic, &mut self.due);
        let mut left = limits::TIMEOUTS_PER_TURN_MAX;
        while left > 0
            && let Some((key, at)) = self.due.pop_front()
        {
            let Some(slot) = self.connections.get_mut(key.index()) else { continue };
            if slot.generation != key.generation || slot.timer_at != Some(at) {
                continue;
            }
            slot.timer_at = None;
            if slot.connection.deadline().is_some_and(|deadline| deadline <= self.core.now.monotonic) {
                left -= 1;
                let cut = self
                    .on_connection(key, |connection, turn, clerk| connection.handle_deadline(turn, clerk));
                if let Some(Some(cut)) = cut {
                    self.core.metrics.count_cut(cut);
                }
            }
            self.arm(key);
        }
    }

    fn answer(&mut self, resolved: Resolved<Waiter>) {
        let Resolved { client, line, id, made_here, wish, asked_at, mut outcome } = resolved;
        let Waiter { connection, exchange, asked, repeat } = client;
        if let (Some(repeat), Outcome::Found(booking)) = (repeat, &outcome) {
            outcome = match *repeat == (booking.quantity, booking.buyer) {
                true => Outcome::Replayed(booking.clone()),
                false => Outcome::Refused(Refusal::IdReused),
            };
        }
        self.core.metrics.count(encode::ending_of(asked, &outcome));
        self.core.metrics.booking_wait.record(asked_at, self.core.now.monotonic);
        let sale = *self.core.desk.sale(line).name();
        let sequence = exchange.sequence();
        let answered = self.on_connection(connection, |connection, turn, clerk| {
            let reply = connection.reply(exchange, turn)?;
            let scratch = &mut clerk.core.scratch;
            let about = About { sale: sale.as_str(), id: id.as_str(), made_here };
            let _answered = encode::outcome(reply, scratch, asked, about, &outcome);
            Some(connection.owes(sequence))
        });
        if made_here && matches!(outcome, Outcome::Granted(_)) {
            match answered.flatten() {
                // The client has gone, and took the only way to this booking with it.
                None => self.core.desk.cancel_unheard(line, id, self.core.now),
                Some(true) => self.note_untold(connection, Untold { sequence, line, id }),
                Some(false) => {}
            }
        }
        if let Some((quantity, buyer)) = wish {
            self.core.log_booking(line, &Wish { id: Some(id), quantity, buyer }, asked, &outcome);
        }
    }

    /// An answer waits for its turn; those that had theirs since are no matter any more.
    #[cold]
    fn note_untold(&mut self, key: ConnectionKey, untold: Untold) {
        let Some(slot) = self.connections.get_mut(key.index()) else { return };
        slot.untold.retain(|other| slot.connection.owes(other.sequence));
        slot.untold.push(untold);
    }

    /// The next call for the ledger.
    pub fn poll_call(&mut self) -> Option<(CallId, Call)> {
        let (id, call) = self.core.desk.poll_call()?;
        self.core.metrics.ledger_calls.add(1);
        self.core.metrics.ledger_entries.add(call.entries() as u64);
        Some((id, call))
    }

    /// No new connections; those there are end when they have their answers.
    pub fn drain(&mut self) {
        self.draining = true;
        let keys: Vec<_> = self.keys().collect();
        for key in keys {
            self.on_connection(key, |_, _, _| ());
        }
    }

    /// Whether nothing is left to be answered or written.
    pub fn is_drained(&self) -> bool {
        self.connections.is_empty() && self.core.desk.waiting() == 0
    }

    /// Panics where the engine contradicts itself. For tests and the simulator, between turns.
    pub fn check_invariants(&self) {
        self.core.desk.check_invariants();
        let mut buffered_bytes = 0;
        for (_, slot) in &self.connections {
            slot.connection.check_invariants();
            buffered_bytes += slot.connection.buffered_bytes();
        }
        assert_eq!(self.pool.lent_bytes(), buffered_bytes, "every buffer is with a connection");
        assert!(!self.draining || self.connections.iter().all(|(_, slot)| !slot.connection.is_idle()));
    }

    /// Its booking desk. For tests and the simulator.
    pub fn desk(&self) -> &Desk<impl Sized> {
        &self.core.desk
    }

    fn keys(&self) -> impl Iterator<Item = ConnectionKey> + '_ {
        self.connections
            .iter()
            .map(|(index, slot)| ConnectionKey { index: index as u32, generation: slot.generation })
    }
}
