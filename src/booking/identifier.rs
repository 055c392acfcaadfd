//! Identifiers: 1 to 64 of `A-Z a-z 0-9 . _ -`, and for a buyer also `@ +`, kept inline so that none of them allocates. `.`
//! and `..` are not valid for sales and bookings. Two are the same if all their bytes are: `A` is not `a`, even in a UUID.
//!
//! The separators used between identifiers are in no alphabet: `/ ? %` of paths, `: !` of records, ` =` of buckets, `,` of
//! the log's lines, quotes and backslashes of JSON. `@` comes before a record's deadline and thus before its buyer.

use std::fmt;
use std::hash::{Hash, Hasher};

use arrayvec::ArrayString;

use crate::limits::IDENTIFIER_BYTES_MAX;

/// The bytes that an identifier may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Of sales and bookings.
    Names,
    /// Of buyers, who may be e-mail addresses.
    Buyers,
}

impl Alphabet {
    /// A table of all bytes: every request is checked byte by byte, and a lookup costs less than comparisons.
    fn table(self) -> &'static [bool; 256] {
        const NAMES: [bool; 256] = table_with(b"._-");
        const BUYERS: [bool; 256] = table_with(b"._-@+");
        match self {
            Alphabet::Names => &NAMES,
            Alphabet::Buyers => &BUYERS,
        }
    }
}

/// Letters, digits and these.
const fn table_with(signs: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut sign = 0;
    while sign < signs.len() {
        table[signs[sign] as usize] = true;
        sign += 1;
    }
    table
}

/// As people read it.
impl fmt::Display for Alphabet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Alphabet::Names => "A-Z a-z 0-9 . _ -",
            Alphabet::Buyers => "A-Z a-z 0-9 . _ - @ +",
        })
    }
}

/// Why a text is not an identifier, and of which alphabet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Nothing there.
    #[error("is empty; it takes 1 to 64 of {0}")]
    Empty(Alphabet),
    /// More than [`IDENTIFIER_BYTES_MAX`] bytes.
    #[error("is longer than 64 bytes; it takes 1 to 64 of {0}")]
    TooLong(Alphabet),
    /// `.` or `..`: as a segment of a path they mean this folder and the one above (RFC 3986 section 5.2.4), so that clients
    /// take them out of a URL before they ask.
    #[error("is \".\" or \"..\", which no URL can name; any other of 1 to 64 of {0} will do")]
    Dots(Alphabet),
    /// A byte outside of the alphabet, and its offset.
    #[error("has a byte at offset {0} that is not one of {1}")]
    BadByte(usize, Alphabet),
}

fn checked(bytes: &[u8], alphabet: Alphabet) -> Result<&str, IdentifierError> {
    if bytes.is_empty() {
        return Err(IdentifierError::Empty(alphabet));
    }
    if bytes.len() > IDENTIFIER_BYTES_MAX {
        return Err(IdentifierError::TooLong(alphabet));
    }
    if matches!(bytes, b"." | b"..") && alphabet == Alphabet::Names {
        return Err(IdentifierError::Dots(alphabet));
    }
    let table = alphabet.table();
    match bytes.iter().position(|byte| !table[usize::from(*byte)]) {
        Some(offset) => Err(IdentifierError::BadByte(offset, alphabet)),
        None => std::str::from_utf8(bytes)
            .map_err(|error| IdentifierError::BadByte(error.valid_up_to(), alphabet)),
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident of $alphabet:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(ArrayString<IDENTIFIER_BYTES_MAX>);

        impl $name {
            /// Reads an identifier.
            pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, IdentifierError> {
                const ALPHABET: Alphabet = Alphabet::$alphabet;
                let text = checked(bytes.as_ref(), ALPHABET)?;
                ArrayString::from(text).map(Self).map_err(|_| IdentifierError::TooLong(ALPHABET))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        // Hashes like `str`, so that a map keyed by it can be asked with a `&str`.
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdentifierError;
            fn from_str(text: &str) -> Result<Self, IdentifierError> {
                Self::parse(text)
            }
        }
    };
}

identifier!(
    /// The name of a sale.
    SaleName of Names
);
identifier!(
    /// The id of a booking, the client's own (a `PUT` path or an `Idempotency-Key`) or one made by the server.
    BookingId of Names
);
identifier!(
    /// Whose booking it is, in the client's own terms.
    BuyerId of Buyers
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_alphabet_and_nothing_else() {
        assert_eq!(SaleName::parse("G123-2026_02.01").unwrap().as_str(), "G123-2026_02.01");
        assert_eq!(SaleName::parse(""), Err(IdentifierError::Empty(Alphabet::Names)));
        assert_eq!(SaleName::parse("x".repeat(65)), Err(IdentifierError::TooLong(Alphabet::Names)));
        assert!(SaleName::parse("x".repeat(64)).is_ok());
        for text in [".", ".."] {
            assert_eq!(SaleName::parse(text), Err(IdentifierError::Dots(Alphabet::Names)));
            assert_eq!(BookingId::parse(text), Err(IdentifierError::Dots(Alphabet::Names)));
            assert_eq!(BuyerId::parse(text).unwrap().as_str(), text, "a buyer is no part of a path");
        }
        for text in ["...", ".a", "a.", "..a", ".-", "_"] {
            assert_eq!(BookingId::parse(text).unwrap().as_str(), text);
        }
        for (text, offset) in [("a b", 1), ("{a}", 0), ("a\0", 1), ("caf\u{e9}", 3), ("a/b", 1), ("a\r\n", 1)]
        {
            let wrong = |alphabet| IdentifierError::BadByte(offset, alphabet);
            assert_eq!(BookingId::parse(text), Err(wrong(Alphabet::Names)), "{text:?}");
            assert_eq!(BuyerId::parse(text), Err(wrong(Alphabet::Buyers)), "{text:?}");
        }
    }

    #[test]
    fn a_buyer_may_be_an_e_mail_address_and_nothing_else_may() {
        for text in ["a.b+c@d.example", "@", "+", "1@2", "x@1763827200123"] {
            assert_eq!(BuyerId::parse(text).unwrap().as_str(), text);
            assert!(BookingId::parse(text).is_err() && SaleName::parse(text).is_err(), "{text}");
        }
        for text in ["a:b", "a=b", "a,b", "a b", "\"a\"", "a\\b", "a/b", "a%40b"] {
            assert!(
                BuyerId::parse(text).unwrap_err().to_string().ends_with("A-Z a-z 0-9 . _ - @ +"),
                "{text}"
            );
        }
    }
}
