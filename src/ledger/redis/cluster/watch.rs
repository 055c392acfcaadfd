//! The map of slots at every moment: one thread asks a node for it, twice a second and at once when somebody has noticed that
//! something is elsewhere.
//!
//! A node that was cut off knows the Cluster as it was. Nodes number the changes (`cluster_current_epoch`), so what one says that
//! has seen fewer than another did before is not taken while any other answers.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::place::Resolver;
use super::super::slots::SlotMap;
use super::super::voice::Voice;
use crate::ledger::url::{HostPort, RedisUrl};
use crate::net::Moves;

/// How often the map is asked for, where nobody has noticed anything.
const POLL: Duration = Duration::from_millis(500);

/// Pause before it is asked for again where somebody has: many calls notice the same.
const AFTER_NEWS: Duration = Duration::from_millis(20);

/// How long a node may take for each step of an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long whoever asks first waits for a map.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// See the [module](self). Its thread ends when it is dropped.
pub struct ClusterWatch(Arc<Watched>);

struct Watched {
    url: RedisUrl,
    seeds: Vec<HostPort>,
    resolver: Resolver,
    known: Mutex<MapKnown>,
    /// Somebody has answered, or wants to know.
    said: Condvar,
    moves: Moves,
    logs: bool,
}

#[derive(Default)]
struct MapKnown {
    map: Option<Arc<SlotMap>>,
    /// Up to which change of the Cluster the map goes.
    epoch: u64,
    /// Why there is none, or no newer one.
    failure: Option<String>,
    is_nudged: bool,
    is_over: bool,
}

/// A node's word.
struct NodeWord {
    epoch: u64,
    is_up: bool,
    map: SlotMap,
}

impl ClusterWatch {
    /// Begins to ask. Another map is told to those who listen to the `moves`.
    pub(in crate::ledger::redis) fn start(
        url: &RedisUrl,
        seeds: &[HostPort],
        resolver: Resolver,
        moves: Moves,
        logs: bool,
    ) -> ClusterWatch {
        let (known, said) = (Mutex::default(), Condvar::new());
        let watching =
            Watched { url: url.clone(), seeds: seeds.to_vec(), resolver, known, said, moves, logs };
        let shared = Arc::new(watching);
        let watching = Arc::clone(&shared);
        if let Err(error) =
            std::thread::Builder::new().name("cluster".to_owned()).spawn(move || watching.watch())
        {
            shared.known().failure = Some(format!("there is no thread to ask it: {error}"));
        }
        ClusterWatch(shared)
    }

    /// The map. Waits a moment where there is none yet, as at the start.
    ///
    /// # Errors
    /// What each node says instead.
    pub(in crate::ledger::redis) fn map(&self) -> Result<Arc<SlotMap>, String> {
        let until = Instant::now() + FIRST_ANSWER;
        let mut known = self.0.known();
        loop {
            if let Some(map) = &known.map {
                return Ok(Arc::clone(map));
            }
            let left = until.saturating_duration_since(Instant::now());
            if let Some(failure) = &known.failure {
                return Err(failure.clone());
            }
            if left.is_zero() {
                return Err("no node of the Cluster has answered yet".to_owned());
            }
            known = self.0.said.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Has it asked for soon.
    pub(in crate::ledger::redis) fn nudge(&self) {
        self.0.known().is_nudged = true;
        self.0.said.notify_all();
    }
}

impl Drop for ClusterWatch {
    fn drop(&mut self) {
        self.0.known().is_over = true;
        self.0.said.notify_all();
    }
}

impl Watched {
    fn known(&self) -> MutexGuard<'_, MapKnown> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut voice = None;
        loop {
            let outcome = self.ask(&mut voice);
            self.note(outcome);
            let until = Instant::now() + POLL;
            let mut known = self.known();
            while !known.is_nudged && !known.is_over && Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                known = self.said.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if known.is_over {
                return;
            }
            let is_nudged = std::mem::take(&mut known.is_nudged);
            drop(known);
            if is_nudged {
                std::thread::sleep(AFTER_NEWS);
            }
        }
    }

    /// Asks one node after another, that of last time first, until one knows as much as was known before.
    fn ask(&self, voice: &mut Option<(HostPort, Voice)>) -> Result<NodeWord, String> {
        let (map, epoch) = {
            let known = self.known();
            (known.map.clone(), known.epoch)
        };
        let mut best: Option<NodeWord> = None;
        let mut is_enough = |word: NodeWord| {
            let is_good = word.is_up && word.epoch >= epoch;
            if best.as_ref().is_none_or(|best| (word.is_up, word.epoch) > (best.is_up, best.epoch)) {
                best = Some(word);
            }
            is_good
        };
        let mut failures = Vec::new();
        let mut asked = None;
        if let Some((place, mut open)) = voice.take() {
            // One that broke since the last time is no reason to doubt the node.
            if let Ok(word) = read(&mut open, &place) {
                asked = Some(place.clone());
                *voice = Some((place, open));
                if is_enough(word) {
                    return best.ok_or_else(String::new);
                }
            }
        }
        let nodes = map.iter().flat_map(|map| map.nodes()).chain(&self.seeds);
        let mut places: Vec<&HostPort> = Vec::new();
        for place in nodes {
            if !places.contains(&place) && asked.as_ref() != Some(place) {
                places.push(place);
            }
        }
        for place in places {
            let word = self.connect(place).and_then(|mut open| {
                let word = read(&mut open, place)?;
                *voice = Some((place.clone(), open));
                Ok(word)
            });
            match word {
                Ok(word) => {
                    if is_enough(word) {
                        break;
                    }
                }
                Err(why) => failures.push(format!("{place} {why}")),
            }
        }
        best.ok_or_else(|| {
            format!("no node of the Cluster says which has which slots: {}", failures.join("; "))
        })
    }

    fn note(&self, outcome: Result<NodeWord, String>) {
        let mut known = self.known();
        let was_silent = known.failure.is_some();
        match outcome {
            Ok(NodeWord { epoch, map, .. }) => {
                known.epoch = epoch;
                known.failure = None;
                if was_silent && self.logs {
                    tracing::info!("the nodes of the Cluster say again which has which slots");
                }
                if known.map.as_deref() != Some(&map) {
                    if self.logs {
                        tracing::info!(primaries = %told(&map), "the primaries of the Cluster, and their slots");
                    }
                    known.map = Some(Arc::new(map));
                    self.moves.tell();
                }
            }
            Err(why) => {
                if !was_silent && self.logs {
                    tracing::warn!(why, "nobody says which node of the Cluster has which slots");
                }
                known.failure = Some(why);
            }
        }
        self.said.notify_all();
    }

    fn connect(&self, place: &HostPort) -> Result<Voice, String> {
        let password = self.url.password_now().map_err(|error| error.to_string())?;
        Voice::of(&self.resolver, place, (self.url.user.as_deref(), password.as_deref()), PATIENCE)
    }
}

fn read(voice: &mut Voice, place: &HostPort) -> Result<NodeWord, String> {
    // In this order: the map may know more than its number says, and never less.
    let (epoch, is_up) = voice.epoch()?;
    Ok(NodeWord { epoch, is_up, map: voice.slots(&place.host)? })
}

/// Each primary with its slots, for people.
fn told(map: &SlotMap) -> String {
    let mut said = Vec::new();
    for node in map.nodes() {
        let ranges = map.ranges().filter(|(_, place)| *place == node).map(|(range, _)| range.to_string());
        said.push(format!("{node} {}", ranges.collect::<Vec<_>>().join(",")));
    }
    said.join("; ")
}

impl fmt::Debug for ClusterWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterWatch({:?})", self.0.seeds)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::ledger::redis::finder::ClusterFinder;
    use crate::ledger::url::LedgerUrl;
    use crate::protocol::Slot;

    /// For what threads do by themselves.
    const LONG: Duration = Duration::from_secs(30);

    /// A node that says what it is told to say: its epoch, whether the Cluster is up, and the port of whoever has all slots.
    struct PlayedNode {
        port: u16,
        says: Arc<Mutex<Option<(u64, bool, u16)>>>,
    }

    impl PlayedNode {
        fn start(says: Option<(u64, bool, u16)>) -> PlayedNode {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let says = Arc::new(Mutex::new(says));
            let said = Arc::clone(&says);
            // Ends with the test's process.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let said = Arc::clone(&said);
                    std::thread::spawn(move || answer(stream, &said));
                }
            });
            PlayedNode { port, says }
        }

        fn say(&self, says: Option<(u64, bool, u16)>) {
            *self.says.lock().unwrap() = says;
        }
    }

    fn answer(mut stream: TcpStream, says: &Mutex<Option<(u64, bool, u16)>>) {
        let words = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        for word in words {
            let Some((epoch, is_up, port)) = *says.lock().unwrap() else { return };
            let state = if is_up { "ok" } else { "fail" };
            let text = format!("cluster_state:{state}\r\ncluster_current_epoch:{epoch}\r\n");
            let reply = match word.as_str() {
                "INFO" => format!("${}\r\n{text}\r\n", text.len()),
                "SLOTS" => format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$0\r\n\r\n:{port}\r\n$2\r\nid\r\n"),
                _ => continue,
            };
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn finder(nodes: &[&PlayedNode]) -> ClusterFinder {
        let places: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let Ok(LedgerUrl::Redis(url)) = format!("redis+cluster://{}", places.join(",")).parse() else {
            panic!()
        };
        let crate::ledger::url::RedisAddress::Cluster(seeds) = url.address.clone() else { panic!() };
        ClusterFinder::new(&url, &seeds, false)
    }

    /// The port of whoever has the slots, by the next map.
    fn owner(finder: &ClusterFinder) -> Result<u16, String> {
        let mut asker = finder.maps(|| ());
        asker.ask().unwrap();
        let map = asker.wait(LONG).expect("it is found").map_err(|error| error.to_string())?;
        Ok(map.node_of(Slot::new(7).unwrap()).expect("all slots are of somebody").port)
    }

    #[track_caller]
    fn wait_for(finder: &ClusterFinder, port: u16) {
        let until = Instant::now() + LONG;
        while owner(finder) != Ok(port) {
            assert!(Instant::now() < until, "it is never known");
            finder.nudge();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn another_map_is_told_and_one_of_the_past_is_not_taken_while_a_newer_one_is_known() {
        let nodes = [(5, true, 1), (5, true, 1)].map(|says| PlayedNode::start(Some(says)));
        let finder = finder(&[&nodes[0], &nodes[1]]);
        let (woken, wakes) = std::sync::mpsc::channel();
        let mut asker = finder.maps(move || woken.send(()).unwrap_or_default());
        asker.ask().unwrap();
        assert!(asker.wait(LONG).expect("it is found").is_ok());
        nodes.iter().for_each(|node| node.say(Some((6, true, 2))));
        finder.nudge();
        let until = Instant::now() + LONG;
        while !asker.poll_move() {
            assert!(Instant::now() < until, "nobody is told");
            wakes.recv_timeout(LONG).expect("whoever listens is woken");
        }
        wait_for(&finder, 2);
        // The one that was asked was cut off, and speaks of what was.
        nodes[0].say(Some((5, true, 1)));
        nodes[1].say(Some((7, true, 3)));
        wait_for(&finder, 3);
        nodes[1].say(None);
        for _ in 0..3 {
            finder.nudge();
            std::thread::sleep(3 * AFTER_NEWS);
        }
        // It is the only one that says anything: the Cluster may have been made anew.
        wait_for(&finder, 1);
    }

    #[test]
    fn who_takes_the_cluster_for_down_is_believed_only_if_nobody_else_answers() {
        let nodes = [(9, false, 1), (5, true, 2)].map(|says| PlayedNode::start(Some(says)));
        let finder = finder(&[&nodes[0], &nodes[1]]);
        assert_eq!(owner(&finder), Ok(2));
        nodes[1].say(None);
        wait_for(&finder, 1);
        nodes[0].say(None);
        let nobody = PlayedNode::start(None);
        let said = owner(&self::finder(&[&nobody])).unwrap_err();
        assert!(said.starts_with("no node of the Cluster says"), "{said}");
    }
}
