//! Which of its addresses a server is dialled at next.
//!
//! Each look-up may give them in another order, and another set: a name server rotates them, and a server moves. So those that
//! were tried are remembered, and not a place in the list.

use std::net::SocketAddr;

use super::Endpoint;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Rotation {
    /// Of the addresses that there are, those that were dialled since all of them were.
    tried: Vec<SocketAddr>,
}

impl Rotation {
    /// The place of the address to dial now: the first one that was not tried since all the others were.
    pub fn next(&mut self, endpoint: &Endpoint) -> usize {
        let (Endpoint::Tcp(addresses) | Endpoint::Tls(addresses, _)) = endpoint else { return 0 };
        self.tried.retain(|tried| addresses.contains(tried));
        let place = addresses.iter().position(|address| !self.tried.contains(address)).unwrap_or_else(|| {
            self.tried.clear();
            0
        });
        self.tried.extend(addresses.get(place));
        place
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn named(ports: &[u16]) -> Endpoint {
        Endpoint::Tcp(ports.iter().map(|&port| SocketAddr::from(([127, 0, 0, 1], port))).collect())
    }

    fn dialled(rotation: &mut Rotation, ports: &[u16]) -> u16 {
        ports[rotation.next(&named(ports))]
    }

    #[test]
    fn each_dial_takes_another_address_until_all_were_tried() {
        let mut rotation = Rotation::default();
        let dials: Vec<u16> = (0..7).map(|_| dialled(&mut rotation, &[1, 2, 3])).collect();
        assert_eq!(dials, [1, 2, 3, 1, 2, 3, 1]);
    }

    /// As name servers do. By its place in the list, the same address would be dialled each time.
    #[test]
    fn a_list_that_is_turned_each_time_is_tried_whole() {
        let mut rotation = Rotation::default();
        let lists = [[1, 2], [2, 1], [1, 2], [2, 1]];
        let dials: Vec<u16> = lists.iter().map(|list| dialled(&mut rotation, list)).collect();
        assert_eq!(dials, [1, 2, 1, 2]);
    }

    #[test]
    fn an_address_that_is_new_is_tried_first_and_one_that_is_gone_forgotten() {
        let mut rotation = Rotation::default();
        assert_eq!(dialled(&mut rotation, &[1, 2]), 1);
        assert_eq!(dialled(&mut rotation, &[1, 9]), 9);
        assert_eq!(dialled(&mut rotation, &[2]), 2);
        assert_eq!(rotation.tried.len(), 1);
        assert_eq!(rotation.next(&Endpoint::Unix("/a.sock".into())), 0);
        assert_eq!(rotation.next(&named(&[])), 0);
    }
}
