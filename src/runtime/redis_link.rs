//! A core's own connection to Redis: when the stream under a [`Session`] is dialled, read, written and given up.
//!
//! The stream is behind a trait ([`Streams`]), so that the simulator runs the same decisions over its network.

use std::io::{self, Read, Write};

use mio::{Interest, Registry, Token, event::Source};

use crate::clock::Monotonic;
use crate::ledger::Trouble;
use crate::ledger::redis::session::Session;
use crate::ledger::url::RedisUrl;
use crate::net::{Endpoint, Stream};
use crate::protocol::{Answer, Call, CallError, CallId, Durability};

/// Most nodes of a ledger: as many as Redis Cluster is made for.
pub(super) const NODES_MAX: usize = 1_000;

/// A node of the ledger, among those that a loop is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIndex(pub usize);

/// The streams of a loop to its ledger, as its system has them. None of the calls waits.
pub trait Streams {
    /// One of them.
    type Stream;

    /// Begins to connect to that node. Each number of a `dial` takes the next address.
    ///
    /// # Errors
    /// If that is refused at once.
    fn dial(&mut self, node: NodeIndex, endpoint: &Endpoint, dial: usize) -> io::Result<Self::Stream>;

    /// What went wrong since the last time.
    ///
    /// # Errors
    /// If the system does not say.
    fn take_error(&mut self, stream: &mut Self::Stream) -> io::Result<Option<io::Error>>;

    /// Reads what has arrived; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there; others as of `recv(2)`.
    fn read(&mut self, stream: &mut Self::Stream, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as the stream takes.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing; others as of `send(2)`.
    fn write(&mut self, stream: &mut Self::Stream, bytes: &[u8]) -> io::Result<usize>;

    /// Closes it.
    fn close(&mut self, stream: Self::Stream);
}

/// Above it are the tokens of the loop's own: its listener and its waker.
const LAST_NODE_TOKEN: usize = usize::MAX - 2;

/// Those of mio.
pub(super) struct MioStreams<'a> {
    pub(super) registry: &'a Registry,
}

/// That of the stream to a node. They are counted down from below the loop's own, clients' up from 0.
fn token_of(NodeIndex(node): NodeIndex) -> Token {
    Token(LAST_NODE_TOKEN - node)
}

/// Whose stream it is that has this token, if it is one of a node.
pub(super) fn node_of(Token(token): Token) -> Option<NodeIndex> {
    let node = LAST_NODE_TOKEN.checked_sub(token)?;
    (node < NODES_MAX).then_some(NodeIndex(node))
}

impl Streams for MioStreams<'_> {
    type Stream = Stream;

    fn dial(&mut self, node: NodeIndex, endpoint: &Endpoint, dial: usize) -> io::Result<Stream> {
        let mut stream = Stream::connect(endpoint, dial)?;
        let token = token_of(node);
        stream.register(self.registry, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(stream)
    }

    fn take_error(&mut self, stream: &mut Stream) -> io::Result<Option<io::Error>> {
        stream.take_error()
    }

    fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
        stream.read(buffer)
    }

    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        stream.write(bytes)
    }

    fn close(&mut self, stream: Stream) {
        drop(stream);
    }
}

/// See the [module](self).
pub struct RedisLink<T> {
    /// Names are resolved when the host starts, since a loop must not wait for a name server.
    endpoint: Endpoint,
    url: RedisUrl,
    session: Session,
    stream: Option<T>,
    connected: bool,
    /// How often it was dialled: each dial takes the next address.
    dials: usize,
    /// Where its state is reported to operators, and under which number of the host's connections to the ledger.
    trouble: (Trouble, usize),
    /// The state of the session that was reported last.
    told: u64,
}

impl<T> RedisLink<T> {
    /// A link that dials when it is first [driven](RedisLink::drive). What keeps it from its Redis it reports in `trouble`,
    /// under a number of its own.
    pub fn new(
        endpoint: Endpoint,
        url: RedisUrl,
        durability: Durability,
        seed: u64,
        trouble: (Trouble, usize),
        now: Monotonic,
    ) -> RedisLink<T> {
        RedisLink {
            endpoint,
            url: url.clone(),
            session: Session::new(url, durability, seed, now),
            stream: None,
            connected: false,
            dials: 0,
            trouble,
            told: 0,
        }
    }

    /// Whether calls are answered.
    pub fn is_up(&self) -> bool {
        self.session.is_up()
    }

    /// Takes a call.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        self.session.submit(id, call, now);
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Answer, CallError>)> {
        self.session.poll_answer()
    }

    /// When the link wants to be [driven](RedisLink::drive), whatever its socket does.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.session.next_deadline()
    }

    /// Dials, or gives up a silent connection, if it is time for that. Reports what has changed.
    pub fn drive<S: Streams<Stream = T>>(&mut self, node: NodeIndex, streams: &mut S, now: Monotonic) {
        if self.session.handle_deadline(now) {
            self.close(streams);
        }
        if self.session.dial_at().is_some_and(|at| now >= at) {
            // A short file of this machine, only at a dial: the one thing that a loop reads from a disk.
            let password = self.url.password_now();
            if let Ok(password) = &password {
                self.session.set_password(password.clone());
            }
            self.session.handle_dialling(now);
            self.connected = false;
            let dialled = match password {
                Ok(_) => {
                    let dialled = streams.dial(node, &self.endpoint, self.dials);
                    self.dials = self.dials.wrapping_add(1);
                    dialled.map_err(|error| format!("cannot connect to {}: {error}", self.endpoint))
                }
                Err(error) => Err(error.to_string()),
            };
            match dialled {
                Ok(stream) => self.stream = Some(stream),
                Err(reason) => self.lose(reason, streams, now),
            }
        }
        let (trouble, way) = &self.trouble;
        if std::mem::replace(&mut self.told, self.session.condition_changes()) != self.told {
            trouble.report(*way, self.session.condition());
        }
        if let Some(advice) = self.session.take_advice() {
            trouble.advise(&advice);
        }
    }

    fn lose<S: Streams<Stream = T>>(&mut self, reason: String, streams: &mut S, now: Monotonic) {
        self.session.handle_lost(reason, now);
        self.close(streams);
    }

    fn close<S: Streams<Stream = T>>(&mut self, streams: &mut S) {
        self.stream.take().into_iter().for_each(|stream| streams.close(stream));
    }

    /// Reads what has arrived. If the other side has `ended`, reads to its end: the kernel will not tell again.
    pub fn handle_readable<S: Streams<Stream = T>>(
        &mut self,
        buffer: &mut [u8],
        ended: bool,
        streams: &mut S,
        now: Monotonic,
    ) {
        while let Some(stream) = &mut self.stream {
            let bytes = match streams.read(stream, buffer) {
                Ok(0) => return self.lose("Redis closed the connection".to_owned(), streams, now),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return self.lose(format!("reading from {}: {error}", self.endpoint), streams, now);
                }
            };
            if self.session.handle_bytes(&buffer[..bytes], now).is_err() {
                self.close(streams);
            }
            if bytes < buffer.len() && !ended {
                return;
            }
        }
    }

    /// Notes that the connection was established, or can take more.
    pub fn handle_writable<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        if let Some(stream) = &mut self.stream {
            match streams.take_error(stream) {
                Ok(None) => {
                    if !std::mem::replace(&mut self.connected, true) {
                        self.session.handle_connected(now);
                    }
                }
                Ok(Some(error)) | Err(error) => {
                    self.lose(format!("cannot connect to {}: {error}", self.endpoint), streams, now);
                }
            }
        }
    }

    /// Writes what the session has to send.
    pub fn flush<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        while self.connected
            && let Some(stream) = &mut self.stream
        {
            let output = self.session.poll_output();
            if output.is_empty() {
                return;
            }
            match streams.write(stream, output) {
                Ok(bytes) => self.session.handle_written(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return self.lose(format!("writing to {}: {error}", self.endpoint), streams, now);
                }
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener};
    use std::time::{Duration, Instant};

    use mio::{Events, Poll};

    use super::*;
    use crate::ledger::url::LedgerUrl;

    /// For what the kernel does by itself; nothing is measured by it.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn listener() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// A link, and the loop under it, whose time is the test's.
    struct Loop {
        link: RedisLink<Stream>,
        poll: Poll,
        trouble: Trouble,
        now: Monotonic,
    }

    impl Loop {
        fn over(endpoint: Endpoint) -> Loop {
            let LedgerUrl::Redis(url) = "redis://name:6379/0".parse().unwrap() else { unreachable!() };
            let (poll, trouble, now) = (Poll::new().unwrap(), Trouble::default(), Monotonic(0));
            let told = (trouble.clone(), 0);
            let link = RedisLink::new(endpoint, url, Durability::Ack, 7, told, now);
            Loop { link, poll, trouble, now }
        }

        /// Dials as soon as the session wants to.
        fn dial(&mut self) {
            self.now = self.link.next_deadline().expect("it is to be dialled").max(self.now);
            self.drive();
        }

        fn drive(&mut self) {
            self.link.drive(NodeIndex(0), &mut MioStreams { registry: self.poll.registry() }, self.now);
        }

        /// Hands over what the kernel tells, until `is_over`.
        fn turn_until(&mut self, mut is_over: impl FnMut(&mut RedisLink<Stream>) -> bool) {
            let (mut events, mut buffer, until) =
                (Events::with_capacity(8), [0; 4096], Instant::now() + PATIENCE);
            while !is_over(&mut self.link) {
                assert!(Instant::now() < until, "nothing came of it");
                self.poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
                let mut streams = MioStreams { registry: self.poll.registry() };
                for event in &events {
                    if event.is_writable() {
                        self.link.handle_writable(&mut streams, self.now);
                        self.link.flush(&mut streams, self.now);
                    }
                    if event.is_readable() || event.is_read_closed() {
                        let ended = event.is_read_closed() || event.is_error();
                        self.link.handle_readable(&mut buffer, ended, &mut streams, self.now);
                    }
                }
            }
        }

        /// What operators are told of it.
        fn told(&mut self) -> String {
            self.drive();
            self.trouble.get().unwrap_or_default()
        }
    }

    /// Which of them was dialled, and the connection.
    fn accepted(listeners: &[TcpListener]) -> (usize, std::net::TcpStream) {
        let until = Instant::now() + PATIENCE;
        loop {
            for (place, listener) in listeners.iter().enumerate() {
                match listener.accept() {
                    Ok((stream, _)) => return (place, stream),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
                }
            }
            assert!(Instant::now() < until, "nobody was dialled");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// As of a name whose first address is of a network that is down: the host is not to wait for that one alone.
    #[test]
    fn each_dial_takes_the_next_address_of_the_name() {
        let listeners: Vec<TcpListener> = (0..3).map(|_| listener()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let mut host = Loop::over(Endpoint::Tcp(addresses));
        for dial in 0..7 {
            host.dial();
            let (place, stream) = accepted(&listeners);
            assert_eq!(place, dial % 3, "dial {dial}");
            drop(stream);
            host.turn_until(|link| link.session.dial_at().is_some());
        }
    }

    /// Some addresses refuse at once, and in the end one takes it.
    #[test]
    fn an_address_that_refuses_is_told_and_the_next_one_dialled() {
        let alive = [listener()];
        // Nobody listens on a socket that is bound alone, and nobody else can.
        let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        dead.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let refuses = dead.local_addr().unwrap().as_socket().unwrap();
        let mut host = Loop::over(Endpoint::Tcp(vec![refuses, alive[0].local_addr().unwrap()]));
        host.dial();
        host.turn_until(|link| link.session.dial_at().is_some());
        let told = host.told();
        assert!(told.contains("cannot connect to") && told.contains(&refuses.to_string()), "{told}");
        host.dial();
        accepted(&alive);
    }

    /// Bytes and the end come together, and the kernel tells of them once: a link that stopped at the short read would be
    /// silent until it is given up for that, seconds later.
    #[test]
    fn the_end_behind_a_short_read_is_noticed_at_once() {
        let alive = [listener()];
        let mut host = Loop::over(Endpoint::Tcp(vec![alive[0].local_addr().unwrap()]));
        host.dial();
        let (_, mut redis) = accepted(&alive);
        host.turn_until(|link| link.connected);
        // The beginning of a reply, and the end; what the link has written is not read, and does not break it.
        redis.write_all(b"$1").unwrap();
        redis.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut events, mut ended, until) = (Events::with_capacity(8), false, Instant::now() + PATIENCE);
        while !ended {
            assert!(Instant::now() < until, "the end did not arrive");
            host.poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
            ended = events.iter().any(|event| event.is_read_closed());
        }
        let mut streams = MioStreams { registry: host.poll.registry() };
        host.link.handle_readable(&mut [0; 4096], true, &mut streams, host.now);
        assert!(host.link.session.dial_at().is_some(), "it is to be dialled again");
        let told = host.told();
        assert!(told.contains("Redis closed the connection"), "{told}");
    }
}
