//! The set-up of a connection to Redis, the only one there is: greeting, password and database, its role, the [fence](Fence), the
//! scripts, the user's rights, the durability of the Redis. Without I/O, like the [session](super) that it is a part of.
//!
//! It decides what is asked and what the replies mean, and carries no call. What a host needs is asked on each new
//! connection, all of it before the first call, and again while the connection is used. A command asks for the rights of
//! what it does when it does it: one that only reads needs fewer.

use std::collections::VecDeque;

use super::super::fence::Fence;
use super::super::keys::{self, Key};
use super::super::redirect::Redirect;
use super::super::rights::{self, Fault, Need, Rights};
use super::super::{advice, codec, fitness, role};
use super::{Due, SessionError};
use crate::ledger::Cause;
use crate::ledger::url::RedisUrl;
use crate::protocol::{Durability, Slot};

/// What is written to a connection, and which replies are due for it, in their order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    pub(super) due: VecDeque<Due>,
}

impl Outgoing {
    /// What is not written yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Where to append the question that a reply will be `due` for.
    pub(super) fn ask(&mut self, due: Due) -> &mut Vec<u8> {
        self.due.push_back(due);
        &mut self.bytes
    }

    /// Appends commands whose replies are read one by one.
    fn ask_each(&mut self, append: impl FnOnce(&mut Vec<u8>) -> usize, step: Step) {
        let replies = append(&mut self.bytes);
        self.due.extend(std::iter::repeat_n(Due::SetUp(step), replies));
    }

    /// Appends questions whose replies are read together; there may be none.
    fn ask_together(&mut self, append: impl FnOnce(&mut Vec<u8>) -> usize, step: fn(usize) -> Step) {
        match append(&mut self.bytes) {
            0 => {}
            replies => self.due.push_back(Due::SetUp(step(replies))),
        }
    }

    pub(super) fn handle_written(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// The connection is gone.
    pub(super) fn clear(&mut self) {
        self.due.clear();
        self.bytes.clear();
        self.written = 0;
    }
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One of AUTH, SELECT, CLIENT: an error ends the connection.
    Greeting,
    /// What the [fence](Fence) asks. An error ends the connection.
    Fence,
    /// A command that ends a connection of before; this one has that number. An error ends this one.
    Fenced(u64),
    /// Whether it is a primary. Anything else ends the connection.
    Role,
    /// One SCRIPT LOAD. An error ends the connection.
    Script,
    /// What the user may do. A host's connection ends if that is too little.
    Rights,
    /// What an operator should know ([advice]), in that many replies: nothing in them ends the connection.
    Advice(usize),
    /// Whether the Redis is [fit](fitness) for the host's durability, in that many replies. If not, the connection ends.
    Fitness(usize),
}

impl Step {
    pub(super) fn replies(self) -> usize {
        match self {
            Step::Greeting | Step::Fenced(_) | Step::Role | Step::Script | Step::Rights => 1,
            Step::Fence => Fence::REPLIES,
            Step::Advice(replies) | Step::Fitness(replies) => replies,
        }
    }
}

/// What a step has shown.
pub(super) enum Finding {
    /// All is well.
    Nothing,
    /// Why this Redis refuses writes, or everything; `None` if it does not.
    Refusal(Option<String>),
    /// What an operator should know.
    Advice(Vec<String>),
    /// Whether a command may do what it asked for.
    Verdict(Result<Need, String>),
}

/// Whose calls the connection carries.
#[derive(Debug)]
enum Purpose {
    Host {
        durability: Durability,
        rights: Rights,
        /// The Redis was found unfit, and has not been fit since.
        is_unfit: bool,
    },
    Command {
        /// How many replicas must have what an operator is told.
        replicas: Option<u32>,
        /// What the user was asked for last.
        asked: Option<(Need, Rights)>,
        /// Scripts were loaded again, and none was found since.
        has_reloaded: bool,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct SetUp {
    url: RedisUrl,
    fence: Fence,
    purpose: Purpose,
    /// Two slots that this node has, where it is one of a Cluster: the second for when the first is on its way elsewhere.
    homes: Option<(Slot, Slot)>,
    /// The key that is written before a WAIT.
    mark: Key,
    /// It is in the second of those slots since the last WAIT that was answered.
    is_mark_moved: bool,
}

impl SetUp {
    /// For the calls of a host.
    pub(super) fn of_host(url: RedisUrl, durability: Durability, nonce: u64) -> SetUp {
        let rights = Rights::of_calls(durability, url.is_cluster());
        SetUp::with(url, nonce, Purpose::Host { durability, rights, is_unfit: false })
    }

    /// For those of a command, or of the admin listener.
    pub(super) fn of_command(url: RedisUrl, nonce: u64) -> SetUp {
        SetUp::with(url, nonce, Purpose::Command { replicas: None, asked: None, has_reloaded: false })
    }

    fn with(url: RedisUrl, nonce: u64, purpose: Purpose) -> SetUp {
        SetUp {
            url,
            fence: Fence::new(nonce),
            purpose,
            homes: None,
            mark: keys::mark(None),
            is_mark_moved: false,
        }
    }

    /// Two slots that this node of a Cluster has.
    pub(super) fn set_homes(&mut self, homes: Option<(Slot, Slot)>) {
        if self.homes != homes && self.replicas().is_some() {
            self.homes = homes;
            self.mark = keys::mark(homes.map(|(slot, _)| slot));
        }
    }

    /// Whether the replies to a WAIT say that the slot of its mark is elsewhere: it is to be asked again then, with a mark in
    /// another slot.
    pub(super) fn moves_mark(&mut self, replies: &[u8]) -> bool {
        let is_elsewhere = codec::first_error(replies).is_some_and(|error| Redirect::read(&error).is_some());
        let was_moved = std::mem::replace(&mut self.is_mark_moved, is_elsewhere);
        match self.homes {
            Some((one, other)) if is_elsewhere && !was_moved => {
                let is_of_one = self.mark == keys::mark(Some(one));
                self.mark = keys::mark(Some(if is_of_one { other } else { one }));
                true
            }
            _ => false,
        }
    }

    /// The key that is written before a WAIT.
    pub(super) fn mark(&self) -> Key {
        self.mark
    }

    pub(super) fn set_password(&mut self, password: Option<String>) {
        self.url.password = password;
    }

    /// How many replicas must have what a client is told, if any.
    pub(super) fn replicas(&self) -> Option<u32> {
        match self.purpose {
            Purpose::Host { durability: Durability::Replicas(replicas), .. } => Some(replicas),
            Purpose::Host { .. } => None,
            Purpose::Command { replicas, .. } => replicas,
        }
    }

    /// Has the calls of operators wait for as many replicas as those of a host with that durability.
    pub(super) fn wait_as(&mut self, of_host: Durability) {
        if let (Purpose::Command { replicas, .. }, Durability::Replicas(wanted)) =
            (&mut self.purpose, of_host)
        {
            *replicas = Some(wanted);
        }
    }

    pub(super) fn is_of_host(&self) -> bool {
        matches!(self.purpose, Purpose::Host { .. })
    }

    /// Asks all questions of a new connection.
    pub(super) fn begin(&mut self, out: &mut Outgoing) {
        let RedisUrl { user, password, database, .. } = &self.url;
        let (user, password, name) = (user.as_deref(), password.as_deref(), self.fence.name());
        out.ask_each(|bytes| codec::hello(user, password, *database, name, bytes), Step::Greeting);
        if self.is_of_host() || self.url.may_move() {
            self.ask_role(out);
        }
        self.fence.ask(out.ask(Due::SetUp(Step::Fence)));
        out.ask_each(codec::load_scripts, Step::Script);
        self.check(true, out);
        if let Purpose::Command { asked, has_reloaded, .. } = &mut self.purpose {
            (*asked, *has_reloaded) = (None, false);
        }
    }

    fn ask_role(&self, out: &mut Outgoing) {
        redis::cmd("ROLE").write_packed_command(out.ask(Due::SetUp(Step::Role)));
    }

    /// Asks whether the Redis can carry out what a host sends, on a new connection or again.
    pub(super) fn check(&self, is_new: bool, out: &mut Outgoing) {
        if let Purpose::Host { durability, rights, .. } = &self.purpose {
            // A failover may have made a replica of it. Of one at a fixed address only writes tell, by READONLY.
            if !is_new && self.url.may_move() {
                self.ask_role(out);
            }
            rights.ask(is_new, out.ask(Due::SetUp(Step::Rights)));
            out.ask_together(|bytes| fitness::ask(*durability, bytes), Step::Fitness);
        }
    }

    /// Asks whether a command may do that.
    pub(super) fn ask_right(&mut self, need: Need, out: &mut Outgoing) {
        let rights = Rights::of(need, self.url.is_cluster());
        rights.ask(true, out.ask(Due::SetUp(Step::Rights)));
        if let Purpose::Command { asked, .. } = &mut self.purpose {
            *asked = Some((need, rights));
        }
    }

    /// Has the scripts loaded that were flushed: once for all calls that found so. False if they are flushed as fast as a
    /// command loads them; a host keeps trying for as long as its clients wait.
    pub(super) fn reload_scripts(&mut self, out: &mut Outgoing) -> bool {
        if out.due.contains(&Due::SetUp(Step::Script)) {
            return true;
        }
        if let Purpose::Command { has_reloaded, .. } = &mut self.purpose
            && std::mem::replace(has_reloaded, true)
        {
            return false;
        }
        out.ask_each(codec::load_scripts, Step::Script);
        true
    }

    /// A script was found.
    pub(super) fn note_scripts_found(&mut self) {
        if let Purpose::Command { has_reloaded, .. } = &mut self.purpose {
            *has_reloaded = false;
        }
    }

    /// Reads the replies to a step, on a connection that is new or in use.
    ///
    /// # Errors
    /// Why the connection cannot be used.
    pub(super) fn read(
        &mut self,
        step: Step,
        replies: &[u8],
        is_new: bool,
        out: &mut Outgoing,
    ) -> Result<Finding, SessionError> {
        match step {
            Step::Greeting | Step::Script => match codec::first_error(replies) {
                None => Ok(Finding::Nothing),
                Some(said) => Err(SessionError::Refused { cause: cause_of(&said), said }),
            },
            Step::Role => {
                role::judge(replies, self.url.may_move())
                    .map_err(|(cause, reason)| SessionError::Unfit { cause, reason })?;
                Ok(Finding::Nothing)
            }
            Step::Fence => {
                let read = self.fence.read(replies, &mut out.bytes);
                let (id, commands) = read.map_err(|reason| unfit(replies, reason))?;
                out.due.extend(std::iter::repeat_n(Due::SetUp(Step::Fenced(id)), commands));
                Ok(Finding::Nothing)
            }
            Step::Fenced(id) => {
                self.fence.read_end(id, replies).map_err(|reason| unfit(replies, reason))?;
                Ok(Finding::Nothing)
            }
            Step::Rights => self.read_rights(replies, is_new, out),
            Step::Advice(_) => Ok(Finding::Advice(match &self.purpose {
                Purpose::Host { durability, .. } => advice::read(*durability, replies),
                Purpose::Command { .. } => Vec::new(),
            })),
            Step::Fitness(_) => {
                if let Purpose::Host { durability, is_unfit, .. } = &mut self.purpose {
                    let judged = fitness::judge(*durability, *is_unfit, replies);
                    *is_unfit = judged.is_err();
                    judged.map_err(|reason| SessionError::Unfit { cause: Cause::Durability, reason })?;
                }
                Ok(Finding::Nothing)
            }
        }
    }

    fn read_rights(
        &mut self,
        reply: &[u8],
        is_new: bool,
        out: &mut Outgoing,
    ) -> Result<Finding, SessionError> {
        match (rights::read(reply), &self.purpose) {
            (Ok(findings), Purpose::Host { .. }) => {
                if findings.may_ask_info && is_new {
                    out.ask_together(advice::ask, Step::Advice);
                }
                Ok(Finding::Refusal(findings.refusal))
            }
            (Err(Fault::NoScript), Purpose::Host { .. }) => {
                self.reload_scripts(out);
                self.ask_rights_again(is_new, out);
                // Nothing is known yet.
                Ok(Finding::Nothing)
            }
            (Err(Fault::Denied(reason)), Purpose::Host { .. }) => {
                Err(SessionError::Unfit { cause: Cause::Denied, reason })
            }
            (Ok(_), Purpose::Command { asked, .. }) => {
                let allowed = asked.as_ref().map(|(need, _)| *need);
                self.note_scripts_found();
                Ok(allowed.map_or(Finding::Nothing, |need| Finding::Verdict(Ok(need))))
            }
            (Err(Fault::NoScript), Purpose::Command { .. }) => match self.reload_scripts(out) {
                true => {
                    self.ask_rights_again(true, out);
                    Ok(Finding::Nothing)
                }
                false => Ok(Finding::Verdict(Err(FORGETFUL.to_owned()))),
            },
            (Err(Fault::Denied(reason)), Purpose::Command { .. }) => Ok(Finding::Verdict(Err(reason))),
            (Err(Fault::Garbled(reason)), _) => Err(SessionError::Garbled(reason)),
        }
    }

    fn ask_rights_again(&self, is_new: bool, out: &mut Outgoing) {
        let rights = match &self.purpose {
            Purpose::Host { rights, .. } => rights,
            Purpose::Command { asked: Some((_, rights)), .. } => rights,
            Purpose::Command { asked: None, .. } => return,
        };
        rights.ask(is_new, out.ask(Due::SetUp(Step::Rights)));
    }

    /// Reads the replies to a WAIT.
    ///
    /// # Errors
    /// Too few replicas have what was written before it.
    pub(super) fn read_wait(&mut self, replies: &[u8]) -> Result<(), SessionError> {
        let Some(replicas) = self.replicas() else { return Ok(()) };
        let judged = fitness::judge_wait(replicas, replies);
        if let Purpose::Host { is_unfit, .. } = &mut self.purpose {
            *is_unfit = judged.is_err();
        }
        judged.map_err(|reason| match codec::first_error(replies) {
            Some(error) if codec::is_refusal(&error) => {
                SessionError::Unfit { cause: Cause::Refusing, reason: rights::refusal(&error) }
            }
            _ => SessionError::Unfit { cause: Cause::Durability, reason },
        })
    }

    /// The name of its connections.
    #[cfg(all(test, not(loom)))]
    pub(super) fn name(&self) -> &str {
        self.fence.name()
    }
}

/// Why a call is refused if its script is never there.
pub(super) const FORGETFUL: &str = "Redis forgets the scripts as fast as they are loaded";

/// The cause of an error in the set-up.
fn cause_of(error: &str) -> Cause {
    match rights::denial(error) {
        Some(_) => Cause::Denied,
        None if codec::is_refusal(error) => Cause::Refusing,
        None => Cause::Unreachable,
    }
}

/// Unfit, because of the first error among those replies, if there is one.
fn unfit(replies: &[u8], reason: String) -> SessionError {
    let cause = codec::first_error(replies).map_or(Cause::Unreachable, |error| cause_of(&error));
    SessionError::Unfit { cause, reason }
}
