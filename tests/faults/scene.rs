//! What every fault is played on: hosts, their ledger, buyers, and what is judged in the end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use boxoffice::booking::{BookingStatus, SaleName};
use boxoffice::protocol::{Answer, Call, SaleOp, SaleResult};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use crate::buyers::{Addresses, Buyers, ask_once};
use crate::checker::{Booking, Contents, Evidence, Rule, Told, Violation, Word, check};
use crate::support::host::{Host, boxoffice};
use crate::support::{PATIENCE, eventually};

/// Tickets of every sale: more than any crowd here asks for, so that no "sold out" is true before the end.
pub const TOTAL: u64 = 300_000;

/// How long a ledger may take to settle after the last fault: bookings that nobody was told of are taken back.
const SETTLE_LIMIT: Duration = PATIENCE;

/// See the [module](self).
pub struct Scene {
    /// Where hosts run, and where a SQLite ledger is.
    pub folder: TempDir,
    /// The hosts that are up, or were.
    pub hosts: Vec<Host>,
    /// Where buyers find them.
    pub addresses: Addresses,
    /// All that was recorded; the ledger's side is read anew for each judgement.
    pub evidence: Evidence,
    /// The ledger as hosts reach it.
    host_url: String,
    /// The ledger as the judge reaches it.
    url: String,
    /// More words for every host.
    words: Vec<String>,
    /// The judge's ledger is a copy of the files of this one.
    copied_from: Option<PathBuf>,
}

impl Scene {
    /// One host with a SQLite file of its own.
    pub fn with_sqlite() -> Scene {
        let mut scene = Scene::empty("sqlite:boxoffice.db", "");
        scene.url = format!("sqlite:{}", scene.database().display());
        scene.add_host();
        scene
    }

    /// That many hosts on a Redis that hosts reach at `host_url` and the judge at `url`.
    pub fn with_redis(host_url: &str, url: &str, hosts: usize, words: &[&str]) -> Scene {
        let mut scene = Scene::empty(host_url, url);
        scene.words = words.iter().map(|&word| word.to_owned()).collect();
        for _ in 0..hosts {
            scene.add_host();
        }
        scene
    }

    /// No host yet.
    pub fn empty(host_url: &str, url: &str) -> Scene {
        let folder = tempfile::Builder::new().prefix("boxoffice-faults-").tempdir().expect("a folder");
        Scene {
            folder,
            hosts: Vec::new(),
            addresses: Arc::new(RwLock::new(Vec::new())),
            evidence: Evidence {
                told: Vec::new(),
                unable: Vec::new(),
                paused: Vec::new(),
                ledger: Contents::default(),
                hosts_died: false,
                reported_lost: Default::default(),
            },
            host_url: host_url.to_owned(),
            url: url.to_owned(),
            words: Vec::new(),
            copied_from: None,
        }
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("boxoffice.db")
    }

    /// A host of the scene's, started elsewhere; its ledger's files are copied from there for the judge.
    pub fn adopt(&mut self, host: Host, files: PathBuf) {
        self.url = format!("sqlite:{}", self.folder.path().join("copy.db").display());
        self.copied_from = Some(files);
        self.enter(host);
    }

    /// The words of `boxoffice serve` for a host of this scene.
    pub fn words(&self) -> Vec<String> {
        let sale = format!("ticket={TOTAL}");
        let mut words: Vec<String> =
            ["--ledger", &self.host_url, "--sale", &sale, "--ledger-timeout", "1s"].map(str::to_owned).into();
        words.extend(self.words.iter().cloned());
        words
    }

    /// One more host.
    pub fn add_host(&mut self) {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let host = Host::start(self.folder.path(), &words);
        self.enter(host);
    }

    fn enter(&mut self, host: Host) {
        self.addresses.write().unwrap_or_else(PoisonError::into_inner).push(host.address);
        self.hosts.push(host);
    }

    /// SIGKILL of a host.
    pub fn kill_host(&mut self, index: usize) {
        self.hosts[index].process.kill();
        self.evidence.hosts_died = true;
    }

    /// Another host in the place of one that was killed.
    pub fn restart_host(&mut self, index: usize) {
        self.restart_host_with(index, &[]);
    }

    /// The same, with these words on top.
    pub fn restart_host_with(&mut self, index: usize, more: &[&str]) {
        let words = self.words();
        let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let host = Host::start(self.folder.path(), &words);
        self.addresses.write().unwrap_or_else(PoisonError::into_inner)[index] = host.address;
        self.hosts[index] = host;
    }

    /// What an operator does by a command of `boxoffice`; panics where it fails. Gives what it said.
    #[track_caller]
    pub fn operate(&self, words: &[&str]) -> String {
        boxoffice(self.folder.path(), &[words, &["--ledger", &self.url]].concat()).expect(0).said
    }

    /// Buyers at all hosts, whose ids begin with `name`.
    pub fn buyers(&self, name: &str, count: usize) -> Buyers {
        Buyers::start(&self.addresses, name, count)
    }

    /// Lets buyers come to an end, and keeps what they were told.
    pub fn keep(&mut self, buyers: Buyers) {
        self.evidence.told.extend(buyers.finish());
    }

    /// Notes that the ledger could not book from then to now. Panics unless buyers were answered meanwhile: a time in
    /// which nobody asked shows nothing.
    #[track_caller]
    pub fn unable_since(&mut self, from: Instant, buyers: &Buyers) {
        eventually("somebody is answered meanwhile", SETTLE_LIMIT, || {
            let is_answer = |told: &Told| told.asked_at >= from && told.word != Word::NoAnswer;
            buyers.so_far().iter().any(is_answer).then_some(())
        });
        self.evidence.unable.push((from, Instant::now()));
    }

    /// Waits until `/readyz` of every host is that: within a second, and what a busy machine adds.
    #[track_caller]
    pub fn wait_for_readiness(&self, status: u16) {
        for host in &self.hosts {
            eventually(&format!("/readyz says {status}"), Duration::from_secs(4), || {
                (host.operator().get("/readyz").status == status).then_some(())
            });
        }
    }

    /// Waits until no host is ready, and each says that word.
    #[track_caller]
    pub fn wait_until_unready(&self, word: &str) {
        for host in &self.hosts {
            eventually(&format!("/readyz says {word}"), Duration::from_secs(4), || {
                let answer = host.operator().get("/readyz");
                (answer.status == 503 && answer.text().contains(word)).then_some(())
            });
        }
    }

    /// Waits until no host has a frozen sale any more.
    #[track_caller]
    pub fn wait_until_sold_from(&self) {
        for host in &self.hosts {
            eventually("the freeze ends", Duration::from_secs(20), || {
                (host.operator().get("/readyz").status == 200).then_some(())
            });
        }
    }

    /// What is broken by the evidence of this very moment.
    pub fn judge(&mut self) -> Vec<Violation> {
        match self.read_ledger() {
            Ok(contents) => {
                self.evidence.ledger = contents;
                check(&self.evidence)
            }
            Err(what) => vec![Violation { rule: Rule::Lost, what }],
        }
    }

    /// What is still broken once the ledger had time to settle.
    pub fn settle(&mut self) -> Vec<Violation> {
        let started = Instant::now();
        loop {
            let broken = self.judge();
            if broken.is_empty() || started.elapsed() > SETTLE_LIMIT {
                return broken;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// All faults are healed: lets the ledger settle, asks hosts for what was acknowledged, sells the rest at all hosts
    /// to the last ticket, and has `boxoffice audit` look.
    pub fn verdict(&mut self) -> Vec<Violation> {
        let mut broken = self.settle();
        broken.extend(self.ask_for_some());
        broken.extend(self.sell_the_rest());
        for violation in self.settle() {
            if !broken.contains(&violation) {
                broken.push(violation);
            }
        }
        broken.extend(self.audit());
        broken
    }

    /// Asserts that this scene, as it has been made false, is convicted of that; gives the sentence.
    #[track_caller]
    pub fn expect_conviction(&mut self, rules: &[Rule]) -> Violation {
        let broken = self.judge();
        let found = broken.iter().find(|violation| rules.contains(&violation.rule));
        found.cloned().unwrap_or_else(|| panic!("a mutant lives; wanted {rules:?}, got {broken:?}"))
    }

    /// Some hundred of the acknowledged, asked for by their ids at the hosts in turn.
    fn ask_for_some(&self) -> Vec<Violation> {
        let acknowledged: Vec<&str> = self
            .evidence
            .told
            .iter()
            .filter_map(|told| match &told.word {
                Word::Booked { id, .. } | Word::Known { id, .. } => Some(id.as_str()),
                _ => None,
            })
            .filter(|id| !self.evidence.reported_lost.contains(*id))
            .collect();
        let mut clients: Vec<_> = self.hosts.iter().map(Host::client).collect();
        let step = (acknowledged.len() / 150).max(1);
        let mut broken = Vec::new();
        for (turn, id) in acknowledged.iter().step_by(step).enumerate() {
            let count = clients.len();
            // Each loop finds its ledger again in its own time.
            let started = Instant::now();
            let answer = loop {
                let answer = clients[turn % count].get(&format!("/v1/sales/ticket/bookings/{id}"));
                if answer.status != 503 || started.elapsed() > SETTLE_LIMIT {
                    break answer;
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            if answer.status != 200 || answer.json()["status"] != "confirmed" {
                let what = format!("GET of {id}: {} {}", answer.status, answer.text());
                broken.push(Violation { rule: Rule::Lost, what });
            }
        }
        broken
    }

    /// Equal parts of what is left at each host, the last ticket alone, and then "sold out".
    fn sell_the_rest(&mut self) -> Vec<Violation> {
        let ledger = &self.evidence.ledger;
        let Some(mut left) = ledger.total.checked_sub(ledger.held + ledger.sold).filter(|left| *left > 0)
        else {
            let what = format!("nothing is left: {} held, {} sold", ledger.held, ledger.sold);
            return vec![Violation { rule: Rule::Unsold, what }];
        };
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner).clone();
        let part = (left - 1) / addresses.len() as u64;
        let mut sales: Vec<_> = addresses.iter().map(|address| (*address, part)).collect();
        left -= part * addresses.len() as u64;
        sales.extend((0..left).map(|_| (addresses[0], 1)));
        for (number, (address, quantity)) in
            sales.into_iter().filter(|(_, quantity)| *quantity > 0).enumerate()
        {
            let id = format!("rest-{number}");
            let started = Instant::now();
            loop {
                let told = ask_once(address, &id, quantity);
                let sold = matches!(told.word, Word::Booked { .. } | Word::Known { .. });
                let late = started.elapsed() > SETTLE_LIMIT;
                let last = told.clone();
                // A host learns within a sync of tickets that came back; what it says until then is not judged.
                if sold {
                    self.evidence.told.push(told);
                    break;
                }
                if late {
                    let what = format!("{quantity} of the tickets left do not sell: {last:?}");
                    return vec![Violation { rule: Rule::Unsold, what }];
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let started = Instant::now();
        let last = loop {
            let last = ask_once(addresses[0], "one-too-many", 1);
            let is_told = !matches!(last.word, Word::Unavailable | Word::Unknown | Word::InProgress);
            if is_told || started.elapsed() > SETTLE_LIMIT {
                break last;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let sold_out = last.word == Word::SoldOut;
        self.evidence.told.push(last.clone());
        if sold_out {
            return Vec::new();
        }
        vec![Violation { rule: Rule::Oversold, what: format!("after the last ticket: {last:?}") }]
    }

    /// What `boxoffice audit` finds.
    pub fn audit(&self) -> Vec<Violation> {
        self.copy_files();
        let audit = boxoffice(self.folder.path(), &["audit", "ticket", "--ledger", &self.url]);
        match audit.status.success() {
            true => Vec::new(),
            false => vec![Violation { rule: Rule::Audit, what: audit.said }],
        }
    }

    fn copy_files(&self) {
        let Some(from) = &self.copied_from else { return };
        for suffix in ["", "-wal"] {
            let mut name = from.as_os_str().to_owned();
            name.push(suffix);
            let to = self.folder.path().join(format!("copy.db{suffix}"));
            std::fs::copy(Path::new(&name), to).expect("a ledger's file");
        }
        // Of an older copy.
        let _ = std::fs::remove_file(self.folder.path().join("copy.db-shm"));
    }

    /// Reads all of the sale, as `audit` does, past the hosts.
    pub fn read_ledger(&self) -> Result<Contents, String> {
        self.copy_files();
        let sale = SaleName::parse("ticket").expect("a name");
        let mut ledger = boxoffice::ledger::open(&self.url, &Default::default(), true)
            .map_err(|error| error.to_string())?;
        let mut ask = |call: Call| -> Result<Answer, String> {
            ledger.execute(&[call]).remove(0).map_err(|error| error.to_string())
        };
        let Answer::Sale { state, result: SaleResult::Done } =
            ask(Call::Sale { sale, op: SaleOp::Snapshot })?
        else {
            return Err("the ledger has no such sale".to_owned());
        };
        let mut contents =
            Contents { total: state.terms.total, held: state.held, sold: state.sold, ..Contents::default() };
        let mut cursor = Some(String::new());
        while let Some(at) = cursor {
            let Answer::Sale { result: SaleResult::Page { bookings, next }, .. } =
                ask(Call::Sale { sale, op: SaleOp::Page { cursor: at } })?
            else {
                return Err("no page of bookings".to_owned());
            };
            for booking in bookings {
                let kept = Booking {
                    quantity: booking.quantity.get().into(),
                    buyer: booking.buyer.map(|buyer| buyer.as_str().to_owned()),
                    status: booking.status.word().to_owned(),
                };
                contents.bookings.insert(booking.id.as_str().to_owned(), kept);
            }
            cursor = next;
        }
        let mut after = 0;
        while let Answer::Sale { result: SaleResult::Log(entries), .. } =
            ask(Call::Sale { sale, op: SaleOp::Log { after } })?
        {
            let Some(last) = entries.last() else { break };
            after = last.sequence;
            for entry in entries {
                // These sales have no holds: a booking is granted by becoming confirmed.
                if entry.booking.status == BookingStatus::Confirmed {
                    *contents.grants.entry(entry.booking.id.as_str().to_owned()).or_default() += 1;
                }
            }
        }
        Ok(contents)
    }

    /// An id that a client was told of as booked.
    pub fn some_acknowledged_id(&self) -> String {
        let own = |told: &&Told| matches!(&told.word, Word::Booked { .. }) && told.id.is_some();
        let told = self.evidence.told.iter().find(own).expect("somebody got a ticket");
        told.id.clone().expect("an own id")
    }
}

/// Sleeps for a random time below that.
pub fn sleep_up_to(limit: Duration) {
    let mut random = StdRng::from_os_rng();
    std::thread::sleep(limit.mul_f64(random.random::<f64>()));
}
