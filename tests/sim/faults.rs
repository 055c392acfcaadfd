//! What strikes from outside: which faults there are, when they are drawn, and how often each fired.

use std::collections::BTreeMap;

use boxoffice::limits::REMEMBERED_MS;

use crate::random::Random;
use crate::scenario::{Keeping, Scenario};

/// One fault. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A host is killed, and started again after a while.
    KillHost { host: usize, down_ms: u64 },
    /// A host drains, ends, and is started again.
    DrainHost { host: usize, down_ms: u64 },
    /// A host stands still and then goes on.
    PauseHost { host: usize, ms: u64 },
    /// A host's wall clock jumps.
    JumpHostClock { host: usize, by_ms: i64 },
    /// Connections of clients break.
    CutClients { host: usize },
    /// A host's connections to Redis break.
    CutLedger { host: usize },
    /// What travels between a host and Redis gets stuck, and arrives late.
    FreezeLedger { host: usize, ms: u64 },
    /// A client stops reading for a while.
    FreezeClients { host: usize, ms: u64 },
    /// Redis crashes and comes back with what its set-up keeps.
    CrashRedis { down_ms: u64 },
    /// Redis crashes and loses its newest effects, as far as its set-up allows for that.
    LoseTail { down_ms: u64, effects: usize },
    /// Redis crashes and comes back empty.
    LoseAll { down_ms: u64 },
    /// Somebody deletes the counts and terms of the sale, and nothing else of it.
    DeleteStock,
    /// Somebody deletes the bookings, and nothing else of the sale: what is left counts tickets that nobody has.
    DeleteBookings,
    /// The replica takes the place of the Redis.
    Failover { down_ms: u64 },
    /// The replica takes the place of a Redis that goes on writing, for hosts that hear of it within that time.
    Split { ms: u64 },
    /// The script cache is emptied.
    FlushScripts,
    /// Redis answers with an error to all it is asked.
    Refuse { trouble: Refusing, ms: u64 },
    /// Some of what Redis answers makes no sense, whether it did what it was asked or not.
    GarbleReplies { ms: u64 },
    /// Redis stands still and then goes on.
    PauseRedis { ms: u64 },
    /// Redis' clock jumps.
    JumpRedisClock { by_ms: i64 },
    /// An operator pauses the sale, and resumes it.
    PauseSale { ms: u64 },
    /// An operator changes the total.
    ChangeTotal { by: i64 },
    /// An operator limits what a buyer may have, or no longer does.
    LimitBuyers { most: Option<u32> },
    /// An operator gives one of the bookings that have tickets to that buyer; empty for nobody.
    Assign { which: u64, buyer: String },
}

/// An error with which Redis refuses to do anything, or to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusing {
    /// It reads its files.
    Loading,
    /// A script runs too long.
    Busy,
    /// No memory.
    Oom,
    /// It cannot write to its disk.
    Misconf,
    /// It is a replica.
    Readonly,
}

/// A fault and when it strikes, in microseconds.
#[derive(Clone, Debug)]
pub struct Strike {
    /// When.
    pub at: u64,
    /// What.
    pub fault: Fault,
}

impl Fault {
    /// What it is counted as.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::KillHost { .. } => "host killed",
            Fault::DrainHost { .. } => "host drained",
            Fault::PauseHost { .. } => "host paused",
            Fault::JumpHostClock { .. } => "host clock jumps",
            Fault::CutClients { .. } => "clients cut off",
            Fault::CutLedger { .. } => "ledger cut off",
            Fault::FreezeLedger { .. } => "ledger late",
            Fault::FreezeClients { .. } => "clients do not read",
            Fault::CrashRedis { .. } => "redis crashes",
            Fault::LoseTail { .. } => "redis loses a tail",
            Fault::LoseAll { .. } => "redis loses all",
            Fault::DeleteStock => "stock deleted",
            Fault::DeleteBookings => "bookings deleted",
            Fault::Failover { .. } => "failover",
            Fault::Split { .. } => "primary replaced and goes on",
            Fault::FlushScripts => "scripts flushed",
            Fault::Refuse { trouble: Refusing::Loading, .. } => "LOADING",
            Fault::Refuse { trouble: Refusing::Busy, .. } => "BUSY",
            Fault::Refuse { trouble: Refusing::Oom, .. } => "OOM",
            Fault::Refuse { trouble: Refusing::Misconf, .. } => "MISCONF",
            Fault::Refuse { trouble: Refusing::Readonly, .. } => "READONLY",
            Fault::GarbleReplies { .. } => "replies garbled",
            Fault::PauseRedis { .. } => "redis paused",
            Fault::JumpRedisClock { .. } => "redis clock jumps",
            Fault::PauseSale { .. } => "sale paused",
            Fault::ChangeTotal { .. } => "total changed",
            Fault::LimitBuyers { .. } => "buyers limited",
            Fault::Assign { .. } => "booking given to another buyer",
        }
    }
}

/// All that must have fired in a run of many seeds: faults, what the network does, and what clients do.
pub const KINDS: &[&str] = &[
    "host killed",
    "host drained",
    "host paused",
    "host clock jumps",
    "clients cut off",
    "ledger cut off",
    "ledger late",
    "clients do not read",
    "redis crashes",
    "redis loses a tail",
    "redis loses all",
    "stock deleted",
    "bookings deleted",
    "failover",
    "failover forgets",
    "primary replaced and goes on",
    "call carried out in vain",
    "scripts flushed",
    "LOADING",
    "BUSY",
    "OOM",
    "MISCONF",
    "READONLY",
    "replies garbled",
    "answer garbled",
    "redis paused",
    "redis clock jumps",
    "sale paused",
    "total changed",
    "buyers limited",
    "booking given to another buyer",
    "stream heard to its end",
    "write torn",
    "piece late",
    "cut at a byte",
    "no room to write",
    "client vanishes",
    "client half-closes",
    "client falls silent",
    "client pipelines",
    "client pipelines deeds on one booking",
    "client asks again",
    "client asks again elsewhere",
    "client gives up waiting",
    "client reuses an id",
    "hold expires",
    "repeat of a booking",
    "no permit within its time",
    "outcome unknown",
    "start fails",
    "opened by a start",
];

/// How often each kind fired.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    /// One more.
    pub fn add(&mut self, kind: &'static str) {
        self.add_many(kind, 1);
    }

    /// So many more.
    pub fn add_many(&mut self, kind: &'static str, times: u64) {
        debug_assert!(KINDS.contains(&kind), "{kind}");
        *self.0.entry(kind).or_default() += times;
    }

    /// What another run counted.
    pub fn merge(&mut self, other: &Counts) {
        for (kind, times) in &other.0 {
            *self.0.entry(kind).or_default() += times;
        }
    }

    /// Kinds that never fired.
    pub fn missing(&self) -> Vec<&'static str> {
        KINDS.iter().copied().filter(|kind| self.0.get(kind).is_none_or(|times| *times == 0)).collect()
    }
}

/// Draws `count` strikes that this scenario's set-up allows.
pub fn draw(random: &mut Random, scenario: &Scenario, count: usize) -> Vec<Strike> {
    let mut strikes: Vec<Strike> = (0..count)
        .map(|_| {
            let at = random.range(0, scenario.healed_at * 9 / 10);
            Strike { at, fault: draw_one(random, scenario) }
        })
        .collect();
    strikes.sort_by_key(|strike| strike.at);
    strikes
}

/// Draws, for some seeds, a time in which replies are garbled. By itself, so that all the other seeds are what they were.
pub fn draw_garbling(seed: u64, scenario: &Scenario) -> Option<Strike> {
    let mut random = Random::new(seed, "garbled", 0);
    random.chance(120).then(|| {
        let at = random.range(0, scenario.healed_at * 9 / 10);
        Strike { at, fault: Fault::GarbleReplies { ms: random.pick(&[300, 1_200, 3_000]) } }
    })
}

/// Draws, for some seeds whose set-up may lose what was acknowledged, the loss of the stock alone. By itself, as that.
pub fn draw_delete(seed: u64, scenario: &Scenario) -> Option<Strike> {
    let mut random = Random::new(seed, "deleted", 0);
    (scenario.keeping.may_forget() && random.chance(60)).then(|| {
        let at = random.range(0, scenario.healed_at * 9 / 10);
        Strike { at, fault: Fault::DeleteStock }
    })
}

/// Draws, for some of the same seeds, the loss of the bookings alone. By itself, as that.
pub fn draw_half_lost(seed: u64, scenario: &Scenario) -> Option<Strike> {
    let mut random = Random::new(seed, "half lost", 0);
    (scenario.keeping.may_forget() && random.chance(60)).then(|| {
        let at = random.range(scenario.healed_at / 10, scenario.healed_at * 9 / 10);
        Strike { at, fault: Fault::DeleteBookings }
    })
}

/// Draws, for some seeds, that an operator limits buyers in mid-sale, once or again and again. By itself, as that.
pub fn draw_limits(seed: u64, scenario: &Scenario) -> Vec<Strike> {
    let mut random = Random::new(seed, "limits", 0);
    let times = if random.chance(200) { random.range(1, 3) } else { 0 };
    (0..times)
        .map(|_| {
            let at = random.range(0, scenario.healed_at * 9 / 10);
            let most = random.chance(750).then(|| random.range(1, 4) as u32);
            Strike { at, fault: Fault::LimitBuyers { most } }
        })
        .collect()
}

/// Draws, for some seeds, that an operator gives bookings to other buyers. By itself, as that.
pub fn draw_assignments(seed: u64, scenario: &Scenario) -> Vec<Strike> {
    let mut random = Random::new(seed, "assigned", 0);
    let times = if random.chance(250) { random.range(1, 6) } else { 0 };
    (0..times)
        .map(|_| {
            let at = random.range(scenario.healed_at / 10, scenario.healed_at * 95 / 100);
            let buyer = match random.below(5) {
                0 => String::new(),
                1 | 2 => "u-shared".to_owned(),
                _ => format!("u-{}", random.below(scenario.clients + 1)),
            };
            Strike { at, fault: Fault::Assign { which: random.next(), buyer } }
        })
        .collect()
}

/// Draws, for some seeds, that a host without a memory starts on a ledger that has lost everything while those that know
/// it stand still. By itself, as that.
pub fn draw_stranger(seed: u64, scenario: &Scenario) -> Vec<Strike> {
    const STARTED_US: u64 = 2_300_000;
    let mut random = Random::new(seed, "stranger", 0);
    let is_possible = scenario.keeping == Keeping::Memory
        && !scenario.keeps_state
        && scenario.hosts > 1
        && scenario.healed_at > STARTED_US + 500_000;
    if !is_possible || !random.chance(500) {
        return Vec::new();
    }
    let at = random.range(0, scenario.healed_at - STARTED_US - 400_000);
    let others = (1..scenario.hosts).map(|host| Fault::PauseHost { host, ms: STARTED_US / 1_000 });
    let faults = [Fault::LoseAll { down_ms: 1 }, Fault::KillHost { host: 0, down_ms: 20 }];
    others.chain(faults).map(|fault| Strike { at, fault }).collect()
}

/// Draws, for some seeds whose Redis may fall back, that it does so and is away for longer than hosts remember what they
/// acknowledged while it is there. By itself, as that.
pub fn draw_long_outage(seed: u64, scenario: &Scenario) -> Option<Strike> {
    let mut random = Random::new(seed, "long outage", 0);
    (scenario.keeping.may_forget() && random.chance(40)).then(|| {
        let at = random.range(scenario.healed_at / 10, scenario.healed_at * 9 / 10);
        let down_ms = random.range(REMEMBERED_MS, REMEMBERED_MS + 5_000);
        let fault = match scenario.keeping {
            Keeping::Lagging => Fault::Failover { down_ms },
            Keeping::Memory => Fault::LoseAll { down_ms },
            _ => Fault::LoseTail { down_ms, effects: random.below(12) },
        };
        Strike { at, fault }
    })
}

/// Draws, for some seeds whose hosts wait for a replica, that another takes the primary's place while it goes on writing. By
/// itself, as that.
pub fn draw_splits(seed: u64, scenario: &Scenario) -> Vec<Strike> {
    let mut random = Random::new(seed, "split", 0);
    let is_possible = scenario.keeping == Keeping::OneReplica && random.chance(500);
    let times = if is_possible { random.range(1, 3) } else { 0 };
    (0..times)
        .map(|_| {
            let at = random.range(scenario.healed_at / 20, scenario.healed_at * 9 / 10);
            Strike { at, fault: Fault::Split { ms: random.pick(&[5, 200, 1_500, 10_000]) } }
        })
        .collect()
}

fn draw_one(random: &mut Random, scenario: &Scenario) -> Fault {
    let host = random.below(scenario.hosts);
    let down_ms = random.pick(&[1, 20, 200, 900]);
    let ms = random.pick(&[5, 50, 300, 1_200, 6_000]);
    let by_ms = random.pick(&[-3_600_000, -900, -40, 40, 900, 3_600_000]);
    let trouble = random.pick(&[
        Refusing::Loading,
        Refusing::Busy,
        Refusing::Oom,
        Refusing::Misconf,
        Refusing::Readonly,
    ]);
    let by = random.range(0, 10) as i64 - 3;
    match random.below(19) {
        0 | 1 => Fault::KillHost { host, down_ms },
        2 => Fault::DrainHost { host, down_ms },
        3 => Fault::PauseHost { host, ms },
        4 => Fault::JumpHostClock { host, by_ms },
        5 => Fault::CutClients { host },
        6 | 7 => Fault::CutLedger { host },
        8 => Fault::FreezeLedger { host, ms },
        9 => Fault::FreezeClients { host, ms: ms.max(1_200) * 2 },
        10 if !scenario.keeping.has_replica() => Fault::CrashRedis { down_ms },
        10 if random.chance(300) => Fault::CrashRedis { down_ms },
        10..=12 => match scenario.keeping {
            Keeping::EverySecond => Fault::LoseTail { down_ms, effects: random.below(12) },
            Keeping::OneReplica | Keeping::Lagging => Fault::Failover { down_ms },
            Keeping::Memory => Fault::LoseAll { down_ms },
            Keeping::Always | Keeping::AlwaysChecked => Fault::CrashRedis { down_ms },
        },
        13 => Fault::FlushScripts,
        14 => Fault::Refuse { trouble, ms: ms.min(1_200) },
        15 => Fault::PauseRedis { ms },
        16 => Fault::JumpRedisClock { by_ms },
        17 => Fault::PauseSale { ms: ms.min(1_200) },
        _ => Fault::ChangeTotal { by },
    }
}
