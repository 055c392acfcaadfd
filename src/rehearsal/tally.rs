//! What a crowd saw: answers by kind, and how long they took.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Act;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuyerAnswer {
    /// A ticket, held until it is paid for.
    Held,
    /// A ticket, for good.
    Sold,
    /// A ticket was given back.
    GivenBack,
    /// None is left.
    SoldOut,
    /// Refused for another reason.
    Refused,
    /// Come again: nothing was done.
    Later,
    /// Nobody knows whether it was done.
    Unknown,
    /// Not answered while the buyer had patience.
    Silence,
    /// The connection ended before the answer.
    Broken,
}

impl BuyerAnswer {
    /// In a table.
    pub fn words(self) -> &'static str {
        match self {
            BuyerAnswer::Held => "held",
            BuyerAnswer::Sold => "sold",
            BuyerAnswer::GivenBack => "given back",
            BuyerAnswer::SoldOut => "sold out",
            BuyerAnswer::Refused => "refused otherwise",
            BuyerAnswer::Later => "told to come later",
            BuyerAnswer::Unknown => "outcome unknown",
            BuyerAnswer::Silence => "lost patience",
            BuyerAnswer::Broken => "connection lost",
        }
    }

    /// Whether the request may have been carried out without anybody knowing.
    pub fn is_unsure(self) -> bool {
        matches!(self, BuyerAnswer::Unknown | BuyerAnswer::Silence | BuyerAnswer::Broken)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Tally {
    /// How long each kind of request took, in nanoseconds from when it was due; for those that were not answered, until the buyer
    /// lost patience.
    pub latencies: BTreeMap<Act, Histogram<u64>>,
    /// How many of each kind of request ended in which way.
    pub heard: BTreeMap<(Act, BuyerAnswer), u64>,
    /// Buyers who came.
    pub buyers: u64,
    /// Tickets of buyers who were told last that they have them for good.
    pub sold: u64,
    /// Tickets that may be sold without anybody having been told.
    pub unsure: u64,
    /// Buyers who may hold a ticket that they leave.
    pub may_hold: Vec<u64>,
    /// From the first buyer's moment until the last answer.
    pub took: Duration,
}

/// The latencies that are told apart, in nanoseconds: up to an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

impl Tally {
    pub(super) fn note(&mut self, act: Act, heard: BuyerAnswer, latency: Duration) {
        *self.heard.entry((act, heard)).or_default() += 1;
        let of_act = self.latencies.entry(act).or_insert_with(|| {
            Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).expect("these bounds are valid")
        });
        of_act.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX));
    }

    /// All that is in `other`, too.
    pub(super) fn add(&mut self, other: Tally) {
        for (act, latencies) in other.latencies {
            match self.latencies.get_mut(&act) {
                Some(own) => own.add(latencies).expect("all have the same bounds"),
                None => drop(self.latencies.insert(act, latencies)),
            }
        }
        for (what, count) in other.heard {
            *self.heard.entry(what).or_default() += count;
        }
        self.buyers += other.buyers;
        self.sold += other.sold;
        self.unsure += other.unsure;
        self.may_hold.extend(other.may_hold);
        self.took = self.took.max(other.took);
    }

    /// How often that was heard, whatever was asked.
    pub fn count(&self, heard: BuyerAnswer) -> u64 {
        self.heard.iter().filter(|((_, other), _)| *other == heard).map(|(_, count)| count).sum()
    }
}
