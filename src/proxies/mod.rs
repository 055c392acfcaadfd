//! Proxies that are believed, and what they say of the clients that they speak for.
//!
//! Anybody can write an address into a request. So by default nobody is believed, and a client is whoever is at the other end
//! of the connection. Of a peer that the operator calls a trusted proxy two words count: the PROXY header with which it begins a
//! connection ([`header`]), and the field `X-Forwarded-For` of a request ([`TrustedProxies::client`]). What an untrusted peer
//! sends is read for neither.

mod forwarded;
pub mod header;

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Which peers are trusted proxies, and how they speak. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    expects_header: bool,
}

impl TrustedProxies {
    /// Those in `networks`. With `expects_header` each connection of theirs begins with a PROXY header, and nobody else may
    /// connect.
    pub fn new(networks: Vec<Network>, expects_header: bool) -> TrustedProxies {
        TrustedProxies { networks: networks.into_iter().map(|network| network.0).collect(), expects_header }
    }

    /// The same proxies, whose connections begin with no header.
    pub fn without_header(self) -> TrustedProxies {
        TrustedProxies { expects_header: false, ..self }
    }

    /// Whether `peer` is one of them. An IPv4 address may come as that of an IPv6 socket (`::ffff:10.0.0.1`).
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }

    /// Whether each connection begins with a PROXY header.
    pub fn expects_header(&self) -> bool {
        self.expects_header
    }
}

/// A network of trusted proxies: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// What is no [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor one with a prefix length.
    #[error("takes an IP address, or a network as ADDR/BITS: 10.0.0.7, 10.0.0.0/8, 2001:db8::/32")]
    Form,
    /// Bits are set behind the prefix: one of the two numbers is a mistake.
    #[error("has bits behind its prefix; the network of that length is {0}")]
    HostBits(IpNet),
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let network = match text.contains('/') {
            true => text.parse().map_err(|_| NetworkError::Form)?,
            false => IpNet::from(text.parse::<IpAddr>().map_err(|_| NetworkError::Form)?),
        };
        if network.addr() != network.network() {
            return Err(NetworkError::HostBits(network.trunc()));
        }
        Ok(Network(canonical(network)))
    }
}

/// A network of IPv4 addresses that is written as one of IPv6 (RFC 4291 section 2.5.5.2) is that network: peers are compared as
/// IPv4 addresses.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(v6) = network else { return network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(MAPPED_BITS)) {
        (Some(address), Some(bits)) => Ipv4Net::new(address, bits).map_or(network, IpNet::V4),
        _ => network,
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address, as far as it can be believed: the peer's, unless a trusted proxy names another.
    pub address: IpAddr,
    /// The peer, if that is a proxy that named the client.
    pub proxy: Option<IpAddr>,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    pub(super) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(super) fn trusting(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|text| text.parse().unwrap()).collect(), false)
    }

    #[test]
    fn nobody_is_trusted_unless_named() {
        for peer in ["127.0.0.1", "::1", "10.0.0.1", "0.0.0.0"] {
            assert!(!TrustedProxies::default().trusts(ip(peer)), "{peer}");
        }
        let proxies =
            trusting(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1", "::ffff:198.51.100.0/120"]);
        for (peer, is_trusted) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:11.1.2.3", false),
            ("::10.1.2.3", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("0.0.0.1", false),
            ("198.51.100.200", true),
            ("198.51.101.1", false),
        ] {
            assert_eq!(proxies.trusts(ip(peer)), is_trusted, "{peer}");
        }
        // All of one family is not all of the other.
        assert!(trusting(&["0.0.0.0/0"]).trusts(ip("::ffff:1.2.3.4")));
        assert!(!trusting(&["0.0.0.0/0"]).trusts(ip("2001:db8::1")));
        assert!(!trusting(&["::/0"]).trusts(ip("1.2.3.4")));
    }

    #[test]
    fn a_network_that_is_none_says_what_it_takes() {
        let wrong = |text: &str| Network::from_str(text).unwrap_err().to_string();
        for text in [
            "",
            "x",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "/8",
            "::/129",
            "10.0.0.0/8/8",
            "010.0.0.1",
            "a.b/8",
        ] {
            assert!(wrong(text).starts_with("takes an IP address"), "{text}");
        }
        assert_eq!(
            wrong("10.0.0.1/8"),
            "has bits behind its prefix; the network of that length is 10.0.0.0/8"
        );
        assert_eq!(
            wrong("2001:db8::1/64"),
            "has bits behind its prefix; the network of that length is 2001:db8::/64"
        );
    }
}
