//! What a loop is told of its ledger: which slots can be asked.

use crate::protocol::SlotRange;

/// Slots that went up or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachChange {
    /// Which.
    pub slots: SlotRange,
    /// Whether they are up now.
    pub is_up: bool,
}
