//! `boxoffice booking`: what support needs to know of a booking and to do with it.

use clap::{Args, Subcommand};

use super::office::{BookingShown, Office, read};
use super::screen::{Cell, Column, Screen};
use super::{CommandError, Console, HostFlag, LedgerFlag};
use crate::booking::{BookingId, BuyerId, SaleName};
use crate::config::parse_hold_ms;
use crate::support::SupportDeed;

/// `boxoffice booking`.
#[derive(Debug, Args)]
#[command(
    after_help = "By default they speak to a ledger. One in SQLite that a host serves is changed by that host: --admin."
)]
pub struct BookingFlags {
    /// Which ledger.
    #[command(flatten)]
    pub ledger: LedgerFlag,
    /// Or by which host.
    #[command(flatten)]
    pub host: HostFlag,
    /// Print JSON, as clients get it: one object a booking
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: BookingCommand,
}

/// What to do with bookings.
#[derive(Debug, Subcommand)]
pub enum BookingCommand {
    /// Show a booking
    Show {
        /// The sale
        name: SaleName,
        /// The booking
        id: BookingId,
    },
    /// List the bookings of a buyer
    List {
        /// The sale
        name: SaleName,
        /// Whose
        #[arg(long, value_name = "BUYER")]
        buyer: BuyerId,
    },
    /// Confirm a held booking, as if it had been paid for
    #[command(after_help = "Where its hold is over, the tickets are taken again if enough are left.")]
    Confirm {
        /// The sale
        name: SaleName,
        /// The booking
        id: BookingId,
    },
    /// Cancel a booking; its tickets go back on sale. Asks first
    Cancel {
        /// The sale
        name: SaleName,
        /// The booking
        id: BookingId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Hold a booking for that long from now, within the sale's hold-max
    Extend {
        /// The sale
        name: SaleName,
        /// The booking
        id: BookingId,
        /// How long, in whole seconds, such as 5m
        #[arg(long, value_name = "DURATION", value_parser = parse_extension_ms)]
        hold: u64,
    },
}

fn parse_extension_ms(text: &str) -> Result<u64, String> {
    match parse_hold_ms(text)? {
        ms if ms % 1000 == 0 => Ok(ms),
        _ => Err("takes whole seconds, such as 90s or 5m".to_owned()),
    }
}

impl BookingCommand {
    /// Whether it changes a booking; the others may read a ledger that a server writes.
    pub fn changes(&self) -> bool {
        !matches!(self, BookingCommand::Show { .. } | BookingCommand::List { .. })
    }

    fn sale(&self) -> SaleName {
        match self {
            BookingCommand::Show { name, .. }
            | BookingCommand::List { name, .. }
            | BookingCommand::Confirm { name, .. }
            | BookingCommand::Cancel { name, .. }
            | BookingCommand::Extend { name, .. } => *name,
        }
    }
}

impl BookingFlags {
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
        let done = match &self.command {
            BookingCommand::Show { name, id } => self.one(office, screen, (*name, *id), &SupportDeed::Show),
            BookingCommand::List { name, buyer } => self.list(office, screen, *name, *buyer),
            BookingCommand::Confirm { name, id } => {
                self.one(office, screen, (*name, *id), &SupportDeed::Confirm)
            }
            BookingCommand::Cancel { name, id, yes } => {
                let booking: BookingShown = read(&office.support(*name, *id, &SupportDeed::Show)?)?;
                let question = format!("Cancel {} for good?", in_words(&booking));
                // To cancel it again changes nothing.
                if !yes && booking.status != "cancelled" && !operator.confirms(&question) {
                    return Err(CommandError::NotConfirmed);
                }
                self.one(office, screen, (*name, *id), &SupportDeed::Cancel)
            }
            BookingCommand::Extend { name, id, hold } => {
                self.one(office, screen, (*name, *id), &SupportDeed::Extend { ms: *hold })
            }
        };
        done.map_err(|error| error.with_similar(self.command.sale(), office))
    }

    fn one(
        &self,
        office: &mut dyn Office,
        screen: &mut Screen<'_>,
        (sale, id): (SaleName, BookingId),
        deed: &SupportDeed,
    ) -> Result<(), CommandError> {
        let document = office.support(sale, id, deed)?;
        if self.json {
            return screen.json(&document);
        }
        let booking: BookingShown = read(&document)?;
        let or_none = |text: Option<String>| Cell::new(text.unwrap_or_else(|| "none".to_owned()));
        screen.record(&[
            ("booking", Cell::new(booking.booking)),
            ("sale", Cell::new(booking.sale)),
            ("status", Cell::status(booking.status)),
            ("quantity", Cell::new(booking.quantity.to_string())),
            ("buyer", or_none(booking.buyer)),
            ("held until", or_none(booking.expires_at)),
        ])
    }

    fn list(
        &self,
        office: &mut dyn Office,
        screen: &mut Screen<'_>,
        sale: SaleName,
        buyer: BuyerId,
    ) -> Result<(), CommandError> {
        let (documents, more) = office.bookings_of(sale, buyer)?;
        if self.json {
            documents.iter().try_for_each(|document| screen.json(document))?;
        } else {
            let columns = [
                Column::Words("BOOKING"),
                Column::Words("STATUS"),
                Column::Numbers("QUANTITY"),
                Column::Words("HELD UNTIL"),
            ];
            let row = |document: &String| {
                let booking: BookingShown = read(document)?;
                Ok(vec![
                    Cell::new(booking.booking),
                    Cell::status(booking.status),
                    Cell::new(booking.quantity.to_string()),
                    Cell::new(booking.expires_at.unwrap_or_default()),
                ])
            };
            let rows: Vec<_> = documents.iter().map(row).collect::<Result<_, CommandError>>()?;
            screen.table(&columns, &rows)?;
        }
        match more {
            true => Err(CommandError::More(documents.len())),
            false => Ok(()),
        }
    }
}

fn in_words(booking: &BookingShown) -> String {
    let BookingShown { booking, sale, status, quantity, buyer, .. } = booking;
    let tickets = if *quantity == 1 { "1 ticket".to_owned() } else { format!("{quantity} tickets") };
    let of = buyer.as_ref().map(|buyer| format!(" of {buyer}")).unwrap_or_default();
    format!("booking {booking}{of} in {sale} ({tickets}, {status})")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::booking::SaleTerms;
    use crate::cli::office::LedgerOffice;
    use crate::cli::screen::Style;
    use crate::cli::{Cli, Command};
    use crate::ledger::for_tests::{TestLedger, claim};

    /// Says yes or no, and remembers what it was asked.
    struct Asked {
        yes: bool,
        questions: Vec<String>,
    }

    impl Console for Asked {
        fn confirms(&mut self, question: &str) -> bool {
            self.questions.push(question.to_owned());
            self.yes
        }

        fn waits(&mut self) -> bool {
            false
        }
    }

    fn run(ledger: &mut TestLedger, operator: &mut Asked, line: &str) -> Result<String, String> {
        let cli = Cli::try_parse_from(format!("boxoffice booking {line}").split_whitespace()).expect(line);
        let Command::Booking(flags) = cli.command else { panic!("{line}") };
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out, Style::default());
        match flags.run(&mut LedgerOffice::new(ledger), &mut screen, operator) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn sold() -> TestLedger {
        let terms =
            SaleTerms { total: 9, hold_ms: Some(60_000), hold_max_ms: Some(90_000), ..SaleTerms::default() };
        let mut ledger = TestLedger::with("ticket", terms);
        ledger.book(
            "ticket",
            &[claim("b-1", 2, Some("u-1")), claim("b-2", 1, None), claim("a", 1, Some("u-1"))],
        );
        ledger
    }

    #[test]
    fn shows_lists_confirms_and_extends() {
        let (ledger, nobody) = (&mut sold(), &mut Asked { yes: false, questions: Vec::new() });
        assert_eq!(
            run(ledger, nobody, "show ticket b-1").unwrap(),
            "booking    b-1\nsale       ticket\nstatus     held\nquantity   2\nbuyer      u-1\n\
             held until 1970-01-01T00:01:00.001Z\n"
        );
        assert_eq!(
            run(ledger, nobody, "list ticket --buyer u-1").unwrap(),
            "BOOKING  STATUS  QUANTITY  HELD UNTIL\n\
             a        held           1  1970-01-01T00:01:00.001Z\n\
             b-1      held           2  1970-01-01T00:01:00.001Z\n"
        );
        assert!(run(ledger, nobody, "extend ticket b-1 --hold 80s").unwrap().contains("00:01:20.001Z"));
        assert!(
            run(ledger, nobody, "extend ticket b-1 --hold 91s")
                .unwrap_err()
                .starts_with("Longest hold reached")
        );
        assert_eq!(
            run(ledger, nobody, "confirm ticket b-1 --json").unwrap(),
            "{\"booking\":\"b-1\",\"sale\":\"ticket\",\"status\":\"confirmed\",\"quantity\":2,\"buyer\":\"u-1\"}\n"
        );
        assert_eq!(run(ledger, nobody, "list ticket --buyer u-1 --json").unwrap().lines().count(), 2);
        assert_eq!(run(ledger, nobody, "list ticket --buyer u-2 --json").unwrap(), "");
        assert!(run(ledger, nobody, "show ticket z").unwrap_err().starts_with("No such booking"));
        let mistyped = run(ledger, nobody, "show tikcet b-1").unwrap_err();
        assert!(mistyped.contains("did you mean \"ticket\""), "{mistyped}");
        assert!(Cli::try_parse_from("boxoffice booking extend a b --hold 1500ms".split(' ')).is_err());
        assert_eq!(nobody.questions, [""; 0]);
    }

    #[test]
    fn asks_before_it_cancels_what_is_not_cancelled() {
        let ledger = &mut sold();
        let mut person = Asked { yes: false, questions: Vec::new() };
        assert!(run(ledger, &mut person, "cancel ticket b-1").unwrap_err().contains("--yes"));
        assert!(run(ledger, &mut person, "show ticket b-1").unwrap().contains("held"));
        assert_eq!(person.questions, ["Cancel booking b-1 of u-1 in ticket (2 tickets, held) for good?"]);
        person.yes = true;
        assert!(run(ledger, &mut person, "cancel ticket b-1").unwrap().contains("status     cancelled"));
        assert!(run(ledger, &mut person, "cancel ticket b-1").unwrap().contains("status     cancelled"));
        assert!(
            run(ledger, &mut person, "cancel ticket b-2 --yes").unwrap().contains("status     cancelled")
        );
        assert_eq!(person.questions.len(), 2);
        assert_eq!(ledger.state("ticket").held, 1);
        assert!(
            run(ledger, &mut person, "cancel ticket z --yes").unwrap_err().starts_with("No such booking")
        );
    }
}
