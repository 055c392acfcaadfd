//! What this process uses its CPU time for, as a flame graph: `POST /debug/profile`.
//!
//! A timer of the kernel counts the CPU time of the process and interrupts whichever thread is using it, which notes its
//! own stack (that part is pprof's). Names are looked up and the graph is drawn afterwards, on the operator's thread: a
//! loop never waits for either. What is being noted is never waited for: a stack that would have to is left out.
//!
//! The first profile reserves some 70 MB for stacks, which stay reserved.

use std::collections::BTreeMap;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use pprof::flamegraph::{self, Options};
use pprof::{Frames, ProfilerGuardBuilder};

use crate::limits::{PROFILE_SAMPLES_PER_SECOND, PROFILE_SECONDS_MAX};

/// What a profile is sent as.
pub(super) const CONTENT_TYPE: &str = "image/svg+xml";

/// How long a profile takes if the query does not say.
const SECONDS: u64 = 10;

/// How soon a profile ends if the host does.
const TICK: Duration = Duration::from_millis(50);

/// The process has one profiling timer.
static TURN: Mutex<()> = Mutex::new(());

/// Libraries in which no stack is noted: in the first one a thread may be reading a stack itself, and the second one does
/// not always describe its frames.
const LEFT_OUT: [&str; 2] = ["libgcc", "vdso"];

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProfileError {
    #[error("a profile of this host is already being taken; try again when it is done")]
    Running,
    #[error("cannot sample stacks: {0}; this needs a writable folder for temporary files (TMPDIR)")]
    Take(#[from] pprof::Error),
    #[error("cannot draw the flame graph: {0}")]
    Draw(String),
}

/// How many seconds the query asks for: `seconds=10` and nothing else, 1 to [`PROFILE_SECONDS_MAX`], 10 without a query.
///
/// # Errors
/// What it takes instead.
pub(super) fn seconds(query: Option<&str>) -> Result<u64, String> {
    let Some(query) = query else { return Ok(SECONDS) };
    let digits = query.strip_prefix("seconds=").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(seconds @ 1..=PROFILE_SECONDS_MAX) => Ok(seconds),
        _ => Err(format!("the query takes seconds=N and nothing else, N from 1 to {PROFILE_SECONDS_MAX}")),
    }
}

/// Appends to `out` the flame graph of the next `seconds`; of fewer if `has_ended` becomes true before.
///
/// # Errors
/// See [`ProfileError`].
pub(super) fn take(
    seconds: u64,
    has_ended: &dyn Fn() -> bool,
    out: &mut Vec<u8>,
) -> Result<(), ProfileError> {
    let _turn = match TURN.try_lock() {
        Ok(turn) => turn,
        // It guards nothing but the turn.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(ProfileError::Running),
    };
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let guard =
        ProfilerGuardBuilder::default().frequency(PROFILE_SAMPLES_PER_SECOND).blocklist(&LEFT_OUT).build()?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || has_ended() {
            break;
        }
        std::thread::sleep(left.min(TICK));
    }
    let taken = guard.report().build_unresolved();
    // Ends the timer: names are looked up without it.
    drop(guard);
    let stacks = taken?.data.into_iter().map(|(frames, count)| (Frames::from(frames), count));
    let mut folded = BTreeMap::new();
    for (frames, count) in stacks {
        *folded.entry(fold(&frames)).or_default() += count;
    }
    draw(&folded, begun.elapsed(), out)
}

/// A stack as flame graphs are drawn from: the thread and its functions, outermost first, apart by semicolons.
fn fold(frames: &Frames) -> String {
    let mut line = name_of(&frames.thread_name_or_id());
    for symbol in frames.frames.iter().rev().flat_map(|inlined| inlined.iter().rev()) {
        line.push(';');
        line.push_str(&name_of(&symbol.name()));
    }
    line
}

/// A name with semicolons, which types may have (`[u8; 32]`), would be two.
fn name_of(name: &str) -> String {
    name.replace(';', ",")
}

fn draw(folded: &BTreeMap<String, isize>, lasted: Duration, out: &mut Vec<u8>) -> Result<(), ProfileError> {
    let samples: isize = folded.values().sum();
    let title = format!("boxoffice: CPU time of {:.1} s, {samples} stacks", lasted.as_secs_f64());
    if folded.is_empty() {
        let text = format!("{title}: no thread used enough CPU time");
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="800" height="60"><text x="20" y="36">{text}</text></svg>"#
        );
        out.extend_from_slice(svg.as_bytes());
        return Ok(());
    }
    let lines: Vec<String> = folded.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
    let mut options = Options::default();
    options.title = title;
    options.deterministic = true;
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
        .map_err(|error| ProfileError::Draw(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_whole_seconds_within_bounds_and_nothing_else() {
        assert_eq!(seconds(None), Ok(10));
        for (query, expected) in [("seconds=1", 1), ("seconds=60", 60), ("seconds=007", 7)] {
            assert_eq!(seconds(Some(query)), Ok(expected));
        }
        let refused = [
            "",
            "seconds",
            "seconds=",
            "seconds=0",
            "seconds=61",
            "seconds=-1",
            "seconds=+1",
            "seconds=1.5",
            "seconds=1&seconds=2",
            "second=1",
            "seconds=99999999999999999999",
            "a=b&seconds=1",
            "seconds=%31",
        ];
        for query in refused {
            let told = seconds(Some(query)).unwrap_err();
            assert!(told.contains("1 to 60"), "{query}: {told}");
        }
    }

    #[test]
    fn the_graph_has_every_thread_and_function_and_says_where_there_is_none() {
        let drawn = |stacks: &[(&str, isize)]| {
            let folded = stacks.iter().map(|(stack, count)| (stack.to_string(), *count)).collect();
            let mut svg = Vec::new();
            draw(&folded, Duration::from_millis(2_500), &mut svg).unwrap();
            String::from_utf8(svg).unwrap()
        };
        let svg = drawn(&[("loop-0;run;read", 3), ("loop-1;run;write<T>", 1)]);
        assert!(svg.contains("<svg") && svg.contains("2.5 s, 4 stacks"), "{svg}");
        for title in ["loop-0 (3 samples, 75.00%)", "loop-1 (1 samples, 25.00%)", "write&lt;T&gt; (1 samples"]
        {
            assert!(svg.contains(title), "no {title:?} in {svg}");
        }
        let svg = drawn(&[]);
        assert!(svg.starts_with("<svg") && svg.contains("0 stacks: no thread used"), "{svg}");
    }

    /// One test, because a process has one profiler.
    #[test]
    fn one_profile_at_a_time_and_the_end_is_not_waited_for() {
        let turn = TURN.lock().unwrap();
        let mut svg = Vec::new();
        assert!(matches!(take(1, &|| false, &mut svg), Err(ProfileError::Running)));
        assert!(svg.is_empty());
        drop(turn);
        // Ends with the host, not an hour later.
        take(3_600, &|| true, &mut svg).unwrap();
        assert!(svg.windows(4).any(|bytes| bytes == b"<svg"));
    }
}
