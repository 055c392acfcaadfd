//! Hosts that are restarted in turn under load, and nobody notices: behind nginx; each beside its next process on one port; and
//! on sockets that somebody else holds. `RESTARTS=20 make integration` restarts each of four hosts so often in each way.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::client::Client;
use crate::support::host::{Host, assert_audit_agrees, boxoffice};
use crate::support::nginx::Nginx;
use crate::support::process::Process;
use crate::support::redis_server::RedisServer;
use crate::support::{PATIENCE, eventually, free_port, turn};

/// How often each of the four hosts is restarted.
fn rounds() -> usize {
    std::env::var("RESTARTS").map_or(1, |text| text.parse().expect("RESTARTS is a number"))
}

/// How long a host that drains goes on accepting connections, and for how long nginx has those that it keeps to it used up.
const DELAY: Duration = Duration::from_millis(1_500);

/// What one client saw.
#[derive(Default)]
struct Seen {
    granted: u64,
    /// Of requests that nginx may not send to another host, since they name no booking.
    unknown: u64,
    wrong: Vec<String>,
}

/// How a client uses connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connects {
    /// One for as long as that lives.
    Once,
    /// One a request.
    Always,
}

/// Clients that are at it until they are told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
}

impl Crowd {
    fn start(clients: impl IntoIterator<Item = (SocketAddr, Connects)>) -> Crowd {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(number, (address, connects)): (usize, (SocketAddr, Connects))| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || buy(address, number, connects, &stop))
        };
        Crowd { clients: clients.into_iter().enumerate().map(start).collect(), stop }
    }

    /// How many they bought, and how many of them were told that nobody knows; nothing else went wrong.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let seen: Vec<Seen> = self.clients.into_iter().map(|client| client.join().unwrap()).collect();
        let wrong: Vec<&String> = seen.iter().flat_map(|seen| &seen.wrong).collect();
        let granted: u64 = seen.iter().map(|seen| seen.granted).sum();
        assert!(wrong.is_empty(), "{} failed beside {granted}: {wrong:?}", wrong.len());
        let unknown: u64 = seen.iter().map(|seen| seen.unknown).sum();
        println!("{granted} booked, {unknown} told that nobody knows");
        (granted, unknown)
    }
}

/// A client that buys and books until it is told to stop.
fn buy(address: SocketAddr, number: usize, connects: Connects, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut client = Client::connect(address);
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        if connects == Connects::Always {
            client = match Client::try_connect(address) {
                Ok(client) => client,
                Err(error) => {
                    seen.wrong.push(format!("connecting: {error}"));
                    continue;
                }
            };
        }
        // Without an id and with one, by turns: nginx may ask another host for the second alone.
        let answer = match asked % 2 {
            0 => client.try_ask("GET", "/buy/ticket", None),
            _ => client.try_ask("PUT", &format!("/v1/sales/ticket/bookings/b-{number}-{asked}"), Some("{}")),
        };
        match answer {
            Ok(answer) => {
                match (answer.status, asked % 2) {
                    (200 | 201, 1) => seen.granted += 1,
                    (200, _) if answer.json()["code"] == 1 => seen.granted += 1,
                    (503, 0) if answer.text().contains("/outcome-unknown") => seen.unknown += 1,
                    _ => seen.wrong.push(format!("{} {}", answer.status, answer.text())),
                }
                if answer.closes() {
                    client = Client::connect(address);
                }
            }
            Err(error) => {
                seen.wrong.push(error.to_string());
                client = Client::connect(address);
            }
        }
    }
    seen
}

#[test]
fn four_hosts_are_restarted_in_turn_behind_nginx_and_no_booking_by_its_id_fails() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let ledger = redis.url();
    let delay = format!("{}ms", DELAY.as_millis());
    let start = |port: u16, number: usize| {
        let (listen, state) = (format!("127.0.0.1:{port}"), format!("{number}.state"));
        let words = [
            "--listen",
            &listen,
            "--ledger",
            &ledger,
            "--sale",
            "ticket=1000000",
            "--drain-delay",
            &delay,
            "--state",
            &state,
        ];
        Host::start(folder.path(), &words)
    };
    let ports = [(); 4].map(|()| free_port());
    let mut hosts: Vec<Host> = ports.iter().enumerate().map(|(number, port)| start(*port, number)).collect();
    let addresses = [0, 1, 2, 3].map(|number: usize| hosts[number].address);
    let home = folder.path().join("nginx");
    std::fs::create_dir(&home).unwrap();
    let nginx = Nginx::start(&home, &addresses);
    let crowd = Crowd::start([(nginx.address, Connects::Once); 6]);
    for (number, port) in (0..rounds()).flat_map(|_| ports.into_iter().enumerate()) {
        let began = Instant::now();
        hosts[number].stop();
        assert!(began.elapsed() >= DELAY, "it left before its time");
        hosts[number] = start(port, number);
        eventually("all hosts are there again", PATIENCE, || {
            let told = hosts[number].operator().get("/v1/hosts").expect(200).json();
            let live = told["hosts"].as_array().unwrap().iter().filter(|host| host["status"] == "live");
            (live.count() == 4).then_some(())
        });
        // nginx takes a host that refused a connection back after a second.
        std::thread::sleep(Duration::from_millis(1_200));
    }
    let (granted, unknown) = crowd.end();
    // nginx may have sent a request on a connection that it kept for longer than the delay, as the host closed it.
    assert!(unknown * 1_000 <= granted, "{unknown} of {granted} buyers were told that nobody knows");
    let sold = eventually("nothing is held", PATIENCE, || {
        let told = hosts[0].sale("ticket");
        told["sold"].as_u64().filter(|sold| (granted..=granted + unknown).contains(sold))
    });
    assert!(sold >= granted);
    assert_audit_agrees(folder.path(), "ticket", &ledger);
}

/// A crowd that asks each of these hosts directly: over connections that stay, and with one for each request.
fn at_each(addresses: &[SocketAddr]) -> Crowd {
    let ways = [Connects::Once, Connects::Always];
    Crowd::start(addresses.iter().flat_map(|address| ways.map(|way| (*address, way))))
}

/// Everything that a crowd was granted is in the ledger, and nothing else: each request had its answer.
fn assert_sold(folder: &Path, host: &Host, ledger: &str, crowd: Crowd) {
    let (granted, unknown) = crowd.end();
    assert_eq!(unknown, 0);
    eventually("each is sold", PATIENCE, || (host.sale("ticket")["sold"] == granted).then_some(()));
    assert_audit_agrees(folder, "ticket", ledger);
}

#[test]
fn four_hosts_are_restarted_in_turn_each_beside_its_next_process() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let ledger = redis.url();
    let start = |port: u16, admin: u16, number: usize| {
        let (listen, admin) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{admin}"));
        let state = format!("{number}.state");
        let words =
            ["--listen", &listen, "--admin", &admin, "--reuse-port", "--ledger", &ledger, "--state", &state];
        let sale = ["--sale", "ticket=10000000", "--drain-delay", "300ms"];
        Host::start(folder.path(), &[&words[..], &sale].concat())
    };
    let ports = [(); 4].map(|()| (free_port(), free_port()));
    let mut hosts: Vec<Host> =
        ports.iter().enumerate().map(|(number, (port, admin))| start(*port, *admin, number)).collect();
    let addresses: Vec<SocketAddr> = hosts.iter().map(|host| host.address).collect();
    // One that says nothing of it is still told that the port is taken.
    let taken = ["serve", "--listen", &addresses[0].to_string(), "--ledger", &ledger];
    boxoffice(folder.path(), &taken).expect(1).saying(&["the port is taken", "--reuse-port"]);
    let crowd = at_each(&addresses);
    for (number, (port, admin)) in (0..rounds()).flat_map(|_| ports.into_iter().enumerate()) {
        let next = start(port, admin, number);
        let mut former = std::mem::replace(&mut hosts[number], next);
        former.process.signal(libc::SIGTERM);
        // From the beginning of the drain the operators' port is the new process' alone.
        eventually("the former one leaves the port", PATIENCE, || {
            let answers = (0..20).map(|_| hosts[number].operator().get("/readyz").status);
            answers.into_iter().all(|status| status == 200).then_some(())
        });
        assert_eq!(former.process.wait(PATIENCE).code(), Some(0), "{}", former.process.said());
    }
    assert_sold(folder.path(), &hosts[0], &ledger, crowd);
}

/// A socket that listens, and goes on doing so while no process serves it.
fn socket(address: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

#[test]
fn four_hosts_are_restarted_in_turn_on_sockets_that_outlive_them() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(folder.path());
    let ledger = redis.url();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let sockets: Vec<(Vec<TcpListener>, TcpListener)> = (0..4)
        .map(|number| {
            let first = socket(loopback);
            let address = first.local_addr().unwrap();
            // One for two loops, and one for each of them, by turns.
            let rest = (number % 2 == 0).then(|| socket(address));
            (std::iter::once(first).chain(rest).collect(), socket(loopback))
        })
        .collect();
    let start = |number: usize| {
        let (clients, admin) = &sockets[number];
        let state = format!("{number}.state");
        let words = ["--ledger", &ledger, "--state", &state, "--no-pin", "--cores", "0-1"];
        let sale = ["--sale", "ticket=10000000", "--drain-delay", "100ms"];
        Host::start_on((clients, admin), &[], folder.path(), &[&words[..], &sale].concat())
    };
    let mut hosts: Vec<Host> = (0..4).map(start).collect();
    let addresses: Vec<SocketAddr> = hosts.iter().map(|host| host.address).collect();
    for (host, (clients, admin)) in hosts.iter().zip(&sockets) {
        assert_eq!(host.address, clients[0].local_addr().unwrap());
        assert_eq!(host.admin, admin.local_addr().unwrap());
    }
    let crowd = at_each(&addresses);
    for number in (0..rounds()).flat_map(|_| 0..4) {
        // Nobody serves meanwhile: who connects waits.
        hosts[number].stop();
        hosts[number] = start(number);
    }
    assert_sold(folder.path(), &hosts[0], &ledger, crowd);
}

/// What the service manager hears next; a watchdog's words are left out where those were not asked for.
fn hears(manager: &UnixDatagram, words: &str) -> String {
    let mut buffer = [0; 1_024];
    loop {
        let bytes = manager.recv(&mut buffer).expect("the host says something");
        let told = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
        if told.contains(words) {
            return told;
        }
        assert_eq!(told, "WATCHDOG=1\n", "while waiting for {words}");
    }
}

#[test]
fn a_service_manager_hears_how_a_host_is() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let sockets = ([socket(loopback)], socket(loopback));
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let words = ["--sale", "ticket=5"];
    let mut host = Host::start_on((&sockets.0, &sockets.1), &variables, folder.path(), &words);
    assert_eq!(hears(&manager, "READY=1"), "READY=1\nSTATUS=selling\n");
    for _ in 0..3 {
        hears(&manager, "WATCHDOG=1");
    }
    host.process.signal(libc::SIGHUP);
    assert!(hears(&manager, "RELOADING=1").contains("\nMONOTONIC_USEC="));
    hears(&manager, "READY=1");
    host.process.signal(libc::SIGTERM);
    hears(&manager, "STOPPING=1");
    assert_eq!(host.process.wait(PATIENCE).code(), Some(0), "{}", host.process.said());
}

/// The units of docs/systemd, each with these texts in place of others; gives where they are.
fn units(folder: &Path, instead: &[(&str, &str)]) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/systemd");
    let unit = |name: &str| {
        let mut unit = std::fs::read_to_string(source.join(name)).unwrap();
        unit = unit.replace("/usr/local/bin/boxoffice", env!("CARGO_BIN_EXE_boxoffice"));
        for (text, other) in instead {
            unit = unit.replace(text, other);
        }
        let path = folder.join(name);
        std::fs::write(&path, unit).unwrap();
        path
    };
    ["boxoffice.service", "boxoffice.socket", "boxoffice-admin.socket"].map(unit).into()
}

#[test]
fn systemd_takes_the_units() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args(units(folder.path(), &[]));
    let checked = command.output().expect("systemd-analyze (`make setup` installs it)");
    let said = String::from_utf8_lossy(&checked.stderr);
    let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("boxoffice")).collect();
    assert!(checked.status.success() && of_ours.is_empty(), "{}: {said}", checked.status);
}

/// By the units themselves, and a real systemd.
#[test]
fn systemd_restarts_a_host_and_nobody_notices() {
    let _turn = turn::alone();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("systemd/user");
    std::fs::create_dir_all(&home).unwrap();
    let [clients, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let place = folder.path().to_str().unwrap();
    // A user's units have neither the machine's targets nor users of their own.
    units(
        &home,
        &[
            ("127.0.0.1:3005", &clients.to_string()),
            ("127.0.0.1:9305", &admin.to_string()),
            ("/etc/boxoffice", place),
            ("/var/lib/boxoffice", place),
            ("DynamicUser=true\n", ""),
            ("StateDirectory=boxoffice\n", ""),
            ("network-online.target", "basic.target"),
            ("LimitNOFILE=1048576\n", ""),
        ],
    );
    let settings = "sale = \"ticket=1000000\"\ndrain-delay = \"200ms\"\nno-pin = true\n";
    std::fs::write(folder.path().join("boxoffice.toml"), settings).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/restarts.sh");
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "bash",
    ]);
    command.arg(script).arg(folder.path()).arg((3 * rounds()).to_string());
    let mut systemd = Process::start("systemd", &mut command);
    let expect = |systemd: &Process, words: &str| {
        let line = std::iter::from_fn(|| systemd.next_line(PATIENCE)).find(|line| line == words);
        assert!(line.is_some(), "never {words}:\n{}", systemd.said());
    };
    expect(&systemd, "StatusText=selling");
    expect(&systemd, "started");
    let crowd = at_each(&[clients]);
    expect(&systemd, "active");
    expect(&systemd, "restarted");
    let (granted, unknown) = crowd.end();
    assert_eq!(unknown, 0);
    let told = Client::connect(clients).get("/v1/sales/ticket").expect(200).json();
    assert_eq!(told["sold"], granted, "{told}");
    std::fs::write(folder.path().join("stop"), "").unwrap();
    expect(&systemd, "ended");
    assert_eq!(systemd.wait(PATIENCE).code(), Some(0), "{}", systemd.said());
    assert_audit_agrees(folder.path(), "ticket", "sqlite:boxoffice.db");
}
