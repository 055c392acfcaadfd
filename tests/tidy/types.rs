//! Names of types that stand for two things.

use std::collections::BTreeMap;

use crate::code::{product, test_files};
use crate::tree::Tree;

/// Types of the product that have a name in common, whatever module they are in.
pub fn names_of_two_types(tree: &Tree) -> Vec<String> {
    let of_tests = test_files(tree);
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in tree.files("src/", ".rs") {
        if of_tests.iter().any(|place| path.starts_with(place.as_str())) {
            continue;
        }
        for line in product(text).lines() {
            if let Some(name) = defined(line) {
                places.entry(name.to_owned()).or_default().push(path.to_owned());
            }
        }
    }
    let twice = places.into_iter().filter(|(_, paths)| paths.len() > 1);
    twice.map(|(name, paths)| format!("`{name}` is defined in {}", paths.join(" and "))).collect()
}

/// The type that a line begins to define. What a trait asks for, or gives, has no place of its own.
fn defined(line: &str) -> Option<&str> {
    let is_inner = line.starts_with(char::is_whitespace);
    let line = line.trim_start();
    let line = ["pub(crate) ", "pub(super) ", "pub "]
        .iter()
        .find_map(|word| line.strip_prefix(word))
        .unwrap_or(line);
    let kinds: &[&str] =
        if is_inner { &["struct ", "enum ", "trait "] } else { &["struct ", "enum ", "trait ", "type "] };
    let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .next()
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_two_types_is_found() {
        let files = [
            (
                "src/a.rs",
                "pub(crate) struct Told;\nimpl X for Y {\n    type Err = u8;\n}\n#[cfg(test)]\nmod tests {\n    enum Told {}\n}\n",
            ),
            ("src/b/c.rs", "struct Told2;\ntype Err = u8;\n"),
        ];
        assert_eq!(names_of_two_types(&Tree::of(&files)), [""; 0]);
        let files = [files[0], ("src/b/c.rs", "enum Told {}\n")];
        assert_eq!(names_of_two_types(&Tree::of(&files)), ["`Told` is defined in src/a.rs and src/b/c.rs"]);
    }
}
