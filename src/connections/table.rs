//! The table of a loop's connections: a place, a key and a timer for each, and the buffers that all of them share.
//!
//! It never touches a socket or a clock. The service that answers a connection's requests is passed in with each call, and
//! what the server keeps beside each connection has a type of the server's.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use slab::Slab;

use super::admission::{Admission, AdmittedPeer, NotAdmitted};
use super::timers::Timers;
use crate::clock::{Monotonic, Now};
use crate::connection::{BufferPool, CloseState, Connection, Origin, Service, Turn};
use crate::http::DateCache;
use crate::limits::{self, ClientLimits, Limit};

/// A connection of a loop. A key is never used for two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    index: u32,
    generation: u32,
}

impl ConnectionKey {
    /// The connection's place, small and reused by later connections: for a table of sockets beside this one.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What a server keeps beside a connection.
pub trait Notes: Default {
    /// Some of the connection's output was written.
    fn handle_written(&mut self, connection: &Connection) {
        let _ = connection;
    }
}

/// Nothing is kept.
impl Notes for () {}

#[derive(Debug)]
struct Occupant<N> {
    connection: Connection,
    generation: u32,
    touched: bool,
    /// The deadline that the wheel knows of; entries with another one are stale.
    timer_at: Option<Monotonic>,
    admitted: AdmittedPeer,
    notes: N,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Connections<N> {
    slots: Slab<Occupant<N>>,
    limits: Arc<ClientLimits>,
    admission: Arc<Admission>,
    next_generation: u32,
    timers: Timers<ConnectionKey>,
    /// What the wheel has handed over and no turn has had room for yet.
    due: VecDeque<(ConnectionKey, Monotonic)>,
    touched: Vec<ConnectionKey>,
    /// Those that hold most of what their clients do not read, the largest last; some may have gone, or read on.
    unread: Vec<ConnectionKey>,
    /// When to look them up again at the earliest.
    look_again_at: Monotonic,
    pool: BufferPool,
    date: DateCache,
    now: Monotonic,
    draining: bool,
    /// Each connection ends with its next answer.
    parting: bool,
}

impl<N: Notes> Connections<N> {
    /// A table without connections. `admission` is shared with other loops.
    pub fn new(limits: Arc<ClientLimits>, admission: Arc<Admission>, now: Now) -> Connections<N> {
        Connections {
            slots: Slab::new(),
            admission,
            next_generation: 0,
            timers: Timers::new(now.monotonic),
            due: VecDeque::new(),
            touched: Vec::new(),
            unread: Vec::new(),
            look_again_at: now.monotonic,
            pool: BufferPool::new(limits.buffered_bytes),
            limits,
            date: DateCache::new(now.wall),
            now: now.monotonic,
            draining: false,
            parting: false,
        }
    }

    /// Begins a turn of the loop: everything until [`Connections::end_turn`] happens at `now`.
    pub fn begin_turn(&mut self, now: Now) {
        self.now = now.monotonic;
        self.date.update(now.wall);
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// See [`NotAdmitted`].
    pub fn admit(&mut self, peer: IpAddr) -> Result<ConnectionKey, NotAdmitted> {
        if self.admission.is_stranger(peer) {
            return Err(NotAdmitted::Stranger);
        }
        if self.draining {
            return Err(NotAdmitted::NoPlace);
        }
        if self.pool.is_exhausted() {
            return Err(NotAdmitted::Limit(Limit::BufferedBytes));
        }
        let admitted = self.admission.admit(peer).map_err(NotAdmitted::Limit)?;
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let connection =
            Connection::new(self.now, Arc::clone(&self.limits), Origin::new(peer, self.admission.proxies()));
        let slot = Occupant {
            connection,
            generation,
            touched: false,
            timer_at: None,
            admitted,
            notes: N::default(),
        };
        let index = u32::try_from(self.slots.insert(slot)).expect("the limit of connections fits in u32");
        let key = ConnectionKey { index, generation };
        self.arm(key);
        Ok(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Runs `act` on a connection, lets it go on if it was held back, and notes what must be written. `None` if it has
    /// gone.
    pub fn serve<S: Service, R>(
        &mut self,
        key: ConnectionKey,
        service: &mut S,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut S) -> R,
    ) -> Option<R> {
        let slot = self.slots.get_mut(key.index())?;
        if slot.generation != key.generation {
            return None;
        }
        let mut turn =
            Turn { now: self.now, date: &self.date, pool: &mut self.pool, is_parting: self.parting };
        let result = act(&mut slot.connection, &mut turn, service);
        while slot.connection.wants_resume() {
            match slot.connection.named_client() {
                Some(client) if self.admission.count(&mut slot.admitted, client).is_err() => {
                    slot.connection.turn_away(&mut turn, service);
                }
                _ => slot.connection.resume(&mut turn, service),
            }
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

    /// There is something new for the client that reads a stream on that connection.
    pub fn wake_stream<S: Service>(&mut self, key: ConnectionKey, service: &mut S) {
        self.serve(key, service, |connection, _, _| connection.wake_stream());
    }

    /// That much of a connection's [output](Connections::output) was written.
    pub fn handle_written<S: Service>(&mut self, key: ConnectionKey, bytes: usize, service: &mut S) {
        let Some(slot) = self.slots.get_mut(key.index()) else { return };
        if slot.generation != key.generation {
            return;
        }
        let mut turn =
            Turn { now: self.now, date: &self.date, pool: &mut self.pool, is_parting: self.parting };
        slot.connection.handle_written(bytes, &mut turn);
        slot.notes.handle_written(&slot.connection);
        if slot.connection.wants_resume() {
            self.serve(key, service, |_, _, _| ());
        } else {
            self.arm(key);
        }
    }

    /// Ends a connection at once, even if something is unsent or unanswered. It stays in the table until it is
    /// [removed](Connections::remove).
    pub fn close(&mut self, key: ConnectionKey) {
        let Some(slot) = self.slots.get_mut(key.index()) else { return };
        if slot.generation == key.generation {
            slot.connection.close(&mut self.pool);
            if !std::mem::replace(&mut slot.touched, true) {
                self.touched.push(key);
            }
        }
    }

    /// Takes a connection out, with what its server kept beside it: its socket is gone.
    pub fn remove(&mut self, key: ConnectionKey) -> Option<(Connection, N)> {
        let slot = self.slots.get_mut(key.index())?;
        if slot.generation != key.generation {
            return None;
        }
        slot.connection.close(&mut self.pool);
        let slot = self.slots.remove(key.index());
        self.admission.release(slot.admitted);
        Some((slot.connection, slot.notes))
    }

    /// A connection, with what its server keeps beside it.
    pub fn with_notes(&mut self, key: ConnectionKey) -> Option<(&Connection, &mut N)> {
        let slot = self.slots.get_mut(key.index())?;
        (slot.generation == key.generation).then_some((&slot.connection, &mut slot.notes))
    }

    /// Makes sure that the wheel wakes the loop no later than the connection's deadline.
    fn arm(&mut self, key: ConnectionKey) {
        let Some(slot) = self.slots.get_mut(key.index()) else { return };
        let Some(deadline) = slot.connection.deadline() else { return };
        if slot.timer_at.is_none_or(|at| deadline < at) {
            slot.timer_at = Some(deadline);
            self.timers.insert(key, deadline);
        }
    }

    /// Takes from the wheel what is due by now.
    pub fn take_due(&mut self) {
        self.timers.take_due(self.now, &mut self.due);
    }

    /// The next connection whose [`handle_deadline`](Connection::handle_deadline) has something to do.
    pub fn poll_due(&mut self) -> Option<ConnectionKey> {
        loop {
            let (key, at) = self.due.pop_front()?;
            let Some(slot) = self.slots.get_mut(key.index()) else { continue };
            if slot.generation != key.generation || slot.timer_at != Some(at) {
                continue;
            }
            slot.timer_at = None;
            if slot.connection.deadline().is_some_and(|deadline| deadline <= self.now) {
                return Some(key);
            }
            self.arm(key);
        }
    }

    /// Whether a turn had no room for all that was due.
    pub fn is_behind(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next connection that has output, or another state.
    pub fn poll_touched(&mut self) -> Option<ConnectionKey> {
        let key = self.touched.pop()?;
        if let Some(slot) = self.slots.get_mut(key.index())
            && slot.generation == key.generation
        {
            slot.touched = false;
        }
        Some(key)
    }

    /// A connection, read only.
    pub fn get(&self, key: ConnectionKey) -> Option<&Connection> {
        let slot = self.slots.get(key.index())?;
        (slot.generation == key.generation).then_some(&slot.connection)
    }

    /// Whether to read a connection's socket.
    pub fn wants_read(&self, key: ConnectionKey) -> bool {
        self.get(key).is_some_and(Connection::wants_read)
    }

    /// What to write to a client now.
    pub fn output(&self, key: ConnectionKey) -> &[u8] {
        self.get(key).map_or(&[], Connection::output)
    }

    /// Whether a client gets nothing after that, and its socket is then shut down or closed.
    pub fn ends_with_output(&self, key: ConnectionKey) -> bool {
        self.get(key).is_some_and(Connection::ends_with_output)
    }

    /// The state of a connection: whether to shut down or close its socket.
    pub fn close_state(&self, key: ConnectionKey) -> CloseState {
        self.get(key).map_or(CloseState::Closed, Connection::close_state)
    }

    /// Whether buffers are so nearly used up that output must be written at once, and not at the end of the turn: what
    /// stays is then what clients do not read, and [`Connections::relieve`] knows whose.
    pub fn is_pressed(&self) -> bool {
        self.pool.is_pressed()
    }

    /// Capacity of all buffers of its connections, in bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.pool.lent_bytes()
    }

    /// If buffers are nearly used up, cuts the connections that hold most because their clients do not read, so that no
    /// other client is refused for their sake. Returns how many were cut.
    pub fn relieve(&mut self) -> usize {
        let mut cut = 0;
        while self.pool.is_short() {
            let Some(key) = self.next_unread() else { break };
            if self.get(key).is_some_and(|connection| connection.unread_bytes() > 0) {
                self.close(key);
                cut += 1;
            }
        }
        cut
    }

    /// The connection to cut next, if the pool is short: one look at all of them finds many.
    fn next_unread(&mut self) -> Option<ConnectionKey> {
        if self.unread.is_empty() && self.now >= self.look_again_at {
            let slots = self.slots.iter().map(|(index, slot)| (slot.connection.unread_bytes(), index, slot));
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
                self.look_again_at = self.now.plus_ms(limits::UNREAD_LOOK_MS);
            }
        }
        self.unread.pop()
    }

    /// Ends the turn, after [`Connections::relieve`].
    pub fn end_turn(&mut self) {
        if !self.pool.is_pressed() {
            self.unread.clear();
        }
    }

    /// The host will stop: from now on each connection ends with the answer to its next request. Who comes is admitted.
    pub fn begin_parting(&mut self) {
        self.parting = true;
    }

    /// From now on nobody is admitted, and each connection ends with the answers that it waits for, or soon if it waits for
    /// none and has asked for none yet.
    pub fn begin_drain(&mut self) {
        self.draining = true;
    }

    /// All existing ones.
    pub fn keys(&self) -> impl Iterator<Item = ConnectionKey> + '_ {
        self.slots
            .iter()
            .map(|(index, slot)| ConnectionKey { index: index as u32, generation: slot.generation })
    }

    /// Panics if the table contradicts itself. For tests and the simulator, between turns.
    pub fn check_invariants(&self) {
        let mut buffered_bytes = 0;
        for (_, slot) in &self.slots {
            slot.connection.check_invariants();
            buffered_bytes += slot.connection.buffered_bytes();
        }
        assert_eq!(self.pool.lent_bytes(), buffered_bytes, "every buffer is with a connection");
        let may_stay = |connection: &Connection| !connection.is_idle() || connection.is_unasked();
        assert!(!self.draining || self.slots.iter().all(|(_, slot)| may_stay(&slot.connection)));
    }
}
