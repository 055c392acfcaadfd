//! The nginx configuration of `nginx/`, run by a real nginx over four real hosts on one Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::support::client::Client;
use crate::support::crowd::rush;
use crate::support::host::{Host, assert_audit_agrees};
use crate::support::nginx::Nginx;
use crate::support::redis_server::RedisServer;
use crate::support::tools::curl;
use crate::support::{PATIENCE, eventually, turn};

struct Site {
    folder: tempfile::TempDir,
    redis: RedisServer,
    hosts: [Host; 4],
    nginx: Nginx,
}

fn subfolder(folder: &Path, name: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::create_dir(&path).unwrap();
    path
}

impl Site {
    fn start(sale: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(&subfolder(folder.path(), "redis"));
        let ledger = redis.url();
        let hosts = [1, 2, 3, 4].map(|weight: u32| {
            let home = subfolder(folder.path(), &format!("host-{weight}"));
            let words = [
                "--ledger",
                &ledger,
                "--sale",
                sale,
                "--weight",
                &weight.to_string(),
                "--access-log",
                "access.log",
            ];
            Host::start(&home, &words)
        });
        let addresses = [0, 1, 2, 3].map(|host: usize| hosts[host].address);
        let nginx = Nginx::start(&subfolder(folder.path(), "nginx"), &addresses);
        Site { folder, redis, hosts, nginx }
    }

    fn client(&self) -> Client {
        Client::connect(self.nginx.address)
    }
}

/// A request for each line of a host's own access log.
fn booking_requests(site: &Path, weight: usize) -> usize {
    let log = std::fs::read_to_string(site.join(format!("host-{weight}/access.log"))).unwrap();
    log.lines().count()
}

#[test]
fn a_thousand_requests_by_weight() {
    let _turn = turn::alone();
    let Site { folder, redis, mut hosts, nginx } = Site::start("ticket=700");
    let told = rush(&[nginx.address], "ticket", 10, 100, 1);
    assert_eq!(told.wrong, [""; 0]);
    assert_eq!(told.granted.len(), 700);
    assert_eq!(told.granted.iter().collect::<BTreeSet<_>>().len(), 700, "a ticket was sold twice");
    assert_eq!(told.sold_out, 300);

    let mut shares = BTreeMap::<String, i64>::new();
    for line in nginx.stop() {
        *shares.entry(line["host"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for (host, wanted) in hosts.iter_mut().zip([100, 200, 300, 400]) {
        let share = shares.remove(&host.address.to_string()).unwrap_or(0);
        assert!((share - wanted).abs() <= 1, "{share} requests, not {wanted}");
        host.stop();
    }
    assert!(shares.is_empty(), "{shares:?}");
    for (weight, wanted) in (1..).zip([100_usize, 200, 300, 400]) {
        let logged = booking_requests(folder.path(), weight);
        assert!(logged.abs_diff(wanted) <= 1, "host {weight} logged {logged} requests, not {wanted}");
    }
    assert_audit_agrees(folder.path(), "ticket", &redis.url());
}

#[test]
fn request_ids_and_server_names() {
    let _turn = turn::shared();
    let site = Site::start("ticket=5");
    let port = site.nginx.address.port();
    for name in ["load_balance.com", "www.load_balance.com"] {
        let resolve = format!("{name}:{port}:127.0.0.1");
        let url = format!("http://{name}:{port}/buy/ticket");
        let answer = curl(&["--include", "--resolve", &resolve, "--header", "X-Request-Id: my.own-1", &url]);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"code\":1"), "{answer}");
        assert!(answer.contains("\r\nX-Request-Id: my.own-1\r\n"), "{answer}");
    }
    let made = site.client().get("/buy/ticket").expect(200);
    assert_eq!(made.field("x-request-id").map(str::len), Some(32), "{made:?}");
    let mut client = site.client();
    client.send("GET /buy/ticket HTTP/1.1\r\nHost: tickets\r\nX-Request-Id: \"><script>\r\n\r\n").unwrap();
    let replaced = client.receive().unwrap().expect(200);
    assert_eq!(replaced.field("x-request-id").map(str::len), Some(32), "{replaced:?}");
    // The API passes through as it is.
    let booking = site.client().put("/v1/sales/ticket/bookings/mine", "{}").expect(201);
    assert_eq!(booking.field("location"), Some("/v1/sales/ticket/bookings/mine"));
    site.client().get("/v1/sales/nothing").expect_problem(404, "no-such-sale");
}

/// Whatever a client sends, each line of the log is a line of JSON: who reads it is not to stop at what a stranger sent.
#[test]
fn no_request_breaks_the_log() {
    let _turn = turn::shared();
    let site = Site::start("ticket=5");
    let lines: [&[u8]; 8] = [
        b"GET /buy/ticket HTTP/1.1",
        b"GET /buy/\xff HTTP/1.1",
        b"GET /buy/\xc3\xa9\xc3 HTTP/1.1",
        b"GET /buy/ticket?\xed\xa0\x80 HTTP/1.1",
        b"GET /buy/\"\\x22\\ HTTP/1.1",
        b"G\xffT /buy/ticket HTTP/1.1",
        b"\x16\x03\x01\x02\xff",
        b"GET /buy/%ff HTTP/1.1",
    ];
    for line in lines {
        let mut client = site.client();
        client
            .send([line, b"\r\nHost: tickets\r\nUser-Agent: \xff\r\nConnection: close\r\n\r\n"].concat())
            .unwrap();
        let status = client.receive().unwrap().status;
        assert!(matches!(status, 200 | 400 | 404 | 503), "{}: {status}", line.escape_ascii());
    }
    // Each was logged, in UTF-8 and as JSON: `stop` reads them so. In any order: each of nginx's workers keeps lines back.
    let mut requests: Vec<String> =
        site.nginx.stop().iter().map(|line| line["request"].as_str().unwrap().to_owned()).collect();
    requests.sort();
    let other = "(bytes that are no text)";
    let text = ["GET /buy/\"\\x22\\ HTTP/1.1", "GET /buy/%ff HTTP/1.1", "GET /buy/ticket HTTP/1.1"];
    assert_eq!(requests, [[other; 5].as_slice(), &text].concat());
}

/// A host that is down costs no request: nothing was sent to it, so another one is asked, for /buy as well.
#[test]
fn a_dead_host_is_not_noticed() {
    let _turn = turn::alone();
    let mut site = Site::start("ticket=400");
    let before = rush(&[site.nginx.address], "ticket", 4, 25, 1);
    assert_eq!((before.wrong.len(), before.granted.len()), (0, 100));
    site.hosts[3].process.kill();
    // Connections that nginx keeps to the dead host are closed by now, or it finds out as it sends.
    std::thread::sleep(Duration::from_millis(50));
    let told = rush(&[site.nginx.address], "ticket", 4, 200, 1);
    assert_eq!(told.wrong, [""; 0]);
    assert_eq!((told.granted.len(), told.sold_out), (300, 500));
    site.hosts[0].expect_sold("ticket", 400);
    assert_audit_agrees(site.folder.path(), "ticket", &site.redis.url());
}

/// A host hangs with a booking in its hands. Another one is asked with the same id; when the first one wakes up, there
/// is still one booking. Without an id nobody else is asked.
#[test]
fn a_hanging_host_books_nothing_twice() {
    let _turn = turn::alone();
    let mut site = Site::start("ticket=100");
    for host in &mut site.hosts[1..] {
        host.process.signal(libc::SIGSTOP);
    }
    // Three of four hosts hang, 9 requests of 10 meet one. Each puts it out for a second; how many requests it takes until
    // one finds the host that works is a matter of time.
    let (mut asked, mut booked) = (0, 0);
    let put =
        |number| site.client().put(&format!("/v1/sales/ticket/bookings/id-{number}"), "{\"quantity\":2}");
    while asked < 3 || booked == 0 {
        assert!(asked < 10, "no request found the host that works");
        let answer = put(asked);
        match answer.status {
            200 | 201 => booked += 1,
            503 => drop(answer.expect_problem(503, "outcome-unknown")),
            _ => panic!("{answer:?} {}", answer.text()),
        }
        asked += 1;
    }
    for host in &mut site.hosts[1..] {
        host.process.signal(libc::SIGCONT);
    }
    for number in 0..asked {
        // The host that woke up may be at the first try this very moment.
        let target = format!("/v1/sales/ticket/bookings/id-{number}");
        let answer = site.client().insist("PUT", &target, Some("{\"quantity\":2}"));
        assert!(answer.is_booked(), "{answer:?} {}", answer.text());
    }
    site.hosts[0].expect_sold("ticket", 2 * asked);
    assert_audit_agrees(site.folder.path(), "ticket", &site.redis.url());
}

#[test]
fn no_host_at_all_is_a_problem_too() {
    let _turn = turn::shared();
    let mut site = Site::start("ticket=1");
    for host in &mut site.hosts {
        host.process.kill();
    }
    for (method, target) in
        [("GET", "/buy/ticket"), ("POST", "/buy/ticket"), ("PUT", "/v1/sales/ticket/bookings/a")]
    {
        let answer = site.client().ask(method, target, Some(""));
        answer.expect_problem(503, "outcome-unknown");
        assert_eq!(answer.field("retry-after"), Some("1"), "{method} {target}");
    }
}

/// Its script, run once: how it ended, and what it said.
fn follow(site: &Site, ledger: &str) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("nginx/follow-hosts.sh");
    let mut command = std::process::Command::new(script);
    command.arg(site.nginx.hosts_file()).args(site.nginx.words());
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    command
        .env("PATH", path)
        .env("BOXOFFICE", env!("CARGO_BIN_EXE_boxoffice"))
        .env("BOXOFFICE_LEDGER", ledger);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// nginx knows the hosts that live, without a word from anybody.
#[test]
fn the_upstream_follows_the_hosts_that_live() {
    let _turn = turn::alone();
    let mut site = Site::start("ticket=1000");
    let ledger = site.redis.url();
    let file = site.nginx.hosts_file();
    let named = |site: &Site| -> Vec<String> {
        let text = std::fs::read_to_string(site.nginx.hosts_file()).unwrap();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("server "));
        lines.filter_map(|line| line.split_once(" weight=")).map(|(address, _)| address.to_owned()).collect()
    };
    let all: BTreeSet<String> = site.hosts.iter().map(|host| host.address.to_string()).collect();
    // They are those that nginx was started with: in the order of their addresses and without the words beside them.
    eventually("the four are there", PATIENCE, || {
        assert_eq!(follow(&site, &ledger).0, Some(0));
        (named(&site).into_iter().collect::<BTreeSet<_>>() == all).then_some(())
    });
    let before = std::fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(follow(&site, &ledger), (Some(0), String::new()));
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), before, "there is nothing to do");
    site.hosts[3].process.kill();
    eventually("the fourth is taken out", PATIENCE, || {
        assert_eq!(follow(&site, &ledger).0, Some(0));
        (named(&site).len() == 3).then_some(())
    });
    for number in 0..50 {
        let target = format!("/v1/sales/ticket/bookings/id-{number}");
        // nginx closes connections of before the reload: a client then asks again by the same id.
        let answer =
            eventually("an answer", PATIENCE, || site.client().try_ask("PUT", &target, Some("{}")).ok());
        assert!(answer.is_booked(), "{answer:?} {}", answer.text());
    }
    // Without a ledger, and with a configuration that nginx does not take, all stays as it is.
    let text = std::fs::read_to_string(&file).unwrap();
    let (status, said) = follow(&site, "redis://127.0.0.1:1/0");
    assert!(status == Some(1) && said.contains("cannot reach Redis"), "{status:?} {said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let odd = text.replace("weight=1 ", "weight=9 ") + "nonsense;\n";
    std::fs::write(&file, &odd).unwrap();
    let (status, said) = follow(&site, &ledger);
    assert!(status == Some(1) && said.contains("is as it was"), "{status:?} {said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), odd);
    assert_audit_agrees(site.folder.path(), "ticket", &ledger);
}
