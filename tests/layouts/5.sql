PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
INSERT INTO sales VALUES('concert',20,4,7,1,12,'open',30000,4,NULL,NULL,1796079697932,1796079697878,1796079697878,0,0,1796079727904,0,1796079697878,0,0,'all',600000);
INSERT INTO sales VALUES('plain',10,0,5,1,5,'open',NULL,NULL,NULL,NULL,1796079697900,1796079697875,1796079697875,0,0,0,0,1796079697875,0,0,'',NULL);
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
INSERT INTO bookings VALUES('concert','c-0','confirmed',1,'u-1',1,NULL,7,0,NULL,0);
INSERT INTO bookings VALUES('concert','c-1','held',2,'u-1',1,1796079757932,12,0,60024,0);
INSERT INTO bookings VALUES('concert','c-2','confirmed',4,'a@b+c',1,NULL,8,0,NULL,0);
INSERT INTO bookings VALUES('concert','c-3','held',1,NULL,0,1796079727914,4,0,30000,0);
INSERT INTO bookings VALUES('concert','c-4','held',1,'u-3',1,1796079727915,9,2,30000,0);
INSERT INTO bookings VALUES('concert','c-5','confirmed',2,'u-5',1,NULL,11,0,NULL,1);
INSERT INTO bookings VALUES('plain','01a22eb1-3fe0-728b-80be-1d5e84abfec2','confirmed',1,NULL,0,NULL,1,0,NULL,0);
INSERT INTO bookings VALUES('plain','6f9619ff-8b86-4d01-b42d-00cf4fc964ff','confirmed',1,NULL,0,NULL,4,0,NULL,0);
INSERT INTO bookings VALUES('plain','never','tombstone',0,NULL,0,NULL,0,0,NULL,0);
INSERT INTO bookings VALUES('plain','order-1','cancelled',1,NULL,0,NULL,5,0,NULL,0);
INSERT INTO bookings VALUES('plain','order-2','confirmed',3,'u-1',0,NULL,3,0,NULL,0);
CREATE TABLE buyers (
    sale    TEXT NOT NULL,
    buyer   TEXT NOT NULL,
    tickets INTEGER NOT NULL,
    holds   TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (sale, buyer)
) WITHOUT ROWID;
INSERT INTO buyers VALUES('concert','a@b+c',4,'');
INSERT INTO buyers VALUES('concert','u-1',1,'YGmkahk2');
INSERT INTO buyers VALUES('concert','u-3',0,'YGmkZSj');
INSERT INTO buyers VALUES('concert','u-5',2,'');
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
INSERT INTO log VALUES('concert',1,1796079697904,'c-0','held',1,'u-1',1796079727904);
INSERT INTO log VALUES('concert',2,1796079697908,'c-1','held',2,'u-1',1796079727908);
INSERT INTO log VALUES('concert',3,1796079697912,'c-2','held',4,'a@b+c',1796079727912);
INSERT INTO log VALUES('concert',4,1796079697914,'c-3','held',1,NULL,1796079727914);
INSERT INTO log VALUES('concert',5,1796079697915,'c-4','held',3,'u-3',1796079727915);
INSERT INTO log VALUES('concert',6,1796079697917,'c-5','held',2,'u-4',1796079727917);
INSERT INTO log VALUES('concert',7,1796079697921,'c-0','confirmed',1,'u-1',NULL);
INSERT INTO log VALUES('concert',8,1796079697922,'c-2','confirmed',4,'a@b+c',NULL);
INSERT INTO log VALUES('concert',9,1796079697924,'c-4','held',1,'u-3',1796079727915);
INSERT INTO log VALUES('concert',10,1796079697925,'c-5','confirmed',2,'u-4',NULL);
INSERT INTO log VALUES('concert',11,1796079697929,'c-5','confirmed',2,'u-5',NULL);
INSERT INTO log VALUES('concert',12,1796079697932,'c-1','held',2,'u-1',1796079757932);
INSERT INTO log VALUES('plain',1,1796079697888,'01a22eb1-3fe0-728b-80be-1d5e84abfec2','confirmed',1,NULL,NULL);
INSERT INTO log VALUES('plain',2,1796079697890,'order-1','confirmed',1,NULL,NULL);
INSERT INTO log VALUES('plain',3,1796079697892,'order-2','confirmed',3,'u-1',NULL);
INSERT INTO log VALUES('plain',4,1796079697896,'6f9619ff-8b86-4d01-b42d-00cf4fc964ff','confirmed',1,NULL,NULL);
INSERT INTO log VALUES('plain',5,1796079697900,'order-1','cancelled',1,NULL,NULL);
CREATE TABLE changes (
    number INTEGER NOT NULL PRIMARY KEY,
    sale   TEXT NOT NULL UNIQUE
);
INSERT INTO changes VALUES(1,'plain');
INSERT INTO changes VALUES(2,'concert');
CREATE TABLE forgotten (
    sale   TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    seen   INTEGER NOT NULL,
    remained INTEGER NOT NULL,
    PRIMARY KEY (sale, at_ms)
) WITHOUT ROWID;
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
CREATE INDEX holds ON bookings (sale, expires_at_ms, sequence, quantity) WHERE status = 'held';
COMMIT;
PRAGMA application_id = 1652060006;
PRAGMA user_version = 5;
