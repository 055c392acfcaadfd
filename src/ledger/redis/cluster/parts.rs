//! A call on a Cluster as the parts that it is sent in, each to one slot, and the answer that their answers make.
//!
//! What a script does on one Redis at once, for a sale and in the list of sales, are several calls here, one after another:
//! [`Steps`]. A sale is named before it is opened, and its name goes after it has been removed: whatever comes in between
//! leaves a name without a sale, which is lost until somebody asks for the same again.

use std::collections::BTreeMap;

use super::super::keys::Keys;
use crate::booking::SaleName;
use crate::protocol::{
    Answer, Call, CallError, DirectoryShard, LedgerOp, LedgerResult, Opener, Repair, SaleOp, Slot,
};

/// A call to one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallPart {
    /// Which.
    pub slot: Slot,
    /// Where its keys are.
    pub keys: Keys,
    /// What is asked there.
    pub call: Call,
}

impl CallPart {
    /// Of a sale, as it is.
    fn of_sale(sale: &SaleName, call: Call) -> CallPart {
        CallPart { slot: Slot::of(sale), keys: Keys::Sale, call }
    }

    /// Of a shard.
    fn of_shard(shard: DirectoryShard, call: Call) -> CallPart {
        CallPart { slot: shard.slot(), keys: Keys::Shard(shard), call }
    }
}

/// The parts of a call, all of which may be sent at once.
pub fn parts_of(call: &Call) -> Vec<CallPart> {
    match call {
        Call::Bookings { sale, .. } | Call::Sale { sale, .. } => vec![CallPart::of_sale(sale, call.clone())],
        Call::Ledger(LedgerOp::Sales | LedgerOp::Identify { .. }) => {
            DirectoryShard::all().map(|shard| CallPart::of_shard(shard, call.clone())).collect()
        }
        Call::Ledger(LedgerOp::Recall { sales }) => {
            let mut by_shard = BTreeMap::<DirectoryShard, Vec<_>>::new();
            for (sale, opened) in sales {
                by_shard.entry(DirectoryShard::of(sale)).or_default().push((*sale, *opened));
            }
            let recall = |(shard, sales)| CallPart::of_shard(shard, Call::Ledger(LedgerOp::Recall { sales }));
            by_shard.into_iter().map(recall).collect()
        }
        // Of all shards alike.
        Call::Ledger(LedgerOp::Layout) => {
            DirectoryShard::all().take(1).map(|shard| CallPart::of_shard(shard, call.clone())).collect()
        }
        // One list of all hosts. While its slot has no primary, hosts keep the shares that they have.
        Call::Ledger(LedgerOp::Beat { .. } | LedgerOp::Hosts) => {
            DirectoryShard::all().take(1).map(|shard| CallPart::of_shard(shard, call.clone())).collect()
        }
        // No script can announce what changes in another slot.
        Call::Ledger(LedgerOp::Changes { .. }) => Vec::new(),
    }
}

/// The answer to a call, from those to its [parts](parts_of), in their order.
///
/// # Errors
/// The first of theirs.
pub fn answer_of(call: &Call, answers: Vec<Result<Answer, CallError>>) -> Result<Answer, CallError> {
    let garbled = || CallError::Garbled("a part of the answer is that to another call".to_owned());
    let Call::Ledger(op) = call else { return answers.into_iter().next().ok_or_else(garbled)? };
    let mut results = Vec::with_capacity(answers.len());
    for answer in answers {
        let Answer::Ledger(result) = answer? else { return Err(garbled()) };
        results.push(result);
    }
    let result = match op {
        LedgerOp::Changes { .. } => Some(LedgerResult::Unannounced),
        LedgerOp::Sales => all_sales(results),
        LedgerOp::Identify { .. } => youngest(results),
        LedgerOp::Recall { sales } => in_order(sales, results),
        LedgerOp::Beat { .. } | LedgerOp::Hosts | LedgerOp::Layout => results.into_iter().next(),
    };
    result.map(Answer::Ledger).ok_or_else(garbled)
}

fn all_sales(results: Vec<LedgerResult>) -> Option<LedgerResult> {
    let (mut names, mut odd) = (Vec::new(), Vec::new());
    for result in results {
        let LedgerResult::Sales { names: its, odd: strange } = result else { return None };
        names.extend(its);
        odd.extend(strange);
    }
    Some(LedgerResult::Sales { names, odd })
}

/// A shard that is new may have lost what it had.
fn youngest(results: Vec<LedgerResult>) -> Option<LedgerResult> {
    let mut found: Option<(u64, String)> = None;
    for result in results {
        let LedgerResult::Identified { id, age_ms } = result else { return None };
        if found.as_ref().is_none_or(|(age, _)| age_ms < *age) {
            found = Some((age_ms, id));
        }
    }
    found.map(|(age_ms, id)| LedgerResult::Identified { id, age_ms })
}

fn in_order(sales: &[(SaleName, u64)], results: Vec<LedgerResult>) -> Option<LedgerResult> {
    let shards: std::collections::BTreeSet<DirectoryShard> =
        sales.iter().map(|(sale, _)| DirectoryShard::of(sale)).collect();
    let mut by_shard = BTreeMap::new();
    for (shard, result) in shards.into_iter().zip(results) {
        let LedgerResult::Recalled { removed } = result else { return None };
        by_shard.insert(shard, removed.into_iter());
    }
    let removed = sales.iter().map(|(sale, _)| by_shard.get_mut(&DirectoryShard::of(sale))?.next());
    Some(LedgerResult::Recalled { removed: removed.collect::<Option<Vec<_>>>()? })
}

/// A call that takes several steps, one after another, each answered before the next.
#[derive(Debug)]
pub struct Steps {
    sale: SaleName,
    op: SaleOp,
    next: NextStep,
}

#[derive(Debug)]
enum NextStep {
    /// Whether the sale is named.
    Names,
    /// Whether one that is named is there, before a start opens it.
    Look,
    /// Its name.
    Name,
    /// What was asked for.
    Do,
    /// Its name goes, after it: what became of the sale.
    Unname(Box<Answer>),
    Done,
}

impl Steps {
    /// Those of a call that takes any; `None` of one that is sent as it is.
    pub fn of(call: &Call) -> Option<Steps> {
        let Call::Sale { sale, op } = call else { return None };
        let (op, next) = match op {
            SaleOp::Open { by: Opener::Start, .. } => (op.clone(), NextStep::Names),
            SaleOp::Open { by: Opener::Operator, .. } => (op.clone(), NextStep::Name),
            SaleOp::Remove => (op.clone(), NextStep::Do),
            SaleOp::Repair { version, sequence, repairs } if repairs.contains(&Repair::Name) => {
                let repairs = repairs.iter().filter(|repair| **repair != Repair::Name).cloned().collect();
                (SaleOp::Repair { version: *version, sequence: *sequence, repairs }, NextStep::Name)
            }
            _ => return None,
        };
        Some(Steps { sale: *sale, op, next })
    }

    /// What to ask next.
    pub fn part(&self) -> CallPart {
        let (sale, shard) = (&self.sale, DirectoryShard::of(&self.sale));
        match &self.next {
            NextStep::Names => CallPart::of_shard(shard, Call::Ledger(LedgerOp::Sales)),
            NextStep::Look => CallPart::of_sale(sale, SaleOp::Snapshot.on(*sale)),
            NextStep::Name => {
                // Whatever was removed before: this one is new.
                let sales = vec![(*sale, u64::MAX)];
                CallPart::of_shard(shard, Call::Ledger(LedgerOp::Recall { sales }))
            }
            NextStep::Do => CallPart::of_sale(sale, self.op.clone().on(*sale)),
            NextStep::Unname(_) | NextStep::Done => CallPart::of_shard(shard, SaleOp::Remove.on(*sale)),
        }
    }

    /// Takes the answer to that; gives the answer to the whole, once it is there.
    pub fn take(&mut self, answer: Result<Answer, CallError>) -> Option<Result<Answer, CallError>> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Some(Err(error)),
        };
        self.next = match (std::mem::replace(&mut self.next, NextStep::Done), answer) {
            (NextStep::Names, Answer::Ledger(LedgerResult::Sales { names, .. })) => {
                if names.contains(&self.sale) { NextStep::Look } else { NextStep::Name }
            }
            (NextStep::Look, Answer::Missing) => return Some(Ok(Answer::Lost)),
            (NextStep::Look, _) | (NextStep::Name, Answer::Ledger(LedgerResult::Recalled { .. })) => {
                NextStep::Do
            }
            (NextStep::Do, answer @ (Answer::Removed { .. } | Answer::Missing))
                if self.op == SaleOp::Remove =>
            {
                NextStep::Unname(Box::new(answer))
            }
            (NextStep::Do, answer) => return Some(Ok(answer)),
            // One of which only the name was there is removed as well.
            (NextStep::Unname(of_sale), of_name) => {
                let is_removed = matches!(of_name, Answer::Removed { .. });
                return Some(Ok(if is_removed { of_name } else { *of_sale }));
            }
            (_, other) => {
                return Some(Err(CallError::Garbled(format!("an unexpected answer of a part: {other:?}"))));
            }
        };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::SaleTerms;
    use crate::protocol::LedgerId;

    fn sale(name: &str) -> SaleName {
        SaleName::parse(name).unwrap()
    }

    fn names(names: &[&str]) -> Answer {
        let names = names.iter().map(|name| sale(name)).collect();
        Answer::Ledger(LedgerResult::Sales { names, odd: vec!["?".to_owned()] })
    }

    #[test]
    fn the_list_of_all_shards_is_one_and_no_part_of_it_may_be_missing() {
        let call = Call::Ledger(LedgerOp::Sales);
        let parts = parts_of(&call);
        assert_eq!(parts.len(), usize::from(DirectoryShard::COUNT));
        assert!(parts.iter().zip(DirectoryShard::all()).all(|(part, shard)| part.slot == shard.slot()));
        let mut answers = vec![Ok(names(&[])); parts.len()];
        answers[3] = Ok(names(&["b", "a"]));
        let Ok(Answer::Ledger(LedgerResult::Sales { names: all, odd })) = answer_of(&call, answers.clone())
        else {
            panic!()
        };
        assert_eq!((all, odd.len()), (vec![sale("b"), sale("a")], 16));
        answers[5] = Err(CallError::Refused("no".to_owned()));
        assert_eq!(answer_of(&call, answers), Err(CallError::Refused("no".to_owned())));
    }

    #[test]
    fn a_ledger_is_as_old_as_its_youngest_shard() {
        let call = Call::Ledger(LedgerOp::Identify { id: LedgerId(1) });
        let answers = [900, 7, 800]
            .map(|age_ms| Ok(Answer::Ledger(LedgerResult::Identified { id: age_ms.to_string(), age_ms })));
        assert_eq!(
            answer_of(&call, answers.to_vec()),
            Ok(Answer::Ledger(LedgerResult::Identified { id: "7".to_owned(), age_ms: 7 }))
        );
    }

    #[test]
    fn sales_are_recalled_each_in_its_shard_and_answered_in_order() {
        let known = ["foo", "hello", "bar", "foo"].map(sale);
        let sales: Vec<_> = known.iter().zip(1..).map(|(sale, opened)| (*sale, opened)).collect();
        let call = Call::Ledger(LedgerOp::Recall { sales: sales.clone() });
        let answers = parts_of(&call).into_iter().map(|part| {
            let Call::Ledger(LedgerOp::Recall { sales }) = part.call else { panic!() };
            assert!(sales.iter().all(|(sale, _)| DirectoryShard::of(sale).slot() == part.slot));
            // One that knows the sale's number is removed.
            let removed = sales.iter().map(|(_, opened)| *opened % 2 == 0).collect();
            Ok(Answer::Ledger(LedgerResult::Recalled { removed }))
        });
        assert_eq!(
            answer_of(&call, answers.collect()),
            Ok(Answer::Ledger(LedgerResult::Recalled { removed: vec![false, true, false, true] }))
        );
    }

    #[test]
    fn what_is_not_announced_is_told_without_asking_anybody() {
        let call = Call::Ledger(LedgerOp::Changes { after: Some(7) });
        assert_eq!(parts_of(&call), []);
        assert_eq!(answer_of(&call, Vec::new()), Ok(Answer::Ledger(LedgerResult::Unannounced)));
    }

    fn open(by: Opener) -> Call {
        SaleOp::Open { terms: SaleTerms::default(), by }.on(sale("foo"))
    }

    /// Which keys are asked for, by these answers, and what it comes to.
    fn asked(call: &Call, answers: &[Result<Answer, CallError>]) -> (String, Result<Answer, CallError>) {
        let (mut steps, mut asked) = (Steps::of(call).unwrap(), String::new());
        for answer in answers {
            let part = steps.part();
            asked.push(match (part.keys, &part.call) {
                (Keys::Sale, Call::Sale { op: SaleOp::Snapshot, .. }) => 'l',
                (Keys::Sale, _) => 's',
                (Keys::Shard(_), Call::Ledger(LedgerOp::Recall { .. })) => 'n',
                (Keys::Shard(_), Call::Ledger(_)) => 'd',
                (Keys::Shard(_), _) => 'u',
                (Keys::One, _) => panic!("{part:?}"),
            });
            if let Some(answer) = steps.take(answer.clone()) {
                return (asked, answer);
            }
        }
        panic!("{asked}: there is more to ask");
    }

    const REMOVED: Answer = Answer::Removed { done: true };

    #[test]
    fn a_sale_is_named_before_it_is_opened_and_one_that_was_lost_is_opened_by_operators_alone() {
        let named = || Ok(Answer::Ledger(LedgerResult::Recalled { removed: vec![false] }));
        // Whatever the last answer is, it is the call's: a script said it.
        let opened = || Ok(REMOVED);
        let start = open(Opener::Start);
        assert_eq!(asked(&start, &[Ok(names(&["bar"])), named(), opened()]).0, "dns");
        assert_eq!(
            asked(&start, &[Ok(names(&["foo"])), Ok(Answer::Missing)]),
            ("dl".to_owned(), Ok(Answer::Lost))
        );
        assert_eq!(asked(&start, &[Ok(names(&["foo"])), Ok(REMOVED), opened()]).0, "dls");
        assert_eq!(asked(&open(Opener::Operator), &[named(), opened()]).0, "ns");
        let failed = Err(CallError::Unknown("gone".to_owned()));
        assert_eq!(asked(&start, &[Ok(names(&[])), failed.clone()]), ("dn".to_owned(), failed));
    }

    #[test]
    fn a_name_goes_after_its_sale_and_only_if_that_went() {
        let remove = SaleOp::Remove.on(sale("foo"));
        assert_eq!(asked(&remove, &[Ok(REMOVED), Ok(REMOVED)]), ("su".to_owned(), Ok(REMOVED)));
        assert_eq!(asked(&remove, &[Ok(REMOVED), Ok(Answer::Missing)]).1, Ok(REMOVED));
        assert_eq!(asked(&remove, &[Ok(Answer::Missing), Ok(REMOVED)]).1, Ok(REMOVED));
        assert_eq!(asked(&remove, &[Ok(Answer::Missing), Ok(Answer::Missing)]).1, Ok(Answer::Missing));
        // It is not closed, say.
        assert_eq!(asked(&remove, &[Ok(Answer::Lost)]).0, "s");
    }

    #[test]
    fn a_repair_of_the_name_is_one_in_the_shard() {
        let repair =
            |repairs: Vec<Repair>| SaleOp::Repair { version: 1, sequence: 2, repairs }.on(sale("foo"));
        assert!(Steps::of(&repair(vec![Repair::Counts { held: 1, sold: 1 }])).is_none());
        let named = Ok(Answer::Ledger(LedgerResult::Recalled { removed: vec![false] }));
        let mut steps = Steps::of(&repair(vec![Repair::Name])).unwrap();
        assert_eq!(steps.take(named), None);
        assert_eq!(steps.part().call, repair(Vec::new()));
    }
}
