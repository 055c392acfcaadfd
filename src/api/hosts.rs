//! The hosts that share a ledger, as JSON: for operators.

use super::encode::push_string;
use super::push;
use crate::clock::WallTime;
use crate::protocol::{HostBeat, HostId};

/// Appends one host with its share of the crowd, as a JSON object. `asked` is the one that answers, if it is a host.
pub fn push_host(scratch: &mut Vec<u8>, host: &HostBeat, share: f64, asked: Option<HostId>) {
    let HostBeat { id, age_ms, report } = host;
    push(scratch, format_args!(r#"{{"host":"{id}","address":"#));
    push_string(scratch, &report.address);
    push(scratch, format_args!(r#","weight":{},"share":{share:.4},"version":"#, report.weight));
    push_string(scratch, &report.version);
    push(
        scratch,
        format_args!(
            r#","started_at":"{}","status":"{}","silent_ms":{age_ms}"#,
            WallTime(report.started_at_ms),
            if host.is_live() { "live" } else { "silent" },
        ),
    );
    let figures = &report.figures;
    match figures.permits {
        Some(permits) => push(scratch, format_args!(r#","permits":{permits}"#)),
        None => scratch.extend_from_slice(br#","permits":null"#),
    }
    push(
        scratch,
        format_args!(
            r#","bookings_per_second":{},"refusals_per_second":{},"waiting":{},"round_trip_us":{},"is_this":{}}}"#,
            figures.bookings_per_second,
            figures.refusals_per_second,
            figures.waiting,
            figures.round_trip_us,
            asked == Some(*id),
        ),
    );
}

/// Appends all of them: `{"hosts":[…]}`.
pub fn push_hosts<'h>(
    scratch: &mut Vec<u8>,
    hosts: impl Iterator<Item = (&'h HostBeat, f64)>,
    asked: Option<HostId>,
) {
    scratch.extend_from_slice(br#"{"hosts":["#);
    for (index, (host, share)) in hosts.enumerate() {
        if index > 0 {
            scratch.push(b',');
        }
        push_host(scratch, host, share, asked);
    }
    scratch.extend_from_slice(b"]}");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::protocol::{HostFigures, HostReport};

    #[test]
    fn what_hosts_tell_of_themselves_is_told_as_json() {
        let report = HostReport {
            address: "a\"b:1".to_owned(),
            weight: 2,
            version: "0.1.0\n".to_owned(),
            started_at_ms: 1_000,
            figures: HostFigures { waiting: 3, ..HostFigures::default() },
        };
        let hosts = [HostBeat { id: HostId(1), age_ms: 7, report }];
        let mut out = Vec::new();
        push_hosts(&mut out, hosts.iter().map(|host| (host, 1.0 / 3.0)), Some(HostId(1)));
        let told: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            told["hosts"][0],
            serde_json::json!({
                "host": "00000000000000000000000000000001", "address": "a\"b:1", "weight": 2, "share": 0.3333,
                "version": "0.1.0\n", "started_at": "1970-01-01T00:00:01.000Z", "status": "live", "silent_ms": 7,
                "permits": null, "bookings_per_second": 0, "refusals_per_second": 0, "waiting": 3,
                "round_trip_us": 0, "is_this": true,
            })
        );
    }
}
