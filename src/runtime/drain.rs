//! How a host is told to end: flags, raised by a signal, an operator or a failed loop, and seen by every loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Ends a host: no new connections; requests in flight are answered. With a delay, the host first reports that it is not
/// ready, and the listener closes after that: a load balancer has the time to send its clients elsewhere.
#[derive(Clone)]
pub struct Drain(Arc<Inner>);

struct Inner {
    begun: AtomicBool,
    closes: AtomicBool,
    delay: Duration,
    told: fn(),
    wakers: Vec<Arc<mio::Waker>>,
}

impl Drain {
    /// For the loops behind these wakers, with `delay` between the beginning and the closing of the listeners. `told` is called
    /// once, at the beginning.
    pub(crate) fn new(wakers: Vec<Arc<mio::Waker>>, delay: Duration, told: fn()) -> Drain {
        let (begun, closes) = (AtomicBool::new(false), AtomicBool::new(false));
        Drain(Arc::new(Inner { begun, closes, delay, told, wakers }))
    }

    /// Begins to drain; again changes nothing.
    pub fn begin(&self) {
        // Relaxed: a flag on its own.
        if self.0.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        (self.0.told)();
        if self.0.delay.is_zero() {
            return self.close();
        }
        let drain = self.clone();
        let waits = std::thread::Builder::new().name("drain".to_owned()).spawn(move || {
            std::thread::sleep(drain.0.delay);
            drain.close();
        });
        if let Err(error) = waits {
            tracing::error!(%error, "cannot start a thread to wait for --drain-delay; the listeners close at once");
            self.close();
        }
    }

    /// Closes the listeners, without a delay: a new connection would not be served well.
    pub(crate) fn close(&self) {
        if !self.0.begun.swap(true, Ordering::Relaxed) {
            (self.0.told)();
        }
        // Relaxed: the wake-up that follows makes the loops look.
        self.0.closes.store(true, Ordering::Relaxed);
        for waker in &self.0.wakers {
            if let Err(error) = waker.wake() {
                tracing::error!(%error, "cannot wake a loop to drain it");
            }
        }
    }

    /// Whether the host drains: it is no longer ready.
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Whether no new connections are accepted.
    pub(crate) fn closes(&self) -> bool {
        self.0.closes.load(Ordering::Relaxed)
    }
}
