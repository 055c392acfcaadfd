//! What a desk learns without being asked: which sales there are, how they stand, and which ids were granted elsewhere.
//!
//! Each sync asks the ledger which sales were announced as changed since the last one, and reads those that this core
//! reads for all cores. A sale may change on for a moment after its announcement: it is read again at the next sync, until
//! it is quiet. On a new connection, and where the ledger's feed is not the one that was followed, all is read; and now and
//! then, a few at each sync, what nothing was said of.
//!
//! Once a sale has stopped selling, the core that reads it reads its log up to there, page by page, so that the host knows
//! every granted id and can refuse all others from memory.

use std::hash::BuildHasher;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashSet};

use super::guard::Guard;
use super::reads::{LineReads, Question};
use super::{Desk, Line, LineIndex, Sent};
use crate::booking::{LogEntry, SaleName, SaleState};
use crate::clock::{Monotonic, Now, WallTime};
use crate::limits;
use crate::protocol::{Answer, Call, CallError, LedgerOp, LedgerResult, SaleOp, SaleResult};
use crate::stock::{CoreIndex, Gate, SaleBoard};

/// How this core follows the ledger's feed.
#[derive(Default)]
pub(super) struct Feed {
    /// Counts connections: what was asked on one before says nothing on this one.
    connection: u64,
    /// The number up to which all is known; `None` on a new connection.
    at: Option<u64>,
    asking: bool,
    /// Which ledger it is of.
    ledger: Option<String>,
    /// By how much its clock is ahead of this host's monotonic one at least, in milliseconds, and when that was found.
    ahead: Option<(i64, Monotonic)>,
    /// It could not be read, which was said.
    failing: bool,
    /// The list of all sales is on the way.
    listing: bool,
    /// When it is to be asked for.
    list_at: Monotonic,
    /// What is among the names and is none, which was said.
    odd: FxHashSet<String>,
}

impl Feed {
    /// Whether the list of all sales is on the way.
    pub(super) fn is_listing(&self) -> bool {
        self.listing
    }

    /// Whether the ledger's clock has gone back, as it is told in an answer to what was `sent` then. A sale that was settled
    /// may not be so any more.
    fn notes_clock_back(&mut self, told: WallTime, sent: Monotonic, answered: Monotonic) -> bool {
        let ms = |time: Monotonic| i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX);
        let told = i64::try_from(told.0).unwrap_or(i64::MAX);
        let least = told.saturating_sub(ms(answered));
        // Clocks that drift apart by a thousandth are not set.
        let known = self.ahead.map(|(least, at)| least - (ms(answered) - ms(at)) / 1_000);
        let most = told.saturating_sub(ms(sent));
        let is_back = known.is_some_and(|known| most.saturating_add(limits::CLOCK_BACK_MS_MIN) < known);
        if is_back || known.is_none_or(|known| least >= known) {
            self.ahead = Some((least, answered));
        }
        is_back
    }
}

/// Which of so many cores reads that sale, for all: by the name alone, so that all agree.
fn reader_of(sale: &SaleName, cores: usize) -> usize {
    (FxBuildHasher.hash_one(sale) % cores as u64) as usize
}

impl<C> Desk<C> {
    /// Whether this core reads that sale for all.
    pub fn reads_sale(&self, sale: &SaleName) -> bool {
        reader_of(sale, self.board.cores()) == self.core.0
    }

    /// How a sale stands, and when that was true last; `None` where the ledger has no such sale.
    pub fn level(&self, line: LineIndex) -> Option<SaleState> {
        let sale = self.sale(line);
        // Before the level: what was not announced by then is in it.
        let told_at = self.board.told_at(CoreIndex(reader_of(sale.name(), self.board.cores())));
        let is_quiet = sale.is_quiet();
        let mut level = sale.level()?;
        if is_quiet {
            level.now = level.now.max(told_at);
        }
        Some(level)
    }

    /// On a new connection nothing is known of what was announced: where the feed is comes first, and then all is read, at
    /// once.
    pub(super) fn begin_feed(&mut self) {
        self.feed.connection += 1;
        (self.feed.at, self.feed.ahead) = (None, None);
        // A question of before is answered first, so that there is never more than one.
        if !self.feed.asking {
            self.next_sync = Monotonic(0);
            self.read_all();
        }
    }

    pub(super) fn read_all(&mut self) {
        self.feed.list_at = Monotonic(0);
        for line in self.lines.iter().filter(|line| line.synced_here) {
            line.board.set_quiet(false);
        }
        self.reads.want_all(&mut self.lines[..]);
    }

    /// Asks what has changed, and reads what is to be looked at by now.
    pub(super) fn sync(&mut self, now: Monotonic) {
        if !self.ledger_up {
            return;
        }
        // Before the sales are read: what changes after this answer is announced after it.
        if !self.feed.asking {
            self.ask_for_changes(now);
        }
        if self.core.0 == 0 && !self.feed.listing && now >= self.feed.list_at {
            self.feed.listing = true;
            self.feed.list_at = now.plus_ms(limits::LIST_INTERVAL_MS);
            self.send(Sent::Sales, Call::Ledger(LedgerOp::Sales), now);
        }
        self.watch_histories(now);
        self.watch_losses(now);
        for line in std::mem::take(&mut self.undealt) {
            self.lines[line.0 as usize].board.deal_anew();
        }
        self.cancel_orphans(now);
        self.reads.begin(self.board.cores(), now, &mut self.lines[..]);
        self.go_on_reading(now);
    }

    fn ask_for_changes(&mut self, now: Monotonic) {
        self.feed.asking = true;
        let sent = Sent::Changes { connection: self.feed.connection };
        self.send(sent, Call::Ledger(LedgerOp::Changes { after: self.feed.at }), now);
    }

    /// What was announced as changed.
    pub(super) fn handle_changes(
        &mut self,
        connection: u64,
        (serial, since): (u64, Monotonic),
        answer: Result<Answer, CallError>,
        now: Monotonic,
    ) {
        self.feed.asking = false;
        if connection != self.feed.connection {
            self.next_sync = Monotonic(0);
            self.read_all();
            return;
        }
        match answer {
            Ok(Answer::Ledger(LedgerResult::Changes { names, at, more, reset, ledger, now: told_at })) => {
                self.feed.failing = false;
                let is_other = self.feed.ledger.as_ref().is_some_and(|known| *known != ledger);
                self.feed.ledger = Some(ledger);
                let is_followed = self.feed.at.replace(at).is_some();
                let is_back = self.feed.notes_clock_back(told_at, since, now);
                if is_other {
                    self.recall_all(now);
                }
                if reset || is_other || is_back {
                    tracing::info!(
                        reset,
                        is_other,
                        is_back,
                        "what was announced says nothing: all sales are read"
                    );
                    self.read_all();
                }
                for name in names {
                    match self.line_by_name.get(&name) {
                        Some(&line) if self.lines[line.0 as usize].synced_here => {
                            self.lines[line.0 as usize].board.set_quiet(false);
                            self.reads.tell(line, serial, &mut self.lines[..]);
                        }
                        Some(_) => {}
                        None if self.reads_sale(&name) => self.reads.ask_for(name, false),
                        None => {}
                    }
                }
                if more {
                    self.ask_for_changes(now);
                } else if is_followed {
                    self.board.set_told_at(self.core, told_at);
                }
            }
            Ok(other) => tracing::error!(?other, "a question for changes was answered with something else"),
            Err(error) => {
                if !std::mem::replace(&mut self.feed.failing, true) {
                    tracing::warn!(%error, "the ledger does not tell what has changed; until it does, all sales are read at \
                         each sync");
                }
                self.reads.want_all(&mut self.lines[..]);
            }
        }
        self.go_on_reading(now);
    }

    /// Goes on with what pauses between two syncs.
    pub(super) fn end_pauses(&mut self, now: Monotonic) {
        if self.reads.end_pauses(now, &mut self.lines[..]) && self.ledger_up {
            self.go_on_reading(now);
        }
    }

    /// Asks on until enough is on the way, or there is nothing to ask.
    fn go_on_reading(&mut self, now: Monotonic) {
        while let Some(question) = self.reads.next(now, &mut self.lines[..]) {
            let (line, call) = match question {
                Question::Unknown(sale, named) => {
                    self.send(Sent::Discovery { sale, named }, SaleOp::Snapshot.on(sale), now);
                    continue;
                }
                // A snapshot sees nothing but the counts.
                Question::Snapshot(line) if self.sale(line).gate(WallTime(0)) == Gate::Unsound => {
                    (line, SaleOp::LookUp(Vec::new()).on(*self.sale(line).name()))
                }
                Question::Snapshot(line) => (line, SaleOp::Snapshot.on(*self.sale(line).name())),
                // Holds that are over give their stock back when anybody asks; this is where somebody does.
                Question::Expire(line) => (line, SaleOp::Expire.on(*self.sale(line).name())),
            };
            let serial = self.send(Sent::Snapshot { line }, call, now);
            self.reads.note_asked(line, serial, &mut self.lines[..]);
        }
    }

    /// A sale's level, as a sync asked for it.
    pub(super) fn handle_snapshot(&mut self, line: LineIndex, answer: Result<Answer, CallError>, now: Now) {
        self.reads.note_answered(line, &mut self.lines[..]);
        if self.sale(line).is_removed() {
            self.go_on_reading(now.monotonic);
            return;
        }
        match answer {
            Ok(Answer::Sale { state, result: SaleResult::Done | SaleResult::Found(_) }) => {
                self.judge_reading(line, &state);
                let is_believed = self.sale(line).learn_synced(&state);
                if self.sale(line).is_stranger() {
                    self.note_stranger(line, now.monotonic);
                    self.go_on_reading(now.monotonic);
                    return;
                }
                self.learn_clock(line, &state, now);
                self.judge_answer(line, &state);
                self.follow_log(line, now.monotonic);
                self.note_trouble(line, None);
                self.plan_next_read(line, &state, is_believed, now.monotonic);
            }
            Ok(Answer::Missing) => {
                self.sale(line).mark_missing();
                self.losses.note(line);
                self.recall(now.monotonic);
                self.reads.set_due(line, None, None, &mut self.lines[..]);
                // A ledger that has lost the sale has lost its feed, too, and may count from the start again.
                self.reads.again(line, &mut self.lines[..]);
            }
            Ok(other) => tracing::error!(?other, "a snapshot was answered with something else"),
            Err(CallError::Unsound(what)) => {
                self.sale(line).mark_unsound(&what);
                let trouble = format!(
                    "what the ledger has of this sale is not sound, so that nothing of it is sold: {what}"
                );
                self.note_trouble(line, Some(&trouble));
                self.reads.again(line, &mut self.lines[..]);
            }
            Err(error) => {
                tracing::debug!(%error, "a snapshot failed; the next sync repeats it");
                self.reads.again(line, &mut self.lines[..]);
            }
        }
        self.go_on_reading(now.monotonic);
    }

    /// When to read a sale again of which nothing will be announced by then.
    fn plan_next_read(&mut self, line: LineIndex, state: &SaleState, is_believed: bool, now: Monotonic) {
        let at = |time: WallTime| now.plus_ms(time.0.saturating_sub(state.now.0));
        // What is overdue is not counted as held any more, and yet to be entered. A ledger that has holds and does not tell
        // when they end is asked at each sync.
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
            self.reads.again(line, &mut self.lines[..]);
        }
        self.sale(line).set_quiet(is_quiet);
        self.reads.set_due(line, holds, other, &mut self.lines[..]);
        // More holds had ended than one call enters as expired. The next one is soon, but the ledger has others to serve.
        if is_over && state.lapsed_until >= state.now && !state.is_frozen() {
            self.reads.pause(line, now, &mut self.lines[..]);
        }
    }

    /// Tells operators once that a sale is in trouble, and once that it is no more: the core that reads it does so.
    pub(super) fn note_trouble(&mut self, line: LineIndex, trouble: Option<&str>) {
        let entry = &mut self.lines[line.0 as usize];
        if trouble.is_some() == std::mem::replace(&mut entry.in_trouble, trouble.is_some()) {
            return;
        }
        let sale = *entry.board.name();
        let others = match trouble {
            Some(_) => self.lines_in_trouble,
            None => self.lines_in_trouble - 1,
        };
        match trouble {
            Some(what) if others < limits::SALES_LOGGED_MAX => tracing::error!(%sale, "{what}"),
            Some(_) if others == limits::SALES_LOGGED_MAX => {
                tracing::error!(
                    "more sales are in trouble; GET /v1/sales of the admin listener lists the missing ones"
                );
            }
            None if others < limits::SALES_LOGGED_MAX => tracing::info!(%sale, "the sale can be sold again"),
            Some(_) | None => {}
        }
        self.lines_in_trouble = others + usize::from(trouble.is_some());
    }

    /// Tells operators of a ledger that leaves calls unanswered: the first loop that meets it does so. One that is lost is
    /// told of by its connection.
    pub(super) fn tell_of_silence(&mut self, silent: bool) {
        if silent && self.ledger_up && !self.board.any_silent() {
            self.silence_told = true;
            tracing::warn!("the ledger has not answered for {} ms", limits::LEDGER_SLOW_MS);
        } else if !silent && std::mem::take(&mut self.silence_told) {
            tracing::info!("the ledger answers again");
        }
    }

    /// The level of a sale that this host did not know.
    pub(super) fn handle_discovery(
        &mut self,
        sale: SaleName,
        named: bool,
        answer: Result<Answer, CallError>,
        now: Monotonic,
    ) {
        self.reads.note_found(sale, named, answer.is_ok());
        match answer {
            Ok(Answer::Sale { state, result: SaleResult::Done }) => {
                if let Err(full) = self.board.learn(&sale, &state) {
                    tracing::warn!(%sale, %full, "a sale is left out");
                }
            }
            // Nobody but the ledger knows of it any more.
            Ok(Answer::Missing) if named => {
                if let Err(full) = self.board.remember(&sale, 0) {
                    tracing::warn!(%sale, %full, "a sale is left out");
                }
            }
            Ok(Answer::Missing) => {}
            Ok(other) => tracing::error!(%sale, ?other, "a snapshot was answered with something else"),
            Err(error) => tracing::debug!(%sale, %error, "a snapshot failed; the next sync repeats it"),
        }
        self.go_on_reading(now);
    }

    /// Reads on in the log of a sale that has stopped selling, where there is more to know: one page at a time.
    fn follow_log(&mut self, line: LineIndex, now: Monotonic) {
        let entry = &mut self.lines[line.0 as usize];
        if entry.following {
            return;
        }
        match entry.board.follow_from() {
            Some(after) if entry.log_gone_after != Some(after) => {
                entry.following = true;
                let sale = *entry.board.name();
                self.send(Sent::Log { line, after }, SaleOp::Log { after }.on(sale), now);
            }
            Some(_) => {}
            None => entry.log_gone_after = None,
        }
    }

    /// A page of a log.
    pub(super) fn handle_log(
        &mut self,
        line: LineIndex,
        after: u64,
        answer: Result<Answer, CallError>,
        now: Monotonic,
    ) {
        let entry = &mut self.lines[line.0 as usize];
        entry.following = false;
        match answer {
            Ok(Answer::Sale { result: SaleResult::Log(entries), .. }) => {
                // A log that was trimmed cannot tell all; the ledger then goes on being asked about unknown ids.
                let whole = entries.first().is_some_and(|first| first.sequence == after + 1);
                match entries.last().filter(|_| whole) {
                    Some(last) => {
                        let ids = entries.iter().map(|entry: &LogEntry| &entry.booking.id);
                        entry.board.note_log(after, last.sequence, ids);
                        self.follow_log(line, now);
                    }
                    None => entry.log_gone_after = Some(after),
                }
            }
            Ok(Answer::Missing) => entry.board.mark_missing(),
            Ok(other) => tracing::error!(?other, "a log was answered with something else"),
            Err(error) => {
                tracing::debug!(%error, "a page of a log failed; the next sync repeats it");
                self.reads.again(line, &mut self.lines[..]);
            }
        }
    }

    /// Which sales there are.
    pub(super) fn handle_sales(&mut self, answer: Result<Answer, CallError>, now: Monotonic) {
        self.feed.listing = false;
        match answer {
            Ok(Answer::Ledger(LedgerResult::Sales { names, odd })) => {
                for odd in odd {
                    if !self.feed.odd.contains(&odd) && self.feed.odd.len() < limits::ODD_NAMES_MAX {
                        tracing::warn!(
                            name = odd,
                            "the ledger's list of sales has what is no name of a sale; it is passed over"
                        );
                        self.feed.odd.insert(odd);
                    }
                }
                for name in names {
                    if !self.line_by_name.contains_key(&name) {
                        self.reads.ask_for(name, true);
                    }
                }
                self.go_on_reading(now);
            }
            Ok(other) => tracing::error!(?other, "the list of sales was answered with something else"),
            Err(error) => {
                tracing::debug!(%error, "the sales were not listed; the next sync asks again");
                self.feed.list_at = now;
            }
        }
    }

    /// Takes over sales that the board has learnt of since the last turn.
    pub fn refresh_lines(&mut self) {
        let version = self.board.directory_version();
        if version == self.directory_version {
            return;
        }
        let mut complete = true;
        let directory = self.board.directory();
        if directory.place().is_after_removals(self.directory_place) {
            self.drop_removed();
        }
        for sale in directory.sales_after(self.directory_place) {
            let Some(&LineIndex(index)) = self.line_by_name.get(sale.name()) else {
                self.add_line(sale);
                continue;
            };
            let line = &mut self.lines[index as usize];
            if Arc::ptr_eq(&line.board, sale) {
                continue;
            }
            // Forgotten by the board and learnt anew. Entries on the way hold permits of the old one.
            let idle = line.calls_in_flight == 0 && line.forming.iter().all(Vec::is_empty);
            match idle {
                true => line.board = Arc::clone(sale),
                false => complete = false,
            }
        }
        if complete {
            self.directory_version = directory.version();
            self.directory_place = directory.place();
        }
    }

    fn add_line(&mut self, sale: &Arc<SaleBoard>) {
        let index = LineIndex(u32::try_from(self.lines.len()).expect("SALES_MAX fits in u32"));
        self.line_by_name.insert(*sale.name(), index);
        let synced_here = self.reads_sale(sale.name());
        self.distrusted.push(index);
        self.lines.push(Line {
            board: Arc::clone(sale),
            forming: Default::default(),
            calls_in_flight: 0,
            dirty: false,
            reads: LineReads::default(),
            // Taken as the host's own until the first answer; the ledger has the last word anyhow.
            clock_offset_ms: 0,
            following: false,
            log_gone_after: None,
            in_trouble: false,
            guard: Guard::due(),
            synced_here,
        });
        if synced_here {
            self.reads.add(index, &mut self.lines[..]);
        }
    }
}
