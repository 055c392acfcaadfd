//! One stream to a server, over TCP or a UNIX socket. It never blocks.
//!
//! The code that drives it sees `read`, `write` and readiness, and nothing of the kind of stream. One that encrypts is a
//! third kind: its handshake and its records belong between these calls and the socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The addresses of a name, at least one.
    Tcp(Vec<SocketAddr>),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// See the [module](self).
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// Over a UNIX socket.
    Unix(UnixStream),
}

impl Endpoint {
    /// How many addresses it has: that many dials try each of them once.
    pub fn addresses(&self) -> usize {
        match self {
            Endpoint::Tcp(addresses) => addresses.len(),
            Endpoint::Unix(_) => 1,
        }
    }
}

impl Stream {
    /// Begins to connect; the stream is writable once it is connected, or has an [error](Stream::take_error). Each number of
    /// a `dial` takes the next address.
    ///
    /// # Errors
    /// Those of `socket(2)` and `connect(2)`.
    pub fn connect(endpoint: &Endpoint, dial: usize) -> io::Result<Stream> {
        match endpoint {
            Endpoint::Tcp(addresses) => {
                let stream = TcpStream::connect(addresses[dial % addresses.len()])?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        }
    }

    /// What went wrong with the socket since the last time, such as that nobody listens there.
    ///
    /// # Errors
    /// Those of `getsockopt(2)`.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, interests),
            Stream::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.reregister(registry, token, interests),
            Stream::Unix(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Unix(stream) => stream.deregister(registry),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(addresses) => {
                let mut separator = "";
                for address in addresses {
                    write!(f, "{separator}{address}")?;
                    separator = ", ";
                }
                Ok(())
            }
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}
