//! The largest that is taken, and what is larger.

use super::super::limits;
use super::why::*;
use super::{Case, Nginx, chunked, get, get_with, post};

pub(super) fn cases() -> Vec<Case> {
    let long = |bytes: usize| "a".repeat(bytes);
    let head_of = |bytes: usize| {
        let start = "GET /buy/a HTTP/1.1\r\nHost: h\r\nA: ";
        format!("{start}{}\r\n\r\n", long(bytes - start.len() - 4))
    };
    cases! {
        "longest target" "3": get(&format!("/{}", long(limits::TARGET_BYTES_MAX - 1))) => "404 GET long | open",
            nginx "414 | closed": BUFFERS;
        "target too long by one" "3": get(&format!("/{}", long(limits::TARGET_BYTES_MAX)))
            => "414 target-too-long | closed";
        "target without end" "3": format!("GET /{}", long(20_000)) => "414 target-too-long | closed";
        "target too long, then a nul" "3": format!("GET /{}\0\n", long(9_000)) => "414 target-too-long | closed";
        "method without end" "9110 15.6.2": long(20_000) => "501 method-not-implemented | closed",
            nginx "400 | closed": METHODS;
        "longest head" "6585 5": head_of(limits::HEAD_BYTES_MAX) => "200 GET /buy/a | open",
            nginx "400 | closed": BUFFERS;
        "head too large by one" "6585 5": head_of(limits::HEAD_BYTES_MAX + 1) => "431 head-too-large | closed",
            nginx "400 | closed": BUFFERS;
        "head without end" "6585 5": get_with(&format!("Host: h\r\n{}", "X: y\r\n".repeat(3_000)))
            => "431 head-too-large | closed", nginx "400 | closed": BUFFERS;
        "too many fields" "6585 5": get_with(&format!("Host: h\r\n{}", "X: y\r\n".repeat(limits::FIELDS_MAX)))
            => "431 too-many-fields | closed", nginx "200 | open": FIELDS;
        "extension without end" "7.1.1": chunked(&format!("1;{}\r\nx\r\n0\r\n\r\n", long(9_000))) => "413 chunk-overhead | closed",
            nginx "200 | open": CHUNK_OVERHEAD;
        "trailers without end" "7.1.2": chunked(&format!("0\r\n{}\r\n", "X: y\r\n".repeat(2_000)))
            => "413 chunk-overhead | closed", nginx "200 | open": CHUNK_OVERHEAD;
        "largest body" "9110 15.5.14": post(&format!("Content-Length: 65536\r\n\r\n{}", long(65_536)))
            => "200 POST long | open";
        "largest chunked body" "9110 15.5.14": chunked(&format!("10000\r\n{}\r\n0\r\n\r\n", long(65_536)))
            => "200 POST long | open";
        "chunked body too large" "9110 15.5.14": chunked(&format!("10000\r\n{}\r\n1\r\n", long(65_536)))
            => "413 body-too-large | closed";
    }
}
