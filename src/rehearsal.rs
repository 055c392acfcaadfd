//! A crowd of buyers for a rehearsal: each comes at a moment that was set before (open loop), books, thinks, pays or gives back,
//! loses patience and tries again. What a host takes for an answer counts from when it should have been asked, so that a host
//! that stalls is not spared those whom it kept waiting.
//!
//! [`script`] has what a buyer does, without I/O; [`crowd`] has the sockets, on threads of its own.

mod crowd;
mod script;
mod tally;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use script::Act;
pub use tally::{BuyerAnswer, Tally};

/// Most buyers of one rehearsal: what is remembered of one who may still hold a ticket takes eight bytes.
pub const BUYERS_MAX: u64 = 10_000_000;

/// Most buyers a second: beyond that the crowd takes more of a machine than the host it asks.
pub const RATE_MAX: f64 = 1_000_000.0;

/// Most connections: an address has some 28,000 ports to connect from.
pub const CONNECTIONS_MAX: usize = 20_000;

/// How often the progress of a crowd is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// What a crowd does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where clients are answered; connections are dealt to these in turn.
    pub hosts: Vec<SocketAddr>,
    /// The sale.
    pub sale: String,
    /// What the ids of its bookings begin with, so that no two rehearsals share one.
    pub prefix: String,
    /// How many come; 1 to [`BUYERS_MAX`].
    pub buyers: u64,
    /// How many a second, above 0, at most [`RATE_MAX`].
    pub rate: f64,
    /// Of those who hold a ticket, the part that pays, 0 to 1.
    pub pay: f64,
    /// The part that gives it back; the rest just leaves.
    pub give_back: f64,
    /// How long they think before that, on average; half as long at least, and half as long again at most.
    pub think: Duration,
    /// How long a buyer waits for an answer.
    pub patience: Duration,
    /// How often a buyer tries again who was sold out, not answered or told to come later.
    pub retries: u32,
    /// How long before that.
    pub retry_after: Duration,
    /// Connections over all threads, at most [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Threads, at least one, and no more than connections.
    pub threads: usize,
    /// What all chance comes from.
    pub seed: u64,
}

/// How far a crowd is.
#[derive(Debug, Default)]
pub struct CrowdProgress {
    /// Buyers who are through.
    done: AtomicU64,
    booked: AtomicU64,
    refused: AtomicU64,
}

/// A reading of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressShown {
    /// Buyers who are through.
    pub done: u64,
    /// Buyers who got a ticket.
    pub booked: u64,
    /// Buyers who were told that there is none.
    pub refused: u64,
}

impl CrowdProgress {
    // They pair with nothing: each is a number to look at.
    fn shown(&self) -> ProgressShown {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        ProgressShown { done: read(&self.done), booked: read(&self.booked), refused: read(&self.refused) }
    }
}

/// Why a crowd could not ask.
#[derive(Debug, thiserror::Error)]
pub enum CrowdError {
    /// There is nobody.
    #[error(
        "cannot reach a host at {0}: {1}; is it running? --to takes the address that `boxoffice serve` prints behind \"listening \
         on\""
    )]
    Unreachable(SocketAddr, std::io::Error),
    /// The machine.
    #[error("the crowd cannot run: {0}")]
    Machine(#[from] std::io::Error),
}

/// Lets the crowd do what the plan says, and tells how far it is. Once `stop` is set nobody new comes.
///
/// # Errors
/// If no host is there, or the machine does not let it.
pub fn run(plan: &Plan, stop: &AtomicBool, told: &mut dyn FnMut(ProgressShown)) -> Result<Tally, CrowdError> {
    crowds(plan, None, stop, told)
}

/// Gives back what buyers of an earlier crowd may still hold, as fast as that is answered.
///
/// # Errors
/// Likewise.
pub fn give_back(plan: &Plan, buyers: &[u64]) -> Result<Tally, CrowdError> {
    crowds(plan, Some(buyers), &AtomicBool::new(false), &mut |_| {})
}

fn crowds(
    plan: &Plan,
    leavers: Option<&[u64]>,
    stop: &AtomicBool,
    told: &mut dyn FnMut(ProgressShown),
) -> Result<Tally, CrowdError> {
    for host in &plan.hosts {
        let there = std::net::TcpStream::connect_timeout(host, plan.patience);
        there.map_err(|error| CrowdError::Unreachable(*host, error))?;
    }
    let progress = CrowdProgress::default();
    std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(plan.threads);
        for index in 0..plan.threads {
            let mut thread = crowd::Crowd::new(plan, leavers, index, &progress, stop)?;
            threads.push(scope.spawn(move || thread.run().map(|()| thread.into_tally())));
        }
        while threads.iter().any(|thread| !thread.is_finished()) {
            told(progress.shown());
            std::thread::sleep(PROGRESS_EVERY);
        }
        told(progress.shown());
        let mut tally = Tally::default();
        for thread in threads {
            tally.add(thread.join().expect("a thread of the crowd does not panic")?);
        }
        Ok(tally)
    })
}
