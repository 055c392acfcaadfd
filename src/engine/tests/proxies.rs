//! Hosts behind proxies: who may connect, and for whom a connection is counted.

use super::*;
use crate::connections::NotAdmitted;
use crate::proxies::TrustedProxies;

const PROXY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 9, 9, 9), 40_000));

/// A host that trusts 10.9.0.0/16, with two connections an address.
pub(super) fn behind(expects_header: bool) -> Loop {
    let limits = ClientLimits { address_connections: 2, ..ClientLimits::default() };
    let proxies = TrustedProxies::new(vec!["10.9.0.0/16".parse().unwrap()], expects_header);
    Loop::of(&limits, &Arc::new(Admission::new(&limits).behind(Arc::new(proxies))))
}

impl Loop {
    fn accept_proxy(&mut self) -> ConnectionKey {
        self.engine.handle_accepted(PROXY).unwrap()
    }

    /// A connection of a proxy on which that comes.
    pub(super) fn send_by_proxy(&mut self, bytes: &[u8]) -> ConnectionKey {
        let key = self.accept_proxy();
        self.send(key, bytes);
        key
    }
}

fn header(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.9.9.9 4711 80\r\n").into_bytes()
}

#[test]
fn a_stranger_is_closed_unanswered_where_proxies_alone_may_connect() {
    let mut host = behind(true);
    assert_eq!(host.engine.handle_accepted(PEER), Err(NotAdmitted::Stranger));
    assert_eq!(NotAdmitted::Stranger.answer(), b"");
    let counts = |host: &Loop| {
        let metrics = &host.metrics;
        [&metrics.connections_untrusted, &metrics.connections_refused, &metrics.connections_accepted]
            .map(|count| count.get())
    };
    assert_eq!((counts(&host), host.admission.open()), ([1, 0, 0], 0), "it takes no place");
    let key = host.send_by_proxy(&[&header("203.0.113.9")[..], GET].concat());
    assert_eq!((host.answers(key), counts(&host)), (1, [1, 0, 1]));
    // The same peer on a socket of IPv6.
    let mapped: SocketAddr = "[::ffff:10.9.9.9]:1".parse().unwrap();
    assert!(host.engine.handle_accepted(mapped).is_ok());
    // Nor is it told that there is no place.
    host.engine.drain();
    assert_eq!(host.engine.handle_accepted(PEER), Err(NotAdmitted::Stranger));
    assert_eq!(host.engine.handle_accepted(PROXY), Err(NotAdmitted::NoPlace));
    // Where no header is expected anybody may connect.
    assert!(behind(false).accept().is_some());
}

#[test]
fn a_connection_is_counted_for_the_client_that_its_header_names() {
    let mut host = behind(true);
    let first = host.send_by_proxy(&header("203.0.113.9"));
    let second = host.send_by_proxy(&[&header("203.0.113.9")[..], GET].concat());
    let other = host.send_by_proxy(&[&header("203.0.113.10")[..], GET].concat());
    host.send(first, GET);
    assert_eq!([first, second, other].map(|key| host.answers(key)), [1, 1, 1]);
    // A third one of the first client: refused before its request is read, or has come.
    for bytes in [&header("203.0.113.9")[..], &[&header("203.0.113.9")[..], BUY].concat()] {
        let key = host.send_by_proxy(bytes);
        assert_eq!(host.answers(key), 1);
        assert!(
            host.text(key).starts_with("HTTP/1.1 503 ") && host.text(key).contains("/problems/overloaded")
        );
        assert_eq!(host.engine.close_state(key), CloseState::Linger);
        host.engine.handle_gone(key);
    }
    assert_eq!(host.metrics.limit(Limit::AddressConnections), 2);
    assert_eq!(host.metrics.malformed(Reason::AddressConnections), 2);
    // A place is given back with its connection.
    host.engine.handle_gone(second);
    let key = host.send_by_proxy(&[&header("203.0.113.9")[..], GET].concat());
    assert!(host.text(key).starts_with("HTTP/1.1 200 "));
    for key in [first, other, key] {
        host.engine.handle_gone(key);
    }
    assert_eq!(host.admission.open(), 0);
}

/// All clients of a proxy that forwards requests share its connections, and its own probes name nobody.
#[test]
fn connections_of_a_proxy_are_not_counted_for_its_own_address() {
    for (expects_header, begins) in
        [(false, &b""[..]), (true, b"PROXY UNKNOWN\r\n"), (true, &header("10.9.1.1"))]
    {
        let mut host = behind(expects_header);
        for _ in 0..5 {
            let key = host.send_by_proxy(&[begins, GET].concat());
            assert!(host.text(key).starts_with("HTTP/1.1 200 "), "{}", host.text(key));
        }
        assert_eq!(host.metrics.limit(Limit::AddressConnections), 0);
    }
}

/// Whether or not anybody is trusted: what an untrusted peer begins with is a request.
#[test]
fn a_header_is_read_of_no_peer_that_is_not_trusted() {
    let bytes = [&header("203.0.113.9")[..], GET].concat();
    for mut host in [behind(false), Loop::new(&ClientLimits::default())] {
        let key = host.accept().unwrap();
        host.send(key, &bytes);
        assert!(host.text(key).starts_with("HTTP/1.1 400 "), "{}", host.text(key));
        assert_eq!(host.metrics.malformed(Reason::ProxyHeaderUnexpected), 1);
    }
}

#[test]
fn a_drain_ends_a_connection_whose_header_is_on_the_way() {
    for rest in [&b""[..], GET] {
        let mut host = behind(true);
        let bytes = [&header("203.0.113.9")[..], rest].concat();
        let key = host.send_by_proxy(&bytes[..20]);
        host.engine.drain();
        assert_eq!(host.engine.close_state(key), CloseState::Open, "it has begun to arrive");
        host.send(key, &bytes[20..]);
        assert_eq!(
            (host.answers(key), host.engine.close_state(key)),
            (usize::from(!rest.is_empty()), CloseState::Linger)
        );
    }
}

/// Of a flood of strangers the log tells a line a minute.
#[test]
fn the_log_is_not_filled_by_strangers() {
    let mut strangers = Strangers::default();
    let peer = PEER.ip();
    let untold = |strangers: &mut Strangers, ms: u64| {
        strangers.tell(peer, Monotonic(0).plus_ms(ms));
        strangers.untold
    };
    assert_eq!([0, 1, 59_999, 60_000, 60_001].map(|ms| untold(&mut strangers, ms)), [0, 1, 2, 0, 1]);
}
