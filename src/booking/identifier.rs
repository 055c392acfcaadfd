//! Identifiers: 1 to 64 of `A-Z a-z 0-9 . _ -`, kept inline so that none of them allocates.

use std::fmt;
use std::hash::{Hash, Hasher};

use arrayvec::ArrayString;

use crate::limits::IDENTIFIER_BYTES_MAX;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Nothing there.
    #[error("is empty; it takes 1 to 64 of A-Z a-z 0-9 . _ -")]
    Empty,
    /// More than [`IDENTIFIER_BYTES_MAX`] bytes.
    #[error("is longer than 64 bytes; it takes 1 to 64 of A-Z a-z 0-9 . _ -")]
    TooLong,
    /// A byte outside of the alphabet, and where it stands.
    #[error("has a byte at offset {0} that is not one of A-Z a-z 0-9 . _ -")]
    BadByte(usize),
}

fn checked(bytes: &[u8]) -> Result<&str, IdentifierError> {
    if bytes.is_empty() {
        return Err(IdentifierError::Empty);
    }
    if bytes.len() > IDENTIFIER_BYTES_MAX {
        return Err(IdentifierError::TooLong);
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match bytes.iter().position(|byte| !allowed(byte)) {
        Some(offset) => Err(IdentifierError::BadByte(offset)),
        None => std::str::from_utf8(bytes).map_err(|error| IdentifierError::BadByte(error.valid_up_to())),
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(ArrayString<IDENTIFIER_BYTES_MAX>);

        impl $name {
            /// Reads an identifier.
            pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, IdentifierError> {
                let text = checked(bytes.as_ref())?;
                ArrayString::from(text).map(Self).map_err(|_| IdentifierError::TooLong)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        // As `str` hashes, so that a map keyed by it can be asked with a `&str`.
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
    SaleName
);
identifier!(
    /// The id of a booking, the client's own (a `PUT` path or an `Idempotency-Key`) or one made by the server.
    BookingId
);
identifier!(
    /// Whose booking it is, in the client's own terms.
    BuyerId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_alphabet_and_nothing_else() {
        assert_eq!(SaleName::parse("G123-2026_02.01").unwrap().as_str(), "G123-2026_02.01");
        assert_eq!(SaleName::parse(""), Err(IdentifierError::Empty));
        assert_eq!(SaleName::parse("x".repeat(65)), Err(IdentifierError::TooLong));
        assert!(SaleName::parse("x".repeat(64)).is_ok());
        for (text, offset) in [("a b", 1), ("{a}", 0), ("a\0", 1), ("caf\u{e9}", 3), ("a/b", 1), ("a\r\n", 1)]
        {
            assert_eq!(BookingId::parse(text), Err(IdentifierError::BadByte(offset)), "{text:?}");
        }
    }
}
