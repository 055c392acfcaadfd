//! What the desk asks on its own behalf, against a ledger that answers everything but that.

use super::*;

/// Everything that is no answer to a cancellation, or to anything else that the desk asks.
fn useless() -> Vec<(&'static str, Result<Answer, CallError>)> {
    let error = |what: &str| what.to_owned();
    vec![
        ("unknown", Err(CallError::Unknown(error("cut")))),
        ("refused", Err(CallError::Refused(error("OOM")))),
        ("garbled", Err(CallError::Garbled(error("z")))),
        ("of another length", Ok(Answer::Sale { state: state(9, 2), result: SaleResult::Cancelled(vec![]) })),
        (
            "of another kind",
            Ok(Answer::Sale {
                state: state(0, 3),
                result: SaleResult::Trimmed { groups: 0, removed: 0, left: 0 },
            }),
        ),
        ("withheld", Ok(Answer::Stale(state(9, 2)))),
        ("no such sale", Ok(Answer::Missing)),
    ]
}

fn cancellation(call: &Call) -> Option<Vec<BookingId>> {
    match call {
        Call::Bookings { op: BookingOp::Cancel(ids), .. } => {
            assert!(ids.iter().all(|cancel| cancel.tombstone));
            Some(ids.iter().map(|cancel| cancel.id).collect())
        }
        _ => None,
    }
}

impl Fixture {
    /// Answers syncs as long as there are any: the sale is there, or it is not.
    fn cancelled_at_next_sync(&mut self, there: bool) -> Vec<(CallId, Vec<BookingId>)> {
        self.wait(limits::SYNC_INTERVAL_MS);
        self.cancelled(there)
    }

    /// What is to be cancelled among the calls that are ready.
    fn cancelled(&mut self, there: bool) -> Vec<(CallId, Vec<BookingId>)> {
        self.turn();
        let mut found = Vec::new();
        while let Some((call, asked)) = self.desk.poll_call() {
            let answer = match &asked {
                Call::Ledger(LedgerOp::Sales) => {
                    Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: vec![] })
                }
                Call::Ledger(LedgerOp::Changes { .. }) => nothing_announced(),
                Call::Ledger(LedgerOp::Recall { sales }) => {
                    Answer::Ledger(LedgerResult::Recalled { removed: vec![false; sales.len()] })
                }
                Call::Sale { op: SaleOp::Snapshot | SaleOp::Expire, .. } if there => {
                    self.sequence += 1;
                    Answer::Sale { state: state(9, self.sequence), result: SaleResult::Done }
                }
                Call::Bookings { op: BookingOp::Restore(_), .. } if there => {
                    Answer::Sale { state: state(9, self.sequence), result: SaleResult::Restored(vec![]) }
                }
                Call::Sale { op: SaleOp::Snapshot | SaleOp::Expire, .. }
                | Call::Bookings { op: BookingOp::Restore(_), .. } => Answer::Missing,
                other => {
                    found.push((call, cancellation(other).expect("nothing else is asked")));
                    continue;
                }
            };
            self.desk.handle_answer(call, Ok(answer), self.now);
        }
        self.desk.check_invariants();
        found
    }

    fn answer_cancelled(&mut self, call: CallId, entries: usize) {
        self.sequence += 1;
        let cancellations = vec![Cancellation::NotFound; entries];
        let answer =
            Answer::Sale { state: state(9, self.sequence), result: SaleResult::Cancelled(cancellations) };
        self.desk.handle_answer(call, Ok(answer), self.now);
    }
}

#[test]
fn a_cancellation_is_asked_for_until_it_is_answered_whatever_else_is_answered() {
    for way in ["abandoned", "unheard", "lost"] {
        for (name, answer) in useless() {
            let mut fixture = fixture(10);
            match way {
                // Granted after its client was told "unknown".
                "abandoned" => {
                    fixture.reserve(1, None, 1).unwrap();
                    fixture.turn();
                    let (call, _) = fixture.batch().unwrap();
                    fixture.wait(TIMEOUT_MS);
                    fixture.answer(call, 9, vec![granted()]);
                }
                // Granted, and its client went before it was told.
                "unheard" => fixture.desk.cancel_unheard(fixture.lane, id("made-1"), fixture.now),
                // Granted or not: what was answered is not known.
                _ => {
                    fixture.reserve(1, None, 1).unwrap();
                    fixture.turn();
                    let (call, _) = fixture.batch().unwrap();
                    let garbled = Err(CallError::Garbled("z".to_owned()));
                    fixture.desk.handle_answer(call, garbled, fixture.now);
                    fixture.wait(limits::SYNC_INTERVAL_MS);
                }
            }
            let (mut call, ids) = fixture.cancelled(true).pop().expect("a cancellation");
            assert_eq!(ids, [id("made-1")]);
            for again in 0..3 {
                fixture.desk.handle_answer(call, answer.clone(), fixture.now);
                fixture.desk.check_invariants();
                // A sale that is missing is found again by a sync first.
                let found = (0..3).find_map(|_| fixture.cancelled_at_next_sync(true).pop());
                let (next, ids) = found.unwrap_or_else(|| panic!("{way}, {name}: given up, {again}"));
                assert_eq!(ids, [id("made-1")], "{way}, {name}");
                assert_eq!(fixture.reserve(3, Some("made-1"), 1), Err(Refusal::InProgress), "{way}, {name}");
                call = next;
            }
            fixture.answer_cancelled(call, 1);
            assert_eq!(fixture.desk.waiting(), 0);
            assert!((0..3).all(|_| fixture.cancelled_at_next_sync(true).is_empty()), "{way}, {name}");
            fixture.reserve(3, Some("made-1"), 1).unwrap();
        }
    }
}

#[test]
fn a_cancellation_of_a_sale_that_is_gone_costs_nothing_until_it_is_back() {
    let mut fixture = fixture(10);
    fixture.desk.cancel_unheard(fixture.lane, id("made-1"), fixture.now);
    let (call, _) = fixture.cancelled(true).pop().unwrap();
    fixture.desk.handle_answer(call, Ok(Answer::Missing), fixture.now);
    // These gather behind it, and none may leave: of a sale that is gone nobody knows which history it has.
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    for number in 2..10 {
        fixture.desk.cancel_unheard(fixture.lane, id(&format!("made-{number}")), fixture.now);
    }
    for _ in 0..5 {
        let asked = fixture.cancelled_at_next_sync(false);
        asked.into_iter().for_each(|(call, _)| {
            fixture.desk.handle_answer(call, Ok(Answer::Missing), fixture.now);
        });
    }
    for _ in 0..50 {
        assert_eq!(fixture.cancelled_at_next_sync(false), []);
        assert_eq!(fixture.desk.waiting(), 0, "nobody else has less room for it");
    }
    let found = (0..3).flat_map(|_| fixture.cancelled_at_next_sync(true)).collect::<Vec<_>>();
    let ids: Vec<_> = found.iter().flat_map(|(_, ids)| ids).collect();
    assert_eq!(ids.len(), 9, "{ids:?}");
    found.into_iter().for_each(|(call, ids)| fixture.answer_cancelled(call, ids.len()));
    assert_eq!(fixture.desk.waiting(), 0);
}

#[test]
fn what_is_set_aside_is_bounded_and_the_oldest_goes() {
    let mut fixture = fixture(10);
    fixture.board.mark_missing("ticket");
    let most = limits::ORPHANS_SET_ASIDE_MAX;
    for number in 0..most + 10 {
        fixture.desk.cancel_unheard(fixture.lane, id(&format!("made-{number}")), fixture.now);
    }
    for _ in 0..20 {
        assert_eq!(fixture.cancelled_at_next_sync(false), []);
    }
    assert_eq!((fixture.desk.waiting(), fixture.desk.ids_marked(&sale())), (0, most));
    // None is asked about twice, and none is forgotten but those.
    let mut left = most;
    for _ in 0..60 {
        for (call, ids) in fixture.cancelled_at_next_sync(true) {
            left -= ids.len();
            fixture.answer_cancelled(call, ids.len());
        }
    }
    assert_eq!((left, fixture.desk.ids_marked(&sale())), (0, 0));
}

#[test]
fn a_hundred_thousand_at_once_leave_bit_by_bit() {
    const MANY: usize = 100_000;
    let mut fixture = fixture(10);
    for number in 0..MANY {
        fixture.desk.cancel_unheard(fixture.lane, id(&format!("made-{number}")), fixture.now);
    }
    assert_eq!(fixture.desk.waiting(), MANY);
    let mut cancelled = 0;
    for refused in 0..MANY {
        let asked = fixture.cancelled_at_next_sync(true);
        let at_once: usize = asked.iter().map(|(_, ids)| ids.len()).sum();
        assert!(at_once <= limits::ORPHANS_AT_ONCE_MAX, "{at_once} at once");
        for (call, ids) in asked {
            // The first round of all of them fails.
            if refused < MANY / limits::ORPHANS_AT_ONCE_MAX {
                let refused = Err(CallError::Refused("OOM".to_owned()));
                fixture.desk.handle_answer(call, refused, fixture.now);
            } else {
                cancelled += ids.len();
                fixture.answer_cancelled(call, ids.len());
            }
        }
        if fixture.desk.waiting() == 0 {
            break;
        }
    }
    assert_eq!(cancelled, MANY);
}

/// The syncs' own questions, as far as they are calls about no booking.
fn nothing_announced() -> Answer {
    let (names, ledger) = (vec![], String::new());
    Answer::Ledger(LedgerResult::Changes {
        names,
        at: 0,
        more: false,
        reset: false,
        ledger,
        now: WallTime(0),
    })
}

#[test]
fn what_a_sync_asks_is_asked_again_whatever_is_answered() {
    for (name, useless) in useless() {
        for of in ["the feed", "the sales", "a new sale", "a level", "a sweep", "a log"] {
            // Of a sale that is gone there is no log.
            if (name, of) == ("no such sale", "a log") {
                continue;
            }
            let mut fixture = if of == "a log" { sold_out_before() } else { fixture(10) };
            let new = SaleName::parse("new").unwrap();
            let level = match of {
                "a sweep" => SaleState { held: 1, ..state(10, 3) },
                "a log" => state(0, 3),
                _ => state(10, 3),
            };
            fixture.board.learn(&sale(), &level).unwrap();
            let mut asked = 0;
            // Each sale is read, and asked for, once in a slow round at least.
            for _ in 0..4 * limits::SLOW_ROUND_MS / limits::SYNC_INTERVAL_MS {
                fixture.wait(limits::SYNC_INTERVAL_MS);
                while let Some((call, question)) = fixture.desk.poll_call() {
                    let kind = match &question {
                        Call::Ledger(LedgerOp::Sales) => "the sales",
                        Call::Ledger(LedgerOp::Changes { .. }) => "the feed",
                        Call::Sale { sale, op: SaleOp::Snapshot } if *sale == new => "a new sale",
                        Call::Sale { op: SaleOp::Snapshot, .. } => "a level",
                        Call::Sale { op: SaleOp::Expire, .. } => "a sweep",
                        Call::Sale { op: SaleOp::Log { .. }, .. } => "a log",
                        Call::Ledger(LedgerOp::Recall { .. }) => "a name",
                        other => panic!("{other:?}"),
                    };
                    let answer = match &question {
                        _ if kind == of => useless.clone(),
                        Call::Ledger(LedgerOp::Sales) => {
                            Ok(Answer::Ledger(LedgerResult::Sales { names: vec![sale(), new], odd: vec![] }))
                        }
                        Call::Ledger(LedgerOp::Changes { .. }) => Ok(nothing_announced()),
                        Call::Ledger(LedgerOp::Recall { sales }) => {
                            Ok(Answer::Ledger(LedgerResult::Recalled { removed: vec![false; sales.len()] }))
                        }
                        _ => Ok(Answer::Sale { state: level.clone(), result: SaleResult::Done }),
                    };
                    asked += usize::from(kind == of);
                    fixture.desk.handle_answer(call, answer, fixture.now);
                }
                fixture.desk.check_invariants();
            }
            // A sale that is gone has no holds to sweep, and its level is asked for instead.
            let least = if (name, of) == ("no such sale", "a sweep") { 1 } else { 3 };
            assert!(asked >= least, "{of} was asked for {asked} times, answered {name}");
        }
    }
}

#[test]
fn a_log_of_a_sale_that_is_gone_says_that_it_is_gone() {
    let mut fixture = sold_out_before();
    fixture.wait(limits::SYNC_INTERVAL_MS);
    while let Some((call, question)) = fixture.desk.poll_call() {
        let answer = match question {
            Call::Ledger(LedgerOp::Sales) => {
                Answer::Ledger(LedgerResult::Sales { names: vec![], odd: vec![] })
            }
            Call::Ledger(LedgerOp::Changes { .. }) => nothing_announced(),
            Call::Sale { op: SaleOp::Log { .. }, .. } => Answer::Missing,
            _ => Answer::Sale { state: state(0, 3), result: SaleResult::Done },
        };
        fixture.desk.handle_answer(call, Ok(answer), fixture.now);
    }
    assert_eq!(fixture.reserve(1, Some("a"), 1), Err(Refusal::SaleMissing));
}
