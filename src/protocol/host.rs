//! What hosts tell each other through the ledger.

use serde::{Deserialize, Serialize};

/// One process, named at random when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u128);

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl HostId {
    /// What [`Display`](std::fmt::Display) writes.
    pub fn parse(text: &str) -> Option<HostId> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(HostId)
    }
}

/// What a host tells of itself with each beat. In the ledger it is JSON; fields that a host does not know it ignores, those
/// that it misses are 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// Where a balancer reaches it.
    pub address: String,
    /// What its share of the crowd is in proportion to: 1 to [`crate::limits::WEIGHT_MAX`].
    pub weight: u32,
    /// Which boxoffice it runs.
    #[serde(default)]
    pub version: String,
    /// When it started, in milliseconds since 1970 by its own clock.
    #[serde(default)]
    pub started_at_ms: u64,
    /// How it does.
    #[serde(default, flatten)]
    pub figures: HostFigures,
}

/// How a host does, over all its cores and sales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFigures {
    /// Permits, free and with the ledger; `None` where there are too many sales to add them up.
    pub permits: Option<u64>,
    /// Bookings granted a second, since the beat before.
    pub bookings_per_second: u64,
    /// Requests for bookings refused a second, since the beat before.
    pub refusals_per_second: u64,
    /// Requests that wait for the ledger, or for a permit.
    pub waiting: u64,
    /// How long the ledger took for the beat before, in microseconds.
    pub round_trip_us: u64,
}

/// A host, as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBeat {
    /// Which.
    pub id: HostId,
    /// How long ago it said so, in milliseconds, by the ledger's clock.
    pub age_ms: u64,
    /// What it told.
    pub report: HostReport,
}

impl HostBeat {
    /// Whether it counts as there.
    pub fn is_live(&self) -> bool {
        self.age_ms <= crate::limits::HOST_GONE_MS
    }
}

/// Where a host stands in a list.
fn place(host: &HostBeat) -> (bool, &str, HostId) {
    (!host.is_live(), &host.report.address, host.id)
}

/// All of them with their shares of the crowd, 0 to 1: first those that live, in the order of their addresses, then those
/// that are silent, whose share is 0.
pub fn with_shares(hosts: &[HostBeat]) -> Vec<(&HostBeat, f64)> {
    let all: u64 = hosts.iter().filter(|host| host.is_live()).map(|host| u64::from(host.report.weight)).sum();
    let share = |host: &HostBeat| match host.is_live() {
        true => f64::from(host.report.weight) / all as f64,
        false => 0.0,
    };
    let mut shared: Vec<(&HostBeat, f64)> = hosts.iter().map(|host| (host, share(host))).collect();
    shared.sort_by(|(one, _), (other, _)| place(one).cmp(&place(other)));
    shared
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn shares_of_those_that_live_are_one_together() {
        let beat = |id, weight, age_ms| HostBeat {
            id: HostId(id),
            age_ms,
            report: HostReport {
                address: format!("h{id}:1"),
                weight,
                version: String::new(),
                started_at_ms: 0,
                figures: HostFigures::default(),
            },
        };
        let gone = crate::limits::HOST_GONE_MS + 1;
        let hosts = [beat(3, 1, 0), beat(1, 5, gone), beat(2, 3, gone - 1)];
        let shares: Vec<(u128, f64)> =
            with_shares(&hosts).iter().map(|(host, share)| (host.id.0, *share)).collect();
        assert_eq!(shares, [(2, 0.75), (3, 0.25), (1, 0.0)]);
        assert_eq!(with_shares(&hosts[1..2])[0].1, 0.0, "nobody lives");
    }

    #[test]
    fn a_host_of_another_version_is_understood() {
        let report: HostReport =
            serde_json::from_str(r#"{"address":"10.0.0.1:3005","weight":2,"later":[1],"waiting":3}"#)
                .unwrap();
        assert_eq!(
            (report.address.as_str(), report.weight, report.version.as_str()),
            ("10.0.0.1:3005", 2, "")
        );
        assert_eq!(report.figures, HostFigures { waiting: 3, ..HostFigures::default() });
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for id in [0, 1, u128::MAX] {
            assert_eq!(HostId::parse(&HostId(id).to_string()), Some(HostId(id)));
        }
        for odd in ["", "1", &"+".repeat(32), &"g".repeat(32), &"0".repeat(33)] {
            assert_eq!(HostId::parse(odd), None, "{odd}");
        }
    }
}
