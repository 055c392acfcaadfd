//! Who is connected to the operators' listener, and whose requests ask the ledger. Where all places are taken, the one that has
//! been idle for longest gives way, so that a probe is answered however many leave their connections open. Fewer requests may
//! ask the ledger at once than there are places, so that it is answered with a ledger that hangs, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Monotonic;
use crate::connections::ConnectionKey;

#[derive(Debug)]
struct Place {
    key: ConnectionKey,
    /// When it was last answered, or came.
    idle_since: Monotonic,
    is_answered: bool,
    /// What it has asked is being worked on.
    is_served: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Places {
    taken: Vec<Place>,
    most: usize,
    grace_ms: u64,
}

impl Places {
    /// So many, and nobody there. Whoever comes has that grace to say something, before it may have to give way.
    pub(super) fn new(most: usize, grace_ms: u64) -> Places {
        Places { taken: Vec::new(), most, grace_ms }
    }

    /// Whether there is no place for another one.
    pub(super) fn are_taken(&self) -> bool {
        self.taken.len() >= self.most
    }

    /// Where all are taken, takes the place of the one that is idle for longest, whose connection is to be closed. `None` while
    /// all are taken by requests that are worked on, or by who has just come.
    pub(super) fn make_room(&mut self, now: Monotonic) -> Option<ConnectionKey> {
        if !self.are_taken() {
            return None;
        }
        let may_stay = |place: &Place| {
            place.is_served || !place.is_answered && now < place.idle_since.plus_ms(self.grace_ms)
        };
        let idle = self.taken.iter().enumerate().filter(|(_, place)| !may_stay(place));
        let (longest, _) = idle.min_by_key(|(_, place)| place.idle_since)?;
        Some(self.taken.swap_remove(longest).key)
    }

    /// A connection has come, for which there is a place.
    pub(super) fn take(&mut self, key: ConnectionKey, now: Monotonic) {
        self.taken.push(Place { key, idle_since: now, is_answered: false, is_served: false });
    }

    /// What it has asked is worked on from now on.
    pub(super) fn begin(&mut self, key: ConnectionKey) {
        if let Some(place) = self.place(key) {
            place.is_served = true;
        }
    }

    /// It is answered, and idle since now.
    pub(super) fn end(&mut self, key: ConnectionKey, now: Monotonic) {
        if let Some(place) = self.place(key) {
            (place.is_served, place.is_answered, place.idle_since) = (false, true, now);
        }
    }

    /// The connection has ended.
    pub(super) fn give_back(&mut self, key: ConnectionKey) {
        self.taken.retain(|place| place.key != key);
    }

    fn place(&mut self, key: ConnectionKey) -> Option<&mut Place> {
        self.taken.iter_mut().find(|place| place.key == key)
    }
}

/// How many requests ask the ledger.
pub(super) struct Asking {
    now: AtomicUsize,
    most: usize,
}

/// One request's leave to ask the ledger; given back when it goes.
pub(super) struct Leave(Arc<Asking>);

impl Asking {
    /// So many at once, and none yet.
    pub(super) fn new(most: usize) -> Asking {
        Asking { now: AtomicUsize::new(0), most }
    }

    /// Leave for one more; `None` while there are as many as may be.
    pub(super) fn begin(self: &Arc<Asking>) -> Option<Leave> {
        // Only the count is shared: a thread that gets a place reads nothing that another one wrote.
        let one_more = |now: usize| (now < self.most).then_some(now + 1);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Leave(Arc::clone(self)))
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::{Now, WallTime};
    use crate::connections::{Admission, Connections};
    use crate::limits::ClientLimits;

    fn keys<const COUNT: usize>() -> [ConnectionKey; COUNT] {
        let limits = Arc::new(ClientLimits::default());
        let now = Now { monotonic: Monotonic(0), wall: WallTime(0) };
        let mut connections =
            Connections::<()>::new(Arc::clone(&limits), Arc::new(Admission::new(&limits)), now);
        std::array::from_fn(|_| connections.admit(std::net::Ipv4Addr::LOCALHOST.into()).unwrap())
    }

    fn ms(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    #[test]
    fn who_has_just_come_is_heard_before_it_gives_way() {
        let mut places = Places::new(2, 3_600_000);
        let [first, second] = keys();
        places.take(first, ms(0));
        assert!(!places.are_taken());
        places.take(second, ms(0));
        assert!(places.are_taken() && places.make_room(ms(1)).is_none(), "neither could say anything yet");
        places.begin(first);
        assert!(places.make_room(ms(2)).is_none(), "it is served");
        places.end(first, ms(3));
        assert_eq!(places.make_room(ms(4)), Some(first), "it has its answer");
        assert!(!places.are_taken());
    }

    #[test]
    fn no_more_requests_than_that_ask_at_once() {
        let asking = Arc::new(Asking::new(2));
        let (first, second) = (asking.begin(), asking.begin());
        assert!(first.is_some() && second.is_some());
        assert!(asking.begin().is_none());
        assert!(asking.begin().is_none(), "a refusal takes nothing");
        drop(first);
        let third = asking.begin();
        assert!(third.is_some() && asking.begin().is_none());
    }

    #[test]
    fn the_longest_idle_gives_way_and_nobody_who_is_served() {
        let mut places = Places::new(3, 10);
        let [first, second, third, newcomer] = keys();
        [first, second, third].into_iter().for_each(|key| places.take(key, ms(0)));
        // The first is served, the second was answered after the third came: the third is idle for longest.
        places.begin(first);
        places.begin(second);
        places.end(second, ms(5));
        assert_eq!(places.make_room(ms(10)), Some(third));
        assert_eq!(places.make_room(ms(10)), None, "there is room now");
        places.take(newcomer, ms(10));
        places.give_back(third);
        assert!(places.are_taken(), "it had no place any more");
        places.begin(second);
        places.begin(newcomer);
        assert_eq!(places.make_room(ms(1_000)), None, "all are served");
        places.give_back(newcomer);
        assert!(!places.are_taken());
    }
}
