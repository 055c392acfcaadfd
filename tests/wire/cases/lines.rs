//! Lines that are wrong: the request line, field lines, and how they end.

use super::why::*;
use super::{Case, Nginx, get, get_with};

pub(super) fn cases() -> Vec<Case> {
    cases! {
        "too many empty lines" "2.2": "\r\n".repeat(5) + &get("/buy/a") => "400 leading-empty-lines | closed",
            nginx "200 | open": EMPTY_LINES;
        "bare line feed first" "2.2": format!("\n{}", get("/buy/a")) => "400 bare-line-feed | closed",
            nginx "200 | open": LINE_FEED;
        "bare line feeds" "2.2": "GET /buy/a HTTP/1.1\nHost: h\n\n" => "400 bare-line-feed | closed",
            nginx "200 | open": LINE_FEED;
        "bare line feed after the request line" "2.2": "GET /buy/a HTTP/1.1\nHost: h\r\n\r\n"
            => "400 bare-line-feed | closed", nginx "200 | open": LINE_FEED;
        "bare line feed in a field" "2.2": get_with("Host: h\r\nA: b\nTransfer-Encoding: chunked\r\n")
            => "400 bare-line-feed | closed";
        "bare line feed in the target" "2.2": get("/buy/a\nb") => "400 bare-line-feed | closed",
            nginx "0 | closed": HTTP_0_9;
        "bare line feed at the end" "2.2": "GET /buy/a HTTP/1.1\r\nHost: h\r\n\n" => "400 bare-line-feed | closed",
            nginx "200 | open": LINE_FEED;
        "line feed and carriage return" "2.2": "GET /buy/a HTTP/1.1\n\rHost: h\n\r\n\r" => "400 bare-line-feed | closed";
        "an error, then a request" "2.2": get_with("Host: h\r\nA: b\nC: d\r\n") + &get("/buy/b")
            => "400 bare-line-feed | closed", nginx "200 | 200 | open": LINE_FEED;
        "a request, then an error" "2.2": get("/buy/a") + "GET /buy/b\n"
            => "200 GET /buy/a | 400 bare-line-feed | closed", nginx "200 | 0 | closed": HTTP_0_9;
        "bare carriage return in a field" "2.2": get_with("Host: h\r\nA: b\rC: d\r\n")
            => "400 bare-carriage-return | closed";
        "bare carriage return before a field that frames" "2.2":
            get_with("Host: h\r\nA: b\rTransfer-Encoding: chunked\r\n") => "400 bare-carriage-return | closed";
        "bare carriage return in the target" "2.2": get("/buy/a\rb") => "400 bare-carriage-return | closed";
        "bare carriage return for a space" "3": "GET\r/buy/a HTTP/1.1\r\nHost: h\r\n\r\n"
            => "400 bare-carriage-return | closed";
        "carriage return twice" "2.2": "GET /buy/a HTTP/1.1\r\r\nHost: h\r\n\r\n" => "400 bare-carriage-return | closed";
        "carriage return twice at the end" "2.2": "GET /buy/a HTTP/1.1\r\nHost: h\r\n\r\r\n\r\n"
            => "400 bare-carriage-return | closed";
        "carriage return before the method" "2.2": format!("\r{}", get("/buy/a")) => "400 bare-carriage-return | closed",
            nginx "200 | open": CARRIAGE_RETURN;
        "nul in a value" "9110 5.5": get_with("Host: h\r\nA: b\0c\r\n") => "400 control-byte | closed";
        "nul in a name" "9110 5.1": get_with("Host: h\r\nA\0: b\r\n") => "400 control-byte | closed";
        "nul after a name that frames" "9110 5.1": get_with("Host: h\r\nContent-Length\0: 5\r\n")
            => "400 control-byte | closed";
        "nul in the target" "3.2": get("/buy/a\0") => "400 control-byte | closed";
        "nul in the method" "9110 9.1": "GE\0T /buy/a HTTP/1.1\r\nHost: h\r\n\r\n" => "400 control-byte | closed";
        "delete in a value" "9110 5.5": get_with("Host: h\r\nA: b\x7f\r\n") => "400 control-byte | closed",
            nginx "200 | open": CONTROL_BYTES;
        "escape in a value" "9110 5.5": get_with("Host: h\r\nA: \x1b[2J\r\n") => "400 control-byte | closed",
            nginx "200 | open": CONTROL_BYTES;
        "vertical tab in a value" "9110 5.5": get_with("Host: h\r\nA: \x0bb\r\n") => "400 control-byte | closed",
            nginx "200 | open": CONTROL_BYTES;
        "form feed before a value that frames" "9110 5.5": get_with("Host: h\r\nTransfer-Encoding: \x0cchunked\r\n")
            => "400 control-byte | closed", nginx "501 | closed": CONTROL_BYTES;
        "folded field" "5.2": get_with("Host: h\r\nA: b\r\n c\r\n") => "400 obsolete-folding | closed";
        "folded with a tab" "5.2": get_with("Host: h\r\nA: b\r\n\tc\r\n") => "400 obsolete-folding | closed";
        "folded field that frames" "5.2": get_with("Host: h\r\nTransfer-Encoding:\r\n chunked\r\n")
            => "400 obsolete-folding | closed";
        "a line of a space" "5.2": get_with("Host: h\r\n \r\n") => "400 obsolete-folding | closed";
        "space before the first field" "2.2": get_with(" Host: h\r\n") => "400 obsolete-folding | closed";
        "space before the colon" "5.1": get_with("Host : h\r\n") => "400 space-before-colon | closed";
        "tab before the colon" "5.1": get_with("Host: h\r\nTransfer-Encoding\t: chunked\r\n")
            => "400 space-before-colon | closed";
        "no colon" "5": get_with("Host: h\r\nnonsense\r\n") => "400 field-name | closed",
            nginx "200 | open": DROPPED_FIELD;
        "no name" "5": get_with("Host: h\r\n: b\r\n") => "400 field-name | closed";
        "space in a name" "5": get_with("Host: h\r\nA B: c\r\n") => "400 field-name | closed";
        "name above 127" "5": get_with("Host: h\r\n\u{e9}: c\r\n") => "400 field-name | closed",
            nginx "200 | open": DROPPED_FIELD;
        "quoted name" "5": get_with("Host: h\r\n\"A\": c\r\n") => "400 field-name | closed",
            nginx "200 | open": DROPPED_FIELD;
        "slash in a name" "5": get_with("Host: h\r\nA/B: c\r\n") => "400 field-name | closed",
            nginx "200 | open": DROPPED_FIELD;
        "no version" "3": "GET /buy/a\r\n\r\n" => "400 request-line | closed", nginx "0 | closed": HTTP_0_9;
        "no target" "3": "GET HTTP/1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "no method" "3": "/buy/a HTTP/1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "two spaces" "3": "GET  /buy/a HTTP/1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed",
            nginx "200 | open": SPACES;
        "two spaces before the version" "3": "GET /buy/a  HTTP/1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed",
            nginx "200 | open": SPACES;
        "space after the version" "3": "GET /buy/a HTTP/1.1 \r\nHost: h\r\n\r\n" => "400 request-line | closed",
            nginx "200 | open": SPACES;
        "word after the version" "3": "GET /buy/a HTTP/1.1 x\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "space in the target" "3.2": get("/buy/a b") => "400 request-line | closed";
        "version in the target" "3": get("/buy/a HTTP/1.1") => "400 request-line | closed";
        "tab for a space" "3": "GET\t/buy/a\tHTTP/1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "leading space" "3": format!(" {}", get("/buy/a")) => "400 request-line | closed";
        "byte order mark" "3": format!("\u{feff}{}", get("/buy/a")) => "400 request-line | closed";
        "method that is no token" "9110 9.1": "G(T /buy/a HTTP/1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "method that nobody knows" "9110 9.1": "FOO!#$%&'*+-.^_`|~ /buy/a HTTP/1.1\r\nHost: h\r\n\r\n"
            => "501 method-not-implemented | closed", nginx "400 | closed": METHODS;
        "lower-case method" "9110 9.1": "get /buy/a HTTP/1.1\r\nHost: h\r\n\r\n" => "501 method-not-implemented | closed",
            nginx "400 | closed": METHODS;
        "connect" "9110 9.3.6": "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n" => "501 method-not-implemented | closed",
            nginx "400 | closed": METHODS;
        "lower-case version" "2.3": "GET /buy/a http/1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "long minor version" "2.3": "GET /buy/a HTTP/1.10\r\nHost: h\r\n\r\n" => "400 request-line | closed",
            nginx "200 | open": MINOR_VERSIONS;
        "no minor version" "2.3": "GET /buy/a HTTP/1\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "space in the version" "2.3": "GET /buy/a HTTP/ 1.1\r\nHost: h\r\n\r\n" => "400 request-line | closed";
        "version 2.0" "9110 15.6.6": "GET /buy/a HTTP/2.0\r\nHost: h\r\n\r\n" => "505 version-unsupported | closed";
        "version 1.2" "9110 15.6.6": "GET /buy/a HTTP/1.2\r\nHost: h\r\n\r\n" => "505 version-unsupported | closed",
            nginx "200 | open": MINOR_VERSIONS;
        "version 0.9" "9110 15.6.6": "GET /buy/a HTTP/0.9\r\n\r\n" => "505 version-unsupported | closed",
            nginx "400 | closed": VERSION_STATUS;
        "http/2 preface" "9113 3.4": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
            => "400 http2-preface | closed";
        "tls hello" "8446 5.1": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n" => "400 tls-hello | closed";
        "sslv2 hello" "5246 E.2": b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\r\n\r\n" => "400 request-line | closed";
        "proxy protocol" "3": "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_owned() + &get("/buy/a")
            => "400 proxy-header-unexpected | closed";
        "binary" "3": b"\xff\xfe\r\n\r\n" => "400 request-line | closed";
        "a response" "3": "HTTP/1.1 200 OK\r\n\r\n" => "400 request-line | closed";
    }
}
