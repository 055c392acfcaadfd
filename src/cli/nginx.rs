//! `boxoffice nginx`: an upstream block for hosts that are named, or for those that share a ledger and live.

use std::io::Write;

use clap::Args;

use super::office::hosts_of;
use super::{CommandError, LedgerFlag};
use crate::config::is_host_and_port;
use crate::ledger::Ledger;
use crate::limits::WEIGHT_MAX;
use crate::protocol::with_shares;

/// `boxoffice nginx`.
#[derive(Debug, Args)]
pub struct NginxFlags {
    /// A host and its weight, 1 if left out (repeatable); without any, the hosts that share --ledger and live
    #[arg(long = "host", value_name = "ADDR:PORT=WEIGHT", required_unless_present = "ledger", num_args = 1..)]
    #[arg(value_parser = HostWeight::parse, conflicts_with = "ledger")]
    pub hosts: Vec<HostWeight>,
    /// Whose hosts.
    #[command(flatten)]
    pub ledger: LedgerFlag,
}

/// A host as Nginx names it, and its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostWeight {
    address: String,
    weight: u32,
}

impl HostWeight {
    fn parse(text: &str) -> Result<HostWeight, String> {
        let (address, weight) = text.split_once('=').unwrap_or((text, "1"));
        let weight = weight
            .parse()
            .ok()
            .filter(|weight| (1..=WEIGHT_MAX).contains(weight))
            .ok_or_else(|| format!("the weight takes 1 to {WEIGHT_MAX}"))?;
        const TAKES: &str = "takes ADDR:PORT=WEIGHT, such as 10.0.0.1:3005=2";
        if !is_host_and_port(address) {
            return Err(TAKES.to_owned());
        }
        Ok(HostWeight { address: address.to_owned(), weight })
    }
}

impl NginxFlags {
    /// Writes the block of the hosts that live, as the ledger knows them, with the weights and addresses that they tell.
    ///
    /// # Errors
    /// If the ledger does not answer, if there are none, or if one of them is at no address. Then nothing is written.
    pub fn run_on(&self, ledger: &mut dyn Ledger, out: &mut dyn Write) -> Result<(), CommandError> {
        let told = hosts_of(ledger)?;
        let mut live: Vec<HostWeight> = Vec::new();
        for (host, _) in with_shares(&told).into_iter().filter(|(host, _)| host.is_live()) {
            let (address, weight) = (&host.report.address, host.report.weight);
            if !is_host_and_port(address) {
                return Err(CommandError::NoAddress(address.clone()));
            }
            match live.last_mut().filter(|last| last.address == *address) {
                // Two processes at one address: one of them is about to go.
                Some(last) => last.weight = last.weight.max(weight),
                None => live.push(HostWeight { address: address.clone(), weight }),
            }
        }
        match live.is_empty() {
            true => Err(CommandError::NoHosts),
            false => write_block(&live, out),
        }
    }

    /// Writes the block of the hosts that are named.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), CommandError> {
        write_block(&self.hosts, out)
    }
}

fn write_block(hosts: &[HostWeight], out: &mut dyn Write) -> Result<(), CommandError> {
    // One zone for all of Nginx's processes, or each of them would count its own round.
    writeln!(out, "upstream boxoffice {{\n    zone boxoffice 128k;")?;
    for host in hosts {
        writeln!(out, "    server {} weight={} max_fails=1 fail_timeout=1s;", host.address, host.weight)?;
    }
    // Nginx drops an idle connection after 60 s by itself, before a host does after 75 s.
    writeln!(out, "    keepalive 256;\n    keepalive_timeout 60s;\n    keepalive_requests 100000;\n}}")?;
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn prints_a_weighted_upstream() {
        let hosts = ["127.0.0.1:3001", "[::1]:3002=2", "box-3.local:3003=10000"];
        let hosts: Vec<HostWeight> = hosts.iter().map(|host| HostWeight::parse(host).unwrap()).collect();
        let mut out = Vec::new();
        write_block(&hosts, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "upstream boxoffice {\n    zone boxoffice 128k;\n\
             \x20   server 127.0.0.1:3001 weight=1 max_fails=1 fail_timeout=1s;\n\
             \x20   server [::1]:3002 weight=2 max_fails=1 fail_timeout=1s;\n\
             \x20   server box-3.local:3003 weight=10000 max_fails=1 fail_timeout=1s;\n\
             \x20   keepalive 256;\n    keepalive_timeout 60s;\n    keepalive_requests 100000;\n}\n"
        );
    }

    #[test]
    fn takes_nothing_that_could_leave_its_line() {
        for text in [
            "",
            "a",
            "a=1",
            ":1=1",
            "a:0=1",
            "a:65536",
            "a:1=0",
            "a:1=10001",
            "a;b:1",
            "a b:1",
            "[x]:1",
            "a:+1",
            "a:1=1=1",
        ] {
            assert!(HostWeight::parse(text).is_err(), "{text:?}");
        }
    }
}
