//! A Redis that is reached by TLS: what works as without, and each way in which it fails, said where operators look.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use crate::support::certificates::{Authority, Identity, NOW, Years};
use crate::support::client::Client;
use crate::support::host::{Ended, Host, boxoffice};
use crate::support::redis_server::RedisServer;
use crate::support::sentinels::{NAME, Sentinel};
use crate::support::turn;
use crate::support::{PATIENCE, eventually, free_port, one_core};

/// The names of a certificate that does.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A Redis with a port for TLS beside its plain one, and a folder with what both sides need: `ca.pem` has its CA.
struct Encrypted {
    folder: TempDir,
    authority: Authority,
    redis: RedisServer,
    port: u16,
}

impl Encrypted {
    /// More options in `more`.
    fn start(more: &[&str]) -> Encrypted {
        let folder = tempfile::tempdir().unwrap();
        let (authority, port) = (Authority::new("a CA"), free_port());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        authority.sign(&NAMES, NOW).write(folder.path(), "redis");
        let options = options(folder.path(), port, more);
        let redis = RedisServer::start_with(folder.path(), &words(&options));
        Encrypted { folder, authority, redis, port }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn url(&self) -> String {
        format!("rediss://{}/0", self.address())
    }

    /// Starts Redis again, with that certificate and more options.
    fn restart(&mut self, identity: &Identity, more: &[&str]) {
        identity.write(self.folder.path(), "redis");
        self.redis.kill();
        let options = options(self.folder.path(), self.port, more);
        self.redis.set_options(&words(&options));
        self.redis.start_again();
    }

    /// A certificate for these names and years, of its CA.
    fn sign(&self, names: &[&str], years: Years) -> Identity {
        self.authority.sign(names, years)
    }
}

fn options(folder: &Path, port: u16, more: &[&str]) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut options = Vec::from(["--tls-port".to_owned(), port.to_string(), "--tls-auth-clients".to_owned()]);
    options.push("no".to_owned());
    for (option, name) in
        [("--tls-cert-file", "redis.pem"), ("--tls-key-file", "redis.key"), ("--tls-ca-cert-file", "ca.pem")]
    {
        options.extend([option.to_owned(), file(name)]);
    }
    options.extend(more.iter().map(|&option| option.to_owned()));
    options
}

fn words(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn booked(host: &Host, id: &str) {
    let answer = host.client().insist("PUT", &format!("/v1/sales/ticket/bookings/{id}"), Some("{}"));
    assert!(answer.is_booked(), "{id}: {}", answer.text());
}

/// Waits until `/readyz` says that nothing is sold, with all of these words.
fn told(host: &Host, words: &[&str]) {
    let mut last = String::new();
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        let answer = host.operator().get("/readyz");
        last = answer.text().to_owned();
        if answer.status == 503 && words.iter().all(|word| last.contains(word)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("no {words:?} in {last:?}");
}

fn ready(host: &Host) {
    eventually("it is ready", PATIENCE, || (host.operator().get("/readyz").status == 200).then_some(()));
}

/// A start and a command that fail alike.
#[track_caller]
fn both_fail(folder: &Path, flags: &[&str], code: i32, words: &[&str]) {
    match Host::try_start(folder, &[flags, &["--state", "none"]].concat()) {
        Ok(host) => panic!("it starts: {:?}", host.greeting),
        Err(ended) => drop(ended.expect(code).saying(words)),
    }
    boxoffice(folder, &[&["sale", "list"], flags].concat()).expect(code).saying(words);
}

/// The sentinel by TLS, and the primary that it names.
#[test]
fn a_primary_that_a_sentinel_names_is_reached_by_tls() {
    let _turn = turn::shared();
    let scene = Encrypted::start(&[]);
    let sentinel = |certificate: &str| {
        let (port, folder) = (free_port(), scene.path().display());
        let text = format!(
            "port 0\ntls-port {port}\nbind 127.0.0.1\ntls-cert-file {folder}/{certificate}.pem\ntls-key-file {folder}/{certificate}.key\n\
             tls-ca-cert-file {folder}/ca.pem\ntls-auth-clients no\ntls-replication yes\n\
             sentinel monitor {NAME} 127.0.0.1 {} 1\n",
            scene.port
        );
        let started = Sentinel::with(port, &text);
        eventually("the sentinel listens", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).ok());
        started
    };
    let first = sentinel("redis");
    let url = format!("rediss+sentinel://127.0.0.1:{}/{NAME}", first.port);
    let flags = ["--ledger", &url, "--ledger-ca", "ca.pem"];
    let mut host =
        Host::start(scene.path(), &[&flags[..], &["--state", "none", "--sale", "ticket=10"]].concat());
    booked(&host, "a");
    boxoffice(scene.path(), &[&["sale", "list"], &flags[..]].concat()).expect(0).saying(&["ticket"]);
    host.stop();
    // A sentinel that cannot show who it is names nobody.
    scene.sign(&["elsewhere.example"], NOW).write(scene.path(), "other");
    let second = sentinel("other");
    let url = format!("rediss+sentinel://127.0.0.1:{}/{NAME}", second.port);
    boxoffice(scene.path(), &["sale", "list", "--ledger", &url, "--ledger-ca", "ca.pem"])
        .expect(1)
        .saying(&["does not name the primary", "its certificate is not for 127.0.0.1", "elsewhere.example"]);
}

#[test]
fn a_host_and_commands_do_by_tls_what_they_do_without() {
    let _turn = turn::shared();
    let mut scene = Encrypted::start(&[]);
    scene.redis.command(&["acl", "setuser", "boxoffice", "on", ">secret", "~*", "&*", "+@all"]);
    // Restarts keep it.
    let user = ["--user", "boxoffice", "on", ">secret", "~*", "&*", "+@all"];
    std::fs::write(scene.path().join("password"), "secret\n").unwrap();
    let url = scene.url().replace("rediss://", "rediss://boxoffice:@");
    let ledger = ["--ledger", &url, "--ledger-ca", "ca.pem", "--ledger-password-file", "password"];
    let words = [&ledger[..], &["--state", "none", "--sale", "ticket=1000,hold=10m"]].concat();
    let mut host = Host::start(scene.path(), &words);
    assert!(host.greeting.iter().any(|line| line.contains("rediss://")), "{:?}", host.greeting);
    booked(&host, "a");
    host.client().ask("POST", "/v1/sales/ticket/bookings/a/confirm", None).expect(200);
    host.operator().put("/v1/sales/ticket", "{\"total\":900}").expect(200);
    // All of it by the port for TLS.
    let clients = scene.redis.command(&["client", "list"]);
    let plain = format!("laddr=127.0.0.1:{} ", scene.redis.address().port());
    for client in clients.lines().filter(|line| line.contains("user=boxoffice")) {
        assert!(
            client.contains(&format!("laddr={} ", scene.address())) && !client.contains(&plain),
            "{client}"
        );
    }

    for round in 0..3 {
        let identity = scene.sign(&NAMES, NOW);
        scene.restart(&identity, &user);
        booked(&host, &format!("b-{round}"));
        ready(&host);
    }

    let run = |words: &[&str]| boxoffice(scene.path(), &[words, &ledger[..]].concat());
    run(&["sale", "list"]).expect(0).saying(&["ticket", "900"]);
    run(&["sale", "set", "ticket", "--stock", "800"]).expect(0);
    run(&["sale", "log", "ticket"]).expect(0).saying(&["\"booking\":\"a\"", "\"booking\":\"b-2\""]);
    run(&["audit", "ticket"]).expect(0).saying(&["no difference"]);
    let said = host.process.said();
    assert!(!said.contains("secret"), "the password is told: {said}");
    host.stop();
}

#[test]
fn settings_come_from_variables_and_the_file_as_well() {
    let _turn = turn::shared();
    let scene = Encrypted::start(&[]);
    let settings = format!("ledger = \"{}\"\nledger-ca = \"ca.pem\"\nstate = \"none\"\n", scene.url());
    std::fs::write(scene.path().join("boxoffice.toml"), settings).unwrap();
    let mut host = Host::start(scene.path(), &["--config", "boxoffice.toml", "--sale", "ticket=10"]);
    booked(&host, "a");
    host.stop();
    let list = std::process::Command::new(env!("CARGO_BIN_EXE_boxoffice"))
        .args(["sale", "list"])
        .current_dir(scene.path())
        .env("BOXOFFICE_LEDGER", scene.url())
        .env("BOXOFFICE_LEDGER_CA", "ca.pem")
        .output()
        .unwrap();
    assert!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("ticket"), "{list:?}");
}

/// A Redis that comes back as somebody else sells nothing, and sells again by itself once it is put right.
#[test]
fn each_failure_is_told_and_over_by_itself() {
    let _turn = turn::shared();
    let mut scene = Encrypted::start(&[]);
    let url = scene.url();
    let flags = ["--ledger", &url, "--ledger-ca", "ca.pem"];
    let core = one_core();
    // Requests are to be refused soon.
    let more = ["--state", "none", "--cores", &core, "--sale", "ticket=100", "--ledger-timeout", "500ms"];
    let words = [&flags[..], &more].concat();
    let mut host = Host::start(scene.path(), &words);
    booked(&host, "first");
    let place = scene.address().to_string();
    let place = format!("no TLS with Redis at {place}: ");
    let cases: [(&str, Identity, &[&str]); 4] = [
        (
            "signed by no CA that is trusted here; put the certificate of the CA that signed it into ca.pem (--ledger-ca)",
            Authority::new("another CA").sign(&NAMES, NOW),
            &[],
        ),
        (
            "its certificate is not for 127.0.0.1, but for redis.example; call it by one of its names",
            scene.sign(&["redis.example"], NOW),
            &[],
        ),
        ("its certificate expired at 2002-12-31T00:00:00Z; renew it", scene.sign(&NAMES, (2001, 2002)), &[]),
        (
            "its certificate is not valid before 2900-01-01T00:00:00Z; is the clock of this machine wrong?",
            scene.sign(&NAMES, (2900, 2901)),
            &[],
        ),
    ];
    let good = scene.sign(&NAMES, NOW);
    let demanding = (
        "it demands a client certificate; name one by --ledger-cert and its key by --ledger-key",
        good.clone(),
        &["--tls-auth-clients", "yes"][..],
    );
    let old = (
        "it demands a client certificate; name one by --ledger-cert and its key by --ledger-key",
        good.clone(),
        &["--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.2"][..],
    );
    for (number, (said, identity, more)) in cases.into_iter().chain([demanding, old]).enumerate() {
        scene.restart(&identity, more);
        told(&host, &[&place, said]);
        assert_eq!(host.metrics()["boxoffice_unable{reason=\"tls\"}"], 1.0);
        eventually("the log has it", PATIENCE, || host.process.said().contains(said).then_some(()));
        both_fail(scene.path(), &flags, 1, &["no TLS with Redis at ", said]);
        host.client()
            .ask("PUT", &format!("/v1/sales/ticket/bookings/no-{number}"), Some("{}"))
            .expect_problem(503, "ledger-unavailable");
        scene.restart(&good, &[]);
        booked(&host, &format!("yes-{number}"));
        ready(&host);
        assert_eq!(host.metrics()["boxoffice_unable{reason=\"tls\"}"], 0.0);
    }
    // What of TLS 1.2 alone is no failure.
    scene.restart(&good, &["--tls-protocols", "TLSv1.2"]);
    booked(&host, "old");
    boxoffice(scene.path(), &[&["audit", "ticket"], &flags[..]].concat()).expect(0).saying(&["8 sold"]);
    host.stop();
}

#[test]
fn a_port_that_speaks_no_tls_is_told_and_so_is_one_that_speaks_nothing_else() {
    let _turn = turn::shared();
    let scene = Encrypted::start(&[]);
    let plain = scene.redis.url().replace("redis://", "rediss://");
    both_fail(scene.path(), &["--ledger", &plain, "--ledger-ca", "ca.pem"], 1, &["is it the plain port?"]);
    let encrypted = scene.url().replace("rediss://", "redis://");
    both_fail(
        scene.path(),
        &["--ledger", &encrypted],
        1,
        &["cannot reach Redis at", "tls-port", "rediss://"],
    );
}

#[test]
fn a_redis_that_demands_certificates_gets_them() {
    let _turn = turn::shared();
    let mut scene = Encrypted::start(&["--tls-auth-clients", "yes"]);
    let url = scene.url();
    scene.sign(&["a host"], NOW).write(scene.path(), "host");
    let flags =
        ["--ledger", &url, "--ledger-ca", "ca.pem", "--ledger-cert", "host.pem", "--ledger-key", "host.key"];
    let words = [&flags[..], &["--state", "none", "--sale", "ticket=100"]].concat();
    let mut host = Host::start(scene.path(), &words);
    booked(&host, "a");
    let good = scene.sign(&NAMES, NOW);
    scene.restart(&good, &["--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.2"]);
    booked(&host, "b");
    boxoffice(scene.path(), &[&["audit", "ticket"], &flags[..]].concat()).expect(0).saying(&["2 sold"]);

    // One that it does not know, from the next connection on; and it is put right without a restart.
    let known = scene.sign(&["a host"], NOW);
    for (number, refused) in
        [Authority::new("another CA").sign(&["a host"], NOW), scene.sign(&["a host"], (2001, 2002))]
            .iter()
            .enumerate()
    {
        refused.write(scene.path(), "host");
        for protocols in ["TLSv1.2", "TLSv1.3"] {
            scene.restart(&good, &["--tls-auth-clients", "yes", "--tls-protocols", protocols]);
            let said = "it does not accept the client certificate";
            told(&host, &[said, "the one of --ledger-cert must be valid now"]);
            both_fail(scene.path(), &flags, 1, &[said]);
        }
        known.write(scene.path(), "host");
        booked(&host, &format!("c-{number}"));
        ready(&host);
    }
    host.stop();
}

/// A CA is replaced as one should: both in the file, then Redis' certificate, then the old one goes.
#[test]
fn files_change_without_a_restart() {
    let _turn = turn::shared();
    let mut scene = Encrypted::start(&[]);
    let url = scene.url();
    let flags = ["--ledger", &url, "--ledger-ca", "trusted.pem", "--state", "none", "--sale", "ticket=100"];
    let trusted = scene.path().join("trusted.pem");
    std::fs::write(&trusted, scene.authority.pem()).unwrap();
    let mut host = Host::start(scene.path(), &flags);
    booked(&host, "a");
    let new = Authority::new("a new CA");
    std::fs::write(&trusted, scene.authority.pem() + &new.pem()).unwrap();
    host.process.signal(libc::SIGHUP);
    eventually("the log says that it is good", PATIENCE, || {
        host.process.said().contains("the TLS files are read again for the next connection").then_some(())
    });
    scene.restart(&new.sign(&NAMES, NOW), &[]);
    booked(&host, "b");
    std::fs::write(&trusted, new.pem()).unwrap();
    scene.redis.restart();
    booked(&host, "c");
    // Each loop: one that is not back yet would meet the wrong file.
    ready(&host);

    // In the wrong order: told by the log at once, by readyz once the connection is lost, and over once the file is right.
    std::fs::write(&trusted, "nothing").unwrap();
    host.process.signal(libc::SIGHUP);
    eventually("the log says that it is not", PATIENCE, || {
        host.process
            .said()
            .contains("the TLS files cannot be used, so that the next connection to Redis will fail")
            .then_some(())
    });
    booked(&host, "d");
    scene.redis.restart();
    told(&host, &["--ledger-ca trusted.pem: has no certificate in PEM form"]);
    std::fs::write(&trusted, new.pem()).unwrap();
    booked(&host, "e");
    ready(&host);
    host.stop();
}

#[test]
fn files_that_are_of_no_use_are_named_at_the_start() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("a CA");
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let identity = authority.sign(&["a host"], NOW);
    identity.write(folder.path(), "host");
    authority.sign(&["a host"], NOW).write(folder.path(), "other");
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    // Nobody listens there: it is said before anybody is dialled.
    let url = format!("rediss://127.0.0.1:{}/0", free_port());
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--ledger-ca", "no.pem"], &["--ledger-ca no.pem: cannot be read: No such file"]),
        (&["--ledger-ca", "empty.pem"], &["--ledger-ca empty.pem: has no certificate in PEM form"]),
        (&["--ledger-ca", "."], &["--ledger-ca .: is no file"]),
        (&["--ledger-cert", "no.pem", "--ledger-key", "host.key"], &["--ledger-cert no.pem: cannot be read"]),
        (
            &["--ledger-cert", "host.pem", "--ledger-key", "ca.pem"],
            &["--ledger-key ca.pem: has no private key"],
        ),
        (
            &["--ledger-cert", "host.pem", "--ledger-key", "other.key"],
            &["--ledger-key other.key: is not the key of the certificate in host.pem (--ledger-cert)"],
        ),
        (&["--ledger-cert", "host.pem"], &["--ledger-key is missing"]),
    ];
    for (files, said) in cases {
        let ca: &[&str] = if files[0] == "--ledger-ca" { &[] } else { &["--ledger-ca", "ca.pem"] };
        both_fail(folder.path(), &[&["--ledger", &url], ca, files].concat(), 2, said);
    }
    for ledger in ["redis://127.0.0.1/0", "redis+unix:///run/redis.sock", "sqlite:boxoffice.db"] {
        let said = ["--ledger-ca is for Redis over TLS, rediss://"];
        both_fail(folder.path(), &["--ledger", ledger, "--ledger-ca", "ca.pem"], 2, &said);
    }
}

/// Without a file, those that the machine trusts; the variables are those of OpenSSL.
#[test]
fn without_a_file_the_machine_says_whom_to_trust() {
    let _turn = turn::shared();
    let scene = Encrypted::start(&[]);
    let list = |trusted: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_boxoffice"));
        command.args(["sale", "list", "--ledger", &scene.url()]).env_remove("SSL_CERT_DIR");
        command.env("SSL_CERT_FILE", trusted).current_dir(scene.path());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ended { status: output.status, said }
    };
    list(&scene.path().join("ca.pem")).expect(0);
    let other = scene.path().join("other.pem");
    std::fs::write(&other, Authority::new("another CA").pem()).unwrap();
    list(&other).expect(1).saying(&[
        "signed by no CA that is trusted here",
        "name the file with its certificate by --ledger-ca",
    ]);
    list(&PathBuf::from("/nowhere.pem"))
        .expect(2)
        .saying(&["this machine has no certificates of CAs", "--ledger-ca"]);
}

/// A network that brings a few bytes at once, and counts them.
struct Crumbs {
    address: SocketAddr,
    to_redis: Arc<AtomicU64>,
    to_hosts: Arc<AtomicU64>,
}

impl Crumbs {
    fn start(redis: SocketAddr) -> Crumbs {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let crumbs = Crumbs {
            address: listener.local_addr().unwrap(),
            to_redis: Arc::default(),
            to_hosts: Arc::default(),
        };
        let (to_redis, to_hosts) = (Arc::clone(&crumbs.to_redis), Arc::clone(&crumbs.to_hosts));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for host in listener.incoming().flatten() {
                let redis = TcpStream::connect(redis).unwrap();
                let ways = [(&host, &redis, &to_redis), (&redis, &host, &to_hosts)];
                for (from, to, count) in ways {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let count = Arc::clone(count);
                    std::thread::spawn(move || carry(from, to, &count));
                }
            }
        });
        crumbs
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    to.set_nodelay(true).unwrap();
    let (mut buffer, mut sizes) = ([0; 16 * 1024], [1, 2, 1, 7, 3, 40, 5, 1, 300].into_iter().cycle());
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut rest = &buffer[..bytes];
        while !rest.is_empty() {
            let size = sizes.next().expect("it has no end").min(rest.len());
            if to.write_all(&rest[..size]).is_err() {
                return;
            }
            rest = &rest[size..];
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_hundred_kilobytes_each_way_arrive_in_crumbs() {
    const CLIENTS: usize = 600;
    let _turn = turn::alone();
    let scene = Encrypted::start(&[]);
    let crumbs = Crumbs::start(scene.address());
    let url = format!("rediss://{}/0", crumbs.address);
    let core = one_core();
    let sales = ["a", "b", "c", "d"];
    let mut words = vec!["--ledger", &url, "--ledger-ca", "ca.pem", "--state", "none", "--cores", &core];
    let openings = sales.map(|sale| format!("{sale}=1000"));
    openings.iter().for_each(|opening| words.extend(["--sale", opening]));
    let mut host = Host::start(scene.path(), &words);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| host.client()).collect();
    let long = |kind: &str, number: usize| format!("{kind}{number:0>63}");
    let target = |number: usize| format!("/v1/sales/{}/bookings/{}", sales[number % 4], long("b", number));
    for round in 0..4 {
        for (number, client) in clients.iter_mut().enumerate() {
            let request = match round {
                0 => {
                    let body = format!("{{\"buyer\":\"{}\"}}", long("u", number));
                    let length = body.len();
                    format!(
                        "PUT {} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}",
                        target(number)
                    )
                }
                _ => format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target(number)),
            };
            client.send(request).unwrap();
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.receive().unwrap().expect(if round == 0 { 201 } else { 200 });
            assert_eq!(answer.json()["booking"], long("b", number));
            assert_eq!(answer.json()["buyer"], long("u", number));
        }
    }
    let (to_redis, to_hosts) =
        (crumbs.to_redis.load(Ordering::Relaxed), crumbs.to_hosts.load(Ordering::Relaxed));
    assert!(to_redis > 100_000 && to_hosts > 100_000, "{to_redis} bytes to Redis and {to_hosts} back");
    for sale in sales {
        boxoffice(scene.path(), &["audit", sale, "--ledger", &url, "--ledger-ca", "ca.pem"])
            .expect(0)
            .saying(&["150 sold"]);
    }
    host.stop();
}
