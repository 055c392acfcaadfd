//! What TLS with a Redis needs: the files that `--ledger-ca`, `--ledger-cert` and `--ledger-key` name, read anew for each dial,
//! and what to do about a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, Error, RootCertStore};

use crate::net::{TlsClient, TlsFailure};

/// Most bytes of one of the files: a bundle of all the CAs that browsers trust has a quarter of a MiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// For how long the CAs of the machine are taken as they were read: they are hundreds of files, and a Redis that is down is
/// dialled twice a second.
const ROOTS_KEPT: Duration = Duration::from_secs(60);

/// The files of a connection that is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CAs that may have signed the certificate of the Redis; without it those of the machine.
    pub ca: Option<PathBuf>,
    /// The certificate to show, with those of the CAs between it and one that the Redis knows.
    pub cert: Option<PathBuf>,
    /// The private key of that certificate.
    pub key: Option<PathBuf>,
}

/// Which of the files are of no use, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFilesError {
    /// One of them.
    #[error("{flag} {}: {cause}", path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do. Nothing of a key.
        cause: String,
    },
    /// No file was named, and the machine has none.
    #[error(
        "this machine has no certificates of CAs that could have signed that of Redis{0}; install them (ca-certificates), or name \
         a file by --ledger-ca"
    )]
    NoRoots(String),
    /// What the library does not do.
    #[error("cannot set TLS up: {0}")]
    Library(String),
}

/// Reads the files of one ledger.
pub struct TlsSource {
    files: TlsFiles,
    roots: Mutex<Option<(Instant, Arc<RootCertStore>)>>,
}

impl TlsFiles {
    /// Whether any is named.
    pub fn is_empty(&self) -> bool {
        *self == TlsFiles::default()
    }

    /// What to do about it.
    pub fn advice(&self, failure: &TlsFailure) -> Option<String> {
        Some(match failure {
            TlsFailure::UnknownIssuer => match &self.ca {
                Some(file) => format!(
                    "put the certificate of the CA that signed it into {} (--ledger-ca)",
                    file.display()
                ),
                None => "if the CA is your own, name the file with its certificate by --ledger-ca".to_owned(),
            },
            TlsFailure::WrongName { expected, .. } => format!(
                "call it by one of its names (in --ledger, or by what sentinels announce), or give it a certificate with {expected} in \
                 its subjectAltName"
            ),
            TlsFailure::Expired(_) => {
                "renew it (tls-cert-file of Redis); or is the clock of this machine wrong?".to_owned()
            }
            TlsFailure::NotValidYet(_) => "is the clock of this machine wrong?".to_owned(),
            TlsFailure::NoTls | TlsFailure::Silent => {
                "is it the plain port? Take the one of tls-port, or write redis:// (redis+sentinel://) for a connection that anybody can read"
                    .to_owned()
            }
            TlsFailure::CertificateDemanded => {
                "name one by --ledger-cert and its key by --ledger-key, or set tls-auth-clients of Redis to no".to_owned()
            }
            TlsFailure::CertificateRefused(_) => {
                "the one of --ledger-cert must be valid now, and signed by a CA in tls-ca-cert-file of Redis".to_owned()
            }
            TlsFailure::TooOld => "set tls-protocols of Redis to \"TLSv1.2 TLSv1.3\"".to_owned(),
            TlsFailure::Certificate(_) | TlsFailure::Other(_) => return None,
        })
    }
}

impl TlsSource {
    /// Of these files.
    pub fn new(files: TlsFiles) -> TlsSource {
        TlsSource { files, roots: Mutex::default() }
    }

    /// What a connection needs that is made now, to a server that has to show a certificate of that name. Reads the files:
    /// they may be others by now.
    ///
    /// # Errors
    /// Which of them cannot be used.
    pub fn read(&self, name: ServerName<'static>) -> Result<TlsClient, TlsFilesError> {
        Ok(TlsClient::new(Arc::new(self.configuration()?), name))
    }

    /// Which they are.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Whether the files can be used now.
    ///
    /// # Errors
    /// Which of them cannot.
    pub fn check(&self) -> Result<(), TlsFilesError> {
        self.configuration().map(drop)
    }

    fn configuration(&self) -> Result<ClientConfig, TlsFilesError> {
        let roots = match &self.files.ca {
            Some(path) => Arc::new(authorities(path)?),
            None => self.roots_of_machine()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsFilesError::Library(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match (&self.files.cert, &self.files.key) {
            (Some(cert_path), Some(key_path)) => {
                let (chain, key) = (certificates("--ledger-cert", cert_path)?, private_key(key_path)?);
                builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                    Error::InconsistentKeys(_) => wrong(
                        "--ledger-key",
                        key_path,
                        format!(
                            "is not the key of the certificate in {} (--ledger-cert)",
                            cert_path.display()
                        ),
                    ),
                    Error::InvalidCertificate(error) => {
                        wrong("--ledger-cert", cert_path, format!("cannot be used: {error}"))
                    }
                    error => wrong("--ledger-key", key_path, format!("cannot be used: {error}")),
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        // Each connection shows its certificates: one that is renewed or taken away holds from the next dial on.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots_of_machine(&self) -> Result<Arc<RootCertStore>, TlsFilesError> {
        let mut kept = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read_at, roots)) = &*kept
            && read_at.elapsed() < ROOTS_KEPT
        {
            return Ok(Arc::clone(roots));
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Machines have certificates of before X.509 version 3 among them, which nobody needs.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
            return Err(TlsFilesError::NoRoots(why));
        }
        let roots = Arc::new(roots);
        *kept = Some((Instant::now(), Arc::clone(&roots)));
        Ok(roots)
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsFilesError> {
    const FLAG: &str = "--ledger-ca";
    let mut roots = RootCertStore::empty();
    for (place, certificate) in certificates(FLAG, path)?.into_iter().enumerate() {
        let added = roots.add(certificate);
        added.map_err(|error| {
            wrong(FLAG, path, format!("certificate {} cannot be used: {error}", place + 1))
        })?;
    }
    Ok(roots)
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let bytes = read(flag, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => {
            Err(wrong(flag, path, "has no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned()))
        }
        Err(error) => Err(wrong(flag, path, format!("is no file of certificates in PEM form: {error}"))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFilesError> {
    const FLAG: &str = "--ledger-key";
    let bytes = read(FLAG, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let cause = match memchr::memmem::find(&bytes, b"ENCRYPTED").is_some() {
            true => "needs a passphrase; take that off (openssl pkey -in FILE -out NEW)",
            false => "has no private key in PEM form (-----BEGIN PRIVATE KEY-----)",
        };
        wrong(FLAG, path, cause.to_owned())
    })
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsFilesError> {
    let unread = |error| wrong(flag, path, format!("cannot be read: {error}"));
    let metadata = fs::metadata(path).map_err(unread)?;
    // A pipe would keep whoever reads it waiting.
    if !metadata.is_file() {
        return Err(wrong(flag, path, "is no file".to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(wrong(flag, path, format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    fs::read(path).map_err(unread)
}

fn wrong(flag: &'static str, path: &Path, cause: String) -> TlsFilesError {
    TlsFilesError::File { flag, path: path.to_owned(), cause }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::net::certificates::{Authority, NOW};

    struct Folder {
        folder: tempfile::TempDir,
        files: TlsFiles,
    }

    impl Folder {
        /// With a CA, and a certificate that it signed.
        fn new() -> Folder {
            let folder = tempfile::tempdir().unwrap();
            let authority = Authority::new("a CA");
            let ca = folder.path().join("ca.pem");
            fs::write(&ca, authority.pem()).unwrap();
            let (cert, key) = authority.sign(&["a host"], NOW).write(folder.path(), "host");
            Folder { folder, files: TlsFiles { ca: Some(ca), cert: Some(cert), key: Some(key) } }
        }

        fn source(&self) -> TlsSource {
            TlsSource::new(self.files.clone())
        }

        fn wrong(&self) -> String {
            self.source().check().expect_err("a file is of no use").to_string()
        }
    }

    #[test]
    fn each_file_that_is_of_no_use_is_named_with_its_flag() {
        let scene = Folder::new();
        scene.source().check().unwrap();
        let flags = ["--ledger-ca", "--ledger-cert", "--ledger-key"];
        let paths = [&scene.files.ca, &scene.files.cert, &scene.files.key].map(|path| path.clone().unwrap());
        for (flag, path) in flags.iter().zip(&paths) {
            let good = fs::read(path).unwrap();
            let begins = format!("{flag} {}: ", path.display());
            let huge = vec![b' '; FILE_BYTES_MAX as usize + 1];
            for (content, why) in [
                (&b""[..], "in PEM form"),
                (b"hunter2", "in PEM form"),
                (b"-----BEGIN CERTIFICATE-----\nhunter2\n", "in PEM form"),
                (&huge, "bytes"),
            ] {
                fs::write(path, content).unwrap();
                let said = scene.wrong();
                assert!(said.starts_with(&begins) && said.contains(why), "{said}");
                assert!(!said.contains("hunter2"), "{said}");
            }
            fs::remove_file(path).unwrap();
            let said = scene.wrong();
            assert!(said.starts_with(&begins) && said.contains("No such file"), "{said}");
            fs::create_dir(path).unwrap();
            assert!(scene.wrong().ends_with("is no file"), "{}", scene.wrong());
            fs::remove_dir(path).unwrap();
            // It is read each time.
            fs::write(path, good).unwrap();
            scene.source().check().unwrap();
        }
        // PEM, and no certificate in it.
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        fs::write(&paths[0], nonsense).unwrap();
        assert!(scene.wrong().contains("certificate 1 cannot be used"), "{}", scene.wrong());
    }

    #[test]
    fn a_key_has_to_be_that_of_the_certificate() {
        let scene = Folder::new();
        let (other, _) =
            Authority::new("another CA").sign(&["a host"], NOW).write(scene.folder.path(), "other");
        let mixed = TlsFiles { cert: Some(other.clone()), ..scene.files.clone() };
        let said = Folder { files: mixed, ..scene }.wrong();
        let why = format!("is not the key of the certificate in {} (--ledger-cert)", other.display());
        assert!(said.starts_with("--ledger-key ") && said.contains(&why), "{said}");
    }

    #[test]
    fn a_key_with_a_passphrase_is_told_what_it_is() {
        let scene = Folder::new();
        let path = scene.files.key.as_ref().unwrap();
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        fs::write(path, locked).unwrap();
        assert!(scene.wrong().contains("needs a passphrase"), "{}", scene.wrong());
    }
}
