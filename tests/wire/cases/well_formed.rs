//! What is right, and is served.

use super::super::limits;
use super::why::*;
use super::{Case, Nginx, chunked, get, get_with, post};

/// Requests in every form that they may have.
pub(super) fn requests() -> Vec<Case> {
    cases! {
        "nothing" "2.1": "" => "open";
        "get" "3": get("/buy/a") => "200 GET /buy/a | open";
        "query" "3.2.1": get("/buy/a?b=c?d") => "200 GET /buy/a?b=c?d | open";
        "two in a row" "9.3.2": get("/buy/a") + &get("/buy/b") => "200 GET /buy/a | 200 GET /buy/b | open";
        "half a second one" "9.3.2": get("/buy/a") + "GET /buy/b HTTP/1.1\r\nHo" => "200 GET /buy/a | ... | open";
        "an error behind two" "9.3.2": get("/buy/a") + &get("/buy/b") + "nonsense\r\n\r\n" + &get("/buy/c")
            => "200 GET /buy/a | 200 GET /buy/b | 400 request-line | closed";
        "empty lines first" "2.2": format!("\r\n\r\n{}", get("/buy/a")) => "200 GET /buy/a | open";
        "empty line between" "2.2": get("/buy/a") + "\r\n" + &get("/buy/b")
            => "200 GET /buy/a | 200 GET /buy/b | open";
        "only empty lines" "2.2": "\r\n\r\n\r\n\r\n" => "open";
        "head" "9110 9.3.2": "HEAD /v1/sales/a HTTP/1.1\r\nHost: h\r\n\r\n" => "200 HEAD /v1/sales/a | open";
        "head, then get" "9110 9.3.2": "HEAD /v1/sales/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned() + &get("/buy/a")
            => "200 HEAD /v1/sales/a | 200 GET /buy/a | open";
        "absolute form" "3.2.2": get("http://x.example:8080/buy/a?b") => "200 GET /buy/a?b | open";
        "absolute form without path" "3.2.2": get("http://x.example") => "200 GET / | open";
        "asterisk form" "3.2.4": "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" => "204 OPTIONS * | open",
            nginx "400 | closed": ASTERISK;
        "escapes" "3.2": get("/%41%2f%00?%7e") => "404 GET /%41%2f%00?%7e | open", nginx "400 | closed": NUL_ESCAPE;
        "http/1.0" "9.3": "GET /buy/a HTTP/1.0\r\n\r\n" => "200 GET /buy/a | closed";
        "http/1.0 with keep-alive" "9.3": "GET /buy/a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"
            => "200 GET /buy/a | open";
        "http/1.0 with close" "9.3":
            "GET /buy/a HTTP/1.0\r\nConnection: close\r\n\r\nGET /buy/b HTTP/1.0\r\n\r\n" => "200 GET /buy/a | closed";
        "http/1.0 with keep-alive and close" "9.3":
            "GET /buy/a HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n" => "200 GET /buy/a | closed";
        "http/1.0 with a body" "6.3": "POST /buy/p HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi"
            => "200 POST /buy/p hi | closed";
        "close" "9.6": format!("GET /buy/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n{}", get("/buy/b"))
            => "200 GET /buy/a | closed";
        "close in a list" "9110 7.6.1":
            format!("GET /buy/a HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n{}", get("/buy/b"))
            => "200 GET /buy/a | closed";
        "close in the second of two fields" "9110 7.6.1":
            get_with("Host: h\r\nConnection: keep-alive\r\nConnection: close\r\n") => "200 GET /buy/a | closed";
        "close in a list with empty elements" "9110 5.6.1.2":
            format!("GET /buy/a HTTP/1.1\r\nHost: h\r\nConnection: ,, Close\t,Keep-Alive ,\r\n\r\n{}", get("/buy/b"))
            => "200 GET /buy/a | closed";
        "upgrade" "9110 7.8":
            get_with("Host: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n")
            + &get("/buy/b") => "200 GET /buy/a | 200 GET /buy/b | open";
        "length" "6.3": post("Content-Length: 5\r\n\r\nhello") => "200 POST /buy/p hello | open";
        "length 0" "6.3": post("Content-Length: 0\r\n\r\n") + &get("/buy/a")
            => "200 POST /buy/p | 200 GET /buy/a | open";
        "body that looks like a request" "6.3":
            post("Content-Length: 42\r\n\r\nGET /buy/smuggled HTTP/1.1\r\nHost: smug\r\n\r\n") + &get("/buy/a")
            => "200 POST /buy/p GET /buy/smuggled HTTP/1.1\\r\\nHost: smug\\r\\n\\r\\n | 200 GET /buy/a | open";
        "half a body" "6.3": post("Content-Length: 5\r\n\r\nhel") => "... | open";
        "get with a body" "9110 9.3.1": get_with("Host: h\r\nContent-Length: 2\r\n") + "hi" + &get("/buy/b")
            => "200 GET /buy/a hi | 200 GET /buy/b | open";
        "length with leading zeros" "9110 8.6": post("Content-Length: 00000000000000000000002\r\n\r\nhi")
            => "200 POST /buy/p hi | open";
        "white space around a value" "5.1": post("Content-Length: \t 2 \t\r\n\r\nhi") => "200 POST /buy/p hi | open",
            nginx "400 | closed": TABS;
        "no white space before a value" "5.1": get_with("Host:h\r\n") => "200 GET /buy/a | open";
        "value of other bytes" "9110 5.5": get_with("Host: h\r\nX: \u{e9}\t\"\r\nY:\r\n") => "200 GET /buy/a | open";
        "name of other bytes" "9110 5.1": get_with("Host: h\r\n!#$%&'*+-.^_`|~9: x\r\n") => "200 GET /buy/a | open";
        "chunks" "7.1":
            chunked("5\r\nhello\r\n6;a=\"b\"\r\n world\r\n0\r\nT: x\r\n\r\n") + &get("/buy/a")
            => "200 POST /buy/p hello world | 200 GET /buy/a | open";
        "chunk sizes in every form" "7.1": chunked("00000000000000a\r\n0123456789\r\nA\r\n0123456789\r\n00000\r\n\r\n")
            => "200 POST /buy/p 01234567890123456789 | open";
        "chunk extensions in every form" "7.1.1": chunked("1;a;b=c;d=\"e;\\\"\"\r\nx\r\n0;f\r\n\r\n")
            => "200 POST /buy/p x | open";
        "chunked in other case" "7": post("transfer-encoding: cHuNkEd\r\n\r\n0\r\n\r\n") => "200 POST /buy/p | open";
        "get with chunks" "9110 9.3.1": get_with("Host: h\r\nTransfer-Encoding: chunked\r\n") + "1\r\nx\r\n0\r\n\r\n"
            => "200 GET /buy/a x | open";
        "trailer that would frame" "6.5.1":
            chunked("0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: i\r\n\r\n") + &get("/buy/a")
            => "200 POST /buy/p | 200 GET /buy/a | open";
        "half a chunk" "7.1": chunked("5\r\nhel") => "... | open";
        "half a trailer" "7.1.2": chunked("0\r\nA: b\r\n") => "... | open";
        "body without a length" "6.3": post("\r\nhello") => "200 POST /buy/p | ... | open",
            nginx "200 | 400 | closed": EARLY;
        "expected, and not sent yet" "9110 10.1.1": post("Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            => "... | open";
        "expected in any case" "9110 10.1.1": post("Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
            => "... | open";
        "expected in a list with empty elements" "9110 5.6.1.2":
            post("Expect: , 100-continue\t,100-continue,\r\nContent-Length: 2\r\n\r\n") => "... | open";
        "expected twice" "9110 5.3": post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            => "... | open", nginx "400 | closed": EXPECTATION_TWICE;
        "nothing expected" "9110 5.6.1.2": get_with("Host: h\r\nExpect: ,\r\n") => "200 GET /buy/a | open";
        "expect in http/1.0" "9110 10.1.1": "GET /buy/a HTTP/1.0\r\nExpect: x\r\n\r\n" => "200 GET /buy/a | closed";
        "expect without a body" "9110 10.1.1": get_with("Host: h\r\nExpect: 100-continue\r\n") => "200 GET /buy/a | open";
        "host with port" "3.2": get_with("Host: load_balance.com:80\r\n") => "200 GET /buy/a | open";
        "host with zeros before its port" "9110 4.2.1": get_with("Host: h:000080\r\n") => "200 GET /buy/a | open";
        "ipv6 host" "3.2": get_with("hOsT: [::1]:80\r\n") => "200 GET /buy/a | open";
        "most fields" "5": get_with(&format!("Host: h\r\n{}", "X: y\r\n".repeat(limits::FIELDS_MAX - 1)))
            => "200 GET /buy/a | open";
    }
}

/// A request about a booking of the sale that has some.
fn deed(method: &str, what: &str) -> String {
    format!("{method} /v1/sales/d/bookings/{what} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
}

/// What a resource takes and does not: a matter of boxoffice alone.
pub(super) fn resources() -> Vec<Case> {
    let cases = cases! {
        "no such resource" "9110 15.5.5": get("/nowhere") + &get("/buy/a") => "404 GET /nowhere | 200 GET /buy/a | open";
        "post where get is taken" "9110 15.5.6": "POST /v1/sales/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
            => "405 POST /v1/sales/a hi | open";
        "get where post is taken" "9110 15.5.6": get("/v1/sales/a/bookings") + &get("/buy/a")
            => "405 GET /v1/sales/a/bookings | 200 GET /buy/a | open";
        "head where get has effects" "9110 9.3.2": "HEAD /buy/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned() + &get("/buy/b")
            => "405 HEAD /buy/a | 200 GET /buy/b | open";
        "put" "9110 9.3.4": "PUT /buy/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n" => "405 PUT /buy/a | open";
        "patch" "5789 2.2": "PATCH /buy/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx" => "405 PATCH /buy/a x | open";
        "query by its own method" "9110 15.5.6": "QUERY /buy/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
            => "405 QUERY /buy/a x | open";
        "trace" "9110 9.3.8": "TRACE /buy/a HTTP/1.1\r\nHost: h\r\n\r\n" => "405 TRACE /buy/a | open";
        "options" "9110 9.3.7": "OPTIONS /buy/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned() + &get("/buy/a")
            => "204 OPTIONS /buy/a | 200 GET /buy/a | open";
        "options with a body" "9110 9.3.7": "OPTIONS /buy/a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
            => "204 OPTIONS /buy/a hi | open";
        "options of nothing" "9110 9.3.7": "OPTIONS /nowhere HTTP/1.1\r\nHost: h\r\n\r\n" => "404 OPTIONS /nowhere | open";
        "a booking by chunks" "7.1":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
             6\r\n{\"quan\r\n8\r\ntity\":2}\r\n0\r\n\r\n"
            => "409 PUT /v1/sales/a/bookings/b {\\\"quantity\\\":2} | open";
        "a part of a booking" "9110 14.5":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\n{}".to_owned()
            + &get("/buy/a") => "400 PUT /v1/sales/a/bookings/b {} | 200 GET /buy/a | open";
        "a part of what is ignored" "9110 14.4":
            "POST /buy/a HTTP/1.1\r\nHost: h\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\n{}"
            => "200 POST /buy/a {} | open";
        "if-match of a tag, and a booking has none" "9110 13.1.1":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nIf-Match: \"1\"\r\n\r\n"
            => "412 PUT /v1/sales/a/bookings/b | open";
        "if-match of any, where there is none" "9110 13.1.1":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nIf-Match: *\r\n\r\n"
            => "412 PUT /v1/sales/a/bookings/b | open";
        "if-match with post" "9110 13.1.1":
            "POST /v1/sales/a/bookings HTTP/1.1\r\nHost: h\r\nif-match: *\r\n\r\n" => "412 POST /v1/sales/a/bookings | open";
        "if-match with what buys" "9110 13.1.1": get_with("Host: h\r\nIf-Match: *\r\n") => "412 GET /buy/a | open";
        "if-none-match with what buys" "9110 13.1.2": get_with("Host: h\r\nIf-None-Match: *\r\n") => "200 GET /buy/a | open";
        "if-none-match of any" "9110 13.1.2":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n"
            => "409 PUT /v1/sales/a/bookings/b | open";
        "conditions that cancel each other out" "9110 13.2.2":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nIf-Match: *\r\nIf-None-Match: *\r\n\r\n"
            => "412 PUT /v1/sales/a/bookings/b | open";
        "a condition on what is not there" "9110 13.2.1":
            "DELETE /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nIf-Match: \"1\"\r\n\r\n"
            => "404 DELETE /v1/sales/a/bookings/b | open";
        "a condition that is none" "9110 13.1.1":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nIf-Match: 1\r\n\r\n".to_owned() + &get("/buy/a")
            => "400 PUT /v1/sales/a/bookings/b | 200 GET /buy/a | open";
        "a condition of time, to be ignored" "9110 13.1.4":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nIf-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
            => "409 PUT /v1/sales/a/bookings/b | open";
        "cancelled, then confirmed" "9.3.2": deed("DELETE", "c") + &deed("POST", "c/confirm")
            => "200 DELETE /v1/sales/d/bookings/c | 409 POST /v1/sales/d/bookings/c/confirm | open";
        "looked at, cancelled, confirmed, looked at" "9.3.2":
            deed("GET", "e") + &deed("DELETE", "e") + &deed("POST", "e/confirm") + &deed("GET", "e")
            => "200 GET /v1/sales/d/bookings/e | 200 DELETE /v1/sales/d/bookings/e | \
                409 POST /v1/sales/d/bookings/e/confirm | 200 GET /v1/sales/d/bookings/e | open";
        "refusals behind a deed" "9.3.2": deed("DELETE", "none") + &get("/buy/a") + &get("/v1/sales/a") + "x\n"
            => "404 DELETE /v1/sales/d/bookings/none | 200 GET /buy/a | 200 GET /v1/sales/a | 400 bare-line-feed | closed";
        "a body that is no booking" "9110 15.5.1":
            "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n[]".to_owned() + &get("/buy/a")
            => "400 PUT /v1/sales/a/bookings/b [] | 200 GET /buy/a | open";
    };
    cases.into_iter().map(|case| Case { nginx: Nginx::DoesNotApply, ..case }).collect()
}

/// Clients that wait for leave to send their body, or for its refusal.
pub(super) fn waiting() -> Vec<Case> {
    let cases = cases! {
        "continue" "9110 10.1.1": post("Expect: 100-continue\r\nContent-Length: 2\r\n\r\n") + "hi"
            => "100 | 200 POST /buy/p hi | open";
        "continue in other case" "9110 10.1.1": post("expect: 100-Continue\r\nContent-Length: 2\r\n\r\n") + "hi"
            => "100 | 200 POST /buy/p hi | open";
        "continue with chunks" "9110 10.1.1": post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
            + "2\r\nhi\r\n0\r\n\r\n" => "100 | 200 POST /buy/p hi | open";
        "continue, then chunks that are none" "9110 10.1.1":
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n") + "hi\r\n"
            => "100 | 400 chunk-size | closed";
        "no leave for a body that is too large" "9110 10.1.1":
            post("Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n") + "hi" => "413 body-too-large | closed";
        "no leave for a request that is wrong" "9110 10.1.1":
            post("Expect: 100-continue\r\nContent-Length: 2, 2\r\n\r\n") + "hi" => "400 length-invalid | closed";
        "an answer, then the next request" "9.3": get("/buy/a") + "\r\n\r\n" + &get("/buy/b")
            => "200 GET /buy/a | 200 GET /buy/b | open";
    };
    let head_bytes =
        |case: &Case| case.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
    cases.into_iter().map(|case| Case { waits_at: head_bytes(&case), ..case }).collect()
}
