//! The HTTP API of the clients: routes, bodies in, bodies out. Knows messages and the domain, nothing of sockets.

pub mod decode;
pub mod encode;
pub mod openapi;
mod problem;
mod route;
pub mod sale;

pub use problem::Problem;
pub use route::Route;
