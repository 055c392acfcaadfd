//! A SQLite ledger on a file of its own, for unit tests of what reads sales and changes them: `audit` and the commands.
//!
//! It adds what a test needs and has no rules: a clock that only the test moves, what others do between two calls, and rows that
//! no ledger would write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tempfile::TempDir;

use super::Ledger;
use super::sqlite::SqliteLedger;
use crate::booking::{BookingId, BuyerId, Quantity, SaleName, SaleState, SaleTerms};
use crate::clock::WallTime;
use crate::limits::ENTRIES_PER_CALL_MAX;
use crate::protocol::{
    Answer, BookingOp, Call, CallError, Cancel, Cancellation, Claim, Confirmation, Opener, Reservation,
    SaleOp, SaleResult, Watermark,
};

/// When the clock stands still at first, in milliseconds since 1970: early, so that times in reports are short.
const START: u64 = 1;

/// What others do, told of each call that was answered.
type Meanwhile = Box<dyn FnMut(&mut TestLedger, &Call)>;

/// A real ledger, in the hands of a test. Its own methods are what others do: only [`Ledger::execute`] is the caller under test.
pub(crate) struct TestLedger {
    ledger: SqliteLedger,
    clock: Arc<AtomicU64>,
    meanwhile: Option<Meanwhile>,
    directory: TempDir,
}

pub(crate) fn name(text: &str) -> SaleName {
    SaleName::parse(text).unwrap()
}

pub(crate) fn id(text: &str) -> BookingId {
    BookingId::parse(text).unwrap()
}

pub(crate) fn buyer(text: &str) -> BuyerId {
    BuyerId::parse(text).unwrap()
}

pub(crate) fn claim(booking: &str, quantity: u64, its_buyer: Option<&str>) -> Claim {
    Claim { id: id(booking), quantity: Quantity::new(quantity).unwrap(), buyer: its_buyer.map(buyer) }
}

impl TestLedger {
    /// One without sales.
    pub(crate) fn new() -> TestLedger {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let told = Arc::clone(&clock);
        let ledger = SqliteLedger::open_with_clock(directory.path().join("boxoffice.db"), move || {
            WallTime(told.load(Ordering::Relaxed))
        });
        TestLedger { ledger: ledger.unwrap(), clock, meanwhile: None, directory }
    }

    /// One with a sale of that name.
    pub(crate) fn with(sale: &str, terms: SaleTerms) -> TestLedger {
        let mut ledger = TestLedger::new();
        ledger.open(sale, terms);
        ledger
    }

    /// From now on it is `now`, in milliseconds since 1970.
    pub(crate) fn set_time(&mut self, now: u64) {
        // Relaxed: the ledger reads it on this thread.
        self.clock.store(now, Ordering::Relaxed);
    }

    /// Has `act` called after each call that was answered, until it is given another to call.
    pub(crate) fn meanwhile(&mut self, act: impl FnMut(&mut TestLedger, &Call) + 'static) {
        self.meanwhile = Some(Box::new(act));
    }

    /// Calls by somebody else, in one transaction; each has an answer.
    pub(crate) fn ask_all(&mut self, calls: &[Call]) -> Vec<Answer> {
        self.ledger.execute(calls).into_iter().map(Result::unwrap).collect()
    }

    /// As [`ask_all`](TestLedger::ask_all), of one call.
    pub(crate) fn ask(&mut self, call: Call) -> Answer {
        self.ask_all(&[call]).remove(0)
    }

    pub(crate) fn open(&mut self, sale: &str, terms: SaleTerms) {
        let answer = self.ask(SaleOp::Open { terms, by: Opener::Operator }.on(name(sale)));
        assert!(matches!(answer, Answer::Sale { result: SaleResult::Created, .. }), "{answer:?}");
    }

    /// The sale as it is stored.
    pub(crate) fn state(&mut self, sale: &str) -> SaleState {
        match self.ask(SaleOp::Snapshot.on(name(sale))) {
            Answer::Sale { state, result: SaleResult::Done } => state,
            other => panic!("{other:?}"),
        }
    }

    /// Books; each claim is granted.
    pub(crate) fn book(&mut self, sale: &str, claims: &[Claim]) {
        let calls: Vec<Call> = claims
            .chunks(ENTRIES_PER_CALL_MAX)
            .map(|claims| BookingOp::Reserve(claims.to_vec()).on(name(sale), Watermark::default()))
            .collect();
        for answer in self.ask_all(&calls) {
            let Answer::Sale { result: SaleResult::Reserved(reservations), .. } = answer else {
                panic!("{answer:?}")
            };
            let is_granted = |it: &Reservation| matches!(it, Reservation::Granted { .. });
            assert!(reservations.iter().all(is_granted), "{reservations:?}");
        }
    }

    pub(crate) fn confirm(&mut self, sale: &str, booking: &str) {
        let answer = self.ask(BookingOp::Confirm(vec![id(booking)]).on(name(sale), Watermark::default()));
        let Answer::Sale { result: SaleResult::Confirmed(confirmed), .. } = answer else {
            panic!("{answer:?}")
        };
        assert!(matches!(confirmed[..], [Confirmation::Confirmed(_)]), "{confirmed:?}");
    }

    pub(crate) fn cancel(&mut self, sale: &str, booking: &str) {
        let cancel = Cancel { id: id(booking), tombstone: false };
        let answer = self.ask(BookingOp::Cancel(vec![cancel]).on(name(sale), Watermark::default()));
        let Answer::Sale { result: SaleResult::Cancelled(cancelled), .. } = answer else {
            panic!("{answer:?}")
        };
        assert!(matches!(cancelled[..], [Cancellation::Cancelled(_)]), "{cancelled:?}");
    }

    /// Changes what is stored, past the ledger and past the checks of its tables. Beside the open ledger, which would take a
    /// file that breaks those checks for damaged as it opens it; SQLite keeps the change in the write-ahead log meanwhile.
    pub(crate) fn plant(&mut self, statements: &str) {
        let path = self.directory.path().join("boxoffice.db");
        let plain = Connection::open(path).unwrap();
        let settings = "PRAGMA ignore_check_constraints = ON; PRAGMA synchronous = OFF";
        plain.execute_batch(&format!("{settings}; BEGIN; {statements}; COMMIT")).unwrap();
    }
}

impl Ledger for TestLedger {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let answers = self.ledger.execute(calls);
        if let Some(mut act) = self.meanwhile.take() {
            calls.iter().for_each(|call| act(self, call));
            self.meanwhile = Some(act);
        }
        answers
    }
}
