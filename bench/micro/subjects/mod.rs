//! What is measured: each subject is a piece of work that can be done again and again, always the same.
//!
//! `main.rs` takes their time, `instructions.rs` their instructions. No subject depends on time, on randomness or on another
//! subject; what it needs is made once, before.

mod engine;
mod http;
mod ledger;
pub mod stock;

/// One subject.
pub struct Subject {
    /// Its group and its name, `parse/whole`.
    pub name: &'static str,
    /// Makes what it needs.
    pub set_up: fn() -> Box<dyn Work>,
}

/// The work of a subject.
pub trait Work {
    /// How many operations one [`run`](Work::run) does: figures are for one of them.
    fn operations(&self) -> u64 {
        1
    }

    /// Puts everything back as it was before a run; not measured.
    fn prepare(&mut self) {}

    /// The work.
    fn run(&mut self);
}

/// Work that needs nothing put back.
struct Plain<F>(F);

impl<F: FnMut()> Work for Plain<F> {
    fn run(&mut self) {
        (self.0)();
    }
}

fn plain(work: impl FnMut() + 'static) -> Box<dyn Work> {
    Box::new(Plain(work))
}

/// All subjects, in the order of a request's way.
pub fn all() -> impl Iterator<Item = &'static Subject> {
    [http::SUBJECTS, stock::SUBJECTS, ledger::SUBJECTS, engine::SUBJECTS].into_iter().flatten()
}
