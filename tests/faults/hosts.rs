//! Hosts that die, freeze and run out of file descriptors.

use std::time::{Duration, Instant};

use crate::checker::Rule;
use crate::scene::Scene;
use crate::support::client::Client;
use crate::support::redis_server::RedisServer;
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    (
        "SIGKILL of a host each second",
        "acknowledged bookings stay, no id is booked twice, the other hosts sell the rest",
        killed,
    ),
    (
        "SIGSTOP of a host for 5 s",
        "the other host goes on selling; what the frozen one was asked is answered afterwards",
        frozen,
    ),
    (
        "file descriptors exhausted",
        "clients that are connected are served; nothing is lost; new ones are let in once there are descriptors",
        exhausted,
    ),
];

/// The ledger forgets an acknowledged booking.
pub fn forget_one(redis: &RedisServer, scene: &mut Scene, row: &mut Row) {
    let id = scene.some_acknowledged_id();
    assert_eq!(redis.command(&["hdel", "bx:{ticket}:bookings", &id]).trim(), "1");
    row.mutants.push(("HDEL of a booking behind the hosts' back", scene.expect_conviction(&[Rule::Lost])));
    assert!(!scene.audit().is_empty(), "the audit misses it");
}

fn killed(effort: &Effort) -> Row {
    let mut row = Row::default();
    let redis = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let kills = 4 * effort.runs;
    let crowd = scene.buyers("crowd", 10);
    crowd.wait_for(200);
    for turn in 0..kills {
        let struck = Instant::now();
        let index = turn as usize % 2;
        scene.kill_host(index);
        scene.restart_host(index);
        crowd.wait_for(50);
        std::thread::sleep(Duration::from_secs(1).saturating_sub(struck.elapsed()));
    }
    scene.keep(crowd);
    row.judge(kills, &mut scene);
    forget_one(&redis, &mut scene, &mut row);
    row
}

fn frozen(effort: &Effort) -> Row {
    let mut row = Row::default();
    let redis = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let crowd = scene.buyers("crowd", 10);
    for _ in 0..effort.runs {
        crowd.wait_for(100);
        let struck = Instant::now();
        scene.hosts[0].process.signal(libc::SIGSTOP);
        crowd.wait_for(200);
        std::thread::sleep(Duration::from_secs(5).saturating_sub(struck.elapsed()));
        scene.hosts[0].process.signal(libc::SIGCONT);
    }
    crowd.wait_for(100);
    scene.keep(crowd);
    row.judge(effort.runs, &mut scene);
    forget_one(&redis, &mut scene, &mut row);
    row
}

/// Lowers or restores how many files a process may have open.
fn limit_files(process: u32, most: u64) {
    let pid = libc::pid_t::try_from(process).expect("process ids are positive i32");
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both structures live on this stack for the whole of the calls, and the process is a child of ours that
    // was not waited for.
    let done = unsafe {
        let read = libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut limit);
        let new = libc::rlimit { rlim_cur: most.min(limit.rlim_max), rlim_max: limit.rlim_max };
        read | libc::prlimit(pid, libc::RLIMIT_NOFILE, &new, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "prlimit: {}", std::io::Error::last_os_error());
}

fn exhausted(effort: &Effort) -> Row {
    let mut row = Row::default();
    let redis = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 1, &[]);
    let crowd = scene.buyers("crowd", 10);
    crowd.wait_for(100);
    let pid = scene.hosts[0].process.id();
    for _ in 0..effort.runs {
        // Whatever is open stays open; nothing more can be.
        limit_files(pid, 3);
        crowd.wait_for(100);
        let mut strangers: Vec<Client> = (0..50).map(|_| Client::connect(scene.hosts[0].address)).collect();
        // Its connections to Redis break, and it has no descriptor for others.
        redis.command(&["client", "kill", "type", "normal"]);
        std::thread::sleep(Duration::from_millis(300));
        let from = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        scene.unable_since(from, &crowd);
        limit_files(pid, u64::MAX);
        crowd.wait_for(100);
        for stranger in &mut strangers {
            let status = stranger.get("/v1/sales/ticket").status;
            assert_eq!(status, 200, "a client that waited was let in");
        }
    }
    scene.keep(crowd);
    row.judge(effort.runs, &mut scene);
    forget_one(&redis, &mut scene, &mut row);
    row
}
