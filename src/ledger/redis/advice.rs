//! Settings of a usable Redis that an operator should know about: with them it may lose what it acknowledged.
//!
//! Asked once per connection, and only if Redis lets this user ask: the user of `docs/ledgers.md` need not have that right.

use redis::Value;

use super::fitness::{fact, values};
use crate::protocol::Durability;

/// Sections of INFO; Redis 6.2 takes one at a time.
const SECTIONS: [&str; 3] = ["memory", "persistence", "replication"];

/// Appends the questions; returns how many replies they get.
pub(super) fn ask(out: &mut Vec<u8>) -> usize {
    for section in SECTIONS {
        redis::cmd("INFO").arg(section).write_packed_command(out);
    }
    SECTIONS.len()
}

/// The advice that the replies call for, one sentence each. What is missing, or denied, gives none.
pub(super) fn read(durability: Durability, replies: &[u8]) -> Vec<String> {
    let values = values(replies);
    let fact = |name: &str| values.iter().find_map(|info: &Value| fact(info, name));
    let mut advice = Vec::new();
    if let Some(policy) = fact("maxmemory_policy").filter(|policy| policy.starts_with("allkeys")) {
        advice.push(format!(
            "Redis has maxmemory-policy {policy}: once memory is full it evicts whole sales; redis-cli CONFIG SET \
             maxmemory-policy noeviction makes it refuse bookings instead"
        ));
    }
    if fact("aof_enabled") == Some("0") {
        advice.push(
            "Redis writes no append-only file: when it stops, it forgets what was sold since its last snapshot, except \
             what hosts remember; redis-cli CONFIG SET appendonly yes"
                .to_owned(),
        );
    }
    // With `replicas=N` nothing is acknowledged that no replica has.
    let has_replicas = fact("connected_slaves").is_some_and(|count| count != "0");
    if has_replicas
        && fact("min_slaves_good_slaves").is_none()
        && !matches!(durability, Durability::Replicas(_))
    {
        advice.push(
            "Redis has replicas and min-replicas-to-write 0: if it is cut off from them it goes on selling, and the \
             replica that takes its place does not have those bookings; redis-cli CONFIG SET min-replicas-to-write 1, or \
             serve with --durability replicas=1"
                .to_owned(),
        );
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(durability: Durability, memory: &str, persistence: &str, replication: &str) -> Vec<String> {
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        read(durability, [memory, persistence, replication].map(bulk).concat().as_bytes())
    }

    #[test]
    fn says_what_may_be_lost_and_nothing_where_nothing_is() {
        let (good_memory, good_file) = ("# Memory\r\nmaxmemory_policy:noeviction\r\n", "aof_enabled:1\r\n");
        let alone = "role:master\r\nconnected_slaves:0\r\n";
        let (ack, replicas) = (Durability::Ack, Durability::Replicas(1));
        assert_eq!(advice(ack, good_memory, good_file, alone), [""; 0]);
        assert!(advice(ack, "maxmemory_policy:allkeys-lru\r\n", good_file, alone)[0].contains("allkeys-lru"));
        // No key of ours has a time to live.
        assert_eq!(advice(ack, "maxmemory_policy:volatile-lru\r\n", good_file, alone), [""; 0]);
        assert!(advice(ack, good_memory, "aof_enabled:0\r\n", alone)[0].contains("appendonly yes"));
        let unguarded = "connected_slaves:1\r\n";
        assert!(advice(ack, good_memory, good_file, unguarded)[0].contains("min-replicas-to-write"));
        assert_eq!(advice(replicas, good_memory, good_file, unguarded), [""; 0]);
        let guarded = "connected_slaves:1\r\nmin_slaves_good_slaves:1\r\n";
        assert_eq!(advice(ack, good_memory, good_file, guarded), [""; 0]);
        assert_eq!(read(ack, b"-NOPERM no\r\n-NOPERM no\r\n-NOPERM no\r\n"), [""; 0]);
        assert_eq!(read(ack, b":1\r\n*0\r\n$-1\r\n"), [""; 0]);
    }
}
