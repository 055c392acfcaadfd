//! The access logs' side of an audit. The format is documented at [`crate::access_log`].

use std::io::{self, BufRead, Read};

use serde::Deserialize;

use super::findings::Findings;
use super::view::View;
use crate::booking::{BookingId, BuyerId, Quantity, SaleName};
use crate::limits::ACCESS_LOG_LINE_BYTES_MAX;
use crate::outcome_label::OutcomeLabel;

/// What the access logs hold, summed up.
#[derive(Default)]
pub(super) struct AccessCount {
    /// Lines of this sale.
    lines: u64,
    granted: u64,
    granted_tickets: u64,
    replayed: u64,
    sold_out: u64,
    unknown: u64,
    /// Lines that the hosts say they did not write.
    dropped: u64,
    /// Lines that are none, but for the last of a file.
    unreadable: u64,
    /// Last lines that a killed host left unfinished.
    torn: u64,
}

/// A line, as far as an audit reads it. Identifiers need no escapes, so all texts are borrowed.
#[derive(Deserialize)]
struct RawLine<'a> {
    sale: Option<&'a str>,
    booking: Option<&'a str>,
    quantity: Option<u64>,
    buyer: Option<&'a str>,
    outcome: Option<&'a str>,
    dropped: Option<u64>,
}

impl AccessCount {
    /// Reads one file.
    ///
    /// # Errors
    /// If it cannot be read. A line that is not valid is counted, and is not an error.
    pub(super) fn read(
        &mut self,
        reader: &mut dyn BufRead,
        sale: &SaleName,
        view: &mut View,
    ) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let most = ACCESS_LOG_LINE_BYTES_MAX as u64;
            let read = Read::take(&mut *reader, most).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            let ended = line.last() == Some(&b'\n');
            if line.trim_ascii().is_empty() {
                continue;
            }
            let taken = self.take_in(&line, sale, view);
            if taken.is_some() {
                continue;
            }
            if !ended && (read as u64) < most {
                self.torn += 1;
                return Ok(());
            }
            self.unreadable += 1;
            if !ended {
                skip_line(reader)?;
            }
        }
    }

    /// `None` if it is not a line of an access log.
    fn take_in(&mut self, line: &[u8], sale: &SaleName, view: &mut View) -> Option<()> {
        let raw: RawLine<'_> = serde_json::from_slice(line).ok()?;
        if let Some(dropped) = raw.dropped {
            self.dropped = self.dropped.saturating_add(dropped);
            return Some(());
        }
        let outcome = raw.outcome?;
        if raw.sale != Some(sale.as_str()) {
            return Some(());
        }
        let id = match raw.booking {
            Some(id) => Some(BookingId::parse(id).ok()?),
            None => None,
        };
        match OutcomeLabel::from_label(outcome) {
            Some(label @ (OutcomeLabel::Granted | OutcomeLabel::Replayed)) => {
                let quantity = Quantity::new(raw.quantity?)?.get();
                let buyer = match raw.buyer {
                    Some(buyer) => Some(BuyerId::parse(buyer).ok()?),
                    None => None,
                };
                let granted = label == OutcomeLabel::Granted;
                view.told(id?, quantity, buyer.as_ref(), granted);
                if granted {
                    self.granted += 1;
                    self.granted_tickets += u64::from(quantity);
                } else {
                    self.replayed += 1;
                }
            }
            Some(OutcomeLabel::OutcomeUnknown) => {
                view.left_unknown(id?);
                self.unknown += 1;
            }
            Some(OutcomeLabel::SoldOut) => self.sold_out += 1,
            _ => {}
        }
        self.lines += 1;
        Some(())
    }

    /// Lines that are missing for certain.
    pub(super) fn missing(&self) -> u64 {
        self.dropped.saturating_add(self.unreadable).saturating_add(self.torn)
    }

    /// Notes whether the logs are incomplete.
    pub(super) fn judge(&self, findings: &mut Findings) {
        if self.dropped > 0 {
            findings.note(format!(
                "the access log is incomplete: it records that {} lines were dropped (of all sales)",
                self.dropped
            ));
        }
        if self.unreadable > 0 {
            findings.note(format!(
                "the access log is incomplete: {} lines are torn or are not access-log lines",
                self.unreadable
            ));
        }
        if self.torn > 0 {
            findings
                .note(format!("{} files end in the middle of a line, as after a host was killed", self.torn));
        }
    }

    pub(super) fn line(&self, files: usize) -> String {
        format!(
            "{files} files, {} lines of this sale: {} granted ({} tickets), {} replayed, {} sold out, {} unknown",
            self.lines, self.granted, self.granted_tickets, self.replayed, self.sold_out, self.unknown
        )
    }
}

/// Reads past the next line feed.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let bytes = reader.fill_buf()?;
        let end = memchr::memchr(b'\n', bytes);
        let count = end.map_or(bytes.len(), |end| end + 1);
        reader.consume(count);
        if end.is_some() || count == 0 {
            return Ok(());
        }
    }
}
