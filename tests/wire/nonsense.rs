//! Streams of random bytes and of requests gone wrong: the host neither panics, nor keeps memory or connections, nor lets
//! others wait, and counts what it refused.
//!
//! NONSENSE_MB says how much (100), NONSENSE_SEED replays a run: its seed is printed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use boxoffice::http::Reason;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::answers;
use crate::cases;
use crate::support::client::{Client, PATIENCE};
use crate::support::eventually;
use crate::support::host::Host;
use crate::support::process::resident_bytes;
use crate::support::turn;

/// Senders of nonsense at the same time.
const SENDERS: u64 = 4;

/// Resident memory that a host may have more of at the end than after a tenth of the nonsense: spare buffers, of which
/// each loop keeps some megabytes at most.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

/// What breaks requests.
const SPLINTERS: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"%",
    b"\xff",
    b"GET ",
    b"HTTP/1.0",
    b"Host: i\r\n",
    b"Connection: close\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: x\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
];

/// What clients saw.
#[derive(Default)]
struct Seen {
    /// Final answers.
    answers: u64,
    refusals: BTreeMap<&'static str, u64>,
}

impl Seen {
    /// Adds what a connection was answered.
    fn add(&mut self, bytes: &[u8]) {
        let answers = answers::read(bytes).unwrap_or_else(|what| panic!("{what}"));
        for answer in answers.iter().filter(|answer| answer.status >= 200) {
            self.answers += 1;
            if let Some(reason) = answer.reason {
                *self.refusals.entry(reason.label()).or_default() += 1;
            }
        }
        let refused = answers.iter().filter(|answer| answer.reason.is_some()).count();
        assert!(refused <= 1, "{refused} refusals on one connection: {}", bytes.escape_ascii());
        assert!(refused == 0 || answers.last().is_some_and(|last| last.reason.is_some() && last.closes));
    }

    fn merge(mut self, other: Seen) -> Seen {
        self.answers += other.answers;
        other
            .refusals
            .into_iter()
            .for_each(|(label, count)| *self.refusals.entry(label).or_default() += count);
        self
    }
}

/// A stream for one connection: bytes without any sense, or requests of which some are broken.
fn stream(random: &mut StdRng, requests: &[Vec<u8>]) -> Vec<u8> {
    if random.random_ratio(1, 16) {
        let mut bytes = vec![0; random.random_range(1..256 * 1024)];
        random.fill(&mut bytes[..]);
        // Most first bytes are refused at once; this lets a head or a chunked body begin.
        let start: &[u8] =
            [&b""[..], b"GET /", b"POST /buy/p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"]
                .choose(random)
                .expect("three of them");
        return [start, &bytes].concat();
    }
    let mut bytes = Vec::new();
    for _ in 0..random.random_range(1..6) {
        let mut request = requests.choose(random).expect("many of them").clone();
        for _ in 0..random.random_range(0..4) {
            break_somewhere(random, &mut request, requests);
        }
        bytes.append(&mut request);
    }
    bytes
}

fn break_somewhere(random: &mut StdRng, request: &mut Vec<u8>, requests: &[Vec<u8>]) {
    let at = random.random_range(0..=request.len());
    let to = random.random_range(at..=request.len()).min(at + 64);
    match random.random_range(0..6) {
        0 => drop(request.splice(at..at, SPLINTERS.choose(random).expect("many of them").iter().copied())),
        1 => drop(request.splice(at..to, SPLINTERS.choose(random).expect("many of them").iter().copied())),
        2 => drop(request.drain(at..to)),
        3 => {
            let again = request[at..to].to_vec();
            drop(request.splice(at..at, again));
        }
        4 if at < request.len() => request[at] = random.random(),
        _ => {
            let other = requests.choose(random).expect("many of them");
            request.truncate(at);
            request.extend_from_slice(&other[random.random_range(0..=other.len())..]);
        }
    }
}

/// Sends a stream in some pieces, ends it, and gives what came back.
fn send(random: &mut StdRng, server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(server);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(random.random_range(1..=rest.len()));
        // An error is that of a host that has closed, which is seen below.
        if stream.write_all(piece).is_err() {
            break;
        }
        rest = more;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("no end within {PATIENCE:?} of {}", bytes.escape_ascii())
        }
        // A reset: what was received before it is there.
        _ => received,
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap_or_else(|error| panic!("{server}: {error}"));
    stream.set_nodelay(true).expect("a socket takes its options");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes its options");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket takes its options");
    stream
}

/// Asks in the ordinary way until it is told to stop, over connections old and new; each must be answered.
fn ask_meanwhile(server: SocketAddr, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut clients: Vec<_> = (0..8).map(|_| Client::connect(server)).collect();
    while !stop.load(Ordering::Relaxed) {
        clients[0] = Client::connect(server);
        for client in &mut clients {
            client.get("/v1/sales/a").expect(200);
            seen.answers += 1;
        }
    }
    seen
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text:?}")))
}

#[test]
fn nonsense_costs_nobody_anything_and_each_refusal_is_counted() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let sales = ["a=0", "b=0", "c=0", "p=0"].map(|sale| ["--sale", sale]).concat();
    let mut host = Host::start(folder.path(), &[&sales[..], &["--limit", "linger=4s"]].concat());
    let seed = number("NONSENSE_SEED").unwrap_or_else(|| StdRng::from_os_rng().random());
    let bytes_in_all = number("NONSENSE_MB").unwrap_or(100) << 20;
    println!("NONSENSE_SEED={seed} replays this");
    // Without HEAD: a refusal of it has no body that would say why.
    let requests: Vec<_> = cases::all()
        .into_iter()
        .map(|case| case.bytes)
        .filter(|bytes| bytes.len() < 2_000 && !contains(bytes, b"HEAD"))
        .collect();

    let (sent, stop, warm) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let seen = std::thread::scope(|scope| {
        let (sent, stop, warm, requests) = (&sent, &stop, &warm, &requests);
        let (address, process) = (host.address, host.process.id());
        let beside = scope.spawn(move || ask_meanwhile(address, stop));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(seed.wrapping_add(sender));
                    let mut seen = Seen::default();
                    while sent.load(Ordering::Relaxed) < bytes_in_all {
                        let bytes = stream(&mut random, requests);
                        seen.add(&send(&mut random, address, &bytes));
                        let before = sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        if before < bytes_in_all / 10 {
                            warm.store(resident_bytes(process), Ordering::Relaxed);
                        }
                    }
                    seen
                })
            })
            .collect();
        let seen: Vec<_> = senders.into_iter().map(|sender| sender.join()).collect();
        stop.store(true, Ordering::Relaxed);
        let seen = seen.into_iter().map(|seen| seen.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        seen.fold(beside.join().expect("who asks in the ordinary way is answered"), Seen::merge)
    });

    println!("{} bytes, {} answers, refusals: {:?}", sent.into_inner(), seen.answers, seen.refusals);
    let metrics = host.metrics();
    let sum = |name: &str| -> u64 {
        metrics.iter().filter(|(sample, _)| sample.starts_with(name)).map(|(_, value)| *value as u64).sum()
    };
    for label in Reason::ALL.iter().map(|reason| reason.label()) {
        let counted = sum(&format!("boxoffice_malformed_requests_total{{reason=\"{label}\"}}"));
        assert_eq!(counted, seen.refusals.get(label).copied().unwrap_or(0), "{label}, seed {seed}");
    }
    assert!(seen.refusals.len() > 20, "{:?}", seen.refusals);
    let answered = sum("boxoffice_requests_total") + sum("boxoffice_malformed_requests_total");
    assert_eq!(answered, seen.answers, "seed {seed}");

    let (before, after) = (warm.into_inner(), resident_bytes(host.process.id()));
    assert!(after < before + GROWTH_BYTES_MAX, "{before} bytes resident, then {after}; seed {seed}");
    // Clients that go in the middle of anything, by a reset.
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..1_000 {
        let bytes = stream(&mut random, &requests);
        let mut client = Client::connect(host.address);
        let _ = client.send(&bytes[..random.random_range(0..=bytes.len().min(4_096))]);
        client.reset();
    }
    eventually("all is given back", Duration::from_secs(20), || {
        let metrics = host.metrics();
        let sum = |name: &str| -> f64 {
            metrics.iter().filter(|(sample, _)| sample.starts_with(name)).map(|(_, value)| value).sum()
        };
        (sum("boxoffice_connections_open") == 0.0 && sum("boxoffice_buffered_bytes") == 0.0).then_some(())
    });
    host.client().get("/v1/sales/a").expect(200);
    host.stop();
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}
