//! What a running host reads again when it is told to.

use crate::access_log::Reopener;
use crate::admin::TokenFile;
use crate::ledger::url::RedisUrl;

/// The files of a host that are opened or read anew by SIGHUP.
#[derive(Clone)]
pub struct Reload {
    pub(super) access_log: Option<Reopener>,
    pub(super) token: Option<TokenFile>,
    /// Of a Redis whose password is in a file.
    pub(super) password: Option<RedisUrl>,
}

impl Reload {
    /// Does so. A file that cannot be read leaves what was read before, and is told in the log.
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
        // Each dial reads it. Better told now than when the connection that there is breaks.
        if let Some(url) = &self.password {
            match url.password_now() {
                Ok(_) => tracing::info!("the password file is read again for the next connection to Redis"),
                Err(error) => {
                    tracing::error!(%error, "the password file cannot be read, so the next connection to Redis will \
                        fail")
                }
            }
        }
    }
}
