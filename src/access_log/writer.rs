//! The log's thread and its file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use crossbeam::queue::ArrayQueue;

use super::LineBuffer;
use crate::limits::{ACCESS_LOG_BLOCK_BYTES, ACCESS_LOG_BLOCKS_MAX};

/// Bytes gathered from waiting blocks before one write: a few blocks, so that small ones share a system call.
const WRITE_BYTES: usize = 4 * ACCESS_LOG_BLOCK_BYTES;

/// Room past a full block for the line that filled it.
const BLOCK_CAPACITY: usize = ACCESS_LOG_BLOCK_BYTES + 1024;

/// Where the log's bytes go.
pub trait Sink: Write + Send + 'static {
    /// Makes what was written durable.
    ///
    /// # Errors
    /// Where that failed.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// An open access log.
pub struct AccessLog {
    handover: Arc<Handover>,
    thread: JoinHandle<io::Result<()>>,
}

impl AccessLog {
    /// Opens the file at `path` to append to it, made where it is not there, and starts its thread. A torn last line,
    /// as a killed process leaves one, is ended first.
    ///
    /// # Errors
    /// Where it cannot be opened or read.
    pub fn open(path: &Path) -> io::Result<AccessLog> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        if file.metadata()?.is_file() && file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        AccessLog::start(file, &path.display().to_string())
    }

    /// Starts a log on any sink; `name` is what errors call it.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn start(sink: impl Sink, name: &str) -> io::Result<AccessLog> {
        let (sender, receiver) = bounded(ACCESS_LOG_BLOCKS_MAX);
        let handover = Arc::new(Handover {
            sender,
            empty: ArrayQueue::new(ACCESS_LOG_BLOCKS_MAX),
            dropped: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
        });
        let mut writer = Writer {
            sink,
            name: name.to_owned(),
            handover: handover.clone(),
            pending: Vec::with_capacity(WRITE_BYTES + BLOCK_CAPACITY),
            pending_lines: 0,
            dropped_told: 0,
            failing: false,
        };
        let thread =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&receiver))?;
        Ok(AccessLog { handover, thread })
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
    /// dropped.
    ///
    /// # Errors
    /// Where the last bytes could not be written or made durable.
    pub fn close(self) -> io::Result<()> {
        // Fails only where the thread is gone already; joining it tells.
        let _ = self.handover.sender.send(Message::Close);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the access log's thread panicked")))
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
    Block { bytes: Vec<u8>, lines: u64 },
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
}

impl Handover {
    pub(super) fn fresh_block(&self) -> Vec<u8> {
        self.empty.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_CAPACITY))
    }

    pub(super) fn recycle(&self, mut block: Vec<u8>) {
        block.clear();
        // Where there are enough, this one is freed.
        let _ = self.empty.push(block);
    }

    /// Passes a block on; gives it back, its lines counted as dropped, where there is no room.
    pub(super) fn pass(&self, bytes: Vec<u8>, lines: u64) -> Option<Vec<u8>> {
        match self.sender.try_send(Message::Block { bytes, lines }) {
            Ok(()) => None,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.dropped.fetch_add(lines, Ordering::Relaxed);
                match message {
                    Message::Block { bytes, .. } => Some(bytes),
                    Message::Close => None,
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
}

impl<S: Sink> Writer<S> {
    fn run(&mut self, receiver: &Receiver<Message>) -> io::Result<()> {
        while let Ok(Message::Block { bytes, lines }) = receiver.recv() {
            self.gather(bytes, lines);
            let mut closing = false;
            while self.pending.len() < WRITE_BYTES
                && let Ok(message) = receiver.try_recv()
            {
                match message {
                    Message::Block { bytes, lines } => self.gather(bytes, lines),
                    Message::Close => {
                        closing = true;
                        break;
                    }
                }
            }
            let written = self.write();
            if closing {
                return written.and_then(|()| self.finish());
            }
        }
        self.finish()
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

    /// Writes what is pending, and behind it how many lines were dropped since that was last told.
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
        match &result {
            Ok(()) => {
                self.dropped_told = dropped;
                if std::mem::take(&mut self.failing) {
                    tracing::info!(log = %self.name, "the access log is written again");
                }
            }
            Err(error) => {
                self.handover.write_errors.fetch_add(1, Ordering::Relaxed);
                self.handover.dropped.fetch_add(self.pending_lines, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(
                        log = %self.name,
                        %error,
                        "the access log cannot be written; sales go on, its lines are dropped and counted; make room \
                         or mend the disk, and it goes on by itself"
                    );
                }
            }
        }
        self.pending.clear();
        self.pending_lines = 0;
        result
    }
}
