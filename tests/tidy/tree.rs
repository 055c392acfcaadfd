//! The files of the repository, as texts and as paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Folders that are not of the repository, or hold nothing that a person wrote; so do those with a point in front.
const SKIPPED: [&str; 4] = ["target", "run", "__pycache__", "tests/fuzz/corpus"];
/// Endings of the files that are read; of others the path alone is known.
const READ: [&str; 7] = [".rs", ".lua", ".py", ".toml", ".md", ".conf", "Makefile"];

/// Every path below the root, with `/` between its parts, and the texts of those that are checked.
#[derive(Default)]
pub struct Tree {
    /// Files and folders.
    pub paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// The repository that this test was built from.
    pub fn read() -> Tree {
        let mut tree = Tree::default();
        tree.walk(Path::new(env!("CARGO_MANIFEST_DIR")), "");
        tree
    }

    /// A tree of these files alone.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            for (slash, _) in path.match_indices('/') {
                tree.paths.insert(path[..slash].to_owned());
            }
            tree.add((*path).to_owned(), (*text).to_owned());
        }
        tree
    }

    fn walk(&mut self, root: &Path, folder: &str) {
        for entry in fs::read_dir(root.join(folder)).expect("the tree is readable") {
            let entry = entry.expect("the tree is readable");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let is_hidden = name.starts_with('.') && name != ".ci";
            if is_hidden || SKIPPED.contains(&path.as_str()) || SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().expect("a file has a type").is_dir() {
                self.walk(root, &path);
                self.paths.insert(path);
            } else if READ.iter().any(|ending| path.ends_with(ending)) {
                let text =
                    fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
                self.add(path, text);
            } else {
                self.paths.insert(path);
            }
        }
    }

    fn add(&mut self, path: String, text: String) {
        self.paths.insert(path.clone());
        self.texts.insert(path, text);
    }

    /// The text of the file at `path`; empty if there is none.
    pub fn text(&self, path: &str) -> &str {
        self.texts.get(path).map_or("", String::as_str)
    }

    /// Path and text of the files below `folder` (with its slash, or empty) that end like that.
    pub fn files<'a>(&'a self, folder: &'a str, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .filter(move |(path, _)| path.starts_with(folder) && path.ends_with(ending))
    }

    /// The pages of the documentation: what describes the program as it is, and not what was measured or changed.
    pub fn pages(&self) -> impl Iterator<Item = (&str, &str)> {
        const ROOT: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
        self.files("", ".md").filter(|(path, _)| ROOT.contains(path) || path.starts_with("docs/"))
    }
}
