//! What the model forgets when it is killed, and what it must not.

use boxoffice::ledger::redis::codec;

use crate::redis::{Fsync, Loss, ModelRedis, Options, Trouble};
use crate::told::{NOW_US, Told, command, reserve};

fn with(fsync: Fsync) -> Told {
    Told::new(Options { fsync, ..Options::default() })
}

#[test]
fn what_was_synced_before_the_reply_is_never_lost() {
    let mut told = with(Fsync::Always);
    told.open(5);
    told.reserve(&["a", "b"]);
    told.server.crash_and_restart(Loss::UnsyncedAfter(0), NOW_US);
    assert_eq!(told.booked(), ["a", "b"]);
    let stock = told.server.stock("ticket").unwrap();
    assert_eq!((stock.held, stock.sequence), (2, 2));
    assert_eq!(told.server.log("ticket").len(), 2);
}

#[test]
fn a_sync_every_second_loses_what_came_since_and_a_script_whole() {
    let mut told = with(Fsync::EverySecond);
    told.open(9);
    told.reserve(&["a"]);
    assert_eq!(told.server.next_deadline(), Some(NOW_US + 1_000_000));
    told.server.handle_time(NOW_US + 1_000_000);
    assert_eq!((told.server.unsynced(), told.server.next_deadline()), (0, None));

    let mut bytes = Vec::new();
    codec::pack(&reserve(&["b"]), &mut bytes);
    codec::pack(&reserve(&["c", "d"]), &mut bytes);
    told.server.handle_bytes(told.client, &bytes, NOW_US + 1_000_001);
    assert_eq!(told.server.unsynced(), 2);
    // The file ends within what the second call wrote.
    told.server.crash_and_restart(Loss::UnsyncedAfter(1), NOW_US + 1_000_002);
    assert_eq!(told.booked(), ["a", "b"]);
    assert_eq!(told.server.stock("ticket").unwrap().held, 2);
    // What is left is on the disk now.
    told.server.crash_and_restart(Loss::UnsyncedAfter(0), NOW_US + 1_000_003);
    assert_eq!(told.booked(), ["a", "b"]);
}

#[test]
fn a_process_that_is_killed_alone_loses_nothing_that_it_wrote() {
    for (appendonly, kept) in [(true, vec!["a"]), (false, vec![])] {
        let mut told = Told::new(Options { appendonly, fsync: Fsync::Never, ..Options::default() });
        told.open(5);
        told.reserve(&["a"]);
        told.server.crash_and_restart(Loss::Nothing, NOW_US);
        assert_eq!(told.booked(), kept);
    }
}

#[test]
fn without_its_file_it_comes_back_empty() {
    let mut told = with(Fsync::Always);
    told.open(5);
    told.server.crash_and_restart(Loss::Everything, NOW_US);
    assert!(told.server.sale_names().is_empty());
    told.reconnect();
    told.load_scripts();
    assert_eq!(told.reserve(&["a"]), r"$7\r\nmissing\r\n");
}

#[test]
fn a_restart_closes_connections_and_forgets_scripts() {
    let mut told = with(Fsync::Always);
    told.open(5);
    let half = command(&["SET", "key", "value"]);
    told.server.handle_bytes(told.client, &half[..9], NOW_US);
    told.server.crash_and_restart(Loss::Nothing, NOW_US);
    assert!(!told.server.is_connected(told.client));
    told.server.handle_bytes(told.client, &half[9..], NOW_US);
    assert_eq!(told.output(), "");
    told.reconnect();
    assert_eq!(told.ask(&["EXISTS", "key"]), r":0\r\n");
    assert!(told.reserve(&["a"]).starts_with("-NOSCRIPT "));
    told.load_scripts();
    assert!(told.reserve(&["a"]).contains(r"\ng"));
}

#[test]
fn a_script_that_fails_keeps_what_it_had_written() {
    let text = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('HGET', KEYS[1], 'field')";
    let mut told = with(Fsync::Always);
    let hash = told.ask(&["SCRIPT", "LOAD", text])[7..47].to_owned();
    let reply = told.ask(&["EVALSHA", &hash, "1", "key", "value"]);
    assert!(reply.starts_with("-WRONGTYPE "), "{reply}");
    assert_eq!(told.ask(&["GET", "key"]), r"$5\r\nvalue\r\n");
    told.server.crash_and_restart(Loss::Nothing, NOW_US);
    told.reconnect();
    assert_eq!(told.ask(&["GET", "key"]), r"$5\r\nvalue\r\n");
}

#[test]
fn commands_are_read_in_any_fragments_and_answered_in_order() {
    let commands: Vec<u8> =
        [command(&["SET", "a", "1"]), command(&["GET", "a"]), command(&["PING"])].concat();
    for step in 1..commands.len() {
        let mut server = ModelRedis::new(Options::default());
        let client = server.connect();
        let mut replies = Vec::new();
        for fragment in commands.chunks(step) {
            server.handle_bytes(client, fragment, NOW_US);
            replies.extend(server.poll_output(client));
        }
        assert_eq!(replies.escape_ascii().to_string(), r"+OK\r\n$1\r\n1\r\n+PONG\r\n", "in steps of {step}");
    }
}

#[test]
fn trouble_refuses_what_it_should_and_changes_nothing() {
    for trouble in Trouble::ALL {
        let mut told = with(Fsync::Always);
        told.open(5);
        told.server.set_trouble(Some(trouble));
        let reply = told.reserve(&["a"]);
        let word = match trouble {
            Trouble::Loading => "-LOADING ",
            Trouble::Busy => "-BUSY ",
            Trouble::OutOfMemory => "-OOM ",
            Trouble::DiskFailed => "-MISCONF ",
            Trouble::ReadOnly => "-READONLY ",
            Trouble::Strange => unreachable!("no Redis has it"),
        };
        assert!(reply.starts_with(word), "{trouble:?}: {reply}");
        assert!(told.booked().is_empty());
        told.server.set_trouble(None);
        assert!(told.reserve(&["a"]).contains(r"\ng"));
    }
}

#[test]
fn a_password_comes_first() {
    let mut told = Told {
        server: ModelRedis::new(Options { password: Some("secret".into()), ..Options::default() }),
        client: ModelRedis::new(Options::default()).connect(),
    };
    told.reconnect();
    assert!(told.ask(&["GET", "a"]).starts_with("-NOAUTH "));
    assert!(told.ask(&["AUTH", "wrong"]).starts_with("-WRONGPASS "));
    assert_eq!(told.ask(&["AUTH", "secret"]), r"+OK\r\n");
    assert_eq!(told.ask(&["GET", "a"]), r"$-1\r\n");
}

#[test]
fn its_wall_clock_may_be_anywhere() {
    let mut told = with(Fsync::Always);
    assert_eq!(told.ask_at(&["TIME"], 7_000_005), r"*2\r\n$1\r\n7\r\n$1\r\n5\r\n");
    told.server.set_clock_offset(-3_000_001);
    assert_eq!(told.ask_at(&["TIME"], 7_000_005), r"*2\r\n$1\r\n4\r\n$1\r\n4\r\n");
}
