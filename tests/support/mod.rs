//! What the integration tests stand on: real servers, real clients, each in a folder of its own and on ports that
//! the kernel chose, each ended by its own process id. A missing server is a failure, never a skip.

// Compiled into each of five test programs, of which none uses all of it: what no program uses, none of them would tell.
#![allow(dead_code, reason = "each program uses a part of it")]

pub mod certificates;
pub mod client;
pub mod clusters;
pub mod crowd;
pub mod host;
pub mod nginx;
pub mod process;
pub mod redis_server;
pub mod schemathesis;
pub mod sentinels;
pub mod tmux;
pub mod tools;
pub mod turn;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// How long a test waits for anything before it fails, at least: a machine that others load may stand still for seconds,
/// and nothing is ever shown by how long something took.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; panics with `what` after `limit`, or [`PATIENCE`] where that is longer.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let (started, limit) = (Instant::now(), limit.max(PATIENCE));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port of 127.0.0.1 for servers that cannot take port 0, or that end and start again on the port that they had. It is
/// this process's until it ends, whether somebody listens there or not.
pub fn free_port() -> u16 {
    // Below those that the kernel chooses: no client's connection comes from there.
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let start = std::process::id().wrapping_mul(131);
    let free = (0..COUNT).find_map(|_| {
        let place = start.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + place).expect("ports end above that");
        reserve(port).ok().map(|socket| (port, socket))
    });
    let (port, socket) = free.expect("a free port");
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    port
}

/// A socket that is bound there and never listens. Without SO_REUSEADDR it is bound only where no other socket is, so that
/// no other test program has the port; with it from then on, servers, which all set it, bind and listen there all the same.
fn reserve(port: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// A CPU that this process may use, as `--cores` takes it.
pub fn one_core() -> String {
    let cores = core_affinity::get_core_ids().expect("the kernel tells which CPUs a process may use");
    cores.first().expect("a process may use a CPU").id.to_string()
}
