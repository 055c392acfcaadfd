//! After the faults: everything comes to rest, and all that is left can be sold.

use std::io;

use boxoffice::audit::{self, Audit, Sources};
use boxoffice::protocol::CallError;

use super::*;

/// What an audit asks.
struct Auditor<'a> {
    ledger: &'a mut Ledger,
    now: u64,
}

impl boxoffice::ledger::Ledger for Auditor<'_> {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        let unknown = || CallError::Unknown("it did not answer".to_owned());
        calls.iter().map(|call| self.ledger.execute(call, self.now).ok_or_else(unknown)).collect()
    }
}

/// No access log, no metrics.
struct NoSources;

impl Sources for NoSources {
    fn access_log(&self, _: &std::path::Path) -> io::Result<Box<dyn io::BufRead>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn metrics(&self, _: &str, _: bool) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl World {
    /// Nobody waits for anything.
    pub(super) fn is_calm(&self) -> bool {
        let clients = self.clients.iter().all(|client| {
            client.link.as_ref().is_none_or(|link| link.waiting.is_empty()) && !client.wants_more()
        });
        let hosts = self.hosts.iter().all(|host| {
            host.running == Running::Yes && host.waiting() == 0 && host.is_linked() && host.knows_sale()
        });
        // A ledger that fell back is noticed by the next sync, frozen while hosts put back what they remember, and then
        // sells again.
        let noticed = self.fallbacks == 0 || self.now >= self.scenario.healed_at + 3_000_000;
        let open = self.witness.level().is_some_and(|level| level.status == "open");
        let heard = self.readers_are_up_to_date();
        clients && hosts && open && noticed && heard && !self.is_frozen() && self.holds_are_over()
    }

    fn is_frozen(&self) -> bool {
        let Some(level) = self.witness.level() else { return true };
        level.frozen_until_ms > level.clock_ms.max(self.ledger.wall_ms(self.now))
    }

    /// Every hold has ended; or the sale's clock was once far ahead, so that its holds last (a known gap).
    fn holds_are_over(&self) -> bool {
        let Some(level) = self.witness.level() else { return false };
        level.held == 0 || level.clock_ms > self.ledger.wall_ms(self.now) + 1_000
    }

    pub(super) fn check_calm(&mut self) -> Result<(), Violation> {
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

    /// All that is left can be sold from any host, and then it is sold out on every host.
    pub(super) fn sell_out(&mut self) -> Result<(), Violation> {
        let first = (self.scenario.seed % self.hosts.len() as u64) as usize;
        // Some that are told "unknown" are sold, if only a while later.
        let mut asked_for: Vec<String> = Vec::new();
        let mut sold: Vec<String> = Vec::new();
        let until = self.now + SALE_BOUND_US * 4;
        let left = self.witness.available();
        trace!(self, "host {first} is to sell the {left} that are left");
        // Or others take of them: what a client asked for that has hung up since may still be on its way.
        while (sold.len() as u64) < left && self.witness.available() > 0 && self.now < until {
            let wishes = (left - sold.len() as u64).min(8) as usize;
            let number = sold.len();
            let asked = self.ask_and_wait(
                first,
                (0..wishes).map(|wish| wish_for(&format!("rest-{}-{number}-{wish}", self.now))).collect(),
            )?;
            asked_for.extend(asked.into_iter().filter_map(|index| self.asks[index].request.id.clone()));
            sold = asked_for.iter().filter(|id| self.witness.stories.contains_key(*id)).cloned().collect();
            if sold.len() == number {
                let at = self.now + 100_000;
                self.run_until(at, |_| false)?;
            }
        }
        if (sold.len() as u64) < left && self.witness.available() > 0 {
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
        self.check_news()?;
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

    /// Nothing has happened for a while, and every host knows the sale as it is.
    fn check_news(&mut self) -> Result<(), Violation> {
        let (mut before, mut until) = (None, self.now);
        // Holds may end on the way.
        for _ in 0..3 {
            let now_is = self.witness.level().map(|level| (level.version, level.sequence));
            if before == Some(now_is) {
                break;
            }
            before = Some(now_is);
            until += NEWS_BOUND_US;
            self.run_until(until, |_| false)?;
        }
        let Some(level) = self.witness.level().cloned() else { return Ok(()) };
        for host in &self.hosts {
            let known = host.level().map(|known| (known.version, known.sequence));
            let is_known = known == Some((level.version, level.sequence));
            if !is_known && before == Some(Some((level.version, level.sequence))) {
                return Err(Violation::new(
                    "late news",
                    format!("host {} knows {known:?} of {level:?}", host.number),
                ));
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

    /// An audit at the end finds nothing but what the ledger could not help: that it has lost something, that its clock
    /// is ahead, and a limit that came after the tickets.
    pub(super) fn audit(&mut self) -> Result<(), Violation> {
        let was_limited =
            self.scenario.strikes.iter().any(|strike| matches!(strike.fault, Fault::LimitBuyers { .. }));
        let has_forgotten = !self.witness.forgotten.is_empty();
        let jumped =
            self.scenario.strikes.iter().any(|strike| matches!(strike.fault, Fault::JumpRedisClock { .. }));
        let is_excused = |kind| match kind {
            audit::Kind::Limit => was_limited || has_forgotten,
            audit::Kind::Lost => has_forgotten,
            audit::Kind::Clock => jumped || self.clock_went_back,
            _ => false,
        };
        let audit = Audit { sale: sale(), access_logs: &[], metrics: &[] };
        let found = audit.run(&mut Auditor { ledger: &mut self.ledger, now: self.now }, &NoSources);
        let found = found.map_err(|error| Violation::new("audit", format!("it fails: {error}")))?;
        match found.listed.iter().find(|difference| !is_excused(difference.kind)) {
            Some(difference) => {
                Err(Violation::new("audit", format!("{difference:?} of {}", found.differences)))
            }
            None => Ok(()),
        }
    }

    pub(super) fn judge_whole(&mut self) -> Result<(), Violation> {
        let said: BTreeSet<String> =
            self.hosts.iter().flat_map(|host| host.watch.said.iter().cloned()).collect();
        let was_killed = |pipe: PipeId| match self.net.place(pipe, Side::Dialler) {
            Place::Loop { host, incarnation, .. } => self.killed.contains(&(host, incarnation)),
            _ => false,
        };
        let remembers = |pipe: PipeId| match self.net.place(pipe, Side::Acceptor) {
            Place::Loop { host, incarnation, .. } => !self.killed.contains(&(host, incarnation)),
            _ => false,
        };
        checks::whole(&Whole {
            scenario: &self.scenario,
            asks: &self.asks,
            witness: &self.witness,
            said: &said,
            was_killed: &was_killed,
            remembers: &remembers,
            fallbacks: self.fallbacks,
            lost: &self.ledger.redis().lost(SALE),
        })
    }
}

fn wish_for(id: &str) -> Request {
    Request { kind: Kind::Put, id: Some(id.to_owned()), quantity: 1, amount: 0, buyer: None, tries: 0 }
}
