//! What a node of a Cluster answers to a call that it does not carry out since the slot is elsewhere, or on its way there.

use crate::ledger::url::HostPort;
use crate::protocol::Slot;

/// See the [module](self). Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// `MOVED`: the slot is of that node, from now on.
    Moved(Slot, NodePlace),
    /// `ASK`: the slot is about to be of that node, which has the keys of this call already. Later calls are to be asked here
    /// again.
    Ask(Slot, NodePlace),
    /// `TRYAGAIN`: some of the keys are on one node and some on the other.
    Again,
}

/// A node as another one calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// `None` is the host by which the other one is called.
    host: Option<String>,
    port: u16,
}

impl NodePlace {
    /// One that a node calls so; nothing, and a question mark, is the host of that node itself.
    pub(super) fn new(host: &str, port: u16) -> NodePlace {
        NodePlace { host: Some(host).filter(|host| !matches!(*host, "" | "?")).map(str::to_owned), port }
    }

    /// Where it is, from the word of a node that is called by that host.
    pub fn seen_from(&self, host: &str) -> HostPort {
        let host = self.host.as_deref().unwrap_or(host);
        // Names are the same in any case, and one node must not count as two.
        HostPort { host: host.to_ascii_lowercase(), port: self.port }
    }
}

impl Redirect {
    /// Reads an error, without its hyphen; `None` if it is another one.
    pub(super) fn read(error: &str) -> Option<Redirect> {
        let mut words = error.split(' ');
        let kind = words.next()?;
        if kind == "TRYAGAIN" {
            return Some(Redirect::Again);
        }
        if !matches!(kind, "MOVED" | "ASK") {
            return None;
        }
        let number = words.next()?;
        let is_number = number.bytes().all(|digit| digit.is_ascii_digit());
        let slot = Slot::new(number.parse().ok().filter(|_| is_number)?)?;
        // The host may be an IPv6 address, without brackets.
        let (host, port) = words.next()?.rsplit_once(':')?;
        let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
        let port = port.parse().ok().filter(|port| is_number && *port != 0)?;
        let place = NodePlace::new(host, port);
        Some(if kind == "MOVED" { Redirect::Moved(slot, place) } else { Redirect::Ask(slot, place) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_where_a_slot_is_and_takes_no_other_error_for_that() {
        let read = |text: &str| match Redirect::read(text) {
            Some(Redirect::Moved(slot, place)) => {
                Some(format!("moved {} {}", slot.number(), place.seen_from("Asked")))
            }
            Some(Redirect::Ask(slot, place)) => {
                Some(format!("ask {} {}", slot.number(), place.seen_from("asked")))
            }
            Some(Redirect::Again) => Some("again".to_owned()),
            None => None,
        };
        for (text, meant) in [
            ("MOVED 3999 127.0.0.1:6381", "moved 3999 127.0.0.1:6381"),
            ("ASK 0 Db.example:7", "ask 0 db.example:7"),
            ("MOVED 16383 ::1:6381", "moved 16383 [::1]:6381"),
            ("MOVED 5 :6381", "moved 5 asked:6381"),
            ("MOVED 5 ?:6381", "moved 5 asked:6381"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", "again"),
        ] {
            assert_eq!(read(text).as_deref(), Some(meant), "{text}");
        }
        for text in [
            "",
            "MOVED",
            "MOVED 5",
            "MOVED 16384 a:1",
            "MOVED +5 a:1",
            "MOVED 5 a",
            "MOVED 5 a:0",
            "MOVED 5 a:65536",
            "ASK x a:1",
            "ASKED 5 a:1",
            "CLUSTERDOWN Hash slot not served",
            "CROSSSLOT Keys in request don't hash to the same slot",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(MOVED|ASK|TRYAGAIN)?[ 0-9a-z:?\u{e9}]{0,24}") {
            let _ = Redirect::read(&text);
        }
    }
}
