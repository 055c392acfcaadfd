//! The append-only file: what a server finds again after it was killed.

use std::rc::Rc;

use super::commands::Command;
use super::dataset::Dataset;
use super::wire::Words;

/// What one command or one script changed, as commands that change the same anywhere. It is carried out whole: a file that
/// ends within it loses it whole, as Redis does with a torn MULTI.
pub type Effect = Rc<Vec<Words>>;

/// When what was written is on the disk: `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fsync {
    /// Before the reply leaves.
    Always,
    EverySecond,
    /// When the system likes to.
    Never,
}

impl Fsync {
    pub fn word(self) -> &'static str {
        match self {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
            Fsync::Never => "no",
        }
    }
}

/// How much of its file a killed server loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The process alone was killed: the system still has what was written.
    Nothing,
    /// The machine went down: of what was not synced, that many effects got to the disk; the next is torn.
    UnsyncedAfter(usize),
    /// The file is gone.
    Everything,
}

/// The file.
#[derive(Clone, Debug, Default)]
pub struct AppendOnlyFile {
    /// What it was rewritten from last.
    base: Dataset,
    effects: Vec<Effect>,
    synced: usize,
}

impl AppendOnlyFile {
    /// One that begins with this data, all of it on the disk.
    pub fn rewritten(data: &Dataset) -> AppendOnlyFile {
        AppendOnlyFile { base: data.clone(), effects: Vec::new(), synced: 0 }
    }

    pub fn append(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn sync(&mut self) {
        self.synced = self.effects.len();
    }

    /// How many effects a machine that goes down may lose.
    pub fn unsynced(&self) -> usize {
        self.effects.len() - self.synced
    }

    /// What is read from it after such a loss; it goes on from there.
    pub fn read_after(&mut self, loss: Loss) -> Dataset {
        match loss {
            Loss::Nothing => {}
            Loss::UnsyncedAfter(kept) => self.effects.truncate(self.synced.saturating_add(kept)),
            Loss::Everything => *self = AppendOnlyFile::default(),
        }
        self.sync();
        let mut data = self.base.clone();
        for effect in &self.effects {
            carry_out(effect, &mut data);
        }
        data
    }
}

/// Carries out what was carried out elsewhere before.
pub fn carry_out(effect: &Effect, data: &mut Dataset) {
    for words in effect.iter() {
        let mut words = words.clone();
        let command = Command::named(&words[0]).expect("only commands have effects");
        let reply = command.run(data, &mut words);
        assert!(!matches!(reply, super::wire::Reply::Error(_)), "an effect failed elsewhere: {reply:?}");
    }
}
