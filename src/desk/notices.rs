//! What is logged about a desk's sales and its ledger: once when trouble begins, once when it is over.

use super::lanes::{LaneIndex, PerLane};
use crate::booking::SaleName;
use crate::limits;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Notices {
    in_trouble: PerLane<bool>,
    /// How many lanes are in trouble.
    troubles: usize,
    is_silence_told: bool,
}

impl Notices {
    /// A new lane, of which nothing is known.
    pub(super) fn add_lane(&mut self) {
        self.in_trouble.add(false);
    }

    /// A sale is in trouble, or no longer: reported by the core that reads it.
    pub(super) fn note_trouble(&mut self, lane: LaneIndex, sale: &SaleName, trouble: Option<&str>) {
        if trouble.is_some() == std::mem::replace(&mut self.in_trouble[lane], trouble.is_some()) {
            return;
        }
        let others = match trouble {
            Some(_) => self.troubles,
            None => self.troubles - 1,
        };
        match trouble {
            Some(what) if others < limits::SALES_LOGGED_MAX => tracing::error!(%sale, "{what}"),
            Some(_) if others == limits::SALES_LOGGED_MAX => {
                tracing::error!(
                    "more sales cannot be sold; GET /v1/sales of the admin listener lists the missing ones"
                );
            }
            None if others < limits::SALES_LOGGED_MAX => tracing::info!(%sale, "the sale can be sold again"),
            Some(_) | None => {}
        }
        self.troubles = others + usize::from(trouble.is_some());
    }

    /// The ledger leaves calls unanswered. If the connection is lost, the connection itself reports that, and one core
    /// alone.
    pub(super) fn note_silence(&mut self, is_lost: bool, is_told_by_others: bool) {
        if !is_lost && !is_told_by_others {
            self.is_silence_told = true;
            tracing::warn!("the ledger has not answered for {} ms", limits::LEDGER_SLOW_MS);
        }
    }

    /// The ledger answers again.
    pub(super) fn note_answers(&mut self) {
        if std::mem::take(&mut self.is_silence_told) {
            tracing::info!("the ledger answers again");
        }
    }

    /// How many lanes are in trouble.
    #[cfg(test)]
    pub(super) fn troubles(&self) -> usize {
        self.troubles
    }

    /// Whether operators were told that the ledger is silent.
    #[cfg(test)]
    pub(super) fn is_silence_told(&self) -> bool {
        self.is_silence_told
    }

    /// Panics if it contradicts itself.
    pub(super) fn check_invariants(&self) {
        let troubles = self.in_trouble.iter().filter(|(_, in_trouble)| **in_trouble).count();
        assert_eq!(troubles, self.troubles, "lanes in trouble are counted");
    }
}
