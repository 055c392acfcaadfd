//! How this core follows the ledger's feed, and when it asks for the list of all sales.

use rustc_hash::FxHashSet;

use crate::clock::{Monotonic, WallTime};
use crate::limits;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Feed {
    /// Counts connections: what was asked on an earlier one says nothing on this one.
    connection: u64,
    /// All changes up to this number are known; `None` on a new connection.
    at: Option<u64>,
    is_asking: bool,
    /// Which ledger's feed it is.
    ledger: Option<String>,
    /// By how many milliseconds its clock is at least ahead of this host's monotonic one, and when that was found.
    ahead: Option<(i64, Monotonic)>,
    /// It could not be read, and that was logged.
    is_failing: bool,
    /// This ledger has none.
    is_unannounced: bool,
    /// The list of all sales was asked for.
    is_listing: bool,
    /// When to ask for it.
    list_at: Monotonic,
    /// Entries of the list that are not sale names, and were logged.
    odd: FxHashSet<String>,
}

/// What an answer of the feed says besides the names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// This is another ledger than before.
    pub(super) is_other: bool,
    /// The names are all that changed since the answer before, on this connection.
    pub(super) is_followed: bool,
    /// Its clock has gone back: a sale that was settled may no longer be so.
    pub(super) is_back: bool,
}

impl Feed {
    /// On a new connection nothing is known of what was announced. Returns whether an earlier question is in flight; it is
    /// answered first, so there is never more than one.
    pub(super) fn begin(&mut self) -> bool {
        self.connection += 1;
        (self.at, self.ahead) = (None, None);
        self.is_asking
    }

    /// What to ask, and on which connection, unless a question is in flight; from now on one is.
    pub(super) fn ask(&mut self) -> Option<(u64, Option<u64>)> {
        let is_asking = std::mem::replace(&mut self.is_asking, true);
        (!is_asking).then_some((self.connection, self.at))
    }

    /// The question asked on that connection was answered. Returns whether that is this connection.
    pub(super) fn take_answer(&mut self, connection: u64) -> bool {
        self.is_asking = false;
        connection == self.connection
    }

    /// All is known up to the number `at` of that ledger, whose clock was at `told`, in an answer to what was `sent` then.
    pub(super) fn note(
        &mut self,
        at: u64,
        ledger: String,
        told: WallTime,
        sent: Monotonic,
        answered: Monotonic,
    ) -> News {
        self.is_failing = false;
        let is_other = self.ledger.as_ref().is_some_and(|known| *known != ledger);
        self.ledger = Some(ledger);
        let is_followed = self.at.replace(at).is_some();
        News { is_other, is_followed, is_back: self.notes_clock_back(told, sent, answered) }
    }

    /// It cannot be read. Returns whether that is news.
    pub(super) fn note_failure(&mut self) -> bool {
        !std::mem::replace(&mut self.is_failing, true)
    }

    fn notes_clock_back(&mut self, told: WallTime, sent: Monotonic, answered: Monotonic) -> bool {
        let ms = |time: Monotonic| i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX);
        let told = i64::try_from(told.0).unwrap_or(i64::MAX);
        let least = told.saturating_sub(ms(answered));
        // Clocks may drift apart by a thousandth without having been set.
        let known = self.ahead.map(|(least, at)| least - (ms(answered) - ms(at)) / 1_000);
        let most = told.saturating_sub(ms(sent));
        let is_back = known.is_some_and(|known| most.saturating_add(limits::CLOCK_BACK_MS_MIN) < known);
        if is_back || known.is_none_or(|known| least >= known) {
            self.ahead = Some((least, answered));
        }
        is_back
    }

    /// There is none: new sales are learnt of by the list alone, which is asked for at each sync.
    pub(super) fn note_unannounced(&mut self) {
        self.is_unannounced = true;
        self.want_list();
    }

    /// Whether there is none.
    pub(super) fn is_unannounced(&self) -> bool {
        self.is_unannounced
    }

    /// The list of all sales must be asked for at the next sync.
    pub(super) fn want_list(&mut self) {
        self.list_at = Monotonic(0);
    }

    /// Whether to ask for the list now; if so, it is in flight.
    pub(super) fn asks_for_list(&mut self, now: Monotonic) -> bool {
        let is_time = !self.is_listing && now >= self.list_at;
        if is_time {
            self.is_listing = true;
            self.list_at = now.plus_ms(limits::LIST_INTERVAL_MS);
        }
        is_time
    }

    /// The question for the list was answered, or failed.
    pub(super) fn note_list(&mut self) {
        self.is_listing = false;
    }

    /// Whether to log an entry of the list that is not a sale name.
    pub(super) fn is_news(&mut self, odd: &str) -> bool {
        let is_news = !self.odd.contains(odd) && self.odd.len() < limits::ODD_NAMES_MAX;
        if is_news {
            self.odd.insert(odd.to_owned());
        }
        is_news
    }

    /// Panics if it contradicts what is on the way.
    pub(super) fn check_invariants(&self, questions: usize, lists: usize) {
        assert_eq!(usize::from(self.is_asking), questions, "one question at a time");
        assert_eq!(usize::from(self.is_listing), lists, "one list at a time");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    #[test]
    fn follows_on_one_connection_and_asks_one_question_at_a_time() {
        let mut feed = Feed::default();
        assert!(!feed.begin());
        assert_eq!(feed.ask(), Some((1, None)));
        assert_eq!(feed.ask(), None);
        assert!(feed.take_answer(1));
        let news = |feed: &mut Feed, at, ledger: &str| {
            feed.note(at, ledger.to_owned(), WallTime(1_000), ms(1), ms(2))
        };
        let first = News { is_other: false, is_followed: false, is_back: false };
        assert_eq!(news(&mut feed, 7, "a"), first);
        assert_eq!(feed.ask(), Some((1, Some(7))));
        // The connection is another one by now: the answer says nothing.
        assert!(feed.begin());
        assert!(!feed.take_answer(1));
        assert_eq!(feed.ask(), Some((2, None)));
        assert_eq!(news(&mut feed, 1, "b"), News { is_other: true, is_followed: false, is_back: false });
        assert_eq!(news(&mut feed, 2, "b"), News { is_other: false, is_followed: true, is_back: false });
        feed.check_invariants(1, 0);
    }

    #[test]
    fn a_clock_that_is_set_back_is_noticed_and_one_that_drifts_or_answers_late_is_not() {
        let mut feed = Feed::default();
        let mut is_back = |told, sent, answered| {
            feed.note(1, String::new(), WallTime(told), ms(sent), ms(answered)).is_back
        };
        assert!(!is_back(100_000, 0, 1));
        assert!(!is_back(100_200, 200, 400), "late, and no proof");
        assert!(is_back(90_000, 400, 401));
        assert!(!is_back(90_200, 600, 601), "from there on it goes on");
    }

    #[test]
    fn the_list_is_asked_for_once_in_a_while_and_what_is_odd_in_it_is_told_once() {
        let mut feed = Feed::default();
        assert!(feed.asks_for_list(ms(0)));
        assert!(!feed.asks_for_list(ms(limits::LIST_INTERVAL_MS)), "it is on the way");
        feed.note_list();
        assert!(feed.asks_for_list(ms(limits::LIST_INTERVAL_MS)));
        feed.note_list();
        assert!(!feed.asks_for_list(ms(limits::LIST_INTERVAL_MS + 1)));
        feed.want_list();
        assert!(feed.asks_for_list(ms(limits::LIST_INTERVAL_MS + 1)));
        assert!(feed.is_news("a/b") && !feed.is_news("a/b"));
    }
}
