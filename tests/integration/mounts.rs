//! One SQLite file by two paths of which one is a mount: a bind mount of its folder, or of the file itself.

use crate::support::host::{Host, boxoffice};
use crate::support::turn;

/// Ways to the file `data/a.db` by a mount: what mounts it, and the other path.
const WAYS: [(&str, &str); 3] = [
    ("mkdir -p by-folder && mount --bind data by-folder", "sqlite:by-folder/a.db"),
    ("touch by-file.db && mount --bind data/a.db by-file.db", "sqlite:by-file.db"),
    // And a link to the mounted one.
    ("mkdir -p again && mount --bind data again && ln -sf again/a.db link.db", "sqlite:link.db"),
];

#[test]
fn whoever_comes_to_a_ledger_by_a_mount_is_no_second_writer() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let words = ["--ledger", "sqlite:data/a.db", "--sale", "ticket=10"];
    let mut host = Host::start(folder.path(), &words);
    for (n, (mounts, ledger)) in WAYS.iter().enumerate() {
        host.client().put(&format!("/v1/sales/ticket/bookings/b-{n}"), "{}").expect(201);
        let Err(ended) = Host::try_start_behind(mounts, folder.path(), &["--ledger", ledger]) else {
            panic!("{ledger} has two writers")
        };
        ended.expect(1).saying(&["mounted", "is in use by another boxoffice"]);
        host.operator().get("/readyz").expect(200);
    }
    host.client().put("/v1/sales/ticket/bookings/after", "{}").expect(201);
    host.stop();
    // And the other way round.
    let mut inside = Host::try_start_behind(WAYS[0].0, folder.path(), &["--ledger", WAYS[0].1]).unwrap();
    assert_eq!(inside.sale("ticket")["sold"], 4);
    let ended = Host::try_start(folder.path(), &words).err().expect("two writers");
    ended.expect(1).saying(&["is in use by another boxoffice"]);
    inside.client().put("/v1/sales/ticket/bookings/inside", "{}").expect(201);
    inside.stop();
    boxoffice(folder.path(), &["audit", "ticket", "--ledger", "sqlite:data/a.db"])
        .expect(0)
        .saying(&["5 sold", "no difference"]);
}

/// What was written last is in the log beside the other path: who serves the mounted file would sell from an old one.
#[test]
fn a_ledger_that_is_mounted_as_a_file_is_not_served_without_what_was_written_last() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let words = ["--ledger", "sqlite:data/a.db", "--sale", "ticket=10"];
    let mut host = Host::start(folder.path(), &words);
    host.client().put("/v1/sales/ticket/bookings/a", "{}").expect(201);
    host.process.kill();
    let (mounts, ledger) = WAYS[1];
    let Err(ended) = Host::try_start_behind(mounts, folder.path(), &["--ledger", ledger]) else {
        panic!("it is served without its log")
    };
    ended.expect(1).saying(&["mounted", "is another name"]);
    // By the folder it is whole.
    let inside = Host::try_start_behind(WAYS[0].0, folder.path(), &["--ledger", WAYS[0].1]).unwrap();
    assert_eq!(inside.sale("ticket")["sold"], 1);
}
