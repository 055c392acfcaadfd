//! The keys that sales share, and where they are: on one Redis under names of their own, on a Cluster in no slot of a sale.
//!
//! A script takes keys of one slot only. So on a Cluster the scripts of a sale get its stock in place of the keys that all sales
//! share, by which they know to leave those alone; the names of sales are in [shards](DirectoryShard), and what a script of a
//! sale does there on one Redis is a call of its own (`cluster/`).

use arrayvec::ArrayString;

use crate::booking::SaleName;
use crate::limits::IDENTIFIER_BYTES_MAX;
use crate::protocol::{DirectoryShard, Slot};

/// Names all sales; not under any sale's hash tag.
const SALES: &str = "bx:sales";

/// The sales that were announced as changed, each with the number of its latest announcement. For all sales, too.
pub(super) const CHANGES: &str = "bx:changes";

/// The latest number. For all sales, too.
pub(super) const FEED: &str = "bx:feed";

/// The sales that were removed, each with when. For all sales, too.
const REMOVED: &str = "bx:removed";

/// A hash that says which ledger this is, in its field `id`. For all sales, too.
pub(super) const LEDGER: &str = "bx:ledger";

/// The hosts, with what each last told of itself.
const HOSTS: &str = "bx:hosts";

/// Written before each WAIT.
const MARK: &str = "bx:mark";

/// Never there: in place of a sale's keys where only the directory is meant.
const NONE: &str = "bx:none";

/// Where the keys of a call are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// On the one Redis that has all.
    #[default]
    One,
    /// On a Cluster, in the slot of the call's sale.
    Sale,
    /// On a Cluster, in a shard of the directory.
    Shard(DirectoryShard),
}

/// A key.
pub(super) type Key = ArrayString<{ IDENTIFIER_BYTES_MAX + 16 }>;

/// A key of the sale.
#[inline]
pub(super) fn of_sale(sale: &SaleName, part: &str) -> Key {
    let mut key = Key::new();
    for part in ["bx:{", sale.as_str(), "}:", part] {
        key.push_str(part);
    }
    key
}

fn joined(parts: &[&str]) -> Key {
    let mut key = Key::new();
    for part in parts {
        key.push_str(part);
    }
    key
}

fn tagged(name: &str, tag: &str) -> Key {
    joined(&[name, ":{", tag, "}"])
}

impl Keys {
    /// That key of a sale, for a script; of a shard one that is never there.
    pub(super) fn of_sale(self, sale: &SaleName, part: &str) -> Key {
        match self {
            Keys::One | Keys::Sale => of_sale(sale, part),
            Keys::Shard(shard) => tagged(NONE, shard.tag()),
        }
    }

    /// The names of sales: for a script of that sale, if it is one of a sale.
    pub(super) fn sales(self, sale: Option<&SaleName>) -> Key {
        self.shared(SALES, sale)
    }

    /// The sales that were removed.
    pub(super) fn removed(self, sale: Option<&SaleName>) -> Key {
        self.shared(REMOVED, sale)
    }

    /// Which ledger this is.
    pub(super) fn ledger(self) -> Key {
        self.shared(LEDGER, None)
    }

    /// The hosts.
    pub(super) fn hosts(self) -> Key {
        self.shared(HOSTS, None)
    }

    /// What was announced, or the latest number of that: for a script of a sale.
    pub(super) fn announced(self, name: &str, sale: &SaleName) -> Key {
        match self {
            Keys::One => joined(&[name]),
            Keys::Sale | Keys::Shard(_) => self.of_sale(sale, "stock"),
        }
    }

    fn shared(self, name: &str, sale: Option<&SaleName>) -> Key {
        match (self, sale) {
            (Keys::Shard(shard), _) => tagged(name, shard.tag()),
            (Keys::Sale, Some(sale)) => of_sale(sale, "stock"),
            (Keys::One, _) | (Keys::Sale, None) => joined(&[name]),
        }
    }
}

/// The key that is written before a WAIT; on a Cluster one in that slot.
pub(super) fn mark(local: Option<Slot>) -> Key {
    match local {
        None => joined(&[MARK]),
        Some(slot) => {
            let numbers = (0_u32..).map(|number| number.to_string());
            let tag = numbers.into_iter().find(|tag| Slot::of_tag(tag) == slot);
            tagged(MARK, &tag.expect("CRC-16 reaches every slot within some 200,000 numbers"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_script_on_a_cluster_is_in_one_slot() {
        let sale = SaleName::parse("ticket").unwrap();
        let shard = DirectoryShard::of(&sale);
        let slot_of = |key: Key| {
            let (_, rest) = key.split_once('{').unwrap();
            Slot::of_tag(rest.split_once('}').unwrap().0)
        };
        let all = |keys: Keys| {
            let sale = &sale;
            [keys.of_sale(sale, "log"), keys.sales(Some(sale)), keys.removed(Some(sale))]
                .into_iter()
                .chain([CHANGES, FEED].map(|name| keys.announced(name, sale)))
                .map(slot_of)
                .collect::<Vec<_>>()
        };
        assert_eq!(all(Keys::Sale), [Slot::of(&sale); 5]);
        assert_eq!(all(Keys::Shard(shard)), [shard.slot(); 5]);
        let of_ledger = [Keys::Shard(shard).sales(None), Keys::Shard(shard).ledger()];
        assert_eq!(of_ledger.map(slot_of), [shard.slot(); 2]);
        assert_eq!(Keys::One.sales(Some(&sale)).as_str(), "bx:sales");
        // A sale may be called like a shard.
        let called_so = SaleName::parse(shard.tag()).unwrap();
        assert_ne!(Keys::Shard(shard).of_sale(&called_so, "stock"), of_sale(&called_so, "stock"));
    }

    #[test]
    fn there_is_a_mark_in_every_slot() {
        assert_eq!(mark(None).as_str(), "bx:mark");
        let mut found = std::collections::BTreeSet::new();
        for number in 0..1_000_000_u32 {
            found.insert(Slot::of_tag(&number.to_string()));
        }
        assert_eq!(found.len(), usize::from(Slot::COUNT));
        let slot = Slot::new(7_000).unwrap();
        let key = mark(Some(slot));
        assert_eq!(Slot::of_tag(key.strip_prefix("bx:mark:{").unwrap().trim_end_matches('}')), slot);
    }
}
