//! `--ledger URL`: which ledger, where, and as whom. Passwords are kept out of everything that prints.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::pki_types::ServerName;

use super::tls::TlsFiles;

/// A parsed `--ledger`. Prints as it was written, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
    /// `redis://…`, `rediss://…`, `redis+unix://…`, `redis+sentinel://…`, `redis+cluster://…`, or one of the last two over TLS.
    Redis(RedisUrl),
}

/// Where a Redis is, and what a connection says first.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where.
    pub address: RedisAddress,
    /// Its ACL user; `None` is Redis' `default`.
    pub user: Option<String>,
    /// Never printed.
    pub password: Option<String>,
    /// Where the password is read from at each dial, in place of one in the URL.
    pub password_file: Option<PathBuf>,
    /// Number of the database; 0 by default.
    pub database: u32,
    /// Whom to trust and what to show, where TLS is to be spoken: `rediss://`. Whoever is dialled by a name must have it in
    /// its certificate.
    pub tls: Option<Box<TlsFiles>>,
}

/// The files that a ledger's URL may have beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerFiles {
    /// `--ledger-password-file`.
    pub password: Option<PathBuf>,
    /// `--ledger-ca`, `--ledger-cert`, `--ledger-key`.
    pub tls: TlsFiles,
    /// `--ledger-sentinel-user`, `--ledger-sentinel-password-file`.
    pub sentinel: SentinelLogin,
}

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// On TCP; port 6379 by default.
    Tcp(HostPort),
    /// The path of a socket.
    Unix(PathBuf),
    /// Where sentinels say.
    Sentinel(Box<SentinelAddress>),
    /// On many nodes, each with some of the slots; these are asked for the others. At most [`SEEDS_MAX`].
    Cluster(Vec<HostPort>),
}

/// Sentinels, and what they are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelAddress {
    /// All of them: more than half of these must agree. At most [`SENTINELS_MAX`].
    pub sentinels: Vec<HostPort>,
    /// What they call the primary and its replicas.
    pub name: String,
    /// Who asks.
    pub login: SentinelLogin,
}

/// As whom sentinels are asked, where they demand a password. It has nothing to do with that of the Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentinelLogin {
    /// Their ACL user; `None` is `default`.
    pub user: Option<String>,
    /// Where the password is read from at each dial.
    pub password_file: Option<PathBuf>,
}

/// A host name or address (IPv6 without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// To be resolved.
    pub host: String,
    /// Above 0.
    pub port: u16,
}

/// Most sentinels that a URL names: each is asked by a thread of its own.
pub const SENTINELS_MAX: usize = 16;

/// Most nodes of a Cluster that a URL names: each is asked in turn where the others are.
pub const SEEDS_MAX: usize = 64;

/// What stands in a path as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// What is wrong with a `--ledger`, and what it takes. Never repeats the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `sqlite:` nor a Redis URL.
    #[error(
        "ledger: takes sqlite:PATH, redis://[user:pass@]host:port/db, rediss://… (TLS), redis+unix:///path, \
         redis+sentinel://[user:pass@]h1:p1,h2:p2,h3:p3/NAME/DB or redis+cluster://[user:pass@]h1:p1,h2:p2,h3:p3"
    )]
    Scheme,
    /// `sqlite:` or `redis+unix://` with nothing behind it.
    #[error("ledger: {0} takes a path, as in {0}{1}")]
    NoPath(&'static str, &'static str),
    /// A password in the URL and in a file.
    #[error(
        "ledger: has a password, and --ledger-password-file names another; leave one out (redis://user:@host takes the file's)"
    )]
    PasswordTwice,
    /// A password for a ledger that takes none.
    #[error("ledger: --ledger-password-file is for Redis; a SQLite file has no password")]
    NoPassword,
    /// A file for TLS, and a ledger that speaks none.
    #[error("ledger: {0} is for Redis over TLS, rediss://…; {1}")]
    NoTls(&'static str, &'static str),
    /// A login for sentinels, and a ledger that has none.
    #[error("ledger: {0} is for redis+sentinel://…; this ledger is not found by sentinels")]
    NoSentinels(&'static str),
    /// A user without a password.
    #[error("ledger: --ledger-sentinel-user takes --ledger-sentinel-password-file beside it")]
    NoSentinelPassword,
    /// Half of an identity.
    #[error("ledger: --ledger-cert and --ledger-key go together, a certificate and its key; {0} is missing")]
    HalfIdentity(&'static str),
    /// A part of a Redis URL.
    #[error("ledger: {part} of the Redis URL: {takes}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What it takes.
        takes: &'static str,
    },
}

fn bad(part: &'static str, takes: &'static str) -> UrlError {
    UrlError::Part { part, takes }
}

/// Why a password file gives no password.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot read {whose} password from {path}: {cause}")]
pub struct PasswordError {
    /// The ledger's, or the sentinels'.
    pub whose: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it; never what is in it.
    pub cause: String,
}

/// Max bytes of a password file.
const PASSWORD_FILE_BYTES_MAX: u64 = 4096;

impl LedgerUrl {
    /// The same ledger, with these files.
    ///
    /// # Errors
    /// If it has no use for one of them, or one is missing.
    pub fn with_files(self, files: &LedgerFiles) -> Result<LedgerUrl, UrlError> {
        self.with_password_file(files.password.as_deref())?
            .with_tls_files(&files.tls)?
            .with_sentinel_login(&files.sentinel)
    }

    fn with_sentinel_login(mut self, login: &SentinelLogin) -> Result<LedgerUrl, UrlError> {
        let flag = match login {
            SentinelLogin { user: None, password_file: None } => return Ok(self),
            SentinelLogin { password_file: Some(_), .. } => "--ledger-sentinel-password-file",
            SentinelLogin { user: Some(_), password_file: None } => "--ledger-sentinel-user",
        };
        match &mut self {
            LedgerUrl::Redis(RedisUrl { address: RedisAddress::Sentinel(address), .. }) => {
                if login.password_file.is_none() {
                    return Err(UrlError::NoSentinelPassword);
                }
                address.login = login.clone();
                Ok(self)
            }
            LedgerUrl::Redis(_) | LedgerUrl::Sqlite(_) => Err(UrlError::NoSentinels(flag)),
        }
    }

    fn with_tls_files(mut self, files: &TlsFiles) -> Result<LedgerUrl, UrlError> {
        let TlsFiles { ca, cert, key } = files;
        let named = [("--ledger-ca", ca), ("--ledger-cert", cert), ("--ledger-key", key)];
        let Some((first, _)) = named.iter().find(|(_, file)| file.is_some()) else { return Ok(self) };
        match &mut self {
            LedgerUrl::Sqlite(_) => Err(UrlError::NoTls(first, "a SQLite file is not reached by a network")),
            LedgerUrl::Redis(RedisUrl { address: RedisAddress::Unix(_), .. }) => {
                Err(UrlError::NoTls(first, "a UNIX socket does not leave the machine"))
            }
            LedgerUrl::Redis(RedisUrl { tls: None, .. }) => {
                Err(UrlError::NoTls(first, "this one is not encrypted"))
            }
            LedgerUrl::Redis(RedisUrl { tls: Some(tls), .. }) => match (cert, key) {
                (Some(_), None) => Err(UrlError::HalfIdentity("--ledger-key")),
                (None, Some(_)) => Err(UrlError::HalfIdentity("--ledger-cert")),
                (Some(_), Some(_)) | (None, None) => {
                    **tls = files.clone();
                    Ok(self)
                }
            },
        }
    }

    fn with_password_file(self, file: Option<&Path>) -> Result<LedgerUrl, UrlError> {
        match (self, file) {
            (url, None) => Ok(url),
            (LedgerUrl::Sqlite(_), Some(_)) => Err(UrlError::NoPassword),
            (LedgerUrl::Redis(RedisUrl { password: Some(password), .. }), Some(_))
                if !password.is_empty() =>
            {
                Err(UrlError::PasswordTwice)
            }
            (LedgerUrl::Redis(url), Some(file)) => {
                Ok(LedgerUrl::Redis(RedisUrl { password: None, password_file: Some(file.to_owned()), ..url }))
            }
        }
    }
}

impl RedisUrl {
    /// The password to show to a Redis that is dialled now. Reads the file, if there is one: it may have changed.
    ///
    /// # Errors
    /// If the file cannot be read, or has no password of one line.
    pub fn password_now(&self) -> Result<Option<String>, PasswordError> {
        match &self.password_file {
            None => Ok(self.password.clone()),
            Some(path) => read_password("the ledger's", path).map(Some),
        }
    }

    /// Whether sentinels say where it is.
    pub fn is_named_by_sentinels(&self) -> bool {
        matches!(self.address, RedisAddress::Sentinel(_))
    }

    /// Whether it is a Cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.address, RedisAddress::Cluster(_))
    }

    /// Whether a failover may make a replica of a primary at any time.
    pub fn may_move(&self) -> bool {
        self.is_named_by_sentinels() || self.is_cluster()
    }
}

impl SentinelLogin {
    /// The password to show to a sentinel that is dialled now.
    ///
    /// # Errors
    /// If the file cannot be read, or has no password of one line.
    pub fn password_now(&self) -> Result<Option<String>, PasswordError> {
        self.password_file.as_deref().map(|path| read_password("the sentinels'", path)).transpose()
    }
}

fn read_password(whose: &'static str, path: &Path) -> Result<String, PasswordError> {
    let wrong = |cause: String| PasswordError { whose, path: path.to_owned(), cause };
    let metadata = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    // Reading a pipe would wait.
    if !metadata.is_file() {
        return Err(wrong("it is not a file".to_owned()));
    }
    if metadata.len() > PASSWORD_FILE_BYTES_MAX {
        return Err(wrong(format!("it has more than {PASSWORD_FILE_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let password = line.strip_suffix('\r').unwrap_or(line);
    match password {
        "" => Err(wrong("it is empty".to_owned())),
        _ if password.contains('\n') => Err(wrong("it has more than one line".to_owned())),
        _ => Ok(password.to_owned()),
    }
}

/// What a URL begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Sqlite,
    Redis,
    RedisTls,
    RedisUnix,
    Sentinel,
    SentinelTls,
    Cluster,
    ClusterTls,
}

/// The one list of prefixes of a ledger's URL.
const SCHEMES: [(&str, Scheme); 8] = [
    ("sqlite:", Scheme::Sqlite),
    ("redis://", Scheme::Redis),
    ("rediss://", Scheme::RedisTls),
    ("redis+unix://", Scheme::RedisUnix),
    ("redis+sentinel://", Scheme::Sentinel),
    ("rediss+sentinel://", Scheme::SentinelTls),
    ("redis+cluster://", Scheme::Cluster),
    ("rediss+cluster://", Scheme::ClusterTls),
];

fn split_scheme(url: &str) -> Option<(Scheme, &str)> {
    SCHEMES.iter().find_map(|(start, scheme)| Some((*scheme, url.strip_prefix(start)?)))
}

/// Whether `url` begins like that of a ledger, with something behind that.
pub fn names_a_ledger(url: &str) -> bool {
    split_scheme(url).is_some_and(|(_, rest)| !rest.is_empty())
}

impl FromStr for LedgerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<LedgerUrl, UrlError> {
        match split_scheme(text) {
            Some((Scheme::Sqlite, "")) => Err(UrlError::NoPath("sqlite:", "boxoffice.db")),
            Some((Scheme::Sqlite, path)) => Ok(LedgerUrl::Sqlite(PathBuf::from(path))),
            Some((Scheme::Redis, rest)) => tcp(rest).map(LedgerUrl::Redis),
            Some((Scheme::RedisTls, rest)) => encrypted(tcp(rest)?).map(LedgerUrl::Redis),
            Some((Scheme::RedisUnix, rest)) => unix(rest).map(LedgerUrl::Redis),
            Some((Scheme::Sentinel, rest)) => sentinel(rest).map(LedgerUrl::Redis),
            Some((Scheme::SentinelTls, rest)) => encrypted(sentinel(rest)?).map(LedgerUrl::Redis),
            Some((Scheme::Cluster, rest)) => cluster(rest).map(LedgerUrl::Redis),
            Some((Scheme::ClusterTls, rest)) => encrypted(cluster(rest)?).map(LedgerUrl::Redis),
            None => Err(UrlError::Scheme),
        }
    }
}

fn tcp(rest: &str) -> Result<RedisUrl, UrlError> {
    let (rest, database) = with_query(rest)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let database = match (path, database) {
        ("", database) => database.unwrap_or(0),
        (path, None) => number(path)?,
        _ => return Err(bad("database", "is given twice, in the path and in db=")),
    };
    let (user, password, place) = with_credentials(authority)?;
    let address = RedisAddress::Tcp(host_port(place, 6379, "takes a host, as in redis://127.0.0.1:6379/0")?);
    Ok(RedisUrl { address, user, password, password_file: None, database, tls: None })
}

fn host_port(place: &str, default_port: u16, takes: &'static str) -> Result<HostPort, UrlError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => {
                (host, Some(port.strip_prefix(':').ok_or(bad("port", "needs a : after ]"))?))
            }
            None => return Err(bad("host", "[ without ]")),
        },
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err(bad("host", takes));
    }
    let port = match port {
        Some(port) => digits(port).filter(|&port| port != 0),
        None => Some(default_port),
    };
    let port = port.ok_or(bad("port", "takes 1 to 65535"))?;
    Ok(HostPort { host: host.to_owned(), port })
}

fn sentinel(rest: &str) -> Result<RedisUrl, UrlError> {
    const TAKES: &str =
        "takes the sentinels, each once, as in redis+sentinel://h1:26379,h2:26379,h3:26379/mymaster";
    let (rest, database) = with_query(rest)?;
    let mut path = rest.split('/');
    let authority = path.next().unwrap_or_default();
    let name = path.next().filter(|name| !name.is_empty());
    let database = match (path.next(), database, path.next()) {
        (None | Some(""), database, None) => database.unwrap_or(0),
        (Some(path), None, None) => number(path)?,
        _ => return Err(bad("database", "is given twice, or has something behind it")),
    };
    let (user, password, places) = with_credentials(authority)?;
    let name = name.ok_or(bad(
        "name",
        "takes what the sentinels call the primary, as in redis+sentinel://h1,h2,h3/mymaster",
    ))?;
    let name = decode(name).ok_or(bad("name", "takes %XX for what is not a letter or digit"))?;
    let sentinels = host_ports(places, 26_379, TAKES)?;
    if sentinels.len() > SENTINELS_MAX {
        return Err(bad("host", "takes at most 16 sentinels"));
    }
    let login = SentinelLogin::default();
    let address = RedisAddress::Sentinel(Box::new(SentinelAddress { sentinels, name, login }));
    Ok(RedisUrl { address, user, password, password_file: None, database, tls: None })
}

fn cluster(rest: &str) -> Result<RedisUrl, UrlError> {
    const TAKES: &str =
        "takes nodes of the Cluster, each once, as in redis+cluster://h1:6379,h2:6379,h3:6379";
    let (rest, database) = with_query(rest)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !matches!((path, database), ("" | "0", None) | ("", Some(0))) {
        return Err(bad("database", "a Cluster has no other than 0"));
    }
    let (user, password, places) = with_credentials(authority)?;
    let seeds = host_ports(places, 6379, TAKES)?;
    if seeds.len() > SEEDS_MAX {
        return Err(bad("host", "takes at most 64 nodes of a Cluster; the others are found by them"));
    }
    let address = RedisAddress::Cluster(seeds);
    Ok(RedisUrl { address, user, password, password_file: None, database: 0, tls: None })
}

/// Places with a comma between them, each once.
fn host_ports(places: &str, default_port: u16, takes: &'static str) -> Result<Vec<HostPort>, UrlError> {
    let mut all: Vec<HostPort> = Vec::new();
    for place in places.split(',') {
        let mut place = host_port(place, default_port, takes)?;
        // Names are the same in any case, and one server must not count as two.
        place.host.make_ascii_lowercase();
        if all.contains(&place) {
            return Err(bad("host", takes));
        }
        all.push(place);
    }
    Ok(all)
}

/// The same, over TLS.
fn encrypted(url: RedisUrl) -> Result<RedisUrl, UrlError> {
    let is_name = |host: &str| ServerName::try_from(host).is_ok();
    let are_names = match &url.address {
        RedisAddress::Tcp(place) => is_name(&place.host),
        RedisAddress::Sentinel(address) => address.sentinels.iter().all(|place| is_name(&place.host)),
        RedisAddress::Cluster(seeds) => seeds.iter().all(|place| is_name(&place.host)),
        RedisAddress::Unix(_) => true,
    };
    match are_names {
        true => Ok(RedisUrl { tls: Some(Box::default()), ..url }),
        false => Err(bad(
            "host",
            "takes a DNS name or an IP address, which the certificate of the server must have",
        )),
    }
}

fn unix(rest: &str) -> Result<RedisUrl, UrlError> {
    let (rest, database) = with_query(rest)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if path.len() < 2 {
        return Err(UrlError::NoPath("redis+unix://", "/run/redis/redis.sock"));
    }
    let (user, password, place) = with_credentials(authority)?;
    if !place.is_empty() {
        return Err(bad("path", "takes three slashes, as in redis+unix:///run/redis/redis.sock"));
    }
    let path = PathBuf::from(decode(path).ok_or(bad("path", "a % without two hex digits"))?);
    let (address, database) = (RedisAddress::Unix(path), database.unwrap_or(0));
    Ok(RedisUrl { address, user, password, password_file: None, database, tls: None })
}

fn with_query(rest: &str) -> Result<(&str, Option<u32>), UrlError> {
    match rest.split_once('?') {
        None => Ok((rest, None)),
        Some((rest, query)) => match query.strip_prefix("db=") {
            Some(database) => Ok((rest, Some(number(database)?))),
            None => Err(bad("query", "takes db=NUMBER and nothing else")),
        },
    }
}

fn number(text: &str) -> Result<u32, UrlError> {
    digits(text).ok_or(bad("database", "takes a number, as in /0"))
}

/// Digits and nothing else: `parse` alone would take a sign.
fn digits<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

type Credentials<'a> = (Option<String>, Option<String>, &'a str);

fn with_credentials(authority: &str) -> Result<Credentials<'_>, UrlError> {
    let Some((credentials, place)) = authority.rsplit_once('@') else { return Ok((None, None, authority)) };
    let (user, password) =
        credentials.split_once(':').ok_or(bad("password", "takes user:password@ or :password@"))?;
    let decoded = |text| decode(text).ok_or(bad("password", "takes %XX for what is not a letter or digit"));
    let (user, password) = (decoded(user)?, decoded(password)?);
    Ok(((!user.is_empty()).then_some(user), Some(password), place))
}

/// Resolves `%XX`; `None` if that is malformed or not UTF-8.
fn decode(text: &str) -> Option<String> {
    // The library leaves a `%` without two digits as it is.
    let mut after_each = text.split('%').skip(1);
    let is_escape = |after: &str| matches!(after.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    if !after_each.all(is_escape) {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

impl fmt::Display for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerUrl::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            LedgerUrl::Redis(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_deref().unwrap_or_default();
        let (user, at) = if self.password.is_some() { (user, ":***@") } else { ("", "") };
        match &self.address {
            RedisAddress::Tcp(_) => {
                let s = if self.tls.is_some() { "s" } else { "" };
                write!(f, "redis{s}://{user}{at}{}/{}", self.address, self.database)
            }
            RedisAddress::Unix(_) if self.database == 0 => {
                write!(f, "redis+unix://{user}{at}{}", self.address)
            }
            RedisAddress::Unix(_) => {
                write!(f, "redis+unix://{user}{at}{}?db={}", self.address, self.database)
            }
            RedisAddress::Sentinel(_) => {
                let s = if self.tls.is_some() { "s" } else { "" };
                write!(f, "redis{s}+sentinel://{user}{at}{}/{}", self.address, self.database)
            }
            RedisAddress::Cluster(_) => {
                let s = if self.tls.is_some() { "s" } else { "" };
                write!(f, "redis{s}+cluster://{user}{at}{}", self.address)
            }
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisAddress::Tcp(place) => place.fmt(f),
            RedisAddress::Unix(path) => Path::display(path).fmt(f),
            RedisAddress::Sentinel(address) => {
                write_all(&address.sentinels, f)?;
                write!(f, "/{}", utf8_percent_encode(&address.name, IN_PATH))
            }
            RedisAddress::Cluster(seeds) => write_all(seeds, f),
        }
    }
}

/// With a comma between them.
fn write_all(places: &[HostPort], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    places
        .iter()
        .enumerate()
        .try_for_each(|(index, place)| write!(f, "{}{place}", if index == 0 { "" } else { "," }))
}

impl HostPort {
    /// Where it is, if that is known without looking it up.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LedgerUrl, UrlError> {
        text.parse()
    }

    fn redis(text: &str) -> RedisUrl {
        match parse(text) {
            Ok(LedgerUrl::Redis(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn tcp_at(host: &str, port: u16) -> RedisAddress {
        RedisAddress::Tcp(HostPort { host: host.to_owned(), port })
    }

    #[test]
    fn reads_each_form() {
        assert_eq!(parse("sqlite:a b.db"), Ok(LedgerUrl::Sqlite("a b.db".into())));
        let url = redis("redis://bob:p%40ss%3a%2F@db.example:7000/3");
        assert_eq!(url.address, tcp_at("db.example", 7000));
        assert_eq!(
            (url.user.as_deref(), url.password.as_deref(), url.database),
            (Some("bob"), Some("p@ss:/"), 3)
        );
        let url = redis("redis://[::1]");
        assert_eq!(url.address, tcp_at("::1", 6379));
        let url = redis("redis+unix://:secret@/run/re%20dis.sock?db=2");
        assert_eq!(url.address, RedisAddress::Unix("/run/re dis.sock".into()));
        assert_eq!((url.user, url.password.as_deref(), url.database), (None, Some("secret"), 2));
    }

    #[test]
    fn tls_has_the_host_as_its_name_and_takes_files() {
        let url = redis("rediss://bob:secret@db.example/3");
        assert_eq!(url.address, tcp_at("db.example", 6379));
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("bob"), Some("secret")));
        for text in
            ["rediss://db.example/3", "rediss://10.0.0.1:7000", "rediss://[::1]", "rediss+sentinel://a,b/m"]
        {
            assert!(redis(text).tls.is_some(), "{text}");
        }
        assert_eq!((redis("redis://db.example").tls, redis("redis+sentinel://a,b/m").tls), (None, None));

        let tls = |ca: bool, cert: bool, key: bool| {
            let file = |is_there: bool, name: &str| is_there.then(|| PathBuf::from(name));
            let tls = TlsFiles { ca: file(ca, "a"), cert: file(cert, "c"), key: file(key, "k") };
            LedgerFiles { tls, ..LedgerFiles::default() }
        };
        let with = |text: &str, files: LedgerFiles| parse(text).unwrap().with_files(&files);
        for files in [tls(false, false, false), tls(true, false, false), tls(true, true, true)] {
            let Ok(LedgerUrl::Redis(url)) = with("rediss://h", files.clone()) else { panic!("{files:?}") };
            assert_eq!(url.tls, Some(Box::new(files.tls)));
        }
        for (text, why) in [
            ("redis://h", "not encrypted"),
            ("redis+unix:///a.sock", "UNIX socket"),
            ("sqlite:a.db", "SQLite file"),
        ] {
            assert!(with(text, tls(false, false, false)).is_ok());
            for (files, flag) in
                [(tls(true, false, false), "--ledger-ca"), (tls(false, true, true), "--ledger-cert")]
            {
                let said = with(text, files).unwrap_err().to_string();
                assert!(said.contains(flag) && said.contains("rediss://") && said.contains(why), "{said}");
            }
        }
        for (files, missing) in
            [(tls(true, true, false), "--ledger-key"), (tls(false, false, true), "--ledger-cert")]
        {
            assert_eq!(with("rediss://h", files), Err(UrlError::HalfIdentity(missing)));
        }
    }

    #[test]
    fn sentinels_have_a_name_to_ask_for_and_a_login_of_their_own() {
        let url = redis("redis+sentinel://bob:secret@s1,[::1]:7,10.0.0.3:26380/my%2Fmaster/2");
        let RedisAddress::Sentinel(address) = &url.address else { panic!("{url}") };
        let places: Vec<_> = address.sentinels.iter().map(HostPort::to_string).collect();
        assert_eq!(places, ["s1:26379", "[::1]:7", "10.0.0.3:26380"]);
        assert_eq!((address.name.as_str(), url.database), ("my/master", 2));
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("bob"), Some("secret")));
        assert!(url.is_named_by_sentinels() && !redis("redis://h").is_named_by_sentinels());
        assert_eq!(redis("redis+sentinel://a/m?db=3").database, 3);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "hunter2\n").unwrap();
        let login = |user: Option<&str>, file: bool| {
            let password_file = file.then(|| path.clone());
            LedgerFiles {
                sentinel: SentinelLogin { user: user.map(str::to_owned), password_file },
                ..LedgerFiles::default()
            }
        };
        let with = |text: &str, files: LedgerFiles| parse(text).unwrap().with_files(&files);
        let Ok(LedgerUrl::Redis(url)) = with("redis+sentinel://a/m", login(Some("eve"), true)) else {
            panic!()
        };
        let RedisAddress::Sentinel(address) = &url.address else { panic!("{url}") };
        assert_eq!(address.login.password_now().unwrap().as_deref(), Some("hunter2"));
        assert_eq!((address.login.user.as_deref(), url.password), (Some("eve"), None));
        assert_eq!(
            with("redis+sentinel://a/m", login(Some("eve"), false)),
            Err(UrlError::NoSentinelPassword)
        );
        for text in ["redis://a", "sqlite:a.db"] {
            let said = with(text, login(None, true)).unwrap_err().to_string();
            assert!(said.contains("--ledger-sentinel-password-file"), "{said}");
            assert!(with(text, login(None, false)).is_ok());
        }
    }

    #[test]
    fn a_cluster_has_nodes_to_begin_with_and_one_database() {
        let url = redis("redis+cluster://bob:secret@B:7,[::1],10.0.0.3");
        let RedisAddress::Cluster(seeds) = &url.address else { panic!("{url}") };
        let places: Vec<_> = seeds.iter().map(HostPort::to_string).collect();
        assert_eq!(places, ["b:7", "[::1]:6379", "10.0.0.3:6379"]);
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("bob"), Some("secret")));
        assert!(url.is_cluster() && url.may_move() && !url.is_named_by_sentinels());
        for text in ["redis+cluster://a/", "redis+cluster://a/0", "redis+cluster://a?db=0"] {
            assert_eq!(redis(text).to_string(), "redis+cluster://a:6379");
        }
        assert!(redis("rediss+cluster://a").tls.is_some());
    }

    #[test]
    fn a_password_is_read_from_its_file_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let files = LedgerFiles { password: Some(path.clone()), ..LedgerFiles::default() };
        let with = |text: &str| parse(text).unwrap().with_files(&files);
        for text in ["redis://h", "redis://bob:@h/1", "redis+unix://bob:@/run/a.sock"] {
            let Ok(LedgerUrl::Redis(url)) = with(text) else { panic!("{text}") };
            for (content, password) in
                [("one", "one"), ("two\n", "two"), ("three\r\n", "three"), (" a b \n", " a b ")]
            {
                fs::write(&path, content).unwrap();
                assert_eq!(url.password_now().unwrap().as_deref(), Some(password));
            }
            for (content, cause) in [
                ("", "empty"),
                ("\n", "empty"),
                ("hunter2\nx\n", "more than one line"),
                (&"x".repeat(5000), "bytes"),
            ] {
                fs::write(&path, content).unwrap();
                let said = url.password_now().unwrap_err().to_string();
                assert!(
                    said.contains(cause) && said.contains("password from /") && !said.contains("hunter2"),
                    "{said}"
                );
            }
            fs::remove_file(&path).unwrap();
            let said = url.password_now().unwrap_err().to_string();
            assert!(said.contains("No such file"), "{said}");
        }
        assert_eq!(with("redis://bob:hunter2@h"), Err(UrlError::PasswordTwice));
        assert_eq!(with("sqlite:a.db"), Err(UrlError::NoPassword));
        let plain = redis("redis://bob:hunter2@h");
        assert_eq!(plain.password_now().unwrap().as_deref(), Some("hunter2"));
    }

    #[test]
    fn prints_all_but_the_password() {
        for (text, printed) in [
            ("sqlite:boxoffice.db", "sqlite:boxoffice.db"),
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://[::1]:7000/3", "redis://[::1]:7000/3"),
            ("redis://bob:hunter2@localhost/1", "redis://bob:***@localhost:6379/1"),
            ("rediss://bob:hunter2@[::1]", "rediss://bob:***@[::1]:6379/0"),
            ("redis+unix:///run/a.sock", "redis+unix:///run/a.sock"),
            ("redis+unix://:hunter2@/run/a.sock?db=2", "redis+unix://:***@/run/a.sock?db=2"),
            ("redis+sentinel://a,b:7/mymaster", "redis+sentinel://a:26379,b:7/mymaster/0"),
            ("rediss+cluster://bob:hunter2@a,[::1]:7", "rediss+cluster://bob:***@a:6379,[::1]:7"),
            (
                "rediss+sentinel://bob:hunter2@[::1]/my%20set/2",
                "rediss+sentinel://bob:***@[::1]:26379/my%20set/2",
            ),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), printed);
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn refuses_the_rest_without_repeating_a_password() {
        for text in [
            "",
            "boxoffice.db",
            "sqlite:",
            "postgres://x",
            "redis:",
            "redis://",
            "redis://:hunter2@",
            "redis+unix://",
            "redis+unix:///",
            "redis+unix://run/a.sock",
            "redis://h:0",
            "redis://h:65536",
            "redis://h/x",
            "redis://h/1?db=2",
            "redis://h?x=1",
            "redis://u:hunter2%4@h",
            "redis://hunter2@h",
            "redis://[::1",
            "redis://[::1]7000",
            "redis://[::1]x:7000",
            "redis://h:+80",
            "redis://h/+3",
            "redis://u:hunter2@h:x",
            "rediss://",
            "rediss://u:hunter2@a b",
            "rediss://u:hunter2@h:x",
            "redis+sentinel://",
            "redis+sentinel://h",
            "redis+sentinel://h/",
            "redis+sentinel:///mymaster",
            "redis+sentinel://:hunter2@a,/mymaster",
            "redis+sentinel://a,A:26379/mymaster",
            "redis+sentinel://a/mymaster/x",
            "redis+sentinel://a/mymaster/1/2",
            "redis+sentinel://a/mymaster/1?db=2",
            "redis+sentinel://a/my%master",
            "redis+sentinel://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17/mymaster",
            "rediss+sentinel://u:hunter2@a b/mymaster",
            "redis+cluster://",
            "redis+cluster://:hunter2@",
            "redis+cluster://a,",
            "redis+cluster://a,A:6379",
            "redis+cluster://a/1",
            "redis+cluster://a?db=1",
            "redis+cluster://a/0?db=0",
            "rediss+cluster://u:hunter2@a b",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("ledger: ") && !error.contains("hunter2"), "{text}: {error}");
        }
        let many: Vec<String> = (0..=SEEDS_MAX).map(|number| format!("h{number}")).collect();
        assert!(parse(&format!("redis+cluster://{}", many[1..].join(","))).is_ok());
        assert!(parse(&format!("redis+cluster://{}", many.join(","))).is_err());
    }
}
