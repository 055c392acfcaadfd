//! What strikes a run, and the end of all that.

use super::*;

impl World {
    pub(super) fn strike(&mut self, fault: Fault) -> Result<(), Violation> {
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
                    matches!((from, to), (Place::Client(_) | Place::Reader(_), Place::Loop { host: other, .. }) if other == host)
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
                    matches!((from, to), (Place::Client(_) | Place::Reader(_), Place::Loop { host: other, .. }) if other == host)
                });
                fired = !pipes.is_empty();
                pipes.into_iter().for_each(|pipe| self.net.freeze(pipe, self.now + ms * 1_000));
            }
            Fault::CrashRedis { down_ms } => self.crash(Loss::Nothing, down_ms)?,
            Fault::LoseTail { down_ms, effects } => self.crash(Loss::UnsyncedAfter(effects), down_ms)?,
            Fault::LoseAll { down_ms } => {
                self.crash(Loss::Everything, down_ms)?;
                self.plan_reopening(down_ms * 1_000);
            }
            Fault::DeleteStock => {
                self.ledger.delete_stock();
                self.witness.deleted_at = Some(self.now);
                self.look_again()?;
                self.plan_reopening(0);
            }
            Fault::DeleteBookings => {
                fired = self.witness.lost_half.is_none() && self.ledger.delete_bookings();
                if fired {
                    self.witness.lost_half = self.ledger.redis().stock(SALE);
                    self.witness.has_lost_half = true;
                    self.plan_reopening(0);
                }
            }
            Fault::Failover { down_ms } => {
                fired = self.ledger.fail_over(down_ms * 1_000, &mut self.net, self.now);
                self.clock_went_back |= fired;
                if self.look_again()? > 0 {
                    self.counts.add("failover forgets");
                }
            }
            Fault::Split { ms } => {
                fired = self.ledger.split(self.now + ms * 1_000, self.now);
                if fired {
                    self.clock_went_back = true;
                    if self.look_again()? > 0 {
                        self.counts.add("failover forgets");
                    }
                    for host in 0..self.hosts.len() {
                        self.hosts[host].is_with_former = true;
                        let at = self.now + self.random.range(0, ms * 1_000);
                        self.push(at, Event::Tell(host));
                    }
                }
            }
            Fault::FlushScripts => self.ledger.flush_scripts(),
            Fault::Refuse { trouble, ms } => self.ledger.refuse(trouble, self.now + ms * 1_000),
            Fault::GarbleReplies { ms } => self.ledger.garble(self.now + ms * 1_000),
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
            Fault::LimitBuyers { most } => {
                self.alter(SaleChange { per_buyer: Some(most), ..SaleChange::default() })?
            }
            Fault::Assign { which, ref buyer } => fired = self.assign(which, buyer)?,
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

    /// Gives one of the bookings that have tickets to another buyer, by the host's own call. Whether the ledger was asked.
    fn assign(&mut self, which: u64, buyer: &str) -> Result<bool, Violation> {
        let stories = self.witness.stories.iter();
        let having: Vec<String> =
            stories.filter(|(_, story)| story.has_tickets()).map(|(id, _)| id.clone()).collect();
        let Some(id) = having.get((which % having.len().max(1) as u64) as usize) else { return Ok(false) };
        let to = BuyerId::parse(buyer).ok();
        let call = BookingOp::Assign { id: BookingId::parse(id).expect("an id"), buyer: to.map(Box::new) }
            .on(sale(), Watermark::default());
        self.witness.order(id, buyer);
        let (before, level) = (self.witness.stories[id].clone(), self.witness.level().cloned());
        let answer = self.ledger.execute(&call, self.now);
        trace!(self, "an operator gives {id} to {buyer:?}: {answer:?}");
        let observed = self.witness.observe(&self.ledger, self.now);
        self.witness.disorder();
        observed?;
        let now = self.witness.stories[id].clone();
        let has = self.witness.tickets_of(buyer, self.witness.level().map_or(0, |level| level.clock_ms));
        let limit = level.and_then(|level| level.per_buyer);
        let is_true = match &answer {
            Some(Answer::Sale { result: SaleResult::Assigned(amended), .. }) => match amended {
                Amended::Done(booking) => {
                    booking.buyer == to
                        && now.buyer() == buyer
                        && u64::from(booking.quantity.get()) == now.amount()
                }
                Amended::Refused(Objection::BuyerLimit) => {
                    now.buyer() == before.buyer() && limit.is_some_and(|limit| has + before.amount() > limit)
                }
                Amended::Refused(Objection::HoldExpired) => now.now() == Standing::Expired,
                _ => false,
            },
            // It may refuse, be frozen, lose the sale.
            _ => now.buyer() == before.buyer(),
        };
        match is_true {
            true => Ok(matches!(answer, Some(Answer::Sale { result: SaleResult::Assigned(_), .. }))),
            false => Err(Violation::new("assigned", format!("{id} to {buyer:?}: {answer:?}, {now:?}"))),
        }
    }

    /// Sooner or later an operator sees what has happened.
    fn plan_reopening(&mut self, after_us: u64) {
        let at = self.now + after_us + self.random.range(100_000, 3_000_000);
        self.push(at, Event::Reopen);
    }

    /// Where the ledger has lost the sale, or half of it, an operator removes what is left and opens it again.
    pub(super) fn reopen(&mut self) -> Result<(), Violation> {
        if self.ledger.redis().stock(SALE).is_some() && self.witness.lost_half.is_none() {
            return Ok(());
        }
        let removed = self.ledger.execute(&SaleOp::Remove.on(sale()), self.now);
        self.look_again()?;
        let call = SaleOp::Open { terms: self.terms(), by: Opener::Operator }.on(sale());
        let opened = self.ledger.execute(&call, self.now);
        trace!(self, "an operator opens the sale again: {removed:?}, {opened:?}");
        self.witness.observe(&self.ledger, self.now)?;
        if opened.is_none() {
            self.push(self.now + 100_000, Event::Reopen);
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
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
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
        self.reopen()?;
        // A host may yet find that another sale was opened in place of the one it knew, and pause that.
        self.push(self.now + 2_000_000, Event::ResumeSale);
        self.alter(SaleChange { status: Some(SaleStatus::Open), ..SaleChange::default() })
    }
}
