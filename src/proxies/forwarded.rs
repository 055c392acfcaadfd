//! `X-Forwarded-For`: each proxy appends the address that it was reached from, so the list is true from the right, as far as
//! the proxies that wrote it are trusted, and whatever a client makes up stands left of that.

use std::net::{IpAddr, SocketAddr};
use std::str;

use super::TrustedProxies;
use crate::limits::{FORWARDED_ELEMENT_BYTES_MAX, FORWARDED_HOPS_MAX};

impl TrustedProxies {
    /// The client behind `peer`, which is one of these proxies, by the values of all `X-Forwarded-For` fields of its request, in
    /// their order: the right-most address that is not one of these proxies. Where the list ends, or has something that is no
    /// address, whoever comes last before it is the client.
    pub fn client<'a>(&self, peer: IpAddr, values: impl DoubleEndedIterator<Item = &'a [u8]>) -> IpAddr {
        let elements = values.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        let mut client = peer;
        for element in elements.take(FORWARDED_HOPS_MAX) {
            let element = element.trim_ascii();
            if element.is_empty() {
                // Means nothing in a list (RFC 9110 section 5.6.1.2).
                continue;
            }
            let Some(address) = address(element) else { break };
            client = address;
            if !self.trusts(address) {
                break;
            }
        }
        client
    }
}

/// An address as proxies write it: bare, or with a port; of IPv6 also in brackets.
fn address(element: &[u8]) -> Option<IpAddr> {
    if element.len() > FORWARDED_ELEMENT_BYTES_MAX {
        return None;
    }
    // A zone (RFC 4007 section 11) means something on one machine alone.
    let text = str::from_utf8(element).ok().filter(|text| !text.contains('%'))?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => IpAddr::V6(bare.parse().ok()?),
        None => text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::tests::{ip, trusting};
    use super::*;

    const PEER: &str = "10.0.0.1";

    fn client(values: &[&str]) -> String {
        let proxies = trusting(&["10.0.0.0/8", "2001:db8:1::/48"]);
        proxies.client(ip(PEER), values.iter().map(|value| value.as_bytes())).to_string()
    }

    #[test]
    fn the_right_most_address_that_is_no_proxy_is_the_client() {
        for (values, expected) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (&["1.1.1.1,203.0.113.9,10.2.3.4"], "203.0.113.9"),
            (&["1.1.1.1", "203.0.113.9", "10.2.3.4, 10.0.0.2"], "203.0.113.9"),
            (&["203.0.113.9", "10.2.3.4", ""], "203.0.113.9"),
            (&[" ,, 203.0.113.9 \t, ,"], "203.0.113.9"),
            (&["2001:db8:2::7, 2001:db8:1::9"], "2001:db8:2::7"),
            // Only proxies: the one that is furthest away.
            (&["10.9.9.9, 10.8.8.8"], "10.9.9.9"),
            (&[], PEER),
            (&[""], PEER),
            (&[",,,"], PEER),
        ] {
            assert_eq!(client(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for (value, expected) in [
            ("unknown", PEER),
            ("203.0.113.9, unknown", PEER),
            ("203.0.113.9, _hidden, 10.0.0.5", "10.0.0.5"),
            ("203.0.113.9, 10.0.0.5:x", PEER),
            ("203.0.113.9, for=10.0.0.5", PEER),
            ("203.0.113.9 10.0.0.5", PEER),
            ("203.0.113.9, \"10.0.0.5\"", PEER),
            ("203.0.113.09", PEER),
            ("0xcb007109", PEER),
            ("203.0.113.9:65536", PEER),
            ("203.0.113.9:", PEER),
            ("[203.0.113.9]", PEER),
            ("[2001:db8:2::7", PEER),
            ("2001:db8:2::7]", PEER),
            ("fe80::1%eth0", PEER),
            ("[fe80::1%2]", PEER),
            ("[fe80::1%2]:443", PEER),
            ("\u{661}.1.1.1", PEER),
        ] {
            assert_eq!(client(&[value]), expected, "{value}");
        }
        let proxies = trusting(&[PEER]);
        assert_eq!(proxies.client(ip(PEER), [&b"1.1.1.1, \xff\xfe"[..]].into_iter()), ip(PEER));
    }

    #[test]
    fn ports_and_brackets_are_as_proxies_write_them() {
        for (value, expected) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8:2::7]", "2001:db8:2::7"),
            ("[2001:db8:2::7]:443", "2001:db8:2::7"),
            ("2001:DB8:2:0::7", "2001:db8:2::7"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"),
            ("203.0.113.9, [::ffff:10.0.0.2]:80", "203.0.113.9"),
        ] {
            assert_eq!(client(&[value]), expected, "{value}");
        }
    }

    /// A list of proxies alone is followed no further than any real one goes, and an element is no longer than an address is.
    #[test]
    fn the_walk_is_bounded() {
        let hops = FORWARDED_HOPS_MAX;
        let list = |proxies: usize| format!("203.0.113.9{}", ", 10.0.0.7".repeat(proxies));
        assert_eq!(client(&[&list(hops - 1)]), "203.0.113.9");
        assert_eq!(client(&[&list(hops)]), "10.0.0.7");
        let long = format!("{}203.0.113.9", "0".repeat(FORWARDED_ELEMENT_BYTES_MAX));
        assert_eq!(client(&[&long]), PEER);
    }
}
