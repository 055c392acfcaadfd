//! Threads for what has to wait: requests of operators that ask the ledger, or take a profile. There are as many as such requests
//! at once, so that nobody waits for another one's thread, and hardly ever more than one.
//!
//! A thread takes a request as it came, and gives back what it comes to. It touches no connection.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use super::Shared;
use super::caller::Caller;
use super::error::ApiError;
use super::places::Leave;
use super::service::{Operator, PageResult};
use crate::api::Problem;
use crate::connection::PendingReply;
use crate::connections::ConnectionKey;
use crate::http::KeptRequest;

/// How long a thread waits for more before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// A request that has to wait.
pub(super) struct Job {
    pub(super) key: ConnectionKey,
    pub(super) pending: PendingReply,
    pub(super) request: KeptRequest,
    pub(super) caller: Caller,
    /// To ask the ledger; given back when it is done.
    pub(super) leave: Option<Leave>,
}

/// What a request came to.
pub(super) struct Done {
    pub(super) key: ConnectionKey,
    pub(super) pending: PendingReply,
    pub(super) path: String,
    pub(super) answer: PageResult,
}

/// See the [module](self).
pub(super) struct Work {
    shared: Arc<Shared>,
    queue: Arc<WorkQueue>,
}

/// What its threads share.
struct WorkQueue {
    jobs: Mutex<Jobs>,
    came: Condvar,
    done: Sender<Done>,
    waker: Arc<mio::Waker>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// Threads that wait for one.
    idle: usize,
    ended: bool,
}

impl Work {
    /// No thread yet. What is done comes out of the other one, with a wake-up.
    pub(super) fn new(shared: Arc<Shared>, waker: Arc<mio::Waker>) -> (Work, Receiver<Done>) {
        let (done, finished) = unbounded();
        let (jobs, came) = (Mutex::default(), Condvar::new());
        (Work { shared, queue: Arc::new(WorkQueue { jobs, came, done, waker }) }, finished)
    }

    /// Has that done.
    pub(super) fn begin(&mut self, job: Job) {
        let mut jobs = self.queue.jobs();
        jobs.waiting.push_back(job);
        if jobs.idle >= jobs.waiting.len() {
            return self.queue.came.notify_one();
        }
        drop(jobs);
        let (shared, queue) = (Arc::clone(&self.shared), Arc::clone(&self.queue));
        let spawned = std::thread::Builder::new()
            .name("admin-worker".to_owned())
            .spawn(move || while queue.do_next(&shared) {});
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot start a thread for an operator's request");
            // Another thread may have taken it in between, and then no harm is done.
            if let Some(Job { key, pending, request, .. }) = self.queue.jobs().waiting.pop_back() {
                let detail = "No thread could be started for this request. Nothing was done.";
                let answer = Err(ApiError::new(Problem::OVERLOADED, detail));
                self.queue.finish(Done { key, pending, path: request.path, answer });
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.queue.jobs().ended = true;
        self.queue.came.notify_all();
    }
}

impl WorkQueue {
    /// Waits for a job and does it; false if the thread is to end.
    fn do_next(&self, shared: &Shared) -> bool {
        let mut jobs = self.jobs();
        if jobs.waiting.is_empty() && !jobs.ended {
            jobs.idle += 1;
            let is_idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.ended;
            let waited = self.came.wait_timeout_while(jobs, IDLE, is_idle);
            jobs = waited.unwrap_or_else(PoisonError::into_inner).0;
            jobs.idle -= 1;
        }
        let Some(Job { key, pending, request, caller, leave }) = jobs.waiting.pop_front() else {
            return false;
        };
        drop(jobs);
        let mut operator = Operator::new(shared, caller);
        let page = request.with(|request| operator.carry_out_admitted(request));
        let answer = page.map(|page| (page, operator.scratch));
        drop(leave);
        self.finish(Done { key, pending, path: request.path, answer });
        true
    }

    fn finish(&self, done: Done) {
        // A listener that has ended reads no answers.
        let _ = self.done.send(done);
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake the admin listener");
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
