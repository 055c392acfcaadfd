//! What hosts know of each other: core 0 says in the ledger that this host lives, and hears who else does.
//!
//! The answer gives the host its share of the crowd, for all cores. Nothing of a sale depends on it: a share that is too
//! large lets more of the crowd to the ledger, one that is too small makes requests [stand](super::standing) a little longer.

use super::Desk;
use crate::clock::{Monotonic, Now};
use crate::limits;
use crate::protocol::{Answer, Call, CallError, HostFigures, LedgerOp, LedgerResult, Slot};
use crate::stock::Counts;

use super::calls::PendingCall;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Beats {
    next_at: Monotonic,
    is_asking: bool,
    /// It could not be said, and that was logged.
    is_failing: bool,
    departure: Departure,
    /// The ledger has hosts that are to be forgotten.
    is_untidy: bool,
    /// What was counted at the beat before, and when.
    last: Option<(Counts, Monotonic)>,
    round_trip_us: u64,
    /// By which number of the board's shares the permits of this core's sales were dealt.
    dealt_by: u64,
    live: usize,
}

/// Whether this host still says that it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Departure {
    #[default]
    No,
    /// It is to say that it leaves.
    Wanted,
    /// It has said so, or has no way to.
    Said,
}

impl Beats {
    /// On a new connection others may have missed this host: it says at once that it lives.
    pub(super) fn hasten(&mut self) {
        self.next_at = Monotonic(0);
    }

    /// Per second, since the beat before.
    fn rates(&mut self, counts: Counts, now: Monotonic) -> (u64, u64) {
        let Some((before, then)) = self.last.replace((counts, now)) else { return (0, 0) };
        let span_ms = (now.0.saturating_sub(then.0) / 1_000_000).max(1);
        let rate = |now: u64, before: u64| now.saturating_sub(before) * 1_000 / span_ms;
        (rate(counts.granted, before.granted), rate(counts.refused, before.refused))
    }

    /// Panics if it contradicts what is on the way.
    pub(super) fn check_invariants(&self, beats: usize) {
        assert_eq!(usize::from(self.is_asking), beats, "one beat at a time");
    }
}

impl<C> Desk<C> {
    /// Says what this core has done, deals permits by a share that has changed, and says that the host lives, if it is time
    /// for that.
    pub(super) fn beat(&mut self, now: Now) {
        let counts = Counts { granted: self.granted, refused: self.refused, waiting: self.waiting() as u64 };
        self.board.set_counts(self.core, counts);
        self.follow_share();
        let is_time = now.monotonic >= self.beats.next_at && self.reach.is_up(Slot::DIRECTORY);
        if self.core.0 != 0 || !is_time || self.beats.is_asking || self.beats.departure != Departure::No {
            return;
        }
        let Some(card) = self.board.card() else { return };
        let counts = self.board.counts();
        let (bookings_per_second, refusals_per_second) = self.beats.rates(counts, now.monotonic);
        let figures = HostFigures {
            permits: self.board.permits(limits::PERMITS_SUMMED_SALES_MAX),
            bookings_per_second,
            refusals_per_second,
            waiting: counts.waiting,
            round_trip_us: self.beats.round_trip_us,
        };
        let report = Some(Box::new(card.report(figures)));
        let forgets = std::mem::take(&mut self.beats.is_untidy);
        let call = Call::Ledger(LedgerOp::Beat { host: card.id, report, forgets });
        self.send_beat(call, now.monotonic);
        self.beats.next_at = now.monotonic.plus_ms(limits::HOST_BEAT_MS);
    }

    fn send_beat(&mut self, call: Call, now: Monotonic) {
        self.beats.is_asking = true;
        self.calls.send(PendingCall::Beat, call, now);
    }

    /// This host takes no more of the crowd: others are to count on it no longer.
    pub fn leave(&mut self, now: Monotonic) {
        if self.core.0 == 0 && self.beats.departure == Departure::No {
            self.beats.departure = Departure::Wanted;
            self.say_departure(now);
        }
    }

    /// Whether the ledger is yet to hear that this host leaves, and can.
    pub fn is_leaving(&self) -> bool {
        let says_so = self.beats.departure != Departure::No && self.beats.is_asking;
        says_so && self.reach.is_up(Slot::DIRECTORY)
    }

    fn say_departure(&mut self, now: Monotonic) {
        // Behind a beat that is on its way: this is what the ledger is to hear last.
        if self.beats.departure != Departure::Wanted || self.beats.is_asking {
            return;
        }
        self.beats.departure = Departure::Said;
        if let Some(host) = self.board.card().map(|card| card.id)
            && self.reach.is_up(Slot::DIRECTORY)
        {
            self.send_beat(Call::Ledger(LedgerOp::Beat { host, report: None, forgets: false }), now);
        }
    }

    /// Deals the permits of the sales that this core reads, if the share has changed.
    fn follow_share(&mut self) {
        let version = self.board.share_version();
        if std::mem::replace(&mut self.beats.dealt_by, version) == version {
            return;
        }
        for (_, lane) in self.lanes.read_here() {
            lane.board.deal_anew();
        }
    }

    /// Who lives.
    pub(super) fn handle_beat(
        &mut self,
        answer: Result<Answer, CallError>,
        since: Monotonic,
        now: Monotonic,
    ) {
        self.beats.is_asking = false;
        self.say_departure(now);
        match answer {
            Ok(Answer::Ledger(LedgerResult::Hosts { hosts, is_untidy })) => {
                self.beats.is_untidy = is_untidy;
                self.beats.round_trip_us = now.0.saturating_sub(since.0) / 1_000;
                if std::mem::take(&mut self.beats.is_failing) {
                    tracing::info!("this host hears of others again");
                }
                if self.board.note_fleet(hosts) {
                    self.follow_share();
                }
                let live = self.board.fleet().live();
                let before = std::mem::replace(&mut self.beats.live, live);
                // Who is alone from the start need not be told.
                if before != live && before.max(live) > 1 {
                    tracing::info!(hosts = live, "hosts that share the ledger");
                }
            }
            Ok(other) => tracing::error!(?other, "unexpected answer to a beat"),
            Err(error) => {
                if !std::mem::replace(&mut self.beats.is_failing, true) {
                    let error = error.words();
                    tracing::warn!(%error, "the ledger does not tell which hosts share it (bx:hosts); this host keeps the share that it had");
                }
            }
        }
    }
}
