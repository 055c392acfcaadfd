//! The keys of one server, each with a value of one type.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::stream::Stream;
use super::values::{Hash, SortedSet};
use super::wire::Reply;

/// What a key holds.
#[derive(Clone, Debug)]
pub enum Value {
    Text(Vec<u8>),
    Hash(Hash),
    SortedSet(SortedSet),
    Set(BTreeSet<Vec<u8>>),
    Stream(Stream),
}

impl Value {
    /// As TYPE names it.
    pub fn type_word(&self) -> &'static str {
        match self {
            Value::Text(_) => "string",
            Value::Hash(_) => "hash",
            Value::SortedSet(_) => "zset",
            Value::Set(_) => "set",
            Value::Stream(_) => "stream",
        }
    }
}

/// All keys.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    pub keys: FxHashMap<Vec<u8>, Value>,
    /// Counts changes, so that whoever carries a command out sees whether it made one.
    pub changes: u64,
}

/// A type that a key can hold, and how to get at it.
pub trait Held: Default {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
}

macro_rules! held {
    ($($variant:ident $type:ty),* $(,)?) => {
        $(impl Held for $type {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(held) = value { Some(held) } else { None }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(held) = value { Some(held) } else { None }
            }

            fn into_value(self) -> Value {
                Value::$variant(self)
            }
        })*
    };
}

held! {
    Text Vec<u8>,
    Hash Hash,
    SortedSet SortedSet,
    Set BTreeSet<Vec<u8>>,
    Stream Stream,
}

impl Dataset {
    /// What the key holds, if anything.
    ///
    /// # Errors
    /// WRONGTYPE.
    pub fn get<T: Held>(&self, key: &[u8]) -> Result<Option<&T>, Reply> {
        self.keys.get(key).map(|value| T::of(value).ok_or_else(wrong_type)).transpose()
    }

    /// As [`get`](Dataset::get), to change it.
    pub fn get_mut<T: Held>(&mut self, key: &[u8]) -> Result<Option<&mut T>, Reply> {
        self.keys.get_mut(key).map(|value| T::of_mut(value).ok_or_else(wrong_type)).transpose()
    }

    /// As [`get_mut`](Dataset::get_mut), made where there is none.
    pub fn get_or_new<T: Held>(&mut self, key: &[u8]) -> Result<&mut T, Reply> {
        if !self.keys.contains_key(key) {
            self.keys.insert(key.to_vec(), T::default().into_value());
        }
        Ok(self.get_mut(key)?.expect("it was made"))
    }
}

fn wrong_type() -> Reply {
    Reply::error("WRONGTYPE Operation against a key holding the wrong kind of value")
}
