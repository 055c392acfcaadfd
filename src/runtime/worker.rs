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
use super::ledger_thread::CoreHandle;
use super::redis_link::{MioStreams, RedisLink};
use super::sockets::{MioSockets, readiness};
use crate::clock::{Monotonic, Now};
use crate::connections::{ConnectionServer, Driver};
use crate::engine::Engine;
use crate::limits;
use crate::net::Stream;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// The token of the stream under a [`RedisLink`].
const LEDGER: Token = Token(usize::MAX - 2);

/// A core's connection to the ledger.
pub enum Link {
    /// Its own connection to Redis.
    Redis(Box<RedisLink<Stream>>),
    /// The thread of the embedded ledger.
    Thread(CoreHandle),
}

/// See the [module](self).
pub struct Worker {
    poll: Poll,
    listener: Option<TcpListener>,
    engine: Engine,
    link: Link,
    ledger_up: bool,
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
            ledger_up: false,
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
            self.engine.end_turn();
            self.send_calls(now);
            self.flush_touched();
            if self.is_done(now) {
                return Ok(());
            }
        }
    }

    fn timeout(&self, now: Monotonic) -> Duration {
        let ledger = match &self.link {
            Link::Redis(link) => link.next_deadline(),
            Link::Thread(_) => None,
        };
        let deadlines = [Some(self.engine.next_deadline()), ledger, self.driver.next_deadline()];
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
                LEDGER => {
                    if let Link::Redis(link) = link {
                        let streams = &mut MioStreams { registry: poll.registry(), token: LEDGER };
                        if event.is_writable() || event.is_error() {
                            link.handle_writable(streams, now.monotonic);
                        }
                        if event.is_readable() || event.is_read_closed() {
                            let ended = event.is_read_closed() || event.is_error();
                            link.handle_readable(driver.buffer(), ended, streams, now.monotonic);
                        }
                    }
                }
                Token(index) => driver.handle_ready(index, readiness(event), sockets, engine),
            }
        }
    }

    /// Takes what came from the ledger, and tells the engine when its connection comes up or is lost.
    fn handle_ledger(&mut self, now: Now) {
        let up = match &mut self.link {
            Link::Redis(link) => {
                let streams = &mut MioStreams { registry: self.poll.registry(), token: LEDGER };
                link.drive(streams, now.monotonic);
                while let Some((id, answer)) = link.poll_answer() {
                    self.engine.handle_answer(id, answer);
                }
                link.is_up()
            }
            Link::Thread(thread) => {
                while let Some((id, answer)) = thread.poll_answer() {
                    self.engine.handle_answer(id, answer);
                }
                true
            }
        };
        if up != self.ledger_up {
            self.ledger_up = up;
            match up {
                true => self.engine.handle_ledger_up(),
                false => self.engine.handle_ledger_down(),
            }
        }
    }

    fn send_calls(&mut self, now: Now) {
        while let Some((id, call)) = self.engine.poll_call() {
            match &mut self.link {
                Link::Redis(link) => link.submit(id, call, now.monotonic),
                Link::Thread(thread) => thread.submit(id, call),
            }
        }
        if let Link::Redis(link) = &mut self.link {
            link.flush(&mut MioStreams { registry: self.poll.registry(), token: LEDGER }, now.monotonic);
        }
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
