//! Hashes.

use super::super::dataset::Dataset;
use super::super::values::Hash;
use super::super::wire::Reply;
use super::numbers::{cursor, scan_count};
use super::{Outcome, wrong_arity};

pub fn hset(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    if words.len() % 2 == 1 {
        return Err(wrong_arity("hset"));
    }
    let hash: &mut Hash = data.get_or_new(&words[1])?;
    let mut added = 0;
    for pair in words[2..].chunks_exact(2) {
        hash.note_argument(&pair[0]);
        hash.note_argument(&pair[1]);
    }
    for pair in words[2..].chunks_exact(2) {
        added += i64::from(hash.set(pair[0].clone(), pair[1].clone()));
    }
    data.changes += 1;
    Ok(Reply::Integer(added))
}

fn value(hash: Option<&Hash>, field: &[u8]) -> Reply {
    hash.and_then(|hash| hash.get(field)).map_or(Reply::Nil, |value| Reply::bulk(value.as_slice()))
}

pub fn hget(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    Ok(value(data.get(&words[1])?, &words[2]))
}

pub fn hmget(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let hash = data.get(&words[1])?;
    Ok(Reply::Array(words[2..].iter().map(|field| value(hash, field)).collect()))
}

pub fn hgetall(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let entries = data.get::<Hash>(&words[1])?.into_iter().flat_map(Hash::iter);
    Ok(Reply::Array(
        entries.flat_map(|(field, value)| [field, value]).map(|text| Reply::bulk(text.as_slice())).collect(),
    ))
}

pub fn hlen(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    Ok(Reply::Integer(data.get::<Hash>(&words[1])?.map_or(0, Hash::len) as i64))
}

pub fn hdel(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let Some(hash) = data.get_mut::<Hash>(&words[1])? else { return Ok(Reply::Integer(0)) };
    let removed = words[2..].iter().filter(|field| hash.remove(field)).count();
    if hash.is_empty() {
        data.keys.remove(&words[1]);
    }
    data.changes += removed as u64;
    Ok(Reply::Integer(removed as i64))
}

pub fn hscan(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let cursor = cursor(&words[2])?;
    let (next, entries) = match data.get::<Hash>(&words[1])? {
        Some(hash) => hash.scan(cursor, scan_count(&words[3..])?),
        None => (0, Vec::new()),
    };
    let entries = entries.into_iter().flat_map(|(field, value)| [Reply::Bulk(field), Reply::Bulk(value)]);
    Ok(Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(entries.collect())]))
}
