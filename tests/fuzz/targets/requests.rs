//! Requests as raw bytes: whatever they are, their outcome does not depend on how they were cut, and the work is linear.

use boxoffice::connection::CloseState;
use boxoffice::limits::ClientLimits;

use super::client::{Client, Seen, small_limits};

/// Longest input that is cut at every offset.
const CUT_EVERYWHERE_BYTES_MAX: usize = 200;

pub fn run(bytes: &[u8]) {
    check(bytes, &Client::new);
}

/// The same for connections that are made so.
pub fn check(bytes: &[u8], connect: &dyn Fn(&ClientLimits) -> Client) {
    for limits in [ClientLimits::default(), small_limits()] {
        let whole = outcome(connect(&limits), &[bytes]);
        let same = |pieces: &[&[u8]]| {
            let lengths = || pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>();
            assert_eq!(outcome(connect(&limits), pieces), whole, "whole, and in pieces of {:?}", lengths());
        };
        same(&bytes.chunks(1).collect::<Vec<_>>());
        same(&bytes.chunks(7).collect::<Vec<_>>());
        // A long input is cut at places that differ from input to input.
        let stride = 1 + bytes.len() / CUT_EVERYWHERE_BYTES_MAX * 8;
        let first = bytes.iter().fold(0, |sum, byte| sum ^ usize::from(*byte)) % stride;
        for at in (first..bytes.len()).step_by(stride) {
            same(&[&bytes[..at], &bytes[at..]]);
        }
    }
}

/// What was seen, and what is left: whether a further request would be read.
fn outcome(mut client: Client, pieces: &[&[u8]]) -> (Vec<Seen>, bool) {
    #[cfg(debug_assertions)]
    let scanned_before = boxoffice::http::parse::bytes_scanned();
    for piece in pieces {
        client.send(piece);
        client.flush();
    }
    #[cfg(debug_assertions)]
    {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let scanned = boxoffice::http::parse::bytes_scanned() - scanned_before;
        // Once for the end of a head, once to read it, and once more where its body came apart from it.
        assert!(scanned <= 3 * bytes, "{scanned} bytes of work for {bytes}");
    }
    assert_eq!(client.answers(false), client.service.seen.len(), "each is answered");
    let refusals = client.service.seen.iter().filter(|seen| seen.is_refusal()).count();
    let last_is_refusal = client.service.seen.last().is_some_and(Seen::is_refusal);
    assert_eq!(refusals, usize::from(last_is_refusal), "nothing is read behind what was refused");
    let is_open = client.connection.close_state() == CloseState::Open;
    assert!(!(is_open && last_is_refusal));
    client.end();
    client.flush();
    assert_eq!(
        client.connection.close_state(),
        CloseState::Closed,
        "a client that has ended is owed nothing"
    );
    assert_eq!(client.pool.lent_bytes(), 0, "all buffers are back");
    (client.service.seen, is_open)
}
