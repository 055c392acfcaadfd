//! Whose requests come by a connection: its peer's, or those of clients for whom a trusted proxy speaks.

use std::net::IpAddr;
use std::sync::Arc;

use crate::http::Request;
use crate::proxies::{Client, TrustedProxies};

/// The other end of a connection.
#[derive(Debug)]
pub struct Origin {
    /// Who sends, as far as the connection itself tells: the peer, or whom its PROXY header names.
    address: IpAddr,
    /// The peer, if it is a trusted proxy. Boxed, since clients that connect themselves have none.
    proxy: Option<Box<Proxy>>,
}

#[derive(Debug)]
struct Proxy {
    address: IpAddr,
    trusted: Arc<TrustedProxies>,
    /// Its requests tell for whom they are: not if they are of a client of its, known or not, that is no trusted proxy.
    forwards: bool,
}

impl Origin {
    /// A connection from `peer`, which is believed if it is among `trusted`.
    pub fn new(peer: IpAddr, trusted: &Arc<TrustedProxies>) -> Origin {
        let address = peer.to_canonical();
        let proxy = Proxy { address, trusted: Arc::clone(trusted), forwards: true };
        Origin { address, proxy: trusted.trusts(address).then(|| Box::new(proxy)) }
    }

    /// Whether the connection begins with a PROXY header. Never of a peer that is not trusted: what it sends is a request.
    pub(super) fn expects_header(&self) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.trusted.expects_header())
    }

    /// Takes note of the client that the PROXY header names; `None` if it names nobody.
    pub(super) fn learn(&mut self, client: Option<IpAddr>) {
        let Some(proxy) = &mut self.proxy else { return };
        proxy.forwards = client.is_some_and(|client| proxy.trusted.trusts(client));
        self.address = client.unwrap_or(self.address);
    }

    /// Who sends, as far as the connection itself tells.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Whose request that is.
    pub(super) fn client_of(&self, request: &Request<'_>) -> Client {
        let Some(proxy) = &self.proxy else { return Client { address: self.address, proxy: None } };
        let address = match proxy.forwards {
            true => proxy.trusted.client(self.address, request.field_values("X-Forwarded-For")),
            false => self.address,
        };
        Client { address, proxy: (address != proxy.address).then_some(proxy.address) }
    }
}
