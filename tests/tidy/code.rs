//! The code of the product as text: which files are of it, and what of them is not of tests.

use std::iter::Peekable;
use std::str::Chars;

use crate::tree::Tree;

/// Paths (of files, or of folders with their slash) that `#[cfg(test)] mod name;` declares, all forms of `cfg` with `test`.
pub fn test_files(tree: &Tree) -> Vec<String> {
    let mut paths = Vec::new();
    for (path, text) in tree.files("src/", ".rs") {
        let folder = path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| is_of_tests(pair[0])) {
            let name = pair[1].split("mod ").nth(1).and_then(|rest| rest.strip_suffix(';'));
            if let Some(name) = name {
                paths.push(format!("{folder}/{name}.rs"));
                paths.push(format!("{folder}/{name}/"));
            }
        }
    }
    paths
}

fn is_of_tests(line: &str) -> bool {
    line.trim_start().starts_with("#[cfg(") && (line.contains("(test") || line.contains(" test"))
}

/// A file without comments and without its modules of tests.
pub fn product(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if is_of_tests(line) && lines.peek().is_some_and(|next| next.contains("mod ") && next.ends_with('{'))
        {
            for inner in lines.by_ref() {
                if inner == "}" {
                    break;
                }
            }
            continue;
        }
        let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':')).map(|(at, _)| at);
        code.push_str(&line[..comment.unwrap_or(line.len())]);
        code.push('\n');
    }
    code
}

/// The paths behind `root`, which ends in `::`: of `root::{a, b::{c, d}}` these are `a`, `b::c` and `b::d`.
pub fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(root) {
        let before = &code[..at];
        if !before.ends_with(is_name) && !before.ends_with("::") && !before.ends_with('$') {
            branch(&[], &mut code[at + root.len()..].chars().peekable(), &mut paths);
        }
    }
    paths
}

/// Reads `a::b::{c, d::{e, f}}`, and adds each path that is in it.
fn branch(base: &[String], rest: &mut Peekable<Chars<'_>>, paths: &mut Vec<Vec<String>>) {
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
