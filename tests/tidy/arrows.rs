//! Which modules import which: the table of ARCHITECTURE.md against the code.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{paths, product, test_files};
use crate::markdown;
use crate::tree::Tree;

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Where table and code differ.
pub fn differences(tree: &Tree) -> Vec<String> {
    let (code, mut found) = in_code(tree);
    let table = in_table(tree.text("ARCHITECTURE.md"));
    let modules: BTreeSet<&String> = code.keys().chain(table.keys()).collect();
    for module in modules {
        let (Some(imports), Some(told)) = (code.get(module), table.get(module)) else {
            let place =
                if code.contains_key(module) { "has no row for" } else { "has a row for what is no module:" };
            found.push(format!("ARCHITECTURE.md {place} `{module}`"));
            continue;
        };
        for other in imports.difference(told) {
            found
                .push(format!("`{module}` imports `{other}`, which its row in ARCHITECTURE.md does not say"));
        }
        for other in told.difference(imports) {
            found.push(format!("`{module}` does not import `{other}`, as its row in ARCHITECTURE.md says"));
        }
    }
    found
}

fn in_table(page: &str) -> Arrows {
    let mut arrows = Arrows::new();
    for table in markdown::tables(page) {
        let place = |title| table[0].iter().position(|cell| cell == title);
        let (Some(module), Some(imports)) = (place("module"), place("imports")) else { continue };
        for row in &table[1..] {
            let words = |place: usize| markdown::spans(&row[place]).map(str::to_owned);
            for module in words(module) {
                arrows.insert(module, words(imports).collect());
            }
        }
    }
    arrows
}

/// The arrows of the product, tests left out; and what this reading cannot follow.
fn in_code(tree: &Tree) -> (Arrows, Vec<String>) {
    let (mut arrows, mut unread) = (Arrows::new(), Vec::new());
    let of_tests = test_files(tree);
    for (path, text) in tree.files("src/", ".rs") {
        if path == "src/lib.rs" || of_tests.iter().any(|place| path.starts_with(place.as_str())) {
            continue;
        }
        let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let module = inner.split('/').next().unwrap_or(inner);
        let code = product(text);
        let root = if module == "main" { "boxoffice::" } else { "crate::" };
        let mut targets: BTreeSet<String> =
            paths(&code, root).into_iter().filter_map(|path| path.into_iter().next()).collect();
        // From `a::b` the root is two up.
        let up = "super::".repeat(inner.split('/').count());
        if code.contains(&up) {
            unread.push(format!("{path}: `{up}` leads out of `{module}`; write `crate::`"));
        }
        targets.remove(module);
        arrows.entry(module.to_owned()).or_default().extend(targets);
    }
    (arrows, unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "| module | owns | imports |\n| --- | --- | --- |\n| `a` | | `b`, `c` |\n| `b` | | |\n| `c` | | |\n";
    const A: &str =
        "use crate::{b::{X, Y}, c};\n/// [`crate::d`]\n#[cfg(test)]\nmod tests {\n    use crate::d;\n}\n";

    fn differences_of(a: &str, table: &str) -> Vec<String> {
        let files = [("src/a/mod.rs", a), ("src/b.rs", ""), ("src/c.rs", ""), ("ARCHITECTURE.md", table)];
        differences(&Tree::of(&files))
    }

    #[test]
    fn agree() {
        assert_eq!(differences_of(A, TABLE), [""; 0]);
    }

    #[test]
    fn an_import_that_the_table_does_not_have_is_found() {
        let found = differences_of(&format!("use crate::d::Z;\n{A}"), TABLE);
        assert_eq!(found, ["`a` imports `d`, which its row in ARCHITECTURE.md does not say"]);
    }

    #[test]
    fn a_row_that_says_too_much_is_found() {
        let found = differences_of("use crate::b::X;\n", TABLE);
        assert_eq!(found, ["`a` does not import `c`, as its row in ARCHITECTURE.md says"]);
    }

    #[test]
    fn a_module_without_a_row_and_a_row_without_a_module_are_found() {
        let found = differences_of(A, &TABLE.replace("| `c` | | |", "| `e` | | |"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("no row for `c`") && found[1].contains("no module: `e`"), "{found:?}");
    }

    #[test]
    fn a_way_out_by_super_is_found() {
        let found = differences_of(&format!("use super::d::Z;\n{A}"), TABLE);
        assert!(found[0].contains("write `crate::`"), "{found:?}");
    }
}
