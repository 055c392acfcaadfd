//! Keys of any type, and strings.

use super::super::dataset::{Dataset, Value};
use super::super::wire::Reply;
use super::numbers::integer;
use super::{Outcome, unmodelled};

pub fn exists(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    Ok(Reply::Integer(words[1..].iter().filter(|key| data.keys.contains_key(*key)).count() as i64))
}

pub fn type_of(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    Ok(Reply::Status(data.keys.get(&words[1]).map_or("none", Value::type_word)))
}

/// All of them, sorted here.
pub fn keys(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    if words[1] != b"*" {
        unmodelled(words);
    }
    let mut keys: Vec<_> = data.keys.keys().collect();
    keys.sort();
    Ok(Reply::Array(keys.into_iter().map(|key| Reply::bulk(key.as_slice())).collect()))
}

pub fn get(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    Ok(data.get::<Vec<u8>>(&words[1])?.map_or(Reply::Nil, |text| Reply::bulk(text.as_slice())))
}

pub fn set(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    match &words[3..] {
        [] => {}
        [option] if option.eq_ignore_ascii_case(b"NX") => {
            if data.keys.contains_key(&words[1]) {
                return Ok(Reply::Nil);
            }
        }
        _ => unmodelled(words),
    }
    data.keys.insert(words[1].clone(), Value::Text(words[2].clone()));
    data.changes += 1;
    Ok(Reply::Status("OK"))
}

pub fn incr(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let text = data.get::<Vec<u8>>(&words[1])?.map_or(&b"0"[..], Vec::as_slice);
    let next = integer(text)?
        .checked_add(1)
        .ok_or_else(|| Reply::error("ERR increment or decrement would overflow"))?;
    data.keys.insert(words[1].clone(), Value::Text(next.to_string().into_bytes()));
    data.changes += 1;
    Ok(Reply::Integer(next))
}

pub fn del(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let removed = words[1..].iter().filter(|key| data.keys.remove(*key).is_some()).count();
    data.changes += removed as u64;
    Ok(Reply::Integer(removed as i64))
}
