//! Where a server with a host and a port is at this moment: its name is looked up, and the files for TLS are read. And what an
//! operator is told where that fails, or the stream that was opened there.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::ledger::Cause;
use crate::ledger::tls::{TlsFilesError, TlsSource};
use crate::ledger::url::{HostPort, PasswordError, RedisAddress, RedisUrl};
use crate::net::{Endpoint, TlsFailure};

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
    /// The file with the sentinels' password is of no use.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The sentinels do not say who is the primary.
    #[error("{0}")]
    NoPrimary(String),
    /// No node of a Cluster says which has which slots.
    #[error("{0}")]
    NoCluster(String),
    /// What a sentinel named is no name that a certificate can have.
    #[error(
        "{0:?} cannot be the name in a certificate; have the server named by a DNS name or an IP address"
    )]
    NoName(String),
    /// See [`TlsFilesError`].
    #[error(transparent)]
    TlsFiles(#[from] TlsFilesError),
}

impl FindError {
    /// The kind of trouble that it is.
    pub fn cause(&self) -> Cause {
        match self {
            FindError::LookUp { .. }
            | FindError::NoPrimary(_)
            | FindError::NoCluster(_)
            | FindError::Password(_) => Cause::Unreachable,
            FindError::NoName(_) | FindError::TlsFiles(_) => Cause::Tls,
        }
    }
}

/// How names become addresses, and what it takes to be encrypted there.
#[derive(Clone)]
pub(super) struct Resolver {
    pub(super) look_up: Arc<LookUp>,
    pub(super) tls: Option<Arc<TlsSource>>,
}

/// Gives the addresses of a name.
pub(super) type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Resolver {
    /// Whether the files for TLS can be used, if there are any.
    pub(super) fn check(&self) -> Result<(), TlsFilesError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.check())
    }

    /// What to do about a stream that failed, where TLS is in the way.
    pub(super) fn advice(&self, error: &io::Error) -> Option<String> {
        self.tls.as_ref()?.files().advice(TlsFailure::of(error)?)
    }

    /// Looks the name up and reads the files, which may take its time.
    pub(super) fn find(&self, place: &HostPort) -> Whereabouts {
        let HostPort { host, port } = place;
        let addresses = match place.address() {
            Some(address) => vec![address],
            None => {
                let failed = |cause: String| FindError::LookUp { host: host.clone(), cause };
                let addresses = (self.look_up)(host, *port).map_err(|error| failed(error.to_string()))?;
                if addresses.is_empty() {
                    return Err(failed("it has no address".to_owned()));
                }
                addresses
            }
        };
        Ok(match &self.tls {
            None => Endpoint::Tcp(addresses),
            // Last, since a look-up may take long.
            Some(source) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| FindError::NoName(host.clone()))?;
                Endpoint::Tls(addresses, source.read(name)?)
            }
        })
    }
}

/// What an operator is told of a look-up that has no end.
pub fn slow_look_up(address: &RedisAddress, waited_ms: u128) -> String {
    match address {
        RedisAddress::Sentinel(_) => {
            format!(
                "finding the primary by the sentinels {address} takes more than {waited_ms} ms; do they answer, and does the \
                 name server, where they are called by names or name one?"
            )
        }
        RedisAddress::Cluster(_) => {
            format!(
                "finding the nodes of the Cluster {address} takes more than {waited_ms} ms; do they answer?"
            )
        }
        RedisAddress::Tcp(_) | RedisAddress::Unix(_) => {
            format!("looking up {address} takes more than {waited_ms} ms; does the name server answer?")
        }
    }
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
    let advice = url.tls.as_ref().and_then(|files| files.advice(failure));
    let advice = advice.map_or(String::new(), |advice| format!("; {advice}"));
    format!("no TLS with Redis at {place}: {failure}{advice}")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ledger::url::LedgerUrl;

    #[test]
    fn who_is_dialled_by_a_name_has_to_show_that_name() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, crate::net::certificates::Authority::new("a CA").pem()).unwrap();
        let tls = TlsSource::new(crate::ledger::tls::TlsFiles { ca: Some(ca), ..Default::default() });
        let resolver = Resolver {
            look_up: Arc::new(|_, port| Ok(vec![([10, 0, 0, 1], port).into()])),
            tls: Some(Arc::new(tls)),
        };
        let found = |host: &str| resolver.find(&HostPort { host: host.to_owned(), port: 7 });
        for host in ["db.example", "10.0.0.2", "::1"] {
            let Ok(Endpoint::Tls(addresses, client)) = found(host) else { panic!("{host}") };
            assert_eq!(format!("{client:?}"), format!("TlsClient({host})"));
            assert_eq!(addresses[0].port(), 7);
        }
        // As a sentinel may call it that is set up so.
        let error = found("db_1 .example").unwrap_err();
        assert!(error.cause() == Cause::Tls && error.to_string().contains("cannot be the name"), "{error}");
    }

    #[test]
    fn what_is_told_of_tls_says_what_to_do() {
        let Ok(LedgerUrl::Redis(url)) = "rediss://db.example".parse() else { panic!("a URL") };
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
