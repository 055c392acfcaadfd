//! A Redis that is called by a name: whoever the name leads to at the next dial is reached, without a restart. The host has a
//! file of names of its own in the place of `/etc/hosts`, and asks no name server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::support::host::Host;
use crate::support::redis_server::RedisServer;
use crate::support::turn;
use crate::support::{PATIENCE, eventually};

/// Mounts the host's names.
const MOUNTS: &str = "mount --bind hosts /etc/hosts && mount --bind nsswitch.conf /etc/nsswitch.conf";

/// An address by which a Redis is reached, until it is not.
struct Door {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_shut: Arc<Mutex<bool>>,
}

impl Door {
    /// At that address, for which one stands that is in use: without a port, one that the system chooses.
    fn open(address: SocketAddr, redis: SocketAddr) -> Door {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, is_shut) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(false)));
        let (all, shut) = (Arc::clone(&open), Arc::clone(&is_shut));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for host in listener.incoming().flatten() {
                // Both at once: what is shut has no connection that began before.
                let is_shut = shut.lock().unwrap();
                if *is_shut {
                    continue;
                }
                let redis = TcpStream::connect(redis).unwrap();
                let mut all = all.lock().unwrap();
                all.extend([host.try_clone().unwrap(), redis.try_clone().unwrap()]);
                for (mut from, mut to) in
                    [(host.try_clone().unwrap(), redis.try_clone().unwrap()), (redis, host)]
                {
                    std::thread::spawn(move || {
                        let mut buffer = [0; 64 * 1024];
                        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..bytes]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Door { address, open, is_shut }
    }

    /// Ends its connections, and each that comes.
    fn shut(&self) {
        *self.is_shut.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        open.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    fn connections(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len() / 2
    }
}

/// In place: a mount is of the file, and not of its name.
fn name(folder: &Path, addresses: &[&str]) {
    let lines = addresses.iter().map(|address| format!("{address} redis.test\n"));
    let text = ["127.0.0.1 localhost\n".to_owned()].into_iter().chain(lines).collect::<String>();
    std::fs::write(folder.join("hosts"), text).unwrap();
}

fn booked(host: &Host, id: &str) {
    let answer = host.client().insist("PUT", &format!("/v1/sales/ticket/bookings/{id}"), Some("{}"));
    assert!(answer.is_booked(), "{id}: {}", answer.text());
}

#[test]
fn a_name_that_moves_is_followed() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let first = Door::open("127.0.0.2:0".parse().unwrap(), redis.address());
    let port = first.address.port();
    let second = Door::open(SocketAddr::from(([127, 0, 0, 3], port)), redis.address());
    std::fs::write(folder.path().join("nsswitch.conf"), "hosts: files\n").unwrap();
    let url = format!("redis://redis.test:{port}/0");
    let words = ["--ledger", &url, "--state", "none", "--sale", "ticket=100"];

    // Nobody knows the name: a start says so as it does of a Redis that is not there.
    name(folder.path(), &[]);
    let Err(ended) = Host::try_start_behind(MOUNTS, folder.path(), &words) else { panic!("it starts") };
    ended.expect(1).saying(&["mounted", "cannot reach Redis at redis.test:", "cannot look up redis.test"]);

    name(folder.path(), &["127.0.0.2"]);
    let mut host = Host::try_start_behind(MOUNTS, folder.path(), &words).unwrap();
    booked(&host, "a");
    assert!(first.connections() > 0 && second.connections() == 0);

    // It moves.
    name(folder.path(), &["127.0.0.3"]);
    booked(&host, "b");
    assert_eq!(second.connections(), 0, "a connection that stands stays");
    first.shut();
    booked(&host, "c");
    assert!(second.connections() > 0);
    // By the admin listener as well.
    host.operator().put("/v1/sales/ticket", "{\"total\":200}").expect(200);

    // It is forgotten, and known again by two addresses, of which the first is dead.
    name(folder.path(), &[]);
    second.shut();
    eventually("readyz says so", PATIENCE, || {
        let answer = host.operator().get("/readyz");
        (answer.status == 503 && answer.text().contains("cannot look up redis.test: ")).then_some(())
    });
    let third = Door::open(SocketAddr::from(([127, 0, 0, 4], port)), redis.address());
    name(folder.path(), &["127.0.0.5", "127.0.0.4"]);
    booked(&host, "d");
    assert!(third.connections() > 0);
    eventually("it is ready", PATIENCE, || (host.operator().get("/readyz").status == 200).then_some(()));
    host.stop();
}
