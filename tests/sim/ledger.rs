//! The Redis of a run: the model, its replica, its connections, and what befalls it. Hosts reach it only through the
//! network; checkers look past that.

use std::collections::{BTreeMap, VecDeque};

use boxoffice::ledger::redis::codec;
use boxoffice::protocol::{Answer, Call};

use crate::faults::Refusing;
use crate::network::{Network, Piece, PipeId, Place, Side};
use crate::random::Random;
use crate::redis::{ClientId, Fsync, Loss, ModelRedis, Options, Trouble};
use crate::scenario::{Keeping, SALE, Scenario};

/// The wall clock when a run begins, in microseconds.
pub const BASE_US: u64 = 1_800_000_000_000_000;

/// The number that the replica goes by.
const REPLICA: u32 = 1;

/// Texts in scripts and what stands in their place: for mutants.
pub type Rewrite = &'static [(&'static str, &'static str)];

/// Those that mutants rewrite.
pub const SCRIPTS: [&str; 9] = [
    include_str!("../../lua/sale.lua"),
    include_str!("../../lua/reserve.lua"),
    include_str!("../../lua/confirm.lua"),
    include_str!("../../lua/cancel.lua"),
    include_str!("../../lua/amend.lua"),
    include_str!("../../lua/alter.lua"),
    include_str!("../../lua/restore.lua"),
    include_str!("../../lua/open.lua"),
    include_str!("../../lua/recall.lua"),
];

/// Whether it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It does.
    Yes,
    /// It stands still.
    Paused { until: u64 },
    /// It is not there.
    Down { until: u64 },
}

struct Replica {
    redis: ModelRedis,
    /// When it follows on.
    next_at: u64,
    lag_us: u64,
    /// It has all of the primary's history up to its position.
    attached: bool,
}

/// A primary that another has replaced, and that does not know: it carries out what hosts ask that have not heard of it, either.
/// It has no replica any more.
struct Former {
    redis: ModelRedis,
    clients: BTreeMap<PipeId, ClientId>,
    unsent: BTreeMap<PipeId, Vec<u8>>,
    mail: VecDeque<(PipeId, Piece)>,
    incarnation: u32,
    until: u64,
}

/// See the [module](self).
pub struct Ledger {
    keeping: Keeping,
    redis: ModelRedis,
    rewrite: Rewrite,
    replica: Option<Replica>,
    former: Option<Former>,
    /// Calls on sales that one that was replaced has carried out.
    pub carried_out_in_vain: u64,
    clients: BTreeMap<PipeId, ClientId>,
    /// The connection of each client there ever was.
    pipes: BTreeMap<ClientId, PipeId>,
    unsent: BTreeMap<PipeId, Vec<u8>>,
    mail: VecDeque<(PipeId, Piece)>,
    /// Of each loop the newest connection on which a call was carried out.
    newest: Vec<(Place, PipeId)>,
    /// A call was carried out on an older one after that.
    pub overtaken: Option<PipeId>,
    /// Which process it is, so that nothing reaches one that is no more.
    pub incarnation: u32,
    /// See [`Serving`].
    pub serving: Serving,
    trouble_until: Option<u64>,
    garbles_until: u64,
    garbling: Random,
    /// Answers that made no sense.
    pub garbled: u64,
    skew_us: i64,
    /// When it is to be driven.
    pub wake_at: Option<u64>,
    service_us: u64,
    random: Random,
}

fn options(keeping: Keeping, is_replica: bool) -> Options {
    let (appendonly, fsync) = match keeping {
        Keeping::EverySecond => (true, Fsync::EverySecond),
        Keeping::Memory => (false, Fsync::Never),
        _ => (true, Fsync::Always),
    };
    Options { appendonly, fsync, is_replica, ..Options::default() }
}

/// Spoils the first reply where it is a script's, which is a bulk string that begins with the sale's state: it says
/// something else, or one line more, or is an error. `false` where it is another.
fn garble(output: &mut Vec<u8>, random: &mut Random) -> bool {
    let Some(start) = memchr::memmem::find(output, b"\r\n").map(|at| at + 2) else { return false };
    let length: Option<usize> =
        output.strip_prefix(b"$").and_then(|rest| std::str::from_utf8(&rest[..start - 3]).ok()?.parse().ok());
    let Some(length) = length else { return false };
    let Some(reply) = output.get(start..start + length) else { return false };
    if !reply.first().is_some_and(u8::is_ascii_digit) || !reply.contains(&b',') {
        return false;
    }
    let spoiled = match random.below(3) {
        0 => [b"z", &reply[1..]].concat(),
        1 => [reply, b"\n-"].concat(),
        _ => Vec::new(),
    };
    let frame = match spoiled.is_empty() {
        true => b"-ERR what is that?\r\n".to_vec(),
        false => [format!("${}\r\n", spoiled.len()).as_bytes(), &spoiled, b"\r\n"].concat(),
    };
    output.splice(..start + length + 2, frame);
    true
}

impl Ledger {
    /// One without a sale. `rewrite` changes the text of every script, for mutants.
    pub fn new(scenario: &Scenario, rewrite: Rewrite) -> Ledger {
        let mut random = Random::new(scenario.seed, "redis", 0);
        let keeping = scenario.keeping;
        let mut ledger = Ledger {
            keeping,
            redis: ModelRedis::new(options(keeping, false)),
            rewrite,
            replica: None,
            former: None,
            carried_out_in_vain: 0,
            clients: BTreeMap::new(),
            pipes: BTreeMap::new(),
            unsent: BTreeMap::new(),
            mail: VecDeque::new(),
            newest: Vec::new(),
            overtaken: None,
            incarnation: 0,
            serving: Serving::Yes,
            trouble_until: None,
            garbles_until: 0,
            garbling: Random::new(scenario.seed, "garbling", 0),
            garbled: 0,
            skew_us: 0,
            wake_at: None,
            service_us: random.pick(&[1, 20, 200, 2_000]),
            random,
        };
        ledger.set_up();
        ledger.begin_replica(0);
        if let Some(replica) = &mut ledger.replica {
            // Hosts find a ledger that is ready.
            replica.redis.apply_full_copy(&ledger.redis.full_copy());
            replica.attached = true;
            ledger.redis.attach_replica(REPLICA);
        }
        ledger
    }

    fn set_up(&mut self) {
        if !self.rewrite.is_empty() {
            let rewrite = self.rewrite;
            self.redis.rewrite_scripts(move |text| {
                rewrite.iter().fold(text.to_owned(), |text, (from, to)| {
                    text.replace(&codec::script_as_loaded(from), &codec::script_as_loaded(to))
                })
            });
        }
        self.redis.set_clock_offset(self.skew_us);
    }

    fn begin_replica(&mut self, now: u64) {
        if !self.keeping.has_replica() {
            return;
        }
        let lag_us = match self.keeping {
            Keeping::Lagging => self.random.pick(&[5_000, 60_000, 400_000]),
            _ => self.random.pick(&[500, 5_000, 40_000]),
        };
        let redis = ModelRedis::new(options(self.keeping, true));
        self.replica = Some(Replica { redis, next_at: now + lag_us, lag_us, attached: false });
        self.wake(now + lag_us);
    }

    /// The connection on which the last change was made; `None` where it was an operator's, or nobody's.
    pub fn last_writer(&self) -> Option<PipeId> {
        self.pipes.get(&self.redis.last_writer()?).copied()
    }

    /// The primary, for checkers.
    pub fn redis(&self) -> &ModelRedis {
        &self.redis
    }

    /// Its wall clock now, in milliseconds.
    pub fn wall_ms(&self, now: u64) -> u64 {
        (BASE_US + now).saturating_add_signed(self.skew_us) / 1_000
    }

    /// Asks to be driven at that time.
    pub fn wake(&mut self, at: u64) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }

    /// Something came on a connection.
    pub fn handle_piece(&mut self, pipe: PipeId, piece: Piece, now: u64) {
        self.mail.push_back((pipe, piece));
        let service_us = self.random.range(1, self.service_us);
        self.wake(now + service_us);
    }

    /// Something came on a connection to the process of that number: whether it is one that was replaced and is still there.
    pub fn handle_former_piece(&mut self, incarnation: u32, pipe: PipeId, piece: &Piece, now: u64) -> bool {
        let Some(former) = self.former.as_mut().filter(|former| former.incarnation == incarnation) else {
            return false;
        };
        former.mail.push_back((pipe, piece.clone()));
        self.wake(now + 1);
        true
    }

    /// Which process hosts are with that have not heard of another, if it is still there.
    pub fn former(&self) -> Option<u32> {
        self.former.as_ref().map(|former| former.incarnation)
    }

    /// Whether the process is there at all, so that its kernel accepts connections.
    pub fn is_there(&self) -> bool {
        !matches!(self.serving, Serving::Down { .. })
    }

    /// Does what is due, one connection's bytes at a time; `after` each.
    pub fn drive(&mut self, net: &mut Network, now: u64, mut after: impl FnMut(&Ledger)) {
        self.wake_at = None;
        match self.serving {
            Serving::Down { until } | Serving::Paused { until } if now < until => return self.wake(until),
            Serving::Down { .. } => self.come_back(now),
            Serving::Paused { .. } => self.serving = Serving::Yes,
            Serving::Yes => {}
        }
        if self.trouble_until.is_some_and(|until| now >= until) {
            self.trouble_until = None;
            self.redis.set_trouble(None);
        }
        self.redis.handle_time(BASE_US + now);
        self.drive_former(net, now);
        while let Some((pipe, piece)) = self.mail.pop_front() {
            match piece {
                Piece::Open => {
                    let client = self.redis.connect();
                    self.clients.insert(pipe, client);
                    self.pipes.insert(client, pipe);
                }
                Piece::Bytes(bytes) => {
                    // Call by call: what the sale was between two of them, a host may be told.
                    let mut rest = &bytes[..];
                    while let Some(&client) = self.clients.get(&pipe)
                        && !rest.is_empty()
                    {
                        let end = memchr::memmem::find(&rest[1..], b"\r\n*").map_or(rest.len(), |at| at + 3);
                        let (call, others) = rest.split_at(end);
                        rest = others;
                        self.note_order(net.place(pipe, Side::Dialler), pipe, client, call);
                        self.carry_out(client, call, now);
                        after(self);
                    }
                }
                Piece::End | Piece::Reset => {
                    if let Some(client) = self.clients.remove(&pipe) {
                        self.redis.disconnect(client);
                    }
                    self.unsent.remove(&pipe);
                    net.close(pipe, Side::Acceptor, now);
                }
                Piece::Taken => {}
            }
            after(self);
        }
        self.follow(now);
        after(self);
        self.flush(net, now);
        let deadlines = [
            self.redis.next_deadline().map(|at| at.saturating_sub(BASE_US).max(now + 1)),
            self.replica.as_ref().map(|replica| replica.next_at),
            self.trouble_until,
            self.former.as_ref().map(|former| former.until),
            self.former
                .as_ref()
                .and_then(|former| Some(former.redis.next_deadline()?.saturating_sub(BASE_US).max(now + 1))),
        ];
        if let Some(at) = deadlines.into_iter().flatten().min() {
            self.wake(at);
        }
    }

    fn carry_out(&mut self, client: ClientId, call: &[u8], now: u64) {
        let is_script = || memchr::memmem::find(call, b"EVALSHA").is_some();
        let is_strange = now < self.garbles_until
            && self.trouble_until.is_none()
            && is_script()
            && self.garbling.chance(300);
        if is_strange {
            self.garbled += 1;
            self.redis.set_trouble(Some(Trouble::Strange));
        }
        self.redis.handle_bytes(client, call, BASE_US + now);
        if is_strange {
            self.redis.set_trouble(None);
        }
    }

    /// What the one that was replaced does. Nobody looks at what it has: it is thrown away when it hears of the other.
    fn drive_former(&mut self, net: &mut Network, now: u64) {
        let Some(former) = &mut self.former else { return };
        former.redis.handle_time(BASE_US + now);
        while let Some((pipe, piece)) = former.mail.pop_front() {
            match piece {
                Piece::Open => drop(former.clients.insert(pipe, former.redis.connect())),
                Piece::Bytes(bytes) => {
                    if let Some(&client) = former.clients.get(&pipe) {
                        former.redis.handle_bytes(client, &bytes, BASE_US + now);
                        let calls = memchr::memmem::find_iter(&bytes, b"EVALSHA").count();
                        self.carried_out_in_vain += calls as u64;
                    }
                }
                Piece::End | Piece::Reset => {
                    if let Some(client) = former.clients.remove(&pipe) {
                        former.redis.disconnect(client);
                    }
                    former.unsent.remove(&pipe);
                    net.close(pipe, Side::Acceptor, now);
                }
                Piece::Taken => {}
            }
        }
        let is_over = now >= former.until;
        former.clients.retain(|&pipe, &mut client| {
            let unsent = former.unsent.entry(pipe).or_default();
            unsent.extend(former.redis.poll_output(client));
            if !unsent.is_empty() {
                let written = net.write(pipe, Side::Acceptor, unsent, now);
                unsent.drain(..written);
            }
            let stays = !is_over && former.redis.is_connected(client);
            if !stays {
                net.close(pipe, Side::Acceptor, now);
            }
            stays
        });
        if is_over {
            self.former = None;
        }
    }

    fn note_order(&mut self, of: Place, pipe: PipeId, client: ClientId, call: &[u8]) {
        // The question of rights is about no sale, and asked before the connection of before is ended.
        let is_call =
            [&b"EVALSHA"[..], b"bx:{"].iter().all(|words| memchr::memmem::find(call, words).is_some());
        if !is_call || !self.redis.is_connected(client) {
            return;
        }
        match self.newest.iter_mut().find(|(place, _)| *place == of) {
            None => self.newest.push((of, pipe)),
            Some((_, newest)) if *newest > pipe => self.overtaken = Some(pipe),
            Some((_, newest)) => *newest = pipe,
        }
    }

    fn flush(&mut self, net: &mut Network, now: u64) {
        for (&pipe, &client) in &self.clients {
            let mut output = self.redis.poll_output(client);
            if now < self.garbles_until && self.garbling.chance(300) {
                self.garbled += u64::from(garble(&mut output, &mut self.garbling));
            }
            let unsent = self.unsent.entry(pipe).or_default();
            unsent.extend(output);
            if !unsent.is_empty() {
                let written = net.write(pipe, Side::Acceptor, unsent, now);
                unsent.drain(..written);
            }
        }
        let gone: Vec<PipeId> = self
            .clients
            .iter()
            .filter(|(_, client)| !self.redis.is_connected(**client))
            .map(|(pipe, _)| *pipe)
            .collect();
        for pipe in gone {
            self.clients.remove(&pipe);
            self.unsent.remove(&pipe);
            net.close(pipe, Side::Acceptor, now);
        }
    }

    /// The replica takes what it has got by now.
    fn follow(&mut self, now: u64) {
        let Some(replica) = &mut self.replica else { return };
        if now < replica.next_at {
            return;
        }
        replica.next_at = now + self.random.range(1, replica.lag_us);
        if !replica.attached {
            replica.redis.apply_full_copy(&self.redis.full_copy());
            replica.attached = true;
            self.redis.attach_replica(REPLICA);
            return;
        }
        // What it says that it has, it has had for a while.
        self.redis.note_replica_ack(REPLICA, replica.redis.position().offset);
        match self.redis.effects_since(replica.redis.position()) {
            Some(effects) if !effects.is_empty() => {
                let count = self.random.range(1, effects.len() as u64) as usize;
                replica.redis.apply_effects(self.redis.position(), &effects[..count]);
            }
            Some(_) => {}
            None => {
                replica.attached = false;
                self.redis.detach_replica(REPLICA);
            }
        }
    }

    fn drop_connections(&mut self, net: &mut Network, now: u64) {
        for pipe in
            net.open_pipes(|_, to| to == crate::network::Place::Redis { incarnation: self.incarnation })
        {
            match self.random.chance(500) {
                true => net.close(pipe, Side::Acceptor, now),
                false => net.abort(pipe, Side::Acceptor, now),
            }
        }
        self.clients.clear();
        self.pipes.clear();
        self.unsent.clear();
        self.mail.clear();
        self.incarnation += 1;
    }

    /// Crashes; comes back after a while with what `loss` leaves.
    pub fn crash(&mut self, loss: Loss, down_us: u64, net: &mut Network, now: u64) {
        self.drop_connections(net, now);
        self.redis.crash_and_restart(loss, BASE_US + now);
        self.trouble_until = None;
        if let Some(replica) = &mut self.replica {
            replica.attached = false;
        }
        self.serving = Serving::Down { until: now + down_us };
        self.wake(now + down_us);
    }

    /// The replica takes over, if it is one that follows; returns whether.
    pub fn fail_over(&mut self, down_us: u64, net: &mut Network, now: u64) -> bool {
        if !self.replica.as_ref().is_some_and(|replica| replica.attached) {
            self.crash(Loss::Nothing, down_us, net, now);
            return false;
        }
        self.drop_connections(net, now);
        let replica = self.replica.take().expect("it was there");
        self.redis = replica.redis;
        self.redis.promote();
        self.trouble_until = None;
        // Another machine, another clock.
        self.skew_us += self.random.range(0, 20_000) as i64 - 10_000;
        self.set_up();
        self.begin_replica(now);
        self.serving = Serving::Down { until: now + down_us };
        self.wake(now + down_us);
        true
    }

    /// The replica takes over, if it is one that follows, and the primary goes on until then for those who do not know; returns
    /// whether.
    pub fn split(&mut self, until: u64, now: u64) -> bool {
        let is_ready = self.serving == Serving::Yes
            && self.former.is_none()
            && self.replica.as_ref().is_some_and(|replica| replica.attached);
        if !is_ready {
            return false;
        }
        let replica = self.replica.take().expect("it was there");
        let mut redis = std::mem::replace(&mut self.redis, replica.redis);
        redis.set_trouble(None);
        redis.detach_replica(REPLICA);
        self.former = Some(Former {
            redis,
            clients: std::mem::take(&mut self.clients),
            unsent: std::mem::take(&mut self.unsent),
            mail: std::mem::take(&mut self.mail),
            incarnation: self.incarnation,
            until,
        });
        self.pipes.clear();
        self.incarnation += 1;
        self.redis.promote();
        self.trouble_until = None;
        self.skew_us += self.random.range(0, 20_000) as i64 - 10_000;
        self.set_up();
        self.begin_replica(now);
        self.wake(now + 1);
        true
    }

    fn come_back(&mut self, now: u64) {
        self.serving = Serving::Yes;
        if let Some(replica) = &mut self.replica {
            replica.next_at = now + replica.lag_us;
        }
    }

    /// Stands still until then.
    pub fn pause(&mut self, until: u64) {
        if self.serving == Serving::Yes {
            self.serving = Serving::Paused { until };
        }
        self.wake(until);
    }

    /// Answers with errors until then.
    pub fn refuse(&mut self, refusing: Refusing, until: u64) {
        self.redis.set_trouble(Some(match refusing {
            Refusing::Loading => Trouble::Loading,
            Refusing::Busy => Trouble::Busy,
            Refusing::Oom => Trouble::OutOfMemory,
            Refusing::Misconf => Trouble::DiskFailed,
            Refusing::Readonly => Trouble::ReadOnly,
        }));
        self.trouble_until = Some(until);
        self.wake(until);
    }

    /// Until then some calls are answered by an error that nobody knows and are not carried out, and some are carried out
    /// and answered by nonsense.
    pub fn garble(&mut self, until: u64) {
        self.garbles_until = until;
    }

    /// Somebody deletes the stock of the sale.
    pub fn delete_stock(&mut self) {
        self.redis.delete(&format!("bx:{{{SALE}}}:stock"));
    }

    /// Somebody deletes the bookings of the sale, if there are any that count. Gives whether there were.
    pub fn delete_bookings(&mut self) -> bool {
        let counted = self.redis.stock(SALE).is_some_and(|stock| stock.held + stock.sold > 0);
        if counted {
            self.redis.delete(&format!("bx:{{{SALE}}}:bookings"));
        }
        counted
    }

    /// Forgets the scripts.
    pub fn flush_scripts(&mut self) {
        self.redis.script_flush();
    }

    /// Its clock jumps.
    pub fn jump_clock(&mut self, by_ms: i64) {
        self.skew_us += by_ms * 1_000;
        self.redis.set_clock_offset(self.skew_us);
    }

    /// All that is wrong is over, whenever it was to end.
    pub fn heal(&mut self, now: u64) {
        self.garbles_until = 0;
        if let Some(former) = &mut self.former {
            former.until = now;
        }
        self.redis.set_trouble(None);
        self.trouble_until = None;
        match self.serving {
            Serving::Yes => {}
            Serving::Paused { .. } => self.serving = Serving::Paused { until: now },
            Serving::Down { .. } => self.serving = Serving::Down { until: now },
        }
        self.wake(now);
    }

    /// Carries a call out at once, as a blocking client on the same machine would: for a host that starts, and for
    /// operators. `None` where Redis does not, or not properly, answer.
    pub fn execute(&mut self, call: &Call, now: u64) -> Option<Answer> {
        if self.serving != Serving::Yes {
            return None;
        }
        let client = self.redis.connect();
        let mut out = Vec::new();
        let replies = codec::hello(None, None, 0, "boxoffice", &mut out) + codec::load_scripts(&mut out);
        codec::pack(call, &mut out);
        self.redis.handle_bytes(client, &out, BASE_US + now);
        let answered = self.redis.poll_output(client);
        self.redis.disconnect(client);
        let set_up = codec::frames_length(replies, &answered).ok()??;
        codec::first_error(&answered[..set_up]).is_none().then_some(())?;
        codec::read(call, &answered[set_up..]).ok()
    }
}
