//! Targets and hosts that are wrong.

use super::why::*;
use super::{Case, Nginx, get, get_with};

pub(super) fn cases() -> Vec<Case> {
    cases! {
        "no leading slash" "3.2": get("buy/a") => "400 target-form | closed";
        "authority form" "3.2.3": get("h:80") => "400 target-form | closed";
        "asterisk with get" "3.2.4": get("*") => "400 target-form | closed";
        "unknown scheme" "3.2.2": get("ftp://h/buy/a") => "400 target-form | closed", nginx "200 | open": SCHEMES;
        "https over what is not secured" "9110 7.4": get("HTTPS://x.example/buy/a") => "421 target-scheme | closed",
            nginx "200 | open": SCHEMES;
        "https over what is not secured, for the server" "9110 7.4": "OPTIONS https://h HTTP/1.1\r\nHost: h\r\n\r\n"
            => "421 target-scheme | closed", nginx "204 | open": SCHEMES;
        "user information" "9110 4.2.4": get("http://u:p@h/buy/a") => "400 target-form | closed";
        "absolute form without host" "9110 4.2.1": get("http:///buy/a") => "400 target-form | closed";
        "absolute form with a bad port" "9110 4.2.1": get("http://h:65536/buy/a") => "400 target-form | closed",
            nginx "200 | open": SCHEMES;
        "absolute form without a host field" "3.2": "GET http://h/buy/a HTTP/1.1\r\n\r\n" => "400 host-missing | closed";
        "raw utf-8" "3.2": get("/buy/\u{e9}") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "byte above 127" "3.2": b"GET /buy/\xff HTTP/1.1\r\nHost: h\r\n\r\n" => "400 target-byte | closed",
            nginx "200 | open": TARGET_BYTES;
        "fragment" "3.2": get("/buy/a#b") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "quote" "3.2": get("/buy/a\"b") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "angle bracket" "3.2": get("/buy/<a>") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "backslash" "3.2": get("/buy\\a") => "400 target-byte | closed", nginx "404 | open": TARGET_BYTES;
        "caret" "3.2": get("/buy/a^b") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "brace" "3.2": get("/buy/{a}") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "square bracket" "3.2": get("/buy/[a]") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "bar in the query" "3.2": get("/buy/a?b|c") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "backtick" "3.2": get("/buy/a`b") => "400 target-byte | closed", nginx "200 | open": TARGET_BYTES;
        "bad escape" "3.2": get("/buy/%zz") => "400 target-escape | closed";
        "bad escape in the query" "3.2": get("/buy/a?%z") => "400 target-escape | closed",
            nginx "200 | open": TARGET_BYTES;
        "short escape" "3.2": get("/buy/%4") => "400 target-escape | closed";
        "no host" "3.2": get_with("A: b\r\n") => "400 host-missing | closed";
        "two hosts" "3.2": get_with("Host: h\r\nHost: h\r\n") => "400 host-repeated | closed";
        "two hosts in http/1.0" "3.2": "GET /buy/a HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n" => "400 host-repeated | closed";
        "empty host" "3.2": get_with("Host:\r\n") => "400 host-invalid | closed";
        "host with a path" "3.2": get_with("Host: h/a\r\n") => "400 host-invalid | closed";
        "host with user information" "3.2": get_with("Host: u@h\r\n") => "400 host-invalid | closed",
            nginx "200 | open": HOSTS;
        "list of hosts" "3.2": get_with("Host: a, b\r\n") => "400 host-invalid | closed";
        "two hosts in one field" "3.2": get_with("Host: a b\r\n") => "400 host-invalid | closed";
        "host with a bad port" "3.2": get_with("Host: h:8o\r\n") => "400 host-invalid | closed",
            nginx "200 | open": HOSTS;
        "host with a port past 65535" "3.2": get_with("Host: h:65536\r\n") => "400 host-invalid | closed",
            nginx "200 | open": HOSTS;
        "host with two ports" "3.2": get_with("Host: h:80:80\r\n") => "400 host-invalid | closed",
            nginx "200 | open": HOSTS;
        "ipv6 host without brackets" "3.2": get_with("Host: ::1\r\n") => "400 host-invalid | closed";
        "half an ipv6 host" "3.2": get_with("Host: [::1\r\n") => "400 host-invalid | closed",
            nginx "200 | open": HOSTS;
        "bad host in http/1.0" "3.2": "GET /buy/a HTTP/1.0\r\nHost: <\r\n\r\n" => "400 host-invalid | closed",
            nginx "200 | closed": HOSTS;
    }
}
