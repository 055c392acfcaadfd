//! One command after the other: who may ask what, and the commands that are the server's own.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::append_only::{Effect, Fsync};
use super::commands::{Command, unmodelled};
use super::script::{self, Run};
use super::wire::{Reply, Words, read_command};
use super::{Client, ClientId, ModelRedis, Wait};

/// `appendfsync everysec`.
const SYNC_INTERVAL_US: u64 = 1_000_000;

/// See [`ModelRedis::next_deadline`].
pub fn next_deadline_of(server: &ModelRedis) -> Option<u64> {
    let sync_at = (server.options.fsync == Fsync::EverySecond && server.file.unsynced() > 0)
        .then_some(server.synced_us + SYNC_INTERVAL_US);
    let waits = server.clients.values().filter_map(|client| client.wait?.until_us);
    waits.chain(sync_at).min()
}

impl ModelRedis {
    /// Carries out what a client has sent, up to a command that waits.
    pub(super) fn serve(&mut self, id: ClientId) {
        let mut input = std::mem::take(&mut self.client(id).input);
        let mut done = 0;
        while self.client(id).wait.is_none()
            && let Some((words, length)) = read_command(&input[done..])
        {
            done += length;
            if let Some(reply) = self.carry_out(id, words) {
                reply.write(&mut self.client(id).output);
            }
        }
        input.drain(..done);
        self.client(id).input = input;
        self.sync_if_due();
    }

    fn client(&mut self, id: ClientId) -> &mut Client {
        self.clients.get_mut(&id).expect("an open connection")
    }

    /// The reply, where there is one yet.
    fn carry_out(&mut self, id: ClientId, mut words: Words) -> Option<Reply> {
        let Some(command) = words.first().and_then(|name| Command::named(name)) else { unmodelled(&words) };
        if !command.takes(words.len()) {
            return Some(command.wrong_arity());
        }
        if !self.client(id).is_authenticated && command.name != "AUTH" {
            return Some(Reply::error("NOAUTH Authentication required."));
        }
        if let Some(refusal) = self.refusals.of_command(command, &words) {
            return Some(refusal);
        }
        Some(match command.name {
            "PING" => Reply::Status("PONG"),
            "TIME" => script::time(self.wall_us()),
            "AUTH" => self.auth(id, &words),
            "SELECT" if words[1] == b"0" => Reply::Status("OK"),
            "CLIENT" => self.client_command(id, &words),
            "CONFIG" => self.config(&words),
            "INFO" => self.info(&words),
            "ROLE" => self.role(),
            "SCRIPT" => self.script(&words),
            "EVALSHA" => self.evalsha(id, &words),
            "WAIT" => return self.wait(id, &words),
            "SELECT" => unmodelled(&words),
            _ => {
                let before = self.data.changes;
                let reply = command.run(&mut self.data, &mut words);
                if self.data.changes != before {
                    self.commit(id, vec![words]);
                }
                reply
            }
        })
    }

    pub(super) fn wall_us(&self) -> u64 {
        self.now_us.saturating_add_signed(self.clock_offset_us)
    }

    /// A client's change is made.
    fn commit(&mut self, id: ClientId, effects: Vec<Words>) {
        self.record(Rc::new(effects));
        self.client(id).written = self.history.offset();
        self.last_writer = Some(id);
    }

    pub(super) fn record(&mut self, effect: Effect) {
        if self.options.appendonly {
            self.file.append(effect.clone());
        }
        self.history.push(effect);
    }

    pub(super) fn sync_if_due(&mut self) {
        let is_due = match self.options.fsync {
            Fsync::Always => true,
            Fsync::EverySecond => self.now_us >= self.synced_us + SYNC_INTERVAL_US,
            Fsync::Never => false,
        };
        if is_due {
            self.file.sync();
            self.synced_us = self.now_us;
        }
    }

    fn auth(&mut self, id: ClientId, words: &[Vec<u8>]) -> Reply {
        let password = words.last().expect("a command has words");
        let user = if words.len() == 3 { words[1].as_slice() } else { b"default" };
        match &self.options.password {
            None if words.len() == 2 => Reply::error(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ),
            Some(wanted) if user != b"default" || wanted.as_bytes() != password.as_slice() => {
                Reply::error("WRONGPASS invalid username-password pair or user is disabled.")
            }
            _ => {
                self.client(id).is_authenticated = true;
                Reply::Status("OK")
            }
        }
    }

    /// `SETNAME name`, `ID`, `LIST ID number ...`, and `KILL ID number` of another connection.
    fn client_command(&mut self, id: ClientId, words: &[Vec<u8>]) -> Reply {
        let with_number = |clients: &BTreeMap<ClientId, Client>, wanted: &[u8]| {
            let wanted = super::commands::integer(wanted).unwrap_or_else(|_| unmodelled(words));
            clients.iter().find(|(_, client)| client.number as i64 == wanted).map(|(&found, _)| found)
        };
        match (words[1].to_ascii_uppercase().as_slice(), &words[2..]) {
            (b"SETNAME", [name]) => {
                self.client(id).name = name.clone();
                Reply::Status("OK")
            }
            (b"ID", []) => Reply::Integer(self.client(id).number as i64),
            (b"LIST", [by, wanted @ ..]) if by == b"ID" => {
                let found = wanted.iter().filter_map(|wanted| with_number(&self.clients, wanted));
                let lines = found.map(|found| {
                    let Client { number, name, .. } = &self.clients[&found];
                    format!("id={number} addr=127.0.0.1:1 name={} age=1\n", String::from_utf8_lossy(name))
                });
                Reply::bulk(lines.collect::<String>())
            }
            (b"KILL", [by, wanted]) if by == b"ID" => {
                let found = with_number(&self.clients, wanted).filter(|found| *found != id);
                found.into_iter().for_each(|found| self.disconnect(found));
                Reply::Integer(found.is_some().into())
            }
            _ => unmodelled(words),
        }
    }

    /// `GET *append*`.
    fn config(&self, words: &[Vec<u8>]) -> Reply {
        if words[1..] != [b"GET".as_slice(), b"*append*"] {
            unmodelled(words);
        }
        let facts = [
            ("appendfilename", "appendonly.aof"),
            ("no-appendfsync-on-rewrite", "no"),
            ("appendonly", if self.options.appendonly { "yes" } else { "no" }),
            ("appendfsync", self.options.fsync.word()),
            ("appenddirname", "appendonlydir"),
        ];
        Reply::Array(facts.into_iter().flat_map(|(name, value)| [name, value]).map(Reply::bulk).collect())
    }

    /// `memory`, `persistence` and `replication`, the facts that somebody reads.
    fn info(&self, words: &[Vec<u8>]) -> Reply {
        match words[1..].concat().as_slice() {
            b"persistence" => Reply::bulk(format!(
                "# Persistence\r\nloading:0\r\naof_enabled:{}\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\n",
                u8::from(self.options.appendonly)
            )),
            b"memory" => Reply::bulk("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"),
            b"replication" => {
                let role = if self.refusals.is_of_a_replica() { "slave" } else { "master" };
                let mut text =
                    format!("# Replication\r\nrole:{role}\r\nconnected_slaves:{}\r\n", self.replicas.len());
                for (place, (replica, offset)) in self.replicas.iter().enumerate() {
                    text += &format!(
                        "slave{place}:ip=127.0.0.1,port={replica},state=online,offset={offset},lag=0\r\n"
                    );
                }
                text += &format!("master_repl_offset:{}\r\n", self.history.offset());
                Reply::bulk(text)
            }
            _ => unmodelled(words),
        }
    }

    /// Whose replicas and whose offset is left out.
    fn role(&self) -> Reply {
        let parts = match self.refusals.is_of_a_replica() {
            true => ["slave", "127.0.0.1"].map(Reply::bulk).into_iter().chain([Reply::Integer(1)]).collect(),
            false => vec![
                Reply::bulk("master"),
                Reply::Integer(self.history.offset() as i64),
                Reply::Array(vec![]),
            ],
        };
        Reply::Array(parts)
    }

    /// `LOAD text`, `FLUSH` and `EXISTS hash`.
    fn script(&mut self, words: &[Vec<u8>]) -> Reply {
        match (words[1].to_ascii_uppercase().as_slice(), &words[2..]) {
            (b"LOAD", [text]) => match script::load(text) {
                Ok(hash) => {
                    let run = match &self.rewrite {
                        Some(rewrite) => script::load(rewrite(&String::from_utf8_lossy(text)).as_bytes()),
                        None => Ok(hash.clone()),
                    };
                    self.scripts.insert(hash.clone(), run.expect("what it is rewritten to compiles"));
                    Reply::bulk(hash)
                }
                Err(error) => error,
            },
            (b"FLUSH", []) => {
                self.scripts.clear();
                Reply::Status("OK")
            }
            (b"EXISTS", [hash]) => Reply::Array(vec![Reply::Integer(self.loaded(hash).is_some().into())]),
            _ => unmodelled(words),
        }
    }

    fn loaded(&self, hash: &[u8]) -> Option<&String> {
        self.scripts.get(&String::from_utf8_lossy(hash).to_ascii_lowercase())
    }

    fn evalsha(&mut self, id: ClientId, words: &[Vec<u8>]) -> Reply {
        let no_script = || Reply::error("NOSCRIPT No matching script. Please use EVAL.");
        if words[1].len() != 40 {
            return no_script();
        }
        let keys = match super::commands::integer(&words[2]) {
            Ok(keys) => keys,
            Err(error) => return error,
        };
        if keys > words.len() as i64 - 3 {
            return Reply::error("ERR Number of keys can't be greater than number of args");
        }
        let Ok(keys) = usize::try_from(keys) else {
            return Reply::error("ERR Number of keys can't be negative");
        };
        let Some(hash) = self.loaded(&words[1]).cloned() else {
            return no_script();
        };
        let run = Run {
            data: std::mem::take(&mut self.data),
            refusals: self.refusals,
            wall_us: self.wall_us(),
            ..Run::default()
        };
        let (keys, arguments) = words[3..].split_at(keys);
        let (reply, run) = script::run(&hash, keys, arguments, run);
        self.data = run.data;
        // Whatever the script wrote stays written, though it may have failed afterwards.
        if !run.effects.is_empty() {
            self.commit(id, run.effects);
        }
        reply
    }

    fn wait(&mut self, id: ClientId, words: &[Vec<u8>]) -> Option<Reply> {
        let integer = super::commands::integer;
        let (replicas, timeout_ms) = match (integer(&words[1]), integer(&words[2])) {
            (Ok(replicas), Ok(timeout_ms)) => (replicas, timeout_ms),
            (Err(error), _) | (_, Err(error)) => return Some(error),
        };
        if self.refusals.is_replica {
            return Some(Reply::error(
                "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
                 configured to be writable (which is not the default) writes to replicas are just local and are not \
                 propagated.",
            ));
        }
        let Ok(timeout_ms) = u64::try_from(timeout_ms) else {
            return Some(Reply::error("ERR timeout is negative"));
        };
        let have = self.replicas_at(self.clients[&id].written);
        if have >= replicas {
            return Some(Reply::Integer(have));
        }
        let until_us = (timeout_ms > 0).then(|| self.now_us + timeout_ms * 1_000);
        self.client(id).wait = Some(Wait { replicas, until_us });
        None
    }

    fn replicas_at(&self, offset: u64) -> i64 {
        self.replicas.values().filter(|&&has| has >= offset).count() as i64
    }

    /// Answers every WAIT that is over, and carries out what its client sent after it.
    pub(super) fn answer_waits(&mut self) {
        let ids: Vec<ClientId> =
            self.clients.iter().filter(|(_, client)| client.wait.is_some()).map(|(&id, _)| id).collect();
        for id in ids {
            let client = &self.clients[&id];
            let (Some(wait), have) = (client.wait, self.replicas_at(client.written)) else { continue };
            if have >= wait.replicas || wait.until_us.is_some_and(|until_us| self.now_us >= until_us) {
                let client = self.client(id);
                client.wait = None;
                Reply::Integer(have).write(&mut client.output);
                self.serve(id);
            }
        }
    }
}
