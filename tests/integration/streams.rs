//! Answers that go on, before a crowd that hardly reads: over real sockets, by the driver and the connections that the loops
//! have. What is served here is the test's own, since no path of a host streams.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use boxoffice::clock::Monotonic;
use boxoffice::connection::{Answered, CutReason, Handled, Produced, Reply, Service, StreamPart};
use boxoffice::connections::{Admission, ConnectionKey, ConnectionServer, Connections, Driver, NotAdmitted};
use boxoffice::http::{HttpError, Request, Response, Status};
use boxoffice::limits::{ClientLimits, READ_CHUNK_BYTES};
use boxoffice::runtime::SystemClock;
use boxoffice::runtime::sockets::{MioSockets, readiness};
use mio::{Events, Interest, Poll, Token};

use crate::support::{PATIENCE, eventually, turn};

/// Clients that are told the news and hardly read.
const READERS: usize = 1_000;

/// Bytes of one part, so that what a socket takes is soon full.
const PART_BYTES: usize = 3_000;

/// What a connection holds at most: a part in a buffer of its size, and the head in the one before it.
const HELD_BYTES_MAX: usize = 8 * 1024;

const LISTENER: Token = Token(usize::MAX);

/// How many more parts each stream has.
type Streams = BTreeMap<usize, (ConnectionKey, u64)>;

struct News {
    connections: Connections<()>,
    streams: Streams,
    version: u64,
    cut: usize,
}

struct Reporter<'a> {
    streams: &'a mut Streams,
    key: ConnectionKey,
    version: u64,
}

fn response(body: &[u8]) -> Response<'_> {
    let (status, caching) = (Status::Ok, Default::default());
    Response { status, content_type: "text/plain", caching, fields: &[], body }
}

impl Service for Reporter<'_> {
    fn handle(&mut self, request: &Request<'_>, reply: Reply<'_>) -> Handled {
        match request.path.strip_prefix("/news/") {
            Some(parts) => {
                let parts = parts.parse().expect("how many parts it is to have");
                self.streams.insert(self.key.index(), (self.key, parts));
                reply.stream(&response(b"")).into()
            }
            None => reply.send(&response(request.path.as_bytes())).into(),
        }
    }

    fn refuse(&mut self, error: &HttpError, reply: Reply<'_>) -> Answered {
        reply.send(&Response { status: error.status(), ..response(b"") })
    }

    fn produce(&mut self, part: StreamPart<'_>) -> Produced {
        let Some((_, left)) = self.streams.get_mut(&self.key.index()) else { return part.end() };
        if *left == 0 {
            self.streams.remove(&self.key.index());
            return part.end();
        }
        *left -= 1;
        let mut text = format!("version {:08}", self.version).into_bytes();
        text.resize(PART_BYTES, b'.');
        part.send(&text)
    }
}

impl ConnectionServer for News {
    type Notes = ();
    type Service<'a> = Reporter<'a>;

    fn connections(&self) -> &Connections<()> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<()> {
        &mut self.connections
    }

    fn split(&mut self, key: ConnectionKey) -> (&mut Connections<()>, Reporter<'_>) {
        (&mut self.connections, Reporter { streams: &mut self.streams, key, version: self.version })
    }

    fn handle_accepted(&mut self, peer: SocketAddr) -> Result<ConnectionKey, NotAdmitted> {
        self.connections.admit(peer.ip())
    }

    fn handle_accept_failure(&mut self) {
        panic!("more descriptors are needed");
    }

    fn handle_gone(&mut self, key: ConnectionKey) {
        self.streams.remove(&key.index());
        self.connections.remove(key);
    }

    fn handle_cut(&mut self, cut: CutReason) {
        // Who is not done with reading when all is said is none of ours.
        self.cut += usize::from(cut != CutReason::Lingered);
    }
}

/// What the test sees of the loop, and tells it.
#[derive(Default)]
struct Watch {
    version: AtomicU64,
    connections: AtomicUsize,
    buffered_bytes_most: AtomicUsize,
    drains: AtomicBool,
}

/// A loop as a worker has it, with news once a millisecond; ends when it has drained. Says how many connections were cut.
fn serve(mut listener: mio::net::TcpListener, watch: &Watch) -> usize {
    let clock = SystemClock::new();
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    let limits = Arc::new(ClientLimits { write_stall_ms: 60_000, ..ClientLimits::default() });
    let admission = Arc::new(Admission::new(&limits));
    let connections = Connections::new(limits, admission, clock.now());
    let mut news = News { connections, streams: BTreeMap::new(), version: 0, cut: 0 };
    let mut driver = Driver::new(READ_CHUNK_BYTES);
    let (mut events, mut drains) = (Events::with_capacity(1024), false);
    loop {
        let at_once = driver.next_deadline().is_some_and(|at| at == Monotonic::default());
        let wait = if at_once { Duration::ZERO } else { Duration::from_millis(1) };
        poll.poll(&mut events, Some(wait)).unwrap();
        let now = clock.now();
        news.connections.begin_turn(now);
        let mut sockets = MioSockets { listener: Some(&listener), registry: poll.registry() };
        driver.begin_turn(&mut sockets, &mut news, now.monotonic);
        for event in &events {
            match event.token() {
                LISTENER => driver.handle_newcomers(&mut sockets, &mut news, now.monotonic),
                Token(index) => driver.handle_ready(index, readiness(event), &mut sockets, &mut news),
            }
        }
        news.version += 1;
        for key in news.streams.values().map(|(key, _)| *key).collect::<Vec<_>>() {
            news.wake_stream(key);
        }
        news.handle_deadlines();
        news.relieve();
        if watch.drains.load(Ordering::Relaxed) && !std::mem::replace(&mut drains, true) {
            news.drain();
        }
        driver.flush_touched(&mut sockets, &mut news);
        news.connections.end_turn();
        news.connections.check_invariants();
        watch.version.store(news.version, Ordering::Relaxed);
        watch.connections.store(news.connections.len(), Ordering::Relaxed);
        watch.buffered_bytes_most.fetch_max(news.connections.buffered_bytes(), Ordering::Relaxed);
        if drains && news.connections.is_empty() {
            return news.cut;
        }
    }
}

/// A client whose kernel takes little, of a server whose kernel keeps little.
fn reader(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, paths: &[&str]) {
    let requests: String =
        paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    stream.write_all(requests.as_bytes()).unwrap();
}

/// The versions of a whole stream at the beginning of `text`, and what follows it.
fn versions(text: &str) -> (Vec<u64>, &str) {
    let (head, mut rest) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut versions = Vec::new();
    loop {
        let (size, chunk) = rest.split_once("\r\n").expect("a chunk");
        let size = usize::from_str_radix(size, 16).expect("a size");
        rest = chunk[size..].strip_prefix("\r\n").expect("the end of a chunk");
        if size == 0 {
            return (versions, rest);
        }
        assert_eq!(size, PART_BYTES, "a part is a chunk");
        versions.push(chunk["version ".len()..][..8].parse().expect("a version"));
    }
}

fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.ends_with(end) {
        let bytes = stream.read(&mut buffer).expect("an answer in time");
        assert!(bytes > 0, "the connection has ended: {text}");
        text.push_str(std::str::from_utf8(&buffer[..bytes]).unwrap());
    }
    text
}

/// A listener whose connections keep little in the kernel.
fn listener() -> (mio::net::TcpListener, SocketAddr) {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // Accepted ones inherit it.
    listener.set_send_buffer_size(8 * 1024).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(4096).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    (mio::net::TcpListener::from_std(listener.into()), address)
}

/// What was answered on a connection that has ended: `200 /a | 200 chunks of 2 | 400 | ...`.
fn answers(mut text: &str) -> String {
    let mut answers = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let answer;
        (answer, text) = match length {
            _ if status == "100" => (status.to_owned(), rest),
            Some(length) => {
                let (body, rest) = rest.split_at(length.parse().expect("a length"));
                (format!("{status} {body}").trim_end().to_owned(), rest)
            }
            None if head.contains("Transfer-Encoding") => {
                let (versions, rest) = versions(text);
                (format!("{status} chunks of {}", versions.len()), rest)
            }
            None => {
                assert_eq!(rest.len() % PART_BYTES, 0, "whole parts, and nothing between them");
                (format!("{status} to the end, {}", rest.len() / PART_BYTES), "")
            }
        };
        answers.push(answer);
    }
    answers.join(" | ")
}

/// Raw bytes around a stream, and what is answered. Each client ends with a request that is to be the last.
const AROUND_A_STREAM: &[(&str, &str)] = &[
    ("GET /news/2 HTTP/1.1\r\nHost: h\r\n\r\n", "200 chunks of 2 | 200 /end"),
    // RFC 9112 section 9.3.2: in the order of the requests, whatever an answer is made of.
    (
        "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /news/2 HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        "200 /a | 200 chunks of 2 | 200 /b | 200 /end",
    ),
    (
        "GET /news/1 HTTP/1.1\r\nHost: h\r\n\r\nGET /news/0 HTTP/1.1\r\nHost: h\r\n\r\n",
        "200 chunks of 1 | 200 chunks of 0 | 200 /end",
    ),
    // Its body is no request.
    (
        "POST /news/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET /x HTPOST /b HTTP/1.1\r\nHost: h\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "200 chunks of 1 | 200 /b | 200 /end",
    ),
    // What cannot be read is refused in its turn, and nothing is read behind it.
    ("GET /news/2 HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost : h\r\n\r\n", "200 chunks of 2 | 400"),
    // Section 6.3: HTTP/1.0 knows no chunks, and hears the end of the stream by the end of the connection.
    ("GET /news/2 HTTP/1.0\r\n\r\n", "200 to the end, 2"),
    ("GET /news/2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200 to the end, 2"),
    ("GET /news/2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200 chunks of 2"),
];

#[test]
fn what_stands_around_a_stream_is_answered_in_order_in_every_fragmentation() {
    const LAST: &str = "GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let _turn = turn::alone();
    let (listener, address) = listener();
    let watch = Watch::default();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(listener, &watch));
        for (case, expected) in AROUND_A_STREAM {
            let sent = format!("{case}{LAST}");
            let ask_in = |fragments: &[&str]| {
                let mut client = TcpStream::connect(address).unwrap();
                client.set_nodelay(true).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                for (number, fragment) in fragments.iter().enumerate() {
                    if number > 0 {
                        // So that the server reads them apart; if it does not, that is another fragmentation.
                        std::thread::sleep(Duration::from_micros(300));
                    }
                    // A server that has said its last word need not take more.
                    if client.write_all(fragment.as_bytes()).is_err() {
                        break;
                    }
                }
                let mut text = String::new();
                client.read_to_string(&mut text).expect("an answer and the end");
                assert_eq!(answers(&text), *expected, "{fragments:?}");
            };
            ask_in(&[&sent]);
            for at in 1..sent.len() {
                ask_in(&[&sent[..at], &sent[at..]]);
            }
            ask_in(&(0..sent.len()).map(|at| &sent[at..=at]).collect::<Vec<_>>());
        }
        watch.drains.store(true, Ordering::Relaxed);
        assert_eq!(server.join().unwrap(), 0, "nobody was cut");
    });
}

#[test]
fn a_thousand_slow_readers_of_a_stream_cost_a_part_each_and_disturb_nobody() {
    let _turn = turn::alone();
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let (listener, address) = listener();
    let watch = Watch::default();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(listener, &watch));
        let mut readers: Vec<TcpStream> = (0..READERS).map(|_| reader(address)).collect();
        readers.iter_mut().for_each(|reader| ask(reader, &["/news/1000000"]));
        eventually("all of them are told the news", PATIENCE, || {
            (watch.connections.load(Ordering::Relaxed) == READERS).then_some(())
        });
        let since = watch.version.load(Ordering::Relaxed);

        // Others are answered meanwhile, and a stream between other answers keeps its place.
        let mut other = reader(address);
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let asked = Instant::now();
            ask(&mut other, &["/now"]);
            read_until(&mut other, "/now");
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        for _ in 0..10 {
            ask(&mut other, &["/one", "/news/5", "/two", "/news/3", "/three"]);
            let text = read_until(&mut other, "/three");
            let (one, rest) = text.split_once("/one").expect("the first answer");
            assert!(one.starts_with("HTTP/1.1 200 OK\r\n") && one.contains("Content-Length: 4"), "{one}");
            let (five, rest) = versions(rest);
            let (two, rest) = rest.split_once("/two").expect("the answer between them");
            let (three, rest) = versions(rest);
            assert!(two.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("/three"));
            assert_eq!((five.len(), three.len()), (5, 3));
            assert!([five, three].concat().is_sorted());
        }
        eventually("much is new", PATIENCE, || {
            (watch.version.load(Ordering::Relaxed) > since + 1_000).then_some(())
        });
        let most = watch.buffered_bytes_most.load(Ordering::Relaxed);
        assert!(most <= (READERS + 1) * HELD_BYTES_MAX, "{most} bytes are kept for {READERS} readers");

        // Whoever reads on hears the latest, and not all that there was; and in the end the end.
        watch.drains.store(true, Ordering::Relaxed);
        let latest = watch.version.load(Ordering::Relaxed);
        for (number, reader) in readers.iter_mut().enumerate() {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let (versions, rest) = versions(&text);
            assert!(rest.is_empty() && versions.is_sorted_by(|one, other| one < other), "{number}");
            assert!(
                !versions.is_empty() && versions.len() < latest as usize / 4,
                "{number}: {}",
                versions.len()
            );
        }
        drop(other);
        assert_eq!(server.join().unwrap(), 0, "nobody was cut");
    });
}
