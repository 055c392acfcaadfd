//! A host: opens the ledger and the sales, binds, starts a loop a core, and ends them again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use rand::rngs::OsRng;
use rand::{RngCore, TryRngCore};

use super::listen::{self, ListenError, Sharing};
use super::reload::Reload;
use super::service_manager::{self, PassedError, PassedSockets};
use super::state_file::{Keeper, KnownSales, StateFile};
use crate::access_log::AccessLog;
use crate::admin::{self, Admin};
use crate::config::Config;
use crate::connections::Admission;
use crate::engine::{Engine, Settings};
use crate::ledger::redis::finder::{self, ClusterFinder, RedisFinder};
use crate::ledger::redis::{ConnectError, RedisLedger};
use crate::ledger::sqlite::{SqliteLedger, SqliteOpenError};
use crate::ledger::url::{LedgerUrl, RedisAddress, RedisUrl, UrlError};
use crate::ledger::{self, LayoutError, Ledger, Trouble};
use crate::limits::{self, ClientLimits};
use crate::metrics::CoreMetrics;
use crate::protocol::{
    Answer, Call, CallError, Durability, HostId, LedgerId, LedgerOp, LedgerResult, Opener, SaleOp, SaleResult,
};
use crate::runtime::cluster::{Cluster, ClusterSource};
use crate::runtime::ledger_thread::{self, ThreadHandle};
use crate::runtime::link::Link;
use crate::runtime::redis_link::RedisLink;
use crate::runtime::router::Router;
use crate::runtime::worker::{self, Worker};
use crate::runtime::{Drain, SystemClock};
use crate::stock::{Board, CoreIndex, HostCard};

/// Why a host cannot start; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`UrlError`].
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The clients' or the operators' address can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// See [`PassedError`].
    #[error(transparent)]
    Passed(#[from] PassedError),
    /// See [`ConnectError`].
    #[error(transparent)]
    Redis(#[from] ConnectError),
    /// See [`LayoutError`].
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// See [`SqliteOpenError`].
    #[error(transparent)]
    Sqlite(#[from] SqliteOpenError),
    /// The ledger did not do what a host needs first.
    #[error("the ledger cannot {0}: {1}")]
    Ledger(&'static str, CallError),
    /// The ledger answered with something else.
    #[error("the ledger cannot {0}: it gave an unexpected answer")]
    Answer(&'static str),
    /// More sales than a host follows.
    #[error("the ledger has more than {} sales; this version cannot follow more", limits::SALES_MAX)]
    SalesMax,
    /// See [`admin::AdminError`].
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    /// What this host knew before cannot be read, and it might open a sale that was sold already.
    #[error("cannot read the state file {0}: {1}")]
    State(String, io::Error),
    /// The access log can't be written.
    #[error("cannot write the access log {0}: {1}")]
    AccessLog(String, io::Error),
    /// Threads or epoll instances.
    #[error("cannot start a loop: {0}")]
    System(#[from] io::Error),
}

/// How often a starting host looks whether its loops have reached the ledger.
const READY_POLL: Duration = Duration::from_millis(1);

/// A host that runs. It ends by [`Drain::begin`], then [`Server::join`].
pub struct Server {
    listen: SocketAddr,
    admin: Admin,
    cores: Vec<usize>,
    pinned: bool,
    ledger: LedgerUrl,
    drain: Drain,
    access_log: Option<AccessLog>,
    keeper: Option<Keeper>,
    loops: Vec<JoinHandle<io::Result<()>>>,
    ledger_thread: Option<(ThreadHandle, JoinHandle<()>)>,
}

impl StartError {
    /// 2 if the configuration is wrong, 1 if the machine or the ledger is in the way.
    pub fn exit_status(&self) -> u8 {
        match self {
            StartError::Url(_)
            | StartError::Passed(_)
            | StartError::Admin(admin::AdminError::Token(_) | admin::AdminError::TokenFile(..)) => 2,
            StartError::Redis(error) if error.is_of_configuration() => 2,
            _ => 1,
        }
    }
}

/// How the cores reach the ledger, before there are loops.
enum Ready {
    Sqlite(SqliteLedger),
    Redis { ledger: Box<RedisLedger>, url: RedisUrl, finder: RedisFinder },
    Cluster { ledger: Box<RedisLedger>, url: RedisUrl, finder: ClusterFinder },
}

impl Server {
    /// Starts a host on `config`, on the given CPUs of this machine. It listens on the sockets that it was `passed`; where there
    /// are none, it binds its own.
    ///
    /// # Errors
    /// See [`StartError`]. What had started by then ends with the process, which has nothing to serve.
    pub fn start(config: &Config, machine: &[usize], passed: PassedSockets) -> Result<Server, StartError> {
        let cores = config.cores.list(machine);
        let sharing = if config.reuse_port { Sharing::WithOthers } else { Sharing::Alone };
        let listeners = match passed.clients.as_slice() {
            [] => listen::bind(config.listen, cores.len(), sharing)?,
            clients => listen::adopt(PassedSockets::deal(clients, cores.len())?)?,
        };
        let listen = listeners[0].local_addr()?;
        // The port of one that was passed is nobody else's.
        let shares_admin = config.reuse_port && passed.admin.is_none();
        let admin_listener = match passed.admin {
            Some(admin) => admin,
            None => listen::bind_one(config.admin, sharing)?,
        };
        let access_log = match &config.access_log {
            Some(path) => {
                let told = |error| StartError::AccessLog(path.display().to_string(), error);
                Some(AccessLog::open(path).map_err(told)?)
            }
            None => None,
        };
        let ledger_url = config.ledger.parse::<LedgerUrl>()?;
        let ledger_url = ledger_url.with_files(&config.ledger_files)?;
        let mut ready = open_ledger(&ledger_url)?;
        match ledger::check_layout(ready.ledger()) {
            // It opens nothing, and its loops find out what keeps the ledger from being served; of a later layout no sale is.
            Err(error @ LayoutError::Unknown(_)) if config.sales.is_empty() => tracing::warn!("{error}"),
            outcome => outcome?,
        }
        let secret_key = (OsRng.unwrap_err().next_u64(), OsRng.unwrap_err().next_u64());
        let board = Board::new(cores.len(), config.buffer).with_hash_key(secret_key);
        let board = Arc::new(board.with_card(card(config, listen, &ledger_url)));
        let state_file = state_file(config, &ledger_url);
        let known = match &state_file {
            Some(file) => {
                let told = |error| StartError::State(file.shown(), error);
                file.read().map_err(told)?
            }
            None => KnownSales::new(),
        };
        open_sales(ready.ledger(), config, &board, known)?;
        let keeper = match state_file {
            Some(file) => Some(Keeper::start(file, Arc::clone(&board), || SystemClock::new().now().wall.0)?),
            None => None,
        };

        let mut limits = config.limits.clone();
        let dashboards_max = bound_by_descriptors(&mut limits, cores.len());
        let proxies = Arc::new(config.proxies.clone());
        let admission = Arc::new(Admission::new(&limits).behind(proxies));
        let limits = Arc::new(limits);
        let clock = SystemClock::new();
        let ledger_timeout_ms = u64::try_from(config.ledger_timeout.as_millis()).unwrap_or(u64::MAX);
        let metrics: Vec<_> = cores.iter().map(|_| Arc::new(CoreMetrics::default())).collect();
        let polls = cores.iter().map(|_| worker::poll_and_waker()).collect::<io::Result<Vec<_>>>()?;
        let wakers: Vec<_> = polls.iter().map(|(_, waker)| Arc::clone(waker)).collect();
        let drain = Drain::new(wakers.clone(), config.drain_delay, service_manager::tell_stopping);
        let trouble = match &ready {
            Ready::Sqlite(ledger) => ledger.trouble(),
            Ready::Redis { .. } | Ready::Cluster { .. } => Trouble::default(),
        };
        let (links, admin_ledger, ledger_thread) =
            connect(ready, config.durability, &trouble, &wakers, clock)?;

        let admin = Admin::start(
            admin_listener,
            admin::Parts {
                board: Arc::clone(&board),
                metrics: metrics.clone(),
                access_log: access_log.as_ref().map(AccessLog::counters),
                ledger: admin_ledger,
                open_to_read: {
                    let url = ledger_url.clone();
                    Box::new(move || ledger::open_to_read(&url))
                },
                trouble,
                drain: drain.clone(),
                token_file: config.admin_token_file.clone(),
                proxies: Arc::new(config.proxies.clone().without_header()),
                clock,
                dashboards_max,
                shares_port: shares_admin,
            },
        )?;

        let mut loops = Vec::with_capacity(cores.len());
        let parts = polls.into_iter().zip(listeners).zip(links).zip(metrics.iter().cloned());
        for (index, (((poll, listener), link), metrics)) in parts.enumerate() {
            let settings = Settings {
                core: CoreIndex(index),
                ledger_timeout_ms,
                seed: secret(),
                limits: Arc::clone(&limits),
                admission: Arc::clone(&admission),
            };
            let lines = access_log.as_ref().map(AccessLog::buffer);
            let engine = Engine::new(settings, Arc::clone(&board), metrics, lines, clock.now());
            let worker =
                Worker::new(poll.0, listener, engine, link, clock, drain.clone(), ledger_timeout_ms)?;
            let (cpu, pin, failed) = (cores[index], config.pin, drain.clone());
            let thread = std::thread::Builder::new().name(format!("loop-{cpu}")).spawn(move || {
                if pin && !core_affinity::set_for_current(CoreId { id: cpu }) {
                    tracing::warn!(cpu, "cannot pin this loop to its CPU; it runs on any of them");
                }
                let ended = worker.run();
                if ended.is_err() {
                    // Half a host is worse than none: connections of this loop's listener would hang.
                    failed.close();
                }
                ended
            })?;
            loops.push(thread);
        }
        // "Ready" is to mean it. A ledger that is lost this very moment is waited for no longer than a client would.
        let until = Instant::now() + config.ledger_timeout;
        while Instant::now() < until && !metrics.iter().all(|core| core.ledger_up()) {
            std::thread::sleep(READY_POLL);
        }
        service_manager::watch(metrics, drain.clone(), clock)?;
        Ok(Server {
            listen,
            admin,
            cores,
            pinned: config.pin,
            ledger: ledger_url,
            drain,
            access_log,
            keeper,
            loops,
            ledger_thread,
        })
    }

    /// What the operator sees first.
    pub fn banner(&self) -> String {
        let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
        let (count, cores) = (self.cores.len(), cores.join(","));
        let loops = if count == 1 { "loop" } else { "loops" };
        let place = match self.pinned {
            true => format!("{count} {loops} on cores {cores}"),
            false => format!("{count} {loops}, not pinned"),
        };
        format!(
            "boxoffice {}\nlistening on {} ({place})\nadmin on {}\nledger {}\nready",
            env!("CARGO_PKG_VERSION"),
            self.listen,
            self.admin.address(),
            self.ledger
        )
    }

    /// Tells the service manager, if there is one, that clients are served.
    pub fn tell_ready(&self) {
        service_manager::tell_ready();
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The way to end it, for another thread.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// A handle for another thread to reopen and reread its files.
    pub fn reload(&self) -> Reload {
        let redis = match &self.ledger {
            LedgerUrl::Redis(url) => Some(url.clone()),
            LedgerUrl::Sqlite(_) => None,
        };
        Reload {
            access_log: self.access_log.as_ref().map(AccessLog::reopener),
            token: self.admin.token_file(),
            redis,
        }
    }

    /// Waits for the loops to end, then for what they have handed over to be written.
    ///
    /// # Errors
    /// Of the first loop that failed.
    pub fn join(self) -> io::Result<()> {
        let mut outcome = Ok(());
        for thread in self.loops {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a loop panicked")));
            outcome = outcome.and(ended);
        }
        self.admin.stop();
        if let Some(keeper) = self.keeper {
            keeper.stop();
        }
        if let Some(log) = self.access_log {
            outcome = outcome.and(log.close());
        }
        if let Some((handle, thread)) = self.ledger_thread {
            handle.stop();
            if thread.join().is_err() {
                return Err(io::Error::other("the ledger thread panicked"));
            }
        }
        outcome
    }
}

impl Ready {
    fn ledger(&mut self) -> &mut dyn Ledger {
        match self {
            Ready::Sqlite(ledger) => ledger,
            Ready::Redis { ledger, .. } | Ready::Cluster { ledger, .. } => ledger.as_mut(),
        }
    }
}

/// What this host tells others of itself.
fn card(config: &Config, listen: SocketAddr, ledger: &LedgerUrl) -> HostCard {
    if config.advertise.is_none() && listen.ip().is_unspecified() && matches!(ledger, LedgerUrl::Redis(_)) {
        tracing::warn!(
            "this host tells others that it is at {listen}, where no balancer reaches it: say where by --advertise ADDR:PORT"
        );
    }
    HostCard {
        id: HostId(
            u128::from(OsRng.unwrap_err().next_u64()) << 64 | u128::from(OsRng.unwrap_err().next_u64()),
        ),
        address: config.advertise.clone().unwrap_or_else(|| listen.to_string()),
        weight: config.weight,
        started_at_ms: SystemClock::new().now().wall.0,
    }
}

fn open_ledger(url: &LedgerUrl) -> Result<Ready, StartError> {
    match url {
        LedgerUrl::Sqlite(path) => Ok(Ready::Sqlite(SqliteLedger::open(path)?)),
        LedgerUrl::Redis(url) => {
            // One for the whole host: sentinels, or the nodes of a Cluster, are asked once, and not by each loop.
            let patience = Duration::from_millis(limits::LEDGER_SILENCE_MS);
            if let RedisAddress::Cluster(seeds) = &url.address {
                let finder = ClusterFinder::new(url, seeds, true);
                let ledger = RedisLedger::connect_to_cluster(finder.clone(), url, patience)?;
                return Ok(Ready::Cluster { ledger: Box::new(ledger), url: url.clone(), finder });
            }
            let finder = finder::of_host(url);
            let ledger = Box::new(RedisLedger::connect_by(&finder, url, patience)?);
            Ok(Ready::Redis { ledger, url: url.clone(), finder })
        }
    }
}

/// Where this host keeps what it knows. A SQLite file needs none: its lock file shows if it is gone.
fn state_file(config: &Config, ledger: &LedgerUrl) -> Option<StateFile> {
    match ledger {
        LedgerUrl::Sqlite(_) => None,
        LedgerUrl::Redis(url) => {
            let mut nobody =
                RedisUrl { user: None, password: None, password_file: None, tls: None, ..url.clone() };
            // In whichever order somebody writes them.
            match &mut nobody.address {
                RedisAddress::Sentinel(address) => address.sentinels.sort(),
                RedisAddress::Cluster(seeds) => seeds.sort(),
                RedisAddress::Tcp(_) | RedisAddress::Unix(_) => {}
            }
            config.state.as_deref().map(|path| StateFile::new(path, &nobody))
        }
    }
}

/// Tells the ledger which sales this host `knew` before; leaves those that are known and were not removed. Where the ledger
/// has just got its name, it waits until the other hosts have done so.
fn recall(ledger: &mut dyn Ledger, mut knew: KnownSales, opens: bool) -> Result<KnownSales, StartError> {
    const NAME: &str = "take a name";
    let id =
        LedgerId(u128::from(OsRng.unwrap_err().next_u64()) << 64 | u128::from(OsRng.unwrap_err().next_u64()));
    let Answer::Ledger(LedgerResult::Identified { age_ms, .. }) =
        one(ledger, Call::Ledger(LedgerOp::Identify { id }), NAME)?
    else {
        return Err(StartError::Answer(NAME));
    };
    const RECALL: &str = "name the sales that this host knew";
    let all: Vec<_> = knew.iter().map(|(&sale, &opened)| (sale, opened)).collect();
    for sales in all.chunks(limits::RECALLED_PER_CALL_MAX) {
        match one(ledger, Call::Ledger(LedgerOp::Recall { sales: sales.to_vec() }), RECALL)? {
            Answer::Ledger(LedgerResult::Recalled { removed }) => {
                for ((sale, _), removed) in sales.iter().zip(removed) {
                    if removed {
                        knew.remove(sale);
                    }
                }
            }
            _ => return Err(StartError::Answer(RECALL)),
        }
    }
    if opens && age_ms < limits::NEW_LEDGER_MS {
        tracing::info!(
            "this ledger is new: waiting {} ms before opening sales, so that hosts that know of lost ones can report them",
            limits::NEW_LEDGER_MS - age_ms
        );
        std::thread::sleep(Duration::from_millis(limits::NEW_LEDGER_MS - age_ms));
    }
    Ok(knew)
}

/// Opens the sales of the configuration, and learns all that the ledger has. `knew` is what this host knew of before.
fn open_sales(
    ledger: &mut dyn Ledger,
    config: &Config,
    board: &Board,
    knew: KnownSales,
) -> Result<(), StartError> {
    const OPEN: &str = "open a sale";
    let known = match recall(ledger, knew.clone(), !config.sales.is_empty()) {
        // It opens nothing, and what keeps the ledger from being served its loops find out and tell.
        Err(StartError::Ledger(what, error)) if config.sales.is_empty() => {
            tracing::warn!(%error, "the ledger cannot {what}");
            knew
        }
        known => known?,
    };
    for (sale, terms) in &config.sales {
        let call = SaleOp::Open { terms: terms.clone(), by: Opener::Start }.on(*sale);
        let answer = ledger.execute(&[call]).pop().ok_or(StartError::Answer(OPEN))?;
        // What is wrong is reported below; the host serves the others.
        if let Err(CallError::Unsound(_)) = answer {
            continue;
        }
        match answer.map_err(|error| StartError::Ledger(OPEN, error))? {
            Answer::Lost => {
                tracing::error!(%sale, "the ledger has lost this sale, so it is not opened: its tickets may be sold \
                     already. Restore a copy of the ledger; or reopen the sale with `boxoffice sale open`, which sells the \
                     whole stock again; or end it with `boxoffice sale remove`")
            }
            Answer::Sale { state, result: SaleResult::Exists } if state.terms != *terms => {
                tracing::warn!(%sale, total = state.terms.total, "the sale already exists with other terms, which are kept; change them with `boxoffice sale set`");
            }
            Answer::Sale { result: SaleResult::Created | SaleResult::Exists, .. } => {}
            _ => return Err(StartError::Answer(OPEN)),
        }
    }
    const READ: &str = "name its sales";
    // Entries that are not names are reported by the sync, once.
    let Answer::Ledger(LedgerResult::Sales { names, .. }) = one(ledger, Call::Ledger(LedgerOp::Sales), READ)?
    else {
        return Err(StartError::Answer(READ));
    };
    let snapshots: Vec<_> = names.iter().map(|&sale| SaleOp::Snapshot.on(sale)).collect();
    for (sale, answer) in names.iter().zip(ledger.execute(&snapshots)) {
        // Before its state: what another host has opened in its place is not what this one knew.
        let opened = known.get(sale).copied().unwrap_or_default();
        let sale = board.remember(sale, opened).map_err(|_| StartError::SalesMax)?;
        match answer {
            Ok(Answer::Sale { state, result: SaleResult::Done }) => sale.learn_waiting(&state),
            // It is lost, and the host says so.
            Ok(Answer::Missing) => {}
            Ok(_) => return Err(StartError::Answer("read a sale")),
            Err(CallError::Unsound(what)) => sale.mark_unsound(&what),
            Err(error) => return Err(StartError::Ledger("read a sale", error)),
        }
    }
    Ok(())
}

fn one(ledger: &mut dyn Ledger, call: Call, what: &'static str) -> Result<Answer, StartError> {
    let answer = ledger.execute(&[call]).pop().ok_or(StartError::Answer(what))?;
    answer.map_err(|error| StartError::Ledger(what, error))
}

type Connected = (Vec<Link>, Box<dyn Ledger + Send>, Option<(ThreadHandle, JoinHandle<()>)>);

/// Gives every loop its way to the ledger, and the admin listener another.
fn connect(
    ready: Ready,
    durability: Durability,
    trouble: &Trouble,
    wakers: &[Arc<mio::Waker>],
    clock: SystemClock,
) -> Result<Connected, StartError> {
    match ready {
        Ready::Sqlite(ledger) => {
            let (handles, admin, thread) = ledger_thread::start(Box::new(ledger), wakers.to_vec())?;
            Ok((
                handles.into_iter().map(Link::to_thread).collect(),
                Box::new(admin.clone()),
                Some((admin, thread)),
            ))
        }
        Ready::Redis { mut ledger, url, finder } => {
            ledger.wait_as(durability);
            let now = clock.now().monotonic;
            let link = |(way, waker): (usize, &Arc<mio::Waker>)| {
                let seed = OsRng.unwrap_err().next_u64();
                let trouble = (trouble.clone(), way);
                let waker = Arc::clone(waker);
                // A loop that has ended needs no answer.
                let asker = finder.asker(move || drop(waker.wake()));
                let link = RedisLink::new(asker, url.clone(), durability, seed, trouble, now);
                Link::Redis(Box::new(Router::to_one(link)))
            };
            Ok((wakers.iter().enumerate().map(link).collect(), ledger, None))
        }
        Ready::Cluster { mut ledger, url, finder } => {
            ledger.wait_as(durability);
            let now = clock.now().monotonic;
            let link = |(core, waker): (usize, &Arc<mio::Waker>)| {
                // A loop that has ended needs no answer.
                let wake = |waker: &Arc<mio::Waker>| {
                    let waker = Arc::clone(waker);
                    move || drop(waker.wake())
                };
                let (nodes, nudged, waker) = (finder.clone(), finder.clone(), Arc::clone(waker));
                let source = ClusterSource {
                    maps: finder.maps(wake(&waker)),
                    node: Box::new(move |place| nodes.node(place, wake(&waker))),
                    nudge: Box::new(move || nudged.nudge()),
                };
                let seed = OsRng.unwrap_err().next_u64();
                let trouble = (trouble.clone(), core);
                let cluster = Cluster::new(source, url.clone(), durability, seed, trouble, now);
                Link::Redis(Box::new(Router::to_cluster(cluster)))
            };
            Ok((wakers.iter().enumerate().map(link).collect(), ledger, None))
        }
    }
}

/// Lowers the limit of connections so that descriptors are left for the ledger, the operators and the files. Tells how many
/// dashboards may be open.
fn bound_by_descriptors(limits: &mut ClientLimits, cores: usize) -> usize {
    let descriptors = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(descriptors) => usize::try_from(descriptors).unwrap_or(usize::MAX),
        Err(error) => {
            tracing::warn!(%error, "cannot read the limit of open files");
            return limits::DASHBOARDS_MAX;
        }
    };
    let dashboards = limits::DASHBOARDS_MAX.min(descriptors / limits::DASHBOARDS_DESCRIPTORS);
    let reserved = limits::DESCRIPTORS_RESERVED + limits::DESCRIPTORS_RESERVED_PER_CORE * cores + dashboards;
    let connections = descriptors.saturating_sub(reserved).max(1);
    if connections < limits.connections {
        tracing::info!(
            connections,
            descriptors,
            "the limit of open files (ulimit -n) allows fewer connections"
        );
        limits.connections = connections;
    }
    dashboards
}

fn secret() -> [u8; 32] {
    let mut seed = [0; 32];
    // Without the system's randomness no secret can be made: better not to start.
    OsRng.unwrap_err().fill_bytes(&mut seed);
    seed
}
