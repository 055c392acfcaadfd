//! Whether a Redis can keep the promise of a [`Durability`]: the questions, and what the answers mean to an operator.

use redis::Value;

use super::frame::frame_length;
use crate::limits::REPLICA_WAIT_MS;
use crate::protocol::Durability;

/// Appends the questions; returns how many replies they get, 0 if nothing needs to be known.
pub(super) fn ask(durability: Durability, out: &mut Vec<u8>) -> usize {
    match durability {
        Durability::Ack => 0,
        Durability::Aof => {
            // One pattern: Redis 6.2 takes no more.
            redis::cmd("CONFIG").arg("GET").arg("*append*").write_packed_command(out);
            redis::cmd("INFO").arg("persistence").write_packed_command(out);
            2
        }
        Durability::Replicas(_) => {
            redis::cmd("INFO").arg("replication").write_packed_command(out);
            1
        }
    }
}

/// Appends a write of that key and the WAIT for it; they get two replies.
///
/// The write is for answers that wrote nothing, such as that of a repeat: since Redis 7.2, WAIT waits for the last write of
/// its own connection, and what a repeat reports may have been written by another.
pub(super) fn wait(replicas: u32, mark: &str, out: &mut Vec<u8>) {
    redis::cmd("SET").arg(mark).arg(1).write_packed_command(out);
    redis::cmd("WAIT").arg(replicas).arg(REPLICA_WAIT_MS).write_packed_command(out);
}

/// Checks the replies to [`wait`].
///
/// # Errors
/// If too few replicas have what was written.
pub(super) fn judge_wait(replicas: u32, replies: &[u8]) -> Result<(), String> {
    let values = values(replies);
    match values.as_slice() {
        [Value::ServerError(error), _] | [_, Value::ServerError(error)] => {
            Err(format!("Redis does not wait for its replicas: {error}"))
        }
        [_, Value::Int(count)] if *count >= i64::from(replicas) => Ok(()),
        [_, Value::Int(count)] => Err(format!(
            "{count} of the {replicas} replicas that --durability replicas={replicas} requires had received the bookings \
             within {REPLICA_WAIT_MS} ms"
        )),
        _ => Err("the reply to WAIT was not understood".to_owned()),
    }
}

/// Checks the replies to [`ask`]. `was_unfit` means that the Redis failed the last check.
///
/// # Errors
/// Why it is unfit, and what to do.
pub(super) fn judge(durability: Durability, was_unfit: bool, replies: &[u8]) -> Result<(), String> {
    let values = values(replies);
    match (durability, values.as_slice()) {
        (Durability::Ack, _) => Ok(()),
        (Durability::Aof, [config, info]) => judge_aof(config, info, was_unfit),
        (Durability::Replicas(replicas), [info]) => judge_replicas(replicas, info),
        _ => Err("the replies to the checks for --durability were not understood".to_owned()),
    }
}

fn judge_aof(config: &Value, info: &Value, was_unfit: bool) -> Result<(), String> {
    if let Value::ServerError(error) = config {
        return Err(format!(
            "--durability aof must read how Redis persists data, which Redis denies ({error}); allow it to this user (ACL \
             SETUSER NAME '+config|get' '+info'), or serve with --durability ack"
        ));
    }
    let setting = |name: &str| setting(config, name);
    // The last of them would switch `always` off during a rewrite.
    for (name, wanted) in
        [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")]
    {
        let found = setting(name).unwrap_or_default();
        if found != wanted {
            return Err(format!(
                "Redis runs with {name} {found:?}, but --durability aof requires {wanted:?}; redis-cli CONFIG SET {name} \
                 {wanted} fixes it at once (CONFIG REWRITE keeps it), or serve with --durability ack"
            ));
        }
    }
    // An append-only file that was only just switched on is of use once its first rewrite is done.
    let is_under_way = |name| fact(info, name).is_some_and(|word| word != "0");
    if was_unfit && (is_under_way("aof_rewrite_in_progress") || is_under_way("aof_rewrite_scheduled")) {
        return Err(
            "Redis is still writing its first append-only file; --durability aof waits for that".into()
        );
    }
    Ok(())
}

fn judge_replicas(replicas: u32, info: &Value) -> Result<(), String> {
    if let Value::ServerError(error) = info {
        return Err(format!(
            "--durability replicas={replicas} must read which replicas there are, which Redis denies ({error}); \
                allow it to this user (ACL SETUSER NAME +info +wait +set), or serve with --durability ack"
        ));
    }
    if fact(info, "role") != Some("master") {
        return Err("this Redis is a replica, and takes no bookings".to_owned());
    }
    let online = text(info).lines().filter(|line| line.starts_with("slave") && line.contains("state=online"));
    let online = online.count();
    match online >= replicas as usize {
        true => Ok(()),
        false => Err(format!(
            "Redis has {online} of the {replicas} replicas that --durability replicas={replicas} requires; start more \
             (redis-server --replicaof HOST PORT), or serve with another --durability"
        )),
    }
}

/// The replies as values, errors included. Their frames must be whole.
pub(super) fn values(replies: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    let mut rest = replies;
    while let Ok(Some(length)) = frame_length(rest) {
        let (frame, after) = rest.split_at(length);
        rest = after;
        values.push(redis::parse_redis_value(frame).unwrap_or(Value::Nil));
    }
    values
}

/// A value of CONFIG GET, which alternates names and values.
fn setting<'a>(config: &'a Value, name: &str) -> Option<&'a str> {
    let Value::Array(items) = config else { return None };
    let pair = items.chunks_exact(2).find(|pair| text(&pair[0]) == name)?;
    Some(text(&pair[1]))
}

/// A line of INFO.
pub(super) fn fact<'a>(info: &'a Value, name: &str) -> Option<&'a str> {
    text(info).lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
}

fn text(value: &Value) -> &str {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    fn config(only: &str, fsync: &str, on_rewrite: &str) -> String {
        let items = ["appendfilename", "a.aof", "appendonly", only, "appendfsync", fsync];
        let more = ["no-appendfsync-on-rewrite", on_rewrite];
        let all: Vec<_> = items.iter().chain(&more).map(|text| bulk(text)).collect();
        format!("*{}\r\n{}", all.len(), all.concat())
    }

    fn aof(config: &str, rewriting: bool, was_unfit: bool) -> Result<(), String> {
        let info = format!("# Persistence\r\naof_rewrite_in_progress:{}\r\n", u8::from(rewriting));
        judge(Durability::Aof, was_unfit, (config.to_owned() + &bulk(&info)).as_bytes())
    }

    #[test]
    fn aof_takes_always_and_nothing_less_and_says_what_to_set() {
        assert_eq!(aof(&config("yes", "always", "no"), false, true), Ok(()));
        for (config, command) in [
            (config("no", "always", "no"), "CONFIG SET appendonly yes"),
            (config("yes", "everysec", "no"), "CONFIG SET appendfsync always"),
            (config("yes", "always", "yes"), "CONFIG SET no-appendfsync-on-rewrite no"),
            ("-NOPERM this user has no permissions\r\n".to_owned(), "+config|get"),
            ("*0\r\n".to_owned(), "CONFIG SET appendonly yes"),
        ] {
            let refusal = aof(&config, false, false).unwrap_err();
            assert!(refusal.contains(command), "{refusal}");
        }
    }

    #[test]
    fn an_append_only_file_just_switched_on_counts_after_its_first_rewrite() {
        let right = config("yes", "always", "no");
        assert!(aof(&right, true, true).is_err());
        assert_eq!(aof(&right, true, false), Ok(()), "any later rewrite keeps the file in use");
    }

    #[test]
    fn replicas_are_counted_where_they_are_online_and_only_of_a_master() {
        let judge =
            |replicas, info: &str| judge(Durability::Replicas(replicas), false, bulk(info).as_bytes());
        let one = "role:master\r\nconnected_slaves:2\r\nslave0:ip=1,port=1,state=online,lag=0\r\n\
                   slave1:ip=1,port=2,state=wait_bgsave,lag=0\r\n";
        assert_eq!(judge(1, one), Ok(()));
        assert!(judge(2, one).unwrap_err().contains("has 1 of the 2 replicas"));
        assert!(judge(1, "role:slave\r\n").is_err());
        assert!(
            super::judge(Durability::Replicas(1), false, b"-NOPERM no\r\n").unwrap_err().contains("+info")
        );
    }

    #[test]
    fn a_wait_is_over_only_when_enough_replicas_answered() {
        assert_eq!(judge_wait(2, b"+OK\r\n:2\r\n"), Ok(()));
        assert!(judge_wait(2, b"+OK\r\n:1\r\n").unwrap_err().starts_with("1 of the 2"));
        assert!(judge_wait(1, b"-READONLY no\r\n:1\r\n").is_err());
        assert!(judge_wait(1, b"+OK\r\n-ERR no\r\n").is_err());
    }
}
