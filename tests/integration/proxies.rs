//! Clients behind proxies: what a host believes of whom, with the real nginx in front and by raw bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::Value;

use crate::support::client::Client;
use crate::support::host::{Host, boxoffice};
use crate::support::nginx::Nginx;
use crate::support::{PATIENCE, eventually, free_port, turn};

/// An address of this machine.
const fn at(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// From where the proxies of these tests reach hosts.
const HTTP_PROXY: IpAddr = at(8);
const STREAM_PROXY: IpAddr = at(9);

/// Where nginx keeps its modules; one that is built with all of them has none.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn host(folder: &Path, words: &[&str]) -> Host {
    let words = [&["--sale", "ticket=100", "--access-log", "access.log"], words].concat();
    Host::start(folder, &words)
}

/// Ends the host; gives outcome, client and proxy of each line of its access log.
fn logged(folder: &Path, mut host: Host) -> Vec<(String, String, Option<String>)> {
    host.stop();
    let log = std::fs::read_to_string(folder.join("access.log")).unwrap();
    let line = |line: &str| -> (String, String, Option<String>) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        (text("outcome").unwrap(), text("client").unwrap(), text("proxy"))
    };
    log.lines().map(line).collect()
}

/// Its line of the access log.
fn line(outcome: &str, client: &str, proxy: Option<IpAddr>) -> (String, String, Option<String>) {
    (outcome.to_owned(), client.to_owned(), proxy.map(|proxy| proxy.to_string()))
}

/// Books one ticket, with these field lines.
#[track_caller]
fn book(client: &mut Client, id: &str, fields: &str) {
    let head = format!("PUT /v1/sales/ticket/bookings/{id} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n");
    client.send(format!("{head}{fields}\r\n{{}}")).unwrap();
    client.receive().unwrap().expect(201);
}

/// nginx as it is in `nginx/`: it appends the address of its client to what that one has written.
#[test]
fn the_client_behind_nginx_is_the_one_that_nginx_saw() {
    let _turn = turn::shared();
    let (folder, nginx_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = host(folder.path(), &["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "10.0.0.0/8"]);
    let nginx = Nginx::start(nginx_folder.path(), &[host.address; 4]);
    let mut client = Client::connect_from(at(5), nginx.address);
    book(&mut client, "a", "");
    book(&mut client, "b", "X-Forwarded-For: 203.0.113.66\r\n");
    book(&mut client, "c", "X-Forwarded-For: 203.0.113.66, 10.0.0.1\r\nX-Forwarded-For: 127.0.0.1\r\n");
    book(
        &mut client,
        "d",
        "X-Forwarded-For: unknown\r\nX-Real-IP: 203.0.113.66\r\nForwarded: for=203.0.113.66\r\n",
    );
    // Past nginx, from an address that is not trusted.
    let mut client = Client::connect_from(at(6), host.address);
    book(&mut client, "e", "X-Forwarded-For: 203.0.113.66\r\n");
    book(&mut client, "f", "");
    // From nginx' own address, without its word.
    let mut client = host.client();
    book(&mut client, "g", "");
    book(&mut client, "h", "X-Forwarded-For: 2001:db8::7\r\n");
    drop(nginx);
    let by_nginx = line("granted", "127.0.0.5", Some(at(1)));
    let past_nginx = line("granted", "127.0.0.6", None);
    assert_eq!(
        logged(folder.path(), host),
        [
            by_nginx.clone(),
            by_nginx.clone(),
            by_nginx.clone(),
            by_nginx,
            past_nginx.clone(),
            past_nginx,
            line("granted", "127.0.0.1", None),
            line("granted", "2001:db8::7", Some(at(1))),
        ]
    );
    // An audit reads it.
    let words = ["audit", "ticket", "--access-log", "access.log"];
    boxoffice(folder.path(), &words).expect(0).saying(&["8 granted (8 tickets)"]);
}

#[test]
fn by_default_nobody_is_believed() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), &[]);
    book(&mut host.client(), "a", "X-Forwarded-For: 203.0.113.66\r\n");
    let mut client = host.client();
    client.send("PROXY TCP4 203.0.113.66 127.0.0.1 4711 80\r\n\r\n").unwrap();
    let refused = client.receive().unwrap().expect_problem(400, "http");
    assert!(refused["detail"].as_str().unwrap().contains("see --proxy-protocol"), "{refused}");
    assert_eq!(logged(folder.path(), host), [line("granted", "127.0.0.1", None)]);
}

/// nginx in front of hosts, as two proxies: `http`, which goes on by TCP through `stream`, which sends PROXY headers.
fn two_proxies(folder: &Path, http: SocketAddr, stream: SocketAddr, host: SocketAddr) -> Nginx {
    let load = match Path::new(STREAM_MODULE).exists() {
        true => format!("load_module {STREAM_MODULE};"),
        false => String::new(),
    };
    let configuration = format!(
        "{load}
        worker_processes 1;
        pid nginx.pid;
        events {{ worker_connections 256; }}
        stream {{
            server {{
                listen {stream};
                proxy_protocol on;
                proxy_bind {STREAM_PROXY};
                proxy_pass {host};
            }}
        }}
        http {{
            access_log off;
            client_body_temp_path bodies;
            proxy_temp_path answers;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            server {{
                listen {http};
                location / {{
                    proxy_bind {HTTP_PROXY};
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                    proxy_pass http://{stream};
                }}
            }}
        }}
        "
    );
    Nginx::of(folder, http, &configuration)
}

#[test]
fn a_proxy_header_of_nginx_names_the_client() {
    let _turn = turn::shared();
    let (folder, nginx_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let words = ["--trusted-proxy", "127.0.0.8/31", "--proxy-protocol"];
    let host = host(folder.path(), &words);
    let [http, stream] = [(); 2].map(|()| SocketAddr::new(at(1), free_port()));
    let nginx = two_proxies(nginx_folder.path(), http, stream, host.address);
    // By one proxy: whatever the client writes is its own word.
    let mut client = Client::connect_from(at(5), stream);
    book(&mut client, "a", "");
    book(&mut client, "b", "X-Forwarded-For: 203.0.113.66\r\n");
    // By two of them: the header names the first proxy, and that one names the client.
    let mut client = Client::connect_from(at(6), http);
    book(&mut client, "c", "");
    book(&mut client, "d", "X-Forwarded-For: 203.0.113.66\r\n");
    drop(nginx);
    let of = |client: &str| line("granted", client, Some(STREAM_PROXY));
    let expected = [of("127.0.0.5"), of("127.0.0.5"), of("127.0.0.6"), of("127.0.0.6")];
    assert_eq!(logged(folder.path(), host), expected);
}

const TEXT: &[u8] = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x12\x67\0\x50";

#[test]
fn a_proxy_header_counts_from_trusted_peers_alone() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let words = ["--trusted-proxy", "127.0.0.9", "--proxy-protocol", "--limit", "address-connections=2"];
    let host = host(folder.path(), &words);
    let by_proxy = |header: &[u8]| {
        let mut client = Client::connect_from(STREAM_PROXY, host.address);
        client.send(header).unwrap();
        client
    };
    // Whoever is not trusted is closed unanswered, with a header or without.
    for bytes in [TEXT, BINARY, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut client = host.client();
        let _ = client.send(bytes);
        assert!(client.at_end());
    }
    let untrusted = || -> f64 {
        let metrics = host.metrics();
        let of_cores =
            metrics.iter().filter(|(name, _)| name.starts_with("boxoffice_connections_untrusted_total"));
        of_cores.map(|(_, count)| count).sum()
    };
    assert_eq!(untrusted(), 3.0);
    eventually("the log tells of it", PATIENCE, || {
        let lines = host.process.lines_with(&["--trusted-proxy does not name", "peer=127.0.0.1"]);
        (1..=host.loops()).contains(&lines).then_some(())
    });
    // A client has its own two connections, and another one its own.
    let mut first = by_proxy(TEXT);
    book(&mut first, "a", "");
    let mut second = by_proxy(BINARY);
    book(&mut second, "b", "X-Forwarded-For: 203.0.113.66\r\n");
    by_proxy(TEXT).receive().unwrap().expect_problem(503, "overloaded");
    let mut other = by_proxy(b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n");
    book(&mut other, "c", "");
    // What names nobody is the proxy's own, and is counted for no address.
    let mut probes: Vec<_> = (0..3).map(|_| by_proxy(b"PROXY UNKNOWN\r\n")).collect();
    for (probe, id) in probes.iter_mut().zip(["d", "e", "f"]) {
        book(probe, id, "X-Forwarded-For: 203.0.113.66\r\n");
    }
    // A trusted proxy that begins otherwise is told what is wrong.
    let told = by_proxy(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").receive().unwrap().expect_problem(400, "http");
    assert!(told["detail"].as_str().unwrap().contains("with a PROXY header"), "{told}");
    by_proxy(b"PROXY TCP4 nobody\r\n").receive().unwrap().expect_problem(400, "http");
    let metrics = host.metrics();
    for reason in ["proxy-header-missing", "proxy-header", "address-connections"] {
        let name = format!("boxoffice_malformed_requests_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics[&name], 1.0, "{reason}");
    }
    assert_eq!(metrics["boxoffice_limits_met_total{limit=\"address-connections\"}"], 1.0);
    drop((first, second, other, probes));
    let of = |client: &str| line("granted", client, Some(STREAM_PROXY));
    let own = line("granted", "127.0.0.9", None);
    let expected = [of("203.0.113.9"), of("203.0.113.9"), of("2001:db8::7"), own.clone(), own.clone(), own];
    assert_eq!(logged(folder.path(), host), expected);
}

/// A dual-stack listener sees peers of IPv4 as `::ffff:127.0.0.9`.
#[test]
fn a_proxy_of_ipv4_is_known_on_a_listener_of_ipv6() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let words = ["--listen", "[::]:0", "--trusted-proxy", "127.0.0.9"];
    let host = host(folder.path(), &words);
    let address = SocketAddr::new(at(1), host.address.port());
    let forwarded = "X-Forwarded-For: ::ffff:203.0.113.9\r\n";
    book(&mut Client::connect_from(STREAM_PROXY, address), "a", forwarded);
    book(&mut Client::connect_from(at(5), address), "b", forwarded);
    let expected = [line("granted", "203.0.113.9", Some(STREAM_PROXY)), line("granted", "127.0.0.5", None)];
    assert_eq!(logged(folder.path(), host), expected);
}

/// Whose change it was is told in the log. No operator's connection begins with a PROXY header.
#[test]
fn the_log_of_changes_names_the_operator_behind_a_proxy() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path(), &["--trusted-proxy", "127.0.0.9", "--proxy-protocol"]);
    for (peer, sale) in [(STREAM_PROXY, "by-proxy"), (at(5), "directly")] {
        let mut operator = Client::connect_from(peer, host.admin);
        let body = "{\"total\":1}";
        let head = format!(
            "PUT /v1/sales/{sale} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n",
            host.admin,
            body.len()
        );
        operator.send(format!("{head}X-Forwarded-For: 203.0.113.9\r\n\r\n{body}")).unwrap();
        operator.receive().unwrap().expect(201);
    }
    host.process.expect_lines_with(&["peer=203.0.113.9 by 127.0.0.9:", "sale=by-proxy"], 1);
    host.process.expect_lines_with(&["peer=127.0.0.5:", "sale=directly"], 1);
    assert_eq!(host.process.lines_with(&["203.0.113.9", "sale=directly"]), 0);
}

#[test]
fn a_host_without_proxies_to_believe_takes_no_headers() {
    let folder = tempfile::tempdir().unwrap();
    boxoffice(folder.path(), &["serve", "--proxy-protocol"]).expect(2).saying(&[
        "--proxy-protocol: \"true\" takes PROXY headers of trusted proxies alone; name them beside it: --trusted-proxy 10.0.0.0/8",
    ]);
    boxoffice(folder.path(), &["serve", "--trusted-proxy", "10.0.0.1/8"])
        .expect(2)
        .saying(&["has bits behind its prefix; the network of that length is 10.0.0.0/8"]);
}
