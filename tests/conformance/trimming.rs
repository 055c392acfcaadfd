//! Trimming a log in Redis: whatever consumer groups do, none of them loses an entry that it is not done with.

use boxoffice::limits::{ENTRIES_PER_CALL_MAX, TRIMMED_PER_CALL_MAX};
use boxoffice::protocol::*;

use crate::subjects::{RedisSubject, Subject};
use crate::words::*;

const LOG: &str = "bx:{ticket}:log";

/// A sale whose log has `entries`, and a connection for its consumers.
struct Consumed {
    ledger: RedisSubject,
    connection: redis::Connection,
}

impl Consumed {
    fn new(entries: usize) -> Consumed {
        let mut ledger = RedisSubject::new();
        ledger.ask(open(1_000_000));
        let connection = ledger.server.connection();
        let mut consumed = Consumed { ledger, connection };
        consumed.book(entries);
        consumed
    }

    fn book(&mut self, entries: usize) {
        let first = state(self.ledger.ask(snapshot())).sequence;
        let ids: Vec<String> = (0..entries).map(|n| format!("b-{}", first + n as u64)).collect();
        for ids in ids.chunks(ENTRIES_PER_CALL_MAX) {
            self.ledger.ask(reserve_ids(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
        }
    }

    fn command<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.connection).unwrap()
    }

    fn group(&mut self, name: &str, from: &str) {
        let _: () = self.command(&["XGROUP", "CREATE", LOG, name, from]);
    }

    /// Reads as a consumer of the group; gives the ids of the entries.
    fn read(&mut self, group: &str, count: usize) -> Vec<String> {
        type Entries = Vec<(String, Vec<String>)>;
        let count = count.to_string();
        let words = ["XREADGROUP", "GROUP", group, "one", "COUNT", &count, "STREAMS", LOG, ">"];
        let streams: Option<Vec<(String, Entries)>> = self.command(&words);
        let entries = streams.into_iter().flatten().flat_map(|(_, entries)| entries);
        entries.map(|(id, _)| id).collect()
    }

    fn acknowledge(&mut self, group: &str, ids: &[String]) {
        for id in ids {
            let _: u64 = self.command(&["XACK", LOG, group, id]);
        }
    }

    /// Trims; gives how many entries were removed and the sequences of those that are left.
    #[track_caller]
    fn trim(&mut self) -> (u64, Vec<u64>) {
        let mut total = 0;
        loop {
            let Answer::Sale { result: SaleResult::Trimmed { removed, left, .. }, .. } =
                self.ledger.ask(trim())
            else {
                panic!()
            };
            total += removed;
            if removed == 0 {
                let kept: Vec<u64> =
                    log_entries(self.ledger.ask(log_after(0))).iter().map(|entry| entry.sequence).collect();
                assert_eq!(kept.len() as u64, left.min(ENTRIES_PER_CALL_MAX as u64));
                return (total, kept);
            }
        }
    }
}

#[test]
fn what_a_group_has_not_read_stays() {
    let mut log = Consumed::new(10);
    log.group("shipping", "0");
    assert_eq!(log.trim(), (0, (1..=10).collect()));
    let read = log.read("shipping", 4);
    log.acknowledge("shipping", &read);
    assert_eq!(log.trim(), (4, (5..=10).collect()));
    // The group goes on where it was.
    assert!(log.read("shipping", 1)[0].ends_with("-5"));
}

#[test]
fn what_was_read_and_not_acknowledged_stays() {
    let mut log = Consumed::new(10);
    log.group("shipping", "0");
    let read = log.read("shipping", 8);
    // Acknowledged out of order: the third is still on somebody's desk.
    log.acknowledge("shipping", &[&read[..2], &read[3..]].concat());
    assert_eq!(log.trim(), (2, (3..=10).collect()));
    log.acknowledge("shipping", &read[2..3]);
    assert_eq!(log.trim(), (6, vec![9, 10]));
}

#[test]
fn the_group_that_is_furthest_behind_decides() {
    let mut log = Consumed::new(10);
    log.group("shipping", "0");
    log.group("accounts", "0");
    let read = log.read("shipping", 9);
    log.acknowledge("shipping", &read);
    assert_eq!(log.trim(), (0, (1..=10).collect()), "accounts has read nothing");
    let read = log.read("accounts", 3);
    assert_eq!(log.trim(), (0, (1..=10).collect()), "accounts has acknowledged nothing");
    log.acknowledge("accounts", &read);
    assert_eq!(log.trim(), (3, (4..=10).collect()));
    let _: u64 = log.command(&["XGROUP", "DESTROY", LOG, "accounts"]);
    assert_eq!(log.trim(), (6, vec![10]));
}

#[test]
fn a_group_that_was_set_back_reads_again_what_is_left() {
    let mut log = Consumed::new(10);
    log.group("shipping", "0");
    let read = log.read("shipping", 10);
    log.acknowledge("shipping", &read[..8]);
    let _: () = log.command(&["XGROUP", "SETID", LOG, "shipping", &read[4]]);
    assert_eq!(log.trim(), (5, (6..=10).collect()));
}

#[test]
fn the_last_entry_stays_and_the_log_goes_on() {
    let mut log = Consumed::new(3);
    log.group("late", "$");
    assert_eq!(log.trim(), (2, vec![3]), "a group that starts at the end asks for nothing before");
    assert_eq!(log.trim(), (0, vec![3]));
    log.book(2);
    assert_eq!(log.trim(), (1, vec![4, 5]));
    let state = state(log.ledger.ask(snapshot()));
    assert_eq!((state.sequence, state.sold), (5, 5), "trimming changes no booking");
}

#[test]
fn a_long_log_is_trimmed_in_steps_and_read_where_it_is_left() {
    let count = TRIMMED_PER_CALL_MAX + 1_000;
    let mut log = Consumed::new(count);
    log.group("shipping", "$");
    let Answer::Sale { result: SaleResult::Trimmed { groups: 1, removed, left }, .. } =
        log.ledger.ask(trim())
    else {
        panic!()
    };
    assert!(removed > 0 && removed <= TRIMMED_PER_CALL_MAX as u64, "{removed}");
    assert_eq!(removed + left, count as u64);
    let kept = log_entries(log.ledger.ask(log_after(0)));
    assert_eq!(kept[0].sequence, removed + 1, "from the start of what is left");
    let middle = removed + 300;
    assert_eq!(log_entries(log.ledger.ask(log_after(middle)))[0].sequence, middle + 1);
    assert_eq!(log.trim(), (left - 1, vec![count as u64]));
}
