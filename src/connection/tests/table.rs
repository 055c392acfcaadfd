//! Raw bytes and what must come of them, in every fragmentation. RFC numbers name sections: 9112 where none is
//! given.

use super::*;

/// What was seen and how it was answered, entry by entry, then whether the connection would take more:
/// `200 GET /a | 400 bare-line-feed | closed`. `...` says that a request is still incomplete.
struct Case {
    name: &'static str,
    section: &'static str,
    bytes: Vec<u8>,
    outcome: &'static str,
}

fn case(name: &'static str, section: &'static str, bytes: impl AsRef<[u8]>, outcome: &'static str) -> Case {
    Case { name, section, bytes: bytes.as_ref().to_vec(), outcome }
}

/// A request with these lines after the request line and Host.
fn post(lines_and_body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: h\r\n{lines_and_body}")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn host(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\n{lines}\r\n")
}

fn chunked(body: &str) -> String {
    post(&format!("Transfer-Encoding: chunked\r\n\r\n{body}"))
}

fn well_formed() -> Vec<Case> {
    vec![
        case("nothing", "2.1", "", "open"),
        case("get", "3", get("/a"), "200 GET /a | open"),
        case("query", "3.2.1", get("/a?b=c?d"), "200 GET /a?b=c?d | open"),
        case("two in a row", "9.3.2", get("/a") + &get("/b"), "200 GET /a | 200 GET /b | open"),
        case("half a second one", "9.3.2", get("/a") + "GET /b HTTP/1.1\r\nHo", "200 GET /a | ... | open"),
        case("empty lines first", "2.2", format!("\r\n\r\n{}", get("/a")), "200 GET /a | open"),
        case("empty line between", "2.2", get("/a") + "\r\n" + &get("/b"), "200 GET /a | 200 GET /b | open"),
        case("only empty lines", "2.2", "\r\n\r\n\r\n\r\n", "open"),
        case(
            "other token",
            "9110 9.1",
            "FOO!#$%&'*+-.^_`|~ /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "200 FOO!#$%&'*+-.^_`|~ /a | open",
        ),
        case("lower-case method", "9110 9.1", "get /a HTTP/1.1\r\nHost: h\r\n\r\n", "200 get /a | open"),
        case("head", "9110 9.3.2", "HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", "200 HEAD /a | open"),
        case("absolute form", "3.2.2", get("http://x.example:8080/a?b"), "200 GET /a?b | open"),
        case("absolute form without path", "3.2.2", get("http://x.example"), "200 GET / | open"),
        case("asterisk form", "3.2.4", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "200 OPTIONS * | open"),
        case("escapes", "3.2", get("/%41%2f%00?%7e"), "200 GET /%41%2f%00?%7e | open"),
        case("http/1.0", "9.3", "GET /a HTTP/1.0\r\n\r\n", "200 GET /a | closed"),
        case(
            "http/1.0 keep-alive",
            "9.3",
            "GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            "200 GET /a | open",
        ),
        case(
            "http/1.0 close",
            "9.3",
            "GET /a HTTP/1.0\r\nConnection: close\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
            "200 GET /a | closed",
        ),
        case(
            "close",
            "9.6",
            format!("GET /a HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n{}", get("/b")),
            "200 GET /a | closed",
        ),
        case("length", "6.3", post("Content-Length: 5\r\n\r\nhello"), "200 POST /p hello | open"),
        case(
            "length 0",
            "6.3",
            post("Content-Length: 0\r\n\r\n") + &get("/a"),
            "200 POST /p | 200 GET /a | open",
        ),
        case(
            "body that looks like a request",
            "6.3",
            post("Content-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: smug\r\n\r\n") + &get("/a"),
            "200 POST /p GET /smuggled HTTP/1.1\\r\\nHost: smug\\r\\n\\r\\n | 200 GET /a | open",
        ),
        case("half a body", "6.3", post("Content-Length: 5\r\n\r\nhel"), "... | open"),
        case(
            "get with a body",
            "9110 9.3.1",
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
            "200 GET /a hi | open",
        ),
        case(
            "length with leading zeros",
            "9110 8.6",
            post("Content-Length: 00000000000000000000002\r\n\r\nhi"),
            "200 POST /p hi | open",
        ),
        case(
            "white space around a value",
            "5.1",
            post("Content-Length: \t 2 \t\r\n\r\nhi"),
            "200 POST /p hi | open",
        ),
        case("no white space before a value", "5.1", host("Host:h\r\n"), "200 GET / | open"),
        case(
            "value of other bytes",
            "9110 5.5",
            host("Host: h\r\nX: \u{e9}\t\"\r\nY:\r\n"),
            "200 GET / | open",
        ),
        case(
            "chunks",
            "7.1",
            chunked("5\r\nhello\r\n6;a=\"b\"\r\n world\r\n0\r\nT: x\r\n\r\n") + &get("/a"),
            "200 POST /p hello world | 200 GET /a | open",
        ),
        case(
            "chunked in other case",
            "7",
            post("transfer-encoding: cHuNkEd\r\n\r\n0\r\n\r\n"),
            "200 POST /p | open",
        ),
        case(
            "trailer that would frame",
            "6.5.1",
            chunked("0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\n\r\n") + &get("/a"),
            "200 POST /p | 200 GET /a | open",
        ),
        case("half a chunk", "7.1", chunked("5\r\nhel"), "... | open"),
        case("body without a length", "6.3", post("\r\nhello") + "", "200 POST /p | ... | open"),
        case(
            "continue",
            "9110 10.1.1",
            post("Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"),
            "200 POST /p hi | open",
        ),
        case(
            "expect in http/1.0",
            "9110 10.1.1",
            "GET /a HTTP/1.0\r\nExpect: x\r\n\r\n",
            "200 GET /a | closed",
        ),
        case("host with port", "3.2", host("Host: load_balance.com:80\r\n"), "200 GET / | open"),
        case("ipv6 host", "3.2", host("hOsT: [::1]:80\r\n"), "200 GET / | open"),
        case(
            "most fields",
            "5",
            host(&format!("Host: h\r\n{}", "X: y\r\n".repeat(limits::FIELDS_MAX - 1))),
            "200 GET / | open",
        ),
    ]
}

fn malformed_lines() -> Vec<Case> {
    vec![
        case(
            "too many empty lines",
            "2.2",
            "\r\n".repeat(5) + &get("/a"),
            "400 leading-empty-lines | closed",
        ),
        case("bare line feed first", "2.2", format!("\n{}", get("/a")), "400 bare-line-feed | closed"),
        case("bare line feeds", "2.2", "GET /a HTTP/1.1\nHost: h\n\n", "400 bare-line-feed | closed"),
        case(
            "bare line feed in a field",
            "2.2",
            host("Host: h\r\nA: b\nTransfer-Encoding: chunked\r\n"),
            "400 bare-line-feed | closed",
        ),
        case(
            "bare line feed at the end",
            "2.2",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "400 bare-line-feed | closed",
        ),
        case(
            "error then a request",
            "2.2",
            host("Host: h\r\nA: b\nC: d\r\n") + &get("/b"),
            "400 bare-line-feed | closed",
        ),
        case(
            "request then an error",
            "2.2",
            get("/a") + "GET /b\n",
            "200 GET /a | 400 bare-line-feed | closed",
        ),
        case(
            "bare carriage return in a field",
            "2.2",
            host("Host: h\r\nA: b\rC: d\r\n"),
            "400 bare-carriage-return | closed",
        ),
        case("bare carriage return in the target", "2.2", get("/a\rb"), "400 bare-carriage-return | closed"),
        case(
            "carriage return twice",
            "2.2",
            "GET / HTTP/1.1\r\r\nHost: h\r\n\r\n",
            "400 bare-carriage-return | closed",
        ),
        case(
            "carriage return before the method",
            "2.2",
            format!("\r{}", get("/a")),
            "400 bare-carriage-return | closed",
        ),
        case("nul in a value", "9110 5.5", host("Host: h\r\nA: b\0c\r\n"), "400 control-byte | closed"),
        case("nul in a name", "9110 5.1", host("Host: h\r\nA\0: b\r\n"), "400 control-byte | closed"),
        case("nul in the target", "3.2", get("/a\0"), "400 control-byte | closed"),
        case("delete in a value", "9110 5.5", host("Host: h\r\nA: b\x7f\r\n"), "400 control-byte | closed"),
        case(
            "vertical tab in a value",
            "9110 5.5",
            host("Host: h\r\nA: \x0bb\r\n"),
            "400 control-byte | closed",
        ),
        case("folded field", "5.2", host("Host: h\r\nA: b\r\n c\r\n"), "400 obsolete-folding | closed"),
        case("folded with a tab", "5.2", host("Host: h\r\nA: b\r\n\tc\r\n"), "400 obsolete-folding | closed"),
        case("space before the first field", "2.2", host(" Host: h\r\n"), "400 obsolete-folding | closed"),
        case("space before the colon", "5.1", host("Host : h\r\n"), "400 space-before-colon | closed"),
        case(
            "tab before the colon",
            "5.1",
            host("Host: h\r\nTransfer-Encoding\t: chunked\r\n"),
            "400 space-before-colon | closed",
        ),
        case("no colon", "5", host("Host: h\r\nnonsense\r\n"), "400 field-name | closed"),
        case("no name", "5", host("Host: h\r\n: b\r\n"), "400 field-name | closed"),
        case("space in a name", "5", host("Host: h\r\nA B: c\r\n"), "400 field-name | closed"),
        case("name above 127", "5", host("Host: h\r\n\u{e9}: c\r\n"), "400 field-name | closed"),
        case("quoted name", "5", host("Host: h\r\n\"A\": c\r\n"), "400 field-name | closed"),
        case("no version", "3", "GET /a\r\n\r\n", "400 request-line | closed"),
        case("no target", "3", "GET HTTP/1.1\r\nHost: h\r\n\r\n", "400 request-line | closed"),
        case("two spaces", "3", "GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", "400 request-line | closed"),
        case(
            "two spaces before the version",
            "3",
            "GET /a  HTTP/1.1\r\nHost: h\r\n\r\n",
            "400 request-line | closed",
        ),
        case(
            "space after the version",
            "3",
            "GET /a HTTP/1.1 \r\nHost: h\r\n\r\n",
            "400 request-line | closed",
        ),
        case("space in the target", "3.2", get("/a b"), "400 request-line | closed"),
        case("tab for a space", "3", "GET\t/a\tHTTP/1.1\r\nHost: h\r\n\r\n", "400 request-line | closed"),
        case("leading space", "3", format!(" {}", get("/a")), "400 request-line | closed"),
        case(
            "method that is no token",
            "9110 9.1",
            "G(T /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "400 request-line | closed",
        ),
        case("lower-case version", "2.3", "GET /a http/1.1\r\nHost: h\r\n\r\n", "400 request-line | closed"),
        case("long minor version", "2.3", "GET /a HTTP/1.10\r\nHost: h\r\n\r\n", "400 request-line | closed"),
        case(
            "version 2.0",
            "9110 15.6.6",
            "GET /a HTTP/2.0\r\nHost: h\r\n\r\n",
            "505 version-unsupported | closed",
        ),
        case(
            "version 1.2",
            "9110 15.6.6",
            "GET /a HTTP/1.2\r\nHost: h\r\n\r\n",
            "505 version-unsupported | closed",
        ),
        case("version 0.9", "9110 15.6.6", "GET /a HTTP/0.9\r\n\r\n", "505 version-unsupported | closed"),
        case(
            "http/2 preface",
            "9113 3.4",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            "400 http2-preface | closed",
        ),
        case(
            "tls hello",
            "8446 5.1",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n",
            "400 tls-hello | closed",
        ),
        case("binary", "3", b"\xff\xfe\r\n\r\n", "400 request-line | closed"),
        case("a response", "3", "HTTP/1.1 200 OK\r\n\r\n", "400 request-line | closed"),
        case(
            "connect",
            "9110 9.3.6",
            "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
            "501 method-not-implemented | closed",
        ),
    ]
}

fn malformed_targets() -> Vec<Case> {
    vec![
        case("no leading slash", "3.2", get("a"), "400 target-form | closed"),
        case("asterisk with get", "3.2.4", get("*"), "400 target-form | closed"),
        case("unknown scheme", "3.2.2", get("ftp://h/"), "400 target-form | closed"),
        case("user information", "9110 4.2.4", get("http://u:p@h/"), "400 target-form | closed"),
        case("absolute form without host", "9110 4.2.1", get("http:///a"), "400 target-form | closed"),
        case("raw utf-8", "3.2", get("/\u{e9}"), "400 target-byte | closed"),
        case("fragment", "3.2", get("/a#b"), "400 target-byte | closed"),
        case("quote", "3.2", get("/a\"b"), "400 target-byte | closed"),
        case("angle bracket", "3.2", get("/<a>"), "400 target-byte | closed"),
        case("backslash", "3.2", get("/a\\b"), "400 target-byte | closed"),
        case("caret", "3.2", get("/a^b"), "400 target-byte | closed"),
        case("brace", "3.2", get("/{a}"), "400 target-byte | closed"),
        case("bar in the query", "3.2", get("/a?b|c"), "400 target-byte | closed"),
        case("backtick", "3.2", get("/a`b"), "400 target-byte | closed"),
        case("bad escape", "3.2", get("/%zz"), "400 target-escape | closed"),
        case("short escape", "3.2", get("/%4"), "400 target-escape | closed"),
        case("no host", "3.2", host("A: b\r\n"), "400 host-missing | closed"),
        case("two hosts", "3.2", host("Host: h\r\nHost: h\r\n"), "400 host-repeated | closed"),
        case(
            "two hosts in http/1.0",
            "3.2",
            "GET / HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n",
            "400 host-repeated | closed",
        ),
        case("empty host", "3.2", host("Host:\r\n"), "400 host-invalid | closed"),
        case("host with a path", "3.2", host("Host: h/a\r\n"), "400 host-invalid | closed"),
        case("host with user", "3.2", host("Host: u@h\r\n"), "400 host-invalid | closed"),
        case("list of hosts", "3.2", host("Host: a, b\r\n"), "400 host-invalid | closed"),
        case("host with a bad port", "3.2", host("Host: h:8o\r\n"), "400 host-invalid | closed"),
        case("bad host in http/1.0", "3.2", "GET / HTTP/1.0\r\nHost: <\r\n\r\n", "400 host-invalid | closed"),
    ]
}

fn malformed_framing() -> Vec<Case> {
    vec![
        case(
            "length and encoding",
            "6.3",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "400 length-and-encoding | closed",
        ),
        case(
            "encoding and length",
            "6.3",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            "400 length-and-encoding | closed",
        ),
        case(
            "encoding in http/1.0",
            "6.1",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400 encoding-in-http10 | closed",
        ),
        case("gzip", "6.1", post("Transfer-Encoding: gzip\r\n\r\n"), "501 encoding-unknown | closed"),
        case(
            "gzip, chunked",
            "6.1",
            post("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            "501 encoding-unknown | closed",
        ),
        case(
            "chunked, identity",
            "6.1",
            post("Transfer-Encoding: chunked, identity\r\n\r\n"),
            "501 encoding-unknown | closed",
        ),
        case(
            "chunked twice",
            "6.1",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            "501 encoding-unknown | closed",
        ),
        case("xchunked", "6.1", post("Transfer-Encoding: xchunked\r\n\r\n"), "501 encoding-unknown | closed"),
        case("empty encoding", "6.1", post("Transfer-Encoding:\r\n\r\n"), "501 encoding-unknown | closed"),
        case(
            "two equal lengths",
            "6.3",
            post("Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
            "400 length-repeated | closed",
        ),
        case(
            "two lengths",
            "6.3",
            post("Content-Length: 2\r\nContent-Length: 0\r\n\r\nhi"),
            "400 length-repeated | closed",
        ),
        case("list of lengths", "6.3", post("Content-Length: 2, 2\r\n\r\nhi"), "400 length-invalid | closed"),
        case("plus sign", "9110 8.6", post("Content-Length: +2\r\n\r\nhi"), "400 length-invalid | closed"),
        case("minus sign", "9110 8.6", post("Content-Length: -2\r\n\r\nhi"), "400 length-invalid | closed"),
        case("hexadecimal", "9110 8.6", post("Content-Length: 0x2\r\n\r\nhi"), "400 length-invalid | closed"),
        case(
            "space inside",
            "9110 8.6",
            post("Content-Length: 1 1\r\n\r\nhi"),
            "400 length-invalid | closed",
        ),
        case("empty length", "9110 8.6", post("Content-Length:\r\n\r\n"), "400 length-invalid | closed"),
        case(
            "length past 64 bits",
            "9110 8.6",
            post("Content-Length: 18446744073709551616\r\n\r\n"),
            "400 length-invalid | closed",
        ),
        case(
            "length too large",
            "9110 15.5.14",
            post("Content-Length: 65537\r\n\r\nhi"),
            "413 body-too-large | closed",
        ),
        case(
            "expect too much",
            "9110 10.1.1",
            post("Expect: 200-ok\r\nContent-Length: 2\r\n\r\n"),
            "417 expectation-unknown | closed",
        ),
        case("chunk without size", "7.1", chunked("\r\n"), "400 chunk-size | closed"),
        case("chunk with a sign", "7.1", chunked("+1\r\nx\r\n0\r\n\r\n"), "400 chunk-size | closed"),
        case("chunk with 0x", "7.1", chunked("0x1\r\nx\r\n0\r\n\r\n"), "400 chunk-size | closed"),
        case("chunk size past 64 bits", "7.1", chunked("10000000000000001\r\nx"), "400 chunk-size | closed"),
        case("chunk too large", "7.1", chunked("FFFFFFFFFFFFFFFF\r\nx"), "413 body-too-large | closed"),
        case("bare line feed after a size", "7.1", chunked("1\nx\r\n0\r\n\r\n"), "400 chunk-size | closed"),
        case(
            "bare line feed in an extension",
            "7.1.1",
            chunked("1;a\nx\r\n0\r\n\r\n"),
            "400 chunk-extension | closed",
        ),
        case(
            "nul in an extension",
            "7.1.1",
            chunked("1;a=\0\r\nx\r\n0\r\n\r\n"),
            "400 chunk-extension | closed",
        ),
        case("chunk longer than its size", "7.1", chunked("1\r\nxx\r\n0\r\n\r\n"), "400 chunk-end | closed"),
        case("chunk ended by a line feed", "7.1", chunked("1\r\nx\n0\r\n\r\n"), "400 chunk-end | closed"),
        case("bare line feed after the last chunk", "7.1", chunked("0\r\n\n"), "400 trailer | closed"),
        case("folded trailer", "7.1.2", chunked("0\r\nA: b\r\n c\r\n\r\n"), "400 trailer | closed"),
        case(
            "error in a chunk, then a request",
            "7.1",
            chunked("x\r\n") + &get("/a"),
            "400 chunk-size | closed",
        ),
    ]
}

fn too_large() -> Vec<Case> {
    let long = |bytes: usize| "a".repeat(bytes);
    let head_of = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
        format!("{start}{}\r\n\r\n", long(bytes - start.len() - 4))
    };
    vec![
        case(
            "longest target",
            "3",
            get(&format!("/{}", long(limits::TARGET_BYTES_MAX - 1))),
            "200 GET long | open",
        ),
        case(
            "target too long by one",
            "3",
            get(&format!("/{}", long(limits::TARGET_BYTES_MAX))),
            "414 target-too-long | closed",
        ),
        case("target without end", "3", format!("GET /{}", long(20_000)), "414 target-too-long | closed"),
        case(
            "target too long, then a nul",
            "3",
            format!("GET /{}\0\n", long(9_000)),
            "414 target-too-long | closed",
        ),
        case("method without end", "9110 15.6.2", long(20_000), "501 method-not-implemented | closed"),
        case("longest head", "6585 5", head_of(limits::HEAD_BYTES_MAX), "200 GET / | open"),
        case(
            "head too large by one",
            "6585 5",
            head_of(limits::HEAD_BYTES_MAX + 1),
            "431 head-too-large | closed",
        ),
        case(
            "head without end",
            "6585 5",
            host(&format!("Host: h\r\n{}", "X: y\r\n".repeat(9_000))),
            "431 head-too-large | closed",
        ),
        case(
            "too many fields",
            "6585 5",
            host(&format!("Host: h\r\n{}", "X: y\r\n".repeat(limits::FIELDS_MAX))),
            "431 too-many-fields | closed",
        ),
        case(
            "extension without end",
            "7.1.1",
            chunked(&format!("1;{}", long(9_000))),
            "413 chunk-overhead | closed",
        ),
        case(
            "trailers without end",
            "7.1.2",
            chunked(&format!("0\r\n{}", "X: y\r\n".repeat(2_000))),
            "413 chunk-overhead | closed",
        ),
        case(
            "largest body",
            "9110 15.5.14",
            post(&format!("Content-Length: 65536\r\n\r\n{}", long(65_536))),
            "200 POST long | open",
        ),
        case(
            "largest chunked body",
            "9110 15.5.14",
            chunked(&format!("10000\r\n{}\r\n0\r\n\r\n", long(65_536))),
            "200 POST long | open",
        ),
        case(
            "chunked body too large",
            "9110 15.5.14",
            chunked(&format!("10000\r\n{}\r\n1\r\n", long(65_536))),
            "413 body-too-large | closed",
        ),
    ]
}

/// What came of it once all was sent.
pub(super) fn outcome(bench: &Bench) -> String {
    let statuses = statuses(&bench.written);
    assert_eq!(statuses.len(), bench.mirror.seen.len() - bench.mirror.waiting.len());
    let mut entries: Vec<String> = Vec::new();
    for (seen, status) in bench.mirror.seen.iter().zip(statuses) {
        let seen = match seen.split_once(' ') {
            Some((method, rest)) if rest.len() > 5_000 => format!("{method} long"),
            _ => seen.trim_start_matches('?').trim_end().to_owned(),
        };
        entries.push(format!("{status} {seen}"));
    }
    let is_open = !matches!(bench.connection.reading, Reading::Finished);
    assert_eq!(is_open, bench.connection.fate() == Fate::Open, "what is answered ends");
    if is_open && !bench.connection.input.is_empty() {
        entries.push("...".into());
    }
    entries.push(if is_open { "open" } else { "closed" }.into());
    entries.join(" | ")
}

/// The statuses of the final responses, which must be well-formed and nothing else.
pub(super) fn statuses(mut written: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !written.is_empty() {
        let head_bytes = memchr::memmem::find(written, b"\r\n\r\n").expect("a whole head") + 4;
        let head = std::str::from_utf8(&written[..head_bytes]).unwrap();
        written = &written[head_bytes..];
        let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
        if status == 100 {
            continue;
        }
        let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        // The mirror's answers begin with the method, so that those to HEAD are known by what follows.
        let is_head = written.starts_with(b"HTTP/1.1 ") || written.is_empty();
        written = &written[if is_head { 0 } else { length.parse().unwrap() }..];
        statuses.push(status);
    }
    statuses
}

#[test]
fn every_case_in_every_fragmentation() {
    let groups = [well_formed(), malformed_lines(), malformed_targets(), malformed_framing(), too_large()];
    let cases: Vec<Case> = groups.into_iter().flatten().collect();
    assert!(cases.len() >= 150, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let mut check = |way: &str, pieces: &[&[u8]]| {
            let mut bench = Bench::new();
            pieces.iter().for_each(|piece| bench.send(piece));
            let found = outcome(&bench);
            if found != case.outcome {
                wrong.push(format!(
                    "{} ({}), {way}: {found:?}, not {:?}",
                    case.name, case.section, case.outcome
                ));
            }
        };
        let bytes = &case.bytes[..];
        check("whole", &[bytes]);
        check("byte by byte", &bytes.chunks(1).collect::<Vec<_>>());
        // The long cases would take minutes at every offset; a prime stride visits all kinds of places.
        let stride = if bytes.len() < 1_000 { 1 } else { 211 };
        for at in (0..bytes.len()).step_by(stride).chain(bytes.len().saturating_sub(8)..bytes.len()) {
            check(&format!("split at {at}"), &[&bytes[..at], &bytes[at..]]);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(30)].join("\n"));
}
