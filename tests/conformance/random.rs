//! Random calls at random times: every ledger answers as the model does, and its books add up after each step.

use std::cell::RefCell;
use std::collections::BTreeMap;

use boxoffice::audit::Kind;
use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::ledger::Ledger;
use boxoffice::protocol::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

use crate::audits::audit_of;
use crate::subjects::{ModelSubject, RedisSubject, START, SqliteSubject, Subject};
use crate::words::log_entries;

/// Cases of a run where `PROPTEST_CASES` does not say: some seconds' worth.
const CASES: u32 = 48;

const SALES: [&str; 2] = ["ticket", "G123-2026.02"];

/// Few, so that they meet; two are UUIDs, which Redis stores in another form.
const IDS: [&str; 7] = [
    "b-1",
    "b-2",
    "b-3",
    "b_4.x",
    "0123456789abcdef",
    "0198c0de-0a20-7000-8000-00000000000a",
    "0198c0de-0a20-7000-8000-20202020200a",
];

/// Redis counts the first and the last in one bucket.
const BUYERS: [&str; 3] = ["u-81", "1@2", "mm0"];

#[derive(Clone, Debug)]
enum Step {
    Open(SaleName, SaleTerms),
    /// Calls that travel together.
    Batch(Vec<Call>),
    /// That many milliseconds pass.
    Wait(u64),
    Disturb,
}

fn sale() -> impl Strategy<Value = SaleName> {
    // One is asked much more than the other, which is often not open.
    prop_oneof![4 => Just(SALES[0]), 1 => Just(SALES[1])].prop_map(|name| SaleName::parse(name).unwrap())
}

fn id() -> impl Strategy<Value = BookingId> {
    prop::sample::select(&IDS[..]).prop_map(|text| BookingId::parse(text).unwrap())
}

fn buyer() -> impl Strategy<Value = Option<BuyerId>> {
    prop::option::of(prop::sample::select(&BUYERS[..]).prop_map(|text| BuyerId::parse(text).unwrap()))
}

fn claim() -> impl Strategy<Value = Claim> {
    // Mostly the same quantity, so that many claims are repeats.
    let quantity = prop_oneof![3 => Just(1u64), 1 => 2u64..=4];
    (id(), quantity, buyer()).prop_map(|(id, quantity, buyer)| Claim {
        id,
        quantity: Quantity::new(quantity).unwrap(),
        buyer,
    })
}

fn total() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..=8, 1 => 0u64..=40]
}

fn hold() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 3 => (1u64..=40).prop_map(Some)]
}

fn longest_hold() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 2 => (1u64..=150).prop_map(Some)]
}

fn limit() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![1 => Just(None), 1 => (1u32..=5).prop_map(Some)]
}

fn demand() -> impl Strategy<Value = bool> {
    prop_oneof![6 => Just(false), 1 => Just(true)]
}

fn time() -> impl Strategy<Value = Option<WallTime>> {
    prop_oneof![4 => Just(None), 1 => (0u64..=300).prop_map(|ms| Some(WallTime(START + ms)))]
}

fn terms() -> impl Strategy<Value = SaleTerms> {
    (total(), hold(), longest_hold(), limit(), time(), time(), demand())
        .prop_map(|(total, hold_ms, hold_max_ms, per_buyer, starts_at, ends_at, buyer_required)| SaleTerms {
            total,
            hold_ms,
            hold_max_ms,
            per_buyer,
            starts_at,
            ends_at,
            buyer_required,
        })
        .prop_filter("terms are checked before they reach a ledger", |terms| terms.check().is_ok())
}

fn change() -> impl Strategy<Value = SaleChange> {
    let status = prop_oneof![3 => Just(SaleStatus::Open), 1 => Just(SaleStatus::Paused), 1 => Just(SaleStatus::Closed)];
    let maybe = |weight| prop::option::weighted(weight, Just(()));
    (
        (total(), hold(), limit(), time(), time(), status, demand(), longest_hold()),
        (maybe(0.5), maybe(0.3), maybe(0.3), maybe(0.2), maybe(0.2), maybe(0.4), maybe(0.2), maybe(0.2)),
        prop::option::weighted(0.3, 1_u64..6),
    )
        .prop_map(
            |(
                (total, hold_ms, per_buyer, starts_at, ends_at, status, buyer_required, longest),
                which,
                if_version,
            )| {
                SaleChange {
                    total: which.0.map(|()| total),
                    hold_ms: which.1.map(|()| hold_ms),
                    hold_max_ms: which.7.map(|()| longest),
                    per_buyer: which.2.map(|()| per_buyer),
                    starts_at: which.3.map(|()| starts_at),
                    ends_at: which.4.map(|()| ends_at),
                    status: which.5.map(|()| status),
                    buyer_required: which.6.map(|()| buyer_required),
                    if_version,
                }
            },
        )
}

fn ids() -> impl Strategy<Value = Vec<BookingId>> {
    prop::collection::vec(id(), 0..4)
}

/// Which of the things that a caller may have seen, in place of what it has seen: [`resolve`] makes that of it.
fn seen() -> impl Strategy<Value = Watermark> {
    prop_oneof![20 => Just(0_u64), 20 => Just(1), 1 => 2_u64..6]
        .prop_map(|what| Watermark { opened: what, ..Watermark::default() })
}

/// Puts what a caller may have seen in place of its number.
fn resolve(calls: &[Call], model: &mut dyn Subject) -> Vec<Call> {
    let mut calls = calls.to_vec();
    for call in &mut calls {
        if let Call::Bookings { sale, seen, .. } = call
            && let Answer::Sale { state, result: SaleResult::Done } = model.ask(SaleOp::Snapshot.on(*sale))
        {
            let Watermark { opened, lineage, sequence } = Watermark::of(&state);
            *seen = match seen.opened {
                0 => Watermark::default(),
                1 => Watermark::of(&state),
                2 => Watermark { opened, lineage, sequence: sequence + 3 },
                3 => Watermark { opened, lineage: lineage - 1, sequence: sequence + 3 },
                4 => Watermark { opened, lineage: lineage + 1, sequence: 0 },
                _ => Watermark { opened: opened - 1, lineage, sequence },
            };
        }
    }
    calls
}

/// A booking as a client may have been told of it.
fn told() -> impl Strategy<Value = Booking> {
    let status = prop_oneof![
        (0u64..=400).prop_map(|ms| BookingStatus::Held { expires_at: WallTime(START + ms) }),
        Just(BookingStatus::Confirmed),
        Just(BookingStatus::Cancelled),
    ];
    let released = prop_oneof![3 => Just(0u32), 1 => 1u32..=3];
    let reassigned = prop_oneof![3 => Just(0u32), 1 => 1u32..=3];
    (claim(), status, released, reassigned).prop_map(|(claim, status, released, reassigned)| {
        // Some of what it was made with.
        let released = released.min(claim.quantity.get() - 1);
        let quantity = Quantity::new(u64::from(claim.quantity.get() - released)).unwrap();
        Booking { id: claim.id, status, quantity, released, buyer: claim.buyer, reassigned }
    })
}

fn cancel() -> impl Strategy<Value = Cancel> {
    (id(), any::<bool>()).prop_map(|(id, tombstone)| Cancel { id, tombstone })
}

fn amendment() -> impl Strategy<Value = Amendment> {
    prop_oneof![
        (1u64..=150).prop_map(|ms| Amendment::Extend { ms }),
        (1u64..=4).prop_map(|remaining| Amendment::Release { remaining: Quantity::new(remaining).unwrap() }),
        Just(Amendment::HoldAgain),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        12 => (sale(), seen(), prop::collection::vec(claim(), 0..6)).prop_map(|(sale, seen, claims)| Call::Bookings { sale, seen, op: BookingOp::Reserve(claims) }),
        4 => (sale(), seen(), ids()).prop_map(|(sale, seen, ids)| Call::Bookings { sale, seen, op: BookingOp::Confirm(ids) }),
        4 => (sale(), seen(), prop::collection::vec(cancel(), 0..4))
            .prop_map(|(sale, seen, ids)| Call::Bookings { sale, seen, op: BookingOp::Cancel(ids) }),
        6 => (sale(), seen(), prop::collection::vec((id(), amendment()), 0..4))
            .prop_map(|(sale, seen, amendments)| Call::Bookings { sale, seen, op: BookingOp::Amend(amendments) }),
        3 => (sale(), seen(), id(), buyer()).prop_map(|(sale, seen, id, buyer)| Call::Bookings { sale, seen, op: BookingOp::Assign { id, buyer: buyer.map(Box::new) } }),
        3 => (sale(), seen(), prop::collection::vec(told(), 0..5))
            .prop_map(|(sale, seen, bookings)| Call::Bookings { sale, seen, op: BookingOp::Restore(bookings) }),
        3 => (sale(), ids()).prop_map(|(sale, ids)| Call::Sale { sale, op: SaleOp::LookUp(ids) }),
        3 => (sale(), change()).prop_map(|(sale, change)| Call::Sale { sale, op: SaleOp::Alter(change) }),
        2 => sale().prop_map(|sale| Call::Sale { sale, op: SaleOp::Expire }),
        1 => sale().prop_map(|sale| Call::Sale { sale, op: SaleOp::Snapshot }),
        1 => Just(Call::Ledger(LedgerOp::Sales)),
        1 => prop::option::of(0u64..20).prop_map(|after| Call::Ledger(LedgerOp::Changes { after })),
        1 => sale().prop_map(|sale| Call::Sale { sale, op: SaleOp::Trim }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (sale(), terms()).prop_map(|(sale, terms)| Step::Open(sale, terms)),
        16 => prop::collection::vec(call(), 1..4).prop_map(Step::Batch),
        6 => (1u64..=40).prop_map(Step::Wait),
        1 => (1_000u64..=4_000).prop_map(Step::Wait),
        1 => Just(Step::Disturb),
    ]
}

#[test]
fn every_ledger_answers_as_the_model_does() {
    // One server for all cases: to start one each would take longer than all the rest.
    let redis = RefCell::new(RedisSubject::new());
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = Config {
        cases,
        source_file: Some(file!()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..Config::default()
    };
    let steps = (sale(), terms(), prop::collection::vec(step(), 1..40));
    let result = TestRunner::new(config).run(&steps, |(name, terms, steps)| {
        let mut redis = redis.borrow_mut();
        redis.empty();
        redis.set_time(START);
        let mut model = ModelSubject::new();
        let mut sqlite = SqliteSubject::new();
        let mut now = START;
        for step in std::iter::once(Step::Open(name, terms)).chain(steps) {
            let mut ledgers: [&mut dyn Subject; 3] = [&mut model, &mut sqlite, &mut *redis];
            take(&step, &mut now, &mut ledgers)?;
            for sale in SALES {
                books_add_up(SaleName::parse(sale).unwrap(), &mut ledgers)?;
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Takes one step on all ledgers; the first is the model.
fn take(step: &Step, now: &mut u64, ledgers: &mut [&mut dyn Subject; 3]) -> Result<(), TestCaseError> {
    match step {
        Step::Wait(ms) => {
            *now += ms;
            ledgers.iter_mut().for_each(|ledger| ledger.set_time(*now));
            Ok(())
        }
        Step::Disturb => {
            ledgers.iter_mut().for_each(|ledger| ledger.disturb());
            Ok(())
        }
        Step::Open(sale, terms) => {
            agree(&[SaleOp::Open { terms: terms.clone(), by: Opener::Start }.on(*sale)], ledgers)
        }
        Step::Batch(calls) => {
            let calls = resolve(calls, &mut *ledgers[0]);
            agree(&calls, ledgers)
        }
    }
}

fn agree(calls: &[Call], ledgers: &mut [&mut dyn Subject; 3]) -> Result<(), TestCaseError> {
    let [model, others @ ..] = ledgers;
    let expected: Vec<_> = model.execute(calls).into_iter().map(normal).collect();
    for ledger in others {
        let answers: Vec<_> = ledger.execute(calls).into_iter().map(normal).collect();
        prop_assert_eq!(&answers, &expected, "{} on {:?}", ledger.name(), calls);
    }
    Ok(())
}

/// Without what the contract leaves open: the order of names and pages, and of holds that expire at one time.
fn normal(answer: Result<Answer, CallError>) -> Result<Answer, CallError> {
    answer.map(|mut answer| {
        if let Some(state) = answer.state_mut() {
            // When each writes down what is over is its own business; what is over is compared.
            (state.due_at, state.lapsed_until, state.announced_at) = (None, WallTime(0), WallTime(0));
        }
        normal_order(answer)
    })
}

fn normal_order(answer: Answer) -> Answer {
    match answer {
        Answer::Ledger(LedgerResult::Sales { mut names, odd }) => {
            names.sort();
            Answer::Ledger(LedgerResult::Sales { names, odd })
        }
        // Redis' own, which is not the test's.
        Answer::Ledger(LedgerResult::Changes { names, at, more, reset, ledger, .. }) => {
            Answer::Ledger(LedgerResult::Changes { names, at, more, reset, ledger, now: WallTime(0) })
        }
        Answer::Sale { state, result: SaleResult::Page { mut bookings, next } } => {
            bookings.sort_by_key(|booking| booking.id);
            bookings.dedup();
            Answer::Sale { state, result: SaleResult::Page { bookings, next } }
        }
        Answer::Sale { state, result: SaleResult::Log(entries) } => {
            Answer::Sale { state, result: SaleResult::Log(normal_log(entries)) }
        }
        // The sale's clock is not the test's before it is open.
        Answer::Sale { state, result: SaleResult::Created } => Answer::Sale {
            state: SaleState { now: WallTime(0), opened: 0, lineage: 0, announced_at: WallTime(0), ..state },
            result: SaleResult::Created,
        },
        other => other,
    }
}

fn normal_log(mut entries: Vec<LogEntry>) -> Vec<LogEntry> {
    let expired = |entry: &LogEntry| entry.booking.status == BookingStatus::Expired;
    for run in entries.chunk_by_mut(|one, other| one.at == other.at && expired(one) && expired(other)) {
        let first = run[0].sequence;
        run.sort_by_key(|entry| entry.booking.id);
        for (entry, sequence) in run.iter_mut().zip(first..) {
            entry.sequence = sequence;
        }
    }
    entries
}

/// A subject as an audit asks it.
pub struct Audited<'a>(pub &'a mut dyn Subject);

impl Ledger for Audited<'_> {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        self.0.execute(calls)
    }
}

/// Reads all there is of a sale: the same on every ledger, and state, bookings and log tell one story.
fn books_add_up(sale: SaleName, ledgers: &mut [&mut dyn Subject; 3]) -> Result<(), TestCaseError> {
    let calls = [
        Call::Sale { sale, op: SaleOp::Snapshot },
        Call::Sale { sale, op: SaleOp::Log { after: 0 } },
        Call::Sale { sale, op: SaleOp::Page { cursor: String::new() } },
        Call::Ledger(LedgerOp::Sales),
        Call::Ledger(LedgerOp::Changes { after: Some(0) }),
    ];
    agree(&calls, ledgers)?;
    for ledger in ledgers {
        let mut answers = ledger.execute(&calls).into_iter();
        let mut next = || answers.next().unwrap().unwrap();
        let (state, log, page) = match (next(), next(), next()) {
            (
                Answer::Sale { state, result: SaleResult::Done },
                Answer::Sale { result: SaleResult::Log(log), .. },
                Answer::Sale { result: SaleResult::Page { bookings, next: None }, .. },
            ) => (state, log, bookings),
            (Answer::Missing, Answer::Missing, Answer::Missing) => continue,
            other => return Err(TestCaseError::fail(format!("{}: {other:?}", ledger.name()))),
        };
        prop_assert!(state.held + state.sold <= state.terms.total, "oversold: {:?}", state);
        prop_assert_eq!(state.available() + state.held + state.sold, state.terms.total);
        prop_assert_eq!(log.len() as u64, state.sequence);
        let after = log.len() / 2;
        let later = log_entries(ledger.ask(SaleOp::Log { after: after as u64 }.on(sale)));
        prop_assert_eq!(normal_log(later), normal_log(log[after..].to_vec()));
        let mut latest: BTreeMap<BookingId, Booking> = BTreeMap::new();
        let mut at = WallTime(0);
        for (entry, sequence) in log.into_iter().zip(1..) {
            prop_assert_eq!(entry.sequence, sequence, "a gap in the log");
            prop_assert!(entry.at >= at, "the log's time went back");
            at = entry.at;
            latest.insert(entry.booking.id, entry.booking);
        }
        let tickets = |held: bool| -> u64 {
            let of_status = latest.values().filter(|booking| match booking.status {
                BookingStatus::Held { expires_at } => held && expires_at > state.lapsed_until,
                BookingStatus::Confirmed => !held,
                _ => false,
            });
            of_status.map(|booking| u64::from(booking.quantity.get())).sum()
        };
        prop_assert_eq!(
            (tickets(true), tickets(false)),
            (state.held, state.sold),
            "the log tells other counts"
        );
        let first_end = latest.values().filter_map(|booking| match booking.status {
            BookingStatus::Held { expires_at } => Some(expires_at),
            _ => None,
        });
        if let Some(first_end) = first_end.min().filter(|_| ledger.name() != "model") {
            prop_assert!(state.due_at.is_some_and(|due| due <= first_end), "nobody looks at {:?}", first_end);
        }
        for booking in latest.values_mut() {
            if matches!(booking.status, BookingStatus::Held { expires_at } if expires_at <= state.now) {
                booking.status = BookingStatus::Expired;
            }
        }
        if ledger.name() != "model" {
            let findings = audit_of(&mut Audited(&mut **ledger), sale);
            // Redis' own time is not the test's.
            let differs = findings
                .listed
                .iter()
                .find(|difference| !matches!(difference.kind, Kind::Clock | Kind::Lost));
            prop_assert_eq!(differs, None, "an audit of {} finds a difference", ledger.name());
        }
        // The log tells of each release by itself.
        let page: BTreeMap<BookingId, Booking> = page
            .into_iter()
            .map(|booking| (booking.id, Booking { released: 0, reassigned: 0, ..booking }))
            .collect();
        prop_assert_eq!(page, latest, "the bookings are not those of the log");
    }
    Ok(())
}
