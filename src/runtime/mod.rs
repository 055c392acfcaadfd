//! The I/O of the loops: sockets, threads, clocks, and the wiring of a host. The access log and the embedded ledger do
//! theirs on threads of their own.

mod clock;
mod drain;
mod ledger_thread;
mod listen;
mod redis_link;
mod reload;
mod server;
pub mod signals;
mod state_file;
mod wire;
mod worker;

pub use clock::SystemClock;
pub use drain::Drain;
pub use reload::Reload;
pub use server::{Server, StartError};
