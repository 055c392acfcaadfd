//! Connections from several loopback addresses, and what is read from them.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// One address has some 28,000 ports of its own to connect from, of which the kernel gives half readily; 127.0.0.2 and on
/// have as many each.
const CONNECTIONS_PER_SOURCE: usize = 8_000;
/// Short-lived connections take turns of this many over this many addresses.
const SHORT_LIVED_PER_TURN: usize = 500;
const SOURCES: usize = 200;

/// The address, counted from 127.0.0.1, that connection number `number` of a standing crowd comes from.
pub fn source_of(number: usize) -> usize {
    number / CONNECTIONS_PER_SOURCE
}

/// The address that connection number `number` comes from where each is closed after its request: closed ones keep their
/// ports for a minute.
pub fn source_of_short_lived(number: usize) -> usize {
    number / SHORT_LIVED_PER_TURN % SOURCES
}

/// Begins a connection from that loopback address; it is there once its socket is writable.
pub fn connect(to: SocketAddr, source: usize) -> io::Result<TcpStream> {
    let socket =
        Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if source > 0 && to.is_ipv4() {
        let address = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(source).map_err(io::Error::other)?);
        socket.bind(&SocketAddr::from((address, 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// What one read gave.
pub enum Got {
    Bytes(usize),
    Nothing,
    End,
}

/// Reads once, to the end of `input`.
pub fn read(stream: &mut TcpStream, room: &mut [u8], input: &mut Vec<u8>) -> Got {
    match stream.read(room) {
        Ok(0) => Got::End,
        Ok(bytes) => {
            input.extend_from_slice(&room[..bytes]);
            Got::Bytes(bytes)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Got::Nothing
        }
        Err(_) => Got::End,
    }
}

/// One whole answer at the beginning of some bytes.
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Where the next one begins.
    pub bytes: usize,
    /// The server closes behind it.
    pub closes: bool,
}

/// The answer that `bytes` begin with; `None` where it is not whole yet.
pub fn answer(bytes: &[u8]) -> io::Result<Option<Answer<'_>>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let head_bytes = match head.parse(bytes).map_err(io::Error::other)? {
        httparse::Status::Complete(head_bytes) => head_bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let value = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    let length = value("content-length").and_then(|value| value.parse::<usize>().ok());
    let total = head_bytes + length.ok_or_else(|| io::Error::other("an answer without Content-Length"))?;
    let Some(body) = bytes.get(head_bytes..total) else { return Ok(None) };
    let closes = value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some(Answer { status: head.code.unwrap_or(0), body, bytes: total, closes }))
}
