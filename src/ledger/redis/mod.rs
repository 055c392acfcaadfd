//! The Redis ledger: what is sent, what comes back, and a blocking client.
//!
//! [`codec`] does no I/O and is shared by the event loops, which own their non-blocking sockets, and by
//! [`RedisLedger`], which the command line and the admin listener use. The rules themselves are in `lua/`.

mod advice;
mod bulk;
mod client;
pub mod codec;
mod fence;
pub mod finder;
mod fitness;
mod frame;
mod pack;
pub mod place;
mod read;
mod reply;
mod rights;
mod role;
mod scripts;
pub mod sentinel;
pub mod session;
mod stored;
mod survey;

pub use client::{ConnectError, RedisLedger};
