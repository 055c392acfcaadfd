//! `boxoffice sale`: list, show, open and change sales, and read their logs.

use clap::{Args, Subcommand};
use serde_json::json;

use super::office::{Office, SaleShown, TotalChange, Trimming, read};
use super::screen::{Cell, Column, Screen};
use super::{CommandError, Console, HostFlag, LedgerFlag};
use crate::booking::{SaleChange, SaleName, SaleStatus, SaleTerms};
use crate::clock::WallTime;
use crate::config::{parse_hold_max_ms, parse_hold_ms, parse_per_buyer, parse_stock, parse_time};

/// A new total, or by how many it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockChange {
    /// So many in all.
    To(u64),
    /// So many more, or fewer.
    By(TotalChange),
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

/// `boxoffice sale`.
#[derive(Debug, Args)]
#[command(
    after_help = "By default they speak to a ledger. One in SQLite that a host serves is changed by that host: --admin."
)]
pub struct SaleFlags {
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerFlag,
    /// Or by which host.
    #[command(flatten)]
    pub host: HostFlag,
    /// Print JSON, as the admin listener has it: one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do with sales.
    #[command(subcommand)]
    pub command: SaleCommand,
}

/// What to do with sales.
#[derive(Debug, Subcommand)]
pub enum SaleCommand {
    /// List all sales
    List,
    /// Show a sale
    Show {
        /// The sale
        name: SaleName,
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
        sale of a SQLite ledger that a server has in use is removed by that server: --admin."
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

pub(super) fn or_none<T>(
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
            List | Show { .. } | Log { .. } | Trim { .. } => false,
            Open { .. } | Set { .. } | Pause { .. } | Resume { .. } | Close { .. } | Remove { .. } => true,
        }
    }

    /// The sale that it is about.
    fn sale(&self) -> Option<SaleName> {
        use SaleCommand::{Close, List, Log, Open, Pause, Remove, Resume, Set, Show, Trim};
        match self {
            List => None,
            Show { name }
            | Open { name, .. }
            | Set { name, .. }
            | Pause { name }
            | Resume { name }
            | Close { name }
            | Remove { name, .. }
            | Log { name, .. }
            | Trim { name } => Some(*name),
        }
    }
}

impl SaleFlags {
    /// Carries the command out. `operator` is asked what only a person can say.
    ///
    /// # Errors
    /// See [`CommandError`]; its exit status is the command's.
    pub fn run(
        &self,
        office: &mut dyn Office,
        screen: &mut Screen<'_>,
        operator: &mut dyn Console,
    ) -> Result<(), CommandError> {
        let done = self.carry_out(office, screen, operator);
        done.map_err(|error| match self.command.sale() {
            Some(sale) => error.with_similar(sale, office),
            None => error,
        })
    }

    fn carry_out(
        &self,
        office: &mut dyn Office,
        screen: &mut Screen<'_>,
        operator: &mut dyn Console,
    ) -> Result<(), CommandError> {
        match &self.command {
            SaleCommand::List => self.list(office, screen),
            SaleCommand::Show { name } => {
                let document = office.sale(*name)?;
                self.show(screen, &document).map(drop)
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
                terms.check()?;
                let document = office.open(*name, terms)?;
                let shown = self.show(screen, &document)?;
                match shown {
                    Some(SaleShown { status, .. }) if status == "paused" => screen.line(&format!(
                        "\nBookings of a sale of this name are there already, of which the ledger had lost the rest. So it \
                         is paused: count them with `boxoffice audit {name} --repair`, then sell on with `boxoffice sale \
                         resume {name}`."
                    )),
                    _ => Ok(()),
                }
            }
            SaleCommand::Set { name, stock, terms } => {
                let (total, by) = match stock {
                    Some(StockChange::To(total)) => (Some(*total), None),
                    Some(StockChange::By(tickets)) => (None, Some(*tickets)),
                    None => (None, None),
                };
                let change = SaleChange {
                    total,
                    hold_ms: terms.hold.map(Option::from),
                    hold_max_ms: terms.hold_max.map(Option::from),
                    per_buyer: terms.per_buyer.map(Option::from),
                    starts_at: terms.starts.map(Option::from),
                    ends_at: terms.ends.map(Option::from),
                    buyer_required: terms.buyer_required,
                    status: None,
                    if_version: None,
                };
                let document = office.change(*name, change, by)?;
                self.show(screen, &document).map(drop)
            }
            SaleCommand::Pause { name } => self.set_status(office, screen, *name, SaleStatus::Paused),
            SaleCommand::Resume { name } => self.set_status(office, screen, *name, SaleStatus::Open),
            SaleCommand::Close { name } => self.set_status(office, screen, *name, SaleStatus::Closed),
            SaleCommand::Remove { name, yes } => self.remove(office, screen, *name, *yes, operator),
            SaleCommand::Log { name, follow } => log(office, screen, *name, follow.then_some(operator)),
            SaleCommand::Trim { name } => self.trim(office, screen, *name),
        }
    }

    fn list(&self, office: &mut dyn Office, screen: &mut Screen<'_>) -> Result<(), CommandError> {
        let documents = office.sales()?;
        if self.json {
            return documents.iter().try_for_each(|document| screen.json(document));
        }
        let columns = [
            Column::Words("SALE"),
            Column::Words("STATUS"),
            Column::Numbers("TOTAL"),
            Column::Numbers("AVAILABLE"),
            Column::Numbers("HELD"),
            Column::Numbers("SOLD"),
        ];
        let row = |document: &String| {
            let SaleShown { sale, status, total, available, held, sold, .. } = read(document)?;
            let counts = [total, available, held, sold].map(count);
            Ok([Cell::new(sale), Cell::status(status)].into_iter().chain(counts).collect())
        };
        let rows: Vec<Vec<Cell>> = documents.iter().map(row).collect::<Result<_, CommandError>>()?;
        screen.table(&columns, &rows)
    }

    /// Shows a sale; gives what it read of it, if that was for a table.
    fn show(&self, screen: &mut Screen<'_>, document: &str) -> Result<Option<SaleShown>, CommandError> {
        if self.json {
            return screen.json(document).map(|()| None);
        }
        let sale: SaleShown = read(document)?;
        let or_none = |value: Option<String>| Cell::new(value.unwrap_or_else(|| "none".to_owned()));
        let status = match sale.status.as_str() {
            "frozen" => "frozen, while hosts put back what the ledger had forgotten",
            status => status,
        };
        screen.record(&[
            ("sale", Cell::new(&sale.sale)),
            ("status", Cell::status(status)),
            ("total", count(sale.total)),
            ("available", count(sale.available)),
            ("held", count(sale.held)),
            ("sold", count(sale.sold)),
            ("hold", or_none(sale.hold_seconds.map(span))),
            ("hold max", or_none(sale.hold_max_seconds.map(span))),
            ("per buyer", or_none(sale.per_buyer.map(|tickets| tickets.to_string()))),
            ("buyer", Cell::new(if sale.buyer_required { "required" } else { "optional" })),
            ("starts", or_none(sale.starts_at.clone())),
            ("ends", or_none(sale.ends_at.clone())),
            ("as of", or_none(sale.as_of.clone())),
        ])?;
        Ok(Some(sale))
    }

    fn set_status(
        &self,
        office: &mut dyn Office,
        screen: &mut Screen<'_>,
        sale: SaleName,
        status: SaleStatus,
    ) -> Result<(), CommandError> {
        let change = SaleChange { status: Some(status), ..SaleChange::default() };
        let document = office.change(sale, change, None)?;
        self.show(screen, &document).map(drop)
    }

    fn remove(
        &self,
        office: &mut dyn Office,
        screen: &mut Screen<'_>,
        sale: SaleName,
        yes: bool,
        operator: &mut dyn Console,
    ) -> Result<(), CommandError> {
        let what = office.what_remove_would_take(sale)?;
        let question = format!("Remove sale {sale} ({what}) with its bookings and its log, for good?");
        if !yes && !operator.confirms(&question) {
            return Err(CommandError::NotConfirmed);
        }
        office.remove(sale)?;
        match self.json {
            true => screen.json(&json!({ "sale": sale.as_str(), "status": "removed" }).to_string()),
            false => screen.line(&format!("removed {sale}")),
        }
    }

    fn trim(
        &self,
        office: &mut dyn Office,
        screen: &mut Screen<'_>,
        sale: SaleName,
    ) -> Result<(), CommandError> {
        let mut total = 0;
        let Trimming { groups, left, .. } = loop {
            let step = office.trim(sale)?;
            total += step.removed;
            if step.groups == 0 || step.removed == 0 {
                break step;
            }
        };
        if self.json {
            let told = json!({ "sale": sale.as_str(), "groups": groups, "removed": total, "left": left });
            return screen.json(&told.to_string());
        }
        screen.line(&match groups {
            0 => format!(
                "removed nothing: the log has no consumer group, so that nobody has consumed it; {left} entries are left"
            ),
            _ => format!(
                "removed {total} entries that each of {groups} consumer groups had acknowledged; {left} entries are left"
            ),
        })
    }
}

/// One that is not known is of a sale that the ledger has lost.
fn count(count: Option<u64>) -> Cell {
    Cell::new(count.map_or_else(|| "-".to_owned(), |count| count.to_string()))
}

fn log(
    office: &mut dyn Office,
    screen: &mut Screen<'_>,
    sale: SaleName,
    mut operator: Option<&mut dyn Console>,
) -> Result<(), CommandError> {
    let mut after = 0;
    loop {
        let entries = office.log(sale, after)?;
        for (_, entry) in &entries {
            screen.json(entry)?;
        }
        // Past the largest sequence seen, so that no answer can make this turn for ever.
        let last = entries.iter().map(|(sequence, _)| *sequence).max();
        match last.filter(|last| *last > after) {
            Some(last) => after = last,
            None => {
                screen.flush()?;
                let go_on = operator.as_mut().is_some_and(|operator| operator.waits());
                if !go_on {
                    return Ok(());
                }
            }
        }
    }
}

/// A duration as the flags take it.
fn span(seconds: f64) -> String {
    let ms = (seconds * 1000.0).round() as u64;
    let parts = [(ms / 3_600_000, "h"), (ms / 60_000 % 60, "m"), (ms / 1000 % 60, "s"), (ms % 1000, "ms")];
    parts.iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect()
}

#[cfg(all(test, not(loom)))]
mod tests;
