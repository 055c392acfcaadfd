//! A core's own connection to Redis: the socket under a [`Session`].

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token, event::Source};

use crate::booking::{Answer, Call, CallError, CallId, Durability};
use crate::clock::Monotonic;
use crate::ledger::Trouble;
use crate::ledger::redis::session::Session;
use crate::ledger::url::RedisUrl;

/// Where Redis listens.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// The addresses of a name, tried one after another; names are resolved when the host starts, since a loop must not
    /// wait for a name server.
    Tcp(Vec<SocketAddr>),
    /// A UNIX socket.
    Unix(PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// See the [module](self).
pub struct RedisLink {
    endpoint: Endpoint,
    session: Session,
    stream: Option<Stream>,
    connected: bool,
    /// How often it was dialled: the next address each time.
    dials: usize,
    token: Token,
    /// Where operators are told how it is, and as which of the host's ways to the ledger.
    trouble: (Trouble, usize),
    /// The state of the session that was told last.
    told: u64,
}

impl RedisLink {
    /// A link that dials when it is first [driven](RedisLink::drive). What keeps it from its Redis it says in `trouble`, under
    /// a number of its own.
    pub fn new(
        endpoint: Endpoint,
        url: RedisUrl,
        durability: Durability,
        seed: u64,
        token: Token,
        trouble: (Trouble, usize),
        now: Monotonic,
    ) -> RedisLink {
        RedisLink {
            endpoint,
            session: Session::new(url, durability, seed, now),
            stream: None,
            connected: false,
            dials: 0,
            token,
            trouble,
            told: 0,
        }
    }

    /// Whether calls are answered.
    pub fn is_up(&self) -> bool {
        self.session.is_up()
    }

    /// Takes a call.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        self.session.submit(id, call, now);
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Answer, CallError>)> {
        self.session.poll_answer()
    }

    /// When the link wants to be [driven](RedisLink::drive), whatever its socket does.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.session.next_deadline()
    }

    /// Dials, or gives a silent connection up, where it is time for that. Tells operators what has changed.
    pub fn drive(&mut self, registry: &Registry, now: Monotonic) {
        if self.session.handle_deadline(now) {
            self.stream = None;
        }
        if self.session.dial_at().is_some_and(|at| now >= at) {
            self.session.handle_dialling(now);
            self.connected = false;
            let dialled = self.dial(registry);
            self.dials = self.dials.wrapping_add(1);
            match dialled {
                Ok(stream) => self.stream = Some(stream),
                Err(error) => self.lose(format!("cannot connect to {}: {error}", self.endpoint), now),
            }
        }
        let (trouble, way) = &self.trouble;
        if std::mem::replace(&mut self.told, self.session.condition_changes()) != self.told {
            trouble.report(*way, self.session.condition());
        }
        if let Some(advice) = self.session.take_advice() {
            trouble.advise(&advice);
        }
    }

    fn dial(&self, registry: &Registry) -> io::Result<Stream> {
        let interests = Interest::READABLE | Interest::WRITABLE;
        match &self.endpoint {
            Endpoint::Tcp(addresses) => {
                let mut stream = TcpStream::connect(addresses[self.dials % addresses.len()])?;
                stream.set_nodelay(true)?;
                stream.register(registry, self.token, interests)?;
                Ok(Stream::Tcp(stream))
            }
            Endpoint::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.register(registry, self.token, interests)?;
                Ok(Stream::Unix(stream))
            }
        }
    }

    fn lose(&mut self, reason: String, now: Monotonic) {
        self.session.handle_lost(reason, now);
        self.stream = None;
    }

    /// Reads what has arrived. Where the other side has `ended`, to its end: the kernel will not tell again.
    pub fn handle_readable(&mut self, buffer: &mut [u8], ended: bool, now: Monotonic) {
        while let Some(stream) = &mut self.stream {
            let bytes = match stream.read(buffer) {
                Ok(0) => return self.lose("Redis closed the connection".to_owned(), now),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.lose(format!("reading from {}: {error}", self.endpoint), now),
            };
            if self.session.handle_bytes(&buffer[..bytes], now).is_err() {
                self.stream = None;
            }
            if bytes < buffer.len() && !ended {
                return;
            }
        }
    }

    /// Notes that the connection came about, or can take more.
    pub fn handle_writable(&mut self, now: Monotonic) {
        if let Some(stream) = &self.stream {
            match stream.take_error() {
                Ok(None) => {
                    if !std::mem::replace(&mut self.connected, true) {
                        self.session.handle_connected(now);
                    }
                }
                Ok(Some(error)) | Err(error) => {
                    self.lose(format!("cannot connect to {}: {error}", self.endpoint), now);
                }
            }
        }
    }

    /// Writes what the session has to say.
    pub fn flush(&mut self, now: Monotonic) {
        while self.connected
            && let Some(stream) = &mut self.stream
        {
            let output = self.session.output();
            if output.is_empty() {
                return;
            }
            match stream.write(output) {
                Ok(bytes) => self.session.handle_written(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose(format!("writing to {}: {error}", self.endpoint), now),
            }
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

impl Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
        }
    }
}
