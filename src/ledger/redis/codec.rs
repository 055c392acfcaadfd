//! Calls as Redis commands and replies as answers. Pure: bytes in, bytes out, for any kind of connection.
//!
//! A caller appends calls with [`pack`], sends the bytes, gathers what comes back until [`replies_length`] finds the
//! replies of the oldest call whole, and gives those bytes to [`read`]. If they are [NOSCRIPT](is_noscript), it sends
//! [`load_scripts`] and then the same calls again: every call may be sent twice, since bookings have ids.

pub use super::frame::{FrameError, frame_length};
pub use super::pack::{hello, load_scripts, pack, pack_asking, pack_at, replies_expected};
pub use super::read::{first_error, frames_length, is_noscript, is_refusal, read, replies_length};
pub use super::scripts::compact as script_as_loaded;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::{Booking, BookingId, BookingStatus, BuyerId, Quantity, SaleName};
    use crate::clock::WallTime;
    use crate::ledger::redis::stored::Stored;
    use crate::protocol::{
        Answer, BookingOp, Call, CallError, Cancel, ChangeFault, Claim, LedgerId, LedgerOp, LedgerResult,
        LostCause, Opener, Reservation, Restoration, SaleOp, SaleResult, Watermark,
    };
    use proptest::prelude::*;

    fn sale() -> SaleName {
        SaleName::parse("ticket").unwrap()
    }

    fn id(text: &str) -> BookingId {
        BookingId::parse(text).unwrap()
    }

    fn reserve_one() -> Call {
        let claim = Claim { id: id("b-1"), quantity: Quantity::ONE, buyer: None };
        BookingOp::Reserve(vec![claim]).on(sale(), Watermark::default())
    }

    fn bulk(text: &[u8]) -> Vec<u8> {
        [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
    }

    const STATE: &str = "10,0,1,1,1,open,,,,,9,5,5,0,0,0,0,0,0";

    #[test]
    fn a_reserve_is_one_command_under_the_hash_tag_of_its_sale() {
        let mut out = Vec::new();
        pack(&reserve_one(), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("*16\r\n$7\r\nEVALSHA\r\n$40\r\n"), "{text}");
        assert!(text.contains("\r\nbx:{ticket}:stock\r\n"), "{text}");
        assert!(text.ends_with("$1\r\n1\r\n$3\r\nb-1\r\n$0\r\n\r\n"), "{text}");
    }

    #[test]
    fn only_bookings_that_are_alike_and_different_go_without_their_terms() {
        let claim = |text: &str| Claim { id: id(text), quantity: Quantity::ONE, buyer: None };
        let arguments = |claims: Vec<Claim>| {
            let mut out = Vec::new();
            pack(&BookingOp::Reserve(claims).on(sale(), Watermark::default()), &mut out);
            let text = String::from_utf8(out).unwrap();
            // Without EVALSHA, the hash, the count of keys, nine keys, and the two arguments of the whole batch.
            text.matches('$').count() - 12 - 2
        };
        assert_eq!(arguments(vec![claim("a"), claim("b")]), 2 * 2);
        assert_eq!(arguments(vec![claim("a"), claim("a")]), 5 * 2);
        let two = Claim { quantity: Quantity::new(2).unwrap(), ..claim("b") };
        assert_eq!(arguments(vec![claim("a"), two]), 5 * 2);
        let hers = Claim { buyer: Some(crate::booking::BuyerId::parse("u-1").unwrap()), ..claim("b") };
        assert_eq!(arguments(vec![claim("a"), hers]), 5 * 2);
    }

    #[test]
    fn a_snapshot_is_the_time_and_then_the_fields_of_the_stock() {
        let mut out = Vec::new();
        let call = SaleOp::Snapshot.on(sale());
        pack(&call, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("*1\r\n$4\r\nTIME\r\n*22\r\n$5\r\nHMGET\r\n$17\r\nbx:{ticket}:stock\r\n"),
            "{text}"
        );

        let time = [b"*2\r\n".to_vec(), bulk(b"1763827200"), bulk(b"123999")].concat();
        let stock = |fields: &[&str]| {
            let each = fields.iter().map(|field| match *field {
                "nil" => b"$-1\r\n".to_vec(),
                field => bulk(field.as_bytes()),
            });
            [format!("*{}\r\n", fields.len()).into_bytes(), each.collect::<Vec<_>>().concat()].concat()
        };
        let fields = [
            "10", "1", "2", "3", "4", "open", "500", "", "", "", "7", "5", "6", "8", "9", "3", "4", "1", "0",
            "nil",
        ];
        let read_stock = |fields: &[&str]| read(&call, &[time.clone(), stock(fields)].concat());
        let Ok(Answer::Sale { state, result: SaleResult::Done }) = read_stock(&fields) else { panic!() };
        assert_eq!((state.available(), state.version, state.sequence), (7, 3, 4));
        assert_eq!((state.terms.hold_ms, state.now.0), (Some(500), 1_763_827_200_123));
        assert_eq!((state.opened, state.lineage, state.frozen_until), (5, 6, WallTime(8)));
        let mut longest = fields;
        longest[19] = "900";
        let Ok(Answer::Sale { state: kept, result: SaleResult::Done }) = read_stock(&longest) else {
            panic!()
        };
        assert_eq!((state.terms.hold_max_ms, kept.terms.hold_max_ms), (None, Some(900)));
        let mut older = fields;
        older[11..].fill("nil");
        let Ok(Answer::Sale { state, result: SaleResult::Done }) = read_stock(&older) else { panic!() };
        assert_eq!((state.opened, state.lineage, state.is_frozen()), (0, 0, false));
        // A clock that was ahead once stays there.
        let mut ahead = fields;
        ahead[10] = "1763827299999";
        let Ok(Answer::Sale { state, result: SaleResult::Done }) = read_stock(&ahead) else { panic!() };
        assert_eq!(state.now.0, 1_763_827_299_999);

        assert_eq!(read_stock(&["nil"; 20]), Ok(Answer::Missing));
        for (at, odd, what) in [
            (0, "nil", "bx:{ticket}:stock has no number in total"),
            (1, "-1", "bx:{ticket}:stock has no number in held"),
            (2, "", "bx:{ticket}:stock has no number in sold"),
            (5, "ajar", "bx:{ticket}:stock has no known status"),
            (5, "2:open", "bx:{ticket}:stock has no known status"),
            (7, "x", "bx:{ticket}:stock has no number in per_buyer"),
            (19, "-1", "bx:{ticket}:stock has no number in hold_max"),
            (2, "10", "bx:{ticket}:stock has more tickets held and sold than there are"),
        ] {
            let mut unsound = fields;
            unsound[at] = odd;
            assert_eq!(read_stock(&unsound), Err(CallError::Unsound(what.to_owned())));
        }
        for bad in [
            &fields[..13],
            &["nil"; 13],
            &["10", "1", "2", "3", "4", "shut", "", "", "", "", "7", "5", "5", "0"],
        ] {
            assert!(matches!(read_stock(bad), Err(CallError::Garbled(_))), "{bad:?}");
        }
        let refused = read(&call, &[time.clone(), b"-LOADING Redis is loading\r\n".to_vec()].concat());
        assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
    }

    #[test]
    fn reads_a_grant() {
        let replies = bulk(format!("{STATE}\ng").as_bytes());
        let Ok(Answer::Sale { state, result: SaleResult::Reserved(reservations) }) =
            read(&reserve_one(), &replies)
        else {
            panic!()
        };
        assert_eq!((state.sold, state.available()), (1, 9));
        assert_eq!(reservations, [Reservation::Granted { expires_at: None }]);
    }

    /// Bookings are packed apart from all other calls.
    #[test]
    fn bookings_are_given_the_keys_that_every_script_is_given() {
        let keys = |call: &Call| {
            let mut out = Vec::new();
            pack(call, &mut out);
            let text = String::from_utf8(out).unwrap();
            let (start, end) = (text.find("\r\n$1\r\n9\r\n$").unwrap(), text.find("bx:feed\r\n").unwrap());
            text[start..end].to_owned()
        };
        assert_eq!(keys(&reserve_one()), keys(&SaleOp::Expire.on(sale())));
    }

    #[test]
    fn tells_what_was_seen_in_the_first_argument_and_nothing_where_nothing_was() {
        let Call::Bookings { sale, op: BookingOp::Reserve(claims), .. } = reserve_one() else { panic!() };
        let seen = Watermark { opened: 7, lineage: 8, sequence: 4711 };
        for (seen, words) in [(seen, "$11\r\n64 7 8 4711\r\n"), (Watermark::default(), "$2\r\n64\r\n")] {
            let mut out = Vec::new();
            pack(&Call::Bookings { sale, seen, op: BookingOp::Reserve(claims.clone()) }, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(text.contains(&format!("bx:feed\r\n{words}")), "{text}");
        }
    }

    #[test]
    fn restores_by_records_and_reads_what_became_of_each() {
        let booking = |name, status, buyer: Option<&str>| Booking {
            id: id(name),
            status,
            quantity: Quantity::new(2).unwrap(),
            released: 0,
            buyer: buyer.map(|buyer| BuyerId::parse(buyer).unwrap()),
            reassigned: 0,
        };
        let longest = "b".repeat(64);
        let bookings = vec![
            booking("b-1", BookingStatus::Held { expires_at: WallTime(u64::MAX) }, Some(&longest)),
            booking("b-2", BookingStatus::Confirmed, None),
            booking("b-3", BookingStatus::Cancelled, Some("u-81")),
            booking("b-4", BookingStatus::Confirmed, None),
        ];
        let call = BookingOp::Restore(bookings).on(sale(), Watermark::default());
        let mut out = Vec::new();
        pack(&call, &mut out);
        let text = String::from_utf8(out).unwrap();
        for record in [&format!("\r\nh2@{}:{longest}\r\n", u64::MAX), "\r\nc2\r\n", "\r\nx2:u-81\r\n"] {
            assert!(text.contains(record), "{record} is not in {text}");
        }
        let Ok(Answer::Sale { result: SaleResult::Restored(restorations), .. }) =
            read(&call, &bulk(format!("{STATE}\n=\n+\ns\nr").as_bytes()))
        else {
            panic!()
        };
        let lost = [LostCause::SoldOut, LostCause::IdTaken].map(Restoration::Lost);
        assert_eq!(restorations, [Restoration::Stands, Restoration::PutBack, lost[0], lost[1]]);
        let withheld = bulk(format!("{STATE}\nwithheld").as_bytes());
        assert!(matches!(read(&call, &withheld), Ok(Answer::Stale(_))));
        assert!(matches!(read(&reserve_one(), &withheld), Ok(Answer::Stale(_))));
        let look_up = SaleOp::LookUp(vec![id("b-1")]).on(sale());
        assert!(matches!(read(&look_up, &withheld), Err(CallError::Garbled(_))));
    }

    /// Lua cannot read src/limits.rs.
    #[test]
    fn the_scripts_have_the_bounds_of_this_program() {
        use crate::limits::{ANNOUNCE_MS, CHANGES_KEPT, FREEZE_MS, FREEZE_MS_MAX};
        let text = include_str!("../../../lua/sale.lua");
        assert!(text.contains(&format!("local FREEZE_MS, FREEZE_MS_MAX = {FREEZE_MS}, {FREEZE_MS_MAX}")));
        assert!(text.contains(&format!("A later layout than {} ", crate::ledger::LAYOUT)));
        assert!(text.contains(&format!("local ANNOUNCE_MS, CHANGES_KEPT = {ANNOUNCE_MS}, {CHANGES_KEPT}")));
    }

    #[test]
    fn a_missing_sale_is_its_own_answer() {
        assert_eq!(read(&reserve_one(), &bulk(b"missing")), Ok(Answer::Missing));
        assert!(matches!(
            read(&Call::Ledger(LedgerOp::Sales), &bulk(b"missing")),
            Err(CallError::Garbled(_))
        ));
    }

    #[test]
    fn reads_what_is_told_of_sales_that_are_gone() {
        let told = |call: &Call, text: &str| read(call, &bulk(text.as_bytes()));
        let open = SaleOp::Open { terms: Default::default(), by: Opener::Start }.on(sale());
        assert_eq!(told(&open, "lost"), Ok(Answer::Lost));
        let remove = SaleOp::Remove.on(sale());
        assert_eq!(told(&remove, "removed"), Ok(Answer::Removed { done: true }));
        for (word, fault) in [("closed", ChangeFault::NotClosed), ("held", ChangeFault::StillHeld)] {
            let answer = told(&remove, &format!("{STATE}\n{word}"));
            assert!(
                matches!(answer, Ok(Answer::Sale { result: SaleResult::Refused(its), .. }) if its == fault),
                "{answer:?}"
            );
        }
        let recall = Call::Ledger(LedgerOp::Recall { sales: vec![(sale(), 7), (sale(), 8)] });
        assert_eq!(
            told(&recall, "kr"),
            Ok(Answer::Ledger(LedgerResult::Recalled { removed: vec![false, true] }))
        );
        let identify = Call::Ledger(LedgerOp::Identify { id: LedgerId(7) });
        assert_eq!(
            told(&identify, "a,b,12"),
            Ok(Answer::Ledger(LedgerResult::Identified { id: "a,b".to_owned(), age_ms: 12 }))
        );
        for (call, bad) in [
            (&recall, "k"),
            (&recall, "kx"),
            (&identify, ",1"),
            (&identify, "a"),
            (&open, "removed"),
            (&remove, "lost"),
        ] {
            assert!(matches!(told(call, bad), Err(CallError::Garbled(_))), "{bad}");
        }
        // Each name with its time, under keys that all sales share.
        let mut out = Vec::new();
        pack(&recall, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\nbx:sales\r\n$10\r\nbx:removed\r\n$6\r\nticket\r\n$1\r\n7\r\n"), "{text}");
    }

    #[test]
    fn reads_the_names_of_sales_and_all_of_them_or_none() {
        let names = |reply: &[u8]| read(&Call::Ledger(LedgerOp::Sales), reply);
        let sales = |names: &[&str], odd: &[&str]| {
            let names = names.iter().map(|name| SaleName::parse(name).unwrap()).collect();
            Ok(Answer::Ledger(LedgerResult::Sales {
                names,
                odd: odd.iter().map(|odd| (*odd).to_owned()).collect(),
            }))
        };
        assert_eq!(names(b"*2\r\n$6\r\nticket\r\n$1\r\nb\r\n"), sales(&["ticket", "b"], &[]));
        assert_eq!(names(b"*0\r\n"), sales(&[], &[]));
        assert_eq!(
            names(b"*4\r\n$1\r\n/\r\n$1\r\nb\r\n$0\r\n\r\n$2\r\n\xff \r\n"),
            sales(&["b"], &["/", "", "\\xff "])
        );
        for bad in [&b"*2\r\n$1\r\nb\r\n:1\r\n"[..], b"*2\r\n$1\r\nb\r\n$-1\r\n", b"*-1\r\n"] {
            assert!(matches!(names(bad), Err(CallError::Garbled(_))), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn asks_for_changes_by_four_commands_and_reads_how_far_they_tell() {
        let mut out = Vec::new();
        pack(&Call::Ledger(LedgerOp::Changes { after: Some(7) }), &mut out);
        pack(&Call::Ledger(LedgerOp::Changes { after: None }), &mut out);
        let text = String::from_utf8(out).unwrap();
        let head = "*1\r\n$4\r\nTIME\r\n*2\r\n$3\r\nGET\r\n$7\r\nbx:feed\r\n*3\r\n$4\r\nHGET\r\n$9\r\nbx:ledger\r\n$2\r\nid\r\n";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains("\r\nbx:changes\r\n$2\r\n(7\r\n$4\r\n+inf\r\n"), "{text}");
        assert!(text.contains("\r\nbx:changes\r\n$4\r\n+inf\r\n$4\r\n+inf\r\n"), "{text}");

        let strings = |strings: &[&[u8]]| {
            let each: Vec<u8> = strings.iter().flat_map(|string| bulk(string)).collect();
            [format!("*{}\r\n", strings.len()).as_bytes(), &each].concat()
        };
        let time = b"*2\r\n$1\r\n5\r\n$3\r\n999\r\n";
        let told = |after, latest: &[u8], ledger: &[u8], changes: &[&[u8]]| {
            read(
                &Call::Ledger(LedgerOp::Changes { after }),
                &[time, latest, ledger, &strings(changes)].concat(),
            )
        };
        let nil = b"$-1\r\n";
        let now = WallTime(5_000);
        let changes = |names: &[&str], at, more, reset| {
            let names = names.iter().map(|name| SaleName::parse(name).unwrap()).collect();
            Ok(Answer::Ledger(LedgerResult::Changes { names, at, more, reset, ledger: String::new(), now }))
        };
        assert_eq!(told(None, nil, nil, &[]), changes(&[], 0, false, false));
        assert_eq!(told(Some(0), nil, nil, &[]), changes(&[], 0, false, false));
        assert_eq!(told(Some(7), &bulk(b"7"), nil, &[]), changes(&[], 7, false, false));
        // The feed is gone, or another's; or it has moved on too far.
        assert_eq!(told(Some(7), nil, nil, &[]), changes(&[], 0, false, true));
        assert_eq!(told(Some(7), &bulk(b"6"), nil, &[]), changes(&[], 6, false, true));
        assert_eq!(told(Some(7), &bulk(b"1000008"), nil, &[]), changes(&[], 1_000_008, false, true));
        // One was announced after the number was read; one is no name of a sale.
        let two: [&[u8]; 6] = [b"ticket", b"8", b"/", b"9", b"b", b"10"];
        assert_eq!(told(Some(7), &bulk(b"9"), nil, &two), changes(&["ticket", "b"], 9, false, false));
        let Ok(Answer::Ledger(LedgerResult::Changes { ledger, .. })) = told(None, nil, &bulk(b"l-1"), &[])
        else {
            panic!()
        };
        assert_eq!(ledger, "l-1");
        let page: Vec<Vec<u8>> = (1..=crate::limits::CHANGES_PER_CALL_MAX)
            .flat_map(|n| [b"b".to_vec(), n.to_string().into()])
            .collect();
        let page: Vec<&[u8]> = page.iter().map(Vec::as_slice).collect();
        let Ok(Answer::Ledger(LedgerResult::Changes { at, more, .. })) =
            told(Some(0), &bulk(b"5000"), nil, &page)
        else {
            panic!()
        };
        assert_eq!((at, more), (1_000, true));
        for bad in [
            told(Some(0), &bulk(b"x"), nil, &[]),
            told(Some(0), nil, nil, &[b"b"]),
            told(Some(0), b"*0\r\n", nil, &[]),
        ] {
            assert!(matches!(bad, Err(CallError::Garbled(_))), "{bad:?}");
        }
    }

    #[test]
    fn only_errors_from_before_anything_happened_are_refusals() {
        for line in [
            "LOADING Redis is loading",
            "OOM command not allowed",
            "READONLY You can't",
            "MISCONF Redis is",
            "BUSY Redis is busy",
            "MASTERDOWN Link",
            "CLUSTERDOWN The cluster",
            "NOREPLICAS Not enough",
            "NOAUTH Authentication",
            "NOSCRIPT No matching script",
            "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed",
            "ERR user_script:118: DENIED HSET script: 4833ab, on @user_script:118.",
        ] {
            let error = read(&reserve_one(), format!("-{line}\r\n").as_bytes()).unwrap_err();
            assert_eq!(error, CallError::Refused(line.to_owned()));
        }
        for line in [
            "ERR unknown",
            "",
            "ERR the word -OOM alone",
            "NOPERM ACL failure in script: User poor has no permissions to run the 'zadd' command",
        ] {
            let error = read(&reserve_one(), format!("-{line}\r\n").as_bytes()).unwrap_err();
            assert_eq!(error, CallError::Garbled(line.to_owned()));
        }
        const OTHER_TYPE: &str = "a key is of a type that boxoffice never gives it";
        for (line, what) in [
            ("UNSOUND bx:{ticket}:stock has no number in held", "bx:{ticket}:stock has no number in held"),
            (
                "ERR user_script:118: UNSOUND bx:{a}:stock has fewer script: 4833ab, on @user_script:118.",
                "bx:{a}:stock has fewer",
            ),
            ("WRONGTYPE Operation against a key", OTHER_TYPE),
            (
                "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -WRONGTYPE Operation",
                OTHER_TYPE,
            ),
        ] {
            let error = read(&reserve_one(), format!("-{line}\r\n").as_bytes()).unwrap_err();
            assert_eq!(error, CallError::Unsound(what.to_owned()));
        }
        assert!(is_noscript(b":1\r\n-NOSCRIPT No matching script\r\n"));
        assert!(!is_noscript(b"$12\r\n-NOSCRIPT No\r\n"));
    }

    #[test]
    fn what_is_not_of_the_form_is_garbled() {
        let call = reserve_one();
        let state_and = |rest: &str| bulk(format!("{STATE}{rest}").as_bytes());
        for replies in [
            state_and(""),
            state_and("\ng\ng"),
            state_and("\ny"),
            state_and("\n"),
            state_and("\ng-5"),
            state_and("\nkc"),
            state_and("\nkh1"),
            bulk(b"\xff\xfe"),
            bulk(b""),
            b"$-1\r\n".to_vec(),
            b":1\r\n".to_vec(),
            b"*0\r\n".to_vec(),
            b"".to_vec(),
            b"$5\r\nab".to_vec(),
            [state_and("\ng"), b":1\r\n".to_vec()].concat(),
        ] {
            let answer = read(&call, &replies);
            assert!(
                matches!(answer, Err(CallError::Garbled(_))),
                "{:?} gave {answer:?}",
                replies.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn reads_a_page_with_a_uuid_that_has_line_ends_and_spaces_in_it() {
        let uuid = "0a200a20-0a20-0a20-0a20-0a200a200a20";
        let stored = Stored::of(&id(uuid)).bytes().to_vec();
        let page = [STATE.as_bytes(), b"\n17\n", &stored, b" c1\nb-1 x2:u-81"].concat();
        let call = SaleOp::Page { cursor: String::new() }.on(sale());
        let Ok(Answer::Sale { result: SaleResult::Page { bookings, next }, .. }) = read(&call, &bulk(&page))
        else {
            panic!()
        };
        assert_eq!(next.as_deref(), Some("17"));
        assert_eq!(bookings.iter().map(|booking| booking.id.as_str()).collect::<Vec<_>>(), [uuid, "b-1"]);
        assert_eq!(bookings[1].quantity.get(), 2);
    }

    proptest! {
        #[test]
        fn never_panics_on_what_redis_sends(
            bytes in proptest::collection::vec(any::<u8>(), 0..48),
            text in "[0-9,a-z\n@: -]{0,48}",
            which in 0usize..13,
        ) {
            let (sale, id) = (sale(), id("b-1"));
            let call = match which {
                0 => reserve_one(),
                1 => Call::Sale { sale, op: SaleOp::LookUp(vec![id]) },
                2 => Call::Sale { sale, op: SaleOp::Page { cursor: String::new() } },
                3 => Call::Sale { sale, op: SaleOp::Log { after: 0 } },
                4 => Call::Ledger(LedgerOp::Sales),
                5 => Call::Sale { sale, op: SaleOp::Trim },
                6 => Call::Sale { sale, op: SaleOp::Snapshot },
                7 => Call::Ledger(LedgerOp::Changes { after: Some(1) }),
                8 => Call::Ledger(LedgerOp::Recall { sales: vec![(sale, 1), (sale, 2)] }),
                9 => Call::Ledger(LedgerOp::Identify { id: crate::protocol::LedgerId(1) }),
                10 => Call::Sale { sale, op: SaleOp::Remove },
                11 => Call::Ledger(LedgerOp::Layout),
                _ => BookingOp::Cancel(vec![Cancel { id, tombstone: true }]).on(sale, Watermark::default()),
            };
            let _ = read(&call, &bytes);
            let _ = read(&call, &[b"*2\r\n$1\r\n5\r\n$1\r\n5\r\n*14\r\n", &bytes[..]].concat());
            let _ = read(&call, &[b"*2\r\n$1\r\n5\r\n$1\r\n5\r\n$1\r\n5\r\n$-1\r\n", &bytes[..]].concat());
            let _ = read(&call, &bulk(&bytes));
            let _ = read(&call, &bulk(format!("{STATE}\n{text}").as_bytes()));
            let _ = read(&call, &bulk(&[STATE.as_bytes(), b"\n0\n", &bytes].concat()));
        }
    }
}
