//! The command line: every subcommand, its flags and its help.
//!
//! Commands take a ledger or a host, and a screen to write on, and touch nothing else; `main` opens them and turns what comes
//! back into an exit status: 0 done, 1 it failed, 2 the command line or the configuration is wrong.

mod audit;
mod booking;
mod config;
mod error;
mod hosts;
mod nginx;
mod office;
mod rehearse;
mod sale;
mod screen;
mod serve;
mod top;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use audit::{AuditFlags, AuditProgress, AuditReport, audit_by_host};
pub use booking::{BookingCommand, BookingFlags};
pub use config::ConfigFlags;
pub use error::CommandError;
pub use hosts::HostsFlags;
pub use nginx::{HostWeight, NginxFlags};
pub use office::{HostOffice, LedgerOffice, Office, Trimming};
pub use rehearse::{RehearseFlags, Rehearsing, Verdict};
pub use sale::{SaleCommand, SaleFlags, StockChange, TermFlags, TermValue};
pub use screen::{Screen, Style, plain, progress_bar};
pub use serve::ServeFlags;
pub use top::{HostNews, TopFlags, TopKey, follow, show};

use crate::config::{DEFAULT_ADMIN, DEFAULT_LEDGER, check_ledger};
use crate::ledger::tls::TlsFiles;
use crate::ledger::url::{LedgerFiles, SentinelLogin};

/// Sells a limited stock of tickets to a crowd that is far larger than the stock.
#[derive(Debug, Parser)]
#[command(name = "boxoffice", version, about, long_about = None, max_term_width = 100)]
#[command(after_help = "Exit status: 0 done, 1 it failed, 2 the command line or the configuration is wrong.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ServeFlags),
    /// List, show, open and change sales
    Sale(SaleFlags),
    /// Show, confirm, cancel and extend single bookings
    Booking(BookingFlags),
    /// Recount a sale from its bookings; exit 1 on any difference
    Audit(AuditFlags),
    /// List the hosts that share a ledger, with their weights and how they do
    Hosts(HostsFlags),
    /// Print an Nginx upstream block for hosts and their weights
    Nginx(NginxFlags),
    /// Show a host as it is, live
    Top(TopFlags),
    /// Let a crowd of made-up buyers at a sale of its own; exit 1 if it does not come out right
    Rehearse(Box<RehearseFlags>),
    /// Show every setting of `serve`, its value and where it came from
    Config(Box<ConfigFlags>),
    /// Print a completion script
    #[command(after_help = "Example: boxoffice completions bash > /etc/bash_completion.d/boxoffice")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages, one for each command
    #[command(after_help = "Example: boxoffice man /usr/local/share/man/man1")]
    Man {
        /// The folder, which must be there; pages in it are replaced
        folder: PathBuf,
    },
}

/// The person at the terminal of a command.
pub trait Console {
    /// Asks, and waits for an answer: whether it is yes. If nobody can be asked it is no.
    fn confirms(&mut self, question: &str) -> bool;

    /// Pauses between two readings of a log that is followed; whether to go on.
    fn waits(&mut self) -> bool;
}

/// The ledger of the commands that are not `serve`.
#[derive(Debug, Args)]
pub struct LedgerFlag {
    /// The ledger, as `serve` takes it
    #[arg(long, value_name = "URL", env = "BOXOFFICE_LEDGER", hide_env_values = true, global = true)]
    #[arg(default_value = DEFAULT_LEDGER, value_parser = ledger)]
    pub ledger: String,
    /// File with the password of a Redis whose URL has none
    #[arg(long, value_name = "FILE", env = "BOXOFFICE_LEDGER_PASSWORD_FILE", global = true)]
    pub ledger_password_file: Option<PathBuf>,
    /// PEM file with the CAs that may have signed the certificate of a Redis over TLS; without it those of this machine
    #[arg(long, value_name = "FILE", env = "BOXOFFICE_LEDGER_CA", global = true)]
    pub ledger_ca: Option<PathBuf>,
    /// PEM file with the certificate to show to a Redis over TLS that demands one
    #[arg(long, value_name = "FILE", env = "BOXOFFICE_LEDGER_CERT", global = true)]
    pub ledger_cert: Option<PathBuf>,
    /// PEM file with the private key of --ledger-cert, without a passphrase
    #[arg(long, value_name = "FILE", env = "BOXOFFICE_LEDGER_KEY", global = true)]
    pub ledger_key: Option<PathBuf>,
    /// ACL user of the sentinels in a redis+sentinel:// URL, if they have one for boxoffice
    #[arg(long, value_name = "NAME", env = "BOXOFFICE_LEDGER_SENTINEL_USER", global = true)]
    pub ledger_sentinel_user: Option<String>,
    /// File with the password of the sentinels, which need not be that of Redis
    #[arg(long, value_name = "FILE", env = "BOXOFFICE_LEDGER_SENTINEL_PASSWORD_FILE", global = true)]
    pub ledger_sentinel_password_file: Option<PathBuf>,
}

impl LedgerFlag {
    /// The files that belong to it.
    pub fn files(&self) -> LedgerFiles {
        let tls = TlsFiles {
            ca: self.ledger_ca.clone(),
            cert: self.ledger_cert.clone(),
            key: self.ledger_key.clone(),
        };
        let sentinel = SentinelLogin {
            user: self.ledger_sentinel_user.clone(),
            password_file: self.ledger_sentinel_password_file.clone(),
        };
        LedgerFiles { password: self.ledger_password_file.clone(), tls, sentinel }
    }
}

fn ledger(url: &str) -> Result<String, String> {
    check_ledger(url).map(|()| url.to_owned()).map_err(str::to_owned)
}

/// The host of commands that are to be carried out by one.
#[derive(Debug, Default, Args)]
pub struct HostFlag {
    /// The admin listener of a host that is to do it, in place of a ledger
    #[arg(long, value_name = "ADDR:PORT", global = true, value_parser = host_address)]
    pub admin: Option<String>,
    /// File with the token of that host
    #[arg(long, value_name = "FILE", env = "BOXOFFICE_ADMIN_TOKEN_FILE", global = true)]
    pub admin_token_file: Option<PathBuf>,
}

/// The host of commands that only a host can carry out.
#[derive(Debug, Args)]
pub struct OneHostFlag {
    /// The admin listener of the host
    #[arg(long, value_name = "ADDR:PORT", env = "BOXOFFICE_ADMIN", value_parser = host_address)]
    #[arg(default_value = DEFAULT_ADMIN)]
    pub admin: String,
    /// File with the token of that host
    #[arg(long, value_name = "FILE", env = "BOXOFFICE_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
}

fn host_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(text.to_owned())
        }
        _ => Err("takes ADDR:PORT, such as 127.0.0.1:9305".to_owned()),
    }
}

/// Writes the completion script for `shell`.
///
/// # Errors
/// If it cannot be written.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn std::io::Write) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "boxoffice", &mut script);
    Ok(out.write_all(&script)?)
}

/// A manual page for each command, by the name of its file: `boxoffice-sale-open.1`.
///
/// # Errors
/// If one cannot be made.
pub fn manual_pages() -> Result<Vec<(String, Vec<u8>)>, CommandError> {
    fn add(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> Result<(), CommandError> {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page)?;
        pages.push((format!("{}.1", command.get_display_name().unwrap_or(command.get_name())), page));
        let inner =
            command.get_subcommands().filter(|inner| inner.get_name() != "help" && !inner.is_hide_set());
        inner.into_iter().try_for_each(|inner| add(inner, pages))
    }
    let mut command = <Cli as clap::CommandFactory>::command();
    command.build();
    let mut pages = Vec::new();
    add(&command, &mut pages)?;
    Ok(pages)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_words_exit_with_2_and_are_named() {
        for (line, named) in [
            ("boxoffice", "Usage"),
            ("boxoffice sell", "sell"),
            ("boxoffice serve --lisen 127.0.0.1:1", "--lisen"),
            ("boxoffice sale open a", "--stock"),
            ("boxoffice sale open a --stock many", "many"),
            ("boxoffice sale open a/b --stock 1", "a/b"),
            ("boxoffice sale list --ledger mysql://x", "mysql://x"),
            ("boxoffice sale set a --hold soon", "soon"),
            ("boxoffice sale set a", "--stock"),
            ("boxoffice booking list a", "--buyer"),
            ("boxoffice booking show a b/c", "b/c"),
            ("boxoffice sale list --admin 9305", "takes ADDR:PORT"),
            ("boxoffice audit a --admin 127.0.0.1:1 --repair", "--admin"),
            ("boxoffice audit a --admin 127.0.0.1:1 --access-log l", "--admin"),
            ("boxoffice sale lits", "list"),
            ("boxoffice sale open a --stokc 5", "--stock"),
            ("boxoffice bookings", "booking"),
            ("boxoffice nginx --host 10.0.0.1=2", "10.0.0.1=2"),
            ("boxoffice nginx", "--host"),
            ("boxoffice completions cmd", "cmd"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn the_ledger_may_stand_anywhere_behind_sale() {
        for line in [
            "boxoffice sale list --ledger redis://a:1/0",
            "boxoffice sale --ledger redis://a:1/0 list",
            "boxoffice sale show x --json --ledger redis://a:1/0",
        ] {
            let Command::Sale(flags) = parse(line).unwrap().command else { panic!("{line}") };
            assert_eq!(flags.ledger.ledger, "redis://a:1/0");
        }
    }

    #[test]
    fn completions_name_all_subcommands_and_flags() {
        let mut command = Cli::command();
        command.build();
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut out = Vec::new();
            completions(shell, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            for inner in command.get_subcommands() {
                assert!(script.contains(inner.get_name()), "{shell}: {}", inner.get_name());
                for flag in inner.get_arguments().filter_map(|argument| argument.get_long()) {
                    assert!(script.contains(flag), "{shell}: --{flag}");
                }
            }
        }
    }

    #[test]
    fn each_command_has_a_manual_page_with_its_flags() {
        let pages = manual_pages().unwrap();
        let page = |name: &str| {
            let found = pages.iter().find(|(page, _)| page == name).unwrap_or_else(|| panic!("{name}"));
            String::from_utf8(found.1.clone()).unwrap()
        };
        assert!(page("boxoffice.1").contains("Exit status"));
        assert!(page("boxoffice-serve.1").contains(r"\-\-durability"));
        assert!(page("boxoffice-sale-open.1").contains(r"\-\-stock"));
        assert!(page("boxoffice-booking-extend.1").contains(r"\-\-hold"));
        assert!(pages.iter().all(|(name, _)| !name.contains("help")), "{:?}", pages.len());
    }
}
