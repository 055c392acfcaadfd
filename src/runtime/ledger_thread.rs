//! The ledger thread: owns an embedded ledger and runs the calls of all cores on it, one transaction for all that gathered
//! while the last one was written.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::ledger::Ledger;
use crate::limits;
use crate::protocol::{Answer, Call, CallError, CallId};

/// An answer on its way back to a core.
pub type ThreadAnswer = (CallId, Result<Answer, CallError>);

enum ThreadCall {
    /// From a core; answered through its channel, with a wake-up.
    FromCore { core: usize, id: CallId, call: Call },
    /// No more calls come: ends the thread and closes the ledger.
    Stop,
    /// From a thread that waits.
    FromThread { calls: Vec<Call>, answers: Sender<Vec<Result<Answer, CallError>>> },
}

/// One core's connection to the thread.
#[derive(Debug)]
pub struct CoreHandle {
    core: usize,
    requests: Sender<ThreadCall>,
    answers: Receiver<ThreadAnswer>,
}

impl CoreHandle {
    /// Hands a call over; it never waits. The desk bounds how many are in flight.
    pub fn submit(&self, id: CallId, call: Call) {
        // The thread lives as long as any handle does.
        let _ = self.requests.send(ThreadCall::FromCore { core: self.core, id, call });
    }

    /// The next answer, if there is one.
    pub fn poll_answer(&self) -> Option<ThreadAnswer> {
        self.answers.try_recv().ok()
    }
}

/// A connection to the thread for callers that may wait: the admin listener.
#[derive(Clone, Debug)]
pub struct ThreadHandle {
    requests: Sender<ThreadCall>,
}

impl ThreadHandle {
    /// Ends the thread once it has done what was asked before.
    pub fn stop(&self) {
        // If the thread has already ended there is nothing to stop.
        let _ = self.requests.send(ThreadCall::Stop);
    }
}

impl Ledger for ThreadHandle {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let (answers, answered) = bounded(1);
        let request = ThreadCall::FromThread { calls: calls.to_vec(), answers };
        let gone = || CallError::Unknown("the ledger thread has ended".to_owned());
        if self.requests.send(request).is_err() {
            return calls.iter().map(|_| Err(gone())).collect();
        }
        answered.recv().unwrap_or_else(|_| calls.iter().map(|_| Err(gone())).collect())
    }
}

/// Starts the thread. `wakers` has one waker per core. The thread ends, with its ledger, when it is told to stop or all
/// handles are dropped.
pub fn start(
    ledger: Box<dyn Ledger + Send>,
    wakers: Vec<Arc<mio::Waker>>,
) -> std::io::Result<(Vec<CoreHandle>, ThreadHandle, JoinHandle<()>)> {
    let (requests, inbox) = unbounded();
    let (outboxes, receivers): (Vec<_>, Vec<_>) = wakers.iter().map(|_| unbounded()).unzip();
    let handles = receivers
        .into_iter()
        .enumerate()
        .map(|(core, answers)| CoreHandle { core, requests: requests.clone(), answers })
        .collect();
    let thread = std::thread::Builder::new()
        .name("ledger".to_owned())
        .spawn(move || run(ledger, &inbox, &outboxes, &wakers))?;
    Ok((handles, ThreadHandle { requests }, thread))
}

fn run(
    mut ledger: Box<dyn Ledger + Send>,
    inbox: &Receiver<ThreadCall>,
    outboxes: &[Sender<ThreadAnswer>],
    wakers: &[Arc<mio::Waker>],
) {
    let mut woken = vec![false; wakers.len()];
    let mut stopping = false;
    while !stopping && let Ok(first) = inbox.recv() {
        let mut origins = Vec::new();
        let mut calls = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                ThreadCall::FromCore { core, id, call } => {
                    origins.push((core, id));
                    calls.push(call);
                }
                ThreadCall::Stop => stopping = true,
                ThreadCall::FromThread { calls, answers } => {
                    // A caller that has gone away needs no answer.
                    let _ = answers.send(ledger.execute(&calls));
                }
            }
            next = if calls.len() < limits::CALLS_PER_TRANSACTION_MAX { inbox.try_recv().ok() } else { None };
        }
        for ((core, id), answer) in origins.into_iter().zip(ledger.execute(&calls)) {
            // A core that has ended reads no answers.
            let _ = outboxes[core].send((id, answer));
            woken[core] = true;
        }
        for (core, woken) in woken.iter_mut().enumerate() {
            if std::mem::take(woken)
                && let Err(error) = wakers[core].wake()
            {
                tracing::error!(core, %error, "cannot wake a loop");
            }
        }
    }
}
