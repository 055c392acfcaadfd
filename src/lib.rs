//! boxoffice sells a limited stock of tickets to a crowd that is far larger than the stock.

pub mod access_log;
pub mod admin;
pub mod api;
pub mod booking;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod desk;
pub mod ending;
pub mod engine;
pub mod http;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod runtime;
pub mod stock;
