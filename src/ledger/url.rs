//! `--ledger URL`: which ledger, where, and as whom. Passwords are kept out of everything that prints.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;

use super::tls::TlsFiles;

/// A parsed `--ledger`. Prints as it was written, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
    /// `redis://…`, `rediss://…` or `redis+unix://…`.
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
    /// How to speak TLS, where it is to be spoken.
    pub tls: Option<Box<RedisTls>>,
}

/// What TLS with a Redis takes: `rediss://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTls {
    /// Whose certificate it must show: the host of the URL.
    pub name: ServerName<'static>,
    /// Whom to trust, and what to show.
    pub files: TlsFiles,
}

/// The files that a ledger's URL may have beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerFiles {
    /// `--ledger-password-file`.
    pub password: Option<PathBuf>,
    /// `--ledger-ca`, `--ledger-cert`, `--ledger-key`.
    pub tls: TlsFiles,
}

/// Where a Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    /// A host name or address (IPv6 without brackets) and a port.
    Tcp {
        /// To be resolved.
        host: String,
        /// 6379 by default.
        port: u16,
    },
    /// The path of a socket.
    Unix(PathBuf),
}

/// What is wrong with a `--ledger`, and what it takes. Never repeats the password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `sqlite:` nor a Redis URL.
    #[error(
        "ledger: takes sqlite:PATH, redis://[user:pass@]host:port/db, rediss://… (TLS) or redis+unix:///path"
    )]
    Scheme,
    /// A later version will speak it.
    #[error(
        "ledger: this version does not speak {0} yet; it takes sqlite:PATH, redis://…, rediss://… and redis+unix:///path"
    )]
    NotYet(&'static str),
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
#[derive(Debug, thiserror::Error)]
#[error("cannot read the ledger's password from {path}: {cause}")]
pub struct PasswordError {
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
        self.with_password_file(files.password.as_deref())?.with_tls_files(&files.tls)
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
                Err(UrlError::NoTls(first, "redis:// is not encrypted"))
            }
            LedgerUrl::Redis(RedisUrl { tls: Some(tls), .. }) => match (cert, key) {
                (Some(_), None) => Err(UrlError::HalfIdentity("--ledger-key")),
                (None, Some(_)) => Err(UrlError::HalfIdentity("--ledger-cert")),
                (Some(_), Some(_)) | (None, None) => {
                    tls.files = files.clone();
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
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let wrong = |cause: String| PasswordError { path: path.clone(), cause };
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
            _ => Ok(Some(password.to_owned())),
        }
    }
}

/// What a URL begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Sqlite,
    Redis,
    RedisTls,
    RedisUnix,
    /// Known, but refused with a message of its own.
    NotYet(&'static str),
}

/// The one list of prefixes of a ledger's URL.
const SCHEMES: [(&str, Scheme); 6] = [
    ("sqlite:", Scheme::Sqlite),
    ("redis://", Scheme::Redis),
    ("rediss://", Scheme::RedisTls),
    ("redis+unix://", Scheme::RedisUnix),
    ("redis+sentinel://", Scheme::NotYet("redis+sentinel")),
    ("redis+cluster://", Scheme::NotYet("redis+cluster")),
];

fn split_scheme(url: &str) -> Option<(Scheme, &str)> {
    SCHEMES.iter().find_map(|(start, scheme)| Some((*scheme, url.strip_prefix(start)?)))
}

/// Whether `url` begins like that of a ledger, even one that this version does not speak yet, with something behind that.
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
            Some((Scheme::NotYet(scheme), _)) => Err(UrlError::NotYet(scheme)),
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
        return Err(bad("host", "takes a host, as in redis://127.0.0.1:6379/0"));
    }
    let port = match port {
        Some(port) => digits(port).filter(|&port| port != 0),
        None => Some(6379),
    };
    let port = port.ok_or(bad("port", "takes 1 to 65535"))?;
    Ok(RedisUrl {
        address: RedisAddress::Tcp { host: host.to_owned(), port },
        user,
        password,
        password_file: None,
        database,
        tls: None,
    })
}

/// The same, over TLS.
fn encrypted(url: RedisUrl) -> Result<RedisUrl, UrlError> {
    let RedisAddress::Tcp { host, .. } = &url.address else { return Ok(url) };
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        bad("host", "takes a DNS name or an IP address, which the certificate of Redis must have")
    })?;
    Ok(RedisUrl { tls: Some(Box::new(RedisTls { name, files: TlsFiles::default() })), ..url })
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
            RedisAddress::Tcp { .. } => {
                let s = if self.tls.is_some() { "s" } else { "" };
                write!(f, "redis{s}://{user}{at}{}/{}", self.address, self.database)
            }
            RedisAddress::Unix(_) if self.database == 0 => {
                write!(f, "redis+unix://{user}{at}{}", self.address)
            }
            RedisAddress::Unix(_) => {
                write!(f, "redis+unix://{user}{at}{}?db={}", self.address, self.database)
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
            RedisAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            RedisAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            RedisAddress::Unix(path) => Path::display(path).fmt(f),
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

    #[test]
    fn reads_each_form() {
        assert_eq!(parse("sqlite:a b.db"), Ok(LedgerUrl::Sqlite("a b.db".into())));
        let url = redis("redis://bob:p%40ss%3a%2F@db.example:7000/3");
        assert_eq!(url.address, RedisAddress::Tcp { host: "db.example".into(), port: 7000 });
        assert_eq!(
            (url.user.as_deref(), url.password.as_deref(), url.database),
            (Some("bob"), Some("p@ss:/"), 3)
        );
        let url = redis("redis://[::1]");
        assert_eq!(url.address, RedisAddress::Tcp { host: "::1".into(), port: 6379 });
        let url = redis("redis+unix://:secret@/run/re%20dis.sock?db=2");
        assert_eq!(url.address, RedisAddress::Unix("/run/re dis.sock".into()));
        assert_eq!((url.user, url.password.as_deref(), url.database), (None, Some("secret"), 2));
    }

    #[test]
    fn tls_has_the_host_as_its_name_and_takes_files() {
        let url = redis("rediss://bob:secret@db.example/3");
        assert_eq!(url.address, RedisAddress::Tcp { host: "db.example".into(), port: 6379 });
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("bob"), Some("secret")));
        let name = |text: &str| redis(text).tls.expect("it is encrypted").name.to_str().into_owned();
        assert_eq!(name("rediss://db.example/3"), "db.example");
        assert_eq!(
            (name("rediss://10.0.0.1:7000"), name("rediss://[::1]")),
            ("10.0.0.1".into(), "::1".into())
        );
        assert_eq!(redis("redis://db.example").tls, None);

        let tls = |ca: bool, cert: bool, key: bool| {
            let file = |is_there: bool, name: &str| is_there.then(|| PathBuf::from(name));
            let tls = TlsFiles { ca: file(ca, "a"), cert: file(cert, "c"), key: file(key, "k") };
            LedgerFiles { tls, ..LedgerFiles::default() }
        };
        let with = |text: &str, files: LedgerFiles| parse(text).unwrap().with_files(&files);
        for files in [tls(false, false, false), tls(true, false, false), tls(true, true, true)] {
            let Ok(LedgerUrl::Redis(url)) = with("rediss://h", files.clone()) else { panic!("{files:?}") };
            assert_eq!(url.tls.map(|tls| tls.files), Some(files.tls));
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
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("ledger: ") && !error.contains("hunter2"), "{text}: {error}");
        }
        for scheme in ["redis+sentinel", "redis+cluster"] {
            assert_eq!(parse(&format!("{scheme}://h:1")), Err(UrlError::NotYet(scheme)));
        }
    }
}
