//! The request target (RFC 9112 section 3.2) and the host it names (RFC 3986 section 3.2).

use super::{ErrorPlace, HttpError, Method, Reason};

/// What a byte may do in a target.
const REFUSED: u8 = 0;
const PLAIN: u8 = 1;
const QUESTION: u8 = 2;
const PERCENT: u8 = 3;

/// Path and query share their plain bytes: `pchar` and the slash (RFC 3986 sections 3.3 and 3.4). What is
/// left out is what other programs disagree on: quotes, angle and square brackets, braces, `\ ^ | #`, the
/// backtick, and everything above 126.
const TARGET_BYTES: [u8; 256] = {
    let mut table = [REFUSED; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/";
    let mut i = 0;
    while i < plain.len() {
        table[plain[i] as usize] = PLAIN;
        i += 1;
    }
    table[b'?' as usize] = QUESTION;
    table[b'%' as usize] = PERCENT;
    table
};

/// Path and query of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
}

/// Takes the target apart: origin-form, absolute-form (whose authority is checked and dropped: this server
/// has one name space), and `*` for OPTIONS.
///
/// An https URI is refused: this server speaks no TLS, so that its client sent over the open network what it was told to
/// send secured, and whoever stands between may have made the request (RFC 9110 sections 4.2.2 and 7.4). A proxy that ends
/// TLS asks by the origin-form.
pub(super) fn parse_target(target: &str, method: Method) -> Result<Target<'_>, HttpError> {
    if target.starts_with('/') {
        return path_and_query(target, 0);
    }
    if target == "*" && method == Method::Options {
        return Ok(Target { path: "*", query: None });
    }
    absolute_form(target, method)
}

fn path_and_query(text: &str, offset: usize) -> Result<Target<'_>, HttpError> {
    let bytes = text.as_bytes();
    let mut question = None;
    let mut at = 0;
    loop {
        at += plain_bytes(&bytes[at..]);
        if at == bytes.len() {
            break;
        }
        match TARGET_BYTES[usize::from(bytes[at])] {
            QUESTION => {
                question.get_or_insert(at);
            }
            PERCENT => {
                if !bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(refusal(Reason::TargetEscape, offset + at));
                }
                at += 2;
            }
            _ => return Err(refusal(Reason::TargetByte, offset + at)),
        }
        at += 1;
    }
    Ok(match question {
        None => Target { path: text, query: None },
        Some(at) => Target { path: &text[..at], query: Some(&text[at + 1..]) },
    })
}

/// How many plain bytes `bytes` begins with.
fn plain_bytes(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| TARGET_BYTES[usize::from(byte)] != PLAIN).unwrap_or(bytes.len())
}

/// `http://host[:port]/path?query`, which every server must accept (RFC 9112 section 3.2.2).
fn absolute_form(target: &str, method: Method) -> Result<Target<'_>, HttpError> {
    let begins_with = |scheme: &[u8]| {
        target.as_bytes().get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme))
    };
    let scheme_bytes = match () {
        () if begins_with(b"http://") => b"http://".len(),
        () if begins_with(b"https://") => return Err(refusal(Reason::TargetScheme, 0)),
        () => return Err(refusal(Reason::TargetForm, 0)),
    };
    let authority_end = memchr::memchr2(b'/', b'?', &target.as_bytes()[scheme_bytes..])
        .map_or(target.len(), |at| scheme_bytes + at);
    // User information in an http URI is refused by is_host: RFC 9110 section 4.2.4.
    if !is_host(&target.as_bytes()[scheme_bytes..authority_end]) {
        return Err(refusal(Reason::TargetForm, scheme_bytes));
    }
    let rest = path_and_query(&target[authority_end..], authority_end)?;
    Ok(match rest {
        // RFC 9112 section 3.2.4: OPTIONS for a URI without path and query means the server itself.
        Target { path: "", query: None } if method == Method::Options => Target { path: "*", query: None },
        Target { path: "", query } => Target { path: "/", query },
        rest => rest,
    })
}

fn refusal(reason: Reason, at: usize) -> HttpError {
    HttpError { reason, place: ErrorPlace::TargetByte(at as u32) }
}

/// Whether `bytes` is `uri-host [":" port]` (RFC 9110 section 7.2) with a host that is not empty, as the http
/// scheme asks (RFC 9110 section 4.2.1).
pub(super) fn is_host(bytes: &[u8]) -> bool {
    let (host_is_right, port) = if bytes.first() == Some(&b'[') {
        let Some(end) = memchr::memchr(b']', bytes) else { return false };
        let address = std::str::from_utf8(&bytes[1..end]).unwrap_or_default();
        (address.parse::<std::net::Ipv6Addr>().is_ok(), &bytes[end + 1..])
    } else {
        let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        (is_registered_name(&bytes[..end]), &bytes[end..])
    };
    host_is_right
        && match port {
            [] => true,
            [b':', digits @ ..] => {
                digits.iter().all(u8::is_ascii_digit)
                    && digits.iter().fold(0, |sum, digit| (sum * 10 + u32::from(digit - b'0')).min(1 << 16))
                        <= 0xffff
            }
            _ => false,
        }
}

/// `reg-name` (RFC 3986 section 3.2.2) of at least one byte; a dotted IPv4 address is one too.
fn is_registered_name(bytes: &[u8]) -> bool {
    let mut at = 0;
    loop {
        // What is plain in a target and not in a name are the three that delimit it.
        at += bytes[at..]
            .iter()
            .position(|&byte| TARGET_BYTES[usize::from(byte)] != PLAIN || matches!(byte, b':' | b'@' | b'/'))
            .unwrap_or(bytes.len() - at);
        if at == bytes.len() {
            return at > 0;
        }
        let escape = bytes.get(at..at + 3);
        if !escape.is_some_and(|it| it[0] == b'%' && it[1..].iter().all(u8::is_ascii_hexdigit)) {
            return false;
        }
        at += 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(target: &str) -> Result<(&str, Option<&str>), Reason> {
        parse_target(target, Method::Get)
            .map(|target| (target.path, target.query))
            .map_err(|error| error.reason)
    }

    #[test]
    fn targets_in_their_forms() {
        assert_eq!(parsed("/"), Ok(("/", None)));
        assert_eq!(parsed("/a/b?c=d?e"), Ok(("/a/b", Some("c=d?e"))));
        assert_eq!(parsed("/a?"), Ok(("/a", Some(""))));
        assert_eq!(parsed("/%41%zz"), Err(Reason::TargetEscape));
        assert_eq!(parsed("/%4"), Err(Reason::TargetEscape));
        assert_eq!(parsed("/a#b"), Err(Reason::TargetByte));
        assert_eq!(parsed("http://a.example:80/x?y"), Ok(("/x", Some("y"))));
        assert_eq!(parsed("HTTP://a.example"), Ok(("/", None)));
        assert_eq!(parsed("http://a.example?q"), Ok(("/", Some("q"))));
        assert_eq!(parsed("http://u@a.example/"), Err(Reason::TargetForm));
        assert_eq!(parsed("https://a.example/x"), Err(Reason::TargetScheme));
        assert_eq!(parsed("HTTPS://a.example"), Err(Reason::TargetScheme));
        assert_eq!(parsed("http:///x"), Err(Reason::TargetForm));
        assert_eq!(parsed("ftp://a.example/"), Err(Reason::TargetForm));
        assert_eq!(parsed("a/b"), Err(Reason::TargetForm));
        assert_eq!(parsed("*"), Err(Reason::TargetForm));
        assert_eq!(parse_target("*", Method::Options), Ok(Target { path: "*", query: None }));
        assert_eq!(parse_target("http://a", Method::Options), Ok(Target { path: "*", query: None }));
        for byte in "\"<>\\^{|}`[] \u{e9}".chars() {
            assert_eq!(parsed(&format!("/a{byte}b")), Err(Reason::TargetByte), "{byte:?}");
        }
    }

    #[test]
    fn hosts() {
        for host in [
            "a",
            "a.example",
            "load_balance.com",
            "127.0.0.1:3005",
            "[::1]",
            "[::1]:80",
            "a:",
            "a%2db",
            "a,b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a:65536", "a:123456", "a:+1", "a b", "a/b", "u@a", "[::1", "[]", "[g]", "[::1]x",
            "a%2", "a:80:80", "\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
