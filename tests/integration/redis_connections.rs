//! The connections to Redis as Redis sees them: what a user of few rights may do, and what becomes of one that broke.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::support::client::{PATIENCE, read_once};
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::redis_server::RedisServer;
use crate::support::turn;
use crate::support::{eventually, one_core};

/// A network in front of Redis that can lose a connection while what was sent on it is still on its way.
struct Slow {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Connection>>>,
}

struct Connection {
    host: TcpStream,
    redis: TcpStream,
    /// What the host sends is kept here from now on.
    kept: Option<Vec<u8>>,
}

impl Slow {
    fn start(redis: SocketAddr) -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&connections);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for host in listener.incoming().flatten() {
                let redis = TcpStream::connect(redis).unwrap();
                redis.set_read_timeout(Some(PATIENCE)).unwrap();
                let number = all.lock().unwrap().len();
                let (mut from, mut to) = (redis.try_clone().unwrap(), host.try_clone().unwrap());
                all.lock().unwrap().push(Connection { host, redis, kept: None });
                let requests = Arc::clone(&all);
                std::thread::spawn(move || carry_requests(number, &requests));
                // Once its host is gone, replies are for whoever delivers what was kept.
                std::thread::spawn(move || {
                    let mut buffer = [0; 64 * 1024];
                    while let Ok(count @ 1..) = read_once(&mut from, &mut buffer) {
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        });
        Slow { address, connections }
    }

    fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing that hosts send on the connections of today arrives.
    fn keep(&self) {
        self.all().iter_mut().for_each(|connection| connection.kept = Some(Vec::new()));
    }

    /// Waits until that was sent and kept; gives the place of its connection.
    fn wait_for(&self, words: &str) -> usize {
        let holds = |connection: &Connection| {
            let kept = connection.kept.as_deref().unwrap_or_default();
            memchr::memmem::find(kept, words.as_bytes()).is_some()
        };
        eventually(&format!("{words:?} is sent"), PATIENCE, || self.all().iter().position(holds))
    }

    /// Hosts find that the connections that keep are broken.
    fn break_kept(&self) {
        for connection in self.all().iter().filter(|connection| connection.kept.is_some()) {
            connection.host.shutdown(Shutdown::Both).unwrap();
        }
    }

    /// What was kept of that connection arrives; returns whether Redis took it, and did not have the connection ended.
    fn deliver(&self, place: usize) -> bool {
        let mut connections = self.all();
        let Connection { redis, kept, .. } = &mut connections[place];
        // Its replies are read here.
        let taken = redis.write_all(&kept.take().unwrap_or_default()).is_ok();
        taken && redis.write_all(b"PING\r\n").is_ok() && matches!(read_once(redis, &mut [0; 1_024]), Ok(1..))
    }
}

/// Carries what a host sends to Redis, or keeps it.
fn carry_requests(number: usize, connections: &Mutex<Vec<Connection>>) {
    let mut from = connections.lock().unwrap()[number].host.try_clone().unwrap();
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let Connection { redis, kept, .. } = &mut connections.lock().unwrap()[number];
        match kept {
            Some(kept) => kept.extend_from_slice(&buffer[..count]),
            None if redis.write_all(&buffer[..count]).is_err() => break,
            None => {}
        }
    }
}

/// A call that was sent again and refused is not carried out by its first try, however late that arrives: the sale is
/// paused in between, so that only the first try can book.
#[test]
fn what_arrives_late_of_a_broken_connection_is_not_carried_out() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let slow = Slow::start(redis.address());
    let core = one_core();
    let words = ["--sale", "ticket=10", "--cores", &core, "--ledger"];
    let host = Host::start(folder.path(), &[&words[..], &[&slow.url()]].concat());
    let operator = Host::start(folder.path(), &[&words[..], &[&redis.url()]].concat());
    let mut client = host.client();
    client.put("/v1/sales/ticket/bookings/early", "{}").expect(201);

    slow.keep();
    let address = host.address;
    let asked = std::thread::spawn(move || {
        let mut client = crate::support::client::Client::connect(address);
        client.put("/v1/sales/ticket/bookings/late", "{}")
    });
    let place = slow.wait_for("late");
    operator.operator().ask("POST", "/v1/sales/ticket/pause", None).expect(200);
    slow.break_kept();
    asked.join().unwrap().expect_problem(403, "not-on-sale");

    operator.operator().ask("POST", "/v1/sales/ticket/resume", None).expect(200);
    assert!(!slow.deliver(place), "Redis carried on with a connection that was given up");
    assert_eq!(redis.command(&["hexists", "bx:{ticket}:bookings", "late"]).trim(), "0");
    operator.expect_sold("ticket", 1);
    // What is asked again is booked.
    eventually("the sale goes on", PATIENCE, || {
        client.put("/v1/sales/ticket/bookings/late", "{}").is_booked().then_some(())
    });
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

/// The rights that docs/ledgers.md gives a user are all that a host, the commands and a broken connection need; without one
/// of them boxoffice says which.
#[test]
fn the_rights_that_the_documentation_names_are_enough_and_needed() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let rights = documented_rights();
    let set = |user: &str, rights: &[&str]| {
        redis.command(&[&["acl", "setuser", user, "reset"], rights].concat());
    };
    let url = |user: &str| format!("redis://{user}:secret@{}/0", redis.address());
    set("boxoffice", &rights);
    let core = one_core();
    let words = ["--sale", "ticket=10", "--cores", &core, "--ledger"];
    let host = Host::start(folder.path(), &[&words[..], &[&url("boxoffice")]].concat());
    host.client().put("/v1/sales/ticket/bookings/one", r#"{"quantity":2}"#).expect(201);
    redis.command(&["client", "kill", "user", "boxoffice"]);
    eventually("the host is back", PATIENCE, || {
        host.client().put("/v1/sales/ticket/bookings/two", "{}").is_booked().then_some(())
    });
    host.client().insist("DELETE", "/v1/sales/ticket/bookings/two", None).expect(200);
    host.operator().ask("POST", "/v1/sales/ticket/pause", None).expect(200);
    assert_audit_agrees(folder.path(), "ticket", &url("boxoffice"));
    let log = redis.command(&["acl", "log"]);
    assert_eq!(log.trim(), "", "Redis denied something");

    // Whatever the audit and the commands need besides, a host without one of these does not sell, and says why.
    for right in ["+client|id", "+client|list", "+client|kill"] {
        let fewer: Vec<&str> = rights.iter().copied().filter(|other| *other != right).collect();
        set("poor", &fewer);
        let host = Host::try_start(folder.path(), &[&words[..], &[&url("poor")]].concat());
        let told = || match &host {
            Ok(host) => host.operator().get("/readyz").text().to_owned(),
            Err(ended) => ended.said.clone(),
        };
        let why = format!("'{}'", &right[1..]);
        eventually(&format!("without {right} it says NOPERM and {why}, after {}", told()), PATIENCE, || {
            let told = told();
            (told.contains("NOPERM") && told.contains(&why)).then_some(())
        });
    }
}

/// The words behind the user's name in the `ACL SETUSER` of docs/ledgers.md.
pub fn documented_rights() -> Vec<&'static str> {
    let page = include_str!("../../docs/ledgers.md");
    let (_, command) = page.split_once("ACL SETUSER boxoffice ").expect("the page has the command");
    let (command, _) = command.split_once("\nOK\n").expect("and its output");
    command
        .split_ascii_whitespace()
        .filter(|word| *word != "\\")
        .map(|word| word.trim_matches('\''))
        .collect()
}
