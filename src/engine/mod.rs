//! One core's whole brain, without I/O: bytes and time in, bytes and ledger calls out.
//!
//! It wires the stages of a request together: connection, API, desk, and back. The runtime hands it what sockets and
//! the ledger brought (`handle_*`), ends the turn, then takes what is to be written and sent (`poll_*`). So the same engine
//! runs on mio and in tests that have no socket.

mod handler;
mod ids;
#[cfg(all(test, not(loom)))]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::access_log::{Line, LineBuffer};
use crate::api::encode::{self, About, ResponseStyle};
use crate::booking::{BookingId, BuyerId, Outcome, Quantity, Refusal};
use crate::protocol::{Answer, Call, CallError, CallId, SlotRange};

use crate::clock::{Monotonic, Now};
use crate::connection::{Connection, CutReason, PendingReply, Turn};
use crate::connections::{Admission, ConnectionKey, ConnectionServer, Connections, NotAdmitted, Notes};
use crate::desk::{BookingRequest, Desk, LaneIndex, Resolved};
use crate::limits::{self, ClientLimits};
use crate::metrics::CoreMetrics;
use crate::outcome_label::OutcomeLabel;
use crate::proxies::Client;
use crate::stock::{Board, CoreIndex};
use handler::RequestHandler;

/// The address of a waiting request: which one, of which connection, and how it wants to be answered.
#[derive(Debug)]
pub(crate) struct Waiter {
    connection: ConnectionKey,
    pending: PendingReply,
    style: ResponseStyle,
    /// Whose request it is, if the access log is written.
    client: Option<Client>,
    /// What the booking that is looked up must be.
    repeat: Option<Repeat>,
}

/// Tickets and buyer of a booking that is asked for only if it is there. Boxed, since hardly any waiter has one.
type Repeat = Box<(Quantity, Option<BuyerId>)>;

/// Bookings of a connection under generated ids whose answers wait for earlier ones: if the connection is lost, so are the
/// ids.
#[derive(Debug, Default)]
pub struct UndeliveredGrants(Vec<UndeliveredGrant>);

#[derive(Debug)]
struct UndeliveredGrant {
    sequence: u32,
    lane: LaneIndex,
    id: BookingId,
}

impl Notes for UndeliveredGrants {
    fn handle_written(&mut self, connection: &Connection) {
        if !self.0.is_empty() && connection.is_idle() {
            self.0 = Vec::new();
        }
    }
}

/// What an engine is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which of the host's loops it is.
    pub core: CoreIndex,
    /// How long a client waits for the ledger, in milliseconds.
    pub ledger_timeout_ms: u64,
    /// Secret randomness for the ids it makes.
    pub seed: [u8; 32],
    /// What its clients are limited to.
    pub limits: Arc<ClientLimits>,
    /// The count of connections that it shares with the host's other loops.
    pub admission: Arc<Admission>,
}

/// What the request handlers of one core share: everything of the engine but its connections.
struct Core {
    desk: Desk<Waiter>,
    metrics: Arc<CoreMetrics>,
    random: StdRng,
    /// Bodies are put together here.
    scratch: Vec<u8>,
    log: Option<LineBuffer>,
    now: Now,
    strangers: Strangers,
}

impl Core {
    /// Writes the access-log line of a booking request.
    fn log_booking(
        &mut self,
        lane: LaneIndex,
        wanted: &BookingRequest,
        style: ResponseStyle,
        outcome: &Outcome,
        client: Option<Client>,
    ) {
        let (Some(log), Some(client)) = (&mut self.log, client) else { return };
        log.push(&Line {
            at: self.now.wall,
            sale: Some(self.desk.sale(lane).name()),
            booking: wanted.id.as_ref(),
            quantity: wanted.quantity,
            buyer: wanted.buyer.as_ref(),
            outcome: OutcomeLabel::of(outcome),
            status: encode::status_of(style, outcome).code(),
            client: client.address,
            proxy: client.proxy,
        });
    }
}

/// Peers that were turned away because they are no trusted proxies: the log tells of them now and then.
#[derive(Debug, Default)]
struct Strangers {
    /// Those that the log has not told of.
    untold: u64,
    tell_at: Monotonic,
}

impl Strangers {
    fn tell(&mut self, peer: IpAddr, now: Monotonic) {
        self.untold += 1;
        if now < self.tell_at {
            return;
        }
        let connections = std::mem::take(&mut self.untold);
        tracing::warn!(
            peer = %peer.to_canonical(),
            connections,
            "closed connections of peers that --trusted-proxy does not name, this one last; --proxy-protocol is for them alone"
        );
        self.tell_at = now.plus_ms(limits::STRANGERS_LOG_MS);
    }
}

/// See the [module](self).
pub struct Engine {
    core: Core,
    connections: Connections<UndeliveredGrants>,
}

impl Engine {
    /// An engine without connections, whose ledger counts as down. Without a `log`, no access-log lines are written.
    pub fn new(
        settings: Settings,
        board: Arc<Board>,
        metrics: Arc<CoreMetrics>,
        log: Option<LineBuffer>,
        now: Now,
    ) -> Engine {
        let mut desk = Desk::new(settings.core, board, settings.ledger_timeout_ms, now);
        desk.refresh_lanes();
        Engine {
            core: Core {
                desk,
                metrics,
                random: StdRng::from_seed(settings.seed),
                scratch: Vec::with_capacity(1024),
                log,
                now,
                strangers: Strangers::default(),
            },
            connections: Connections::new(settings.limits, settings.admission, now),
        }
    }

    /// Begins a turn of the loop: everything until [`Engine::end_turn`] happens at `now`.
    pub fn begin_turn(&mut self, now: Now) {
        self.core.now = now;
        // A sale that another core has heard of is known to all requests of this turn.
        self.core.desk.refresh_lanes();
        self.connections.begin_turn(now);
        self.core.metrics.last_turn_ms.set(now.monotonic.0 / 1_000_000);
    }

    fn serve<R>(
        &mut self,
        key: ConnectionKey,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>, &mut RequestHandler<'_>) -> R,
    ) -> Option<R> {
        let mut handler = RequestHandler { core: &mut self.core, connection: key };
        self.connections.serve(key, &mut handler, act)
    }

    /// That part of the ledger is up.
    pub fn handle_ledger_up(&mut self, slots: SlotRange) {
        self.core.desk.handle_ledger_up(slots);
        self.core.metrics.set_ledger_up(self.core.desk.reaches_all());
    }

    /// That part of the ledger is down.
    pub fn handle_ledger_down(&mut self, slots: SlotRange) {
        self.core.desk.handle_ledger_down(slots, self.core.now);
        if self.core.metrics.ledger_up() {
            self.core.metrics.ledger_losses.add(1);
        }
        self.core.metrics.set_ledger_up(false);
    }

    /// The ledger answered a call.
    pub fn handle_answer(&mut self, id: CallId, answer: Result<Answer, CallError>) {
        let since = self.core.desk.handle_answer(id, answer, self.core.now);
        self.core.metrics.ledger_round_trip.record(since, self.core.now.monotonic);
    }

    /// When [`Engine::end_turn`] is wanted at the latest.
    pub fn next_deadline(&self) -> Monotonic {
        if self.connections.is_behind() { self.core.now.monotonic } else { self.core.desk.next_deadline() }
    }

    /// Ends the turn: does what is due, answers those whose outcome came, and sends what gathered.
    pub fn end_turn(&mut self) {
        self.core.desk.handle_deadline(self.core.now);
        self.handle_deadlines();
        while let Some(resolved) = self.core.desk.poll_resolved() {
            self.answer(resolved);
        }
        self.core.desk.end_turn(self.core.now);
        self.relieve();
        self.connections.end_turn();
        let guard = self.core.desk.guard_counts();
        self.core.metrics.bookings_put_back.set(guard.put_back);
        self.core.metrics.bookings_lost.set(guard.lost);
        self.core.metrics.waiting.set(self.core.desk.waiting() as u64);
        self.core.metrics.standing.set(self.core.desk.standing() as u64);
        self.core.metrics.buffered_bytes.set(self.connections.buffered_bytes() as u64);
        if let Some(log) = &mut self.core.log {
            log.hand_over();
        }
    }

    fn answer(&mut self, resolved: Resolved<Waiter>) {
        let Resolved { client, lane, id, made_here, terms, asked_at, mut outcome } = resolved;
        let Waiter { connection, pending, style, client, repeat } = client;
        if let (Some(repeat), Outcome::Found(booking)) = (repeat, &outcome) {
            outcome = match *repeat == (booking.quantity, booking.buyer) {
                true => Outcome::Replayed(booking.clone()),
                false => Outcome::Refused(Refusal::IdReused),
            };
        }
        self.core.metrics.count(encode::label_of(style, &outcome));
        self.core.metrics.booking_wait.record(asked_at, self.core.now.monotonic);
        let sale = *self.core.desk.sale(lane).name();
        let sequence = pending.sequence();
        let answered = self.serve(connection, |connection, turn, handler| {
            let reply = connection.reply(pending, turn)?;
            let scratch = &mut handler.core.scratch;
            let about = About { sale: sale.as_str(), id: id.as_str(), made_here };
            let _answered = encode::outcome(reply, scratch, style, about, &outcome);
            Some(connection.owes(sequence))
        });
        if made_here && matches!(outcome, Outcome::Granted(_)) {
            match answered.flatten() {
                // The client has gone, and with it the only one who knew of this booking.
                None => self.core.desk.cancel_unheard(lane, id, self.core.now),
                Some(true) => self.note_undelivered(connection, UndeliveredGrant { sequence, lane, id }),
                Some(false) => {}
            }
        }
        if let Some((quantity, buyer)) = terms {
            let wanted = BookingRequest { id: Some(id), quantity, buyer };
            self.core.log_booking(lane, &wanted, style, &outcome, client);
        }
    }

    /// An answer waits for its turn; entries whose turn has passed are dropped.
    #[cold]
    fn note_undelivered(&mut self, key: ConnectionKey, untold: UndeliveredGrant) {
        let Some((connection, UndeliveredGrants(bookings))) = self.connections.with_notes(key) else {
            return;
        };
        bookings.retain(|other| connection.owes(other.sequence));
        bookings.push(untold);
    }

    /// The next call for the ledger.
    pub fn poll_call(&mut self) -> Option<(CallId, Call)> {
        let (id, call) = self.core.desk.poll_call()?;
        self.core.metrics.ledger_calls.add(1);
        self.core.metrics.ledger_entries.add(call.entries() as u64);
        Some((id, call))
    }

    /// The host is about to stop: other hosts are to know, and each client is told with its next answer to come again
    /// elsewhere.
    pub fn leave(&mut self) {
        self.connections.begin_parting();
        self.core.desk.leave(self.core.now.monotonic);
    }

    /// Whether nothing is left to be answered, written or said.
    pub fn is_drained(&self) -> bool {
        self.connections.is_empty() && self.core.desk.waiting() == 0 && !self.core.desk.is_leaving()
    }

    /// Panics if the engine contradicts itself. For tests and the simulator, between turns.
    pub fn check_invariants(&self) {
        self.core.desk.check_invariants();
        self.connections.check_invariants();
    }

    /// Its booking desk. For tests and the simulator.
    pub fn desk(&self) -> &Desk<impl Sized> {
        &self.core.desk
    }
}

impl ConnectionServer for Engine {
    type Notes = UndeliveredGrants;
    type Service<'a> = RequestHandler<'a>;

    fn connections(&self) -> &Connections<UndeliveredGrants> {
        &self.connections
    }

    fn connections_mut(&mut self) -> &mut Connections<UndeliveredGrants> {
        &mut self.connections
    }

    fn split(&mut self, key: ConnectionKey) -> (&mut Connections<UndeliveredGrants>, RequestHandler<'_>) {
        (&mut self.connections, RequestHandler { core: &mut self.core, connection: key })
    }

    fn handle_accepted(&mut self, peer: SocketAddr) -> Result<ConnectionKey, NotAdmitted> {
        self.relieve();
        match self.connections.admit(peer.ip()) {
            Ok(key) => {
                self.core.metrics.connections_accepted.add(1);
                self.core.metrics.connections_open.set(self.connections.len() as u64);
                Ok(key)
            }
            Err(refused) => {
                match refused {
                    NotAdmitted::NoPlace => self.core.metrics.connections_refused.add(1),
                    NotAdmitted::Limit(limit) => {
                        self.core.metrics.connections_refused.add(1);
                        self.core.metrics.count_limit(limit);
                    }
                    NotAdmitted::Stranger => {
                        self.core.metrics.connections_untrusted.add(1);
                        self.core.strangers.tell(peer.ip(), self.core.now.monotonic);
                    }
                }
                Err(refused)
            }
        }
    }

    fn handle_accept_failure(&mut self) {
        self.core.metrics.accept_failures.add(1);
    }

    fn handle_gone(&mut self, key: ConnectionKey) {
        let Some((connection, UndeliveredGrants(bookings))) = self.connections.remove(key) else { return };
        for UndeliveredGrant { sequence, lane, id } in bookings {
            if connection.owes(sequence) {
                self.core.desk.cancel_unheard(lane, id, self.core.now);
            }
        }
        self.core.metrics.connections_open.set(self.connections.len() as u64);
    }

    fn handle_cut(&mut self, cut: CutReason) {
        self.core.metrics.count_cut(cut);
    }
}
