//! The clients of a run: when they act, what they send, and what they make of what comes.

use super::*;

impl World {
    pub(super) fn wake_client(&mut self, number: usize) -> Result<(), Violation> {
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

    pub(super) fn dial(&mut self, number: usize, host: usize, core: usize) {
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
            let first = &requests[0].id;
            if first.is_some() && requests.iter().all(|request| request.id == *first) {
                self.counts.add("client pipelines deeds on one booking");
            }
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
    pub(super) fn hang_up(&mut self, number: usize, at_once: bool) {
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

    pub(super) fn client_piece(
        &mut self,
        number: usize,
        pipe: PipeId,
        piece: Piece,
    ) -> Result<(), Violation> {
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

    pub(super) fn read_answers(&mut self, number: usize) -> Result<(), Violation> {
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
            Some((_, Word::Refused { name, .. })) if name == "overloaded" => {
                self.counts.add("no permit within its time")
            }
            _ => {}
        }
        let bookings = self.ledger.redis().bookings(SALE);
        let bench = Bench {
            asks: &self.asks,
            witness: &self.witness,
            is_tombstone: &|id| bookings.get(id).is_some_and(|booking| booking.letter == 't'),
            stands_us: (self.hosts.len() > 1).then_some(self.scenario.ledger_timeout_ms * 1_000),
            ledger_ms: self
                .ledger_ms
                .max(self.ledger.wall_ms(self.now))
                .max(self.witness.level().map_or(0, |level| level.clock_ms)),
        };
        checks::answer(&bench, index, &self.hosts[self.asks[index].host].watch)
    }
}
