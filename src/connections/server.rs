//! The server of a loop's connections, as its [`Driver`](super::Driver) and its tests see it: bytes and time in, bytes and
//! states out.

use std::net::SocketAddr;

use super::admission::NotAdmitted;
use super::table::{ConnectionKey, Connections, Notes};
use crate::clock::Monotonic;
use crate::connection::{CloseState, CutReason, Service};
use crate::limits;

/// See the [module](self). The provided methods are the same for all servers; the required ones are where they differ.
pub trait ConnectionServer {
    /// What is kept beside each connection.
    type Notes: Notes;

    /// What answers the requests of one connection.
    type Service<'a>: Service
    where
        Self: 'a;

    /// The connections.
    fn connections(&self) -> &Connections<Self::Notes>;

    /// The connections, and the service that answers the requests of that one.
    fn split(&mut self, key: ConnectionKey) -> (&mut Connections<Self::Notes>, Self::Service<'_>);

    /// The connections, to change them.
    fn connections_mut(&mut self) -> &mut Connections<Self::Notes>;

    /// A client connected from `peer`.
    ///
    /// # Errors
    /// If it is not let in: [answer](NotAdmitted::answer) and close.
    fn handle_accepted(&mut self, peer: SocketAddr) -> Result<ConnectionKey, NotAdmitted>;

    /// When to ask for room again for a client that came at `since`; `None` if there is room, or it has waited long enough.
    fn wait_for_room(&mut self, since: Monotonic) -> Option<Monotonic> {
        let _ = since;
        None
    }

    /// The system could not accept a connection.
    fn handle_accept_failure(&mut self);

    /// A client's socket broke, or was closed: there is nobody left to answer.
    fn handle_gone(&mut self, key: ConnectionKey);

    /// A connection was cut.
    fn handle_cut(&mut self, cut: CutReason);

    /// Bytes from a client, in any fragmentation.
    fn handle_bytes(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let (connections, mut service) = self.split(key);
        connections.serve(key, &mut service, |connection, turn, service| {
            connection.handle_bytes(bytes, turn, service)
        });
    }

    /// A client will send no more.
    fn handle_end(&mut self, key: ConnectionKey) {
        let (connections, mut service) = self.split(key);
        connections.serve(key, &mut service, |connection, turn, _| connection.handle_end(turn));
    }

    /// That much of [`ConnectionServer::output`] was written.
    fn handle_written(&mut self, key: ConnectionKey, bytes: usize) {
        let (connections, mut service) = self.split(key);
        connections.handle_written(key, bytes, &mut service);
    }

    /// There is something new for a client that reads a stream: it is sent as soon as the client has read what came before.
    fn wake_stream(&mut self, key: ConnectionKey) {
        let (connections, mut service) = self.split(key);
        connections.wake_stream(key, &mut service);
    }

    /// Does what is due, as much of it as one turn has room for.
    fn handle_deadlines(&mut self) {
        self.connections_mut().take_due();
        for _ in 0..limits::TIMEOUTS_PER_TURN_MAX {
            let Some(key) = self.connections_mut().poll_due() else { return };
            let cut = {
                let (connections, mut service) = self.split(key);
                connections.serve(key, &mut service, |connection, turn, service| {
                    connection.handle_deadline(turn, service)
                })
            };
            if let Some(Some(cut)) = cut {
                self.handle_cut(cut);
            }
        }
    }

    /// Cuts clients that do not read, if there is no other way to keep room; see [`Connections::relieve`].
    fn relieve(&mut self) {
        for _ in 0..self.connections_mut().relieve() {
            self.handle_cut(CutReason::Unread);
        }
    }

    /// Takes no new connections; existing ones end when they have their answers.
    fn drain(&mut self) {
        self.connections_mut().begin_drain();
        let keys: Vec<_> = self.connections().keys().collect();
        for key in keys {
            let (connections, mut service) = self.split(key);
            connections.serve(key, &mut service, |_, _, _| ());
        }
    }

    /// The next connection that has output, or another state.
    fn poll_touched(&mut self) -> Option<ConnectionKey> {
        self.connections_mut().poll_touched()
    }

    /// Whether to read this client's socket.
    fn wants_read(&self, key: ConnectionKey) -> bool {
        self.connections().wants_read(key)
    }

    /// What to write to this client now.
    fn output(&self, key: ConnectionKey) -> &[u8] {
        self.connections().output(key)
    }

    /// Whether the client gets nothing after that, and its socket is then shut down or closed.
    fn ends_with_output(&self, key: ConnectionKey) -> bool {
        self.connections().ends_with_output(key)
    }

    /// The state of this client's connection: whether to shut down or close its socket.
    fn close_state(&self, key: ConnectionKey) -> CloseState {
        self.connections().close_state(key)
    }

    /// Whether output must be written at once, and not at the end of the turn.
    fn is_pressed(&self) -> bool {
        self.connections().is_pressed()
    }
}
