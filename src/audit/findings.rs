//! What an audit found: notes, differences by id, and what would mend them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::booking::{SaleName, SaleState};
use crate::limits::AUDIT_DIFFERENCES_MAX;
use crate::protocol::Repair;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $label:literal,)*) => {
        /// What a difference is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// As reports name it.
            pub fn label(self) -> &'static str {
                match self {
                    $(Kind::$kind => $label,)*
                }
            }
        }
    };
}

kinds! {
    /// A count of the sale is not the sum of its bookings.
    Count "count",
    /// More tickets held and sold than there are.
    Oversold "oversold",
    /// What is counted for a buyer is not the sum of the bookings that count.
    Buyer "buyer",
    /// A buyer has more than the sale allows.
    Limit "limit",
    /// A hold would never expire, or not at its deadline.
    Hold "hold",
    /// Something is stored that no version of boxoffice writes.
    Record "record",
    /// The log has a gap, goes back in time, does not end where the sale is, or has impossible changes.
    Log "log",
    /// Log and bookings disagree.
    Replay "replay",
    /// A client was told what the ledger does not have, or has otherwise.
    Told "told",
    /// The ledger has what no client was told.
    Untold "untold",
    /// Hosts have counted otherwise.
    Metrics "metrics",
    /// The sale is not named among the ledger's sales.
    Name "name",
    /// The sale's clock is ahead.
    Clock "clock",
    /// Acknowledged bookings that were lost with the ledger's memory and could not be put back.
    Lost "lost",
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub kind: Kind,
    /// What differs: `held`, `booking b-1`, `buyer u-81`, `log`.
    pub subject: String,
    /// How.
    pub text: String,
}

/// One repair, and what it changes, a line each: `held: from 5 to 4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    /// The repair.
    pub repair: Repair,
    /// What it changes.
    pub said: Vec<String>,
}

/// What an audit found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Of which sale.
    pub sale: SaleName,
    /// The sale when it was read.
    pub state: SaleState,
    /// What was counted: a word and a line.
    pub counted: Vec<(&'static str, String)>,
    /// What proves nothing wrong.
    pub notes: Vec<String>,
    /// The differences, as far as they are listed: at most [`AUDIT_DIFFERENCES_MAX`].
    pub listed: Vec<Difference>,
    /// How many there are.
    pub differences: u64,
    /// How many of them do not follow from a derived count that is wrong: while there is one, nothing may be mended.
    pub unexplained: u64,
    /// What would mend the others.
    pub mends: Vec<Mend>,
}

impl Findings {
    pub(super) fn new(sale: SaleName) -> Findings {
        Findings {
            sale,
            state: SaleState::default(),
            counted: Vec::new(),
            notes: Vec::new(),
            listed: Vec::new(),
            differences: 0,
            unexplained: 0,
            mends: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// A difference that nothing explains.
    pub(super) fn differ(&mut self, kind: Kind, subject: impl Into<String>, text: impl Into<String>) {
        self.unexplained += 1;
        self.list(kind, subject.into(), text.into());
    }

    /// A difference that bookings and log explain: what was derived from them is wrong.
    pub(super) fn derived(&mut self, kind: Kind, subject: impl Into<String>, text: impl Into<String>) {
        self.list(kind, subject.into(), text.into());
    }

    fn list(&mut self, kind: Kind, subject: String, text: String) {
        self.differences += 1;
        if self.listed.len() < AUDIT_DIFFERENCES_MAX {
            self.listed.push(Difference { kind, subject, text });
        }
    }

    pub(super) fn mend(&mut self, repair: Repair, said: Vec<String>) {
        self.mends.push(Mend { repair, said });
    }

    /// The report, a line each: what was counted, notes, differences and the verdict.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut line = |word: &str, text: &str| lines.push(format!("{word:<12}{text}"));
        for (word, text) in &self.counted {
            line(word, text);
        }
        for note in &self.notes {
            line("note", note);
        }
        for Difference { kind, subject, text } in &self.listed {
            line("difference", &format!("{subject}: {text} ({})", kind.label()));
        }
        let unlisted = self.differences - self.listed.len() as u64;
        if unlisted > 0 {
            line("difference", &format!("and {unlisted} more"));
        }
        match self.differences {
            0 => line("audit", "no difference"),
            1 => line("audit", "1 difference"),
            count => line("audit", &format!("{count} differences")),
        }
        lines
    }

    /// The report as a JSON object.
    pub fn json(&self) -> Value {
        let difference = |difference: &Difference| json!({ "kind": difference.kind.label(), "subject": difference.subject, "text": difference.text });
        json!({
            "sale": self.sale.as_str(),
            "sequence": self.state.sequence,
            "counted": self.counted.iter().map(|(word, line)| (*word, line.as_str())).collect::<BTreeMap<_, _>>(),
            "differences": self.listed.iter().map(difference).collect::<Vec<_>>(),
            "differences_total": self.differences,
            "repairable": self.differences > 0 && self.unexplained == 0 && !self.mends.is_empty(),
            "notes": self.notes,
        })
    }
}
