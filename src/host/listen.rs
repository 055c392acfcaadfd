//! Listening sockets: one a core on the same address, by SO_REUSEPORT, so that the kernel deals the connections out.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel completes while a loop is busy; more than the sysctl `somaxconn` has no effect.
const BACKLOG: i32 = 4096;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody listens there already.
    #[error(
        "cannot listen on {0}: the port is taken; stop the other server or choose another address (for a restart without a gap \
         start both processes with --reuse-port, as the same user)"
    )]
    Taken(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Io(SocketAddr, io::Error),
}

/// Who may listen on an address as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    Alone,
    /// Other processes of the same user that want the same: the next one of a restart.
    WithOthers,
}

/// Binds one listener for each of `count` loops on `address`; with port 0 the kernel picks one port for all.
///
/// # Errors
/// See [`ListenError`]. [`Alone`](Sharing::Alone), another boxoffice on the same port counts as taken, though SO_REUSEPORT would
/// let both have it.
pub fn bind(
    address: SocketAddr,
    count: usize,
    sharing: Sharing,
) -> Result<Vec<mio::net::TcpListener>, ListenError> {
    let told = |error| told(address, error);
    if address.port() != 0 && sharing == Sharing::Alone {
        // A socket without SO_REUSEPORT cannot share: it finds out whether the port is free, then makes room.
        socket(address, false).map_err(told)?;
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address, true).map_err(told)?;
        prepare(&socket).map_err(told)?;
        socket.listen(BACKLOG).map_err(told)?;
        let listener = std::net::TcpListener::from(socket);
        address = listener.local_addr().map_err(told)?;
        listeners.push(mio::net::TcpListener::from_std(listener));
    }
    Ok(listeners)
}

/// Makes loops' listeners of sockets that somebody else has bound.
///
/// # Errors
/// If the system refuses.
pub fn adopt(sockets: Vec<std::net::TcpListener>) -> io::Result<Vec<mio::net::TcpListener>> {
    let adopted = |socket: std::net::TcpListener| {
        socket.set_nonblocking(true)?;
        prepare(&SockRef::from(&socket))?;
        Ok(mio::net::TcpListener::from_std(socket))
    };
    sockets.into_iter().map(adopted).collect()
}

/// What the connections that it accepts inherit, and are spared system calls for.
fn prepare(socket: &Socket) -> io::Result<()> {
    // Answers leave in one write each; waiting to fill a segment would only add delay.
    socket.set_tcp_nodelay(true)?;
    // An urgent byte is one of the stream, as RFC 6093 wants it: taken out, it would be missing from a request.
    socket.set_out_of_band_inline(true)
}

/// Binds one listener.
///
/// # Errors
/// See [`ListenError`].
pub fn bind_one(address: SocketAddr, sharing: Sharing) -> Result<std::net::TcpListener, ListenError> {
    let told = |error| told(address, error);
    let listener = match sharing {
        Sharing::Alone => std::net::TcpListener::bind(address).map_err(told)?,
        Sharing::WithOthers => {
            let socket = socket(address, true).map_err(told)?;
            socket.listen(BACKLOG).map_err(told)?;
            std::net::TcpListener::from(socket)
        }
    };
    // As of those of the loops.
    prepare(&SockRef::from(&listener)).map_err(told)?;
    Ok(listener)
}

fn told(address: SocketAddr, error: io::Error) -> ListenError {
    match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        _ => ListenError::Io(address, error),
    }
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    if !shared {
        // SO_REUSEADDR alone lets two sockets bind; only the second one to listen is refused.
        socket.listen(1)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_share_a_port_and_strangers_do_not() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3, Sharing::Alone).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        let taken = bind(address, 1, Sharing::Alone);
        assert!(matches!(taken, Err(ListenError::Taken(taken)) if taken == address));
        assert!(bind(address, 1, Sharing::WithOthers).is_ok(), "it is wanted");
        drop(listeners);
        assert!(bind(address, 1, Sharing::Alone).is_ok());
    }

    #[test]
    fn operators_share_a_port_only_if_both_want_it() {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let alone = bind_one(loopback, Sharing::Alone).unwrap();
        for sharing in [Sharing::Alone, Sharing::WithOthers] {
            let address = alone.local_addr().unwrap();
            assert!(matches!(bind_one(address, sharing), Err(ListenError::Taken(_))), "{sharing:?}");
        }
        let shared = bind_one(loopback, Sharing::WithOthers).unwrap();
        assert!(bind_one(shared.local_addr().unwrap(), Sharing::Alone).is_err());
        assert!(bind_one(shared.local_addr().unwrap(), Sharing::WithOthers).is_ok());
    }

    #[test]
    fn accepted_connections_do_not_wait_to_fill_a_segment() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 1, Sharing::Alone).unwrap();
        let _client = std::net::TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let (accepted, _) = loop {
            match listeners[0].accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                accepted => break accepted.unwrap(),
            }
        };
        assert!(accepted.nodelay().unwrap());
    }
}
