//! A ledger of two parts, one of which is away: its sales wait, and nobody else does.

use super::*;
use crate::limits::{REMEMBERED_MS, SYNC_INTERVAL_MS};

/// The part with the sale "hello"; that of the feed goes with it.
const FIRST: (u16, u16) = (0, 8_191);
/// That of the sale "foo".
const SECOND: (u16, u16) = (8_192, 16_383);

fn slots((first, last): (u16, u16)) -> SlotRange {
    SlotRange::new(first, last).unwrap()
}

fn name(sale: &str) -> SaleName {
    SaleName::parse(sale).unwrap()
}

/// A desk over both sales, of which all is known and nothing on the way.
struct TwoParts {
    desk: Desk<u32>,
    now: Now,
}

impl TwoParts {
    fn new() -> TwoParts {
        let board = Arc::new(Board::new(1, 0.2));
        let now = Now { monotonic: Monotonic(0), wall: WallTime(1_000_000) };
        for sale in ["hello", "foo"] {
            board.learn(&name(sale), &state(100, 0)).unwrap();
        }
        let mut desk = Desk::new(CoreIndex(0), board, TIMEOUT_MS, now);
        desk.refresh_lanes();
        desk.handle_ledger_up(SlotRange::ALL);
        let mut parts = TwoParts { desk, now };
        parts.pass(SYNC_INTERVAL_MS);
        parts
    }

    /// Lets time go by, and ends the turn.
    fn wait(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.plus_ms(ms);
        self.now.wall.0 += ms;
        self.desk.handle_deadline(self.now);
        self.desk.end_turn(self.now);
        self.desk.check_invariants();
    }

    /// Lets time go by with a ledger that answers, in steps of a sync; gives what it was asked.
    fn pass(&mut self, ms: u64) -> Vec<Call> {
        let mut asked = Vec::new();
        for _ in 0..ms.div_ceil(SYNC_INTERVAL_MS) {
            self.wait(SYNC_INTERVAL_MS);
            while let Some((id, call)) = self.desk.poll_call() {
                self.answer(id, &call);
                asked.push(call);
            }
        }
        self.desk.end_turn(self.now);
        asked
    }

    fn answer(&mut self, id: CallId, call: &Call) {
        let state = SaleState { now: self.now.wall, ..state(100, 0) };
        let answer = match call {
            Call::Ledger(LedgerOp::Sales) => Answer::Ledger(LedgerResult::Sales {
                names: vec![name("hello"), name("foo")],
                odd: Vec::new(),
            }),
            Call::Ledger(_) => changes(&[]),
            Call::Bookings { op: BookingOp::Reserve(claims), .. } => {
                let granted = Reservation::Granted { expires_at: None };
                Answer::Sale { state, result: SaleResult::Reserved(vec![granted; claims.len()]) }
            }
            Call::Bookings { op: BookingOp::Restore(bookings), .. } => {
                let stands = vec![crate::protocol::Restoration::Stands; bookings.len()];
                Answer::Sale { state, result: SaleResult::Restored(stands) }
            }
            _ => Answer::Sale { state, result: SaleResult::Done },
        };
        self.desk.handle_answer(id, Ok(answer), self.now);
    }

    fn reserve(&mut self, client: u32, sale: &str, own_id: &str) -> Result<(), Refusal> {
        let lane = self.desk.lane(sale).unwrap();
        let request = BookingRequest { id: Some(id(own_id)), quantity: Quantity::ONE, buyer: None };
        let admitted = self.desk.admit_booking(lane, &request, self.now)?;
        self.desk.enqueue(admitted, client, self.now, || panic!("it has an id"));
        Ok(())
    }

    /// What clients were told.
    fn told(&mut self) -> Vec<(u32, Outcome)> {
        let resolved = std::iter::from_fn(|| self.desk.poll_resolved());
        resolved.map(|resolved| (resolved.client, resolved.outcome)).collect()
    }
}

/// Of which sales, in the order in which they were asked.
fn sales(asked: &[Call], is_wanted: impl Fn(&Call) -> bool) -> Vec<&str> {
    let wanted = asked.iter().filter(|call| is_wanted(call));
    wanted.filter_map(|call| call.sale()).map(|sale| sale.as_str()).collect()
}

fn restores(call: &Call) -> bool {
    matches!(call, Call::Bookings { op: BookingOp::Restore(_), .. })
}

fn reserves(call: &Call) -> bool {
    matches!(call, Call::Bookings { op: BookingOp::Reserve(_), .. })
}

fn asks_for_changes(call: &Call) -> bool {
    matches!(call, Call::Ledger(LedgerOp::Changes { .. }))
}

#[test]
fn what_is_in_a_part_that_is_away_waits_and_the_other_part_sells_on() {
    let mut parts = TwoParts::new();
    parts.desk.handle_ledger_down(slots(SECOND), parts.now);
    parts.reserve(1, "foo", "a").unwrap();
    parts.reserve(2, "hello", "b").unwrap();
    let asked = parts.pass(SYNC_INTERVAL_MS);
    assert_eq!(sales(&asked, reserves), ["hello"]);
    assert_eq!(sales(&asked, |call| call.sale() == Some(&name("foo"))), [""; 0]);
    assert!(asked.iter().any(asks_for_changes));
    assert!(matches!(&parts.told()[..], [(2, Outcome::Granted(_))]));
    // Its client waits as long as for any ledger, and from then on nobody waits for that part.
    parts.pass(TIMEOUT_MS);
    assert_eq!(parts.told(), [(1, Outcome::Refused(Refusal::LedgerUnavailable))]);
    assert_eq!(parts.reserve(3, "foo", "c"), Err(Refusal::LedgerUnavailable));
    parts.reserve(4, "hello", "d").unwrap();
    assert!(!parts.desk.may_have_missed(&name("hallo"), parts.now), "the feed is there, and slot 2,451");
    assert!(parts.desk.may_have_missed(&name("fool"), parts.now), "slot 16,175 is not");
    parts.pass(SYNC_INTERVAL_MS);
    assert!(matches!(&parts.told()[..], [(4, Outcome::Granted(_))]));
}

#[test]
fn a_part_that_is_back_is_offered_what_it_may_have_forgotten_and_read() {
    let mut parts = TwoParts::new();
    for (client, sale, own_id) in [(1, "foo", "a"), (2, "hello", "b")] {
        parts.reserve(client, sale, own_id).unwrap();
    }
    parts.pass(SYNC_INTERVAL_MS);
    assert_eq!(parts.told().len(), 2);
    parts.desk.handle_ledger_down(slots(SECOND), parts.now);
    // It is away for longer than anything is remembered elsewhere.
    let asked = parts.pass(2 * REMEMBERED_MS);
    assert_eq!(sales(&asked, |call| call.sale() == Some(&name("foo"))), [""; 0]);
    parts.reserve(3, "foo", "c").unwrap_err();
    parts.desk.handle_ledger_up(slots(SECOND));
    parts.reserve(4, "foo", "d").unwrap();
    let asked = parts.pass(SYNC_INTERVAL_MS);
    assert_eq!(sales(&asked, restores), ["foo"], "however long it was away");
    assert!(sales(&asked, |call| matches!(call, Call::Sale { op: SaleOp::Snapshot, .. })).contains(&"foo"));
    assert_eq!(sales(&asked, reserves), [""; 0], "not before that is answered");
    assert_eq!(sales(&parts.pass(SYNC_INTERVAL_MS), reserves), ["foo"]);
    assert!(matches!(&parts.told()[..], [(4, Outcome::Granted(_))]));
}

#[test]
fn without_the_part_that_has_the_feed_the_others_sell_and_are_read() {
    let mut parts = TwoParts::new();
    for part in [slots(FIRST), SlotRange::DIRECTORY] {
        parts.desk.handle_ledger_down(part, parts.now);
    }
    parts.reserve(1, "foo", "a").unwrap();
    let asked = parts.pass(2 * TIMEOUT_MS);
    assert!(asked.iter().all(|call| call.sale() == Some(&name("foo"))), "{asked:?}");
    assert_eq!(sales(&asked, reserves), ["foo"]);
    assert!(matches!(&parts.told()[..], [(1, Outcome::Granted(_))]));
    assert!(parts.desk.may_have_missed(&name("fool"), parts.now), "nobody says that it was opened");
    for part in [slots(FIRST), SlotRange::DIRECTORY] {
        parts.desk.handle_ledger_up(part);
    }
    let asked = parts.pass(SYNC_INTERVAL_MS);
    assert!(asked.iter().any(asks_for_changes));
    assert!(!parts.desk.may_have_missed(&name("fool"), parts.now));
}
