//! A password that is in a file, and changes while a host sells.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::host::{Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;
use crate::support::{PATIENCE, eventually};

/// A Redis with a user of that password, and its URL without one.
fn guarded(folder: &Path) -> (RedisServer, String) {
    let redis = RedisServer::start(folder);
    redis.command(&["acl", "setuser", "boxoffice", "on", ">first", "~*", "&*", "+@all"]);
    let url = redis.url().replace("redis://", "redis://boxoffice:@");
    (redis, url)
}

/// Ends each connection of that user; what dials again has to show its password.
fn cut(redis: &RedisServer) {
    redis.command(&["client", "kill", "user", "boxoffice"]);
}

#[test]
fn a_password_changes_without_a_restart() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let (redis, url) = guarded(folder.path());
    let file = folder.path().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let words =
        ["--ledger", &url, "--ledger-password-file", "password", "--state", "none", "--sale", "ticket=100"];
    let mut host = Host::start(folder.path(), &words);
    let booked = |host: &Host, id: &str| {
        let target = format!("/v1/sales/ticket/bookings/{id}");
        assert!(host.client().insist("PUT", &target, Some("{}")).is_booked(), "{id}");
    };
    booked(&host, "a");

    // As docs/ledgers.md says: the new one beside the old, the file, and the old one goes.
    redis.command(&["acl", "setuser", "boxoffice", ">second"]);
    std::fs::write(&file, "second\n").unwrap();
    redis.command(&["acl", "setuser", "boxoffice", "<first"]);
    booked(&host, "b");
    cut(&redis);
    booked(&host, "c");
    host.operator().put("/v1/sales/ticket", "{\"total\":200}").expect(200);

    // In the wrong order: it sells nothing until the file is right, and then it does, by itself.
    redis.command(&["acl", "setuser", "boxoffice", "resetpass", ">third"]);
    cut(&redis);
    eventually("it is denied", PATIENCE, || {
        let answer = host.operator().get("/readyz");
        (answer.status == 503 && answer.text().to_lowercase().contains("wrongpass")).then_some(())
    });
    std::fs::remove_file(&file).unwrap();
    eventually("the file is named", PATIENCE, || {
        let answer = host.operator().get("/readyz");
        (answer.status == 503 && answer.text().contains("cannot read the ledger's password from password"))
            .then_some(())
    });
    host.process.signal(libc::SIGHUP);
    eventually("the log says so", PATIENCE, || {
        host.process
            .said()
            .contains("the password file cannot be read, so the next connection to Redis will fail")
            .then_some(())
    });
    std::fs::write(&file, "third").unwrap();
    booked(&host, "d");
    eventually("it is ready", PATIENCE, || (host.operator().get("/readyz").status == 200).then_some(()));
    assert!(host.operator().get("/v1/sales/ticket").expect(200).json()["sold"] == 4);

    // Commands read it, too.
    let run = |words: &[&str]| {
        boxoffice(folder.path(), &[words, &["--ledger", &url, "--ledger-password-file", "password"]].concat())
    };
    run(&["sale", "list"]).expect(0).saying(&["ticket"]);
    run(&["sale", "set", "ticket", "--stock", "300"]).expect(0);
    run(&["audit", "ticket"]).expect(0);
    let said = host.process.said();
    assert!(
        ["first", "second", "third"].iter().all(|word| !said.contains(word)),
        "a password is told: {said}"
    );
    host.stop();
}

#[test]
fn a_password_file_that_is_none_is_named_at_the_start() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let (redis, url) = guarded(folder.path());
    let file = folder.path().join("password");
    let refused = |ledger: &str, code: i32, words: &[&str]| {
        let flags = ["--ledger", ledger, "--ledger-password-file", "password"];
        match Host::try_start(folder.path(), &flags) {
            Ok(host) => panic!("it starts: {:?}", host.greeting),
            Err(ended) => drop(ended.expect(code).saying(words)),
        }
        boxoffice(folder.path(), &[&["sale", "list"], &flags[..]].concat()).expect(code).saying(words);
    };
    refused(&url, 2, &["password from password", "No such file"]);
    std::fs::write(&file, "\n").unwrap();
    refused(&url, 2, &["password from password", "it is empty"]);
    std::fs::write(&file, "wrong\n").unwrap();
    refused(&url, 1, &["WRONGPASS"]);
    refused(&redis.url().replace("redis://", "redis://boxoffice:first@"), 2, &["leave one out"]);
    refused("sqlite:boxoffice.db", 2, &["is for Redis"]);
    // Root may read every file.
    if !am_root() {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
        refused(&url, 2, &["password from password", "Permission denied"]);
    }
}

fn am_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
