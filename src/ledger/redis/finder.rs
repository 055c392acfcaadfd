//! Where a Redis is at this moment, found for each dial: its name is looked up, or sentinels say it, and the files for TLS are
//! read. None of that is done on a loop, by [`Finder`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::cluster::ClusterWatch;
use super::place::{FindError, LookUp, Resolver, Whereabouts};
use super::sentinel::SentinelWatch;
use super::slots::SlotMap;
use crate::ledger::tls::TlsSource;
use crate::ledger::url::{HostPort, RedisAddress, RedisUrl};
use crate::net::{Asker, Endpoint, Finder, Moves};

/// Finds a Redis.
pub type RedisFinder = Finder<Whereabouts>;

/// Finds the Redis of that URL, as the system looks names up.
pub fn of(url: &RedisUrl) -> RedisFinder {
    with(url, Arc::new(system_look_up), false)
}

/// The same, for a host: its log tells what becomes of the sentinels.
pub fn of_host(url: &RedisUrl) -> RedisFinder {
    with(url, Arc::new(system_look_up), true)
}

/// The same, as `look_up` does.
pub fn by(
    url: &RedisUrl,
    look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> RedisFinder {
    with(url, Arc::new(look_up), false)
}

fn system_look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

fn with(url: &RedisUrl, look_up: Arc<LookUp>, logs: bool) -> RedisFinder {
    let resolver = resolver(url, look_up);
    match &url.address {
        RedisAddress::Unix(path) => Finder::known(Ok(Endpoint::Unix(path.clone()))),
        RedisAddress::Tcp(place) => at(place, &resolver),
        RedisAddress::Cluster(_) => {
            // Its nodes are found one by one.
            Finder::known(Err(FindError::NoCluster("a Cluster is at no one place".to_owned())))
        }
        RedisAddress::Sentinel(address) => {
            let moves = Moves::default();
            let watch = SentinelWatch::start(address, resolver.clone(), moves.clone(), logs);
            let login = address.login.clone();
            Finder::of_what_moves(moves, move || {
                // What this host has itself is told as that, and not as what each sentinel made of it.
                login.password_now()?;
                resolver.check()?;
                resolver.find(&watch.primary().map_err(FindError::NoPrimary)?)
            })
        }
    }
}

fn resolver(url: &RedisUrl, look_up: Arc<LookUp>) -> Resolver {
    let tls = url.tls.as_ref().map(|files| Arc::new(TlsSource::new((**files).clone())));
    Resolver { look_up, tls }
}

/// Finds a Redis with that host and port. An address alone is not looked up.
fn at(place: &HostPort, resolver: &Resolver) -> RedisFinder {
    match (place.address(), &resolver.tls) {
        (Some(address), None) => Finder::known(Ok(Endpoint::Tcp(vec![address]))),
        _ => {
            let (place, resolver) = (place.clone(), resolver.clone());
            Finder::new(move || resolver.find(&place))
        }
    }
}

/// What a Cluster is found to be.
pub type FoundSlots = Result<Arc<SlotMap>, FindError>;

/// Finds the nodes of a Cluster. Those who ask are told of each change of the map.
#[derive(Clone)]
pub struct ClusterFinder(Arc<ClusterFound>);

struct ClusterFound {
    resolver: Resolver,
    watch: Arc<ClusterWatch>,
    maps: Finder<FoundSlots>,
}

impl ClusterFinder {
    /// That of the Cluster with these seeds. With `logs` the log tells what becomes of it, as that of a host.
    pub fn new(url: &RedisUrl, seeds: &[HostPort], logs: bool) -> ClusterFinder {
        let resolver = resolver(url, Arc::new(system_look_up));
        let moves = Moves::default();
        let watch = Arc::new(ClusterWatch::start(url, seeds, resolver.clone(), moves.clone(), logs));
        let (own, files, watched) = (url.clone(), resolver.clone(), Arc::clone(&watch));
        let maps = Finder::of_what_moves(moves, move || {
            // What this host has itself is told as that, and not as what each node made of it.
            own.password_now()?;
            files.check()?;
            watched.map().map_err(FindError::NoCluster)
        });
        ClusterFinder(Arc::new(ClusterFound { resolver, watch, maps }))
    }

    /// One that asks for the map.
    pub fn maps(&self, wake: impl Fn() + Send + Sync + 'static) -> Asker<FoundSlots> {
        self.0.maps.asker(wake)
    }

    /// One that asks where that node is.
    pub fn node(&self, place: &HostPort, wake: impl Fn() + Send + Sync + 'static) -> Asker<Whereabouts> {
        at(place, &self.0.resolver).asker(wake)
    }

    /// Has the map asked for soon, since something may have changed.
    pub fn nudge(&self) {
        self.0.watch.nudge();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::ledger::Cause;
    use crate::ledger::url::{LedgerFiles, LedgerUrl};

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
        let finder = by(&redis("redis://db.example:7000"), move |host, port| {
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
            let finder = by(&redis(url), |host, _| panic!("{host} is looked up"));
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
        let mut asker = by(&url, |_, _| panic!("it has an address")).asker(|| ());
        assert!(found(&mut asker).unwrap_err().starts_with("--ledger-ca "));
        std::fs::write(&path, crate::net::certificates::Authority::new("a CA").pem()).unwrap();
        assert_eq!(found(&mut asker), Ok("127.0.0.1:6379".to_owned()));
        std::fs::write(&path, "").unwrap();
        asker.ask().unwrap();
        let error = asker.wait(PATIENCE).expect("it is found").unwrap_err();
        assert_eq!(error.cause(), Cause::Tls);
    }
}
