//! Faults of our own making, each of which the checkers must find: changes in the text of the scripts, and lies at the
//! seams between the engine and the world. No switch for them is in the product.

use std::collections::BTreeMap;

use boxoffice::booking::{BookingId, Quantity};
use boxoffice::protocol::{
    Answer, BookingOp, Call, CallError, CallId, Cancellation, LedgerResult, SaleResult,
};
use boxoffice::stock::{Board, CoreIndex};

use crate::host::{FIRST_OWN_CALL, own_call};
use crate::ledger::Rewrite;
use crate::random::Random;
use crate::scenario::SALE;

/// A mutant.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What is wrong with it.
    pub name: &'static str,
    /// In the scripts.
    pub rewrite: Rewrite,
    /// At a seam.
    pub seam: Option<SeamKind>,
}

/// What is done wrong at a seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeamKind {
    /// After a lost connection, a batch is sent again with other ids.
    ResendWithNewIds,
    /// The first and the last answer of a batch change places.
    SwapAnswers,
    /// Some answers take a permit with them.
    LeakPermit,
    /// Some answers are forgotten.
    LoseAnswer,
    /// A cancellation that was not answered, on a host's own behalf, counts as done.
    ForgetCancellation,
    /// Once sold out, every sync tells that again.
    StaleReading,
    /// A host is told `ack` where the operator asked for more.
    TellEarly,
    /// Two answers of a pipeline change places.
    SwapResponses,
    /// Requests of a pipeline do not wait for each other.
    Beside,
    /// The connection of before is never ended.
    Unfenced,
    /// A sale that may have changed since it was read is not read again.
    ReadOnce,
    /// What was announced is not heard, now and then.
    Deaf,
    /// What a read has left in a socket is not read in the next turn.
    ReadsOnce,
    /// Who reads a stream is told what is new at its beginning, and not again.
    Asleep,
}

const fn script(name: &'static str, rewrite: Rewrite) -> Mutant {
    Mutant { name, rewrite, seam: None }
}

const fn seam(name: &'static str, seam: SeamKind) -> Mutant {
    Mutant { name, rewrite: &[], seam: Some(seam) }
}

/// All of them.
pub const MUTANTS: &[Mutant] = &[
    script(
        "reserve: >= for >, the last ticket is never sold",
        &[("elseif quantity > left then", "elseif quantity >= left then")],
    ),
    script(
        "reserve: one ticket too many",
        &[("elseif quantity > left then", "elseif quantity > left + 1 then")],
    ),
    script("reserve: a batch does not count what it has taken", &[("left = left - quantity", "left = left")]),
    script(
        "reserve: a known id is booked again",
        &[("  if record then\n    if record == 't'", "  if false then\n    if record == 't'")],
    ),
    script(
        "reserve: no limit for a buyer",
        &[("if name and per_buyer and tickets + its_held + quantity > per_buyer then", "if false then")],
    ),
    script(
        "reserve: a known id is compared with nothing",
        &[("local same = terms ==", "local same = true or terms ==")],
    ),
    script(
        "expire: without a look at the state",
        &[(
            "if (letter == 'h' or letter == 'H') and deadline <= now and not done[booking] then",
            "if letter ~= 't' and letter ~= 'e' and letter ~= 'x' then",
        )],
    ),
    script(
        "expire: before the deadline",
        &[
            (
                "lapsed >= now or frozen_until > now then return end",
                "lapsed >= now + 20 or frozen_until > now then return end",
            ),
            (
                "local first, past = max(lapsed + 1, due), now + 1\n",
                "local first, past = max(lapsed + 1, due), now + 21\n",
            ),
            (
                "and deadline <= now and not done[booking] then\n      done",
                "and deadline <= now + 20 then\n      done",
            ),
        ],
    ),
    script("expire: tickets do not come back", &[("      held = held - tickets\n", "")]),
    script(
        "expire: only what is swept",
        &[("local function lapse()\n", "local function lapse()\n  if true then return end\n")],
    ),
    script(
        "expire: what was paid ends in its span all the same",
        &[(
            "      held = held - quantity\n      owe(deadline, -quantity)\n",
            "      held = held - quantity\n",
        )],
    ),
    script(
        "expire: a span that goes on keeps what has ended in it",
        &[("owed_in[name] = (owed_in[name] or 0) - tickets", "owed_in[name] = owed_in[name] or 0")],
    ),
    script(
        "confirm: an expired hold without a look at what is left",
        &[("or letter == 'e' and held + sold + quantity <= total", "or letter == 'e'")],
    ),
    script(
        "confirm: a buyer's limit is told as tickets that are gone",
        &[("    fits, mark = false, 'b'\n", "    fits = false\n")],
    ),
    script(
        "confirm: tickets stay held",
        &[("    if is_held then give_back(letter, quantity, deadline, buyer) end\n", "")],
    ),
    script(
        "cancel: tickets come back twice",
        &[("    sold = sold - quantity\n", "    sold = sold - 2 * quantity\n")],
    ),
    script(
        "cancel: again and again",
        &[
            ("elseif letter ~= 't' and letter ~= 'x' then", "elseif letter ~= 't' then"),
            ("elseif letter == 'c' or letter == 'C' then\n    sold", "else\n    sold"),
        ],
    ),
    script(
        "cancel: what is confirmed is not",
        &[(
            "    give_back(letter, quantity, deadline, buyer)\n    call('HSET', KEYS[2], booking, record)",
            "    if letter ~= 'c' and letter ~= 'C' then give_back(letter, quantity, deadline, buyer) end\n    call('HSET', KEYS[2], booking, record)",
        )],
    ),
    script(
        "alter: a total below what is sold",
        &[("if tonumber(wanted[1]) < held + sold then fault", "if false then fault")],
    ),
    script("extend: beyond the longest hold", &[("if length > (hold_max or 0) then return '!l' end", "")]),
    script("extend: a repeat cuts a hold short", &[("if wanted <= deadline then return end", "")]),
    script(
        "extend: the old deadline stays",
        &[(
            "record = record .. format('@%.0f', ends_at)",
            "record = record .. format('@%.0f', deadline or ends_at)",
        )],
    ),
    script(
        "release: gives nothing back",
        &[("return letter, remaining, deadline, length", "return letter, quantity, deadline, length")],
    ),
    script("hold again: without room", &[("if held + sold + quantity > total then return '!s' end", "")]),
    script(
        "hold again: whatever the limit of the buyer",
        &[(
            "if per_buyer and buyer ~= '' and tickets_of(buyer) + quantity > per_buyer then return '!b' end",
            "",
        )],
    ),
    script(
        "assign: the old buyer is charged on",
        &[("give_back(was, quantity, deadline, before)", "give_back(was, quantity, deadline, '')")],
    ),
    script(
        "assign: whatever the limit of the new buyer",
        &[("if per_buyer and new ~= '' and tickets_of(new) + quantity > per_buyer then return '!b' end", "")],
    ),
    script(
        "assign: the log has whose it was",
        &[(
            "log(id, is_held and 'held' or 'confirmed', remaining, buyer,",
            "log(id, is_held and 'held' or 'confirmed', remaining, before,",
        )],
    ),
    script(
        "restore: a word of before a booking was given away is of another one",
        &[("(its_buyer == buyer or its_moves ~= moves)", "(its_buyer == buyer)")],
    ),
    script(
        "restore: a word of before a booking was given away takes it back",
        &[(
            "local moved_on = is_same and moves > its_moves",
            "local moved_on = is_same and moves ~= its_moves",
        )],
    ),
    script(
        "reserve: a late first try holds again",
        &[(
            "reply[i] = same and 'k' .. line(record) or 'r'",
            "if same and sub(line(record), 1, 1) == 'e' and hold and quantity_text == '1' and left > 0 then
        reply[i] = granted_line
        left, held = left - 1, held + 1
        log(text(booking), 'held', 1, buyer, expires_at)
        owe(now + hold, 1)
        hold_until(now + hold, booking .. ' ')
        call('HSET', KEYS[2], booking, 'h1' .. mark .. (buyer == '' and '' or ':' .. buyer))
      else
        reply[i] = same and 'k' .. line(record) or 'r'
      end",
        )],
    ),
    script("cancel: leaves no tombstone", &[("if ARGV[i + 2] == '1' then", "if false then")]),
    script("the log leaves out cancellations", &[("    log(id, 'cancelled', quantity, buyer, '')\n", "")]),
    script(
        "restore: puts nothing back",
        &[("  if word then\n    mark = '+'", "  if false then\n    mark = '+'")],
    ),
    script(
        "announce: a sale is not among the changes",
        &[("  redis.pcall('ZADD', changes_key, number, sub(KEYS[1], 5, -8)) -- bx:{SALE}:stock\n", "")],
    ),
    script(
        "announce: not where terms change",
        &[("  announce()\n  call('HSET', KEYS[1], 'version'", "  call('HSET', KEYS[1], 'version'")],
    ),
    script(
        "announce: too seldom",
        &[("local ANNOUNCE_MS, CHANGES_KEPT = 100,", "local ANNOUNCE_MS, CHANGES_KEPT = 900,")],
    ),
    script("half a sale is sold from", &[("local wrong = exists and fault()", "local wrong = false")]),
    script(
        "alter: the first limit forgets what buyers have",
        &[("if tonumber(wanted[8]) and counted ~= 'all' then", "if false then")],
    ),
    script("open: a start opens what is lost", &[("call('SISMEMBER', sales, ARGV[8]) == 1", "false")]),
    script("recall: nothing is named", &[("    redis.call('SADD', KEYS[1], ARGV[i])\n", "")]),
    script(
        "a sale opened in place of a lost one is as good as any",
        &[(
            "local by_operator, buyer_required = field[19] or '0',",
            "local by_operator, buyer_required = '1',",
        )],
    ),
    seam("what may have changed is not read again", SeamKind::ReadOnce),
    seam("an announcement is not heard", SeamKind::Deaf),
    seam("a batch is sent again with new ids", SeamKind::ResendWithNewIds),
    seam("a reply goes to the wrong request", SeamKind::SwapAnswers),
    seam("a permit is not given back", SeamKind::LeakPermit),
    seam("an answer of the ledger is forgotten", SeamKind::LoseAnswer),
    seam("a cancellation of its own is not tried again", SeamKind::ForgetCancellation),
    seam("sold out is for ever", SeamKind::StaleReading),
    seam("answers do not wait for the replicas", SeamKind::TellEarly),
    seam("answers of a connection out of order", SeamKind::SwapResponses),
    seam("deeds of a connection beside each other", SeamKind::Beside),
    seam("a broken connection is not ended", SeamKind::Unfenced),
    seam("what a read has left in a socket is not read again", SeamKind::ReadsOnce),
    seam("a stream is not told what is new", SeamKind::Asleep),
];

/// The seam of one loop; does nothing unless a mutant is at work.
pub struct Seam {
    kind: Option<SeamKind>,
    random: Random,
    pending: Vec<Call>,
    own_calls: u64,
    turns: u64,
    stale: Option<Answer>,
}

impl Seam {
    /// Of a loop.
    pub fn new(kind: Option<SeamKind>, random: Random) -> Seam {
        Seam { kind, random, pending: Vec::new(), own_calls: 0, turns: 0, stale: None }
    }

    /// Whether each request of a connection is served as if it had a connection of its own.
    pub fn serves_beside(&self) -> bool {
        self.kind == Some(SeamKind::Beside)
    }

    /// Whether a loop waits for the system to tell again of what it has left in a socket.
    pub fn reads_once(&self) -> bool {
        self.kind == Some(SeamKind::ReadsOnce)
    }

    /// Whether streams are not woken.
    pub fn lets_streams_sleep(&self) -> bool {
        self.kind == Some(SeamKind::Asleep)
    }

    fn every(&mut self, times: u64) -> bool {
        self.turns += 1;
        self.turns.is_multiple_of(times)
    }

    /// The connection to Redis is lost, with these calls on it.
    pub fn note_loss(&mut self, submitted: &BTreeMap<u64, (u64, Call)>) {
        if self.kind != Some(SeamKind::ResendWithNewIds) {
            return;
        }
        for (_, call) in submitted.values() {
            if let Call::Bookings { sale, seen, op: BookingOp::Reserve(claims) } = call {
                let mut claims = claims.clone();
                for claim in &mut claims {
                    claim.id = BookingId::parse(format!("again-{:x}", self.random.next())).expect("an id");
                }
                self.pending.push(BookingOp::Reserve(claims).on(*sale, *seen));
            }
        }
    }

    /// Calls that nobody asked for.
    pub fn more_calls(&mut self, up: bool) -> Vec<(CallId, Call)> {
        let calls = if up { std::mem::take(&mut self.pending) } else { Vec::new() };
        let first = self.own_calls;
        self.own_calls += calls.len() as u64;
        calls.into_iter().enumerate().map(|(number, call)| (own_call(first + number as u64), call)).collect()
    }

    /// What the engine is told instead of an answer.
    pub fn answers(
        &mut self,
        id: CallId,
        call: &Call,
        mut answer: Result<Answer, CallError>,
        board: &Board,
        core: usize,
    ) -> Vec<(CallId, Result<Answer, CallError>)> {
        if id.0 >= FIRST_OWN_CALL {
            return Vec::new();
        }
        let kind = self.kind;
        match kind {
            Some(SeamKind::SwapAnswers) => match &mut answer {
                Ok(Answer::Sale { result: SaleResult::Reserved(reservations), .. }) => reservations.reverse(),
                Ok(Answer::Sale { result: SaleResult::Found(bookings), .. }) => bookings.reverse(),
                _ => {}
            },
            Some(SeamKind::LeakPermit) if self.every(3) => {
                if let Some(sale) = board.directory().get(SALE) {
                    std::mem::forget(sale.take(CoreIndex(core), Quantity::ONE));
                }
            }
            Some(SeamKind::ForgetCancellation) => {
                if let (Call::Bookings { op: BookingOp::Cancel(ids), .. }, Err(_)) = (call, &answer)
                    && ids.iter().all(|cancel| cancel.tombstone)
                    && let Some(state) = board.directory().get(SALE).and_then(|sale| sale.level())
                {
                    let cancellations = vec![Cancellation::NotFound; ids.len()];
                    answer = Ok(Answer::Sale { state, result: SaleResult::Cancelled(cancellations) });
                }
            }
            Some(SeamKind::LoseAnswer) if call.entries() > 0 && self.every(5) => return Vec::new(),
            Some(SeamKind::ReadOnce) => {
                if let Ok(Answer::Sale { state, result: SaleResult::Done }) = &mut answer {
                    state.announced_at = boxoffice::clock::WallTime(0);
                }
            }
            Some(SeamKind::Deaf) => {
                if let Ok(Answer::Ledger(LedgerResult::Changes { names, .. })) = &mut answer
                    && !names.is_empty()
                    && self.every(2)
                {
                    names.clear();
                }
            }
            Some(SeamKind::StaleReading) => {
                if let Ok(Answer::Sale { state, result: SaleResult::Done }) = &mut answer {
                    match &self.stale {
                        Some(Answer::Sale { state: old, result: SaleResult::Done }) => {
                            *state = boxoffice::booking::SaleState { now: state.now, ..old.clone() };
                        }
                        _ if state.available() == 0 => self.stale = answer.clone().ok(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        vec![(id, answer)]
    }

    /// What is written to Redis instead of that, which is as long.
    pub fn calls(&mut self, output: &[u8]) -> Vec<u8> {
        let mut output = output.to_vec();
        if self.kind == Some(SeamKind::Unfenced)
            && let Some(at) = memchr::memmem::find(&output, b"\r\nboxoffice-")
        {
            // Its connections do not know each other again.
            let letter = b"abcdef"[self.random.below(6)];
            output[at + 12..at + 28].fill(letter);
        }
        output
    }

    /// What is written to a client instead of that.
    pub fn output(&mut self, output: &[u8]) -> Vec<u8> {
        const START: &[u8] = b"HTTP/1.1 ";
        if self.kind == Some(SeamKind::SwapResponses)
            && output.starts_with(START)
            && let Some(second) = memchr::memmem::find(&output[1..], START)
        {
            let (first, rest) = output.split_at(second + 1);
            let end = memchr::memmem::find(&rest[1..], START).map_or(rest.len(), |third| third + 1);
            return [&rest[..end], first, &rest[end..]].concat();
        }
        output.to_vec()
    }
}
