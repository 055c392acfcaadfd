//! The loop of the operators' listener: one thread with mio around the same driver and connections as the loops of clients.
//!
//! Nothing blocks here. What asks the ledger, or takes a profile, is handed to [`Work`] and answered when that is done; all
//! else, and so every probe, is answered at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam::channel::Receiver;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::Shared;
use super::audits::{AuditNews, Audits};
use super::dashboards::Dashboards;
use super::places::Places;
use super::reception::Reception;
use super::work::{Done, Work};
use crate::clock::{Monotonic, Now};
use crate::connection::CutReason;
use crate::connections::{
    Admission, ConnectionKey, ConnectionServer, Connections, Driver, NotAdmitted, Notes,
};
use crate::limits::{self, ClientLimits};
use crate::runtime::sockets::{MioSockets, readiness};

const LISTENER: Token = Token(usize::MAX);
pub(super) const WAKER: Token = Token(usize::MAX - 1);

/// How long a connection that finds all places taken waits for one, in milliseconds: requests that need no ledger are done in a
/// moment, not all can need it, and who has just come and says nothing gives way in half of that time.
const PLACE_PATIENCE_MS: u64 = 200;

/// How often it is looked whether one is free, in milliseconds.
const PLACE_TICK_MS: u64 = 2;

/// How often the connections' deadlines are looked at, in milliseconds.
const DEADLINE_TICK_MS: u64 = 100;

/// How long a listener that stops waits for the answers that it owes, in milliseconds.
const STOP_PATIENCE_MS: u64 = 500;

/// Operators' connections, and what serves them.
struct Operators {
    shared: Arc<Shared>,
    connections: Connections<Peer>,
    places: Places,
    dashboards: Dashboards,
    audits: Audits,
    work: Work,
    /// Bodies are put together here.
    scratch: Vec<u8>,
    now: Now,
}

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Peer {
    address: SocketAddr,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer { address: SocketAddr::from(([0, 0, 0, 0], 0)) }
    }
}

impl Notes for Peer {}

impl ConnectionServer for Operators {
    type Notes = Peer;
    type Service<'a> = Reception<'a>;

    fn connections(&self) -> &Connections<Peer> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<Peer> {
        &mut self.connections
    }

    fn split(&mut self, key: ConnectionKey) -> (&mut Connections<Peer>, Reception<'_>) {
        let peer = self
            .connections
            .with_notes(key)
            .map_or_else(|| Peer::default().address, |(_, peer)| peer.address);
        let Operators { shared, connections, places, dashboards, audits, work, scratch, now } = self;
        (connections, Reception { shared, places, dashboards, audits, work, scratch, key, peer, now: *now })
    }

    fn handle_accepted(&mut self, peer: SocketAddr) -> Result<ConnectionKey, NotAdmitted> {
        if self.places.are_taken() {
            return Err(NotAdmitted::NoPlace);
        }
        let key = self.connections.admit(peer.ip())?;
        self.places.take(key, self.now.monotonic);
        if let Some((_, notes)) = self.connections.with_notes(key) {
            notes.address = peer;
        }
        Ok(key)
    }

    fn wait_for_room(&mut self, since: Monotonic) -> Option<Monotonic> {
        if let Some(idle) = self.places.make_room(self.now.monotonic) {
            self.connections.close(idle);
        }
        let is_to_wait = self.places.are_taken() && self.now.monotonic < since.plus_ms(PLACE_PATIENCE_MS);
        is_to_wait.then(|| self.now.monotonic.plus_ms(PLACE_TICK_MS))
    }

    fn handle_accept_failure(&mut self) {}

    fn handle_gone(&mut self, key: ConnectionKey) {
        self.connections.remove(key);
        self.places.give_back(key);
        self.dashboards.leave(key);
        self.audits.leave(key);
    }

    fn handle_cut(&mut self, _: CutReason) {}
}

impl Operators {
    /// Tells some of those who watch what is new.
    fn tell_dashboards(&mut self) {
        let Operators { dashboards, shared, now, .. } = self;
        dashboards.begin_turn(shared, *now);
        for key in self.dashboards.take_due() {
            self.wake_stream(key);
        }
    }

    /// Tells those whose audits go on.
    fn tell_audits(&mut self) {
        for (key, news) in self.audits.take_news() {
            let (connections, mut reception) = self.split(key);
            connections.serve(key, &mut reception, |connection, turn, reception| match news {
                AuditNews::Wake => connection.wake_stream(),
                AuditNews::Begin(pending) => {
                    if let Some(reply) = connection.reply(pending, turn) {
                        let _answered = reception.begin_events(reply);
                    }
                }
                AuditNews::Refuse(pending, path, error) => {
                    reception.audits.leave(key);
                    if let Some(reply) = connection.reply(pending, turn) {
                        let _answered = reception.respond(reply, &path, Err(error));
                    }
                }
            });
        }
    }

    fn handle_done(&mut self, done: Done) {
        let Done { key, pending, path, answer } = done;
        let (connections, mut reception) = self.split(key);
        connections.serve(key, &mut reception, |connection, turn, reception| {
            if let Some(reply) = connection.reply(pending, turn) {
                let _answered = reception.respond(reply, &path, answer);
            }
        });
    }
}

/// See the [module](self).
pub(super) struct Listener {
    poll: Poll,
    listener: Option<TcpListener>,
    operators: Operators,
    driver: Driver<TcpStream>,
    done: Receiver<Done>,
    stop_at: Option<Monotonic>,
}

impl Listener {
    /// A listener that is ready to [run](Listener::run).
    ///
    /// # Errors
    /// If the system refuses what a loop needs.
    pub(super) fn new(
        poll: Poll,
        listener: std::net::TcpListener,
        shared: Arc<Shared>,
        (work, done): (Work, Receiver<Done>),
        (dashboards, audits): (Dashboards, Audits),
    ) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        // Accepted connections inherit it: answers leave in one write each.
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let now = shared.clock.now();
        let limits = Arc::new(ClientLimits::default());
        let admission = Arc::new(Admission::new(&limits).behind(Arc::clone(&shared.proxies)));
        let operators = Operators {
            connections: Connections::new(limits, admission, now),
            places: Places::new(limits::ADMIN_CONNECTIONS_MAX, PLACE_PATIENCE_MS / 2),
            dashboards,
            audits,
            work,
            scratch: Vec::new(),
            now,
            shared,
        };
        let driver = Driver::new(limits::READ_CHUNK_BYTES);
        Ok(Listener { poll, listener: Some(listener), operators, driver, done, stop_at: None })
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// If the system refuses to wait for events: nothing more can be served.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(limits::EVENTS_PER_TURN_MAX);
        loop {
            let now = self.operators.shared.clock.now().monotonic;
            let tick = now.plus_ms(DEADLINE_TICK_MS);
            let wanted = [self.driver.next_deadline(), self.operators.dashboards.next_deadline(now)];
            let until = wanted.into_iter().flatten().fold(tick, Monotonic::min);
            match self.poll.poll(&mut events, Some(until.since(now))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => outcome?,
            }
            if self.turn(&events) {
                return Ok(());
            }
        }
    }

    /// Tells whether it was the last one.
    fn turn(&mut self, events: &Events) -> bool {
        let Listener { poll, listener, operators, driver, done, stop_at } = self;
        let now: Now = operators.shared.clock.now();
        operators.now = now;
        operators.connections.begin_turn(now);
        let mut sockets = MioSockets { listener: listener.as_ref(), registry: poll.registry() };
        let sockets = &mut sockets;
        // Whatever was worked out meanwhile makes room.
        done.try_iter().for_each(|done| operators.handle_done(done));
        driver.begin_turn(sockets, operators, now.monotonic);
        for event in events {
            match event.token() {
                LISTENER => driver.handle_newcomers(sockets, operators, now.monotonic),
                WAKER => {}
                Token(index) => driver.handle_ready(index, readiness(event), sockets, operators),
            }
        }
        operators.tell_dashboards();
        operators.tell_audits();
        operators.handle_deadlines();
        operators.relieve();
        operators.connections.end_turn();
        if operators.shared.stopping.load(Ordering::SeqCst) && stop_at.is_none() {
            *stop_at = Some(now.monotonic.plus_ms(STOP_PATIENCE_MS));
            operators.drain();
        }
        // From now on the port is the next process' alone: whoever asks whether it is ready means that one.
        let leaves_port = operators.shared.shares_port && operators.shared.drain.has_begun();
        if leaves_port && listener.is_some() {
            driver.accept_last(sockets, operators, now.monotonic);
        }
        driver.flush_touched(sockets, operators);
        if stop_at.is_some() || leaves_port {
            *listener = None;
        }
        stop_at.is_some_and(|at| operators.connections.is_empty() || now.monotonic >= at)
    }
}
