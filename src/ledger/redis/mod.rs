//! The Redis ledger: what is sent, what comes back, and a blocking client.
//!
//! [`codec`] does no I/O and is shared by the event loops, which own their non-blocking sockets, and by
//! [`RedisLedger`], which the command line and the admin listener use. The rules themselves are in `lua/`.

mod advice;
mod bulk;
mod client;
pub mod cluster;
pub mod codec;
mod fence;
pub mod finder;
mod fitness;
mod frame;
pub mod keys;
mod pack;
pub mod place;
mod read;
pub mod redirect;
mod reply;
mod rights;
mod role;
mod scripts;
pub mod sentinel;
pub mod session;
pub mod slots;
mod stored;
mod survey;
mod voice;

pub use client::{ConnectError, RedisLedger};
