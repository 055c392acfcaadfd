//! Whether a Redis is a primary: what ROLE answers, and what to do if it is not.
//!
//! A replica that takes writes (`replica-read-only no`) loses them with the next full copy of its primary, and one that was a
//! primary until a moment ago may not know yet. So a connection is used only after its Redis has said that it is a primary.

use redis::Value;

use super::fitness::values;
use super::{codec, rights};
use crate::ledger::Cause;

/// Judges the reply to ROLE. `is_needed` where a failover may make a replica of it at any time; where it is not, a user who
/// may not ask is taken on trust.
///
/// # Errors
/// Why the Redis cannot be used, and what to do.
pub(super) fn judge(reply: &[u8], is_needed: bool) -> Result<(), (Cause, String)> {
    if let Some(error) = codec::first_error(reply) {
        let denied = format!(
            "a primary that may be replaced must say whether it still is one, which Redis denies ({error}); allow it to this user \
             (ACL SETUSER NAME +role)"
        );
        return match is_needed {
            false => Ok(()),
            true if rights::denial(&error).is_some() => Err((Cause::Denied, denied)),
            true => Err((Cause::Refusing, format!("Redis does not say whether it is a primary: {error}"))),
        };
    }
    let values = values(reply);
    let [Value::Array(parts)] = values.as_slice() else { return Err(not_understood()) };
    let text = |place: usize| match parts.get(place) {
        Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    match text(0) {
        Some("master") => Ok(()),
        Some("slave") => {
            let primary = match (text(1), parts.get(2)) {
                (Some(host), Some(Value::Int(port))) => format!(" of {host}:{port}"),
                _ => String::new(),
            };
            let todo = match is_needed {
                true => "waiting until its primary is named, or it is one",
                false => "point hosts at its primary, or promote it (REPLICAOF NO ONE)",
            };
            Err((Cause::Refusing, format!("this Redis is a replica{primary}; {todo}")))
        }
        Some("sentinel") => Err((
            Cause::Refusing,
            "this is a sentinel, and no Redis; write redis+sentinel://HOST:PORT/NAME to ask it for the primary".to_owned(),
        )),
        _ => Err(not_understood()),
    }
}

fn not_understood() -> (Cause, String) {
    (Cause::Unreachable, "the reply to ROLE was not understood".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &[u8] = b"*3\r\n$6\r\nmaster\r\n:8\r\n*1\r\n*3\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\n8\r\n";
    const REPLICA: &[u8] = b"*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:8\r\n";

    #[test]
    fn a_primary_is_used_and_nothing_else() {
        for is_needed in [false, true] {
            assert_eq!(judge(PRIMARY, is_needed), Ok(()));
            let (cause, said) = judge(REPLICA, is_needed).unwrap_err();
            assert!(cause == Cause::Refusing && said.contains("is a replica of 10.0.0.1:6379"), "{said}");
            assert_eq!(said.contains("REPLICAOF NO ONE"), !is_needed);
            let (_, said) = judge(b"*2\r\n$8\r\nsentinel\r\n*0\r\n", is_needed).unwrap_err();
            assert!(said.contains("redis+sentinel://"), "{said}");
            for garbled in [&b"+OK\r\n"[..], b"*0\r\n", b"*1\r\n:1\r\n", b"$6\r\nmaster\r\n", b""] {
                assert!(judge(garbled, is_needed).unwrap_err().1.contains("not understood"));
            }
        }
    }

    #[test]
    fn who_may_not_ask_is_trusted_only_where_no_sentinel_moves_the_primary() {
        let denied = b"-NOPERM this user has no permissions to run the 'role' command\r\n";
        assert_eq!(judge(denied, false), Ok(()));
        let (cause, said) = judge(denied, true).unwrap_err();
        assert!(cause == Cause::Denied && said.contains("+role"), "{said}");
        let (cause, _) = judge(b"-LOADING Redis is loading the dataset in memory\r\n", true).unwrap_err();
        assert_eq!(cause, Cause::Refusing);
    }
}
