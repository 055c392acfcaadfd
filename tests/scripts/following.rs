//! Replicas that lag, are promoted and come back; clients that wait for them.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use boxoffice::ledger::redis::codec;

use crate::difference::Calls;
use crate::redis::{ModelRedis, Options};
use crate::told::{NOW_US, Told, command};

fn replica() -> ModelRedis {
    ModelRedis::new(Options { is_replica: true, ..Options::default() })
}

/// A primary with a booking `a`, and a replica that has it.
fn primary_and_replica() -> (Told, ModelRedis) {
    let mut primary = Told::new(Options::default());
    primary.open(9);
    primary.reserve(&["a"]);
    let mut replica = replica();
    replica.apply_full_copy(&primary.server.full_copy());
    (primary, replica)
}

fn catch_up(replica: &mut ModelRedis, primary: &ModelRedis) {
    let effects = primary.effects_since(replica.position()).expect("the same history");
    replica.apply_effects(primary.position(), &effects);
}

fn booked(server: &ModelRedis) -> Vec<String> {
    server.bookings("ticket").into_keys().collect()
}

/// All that a server has.
fn everything(server: &mut ModelRedis) -> String {
    let client = server.connect();
    let mut ask = |words: &[&str]| {
        server.handle_bytes(client, &command(words), NOW_US);
        server.poll_output(client).escape_ascii().to_string()
    };
    let mut all = ask(&["KEYS", "*"]);
    for part in ["stock", "bookings", "buyers"] {
        all += &ask(&["HGETALL", &format!("bx:{{ticket}}:{part}")]);
    }
    all += &ask(&["ZRANGE", "bx:{ticket}:holds", "0", "-1", "WITHSCORES"]);
    all + &ask(&["XRANGE", "bx:{ticket}:log", "-", "+"]) + &ask(&["SMEMBERS", "bx:sales"])
}

#[test]
fn a_replica_has_what_it_applied_and_no_more_when_it_is_promoted() {
    let (mut primary, mut replica) = primary_and_replica();
    primary.reserve(&["b"]);
    catch_up(&mut replica, &primary.server);
    let lagged = replica.position();
    primary.reserve(&["c"]);
    assert_eq!(booked(&replica), ["a", "b"]);
    assert_eq!(primary.server.replication_offset(), replica.replication_offset() + 1);

    replica.promote();
    // The old primary went further: it must forget that, and take everything anew.
    assert!(replica.effects_since(primary.server.position()).is_none());
    primary.server.apply_full_copy(&replica.full_copy());
    assert_eq!(booked(&primary.server), ["a", "b"]);
    // One that had not come further goes on.
    assert_eq!(replica.effects_since(lagged).map(|effects| effects.len()), Some(0));
}

#[test]
fn another_replica_follows_the_promoted_one_without_a_copy() {
    let (mut primary, mut first) = primary_and_replica();
    let mut second = replica();
    second.apply_full_copy(&primary.server.full_copy());
    primary.reserve(&["b"]);
    catch_up(&mut first, &primary.server);
    first.promote();
    let mut promoted = Told { client: first.connect(), server: first };
    promoted.load_scripts();
    promoted.reserve(&["c"]);
    catch_up(&mut second, &promoted.server);
    assert_eq!(booked(&second), ["a", "b", "c"]);
    assert_eq!(second.position(), promoted.server.position());
}

#[test]
fn a_replica_takes_no_writes_and_has_its_own_script_cache() {
    let (_, server) = primary_and_replica();
    let mut replica = Told { client: primary_and_replica().0.client, server };
    replica.reconnect();
    assert!(replica.reserve(&["b"]).starts_with("-NOSCRIPT "));
    replica.load_scripts();
    assert!(replica.reserve(&["b"]).starts_with("-READONLY "));
    assert!(replica.ask(&["SET", "a", "b"]).starts_with("-READONLY "));
    assert!(replica.ask(&["INFO", "replication"]).contains(r"\r\nrole:slave\r\n"));
    replica.server.promote();
    assert!(replica.reserve(&["b"]).contains(r"\ng"));
}

#[test]
fn a_replica_that_is_killed_keeps_what_it_copied() {
    let (mut primary, mut replica) = primary_and_replica();
    primary.reserve(&["b"]);
    catch_up(&mut replica, &primary.server);
    replica.crash_and_restart(crate::redis::Loss::Nothing, NOW_US);
    assert_eq!(booked(&replica), ["a", "b"]);
    assert!(primary.server.effects_since(replica.position()).is_none(), "it needs a full copy");
}

/// Whatever the calls are: carried out one by one elsewhere, their effects make the same data.
#[test]
fn effects_make_the_same_data_in_any_portions() {
    for seed in 0..40 {
        let mut calls = Calls::new(StdRng::seed_from_u64(seed));
        let mut primary = Told::new(Options::default());
        let (mut replica, mut trimmed) = (replica(), 0);
        replica.apply_full_copy(&primary.server.full_copy());
        primary.open(200);
        primary.ask(&["XGROUP", "CREATE", "bx:{ticket}:log", "mail", "0"]);
        for _ in 0..150 {
            let mut bytes = Vec::new();
            codec::pack(&calls.call(), &mut bytes);
            primary.server.handle_bytes(primary.client, &bytes, NOW_US);
            primary.output();
            if calls.chance(10) {
                let words =
                    ["XREADGROUP", "GROUP", "mail", "one", "COUNT", "150", "STREAMS", "bx:{ticket}:log", ">"];
                primary.ask(&words);
                let log = primary.server.log("ticket");
                for entry in log.iter().take(150) {
                    primary.ask(&[
                        "XACK",
                        "bx:{ticket}:log",
                        "mail",
                        &format!("{}-{}", entry.ms, entry.sequence),
                    ]);
                }
            }
            // As long as there is one; a sale may be removed, too.
            if let Some(stock) = primary.server.stock("ticket") {
                trimmed = stock.sequence - primary.server.log("ticket").len() as u64;
            }
            let effects = primary.server.effects_since(replica.position()).unwrap();
            let portion = calls.random.random_range(0..=effects.len());
            replica.apply_effects(primary.server.position(), &effects[..portion]);
        }
        catch_up(&mut replica, &primary.server);
        assert_eq!(
            everything(&mut replica),
            everything(&mut primary.server),
            "seed {seed}, {trimmed} trimmed"
        );
        primary.server.crash_and_restart(crate::redis::Loss::Nothing, NOW_US);
        assert_eq!(everything(&mut replica), everything(&mut primary.server), "seed {seed}, restarted");
    }
}

#[test]
fn wait_is_over_when_replicas_have_the_write_or_when_its_time_is() {
    let (mut primary, _) = primary_and_replica();
    primary.server.attach_replica(7);
    assert!(primary.ask(&["INFO", "replication"]).contains("slave0:ip=127.0.0.1,port=7,state=online"));
    assert_eq!(primary.ask(&["SET", "a", "1"]), r"+OK\r\n");
    let offset = primary.server.replication_offset();
    assert_eq!(primary.ask(&["WAIT", "1", "100"]), "");
    // What comes after it waits, too.
    assert_eq!(primary.ask(&["GET", "a"]), "");
    primary.server.note_replica_ack(7, offset - 1);
    assert_eq!(primary.output(), "");
    primary.server.note_replica_ack(7, offset);
    assert_eq!(primary.output(), r":1\r\n$1\r\n1\r\n");
    // Answered at once where they have it already.
    assert_eq!(primary.ask(&["WAIT", "1", "100"]), r":1\r\n");

    primary.ask(&["SET", "a", "2"]);
    assert_eq!(primary.ask(&["WAIT", "1", "100"]), "");
    assert_eq!(primary.server.next_deadline(), Some(NOW_US + 100_000));
    primary.server.handle_time(NOW_US + 99_999);
    assert_eq!(primary.output(), "");
    primary.server.handle_time(NOW_US + 100_000);
    assert_eq!(primary.output(), r":0\r\n");
}

#[test]
fn wait_is_for_the_last_write_of_its_own_connection() {
    let (mut primary, _) = primary_and_replica();
    primary.server.attach_replica(1);
    let (writer, reader) = (primary.server.connect(), primary.server.connect());
    primary.ask_by(writer, &["SET", "a", "1"], NOW_US);
    assert_eq!(primary.ask_by(reader, &["WAIT", "1", "0"], NOW_US), r":1\r\n");
    assert_eq!(primary.ask_by(writer, &["WAIT", "1", "0"], NOW_US), "");
    primary.server.detach_replica(1);
    primary.server.note_replica_ack(1, u64::MAX);
    assert_eq!(primary.server.poll_output(writer), b"");
}
