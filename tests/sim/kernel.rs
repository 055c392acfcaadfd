//! What the kernel of a loop has of its connections, and the product's traits for sockets and streams over it: bytes that came
//! and were not read, and readiness that is told once, when it changes, as epoll tells it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use boxoffice::connections::{ConnectionKey, Readiness, Sockets};
use boxoffice::http::encode::OVERLOADED;
use boxoffice::net::Endpoint;
use boxoffice::runtime::redis_link::{NodeIndex, Streams};

use crate::host::Watch;
use crate::mutants::Seam;
use crate::network::{Network, Piece, PipeId, Place, Side};

/// One end.
#[derive(Debug, Default)]
struct End {
    received: Vec<u8>,
    ended: bool,
    broken: bool,
    /// The index that its readiness is told under; none of one that was not accepted, and of the link's.
    index: Option<usize>,
    /// What was not told yet.
    is: Readiness,
}

/// The ends of one loop.
#[derive(Debug)]
pub struct Kernel {
    place: Place,
    ends: BTreeMap<PipeId, End>,
    /// Those that nobody has accepted.
    backlog: VecDeque<PipeId>,
    newcomers: bool,
    /// Ends with something to tell, in the order in which it came.
    events: VecDeque<PipeId>,
    link: Option<PipeId>,
}

impl Kernel {
    /// Of a loop there.
    pub fn new(place: Place) -> Kernel {
        let (ends, backlog, events) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        Kernel { place, ends, backlog, newcomers: false, events, link: None }
    }

    /// Takes what came.
    pub fn take(&mut self, mail: &mut Vec<(PipeId, Piece)>) {
        for (pipe, piece) in mail.drain(..) {
            if piece == Piece::Open && self.link != Some(pipe) {
                self.ends.insert(pipe, End::default());
                self.backlog.push_back(pipe);
                self.newcomers = true;
                continue;
            }
            // What comes to an end that is closed, nobody hears of.
            let Some(end) = self.ends.get_mut(&pipe) else { continue };
            match piece {
                Piece::Open | Piece::Taken => end.is.writable = true,
                Piece::Bytes(bytes) => {
                    end.received.extend(bytes);
                    end.is.readable = true;
                }
                Piece::End => (end.ended, end.is.readable, end.is.ended) = (true, true, true),
                Piece::Reset => {
                    end.broken = true;
                    end.is = Readiness {
                        readable: true,
                        writable: true,
                        ended: true,
                        broken: true,
                        urgent: false,
                    };
                }
            }
            self.events.push_back(pipe);
        }
    }

    /// Whether somebody has come since the last time.
    pub fn has_newcomers(&mut self) -> bool {
        std::mem::take(&mut self.newcomers)
    }

    /// The next end of which something is to be told, and what.
    pub fn poll_event(&mut self) -> Option<(PipeId, Readiness)> {
        loop {
            let pipe = self.events.pop_front()?;
            let is_link = self.link == Some(pipe);
            if let Some(end) = self.ends.get_mut(&pipe)
                && (is_link || end.index.is_some())
                && end.is != Readiness::default()
            {
                return Some((pipe, std::mem::take(&mut end.is)));
            }
        }
    }

    /// What its readiness is told under; none for the link.
    pub fn index_of(&self, pipe: PipeId) -> Option<usize> {
        self.ends.get(&pipe)?.index
    }

    /// All of them, with those that are on their way, and which side each is.
    pub fn pipes(&self, mail: &[(PipeId, Piece)]) -> Vec<(PipeId, Side)> {
        let side = |pipe: PipeId| if self.link == Some(pipe) { Side::Dialler } else { Side::Acceptor };
        let on_their_way = mail.iter().filter(|(_, piece)| *piece == Piece::Open).map(|(pipe, _)| *pipe);
        let fresh = on_their_way.filter(|pipe| !self.ends.contains_key(pipe));
        self.ends.keys().copied().chain(fresh).map(|pipe| (pipe, side(pipe))).collect()
    }

    fn read(&mut self, pipe: PipeId, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(end) = self.ends.get_mut(&pipe) else { return Err(io::ErrorKind::NotConnected.into()) };
        if end.received.is_empty() {
            return match (end.broken, end.ended) {
                (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
                (_, true) => Ok(0),
                (false, false) => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let bytes = end.received.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&end.received[..bytes]);
        end.received.drain(..bytes);
        Ok(bytes)
    }

    fn is_broken(&self, pipe: PipeId) -> bool {
        self.ends.get(&pipe).is_none_or(|end| end.broken)
    }
}

/// A loop's ends of the network, while it does something.
pub struct Ends<'a> {
    /// The network.
    pub net: &'a mut Network,
    /// Where the ledger is.
    pub redis: Place,
    /// When.
    pub now: u64,
    /// What came.
    pub kernel: &'a mut Kernel,
    /// What a mutant does.
    pub seam: &'a mut Seam,
    /// What checkers know.
    pub watch: &'a mut Watch,
    /// The connection to Redis was given up.
    pub has_lost_link: bool,
}

fn room(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
}

impl Sockets for Ends<'_> {
    type Socket = PipeId;

    fn accept(&mut self) -> io::Result<(PipeId, SocketAddr)> {
        let pipe = self.kernel.backlog.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        Ok((pipe, (Ipv4Addr::new(10, 0, 0, 1), 40_000).into()))
    }

    fn register(&mut self, pipe: &mut PipeId, key: ConnectionKey) -> io::Result<()> {
        if let Some(end) = self.kernel.ends.get_mut(pipe) {
            end.index = Some(key.index());
            // What came before it was accepted is told now.
            self.kernel.events.push_back(*pipe);
        }
        Ok(())
    }

    fn read(&mut self, pipe: &mut PipeId, buffer: &mut [u8]) -> io::Result<usize> {
        self.kernel.read(*pipe, buffer)
    }

    fn write(&mut self, pipe: &mut PipeId, bytes: &[u8], _is_last: bool) -> io::Result<usize> {
        if bytes == OVERLOADED {
            self.watch.turned_away.push(self.now);
        }
        if self.kernel.is_broken(*pipe) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let bytes = self.seam.output(bytes);
        self.watch.note_said(&bytes);
        room(self.net.write(*pipe, Side::Acceptor, &bytes, self.now))
    }

    fn shut_down(&mut self, pipe: &mut PipeId) {
        self.net.end(*pipe, Side::Acceptor, self.now);
    }

    fn close(&mut self, pipe: PipeId) {
        // Over bytes that were not read, a socket is not closed but reset.
        match self.kernel.ends.remove(&pipe) {
            Some(end) if end.received.is_empty() && !end.broken => {
                self.net.close_read(pipe, Side::Acceptor, self.now)
            }
            _ => self.net.close(pipe, Side::Acceptor, self.now),
        }
    }
}

impl Streams for Ends<'_> {
    type Stream = PipeId;

    fn dial(&mut self, _: NodeIndex, _: &Endpoint, _: usize) -> io::Result<PipeId> {
        let pipe = self.net.dial(self.kernel.place, self.redis, self.now);
        self.kernel.ends.insert(pipe, End::default());
        self.kernel.link = Some(pipe);
        Ok(pipe)
    }

    fn take_error(&mut self, pipe: &mut PipeId) -> io::Result<Option<io::Error>> {
        Ok(self.kernel.is_broken(*pipe).then(|| io::ErrorKind::ConnectionReset.into()))
    }

    fn read(&mut self, pipe: &mut PipeId, buffer: &mut [u8]) -> io::Result<usize> {
        self.kernel.read(*pipe, buffer)
    }

    fn write(&mut self, pipe: &mut PipeId, bytes: &[u8]) -> io::Result<usize> {
        if self.kernel.is_broken(*pipe) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let bytes = self.seam.calls(bytes);
        room(self.net.write(*pipe, Side::Dialler, &bytes, self.now))
    }

    fn close(&mut self, pipe: PipeId) {
        self.kernel.ends.remove(&pipe);
        self.kernel.link = None;
        self.net.close(pipe, Side::Dialler, self.now);
        self.has_lost_link = true;
    }
}
