//! Runs each subject under callgrind: `bench/micro/instructions.py` calls it, and counts.
//!
//! Prints a line a subject: how many operations were counted, and its name. callgrind counts within `counted` alone, and writes
//! down what it has counted each time `finished` is called.

mod subjects;

use std::hint::black_box;

use subjects::Work;

/// Runs before the count: what is made on the first one, as buffers are, is not counted.
const WARM_RUNS: u64 = 3;
const COUNTED_RUNS: u64 = 20;

#[inline(never)]
fn counted(work: &mut dyn Work) {
    work.run();
    // Something after the call, lest it become a jump that callgrind does not see return.
    black_box(work);
}

#[inline(never)]
fn finished(name: &str) {
    black_box(name);
}

fn main() {
    for subject in subjects::all() {
        let mut work = (subject.set_up)();
        for _ in 0..WARM_RUNS {
            work.prepare();
            work.run();
        }
        for _ in 0..COUNTED_RUNS {
            work.prepare();
            counted(work.as_mut());
        }
        println!("{} {}", COUNTED_RUNS * work.operations(), subject.name);
        finished(subject.name);
    }
}
