//! Random calls, as the product makes them: few sales, few ids, few buyers, so that they meet.

use boxoffice::booking::*;
use boxoffice::clock::WallTime;
use boxoffice::protocol::*;
use rand::Rng;
use rand::rngs::StdRng;

/// The last one is hardly ever open.
const SALES: [&str; 3] = ["ticket", "ticket", "G123-2026.02"];

const BUYERS: [&str; 5] = [
    "u-81",
    "x@1763827200123",
    "mm0",
    "+",
    "a-buyer-of-64-characters-which-is-as-long-as-a-name-can-ever-be",
];

/// The clock of a sale when it is opened; the real one is behind it for long.
pub const START_MS: u64 = 4_000_000_000_000;

pub struct Calls {
    pub random: StdRng,
    /// The sale's clock, as far as it was moved.
    pub now_ms: u64,
    /// How many different ids there are in this sequence.
    ids: u32,
}

impl Calls {
    pub fn new(mut random: StdRng) -> Calls {
        let ids = if random.random_bool(0.5) { 600 } else { 12 };
        Calls { random, now_ms: START_MS, ids }
    }

    pub fn chance(&mut self, one_in: u32) -> bool {
        self.random.random_range(0..one_in) == 0
    }

    pub fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.random.random_range(0..choices.len())]
    }

    pub fn sale(&mut self) -> SaleName {
        SaleName::parse(self.one_of(&SALES)).expect("a name")
    }

    pub fn id(&mut self) -> BookingId {
        let number = self.random.random_range(0..self.ids);
        let text = match number % 3 {
            // Bytes of these stand for line ends, spaces and digits.
            0 => format!("0a200d20-3031-7000-8000-2020{number:08x}"),
            1 => format!("B-{number}"),
            _ => format!("{number:x}"),
        };
        BookingId::parse(text).expect("an id")
    }

    fn ids(&mut self) -> Vec<BookingId> {
        let count = self.entries();
        (0..count).map(|_| self.id()).collect()
    }

    /// How many entries a call has: mostly few.
    fn entries(&mut self) -> usize {
        match self.random.random_range(0..12) {
            0 => 0,
            1 => self.random.random_range(60..=256),
            _ => self.random.random_range(1..6),
        }
    }

    pub fn buyer(&mut self) -> BuyerId {
        BuyerId::parse(self.one_of(&BUYERS)).expect("a buyer")
    }

    fn claim(&mut self) -> Claim {
        let id = self.id();
        // Mostly the same terms for one id, so that many claims are repeats.
        let usual = id.as_str().len() % 3;
        let quantity = if self.chance(8) { self.random.random_range(1..4) } else { 1 + usual as u64 };
        let buyer = match self.random.random_range(0..6) {
            0 => None,
            1 => Some(self.buyer()),
            _ => BuyerId::parse(BUYERS[usual]).ok(),
        };
        Claim { id, quantity: Quantity::new(quantity).expect("a quantity"), buyer }
    }

    /// As somebody may have been told of one.
    fn booking(&mut self) -> Booking {
        let Claim { id, quantity, buyer } = self.claim();
        let status = match self.random.random_range(0..4) {
            0 => BookingStatus::Cancelled,
            1 => BookingStatus::Confirmed,
            _ => BookingStatus::Held {
                expires_at: WallTime(self.now_ms + self.random.random_range(0..60) - 20),
            },
        };
        let released = if self.chance(4) { 1 } else { 0 };
        let reassigned = if self.chance(4) { 1 } else { 0 };
        Booking { id, status, quantity, released, buyer, reassigned }
    }

    fn amendment(&mut self) -> Amendment {
        match self.random.random_range(0..3) {
            0 => Amendment::Extend { ms: self.random.random_range(1..200) },
            1 => {
                let remaining = Quantity::new(self.random.random_range(1..4)).expect("a quantity");
                Amendment::Release { remaining }
            }
            _ => Amendment::HoldAgain,
        }
    }

    /// Mostly nothing; now and then as much as the sale has, or more, or of another sale: then it is frozen, and all that
    /// follows is withheld until the clock has moved on.
    fn seen(&mut self) -> Watermark {
        if !self.chance(20) {
            return Watermark::default();
        }
        let opened = if self.chance(8) { self.now_ms } else { START_MS };
        Watermark { opened, lineage: opened, sequence: self.random.random_range(0..40) }
    }

    fn time(&mut self) -> Option<WallTime> {
        let shift = self.random.random_range(0..200);
        self.random.random_bool(0.2).then(|| WallTime(self.now_ms + shift - 100))
    }

    pub fn terms(&mut self) -> SaleTerms {
        let random = &mut self.random;
        SaleTerms {
            total: if random.random_bool(0.7) {
                random.random_range(0..30)
            } else {
                random.random_range(300..900)
            },
            hold_ms: random.random_bool(0.7).then(|| random.random_range(1..60)),
            hold_max_ms: random.random_bool(0.5).then(|| random.random_range(1..200)),
            per_buyer: random.random_bool(0.6).then(|| random.random_range(1..60)),
            starts_at: self.time(),
            ends_at: self.time(),
            buyer_required: self.random.random_bool(0.1),
        }
    }

    fn change(&mut self) -> SaleChange {
        let terms = self.terms();
        let random = &mut self.random;
        let statuses = [SaleStatus::Open, SaleStatus::Open, SaleStatus::Paused, SaleStatus::Closed];
        SaleChange {
            total: random.random_bool(0.5).then_some(terms.total),
            hold_ms: random.random_bool(0.2).then_some(terms.hold_ms),
            hold_max_ms: random.random_bool(0.2).then_some(terms.hold_max_ms),
            per_buyer: random.random_bool(0.2).then_some(terms.per_buyer),
            starts_at: random.random_bool(0.1).then_some(terms.starts_at),
            ends_at: random.random_bool(0.1).then_some(terms.ends_at),
            status: random.random_bool(0.4).then(|| statuses[random.random_range(0..4)]),
            buyer_required: random.random_bool(0.1).then(|| random.random_bool(0.3)),
            if_version: random.random_bool(0.2).then(|| random.random_range(1..6)),
        }
    }

    fn buyer_tickets(&mut self) -> BuyerTickets {
        let holds = self.random.random_range(0..3);
        let hold = |_| {
            let ends_in = self.random.random_range(0..200);
            (WallTime(self.now_ms - 100 + ends_in), self.random.random_range(1..4))
        };
        BuyerTickets { holds: (0..holds).map(hold).collect(), confirmed: self.random.random_range(0..4) }
    }

    fn repair(&mut self) -> Repair {
        let number = self.random.random_range(0..20);
        match self.random.random_range(0..7) {
            0 => Repair::Counts { held: number, sold: 20 - number },
            1 => Repair::Clock { to: WallTime(self.now_ms + number) },
            2 => Repair::Name,
            3 => Repair::Buyer { buyer: self.buyer(), tickets: self.buyer_tickets() },
            4 => Repair::Span {
                span: Span { kind: (number % 5) as usize, index: self.now_ms >> (6 * (number % 5)) },
                tickets: number % 3,
            },
            5 => Repair::Hold { expires_at: WallTime(self.now_ms + number), ids: vec![self.id(), self.id()] },
            _ => {
                let part = if number % 2 == 0 { Part::Holds } else { Part::Buyers };
                Repair::Remove { part, key: format!("{number:x}").into_bytes() }
            }
        }
    }

    pub fn call(&mut self) -> Call {
        let sale = self.sale();
        match self.random.random_range(0..51) {
            0 => {
                let by = if self.chance(2) { Opener::Start } else { Opener::Operator };
                Call::Sale { sale, op: SaleOp::Open { terms: self.terms(), by } }
            }
            40 => {
                let opened = self.now_ms - self.random.random_range(0..200);
                Call::Ledger(LedgerOp::Recall { sales: vec![(sale, opened), (self.sale(), 0)] })
            }
            41..=46 => {
                let ids = self.ids();
                let amendments = ids.into_iter().map(|id| (id, self.amendment())).collect();
                BookingOp::Amend(amendments).on(sale, self.seen())
            }
            // Most sales are not closed, and stay.
            50 => Call::Sale { sale, op: SaleOp::Remove },
            47..=49 => {
                let Claim { id, buyer, .. } = self.claim();
                BookingOp::Assign { id, buyer: buyer.map(Box::new) }.on(sale, self.seen())
            }
            1 | 2 => Call::Sale { sale, op: SaleOp::Alter(self.change()) },
            3 => Call::Sale { sale, op: SaleOp::Snapshot },
            4..=16 => {
                let count = self.entries();
                let seen = self.seen();
                Call::Bookings {
                    sale,
                    seen,
                    op: BookingOp::Reserve((0..count).map(|_| self.claim()).collect()),
                }
            }
            17..=19 => Call::Sale { sale, op: SaleOp::LookUp(self.ids()) },
            20..=24 => BookingOp::Confirm(self.ids()).on(sale, self.seen()),
            25..=28 => {
                let ids = self.ids();
                let cancels = ids.into_iter().map(|id| Cancel { id, tombstone: self.chance(3) }).collect();
                BookingOp::Cancel(cancels).on(sale, self.seen())
            }
            29 if self.chance(2) => {
                let count = self.entries();
                let seen = self.seen();
                Call::Bookings {
                    sale,
                    seen,
                    op: BookingOp::Restore((0..count).map(|_| self.booking()).collect()),
                }
            }
            29 => Call::Sale { sale, op: SaleOp::Expire },
            30 if self.chance(2) => Call::Ledger(LedgerOp::Sales),
            30 => {
                let after = self.random.random_bool(0.8).then(|| self.random.random_range(0..30));
                Call::Ledger(LedgerOp::Changes { after })
            }
            31 => Call::Sale { sale, op: SaleOp::Page { cursor: String::new() } },
            32 | 33 => Call::Sale { sale, op: SaleOp::Log { after: self.random.random_range(0..400) } },
            34 | 35 => Call::Sale { sale, op: SaleOp::Trim },
            36 | 37 => {
                let parts = [Part::Bookings, Part::Holds, Part::Buyers, Part::Log, Part::Changes];
                Call::Sale {
                    sale,
                    op: SaleOp::Survey { part: parts[self.random.random_range(0..5)], cursor: String::new() },
                }
            }
            _ => {
                let version = self.random.random_range(1..4);
                let sequence = self.random.random_range(0..3);
                let repairs = (0..3).map(|_| self.repair()).collect();
                Call::Sale { sale, op: SaleOp::Repair { version, sequence, repairs } }
            }
        }
    }
}
