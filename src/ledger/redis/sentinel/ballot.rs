//! Which primary counts, of what sentinels say: the one that more than half of them name.
//!
//! A sentinel may be cut off together with a primary that has been replaced, be late, or lie. Such ones are outvoted; where no
//! majority agrees, nobody is named, and hosts wait. What a sentinel said counts for [`REPORT_GOOD_MS`]. Without I/O and without
//! a clock, so that the simulator has the same rules.

use std::fmt;

use crate::clock::Monotonic;
use crate::ledger::url::HostPort;

/// How long a report counts: some polls, since one that is late is not yet an answer that is missing.
pub const REPORT_GOOD_MS: u64 = 3_000;

/// See the [module](self).
#[derive(Debug)]
pub struct Ballot {
    reports: Vec<Option<Report>>,
    /// Who was elected last.
    last: Option<HostPort>,
}

#[derive(Debug)]
struct Report {
    at: Monotonic,
    said: Result<HostPort, String>,
}

impl Ballot {
    /// Of so many sentinels.
    pub fn new(sentinels: usize) -> Ballot {
        Ballot { reports: (0..sentinels).map(|_| None).collect(), last: None }
    }

    /// What the sentinel with that number names, or why it names nobody. Returns whether another primary is elected by that
    /// than was before, or the first one.
    pub fn report(&mut self, sentinel: usize, said: Result<HostPort, String>, now: Monotonic) -> bool {
        self.reports[sentinel] = Some(Report { at: now, said });
        let elected = self.elected(now);
        if elected.is_none() || elected == self.last.as_ref() {
            return false;
        }
        self.last = elected.cloned();
        true
    }

    /// Whom a majority names now.
    pub fn elected(&self, now: Monotonic) -> Option<&HostPort> {
        let named = || {
            self.reports.iter().flatten().filter(|report| report.is_good(now)).flat_map(|report| &report.said)
        };
        let votes = |candidate: &HostPort| named().filter(|named| *named == candidate).count();
        named().find(|candidate| votes(candidate) >= self.needed())
    }

    /// How many must agree.
    pub fn needed(&self) -> usize {
        self.reports.len() / 2 + 1
    }

    /// Whether each of them has said something, so that waiting for more is of no use.
    pub fn is_complete(&self, now: Monotonic) -> bool {
        self.reports.iter().all(|report| report.as_ref().is_some_and(|report| report.is_good(now)))
    }

    /// What each of them said, for people; `sentinels` are their names.
    pub fn told<'a, S: fmt::Display>(&self, sentinels: &'a [S], now: Monotonic) -> Told<'_, 'a, S> {
        Told { ballot: self, sentinels, now }
    }
}

impl Report {
    fn is_good(&self, now: Monotonic) -> bool {
        now <= self.at.plus_ms(REPORT_GOOD_MS)
    }
}

/// See [`Ballot::told`].
pub struct Told<'b, 's, S> {
    ballot: &'b Ballot,
    sentinels: &'s [S],
    now: Monotonic,
}

impl<S: fmt::Display> fmt::Display for Told<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (sentinel, report)) in self.sentinels.iter().zip(&self.ballot.reports).enumerate() {
            let apart = if place == 0 { "" } else { "; " };
            match report.as_ref().filter(|report| report.is_good(self.now)) {
                Some(Report { said: Ok(primary), .. }) => write!(f, "{apart}{sentinel} names {primary}")?,
                Some(Report { said: Err(why), .. }) => write!(f, "{apart}{sentinel}: {why}")?,
                None => write!(f, "{apart}{sentinel} says nothing")?,
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn at(port: u16) -> HostPort {
        HostPort { host: "10.0.0.1".to_owned(), port }
    }

    fn elected(ballot: &Ballot, ms: u64) -> Option<u16> {
        ballot.elected(Monotonic::default().plus_ms(ms)).map(|primary| primary.port)
    }

    #[test]
    fn a_primary_is_elected_by_more_than_half_of_all() {
        let now = Monotonic::default();
        for (sentinels, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            let mut ballot = Ballot::new(sentinels);
            assert_eq!(ballot.needed(), needed);
            for sentinel in 0..needed {
                assert_eq!(elected(&ballot, 0), None, "{sentinel} of {sentinels}");
                assert_eq!(ballot.report(sentinel, Ok(at(1)), now), sentinel + 1 == needed);
            }
            assert_eq!(elected(&ballot, 0), Some(1));
        }
    }

    /// One lies, or is cut off with a primary that has been replaced, or is late.
    #[test]
    fn who_is_alone_is_outvoted_and_who_is_half_is_waited_for() {
        let now = Monotonic::default();
        let mut ballot = Ballot::new(3);
        for sentinel in 0..3 {
            ballot.report(sentinel, Ok(at(1)), now);
        }
        assert!(!ballot.report(2, Ok(at(9)), now), "alone it moves nobody");
        assert_eq!(elected(&ballot, 0), Some(1));
        assert!(!ballot.report(1, Ok(at(2)), now) && elected(&ballot, 0).is_none(), "nobody has two");
        assert!(ballot.report(0, Ok(at(2)), now), "now the second has");
        assert_eq!(elected(&ballot, 0), Some(2));
        assert!(!ballot.report(0, Ok(at(2)), now), "that is no news");
        // Nobody is elected for a while, then the same again: it has not moved.
        ballot.report(0, Err("connection refused".to_owned()), now);
        assert_eq!(elected(&ballot, 0), None);
        assert!(!ballot.report(0, Ok(at(2)), now));
        assert_eq!(elected(&ballot, 0), Some(2));
    }

    #[test]
    fn what_was_said_long_ago_counts_for_nothing() {
        let mut ballot = Ballot::new(3);
        ballot.report(0, Ok(at(1)), Monotonic::default());
        ballot.report(1, Ok(at(1)), Monotonic::default().plus_ms(1_000));
        assert_eq!((elected(&ballot, REPORT_GOOD_MS), elected(&ballot, REPORT_GOOD_MS + 1)), (Some(1), None));
        assert!(!ballot.is_complete(Monotonic::default()));
        ballot.report(2, Err("x".to_owned()), Monotonic::default());
        assert!(ballot.is_complete(Monotonic::default().plus_ms(1_000)));
        assert!(!ballot.is_complete(Monotonic::default().plus_ms(REPORT_GOOD_MS + 1)));
    }

    #[test]
    fn people_are_told_what_each_said() {
        let now = Monotonic::default();
        let mut ballot = Ballot::new(3);
        ballot.report(0, Ok(at(1)), now);
        ballot.report(1, Err("connection refused".to_owned()), now);
        let told = ballot.told(&["s1", "s2", "s3"], now).to_string();
        assert_eq!(told, "s1 names 10.0.0.1:1; s2: connection refused; s3 says nothing");
    }
}
