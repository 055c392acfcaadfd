//! What the writing thread writes to: a file, or in tests what stands for one.

use std::io::{self, Write};

/// Where the log's bytes go.
pub trait Sink: Write + Send + 'static {
    /// Makes what was written durable, if that can be done to it.
    ///
    /// # Errors
    /// If that failed.
    fn sync(&mut self) -> io::Result<()>;

    /// Goes on in what is at its path now, if it has one.
    ///
    /// # Errors
    /// If that cannot be opened, and it goes on where it was; or if what was written before could not be made durable.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Looks whether what is written is still at its path.
    fn look(&mut self) -> Look {
        Look::Same
    }
}

/// What a log found at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What it writes to.
    Same,
    /// Nothing, or another file, and that for longer than a rotation takes.
    Gone,
}
