//! The code of the product as text: which files are of it, and what of them is not of tests.

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
