//! Sorted sets.

use super::super::dataset::Dataset;
use super::super::values::{Score, SortedSet};
use super::super::wire::Reply;
use super::numbers::{self, cursor, float, integer, scan_count, text_of_score};
use super::{Outcome, syntax_error, unmodelled};

/// With XX only members that are there change.
pub fn zadd(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    if words[2].eq_ignore_ascii_case(b"XX") {
        return zadd_existing(data, words);
    }
    if words.len() % 2 == 1 {
        return Err(syntax_error());
    }
    let score = |text: &[u8]| float(text).ok_or_else(|| Reply::error("ERR value is not a valid float"));
    let scores: Vec<f64> = words[2..].iter().step_by(2).map(|text| score(text)).collect::<Result<_, _>>()?;
    let set: &mut SortedSet = data.get_or_new(&words[1])?;
    let (mut added, mut changed) = (0, 0);
    for (score, member) in scores.into_iter().zip(words[3..].iter().step_by(2)) {
        let (is_new, is_changed) = set.add(member.clone(), Score(score));
        added += i64::from(is_new);
        changed += u64::from(is_changed);
    }
    data.changes += changed;
    Ok(Reply::Integer(added))
}

fn zadd_existing(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let [_, key, _, score, member] = words else { unmodelled(words) };
    float(score).ok_or_else(|| Reply::error("ERR value is not a valid float"))?;
    match data.get::<SortedSet>(key)?.is_some_and(|set| set.iter().any(|(_, known)| known == member)) {
        true => unmodelled(words),
        false => Ok(Reply::Integer(0)),
    }
}

pub fn zrem(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let Some(set) = data.get_mut::<SortedSet>(&words[1])? else { return Ok(Reply::Integer(0)) };
    let removed = words[2..].iter().filter(|member| set.remove(member)).count();
    if set.is_empty() {
        data.keys.remove(&words[1]);
    }
    data.changes += removed as u64;
    Ok(Reply::Integer(removed as i64))
}

pub fn zcard(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    Ok(Reply::Integer(data.get::<SortedSet>(&words[1])?.map_or(0, SortedSet::len) as i64))
}

pub fn zscore(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let score = data.get::<SortedSet>(&words[1])?.and_then(|set| set.score(&words[2]));
    Ok(score.map_or(Reply::Nil, |Score(score)| Reply::bulk(text_of_score(score))))
}

/// All of it, with scores.
pub fn zrange(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    match &words[2..] {
        [first, last, option] if first == b"0" && last == b"-1" && option == b"WITHSCORES" => {}
        _ => unmodelled(words),
    }
    let entries = data.get::<SortedSet>(&words[1])?.into_iter().flat_map(SortedSet::iter);
    Ok(Reply::Array(entries.flat_map(member_and_score).collect()))
}

fn member_and_score((score, member): &(Score, Vec<u8>)) -> [Reply; 2] {
    [Reply::bulk(member.as_slice()), Reply::bulk(text_of_score(score.0))]
}

/// A bound of a range of scores, and whether it is excluded.
fn bound(text: &[u8]) -> Result<(f64, bool), Reply> {
    let (text, is_excluded) = match text.strip_prefix(b"(") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let bound = numbers::bound(text).ok_or_else(|| Reply::error("ERR min or max is not a float"))?;
    Ok((bound, is_excluded))
}

pub fn zrangebyscore(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let (with_scores, rest) = match &words[4..] {
        [word, rest @ ..] if word.eq_ignore_ascii_case(b"WITHSCORES") => (true, rest),
        rest => (false, rest),
    };
    let (offset, count) = match rest {
        [] => (0, -1),
        [word, offset, count] if word.eq_ignore_ascii_case(b"LIMIT") => (integer(offset)?, integer(count)?),
        _ => unmodelled(words),
    };
    let ((least, above), (most, below)) = (bound(&words[2])?, bound(&words[3])?);
    let Some(set) = data.get::<SortedSet>(&words[1])? else { return Ok(Reply::Array(Vec::new())) };
    if offset < 0 {
        return Ok(Reply::Array(Vec::new()));
    }
    let found = set
        .iter()
        .skip_while(|(score, _)| score.0 < least || (above && score.0 == least))
        .take_while(|(score, _)| score.0 < most || (!below && score.0 == most))
        .skip(offset as usize)
        .take(usize::try_from(count).unwrap_or(usize::MAX));
    let told = found.flat_map(|entry| member_and_score(entry).into_iter().take(1 + usize::from(with_scores)));
    Ok(Reply::Array(told.collect()))
}

pub fn zremrangebyscore(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let ((least, above), (most, below)) = (bound(&words[2])?, bound(&words[3])?);
    let Some(set) = data.get_mut::<SortedSet>(&words[1])? else { return Ok(Reply::Integer(0)) };
    let is_within = |score: f64| {
        (score > least || (!above && score == least)) && (score < most || (!below && score == most))
    };
    let gone: Vec<Vec<u8>> =
        set.iter().filter(|(score, _)| is_within(score.0)).map(|(_, member)| member.clone()).collect();
    for member in &gone {
        set.remove(member);
    }
    if set.is_empty() {
        data.keys.remove(&words[1]);
    }
    data.changes += gone.len() as u64;
    Ok(Reply::Integer(gone.len() as i64))
}

pub fn zscan(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let cursor = cursor(&words[2])?;
    let (next, entries) = match data.get::<SortedSet>(&words[1])? {
        Some(set) => set.scan(cursor, scan_count(&words[3..])?),
        None => (0, Vec::new()),
    };
    let entries = entries.iter().flat_map(member_and_score);
    Ok(Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(entries.collect())]))
}
