//! Whether the user of a connection may do what boxoffice needs, and whether its Redis takes writes: `lua/rights.lua`,
//! asked before anything else, and repeatedly while the connection is used.
//!
//! What is needed is read off the scripts themselves, so that a new command of a script cannot be forgotten here.

use super::bulk::bulk_string;
use super::read::{first_error, is_noscript, is_refusal};
use super::scripts;
use crate::protocol::Durability;

/// Commands that are sent as they are.
const SENT_ALONE: [&str; 7] = ["GET", "HGET", "HMGET", "SADD", "SMEMBERS", "TIME", "ZRANGEBYSCORE"];

/// Where the keys of sales begin.
const SALES_KEY: &str = "bx:sales";

/// The kinds of calls, by the rights that they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Whatever changes a sale.
    Change,
    /// `sale trim`.
    Trim,
    /// `sale remove`.
    Remove,
}

/// The question to ask, packed.
#[derive(Debug)]
pub(super) struct Rights {
    on_a_new_connection: Vec<u8>,
    again: Vec<u8>,
}

impl Rights {
    /// What every call needs, except that of `sale trim`.
    pub(super) fn of_calls(durability: Durability, is_cluster: bool) -> Rights {
        let replicas: &[&str] = match durability {
            Durability::Replicas(_) => &["SET", "WAIT"],
            Durability::Ack | Durability::Aof => &[],
        };
        let mut commands = scripts::commands();
        let redirected: &[&str] = if is_cluster { &["ASKING"] } else { &[] };
        commands.extend(SENT_ALONE.iter().chain(replicas).chain(redirected).map(|&name| name.to_owned()));
        Rights::new(commands, is_cluster)
    }

    /// What that needs.
    pub(super) fn of(need: Need, is_cluster: bool) -> Rights {
        match need {
            Need::Change => Rights::of_calls(Durability::Ack, is_cluster),
            Need::Trim => Rights::new(scripts::called(&scripts::TRIM.text), is_cluster),
            Need::Remove => Rights::new(scripts::called(&scripts::REMOVE.text), is_cluster),
        }
    }

    /// The question about those commands. A node of a Cluster may have any slots, so that it is asked without a key.
    fn new(commands: impl IntoIterator<Item = String>, is_cluster: bool) -> Rights {
        let commands: Vec<String> = commands.into_iter().collect();
        let pack = |mode| {
            let mut question = redis::cmd("EVALSHA");
            question.arg(&scripts::RIGHTS.hash);
            match is_cluster {
                false => question.arg(1).arg(SALES_KEY),
                true => question.arg(0),
            };
            question.arg(mode).arg(&commands);
            question.get_packed_command()
        };
        Rights { on_a_new_connection: pack("1"), again: pack("0") }
    }

    /// Appends the question, which gets one reply; the scripts must have been loaded.
    pub(super) fn ask(&self, is_new: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(if is_new { &self.on_a_new_connection } else { &self.again });
    }
}

/// What Redis says of a user to whom it denies nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UserCheck {
    /// Why writes, or all calls, are refused, and what to do.
    pub(super) refusal: Option<String>,
    /// INFO may be asked.
    pub(super) may_ask_info: bool,
}

/// Why there is no [`UserCheck`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The scripts are not loaded.
    NoScript,
    /// Something needed is denied, or missing: what, and what to do.
    Denied(String),
    /// The reply makes no sense.
    Garbled(String),
}

/// Reads the reply to the question.
pub(super) fn read(reply: &[u8]) -> Result<UserCheck, Fault> {
    if is_noscript(reply) {
        return Err(Fault::NoScript);
    }
    if let Some(error) = first_error(reply) {
        return match denial(&error) {
            Some(what) => Err(Fault::Denied(what)),
            None if is_refusal(&error) => {
                Ok(UserCheck { refusal: Some(refusal(&error)), ..UserCheck::default() })
            }
            None => Err(Fault::Garbled(format!("Redis does not say what this user may do: {error}"))),
        };
    }
    let garbled = || Fault::Garbled("the reply to the check of rights was not understood".to_owned());
    let text = std::str::from_utf8(bulk_string(reply).ok_or_else(garbled)?).map_err(|_| garbled())?;
    let mut findings = UserCheck::default();
    let (mut denied, mut unknown) = (Vec::new(), Vec::new());
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("denied", command)) => denied.push(command),
            Some(("unknown", command)) => unknown.push(command),
            Some(("may", "INFO")) => findings.may_ask_info = true,
            // Redis 6.2 puts words of its own before an error.
            Some(("refused", said)) => {
                let said = said.rsplit_once(": -").map_or(said, |(_, said)| said);
                findings.refusal = is_refusal(said).then(|| refusal(said));
            }
            _ => return Err(garbled()),
        }
    }
    match (denied.as_slice(), unknown.as_slice()) {
        ([], []) => Ok(findings),
        ([], unknown) => Err(Fault::Denied(format!(
            "Redis has no command {}, which boxoffice needs; it may have been renamed (rename-command in its \
             configuration), or Redis is older than 6.2",
            unknown.join(", ")
        ))),
        (denied, _) => Err(Fault::Denied(denied_commands(denied))),
    }
}

fn denied_commands(commands: &[&str]) -> String {
    let rights: Vec<String> = commands
        .iter()
        .map(|command| match command.to_ascii_lowercase().split_once(' ') {
            Some((container, subcommand)) => format!("'+{container}|{subcommand}'"),
            None => format!("+{}", command.to_ascii_lowercase()),
        })
        .collect();
    format!(
        "Redis denies this user {}, which boxoffice needs; allow it (ACL SETUSER NAME {})",
        commands.join(", "),
        rights.join(" ")
    )
}

/// What to say about an error that is due to a missing right or password; `None` for any other.
pub(super) fn denial(error: &str) -> Option<String> {
    if let Some((_, rest)) = error.split_once(": DENIED ") {
        let command = rest.split(' ').next().unwrap_or_default();
        return Some(denied_commands(&[command]));
    }
    // In the words of the check of rights, so that it is one trouble and not two.
    if let Some((_, rest)) = error.strip_prefix("NOPERM").and_then(|rest| rest.split_once("to run the '")) {
        let command = rest.split('\'').next().unwrap_or_default();
        return Some(denied_commands(&[&command.to_ascii_uppercase().replace('|', " ")]));
    }
    let is_denial = ["NOPERM", "NOAUTH", "WRONGPASS"].iter().any(|word| error.starts_with(word))
        || error.starts_with("ERR unknown command")
        || error.contains("The user executing the script can't");
    is_denial.then(|| format!("Redis denies this user something that boxoffice needs: {error}"))
}

/// Whether an error is about the keys of one call: those of other sales may be allowed.
pub(super) fn is_about_keys(error: &str) -> bool {
    ["access a key", "access one of the keys", "access at least one of the keys"]
        .iter()
        .any(|words| error.contains(words))
}

/// For an operator: why Redis refuses writes, and what helps.
pub(super) fn refusal(said: &str) -> String {
    let help = match said.split(' ').next().unwrap_or_default() {
        "OOM" => "; free memory, or raise maxmemory",
        "READONLY" => "; it is a replica: point hosts at its primary, or promote it (REPLICAOF NO ONE)",
        "NOREPLICAS" => "; bring replicas back, or lower min-replicas-to-write",
        _ => "",
    };
    format!("{}{help}", said.trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    fn read_text(text: &str) -> Result<UserCheck, Fault> {
        read(bulk(text).as_bytes())
    }

    fn denied(reply: &str) -> String {
        match read(reply.as_bytes()) {
            Err(Fault::Denied(what)) => what,
            other => panic!("{reply:?}: {other:?}"),
        }
    }

    #[test]
    fn a_question_names_every_command_of_the_scripts_and_those_sent_alone() {
        let words = |rights: &Rights| {
            let text = String::from_utf8(rights.again.clone()).unwrap();
            text.split("\r\n")
                .filter(|word| !word.starts_with(['*', '$']))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let all = words(&Rights::of_calls(Durability::Ack, false));
        assert_eq!(all[2..5], ["1", "bx:sales", "0"]);
        for command in scripts::commands().iter().map(String::as_str).chain(["GET", "SADD", "SMEMBERS"]) {
            assert!(all.iter().any(|word| word == command), "{command} is not in {all:?}");
        }
        assert!(!all.iter().any(|word| word == "WAIT"));
        assert!(words(&Rights::of_calls(Durability::Replicas(1), false)).iter().any(|word| word == "WAIT"));
        assert!(words(&Rights::of(Need::Trim, false)).iter().any(|word| word == "XINFO GROUPS"));
    }

    #[test]
    fn what_is_denied_or_renamed_is_named_with_what_to_do() {
        assert_eq!(read_text(""), Ok(UserCheck::default()));
        assert_eq!(read_text("may INFO"), Ok(UserCheck { may_ask_info: true, ..UserCheck::default() }));
        let said = denied(&bulk("denied ZADD\ndenied XINFO GROUPS\nmay INFO"));
        assert!(said.contains("ZADD, XINFO GROUPS") && said.contains("+zadd '+xinfo|groups'"), "{said}");
        assert!(denied(&bulk("unknown HSET")).contains("renamed"));
        let said =
            |name| denied(&format!("-NOPERM this user has no permissions to run the '{name}' command\r\n"));
        assert!(said("evalsha").contains("EVALSHA, which") && said("script|load").contains("'+script|load'"));
        for error in [
            "NOPERM No permissions to access a key",
            "NOAUTH Authentication required.",
            "ERR unknown command 'evalsha', with args beginning with:",
        ] {
            assert!(denied(&format!("-{error}\r\n")).contains(error));
        }
    }

    #[test]
    fn a_refusal_is_told_as_redis_says_it_and_with_what_helps() {
        let refusal = |text: &str| read_text(text).unwrap().refusal;
        let said = "OOM command not allowed when used memory > 'maxmemory'.";
        let told = "OOM command not allowed when used memory > 'maxmemory'; free memory, or raise maxmemory";
        assert_eq!(refusal(&format!("refused {said}")).as_deref(), Some(told));
        assert_eq!(refusal(&format!("refused @user_script: 69: -{said}\nmay INFO")).as_deref(), Some(told));
        // The key of the trial is another program's.
        assert_eq!(refusal("refused WRONGTYPE Operation against a key"), None);
        let loading = read(b"-LOADING Redis is loading the dataset in memory\r\n").unwrap().refusal;
        assert_eq!(loading.as_deref(), Some("LOADING Redis is loading the dataset in memory"));
        assert_eq!(read(b"-NOSCRIPT No matching script.\r\n"), Err(Fault::NoScript));
        for garbled in ["-ERR what\r\n", ":1\r\n", "$5\r\nhello\r\n", "$-1\r\n", "*0\r\n", "$1\r\n\u{7f}\r\n"]
        {
            assert!(matches!(read(garbled.as_bytes()), Err(Fault::Garbled(_))), "{garbled:?}");
        }
    }

    #[test]
    fn a_script_that_was_denied_a_right_names_it() {
        let seven = "ERR user_script:118: DENIED HSET script: 4833ab, on @user_script:118.";
        let six =
            "ERR Error running script (call to f_4833ab): @user_script:118: user_script:118: DENIED HSET";
        for error in [seven, six] {
            assert!(denial(error).unwrap().contains("+hset"), "{error}");
        }
        assert!(denial("ERR The user executing the script can't run this command or subcommand").is_some());
        assert_eq!(denial("OOM command not allowed"), None);
    }
}
