//! How a booking's id is stored in Redis.

use uuid::Uuid;

use crate::booking::BookingId;

/// How a booking's id is stored: a UUID as a zero byte, which no identifier has, and its 16 bytes; any other as it is.
pub(super) enum Stored<'a> {
    Uuid([u8; 17]),
    Text(&'a str),
}

impl<'a> Stored<'a> {
    pub(super) fn of(id: &'a BookingId) -> Stored<'a> {
        let text = id.as_str();
        // Only the one form that comes back the same: with hyphens, in lower case.
        if text.len() == 36
            && !text.bytes().any(|byte| byte.is_ascii_uppercase())
            && let Ok(uuid) = Uuid::try_parse(text)
        {
            let mut bytes = [0; 17];
            bytes[1..].copy_from_slice(uuid.as_bytes());
            return Stored::Uuid(bytes);
        }
        Stored::Text(text)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Stored::Uuid(bytes) => bytes,
            Stored::Text(text) => text.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_stored_in_17_bytes_and_nothing_else_is() {
        let stored = |text: &str| Stored::of(&BookingId::parse(text).unwrap()).bytes().to_vec();
        let uuid = "0198c0de-0000-7000-8000-00000000000a";
        assert_eq!(stored(uuid).len(), 17);
        assert_eq!(stored(uuid)[..3], [0, 0x01, 0x98]);
        for text in
            [&uuid.to_uppercase(), &uuid.replace('-', ""), "0198c0de00000-700-8000-00000000000ab", "b-1"]
        {
            assert_eq!(stored(text), text.as_bytes(), "{text}");
        }
    }
}
