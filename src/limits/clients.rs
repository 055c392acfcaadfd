//! The limits that clients meet, as one list: name, default, range. `config` reads them, `connection` and `engine` obey
//! them, `/metrics` counts how often each was hit. The reason for each default is at its constant in [`limits`](super).

use std::fmt;

use super::*;

/// What a limit's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, written with or without `KiB`, `MiB`, `GiB`.
    Bytes,
    /// Milliseconds, written as a duration: `500ms`, `75s`, `1m30s`.
    Time,
    /// A plain number.
    Count,
}

macro_rules! client_limits {
    ($($(#[doc = $doc:literal])* $limit:ident $field:ident: $type:ident, $name:literal, $unit:ident,
        $default:expr, $least:expr, $most:expr;)*) => {
        /// A limit that clients meet. Its discriminant is the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Limit {
            $($(#[doc = $doc])* $limit,)*
        }

        impl Limit {
            /// Each of them, in the order of their discriminants.
            pub const ALL: &'static [Limit] = &[$(Limit::$limit,)*];

            /// What it is called in the configuration and as the label `limit` of its counter.
            pub fn name(self) -> &'static str {
                match self { $(Limit::$limit => $name,)* }
            }

            /// What it bounds, and what happens beyond it.
            pub fn meaning(self) -> &'static str {
                match self { $(Limit::$limit => concat!($($doc),*).trim_ascii_start(),)* }
            }

            /// What its number means.
            pub fn unit(self) -> Unit {
                match self { $(Limit::$limit => Unit::$unit,)* }
            }

            /// The smallest and the largest number that it may have.
            pub fn range(self) -> (u64, u64) {
                match self { $(Limit::$limit => ($least, $most),)* }
            }
        }

        /// The numbers that a host runs on. Times are in milliseconds.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct ClientLimits {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl Default for ClientLimits {
            fn default() -> ClientLimits {
                ClientLimits { $($field: $default,)* }
            }
        }

        impl ClientLimits {
            /// The number of that limit.
            pub fn get(&self, limit: Limit) -> u64 {
                match limit { $(Limit::$limit => self.$field as u64,)* }
            }

            /// Sets a limit.
            ///
            /// # Panics
            /// If `value` is outside its [`Limit::range`].
            pub fn set(&mut self, limit: Limit, value: u64) {
                let (least, most) = limit.range();
                assert!((least..=most).contains(&value), "{}: {value}", limit.name());
                match limit { $(Limit::$limit => self.$field = value as $type,)* }
            }
        }
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

client_limits! {
    /// Bytes of a request target; more is answered 414.
    TargetBytes target_bytes: usize, "target-bytes", Bytes, TARGET_BYTES_MAX, 256, 32 * KIB;
    /// Bytes of a request head; more is answered 431.
    HeadBytes head_bytes: usize, "head-bytes", Bytes, HEAD_BYTES_MAX, KIB, 60 * KIB;
    /// Header fields of a request; more is answered 431.
    Fields fields: usize, "fields", Count, FIELDS_MAX, 8, FIELDS_CEILING as u64;
    /// Bytes of a request body after decoding; more is answered 413.
    BodyBytes body_bytes: usize, "body-bytes", Bytes, BODY_BYTES_MAX, 512, 16 * MIB;
    /// Bytes of extensions and trailers of a chunked body; more is answered 413.
    ChunkOverheadBytes chunk_overhead_bytes: usize, "chunk-overhead-bytes", Bytes, CHUNK_OVERHEAD_BYTES_MAX, 0, MIB;
    /// From the first byte of a head to its last, for the first one from the connection's beginning; then 408.
    HeadTime head_time_ms: u64, "head-time", Time, HEAD_TIMEOUT_MS, 100, 300_000;
    /// From the end of a head to the end of its body; then 408.
    BodyTime body_time_ms: u64, "body-time", Time, BODY_TIMEOUT_MS, 100, 600_000;
    /// How long a connection may be idle before it is closed.
    IdleTime idle_time_ms: u64, "idle-time", Time, IDLE_TIMEOUT_MS, 100, 3_600_000;
    /// How long a client may read nothing of its answers before it is cut.
    WriteStall write_stall_ms: u64, "write-stall", Time, WRITE_STALL_TIMEOUT_MS, 100, 600_000;
    /// How long a closing connection is still read before it is cut.
    Linger linger_ms: u64, "linger", Time, LINGER_TIMEOUT_MS, 100, LINGER_CEILING_MS;
    /// Requests of one connection, 0 for no limit; the last answer says `Connection: close`.
    Requests requests: u32, "requests", Count, REQUESTS_PER_CONNECTION_MAX, 0, 1_000_000_000;
    /// Requests of one connection whose answers are not written yet; beyond that it is not read.
    Pipeline pipeline: usize, "pipeline", Count, PIPELINE_DEPTH_MAX, 1, 1_024;
    /// Unwritten answer bytes of one connection; beyond that it is not read.
    UnsentBytes unsent_bytes: usize, "unsent-bytes", Bytes, UNSENT_BYTES_MAX, KIB, 16 * MIB;
    /// Connections of the host; more are answered 503.
    Connections connections: usize, "connections", Count, CONNECTIONS_MAX, 1, 1_000_000;
    /// Connections of one peer address, 0 for no limit; more are answered 503.
    AddressConnections address_connections: usize, "address-connections", Count, CONNECTIONS_PER_ADDRESS_MAX, 0, 1_000_000;
    /// Bytes of buffers that the connections of one core hold; near it those that do not read are cut, beyond it 503.
    BufferedBytes buffered_bytes: usize, "buffered-bytes", Bytes, BUFFERED_BYTES_PER_CORE_MAX, 16 * KIB, 64 * GIB;
}

/// What a request line needs besides its target: a method, a version, and the spaces between them.
pub const REQUEST_LINE_SPARE_BYTES: usize = 128;

/// A limit that contradicts another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The two of them; the first is the one that is too large or too small.
    pub between: [Limit; 2],
    /// What it takes, to be written after the first one.
    pub takes: String,
}

impl Limit {
    /// The limit of that [`name`](Limit::name).
    pub fn from_name(name: &str) -> Option<Limit> {
        Limit::ALL.iter().copied().find(|limit| limit.name() == name)
    }

    /// `value` as it is written in the configuration.
    pub fn text(self, value: u64) -> String {
        self.unit().text(value)
    }

    /// What it takes, as `takes` of an error.
    pub fn takes(self) -> String {
        let (least, most) = self.range();
        let what = match self.unit() {
            Unit::Bytes => "bytes",
            Unit::Time => "a duration",
            Unit::Count => "a number",
        };
        format!("takes {what} from {} to {}", self.text(least), self.text(most))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Unit {
    fn text(self, value: u64) -> String {
        let units: &[(u64, &str)] = match self {
            Unit::Bytes => &[(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")],
            Unit::Time => &[(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")],
            Unit::Count => &[],
        };
        match units.iter().find(|(size, _)| value > 0 && value.is_multiple_of(*size)) {
            Some((size, unit)) => format!("{}{unit}", value / size),
            None => value.to_string(),
        }
    }
}

impl ClientLimits {
    /// Whether the limits are compatible.
    ///
    /// # Errors
    /// The first two that do not.
    pub fn check(&self) -> Result<(), Contradiction> {
        let head_least = self.target_bytes + REQUEST_LINE_SPARE_BYTES;
        if self.head_bytes < head_least {
            let target = Limit::TargetBytes.text(self.target_bytes as u64);
            return Err(Contradiction {
                between: [Limit::HeadBytes, Limit::TargetBytes],
                takes: format!("must be {head_least} or more, since target-bytes is {target}"),
            });
        }
        // Buffers come in sizes of which each is four times the one before, so one may be that much larger than what it
        // holds. With less than this a single connection could not have what the other limits give it.
        let each = [Limit::HeadBytes, Limit::BodyBytes, Limit::UnsentBytes];
        let buffered_least = 4 * each.iter().map(|&limit| self.get(limit)).sum::<u64>();
        if (self.buffered_bytes as u64) < buffered_least {
            let largest = each.into_iter().max_by_key(|&limit| self.get(limit)).unwrap_or(Limit::HeadBytes);
            return Err(Contradiction {
                between: [Limit::BufferedBytes, largest],
                takes: format!(
                    "must be {} or more, four times head-bytes, body-bytes and unsent-bytes together",
                    Limit::BufferedBytes.text(buffered_least)
                ),
            });
        }
        if self.address_connections > self.connections {
            return Err(Contradiction {
                between: [Limit::AddressConnections, Limit::Connections],
                takes: format!("must not be above connections, which is {}", self.connections),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_go_together() {
        let limits = ClientLimits::default();
        let mut copy = limits.clone();
        for (index, &limit) in Limit::ALL.iter().enumerate() {
            assert_eq!(limit as usize, index);
            assert_eq!(Limit::from_name(limit.name()), Some(limit));
            let (least, most) = limit.range();
            assert!((least..=most).contains(&limits.get(limit)), "{limit}");
            copy.set(limit, most);
            assert_eq!(copy.get(limit), most, "{limit}");
            copy.set(limit, limits.get(limit));
        }
        assert_eq!(copy, limits);
        assert_eq!(limits.check(), Ok(()));
        assert_eq!(Limit::from_name("heads"), None);
    }

    #[test]
    fn the_documentation_has_each_of_them() {
        let page = include_str!("../../docs/configuration.md");
        for &limit in Limit::ALL {
            let (least, most) = limit.range();
            let [default, least, most] =
                [ClientLimits::default().get(limit), least, most].map(|value| limit.text(value));
            let row = format!("\n| `{limit}` | {default} | {least} | {most} | ");
            assert_eq!(page.matches(&row).count(), 1, "{row}");
        }
    }

    #[test]
    fn numbers_are_told_with_their_unit() {
        for (limit, value, text) in [
            (Limit::HeadBytes, 16 * 1024, "16KiB"),
            (Limit::HeadBytes, 1_500, "1500"),
            (Limit::BufferedBytes, 256 << 20, "256MiB"),
            (Limit::BufferedBytes, 64 << 30, "64GiB"),
            (Limit::ChunkOverheadBytes, 0, "0"),
            (Limit::IdleTime, 75_000, "75s"),
            (Limit::IdleTime, 3_600_000, "1h"),
            (Limit::IdleTime, 1_500, "1500ms"),
            (Limit::HeadTime, 300_000, "5m"),
            (Limit::Connections, 1_024, "1024"),
        ] {
            assert_eq!(limit.text(value), text);
        }
        assert_eq!(Limit::HeadTime.takes(), "takes a duration from 100ms to 5m");
        assert_eq!(Limit::Pipeline.takes(), "takes a number from 1 to 1024");
    }

    #[test]
    fn contradictions_are_found() {
        let check = |limit, value| {
            let mut limits = ClientLimits::default();
            limits.set(limit, value);
            limits.check().map_err(|wrong| (wrong.between, wrong.takes))
        };
        let (between, takes) = check(Limit::TargetBytes, 16 * 1024).unwrap_err();
        assert_eq!(between, [Limit::HeadBytes, Limit::TargetBytes]);
        assert_eq!(takes, "must be 16512 or more, since target-bytes is 16KiB");
        assert_eq!(check(Limit::TargetBytes, 16 * 1024 - 128), Ok(()));
        let (between, takes) = check(Limit::BufferedBytes, 500 << 10).unwrap_err();
        assert_eq!(between, [Limit::BufferedBytes, Limit::BodyBytes]);
        assert!(takes.starts_with("must be 512KiB or more, four times head-bytes"), "{takes}");
        assert_eq!(check(Limit::BufferedBytes, 512 << 10), Ok(()));
        let (between, takes) = check(Limit::AddressConnections, 100_001).unwrap_err();
        assert_eq!(between, [Limit::AddressConnections, Limit::Connections]);
        assert_eq!(takes, "must not be above connections, which is 100000");
    }
}
