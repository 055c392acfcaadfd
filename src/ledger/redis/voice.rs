//! A connection to one sentinel, or one node of a Cluster, that waits for its answers: what it is asked about where others are,
//! and what the answers mean.

use std::io::{self, Read, Write};
use std::time::Duration;

use redis::{Cmd, Value};

use super::frame::frame_length;
use super::pack::auth;
use super::place::Resolver;
use super::slots::SlotMap;
use crate::ledger::url::HostPort;
use crate::net::{BlockingStream, Endpoint};

/// Most bytes of an answer: an address takes less than a hundred, a node of a Cluster some two hundred for each range of slots.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What tells that a sentinel has another primary: from the one that leads a failover, and from one that has learned of it.
const NEWS: [&str; 2] = ["+promoted-slave", "+switch-master"];

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Voice {
    stream: BlockingStream,
    read: Vec<u8>,
}

impl Voice {
    /// One to that place, logged in with a user and a password, if there is one. Each step, now and later, may take as long as
    /// `patience`.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn of(
        resolver: &Resolver,
        place: &HostPort,
        (user, password): (Option<&str>, Option<&str>),
        patience: Duration,
    ) -> Result<Voice, String> {
        let endpoint = resolver.find(place).map_err(|error| error.to_string())?;
        let mut voice =
            Voice::connect(&endpoint, patience).map_err(|error| match resolver.advice(&error) {
                Some(advice) => format!("{error}; {advice}"),
                None => in_words(error),
            })?;
        if let Some(password) = password {
            voice.log_in(user, password)?;
        }
        Ok(voice)
    }

    fn connect(endpoint: &Endpoint, patience: Duration) -> io::Result<Voice> {
        Ok(Voice { stream: BlockingStream::connect(endpoint, patience)?, read: Vec::new() })
    }

    /// Shows the password.
    ///
    /// # Errors
    /// Why it is not accepted, in words.
    fn log_in(&mut self, user: Option<&str>, password: &str) -> Result<(), String> {
        self.command(&auth(user, password)).map(drop)
    }

    /// Where the primary of that name is.
    ///
    /// # Errors
    /// Why it does not say so, in words.
    pub(super) fn primary(&mut self, name: &str) -> Result<HostPort, String> {
        let value = self.command(redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name))?;
        let unknown = format!("knows no primary {name:?} (is that the name in its \"sentinel monitor\"?)");
        match redis::from_redis_value::<Option<(String, u16)>>(value) {
            Ok(None) => Err(unknown),
            Ok(Some((host, port))) if port != 0 && !host.is_empty() => Ok(HostPort { host, port }),
            Ok(Some(_)) | Err(_) => Err("gave an answer that is no address (is it a sentinel?)".to_owned()),
        }
    }

    /// Which nodes have which slots, where it is called by that host.
    ///
    /// # Errors
    /// Why it does not say so, in words.
    pub(super) fn slots(&mut self, host: &str) -> Result<SlotMap, String> {
        let value = self.command(redis::cmd("CLUSTER").arg("SLOTS")).map_err(of_one_redis)?;
        SlotMap::read(&value, host).ok_or_else(|| "gave an answer that is no map of slots".to_owned())
    }

    /// How late its view of the Cluster is: of two that differ the one with the higher number knows more. And whether it takes
    /// the Cluster for one that is up.
    ///
    /// # Errors
    /// Why it does not say so, in words.
    pub(super) fn epoch(&mut self) -> Result<(u64, bool), String> {
        let value = self.command(redis::cmd("CLUSTER").arg("INFO")).map_err(of_one_redis)?;
        let text: String = redis::from_redis_value(value).map_err(|error| error.to_string())?;
        let fact = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let epoch = fact("cluster_current_epoch").and_then(|epoch| epoch.trim().parse().ok());
        let epoch = epoch.ok_or("gave an answer that has no epoch")?;
        Ok((epoch, fact("cluster_state").is_some_and(|state| state.trim() == "ok")))
    }

    /// Has it tell when it has another primary.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(super) fn subscribe(&mut self) -> Result<(), String> {
        self.command(redis::cmd("SUBSCRIBE").arg(&NEWS[..])).map(drop)
    }

    /// Waits until it tells something, at most as long as its patience: whether it did.
    ///
    /// # Errors
    /// If it is gone.
    pub(super) fn listen(&mut self) -> io::Result<bool> {
        self.read.clear();
        match self.stream.read(&mut [0; 4096]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn command(&mut self, command: &Cmd) -> Result<Value, String> {
        let mut bytes = Vec::new();
        command.write_packed_command(&mut bytes);
        self.stream.write_all(&bytes).and_then(|()| self.stream.flush()).map_err(in_words)?;
        let mut chunk = [0; 4096];
        loop {
            match frame_length(&self.read) {
                Ok(Some(length)) => {
                    let value = redis::parse_redis_value(&self.read[..length]);
                    self.read.drain(..length);
                    return match value {
                        Ok(Value::ServerError(error)) => {
                            Err(format!("{} {}", error.code(), error.details().unwrap_or_default()))
                        }
                        Ok(value) => Ok(value),
                        Err(error) => Err(error.to_string()),
                    };
                }
                Ok(None) if self.read.len() < ANSWER_BYTES_MAX => {}
                Ok(None) | Err(_) => return Err("gave an answer that was not understood".to_owned()),
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err("closed the connection".to_owned()),
                Ok(bytes) => self.read.extend_from_slice(&chunk[..bytes]),
                Err(error) => return Err(in_words(error)),
            }
        }
    }
}

/// What helps if it is no node of a Cluster.
fn of_one_redis(error: String) -> String {
    match error.contains("cluster support disabled") {
        true => format!("{error}; one Redis is redis://HOST:PORT"),
        false => error,
    }
}

/// What people are told of it.
fn in_words(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "does not answer".to_owned(),
        _ => error.to_string(),
    }
}
