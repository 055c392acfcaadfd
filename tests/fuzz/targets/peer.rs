//! The same bytes read by boxoffice and by hyper, which much of the world runs: where both take a request, they must agree
//! on what it is, where it ends, and whether another may follow. Where one takes what the other refuses, the reason must
//! be among those that are explained at [`hyper`].
//!
//! hyper's heads are read by httparse, as ours are; how long a message is, chunks, and what follows are its own.

use boxoffice::connection::CloseState;
use boxoffice::http::Reason;
use boxoffice::limits::ClientLimits;

use super::client::{Client, Seen};

mod hyper;

/// Longest input: hyper reads each request three times.
const INPUT_BYTES_MAX: usize = 4_096;

/// A request as a reader understood it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    method: String,
    target: String,
    body: Vec<u8>,
    /// Where the next request begins.
    end: usize,
    /// Whether there may be one.
    persists: bool,
}

pub fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(INPUT_BYTES_MAX)];
    let (ours, refusal) = read(bytes);
    compare_with_hyper(bytes, &ours, refusal);
}

/// Each of our requests with the bytes that it is made of.
fn with_bytes<'a>(ours: &'a [Message], bytes: &'a [u8]) -> impl Iterator<Item = (&'a Message, &'a [u8])> {
    let mut start = 0;
    ours.iter().map(move |our| (our, &bytes[std::mem::replace(&mut start, our.end)..our.end]))
}

fn compare_with_hyper(bytes: &[u8], ours: &[Message], refusal: Option<Reason>) {
    /// What a persistent connection takes behind any request.
    const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    let (theirs, error) = hyper::read(bytes);
    for (index, (our, raw)) in with_bytes(ours, bytes).enumerate() {
        let Some(their) = theirs.get(index) else {
            assert!(hyper::refuses(raw), "taken here, refused by hyper ({error}): {}", raw.escape_ascii());
            return;
        };
        check_same(our, their, raw);
        assert_eq!(
            hyper::read(&bytes[..our.end - 1]).0.len(),
            index,
            "it ends earlier: {}",
            raw.escape_ascii()
        );
        if hyper::overlooks_connection(raw) {
            return;
        }
        let followed = hyper::read(&[&bytes[..our.end], NEXT].concat()).0;
        let next = followed.get(index + 1).map(|next| next.target.as_str());
        assert_eq!(next, our.persists.then_some("/next"), "what follows {}", raw.escape_ascii());
    }
    if let (Some(reason), Some(their)) = (refusal, theirs.get(ours.len())) {
        assert!(
            hyper::is_more_lenient(reason),
            "refused here ({}), taken by hyper: {their:?}",
            reason.label()
        );
    }
}

fn check_same(our: &Message, their: &Message, raw: &[u8]) {
    assert_eq!((&our.method, &our.body), (&their.method, &their.body), "hyper reads {}", raw.escape_ascii());
    // An absolute form is taken apart here: its path is what is left.
    let is_same = our.target == their.target || !their.target.starts_with('/');
    assert!(is_same, "hyper reads {}, not {}", their.target, our.target);
}

/// What a connection makes of the bytes, one by one, so that it shows where each request ended.
fn read(bytes: &[u8]) -> (Vec<Message>, Option<Reason>) {
    let mut client = Client::new(&ClientLimits::default());
    let mut messages: Vec<Message> = Vec::new();
    for (at, byte) in bytes.chunks(1).enumerate() {
        if !client.send(byte) {
            break;
        }
        client.flush();
        match client.service.seen.get(messages.len()) {
            Some(Seen::Request { method, path, query, body, .. }) => messages.push(Message {
                method: method.clone(),
                target: query.iter().fold(path.clone(), |path, query| format!("{path}?{query}")),
                body: body.clone(),
                end: at + 1,
                persists: client.connection.close_state() == CloseState::Open,
            }),
            Some(Seen::Refusal(error)) => return (messages, Some(error.reason)),
            None => {}
        }
    }
    (messages, None)
}
