//! A host: what it opens, binds and starts, in which order, and how it ends. What it reads again on request, what it
//! keeps over restarts, what signals do to it, and what it has to do with a service manager.

mod listen;
mod reload;
mod server;
mod service_manager;
pub mod signals;
mod state_file;

pub use reload::Reload;
pub use server::{Server, StartError};
pub use service_manager::{PassedError, PassedSockets};
