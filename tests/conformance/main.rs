//! One suite for every ledger: the same calls at the same times get the same answers as from a plain model.
//!
//! `random` compares them on random calls; `named` has a test for each promise that someone relies on; `amend` changes
//! bookings; `audits` plants corruption in both ledgers; `rollback` has ledgers forget; `feed` is about how hosts hear of
//! changes, `hosts` about how they hear of each other; `losses` has ledgers lose a sale, or half of one; `files`, `servers`
//! and `trimming` are about what only SQLite or only Redis can do.

mod amend;
mod assign;
mod audits;
mod feed;
mod files;
mod hosts;
mod losses;
mod model;
mod named;
mod overdue;
mod random;
mod rollback;
mod servers;
mod subjects;
#[path = "../support/mod.rs"]
mod support;
mod trimming;
mod words;
