//! From where an operator's call comes, as the log tells it.

use std::fmt;
use std::net::SocketAddr;

use crate::proxies::Client;

/// The other end of the connection, and whom it speaks for if it is a trusted proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) peer: SocketAddr,
    pub(super) client: Client,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client.proxy {
            Some(_) => write!(f, "{} by {}", self.client.address, self.peer),
            None => write!(f, "{}", self.peer),
        }
    }
}
