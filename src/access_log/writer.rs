//! The log's thread.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TrySendError, bounded};
use crossbeam::queue::ArrayQueue;

use super::LineBuffer;
use super::file::LogFile;
use super::sink::{Look, Sink};
use crate::limits::{ACCESS_LOG_BLOCK_BYTES, ACCESS_LOG_BLOCKS_MAX, ACCESS_LOG_LOOK_MS, ACCESS_LOG_STALL_MS};

/// How often the thread looks whether its file is still at its path.
const LOOK_INTERVAL: Duration = Duration::from_millis(ACCESS_LOG_LOOK_MS);

/// How long a write may take before a host that ends gives the log up.
const STALL: Duration = Duration::from_millis(ACCESS_LOG_STALL_MS);

/// Bytes gathered from waiting blocks before one write: a few blocks, so that small ones share a system call.
const WRITE_BYTES: usize = 4 * ACCESS_LOG_BLOCK_BYTES;

/// Room past a full block for the line that filled it.
const BLOCK_CAPACITY: usize = ACCESS_LOG_BLOCK_BYTES + 1024;

/// An open access log.
pub struct AccessLog {
    handover: Arc<Handover>,
    /// How the thread ended.
    ended: Receiver<io::Result<()>>,
}

impl AccessLog {
    /// Opens what is at `path` (a file, made if it is missing, a pipe or a device) to append to it, and starts its thread. A
    /// torn last line, as a killed process leaves one, is ended first. `/dev/stdout` and `/dev/stderr` are the outputs of
    /// this process, whatever they are.
    ///
    /// # Errors
    /// If it cannot be opened or read.
    pub fn open(path: &Path) -> io::Result<AccessLog> {
        AccessLog::start(LogFile::open(path)?, &path.display().to_string())
    }

    /// Starts a log on any sink; `name` is what errors call it.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(sink: impl Sink, name: &str) -> io::Result<AccessLog> {
        let (sender, receiver) = bounded(ACCESS_LOG_BLOCKS_MAX);
        let handover = Arc::new(Handover {
            sender,
            empty: ArrayQueue::new(ACCESS_LOG_BLOCKS_MAX),
            dropped: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            reopen: AtomicBool::new(false),
        });
        let mut writer = Writer {
            sink,
            name: name.to_owned(),
            handover: handover.clone(),
            pending: Vec::with_capacity(WRITE_BYTES + BLOCK_CAPACITY),
            pending_lines: 0,
            dropped_told: 0,
            failing: false,
            looked_at: Instant::now(),
        };
        let (end, ended) = bounded(1);
        // Not joined: a thread whose write never returns must not keep the host from ending.
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let how = writer.run(&receiver);
            // Whatever is handed over after the end has nowhere to go, and is counted as dropped.
            drop(receiver);
            drop(end.send(how));
        })?;
        Ok(AccessLog { handover, ended })
    }

    /// A handle for another thread to reopen it.
    pub fn reopener(&self) -> Reopener {
        Reopener(Arc::clone(&self.handover))
    }

    /// A buffer for one loop.
    pub fn buffer(&self) -> LineBuffer {
        LineBuffer::new(self.handover.clone())
    }

    /// What the log counts, readable after it was closed, too.
    pub fn counters(&self) -> AccessLogCounters {
        AccessLogCounters(self.handover.clone())
    }

    /// Writes what was handed over before, makes it durable, and ends the thread. Lines handed over afterwards are
    /// dropped. A log that takes nothing for [`ACCESS_LOG_STALL_MS`] is given up.
    ///
    /// # Errors
    /// If the last bytes could not be written or made durable.
    pub fn close(self) -> io::Result<()> {
        let stalled =
            || io::Error::new(io::ErrorKind::TimedOut, "what the access log goes to takes no more lines");
        let mut message = Message::Close;
        let mut writes = self.handover.writes.load(Ordering::Relaxed);
        loop {
            match self.handover.sender.send_timeout(message, STALL) {
                // If the thread has already gone, its result says why.
                Ok(()) | Err(SendTimeoutError::Disconnected(_)) => break,
                Err(SendTimeoutError::Timeout(again)) => message = again,
            }
            self.goes_on(&mut writes).then_some(()).ok_or_else(stalled)?;
        }
        loop {
            match self.ended.recv_timeout(STALL) {
                Ok(ended) => return ended,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the access log's thread panicked"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.goes_on(&mut writes).then_some(()).ok_or_else(stalled)?
                }
            }
        }
    }

    /// Whether anything was written since there were so many `writes`.
    fn goes_on(&self, writes: &mut u64) -> bool {
        let now = self.handover.writes.load(Ordering::Relaxed);
        std::mem::replace(writes, now) != now
    }
}

/// Has a log reopened.
#[derive(Clone)]
pub struct Reopener(Arc<Handover>);

impl Reopener {
    /// Has the log go on in what is at its path by now. Does not wait for that.
    pub fn reopen(&self) {
        // Relaxed: the message behind it is seen later; if there is no room for one, the thread comes by anyway.
        self.0.reopen.store(true, Ordering::Relaxed);
        let _ = self.0.sender.try_send(Message::Wake);
    }
}

/// What a log counts.
#[derive(Clone)]
pub struct AccessLogCounters(Arc<Handover>);

impl AccessLogCounters {
    /// Lines that were not written. Ever.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Writes that failed. Ever.
    pub fn write_errors(&self) -> u64 {
        self.0.write_errors.load(Ordering::Relaxed)
    }
}

enum Message {
    Block {
        bytes: Vec<u8>,
        lines: u64,
    },
    /// There is something else to do than to write.
    Wake,
    Close,
}

/// Between the loops and the thread.
pub(super) struct Handover {
    sender: Sender<Message>,
    /// Written blocks, to be filled again.
    empty: ArrayQueue<Vec<u8>>,
    // Plain counts, each for itself: `Relaxed`.
    dropped: AtomicU64,
    write_errors: AtomicU64,
    /// Writes that ended, well or not.
    writes: AtomicU64,
    /// The log must be reopened.
    reopen: AtomicBool,
}

impl Handover {
    pub(super) fn fresh_block(&self) -> Vec<u8> {
        self.empty.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_CAPACITY))
    }

    pub(super) fn recycle(&self, mut block: Vec<u8>) {
        block.clear();
        // If there are enough, this one is freed.
        let _ = self.empty.push(block);
    }

    /// Passes a block on; gives it back, its lines counted as dropped, if there is no room.
    pub(super) fn pass(&self, bytes: Vec<u8>, lines: u64) -> Option<Vec<u8>> {
        match self.sender.try_send(Message::Block { bytes, lines }) {
            Ok(()) => None,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.dropped.fetch_add(lines, Ordering::Relaxed);
                match message {
                    Message::Block { bytes, .. } => Some(bytes),
                    Message::Wake | Message::Close => None,
                }
            }
        }
    }
}

struct Writer<S> {
    sink: S,
    name: String,
    handover: Arc<Handover>,
    pending: Vec<u8>,
    pending_lines: u64,
    dropped_told: u64,
    failing: bool,
    looked_at: Instant,
}

impl<S: Sink> Writer<S> {
    fn run(&mut self, receiver: &Receiver<Message>) -> io::Result<()> {
        let mut closing = false;
        while !closing {
            match receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(Message::Block { bytes, lines }) => self.gather(bytes, lines),
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.pending.len() < WRITE_BYTES
                && let Ok(message) = receiver.try_recv()
            {
                match message {
                    Message::Block { bytes, lines } => self.gather(bytes, lines),
                    Message::Wake => {}
                    Message::Close => {
                        closing = true;
                        break;
                    }
                }
            }
            self.see_to_the_file();
            let written = self.write();
            if closing {
                written?;
            }
        }
        self.finish()
    }

    /// Reopens the file on request, or when its path leads somewhere else.
    fn see_to_the_file(&mut self) {
        let is_told = self.handover.reopen.swap(false, Ordering::Relaxed);
        let is_gone = self.looked_at.elapsed() >= LOOK_INTERVAL && {
            self.looked_at = Instant::now();
            self.sink.look() == Look::Gone
        };
        if !is_told && !is_gone {
            return;
        }
        match self.sink.reopen() {
            Ok(()) if is_told => tracing::info!(log = %self.name, "the access log was reopened"),
            Ok(()) => tracing::warn!(
                log = %self.name,
                "the access log was renamed or removed, and was reopened; send SIGHUP after a rotation to have that at once"
            ),
            Err(error) => {
                tracing::error!(log = %self.name, %error, "the access log cannot be reopened; lines still go to the old file");
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write()?;
        self.sink.sync()
    }

    fn gather(&mut self, bytes: Vec<u8>, lines: u64) {
        self.pending.extend_from_slice(&bytes);
        self.pending_lines += lines;
        self.handover.recycle(bytes);
    }

    /// Writes what is pending, and behind it how many lines were dropped since that was last written.
    fn write(&mut self) -> io::Result<()> {
        let dropped = self.handover.dropped.load(Ordering::Relaxed);
        if dropped > self.dropped_told {
            if self.failing {
                // The failed write may have ended within a line.
                self.pending.insert(0, b'\n');
            }
            writeln!(self.pending, "{{\"dropped\":{}}}", dropped - self.dropped_told)?;
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let result = self.sink.write_all(&self.pending).and_then(|()| self.sink.flush());
        self.handover.writes.fetch_add(1, Ordering::Relaxed);
        match &result {
            Ok(()) => {
                self.dropped_told = dropped;
                if std::mem::take(&mut self.failing) {
                    tracing::info!(log = %self.name, "the access log can be written again");
                }
            }
            Err(error) => {
                self.handover.write_errors.fetch_add(1, Ordering::Relaxed);
                self.handover.dropped.fetch_add(self.pending_lines, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(
                        log = %self.name,
                        %error,
                        "the access log cannot be written; sales go on, and its lines are dropped and counted until there is room, or \
                         the disk is repaired"
                    );
                }
            }
        }
        self.pending.clear();
        self.pending_lines = 0;
        result
    }
}
