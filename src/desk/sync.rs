//! What a desk learns without being asked: which sales there are, how they stand, and which ids were granted elsewhere.
//!
//! Each sale is read by one core for all, every sync. Once it has stopped selling, the same core reads its log up to
//! there, page by page, so that the host knows every granted id and can refuse all others from memory.

use std::hash::BuildHasher;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::guard::Guard;
use super::{Desk, Line, LineIndex, Sent};
use crate::booking::{Answer, Call, CallError, LogEntry, SaleName};
use crate::clock::{Monotonic, Now};
use crate::limits;
use crate::stock::SaleBoard;

/// One walk over the sales, which a sync begins and the answers carry on: over all of them, or as many as may be read in
/// one sync. The next one begins where it ended.
#[derive(Default)]
pub(super) struct Round {
    /// The next line to look at, and how many are left to look at.
    next: usize,
    lines_left: usize,
    reads_left: usize,
}

impl<C> Desk<C> {
    /// Reads the levels of this core's share of the sales, and now and then which sales there are.
    pub(super) fn sync(&mut self, now: Monotonic) {
        if !self.ledger_up {
            return;
        }
        let discovers = self.core.0 == 0 && self.syncs.is_multiple_of(limits::SYNCS_PER_DISCOVERY);
        if discovers && !self.discovering {
            self.discovering = true;
            self.send(Sent::Sales, Call::Sales, now);
        }
        self.syncs += 1;
        self.watch_histories(now);
        self.cancel_orphans(now);
        // A round that is still at it goes on: the ledger is slow.
        if self.round.lines_left == 0 {
            self.round.lines_left = self.lines.len();
            self.round.reads_left = limits::READS_PER_SYNC_MAX;
        }
        self.go_on_syncing(now);
    }

    /// Asks on for levels until enough are on the way, or all sales were looked at: each answer makes room for the next.
    fn go_on_syncing(&mut self, now: Monotonic) {
        while self.snapshots_in_flight < limits::SNAPSHOTS_IN_FLIGHT_MAX
            && let Some((line, call)) = self.next_to_read()
        {
            self.snapshots_in_flight += 1;
            self.send(Sent::Snapshot { line }, call, now);
        }
    }

    /// The next sale of this round, and how to ask for its level.
    fn next_to_read(&mut self) -> Option<(LineIndex, Call)> {
        let round = &mut self.round;
        while round.lines_left > 0 {
            let index = round.next % self.lines.len();
            round.next = index + 1;
            round.lines_left -= 1;
            let line = &mut self.lines[index];
            // With the ledger silent, one question on the way is enough.
            if !line.synced_here || std::mem::replace(&mut line.snapshot_in_flight, true) {
                continue;
            }
            let sale = *line.board.name();
            // Holds that are over give their stock back when anybody asks; this is where somebody does.
            let (call, reads) = match line.board.level() {
                Some(level) if level.held > 0 => (Call::Expire { sale }, limits::READS_PER_SWEEP),
                _ => (Call::Snapshot { sale }, 1),
            };
            round.reads_left = round.reads_left.saturating_sub(reads);
            if round.reads_left == 0 {
                round.lines_left = 0;
            }
            return Some((LineIndex(u32::try_from(index).expect("SALES_MAX fits in u32")), call));
        }
        None
    }

    /// A sale's level, as a sync asked for it.
    pub(super) fn handle_snapshot(&mut self, line: LineIndex, answer: Result<Answer, CallError>, now: Now) {
        self.snapshots_in_flight -= 1;
        let entry = &mut self.lines[line.0 as usize];
        entry.snapshot_in_flight = false;
        match answer {
            Ok(Answer::Sale { state, .. }) => {
                self.judge_reading(line, &state);
                self.sale(line).note_unreadable(false);
                self.sale(line).learn_synced(&state);
                self.learn_clock(line, &state, now);
                self.judge_answer(line, &state);
                self.follow_log(line, now.monotonic);
                self.note_trouble(line, None);
            }
            Ok(Answer::NoSuchSale) => {
                entry.board.mark_missing();
                entry.board.note_unreadable(false);
                self.note_trouble(
                    line,
                    Some("the ledger has lost this sale: its bookings get 503 until it is back"),
                );
            }
            Ok(other) => tracing::error!(?other, "a snapshot was answered with something else"),
            Err(CallError::Garbled(reason)) => {
                entry.board.note_unreadable(true);
                tracing::debug!(reason, "a snapshot made no sense");
                self.note_trouble(
                    line,
                    Some("the ledger's record of this sale cannot be read: nothing of it is sold"),
                );
            }
            Err(error) => tracing::debug!(%error, "a snapshot failed; the next sync repeats it"),
        }
        self.go_on_syncing(now.monotonic);
    }

    /// Tells operators once that a sale is in trouble, and once that it is no more: the core that reads it does so.
    fn note_trouble(&mut self, line: LineIndex, trouble: Option<&str>) {
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
    pub(super) fn handle_discovery(&mut self, sale: SaleName, answer: Result<Answer, CallError>) {
        match answer {
            Ok(Answer::Sale { state, .. }) => {
                if let Err(full) = self.board.learn(&sale, &state) {
                    tracing::warn!(%sale, %full, "a sale is left out");
                }
            }
            // Named before it was opened, or gone since.
            Ok(Answer::NoSuchSale) => {}
            Ok(other) => tracing::error!(%sale, ?other, "a snapshot was answered with something else"),
            Err(error) => tracing::debug!(%sale, %error, "a snapshot failed; a later sync repeats it"),
        }
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
                self.send(Sent::Log { line, after }, Call::Log { sale, after }, now);
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
            Ok(Answer::Log(entries)) => {
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
            Ok(Answer::NoSuchSale) => entry.board.mark_missing(),
            Ok(other) => tracing::error!(?other, "a log was answered with something else"),
            Err(error) => tracing::debug!(%error, "a page of a log failed; the next sync repeats it"),
        }
    }

    /// Which sales there are.
    pub(super) fn handle_sales(&mut self, answer: Result<Answer, CallError>, now: Monotonic) {
        self.discovering = false;
        match answer {
            Ok(Answer::Sales(sales)) => self.discover(sales, now),
            Ok(other) => tracing::error!(?other, "the list of sales was answered with something else"),
            Err(error) => tracing::debug!(%error, "the sales were not listed; a later sync asks again"),
        }
    }

    /// Asks for the levels of sales that this host does not know: a bounded number at once, another part each time, so
    /// that names without a sale behind them hold nobody up.
    fn discover(&mut self, sales: Vec<SaleName>, now: Monotonic) {
        let unknown: Vec<SaleName> =
            sales.into_iter().filter(|sale| !self.line_by_name.contains_key(sale)).collect();
        let start = self.discovery_start % unknown.len().max(1);
        for &sale in unknown[start..].iter().chain(&unknown[..start]).take(limits::SNAPSHOTS_IN_FLIGHT_MAX) {
            self.send(Sent::Discovery { sale }, Call::Snapshot { sale }, now);
        }
        self.discovery_start = start + limits::SNAPSHOTS_IN_FLIGHT_MAX;
    }

    /// Takes over sales that the board has learnt of since the last turn.
    pub fn refresh_lines(&mut self) {
        let version = self.board.directory_version();
        if version == self.directory_version {
            return;
        }
        let mut complete = true;
        for sale in self.board.directory().sales() {
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
            self.directory_version = version;
        }
    }

    fn add_line(&mut self, sale: &Arc<SaleBoard>) {
        let index = LineIndex(u32::try_from(self.lines.len()).expect("SALES_MAX fits in u32"));
        self.line_by_name.insert(*sale.name(), index);
        // By the name alone, so that all cores agree on who reads which sale.
        let reader = FxBuildHasher.hash_one(sale.name()) % self.board.cores() as u64;
        self.distrusted.push(index);
        self.lines.push(Line {
            board: Arc::clone(sale),
            forming: Default::default(),
            calls_in_flight: 0,
            dirty: false,
            snapshot_in_flight: false,
            // Taken as the host's own until the first answer; the ledger has the last word anyhow.
            clock_offset_ms: 0,
            following: false,
            log_gone_after: None,
            in_trouble: false,
            guard: Guard::due(),
            synced_here: reader == self.core.0 as u64,
        });
    }
}
