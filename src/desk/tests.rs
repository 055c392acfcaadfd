//! The desk against a ledger played by hand: what leaves, when, and what clients are told.

mod admission;
mod answers;
mod batching;
mod beats;
mod guard;
mod losses;
mod membership;
mod news;
mod notices;
mod orphans;
mod reach;
mod standing;

use std::sync::Arc;

use super::*;
use crate::booking::{
    Amendment, Booking, BookingStatus, LogEntry, Quantity, SaleName, SaleState, SaleStatus, SaleTerms,
};
use crate::clock::WallTime;
use crate::protocol::{
    Answer, BookingOp, CallError, Cancel, Cancellation, HostBeat, LedgerOp, LedgerResult, Reservation,
    SaleOp, SaleResult, Watermark,
};

const TIMEOUT_MS: u64 = 2_000;

/// A desk of one core over one sale, a clock, and counters of made ids.
struct Fixture {
    desk: Desk<u32>,
    board: Arc<Board>,
    lane: LaneIndex,
    now: Now,
    made: u32,
    sequence: u64,
}

fn sale() -> SaleName {
    SaleName::parse("ticket").unwrap()
}

fn id(text: &str) -> BookingId {
    BookingId::parse(text).unwrap()
}

fn fixture(available: u64) -> Fixture {
    fixture_beside(0, available)
}

/// Beside the desks of so many other cores.
fn fixture_beside(others: usize, available: u64) -> Fixture {
    fixture_of(Arc::new(Board::new(1 + others, 0.2)), available)
}

fn fixture_of(board: Arc<Board>, available: u64) -> Fixture {
    let now = Now { monotonic: Monotonic(0), wall: WallTime(1_000_000) };
    board.learn(&sale(), &state(available, 0)).unwrap();
    let mut desk = Desk::new(CoreIndex(0), Arc::clone(&board), TIMEOUT_MS, now);
    desk.refresh_lanes();
    desk.handle_ledger_up(SlotRange::ALL);
    let lane = desk.lane("ticket").unwrap();
    let mut fixture = Fixture { desk, board, lane, now, made: 0, sequence: 0 };
    // The first sync asks for the sales and for the level.
    fixture.turn();
    while let Some((call, asked)) = fixture.desk.poll_call() {
        let answer = match asked {
            Call::Ledger(LedgerOp::Sales) => {
                Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: Vec::new() })
            }
            Call::Ledger(LedgerOp::Changes { .. }) => changes(&[]),
            Call::Ledger(LedgerOp::Beat { .. }) => {
                Answer::Ledger(LedgerResult::Hosts { hosts: board_hosts(&fixture.board), is_untidy: false })
            }
            _ => Answer::Sale { state: state(available, 0), result: SaleResult::Done },
        };
        fixture.desk.handle_answer(call, Ok(answer), fixture.now);
    }
    fixture
}

/// Those that it has heard of.
fn board_hosts(board: &Board) -> Vec<HostBeat> {
    board.fleet().hosts.clone()
}

fn state(available: u64, sequence: u64) -> SaleState {
    SaleState {
        terms: SaleTerms { total: available, ..Default::default() },
        status: SaleStatus::Open,
        version: 1,
        sequence,
        now: WallTime(1_000_000 + sequence),
        ..Default::default()
    }
}

/// These were announced as changed.
fn changes(names: &[SaleName]) -> Answer {
    let ledger = String::new();
    Answer::Ledger(LedgerResult::Changes {
        names: names.to_vec(),
        at: 1,
        more: false,
        reset: false,
        ledger,
        now: WallTime(0),
    })
}

impl Fixture {
    /// One request of each kind, by clients 1 to 5, and the end of the turn: reserve, look up, confirm, cancel, amend.
    fn ask_all_that_there_is(&mut self) {
        self.reserve(1, Some("a"), 1).unwrap();
        self.ask(2, id("b"), BookingAction::LookUp).unwrap();
        self.ask(3, id("c"), BookingAction::Confirm).unwrap();
        self.ask(4, id("d"), BookingAction::Cancel { tombstone: false }).unwrap();
        self.ask(5, id("e"), BookingAction::Amend(Amendment::HoldAgain)).unwrap();
        self.turn();
    }

    fn ask(&mut self, client: u32, id: BookingId, action: BookingAction) -> Result<(), Refusal> {
        let admitted = self.desk.admit_action(self.lane, &id, action, self.now)?;
        self.desk.enqueue(admitted, client, self.now, || panic!("it has an id"));
        Ok(())
    }

    fn reserve(&mut self, client: u32, own_id: Option<&str>, quantity: u64) -> Result<(), Refusal> {
        let quantity = Quantity::new(quantity).unwrap();
        let wanted = BookingRequest { id: own_id.map(id), quantity, buyer: None };
        let admitted = self.desk.admit_booking(self.lane, &wanted, self.now)?;
        let made = &mut self.made;
        let make_id = || {
            *made += 1;
            id(&format!("made-{made}"))
        };
        self.desk.enqueue(admitted, client, self.now, make_id);
        Ok(())
    }

    fn turn(&mut self) {
        self.desk.handle_deadline(self.now);
        self.desk.end_turn(self.now);
    }

    fn wait(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.plus_ms(ms);
        self.now.wall.0 += ms;
        self.turn();
    }

    /// The next call that is about bookings.
    fn batch(&mut self) -> Option<(CallId, Call)> {
        std::iter::from_fn(|| self.desk.poll_call()).find(|(_, call)| call.entries() > 0)
    }

    fn answer(&mut self, call: CallId, available: u64, reservations: Vec<Reservation>) {
        self.sequence += 1;
        let state = state(available, self.sequence);
        self.desk.handle_answer(
            call,
            Ok(Answer::Sale { state, result: SaleResult::Reserved(reservations) }),
            self.now,
        );
    }

    fn told(&mut self) -> Vec<(u32, Outcome)> {
        std::iter::from_fn(|| self.desk.poll_resolved())
            .map(|resolved| (resolved.client, resolved.outcome))
            .collect()
    }

    fn permits(&self) -> (u64, u64) {
        let totals = self.board.totals();
        (totals[0].free, totals[0].taken)
    }
}

fn granted() -> Reservation {
    Reservation::Granted { expires_at: None }
}

fn booked(text: &str, quantity: u64) -> Booking {
    Booking {
        id: id(text),
        status: BookingStatus::Confirmed,
        quantity: Quantity::new(quantity).unwrap(),
        released: 0,
        buyer: None,
        reassigned: 0,
    }
}

/// A sale that was sold out at sequence 3 before this host came, its log not read yet.
fn sold_out_before() -> Fixture {
    let mut fixture = fixture(0);
    fixture.board.learn(&sale(), &state(1, 2)).unwrap();
    fixture.board.learn(&sale(), &state(0, 3)).unwrap();
    fixture.sequence = 3;
    fixture
}
