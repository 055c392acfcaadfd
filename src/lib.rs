//! boxoffice sells a limited stock of tickets to a crowd that is far larger than the stock: an HTTP/1.1 server with an
//! event loop a core, and one ledger (a SQLite file, or a Redis that many hosts share) that has the last word on every
//! ticket.
//!
//! This is the tour of the code. `README.md` and `docs/` are for users, `ARCHITECTURE.md` says why it is as it is.
//!
//! # Start with a request
//!
//! ```text
//! socket ─ runtime ─ engine ─ connection ─ http ─ api ─ desk ─ stock ── no permit: refused, straight back
//!                                                            │
//!                                      a batch at the end of the turn
//!                                                            │
//! socket ─ runtime ─ engine ─ connection ─ http ─ api ─ desk ─ ledger
//! ```
//!
//! * [`runtime`]: the only I/O of the loops. A worker waits for events, reads what came, ends the engine's turn, sends to
//!   the ledger and writes to the clients.
//! * [`engine`]: one core's whole brain, without I/O: bytes and time in, bytes and ledger calls out. Its handler serves one
//!   request: route, read, ask the desk.
//! * [`connection`]: one client. Reading and writing are two machines; answers leave in the order of their requests,
//!   however they are made. The admin listener uses it too.
//! * [`connections`]: those of a loop: keys, timers, who is let in, and when sockets are read, written and closed. Sockets
//!   and servers are behind traits: operators are served by it too, and the simulator runs it.
//! * [`http`]: bytes to a request, a response to bytes. How long a body is, is decided in one place.
//! * [`api`]: routes, JSON to the domain's words and back, and the problem types.
//! * [`booking`]: the domain's values. [`protocol`]: what is asked of a ledger (a [`Call`](protocol::Call)) and what it
//!   answers (an [`Answer`](protocol::Answer)), the same for both ledgers.
//! * [`desk`]: admits requests against permits, gathers them into batches, and turns answers into outcomes.
//! * [`stock`]: what cores share about sales. A permit is the right to ask the ledger for one ticket; shards of permits
//!   are what makes a loser cheap, and decide nothing about a ticket.
//! * [`ledger`]: the truth. One [trait](ledger::Ledger), two implementations, one conformance suite. The rules are in
//!   `lua/` for Redis and in `ledger/sqlite/` for SQLite; the session with Redis is sans-I/O, like the engine.
//!
//! # Around it
//!
//! * [`cli`] and [`config`]: subcommands; flags, variables and file to a valid [`Config`](config::Config). `main.rs` opens
//!   what they name.
//! * [`client`]: a host as commands ask it.
//! * [`rehearsal`]: a crowd of buyers on sockets of its own.
//! * [`host`]: opens the ledger, binds, starts a worker a core and the admin listener, and ends them again; signals, and what
//!   is kept over restarts.
//! * [`admin`]: the operators' listener, a loop of its own with threads for what waits.
//! * [`support`]: what is done to single bookings for buyers, by commands and by operators' calls.
//! * [`audit`]: recounts a sale and names what does not fit; mends what follows from bookings and log.
//! * [`access_log`], [`metrics`], [`outcome_label`]: what was done, as lines and as counts, in one set of words.
//! * [`proxies`]: which peers are believed when they say for whom they speak, and what they say.
//! * [`net`]: streams to the servers that this process connects to.
//! * [`limits`]: every bound, with its unit and its reason. [`clock`]: time as values.
//!
//! # Rules that hold everywhere
//!
//! * The ledger decides; memory only keeps crowds away from it. `held + sold <= total` is kept by scripts and transactions.
//! * A ledger that did not answer is *unknown*, never *failed*: every call may be sent again, since bookings have ids.
//! * `handle_*` takes input now, `poll_*` gives output at the end of the turn: batching falls out of it.
//! * Full is a clear refusal, never growth.
//! * What clients and Redis send never panics. A broken invariant of our own does, in release builds too.

pub mod access_log;
pub mod admin;
pub mod api;
pub mod audit;
pub mod booking;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod connection;
pub mod connections;
pub mod desk;
pub mod engine;
pub mod host;
pub mod http;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod outcome_label;
pub mod protocol;
pub mod proxies;
pub mod rehearsal;
pub mod runtime;
pub mod stock;
pub mod support;
