//! What each signal does to a host, as the table in `docs/operating.md` says; a test sends every signal to a real host.

use std::io;
use std::sync::mpsc::{self, SyncSender};

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::Reload;
use crate::runtime::Drain;

/// Power fails (a service manager forwards it to its services).
const SIGPWR: i32 = 30;
/// Sent by nothing, and would end a process.
const SIGSTKFLT: i32 = 16;

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Ends the host in good order; a second one at once.
    End,
    /// Ends it in good order, however often it is sent: the system repeats it.
    Drain,
    /// Files are reopened and read again.
    Reload,
    /// Is only logged.
    Nothing,
}

/// Those that would end a process and that somebody may send by habit, or the system. Not here: KILL and STOP, which nobody
/// can take; those by which a shell stops and continues a job (TSTP, TTIN, TTOU, CONT); those that do nothing by themselves
/// (CHLD, URG, WINCH) or that the runtime ignores (PIPE); and those that tell of a broken program (ILL, TRAP, ABRT, BUS, FPE,
/// SEGV, SYS), which must not go on.
const DEEDS: [(i32, Deed); 14] = [
    (SIGTERM, Deed::End),
    (SIGINT, Deed::End),
    (SIGQUIT, Deed::End),
    (SIGPWR, Deed::Drain),
    (SIGXCPU, Deed::Drain),
    (SIGHUP, Deed::Reload),
    (SIGUSR1, Deed::Reload),
    (SIGUSR2, Deed::Nothing),
    (SIGALRM, Deed::Nothing),
    (SIGVTALRM, Deed::Nothing),
    (SIGPROF, Deed::Nothing),
    (SIGIO, Deed::Nothing),
    (SIGSTKFLT, Deed::Nothing),
    // A write past the limit of file sizes: it fails, as on a full disk, and whoever wrote sees to that.
    (SIGXFSZ, Deed::Nothing),
];

/// The signals of this process, watched but not acted on yet.
pub struct SignalWatch(Signals);

impl SignalWatch {
    /// Watches from now on. To be called before anything is started, so that no signal finds its default and ends the process
    /// with work in hand.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start() -> io::Result<SignalWatch> {
        Signals::new(DEEDS.map(|(signal, _)| signal)).map(SignalWatch)
    }

    /// Acts on what was sent so far, and on what comes, on threads of their own. `exit_at_once` ends the process.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn act(self, drain: Drain, reload: Reload, exit_at_once: fn() -> !) -> io::Result<()> {
        let SignalWatch(mut signals) = self;
        // Files may be on a disk that stands still; the end of the host does not wait for them.
        let (reloads, wanted) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || wanted.iter().for_each(|()| reload.run()))?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut is_ending = false;
            for signal in signals.forever() {
                is_ending = act(signal, is_ending, &drain, &reloads, exit_at_once);
            }
        })?;
        Ok(())
    }
}

/// Gives whether the host is to end by a signal that was sent by hand.
fn act(
    signal: i32,
    is_ending: bool,
    drain: &Drain,
    reloads: &SyncSender<()>,
    exit_at_once: fn() -> !,
) -> bool {
    let deed = DEEDS.iter().find(|(other, _)| *other == signal).map_or(Deed::Nothing, |(_, deed)| *deed);
    match deed {
        Deed::End if is_ending => {
            eprintln!("boxoffice: a second signal: exiting at once");
            exit_at_once()
        }
        Deed::End | Deed::Drain => {
            if !drain.has_begun() {
                eprintln!("boxoffice: draining: no new connections; answering what was asked");
            }
            drain.begin();
        }
        // One that waits is enough: it sees what is there when its turn comes.
        Deed::Reload => drop(reloads.try_send(())),
        Deed::Nothing => {
            tracing::info!(signal = signal_name(signal).unwrap_or("SIGSTKFLT"), "ignored a signal");
        }
    }
    is_ending || deed == Deed::End
}
