//! One stream to a server, over TCP or a UNIX socket. It never blocks.
//!
//! Whoever drives it sees `read`, `write`, `flush` and readiness, and nothing of the kind of stream. In one that encrypts, the
//! handshake and the records of TLS stand between these calls and the socket.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::tls::{TlsClient, TlsStream};

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// The addresses of a name, at least one.
    Tcp(Vec<SocketAddr>),
    /// The same, of one that speaks TLS.
    Tls(Vec<SocketAddr>, TlsClient),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// See the [module](self).
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, without Nagle's delay.
    Tcp(TcpStream),
    /// The same, encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// Over a UNIX socket.
    Unix(UnixStream),
}

impl Endpoint {
    /// How many addresses it has: that many dials try each of them once.
    pub fn addresses(&self) -> usize {
        match self {
            Endpoint::Tcp(addresses) | Endpoint::Tls(addresses, _) => addresses.len(),
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
            Endpoint::Tcp(addresses) => Ok(Stream::Tcp(connect(addresses, dial)?)),
            Endpoint::Tls(addresses, client) => {
                Ok(Stream::Tls(Box::new(TlsStream::new(connect(addresses, dial)?, client)?)))
            }
            Endpoint::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        }
    }

    /// What went wrong with the socket since the last time, such as that nobody listens there.
    ///
    /// # Errors
    /// As of `getsockopt(2)`.
    pub fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Tls(stream) => {
                let error = stream.socket().take_error()?;
                Ok(error.map(|error| stream.explain(error)))
            }
            Stream::Unix(stream) => stream.take_error(),
        }
    }

    /// Whether more is to be had by reading again after a read that left room in its buffer. Of a plain stream that is told by
    /// readiness; in one that encrypts it may wait within.
    pub fn may_hold_more(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Goes on with what stands between being connected and the first byte; nothing does in a plain stream.
    ///
    /// # Errors
    /// `WouldBlock` if the server has to go on; others as of [`read`](Read::read).
    pub fn handshake(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(stream) => stream.handshake(),
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
        }
    }

    /// Whether [that](Stream::handshake) is not over.
    pub fn is_handshaking(&self) -> bool {
        match self {
            Stream::Tls(stream) => stream.is_handshaking(),
            Stream::Tcp(_) | Stream::Unix(_) => false,
        }
    }
}

fn connect(addresses: &[SocketAddr], dial: usize) -> io::Result<TcpStream> {
    let address = dial.checked_rem(addresses.len()).and_then(|place| addresses.get(place));
    let stream = TcpStream::connect(*address.ok_or(io::ErrorKind::AddrNotAvailable)?)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(stream) => stream.flush(),
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
        }
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.register(registry, token, interests),
            Stream::Tls(stream) => stream.socket_mut().register(registry, token, interests),
            Stream::Unix(stream) => stream.register(registry, token, interests),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.reregister(registry, token, interests),
            Stream::Tls(stream) => stream.socket_mut().reregister(registry, token, interests),
            Stream::Unix(stream) => stream.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.deregister(registry),
            Stream::Tls(stream) => stream.socket_mut().deregister(registry),
            Stream::Unix(stream) => stream.deregister(registry),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(addresses) | Endpoint::Tls(addresses, _) => {
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
