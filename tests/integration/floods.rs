//! Crowds that ask and do not read, beside clients that do: who pays for the room they take.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::client::Client;
use crate::support::host::Host;
use crate::support::process::resident_bytes;
use crate::support::turn;
use crate::support::{eventually, one_core};

/// Connections of the crowd.
const CROWD: usize = 800;
/// What each asks in one go, and again as soon as it is taken.
const REQUESTS_BYTES: usize = 42_000;
/// What one loop may hold.
const BUFFERED_BYTES: f64 = 20.0 * 1024.0 * 1024.0;
/// What the crowd sends in a second, at most, and in all, at least. Its answers are four times as much.
const BYTES_PER_SECOND: f64 = 6e6;
const FLOOD_BYTES: u64 = 36_000_000;

/// One that asks, and reads nothing, or a byte a second.
struct Flooder {
    stream: TcpStream,
    requests: Vec<u8>,
    sent: usize,
    read_at: Instant,
}

impl Flooder {
    fn connect(address: SocketAddr) -> Flooder {
        // Segments as on an Ethernet, and a small window: over loopback the kernel would take megabytes of what is not read.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_tcp_mss(1_400).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true).unwrap();
        let request = b"GET /buy/gone HTTP/1.1\r\nHost: h\r\n\r\n";
        let requests = request.repeat(REQUESTS_BYTES / request.len());
        Flooder { stream, requests, sent: 0, read_at: Instant::now() }
    }

    /// Sends what is taken; `None` where the server has cut it.
    fn go_on(&mut self, reads: bool) -> Option<usize> {
        if reads && self.read_at.elapsed() >= Duration::from_secs(1) {
            self.read_at = Instant::now();
            match self.stream.read(&mut [0]) {
                Ok(0) => return None,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return None,
                _ => {}
            }
        }
        match self.stream.write(&self.requests[self.sent..]) {
            Ok(bytes) => {
                self.sent = (self.sent + bytes) % self.requests.len();
                Some(bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }
}

/// A crowd on a host of one loop, until it has sent enough and some of it were cut; meanwhile ordinary clients ask, and each
/// of their answers is the one that they came for.
fn nobody_else_is_refused(reads: bool) {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let limits =
        ["buffered-bytes=20MiB", "write-stall=10m", "requests=0"].map(|limit| ["--limit", limit]).concat();
    let sales = ["--sale", "gone=0", "--sale", "ticket=1000000000", "--cores", &one_core()];
    let host = Host::start(folder.path(), &[&sales[..], &limits].concat());
    let address = host.address;
    let rest = resident_bytes(host.process.id());
    let (is_over, sent, asked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut crowd: Vec<_> = (0..CROWD).map(|_| Flooder::connect(address)).collect();
            let started = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                // Once every connection had its turn, so that they all take the same part.
                let due = started.elapsed().as_secs_f64() * BYTES_PER_SECOND;
                if sent.load(Ordering::Relaxed) as f64 > due {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let mut taken = 0;
                for flooder in &mut crowd {
                    match flooder.go_on(reads) {
                        Some(bytes) => taken += bytes,
                        None => *flooder = Flooder::connect(address),
                    }
                }
                sent.fetch_add(taken as u64, Ordering::Relaxed);
                if taken == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let others: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let mut clients: Vec<_> = (0..10).map(|_| Client::connect(address)).collect();
                    while !is_over.load(Ordering::Relaxed) {
                        for client in &mut clients {
                            client.get("/buy/gone").expect(200);
                            assert_eq!(client.get("/buy/ticket").expect(200).json()["code"], 1);
                            asked.fetch_add(2, Ordering::Relaxed);
                        }
                        // A newcomer, too.
                        clients[0] = Client::connect(address);
                    }
                })
            })
            .collect();
        let mut most = 0.0_f64;
        let mut cut = || -> f64 {
            let metrics = host.metrics();
            let buffered: f64 = metrics
                .iter()
                .filter(|(name, _)| name.starts_with("boxoffice_buffered_bytes"))
                .map(|(_, bytes)| bytes)
                .sum();
            most = most.max(buffered);
            metrics["boxoffice_connections_cut_total{reason=\"unread\"}"]
        };
        eventually("a crowd that pays", Duration::from_secs(300), || {
            let is_done = cut() >= 50.0
                && sent.load(Ordering::Relaxed) >= FLOOD_BYTES
                && asked.load(Ordering::Relaxed) >= 2_000;
            // Whoever of the others was refused has ended with that.
            (is_done || others.iter().any(|thread| thread.is_finished())).then_some(())
        });
        is_over.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert!((BUFFERED_BYTES / 2.0..=BUFFERED_BYTES).contains(&most), "{most} bytes were buffered");
    });
    let metrics = host.metrics();
    assert_eq!(metrics["boxoffice_malformed_requests_total{reason=\"overloaded\"}"], 0.0);
    let refused = metrics.iter().filter(|(name, _)| name.starts_with("boxoffice_connections_refused_total"));
    assert_eq!(refused.map(|(_, count)| count).sum::<f64>(), 0.0);
    // Beside the buffers: what the pool keeps of them, and what the allocator does.
    let grown = resident_bytes(host.process.id()).saturating_sub(rest) as f64;
    assert!(grown <= 2.0 * BUFFERED_BYTES, "{grown} bytes more than at rest");
}

#[test]
fn a_crowd_that_reads_nothing_pays_for_itself() {
    nobody_else_is_refused(false);
}

#[test]
fn a_crowd_that_reads_a_byte_a_second_pays_for_itself() {
    nobody_else_is_refused(true);
}
