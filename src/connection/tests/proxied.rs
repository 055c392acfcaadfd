//! Behind proxies: the PROXY header in every fragmentation, and whose request is whose.

use super::table::{cases, expected, outcome};
use super::*;
use crate::proxies::{Client, TrustedProxies};

/// A connection of 10.0.0.1, which is trusted.
fn bench(expects_header: bool) -> Bench {
    let networks = ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().unwrap());
    let trusted = Arc::new(TrustedProxies::new(networks.to_vec(), expects_header));
    Bench::with_origin(&ClientLimits::default(), Origin::new(PEER, &trusted))
}

fn client(address: &str, proxy: Option<IpAddr>) -> Client {
    Client { address: address.parse().unwrap(), proxy }
}

#[test]
fn every_proxied_case_in_every_fragmentation() {
    let cases = cases::proxied();
    assert!(cases.len() >= 20, "{}", cases.len());
    for case in &cases {
        let check = |way: &str, pieces: &[&[u8]]| {
            let mut bench = bench(true);
            pieces.iter().for_each(|piece| bench.send(piece));
            assert_eq!(outcome(&bench), expected(case), "{} ({}), {way}", case.name, case.section);
        };
        let bytes = &case.bytes[..];
        check("whole", &[bytes]);
        check("byte by byte", &bytes.chunks(1).collect::<Vec<_>>());
        for at in 0..bytes.len() {
            check(&format!("split at {at}"), &[&bytes[..at], &bytes[at..]]);
        }
    }
}

/// The client of a request with these `X-Forwarded-For` lines on a connection that begins so.
fn client_of(mut bench: Bench, begins: &[u8], lines: &[&str]) -> Client {
    let fields: String = lines.iter().map(|line| format!("x-forwarded-FOR: {line}\r\n")).collect();
    let head = format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    bench.send(&[begins, head.as_bytes()].concat());
    assert_eq!(bench.mirror.seen, ["GET /a "]);
    bench.mirror.clients[0]
}

#[test]
fn who_is_not_trusted_is_the_client_whatever_it_says() {
    let named = ["10.0.0.2", "1.2.3.4"];
    assert_eq!(client_of(Bench::new(), b"", &named), client("10.0.0.1", None));
    let trusted = Arc::new(TrustedProxies::new(vec!["10.0.0.2".parse().unwrap()], false));
    let untrusted = || Bench::with_origin(&ClientLimits::default(), Origin::new(PEER, &trusted));
    assert_eq!(client_of(untrusted(), b"", &named), client("10.0.0.1", None));
    // It is shown as IPv4 also on a socket of IPv6.
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    let mapped = Bench::with_origin(&ClientLimits::default(), Origin::new(mapped, &trusted));
    assert_eq!(client_of(mapped, b"", &named), client("10.0.0.1", None));
}

#[test]
fn a_trusted_proxy_says_whose_request_it_is() {
    let by_proxy = |address: &str| client(address, Some(PEER));
    assert_eq!(client_of(bench(false), b"", &["1.2.3.4, 203.0.113.9"]), by_proxy("203.0.113.9"));
    assert_eq!(client_of(bench(false), b"", &["203.0.113.9", "10.0.0.7"]), by_proxy("203.0.113.9"));
    assert_eq!(client_of(bench(false), b"", &[]), client("10.0.0.1", None));
    assert_eq!(client_of(bench(false), b"", &["unknown"]), client("10.0.0.1", None));
    // Each request of a connection is somebody's own.
    let mut bench = bench(false);
    for address in ["203.0.113.1", "203.0.113.2"] {
        bench.send(format!("GET /a HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address}\r\n\r\n").as_bytes());
    }
    assert_eq!(bench.mirror.clients, [by_proxy("203.0.113.1"), by_proxy("203.0.113.2")]);
}

#[test]
fn a_proxy_header_names_the_client_of_all_requests() {
    let by_proxy = |address: &str| client(address, Some(PEER));
    let header = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n";
    assert_eq!(client_of(bench(true), header, &[]), by_proxy("203.0.113.9"));
    // What that client writes into its requests is its own word.
    assert_eq!(client_of(bench(true), header, &["1.2.3.4"]), by_proxy("203.0.113.9"));
    // If it is a trusted proxy itself, it is believed in turn.
    let chain = b"PROXY TCP6 2001:db8:1::9 2001:db8:1::1 4711 80\r\n";
    assert_eq!(client_of(bench(true), chain, &["1.2.3.4, 203.0.113.9"]), by_proxy("203.0.113.9"));
    // Of a client that the proxy cannot name nothing is known, and so nothing of what it sends is believed.
    for unnamed in
        [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"]
    {
        assert_eq!(client_of(bench(true), unnamed, &["1.2.3.4"]), client("10.0.0.1", None));
    }
}

/// The header and the first head have the time of one head together.
#[test]
fn time_runs_from_the_beginning_of_the_connection() {
    let limits = ClientLimits::default();
    let header = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n";
    // Nothing came: closed without a word.
    assert_eq!(bench(true).expire(), Some(CutReason::Unasked));
    for bytes in [&header[..7], &b"\r\n\r\n\0\r\nQU"[..], &[&header[..], b"GET"].concat()] {
        let mut bench = bench(true);
        for piece in bytes.chunks(3) {
            bench.now = bench.now.plus_ms(1_000);
            bench.send(piece);
        }
        assert_eq!(bench.connection.deadline(), Some(Monotonic(0).plus_ms(limits.head_time_ms)));
        if bytes.len() <= limits.head_time_ms as usize / 1_000 * 3 {
            assert_eq!(bench.expire(), None);
            assert_eq!(bench.mirror.seen, ["?head-timeout"]);
        }
    }
    let mut bench = bench(true);
    bench.send(header);
    assert_eq!(bench.expire(), Some(CutReason::Unasked), "it has asked nothing");
}

#[test]
fn a_client_that_is_turned_away_is_not_read_on() {
    let mut bench = bench(true);
    bench.with(|connection, turn, mirror| {
        let bytes = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n";
        connection.handle_bytes(bytes, turn, mirror);
        assert_eq!(connection.named_client(), Some(IpAddr::from([203, 0, 113, 9])));
        assert!(!connection.wants_read() && connection.wants_resume());
        connection.turn_away(turn, mirror);
    });
    bench.flush();
    assert_eq!(bench.mirror.seen, ["?address-connections"]);
    assert_eq!(outcome(&bench), "503 address-connections | closed");
}

#[test]
fn who_ends_within_its_header_is_closed_and_owed_nothing() {
    let header = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n";
    for at in 0..=header.len() {
        let mut bench = bench(true);
        bench.send(&header[..at]);
        bench.end();
        assert_eq!(bench.connection.close_state(), CloseState::Closed, "at {at}");
        assert_eq!((bench.pool.lent_bytes(), bench.mirror.seen.len(), bench.written.len()), (0, 0, 0));
    }
}
