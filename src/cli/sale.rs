//! `boxoffice sale`: list, show, open and change sales, and read their logs.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CommandError;
use crate::api::sale::{push_sale_with_terms, sale_status};
use crate::booking::{BookingStatus, LogEntry, SaleChange, SaleName, SaleState, SaleStatus, SaleTerms};
use crate::clock::WallTime;
use crate::config::{parse_hold_max_ms, parse_hold_ms, parse_per_buyer, parse_stock, parse_time};
use crate::ledger::Ledger;
use crate::limits;
use crate::protocol::{
    Answer, Call, CallError, ChangeFault, LedgerOp, LedgerResult, Opener, SaleOp, SaleResult,
};

/// A new total, or by how many it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockChange {
    /// So many in all.
    To(u64),
    /// So many more, or fewer.
    By(i64),
}

fn parse_stock_change(text: &str) -> Result<StockChange, String> {
    let (sign, digits) = match text.as_bytes() {
        [b'+', ..] => (1, &text[1..]),
        [b'-', ..] => (-1, &text[1..]),
        _ => return parse_stock(text).map(StockChange::To),
    };
    let tickets = parse_stock(digits)?;
    // Bounded far below that.
    i64::try_from(tickets).map(|tickets| StockChange::By(sign * tickets)).map_err(|error| error.to_string())
}

/// What to do with sales.
#[derive(Debug, Subcommand)]
pub enum SaleCommand {
    /// List all sales
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show a sale
    Show {
        /// The sale
        name: SaleName,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Open a sale that is not there yet
    Open {
        /// Its name: 1 to 64 of A-Z a-z 0-9 . _ -
        name: SaleName,
        /// How many tickets
        #[arg(long, value_name = "N", value_parser = parse_stock)]
        stock: u64,
        /// Its other terms.
        #[command(flatten)]
        terms: TermFlags,
    },
    /// Change a sale; terms that are not given stay as they are
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
        .args(["stock", "hold", "hold_max", "per_buyer", "starts", "ends", "buyer_required"]))]
    Set {
        /// The sale
        name: SaleName,
        /// How many tickets in all, or by how many more (+50) or fewer (-50); never below those held and sold
        #[arg(long, value_name = "N|+N|-N", value_parser = parse_stock_change, allow_negative_numbers = true)]
        stock: Option<StockChange>,
        /// Its other terms; `none` removes one.
        #[command(flatten)]
        terms: TermFlags,
    },
    /// Stop selling for now
    Pause {
        /// The sale
        name: SaleName,
    },
    /// Resume selling after a pause or a close
    Resume {
        /// The sale
        name: SaleName,
    },
    /// End the sale; `resume` opens it again
    Close {
        /// The sale
        name: SaleName,
    },
    /// Remove a closed sale with all its bookings and its log; asks first
    #[command(
        after_help = "Also removes what is left of a sale that the ledger has lost, or whose record is not sound. A \
        sale of a SQLite ledger that a server has in use is removed through its admin address: DELETE /v1/sales/NAME."
    )]
    Remove {
        /// The sale
        name: SaleName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Print every change of a booking, one JSON object a line
    Log {
        /// The sale
        name: SaleName,
        /// Keep printing new entries, until interrupted
        #[arg(long)]
        follow: bool,
    },
    /// Remove from the log what every consumer group has acknowledged
    #[command(
        after_help = "Without a consumer group nothing was consumed, and nothing is removed. The log of a SQLite \
        ledger has no consumer groups and is kept whole."
    )]
    Trim {
        /// The sale
        name: SaleName,
    },
}

/// The person at the terminal of a command.
pub trait Console {
    /// Asks, and waits for an answer: whether it is yes. If nobody can be asked it is no.
    fn confirms(&mut self, question: &str) -> bool;

    /// Pauses between two readings of a log that is followed; whether to go on.
    fn waits(&mut self) -> bool;
}

/// The terms beside the stock. `none` means: without.
#[derive(Clone, Debug, Default, Args)]
pub struct TermFlags {
    /// How long a booking may stay unpaid, such as 5m; none: bookings are confirmed at once
    #[arg(long, value_name = "DURATION|none", value_parser = or_none(parse_hold_ms))]
    hold: Option<TermValue<u64>>,
    /// The longest a hold can be extended to, such as 30m; none: holds cannot be extended
    #[arg(long, value_name = "DURATION|none", value_parser = or_none(parse_hold_max_ms))]
    hold_max: Option<TermValue<u64>>,
    /// The most tickets a buyer may have, or none
    #[arg(long, value_name = "N|none", value_parser = or_none(parse_per_buyer))]
    per_buyer: Option<TermValue<u32>>,
    /// When the sale starts, such as 2026-02-01T10:00:00Z, or none
    #[arg(long, value_name = "TIME|none", value_parser = or_none(parse_time))]
    starts: Option<TermValue<WallTime>>,
    /// When the sale ends, or none
    #[arg(long, value_name = "TIME|none", value_parser = or_none(parse_time))]
    ends: Option<TermValue<WallTime>>,
    /// Whether each booking must name its buyer: true or false
    #[arg(long, value_name = "BOOL")]
    buyer_required: Option<bool>,
}

/// A term's value, or its end.
// Not an Option of an Option: clap reads those as flags with optional values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermValue<T> {
    /// This value.
    Value(T),
    /// The sale goes without the term.
    None,
}

impl<T> From<TermValue<T>> for Option<T> {
    fn from(ending: TermValue<T>) -> Option<T> {
        match ending {
            TermValue::Value(value) => Some(value),
            TermValue::None => None,
        }
    }
}

fn or_none<T>(
    parse: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<TermValue<T>, String> + Clone + Send + Sync + 'static
where
    T: 'static,
{
    move |text| match text {
        "none" => Ok(TermValue::None),
        text => parse(text).map(TermValue::Value),
    }
}

impl SaleCommand {
    /// Whether it changes a sale; the others may read a ledger that a server writes.
    pub fn changes(&self) -> bool {
        use SaleCommand::{Close, List, Log, Open, Pause, Remove, Resume, Set, Show, Trim};
        match self {
            // A SQLite file's log is never trimmed, so that it need not be written either.
            List { .. } | Show { .. } | Log { .. } | Trim { .. } => false,
            Open { .. } | Set { .. } | Pause { .. } | Resume { .. } | Close { .. } | Remove { .. } => true,
        }
    }

    /// Carries the command out. `operator` is asked what only a person can say.
    ///
    /// # Errors
    /// See [`CommandError`]; its exit status is the command's.
    pub fn run(
        &self,
        ledger: &mut dyn Ledger,
        out: &mut dyn Write,
        operator: &mut dyn Console,
    ) -> Result<(), CommandError> {
        match self {
            SaleCommand::List { json } => list(ledger, out, *json),
            SaleCommand::Show { name, json } => {
                let state = state_of(ledger, *name, as_of_now(*name))?;
                if *json { write_json(out, name, &state) } else { write_table(out, name, &state) }
            }
            SaleCommand::Open { name, stock, terms } => {
                let terms = SaleTerms {
                    total: *stock,
                    hold_ms: terms.hold.and_then(Option::from),
                    hold_max_ms: terms.hold_max.and_then(Option::from),
                    per_buyer: terms.per_buyer.and_then(Option::from),
                    starts_at: terms.starts.and_then(Option::from),
                    ends_at: terms.ends.and_then(Option::from),
                    buyer_required: terms.buyer_required.unwrap_or_default(),
                };
                open(ledger, out, *name, terms)
            }
            SaleCommand::Set { name, stock, terms } => {
                let change = SaleChange {
                    total: match stock {
                        Some(StockChange::To(total)) => Some(*total),
                        _ => None,
                    },
                    hold_ms: terms.hold.map(Option::from),
                    hold_max_ms: terms.hold_max.map(Option::from),
                    per_buyer: terms.per_buyer.map(Option::from),
                    starts_at: terms.starts.map(Option::from),
                    ends_at: terms.ends.map(Option::from),
                    buyer_required: terms.buyer_required,
                    status: None,
                    if_version: None,
                };
                match stock {
                    Some(StockChange::By(tickets)) => alter_by(ledger, out, *name, *tickets, change),
                    _ => alter(ledger, out, *name, change),
                }
            }
            SaleCommand::Pause { name } => set_status(ledger, out, *name, SaleStatus::Paused),
            SaleCommand::Resume { name } => set_status(ledger, out, *name, SaleStatus::Open),
            SaleCommand::Close { name } => set_status(ledger, out, *name, SaleStatus::Closed),
            SaleCommand::Remove { name, yes } => remove(ledger, out, *name, *yes, operator),
            SaleCommand::Log { name, follow } => log(ledger, out, *name, follow.then_some(operator)),
            SaleCommand::Trim { name } => trim(ledger, out, *name),
        }
    }
}

/// One answer to one call.
pub(super) fn ask(ledger: &mut dyn Ledger, call: Call) -> Result<Answer, CommandError> {
    match ledger.execute(std::slice::from_ref(&call)).pop() {
        Some(answer) => Ok(answer?),
        None => Err(CommandError::Unexpected("no answer to one call".to_owned())),
    }
}

/// The error for an answer of another kind than asked for.
pub(super) fn unexpected(answer: &Answer) -> CommandError {
    let mut text = format!("{answer:?}");
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    CommandError::Unexpected(text)
}

/// The state that a call about one sale is answered with.
pub(super) fn state_of(
    ledger: &mut dyn Ledger,
    sale: SaleName,
    call: Call,
) -> Result<SaleState, CommandError> {
    loop {
        return match ask(ledger, call.clone())? {
            Answer::Sale { result: SaleResult::Counting, .. } => continue,
            Answer::Sale { state, result: SaleResult::Done | SaleResult::Found(_) } => Ok(state),
            Answer::Missing => Err(CommandError::NoSuchSale(sale)),
            Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) } => {
                Err(CommandError::TotalTooLow { sale, held: state.held, sold: state.sold })
            }
            Answer::Sale { result: SaleResult::Refused(ChangeFault::EmptyWindow), .. } => {
                Err(CommandError::EmptyWindow(sale))
            }
            other => Err(unexpected(&other)),
        };
    }
}

/// Asks for a sale: a snapshot may have holds in it that are over.
fn as_of_now(sale: SaleName) -> Call {
    SaleOp::LookUp(Vec::new()).on(sale)
}

fn list(ledger: &mut dyn Ledger, out: &mut dyn Write, json: bool) -> Result<(), CommandError> {
    let mut names = match ask(ledger, Call::Ledger(LedgerOp::Sales))? {
        Answer::Ledger(LedgerResult::Sales { names, .. }) => names,
        other => return Err(unexpected(&other)),
    };
    names.sort_unstable();
    let calls: Vec<Call> = names.iter().map(|name| as_of_now(*name)).collect();
    let mut sales = Vec::new();
    // A ledger may bound what one round trip holds.
    for (names, calls) in names.chunks(256).zip(calls.chunks(256)) {
        for (name, answer) in names.iter().zip(ledger.execute(calls)) {
            match answer? {
                Answer::Sale { state, result: SaleResult::Found(_) } => sales.push((*name, state)),
                Answer::Missing => {}
                other => return Err(unexpected(&other)),
            }
        }
    }
    if json {
        return sales.iter().try_for_each(|(name, state)| write_json(out, name, state));
    }
    let width = sales.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:width$}  {:9}  {:>13}  {:>13}  {:>13}  {:>13}",
        "SALE", "STATUS", "TOTAL", "AVAILABLE", "HELD", "SOLD"
    )?;
    for (name, state) in &sales {
        writeln!(
            out,
            "{:width$}  {:9}  {:>13}  {:>13}  {:>13}  {:>13}",
            name.as_str(),
            sale_status(state, state.now),
            state.terms.total,
            state.available(),
            state.held,
            state.sold
        )?;
    }
    Ok(())
}

fn open(
    ledger: &mut dyn Ledger,
    out: &mut dyn Write,
    sale: SaleName,
    terms: SaleTerms,
) -> Result<(), CommandError> {
    terms.check()?;
    match ask(ledger, SaleOp::Open { terms, by: Opener::Operator }.on(sale))? {
        Answer::Sale { state, result: SaleResult::Created } => {
            write_table(out, &sale, &state)?;
            if state.status == SaleStatus::Paused {
                writeln!(
                    out,
                    "\nBookings of a sale of this name are there already, of which the ledger had lost the rest. So it is \
                     paused: count them with `boxoffice audit {sale} --repair`, then sell on with `boxoffice sale resume \
                     {sale}`."
                )?;
            }
            Ok(())
        }
        Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) } => {
            Err(CommandError::TotalTooLow { sale, held: state.held, sold: state.sold })
        }
        Answer::Sale { result: SaleResult::Exists, .. } => Err(CommandError::SaleExists(sale)),
        other => Err(unexpected(&other)),
    }
}

fn alter(
    ledger: &mut dyn Ledger,
    out: &mut dyn Write,
    sale: SaleName,
    change: SaleChange,
) -> Result<(), CommandError> {
    let state = state_of(ledger, sale, SaleOp::Alter(change).on(sale))?;
    write_table(out, &sale, &state)
}

/// Changes the total by so many. It is read, and the change is of that version alone: where another operator was faster, all of
/// it anew.
fn alter_by(
    ledger: &mut dyn Ledger,
    out: &mut dyn Write,
    sale: SaleName,
    tickets: i64,
    change: SaleChange,
) -> Result<(), CommandError> {
    for _ in 0..limits::CHANGE_ATTEMPTS_MAX {
        let state = state_of(ledger, sale, as_of_now(sale))?;
        let (held, sold) = (state.held, state.sold);
        let total = state.terms.total.checked_add_signed(tickets);
        let total = total.ok_or(CommandError::TotalTooLow { sale, held, sold })?;
        SaleTerms { total, ..SaleTerms::default() }.check()?;
        let change = SaleChange { total: Some(total), if_version: Some(state.version), ..change.clone() };
        let call = SaleOp::Alter(change).on(sale);
        loop {
            match ask(ledger, call.clone())? {
                Answer::Sale { result: SaleResult::Counting, .. } => {}
                Answer::Sale { result: SaleResult::Refused(ChangeFault::OtherVersion), .. } => break,
                Answer::Sale { state, result: SaleResult::Done } => return write_table(out, &sale, &state),
                Answer::Missing => return Err(CommandError::NoSuchSale(sale)),
                Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) } => {
                    return Err(CommandError::TotalTooLow { sale, held: state.held, sold: state.sold });
                }
                Answer::Sale { result: SaleResult::Refused(ChangeFault::EmptyWindow), .. } => {
                    return Err(CommandError::EmptyWindow(sale));
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
    Err(CommandError::Unexpected(
        "others kept changing the sale at the same time; nothing was done, try again".to_owned(),
    ))
}

fn set_status(
    ledger: &mut dyn Ledger,
    out: &mut dyn Write,
    sale: SaleName,
    status: SaleStatus,
) -> Result<(), CommandError> {
    alter(ledger, out, sale, SaleChange { status: Some(status), ..SaleChange::default() })
}

fn remove(
    ledger: &mut dyn Ledger,
    out: &mut dyn Write,
    sale: SaleName,
    yes: bool,
    operator: &mut dyn Console,
) -> Result<(), CommandError> {
    let what = match ask(ledger, as_of_now(sale)) {
        Ok(Answer::Sale { state, result: SaleResult::Found(_) }) => {
            format!("{} tickets sold, {} held", state.sold, state.held)
        }
        Ok(Answer::Missing) => "what is left of it".to_owned(),
        Ok(other) => return Err(unexpected(&other)),
        Err(CommandError::Ledger(CallError::Unsound(why))) => format!("not sound: {why}"),
        Err(error) => return Err(error),
    };
    if !yes
        && !operator
            .confirms(&format!("Remove sale {sale} ({what}) with its bookings and its log, for good?"))
    {
        return Err(CommandError::NotConfirmed);
    }
    loop {
        match ask(ledger, SaleOp::Remove.on(sale))? {
            Answer::Removed { done: false } => {}
            Answer::Removed { done: true } => {
                writeln!(out, "removed {sale}")?;
                return Ok(());
            }
            Answer::Missing => return Err(CommandError::NoSuchSale(sale)),
            Answer::Sale { result: SaleResult::Refused(ChangeFault::NotClosed), .. } => {
                return Err(CommandError::NotClosed(sale));
            }
            Answer::Sale { state, result: SaleResult::Refused(ChangeFault::StillHeld) } => {
                return Err(CommandError::StillHeld { sale, held: state.held });
            }
            other => return Err(unexpected(&other)),
        }
    }
}

fn log(
    ledger: &mut dyn Ledger,
    out: &mut dyn Write,
    sale: SaleName,
    mut operator: Option<&mut dyn Console>,
) -> Result<(), CommandError> {
    let mut after = 0;
    loop {
        let entries = match ask(ledger, SaleOp::Log { after }.on(sale))? {
            Answer::Sale { result: SaleResult::Log(entries), .. } => entries,
            Answer::Missing => return Err(CommandError::NoSuchSale(sale)),
            other => return Err(unexpected(&other)),
        };
        for entry in &entries {
            writeln!(out, "{}", log_line(entry))?;
        }
        // Past the largest sequence seen, so that no answer can make this turn for ever.
        let last = entries.iter().map(|entry| entry.sequence).max();
        match last.filter(|last| *last > after) {
            Some(last) => after = last,
            None => {
                out.flush()?;
                let go_on = operator.as_mut().is_some_and(|operator| operator.waits());
                if !go_on {
                    return Ok(());
                }
            }
        }
    }
}

fn trim(ledger: &mut dyn Ledger, out: &mut dyn Write, sale: SaleName) -> Result<(), CommandError> {
    let mut total = 0;
    loop {
        match ask(ledger, SaleOp::Trim.on(sale))? {
            Answer::Sale { result: SaleResult::Trimmed { groups: 0, left, .. }, .. } => {
                writeln!(
                    out,
                    "removed nothing: the log has no consumer group, so that nobody has consumed it; {left} entries \
                     are left"
                )?;
                return Ok(());
            }
            Answer::Sale { result: SaleResult::Trimmed { groups, removed: 0, left }, .. } => {
                writeln!(
                    out,
                    "removed {total} entries that each of {groups} consumer groups had acknowledged; {left} entries \
                     are left"
                )?;
                return Ok(());
            }
            Answer::Sale { result: SaleResult::Trimmed { removed, .. }, .. } => total += removed,
            Answer::Missing => return Err(CommandError::NoSuchSale(sale)),
            other => return Err(unexpected(&other)),
        }
    }
}

fn log_line(entry: &LogEntry) -> Value {
    let booking = &entry.booking;
    let mut line = json!({
        "sequence": entry.sequence,
        "at": entry.at.to_string(),
        "booking": booking.id.as_str(),
        "status": booking.status.word(),
        "quantity": booking.quantity.get(),
    });
    if let Some(buyer) = &booking.buyer {
        line["buyer"] = json!(buyer.as_str());
    }
    if let BookingStatus::Held { expires_at } = booking.status {
        line["expires_at"] = json!(expires_at.to_string());
    }
    line
}

fn write_json(out: &mut dyn Write, name: &SaleName, state: &SaleState) -> Result<(), CommandError> {
    let mut line = Vec::new();
    push_sale_with_terms(&mut line, name, state);
    line.push(b'\n');
    out.write_all(&line)?;
    Ok(())
}

fn write_table(out: &mut dyn Write, name: &SaleName, state: &SaleState) -> Result<(), CommandError> {
    let terms = &state.terms;
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let status = match sale_status(state, state.now) {
        "frozen" => "frozen, while hosts put back what the ledger had forgotten",
        status => status,
    };
    for (key, value) in [
        ("sale", name.to_string()),
        ("status", status.to_owned()),
        ("total", terms.total.to_string()),
        ("available", state.available().to_string()),
        ("held", state.held.to_string()),
        ("sold", state.sold.to_string()),
        ("hold", or_none(terms.hold_ms.map(span))),
        ("hold max", or_none(terms.hold_max_ms.map(span))),
        ("per buyer", or_none(terms.per_buyer.map(|tickets| tickets.to_string()))),
        ("buyer", if terms.buyer_required { "required" } else { "optional" }.to_owned()),
        ("starts", or_none(terms.starts_at.map(|time| time.to_string()))),
        ("ends", or_none(terms.ends_at.map(|time| time.to_string()))),
        ("as of", state.now.to_string()),
    ] {
        writeln!(out, "{key:10} {value}")?;
    }
    Ok(())
}

/// A duration as the flags take it.
fn span(ms: u64) -> String {
    let parts = [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1000 % 60, "s"), (ms % 1000, "ms")];
    parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect()
}

#[cfg(all(test, not(loom)))]
mod tests;
