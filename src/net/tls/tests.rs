//! The stream against a server of rustls, over a socket in memory whose readiness is told as epoll does: once, when it changes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::rc::Rc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::*;
use crate::net::certificates::{Authority, Identity, NOW, Years};

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A socket, as the kernel has it.
#[derive(Default)]
struct Kernel {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// How many bytes it takes before the server has taken some.
    room: usize,
    /// How many it gives at once.
    at_once: usize,
    /// The other side has ended.
    ended: bool,
    /// What writing fails with.
    broken: Option<ErrorKind>,
    /// A write found no room.
    is_full: bool,
    readable: bool,
    writable: bool,
}

#[derive(Clone)]
struct Socket(Rc<RefCell<Kernel>>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut kernel = self.0.borrow_mut();
        if kernel.to_client.is_empty() {
            return if kernel.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let bytes = buffer.len().min(kernel.at_once).min(kernel.to_client.len());
        for (place, byte) in buffer.iter_mut().zip(kernel.to_client.drain(..bytes)) {
            *place = byte;
        }
        Ok(bytes)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kernel = self.0.borrow_mut();
        if let Some(kind) = kernel.broken {
            return Err(kind.into());
        }
        let room = kernel.room.saturating_sub(kernel.to_server.len());
        if room == 0 {
            kernel.is_full = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = bytes.len().min(room);
        kernel.to_server.extend(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn certificates(identity: &Identity) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).map(Result::unwrap).collect()
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap()
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What both sides have and want.
struct Sides {
    authority: Authority,
    /// Whom the client trusts, if not that one.
    trusted: Option<Authority>,
    names: Vec<&'static str>,
    years: Years,
    dialled: &'static str,
    /// The server demands a certificate of that one.
    demands: Option<Authority>,
    shows: Option<Identity>,
    version: &'static SupportedProtocolVersion,
}

impl Sides {
    fn new() -> Sides {
        Sides {
            authority: Authority::new("a CA"),
            trusted: None,
            names: vec!["redis.example", "127.0.0.1"],
            years: NOW,
            dialled: "redis.example",
            demands: None,
            shows: None,
            version: &TLS13,
        }
    }

    fn client(&self) -> TlsClient {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(self.trusted.as_ref().unwrap_or(&self.authority)));
        let config = match &self.shows {
            Some(identity) => builder.with_client_auth_cert(certificates(identity), key(identity)).unwrap(),
            None => builder.with_no_client_auth(),
        };
        TlsClient::new(Arc::new(config), ServerName::try_from(self.dialled).unwrap())
    }

    fn server(&self) -> ServerConnection {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[self.version]).unwrap();
        let builder = match &self.demands {
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots(authority), provider()).build().unwrap(),
            ),
            None => builder.with_no_client_auth(),
        };
        let identity = self.authority.sign(&self.names, self.years);
        let config = builder.with_single_cert(certificates(&identity), key(&identity)).unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    fn start(&self) -> Play {
        let kernel = Kernel { room: usize::MAX, at_once: usize::MAX, writable: true, ..Kernel::default() };
        let kernel = Rc::new(RefCell::new(kernel));
        let stream = TlsStream::new(Socket(Rc::clone(&kernel)), &self.client()).unwrap();
        let server = self.server();
        Play {
            kernel,
            stream,
            server,
            to_say: Vec::new(),
            said: 0,
            heard: Vec::new(),
            lost: None,
            held: VecDeque::new(),
            told: None,
        }
    }
}

/// A client that does what a loop's link does, and no more: it acts when it is told of readiness, and once when it has
/// something new to say.
struct Play {
    kernel: Rc<RefCell<Kernel>>,
    stream: TlsStream<Socket>,
    server: ServerConnection,
    to_say: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    lost: Option<io::Error>,
    /// What the server has sent, and the network not brought.
    held: VecDeque<u8>,
    /// What the server was told last, if it was told that this is over.
    told: Option<rustls::Error>,
}

impl Play {
    /// All that the client has to write, as far as the stream takes it.
    fn write(&mut self) {
        while self.said < self.to_say.len() && self.lost.is_none() {
            match self.stream.write(&self.to_say[self.said..]) {
                Ok(0) => panic!("it takes nothing, and tells nobody to wait"),
                Ok(bytes) => self.said += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.lost = Some(error),
            }
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 700];
        while self.lost.is_none() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.lost = Some(ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => self.heard.extend(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.lost = Some(error),
            }
        }
    }

    /// A turn of the loop: what the kernel tells, and at its end what there is to say. False if there was nothing to tell.
    fn turn(&mut self) -> bool {
        let (readable, writable) = {
            let mut kernel = self.kernel.borrow_mut();
            (std::mem::take(&mut kernel.readable), std::mem::take(&mut kernel.writable))
        };
        if writable && let Err(error) = self.stream.flush() {
            self.lost = Some(error);
        }
        if readable {
            self.read();
        }
        if readable || writable {
            self.write();
        }
        readable || writable
    }

    /// The server takes as many bytes as that and echoes what is in them. False if there were none.
    fn serve(&mut self, bytes: usize) -> bool {
        let mut kernel = self.kernel.borrow_mut();
        let taken = bytes.min(kernel.to_server.len());
        let records: Vec<u8> = kernel.to_server.drain(..taken).collect();
        if taken > 0 && std::mem::take(&mut kernel.is_full) {
            kernel.writable = true;
        }
        drop(kernel);
        let mut rest = &records[..];
        while !rest.is_empty() {
            self.server.read_tls(&mut rest).unwrap();
            let told = self.server.process_new_packets().err();
            let mut echo = Vec::new();
            let _ = self.server.reader().read_to_end(&mut echo);
            self.server.set_buffer_limit(None);
            self.server.writer().write_all(&echo).unwrap();
            if told.is_some() {
                self.told = told;
                break;
            }
        }
        let mut sent = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut sent).unwrap();
        }
        self.held.extend(sent);
        taken > 0
    }

    /// The network brings as many bytes as that.
    fn bring(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(self.held.len());
        let mut kernel = self.kernel.borrow_mut();
        kernel.to_client.extend(self.held.drain(..bytes));
        kernel.readable |= bytes > 0;
        bytes > 0
    }

    /// Until nothing moves any more, so many bytes at once.
    fn settle(&mut self, chunk: usize) {
        loop {
            let turned = self.turn();
            let served = self.serve(chunk);
            let brought = self.bring(chunk);
            if !turned && !served && !brought {
                return;
            }
        }
    }

    fn failure(&self) -> TlsFailure {
        let error = self.lost.as_ref().expect("the connection is lost");
        TlsFailure::of(error).unwrap_or_else(|| panic!("it is lost by {error:?}")).clone()
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 % 251) as u8).collect()
}

/// 100 KB each way, whatever the network and the socket do to them: nothing waits for a readiness that is not told.
#[test]
fn all_arrives_however_few_bytes_the_socket_moves_at_once() {
    for version in BOTH {
        let sides = Sides { version, ..Sides::new() };
        for (chunk, room, at_once) in [
            (usize::MAX, usize::MAX, usize::MAX),
            (1, 1, 1),
            (3, 2, 1),
            (7, 5, 100),
            (500, 100, 61),
            (1_000, 20_000, 4_096),
            (16_384, 16_384, usize::MAX),
            (20_000, 70_000, 3),
        ] {
            let mut play = sides.start();
            (play.kernel.borrow_mut().room, play.kernel.borrow_mut().at_once) = (room, at_once);
            play.to_say = bytes(100_000);
            play.settle(chunk);
            assert!(play.lost.is_none(), "{:?}", play.lost);
            assert!(play.heard == play.to_say, "{} heard of {room}, {at_once}", play.heard.len());
        }
    }
}

/// Every place at which the network can cut what the server sends, and what the client sends, in two.
#[test]
fn a_handshake_may_be_cut_anywhere() {
    for version in BOTH {
        let sides = Sides { version, ..Sides::new() };
        let (mut cuts, mut cut) = (0, 1);
        while cuts < cut {
            cuts = cut;
            for is_of_server in [true, false] {
                let mut play = sides.start();
                play.to_say = b"PING\r\n".to_vec();
                let mut moved = 0;
                loop {
                    // One step is cut there, if it is long enough.
                    let part = if moved < cut { cut - moved } else { usize::MAX };
                    let turned = play.turn();
                    let to_server = play.kernel.borrow().to_server.len();
                    let served = play.serve(if is_of_server { usize::MAX } else { part });
                    let to_client = play.held.len();
                    let brought = play.bring(if is_of_server { part } else { usize::MAX });
                    moved += if is_of_server { to_client.min(part) } else { to_server.min(part) };
                    if !turned && !served && !brought {
                        break;
                    }
                }
                assert!(play.heard == play.to_say && play.lost.is_none(), "{cut}: {:?}", play.lost);
                if moved > cut {
                    cut += 1;
                    break;
                }
            }
        }
        assert!(cut > 400, "{cut} places are too few for a handshake");
    }
}

#[test]
fn a_socket_that_takes_nothing_bounds_what_is_kept() {
    let mut play = Sides::new().start();
    play.settle(usize::MAX);
    assert!(!play.stream.is_handshaking());
    play.kernel.borrow_mut().room = 0;
    play.to_say = bytes(1 << 20);
    play.write();
    assert!(play.said > 0 && play.said <= UNSENT_BYTES_MAX, "{} bytes were taken", play.said);
    play.kernel.borrow_mut().room = 1 << 20;
    (play.kernel.borrow_mut().writable, play.kernel.borrow_mut().is_full) = (true, false);
    play.settle(usize::MAX);
    assert!(play.heard == play.to_say);
}

/// Nothing is said before the server has shown who it is.
#[test]
fn nothing_is_taken_before_the_handshake_is_over() {
    let mut play = Sides::new().start();
    play.to_say = b"AUTH secret\r\n".to_vec();
    assert!(play.turn());
    assert_eq!((play.said, play.stream.is_handshaking()), (0, true));
    play.settle(usize::MAX);
    assert!(play.heard == play.to_say);
}

/// For whoever waits: it writes nothing before that.
#[test]
fn a_handshake_goes_on_by_itself() {
    let mut play = Sides::new().start();
    while let Err(error) = play.stream.handshake() {
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        assert!(play.serve(10) | play.bring(10), "it waits for what does not come");
    }
    assert!(!play.stream.is_handshaking());
}

#[test]
fn what_came_before_the_end_is_read_and_then_the_end() {
    for says_goodbye in [true, false] {
        let mut play = Sides::new().start();
        play.settle(usize::MAX);
        play.server.writer().write_all(b"+OK\r\n").unwrap();
        if says_goodbye {
            play.server.send_close_notify();
        }
        play.serve(usize::MAX);
        play.bring(usize::MAX);
        play.kernel.borrow_mut().ended = true;
        play.turn();
        assert_eq!(play.heard, b"+OK\r\n");
        let lost = play.lost.as_ref().map(io::Error::kind);
        assert_eq!(lost, Some(ErrorKind::UnexpectedEof), "as of a plain stream: {:?}", play.lost);
    }
}

#[test]
fn what_came_before_nonsense_is_read_and_then_it_is_over() {
    let mut play = Sides::new().start();
    play.settle(usize::MAX);
    play.server.writer().write_all(b"+OK\r\n").unwrap();
    play.serve(usize::MAX);
    play.held.extend([23, 3, 3, 0, 40]);
    play.held.extend([7; 40]);
    play.bring(usize::MAX);
    play.turn();
    assert_eq!(play.heard, b"+OK\r\n");
    assert_eq!(play.failure(), TlsFailure::Other("cannot decrypt peer's message".to_owned()));
}

#[test]
fn whom_it_reaches_is_checked() {
    for version in BOTH {
        let fails = |sides: Sides| {
            let mut play = Sides { version, ..sides }.start();
            play.to_say = b"AUTH secret\r\n".to_vec();
            play.settle(usize::MAX);
            assert_eq!(play.said, 0, "a password was told");
            let told = play.told.as_ref();
            assert!(matches!(told, Some(rustls::Error::AlertReceived(_))), "the server hears why: {told:?}");
            play.failure()
        };
        let other = Authority::new("another CA");
        assert_eq!(fails(Sides { trusted: Some(other), ..Sides::new() }), TlsFailure::UnknownIssuer);
        let named = |presented: &str| TlsFailure::WrongName {
            expected: "redis.example".to_owned(),
            presented: presented.to_owned(),
        };
        let names = vec!["elsewhere.example", "10.0.0.1"];
        assert_eq!(fails(Sides { names, ..Sides::new() }), named("elsewhere.example, 10.0.0.1"));
        let nameless = Sides { names: Vec::new(), ..Sides::new() };
        assert_eq!(fails(nameless), named("no name (it has no subjectAltName)"));
        let expired = Sides { years: (2001, 2002), ..Sides::new() };
        assert_eq!(fails(expired), TlsFailure::Expired("2002-12-31T00:00:00Z".to_owned()));
        let to_come = Sides { years: (2900, 2901), ..Sides::new() };
        assert_eq!(fails(to_come), TlsFailure::NotValidYet("2900-01-01T00:00:00Z".to_owned()));
        let of_address = Sides { dialled: "127.0.0.2", ..Sides::new() };
        assert!(matches!(fails(of_address), TlsFailure::WrongName { .. }));
        let mut play = Sides { dialled: "127.0.0.1", version, ..Sides::new() }.start();
        play.to_say = b"PING".to_vec();
        play.settle(usize::MAX);
        assert!(play.lost.is_none() && play.heard == b"PING", "{:?}", play.lost);
    }
}

#[test]
fn a_server_that_demands_a_certificate_has_to_know_it() {
    for version in BOTH {
        let end = |shows: Option<Identity>, demands: Authority| {
            let mut play = Sides { version, shows, demands: Some(demands), ..Sides::new() }.start();
            play.to_say = b"PING".to_vec();
            play.settle(usize::MAX);
            play
        };
        assert_eq!(end(None, Authority::new("theirs")).failure(), TlsFailure::CertificateDemanded);
        let theirs = Authority::new("theirs");
        let good = theirs.sign(&["a host"], NOW);
        let play = end(Some(good), theirs);
        assert!(play.lost.is_none() && play.heard == b"PING", "{:?}", play.lost);
        let unknown = end(Some(Authority::new("ours").sign(&["a host"], NOW)), Authority::new("theirs"));
        assert!(matches!(unknown.failure(), TlsFailure::CertificateRefused(_)), "{:?}", unknown.failure());
        let theirs = Authority::new("theirs");
        let expired = end(Some(theirs.sign(&["a host"], (2001, 2002))), theirs);
        assert!(matches!(expired.failure(), TlsFailure::CertificateRefused(_)), "{:?}", expired.failure());
    }
}

/// A server that refuses hangs up at once, and writing fails before anybody has read why.
#[test]
fn why_a_server_hung_up_is_told_though_writing_fails_first() {
    let mut play = Sides { demands: Some(Authority::new("theirs")), ..Sides::new() }.start();
    // The handshake is over for the client, and the alert is there, unread.
    play.turn();
    while play.stream.is_handshaking() {
        play.serve(usize::MAX);
        play.bring(usize::MAX);
        play.turn();
    }
    play.serve(usize::MAX);
    play.bring(usize::MAX);
    (play.kernel.borrow_mut().broken, play.kernel.borrow_mut().ended) = (Some(ErrorKind::BrokenPipe), true);
    play.to_say = b"PING".to_vec();
    // The first write is taken and fails within; the second one says so.
    play.write();
    play.to_say.extend(b"PING");
    play.write();
    assert_eq!(play.failure(), TlsFailure::CertificateDemanded);
    // Where nothing explains it, the system's word stands.
    let mut play = Sides::new().start();
    play.settle(usize::MAX);
    play.kernel.borrow_mut().broken = Some(ErrorKind::BrokenPipe);
    play.to_say = b"PING".to_vec();
    play.write();
    play.read();
    assert_eq!(play.lost.map(|error| error.kind()), Some(ErrorKind::BrokenPipe));
}

#[test]
fn what_speaks_no_tls_is_noticed_at_its_first_byte() {
    let first = |bytes: &[u8]| {
        let mut play = Sides::new().start();
        play.turn();
        play.held.extend(bytes);
        play.bring(usize::MAX);
        play.turn();
        play.failure()
    };
    assert_eq!(first(b"-"), TlsFailure::NoTls);
    assert_eq!(first(b"HTTP/1.1 400 Bad Request\r\n\r\n"), TlsFailure::NoTls);
    // The alert protocol_version.
    assert_eq!(first(&[21, 3, 1, 0, 2, 2, 70]), TlsFailure::TooOld);
}

#[test]
fn a_server_that_hangs_up_in_the_handshake_is_no_end_of_the_answers() {
    let mut play = Sides::new().start();
    play.turn();
    (play.kernel.borrow_mut().ended, play.kernel.borrow_mut().readable) = (true, true);
    play.turn();
    let lost = play.lost.expect("it is over").to_string();
    assert!(lost.contains("during the TLS handshake"), "{lost}");
    let mut play = Sides::new().start();
    play.kernel.borrow_mut().ended = true;
    let error = play.stream.handshake().unwrap_err();
    assert!(error.to_string().contains("during the TLS handshake"), "{error}");
}
