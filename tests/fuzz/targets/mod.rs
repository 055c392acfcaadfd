//! What the fuzzers run, each a function of bytes that panics where the product is wrong. `fuzz_targets/` gives them to
//! libFuzzer, `stable.rs` runs them on stable Rust over the committed corpus and mutations of it.

mod access_log;
mod bodies;
mod chunks;
mod client;
mod connection;
mod peer;
mod proxied;
mod replies;
mod requests;
mod script;
mod session;
mod settings;
mod streams;

/// A target: its name, which its corpus has too, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("requests", requests::run),
    ("connection", connection::run),
    ("chunks", chunks::run),
    ("peer", peer::run),
    ("replies", replies::run),
    ("session", session::run),
    ("bodies", bodies::run),
    ("settings", settings::run),
    ("access_log", access_log::run),
    ("streams", streams::run),
    ("proxied", proxied::run),
];

/// Runs the target of that name.
///
/// # Panics
/// Where the product is wrong, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(other, _)| *other == name);
    target.expect("a target of that name").1(bytes);
}
