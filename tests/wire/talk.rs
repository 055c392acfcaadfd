//! Conversations side by side, each over a connection of its own, with one server of one loop.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::cases::Case;
use crate::support::client::{Client, PATIENCE};

/// Asked last, to see whether the connection still takes requests, and from which byte on.
const LAST: &[u8] = b"GET /v1/sales/last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
/// What stands in the answer to [`LAST`] and in no other.
const LAST_SAYS: &[u8] = b"last";

/// Conversations at a time: no more than a loop accepts in a turn (`ACCEPTS_PER_TURN_MAX`).
const SIDE_BY_SIDE: usize = 60;

/// One case, cut at these offsets.
pub struct Talk<'c> {
    pub case: &'c Case,
    pub cuts: Vec<usize>,
}

/// How a server is to be asked whether it takes more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// What is expected to be closed has to be closed unasked.
    Strict,
    /// Without an expectation: one more request is sent in any case.
    Curious,
    /// As `Strict`, and each connection is to begin with a PROXY header.
    Proxied,
}

/// What a server said.
pub struct Told<'c> {
    pub talk: Talk<'c>,
    /// All bytes, but for the answer to the last request.
    pub bytes: Vec<u8>,
    /// Whether the last request was answered.
    pub took_more: bool,
    /// Whether the server ended the connection within the client's patience.
    pub ended: bool,
}

impl<'c> Talk<'c> {
    /// All at once, or in the two pieces of a case that waits.
    pub fn whole(case: &'c Case) -> Talk<'c> {
        Talk { case, cuts: case.waits_at.into_iter().collect() }
    }

    /// A byte at a time.
    pub fn bytes(case: &'c Case) -> Talk<'c> {
        Talk { case, cuts: (1..case.bytes.len()).collect() }
    }

    /// In two pieces.
    pub fn split(case: &'c Case, at: usize) -> Talk<'c> {
        Talk { case, cuts: vec![at] }
    }

    /// How it is cut, for a message.
    pub fn way(&self) -> String {
        match self.cuts[..] {
            [] => "whole".to_owned(),
            [at] => format!("split at {at}"),
            _ => "byte by byte".to_owned(),
        }
    }

    fn piece(&self, number: usize) -> Option<&'c [u8]> {
        let start = if number == 0 { 0 } else { *self.cuts.get(number - 1)? };
        Some(&self.case.bytes[start..self.cuts.get(number).copied().unwrap_or(self.case.bytes.len())])
    }
}

/// Has these conversations.
///
/// Between two pieces of a conversation another connection asks something and is answered. The kernel tells a loop of
/// its sockets in the order in which they became ready, so that by then the loop has read the piece before: what is cut
/// here arrives cut.
pub fn hold<'c>(server: SocketAddr, talks: Vec<Talk<'c>>, manner: Manner) -> Vec<Told<'c>> {
    let mut probe = Client::connect(server);
    if manner == Manner::Proxied {
        probe.send("PROXY UNKNOWN\r\n").expect("it takes bytes");
    }
    let mut told = Vec::with_capacity(talks.len());
    let mut talks = talks.into_iter().peekable();
    while talks.peek().is_some() {
        let group: Vec<Talk<'c>> = talks.by_ref().take(SIDE_BY_SIDE).collect();
        told.append(&mut hold_group(server, group, manner, &mut probe));
        if told.iter().any(|told| !told.ended) {
            // The others would try the client's patience as well.
            break;
        }
    }
    told
}

struct Line<'c> {
    talk: Talk<'c>,
    stream: TcpStream,
    received: Vec<u8>,
}

fn hold_group<'c>(
    server: SocketAddr,
    talks: Vec<Talk<'c>>,
    manner: Manner,
    probe: &mut Client,
) -> Vec<Told<'c>> {
    let mut wait_until_read = || drop(probe.get("/v1/sales/a").expect(200));
    let mut lines: Vec<_> = talks.into_iter().map(|talk| Line::open(server, talk)).collect();
    wait_until_read();
    for number in 0.. {
        let mut is_over = true;
        for line in &mut lines {
            let Some(piece) = line.talk.piece(number) else { continue };
            is_over = false;
            if number > 0 && line.talk.case.waits_at.is_some() {
                line.wait_for_an_answer();
            }
            line.send(piece);
        }
        if is_over {
            break;
        }
        wait_until_read();
    }
    for line in &mut lines {
        let is_to_close = line.talk.case.answers.ends_with("closed");
        if line.talk.case.is_incomplete() {
            // An error is that of a connection that is gone.
            let _ = line.stream.shutdown(Shutdown::Write);
        } else if !is_to_close || manner == Manner::Curious {
            line.send(LAST);
        }
    }
    lines.into_iter().map(Line::end).collect()
}

impl<'c> Line<'c> {
    fn open(server: SocketAddr, talk: Talk<'c>) -> Line<'c> {
        let stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("{server}: {error}"));
        stream.set_nodelay(true).expect("a socket takes its options");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes its options");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes its options");
        Line { talk, stream, received: Vec::new() }
    }

    /// Sends; the server may have closed by now, which its answers show.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn wait_for_an_answer(&mut self) {
        while memchr::memmem::find(&self.received, b"\r\n\r\n").is_none() && self.receive() == Ok(true) {}
    }

    /// Whether there may be more; an error where the server kept silent for too long.
    fn receive(&mut self) -> Result<bool, ()> {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.received.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(()),
            // A reset: what was received before it is there.
            Err(_) => Ok(false),
        }
    }

    fn end(mut self) -> Told<'c> {
        let ended = loop {
            match self.receive() {
                Ok(true) => {}
                Ok(false) => break true,
                Err(()) => break false,
            }
        };
        let mut bytes = self.received;
        let last = memchr::memmem::rfind(&bytes, b"HTTP/1.1 ").unwrap_or(0);
        let took_more = memchr::memmem::find(&bytes[last..], LAST_SAYS).is_some();
        if took_more {
            bytes.truncate(last);
        }
        Told { talk: self.talk, bytes, took_more, ended }
    }
}
