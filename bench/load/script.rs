//! What is asked: the requests of a workload, one after the other.

use std::fmt::Write;

use clap::ValueEnum;

/// A workload.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Kind {
    /// `GET /buy/SALE`
    Buy,
    /// `PUT` of a booking with a fresh id
    Put,
    /// `PUT` of a booking with a fresh id; of each four that are granted two are confirmed and one is cancelled
    Mix,
    /// `GET /constant`, for a peer that knows nothing else
    Constant,
}

/// Makes the requests of one thread.
pub struct Script {
    kind: Kind,
    sale: String,
    /// Sales `SALE-0` to `SALE-(n-1)` in turn; 0 for the one sale of that name.
    sales: u32,
    prefix: String,
    close: bool,
    number: u64,
    granted: u64,
}

/// A booking that was asked for: enough to go on with it.
#[derive(Clone, Copy)]
pub struct Asked {
    number: u64,
    /// Whether what comes next for it is due.
    goes_on: bool,
}

impl Script {
    pub fn new(kind: Kind, sale: &str, sales: u32, prefix: String, close: bool) -> Script {
        Script { kind, sale: sale.to_owned(), sales, prefix, close, number: 0, granted: 0 }
    }

    fn sale(&self, number: u64) -> String {
        match self.sales {
            0 => self.sale.clone(),
            sales => format!("{}-{}", self.sale, number % u64::from(sales)),
        }
    }

    fn end(&self, output: &mut Vec<u8>) {
        let rest: &[u8] = match self.close {
            true => b" HTTP/1.1\r\nHost: load\r\nConnection: close\r\n",
            false => b" HTTP/1.1\r\nHost: load\r\n",
        };
        output.extend_from_slice(rest);
    }

    /// Appends the next request.
    pub fn ask(&mut self, output: &mut Vec<u8>) -> Asked {
        let number = self.number;
        self.number += 1;
        let sale = self.sale(number);
        let prefix = &self.prefix;
        let mut line = String::with_capacity(96);
        let written = match self.kind {
            Kind::Buy => write!(line, "GET /buy/{sale}"),
            Kind::Constant => write!(line, "GET /constant"),
            Kind::Put | Kind::Mix => write!(line, "PUT /v1/sales/{sale}/bookings/{prefix}-{number}"),
        };
        written.expect("a string takes all that is written to it");
        output.extend_from_slice(line.as_bytes());
        self.end(output);
        let body: &[u8] = match self.kind {
            Kind::Buy | Kind::Constant => b"\r\n",
            Kind::Put | Kind::Mix => b"Content-Length: 0\r\n\r\n",
        };
        output.extend_from_slice(body);
        Asked { number, goes_on: self.kind == Kind::Mix }
    }

    /// Appends what follows on a booking that was granted, where something does.
    pub fn go_on(&mut self, asked: Asked, output: &mut Vec<u8>) -> Option<Asked> {
        if !asked.goes_on {
            return None;
        }
        self.granted += 1;
        let (method, ending) = match self.granted % 4 {
            0 => ("DELETE", ""),
            1 => return None,
            _ => ("POST", "/confirm"),
        };
        let (sale, prefix, number) = (self.sale(asked.number), &self.prefix, asked.number);
        output.extend_from_slice(
            format!("{method} /v1/sales/{sale}/bookings/{prefix}-{number}{ending}").as_bytes(),
        );
        self.end(output);
        output.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        Some(Asked { number, goes_on: false })
    }
}
