//! The model of Redis against a real redis-server: the same random commands and script calls, the same bytes back, and the
//! same data afterwards. And by itself, where a real one cannot be asked cheaply: `losses`, `following`.
//!
//! `SEED=7 SEQUENCES=1 cargo test --profile quick --test scripts` replays one sequence; `SEQUENCES=5000` runs thousands.

#[allow(dead_code, unused_imports, reason = "the simulator uses what this does not")]
#[path = "../redis_model/mod.rs"]
mod redis;
#[path = "../support/mod.rs"]
mod support;

mod difference;
mod following;
mod losses;
mod told;
