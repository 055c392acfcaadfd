//! One loop: mio, the sockets of one core, and its connection to the ledger, around one [`Engine`].
//!
//! A turn: wait for events; read what came; end the engine's turn; send to the ledger; write to the clients. A client
//! that was refused from memory costs one wait (shared with others), one read and one write.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::clock::SystemClock;
use super::drain::Drain;
use super::link::Link;
use super::sockets::{MioSockets, readiness};
use crate::clock::{Monotonic, Now};
use crate::connections::{ConnectionServer, Driver};
use crate::engine::Engine;
use crate::limits;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// See the [module](self).
pub struct Worker {
    poll: Poll,
    listener: Option<TcpListener>,
    engine: Engine,
    link: Link,
    driver: Driver<TcpStream>,
    clock: SystemClock,
    drain: Drain,
    drain_until: Option<Monotonic>,
    ledger_timeout_ms: u64,
}

/// A poll for one worker, and the way to wake it from other threads.
///
/// # Errors
/// If the system has no epoll instance left.
pub fn poll_and_waker() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok((poll, Arc::new(waker)))
}

impl Worker {
    /// A worker that is ready to [run](Worker::run).
    ///
    /// # Errors
    /// If the listener can't be registered.
    pub fn new(
        poll: Poll,
        mut listener: TcpListener,
        engine: Engine,
        link: Link,
        clock: SystemClock,
        drain: Drain,
        ledger_timeout_ms: u64,
    ) -> io::Result<Worker> {
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Worker {
            poll,
            listener: Some(listener),
            engine,
            link,
            driver: Driver::new(limits::READ_CHUNK_BYTES),
            clock,
            drain,
            drain_until: None,
            ledger_timeout_ms,
        })
    }

    /// Turns until the host drains and all is answered.
    ///
    /// # Errors
    /// If the system refuses to wait for events: nothing more can be served.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(limits::EVENTS_PER_TURN_MAX);
        loop {
            let timeout = self.timeout(self.clock.now().monotonic);
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => outcome?,
            }
            let now = self.clock.now();
            self.engine.begin_turn(now);
            self.handle_events(&events, now);
            self.handle_ledger(now);
            if self.drain.has_begun() {
                self.engine.leave();
            }
            self.engine.end_turn();
            self.send_calls(now);
            self.flush_touched();
            if self.is_done(now) {
                return Ok(());
            }
        }
    }

    fn timeout(&self, now: Monotonic) -> Duration {
        let deadlines =
            [Some(self.engine.next_deadline()), self.link.next_deadline(), self.driver.next_deadline()];
        deadlines.into_iter().flatten().min().map_or(Duration::ZERO, |deadline| deadline.since(now))
    }

    fn handle_events(&mut self, events: &Events, now: Now) {
        let Worker { poll, listener, engine, link, driver, .. } = self;
        let sockets = &mut MioSockets { listener: listener.as_ref(), registry: poll.registry() };
        driver.begin_turn(sockets, engine, now.monotonic);
        for event in events {
            match event.token() {
                LISTENER => driver.handle_newcomers(sockets, engine, now.monotonic),
                WAKER => {}
                _ if link.handle_event(event, driver.buffer(), poll.registry(), now.monotonic) => {}
                Token(index) => driver.handle_ready(index, readiness(event), sockets, engine),
            }
        }
    }

    /// Takes what came from the ledger, and tells the engine when its connection comes up or is lost.
    fn handle_ledger(&mut self, now: Now) {
        self.link.drive(self.poll.registry(), now.monotonic);
        while let Some((id, answer)) = self.link.poll_answer() {
            self.engine.handle_answer(id, answer);
        }
        while let Some(change) = self.link.poll_change() {
            match change.is_up {
                true => self.engine.handle_ledger_up(change.slots),
                false => self.engine.handle_ledger_down(change.slots),
            }
        }
    }

    fn send_calls(&mut self, now: Now) {
        while let Some((id, call)) = self.engine.poll_call() {
            self.link.submit(id, call, now.monotonic);
        }
        self.link.flush(self.poll.registry(), now.monotonic);
    }

    fn flush_touched(&mut self) {
        let sockets = &mut MioSockets { listener: None, registry: self.poll.registry() };
        self.driver.flush_touched(sockets, &mut self.engine);
    }

    fn is_done(&mut self, now: Now) -> bool {
        if !self.drain.closes() {
            return false;
        }
        let until = match self.drain_until {
            Some(until) => until,
            None => {
                let sockets =
                    &mut MioSockets { listener: self.listener.as_ref(), registry: self.poll.registry() };
                self.driver.accept_last(sockets, &mut self.engine, now.monotonic);
                self.listener = None;
                self.engine.drain();
                self.flush_touched();
                let until = now.monotonic.plus_ms(self.ledger_timeout_ms + limits::DRAIN_TIMEOUT_MS);
                *self.drain_until.insert(until)
            }
        };
        self.engine.is_drained() || now.monotonic >= until
    }
}
