//! One connection to Redis without I/O: what to write, what was read, and which call each reply answers.
//!
//! A session outlives its connections. Calls that were sent and not answered when a connection broke are sent again
//! on the next one, with the ids they had: the scripts book no id twice, and Redis has ended the broken connection by
//! then (`fence.rs`), so that nothing of an older try comes after an answer. The runtime dials when
//! [`Session::dial_at`] says so, moves bytes, and tells of losses; it never looks into a reply.
//!
//! **Rights and writes.** A connection takes calls only once its user was found to have every right that a call may need
//! (`rights.rs`), and is lost where that changes: a script that is denied something halfway leaves half of itself. With the
//! same question a Redis is noticed that refuses writes, whether or not anybody books; it is still asked, since it can read
//! and will say itself when it writes again.
//!
//! **Durability.** A connection takes calls only once its Redis was found fit for the [`Durability`] that the host was
//! started with, and is lost where that changes. With `replicas=N` the calls that clients are answered by are answered
//! only when N replicas have what they saw: one WAIT behind all calls that leave together. Until then they count as not
//! answered, and are sent again with all the others.

use std::collections::VecDeque;
use std::ops::Range;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fence::Fence;
use super::rights::{self, Fault, Rights};
use super::{advice, codec, fitness};
use crate::booking::{Answer, Call, CallError, CallId, Durability};
use crate::clock::Monotonic;
use crate::ledger::Cause;
use crate::ledger::url::RedisUrl;
use crate::limits;

/// Which reply comes next on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Of the connection's set-up (AUTH, SELECT, CLIENT): an error ends the connection.
    Greeting,
    /// To what the [fence](Fence) asks. Likewise.
    Fence,
    /// Of the end of the connection of before this one, which has that number. Likewise.
    Fenced(u64),
    /// Of a SCRIPT LOAD: likewise.
    Script,
    /// To what the user may do. Likewise.
    Rights,
    /// To what the Redis is asked for [advice]: that many replies, of which none ends the connection.
    Advice(usize),
    /// To what the Redis is asked about its [fitness]: that many replies. Likewise.
    Fitness(usize),
    /// Of the call with that id.
    Call(CallId),
    /// To a WAIT and the write before it: of all calls before.
    Replicas,
}

/// Why a connection is of no more use.
struct Loss {
    cause: Cause,
    reason: String,
}

impl From<String> for Loss {
    fn from(reason: String) -> Loss {
        Loss { cause: Cause::Unreachable, reason }
    }
}

/// Of an error in the set-up.
fn cause_of(error: &str) -> Cause {
    match rights::denial(error) {
        Some(_) => Cause::Denied,
        None if codec::is_refusal(error) => Cause::Refusing,
        None => Cause::Unreachable,
    }
}

/// Of the first error among those replies.
fn cause_in(replies: &[u8]) -> Cause {
    codec::first_error(replies).map_or(Cause::Unreachable, |error| cause_of(&error))
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Down { dial_at: Monotonic },
    Dialling { give_up_at: Monotonic },
    Up,
}

struct Unanswered {
    id: CallId,
    call: Call,
    /// A connection broke with this call on it: whatever is answered now, it may have been carried out before.
    doubtful: bool,
    /// It was sent ahead of what is sent again.
    ahead: bool,
}

/// See the [module](self).
pub struct Session {
    url: RedisUrl,
    durability: Durability,
    rights: Rights,
    /// Its Redis was found unfit, and not fit since.
    unfit: bool,
    /// What became of the last connection, where it was lost.
    cause: Cause,
    /// Why this Redis carries nothing out, or no writes, where it is so.
    refusal: Option<String>,
    /// How often the [condition](Session::condition) changed.
    changes: u64,
    /// What an operator should know of the Redis; until it was taken.
    advice: Option<Vec<String>>,
    /// When to ask again, on a connection that is up.
    check_at: Monotonic,
    state: State,
    fence: Fence,
    failures: u32,
    jitter: StdRng,
    /// Calls not answered yet, oldest first.
    unanswered: VecDeque<Unanswered>,
    expected: VecDeque<Expected>,
    /// When the last reply came, or the last call left an idle connection.
    heard_at: Monotonic,
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    consumed: usize,
    answers: VecDeque<(CallId, Result<Answer, CallError>)>,
    /// Answers that wait for the replicas; their calls are still among the unanswered.
    held: Vec<(CallId, Result<Answer, CallError>)>,
    /// Calls that need their replicas were written since the last WAIT.
    unsealed: bool,
    last_error: Option<String>,
    /// The connection is new: the calls of before are yet to be sent again.
    resend_due: bool,
}

impl Session {
    /// A session that wants to be dialled at once. No other may have its `seed`, which gives its connections their name
    /// and varies the pauses between attempts, so that a returning Redis isn't dialled by all at the same instant.
    pub fn new(url: RedisUrl, durability: Durability, seed: u64, now: Monotonic) -> Session {
        let mut jitter = StdRng::seed_from_u64(seed);
        Session {
            url,
            durability,
            rights: Rights::of_calls(durability),
            unfit: false,
            cause: Cause::Unreachable,
            refusal: None,
            changes: 0,
            advice: None,
            check_at: now,
            state: State::Down { dial_at: now },
            failures: 0,
            fence: Fence::new(jitter.random()),
            jitter,
            unanswered: VecDeque::new(),
            expected: VecDeque::new(),
            heard_at: now,
            output: Vec::new(),
            written: 0,
            input: Vec::new(),
            consumed: 0,
            answers: VecDeque::new(),
            held: Vec::new(),
            unsealed: false,
            last_error: None,
            resend_due: false,
        }
    }

    /// When to dial, where there is no connection.
    pub fn dial_at(&self) -> Option<Monotonic> {
        match self.state {
            State::Down { dial_at } => Some(dial_at),
            State::Dialling { .. } | State::Up => None,
        }
    }

    /// Whether calls are answered: the set-up of the connection is through.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// What keeps this session from having calls carried out, and why, for people. Nothing before the first connection
    /// came about or failed.
    pub fn condition(&self) -> Option<(Cause, &str)> {
        match self.state {
            State::Up => self.refusal.as_deref().map(|refusal| (Cause::Refusing, refusal)),
            State::Down { .. } | State::Dialling { .. } => {
                self.last_error.as_deref().map(|error| (self.cause, error))
            }
        }
    }

    /// Differs where the [condition](Session::condition) may.
    pub fn condition_changes(&self) -> u64 {
        self.changes
    }

    /// What is to be known of the settings of the Redis, once a connection.
    pub fn take_advice(&mut self) -> Option<Vec<String>> {
        self.advice.take()
    }

    /// Shows another password from the next dial on.
    pub fn set_password(&mut self, password: Option<String>) {
        self.url.password = password;
    }

    /// The runtime has begun to connect. The set-up is ready to be written; calls follow once all of it is answered.
    pub fn handle_dialling(&mut self, now: Monotonic) {
        self.state = State::Dialling { give_up_at: now.plus_ms(limits::DIAL_TIMEOUT_MS) };
        self.heard_at = now;
        let RedisUrl { user, password, database, .. } = &self.url;
        let (user, password, name) = (user.as_deref(), password.as_deref(), self.fence.name());
        let greetings = codec::hello(user, password, *database, name, &mut self.output);
        self.expected.extend(std::iter::repeat_n(Expected::Greeting, greetings));
        self.fence.ask(&mut self.output);
        self.expected.push_back(Expected::Fence);
        self.load_scripts();
        self.ask_rights();
        self.ask_fitness();
    }

    /// The set-up is through.
    fn handle_up(&mut self, now: Monotonic) {
        self.state = State::Up;
        self.changes += 1;
        self.failures = 0;
        self.check_at = now.plus_ms(limits::FITNESS_CHECK_MS);
        self.resend_due = true;
    }

    /// Sends again what connections of before left unanswered. Only when something is to be written, so that a caller that
    /// was told of the new connection can have its restores carried out before them.
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
        let Unanswered { id, call, .. } = &self.unanswered[place];
        codec::pack(call, &mut self.output);
        self.expected.push_back(Expected::Call(*id));
        self.unsealed |= self.needs_replicas(call);
    }

    /// Whether a client may be told something by the answer.
    fn needs_replicas(&self, call: &Call) -> bool {
        matches!(self.durability, Durability::Replicas(_)) && call.entries() > 0
    }

    fn ask_rights(&mut self) {
        self.rights.ask(self.state != State::Up, &mut self.output);
        self.expected.push_back(Expected::Rights);
    }

    fn ask_fitness(&mut self) {
        match fitness::ask(self.durability, &mut self.output) {
            0 => {}
            replies => self.expected.push_back(Expected::Fitness(replies)),
        }
    }

    fn load_scripts(&mut self) {
        let scripts = codec::load_scripts(&mut self.output);
        self.expected.extend(std::iter::repeat_n(Expected::Script, scripts));
    }

    /// The connection came about; the set-up is on its way.
    pub fn handle_connected(&mut self, now: Monotonic) {
        if let State::Dialling { give_up_at } = &mut self.state {
            *give_up_at = now.plus_ms(limits::LEDGER_SILENCE_MS);
        }
    }

    /// The connection is gone, or never came about.
    pub fn handle_lost(&mut self, reason: impl Into<String>, now: Monotonic) {
        self.lose(Cause::Unreachable, reason.into(), now);
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
            unanswered.doubtful = true;
            unanswered.ahead = false;
        }
        self.resend_due = false;
        self.expected.clear();
        self.held.clear();
        self.unsealed = false;
        self.output.clear();
        self.written = 0;
        self.input.clear();
        self.consumed = 0;
    }

    /// Takes a call; it is answered in the end, however many connections that needs.
    pub fn submit(&mut self, id: CallId, call: Call, now: Monotonic) {
        let ahead = self.resend_due && matches!(call, Call::Restore { .. });
        self.unanswered.push_back(Unanswered { id, call, doubtful: false, ahead });
        if self.state == State::Up && (ahead || !self.resend_due) {
            if self.expected.is_empty() {
                self.heard_at = now;
            }
            self.send(self.unanswered.len() - 1);
        }
    }

    /// What to write next: all calls since the last time leave together, with one WAIT behind them where they need it.
    pub fn output(&mut self) -> &[u8] {
        self.resend();
        if let Durability::Replicas(replicas) = self.durability
            && std::mem::take(&mut self.unsealed)
        {
            fitness::wait(replicas, &mut self.output);
            self.expected.push_back(Expected::Replicas);
        }
        &self.output[self.written..]
    }

    /// That much of [`Session::output`] was written.
    pub fn handle_written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
    }

    /// Bytes from Redis, in any fragmentation.
    ///
    /// # Errors
    /// Where the bytes are not replies, or the set-up was refused, or the Redis is unfit or denies something: the connection
    /// is of no use and must be closed; the session has noted the loss.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Monotonic) -> Result<(), String> {
        self.heard_at = now;
        self.input.extend_from_slice(bytes);
        let outcome = self.read_frames(now);
        self.input.drain(..self.consumed);
        self.consumed = 0;
        outcome.map_err(|Loss { cause, reason }| {
            self.lose(cause, reason.clone(), now);
            reason
        })
    }

    fn read_frames(&mut self, now: Monotonic) -> Result<(), Loss> {
        while let Some(&expected) = self.expected.front() {
            let rest = &self.input[self.consumed..];
            let length = match expected {
                Expected::Greeting | Expected::Fenced(_) | Expected::Script | Expected::Rights => {
                    codec::frames_length(1, rest)
                }
                Expected::Fence => codec::frames_length(Fence::REPLIES, rest),
                Expected::Fitness(replies) | Expected::Advice(replies) => codec::frames_length(replies, rest),
                Expected::Replicas => codec::frames_length(2, rest),
                Expected::Call(id) => codec::replies_length(&self.unanswered[self.place(id)?].call, rest),
            };
            let Some(length) = length.map_err(|error| error.to_string())? else { return Ok(()) };
            let replies = self.consumed..self.consumed + length;
            self.consumed += length;
            self.expected.pop_front();
            match expected {
                Expected::Greeting | Expected::Script => {
                    if let Some(error) = codec::first_error(&self.input[replies]) {
                        let cause = cause_of(&error);
                        let reason = format!("Redis refused the connection's set-up: {error}");
                        return Err(Loss { cause, reason });
                    }
                }
                Expected::Fence => {
                    let replies = &self.input[replies];
                    let read = self.fence.read(replies, &mut self.output);
                    let id = read.map_err(|reason| Loss { cause: cause_in(replies), reason })?;
                    self.expected.push_back(Expected::Fenced(id));
                }
                Expected::Fenced(id) => {
                    let reply = &self.input[replies];
                    let read = self.fence.read_end(id, reply);
                    read.map_err(|reason| Loss { cause: cause_in(reply), reason })?;
                }
                Expected::Rights => self.read_rights(replies)?,
                Expected::Advice(_) => {
                    self.advice = Some(advice::read(self.durability, &self.input[replies]));
                }
                Expected::Fitness(_) => {
                    let judged = fitness::judge(self.durability, self.unfit, &self.input[replies]);
                    self.unfit = judged.is_err();
                    judged.map_err(|reason| Loss { cause: Cause::Durability, reason })?;
                }
                Expected::Call(id) => self.read_answer(id, replies)?,
                Expected::Replicas => self.read_replicas(replies)?,
            }
            // What advice there is does not keep calls waiting.
            let is_through = || self.expected.iter().all(|next| matches!(next, Expected::Advice(_)));
            if matches!(self.state, State::Dialling { .. }) && is_through() {
                self.handle_up(now);
            }
        }
        match self.consumed == self.input.len() {
            true => Ok(()),
            false => Err(Loss::from("Redis sent a reply that nobody asked for".to_owned())),
        }
    }

    /// Where a call stands among the unanswered: nearly always first.
    fn place(&self, id: CallId) -> Result<usize, String> {
        let place = self.unanswered.iter().position(|unanswered| unanswered.id == id);
        place.ok_or_else(|| "a reply is due to a call that was answered before".to_owned())
    }

    /// What the user may do, and whether its Redis takes writes.
    fn read_rights(&mut self, reply: Range<usize>) -> Result<(), Loss> {
        match rights::read(&self.input[reply]) {
            Ok(findings) => {
                if self.refusal != findings.refusal {
                    self.refusal = findings.refusal;
                    self.changes += 1;
                }
                if findings.may_ask_info && self.state != State::Up {
                    let replies = advice::ask(&mut self.output);
                    self.expected.push_back(Expected::Advice(replies));
                }
                Ok(())
            }
            // The scripts were flushed.
            Err(Fault::NoScript) => {
                self.load_scripts_once();
                self.ask_rights();
                Ok(())
            }
            Err(Fault::Denied(reason)) => Err(Loss { cause: Cause::Denied, reason }),
            Err(Fault::Garbled(reason)) => Err(Loss::from(reason)),
        }
    }

    fn load_scripts_once(&mut self) {
        if !self.expected.contains(&Expected::Script) {
            self.load_scripts();
        }
    }

    fn read_answer(&mut self, id: CallId, replies: Range<usize>) -> Result<(), Loss> {
        let place = self.place(id)?;
        if codec::is_noscript(&self.input[replies.clone()]) {
            // The scripts were flushed. Load them once for all the calls that met the same, then send this one again.
            self.load_scripts_once();
            self.send(place);
            return Ok(());
        }
        let error = codec::first_error(&self.input[replies.clone()]);
        let denied =
            error.filter(|error| !rights::is_about_keys(error)).and_then(|error| rights::denial(&error));
        let Unanswered { call, doubtful, .. } = &self.unanswered[place];
        let answer = codec::read(call, &self.input[replies]);
        if matches!(answer, Err(CallError::Refused(_))) && self.refusal.is_none() {
            // Whether it is so of every call is found out at once.
            self.check_at = Monotonic::default();
        }
        let answer = match answer {
            // Of this try alone is it true that nothing happened.
            Err(CallError::Refused(reason) | CallError::Unsound(reason)) if *doubtful => {
                Err(CallError::Unknown(format!("it was sent before, and now refused: {reason}")))
            }
            Ok(Answer::Withheld { .. }) if *doubtful => {
                Err(CallError::Unknown("it was sent before, and now withheld".to_owned()))
            }
            answer => answer,
        };
        if answer.is_ok() && self.needs_replicas(call) {
            self.held.push((id, answer));
        } else {
            self.unanswered.remove(place);
            self.answers.push_back((id, answer));
        }
        // A right was taken away. Whatever else is on its way may meet the same, so nothing more is sent.
        denied.map_or(Ok(()), |reason| Err(Loss { cause: Cause::Denied, reason }))
    }

    /// What replicas have of the calls before.
    fn read_replicas(&mut self, replies: Range<usize>) -> Result<(), Loss> {
        let Durability::Replicas(replicas) = self.durability else { return Ok(()) };
        let judged = fitness::judge_wait(replicas, &self.input[replies.clone()]);
        self.unfit = judged.is_err();
        judged.map_err(|reason| match codec::first_error(&self.input[replies]) {
            Some(error) if codec::is_refusal(&error) => {
                Loss { cause: Cause::Refusing, reason: rights::refusal(&error) }
            }
            _ => Loss { cause: Cause::Durability, reason },
        })?;
        for (id, answer) in std::mem::take(&mut self.held) {
            let place = self.place(id)?;
            self.unanswered.remove(place);
            self.answers.push_back((id, answer));
        }
        Ok(())
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
        (!self.expected.is_empty()).then(|| self.heard_at.plus_ms(limits::LEDGER_SILENCE_MS))
    }

    /// When a Redis in use is asked again whether it is fit and takes writes; one question at a time.
    fn next_check(&self) -> Option<Monotonic> {
        let is_question = |next: &Expected| matches!(next, Expected::Fitness(_) | Expected::Rights);
        (!self.expected.iter().any(is_question)).then_some(self.check_at)
    }

    /// Gives a silent connection up; `true` where the runtime must close it. Asks again whether the Redis is fit, where
    /// it is time for that.
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
            if self.expected.is_empty() {
                self.heard_at = now;
            }
            self.ask_rights();
            self.ask_fitness();
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
