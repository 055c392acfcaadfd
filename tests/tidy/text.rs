//! Texts by themselves: lines that are too long, paragraphs that stand twice, links and paths that lead nowhere.

use std::collections::BTreeMap;

use crate::markdown;
use crate::tree::Tree;

/// Columns of a line. rustfmt keeps Rust's code to fewer and wraps no comments; the others have no formatter.
const COLUMNS_MAX: usize = 130;

/// A paragraph of at least so many bytes stands once.
const REPEATED_MIN: usize = 200;

/// Lines of more than [`COLUMNS_MAX`]. In Rust only comments count, without tables; elsewhere what is quoted does not.
pub fn long_lines(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for ending in [".rs", ".lua", ".py", ".toml"] {
        for (path, text) in tree.files("", ending).filter(|(path, _)| !path.starts_with("bench/runs/")) {
            for (number, line) in (1..).zip(text.lines()) {
                let counts = match ending {
                    ".rs" => {
                        line.trim_start().starts_with("//") && !line.contains("/ |") && !line.contains("! |")
                    }
                    _ => true,
                };
                let columns = if ending == ".rs" { line.chars().count() } else { unquoted(line) };
                if counts && columns > COLUMNS_MAX {
                    found.push(format!("{path}:{number}: more than {COLUMNS_MAX} columns"));
                }
            }
        }
    }
    found
}

/// Columns of a line without what stands between quotation marks.
fn unquoted(line: &str) -> usize {
    match line.matches('"').count() {
        marks if marks > 0 && marks % 2 == 0 => {
            line.split('"').step_by(2).map(|part| part.chars().count()).sum()
        }
        _ => line.chars().count(),
    }
}

/// Paragraphs, items and rows that stand in two places. What programs write or copy is left out.
pub fn repeated(tree: &Tree) -> Vec<String> {
    let is_written = |path: &str| {
        path.starts_with("bench/runs/")
            || path.starts_with("tests/sim/")
            || path.ends_with("_head.md")
            || path == "CHANGELOG.md"
    };
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (path, page) in tree.files("", ".md").filter(|(path, _)| !is_written(path)) {
        let (_, prose) = markdown::split(page);
        for paragraph in paragraphs(&prose).into_iter().filter(|paragraph| paragraph.len() >= REPEATED_MIN) {
            let start: String = paragraph.chars().take(60).collect();
            if let Some(before) = seen.insert(paragraph, path) {
                found.push(format!("{before} and {path} both have: {start}..."));
            }
        }
    }
    found
}

/// Paragraphs with single spaces; an item of a list and a row of a table is one of its own.
fn paragraphs(prose: &str) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in prose.lines().map(str::trim) {
        let numbered = line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok());
        if line.is_empty() || line.starts_with("- ") || line.starts_with('|') || numbered {
            paragraphs.push(String::new());
        }
        let paragraph = paragraphs.last_mut().expect("never empty");
        for word in line.split_whitespace() {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(word);
        }
    }
    paragraphs
}

/// Links within the repository whose file or anchor is not there.
pub fn dead_links(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, page) in tree.files("", ".md") {
        for target in markdown::links(page) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let Some(file) = resolve(path, file) else {
                found.push(format!("{path}: {target} leads out of the repository"));
                continue;
            };
            if !tree.paths.contains(&file) {
                found.push(format!("{path}: {target}: there is no {file}"));
            } else if !anchor.is_empty() && !markdown::anchors(tree.text(&file)).contains(anchor) {
                found.push(format!("{path}: {target}: there is no such heading"));
            }
        }
    }
    found
}

/// Where a relative link of the page at `from` leads.
fn resolve(from: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Files that pages name and that are not there. A name may leave out the folders in front: `desk/sync.rs`.
pub fn missing_files(tree: &Tree) -> Vec<String> {
    const ENDINGS: [&str; 7] = [".rs", ".lua", ".py", ".sh", ".md", ".json", ".conf"];
    // Made by commands, or by readers.
    const MADE: [&str; 2] = ["top.md", "orders.py"];
    let mut found = Vec::new();
    for (path, page) in tree.pages() {
        let (_, prose) = markdown::split(page);
        for span in markdown::spans(&prose) {
            let is_path = span.chars().all(|letter| letter.is_alphanumeric() || "._-/".contains(letter));
            // From its root a path of HTTP begins.
            let is_file =
                is_path && !span.starts_with('/') && ENDINGS.iter().any(|ending| span.ends_with(ending));
            let is_there = |file: &String| file == span || file.ends_with(&format!("/{span}"));
            if is_file && !MADE.contains(&span) && !tree.paths.iter().any(is_there) {
                found.push(format!("{path}: there is no {span}"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_found() {
        let long = "x ".repeat(66);
        let files = [
            ("src/a.rs", format!("// {long}\nlet a = {long};\n/// | {long} |\n    /// {long}\n")),
            ("lua/a.lua", format!("-- {long}\nlocal a = \"{long}\"\n")),
            ("a.py", format!("x = {long}\n")),
            ("a.toml", format!("# {long}\n")),
            ("a.md", format!("{long}\n")),
        ];
        let tree = Tree::of(&files.each_ref().map(|(path, text)| (*path, text.as_str())));
        let places: Vec<_> =
            long_lines(&tree).iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(places, ["src/a.rs:1", "src/a.rs:4", "lua/a.lua:1", "a.py:1", "a.toml:1"]);
    }

    #[test]
    fn a_paragraph_that_stands_twice_is_found() {
        let item = format!("- {}\n", "one and the same thing, ".repeat(10));
        let once = format!("# A\n\n{item}- two\n");
        assert_eq!(repeated(&Tree::of(&[("a.md", &once), ("b.md", "- two\n- two\n")])), [""; 0]);
        let twice = format!("{once}{item}");
        assert_eq!(repeated(&Tree::of(&[("a.md", &twice)])).len(), 1);
        let wrapped = once.replace("same thing, one", "same thing,\n  one");
        assert_eq!(repeated(&Tree::of(&[("a.md", &once), ("docs/b.md", &wrapped)])).len(), 1);
        let in_code = format!("```\n{item}```\n");
        assert_eq!(repeated(&Tree::of(&[("a.md", &once), ("b.md", &in_code)])), [""; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let page = "# A\n[1](docs/b.md) [2](docs/b.md#b-1) [3](#a) [4](docs) [5](https://x.org/y.md)\n";
        let b = "# B\n## B\n[up](../a.md#a)\n";
        assert_eq!(dead_links(&Tree::of(&[("a.md", page), ("docs/b.md", b)])), [""; 0]);
        for wrong in ["docs/c.md", "docs/b.md#c", "#b", "../x.md"] {
            let page = format!("{page}[6]({wrong})\n");
            assert_eq!(dead_links(&Tree::of(&[("a.md", &page), ("docs/b.md", b)])).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn files_that_are_gone_are_found() {
        let page = "`src/a/b.rs`, `b.rs`, `/openapi.json` and `a b.rs`, `c.rs`\n";
        let tree = Tree::of(&[("docs/x.md", page), ("src/a/b.rs", "")]);
        assert_eq!(missing_files(&tree), ["docs/x.md: there is no c.rs"]);
    }
}
