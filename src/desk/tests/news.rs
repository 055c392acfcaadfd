//! What a desk asks of the ledger without being asked itself, and when.

use rustc_hash::FxHashMap;

use super::*;
use crate::limits::{
    ANNOUNCE_MS, CHANGES_PER_CALL_MAX, LIST_INTERVAL_MS, READS_PER_SWEEP, READS_PER_SYNC_MAX, SLOW_ROUND_MS,
    SNAPSHOTS_IN_FLIGHT_MAX, SWEEP_PAUSE_MS, SYNC_INTERVAL_MS,
};

/// A ledger as far as the sync sees it.
#[derive(Default)]
struct Played {
    sales: FxHashMap<SaleName, SaleState>,
    /// Names in the order of their announcements.
    feed: Vec<SaleName>,
    odd: Vec<String>,
    name: String,
    /// It announces nothing.
    is_mute: bool,
    /// Names that are not in its list.
    unlisted: Vec<SaleName>,
    /// Holds that are over do not end.
    is_stuck: bool,
    /// Its clock is so far ahead.
    ahead_ms: i64,
    /// What it was asked, by one word each.
    asked: Vec<String>,
    /// Sales that hosts named, with when they were opened; and those that were removed.
    named: Vec<(SaleName, u64)>,
    removed: Vec<SaleName>,
}

fn name(number: usize) -> SaleName {
    SaleName::parse(format!("sale-{number}")).unwrap()
}

impl Played {
    fn answer(&mut self, call: &Call, now: Now) -> Answer {
        let word = match call {
            Call::Ledger(LedgerOp::Changes { .. }) => "changes".to_owned(),
            Call::Ledger(LedgerOp::Sales) => "sales".to_owned(),
            Call::Sale { sale, op: SaleOp::Snapshot } => format!("read {sale}"),
            Call::Sale { sale, op: SaleOp::Expire } => format!("expire {sale}"),
            Call::Ledger(LedgerOp::Recall { sales }) => {
                self.named.extend(sales.iter().copied());
                "recall".to_owned()
            }
            other => panic!("{other:?}"),
        };
        self.asked.push(word);
        match call {
            Call::Ledger(LedgerOp::Changes { .. }) if self.is_mute => {
                Answer::Ledger(LedgerResult::Unannounced)
            }
            Call::Ledger(LedgerOp::Changes { after }) => {
                let latest = self.feed.len();
                let from = after.map_or(latest, |after| after as usize);
                let to = latest.min(from + CHANGES_PER_CALL_MAX);
                Answer::Ledger(LedgerResult::Changes {
                    names: self.feed.get(from..to).unwrap_or_default().to_vec(),
                    at: if from > latest { latest } else { to } as u64,
                    more: to < latest && from <= latest,
                    reset: from > latest,
                    ledger: self.name.clone(),
                    now: WallTime(now.wall.0.saturating_add_signed(self.ahead_ms)),
                })
            }
            Call::Ledger(LedgerOp::Sales) => Answer::Ledger(LedgerResult::Sales {
                names: self.sales.keys().filter(|name| !self.unlisted.contains(name)).copied().collect(),
                odd: self.odd.clone(),
            }),
            Call::Sale { sale, op: SaleOp::Expire | SaleOp::Snapshot } => match self.sales.get_mut(sale) {
                Some(state) => {
                    state.now = now.wall;
                    if !self.is_stuck
                        && matches!(call, Call::Sale { op: SaleOp::Expire, .. })
                        && state.due_at.is_some_and(|due| due <= now.wall)
                    {
                        (state.held, state.due_at) = (0, None);
                        state.sequence += 1;
                    }
                    Answer::Sale { state: state.clone(), result: SaleResult::Done }
                }
                None => Answer::Missing,
            },
            Call::Ledger(LedgerOp::Recall { sales }) => Answer::Ledger(LedgerResult::Recalled {
                removed: sales.iter().map(|(sale, _)| self.removed.contains(sale)).collect(),
            }),
            _ => unreachable!(),
        }
    }

    fn announce(&mut self, sale: SaleName, now: Now) {
        self.feed.push(sale);
        self.sales.get_mut(&sale).unwrap().announced_at = now.wall;
    }
}

/// A desk on that ledger, connected and at rest.
fn at_rest(ledger: &mut Played) -> Fixture {
    on_cores(1, ledger)
}

fn on_cores(cores: usize, ledger: &mut Played) -> Fixture {
    let board = Arc::new(Board::new(cores, 0.2));
    let now = Now { monotonic: Monotonic(0), wall: WallTime(1_000_000_000) };
    board.learn(&sale(), &state(10, 0)).unwrap();
    let mut desk = Desk::new(CoreIndex(0), Arc::clone(&board), TIMEOUT_MS, now);
    desk.refresh_lanes();
    desk.handle_ledger_up(SlotRange::ALL);
    let lane = desk.lane("ticket").unwrap();
    let mut fixture = Fixture { desk, board, lane, now, made: 0, sequence: 0 };
    ledger.sales.entry(sale()).or_insert(state(10, 0));
    for _ in 0..40 {
        sync(&mut fixture, ledger);
    }
    fixture
}

/// One sync and all that follows from it: what was asked.
fn sync(fixture: &mut Fixture, ledger: &mut Played) -> Vec<String> {
    fixture.wait(SYNC_INTERVAL_MS);
    answer_all(fixture, ledger)
}

fn answer_all(fixture: &mut Fixture, ledger: &mut Played) -> Vec<String> {
    ledger.asked.clear();
    while let Some((call, asked)) = fixture.desk.poll_call() {
        let answer = ledger.answer(&asked, fixture.now);
        fixture.desk.handle_answer(call, Ok(answer), fixture.now);
        // It looks at each sale for each sale.
        if fixture.board.directory().len() < 100 {
            fixture.desk.check_invariants();
        }
    }
    fixture.turn();
    std::mem::take(&mut ledger.asked)
}

/// What is asked in so many syncs, apart from what has changed and which sales there are.
fn reads_in(syncs: usize, fixture: &mut Fixture, ledger: &mut Played) -> Vec<String> {
    let asked = (0..syncs).flat_map(|_| sync(fixture, ledger)).collect::<Vec<_>>();
    assert_eq!(asked.iter().filter(|word| *word == "changes").count(), syncs, "one question a sync");
    asked.into_iter().filter(|word| word != "changes" && word != "sales").collect()
}

fn with_sales(count: usize, state: &SaleState) -> Played {
    Played { sales: (0..count).map(|number| (name(number), state.clone())).collect(), ..Played::default() }
}

#[test]
fn an_idle_host_asks_one_question_a_sync_and_each_sale_once_in_a_slow_round() {
    let mut ledger = with_sales(599, &state(10, 0));
    let mut fixture = at_rest(&mut ledger);
    let syncs = (SLOW_ROUND_MS / SYNC_INTERVAL_MS) as usize;
    let asked: Vec<String> = (0..syncs).flat_map(|_| sync(&mut fixture, &mut ledger)).collect();
    let count = |word: &str| asked.iter().filter(|asked| *asked == word).count();
    assert_eq!((count("changes"), count("sales") as u64), (syncs, SLOW_ROUND_MS / LIST_INTERVAL_MS));
    let mut reads: Vec<&String> = asked.iter().filter(|word| word.starts_with("read ")).collect();
    reads.sort();
    reads.dedup();
    assert_eq!(reads.len(), 600, "each sale");
    // Ever so few at a time.
    assert!(reads_in(1, &mut fixture, &mut ledger).len() <= 2);
}

#[test]
fn reads_what_was_announced_at_the_next_sync_and_nothing_else() {
    let mut ledger = with_sales(50, &state(10, 0));
    let mut fixture = at_rest(&mut ledger);
    let at = fixture.now;
    ledger.sales.get_mut(&name(7)).unwrap().terms.total = 25;
    ledger.announce(name(7), at);
    let asked = sync(&mut fixture, &mut ledger);
    assert!(asked.contains(&"read sale-7".to_owned()) && asked.len() <= 3, "{asked:?}");
    assert_eq!(fixture.board.directory().get("sale-7").unwrap().available(), 25);
    let again = reads_in(20, &mut fixture, &mut ledger);
    assert!(!again.contains(&"read sale-7".to_owned()), "{again:?}");
}

#[test]
fn reads_again_while_a_sale_may_change_without_a_word() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    // The announcement is made just before the sync, and a change after it.
    fixture.now.monotonic = fixture.now.monotonic.plus_ms(SYNC_INTERVAL_MS - 10);
    fixture.now.wall.0 += SYNC_INTERVAL_MS - 10;
    ledger.sales.get_mut(&sale()).unwrap().terms.total = 20;
    ledger.announce(sale(), fixture.now);
    fixture.wait(10);
    assert_eq!(answer_all(&mut fixture, &mut ledger), ["changes", "read ticket"]);
    ledger.sales.get_mut(&sale()).unwrap().terms.total = 30;
    assert_eq!(sync(&mut fixture, &mut ledger), ["changes", "read ticket"]);
    assert_eq!(fixture.board.directory().get("ticket").unwrap().available(), 30);
    assert_eq!(sync(&mut fixture, &mut ledger), ["changes"]);
    // A sale that changes all the time is read once a sync, however it is told.
    for _ in 0..5 {
        for _ in 0..SYNC_INTERVAL_MS / ANNOUNCE_MS {
            fixture.now.monotonic = fixture.now.monotonic.plus_ms(ANNOUNCE_MS);
            fixture.now.wall.0 += ANNOUNCE_MS;
            ledger.announce(sale(), fixture.now);
        }
        fixture.turn();
        assert_eq!(answer_all(&mut fixture, &mut ledger), ["changes", "read ticket"]);
    }
}

#[test]
fn reads_again_what_is_frozen_and_what_could_not_be_read() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    let (frozen_until, at) = (WallTime(fixture.now.wall.0 + 1_000), fixture.now);
    ledger.sales.get_mut(&sale()).unwrap().frozen_until = frozen_until;
    ledger.announce(sale(), at);
    assert_eq!(reads_in(4, &mut fixture, &mut ledger), ["read ticket"; 4]);
    assert_eq!(reads_in(4, &mut fixture, &mut ledger), ["read ticket"]);

    ledger.announce(sale(), fixture.now);
    fixture.wait(SYNC_INTERVAL_MS);
    let (call, asked) = fixture.desk.poll_call().unwrap();
    let answer = ledger.answer(&asked, fixture.now);
    fixture.desk.handle_answer(call, Ok(answer), fixture.now);
    let (call, asked) = fixture.desk.poll_call().unwrap();
    assert!(matches!(asked, Call::Sale { op: SaleOp::Snapshot, .. }));
    fixture.desk.handle_answer(call, Err(CallError::Refused("LOADING".to_owned())), fixture.now);
    assert_eq!(sync(&mut fixture, &mut ledger), ["changes", "read ticket"]);
}

#[test]
fn a_reading_that_is_doubted_is_asked_for_again() {
    let mut ledger = Played::default();
    ledger.sales.insert(sale(), state(10, 9));
    let mut fixture = at_rest(&mut ledger);
    assert_eq!(fixture.desk.sale(fixture.lane).level().unwrap().sequence, 9);
    // A ledger that has forgotten something, and whose clock has gone back.
    fixture.now.wall.0 -= 100_000;
    ledger.sales.insert(sale(), state(10, 3));
    ledger.feed.push(sale());
    let mut asked = reads_in(2, &mut fixture, &mut ledger);
    // That its clock has gone back is noticed, too.
    asked.retain(|word| word != "sales");
    assert_eq!(asked, ["read ticket"; 2]);
    assert_eq!(fixture.desk.sale(fixture.lane).level().unwrap().sequence, 3);
    assert!(reads_in(4, &mut fixture, &mut ledger).is_empty());
}

#[test]
fn expires_holds_when_they_are_due_and_until_they_are_gone() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    let at = fixture.now;
    let due = WallTime(at.wall.0 + 5 * SYNC_INTERVAL_MS + 50);
    let state = ledger.sales.get_mut(&sale()).unwrap();
    (state.held, state.due_at, state.sequence) = (2, Some(due), 1);
    ledger.announce(sale(), at);
    assert_eq!(reads_in(5, &mut fixture, &mut ledger), ["read ticket"]);
    assert_eq!(reads_in(1, &mut fixture, &mut ledger), ["expire ticket"]);
    assert_eq!(fixture.desk.sale(fixture.lane).available(), 10);
    assert!(reads_in(5, &mut fixture, &mut ledger).is_empty());

    // More of them than one call expires; and a ledger that does not tell when they end.
    for due_at in [Some(WallTime(fixture.now.wall.0 - 1)), None] {
        let state = ledger.sales.get_mut(&sale()).unwrap();
        (state.held, state.due_at) = (2, due_at);
        ledger.is_stuck = true;
        ledger.feed.push(sale());
        let asked = reads_in(3, &mut fixture, &mut ledger);
        assert_eq!(asked, ["read ticket", "expire ticket", "expire ticket"], "{due_at:?}");
        let state = ledger.sales.get_mut(&sale()).unwrap();
        (state.held, state.due_at) = (0, None);
        reads_in(1, &mut fixture, &mut ledger);
        assert!(reads_in(2, &mut fixture, &mut ledger).is_empty());
    }
}

#[test]
fn lets_others_at_the_ledger_between_two_calls_that_enter_overdue_holds() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    // What has ended counts for nobody any more, and is not entered by one call.
    let over = WallTime(fixture.now.wall.0 - 1);
    let state = ledger.sales.get_mut(&sale()).unwrap();
    (state.held, state.due_at, state.lapsed_until) = (0, Some(over), WallTime(u64::MAX));
    ledger.is_stuck = true;
    ledger.feed.push(sale());
    let mut asked_at = Vec::new();
    for ms in 0..3 * SYNC_INTERVAL_MS {
        fixture.wait(1);
        let asked = answer_all(&mut fixture, &mut ledger);
        asked_at.extend(asked.iter().filter(|word| word.starts_with("expire")).map(|_| ms));
    }
    assert!(
        asked_at.len() as u64 >= SYNC_INTERVAL_MS / SWEEP_PAUSE_MS,
        "goes on between syncs: {asked_at:?}"
    );
    // A sync asks as well, without regard to a pause.
    let sooner = asked_at.windows(2).filter(|two| two[1] - two[0] < SWEEP_PAUSE_MS).count();
    assert!(sooner <= 2 * 3, "{asked_at:?}");
    // Nothing pauses for good once the ledger is lost, or all is entered.
    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.wait(SWEEP_PAUSE_MS);
    assert!(fixture.desk.next_deadline() > fixture.now.monotonic);
    ledger.is_stuck = false;
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    for _ in 0..2 {
        sync(&mut fixture, &mut ledger);
    }
    assert!(reads_in(2, &mut fixture, &mut ledger).is_empty());
}

#[test]
fn reads_a_sale_when_its_window_ends() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    let at = fixture.now;
    ledger.sales.get_mut(&sale()).unwrap().terms.ends_at = Some(WallTime(at.wall.0 + 3 * SYNC_INTERVAL_MS));
    ledger.announce(sale(), at);
    assert_eq!(reads_in(2, &mut fixture, &mut ledger), ["read ticket"]);
    assert_eq!(reads_in(2, &mut fixture, &mut ledger), ["read ticket"]);
    assert!(reads_in(4, &mut fixture, &mut ledger).is_empty());
}

#[test]
fn finds_sales_that_were_opened_by_thousands_within_a_second() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    let count = 4 * READS_PER_SYNC_MAX;
    for number in 0..count {
        ledger.sales.insert(name(number), state(10, 0));
        ledger.announce(name(number), fixture.now);
    }
    let syncs = (0..).take_while(|_| {
        sync(&mut fixture, &mut ledger);
        !(0..count).all(|number| fixture.desk.lane(name(number).as_str()).is_some())
    });
    assert!(syncs.count() < 5);
}

#[test]
fn a_new_sale_is_known_at_the_next_sync_and_names_without_a_sale_hold_nobody_up() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    ledger.feed.extend((1..SNAPSHOTS_IN_FLIGHT_MAX * 3).map(name));
    ledger.sales.insert(name(0), state(4, 0));
    ledger.announce(name(0), fixture.now);
    sync(&mut fixture, &mut ledger);
    assert!(fixture.desk.lane("sale-0").is_some());
    assert!(reads_in(1, &mut fixture, &mut ledger).len() <= 1, "nobody is asked for twice");
    // Its question failed.
    ledger.sales.insert(name(1), state(4, 0));
    ledger.announce(name(1), fixture.now);
    fixture.wait(SYNC_INTERVAL_MS);
    while let Some((call, asked)) = fixture.desk.poll_call() {
        let answer = match asked {
            Call::Sale { sale, op: SaleOp::Snapshot } if sale == name(1) => {
                Err(CallError::Refused("LOADING".to_owned()))
            }
            asked => Ok(ledger.answer(&asked, fixture.now)),
        };
        fixture.desk.handle_answer(call, answer, fixture.now);
    }
    assert!(fixture.desk.lane("sale-1").is_none());
    sync(&mut fixture, &mut ledger);
    assert!(fixture.desk.lane("sale-1").is_some());
}

#[test]
fn reads_everything_on_a_new_connection_and_where_the_feed_is_another() {
    let everything = |asked: Vec<String>| {
        let reads = asked.iter().filter(|word| word.starts_with("read ")).count();
        (asked.contains(&"sales".to_owned()), reads >= 31)
    };
    let mut ledger = with_sales(30, &state(10, 0));
    ledger.feed = vec![sale(); 9];
    let mut fixture = at_rest(&mut ledger);
    assert_eq!(everything(sync(&mut fixture, &mut ledger)), (false, false));
    ledger.feed.truncate(3);
    assert_eq!(everything(sync(&mut fixture, &mut ledger)), (false, true));
    // The list of sales comes with the sync after that.
    assert!(sync(&mut fixture, &mut ledger).contains(&"sales".to_owned()));
    ledger.name = "another".to_owned();
    assert_eq!(everything(sync(&mut fixture, &mut ledger)), (false, true));
    sync(&mut fixture, &mut ledger);
    assert_eq!(everything(sync(&mut fixture, &mut ledger)), (false, false));

    fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
    fixture.desk.handle_ledger_up(SlotRange::ALL);
    fixture.turn();
    let asked = answer_all(&mut fixture, &mut ledger);
    assert_eq!(asked[0], "changes", "where the feed is comes first");
    assert_eq!(everything(asked), (true, true));
}

#[test]
fn reads_everything_at_each_sync_while_the_feed_cannot_be_read() {
    let mut ledger = with_sales(30, &state(10, 0));
    let mut fixture = at_rest(&mut ledger);
    for _ in 0..3 {
        fixture.wait(SYNC_INTERVAL_MS);
        let (call, asked) = fixture.desk.poll_call().unwrap();
        assert!(matches!(asked, Call::Ledger(LedgerOp::Changes { .. })));
        fixture.desk.handle_answer(call, Err(CallError::Refused("NOPERM".to_owned())), fixture.now);
        let asked = answer_all(&mut fixture, &mut ledger);
        assert!(asked.iter().filter(|word| word.starts_with("read ")).count() >= 31, "{asked:?}");
    }
    assert!(sync(&mut fixture, &mut ledger).len() <= 3);
}

#[test]
fn reads_everything_where_the_ledgers_clock_has_gone_back() {
    let mut ledger = with_sales(10, &state(10, 0));
    let mut fixture = at_rest(&mut ledger);
    // The host's own clock says nothing; forward is no harm, and what drifts is not set.
    for (by_ms, reads_all) in
        [(300, false), (-300, true), (-5, false), (-5, false), (-1_000, true), (9_000, false)]
    {
        ledger.ahead_ms += by_ms;
        let asked = sync(&mut fixture, &mut ledger);
        assert_eq!(
            asked.iter().filter(|word| word.starts_with("read ")).count() >= 11,
            reads_all,
            "{by_ms} {asked:?}"
        );
        for _ in 0..30 {
            sync(&mut fixture, &mut ledger);
        }
    }
}

#[test]
fn what_was_asked_for_changes_on_a_connection_of_before_says_nothing_on_this_one() {
    let mut ledger = Played::default();
    let mut fixture = at_rest(&mut ledger);
    fixture.wait(SYNC_INTERVAL_MS);
    let (late, asked) = fixture.desk.poll_call().unwrap();
    assert!(matches!(asked, Call::Ledger(LedgerOp::Changes { after: Some(0) })));
    for _ in 0..3 {
        fixture.desk.handle_ledger_down(SlotRange::ALL, fixture.now);
        fixture.desk.handle_ledger_up(SlotRange::ALL);
        fixture.wait(SYNC_INTERVAL_MS);
        let asked: Vec<Call> =
            std::iter::from_fn(|| fixture.desk.poll_call()).map(|(_, call)| call).collect();
        assert!(
            !asked.iter().any(|call| matches!(call, Call::Ledger(LedgerOp::Changes { .. }))),
            "one at a time"
        );
    }
    fixture.desk.handle_answer(late, Ok(changes(&[name(5)])), fixture.now);
    assert!(fixture.desk.next_deadline() <= fixture.now.monotonic);
    fixture.turn();
    let asked: Vec<Call> = std::iter::from_fn(|| fixture.desk.poll_call()).map(|(_, call)| call).collect();
    assert_eq!(asked[0], Call::Ledger(LedgerOp::Changes { after: None }));
}

#[test]
fn a_core_reads_only_its_own_sales_but_knows_all() {
    let mut ledger = with_sales(40, &state(10, 0));
    let mut fixture = on_cores(4, &mut ledger);
    for number in 0..40 {
        ledger.announce(name(number), fixture.now);
    }
    let reads = reads_in(1, &mut fixture, &mut ledger);
    assert!(!reads.is_empty() && reads.len() < 30, "{reads:?}");
    for word in &reads {
        let sale = SaleName::parse(word.strip_prefix("read ").unwrap()).unwrap();
        assert!(fixture.desk.reads_sale(&sale));
    }
    assert_eq!(fixture.board.directory().len(), 41);
}

#[test]
fn a_sync_reads_so_many_sales_and_the_next_one_goes_on() {
    for (held, bound) in [(0, READS_PER_SYNC_MAX), (1, READS_PER_SYNC_MAX / READS_PER_SWEEP)] {
        let count = 2 * bound + 10;
        let mut ledger = with_sales(count, &SaleState { held, ..state(10, 0) });
        let mut fixture = at_rest(&mut ledger);
        let mut all = Vec::new();
        for number in 0..count {
            ledger.feed.push(name(number));
        }
        for _ in 0..4 {
            let mut read = sync(&mut fixture, &mut ledger);
            read.retain(|word| word != "changes");
            assert!(read.len() <= READS_PER_SYNC_MAX, "{} at once", read.len());
            all.extend(read);
        }
        all.sort();
        all.dedup();
        assert!(all.len() >= count, "{} of {count}", all.len());
    }
}

#[test]
fn a_name_that_is_none_is_passed_over() {
    let mut ledger = with_sales(3, &state(10, 0));
    ledger.odd = vec!["no name".to_owned()];
    let fixture = at_rest(&mut ledger);
    assert_eq!(fixture.board.directory().len(), 4);
}

/// As a Cluster is, whose scripts cannot write in another slot.
#[test]
fn of_a_ledger_that_announces_nothing_each_sale_is_read_and_each_name_listed_at_each_sync() {
    let mut ledger = Played { is_mute: true, ..with_sales(5, &state(10, 0)) };
    let mut fixture = at_rest(&mut ledger);
    for total in [20, 30] {
        ledger.sales.get_mut(&name(3)).unwrap().terms.total = total;
        let asked = sync(&mut fixture, &mut ledger);
        let count = |word: &str| asked.iter().filter(|asked| asked.starts_with(word)).count();
        assert_eq!(
            (count("changes"), count("sales"), count("read "), asked.len()),
            (1, 1, 6, 8),
            "{asked:?}"
        );
        assert_eq!(fixture.board.directory().get("sale-3").unwrap().available(), total);
    }
    ledger.sales.insert(name(9), state(7, 0));
    sync(&mut fixture, &mut ledger);
    fixture.turn();
    assert!(fixture.board.directory().get("sale-9").is_some(), "it was opened elsewhere");
    // A part of its list is lost, and the sales are not.
    assert_eq!(ledger.named, []);
    ledger.unlisted.push(name(3));
    let asked = sync(&mut fixture, &mut ledger);
    assert!(asked.contains(&"recall".to_owned()), "{asked:?}");
    assert_eq!(ledger.named.iter().map(|(sale, _)| *sale).collect::<Vec<_>>(), [name(3)]);
}
