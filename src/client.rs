//! A host as commands ask it, on its admin listener: one request on each connection, and wait for the answer. Never on a loop.
//!
//! Requests are of HTTP/1.0, so that an answer ends with its connection, streams of events included. A host is called by the
//! address that its name leads to: one that is called by a name wants its token.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take. A buyer's bookings are looked for for 30 s, and to remove a large sale takes longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Bytes of an answer: 100,000 sales, and far more room than that.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of one line of a stream: that of an audit's findings is the longest.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a host is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRequest {
    /// `GET`, `PUT`, ...
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// A field under a condition, such as `If-Match: *`.
    pub condition: Option<&'static str>,
    /// A JSON object.
    pub body: Option<String>,
}

impl HostRequest {
    /// A request without a body.
    pub fn new(method: &'static str, target: impl Into<String>) -> HostRequest {
        HostRequest { method, target: target.into(), condition: None, body: None }
    }
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAnswer {
    /// Of HTTP.
    pub status: u16,
    /// Mostly JSON.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No connection; nothing was asked.
    #[error(
        "cannot reach a host at {address}: {error}; is it running? --admin takes the address that `boxoffice serve` prints \
         behind \"admin on\""
    )]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// It was asked, and the answer did not come whole.
    #[error(
        "the host at {address} did not answer: {error}; whether it did what it was asked for is not known"
    )]
    Lost {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// What is there is no host of boxoffice, or of another version.
    #[error(
        "what is at {address} does not answer as a host of boxoffice does: {what}; is it the admin listener?"
    )]
    Garbled {
        /// Where.
        address: String,
        /// What it answers.
        what: String,
    },
}

/// Somebody who asks a host.
pub trait AskHost {
    /// Asks, and waits.
    ///
    /// # Errors
    /// If there is no answer, or none of HTTP. One that refuses is an answer.
    fn ask(&mut self, request: &HostRequest) -> Result<HostAnswer, HostError>;

    /// Asks for server-sent events (as the HTML standard has them), and gives each, by its name and data, until `told` has
    /// heard enough (`false`) or they end. The answer, without a body, if it is one of events; else the whole answer.
    ///
    /// # Errors
    /// Likewise.
    fn events(
        &mut self,
        request: &HostRequest,
        told: &mut dyn FnMut(&str, &str) -> bool,
    ) -> Result<HostAnswer, HostError>;

    /// The address as it was given, for messages.
    fn address(&self) -> &str;
}

/// Asks over TCP.
#[derive(Clone, Debug)]
pub struct HostClient {
    address: String,
    token: Option<String>,
}

impl HostClient {
    /// For the admin listener at `ADDR:PORT`; nothing is dialled yet. The token is that of the host's own file, if it has one.
    pub fn new(address: impl Into<String>, token: Option<String>) -> HostClient {
        HostClient { address: address.into(), token }
    }

    fn connect(&self) -> Result<TcpStream, HostError> {
        let unreachable = |error| HostError::Unreachable { address: self.address.clone(), error };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for address in self.address.to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(unreachable(failed))
    }

    fn lost(&self, error: io::Error) -> HostError {
        let error = match error.kind() {
            // What a socket says whose time is over.
            io::ErrorKind::WouldBlock => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing came for {} s", ANSWER_TIMEOUT.as_secs()),
            ),
            _ => error,
        };
        HostError::Lost { address: self.address.clone(), error }
    }

    fn garbled(&self, what: impl Into<String>) -> HostError {
        HostError::Garbled { address: self.address.clone(), what: what.into() }
    }

    /// Sends the request and reads the head of the answer.
    fn begin(&self, request: &HostRequest) -> Result<(AnswerHead, BufReader<TcpStream>), HostError> {
        let stream = self.connect()?;
        let asked = stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)))
            .and_then(|()| (&stream).write_all(self.packed(request, &stream)?.as_bytes()));
        asked.map_err(|error| self.lost(error))?;
        let mut reader = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let line = next_line(&mut reader).map_err(|error| self.lost(error))?;
            match line.as_deref() {
                None if lines.is_empty() => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                None => return Err(self.garbled("the head of its answer has no end")),
                Some("") => break,
                Some(line) => lines.push(line.to_owned()),
            }
            if lines.len() > HEAD_LINES_MAX || !lines[0].starts_with("HTTP/") {
                return Err(self.garbled(format!("{:?}", lines[0].chars().take(80).collect::<String>())));
            }
        }
        let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| self.garbled(format!("{:?}", lines[0])))?;
        let field = |name: &str| {
            lines[1..].iter().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length = field("content-length").and_then(|length| length.parse().ok());
        Ok((AnswerHead { status, length, content_type: field("content-type").unwrap_or_default() }, reader))
    }

    fn packed(&self, request: &HostRequest, stream: &TcpStream) -> io::Result<String> {
        let HostRequest { method, target, condition, body } = request;
        let mut packed = format!("{method} {target} HTTP/1.0\r\nHost: {}\r\n", stream.peer_addr()?);
        let mut field = |line: std::fmt::Arguments<'_>| {
            write!(packed, "{line}\r\n").expect("a String takes every character");
        };
        if let Some(token) = &self.token {
            field(format_args!("Authorization: Bearer {token}"));
        }
        if let Some(condition) = condition {
            field(format_args!("{condition}"));
        }
        let body = body.as_deref().unwrap_or_default();
        field(format_args!("Content-Type: application/json"));
        field(format_args!("Content-Length: {}", body.len()));
        Ok(packed + "\r\n" + body)
    }

    fn rest(&self, head: AnswerHead, reader: BufReader<TcpStream>) -> Result<HostAnswer, HostError> {
        let mut body = Vec::new();
        let read = reader.take(ANSWER_BYTES_MAX).read_to_end(&mut body);
        read.map_err(|error| self.lost(error))?;
        if head.length.is_some_and(|length| body.len() < length) {
            return Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, "its answer was cut off")));
        }
        let body = String::from_utf8(body).map_err(|_| self.garbled("bytes that are no text"))?;
        Ok(HostAnswer { status: head.status, body })
    }
}

/// Lines of the head of an answer: a host sends a dozen.
const HEAD_LINES_MAX: usize = 100;

struct AnswerHead {
    status: u16,
    length: Option<usize>,
    content_type: String,
}

/// A line without its end; `None` at the end of all.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its answer was cut off"));
    }
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

impl AskHost for HostClient {
    fn ask(&mut self, request: &HostRequest) -> Result<HostAnswer, HostError> {
        let (head, reader) = self.begin(request)?;
        self.rest(head, reader)
    }

    fn events(
        &mut self,
        request: &HostRequest,
        told: &mut dyn FnMut(&str, &str) -> bool,
    ) -> Result<HostAnswer, HostError> {
        let (head, mut reader) = self.begin(request)?;
        if head.content_type != "text/event-stream" {
            return self.rest(head, reader);
        }
        let (mut name, mut data) = (String::new(), String::new());
        while let Some(line) = next_line(&mut reader).map_err(|error| self.lost(error))? {
            if let Some(value) = line.strip_prefix("event:") {
                value.trim_start().clone_into(&mut name);
            } else if let Some(value) = line.strip_prefix("data:") {
                data.push_str(value.trim_start());
            } else if line.is_empty() && !data.is_empty() {
                if !told(&name, &data) {
                    break;
                }
                (name, data) = (String::new(), String::new());
            }
        }
        Ok(HostAnswer { status: head.status, body: String::new() })
    }

    fn address(&self) -> &str {
        &self.address
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A server that gives this answer to one request, and the request.
    fn answering(answer: &'static str) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            while !request.ends_with("\r\n\r\n") {
                let at = request.len();
                reader.read_line(&mut request).unwrap();
                if let Some(value) = request[at..].strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request + &String::from_utf8(body).unwrap()
        });
        (address, server)
    }

    fn client(address: &str) -> HostClient {
        HostClient::new(address, Some("s3cret".to_owned()))
    }

    #[test]
    fn a_request_has_what_a_host_wants_and_its_answer_is_read_whole() {
        let (address, server) = answering("HTTP/1.1 201 Created\r\nContent-Length: 4\r\nX: y\r\n\r\nabcd");
        let request = HostRequest {
            condition: Some("If-None-Match: *"),
            body: Some("{}".to_owned()),
            ..HostRequest::new("PUT", "/v1/sales/a")
        };
        let answer = client(&address).ask(&request).unwrap();
        assert_eq!(answer, HostAnswer { status: 201, body: "abcd".to_owned() });
        assert_eq!(
            server.join().unwrap(),
            format!(
                "PUT /v1/sales/a HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer s3cret\r\nIf-None-Match: *\r\n\
                 Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
            )
        );
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        for (answer, says) in [
            ("", "is not known"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", "is not known"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "is not known"),
            ("SSH-2.0-OpenSSH_9.2\r\n", "is it the admin listener?"),
            ("HTTP/1.1 OK\r\n\r\n", "is it the admin listener?"),
            ("HTTP/1.1 200 OK\r\n", "is it the admin listener?"),
        ] {
            let (address, server) = answering(answer);
            let error = client(&address).ask(&HostRequest::new("GET", "/livez")).unwrap_err();
            assert!(error.to_string().contains(says), "{answer:?}: {error}");
            server.join().unwrap();
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let error = client(&free).ask(&HostRequest::new("GET", "/livez")).unwrap_err();
        assert!(matches!(&error, HostError::Unreachable { .. }), "{error}");
    }

    #[test]
    fn events_are_given_until_enough_is_heard() {
        const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\nevent: a\ndata: 1\n\n\
                              event: b\ndata: 2\n\nevent: c\ndata: 3\n\n";
        for (enough, heard) in [("b", "a1b2"), ("never", "a1b2c3")] {
            let (address, server) = answering(STREAM);
            let mut told = String::new();
            let answer =
                client(&address).events(&HostRequest::new("GET", "/v1/events"), &mut |name, data| {
                    told = format!("{told}{name}{data}");
                    name != enough
                });
            assert_eq!((answer.unwrap().status, told.as_str()), (200, heard));
            server.join().unwrap();
        }
        let (address, server) = answering("HTTP/1.1 404 Not Found\r\nContent-Type: a/b\r\n\r\nno");
        let answer = client(&address).events(&HostRequest::new("GET", "/"), &mut |_, _| true).unwrap();
        assert_eq!(answer, HostAnswer { status: 404, body: "no".to_owned() });
        server.join().unwrap();
    }
}
