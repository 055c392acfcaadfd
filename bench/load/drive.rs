//! Requests as fast as they are answered, or at a fixed rate.
//!
//! At a fixed rate request `n` is to leave `n / rate` after the start. Where no connection is free it leaves later, and its
//! latency still counts from when it was to leave: a server that stalls is not spared the requests that it kept waiting.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::net::{self, Got};
use super::script::{Asked, Kind, Script};

const TIMER: Token = Token(usize::MAX);
/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that are being opened at a time: fewer than a listener's backlog.
const OPENING_MAX: usize = 256;
/// Where the latencies are told, in parts of one.
const QUANTILES: [f64; 12] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

#[derive(Args, Clone)]
pub struct Options {
    /// The server
    #[arg(long, value_parser = super::loopback)]
    to: SocketAddr,
    /// What to ask
    #[arg(long, value_enum, default_value = "buy")]
    kind: Kind,
    /// The sale
    #[arg(long, default_value = "ticket")]
    sale: String,
    /// Ask for sales SALE-0 to SALE-(N-1) in turn
    #[arg(long, default_value_t = 0)]
    sales: u32,
    /// What ids begin with
    #[arg(long, default_value = "load")]
    prefix: String,
    /// Connections, over all threads
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Requests a second, over all threads; 0: as fast as they are answered
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Requests that leave together on a connection, the next ones once all are answered
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// A connection for each request
    #[arg(long)]
    close: bool,
    /// How long to ask
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Ask no more than this often, over all threads; 0: until the time is over
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// Say "ready" once all connections are there, begin at a line on standard input, and leave them open until it ends:
    /// whoever measures a server then measures neither its accepting nor its closing
    #[arg(long)]
    paced: bool,
    /// Ask this often before it counts, over all threads: a connection's first request costs a server more than the others
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
}

struct Client {
    stream: TcpStream,
    output: Vec<u8>,
    written: usize,
    writable: bool,
    input: Vec<u8>,
    waiting: VecDeque<(Instant, Asked)>,
}

struct Thread {
    options: Options,
    poll: Poll,
    clients: Vec<Client>,
    /// Connections on which nothing is asked.
    free: VecDeque<usize>,
    script: Script,
    opened: usize,
    first_number: usize,
    asked: u64,
    seen: Seen,
}

/// What was seen.
struct Seen {
    latencies: Histogram<u64>,
    statuses: BTreeMap<u16, u64>,
    granted: u64,
    sold_out: u64,
    broken: u64,
    answered: u64,
    unanswered: u64,
    seconds: f64,
}

impl Seen {
    fn new() -> Seen {
        let latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are valid");
        let statuses = BTreeMap::new();
        Seen {
            latencies,
            statuses,
            granted: 0,
            sold_out: 0,
            broken: 0,
            answered: 0,
            unanswered: 0,
            seconds: 0.0,
        }
    }

    fn add(&mut self, other: &Seen) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.latencies.add(&other.latencies)?;
        for (&status, count) in &other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.granted += other.granted;
        self.sold_out += other.sold_out;
        self.broken += other.broken;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        self.seconds = self.seconds.max(other.seconds);
        Ok(())
    }

    fn report(&self) -> String {
        let us = |quantile: f64| self.latencies.value_at_quantile(quantile) as f64 / 1000.0;
        serde_json::json!({
            "answered": self.answered,
            "seconds": self.seconds,
            "per_second": self.answered as f64 / self.seconds,
            "statuses": self.statuses,
            "granted": self.granted,
            "sold_out": self.sold_out,
            "broken": self.broken,
            "unanswered": self.unanswered,
            "latency_us": {
                "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p999": us(0.999),
                "max": self.latencies.max() as f64 / 1000.0,
            },
            "curve_us": QUANTILES.map(|quantile| [quantile, us(quantile)]),
        })
        .to_string()
    }
}

pub fn run(options: &Options) -> Result<String, Box<dyn Error + Send + Sync>> {
    if options.threads == 0 || options.pipeline == 0 || options.connections < options.threads {
        return Err("takes at least one thread, one request at a time, and a connection a thread".into());
    }
    let mut threads = Vec::with_capacity(options.threads);
    for index in 0..options.threads {
        let mut options = options.clone();
        let share = |whole: usize| whole * (index + 1) / options.threads - whole * index / options.threads;
        let first_number = options.connections * index / options.threads;
        let connections = share(options.connections);
        options.requests = share(options.requests as usize) as u64;
        options.rate /= options.threads as f64;
        options.connections = connections;
        options.prefix = format!("{}-{index}", options.prefix);
        let warm_up = share(options.warm_up as usize) as u64;
        let mut thread = Thread::new(options, first_number)?;
        if warm_up > 0 {
            thread.warm_up(warm_up)?;
        }
        threads.push(thread);
    }
    let mut input = io::stdin().lines();
    if options.paced {
        println!("ready");
        input.next().ok_or("standard input ended before it said to begin")??;
    }
    let running: Vec<_> =
        threads.into_iter().map(|mut thread| thread::spawn(move || thread.run().map(|()| thread))).collect();
    let mut all = Seen::new();
    let mut done = Vec::with_capacity(options.threads);
    for thread in running {
        let thread = thread.join().expect("a thread of load does not panic")?;
        all.add(&thread.seen)?;
        done.push(thread);
    }
    if options.paced {
        println!("{}", all.report());
        input.for_each(drop);
        return Ok("ended".to_owned());
    }
    Ok(all.report())
}

impl Thread {
    fn new(options: Options, first_number: usize) -> io::Result<Thread> {
        let script =
            Script::new(options.kind, &options.sale, options.sales, options.prefix.clone(), options.close);
        let mut thread = Thread {
            poll: Poll::new()?,
            clients: Vec::with_capacity(options.connections),
            free: VecDeque::new(),
            script,
            opened: 0,
            first_number,
            asked: 0,
            seen: Seen::new(),
            options,
        };
        thread.open_all()?;
        Ok(thread)
    }

    /// Opens all connections, some at a time.
    fn open_all(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(OPENING_MAX);
        let mut there = 0;
        while there < self.options.connections {
            while self.clients.len() < self.options.connections.min(there + OPENING_MAX) {
                let client = self.open(self.clients.len())?;
                self.clients.push(client);
            }
            match self.poll.poll(&mut events, Some(PATIENCE)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            if events.is_empty() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server takes no more connections"));
            }
            for event in &events {
                let client = &mut self.clients[event.token().0];
                if event.is_error() || event.is_read_closed() {
                    return Err(io::Error::other("the server does not keep a connection"));
                }
                there += usize::from(event.is_writable() && !client.writable);
                client.writable |= event.is_writable();
            }
        }
        Ok(())
    }

    fn open(&mut self, index: usize) -> io::Result<Client> {
        let source = match self.options.close {
            true => net::source_of_short_lived(self.opened),
            false => net::source_of(self.first_number + index),
        };
        let mut stream = net::connect(self.options.to, source)?;
        self.opened += 1;
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        self.free.push_back(index);
        Ok(Client {
            stream,
            output: Vec::new(),
            written: 0,
            writable: false,
            input: Vec::new(),
            waiting: VecDeque::new(),
        })
    }

    /// Asks that often, and forgets what it saw.
    fn warm_up(&mut self, requests: u64) -> io::Result<()> {
        let measured = self.options.clone();
        let seconds = PATIENCE.as_secs_f64();
        self.options = Options { requests, seconds, rate: 0.0, ..measured.clone() };
        self.run()?;
        if self.seen.answered < requests || self.seen.broken > 0 {
            return Err(io::Error::other("not all requests of the warm-up were answered"));
        }
        self.options = measured;
        self.asked = 0;
        self.seen = Seen::new();
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut room = vec![0; 64 * 1024];
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        self.poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let start = Instant::now();
        let end = start + Duration::from_secs_f64(self.options.seconds);
        let mut last = start;
        loop {
            let now = Instant::now();
            let is_over = now >= end || (self.options.requests > 0 && self.asked >= self.options.requests);
            if is_over
                && (self.clients.iter().all(|client| client.waiting.is_empty()) || now > last + PATIENCE)
            {
                break;
            }
            if !is_over {
                last = now;
                self.ask_what_is_due(start, now);
                if self.options.rate > 0.0 && !self.free.is_empty() {
                    let due = start + Duration::from_secs_f64(self.asked as f64 / self.options.rate);
                    set_timer(&timer, due.saturating_duration_since(Instant::now()))?;
                }
            }
            let wait = if is_over { Duration::from_millis(10) } else { end.saturating_duration_since(now) };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                if event.token() != TIMER {
                    self.clients[event.token().0].writable |= event.is_writable();
                    self.handle(event.token().0, &mut room)?;
                }
            }
        }
        self.seen.unanswered = self.clients.iter().map(|client| client.waiting.len() as u64).sum();
        // The time in which requests were begun; where the answers took longer than that, the time until the last.
        self.seen.seconds = (Instant::now() - start).as_secs_f64();
        Ok(())
    }

    fn ask_what_is_due(&mut self, start: Instant, now: Instant) {
        let due = match self.options.rate > 0.0 {
            true => ((now - start).as_secs_f64() * self.options.rate) as u64 + 1,
            false => u64::MAX,
        };
        let limit = if self.options.requests > 0 { self.options.requests } else { u64::MAX };
        while self.asked < due.min(limit) {
            let Some(index) = self.free.pop_front() else { return };
            for _ in 0..self.options.pipeline {
                if self.asked == due.min(limit) {
                    break;
                }
                let intended = match self.options.rate > 0.0 {
                    true => start + Duration::from_secs_f64(self.asked as f64 / self.options.rate),
                    false => now,
                };
                let client = &mut self.clients[index];
                let asked = self.script.ask(&mut client.output);
                client.waiting.push_back((intended, asked));
                self.asked += 1;
            }
            if self.clients[index].writable {
                self.flush(index);
            }
        }
    }

    fn flush(&mut self, index: usize) {
        let client = &mut self.clients[index];
        while client.writable && client.written < client.output.len() {
            match client.stream.write(&client.output[client.written..]) {
                Ok(bytes) => client.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What is wrong, if something is, the next read tells.
                Err(_) => client.writable = false,
            }
        }
        if client.written == client.output.len() {
            client.output.clear();
            client.written = 0;
        }
    }

    fn handle(&mut self, index: usize, room: &mut [u8]) -> io::Result<()> {
        self.flush(index);
        loop {
            let client = &mut self.clients[index];
            match net::read(&mut client.stream, room, &mut client.input) {
                Got::Nothing => return Ok(()),
                Got::End => {
                    self.seen.broken += u64::from(!self.options.close || !client.waiting.is_empty());
                    self.seen.unanswered += client.waiting.len() as u64;
                    return self.reopen(index);
                }
                Got::Bytes(bytes) => {
                    let is_over = self.handle_answers(index)?;
                    if is_over {
                        return self.reopen(index);
                    }
                    if bytes < room.len() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Counts the answers that came; whether the connection ends behind them.
    fn handle_answers(&mut self, index: usize) -> io::Result<bool> {
        let now = Instant::now();
        let client = &mut self.clients[index];
        let mut at = 0;
        let mut closes = false;
        let had = client.waiting.len();
        while let Some(answer) = net::answer(&client.input[at..])? {
            at += answer.bytes;
            closes |= answer.closes;
            let (intended, asked) = client
                .waiting
                .pop_front()
                .ok_or_else(|| io::Error::other("an answer that nobody asked for"))?;
            self.seen.latencies.saturating_record((now - intended).as_nanos() as u64);
            self.seen.answered += 1;
            *self.seen.statuses.entry(answer.status).or_default() += 1;
            let granted = answer.status == 201 || answer.body.starts_with(b"{\"code\":1,");
            self.seen.granted += u64::from(granted);
            let sold_out = answer.body.starts_with(b"{\"code\":-1,")
                || (answer.status == 409 && answer.body.windows(8).any(|part| part == b"sold-out"));
            self.seen.sold_out += u64::from(sold_out);
            if granted && let Some(next) = self.script.go_on(asked, &mut client.output) {
                client.waiting.push_back((now, next));
            }
        }
        client.input.drain(..at);
        if had > 0 && client.waiting.is_empty() && !closes {
            self.free.push_back(index);
        }
        if client.written < client.output.len() {
            self.flush(index);
        }
        Ok(closes)
    }

    fn reopen(&mut self, index: usize) -> io::Result<()> {
        self.free.retain(|&free| free != index);
        let number = self.opened;
        self.clients[index] = self
            .open(index)
            .map_err(|error| io::Error::new(error.kind(), format!("connection {number}: {error}")))?;
        Ok(())
    }
}

fn set_timer(timer: &impl std::os::fd::AsFd, after: Duration) -> io::Result<()> {
    // A time of zero would disarm it.
    let after = after.max(Duration::from_nanos(1));
    let value = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: i64::from(after.subsec_nanos()) };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}
