//! What is set, where that came from, and a file with everything that can be: for `boxoffice config`.

use std::str::FromStr;

use super::words::{self, LISTS, SETTINGS, Word, Words};
use super::{DEFAULT_ADMIN, DEFAULT_LEDGER, DEFAULT_LISTEN, DEFAULT_STATE};
use crate::ledger::url::LedgerUrl;
use crate::limits::{ClientLimits, Limit};

/// A setting of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingShown {
    /// `listen`; a limit is `limit.idle-time`.
    pub name: String,
    /// Its value, as every source would have it, without passwords; `None` if it has none.
    pub value: Option<String>,
    /// `--listen`, `BOXOFFICE_LISTEN`, `box.toml: listen` or `default`.
    pub from: String,
}

/// All settings, in the order of [`SETTINGS`], a line for each sale and each limit. The words are valid: they were
/// [read](super::Config::read).
pub fn settings(
    flags: &Words,
    variable: &dyn Fn(&str) -> Option<String>,
    file: Option<&Words>,
) -> Vec<SettingShown> {
    let mut all = Vec::new();
    for name in SETTINGS {
        if name == "limit" {
            all.extend(limits(words::by_source(name, flags, variable, file)));
            continue;
        }
        let mut words = words::pick(name, flags, variable, file);
        // Of the same setting twice the last one is taken.
        if !LISTS.contains(&name) {
            words.drain(..words.len().saturating_sub(1));
        }
        if words.is_empty() {
            let value = SettingNotes::of(name).default.map(str::to_owned);
            all.push(SettingShown { name: name.to_owned(), value, from: "default".to_owned() });
        }
        all.extend(words.iter().map(|word| SettingShown {
            name: name.to_owned(),
            value: Some(if name == "ledger" { without_password(&word.text) } else { word.text.clone() }),
            from: word.source().to_string(),
        }));
    }
    all
}

/// Of a URL that cannot be read nothing is shown: nobody knows where in it the password is.
fn without_password(url: &str) -> String {
    LedgerUrl::from_str(url).map_or_else(|_| "not shown: it cannot be read".to_owned(), |url| url.to_string())
}

fn limits(sources: [Vec<Word>; 3]) -> Vec<SettingShown> {
    let defaults = ClientLimits::default();
    let shown = |limit: &Limit| {
        let words = sources.iter().flatten();
        let mut set = words.filter_map(|word| Some((word.text.split_once('=')?, word)));
        let (value, from) = match set.find(|((name, _), _)| *name == limit.name()) {
            Some(((_, value), word)) => (value.to_owned(), word.source().to_string()),
            None => (limit.text(defaults.get(*limit)), "default".to_owned()),
        };
        SettingShown { name: format!("limit.{}", limit.name()), value: Some(value), from }
    };
    Limit::ALL.iter().map(shown).collect()
}

/// What is said of a setting in the example.
struct SettingNotes {
    /// As a text; `None` if there is none.
    default: Option<&'static str>,
    /// What stands in the example if there is no default.
    example: &'static str,
    /// What it is, and the reason of its default.
    what: &'static str,
}

impl SettingNotes {
    fn of(name: &str) -> SettingNotes {
        let about = |default, what| SettingNotes { default: Some(default), example: default, what };
        let unset = |example, what| SettingNotes { default: None, example, what };
        match name {
            "listen" => about(
                DEFAULT_LISTEN,
                "Where clients connect. Loopback, since Nginx is usually in front of it.",
            ),
            "admin" => about(
                DEFAULT_ADMIN,
                "Where operators connect: dashboard, metrics, sales. Any address that is not loopback needs admin-token-file.",
            ),
            "admin-token-file" => unset(
                "token",
                "A file of one line: the bearer token that every changing call of an operator must carry. Without one whoever is on \
                 this machine may change sales.",
            ),
            "cores" => about(
                "all",
                "Which CPUs get an event loop: \"all\" or a list such as \"0-3,6\". All, since a host usually has its machine to itself.",
            ),
            "no-pin" => about(
                "false",
                "true leaves the loops to the scheduler. They are pinned by default: a loop that moves loses its caches.",
            ),
            "reuse-port" => about(
                "false",
                "true lets another boxoffice of the same user listen on the same two ports: the next process of a restart, beside \
                 this one. Not by default: a second host that was started by mistake would go unnoticed.",
            ),
            "ledger" => about(
                DEFAULT_LEDGER,
                "Who has the last word on every ticket: sqlite:PATH for one host, redis://HOST:PORT/DB for many, rediss:// for TLS, \
                 redis+unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT,HOST:PORT/NAME. A file, since that needs nothing else.",
            ),
            "ledger-password-file" => unset(
                "redis.password",
                "A file of one line: the password of a Redis whose URL has none. Read for each new connection, so that it can be \
                 changed; and unlike a URL no list of processes shows it.",
            ),
            "ledger-ca" => unset(
                "ca.pem",
                "A PEM file with the CAs that may have signed the certificate of a Redis over TLS. Without it those of this machine.",
            ),
            "ledger-cert" => unset(
                "client.pem",
                "A PEM file with the certificate to show to a Redis over TLS that demands one.",
            ),
            "ledger-key" => {
                unset("client.key", "A PEM file with the private key of ledger-cert, without a passphrase.")
            }
            "ledger-sentinel-user" => {
                unset("boxoffice", "The ACL user of the sentinels, if they have one for boxoffice.")
            }
            "ledger-sentinel-password-file" => unset(
                "sentinel.password",
                "A file of one line: the password of the sentinels, which need not be that of Redis.",
            ),
            "state" => about(
                DEFAULT_STATE,
                "Where to remember which sales of a Redis this host has known, so that no restart reopens one that Redis has lost. \
                 \"none\" remembers nothing.",
            ),
            "sale" => unset(
                "ticket=10000,hold=5m,hold-max=30m,per-buyer=4",
                "Sales to open if the ledger never had one of that name; one that exists is never changed. None by default. A list: \
                 sale = [\"a=1\", \"b=2\"].",
            ),
            "weight" => about(
                "1",
                "This host's share of the crowd, relative to the weights of the others, 1 to 10000: what the balancer gives it.",
            ),
            "advertise" => unset(
                "10.0.0.1:3005",
                "Where a balancer reaches this host, as ADDR:PORT or NAME:PORT, if that is not where it listens: `boxoffice hosts` and \
                 `boxoffice nginx --ledger` tell it.",
            ),
            "buffer" => about(
                "0.2",
                "Spare permits to ask the ledger, as a part of the stock, 0 to 10. A fifth: some of those who ask are refused by the \
                 ledger, for a buyer's limit, say, and others should be on their way by then.",
            ),
            "durability" => about(
                "ack",
                "When a booking in Redis counts as made: \"ack\" once Redis has answered; \"aof\" from a Redis that syncs each write to \
                 disk first; \"replicas=N\" once N replicas have it too. The first, since it is what every Redis can do.",
            ),
            "ledger-timeout" => about(
                "2s",
                "How long a request waits for the ledger before it is answered 503, 10ms to 1m. Longer than a failover by Sentinel \
                 needs to be noticed would keep clients waiting for nothing.",
            ),
            "drain-delay" => about(
                "0s",
                "How long a draining host goes on accepting connections after /readyz says 503, 0s to 10m: as long as a balancer needs \
                 to notice. Zero, since without a balancer there is nobody to wait for.",
            ),
            "access-log" => unset(
                "access.log",
                "A file, a pipe, /dev/stdout or /dev/stderr for one JSON line a booking request; `boxoffice audit` compares it.",
            ),
            "trusted-proxy" => unset(
                "10.0.0.0/8",
                "Proxies that are believed when they say for whom they speak, by X-Forwarded-For or a PROXY header: addresses and \
                 networks. None by default, since a client can write any address into a request. A list, likewise.",
            ),
            "proxy-protocol" => about(
                "false",
                "true if each connection of clients begins with a PROXY header (version 1 or 2); others are closed. Takes \
                 trusted-proxy. Not by default: a client cannot send one.",
            ),
            other => unreachable!("{other} is a setting of which nothing is said"),
        }
    }
}

/// Columns of the comments in the example.
const COMMENT_COLUMNS: usize = 100;

/// A TOML file in which every setting stands with its default and its reason, all of them commented out: what is changed is what
/// the comment sign is taken from.
pub fn example() -> String {
    let mut out = String::new();
    comment(
        &mut out,
        "All settings of `boxoffice serve`, for `--config FILE`. What is commented out is the default, or an example if there is \
         none. A flag or a BOXOFFICE_* variable of the same name wins over this file.",
    );
    for name in SETTINGS.into_iter().filter(|name| *name != "limit") {
        let SettingNotes { default, example, what } = SettingNotes::of(name);
        out.push('\n');
        comment(&mut out, what);
        if default.is_none() {
            comment(&mut out, "Not set by default.");
        }
        let is_bare = example == "false" || example.parse::<f64>().is_ok();
        let value = if is_bare { example.to_owned() } else { toml::Value::from(example).to_string() };
        out.push_str(&format!("# {name} = {value}\n"));
    }
    out.push('\n');
    comment(
        &mut out,
        "What clients may ask for and hold. What is reached is refused, and counted in boxoffice_limits_met_total. src/limits.rs has \
         the reason for each default.",
    );
    out.push_str("# [limit]\n");
    let defaults = ClientLimits::default();
    for &limit in Limit::ALL {
        let (least, most) = limit.range();
        out.push('\n');
        comment(
            &mut out,
            &format!("{} From {} to {}.", limit.meaning(), limit.text(least), limit.text(most)),
        );
        out.push_str(&format!(
            "# {} = {}\n",
            limit.name(),
            toml::Value::from(limit.text(defaults.get(limit)))
        ));
    }
    out
}

/// A comment, in lines of words. Two signs, so that a setting is told from what is said of it.
fn comment(out: &mut String, text: &str) {
    let mut line = "##".to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_COLUMNS {
            out.push_str(&line);
            out.push('\n');
            line = "##".to_owned();
        }
        line.extend([" ", word]);
    }
    out.push_str(&line);
    out.push('\n');
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn read(file: &str) -> (Words, Config) {
        let words = Words::from_toml(Path::new("box.toml"), file).unwrap();
        let config = Config::read(&Words::default(), &|_| None, Some(&words), &[0, 1]).unwrap();
        (words, config)
    }

    /// The example without the comment signs of the settings that match.
    fn uncommented(which: &dyn Fn(&str) -> bool) -> String {
        let lines = example();
        let lines = lines.lines().map(|line| match line.strip_prefix("# ") {
            Some(setting) if which(setting.split(' ').next().unwrap()) => setting.to_owned(),
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_has_every_setting_with_its_default() {
        let named = |name: &str| SETTINGS.contains(&name) && SettingNotes::of(name).default.is_some();
        let is_default = |name: &str| {
            name == "[limit]" || Limit::from_name(name).is_some() || name != "limit" && named(name)
        };
        let (words, config) = read(&uncommented(&is_default));
        assert_eq!(config, read("").1);
        for limit in Limit::ALL {
            assert!(example().contains(&format!("\n# {} = ", limit.name())), "{limit}");
        }
        let from = settings(&Words::default(), &|_| None, Some(&words));
        let of_file = from.iter().filter(|setting| setting.from.starts_with("box.toml")).count();
        assert_eq!(
            of_file,
            SETTINGS.iter().filter(|name| **name != "limit" && named(name)).count() + Limit::ALL.len()
        );
        // As it stands it sets nothing, and with everything it is still valid but for what needs a Redis.
        assert_eq!(read(&example()).1, read("").1);
        for name in SETTINGS.into_iter().filter(|name| *name != "limit") {
            let (_, config) = read(&uncommented(&|setting| setting == name));
            let is_as_by_default = config == read("").1;
            assert_eq!(is_as_by_default, SettingNotes::of(name).default.is_some(), "{name}");
        }
        assert!(example().lines().all(|line| line.chars().count() <= COMMENT_COLUMNS));
    }

    #[test]
    fn each_setting_is_shown_with_its_source_and_no_password() {
        let mut flags = Words::default();
        flags.flag("sale", "a=1");
        flags.flag("sale", "b=2");
        flags.flag("limit", "linger=1s");
        flags.flag("ledger", "redis://user:s3cret@10.0.0.1:6379/2");
        let (file, _) = read("weight = 3\nlisten = '127.0.0.1:1'\n[limit]\nlinger = '3s'\npipeline = 7\n");
        let variable = |name: &str| (name == "BOXOFFICE_LISTEN").then(|| "127.0.0.1:2".to_owned());
        let shown = settings(&flags, &variable, Some(&file));
        let find = |name: &str| {
            let found = shown.iter().filter(|setting| setting.name == name);
            found.map(|it| (it.value.as_deref().unwrap_or("-"), it.from.as_str())).collect::<Vec<_>>()
        };
        assert_eq!(find("listen"), [("127.0.0.1:2", "BOXOFFICE_LISTEN")]);
        assert_eq!(find("admin"), [("127.0.0.1:9305", "default")]);
        assert_eq!(find("weight"), [("3", "box.toml: weight")]);
        assert_eq!(find("sale"), [("a=1", "--sale"), ("b=2", "--sale")]);
        assert_eq!(find("access-log"), [("-", "default")]);
        assert_eq!(find("limit.linger"), [("1s", "--limit")]);
        assert_eq!(find("limit.pipeline"), [("7", "box.toml: limit")]);
        assert_eq!(find("limit.requests"), [("100000", "default")]);
        assert_eq!(find("ledger"), [("redis://user:***@10.0.0.1:6379/2", "--ledger")]);
        let mut names: Vec<_> = shown.iter().map(|setting| setting.name.split('.').next().unwrap()).collect();
        names.dedup();
        assert_eq!(names, SETTINGS);
        for url in ["redis://u:s3cret@", "redis+cluster://u:s3cret@h:1", "redis://h:port:s3cret@x/y"] {
            assert!(!without_password(url).contains("s3cret"), "{url}");
        }
    }
}
