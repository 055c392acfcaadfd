//! Real faults on real processes, and whether every promise holds: SIGKILL, SIGSTOP, cut connections, errors of Redis,
//! torn and lost files, full disks.
//!
//! A program of its own instead of libtest's: faults mostly wait, so that many run beside each other, and each leaves
//! a row. `cargo test --test faults [WORD...]` plays those whose names contain a word. `make faults` plays all of them
//! long and writes the table to RESULTS.md.
//!
//! Each fault is played with mutants, too: the same evidence with one lie in it, which the checker must convict. A fault
//! whose mutant lives has failed, as has one that broke a promise.

#[path = "../support/mod.rs"]
mod support;

mod buyers;
mod checker;
mod cluster;
mod cut;
mod failover;
mod hosts;
mod losses;
mod outages;
mod overdue;
mod proxy;
mod refusals;
mod rights;
mod rollback;
mod scene;
mod sentinel;
mod sqlite;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use checker::Violation;
use scene::Scene;

/// How many faults are played at the same time, unless FAULT_THREADS says otherwise.
const THREADS: usize = 6;

/// How long everything is played.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often each fault strikes; RUNS.
    pub runs: u32,
    /// How often the loops of kills kill; KILLS.
    pub kills: u32,
}

/// Plays one fault.
pub type Play = fn(&Effort) -> Row;

/// One fault and what is promised under it.
pub struct Fault {
    /// What goes wrong.
    pub name: &'static str,
    /// What holds all the same.
    pub promise: &'static str,
    /// Plays it.
    pub play: Play,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Row {
    /// How often the fault struck.
    pub runs: u32,
    /// How many answers were judged.
    pub answers: usize,
    /// The promises that were broken.
    pub violations: Vec<Violation>,
    /// Each lie that was told, and the sentence.
    pub mutants: Vec<(&'static str, Violation)>,
}

impl Row {
    /// Takes in the verdict on a scene in which the fault struck that often.
    pub fn judge(&mut self, runs: u32, scene: &mut Scene) {
        self.runs += runs;
        self.violations.extend(scene.verdict());
        self.answers += scene.evidence.told.len();
    }
}

fn number(name: &str, default: u32) -> u32 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {text:?}")),
        Err(_) => default,
    }
}

fn main() -> ExitCode {
    checker::check_the_checker();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut faults: Vec<Fault> = [
        cut::FAULTS,
        hosts::FAULTS,
        failover::FAULTS,
        rollback::FAULTS,
        outages::FAULTS,
        losses::FAULTS,
        overdue::FAULTS,
        refusals::FAULTS,
        rights::FAULTS,
        sentinel::FAULTS,
        cluster::FAULTS,
        sqlite::FAULTS,
    ]
    .into_iter()
    .flatten()
    .map(|(name, promise, play)| Fault { name, promise, play: *play })
    .collect();
    // libtest's words are not ours: `cargo test -- --nocapture` is for the other tests of a run.
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let name = |fault: &Fault| fault.name.replace([' ', ',', ':'], "_");
    faults.retain(|fault| {
        words.is_empty() || words.iter().any(|&word| fault.name.contains(word) || name(fault).contains(word))
    });
    if arguments.iter().any(|word| word == "--list") {
        faults.iter().for_each(|fault| println!("{}: test", name(fault)));
        return ExitCode::SUCCESS;
    }
    let effort = Effort { runs: number("RUNS", 1), kills: number("KILLS", 60) };
    println!("\nplaying {} faults, {effort:?}", faults.len());
    let rows = play(&faults, &effort);
    let failed = rows.iter().filter(|row| !row.as_ref().is_some_and(|row| row.violations.is_empty())).count();
    if let Some(path) = std::env::var_os("TABLE") {
        if failed == 0 && words.is_empty() {
            std::fs::write(&path, table(&faults, &rows, &effort)).expect("the table can be written");
            println!("wrote {}", path.display());
        } else {
            println!("no table: it takes every fault, and each without a violation");
        }
    }
    match failed {
        0 => {
            println!("faults: ok, {} played, no promise broken\n", rows.len());
            ExitCode::SUCCESS
        }
        _ => {
            println!("faults: FAILED, {failed} of {}\n", rows.len());
            ExitCode::FAILURE
        }
    }
}

/// Plays them beside each other; `None` where one ended in a panic.
fn play(faults: &[Fault], effort: &Effort) -> Vec<Option<Row>> {
    let next = AtomicUsize::new(0);
    let rows: Vec<Mutex<Option<Row>>> = faults.iter().map(|_| Mutex::new(None)).collect();
    let threads = usize::try_from(number("FAULT_THREADS", 0)).unwrap_or(0);
    let threads = if threads == 0 { THREADS } else { threads };
    std::thread::scope(|scope| {
        for _ in 0..threads.min(faults.len()) {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| (fault.play)(effort)));
                    let seconds = started.elapsed().as_secs_f32();
                    let Ok(row) = outcome else {
                        println!("fault {} ... FAILED, see above ({seconds:.1} s)", fault.name);
                        continue;
                    };
                    let verdict = if row.violations.is_empty() { "ok" } else { "FAILED" };
                    println!(
                        "fault {} ... {verdict}, {} times, {} answers, {} mutants caught ({seconds:.1} s)",
                        fault.name,
                        row.runs,
                        row.answers,
                        row.mutants.len()
                    );
                    row.violations.iter().take(20).for_each(|violation| println!("    {violation:?}"));
                    assert!(!row.mutants.is_empty(), "{}: nothing shows that its check can fail", fault.name);
                    let place = faults
                        .iter()
                        .position(|other| std::ptr::eq(other, fault))
                        .expect("it is one of them");
                    *rows[place].lock().expect("nobody panics with it") = Some(row);
                }
            });
        }
    });
    rows.into_iter().map(|row| row.into_inner().expect("nobody panics with it")).collect()
}

fn said(command: &str, words: &[&str]) -> String {
    let output = Command::new(command).args(words).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The table, in Markdown.
fn table(faults: &[Fault], rows: &[Option<Row>], effort: &Effort) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let commit = said("git", &["describe", "--always", "--dirty"]);
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]);
    let redis = said("redis-server", &["--version"]);
    let mut text = format!(
        "# Faults\n\nWritten by `make faults`; [main.rs](main.rs) says how. Each row: real processes under load, the fault, \
         then every recorded answer held against the ledger, the rest of the stock sold, and `boxoffice audit`. A mutant is \
         the same with one lie in it, named with the rule of [checker.rs](checker.rs) that convicted it.\n\n\
         - {date}, boxoffice {} at {commit}, RUNS={} KILLS={}\n- {cores} cores,{}; Linux {}; {}; SQLite {}\n\n\
         | fault | promise | runs | answers judged | violations | mutants, each caught |\n| --- | --- | --: | --: | --: | --- |\n",
        env!("CARGO_PKG_VERSION"),
        effort.runs,
        effort.kills,
        model.trim_start_matches(['\t', ':']),
        said("uname", &["-r"]),
        redis.split(" sha").next().unwrap_or_default(),
        rusqlite::version(),
    );
    for (fault, row) in faults.iter().zip(rows.iter().flatten()) {
        let mutants: Vec<String> =
            row.mutants.iter().map(|(lie, sentence)| format!("{lie}: {:?}", sentence.rule)).collect();
        let (runs, answers, violations) = (row.runs, row.answers, row.violations.len());
        text += &format!(
            "| {} | {} | {runs} | {answers} | {violations} | {} |\n",
            fault.name,
            fault.promise,
            mutants.join("; ")
        );
    }
    text
}
