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

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a machine that stands still for seconds adds to any limit: nothing is ever shown by how long something took.
const LIMIT_MIN: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; panics with `what` after `limit`, or half a minute where that is longer.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let (started, limit) = (Instant::now(), limit.max(LIMIT_MIN));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port of 127.0.0.1 that was free just now, for servers that cannot take port 0. It is below those that the kernel
/// chooses, and no two calls give the same one, so that nobody takes it in between.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(131);
    let free = (0..COUNT).find_map(|_| {
        let place = start.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + place).expect("ports end above that");
        std::net::TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    });
    free.expect("a free port")
}
