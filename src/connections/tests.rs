//! The driver over sockets that a test plays.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::*;
use crate::clock::{Monotonic, Now, WallTime};
use crate::connection::{Answered, CutReason, Handled, Reply, Service};
use crate::http::encode::OVERLOADED;
use crate::http::{Caching, HttpError, Request, Response, Status};
use crate::limits::{self, ClientLimits};

/// Answers with the path that was asked for; never what is under `/wait`.
struct Echo;

impl Service for Echo {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        match request.path {
            "/wait" => reply.later_alone().1,
            path => reply.send(&response(path.as_bytes())).into(),
        }
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        reply.send(&Response { status: error.status(), ..response(b"refused") })
    }
}

fn response(body: &[u8]) -> Response<'_> {
    Response { status: Status::Ok, content_type: "", caching: Caching::NoStore, fields: &[], body }
}

struct Server {
    connections: Connections<()>,
    gone: usize,
    accept_failures: usize,
    /// Nobody is let in before that.
    room_at: Monotonic,
}

impl ConnectionServer for Server {
    type Notes = ();
    type Service<'a> = Echo;

    fn connections(&self) -> &Connections<()> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<()> {
        &mut self.connections
    }

    fn split(&mut self, _: ConnectionKey) -> (&mut Connections<()>, Echo) {
        (&mut self.connections, Echo)
    }

    fn handle_accepted(&mut self, peer: SocketAddr) -> Result<ConnectionKey, NotAdmitted> {
        self.connections.admit(peer.ip())
    }

    fn wait_for_room(&mut self, since: Monotonic) -> Option<Monotonic> {
        (since < self.room_at).then_some(self.room_at)
    }

    fn handle_accept_failure(&mut self) {
        self.accept_failures += 1;
    }

    fn handle_gone(&mut self, key: ConnectionKey) {
        self.gone += usize::from(self.connections.remove(key).is_some());
    }

    fn handle_cut(&mut self, _: CutReason) {}
}

/// What a socket has, and what became of it.
#[derive(Default)]
struct Far {
    received: VecDeque<u8>,
    ended: bool,
    broken: bool,
    /// Bytes that it takes; no end of them if none is said.
    room: Option<usize>,
    written: Vec<u8>,
    shut: bool,
    closed: bool,
    index: usize,
}

#[derive(Default)]
struct Played {
    backlog: VecDeque<io::Result<usize>>,
    sockets: HashMap<usize, Far>,
    reads: usize,
}

impl Sockets for Played {
    type Socket = usize;

    fn accept(&mut self) -> io::Result<(usize, SocketAddr)> {
        let socket = self.backlog.pop_front().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))?;
        self.sockets.entry(socket).or_default();
        Ok((socket, (Ipv4Addr::LOCALHOST, 1).into()))
    }

    fn register(&mut self, socket: &mut usize, key: ConnectionKey) -> io::Result<()> {
        self.sockets.get_mut(socket).unwrap().index = key.index();
        Ok(())
    }

    fn read(&mut self, socket: &mut usize, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let far = self.sockets.get_mut(socket).unwrap();
        if far.received.is_empty() && !far.ended {
            let kind = if far.broken { io::ErrorKind::ConnectionReset } else { io::ErrorKind::WouldBlock };
            return Err(kind.into());
        }
        let bytes = far.received.len().min(buffer.len());
        far.received.drain(..bytes).zip(buffer).for_each(|(byte, room)| *room = byte);
        Ok(bytes)
    }

    fn write(&mut self, socket: &mut usize, bytes: &[u8], _: bool) -> io::Result<usize> {
        let far = self.sockets.get_mut(socket).unwrap();
        let bytes = match &mut far.room {
            Some(0) => return Err(io::ErrorKind::WouldBlock.into()),
            Some(room) => {
                let taken = bytes.len().min(*room);
                *room -= taken;
                &bytes[..taken]
            }
            None => bytes,
        };
        far.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn shut_down(&mut self, socket: &mut usize) {
        self.sockets.get_mut(socket).unwrap().shut = true;
    }

    fn close(&mut self, socket: usize) {
        self.sockets.get_mut(&socket).unwrap().closed = true;
    }
}

struct Loop {
    driver: Driver<usize>,
    sockets: Played,
    server: Server,
    now: Monotonic,
}

const QUIET: Readiness =
    Readiness { readable: false, writable: false, ended: false, urgent: false, broken: false };
const READABLE: Readiness = Readiness { readable: true, ..QUIET };
const WRITABLE: Readiness = Readiness { writable: true, ..QUIET };
const ENDED: Readiness = Readiness { readable: true, ended: true, ..QUIET };
const BROKEN: Readiness = Readiness { readable: true, writable: true, ended: true, broken: true, ..QUIET };

impl Loop {
    fn new(read_bytes: usize, connections: usize) -> Loop {
        let limits = Arc::new(ClientLimits { connections, ..ClientLimits::default() });
        let admission = Arc::new(Admission::new(&limits));
        let now = Now { monotonic: Monotonic(0), wall: WallTime(0) };
        let connections = Connections::new(limits, admission, now);
        let server = Server { connections, gone: 0, accept_failures: 0, room_at: Monotonic(0) };
        Loop { driver: Driver::new(read_bytes), sockets: Played::default(), server, now: Monotonic(0) }
    }

    /// A turn a millisecond later; tells whether the next one is wanted at once.
    fn turn(&mut self, newcomers: bool, events: &[(usize, Readiness)]) -> bool {
        self.now = self.now.plus_ms(1);
        self.server.connections.begin_turn(Now { monotonic: self.now, wall: WallTime(0) });
        let Loop { driver, sockets, server, now } = self;
        driver.begin_turn(sockets, server, *now);
        if newcomers {
            driver.handle_newcomers(sockets, server, *now);
        }
        for (socket, is) in events {
            let index = sockets.sockets[socket].index;
            driver.handle_ready(index, *is, sockets, server);
        }
        server.handle_deadlines();
        driver.flush_touched(sockets, server);
        driver.next_deadline().is_some_and(|at| at <= *now)
    }

    fn accept(&mut self, sockets: impl IntoIterator<Item = usize>) -> bool {
        self.sockets.backlog.extend(sockets.into_iter().map(Ok));
        self.turn(true, &[])
    }

    fn send(&mut self, socket: usize, bytes: &[u8]) {
        self.sockets.sockets.get_mut(&socket).unwrap().received.extend(bytes);
    }

    fn far(&mut self, socket: usize) -> &mut Far {
        self.sockets.sockets.get_mut(&socket).unwrap()
    }

    fn answers(&mut self, socket: usize) -> usize {
        memchr::memmem::find_iter(&self.far(socket).written, b"HTTP/1.1 ").count()
    }
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

/// The system tells of bytes once, however many there are.
#[test]
fn what_one_read_leaves_is_read_in_the_next_turns_without_another_word() {
    let mut host = Loop::new(10, 8);
    host.accept([1, 2]);
    host.send(1, &GET.repeat(2));
    host.send(2, &GET[..10]);
    assert!(host.turn(false, &[(1, READABLE), (2, READABLE)]), "there is more");
    assert_eq!(host.sockets.reads, 2, "one a turn, and so for everybody");
    let mut turns = 1;
    while host.turn(false, &[]) {
        turns += 1;
    }
    assert_eq!((host.answers(1), turns), (2, 5), "of 56 bytes, ten a turn");
    // A short read has emptied it: nobody asks again.
    host.send(2, &GET[10..15]);
    let before = host.sockets.reads;
    assert!(!host.turn(false, &[(2, READABLE)]) && host.sockets.reads == before + 1);
}

/// The end behind some bytes is told with them, and only then.
#[test]
fn who_has_ended_is_read_to_the_end_though_a_read_is_short() {
    let mut host = Loop::new(1_000, 8);
    host.accept([1]);
    host.send(1, GET);
    host.far(1).ended = true;
    assert!(host.turn(false, &[(1, ENDED)]));
    assert!(!host.turn(false, &[]));
    assert_eq!(host.answers(1), 1);
    assert!(host.far(1).closed && host.server.gone == 1);
}

#[test]
fn who_is_held_back_is_read_again_once_its_answers_are_written() {
    let mut host = Loop::new(4_096, 8);
    host.accept([1]);
    let most = limits::UNSENT_BYTES_MAX;
    host.far(1).room = Some(0);
    host.send(1, &GET.repeat(2_000));
    let mut turns = 0;
    while host.turn(false, if turns == 0 { &[(1, READABLE)] } else { &[] }) {
        turns += 1;
        assert!(turns < 2_000, "it is read on and on");
    }
    assert!(!host.far(1).received.is_empty(), "past {most} bytes unsent nothing is read");
    host.far(1).room = None;
    let mut more = host.turn(false, &[(1, WRITABLE)]);
    while more {
        more = host.turn(false, &[]);
    }
    assert_eq!(host.answers(1), 2_000);
}

/// Its client is gone, and what is booked for it meanwhile would be written to nobody.
#[test]
fn who_is_reset_while_it_is_held_back_is_given_up_at_once() {
    let mut host = Loop::new(4_096, 8);
    host.accept([1]);
    host.far(1).room = Some(0);
    host.send(1, &GET.repeat(2_000));
    let mut events: &[_] = &[(1, READABLE)];
    while host.turn(false, events) {
        events = &[];
    }
    assert!(!host.far(1).received.is_empty(), "it is not read any more");
    host.far(1).broken = true;
    host.turn(false, &[(1, BROKEN)]);
    assert!(host.far(1).closed && host.server.gone == 1);
}

#[test]
fn a_socket_that_breaks_is_closed_and_given_up() {
    let mut host = Loop::new(1_000, 8);
    host.accept([1]);
    host.far(1).broken = true;
    host.turn(false, &[(1, BROKEN)]);
    assert!(host.far(1).closed && host.server.gone == 1);
    // An event that is still on its way finds nobody.
    host.turn(false, &[(1, READABLE)]);
}

/// What is behind a request that waits is not read, and so no read tells that nobody is there any more.
#[test]
fn a_socket_that_breaks_while_it_is_not_read_is_given_up_before_its_answer() {
    let mut host = Loop::new(1_000, 8);
    host.accept([1]);
    host.send(1, &[b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n", GET].concat());
    host.turn(false, &[(1, READABLE)]);
    host.far(1).broken = true;
    host.turn(false, &[(1, BROKEN)]);
    assert!(host.far(1).closed && host.server.gone == 1);
    // Likewise if that is told together with what makes it wait.
    let mut host = Loop::new(1_000, 8);
    host.accept([1]);
    host.send(1, &[b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n", GET].concat());
    host.far(1).broken = true;
    host.turn(false, &[(1, BROKEN)]);
    host.turn(false, &[]);
    assert!(host.far(1).closed && host.server.gone == 1);
}

#[test]
fn no_more_are_accepted_in_a_turn_than_leaves_room_for_others_and_none_is_forgotten() {
    let mut host = Loop::new(1_000, 1_000);
    assert!(host.accept(0..150), "the rest at once");
    assert_eq!(host.server.connections.len(), limits::ACCEPTS_PER_TURN_MAX);
    while host.turn(false, &[]) {}
    assert_eq!(host.server.connections.len(), 150);
}

#[test]
fn accepting_pauses_while_the_system_refuses_and_then_goes_on_by_itself() {
    let mut host = Loop::new(1_000, 8);
    host.sockets.backlog.extend([Err(io::Error::from_raw_os_error(24)), Ok(1)]);
    host.turn(true, &[]);
    host.turn(true, &[]);
    assert_eq!(
        (host.server.accept_failures, host.server.connections.len()),
        (1, 0),
        "whoever comes meanwhile"
    );
    host.now = host.now.plus_ms(limits::ACCEPT_PAUSE_MS);
    host.turn(false, &[]);
    assert_eq!(host.server.connections.len(), 1);
}

#[test]
fn who_finds_no_room_is_told_so_after_the_time_that_it_may_wait() {
    let mut host = Loop::new(1_000, 1);
    host.accept([1, 2]);
    assert_eq!(host.far(2).written, OVERLOADED);
    assert!(host.far(2).shut && host.far(2).closed && !host.far(1).closed);
    // One that waits keeps its place before those behind it.
    let mut host = Loop::new(1_000, 8);
    host.server.room_at = Monotonic(3_500_000);
    host.accept([1, 2]);
    host.turn(false, &[]);
    assert_eq!(host.server.connections.len(), 0);
    host.turn(false, &[]);
    host.turn(false, &[]);
    assert!(host.far(1).written.is_empty() && !host.far(1).closed);
    host.server.room_at = Monotonic(0);
    host.turn(false, &[]);
    assert_eq!(host.server.connections.len(), 2);
}

/// So that nobody sends a request into a connection that is just closing: who comes is still let in, an idle connection stays.
#[test]
fn of_a_host_that_will_stop_each_connection_ends_with_its_next_answer() {
    let mut host = Loop::new(1_000, 8);
    host.accept([1, 2]);
    host.server.connections.begin_parting();
    host.accept([3]);
    host.send(1, &[GET, GET].concat());
    host.send(3, GET);
    host.turn(false, &[(1, READABLE), (3, READABLE)]);
    for (socket, answers) in [(1, 1), (2, 0), (3, 1)] {
        assert_eq!(host.answers(socket), answers, "socket {socket}");
        let says_so = String::from_utf8_lossy(&host.far(socket).written).contains("Connection: close");
        assert_eq!(says_so, answers == 1, "socket {socket}");
        assert!(!host.far(2).shut, "nothing was asked on it");
    }
}

/// A listener is closed over those who wait at it only after they were let in and what they ask was read.
#[test]
fn the_last_who_come_are_answered() {
    let mut host = Loop::new(1_000, 1_000);
    host.sockets.backlog.extend((0..100).map(Ok));
    for socket in 0..100 {
        host.sockets.sockets.entry(socket).or_default().received.extend(GET);
    }
    let Loop { driver, sockets, server, now } = &mut host;
    driver.accept_last(sockets, server, *now);
    server.drain();
    driver.flush_touched(sockets, server);
    assert!((0..100).all(|socket| host.answers(socket) == 1));
}
