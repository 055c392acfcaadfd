//! Which lines of the scripts ran, for `make coverage`: noted if LINES names a file, into which [`write`] puts them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{LazyLock, Mutex};

use mlua::{HookTriggers, Lua, VmState};

static PATH: LazyLock<Option<std::path::PathBuf>> =
    LazyLock::new(|| std::env::var_os("LINES").map(Into::into));

/// By the text of the script.
static RAN: Mutex<BTreeMap<Vec<u8>, BTreeSet<usize>>> = Mutex::new(BTreeMap::new());

thread_local!(static RUNNING: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) });

/// Whether anybody wants to know.
pub fn are_noted() -> bool {
    PATH.is_some()
}

/// What runs on this thread from now on.
pub fn begin(script: &[u8]) {
    RUNNING.with_borrow_mut(|running| {
        running.clear();
        running.extend_from_slice(script);
    });
}

/// Notes each line that this Lua runs.
pub fn note(lua: &Lua) -> mlua::Result<()> {
    lua.set_hook(HookTriggers::EVERY_LINE, |_, debug| {
        let is_script = debug.source().short_src.is_some_and(|source| source == super::script::SOURCE);
        if let Some(line) = debug.current_line().filter(|_| is_script) {
            RUNNING.with_borrow(|script| {
                let mut ran = RAN.lock().expect("nobody panics with it");
                match ran.get_mut(script) {
                    Some(lines) => lines.insert(line),
                    None => ran.entry(script.clone()).or_default().insert(line),
                };
            });
        }
        Ok(VmState::Continue)
    })
}

/// Writes what was noted, as JSON: for each script its text and its lines.
///
/// # Panics
/// Where the file cannot be written.
pub fn write() {
    let Some(path) = &*PATH else { return };
    let ran = RAN.lock().expect("nobody panics with it");
    let scripts: Vec<_> = ran
        .iter()
        .map(|(text, lines)| serde_json::json!({ "text": String::from_utf8_lossy(text), "lines": lines }))
        .collect();
    std::fs::write(path, serde_json::to_vec(&scripts).expect("strings and numbers"))
        .expect("LINES can be written");
}
