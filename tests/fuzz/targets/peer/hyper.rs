//! hyper as a reader of requests: a server of its own in memory.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use boxoffice::http::Reason;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::Message;

/// What a client sends, whole, and then its end. What is answered is dropped.
struct Client<'a> {
    rest: &'a [u8],
}

impl Read for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.rest.split_at(buffer.remaining().min(self.rest.len()));
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Client<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// More turns than any input needs: hyper wakes itself now and then, and never waits for anything here.
const TURNS_MAX: usize = 100_000;

/// The requests that hyper takes whole, and why it went no further.
pub fn read(bytes: &[u8]) -> (Vec<Message>, String) {
    let messages = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, mut body) = request.into_parts();
        let mut gathered = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            if let Ok(data) = frame?.into_data() {
                gathered.extend_from_slice(&data);
            }
        }
        messages.borrow_mut().push(Message {
            method: head.method.as_str().to_owned(),
            target: head.uri.to_string(),
            body: gathered,
            ..Message::default()
        });
        Ok::<_, hyper::Error>(Response::new(String::new()))
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).half_close(true);
    let mut connection = pin!(builder.serve_connection(Client { rest: bytes }, service));
    let mut context = Context::from_waker(Waker::noop());
    let outcome = (0..TURNS_MAX).find_map(|_| match connection.as_mut().poll(&mut context) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    });
    let error = outcome.expect("hyper waits for something").err().map(|error| error.to_string());
    (messages.take(), error.unwrap_or_default())
}

/// What hyper refuses of requests that are taken here: `raw` is the whole of one.
pub fn refuses(raw: &[u8]) -> bool {
    let text = String::from_utf8_lossy(raw);
    let target = text.trim_start().split(' ').nth(1).unwrap_or_default();
    // It reads the authority of an absolute form as RFC 3986 has it, ports included.
    target.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"))
}

/// Whether hyper may overlook a `close` or `keep-alive`: it reads no Connection field that has other than printable ASCII
/// anywhere in it.
pub fn overlooks_connection(raw: &[u8]) -> bool {
    let mut lines = raw.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let is_connection = line.get(..11).is_some_and(|name| name.eq_ignore_ascii_case(b"connection:"));
        is_connection && line.iter().any(|byte| *byte >= 0x7f || *byte == b'\t')
    })
}

/// What is refused here and taken by hyper, which leaves much to its callers, and lets some of RFC 9112 pass.
pub fn is_more_lenient(reason: Reason) -> bool {
    match reason {
        // It cuts lines at a bare line feed as well (section 2.2 lets it), and drops empty lines without end.
        Reason::BareLineFeed | Reason::LeadingEmptyLines => true,
        // Its limits are others.
        Reason::TargetTooLong | Reason::HeadTooLarge | Reason::TooManyFields => true,
        Reason::BodyTooLarge | Reason::ChunkOverhead => true,
        // It takes neither Host nor target apart.
        Reason::HostMissing | Reason::HostRepeated | Reason::HostInvalid => true,
        Reason::TargetByte | Reason::TargetEscape | Reason::TargetForm => true,
        // Of a length and an encoding it takes the encoding (section 6.3 lets it), of equal lengths the one.
        Reason::LengthAndEncoding | Reason::LengthRepeated | Reason::LengthInvalid => true,
        // Any coding with `chunked` at its end, any expectation, and CONNECT are its callers' to refuse.
        Reason::EncodingUnknown | Reason::ExpectationUnknown | Reason::MethodNotImplemented => true,
        // It skips extensions and trailers, whatever is in them.
        Reason::ChunkExtension | Reason::Trailer | Reason::ChunkSize => true,
        _ => false,
    }
}
