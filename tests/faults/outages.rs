//! Redis killed, frozen, torn, emptied and made to forget its scripts.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::checker::{Rule, Word, check};
use crate::refusals::{convict_lies, tell_lies};
use crate::scene::{Scene, TOTAL, sleep_up_to};
use crate::support::host::boxoffice;
use crate::support::redis_server::RedisServer;
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    (
        "SIGKILL of Redis with AOF always, at any write",
        "every acknowledged booking is there after each kill; sales go on by themselves",
        killed,
    ),
    (
        "SIGSTOP of Redis for 5 s",
        "503 in time and /readyz not ready, never a ticket and never \"sold out\"; then sales go on by themselves",
        frozen,
    ),
    (
        "Redis restarted with an empty script cache, and SCRIPT FLUSH under load",
        "scripts are loaded again; nothing is lost, nothing is booked twice",
        without_scripts,
    ),
    ("torn tail of Redis' AOF", "what was not acknowledged may go, all else is there", torn),
    (
        "Redis back empty",
        "a missing sale is not a sold-out one: 503 until an operator opens it, and no host opens it by itself",
        empty,
    ),
];

/// Rules that can be judged while hosts sell on: what is read page by page need not be of one moment.
const AT_ANY_TIME: [Rule; 6] =
    [Rule::Lost, Rule::Altered, Rule::BookedTwice, Rule::FalseSoldOut, Rule::OthersAnswer, Rule::Wrong];

/// Copies a folder of plain files.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a file");
    }
}

/// A Redis that lost its data: hosts and Redis down, an older copy of the AOF in place of the last one.
fn restore_old_copy(redis: &mut RedisServer, scene: &mut Scene, row: &mut Row) {
    // One whose promises were judged is sold out; its last sales are what an old copy lacks.
    let copy = redis.folder().join("old");
    for host in 0..scene.hosts.len() {
        scene.kill_host(host);
    }
    redis.kill();
    std::fs::remove_dir_all(redis.aof()).expect("the AOF");
    copy_folder(&copy, &redis.aof());
    redis.start_again();
    row.mutants.push(("an old copy of the AOF in its place", scene.expect_conviction(&[Rule::Lost])));
}

fn killed(effort: &Effort) -> Row {
    let mut row = Row::default();
    let kills = (effort.kills / 3).max(5);
    // Each start reads the whole file, and each judgement every booking, while buyers go on: a new sale after some kills
    // keeps that short, and the stock from selling out.
    const KILLS_PER_SALE: u32 = 40;
    for round in 0..kills.div_ceil(KILLS_PER_SALE) {
        let mut redis = RedisServer::durable_on_socket(&[]);
        let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 1, &[]);
        let crowd = scene.buyers("crowd", 8);
        crowd.wait_for(50);
        copy_folder(&redis.aof(), &redis.folder().join("old"));
        let of_this_round = (kills - round * KILLS_PER_SALE).min(KILLS_PER_SALE);
        for _ in 0..of_this_round {
            sleep_up_to(Duration::from_millis(150));
            redis.kill();
            let told = crowd.so_far();
            redis.start_again();
            scene.evidence.told = told;
            let mut broken = scene.judge();
            broken.retain(|violation| AT_ANY_TIME.contains(&violation.rule));
            row.violations.extend(broken);
            crowd.wait_for(5);
        }
        scene.evidence.told.clear();
        scene.keep(crowd);
        row.judge(of_this_round, &mut scene);
        if round == 0 {
            restore_old_copy(&mut redis, &mut scene, &mut row);
        }
    }
    row
}

fn frozen(effort: &Effort) -> Row {
    let mut row = Row::default();
    let mut redis = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let crowd = scene.buyers("crowd", 10);
    let mut lies = Vec::new();
    for _ in 0..effort.runs {
        crowd.wait_for(100);
        redis.freeze();
        std::thread::sleep(Duration::from_millis(20));
        let from = Instant::now();
        scene.wait_for_readiness(503);
        lies = tell_lies(&scene);
        std::thread::sleep(Duration::from_secs(5).saturating_sub(from.elapsed()));
        scene.unable_since(from, &crowd);
        redis.thaw();
        crowd.wait_for(100);
        scene.wait_for_readiness(200);
    }
    scene.keep(crowd);
    row.judge(effort.runs, &mut scene);
    convict_lies(&mut scene, lies, &mut row);
    row
}

fn without_scripts(effort: &Effort) -> Row {
    let mut row = Row::default();
    let mut redis = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let crowd = scene.buyers("crowd", 10);
    crowd.wait_for(50);
    copy_folder(&redis.aof(), &redis.folder().join("old"));
    let flushes = 40 * effort.runs;
    for _ in 0..flushes {
        redis.command(&["script", "flush"]);
        crowd.wait_for(5);
    }
    // A Redis that ends in order and starts again has no scripts either.
    for _ in 0..effort.runs {
        // It hangs up before it answers.
        let _ = redis.try_command(&["shutdown"]);
        redis.kill();
        redis.start_again();
        assert!(redis.command(&["info", "memory"]).contains("number_of_cached_scripts"));
        crowd.wait_for(50);
    }
    scene.keep(crowd);
    row.judge(flushes + effort.runs, &mut scene);
    restore_old_copy(&mut redis, &mut scene, &mut row);
    row
}

/// The end of a write that a power cut left: commands of a script, begun and not ended.
const TORN: &str = "*1\r\n$5\r\nMULTI\r\n*8\r\n$4\r\nHSET\r\n$17\r\nbx:{ticket}:stock\r\n$4\r\nsold\r\n$1\r\n7\r\n$8\r\nsequ";

fn torn(effort: &Effort) -> Row {
    let mut row = Row::default();
    let mut redis = RedisServer::durable_on_socket(&["--aof-load-truncated", "yes"]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let crowd = scene.buyers("crowd", 10);
    crowd.wait_for(50);
    let tears: Vec<usize> = (1..TORN.len()).step_by(TORN.len().div_ceil(4 * effort.runs as usize)).collect();
    for bytes in &tears {
        crowd.wait_for(20);
        redis.kill();
        let mut tail = std::fs::File::options().append(true).open(redis.aof_tail()).expect("an AOF");
        tail.write_all(&TORN.as_bytes()[..*bytes]).expect("an AOF that can be written");
        redis.start_again();
    }
    crowd.wait_for(50);
    scene.keep(crowd);
    row.judge(u32::try_from(tears.len()).expect("a few"), &mut scene);

    // More than a tail, and nobody left who remembers.
    for host in 0..scene.hosts.len() {
        scene.kill_host(host);
    }
    redis.kill();
    let tail = std::fs::File::options().write(true).open(redis.aof_tail()).expect("an AOF");
    let bytes = tail.metadata().expect("an AOF").len();
    tail.set_len(bytes * 2 / 3).expect("an AOF that can be cut");
    redis.start_again();
    row.mutants.push(("a third of the AOF cut off", scene.expect_conviction(&[Rule::Lost])));
    row
}

fn empty(effort: &Effort) -> Row {
    let mut row = Row::default();
    for run in 0..=effort.runs {
        // The last time somebody opens the sale at once: what a host must never do by itself.
        let is_mutant = run == effort.runs;
        let mut redis = RedisServer::durable_on_socket(&[]);
        let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
        let crowd = scene.buyers("crowd", 10);
        crowd.wait_for(100);
        redis.kill();
        std::fs::remove_dir_all(redis.aof()).expect("the AOF");
        redis.start_again();
        let from = Instant::now();
        let total = TOTAL.to_string();
        let open = ["sale", "open", "ticket", "--stock", &total, "--ledger", &redis.url()].map(str::to_owned);
        let open = || {
            let words: Vec<&str> = open.iter().map(String::as_str).collect();
            boxoffice(scene.folder.path(), &words).expect(0);
        };
        if is_mutant {
            open();
            crowd.wait_for(5);
        }
        std::thread::sleep(Duration::from_millis(2_500));
        scene.unable_since(from, &crowd);
        if !is_mutant {
            assert!(redis.command(&["keys", "bx:*stock"]).trim().is_empty(), "somebody opened the sale");
            let words: Vec<&str> = ["sale", "open", "ticket", "--stock", &total, "--ledger"].into();
            let url = redis.url();
            boxoffice(scene.folder.path(), &[&words[..], &[&url]].concat()).expect(0);
        }
        crowd.wait_for(50);
        scene.keep(crowd);
        if is_mutant {
            let broken = check(&scene.evidence);
            let sentence = broken.into_iter().find(|violation| violation.rule == Rule::WhileUnable);
            row.mutants.push(("the sale opened anew at once", sentence.expect("a mutant lives")));
        } else {
            // The operator chose to begin anew: what the old ledger had is not asked of the new one.
            for told in &mut scene.evidence.told {
                let is_old = told.answered_at < from;
                if is_old && matches!(told.word, Word::Booked { .. } | Word::Known { .. }) {
                    told.word = Word::NoAnswer;
                }
            }
            row.judge(1, &mut scene);
        }
    }
    row
}
