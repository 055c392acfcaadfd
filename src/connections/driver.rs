//! When the sockets of a loop are accepted, read, read again, written and closed: the decisions, for any kind of sockets.
//!
//! The system reports a socket's readiness once, when it changes. So it is remembered here as long as it lasts: a socket is
//! read once a turn, and what it has beyond that is read in the next turn without another report from the system.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use super::server::ConnectionServer;
use super::table::ConnectionKey;
use crate::clock::Monotonic;
use crate::connection::CloseState;
use crate::limits;

/// The sockets of a loop, as its system has them. None of the calls waits.
pub trait Sockets {
    /// One of them.
    type Socket;

    /// The next established connection, and its peer.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; others as of `accept(2)`.
    fn accept(&mut self) -> io::Result<(Self::Socket, SocketAddr)>;

    /// From now on the system reports its readiness, under the index of that key.
    ///
    /// # Errors
    /// If it cannot.
    fn register(&mut self, socket: &mut Self::Socket, key: ConnectionKey) -> io::Result<()>;

    /// Reads what has arrived, up to the size of `buffer`; 0 if the peer has ended its side.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; others as of `recv(2)`.
    fn read(&mut self, socket: &mut Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as the socket takes. If `is_last`, nothing is written after all of it.
    ///
    /// # Errors
    /// `WouldBlock` if it takes nothing now; others as of `send(2)`.
    fn write(&mut self, socket: &mut Self::Socket, bytes: &[u8], is_last: bool) -> io::Result<usize>;

    /// Ends the writing side: the peer sees the end after what was written.
    fn shut_down(&mut self, socket: &mut Self::Socket);

    /// Closes it.
    fn close(&mut self, socket: Self::Socket);
}

/// What the system reports of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Something has arrived.
    pub readable: bool,
    /// There is room again for what is to be written.
    pub writable: bool,
    /// The peer has ended its side.
    pub ended: bool,
    /// The socket is broken: the peer has reset it, or can no longer be reached.
    pub broken: bool,
    /// An urgent mark has arrived.
    pub urgent: bool,
}

struct OpenSocket<T> {
    key: ConnectionKey,
    socket: T,
    /// The system said so, and nothing has contradicted it since.
    readable: bool,
    writable: bool,
    /// The peer has closed or half-closed: reads go on until they say so.
    ended: bool,
    /// An urgent mark is in the stream: a read ends there, though more may follow it.
    urgent: bool,
    /// Our writing side is shut down.
    shut: bool,
    /// It is in the list of unread ones.
    unread: bool,
}

/// Drives the sockets of a loop. See the [module](self).
pub struct Driver<T> {
    entries: Vec<Option<OpenSocket<T>>>,
    /// Connections with more to read than one turn takes.
    unread: VecDeque<ConnectionKey>,
    buffer: Vec<u8>,
    /// A connection that was accepted and waits for room, with the time of its arrival.
    newcomer: Option<(T, SocketAddr, Monotonic)>,
    /// When to accept again; until then, whatever the system reports is ignored.
    accept_again_at: Option<Monotonic>,
    /// The last attempt to accept a connection failed.
    accept_fails: bool,
}

impl<T> Driver<T> {
    /// Without sockets. At most `read_bytes` are read from one at a time.
    pub fn new(read_bytes: usize) -> Driver<T> {
        Driver {
            entries: Vec::new(),
            unread: VecDeque::new(),
            buffer: vec![0; read_bytes],
            newcomer: None,
            accept_again_at: None,
            accept_fails: false,
        }
    }

    /// The buffer that it reads into: free for other use between its calls.
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// When the next turn is wanted at the latest, whatever the system reports.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.unread.is_empty() { self.accept_again_at } else { Some(Monotonic::default()) }
    }

    /// Begins a turn: what was left in sockets is read, and what was left at the listener is accepted.
    pub fn begin_turn<S: Sockets<Socket = T>>(
        &mut self,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
        now: Monotonic,
    ) {
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop_front() else { break };
            if let Some(entry) = self.entry(key) {
                entry.unread = false;
                self.read(key, sockets, server);
            }
        }
        if self.accept_again_at.is_some_and(|at| now >= at) {
            self.accept_again_at = None;
            self.accept(sockets, server, now);
        }
    }

    /// The system reports new connections.
    pub fn handle_newcomers<S: Sockets<Socket = T>>(
        &mut self,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
        now: Monotonic,
    ) {
        // Each newcomer raises an event, even while there is no descriptor for any: the pause holds for all.
        if self.accept_again_at.is_none() {
            self.accept(sockets, server, now);
        }
    }

    /// The system reports readiness of the socket of the connection with that index.
    pub fn handle_ready<S: Sockets<Socket = T>>(
        &mut self,
        index: usize,
        is: Readiness,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
    ) {
        let Some(Some(entry)) = self.entries.get_mut(index) else { return };
        if is.broken {
            // At once, even if it must not be read for now: what was booked for a client that has gone is given back, and
            // not written to a socket that nobody reads.
            let key = entry.key;
            self.drop_socket(key, sockets, server);
            return;
        }
        entry.writable |= is.writable;
        entry.ended |= is.ended;
        entry.urgent |= is.urgent;
        entry.readable |= is.readable || entry.ended || entry.urgent;
        let key = entry.key;
        if is.writable && !server.output(key).is_empty() {
            self.flush(key, sockets, server);
        }
        self.read(key, sockets, server);
    }

    fn accept<S: Sockets<Socket = T>>(
        &mut self,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
        now: Monotonic,
    ) {
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            let (socket, peer, since) = match self.newcomer.take() {
                Some(newcomer) => newcomer,
                None => match sockets.accept() {
                    Ok((socket, peer)) => {
                        self.accept_fails = false;
                        (socket, peer, now)
                    }
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => return,
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                        _ => {
                            server.handle_accept_failure();
                            // Log once, not ten times a second for as long as it lasts.
                            if !std::mem::replace(&mut self.accept_fails, true) {
                                tracing::error!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
                            }
                            self.accept_again_at = Some(now.plus_ms(limits::ACCEPT_PAUSE_MS));
                            return;
                        }
                    },
                },
            };
            if let Some(at) = server.wait_for_room(since) {
                self.newcomer = Some((socket, peer, since));
                self.accept_again_at = Some(at);
                return;
            }
            self.admit(socket, peer, sockets, server);
        }
        // There may be more: the kernel reports a backlog only once.
        self.accept_again_at = Some(now);
    }

    /// Takes the connections that the system has completed, and their requests, before the listener closes: they were
    /// admitted, so they are answered.
    pub fn accept_last<S: Sockets<Socket = T>>(
        &mut self,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
        now: Monotonic,
    ) {
        self.accept_again_at = Some(now);
        while self.accept_again_at == Some(now) {
            self.accept_again_at = None;
            self.accept(sockets, server, now);
        }
        self.accept_again_at = None;
        let fresh: Vec<_> = self
            .entries
            .iter_mut()
            .flatten()
            .map(|entry| {
                entry.readable = true;
                entry.key
            })
            .collect();
        for key in fresh {
            self.read(key, sockets, server);
        }
    }

    fn admit<S: Sockets<Socket = T>>(
        &mut self,
        mut socket: T,
        peer: SocketAddr,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
    ) {
        let key = match server.handle_accepted(peer) {
            Ok(key) => key,
            Err(refused) => {
                // A fresh socket's buffer takes the few bytes; a client that has gone already needs none. What it has sent is
                // read, since closing over it would reset the connection before the answer is read.
                if !refused.answer().is_empty() {
                    let _ = sockets.write(&mut socket, refused.answer(), true);
                }
                sockets.shut_down(&mut socket);
                let _ = sockets.read(&mut socket, &mut self.buffer);
                sockets.close(socket);
                return;
            }
        };
        if let Err(error) = sockets.register(&mut socket, key) {
            tracing::warn!(%error, "cannot set up a connection");
            server.handle_gone(key);
            sockets.close(socket);
            return;
        }
        if self.entries.len() <= key.index() {
            self.entries.resize_with(key.index() + 1, || None);
        }
        self.entries[key.index()] = Some(OpenSocket {
            key,
            socket,
            readable: false,
            writable: true,
            ended: false,
            urgent: false,
            shut: false,
            unread: false,
        });
    }

    fn entry(&mut self, key: ConnectionKey) -> Option<&mut OpenSocket<T>> {
        self.entries.get_mut(key.index())?.as_mut().filter(|entry| entry.key == key)
    }

    /// Reads once; a client that sends faster than that gets its next turn with all others.
    fn read<S: Sockets<Socket = T>>(
        &mut self,
        key: ConnectionKey,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
    ) {
        if !server.wants_read(key) {
            return;
        }
        let Some(entry) = self.entries.get_mut(key.index()).and_then(Option::as_mut) else { return };
        if entry.key != key || !entry.readable {
            return;
        }
        match sockets.read(&mut entry.socket, &mut self.buffer) {
            Ok(0) => {
                entry.readable = false;
                server.handle_end(key);
            }
            Ok(bytes) => {
                // A short read has emptied the socket: the next byte, or the end, raises a new event.
                entry.readable = bytes == self.buffer.len() || entry.ended || entry.urgent;
                // Anything beyond that is handled when the connection is flushed, as every active one is.
                server.handle_bytes(key, &self.buffer[..bytes]);
                if server.is_pressed() {
                    self.flush_touched(sockets, server);
                    server.relieve();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                (entry.readable, entry.urgent) = (false, false);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read_again(key),
            Err(_) => self.drop_socket(key, sockets, server),
        }
    }

    fn read_again(&mut self, key: ConnectionKey) {
        if let Some(entry) = self.entry(key)
            && !std::mem::replace(&mut entry.unread, true)
        {
            self.unread.push_back(key);
        }
    }

    fn drop_socket<S: Sockets<Socket = T>>(
        &mut self,
        key: ConnectionKey,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
    ) {
        server.handle_gone(key);
        if self.entry(key).is_some()
            && let Some(entry) = self.entries[key.index()].take()
        {
            sockets.close(entry.socket);
        }
    }

    /// Writes to all clients that have output.
    pub fn flush_touched<S: Sockets<Socket = T>>(
        &mut self,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
    ) {
        while let Some(key) = server.poll_touched() {
            self.flush(key, sockets, server);
        }
    }

    /// Writes a client's output, and closes its socket if that is its state.
    fn flush<S: Sockets<Socket = T>>(
        &mut self,
        key: ConnectionKey,
        sockets: &mut S,
        server: &mut impl ConnectionServer,
    ) {
        loop {
            let Some(entry) = self.entries.get_mut(key.index()).and_then(Option::as_mut) else { return };
            if entry.key != key {
                return;
            }
            let output = server.output(key);
            if output.is_empty() || !entry.writable {
                break;
            }
            match sockets.write(&mut entry.socket, output, server.ends_with_output(key)) {
                Ok(bytes) => {
                    entry.writable = bytes == output.len();
                    server.handle_written(key, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    entry.writable = false;
                    server.handle_written(key, 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.drop_socket(key, sockets, server),
            }
        }
        let close_state = server.close_state(key);
        let wants_read = server.wants_read(key);
        let Some(entry) = self.entry(key) else { return };
        match close_state {
            CloseState::Open => {}
            CloseState::Linger => {
                if !std::mem::replace(&mut entry.shut, true) {
                    // If this fails the peer is gone, and the next read says so.
                    sockets.shut_down(&mut entry.socket);
                }
            }
            CloseState::Closed => {
                // Sends off what waits for the end. A close alone would drop it if bytes have arrived unread.
                sockets.shut_down(&mut entry.socket);
                return self.drop_socket(key, sockets, server);
            }
        }
        // It had more than one read took, or was held back: the system will not report it again.
        if wants_read && entry.readable {
            self.read_again(key);
        }
    }
}
