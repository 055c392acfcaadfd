//! The file's tables, and how to recognise a file of ours.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::{SqliteOpenError, unusable};

/// `user_version` of a file: rises with each change of the tables.
const SCHEMA: u32 = 5;

/// `application_id` of a file: "bxof".
const APPLICATION: i32 = 0x6278_6f66;

/// Times are milliseconds since 1970. A table is stored in the order of its key if rows are asked for by it.
const TABLES: &str = "
-- held: of holds that end after lapsed_until_ms. due_at_ms: no hold ends before; 0 if there is none.
-- counted: '' while what buyers have is not counted, 'all' once it is, and between '>' and the id counted last.
CREATE TABLE sales (
    name         TEXT NOT NULL PRIMARY KEY,
    total        INTEGER NOT NULL,
    held         INTEGER NOT NULL,
    sold         INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    sequence     INTEGER NOT NULL,
    status       TEXT NOT NULL,
    hold_ms      INTEGER,
    per_buyer    INTEGER,
    starts_at_ms INTEGER,
    ends_at_ms   INTEGER,
    clock_ms     INTEGER NOT NULL,
    opened_ms       INTEGER NOT NULL,
    lineage         INTEGER NOT NULL,
    frozen_since_ms INTEGER NOT NULL DEFAULT 0,
    frozen_until_ms INTEGER NOT NULL DEFAULT 0,
    due_at_ms       INTEGER NOT NULL DEFAULT 0,
    lapsed_until_ms INTEGER NOT NULL DEFAULT 0,
    announced_at_ms INTEGER NOT NULL DEFAULT 0,
    by_operator     INTEGER NOT NULL DEFAULT 0,
    buyer_required  INTEGER NOT NULL DEFAULT 0,
    counted         TEXT NOT NULL DEFAULT '',
    hold_max_ms     INTEGER,
    CHECK (held >= 0 AND sold >= 0 AND held + sold <= total)
) WITHOUT ROWID;

-- status: held, confirmed, cancelled, expired, or tombstone (an id that may never be granted).
-- counted: whether its tickets are in `buyers`. sequence: of its latest change in the log, 0 for a tombstone.
-- released: tickets that it gave back since it was made. hold_ms: how long it is held in all, where the sale has a longest hold.
-- reassigned: how often an operator gave it to another buyer.
CREATE TABLE bookings (
    sale          TEXT NOT NULL,
    id            TEXT NOT NULL,
    status        TEXT NOT NULL,
    quantity      INTEGER NOT NULL,
    buyer         TEXT,
    counted       INTEGER NOT NULL,
    expires_at_ms INTEGER,
    sequence      INTEGER NOT NULL,
    released      INTEGER NOT NULL DEFAULT 0,
    hold_ms       INTEGER,
    reassigned    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sale, id)
) WITHOUT ROWID;

-- tickets: confirmed. holds: each hold's deadline and tickets, as src/ledger/held.rs has them; those that are over go when
-- the row is written.
CREATE TABLE buyers (
    sale    TEXT NOT NULL,
    buyer   TEXT NOT NULL,
    tickets INTEGER NOT NULL,
    holds   TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (sale, buyer)
) WITHOUT ROWID;

CREATE TABLE log (
    sale          TEXT NOT NULL,
    sequence      INTEGER NOT NULL,
    at_ms         INTEGER NOT NULL,
    booking       TEXT NOT NULL,
    status        TEXT NOT NULL,
    quantity      INTEGER NOT NULL,
    buyer         TEXT,
    expires_at_ms INTEGER,
    PRIMARY KEY (sale, sequence)
) WITHOUT ROWID;

-- The sales that were announced as changed, each with the number of its latest announcement.
CREATE TABLE changes (
    number INTEGER NOT NULL PRIMARY KEY,
    sale   TEXT NOT NULL UNIQUE
);

-- When the file was found to have forgotten something: the sequence that a host had seen, and the one that was left.
CREATE TABLE forgotten (
    sale   TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    seen   INTEGER NOT NULL,
    remained INTEGER NOT NULL,
    PRIMARY KEY (sale, at_ms)
) WITHOUT ROWID;

-- What was acknowledged and forgotten and could not be put back, as it was last told. cause: sold-out or id-taken.
CREATE TABLE lost (
    sale          TEXT NOT NULL,
    id            TEXT NOT NULL,
    status        TEXT NOT NULL,
    quantity      INTEGER NOT NULL,
    buyer         TEXT,
    expires_at_ms INTEGER,
    cause         TEXT NOT NULL,
    released      INTEGER NOT NULL DEFAULT 0,
    reassigned    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sale, id)
) WITHOUT ROWID;
";

/// The index by which holds expire. It has their tickets, so that those of a hundred thousand holds are added up from it
/// alone.
const HOLDS: &str =
    "CREATE INDEX holds ON bookings (sale, expires_at_ms, sequence, quantity) WHERE status = 'held';";

/// What a file is.
#[derive(PartialEq, Eq)]
pub(super) enum FileKind {
    /// A ledger of a schema that this version knows.
    Ours,
    /// An empty database.
    Nothing,
}

/// Finds out what the file is; changes nothing in it.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<FileKind, SqliteOpenError> {
    let foreign = |what| SqliteOpenError::Foreign { path: path.to_owned(), what };
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => foreign("it is not a SQLite database"),
        Some(ErrorCode::DatabaseCorrupt) => {
            SqliteOpenError::Damaged { path: path.to_owned(), what: error.to_string() }
        }
        _ => unusable(path, error),
    };
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let (found, application) = (pragma("user_version")?, pragma("application_id")?);
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if found == 0 && application == 0 && objects == 0 {
        return Ok(FileKind::Nothing);
    }
    if application != i64::from(APPLICATION) {
        return Err(foreign("it is the SQLite database of another program"));
    }
    match u32::try_from(found) {
        Ok(SCHEMA) => Ok(FileKind::Ours),
        Ok(found) if found > SCHEMA => {
            Err(SqliteOpenError::Newer { path: path.to_owned(), found, known: SCHEMA })
        }
        _ => Err(foreign("no release has its schema")),
    }
}

/// Creates the tables, all or none.
pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {TABLES} {HOLDS} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT"
    ))
}

/// Reads every page of a file, and checks what SQLite can check without comparing indexes: about a second for a million
/// bookings, only at the start.
pub(super) fn check_pages(connection: &Connection, path: &Path) -> Result<(), SqliteOpenError> {
    let damaged = |what| SqliteOpenError::Damaged { path: path.to_owned(), what };
    let said = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match said {
        Ok(said) if said == "ok" => Ok(()),
        Ok(said) => Err(damaged(said)),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Err(damaged(error.to_string())),
            _ => Err(unusable(path, error)),
        },
    }
}

/// Writes the file's schema unchanged: shows whether anything can be written at all.
pub(super) fn rewrite(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("BEGIN IMMEDIATE; PRAGMA user_version = {SCHEMA}; COMMIT"))
}

/// Rebuilds the index of holds from the bookings.
pub(super) fn index_holds(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("DROP INDEX IF EXISTS holds; {HOLDS}"))
}

/// A commit that was answered is on the disk: the log is written ahead and synced at each commit.
pub(super) fn make_durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
    // The log is created when the file is first read in this mode.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}
