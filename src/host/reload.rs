//! What a running host reads again on request.

use super::service_manager;
use crate::access_log::Reopener;
use crate::admin::TokenFile;
use crate::ledger::tls::TlsSource;
use crate::ledger::url::{RedisAddress, RedisUrl};

/// The files of a host that SIGHUP reopens or reads again.
#[derive(Clone)]
pub struct Reload {
    pub(super) access_log: Option<Reopener>,
    pub(super) token: Option<TokenFile>,
    /// The Redis, whose password and certificates may be in files.
    pub(super) redis: Option<RedisUrl>,
}

impl Reload {
    /// Reopens them and reads them again. If a file cannot be read, its last content stays, and the log says so.
    pub fn run(&self) {
        service_manager::tell_reloading();
        self.read_again();
        service_manager::tell_ready();
    }

    fn read_again(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
        if let Some(token) = &self.token {
            match token.read_again() {
                Ok(()) => tracing::info!("the admin token was reloaded"),
                Err(error) => {
                    tracing::error!(%error, "the admin token could not be reloaded; the old one stays in force")
                }
            }
        }
        // Each dial reads them. Better to report a fault now than when the current connection is lost.
        if let Some(url) = self.redis.as_ref().filter(|url| url.password_file.is_some()) {
            match url.password_now() {
                Ok(_) => tracing::info!("the password file is read again for the next connection to Redis"),
                Err(error) => {
                    tracing::error!(%error, "the password file cannot be read, so the next connection to Redis will fail")
                }
            }
        }
        if let Some(RedisAddress::Sentinel(sentinels)) = self.redis.as_ref().map(|url| &url.address) {
            match sentinels.login.password_now() {
                Ok(None) => {}
                Ok(Some(_)) => {
                    tracing::info!(
                        "the sentinels' password file is read again for the next connection to them"
                    )
                }
                Err(error) => {
                    tracing::error!(%error, "the sentinels' password file cannot be read, so that the next connection to them will fail")
                }
            }
        }
        if let Some(files) =
            self.redis.as_ref().and_then(|url| url.tls.as_ref()).filter(|files| !files.is_empty())
        {
            match TlsSource::new((**files).clone()).check() {
                Ok(_) => tracing::info!("the TLS files are read again for the next connection to Redis"),
                Err(error) => {
                    tracing::error!(%error, "the TLS files cannot be used, so that the next connection to Redis will fail")
                }
            }
        }
    }
}
