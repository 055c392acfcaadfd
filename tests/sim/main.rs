//! The simulator: hosts of the real engine and the real scripts, on one thread, in virtual time, all chance from one seed.
//!
//! A tour, in the order in which a run is made:
//!
//! * [`scenario`]: what a seed means. How many hosts, loops and clients; the sale; how the ledger is kept; the weather of the
//!   network; which faults strike when.
//! * [`world`]: one run. Events in the order of time until the faults are over; then all of them heal, and what is promised of
//!   a healthy system must come about in bounded time.
//! * [`network`]: byte streams that are torn, late and cut. [`client`]: people who book, by bytes of HTTP. [`host`]: the real
//!   `Engine` and `Board`, and the real `Driver` and `Router` around them, with a [`kernel`] on the network where the worker
//!   has mio. [`ledger`]: the Redis, which is the model in [`redis`] that runs the real `lua/`, its replica and what befalls
//!   both.
//! * [`faults`]: what strikes, and how often each kind did: a kind that never fires in a whole run fails it.
//! * [`witness`]: what the ledger was at every moment, and whether each step of it was allowed. [`checks`]: what is promised,
//!   of each answer as it comes and of the run as a whole.
//! * [`mutants`]: what we break ourselves; each must be found. [`shrink`]: makes a failing run small.
//!
//! `cargo test --test sim` runs SEEDS seeds (10,000 unless told) and then the mutants. `make sim SEEDS=1000000` runs more, and
//! `make sim SEED=17` one, with every event in its trace. A seed that fails says how to run it again, shrunk.

mod checks;
mod client;
mod faults;
mod host;
mod kernel;
mod ledger;
mod mutants;
mod network;
mod random;
#[allow(dead_code, unused_imports, reason = "the comparison with a real redis-server uses the rest")]
#[path = "../redis_model/mod.rs"]
mod redis;
mod scenario;
mod served;
mod shrink;
mod witness;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use checks::Violation;
use faults::Counts;
use mutants::{MUTANTS, Mutant};
use scenario::{Cut, Scenario};
use world::{Outcome, World};

/// Seeds of a run, unless SEEDS says otherwise.
const SEEDS: u64 = 10_000;

/// Seeds within which each mutant must be found.
const MUTANT_SEEDS: u64 = 3_000;

/// So many seeds and more must have fired every kind of fault.
const COVERING_SEEDS: u64 = 2_000;

/// Runs one seed; a panic in it (a broken invariant of the product, or of the simulator) breaks the rule "panic".
pub fn run_one(seed: u64, cut: &Cut, mutant: Option<Mutant>, traced: bool) -> Outcome {
    PANIC.set(None);
    let ran = catch_unwind(AssertUnwindSafe(|| World::run(Scenario::new(seed, cut), mutant, traced)));
    ran.unwrap_or_else(|_| {
        let what = PANIC.take().unwrap_or_default();
        Outcome {
            broken: Some(Violation::new("panic", what)),
            counts: Counts::default(),
            digest: 0,
            trace: Vec::new(),
            answers: 0,
            virtual_us: 0,
        }
    })
}

thread_local!(static PANIC: std::cell::RefCell<Option<String>> = const { std::cell::RefCell::new(None) });

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    seed: Option<u64>,
    seeds: Option<u64>,
    first: u64,
    cut: Cut,
    mutant: Option<Mutant>,
    list: bool,
    trace: bool,
    words: Vec<String>,
}

fn main() -> ExitCode {
    check_mutants();
    std::panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
    let wanted = match read_arguments() {
        Ok(wanted) => wanted,
        Err(word) => {
            println!("sim: {word}");
            return ExitCode::FAILURE;
        }
    };
    let mut tests: Vec<(String, Test)> =
        vec![("same_seed_same_run".to_owned(), Test::Same), ("seeds".to_owned(), Test::Seeds)];
    tests.extend(MUTANTS.iter().map(|mutant| {
        (format!("mutant_{}", mutant.name.replace([' ', ',', ':'], "_")), Test::Mutant(*mutant))
    }));
    tests.retain(|(name, _)| {
        wanted.words.is_empty() || wanted.words.iter().any(|word| name.contains(word.as_str()))
    });
    if wanted.list {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = wanted.seed {
        return replay(seed, &wanted);
    }
    println!("\nsim: {} tests", tests.len());
    let started = Instant::now();
    let failed = run_tests(&tests, &wanted);
    redis::lines::write();
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\nsim: {verdict}. {} passed, {failed} failed; {:.1} s\n",
        tests.len() - failed,
        started.elapsed().as_secs_f32()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A mutant of a text that is no longer there would be none.
fn check_mutants() {
    for mutant in MUTANTS {
        for (from, _) in mutant.rewrite {
            assert!(
                ledger::SCRIPTS.iter().any(|text| text.contains(from)),
                "{}: no script has {from:?}",
                mutant.name
            );
        }
    }
}

#[derive(Clone, Copy)]
enum Test {
    Same,
    Seeds,
    Mutant(Mutant),
}

fn read_arguments() -> Result<Wanted, String> {
    let mut wanted = Wanted { first: 0, ..Wanted::default() };
    let number = |name: &str, text: Option<String>| -> Result<u64, String> {
        let text = text.ok_or_else(|| format!("{name} takes a number"))?;
        text.parse().map_err(|_| format!("{name} takes a number, not {text:?}"))
    };
    for (name, place) in [("SEED", 0), ("SEEDS", 1), ("FIRST", 2)] {
        if let Ok(text) = std::env::var(name)
            && !text.is_empty()
        {
            let value = number(name, Some(text))?;
            match place {
                0 => wanted.seed = Some(value),
                1 => wanted.seeds = Some(value),
                _ => wanted.first = value,
            }
        }
    }
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut size =
            || number(&argument, arguments.next()).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        match argument.as_str() {
            "--list" => wanted.list = true,
            "--trace" => wanted.trace = true,
            "--calm" => wanted.cut.calm = true,
            "--seed" => wanted.seed = Some(size()? as u64),
            "--seeds" => wanted.seeds = Some(size()? as u64),
            "--first" => wanted.first = size()? as u64,
            "--hosts" => wanted.cut.hosts = Some(size()?),
            "--cores" => wanted.cut.cores = Some(size()?),
            "--clients" => wanted.cut.clients = Some(size()?),
            "--wishes" => wanted.cut.wishes = Some(size()?),
            "--until-ms" => wanted.cut.until_ms = Some(size()? as u64),
            "--strikes" => {
                let list = arguments.next().unwrap_or_default();
                let places = list.split(',').filter(|place| *place != "none");
                let places: Result<Vec<usize>, _> = places.map(str::parse).collect();
                wanted.cut.strikes =
                    Some(places.map_err(|_| format!("--strikes takes numbers, not {list:?}"))?);
            }
            "--mutant" => {
                let name = arguments.next().unwrap_or_default();
                let found = MUTANTS.iter().find(|mutant| mutant.name.contains(&name));
                wanted.mutant = Some(*found.ok_or_else(|| format!("no mutant is called {name:?}"))?);
            }
            // libtest's words are not ours: `cargo test -- --nocapture` is for the other tests of a run.
            flag if flag.starts_with('-') => {}
            word => wanted.words.push(word.to_owned()),
        }
    }
    Ok(wanted)
}

fn run_tests(tests: &[(String, Test)], wanted: &Wanted) -> usize {
    let mut failed = 0;
    let mut rows = Vec::new();
    let mutants: Vec<Mutant> = tests
        .iter()
        .filter_map(|(_, test)| if let Test::Mutant(mutant) = test { Some(*mutant) } else { None })
        .collect();
    for (name, test) in tests {
        let started = Instant::now();
        let passed = match test {
            Test::Same => same_seed_same_run(),
            Test::Seeds => run_seeds(wanted),
            Test::Mutant(_) => continue,
        };
        let verdict = if passed { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({:.1} s)", started.elapsed().as_secs_f32());
        failed += usize::from(!passed);
    }
    for (mutant, found) in mutants.iter().zip(hunt(&mutants)) {
        match found {
            Some((seed, broken)) => {
                println!("test mutant {} ... ok, found by seed {seed}: {}", mutant.name, broken.rule);
                rows.push(format!("| {} | {seed} | {} |\n", mutant.name, broken.rule));
            }
            None => {
                println!("test mutant {} ... FAILED, it lives through {MUTANT_SEEDS} seeds", mutant.name);
                failed += 1;
            }
        }
    }
    if let Some(path) = std::env::var_os("TABLE") {
        match failed == 0 && rows.len() == MUTANTS.len() {
            true => {
                let head = include_str!("mutants_head.md");
                std::fs::write(&path, format!("{head}{}", rows.concat())).expect("the table can be written");
                println!("wrote {}", path.display());
            }
            false => println!("no table: it takes every mutant, and each found"),
        }
    }
    failed
}

fn threads() -> usize {
    let asked = std::env::var("SIM_THREADS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// The same seed is the same run, to the last byte of the last answer.
fn same_seed_same_run() -> bool {
    let all = Cut::default();
    let digests = |seed| [0, 1].map(|_| run_one(seed, &all, None, false).digest);
    (0..20).map(digests).all(|[first, second]| first == second)
}

/// Runs seeds side by side; says what broke, and how to see it again.
fn run_seeds(wanted: &Wanted) -> bool {
    let seeds = wanted.seeds.unwrap_or(SEEDS);
    let next = AtomicU64::new(wanted.first);
    let stop = AtomicBool::new(false);
    let totals = Mutex::new((Counts::default(), 0u64, 0u64));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= wanted.first + seeds || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run_one(seed, &wanted.cut, wanted.mutant, false);
                    let mut totals = totals.lock().expect("nobody panics with it");
                    totals.0.merge(&outcome.counts);
                    totals.1 += outcome.answers;
                    totals.2 += outcome.virtual_us;
                    if let Some(broken) = outcome.broken {
                        let mut failures = failures.lock().expect("nobody panics with it");
                        failures.push((seed, broken));
                        // A few are enough to see whether it is always the same.
                        if failures.len() >= 5 {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (counts, answers, virtual_us) = totals.into_inner().expect("nobody panics with it");
    let failures = failures.into_inner().expect("nobody panics with it");
    println!(
        "{seeds} seeds: {answers} answers judged, {:.1} hours of virtual time, {} runs broke a promise",
        virtual_us as f64 / 3.6e9,
        failures.len()
    );
    let fired: Vec<String> = counts.0.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
    println!("fired: {}", fired.join(", "));
    for (place, (seed, broken)) in failures.iter().enumerate() {
        println!("\nseed {seed} breaks \"{}\": {}", broken.rule, broken.what);
        let cut = match place {
            0 => shrink::shrink(*seed, &wanted.cut, wanted.mutant, broken.rule),
            _ => wanted.cut.clone(),
        };
        println!("    cargo test --profile quick --test sim -- --seed {seed}{}", cut.words());
    }
    let missing = counts.missing();
    let covered = seeds < COVERING_SEEDS || wanted.cut != Cut::default() || missing.is_empty();
    if !covered {
        println!("never fired: {missing:?}");
    }
    failures.is_empty() && covered
}

/// The first seed that finds each mutant.
fn hunt(mutants: &[Mutant]) -> Vec<Option<(u64, Violation)>> {
    let next = AtomicU64::new(0);
    let found: Vec<Mutex<Option<(u64, Violation)>>> = mutants.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(place) = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).ok()
                    && let Some(mutant) = mutants.get(place)
                {
                    let caught = (0..MUTANT_SEEDS).find_map(|seed| {
                        run_one(seed, &Cut::default(), Some(*mutant), false)
                            .broken
                            .map(|broken| (seed, broken))
                    });
                    *found[place].lock().expect("nobody panics with it") = caught;
                }
            });
        }
    });
    found.into_iter().map(|place| place.into_inner().expect("nobody panics with it")).collect()
}

/// One seed, with its trace.
fn replay(seed: u64, wanted: &Wanted) -> ExitCode {
    let outcome = run_one(seed, &wanted.cut, wanted.mutant, true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    match outcome.broken {
        None => {
            println!("\nsim: ok. 1 passed, 0 failed; seed {seed}, {} answers\n", outcome.answers);
            ExitCode::SUCCESS
        }
        Some(broken) => {
            println!("\nseed {seed} breaks \"{}\": {}", broken.rule, broken.what);
            println!("\nsim: FAILED. 0 passed, 1 failed\n");
            ExitCode::FAILURE
        }
    }
}
