//! Random bytes and random fragmentation. A failing case prints the input that replays it.

use proptest::prelude::*;

use super::table::{outcome, statuses};
use super::*;

/// Pieces of requests, right and wrong, from which streams are made.
const PIECES: &[&[u8]] = &[
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /c?d HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"3\r\nabc\r\n",
    b"a;x=\"y\"\r\n0123456789\r\n",
    b"0\r\n\r\n",
    b"0\r\nT: v\r\n\r\n",
    b"\r\n",
    b"\n",
    b"\0",
    b"GET ",
    b"/a",
    b" HTTP/1.1\r\n",
    b"Host: h\r\n",
    b"Connection: close\r\n",
    b"Content-Length: 4\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b": ",
    b"x",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => (0..7_usize).prop_map(|at| PIECES[at].to_vec()),
        4 => (0..PIECES.len()).prop_map(|at| PIECES[at].to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Cuts `bytes` at the given places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    places.insert(0, 0);
    places.push(bytes.len());
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fragmentation_never_changes_the_outcome(
        bytes in stream(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut whole = Bench::new();
        whole.send(&bytes);
        let mut pieces = Bench::new();
        cut(&bytes, &places).into_iter().for_each(|piece| pieces.send(piece));
        prop_assert_eq!(outcome(&pieces), outcome(&whole));
    }

    #[test]
    fn whatever_comes_there_is_at_most_one_refusal_and_it_is_the_last_answer(
        bytes in prop_oneof![stream(), prop::collection::vec(any::<u8>(), 0..400)],
        end in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        bench.send(&bytes);
        if end {
            bench.end();
        }
        let refusals = bench.mirror.seen.iter().filter(|seen| seen.starts_with('!')).count();
        prop_assert!(refusals <= 1);
        if refusals == 1 {
            prop_assert!(bench.mirror.seen.last().unwrap().starts_with('!'));
            prop_assert!(bench.connection.fate() != Fate::Open);
            prop_assert!(*statuses(&bench.written).last().unwrap() >= 400);
        }
        prop_assert_eq!(statuses(&bench.written).len(), bench.mirror.seen.len());
    }
}
