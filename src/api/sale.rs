//! A sale as JSON, for clients and for operators, and the word for its status.

use std::fmt::Arguments;

use super::push;
use crate::booking::{SaleName, SaleState, SaleStatus};
use crate::clock::WallTime;

/// Appends a sale's level as JSON, as the ledger reported it at its own time `state.now`.
pub fn push_sale(scratch: &mut Vec<u8>, sale: &str, state: &SaleState) {
    push(
        scratch,
        format_args!(
            r#"{{"sale":"{sale}","status":"{}","total":{},"available":{},"held":{},"sold":{},"as_of":"{}"}}"#,
            sale_status(state, state.now),
            state.terms.total,
            state.available(),
            state.held,
            state.sold,
            state.now
        ),
    );
}

/// The status of a sale at the ledger's time `now`: `open`, `paused` or `closed`, by its window `scheduled` or `ended`,
/// and `frozen` while hosts put back what its ledger had forgotten.
pub fn sale_status(state: &SaleState, now: WallTime) -> &'static str {
    match (state.terms.starts_at, state.terms.ends_at) {
        _ if state.is_frozen() || state.status != SaleStatus::Open => state.status_word(),
        (Some(starts_at), _) if now < starts_at => "scheduled",
        (_, Some(ends_at)) if now >= ends_at => "ended",
        _ => state.status.word(),
    }
}

/// Appends a sale with its terms, its version and the sequence of its log, as JSON: for operators.
pub fn push_sale_with_terms(scratch: &mut Vec<u8>, sale: &SaleName, state: &SaleState) {
    push_sale(scratch, sale.as_str(), state);
    // Into the same object.
    scratch.pop();
    let terms = &state.terms;
    let mut push = |arguments: Arguments<'_>| push(scratch, arguments);
    if let Some(ms) = terms.hold_ms {
        push(format_args!(r#","hold_seconds":{}"#, ms as f64 / 1000.0));
    }
    if let Some(ms) = terms.hold_max_ms {
        push(format_args!(r#","hold_max_seconds":{}"#, ms as f64 / 1000.0));
    }
    if let Some(tickets) = terms.per_buyer {
        push(format_args!(r#","per_buyer":{tickets}"#));
    }
    if terms.buyer_required {
        push(format_args!(r#","buyer_required":true"#));
    }
    if let Some(time) = terms.starts_at {
        push(format_args!(r#","starts_at":"{time}""#));
    }
    if let Some(time) = terms.ends_at {
        push(format_args!(r#","ends_at":"{time}""#));
    }
    push(format_args!(r#","version":{},"sequence":{}}}"#, state.version, state.sequence));
}
