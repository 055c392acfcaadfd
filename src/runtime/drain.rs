//! How a host is told to end: one flag, raised by a signal, an operator or a failed loop, and seen by every loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a host: no new connections; what was asked is answered.
#[derive(Clone)]
pub struct Drain {
    begun: Arc<AtomicBool>,
    wakers: Vec<Arc<mio::Waker>>,
}

impl Drain {
    /// For the loops behind these wakers.
    pub(crate) fn new(wakers: Vec<Arc<mio::Waker>>) -> Drain {
        Drain { begun: Arc::new(AtomicBool::new(false)), wakers }
    }

    /// Begins to drain; again changes nothing.
    pub fn begin(&self) {
        // Relaxed: the wake-up that follows makes the loops look.
        self.begun.store(true, Ordering::Relaxed);
        for waker in &self.wakers {
            if let Err(error) = waker.wake() {
                tracing::error!(%error, "cannot wake a loop to drain it");
            }
        }
    }

    /// Whether the host drains.
    pub fn has_begun(&self) -> bool {
        // Relaxed: a flag on its own.
        self.begun.load(Ordering::Relaxed)
    }
}
