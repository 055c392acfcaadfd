//! Sales that the ledger has lost, that others opened in their place, that were removed, and that are not sound.

use super::*;
use crate::limits::SYNC_INTERVAL_MS;
use crate::stock::Gate;

const OPENED: u64 = 1_000;

/// What the ledger has of the sale, and what became of it.
struct Ledger {
    sale: Result<Option<SaleState>, CallError>,
    removed: bool,
    id: &'static str,
    asked: Vec<Call>,
}

fn first() -> SaleState {
    SaleState { opened: OPENED, lineage: OPENED, ..state(10, 0) }
}

fn known() -> (Fixture, Ledger) {
    let mut fixture = fixture(10);
    let mut ledger = Ledger { sale: Ok(Some(first())), removed: false, id: "one", asked: Vec::new() };
    ledger.sync(&mut fixture);
    ledger.sync(&mut fixture);
    assert_eq!(fixture.board.directory().get("ticket").unwrap().seen().opened, OPENED);
    (fixture, ledger)
}

impl Ledger {
    fn sync(&mut self, fixture: &mut Fixture) -> Vec<Call> {
        fixture.wait(SYNC_INTERVAL_MS);
        self.asked.clear();
        while let Some((call, asked)) = fixture.desk.poll_call() {
            let answer = self.answer(&asked, fixture.now);
            self.asked.push(asked);
            fixture.desk.handle_answer(call, answer, fixture.now);
            fixture.desk.check_invariants();
        }
        fixture.turn();
        std::mem::take(&mut self.asked)
    }

    fn answer(&mut self, call: &Call, now: Now) -> Result<Answer, CallError> {
        match call {
            Call::Ledger(LedgerOp::Changes { .. }) => {
                let (names, ledger, now) = (Vec::new(), self.id.to_owned(), WallTime(now.wall.0));
                return Ok(Answer::Ledger(LedgerResult::Changes {
                    names,
                    at: 1,
                    more: false,
                    reset: false,
                    ledger,
                    now,
                }));
            }
            Call::Ledger(LedgerOp::Sales) => {
                return Ok(Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: Vec::new() }));
            }
            Call::Ledger(LedgerOp::Recall { sales }) => {
                return Ok(Answer::Ledger(LedgerResult::Recalled {
                    removed: vec![self.removed; sales.len()],
                }));
            }
            _ => {}
        }
        let Some(state) = self.sale.as_mut().map_err(|error| error.clone())? else {
            return Ok(Answer::Missing);
        };
        state.now = now.wall;
        if let Call::Sale { op: SaleOp::Alter(change), .. } = call {
            state.status = change.status.unwrap();
            state.version += 1;
        }
        Ok(match call {
            Call::Bookings { op: BookingOp::Restore(bookings), .. } => Answer::Sale {
                state: state.clone(),
                result: SaleResult::Restored(vec![crate::protocol::Restoration::Stands; bookings.len()]),
            },
            Call::Sale { op: SaleOp::LookUp(_), .. } => {
                Answer::Sale { state: state.clone(), result: SaleResult::Found(Vec::new()) }
            }
            _ => Answer::Sale { state: state.clone(), result: SaleResult::Done },
        })
    }
}

fn gate(fixture: &Fixture) -> Option<Gate> {
    fixture.board.directory().get("ticket").map(|sale| sale.gate(WallTime(0)))
}

fn recalls(asked: &[Call]) -> Vec<(SaleName, u64)> {
    let named = asked.iter().filter_map(|call| match call {
        Call::Ledger(LedgerOp::Recall { sales }) => Some(sales.clone()),
        _ => None,
    });
    named.flatten().collect()
}

#[test]
fn names_a_sale_that_the_ledger_does_not_have_until_it_has_it_again() {
    let (mut fixture, mut ledger) = known();
    ledger.sale = Ok(None);
    let mut named = Vec::new();
    for _ in 0..3 {
        // Nothing was announced: the slow round finds it. A request finds it at once.
        let _ = fixture.reserve(1, None, 1);
        named.extend(recalls(&ledger.sync(&mut fixture)));
        fixture.board.mark_missing("ticket");
        fixture.desk.read_all();
    }
    assert!(named.contains(&(sale(), OPENED)), "{named:?}");
    assert_eq!(gate(&fixture), Some(Gate::Missing));
    assert_eq!(fixture.reserve(2, None, 1), Err(Refusal::SaleMissing));
    ledger.sale = Ok(Some(first()));
    ledger.sync(&mut fixture);
    assert_eq!(gate(&fixture), Some(Gate::Open));
}

#[test]
fn names_all_that_it_knows_to_a_ledger_of_another_name() {
    let (mut fixture, mut ledger) = known();
    assert_eq!(recalls(&ledger.sync(&mut fixture)), []);
    for id in ["", "two"] {
        ledger.id = id;
        assert_eq!(recalls(&ledger.sync(&mut fixture)), [(sale(), OPENED)], "{id:?}");
        assert_eq!(recalls(&ledger.sync(&mut fixture)), [], "once for each");
    }
}

#[test]
fn a_sale_that_was_removed_is_known_no_more_and_another_of_its_name_is_as_good_as_any() {
    let (mut fixture, mut ledger) = known();
    let told = Outcome::Granted(booked("a", 1));
    fixture.desk.guard.remember(fixture.lane, &told, true, OPENED, fixture.now.monotonic);
    (ledger.sale, ledger.removed) = (Ok(None), true);
    fixture.desk.read_all();
    ledger.sync(&mut fixture);
    fixture.turn();
    assert_eq!((fixture.desk.lane("ticket"), gate(&fixture)), (None, None));
    assert!(!fixture.desk.guard.knows(fixture.lane), "its bookings went with it");
    // Its lane is read no more.
    assert_eq!(recalls(&ledger.sync(&mut fixture)), []);
    let other = SaleState { opened: OPENED + 9, lineage: OPENED + 9, ..state(3, 0) };
    assert!(other.is_unattended());
    ledger.sale = Ok(Some(other));
    for _ in 0..2 * limits::LIST_INTERVAL_MS / SYNC_INTERVAL_MS {
        ledger.sync(&mut fixture);
    }
    fixture.lane = fixture.desk.lane("ticket").expect("the list of sales names it");
    assert_eq!(gate(&fixture), Some(Gate::Open));
    fixture.reserve(1, None, 1).unwrap();
}

#[test]
fn a_sale_that_a_start_opened_in_place_of_a_known_one_is_paused_and_sold_once_an_operator_says_so() {
    let (mut fixture, mut ledger) = known();
    let stranger = SaleState { opened: OPENED + 9, lineage: OPENED + 9, ..state(10, 0) };
    ledger.sale = Ok(Some(stranger));
    fixture.desk.read_all();
    let asked = ledger.sync(&mut fixture);
    assert_eq!(recalls(&asked), [(sale(), OPENED)], "it may have been removed on purpose");
    let paused = asked.iter().filter(|call| matches!(call, Call::Sale { op: SaleOp::Alter(_), .. })).count();
    assert_eq!(paused, 1);
    assert_eq!(gate(&fixture), Some(Gate::NotOnSale(crate::booking::OffSale::Paused)));
    let Ok(Some(resumed)) = &mut ledger.sale else { panic!() };
    (resumed.status, resumed.version) = (SaleStatus::Open, 3);
    fixture.desk.read_all();
    ledger.sync(&mut fixture);
    assert_eq!(gate(&fixture), Some(Gate::Open));

    // Where it cannot be paused, nothing is sold of it all the same.
    let (mut fixture, mut ledger) = known();
    ledger.sale = Ok(Some(SaleState { opened: OPENED + 9, lineage: OPENED + 9, ..state(10, 0) }));
    fixture.desk.read_all();
    for _ in 0..5 {
        fixture.wait(SYNC_INTERVAL_MS);
        while let Some((call, asked)) = fixture.desk.poll_call() {
            let answer = match asked {
                Call::Sale { op: SaleOp::Alter(_), .. } => Err(CallError::Refused("OOM".to_owned())),
                _ => ledger.answer(&asked, fixture.now),
            };
            fixture.desk.handle_answer(call, answer, fixture.now);
        }
        assert_eq!(fixture.reserve(1, None, 1), Err(Refusal::SaleMissing));
    }
    // One that an operator opened is sold from at once.
    let (mut fixture, mut ledger) = known();
    ledger.sale =
        Ok(Some(SaleState { opened: OPENED + 9, lineage: OPENED + 9, by_operator: true, ..state(10, 0) }));
    fixture.desk.read_all();
    assert_eq!(recalls(&ledger.sync(&mut fixture)), []);
    assert_eq!(gate(&fixture), Some(Gate::Open));
}

#[test]
fn a_call_that_finds_the_sale_unsound_stops_it_and_a_reading_by_script_sells_it_again() {
    let (mut fixture, mut ledger) = known();
    fixture.reserve(1, Some("a"), 1).unwrap();
    fixture.turn();
    let (call, _) = fixture.batch().unwrap();
    let gone = "bx:{ticket}:bookings is gone".to_owned();
    fixture.desk.handle_answer(call, Err(CallError::Unsound(gone.clone())), fixture.now);
    assert_eq!(fixture.told(), [(1, Outcome::Refused(Refusal::SaleUnsound))]);
    assert_eq!(fixture.reserve(2, Some("b"), 1), Err(Refusal::SaleUnsound));
    assert_eq!(fixture.permits(), (0, 0), "no permit waits for it");

    ledger.sale = Err(CallError::Unsound(gone.clone()));
    for _ in 0..3 {
        let asked = ledger.sync(&mut fixture);
        let by_script =
            |call: &Call| matches!(call, Call::Sale { op: SaleOp::LookUp(ids), .. } if ids.is_empty());
        assert!(asked.iter().any(by_script), "{asked:?}");
        assert!(
            asked.iter().all(|call| !matches!(call, Call::Sale { op: SaleOp::Snapshot, .. })),
            "{asked:?}"
        );
        let sale = fixture.board.directory().get("ticket").cloned().unwrap();
        assert_eq!((sale.unsound(), sale.is_missing()), (Some(gone.clone()), false));
    }
    ledger.sale = Ok(Some(first()));
    ledger.sync(&mut fixture);
    assert_eq!(gate(&fixture), Some(Gate::Open));
    assert!(fixture.permits().0 >= 10);
    fixture.reserve(3, Some("c"), 1).unwrap();
}
