//! Where commands on sales and bookings are carried out: on a ledger, or by a host that has one. Either gives a sale or a booking
//! as the same JSON object, which is what `--json` prints and what tables are made of.

mod by_host;
mod by_ledger;

use serde::Deserialize;

pub use by_host::HostOffice;
pub(super) use by_host::refusal;
pub use by_ledger::LedgerOffice;
pub(super) use by_ledger::hosts_of;

use super::CommandError;
use crate::booking::{BookingId, BuyerId, SaleChange, SaleName, SaleTerms};
use crate::support::SupportDeed;

/// A JSON object on one line.
pub(super) type Document = String;

/// How many tickets more or fewer.
pub(super) type TotalChange = i64;

/// What the commands ask for.
///
/// # Errors
/// Of each: why it was not done.
pub trait Office {
    /// The hosts that share the ledger: `{"hosts":[…]}`.
    fn hosts(&mut self) -> Result<Document, CommandError>;

    /// All sales, by name.
    fn sales(&mut self) -> Result<Vec<Document>, CommandError>;

    /// A sale as of now.
    fn sale(&mut self, sale: SaleName) -> Result<Document, CommandError>;

    /// Opens a sale; never changes one that exists.
    fn open(&mut self, sale: SaleName, terms: SaleTerms) -> Result<Document, CommandError>;

    /// Changes a sale that exists; its total by so many if that is asked for.
    fn change(
        &mut self,
        sale: SaleName,
        change: SaleChange,
        by: Option<TotalChange>,
    ) -> Result<Document, CommandError>;

    /// What would be removed with a sale, in a few words.
    fn what_remove_would_take(&mut self, sale: SaleName) -> Result<String, CommandError>;

    /// Removes a closed sale.
    fn remove(&mut self, sale: SaleName) -> Result<(), CommandError>;

    /// A page of a sale's log after that sequence; empty at the end. Each entry has its sequence.
    fn log(&mut self, sale: SaleName, after: u64) -> Result<Vec<(u64, Document)>, CommandError>;

    /// Removes some of what was consumed of a log.
    fn trim(&mut self, sale: SaleName) -> Result<Trimming, CommandError>;

    /// Does something to a booking.
    fn support(
        &mut self,
        sale: SaleName,
        id: BookingId,
        deed: &SupportDeed,
    ) -> Result<Document, CommandError>;

    /// The bookings of a buyer, by their ids, and whether there are more, or may be.
    fn bookings_of(&mut self, sale: SaleName, buyer: BuyerId) -> Result<(Vec<Document>, bool), CommandError>;
}

/// What became of one step of trimming a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimming {
    /// Consumer groups.
    pub groups: u64,
    /// Entries removed by it; 0 if there is nothing more.
    pub removed: u64,
    /// Entries that are left.
    pub left: u64,
}

/// A sale, for a table. One that its ledger has lost has its name and its status alone.
#[derive(Debug, Deserialize)]
pub(super) struct SaleShown {
    pub(super) sale: String,
    pub(super) status: String,
    pub(super) total: Option<u64>,
    pub(super) available: Option<u64>,
    pub(super) held: Option<u64>,
    pub(super) sold: Option<u64>,
    pub(super) as_of: Option<String>,
    pub(super) hold_seconds: Option<f64>,
    pub(super) hold_max_seconds: Option<f64>,
    pub(super) per_buyer: Option<u64>,
    #[serde(default)]
    pub(super) buyer_required: bool,
    pub(super) starts_at: Option<String>,
    pub(super) ends_at: Option<String>,
}

/// A booking, for a table.
#[derive(Debug, Deserialize)]
pub(super) struct BookingShown {
    pub(super) booking: String,
    pub(super) sale: String,
    pub(super) status: String,
    pub(super) quantity: u64,
    pub(super) buyer: Option<String>,
    pub(super) expires_at: Option<String>,
}

/// Reads what an office gave.
pub(super) fn read<T: for<'d> Deserialize<'d>>(document: &str) -> Result<T, CommandError> {
    serde_json::from_str(document).map_err(|error| CommandError::Unexpected(format!("{error}: {document}")))
}

/// The name among those of all sales that is most like this one, if one is: whoever mistyped meant that.
pub(super) fn similar_sale(office: &mut dyn Office, sale: &SaleName) -> Option<SaleName> {
    let sales = office.sales().ok()?;
    let names = sales.iter().filter_map(|document| read::<SaleShown>(document).ok());
    let names: Vec<String> = names.take(SALES_COMPARED_MAX).map(|shown| shown.sale).collect();
    let found = most_similar(sale.as_str(), names.iter().map(String::as_str))?;
    SaleName::parse(found).ok()
}

/// Sales whose names are compared with one that is not there: to compare one takes a microsecond.
const SALES_COMPARED_MAX: usize = 100_000;

/// From here on two words are alike (Jaro-Winkler, 1 being the same): as clap has it for flags, a little stricter.
const SIMILARITY_MIN: f64 = 0.8;

/// Which of the words is most like that one, if any is.
pub(super) fn most_similar<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let rated = words.map(|other| (strsim::jaro_winkler(word, other), other));
    let alike = rated.filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_like_the_one_that_was_meant() {
        let words = ["ticket", "concert", "matinee", "a"];
        for (typed, meant) in [
            ("tickets", Some("ticket")),
            ("tikcet", Some("ticket")),
            ("Concert", Some("concert")),
            ("evening", None),
            ("b", None),
        ] {
            assert_eq!(most_similar(typed, words.into_iter()), meant, "{typed}");
        }
    }
}
