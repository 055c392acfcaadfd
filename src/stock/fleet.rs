//! The hosts that share the ledger, as this one last heard of them, and what is its share of the crowd.

use crate::protocol::{HostBeat, HostFigures, HostId, HostReport};

/// What a host tells of itself in every beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCard {
    /// Which host it is.
    pub id: HostId,
    /// Where a balancer reaches it.
    pub address: String,
    /// Its weight.
    pub weight: u32,
    /// When it started, in milliseconds since 1970 by its own clock.
    pub started_at_ms: u64,
}

impl HostCard {
    /// What it tells with these figures.
    pub fn report(&self, figures: HostFigures) -> HostReport {
        HostReport {
            address: self.address.clone(),
            weight: self.weight,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: self.started_at_ms,
            figures,
        }
    }

    /// This host's part of the weights of all that live, 0 to 1. It counts itself, whether or not the ledger does.
    pub fn share(&self, hosts: &[HostBeat]) -> f64 {
        let others = hosts.iter().filter(|host| host.is_live() && host.id != self.id);
        let others: u64 = others.map(|host| u64::from(host.report.weight)).sum();
        let own = f64::from(self.weight);
        own / (own + others as f64)
    }
}

/// The hosts at one moment.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// All that the ledger named, those that are gone for a while included.
    pub hosts: Vec<HostBeat>,
}

impl Fleet {
    /// How many count.
    pub fn live(&self) -> usize {
        self.hosts.iter().filter(|host| host.is_live()).count()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::limits::HOST_GONE_MS;

    fn beat(id: u128, weight: u32, age_ms: u64) -> HostBeat {
        let card = HostCard { id: HostId(id), address: format!("h{id}:1"), weight, started_at_ms: 0 };
        HostBeat { id: HostId(id), age_ms, report: card.report(HostFigures::default()) }
    }

    #[test]
    fn a_share_is_of_those_that_live_and_a_host_always_counts_itself() {
        let card = HostCard { id: HostId(1), address: "h1:1".to_owned(), weight: 3, started_at_ms: 0 };
        assert_eq!(card.share(&[]), 1.0);
        assert_eq!(card.share(&[beat(1, 3, 0), beat(2, 1, HOST_GONE_MS)]), 0.75);
        assert_eq!(card.share(&[beat(1, 3, HOST_GONE_MS + 1), beat(2, 1, HOST_GONE_MS + 1)]), 1.0);
    }
}
