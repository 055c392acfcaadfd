//! The ledgers under test, each with a clock that the test turns.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use boxoffice::clock::WallTime;
use boxoffice::ledger::Ledger;
use boxoffice::ledger::redis::RedisLedger;
use boxoffice::ledger::sqlite::{SqliteLedger, SqliteOpenError};
use boxoffice::ledger::url::LedgerUrl;
use boxoffice::protocol::{Answer, Call, CallError, SaleOp, SaleResult};
use tempfile::TempDir;

use crate::model::{Model, TestClock};
use crate::support::redis_server::RedisServer;

/// Where tests start: in 2096, so that Redis' own time, which a sale's clock never falls behind, is always earlier.
pub const START: u64 = 4_000_000_000_000;

/// A ledger, and the ways in which a test may handle it.
pub trait Subject: Send {
    fn name(&self) -> &'static str;
    /// From now on it is `now` for all sales that there are.
    fn set_time(&mut self, now: u64);
    /// Something that must not be noticed: a restart, or scripts that are forgotten.
    fn disturb(&mut self);
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>>;

    /// One call that has an answer. A sale is at the test's time as soon as it is open.
    fn ask(&mut self, call: Call) -> Answer {
        loop {
            let answer = self.execute(std::slice::from_ref(&call)).remove(0);
            match answer.unwrap_or_else(|error| panic!("{}: {error}", self.name())) {
                Answer::Sale { result: SaleResult::Counting, .. } => {}
                answer => return answer,
            }
        }
    }
}

/// Runs a test on each ledger, and on the model, which must keep the promises too.
pub fn on_each_ledger(test: impl Fn(&mut dyn Subject)) {
    test(&mut ModelSubject::new());
    test(&mut SqliteSubject::new());
    test(&mut RedisSubject::new());
}

pub struct ModelSubject {
    clock: TestClock,
    ledger: Model,
}

impl ModelSubject {
    pub fn new() -> ModelSubject {
        let clock = TestClock::default();
        clock.set(WallTime(START));
        ModelSubject { ledger: Model::new(clock.clone()), clock }
    }
}

impl Subject for ModelSubject {
    fn name(&self) -> &'static str {
        "model"
    }

    fn set_time(&mut self, now: u64) {
        self.clock.set(WallTime(now));
    }

    fn disturb(&mut self) {}

    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        self.ledger.execute(calls)
    }
}

pub struct SqliteSubject {
    clock: TestClock,
    ledger: Option<SqliteLedger>,
    directory: TempDir,
}

impl SqliteSubject {
    pub fn new() -> SqliteSubject {
        let clock = TestClock::default();
        clock.set(WallTime(START));
        let directory = tempfile::tempdir().unwrap();
        let mut subject = SqliteSubject { clock, ledger: None, directory };
        subject.disturb();
        subject
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("boxoffice.db")
    }

    /// Lets go of the file.
    pub fn close(&mut self) {
        self.ledger = None;
    }
}

impl Subject for SqliteSubject {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn set_time(&mut self, now: u64) {
        self.clock.set(WallTime(now));
    }

    fn disturb(&mut self) {
        self.ledger = None;
        let started = Instant::now();
        self.ledger = loop {
            let clock = self.clock.clone();
            match SqliteLedger::open_with_clock(self.path(), move || clock.now()) {
                Ok(ledger) => break Some(ledger),
                // A server that another test starts just now has our lock until it is its own program.
                Err(SqliteOpenError::Locked { .. }) if started.elapsed() < Duration::from_secs(60) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        };
    }

    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        self.ledger.as_mut().unwrap().execute(calls)
    }
}

pub struct RedisSubject {
    pub server: RedisServer,
    pub ledger: RedisLedger,
    now: u64,
}

impl RedisSubject {
    pub fn new() -> RedisSubject {
        RedisSubject::with_options(&[])
    }

    pub fn with_options(options: &[&str]) -> RedisSubject {
        let server = RedisServer::on_socket(options);
        let ledger = connect(&server);
        RedisSubject { server, ledger, now: START }
    }

    /// Forgets all sales.
    pub fn empty(&mut self) {
        redis::cmd("FLUSHALL").exec(&mut self.server.connection()).unwrap();
    }
}

/// A ledger on this server.
pub fn connect(server: &RedisServer) -> RedisLedger {
    match server.url().parse().unwrap() {
        LedgerUrl::Redis(url) => RedisLedger::connect(&url).unwrap(),
        LedgerUrl::Sqlite(_) => unreachable!(),
    }
}

impl Subject for RedisSubject {
    fn name(&self) -> &'static str {
        "Redis"
    }

    // A sale's clock never goes back, so that moving it ahead of the server's own is all it takes to own it.
    fn set_time(&mut self, now: u64) {
        self.now = now;
        let mut connection = self.server.connection();
        let names: Vec<String> = redis::cmd("SMEMBERS").arg("bx:sales").query(&mut connection).unwrap();
        for name in names {
            let key = format!("bx:{{{name}}}:stock");
            if redis::cmd("EXISTS").arg(&key).query(&mut connection).unwrap() {
                redis::cmd("HSET").arg(&key).arg("clock").arg(now).exec(&mut connection).unwrap();
            }
        }
    }

    fn disturb(&mut self) {
        redis::cmd("SCRIPT").arg("FLUSH").exec(&mut self.server.connection()).unwrap();
    }

    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let answers = self.ledger.execute(calls);
        for (call, answer) in calls.iter().zip(&answers) {
            if let (
                Call::Sale { sale, op: SaleOp::Open { .. } },
                Ok(Answer::Sale { result: SaleResult::Created, .. }),
            ) = (call, answer)
            {
                let mut opened = redis::cmd("HSET");
                opened.arg(format!("bx:{{{sale}}}:stock"));
                for field in ["opened", "lineage", "announced"] {
                    opened.arg(field).arg(self.now);
                }
                opened.exec(&mut self.server.connection()).unwrap();
            }
        }
        if calls.iter().any(|call| matches!(call, Call::Sale { op: SaleOp::Open { .. }, .. })) {
            self.set_time(self.now);
        }
        answers
    }
}
