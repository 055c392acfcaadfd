//! The flags of `boxoffice serve`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Config, ConfigError, SettingShown, Source, Words, config_file, settings};
use crate::limits::{ClientLimits, Limit};

const AFTER_HELP: &str = "Each setting can come from its flag, its BOXOFFICE_* variable or the TOML file of --config \
    (same names, without dashes before them); the first of these wins.\n\nExample: boxoffice serve --sale ticket=10000";

/// The limits, one a line, before [`AFTER_HELP`].
fn after_long_help() -> String {
    let defaults = ClientLimits::default();
    let mut text = "Limits of --limit, with their defaults and ranges:\n".to_owned();
    for &limit in Limit::ALL {
        let (least, most) = limit.range();
        let (least, most) = (limit.text(least), limit.text(most));
        let default = limit.text(defaults.get(limit));
        text.push_str(&format!("  {:<22}{default:>7}   {least} to {most}\n", limit.name()));
    }
    text.push_str(
        "requests and address-connections: 0 means unlimited. docs/configuration.md says what happens when one is exceeded.\n\n",
    );
    text + AFTER_HELP
}

/// `boxoffice serve`. The texts are read by [`Config::read`], together with the variables and the file, so that each
/// place takes the same words and gives the same errors.
#[derive(Debug, Default, Args)]
#[command(after_help = AFTER_HELP, after_long_help = after_long_help())]
pub struct ServeFlags {
    /// Where clients connect [default: 127.0.0.1:3005] [env: BOXOFFICE_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where operators connect; an address other than loopback needs --admin-token-file [default: 127.0.0.1:9305]
    /// [env: BOXOFFICE_ADMIN]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,
    /// File with the bearer token that every changing admin call must carry [env: BOXOFFICE_ADMIN_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<String>,
    /// Which CPUs get an event loop, such as 0-3,6; each loop is pinned to its CPU [default: all] [env:
    /// BOXOFFICE_CORES]
    #[arg(long, value_name = "LIST|all")]
    cores: Option<String>,
    /// Do not pin the loops to their CPUs [env: BOXOFFICE_NO_PIN]
    #[arg(long)]
    no_pin: bool,
    /// Let another boxoffice of the same user listen on the same two ports: the next process of a restart, beside this one
    /// [env: BOXOFFICE_REUSE_PORT]
    #[arg(long)]
    reuse_port: bool,
    /// The ledger: sqlite:PATH, redis://USER:PASSWORD@HOST:PORT/DB, rediss://... for TLS, redis+unix:///PATH,
    /// redis+sentinel://HOST:PORT,HOST:PORT,HOST:PORT/NAME for the primary that sentinels name, or
    /// redis+cluster://HOST:PORT,HOST:PORT,HOST:PORT for a Cluster [default: sqlite:boxoffice.db] [env: BOXOFFICE_LEDGER]
    #[arg(long, value_name = "URL")]
    ledger: Option<String>,
    /// File with the password of a Redis whose URL has none; read for each new connection, so that it can be changed
    /// [env: BOXOFFICE_LEDGER_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    ledger_password_file: Option<String>,
    /// PEM file with the CAs that may have signed the certificate of a Redis over TLS; without it those of this machine.
    /// This file and the next two are read for each new connection [env: BOXOFFICE_LEDGER_CA]
    #[arg(long, value_name = "FILE")]
    ledger_ca: Option<String>,
    /// PEM file with the certificate to show to a Redis over TLS that demands one [env: BOXOFFICE_LEDGER_CERT]
    #[arg(long, value_name = "FILE")]
    ledger_cert: Option<String>,
    /// PEM file with the private key of --ledger-cert, without a passphrase [env: BOXOFFICE_LEDGER_KEY]
    #[arg(long, value_name = "FILE")]
    ledger_key: Option<String>,
    /// ACL user of the sentinels in a redis+sentinel:// URL, if they have one for boxoffice [env:
    /// BOXOFFICE_LEDGER_SENTINEL_USER]
    #[arg(long, value_name = "NAME")]
    ledger_sentinel_user: Option<String>,
    /// File with the password of the sentinels, which need not be that of Redis; read for each new connection [env:
    /// BOXOFFICE_LEDGER_SENTINEL_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    ledger_sentinel_password_file: Option<String>,
    /// Where to remember which sales of a Redis this host has known, so that no restart reopens one that Redis has lost
    /// [default: boxoffice.state] [env: BOXOFFICE_STATE]
    #[arg(long, value_name = "FILE|none")]
    state: Option<String>,
    /// Open a sale if the ledger never had one of that name; never changes one that exists (repeatable) [env:
    /// BOXOFFICE_SALE, space-separated]
    #[arg(long, value_name = "NAME=STOCK[,hold=5m][,hold-max=30m][,per-buyer=4][,starts=TIME][,ends=TIME]")]
    sale: Vec<String>,
    /// This host's share of the crowd, relative to the weights of the other hosts, 1 to 10000 [default: 1] [env:
    /// BOXOFFICE_WEIGHT]
    #[arg(long, value_name = "N")]
    weight: Option<String>,
    /// Where a balancer reaches this host, as `boxoffice hosts` and `boxoffice nginx --ledger` tell it [default: the address
    /// of --listen] [env: BOXOFFICE_ADVERTISE]
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Option<String>,
    /// Spare permits to ask the ledger, as a fraction of the stock, 0 to 10 [default: 0.2] [env: BOXOFFICE_BUFFER]
    #[arg(long, value_name = "F")]
    buffer: Option<String>,
    /// When a booking on Redis counts as made: ack, once Redis has answered; aof, the same, from a Redis that syncs each
    /// write to disk first; replicas=N, once N replicas have it too [default: ack] [env: BOXOFFICE_DURABILITY]
    #[arg(long, value_name = "ack|aof|replicas=N")]
    durability: Option<String>,
    /// How long a request waits for the ledger before it is answered 503, 10ms to 1m [default: 2s] [env:
    /// BOXOFFICE_LEDGER_TIMEOUT]
    #[arg(long, value_name = "DURATION")]
    ledger_timeout: Option<String>,
    /// How long a draining host goes on accepting connections after /readyz turns 503, 0s to 10m: the time that a load
    /// balancer needs to notice [default: 0s] [env: BOXOFFICE_DRAIN_DELAY]
    #[arg(long, value_name = "DURATION")]
    drain_delay: Option<String>,
    /// Append one JSON line for each booking request [env: BOXOFFICE_ACCESS_LOG]
    #[arg(long, value_name = "FILE")]
    access_log: Option<String>,
    /// Proxy, or network of proxies, that is believed when it says for whom it speaks, by X-Forwarded-For or a PROXY header
    /// (repeatable) [env: BOXOFFICE_TRUSTED_PROXY, space-separated]
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<String>,
    /// Each connection of clients begins with a PROXY header, version 1 or 2, of a --trusted-proxy; others are closed [env:
    /// BOXOFFICE_PROXY_PROTOCOL]
    #[arg(long)]
    proxy_protocol: bool,
    /// Set a limit on clients, such as idle-time=60s (repeatable); `boxoffice serve --help` lists them [env:
    /// BOXOFFICE_LIMIT, space-separated]
    #[arg(long, value_name = "NAME=VALUE")]
    limit: Vec<String>,
    /// TOML file with the same names [env: BOXOFFICE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ServeFlags {
    /// Reads the whole configuration. `variable` gives the environment, `read_file` a file's text, and `machine` lists
    /// the CPUs that this process may run on.
    ///
    /// # Errors
    /// The first word that is wrong; exit status 2.
    pub fn config(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
        machine: &[usize],
    ) -> Result<Config, ConfigError> {
        let file = self.file(variable, read_file)?;
        Config::read(&self.words(), variable, file.as_ref(), machine)
    }

    /// Each setting of that configuration, and where it came from.
    ///
    /// # Errors
    /// Likewise.
    pub fn settings(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
        machine: &[usize],
    ) -> Result<Vec<SettingShown>, ConfigError> {
        let (words, file) = (self.words(), self.file(variable, read_file)?);
        Config::read(&words, variable, file.as_ref(), machine)?;
        Ok(settings(&words, variable, file.as_ref()))
    }

    fn file(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
        read_file: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<Option<Words>, ConfigError> {
        let Some(path) = config_file(self.config.clone(), variable) else { return Ok(None) };
        let text = read_file(&path).map_err(|error| ConfigError {
            source_of_word: Source::Flag("--config".to_owned()),
            word: path.display().to_string(),
            takes: format!("cannot be read: {error}"),
        })?;
        Words::from_toml(&path, &text).map(Some)
    }

    fn words(&self) -> Words {
        let mut words = Words::default();
        for (name, text) in [
            ("listen", &self.listen),
            ("admin", &self.admin),
            ("admin-token-file", &self.admin_token_file),
            ("cores", &self.cores),
            ("ledger", &self.ledger),
            ("ledger-password-file", &self.ledger_password_file),
            ("ledger-ca", &self.ledger_ca),
            ("ledger-cert", &self.ledger_cert),
            ("ledger-key", &self.ledger_key),
            ("ledger-sentinel-user", &self.ledger_sentinel_user),
            ("ledger-sentinel-password-file", &self.ledger_sentinel_password_file),
            ("state", &self.state),
            ("weight", &self.weight),
            ("advertise", &self.advertise),
            ("buffer", &self.buffer),
            ("durability", &self.durability),
            ("ledger-timeout", &self.ledger_timeout),
            ("drain-delay", &self.drain_delay),
            ("access-log", &self.access_log),
        ] {
            if let Some(text) = text {
                words.flag(name, text);
            }
        }
        let switches = [
            ("no-pin", self.no_pin),
            ("reuse-port", self.reuse_port),
            ("proxy-protocol", self.proxy_protocol),
        ];
        for (name, is_set) in switches {
            if is_set {
                words.flag(name, "true");
            }
        }
        let lists = [("sale", &self.sale), ("trusted-proxy", &self.trusted_proxy), ("limit", &self.limit)];
        for (name, texts) in lists {
            texts.iter().for_each(|text| words.flag(name, text));
        }
        words
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::config::{CoreChoice, SETTINGS};
    use crate::proxies::TrustedProxies;

    fn config(line: &str, file: &str) -> Result<Config, ConfigError> {
        let Command::Serve(flags) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("{line}")
        };
        flags.config(&|_| None, &|_| Ok(file.to_owned()), &[0, 1])
    }

    #[test]
    fn every_setting_is_a_flag_and_says_its_variable() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for name in SETTINGS.into_iter().chain(["config"]) {
            let flag = serve.get_arguments().find(|flag| flag.get_long() == Some(name)).expect(name);
            let variable = format!("BOXOFFICE_{}", name.to_uppercase().replace('-', "_"));
            assert!(flag.get_help().unwrap().to_string().contains(&variable), "{name}");
        }
    }

    #[test]
    fn flags_reach_the_configuration() {
        let config = config(
            "boxoffice serve --listen 127.0.0.1:1 --admin 127.0.0.1:2 --admin-token-file t --cores 1 --no-pin --reuse-port \
             --ledger redis://x --ledger-password-file p --ledger-ca ca --ledger-cert c --ledger-key k --ledger-sentinel-user su \
             --ledger-sentinel-password-file sp --state s --sale a=1 --sale b=2 --weight 7 --advertise h:9 --buffer 0 --durability ack --ledger-timeout 1s \
             --drain-delay 3s --access-log l --trusted-proxy 10.0.0.0/8 --trusted-proxy ::1 --proxy-protocol --limit linger=1s --limit pipeline=7 --config c.toml",
            "weight = 9",
        )
        .unwrap();
        assert_eq!((config.listen.port(), config.admin.port(), config.pin), (1, 2, false));
        assert!(config.reuse_port);
        assert_eq!((config.cores, config.weight), (CoreChoice::List(vec![1]), 7));
        assert_eq!(config.advertise.as_deref(), Some("h:9"));
        assert_eq!((config.sales.len(), config.ledger.as_str(), config.buffer), (2, "redis://x", 0.0));
        assert_eq!((config.limits.linger_ms, config.limits.pipeline), (1_000, 7));
        assert_eq!(config.ledger_files.password, Some("p".into()));
        let login = config.ledger_files.sentinel;
        assert_eq!((login.user, login.password_file), (Some("su".into()), Some("sp".into())));
        let tls = config.ledger_files.tls;
        assert_eq!((tls.ca, tls.cert, tls.key), (Some("ca".into()), Some("c".into()), Some("k".into())));
        assert_eq!(config.state, Some("s".into()));
        assert_eq!(config.drain_delay, std::time::Duration::from_secs(3));
        let networks = ["10.0.0.0/8", "::1"].map(|network| network.parse().unwrap());
        assert_eq!(config.proxies, TrustedProxies::new(networks.to_vec(), true));
        assert_eq!((config.access_log, config.admin_token_file), (Some("l".into()), Some("t".into())));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let Command::Serve(flags) =
            Cli::try_parse_from(["boxoffice", "serve", "--config", "c.toml"]).unwrap().command
        else {
            panic!("not serve")
        };
        let missing = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
        let error = flags.config(&|_| None, &missing, &[0]).unwrap_err();
        assert_eq!(error.to_string(), "--config: \"c.toml\" cannot be read: entity not found");
    }
}
