//! Redis Cluster: who has which slots at every moment, and what a call becomes there.
//!
//! [`ClusterWatch`] asks for the map of slots, on a thread of its own; [parts](parts_of) are what a call is sent in. Nothing here
//! knows loops: those have `runtime/cluster.rs`, and who may wait the [client](super::RedisLedger).

mod parts;
mod watch;

pub use parts::{CallPart, Steps, answer_of, parts_of};
pub use watch::ClusterWatch;
