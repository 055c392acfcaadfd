//! Played nodes: what was written to each, and what it is to say.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::booking::{BookingId, Quantity, SaleName};
use crate::ledger::redis::codec::frame_length;
use crate::ledger::redis::session::for_tests;
use crate::ledger::url::LedgerUrl;
use crate::net::{Endpoint, Finder, Moves};
use crate::protocol::{Claim, LedgerResult, SaleOp, Watermark};

/// "hello" is in slot 866, "foo" in 12,182.
const HELLO: u16 = 866;
const FOO: u16 = 12_182;

#[derive(Default)]
struct Played {
    /// By the name of the node.
    written: BTreeMap<String, Vec<u8>>,
    says: BTreeMap<String, Vec<u8>>,
    /// Whose connections were closed.
    closed: Vec<String>,
    refuses: Vec<String>,
}

impl Streams for Played {
    type Stream = String;

    fn dial(&mut self, _: NodeIndex, endpoint: &Endpoint, _: usize) -> io::Result<String> {
        let name = endpoint.to_string().trim_start_matches('/').to_owned();
        match self.refuses.contains(&name) {
            true => Err(io::ErrorKind::ConnectionRefused.into()),
            false => Ok(name),
        }
    }

    fn take_error(&mut self, _: &mut String) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    fn read(&mut self, node: &mut String, buffer: &mut [u8]) -> io::Result<usize> {
        let says = self.says.entry(node.clone()).or_default();
        if says.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = says.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&says[..bytes]);
        says.drain(..bytes);
        Ok(bytes)
    }

    fn write(&mut self, node: &mut String, bytes: &[u8]) -> io::Result<usize> {
        self.written.entry(node.clone()).or_default().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn close(&mut self, node: String) {
        self.closed.push(node);
    }
}

/// A map in which each node has its slots.
fn map(ranges: &[(u16, u16, &str)]) -> SlotMap {
    let row = |&(first, last, node): &(u16, u16, &str)| {
        let node = vec![redis::Value::BulkString(node.into()), redis::Value::Int(1)];
        let numbers = [first, last].map(|number| redis::Value::Int(number.into()));
        redis::Value::Array(numbers.into_iter().chain([redis::Value::Array(node)]).collect())
    };
    SlotMap::read(&redis::Value::Array(ranges.iter().map(row).collect()), "").expect("a map")
}

struct Fixture {
    cluster: Cluster<String>,
    played: Played,
    now: Monotonic,
    map: Arc<Mutex<SlotMap>>,
    moves: Moves,
    trouble: Trouble,
    /// What each node is to say to what it was asked, in that order; to a call the test does.
    owed: BTreeMap<String, VecDeque<Option<String>>>,
}

impl Fixture {
    /// Of two nodes with half of the slots each, both up.
    fn new() -> Fixture {
        let mut fixture = Fixture::down();
        for node in ["a", "b"] {
            fixture.set_up(node);
        }
        assert_eq!(fixture.changes(), [(0, true), (16_384, true)]);
        fixture
    }

    fn down() -> Fixture {
        let LedgerUrl::Redis(url) = "redis+cluster://a:1".parse().unwrap() else { unreachable!() };
        let told = Arc::new(Mutex::new(map(&[(0, 8_191, "a"), (8_192, 16_383, "b")])));
        let (moves, given) = (Moves::default(), Arc::clone(&told));
        let maps = Finder::of_what_moves(moves.clone(), move || Ok(Arc::new(given.lock().unwrap().clone())));
        let source = ClusterSource {
            maps: maps.asker(|| ()),
            node: Box::new(|place| {
                Asker::known(Ok(Endpoint::Unix(PathBuf::from(format!("/{}", place.host)))))
            }),
            nudge: Box::new(|| ()),
        };
        let trouble = Trouble::default();
        let cluster = Cluster::new(source, url, Durability::Ack, 7, (trouble.clone(), 0), Monotonic(0));
        let played = Played::default();
        let mut fixture =
            Fixture { cluster, played, now: Monotonic(0), map: told, moves, trouble, owed: BTreeMap::new() };
        fixture.turn_until(|cluster| cluster.nodes.len() == 2);
        fixture
    }

    /// For what a thread does by itself.
    fn turn_until(&mut self, is_so: impl Fn(&Cluster<String>) -> bool) {
        let until = Instant::now() + Duration::from_secs(30);
        while !is_so(&self.cluster) {
            assert!(Instant::now() < until, "nothing comes");
            self.cluster.drive(&mut self.played, self.now);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.cluster.drive(&mut self.played, self.now);
    }

    /// The nodes agree on another map.
    fn remap(&mut self, ranges: &[(u16, u16, &str)]) {
        *self.map.lock().unwrap() = map(ranges);
        self.moves.tell();
        let wanted = map(ranges);
        self.turn_until(|cluster| {
            (0..).zip(&cluster.owners).all(|(number, owner)| {
                let place = cluster.nodes.get(*owner).map(|node| &node.place);
                place == wanted.node_of(Slot::new(number).unwrap())
            })
        });
    }

    fn index(&self, node: &str) -> usize {
        let place = self.cluster.nodes.iter().position(|its| its.place.host == node);
        place.unwrap_or_else(|| panic!("{node} is not known"))
    }

    /// Writes what is to be written, and answers what of it is of a set-up, until nothing more comes.
    fn set_up(&mut self, node: &str) {
        self.cluster.handle_writable(NodeIndex(self.index(node)), &mut self.played, self.now);
        loop {
            self.cluster.flush(&mut self.played, self.now);
            let written = std::mem::take(self.played.written.entry(node.to_owned()).or_default());
            let mut commands = for_tests::commands_in(&written);
            // What waited for the connection is left to the test.
            let calls = commands.iter().position(|command| is_of_call(command));
            let of_calls = calls.map(|at| commands.split_off(at)).unwrap_or_default();
            if !commands.is_empty() {
                self.say_at_once(node, &for_tests::set_up_replies(&commands));
            }
            if !of_calls.is_empty() || commands.is_empty() {
                self.played.written.insert(node.to_owned(), of_calls.concat().into_bytes());
                return;
            }
        }
    }

    /// What it says to calls; what it is asked beside, it answers in between.
    fn say(&mut self, node: &str, replies: &str) {
        let mut rest = replies;
        while let Some(length) = frame_length(rest.as_bytes()).unwrap() {
            self.say_at_once(node, &rest[..length]);
            rest = &rest[length..];
            self.owed.entry(node.to_owned()).or_default().pop_front();
            self.answer_questions(node);
        }
    }

    fn answer_questions(&mut self, node: &str) {
        while let Some(Some(_)) = self.owed.get(node).and_then(VecDeque::front) {
            let reply = self.owed.get_mut(node).and_then(VecDeque::pop_front).flatten().unwrap();
            self.say_at_once(node, &reply);
        }
    }

    fn say_at_once(&mut self, node: &str, reply: &str) {
        self.played.says.entry(node.to_owned()).or_default().extend_from_slice(reply.as_bytes());
        let index = NodeIndex(self.index(node));
        self.cluster.handle_readable(index, &mut [0; 65_536], false, &mut self.played, self.now);
    }

    fn changes(&mut self) -> Vec<(u16, bool)> {
        let changes = std::iter::from_fn(|| self.cluster.poll_change());
        changes.map(|change| (change.slots.first(), change.is_up)).collect()
    }

    fn answered(&mut self) -> Vec<u64> {
        self.answers().into_iter().map(|(id, _)| id).collect()
    }

    fn answers(&mut self) -> Vec<(u64, Result<Answer, CallError>)> {
        std::iter::from_fn(|| self.cluster.poll_answer()).map(|(id, answer)| (id.0, answer)).collect()
    }

    fn submit(&mut self, id: u64, call: Call) {
        self.cluster.submit(CallId(id), call, self.now);
    }

    /// Which calls were written to that node since the last time: by what tells them apart. What it is asked of itself, it
    /// answers.
    fn asked(&mut self, node: &str) -> Vec<String> {
        self.cluster.flush(&mut self.played, self.now);
        let written = std::mem::take(self.played.written.entry(node.to_owned()).or_default());
        let mut calls = Vec::new();
        for command in for_tests::commands_in(&written) {
            let is_of_call = is_of_call(&command);
            let reply = (!is_of_call).then(|| for_tests::set_up_replies(std::slice::from_ref(&command)));
            self.owed.entry(node.to_owned()).or_default().push_back(reply);
            calls.extend(is_of_call.then_some(command));
        }
        self.answer_questions(node);
        let word = |command: String| match command.split("\r\n").collect::<Vec<_>>() {
            words if words.contains(&"ASKING") => "ASKING".to_owned(),
            words => words
                .iter()
                .rev()
                .find(|word| word.starts_with("id-"))
                .map_or(words[2].to_owned(), |word| (*word).to_owned()),
        };
        calls.into_iter().map(word).collect()
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.cluster.drive(&mut self.played, self.now);
    }
}

/// Whether a command is of a call, and not one of a connection.
fn is_of_call(command: &str) -> bool {
    let words = ["bx:{", "bx:sales:{", "\r\nASKING\r\n", "\r\nTIME\r\n"];
    words.iter().any(|word| command.contains(word))
        && !command.contains("\r\nXREVRANGE\r\n")
        && !command.contains("SCRIPT")
}

fn sale(name: &str) -> SaleName {
    SaleName::parse(name).unwrap()
}

fn expire(name: &str) -> Call {
    SaleOp::Expire.on(sale(name))
}

/// A booking that is told apart by its id.
fn reserve(name: &str, id: &str) -> Call {
    let claim = Claim { id: BookingId::parse(id).unwrap(), quantity: Quantity::ONE, buyer: None };
    BookingOp::Reserve(vec![claim]).on(sale(name), Watermark::default())
}

/// One of it was granted.
fn granted() -> String {
    let text = "10,0,1,1,1,open,,,,,9,5,5,0,0,0,0,0,0\ng";
    format!("${}\r\n{text}\r\n", text.len())
}

fn moved(slot: u16, to: &str) -> String {
    format!("-MOVED {slot} {to}:1\r\n")
}

#[test]
fn a_call_goes_to_the_node_that_has_its_slot_and_each_node_comes_and_goes_by_itself() {
    let mut fixture = Fixture::down();
    assert_eq!(fixture.changes(), []);
    fixture.set_up("b");
    assert_eq!(fixture.changes(), [(8_192, true), (16_384, true)]);
    fixture.set_up("a");
    assert_eq!(fixture.changes(), [(0, true)]);
    assert!(fixture.cluster.is_up());
    fixture.submit(1, reserve("hello", "id-1"));
    for id in ["id-2", "id-3"] {
        fixture.submit(if id == "id-2" { 2 } else { 3 }, reserve("foo", id));
    }
    assert_eq!(
        (fixture.asked("a"), fixture.asked("b")),
        (vec!["id-1".into()], vec!["id-2".into(), "id-3".into()])
    );
    fixture.say("b", &(granted() + &granted()));
    assert_eq!(fixture.answered(), [2, 3]);
    // One node is silent: its slots alone cannot be asked, and its call is not forgotten.
    fixture.wait(60_000);
    fixture.owed.clear();
    assert_eq!(fixture.changes(), [(0, false)]);
    assert!(!fixture.cluster.is_up());
    fixture.wait(1_000);
    fixture.set_up("a");
    assert_eq!(fixture.changes(), [(0, true)]);
    assert_eq!(fixture.asked("a"), ["id-1"]);
    fixture.say("a", &granted());
    assert_eq!(fixture.answered(), [1]);
    assert!(fixture.cluster.flights.is_empty() && fixture.cluster.carried.is_empty());
}

#[test]
fn what_was_in_flight_goes_where_its_slot_is_once_in_its_order_and_with_its_ids() {
    let mut fixture = Fixture::new();
    for id in 1..=3 {
        fixture.submit(id, reserve("foo", &format!("id-{id}")));
    }
    fixture.submit(9, reserve("bar", "id-9"));
    assert_eq!(fixture.asked("b"), ["id-1", "id-2", "id-3"]);
    assert_eq!(fixture.asked("a"), ["id-9"]);
    // The first was carried out before the slot moved.
    fixture.say("b", &(granted() + &moved(FOO, "a")));
    assert_eq!(fixture.answered(), [1]);
    // What comes now does not overtake what is still on the way.
    fixture.submit(4, reserve("foo", "id-4"));
    assert_eq!(fixture.asked("a"), [""; 0]);
    fixture.say("b", &moved(FOO, "a"));
    assert_eq!(fixture.asked("a"), ["id-2", "id-3", "id-4"]);
    assert_eq!(fixture.asked("b"), [""; 0]);
    // The slot, and no other, is read again, whatever was announced of it.
    assert_eq!(fixture.changes(), [(FOO, false), (FOO, true)]);
    fixture.say("a", &granted().repeat(4));
    assert_eq!(fixture.answered(), [9, 2, 3, 4]);
    fixture.submit(5, reserve("foo", "id-5"));
    fixture.submit(6, expire("zebra-9"));
    assert!(fixture.asked("a").contains(&"id-5".to_owned()));
}

#[test]
fn a_restore_goes_before_what_was_handed_back() {
    let mut fixture = Fixture::new();
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.asked("b");
    fixture.say("b", &moved(FOO, "a"));
    fixture.submit(2, BookingOp::Restore(Vec::new()).on(sale("foo"), Watermark::default()));
    let asked = fixture.asked("a");
    assert_eq!((asked.len(), asked[1].as_str()), (2, "id-1"));
}

#[test]
fn a_move_of_another_slot_than_the_calls_is_not_followed() {
    let mut fixture = Fixture::new();
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.asked("b");
    fixture.say("b", &moved(HELLO, "b"));
    assert!(matches!(&fixture.answers()[..], [(1, Err(CallError::Garbled(_)))]));
    fixture.submit(2, reserve("hello", "id-2"));
    fixture.submit(3, reserve("foo", "id-3"));
    assert_eq!((fixture.asked("a"), fixture.asked("b")), (vec!["id-2".into()], vec!["id-3".into()]));
}

#[test]
fn ask_is_followed_with_asking_and_for_the_call_alone() {
    let mut fixture = Fixture::new();
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.asked("b");
    fixture.say("b", &format!("-ASK {FOO} a:1\r\n"));
    assert_eq!(fixture.asked("a"), ["ASKING", "id-1"]);
    assert_eq!(fixture.changes(), [], "the slot is where it was");
    // Not before the one that is elsewhere.
    fixture.submit(2, reserve("foo", "id-2"));
    assert_eq!((fixture.asked("a"), fixture.asked("b")), (vec![], vec![]));
    fixture.say("a", &format!("+OK\r\n{}", granted()));
    assert_eq!(fixture.answered(), [1]);
    assert_eq!((fixture.asked("a"), fixture.asked("b")), (vec![], vec!["id-2".into()]));
    fixture.say("b", &granted());
    assert_eq!(fixture.answered(), [2]);
}

/// A snapshot is two commands, and ASKING is for one.
#[test]
fn each_command_of_a_call_has_an_asking_of_its_own() {
    let mut fixture = Fixture::new();
    fixture.submit(1, SaleOp::Snapshot.on(sale("foo")));
    fixture.asked("b");
    let time = "*2\r\n$1\r\n5\r\n$1\r\n5\r\n";
    fixture.say("b", &format!("{time}-ASK {FOO} a:1\r\n"));
    assert_eq!(fixture.asked("a"), ["ASKING", "TIME", "ASKING", "HMGET"]);
    let nothing = format!("*20\r\n{}", "$-1\r\n".repeat(20));
    fixture.say("a", &format!("+OK\r\n{time}+OK\r\n{nothing}"));
    assert_eq!(fixture.answers(), [(1, Ok(Answer::Missing))]);
}

/// A node that joins has no slots yet, and is asked all the same.
#[test]
fn a_node_that_has_no_slot_yet_is_dialled_for_a_call_and_left_afterwards() {
    let mut fixture = Fixture::new();
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.asked("b");
    fixture.say("b", &format!("-ASK {FOO} c:1\r\n"));
    fixture.cluster.flush(&mut fixture.played, fixture.now);
    fixture.set_up("c");
    assert_eq!(fixture.changes(), []);
    assert_eq!(fixture.asked("c"), ["ASKING", "id-1"]);
    fixture.say("c", &format!("+OK\r\n{}", granted()));
    assert_eq!(fixture.answered(), [1]);
    fixture.wait(1);
    assert_eq!(fixture.played.closed, ["c"]);
    // One that cannot be reached keeps the call for no longer than a dial.
    fixture.played.refuses.push("d".to_owned());
    fixture.submit(2, reserve("foo", "id-2"));
    fixture.asked("b");
    fixture.say("b", &format!("-ASK {FOO} d:1\r\n"));
    fixture.cluster.flush(&mut fixture.played, fixture.now);
    fixture.wait(0);
    fixture.wait(SLOT_PAUSE_MS);
    assert_eq!(fixture.asked("b"), ["id-2"]);
}

#[test]
fn a_slot_that_is_on_its_way_is_asked_again_after_a_pause_and_not_for_ever() {
    let mut fixture = Fixture::new();
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.asked("b");
    fixture.say("b", "-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    // What comes meanwhile is behind it, and other slots of the node do not wait.
    fixture.submit(2, reserve("foo", "id-2"));
    fixture.submit(3, reserve("123456789", "id-3"));
    assert_eq!(fixture.asked("b"), ["id-3"]);
    fixture.say("b", &granted());
    assert_eq!(fixture.answered(), [3]);
    let mut times = 1;
    let answers = loop {
        assert!(fixture.cluster.next_deadline().is_some_and(|at| at <= fixture.now.plus_ms(SLOT_PAUSE_MS)));
        fixture.wait(SLOT_PAUSE_MS);
        assert_eq!(fixture.asked("b"), ["id-1", "id-2"]);
        times += 1;
        assert!(times <= REDIRECTS_MAX + 1, "it has an end");
        fixture.say("b", &"-TRYAGAIN no\r\n".repeat(2));
        assert_eq!(fixture.asked("b"), [""; 0], "not at once");
        let answers = fixture.answers();
        if !answers.is_empty() {
            break answers;
        }
    };
    assert_eq!(times, REDIRECTS_MAX + 1);
    assert!(matches!(&answers[..], [(1, Err(CallError::Refused(_)))]), "{answers:?}");
    fixture.wait(SLOT_PAUSE_MS);
    assert_eq!(fixture.asked("b"), ["id-2"]);
    fixture.say("b", &granted());
    assert_eq!(fixture.answered(), [2]);
}

#[test]
fn what_was_sent_to_a_node_that_is_gone_is_sent_to_its_successor_and_nobody_is_told_that_nothing_was_done() {
    let mut fixture = Fixture::new();
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.submit(2, reserve("foo", "id-2"));
    fixture.asked("b");
    // It is silent, and the others have another in its place.
    fixture.remap(&[(0, 8_191, "a"), (8_192, 16_383, "c")]);
    assert_eq!(fixture.played.closed, ["b"]);
    assert_eq!(fixture.changes(), [(8_192, false)]);
    fixture.set_up("c");
    assert_eq!(fixture.changes(), [(8_192, true)]);
    assert_eq!(fixture.asked("c"), ["id-1", "id-2"]);
    fixture.say("c", &format!("{}-OOM no memory\r\n", granted()));
    let answers = fixture.answers();
    assert!(matches!(&answers[..], [(1, Ok(_)), (2, Err(CallError::Unknown(_)))]), "{answers:?}");
    assert_eq!(fixture.trouble.all(), []);
}

#[test]
fn scripts_that_a_node_does_not_know_are_loaded_there() {
    let mut fixture = Fixture::new();
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.asked("b");
    fixture.say("b", "-NOSCRIPT No matching script.\r\n");
    fixture.cluster.flush(&mut fixture.played, fixture.now);
    let written = String::from_utf8_lossy(&fixture.played.written["b"]).into_owned();
    let (scripts, call) = (written.rfind("\r\nSCRIPT\r\n"), written.find("\r\nid-1\r\n"));
    assert!(scripts.is_some() && scripts < call, "{written}");
    assert_eq!((fixture.asked("a"), fixture.asked("b")), (vec![], vec!["id-1".into()]));
    fixture.say("b", &granted());
    assert_eq!(fixture.answered(), [1]);
}

#[test]
fn a_slot_without_a_node_stops_only_its_own_sales_and_is_told() {
    let mut fixture = Fixture::new();
    fixture.remap(&[(0, 8_191, "a"), (12_000, 12_100, "b"), (12_300, 16_383, "b")]);
    assert_eq!(fixture.changes(), [(8_192, false), (12_101, false)]);
    let told = fixture.trouble.get().unwrap();
    assert!(told.starts_with("slots 8192-11999, 12101-12299 of the Cluster are of no node"), "{told}");
    fixture.submit(1, reserve("foo", "id-1"));
    fixture.submit(2, reserve("hello", "id-2"));
    assert_eq!((fixture.asked("a"), fixture.asked("b")), (vec!["id-2".into()], vec![]));
    // Somebody has it again.
    fixture.remap(&[(0, 12_299, "a"), (12_300, 16_383, "b")]);
    assert_eq!(fixture.changes(), [(12_000, false), (8_192, true)]);
    assert_eq!(fixture.asked("a"), ["id-1"]);
    assert_eq!(fixture.trouble.all(), []);
}

#[test]
fn the_list_of_sales_is_that_of_all_nodes_that_are_up() {
    let mut fixture = Fixture::new();
    fixture.submit(1, Call::Ledger(LedgerOp::Changes { after: None }));
    assert!(fixture.cluster.next_deadline().is_some_and(|at| at <= fixture.now), "nothing wakes the loop");
    assert_eq!(fixture.answers(), [(1, Ok(Answer::Ledger(LedgerResult::Unannounced)))]);
    let names = |fixture: &mut Fixture| {
        let answers = fixture.answers();
        let [(2, Ok(Answer::Ledger(LedgerResult::Sales { names, .. })))] = &answers[..] else {
            panic!("{answers:?}")
        };
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    fixture.submit(2, Call::Ledger(LedgerOp::Sales));
    assert_eq!((fixture.asked("a").len(), fixture.asked("b").len()), (8, 8));
    fixture.say("a", &"*1\r\n$5\r\nhello\r\n".repeat(8));
    assert_eq!(fixture.answered(), [0; 0]);
    fixture.say("b", &format!("*1\r\n$3\r\nfoo\r\n{}", "*0\r\n".repeat(7)));
    assert_eq!(names(&mut fixture).len(), 9);
    // A node is lost that was asked, and nobody waits for it.
    fixture.submit(2, Call::Ledger(LedgerOp::Sales));
    assert_eq!((fixture.asked("a").len(), fixture.asked("b").len()), (8, 8));
    fixture.say("a", &"*0\r\n".repeat(8));
    fixture.wait(60_000);
    assert_eq!(names(&mut fixture), [""; 0]);
    assert_eq!(fixture.changes().first(), Some(&(8_192, false)));
    fixture.submit(2, Call::Ledger(LedgerOp::Sales));
    assert_eq!((fixture.asked("a").len(), fixture.asked("b").len()), (8, 0));
    // Sales that are lost can be named only where their names are.
    let recall = LedgerOp::Recall { sales: vec![(sale("foo"), 1)] };
    fixture.submit(3, Call::Ledger(recall));
    assert!(matches!(&fixture.answers()[..], [(3, Err(CallError::Refused(_)))]));
}

/// The calls among those words, and whether an ASKING stands before each.
fn calls_in(words: &[String]) -> Vec<(&str, bool)> {
    let before = [String::new()];
    let pairs = before.iter().chain(words).zip(words);
    let calls = pairs.filter(|(_, word)| word.starts_with("id-"));
    calls.map(|(before, word)| (word.as_str(), before == "ASKING")).collect()
}

#[test]
fn whatever_a_node_says_no_call_is_lost_or_answered_twice() {
    let mut random = StdRng::seed_from_u64(4);
    for _ in 0..40 {
        let mut fixture = Fixture::new();
        let (mut next, mut open) = (1, std::collections::BTreeSet::new());
        for _ in 0..60 {
            if random.random_bool(0.4) {
                let name = if random.random_bool(0.5) { "foo" } else { "hello" };
                fixture.submit(next, reserve(name, &format!("id-{next}")));
                open.insert(next);
                next += 1;
            }
            for node in ["a", "b"] {
                let asked = fixture.asked(node);
                for (id, asking) in calls_in(&asked) {
                    let number: u64 = id[3..].parse().unwrap();
                    assert!(open.contains(&number), "{id} was answered");
                    let slot = fixture.cluster.carried[&CallId(number)].slot;
                    let to = if random.random_bool(0.5) { "a" } else { "b" };
                    let reply = match random.random_range(0..5) {
                        0 => moved(slot, to),
                        1 => format!("-ASK {slot} {to}:1\r\n"),
                        2 => "-TRYAGAIN no\r\n".to_owned(),
                        _ => granted(),
                    };
                    fixture.say(node, &format!("{}{reply}", if asking { "+OK\r\n" } else { "" }));
                }
            }
            for (id, answer) in fixture.answers() {
                assert!(open.remove(&id), "{id} was answered twice: {answer:?}");
            }
            fixture.changes();
            fixture.wait(random.random_range(0..30));
        }
        let mut left = 0;
        while !open.is_empty() {
            for node in ["a", "b"] {
                let asked = fixture.asked(node);
                for (_, asking) in calls_in(&asked) {
                    fixture.say(node, &format!("{}{}", if asking { "+OK\r\n" } else { "" }, granted()));
                }
            }
            for (id, _) in fixture.answers() {
                assert!(open.remove(&id));
            }
            fixture.wait(SLOT_PAUSE_MS);
            left += 1;
            assert!(left < 1_000, "{open:?} are lost");
        }
        assert!(fixture.cluster.carried.is_empty());
    }
}
