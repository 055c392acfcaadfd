//! The Date field, rendered once a second instead of once a response.

use crate::clock::WallTime;

/// `Date: ` + IMF-fixdate + CRLF.
const LINE_BYTES: usize = 37;

/// The current Date line (RFC 9110 section 6.6.1). Each core has its own and updates it once a loop turn.
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    line: [u8; LINE_BYTES],
}

impl DateCache {
    /// The Date line of `now`.
    pub fn new(now: WallTime) -> DateCache {
        let mut cache = DateCache { second: 0, line: *b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" };
        cache.update(now);
        cache
    }

    /// Renders the line again if the second changed; almost free if it did not.
    pub fn update(&mut self, now: WallTime) {
        let second = now.0 / 1000;
        if second != self.second {
            self.second = second;
            self.render();
        }
    }

    /// `Date: Sun, 06 Nov 1994 08:49:37 GMT` with its CRLF.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// Leaves the line as it was if the year has more than four digits, which the format cannot say.
    #[cold]
    fn render(&mut self) {
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        let date = i64::try_from(self.second)
            .ok()
            .and_then(|second| jiff::Timestamp::from_second(second).ok())
            .and_then(|time| printer.timestamp_to_rfc9110_string(&time).ok());
        if let Some(date) = date
            && date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len()
        {
            self.line["Date: ".len()..LINE_BYTES - 2].copy_from_slice(date.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdates() {
        let mut cache = DateCache::new(WallTime(784_111_777_999));
        assert_eq!(cache.line(), b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
        cache.update(WallTime(784_111_778_000));
        assert_eq!(cache.line(), b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
        cache.update(WallTime(u64::MAX));
        assert_eq!(cache.line(), b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
        assert_eq!(DateCache::new(WallTime(0)).line(), b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
    }
}
