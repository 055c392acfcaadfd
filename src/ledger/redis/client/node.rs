//! One blocking connection to a Redis, or to a node of a Cluster, which is replaced when it breaks.
//!
//! It drives the same [`Session`] as the event loops, over a stream that waits, so that every test of it also tests theirs.
//! Before the first call on a connection that changes something it asks for the rights of all such calls, as a loop's
//! connection does: a script that is denied something halfway leaves its work half done. A command that only reads needs
//! fewer. Calls are not sent again automatically: the caller is told what happened to the connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use rand::rngs::OsRng;
use rand::{RngCore, TryRngCore};

use super::super::place::{self, FindError, Whereabouts};
use super::super::redirect::Redirect;
use super::super::session::{Errand, Need, Session, SessionError};
use super::ConnectError;
use crate::clock::Monotonic;
use crate::ledger::url::RedisUrl;
use crate::limits::READ_CHUNK_BYTES;
use crate::net::{Asker, BlockingStream, Endpoint, TlsFailure};
use crate::protocol::{Answer, Call, CallError, CallId, Durability, SaleOp, Slot};

/// What ended a connection.
enum Break {
    /// The stream.
    Stream(io::Error),
    /// What Redis said.
    Session(SessionError),
}

/// What a Redis says to a call.
#[derive(Clone, Debug)]
pub(super) enum NodeReply {
    Answer(Box<Result<Answer, CallError>>),
    /// Another node is to carry it out: nothing was done.
    Redirect(Redirect),
}

/// See the [module](self).
pub(super) struct NodeClient {
    url: RedisUrl,
    asker: Asker<Whereabouts>,
    /// Where it was connected to last, for people.
    dialled: String,
    timeout: Duration,
    session: Box<Session>,
    /// While it is connected.
    stream: Option<BlockingStream>,
    buffer: Vec<u8>,
    next_call: u64,
    started: Instant,
}

impl NodeClient {
    /// Connects to what the asker finds, and loads the scripts; waits no longer than `timeout` (above zero) for anything.
    pub(super) fn connect(
        asker: Asker<Whereabouts>,
        url: &RedisUrl,
        timeout: Duration,
    ) -> Result<NodeClient, ConnectError> {
        let mut client = NodeClient::new(asker, url, timeout);
        client.open()?;
        Ok(client)
    }

    fn new(asker: Asker<Whereabouts>, url: &RedisUrl, timeout: Duration) -> NodeClient {
        let session = Session::of_command(url.clone(), OsRng.unwrap_err().next_u64(), Monotonic::default());
        NodeClient {
            url: url.clone(),
            asker,
            dialled: url.address.to_string(),
            timeout,
            session: Box::new(session),
            stream: None,
            buffer: vec![0; READ_CHUNK_BYTES],
            next_call: 0,
            started: Instant::now(),
        }
    }

    /// Two slots that this node of a Cluster has.
    pub(super) fn set_homes(&mut self, homes: Option<(Slot, Slot)>) {
        self.session.set_homes(homes);
    }

    /// Has the calls that follow wait for replicas as those of a host with that durability do: what an operator was told is done
    /// outlives the primary like what a client was told.
    pub(super) fn wait_as(&mut self, of_host: Durability) {
        self.session.wait_as(of_host);
    }

    fn now(&self) -> Monotonic {
        Monotonic(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Finds where to connect.
    fn find(&mut self) -> Result<Endpoint, ConnectError> {
        let address = || self.url.address.to_string();
        let not_found = |cause: String| ConnectError::NotFound { address: address(), cause };
        self.asker.ask().map_err(|cause| ConnectError::Unreachable { address: address(), cause })?;
        match self.asker.wait(self.timeout) {
            Some(Ok(endpoint)) => Ok(endpoint),
            Some(Err(FindError::TlsFiles(error))) => Err(error.into()),
            Some(Err(FindError::Password(error))) => Err(error.into()),
            Some(Err(error)) => Err(not_found(error.to_string())),
            None => {
                let waited_ms = self.timeout.as_millis();
                Err(not_found(place::slow_look_up(&self.url.address, waited_ms)))
            }
        }
    }

    /// Connects, and sets the connection up.
    fn open(&mut self) -> Result<(), ConnectError> {
        self.session.set_password(self.url.password_now()?);
        let endpoint = self.find()?;
        // People know a Redis by what they wrote, but not one that others have named.
        self.dialled = match self.url.may_move() {
            true => endpoint.to_string(),
            false => self.url.address.to_string(),
        };
        let (url, address) = (self.url.clone(), self.dialled.clone());
        let unreachable = |cause: io::Error| match TlsFailure::of(&cause) {
            Some(failure) => ConnectError::Tls(place::told_of_tls(&address, &url, failure)),
            None => ConnectError::Unreachable { address: address.clone(), cause },
        };
        self.stream = Some(BlockingStream::connect(&endpoint, self.timeout).map_err(unreachable)?);
        let now = self.now();
        self.session.handle_dialling(now);
        self.session.handle_connected(now);
        let set_up = self.drive(|session| session.is_up().then_some(()));
        set_up.map_err(|broken| {
            let refused = |cause| ConnectError::Refused { address: address.clone(), cause };
            self.close(&broken);
            match broken {
                Break::Stream(cause) if url.tls.is_none() && hung_up(&cause) => {
                    let why = "it closed the connection before the first answer (is that its tls-port? then write rediss://)";
                    unreachable(io::Error::new(cause.kind(), why))
                }
                Break::Stream(cause) => unreachable(cause),
                Break::Session(SessionError::Refused { said, .. }) => refused(said),
                Break::Session(SessionError::Unfit { reason, .. }) => refused(reason),
                Break::Session(SessionError::Garbled(what)) => {
                    unreachable(io::Error::new(io::ErrorKind::InvalidData, what))
                }
            }
        })
    }

    fn close(&mut self, broken: &Break) {
        self.stream = None;
        if let Break::Stream(error) = broken {
            self.session.handle_lost(error.to_string(), self.now());
        }
        self.session.abandon_calls();
    }

    /// Writes what the session has to send and gives it what Redis sends, until there is what is waited for.
    fn drive<T>(&mut self, mut poll: impl FnMut(&mut Session) -> Option<T>) -> Result<T, Break> {
        let now = self.now();
        let Some(stream) = &mut self.stream else {
            return Err(Break::Stream(io::ErrorKind::NotConnected.into()));
        };
        loop {
            let mut broken = None;
            while broken.is_none() && !self.session.poll_output().is_empty() {
                match stream.write(self.session.poll_output()) {
                    Ok(bytes) => self.session.handle_written(bytes),
                    Err(error) => broken = Some(error),
                }
            }
            if let Some(found) = poll(&mut self.session) {
                return Ok(found);
            }
            // Even if nothing can be written any more: a Redis that hangs up may have said why.
            let read = stream.read(&mut self.buffer).and_then(|bytes| match bytes {
                0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection")),
                bytes => Ok(bytes),
            });
            let bytes = read.map_err(|error| Break::Stream(in_words(broken.unwrap_or(error))))?;
            self.session.handle_bytes(&self.buffer[..bytes], now).map_err(Break::Session)?;
        }
    }

    /// One try, on the existing connection or on a new one.
    fn attempt(&mut self, errands: Vec<Errand>) -> Result<Vec<NodeReply>, CallError> {
        if self.asker.poll_move() && self.stream.is_some() {
            self.close(&Break::Stream(io::Error::other("the sentinels have named another primary")));
        }
        if self.stream.is_none() {
            self.open().map_err(|error| CallError::Unknown(error.to_string()))?;
        }
        self.exchange(errands).map_err(|broken| {
            self.close(&broken);
            match broken {
                Break::Session(SessionError::Garbled(what)) => CallError::Garbled(what),
                Break::Session(error) => CallError::Unknown(error.to_string()),
                Break::Stream(error) => {
                    let of_tls =
                        TlsFailure::of(&error).map(|why| place::told_of_tls(&self.dialled, &self.url, why));
                    CallError::Unknown(of_tls.unwrap_or_else(|| error.to_string()))
                }
            }
        })
    }

    fn exchange(&mut self, errands: Vec<Errand>) -> Result<Vec<NodeReply>, Break> {
        for (need, has_it) in NEEDS {
            if errands.iter().any(|errand| has_it(&errand.call)) && !self.session.is_allowed(need) {
                self.session.ask_right(need);
                if let Err(why) = self.drive(Session::poll_verdict)? {
                    return Ok(vec![
                        NodeReply::Answer(Box::new(Err(CallError::Refused(why))));
                        errands.len()
                    ]);
                }
            }
        }
        let (first, now) = (self.next_call, self.now());
        let (mut replies, mut missing) = (vec![None; errands.len()], errands.len());
        self.next_call += errands.len() as u64;
        for (id, errand) in (first..).zip(errands) {
            self.session.carry(Errand { id: CallId(id), ..errand }, now);
        }
        self.drive(|session| {
            let mut note = |id: CallId, reply| {
                replies[(id.0 - first) as usize] = Some(reply);
                missing -= 1;
            };
            while let Some((id, answer)) = session.poll_answer() {
                note(id, NodeReply::Answer(Box::new(answer)));
            }
            while let Some((errand, redirect)) = session.poll_redirect() {
                note(errand.id, NodeReply::Redirect(redirect));
            }
            (missing == 0).then_some(())
        })?;
        Ok(replies.into_iter().flatten().collect())
    }

    /// Carries out these calls, in order; their ids do not matter.
    ///
    /// # Errors
    /// Of all of them, if the connection breaks.
    pub(super) fn execute(&mut self, errands: &[Errand]) -> Result<Vec<NodeReply>, CallError> {
        let had_connection = self.stream.is_some();
        let outcome = self.attempt(errands.to_vec());
        // A connection that was idle may have been closed long ago. Asking again is safe: a call that was carried out
        // unheard answers with what it did then, and one that is still on its way is fenced off. The exception is a change
        // of one version: carried out unheard, it would be refused the second time because of its own change.
        let only_once = |errand: &Errand| matches!(&errand.call, Call::Sale { op: SaleOp::Alter(change), .. } if change.if_version.is_some());
        match outcome {
            Err(CallError::Unknown(_)) if had_connection && !errands.iter().any(only_once) => {
                self.attempt(errands.to_vec())
            }
            outcome => outcome,
        }
    }
}

impl fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClient")
            .field("url", &self.url)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// Whether a call is one of some kind.
type IsOfKind = fn(&Call) -> bool;

/// Which rights are needed before which calls.
const NEEDS: [(Need, IsOfKind); 3] = [
    (Need::Change, Call::may_write),
    (Need::Trim, |call| matches!(call, Call::Sale { op: SaleOp::Trim, .. })),
    (Need::Remove, |call| matches!(call, Call::Sale { op: SaleOp::Remove, .. })),
];

fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// The system's own message helps nobody.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::TimedOut => io::Error::new(io::ErrorKind::TimedOut, "Redis did not answer in time"),
        _ => error,
    }
}
