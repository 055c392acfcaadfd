//! Modules that import each other in a circle, and names of types that stand for two things.
//!
//! The children of a module have an order: an import leads from one to the other, never back, by whatever file below them.
//! What a module itself defines is not asked for: its children may use it, and it uses them.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{product, test_files};
use crate::tree::Tree;

/// Of each module: its children, and which of the others each of them imports, with a file that does.
type Siblings = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

/// Circles of modules with a parent in common, one line each.
pub fn circles(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (parent, imports) in siblings(tree) {
        let mut done = BTreeSet::new();
        for start in imports.keys() {
            let mut way = vec![start.clone()];
            if let Some(circle) = walk(&imports, &mut way, &mut done) {
                let files: Vec<&str> = (1..circle.len())
                    .map(|place| imports[&circle[place - 1]][&circle[place]].as_str())
                    .collect();
                found.push(format!("{parent}: {} (by {})", circle.join(" -> "), files.join(", ")));
            }
        }
    }
    found
}

/// Follows imports from the end of `way`; gives the circle that it closes, if it does.
fn walk(
    imports: &BTreeMap<String, BTreeMap<String, String>>,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    let last = way.last().expect("a way has a start").clone();
    if done.contains(&last) {
        return None;
    }
    for next in imports.get(&last).into_iter().flat_map(BTreeMap::keys) {
        if let Some(start) = way.iter().position(|module| module == next) {
            let mut circle = way[start..].to_vec();
            circle.push(next.clone());
            done.extend(way.iter().cloned());
            return Some(circle);
        }
        way.push(next.clone());
        if let Some(circle) = walk(imports, way, done) {
            return Some(circle);
        }
        way.pop();
    }
    done.insert(last);
    None
}

fn siblings(tree: &Tree) -> Siblings {
    let of_tests = test_files(tree);
    let files: BTreeMap<Vec<String>, (&str, String)> = tree
        .files("src/", ".rs")
        .filter(|(path, _)| !["src/lib.rs", "src/main.rs"].contains(path))
        .filter(|(path, _)| !of_tests.iter().any(|place| path.starts_with(place.as_str())))
        .map(|(path, text)| (module(path), (path, product(text))))
        .collect();
    let mut siblings = Siblings::new();
    for (own, (path, code)) in &files {
        for target in imports(own, code) {
            // The deepest module of that path: what is behind it is a type or a function.
            let known = (1..=target.len()).rev().map(|length| &target[..length]);
            let Some(target) = known.into_iter().find(|module| files.contains_key(*module)) else { continue };
            let common = own.iter().zip(target).take_while(|(one, other)| one == other).count();
            let (Some(from), Some(to)) = (own.get(common), target.get(common)) else { continue };
            let parent = if common == 0 { "src".to_owned() } else { own[..common].join("::") };
            let of_parent = siblings.entry(parent).or_default().entry(from.clone()).or_default();
            of_parent.entry(to.clone()).or_insert((*path).to_owned());
        }
    }
    siblings
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.split('/').map(str::to_owned).collect()
}

/// Whole paths that `crate::` and `super::` lead to, from that module.
fn imports(own: &[String], code: &str) -> Vec<Vec<String>> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut paths = Vec::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let before = &code[..at];
            if before.ends_with(is_name) || before.ends_with("::") || before.ends_with('$') {
                continue;
            }
            let mut base = if root == "crate::" { Vec::new() } else { own[..own.len() - 1].to_vec() };
            let mut rest = &code[at + root.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            branch(&base, &mut rest.chars().peekable(), &mut paths);
        }
    }
    paths
}

/// Reads `a::b::{c, d::{e, f}}`, and adds each path that is in it.
fn branch(
    base: &[String],
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    paths: &mut Vec<Vec<String>>,
) {
    let mut path = base.to_vec();
    loop {
        while rest.next_if(|letter| letter.is_whitespace()).is_some() {}
        if rest.next_if_eq(&'{').is_some() {
            loop {
                branch(&path, rest, paths);
                while rest.next_if(|letter| letter.is_whitespace()).is_some() {}
                if rest.next_if_eq(&',').is_none() {
                    rest.next_if_eq(&'}');
                    return;
                }
            }
        }
        let mut name = String::new();
        while let Some(letter) = rest.next_if(|letter| letter.is_alphanumeric() || *letter == '_') {
            name.push(letter);
        }
        if !name.is_empty() {
            path.push(name);
        }
        let goes_on = rest.next_if_eq(&':').is_some() && rest.next_if_eq(&':').is_some();
        if !goes_on {
            // `x as y` in a list: up to its end.
            while rest.peek().is_some_and(|letter| letter.is_alphanumeric() || [' ', '_'].contains(letter)) {
                rest.next();
            }
            paths.push(path);
            return;
        }
    }
}

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
    fn a_circle_of_files_is_found() {
        let files = [
            ("src/a/mod.rs", "mod b;\nmod c;\n"),
            ("src/a/b.rs", "use super::c::X;\n"),
            ("src/a/c.rs", "fn f() {}\n"),
        ];
        assert_eq!(circles(&Tree::of(&files)), [""; 0]);
        let files = [files[0], files[1], ("src/a/c.rs", "use crate::a::{self, b::{Y, Z}};\n")];
        assert_eq!(circles(&Tree::of(&files)), ["a: b -> c -> b (by src/a/b.rs, src/a/c.rs)"]);
    }

    #[test]
    fn a_circle_of_modules_by_files_far_below_is_found() {
        let files = [
            ("src/a/b/c.rs", "use crate::d::E;\n"),
            ("src/d/mod.rs", ""),
            ("src/d/e.rs", "use super::super::a::b::c::X as Y;\n"),
        ];
        assert_eq!(circles(&Tree::of(&files)), ["src: a -> d -> a (by src/a/b/c.rs, src/d/e.rs)"]);
    }

    #[test]
    fn parents_and_tests_make_no_circle() {
        let files = [
            ("src/a/mod.rs", "use b::X;\npub struct Y;\n"),
            ("src/a/b.rs", "use super::Y;\n#[cfg(test)]\nmod tests {\n    use crate::a::c::Z;\n}\n"),
            ("src/a/c.rs", "use super::b::X;\n"),
        ];
        assert_eq!(circles(&Tree::of(&files)), [""; 0]);
    }

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
