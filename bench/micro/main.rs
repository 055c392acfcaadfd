//! The time of each part of a request's way: `make micro`, or `cargo bench --bench micro -- parse`.
//!
//! Times differ from machine to machine and from minute to minute; what a change costs is told by the instructions
//! (`make instructions`). What only time can tell is here alone: two threads that take from one stock, as shards, as one
//! shared atomic and under a mutex.

mod subjects;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use boxoffice::booking::Quantity;
use boxoffice::stock::{CoreIndex, Settlement};
use criterion::{Criterion, Throughput};

/// Tickets of which each thread takes one and gives it back: more than the threads can have taken at a time.
const STOCK: u64 = 1_000_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for subject in subjects::all() {
        let (group, name) = subject.name.split_once('/').expect("a name has its group in front");
        let mut work = (subject.set_up)();
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(work.operations()));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                let mut spent = Duration::ZERO;
                for _ in 0..runs {
                    work.prepare();
                    let start = Instant::now();
                    work.run();
                    spent += start.elapsed();
                }
                spent
            });
        });
        group.finish();
    }
    contend(&mut criterion);
    criterion.final_summary();
}

/// A ticket is taken and given back, by one thread and by two at once. The work of all is the same but for what is shared.
fn contend(criterion: &mut Criterion) {
    let sale = subjects::stock::sale(STOCK);
    let atomic = AtomicU64::new(STOCK);
    let mutex = Mutex::new(STOCK);
    let shards = |core: usize| {
        let permits = sale.take(CoreIndex(core), black_box(Quantity::ONE)).expect("there are permits");
        sale.settle(permits, Settlement::Returned);
    };
    let one_atomic = |_: usize| {
        let taken =
            atomic.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(black_box(1)));
        assert!(taken.is_ok());
        atomic.fetch_add(1, Ordering::Relaxed);
    };
    let one_mutex = |_: usize| {
        let take = |left: &mut u64| *left = left.checked_sub(black_box(1)).expect("there are tickets");
        take(&mut mutex.lock().expect("nobody panics"));
        *mutex.lock().expect("nobody panics") += 1;
    };
    let ways: [(&str, &(dyn Fn(usize) + Sync)); 3] =
        [("shards", &shards), ("one atomic", &one_atomic), ("one mutex", &one_mutex)];
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("take and return, {threads} at once"));
        for (name, way) in ways {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|times| together(threads, |core| (0..times).for_each(|_| way(core))));
            });
        }
        group.finish();
    }
}

/// How long it takes until so many threads have done the work, each all of it.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        for core in 0..threads {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(core);
                barrier.wait();
            });
        }
        barrier.wait();
        let start = Instant::now();
        barrier.wait();
        start.elapsed()
    })
}
