//! A ledger that comes back without some of what it acknowledged, under live hosts: they put it back, and name what they
//! cannot.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::buyers::Buyers;
use crate::checker::{Rule, Violation};
use crate::failover::Pair;
use crate::scene::{Scene, TOTAL};
use crate::support::eventually;
use crate::support::host::boxoffice;
use crate::support::redis_server::RedisServer;
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    (
        "primary killed and a replica promoted that lagged, --durability ack",
        "every acknowledged booking is put back by the hosts before they sell on",
        failover,
    ),
    (
        "primary killed and a replica promoted that lagged, and no stock left for what it lacks",
        "each acknowledged booking that cannot be put back is named in the log, in the metrics and by the audit",
        failover_without_stock,
    ),
    (
        "SIGKILL of Redis with AOF every second, and the end of its AOF lost",
        "every acknowledged booking is put back by the hosts before they sell on",
        lost_tail,
    ),
    (
        "an old RDB copy in the place of Redis' data, under live hosts",
        "every acknowledged booking is put back by the hosts before they sell on",
        old_copy,
    ),
];

/// How long the ledger is ahead of what is left of it.
const LAG: Duration = Duration::from_millis(700);

/// What all hosts have counted so far, under that name.
fn counted(scene: &Scene, name: &str) -> u64 {
    let of_host = |host: &crate::support::host::Host| -> f64 {
        let metrics = host.metrics();
        metrics.iter().filter(|(sample, _)| sample.starts_with(name)).map(|(_, value)| value).sum()
    };
    scene.hosts.iter().map(|host| of_host(host) as u64).sum()
}

/// Waits until hosts have put bookings back and sell again. Without that the fault did not strike.
#[track_caller]
fn wait_until_put_back(scene: &Scene, crowd: &Buyers, before: u64) {
    eventually("hosts put bookings back", Duration::from_secs(20), || {
        (counted(scene, "boxoffice_bookings_put_back_total") > before).then_some(())
    });
    scene.wait_until_sold_from();
    crowd.wait_for(100);
    assert_eq!(counted(scene, "boxoffice_bookings_lost_total"), 0, "there was room for all");
}

/// A crowd at a pair whose replica was promoted without its last bookings, and to which nothing leads yet.
fn fallen_back() -> (Pair, Buyers) {
    let mut pair = Pair::start("ack");
    let crowd = pair.scene.buyers("crowd", 10);
    crowd.wait_for(100);
    pair.cut_off();
    crowd.wait_for(50);
    std::thread::sleep(LAG);
    pair.promote();
    (pair, crowd)
}

fn failover(effort: &Effort) -> Row {
    let mut row = Row::default();
    for _ in 0..effort.runs {
        let (mut pair, crowd) = fallen_back();
        pair.switch();
        wait_until_put_back(&pair.scene, &crowd, 0);
        pair.scene.keep(crowd);
        row.judge(1, &mut pair.scene);
    }
    row.mutants
        .push(("hosts killed with the primary: nobody remembers", crate::failover::forgotten_by_all()));
    row
}

/// Ids that the audit names as lost. Panics unless log and metrics agree.
#[track_caller]
fn reported_lost(scene: &Scene) -> BTreeSet<String> {
    let findings = scene.audit();
    let report = findings.first().map_or("", |violation| violation.what.as_str());
    let lines = report.lines().filter(|line| line.ends_with("(lost)"));
    let named: BTreeSet<String> = lines
        .filter_map(|line| line.split_once("booking ")?.1.split(':').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(counted(scene, "boxoffice_bookings_lost_total"), named.len() as u64, "{report}");
    let said: Vec<String> = scene.hosts.iter().map(|host| host.process.said()).collect();
    for id in &named {
        let needle = format!("booking={id} ");
        let lines = said.iter().flat_map(|said| said.lines()).filter(|line| line.contains(&needle));
        assert!(lines.filter(|line| line.contains("is lost")).count() > 0, "no log has {id}");
    }
    named
}

fn failover_without_stock(effort: &Effort) -> Row {
    let mut row = Row::default();
    for run in 0..effort.runs {
        let (mut pair, crowd) = fallen_back();
        let url = pair.replica.redis.url();
        // Others have bought all that the new primary had, before any host comes to it.
        let contents = pair.scene.read_ledger().expect("the promoted one can be read");
        let set = |scene: &Scene, stock: u64| {
            let words =
                ["sale", "set", "ticket", "--stock", &stock.to_string(), "--ledger", &url].map(str::to_owned);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            boxoffice(scene.folder.path(), &words).expect(0);
        };
        set(&pair.scene, contents.held + contents.sold);
        pair.switch();
        eventually("hosts report what is lost", Duration::from_secs(20), || {
            (counted(&pair.scene, "boxoffice_bookings_lost_total") > 0).then_some(())
        });
        pair.scene.wait_until_sold_from();
        set(&pair.scene, TOTAL);
        // A buyer that was told "sold out" meanwhile, which was true, has other ids now.
        crowd.wait_for(100);
        let told = crowd.finish();
        let told = told.into_iter().filter(|told| told.word != crate::checker::Word::SoldOut);
        pair.scene.evidence.told.extend(told);
        let named = reported_lost(&pair.scene);
        assert!(!named.is_empty(), "the fault did not strike");
        pair.scene.evidence.reported_lost = named;
        row.judge(1, &mut pair.scene);
        // That the audit names what was lost is promised.
        row.violations.retain(|violation| !is_lost_alone(violation));
        if run == 0 {
            let unnamed = pair.scene.evidence.reported_lost.pop_first();
            row.mutants.push(("one of them is not named", pair.scene.expect_conviction(&[Rule::Lost])));
            pair.scene.evidence.reported_lost.extend(unnamed);
        }
    }
    row
}

/// Whether an audit found nothing but lost bookings.
fn is_lost_alone(violation: &Violation) -> bool {
    let differences = violation.what.lines().filter(|line| line.starts_with("difference"));
    violation.rule == Rule::Audit
        && violation.what.contains("(lost)")
        && differences.into_iter().all(|line| line.ends_with("(lost)"))
}

/// Redis comes back with what it had a while ago, as `rewind` has it, and the hosts are live; then the same with hosts
/// killed.
fn rewound(
    effort: &Effort,
    options: &[&str],
    remember: impl Fn(&RedisServer),
    rewind: impl Fn(&RedisServer),
    row: &mut Row,
) {
    for run in 0..effort.runs {
        let mut redis = RedisServer::durable_on_socket(options);
        let mut scene = Scene::with_redis(&redis.url(), &redis.url(), 2, &[]);
        let crowd = scene.buyers("crowd", 10);
        crowd.wait_for(100);
        for _ in 0..2 {
            let before = counted(&scene, "boxoffice_bookings_put_back_total");
            remember(&redis);
            crowd.wait_for(50);
            std::thread::sleep(LAG);
            redis.kill();
            rewind(&redis);
            redis.start_again();
            wait_until_put_back(&scene, &crowd, before);
        }
        scene.keep(crowd);
        row.judge(2, &mut scene);
        if run == 0 {
            for host in 0..scene.hosts.len() {
                scene.kill_host(host);
            }
            redis.kill();
            rewind(&redis);
            redis.start_again();
            let sentence = scene.expect_conviction(&[Rule::Lost]);
            row.mutants.push(("hosts killed with Redis: nobody remembers", sentence));
        }
    }
}

fn lost_tail(effort: &Effort) -> Row {
    let mut row = Row::default();
    let bytes = std::cell::Cell::new(0);
    let length = |redis: &RedisServer| redis.aof_tail().metadata().expect("an AOF").len();
    // At the end of a transaction, as `redis-check-aof --fix` does it: RedisServer 7.0 leaves the commands of half a transaction
    // in the file when it starts, and carries them out when it starts the next time.
    let cut = |redis: &RedisServer| {
        let content = std::fs::read(redis.aof_tail()).expect("an AOF");
        let before = usize::try_from(bytes.get()).expect("a small file");
        let end = memchr::memmem::rfind(&content[..before], b"EXEC\r\n").expect("a transaction") + 6;
        std::fs::write(redis.aof_tail(), &content[..end]).expect("an AOF that can be cut");
    };
    rewound(effort, &["--appendfsync", "everysec"], |redis| bytes.set(length(redis)), cut, &mut row);
    row
}

fn old_copy(effort: &Effort) -> Row {
    let mut row = Row::default();
    let files = |redis: &RedisServer| (redis.folder().join("dump.rdb"), redis.folder().join("old.rdb"));
    let copy = |redis: &RedisServer| {
        redis.command(&["save"]);
        let (current, old) = files(redis);
        std::fs::copy(current, old).expect("a copy of the data");
    };
    let put = |redis: &RedisServer| {
        let (current, old) = files(redis);
        std::fs::copy(old, current).expect("the old data");
    };
    rewound(effort, &["--appendonly", "no"], copy, put, &mut row);
    row
}
