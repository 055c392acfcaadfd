//! What is promised, as rules: of each answer at the moment it arrives, and of the whole run at its end. Pure: they look at
//! what clients recorded, at what the [`Witness`] saw of the ledger, and at what hosts knew when.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Ask, Kind, Told, Word};
use crate::host::Watch;
use crate::network::PipeId;
use crate::scenario::{SALE, Scenario};
use crate::witness::{Standing, Story, Witness, available};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: &'static str,
    /// How.
    pub what: String,
}

impl Violation {
    /// Of that rule.
    pub fn new(rule: &'static str, what: impl Into<String>) -> Violation {
        Violation { rule, what: what.into() }
    }
}

/// What there is to judge an answer by.
pub struct Bench<'a> {
    /// What was asked, all of it.
    pub asks: &'a [Ask],
    /// What the ledger was.
    pub witness: &'a Witness,
    /// Ids that are never to be granted.
    pub is_tombstone: &'a dyn Fn(&str) -> bool,
    /// The latest that the ledger's clock has shown, in milliseconds.
    pub ledger_ms: u64,
    /// How long a request that finds no permit waits for one, where other hosts may have them, in microseconds.
    pub stands_us: Option<u64>,
}

/// Judges one answer.
pub fn answer(bench: &Bench<'_>, index: usize, watch: &Watch) -> Result<(), Violation> {
    let ask = &bench.asks[index];
    let Some((at, word)) = &ask.answer else { return Ok(()) };
    let window = (ask.sent_at, *at);
    match word {
        Word::Booked(told) => booked(bench, ask, told, window),
        Word::Replayed(told) | Word::Is(told) => {
            stands(bench, ask, told, window, matches!(word, Word::Replayed(_)))
        }
        Word::Sale { available, held, sold, total } => {
            let known_since = known_since(watch, ask.sent_at);
            // Nobody announces what is deleted past the scripts: it is noticed by who books, or by the slow round.
            let deleted_at = bench.witness.deleted_at.map_or(u64::MAX, |at| at.saturating_sub(1));
            let known_since = known_since.min(deleted_at);
            // A reading leaves out holds that are over before anybody has written that down.
            let over = overdue(bench, known_since, *at);
            let is_level = |level: &crate::redis::Stock| {
                (level.sold, level.total) == (*sold, *total) && (*held..=held + over).contains(&level.held)
            };
            let adds_up = *available == total.saturating_sub(held + sold);
            let was = bench.witness.between(known_since, *at).flatten().any(is_level);
            match ask.request.kind == Kind::ShowSale && adds_up && was {
                true => Ok(()),
                false => Err(Violation::new(
                    "sale shown",
                    format!("{ask:?} shows what the sale was not since {known_since}"),
                )),
            }
        }
        Word::Refused { name, instance } => refused(bench, ask, name, instance, window, watch),
        Word::Wrong(what) => Err(Violation::new("wrong answer", format!("{ask:?}: {what}"))),
    }
}

/// Tickets of holds that were over by the ledger's clock and not swept at some moment from `from` to `to`.
fn overdue(bench: &Bench<'_>, from: u64, to: u64) -> u64 {
    let was_over = |story: &&Story| {
        story
            .between(from, to)
            .any(|standing| matches!(standing, Standing::Held { until_ms } if until_ms <= bench.ledger_ms))
    };
    bench.witness.stories.values().filter(was_over).map(|story| story.quantity.max(story.amount())).sum()
}

fn others(ask: &Ask, told: &Told) -> Result<(), Violation> {
    let request = &ask.request;
    let mine = request.id.as_ref().is_none_or(|id| *id == told.id);
    match mine && told.id.len() >= 2 {
        true => Ok(()),
        false => Err(Violation::new("another's answer", format!("{ask:?}"))),
    }
}

/// The booking is there with the terms that were asked for and told.
fn agrees(ask: &Ask, told: &Told, story: &Story) -> Result<(), Violation> {
    let request = &ask.request;
    let told_buyer = told.buyer.clone().unwrap_or_default();
    let to = ask.answer.as_ref().map_or(u64::MAX, |(at, _)| *at);
    let was = told.quantity.is_some_and(|told| story.amounts_between(ask.sent_at, to).any(|had| had == told));
    let was_for = |buyer: &str| story.buyers_between(ask.sent_at, to).any(|its| its == buyer);
    let right = told.status.is_none() || was && was_for(&told_buyer);
    let wished = request.buyer.clone().unwrap_or_default();
    let asked = !request.kind.books() || request.quantity == story.quantity && was_for(&wished);
    match right && asked {
        true => Ok(()),
        false => Err(Violation::new("other terms", format!("{ask:?} is {story:?}"))),
    }
}

fn booked(bench: &Bench<'_>, ask: &Ask, told: &Told, (from, to): (u64, u64)) -> Result<(), Violation> {
    others(ask, told)?;
    let Some(story) = bench.witness.stories.get(&told.id) else {
        return Err(Violation::new("not in the ledger", format!("{ask:?}")));
    };
    agrees(ask, told, story)?;
    let is_there = |standing: &Standing| match told.status.as_deref() {
        Some("held") => matches!(standing, Standing::Held { .. }),
        Some("confirmed") => *standing == Standing::Confirmed,
        None => matches!(standing, Standing::Held { .. } | Standing::Confirmed),
        Some(_) => false,
    };
    let since: Vec<(u64, Standing)> =
        story.standings.iter().copied().filter(|(at, _)| (from..=to).contains(at)).collect();
    if !ask.request.kind.books() || !since.iter().any(|(_, standing)| is_there(standing)) {
        return Err(Violation::new("not booked then", format!("{ask:?} is {story:?}")));
    }
    let same = |other: &&Ask| matches!(&other.answer, Some((_, Word::Booked(other))) if other.id == told.id);
    if bench.asks.iter().filter(same).count() > 1 && !bench.witness.forgotten.contains_key(&told.id) {
        return Err(Violation::new("booked twice", format!("{ask:?} is {story:?}")));
    }
    Ok(())
}

fn stands(
    bench: &Bench<'_>,
    ask: &Ask,
    told: &Told,
    (from, to): (u64, u64),
    replayed: bool,
) -> Result<(), Violation> {
    others(ask, told)?;
    if told.quantity.is_none() {
        return tombstoned(bench, ask, told, (from, to));
    }
    // A booking that was forgotten and not put back is none.
    let is_there = |story: &&Story| story.between(from, to).any(|standing| standing != Standing::None);
    let story = match bench.witness.stories.get(&told.id).filter(is_there) {
        Some(story) => story,
        // To whoever books it is a cancelled booking of just that.
        None if replayed && told.status.as_deref() == Some("cancelled") => {
            return tombstoned(bench, ask, told, (from, to));
        }
        None => return Err(Violation::new("not in the ledger", format!("{ask:?}"))),
    };
    agrees(ask, told, story)?;
    let status = told.status.as_deref().unwrap_or_default();
    let fits = match ask.request.kind {
        Kind::Put | Kind::PostKey => replayed,
        Kind::Get => !replayed,
        Kind::Confirm => !replayed && status == "confirmed",
        Kind::Cancel | Kind::Tombstone => !replayed && status == "cancelled",
        Kind::Extend => !replayed && status == "held",
        Kind::Release | Kind::HoldAgain => !replayed && matches!(status, "held" | "confirmed"),
        Kind::PostMade | Kind::Buy | Kind::ShowSale => false,
    };
    if ask.request.kind == Kind::Release && told.quantity != Some(ask.request.amount) {
        return Err(Violation::new("not released", format!("{ask:?} is {story:?}")));
    }
    let was = story.between(from, to).any(|standing| match (status, standing) {
        ("held", Standing::Held { until_ms }) => told.until_ms == Some(until_ms),
        ("confirmed", Standing::Confirmed)
        | ("cancelled", Standing::Cancelled)
        | ("expired", Standing::Expired) => true,
        // Over, and not swept yet.
        ("expired", Standing::Held { until_ms }) => until_ms <= bench.ledger_ms,
        _ => false,
    });
    match fits && was {
        true => Ok(()),
        false => Err(Violation::new("not so then", format!("{ask:?} is {story:?}"))),
    }
}

/// There was no such booking, and there is a tombstone.
fn tombstoned(bench: &Bench<'_>, ask: &Ask, told: &Told, (from, to): (u64, u64)) -> Result<(), Violation> {
    let fits = ask.request.kind == Kind::Tombstone || ask.request.kind.books();
    let story = bench.witness.stories.get(&told.id);
    let was_none =
        story.is_none_or(|story| story.between(from, to).any(|standing| standing == Standing::None));
    let may_be_forgotten = bench.witness.fell_back_at.is_some_and(|at| at >= from);
    let is_there =
        (bench.is_tombstone)(&told.id) || may_be_forgotten || bench.witness.forgotten.contains_key(&told.id);
    match fits && was_none && is_there && told.status.as_deref() == Some("cancelled") {
        true => Ok(()),
        false => Err(Violation::new("no tombstone", format!("{ask:?} is {story:?}"))),
    }
}

/// When the host's latest reading of the sale was asked for, of those it had by then.
fn known_since(watch: &Watch, by: u64) -> u64 {
    let learnt = watch.readings.partition_point(|(learnt, _)| *learnt <= by);
    watch.readings[..learnt].iter().map(|(_, asked)| *asked).max().unwrap_or(0)
}

fn refused(
    bench: &Bench<'_>,
    ask: &Ask,
    name: &str,
    instance: &str,
    (from, to): (u64, u64),
    watch: &Watch,
) -> Result<(), Violation> {
    let request = &ask.request;
    let id = request.id.as_deref().unwrap_or_default();
    if let Some(about) = instance.strip_prefix(&format!("/v1/sales/{SALE}/bookings/"))
        && !id.is_empty()
        && about.split('/').next() != Some(id)
    {
        return Err(Violation::new("another's answer", format!("{ask:?}")));
    }
    let story = bench.witness.stories.get(id);
    let known_since = known_since(watch, from);
    let mut levels = bench.witness.between(known_since, to);
    let was = |wanted: &dyn Fn(Standing) -> bool| match story {
        Some(story) => story.between(from, to).any(wanted),
        None => wanted(Standing::None),
    };
    let is_over = |standing: Standing| match standing {
        Standing::Expired => true,
        Standing::Held { until_ms } => until_ms <= bench.ledger_ms,
        _ => false,
    };
    let is_true = match name {
        "sold-out" => {
            (request.kind.books() || request.kind == Kind::HoldAgain && was(&is_over))
                && !levels.all(|level| would_sell(level, ask, watch))
        }
        "buyer-limit" => {
            (request.kind.books() || matches!(request.kind, Kind::Confirm | Kind::HoldAgain) && was(&is_over))
                && beyond_limit(bench.witness, ask, story, from, to)
        }
        "not-on-sale" => {
            (request.kind.books() || request.kind == Kind::HoldAgain)
                && levels.any(|level| level.is_none_or(|level| level.status != "open"))
        }
        "id-reused" => {
            let wished = request.buyer.clone().unwrap_or_default();
            request.kind.books()
                && ((bench.is_tombstone)(id)
                    || bench.witness.forgotten.contains_key(id)
                    || story.is_some_and(|story| {
                        story.quantity != request.quantity
                            || story.buyers_between(from, to).any(|buyer| buyer != wished)
                    }))
        }
        "in-progress" => {
            let same = |other: &&Ask| other.request.id.as_deref() == Some(id) && other.sent_at <= to;
            request.id.is_some() && (bench.asks.iter().filter(same).count() > 1 || id.len() == 36)
        }
        "no-such-booking" => {
            matches!(
                request.kind,
                Kind::Get | Kind::Confirm | Kind::Cancel | Kind::Extend | Kind::Release | Kind::HoldAgain
            ) && was(&|standing| standing == Standing::None)
        }
        "hold-expired" => {
            let too_few = |level: Option<&crate::redis::Stock>| {
                level.is_none_or(|level| available(level) < request.quantity)
            };
            match request.kind {
                Kind::Confirm => was(&is_over) && bench.witness.between(from, to).any(too_few),
                Kind::Extend | Kind::Release => was(&is_over),
                _ => false,
            }
        }
        "booking-cancelled" => {
            matches!(request.kind, Kind::Confirm | Kind::Extend | Kind::Release | Kind::HoldAgain)
                && was(&|standing| standing == Standing::Cancelled)
        }
        "booking-confirmed" => {
            matches!(request.kind, Kind::Extend | Kind::HoldAgain)
                && was(&|standing| standing == Standing::Confirmed)
        }
        "hold-limit" => {
            request.kind == Kind::Extend
                && story.is_some_and(|story| {
                    let longest_ms =
                        bench.witness.between(from, to).flatten().filter_map(|level| level.hold_max_ms).max();
                    // Whatever the clock was meanwhile.
                    bench.ledger_ms + request.amount * 1_000 > story.began_ms + longest_ms.unwrap_or(0)
                })
        }
        "not-a-release" => {
            request.kind == Kind::Release
                && story.is_some_and(|story| story.amounts_between(from, to).any(|had| had < request.amount))
        }
        "ledger-unavailable" | "outcome-unknown" => true,
        "overloaded" => {
            // Not sooner than it had to be, and not while this host asked the ledger for nothing.
            let stood = bench.stands_us.is_some_and(|stands_us| to - from >= stands_us);
            watch.turned_away.iter().any(|at| (from..=to).contains(at))
                || request.kind.books() && stood && taken(watch, from, to) > 0
        }
        "no-such-sale" => bench.witness.levels.iter().any(|(at, level)| *at > 0 && level.is_none()),
        "http" => !ask.whole,
        _ => false,
    };
    match is_true {
        true => Ok(()),
        false if name == "sold-out" => Err(Violation::new(
            "false sold out",
            format!(
                "{ask:?}; since {known_since} there were always enough, and {} permits out",
                taken(watch, from, to)
            ),
        )),
        false => Err(Violation::new("false refusal", format!("{name} to {ask:?}; {story:?}"))),
    }
}

/// Of an id without a booking that has a tombstone.
const GONE: &str = "gone";

/// What was asked about a booking on one connection, and on no other, was done in that order: each answer follows from
/// those before it, and what the last one left is what the ledger has. Of what is not answered, or where the answer does not
/// tell what was done, nobody can say.
fn in_order(id: &str, asks: &[&Ask], story: Option<&Story>) -> Result<(), Violation> {
    let is_judged = asks.iter().any(|ask| ask.request.kind.books())
        && asks.iter().all(|ask| ask.pipe == asks[0].pipe && ask.answer.is_some() && ask.whole);
    if !is_judged {
        return Ok(());
    }
    let mut status = "none";
    for ask in asks {
        let word = ask.answer.as_ref().map(|(_, word)| word);
        // A hold ends by itself.
        let is = |wanted: &str| status == wanted || status == "held" && wanted == "expired";
        let next = match (ask.request.kind, word) {
            (_, Some(Word::Refused { name, .. })) => match name.as_str() {
                "ledger-unavailable" | "overloaded" => Some(status),
                "sold-out" | "not-on-sale" if ask.request.kind == Kind::HoldAgain => {
                    is("expired").then_some(status)
                }
                "sold-out" | "not-on-sale" | "no-such-booking" => (is("none") || is(GONE)).then_some(status),
                // Booked by it, the ledger's first answer was lost, and by the second an operator had given it away.
                "id-reused" if is("none") && story.is_some_and(Story::was_given_away) => return Ok(()),
                "id-reused" => (!is("none")).then_some(status),
                "booking-cancelled" => is("cancelled").then_some("cancelled"),
                "booking-confirmed" => is("confirmed").then_some(status),
                "hold-expired" => is("expired").then_some("expired"),
                "hold-limit" => is("held").then_some(status),
                "not-a-release" => (is("held") || is("confirmed")).then_some(status),
                "buyer-limit" => (is("none") || is("expired")).then_some(status),
                // Still on its way after its client was told so, with more to come.
                _ => return Ok(()),
            },
            (kind, Some(Word::Booked(told) | Word::Replayed(told) | Word::Is(told))) => {
                let told = match told.status.as_deref() {
                    Some("held") => "held",
                    Some("confirmed") => "confirmed",
                    Some("cancelled") if told.quantity.is_none() => GONE,
                    Some("cancelled") => "cancelled",
                    Some("expired") => "expired",
                    _ => return Ok(()),
                };
                let follows = match (kind, word) {
                    (_, Some(Word::Booked(_))) => is("none"),
                    // Booked by it, and the ledger's first answer was lost.
                    // It is never granted, and the repeat is told so.
                    (_, Some(Word::Replayed(_))) if is(GONE) => told == "cancelled",
                    (_, Some(Word::Replayed(_))) => is(told) || is("none"),
                    (Kind::Confirm, _) => is("held") || is("confirmed") || is("expired"),
                    (Kind::Cancel, _) => !is("none"),
                    (Kind::Tombstone, _) => told != GONE || is("none") || is(GONE),
                    (Kind::Extend, _) => is("held"),
                    (Kind::HoldAgain, _) => is("held") || is("expired"),
                    _ => is(told),
                };
                follows.then_some(if is(GONE) { GONE } else { told })
            }
            _ => return Ok(()),
        };
        match next {
            Some(next) => status = next,
            None => {
                return Err(Violation::new(
                    "another order",
                    format!("{ask:?} does not follow from {status}, of {asks:?}; it is {story:?}"),
                ));
            }
        }
    }
    let now = story.map_or(Standing::None, Story::now);
    let is_so = match status {
        "none" => now == Standing::None,
        "held" => matches!(now, Standing::Held { .. } | Standing::Expired),
        "expired" => matches!(now, Standing::Held { .. } | Standing::Expired),
        "confirmed" => now == Standing::Confirmed,
        GONE => now == Standing::None,
        _ => now == Standing::Cancelled,
    };
    match is_so {
        true => Ok(()),
        false => Err(Violation::new(
            "another order",
            format!("the last word of {id} was {status}, and it is {story:?}: {asks:?}"),
        )),
    }
}

/// Most permits that were with the ledger at once from `from` to `to`.
fn taken(watch: &Watch, from: u64, to: u64) -> u64 {
    let first = watch.taken.partition_point(|(at, _)| *at <= from).saturating_sub(1);
    watch.taken[first..].iter().take_while(|(at, _)| *at <= to).map(|(_, taken)| *taken).max().unwrap_or(0)
}

/// Whether the ledger would have sold, beside all that this host was asking for at the same time.
///
/// That is what a host promises of a "sold out" from memory: at some moment since its latest reading was asked for, it was
/// true. A reading is at most a sync and a round trip old where the way to the ledger is sound.
fn would_sell(level: Option<&crate::redis::Stock>, ask: &Ask, watch: &Watch) -> bool {
    let to = ask.answer.as_ref().map_or(u64::MAX, |(at, _)| *at);
    level.is_some_and(|level| available(level) >= ask.request.quantity + taken(watch, ask.sent_at, to))
}

fn beyond_limit(witness: &Witness, ask: &Ask, story: Option<&Story>, from: u64, to: u64) -> bool {
    // What is asked of a booking that is there is for whose it is.
    let mut buyers: BTreeSet<&str> = ask.request.buyer.as_deref().into_iter().collect();
    if let Some(story) = story.filter(|_| !ask.request.kind.books()) {
        buyers = story.buyers_between(from, to).filter(|buyer| !buyer.is_empty()).collect();
    }
    buyers.into_iter().any(|buyer| buyer_beyond_limit(witness, ask, buyer, from, to))
}

fn buyer_beyond_limit(witness: &Witness, ask: &Ask, buyer: &str, from: u64, to: u64) -> bool {
    let limit = witness.between(from, to).filter_map(|level| level?.per_buyer).min();
    let moments = witness.buyers.get(buyer).map(Vec::as_slice).unwrap_or_default();
    let first = moments.partition_point(|(at, _)| *at <= from).saturating_sub(1);
    let most = moments[first..]
        .iter()
        .take_while(|(at, _)| *at <= to)
        .map(|(_, tickets)| *tickets)
        .max()
        .unwrap_or(0);
    limit.is_some_and(|limit| most + ask.request.quantity > limit)
}

/// What is judged at the end.
pub struct Whole<'a> {
    /// What was to be.
    pub scenario: &'a Scenario,
    /// What was asked.
    pub asks: &'a [Ask],
    /// What the ledger was.
    pub witness: &'a Witness,
    /// Ids in what hosts wrote to clients.
    pub said: &'a BTreeSet<String>,
    /// Whether the loop behind that connection to Redis was killed.
    pub was_killed: &'a dyn Fn(PipeId) -> bool,
    /// Whether the host at the far end of that client's connection still runs, and remembers what it told.
    pub remembers: &'a dyn Fn(PipeId) -> bool,
    /// How often the ledger has fallen back.
    pub fallbacks: u32,
    /// What the ledger says could not be put back.
    pub lost: &'a BTreeSet<String>,
}

/// Judges a run that has ended.
pub fn whole(run: &Whole<'_>) -> Result<(), Violation> {
    let Whole { scenario, asks, witness, .. } = *run;
    let mut by_id: BTreeMap<&str, Vec<&Ask>> = BTreeMap::new();
    for ask in asks {
        if let Some(id) = &ask.request.id {
            by_id.entry(id).or_default().push(ask);
        }
        if ask.answer.is_none() && ask.given_up_at.is_none() {
            return Err(Violation::new("never answered", format!("{ask:?}")));
        }
        if let Some((at, Word::Booked(told) | Word::Replayed(told) | Word::Is(told))) = &ask.answer {
            let Some(story) = witness.stories.get(&told.id) else {
                // Of a tombstone, which [`answer`] has looked at. One that was granted since has a story.
                continue;
            };
            let excused = scenario.keeping.may_forget()
                && witness.forgotten.get(&told.id).is_some_and(|forgotten| *forgotten >= ask.sent_at);
            let cancelled = asks.iter().any(|other| {
                matches!(other.request.kind, Kind::Cancel | Kind::Tombstone)
                    && other.request.id.as_deref() == Some(told.id.as_str())
            });
            // Cancelled, as its client was told, since nobody could have known of it; some ask for it in between.
            let unheard = asks.iter().any(|other| {
                other.request.id.is_none()
                    && matches!(&other.answer, Some((_, Word::Refused { name, instance }))
                        if name == "outcome-unknown" && instance.ends_with(told.id.as_str()))
            });
            let cancelled = cancelled || unheard && story.now() == Standing::Cancelled;
            // Without a quantity; or a repeat of what was forgotten and then put out of use.
            let is_tombstone = told.quantity.is_none() && told.status.is_some()
                || matches!(&ask.answer, Some((_, Word::Replayed(_))));
            let keeps = |standing: Standing| match (told.status.as_deref().unwrap_or("confirmed"), standing) {
                ("held", Standing::Held { .. } | Standing::Confirmed | Standing::Expired) => true,
                ("held" | "confirmed" | "expired", Standing::Cancelled) => cancelled,
                ("confirmed", Standing::Confirmed) => true,
                // `/buy` does not say which of the two.
                ("confirmed", Standing::Held { .. } | Standing::Expired) => told.status.is_none(),
                ("expired", Standing::Expired | Standing::Confirmed) => true,
                // Over when it was told, and not swept yet.
                ("expired", Standing::Held { .. }) => true,
                ("cancelled", Standing::Cancelled) => true,
                ("cancelled", Standing::None) => is_tombstone,
                _ => false,
            };
            // Where nothing acknowledged may be lost, it does not help that hosts put it back.
            let left_by_loss =
                witness.forgotten.get(&told.id).filter(|lost_at| *lost_at >= at).and_then(|lost_at| {
                    story
                        .standings
                        .iter()
                        .rev()
                        .find(|(since, _)| since == lost_at)
                        .map(|(_, standing)| *standing)
                });
            let has_tickets = story.has_tickets();
            // A hold that was over before it was forgotten is over, whatever became of it.
            let was_over = |until: u64| {
                let lasted_us = until.saturating_sub(story.began_ms) * 1_000;
                witness.forgotten.get(&told.id).is_some_and(|lost_at| at + lasted_us <= *lost_at)
            };
            // One that was put back after its end is over as well.
            let was_put_back = witness.forgotten.contains_key(&told.id);
            let is_longer = told.until_ms.filter(|until| !was_over(*until)).is_some_and(|until| {
                story.now() == Standing::Expired && story.expired_ms < until && !was_put_back
                    || matches!(story.now(), Standing::Held { until_ms } if until_ms < until)
            });
            let is_undone =
                is_longer || has_tickets && told.quantity.is_some_and(|told| told < story.amount());
            let kept_all_along = scenario.keeping.may_forget() || left_by_loss.is_none_or(keeps);
            let keeps_now = keeps(story.now()) && !is_undone;
            let kept = keeps_now && kept_all_along;
            // A host that lives puts back what it told of a sale that is still there, or says that it cannot. Of a second
            // loss it cannot say what it has said of the first.
            let is_new = matches!(&ask.answer, Some((_, Word::Booked(_))))
                || matches!(
                    ask.request.kind,
                    Kind::Confirm
                        | Kind::Cancel
                        | Kind::Tombstone
                        | Kind::Extend
                        | Kind::Release
                        | Kind::HoldAgain
                );
            let was_missing = witness.levels.iter().any(|(at, level)| *at > 0 && level.is_none());
            let due = is_new && run.fallbacks == 1 && !was_missing && (run.remembers)(ask.pipe);
            if !keeps_now && excused && due && !run.lost.contains(&told.id) {
                return Err(Violation::new("forgotten and not put back", format!("{ask:?} is {story:?}")));
            }
            if !kept && !excused {
                return Err(Violation::new(
                    "acknowledged and lost",
                    format!("told at {at}: {ask:?} is {story:?}"),
                ));
            }
        }
    }
    // Of a ledger that has forgotten nothing no booking is named as lost: operators look for its buyer.
    let forgot = witness.fell_back_at.is_some()
        || witness.deleted_at.is_some()
        || witness.lost_half.is_some()
        || witness.levels.iter().any(|(at, level)| *at > 0 && level.is_none());
    if let (false, Some(id)) = (forgot, run.lost.first()) {
        let story = witness.stories.get(id);
        return Err(Violation::new("named as lost", format!("{id}, and it is {story:?}")));
    }
    for (id, asks) in &by_id {
        let was_missing = witness.levels.iter().any(|(at, level)| *at > 0 && level.is_none());
        // What has a tombstone and no booking comes back from a loss as a cancelled booking, or not at all.
        let has_tombstone = asks.iter().any(|ask| ask.request.kind == Kind::Tombstone);
        let was_forgotten =
            witness.forgotten.contains_key(*id) || has_tombstone && witness.fell_back_at.is_some();
        if !was_missing && !was_forgotten {
            in_order(id, asks, witness.stories.get(*id))?;
        }
    }
    for ask in asks.iter().filter(|ask| ask.request.kind == Kind::Tombstone) {
        let (Some((at, Word::Is(told))), false) = (&ask.answer, witness.fell_back_at.is_some()) else {
            continue;
        };
        let story = witness.stories.get(&told.id);
        let is_granted = |(since, standing): &(u64, Standing)| {
            since > at && matches!(standing, Standing::Held { .. } | Standing::Confirmed)
        };
        if story.is_some_and(|story| story.standings.iter().any(is_granted)) {
            return Err(Violation::new("granted after its tombstone", format!("{ask:?} is {story:?}")));
        }
    }
    for (id, story) in &witness.stories {
        let asked = by_id.get(id.as_str());
        let is_held_again = story
            .standings
            .windows(2)
            .any(|pair| matches!((pair[0].1, pair[1].1), (Standing::Expired, Standing::Held { .. })));
        let wanted = asked.is_some_and(|asks| asks.iter().any(|ask| ask.request.kind == Kind::HoldAgain));
        if is_held_again && !wanted && !witness.forgotten.contains_key(id) {
            return Err(Violation::new("nobody asked for it", format!("held again: {id}: {story:?}")));
        }
        let made = asked.is_none_or(|asks| asks.iter().all(|ask| !ask.request.kind.books()));
        if made && id.len() != 36 {
            return Err(Violation::new("nobody asked for it", format!("{id}: {story:?}")));
        }
        // An operator who has given it to somebody knows of it.
        let is_given = story.buyers.len() > 1;
        let in_the_dark =
            !is_given && !run.said.contains(id) && !story.by.is_some_and(|pipe| (run.was_killed)(pipe));
        if made && story.now() == Standing::Confirmed && in_the_dark && !witness.forgotten.contains_key(id) {
            return Err(Violation::new("stranded", format!("{id}: {story:?}")));
        }
    }
    // What a host's client was told "unknown" of, under an id that it was not to use, the host cancels while it lives.
    for ask in asks.iter().filter(|ask| ask.request.id.is_none() && (run.remembers)(ask.pipe)) {
        if let Some((_, Word::Refused { name, instance })) = &ask.answer
            && name == "outcome-unknown"
            && let Some(id) = instance.rsplit('/').next()
            && let Some(story) = witness.stories.get(id)
            && story.has_tickets()
            && story.buyers.len() <= 1
            && !witness.forgotten.contains_key(id)
        {
            return Err(Violation::new("stranded", format!("{ask:?}: {story:?}")));
        }
    }
    for (id, asks) in &by_id {
        let refused = |ask: &&Ask| {
            const NOTHING: [&str; 4] = ["sold-out", "ledger-unavailable", "buyer-limit", "not-on-sale"];
            matches!(&ask.answer, Some((_, Word::Refused { name, .. })) if NOTHING.contains(&name.as_str()))
        };
        let mut books = asks.iter().copied().filter(|ask| ask.request.kind.books()).peekable();
        let was_there = witness.stories.contains_key(*id) && !witness.forgotten.contains_key(*id);
        if books.peek().is_some() && books.all(|ask| refused(&ask)) && was_there {
            return Err(Violation::new(
                "refused and booked",
                format!("{asks:?} is {:?}", witness.stories[*id]),
            ));
        }
    }
    Ok(())
}
