//! Rights of the Redis user that are taken away while hosts sell: a script that is denied something runs as a whole or not
//! at all, and nothing is sold until the right is back.

use std::time::{Duration, Instant};

use crate::checker::Rule;
use crate::refusals::{convict_lies, tell_lies};
use crate::scene::Scene;
use crate::support::redis_server::RedisServer;
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[(
    "a right of the Redis user taken away in mid-sale",
    "503 and /readyz names the right; no call is carried out by half; then sales go on by themselves",
    taken_away,
)];

/// What a booking needs after the first write of its script, at that write, before it, and to be asked at all.
const RIGHTS: [&str; 4] = ["hset", "xadd", "hmget", "evalsha"];

/// How long each is missing at least.
const LASTS: Duration = Duration::from_millis(1_000);

fn taken_away(effort: &Effort) -> Row {
    let mut row = Row::default();
    let redis = RedisServer::durable_on_socket(&[]);
    let set = |change: &str| drop(redis.command(&["acl", "setuser", "boxoffice", change]));
    redis.command(&["acl", "setuser", "boxoffice", "on", ">secret", "~bx:*", "+@all"]);
    let host_url = redis.url().replace("://", "://boxoffice:secret@");
    let mut scene = Scene::with_redis(&host_url, &redis.url(), 2, &[]);
    let crowd = scene.buyers("crowd", 10);
    let mut lies = Vec::new();
    for _ in 0..effort.runs {
        for right in RIGHTS {
            crowd.wait_for(100);
            set(&format!("-{right}"));
            let from = Instant::now();
            scene.wait_until_unready(right);
            lies = tell_lies(&scene);
            std::thread::sleep(LASTS.saturating_sub(from.elapsed()));
            scene.unable_since(from, &crowd);
            set(&format!("+{right}"));
            scene.wait_for_readiness(200);
        }
    }
    crowd.wait_for(100);
    scene.keep(crowd);
    row.judge(effort.runs * RIGHTS.len() as u32, &mut scene);
    convict_lies(&mut scene, lies, &mut row);
    // The verdict has sold all there was.
    redis.command(&["hincrby", "bx:{ticket}:stock", "total", "10"]);
    set("-hset");
    book_unasked(&redis);
    set("+hset");
    book_unasked(&redis);
    let sentence = scene.expect_conviction(&[Rule::BookedTwice]);
    row.mutants.push(("a script that does not ask for its rights, and is sent again", sentence));
    row
}

/// Books by the script of hosts without its question, as their user; Redis may deny it something.
fn book_unasked(redis: &RedisServer) {
    const QUESTION: &str = "if sequence == sequence_before then ask_for_rights() end";
    let script = concat!(include_str!("../../lua/sale.lua"), include_str!("../../lua/reserve.lua"));
    assert!(script.contains(QUESTION));
    let script = script.replace(QUESTION, "");
    let keys =
        ["stock", "bookings", "holds", "buyers", "log", "lost"].map(|part| format!("bx:{{ticket}}:{part}"));
    let mut words =
        vec!["--user", "boxoffice", "--pass", "secret", "--no-auth-warning", "eval", &script, "6"];
    words.extend(keys.iter().map(String::as_str));
    words.extend(["256", "1", "unasked", ""]);
    // Where it is denied something, that is what it says.
    let _ = redis.try_command(&words);
}
