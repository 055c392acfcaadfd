//! HTTP/1.1 by raw bytes, over real sockets: one table of requests, right and wrong, sent to a real boxoffice in every
//! fragmentation, and to a real nginx; streams of nonsense, of which every refusal is counted; and what only sockets show.
//!
//! The table is in [`cases`]. The unit tests of the connection run it too, without sockets.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod cases;
mod nonsense;
mod proxy;
mod sockets;
mod table;
mod talk;

use boxoffice::limits;
