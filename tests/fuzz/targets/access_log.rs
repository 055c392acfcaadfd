//! Access logs as an audit reads them: files that are torn, dropped from, or no logs at all.

use std::io::{self, BufRead, BufReader, Cursor};
use std::path::{Path, PathBuf};

use boxoffice::audit::{Audit, Sources};
use boxoffice::booking::{SaleName, SaleState};
use boxoffice::clock::WallTime;
use boxoffice::ledger::Ledger;
use boxoffice::protocol::{Answer, Call, CallError, LedgerOp, LedgerResult, SaleOp, SaleResult};

pub fn run(bytes: &[u8]) {
    let whole = audit(bytes, 64 * 1024);
    for read_bytes in [1, 7, 4_096] {
        assert_eq!(audit(bytes, read_bytes), whole, "read in pieces of {read_bytes}");
    }
}

/// The report, whole.
fn audit(bytes: &[u8], read_bytes: usize) -> String {
    let sale = SaleName::parse("ticket").expect("a name");
    let paths = [PathBuf::from("access.log")];
    let audit = Audit { sale, access_logs: &paths, metrics: &[] };
    let findings =
        audit.run(&mut Empty, &Log { bytes, read_bytes }).expect("what is no line is counted, not an error");
    // Nothing was ever booked: whoever was told of a booking, was told wrong.
    assert!(findings.counted.iter().any(|(name, _)| *name == "access log"));
    findings.json().to_string()
}

struct Log<'a> {
    bytes: &'a [u8],
    read_bytes: usize,
}

impl Sources for Log<'_> {
    fn access_log(&self, _: &Path) -> io::Result<Box<dyn BufRead>> {
        Ok(Box::new(BufReader::with_capacity(self.read_bytes, Cursor::new(self.bytes.to_vec()))))
    }

    fn metrics(&self, _: &str, _: bool) -> io::Result<String> {
        unreachable!("no host was named")
    }
}

/// A ledger with one sale in which nothing has happened.
struct Empty;

impl Ledger for Empty {
    fn execute(&mut self, calls: &[Call]) -> Vec<Result<Answer, CallError>> {
        calls
            .iter()
            .map(|call| match call {
                Call::Sale { op: SaleOp::Survey { .. }, .. } => Ok(Answer::Sale {
                    state: SaleState::default(),
                    result: SaleResult::Surveyed {
                        clock: WallTime(0),
                        time: WallTime(0),
                        rows: Vec::new(),
                        next: String::new(),
                        done: true,
                    },
                }),
                Call::Ledger(LedgerOp::Sales) => {
                    let names = vec![SaleName::parse("ticket").expect("a name")];
                    Ok(Answer::Ledger(LedgerResult::Sales { names, odd: Vec::new() }))
                }
                other => Err(CallError::Refused(format!("{other:?}"))),
            })
            .collect()
    }
}
