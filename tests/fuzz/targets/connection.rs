//! One connection through a whole life: bytes in any fragmentation, answers later and in any order, writes of any
//! length, time, ends. After every step it must be in order; in the end it must have read what a connection that is
//! served at once reads, answered in order, and given everything back.

use boxoffice::connection::{CloseState, CutReason};
use boxoffice::http::Reason;
use boxoffice::limits::ClientLimits;

use super::client::{Client, Seen, small_limits};
use super::script::Script;

/// Requests and beginnings of requests that a script names by one byte; it may bring bytes of its own as well.
const PIECES: [&[u8]; 12] = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    b"POST /e HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /f HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"POST /g HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"3;a=\"b\"\r\nabc\r\n",
    b"0\r\n\r\n",
    b"\r\n",
    b"abc",
    b"GET /h HTTP/1.1\r\nHost:",
];

pub fn run(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let limits = limits(&mut script);
    let mut client = Client::new(&limits);
    client.service.defers = script.byte();
    client.service.answer_bytes = script.below(2_000);
    let mut sent = Vec::new();
    let (mut is_cut, mut has_ended) = (false, false);
    while !script.is_over() {
        match script.byte() % 16 {
            0..=4 => {
                let piece = match script.byte() {
                    byte if usize::from(byte) < PIECES.len() => PIECES[usize::from(byte)].to_vec(),
                    byte if byte < 128 => PIECES[0].repeat(usize::from(byte) % 64),
                    _ => script.bytes().to_vec(),
                };
                if !has_ended && client.send(&piece) {
                    sent.extend(piece);
                }
            }
            5..=7 if client.service.waiting.is_empty() => {}
            5..=7 => {
                let index = script.below(client.service.waiting.len());
                client.answer(index);
            }
            8..=9 => client.write(script.below(4_000)),
            10 => client.flush(),
            11..=12 => client.resume(),
            13 => is_cut |= client.expire() == Some(CutReason::Stalled),
            14 => client.drain(),
            _ => {
                has_ended = true;
                client.end();
            }
        }
        assert!(
            client.connection.close_state() != CloseState::Closed || client.pool.lent_bytes() == 0,
            "it owns nothing"
        );
    }
    client.flush();
    while !client.service.waiting.is_empty() {
        client.answer(0);
        client.flush();
    }
    let answers = client.answers(is_cut);
    assert!(is_cut || answers == client.service.seen.len(), "each is answered once");
    check_reading(&client.service.seen, &sent, &limits);
    let served = client.service.seen.iter().filter(|seen| !seen.is_refusal()).count();
    assert!(limits.requests == 0 || served <= limits.requests as usize);
    // Left alone, it ends, and nothing of it stays behind.
    for _ in 0..4 {
        client.expire();
        client.flush();
    }
    assert_eq!(client.connection.close_state(), CloseState::Closed);
    assert_eq!(client.pool.lent_bytes(), 0, "all buffers are back");
}

fn limits(script: &mut Script<'_>) -> ClientLimits {
    let mut limits = if script.flip() { small_limits() } else { ClientLimits::default() };
    if script.flip() {
        limits.pipeline = 1 + script.below(6);
    }
    if script.flip() {
        limits.unsent_bytes = 1_024 + script.below(4_000);
    }
    if script.flip() {
        limits.requests = 1 + script.below(20) as u32;
    }
    if script.flip() {
        // No less than what goes together with the others.
        limits.buffered_bytes = 4 * (limits.head_bytes + limits.body_bytes + limits.unsent_bytes);
    }
    assert_eq!(limits.check(), Ok(()));
    limits
}

/// However it was served, it read what a connection reads that gets the same bytes at once and is never behind.
fn check_reading(seen: &[Seen], sent: &[u8], limits: &ClientLimits) {
    let mut reference = Client::new(&ClientLimits { buffered_bytes: 1 << 30, ..limits.clone() });
    reference.send(sent);
    reference.flush();
    let expected = &reference.service.seen;
    // A refusal that is not for the bytes ends the reading anywhere.
    let ours = match seen.split_last() {
        Some((Seen::Refusal(error), before))
            if matches!(error.reason, Reason::HeadTimeout | Reason::BodyTimeout | Reason::Overloaded) =>
        {
            before
        }
        _ => seen,
    };
    assert!(ours.len() <= expected.len(), "{} requests of {}", ours.len(), expected.len());
    assert_eq!(ours, &expected[..ours.len()], "back pressure and time change nothing of what is read");
}
