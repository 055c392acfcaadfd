//! Order of answers, back pressure, clocks, and how connections end.

use super::table::statuses;
use super::*;
use crate::http::parse::bytes_scanned;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const LATER: &[u8] = b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n";

/// `count` put-off requests, each with its number in the path.
fn numbered(count: usize) -> Vec<u8> {
    (0..count).map(|n| format!("GET /later/{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect::<String>().into_bytes()
}

/// The numbers in the bodies of the answers, in their order.
fn numbers(written: &[u8]) -> Vec<usize> {
    let text = std::str::from_utf8(written).unwrap();
    text.split("GET /later/").skip(1).map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_connection_is_small_and_owns_no_heap_when_idle() {
    assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
    assert!(size_of::<PendingReply>() <= 8);
    let mut bench = Bench::new();
    let chunked = "POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for piece in
        [GET, b"\r\n", &GET[..9], &GET[9..], LATER, GET, chunked.as_bytes(), &chunked.as_bytes()[..66]]
    {
        bench.send(piece);
    }
    bench.send(&chunked.as_bytes()[66..]);
    bench.answer(0);
    assert!(bench.connection.is_idle());
    let connection = &bench.connection;
    assert_eq!(
        (connection.input.capacity(), connection.output.capacity(), connection.held.capacity()),
        (0, 0, 0)
    );
    assert_eq!(statuses(&bench.written).len(), 6);
}

#[test]
fn a_dribbling_client_costs_a_small_buffer_and_no_more_work_than_a_quick_one() {
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(90));
    let before = bytes_scanned();
    let mut bench = Bench::new();
    for byte in head.as_bytes().chunks(1) {
        bench.send(byte);
        assert!(bench.connection.input.capacity() <= 1024);
    }
    assert_eq!(statuses(&bench.written), [200]);
    assert_eq!(bytes_scanned() - before, 2 * head.len(), "once to find the end, once to parse");

    let long = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "b".repeat(16_000));
    let before = bytes_scanned();
    long.as_bytes().chunks(1).for_each(|byte| bench.send(byte));
    assert_eq!(statuses(&bench.written), [200, 200]);
    assert_eq!(bytes_scanned() - before, 2 * long.len());

    let body = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n{}", "x".repeat(9_000));
    let head_bytes = body.len() - 9_000;
    let before = bytes_scanned();
    body.as_bytes().chunks(1).for_each(|byte| bench.send(byte));
    assert_eq!(statuses(&bench.written), [200, 200, 200]);
    assert_eq!(bytes_scanned() - before, 3 * head_bytes, "a gathered request's head is parsed twice");
}

#[test]
fn a_pipeline_of_hundreds_is_answered_in_order_whatever_the_order_of_answers() {
    for pick in [|_| 0, |left| left - 1, |left| left / 2, |left: usize| (left * 7 + 3) % left] {
        let mut bench = Bench::new();
        bench.send(&numbered(200));
        assert_eq!(bench.mirror.waiting.len(), limits::PIPELINE_DEPTH_MAX);
        assert!(!bench.connection.wants_read());
        while !bench.mirror.waiting.is_empty() {
            bench.answer(pick(bench.mirror.waiting.len()));
        }
        assert_eq!(numbers(&bench.written), (0..200).collect::<Vec<_>>());
        assert!(bench.connection.is_idle() && bench.connection.wants_read());
    }
}

#[test]
fn a_small_remainder_does_not_keep_a_large_buffer() {
    let mut bench = Bench::new();
    bench.send(&GET[..9]);
    bench.send(&[&GET[9..], &GET.repeat(1_000), &GET[..9]].concat());
    assert_eq!(statuses(&bench.written).len(), 1_001);
    assert!(bench.connection.input.capacity() <= 1024, "{}", bench.connection.input.capacity());
    bench.send(&GET[9..]);
    assert_eq!(statuses(&bench.written).len(), 1_002);
}

#[test]
fn sequence_numbers_wrap() {
    let mut bench = Bench::new();
    (bench.connection.next_request, bench.connection.next_answer) = (u32::MAX - 1, u32::MAX - 1);
    bench.send(&numbered(5));
    [4, 1, 1, 1, 0].into_iter().for_each(|index| bench.answer(index));
    assert_eq!(numbers(&bench.written), [0, 1, 2, 3, 4]);
}

#[test]
fn many_answers_leave_in_one_write() {
    let mut bench = Bench::new();
    bench.with(|connection, turn, mirror| connection.handle_bytes(&GET.repeat(300), turn, mirror));
    assert_eq!(statuses(bench.connection.output()).len(), 300);
}

#[test]
fn an_early_answer_waits_for_its_turn() {
    let mut bench = Bench::new();
    bench.send(&[LATER, GET].concat());
    assert!(bench.written.is_empty() && bench.connection.deadline().is_none());
    bench.answer(0);
    assert_eq!(statuses(&bench.written), [200, 200]);
    let first = memchr::memmem::find(&bench.written, b"GET /later").unwrap();
    assert!(first < memchr::memmem::find(&bench.written, b"GET /a").unwrap());
}

#[test]
fn what_changes_something_is_begun_in_the_order_of_the_connection() {
    const ALONE: &[u8] = b"DELETE /alone HTTP/1.1\r\nHost: h\r\n\r\n";
    const POST: &[u8] = b"POST /follow HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
    let mut bench = Bench::new();
    bench.send(&[LATER, LATER, ALONE, ALONE, GET, LATER, POST, GET].concat());
    let begun = |bench: &Bench| bench.mirror.seen.len();
    assert_eq!(begun(&bench), 2, "what only looks goes on beside each other; what changes waits for both");
    assert!(!bench.connection.wants_read() && bench.connection.deadline().is_none());
    bench.answer(1);
    assert_eq!(begun(&bench), 2, "the first is not answered");
    bench.answer(0);
    assert_eq!(begun(&bench), 3);
    bench.answer(0);
    assert_eq!(begun(&bench), 4, "the second change alone");
    assert!(!bench.connection.wants_read());
    bench.answer(0);
    assert_eq!(begun(&bench), 6, "the reads behind it; a POST waits for them, though it is answered at once");
    bench.answer(0);
    assert_eq!(begun(&bench), 8);
    assert_eq!(statuses(&bench.written), [200; 8]);
    assert!(bench.connection.is_idle() && bench.connection.wants_read());
    // Nothing waits: what is answered at once holds up nobody.
    bench.send(&[POST, GET, POST, LATER, GET].concat());
    assert_eq!(begun(&bench), 13);
    assert_eq!(bench.mirror.noted, [], "no limit was met");
}

#[test]
fn the_body_of_what_waits_for_its_turn_is_not_asked_for() {
    let head = b"PUT /alone HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let chunked = b"PUT /alone HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let mut bench = Bench::new();
    bench.send(&[LATER, head].concat());
    assert!(bench.written.is_empty() && !bench.connection.wants_read());
    bench.answer(0);
    assert!(bench.written.ends_with(encode::CONTINUE) && bench.connection.wants_read());
    bench.send(&[b"hi", LATER, chunked, GET].concat());
    assert_eq!(bench.mirror.seen, ["GET /later ", "PUT /alone hi"]);
    bench.answer(0);
    bench.answer(0);
    assert_eq!(bench.mirror.seen[2..], ["GET /later ", "PUT /alone hi"]);
    // A client that has ended its side is answered all the same.
    bench.with(|connection, turn, _| connection.handle_end(turn));
    bench.answer(0);
    assert_eq!(bench.mirror.seen.len(), 5);
    assert_eq!(bench.connection.close_state(), CloseState::Closed);
}

#[test]
fn an_error_waits_for_the_answers_before_it() {
    let mut bench = Bench::new();
    bench.send(&[LATER, b"nonsense\n", GET].concat());
    assert!(bench.written.is_empty());
    bench.send(GET);
    bench.answer(0);
    assert_eq!(statuses(&bench.written), [200, 400]);
    assert_eq!(bench.mirror.seen.len(), 2);
    assert!(bench.written.windows(17).filter(|it| it == b"Connection: close").count() == 1);
    assert_eq!(bench.connection.close_state(), CloseState::Linger);
}

#[test]
fn a_client_that_does_not_read_is_not_read() {
    let mut bench = Bench::new();
    let many = GET.repeat(3_000);
    bench.with(|connection, turn, mirror| connection.handle_bytes(&many, turn, mirror));
    let unsent = bench.connection.output().len();
    assert!((limits::UNSENT_BYTES_MAX..limits::UNSENT_BYTES_MAX + 512).contains(&unsent));
    assert!(!bench.connection.wants_read() && !bench.connection.wants_resume());
    bench.with(|connection, turn, _| connection.handle_written(300, turn));
    assert!(bench.connection.wants_resume());
    let before = bench.mirror.seen.len();
    bench.with(|connection, turn, mirror| connection.resume(turn, mirror));
    assert!(bench.mirror.seen.len() > before && bench.mirror.seen.len() < 3_000);
    bench.flush();
    assert_eq!(bench.mirror.seen.len(), 3_000);
    assert!(bench.connection.is_idle() && bench.connection.wants_read());
}

#[test]
fn what_is_not_read_takes_a_buffer_of_its_size() {
    let mut bench = Bench::new();
    bench.with(|connection, turn, mirror| connection.handle_bytes(&GET.repeat(3_000), turn, mirror));
    assert_eq!(bench.connection.unread_bytes(), 0, "nobody has tried to write it");
    assert_eq!(bench.connection.output.capacity(), 64 * 1024);
    // Read slowly and filled up again: it stays as large.
    while bench.mirror.seen.len() < 3_000 {
        bench.with(|connection, turn, _| connection.handle_written(300, turn));
        bench.with(|connection, turn, mirror| connection.resume(turn, mirror));
        assert!(bench.connection.output.capacity() <= 64 * 1024);
        assert_eq!(bench.connection.unread_bytes(), bench.connection.buffered_bytes());
    }
    // The last of it is written: the buffer shrinks with it.
    while bench.connection.output().len() > 500 {
        let rest = bench.connection.output().len() - 300;
        bench.with(|connection, turn, _| connection.handle_written(300, turn));
        assert!(bench.connection.output.capacity() <= (rest * 16).next_power_of_two(), "{rest}");
    }
    assert_eq!(bench.connection.output.capacity(), 1024);
    bench.flush();
    assert_eq!(bench.connection.unread_bytes(), 0);
}

#[test]
fn head_is_answered_without_a_body_and_the_next_answer_follows() {
    let mut bench = Bench::new();
    bench.send(&[b"HEAD /later HTTP/1.1\r\nHost: h\r\n\r\n", GET].concat());
    bench.answer(0);
    let text = String::from_utf8(bench.written).unwrap();
    assert!(text.contains("Content-Length: 12\r\n\r\nHTTP/1.1 200 OK\r\n"), "{text}");
}

#[test]
fn the_connection_field_is_said_where_it_must_be() {
    let connection_field = |bytes: &[u8]| {
        let mut bench = Bench::new();
        bench.send(bytes);
        let text = String::from_utf8(bench.written).unwrap();
        text.lines().find(|line| line.starts_with("Connection")).unwrap_or_default().to_owned()
    };
    assert_eq!(connection_field(GET), "");
    assert_eq!(
        connection_field(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
        "Connection: close"
    );
    assert_eq!(connection_field(b"GET / HTTP/1.0\r\n\r\n"), "Connection: close");
    assert_eq!(
        connection_field(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
        "Connection: keep-alive"
    );
    assert_eq!(connection_field(b"x\n"), "Connection: close");
}

#[test]
fn continue_is_sent_once_and_in_its_turn() {
    let head = b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let chunked =
        b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (head, body) in [(&head[..], &b"hi"[..]), (chunked, b"2\r\nhi\r\n0\r\n\r\n")] {
        let mut bench = Bench::new();
        bench.send(head);
        assert_eq!(bench.written, encode::CONTINUE);
        bench.send(&body[..1]);
        bench.send(&body[1..]);
        assert_eq!(bench.written.windows(12).filter(|it| it == b"HTTP/1.1 100").count(), 1);
        assert_eq!(statuses(&bench.written), [200]);

        // The body is there already: nobody waits.
        let mut bench = Bench::new();
        bench.send(&[head, body].concat());
        assert!(bench.written.starts_with(b"HTTP/1.1 200"));

        // An answer before it is still due.
        let mut bench = Bench::new();
        bench.send(&[LATER, head].concat());
        assert!(bench.written.is_empty());
        bench.answer(0);
        assert!(bench.written.ends_with(encode::CONTINUE));

        // The body came before its turn: no more use for it.
        let mut bench = Bench::new();
        bench.send(&[LATER, head].concat());
        bench.send(body);
        bench.answer(0);
        assert_eq!(bench.written.windows(12).filter(|it| it == b"HTTP/1.1 100").count(), 0);
        assert_eq!(statuses(&bench.written), [200, 200]);

        // Refused at the head: the final answer comes instead.
        let mut bench = Bench::new();
        bench
            .send(b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
        assert!(bench.written.starts_with(b"HTTP/1.1 413"));
    }
}

#[test]
fn a_begun_request_has_a_limit_in_total_and_is_told_so() {
    let head = b"HEAD / HTTP/1.1\r\nHost";
    let mut bench = Bench::new();
    bench.now = Monotonic(5_000_000_000);
    bench.send(GET);
    bench.written.clear();
    bench.mirror.seen.clear();
    for byte in head.chunks(1) {
        bench.send(byte);
        bench.now = bench.now.plus_ms(400);
        assert_eq!(bench.connection.deadline(), Some(Monotonic(15_000_000_000)), "in total, not per read");
    }
    assert_eq!(bench.expire(), None);
    assert_eq!(bench.mirror.seen, ["?head-timeout"]);
    assert_eq!(statuses(&bench.written), [408]);
    assert_eq!(bench.connection.close_state(), CloseState::Linger);
    assert_eq!(bench.expire(), Some(CutReason::Lingered));
    assert_eq!(bench.connection.close_state(), CloseState::Closed);

    for framing in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let mut bench = Bench::new();
        bench.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n").as_bytes());
        let deadline = bench.connection.deadline();
        assert_eq!(deadline, Some(Monotonic::default().plus_ms(limits::BODY_TIMEOUT_MS)));
        bench.now = Monotonic::default().plus_ms(9_000);
        bench.send(b"1");
        assert_eq!(bench.connection.deadline(), deadline);
        assert_eq!(bench.expire(), None);
        assert_eq!(bench.mirror.seen, ["?body-timeout"]);
    }
}

#[test]
fn the_first_head_has_its_time_from_the_connection_s_beginning() {
    let ten_seconds = Some(Monotonic(10_000_000_000));
    let mut bench = Bench::new();
    assert_eq!(bench.connection.deadline(), ten_seconds);
    bench.now = Monotonic(9_000_000_000);
    bench.send(b"\r\n");
    assert_eq!(bench.connection.deadline(), ten_seconds, "an empty line is no request");
    assert_eq!(
        (bench.expire(), bench.connection.close_state()),
        (Some(CutReason::Unasked), CloseState::Closed)
    );
    assert!(bench.written.is_empty(), "nobody asked");

    let mut bench = Bench::new();
    bench.now = Monotonic(9_000_000_000);
    bench.send(b"GET / HT");
    assert_eq!(bench.connection.deadline(), ten_seconds, "silence before the first byte buys no time");
    assert_eq!((bench.expire(), &bench.mirror.seen[..]), (None, &["?head-timeout".to_owned()][..]));

    let mut bench = Bench::new();
    bench.now = Monotonic(9_000_000_000);
    bench.send(GET);
    bench.send(b"GET / HT");
    assert_eq!(
        bench.connection.deadline(),
        Some(Monotonic(19_000_000_000)),
        "the second from its first byte on"
    );
}

#[test]
fn an_idle_connection_closes_in_silence() {
    let mut bench = Bench::new();
    bench.send(GET);
    assert_eq!(bench.connection.deadline(), Some(Monotonic(75_000_000_000)));
    bench.now = Monotonic(30_000_000_000);
    bench.send(b"\r\n");
    assert_eq!(bench.connection.deadline(), Some(Monotonic(75_000_000_000)), "an empty line buys no time");
    bench.send(GET);
    bench.written.clear();
    assert_eq!(bench.connection.deadline(), Some(Monotonic(105_000_000_000)));
    assert_eq!(bench.expire(), Some(CutReason::Idle));
    assert!(bench.written.is_empty());
    assert_eq!(bench.connection.close_state(), CloseState::Closed);
}

#[test]
fn a_client_that_never_reads_is_dropped_and_one_that_reads_slowly_is_not() {
    let mut bench = Bench::new();
    bench.with(|connection, turn, mirror| connection.handle_bytes(GET, turn, mirror));
    assert_eq!(bench.connection.deadline(), Some(Monotonic(10_000_000_000)));
    bench.now = Monotonic(9_000_000_000);
    bench.with(|connection, turn, _| connection.handle_written(1, turn));
    assert_eq!(bench.connection.deadline(), Some(Monotonic(19_000_000_000)));
    bench.now = bench.connection.deadline().unwrap();
    let cut = bench.with(|connection, turn, mirror| connection.handle_deadline(turn, mirror));
    assert_eq!((cut, bench.connection.close_state()), (Some(CutReason::Stalled), CloseState::Closed));
    assert!(bench.connection.output().is_empty());
}

#[test]
fn a_connection_that_is_cut_owes_no_continue() {
    let mut bench = Bench::new();
    let post = b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let asked = [GET, LATER, post].concat();
    bench.with(|connection, turn, mirror| connection.handle_bytes(&asked, turn, mirror));
    assert!(bench.connection.continue_due, "it is due behind what was put off");
    bench.now = bench.connection.deadline().unwrap();
    let cut = bench.with(|connection, turn, mirror| connection.handle_deadline(turn, mirror));
    assert_eq!((cut, bench.connection.continue_due), (Some(CutReason::Stalled), false));
}

#[test]
fn no_clock_runs_while_the_server_keeps_the_client_waiting() {
    let mut bench = Bench::new();
    bench.send(LATER);
    assert_eq!(bench.connection.deadline(), None);
    bench.now = Monotonic(1_000_000_000_000);
    bench.answer(0);
    assert_eq!(bench.connection.deadline(), Some(bench.now.plus_ms(limits::IDLE_TIMEOUT_MS)));
    let cut = bench.with(|connection, turn, mirror| connection.handle_deadline(turn, mirror));
    assert_eq!(cut, None);
    assert!(bench.connection.is_idle());

    // A parked head, too, is not the client's fault.
    let mut bench = Bench::new();
    bench.send(&[&numbered(limits::PIPELINE_DEPTH_MAX)[..], b"GET"].concat());
    assert_eq!(bench.connection.deadline(), None);
    bench.now = Monotonic(50_000_000_000);
    bench.answer(0);
    assert_eq!(bench.connection.deadline(), Some(bench.now.plus_ms(limits::HEAD_TIMEOUT_MS)));
}

#[test]
fn a_half_closed_client_is_still_answered() {
    let mut bench = Bench::new();
    bench.send(&[LATER, GET, b"GET /half"].concat());
    bench.end();
    assert_eq!(bench.connection.close_state(), CloseState::Open);
    bench.answer(0);
    assert_eq!(statuses(&bench.written), [200, 200]);
    assert_eq!(bench.connection.close_state(), CloseState::Closed);

    // Requests behind back pressure were asked, too.
    let mut bench = Bench::new();
    bench.send(&numbered(200));
    bench.end();
    while !bench.mirror.waiting.is_empty() {
        bench.answer(0);
    }
    assert_eq!(numbers(&bench.written).len(), 200);
    assert_eq!(bench.connection.close_state(), CloseState::Closed);

    let mut bench = Bench::new();
    bench.end();
    assert_eq!(bench.connection.close_state(), CloseState::Closed);
}

#[test]
fn a_refused_upload_can_read_its_answer() {
    let mut bench = Bench::new();
    bench.send(b"PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999\r\n\r\n");
    assert_eq!(statuses(&bench.written), [413]);
    for _ in 0..100 {
        assert_eq!(bench.connection.close_state(), CloseState::Linger);
        assert!(bench.connection.wants_read());
        bench.send(&[b'x'; 1000]);
        bench.send(GET);
    }
    assert_eq!(bench.mirror.seen, ["?body-too-large"]);
    assert_eq!(bench.connection.deadline(), Some(Monotonic::default().plus_ms(limits::LINGER_TIMEOUT_MS)));
    bench.end();
    assert_eq!(bench.connection.close_state(), CloseState::Closed);
}

#[test]
fn a_client_that_asked_to_close_is_closed_without_lingering() {
    let close = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let mut bench = Bench::new();
    bench.send(close);
    assert_eq!(bench.connection.close_state(), CloseState::Closed);
    let mut bench = Bench::new();
    bench.send(&[&close[..], b"more"].concat());
    assert_eq!(bench.connection.close_state(), CloseState::Linger);
}

#[test]
fn draining_answers_what_was_asked_and_says_close() {
    let drain = |bench: &mut Bench| {
        bench.with(|connection, turn, _| connection.drain(turn));
        bench.flush();
    };
    // Idle, after an answer.
    let mut bench = Bench::new();
    bench.send(GET);
    drain(&mut bench);
    assert_eq!(bench.connection.close_state(), CloseState::Linger);

    // Just connected: its first request is answered, and none after it.
    let mut bench = Bench::new();
    drain(&mut bench);
    assert_eq!(bench.connection.close_state(), CloseState::Open);
    bench.send(&[GET, GET].concat());
    assert_eq!(statuses(&bench.written), [200]);
    assert!(String::from_utf8(bench.written.clone()).unwrap().contains("Connection: close"));
    assert_eq!(bench.connection.close_state(), CloseState::Linger);

    // One that asks nothing even then.
    let mut bench = Bench::new();
    drain(&mut bench);
    assert_eq!(bench.connection.deadline(), Some(bench.now.plus_ms(limits::DRAIN_UNASKED_MS)));
    bench.now = bench.now.plus_ms(limits::DRAIN_UNASKED_MS);
    let cut = bench.with(|connection, turn, mirror| connection.handle_deadline(turn, mirror));
    assert_eq!((cut, bench.connection.close_state()), (Some(CutReason::Unasked), CloseState::Closed));

    // Waiting for two answers: the second says so.
    let mut bench = Bench::new();
    bench.send(&[LATER, LATER].concat());
    drain(&mut bench);
    bench.send(GET);
    bench.answer(1);
    bench.answer(0);
    let text = String::from_utf8(bench.written.clone()).unwrap();
    assert_eq!(statuses(&bench.written), [200, 200]);
    assert!(text.rfind("Connection: close").unwrap() > text.rfind("HTTP/1.1 200").unwrap());
    assert_eq!(text.matches("Connection: close").count(), 1);
    assert_eq!(bench.connection.close_state(), CloseState::Linger);

    // Half a request: it may end.
    let mut bench = Bench::new();
    bench.send(&GET[..7]);
    drain(&mut bench);
    assert_eq!(bench.connection.close_state(), CloseState::Open);
    bench.send(&GET[7..]);
    assert!(String::from_utf8(bench.written.clone()).unwrap().contains("Connection: close"));
    assert_eq!(bench.connection.close_state(), CloseState::Linger);
}

#[test]
fn a_late_answer_to_a_closed_connection_is_dropped() {
    let mut bench = Bench::new();
    bench.send(LATER);
    bench.with(|connection, turn, _| connection.close(turn.pool));
    bench.answer(0);
    assert!(bench.written.is_empty() && bench.connection.output().is_empty());
    assert_eq!(bench.connection.deadline(), None);
}

#[test]
fn an_exchange_of_another_connection_is_not_answered_here() {
    let mut one = Bench::new();
    one.send(&[LATER, LATER].concat());
    let mut other = Bench::new();
    other.send(LATER);
    let (stray, _) = one.mirror.waiting.remove(1);
    assert!(other.with(|connection, turn, _| connection.reply(stray, turn).is_none()));
}

/// Limits unlike the defaults.
fn small() -> ClientLimits {
    ClientLimits {
        target_bytes: 300,
        head_bytes: 1_100,
        fields: 8,
        body_bytes: 600,
        chunk_overhead_bytes: 10,
        head_time_ms: 300,
        body_time_ms: 400,
        idle_time_ms: 500,
        write_stall_ms: 600,
        linger_ms: 700,
        requests: 3,
        pipeline: 2,
        unsent_bytes: 2_000,
        buffered_bytes: 64 * 1024,
        ..ClientLimits::default()
    }
}

#[test]
fn sizes_are_bounded_as_configured() {
    let chunked =
        |body: &str| format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let sized = |bytes: usize| {
        format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes))
    };
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(bytes - 1));
    let head = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: h\r\nA: ";
        format!("{start}{}\r\n\r\n", "b".repeat(bytes - start.len() - 4))
    };
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    for (most, more, refusal) in [
        (target(300), target(301), "?target-too-long"),
        (head(1_100), head(1_101), "?head-too-large"),
        (fields(8), fields(9), "?too-many-fields"),
        (sized(600), sized(601), "?body-too-large"),
        (chunked(&format!("258\r\n{}\r\n0\r\n\r\n", "x".repeat(600))), chunked("259\r\n"), "?body-too-large"),
        (chunked("0;12345678=\r\n")[..58].to_owned(), chunked("0;1234567890=\r\n"), "?chunk-overhead"),
    ] {
        for step in [1, 7, 5_000] {
            let mut bench = Bench::with_limits(&small());
            most.as_bytes().chunks(step).for_each(|piece| bench.send(piece));
            assert!(!bench.mirror.seen.iter().any(|seen| seen.starts_with('?')), "{:?}", bench.mirror.seen);
            let mut bench = Bench::with_limits(&small());
            more.as_bytes().chunks(step).for_each(|piece| bench.send(piece));
            assert_eq!(bench.mirror.seen, [refusal]);
        }
    }
}

#[test]
fn times_are_bounded_as_configured() {
    let after = |bytes: &[u8], flush: bool| {
        let mut bench = Bench::with_limits(&small());
        bench.with(|connection, turn, mirror| connection.handle_bytes(bytes, turn, mirror));
        if flush {
            bench.flush();
        }
        let ms = bench.connection.deadline().unwrap().0 / 1_000_000;
        let cut = bench.expire();
        (ms, cut, bench.mirror.seen.last().cloned().unwrap_or_default())
    };
    assert_eq!(after(b"GET", true), (300, None, "?head-timeout".to_owned()));
    let half = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n1";
    assert_eq!(after(half, true), (400, None, "?body-timeout".to_owned()));
    assert_eq!(after(b"", true), (300, Some(CutReason::Unasked), String::new()));
    assert_eq!(after(GET, true).1, Some(CutReason::Idle));
    assert_eq!(after(GET, true).0, 500);
    assert_eq!(after(GET, false), (600, Some(CutReason::Stalled), "GET /a ".to_owned()));
    assert_eq!(after(b"\n", true), (700, Some(CutReason::Lingered), "?bare-line-feed".to_owned()));
}

#[test]
fn the_last_request_of_a_connection_is_told_so() {
    let mut bench = Bench::with_limits(&small());
    bench.send(&[LATER, &GET.repeat(4)].concat());
    assert_eq!(bench.mirror.noted, [Limit::Pipeline]);
    bench.answer(0);
    assert_eq!(bench.mirror.noted, [Limit::Pipeline, Limit::Requests]);
    let text = String::from_utf8(bench.written.clone()).unwrap();
    assert_eq!((statuses(&bench.written).len(), text.matches("Connection: close").count()), (3, 1));
    assert!(text.rfind("HTTP/1.1 200") < text.find("Connection: close"));
    assert_eq!(
        bench.connection.close_state(),
        CloseState::Linger,
        "the client has sent more: its answers must not be lost"
    );

    // Any number, past the end of the sequence numbers too.
    let mut bench = Bench::with_limits(&ClientLimits { requests: 0, ..small() });
    (bench.connection.next_request, bench.connection.next_answer) = (u32::MAX - 1, u32::MAX - 1);
    (0..5).for_each(|_| bench.send(GET));
    assert_eq!((statuses(&bench.written).len(), bench.connection.close_state()), (5, CloseState::Open));
}

#[test]
fn where_the_core_has_no_room_a_half_request_is_refused_and_a_whole_one_too() {
    let chunked = b"HEAD /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    // Others hold all but three kilobytes of it.
    let with_others = || {
        let mut bench = Bench::with_limits(&small());
        let mut others = Vec::new();
        while bench.pool.lent_bytes() < 61 * 1024 {
            others.push(bench.pool.take(1));
        }
        bench
    };
    let refused = |bench: &mut Bench, pieces: &[&[u8]]| {
        for bytes in pieces {
            let mut turn =
                Turn { now: bench.now, date: &bench.date, pool: &mut bench.pool, is_parting: false };
            bench.connection.handle_bytes(bytes, &mut turn, &mut bench.mirror);
            bench.connection.check_invariants();
        }
        assert_eq!(bench.connection.input.capacity(), 0);
        assert_eq!(bench.mirror.seen.last().unwrap(), "?overloaded");
        assert!(bench.connection.output().starts_with(b"HTTP/1.1 503"));
        bench.connection.output().to_vec()
    };
    // A head that needs more than a kilobyte.
    refused(&mut with_others(), &[b"GET /", &[b'a'; 1_030]]);
    // A body: by its own bytes, and by those of its head.
    refused(
        &mut with_others(),
        &[b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\nA:", &[b' '; 1_000], b"\r\n\r\n"],
    );
    refused(&mut with_others(), &[chunked, b"258\r\n", &[b'x'; 590], b"0123456789\r\n", &[b' '; 700]]);
    // Whoever refuses knows that it was HEAD.
    let answer = refused(&mut with_others(), &[&chunked[..], b"1", &[b'0'; 1_000]].map(|piece| piece));
    assert!(answer.ends_with(b"\r\n\r\n"), "{}", answer.escape_ascii());
    // A whole request where nothing at all is left.
    let mut bench = with_others();
    let _rest = [bench.pool.take(1), bench.pool.take(1), bench.pool.take(1)];
    assert!(bench.pool.is_exhausted());
    refused(&mut bench, &[GET]);
    // Room for it: served.
    let mut bench = with_others();
    let mut turn = Turn { now: bench.now, date: &bench.date, pool: &mut bench.pool, is_parting: false };
    bench.connection.handle_bytes(GET, &mut turn, &mut bench.mirror);
    assert_eq!(bench.mirror.seen, ["GET /a "]);
}
