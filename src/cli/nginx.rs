//! `boxoffice nginx`: an upstream block for the hosts that share a ledger.

use std::io::Write;

use clap::Args;

use super::CommandError;
use crate::limits::WEIGHT_MAX;

/// `boxoffice nginx`.
#[derive(Debug, Args)]
pub struct NginxFlags {
    /// A host and its weight, 1 if left out (repeatable)
    #[arg(long = "host", value_name = "ADDR:PORT=WEIGHT", required = true, num_args = 1.., value_parser = HostWeight::parse)]
    pub hosts: Vec<HostWeight>,
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
        let (host, port) = address.rsplit_once(':').ok_or(TAKES)?;
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_is_good = match in_brackets {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(name),
        };
        // What comes out is a configuration: nothing passes that could end a line or open a block.
        if !host_is_good || !matches!(port.parse::<u16>(), Ok(1..)) || port.starts_with('+') {
            return Err(TAKES.to_owned());
        }
        Ok(HostWeight { address: address.to_owned(), weight })
    }
}

impl NginxFlags {
    /// Writes the block.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> Result<(), CommandError> {
        // One zone for all of Nginx's processes, or each of them would count its own round.
        writeln!(out, "upstream boxoffice {{\n    zone boxoffice 128k;")?;
        for host in &self.hosts {
            writeln!(out, "    server {} weight={} max_fails=1 fail_timeout=1s;", host.address, host.weight)?;
        }
        // Nginx drops an idle connection after 60 s by itself, before a host does after 75 s.
        writeln!(out, "    keepalive 256;\n    keepalive_timeout 60s;\n    keepalive_requests 100000;\n}}")?;
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn prints_a_weighted_upstream() {
        let hosts = ["127.0.0.1:3001", "[::1]:3002=2", "box-3.local:3003=10000"];
        let flags = NginxFlags { hosts: hosts.iter().map(|host| HostWeight::parse(host).unwrap()).collect() };
        let mut out = Vec::new();
        flags.run(&mut out).unwrap();
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
