//! The scripts of `lua/`, each with `lua/sale.lua` in front, and the hashes that Redis knows them by.
//!
//! Comments and spaces are left out and long names shortened; lines stay, so that errors name the lines of the files. A
//! script is loaded behind the password, and Redis hangs up on a client that is not logged in yet and sends more than 16
//! KiB in one argument: nobody would learn why it was refused.

use std::collections::BTreeSet;
use std::sync::LazyLock;

/// A script and its hash in Redis.
pub(super) struct Script {
    pub(super) text: String,
    pub(super) hash: String,
}

macro_rules! scripts {
    ($($name:ident $file:literal),* $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(
                include_str!("../../../lua/sale.lua"),
                include_str!(concat!("../../../lua/", $file)),
            );
            let text = compact(text);
            let names = called(&text).into_iter().filter(|name| !ASKED_BY_CALLING.contains(&name.as_str()));
            let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
            Script::new(text.replace("COMMANDS", &format!("{{ {} }}", names.join(", "))))
        });)*

        /// As they are written.
        #[cfg(test)]
        const TEXTS: &[&str] = &[
            include_str!("../../../lua/sale.lua"),
            include_str!("../../../lua/rights.lua"),
            $(include_str!(concat!("../../../lua/", $file)),)*
        ];

        /// All that work on a sale.
        fn of_sales() -> impl ExactSizeIterator<Item = &'static Script> {
            [$(&*$name),*].into_iter()
        }
    };
}

scripts! {
    OPEN "open.lua",
    ALTER "alter.lua",
    RESERVE "reserve.lua",
    LOOKUP "lookup.lua",
    CONFIRM "confirm.lua",
    CANCEL "cancel.lua",
    AMEND "amend.lua",
    EXPIRE "expire.lua",
    PAGE "page.lua",
    LOG "log.lua",
    TRIM "trim.lua",
    SURVEY "survey.lua",
    REPAIR "repair.lua",
    RESTORE "restore.lua",
    REMOVE "remove.lua",
}

/// Answers whether the others may be run. See `rights`.
pub(super) static RIGHTS: LazyLock<Script> =
    LazyLock::new(|| Script::new(compact(include_str!("../../../lua/rights.lua"))));

/// Of no one sale, like that.
pub(super) static RECALL: LazyLock<Script> =
    LazyLock::new(|| Script::new(compact(include_str!("../../../lua/recall.lua"))));
/// The same.
pub(super) static IDENTIFY: LazyLock<Script> =
    LazyLock::new(|| Script::new(compact(include_str!("../../../lua/identify.lua"))));

/// The same.
pub(super) static BEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(compact(include_str!("../../../lua/beat.lua"))));

/// Commands that a script need not ask about before its first write: it begins with them, or they are that write.
const ASKED_BY_CALLING: [&str; 3] = ["HMGET", "TIME", "XADD"];

impl Script {
    fn new(text: String) -> Script {
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Script { text, hash }
    }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Script> {
    of_sales().chain([&*RIGHTS, &*RECALL, &*IDENTIFY, &*BEAT])
}

/// The commands called by the scripts that every host runs, each once.
pub(super) fn commands() -> BTreeSet<String> {
    let of_operators = [&TRIM.hash, &REMOVE.hash];
    let of_hosts = of_sales().filter(|script| !of_operators.contains(&&script.hash));
    of_hosts.chain([&*RECALL, &*IDENTIFY, &*BEAT]).flat_map(|script| called(&script.text)).collect()
}

/// The commands that a script calls: `HSET`, and with its subcommand `XINFO GROUPS`.
pub(super) fn called(text: &str) -> BTreeSet<String> {
    let capitals = |text: &str| {
        let word = text.strip_prefix('\'')?.split('\'').next()?;
        word.bytes().all(|byte| byte.is_ascii_uppercase()).then(|| word.to_owned())
    };
    let mut called = BTreeSet::new();
    for (at, opening) in text.match_indices("call(") {
        let Some(name) = capitals(&text[at + opening.len()..]) else { continue };
        let arguments = &text[at + opening.len() + name.len() + 2..];
        let subcommand = arguments.strip_prefix(',').map(str::trim_start).and_then(capitals);
        called.insert(subcommand.map_or(name.clone(), |subcommand| format!("{name} {subcommand}")));
    }
    // `scans` of survey.lua: a name, and the place of a key.
    for (at, opening) in text.match_indices('{') {
        let entry = text[at + opening.len()..].trim_start();
        let Some(name) = capitals(entry) else { continue };
        let key = entry[name.len() + 2..].strip_prefix(',').map(str::trim_start);
        if key.is_some_and(|key| key.starts_with(|digit: char| digit.is_ascii_digit())) {
            called.insert(name);
        }
    }
    called
}

/// The same code without comments, without spaces that only people need, and with [short](short_name) names of variables.
/// Strings are kept: they are in single quotes, and have none inside.
pub fn compact(text: &str) -> String {
    without_spaces(text).split_inclusive('\n').map(shorten).collect()
}

/// A line in which names of two words or more become short ones. Fields, which have a dot before them, are Redis' own.
fn shorten(line: &str) -> String {
    let mut short = String::with_capacity(line.len());
    for (index, piece) in line.split('\'').enumerate() {
        if index > 0 {
            short.push('\'');
        }
        if index % 2 == 1 {
            short.push_str(piece);
            continue;
        }
        let mut rest = piece;
        while let Some(start) = rest.find(is_of_word) {
            let end = rest[start..].find(|letter| !is_of_word(letter)).map_or(rest.len(), |end| start + end);
            let (before, word) = (&rest[..start], &rest[start..end]);
            short.push_str(before);
            let is_field = short.ends_with('.') && !short.ends_with("..");
            match !is_field && word.contains('_') && word.len() > SHORT_NAME_BYTES {
                true => short.push_str(&short_name(word)),
                false => short.push_str(word),
            }
            rest = &rest[end..];
        }
        short.push_str(rest);
    }
    short
}

/// Bytes of a [`short_name`].
const SHORT_NAME_BYTES: usize = 4;

/// Always the same for the same name, so that a part of a script is shortened like the whole.
fn short_name(name: &str) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyzABCDEF";
    let mut hash = name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    let mut short = String::from("_");
    for _ in 1..SHORT_NAME_BYTES {
        short.push(LETTERS[(hash % 32) as usize].into());
        hash /= 32;
    }
    short
}

fn is_of_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn without_spaces(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut quoted = false;
        let mut letters = line.trim_start_matches(' ').chars().peekable();
        while let Some(letter) = letters.next() {
            quoted ^= letter == '\'';
            let (before, after) = (code.chars().next_back(), letters.peek().copied());
            if !quoted && (letter, after) == ('-', Some('-')) {
                code.push('\n');
                break;
            }
            if letter == ' '
                && !quoted
                && !before.zip(after).is_some_and(|(one, other)| needs_space(one, other))
            {
                continue;
            }
            code.push(letter);
        }
    }
    code
}

/// Whether two characters would be read as something else without a space between them: a word, a number, a comment.
fn needs_space(one: char, other: char) -> bool {
    is_of_word(one) && is_of_word(other) || (one, other) == ('-', '-') || one.is_ascii_digit() && other == '.'
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn each_script_is_short_enough_for_a_client_that_is_not_let_in_yet() {
        for script in super::all() {
            assert!(script.text.len() < 16 * 1024, "{} bytes", script.text.len());
        }
    }

    #[test]
    fn no_command_of_a_script_is_overlooked() {
        let text = "call('HSET', a) x = redis.pcall('XINFO', 'GROUPS', b) { 'ZSCAN', 3, 'g' } { 'c', 3 } call('TIME')";
        assert_eq!(
            super::called(text).into_iter().collect::<Vec<_>>(),
            ["HSET", "TIME", "XINFO GROUPS", "ZSCAN"]
        );
        for script in super::of_sales() {
            for (at, _) in script.text.match_indices("call(") {
                let call = &script.text[at..][..20];
                // The one of survey.lua, from its table of scans.
                assert!(call.starts_with("call('") || call.starts_with("call(command,KEYS"), "{call}");
            }
            assert!(!script.text.contains("COMMANDS"));
        }
        let needed = super::commands();
        for command in ["HSET", "XADD", "ZADD", "HSCAN", "ZSCAN", "TIME"] {
            assert!(needed.contains(command), "{needed:?}");
        }
        assert!(!needed.contains("XTRIM"), "only `sale trim` needs that");
        assert!(!needed.contains("UNLINK"), "only `sale remove` needs that");
        assert!(super::RESERVE.text.contains("'ZADD'") && super::RESERVE.text.contains("'ZREM'"));
    }

    /// Redis 6.2 is asked by trying each of them.
    #[test]
    fn each_command_of_a_script_can_be_tried_without_effect() {
        let all = super::commands().into_iter().chain(super::called(&super::TRIM.text));
        let all = all.chain(super::called(&super::REMOVE.text));
        for command in all {
            assert!(
                super::RIGHTS.text.contains(&format!("['{command}']=")),
                "lua/rights.lua has no form of {command}"
            );
        }
    }

    #[test]
    fn a_line_keeps_its_number() {
        for (text, compact) in [
            ("a\n-- b\n  -- c\n  d -- it's e\n", "a\n\n\nd\n"),
            ("  if a == 1 .. 'b  -- c' then x = - -y end\n", "if a==1 ..'b  -- c'then x=- -y end\n"),
            ("return { 'HSCAN', 7 }, not b\n", "return{'HSCAN',7},not b\n"),
        ] {
            assert_eq!(super::compact(text), compact);
        }
    }

    #[test]
    fn names_of_several_words_are_shortened_and_nothing_else_is() {
        let short = super::short_name("frozen_until");
        let text = "x = frozen_until .. 'frozen_until' .. redis.error_reply(_G) .. a_b .. frozen_until\n";
        let expected = format!("x={short}..'frozen_until'..redis.error_reply(_G)..a_b..{short}\n");
        assert_eq!(super::compact(text), expected);
        let text = super::without_spaces(&super::TEXTS.concat());
        let words = text.split(|letter| !super::is_of_word(letter));
        let names: BTreeSet<&str> = words.filter(|word| word.contains('_')).collect();
        let shortened: BTreeSet<String> = names.iter().map(|name| super::short_name(name)).collect();
        assert_eq!(shortened.len(), names.len(), "two names become one: call one of them otherwise");
    }
}
