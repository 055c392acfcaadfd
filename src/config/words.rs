//! The texts of a configuration before anything is read into them, and where each of them stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{ConfigError, Source};

/// Every setting of `serve`, by its one name: `--NAME`, `BOXOFFICE_NAME` (in capitals, `_` for `-`), and the key of
/// the file. `config` itself is not among them.
pub const SETTINGS: [&str; 25] = [
    "listen",
    "admin",
    "admin-token-file",
    "cores",
    "no-pin",
    "reuse-port",
    "ledger",
    "ledger-password-file",
    "ledger-ca",
    "ledger-cert",
    "ledger-key",
    "ledger-sentinel-user",
    "ledger-sentinel-password-file",
    "state",
    "sale",
    "weight",
    "advertise",
    "buffer",
    "durability",
    "ledger-timeout",
    "drain-delay",
    "access-log",
    "trusted-proxy",
    "proxy-protocol",
    "limit",
];

/// The settings that take several texts; in their variable these stand apart by white space.
pub(super) const LISTS: [&str; 3] = ["sale", "trusted-proxy", "limit"];

/// The settings that one source (all flags, or a file) gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    file: Option<PathBuf>,
    texts: BTreeMap<&'static str, Vec<String>>,
}

impl Words {
    /// Adds the text of a flag.
    ///
    /// # Panics
    /// If there is no such setting.
    pub fn flag(&mut self, name: &str, text: impl Into<String>) {
        let name = setting(name).expect("a flag is a setting");
        self.texts.entry(name).or_default().push(text.into());
    }

    /// The settings of the TOML file at `path`, whose text is `text`.
    ///
    /// # Errors
    /// If it is not TOML, has a key that is no setting, or a value that can be none.
    pub fn from_toml(path: &Path, text: &str) -> Result<Words, ConfigError> {
        let source = |key: &str| Source::File { path: path.to_owned(), key: key.to_owned() };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let line =
                error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
            ConfigError {
                source_of_word: source(""),
                word: text.lines().nth(line.saturating_sub(1)).unwrap_or("").to_owned(),
                takes: format!("is not TOML (line {line}): {}", error.message()),
            }
        })?;
        let mut words = Words { file: Some(path.to_owned()), ..Words::default() };
        for (key, value) in table {
            let wrong =
                |takes: String| ConfigError { source_of_word: source(&key), word: key.clone(), takes };
            let name = setting(&key).ok_or_else(|| {
                wrong(format!("is not a setting; the settings are {}", SETTINGS.join(", ")))
            })?;
            let texts = match value {
                toml::Value::Array(items) if LISTS.contains(&name) => items.into_iter().map(plain).collect(),
                toml::Value::Table(items) if name == "limit" => {
                    let pair = |(name, value)| Some(format!("{name}={}", plain(value)?));
                    items.into_iter().map(pair).collect()
                }
                value => plain(value).map(|text| vec![text]),
            };
            let texts = texts.ok_or_else(|| match name {
                "sale" | "trusted-proxy" => wrong("takes a text or a list of texts".to_owned()),
                "limit" => wrong("takes a table, a text or a list of texts".to_owned()),
                _ => wrong("takes one text, number or boolean".to_owned()),
            })?;
            words.texts.insert(name, texts);
        }
        Ok(words)
    }
}

fn setting(name: &str) -> Option<&'static str> {
    SETTINGS.into_iter().find(|setting| *setting == name)
}

fn plain(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Datetime(time) => Some(time.to_string()),
        toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

/// A text and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    source: Source,
}

impl Word {
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn wrong(&self, takes: impl Into<String>) -> ConfigError {
        ConfigError { source_of_word: self.source.clone(), word: self.text.clone(), takes: takes.into() }
    }

    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.text.as_str() {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(self.wrong("takes true or false")),
        }
    }

    pub(super) fn number<N>(&self, least: N, most: N) -> Result<N, ConfigError>
    where
        N: FromStr + PartialOrd + std::fmt::Display,
    {
        match self.text.parse() {
            Ok(number) if number >= least && number <= most => Ok(number),
            _ => Err(self.wrong(format!("takes a number from {least} to {most}"))),
        }
    }
}

/// The words of a setting from the first source that has it. A variable that is empty counts as not set, so that a
/// wrapper can clear it; one for a list may hold several, apart by white space.
pub(super) fn pick(
    name: &'static str,
    flags: &Words,
    variable: &dyn Fn(&str) -> Option<String>,
    file: Option<&Words>,
) -> Vec<Word> {
    by_source(name, flags, variable, file).into_iter().find(|words| !words.is_empty()).unwrap_or_default()
}

/// The words of a setting from each source that has it: flags, then the variable, then the file.
pub(super) fn by_source(
    name: &'static str,
    flags: &Words,
    variable: &dyn Fn(&str) -> Option<String>,
    file: Option<&Words>,
) -> [Vec<Word>; 3] {
    let with = |texts: &[String], source: Source| -> Vec<Word> {
        texts.iter().map(|text| Word { text: text.clone(), source: source.clone() }).collect()
    };
    let flag_words = flags.texts.get(name).map(|texts| with(texts, Source::Flag(format!("--{name}"))));
    let variable_name = format!("BOXOFFICE_{}", name.to_uppercase().replace('-', "_"));
    let value = variable(&variable_name).filter(|value| !value.trim().is_empty());
    let variable_words = value.map(|value| {
        let texts: Vec<String> = match LISTS.contains(&name) {
            true => value.split_whitespace().map(str::to_owned).collect(),
            false => vec![value],
        };
        with(&texts, Source::Variable(variable_name))
    });
    let file_words = file
        .and_then(|file| Some((file.file.clone()?, file.texts.get(name)?)))
        .map(|(path, texts)| with(texts, Source::File { path, key: name.to_owned() }));
    [flag_words, variable_words, file_words].map(Option::unwrap_or_default)
}
