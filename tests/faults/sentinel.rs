//! A primary that fails over by Sentinel under hosts that follow it: killed, frozen, cut off, and replaced by hand, at
//! `replicas=1` and at `ack`. What is measured beside that, how soon each host sells after the sentinels have named another, is
//! printed and promises nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::buyers::ask_once;
use crate::checker::{Rule, Told, Violation, Word};
use crate::hosts::forget_one;
use crate::scene::Scene;
use crate::support::PATIENCE;
use crate::support::sentinels::SentinelSet;
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    ("Sentinel: primary killed, --durability replicas=1", KEPT, |effort| {
        play(effort, Strike::Kill, "replicas=1")
    }),
    ("Sentinel: primary killed, --durability ack", PUT_BACK, |effort| play(effort, Strike::Kill, "ack")),
    ("Sentinel: primary stopped and back, --durability replicas=1", KEPT, |effort| {
        play(effort, Strike::Freeze, "replicas=1")
    }),
    ("Sentinel: primary stopped and back, --durability ack", PUT_BACK, |effort| {
        play(effort, Strike::Freeze, "ack")
    }),
    ("Sentinel: primary cut off but from hosts, --durability replicas=1", KEPT, |effort| {
        play(effort, Strike::CutOff, "replicas=1")
    }),
    ("Sentinel: primary cut off but from hosts, --durability ack", PUT_BACK, |effort| {
        play(effort, Strike::CutOff, "ack")
    }),
    ("Sentinel: failover by hand, --durability replicas=1", BY_HAND, |effort| {
        play(effort, Strike::ByHand, "replicas=1")
    }),
    ("Sentinel: failover by hand, --durability ack", PUT_BACK, |effort| play(effort, Strike::ByHand, "ack")),
];

const KEPT: &str =
    "every acknowledged booking is on the primary that is named; hosts follow it without a restart";
const PUT_BACK: &str = "what the primary that is named does not have is put back by the hosts, or named; they follow it without a restart";

/// Nothing stops the old primary from waiting for the replica that is not the chosen one.
const BY_HAND: &str =
    "what only the other replica had got is put back by the hosts; they follow the primary without a restart";

/// How long a primary that is cut off, or stopped, stays so after another was named.
const STAYS: Duration = Duration::from_millis(1_500);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strike {
    Kill,
    Freeze,
    CutOff,
    ByHand,
}

fn play(effort: &Effort, strike: Strike, durability: &str) -> Row {
    let mut row = Row::default();
    let mut times = Vec::new();
    // One set for some runs: the primary that fell is the replica of the next.
    let mut left = effort.runs;
    while left > 0 {
        let runs = left.min(5);
        left -= runs;
        let mut set = SentinelSet::start(&[], &[]);
        let mut scene = Scene::with_redis(&set.url(), &set.url(), 2, &["--durability", durability]);
        for run in 0..runs {
            times.extend(strike_once(&mut set, &mut scene, strike, run));
        }
        row.judge(runs, &mut scene);
        if left == 0 {
            let primary = set.settle();
            forget_one(&set.nodes[primary], &mut scene, &mut row);
        }
    }
    if (strike, durability) == (Strike::CutOff, "ack") {
        let sentence = forgotten_with_hosts();
        row.mutants.push(("hosts killed with the primary that alone had bookings", sentence));
    }
    times.sort_unstable();
    if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
        println!(
            "    {durability}, {}: a host sells {median:?} after another is named, at worst {worst:?}",
            strike.word()
        );
    }
    row
}

/// How long after the sentinels' word each host had sold.
fn strike_once(set: &mut SentinelSet, scene: &mut Scene, strike: Strike, run: u32) -> Vec<Duration> {
    let primary = set.settle();
    let crowd = scene.buyers(&format!("crowd-{run}"), 8);
    let probes: Vec<_> = (0..scene.hosts.len()).map(|host| Probe::start(scene, host, run)).collect();
    crowd.wait_for(100);
    let switches: Vec<_> = set.sentinels.iter().map(|sentinel| sentinel.next_switch()).collect();
    match strike {
        Strike::Kill => set.nodes[primary].kill(),
        Strike::Freeze => set.nodes[primary].freeze(),
        Strike::CutOff => set.cut_off(primary),
        Strike::ByHand => set.fail_over(primary),
    }
    set.wait_for_another(primary);
    crowd.wait_for(100);
    if matches!(strike, Strike::Freeze | Strike::CutOff) {
        std::thread::sleep(STAYS);
    }
    match strike {
        Strike::Kill => set.nodes[primary].start_again(),
        Strike::Freeze => set.nodes[primary].thaw(),
        Strike::CutOff => set.let_in(primary),
        Strike::ByHand => {}
    }
    set.settle();
    crowd.wait_for(100);
    scene.wait_until_sold_from();
    scene.keep(crowd);
    // Two of them: that is the word that hosts wait for.
    let mut named: Vec<_> =
        switches.into_iter().filter_map(|switch| switch.join().expect("it listens")).collect();
    named.sort_unstable();
    let told = probes.into_iter().map(Probe::finish);
    let sold_after = |told: &[Told]| {
        let named = *named.get(1)?;
        let sold = told.iter().filter(|told| matches!(told.word, Word::Booked { .. } | Word::Known { .. }));
        let first = sold.map(|told| told.answered_at).filter(|at| *at >= named).min()?;
        Some(first - named)
    };
    told.filter_map(|told| {
        let after = sold_after(&told);
        scene.evidence.told.extend(told);
        after
    })
    .collect()
}

impl Strike {
    fn word(self) -> &'static str {
        match self {
            Strike::Kill => "killed",
            Strike::Freeze => "stopped",
            Strike::CutOff => "cut off",
            Strike::ByHand => "by hand",
        }
    }
}

/// One buyer that stays with one host, and asks again and again.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    told: mpsc::Receiver<Told>,
}

impl Probe {
    fn start(scene: &Scene, host: usize, run: u32) -> Probe {
        let (stop, (sender, told)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let (address, stopped) = (scene.hosts[host].address, Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                let id = format!("probe-{run}-{host}-{number}");
                loop {
                    let told = ask_once(address, &id, 1);
                    let is_over = matches!(told.word, Word::Booked { .. } | Word::Known { .. });
                    if sender.send(told).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                    if is_over {
                        break;
                    }
                }
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        Probe { stop, thread, told }
    }

    fn finish(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a probe does not panic");
        self.told.into_iter().collect()
    }
}

/// What only a primary that was cut off and hosts that died knew.
fn forgotten_with_hosts() -> Violation {
    let set = SentinelSet::start(&[], &[]);
    let mut scene = Scene::with_redis(&set.url(), &set.url(), 2, &["--durability", "ack"]);
    let crowd = scene.buyers("crowd", 8);
    crowd.wait_for(50);
    set.wait_for_replicas(0, 2);
    set.cut_off(0);
    crowd.wait_for(100);
    for host in 0..scene.hosts.len() {
        scene.kill_host(host);
    }
    set.wait_for_another(0);
    set.let_in(0);
    set.wait_for_replica(0);
    for host in 0..scene.hosts.len() {
        scene.restart_host(host);
    }
    scene.keep(crowd);
    let until = Instant::now() + PATIENCE;
    while scene.read_ledger().is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.expect_conviction(&[Rule::Lost])
}
