//! A Redis ledger that blocks: for the command line, the admin listener, audits and tests.
//!
//! It reads and writes its own socket, so that every test of it is a test of the [`codec`] that the
//! event loops use. Before the first call on a connection that changes something it asks for the rights of all of them, as a
//! loop's connection does: one that is denied something halfway leaves half of itself. Whoever only reads needs fewer.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rand::rngs::OsRng;
use rand::{RngCore, TryRngCore};

use super::codec;
use super::fence::Fence;
use super::rights::{self, Fault, Rights};
use crate::booking::{Answer, Call, CallError, Durability};
use crate::ledger::Ledger;
use crate::ledger::url::{PasswordError, RedisAddress, RedisUrl};
use crate::limits::{LEDGER_SILENCE_MS, READ_CHUNK_BYTES};

/// Why there is no connection to Redis.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error(
        "cannot reach Redis at {address}: {cause}; is it running? start one: redis-server --appendonly yes --appendfsync always"
    )]
    Unreachable {
        /// Where it should be.
        address: RedisAddress,
        /// What the system said.
        cause: io::Error,
    },
    /// Its password is not to be had.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Redis answers, but does not let us in, or is not a Redis.
    #[error("Redis at {address} refused the connection: {cause}")]
    Refused {
        /// Where it is.
        address: RedisAddress,
        /// What it said.
        cause: String,
    },
}

/// A Redis ledger over one blocking connection, made anew when it breaks.
#[derive(Debug)]
pub struct RedisLedger {
    url: RedisUrl,
    timeout: Duration,
    fence: Fence,
    connection: Option<Connection>,
}

impl RedisLedger {
    /// Connects and loads the scripts. No answer is waited for longer than 5 seconds.
    pub fn connect(url: &RedisUrl) -> Result<RedisLedger, ConnectError> {
        RedisLedger::connect_with_timeout(url, Duration::from_millis(LEDGER_SILENCE_MS))
    }

    /// As [`connect`](RedisLedger::connect), waiting no longer than `timeout` (above zero) for anything.
    pub fn connect_with_timeout(url: &RedisUrl, timeout: Duration) -> Result<RedisLedger, ConnectError> {
        let mut fence = Fence::new(OsRng.unwrap_err().next_u64());
        let connection = Connection::open(url, timeout, &mut fence)?;
        Ok(RedisLedger { url: url.clone(), timeout, fence, connection: Some(connection) })
    }

    /// One try, on the connection there is or on a new one.
    fn attempt(&mut self, calls: &[Call]) -> Result<Vec<Result<Answer, CallError>>, CallError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => match Connection::open(&self.url, self.timeout, &mut self.fence) {
                Ok(connection) => none.insert(connection),
                Err(error) => return Err(CallError::Unknown(error.to_string())),
            },
        };
        let result = connection.execute(calls);
        if result.is_err() {
            self.connection = None;
        }
        result.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => CallError::Garbled(error.to_string()),
            _ => CallError::Unknown(error.to_string()),
        })
    }
}

impl Ledger for RedisLedger {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        if calls.is_empty() {
            return Vec::new();
        }
        let had_connection = self.connection.is_some();
        let mut result = self.attempt(calls);
        // A connection that was idle may have been closed long ago. Asking again is safe: a call that was carried out
        // unheard answers with what it did then, and one that is still on its way is fenced off. But not for a change of one
        // version alone: carried out unheard, it would be refused the second time, for its own version.
        let only_once =
            |call: &Call| matches!(call, Call::Alter { change, .. } if change.if_version.is_some());
        if had_connection && matches!(result, Err(CallError::Unknown(_))) && !calls.iter().any(only_once) {
            result = self.attempt(calls);
        }
        result.unwrap_or_else(|error| vec![Err(error); calls.len()])
    }
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    received: Vec<u8>,
    /// How much of `received` was taken. It is let go once all was: thousands of replies come in one read, and to move
    /// the rest up for each of them took longer than to make them.
    taken: usize,
    outgoing: Vec<u8>,
    /// The user has the rights of every call that changes something; those of `sale trim`; those of `sale remove`.
    may_change: bool,
    may_trim: bool,
    may_remove: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection {
    fn open(url: &RedisUrl, timeout: Duration, fence: &mut Fence) -> Result<Connection, ConnectError> {
        let unreachable = |cause| ConnectError::Unreachable { address: url.address.clone(), cause };
        let refused = |cause| ConnectError::Refused { address: url.address.clone(), cause };
        let password = url.password_now()?;
        let stream = Stream::open(&url.address, timeout).map_err(unreachable)?;
        let mut connection = Connection {
            stream,
            received: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            may_change: false,
            may_trim: false,
            may_remove: false,
        };
        let out = &mut connection.outgoing;
        let count = codec::hello(url.user.as_deref(), password.as_deref(), url.database, fence.name(), out);
        let replies = connection.exchange(count).map_err(unreachable)?;
        codec::first_error(&replies).map_or(Ok(()), |cause| Err(refused(cause)))?;

        connection.outgoing.clear();
        fence.ask(&mut connection.outgoing);
        let replies = connection.exchange(Fence::REPLIES).map_err(unreachable)?;
        connection.outgoing.clear();
        let id = fence.read(&replies, &mut connection.outgoing).map_err(refused)?;
        let ended = connection.exchange(1).map_err(unreachable)?;
        fence.read_end(id, &ended).map_err(refused)?;

        connection.outgoing.clear();
        let count = codec::load_scripts(&mut connection.outgoing);
        let replies = connection.exchange(count).map_err(unreachable)?;
        codec::first_error(&replies).map_or(Ok(connection), |cause| Err(refused(cause)))
    }

    /// Why the user may not make one of these calls, where it may not.
    fn refuse(&mut self, calls: &[Call]) -> io::Result<Option<CallError>> {
        if !self.may_change && calls.iter().any(changes) {
            if let Some(error) = self.ask(&Rights::of_calls(Durability::Ack))? {
                return Ok(Some(error));
            }
            self.may_change = true;
        }
        if !self.may_trim && calls.iter().any(|call| matches!(call, Call::Trim { .. })) {
            if let Some(error) = self.ask(&Rights::of_trim())? {
                return Ok(Some(error));
            }
            self.may_trim = true;
        }
        if !self.may_remove && calls.iter().any(|call| matches!(call, Call::Remove { .. })) {
            if let Some(error) = self.ask(&Rights::of_remove())? {
                return Ok(Some(error));
            }
            self.may_remove = true;
        }
        Ok(None)
    }

    fn ask(&mut self, rights: &Rights) -> io::Result<Option<CallError>> {
        for _ in 0..2 {
            self.outgoing.clear();
            rights.ask(true, &mut self.outgoing);
            match rights::read(&self.exchange(1)?) {
                Ok(_) => return Ok(None),
                Err(Fault::Denied(what)) => return Ok(Some(CallError::Refused(what))),
                Err(Fault::Garbled(what)) => return Err(io::Error::new(io::ErrorKind::InvalidData, what)),
                Err(Fault::NoScript) => {
                    self.outgoing.clear();
                    let count = codec::load_scripts(&mut self.outgoing);
                    self.exchange(count)?;
                }
            }
        }
        Ok(Some(forgetful()))
    }

    fn execute(&mut self, calls: &[Call]) -> io::Result<Vec<Result<Answer, CallError>>> {
        if let Some(error) = self.refuse(calls)? {
            return Ok(vec![Err(error); calls.len()]);
        }
        let mut answers = self.execute_once(calls)?;
        let unknown: Vec<usize> = (0..calls.len()).filter(|&index| answers[index].is_none()).collect();
        if !unknown.is_empty() {
            // A Redis that was restarted or flushed has forgotten the scripts.
            self.outgoing.clear();
            let count = codec::load_scripts(&mut self.outgoing);
            self.exchange(count)?;
            let again: Vec<Call> = unknown.iter().map(|&index| calls[index].clone()).collect();
            for (index, answer) in unknown.into_iter().zip(self.execute_once(&again)?) {
                answers[index] = answer;
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(forgetful()))).collect())
    }

    /// Sends all calls in one write and reads their answers; `None` where Redis did not know the script.
    fn execute_once(&mut self, calls: &[Call]) -> io::Result<Vec<Option<Result<Answer, CallError>>>> {
        self.outgoing.clear();
        for call in calls {
            codec::pack(call, &mut self.outgoing);
        }
        self.send()?;
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            let replies = self.receive(codec::replies_expected(call))?;
            answers.push((!codec::is_noscript(&replies)).then(|| codec::read(call, &replies)));
        }
        Ok(answers)
    }

    fn exchange(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.send()?;
        self.receive(count)
    }

    fn send(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(&self.outgoing),
            Stream::Unix(stream) => stream.write_all(&self.outgoing),
        }
        .map_err(timed_out)
    }

    fn receive(&mut self, count: usize) -> io::Result<Vec<u8>> {
        loop {
            let rest = &self.received[self.taken..];
            let length = codec::frames_length(count, rest);
            if let Some(length) = length.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                let replies = rest[..length].to_vec();
                self.taken += length;
                return Ok(replies);
            }
            self.received.drain(..std::mem::take(&mut self.taken));
            let start = self.received.len();
            self.received.resize(start + READ_CHUNK_BYTES, 0);
            let read = match &mut self.stream {
                Stream::Tcp(stream) => read_some(stream, &mut self.received[start..]),
                Stream::Unix(stream) => read_some(stream, &mut self.received[start..]),
            };
            self.received.truncate(start + *read.as_ref().unwrap_or(&0));
            if read.map_err(timed_out)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection"));
            }
        }
    }
}

impl Stream {
    fn open(address: &RedisAddress, timeout: Duration) -> io::Result<Stream> {
        match address {
            RedisAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                Ok(Stream::Unix(stream))
            }
            RedisAddress::Tcp { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, timeout) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            stream.set_read_timeout(Some(timeout))?;
                            stream.set_write_timeout(Some(timeout))?;
                            return Ok(Stream::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

fn forgetful() -> CallError {
    CallError::Refused("Redis forgets the scripts as fast as they are loaded".into())
}

/// Whether a call may write.
fn changes(call: &Call) -> bool {
    match call {
        Call::Open { .. }
        | Call::Alter { .. }
        | Call::Reserve { .. }
        | Call::Confirm { .. }
        | Call::Cancel { .. }
        | Call::Amend { .. }
        | Call::Assign { .. }
        | Call::Expire { .. }
        | Call::Restore { .. }
        | Call::Recall { .. }
        | Call::Identify { .. }
        | Call::Remove { .. }
        | Call::Repair { .. } => true,
        // `sale trim` has rights of its own.
        Call::Snapshot { .. }
        | Call::LookUp { .. }
        | Call::Sales
        | Call::Changes { .. }
        | Call::Page { .. }
        | Call::Log { .. }
        | Call::Trim { .. }
        | Call::Survey { .. } => false,
    }
}

/// Reads once. A signal, as a profile of the process sends, ends a read that has a time limit before anything came.
fn read_some(stream: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The system calls an expired timeout "temporarily unavailable", which tells nobody anything.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "Redis did not answer in time"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_does_not_end_a_read() {
        struct Signalled(u32);
        impl Read for Signalled {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                match self.0 {
                    0 => {
                        room[..3].copy_from_slice(b"+OK");
                        Ok(3)
                    }
                    left => {
                        self.0 = left - 1;
                        Err(io::ErrorKind::Interrupted.into())
                    }
                }
            }
        }
        let mut room = [0; 8];
        assert_eq!(read_some(&mut Signalled(2), &mut room).unwrap(), 3);
        assert_eq!(&room[..3], b"+OK");
    }
}
