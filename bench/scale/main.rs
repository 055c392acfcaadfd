//! A million buyers on one, ten and a hundred hosts, in virtual time; `make bench-scale` writes what comes of it to
//! `bench/scale.md`. The model, and what a call costs in it, is `tests/scale/fleet.rs`.

#[path = "../../tests/scale/fleet.rs"]
mod fleet;

use fleet::{Crowd, Fleet, Outcomes};

/// Who comes.
fn crowd(hosts: usize, is_uneven: bool) -> Crowd {
    Crowd {
        hosts,
        buyers: 1_000_000,
        rush_ms: 1_000,
        tickets: 10_000,
        favoured: if is_uneven { 900 } else { 1_000 / hosts as u64 },
        deaths: if hosts > 3 { 3 } else { 0 },
        returned: 500,
        buffer: 0.2,
    }
}

const HEAD: &str = "\
# One, ten and a hundred hosts

Written by `make bench-scale`, in virtual time: hosts of the real desk and board, of equal weights and a core each, on a ledger
that is a model ([fleet.rs](../tests/scale/fleet.rs) has its costs). A million buyers come, half of them in the first second, for
10,000 tickets; when two of five are sold, three hosts die; after half a minute 500 tickets come back. A way from a host to Redis
takes 150 us.
";

const TAIL: &str = "\
Who is answered 503 stood in vain or found [16,384 others](../docs/configuration.md) standing: the crowd of half a million a second is
on one core there. Tickets that nobody was told of are those whose answers were on the way to a host that died: with a hold they
come back.

## Where the next limits lie

On paper, from the same costs:

- **Beats**: each of n hosts asks 2.5 times a second, and Redis takes 8 us and 1.4 us a host: 3.5 n^2 + 20 n us a second. A hundred
  hosts cost it 3.7 % of its time, 117 cost 5 %, 500 all of it.
- **Syncs**: each core asks 5 times a second what has changed, 4 us each: a hundred hosts of 8 cores cost 1.6 %.
- **The end of a sale**: each host reads its log once, 2 us an entry: 10,000 bookings and a hundred hosts are 2.1 s of Redis' time in
  all, page by page beside others.
- **Bookings**: Redis books some 400,000 a second in large batches. A hundred hosts with an even crowd ask with few claims a call
  (7 of them here), so that a sale of 10,000 takes 39 ms of Redis instead of 25.

So one Redis serves about a hundred hosts; the next step would be beats that are rarer the more hosts there are.
";

fn main() {
    println!("{HEAD}");
    let runs: Vec<(Crowd, Outcomes)> = [(1, false), (10, false), (10, true), (100, false), (100, true)]
        .into_iter()
        .map(|(hosts, is_uneven)| crowd(hosts, is_uneven))
        .map(|crowd| (crowd.clone(), Fleet::run(&crowd)))
        .collect();
    let column = |name: &str, read: &dyn Fn(&Crowd, &Outcomes) -> String| {
        let cells: Vec<String> = runs.iter().map(|(crowd, told)| read(crowd, told)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    };
    let ms = |ns: u64| format!("{:.1} ms", ns as f64 / 1e6);
    let part = |count: u64, of: u64| format!("{:.3} %", 100.0 * count as f64 / of as f64);
    let losers = |told: &Outcomes| told.refused_at_once + told.refused_standing + told.refused_by_ledger;
    column("hosts", &|crowd, _| crowd.hosts.to_string());
    println!("| --- |{}", " --: |".repeat(runs.len()));
    column("of the crowd, the first host gets", &|crowd, _| {
        format!("{} %", if crowd.hosts == 1 { 100 } else { crowd.favoured / 10 })
    });
    column("hosts killed in mid-sale", &|crowd, _| crowd.deaths.to_string());
    column("tickets, with those that came back", &|crowd, _| (crowd.tickets + crowd.returned).to_string());
    column("sold", &|_, told| (told.granted + told.unheard).to_string());
    column("of these, told to nobody: the host was dead", &|_, told| told.unheard.to_string());
    column("false \"sold out\"", &|_, told| told.false_refusals.to_string());
    column("answered 503", &|_, told| told.turned_away.to_string());
    column("claims that came to the ledger, for each ticket", &|_, told| {
        format!("{:.4}", told.claims as f64 / (told.granted + told.unheard) as f64)
    });
    column("most of them at once", &|_, told| told.most_claims_at_once.to_string());
    column("calls that book, for each ticket", &|_, told| {
        format!("{:.3}", told.booking_calls as f64 / (told.granted + told.unheard) as f64)
    });
    column("calls that book, for each loser", &|_, told| {
        format!("{:.5}", told.refused_by_ledger as f64 / losers(told) as f64)
    });
    column("losers refused from memory", &|_, told| {
        part(told.refused_at_once + told.refused_standing, losers(told))
    });
    column("of all buyers, stood for a permit in vain", &|crowd, told| {
        part(told.refused_standing, crowd.buyers)
    });
    column("most that stood at one host", &|_, told| told.most_standing.to_string());
    column("from the first buyer to the last ticket", &|_, told| ms(told.sold_out_at_ns - 2_000_000_000));
    column("from then until every host knows", &|_, told| ms(told.known_after_ns));
    column("from tickets that come back until every host knows", &|_, told| ms(told.reopened_after_ns));
    column("from the deaths until the shares are those of the living", &|crowd, told| {
        if crowd.deaths > 0 { ms(told.shares_after_ns) } else { "-".to_owned() }
    });
    column("Redis' time for bookings, syncs, beats in 65 s", &|_, told| {
        told.redis_ns.map(|ns| format!("{:.0}", ns as f64 / 1e6)).join(", ") + " ms"
    });
    print!("\n{TAIL}");
}
