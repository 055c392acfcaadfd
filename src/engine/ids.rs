//! Ids that the server makes: UUIDv7 (RFC 9562 section 5.7), from the host's time and 74 random bits.

use rand::RngCore;
use rand::rngs::StdRng;
use uuid::Builder;

use crate::booking::BookingId;
use crate::clock::WallTime;

/// A new id. Anybody who knows an id may cancel its booking, so `random` must be seeded with a secret and be hard to
/// predict.
pub(super) fn make(random: &mut StdRng, wall: WallTime) -> BookingId {
    let mut bits = [0; 10];
    random.fill_bytes(&mut bits);
    let uuid = Builder::from_unix_timestamp_millis(wall.0, &bits).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    BookingId::parse(uuid.hyphenated().encode_lower(&mut text).as_bytes()).expect("a UUID is an identifier")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn makes_uuid_7_in_the_order_of_time() {
        let mut random = StdRng::from_seed([7; 32]);
        let (first, second) = (make(&mut random, WallTime(1_000)), make(&mut random, WallTime(1_001)));
        assert_eq!(uuid::Uuid::parse_str(first.as_str()).unwrap().get_version_num(), 7);
        assert!(first.as_str() < second.as_str());
    }
}
