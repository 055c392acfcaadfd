//! Connections that ask without end and do not read what they are answered, or a byte a second of it.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use socket2::{Domain, Socket, Type};

use super::crowd;

/// What a connection asks, again and again, and how much of it at a time: a segment's worth, so that the bytes of a second are
/// spread over it.
const REQUESTS_BYTES: usize = 42_000;
const PIECE_BYTES: usize = 1_400;
/// Bytes of a segment, and of a window: as on an Ethernet, where the kernel does not take megabytes of what is not read, as it
/// does over loopback.
const SEGMENT_BYTES: u32 = 1_400;
const WINDOW_BYTES: usize = 4_096;
/// Between two looks, where nothing more is due or taken.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Args)]
pub struct Options {
    /// The server
    #[arg(long, value_parser = super::loopback)]
    to: SocketAddr,
    /// Connections
    #[arg(long)]
    connections: usize,
    /// Bytes of requests a second, of all together
    #[arg(long)]
    bytes_per_second: u64,
    /// Read a byte of the answers each second, instead of nothing
    #[arg(long)]
    reads: bool,
    /// The sale that is asked for
    #[arg(long, default_value = "ticket")]
    sale: String,
}

struct Flooder {
    stream: TcpStream,
    /// So much of the requests has gone out since they last began.
    sent: usize,
    read_at: Instant,
}

impl Flooder {
    fn connect(to: SocketAddr) -> io::Result<Flooder> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_tcp_mss(SEGMENT_BYTES)?;
        socket.set_recv_buffer_size(WINDOW_BYTES)?;
        socket.connect(&to.into())?;
        socket.set_nonblocking(true)?;
        Ok(Flooder { stream: socket.into(), sent: 0, read_at: Instant::now() })
    }

    /// How many bytes the server takes now; `None` where it has ended the connection.
    fn go_on(&mut self, requests: &[u8], reads: bool) -> Option<usize> {
        let waits =
            |error: &io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        if reads && self.read_at.elapsed() >= Duration::from_secs(1) {
            self.read_at = Instant::now();
            match self.stream.read(&mut [0]) {
                Ok(0) => return None,
                Err(error) if !waits(&error) => return None,
                _ => {}
            }
        }
        let end = requests.len().min(self.sent + PIECE_BYTES);
        match self.stream.write(&requests[self.sent..end]) {
            Ok(bytes) => {
                self.sent = (self.sent + bytes) % requests.len();
                Some(bytes)
            }
            Err(error) if waits(&error) => Some(0),
            Err(_) => None,
        }
    }
}

/// Floods until standard input ends; whoever the server ends comes anew.
pub fn run(options: &Options) -> Result<String, Box<dyn Error + Send + Sync>> {
    let ended = crowd::end_of_input();
    let request = format!("GET /buy/{} HTTP/1.1\r\nHost: load\r\n\r\n", options.sale);
    let requests = request.repeat((REQUESTS_BYTES / request.len()).max(1)).into_bytes();
    let mut flooders =
        (0..options.connections).map(|_| Flooder::connect(options.to)).collect::<io::Result<Vec<_>>>()?;
    crowd::say_ready()?;
    let started = Instant::now();
    let (mut sent, mut cut) = (0_u64, 0_u64);
    let (mut next, mut taken_of_none) = (0, 0);
    while !ended.load(Ordering::Relaxed) {
        let due = started.elapsed().as_secs_f64() * options.bytes_per_second as f64;
        if sent as f64 >= due || taken_of_none >= flooders.len() {
            taken_of_none = 0;
            thread::sleep(PAUSE);
            continue;
        }
        // One after the other as bytes are due: clients of their own would not all send in the same moment.
        let flooder = &mut flooders[next];
        next = (next + 1) % options.connections;
        match flooder.go_on(&requests, options.reads) {
            Some(bytes) => {
                sent += bytes as u64;
                taken_of_none = if bytes == 0 { taken_of_none + 1 } else { 0 };
            }
            None => {
                cut += 1;
                *flooder = Flooder::connect(options.to)?;
            }
        }
    }
    Ok(serde_json::json!({
        "connections": options.connections,
        "bytes": sent,
        "seconds": started.elapsed().as_secs_f64(),
        "cuts": cut,
    })
    .to_string())
}
