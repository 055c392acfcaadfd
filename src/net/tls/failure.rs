//! Why TLS with a server failed: the facts. What to do about it, whoever owns the settings says.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

/// Why TLS with a server failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// No trusted CA signed its certificate.
    #[error("its certificate is signed by no CA that is trusted here")]
    UnknownIssuer,
    /// It shows a certificate of another server.
    #[error("its certificate is not for {expected}, but for {presented}")]
    WrongName {
        /// The name, or the address, by which it was dialled.
        expected: String,
        /// Those of its certificate.
        presented: String,
    },
    /// Its certificate was valid.
    #[error("its certificate expired at {0}")]
    Expired(String),
    /// Its certificate will be valid.
    #[error("its certificate is not valid before {0}")]
    NotValidYet(String),
    /// Anything else about its certificate.
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    /// What it sends is something else.
    #[error("it does not speak TLS there")]
    NoTls,
    /// It sends nothing.
    #[error("it does not answer the TLS handshake")]
    Silent,
    /// Only versions that are not safe any more.
    #[error("it speaks neither TLS 1.2 nor TLS 1.3")]
    TooOld,
    /// This side showed no certificate.
    #[error("it demands a client certificate")]
    CertificateDemanded,
    /// This side showed one that does not do.
    #[error("it does not accept the client certificate ({0})")]
    CertificateRefused(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// What of this there is in an error of a [`Stream`](crate::net::Stream).
    pub fn of(error: &io::Error) -> Option<&TlsFailure> {
        error.get_ref()?.downcast_ref()
    }

    /// `shows_certificate`: whether this side has one.
    pub(super) fn from_error(error: Error, shows_certificate: bool) -> TlsFailure {
        match error {
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::AlertReceived(alert) => of_alert(alert, shows_certificate),
            Error::PeerIncompatible(
                rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
                | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => TlsFailure::TooOld,
            error => TlsFailure::Other(error.to_string()),
        }
    }
}

impl From<TlsFailure> for io::Error {
    fn from(failure: TlsFailure) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, failure)
    }
}

fn of_certificate(error: CertificateError) -> TlsFailure {
    match error {
        CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
        CertificateError::Expired => TlsFailure::Expired("a time that is past".to_owned()),
        CertificateError::ExpiredContext { not_after, .. } => TlsFailure::Expired(in_words(not_after)),
        CertificateError::NotValidYet => TlsFailure::NotValidYet("a time to come".to_owned()),
        CertificateError::NotValidYetContext { not_before, .. } => {
            TlsFailure::NotValidYet(in_words(not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => TlsFailure::WrongName {
            expected: expected.to_str().into_owned(),
            presented: match presented.is_empty() {
                true => "no name (it has no subjectAltName)".to_owned(),
                false => shown(&presented),
            },
        },
        error => TlsFailure::Certificate(error.to_string()),
    }
}

fn of_alert(alert: AlertDescription, shows_certificate: bool) -> TlsFailure {
    match alert {
        AlertDescription::ProtocolVersion => TlsFailure::TooOld,
        AlertDescription::CertificateRequired => TlsFailure::CertificateDemanded,
        // As TLS 1.2 says it: there the alert above does not exist.
        AlertDescription::HandshakeFailure | AlertDescription::BadCertificate if !shows_certificate => {
            TlsFailure::CertificateDemanded
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError
            if shows_certificate =>
        {
            TlsFailure::CertificateRefused(format!("{alert:?}"))
        }
        alert => TlsFailure::Other(format!("it ended the TLS connection with the alert {alert:?}")),
    }
}

/// RFC 3339; what is past its years, in seconds.
fn in_words(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let timestamp = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| format!("{} s after 1970", time.as_secs()), |timestamp| timestamp.to_string())
}

/// Letters of names in an error: whoever made the certificate chose them, and is not trusted.
const NAMES_SHOWN_MAX: usize = 200;

fn shown(presented: &[String]) -> String {
    let names = presented.iter().map(|name| plain(name)).collect::<Vec<_>>().join(", ");
    names.chars().filter(|letter| !letter.is_control()).take(NAMES_SHOWN_MAX).collect()
}

/// `DnsName("a.example")` and `IpAddress(127.0.0.1)`, as names are presented, without what is around them.
fn plain(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"').to_owned()
}
