//! Commands that speak to a ledger.

use super::{Document, Office, TotalChange, Trimming};
use crate::api::encode::{push_booking, push_log_entry};
use crate::api::hosts::push_hosts;
use crate::api::sale::push_sale_with_terms;
use crate::booking::{BookingId, BuyerId, SaleChange, SaleName, SaleState, SaleTerms};
use crate::cli::CommandError;
use crate::ledger::Ledger;
use crate::limits;
use crate::protocol::{
    Answer, Call, CallError, ChangeFault, HostBeat, LedgerOp, LedgerResult, Opener, SaleOp, SaleResult,
    Watermark, with_shares,
};
use crate::support::{BuyersBookings, NotDone, SupportDeed};

/// Sales that are asked for in one round trip.
const SALES_AT_ONCE: usize = 256;

/// Asks a ledger.
pub struct LedgerOffice<'a> {
    ledger: &'a mut dyn Ledger,
}

/// Asks a ledger for its hosts.
///
/// # Errors
/// If the ledger does not answer.
pub fn hosts_of(ledger: &mut dyn Ledger) -> Result<Vec<HostBeat>, CommandError> {
    match ledger.execute(&[Call::Ledger(LedgerOp::Hosts)]).pop() {
        Some(Ok(Answer::Ledger(LedgerResult::Hosts { hosts, .. }))) => Ok(hosts),
        Some(Err(CallError::Unsound(what))) => Err(CommandError::HostsUnreadable(what)),
        Some(Err(error)) => Err(error.into()),
        other => Err(CommandError::Unexpected(format!("{other:?}"))),
    }
}

impl<'a> LedgerOffice<'a> {
    /// Of that ledger.
    pub fn new(ledger: &'a mut dyn Ledger) -> LedgerOffice<'a> {
        LedgerOffice { ledger }
    }

    /// The state that a call about one sale is answered with.
    fn state_of(&mut self, sale: SaleName, call: &Call) -> Result<SaleState, CommandError> {
        match self.answer_of(sale, call)? {
            Answer::Sale { state, result: SaleResult::Done | SaleResult::Found(_) } => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// The answer to a call about a sale that is there, and not refused.
    fn answer_of(&mut self, sale: SaleName, call: &Call) -> Result<Answer, CommandError> {
        loop {
            return match ask(self.ledger, call.clone())? {
                Answer::Sale { result: SaleResult::Counting, .. } => continue,
                Answer::Missing => Err(CommandError::NoSuchSale(sale, None)),
                Answer::Sale { state, result: SaleResult::Refused(ChangeFault::TotalTooLow) } => {
                    Err(CommandError::TotalTooLow { sale, held: state.held, sold: state.sold })
                }
                Answer::Sale { result: SaleResult::Refused(ChangeFault::EmptyWindow), .. } => {
                    Err(CommandError::EmptyWindow(sale))
                }
                Answer::Sale { result: SaleResult::Refused(ChangeFault::NotClosed), .. } => {
                    Err(CommandError::NotClosed(sale))
                }
                Answer::Sale { state, result: SaleResult::Refused(ChangeFault::StillHeld) } => {
                    Err(CommandError::StillHeld { sale, held: state.held })
                }
                answer => Ok(answer),
            };
        }
    }

    /// Changes the total by so many. It is read, and the change is of that version alone: where another operator was faster, all
    /// of it anew.
    fn change_by(
        &mut self,
        sale: SaleName,
        change: &SaleChange,
        tickets: TotalChange,
    ) -> Result<SaleState, CommandError> {
        for _ in 0..limits::CHANGE_ATTEMPTS_MAX {
            let state = self.state_of(sale, &as_of_now(sale))?;
            let (held, sold) = (state.held, state.sold);
            let total = state.terms.total.checked_add_signed(tickets);
            let total = total.ok_or(CommandError::TotalTooLow { sale, held, sold })?;
            SaleTerms { total, ..SaleTerms::default() }.check()?;
            let change = SaleChange { total: Some(total), if_version: Some(state.version), ..change.clone() };
            match self.answer_of(sale, &SaleOp::Alter(change).on(sale))? {
                Answer::Sale { result: SaleResult::Refused(ChangeFault::OtherVersion), .. } => {}
                Answer::Sale { state, result: SaleResult::Done } => return Ok(state),
                other => return Err(unexpected(&other)),
            }
        }
        Err(CommandError::Unexpected(
            "others kept changing the sale at the same time; nothing was done, try again".to_owned(),
        ))
    }
}

/// One answer to one call.
fn ask(ledger: &mut dyn Ledger, call: Call) -> Result<Answer, CommandError> {
    match ledger.execute(std::slice::from_ref(&call)).pop() {
        Some(answer) => Ok(answer?),
        None => Err(CommandError::Unexpected("no answer to one call".to_owned())),
    }
}

/// The error for an answer of another kind than asked for.
fn unexpected(answer: &Answer) -> CommandError {
    let mut text = format!("{answer:?}");
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
    }
    CommandError::Unexpected(text)
}

/// Asks for a sale: a snapshot may have holds in it that are over.
fn as_of_now(sale: SaleName) -> Call {
    SaleOp::LookUp(Vec::new()).on(sale)
}

/// What the encoders of answers write.
fn document(push: impl FnOnce(&mut Vec<u8>)) -> Document {
    let mut bytes = Vec::new();
    push(&mut bytes);
    String::from_utf8(bytes).expect("JSON is text")
}

fn sale_document(sale: &SaleName, state: &SaleState) -> Document {
    document(|out| push_sale_with_terms(out, sale, state))
}

impl Office for LedgerOffice<'_> {
    fn hosts(&mut self) -> Result<Document, CommandError> {
        let hosts = hosts_of(self.ledger)?;
        let mut json = Vec::new();
        push_hosts(&mut json, with_shares(&hosts).into_iter(), None);
        Ok(String::from_utf8(json).expect("JSON is text"))
    }

    fn sales(&mut self) -> Result<Vec<Document>, CommandError> {
        let mut names = match ask(self.ledger, Call::Ledger(LedgerOp::Sales))? {
            Answer::Ledger(LedgerResult::Sales { names, .. }) => names,
            other => return Err(unexpected(&other)),
        };
        names.sort_unstable();
        let calls: Vec<Call> = names.iter().map(|name| as_of_now(*name)).collect();
        let mut sales = Vec::new();
        // A ledger may bound what one round trip holds.
        for (names, calls) in names.chunks(SALES_AT_ONCE).zip(calls.chunks(SALES_AT_ONCE)) {
            for (name, answer) in names.iter().zip(self.ledger.execute(calls)) {
                match answer? {
                    Answer::Sale { state, result: SaleResult::Found(_) } => {
                        sales.push(sale_document(name, &state))
                    }
                    Answer::Missing => {}
                    other => return Err(unexpected(&other)),
                }
            }
        }
        Ok(sales)
    }

    fn sale(&mut self, sale: SaleName) -> Result<Document, CommandError> {
        let state = self.state_of(sale, &as_of_now(sale))?;
        Ok(sale_document(&sale, &state))
    }

    fn open(&mut self, sale: SaleName, terms: SaleTerms) -> Result<Document, CommandError> {
        match self.answer_of(sale, &SaleOp::Open { terms, by: Opener::Operator }.on(sale))? {
            Answer::Sale { state, result: SaleResult::Created } => Ok(sale_document(&sale, &state)),
            Answer::Sale { result: SaleResult::Exists, .. } => Err(CommandError::SaleExists(sale)),
            other => Err(unexpected(&other)),
        }
    }

    fn change(
        &mut self,
        sale: SaleName,
        change: SaleChange,
        by: Option<TotalChange>,
    ) -> Result<Document, CommandError> {
        let state = match by {
            Some(tickets) => self.change_by(sale, &change, tickets)?,
            None => self.state_of(sale, &SaleOp::Alter(change).on(sale))?,
        };
        Ok(sale_document(&sale, &state))
    }

    fn what_remove_would_take(&mut self, sale: SaleName) -> Result<String, CommandError> {
        match ask(self.ledger, as_of_now(sale)) {
            Ok(Answer::Sale { state, result: SaleResult::Found(_) }) => {
                Ok(format!("{} tickets sold, {} held", state.sold, state.held))
            }
            Ok(Answer::Missing) => Ok("what is left of it".to_owned()),
            Ok(other) => Err(unexpected(&other)),
            Err(CommandError::Ledger(CallError::Unsound(why))) => Ok(format!("not sound: {why}")),
            Err(error) => Err(error),
        }
    }

    fn remove(&mut self, sale: SaleName) -> Result<(), CommandError> {
        loop {
            match self.answer_of(sale, &SaleOp::Remove.on(sale))? {
                Answer::Removed { done: false } => {}
                Answer::Removed { done: true } => return Ok(()),
                other => return Err(unexpected(&other)),
            }
        }
    }

    fn log(&mut self, sale: SaleName, after: u64) -> Result<Vec<(u64, Document)>, CommandError> {
        match self.answer_of(sale, &SaleOp::Log { after }.on(sale))? {
            Answer::Sale { result: SaleResult::Log(entries), .. } => {
                let told =
                    entries.iter().map(|entry| (entry.sequence, document(|out| push_log_entry(out, entry))));
                Ok(told.collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    fn trim(&mut self, sale: SaleName) -> Result<Trimming, CommandError> {
        match self.answer_of(sale, &SaleOp::Trim.on(sale))? {
            Answer::Sale { result: SaleResult::Trimmed { groups, removed, left }, .. } => {
                Ok(Trimming { groups, removed, left })
            }
            other => Err(unexpected(&other)),
        }
    }

    fn support(
        &mut self,
        sale: SaleName,
        id: BookingId,
        deed: &SupportDeed,
    ) -> Result<Document, CommandError> {
        // A command has seen nothing of the sale.
        let answer = self.answer_of(sale, &deed.call(sale, id, Watermark::default()))?;
        match deed.read(answer) {
            Ok((_, booking)) => Ok(document(|out| push_booking(out, sale.as_str(), &booking))),
            Err(NotDone::Problem(problem, detail)) => Err(CommandError::Problem {
                title: problem.title.to_owned(),
                detail: detail.unwrap_or(problem.explanation).to_owned(),
            }),
            Err(NotDone::Unexpected(answer)) => Err(unexpected(&answer)),
        }
    }

    fn bookings_of(&mut self, sale: SaleName, buyer: BuyerId) -> Result<(Vec<Document>, bool), CommandError> {
        let mut found = BuyersBookings::of(buyer);
        let mut cursor = String::new();
        let more = loop {
            let (bookings, next) = match self.answer_of(sale, &SaleOp::Page { cursor }.on(sale))? {
                Answer::Sale { result: SaleResult::Page { bookings, next }, .. } => (bookings, next),
                other => return Err(unexpected(&other)),
            };
            match next {
                _ if found.take_in(bookings) => break true,
                None => break false,
                Some(next) => cursor = next,
            }
        };
        Ok((
            found.shown().map(|booking| document(|out| push_booking(out, sale.as_str(), booking))).collect(),
            more,
        ))
    }
}
