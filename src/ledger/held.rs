//! A buyer's holds as both ledgers write them behind its confirmed tickets, so that a hold that is over no longer counts,
//! without anybody having looked at it: the deadline in seven characters, then the tickets unless that is one.

use crate::clock::WallTime;

/// Characters of a deadline.
const STAMP_BYTES: usize = 7;

/// The first of the 64 characters that a deadline is written in, up to `~`: none of them occurs in a number, and none is a
/// space.
const FIRST: u8 = b'?';

/// Appends a hold, as `stamp` and `held_until` in `lua/sale.lua` do.
pub(super) fn push(text: &mut String, expires_at: WallTime, quantity: u32) {
    for place in (0..STAMP_BYTES).rev() {
        let digit = (expires_at.0 >> (6 * place)) & 63;
        text.push(char::from(FIRST + digit as u8));
    }
    if quantity != 1 {
        text.push_str(itoa::Buffer::new().format(quantity));
    }
}

/// Reads what [`push`] wrote any number of times; `None` if it is anything else.
pub(super) fn read(text: &str) -> Option<Vec<(WallTime, u32)>> {
    let mut holds = Vec::new();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (stamp, after) = rest.split_at_checked(STAMP_BYTES)?;
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (quantity, after) = after.split_at(digits);
        let mut deadline = 0_u64;
        for byte in stamp {
            let digit = byte.checked_sub(FIRST).filter(|digit| *digit < 64)?;
            deadline = deadline << 6 | u64::from(digit);
        }
        let quantity = match std::str::from_utf8(quantity).ok()? {
            "" => 1,
            "1" => return None,
            number if number.starts_with('0') => return None,
            number => number.parse().ok()?,
        };
        holds.push((WallTime(deadline), quantity));
        rest = after;
    }
    Some(holds)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hold_is_seven_characters_and_its_tickets_if_they_are_several() {
        let mut text = String::new();
        push(&mut text, WallTime(0), 1);
        push(&mut text, WallTime(1_763_827_200_123), 12);
        assert_eq!(text, "???????XikQr@z12");
        assert_eq!(read(&text), Some(vec![(WallTime(0), 1), (WallTime(1_763_827_200_123), 12)]));
        for bad in ["??????", "???????0", "???????1", "???????01", "?????? ", "???????9999999999", "12"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(holds in proptest::collection::vec((0_u64..1 << 42, 1_u32..2_000_000), 0..5)) {
            let mut text = String::new();
            for (deadline, quantity) in &holds {
                push(&mut text, WallTime(*deadline), *quantity);
            }
            let read = read(&text).unwrap();
            prop_assert_eq!(read.iter().map(|(at, quantity)| (at.0, *quantity)).collect::<Vec<_>>(), holds);
            prop_assert!(!text.contains([' ', '=']));
        }
    }
}
