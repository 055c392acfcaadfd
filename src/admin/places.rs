//! Who is connected to the operators' listener, and whose requests ask the ledger. Where all places are taken, the one that has
//! been idle for longest gives way, so that a probe is answered however many leave their connections open. Fewer requests may
//! ask the ledger at once than there are places, so that it is answered with a ledger that hangs, too.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A connection's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

struct Guest {
    place: Place,
    stream: Arc<TcpStream>,
    /// When it was last answered, or came.
    idle_since: Instant,
    is_answered: bool,
    /// What it has sent is being worked on.
    is_served: bool,
}

/// See the [module](self).
pub(super) struct Places {
    guests: Mutex<(u64, Vec<Guest>)>,
    most: usize,
    grace: Duration,
}

impl Places {
    /// So many, and nobody there. Whoever comes has that `grace` to say something, before it may have to give way.
    pub(super) fn new(most: usize, grace: Duration) -> Places {
        Places { guests: Mutex::new((0, Vec::new())), most, grace }
    }

    /// A place for that connection; `None` while all are taken by requests that are worked on, or by who has just come.
    pub(super) fn take(&self, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut guard = self.guests();
        let (next, guests) = &mut *guard;
        if guests.len() >= self.most {
            let may_stay = |guest: &Guest| {
                guest.is_served || !guest.is_answered && guest.idle_since.elapsed() < self.grace
            };
            let idle = guests.iter().enumerate().filter(|(_, guest)| !may_stay(guest));
            let (longest, _) = idle.min_by_key(|(_, guest)| guest.idle_since)?;
            // Its thread finds the end of the stream, or cannot write, and ends.
            let _ = guests.swap_remove(longest).stream.shutdown(Shutdown::Both);
        }
        let place = Place(*next);
        *next += 1;
        guests.push(Guest {
            place,
            stream: Arc::clone(stream),
            idle_since: Instant::now(),
            is_answered: false,
            is_served: false,
        });
        Some(place)
    }

    /// Bytes have come, and are worked on from now on.
    pub(super) fn begin(&self, place: Place) {
        if let Some(guest) = self.guests().1.iter_mut().find(|guest| guest.place == place) {
            guest.is_served = true;
        }
    }

    /// What has come is worked on no more. If there `is_answer` to be written, the connection is idle since now; half a
    /// request makes no difference.
    pub(super) fn end(&self, place: Place, is_answer: bool) {
        if let Some(guest) = self.guests().1.iter_mut().find(|guest| guest.place == place) {
            guest.is_served = false;
            if is_answer {
                guest.idle_since = Instant::now();
                guest.is_answered = true;
            }
        }
    }

    /// The connection has ended.
    pub(super) fn give_back(&self, place: Place) {
        self.guests().1.retain(|guest| guest.place != place);
    }

    /// How many are there.
    pub(super) fn taken(&self) -> usize {
        self.guests().1.len()
    }

    fn guests(&self) -> MutexGuard<'_, (u64, Vec<Guest>)> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many requests ask the ledger.
pub(super) struct Asking {
    now: AtomicUsize,
    most: usize,
}

/// One request's leave to ask the ledger; given back when it goes.
pub(super) struct Leave<'a>(&'a Asking);

impl Asking {
    /// So many at once, and none yet.
    pub(super) fn new(most: usize) -> Asking {
        Asking { now: AtomicUsize::new(0), most }
    }

    /// Leave for one more; `None` while there are as many as may be.
    pub(super) fn begin(&self) -> Option<Leave<'_>> {
        // The count alone is shared: nothing is read by whoever gets leave that another one wrote.
        let one_more = |now: usize| (now < self.most).then_some(now + 1);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Leave(self))
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    /// A connection, and the far end of it.
    fn pair(listener: &TcpListener) -> (Arc<TcpStream>, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // One that should have ended, and has not, is a failure and no standstill.
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (Arc::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn who_has_just_come_is_heard_before_it_gives_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = Places::new(2, Duration::from_secs(3_600));
        let (first, second, third) = (pair(&listener), pair(&listener), pair(&listener));
        let place = places.take(&first.0).unwrap();
        places.take(&second.0).unwrap();
        assert!(places.take(&third.0).is_none(), "neither could say anything yet");
        places.begin(place);
        places.end(place, false);
        assert!(places.take(&third.0).is_none(), "half a request is on its way");
        places.begin(place);
        places.end(place, true);
        assert!(places.take(&third.0).is_some(), "the first has its answer");
        assert_eq!((&first.1).read(&mut [0]).unwrap(), 0, "and has given way");
    }

    #[test]
    fn no_more_requests_than_that_ask_at_once() {
        let asking = Asking::new(2);
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
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = Places::new(3, Duration::ZERO);
        let mut guests: Vec<_> = (0..3)
            .map(|_| {
                let (stream, client) = pair(&listener);
                (places.take(&stream).unwrap(), client)
            })
            .collect();
        // The first is served, the second was answered after the third came: the third is idle for longest.
        places.begin(guests[0].0);
        places.begin(guests[1].0);
        places.end(guests[1].0, true);
        // Half a head makes nobody less idle.
        places.begin(guests[2].0);
        places.end(guests[2].0, false);
        let (newcomer, _client) = pair(&listener);
        let place = places.take(&newcomer).unwrap();
        assert_eq!(places.taken(), 3);
        assert_eq!(guests[2].1.read(&mut [0]).unwrap(), 0, "its connection has ended");
        places.give_back(guests[2].0);
        assert_eq!(places.taken(), 3, "it had no place any more");
        places.begin(guests[1].0);
        places.begin(place);
        assert!(places.take(&pair(&listener).0).is_none(), "all are served");
        places.give_back(place);
        assert_eq!(places.taken(), 2);
    }
}
