//! One thread of a crowd: its buyers, the connections that they share, and when each is to ask.
//!
//! A buyer who is due and finds no free connection waits for one, and the wait counts. A buyer who loses patience takes the
//! connection along.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::script::{self, Act, BuyerStep, Next};
use super::{BuyerAnswer, CrowdError, CrowdProgress, Plan, Tally};

/// The timer: poll's own time-out is of whole milliseconds, and would be in every latency.
const TIMER: Token = Token(usize::MAX);

/// Bytes read in one go.
const READ_BYTES: usize = 16 * 1024;

/// Fields of an answer that are read: a host sends six.
const FIELDS_MAX: usize = 64;

/// Bytes of an answer that are kept until it is whole: a booking has under 400.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long the loop sleeps at most, so that it notices that it is to stop.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Between two tries to connect to a host that was there.
const REDIAL_AFTER: Duration = Duration::from_millis(100);

/// See the [module](self).
pub(super) struct Crowd<'a> {
    plan: &'a Plan,
    progress: &'a CrowdProgress,
    stop: &'a AtomicBool,
    poll: Poll,
    timer: OwnedFd,
    start: Instant,
    /// Those of an earlier crowd who are to give back, and nobody else comes.
    leavers: Option<&'a [u64]>,
    /// The next of this thread's buyers, by their own count, and how many there are.
    comes: u64,
    buyers: u64,
    index: u64,
    /// Due, and in want of a connection.
    due: VecDeque<(Instant, BuyerStep)>,
    later: BinaryHeap<Reverse<(Instant, u64, u32, Act)>>,
    connections: Vec<SharedConnection>,
    free: VecDeque<usize>,
    /// By when each that was asked is to be answered, in that order.
    patience: VecDeque<(Instant, usize, u64)>,
    /// Buyers who came and are not through.
    inside: u64,
    tally: Tally,
}

struct SharedConnection {
    stream: Option<TcpStream>,
    output: String,
    written: usize,
    input: Vec<u8>,
    asked: Option<(Instant, BuyerStep)>,
    /// Counts what was asked on it, so that an old patience is told from a new one.
    generation: u64,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        leavers: Option<&'a [u64]>,
        index: usize,
        progress: &'a CrowdProgress,
        stop: &'a AtomicBool,
    ) -> Result<Crowd<'a>, CrowdError> {
        let share = |whole: u64| {
            let (index, threads) = (index as u64, plan.threads as u64);
            // Buyers are dealt in turn, so that all threads have some at every moment.
            whole / threads + u64::from(index < whole % threads)
        };
        let connections = share(plan.connections as u64) as usize;
        let poll = Poll::new()?;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)
            .map_err(io::Error::from)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let connection = |_| SharedConnection {
            stream: None,
            output: String::new(),
            written: 0,
            input: Vec::new(),
            asked: None,
            generation: 0,
        };
        Ok(Crowd {
            plan,
            progress,
            stop,
            poll,
            timer,
            start: Instant::now(),
            leavers,
            comes: 0,
            buyers: share(leavers.map_or(plan.buyers, |leavers| leavers.len() as u64)),
            index: index as u64,
            due: VecDeque::new(),
            later: BinaryHeap::new(),
            connections: (0..connections).map(connection).collect(),
            free: (0..connections).collect(),
            patience: VecDeque::new(),
            inside: 0,
            tally: Tally::default(),
        })
    }

    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }

    pub(super) fn run(&mut self) -> Result<(), CrowdError> {
        let mut events = Events::with_capacity(1024);
        let mut room = vec![0; READ_BYTES];
        self.start = Instant::now();
        loop {
            let now = Instant::now();
            self.let_in(now);
            self.lose_patience(now);
            while let (Some(&(due, asking)), Some(&index)) = (self.due.front(), self.free.front()) {
                self.due.pop_front();
                self.free.pop_front();
                self.ask(index, due, asking, now);
            }
            let over = self.comes == self.buyers || self.stop.load(Ordering::Relaxed);
            if over && self.inside == 0 {
                self.tally.took = self.start.elapsed();
                return Ok(());
            }
            self.set_timer(now)?;
            match self.poll.poll(&mut events, Some(LOOK_UP)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                if event.token() != TIMER {
                    self.handle(event.token().0, &mut room);
                }
            }
        }
    }

    /// When a buyer comes, by this thread's own count.
    fn moment(&self, buyer: u64) -> Instant {
        let number = buyer * self.plan.threads as u64 + self.index;
        match self.leavers {
            Some(_) => self.start,
            None => self.start + Duration::from_secs_f64(number as f64 / self.plan.rate),
        }
    }

    fn let_in(&mut self, now: Instant) {
        let stopped = self.stop.load(Ordering::Relaxed);
        while self.comes < self.buyers && !stopped && self.moment(self.comes) <= now {
            let due = self.moment(self.comes);
            let number = self.comes * self.plan.threads as u64 + self.index;
            let (buyer, act) = match self.leavers {
                Some(leavers) => (leavers[number as usize], Act::GiveBack),
                None => (number, Act::Book),
            };
            self.due.push_back((due, BuyerStep { buyer, act, tried: 0 }));
            self.comes += 1;
            self.inside += 1;
            self.tally.buyers += 1;
        }
        while let Some(&Reverse((due, buyer, tried, act))) = self.later.peek() {
            if due > now {
                break;
            }
            self.later.pop();
            self.due.push_back((due, BuyerStep { buyer, act, tried }));
        }
    }

    fn lose_patience(&mut self, now: Instant) {
        while let Some(&(by, index, generation)) = self.patience.front() {
            let connection = &mut self.connections[index];
            let is_over = connection.generation != generation || connection.asked.is_none();
            if !is_over && by > now {
                break;
            }
            self.patience.pop_front();
            if !is_over {
                self.end(index, BuyerAnswer::Silence, now);
            }
        }
    }

    fn ask(&mut self, index: usize, due: Instant, asking: BuyerStep, now: Instant) {
        let connection = &mut self.connections[index];
        connection.output.clear();
        connection.written = 0;
        connection.input.clear();
        connection.generation += 1;
        script::request(self.plan, asking, &mut connection.output);
        connection.asked = Some((due, asking));
        let generation = connection.generation;
        self.patience.push_back((now + self.plan.patience, index, generation));
        if self.connections[index].stream.is_none() {
            match self.dial(index) {
                Ok(stream) => self.connections[index].stream = Some(stream),
                Err(_) => return self.end(index, BuyerAnswer::Broken, Instant::now()),
            }
        }
        self.flush(index);
    }

    /// Each connection leads to the same host for ever; whoever comes takes the one that has been free for longest.
    fn dial(&self, index: usize) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.plan.hosts[index % self.plan.hosts.len()])?;
        stream.set_nodelay(true)?;
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        Ok(stream)
    }

    fn flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(stream) = &mut connection.stream else { return };
        while connection.written < connection.output.len() {
            match stream.write(&connection.output.as_bytes()[connection.written..]) {
                Ok(bytes) => connection.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What is wrong, if something is, the next read tells.
                Err(_) => return,
            }
        }
    }

    fn handle(&mut self, index: usize, room: &mut [u8]) {
        self.flush(index);
        loop {
            let connection = &mut self.connections[index];
            let Some(stream) = &mut connection.stream else { return };
            match stream.read(room) {
                Ok(0) => return self.end(index, BuyerAnswer::Broken, Instant::now()),
                Ok(bytes) => {
                    connection.input.extend_from_slice(&room[..bytes]);
                    match answer(&connection.input) {
                        Ok(None) if connection.input.len() <= ANSWER_BYTES_MAX => {}
                        Ok(Some((heard, closes))) => return self.answered(index, heard, closes),
                        _ => return self.end(index, BuyerAnswer::Broken, Instant::now()),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
                Err(_) => return self.end(index, BuyerAnswer::Broken, Instant::now()),
            }
        }
    }

    fn answered(&mut self, index: usize, heard: BuyerAnswer, closes: bool) {
        if closes {
            self.connections[index].stream = None;
        }
        // An answer that nobody asked for ends the connection.
        match self.connections[index].asked.take() {
            Some((due, asking)) => {
                self.free.push_back(index);
                self.go_on(due, asking, heard, Instant::now());
            }
            None => self.connections[index].stream = None,
        }
    }

    /// The connection is of no more use to whoever asked on it.
    fn end(&mut self, index: usize, heard: BuyerAnswer, now: Instant) {
        self.connections[index].stream = None;
        if let Some((due, asking)) = self.connections[index].asked.take() {
            self.free.push_back(index);
            self.go_on(due, asking, heard, now);
        }
    }

    fn go_on(&mut self, due: Instant, asking: BuyerStep, heard: BuyerAnswer, now: Instant) {
        self.tally.note(asking.act, heard, now.saturating_duration_since(due));
        let has_ticket = asking.act == Act::Book && matches!(heard, BuyerAnswer::Held | BuyerAnswer::Sold);
        let (booked, refused) = (&self.progress.booked, &self.progress.refused);
        booked.fetch_add(u64::from(has_ticket), Ordering::Relaxed);
        match script::next(self.plan, asking, heard) {
            Next::Ask(next, after) => {
                // A host that is gone is not dialled as fast as it refuses.
                let after = if heard == BuyerAnswer::Broken { after.max(REDIAL_AFTER) } else { after };
                self.later.push(Reverse((now + after, next.buyer, next.tried, next.act)));
                return;
            }
            Next::Sold => self.tally.sold += 1,
            Next::Unsure => {
                self.tally.unsure += 1;
                self.tally.may_hold.push(asking.buyer);
            }
            Next::MayHold => self.tally.may_hold.push(asking.buyer),
            Next::Without => {
                refused.fetch_add(u64::from(asking.act == Act::Book), Ordering::Relaxed);
            }
        }
        self.inside -= 1;
        self.progress.done.fetch_add(1, Ordering::Relaxed);
    }

    /// To the next moment at which something is to be done without an answer.
    fn set_timer(&self, now: Instant) -> io::Result<()> {
        let comes = (self.comes < self.buyers && !self.free.is_empty()).then(|| self.moment(self.comes));
        let later = self.later.peek().map(|Reverse((due, ..))| *due);
        let patience = self.patience.front().map(|(by, ..)| *by);
        let Some(next) = [comes, later, patience].into_iter().flatten().min() else { return Ok(()) };
        // A time of zero would disarm it.
        let after = next.saturating_duration_since(now).max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: i64::from(after.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

/// What a whole answer says, and whether the connection ends behind it; `None` if it is not whole yet.
fn answer(bytes: &[u8]) -> Result<Option<(BuyerAnswer, bool)>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes)? else { return Ok(None) };
    let value = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    let length = value("content-length").and_then(|value| value.parse::<usize>().ok());
    let end = head_bytes.saturating_add(length.ok_or(httparse::Error::HeaderValue)?);
    let Some(body) = bytes.get(head_bytes..end) else { return Ok(None) };
    let closes = value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some((script::heard(head.code.unwrap_or(0), body), closes)))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let whole = b"HTTP/1.1 409 Conflict\r\nContent-Length: 28\r\nConnection: close\r\n\r\n\
            {\"type\":\"/problems/sold-out\"}";
        assert_eq!(answer(whole).unwrap(), Some((BuyerAnswer::SoldOut, true)));
        for length in 0..whole.len() - 1 {
            assert_eq!(answer(&whole[..length]).unwrap(), None, "{length}");
        }
        assert!(answer(b"SSH-2.0\r\n").is_err());
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "its end is not known");
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n").unwrap(), None);
    }

    /// A host that is slow once keeps those waiting who were due meanwhile, and that counts though it then answers each at once.
    #[test]
    fn whoever_waits_for_a_connection_waits_for_the_host() {
        use std::io::{BufRead, BufReader};

        const STALL: Duration = Duration::from_millis(300);
        const BUYERS: u64 = 20;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            // The first is to see whether anybody is there.
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let mut asked = 0;
            for _ in lines.filter(|line| line.contains("PUT ")) {
                if asked == 0 {
                    std::thread::sleep(STALL);
                }
                asked += 1;
                let body = "{\"type\":\"/problems/sold-out\"}";
                let answer = format!("HTTP/1.1 409 Conflict\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        let plan = Plan {
            hosts: vec![host],
            sale: "rehearsal-a".to_owned(),
            prefix: "r".to_owned(),
            buyers: BUYERS,
            // All are due within a tenth of the stall.
            rate: BUYERS as f64 / (STALL.as_secs_f64() / 10.0),
            pay: 0.0,
            give_back: 0.0,
            think: Duration::ZERO,
            patience: Duration::from_secs(60),
            retries: 0,
            retry_after: Duration::ZERO,
            connections: 1,
            threads: 1,
            seed: 1,
        };
        let tally = super::super::run(&plan, &AtomicBool::new(false), &mut |_| {}).unwrap();
        assert_eq!(
            (tally.buyers, tally.count(BuyerAnswer::SoldOut), server.join().unwrap()),
            (BUYERS, BUYERS, BUYERS)
        );
        let latencies = &tally.latencies[&Act::Book];
        let least = Duration::from_nanos(latencies.min());
        assert!(least >= STALL / 2, "one who was due within the stall waited for {least:?} alone");
    }
}
