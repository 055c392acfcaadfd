//! What a host knows of the ids of a sold-out sale once its ledger was away: what it reads of the log, and when again.

use super::*;

/// Lets syncs go by with a ledger whose log of the sold-out sale has these bookings; gives after which sequences it was
/// asked for.
fn follow(fixture: &mut Fixture, log: &[&str]) -> Vec<u64> {
    let mut asked_after = Vec::new();
    for _ in 0..5 {
        fixture.wait(limits::SYNC_INTERVAL_MS);
        while let Some((call, asked)) = fixture.desk.poll_call() {
            let answer = match asked {
                Call::Sale { op: SaleOp::Log { after }, .. } => {
                    asked_after.push(after);
                    let entries = (1..).zip(log).skip_while(|(sequence, _)| *sequence <= after);
                    let entry = |(sequence, own): (u64, &&str)| LogEntry {
                        sequence,
                        at: WallTime(1),
                        booking: booked(own, 1),
                    };
                    Answer::Sale { state: state(0, 3), result: SaleResult::Log(entries.map(entry).collect()) }
                }
                Call::Sale { op: SaleOp::LookUp(ids), .. } => {
                    let find = |own: &BookingId| log.contains(&own.as_str()).then(|| booked(own.as_str(), 1));
                    Answer::Sale {
                        state: state(0, 3),
                        result: SaleResult::Found(ids.iter().map(find).collect()),
                    }
                }
                Call::Ledger(LedgerOp::Sales) => {
                    Answer::Ledger(LedgerResult::Sales { names: vec![sale()], odd: Vec::new() })
                }
                Call::Ledger(LedgerOp::Changes { .. }) => changes(&[sale()]),
                _ => Answer::Sale { state: state(0, 3), result: SaleResult::Done },
            };
            fixture.desk.handle_answer(call, Ok(answer), fixture.now);
        }
    }
    asked_after
}

/// What comes back may be a replica that lagged, of the same sequence by other bookings: whose ids they are, its log alone
/// tells.
#[test]
fn the_log_is_read_anew_once_the_ledger_was_away() {
    let mut fixture = sold_out_before();
    assert_eq!(follow(&mut fixture, &["a", "b", "c"]), [0]);
    assert_eq!(fixture.reserve(1, Some("theirs"), 1), Err(Refusal::SoldOut), "it is not in the log");
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.turn();
    // It may be granted by now: nobody is told that it was not.
    fixture.reserve(2, Some("theirs"), 1).unwrap();
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    assert_eq!(follow(&mut fixture, &["a", "theirs", "d"]), [0]);
    assert_eq!(fixture.told(), [(2, Outcome::Replayed(booked("theirs", 1)))]);
    assert_eq!(fixture.reserve(3, Some("new"), 1), Err(Refusal::SoldOut));
    for (client, own) in (4..).zip(["c", "d", "theirs"]) {
        fixture.reserve(client, Some(own), 1).unwrap();
    }
    fixture.turn();
    assert_eq!(fixture.batch().unwrap().1.entries(), 3, "what was granted before and since is looked up");
}
