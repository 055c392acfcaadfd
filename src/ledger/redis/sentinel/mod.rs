//! Sentinels, and who they say is the primary, at every moment: a thread for each of them asks it twice a second, and at once
//! when it tells that something has changed. What counts of it, a [`Ballot`] says.

mod ballot;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use ballot::{Ballot, REPORT_GOOD_MS};

use super::place::Resolver;
use super::voice::Voice;
use crate::clock::Monotonic;
use crate::ledger::url::{HostPort, SentinelAddress};
use crate::net::Moves;

/// How often each sentinel is asked, where it tells nothing by itself.
const POLL: Duration = Duration::from_millis(500);

/// How long a sentinel may take for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Pause before a sentinel that has told something is asked: one that never stops telling keeps no core busy.
const AFTER_NEWS: Duration = Duration::from_millis(5);

/// Pause before a sentinel that could not be heard is tried again, beside being asked: it may deny that for good.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);

/// How long whoever asks first waits for the sentinels to be asked.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// See the [module](self). Its threads end when it is dropped.
pub(super) struct SentinelWatch(Arc<Watching>);

struct Watching {
    address: SentinelAddress,
    resolver: Resolver,
    started: Instant,
    ballot: Mutex<Ballot>,
    /// Somebody has said something.
    said: Condvar,
    moves: Moves,
    /// Whether the log has what becomes of the sentinels, as that of a host.
    logs: bool,
    is_over: AtomicBool,
}

/// The connection on which a sentinel tells of changes by itself.
#[derive(Default)]
struct Heard {
    voice: Option<Voice>,
    /// When it could not be had, since it was last there.
    refused_at: Option<Instant>,
}

impl SentinelWatch {
    /// Begins to ask. Another primary is told to those who listen to the `moves`.
    pub(super) fn start(
        address: &SentinelAddress,
        resolver: Resolver,
        moves: Moves,
        logs: bool,
    ) -> SentinelWatch {
        let shared = Arc::new(Watching {
            address: address.clone(),
            resolver,
            started: Instant::now(),
            ballot: Mutex::new(Ballot::new(address.sentinels.len())),
            said: Condvar::new(),
            moves,
            logs,
            is_over: AtomicBool::new(false),
        });
        for sentinel in 0..address.sentinels.len() {
            let watching = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("sentinel-{sentinel}"));
            if let Err(error) = thread.spawn(move || watching.watch(sentinel)) {
                shared.report(sentinel, Err(format!("there is no thread to ask it: {error}")));
            }
        }
        SentinelWatch(shared)
    }

    /// Whom a majority names. Waits a moment for those who have not answered yet, as at the start.
    ///
    /// # Errors
    /// What each of them says instead.
    pub(super) fn primary(&self) -> Result<HostPort, String> {
        let SentinelWatch(shared) = self;
        let until = Instant::now() + FIRST_ANSWER;
        let mut ballot = shared.ballot();
        loop {
            let now = shared.now();
            if let Some(primary) = ballot.elected(now) {
                return Ok(primary.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if ballot.is_complete(now) || left.is_zero() {
                let (needed, all) = (ballot.needed(), &shared.address.sentinels);
                let told = ballot.told(all, now);
                return Err(match all.len() {
                    1 => format!("the sentinel does not name the primary {:?}: {told}", shared.address.name),
                    count => format!(
                        "no {needed} of {count} sentinels agree on the primary {:?}: {told}",
                        shared.address.name
                    ),
                });
            }
            ballot = shared.said.wait_timeout(ballot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for SentinelWatch {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

impl Watching {
    fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn ballot(&self) -> MutexGuard<'_, Ballot> {
        self.ballot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, sentinel: usize, said: Result<HostPort, String>) {
        let now = self.now();
        let mut ballot = self.ballot();
        let was_named = ballot.elected(now).is_some();
        if ballot.report(sentinel, said, now) {
            // With the lock: whoever is answered by this ballot knows of the move.
            self.moves.tell();
            if let Some(primary) = ballot.elected(now).filter(|_| self.logs) {
                tracing::info!(%primary, "the sentinels name the primary");
            }
        }
        if self.logs && was_named && ballot.elected(now).is_none() {
            let told = ballot.told(&self.address.sentinels, now).to_string();
            tracing::warn!(
                told,
                "the sentinels name no primary any more: connections that are lost cannot be made again"
            );
        }
        self.said.notify_all();
    }

    /// Asks one of them until nobody wants to know any more.
    fn watch(&self, sentinel: usize) {
        let (mut asked, mut heard, mut is_silent) = (None, Heard::default(), false);
        while !self.is_over.load(Ordering::SeqCst) {
            let said = self.ask(sentinel, &mut asked);
            self.log_silence(sentinel, &said, &mut is_silent);
            let is_there = said.is_ok();
            self.report(sentinel, said);
            if !self.hear(sentinel, is_there, &mut heard) {
                std::thread::sleep(POLL);
            }
        }
    }

    /// Logs once that a sentinel does not help to name the primary, and once that it does again.
    fn log_silence(&self, sentinel: usize, said: &Result<HostPort, String>, was_silent: &mut bool) {
        if std::mem::replace(was_silent, said.is_err()) == said.is_err() || !self.logs {
            return;
        }
        let place = &self.address.sentinels[sentinel];
        match said {
            Err(why) => tracing::warn!(sentinel = %place, why, "a sentinel does not name the primary"),
            Ok(_) => tracing::info!(sentinel = %place, "the sentinel names the primary again"),
        }
    }

    fn ask(&self, sentinel: usize, voice: &mut Option<Voice>) -> Result<HostPort, String> {
        let name = &self.address.name;
        // One that broke since the last time is no reason to doubt the sentinel.
        if let Some(said) = voice.as_mut().map(|voice| voice.primary(name))
            && said.is_ok()
        {
            return said;
        }
        *voice = None;
        let voice = voice.insert(self.connect(sentinel, PATIENCE)?);
        voice.primary(name)
    }

    /// Waits until that sentinel tells something, or is to be asked anyhow; false if it cannot be heard.
    fn hear(&self, sentinel: usize, is_there: bool, heard: &mut Heard) -> bool {
        let is_due = heard.refused_at.is_none_or(|at| at.elapsed() >= AFTER_REFUSAL);
        if heard.voice.is_none() && is_there && is_due {
            let subscribed = self.connect(sentinel, POLL).and_then(|mut voice| {
                voice.subscribe()?;
                Ok(voice)
            });
            match subscribed {
                // What it told between the answer and now, it tells nobody again.
                Ok(voice) => {
                    *heard = Heard { voice: Some(voice), refused_at: None };
                    return true;
                }
                Err(why) => {
                    heard.refused_at = Some(Instant::now());
                    let place = &self.address.sentinels[sentinel];
                    tracing::debug!(sentinel = %place, why, "a sentinel is only asked, and cannot be heard");
                }
            }
        }
        let Some(voice) = &mut heard.voice else { return false };
        match voice.listen() {
            Ok(told) => {
                if told {
                    std::thread::sleep(AFTER_NEWS);
                }
                true
            }
            Err(_) => {
                heard.voice = None;
                false
            }
        }
    }

    fn connect(&self, sentinel: usize, patience: Duration) -> Result<Voice, String> {
        let login = &self.address.login;
        let password = login.password_now().map_err(|error| error.to_string())?;
        let place = &self.address.sentinels[sentinel];
        Voice::of(&self.resolver, place, (login.user.as_deref(), password.as_deref()), patience)
    }
}

impl fmt::Debug for SentinelWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentinelWatch({:?})", self.0.address)
    }
}
