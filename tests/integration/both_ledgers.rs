//! The same on both ledgers.

use crate::support::host::{Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::turn;

/// Both ledgers, each with a host that sells `ticket` on these terms, and what clients were told held against the ledger.
pub fn on_both_ledgers(terms: &str, test: impl Fn(&Host)) {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    for (ledger, log) in [("sqlite:both.db", "file.log"), (&redis.url(), "redis.log")] {
        let mut host =
            Host::start(folder.path(), &["--ledger", ledger, "--sale", terms, "--access-log", log]);
        test(&host);
        host.stop();
        boxoffice(folder.path(), &["audit", "ticket", "--ledger", ledger, "--access-log", log])
            .expect(0)
            .saying(&["no difference"]);
    }
}
