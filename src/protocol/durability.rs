//! When a booking counts as made.

use crate::limits;

/// When a client may be told that its booking is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the ledger has answered.
    #[default]
    Ack,
    /// When the ledger has answered, and only by a Redis that has each write on its disk before it answers.
    Aof,
    /// When that many replicas of the Redis have it too, 1 to [`limits::REPLICAS_MAX`].
    Replicas(u32),
}

impl Durability {
    /// Reads `ack`, `aof` or `replicas=N`.
    pub fn parse(text: &str) -> Option<Durability> {
        match text {
            "ack" => Some(Durability::Ack),
            "aof" => Some(Durability::Aof),
            _ => {
                let count = text.strip_prefix("replicas=")?.parse().ok()?;
                (1..=limits::REPLICAS_MAX).contains(&count).then_some(Durability::Replicas(count))
            }
        }
    }
}
