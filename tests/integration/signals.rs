//! Every signal that a host can be sent, as the table of docs/operating.md has it.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use crate::support::host::Host;
use crate::support::turn;
use crate::support::{PATIENCE, eventually};

/// What the table says that each signal from 1 to 31 does.
fn table() -> Vec<(i32, String)> {
    let page = include_str!("../../docs/operating.md");
    let rows = page.split("| signal | what it does |").nth(1).expect("the table of signals");
    let mut table = Vec::new();
    for row in rows.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let mut cells = row.split('|').map(str::trim);
        let (signals, what) = (cells.nth(1).unwrap(), cells.next().unwrap());
        for signal in signals.split(", ") {
            let (name, number) = signal.split_once(' ').unwrap_or_else(|| panic!("{signal}"));
            assert!(
                name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit()),
                "{name}"
            );
            table.push((number.parse().unwrap(), what.to_owned()));
        }
    }
    table.sort();
    table
}

fn host(folder: &Path) -> Host {
    Host::start(folder, &["--sale", "ticket=100", "--access-log", "access.log"])
}

#[track_caller]
fn assert_serves(host: &Host, signal: i32) {
    let answer = host.client().get("/buy/ticket");
    assert_eq!(answer.status, 200, "after signal {signal}: {answer:?}");
    host.operator().get("/readyz").expect(200);
}

#[test]
fn each_does_what_the_table_says() {
    let _turn = turn::shared();
    let table = table();
    let numbers: Vec<i32> = table.iter().map(|(signal, _)| *signal).collect();
    assert_eq!(numbers, (1..=31).collect::<Vec<_>>(), "each once");
    let folder = tempfile::tempdir().unwrap();
    let mut living = host(folder.path());
    for (signal, what) in &table {
        let signal = *signal;
        match what.split([':', ';', ',']).next().unwrap() {
            "drains" => {
                let folder = tempfile::tempdir().unwrap();
                let mut host = host(folder.path());
                // What is asked is answered: the body comes once the drain has begun.
                let mut asking = host.client();
                asking
                    .send("PUT /v1/sales/ticket/bookings/a HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n")
                    .unwrap();
                host.client().get("/v1/sales/ticket").expect(200);
                host.process.signal(signal);
                eventually("it drains", PATIENCE, || host.process.said().contains("draining").then_some(()));
                asking.send("{}").unwrap();
                assert_eq!(asking.receive().unwrap().status, 201, "signal {signal}");
                let status = host.process.wait(PATIENCE);
                assert_eq!(status.code(), Some(0), "signal {signal}: {}", host.process.said());
            }
            "reopens" => {
                let log = folder.path().join("access.log");
                std::fs::rename(&log, folder.path().join(format!("access.log.{signal}"))).unwrap();
                living.process.signal(signal);
                eventually("the log is opened anew", PATIENCE, || log.exists().then_some(()));
                assert_serves(&living, signal);
            }
            "does nothing" => {
                living.process.signal(signal);
                assert_serves(&living, signal);
            }
            "stops the process until CONT" => {
                // A process whose parent no shell is the kernel does not stop by those of a terminal.
                let pid = i32::try_from(living.process.id()).unwrap();
                // SAFETY: kill takes two integers and touches no memory of ours; the child is not waited for yet.
                assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
                living.process.signal(libc::SIGCONT);
                assert_serves(&living, signal);
            }
            "ends it at once" => {
                let folder = tempfile::tempdir().unwrap();
                let mut host = host(folder.path());
                host.process.signal(signal);
                // What guards the stack takes the first SEGV or BUS that is sent by hand for its own.
                if matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
                    eventually("it ends", PATIENCE, || {
                        host.process.signal(signal);
                        host.process.status().map(drop)
                    });
                }
                let status = host.process.wait(PATIENCE);
                assert_eq!(status.signal(), Some(signal), "{status}");
            }
            other => panic!("{signal}: {other}"),
        }
        assert_eq!(living.process.status(), None, "after signal {signal}");
    }
    // All of them did no harm to what the host keeps.
    living.stop();
}

/// What a profile leaves behind must not end the host at the next one.
#[test]
fn a_profile_leaves_its_signal_harmless() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "s3cret").unwrap();
    let mut host = Host::start(folder.path(), &["--sale", "ticket=100", "--admin-token-file", "token"]);
    let mut operator = host.operator();
    let request =
        "POST /debug/profile?seconds=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n\r\n";
    operator.send(request).unwrap();
    operator.receive().unwrap().expect(200);
    host.process.signal(libc::SIGPROF);
    assert_serves(&host, libc::SIGPROF);
    host.stop();
}

/// The second one of a hand ends it; the system's own, which it repeats, do not.
#[test]
fn a_second_signal_ends_it_at_once() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(folder.path(), &["--sale", "ticket=5", "--drain-delay", "10m"]);
    host.process.signal(libc::SIGXCPU);
    eventually("it drains", PATIENCE, || (host.operator().get("/readyz").status == 503).then_some(()));
    host.process.signal(libc::SIGXCPU);
    host.process.signal(libc::SIGTERM);
    // A signal is acted on after the one before it.
    host.process.signal(libc::SIGUSR2);
    eventually("all of them were seen", PATIENCE, || host.process.said().contains("SIGUSR2").then_some(()));
    host.client().get("/buy/ticket").expect(200);
    host.process.signal(libc::SIGQUIT);
    assert_eq!(host.process.wait(PATIENCE).code(), Some(1), "{}", host.process.said());
    assert!(host.process.said().contains("a second signal"));
}

/// Who asks is sent elsewhere first, and only then is nobody let in.
#[test]
fn a_drain_delay_lets_a_load_balancer_notice() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(folder.path(), &["--sale", "ticket=50", "--drain-delay", "1s"]);
    let mut kept = host.client();
    kept.get("/buy/ticket").expect(200);
    host.process.signal(libc::SIGTERM);
    eventually("it is not ready", PATIENCE, || {
        let answer = host.operator().get("/readyz");
        (answer.status == 503 && answer.text().contains("draining")).then_some(())
    });
    // The listener is open until a second after that, on a machine that goes on; where this one stood still, it is told so.
    let told = std::time::Instant::now();
    match crate::support::client::Client::try_connect(host.address) {
        Ok(mut fresh) => drop(fresh.get("/buy/ticket").expect(200)),
        Err(error) => assert!(told.elapsed().as_millis() > 500, "{error}"),
    }
    assert_eq!(host.process.wait(PATIENCE).code(), Some(0), "{}", host.process.said());
    assert!(kept.at_end());
}

/// The token is read again, and one that cannot be read leaves the former one in force.
#[test]
fn sighup_reads_the_token_again() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let mut host = Host::start(folder.path(), &["--sale", "ticket=5", "--admin-token-file", "token"]);
    let status = |host: &Host, token: &str| {
        let mut operator = host.operator();
        let request = format!(
            "POST /v1/sales/ticket/resume HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        operator.send(request).unwrap();
        operator.receive().unwrap().status
    };
    assert_eq!((status(&host, "first"), status(&host, "second")), (200, 401));
    std::fs::write(&token, "second\n").unwrap();
    assert_eq!(status(&host, "first"), 200, "not before it is told to");
    host.process.signal(libc::SIGHUP);
    eventually("the second one is in force", PATIENCE, || (status(&host, "second") == 200).then_some(()));
    assert_eq!(status(&host, "first"), 401);
    for broken in ["", "two words\n"] {
        let before = host
            .process
            .said()
            .matches("the admin token could not be reloaded; the old one stays in force")
            .count();
        std::fs::write(&token, broken).unwrap();
        host.process.signal(libc::SIGHUP);
        eventually("it says so", PATIENCE, || {
            (host
                .process
                .said()
                .matches("the admin token could not be reloaded; the old one stays in force")
                .count()
                > before)
                .then_some(())
        });
        assert_eq!(status(&host, "second"), 200, "{broken:?}");
    }
    host.stop();
}
