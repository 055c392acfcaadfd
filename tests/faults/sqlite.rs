//! The SQLite ledger: hosts killed at any write, a full disk, and files that are lost, moved, replaced and damaged.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::buyers::Buyers;
use crate::checker::{Rule, Violation};
use crate::refusals::{ToldLie, convict_lies, tell_lies};
use crate::scene::{Scene, TOTAL, sleep_up_to};
use crate::support::host::{Host, boxoffice_started};
use crate::{Effort, Play, Row};

pub const FAULTS: &[(&str, &str, Play)] = &[
    (
        "SIGKILL of a host with SQLite, at any write",
        "every acknowledged booking is there after each kill, and the audit is clean",
        killed,
    ),
    (
        "disk full for SQLite",
        "503 and /readyz not ready, never \"sold out\"; sales go on by themselves once there is space",
        full,
    ),
    (
        "SQLite file deleted while it is served",
        "503 and /readyz not ready; copied back from the open file as the log says, it has every booking",
        deleted,
    ),
    (
        "SQLite file, or its log, moved away and back",
        "503 and /readyz not ready while it is away; then sales go on by themselves",
        moved,
    ),
    (
        "SQLite file replaced or written over while it is served",
        "503 and /readyz not ready until the host starts again on the right file",
        replaced,
    ),
    (
        "SQLite file gone or damaged at the start",
        "the host says so and ends: no empty ledger in the place of a lost one",
        unusable,
    ),
];

/// The log of a killed host is thrown away: what it alone had is gone.
const LOG_LOST: &str = "the write-ahead log deleted after a kill";

fn killed(effort: &Effort) -> Row {
    // Two at a time: what takes time is the disk.
    let half = effort.kills.div_ceil(2).max(3);
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..2).map(|_| scope.spawn(|| killed_in_turn(half))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("a lane of kills, see above")).collect()
    });
    let mut all = Row::default();
    for row in rows {
        all.runs += row.runs;
        all.answers += row.answers;
        all.violations.extend(row.violations);
        all.mutants = row.mutants;
    }
    all
}

fn killed_in_turn(kills: u32) -> Row {
    const KILLS_PER_FILE: u32 = 50;
    let mut row = Row::default();
    for round in 0..kills.div_ceil(KILLS_PER_FILE) {
        let mut scene = Scene::with_sqlite();
        let crowd = scene.buyers("crowd", 6);
        let of_this_file = (kills - round * KILLS_PER_FILE).min(KILLS_PER_FILE);
        for kill in 0..of_this_file {
            crowd.wait_for(3);
            sleep_up_to(Duration::from_millis(80));
            scene.kill_host(0);
            scene.evidence.told = crowd.so_far();
            // Nobody has answered yet for what was on its way.
            row.violations.extend(scene.judge().into_iter().filter(|broken| broken.rule != Rule::Stranded));
            if kill % 4 == 3 {
                kill_while_it_starts(&scene);
                row.runs += 1;
            }
            if kill % 8 == 7 {
                row.violations.extend(scene.audit());
            }
            scene.restart_host(0);
        }
        crowd.wait_for(10);
        scene.evidence.told.clear();
        scene.keep(crowd);
        if round == 0 {
            row.mutants.push((LOG_LOST, lose_the_log()));
        }
        row.judge(of_this_file, &mut scene);
    }
    row
}

/// A start is writes, too: the log of the last host is read, and carried over.
fn kill_while_it_starts(scene: &Scene) {
    let words = scene.words();
    let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    all.extend(words.iter().map(String::as_str));
    let mut host = boxoffice_started(scene.folder.path(), &all);
    sleep_up_to(Duration::from_millis(40));
    host.kill();
}

fn lose_the_log() -> Violation {
    let mut scene = Scene::with_sqlite();
    let crowd = scene.buyers("crowd", 6);
    crowd.wait_for(30);
    scene.kill_host(0);
    std::fs::remove_file(log_of(&scene.database())).expect("a log");
    scene.restart_host(0);
    scene.keep(crowd);
    scene.expect_conviction(&[Rule::Lost])
}

fn log_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Asserts that nothing is sold for a while; gives the lies that were told meanwhile.
fn expect_unable(scene: &mut Scene, crowd: &Buyers) -> Vec<ToldLie> {
    let from = Instant::now();
    scene.wait_for_readiness(503);
    let lies = tell_lies(scene);
    std::thread::sleep(Duration::from_millis(700).saturating_sub(from.elapsed()));
    scene.unable_since(from, crowd);
    lies
}

#[track_caller]
fn expect_said(scene: &Scene, words: &[&str]) {
    for word in words {
        crate::support::eventually(&format!("the host says {word:?}"), Duration::from_secs(10), || {
            scene.hosts[0].process.said().contains(word).then_some(())
        });
    }
}

fn deleted(effort: &Effort) -> Row {
    let mut row = Row::default();
    for _ in 0..effort.runs {
        let mut scene = Scene::with_sqlite();
        let database = scene.database();
        let crowd = scene.buyers("crowd", 8);
        crowd.wait_for(100);
        std::fs::remove_file(&database).expect("the ledger");
        let lies = expect_unable(&mut scene, &crowd);
        expect_said(&scene, &["was deleted or moved", "/proc/"]);
        // As the log advises.
        let pid = scene.hosts[0].process.id();
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process of ours").flatten();
        let lost = open.map(|file| file.path()).find(|file| {
            std::fs::read_link(file).is_ok_and(|to| to.to_string_lossy().ends_with("boxoffice.db (deleted)"))
        });
        std::fs::copy(lost.expect("an open file"), &database).expect("a copy");
        // Another file, though the same bytes: only a start takes it.
        let more = expect_unable(&mut scene, &crowd);
        drop(more);
        scene.kill_host(0);
        scene.restart_host(0);
        crowd.wait_for(50);
        scene.keep(crowd);
        row.judge(1, &mut scene);
        row.mutants.clear();
        convict_lies(&mut scene, lies, &mut row);
        // Without the memory of the lock file, a lost ledger would be a new one.
        scene.kill_host(0);
        for name in ["boxoffice.db", "boxoffice.db-wal", "boxoffice.db-shm", "boxoffice.db.lock"] {
            std::fs::remove_file(scene.folder.path().join(name)).expect("a file of the ledger");
        }
        scene.restart_host(0);
        row.mutants.push(("an empty ledger in its place", scene.expect_conviction(&[Rule::Lost])));
    }
    row
}

fn moved(effort: &Effort) -> Row {
    let mut row = Row::default();
    let mut scene = Scene::with_sqlite();
    let aside = scene.folder.path().join("aside");
    let crowd = scene.buyers("crowd", 8);
    let mut lies = Vec::new();
    for _ in 0..effort.runs {
        for file in [scene.database(), log_of(&scene.database())] {
            crowd.wait_for(50);
            std::fs::rename(&file, &aside).expect("a file of the ledger");
            lies = expect_unable(&mut scene, &crowd);
            std::fs::rename(&aside, &file).expect("a file of the ledger");
            crowd.wait_for(50);
            scene.wait_for_readiness(200);
        }
    }
    expect_said(&scene, &["was deleted or moved", "is available again"]);
    scene.keep(crowd);
    row.judge(2 * effort.runs, &mut scene);
    convict_lies(&mut scene, lies, &mut row);
    row
}

fn replaced(effort: &Effort) -> Row {
    let mut row = Row::default();
    for _ in 0..effort.runs {
        // Somebody's other ledger, of the same sale.
        let mut other = Scene::with_sqlite();
        let crowd = other.buyers("other", 2);
        crowd.wait_for(10);
        other.keep(crowd);
        other.hosts[0].stop();
        for over in [false, true] {
            let mut scene = Scene::with_sqlite();
            let (database, kept) = (scene.database(), scene.folder.path().join("kept"));
            let crowd = scene.buyers("crowd", 8);
            crowd.wait_for(100);
            if over {
                let bytes = std::fs::read(other.database()).expect("a ledger");
                std::fs::copy(&database, &kept).expect("a ledger");
                std::fs::write(&database, bytes).expect("a file of ours");
            } else {
                std::fs::hard_link(&database, &kept).expect("a link");
                std::fs::copy(other.database(), scene.folder.path().join("new")).expect("a copy");
                std::fs::rename(scene.folder.path().join("new"), &database).expect("a file of ours");
            }
            let lies = expect_unable(&mut scene, &crowd);
            expect_said(&scene, &[if over { "written by another program" } else { "was replaced" }]);
            scene.kill_host(0);
            std::fs::rename(&kept, &database).expect("a file of ours");
            scene.restart_host(0);
            crowd.wait_for(50);
            scene.keep(crowd);
            row.judge(1, &mut scene);
            row.mutants.clear();
            convict_lies(&mut scene, lies, &mut row);
            // The other ledger, served as if it were this one.
            scene.hosts[0].stop();
            std::fs::copy(other.database(), &database).expect("a ledger");
            row.mutants.push(("the other ledger served", scene.expect_conviction(&[Rule::Lost])));
        }
    }
    row
}

fn unusable(effort: &Effort) -> Row {
    let mut row = Row::default();
    for _ in 0..effort.runs {
        let mut scene = Scene::with_sqlite();
        let database = scene.database();
        let crowd = scene.buyers("crowd", 8);
        crowd.wait_for(200);
        scene.keep(crowd);
        scene.hosts[0].stop();
        let honest = std::fs::read(&database).expect("a ledger");
        let words = scene.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut holed = honest.clone();
        let middle = honest.len() / 2 / 4096 * 4096;
        holed[middle..middle + 4096].fill(0x5a);
        let mut headless = honest.clone();
        headless[..100].fill(0);
        let ways: [(Option<&[u8]>, &str); 5] = [
            (None, "was a ledger and is gone"),
            (Some(b""), "was a ledger and is gone"),
            (Some(&holed), "is damaged"),
            (Some(&headless), "is damaged"),
            (Some(&honest[..honest.len() / 3]), "is damaged"),
        ];
        for (bytes, said) in ways {
            match bytes {
                Some(bytes) => std::fs::write(&database, bytes).expect("a file of ours"),
                None => std::fs::remove_file(&database).expect("a file of ours"),
            }
            match Host::try_start(scene.folder.path(), &words) {
                Ok(_) => panic!("a host serves a ledger that {said}"),
                Err(ended) => drop(ended.expect(1).saying(&[said])),
            }
            let after = std::fs::read(&database).ok();
            assert_eq!(after.as_deref(), bytes, "it must be left as it is");
            row.runs += 1;
        }
        std::fs::write(&database, &honest).expect("a file of ours");
        scene.restart_host(0);
        row.judge(0, &mut scene);
        row.mutants.clear();
        scene.hosts[0].stop();
        for name in ["boxoffice.db", "boxoffice.db.lock"] {
            std::fs::remove_file(scene.folder.path().join(name)).expect("a file of the ledger");
        }
        scene.restart_host(0);
        row.mutants.push(("an empty ledger in its place", scene.expect_conviction(&[Rule::Lost])));
    }
    row
}

/// A host whose ledger is on a disk of 12 MiB, of which a file takes up most (without it there is room for the longest
/// write-ahead log).
fn on_a_small_disk(scene: &Scene) -> (Host, PathBuf) {
    let disk = scene.folder.path().join("disk");
    std::fs::create_dir(&disk).expect("a folder");
    let mounts = "mount -t tmpfs -o size=12m tmpfs disk && head -c 11900000 /dev/zero >disk/filler";
    let sale = format!("ticket={TOTAL}");
    let words = ["--ledger", "sqlite:disk/boxoffice.db", "--sale", &sale, "--ledger-timeout", "1s"];
    let host = Host::try_start_behind(mounts, scene.folder.path(), &words).unwrap_or_else(|ended| {
        panic!("no host on a small disk (it takes a mount namespace, by root or by a user): {ended:?}")
    });
    let inside = PathBuf::from(format!("/proc/{}/root{}", host.process.id(), disk.display()));
    (host, inside)
}

fn full(effort: &Effort) -> Row {
    let mut row = Row::default();
    for _ in 0..effort.runs {
        let mut scene = Scene::empty("", "");
        let (host, disk) = on_a_small_disk(&scene);
        scene.adopt(host, disk.join("boxoffice.db"));
        let crowd = scene.buyers("crowd", 8);
        crowd.wait_for(20);
        // It fills by itself.
        scene.wait_for_readiness(503);
        expect_said(&scene, &["no space is left"]);
        let lies = tell_lies(&scene);
        std::thread::sleep(Duration::from_secs(1));
        std::fs::remove_file(disk.join("filler")).expect("the filler");
        crowd.wait_for(50);
        scene.wait_for_readiness(200);
        scene.keep(crowd);
        row.judge(1, &mut scene);
        row.mutants.clear();
        convict_lies(&mut scene, lies, &mut row);
    }
    row
}
