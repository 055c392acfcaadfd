//! The configuration of `serve`: flags, then `BOXOFFICE_*` variables, then a TOML file, then defaults.
//!
//! Pure: takes texts, reads no file, no environment and no machine. Whatever comes out is valid, and whatever does not
//! is refused with the word that is wrong, where it stands, and what that place takes. Every source has the same names
//! and takes the same texts; in TOML a number or a boolean may stand bare, `sale` is a text or a list of texts, and
//! `limit` one of these or a table.

mod cores;
mod error;
mod limits;
mod settings;
mod terms;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use cores::{CoreChoice, CoresError};
pub use error::{ConfigError, Source};
pub use settings::{SettingShown, example, settings};
pub use terms::{
    parse_hold_max_ms, parse_hold_ms, parse_per_buyer, parse_sale, parse_span, parse_stock, parse_time,
};
pub use words::{SETTINGS, Words};

use crate::booking::{SaleName, SaleTerms};
use crate::ledger::tls::TlsFiles;
use crate::ledger::url::{LedgerFiles, SentinelLogin, names_a_ledger};
use crate::limits::{self as bounds, ClientLimits};
pub use crate::protocol::Durability;
use crate::proxies::{Network, TrustedProxies};
use terms::parse_span_ms;
use words::Word;

/// The ledger if none is named: a file in the working directory.
pub const DEFAULT_LEDGER: &str = "sqlite:boxoffice.db";

/// Where operators connect if nothing else is said.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9305";

/// Where clients connect if nothing else is said.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:3005";

/// The state file if none is named, in the working directory.
pub const DEFAULT_STATE: &str = "boxoffice.state";

/// What `serve` runs on.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where operators connect; loopback, or guarded by a token.
    pub admin: SocketAddr,
    /// The file with the token that every changing admin call must carry.
    pub admin_token_file: Option<PathBuf>,
    /// Which CPUs get an event loop.
    pub cores: CoreChoice,
    /// Whether each loop stays on its CPU.
    pub pin: bool,
    /// Whether another process may listen on both addresses as well.
    pub reuse_port: bool,
    /// The ledger's URL; its scheme is known, the rest is the ledger's to read.
    pub ledger: String,
    /// The files that belong to it: the password of a Redis whose URL has none, and what TLS needs.
    pub ledger_files: LedgerFiles,
    /// Where the host keeps which sales of a Redis it has known; `None` for nowhere.
    pub state: Option<PathBuf>,
    /// Sales to open if the ledger has none of that name, each name once.
    pub sales: Vec<(SaleName, SaleTerms)>,
    /// This host's weight among the hosts, 1 to [`bounds::WEIGHT_MAX`].
    pub weight: u32,
    /// Where a balancer reaches this host, if not at `listen`: an address or a name, and a port.
    pub advertise: Option<String>,
    /// Spare permits, as a part of the stock, 0 to [`bounds::BUFFER_MAX`].
    pub buffer: f64,
    /// When a booking counts as made.
    pub durability: Durability,
    /// How long a request waits for the ledger before it is answered 503, [`bounds::LEDGER_TIMEOUT_MS_MIN`] to
    /// [`bounds::LEDGER_TIMEOUT_MS_MAX`].
    pub ledger_timeout: Duration,
    /// How long a draining host goes on accepting connections after it has said that it is not ready, 0 to
    /// [`bounds::DRAIN_DELAY_MS_MAX`].
    pub drain_delay: Duration,
    /// Where one line for each booking request goes.
    pub access_log: Option<PathBuf>,
    /// Which proxies are believed of whom they speak for.
    pub proxies: TrustedProxies,
    /// What clients are limited to.
    pub limits: ClientLimits,
}

impl Config {
    /// Reads a configuration. `flags` and `file` hold the texts of their sources; `variable` gives the value of an
    /// environment variable; `machine` lists the CPUs that this process may run on.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn read(
        flags: &Words,
        variable: &dyn Fn(&str) -> Option<String>,
        file: Option<&Words>,
        machine: &[usize],
    ) -> Result<Config, ConfigError> {
        let pick = |name: &'static str| words::pick(name, flags, variable, file);
        let listen = address(&pick("listen"), DEFAULT_LISTEN)?;
        let admin_token_file = path(&pick("admin-token-file"))?;
        let admin_words = pick("admin");
        let admin = address(&admin_words, DEFAULT_ADMIN)?;
        if let Some(word) = admin_words.last()
            && !admin.ip().is_loopback()
            && admin_token_file.is_none()
        {
            return Err(
                word.wrong("is reached from other machines and needs --admin-token-file FILE beside it")
            );
        }
        if let Some(word) = admin_words.last()
            && listen == admin
            && listen.port() != 0
        {
            return Err(word.wrong("is where --listen is already; operators need an address of their own"));
        }
        Ok(Config {
            listen,
            admin,
            admin_token_file,
            cores: match pick("cores").last() {
                Some(word) => {
                    CoreChoice::parse(&word.text, machine).map_err(|error| word.wrong(error.to_string()))?
                }
                None => CoreChoice::All,
            },
            pin: match pick("no-pin").last() {
                Some(word) => !word.boolean()?,
                None => true,
            },
            reuse_port: reuse_port(&pick("reuse-port"), &pick("ledger"))?,
            ledger: ledger(&pick("ledger"))?,
            ledger_files: LedgerFiles {
                password: path(&pick("ledger-password-file"))?,
                tls: TlsFiles {
                    ca: path(&pick("ledger-ca"))?,
                    cert: path(&pick("ledger-cert"))?,
                    key: path(&pick("ledger-key"))?,
                },
                sentinel: SentinelLogin {
                    user: text(&pick("ledger-sentinel-user"))?,
                    password_file: path(&pick("ledger-sentinel-password-file"))?,
                },
            },
            state: match path(&pick("state"))? {
                Some(path) if path.as_os_str() == "none" => None,
                Some(path) => Some(path),
                None => Some(PathBuf::from(DEFAULT_STATE)),
            },
            sales: sales(&pick("sale"))?,
            weight: match pick("weight").last() {
                Some(word) => word.number(1, bounds::WEIGHT_MAX)?,
                None => 1,
            },
            advertise: match pick("advertise").last() {
                Some(word) if !is_host_and_port(&word.text) => {
                    return Err(word.wrong(
                        "takes ADDR:PORT or NAME:PORT, as a balancer reaches this host: 10.0.0.1:3005",
                    ));
                }
                word => word.map(|word| word.text.clone()),
            },
            buffer: match pick("buffer").last() {
                Some(word) => word.number(0.0, bounds::BUFFER_MAX)?,
                None => 0.2,
            },
            durability: durability(&pick("durability"), &pick("ledger"))?,
            ledger_timeout: ledger_timeout(&pick("ledger-timeout"))?,
            drain_delay: drain_delay(&pick("drain-delay"))?,
            access_log: path(&pick("access-log"))?,
            proxies: proxies(&pick("trusted-proxy"), &pick("proxy-protocol"))?,
            limits: limits::read(words::by_source("limit", flags, variable, file))?,
        })
    }
}

/// Which file to read as the configuration: the flag, or `BOXOFFICE_CONFIG`.
pub fn config_file(flag: Option<PathBuf>, variable: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    flag.or_else(|| variable("BOXOFFICE_CONFIG").filter(|text| !text.is_empty()).map(PathBuf::from))
}

fn address(words: &[Word], default: &str) -> Result<SocketAddr, ConfigError> {
    let Some(word) = words.last() else {
        return Ok(default.parse().expect("a default is an address"));
    };
    word.text
        .parse()
        .map_err(|_| word.wrong("takes ADDR:PORT, an IP address and a port: 127.0.0.1:3005, [::1]:3005"))
}

/// Whether that is an IP address (one of version 6 in brackets) or a name of DNS, a colon and a port. It may be written
/// into a configuration of Nginx: nothing in it ends a line or opens a block.
pub fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let host_is_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name),
    };
    host_is_good
        && text.len() <= bounds::ADVERTISED_BYTES_MAX
        && matches!(port.parse::<u16>(), Ok(1..))
        && !port.starts_with('+')
}

fn path(words: &[Word]) -> Result<Option<PathBuf>, ConfigError> {
    match words.last() {
        Some(word) if word.text.is_empty() => Err(word.wrong("takes the name of a file")),
        Some(word) => Ok(Some(PathBuf::from(&word.text))),
        None => Ok(None),
    }
}

fn text(words: &[Word]) -> Result<Option<String>, ConfigError> {
    match words.last() {
        Some(word) if word.text.is_empty() => Err(word.wrong("takes a name")),
        Some(word) => Ok(Some(word.text.clone())),
        None => Ok(None),
    }
}

fn reuse_port(words: &[Word], ledger_words: &[Word]) -> Result<bool, ConfigError> {
    let Some(word) = words.last() else { return Ok(false) };
    let wanted = word.boolean()?;
    if wanted && ledger(ledger_words)?.starts_with("sqlite:") {
        return Err(word.wrong(
            "is for two processes beside each other, and a SQLite file is one process' alone; have --ledger name a Redis",
        ));
    }
    Ok(wanted)
}

fn ledger(words: &[Word]) -> Result<String, ConfigError> {
    let Some(word) = words.last() else { return Ok(DEFAULT_LEDGER.to_owned()) };
    check_ledger(&word.text).map_err(|takes| word.wrong(takes))?;
    Ok(word.text.clone())
}

/// Nobody is believed who was not named, and a PROXY header of somebody who is not believed would be of no use.
fn proxies(words: &[Word], header_words: &[Word]) -> Result<TrustedProxies, ConfigError> {
    if let Some(word) = words.get(bounds::TRUSTED_PROXIES_MAX) {
        return Err(word.wrong(format!(
            "is one network too many; {} can be named: give larger ones",
            bounds::TRUSTED_PROXIES_MAX
        )));
    }
    let network = |word: &Word| word.text.parse::<Network>().map_err(|error| word.wrong(error.to_string()));
    let networks = words.iter().map(network).collect::<Result<Vec<_>, _>>()?;
    let expects_header = match header_words.last() {
        Some(word) if word.boolean()? && networks.is_empty() => {
            return Err(word.wrong(
                "takes PROXY headers of trusted proxies alone; name them beside it: --trusted-proxy 10.0.0.0/8",
            ));
        }
        Some(word) => word.boolean()?,
        None => false,
    };
    Ok(TrustedProxies::new(networks, expects_header))
}

/// Whether `url` has the scheme of a ledger and something behind it; else what it takes.
pub fn check_ledger(url: &str) -> Result<(), &'static str> {
    match names_a_ledger(url) {
        true => Ok(()),
        false => Err(
            "takes sqlite:PATH, redis://HOST:PORT/DB, rediss://HOST:PORT/DB (TLS), redis+unix:///PATH or \
             redis+sentinel://HOST:PORT,HOST:PORT,HOST:PORT/NAME",
        ),
    }
}

fn sales(words: &[Word]) -> Result<Vec<(SaleName, SaleTerms)>, ConfigError> {
    let mut sales: Vec<(SaleName, SaleTerms)> = Vec::new();
    for word in words {
        let sale = parse_sale(&word.text).map_err(|takes| word.wrong(takes))?;
        if sales.iter().any(|(name, _)| *name == sale.0) {
            return Err(word.wrong("names a sale that another --sale already names"));
        }
        sales.push(sale);
    }
    Ok(sales)
}

/// A level other than the default is asked of Redis alone.
fn durability(words: &[Word], ledger_words: &[Word]) -> Result<Durability, ConfigError> {
    let Some(word) = words.last() else { return Ok(Durability::Ack) };
    let durability = Durability::parse(&word.text)
        .ok_or_else(|| word.wrong("takes ack, aof or replicas=N, N being 1 to 100"))?;
    if durability != Durability::Ack && ledger(ledger_words)?.starts_with("sqlite:") {
        return Err(word.wrong(
            "is for a ledger in Redis; a SQLite ledger always has a booking on the disk before it answers",
        ));
    }
    Ok(durability)
}

fn ledger_timeout(words: &[Word]) -> Result<Duration, ConfigError> {
    let Some(word) = words.last() else { return Ok(Duration::from_secs(2)) };
    match parse_span_ms(&word.text) {
        Some(ms) if (bounds::LEDGER_TIMEOUT_MS_MIN..=bounds::LEDGER_TIMEOUT_MS_MAX).contains(&ms) => {
            Ok(Duration::from_millis(ms))
        }
        _ => Err(word.wrong("takes a duration of 10ms to 1m, such as 500ms or 2s")),
    }
}

fn drain_delay(words: &[Word]) -> Result<Duration, ConfigError> {
    let Some(word) = words.last() else { return Ok(Duration::ZERO) };
    match parse_span_ms(&word.text) {
        Some(ms) if ms <= bounds::DRAIN_DELAY_MS_MAX => Ok(Duration::from_millis(ms)),
        _ => Err(word.wrong("takes a duration of 0s to 10m, such as 5s")),
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
