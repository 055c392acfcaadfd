//! What is wrong with a configuration, described so that it can be fixed without a manual.

use std::fmt;
use std::path::PathBuf;

/// Where a word came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line, with its dashes.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
    /// A key of a TOML file.
    File {
        /// The file.
        path: PathBuf,
        /// The key; empty if the file as a whole is meant.
        key: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag(flag) => f.write_str(flag),
            Source::Variable(name) => f.write_str(name),
            Source::File { path, key } if key.is_empty() => write!(f, "{}", path.display()),
            Source::File { path, key } => write!(f, "{}: {key}", path.display()),
        }
    }
}

/// A word that a configuration cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_of_word}: {word:?} {takes}")]
pub struct ConfigError {
    /// Where it stands.
    pub source_of_word: Source,
    /// The word, as it was written.
    pub word: String,
    /// What is wrong with it and what that place takes.
    pub takes: String,
}
