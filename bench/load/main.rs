//! The load of the benches: `cargo run --release --example load -- --help`.
//!
//! `drive` asks as fast as it is answered, or at a fixed rate whose latencies count from when a request should have left.
//! `idle` opens connections and leaves them; `dribble` opens connections that never finish a request head;
//! `flood` opens connections that ask and do not read. All of them speak to loopback, and say on standard output, as one line
//! of JSON, what they saw.

mod crowd;
mod drive;
mod flood;
mod net;
mod script;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load for the benches.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Ask for tickets, count the answers, measure how long they took
    Drive(drive::Options),
    /// Open connections, ask once on each, leave them open until standard input ends
    Idle(crowd::Options),
    /// Open connections that send a byte of a request head each second, until standard input ends; those that the
    /// server ends are opened anew
    Dribble(crowd::Options),
    /// Open connections that ask without end and do not read, until standard input ends; those that the server ends are
    /// opened anew
    Flood(flood::Options),
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "takes ADDR:PORT".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("this is for loopback only".to_owned()),
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Drive(options) => drive::run(&options),
        Command::Idle(options) => crowd::idle(&options),
        Command::Dribble(options) => crowd::dribble(&options),
        Command::Flood(options) => flood::run(&options),
    };
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
