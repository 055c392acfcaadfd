//! Many hosts of the real desk and board on one ledger that is a model, in virtual time: what a large crowd costs, and whether
//! any of it is told what is not so. No bytes, no sockets and no faults but death: those are the simulator's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use boxoffice::booking::{BookingId, Outcome, Quantity, Refusal, SaleChange, SaleName, SaleState, SaleTerms};
use boxoffice::clock::{Monotonic, Now, WallTime};
use boxoffice::desk::{BookingRequest, Desk};
use boxoffice::ledger::Ledger;
use boxoffice::limits;
use boxoffice::protocol::{
    Answer, BookingOp, Call, CallId, HostBeat, HostId, HostReport, LedgerOp, LedgerResult, Opener,
    Reservation, SaleOp, SaleResult, SlotRange,
};
use boxoffice::stock::{Board, CoreIndex, HostCard};
use model::{Model, TestClock};

#[path = "../conformance/model.rs"]
mod model;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// From a host to Redis, or back.
const ONE_WAY: u64 = 150 * US;
/// From something that came to the turn in which a loop sees to it.
const TURN: u64 = 20 * US;
/// Wall time at the start, in milliseconds.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// Who comes, and to whom.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Hosts of weight 1.
    pub hosts: usize,
    /// Who asks for one ticket each.
    pub buyers: u64,
    /// Half of them come within so many milliseconds, the others over the rest of a minute.
    pub rush_ms: u64,
    /// How many there are.
    pub tickets: u64,
    /// The part of them, in thousandths, that the first host gets; the others have the rest in equal parts.
    pub favoured: u64,
    /// So many hosts, the last ones, die when two tickets of five are sold.
    pub deaths: usize,
    /// Tickets that come back when half of the minute is over.
    pub returned: u64,
    /// Spare permits.
    pub buffer: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// Bookings that a buyer was told of.
    pub granted: u64,
    /// Bookings whose host was dead when the answer came.
    pub unheard: u64,
    /// "Sold out" from memory, at once.
    pub refused_at_once: u64,
    /// "Sold out" from memory, after a while of standing.
    pub refused_standing: u64,
    /// "Sold out" by the ledger.
    pub refused_by_ledger: u64,
    /// 503.
    pub turned_away: u64,
    /// "Sold out" that was not so.
    pub false_refusals: u64,
    /// Claims for tickets that came to the ledger.
    pub claims: u64,
    /// Most of them that were on their way to it at once.
    pub most_claims_at_once: u64,
    /// Calls that book.
    pub booking_calls: u64,
    /// Calls of syncs: what has changed, what a sale is like, its log.
    pub sync_calls: u64,
    /// Calls that say that a host lives.
    pub beats: u64,
    /// Time of Redis for these three, in nanoseconds.
    pub redis_ns: [u64; 3],
    /// Tickets that nobody has.
    pub left: u64,
    /// Most that stood at one host.
    pub most_standing: u64,
    /// From the last ticket until every host that lives knows.
    pub known_after_ns: u64,
    /// From when tickets came back until every host that lives sells them.
    pub reopened_after_ns: u64,
    /// When the last ticket went.
    pub sold_out_at_ns: u64,
    /// Largest sum of the shares of hosts that live, at any beat after the first second.
    pub shares_max: f64,
    /// From the deaths until those who live have shares of one together.
    pub shares_after_ns: u64,
}

/// What a call costs Redis, in nanoseconds, as measured (`bench/NOTES.md`): a script 8.9 us and 2.1 us a booking; a question for
/// what has changed, or for a sale, 4 us; a page of the log 2 us an entry; a beat 8 us and 1.4 us a host.
fn cost_of(call: &Call, hosts: usize) -> u64 {
    match call {
        Call::Bookings { op: BookingOp::Reserve(claims), .. } => 8_900 + 2_100 * claims.len() as u64,
        Call::Sale { op: SaleOp::Log { .. }, .. } => 8_900 + 2_000 * limits::LOG_ENTRIES_PER_CALL_MAX as u64,
        Call::Ledger(LedgerOp::Beat { .. }) => 8_000 + 1_400 * hosts as u64,
        _ => 4_000,
    }
}

fn sale() -> SaleName {
    SaleName::parse("ticket").expect("a name")
}

/// The model that conformance holds both ledgers against, and its hosts, which that leaves to each ledger.
struct ModelLedger {
    clock: TestClock,
    model: Model,
    hosts: BTreeMap<HostId, (u64, HostReport)>,
    /// The sale, as of the latest call that was about it.
    state: SaleState,
}

impl ModelLedger {
    fn new(tickets: u64) -> ModelLedger {
        let clock = TestClock::default();
        let model = Model::new(clock.clone());
        let mut ledger = ModelLedger { clock, model, hosts: BTreeMap::new(), state: SaleState::default() };
        let terms = SaleTerms { total: tickets, ..SaleTerms::default() };
        ledger.execute(&SaleOp::Open { terms, by: Opener::Operator }.on(sale()), 0);
        ledger
    }

    fn execute(&mut self, call: &Call, at: u64) -> Answer {
        self.clock.set(WallTime(EPOCH_MS + at / MS));
        if let Call::Ledger(LedgerOp::Beat { host, report, .. }) = call {
            match report {
                Some(report) => drop(self.hosts.insert(*host, (at, (**report).clone()))),
                None => drop(self.hosts.remove(host)),
            }
            let told = self.hosts.iter().map(|(id, (since, report))| HostBeat {
                id: *id,
                age_ms: (at - since) / MS,
                report: report.clone(),
            });
            return Answer::Ledger(LedgerResult::Hosts { hosts: told.collect(), is_untidy: false });
        }
        let answer = self.model.execute(std::slice::from_ref(call)).remove(0).expect("a model answers");
        if let Some(state) = answer.state() {
            self.state = state.clone();
        }
        answer
    }
}

struct Host {
    desk: Desk<()>,
    board: Arc<Board>,
    /// Buyers that came since the last turn.
    came: u64,
    answers: Vec<(CallId, Answer)>,
    /// When its next turn is.
    turn_at: Option<u64>,
    lives: bool,
    /// When the latest reading of the sale that it has was made.
    read_at: u64,
    made: u64,
    /// Since when it knows that nothing is left, and since when it sells what came back.
    knows_at: Option<u64>,
    sells_again_at: Option<u64>,
}

enum Event {
    Turn(usize),
    /// Carried out by the ledger.
    Done(usize, CallId, Call),
    Answered(usize, CallId, Answer, u64),
    Returned,
    /// A look at the shares.
    Look,
}

/// The whole of it.
pub struct Fleet {
    crowd: Crowd,
    hosts: Vec<Host>,
    ledger: ModelLedger,
    claims_on_the_way: u64,
    /// Until when Redis is busy.
    busy_until: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pending: Vec<Option<Event>>,
    free: Vec<usize>,
    serial: u64,
    now: u64,
    outcomes: Outcomes,
    died_at: Option<u64>,
    returned_at: Option<u64>,
    random: u64,
}

impl Fleet {
    /// Runs the whole minute.
    pub fn run(crowd: &Crowd) -> Outcomes {
        let mut fleet = Fleet::new(crowd.clone());
        let minute = 60 * SECOND;
        let mut came = 0;
        fleet.schedule(minute / 2, Event::Returned);
        fleet.schedule(0, Event::Look);
        loop {
            let next_event = fleet.events.peek().map_or(u64::MAX, |Reverse((at, _, _))| *at);
            // The doors open after two seconds, in which the hosts have heard of each other.
            let next_buyer = (came < crowd.buyers).then(|| 2 * SECOND + arrival(came, crowd));
            match next_buyer {
                Some(at) if at <= next_event => {
                    fleet.now = at;
                    fleet.arrive();
                    came += 1;
                }
                _ if next_event <= minute + 5 * SECOND => fleet.step(),
                _ => break,
            }
        }
        fleet.outcomes.left = fleet.ledger.state.available();
        fleet.outcomes
    }

    fn new(crowd: Crowd) -> Fleet {
        let ledger = ModelLedger::new(crowd.tickets);
        let hosts = (0..crowd.hosts)
            .map(|number| {
                let card = HostCard {
                    id: HostId(number as u128),
                    address: format!("10.0.{}.{}:3005", number / 256, number % 256),
                    weight: 1,
                    started_at_ms: EPOCH_MS,
                };
                let board = Arc::new(Board::new(1, crowd.buffer).with_card(card));
                board.learn(&sale(), &ledger.state).expect("room for one sale");
                let at = now(0);
                let mut desk = Desk::new(CoreIndex(0), Arc::clone(&board), 2_000, at);
                desk.refresh_lanes();
                desk.handle_ledger_up(SlotRange::ALL);
                Host {
                    desk,
                    board,
                    came: 0,
                    answers: Vec::new(),
                    turn_at: None,
                    lives: true,
                    read_at: 0,
                    made: 0,
                    knows_at: None,
                    sells_again_at: None,
                }
            })
            .collect();
        let mut fleet = Fleet {
            crowd,
            hosts,
            ledger,
            claims_on_the_way: 0,
            busy_until: 0,
            events: BinaryHeap::new(),
            pending: Vec::new(),
            free: Vec::new(),
            serial: 0,
            now: 0,
            outcomes: Outcomes::default(),
            died_at: None,
            returned_at: None,
            random: 0x9E37_79B9_7F4A_7C15,
        };
        for number in 0..fleet.hosts.len() {
            // They were not started in the same moment.
            fleet.want_turn(number, number as u64 * 1_900 * US);
        }
        fleet
    }

    fn schedule(&mut self, at: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() - 1
        });
        self.pending[place] = Some(event);
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, place)));
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// One buyer comes to the host that a balancer gives it, or to another one if that is dead.
    fn arrive(&mut self) {
        let hosts = self.hosts.len();
        let is_favoured = hosts == 1 || self.below(1_000) < self.crowd.favoured;
        let mut host = if is_favoured { 0 } else { 1 + self.below(hosts as u64 - 1) as usize };
        while !self.hosts[host].lives {
            host = self.below(hosts as u64) as usize;
        }
        self.hosts[host].came += 1;
        self.want_turn(host, self.now + TURN);
    }

    fn want_turn(&mut self, host: usize, at: u64) {
        let turn_at = &mut self.hosts[host].turn_at;
        if turn_at.is_none_or(|sooner| at < sooner) {
            *turn_at = Some(at);
            self.schedule(at, Event::Turn(host));
        }
    }

    fn step(&mut self) {
        let Reverse((at, _, place)) = self.events.pop().expect("there is one");
        self.now = at;
        self.free.push(place);
        match self.pending[place].take().expect("each once") {
            // Unless it had a sooner one.
            Event::Turn(host) if self.hosts[host].turn_at == Some(at) => self.turn(host),
            Event::Turn(_) => {}
            Event::Look => {
                self.note_shares();
                self.schedule(at + 20 * MS, Event::Look);
            }
            Event::Done(host, id, call) => {
                let answer = self.ledger.execute(&call, at);
                self.count(&call);
                self.note_sales();
                self.schedule(at + ONE_WAY, Event::Answered(host, id, answer, at));
            }
            Event::Answered(host, id, answer, read_at) => self.answered(host, id, answer, read_at),
            Event::Returned => {
                self.returned_at = Some(at);
                let total = self.ledger.state.terms.total + self.crowd.returned;
                let change = SaleChange { total: Some(total), ..SaleChange::default() };
                self.ledger.execute(&SaleOp::Alter(change).on(sale()), at);
            }
        }
    }

    fn count(&mut self, call: &Call) {
        let cost = cost_of(call, self.ledger.hosts.len());
        let kind = match call {
            Call::Bookings { op, .. } => {
                if let BookingOp::Reserve(claims) = op {
                    self.outcomes.claims += claims.len() as u64;
                    self.claims_on_the_way -= claims.len() as u64;
                }
                self.outcomes.booking_calls += 1;
                0
            }
            Call::Ledger(LedgerOp::Beat { .. }) => {
                self.outcomes.beats += 1;
                2
            }
            _ => {
                self.outcomes.sync_calls += 1;
                1
            }
        };
        self.outcomes.redis_ns[kind] += cost;
    }

    fn note_sales(&mut self) {
        let SaleState { sold, terms, .. } = &self.ledger.state;
        if self.died_at.is_none() && sold * 5 >= terms.total * 2 && self.crowd.deaths > 0 {
            self.died_at = Some(self.now);
            let first = self.hosts.len() - self.crowd.deaths;
            for host in &mut self.hosts[first..] {
                host.lives = false;
                let answers = std::mem::take(&mut host.answers);
                self.outcomes.unheard += answers.iter().map(|(_, answer)| granted_in(answer)).sum::<u64>();
            }
        }
        if self.ledger.state.available() == 0 && self.outcomes.sold_out_at_ns == 0 {
            self.outcomes.sold_out_at_ns = self.now;
        }
    }

    fn answered(&mut self, host: usize, id: CallId, answer: Answer, read_at: u64) {
        if !self.hosts[host].lives {
            self.outcomes.unheard += granted_in(&answer);
            return;
        }
        if answer.state().is_some() {
            self.hosts[host].read_at = read_at;
        }
        self.hosts[host].answers.push((id, answer));
        self.want_turn(host, self.now + TURN);
    }

    fn turn(&mut self, number: usize) {
        let at = now(self.now);
        let host = &mut self.hosts[number];
        host.turn_at = None;
        if !host.lives {
            return;
        }
        for (id, answer) in std::mem::take(&mut host.answers) {
            host.desk.handle_answer(id, Ok(answer), at);
        }
        host.desk.refresh_lanes();
        let lane = host.desk.lane("ticket").expect("it knows the sale");
        let available = self.ledger.state.available();
        let knows_less = self.returned_at.is_some_and(|returned_at| host.read_at < returned_at);
        let wanted = BookingRequest { id: None, quantity: Quantity::ONE, buyer: None };
        for _ in 0..std::mem::take(&mut host.came) {
            match host.desk.admit_booking(lane, &wanted, at) {
                Ok(admitted) => {
                    host.made += 1;
                    let made = format!("{number}-{}", host.made);
                    host.desk.enqueue(admitted, (), at, || BookingId::parse(made).expect("an id"));
                }
                Err(Refusal::SoldOut) => {
                    self.outcomes.refused_at_once += 1;
                    let is_false = !knows_less && available > host.desk.permits_held(&sale());
                    self.outcomes.false_refusals += u64::from(is_false);
                }
                Err(_) => self.outcomes.turned_away += 1,
            }
        }
        self.outcomes.most_standing = self.outcomes.most_standing.max(host.desk.standing() as u64);
        host.desk.handle_deadline(at);
        let stood = host.desk.standing();
        host.desk.end_turn(at);
        let mut left = stood.saturating_sub(host.desk.standing()) as u64;
        while let Some(resolved) = host.desk.poll_resolved() {
            match resolved.outcome {
                Outcome::Granted(_) => self.outcomes.granted += 1,
                Outcome::Refused(Refusal::SoldOut) if left > 0 => {
                    left -= 1;
                    self.outcomes.refused_standing += 1;
                    let is_false = !knows_less && available > host.desk.permits_held(&sale());
                    self.outcomes.false_refusals += u64::from(is_false);
                }
                Outcome::Refused(Refusal::SoldOut) => self.outcomes.refused_by_ledger += 1,
                _ => self.outcomes.turned_away += 1,
            }
        }
        let mut sent = Vec::new();
        while let Some(call) = host.desk.poll_call() {
            sent.push(call);
        }
        let next = host.desk.next_deadline().0.max(self.now + TURN);
        self.note_knowledge(number);
        for (id, call) in sent {
            if let Call::Bookings { op: BookingOp::Reserve(claims), .. } = &call {
                self.claims_on_the_way += claims.len() as u64;
                self.outcomes.most_claims_at_once =
                    self.outcomes.most_claims_at_once.max(self.claims_on_the_way);
            }
            let begins = self.busy_until.max(self.now + ONE_WAY);
            self.busy_until = begins + cost_of(&call, self.ledger.hosts.len());
            self.schedule(self.busy_until, Event::Done(number, id, call));
        }
        self.want_turn(number, next);
    }

    fn note_knowledge(&mut self, number: usize) {
        let level =
            self.hosts[number].board.directory().get("ticket").expect("it knows the sale").available();
        let (sold_out_at, returned_at) = (self.outcomes.sold_out_at_ns, self.returned_at);
        let host = &mut self.hosts[number];
        if sold_out_at > 0 && level == 0 && host.knows_at.is_none() {
            host.knows_at = Some(self.now);
            self.outcomes.known_after_ns = self.outcomes.known_after_ns.max(self.now - sold_out_at);
        }
        if let Some(returned_at) = returned_at
            && (level > 0 || host.read_at >= returned_at)
            && host.sells_again_at.is_none()
        {
            host.sells_again_at = Some(self.now);
            self.outcomes.reopened_after_ns = self.outcomes.reopened_after_ns.max(self.now - returned_at);
        }
    }

    /// What hosts take their shares to be.
    fn note_shares(&mut self) {
        let living = self.hosts.iter().filter(|host| host.lives);
        let shares: f64 =
            living.map(|host| host.board.card().expect("it has one").share(&host.board.fleet().hosts)).sum();
        if self.now > SECOND {
            self.outcomes.shares_max = self.outcomes.shares_max.max(shares);
        }
        if let Some(died_at) = self.died_at
            && self.outcomes.shares_after_ns == 0
            && shares > 1.0 - 1e-9
        {
            self.outcomes.shares_after_ns = self.now - died_at;
        }
    }
}

fn granted_in(answer: &Answer) -> u64 {
    let Answer::Sale { result: SaleResult::Reserved(told), .. } = answer else { return 0 };
    told.iter().filter(|told| matches!(told, Reservation::Granted { .. })).count() as u64
}

fn now(at: u64) -> Now {
    Now { monotonic: Monotonic(at), wall: WallTime(EPOCH_MS + at / MS) }
}

/// When that buyer comes.
fn arrival(number: u64, crowd: &Crowd) -> u64 {
    let (all, half) = (crowd.buyers, crowd.buyers.div_ceil(2));
    match number < half {
        true => number * crowd.rush_ms * MS / half,
        false => SECOND + (number - half) * 55 * SECOND / (all - half).max(1),
    }
}
