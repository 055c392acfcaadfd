//! What stands between a host and its Redis, or between a client and a host: connections that break where a test
//! says, a fixed address in front of a Redis that changes, and answers that lie.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use boxoffice::ledger::redis::codec::frame_length;

use crate::support::client::{Client, PATIENCE, read_once};

/// Where the next connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nowhere.
    Never,
    /// Once so many bytes of Redis' replies are through, not counting those of the connection's set-up.
    Reply(u64),
    /// Once so many bytes of the host's requests are through, counted from the first call.
    Request(u64),
}

struct Switch {
    upstream: Mutex<PathBuf>,
    next_cut: Mutex<Box<dyn FnMut() -> Cut + Send>>,
    open: Mutex<Vec<UnixStream>>,
    cuts: AtomicU64,
    ended: AtomicBool,
}

/// A UNIX socket in front of Redis' own.
pub struct RedisProxy {
    path: PathBuf,
    switch: Arc<Switch>,
}

impl RedisProxy {
    /// Listens at `path`; each connection is led to `upstream` and breaks where `next_cut` says.
    pub fn start(path: &Path, upstream: &Path, next_cut: impl FnMut() -> Cut + Send + 'static) -> RedisProxy {
        let listener = UnixListener::bind(path).expect("a socket of our own");
        let switch = Arc::new(Switch {
            upstream: Mutex::new(upstream.to_owned()),
            next_cut: Mutex::new(Box::new(next_cut)),
            open: Mutex::new(Vec::new()),
            cuts: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&switch);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let upstream = lock(&serving.upstream).clone();
                // Refused as the upstream would refuse it: by a connection that ends.
                let Ok(server) = UnixStream::connect(upstream) else { continue };
                lead(client, server, &serving);
            }
        });
        RedisProxy { path: path.to_owned(), switch }
    }

    /// As `--ledger` takes it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.path.display())
    }

    /// How many connections were cut where they were to be.
    pub fn cuts(&self) -> u64 {
        self.switch.cuts.load(Ordering::Relaxed)
    }

    /// Leads all that comes from now on to another Redis, and breaks what there is.
    pub fn switch_to(&self, upstream: &Path) {
        *lock(&self.switch.upstream) = upstream.to_owned();
        self.break_all();
    }

    /// Breaks every connection.
    pub fn break_all(&self) {
        for stream in lock(&self.switch.open).drain(..) {
            // One that is closed already needs nothing.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Says where connections break from now on.
    pub fn cut_by(&self, next_cut: impl FnMut() -> Cut + Send + 'static) {
        *lock(&self.switch.next_cut) = Box::new(next_cut);
    }
}

impl Drop for RedisProxy {
    fn drop(&mut self) {
        self.switch.ended.store(true, Ordering::Relaxed);
        self.break_all();
        // Lets `incoming` return.
        let _ = UnixStream::connect(&self.path);
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lead(client: UnixStream, server: UnixStream, switch: &Arc<Switch>) {
    let cut = (lock(&switch.next_cut))();
    {
        let mut open = lock(&switch.open);
        open.push(client.try_clone().expect("a descriptor"));
        open.push(server.try_clone().expect("a descriptor"));
        // Ends of connections that are long gone.
        let excess = open.len().saturating_sub(200);
        open.drain(..excess);
    }
    let (to_server, to_client) =
        (client.try_clone().expect("a descriptor"), server.try_clone().expect("a descriptor"));
    let (of_requests, of_replies) = (Arc::clone(switch), Arc::clone(switch));
    let request_bytes = if let Cut::Request(bytes) = cut { Some(bytes) } else { None };
    let reply_bytes = if let Cut::Reply(bytes) = cut { Some(bytes) } else { None };
    std::thread::spawn(move || carry(to_server, server, first_call, request_bytes, &of_requests));
    std::thread::spawn(move || carry(to_client, client, end_of_set_up, reply_bytes, &of_replies));
}

/// Carries bytes from one to the other; where `bytes` is given, cuts both once so many are through behind the set-up,
/// whose length `set_up` finds in the stream once it is there whole.
fn carry(
    mut from: UnixStream,
    mut to: UnixStream,
    set_up: fn(&[u8]) -> Option<usize>,
    bytes: Option<u64>,
    switch: &Switch,
) {
    let mut buffer = vec![0; 64 * 1024];
    let (mut begun, mut passed, mut set_up_length) = (Vec::new(), 0, None);
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let mut read = &buffer[..count];
        if let Some(bytes) = bytes {
            if set_up_length.is_none() {
                begun.extend_from_slice(read);
                set_up_length = set_up(&begun);
            }
            if let Some(length) = set_up_length {
                let left =
                    usize::try_from((length as u64 + bytes).saturating_sub(passed)).expect("a short stream");
                if left <= read.len() {
                    read = &read[..left];
                    let _ = to.write_all(read);
                    switch.cuts.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
        }
        passed += read.len() as u64;
        if to.write_all(read).is_err() {
            break;
        }
    }
    // Both sides: a half-closed connection is no broken one.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Where the first call of a sale begins in what a host sends: behind the question for rights, which has one key.
fn first_call(sent: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"$7\r\nEVALSHA\r\n";
    const HASH_BYTES: usize = b"$40\r\n".len() + 40 + b"\r\n".len();
    let mut from = 0;
    loop {
        let at = from + sent[from..].windows(NAME.len()).position(|window| window == NAME)?;
        from = at + NAME.len();
        let keys = sent.get(from + HASH_BYTES..)?.get(..b"$1\r\n1\r\n".len())?;
        if keys != b"$1\r\n1\r\n" {
            // `*14\r\n` is before it.
            return sent[..at].iter().rposition(|byte| *byte == b'*');
        }
    }
}

/// Where the first reply begins that is neither `+OK`, as of a greeting, nor the role of the Redis, nor about which connection it
/// is, nor the hash of a script, nor about rights.
fn end_of_set_up(replied: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < replied.len() {
        let rest = &replied[at..];
        let line = rest.windows(2).position(|window| window == b"\r\n")? + 2;
        at += match rest[0] {
            b'+' | b':' => line,
            b'*' if rest.starts_with(b"*3\r\n$6\r\nmaster\r\n") => frame_length(rest).ok()??,
            b'$' => {
                let length: Option<usize> =
                    std::str::from_utf8(&rest[1..line - 2]).ok().and_then(|length| length.parse().ok());
                let Some(length) = length else { return Some(at) };
                let string = rest.get(line..line + length)?;
                let is_hash = length == 40
                    && string.iter().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
                let is_of_rights = string.starts_with(b"may ");
                if !is_hash && length > 0 && !string.starts_with(b"id=") && !is_of_rights {
                    return Some(at);
                }
                line + length + 2
            }
            _ => return Some(at),
        };
    }
    None
}

/// How a proxy in front of a host lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A 503 becomes 201.
    Booked,
    /// A 503 becomes "sold out".
    SoldOut,
    /// Each `PUT` is sent twice, the second time under another id.
    NewId,
}

/// A proxy that lies to clients. It serves a connection at a time and ends with the test's process.
pub fn liar(host: SocketAddr, lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Whoever hangs up ends its connection, nothing else.
            let _ = lie_to(client, host, lie);
        }
    });
    address
}

fn lie_to(mut client: TcpStream, host: SocketAddr, lie: Lie) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut upstream = Client::try_connect(host)?;
    while let Some((method, target, body)) = read_request(&mut client)? {
        let answer = upstream.try_ask(&method, &target, Some(&body))?;
        if lie == Lie::NewId {
            upstream.try_ask(&method, &format!("{target}-again"), Some(&body))?;
        }
        let id = target.rsplit('/').next().unwrap_or_default();
        let (status, body) = match (answer.status, lie) {
            (503, Lie::Booked) => {
                let asked: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                let (quantity, buyer) = (&asked["quantity"], &asked["buyer"]);
                let booking = serde_json::json!({
                    "booking": id, "status": "confirmed", "quantity": quantity, "buyer": buyer,
                });
                (201, booking.to_string())
            }
            (503, Lie::SoldOut) => (409, r#"{"type":"/problems/sold-out","status":409}"#.to_owned()),
            (status, _) => (status, answer.text().to_owned()),
        };
        let replayed = match answer.field("idempotency-replayed") {
            Some(value) => format!("Idempotency-Replayed: {value}\r\n"),
            None => String::new(),
        };
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 {status} Said\r\nRetry-After: 1\r\n{replayed}Content-Length: {length}\r\n\r\n{body}"
        )?;
    }
    Ok(())
}

/// A request of [`Client`]'s: method, target and body; `None` at the end.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<(String, String, String)>> {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") {
        if read_once(client, &mut byte)? == 0 {
            return Ok(None);
        }
        read.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&read).into_owned();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
    client.read_exact(&mut body)?;
    Ok(Some((method.to_owned(), target.to_owned(), String::from_utf8_lossy(&body).into_owned())))
}
