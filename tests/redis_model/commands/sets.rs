//! Sets. Redis tells their members in no order; here they are sorted.

use std::collections::BTreeSet;

use super::super::dataset::Dataset;
use super::super::wire::Reply;
use super::Outcome;

type Set = BTreeSet<Vec<u8>>;

pub fn sadd(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let set: &mut Set = data.get_or_new(&words[1])?;
    let added = words[2..].iter().filter(|member| set.insert((*member).clone())).count();
    data.changes += added as u64;
    Ok(Reply::Integer(added as i64))
}

pub fn srem(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let Some(set) = data.get_mut::<Set>(&words[1])? else { return Ok(Reply::Integer(0)) };
    let removed = words[2..].iter().filter(|member| set.remove(*member)).count();
    if set.is_empty() {
        data.keys.remove(&words[1]);
    }
    data.changes += removed as u64;
    Ok(Reply::Integer(removed as i64))
}

pub fn sismember(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let is_member = data.get::<Set>(&words[1])?.is_some_and(|set| set.contains(&words[2]));
    Ok(Reply::Integer(is_member.into()))
}

pub fn smembers(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let members = data.get::<Set>(&words[1])?.into_iter().flatten();
    Ok(Reply::Array(members.map(|member| Reply::bulk(member.as_slice())).collect()))
}
