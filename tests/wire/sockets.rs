//! What only real sockets show: who gets which connection, and what becomes of bytes that nobody reads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::answers;
use crate::support::client::{Client, PATIENCE};
use crate::support::host::Host;
use crate::support::one_core;
use crate::support::turn;

/// One byte of the stream may be marked as urgent (RFC 9293 section 3.8.5). To a host it is a byte like any other, wherever
/// it is, and the request is answered as soon as it is whole.
#[test]
fn an_urgent_mark_keeps_no_request_waiting() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    // A request that is kept waiting is kept for longer than a client's patience.
    let host =
        Host::start(folder.path(), &["--sale", "a=0", "--limit", "head-time=5m", "--limit", "body-time=5m"]);
    let get = "GET /buy/a HTTP/1.1\r\nHost: h\r\n\r\n".to_owned();
    let put = "PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}".to_owned();
    for (request, status, address) in [
        (&get, 200, host.address),
        (&put, 409, host.address),
        (&"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_owned(), 200, host.admin),
    ] {
        for marked in 1..=request.len() {
            let mut client = Client::connect(address);
            // The last byte of what is sent is the marked one; the rest follows in the same moment.
            let (before, behind) = request.as_bytes().split_at(marked);
            client.send_urgent(before).unwrap();
            client.send(behind).unwrap();
            client.receive().unwrap().expect(status);
            // And one behind it, on the same connection, with two marks.
            client.send_urgent(&request.as_bytes()[..1]).unwrap();
            client.send_urgent(&request.as_bytes()[1..]).unwrap();
            client.receive().unwrap().expect(status);
        }
    }
}

fn host(folder: &tempfile::TempDir) -> Host {
    Host::start(folder.path(), &["--sale", "a=0", "--limit", "linger=4s"])
}

#[test]
fn a_pipeline_of_hundreds_is_answered_in_order() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder);
    let mut stream = TcpStream::connect(host.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let requests: String =
        (0..600).map(|number| format!("GET /nowhere/{number} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
    stream.write_all(requests.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let answers = answers::read(&received).unwrap();
    assert_eq!(answers.len(), 600);
    for (number, answer) in answers.iter().enumerate() {
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["instance"], format!("/nowhere/{number}"));
    }
}

#[test]
fn a_refused_upload_is_read_on_until_its_client_has_its_answer() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder);
    let body = vec![b'x'; 8 << 20];
    for (framing, status) in
        [(format!("Content-Length: {}", body.len()), 413), ("Transfer-Encoding: x".to_owned(), 501)]
    {
        let mut client = Client::connect(host.address);
        client.send(format!("PUT /v1/sales/a/bookings/b HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n")).unwrap();
        // Far more than the kernel's buffers hold: a host that had closed would have reset the connection by now.
        client.send(&body).expect("the host reads on");
        client.finish().unwrap();
        let answer = client.receive().unwrap();
        assert_eq!((answer.status, answer.closes()), (status, true));
        assert!(client.at_end());
    }
}

#[test]
fn the_kernel_deals_connections_to_every_loop() {
    const CONNECTIONS: usize = 400;
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = host(&folder);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| host.client()).collect();
    clients.iter_mut().for_each(|client| drop(client.get("/v1/sales/a").expect(200)));
    let metrics = host.metrics();
    let open: Vec<f64> = metrics
        .iter()
        .filter(|(sample, _)| sample.starts_with("boxoffice_connections_open"))
        .map(|(_, count)| *count)
        .collect();
    assert_eq!(open.iter().sum::<f64>(), CONNECTIONS as f64, "{open:?}");
    // By hash: six standard deviations below an even share, or one connection where there are many loops.
    let share = CONNECTIONS as f64 / open.len() as f64;
    let least = (share - 6.0 * share.sqrt()).max(1.0);
    assert!(open.len() > 16 || open.iter().all(|count| *count >= least), "{open:?}");
}

/// A client that asks for the end and yet sends on, at every moment at which the host may be answering, has its answer.
#[test]
fn bytes_behind_the_last_request_cost_nobody_the_answer() {
    let _turn = turn::shared();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &["--sale", "a=0", "--cores", &one_core()]);
    for delay_us in (0..4_000).map(|round| round % 100) {
        let mut stream = TcpStream::connect(host.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /buy/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let until = Instant::now() + Duration::from_micros(delay_us);
        while Instant::now() < until {}
        // An error is that of a connection that is gone, as may be the end of reading: the answer came before it.
        let _ = stream.write_all(b"G");
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received);
        let answers = answers::read(&received).unwrap();
        assert_eq!(answers.len(), 1, "{delay_us} us behind the request: {}", received.escape_ascii());
    }
}
