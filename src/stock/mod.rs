//! The stock: a host's permits, and what else its cores share about sales: gates, levels, and the ids that were granted or
//! are in flight.
//!
//! A permit is the right to ask the ledger for one ticket. It is not stock: a permit too many costs one ledger entry that
//! is refused, a permit too few costs a refusal that the next reading repairs. So every number here is bounded and
//! self-correcting, and none of them decides whether a ticket is sold; the ledger does.
//!
//! ```text
//! Board ── Directory (name -> sale; each core keeps its own view) ── SaleBoard ── one Shard a core
//!   learn ──────────────────────────────────────────────────────────── tops up, shrinks
//!   take (own shard, then the siblings', then none) ── Permits ── settle (granted, sold out, returned)
//! ```
//!
//! What holds at every instant, and what loom checks in every interleaving: a permit that was issued is either free, or
//! with the ledger, or was spent, refused or withdrawn.
//!
//! About memory orderings: permits guard no other memory. What matters is that each change of a counter is one
//! read-modify-write (or a compare-exchange), which is atomic in every ordering; a value read a moment too old is a reading
//! of a moment ago. Hence `Relaxed` throughout, and the places that need more say what they pair with.
//!
//! Called by the desk (take, settle, learn from replies and syncs), at the start of a host and by the admin listener
//! (learn), and by the metrics. Does no I/O and reads no clock.

mod board;
mod fleet;
mod gate;
mod granted;
mod in_flight;
#[cfg(all(test, loom))]
mod loom_tests;
mod permits;
mod sale;
mod shard;
mod sync;
mod watermark;

pub use board::{Board, BoardFull, Counts, Directory, DirectoryPlace};
pub use fleet::{Fleet, HostCard};
pub use gate::Gate;
pub use permits::{Permits, Settlement};
pub use sale::{Dealt, Dry, Membership, SaleBoard};
pub use shard::ShardTotals;

/// Which of this host's loops, from 0: not the number of a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreIndex(pub usize);
