//! A Redis that lives and has lost sales: all of it emptied, or the one key without which a sale is not there. Hosts are
//! started with `--sale` as ever, and none of them may sell the same tickets again before an operator says so.

use std::time::{Duration, Instant};

use crate::buyers::{Buyers, ask_once};
use crate::checker::{Rule, Violation, Word};
use crate::refusals::{ToldLie, convict_lies, tell_lies};
use crate::scene::{Scene, TOTAL};
use crate::support::eventually;
use crate::support::redis_server::RedisServer;
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    (
        "FLUSHALL in mid-sale, and a host started again with --sale and its state file, then with a new one",
        "503 and /readyz names the sale until an operator opens it; then exactly the new stock sells",
        emptied,
    ),
    (
        "the stock key of a sale deleted in mid-sale, and hosts started again with --sale",
        "503 until an operator opens the sale, has it counted and resumes it; then exactly the rest sells, nothing twice",
        without_stock,
    ),
];

/// What an operator puts on sale in place of what was lost: another number than hosts are started with.
const NEW_STOCK: u64 = TOTAL - 50_000;

/// How long nobody looks after the sale, at least.
const LASTS: Duration = Duration::from_secs(1);

/// Each host says what is lost, and tells a buyer to ask again.
#[track_caller]
fn refused_everywhere(scene: &mut Scene, name: &str, row: &mut Row) {
    scene.wait_until_unready("the ledger has lost sale ticket:");
    for (number, host) in scene.hosts.iter().enumerate() {
        let told = ask_once(host.address, &format!("{name}-{number}"), 1);
        if told.word != Word::Unavailable {
            let what = format!("host {number} has lost its sale and says {:?}", told.word);
            row.violations.push(Violation { rule: Rule::WhileUnable, what });
        }
        scene.evidence.told.push(told);
    }
}

/// FLUSHALL, and one of two hosts started again in the way that is asked for; ends before an operator does anything.
fn lose_all(
    redis: &RedisServer,
    scene: &mut Scene,
    crowd: &Buyers,
    how: &[&str],
    row: &mut Row,
) -> Vec<ToldLie> {
    crowd.wait_for(100);
    redis.command(&["flushall"]);
    let from = Instant::now();
    scene.kill_host(0);
    scene.restart_host_with(0, how);
    refused_everywhere(scene, how.last().unwrap_or(&"as-it-was"), row);
    let lies = tell_lies(scene);
    std::thread::sleep(LASTS.saturating_sub(from.elapsed()));
    scene.unable_since(from, crowd);
    assert!(redis.command(&["keys", "bx:*stock"]).trim().is_empty(), "somebody opened the sale");
    lies
}

fn emptied(effort: &Effort) -> Row {
    let mut row = Row::default();
    for _ in 0..effort.runs {
        let redis = RedisServer::durable_on_socket(&[]);
        let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
        let crowd = scene.buyers("crowd", 10);
        let mut lies = Vec::new();
        for how in [&[][..], &["--state", "new.state"]] {
            lies = lose_all(&redis, &mut scene, &crowd, how, &mut row);
            scene.operate(&["sale", "open", "ticket", "--stock", &NEW_STOCK.to_string()]);
            scene.wait_for_readiness(200);
            crowd.wait_for(100);
        }
        scene.keep(crowd);
        // The operator chose to begin anew: what was asked for before the last loss is not asked of the new sale.
        let (last_loss, _) = *scene.evidence.unable.last().expect("two losses");
        for told in &mut scene.evidence.told {
            let is_old = told.asked_at < last_loss;
            if is_old && matches!(told.word, Word::Booked { .. } | Word::Known { .. }) {
                told.word = Word::NoAnswer;
            }
        }
        row.judge(2, &mut scene);
        assert_eq!(scene.evidence.ledger.total, NEW_STOCK, "what the operator said is sold");
        if row.mutants.is_empty() {
            convict_lies(&mut scene, lies, &mut row);
            row.mutants
                .push(("nobody left who remembers: hosts killed, state file gone", forgotten_by_all()));
        }
    }
    row
}

/// What a start with `--sale` does where neither Redis, nor a host, nor a state file knows of the sale.
fn forgotten_by_all() -> Violation {
    let redis = RedisServer::durable_on_socket(&[]);
    let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
    let crowd = scene.buyers("crowd", 10);
    crowd.wait_for(20);
    (0..2).for_each(|host| scene.kill_host(host));
    redis.command(&["flushall"]);
    let from = Instant::now();
    scene.restart_host_with(0, &["--state", "new.state"]);
    crowd.wait_for(20);
    scene.unable_since(from, &crowd);
    scene.keep(crowd);
    scene.expect_conviction(&[Rule::WhileUnable])
}

fn without_stock(effort: &Effort) -> Row {
    let mut row = Row::default();
    for run in 0..=effort.runs {
        // The last time the sale is opened as if nothing were left of it: what `boxoffice sale open` must never do.
        let is_mutant = run == effort.runs;
        let redis = RedisServer::durable_on_socket(&[]);
        let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
        let crowd = scene.buyers("crowd", 10);
        crowd.wait_for(100);
        assert_eq!(redis.command(&["del", "bx:{ticket}:stock"]).trim(), "1");
        let from = Instant::now();
        for host in 0..2 {
            scene.kill_host(host);
            scene.restart_host(host);
        }
        refused_everywhere(&mut scene, "asked", &mut row);
        let lies = tell_lies(&scene);
        std::thread::sleep(LASTS.saturating_sub(from.elapsed()));
        if is_mutant {
            scene.unable_since(from, &crowd);
            open_uncounted(&redis);
            crowd.wait_for(50);
            scene.keep(crowd);
            let sentence = scene.expect_conviction(&[Rule::Miscounted]);
            row.mutants.push(("opened as if no booking were left", sentence));
            continue;
        }
        let paused_from = Instant::now();
        let said = scene.operate(&["sale", "open", "ticket", "--stock", &TOTAL.to_string()]);
        assert!(said.contains("paused"), "{said}");
        // Not sound before it is counted: a host starts all the same, and serves what else there is.
        scene.kill_host(0);
        scene.restart_host(0);
        scene.wait_until_unready("the ledger's record of sale ticket is not sound");
        scene.operate(&["audit", "ticket", "--repair"]);
        scene.unable_since(from, &crowd);
        scene.operate(&["sale", "resume", "ticket"]);
        for host in &scene.hosts {
            eventually("the sale is open", Duration::from_secs(4), || {
                let told = host.client().get("/v1/sales/ticket");
                (told.status == 200 && told.json()["status"] == "open").then_some(())
            });
        }
        scene.evidence.paused.push((paused_from, Instant::now()));
        scene.wait_for_readiness(200);
        crowd.wait_for(100);
        scene.keep(crowd);
        row.judge(1, &mut scene);
        if run == 0 {
            convict_lies(&mut scene, lies, &mut row);
        }
    }
    row
}

/// Opens the sale by the operators' script without its question for what is left of the one before.
fn open_uncounted(redis: &RedisServer) {
    const QUESTION: &str = "call('EXISTS', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]) > 0";
    let script = concat!(include_str!("../../lua/sale.lua"), include_str!("../../lua/open.lua"));
    assert!(script.contains(QUESTION));
    let script = script.replace(QUESTION, "false");
    let of_sale = ["stock", "bookings", "holds", "buyers", "log", "lost", "due"];
    let keys = of_sale.map(|part| format!("bx:{{ticket}}:{part}"));
    let total = TOTAL.to_string();
    let mut words = vec!["eval", &script, "10"];
    words.extend(keys.iter().map(String::as_str));
    words.extend(["bx:sales", "bx:changes", "bx:feed", &total, "", "", "", "", "0", "1", "ticket"]);
    let said = redis.command(&words);
    assert!(said.contains("created"), "{said}");
}
