//! One connection to Redis without I/O: what to write, what was read, and which call each reply answers.
//!
//! A session outlives its connections. Calls that were sent and not answered when a connection was lost are sent again on
//! the next one, with the same ids: the scripts book no id twice, and Redis has ended the lost connection by then
//! (`fence.rs`), so that nothing of an older try comes after an answer. The runtime dials when [`Session::dial_at`] says
//! so, moves bytes, and reports losses; it never looks into a reply.
//!
//! **Rights and writes.** A connection takes calls only once its user is known to have every right that a call may need
//! (`rights.rs`), and is given up if that changes: a script that is denied something halfway leaves its work half done. The
//! same question shows whether the Redis refuses writes, even if nobody books; such a Redis is still asked, since it can
//! read and says itself when it writes again.
//!
//! **Durability.** A connection takes calls only once its Redis is known to be fit for the [`Durability`] that the host was
//! started with, and is given up if that changes. With `replicas=N`, calls on sales are answered only when N
//! replicas have what they saw: one WAIT behind all calls that leave together. Until then they count as unanswered, and are
//! sent again with all the others.
//!
//! **Cluster.** A session is with one node. A call that the node does not carry out since its slot is elsewhere is not answered
//! but [handed back](Session::poll_redirect): whoever has the sessions knows the others.

#[cfg(all(test, not(loom)))]
pub(crate) mod for_tests;
mod setup;
#[cfg(all(test, not(loom)))]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::keys::Keys;
use super::redirect::Redirect;
pub use super::rights::Need;
use super::{codec, fitness, rights};
use crate::clock::Monotonic;
use crate::ledger::Cause;
use crate::ledger::url::RedisUrl;
use crate::limits;
use crate::protocol::{Answer, BookingOp, Call, CallError, CallId, Durability, Slot};
use setup::{FORGETFUL, Finding, Outgoing, SetUp, Step};

/// What the next reply on the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// The set-up of the connection, or one of its questions that is asked again.
    SetUp(Step),
    /// The call with that id.
    Call(CallId),
    /// A WAIT and the write before it: for all calls before.
    Replicas,
}

/// Why a connection is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Redis refuses a part of the set-up.
    #[error("Redis refused the set-up of the connection: {said}")]
    Refused {
        /// The kind of trouble that it is.
        cause: Cause,
        /// In the words of Redis.
        said: String,
    },
    /// It must not be used as it is.
    #[error("{reason}")]
    Unfit {
        /// The kind of trouble that it is.
        cause: Cause,
        /// Why, and what to do.
        reason: String,
    },
    /// It sent what was not asked for.
    #[error("{0}")]
    Garbled(String),
}

impl SessionError {
    fn cause(&self) -> Cause {
        match self {
            SessionError::Refused { cause, .. } | SessionError::Unfit { cause, .. } => *cause,
            SessionError::Garbled(_) => Cause::Unreachable,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Down { dial_at: Monotonic },
    Dialling { give_up_at: Monotonic },
    Up,
}

/// A call, and how it is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Comes back with the answer.
    pub id: CallId,
    /// The call.
    pub call: Call,
    /// Where its keys are.
    pub keys: Keys,
    /// The node is to get the slot and does not have it yet, and is asked all the same.
    pub asking: bool,
    /// A connection was lost with this call on it: whatever is answered now, it may have been carried out before.
    pub doubtful: bool,
}

impl Errand {
    /// One that was never sent.
    pub fn new(id: CallId, call: Call, keys: Keys) -> Errand {
        Errand { id, call, keys, asking: false, doubtful: false }
    }

    /// How many replies it gets.
    fn replies(&self) -> usize {
        codec::replies_expected(&self.call) * if self.asking { 2 } else { 1 }
    }

    /// What is refused: of a doubtful one only this try is known to have done nothing.
    pub fn refused(&self, reason: String) -> CallError {
        match self.doubtful {
            true => CallError::Unknown(format!("it had been sent before, and is refused now: {reason}")),
            false => CallError::Refused(reason),
        }
    }
}

struct Unanswered {
    errand: Errand,
    /// It was sent before the calls that are sent again.
    ahead: bool,
}

/// See the [module](self).
pub struct Session {
    set_up: SetUp,
    /// Why the last connection was lost, if it was.
    cause: Cause,
    /// Why this Redis refuses all calls, or writes, if it does.
    refusal: Option<String>,
    /// How often the [condition](Session::condition) changed.
    changes: u64,
    /// What an operator should know of this Redis; until it is taken.
    advice: Option<Vec<String>>,
    /// What the user of a command is known to be allowed on this connection.
    allowed: Vec<Need>,
    /// Whether it may do what was asked for last; until it is taken.
    verdict: Option<Result<(), String>>,
    /// When to ask again, on a connection that is up.
    check_at: Monotonic,
    state: State,
    failures: u32,
    jitter: StdRng,
    /// Calls not answered yet, oldest first.
    unanswered: VecDeque<Unanswered>,
    out: Outgoing,
    /// When the last reply came, or the last call left an idle connection.
    heard_at: Monotonic,
    input: Vec<u8>,
    consumed: usize,
    answers: VecDeque<(CallId, Result<Answer, CallError>)>,
    /// Calls that are to be carried out elsewhere.
    redirected: VecDeque<(Errand, Redirect)>,
    /// Answers that wait for the replicas; their calls are still among the unanswered.
    held: Vec<(CallId, Result<Answer, CallError>)>,
    /// Calls that need their replicas were written since the last WAIT.
    unsealed: bool,
    last_error: Option<String>,
    /// The connection is new: the calls of earlier ones are yet to be sent again.
    resend_due: bool,
}

impl Session {
    /// A host's session, to be dialled at once. Its `seed` must be its own: it gives its connections their name and varies
    /// the pauses between attempts, so that a returning Redis isn't dialled by all at the same instant.
    pub fn new(url: RedisUrl, durability: Durability, seed: u64, now: Monotonic) -> Session {
        let mut jitter = StdRng::seed_from_u64(seed);
        Session::with(SetUp::of_host(url, durability, jitter.random()), jitter, now)
    }

    /// A session for the calls of commands and operators, with such a seed. It asks for the rights of a user only when
    /// [told to](Session::ask_right), and checks nothing by itself.
    pub fn of_command(url: RedisUrl, seed: u64, now: Monotonic) -> Session {
        let mut jitter = StdRng::seed_from_u64(seed);
        Session::with(SetUp::of_command(url, jitter.random()), jitter, now)
    }

    /// Has calls wait for replicas as those of a host with that durability do.
    pub fn wait_as(&mut self, of_host: Durability) {
        self.set_up.wait_as(of_host);
    }

    fn with(set_up: SetUp, jitter: StdRng, now: Monotonic) -> Session {
        Session {
            set_up,
            cause: Cause::Unreachable,
            refusal: None,
            changes: 0,
            advice: None,
            allowed: Vec::new(),
            verdict: None,
            check_at: now,
            state: State::Down { dial_at: now },
            failures: 0,
            jitter,
            unanswered: VecDeque::new(),
            out: Outgoing::default(),
            heard_at: now,
            input: Vec::new(),
            consumed: 0,
            answers: VecDeque::new(),
            redirected: VecDeque::new(),
            held: Vec::new(),
            unsealed: false,
            last_error: None,
            resend_due: false,
        }
    }

    /// When to dial, if there is no connection.
    pub fn dial_at(&self) -> Option<Monotonic> {
        match self.state {
            State::Down { dial_at } => Some(dial_at),
            State::Dialling { .. } | State::Up => None,
        }
    }

    /// Has it dialled at once, since its Redis is elsewhere now: what it waited for has happened.
    pub fn hasten(&mut self, now: Monotonic) {
        if let State::Down { dial_at } = &mut self.state {
            *dial_at = now;
            self.failures = 0;
        }
    }

    /// Whether calls are answered: the connection is set up.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// What keeps this session from having calls carried out, and why, for people. `None` before the first connection was
    /// established or failed.
    pub fn condition(&self) -> Option<(Cause, &str)> {
        match self.state {
            State::Up => self.refusal.as_deref().map(|refusal| (Cause::Refusing, refusal)),
            State::Down { .. } | State::Dialling { .. } => {
                self.last_error.as_deref().map(|error| (self.cause, error))
            }
        }
    }

    /// Changes whenever the [condition](Session::condition) may have changed.
    pub fn condition_changes(&self) -> u64 {
        self.changes
    }

    /// Advice on the settings of this Redis, once per connection.
    pub fn take_advice(&mut self) -> Option<Vec<String>> {
        self.advice.take()
    }

    /// Shows another password from the next dial on.
    pub fn set_password(&mut self, password: Option<String>) {
        self.set_up.set_password(password);
    }

    /// The runtime has begun to connect. The set-up is ready to be written; calls follow once all of it is answered.
    pub fn handle_dialling(&mut self, now: Monotonic) {
        self.state = State::Dialling { give_up_at: now.plus_ms(limits::DIAL_TIMEOUT_MS) };
        self.heard_at = now;
        self.set_up.begin(&mut self.out);
    }

    /// The set-up is done.
    fn handle_up(&mut self, now: Monotonic) {
        self.state = State::Up;
        self.changes += 1;
        self.failures = 0;
        self.check_at = now.plus_ms(limits::FITNESS_CHECK_MS);
        self.resend_due = true;
    }

    /// Sends again what earlier connections left unanswered. Only when something is to be written, so that a caller that
    /// learns of the new connection can have its restores carried out before them.
    fn resend(&mut self) {
        if !std::mem::take(&mut self.resend_due) {
            return;
        }
        for place in 0..self.unanswered.len() {
            if !self.unanswered[place].ahead {
                self.send(place);
            }
        }
    }

    /// Writes the call at that place.
    fn send(&mut self, place: usize) {
        let Errand { id, call, keys, asking, .. } = &self.unanswered[place].errand;
        let out = self.out.ask(Due::Call(*id));
        match asking {
            false => codec::pack_at(call, *keys, out),
            true => codec::pack_asking(call, *keys, out),
        }
        self.unsealed |= self.needs_replicas(call);
    }

    /// Whether replicas must have what the answer tells of, since a client may be told of it, or since the host remembers it as
    /// what there is of the sale: what no replica has, a ledger that fails over to one has not forgotten.
    fn needs_replicas(&self, call: &Call) -> bool {
        self.set_up.replicas().is_some() && !matches!(call, Call::Ledger(_))
    }

    /// Asks whether the user of a command may do that; see [`Session::poll_verdict`].
    pub fn ask_right(&mut self, need: Need) {
        self.verdict = None;
        self.set_up.ask_right(need, &mut self.out);
    }

    /// Whether it may, and why not, once Redis has said so.
    pub fn poll_verdict(&mut self) -> Option<Result<(), String>> {
        self.verdict.take()
    }

    /// Whether the user is known to be allowed that on this connection.
    pub fn is_allowed(&self, need: Need) -> bool {
        self.allowed.contains(&need)
    }

    /// The connection is established; the set-up is on its way.
    pub fn handle_connected(&mut self, now: Monotonic) {
        if let State::Dialling { give_up_at } = &mut self.state {
            *give_up_at = now.plus_ms(limits::LEDGER_SILENCE_MS);
        }
    }

    /// The connection was lost, or was not established.
    pub fn handle_lost(&mut self, reason: impl Into<String>, now: Monotonic) {
        self.lose(Cause::Unreachable, reason.into(), now);
    }

    /// The same, for that kind of cause.
    pub fn handle_lost_to(&mut self, cause: Cause, reason: String, now: Monotonic) {
        self.lose(cause, reason, now);
    }

    /// Whether the connection is not there yet and takes longer than it may.
    pub fn is_late(&self, now: Monotonic) -> bool {
        matches!(self.state, State::Dialling { give_up_at } if now >= give_up_at)
    }

    fn lose(&mut self, cause: Cause, reason: String, now: Monotonic) {
        if matches!(self.state, State::Down { .. }) {
            return;
        }
        self.changes += 1;
        self.cause = cause;
        self.refusal = None;
        let pause_ms = (limits::RECONNECT_MS_FIRST << self.failures.min(16)).min(limits::RECONNECT_MS_LAST);
        let jittered_ms = self.jitter.random_range(pause_ms / 2..=pause_ms);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Down { dial_at: now.plus_ms(jittered_ms) };
        self.last_error = Some(reason);
        for unanswered in &mut self.unanswered {
            unanswered.errand.doubtful = true;
            unanswered.ahead = false;
        }
        self.resend_due = false;
        self.out.clear();
        self.allowed.clear();
        self.verdict = None;
        self.held.clear();
        self.unsealed = false;
        self.input.clear();
        self.consumed = 0;
    }

    /// Takes a call; it is answered in the end, however many connections that takes.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        self.carry(Errand::new(id, call, Keys::One), now);
    }

    /// The same.
    pub fn carry(&mut self, errand: Errand, now: Monotonic) {
        let ahead =
            self.resend_due && matches!(errand.call, Call::Bookings { op: BookingOp::Restore(_), .. });
        self.unanswered.push_back(Unanswered { errand, ahead });
        if self.state == State::Up && (ahead || !self.resend_due) {
            if self.out.due.is_empty() {
                self.heard_at = now;
            }
            self.send(self.unanswered.len() - 1);
        }
    }

    /// Nobody waits any more for the unanswered calls: they are not sent again. Only on a lost connection, when no reply is
    /// due to them.
    pub fn abandon_calls(&mut self) {
        debug_assert!(self.out.due.is_empty(), "a reply would find no call");
        self.unanswered.clear();
        self.answers.clear();
        self.redirected.clear();
    }

    /// Takes back the unanswered calls of which that is true, oldest first, since another node is to carry them out. Only on
    /// a lost connection, when no reply is due to them.
    pub fn take_back(&mut self, mut is_wanted: impl FnMut(&Errand) -> bool) -> Vec<Errand> {
        debug_assert!(self.state != State::Up, "a reply would find no call");
        let (taken, kept): (Vec<_>, Vec<_>) =
            self.unanswered.drain(..).partition(|unanswered| is_wanted(&unanswered.errand));
        self.unanswered = kept.into();
        taken.into_iter().map(|unanswered| unanswered.errand).collect()
    }

    /// Whether no call waits for its answer.
    pub fn is_idle(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// Two slots that this node of a Cluster has, for what is not of a sale; they may be the same.
    pub fn set_homes(&mut self, homes: Option<(Slot, Slot)>) {
        self.set_up.set_homes(homes);
    }

    /// What to write next: all calls since the last time leave together, with one WAIT behind them if they need it.
    pub fn poll_output(&mut self) -> &[u8] {
        self.resend();
        if let Some(replicas) = self.set_up.replicas()
            && std::mem::take(&mut self.unsealed)
        {
            let mark = self.set_up.mark();
            fitness::wait(replicas, &mark, self.out.ask(Due::Replicas));
        }
        self.out.rest()
    }

    /// That much of [`Session::poll_output`] was written.
    pub fn handle_written(&mut self, bytes: usize) {
        self.out.handle_written(bytes);
    }

    /// Bytes from Redis, in any fragmentation.
    ///
    /// # Errors
    /// If the bytes are not replies, or the set-up was refused, or the Redis is unfit or denies something: the connection
    /// is unusable and must be closed; the session has noted the loss.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Monotonic) -> Result<(), SessionError> {
        self.heard_at = now;
        self.input.extend_from_slice(bytes);
        let outcome = self.read_frames(now);
        self.input.drain(..self.consumed);
        self.consumed = 0;
        if let Err(error) = &outcome {
            self.lose(error.cause(), error.to_string(), now);
        }
        outcome
    }

    fn read_frames(&mut self, now: Monotonic) -> Result<(), SessionError> {
        while let Some(&due) = self.out.due.front() {
            let rest = &self.input[self.consumed..];
            let length = match due {
                Due::SetUp(step) => codec::frames_length(step.replies(), rest),
                Due::Replicas => codec::frames_length(2, rest),
                Due::Call(id) => {
                    codec::frames_length(self.unanswered[self.place(id)?].errand.replies(), rest)
                }
            };
            let length = length.map_err(|error| SessionError::Garbled(error.to_string()))?;
            let Some(length) = length else { return Ok(()) };
            let replies = self.consumed..self.consumed + length;
            self.consumed += length;
            self.out.due.pop_front();
            match due {
                Due::SetUp(step) => self.read_step(step, replies)?,
                Due::Call(id) => self.read_answer(id, replies)?,
                Due::Replicas => self.read_replicas(replies)?,
            }
            // Advice does not keep calls waiting.
            let is_through = || self.out.due.iter().all(|next| matches!(next, Due::SetUp(Step::Advice(_))));
            if matches!(self.state, State::Dialling { .. }) && is_through() {
                self.handle_up(now);
            }
        }
        match self.consumed == self.input.len() {
            true => Ok(()),
            false => Err(SessionError::Garbled("Redis sent a reply that nobody asked for".to_owned())),
        }
    }

    fn read_step(&mut self, step: Step, replies: Range<usize>) -> Result<(), SessionError> {
        let is_new = self.state != State::Up;
        match self.set_up.read(step, &self.input[replies], is_new, &mut self.out)? {
            Finding::Nothing => {}
            Finding::Refusal(refusal) => {
                if self.refusal != refusal {
                    self.refusal = refusal;
                    self.changes += 1;
                }
            }
            Finding::Advice(advice) => self.advice = Some(advice),
            Finding::Verdict(verdict) => {
                self.verdict = Some(verdict.map(|need| self.allowed.push(need)));
            }
        }
        Ok(())
    }

    /// The place of a call among the unanswered: nearly always the first.
    fn place(&self, id: CallId) -> Result<usize, SessionError> {
        let place = self.unanswered.iter().position(|unanswered| unanswered.errand.id == id);
        place.ok_or_else(|| {
            SessionError::Garbled("Redis replied to a call that was already answered".to_owned())
        })
    }

    fn read_answer(&mut self, id: CallId, replies: Range<usize>) -> Result<(), SessionError> {
        let place = self.place(id)?;
        let input = std::mem::take(&mut self.input);
        let replies = &input[replies];
        let outcome = match self.unanswered[place].errand.asking {
            false => self.read_replies(place, replies),
            true => self.read_replies(place, &without_those_to_asking(replies)),
        };
        self.input = input;
        outcome
    }

    fn read_replies(&mut self, place: usize, replies: &[u8]) -> Result<(), SessionError> {
        let id = self.unanswered[place].errand.id;
        if codec::is_noscript(replies) {
            // The scripts were flushed. Load them once for all the calls that found so, then send this one again.
            match self.set_up.reload_scripts(&mut self.out) {
                true => self.send(place),
                false => {
                    self.unanswered.remove(place);
                    self.answers.push_back((id, Err(CallError::Refused(FORGETFUL.to_owned()))));
                }
            }
            return Ok(());
        }
        self.set_up.note_scripts_found();
        let error = codec::first_error(replies);
        if self.unanswered[place].errand.keys != Keys::One
            && let Some(redirect) = error.as_deref().and_then(Redirect::read)
        {
            let unanswered = self.unanswered.remove(place).expect("it is among them");
            self.redirected.push_back((unanswered.errand, redirect));
            return Ok(());
        }
        let denied =
            error.filter(|error| !rights::is_about_keys(error)).and_then(|error| rights::denial(&error));
        let errand = &self.unanswered[place].errand;
        let answer = codec::read(&errand.call, replies);
        if matches!(answer, Err(CallError::Refused(_))) && self.refusal.is_none() {
            // Find out at once whether it is so for every call.
            self.check_at = Monotonic::default();
        }
        let answer = match answer {
            // Only of this try is it true that nothing happened.
            Err(CallError::Refused(reason) | CallError::Unsound(reason)) if errand.doubtful => {
                Err(errand.refused(reason))
            }
            Ok(Answer::Stale(_)) if errand.doubtful => {
                Err(CallError::Unknown("it had been sent before, and is withheld now".to_owned()))
            }
            answer => answer,
        };
        if answer.is_ok() && self.needs_replicas(&errand.call) {
            self.held.push((id, answer));
        } else {
            self.unanswered.remove(place);
            self.answers.push_back((id, answer));
        }
        // A right was taken away. Other calls of a host may run into the same, so nothing more is sent.
        match denied.filter(|_| self.set_up.is_of_host()) {
            None => Ok(()),
            Some(reason) => Err(SessionError::Unfit { cause: Cause::Denied, reason }),
        }
    }

    /// The reply to a WAIT: what replicas have of the calls before it.
    fn read_replicas(&mut self, replies: Range<usize>) -> Result<(), SessionError> {
        if self.set_up.moves_mark(&self.input[replies.clone()]) {
            self.unsealed = true;
            return Ok(());
        }
        self.set_up.read_wait(&self.input[replies])?;
        for (id, answer) in std::mem::take(&mut self.held) {
            let place = self.place(id)?;
            self.unanswered.remove(place);
            self.answers.push_back((id, answer));
        }
        Ok(())
    }

    /// The next call that another node is to carry out, or this one later, and where: nothing was done.
    pub fn poll_redirect(&mut self) -> Option<(Errand, Redirect)> {
        self.redirected.pop_front()
    }

    /// The next answer.
    pub fn poll_answer(&mut self) -> Option<(CallId, Result<Answer, CallError>)> {
        self.answers.pop_front()
    }

    /// When [`Session::handle_deadline`] wants to be called: a connection that stays silent is given up.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        match self.state {
            State::Down { dial_at } => Some(dial_at),
            State::Dialling { give_up_at } => Some(give_up_at),
            State::Up => self.silent_at().into_iter().chain(self.next_check()).min(),
        }
    }

    /// When a connection that is up counts as silent.
    fn silent_at(&self) -> Option<Monotonic> {
        (!self.out.due.is_empty()).then(|| self.heard_at.plus_ms(limits::LEDGER_SILENCE_MS))
    }

    /// When a Redis in use is asked again whether it is fit and takes writes; one question at a time.
    fn next_check(&self) -> Option<Monotonic> {
        let is_question = |next: &Due| matches!(next, Due::SetUp(Step::Fitness(_) | Step::Rights));
        (!self.out.due.iter().any(is_question)).then_some(self.check_at)
    }

    /// Gives up a silent connection; `true` if the runtime must close it. Asks again whether the Redis is fit, if it is
    /// time for that.
    pub fn handle_deadline(&mut self, now: Monotonic) -> bool {
        let silent_at = match self.state {
            State::Down { .. } => None,
            State::Dialling { give_up_at } => Some(give_up_at),
            State::Up => self.silent_at(),
        };
        if silent_at.is_some_and(|at| now >= at) {
            self.handle_lost("no reply in time", now);
            return true;
        }
        if self.state == State::Up && self.next_check().is_some_and(|at| now >= at) {
            self.check_at = now.plus_ms(limits::FITNESS_CHECK_MS);
            if self.out.due.is_empty() {
                self.heard_at = now;
            }
            self.set_up.check(false, &mut self.out);
        }
        false
    }
}

/// Every other reply is that to an ASKING; one that is denied is told in place of an answer.
fn without_those_to_asking(replies: &[u8]) -> Vec<u8> {
    let (mut rest, mut bytes, mut is_of_asking) = (replies, Vec::new(), true);
    while let Some(length) = codec::frame_length(rest).ok().flatten() {
        if !is_of_asking || rest[..length].starts_with(b"-") {
            bytes.extend_from_slice(&rest[..length]);
        }
        is_of_asking = !is_of_asking;
        rest = &rest[length..];
    }
    bytes
}
