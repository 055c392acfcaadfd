//! What a seed means: how many hosts and clients, which sale, which ledger, which faults and when. Pure.

use boxoffice::limits::REMEMBERED_MS;
use boxoffice::protocol::Durability;

use crate::faults::{self, Strike};
use crate::network::Weather;
use crate::random::Random;

/// The one sale of every run.
pub const SALE: &str = "ticket";

/// How the ledger is run, and with which `--durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// `ack`, and every write on the disk before its answer: nothing acknowledged may be lost.
    Always,
    /// The same, and `--durability aof` looks after it.
    AlwaysChecked,
    /// `replicas=1`: a failover loses nothing acknowledged.
    OneReplica,
    /// `ack`, written once a second: a crash may lose what was not on the disk.
    EverySecond,
    /// `ack`, with a replica that lags: a failover may lose what it had not got.
    Lagging,
    /// `ack`, and nothing is written at all.
    Memory,
}

impl Keeping {
    /// All of them.
    pub const ALL: [Keeping; 6] = [
        Keeping::Always,
        Keeping::AlwaysChecked,
        Keeping::OneReplica,
        Keeping::EverySecond,
        Keeping::Lagging,
        Keeping::Memory,
    ];

    /// What hosts are started with.
    pub fn durability(self) -> Durability {
        match self {
            Keeping::AlwaysChecked => Durability::Aof,
            Keeping::OneReplica => Durability::Replicas(1),
            _ => Durability::Ack,
        }
    }

    /// Whether something that was acknowledged may be lost, by what Redis itself says of such a set-up.
    pub fn may_forget(self) -> bool {
        matches!(self, Keeping::EverySecond | Keeping::Lagging | Keeping::Memory)
    }

    /// Whether there is a replica.
    pub fn has_replica(self) -> bool {
        matches!(self, Keeping::OneReplica | Keeping::Lagging)
    }
}

/// A run before it begins.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Each host keeps a file of the sales that it has known.
    pub keeps_state: bool,
    /// Where all chance comes from.
    pub seed: u64,
    /// How many hosts.
    pub hosts: usize,
    /// Loops of each.
    pub cores: usize,
    /// How many clients.
    pub clients: usize,
    /// Bookings that each client sets out to make.
    pub wishes: usize,
    /// Tickets of the sale.
    pub total: u64,
    /// How long a hold lasts.
    pub hold_ms: Option<u64>,
    /// How long it may become by extensions.
    pub hold_max_ms: Option<u64>,
    /// Most tickets of a buyer.
    pub per_buyer: Option<u32>,
    /// The weight of each host.
    pub weights: Vec<u32>,
    /// Spare permits.
    pub buffer: f64,
    /// How long a client waits for the ledger.
    pub ledger_timeout_ms: u64,
    /// How the ledger is kept.
    pub keeping: Keeping,
    /// The network.
    pub weather: Weather,
    /// When faults stop, in microseconds.
    pub healed_at: u64,
    /// What strikes, in the order of time.
    pub strikes: Vec<Strike>,
}

/// How a run is made smaller than its seed says. `None` leaves a thing as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// At most so many hosts.
    pub hosts: Option<usize>,
    /// At most so many loops.
    pub cores: Option<usize>,
    /// At most so many clients.
    pub clients: Option<usize>,
    /// At most so many bookings for each client.
    pub wishes: Option<usize>,
    /// Only these strikes, by their place.
    pub strikes: Option<Vec<usize>>,
    /// Faults stop no later, in milliseconds.
    pub until_ms: Option<u64>,
    /// A network that only delays.
    pub calm: bool,
}

impl Scenario {
    /// What that seed means, made smaller.
    pub fn new(seed: u64, cut: &Cut) -> Scenario {
        let mut random = Random::new(seed, "scenario", 0);
        let keeping = random.pick(&Keeping::ALL);
        let hosts = random.range(1, 3) as usize;
        let cores = random.range(1, 2) as usize;
        let clients = random.range(2, 8) as usize;
        let healed_at = random.range(800, 3_500) * 1_000;
        let mut scenario = Scenario {
            seed,
            hosts,
            cores,
            clients,
            wishes: random.range(1, 8) as usize,
            total: random.pick(&[1, 2, 3, 5, 8, 13, 30, 60]),
            hold_ms: random.chance(550).then(|| random.pick(&[30, 150, 400, 1_500, 4_000])),
            per_buyer: random.chance(350).then(|| random.range(1, 4) as u32),
            buffer: random.pick(&[0.0, 0.2, 0.2, 1.0]),
            ledger_timeout_ms: random.pick(&[2_000, 2_000, 300, 60]),
            keeping,
            weights: weights(seed, hosts),
            hold_max_ms: longest_hold(seed),
            keeps_state: Random::new(seed, "state", 0).chance(500),
            weather: weather(&mut random),
            healed_at,
            strikes: Vec::new(),
        };
        let strikes = random.pick(&[0, 1, 2, 3, 5, 8]);
        scenario.strikes = faults::draw(&mut random, &scenario, strikes);
        scenario.strikes.extend(faults::draw_garbling(seed, &scenario));
        scenario.strikes.extend(faults::draw_delete(seed, &scenario));
        scenario.strikes.extend(faults::draw_stranger(seed, &scenario));
        scenario.strikes.extend(faults::draw_limits(seed, &scenario));
        scenario.strikes.extend(faults::draw_assignments(seed, &scenario));
        scenario.strikes.extend(faults::draw_half_lost(seed, &scenario));
        scenario.strikes.extend(faults::draw_splits(seed, &scenario));
        if let Some(strike) = faults::draw_long_outage(seed, &scenario) {
            // What comes of it is seen once it is over.
            scenario.healed_at = scenario.healed_at.max(strike.at + (REMEMBERED_MS + 7_000) * 1_000);
            scenario.strikes.push(strike);
        }
        let healed_at = scenario.healed_at;
        scenario.strikes.sort_by_key(|strike| strike.at);
        let most = |value: usize, most: Option<usize>| most.map_or(value, |most| value.min(most.max(1)));
        scenario.hosts = most(hosts, cut.hosts);
        scenario.cores = most(cores, cut.cores);
        scenario.clients = most(clients, cut.clients);
        scenario.wishes = most(scenario.wishes, cut.wishes);
        if let Some(until_ms) = cut.until_ms {
            scenario.healed_at = healed_at.min(until_ms * 1_000);
        }
        if let Some(kept) = &cut.strikes {
            let numbered = std::mem::take(&mut scenario.strikes).into_iter().enumerate();
            scenario.strikes =
                numbered.filter(|(number, _)| kept.contains(number)).map(|(_, strike)| strike).collect();
        }
        if cut.calm {
            scenario.weather = Weather::CALM;
        }
        scenario
    }
}

fn weather(random: &mut Random) -> Weather {
    let delay_us = random.pick(&[30, 100, 500, 3_000]);
    Weather {
        delay_us,
        jitter_us: delay_us * random.pick(&[0, 1, 4]),
        spike_per_mille: random.pick(&[0, 0, 5, 30]),
        spike_us: random.pick(&[20_000, 200_000, 900_000]),
        tear_per_mille: random.pick(&[0, 100, 500, 900]),
        cut_per_mille: random.pick(&[0, 0, 20, 150]),
        lost_dial_per_mille: random.pick(&[0, 0, 20]),
    }
}

impl Cut {
    /// As words of the command line.
    pub fn words(&self) -> String {
        let mut words = String::new();
        let numbers = [
            ("hosts", self.hosts.map(|n| n as u64)),
            ("cores", self.cores.map(|n| n as u64)),
            ("clients", self.clients.map(|n| n as u64)),
            ("wishes", self.wishes.map(|n| n as u64)),
            ("until-ms", self.until_ms),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                words += &format!(" --{name} {number}");
            }
        }
        if let Some(strikes) = &self.strikes {
            let list: Vec<String> = strikes.iter().map(usize::to_string).collect();
            words +=
                &format!(" --strikes {}", if list.is_empty() { "none".to_owned() } else { list.join(",") });
        }
        if self.calm {
            words += " --calm";
        }
        words
    }
}

/// Its own chance, so that all else of a seed is as it was before hosts had weights.
fn weights(seed: u64, hosts: usize) -> Vec<u32> {
    let mut random = Random::new(seed, "weights", 0);
    (0..hosts).map(|_| random.pick(&[1, 1, 2, 4, 50])).collect()
}

/// Its own chance, so that all else of a seed is as it was before there were extensions.
fn longest_hold(seed: u64) -> Option<u64> {
    let mut random = Random::new(seed, "longest hold", 0);
    random.chance(600).then(|| random.pick(&[1_000, 1_500, 2_500, 5_000]))
}
