//! Modules that import each other in a circle.
//!
//! The children of a module have an order: an import leads from one to the other, never back, by whatever file below them.
//! What a module itself defines is not asked for: its children may use it, and it uses them.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{paths, product, test_files};
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
    let relative = paths(code, "super::").into_iter().map(|path| {
        let above = path.iter().take_while(|name| *name == "super").count();
        let base = own.len().saturating_sub(1 + above);
        [&own[..base], &path[above..]].concat()
    });
    paths(code, "crate::").into_iter().chain(relative).collect()
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
}
