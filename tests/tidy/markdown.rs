//! As much of Markdown as these pages use: headings, links, tables, code.

use std::collections::BTreeSet;

/// A block of code between fences.
pub struct Block {
    /// What stands behind the opening fence: `console`, `toml`, ...
    pub language: String,
    /// Its lines.
    pub lines: Vec<String>,
}

/// The blocks of code, and the page without them (their lines are empty).
pub fn split(page: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut open: Option<Block> = None;
    for line in page.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => open = Some(Block { language: language.to_owned(), lines: Vec::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.lines.push(line.to_owned()),
            (None, None) => prose.push_str(line),
        }
        prose.push('\n');
    }
    (blocks, prose)
}

/// The code spans of a line or a page without blocks.
pub fn spans(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2))
}

/// A page without its blocks and its code spans.
pub fn without_code(prose: &str) -> String {
    let plain = |paragraph: &str| paragraph.split('`').step_by(2).collect::<Vec<_>>().join("` `");
    prose.split("\n\n").map(plain).collect::<Vec<_>>().join("\n\n")
}

/// The targets of `[text](target)`.
pub fn links(page: &str) -> Vec<String> {
    let prose = without_code(&split(page).1);
    let mut targets = Vec::new();
    for (at, _) in prose.match_indices("](") {
        if let Some(end) = prose[at + 2..].find(')') {
            targets.push(prose[at + 2..at + 2 + end].to_owned());
        }
    }
    targets
}

/// What `#anchor` may be in a page: headings as GitHub names them, and `<a id="...">`.
pub fn anchors(page: &str) -> BTreeSet<String> {
    let (_, prose) = split(page);
    let mut anchors = BTreeSet::new();
    for line in prose.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            let heading = heading.trim_start_matches('#').trim();
            let slug: String = heading
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
                .map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() })
                .collect();
            let again = (1..).map(|count| format!("{slug}-{count}"));
            let free = std::iter::once(slug.clone()).chain(again).find(|name| !anchors.contains(name));
            anchors.extend(free);
        }
        for (_, rest) in line.split("<a id=\"").skip(1).map(|rest| ((), rest)) {
            anchors.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    anchors
}

/// The rows of every table of a page: a header and cells.
pub fn tables(page: &str) -> Vec<Vec<Vec<String>>> {
    let (_, prose) = split(page);
    let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
    let mut inside = false;
    for line in prose.lines() {
        let is_row = line.starts_with('|');
        if is_row && !inside {
            tables.push(Vec::new());
        }
        inside = is_row;
        let is_rule = is_row && line.chars().all(|letter| matches!(letter, '|' | '-' | ':' | ' '));
        if let (true, Some(table)) = (is_row && !is_rule, tables.last_mut()) {
            let line = line.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{0}");
            table.push(line.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect());
        }
    }
    tables
}

/// Every code span in the columns of that title.
pub fn column<'a>(pages: impl Iterator<Item = (&'a str, &'a str)>, title: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, page) in pages {
        for table in tables(page) {
            let Some(place) = table[0].iter().position(|cell| cell == title) else { continue };
            for cell in table[1..].iter().filter_map(|row| row.get(place)) {
                found.extend(spans(cell).map(str::to_owned));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A page\n\nSee [it](b.md#x) and `[not](this)`.\n\n## What's `x`, 2?\n\n| `a` | b |\n| --- | --- |\n\
        | `one`, `two` | `no` |\n\n```console\n$ a | b [c](d)\n# e\n```\n## A page\n<a id=\"here\"></a>\n";

    #[test]
    fn reads_what_pages_have() {
        assert_eq!(links(PAGE), ["b.md#x"]);
        assert_eq!(
            anchors(PAGE).into_iter().collect::<Vec<_>>(),
            ["a-page", "a-page-1", "here", "whats-x-2"]
        );
        let words = column([("", PAGE)].into_iter(), "`a`");
        assert_eq!(words.into_iter().collect::<Vec<_>>(), ["one", "two"]);
        let (blocks, _) = split(PAGE);
        assert_eq!((blocks[0].language.as_str(), blocks[0].lines.len()), ("console", 2));
    }
}
