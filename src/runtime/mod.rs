//! The only I/O of the data path: sockets, threads, clocks, and the wiring of a host.

mod clock;
mod drain;
mod ledger_thread;
mod listen;
mod redis_link;
mod server;
mod worker;

pub use clock::SystemClock;
pub use drain::Drain;
pub use server::{Server, StartError};
