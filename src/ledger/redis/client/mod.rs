//! A Redis ledger that blocks: for the command line, the admin listener, audits and tests.
//!
//! Of one Redis it is one [connection](node); of a Cluster it has one to each [node that it needs](cluster).

mod cluster;
mod node;

use std::fmt;
use std::io;
use std::time::Duration;

use super::finder::{self, ClusterFinder, RedisFinder};
use super::keys::Keys;
use super::session::Errand;
use crate::ledger::Ledger;
use crate::ledger::tls::TlsFilesError;
use crate::ledger::url::{PasswordError, RedisAddress, RedisUrl};
use crate::limits::LEDGER_SILENCE_MS;
use crate::protocol::{Answer, Call, CallError, CallId, Durability};
use cluster::ClusterClient;
use node::{NodeClient, NodeReply};

/// Why there is no connection to Redis.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error(
        "cannot reach Redis at {address}: {cause}; is it running? start one: redis-server --appendonly yes --appendfsync always"
    )]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The address of that name is unknown.
    #[error("cannot reach Redis at {address}: {cause}")]
    NotFound {
        /// Where it should be.
        address: String,
        /// What is wrong, and what to do.
        cause: String,
    },
    /// Its password cannot be read.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// What TLS with it takes is not to be had.
    #[error(transparent)]
    TlsFiles(#[from] TlsFilesError),
    /// TLS with it fails: who it is, and what to do.
    #[error("{0}")]
    Tls(String),
    /// Redis answers, but does not let us in, or is not a Redis.
    #[error("Redis at {address} refused the connection: {cause}")]
    Refused {
        /// Where it is.
        address: String,
        /// What it said.
        cause: String,
    },
}

impl ConnectError {
    /// Whether what was configured is wrong, and not what is there.
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, ConnectError::Password(_) | ConnectError::TlsFiles(_))
    }
}

/// See the [module](self).
pub struct RedisLedger(LedgerKind);

enum LedgerKind {
    One(Box<NodeClient>),
    Cluster(Box<ClusterClient>),
}

impl RedisLedger {
    /// Connects and loads the scripts. Waits no longer than 5 seconds for any answer.
    pub fn connect(url: &RedisUrl) -> Result<RedisLedger, ConnectError> {
        RedisLedger::connect_with_timeout(url, Duration::from_millis(LEDGER_SILENCE_MS))
    }

    /// Like [`connect`](RedisLedger::connect), but waits no longer than `timeout` (above zero) for anything.
    pub fn connect_with_timeout(url: &RedisUrl, timeout: Duration) -> Result<RedisLedger, ConnectError> {
        match &url.address {
            RedisAddress::Cluster(seeds) => {
                RedisLedger::connect_to_cluster(ClusterFinder::new(url, seeds, false), url, timeout)
            }
            _ => RedisLedger::connect_by(&finder::of(url), url, timeout),
        }
    }

    /// The same, for a process that has others who look for this Redis.
    pub fn connect_by(
        finder: &RedisFinder,
        url: &RedisUrl,
        timeout: Duration,
    ) -> Result<RedisLedger, ConnectError> {
        let client = NodeClient::connect(finder.asker(|| ()), url, timeout)?;
        Ok(RedisLedger(LedgerKind::One(Box::new(client))))
    }

    /// The same, for a process that has others who look for the nodes of this Cluster.
    pub fn connect_to_cluster(
        finder: ClusterFinder,
        url: &RedisUrl,
        timeout: Duration,
    ) -> Result<RedisLedger, ConnectError> {
        let client = ClusterClient::connect(finder, url, timeout)?;
        Ok(RedisLedger(LedgerKind::Cluster(Box::new(client))))
    }

    /// Has the calls that follow wait for replicas as those of a host with that durability do: what an operator was told is done
    /// outlives the primary like what a client was told.
    pub fn wait_as(&mut self, of_host: Durability) {
        match &mut self.0 {
            LedgerKind::One(client) => client.wait_as(of_host),
            LedgerKind::Cluster(client) => client.wait_as(of_host),
        }
    }
}

impl Ledger for RedisLedger {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        if calls.is_empty() {
            return Vec::new();
        }
        match &mut self.0 {
            LedgerKind::One(client) => {
                let errand = |call: &Call| Errand::new(CallId(0), call.clone(), Keys::One);
                let errands: Vec<Errand> = calls.iter().map(errand).collect();
                let answer = |reply| match reply {
                    NodeReply::Answer(answer) => *answer,
                    // Nobody asks one Redis for a slot.
                    NodeReply::Redirect(redirect) => Err(CallError::Refused(format!("{redirect:?}"))),
                };
                match client.execute(&errands) {
                    Ok(replies) => replies.into_iter().map(answer).collect(),
                    Err(error) => vec![Err(error); calls.len()],
                }
            }
            LedgerKind::Cluster(client) => client.execute(calls),
        }
    }
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            LedgerKind::One(client) => client.fmt(f),
            LedgerKind::Cluster(client) => client.fmt(f),
        }
    }
}
