use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use super::*;
use crate::ledger::redis::{finder, place};
use crate::ledger::url::{LedgerFiles, LedgerUrl, RedisUrl};
use crate::net::Asker;

/// For what threads do by themselves.
const LONG: Duration = Duration::from_secs(30);

/// One that is played: what it answers to the question for the primary, and who listens to its news.
#[derive(Clone)]
struct Played {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    listeners: Arc<Mutex<Vec<TcpStream>>>,
    /// What it was told by AUTH.
    shown: Arc<Mutex<Vec<String>>>,
    /// Each question, as it comes.
    asked: Arc<Mutex<usize>>,
}

impl Played {
    fn naming(port: u16) -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let played = Played {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(names(port))),
            listeners: Arc::default(),
            shown: Arc::default(),
            asked: Arc::default(),
        };
        let playing = played.clone();
        // Ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let playing = playing.clone();
                std::thread::spawn(move || playing.serve(stream));
            }
        });
        played
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        while let Some(words) = command(&mut lines) {
            let reply = match words[0].as_str() {
                "AUTH" => {
                    self.shown.lock().unwrap().push(words[1..].join(" "));
                    "+OK\r\n".to_owned()
                }
                "SUBSCRIBE" => {
                    self.listeners.lock().unwrap().push(stream.try_clone().unwrap());
                    "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n".to_owned()
                }
                _ => {
                    *self.asked.lock().unwrap() += 1;
                    self.answer.lock().unwrap().clone()
                }
            };
            if stream.write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn says(&self, answer: impl Into<String>) {
        *self.answer.lock().unwrap() = answer.into();
    }

    fn tells(&self) {
        for mut listener in self.listeners.lock().unwrap().iter() {
            listener.write_all(b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n").unwrap();
        }
    }

    fn is_heard(&self) -> bool {
        !self.listeners.lock().unwrap().is_empty()
    }
}

/// The words of the next command.
fn command(lines: &mut impl Iterator<Item = String>) -> Option<Vec<String>> {
    let count: usize = lines.next()?.strip_prefix('*')?.parse().ok()?;
    (0..count).map(|_| lines.next().and_then(|_| lines.next())).collect()
}

fn names(port: u16) -> String {
    let port = port.to_string();
    format!("*2\r\n$8\r\n10.0.0.1\r\n${}\r\n{port}\r\n", port.len())
}

fn url(sentinels: &[&Played]) -> RedisUrl {
    let all: Vec<_> = sentinels.iter().map(|played| played.address.to_string()).collect();
    redis(&format!("redis+sentinel://{}/mymaster/3", all.join(",")), &LedgerFiles::default())
}

fn redis(url: &str, files: &LedgerFiles) -> RedisUrl {
    match url.parse::<LedgerUrl>().unwrap().with_files(files) {
        Ok(LedgerUrl::Redis(url)) => url,
        other => panic!("{other:?}"),
    }
}

/// Where it is said to be, or what is said instead once every sentinel has answered: a busy machine keeps one from that.
fn found(asker: &mut Asker<place::Whereabouts>) -> Result<String, String> {
    let end = Instant::now() + LONG;
    loop {
        asker.ask().unwrap();
        match asker.wait(LONG).expect("there is an answer") {
            Ok(endpoint) => return Ok(endpoint.to_string()),
            Err(error) => {
                let said = error.to_string();
                let is_final = !said.contains("says nothing") && !said.contains("does not answer");
                if is_final || Instant::now() > end {
                    return Err(said);
                }
            }
        }
    }
}

/// Waits for what threads bring about.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "it does not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_primary_of_a_majority_is_found_and_its_successor_told_at_once() {
    let all = [1, 1, 7].map(Played::naming);
    let (woken, wakes) = mpsc::channel();
    let finder = finder::of(&url(&[&all[0], &all[1], &all[2]]));
    let mut asker = finder.asker(move || woken.send(()).unwrap_or_default());
    assert_eq!(found(&mut asker), Ok("10.0.0.1:1".to_owned()));
    // Whoever asked while none was named was answered by the first; that is not a move.
    assert!(!asker.poll_move());
    until(|| all.iter().all(Played::is_heard));
    while wakes.try_recv().is_ok() {}

    // The leader of the failover alone: outvoted.
    all[0].says(names(2));
    all[0].tells();
    let asked = *all[0].asked.lock().unwrap();
    until(|| *all[0].asked.lock().unwrap() > asked);
    assert!(!asker.poll_move());
    all[1].says(names(2));
    all[1].tells();
    wakes.recv_timeout(LONG).expect("it is woken");
    assert!(asker.poll_move());
    assert_eq!(found(&mut asker), Ok("10.0.0.1:2".to_owned()));
}

#[test]
fn what_tells_nothing_is_noticed_by_asking() {
    let all = [1, 1].map(Played::naming);
    let finder = finder::of(&url(&[&all[0], &all[1]]));
    let mut asker = finder.asker(|| ());
    assert_eq!(found(&mut asker), Ok("10.0.0.1:1".to_owned()));
    all.iter().for_each(|played| played.says(names(2)));
    until(|| asker.poll_move());
    assert_eq!(found(&mut asker), Ok("10.0.0.1:2".to_owned()));
}

#[test]
fn where_nobody_has_a_majority_it_is_told_what_each_says() {
    let all = [1, 2, 3, 4, 5].map(Played::naming);
    all[1].says("*-1\r\n");
    all[2].says("-NOAUTH Authentication required.\r\n");
    all[3].says(":5\r\n");
    all[4].says("*2\r\n$0\r\n\r\n$1\r\n0\r\n");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let places: Vec<_> =
        all.iter().map(|played| played.address).chain([gone]).map(|at| at.to_string()).collect();
    let url = redis(&format!("redis+sentinel://{}/mymaster", places.join(",")), &LedgerFiles::default());
    let said = found(&mut finder::of(&url).asker(|| ())).unwrap_err();
    assert!(said.starts_with("no 4 of 6 sentinels agree on the primary \"mymaster\": "), "{said}");
    for (place, words) in places.iter().zip([
        " names 10.0.0.1:1;",
        ": knows no primary \"mymaster\"",
        ": NOAUTH Authentication required.;",
        ": gave an answer that is no address",
        ": gave an answer that is no address",
        ": Connection refused",
    ]) {
        assert!(said.contains(&format!("{place}{words}")), "{place}{words}: {said}");
    }
    let alone = redis(&format!("redis+sentinel://{gone}/mymaster"), &LedgerFiles::default());
    let said = found(&mut finder::of(&alone).asker(|| ())).unwrap_err();
    assert!(said.starts_with("the sentinel does not name the primary \"mymaster\": "), "{said}");
}

#[test]
fn sentinels_are_shown_the_password_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, "hunter2\n").unwrap();
    let played = Played::naming(1);
    let mut files = LedgerFiles::default();
    files.sentinel.password_file = Some(path.clone());
    files.sentinel.user = Some("asks".to_owned());
    let url = redis(&format!("redis+sentinel://bob:secret@{}/mymaster", played.address), &files);
    let mut asker = finder::of(&url).asker(|| ());
    assert_eq!(found(&mut asker), Ok("10.0.0.1:1".to_owned()));
    let shown = played.shown.lock().unwrap().clone();
    assert!(!shown.is_empty() && shown.iter().all(|shown| shown == "asks hunter2"), "{shown:?}");
    std::fs::remove_file(&path).unwrap();
    let said = found(&mut finder::of(&url).asker(|| ())).unwrap_err();
    assert!(said.starts_with("cannot read the sentinels' password from"), "{said}");
}

#[test]
fn nobody_is_asked_once_nobody_wants_to_know() {
    let played = Played::naming(1);
    let finder = finder::of(&url(&[&played]));
    let mut asker = finder.asker(|| ());
    assert!(found(&mut asker).is_ok());
    drop((finder, asker));
    let mut before = 0;
    // It ends when it would ask again.
    until(|| {
        std::thread::sleep(POLL + POLL);
        let now = *played.asked.lock().unwrap();
        std::mem::replace(&mut before, now) == now
    });
}

/// One that says much, and never what is asked.
#[test]
fn an_answer_without_an_end_is_given_up() {
    let played = Played::naming(1);
    played.says(format!("${}\r\n{}", 1 << 30, "x".repeat(200_000)));
    let said = found(&mut finder::of(&url(&[&played])).asker(|| ())).unwrap_err();
    assert!(said.contains("was not understood"), "{said}");
}
