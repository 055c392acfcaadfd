//! A host: what it opens, binds and starts, in which order, and how it ends. What it reads again on request, what it
//! keeps over restarts, and what signals do to it.

mod listen;
mod reload;
mod server;
pub mod signals;
mod state_file;

pub use reload::Reload;
pub use server::{Server, StartError};
