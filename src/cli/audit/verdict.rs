//! What an audit found.

use std::io::{self, Write};

use crate::limits::AUDIT_DIFFERENCES_MAX;

/// Notes, which prove nothing wrong, and differences, which do.
#[derive(Default)]
pub(super) struct Verdict {
    notes: Vec<String>,
    listed: Vec<String>,
    differences: u64,
}

impl Verdict {
    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(super) fn difference(&mut self, text: String) {
        self.differences += 1;
        if self.listed.len() < AUDIT_DIFFERENCES_MAX {
            self.listed.push(text);
        }
    }

    pub(super) fn differences(&self) -> u64 {
        self.differences
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for note in &self.notes {
            writeln!(out, "note        {note}")?;
        }
        for difference in &self.listed {
            writeln!(out, "difference  {difference}")?;
        }
        let unlisted = self.differences - self.listed.len() as u64;
        if unlisted > 0 {
            writeln!(out, "difference  and {unlisted} more")?;
        }
        match self.differences {
            0 => writeln!(out, "audit       no difference"),
            1 => writeln!(out, "audit       1 difference"),
            count => writeln!(out, "audit       {count} differences"),
        }
    }
}
