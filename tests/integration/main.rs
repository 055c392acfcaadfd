//! boxoffice as its users meet it: the real binary, real Redis, nginx, ab and curl, on sockets and files.
//!
//! Every test has a folder and ports of its own. See `support::turn` for which run beside which.

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod amendments;
mod audits;
mod both_ledgers;
mod buyers;
mod cluster;
mod command_line;
mod consumers;
mod crashes;
mod dashboard;
mod durability;
mod floods;
mod holds;
mod hosts;
mod http;
mod limits;
mod load_balancer;
mod log_files;
mod lost_sales;
mod many_hosts;
mod monitoring;
mod mounts;
mod names;
mod news;
mod openapi;
mod operators;
mod order;
mod outages;
mod passwords;
mod profile;
mod proxies;
mod read_only;
mod readiness;
mod redis_connections;
mod rehearse;
mod restarts;
mod rights;
mod sells_exactly;
mod sentinel;
mod signals;
mod sold_out;
mod start_up;
mod streams;
mod terminal;
mod tls;
mod versions;
