//! The engine as the driver sees it, a path that streams, which no product's path does, and what mutants put between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use boxoffice::clock::Now;
use boxoffice::connection::{Answered, CutReason, Handled, Produced, Reply, Service, StreamPart};
use boxoffice::connections::{ConnectionKey, ConnectionServer, Connections, NotAdmitted};
use boxoffice::engine::Engine;
use boxoffice::http::{HttpError, Request, Response, Status};
use boxoffice::limits::Limit;

use crate::client::read_answer;
use crate::mutants::Seam;

/// See the [module](self).
pub struct Served {
    /// The brain.
    pub engine: Engine,
    /// Requests of a connection are served beside each other, if a mutant is at work.
    beside: Option<BTreeMap<usize, Apart>>,
    /// What is left in a socket is not read again, if a mutant is at work.
    reads_once: bool,
    /// The loop reads again what it left in sockets.
    is_reading_again: bool,
    /// Connections that read a stream, by their index: how many more parts each has asked for.
    streams: BTreeMap<usize, (ConnectionKey, u64)>,
    /// What streams are told, in milliseconds, and when they were told last.
    news_ms: u64,
    told_ms: u64,
    lets_streams_sleep: bool,
}

/// The engine's own, and the path that streams.
pub struct SimService<'a> {
    handler: <Engine as ConnectionServer>::Service<'a>,
    streams: &'a mut BTreeMap<usize, (ConnectionKey, u64)>,
    key: ConnectionKey,
    news_ms: u64,
}

/// Streams are told something new no more often.
const NEWS_MS: u64 = 20;

impl Service for SimService<'_> {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        let Some(parts) = request.path.strip_prefix("/sim/news/") else {
            return self.handler.handle(request, reply);
        };
        self.streams.insert(self.key.index(), (self.key, parts.parse().expect("a number")));
        let (status, caching) = (Status::Ok, Default::default());
        reply.stream(&Response { status, content_type: "text/plain", caching, fields: &[], body: b"" }).into()
    }

    fn must_follow(&self, request: &Request<'_>) -> bool {
        self.handler.must_follow(request)
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        self.handler.refuse(error, reply)
    }

    fn produce(&mut self, part: StreamPart<'_>) -> Produced {
        match self.streams.get_mut(&self.key.index()) {
            Some((_, left)) if *left > 0 => {
                *left -= 1;
                // Of all lengths, so that there often is no room.
                let mut text = format!("{} ", self.news_ms).into_bytes();
                text.resize(text.len() + (self.news_ms % 700) as usize, b'.');
                part.send(&text)
            }
            _ => {
                self.streams.remove(&self.key.index());
                part.end()
            }
        }
    }

    fn note(&mut self, limit: Limit) {
        self.handler.note(limit);
    }
}

/// A connection whose requests are served as if each had a connection of its own.
#[derive(Default)]
struct Apart {
    received: Vec<u8>,
    /// In their order, with what each was answered so far.
    requests: Vec<(ConnectionKey, Vec<u8>)>,
    /// Answers whose turn has come.
    output: Vec<u8>,
}

impl Served {
    /// That engine.
    pub fn new(engine: Engine, seam: &Seam) -> Served {
        let beside = seam.serves_beside().then(BTreeMap::new);
        Served {
            engine,
            beside,
            reads_once: seam.reads_once(),
            is_reading_again: false,
            streams: BTreeMap::new(),
            news_ms: 0,
            told_ms: 0,
            lets_streams_sleep: seam.lets_streams_sleep(),
        }
    }

    /// What is to be told from now on.
    pub fn begin_turn(&mut self, now: Now, news_ms: u64) {
        self.engine.begin_turn(now);
        self.news_ms = news_ms;
    }

    /// Tells those who read a stream.
    pub fn wake_streams(&mut self) {
        if self.lets_streams_sleep || self.news_ms < self.told_ms + NEWS_MS {
            return;
        }
        self.told_ms = self.news_ms;
        for key in self.streams.values().map(|(key, _)| *key).collect::<Vec<_>>() {
            self.wake_stream(key);
        }
    }

    /// Tells what is read because the loop wants to, from what is read because the system says so.
    pub fn reads_again(&mut self, read: impl FnOnce(&mut Served)) {
        self.is_reading_again = true;
        read(self);
        self.is_reading_again = false;
    }

    fn apart(&self, key: ConnectionKey) -> Option<&Apart> {
        self.beside.as_ref()?.get(&key.index()).filter(|apart| !apart.output.is_empty())
    }

    /// Takes the answer of a request that is served apart; gives the index of its connection.
    fn take_answer(&mut self, key: ConnectionKey) -> Option<usize> {
        let beside = self.beside.as_mut()?;
        let is_its = |apart: &Apart| apart.requests.iter().any(|(request, _)| *request == key);
        let (&index, apart) = beside.iter_mut().find(|(_, apart)| is_its(apart))?;
        let output = self.engine.output(key).to_vec();
        self.engine.handle_written(key, output.len());
        let (_, answer) = apart.requests.iter_mut().find(|(request, _)| *request == key)?;
        answer.extend(output);
        while let Some((first, answer)) = apart.requests.first()
            && read_answer(answer).is_some()
        {
            apart.output.extend_from_slice(answer);
            self.engine.handle_gone(*first);
            apart.requests.remove(0);
        }
        Some(index)
    }
}

impl ConnectionServer for Served {
    type Notes = <Engine as ConnectionServer>::Notes;
    type Service<'a> = SimService<'a>;

    fn connections(&self) -> &Connections<Self::Notes> {
        self.engine.connections()
    }

    fn connections_mut(&mut self) -> &mut Connections<Self::Notes> {
        self.engine.connections_mut()
    }

    fn split(&mut self, key: ConnectionKey) -> (&mut Connections<Self::Notes>, Self::Service<'_>) {
        let (connections, handler) = self.engine.split(key);
        (connections, SimService { handler, streams: &mut self.streams, key, news_ms: self.news_ms })
    }

    fn handle_accepted(&mut self, peer: SocketAddr) -> Result<ConnectionKey, NotAdmitted> {
        let key = self.engine.handle_accepted(peer)?;
        if let Some(beside) = &mut self.beside {
            beside.insert(key.index(), Apart::default());
        }
        Ok(key)
    }

    fn handle_accept_failure(&mut self) {
        self.engine.handle_accept_failure();
    }

    fn handle_gone(&mut self, key: ConnectionKey) {
        self.streams.remove(&key.index());
        if let Some(beside) = &mut self.beside
            && let Some(apart) = beside.remove(&key.index())
        {
            apart.requests.into_iter().for_each(|(request, _)| self.engine.handle_gone(request));
        }
        self.engine.handle_gone(key);
    }

    fn handle_cut(&mut self, cut: CutReason) {
        self.engine.handle_cut(cut);
    }

    fn handle_bytes(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let Some(apart) = self.beside.as_mut().and_then(|beside| beside.get_mut(&key.index())) else {
            let (connections, mut service) = self.split(key);
            connections.serve(key, &mut service, |connection, turn, service| {
                connection.handle_bytes(bytes, turn, service)
            });
            return;
        };
        apart.received.extend_from_slice(bytes);
        while let Some(length) = whole_request(&apart.received)
            && let Ok(request) = self.engine.handle_accepted((Ipv4Addr::LOCALHOST, 1).into())
        {
            let bytes: Vec<u8> = apart.received.drain(..length).collect();
            apart.requests.push((request, Vec::new()));
            self.engine.handle_bytes(request, &bytes);
        }
    }

    fn poll_touched(&mut self) -> Option<ConnectionKey> {
        loop {
            let key = self.engine.poll_touched()?;
            match self.take_answer(key) {
                None => return Some(key),
                Some(index) => {
                    if let Some(key) = self.engine.connections().keys().find(|key| key.index() == index) {
                        return Some(key);
                    }
                }
            }
        }
    }

    fn output(&self, key: ConnectionKey) -> &[u8] {
        self.apart(key).map_or_else(|| self.engine.output(key), |apart| &apart.output)
    }

    fn handle_written(&mut self, key: ConnectionKey, bytes: usize) {
        match self.apart(key).is_some() {
            true => {
                let apart = self.beside.as_mut().and_then(|beside| beside.get_mut(&key.index()));
                drop(apart.expect("it has output").output.drain(..bytes));
            }
            false => {
                let (connections, mut service) = self.split(key);
                connections.handle_written(key, bytes, &mut service);
            }
        }
    }

    fn wants_read(&self, key: ConnectionKey) -> bool {
        !(self.reads_once && self.is_reading_again) && self.engine.wants_read(key)
    }
}

/// The length of the request that `received` begins with, where it is whole. As clients here write them.
fn whole_request(received: &[u8]) -> Option<usize> {
    let head_bytes = memchr::memmem::find(received, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&received[..head_bytes]);
    if head.contains("Transfer-Encoding: chunked") {
        return Some(head_bytes + memchr::memmem::find(&received[head_bytes..], b"\r\n0\r\n\r\n")? + 7);
    }
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let whole = head_bytes + length.unwrap_or(0);
    (whole <= received.len()).then_some(whole)
}
