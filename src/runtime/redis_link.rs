//! A core's own connection to Redis: when the stream under a [`Session`] is dialled, read, written and given up.
//!
//! The stream is behind a trait ([`Streams`]), so that the simulator runs the same decisions over its network.

use std::io::{self, Read, Write};

use mio::{Interest, Registry, Token, event::Source};

use crate::clock::Monotonic;
use crate::ledger::Trouble;
use crate::ledger::redis::place::{self, Whereabouts};
use crate::ledger::redis::session::Session;
use crate::ledger::url::RedisUrl;
use crate::limits;
use crate::net::{Asker, Endpoint, Rotation, Stream};
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

    /// Begins to connect to that node, at the address in that place.
    ///
    /// # Errors
    /// If that is refused at once.
    fn dial(&mut self, node: NodeIndex, endpoint: &Endpoint, place: usize) -> io::Result<Self::Stream>;

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

    fn dial(&mut self, node: NodeIndex, endpoint: &Endpoint, place: usize) -> io::Result<Stream> {
        let mut stream = Stream::connect(endpoint, place)?;
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
    /// Says at each dial where Redis is, since a loop must not wait for a name server.
    asker: Asker<Whereabouts>,
    /// It was asked, and has not said it.
    is_asking: bool,
    /// What is dialled, for people.
    dialled: String,
    rotation: Rotation,
    url: RedisUrl,
    session: Session,
    stream: Option<T>,
    connected: bool,
    /// Where its state is reported to operators, and under which number of the host's connections to the ledger.
    trouble: (Trouble, usize),
    /// The state of the session that was reported last.
    told: u64,
}

impl<T> RedisLink<T> {
    /// A link that dials when it is first [driven](RedisLink::drive). What keeps it from its Redis it reports in `trouble`,
    /// under a number of its own.
    pub fn new(
        asker: Asker<Whereabouts>,
        url: RedisUrl,
        durability: Durability,
        seed: u64,
        trouble: (Trouble, usize),
        now: Monotonic,
    ) -> RedisLink<T> {
        RedisLink {
            asker,
            is_asking: false,
            dialled: url.address.to_string(),
            rotation: Rotation::default(),
            url: url.clone(),
            session: Session::new(url, durability, seed, now),
            stream: None,
            connected: false,
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
        if self.session.is_late(now) {
            self.give_up(streams, now);
        }
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
            let asked = match password {
                Ok(_) => self.asker.ask().map_err(|error| format!("cannot look up where Redis is: {error}")),
                Err(error) => Err(error.to_string()),
            };
            match asked {
                Ok(()) => self.is_asking = true,
                Err(reason) => self.lose(reason, streams, now),
            }
        }
        if self.is_asking
            && let Some(found) = self.asker.poll()
        {
            self.is_asking = false;
            match found {
                Ok(endpoint) => self.dial(node, &endpoint, streams, now),
                Err(error) => self.lose(error.to_string(), streams, now),
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

    fn dial<S: Streams<Stream = T>>(
        &mut self,
        node: NodeIndex,
        endpoint: &Endpoint,
        streams: &mut S,
        now: Monotonic,
    ) {
        self.dialled = endpoint.to_string();
        match streams.dial(node, endpoint, self.rotation.next(endpoint)) {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => self.lose_by("cannot connect to", &error, streams, now),
        }
    }

    /// Says what kept a connection from coming about in time, where that is known.
    fn give_up<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        if self.stream.is_none() && self.is_asking {
            let waited_ms = u128::from(limits::DIAL_TIMEOUT_MS);
            self.lose(place::slow_look_up(&self.url.address, waited_ms), streams, now);
        }
    }

    fn lose<S: Streams<Stream = T>>(&mut self, reason: String, streams: &mut S, now: Monotonic) {
        self.is_asking = false;
        self.session.handle_lost(reason, now);
        self.close(streams);
    }

    fn lose_by<S: Streams<Stream = T>>(
        &mut self,
        doing: &str,
        error: &io::Error,
        streams: &mut S,
        now: Monotonic,
    ) {
        self.lose(format!("{doing} {}: {error}", self.dialled), streams, now);
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
                Err(error) => return self.lose_by("reading from", &error, streams, now),
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
                Ok(Some(error)) | Err(error) => self.lose_by("cannot connect to", &error, streams, now),
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
                Err(error) => return self.lose_by("writing to", &error, streams, now),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::{Duration, Instant};

    use mio::{Events, Poll, Waker};

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
            Loop::asking(Poll::new().unwrap(), url, Asker::known(Ok(endpoint)))
        }

        fn asking(poll: Poll, url: RedisUrl, asker: Asker<Whereabouts>) -> Loop {
            let (trouble, now) = (Trouble::default(), Monotonic(0));
            let link = RedisLink::new(asker, url, Durability::Ack, 7, (trouble.clone(), 0), now);
            Loop { link, poll, trouble, now }
        }

        /// Of a Redis of that URL, whose name is looked up so.
        fn looking_up(
            url: &str,
            look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        ) -> Loop {
            let LedgerUrl::Redis(url) = url.parse().unwrap() else { unreachable!() };
            let poll = Poll::new().unwrap();
            let waker = Waker::new(poll.registry(), Token(1)).unwrap();
            let finder = place::finder_by(&url, move |_, _| look_up());
            let asker = finder.asker(move || waker.wake().unwrap());
            Loop::asking(poll, url, asker)
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
                    if event.token() == Token(1) {
                        self.link.drive(NodeIndex(0), &mut streams, self.now);
                        continue;
                    }
                    if event.is_writable() {
                        self.link.handle_writable(&mut streams, self.now);
                        self.link.flush(&mut streams, self.now);
                    }
                    if event.is_readable() || event.is_read_closed() {
                        let ended = event.is_read_closed() || event.is_error();
                        self.link.handle_readable(&mut buffer, ended, &mut streams, self.now);
                    }
                }
                self.link.flush(&mut streams, self.now);
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

    #[test]
    fn a_name_that_moves_is_followed_at_the_next_dial() {
        let listeners = [listener(), listener()];
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let now = Arc::new(AtomicUsize::new(0));
        let place = Arc::clone(&now);
        let mut host =
            Loop::looking_up("redis://name", move || Ok(vec![addresses[place.load(Ordering::SeqCst)]]));
        for place in [0, 1, 1, 0] {
            now.store(place, Ordering::SeqCst);
            host.dial();
            host.turn_until(|link| link.connected);
            let (dialled, stream) = accepted(&listeners);
            assert_eq!(dialled, place);
            drop(stream);
            host.turn_until(|link| link.session.dial_at().is_some());
        }
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_is_told_and_looked_up_again() {
        let alive = [listener()];
        let address = alive[0].local_addr().unwrap();
        let looks = AtomicUsize::new(0);
        let mut host = Loop::looking_up("redis://name", move || match looks.fetch_add(1, Ordering::SeqCst) {
            0..3 => Err(io::Error::other("the name server is down")),
            _ => Ok(vec![address]),
        });
        for _ in 0..3 {
            host.dial();
            host.turn_until(|link| link.session.dial_at().is_some());
            let told = host.told();
            assert!(told.contains("cannot look up name: the name server is down"), "{told}");
        }
        host.dial();
        host.turn_until(|link| link.connected);
        accepted(&alive);
    }

    /// The loop goes on, the dial is given up in time, and asking again begins no second look-up.
    #[test]
    fn a_look_up_that_hangs_holds_up_nobody() {
        let alive = [listener()];
        let address = alive[0].local_addr().unwrap();
        let (release, hangs) = mpsc::channel::<()>();
        let (hangs, looks) = (Mutex::new(hangs), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&looks);
        let mut host = Loop::looking_up("redis://name", move || {
            counted.fetch_add(1, Ordering::SeqCst);
            hangs.lock().unwrap().recv_timeout(PATIENCE).expect("it is released");
            Ok(vec![address])
        });
        for _ in 0..20 {
            host.dial();
            assert!(host.link.session.dial_at().is_none(), "it waits");
            let begun = host.now;
            host.dial();
            assert_eq!(host.now, begun.plus_ms(limits::DIAL_TIMEOUT_MS));
            let told = host.told();
            assert!(told.contains("looking up name:6379 takes more than 500 ms"), "{told}");
        }
        release.send(()).unwrap();
        // By the answer to what was asked long ago: nothing else is asked meanwhile.
        host.dial();
        host.turn_until(|link| link.connected);
        accepted(&alive);
        assert_eq!(looks.load(Ordering::SeqCst), 1);
    }
}
