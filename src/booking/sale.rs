//! A sale: the terms it is opened on, and its state as the ledger last reported it.

use crate::clock::WallTime;
use crate::limits;

/// Whether a sale sells. The window (`starts_at`, `ends_at`) comes on top, by the ledger's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaleStatus {
    /// It sells.
    #[default]
    Open,
    /// An operator stopped it for now.
    Paused,
    /// An operator ended it; only an operator opens it again.
    Closed,
}

impl SaleStatus {
    /// The word that users see and the ledgers store: `open`, `paused`, `closed`.
    pub fn word(self) -> &'static str {
        match self {
            SaleStatus::Open => "open",
            SaleStatus::Paused => "paused",
            SaleStatus::Closed => "closed",
        }
    }

    /// The status of that [`word`](SaleStatus::word).
    pub fn from_word(word: &str) -> Option<SaleStatus> {
        [SaleStatus::Open, SaleStatus::Paused, SaleStatus::Closed]
            .into_iter()
            .find(|status| status.word() == word)
    }
}

/// Why a sale does not sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffSale {
    /// Its window has not begun.
    NotYet {
        /// When it will.
        starts_at: WallTime,
    },
    /// Its window is over.
    Over {
        /// Since when.
        ends_at: WallTime,
    },
    /// An operator stopped it for now.
    Paused,
    /// An operator ended it.
    Closed,
}

/// What a sale is opened on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaleTerms {
    /// Tickets in all, 0 to [`limits::STOCK_MAX`].
    pub total: u64,
    /// How long a booking stays unpaid, in milliseconds, 1 to [`limits::HOLD_MS_MAX`]; `None` confirms at once.
    pub hold_ms: Option<u64>,
    /// How long a hold may become by extensions, from when it began, in milliseconds, 1 to [`limits::HOLD_MS_MAX`]; `None`
    /// allows none, nor does one that is not above `hold_ms`.
    pub hold_max_ms: Option<u64>,
    /// Max tickets, held and confirmed, of one buyer, 1 to [`limits::QUANTITY_MAX`].
    pub per_buyer: Option<u32>,
    /// Not on sale before.
    pub starts_at: Option<WallTime>,
    /// Not on sale from then on.
    pub ends_at: Option<WallTime>,
    /// Whether each booking must name its buyer, so that leaving it out is no way around the limit.
    pub buyer_required: bool,
}

/// Which term is out of its range, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// See [`limits::STOCK_MAX`].
    #[error("total: takes 0 to 1000000000000 tickets")]
    Total,
    /// See [`limits::HOLD_MS_MAX`].
    #[error("hold: takes 1 millisecond to 30 days")]
    Hold,
    /// See [`limits::HOLD_MS_MAX`].
    #[error("hold-max: takes 1 millisecond to 30 days")]
    HoldMax,
    /// See [`limits::QUANTITY_MAX`].
    #[error("per-buyer: takes 1 to 1000000 tickets")]
    PerBuyer,
    /// The window ends before it starts.
    #[error("ends: must be later than starts")]
    Window,
}

impl SaleTerms {
    /// Checks every range; both ledgers rely on it having been called.
    pub fn check(&self) -> Result<(), TermsError> {
        if self.total > limits::STOCK_MAX {
            return Err(TermsError::Total);
        }
        if self.hold_ms.is_some_and(|ms| ms == 0 || ms > limits::HOLD_MS_MAX) {
            return Err(TermsError::Hold);
        }
        if self.hold_max_ms.is_some_and(|ms| ms == 0 || ms > limits::HOLD_MS_MAX) {
            return Err(TermsError::HoldMax);
        }
        if self.per_buyer.is_some_and(|tickets| tickets == 0 || tickets > limits::QUANTITY_MAX) {
            return Err(TermsError::PerBuyer);
        }
        match (self.starts_at, self.ends_at) {
            (Some(starts), Some(ends)) if ends <= starts => Err(TermsError::Window),
            _ => Ok(()),
        }
    }
}

/// A change of a sale that exists: `None` leaves a term as it is, `Some(None)` removes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaleChange {
    /// New total; refused below held + sold.
    pub total: Option<u64>,
    /// New hold, for bookings made from now on.
    pub hold_ms: Option<Option<u64>>,
    /// New longest hold, for extensions from now on.
    pub hold_max_ms: Option<Option<u64>>,
    /// New limit, for bookings made from now on.
    pub per_buyer: Option<Option<u32>>,
    /// New start.
    pub starts_at: Option<Option<WallTime>>,
    /// New end.
    pub ends_at: Option<Option<WallTime>>,
    /// Whether a buyer is demanded, of bookings made from now on.
    pub buyer_required: Option<bool>,
    /// Pause, resume or close.
    pub status: Option<SaleStatus>,
    /// Only if the sale is at this [`version`](SaleState::version): else nothing is done.
    pub if_version: Option<u64>,
}

/// A sale as the ledger reported it at `now`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaleState {
    /// The terms in force.
    pub terms: SaleTerms,
    /// Open, paused or closed.
    pub status: SaleStatus,
    /// Tickets in unpaid bookings.
    pub held: u64,
    /// Tickets in confirmed bookings.
    pub sold: u64,
    /// Rises by one with every change of the terms or the status.
    pub version: u64,
    /// Rises by one with every change of a booking; equals the number of entries ever written to the sale's log.
    pub sequence: u64,
    /// The ledger's clock when it answered.
    pub now: WallTime,
    /// When the sale was opened: another sale of the same name was opened at another time.
    pub opened: u64,
    /// Which of the sale's histories the ledger has: a new one each time that it was found to have forgotten something.
    /// Rises.
    pub lineage: u64,
    /// Until when nothing is booked, confirmed or cancelled, since the ledger had forgotten something and hosts put back
    /// what they acknowledged; in the past if it is not frozen.
    pub frozen_until: WallTime,
    /// No hold ends before; `None` if there are none. A hold that was paid or cancelled may have ended then.
    pub due_at: Option<WallTime>,
    /// Holds that end by then have given their tickets back: `held` counts the later ones.
    pub lapsed_until: WallTime,
    /// When the ledger last announced to all hosts that the sale has changed.
    pub announced_at: WallTime,
    /// Whether an operator opened the sale, not a host by itself when it started.
    pub by_operator: bool,
}

impl SaleState {
    /// Tickets that can still be booked.
    pub fn available(&self) -> u64 {
        self.terms.total.saturating_sub(self.held + self.sold)
    }

    /// Whether a change at this moment is not announced, since another one was announced a moment before.
    pub fn may_change_unannounced(&self) -> bool {
        self.was_announced_within(limits::ANNOUNCE_MS)
    }

    /// Whether every change from this moment on is announced. A host that reads a sale of which this is not so reads it
    /// again a little later, until it is: then nothing was missed.
    pub fn is_settled(&self) -> bool {
        !self.was_announced_within(limits::SETTLED_MS)
    }

    fn was_announced_within(&self, ms: u64) -> bool {
        // A clock that went back behind the announcement makes the next change another one.
        self.now >= self.announced_at && self.now.0 - self.announced_at.0 < ms
    }

    /// Whether hosts are putting back what was forgotten.
    pub fn is_frozen(&self) -> bool {
        self.frozen_until > self.now
    }

    /// Its status as users see it, its window aside: `frozen` comes before all others.
    pub fn status_word(&self) -> &'static str {
        if self.is_frozen() { "frozen" } else { self.status.word() }
    }

    /// Whether nobody has touched this sale except a host that opened it when it started.
    pub fn is_unattended(&self) -> bool {
        !self.by_operator && self.version == 1
    }

    /// Whether the ledger was ever found to have forgotten something of this sale.
    pub fn has_forgotten(&self) -> bool {
        self.lineage != self.opened
    }

    /// Why it does not sell at the ledger's time `now`; `None` if it does. What an operator did comes before the window.
    pub fn off_sale(&self, now: WallTime) -> Option<OffSale> {
        match (self.status, self.terms.starts_at, self.terms.ends_at) {
            (SaleStatus::Paused, ..) => Some(OffSale::Paused),
            (SaleStatus::Closed, ..) => Some(OffSale::Closed),
            (_, Some(starts_at), _) if now < starts_at => Some(OffSale::NotYet { starts_at }),
            (_, _, Some(ends_at)) if now >= ends_at => Some(OffSale::Over { ends_at }),
            _ => None,
        }
    }

    /// Whether it sells at the ledger's time `now`.
    pub fn on_sale(&self, now: WallTime) -> bool {
        self.off_sale(now).is_none()
    }
}
