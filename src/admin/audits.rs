//! Audits that operators ask for. Each has a thread and a way to the ledger of its own, and pauses between its calls for
//! longer than they take, so that it is never in the way of sales. Who asked is told as it goes, by server-sent events; if
//! nobody listens any more, it ends.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Shared;
use super::error::ApiError;
use super::places::Leave;
use crate::api::Problem;
use crate::api::encode::{self, Instance};
use crate::audit::{Audit, AuditError, Findings, Sources};
use crate::booking::SaleName;
use crate::connection::{PendingReply, Produced, StreamPart};
use crate::connections::ConnectionKey;
use crate::ledger::Ledger;
use crate::limits;
use crate::protocol::{Answer, Call, CallError, Part, SaleOp, SaleResult};

/// How long an audit pauses after a call, in times of what the call took: it takes a third of the ledger's time at most.
const PAUSE_TIMES: u32 = 2;

/// And at least so long.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// And at most: a ledger that was silent for seconds was not so because of the audit.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// See the [module](self).
pub(super) struct Audits {
    shared: Arc<Shared>,
    waker: Arc<mio::Waker>,
    /// By the index of the connection that asked.
    running: BTreeMap<usize, Running>,
}

/// One that was asked for and not told to its end.
struct Running {
    key: ConnectionKey,
    path: String,
    /// Not answered yet: with a problem, or by what goes on.
    pending: Option<PendingReply>,
    report: Arc<Exchange>,
    /// An event that is being sent, and how much of it was.
    event: Vec<u8>,
    sent: usize,
    has_ended: bool,
}

/// What a thread tells the loop, and the other way round that nobody listens any more.
#[derive(Default)]
struct Exchange {
    told: Mutex<Latest>,
    is_unwanted: AtomicBool,
}

#[derive(Default)]
struct Latest {
    progress: Option<Progress>,
    outcome: Option<Result<Box<Findings>, ApiError>>,
}

#[derive(Clone, Copy)]
struct Progress {
    part: Part,
    /// All that were read.
    rows: u64,
    /// Of the sale: about as many log entries there are, and no more bookings.
    sequence: u64,
}

/// What is to be done for one who asked.
pub(super) enum AuditNews {
    /// Refuse it.
    Refuse(PendingReply, String, ApiError),
    /// Begin to answer.
    Begin(PendingReply),
    /// Go on.
    Wake,
}

impl Audits {
    /// None yet. The waker wakes the loop if there is something to tell.
    pub(super) fn new(shared: Arc<Shared>, waker: Arc<mio::Waker>) -> Audits {
        Audits { shared, waker, running: BTreeMap::new() }
    }

    /// Begins one.
    pub(super) fn begin(
        &mut self,
        (key, pending): (ConnectionKey, PendingReply),
        path: &str,
        sale: SaleName,
        leave: Leave,
    ) {
        let report = Arc::new(Exchange::default());
        let (shared, waker, to) = (Arc::clone(&self.shared), Arc::clone(&self.waker), Arc::clone(&report));
        let spawned = std::thread::Builder::new().name("admin-audit".to_owned()).spawn(move || {
            let outcome = audit(&shared, sale, &to, &waker);
            drop(leave);
            to.told().outcome = Some(outcome);
            wake(&waker);
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot start a thread for an audit");
            let detail = "No thread could be started for this audit. Nothing was done.";
            report.told().outcome = Some(Err(ApiError::new(Problem::OVERLOADED, detail)));
            wake(&self.waker);
        }
        let (pending, path) = (Some(pending), path.to_owned());
        let running = Running { key, path, pending, report, event: Vec::new(), sent: 0, has_ended: false };
        self.running.insert(key.index(), running);
    }

    /// Its connection has ended, or it was told to its end.
    pub(super) fn leave(&mut self, key: ConnectionKey) {
        if let Some(running) = self.running.remove(&key.index()) {
            match running.key == key {
                // Pairs with nothing: it is only to be seen soon.
                true => running.report.is_unwanted.store(true, Ordering::Relaxed),
                false => drop(self.running.insert(key.index(), running)),
            }
        }
    }

    /// What is to be done now, for each of whom there is news.
    pub(super) fn take_news(&mut self) -> Vec<(ConnectionKey, AuditNews)> {
        let mut all = Vec::new();
        for running in self.running.values_mut() {
            let mut told = running.report.told();
            let news = match (running.pending.take(), told.outcome.take()) {
                (None, outcome) => {
                    let is_news = outcome.is_some() || told.progress.is_some();
                    told.outcome = outcome;
                    is_news.then_some(AuditNews::Wake)
                }
                (Some(pending), Some(Err(error))) => {
                    Some(AuditNews::Refuse(pending, running.path.clone(), error))
                }
                (Some(pending), outcome) if outcome.is_some() || told.progress.is_some() => {
                    told.outcome = outcome;
                    Some(AuditNews::Begin(pending))
                }
                (pending, _) => {
                    running.pending = pending;
                    None
                }
            };
            all.extend(news.map(|news| (running.key, news)));
        }
        all
    }

    /// Whether that connection's stream is one of these.
    pub(super) fn has(&self, key: ConnectionKey) -> bool {
        self.running.get(&key.index()).is_some_and(|running| running.key == key)
    }

    /// Writes the next part of what is told.
    pub(super) fn tell(&mut self, key: ConnectionKey, part: StreamPart<'_>) -> Produced {
        let Some(running) = self.running.get_mut(&key.index()) else { return part.end() };
        if running.sent == running.event.len() {
            let mut told = running.report.told();
            let event = match (told.outcome.take(), told.progress.take()) {
                (Some(outcome), _) => {
                    running.has_ended = true;
                    event_of(outcome, &running.path)
                }
                (None, Some(progress)) => progress.event(),
                (None, None) if running.has_ended => {
                    drop(told);
                    self.leave(key);
                    return part.end();
                }
                (None, None) => return part.nothing(),
            };
            drop(told);
            (running.event, running.sent) = (event, 0);
        }
        let end = running.event.len().min(running.sent + limits::STREAM_PART_BYTES_MAX);
        let next = &running.event[running.sent..end];
        running.sent = end;
        part.send_more(next)
    }
}

impl Drop for Audits {
    fn drop(&mut self) {
        self.running.values().for_each(|running| running.report.is_unwanted.store(true, Ordering::Relaxed));
    }
}

impl Exchange {
    fn told(&self) -> MutexGuard<'_, Latest> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn event(self) -> Vec<u8> {
        let Progress { part, rows, sequence } = self;
        let data = json!({ "part": part.word(), "rows": rows, "sequence": sequence });
        event("progress", data.to_string().as_bytes())
    }
}

fn event(name: &str, data: &[u8]) -> Vec<u8> {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"].concat()
}

fn event_of(outcome: Result<Box<Findings>, ApiError>, path: &str) -> Vec<u8> {
    match outcome {
        Ok(findings) => event("findings", findings.json().to_string().as_bytes()),
        Err(ApiError { problem, detail }) => {
            let mut document = Vec::new();
            let instance = Instance::Path(path);
            encode::write_problem(&mut document, problem.status(), problem, detail.as_deref(), instance);
            event("failed", &document)
        }
    }
}

fn wake(waker: &mio::Waker) {
    if let Err(error) = waker.wake() {
        tracing::error!(%error, "cannot wake the admin listener");
    }
}

/// On a thread of its own.
fn audit(
    shared: &Shared,
    sale: SaleName,
    report: &Exchange,
    waker: &mio::Waker,
) -> Result<Box<Findings>, ApiError> {
    let unavailable = |detail: String| ApiError::new(Problem::LEDGER_UNAVAILABLE, detail);
    let ledger = (shared.open_to_read)().map_err(|error| unavailable(error.to_string()))?;
    let mut paced =
        PacedLedger { ledger, shared, report, waker, read: Read::default(), told_at: None, stop: None };
    let outcome = Audit { sale, access_logs: &[], metrics: &[] }.run(&mut paced, &Nothing);
    match (outcome, paced.stop) {
        (Ok(findings), _) => Ok(Box::new(findings)),
        (Err(_), Some(Stop::TooLarge)) => Err(Problem::AUDIT_TOO_LARGE.into()),
        (Err(_), Some(Stop::Unwanted)) => Err(unavailable("The host is ending.".to_owned())),
        (Err(error), None) => Err(match error {
            AuditError::NoSuchSale(_) => Problem::NO_SUCH_SALE.into(),
            AuditError::Ledger(CallError::Unsound(what)) => ApiError::new(Problem::SALE_UNSOUND, what),
            // It only reads, so that nothing can have come of it.
            other => unavailable(other.to_string()),
        }),
    }
}

/// Why an audit does not go on.
#[derive(Clone, Copy)]
enum Stop {
    /// Nobody listens, or the host ends.
    Unwanted,
    /// It would take more memory than it may.
    TooLarge,
}

/// What was read so far.
#[derive(Default)]
struct Read {
    /// Of all parts.
    rows: u64,
    part: Option<Part>,
    /// Of this part.
    of_part: u64,
}

/// A ledger that is read slowly, and not to the end if nobody wants to know.
struct PacedLedger<'a> {
    ledger: Box<dyn Ledger + Send>,
    shared: &'a Shared,
    report: &'a Exchange,
    waker: &'a mio::Waker,
    read: Read,
    told_at: Option<Instant>,
    stop: Option<Stop>,
}

impl Ledger for PacedLedger<'_> {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let is_unwanted =
            self.report.is_unwanted.load(Ordering::Relaxed) || self.shared.stopping.load(Ordering::SeqCst);
        if is_unwanted {
            self.stop = Some(Stop::Unwanted);
        }
        if self.stop.is_some() {
            let stopped = || Err(CallError::Refused("the audit was stopped".to_owned()));
            return calls.iter().map(|_| stopped()).collect();
        }
        let began = Instant::now();
        let answers = self.ledger.execute(calls);
        let took = began.elapsed();
        calls.iter().zip(&answers).for_each(|(call, answer)| self.note(call, answer));
        std::thread::sleep((took * PAUSE_TIMES).clamp(PAUSE_MIN, PAUSE_MAX));
        answers
    }
}

impl PacedLedger<'_> {
    fn note(&mut self, call: &Call, answer: &Result<Answer, CallError>) {
        let Call::Sale { op: SaleOp::Survey { part, cursor }, .. } = call else { return };
        let Ok(Answer::Sale { state, result: SaleResult::Surveyed { rows, .. } }) = answer else { return };
        if cursor.is_empty() || self.read.part != Some(*part) {
            self.read.of_part = 0;
        }
        // From the start, since it was trimmed meanwhile.
        if cursor.is_empty() && *part == Part::Log {
            self.read.rows = 0;
        }
        self.read.part = Some(*part);
        self.read.of_part += rows.len() as u64;
        self.read.rows += rows.len() as u64;
        if self.read.of_part > limits::AUDIT_ROWS_MAX {
            self.stop = Some(Stop::TooLarge);
        }
        if self.told_at.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
            self.told_at = Some(Instant::now());
            let progress = Progress { part: *part, rows: self.read.rows, sequence: state.sequence };
            self.report.told().progress = Some(progress);
            wake(self.waker);
        }
    }
}

/// Neither access logs nor metrics: those of other hosts are out of reach.
struct Nothing;

impl Sources for Nothing {
    fn access_log(&self, _: &Path) -> io::Result<Box<dyn BufRead>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn metrics(&self, _: &str, _: bool) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
