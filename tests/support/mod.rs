//! What the integration tests stand on: real servers, real clients, each in a folder of its own and on ports that
//! the kernel chose, each ended by its own process id. A missing server is a failure, never a skip.

pub mod client;
pub mod crowd;
pub mod host;
pub mod nginx;
pub mod process;
pub mod redis_server;
pub mod schemathesis;
pub mod tools;
pub mod turn;

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer; panics with `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port of 127.0.0.1 that was free just now, for servers that cannot take port 0.
pub fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("a bound socket has an address").port()
}
