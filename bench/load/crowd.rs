//! Connections that do little: idle ones, and ones that dribble a request head.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::net::{self, Got};

type Outcome = Result<String, Box<dyn Error + Send + Sync>>;

/// Connections that are being opened at a time: fewer than a listener's backlog.
const OPENING_MAX: usize = 256;
/// Each connection sends a byte in one of this many ticks of a second: so many that they are no bursts, which clients of
/// their own would not send either.
const TICKS: usize = 1_000;
/// They begin over as many seconds, as long as a server takes to cut them: otherwise all would be cut, and open anew, in the
/// same second.
const BEGIN_OVER: usize = 10;
const TICK: Duration = Duration::from_millis(1000 / TICKS as u64);

#[derive(Args)]
pub struct Options {
    /// The server
    #[arg(long, value_parser = super::loopback)]
    to: SocketAddr,
    /// Connections
    #[arg(long)]
    connections: usize,
    /// The number of the first one, which says from which loopback address it comes
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// The sale that is asked for
    #[arg(long, default_value = "ticket")]
    sale: String,
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    is_open: bool,
    sent: usize,
    since: Instant,
}

struct Crowd<'a> {
    options: &'a Options,
    poll: Poll,
    events: Events,
    room: Vec<u8>,
    clients: Vec<Client>,
}

/// What is to be done about a connection.
enum Happened {
    Opened(usize),
    Answered(usize),
    Ended(usize),
}

impl<'a> Crowd<'a> {
    fn new(options: &'a Options) -> io::Result<Crowd<'a>> {
        let room = vec![0; 16 * 1024];
        Ok(Crowd {
            options,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            room,
            clients: Vec::new(),
        })
    }

    fn open(&mut self, index: usize) -> io::Result<Client> {
        let mut stream = net::connect(self.options.to, net::source_of(self.options.first + index))?;
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Client { stream, input: Vec::new(), is_open: false, sent: 0, since: Instant::now() })
    }

    fn wait(&mut self, at_most: Duration) -> io::Result<Vec<Happened>> {
        match self.poll.poll(&mut self.events, Some(at_most)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Vec::new()),
            outcome => outcome?,
        }
        let mut happened = Vec::new();
        for event in &self.events {
            let index = event.token().0;
            let client = &mut self.clients[index];
            if event.is_writable() && !client.is_open && client.stream.peer_addr().is_ok() {
                client.is_open = true;
                happened.push(Happened::Opened(index));
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                loop {
                    match net::read(&mut client.stream, &mut self.room, &mut client.input) {
                        Got::Bytes(_) => happened.push(Happened::Answered(index)),
                        Got::Nothing => break,
                        Got::End => {
                            happened.push(Happened::Ended(index));
                            break;
                        }
                    }
                }
            }
        }
        Ok(happened)
    }

    /// Opens all, some at a time; tells `each` of what happens meanwhile.
    fn open_all(&mut self, mut each: impl FnMut(&mut Self, Happened) -> io::Result<()>) -> io::Result<()> {
        let mut opening = 0;
        while self.clients.len() < self.options.connections || opening > 0 {
            while opening < OPENING_MAX && self.clients.len() < self.options.connections {
                let client = self.open(self.clients.len())?;
                self.clients.push(client);
                opening += 1;
            }
            for happened in self.wait(Duration::from_secs(1))? {
                opening -= usize::from(matches!(happened, Happened::Opened(_)));
                each(self, happened)?;
            }
        }
        Ok(())
    }
}

/// Set once standard input has ended: whoever started this wants the report.
pub fn end_of_input() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    });
    ended
}

pub fn say_ready() -> io::Result<()> {
    println!("ready");
    io::stdout().flush()
}

/// Opens connections, asks once on each, and leaves them.
pub fn idle(options: &Options) -> Outcome {
    let ended = end_of_input();
    let mut crowd = Crowd::new(options)?;
    let request = format!("GET /buy/{} HTTP/1.1\r\nHost: load\r\n\r\n", options.sale);
    let (mut answered, mut closed, mut refused) = (0_usize, 0_usize, 0_usize);
    let mut handle = |crowd: &mut Crowd<'_>, happened| -> io::Result<()> {
        match happened {
            Happened::Opened(index) => crowd.clients[index].stream.write_all(request.as_bytes())?,
            Happened::Answered(index) => {
                let client = &mut crowd.clients[index];
                if let Some(answer) = net::answer(&client.input)? {
                    answered += 1;
                    refused += usize::from(answer.status != 200);
                    client.input = Vec::new();
                }
            }
            Happened::Ended(_) => closed += 1,
        }
        Ok(())
    };
    crowd.open_all(&mut handle)?;
    let mut is_ready = false;
    while !ended.load(Ordering::Relaxed) {
        for happened in crowd.wait(Duration::from_millis(100))? {
            handle(&mut crowd, happened)?;
        }
        if !is_ready && crowd.clients.iter().all(|client| client.is_open && client.input.is_empty()) {
            is_ready = true;
            say_ready()?;
        }
    }
    Ok(serde_json::json!({
        "connections": options.connections, "answered": answered, "refused": refused, "closed": closed,
    })
    .to_string())
}

/// Opens connections that send a byte of a head each second, and never its last.
pub fn dribble(options: &Options) -> Outcome {
    let ended = end_of_input();
    let mut crowd = Crowd::new(options)?;
    let head = format!("GET /buy/{} HTTP/1.1\r\nHost: load\r\nX: {}", options.sale, "x".repeat(4096));
    let head = head.as_bytes();
    let mut cut_after_ms: Vec<u64> = Vec::new();
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let mut silent_cuts = 0_u64;
    let mut sent = 0_u64;
    let mut handle = |crowd: &mut Crowd<'_>, happened| -> io::Result<()> {
        let Happened::Ended(index) = happened else { return Ok(()) };
        let client = &crowd.clients[index];
        match net::answer(&client.input).ok().flatten() {
            Some(answer) => *statuses.entry(answer.status).or_default() += 1,
            None => silent_cuts += 1,
        }
        if client.sent > 0 {
            cut_after_ms.push(client.since.elapsed().as_millis() as u64);
        }
        crowd.clients[index] = crowd.open(index)?;
        Ok(())
    };
    crowd.open_all(&mut handle)?;
    let start = Instant::now();
    let mut tick = 0_u32;
    while !ended.load(Ordering::Relaxed) {
        let next = start + TICK * tick;
        let wait = next.saturating_duration_since(Instant::now());
        for happened in crowd.wait(wait)? {
            handle(&mut crowd, happened)?;
        }
        if Instant::now() < next {
            continue;
        }
        let (second, first) = (tick as usize / TICKS, tick as usize % TICKS);
        if (second, first) == (BEGIN_OVER, 0) {
            say_ready()?;
        }
        for (round, client) in crowd.clients.iter_mut().skip(first).step_by(TICKS).enumerate() {
            if round % BEGIN_OVER > second {
                continue;
            }
            let byte = &head[client.sent..=client.sent];
            if client.is_open && client.stream.write(byte).is_ok() {
                if client.sent == 0 {
                    client.since = Instant::now();
                }
                client.sent += 1;
                sent += 1;
            }
        }
        tick += 1;
    }
    cut_after_ms.sort_unstable();
    let at = |part: usize| cut_after_ms.get((cut_after_ms.len().max(1) - 1) * part / 100);
    Ok(serde_json::json!({
        "connections": options.connections,
        "bytes": sent,
        "seconds": start.elapsed().as_secs_f64(),
        "cuts": cut_after_ms.len(),
        "answers": statuses,
        "without_answer": silent_cuts,
        "cut_after_ms": { "least": at(0), "median": at(50), "most": at(100) },
    })
    .to_string())
}
