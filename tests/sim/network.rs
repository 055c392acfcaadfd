//! Byte streams between clients, hosts and Redis, as TCP gives them: in order inside a connection, in any order between
//! connections, torn into any fragments, late, and ended by either side at any byte.
//!
//! It moves bytes and knows nothing of what they mean. The world asks when the next piece arrives, and hands it to
//! whoever has that end.

use std::collections::VecDeque;

use crate::random::Random;

/// A connection; never used for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PipeId(pub usize);

/// One of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who dialled.
    Dialler = 0,
    /// Who was dialled.
    Acceptor = 1,
}

impl Side {
    /// The end at the other side.
    pub fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Acceptor,
            Side::Acceptor => Side::Dialler,
        }
    }
}

/// Who is at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A client, by its number.
    Client(usize),
    /// One that reads a stream, by its number.
    Reader(usize),
    /// A loop of a host; of this incarnation only.
    Loop { host: usize, core: usize, incarnation: u32 },
    /// The Redis, of this incarnation only.
    Redis { incarnation: u32 },
}

/// What arrives at an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The connection came about.
    Open,
    /// Some bytes.
    Bytes(Vec<u8>),
    /// The other side sends no more.
    End,
    /// The connection is gone: what was on the way is lost.
    Reset,
    /// The other side has taken some of what this end has sent: there is room again.
    Taken,
}

/// How the network behaves. Times in microseconds, chances in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Every piece takes at least so long.
    pub delay_us: u64,
    /// And up to so much longer.
    pub jitter_us: u64,
    /// How often a piece is very late.
    pub spike_per_mille: u64,
    /// How late.
    pub spike_us: u64,
    /// How often a write is torn.
    pub tear_per_mille: u64,
    /// How often a new connection is one that will break, at a random byte.
    pub cut_per_mille: u64,
    /// How often a dial is lost.
    pub lost_dial_per_mille: u64,
}

impl Weather {
    /// Nothing goes wrong.
    pub const CALM: Weather = Weather {
        delay_us: 50,
        jitter_us: 50,
        spike_per_mille: 0,
        spike_us: 0,
        tear_per_mille: 0,
        cut_per_mille: 0,
        lost_dial_per_mille: 0,
    };
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Flow {
    pieces: VecDeque<(u64, Piece)>,
    last_at: u64,
    /// Bytes on the way.
    queued: usize,
    sent: u64,
    cut_at: Option<u64>,
    ended: bool,
    /// Its writer was told that there is no room.
    hungry: bool,
}

#[derive(Debug)]
struct Pipe {
    places: [Place; 2],
    /// By who writes.
    flows: [Flow; 2],
    /// An end whose owner has closed it, or is no more: what comes there is refused.
    closed: [bool; 2],
    broken: bool,
    window: usize,
    frozen_until: u64,
    random: Random,
}

/// All connections there ever were.
pub struct Network {
    pipes: Vec<Pipe>,
    seed: u64,
    /// The weather of now.
    pub weather: Weather,
    /// When the next piece arrives where; the world takes these into its own queue.
    pub due: Vec<(u64, PipeId, Side)>,
    /// Writes that were torn.
    pub torn: u64,
    /// Pieces that were very late.
    pub late: u64,
    /// Connections that broke at a byte.
    pub cuts: u64,
    /// Writes that the other side had no room for.
    pub full: u64,
}

impl Network {
    /// Without a connection.
    pub fn new(seed: u64, weather: Weather) -> Network {
        Network { pipes: Vec::new(), seed, weather, due: Vec::new(), torn: 0, late: 0, cuts: 0, full: 0 }
    }

    /// Dials. Both ends are told when it has come about. `number` names the stream of chance of this connection.
    pub fn dial(&mut self, from: Place, to: Place, now: u64) -> PipeId {
        let id = PipeId(self.pipes.len());
        let mut random = Random::new(self.seed, "pipe", id.0 as u64);
        let window = match random.below(4) {
            0 => random.range(64, 1_000) as usize,
            _ => 64 * 1024,
        };
        let mut pipe = Pipe {
            places: [from, to],
            flows: Default::default(),
            closed: [false, false],
            broken: false,
            window,
            frozen_until: 0,
            random,
        };
        if pipe.random.chance(self.weather.cut_per_mille) {
            let flow = pipe.random.below(2);
            // Scripts take up the first bytes towards Redis: most cuts are to come later than that.
            let most = if matches!(to, Place::Redis { .. }) && flow == 0 { 120_000 } else { 3_000 };
            pipe.flows[flow].cut_at = Some(pipe.random.range(0, most));
        }
        let lost = pipe.random.chance(self.weather.lost_dial_per_mille);
        self.pipes.push(pipe);
        if !lost {
            self.send(id, Side::Dialler, Piece::Open, now);
        }
        id
    }

    /// The far end answers the dial.
    pub fn accept(&mut self, id: PipeId, now: u64) {
        self.send(id, Side::Acceptor, Piece::Open, now);
    }

    /// Who is there.
    pub fn place(&self, id: PipeId, side: Side) -> Place {
        self.pipes[id.0].places[side as usize]
    }

    /// Writes at an end; returns how many bytes there was room for.
    pub fn write(&mut self, id: PipeId, side: Side, bytes: &[u8], now: u64) -> usize {
        let pipe = &mut self.pipes[id.0];
        if pipe.broken || pipe.closed[side as usize] {
            return bytes.len();
        }
        let room = pipe.window.saturating_sub(pipe.flows[side as usize].queued);
        let accepted = bytes.len().min(room);
        if accepted < bytes.len() {
            self.full += 1;
            pipe.flows[side as usize].hungry = true;
        }
        let mut rest = &bytes[..accepted];
        let mut cut = false;
        let flow = &mut pipe.flows[side as usize];
        if let Some(at) = flow.cut_at
            && flow.sent + rest.len() as u64 >= at
        {
            rest = &rest[..(at - flow.sent) as usize];
            cut = true;
        }
        flow.sent += rest.len() as u64;
        flow.queued += rest.len();
        while !rest.is_empty() {
            let pipe = &mut self.pipes[id.0];
            let torn = rest.len() > 1 && pipe.random.chance(self.weather.tear_per_mille);
            self.torn += u64::from(torn);
            let length = if torn { pipe.random.range(1, rest.len() as u64 - 1) as usize } else { rest.len() };
            let (first, others) = rest.split_at(length);
            self.send(id, side, Piece::Bytes(first.to_vec()), now);
            rest = others;
        }
        if cut {
            self.cuts += 1;
            self.cut(id, now);
        }
        accepted
    }

    /// Writes everything, however little room there is: clients do not mind how much their kernel keeps.
    pub fn write_all(&mut self, id: PipeId, side: Side, bytes: &[u8], now: u64) {
        let window = std::mem::replace(&mut self.pipes[id.0].window, usize::MAX);
        self.write(id, side, bytes, now);
        self.pipes[id.0].window = window;
    }

    /// Nothing breaks or stands still any more, and what is late arrives now.
    pub fn heal(&mut self, now: u64) {
        for (index, pipe) in self.pipes.iter_mut().enumerate() {
            pipe.frozen_until = 0;
            for side in [Side::Dialler, Side::Acceptor] {
                let flow = &mut pipe.flows[side as usize];
                flow.cut_at = None;
                flow.last_at = flow.last_at.min(now);
                for (at, _) in &mut flow.pieces {
                    *at = now.min(*at);
                    self.due.push((now, PipeId(index), side.other()));
                }
            }
        }
    }

    /// This side sends no more.
    pub fn end(&mut self, id: PipeId, side: Side, now: u64) {
        let flow = &mut self.pipes[id.0].flows[side as usize];
        if !std::mem::replace(&mut flow.ended, true) {
            self.send(id, side, Piece::End, now);
        }
    }

    /// This side closes its socket: what it has sent arrives, what is sent to it is refused.
    pub fn close(&mut self, id: PipeId, side: Side, now: u64) {
        if !std::mem::replace(&mut self.pipes[id.0].closed[side as usize], true) {
            self.end_or_reset(id, side, now);
        }
    }

    /// This side closes a socket of which it has read everything: the peer sees the end, if it did not see it before.
    pub fn close_read(&mut self, id: PipeId, side: Side, now: u64) {
        self.end(id, side, now);
        self.pipes[id.0].closed[side as usize] = true;
    }

    fn end_or_reset(&mut self, id: PipeId, side: Side, now: u64) {
        let flow = &mut self.pipes[id.0].flows[side as usize];
        if !std::mem::replace(&mut flow.ended, true) {
            self.send(id, side, Piece::End, now);
        } else {
            self.send(id, side, Piece::Reset, now);
        }
    }

    /// This side is gone with all that it had on the way.
    pub fn abort(&mut self, id: PipeId, side: Side, now: u64) {
        let pipe = &mut self.pipes[id.0];
        if !std::mem::replace(&mut pipe.closed[side as usize], true) {
            let kept = pipe.flows[side as usize].pieces.len();
            let kept = if kept == 0 { 0 } else { pipe.random.below(kept + 1) };
            pipe.flows[side as usize].pieces.truncate(kept);
            self.send(id, side, Piece::Reset, now);
        }
    }

    /// The connection breaks under both.
    pub fn cut(&mut self, id: PipeId, now: u64) {
        for side in [Side::Dialler, Side::Acceptor] {
            let pipe = &mut self.pipes[id.0];
            if pipe.random.chance(500) {
                let kept = pipe.random.below(pipe.flows[side as usize].pieces.len() + 1);
                pipe.flows[side as usize].pieces.truncate(kept);
            }
            self.send(id, side, Piece::Reset, now);
        }
        self.pipes[id.0].broken = true;
    }

    /// Nothing of the connection arrives before `until`.
    pub fn freeze(&mut self, id: PipeId, until: u64) {
        self.pipes[id.0].frozen_until = until;
    }

    /// Connections that are open, between such ends.
    pub fn open_pipes(&self, wanted: impl Fn(Place, Place) -> bool) -> Vec<PipeId> {
        let open = |pipe: &&(usize, &Pipe)| {
            !pipe.1.broken
                && !pipe.1.closed[0]
                && !pipe.1.closed[1]
                && wanted(pipe.1.places[0], pipe.1.places[1])
        };
        self.pipes.iter().enumerate().filter(|pipe| open(&pipe)).map(|(index, _)| PipeId(index)).collect()
    }

    fn send(&mut self, id: PipeId, side: Side, piece: Piece, now: u64) {
        let weather = self.weather;
        let pipe = &mut self.pipes[id.0];
        if pipe.broken {
            return;
        }
        let mut at = now + weather.delay_us + pipe.random.range(0, weather.jitter_us);
        if pipe.random.chance(weather.spike_per_mille) {
            self.late += 1;
            at += pipe.random.range(0, weather.spike_us);
        }
        let flow = &mut pipe.flows[side as usize];
        at = at.max(flow.last_at).max(pipe.frozen_until);
        flow.last_at = at;
        flow.pieces.push_back((at, piece));
        self.due.push((at, id, side.other()));
    }

    /// What has arrived at that end by now. Where the connection is frozen it comes later.
    pub fn take(&mut self, id: PipeId, at_side: Side, now: u64) -> Option<Piece> {
        let writer = at_side.other();
        let pipe = &mut self.pipes[id.0];
        let frozen_until = pipe.frozen_until;
        let flow = &mut pipe.flows[writer as usize];
        let &(at, _) = flow.pieces.front()?;
        if at > now {
            return None;
        }
        if frozen_until > now {
            self.due.push((frozen_until, id, at_side));
            return None;
        }
        let (_, piece) = flow.pieces.pop_front()?;
        if let Piece::Bytes(bytes) = &piece {
            flow.queued = flow.queued.saturating_sub(bytes.len());
            if std::mem::take(&mut flow.hungry) {
                self.send(id, at_side, Piece::Taken, now);
            }
        }
        let pipe = &mut self.pipes[id.0];
        if pipe.closed[at_side as usize] {
            // Nobody is there: bytes are answered with a reset, and the rest is dropped.
            if matches!(piece, Piece::Bytes(_) | Piece::Open) && !pipe.closed[writer as usize] {
                self.send(id, at_side, Piece::Reset, now);
            }
            return None;
        }
        Some(piece)
    }
}
