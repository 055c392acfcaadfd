//! What a server said, read back from its bytes.

use std::fmt;

use boxoffice::http::Reason;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status; 0 for what has no head (nginx answers HTTP/0.9 so).
    pub status: u16,
    /// Why boxoffice refused it, where HTTP itself was the reason.
    pub reason: Option<Reason>,
    /// Whether it says that it is the last one.
    pub closes: bool,
    /// Whether it says when it was made.
    pub is_dated: bool,
    /// Its body.
    pub body: Vec<u8>,
}

/// `400 bare-line-feed`, or the status alone.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Some(reason) => write!(f, "{} {}", self.status, reason.label()),
            None => write!(f, "{}", self.status),
        }
    }
}

/// Reads all answers of a connection.
///
/// # Errors
/// Where the bytes are not answers, one behind the other, and nothing else.
pub fn read(mut bytes: &[u8]) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let (answer, taken) =
            read_one(bytes).map_err(|what| format!("{what} in {}", bytes.escape_ascii()))?;
        answers.push(answer);
        bytes = &bytes[taken..];
    }
    Ok(answers)
}

/// Reads the answer that `bytes` begins with, and how many bytes it has.
fn read_one(bytes: &[u8]) -> Result<(Answer, usize), String> {
    if !bytes.starts_with(b"HTTP/1.1 ") {
        let body = bytes.to_vec();
        return Ok((Answer { status: 0, reason: None, closes: true, is_dated: false, body }, bytes.len()));
    }
    let head_bytes = memchr::memmem::find(bytes, b"\r\n\r\n").ok_or("half a head")? + 4;
    let head = std::str::from_utf8(&bytes[..head_bytes - 4]).map_err(|_| "a head that is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok()).ok_or("no status")?;
    let field = |name: &str| {
        let mut values = head.split("\r\n").skip(1).filter_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        if values.next().is_some() { Err(format!("{name} twice")) } else { Ok(value) }
    };
    let closes = field("connection")?.is_some_and(|value| value == "close");
    let is_dated = field("date")?
        .is_some_and(|date| date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len() && date.ends_with("GMT"));
    let length = field("content-length")?;
    let rest = &bytes[head_bytes..];
    let body_bytes = match (length, field("transfer-encoding")?) {
        _ if status < 200 || matches!(status, 204 | 304) => {
            if length.is_some() {
                return Err("a length where none may be".to_owned());
            }
            0
        }
        // Of an answer to HEAD: the next one follows, or nothing. No body here begins like that.
        _ if rest.is_empty() || rest.starts_with(b"HTTP/1.1 ") => 0,
        (Some(length), None) => length.parse().map_err(|_| "no length")?,
        _ => return Err("no Content-Length".to_owned()),
    };
    let body = rest.get(..body_bytes).ok_or("half a body")?.to_vec();
    let reason = reason(&body);
    Ok((Answer { status, reason, closes, is_dated, body }, head_bytes + body_bytes))
}

/// The reason in a problem document of boxoffice's.
fn reason(body: &[u8]) -> Option<Reason> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    let detail = problem["detail"].as_str()?;
    Reason::ALL.iter().copied().find(|reason| {
        let place = detail.strip_prefix(reason.sentence());
        place.is_some_and(|place| place.is_empty() || place.starts_with(" ("))
    })
}
