//! The scripts of `lua/`, each with `lua/sale.lua` in front, and the hashes that Redis knows them by.
//!
//! Comments and indentation are left out, their lines stay, so that errors name the lines of the files: a script is loaded behind the
//! password, and Redis hangs up on a client that is not let in yet and sends more than 16 KiB in one argument, so that
//! nobody would read why it was not let in.

use std::sync::LazyLock;

/// A script and what Redis calls it.
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
            let text = without_comments(text);
            let hash = redis::Script::new(&text).get_hash().to_owned();
            Script { text, hash }
        });)*

        /// All of them.
        pub(super) fn all() -> impl ExactSizeIterator<Item = &'static Script> {
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
    EXPIRE "expire.lua",
    PAGE "page.lua",
    LOG "log.lua",
    TRIM "trim.lua",
    SURVEY "survey.lua",
    REPAIR "repair.lua",
    RESTORE "restore.lua",
}

fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        if !line.trim_start().starts_with("--") {
            code.push_str(line.trim_start());
        }
        code.push('\n');
    }
    code
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_script_is_short_enough_for_a_client_that_is_not_let_in_yet() {
        for script in super::all() {
            assert!(script.text.len() < 16 * 1024, "{} bytes", script.text.len());
        }
    }

    #[test]
    fn a_line_keeps_its_number() {
        assert_eq!(super::without_comments("a\n-- b\n  -- c\n  d -- e\n"), "a\n\n\nd -- e\n");
    }
}
