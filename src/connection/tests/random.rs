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

/// What may happen to a connection, as the engine and its client make it happen.
#[derive(Clone, Debug)]
enum Step {
    /// The client sends so many requests of a kind: answered at once, later, or later and alone.
    Ask {
        count: usize,
        way: &'static str,
    },
    /// The client sends the beginning of a request; the rest comes with its next bytes.
    AskHalf,
    /// The service answers one of those put off.
    Answer(prop::sample::Index),
    /// The kernel takes so much of the output.
    Write(usize),
    Resume,
    /// The next deadline passes.
    Expire,
    Drain,
    End,
}

const WAYS: [&str; 3] = ["now", "later", "alone"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..70_usize, 0..3_usize).prop_map(|(count, way)| Step::Ask { count, way: WAYS[way] }),
        4 => Just(Step::AskHalf),
        8 => any::<prop::sample::Index>().prop_map(Step::Answer),
        8 => (1..20_000_usize).prop_map(Step::Write),
        8 => Just(Step::Resume),
        1 => Just(Step::Expire),
        1 => Just(Step::Drain),
        1 => Just(Step::End),
    ]
}

/// Limits of all sizes, the defaults among them.
fn limits() -> impl Strategy<Value = ClientLimits> {
    let sizes = (
        prop_oneof![Just(128_usize), 1..6_usize],
        prop_oneof![Just(256 * 1024_usize), 1_024..3_000_usize],
        prop_oneof![Just(0_u32), 1..100_u32],
        prop_oneof![Just(1_usize << 28), (400 << 10)..(2_usize << 20)],
    );
    let times = [100..20_000_u64, 100..20_000, 100..20_000, 100..20_000, 100..4_000];
    (sizes, times).prop_map(|((pipeline, unsent_bytes, requests, buffered_bytes), times)| {
        let mut limits = ClientLimits { pipeline, unsent_bytes, requests, ..ClientLimits::default() };
        [
            limits.head_time_ms,
            limits.body_time_ms,
            limits.idle_time_ms,
            limits.write_stall_ms,
            limits.linger_ms,
        ] = times;
        // No less than what goes together with the others.
        let least = 4 * (limits.head_bytes + limits.body_bytes + limits.unsent_bytes);
        limits.buffered_bytes = buffered_bytes.max(least);
        limits
    })
}

/// A client that numbers its requests, and the half of one that it still owes.
#[derive(Default)]
struct Client {
    asked: usize,
    owed: Vec<u8>,
}

impl Client {
    fn request(&mut self, way: &str) -> Vec<u8> {
        self.asked += 1;
        format!("GET /{way}/{} HTTP/1.1\r\nHost: h\r\n\r\n", self.asked - 1).into_bytes()
    }
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
        let refusals = bench.mirror.seen.iter().filter(|seen| seen.starts_with('?')).count();
        prop_assert!(refusals <= 1);
        if refusals == 1 {
            prop_assert!(bench.mirror.seen.last().unwrap().starts_with('?'));
            prop_assert!(bench.connection.close_state() != CloseState::Open);
            prop_assert!(*statuses(&bench.written).last().unwrap() >= 400);
        }
        prop_assert_eq!(statuses(&bench.written).len(), bench.mirror.seen.len());
    }

    #[test]
    fn answers_keep_their_order_and_connections_end_whatever_happens(
        steps in prop::collection::vec(step(), 0..60),
        limits in limits(),
    ) {
        let mut bench = Bench::with_limits(&limits);
        let mut client = Client::default();
        let (mut is_cut, mut has_ended) = (false, false);
        for step in steps {
            match step {
                Step::Ask { .. } | Step::AskHalf if has_ended || !bench.connection.wants_read() => {}
                Step::Ask { count, way } => {
                    let mut bytes = std::mem::take(&mut client.owed);
                    (0..count).for_each(|_| bytes.extend(client.request(way)));
                    bench.with(|connection, turn, mirror| connection.handle_bytes(&bytes, turn, mirror));
                }
                Step::AskHalf => {
                    let mut bytes = std::mem::take(&mut client.owed);
                    bytes.extend(client.request("later"));
                    client.owed = bytes.split_off(bytes.len() - 9);
                    bench.with(|connection, turn, mirror| connection.handle_bytes(&bytes, turn, mirror));
                }
                Step::Answer(index) => {
                    if !bench.mirror.waiting.is_empty() {
                        let (pending, body) = bench.mirror.waiting.remove(index.index(bench.mirror.waiting.len()));
                        let _ = bench.with(|connection, turn, _| {
                            connection.reply(pending, turn).map(|reply| reply.send(&ok(body.as_bytes())))
                        });
                    }
                }
                Step::Write(bytes) => {
                    let bytes = bytes.min(bench.connection.output().len());
                    bench.written.extend_from_slice(&bench.connection.output()[..bytes]);
                    bench.with(|connection, turn, _| connection.handle_written(bytes, turn));
                }
                Step::Resume => bench.with(|connection, turn, mirror| connection.resume(turn, mirror)),
                Step::Expire => {
                    if let Some(deadline) = bench.connection.deadline() {
                        bench.now = bench.now.max(deadline);
                        let cut = bench.with(|connection, turn, mirror| connection.handle_deadline(turn, mirror));
                        is_cut |= matches!(cut, Some(CutReason::Stalled));
                    }
                }
                Step::Drain => bench.with(|connection, turn, _| connection.drain(turn)),
                Step::End => {
                    has_ended = true;
                    bench.with(|connection, turn, _| connection.handle_end(turn));
                }
            }
        }
        bench.flush();
        while !bench.mirror.waiting.is_empty() {
            bench.answer(0);
        }
        if !is_cut {
            let seen: Vec<_> = bench.mirror.seen.iter().filter(|seen| !seen.starts_with('?')).collect();
            let text = String::from_utf8(bench.written.clone()).unwrap();
            let answered: Vec<_> = text.split("GET /").skip(1).map(|rest| rest.split(' ').next().unwrap()).collect();
            let expected: Vec<_> = seen.iter().map(|seen| seen.trim_start_matches("GET /").trim_end()).collect();
            prop_assert_eq!(answered, expected);
            let refusals = bench.mirror.seen.len() - seen.len();
            prop_assert_eq!(statuses(&bench.written).len(), seen.len() + refusals);
        }
        if limits.requests > 0 {
            let served = bench.mirror.seen.iter().filter(|seen| !seen.starts_with('?')).count();
            prop_assert!(served <= limits.requests as usize);
        }
        // Left alone, it ends.
        for _ in 0..4 {
            if bench.connection.deadline().is_some() {
                bench.expire();
            }
        }
        prop_assert_eq!(bench.connection.close_state(), CloseState::Closed);
    }
}
