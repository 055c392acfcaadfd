//! Where a Redis is at this moment, found for each dial: its name is looked up, and the files for TLS are read. Neither is done
//! on a loop, by [`Finder`].

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::ledger::Cause;
use crate::ledger::tls::{TlsFilesError, TlsSource};
use crate::ledger::url::{RedisAddress, RedisUrl};
use crate::net::{Endpoint, Finder, TlsFailure};

/// What is found.
pub type Whereabouts = Result<Endpoint, FindError>;

/// Why there is nowhere to dial.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FindError {
    /// The name has no address, or nobody tells.
    #[error("cannot look up {host}: {cause}; is the name right, and does the name server answer?")]
    LookUp {
        /// The name.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// See [`TlsFilesError`].
    #[error(transparent)]
    TlsFiles(#[from] TlsFilesError),
}

impl FindError {
    /// The kind of trouble that it is.
    pub fn cause(&self) -> Cause {
        match self {
            FindError::LookUp { .. } => Cause::Unreachable,
            FindError::TlsFiles(_) => Cause::Tls,
        }
    }
}

/// Finds the Redis of that URL, as the system looks names up.
pub fn finder(url: &RedisUrl) -> Finder<Whereabouts> {
    finder_by(url, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

/// The same, as `look_up` does.
pub fn finder_by(
    url: &RedisUrl,
    look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> Finder<Whereabouts> {
    let (host, port) = match &url.address {
        RedisAddress::Unix(path) => return Finder::known(Ok(Endpoint::Unix(path.clone()))),
        RedisAddress::Tcp { host, port } => (host.clone(), *port),
    };
    let address = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
    let source = url.tls.as_ref().map(|tls| TlsSource::new(tls.files.clone(), tls.name.clone()));
    if let (Some(address), None) = (address, &source) {
        return Finder::known(Ok(Endpoint::Tcp(vec![address])));
    }
    Finder::new(move || {
        let addresses = match address {
            Some(address) => vec![address],
            None => {
                let failed = |cause: String| FindError::LookUp { host: host.clone(), cause };
                let addresses = look_up(&host, port).map_err(|error| failed(error.to_string()))?;
                if addresses.is_empty() {
                    return Err(failed("it has no address".to_owned()));
                }
                addresses
            }
        };
        Ok(match &source {
            None => Endpoint::Tcp(addresses),
            // Last, since a look-up may take long.
            Some(source) => Endpoint::Tls(addresses, source.read()?),
        })
    })
}

/// What an operator is told of a look-up that has no end.
pub fn slow_look_up(address: &RedisAddress, waited_ms: u128) -> String {
    format!("looking up {address} takes more than {waited_ms} ms; does the name server answer?")
}

/// What an operator is told of a stream that failed while it was `doing` something.
pub fn told(doing: &str, place: &dyn fmt::Display, url: &RedisUrl, error: &io::Error) -> (Cause, String) {
    match TlsFailure::of(error) {
        None => (Cause::Unreachable, format!("{doing} {place}: {error}")),
        Some(failure) => (Cause::Tls, told_of_tls(place, url, failure)),
    }
}

/// What an operator is told of TLS that failed, and what to do.
pub fn told_of_tls(place: &dyn fmt::Display, url: &RedisUrl, failure: &TlsFailure) -> String {
    let host = match &url.address {
        RedisAddress::Tcp { host, .. } => host.as_str(),
        RedisAddress::Unix(_) => "localhost",
    };
    let advice = url.tls.as_ref().and_then(|tls| tls.files.advice(failure, host));
    let advice = advice.map_or(String::new(), |advice| format!("; {advice}"));
    format!("no TLS with Redis at {place}: {failure}{advice}")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::ledger::url::{LedgerFiles, LedgerUrl};
    use crate::net::Asker;

    /// For what threads do by themselves.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn redis(text: &str) -> RedisUrl {
        match text.parse() {
            Ok(LedgerUrl::Redis(url)) => url,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn found(asker: &mut Asker<Whereabouts>) -> Result<String, String> {
        asker.ask().unwrap();
        match asker.wait(PATIENCE).expect("it is found") {
            Ok(endpoint) => Ok(endpoint.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_name_is_looked_up_each_time() {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let given = Arc::clone(&answers);
        let finder = finder_by(&redis("redis://db.example:7000"), move |host, port| {
            assert_eq!((host, port), ("db.example", 7000));
            given.lock().unwrap().pop().unwrap()
        });
        let mut asker = finder.asker(|| ());
        let mut answered = |answer: io::Result<Vec<SocketAddr>>| {
            answers.lock().unwrap().push(answer);
            found(&mut asker)
        };
        let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 7000));
        assert_eq!(answered(Ok(vec![at(1)])), Ok("10.0.0.1:7000".to_owned()));
        assert_eq!(answered(Ok(vec![at(3), at(2)])), Ok("10.0.0.3:7000, 10.0.0.2:7000".to_owned()));
        let failed = answered(Err(io::Error::other("nobody tells"))).unwrap_err();
        assert!(failed.starts_with("cannot look up db.example: nobody tells; "), "{failed}");
        let nowhere = answered(Ok(Vec::new())).unwrap_err();
        assert!(nowhere.starts_with("cannot look up db.example: it has no address; "), "{nowhere}");
        assert_eq!(answered(Ok(vec![at(1)])), Ok("10.0.0.1:7000".to_owned()), "a failure is not the end");
    }

    /// A host whose Redis has an address keeps no thread for it.
    #[test]
    fn an_address_is_not_looked_up() {
        for (url, place) in [
            ("redis://127.0.0.1:7000", "127.0.0.1:7000"),
            ("redis://[::1]", "[::1]:6379"),
            ("redis+unix:///run/a.sock", "/run/a.sock"),
        ] {
            let finder = finder_by(&redis(url), |host, _| panic!("{host} is looked up"));
            let mut asker = finder.asker(|| panic!("somebody waits"));
            asker.ask().unwrap();
            assert_eq!(asker.poll().expect("it is known").unwrap().to_string(), place);
        }
    }

    #[test]
    fn the_files_for_tls_are_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let mut files = LedgerFiles::default();
        files.tls.ca = Some(path.clone());
        let url = "rediss://127.0.0.1".parse::<LedgerUrl>().unwrap().with_files(&files).unwrap();
        let LedgerUrl::Redis(url) = url else { unreachable!() };
        let mut asker = finder_by(&url, |_, _| panic!("it has an address")).asker(|| ());
        assert!(found(&mut asker).unwrap_err().starts_with("--ledger-ca "));
        std::fs::write(&path, crate::net::certificates::Authority::new("a CA").pem()).unwrap();
        assert_eq!(found(&mut asker), Ok("127.0.0.1:6379".to_owned()));
        std::fs::write(&path, "").unwrap();
        asker.ask().unwrap();
        let error = asker.wait(PATIENCE).expect("it is found").unwrap_err();
        assert_eq!(error.cause(), Cause::Tls);
    }

    #[test]
    fn what_is_told_of_tls_says_what_to_do() {
        let url = redis("rediss://db.example");
        let of = |failure: TlsFailure| told("reading from", &"10.0.0.1:6379", &url, &failure.into());
        let (cause, said) = of(TlsFailure::UnknownIssuer);
        assert_eq!(cause, Cause::Tls);
        assert_eq!(
            said,
            "no TLS with Redis at 10.0.0.1:6379: its certificate is signed by no CA that is trusted here; if the CA is your own, \
             name the file with its certificate by --ledger-ca"
        );
        let wrong = TlsFailure::WrongName { expected: "db.example".to_owned(), presented: "a".to_owned() };
        for (failure, advice) in [
            (wrong, "subjectAltName"),
            (TlsFailure::Expired("2002".to_owned()), "renew it"),
            (TlsFailure::NotValidYet("2900".to_owned()), "clock"),
            (TlsFailure::NoTls, "plain port"),
            (TlsFailure::Silent, "plain port"),
            (TlsFailure::CertificateDemanded, "--ledger-cert"),
            (TlsFailure::CertificateRefused("UnknownCA".to_owned()), "tls-ca-cert-file"),
            (TlsFailure::TooOld, "tls-protocols"),
        ] {
            let (cause, said) = of(failure);
            assert!(cause == Cause::Tls && said.contains(advice), "{said}");
        }
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let (cause, said) = told("reading from", &"10.0.0.1:6379", &url, &reset);
        assert_eq!(
            (cause, said.as_str()),
            (Cause::Unreachable, "reading from 10.0.0.1:6379: connection reset")
        );
    }
}
