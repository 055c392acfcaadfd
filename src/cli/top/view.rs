//! What is known of a host, from its events: the latest one, and rates between it and one of some seconds before. Knows no
//! terminal.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cli::screen::plain;

/// Events from which rates are made: five seconds of two a second.
const EVENTS_KEPT: usize = 11;

/// So many intervals without an event, and what is shown is said to be old.
const INTERVALS_PATIENCE: u32 = 4;

/// Outcomes that are no refusals: as the dashboard has it.
const SERVED: [&str; 12] = [
    "granted",
    "replayed",
    "found",
    "confirmed",
    "cancelled",
    "extended",
    "released",
    "held-again",
    "sale-shown",
    "problem-explained",
    "front-page",
    "options",
];

/// Outcomes that a host could not help.
const UNABLE: [&str; 3] = ["ledger-unavailable", "outcome-unknown", "overloaded"];

/// An event `host`. What another version may leave out is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HostShown {
    elapsed_ms: u64,
    interval_ms: u64,
    version: String,
    faults: Vec<String>,
    requests: BTreeMap<String, u64>,
    latency_bounds_us: Vec<u64>,
    booking_wait: Vec<u64>,
    ledger_round_trip: Vec<u64>,
    cores: CoresShown,
    sales: Vec<LevelShown>,
    more_sales: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CoresShown {
    connections: Vec<u64>,
    waiting: Vec<u64>,
    ledger_up: Vec<u64>,
    ledger_calls: Vec<u64>,
    ledger_entries: Vec<u64>,
    permits_free: Vec<u64>,
    steals: Vec<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LevelShown {
    sale: String,
    status: String,
    total: u64,
    available: u64,
    held: u64,
    sold: u64,
}

/// See the [module](self).
pub(super) struct HostView {
    address: String,
    events: VecDeque<HostShown>,
    heard_at: Option<Instant>,
    lost: Option<String>,
    /// The first sale that is shown.
    first: usize,
}

/// One sale.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SaleLine {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) total: u64,
    pub(super) sold: u64,
    pub(super) held: u64,
    pub(super) available: u64,
    /// Tickets that were taken, less those that came back.
    pub(super) taken_a_second: f64,
}

/// One loop.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CoreLine {
    pub(super) is_up: bool,
    pub(super) connections: u64,
    pub(super) waiting: u64,
    pub(super) calls_a_second: f64,
    /// `None` if there were no calls.
    pub(super) entries_a_call: Option<f64>,
    pub(super) permits: u64,
    pub(super) steals_a_second: f64,
}

/// Requests of the host a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) bookings: f64,
    pub(super) refusals: f64,
    pub(super) unable: f64,
}

impl HostView {
    pub(super) fn new(address: &str) -> HostView {
        HostView {
            address: plain(address).into_owned(),
            events: VecDeque::new(),
            heard_at: None,
            lost: None,
            first: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes the data of an event.
    pub(super) fn hear(&mut self, data: &str, now: Instant) {
        let Ok(mut event) = serde_json::from_str::<HostShown>(data) else {
            self.lost = Some("what it tells is not understood: is it of another version?".to_owned());
            return;
        };
        let texts = event.sales.iter_mut().flat_map(|sale| [&mut sale.sale, &mut sale.status]);
        for text in texts.chain(&mut event.faults).chain([&mut event.version]) {
            *text = plain(text).into_owned();
        }
        // A host that was started anew counts from zero.
        if self.events.back().is_some_and(|last| last.elapsed_ms >= event.elapsed_ms) {
            self.events.clear();
        }
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
        (self.heard_at, self.lost) = (Some(now), None);
        self.scroll(0);
    }

    pub(super) fn lose(&mut self, why: &str) {
        self.lost = Some(plain(why).into_owned());
    }

    /// Goes through the sales; the last one stays in sight.
    pub(super) fn scroll(&mut self, by: i32) {
        let last = self.events.back().map_or(0, |event| event.sales.len().saturating_sub(1));
        let first = i64::try_from(self.first).unwrap_or(i64::MAX).saturating_add(by.into());
        self.first = usize::try_from(first.max(0)).unwrap_or(0).min(last);
    }

    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// Where, which version, since when, and whether this is how it is now.
    pub(super) fn title(&self, now: Instant) -> (String, bool) {
        let Some(event) = self.events.back() else { return (format!("{}: waiting", self.address), true) };
        let up = Duration::from_secs(event.elapsed_ms / 1000);
        let (hours, minutes, seconds) = (up.as_secs() / 3600, up.as_secs() / 60 % 60, up.as_secs() % 60);
        let title =
            format!("{}  version {}  up {hours}:{minutes:02}:{seconds:02}", self.address, event.version);
        let patience = Duration::from_millis(event.interval_ms.max(1)) * INTERVALS_PATIENCE;
        let age = self.heard_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        match &self.lost {
            Some(why) => (format!("{title}  LOST {} s ago: {why}", age.as_secs()), false),
            None if age > patience => (format!("{title}  STALE: of {} s ago", age.as_secs()), false),
            None => (title, true),
        }
    }

    pub(super) fn faults(&self) -> &[String] {
        self.events.back().map_or(&[], |event| &event.faults)
    }

    pub(super) fn more_sales(&self) -> u64 {
        self.events.back().map_or(0, |event| event.more_sales)
    }

    /// The oldest event that is kept, the latest, and the seconds between them; `None` while there is one alone.
    fn span(&self) -> Option<(&HostShown, &HostShown, f64)> {
        let (from, to) = (self.events.front()?, self.events.back()?);
        let ms = to.elapsed_ms.saturating_sub(from.elapsed_ms);
        (ms > 0).then_some((from, to, ms as f64 / 1000.0))
    }

    pub(super) fn rates(&self) -> Rates {
        let Some((from, to, seconds)) = self.span() else { return Rates::default() };
        let count = |event: &HostShown, counts: &dyn Fn(&str) -> bool| -> u64 {
            event.requests.iter().filter(|(label, _)| counts(label)).map(|(_, count)| count).sum()
        };
        let rate = |counts: &dyn Fn(&str) -> bool| {
            count(to, counts).saturating_sub(count(from, counts)) as f64 / seconds
        };
        Rates {
            bookings: rate(&|label| label == "granted"),
            refusals: rate(&|label| !SERVED.contains(&label) && !UNABLE.contains(&label)),
            unable: rate(&|label| UNABLE.contains(&label)),
        }
    }

    /// How long a request waited, and how long a call to the ledger took: the half and 99 of 100 were faster, in milliseconds.
    pub(super) fn waits(&self) -> [Option<(f64, f64)>; 2] {
        let both = |read: &dyn Fn(&HostShown) -> &Vec<u64>| {
            let (from, to, _) = self.span()?;
            let counts: Vec<u64> =
                read(to).iter().zip(read(from)).map(|(to, from)| to.saturating_sub(*from)).collect();
            Some((below(&counts, &to.latency_bounds_us, 0.5)?, below(&counts, &to.latency_bounds_us, 0.99)?))
        };
        [both(&|event| &event.booking_wait), both(&|event| &event.ledger_round_trip)]
    }

    pub(super) fn sales(&self) -> Vec<SaleLine> {
        let Some(event) = self.events.back() else { return Vec::new() };
        let before: BTreeMap<&str, u64> = self
            .span()
            .map(|(from, ..)| {
                from.sales.iter().map(|sale| (sale.sale.as_str(), sale.sold + sale.held)).collect()
            })
            .unwrap_or_default();
        let seconds = self.span().map_or(1.0, |(_, _, seconds)| seconds);
        let line = |sale: &LevelShown| {
            let taken = sale.sold + sale.held;
            let earlier = before.get(sale.sale.as_str()).copied().unwrap_or(taken);
            SaleLine {
                name: sale.sale.clone(),
                status: sale.status.clone(),
                total: sale.total,
                sold: sale.sold,
                held: sale.held,
                available: sale.available,
                taken_a_second: (taken as f64 - earlier as f64) / seconds,
            }
        };
        event.sales.iter().map(line).collect()
    }

    pub(super) fn cores(&self) -> Vec<CoreLine> {
        let Some(event) = self.events.back() else { return Vec::new() };
        let (cores, span) = (&event.cores, self.span());
        let line = |index: usize| {
            let at = |column: &Vec<u64>| column.get(index).copied().unwrap_or(0);
            let change = |read: &dyn Fn(&CoresShown) -> &Vec<u64>| {
                span.map_or(0, |(from, ..)| at(read(cores)).saturating_sub(at(read(&from.cores))))
            };
            let a_second = |count: u64| span.map_or(0.0, |(_, _, seconds)| count as f64 / seconds);
            let calls = change(&|cores| &cores.ledger_calls);
            CoreLine {
                is_up: at(&cores.ledger_up) > 0,
                connections: at(&cores.connections),
                waiting: at(&cores.waiting),
                calls_a_second: a_second(calls),
                entries_a_call: (calls > 0)
                    .then(|| change(&|cores| &cores.ledger_entries) as f64 / calls as f64),
                permits: at(&cores.permits_free),
                steals_a_second: a_second(change(&|cores| &cores.steals)),
            }
        };
        (0..cores.connections.len()).map(line).collect()
    }
}

/// What that part of all stayed below, in milliseconds, by the counts of a histogram; `None` if there was none.
fn below(counts: &[u64], bounds_us: &[u64], part: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let mut wanted = part * all as f64;
    for (index, &count) in counts.iter().enumerate() {
        if count > 0 && wanted <= count as f64 {
            let low =
                index.checked_sub(1).and_then(|before| bounds_us.get(before)).copied().unwrap_or(0) as f64;
            let high = bounds_us.get(index).map_or(low, |bound| *bound as f64);
            return Some((low + (high - low) * wanted / count as f64) / 1000.0);
        }
        wanted -= count as f64;
    }
    None
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// An event so long after the start, of a host that booked and refused that many.
    pub(in crate::cli::top) fn event(elapsed_ms: u64, booked: u64, refused: u64) -> String {
        json!({
            "elapsed_ms": elapsed_ms, "interval_ms": 500, "version": "1.2.3", "faults": [],
            "requests": { "granted": booked, "sold-out": refused, "found": 1_000_000, "overloaded": refused / 10 },
            "latency_bounds_us": [100, 1_000, 10_000], "booking_wait": [booked, 0, 0, 0], "ledger_round_trip": [0, 0, booked, 0],
            "cores": {
                "count": 2, "connections": [3, 4], "waiting": [0, 1], "ledger_up": [1, 0], "ledger_calls": [booked / 10, 0],
                "ledger_entries": [booked, 0], "permits_free": [5, 6], "permits_taken": [0, 0], "steals": [refused, 0],
            },
            "sales": [
                { "sale": "ticket", "status": "open", "total": 1_000, "available": 1_000 - booked, "held": 0, "sold": booked },
                { "sale": "gone\u{1b}[2J", "status": "missing" },
            ],
            "more_sales": 3,
        })
        .to_string()
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let (mut view, now) = (HostView::new("h:1"), Instant::now());
        assert!(view.is_empty() && view.sales().is_empty() && view.cores().is_empty());
        view.hear(&event(1_000, 100, 50), now);
        assert_eq!((view.rates(), view.waits()), (Rates::default(), [None, None]));
        view.hear(&event(3_000, 300, 150), now);
        assert_eq!(view.rates(), Rates { bookings: 100.0, refusals: 50.0, unable: 5.0 });
        assert_eq!(view.waits(), [Some((0.05, 0.099)), Some((5.5, 9.91))]);
        let (sales, cores) = (view.sales(), view.cores());
        assert_eq!((sales[0].taken_a_second, sales[0].available, sales[1].total), (100.0, 700, 0));
        assert_eq!(
            (cores[0].calls_a_second, cores[0].entries_a_call, cores[0].steals_a_second),
            (10.0, Some(10.0), 50.0)
        );
        assert_eq!((cores[1].is_up, cores[1].entries_a_call, cores[1].permits), (false, None, 6));
        for at in 4..30 {
            view.hear(&event(at * 1_000, 300, 150), now);
        }
        assert_eq!(view.rates(), Rates::default(), "nothing in the last seconds");
        // Started anew.
        view.hear(&event(500, 5, 5), now);
        view.hear(&event(1_500, 15, 5), now);
        assert_eq!(view.rates().bookings, 10.0);
    }

    #[test]
    fn what_is_old_or_lost_is_told_and_no_text_has_control_codes() {
        let (mut view, now) = (HostView::new("h:1"), Instant::now());
        view.hear(&event(61_000, 1, 1), now);
        assert_eq!(view.title(now), ("h:1  version 1.2.3  up 0:01:01".to_owned(), true));
        assert!(!view.title(now + Duration::from_secs(3)).1);
        view.lose("no\x1bne");
        let (title, is_live) = view.title(now);
        assert!(!is_live && title.contains("LOST") && !title.contains('\x1b'), "{title:?}");
        view.hear(&event(62_000, 1, 1), now);
        assert!(view.title(now).1);
        view.hear("{\"elapsed_ms\":\"x\"}", now);
        assert!(view.title(now).0.contains("another version"));
        assert!(view.sales().iter().all(|sale| !sale.name.contains(char::is_control)));
        view.scroll(7);
        assert_eq!(view.first(), 1);
        view.scroll(-7);
        assert_eq!(view.first(), 0);
    }
}
