//! boxoffice sells a limited stock of tickets to a crowd that is far larger than the stock.

pub mod access_log;
pub mod booking;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod http;
pub mod ledger;
pub mod limits;
pub mod stock;
