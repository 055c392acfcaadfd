//! What a trusted proxy sends: a PROXY header and requests behind it, whose outcome does not depend on how they were cut, and
//! lists of addresses. The crate proxy-header reads the header too: what is taken here means the same there.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boxoffice::limits::{FORWARDED_ELEMENT_BYTES_MAX, FORWARDED_HOPS_MAX, PROXY_HEADER_BYTES_MAX};
use boxoffice::proxies::header::{self, ProxyHeader};
use boxoffice::proxies::{Client as Asker, TrustedProxies};
use proxy_header::{ParseConfig, Protocol, ProxyHeader as Theirs};

use super::client::{Client, PEER, Seen};
use super::requests;

pub fn run(bytes: &[u8]) {
    let proxies = |expects_header| {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().expect("a network"));
        Arc::new(TrustedProxies::new(networks.to_vec(), expects_header))
    };
    let (with_header, without) = (proxies(true), proxies(false));
    requests::check(bytes, &|limits| Client::behind(&with_header, limits));
    requests::check(bytes, &|limits| Client::behind(&without, limits));
    check_header(bytes);
    let values: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let client = without.client(PEER, values.iter().copied());
    assert_eq!(client, naive(&without, &values), "{:?}", bytes.escape_ascii().to_string());
    // Nobody is believed who is not trusted, whatever comes.
    let strangers = Arc::new(TrustedProxies::new(vec!["10.0.0.2".parse().expect("an address")], true));
    let mut client = Client::behind(&strangers, &Default::default());
    client.send(bytes);
    client.flush();
    for seen in &client.service.seen {
        if let Seen::Request { client, .. } = seen {
            assert_eq!(*client, Asker { address: PEER, proxy: None });
        }
    }
}

fn check_header(bytes: &[u8]) {
    let Ok(ProxyHeader::Whole { bytes: length, client }) = header::read(bytes) else { return };
    assert!(length <= bytes.len() && length <= PROXY_HEADER_BYTES_MAX);
    let is_local = bytes[0] == b'\r' && bytes[12] == 0x20;
    let theirs = Theirs::parse(bytes, ParseConfig::default());
    match theirs {
        Ok((theirs, their_length)) => {
            let of_stream = theirs.proxied_address().filter(|address| address.protocol == Protocol::Stream);
            let their_client = of_stream.map(|address| address.source.ip().to_canonical());
            assert_eq!((length, client), (their_length, their_client), "{}", bytes.escape_ascii());
        }
        // Of a connection of the proxy itself they look at the family; the specification says not to. They want all of the
        // addresses of Unix sockets and datagrams, of which nothing is used here.
        Err(error) => {
            let has_no_address = bytes[0] == b'\r' && !matches!(bytes[13], 0x11 | 0x21);
            assert!(is_local || has_no_address, "{error:?} of {}", bytes.escape_ascii());
            assert_eq!(client, None);
        }
    }
}

/// The client by the words of the documentation, from left to right.
fn naive(proxies: &TrustedProxies, values: &[&[u8]]) -> IpAddr {
    let mut elements: Vec<Vec<u8>> =
        values.join(&b","[..]).split(|byte| *byte == b',').map(<[u8]>::to_vec).collect();
    elements.drain(..elements.len().saturating_sub(FORWARDED_HOPS_MAX));
    let mut client = PEER;
    while let Some(element) = elements.pop() {
        let text = element.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let Some(address) = naive_address(text) else { return client };
        client = address;
        if !proxies.trusts(client) {
            return client;
        }
    }
    client
}

fn naive_address(text: &[u8]) -> Option<IpAddr> {
    if text.len() > FORWARDED_ELEMENT_BYTES_MAX || !text.is_ascii() || text.contains(&b'%') {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let with_port = format!("{text}:1");
    let ways = [
        text.parse::<IpAddr>().ok(),
        text.parse::<SocketAddr>().ok().map(|address| address.ip()),
        text.starts_with('[')
            .then(|| with_port.parse::<SocketAddr>().ok().map(|address| address.ip()))
            .flatten(),
    ];
    Some(ways.into_iter().flatten().next()?.to_canonical())
}
