//! Connections that are to begin with a PROXY header, of a peer that is trusted. Sections are those of HAProxy's
//! `doc/proxy-protocol.txt`.

use super::{Case, Nginx, get};

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &(rest.len() as u16).to_be_bytes(), rest].concat()
}

/// What comes behind it.
fn then_get(header: impl AsRef<[u8]>) -> Vec<u8> {
    [header.as_ref(), get("/buy/a").as_bytes()].concat()
}

pub(super) fn cases() -> Vec<Case> {
    let text = |words: &str| then_get(format!("PROXY {words}\r\n"));
    let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 28], &[0x12, 0x67, 0, 80]].concat();
    let noted = [&v4[..], &[0x05, 0, 2, b'i', b'd'], &[0xee, 0, 250], &[b'x'; 250]].concat();
    cases! {
        "proxy: text of IPv4" "2.1": text("TCP4 203.0.113.9 10.0.0.1 4711 80") => "200 GET /buy/a | open";
        "proxy: text of IPv6" "2.1": text("TCP6 2001:db8::7 2001:db8::1 4711 80") => "200 GET /buy/a | open";
        "proxy: text of nobody" "2.1": text("UNKNOWN") => "200 GET /buy/a | open";
        "proxy: text of nobody, and words" "2.1": text("UNKNOWN ffff::1 ffff::2 1 2") => "200 GET /buy/a | open";
        "proxy: binary of IPv4" "2.2": then_get(binary(0x21, 0x11, &v4)) => "200 GET /buy/a | open";
        "proxy: binary of IPv6" "2.2": then_get(binary(0x21, 0x21, &v6)) => "200 GET /buy/a | open";
        "proxy: binary with notes" "2.2.7": then_get(binary(0x21, 0x11, &noted)) => "200 GET /buy/a | open";
        "proxy: binary of the proxy itself" "2.2": then_get(binary(0x20, 0x00, &[])) => "200 GET /buy/a | open";
        "proxy: binary of the proxy itself, and bytes" "2.2": then_get(binary(0x20, 0xff, &[7; 9]))
            => "200 GET /buy/a | open";
        "proxy: binary of a Unix socket" "2.2": then_get(binary(0x21, 0x31, &[b'/'; 216]))
            => "200 GET /buy/a | open";
        "proxy: then two requests" "2": [then_get(binary(0x21, 0x11, &v4)), get("/buy/b").into_bytes()].concat()
            => "200 GET /buy/a | 200 GET /buy/b | open";
        "proxy: then a wrong request" "2": b"PROXY UNKNOWN\r\nGET /buy/a\n" => "400 bare-line-feed | closed";
        "proxy: then another" "2": text("UNKNOWN\r\nPROXY TCP4 1.1.1.1 2.2.2.2 1 2")
            => "400 proxy-header-unexpected | closed";
        "proxy: then a TLS hello" "2": b"PROXY UNKNOWN\r\n\x16\x03\x01" => "400 tls-hello | closed";
        "proxy: none" "2": get("/buy/a") => "400 proxy-header-missing | closed";
        "proxy: none, and empty lines" "2": format!("\r\n\r\n{}", get("/buy/a")) => "400 proxy-header-missing | closed";
        "proxy: none, but TLS" "2": b"\x16\x03\x01\x02\x00\x01" => "400 proxy-header-missing | closed";
        "proxy: half a signature" "2.2": then_get(b"\r\n\r\n\0\r\nQUIT\r") => "400 proxy-header-missing | closed";
        "proxy: lower case" "2.1": b"proxy TCP4 203.0.113.9 10.0.0.1 4711 80\r\n" => "400 proxy-header-missing | closed";
        "proxy: a family that is none" "2.1": text("TCP5 203.0.113.9 10.0.0.1 4711 80") => "400 proxy-header | closed";
        "proxy: a name for an address" "2.1": text("TCP4 client.example 10.0.0.1 4711 80") => "400 proxy-header | closed";
        "proxy: an address of the other family" "2.1": text("TCP4 2001:db8::7 10.0.0.1 4711 80")
            => "400 proxy-header | closed";
        "proxy: a port too large" "2.1": text("TCP4 203.0.113.9 10.0.0.1 65536 80") => "400 proxy-header | closed";
        "proxy: a word too many" "2.1": text("TCP4 203.0.113.9 10.0.0.1 4711 80 x") => "400 proxy-header | closed";
        "proxy: two spaces" "2.1": text("TCP4  203.0.113.9 10.0.0.1 4711 80") => "400 proxy-header | closed";
        "proxy: a bare line feed" "2.1": then_get(b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\n")
            => "400 proxy-header | closed";
        "proxy: a line without end" "2.1": format!("PROXY UNKNOWN {}", "x".repeat(100)) => "400 proxy-header | closed";
        "proxy: binary of another version" "2.2": then_get(binary(0x31, 0x11, &v4)) => "400 proxy-header | closed";
        "proxy: binary with another command" "2.2": then_get(binary(0x22, 0x11, &v4)) => "400 proxy-header | closed";
        "proxy: binary of another family" "2.2": then_get(binary(0x21, 0x41, &v4)) => "400 proxy-header | closed";
        "proxy: binary with half an address" "2.2": then_get(binary(0x21, 0x11, &v4[..11]))
            => "400 proxy-header | closed";
        "proxy: binary too long" "2.2": then_get(binary(0x21, 0x11, &[0; 4_081])) => "400 proxy-header | closed";
        "proxy: half a line" "2.1": b"PROXY TCP4 203.0.113" => "... | open";
        "proxy: half a binary header" "2.2": binary(0x21, 0x11, &v4)[..20] => "... | open";
        "proxy: a header and no request" "2": b"PROXY UNKNOWN\r\n" => "open";
    }
}
