//! The I/O of the loops: sockets, threads and clocks. The access log and the embedded ledger do theirs on threads of their
//! own.

mod clock;
pub mod cluster;
mod drain;
pub(crate) mod ledger_thread;
pub(crate) mod link;
pub mod reach;
pub mod redis_link;
pub mod router;
pub mod sockets;
pub(crate) mod worker;

pub use clock::SystemClock;
pub use drain::Drain;
