//! A stream that encrypts, over any other: the handshake and the records of TLS stand between its `read` and `write` and the
//! socket. It never blocks, and is driven as the socket under it.
//!
//! What readiness must not lose, since the kernel tells each change once:
//!
//! - `read` gives what was decrypted before it asks the socket, and `WouldBlock` only if the socket said so.
//! - What is read may have to be answered (the handshake, a change of keys): each call first writes what is not written yet.
//!   `write` takes nothing new before that is out, so that it keeps no more than [`UNSENT_BYTES_MAX`], and says `WouldBlock`
//!   only if the socket did, or the handshake is not over.
//! - Whoever is told that the socket takes more has to [flush](TlsStream::flush): bytes that `write` took may still be here.

mod failure;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

pub use failure::TlsFailure;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// Bytes that are taken to be written, and not written yet, at most: as many as the kernel takes at once, and far more than the
/// calls of one turn.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read from the socket at once: the largest record, with what is around it.
const RECEIVED_BYTES_MAX: usize = 16 * 1024 + 512;

/// How often the socket is read at most for what explains an error: an alert is among the last few records of a server.
const EXPLAINING_READS_MAX: usize = 64;

/// With what a record begins: RFC 8446 section 5.1.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=24;

/// Whom to expect at the other end, whom to trust, and what to show.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// See the [module](self).
pub struct TlsStream<S> {
    socket: S,
    session: ClientConnection,
    /// This side has a certificate to show.
    shows_certificate: bool,
    /// What came from the socket, and how much of it the session has not taken yet.
    received: Box<[u8]>,
    taken: usize,
    filled: usize,
    has_heard: bool,
    has_ended: bool,
    /// Why nothing that comes is of use any more.
    failure: Option<TlsFailure>,
    /// Why nothing can be written any more. It is told once nothing is left to be read: a server that refuses says why, and
    /// hangs up.
    unwritable: Option<io::Error>,
}

impl TlsClient {
    /// For a server of that name.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> TlsClient {
        TlsClient { config, name }
    }
}

impl<S: Read + Write> TlsStream<S> {
    /// Over that socket, which may not be connected yet.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn new(socket: S, client: &TlsClient) -> io::Result<TlsStream<S>> {
        let session = ClientConnection::new(Arc::clone(&client.config), client.name.clone());
        let mut session = session.map_err(|error| TlsFailure::from_error(error, false))?;
        session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Ok(TlsStream {
            socket,
            session,
            shows_certificate: client.config.client_auth_cert_resolver.has_certs(),
            received: vec![0; RECEIVED_BYTES_MAX].into_boxed_slice(),
            taken: 0,
            filled: 0,
            has_heard: false,
            has_ended: false,
            failure: None,
            unwritable: None,
        })
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The socket, to be registered.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether the server has not shown yet who it is.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Goes on with the handshake, for whoever has nothing to read and nothing to write yet.
    ///
    /// # Errors
    /// `WouldBlock` if the server has to go on; others as of [`read`](Read::read).
    pub fn handshake(&mut self) -> io::Result<()> {
        self.send();
        while self.session.is_handshaking() {
            if !self.receive()? {
                return Err(self.unwritable.take().unwrap_or_else(ended_early));
            }
        }
        Ok(())
    }

    /// Writes what `write` took and the socket did not, as far as it takes it now.
    ///
    /// # Errors
    /// Why nothing can be written any more.
    pub fn flush(&mut self) -> io::Result<()> {
        self.send();
        match self.unwritable.take() {
            None => Ok(()),
            Some(error) => Err(self.explain(error)),
        }
    }

    /// What the server has said that explains this error of the socket better than the system does.
    pub fn explain(&mut self, error: io::Error) -> io::Error {
        for _ in 0..EXPLAINING_READS_MAX {
            match self.receive() {
                Ok(true) => {}
                Err(why) if TlsFailure::of(&why).is_some() => return why,
                Ok(false) | Err(_) => break,
            }
        }
        error
    }

    /// Writes records, as far as the socket takes them.
    fn send(&mut self) {
        while self.unwritable.is_none() && self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => self.unwritable = Some(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // One that does not stand yet says NotConnected, and tells once it does.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return;
                }
                Err(error) => self.unwritable = Some(error),
            }
        }
    }

    /// Takes some of what has come, and writes what has to be answered; false at the end of it.
    fn receive(&mut self) -> io::Result<bool> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone().into());
        }
        if self.taken == self.filled && !self.has_ended {
            (self.taken, self.filled) = (0, 0);
            self.filled = self.socket.read(&mut self.received)?;
            self.has_ended = self.filled == 0;
        }
        let mut rest = &self.received[self.taken..self.filled];
        if let (false, [first, ..]) = (self.has_heard, rest) {
            self.has_heard = true;
            if !RECORD_TYPES.contains(first) {
                return Err(self.failure.insert(TlsFailure::NoTls).clone().into());
            }
        }
        self.taken += self.session.read_tls(&mut rest)?;
        let processed = self.session.process_new_packets();
        // Also if it is refused, since that is to be told.
        self.send();
        match processed {
            Ok(_) => Ok(!self.has_ended),
            Err(error) => {
                let failure = TlsFailure::from_error(error, self.shows_certificate);
                Err(self.failure.insert(failure).clone().into())
            }
        }
    }
}

impl<S: Read + Write> Read for TlsStream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.send();
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It hung up without a word of goodbye. Replies say themselves where they end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return match (self.unwritable.take(), self.is_handshaking()) {
                        (Some(error), _) => Err(error),
                        (None, true) => Err(ended_early()),
                        (None, false) => Ok(0),
                    };
                }
                outcome => return outcome,
            }
            match self.receive() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(self.unwritable.take().unwrap_or(error));
                }
                // What came before that is good.
                Err(error) => match self.session.reader().read(buffer) {
                    Ok(bytes @ 1..) => return Ok(bytes),
                    _ => return Err(error),
                },
            }
        }
    }
}

impl<S: Read + Write> Write for TlsStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TlsStream::flush(self)?;
        if self.session.is_handshaking() || self.session.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.session.writer().write(bytes)?;
        // If that fails, the next call says so.
        self.send();
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        TlsStream::flush(self)
    }
}

fn ended_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection during the TLS handshake")
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsClient({})", self.name.to_str())
    }
}

impl<S: fmt::Debug> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsStream({:?})", self.socket)
    }
}
