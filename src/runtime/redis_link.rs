//! A core's own connection to Redis: when the stream under a [`Session`] is dialled, read, written and given up.
//!
//! The stream is behind a trait ([`Streams`]), so that the simulator runs the same decisions over its network.

use std::io::{self, Read, Write};

use mio::{Interest, Registry, Token, event::Source};

use crate::clock::Monotonic;
use crate::ledger::redis::place::{self, Whereabouts};
use crate::ledger::redis::redirect::Redirect;
use crate::ledger::redis::session::{Errand, Session};
use crate::ledger::redis::slots::NODES_MAX;
use crate::ledger::url::RedisUrl;
use crate::ledger::{Cause, Trouble, Way};
use crate::limits;
use crate::net::{Asker, Endpoint, Rotation, Stream, TlsFailure};
use crate::protocol::{Answer, Call, CallError, CallId, Durability, Slot};

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

    /// Writes what a stream that encrypts has taken, and the socket has not.
    ///
    /// # Errors
    /// As of `send(2)`.
    fn flush(&mut self, _stream: &mut Self::Stream) -> io::Result<()> {
        Ok(())
    }

    /// Whether a read that left room in its buffer may have left something that no readiness will tell of.
    fn may_hold_more(&self, _stream: &Self::Stream) -> bool {
        false
    }

    /// Whether the server has yet to show who it is.
    fn is_handshaking(&self, _stream: &Self::Stream) -> bool {
        false
    }

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

    fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        stream.flush()
    }

    fn may_hold_more(&self, stream: &Stream) -> bool {
        stream.may_hold_more()
    }

    fn is_handshaking(&self, stream: &Stream) -> bool {
        stream.is_handshaking()
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
    /// Where its state is reported to operators, and as which of the host's connections to the ledger.
    trouble: (Trouble, Way),
    /// The state of the session that was reported last.
    told: u64,
}

impl<T> RedisLink<T> {
    /// A link that dials when it is first [driven](RedisLink::drive). What keeps it from its Redis it reports in `trouble`,
    /// as that connection.
    pub fn new(
        asker: Asker<Whereabouts>,
        url: RedisUrl,
        durability: Durability,
        seed: u64,
        (trouble, way): (Trouble, impl Into<Way>),
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
            trouble: (trouble, way.into()),
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

    /// Takes a call of a Cluster.
    pub(super) fn carry(&mut self, errand: Errand, now: Monotonic) {
        self.session.carry(errand, now);
    }

    /// See [`Session::poll_redirect`].
    pub(super) fn poll_redirect(&mut self) -> Option<(Errand, Redirect)> {
        self.session.poll_redirect()
    }

    /// See [`Session::take_back`]; nothing while there is a connection, or one is being made.
    pub(super) fn take_back(&mut self, is_wanted: impl FnMut(&Errand) -> bool) -> Vec<Errand> {
        match self.session.dial_at() {
            Some(_) => self.session.take_back(is_wanted),
            None => Vec::new(),
        }
    }

    /// Whether no call waits for its answer.
    pub(super) fn is_idle(&self) -> bool {
        self.session.is_idle()
    }

    /// Two slots that this node of a Cluster has.
    pub(super) fn set_homes(&mut self, homes: Option<(Slot, Slot)>) {
        self.session.set_homes(homes);
    }

    /// Gives the connection up, since this is no primary any more: what is unanswered on it is to be carried out elsewhere.
    /// Until it is [driven](RedisLink::drive) again there is nothing to report.
    pub(super) fn leave<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        if self.session.dial_at().is_none() {
            let reason = format!("{} has no slots any more", self.dialled);
            self.lose(Cause::Unreachable, reason, streams, now);
        }
        let (trouble, way) = &self.trouble;
        trouble.report(*way, None);
        self.told = self.session.condition_changes();
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
        if self.asker.poll_move() {
            if self.stream.is_some() {
                // It may go on writing, and does not know that nobody will read it.
                let reason =
                    format!("{} is not the primary any more: the sentinels have named another", self.dialled);
                self.lose(Cause::Unreachable, reason, streams, now);
            }
            self.session.hasten(now);
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
                Err(reason) => self.lose(Cause::Unreachable, reason, streams, now),
            }
        }
        if self.is_asking
            && let Some(found) = self.asker.poll()
        {
            self.is_asking = false;
            match found {
                // It was found before that, and given up at once.
                Ok(_) if self.asker.poll_move() => {
                    let reason = "the primary became another while it was looked for".to_owned();
                    self.lose(Cause::Unreachable, reason, streams, now);
                    self.session.hasten(now);
                }
                Ok(endpoint) => self.dial(node, &endpoint, streams, now),
                Err(error) => self.lose(error.cause(), error.to_string(), streams, now),
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
        let (cause, reason) = match &self.stream {
            None if self.is_asking => {
                let waited_ms = u128::from(limits::DIAL_TIMEOUT_MS);
                (Cause::Unreachable, place::slow_look_up(&self.url.address, waited_ms))
            }
            Some(stream) if self.connected && streams.is_handshaking(stream) => {
                (Cause::Tls, place::told_of_tls(&self.dialled, &self.url, &TlsFailure::Silent))
            }
            _ => return,
        };
        self.lose(cause, reason, streams, now);
    }

    fn lose<S: Streams<Stream = T>>(
        &mut self,
        cause: Cause,
        reason: String,
        streams: &mut S,
        now: Monotonic,
    ) {
        self.is_asking = false;
        self.session.handle_lost_to(cause, reason, now);
        self.close(streams);
    }

    fn lose_by<S: Streams<Stream = T>>(
        &mut self,
        doing: &str,
        error: &io::Error,
        streams: &mut S,
        now: Monotonic,
    ) {
        let (cause, reason) = place::told(doing, &self.dialled, &self.url, error);
        self.lose(cause, reason, streams, now);
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
                Ok(0) => {
                    let reason = "Redis closed the connection".to_owned();
                    return self.lose(Cause::Unreachable, reason, streams, now);
                }
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return self.lose_by("reading from", &error, streams, now),
            };
            if self.session.handle_bytes(&buffer[..bytes], now).is_err() {
                self.close(streams);
            }
            let holds_more = |stream| ended || streams.may_hold_more(stream);
            if bytes < buffer.len() && !self.stream.as_ref().is_some_and(holds_more) {
                return;
            }
        }
    }

    /// Notes that the connection was established, or can take more.
    pub fn handle_writable<S: Streams<Stream = T>>(&mut self, streams: &mut S, now: Monotonic) {
        if let Some(stream) = &mut self.stream {
            let wrong = match streams.take_error(stream) {
                Ok(None) => streams.flush(stream).err(),
                Ok(Some(error)) | Err(error) => Some(error),
            };
            match wrong {
                None => {
                    if !std::mem::replace(&mut self.connected, true) {
                        self.session.handle_connected(now);
                    }
                }
                Some(error) => self.lose_by("cannot connect to", &error, streams, now),
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

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::ledger::redis::finder;
    use crate::ledger::url::{LedgerFiles, LedgerUrl};
    use crate::net::certificates::{Authority, NOW};
    use crate::net::{Finder, Moves};

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
            Loop::finding(url, look_up)
        }

        fn finding(
            url: RedisUrl,
            look_up: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
        ) -> Loop {
            let poll = Poll::new().unwrap();
            let waker = Waker::new(poll.registry(), Token(1)).unwrap();
            let finder = finder::by(&url, move |_, _| look_up());
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

    /// The one that it is connected to works, and does not know that nobody will read what it writes.
    #[test]
    fn a_primary_that_is_not_it_any_more_is_left_and_the_next_one_dialled_at_once() {
        let listeners = [listener(), listener()];
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let (moves, primary) = (Moves::default(), Arc::new(Mutex::new(addresses[0])));
        let found = Arc::clone(&primary);
        let finder = Finder::of_what_moves(moves.clone(), move || {
            Ok(Endpoint::Tcp(vec![*found.lock().unwrap()])) as Whereabouts
        });
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(1)).unwrap();
        let LedgerUrl::Redis(url) = "redis+sentinel://s/mymaster".parse().unwrap() else { unreachable!() };
        let mut scene = Loop::asking(poll, url, finder.asker(move || waker.wake().unwrap()));
        scene.dial();
        scene.turn_until(|link| link.connected);
        let (place, mut first) = accepted(&listeners);
        assert_eq!(place, 0);

        *primary.lock().unwrap() = addresses[1];
        moves.tell();
        // It does not wait: the time of the test stands still.
        scene.turn_until(|link| {
            (!link.connected && link.stream.is_none()) || link.dialled == addresses[1].to_string()
        });
        scene.turn_until(|link| link.dialled == addresses[1].to_string() && link.connected);
        assert_eq!(accepted(&listeners).0, 1);
        first.set_nonblocking(false).unwrap();
        first.set_read_timeout(Some(PATIENCE)).unwrap();
        first.read_to_end(&mut Vec::new()).expect("it was closed");
        let told = scene.told();
        assert_eq!(
            told,
            format!("{} is not the primary any more: the sentinels have named another", addresses[0])
        );
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

    /// A server that speaks TLS, and the folder with its CA.
    struct Encrypted {
        config: Arc<ServerConfig>,
        listener: TcpListener,
        folder: tempfile::TempDir,
    }

    impl Encrypted {
        fn new() -> Encrypted {
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::new("a CA");
            std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
            let identity = authority.sign(&["name"], NOW);
            let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ServerConfig::builder_with_provider(provider);
            let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
            let config = Arc::new(builder.with_single_cert(vec![certificate], key).unwrap());
            Encrypted { config, listener: listener(), folder }
        }

        /// A host that trusts that CA, and is connected.
        fn host(&self) -> Loop {
            let mut host = self.host_that_has_not_dialled();
            host.dial();
            host.turn_until(|link| link.connected);
            host
        }

        fn host_that_has_not_dialled(&self) -> Loop {
            let mut files = LedgerFiles::default();
            files.tls.ca = Some(self.folder.path().join("ca.pem"));
            let url = "rediss://name".parse::<LedgerUrl>().unwrap().with_files(&files).unwrap();
            let LedgerUrl::Redis(url) = url else { unreachable!() };
            let address = self.listener.local_addr().unwrap();
            Loop::finding(url, move || Ok(vec![address]))
        }

        fn accept(&self) -> std::net::TcpStream {
            let (_, stream) = accepted(std::slice::from_ref(&self.listener));
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
        }
    }

    /// All of it has come when the link is told, and it is told once: what is left within the stream nobody would ever read.
    #[test]
    fn records_that_came_together_are_read_together() {
        let scene = Encrypted::new();
        let mut host = scene.host();
        let (config, socket) = (Arc::clone(&scene.config), scene.accept());
        let server = std::thread::spawn(move || {
            let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
            stream.read_exact(&mut [0; 100]).expect("the set-up arrives");
            stream
        });
        host.turn_until(|_| server.is_finished());
        let mut stream = server.join().unwrap();
        // An answer that refuses the set-up, once it is there to its end.
        let replies = [b"-NOPERM ", &[b'x'; 9000][..], b"\r\n"].concat();
        for record in replies.chunks(100) {
            stream.conn.writer().write_all(record).unwrap();
        }
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).unwrap();
        }
        host.turn_until(|link| link.session.dial_at().is_some());
        let told = host.told();
        assert!(told.contains("NOPERM"), "{told}");
    }

    /// Those of mio, whose sockets take a few KiB.
    struct NarrowStreams<'a>(MioStreams<'a>);

    impl Streams for NarrowStreams<'_> {
        type Stream = Stream;

        fn dial(&mut self, node: NodeIndex, endpoint: &Endpoint, place: usize) -> io::Result<Stream> {
            let stream = self.0.dial(node, endpoint, place)?;
            if let Stream::Tls(stream) = &stream {
                socket2::SockRef::from(stream.socket()).set_send_buffer_size(4096)?;
            }
            Ok(stream)
        }

        fn take_error(&mut self, stream: &mut Stream) -> io::Result<Option<io::Error>> {
            self.0.take_error(stream)
        }

        fn read(&mut self, stream: &mut Stream, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(stream, buffer)
        }

        fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(stream, bytes)
        }

        fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
            self.0.flush(stream)
        }

        fn close(&mut self, stream: Stream) {
            self.0.close(stream);
        }
    }

    /// The stream has taken the last of it, the socket has not, and the session has nothing more to say.
    #[test]
    fn what_a_stream_has_taken_is_written_once_the_socket_takes_it() {
        let scene = Encrypted::new();
        socket2::SockRef::from(&scene.listener).set_recv_buffer_size(4096).unwrap();
        let mut host = scene.host_that_has_not_dialled();
        host.now = host.link.next_deadline().expect("it is to be dialled");
        let (mut events, mut buffer) = (Events::with_capacity(8), [0; 4096]);
        let mut server = None;
        let (mut to_write, until) = (0, Instant::now() + PATIENCE);
        while !server.as_ref().is_some_and(std::thread::JoinHandle::is_finished) {
            assert!(Instant::now() < until, "some of it is not written");
            let mut streams = NarrowStreams(MioStreams { registry: host.poll.registry() });
            host.link.drive(NodeIndex(0), &mut streams, host.now);
            for event in &events {
                if node_of(event.token()).is_some() && event.is_writable() {
                    host.link.handle_writable(&mut streams, host.now);
                }
                if node_of(event.token()).is_some() && event.is_readable() {
                    host.link.handle_readable(&mut buffer, false, &mut streams, host.now);
                }
            }
            to_write = to_write.max(host.link.session.poll_output().len());
            host.link.flush(&mut streams, host.now);
            if host.link.connected && server.is_none() {
                let (config, socket, bytes) = (Arc::clone(&scene.config), scene.accept(), to_write);
                assert!(bytes > 30_000, "{bytes} bytes do not fill a socket");
                server = Some(std::thread::spawn(move || {
                    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
                    for _ in 0..bytes / 1000 {
                        stream.read_exact(&mut [0; 1000]).expect("it arrives");
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    stream.read_exact(&mut vec![0; bytes % 1000]).expect("it arrives");
                }));
            }
            host.poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
        }
        server.expect("it was started").join().unwrap();
    }

    #[test]
    fn a_server_that_speaks_no_tls_is_told_from_one_that_says_nothing() {
        let scene = Encrypted::new();
        let mut host = scene.host();
        let mut plain = scene.accept();
        plain.read_exact(&mut [0; 100]).expect("the client says hello");
        plain.write_all(b"-ERR unknown command\r\n").unwrap();
        host.turn_until(|link| link.session.dial_at().is_some());
        let told = host.told();
        assert!(told.contains("it does not speak TLS there; is it the plain port?"), "{told}");
        assert_eq!(host.trouble.all()[0].1, Cause::Tls);

        host.dial();
        host.turn_until(|link| link.connected);
        let _silent = scene.accept();
        host.dial();
        let told = host.told();
        assert!(told.contains("it does not answer the TLS handshake; is it the plain port?"), "{told}");
        assert!(host.link.session.dial_at().is_some(), "it is dialled again");
    }
}
