//! The operators' listener: health, metrics, administration of sales. Its own address, a thread of its own and, for what waits
//! for the ledger, more of them; it shares with the loops only counters, the board and the drain flag, and speaks to the
//! ledger by itself.

mod audits;
mod bookings;
mod caller;
mod dashboard;
mod dashboards;
mod error;
mod event;
mod listener;
mod metrics;
mod places;
mod profile;
mod readiness;
mod reception;
pub mod sales;
mod service;
#[cfg(all(test, not(loom)))]
mod tests;
mod work;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::access_log::AccessLogCounters;
use crate::ledger::{Ledger, OpenError, Trouble};
use crate::limits;
use crate::metrics::CoreMetrics;
use crate::proxies::TrustedProxies;
use crate::runtime::{Drain, SystemClock};
use crate::stock::Board;
use audits::Audits;
use dashboards::Dashboards;
use listener::{Listener, WAKER};
use places::Asking;
use work::Work;

/// Opens a way to the ledger.
pub type OpenLedger = Box<dyn Fn() -> Result<Box<dyn Ledger + Send>, OpenError> + Send + Sync>;

/// What the admin listener serves from.
pub struct Parts {
    /// The sales.
    pub board: Arc<Board>,
    /// The counters of each core.
    pub metrics: Vec<Arc<CoreMetrics>>,
    /// Those of the access log, if there is one.
    pub access_log: Option<AccessLogCounters>,
    /// A way to the ledger for administration.
    pub ledger: Box<dyn Ledger + Send>,
    /// Opens another way to the ledger, to read from: for an audit.
    pub open_to_read: OpenLedger,
    /// What keeps the ledger from selling, if it reports that itself.
    pub trouble: Trouble,
    /// Ends the host.
    pub drain: Drain,
    /// The file of the bearer token.
    pub token_file: Option<PathBuf>,
    /// The proxies that are believed of whom they speak for, in the log.
    pub proxies: Arc<TrustedProxies>,
    /// The loops' clock.
    pub clock: SystemClock,
    /// How many dashboards may be open at once.
    pub dashboards_max: usize,
    /// Whether the next process of a restart may listen beside this one: its port is then that one's once this host drains.
    pub shares_port: bool,
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
    pub(crate) open_to_read: OpenLedger,
    pub(crate) trouble: Trouble,
    pub(crate) drain: Drain,
    pub(crate) token: Option<TokenFile>,
    pub(crate) proxies: Arc<TrustedProxies>,
    pub(crate) clock: SystemClock,
    shares_port: bool,
    stopping: AtomicBool,
    asking: Arc<Asking>,
    auditing: Arc<Asking>,
}

/// The admin listener, running.
pub struct Admin {
    address: SocketAddr,
    shared: Arc<Shared>,
    waker: Arc<mio::Waker>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Serves operators on `listener` from now on.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub fn start(listener: TcpListener, parts: Parts) -> Result<Admin, AdminError> {
        let Parts {
            board,
            metrics,
            access_log,
            ledger,
            open_to_read,
            trouble,
            drain,
            token_file,
            proxies,
            clock,
            dashboards_max,
            shares_port,
        } = parts;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            board,
            metrics,
            access_log,
            ledger: Mutex::new(ledger),
            open_to_read,
            trouble,
            drain,
            token: token_file.map(TokenFile::open).transpose()?,
            proxies,
            clock,
            shares_port,
            stopping: AtomicBool::new(false),
            asking: Arc::new(Asking::new(limits::ADMIN_LEDGER_REQUESTS_MAX)),
            auditing: Arc::new(Asking::new(limits::AUDITS_AT_ONCE_MAX)),
        });
        let now = shared.clock.now().wall;
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        let work = Work::new(Arc::clone(&shared), Arc::clone(&waker));
        let audits = Audits::new(Arc::clone(&shared), Arc::clone(&waker));
        let serving = Listener::new(
            poll,
            listener,
            Arc::clone(&shared),
            work,
            (Dashboards::new(dashboards_max, now), audits),
        )?;
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            if let Err(error) = serving.run() {
                tracing::error!(%error, "the admin listener stopped");
            }
        })?;
        Ok(Admin { address, shared, waker, thread })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of the token, if there is one.
    pub fn token_file(&self) -> Option<TokenFile> {
        self.shared.token.clone()
    }

    /// Takes no more connections, and finishes the answers that are being written.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        match self.waker.wake() {
            // One that has panicked has ended, too.
            Ok(()) => drop(self.thread.join()),
            Err(error) => tracing::error!(%error, "cannot wake the admin listener to stop it"),
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
