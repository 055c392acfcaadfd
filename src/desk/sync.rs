//! What a desk learns without being asked: which sales there are, their state, and which ids were granted elsewhere.
//!
//! Each sync asks the ledger which sales were announced as changed since the last one, and reads those that this core reads
//! for all cores. A sale may go on changing for a moment after its announcement: it is read again at the next sync, until
//! it is quiet. On a new connection, and if the ledger's feed is not the one that was followed, all sales are read; and
//! each sync reads a few of those that nothing was announced of. Of a ledger that announces nothing each sync reads them all.
//!
//! Once a sale has stopped selling, the core that reads it reads its log up to there, page by page, so that the host knows
//! every granted id and can refuse all others from memory.

use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashSet};

use super::Desk;
use super::calls::PendingCall;
use super::feed::{Feed, News};
use super::lanes::{LaneIndex, PerLane};
use super::reads::{Question, Reads};
use crate::booking::{LogEntry, SaleName, SaleState};
use crate::clock::{Monotonic, Now, WallTime};
use crate::limits;
use crate::protocol::{Answer, Call, CallError, LedgerOp, LedgerResult, SaleOp, SaleResult, Slot, SlotRange};
use crate::stock::{CoreIndex, SaleBoard};

/// How far this core reads the log of a sale that has stopped selling.
#[derive(Debug, Default)]
struct LogReading {
    /// A page is in flight.
    is_asked: bool,
    /// After this sequence the log was trimmed: it is not asked for again.
    gone_after: Option<u64>,
}

impl LogReading {
    /// The sequence after which to ask for the next page, if there is more to know: it is in flight then.
    fn ask(&mut self, board: &SaleBoard) -> Option<u64> {
        if self.is_asked {
            return None;
        }
        match board.follow_from() {
            Some(after) if self.gone_after != Some(after) => {
                self.is_asked = true;
                Some(after)
            }
            Some(_) => None,
            None => {
                self.gone_after = None;
                None
            }
        }
    }
}

/// What a sync asks, and when.
pub(super) struct SyncRound {
    /// When the next one begins.
    next_at: Monotonic,
    feed: Feed,
    pub(super) reads: Reads,
    logs: PerLane<LogReading>,
    /// Lanes whose permits an answer did not update, since another core was busy with them.
    undealt: Vec<LaneIndex>,
}

impl SyncRound {
    pub(super) fn new(now: Monotonic) -> SyncRound {
        SyncRound {
            next_at: now,
            feed: Feed::default(),
            reads: Reads::default(),
            logs: PerLane::default(),
            undealt: Vec::new(),
        }
    }

    /// A new lane, of a sale in that slot; whether this core reads it.
    pub(super) fn add_lane(&mut self, slot: Slot, is_read_here: bool) {
        self.logs.add(LogReading::default());
        self.reads.add_lane(slot, is_read_here);
    }

    /// When something must be done without being asked for.
    pub(super) fn next_deadline(&self) -> Monotonic {
        self.reads.pause_ends().into_iter().fold(self.next_at, Monotonic::min)
    }

    /// Whether a sync begins now; if so, sets when the next one does.
    pub(super) fn begins(&mut self, now: Monotonic) -> bool {
        let begins = now >= self.next_at;
        if begins {
            self.next_at = now.plus_ms(limits::SYNC_INTERVAL_MS);
        }
        begins
    }

    /// The permits of that lane must be dealt anew at the next sync.
    pub(super) fn note_undealt(&mut self, lane: LaneIndex) {
        self.undealt.push(lane);
    }

    /// Panics if it contradicts itself, or the calls that are on the way.
    pub(super) fn check_invariants<'a>(&self, calls: impl Iterator<Item = (&'a PendingCall, u64)>) {
        let (mut asked, mut unknown, mut questions, mut lists) = (Vec::new(), 0, 0, 0);
        let mut pages = Vec::new();
        for (pending, serial) in calls {
            match pending {
                PendingCall::Snapshot { lane } => asked.push((*lane, serial)),
                PendingCall::Discovery { .. } => unknown += 1,
                PendingCall::Changes { .. } => questions += 1,
                PendingCall::Sales => lists += 1,
                PendingCall::Log { lane, .. } => pages.push(*lane),
                _ => {}
            }
        }
        self.reads.check_invariants(&asked, unknown);
        self.feed.check_invariants(questions, lists);
        for (lane, log) in self.logs.iter() {
            assert_eq!(log.is_asked, pages.contains(&lane), "a page of a log at a time");
        }
    }
}

/// Which of that many cores reads that sale, for all: by the name alone, so that all agree.
pub(super) fn reader_of(sale: &SaleName, cores: usize) -> usize {
    (FxBuildHasher.hash_one(sale) % cores as u64) as usize
}

impl<C> Desk<C> {
    /// Whether this core reads that sale for all.
    pub fn reads_sale(&self, sale: &SaleName) -> bool {
        reader_of(sale, self.board.cores()) == self.core.0
    }

    /// The state of a sale, and when that was last true; `None` if the ledger has no such sale.
    pub fn level(&self, lane: LaneIndex) -> Option<SaleState> {
        let sale = self.sale(lane);
        // Read before the level: what was not announced by then is in it.
        let told_at = self.board.told_at(CoreIndex(reader_of(sale.name(), self.board.cores())));
        let is_quiet = sale.is_quiet();
        let mut level = sale.level()?;
        if is_quiet {
            level.now = level.now.max(told_at);
        }
        Some(level)
    }

    /// On a new connection nothing is known of what was announced: first ask where the feed is, then read all sales, at
    /// once.
    pub(super) fn begin_feed(&mut self) {
        if !self.sync.feed.begin() {
            self.sync.next_at = Monotonic(0);
            self.read_all();
        }
    }

    pub(super) fn read_all(&mut self) {
        self.sync.feed.want_list();
        for (_, lane) in self.lanes.read_here() {
            lane.board.set_quiet(false);
        }
        self.sync.reads.want_all();
    }

    /// A part of the ledger without the feed is up again: its sales are read, whatever was announced of them.
    pub(super) fn read_within(&mut self, slots: SlotRange) {
        for (index, lane) in self.lanes.read_here().filter(|(_, lane)| slots.contains(lane.slot)) {
            lane.board.set_quiet(false);
            self.sync.reads.want(index);
        }
    }

    /// Asks what has changed, and reads what is due.
    pub(super) fn sync(&mut self, now: Monotonic) {
        if !self.reach.is_any_up() {
            return;
        }
        if self.reach.is_up(Slot::DIRECTORY) {
            // Before the sales are read: what changes after this answer is announced after it.
            self.ask_for_changes(now);
            if self.core.0 == 0 && self.sync.feed.asks_for_list(now) {
                self.calls.send(PendingCall::Sales, Call::Ledger(LedgerOp::Sales), now);
            }
        }
        self.guard.watch(&self.lanes, &self.reach, now);
        self.watch_losses(now);
        for lane in std::mem::take(&mut self.sync.undealt) {
            self.lanes[lane].board.deal_anew();
        }
        self.cancel_orphans(now);
        self.sync.reads.begin(self.board.cores(), now);
        self.go_on_reading(now);
    }

    fn ask_for_changes(&mut self, now: Monotonic) {
        if let Some((connection, after)) = self.sync.feed.ask() {
            let call = Call::Ledger(LedgerOp::Changes { after });
            self.calls.send(PendingCall::Changes { connection }, call, now);
        }
    }

    /// What was announced as changed.
    pub(super) fn handle_changes(
        &mut self,
        connection: u64,
        (serial, since): (u64, Monotonic),
        answer: Result<Answer, CallError>,
        now: Monotonic,
    ) {
        if !self.sync.feed.take_answer(connection) {
            self.sync.next_at = Monotonic(0);
            self.read_all();
            return;
        }
        match answer {
            Ok(Answer::Ledger(LedgerResult::Changes { names, at, more, reset, ledger, now: told_at })) => {
                let News { is_other, is_followed, is_back } =
                    self.sync.feed.note(at, ledger, told_at, since, now);
                if is_other {
                    self.recall_all(now);
                }
                if reset || is_other || is_back {
                    tracing::info!(
                        reset,
                        is_other,
                        is_back,
                        "announced changes may be incomplete: reading all sales"
                    );
                    self.read_all();
                }
                for name in names {
                    self.note_announced(name, serial);
                }
                if more {
                    self.ask_for_changes(now);
                } else if is_followed {
                    self.board.set_told_at(self.core, told_at);
                }
            }
            Ok(Answer::Ledger(LedgerResult::Unannounced)) => {
                self.sync.feed.note_unannounced();
                self.sync.reads.want_all();
            }
            Ok(other) => tracing::error!(?other, "unexpected answer to a changes call"),
            Err(error) => {
                if self.sync.feed.note_failure() {
                    tracing::warn!(%error, "the ledger does not say what has changed; until it does, each sync reads all \
                         sales");
                }
                self.sync.reads.want_all();
            }
        }
        self.go_on_reading(now);
    }

    /// A sale was announced as changed, by an answer to a question of that serial.
    fn note_announced(&mut self, sale: SaleName, serial: u64) {
        match self.lanes.find(sale.as_str()) {
            Some(lane) if self.lanes[lane].is_read_here => {
                self.lanes[lane].board.set_quiet(false);
                self.sync.reads.tell(lane, serial);
            }
            Some(_) => {}
            None if self.reads_sale(&sale) => self.sync.reads.ask_for(sale, false),
            None => {}
        }
    }

    /// Goes on with what pauses between two syncs.
    pub(super) fn end_pauses(&mut self, now: Monotonic) {
        if self.sync.reads.end_pauses(now) && self.reach.is_any_up() {
            self.go_on_reading(now);
        }
    }

    /// Asks until enough questions are in flight, or there is nothing to ask.
    fn go_on_reading(&mut self, now: Monotonic) {
        while let Some(question) = self.sync.reads.next(&self.reach, now) {
            let (lane, op) = match question {
                Question::Unknown(sale, named) => {
                    self.calls.send(PendingCall::Discovery { sale, named }, SaleOp::Snapshot.on(sale), now);
                    continue;
                }
                // A snapshot only sees the counts.
                Question::Snapshot(lane) if self.lanes[lane].is_unsound() => {
                    (lane, SaleOp::LookUp(Vec::new()))
                }
                Question::Snapshot(lane) => (lane, SaleOp::Snapshot),
                // Holds that are over give their stock back when anybody asks; this is the asking.
                Question::Expire(lane) => (lane, SaleOp::Expire),
            };
            let call = op.on(*self.sale(lane).name());
            let serial = self.calls.send(PendingCall::Snapshot { lane }, call, now);
            self.sync.reads.note_asked(lane, serial);
        }
    }

    /// A sale's level, as a sync asked for it.
    pub(super) fn handle_snapshot(&mut self, lane: LaneIndex, answer: Result<Answer, CallError>, now: Now) {
        self.sync.reads.note_answered(lane);
        if self.sale(lane).is_removed() {
            self.go_on_reading(now.monotonic);
            return;
        }
        match answer {
            Ok(Answer::Sale { state, result: SaleResult::Done | SaleResult::Found(_) }) => {
                self.guard.judge_reading(lane, &self.lanes[lane].board, &state);
                let is_believed = self.sale(lane).learn_synced(&state);
                if self.sale(lane).is_stranger() {
                    self.note_stranger(lane, now.monotonic);
                    self.go_on_reading(now.monotonic);
                    return;
                }
                self.lanes[lane].learn_clock(&state, now);
                self.guard.judge_answer(lane, &state);
                self.follow_log(lane, now.monotonic);
                self.note_trouble(lane, None);
                self.plan_next_read(lane, &state, is_believed, now.monotonic);
            }
            Ok(Answer::Missing) => {
                self.sale(lane).mark_missing();
                self.losses.note(lane);
                self.recall(now.monotonic);
                self.sync.reads.set_due(lane, None, None);
                // A ledger that has lost the sale has lost its feed, too, and may count from the start again.
                self.sync.reads.again(lane);
            }
            Ok(other) => tracing::error!(?other, "unexpected answer to a snapshot call"),
            Err(CallError::Unsound(what)) => {
                self.sale(lane).mark_unsound(&what);
                let trouble = format!(
                    "the ledger's record of this sale is not sound, so no tickets of it are sold: {what}"
                );
                self.note_trouble(lane, Some(&trouble));
                self.sync.reads.again(lane);
            }
            Err(error) => {
                tracing::debug!(%error, "a snapshot failed; the next sync tries again");
                self.sync.reads.again(lane);
            }
        }
        self.go_on_reading(now.monotonic);
    }

    /// When to read a sale again if nothing is announced of it by then.
    fn plan_next_read(&mut self, lane: LaneIndex, state: &SaleState, is_believed: bool, now: Monotonic) {
        let at = |time: WallTime| now.plus_ms(time.0.saturating_sub(state.now.0));
        // Overdue holds no longer count as held, but are yet to be entered as expired. A ledger that has holds and does not
        // say when they end is asked at each sync.
        let holds = state.due_at.map(at).or((state.held > 0).then_some(now));
        // It stops selling without a change.
        let end = state.terms.ends_at.filter(|&ends| ends > state.now).map(at);
        // With the ledger's clock behind the last announcement changes are announced at once, but not when it comes by there
        // again: what was changed in that moment is read behind it.
        let passed = (state.announced_at > state.now)
            .then(|| at(WallTime(state.announced_at.0.saturating_add(limits::SETTLED_MS))));
        let other = end.into_iter().chain(passed).min();
        let is_over = holds.is_some_and(|holds| holds <= now);
        let is_quiet = is_believed && !is_over && state.is_settled() && !state.is_frozen();
        if !is_quiet {
            self.sync.reads.again(lane);
        }
        self.sale(lane).set_quiet(is_quiet);
        self.sync.reads.set_due(lane, holds, other);
        // More holds had ended than one call enters as expired. The next one is soon, but the ledger has others to serve.
        if is_over && state.lapsed_until >= state.now && !state.is_frozen() {
            self.sync.reads.pause(lane, now);
        }
    }

    /// Logs once that a sale is in trouble, and once that it no longer is: the core that reads it does so.
    pub(super) fn note_trouble(&mut self, lane: LaneIndex, trouble: Option<&str>) {
        self.notices.note_trouble(lane, self.lanes[lane].board.name(), trouble);
    }

    /// The level of a sale that this host did not know.
    pub(super) fn handle_discovery(
        &mut self,
        sale: SaleName,
        named: bool,
        answer: Result<Answer, CallError>,
        now: Monotonic,
    ) {
        self.sync.reads.note_found(sale, named, answer.is_ok());
        match answer {
            Ok(Answer::Sale { state, result: SaleResult::Done }) => {
                if let Err(full) = self.board.learn(&sale, &state) {
                    tracing::warn!(%sale, %full, "cannot follow a sale");
                }
            }
            // Nobody but the ledger knows of it any more.
            Ok(Answer::Missing) if named => {
                if let Err(full) = self.board.remember(&sale, 0) {
                    tracing::warn!(%sale, %full, "cannot follow a sale");
                }
            }
            Ok(Answer::Missing) => {}
            Ok(other) => tracing::error!(%sale, ?other, "unexpected answer to a snapshot call"),
            Err(error) => tracing::debug!(%sale, %error, "a snapshot failed; the next sync tries again"),
        }
        self.go_on_reading(now);
    }

    /// Reads on in the log of a sale that has stopped selling, if there is more to know: one page at a time.
    fn follow_log(&mut self, lane: LaneIndex, now: Monotonic) {
        let board = &self.lanes[lane].board;
        if let Some(after) = self.sync.logs[lane].ask(board) {
            let call = SaleOp::Log { after }.on(*board.name());
            self.calls.send(PendingCall::Log { lane, after }, call, now);
        }
    }

    /// A page of a log.
    pub(super) fn handle_log(
        &mut self,
        lane: LaneIndex,
        after: u64,
        answer: Result<Answer, CallError>,
        now: Monotonic,
    ) {
        let board = &self.lanes[lane].board;
        self.sync.logs[lane].is_asked = false;
        match answer {
            Ok(Answer::Sale { result: SaleResult::Log(entries), .. }) => {
                // A trimmed log cannot tell all; the ledger is then still asked about unknown ids.
                let whole = entries.first().is_some_and(|first| first.sequence == after + 1);
                match entries.last().filter(|_| whole) {
                    Some(last) => {
                        let ids = entries.iter().map(|entry: &LogEntry| &entry.booking.id);
                        board.note_log(after, last.sequence, ids);
                        self.follow_log(lane, now);
                    }
                    None => self.sync.logs[lane].gone_after = Some(after),
                }
            }
            Ok(Answer::Missing) => board.mark_missing(),
            Ok(other) => tracing::error!(?other, "unexpected answer to a log call"),
            Err(error) => {
                tracing::debug!(%error, "a page of a log failed; the next sync tries again");
                self.sync.reads.again(lane);
            }
        }
    }

    /// A part of a Cluster that has lost its names has not lost sales of other parts, and nothing else tells of it: those that
    /// are known, and not listed, are named.
    fn name_unlisted(&mut self, names: &[SaleName], now: Monotonic) {
        let listed: FxHashSet<&SaleName> = names.iter().collect();
        for lane in self.lanes.indexes() {
            let sale = self.sale(lane);
            if !listed.contains(sale.name()) && !sale.is_removed() && !sale.is_missing() {
                self.losses.note(lane);
            }
        }
        self.recall(now);
    }

    /// Which sales there are.
    pub(super) fn handle_sales(&mut self, answer: Result<Answer, CallError>, now: Monotonic) {
        self.sync.feed.note_list();
        match answer {
            Ok(Answer::Ledger(LedgerResult::Sales { names, odd })) => {
                for odd in odd {
                    if self.sync.feed.is_news(&odd) {
                        tracing::warn!(
                            name = odd,
                            "the ledger's list of sales has an entry that is not a sale's name; it is ignored"
                        );
                    }
                }
                if self.sync.feed.is_unannounced() {
                    self.name_unlisted(&names, now);
                }
                for name in names {
                    if self.lanes.find(name.as_str()).is_none() {
                        self.sync.reads.ask_for(name, true);
                    }
                }
                self.go_on_reading(now);
            }
            Ok(other) => tracing::error!(?other, "unexpected answer to a sales call"),
            Err(error) => {
                tracing::debug!(%error, "the sales could not be listed; the next sync tries again");
                self.sync.feed.want_list();
            }
        }
    }
}
