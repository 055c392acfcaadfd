//! A Redis that is there and says no: each of its errors is a 503 for as long as it lasts, never a ticket and never
//! "sold out". Every error is Redis' own, got by doing to it what brings it about.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::buyers::{Buyers, ask_once};
use crate::checker::{Rule, Told};
use crate::proxy::{Lie, liar};
use crate::scene::Scene;
use crate::support::redis_server::RedisServer;
use crate::{Effort, Play, Row};

const PROMISE: &str =
    "503 while it lasts, never a ticket and never \"sold out\"; then sales go on by themselves";

pub const FAULTS: &[(&str, &str, Play)] = &[
    ("Redis answers LOADING", PROMISE, loading),
    ("Redis answers BUSY", PROMISE, busy),
    ("Redis answers OOM", PROMISE, out_of_memory),
    ("Redis answers MISCONF", PROMISE, misconfigured),
    ("Redis answers READONLY", PROMISE, read_only),
    (
        "Redis refuses every write, and nobody books",
        "/readyz and the metrics say so of each host within a second, the log once; 503 to who then books",
        unasked,
    ),
];

/// How long each error lasts at least.
const LASTS: Duration = Duration::from_millis(2_500);

/// A lie, with what was told and the rules of which one must convict it.
pub struct ToldLie {
    pub name: &'static str,
    pub rules: &'static [Rule],
    pub told: Told,
}

/// The lies that every row of this kind is shown: asked while the ledger is unable, through a proxy that makes of each
/// 503 something else.
pub fn tell_lies(scene: &Scene) -> Vec<ToldLie> {
    let host = scene.hosts[0].address;
    // What was told as unknown may come to be booked later: then the lie is one about the time alone.
    let booked: &[Rule] = &[Rule::Lost, Rule::WhileUnable];
    [
        ("a proxy that makes 503 a booking", Lie::Booked, booked),
        ("a proxy that makes 503 \"sold out\"", Lie::SoldOut, &[Rule::FalseSoldOut]),
    ]
    .map(|(name, lie, rules)| ToldLie {
        name,
        rules,
        told: ask_once(liar(host, lie), &format!("lied-to-{lie:?}"), 1),
    })
    .into()
}

/// Has the checker judge the scene with one of those lies in it at a time.
pub fn convict_lies(scene: &mut Scene, lies: Vec<ToldLie>, row: &mut Row) {
    for ToldLie { name, rules, told } in lies {
        scene.evidence.told.push(told);
        row.mutants.push((name, scene.expect_conviction(rules)));
        scene.evidence.told.pop();
    }
}

/// Plays an error: `begin` brings it about, `word` is what Redis then says to a write, `end` ends it.
fn play(
    effort: &Effort,
    redis: &mut RedisServer,
    word: &str,
    begin: impl Fn(&mut RedisServer, &Buyers),
    end: impl Fn(&mut RedisServer),
) -> Row {
    let mut row = Row::default();
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let crowd = scene.buyers("crowd", 10);
    let mut lies = Vec::new();
    for _ in 0..effort.runs {
        crowd.wait_for(100);
        begin(redis, &crowd);
        let from = Instant::now();
        let said = redis.command(&["hset", "some", "thing", "else"]);
        assert!(said.contains(word), "Redis does not say {word}: {said}");
        scene.wait_until_unready(word);
        lies = tell_lies(&scene);
        std::thread::sleep(LASTS.saturating_sub(from.elapsed()));
        let said = redis.command(&["hset", "some", "thing", "else"]);
        assert!(said.contains(word), "Redis does not say {word} any more: {said}");
        scene.unable_since(from, &crowd);
        end(redis);
        crowd.wait_for(100);
        scene.wait_for_readiness(200);
    }
    scene.keep(crowd);
    row.judge(effort.runs, &mut scene);
    convict_lies(&mut scene, lies, &mut row);
    row
}

fn unasked(effort: &Effort) -> Row {
    let mut row = Row::default();
    let redis = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let set = |count: &str| drop(redis.command(&["config", "set", "min-replicas-to-write", count]));
    let mut lies = Vec::new();
    for run in 0..effort.runs {
        set("1");
        let from = Instant::now();
        scene.wait_until_unready("NOREPLICAS");
        for host in &scene.hosts {
            assert_eq!(host.metrics()["boxoffice_unable{reason=\"refusing\"}"], 1.0);
        }
        let crowd = scene.buyers(&format!("crowd-{run}"), 10);
        lies = tell_lies(&scene);
        scene.unable_since(from, &crowd);
        set("0");
        crowd.wait_for(100);
        scene.wait_for_readiness(200);
        scene.keep(crowd);
        for host in &scene.hosts {
            let log = host.process.said();
            let times = |words: &str| log.lines().filter(|line| line.contains(words)).count();
            let told = (times("refuses writes"), times("is available again"));
            assert_eq!(told, (run as usize + 1, run as usize + 1), "{log}");
        }
    }
    row.judge(effort.runs, &mut scene);
    convict_lies(&mut scene, lies, &mut row);
    row
}

fn loading(effort: &Effort) -> Row {
    let mut redis = RedisServer::durable_on_socket(&["--rdbcompression", "no"]);
    // Something to load: each key takes its time, and Redis speaks to clients after each.
    for key in 0..150 {
        redis.command(&["set", &format!("filler-{key}"), &"x".repeat(2_000)]);
    }
    let begin = |redis: &mut RedisServer, _: &Buyers| {
        // Of the commands behind a snapshot, Redis loads a thousand before it speaks again.
        redis.command(&["bgrewriteaof"]);
        crate::support::eventually("the AOF is rewritten", Duration::from_secs(10), || {
            let told = redis.command(&["info", "persistence"]);
            let idle = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
            idle.iter().all(|word| told.contains(word)).then_some(())
        });
        redis.kill();
        redis.set_options(&["--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024"]);
        redis.begin_again();
        crate::support::eventually("redis-server loads", Duration::from_secs(10), || {
            redis.try_command(&["ping"]).is_ok_and(|said| said.contains("LOADING")).then_some(())
        });
    };
    let end = |redis: &mut RedisServer| {
        redis.kill();
        redis.set_options(&["--rdbcompression", "no"]);
        redis.start_again();
    };
    play(effort, &mut redis, "LOADING", begin, end)
}

fn busy(effort: &Effort) -> Row {
    let mut redis = RedisServer::durable_on_socket(&["--busy-reply-threshold", "100"]);
    let begin = |redis: &mut RedisServer, _: &Buyers| {
        // Somebody else's script that never ends.
        let socket = redis.socket();
        let script = Command::new("redis-cli")
            .arg("-s")
            .arg(socket)
            .args(["eval", "while true do end", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-cli starts");
        std::thread::spawn(move || {
            let mut script = script;
            script.wait()
        });
        crate::support::eventually("Redis is busy", Duration::from_secs(10), || {
            redis.try_command(&["ping"]).is_ok_and(|said| said.contains("BUSY")).then_some(())
        });
    };
    let end = |redis: &mut RedisServer| drop(redis.command(&["script", "kill"]));
    play(effort, &mut redis, "BUSY", begin, end)
}

fn out_of_memory(effort: &Effort) -> Row {
    let mut redis = RedisServer::durable_on_socket(&[]);
    let set = |redis: &mut RedisServer, bytes: &str| {
        redis.command(&["config", "set", "maxmemory", bytes, "maxmemory-policy", "noeviction"]);
    };
    play(effort, &mut redis, "OOM", |redis, _| set(redis, "1"), |redis| set(redis, "0"))
}

/// A snapshot that cannot be written stops writes. The file's name is a folder's, which also stops root.
fn misconfigured(effort: &Effort) -> Row {
    let mut redis = RedisServer::durable_on_socket(&["--dbfilename", "blocked"]);
    let save = |redis: &RedisServer, status: &str| {
        redis.command(&["bgsave"]);
        crate::support::eventually("the snapshot ends", Duration::from_secs(10), || {
            redis.command(&["info", "persistence"]).contains(status).then_some(())
        });
    };
    let begin = |redis: &mut RedisServer, _: &Buyers| {
        let blocked = redis.folder().join("blocked");
        let _ = std::fs::remove_file(&blocked);
        std::fs::create_dir(&blocked).expect("a folder");
        redis.command(&["config", "set", "save", "86400 1"]);
        save(redis, "rdb_last_bgsave_status:err");
    };
    let end = |redis: &mut RedisServer| {
        std::fs::remove_dir(redis.folder().join("blocked")).expect("a folder");
        save(redis, "rdb_last_bgsave_status:ok");
    };
    play(effort, &mut redis, "MISCONF", begin, end)
}

fn read_only(effort: &Effort) -> Row {
    let mut redis = RedisServer::durable_on_socket(&[]);
    // A replica of a primary that is not there: it keeps what it has.
    let begin = |redis: &mut RedisServer, _: &Buyers| drop(redis.command(&["replicaof", "127.0.0.1", "1"]));
    let end = |redis: &mut RedisServer| drop(redis.command(&["replicaof", "no", "one"]));
    play(effort, &mut redis, "READONLY", begin, end)
}
