//! The HTTP API of the clients: routes, bodies in, bodies out. Knows messages and the domain, nothing of sockets.

pub mod decode;
pub mod encode;
mod front_page;
pub mod hosts;
pub mod openapi;
mod problem;
mod route;
pub mod sale;

use std::fmt::Arguments;
use std::io::Write;

pub use front_page::front_page;
pub use problem::Problem;
pub use route::Route;

/// Appends formatted text to a body.
fn push(scratch: &mut Vec<u8>, arguments: Arguments<'_>) {
    scratch.write_fmt(arguments).expect("a Vec takes every byte");
}
