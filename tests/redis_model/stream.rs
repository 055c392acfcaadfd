//! Streams, down to the nodes that Redis keeps them in: `XTRIM MINID ~` removes whole nodes, and how many entries that
//! is depends on where one node ends and the next begins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// `stream-node-max-entries`.
pub const NODE_ENTRIES_MAX: usize = 100;

/// `stream-node-max-bytes`.
const NODE_BYTES_MAX: usize = 4_096;

/// An entry's id: milliseconds and sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub ms: u64,
    pub sequence: u64,
}

impl EntryId {
    pub const MAX: EntryId = EntryId { ms: u64::MAX, sequence: u64::MAX };

    pub fn text(self) -> String {
        format!("{}-{}", self.ms, self.sequence)
    }

    /// Reads `ms` or `ms-sequence`.
    pub fn parse(text: &[u8], sequence_if_none: u64) -> Option<EntryId> {
        let text = std::str::from_utf8(text).ok()?;
        let number = |digits: &str| {
            // As `strtoull` of C reads it.
            let digits = digits.trim_ascii_start();
            let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if all_digits { digits.parse().ok() } else { None }
        };
        match text.split_once('-') {
            None => Some(EntryId { ms: number(text)?, sequence: sequence_if_none }),
            Some((ms, sequence)) => Some(EntryId { ms: number(ms)?, sequence: number(sequence)? }),
        }
    }

    pub fn next(self) -> Option<EntryId> {
        match self.sequence.checked_add(1) {
            Some(sequence) => Some(EntryId { ms: self.ms, sequence }),
            None => Some(EntryId { ms: self.ms.checked_add(1)?, sequence: 0 }),
        }
    }

    pub fn previous(self) -> Option<EntryId> {
        match self.sequence.checked_sub(1) {
            Some(sequence) => Some(EntryId { ms: self.ms, sequence }),
            None => Some(EntryId { ms: self.ms.checked_sub(1)?, sequence: u64::MAX }),
        }
    }
}

/// Fields and values by turns.
pub type Fields = Rc<Vec<Vec<u8>>>;

#[derive(Clone, Debug)]
struct Node {
    /// Of its first entry, removed or not; the others are written as the difference to it.
    first: EntryId,
    /// Names of its first entry, which those of the same names leave out.
    names: Vec<Vec<u8>>,
    entries: VecDeque<(EntryId, Fields)>,
    /// Marked as removed and still in it.
    removed: usize,
    bytes: usize,
}

/// A consumer group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub last_delivered: EntryId,
    /// Delivered and not acknowledged, each with its consumer.
    pub pending: BTreeMap<EntryId, Vec<u8>>,
    pub consumers: BTreeSet<Vec<u8>>,
}

/// A stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    nodes: VecDeque<Node>,
    length: usize,
    pub last_id: EntryId,
    pub groups: BTreeMap<Vec<u8>, Group>,
}

impl Stream {
    pub fn len(&self) -> usize {
        self.length
    }

    /// Appends an entry whose id is above [`Stream::last_id`].
    pub fn add(&mut self, id: EntryId, fields: Fields) {
        assert!(id > self.last_id);
        let argument_bytes: usize = fields.iter().map(Vec::len).sum();
        let is_full = |node: &Node| {
            node.bytes + argument_bytes >= NODE_BYTES_MAX
                || node.entries.len() + node.removed >= NODE_ENTRIES_MAX
        };
        if self.nodes.back().is_none_or(is_full) {
            let names: Vec<Vec<u8>> = fields.iter().step_by(2).cloned().collect();
            // Header and end; entries, removed entries, names, their end.
            let bytes = 7
                + 2
                + 2
                + integer_bytes(names.len() as i64)
                + names.iter().map(|name| text_bytes(name)).sum::<usize>()
                + 2;
            self.nodes.push_back(Node { first: id, names, entries: VecDeque::new(), removed: 0, bytes });
        }
        let node = self.nodes.back_mut().expect("one was pushed");
        let same_names = node.names.len() * 2 == fields.len()
            && node.names.iter().zip(fields.iter().step_by(2)).all(|(one, other)| one == other);
        // Flags, both differences, the fields, and how many parts the entry has.
        let mut bytes = 2
            + integer_bytes((id.ms - node.first.ms) as i64)
            + integer_bytes((id.sequence as i64).wrapping_sub(node.first.sequence as i64));
        let pairs = fields.len() / 2;
        let parts = if same_names {
            bytes += fields.iter().skip(1).step_by(2).map(|value| text_bytes(value)).sum::<usize>();
            pairs + 3
        } else {
            bytes += integer_bytes(pairs as i64) + fields.iter().map(|text| text_bytes(text)).sum::<usize>();
            2 * pairs + 4
        };
        node.bytes += bytes + integer_bytes(parts as i64);
        node.entries.push_back((id, fields));
        self.length += 1;
        self.last_id = id;
    }

    /// Entries of `first..=last`, oldest first.
    pub fn range(
        &self,
        first: EntryId,
        last: EntryId,
    ) -> impl DoubleEndedIterator<Item = &(EntryId, Fields)> {
        // Nodes and their entries rise in id, so that both ends are found by bisection.
        let from = self.nodes.partition_point(|node| node.entries.back().is_none_or(|(id, _)| *id < first));
        let until = self
            .nodes
            .partition_point(|node| node.entries.front().is_none_or(|(id, _)| *id <= last))
            .max(from);
        self.nodes.range(from..until).flat_map(move |node| {
            let start = node.entries.partition_point(|(id, _)| *id < first);
            let end = node.entries.partition_point(|(id, _)| *id <= last).max(start);
            node.entries.range(start..end)
        })
    }

    pub fn first_id(&self) -> Option<EntryId> {
        self.nodes.front()?.entries.front().map(|(id, _)| *id)
    }

    /// Removes entries below `keep`; with `whole_nodes`, only nodes that are below it as a whole, and at most that many
    /// entries (0: no bound). Returns how many.
    pub fn trim(&mut self, keep: EntryId, whole_nodes: Option<usize>) -> usize {
        let mut removed = 0;
        while let Some(node) = self.nodes.front_mut() {
            if whole_nodes.is_some_and(|limit| limit > 0 && removed + node.entries.len() > limit) {
                break;
            }
            if node.entries.back().is_some_and(|(id, _)| *id < keep) {
                removed += node.entries.len();
                self.nodes.pop_front();
                continue;
            }
            if whole_nodes.is_none() {
                while node.entries.front().is_some_and(|(id, _)| *id < keep) {
                    node.entries.pop_front();
                    node.removed += 1;
                    removed += 1;
                }
            }
            break;
        }
        self.length -= removed;
        removed
    }
}

/// Bytes of a text as an element of a listpack, which keeps a number as one.
fn text_bytes(text: &[u8]) -> usize {
    if let Some(number) = canonical_integer(text) {
        return integer_bytes(number);
    }
    let encoded = match text.len() {
        0..=63 => 1 + text.len(),
        64..=4_095 => 2 + text.len(),
        length => 5 + length,
    };
    encoded + length_bytes(encoded)
}

/// The number that these digits are the one way to write.
fn canonical_integer(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

fn integer_bytes(number: i64) -> usize {
    let encoded = match number {
        0..=127 => 1,
        -4_096..=4_095 => 2,
        -32_768..=32_767 => 3,
        -8_388_608..=8_388_607 => 4,
        -2_147_483_648..=2_147_483_647 => 5,
        _ => 9,
    };
    encoded + length_bytes(encoded)
}

/// Bytes of an element's length behind it.
fn length_bytes(encoded: usize) -> usize {
    match encoded {
        0..=127 => 1,
        128..=16_382 => 2,
        _ => 3,
    }
}
