//! Makes a failing run smaller: fewer hosts, clients and faults, a shorter and calmer run, as long as it breaks the same
//! promise.

use crate::mutants::Mutant;
use crate::run_one;
use crate::scenario::{Cut, Scenario};

/// How many runs it may take.
const RUNS_MAX: usize = 400;

/// The smallest cut that was found with which the seed still breaks that rule.
pub fn shrink(seed: u64, start: &Cut, mutant: Option<Mutant>, rule: &str) -> Cut {
    let mut best = start.clone();
    let mut runs = 0;
    let mut progress = true;
    while progress && runs < RUNS_MAX {
        progress = false;
        for candidate in smaller(&Scenario::new(seed, &best), &best) {
            runs += 1;
            if runs > RUNS_MAX {
                break;
            }
            let broken = run_one(seed, &candidate, mutant, false).broken;
            if broken.is_some_and(|broken| broken.rule == rule) {
                best = candidate;
                progress = true;
                break;
            }
        }
    }
    best
}

/// One step smaller, the largest steps first.
fn smaller(scenario: &Scenario, cut: &Cut) -> Vec<Cut> {
    let mut candidates = Vec::new();
    let kept: Vec<usize> = match &cut.strikes {
        Some(strikes) => strikes.clone(),
        None => (0..scenario.strikes.len()).collect(),
    };
    if !kept.is_empty() {
        candidates.push(Cut { strikes: Some(Vec::new()), ..cut.clone() });
        for place in 0..kept.len() {
            let mut fewer = kept.clone();
            fewer.remove(place);
            candidates.push(Cut { strikes: Some(fewer), ..cut.clone() });
        }
    }
    let steps = |now: usize| [1, now / 2, now - 1].into_iter().filter(move |&less| less >= 1 && less < now);
    candidates.extend(steps(scenario.hosts).map(|hosts| Cut { hosts: Some(hosts), ..cut.clone() }));
    candidates.extend(steps(scenario.cores).map(|cores| Cut { cores: Some(cores), ..cut.clone() }));
    candidates.extend(steps(scenario.clients).map(|clients| Cut { clients: Some(clients), ..cut.clone() }));
    candidates.extend(steps(scenario.wishes).map(|wishes| Cut { wishes: Some(wishes), ..cut.clone() }));
    if !cut.calm {
        candidates.push(Cut { calm: true, ..cut.clone() });
    }
    let now_ms = scenario.healed_at / 1_000;
    for until_ms in [now_ms / 4, now_ms / 2, now_ms * 9 / 10] {
        if until_ms >= 1 && until_ms < now_ms {
            candidates.push(Cut { until_ms: Some(until_ms), ..cut.clone() });
        }
    }
    candidates
}
