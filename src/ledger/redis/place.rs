//! Where a Redis is at this moment, found for each dial: its name is looked up, by a [`Finder`] and so never on a loop.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::ledger::url::{RedisAddress, RedisUrl};
use crate::net::{Endpoint, Finder};

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
    if let Ok(address) = host.parse::<IpAddr>() {
        return Finder::known(Ok(Endpoint::Tcp(vec![SocketAddr::new(address, port)])));
    }
    Finder::new(move || {
        let failed = |cause: String| FindError::LookUp { host: host.clone(), cause };
        let addresses = look_up(&host, port).map_err(|error| failed(error.to_string()))?;
        match addresses.is_empty() {
            false => Ok(Endpoint::Tcp(addresses)),
            true => Err(failed("it has no address".to_owned())),
        }
    })
}

/// What an operator is told of a look-up that has no end.
pub fn slow_look_up(address: &RedisAddress, waited_ms: u128) -> String {
    format!("looking up {address} takes more than {waited_ms} ms; does the name server answer?")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::ledger::url::LedgerUrl;
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
}
