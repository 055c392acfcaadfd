//! The lines of one loop on their way to the log.

use std::io::Write;
use std::sync::Arc;

use super::writer::Handover;
use super::{Line, WallTime};
use crate::limits::ACCESS_LOG_BLOCK_BYTES;

/// The lines of one loop, gathered during a turn. Allocates nothing once warm.
pub struct LineBuffer {
    block: Vec<u8>,
    lines: u64,
    /// The last `at` and its text: most lines of a turn have the same.
    at: WallTime,
    at_text: Vec<u8>,
    handover: Arc<Handover>,
}

impl LineBuffer {
    pub(super) fn new(handover: Arc<Handover>) -> LineBuffer {
        LineBuffer {
            block: handover.fresh_block(),
            lines: 0,
            at: WallTime(u64::MAX),
            at_text: Vec::with_capacity(32),
            handover,
        }
    }

    /// Appends a line. Hands the block over if it is full.
    pub fn push(&mut self, line: &Line<'_>) {
        if line.at != self.at || self.at_text.is_empty() {
            self.at = line.at;
            self.at_text.clear();
            write!(self.at_text, "{}", line.at).expect("memory can be written to");
        }
        let block = &mut self.block;
        block.extend_from_slice(b"{\"at\":\"");
        block.extend_from_slice(&self.at_text);
        // Identifiers are of letters that JSON takes as they are.
        block.extend_from_slice(b"\",\"sale\":");
        text_or_null(block, line.sale.map(|sale| sale.as_str()));
        block.extend_from_slice(b",\"booking\":");
        text_or_null(block, line.booking.map(|booking| booking.as_str()));
        block.extend_from_slice(b",\"quantity\":");
        block.extend_from_slice(itoa::Buffer::new().format(line.quantity.get()).as_bytes());
        if let Some(buyer) = line.buyer {
            block.extend_from_slice(b",\"buyer\":");
            text_or_null(block, Some(buyer.as_str()));
        }
        block.extend_from_slice(b",\"outcome\":\"");
        block.extend_from_slice(line.outcome.label().as_bytes());
        block.extend_from_slice(b"\",\"status\":");
        block.extend_from_slice(itoa::Buffer::new().format(line.status).as_bytes());
        write!(block, ",\"client\":\"{}\"", line.client).expect("memory can be written to");
        if let Some(proxy) = line.proxy {
            write!(block, ",\"proxy\":\"{proxy}\"").expect("memory can be written to");
        }
        block.extend_from_slice(b"}\n");
        self.lines += 1;
        if block.len() >= ACCESS_LOG_BLOCK_BYTES {
            self.hand_over();
        }
    }

    /// Hands over what was gathered; at the end of a turn. Never waits: if the log's thread is too far behind, the
    /// lines are dropped and counted.
    pub fn hand_over(&mut self) {
        if self.lines == 0 {
            return;
        }
        let block = std::mem::replace(&mut self.block, self.handover.fresh_block());
        if let Some(mut refused) = self.handover.pass(block, self.lines) {
            refused.clear();
            self.handover.recycle(std::mem::replace(&mut self.block, refused));
        }
        self.lines = 0;
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        self.hand_over();
    }
}

fn text_or_null(block: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            block.push(b'"');
            block.extend_from_slice(text.as_bytes());
            block.push(b'"');
        }
        None => block.extend_from_slice(b"null"),
    }
}
