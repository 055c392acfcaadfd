//! A hundred hosts, an uneven crowd, and hosts that die in mid-sale: what a crowd is told, and what it costs the ledger.
//! `make bench-scale` runs the same with a million buyers.

mod fleet;

use fleet::{Crowd, Fleet, Outcomes};

const MS: u64 = 1_000_000;

fn crowd(hosts: usize) -> Crowd {
    let deaths = if hosts > 3 { 3 } else { 0 };
    Crowd {
        hosts,
        buyers: 60_000,
        rush_ms: 1_000,
        tickets: 3_000,
        favoured: 900,
        deaths,
        returned: 100,
        buffer: 0.2,
    }
}

fn check(crowd: &Crowd) -> Outcomes {
    let told = Fleet::run(crowd);
    println!("{told:?}");
    let all = crowd.tickets + crowd.returned;
    assert_eq!(told.left, 0, "every ticket is sold");
    assert_eq!(told.granted + told.unheard, all, "and none twice");
    assert_eq!(told.false_refusals, 0, "nobody hears \"sold out\" while there are tickets");
    let most = (all as f64 * (1.0 + crowd.buffer)) as u64 + crowd.hosts as u64;
    let at_once = told.most_claims_at_once;
    assert!(at_once <= most, "{at_once} claims at once for {all} tickets, and at most {most} may come");
    assert!(told.booking_calls <= told.claims);
    let others = told.refused_at_once + told.refused_standing + told.refused_by_ledger + told.turned_away;
    assert_eq!(told.granted + others, crowd.buyers - in_hand(crowd, &told), "each was answered");
    told
}

/// Buyers whose host died with their request.
fn in_hand(crowd: &Crowd, told: &Outcomes) -> u64 {
    let answered = told.granted
        + told.refused_at_once
        + told.refused_standing
        + told.refused_by_ledger
        + told.turned_away;
    let lost = crowd.buyers - answered;
    assert!(lost <= 1_000 * crowd.deaths as u64, "{lost} were never answered");
    lost
}

#[test]
fn a_hundred_hosts_with_an_uneven_crowd_and_three_deaths_sell_all_there_is() {
    let told = check(&crowd(100));
    assert!(told.claims as f64 <= 1.2 * 3_100.0 + 100.0, "{} claims in all", told.claims);
    assert!(told.shares_max < 1.0 + 1e-6, "{} of the crowd", told.shares_max);
    assert!(told.shares_after_ns <= 2_000 * MS, "the dead keep their shares for {} ns", told.shares_after_ns);
    assert!(told.known_after_ns <= 300 * MS, "sold out is known after {} ns", told.known_after_ns);
    assert!(told.reopened_after_ns <= 300 * MS, "what came back sells after {} ns", told.reopened_after_ns);
}

#[test]
fn one_host_and_ten_do_as_well() {
    check(&crowd(1));
    check(&crowd(10));
}

/// All of them ask before any host has an answer: what comes to the ledger at once is what hosts have permits for. (In all it
/// is more. The first hosts to be answered ask again while what the others asked for still waits in Redis.)
#[test]
fn of_a_crowd_that_comes_in_one_moment_no_more_reaches_the_ledger_than_there_is() {
    check(&Crowd { favoured: 10, rush_ms: 1, ..crowd(100) });
}

#[test]
fn an_even_crowd_is_answered_without_a_503() {
    let told = check(&Crowd { favoured: 10, deaths: 0, ..crowd(100) });
    assert_eq!(told.turned_away, 0);
}
