//! A session with a Redis that is played: replies right, refused, garbled or none, in any fragmentation, connections that
//! break at any time. Each call must be answered once, by its own reply, once a sound Redis is there; and no call may be sent
//! while a connection of before that has calls on it can still carry them out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use boxoffice::booking::{BookingId, Quantity, SaleName, SaleTerms};
use boxoffice::clock::Monotonic;
use boxoffice::ledger::redis::codec;
use boxoffice::ledger::redis::session::Session;
use boxoffice::ledger::url::{RedisAddress, RedisUrl};
use boxoffice::protocol::{
    Answer, BookingOp, Call, CallError, CallId, Cancel, Claim, Durability, Opener, SaleOp, SaleResult,
    Watermark,
};

use super::script::Script;

/// What is not answered soundly in so many connections never will be.
const HEALING_ROUNDS_MAX: usize = 4;

pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let durability = match script.below(3) {
        0 | 1 => Durability::Ack,
        _ => Durability::Replicas(1),
    };
    let mut play = Play::new(durability);
    while !script.is_over() {
        match script.byte() % 16 {
            0..=3 => play.submit(&mut script),
            4..=5 => play.move_output(1 + script.below(3_000)),
            6..=8 => play.reply(Reply::Sound),
            9 => play.reply(Reply::picked(&mut script)),
            10..=11 => play.deliver(1 + script.below(600)),
            12 => play.deliver(usize::MAX),
            13 => play.lose(),
            14 => play.pass(1 + script.below(3_000) as u64),
            _ => play.dial(),
        }
    }
    play.heal();
}

/// What Redis says to one command.
enum Reply<'a> {
    Sound,
    Missing,
    Refusal,
    NoScript,
    /// These bytes, which are one reply or none at all.
    Bytes(&'a [u8]),
}

impl<'a> Reply<'a> {
    fn picked(script: &mut Script<'a>) -> Reply<'a> {
        match script.below(4) {
            0 => Reply::Missing,
            1 => Reply::Refusal,
            2 => Reply::NoScript,
            _ => Reply::Bytes(script.bytes()),
        }
    }
}

struct Play {
    session: Session,
    durability: Durability,
    now: Monotonic,
    /// Calls that were not answered yet: how many entries each has.
    open: BTreeMap<u64, usize>,
    submitted: u64,
    /// Calls that may have been on a connection that broke.
    doubtful_below: u64,
    /// The number of the connection.
    connection: u64,
    /// Its name.
    name: String,
    /// Connections that have calls on them and that Redis has not ended.
    with_calls: BTreeSet<u64>,
    /// The last connection that was told wrong which one it is, or which others there are.
    misled: Option<u64>,
    /// Bytes that Redis has got, up to a command that is not whole.
    received: Vec<u8>,
    /// Commands that Redis has not replied to.
    commands: VecDeque<Vec<u8>>,
    /// Bytes of replies that the session has not got.
    wire: VecDeque<u8>,
    /// How many bytes must be taken from the wire up to the end of each reply to WAIT that is on it.
    waits: VecDeque<usize>,
}

impl Play {
    fn new(durability: Durability) -> Play {
        let address = RedisAddress::Unix("/nowhere".into());
        let url = RedisUrl {
            address,
            user: None,
            password: Some("secret".to_owned()),
            password_file: None,
            database: 3,
            tls: None,
        };
        Play {
            session: Session::new(url, durability, 7, Monotonic(0)),
            durability,
            now: Monotonic(0),
            open: BTreeMap::new(),
            submitted: 0,
            doubtful_below: 0,
            connection: 0,
            name: String::new(),
            with_calls: BTreeSet::new(),
            misled: None,
            received: Vec::new(),
            commands: VecDeque::new(),
            wire: VecDeque::new(),
            waits: VecDeque::new(),
        }
    }

    /// A call on a sale that is named after it, so that its commands can be told from others.
    fn submit(&mut self, script: &mut Script<'_>) {
        self.submitted += 1;
        let number = self.submitted;
        let sale = SaleName::parse(format!("s{number}")).expect("a name");
        let entries = 1 + script.below(3);
        let ids = (0..entries).map(|index| BookingId::parse(format!("b-{index}")).expect("an id"));
        let call = match script.below(5) {
            0 => Call::Sale { sale, op: SaleOp::Snapshot },
            1 => Call::Sale { sale, op: SaleOp::LookUp(ids.collect()) },
            2 => BookingOp::Cancel(ids.map(|id| Cancel { id, tombstone: true }).collect())
                .on(sale, Watermark::default()),
            3 => Call::Sale { sale, op: SaleOp::Open { terms: SaleTerms::default(), by: Opener::Operator } },
            _ => {
                let claim = |id| Claim { id, quantity: Quantity::ONE, buyer: None };
                BookingOp::Reserve(ids.map(claim).collect()).on(sale, Watermark::default())
            }
        };
        self.open.insert(number, call.entries());
        self.session.submit(CallId(number), call, self.now);
    }

    fn dial(&mut self) {
        if let Some(at) = self.session.dial_at() {
            self.now = self.now.max(at);
            self.connection += 1;
            self.session.handle_dialling(self.now);
            self.session.handle_connected(self.now);
        }
    }

    fn lose(&mut self) {
        if self.session.dial_at().is_none() {
            self.session.handle_lost("reset", self.now);
            self.forget_connection();
        }
    }

    fn forget_connection(&mut self) {
        self.received.clear();
        self.commands.clear();
        self.wire.clear();
        self.waits.clear();
        self.doubtful_below = self.submitted + 1;
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        if self.session.next_deadline().is_some_and(|at| at <= self.now)
            && self.session.dial_at().is_none()
            && self.session.handle_deadline(self.now)
        {
            self.forget_connection();
        }
    }

    /// So much of the output reaches Redis.
    fn move_output(&mut self, bytes_max: usize) {
        let output = self.session.poll_output();
        let bytes = bytes_max.min(output.len());
        self.received.extend_from_slice(&output[..bytes]);
        self.session.handle_written(bytes);
        while let Some(length) = codec::frame_length(&self.received).expect("commands are well-formed") {
            let command: Vec<u8> = self.received.drain(..length).collect();
            if is_call(&command) && self.misled != Some(self.connection) {
                self.with_calls.insert(self.connection);
                let older = self.with_calls.first().filter(|&&first| first != self.connection);
                assert_eq!(older, None, "a call on connection {} could overtake it", self.connection);
            }
            self.commands.push_back(command);
        }
    }

    /// Redis replies to the oldest command.
    fn reply(&mut self, reply: Reply<'_>) {
        let Some(command) = self.commands.pop_front() else { return };
        let sound = match client_command(&command) {
            Some(words) => self.reply_to_client(&words),
            None => self.sound_reply(&command),
        };
        let is_script = is_call(&command);
        let bytes = match reply {
            Reply::Missing if is_script => b"$7\r\nmissing\r\n".to_vec(),
            Reply::Refusal => b"-OOM command not allowed when used memory > 'maxmemory'.\r\n".to_vec(),
            Reply::NoScript if is_script => b"-NOSCRIPT No matching script.\r\n".to_vec(),
            // A reply more or less would be a Redis that answers one command with the reply to another.
            Reply::Bytes(bytes) => match codec::frame_length(bytes) {
                Ok(Some(length)) => bytes[..length].to_vec(),
                Ok(None) => sound.clone(),
                Err(_) => bytes.to_vec(),
            },
            _ => sound.clone(),
        };
        if bytes != sound && client_command(&command).is_some() {
            // It may not end what there is, and those after it do not know its number.
            self.with_calls.clear();
            self.misled = Some(self.connection);
        }
        self.wire.extend(bytes);
        if is_wait(&command) {
            self.waits.push_back(self.wire.len());
        }
    }

    fn reply_to_client(&mut self, words: &[String]) -> Vec<u8> {
        let number = || words[3].parse().expect("a number");
        match words[1].as_str() {
            "ID" => format!(":{}\r\n", self.connection).into_bytes(),
            "LIST" => {
                let wanted = words[3..].iter().map(|word| word.parse().expect("a number"));
                let there = wanted.filter(|number| self.with_calls.contains(number));
                bulk(
                    &there
                        .map(|number| format!("id={number} addr=/nowhere:0 name={} age=1\n", self.name))
                        .collect::<String>(),
                )
            }
            "KILL" => format!(":{}\r\n", u8::from(self.with_calls.remove(&number()))).into_bytes(),
            _ => {
                self.name.clone_from(&words[2]);
                b"+OK\r\n".to_vec()
            }
        }
    }

    fn sound_reply(&self, command: &[u8]) -> Vec<u8> {
        if is_wait(command) {
            return b":1\r\n".to_vec();
        }
        if contains(command, "\r\nROLE\r\n") {
            return b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec();
        }
        if contains(command, "\r\nINFO\r\n") {
            return bulk("role:master\r\nslave0:ip=1,state=online");
        }
        if contains(command, "EVALSHA") && !is_call(command) {
            return bulk(if self.connection.is_multiple_of(2) { "may INFO" } else { "" });
        }
        if !is_call(command) {
            return b"+OK\r\n".to_vec();
        }
        let text = String::from_utf8_lossy(command);
        let number = text.split_once("{s").and_then(|(_, rest)| rest.split_once('}'));
        let number: u64 =
            number.and_then(|(number, _)| number.parse().ok()).expect("a script's keys name its sale");
        // The number of the call is in the total.
        let state = format!("{number},0,0,1,1,open,,,,,9,5,5,0,0,0,0,0,0");
        let Some(&entries) = self.open.get(&number) else { return bulk(&state) };
        // Of a reservation alone are claims of four arguments; what is looked up or cancelled is not there.
        let line = if contains(command, "$3\r\nb-0\r\n$0\r\n\r\n$1\r\n1\r\n") { "g" } else { "-" };
        let is_open = contains(command, "\r\nbx:sales\r\n");
        match entries {
            0 if is_open => bulk(&state),
            0 => bulk(&state),
            _ => bulk(&format!("{state}{}", format!("\n{line}").repeat(entries))),
        }
    }

    /// So many bytes of the replies reach the session.
    fn deliver(&mut self, bytes_max: usize) {
        let bytes: Vec<u8> = self.wire.drain(..bytes_max.min(self.wire.len())).collect();
        if bytes.is_empty() || self.session.dial_at().is_some() {
            return;
        }
        let waits = self.waits.len();
        self.waits = self
            .waits
            .iter()
            .filter_map(|end| end.checked_sub(bytes.len()).filter(|left| *left > 0))
            .collect();
        let replicas_have_it = self.durability == Durability::Ack || self.waits.len() < waits;
        let outcome = self.session.handle_bytes(&bytes, self.now);
        // Those that came before what broke the connection are of this try.
        self.take_answers(replicas_have_it);
        if outcome.is_err() {
            assert!(self.session.dial_at().is_some(), "the session has noted the loss");
            self.forget_connection();
        }
    }

    fn take_answers(&mut self, replicas_have_it: bool) {
        while let Some((CallId(number), answer)) = self.session.poll_answer() {
            let entries = self.open.remove(&number);
            let entries =
                entries.unwrap_or_else(|| panic!("call {number} was answered before, or never made"));
            match answer {
                Ok(answer) => {
                    assert!(replicas_have_it || entries == 0, "answered before its replicas have it");
                    self.check_answer(number, entries, &answer);
                }
                Err(CallError::Refused(_) | CallError::Unsound(_)) => {
                    assert!(number >= self.doubtful_below, "a refusal says nothing of a try before");
                }
                Err(CallError::Unknown(_) | CallError::Garbled(_)) => {}
            }
        }
    }

    fn check_answer(&self, number: u64, entries: usize, answer: &Answer) {
        let (state, answered) = match answer {
            Answer::Missing => return,
            Answer::Sale { state, result: SaleResult::Done } => (state, 0),
            Answer::Sale { state, result: SaleResult::Reserved(reservations) } => (state, reservations.len()),
            Answer::Sale { state, result: SaleResult::Found(bookings) } => (state, bookings.len()),
            Answer::Sale { state, result: SaleResult::Cancelled(cancellations) } => {
                (state, cancellations.len())
            }
            other => panic!("an answer to no call that was made: {other:?}"),
        };
        assert_eq!((state.terms.total, answered), (number, entries), "the reply of another call");
    }

    /// From now on Redis is sound.
    fn heal(&mut self) {
        for _ in 0..HEALING_ROUNDS_MAX {
            self.lose();
            self.dial();
            loop {
                self.move_output(usize::MAX);
                if self.commands.is_empty() {
                    break;
                }
                while !self.commands.is_empty() {
                    self.reply(Reply::Sound);
                }
                self.deliver(usize::MAX);
            }
            if self.session.is_up() && self.open.is_empty() {
                assert!(self.session.poll_output().is_empty());
                return;
            }
        }
        panic!("never answered, with {:?}: {:?}", self.durability, self.open);
    }
}

/// Whether it is a script of a call: the one that is about no sale asks for rights, before any call may be sent.
fn is_call(command: &[u8]) -> bool {
    contains(command, "EVALSHA") && !contains(command, "\r\n$1\r\n1\r\n$8\r\nbx:sales\r\n")
}

/// Other than as a command that is asked for.
fn is_wait(command: &[u8]) -> bool {
    command.starts_with(b"*3\r\n$4\r\nWAIT\r\n")
}

fn contains(command: &[u8], text: &str) -> bool {
    memchr::memmem::find(command, text.as_bytes()).is_some()
}

/// The words of a CLIENT command.
fn client_command(command: &[u8]) -> Option<Vec<String>> {
    contains(command, "\r\nCLIENT\r\n").then(|| {
        let text = String::from_utf8_lossy(command);
        text.split("\r\n").skip(2).step_by(2).map(str::to_owned).collect()
    })
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}
