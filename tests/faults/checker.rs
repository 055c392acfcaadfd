//! The one judge of every fault: what clients were told against what the ledger has. Pure: it takes the evidence and
//! names each promise that it breaks.
//!
//! Where a fault's own row cannot show a rule at work, the unit cases at the end do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

/// A promise, as it can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One id was granted twice.
    BookedTwice,
    /// More was acknowledged, or is held and sold, than there is.
    Oversold,
    /// An acknowledged booking is not in the ledger.
    Lost,
    /// It is there with another quantity or buyer than was asked for.
    Altered,
    /// "Sold out" was said where it cannot have been so.
    FalseSoldOut,
    /// A booking or "sold out" was answered while the ledger could do neither.
    WhileUnable,
    /// An answer speaks of another booking than the request.
    OthersAnswer,
    /// An answer that no promise knows.
    Wrong,
    /// A booking stands that nobody was told of and nobody asked for by its id.
    Stranded,
    /// The ledger's counts are not the sum of its bookings.
    Miscounted,
    /// With all faults healed, what is left does not sell to the last ticket.
    Unsold,
    /// `boxoffice audit` found a difference.
    Audit,
}

/// A broken promise.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Of which booking, and how.
    pub what: String,
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// A booking as an answer or the ledger tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// How many tickets.
    pub quantity: u64,
    /// For whom.
    pub buyer: Option<String>,
    /// `confirmed`, `held`, `cancelled` or `expired`.
    pub status: String,
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Booked now, as the answer tells it.
    Booked {
        /// The id in the answer.
        id: String,
        /// The rest of it; `/buy` tells the id alone.
        booking: Option<Booking>,
    },
    /// Booked before: the same.
    Known {
        /// The id in the answer.
        id: String,
        /// The rest of it.
        booking: Booking,
    },
    /// "Sold out".
    SoldOut,
    /// 503: nothing was booked.
    Unavailable,
    /// 503: nobody knows.
    Unknown,
    /// 403: an operator has paused the sale.
    NotOnSale,
    /// 409: the same id is on its way.
    InProgress,
    /// The connection broke, or could not be had.
    NoAnswer,
    /// Anything else, as it was.
    Wrong(String),
}

/// One request and its answer, as a client recorded them.
#[derive(Clone, Debug)]
pub struct Told {
    /// The client's own id; `None` where the server makes one.
    pub id: Option<String>,
    /// How many tickets were asked for.
    pub quantity: u64,
    /// For whom.
    pub buyer: Option<String>,
    /// Before the first byte left.
    pub asked_at: Instant,
    /// After the last one came.
    pub answered_at: Instant,
    /// What came.
    pub word: Word,
}

/// What a ledger has of a sale.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Stock, all in all.
    pub total: u64,
    /// By its count.
    pub held: u64,
    /// By its count.
    pub sold: u64,
    /// Every booking.
    pub bookings: BTreeMap<String, Booking>,
    /// How often the log says that an id was granted.
    pub grants: BTreeMap<String, u32>,
}

/// All that there is to judge by.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What clients were told.
    pub told: Vec<Told>,
    /// While the ledger could not book, for certain.
    pub unable: Vec<(Instant, Instant)>,
    /// While an operator may have paused it.
    pub paused: Vec<(Instant, Instant)>,
    /// What the ledger has, after all.
    pub ledger: Contents,
    /// Hosts were killed: a request that was in one of them, with an id that only it knew, may be booked for nobody.
    pub hosts_died: bool,
    /// Ids that hosts have reported as lost, where the durability that was chosen allows for it.
    pub reported_lost: BTreeSet<String>,
}

/// Every promise that the evidence breaks; none twice for the same booking.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut add = |rule, what: String| broken.push(Violation { rule, what });
    let ledger = &evidence.ledger;
    let mut acknowledged: BTreeMap<&str, &Told> = BTreeMap::new();
    let mut booked: BTreeMap<&str, u32> = BTreeMap::new();
    for told in &evidence.told {
        match &told.word {
            Word::Booked { id, .. } | Word::Known { id, .. } => {
                if told.id.as_ref().is_some_and(|own| own != id) {
                    add(Rule::OthersAnswer, format!("{:?} was answered with {id}", told.id));
                }
                acknowledged.entry(id).or_insert(told);
                if matches!(told.word, Word::Booked { .. }) {
                    *booked.entry(id).or_default() += 1;
                }
            }
            Word::Wrong(what) => add(Rule::Wrong, format!("{:?}: {what}", told.id)),
            Word::NotOnSale => {
                let overlaps =
                    |(from, to): &(Instant, Instant)| told.answered_at >= *from && told.asked_at <= *to;
                if !evidence.paused.iter().any(overlaps) {
                    add(Rule::Wrong, format!("{:?}: not on sale, and nobody paused it", told.id));
                }
            }
            _ => {}
        }
        if let Word::Booked { id, booking: Some(booking) } | Word::Known { id, booking } = &told.word
            && !agrees(booking, told)
        {
            add(Rule::OthersAnswer, format!("{id} was answered with {booking:?}, asked for {told:?}"));
        }
        let counts = matches!(told.word, Word::Booked { .. } | Word::SoldOut);
        let unable =
            evidence.unable.iter().any(|(from, to)| told.asked_at >= *from && told.answered_at <= *to);
        if counts && unable {
            add(Rule::WhileUnable, format!("{:?} was told {:?}", told.id, told.word));
        }
    }
    for (id, times) in booked.iter().filter(|(_, times)| **times > 1) {
        add(Rule::BookedTwice, format!("{id} was told as new {times} times"));
    }
    for (id, times) in ledger.grants.iter().filter(|(_, times)| **times > 1) {
        add(Rule::BookedTwice, format!("{id} was granted {times} times"));
    }
    for (id, told) in &acknowledged {
        match ledger.bookings.get(*id) {
            Some(booking) if booking.status == "confirmed" && agrees(booking, told) => {}
            Some(booking) if booking.status == "confirmed" => {
                add(Rule::Altered, format!("{id} is {booking:?}, asked for {told:?}"));
            }
            found if !evidence.reported_lost.contains(*id) => {
                add(Rule::Lost, format!("{id} was acknowledged and is {found:?}"));
            }
            _ => {}
        }
    }
    let stands = |id: &&str| !evidence.reported_lost.contains(*id);
    let told_of: u64 = acknowledged.iter().filter(|(id, _)| stands(id)).map(|(_, told)| told.quantity).sum();
    if told_of > ledger.total {
        add(Rule::Oversold, format!("{told_of} tickets acknowledged of {}", ledger.total));
    }
    if ledger.held + ledger.sold > ledger.total {
        add(Rule::Oversold, format!("{} held and {} sold of {}", ledger.held, ledger.sold, ledger.total));
    }
    let sum = |status: &str| {
        let of_status = ledger.bookings.values().filter(|booking| booking.status == status);
        of_status.map(|booking| booking.quantity).sum::<u64>()
    };
    if (sum("held"), sum("confirmed")) != (ledger.held, ledger.sold) {
        let sums = (sum("held"), sum("confirmed"));
        add(
            Rule::Miscounted,
            format!("bookings sum up to {sums:?}, counts say {:?}", (ledger.held, ledger.sold)),
        );
    }
    let own: BTreeSet<&str> = evidence.told.iter().filter_map(|told| told.id.as_deref()).collect();
    for (id, booking) in &ledger.bookings {
        let stands = matches!(booking.status.as_str(), "held" | "confirmed");
        let heard_of = acknowledged.contains_key(id.as_str()) || own.contains(id.as_str());
        let made = id.len() == 36;
        if stands && !heard_of && !(evidence.hosts_died && made) {
            add(Rule::Stranded, format!("{id}: {booking:?}"));
        }
    }
    for what in false_sold_outs(evidence, &acknowledged) {
        add(Rule::FalseSoldOut, what);
    }
    broken
}

/// Whether a booking is what was asked for.
fn agrees(booking: &Booking, told: &Told) -> bool {
    booking.quantity == told.quantity && booking.buyer == told.buyer
}

/// Each "sold out" that cannot be true: all that anybody had asked for by then would have left enough; or the id was
/// acknowledged before.
fn false_sold_outs(evidence: &Evidence, acknowledged: &BTreeMap<&str, &Told>) -> Vec<String> {
    let mut by_time: Vec<&Told> = evidence.told.iter().collect();
    by_time.sort_by_key(|told| told.asked_at);
    // Tickets asked for up to then, each id once.
    let mut asked = Vec::with_capacity(by_time.len());
    let (mut sum, mut seen) = (0, BTreeSet::new());
    for told in &by_time {
        if told.id.as_ref().is_none_or(|id| seen.insert(id.as_str())) {
            sum += told.quantity;
        }
        asked.push((told.asked_at, sum));
    }
    let mut found = Vec::new();
    for told in by_time.iter().filter(|told| told.word == Word::SoldOut) {
        let until = asked.partition_point(|(at, _)| *at <= told.answered_at);
        let most = asked[..until].last().map_or(0, |(_, sum)| *sum);
        let own = told.id.as_deref().unwrap_or("/buy");
        // Its own tickets are in the sum.
        if most <= evidence.ledger.total {
            found.push(format!("{own}: {most} tickets were asked for by then, of {}", evidence.ledger.total));
        } else if acknowledged.get(own).is_some_and(|before| before.answered_at < told.asked_at) {
            found.push(format!("{own} was acknowledged before"));
        }
    }
    found
}

/// The rules, each shown a case that breaks it and the honest one that does not; panics where one is blind.
pub fn check_the_checker() {
    let now = Instant::now();
    let confirmed = |quantity| Booking { quantity, buyer: None, status: "confirmed".to_owned() };
    let told = |id: &str, word| Told {
        id: Some(id.to_owned()),
        quantity: 1,
        buyer: None,
        asked_at: now,
        answered_at: now,
        word,
    };
    let booked = |id: &str| Word::Booked { id: id.to_owned(), booking: Some(confirmed(1)) };
    let honest = Evidence {
        told: vec![
            told("a", booked("a")),
            told("b", booked("b")),
            told("c", Word::SoldOut),
            told("c", Word::NotOnSale),
        ],
        unable: Vec::new(),
        paused: vec![(now, now)],
        ledger: Contents {
            total: 2,
            held: 0,
            sold: 2,
            bookings: [("a", 1), ("b", 1)].map(|(id, n)| (id.to_owned(), confirmed(n))).into(),
            grants: [("a", 1), ("b", 1)].map(|(id, n)| (id.to_owned(), n)).into(),
        },
        hosts_died: false,
        reported_lost: BTreeSet::new(),
    };
    assert_eq!(check(&honest), []);
    type Change = fn(&mut Evidence);
    let cases: [(Rule, Change); 16] = [
        (Rule::BookedTwice, |e| e.told.push(e.told[0].clone())),
        (Rule::BookedTwice, |e| *e.ledger.grants.get_mut("a").unwrap() = 2),
        (Rule::Oversold, |e| (e.ledger.total, e.ledger.sold) = (1, 2)),
        (Rule::Oversold, |e| e.ledger.total = 1),
        (Rule::Lost, |e| drop(e.ledger.bookings.remove("a"))),
        (Rule::Lost, |e| e.ledger.bookings.get_mut("a").unwrap().status = "cancelled".to_owned()),
        (Rule::Altered, |e| e.ledger.bookings.get_mut("a").unwrap().buyer = Some("u".to_owned())),
        (Rule::FalseSoldOut, |e| e.ledger.total = 3),
        (Rule::FalseSoldOut, |e| {
            e.told[2].id = Some("a".to_owned());
            e.told[2].asked_at += std::time::Duration::from_secs(1);
            e.told[2].answered_at = e.told[2].asked_at;
            e.ledger.total = 1;
        }),
        (Rule::WhileUnable, |e| e.unable.push((e.told[0].asked_at, e.told[0].answered_at))),
        (Rule::OthersAnswer, |e| e.told[0].id = Some("b".to_owned())),
        (Rule::OthersAnswer, |e| e.told[0].quantity = 2),
        (Rule::Wrong, |e| e.told[2].word = Word::Wrong("500".to_owned())),
        (Rule::Wrong, |e| e.paused.clear()),
        (Rule::Stranded, |e| drop(e.told.remove(0))),
        (Rule::Miscounted, |e| e.ledger.sold = 1),
    ];
    for (rule, change) in cases {
        let mut evidence = honest.clone();
        change(&mut evidence);
        let broken = check(&evidence);
        assert!(broken.iter().any(|violation| violation.rule == rule), "blind to {rule:?}: {broken:?}");
    }
}
