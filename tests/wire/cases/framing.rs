//! Bodies whose length is in doubt.

use super::why::*;
use super::{Case, Nginx, chunked, get, get_with, post};

/// What the head says of the length.
pub(super) fn lengths() -> Vec<Case> {
    cases! {
        "length and encoding" "6.3": post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            => "400 length-and-encoding | closed";
        "encoding and length" "6.3": post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")
            => "400 length-and-encoding | closed";
        "length 0 and encoding" "6.3":
            post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n") + &get("/buy/a")
            => "400 length-and-encoding | closed";
        "two lengths and encoding" "6.3":
            post("Content-Length: 0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            => "400 length-and-encoding | closed";
        "length and an unknown encoding" "6.3": post("Content-Length: 2\r\nTransfer-Encoding: x\r\n\r\nhi")
            => "400 length-and-encoding | closed", nginx "501 | closed": ENCODING_STATUS;
        "encoding in http/1.0" "6.1": "POST /buy/p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            => "400 encoding-in-http10 | closed";
        "encoding in http/1.0 with keep-alive" "6.1":
            "POST /buy/p HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            => "400 encoding-in-http10 | closed";
        "length and encoding in http/1.0" "6.1":
            "POST /buy/p HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            => "400 length-and-encoding | closed";
        "gzip" "6.1": post("Transfer-Encoding: gzip\r\n\r\n") => "501 encoding-unknown | closed";
        "gzip, chunked" "6.1": post("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n") => "501 encoding-unknown | closed";
        "chunked, identity" "6.1": post("Transfer-Encoding: chunked, identity\r\n\r\n") => "501 encoding-unknown | closed";
        "chunked and a comma" "6.1": post("Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n") => "501 encoding-unknown | closed";
        "chunked, chunked" "6.1": post("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")
            => "501 encoding-unknown | closed";
        "chunked in two fields" "6.1": post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n")
            => "501 encoding-unknown | closed", nginx "400 | closed": ENCODING_STATUS;
        "chunked, then identity in another field" "6.1":
            post("Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n")
            => "501 encoding-unknown | closed", nginx "400 | closed": ENCODING_STATUS;
        "xchunked" "6.1": post("Transfer-Encoding: xchunked\r\n\r\n") => "501 encoding-unknown | closed";
        "quoted chunked" "6.1": post("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n") => "501 encoding-unknown | closed";
        "chunked with a parameter" "6.1": post("Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n")
            => "501 encoding-unknown | closed";
        "identity" "6.1": post("Transfer-Encoding: identity\r\n\r\n") => "501 encoding-unknown | closed";
        "empty encoding" "6.1": post("Transfer-Encoding:\r\n\r\n") => "501 encoding-unknown | closed";
        "encoding with an underscore" "5.1": post("Transfer_Encoding: chunked\r\n\r\n") + &get("/buy/a")
            => "200 POST /buy/p | 200 GET /buy/a | open";
        "two equal lengths" "6.3": post("Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi")
            => "400 length-repeated | closed";
        "two lengths" "6.3": post("Content-Length: 2\r\nContent-Length: 0\r\n\r\nhi") => "400 length-repeated | closed";
        "two lengths in other case" "6.3": post("Content-Length: 2\r\ncontent-length: 0\r\n\r\nhi")
            => "400 length-repeated | closed";
        "list of lengths" "6.3": post("Content-Length: 2, 2\r\n\r\nhi") => "400 length-invalid | closed";
        "length and a comma" "6.3": post("Content-Length: 2,\r\n\r\nhi") => "400 length-invalid | closed";
        "plus sign" "9110 8.6": post("Content-Length: +2\r\n\r\nhi") => "400 length-invalid | closed";
        "minus sign" "9110 8.6": post("Content-Length: -2\r\n\r\nhi") => "400 length-invalid | closed";
        "hexadecimal" "9110 8.6": post("Content-Length: 0x2\r\n\r\nhi") => "400 length-invalid | closed";
        "fraction" "9110 8.6": post("Content-Length: 2.0\r\n\r\nhi") => "400 length-invalid | closed";
        "underscore" "9110 8.6": post("Content-Length: 1_0\r\n\r\n0123456789") => "400 length-invalid | closed";
        "space inside" "9110 8.6": post("Content-Length: 1 1\r\n\r\nhi") => "400 length-invalid | closed";
        "quoted length" "9110 8.6": post("Content-Length: \"2\"\r\n\r\nhi") => "400 length-invalid | closed";
        "digits of another script" "9110 8.6": post("Content-Length: \u{662}\r\n\r\nhi") => "400 length-invalid | closed";
        "empty length" "9110 8.6": post("Content-Length:\r\n\r\n") => "400 length-invalid | closed";
        "length past 64 bits" "9110 8.6": post("Content-Length: 18446744073709551616\r\n\r\n")
            => "400 length-invalid | closed";
        "length that is 2 in 64 bits" "9110 8.6": post("Content-Length: 18446744073709551618\r\n\r\nhi") + &get("/buy/a")
            => "400 length-invalid | closed";
        "bad length of a get" "9110 8.6": get_with("Host: h\r\nContent-Length: x\r\n") => "400 length-invalid | closed";
        "length too large" "9110 15.5.14": post("Content-Length: 65537\r\n\r\nhi") => "413 body-too-large | closed";
        "length far too large" "9110 15.5.14": post("Content-Length: 18446744073709551615\r\n\r\nhi") + &get("/buy/a")
            => "413 body-too-large | closed", nginx "400 | closed": SIZE_STATUS;
        "unknown expectation" "9110 10.1.1": post("Expect: 200-ok\r\nContent-Length: 2\r\n\r\n")
            => "417 expectation-unknown | closed", nginx "200 | open": EXPECTATIONS;
        "expectation with a word before it" "9110 10.1.1": post("Expect: x 100-continue\r\nContent-Length: 2\r\n\r\nhi")
            => "417 expectation-unknown | closed", nginx "200 | open": EXPECTATIONS;
        "expectation beside another" "9110 10.1.1":
            post("Expect: 100-continue, x\r\nContent-Length: 2\r\n\r\nhi")
            => "417 expectation-unknown | closed", nginx "200 | open": EXPECTATIONS;
        "expectation before another" "9110 10.1.1":
            post("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 2\r\n\r\nhi")
            => "417 expectation-unknown | closed", nginx "400 | closed": EXPECTATION_STATUS;
    }
}

/// What the chunks say of it.
pub(super) fn chunks() -> Vec<Case> {
    cases! {
        "chunk without size" "7.1": chunked("\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "extension without size" "7.1": chunked(";x\r\n\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "chunk with a sign" "7.1": chunked("+1\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "chunk with a negative size" "7.1": chunked("-1\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "chunk with 0x" "7.1": chunked("0x1\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "chunk with an underscore" "7.1": chunked("1_0\r\n0123456789abcdef\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "space before a size" "7.1": chunked(" 1\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "space after a size" "7.1": chunked("1 \r\nx\r\n0\r\n\r\n") => "400 chunk-extension | closed",
            nginx "200 | open": CHUNKS;
        "nul after a size" "7.1": chunked("1\0\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "chunk size past 64 bits" "7.1": chunked("10000000000000001\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed";
        "chunk size of too many zeros" "7.1": chunked("00000000000000001\r\nx\r\n0\r\n\r\n") => "400 chunk-size | closed",
            nginx "200 | open": CHUNK_ZEROS;
        "chunk too large" "7.1": chunked("FFFFFFFFFFFFFFFF\r\nx") => "413 body-too-large | closed",
            nginx "400 | closed": SIZE_STATUS;
        "chunk that overflows by two" "7.1": chunked("FFFFFFFFFFFFFFFE\r\nx\r\n0\r\n\r\n") + &get("/buy/a")
            => "413 body-too-large | closed", nginx "400 | closed": SIZE_STATUS;
        "bare line feed after a size" "7.1": chunked("1\nx\r\n0\r\n\r\n") => "400 chunk-size | closed",
            nginx "200 | open": CHUNKS;
        "bare carriage return after a size" "7.1": chunked("1\rx\r\n0\r\n\r\n") => "400 chunk-end | closed";
        "extension without name" "7.1.1": chunked("1;\r\nx\r\n0\r\n\r\n") => "400 chunk-extension | closed",
            nginx "200 | open": CHUNKS;
        "extension without value" "7.1.1": chunked("1;a=\r\nx\r\n0\r\n\r\n") => "400 chunk-extension | closed",
            nginx "200 | open": CHUNKS;
        "bare line feed in an extension" "7.1.1": chunked("1;a\nx\r\n0\r\n\r\n") => "400 chunk-extension | closed",
            nginx "200 | open": CHUNKS;
        "bare carriage return in an extension" "7.1.1": chunked("1;a\rb\r\nx\r\n0\r\n\r\n") => "400 chunk-end | closed";
        "line feed in a quoted extension" "7.1.1": chunked("1;a=\"\n\"\r\nx\r\n0\r\n\r\n")
            => "400 chunk-extension | closed";
        "nul in an extension" "7.1.1": chunked("1;a=\0\r\nx\r\n0\r\n\r\n") => "400 chunk-extension | closed",
            nginx "200 | open": CHUNKS;
        "chunk longer than its size" "7.1": chunked("1\r\nxx\r\n0\r\n\r\n") => "400 chunk-end | closed";
        "chunk shorter than its size" "7.1": chunked("3\r\nxx\r\n0\r\n\r\n") => "400 chunk-end | closed",
            nginx "200 | open": CHUNKS;
        "chunk ended by a line feed" "7.1": chunked("1\r\nx\n0\r\n\r\n") => "400 chunk-end | closed",
            nginx "200 | open": CHUNKS;
        "chunk ended by a carriage return" "7.1": chunked("1\r\nx\r0\r\n\r\n") => "400 chunk-end | closed";
        "chunk without end" "7.1": chunked("1\r\nx0\r\n\r\n") => "400 chunk-end | closed";
        "bare line feed after the last chunk" "7.1": chunked("0\r\n\n") => "400 trailer | closed",
            nginx "200 | open": CHUNKS;
        "bare carriage return after the last chunk" "7.1": chunked("0\r\n\rx") => "400 trailer | closed";
        "trailer without colon" "7.1.2": chunked("0\r\nnonsense\r\n\r\n") => "400 trailer | closed",
            nginx "200 | open": CHUNKS;
        "space before a trailer's colon" "7.1.2": chunked("0\r\nA : b\r\n\r\n") => "400 trailer | closed",
            nginx "200 | open": CHUNKS;
        "folded trailer" "7.1.2": chunked("0\r\nA: b\r\n c\r\n\r\n") => "400 trailer | closed",
            nginx "200 | open": CHUNKS;
        "bare line feed after a trailer" "7.1.2": chunked("0\r\nA: b\n\r\n") => "400 trailer | closed",
            nginx "200 | open": CHUNKS;
        "nul in a trailer" "7.1.2": chunked("0\r\nA: \0\r\n\r\n") => "400 trailer | closed",
            nginx "200 | open": CHUNKS;
        "request in place of a trailer" "7.1.2": chunked("0\r\n") + &get("/buy/a") => "400 trailer | closed",
            nginx "200 | open": CHUNKS;
        "error in a chunk, then a request" "7.1": chunked("x\r\n") + &get("/buy/a") => "400 chunk-size | closed";
    }
}
