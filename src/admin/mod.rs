//! The operators' listener: health, metrics, administration of sales. Its own address, its own threads; it shares with
//! the loops only counters, the board and the drain flag, and speaks to the ledger by itself.

mod bookings;
mod metrics;
mod places;
mod profile;
mod readiness;
pub mod sales;
mod service;
#[cfg(all(test, not(loom)))]
mod tests;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::access_log::AccessLogCounters;
use crate::connection::{BufferPool, Connection, Fate, Turn};
use crate::http::DateCache;
use crate::http::encode::OVERLOADED;
use crate::ledger::{Ledger, Trouble};
use crate::limits;
use crate::metrics::CoreMetrics;
use crate::runtime::{Drain, SystemClock};
use crate::stock::Board;
use places::{Place, Places};
use service::Operator;

/// How long a read may block before the connection's own deadlines are looked at.
const READ_TICK: Duration = Duration::from_millis(500);

/// How long a stopping listener waits for the connections that it has.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// What the admin listener serves from.
pub struct Parts {
    /// The sales.
    pub board: Arc<Board>,
    /// The counters of each core.
    pub metrics: Vec<Arc<CoreMetrics>>,
    /// Those of the access log, where there is one.
    pub access_log: Option<AccessLogCounters>,
    /// A way to the ledger for administration.
    pub ledger: Box<dyn Ledger + Send>,
    /// What keeps the ledger from selling, where it says so itself.
    pub trouble: Trouble,
    /// Ends the host.
    pub drain: Drain,
    /// Where the bearer token is.
    pub token_file: Option<PathBuf>,
    /// The loops' clock.
    pub clock: SystemClock,
}

/// Why the admin listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token can't be read.
    #[error("cannot read the admin token from {0}: {1}")]
    TokenFile(PathBuf, io::Error),
    /// The token is empty or has bytes that a header can't carry.
    #[error("the admin token in {0} must be one line of printable ASCII without spaces")]
    Token(PathBuf),
    /// No thread.
    #[error("cannot start the admin listener: {0}")]
    System(#[from] io::Error),
}

/// What all connections of operators share.
pub(crate) struct Shared {
    pub(crate) board: Arc<Board>,
    pub(crate) metrics: Vec<Arc<CoreMetrics>>,
    pub(crate) access_log: Option<AccessLogCounters>,
    pub(crate) ledger: Mutex<Box<dyn Ledger + Send>>,
    pub(crate) trouble: Trouble,
    pub(crate) drain: Drain,
    pub(crate) token: Option<TokenFile>,
    pub(crate) clock: SystemClock,
    stopping: AtomicBool,
    places: Places,
}

/// The admin listener, running.
pub struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Serves operators on `listener` from now on.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub fn start(listener: TcpListener, parts: Parts) -> Result<Admin, AdminError> {
        let Parts { board, metrics, access_log, ledger, trouble, drain, token_file, clock } = parts;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            board,
            metrics,
            access_log,
            ledger: Mutex::new(ledger),
            trouble,
            drain,
            token: token_file.map(TokenFile::open).transpose()?,
            clock,
            stopping: AtomicBool::new(false),
            places: Places::new(limits::ADMIN_CONNECTIONS_MAX),
        });
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || accept(&listener, &serving))?;
        Ok(Admin { address, shared, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of the token, where there is one.
    pub fn token_file(&self) -> Option<TokenFile> {
        self.shared.token.clone()
    }

    /// Takes no more connections; those there are end by themselves.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Accepting blocks; a connection from here ends it. Where none can be made the process is ending anyhow.
        if TcpStream::connect_timeout(&self.address, READ_TICK).is_ok() {
            let _ = self.thread.join();
        }
        // An answer that is being written is let out.
        let until = Instant::now() + STOP_PATIENCE;
        while self.shared.places.taken() > 0 && Instant::now() < until {
            std::thread::sleep(STOP_PATIENCE / 100);
        }
    }
}

/// The bearer token, as its file had it when it was last read.
#[derive(Clone)]
pub struct TokenFile {
    path: PathBuf,
    token: Arc<Mutex<String>>,
}

impl TokenFile {
    fn open(path: PathBuf) -> Result<TokenFile, AdminError> {
        let token = Arc::new(Mutex::new(read_token(&path)?));
        Ok(TokenFile { path, token })
    }

    /// Takes what the file has now.
    ///
    /// # Errors
    /// If it cannot be read or has no token: the former one stays.
    pub fn read_again(&self) -> Result<(), AdminError> {
        let fresh = read_token(&self.path)?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn token(&self) -> MutexGuard<'_, String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_token(path: &Path) -> Result<String, AdminError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| AdminError::TokenFile(path.to_owned(), error))?;
    let token = text.trim();
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token.to_owned()),
        false => Err(AdminError::Token(path.to_owned())),
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let stream = match stream {
            Ok(stream) => Arc::new(stream),
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept a connection");
                std::thread::sleep(Duration::from_millis(limits::ACCEPT_PAUSE_MS));
                continue;
            }
        };
        let Some(place) = shared.places.take(&stream) else {
            let _ = stream.as_ref().write_all(OVERLOADED);
            continue;
        };
        let serving = Arc::clone(shared);
        let spawned = std::thread::Builder::new().name("admin-client".to_owned()).spawn(move || {
            if let Err(error) = serve(&stream, &serving, place) {
                tracing::debug!(%error, "a connection of an operator broke");
            }
            serving.places.give_back(place);
        });
        if let Err(error) = spawned {
            shared.places.give_back(place);
            tracing::warn!(%error, "no thread for an operator's connection");
        }
    }
}

/// Serves one connection with blocking reads and writes.
fn serve(mut stream: &TcpStream, shared: &Shared, place: Place) -> io::Result<()> {
    stream.set_read_timeout(Some(READ_TICK))?;
    stream.set_write_timeout(Some(Duration::from_millis(limits::WRITE_STALL_TIMEOUT_MS)))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let mut now = shared.clock.now();
    let mut date = DateCache::new(now.wall);
    let mut pool = BufferPool::default();
    let mut connection = Connection::new(now.monotonic, Arc::default());
    let mut operator = Operator::new(shared, peer);
    let mut buffer = vec![0; limits::HEAD_BYTES_MAX];
    let mut shut = false;
    loop {
        let read = stream.read(&mut buffer);
        now = shared.clock.now();
        date.update(now.wall);
        let mut turn = Turn { now: now.monotonic, date: &date, pool: &mut pool };
        if matches!(read, Ok(1..)) {
            shared.places.begin(place);
        }
        match read {
            Ok(0) => connection.handle_end(&mut turn),
            Ok(bytes) => connection.handle_bytes(&buffer[..bytes], &mut turn, &mut operator),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        connection.handle_deadline(&mut turn, &mut operator);
        if shared.stopping.load(Ordering::SeqCst) {
            connection.drain(&mut turn);
        }
        // Where it waits for more, be it the rest of a head, it is idle since its last answer.
        shared.places.end(place, !connection.output().is_empty());
        while !connection.output().is_empty() {
            stream.write_all(connection.output())?;
            let written = connection.output().len();
            connection.handle_written(written, &mut turn);
            connection.resume(&mut turn, &mut operator);
        }
        match connection.fate() {
            Fate::Open => {}
            Fate::Linger if !shut => {
                shut = true;
                stream.shutdown(Shutdown::Write)?;
            }
            Fate::Linger => {}
            Fate::Closed => return Ok(()),
        }
    }
}
