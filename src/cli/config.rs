//! `boxoffice config`: what `boxoffice serve` would run on, and an example of a file for it.

use std::io;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::screen::{Cell, Column, Screen};
use super::{CommandError, ServeFlags};
use crate::config::{ConfigError, SettingShown, example};

/// `boxoffice config`. It takes the flags of `boxoffice serve`, and says what would come of them.
#[derive(Debug, Args)]
#[command(after_help = "Example: boxoffice config --example > boxoffice.toml")]
pub struct ConfigFlags {
    /// What `serve` would be given.
    #[command(flatten)]
    serve: ServeFlags,
    /// Print a commented TOML file with every setting, its default and the reason for it
    #[arg(long)]
    example: bool,
    /// Print one JSON object a setting
    #[arg(long)]
    json: bool,
}

impl ConfigFlags {
    /// What is to be shown; reads as [`ServeFlags::config`] does.
    ///
    /// # Errors
    /// The first word that is wrong; exit status 2.
    pub fn settings(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
        machine: &[usize],
    ) -> Result<Vec<SettingShown>, ConfigError> {
        match self.example {
            true => Ok(Vec::new()),
            false => self.serve.settings(variable, read_file, machine),
        }
    }

    /// Shows them, or the example.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn run(&self, settings: &[SettingShown], screen: &mut Screen<'_>) -> Result<(), CommandError> {
        if self.example {
            return example().lines().try_for_each(|line| screen.line(line));
        }
        if self.json {
            return settings.iter().try_for_each(|SettingShown { name, value, from }| {
                screen.json(&json!({ "setting": name, "value": value, "from": from }).to_string())
            });
        }
        let columns = [Column::Words("SETTING"), Column::Words("VALUE"), Column::Words("FROM")];
        let row = |SettingShown { name, value, from }: &SettingShown| {
            vec![Cell::new(name), Cell::new(value.as_deref().unwrap_or("none")), Cell::new(from)]
        };
        screen.table(&columns, &settings.iter().map(row).collect::<Vec<_>>())
    }
}
