//! A model that is spoken to, for tests of the model alone.

use boxoffice::booking::{BookingId, Quantity, SaleName, SaleTerms};
use boxoffice::ledger::redis::codec;
use boxoffice::protocol::{BookingOp, Call, Claim, Opener, SaleOp, Watermark};

use crate::redis::{ClientId, ModelRedis, Options};

/// Virtual time of the tests, where they do not say.
pub const NOW_US: u64 = 5_000_000;

/// A server and a client of it.
pub struct Told {
    pub server: ModelRedis,
    pub client: ClientId,
}

impl Told {
    /// With all scripts loaded.
    pub fn new(options: Options) -> Told {
        let mut server = ModelRedis::new(options);
        let client = server.connect();
        let mut told = Told { server, client };
        told.load_scripts();
        told
    }

    pub fn load_scripts(&mut self) {
        let mut bytes = Vec::new();
        codec::load_scripts(&mut bytes);
        self.server.handle_bytes(self.client, &bytes, NOW_US);
        let replies = self.output();
        assert!(!replies.contains('-'), "{replies}");
    }

    /// What has come back, in printable characters.
    pub fn output(&mut self) -> String {
        self.server.poll_output(self.client).escape_ascii().to_string()
    }

    /// The reply to these words at that time.
    pub fn ask_at(&mut self, words: &[&str], now_us: u64) -> String {
        let client = self.client;
        self.ask_by(client, words, now_us)
    }

    pub fn ask(&mut self, words: &[&str]) -> String {
        self.ask_at(words, NOW_US)
    }

    pub fn ask_by(&mut self, client: ClientId, words: &[&str], now_us: u64) -> String {
        self.server.handle_bytes(client, &command(words), now_us);
        self.server.poll_output(client).escape_ascii().to_string()
    }

    pub fn call(&mut self, call: &Call) -> String {
        let mut bytes = Vec::new();
        codec::pack(call, &mut bytes);
        self.server.handle_bytes(self.client, &bytes, NOW_US);
        self.output()
    }

    /// Closes nothing, connects anew.
    pub fn reconnect(&mut self) {
        self.client = self.server.connect();
    }

    /// Opens the sale `ticket`.
    pub fn open(&mut self, total: u64) {
        let terms = SaleTerms { total, hold_ms: Some(60_000), ..SaleTerms::default() };
        assert!(self.call(&SaleOp::Open { terms, by: Opener::Start }.on(sale())).contains("created"));
    }

    /// Books a ticket for each of these.
    pub fn reserve(&mut self, ids: &[&str]) -> String {
        self.call(&reserve(ids))
    }

    /// The ids of the bookings there are.
    pub fn booked(&self) -> Vec<String> {
        self.server.bookings("ticket").into_keys().collect()
    }
}

pub fn sale() -> SaleName {
    SaleName::parse("ticket").expect("a name")
}

pub fn reserve(ids: &[&str]) -> Call {
    let claim =
        |id: &&str| Claim { id: BookingId::parse(id).expect("an id"), quantity: Quantity::ONE, buyer: None };
    BookingOp::Reserve(ids.iter().map(claim).collect()).on(sale(), Watermark::default())
}

pub fn command(words: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    text.into_bytes()
}
