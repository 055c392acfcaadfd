//! Bytes to requests, outcomes to bytes.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boxoffice::api::Problem;
use boxoffice::api::encode::{self, About, Instance, ResponseStyle};
use boxoffice::booking::{Booking, BookingId, BookingStatus, BuyerId, Outcome, Quantity, Refusal};
use boxoffice::clock::{Monotonic, WallTime};
use boxoffice::connection::{
    Answered, BufferPool, Connection, Handled, Origin, PendingReply, Reply, Service, Turn,
};
use boxoffice::http::body::ChunkedDecoder;
use boxoffice::http::parse::{HeadScanner, Scan, field_room, parse_head};
use boxoffice::http::{DateCache, HttpError, Request};
use boxoffice::limits::ClientLimits;

use super::{Subject, Work, plain};

pub(super) const SUBJECTS: &[Subject] = &[
    Subject { name: "parse/whole", set_up: || parse_pieces(HEAD.len()) },
    Subject { name: "parse/dribbled", set_up: || parse_pieces(1) },
    Subject { name: "parse/pipelined", set_up: parse_pipelined },
    Subject { name: "chunks/decode", set_up: decode_chunks },
    Subject { name: "encode/refusal", set_up: || Answers::of(sold_out) },
    Subject { name: "encode/booking", set_up: encode_booking },
    Subject { name: "encode/problem", set_up: || Answers::of(bad_request) },
];

/// A head as browsers and load generators send them.
const HEAD: &[u8] = b"PUT /v1/sales/ticket/bookings/0198c0de-0000-7000-8000-00000000000a HTTP/1.1\r\n\
Host: tickets.example:3005\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
Accept: application/json\r\n\
Accept-Language: en-GB,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate\r\n\
Connection: keep-alive\r\n\
Content-Length: 0\r\n\
\r\n";

const PIPELINED: usize = 16;

fn parse(head: &[u8], limits: &ClientLimits) {
    let mut room = field_room();
    let head = parse_head(head, &mut room, limits).expect("it is well-formed");
    black_box(&head);
}

/// The head arrives so many bytes at a time.
fn parse_pieces(bytes: usize) -> Box<dyn Work> {
    let limits = ClientLimits::default();
    plain(move || {
        let mut scanner = HeadScanner::default();
        let mut there = 0;
        loop {
            there = (there + bytes).min(HEAD.len());
            match scanner.scan(black_box(&HEAD[..there]), &limits).expect("it is well-formed") {
                Scan::Complete(length) => return parse(&HEAD[..length], &limits),
                scan => assert_eq!(scan, Scan::Partial),
            }
        }
    })
}

/// Sixteen heads in one piece; one of them is an operation.
fn parse_pipelined() -> Box<dyn Work> {
    struct Pipelined(Vec<u8>, ClientLimits);
    impl Work for Pipelined {
        fn operations(&self) -> u64 {
            PIPELINED as u64
        }

        fn run(&mut self) {
            let mut rest = black_box(self.0.as_slice());
            while !rest.is_empty() {
                let scan = HeadScanner::default().scan(rest, &self.1).expect("it is well-formed");
                let Scan::Complete(length) = scan else { panic!("no head in {scan:?}") };
                parse(&rest[..length], &self.1);
                rest = &rest[length..];
            }
        }
    }
    Box::new(Pipelined(HEAD.repeat(PIPELINED), ClientLimits::default()))
}

/// A body of sixteen chunks of 64 bytes, one with an extension, and a trailer.
fn decode_chunks() -> Box<dyn Work> {
    let limits = ClientLimits::default();
    let mut chunks = Vec::new();
    for number in 0..16 {
        let extension = if number == 7 { ";name=\"value\"" } else { "" };
        chunks.extend_from_slice(format!("40{extension}\r\n{}\r\n", "x".repeat(64)).as_bytes());
    }
    chunks.extend_from_slice(b"0\r\nDigest: none\r\n\r\n");
    let mut body = Vec::with_capacity(2048);
    plain(move || {
        body.clear();
        let mut decoder = ChunkedDecoder::default();
        let taken = decoder.decode(black_box(&chunks), &mut body, &limits).expect("it is well-formed");
        assert!(taken == chunks.len() && decoder.is_complete() && body.len() == 16 * 64);
    })
}

/// Answers to requests that wait on one connection, from the outcome to the bytes in the connection's output.
struct Answers<F> {
    connection: Connection,
    limits: Arc<ClientLimits>,
    date: DateCache,
    pool: BufferPool,
    keeper: Keeper,
    scratch: Vec<u8>,
    answer: F,
}

/// Answers nothing at once.
#[derive(Default)]
struct Keeper(Vec<PendingReply>);

impl Service for Keeper {
    fn handle(&mut self, _: &Request<'_>, reply: Reply<'_>) -> Handled {
        let (pending, handled) = reply.later();
        self.0.push(pending);
        handled
    }

    /// What is counted is the answers, of however many wait at once.
    fn must_follow(&self, _: &Request<'_>) -> bool {
        false
    }

    fn refuse(&mut self, error: &HttpError, _: Reply<'_>) -> Answered {
        panic!("the requests are well-formed, and not {error}")
    }
}

/// Answers a run.
const ANSWERS: usize = 64;

impl<F: FnMut(Reply<'_>, &mut Vec<u8>) -> Answered + 'static> Answers<F> {
    fn of(answer: F) -> Box<dyn Work> {
        let limits = Arc::new(ClientLimits { requests: 0, ..ClientLimits::default() });
        let origin = Origin::new(Ipv4Addr::LOCALHOST.into(), &Arc::default());
        Box::new(Answers {
            connection: Connection::new(Monotonic(0), Arc::clone(&limits), origin),
            date: DateCache::new(WallTime(1_763_827_200_000)),
            pool: BufferPool::new(limits.buffered_bytes),
            limits,
            keeper: Keeper::default(),
            scratch: Vec::with_capacity(1024),
            answer,
        })
    }
}

impl<F: FnMut(Reply<'_>, &mut Vec<u8>) -> Answered> Work for Answers<F> {
    fn operations(&self) -> u64 {
        ANSWERS as u64
    }

    fn prepare(&mut self) {
        assert!(self.limits.pipeline >= ANSWERS);
        let mut turn = Turn { now: Monotonic(0), date: &self.date, pool: &mut self.pool, is_parting: false };
        let written = self.connection.output().len();
        self.connection.handle_written(written, &mut turn);
        self.connection.handle_bytes(&HEAD.repeat(ANSWERS), &mut turn, &mut self.keeper);
        assert_eq!(self.keeper.0.len(), ANSWERS);
    }

    fn run(&mut self) {
        let mut turn = Turn { now: Monotonic(0), date: &self.date, pool: &mut self.pool, is_parting: false };
        for pending in self.keeper.0.drain(..) {
            let reply = self.connection.reply(pending, &mut turn).expect("the connection is open");
            (self.answer)(reply, &mut self.scratch);
        }
        black_box(self.connection.output());
    }
}

const SALE: &str = "ticket";
const ID: &str = "0198c0de-0000-7000-8000-00000000000a";

fn sold_out(reply: Reply<'_>, scratch: &mut Vec<u8>) -> Answered {
    encode::refusal(reply, scratch, ResponseStyle::Book, Refusal::SoldOut, None, Instance::Booking(SALE, ID))
}

fn bad_request(reply: Reply<'_>, scratch: &mut Vec<u8>) -> Answered {
    let detail = "body: quantity: invalid type: string \"two\", expected a number at line 1 column 17";
    let problem = Problem::BAD_REQUEST;
    let instance = Instance::Path("/v1/sales/ticket/bookings");
    encode::problem(reply, scratch, problem.status(), problem, Some(detail), instance, &[])
}

fn encode_booking() -> Box<dyn Work> {
    let id = BookingId::parse(ID).expect("it is well-formed");
    let buyer = BuyerId::parse("u-81").expect("it is well-formed");
    let status = BookingStatus::Held { expires_at: WallTime(1_763_827_500_123) };
    let outcome = Outcome::Granted(Booking {
        id,
        status,
        quantity: Quantity::ONE,
        released: 0,
        buyer: Some(buyer),
        reassigned: 0,
    });
    Answers::of(move |reply, scratch| {
        let about = About { sale: SALE, id: ID, made_here: false };
        encode::outcome(reply, scratch, ResponseStyle::Book, about, &outcome)
    })
}
