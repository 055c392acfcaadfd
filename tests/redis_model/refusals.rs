//! What keeps a Redis from carrying commands out, in the words of Redis 7.0.

use super::commands::{Command, Kind};
use super::wire::{Reply, Words};

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// It reads its data, and serves nobody.
    Loading,
    /// Another script has been running for too long.
    Busy,
    /// `maxmemory` is reached, and nothing may be evicted.
    OutOfMemory,
    /// It cannot save to disk.
    DiskFailed,
    /// It was made a replica.
    ReadOnly,
    /// Something in front of it carries no script out, and says so in words of its own.
    Strange,
}

impl Trouble {
    /// All that a Redis itself has.
    pub const ALL: [Trouble; 5] =
        [Trouble::Loading, Trouble::Busy, Trouble::OutOfMemory, Trouble::DiskFailed, Trouble::ReadOnly];

    fn words(self) -> &'static str {
        match self {
            Trouble::Loading => "LOADING Redis is loading the dataset in memory",
            Trouble::Busy => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            }
            Trouble::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Trouble::DiskFailed => {
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands \
                 that may modify the data set are disabled, because this instance is configured to report errors during \
                 writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for \
                 details about the RDB error."
            }
            Trouble::ReadOnly => "READONLY You can't write against a read only replica.",
            Trouble::Strange => "ERR what is that?",
        }
    }

    fn reply(self) -> Reply {
        Reply::error(self.words())
    }
}

/// What is wrong now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals {
    pub trouble: Option<Trouble>,
    pub is_replica: bool,
}

impl Refusals {
    /// Whether it follows another, and says so.
    pub fn is_of_a_replica(self) -> bool {
        self.is_replica || self.trouble == Some(Trouble::ReadOnly)
    }

    /// The error of a command that is not even begun.
    pub fn of_command(self, command: &Command, words: &Words) -> Option<Reply> {
        let is_served = match self.trouble {
            Some(Trouble::Loading) => {
                ["AUTH", "SELECT", "CLIENT", "CONFIG", "INFO", "ROLE"].contains(&command.name)
            }
            Some(Trouble::Busy) => command.name == "AUTH",
            Some(Trouble::Strange) => command.name != "EVALSHA",
            Some(Trouble::DiskFailed) => command.name != "PING",
            _ => true,
        };
        match (self.trouble, is_served) {
            (Some(trouble), false) => Some(trouble.reply()),
            _ => self.of_write(command.kind(words)),
        }
    }

    /// The error of a command that changes data, from a client or as the first one of a script.
    pub fn of_write(self, kind: Kind) -> Option<Reply> {
        match self.trouble {
            _ if !kind.writes() => None,
            _ if self.is_replica => Some(Trouble::ReadOnly.reply()),
            Some(trouble @ (Trouble::ReadOnly | Trouble::DiskFailed)) => Some(trouble.reply()),
            Some(Trouble::OutOfMemory) if kind == Kind::Grow => Some(Trouble::OutOfMemory.reply()),
            _ => None,
        }
    }
}
