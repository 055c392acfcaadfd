//! What a service manager such as systemd gives a host and hears of it: sockets that listen already (socket activation), that it
//! is ready, reads its files again or ends, and, where a watchdog is wanted, that its loops turn.
//!
//! A socket that the service manager holds outlives the process: while none serves, who connects waits in its queue.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::SockRef;

use crate::clock::Monotonic;
use crate::limits;
use crate::metrics::CoreMetrics;
use crate::runtime::{Drain, SystemClock};

/// The name of the operators' socket, `FileDescriptorName=` in its unit; those of any other name are for clients.
const ADMIN: &str = "admin";

/// Sockets that listen already.
#[derive(Debug, Default)]
pub struct PassedSockets {
    pub(super) clients: Vec<TcpListener>,
    pub(super) admin: Option<TcpListener>,
}

/// What was passed cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// One of them is something else.
    #[error(
        "socket {0} of those that the service manager passed is no listening TCP socket ({1}); its unit needs ListenStream=ADDR:PORT"
    )]
    Unusable(usize, String),
    /// More than one for operators.
    #[error("the service manager passed {0} sockets named \"admin\"; there can be one")]
    Admins(usize),
    /// Some would never be accepted from.
    #[error(
        "the service manager passed {sockets} sockets for clients, and there are {loops} loops: each socket needs one; raise --cores, or \
         have as many ListenStream= lines as loops, or one"
    )]
    TooMany {
        /// How many were passed.
        sockets: usize,
        /// How many loops there are.
        loops: usize,
    },
    /// The system refuses.
    #[error("cannot take over the sockets that the service manager passed: {0}")]
    Io(#[from] io::Error),
}

impl PassedSockets {
    /// Those that were passed to this process: none if no service manager started it, or it has none for it.
    ///
    /// # Errors
    /// See [`PassedError`].
    pub fn take() -> Result<PassedSockets, PassedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut given = ListenFd::from_env();
        let mut all = Vec::with_capacity(given.len());
        for index in 0..given.len() {
            let wrong = |what: String| PassedError::Unusable(index, what);
            let taken = given.take_tcp_listener(index).map_err(|error| wrong(error.to_string()))?;
            let listener = taken.ok_or_else(|| wrong("it was taken already".to_owned()))?;
            if !SockRef::from(&listener).is_listener()? {
                return Err(wrong("it does not listen".to_owned()));
            }
            all.push(listener);
        }
        named(all, &names)
    }

    /// One listener a loop, if there are any for clients: each loop has its own, or shares one with others.
    ///
    /// # Errors
    /// See [`PassedError::TooMany`].
    pub(super) fn deal(clients: &[TcpListener], loops: usize) -> Result<Vec<TcpListener>, PassedError> {
        if clients.len() > loops {
            return Err(PassedError::TooMany { sockets: clients.len(), loops });
        }
        (0..loops).map(|index| Ok(clients[index % clients.len()].try_clone()?)).collect()
    }
}

fn named(all: Vec<TcpListener>, names: &str) -> Result<PassedSockets, PassedError> {
    let names = names.split(':').chain(std::iter::repeat(""));
    let (admins, clients): (Vec<_>, Vec<_>) =
        all.into_iter().zip(names).partition(|(_, name)| *name == ADMIN);
    let mut admins: Vec<_> = admins.into_iter().map(|(listener, _)| listener).collect();
    match admins.len() {
        0 | 1 => Ok(PassedSockets {
            clients: clients.into_iter().map(|(listener, _)| listener).collect(),
            admin: admins.pop(),
        }),
        more => Err(PassedError::Admins(more)),
    }
}

/// Tells the service manager, if there is one that wants to hear it.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}

/// The host is ready: what depends on it may start, and the process that it takes the place of may end.
pub(super) fn tell_ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("selling")]);
}

/// The host reads its files again, until it is [ready](tell_ready).
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(time) => tell(&[NotifyState::Reloading, time]),
        Err(error) => tracing::warn!(%error, "cannot tell the service manager of a reload"),
    }
}

/// The host drains.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining: answering what was asked")]);
}

/// Tells the service manager for as long as the process lives that its loops turn, twice in the time after which it would end a
/// process that is silent; if it wants that. A loop that stands still is not told of: the service manager then starts another
/// host, and what was acknowledged is in the ledger.
///
/// # Errors
/// If there is no thread.
pub(super) fn watch(metrics: Vec<Arc<CoreMetrics>>, drain: Drain, clock: SystemClock) -> io::Result<()> {
    let Some(patience) = sd_notify::watchdog_enabled() else { return Ok(()) };
    let pause = (patience / 2).max(Duration::from_millis(1));
    std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        loop {
            // Loops of a host that ends do so one by one; how long that may take has a bound of its own.
            if drain.closes() || all_turn(&metrics, clock.now().monotonic) {
                tell(&[NotifyState::Watchdog]);
            }
            std::thread::sleep(pause);
        }
    })?;
    Ok(())
}

fn all_turn(metrics: &[Arc<CoreMetrics>], now: Monotonic) -> bool {
    let now_ms = now.0 / 1_000_000;
    metrics.iter().all(|core| core.last_turn_ms.get() + limits::LOOP_STALL_MS >= now_ms)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn of_a_host_with_a_loop_that_stands_still_nothing_is_told() {
        let metrics = [(); 2].map(|()| Arc::new(CoreMetrics::default()));
        metrics.iter().for_each(|core| core.last_turn_ms.set(1_000));
        let at = |ms: u64| Monotonic(ms * 1_000_000);
        assert!(all_turn(&metrics, at(1_000 + limits::LOOP_STALL_MS)));
        metrics[0].last_turn_ms.set(2_000);
        assert!(!all_turn(&metrics, at(1_001 + limits::LOOP_STALL_MS)));
    }

    fn listeners(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect()
    }

    #[test]
    fn a_socket_named_admin_is_for_operators_and_all_others_are_for_clients() {
        let all = listeners(3);
        let ports: Vec<u16> = all.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let passed = named(all, "boxoffice.socket:admin:boxoffice.socket").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        assert_eq!(passed.clients.iter().map(port).collect::<Vec<_>>(), [ports[0], ports[2]]);
        assert_eq!(passed.admin.as_ref().map(port), Some(ports[1]));
        // Fewer names than sockets, as systemd-socket-activate has it.
        assert_eq!(named(listeners(2), "").unwrap().clients.len(), 2);
        assert!(matches!(named(listeners(2), "admin:admin"), Err(PassedError::Admins(2))));
    }

    #[test]
    fn every_socket_has_a_loop_and_every_loop_a_socket() {
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let clients = listeners(2);
        let dealt = PassedSockets::deal(&clients, 5).unwrap();
        let expected = [0, 1, 0, 1, 0].map(|index: usize| port(&clients[index]));
        assert_eq!(dealt.iter().map(port).collect::<Vec<_>>(), expected);
        let error = PassedSockets::deal(&clients, 1).unwrap_err().to_string();
        assert!(error.contains("2 sockets for clients, and there are 1 loops"), "{error}");
    }
}
