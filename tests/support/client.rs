//! An HTTP/1.1 client that hides nothing: raw bytes out, a parsed response in, one connection.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// How long a test waits for an answer before it fails: far above any deadline of the server's.
pub const PATIENCE: Duration = super::PATIENCE;

/// One connection.
pub struct Client {
    stream: TcpStream,
    /// What it calls the server: the address, as operators' listeners ask for.
    host: String,
    unread: Vec<u8>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// Field lines in their order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body, as long as Content-Length says.
    pub body: Vec<u8>,
}

impl Response {
    /// The field's value; panics where it is there twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values =
            self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Whether the server said that it will close the connection after this answer.
    pub fn closes(&self) -> bool {
        match self.field("connection") {
            Some(value) => value.eq_ignore_ascii_case("close"),
            None => self.version == "HTTP/1.0",
        }
    }

    /// Asserts the status, showing the whole answer where it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self:?} {}", self.text());
        self
    }

    /// Whether it tells of a booking: 201, or 200 where one with this id was there. A client that was told nothing, or "the
    /// outcome is unknown", asks again, and its booking may have been made by an earlier try.
    pub fn is_booked(&self) -> bool {
        matches!(self.status, 200 | 201)
    }

    /// Whether it says to ask again: nothing was booked, or nobody knows, or an earlier try is on its way.
    pub fn says_ask_again(&self) -> bool {
        match self.status {
            503 => true,
            409 => self.json()["type"] == "/problems/in-progress",
            _ => false,
        }
    }

    /// Asserts that the status is one of these.
    #[track_caller]
    pub fn expect_any(&self, statuses: &[u16]) {
        assert!(statuses.contains(&self.status), "{self:?} {}", self.text());
    }

    /// Asserts an RFC 9457 problem of that status and type, in form and in its words; gives its JSON.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{self:?} {}", self.text());
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{name}"), "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for word in ["title", "detail"] {
            assert!(problem[word].as_str().is_some_and(|text| !text.is_empty()), "no {word} in {problem}");
        }
        problem
    }
}

impl Client {
    /// Connects; panics where nobody listens.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Connects.
    pub fn try_connect(address: SocketAddr) -> io::Result<Client> {
        Client::over(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects from that address of this machine.
    #[track_caller]
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> Client {
        let connect = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            socket.connect(&address.into())?;
            Client::over(socket.into())
        };
        connect().unwrap_or_else(|error: io::Error| panic!("{address} from {source}: {error}"))
    }

    fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let host = stream.peer_addr()?.to_string();
        Ok(Client { stream, host, unread: Vec::new() })
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Writes bytes of which the last is marked as urgent.
    pub fn send_urgent(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = socket2::SockRef::from(&self.stream).send_out_of_band(bytes)?;
        self.stream.write_all(&bytes[sent..])
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Hangs up by a reset: unlike an end, it says that nobody reads an answer any more.
    pub fn reset(self) {
        let stream = socket2::SockRef::from(&self.stream);
        stream.set_linger(Some(Duration::ZERO)).expect("a socket of ours takes its options");
    }

    /// Reads one answer. `UnexpectedEof` where the server closed first.
    pub fn receive(&mut self) -> io::Result<Response> {
        self.receive_answer_to("GET")
    }

    /// Reads one answer to a request of that method: an answer to HEAD has no body.
    pub fn receive_answer_to(&mut self, method: &str) -> io::Result<Response> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            self.read_more()?;
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let mut response = parse_head(&head)?;
        let bodiless = method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304);
        if !bodiless {
            let length = response.field("content-length").and_then(|value| value.parse().ok());
            let length: usize = length.ok_or_else(|| garbled("no Content-Length", &head))?;
            while self.unread.len() < length {
                self.read_more()?;
            }
            response.body = self.unread.drain(..length).collect();
        }
        Ok(response)
    }

    /// Some bytes of an answer that goes on. `UnexpectedEof` where it has ended.
    pub fn receive_some(&mut self) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.read_more()?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Whether the server closed the connection with nothing more said; waits for it.
    pub fn at_end(&mut self) -> bool {
        self.unread.is_empty()
            && matches!(self.read_more(), Err(error) if error.kind() != io::ErrorKind::WouldBlock)
    }

    /// One request and its answer; `body` goes with its Content-Length. Panics where there is none.
    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, body: Option<&str>) -> Response {
        self.try_ask(method, target, body).unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// One request and its answer.
    pub fn try_ask(&mut self, method: &str, target: &str, body: Option<&str>) -> io::Result<Response> {
        let length = body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        let body = body.unwrap_or_default();
        let host = &self.host;
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n{body}"))?;
        self.receive_answer_to(method)
    }

    /// GET.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.ask("GET", target, None)
    }

    /// PUT with a JSON body.
    #[track_caller]
    pub fn put(&mut self, target: &str, body: &str) -> Response {
        self.ask("PUT", target, Some(body))
    }

    /// The same request again and again, until the answer is not that it should be asked again. Panics where it goes on.
    #[track_caller]
    pub fn insist(&mut self, method: &str, target: &str, body: Option<&str>) -> Response {
        super::eventually(&format!("an answer to {method} {target}"), PATIENCE, || {
            let answer = self.ask(method, target, body);
            (!answer.says_ask_again()).then_some(answer)
        })
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        match read_once(&mut self.stream, &mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }
}

/// Reads once. A process that is stopped and goes on, as a machine's may be, is told that a read with a time limit was
/// interrupted.
pub fn read_once(stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn garbled(what: &str, bytes: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {}", String::from_utf8_lossy(bytes)))
}

fn parse_head(head: &[u8]) -> io::Result<Response> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    match parsed.parse(head) {
        Ok(status) if status.is_complete() => {}
        _ => return Err(garbled("not an answer", head)),
    }
    let fields = parsed
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()));
    Ok(Response {
        version: format!("HTTP/1.{}", parsed.version.unwrap_or_default()),
        status: parsed.code.unwrap_or_default(),
        fields: fields.collect(),
        body: Vec::new(),
    })
}
