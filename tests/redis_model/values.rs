//! Hashes, sorted sets and sets, with the orders in which Redis tells them.
//!
//! A small hash or sorted set is one list in Redis and is told whole, in its own order, by HSCAN and ZSCAN; a large one is
//! told page by page, in an order that nobody can foretell. Here every element has a number that rises, and a cursor is
//! the next number: what is there all the while is told, as SCAN promises, whatever comes and goes meanwhile.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

/// `hash-max-listpack-entries` and `zset-max-listpack-entries`.
const SMALL_ENTRIES_MAX: usize = 128;

/// `hash-max-listpack-value` and `zset-max-listpack-value`, in bytes.
const SMALL_BYTES_MAX: usize = 64;

/// A page of a scan: the next cursor (0 at the end) and its elements.
pub type Page<T> = (u64, Vec<T>);

/// A hash. Once large, always large, as in Redis.
#[derive(Clone, Debug, Default)]
pub struct Hash {
    numbers: FxHashMap<Vec<u8>, u64>,
    entries: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    next_number: u64,
    large: bool,
}

impl Hash {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, field: &[u8]) -> Option<&Vec<u8>> {
        self.entries.get(self.numbers.get(field)?).map(|(_, value)| value)
    }

    /// Whether the field is new.
    pub fn set(&mut self, field: Vec<u8>, value: Vec<u8>) -> bool {
        if let Some(number) = self.numbers.get(&field) {
            self.entries.get_mut(number).expect("a number has an entry").1 = value;
            return false;
        }
        self.next_number += 1;
        self.numbers.insert(field.clone(), self.next_number);
        self.entries.insert(self.next_number, (field, value));
        self.large |= self.entries.len() > SMALL_ENTRIES_MAX;
        true
    }

    /// A command with such an argument makes the hash large before it does anything.
    pub fn note_argument(&mut self, argument: &[u8]) {
        self.large |= argument.len() > SMALL_BYTES_MAX;
    }

    pub fn remove(&mut self, field: &[u8]) -> bool {
        let Some(number) = self.numbers.remove(field) else { return false };
        self.entries.remove(&number);
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Vec<u8>, Vec<u8>)> {
        self.entries.values()
    }

    pub fn scan(&self, cursor: u64, count: usize) -> Page<(Vec<u8>, Vec<u8>)> {
        if !self.large {
            return (0, self.iter().cloned().collect());
        }
        page(&self.entries, cursor, count)
    }
}

fn page<T: Clone>(entries: &BTreeMap<u64, T>, cursor: u64, count: usize) -> Page<T> {
    let mut rest = entries.range(cursor..);
    let found = rest.by_ref().take(count).map(|(_, entry)| entry.clone()).collect();
    (rest.next().map_or(0, |(&number, _)| number), found)
}

/// A score; never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score(pub f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Score) -> Ordering {
        self.0.partial_cmp(&other.0).expect("no score is NaN")
    }
}

/// A sorted set, by score and then by the members' bytes.
#[derive(Clone, Debug, Default)]
pub struct SortedSet {
    members: FxHashMap<Vec<u8>, (Score, u64)>,
    by_score: BTreeSet<(Score, Vec<u8>)>,
    by_number: BTreeMap<u64, Vec<u8>>,
    next_number: u64,
    large: bool,
}

impl SortedSet {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the member is new, and whether anything changed.
    pub fn add(&mut self, member: Vec<u8>, score: Score) -> (bool, bool) {
        if let Some((old, _)) = self.members.get_mut(&member) {
            if *old == score {
                return (false, false);
            }
            self.by_score.remove(&(*old, member.clone()));
            *old = score;
            self.by_score.insert((score, member));
            return (false, true);
        }
        self.large |= member.len() > SMALL_BYTES_MAX;
        self.next_number += 1;
        self.members.insert(member.clone(), (score, self.next_number));
        self.by_number.insert(self.next_number, member.clone());
        self.by_score.insert((score, member));
        self.large |= self.members.len() > SMALL_ENTRIES_MAX;
        (true, true)
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        let Some((member, (score, number))) = self.members.remove_entry(member) else { return false };
        self.by_number.remove(&number);
        self.by_score.remove(&(score, member));
        true
    }

    pub fn score(&self, member: &[u8]) -> Option<Score> {
        self.members.get(member).map(|(score, _)| *score)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Score, Vec<u8>)> {
        self.by_score.iter()
    }

    pub fn scan(&self, cursor: u64, count: usize) -> Page<(Score, Vec<u8>)> {
        if !self.large {
            return (0, self.iter().cloned().collect());
        }
        let (next, members) = page(&self.by_number, cursor, count);
        (next, members.into_iter().map(|member| (self.members[&member].0, member)).collect())
    }
}
