//! What a running host reads again on request.

use crate::access_log::Reopener;
use crate::admin::TokenFile;
use crate::ledger::url::RedisUrl;

/// The files of a host that SIGHUP reopens or reads again.
#[derive(Clone)]
pub struct Reload {
    pub(super) access_log: Option<Reopener>,
    pub(super) token: Option<TokenFile>,
    /// Of a Redis whose password is in a file.
    pub(super) password: Option<RedisUrl>,
}

impl Reload {
    /// Reopens them and reads them again. If a file cannot be read, its last content stays, and the log says so.
    pub fn run(&self) {
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
        // Each dial reads it. Better to report a fault now than when the current connection is lost.
        if let Some(url) = &self.password {
            match url.password_now() {
                Ok(_) => tracing::info!("the password file is read again for the next connection to Redis"),
                Err(error) => {
                    tracing::error!(%error, "the password file cannot be read, so the next connection to Redis will fail")
                }
            }
        }
    }
}
