//! Replication: what a server has changed, in order, and how far others have followed. Asynchronous: the simulator decides
//! when effects travel, and a replica may lag behind as far as it likes.

use std::cell::Cell;

use super::ModelRedis;
use super::append_only::{AppendOnlyFile, Effect, carry_out};
use super::dataset::Dataset;

/// How far a server has come, and in which history: two servers at the same position have the same data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    history: u64,
    pub offset: u64,
}

/// All data of a server at a position.
#[derive(Clone, Debug)]
pub struct FullCopy {
    data: Dataset,
    position: Position,
}

/// What a server changed.
#[derive(Debug)]
pub(super) struct History {
    id: u64,
    /// The history before a promotion, and how far it is the same as this one.
    previous: Option<Position>,
    /// The offset before the first of `effects`.
    start: u64,
    effects: Vec<Effect>,
}

impl History {
    pub(super) fn new() -> History {
        History { id: fresh_id(), previous: None, start: 0, effects: Vec::new() }
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn offset(&self) -> u64 {
        self.start + self.effects.len() as u64
    }

    /// The effects after that position; `None` where it is of another history, or before what is kept.
    fn since(&self, position: Position) -> Option<&[Effect]> {
        let is_ours = position.history == self.id
            || self.previous.is_some_and(|previous| {
                previous.history == position.history && position.offset <= previous.offset
            });
        let index = position.offset.checked_sub(self.start).filter(|_| is_ours)?;
        self.effects.get(index as usize..)
    }
}

/// Only ever compared.
fn fresh_id() -> u64 {
    thread_local!(static LAST: Cell<u64> = const { Cell::new(0) });
    LAST.set(LAST.get() + 1);
    LAST.get()
}

impl ModelRedis {
    /// Effects carried out since the history began.
    pub fn replication_offset(&self) -> u64 {
        self.history.offset()
    }

    /// Where this server stands; on a replica, how far it has followed.
    pub fn position(&self) -> Position {
        Position { history: self.history.id, offset: self.history.offset() }
    }

    /// What a server at that position has yet to apply. `None` where it needs a [`FullCopy`]: its history is another.
    pub fn effects_since(&self, position: Position) -> Option<Vec<Effect>> {
        self.history.since(position).map(<[Effect]>::to_vec)
    }

    /// For a replica that cannot go on from where it is.
    pub fn full_copy(&self) -> FullCopy {
        FullCopy { data: self.data.clone(), position: self.position() }
    }

    /// Becomes a replica of whoever made the copy, with its data and nothing else. It lies on this server's disk, too.
    pub fn apply_full_copy(&mut self, copy: &FullCopy) {
        self.follow();
        self.data = copy.data.clone();
        self.file = AppendOnlyFile::rewritten(&self.data);
        let Position { history: id, offset: start } = copy.position;
        self.history = History { id, previous: None, start, effects: Vec::new() };
    }

    /// Applies what [`effects_since`](ModelRedis::effects_since) gave of the primary `of`, all or the first of it.
    ///
    /// Panics on a server that is no replica.
    pub fn apply_effects(&mut self, of: Position, effects: &[Effect]) {
        assert!(self.refusals.is_replica, "only a replica follows");
        // After a promotion elsewhere, this is the same history under another name.
        self.history.id = of.history;
        for effect in effects {
            carry_out(effect, &mut self.data);
            self.record(effect.clone());
        }
        self.sync_if_due();
    }

    /// A replica is connected. It counts for WAIT once it has said what it has.
    pub fn attach_replica(&mut self, replica: u32) {
        self.replicas.insert(replica, 0);
    }

    /// A replica is gone.
    pub fn detach_replica(&mut self, replica: u32) {
        self.replicas.remove(&replica);
    }

    /// A connected replica said that it has all up to that offset; that of one that is not connected is ignored.
    pub fn note_replica_ack(&mut self, replica: u32, offset: u64) {
        if let Some(known) = self.replicas.get_mut(&replica) {
            *known = offset.max(*known);
            self.answer_waits();
        }
    }

    /// Takes writes from now on. Whoever followed the same primary, and no further than this one, can go on following.
    pub fn promote(&mut self) {
        self.refusals.is_replica = false;
        self.history.previous = Some(self.position());
        self.history.id = fresh_id();
    }

    /// Becomes a replica; clients that wait for replicas are cut off. Before it can follow, it needs a position that its
    /// primary knows, or a full copy.
    pub fn follow(&mut self) {
        self.refusals.is_replica = true;
        self.replicas.clear();
        self.clients.retain(|_, client| client.wait.is_none());
    }

    /// Whether it is a replica.
    pub fn is_replica(&self) -> bool {
        self.refusals.is_replica
    }
}
