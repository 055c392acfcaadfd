//! The scripts of `lua/`, each with `lua/sale.lua` in front, and the hashes that Redis knows them by.

use std::sync::LazyLock;

/// A script and what Redis calls it.
pub(super) struct Script {
    pub(super) text: &'static str,
    pub(super) hash: String,
}

macro_rules! scripts {
    ($($name:ident $file:literal),* $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            let text = concat!(
                include_str!("../../../lua/sale.lua"),
                include_str!(concat!("../../../lua/", $file)),
            );
            Script { text, hash: redis::Script::new(text).get_hash().to_owned() }
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
}
