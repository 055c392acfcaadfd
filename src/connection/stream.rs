//! Answers that go on: the head is sent when its turn has come, and then part after part until the stream ends, in chunks
//! (RFC 9112 section 7.1), or for HTTP/1.0 until the connection closes.
//!
//! A part is asked for, and so made, only once the client's socket has taken everything before it. However much happens
//! meanwhile, none of it waits here: a client that reads slowly gets the latest, and holds one part. A stream is the last
//! request of its connection that was begun: those behind it wait, unread, until it has ended. It ends when the service
//! says so, when the client ends its side, and when the host drains.

use super::pool::BufferPool;
use super::reading::Reading;
use super::{CloseState, Connection, Service, Turn};
use crate::clock::Monotonic;
use crate::limits;

/// An answer that goes on.
#[derive(Debug)]
pub(super) struct ReplyStream {
    /// Its place among the answers.
    sequence: u32,
    is_chunked: bool,
    /// The encoded head, until its turn has come.
    head: Vec<u8>,
    /// The service must be asked, as soon as there is room.
    is_due: bool,
    /// Nothing was asked for yet: the first part goes with the head.
    is_fresh: bool,
    /// It ends as soon as its turn has come.
    has_ended: bool,
}

/// The right to write the next part of a stream. See [`Service::produce`].
#[must_use = "a stream that says nothing waits to be woken"]
pub struct StreamPart<'a> {
    connection: &'a mut Connection,
    now: Monotonic,
    pool: &'a mut BufferPool,
}

/// Proof that a stream was asked for its next part.
#[derive(Debug)]
pub struct Produced(());

impl StreamPart<'_> {
    /// Sends these bytes. The service is asked again when it has [woken](Connection::wake_stream) the stream and there is
    /// room.
    ///
    /// # Panics
    /// If it is longer than [`STREAM_PART_BYTES_MAX`](limits::STREAM_PART_BYTES_MAX).
    pub fn send(self, bytes: &[u8]) -> Produced {
        self.connection.write_part(bytes, self.now, self.pool);
        Produced(())
    }

    /// Sends these bytes, with more to follow as soon as there is room.
    ///
    /// # Panics
    /// Like [`StreamPart::send`].
    pub fn send_more(self, bytes: &[u8]) -> Produced {
        if !bytes.is_empty() {
            self.connection.wake_stream();
        }
        self.send(bytes)
    }

    /// There is nothing to send now.
    pub fn nothing(self) -> Produced {
        Produced(())
    }

    /// Ends the stream.
    pub fn end(self) -> Produced {
        self.connection.end_stream(self.now, self.pool);
        Produced(())
    }
}

impl Connection {
    /// Begins a stream in the place of the last request that was begun, with this encoded head.
    pub(super) fn begin_stream(
        &mut self,
        sequence: u32,
        is_chunked: bool,
        head: Vec<u8>,
        now: Monotonic,
        pool: &mut BufferPool,
    ) {
        assert!(self.stream.is_none(), "a stream is open, and nothing is begun behind it");
        assert_eq!(
            sequence.wrapping_add(1),
            self.next_request,
            "a stream is the last request that was begun"
        );
        self.in_order = true;
        if !is_chunked {
            // The end of the connection marks its end.
            self.last_request = Some(sequence);
            if !matches!(self.reading, Reading::Finished) {
                self.must_linger = true;
                self.finish_reading(pool);
            }
        }
        self.stream = Some(Box::new(ReplyStream {
            sequence,
            is_chunked,
            head,
            is_due: true,
            is_fresh: true,
            has_ended: self.draining,
        }));
        self.open_stream(now, pool);
    }

    /// Writes the head of the stream, if its turn has come just now.
    pub(super) fn open_stream(&mut self, now: Monotonic, pool: &mut BufferPool) {
        let Some(stream) = &mut self.stream else { return };
        if stream.sequence != self.next_answer || stream.head.is_empty() {
            return;
        }
        let mut head = std::mem::take(&mut stream.head);
        let has_ended = stream.has_ended;
        self.append(&head, now, pool);
        pool.put(&mut head);
        if has_ended {
            self.end_stream(now, pool);
        }
    }

    /// There is something new for the client that reads the stream: the service is asked for it as soon as there is room.
    pub fn wake_stream(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.is_due = true;
        }
    }

    /// Whether an answer goes on.
    pub fn is_streaming(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether to ask the service for a part now.
    pub(super) fn wants_part(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            let is_open = stream.sequence == self.next_answer && stream.head.is_empty();
            is_open
                && stream.is_due
                && (stream.is_fresh || self.output.is_empty())
                && self.close_state == CloseState::Open
        })
    }

    /// Asks the service for a part.
    pub(super) fn ask_for_part(&mut self, turn: &mut Turn<'_>, service: &mut impl Service) {
        let Some(stream) = &mut self.stream else { return };
        (stream.is_due, stream.is_fresh) = (false, false);
        let _produced = service.produce(StreamPart { connection: self, now: turn.now, pool: turn.pool });
    }

    fn write_part(&mut self, bytes: &[u8], now: Monotonic, pool: &mut BufferPool) {
        assert!(bytes.len() <= limits::STREAM_PART_BYTES_MAX, "a part of {} bytes", bytes.len());
        let Some(stream) = &self.stream else { return };
        // An empty chunk would be the last one.
        if bytes.is_empty() {
            return;
        }
        match stream.is_chunked {
            true => {
                let size = format!("{:x}\r\n", bytes.len());
                self.begin_output(now);
                self.make_room(size.len() + bytes.len() + 2, pool);
                for piece in [size.as_bytes(), bytes, b"\r\n"] {
                    self.output.extend_from_slice(piece);
                }
            }
            false => self.append(bytes, now, pool),
        }
    }

    /// Ends the stream; one whose turn has not come yet ends when it does.
    pub(super) fn end_stream(&mut self, now: Monotonic, pool: &mut BufferPool) {
        let Some(stream) = &mut self.stream else { return };
        if !stream.head.is_empty() {
            stream.has_ended = true;
            return;
        }
        let is_chunked = stream.is_chunked;
        self.stream = None;
        if is_chunked {
            self.append(b"0\r\n\r\n", now, pool);
        }
        self.next_answer = self.next_answer.wrapping_add(1);
        self.write_due_continue(now, pool);
    }

    fn append(&mut self, bytes: &[u8], now: Monotonic, pool: &mut BufferPool) {
        self.begin_output(now);
        self.make_room(bytes.len(), pool);
        self.output.extend_from_slice(bytes);
    }

    /// Gives back what a stream holds.
    pub(super) fn drop_stream(&mut self, pool: &mut BufferPool) {
        if let Some(mut stream) = self.stream.take() {
            pool.put(&mut stream.head);
        }
    }

    /// Heap bytes that a stream holds.
    pub(super) fn stream_bytes(&self) -> usize {
        self.stream.as_ref().map_or(0, |stream| stream.head.capacity())
    }

    pub(super) fn check_stream(&self) {
        let Some(stream) = &self.stream else { return };
        assert_eq!(stream.sequence.wrapping_add(1), self.next_request, "nothing is begun behind a stream");
        assert!(self.owes(stream.sequence) && self.in_order);
        assert!(stream.head.is_empty() == (stream.sequence == self.next_answer), "its turn has come, or not");
        assert!(!stream.has_ended || !stream.head.is_empty(), "what has ended is gone");
    }
}
