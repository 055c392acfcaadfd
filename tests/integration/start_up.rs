//! A host says plainly where it listens, and plainly why it cannot: exit status 1 where the world is not as it needs
//! it, 2 where the command line is wrong.

use std::net::TcpListener;
use std::path::Path;

use crate::support::host::{Ended, Host, boxoffice};
use crate::support::turn;
use crate::support::{free_port, one_core};

#[track_caller]
fn fails(folder: &Path, words: &[&str]) -> Ended {
    match Host::try_start(folder, words) {
        Ok(host) => panic!("serve {words:?} starts: {:?}", host.greeting),
        Err(ended) => ended,
    }
}

#[test]
fn it_says_where_it_listens() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--cores", &one_core(), "--ledger", "sqlite:here.db"]);
    let greeting = host.greeting.join("\n");
    for words in [
        "boxoffice ",
        "listening on 127.0.0.1:",
        "1 loop",
        "core",
        "admin on 127.0.0.1:",
        "ledger sqlite:",
        "here.db",
    ] {
        assert!(greeting.contains(words), "no {words:?} in\n{greeting}");
    }
    assert!(folder.path().join("here.db").exists());
}

#[test]
fn a_port_that_is_taken() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for option in ["--listen", "--admin"] {
        fails(folder.path(), &[option, &address]).expect(1).saying(&[&address, "taken"]);
    }
    // By another boxoffice, although loops share their port among themselves.
    let other = Host::start(folder.path(), &["--ledger", "sqlite:other.db"]);
    let address = other.address.to_string();
    fails(folder.path(), &["--listen", &address]).expect(1).saying(&[&address, "taken"]);
}

#[test]
fn redis_that_is_not_there() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("redis://:secret@127.0.0.1:{}/0", free_port());
    let ended = fails(folder.path(), &["--ledger", &ledger]).expect(1).saying(&["127.0.0.1", "refused"]);
    assert!(!ended.said.contains("secret"), "the password is told: {}", ended.said);
}

#[test]
fn a_file_that_another_host_has() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let first = Host::start(folder.path(), &["--sale", "ticket=5"]);
    fails(folder.path(), &[]).expect(1).saying(&["boxoffice.db"]);
    first.client().get("/buy/ticket").expect(200);
    // Reading commands go beside it.
    boxoffice(folder.path(), &["sale", "show", "ticket"]).expect(0).saying(&["5"]);
}

#[test]
fn a_file_that_is_no_ledger() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.db"), "not a database, much longer than a header".repeat(40))
        .unwrap();
    fails(folder.path(), &["--ledger", "sqlite:notes.db"]).expect(1).saying(&["notes.db"]);
    fails(folder.path(), &["--ledger", "sqlite:no/such/folder/a.db"]).expect(1).saying(&["no/such/folder"]);
}

#[test]
fn a_core_that_the_machine_lacks() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let cores = format!("{},4095", one_core());
    fails(folder.path(), &["--cores", &cores]).expect(2).saying(&["CPU 4095", &cores]);
    fails(folder.path(), &["--cores", "first"]).expect(2).saying(&["first", "--cores"]);
}

#[test]
fn words_that_mean_nothing() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    for (words, said) in [
        (&["--listen", "nowhere"][..], &["nowhere", "--listen"][..]),
        (&["--ledger", "mysql://a"], &["mysql://a", "sqlite:", "redis://"]),
        (&["--sale", "ticket"], &["ticket", "--sale"]),
        (&["--sale", "ticket=many"], &["many"]),
        (&["--sale", "two words=5"], &["two words"]),
        (&["--sale", "ticket=5,hold=soon"], &["soon", "hold"]),
        (&["--weight", "0"], &["--weight"]),
        (&["--ledger-timeout", "2"], &["--ledger-timeout"]),
        (&["--buffer", "lots"], &["lots", "--buffer"]),
        (&["--frobnicate"], &["--frobnicate"]),
        (&["--config", "missing.toml"], &["missing.toml"]),
        (&["--admin", "0.0.0.0:0"], &["0.0.0.0", "--admin-token-file"]),
    ] {
        fails(folder.path(), words).expect(2).saying(said);
    }
    boxoffice(folder.path(), &["frobnicate"]).expect(2).saying(&["frobnicate"]);
    boxoffice(folder.path(), &["--version"]).expect(0).saying(&["boxoffice 0.1.0"]);
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("boxoffice.toml");
    let cores = format!("cores = \"{}\"\n", one_core());
    std::fs::write(&file, format!("ledger = \"sqlite:file.db\"\nsale = [\"ticket=3\"]\n{cores}")).unwrap();
    let host = Host::start(folder.path(), &["--config", "boxoffice.toml", "--ledger", "sqlite:flag.db"]);
    assert!(folder.path().join("flag.db").exists() && !folder.path().join("file.db").exists());
    assert_eq!(host.sale("ticket")["total"], 3);
    assert!(host.greeting.iter().any(|line| line.contains("1 loop")), "{:?}", host.greeting);
    std::fs::write(&file, "ledger = \"sqlite:file.db\"\nlegder = \"typo\"\n").unwrap();
    fails(folder.path(), &["--config", "boxoffice.toml"]).expect(2).saying(&["legder", "boxoffice.toml"]);
}
