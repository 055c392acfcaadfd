//! One run: events in the order of virtual time, until the clients are done; then all faults heal, and what is promised
//! of a healthy system must come about within bounded time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use boxoffice::booking::{BookingId, BuyerId, SaleChange, SaleState, SaleStatus, SaleTerms};
use boxoffice::limits::{NEW_LEDGER_MS, SYNC_INTERVAL_MS};
use boxoffice::protocol::{
    Amended, Answer, BookingOp, Call, LedgerId, LedgerOp, LedgerResult, Objection, Opener, SaleOp,
    SaleResult, Watermark,
};

use crate::checks::{self, Bench, Violation, Whole};
use crate::client::{Ask, Client, Kind, Link, Request, Word, read_answer};
use crate::faults::{Counts, Fault};
use crate::host::{Host, Running, sale};
use crate::ledger::Ledger;
use crate::mutants::Mutant;
use crate::network::{Network, Piece, PipeId, Place, Side, Weather};
use crate::random::Random;
use crate::redis::Loss;
use crate::scenario::{SALE, Scenario};
use crate::witness::{Standing, Witness};
use readers::Reader;

/// Within so much virtual time after the last fault, in microseconds, everything is answered and nothing is in flight. The
/// longest of what may come one after another: a connection's head time-out (10 s), a silent ledger (5 s), a drain (7 s).
const CALM_BOUND_US: u64 = 40_000_000;

/// In calm, every host knows the sale as it was so long ago: a sync later it has heard of a change, or reads again what may
/// have changed since it was read last; and some round trips.
const NEWS_BOUND_US: u64 = SYNC_INTERVAL_MS * 1_000 + 100_000;

/// A host that has reached the ledger for so long has told it what it knows: a round trip late, and a sync.
const LINKED_US: u64 = 2 * SYNC_INTERVAL_MS * 1_000 + 1_000_000;

/// A ticket that is to be had is had within so much: a few syncs.
const SALE_BOUND_US: u64 = 1_500_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(PipeId, u8),
    Turn { host: usize, core: usize },
    Client(usize),
    Vanish(usize),
    Ledger,
    Strike(usize),
    Resume(usize),
    Start(usize),
    ResumeSale,
    Reopen,
    Reader(usize),
    Tell(usize),
}

/// A run.
pub struct World {
    scenario: Scenario,
    mutant: Option<Mutant>,
    now: u64,
    serial: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    net: Network,
    ledger: Ledger,
    ledger_event_at: Option<u64>,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    readers: Vec<Reader>,
    asks: Vec<Ask>,
    witness: Witness,
    /// The latest that the ledger's clock has shown: it may have gone back since.
    ledger_ms: u64,
    counts: Counts,
    random: Random,
    healed: bool,
    /// Redis' own clock has gone back, or another machine's has taken its place.
    clock_went_back: bool,
    /// How often the ledger has gone back to an earlier sequence.
    fallbacks: u32,
    /// Loops that were killed, by (host, incarnation).
    killed: BTreeSet<(usize, u32)>,
    trace: Option<Vec<String>>,
    digest: u64,
    broken: Option<Violation>,
}

/// What became of a run.
pub struct Outcome {
    /// The first promise that was broken.
    pub broken: Option<Violation>,
    /// What happened in it.
    pub counts: Counts,
    /// The same for the same run, and for hardly any other.
    pub digest: u64,
    /// What happened, line by line, where that was asked for.
    pub trace: Vec<String>,
    /// Answers that were judged.
    pub answers: u64,
    /// Virtual time that passed, in microseconds.
    pub virtual_us: u64,
}

macro_rules! trace {
    ($world:expr, $($words:tt)*) => {
        if let Some(trace) = &mut $world.trace {
            let line = format!($($words)*);
            trace.push(format!("{:>12.6} {line}", $world.now as f64 / 1e6));
        }
    };
}

mod after;
mod crowd;
mod readers;
mod strikes;

impl World {
    /// Runs it to its end.
    pub fn run(scenario: Scenario, mutant: Option<Mutant>, traced: bool) -> Outcome {
        let mut world = World::new(scenario, mutant, traced);
        let result = world.play();
        if let Err(broken) = result
            && !world.is_known(&broken)
        {
            trace!(world, "BROKEN {}: {}", broken.rule, broken.what);
            world.broken = Some(broken);
        }
        for (kind, times) in [
            ("write torn", world.net.torn),
            ("piece late", world.net.late),
            ("cut at a byte", world.net.cuts),
            ("no room to write", world.net.full),
            ("hold expires", world.witness.expiries),
            ("answer garbled", world.ledger.garbled),
            ("call carried out in vain", world.ledger.carried_out_in_vain),
        ] {
            world.counts.add_many(kind, times);
        }
        let answers = world.asks.iter().filter(|ask| ask.answer.is_some()).count() as u64;
        // Never dropped in the middle of a call: a desk gives its permits back.
        Outcome {
            broken: world.broken,
            counts: world.counts,
            digest: world.digest,
            trace: world.trace.unwrap_or_default(),
            answers,
            virtual_us: world.now,
        }
    }

    fn new(scenario: Scenario, mutant: Option<Mutant>, traced: bool) -> World {
        let rewrite = mutant.map_or(&[] as crate::ledger::Rewrite, |mutant| mutant.rewrite);
        World {
            now: 0,
            serial: 0,
            events: BinaryHeap::new(),
            net: Network::new(scenario.seed, scenario.weather),
            ledger: Ledger::new(&scenario, rewrite),
            ledger_event_at: None,
            hosts: (0..scenario.hosts).map(Host::new).collect(),
            clients: (0..scenario.clients).map(|number| Client::new(number, &scenario)).collect(),
            readers: readers::all(scenario.seed, mutant),
            asks: Vec::new(),
            witness: Witness::default(),
            ledger_ms: 0,
            counts: Counts::default(),
            random: Random::new(scenario.seed, "world", 0),
            healed: false,
            clock_went_back: false,
            fallbacks: 0,
            killed: BTreeSet::new(),
            trace: traced.then(Vec::new),
            digest: 0,
            broken: None,
            scenario,
            mutant,
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        trace!(self, "{:?}", self.scenario);
        self.witness.observe(&self.ledger, 0)?;
        for host in 0..self.hosts.len() {
            self.start_host(host)?;
        }
        for client in 0..self.clients.len() {
            if let Some(at) = self.clients[client].wake_at {
                self.push(at, Event::Client(client));
            }
        }
        for reader in 0..self.readers.len() {
            let at = self.random.range(0, 400_000);
            self.push(at, Event::Reader(reader));
        }
        for (number, strike) in self.scenario.strikes.clone().into_iter().enumerate() {
            self.push(strike.at, Event::Strike(number));
        }
        self.run_until(self.scenario.healed_at, |_| false)?;
        self.heal()?;
        let bound = self.now + CALM_BOUND_US;
        self.run_until(bound, World::is_calm)?;
        self.check_calm()?;
        self.sell_out()?;
        self.audit()?;
        self.judge_whole()
    }

    /// A freeze is by the sale's clock, which stands still where Redis' own has gone back; and a host takes a reading with a
    /// smaller sequence and no later clock for an old one. So a ledger that has fallen back *and* whose clock has gone back
    /// sells late, and tells of a pause that was forgotten.
    fn is_known(&self, broken: &Violation) -> bool {
        let late = ["false sold out", "sale shown", "unsold", "not sold out", "never calm", "late news"];
        let is_late = late.contains(&broken.rule)
            || broken.rule == "false refusal" && broken.what.starts_with("not-on-sale ");
        self.fallbacks > 0 && self.clock_went_back && is_late
    }

    fn push(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at.max(self.now), self.serial, event)));
    }

    /// Handles events until that time, or until `done`.
    fn run_until(&mut self, until: u64, done: impl Fn(&World) -> bool) -> Result<(), Violation> {
        while !done(self) {
            self.gather_due();
            match self.events.peek() {
                Some(Reverse((at, _, _))) if *at <= until => {
                    let Some(Reverse((at, _, event))) = self.events.pop() else { break };
                    self.now = at;
                    self.handle(event)?;
                }
                _ => {
                    self.now = until;
                    break;
                }
            }
        }
        Ok(())
    }

    fn gather_due(&mut self) {
        for (at, pipe, side) in std::mem::take(&mut self.net.due) {
            self.push(at, Event::Arrive(pipe, side as u8));
        }
        if self.ledger.wake_at != self.ledger_event_at
            && let Some(at) = self.ledger.wake_at
        {
            self.ledger_event_at = Some(at);
            self.push(at, Event::Ledger);
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Arrive(pipe, side) => {
                let side = if side == Side::Dialler as u8 { Side::Dialler } else { Side::Acceptor };
                match self.net.take(pipe, side, self.now) {
                    Some(piece) => self.arrive(pipe, side, piece),
                    None => Ok(()),
                }
            }
            Event::Turn { host, core } => self.turn(host, core),
            Event::Client(client) => self.wake_client(client),
            Event::Vanish(client) => {
                self.hang_up(client, true);
                Ok(())
            }
            Event::Ledger => self.drive_ledger(),
            Event::Strike(number) => {
                let strike = self.scenario.strikes[number].clone();
                if !self.healed {
                    self.strike(strike.fault)?;
                }
                Ok(())
            }
            Event::Resume(host) => {
                if matches!(self.hosts[host].running, Running::Paused { until } if self.now >= until) {
                    trace!(self, "host {host} goes on");
                    self.hosts[host].running = Running::Yes;
                    for core in 0..self.hosts[host].cores.len() {
                        // What was planned came while it stood still.
                        self.hosts[host].cores[core].turn_at = None;
                        self.plan_turn(host, core, self.now);
                    }
                }
                Ok(())
            }
            Event::Reader(reader) => {
                self.wake_reader(reader);
                Ok(())
            }
            Event::Start(host) => self.start_host(host),
            Event::Tell(host) => {
                self.tell(host);
                Ok(())
            }
            Event::Reopen => self.reopen(),
            Event::ResumeSale => {
                self.alter(SaleChange { status: Some(SaleStatus::Open), ..SaleChange::default() })
            }
        }
    }

    fn arrive(&mut self, pipe: PipeId, side: Side, piece: Piece) -> Result<(), Violation> {
        match self.net.place(pipe, side) {
            Place::Client(client) => self.client_piece(client, pipe, piece),
            Place::Reader(reader) => self.reader_piece(reader, pipe, piece),
            Place::Loop { host, core, incarnation } => {
                if piece == Piece::Open && side == Side::Acceptor {
                    let open = incarnation == self.hosts[host].incarnation
                        && !matches!(self.hosts[host].running, Running::Down | Running::Draining { .. });
                    match open {
                        true => self.net.accept(pipe, self.now),
                        false => {
                            self.net.abort(pipe, Side::Acceptor, self.now);
                            return Ok(());
                        }
                    }
                }
                if incarnation == self.hosts[host].incarnation && self.hosts[host].running != Running::Down {
                    self.hosts[host].cores[core].mail.push((pipe, piece));
                    let at = self.now + self.random.range(1, 40);
                    self.plan_turn(host, core, at);
                }
                Ok(())
            }
            Place::Redis { incarnation } => {
                if self.ledger.former() == Some(incarnation) {
                    if piece == Piece::Open {
                        self.net.accept(pipe, self.now);
                    }
                    self.ledger.handle_former_piece(incarnation, pipe, &piece, self.now);
                    return Ok(());
                }
                let there = incarnation == self.ledger.incarnation && self.ledger.is_there();
                if piece == Piece::Open {
                    match there {
                        true => self.net.accept(pipe, self.now),
                        false => self.net.abort(pipe, Side::Acceptor, self.now),
                    }
                }
                if there {
                    self.ledger.handle_piece(pipe, piece, self.now);
                }
                Ok(())
            }
        }
    }

    // Hosts.

    fn start_host(&mut self, host: usize) -> Result<(), Violation> {
        if self.hosts[host].running != Running::Down {
            return Ok(());
        }
        let Some(first) = self.ask_at_start(host)? else {
            self.counts.add("start fails");
            trace!(self, "host {host} does not start");
            self.push(self.now + 150_000, Event::Start(host));
            return Ok(());
        };
        let wait_ms = match first {
            // The first host is started with `--sale`.
            Answer::Ledger(LedgerResult::Identified { age_ms, .. }) if host == 0 => {
                NEW_LEDGER_MS.saturating_sub(age_ms)
            }
            _ => 0,
        };
        // Not the very first one of all, which would only let the others wait for a sale.
        if wait_ms > 0
            && self.witness.was_there()
            && !std::mem::replace(&mut self.hosts[host].has_waited, true)
        {
            trace!(self, "host {host} waits for those that know the ledger");
            self.push(self.now + wait_ms * 1_000, Event::Start(host));
            return Ok(());
        }
        let call = match host {
            0 => SaleOp::Open { terms: self.terms(), by: Opener::Start }.on(sale()),
            _ => SaleOp::Snapshot.on(sale()),
        };
        let Some(first) = self.ledger.execute(&call, self.now) else {
            self.counts.add("start fails");
            self.push(self.now + 150_000, Event::Start(host));
            return Ok(());
        };
        if let Answer::Sale { state, result: SaleResult::Created } = &first {
            self.judge_opening(host, state)?;
        }
        self.witness.observe(&self.ledger, self.now)?;
        trace!(self, "host {host} starts: {first:?}");
        let seam = self.mutant.and_then(|mutant| mutant.seam);
        self.hosts[host].start(&self.scenario, Some(&first), seam, self.now);
        for core in 0..self.scenario.cores {
            self.plan_turn(host, core, self.now);
        }
        Ok(())
    }

    /// Which ledger it is, and that this host knew the sale before.
    fn ask_at_start(&mut self, host: usize) -> Result<Option<Answer>, Violation> {
        let id = LedgerId(u128::from(self.scenario.seed));
        let Some(ledger) = self.ledger.execute(&Call::Ledger(LedgerOp::Identify { id }), self.now) else {
            return Ok(None);
        };
        if !self.scenario.keeps_state {
            self.hosts[host].known.clear();
        }
        let knew = self.hosts[host].known.last().map(|&opened| (sale(), opened));
        if let Some(sale) = knew {
            match self.ledger.execute(&Call::Ledger(LedgerOp::Recall { sales: vec![sale] }), self.now) {
                Some(Answer::Ledger(LedgerResult::Recalled { removed })) if removed == [true] => {
                    self.hosts[host].known.clear()
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Ok(Some(ledger))
    }

    /// No start opens a sale again that this host has known, or one that lives and has reached the ledger for a while.
    fn judge_opening(&mut self, host: usize, state: &SaleState) -> Result<(), Violation> {
        self.counts.add("opened by a start");
        let now = self.now;
        let knows = |(number, other): (usize, &Host)| {
            let is_there = other.running == Running::Yes
                && other.linked_since.is_some_and(|since| since + LINKED_US <= now);
            !other.known.is_empty() && (number == host || is_there)
        };
        let knowing = self.hosts.iter().enumerate().find(|other| knows(*other));
        match knowing {
            Some((other, knowing)) => Err(Violation::new(
                "lost and opened again",
                format!(
                    "by the start of host {host}, with host {other} knowing {:?}: {state:?}",
                    knowing.known
                ),
            )),
            None => Ok(()),
        }
    }

    /// Nobody who knew another sale sells from one in its place that a start has opened, before an operator was there.
    fn judge_strangers(&self, from: usize) -> Result<(), Violation> {
        let Some(stock) = self.witness.level().filter(|stock| stock.is_unattended()) else { return Ok(()) };
        for (id, pipe) in &self.witness.booked[from..] {
            let Some(pipe) = pipe else { continue };
            if let Place::Loop { host, incarnation, .. } = self.net.place(*pipe, Side::Dialler)
                && self.hosts[host].incarnation == incarnation
                && self.hosts[host].known.iter().any(|opened| *opened != stock.opened_ms)
            {
                return Err(Violation::new(
                    "sold from a stranger",
                    format!("{id} by host {host}, which knew {:?}: {stock:?}", self.hosts[host].known),
                ));
            }
        }
        Ok(())
    }

    fn terms(&self) -> SaleTerms {
        SaleTerms {
            total: self.scenario.total,
            hold_ms: self.scenario.hold_ms,
            hold_max_ms: self.scenario.hold_max_ms,
            per_buyer: self.scenario.per_buyer,
            ..SaleTerms::default()
        }
    }

    fn plan_turn(&mut self, host: usize, core: usize, at: u64) {
        let planned = &mut self.hosts[host].cores[core].turn_at;
        if planned.is_none_or(|planned| at < planned) {
            *planned = Some(at);
            self.push(at, Event::Turn { host, core });
        }
    }

    fn turn(&mut self, host: usize, core: usize) -> Result<(), Violation> {
        let now = self.now;
        let Some(Some(at)) = self.hosts[host].cores.get(core).map(|core| core.turn_at) else { return Ok(()) };
        if at > now || matches!(self.hosts[host].running, Running::Paused { .. } | Running::Down) {
            return Ok(());
        }
        let former = self.ledger.former().filter(|_| self.hosts[host].is_with_former);
        let redis = Place::Redis { incarnation: former.unwrap_or(self.ledger.incarnation) };
        self.hosts[host].turn(core, &mut self.net, redis, now);
        self.hosts[host].note_known(now);
        if let Some(at) = self.hosts[host].cores[core].turn_at {
            self.push(at, Event::Turn { host, core });
        }
        if let Running::Draining { until, down_us } = self.hosts[host].running
            && (now >= until || self.hosts[host].is_drained())
        {
            trace!(self, "host {host} has drained");
            self.end_host(host, down_us);
        }
        Ok(())
    }

    /// A host hears that another Redis is the primary.
    fn tell(&mut self, host: usize) {
        trace!(self, "host {host} hears of another primary");
        self.hosts[host].is_with_former = false;
        self.hosts[host].moves.tell();
        let running = matches!(self.hosts[host].running, Running::Yes | Running::Draining { .. });
        for core in 0..if running { self.hosts[host].cores.len() } else { 0 } {
            self.plan_turn(host, core, self.now + 1);
        }
    }

    fn end_host(&mut self, host: usize, down_us: u64) {
        self.killed.insert((host, self.hosts[host].incarnation));
        self.hosts[host].kill(&mut self.net, &mut self.random, self.now);
        self.push(self.now + down_us, Event::Start(host));
    }

    // The ledger.

    fn drive_ledger(&mut self) -> Result<(), Violation> {
        if self.ledger.wake_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.ledger_event_at = None;
        self.ledger_ms = self.ledger_ms.max(self.ledger.wall_ms(self.now));
        let booked = self.witness.booked.len();
        let (now, witness) = (self.now, &mut self.witness);
        let mut result = Ok(());
        self.ledger.drive(&mut self.net, now, |ledger| {
            if result.is_ok() {
                result = witness.observe(ledger, now);
            }
        });
        if self.trace.is_some()
            && let Some(level) = self.witness.level().cloned()
        {
            let line =
                format!("{} held {} sold of {} at {}", level.held, level.sold, level.total, level.sequence);
            let known = self.trace.as_ref().is_some_and(|trace| {
                trace
                    .iter()
                    .rev()
                    .find(|line| line.contains("ledger: "))
                    .is_some_and(|last| last.ends_with(&line))
            });
            if !known {
                trace!(self, "ledger: {line}");
            }
        }
        result.and_then(|()| self.judge_strangers(booked))
    }

    fn alter(&mut self, change: SaleChange) -> Result<(), Violation> {
        let answer = self.ledger.execute(&SaleOp::Alter(change).on(sale()), self.now);
        trace!(self, "an operator alters the sale: {answer:?}");
        self.witness.observe(&self.ledger, self.now)
    }

    fn look_again(&mut self) -> Result<usize, Violation> {
        // No sale is less than one at which nothing was sold yet.
        let before = self.witness.level().map(|level| level.sequence);
        let forgotten = self.witness.look_again(&self.ledger, self.now)?;
        self.fallbacks += u32::from(self.witness.level().map(|level| level.sequence) < before);
        trace!(self, "the ledger has forgotten something of {forgotten} bookings");
        Ok(forgotten)
    }

    fn crash(&mut self, loss: Loss, down_ms: u64) -> Result<(), Violation> {
        self.ledger.crash(loss, down_ms * 1_000, &mut self.net, self.now);
        let forgotten = self.look_again()?;
        match forgotten > 0 && !self.scenario.keeping.may_forget() {
            true => Err(Violation::new("the model forgets", format!("{forgotten} bookings"))),
            false => Ok(()),
        }
    }
}
