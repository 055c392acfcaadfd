//! One run: events in the order of virtual time, until the clients are done; then all faults heal, and what is promised
//! of a healthy system must come about within bounded time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use boxoffice::booking::{Call, SaleChange, SaleStatus, SaleTerms};

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
use crate::witness::Witness;

/// Within so much virtual time after the last fault, in microseconds, everything is answered and nothing is in flight. The
/// longest of what may come one after another: a connection's head time-out (10 s), a silent ledger (5 s), a drain (7 s).
const CALM_BOUND_US: u64 = 40_000_000;

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
    asks: Vec<Ask>,
    witness: Witness,
    counts: Counts,
    random: Random,
    healed: bool,
    /// Redis' own clock has gone back, or another machine's has taken its place.
    clock_went_back: bool,
    /// The ledger has gone back to an earlier sequence.
    fell_back: bool,
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
            asks: Vec::new(),
            witness: Witness::default(),
            counts: Counts::default(),
            random: Random::new(scenario.seed, "world", 0),
            healed: false,
            clock_went_back: false,
            fell_back: false,
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
        self.witness.observe(&self.ledger, None, 0)?;
        for host in 0..self.hosts.len() {
            self.start_host(host)?;
        }
        for client in 0..self.clients.len() {
            if let Some(at) = self.clients[client].wake_at {
                self.push(at, Event::Client(client));
            }
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
        self.judge_whole()
    }

    /// A host takes a reading with a smaller sequence and no later clock for an old one. Where the ledger has fallen back
    /// *and* its clock has gone back, that is wrong, and the host is blind until the one or the other has caught up.
    fn is_known(&self, broken: &Violation) -> bool {
        let blind = ["false sold out", "sale shown", "unsold", "not sold out"];
        self.fell_back && self.clock_went_back && blind.contains(&broken.rule)
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
                let strike = self.scenario.strikes[number];
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
            Event::Start(host) => self.start_host(host),
            Event::ResumeSale => {
                self.alter(SaleChange { status: Some(SaleStatus::Open), ..SaleChange::default() })
            }
        }
    }

    fn arrive(&mut self, pipe: PipeId, side: Side, piece: Piece) -> Result<(), Violation> {
        match self.net.place(pipe, side) {
            Place::Client(client) => self.client_piece(client, pipe, piece),
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
        // The first host is started with `--sale`, the others find what there is.
        let call = match host {
            0 => Call::Open { sale: sale(), terms: self.terms() },
            _ => Call::Snapshot { sale: sale() },
        };
        let first = self.ledger.execute(&call, self.now);
        self.witness.observe(&self.ledger, None, self.now)?;
        if first.is_none() {
            self.counts.add("start fails");
            trace!(self, "host {host} does not start");
            self.push(self.now + 150_000, Event::Start(host));
            return Ok(());
        }
        trace!(self, "host {host} starts: {first:?}");
        let seam = self.mutant.and_then(|mutant| mutant.seam);
        self.hosts[host].start(&self.scenario, first.as_ref(), seam, self.now);
        for core in 0..self.scenario.cores {
            self.plan_turn(host, core, self.now);
        }
        Ok(())
    }

    fn terms(&self) -> SaleTerms {
        SaleTerms {
            total: self.scenario.total,
            hold_ms: self.scenario.hold_ms,
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
        let redis = Place::Redis { incarnation: self.ledger.incarnation };
        self.hosts[host].turn(core, &mut self.net, redis, now);
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
        let (now, witness) = (self.now, &mut self.witness);
        let mut result = Ok(());
        self.ledger.drive(&mut self.net, now, |ledger, by| {
            if result.is_ok() {
                result = witness.observe(ledger, by, now);
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
        result
    }

    fn alter(&mut self, change: SaleChange) -> Result<(), Violation> {
        let answer = self.ledger.execute(&Call::Alter { sale: sale(), change }, self.now);
        trace!(self, "an operator alters the sale: {answer:?}");
        self.witness.observe(&self.ledger, None, self.now)
    }

    fn look_again(&mut self) -> Result<usize, Violation> {
        let before = self.witness.level().map_or(0, |level| level.sequence);
        let forgotten = self.witness.look_again(&self.ledger, self.now)?;
        self.fell_back |= self.witness.level().map_or(0, |level| level.sequence) < before;
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

    // Faults.

    fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
        trace!(self, "{fault:?}");
        let mut fired = true;
        match fault {
            Fault::KillHost { host, down_ms } if self.is_up(host) => self.end_host(host, down_ms * 1_000),
            Fault::DrainHost { host, down_ms } if self.is_up(host) => {
                let until = self.now + self.scenario.ledger_timeout_ms * 1_000 + 5_000_000;
                self.hosts[host].begin_drain(until, down_ms * 1_000, &mut self.net, self.now);
                for core in 0..self.scenario.cores {
                    self.hosts[host].cores[core].turn_at = None;
                    self.plan_turn(host, core, self.now + 1);
                }
            }
            Fault::PauseHost { host, ms } if self.is_up(host) => {
                let until = self.now + ms * 1_000;
                self.hosts[host].running = Running::Paused { until };
                self.push(until, Event::Resume(host));
            }
            Fault::JumpHostClock { host, by_ms } if host < self.hosts.len() => {
                self.hosts[host].skew_ms += by_ms
            }
            Fault::CutClients { host } => {
                let pipes = self.net.open_pipes(|from, to| {
                    matches!((from, to), (Place::Client(_), Place::Loop { host: other, .. }) if other == host)
                });
                fired = !pipes.is_empty();
                pipes.into_iter().for_each(|pipe| self.net.cut(pipe, self.now));
            }
            Fault::CutLedger { host } => {
                let pipes = self.ledger_pipes(host);
                fired = !pipes.is_empty();
                pipes.into_iter().for_each(|pipe| self.net.cut(pipe, self.now));
            }
            Fault::FreezeLedger { host, ms } => {
                let pipes = self.ledger_pipes(host);
                fired = !pipes.is_empty();
                pipes.into_iter().for_each(|pipe| self.net.freeze(pipe, self.now + ms * 1_000));
            }
            Fault::FreezeClients { host, ms } => {
                let pipes = self.net.open_pipes(|from, to| {
                    matches!((from, to), (Place::Client(_), Place::Loop { host: other, .. }) if other == host)
                });
                fired = !pipes.is_empty();
                pipes.into_iter().for_each(|pipe| self.net.freeze(pipe, self.now + ms * 1_000));
            }
            Fault::CrashRedis { down_ms } => self.crash(Loss::Nothing, down_ms)?,
            Fault::LoseTail { down_ms, effects } => self.crash(Loss::UnsyncedAfter(effects), down_ms)?,
            Fault::LoseAll { down_ms } => self.crash(Loss::Everything, down_ms)?,
            Fault::Failover { down_ms } => {
                fired = self.ledger.fail_over(down_ms * 1_000, &mut self.net, self.now);
                self.clock_went_back |= fired;
                if self.look_again()? > 0 {
                    self.counts.add("failover forgets");
                }
            }
            Fault::FlushScripts => self.ledger.flush_scripts(),
            Fault::Refuse { trouble, ms } => self.ledger.refuse(trouble, self.now + ms * 1_000),
            Fault::PauseRedis { ms } => self.ledger.pause(self.now + ms * 1_000),
            Fault::JumpRedisClock { by_ms } => {
                self.ledger.jump_clock(by_ms);
                self.clock_went_back |= by_ms < 0;
            }
            Fault::PauseSale { ms } => {
                self.alter(SaleChange { status: Some(SaleStatus::Paused), ..SaleChange::default() })?;
                self.push(self.now + ms * 1_000, Event::ResumeSale);
            }
            Fault::ChangeTotal { by } => {
                let total = self.witness.level().map_or(1, |level| level.total).saturating_add_signed(by);
                self.alter(SaleChange { total: Some(total), ..SaleChange::default() })?;
            }
            Fault::KillHost { .. }
            | Fault::DrainHost { .. }
            | Fault::PauseHost { .. }
            | Fault::JumpHostClock { .. } => {
                fired = false;
            }
        }
        if fired {
            self.counts.add(fault.kind());
        }
        Ok(())
    }

    fn is_up(&self, host: usize) -> bool {
        self.hosts.get(host).is_some_and(|host| host.running == Running::Yes)
    }

    fn ledger_pipes(&self, host: usize) -> Vec<PipeId> {
        self.net.open_pipes(|from, to| {
            matches!((from, to), (Place::Loop { host: other, .. }, Place::Redis { .. }) if other == host)
        })
    }

    /// No more faults; whoever is down comes back.
    fn heal(&mut self) -> Result<(), Violation> {
        trace!(self, "all faults heal");
        self.healed = true;
        self.net.weather = Weather::CALM;
        self.net.heal(self.now);
        self.ledger.heal(self.now);
        for host in 0..self.hosts.len() {
            if let Running::Paused { .. } = self.hosts[host].running {
                self.hosts[host].running = Running::Paused { until: self.now };
            }
            self.push(self.now, Event::Resume(host));
            self.push(self.now + 200_000, Event::Start(host));
        }
        for client in &mut self.clients {
            client.tired = true;
        }
        // Where the ledger is back without the sale, an operator opens it again.
        self.run_until(self.now + 100_000, |_| false)?;
        self.ledger.execute(&Call::Open { sale: sale(), terms: self.terms() }, self.now);
        self.witness.observe(&self.ledger, None, self.now)?;
        self.alter(SaleChange { status: Some(SaleStatus::Open), ..SaleChange::default() })
    }

    /// Nobody waits for anything.
    fn is_calm(&self) -> bool {
        let clients = self.clients.iter().all(|client| {
            client.link.as_ref().is_none_or(|link| link.waiting.is_empty()) && !client.wants_more()
        });
        let hosts = self.hosts.iter().all(|host| {
            host.running == Running::Yes && host.waiting() == 0 && host.is_linked() && host.knows_sale()
        });
        clients && hosts && self.holds_are_over()
    }

    /// Every hold has ended; or the sale's clock was once far ahead, so that its holds last (a known gap).
    fn holds_are_over(&self) -> bool {
        let Some(level) = self.witness.level() else { return false };
        level.held == 0 || level.clock_ms > self.ledger.wall_ms(self.now) + 1_000
    }

    fn check_calm(&mut self) -> Result<(), Violation> {
        if !self.is_calm() {
            let late: Vec<&Ask> =
                self.asks.iter().filter(|ask| ask.answer.is_none() && ask.given_up_at.is_none()).collect();
            let waiting: Vec<(Running, usize)> =
                self.hosts.iter().map(|host| (host.running, host.waiting())).collect();
            return Err(Violation::new(
                "never calm",
                format!("{waiting:?} {late:?} {:?}", self.witness.level()),
            ));
        }
        Ok(())
    }

    // Clients.

    fn wake_client(&mut self, number: usize) -> Result<(), Violation> {
        let now = self.now;
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        match client.wake_at {
            Some(at) if at <= now => client.wake_at = None,
            _ => return Ok(()),
        }
        if let Some(link) = &client.link {
            if !link.waiting.is_empty() {
                if now >= link.give_up_at {
                    self.counts.add("client gives up waiting");
                    self.hang_up(number, true);
                } else {
                    let at = link.give_up_at;
                    self.wake_client_at(number, at);
                }
                return Ok(());
            }
            if client.random.chance(120) {
                self.hang_up(number, false);
            }
        }
        let client = &mut self.clients[number];
        if !client.wants_more() {
            return Ok(());
        }
        if client.link.is_none() {
            let (host, core) = client.choose_loop();
            self.dial(number, host, core);
        }
        self.send(number);
        Ok(())
    }

    fn wake_client_at(&mut self, number: usize, at: u64) {
        let planned = &mut self.clients[number].wake_at;
        if planned.is_none_or(|planned| at < planned) {
            *planned = Some(at);
            self.push(at, Event::Client(number));
        }
    }

    fn dial(&mut self, number: usize, host: usize, core: usize) {
        let to = Place::Loop { host, core, incarnation: self.hosts[host].incarnation };
        let pipe = self.net.dial(Place::Client(number), to, self.now);
        self.clients[number].link = Some(Link {
            pipe,
            host,
            waiting: Default::default(),
            received: Vec::new(),
            give_up_at: u64::MAX,
        });
    }

    fn send(&mut self, number: usize) {
        let now = self.now;
        let client = &mut self.clients[number];
        let requests = client.next_requests();
        let Some(link) = &mut client.link else { return };
        if requests.is_empty() {
            return;
        }
        if requests.len() > 1 {
            self.counts.add("client pipelines");
        }
        let falls_silent = client.random.chance(8);
        link.give_up_at =
            now + if falls_silent { 15_000_000 } else { client.random.range(2_500_000, 9_000_000) };
        let count = requests.len();
        for (place, request) in requests.into_iter().enumerate() {
            let mut bytes = request.bytes(&mut client.random);
            let whole = !(falls_silent && place + 1 == count);
            if !whole {
                self.counts.add("client falls silent");
                bytes.truncate(client.random.range(1, bytes.len() as u64 - 1) as usize);
            }
            if request.tries > 0 {
                self.counts.add("client asks again");
                let before = self.asks.iter().rev().find(|ask| ask.request.id == request.id);
                if before.is_some_and(|before| before.host != link.host) {
                    self.counts.add("client asks again elsewhere");
                }
            }
            let own = request.kind.books() && request.tries == 0;
            if own
                && let Some(id) = &request.id
                && client.ids.iter().filter(|(other, _)| other == id).count() > 1
            {
                self.counts.add("client reuses an id");
            }
            self.net.write_all(link.pipe, Side::Dialler, &bytes, now);
            if let Some(trace) = &mut self.trace {
                let line = format!(
                    "client {number} asks host {}: {:?} {:?} {}",
                    link.host, request.kind, request.id, request.quantity
                );
                trace.push(format!("{:>12.6} {line}", now as f64 / 1e6));
            }
            link.waiting.push_back(self.asks.len());
            self.asks.push(Ask {
                request,
                client: number,
                host: link.host,
                pipe: link.pipe,
                sent_at: now,
                answer: None,
                given_up_at: None,
                whole,
            });
        }
        let give_up_at = link.give_up_at;
        match client.random.below(60) {
            0 => {
                self.counts.add("client vanishes");
                let at = now + client.random.range(0, 3_000);
                self.push(at, Event::Vanish(number));
            }
            1 => {
                self.counts.add("client half-closes");
                self.net.end(link.pipe, Side::Dialler, now);
            }
            _ => {}
        }
        self.wake_client_at(number, give_up_at);
    }

    /// Ends the connection from the client's side, or takes note that it has ended. What was asked on it will not be
    /// answered.
    fn hang_up(&mut self, number: usize, at_once: bool) {
        let now = self.now;
        let client = &mut self.clients[number];
        let Some(link) = client.link.take() else { return };
        trace!(self, "client {number} hangs up");
        let client = &mut self.clients[number];
        match at_once {
            true => self.net.abort(link.pipe, Side::Dialler, now),
            false => self.net.close(link.pipe, Side::Dialler, now),
        }
        for index in link.waiting {
            let ask = &mut self.asks[index];
            ask.given_up_at = Some(now);
            if let Some(again) = client.after_silence(&ask.request) {
                client.todo.push_back(again);
            }
        }
        let at = now + client.pause();
        self.wake_client_at(number, at);
    }

    fn client_piece(&mut self, number: usize, pipe: PipeId, piece: Piece) -> Result<(), Violation> {
        if number >= self.clients.len() {
            return Ok(());
        }
        if self.clients[number].link.as_ref().is_none_or(|link| link.pipe != pipe) {
            return Ok(());
        }
        match piece {
            Piece::Open | Piece::Taken => {}
            Piece::End | Piece::Reset => self.hang_up(number, false),
            Piece::Bytes(bytes) => {
                self.clients[number].link.as_mut().expect("it is there").received.extend(bytes);
                self.read_answers(number)?;
            }
        }
        Ok(())
    }

    fn read_answers(&mut self, number: usize) -> Result<(), Violation> {
        let now = self.now;
        while let Some(link) = &mut self.clients[number].link
            && let Some((word, length)) = read_answer(&link.received)
        {
            link.received.drain(..length);
            let Some(index) = link.waiting.pop_front() else {
                // Told of a time-out, or of too many connections, without having asked anything.
                if matches!(&word, Word::Refused { name, .. } if name == "http" || name == "overloaded") {
                    continue;
                }
                return Err(Violation::new("answer without a request", format!("{word:?}")));
            };
            trace!(self, "client {number} is told of {:?}: {word:?}", self.asks[index].request.id);
            self.digest = self.digest.rotate_left(7) ^ now ^ (length as u64) << 32;
            self.asks[index].answer = Some((now, word.clone()));
            self.judge(index)?;
            if !self.asks[index].whole && matches!(word, Word::Refused { .. }) {
                continue;
            }
            let request = self.asks[index].request.clone();
            let client = &mut self.clients[number];
            if let Some((wait_us, request)) = client.follow_up(&request, &word) {
                client.todo.push_back(request);
                self.wake_client_at(number, now + wait_us);
            }
        }
        if let Some(link) = &self.clients[number].link
            && link.waiting.is_empty()
        {
            self.clients[number].wake_at = None;
            let at = now + self.clients[number].pause();
            self.wake_client_at(number, at);
        }
        Ok(())
    }

    fn judge(&mut self, index: usize) -> Result<(), Violation> {
        match &self.asks[index].answer {
            Some((_, Word::Replayed(_))) => self.counts.add("repeat of a booking"),
            Some((_, Word::Refused { name, .. })) if name == "outcome-unknown" => {
                self.counts.add("outcome unknown")
            }
            _ => {}
        }
        let bookings = self.ledger.redis().bookings(SALE);
        let bench = Bench {
            asks: &self.asks,
            witness: &self.witness,
            is_tombstone: &|id| bookings.get(id).is_some_and(|booking| booking.letter == 't'),
            ledger_ms: self
                .ledger
                .wall_ms(self.now)
                .max(self.witness.level().map_or(0, |level| level.clock_ms)),
        };
        checks::answer(&bench, index, &self.hosts[self.asks[index].host].watch)
    }

    // After the faults.

    /// All that is left can be sold from any host, and then it is sold out on every host.
    fn sell_out(&mut self) -> Result<(), Violation> {
        let first = (self.scenario.seed % self.hosts.len() as u64) as usize;
        let left = self.witness.available();
        let mut sold = Vec::new();
        let until = self.now + SALE_BOUND_US * 4;
        trace!(self, "host {first} is to sell the {left} that are left");
        while (sold.len() as u64) < left && self.now < until {
            let wishes = (left - sold.len() as u64).min(8) as usize;
            let number = sold.len();
            let asked = self.ask_and_wait(
                first,
                (0..wishes).map(|wish| wish_for(&format!("rest-{}-{number}-{wish}", self.now))).collect(),
            )?;
            let before = sold.len();
            // One that was told "unknown" is sold, too.
            let ids = asked.into_iter().filter_map(|index| self.asks[index].request.id.clone());
            sold.extend(ids.filter(|id| self.witness.stories.contains_key(id)));
            if sold.len() == before {
                let at = self.now + 100_000;
                self.run_until(at, |_| false)?;
            }
        }
        if (sold.len() as u64) < left {
            return Err(Violation::new("unsold", format!("host {first} sold {} of {left}", sold.len())));
        }
        for host in (0..self.hosts.len()).filter(|host| *host != first) {
            let Some(id) = sold.pop() else { break };
            trace!(self, "{id} is given back at host {first}, and host {host} is to sell it");
            let cancel = Request { kind: Kind::Cancel, ..wish_for(&id) };
            let until = self.now + SALE_BOUND_US;
            loop {
                // It was told "unknown", and is still on its way.
                let asked = self.ask_and_wait(first, vec![cancel.clone()])?;
                if !matches!(&self.asks[asked[0]].answer, Some((_, Word::Refused { .. }))) {
                    break;
                }
                if self.now > until {
                    return Err(Violation::new("never calm", format!("{:?}", self.asks[asked[0]])));
                }
                let at = self.now + 100_000;
                self.run_until(at, |_| false)?;
            }
            let until = self.now + SALE_BOUND_US;
            let mut number = 0;
            loop {
                number += 1;
                let asked = self.ask_and_wait(host, vec![wish_for(&format!("back-{host}-{number}"))])?;
                if self.asks[asked[0]]
                    .request
                    .id
                    .as_ref()
                    .is_some_and(|id| self.witness.stories.contains_key(id))
                {
                    break;
                }
                if self.now > until {
                    return Err(Violation::new(
                        "unsold",
                        format!("host {host} does not sell what came back: {:?}", self.asks[asked[0]]),
                    ));
                }
                let at = self.now + 100_000;
                self.run_until(at, |_| false)?;
            }
        }
        if self.scenario.hold_ms.is_none() && self.witness.available() == 0 {
            let at = self.now + 500_000;
            self.run_until(at, |_| false)?;
            for host in 0..self.hosts.len() {
                let asked =
                    self.ask_and_wait(host, vec![Request { kind: Kind::Buy, id: None, ..wish_for("") }])?;
                let told = &self.asks[asked[0]].answer;
                if !matches!(told, Some((_, Word::Refused { name, .. })) if name == "sold-out") {
                    return Err(Violation::new("not sold out", format!("host {host} says {told:?}")));
                }
            }
        }
        Ok(())
    }

    /// Asks by a client of its own, and waits for the answers.
    fn ask_and_wait(&mut self, host: usize, requests: Vec<Request>) -> Result<Vec<usize>, Violation> {
        let number = self.clients.len();
        let core = self.random.below(self.scenario.cores);
        let mut client = Client::new(number, &self.scenario);
        client.wake_at = None;
        client.tired = true;
        self.clients.push(client);
        let outcome = self.ask_as(number, host, core, requests);
        self.hang_up(number, false);
        self.clients.truncate(number);
        outcome
    }

    fn ask_as(
        &mut self,
        number: usize,
        host: usize,
        core: usize,
        requests: Vec<Request>,
    ) -> Result<Vec<usize>, Violation> {
        self.dial(number, host, core);
        let first = self.asks.len();
        let now = self.now;
        let mut random = self.random.clone();
        let link = self.clients[number].link.as_mut().expect("it was dialled");
        for request in requests {
            self.net.write_all(link.pipe, Side::Dialler, &request.bytes(&mut random), now);
            link.waiting.push_back(self.asks.len());
            self.asks.push(Ask {
                request,
                client: number,
                host,
                pipe: link.pipe,
                sent_at: now,
                answer: None,
                given_up_at: None,
                whole: true,
            });
        }
        let asked: Vec<usize> = (first..self.asks.len()).collect();
        let last = asked.len() + first;
        self.run_until(now + SALE_BOUND_US, |world| {
            world.asks[first..last].iter().all(|ask| ask.answer.is_some())
        })?;
        match asked.iter().find(|index| self.asks[**index].answer.is_none()) {
            Some(index) => Err(Violation::new("never answered", format!("in calm: {:?}", self.asks[*index]))),
            None => Ok(asked),
        }
    }

    fn judge_whole(&mut self) -> Result<(), Violation> {
        let said: BTreeSet<String> =
            self.hosts.iter().flat_map(|host| host.watch.said.iter().cloned()).collect();
        let was_killed = |pipe: PipeId| match self.net.place(pipe, Side::Dialler) {
            Place::Loop { host, incarnation, .. } => self.killed.contains(&(host, incarnation)),
            _ => false,
        };
        checks::whole(&Whole {
            scenario: &self.scenario,
            asks: &self.asks,
            witness: &self.witness,
            said: &said,
            was_killed: &was_killed,
        })
    }
}

fn wish_for(id: &str) -> Request {
    Request { kind: Kind::Put, id: Some(id.to_owned()), quantity: 1, buyer: None, tries: 0 }
}
