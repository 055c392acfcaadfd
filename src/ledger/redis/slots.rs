//! Which node has which slots: the reply to CLUSTER SLOTS, and what is kept of it.

use redis::Value;

use super::redirect::NodePlace;
use crate::ledger::url::HostPort;
use crate::protocol::{Slot, SlotRange};

/// Most primaries of a Cluster: as many nodes as Redis Cluster is made for.
pub const NODES_MAX: usize = 1_000;

/// The primaries of a Cluster, and the slots that each has. Some slots may be nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotMap {
    nodes: Vec<HostPort>,
    /// Ascending, none twice, with the places of their nodes.
    ranges: Vec<(SlotRange, usize)>,
}

impl SlotMap {
    /// Reads the reply of a node that is called by that host; `None` if it is no such reply, or gives a slot to two nodes.
    pub fn read(reply: &Value, asked: &str) -> Option<SlotMap> {
        let Value::Array(rows) = reply else { return None };
        if rows.len() > usize::from(Slot::COUNT) {
            return None;
        }
        let mut map = SlotMap::default();
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            let Value::Array(row) = row else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &row[..] else {
                return None;
            };
            let range = SlotRange::new(u16::try_from(*first).ok()?, u16::try_from(*last).ok()?)?;
            let [host, Value::Int(port), ..] = &primary[..] else { return None };
            let host = match host {
                Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
                Value::Nil => "",
                _ => return None,
            };
            let port = u16::try_from(*port).ok().filter(|port| *port != 0)?;
            read.push((range, NodePlace::new(host, port).seen_from(asked)));
        }
        read.sort();
        for (range, place) in read {
            if map.ranges.last().is_some_and(|(before, _)| before.last() >= range.first()) {
                return None;
            }
            let node = match map.nodes.iter().position(|node| *node == place) {
                Some(node) => node,
                None if map.nodes.len() < NODES_MAX => {
                    map.nodes.push(place);
                    map.nodes.len() - 1
                }
                None => return None,
            };
            map.ranges.push((range, node));
        }
        Some(map)
    }

    /// The primaries that have slots.
    pub fn nodes(&self) -> &[HostPort] {
        &self.nodes
    }

    /// The slots, each range with the node that has it.
    pub fn ranges(&self) -> impl Iterator<Item = (SlotRange, &HostPort)> {
        self.ranges.iter().map(|(range, node)| (*range, &self.nodes[*node]))
    }

    /// Who has that slot.
    pub fn node_of(&self, slot: Slot) -> Option<&HostPort> {
        let place = self.ranges.partition_point(|(range, _)| range.last() < slot.number());
        let (range, node) = self.ranges.get(place)?;
        range.contains(slot).then(|| &self.nodes[*node])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A range of slots as a node tells of it: whoever has it, and a replica.
    fn row(first: i64, last: i64, host: &str, port: i64) -> Value {
        let node = |host: &str, port| {
            let id = Value::BulkString(b"id".to_vec());
            Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), id, Value::Array(vec![])])
        };
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port), node("replica", 1)])
    }

    fn read(rows: &[Value]) -> Option<SlotMap> {
        SlotMap::read(&Value::Array(rows.to_vec()), "asked")
    }

    fn node_of(map: &SlotMap, slot: u16) -> String {
        map.node_of(Slot::new(slot).unwrap()).map_or("nobody".to_owned(), HostPort::to_string)
    }

    #[test]
    fn each_slot_is_of_the_node_that_has_its_range() {
        let map = read(&[row(5_461, 10_922, "b", 2), row(0, 5_460, "", 1), row(12_000, 16_383, "b", 2)]);
        let map = map.unwrap();
        let places =
            [0, 5_460, 5_461, 10_922, 10_923, 11_999, 12_000, 16_383].map(|slot| node_of(&map, slot));
        assert_eq!(places, ["asked:1", "asked:1", "b:2", "b:2", "nobody", "nobody", "b:2", "b:2"]);
        assert_eq!(map.nodes().len(), 2);
        assert_eq!(read(&[]), Some(SlotMap::default()));
        // As of a node that does not know its own address.
        let nil = Value::Array(vec![Value::Nil, Value::Int(3)]);
        let map = read(&[Value::Array(vec![Value::Int(1), Value::Int(1), nil])]).unwrap();
        assert_eq!(node_of(&map, 1), "asked:3");
    }

    #[test]
    fn what_is_no_map_is_none() {
        for rows in [
            vec![row(0, 16_384, "a", 1)],
            vec![row(2, 1, "a", 1)],
            vec![row(-1, 1, "a", 1)],
            vec![row(0, 1, "a", 0)],
            vec![row(0, 1, "a", 65_536)],
            vec![row(0, 5, "a", 1), row(5, 6, "b", 1)],
            vec![Value::Int(1)],
            vec![Value::Array(vec![Value::Int(0), Value::Int(1)])],
            vec![Value::Array(vec![Value::Int(0), Value::Int(1), Value::Array(vec![])])],
        ] {
            assert_eq!(read(&rows), None, "{rows:?}");
        }
        assert_eq!(SlotMap::read(&Value::Okay, "asked"), None);
        // More nodes than a loop has tokens for.
        let rows: Vec<_> =
            (0..=NODES_MAX as i64).map(|slot| row(slot, slot, &format!("h{slot}"), 1)).collect();
        assert_eq!(read(&rows), None);
        assert!(read(&rows[1..]).is_some());
    }

    proptest! {
        #[test]
        fn never_panics_and_never_gives_a_slot_to_two(
            rows in prop::collection::vec((0..16_390_i64, 0..16_390_i64, "[a-c]?", 0..4_i64), 0..6),
            slot in 0..Slot::COUNT,
        ) {
            let told: Vec<_> = rows.iter().map(|(first, last, host, port)| row(*first, *last, host, *port)).collect();
            if let Some(map) = read(&told) {
                let covers = |(first, last, _, _): &&(i64, i64, String, i64)| (*first..=*last).contains(&i64::from(slot));
                let owners = rows.iter().filter(covers).count();
                prop_assert_eq!(owners, usize::from(map.node_of(Slot::new(slot).unwrap()).is_some()));
            }
        }

        #[test]
        fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = redis::parse_redis_value(&bytes) {
                let _ = SlotMap::read(&value, "asked");
            }
        }
    }
}
