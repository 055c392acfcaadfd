//! How many connections a host has, on all its loops together: one count for all, and one for each peer address.
//!
//! Connections of a trusted proxy are not the proxy's, but of clients: one counts for the client that its PROXY header names, and
//! otherwise for no address.
//!
//! The bound is the host's, not a core's: the kernel distributes connections by hash, so one loop may have more of them
//! than another without anybody being refused. Touched only when a connection comes or goes.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::http::OVERLOADED;
use crate::limits::{ClientLimits, Limit};
use crate::proxies::TrustedProxies;

/// Parts of the table of addresses, each with its own lock.
const PARTS: usize = 16;

/// A host's count of its connections; its loops share one.
#[derive(Debug)]
pub struct Admission {
    open: AtomicUsize,
    connections_max: usize,
    address_connections_max: usize,
    proxies: Arc<TrustedProxies>,
    addresses: [Mutex<FxHashMap<Address, usize>>; PARTS],
}

/// Whose connections are counted together: an IPv4 address, or the first 64 bits of an IPv6 address, since a single
/// subscriber has all the others behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Address(u64);

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The server has no place for it, or takes no more connections.
    NoPlace,
    /// A limit was hit.
    Limit(Limit),
    /// Trusted proxies alone may connect, and it is none.
    Stranger,
}

impl NotAdmitted {
    /// What to tell it before its socket is closed. A stranger is told nothing.
    pub fn answer(self) -> &'static [u8] {
        match self {
            NotAdmitted::NoPlace | NotAdmitted::Limit(_) => OVERLOADED,
            NotAdmitted::Stranger => b"",
        }
    }
}

/// A connection that was admitted. Give it back by [`Admission::release`].
#[derive(Debug)]
#[must_use = "a connection that is never released is counted for ever"]
pub(super) struct AdmittedPeer {
    /// Its address, if addresses are counted.
    address: Option<Address>,
}

impl Address {
    fn of(peer: IpAddr) -> Address {
        match peer.to_canonical() {
            // No IPv6 peer has a network that begins with 32 zero bits (RFC 4291 section 2.4), but for `::1`, which
            // counts as 0.0.0.0.
            IpAddr::V4(address) => Address(u64::from(address.to_bits())),
            IpAddr::V6(address) => Address((Ipv6Addr::to_bits(address) >> 64) as u64),
        }
    }

    fn part(self) -> usize {
        // Neighbours in an address block differ in these bits.
        ((self.0 ^ self.0 >> 8 ^ self.0 >> 32) % PARTS as u64) as usize
    }
}

impl Admission {
    /// Without connections.
    pub fn new(limits: &ClientLimits) -> Admission {
        Admission {
            open: AtomicUsize::new(0),
            connections_max: limits.connections,
            address_connections_max: limits.address_connections,
            proxies: Arc::default(),
            addresses: Default::default(),
        }
    }

    /// The same, and these proxies are believed.
    pub fn behind(self, proxies: Arc<TrustedProxies>) -> Admission {
        Admission { proxies, ..self }
    }

    /// The proxies that are believed.
    pub(super) fn proxies(&self) -> &Arc<TrustedProxies> {
        &self.proxies
    }

    /// Connections of all loops now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether trusted proxies alone may connect, and that peer is none.
    pub(super) fn is_stranger(&self, peer: IpAddr) -> bool {
        self.proxies.expects_header() && !self.proxies.trusts(peer)
    }

    /// Admits a connection, or says which limit was hit.
    pub(super) fn admit(&self, peer: IpAddr) -> Result<AdmittedPeer, Limit> {
        // Relaxed, here and below: the number guards no other memory, and each loop gives back what it took.
        let more = |open| (open < self.connections_max).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(Limit::Connections);
        }
        let mut admitted = AdmittedPeer { address: None };
        match self.count(&mut admitted, peer) {
            Ok(()) => Ok(admitted),
            Err(limit) => {
                self.release(admitted);
                Err(limit)
            }
        }
    }

    /// Counts a connection that was admitted for that address, or says that there are as many of it as may be. Those of proxies
    /// are not counted so.
    pub(super) fn count(&self, admitted: &mut AdmittedPeer, address: IpAddr) -> Result<(), Limit> {
        if self.address_connections_max == 0 || self.proxies.trusts(address) {
            return Ok(());
        }
        assert!(admitted.address.is_none(), "a connection has one client");
        let address = Address::of(address);
        let mut part = self.part(address);
        let count = part.entry(address).or_default();
        if *count >= self.address_connections_max {
            return Err(Limit::AddressConnections);
        }
        *count += 1;
        admitted.address = Some(address);
        Ok(())
    }

    /// A connection that was admitted has ended.
    pub(super) fn release(&self, admitted: AdmittedPeer) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "more connections ended than came");
        let Some(address) = admitted.address else { return };
        let mut part = self.part(address);
        let count = part.get_mut(&address).expect("it was counted when it came");
        *count -= 1;
        if *count == 0 {
            // So that the table never has more entries than there are connections.
            part.remove(&address);
        }
    }

    fn part(&self, address: Address) -> std::sync::MutexGuard<'_, FxHashMap<Address, usize>> {
        self.addresses[address.part()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, address_connections: usize) -> Admission {
        Admission::new(&ClientLimits { connections, address_connections, ..ClientLimits::default() })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_taken_and_given_back() {
        let host = admission(2, 0);
        let one = host.admit(ip("10.0.0.1")).unwrap();
        let _other = host.admit(ip("10.0.0.1")).unwrap();
        assert_eq!(host.admit(ip("10.0.0.2")).unwrap_err(), Limit::Connections);
        assert_eq!(host.open(), 2);
        host.release(one);
        assert!(host.admit(ip("10.0.0.2")).is_ok());
    }

    #[test]
    fn addresses_are_counted_apart_and_forgotten() {
        let host = admission(10, 2);
        let held: Vec<_> = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1"]
            .map(|peer| host.admit(ip(peer)).unwrap())
            .into_iter()
            .collect();
        for full in ["10.0.0.1", "2001:db8::ffff"] {
            assert_eq!(host.admit(ip(full)).unwrap_err(), Limit::AddressConnections, "{full}");
        }
        assert_eq!(host.open(), 5, "who is refused takes no place");
        held.into_iter().for_each(|admitted| host.release(admitted));
        assert_eq!(host.open(), 0);
        assert!(host.addresses.iter().all(|part| part.lock().unwrap().is_empty()));
    }

    #[test]
    fn loops_that_race_never_take_more_than_there_is() {
        let host = admission(100, 60);
        let taken = std::thread::scope(|scope| {
            let loops: Vec<_> = (0..4)
                .map(|n| {
                    let (host, peer) = (&host, ip(if n % 2 == 0 { "10.0.0.1" } else { "10.0.0.2" }));
                    scope.spawn(move || (0..1_000).filter_map(|_| host.admit(peer).ok()).collect::<Vec<_>>())
                })
                .collect();
            loops.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(taken.len() <= 100);
        assert_eq!(host.open(), taken.len());
        taken.into_iter().for_each(|admitted| host.release(admitted));
        assert_eq!(host.open(), 0);
    }
}
