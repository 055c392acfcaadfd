//! What can happen to a SQLite file.

use std::path::Path;
use std::time::{Duration, Instant};

use boxoffice::ledger::Ledger;
use boxoffice::ledger::sqlite::{SqliteLedger, SqliteOpenError};
use boxoffice::protocol::*;

use crate::subjects::{SqliteSubject, Subject};
use crate::words::*;

fn one(ledger: &mut SqliteLedger, call: Call) -> Result<Answer, CallError> {
    ledger.execute(&[call]).remove(0)
}

/// Opens a file that was open in this process until now. A server that another test starts this very moment has our lock
/// until it is its own program.
pub fn reopen(path: &Path) -> SqliteLedger {
    let started = Instant::now();
    loop {
        match SqliteLedger::open(path) {
            Ok(ledger) => return ledger,
            Err(SqliteOpenError::Locked { .. }) if started.elapsed() < Duration::from_secs(60) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_restart_resumes_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("boxoffice.db");
    let mut first = SqliteLedger::open(&path).unwrap();
    one(&mut first, open(2)).unwrap();
    one(&mut first, reserve_ids(&["a"])).unwrap();
    drop(first);
    let mut second = reopen(&path);
    assert!(matches!(
        reservations(one(&mut second, reserve_ids(&["a"])).unwrap())[..],
        [Reservation::Known(_)]
    ));
    let answers = reservations(one(&mut second, reserve_ids(&["b", "c"])).unwrap());
    assert_eq!(answers, [GRANTED, Reservation::SoldOut]);
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let mut writer = SqliteSubject::new();
    writer.ask(open(2));
    writer.ask(reserve_ids(&["a"]));
    let error = SqliteLedger::open(writer.path()).unwrap_err();
    assert!(matches!(error, SqliteOpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another boxoffice"), "{error}");

    let mut reader = SqliteLedger::open_read_only(writer.path()).unwrap();
    assert_eq!(state(one(&mut reader, snapshot()).unwrap()).sold, 1);
    let refusal = one(&mut reader, reserve_ids(&["b"])).unwrap_err();
    assert!(matches!(&refusal, CallError::Refused(text) if text.contains("reading only")), "{refusal}");
    writer.ask(reserve_ids(&["b"]));
    assert_eq!(
        state(one(&mut reader, snapshot()).unwrap()).sold,
        2,
        "a reader sees what is served meanwhile"
    );

    let path = writer.path();
    let plain = rusqlite::Connection::open(&path).unwrap();
    let status: String =
        plain.query_row("SELECT status FROM bookings WHERE id = 'a'", [], |row| row.get(0)).unwrap();
    assert_eq!(status, "confirmed", "the file opens in sqlite3 and reads as words");
}

fn foreign(path: &Path) -> String {
    let before = std::fs::read(path).unwrap();
    let errors = [SqliteLedger::open(path).unwrap_err(), SqliteLedger::open_read_only(path).unwrap_err()];
    assert_eq!(std::fs::read(path).unwrap(), before, "it must be left as it is");
    for error in &errors {
        assert!(matches!(error, SqliteOpenError::Foreign { .. }), "{error}");
    }
    errors[0].to_string()
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "Not a database, but somebody's notes.\n".repeat(200)).unwrap();
    assert!(foreign(&path).contains("not a SQLite database"));
}

#[test]
fn the_database_of_another_program_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("photos.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE photos (name TEXT)").unwrap();
    assert!(foreign(&path).contains("another program"));
}

#[test]
fn a_newer_schema_is_refused() {
    let mut writer = SqliteSubject::new();
    writer.close();
    rusqlite::Connection::open(writer.path()).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = loop {
        match SqliteLedger::open(writer.path()).unwrap_err() {
            // As in `reopen`.
            SqliteOpenError::Locked { .. } => std::thread::sleep(Duration::from_millis(1)),
            error => break error,
        }
    };
    assert!(matches!(error, SqliteOpenError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer boxoffice"), "{error}");
}

#[test]
fn a_missing_file_is_made_for_serving_and_not_for_reading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("boxoffice.db");
    let error = SqliteLedger::open_read_only(&path).unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
    assert!(!path.exists());
    let nowhere = directory.path().join("no/such/directory/boxoffice.db");
    assert!(matches!(SqliteLedger::open(nowhere).unwrap_err(), SqliteOpenError::Unusable { .. }));
}

#[test]
fn a_call_that_cannot_be_carried_out_does_not_take_its_batch_with_it() {
    let mut ledger = SqliteSubject::new();
    ledger.ask(open(5));
    ledger.ask(reserve_ids(&["a", "b"]));
    let plain = rusqlite::Connection::open(ledger.path()).unwrap();
    plain.execute("UPDATE bookings SET status = 'nonsense' WHERE id = 'a'", []).unwrap();
    let answers = ledger.execute(&[reserve_ids(&["c"]), confirm(&["a"]), reserve_ids(&["d"])]);
    assert!(matches!(answers[..], [Ok(_), Err(CallError::Unsound(_)), Ok(_)]), "{answers:?}");
    assert_eq!(state(ledger.ask(snapshot())).sold, 4);
}
