//! The connections of a loop, for any server: admission, keys and timers ([`Connections`]), and when their sockets are
//! read, written and closed ([`Driver`]).
//!
//! Nothing here does I/O or reads a clock, and nothing knows what a request means. The sockets are behind a trait
//! ([`Sockets`]), and so is the server ([`ConnectionServer`]): the loops have mio and the engine, operators have mio and
//! the admin listener, and the simulator has its network and the engine.

mod admission;
mod driver;
mod server;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;
pub mod timers;

pub use admission::{Admission, NotAdmitted};
pub use driver::{Driver, Readiness, Sockets};
pub use server::ConnectionServer;
pub use table::{ConnectionKey, Connections, Notes};
