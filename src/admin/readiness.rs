//! Why nothing, or not everything, can be sold: what `/readyz` says, and the gauge for alerts.

use super::Shared;
use crate::ledger::Cause;
use crate::limits;
use crate::stock::SaleBoard;

/// A kind of reason: the closed set of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inability {
    Draining,
    Ledger(Cause),
    Silent,
    SaleMissing,
    SaleUnreadable,
    SaleFrozen,
}

impl Inability {
    pub(super) fn all() -> impl Iterator<Item = Inability> {
        let of_ledger = Cause::ALL.iter().map(|&cause| Inability::Ledger(cause));
        let of_sales = [Inability::SaleMissing, Inability::SaleUnreadable, Inability::SaleFrozen];
        [Inability::Draining, Inability::Silent].into_iter().chain(of_ledger).chain(of_sales)
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Inability::Draining => "draining",
            Inability::Ledger(cause) => cause.label(),
            Inability::Silent => "silent",
            Inability::SaleMissing => "sale-missing",
            Inability::SaleUnreadable => "sale-unreadable",
            Inability::SaleFrozen => "sale-frozen",
        }
    }
}

/// Each current reason, and a line about it; one that explains others comes first. Empty if this host sells.
pub(super) fn unable(shared: &Shared) -> Vec<(Inability, String)> {
    let mut unable = Vec::new();
    if shared.drain.has_begun() {
        unable.push((Inability::Draining, "draining".to_owned()));
    }
    of_ledger(shared, &mut unable);
    if shared.board.any_silent() {
        let line = format!("the ledger has not answered for {} ms", limits::LEDGER_SLOW_MS);
        // What has no connection gets no answer.
        if unable.iter().all(|(reason, _)| !matches!(reason, Inability::Ledger(_))) {
            unable.push((Inability::Silent, line));
        }
    }
    of_sales(shared, &mut unable);
    unable
}

/// What `/livez` says of a loop that does not turn.
pub(super) fn stalled(shared: &Shared) -> Option<String> {
    let now_ms = shared.clock.now().monotonic.0 / 1_000_000;
    let turns = shared.metrics.iter().map(|core| core.last_turn_ms.get());
    let (core, turn_ms) = turns.enumerate().find(|(_, turn_ms)| turn_ms + limits::LOOP_STALL_MS < now_ms)?;
    Some(format!("loop {core} has been stuck for {} ms", now_ms - turn_ms))
}

fn of_ledger(shared: &Shared, unable: &mut Vec<(Inability, String)>) {
    let is_down = |core: usize| shared.metrics.get(core).is_some_and(|core| !core.ledger_up());
    let troubles = shared.trouble.all();
    for (core, cause, what) in &troubles {
        let reason = Inability::Ledger(*cause);
        // One loop speaks for all.
        if unable.iter().any(|(known, _)| *known == reason) {
            continue;
        }
        let line = match cause {
            Cause::File => what.clone(),
            Cause::Refusing if !is_down(*core) => format!("the ledger refuses writes: {what}"),
            _ => format!("loop {core} has no connection to the ledger: {what}"),
        };
        unable.push((reason, line));
    }
    // One that is not established yet, or was lost just now.
    let unexplained = (0..shared.metrics.len())
        .find(|&core| is_down(core) && !troubles.iter().any(|(way, _, _)| *way == core));
    if let Some(core) = unexplained
        && unable.iter().all(|(known, _)| *known != Inability::Ledger(Cause::Unreachable))
    {
        let line = format!("loop {core} has no connection to the ledger");
        unable.push((Inability::Ledger(Cause::Unreachable), line));
    }
}

fn of_sales(shared: &Shared, unable: &mut Vec<(Inability, String)>) {
    let directory = shared.board.directory();
    let is_frozen = |sale: &SaleBoard| sale.level().is_some_and(|state| state.is_frozen());
    let named = |holds: &dyn Fn(&SaleBoard) -> bool| {
        let sales = directory.sales().filter(|sale| holds(sale));
        name_some(sales.map(|sale| sale.name().as_str()))
    };
    if let Some(names) = named(&SaleBoard::is_missing) {
        let line = format!(
            "the ledger has lost {names}: bookings get 503 until it is back; restore a copy of the ledger; or reopen the \
             sale with `boxoffice sale open`, which sells the whole stock again; or end it with `boxoffice sale remove`"
        );
        unable.push((Inability::SaleMissing, line));
    }
    let unsound = |sale: &SaleBoard| sale.unsound().is_some();
    if let Some(names) = named(&unsound) {
        let whys = directory.sales().filter_map(|sale| Some((*sale.name(), sale.unsound()?)));
        let (_, why) = whys.min().expect("one is named");
        let line = format!(
            "the ledger's record of {names} is not sound, so no tickets of it are sold: {why}; `boxoffice audit` says more"
        );
        unable.push((Inability::SaleUnreadable, line));
    }
    if let Some(names) = named(&is_frozen) {
        let line = format!(
            "{names} is frozen: the ledger forgot some of its bookings, and hosts are putting back what they acknowledged"
        );
        unable.push((Inability::SaleFrozen, line));
    }
}

/// `sale a`, `sale a (and 2 more)`: the first by name, so that it is the same each time.
fn name_some<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let first = names.iter().take(limits::SALES_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    let (word, more) = (
        if names.len() == 1 { "sale" } else { "sales" },
        names.len().saturating_sub(limits::SALES_NAMED_MAX),
    );
    match more {
        _ if names.is_empty() => None,
        0 => Some(format!("{word} {first}")),
        more => Some(format!("{word} {first} (and {more} more)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_different_words() {
        let mut labels: Vec<_> = Inability::all().map(Inability::label).collect();
        let count = labels.len();
        assert!(
            labels.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
        );
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), count);
    }

    #[test]
    fn names_the_first_few_and_how_many_more_there_are() {
        let named = |names: &[&'static str]| name_some(names.iter().copied());
        assert_eq!(named(&[]), None);
        assert_eq!(named(&["b"]).as_deref(), Some("sale b"));
        assert_eq!(named(&["b", "a"]).as_deref(), Some("sales a, b"));
        assert_eq!(named(&["d", "b", "a", "c", "e"]).as_deref(), Some("sales a, b, c (and 2 more)"));
    }
}
