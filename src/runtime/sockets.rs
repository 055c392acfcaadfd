//! The clients' sockets of a loop: a listener and TCP streams, with mio for their readiness.
//!
//! They are read and written by the bare system calls. The C library's `recv` and `send` are points at which a thread may
//! be cancelled, and prepare for that if a process has several threads: 3 % of the CPU time of a refusal. Nobody cancels a
//! loop.

use std::io;
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::connections::{ConnectionKey, Readiness, Sockets};

/// See the [module](self).
pub struct MioSockets<'a> {
    /// Where new connections come from, while any are accepted.
    pub listener: Option<&'a TcpListener>,
    /// What reports readiness.
    pub registry: &'a Registry,
}

impl Sockets for MioSockets<'_> {
    type Socket = TcpStream;

    fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.listener {
            Some(listener) => listener.accept(),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn register(&mut self, socket: &mut TcpStream, key: ConnectionKey) -> io::Result<()> {
        let interests = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.registry.register(socket, Token(key.index()), interests)
    }

    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        let (bytes, _) = recv(&*socket, buffer, RecvFlags::empty())?;
        Ok(bytes)
    }

    /// A peer that has gone is an error, not a signal. The last bytes leave with the end, in one segment, and the peer is
    /// woken once: the socket is shut down next. A mere close could drop them.
    fn write(&mut self, socket: &mut TcpStream, bytes: &[u8], is_last: bool) -> io::Result<usize> {
        let more = if is_last { SendFlags::MORE } else { SendFlags::empty() };
        Ok(send(&*socket, bytes, SendFlags::NOSIGNAL | more)?)
    }

    fn shut_down(&mut self, socket: &mut TcpStream) {
        // If this fails the peer is gone, and the next read says so.
        let _ = socket.shutdown(Shutdown::Write);
    }

    fn close(&mut self, socket: TcpStream) {
        drop(socket);
    }
}

/// What an event says of a socket.
pub fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable(),
        ended: event.is_read_closed(),
        broken: event.is_error(),
        urgent: event.is_priority(),
    }
}
