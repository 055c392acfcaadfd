//! One loop: mio, the sockets of one core, and its way to the ledger, around one [`Engine`].
//!
//! A turn: wait for events; read what came; end the engine's turn; send to the ledger; write to the clients. A client
//! that was refused from memory costs one wait (shared with others), one read and one write.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::clock::SystemClock;
use super::drain::Drain;
use super::ledger_thread::CoreHandle;
use super::redis_link::RedisLink;
use super::wire;
use crate::clock::{Monotonic, Now};
use crate::connection::Fate;
use crate::engine::{ConnectionKey, Engine};
use crate::http::encode::OVERLOADED;
use crate::limits;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// The token under which a [`RedisLink`] registers.
pub const LEDGER: Token = Token(usize::MAX - 2);

/// A core's way to the ledger.
pub enum Link {
    /// Its own connection to Redis.
    Redis(Box<RedisLink>),
    /// The thread of the embedded ledger.
    Thread(CoreHandle),
}

struct Socket {
    key: ConnectionKey,
    stream: TcpStream,
    /// The kernel said so, and nothing said otherwise since.
    readable: bool,
    writable: bool,
    /// The peer has closed or half-closed: reads go on until they say so.
    ended: bool,
    /// An urgent mark is in the stream: a read ends there, though there may be more behind it.
    urgent: bool,
    /// Our writing side is shut down.
    shut: bool,
    /// It is among the unread.
    unread: bool,
}

/// See the [module](self).
pub struct Worker {
    poll: Poll,
    listener: Option<TcpListener>,
    /// Since when no connection is accepted, because the system refuses them.
    accept_again_at: Option<Monotonic>,
    /// Whether the last attempt to accept a connection failed.
    accept_fails: bool,
    engine: Engine,
    link: Link,
    ledger_up: bool,
    sockets: Vec<Option<Socket>>,
    /// Connections with more to read than one turn takes.
    unread: VecDeque<ConnectionKey>,
    buffer: Vec<u8>,
    clock: SystemClock,
    drain: Drain,
    drain_until: Option<Monotonic>,
    ledger_timeout_ms: u64,
}

/// A poll for one worker, and the way to wake it from other threads.
///
/// # Errors
/// Where the system has no epoll instance left.
pub fn poll_and_waker() -> io::Result<(Poll, Arc<Waker>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok((poll, Arc::new(waker)))
}

impl Worker {
    /// A worker that is ready to [run](Worker::run).
    ///
    /// # Errors
    /// Where the listener can't be registered.
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
            accept_again_at: None,
            accept_fails: false,
            engine,
            link,
            ledger_up: false,
            sockets: Vec::new(),
            unread: VecDeque::new(),
            buffer: vec![0; limits::READ_CHUNK_BYTES],
            clock,
            drain,
            drain_until: None,
            ledger_timeout_ms,
        })
    }

    /// Turns until the host drains and all is answered.
    ///
    /// # Errors
    /// Where the system refuses to wait for events: nothing more can be served.
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
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let ledger = match &self.link {
            Link::Redis(link) => link.next_deadline(),
            Link::Thread(_) => None,
        };
        let deadlines = [Some(self.engine.next_deadline()), ledger, self.accept_again_at];
        deadlines.into_iter().flatten().min().map_or(Duration::ZERO, |deadline| deadline.since(now))
    }

    fn handle_events(&mut self, events: &Events, now: Now) {
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop_front() else { break };
            if let Some(socket) = self.socket(key) {
                socket.unread = false;
                self.read(key);
            }
        }
        if self.accept_again_at.is_some_and(|at| now.monotonic >= at) {
            self.accept_again_at = None;
            self.accept(now.monotonic);
        }
        for event in events {
            match event.token() {
                // Each newcomer raises an event, also while there is no descriptor for any: the pause holds for all.
                LISTENER if self.accept_again_at.is_some() => {}
                LISTENER => self.accept(now.monotonic),
                WAKER => {}
                LEDGER => {
                    if let Link::Redis(link) = &mut self.link {
                        if event.is_writable() || event.is_error() {
                            link.handle_writable(now.monotonic);
                        }
                        if event.is_readable() || event.is_read_closed() {
                            let ended = event.is_read_closed() || event.is_error();
                            link.handle_readable(&mut self.buffer, ended, now.monotonic);
                        }
                    }
                }
                Token(index) => {
                    let Some(Some(socket)) = self.sockets.get_mut(index) else { continue };
                    socket.writable |= event.is_writable();
                    socket.ended |= event.is_read_closed() || event.is_error();
                    socket.urgent |= event.is_priority();
                    socket.readable |= event.is_readable() || socket.ended || socket.urgent;
                    let (key, flush) = (socket.key, event.is_writable());
                    if flush && !self.engine.output(key).is_empty() {
                        self.flush(key);
                    }
                    self.read(key);
                }
            }
        }
    }

    fn accept(&mut self, now: Monotonic) {
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, peer)) => {
                    self.accept_fails = false;
                    self.admit(stream, peer.ip());
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.engine.count_accept_failure();
                        // Once, not ten times a second for as long as it lasts.
                        if !std::mem::replace(&mut self.accept_fails, true) {
                            tracing::error!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
                        }
                        self.accept_again_at = Some(now.plus_ms(limits::ACCEPT_PAUSE_MS));
                        return;
                    }
                },
            }
        }
        // There may be more: the kernel tells of a backlog only once.
        self.accept_again_at = Some(now);
    }

    /// Takes the connections that the kernel has completed, and what they ask, then closes the listener: they were let
    /// in, and are answered.
    fn accept_last(&mut self, now: Monotonic) {
        self.accept_again_at = Some(now);
        while self.accept_again_at == Some(now) {
            self.accept_again_at = None;
            self.accept(now);
        }
        self.listener = None;
        self.accept_again_at = None;
        let fresh: Vec<_> = self
            .sockets
            .iter_mut()
            .flatten()
            .map(|socket| {
                socket.readable = true;
                socket.key
            })
            .collect();
        for key in fresh {
            self.read(key);
        }
    }

    fn admit(&mut self, mut stream: TcpStream, peer: IpAddr) {
        let Some(key) = self.engine.handle_accepted(peer) else {
            // A fresh socket's buffer takes the few bytes; whoever is gone already needs none. What the client has sent
            // is read, since closing over it would reset the connection before the answer is.
            let _ = stream.write(OVERLOADED);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut self.buffer);
            return;
        };
        let interests = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        let registered = self.poll.registry().register(&mut stream, Token(key.index()), interests);
        if let Err(error) = registered {
            tracing::warn!(%error, "a connection could not be set up");
            self.engine.handle_gone(key);
            return;
        }
        if self.sockets.len() <= key.index() {
            self.sockets.resize_with(key.index() + 1, || None);
        }
        let socket = Socket {
            key,
            stream,
            readable: false,
            writable: true,
            ended: false,
            urgent: false,
            shut: false,
            unread: false,
        };
        self.sockets[key.index()] = Some(socket);
    }

    fn socket(&mut self, key: ConnectionKey) -> Option<&mut Socket> {
        self.sockets.get_mut(key.index())?.as_mut().filter(|socket| socket.key == key)
    }

    /// Reads once; a client that sends faster than that has its next turn with all others.
    fn read(&mut self, key: ConnectionKey) {
        if !self.engine.wants_read(key) {
            return;
        }
        let Some(socket) = self.sockets.get_mut(key.index()).and_then(Option::as_mut) else { return };
        if socket.key != key || !socket.readable {
            return;
        }
        match wire::read(&socket.stream, &mut self.buffer) {
            Ok(0) => {
                socket.readable = false;
                self.engine.handle_end(key);
            }
            Ok(bytes) => {
                // A short read has emptied the socket: the next byte, or the end, raises a new event.
                socket.readable = bytes == self.buffer.len() || socket.ended || socket.urgent;
                let again = socket.readable;
                self.engine.handle_bytes(key, &self.buffer[..bytes]);
                if again {
                    self.read_again(key);
                }
                if self.engine.is_pressed() {
                    self.flush_touched();
                    self.engine.relieve();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (socket.readable, socket.urgent) = (false, false);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read_again(key),
            Err(_) => self.drop_socket(key),
        }
    }

    fn read_again(&mut self, key: ConnectionKey) {
        if let Some(socket) = self.socket(key)
            && !std::mem::replace(&mut socket.unread, true)
        {
            self.unread.push_back(key);
        }
    }

    fn drop_socket(&mut self, key: ConnectionKey) {
        self.engine.handle_gone(key);
        if self.socket(key).is_some() {
            self.sockets[key.index()] = None;
        }
    }

    /// Takes what came from the ledger, and tells the engine of its coming and going.
    fn handle_ledger(&mut self, now: Now) {
        let up = match &mut self.link {
            Link::Redis(link) => {
                link.drive(self.poll.registry(), now.monotonic);
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
            link.flush(now.monotonic);
        }
    }

    fn flush_touched(&mut self) {
        while let Some(key) = self.engine.poll_touched() {
            self.flush(key);
        }
    }

    /// Writes what a client is to get, and carries out its connection's fate.
    fn flush(&mut self, key: ConnectionKey) {
        loop {
            let Some(socket) = self.sockets.get_mut(key.index()).and_then(Option::as_mut) else { return };
            if socket.key != key {
                return;
            }
            let output = self.engine.output(key);
            if output.is_empty() || !socket.writable {
                break;
            }
            match wire::write(&socket.stream, output, self.engine.ends_with_output(key)) {
                Ok(bytes) => {
                    socket.writable = bytes == output.len();
                    self.engine.handle_written(key, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.writable = false;
                    self.engine.handle_written(key, 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.drop_socket(key),
            }
        }
        let fate = self.engine.fate(key);
        let wants_read = self.engine.wants_read(key);
        let Some(socket) = self.socket(key) else { return };
        match fate {
            Fate::Open => {
                // Held back before, and the kernel will not tell again.
                if wants_read && socket.readable {
                    self.read_again(key);
                }
            }
            Fate::Linger => {
                if !socket.shut {
                    socket.shut = true;
                    // Where this fails the peer is gone, and the next read says so.
                    let _ = socket.stream.shutdown(Shutdown::Write);
                    if socket.readable {
                        self.read_again(key);
                    }
                }
            }
            Fate::Closed => {
                // Sends off what waits for the end. A close alone would drop it where bytes have arrived unread.
                let _ = socket.stream.shutdown(Shutdown::Write);
                self.drop_socket(key);
            }
        }
    }

    fn is_done(&mut self, now: Now) -> bool {
        if !self.drain.closes() {
            return false;
        }
        let until = match self.drain_until {
            Some(until) => until,
            None => {
                self.accept_last(now.monotonic);
                self.engine.drain();
                self.flush_touched();
                let until = now.monotonic.plus_ms(self.ledger_timeout_ms + limits::DRAIN_TIMEOUT_MS);
                *self.drain_until.insert(until)
            }
        };
        self.engine.is_drained() || now.monotonic >= until
    }
}
