//! Streams and their consumer groups.

use std::rc::Rc;

use super::super::dataset::Dataset;
use super::super::stream::{EntryId, Fields, Group, NODE_ENTRIES_MAX, Stream};
use super::super::wire::{Reply, Words};
use super::numbers::integer;
use super::{Outcome, syntax_error, unmodelled, wrong_arity};

fn id(text: &[u8], sequence_if_none: u64) -> Result<EntryId, Reply> {
    let error = || Reply::error("ERR Invalid stream ID specified as stream command argument");
    EntryId::parse(text, sequence_if_none).ok_or_else(error)
}

pub fn xadd(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    if words[2].contains(&b'*') || words[2].first().is_some_and(u8::is_ascii_alphabetic) {
        unmodelled(words);
    }
    let id = id(&words[2], 0)?;
    if words.len().is_multiple_of(2) {
        return Err(wrong_arity("xadd"));
    }
    if id == EntryId::default() {
        return Err(Reply::error("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let stream: &mut Stream = data.get_or_new(&words[1])?;
    if id <= stream.last_id {
        return Err(Reply::error(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ));
    }
    stream.add(id, Rc::new(words[3..].to_vec()));
    data.changes += 1;
    Ok(Reply::bulk(id.text()))
}

pub fn xlen(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    Ok(Reply::Integer(data.get::<Stream>(&words[1])?.map_or(0, Stream::len) as i64))
}

pub fn xrange(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    range(data, words, &words[2], &words[3], false)
}

pub fn xrevrange(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    range(data, words, &words[3], &words[2], true)
}

fn range(data: &Dataset, words: &[Vec<u8>], first: &[u8], last: &[u8], newest_first: bool) -> Outcome {
    let bound = |text: &[u8], sequence_if_none: u64| {
        let (text, is_excluded) = match text.strip_prefix(b"(") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let id = match text {
            b"-" if !is_excluded => EntryId::default(),
            b"+" if !is_excluded => EntryId::MAX,
            text => id(text, sequence_if_none)?,
        };
        Ok((id, is_excluded))
    };
    let (mut least, above) = bound(first, 0)?;
    if above {
        least = least.next().ok_or_else(|| Reply::error("ERR invalid start ID for the interval"))?;
    }
    let (mut most, below) = bound(last, u64::MAX)?;
    if below {
        most = most.previous().ok_or_else(|| Reply::error("ERR invalid end ID for the interval"))?;
    }
    let count = match &words[4..] {
        [] => usize::MAX,
        [word, count] if word.eq_ignore_ascii_case(b"COUNT") => integer(count)?.max(0) as usize,
        _ => unmodelled(words),
    };
    let Some(stream) = data.get::<Stream>(&words[1])? else { return Ok(Reply::Array(Vec::new())) };
    if count == 0 {
        return Ok(Reply::NilArray);
    }
    let range = stream.range(least, most);
    Ok(Reply::Array(match newest_first {
        false => range.take(count).map(entry).collect(),
        true => range.rev().take(count).map(entry).collect(),
    }))
}

fn entry((id, fields): &(EntryId, Fields)) -> Reply {
    let fields = fields.iter().map(|text| Reply::bulk(text.as_slice())).collect();
    Reply::Array(vec![Reply::bulk(id.text()), Reply::Array(fields)])
}

/// `MINID [=|~] id [LIMIT count]`.
pub fn xtrim(data: &mut Dataset, words: &mut Words) -> Outcome {
    if !words[2].eq_ignore_ascii_case(b"MINID") {
        unmodelled(words);
    }
    let at = if matches!(words[3].as_slice(), b"=" | b"~") { 4 } else { 3 };
    let is_about = words[3] == b"~";
    let keep = id(words.get(at).ok_or_else(syntax_error)?, 0)?;
    let limit = match &words[at + 1..] {
        [] => NODE_ENTRIES_MAX * 100,
        [word, limit] if word.eq_ignore_ascii_case(b"LIMIT") => {
            let Ok(limit) = usize::try_from(integer(limit)?) else {
                return Err(Reply::error("ERR The LIMIT argument must be >= 0."));
            };
            if !is_about {
                return Err(Reply::error(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
            limit
        }
        _ => unmodelled(words),
    };
    let Some(stream) = data.get_mut::<Stream>(&words[1])? else { return Ok(Reply::Integer(0)) };
    let removed = stream.trim(keep, is_about.then_some(limit));
    if is_about {
        // A replica removes exactly what was removed here, which may be all.
        let first = stream.first_id().unwrap_or(EntryId::MAX);
        words.truncate(3);
        words.extend([b"=".to_vec(), first.text().into_bytes()]);
    }
    data.changes += removed as u64;
    Ok(Reply::Integer(removed as i64))
}

/// `GROUPS key`. What has been read and how far behind that is are left out: nobody here asks.
pub fn xinfo(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let [_, what, key] = words else { unmodelled(words) };
    if !what.eq_ignore_ascii_case(b"GROUPS") {
        unmodelled(words);
    }
    let Some(stream) = data.get::<Stream>(key)? else { return Err(Reply::error("ERR no such key")) };
    let facts = |(name, group): (&Vec<u8>, &Group)| {
        Reply::Array(vec![
            Reply::bulk("name"),
            Reply::bulk(name.as_slice()),
            Reply::bulk("consumers"),
            Reply::Integer(group.consumers.len() as i64),
            Reply::bulk("pending"),
            Reply::Integer(group.pending.len() as i64),
            Reply::bulk("last-delivered-id"),
            Reply::bulk(group.last_delivered.text()),
        ])
    };
    Ok(Reply::Array(stream.groups.iter().map(facts).collect()))
}

fn no_group(key: &[u8], group: &[u8], what: &str) -> Reply {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Reply::Error(format!("NOGROUP No such key '{key}' or consumer group '{group}'{what}"))
}

/// `key group`.
pub fn xpending(data: &Dataset, words: &[Vec<u8>]) -> Outcome {
    let [_, key, name] = words else { unmodelled(words) };
    let group = data.get::<Stream>(key)?.and_then(|stream| stream.groups.get(name));
    let Some(group) = group else { return Err(no_group(key, name, "")) };
    let (Some(first), Some(last)) = (group.pending.first_key_value(), group.pending.last_key_value()) else {
        return Ok(Reply::Array(vec![Reply::Integer(0), Reply::Nil, Reply::Nil, Reply::NilArray]));
    };
    let of_consumer = |name: &Vec<u8>| {
        let count = group.pending.values().filter(|consumer| *consumer == name).count();
        (count > 0).then(|| Reply::Array(vec![Reply::bulk(name.as_slice()), Reply::bulk(count.to_string())]))
    };
    Ok(Reply::Array(vec![
        Reply::Integer(group.pending.len() as i64),
        Reply::bulk(first.0.text()),
        Reply::bulk(last.0.text()),
        Reply::Array(group.consumers.iter().filter_map(of_consumer).collect()),
    ]))
}

/// `CREATE key group id|$`, `SETID key group id|$` and `DESTROY key group`.
pub fn xgroup(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let (Some(what), Some(key), Some(name)) = (words.get(1), words.get(2), words.get(3)) else {
        unmodelled(words)
    };
    let Some(stream) = data.get_mut::<Stream>(key)? else {
        return Err(Reply::error(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
             option to create an empty stream automatically.",
        ));
    };
    let from = |stream: &Stream| match words.get(4..) {
        Some([place]) if place == b"$" => Ok(stream.last_id),
        Some([place]) => id(place, 0),
        _ => unmodelled(words),
    };
    let reply = match what.to_ascii_uppercase().as_slice() {
        b"CREATE" => {
            let last_delivered = from(stream)?;
            if stream.groups.contains_key(name) {
                return Err(Reply::error("BUSYGROUP Consumer Group name already exists"));
            }
            stream.groups.insert(name.clone(), Group { last_delivered, ..Group::default() });
            Reply::Status("OK")
        }
        b"SETID" => {
            let last_delivered = from(stream)?;
            let Some(group) = stream.groups.get_mut(name) else { unmodelled(words) };
            group.last_delivered = last_delivered;
            Reply::Status("OK")
        }
        b"DESTROY" => match stream.groups.remove(name) {
            Some(_) => Reply::Integer(1),
            None => return Ok(Reply::Integer(0)),
        },
        _ => unmodelled(words),
    };
    data.changes += 1;
    Ok(reply)
}

/// `GROUP group consumer COUNT count STREAMS key >`.
pub fn xreadgroup(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let [_, of, name, consumer, word, count, streams, key, new] = words else { unmodelled(words) };
    let texts: [&[u8]; 4] = [of, word, streams, new];
    if texts != [b"GROUP".as_slice(), b"COUNT", b"STREAMS", b">"] {
        unmodelled(words);
    }
    let count = integer(count)?.max(1) as usize;
    let in_command = " in XREADGROUP with GROUP option";
    let Some(stream) = data.get_mut::<Stream>(key)? else { return Err(no_group(key, name, in_command)) };
    let Some(group) = stream.groups.get(name) else { return Err(no_group(key, name, in_command)) };
    let start = group.last_delivered.next().expect("an id below the highest");
    let found: Vec<_> = stream.range(start, EntryId::MAX).take(count).cloned().collect();
    let group = stream.groups.get_mut(name).expect("it was there");
    let is_new = group.consumers.insert(consumer.clone());
    for (id, _) in &found {
        group.pending.insert(*id, consumer.clone());
        group.last_delivered = *id;
    }
    data.changes += found.len() as u64 + u64::from(is_new);
    if found.is_empty() {
        return Ok(Reply::NilArray);
    }
    let entries = Reply::Array(found.iter().map(entry).collect());
    Ok(Reply::Array(vec![Reply::Array(vec![Reply::bulk(key.as_slice()), entries])]))
}

/// `key group id...`.
pub fn xack(data: &mut Dataset, words: &[Vec<u8>]) -> Outcome {
    let ids: Vec<EntryId> = words[3..].iter().map(|text| id(text, 0)).collect::<Result<_, _>>()?;
    let group = data.get_mut::<Stream>(&words[1])?.and_then(|stream| stream.groups.get_mut(&words[2]));
    let Some(group) = group else { return Ok(Reply::Integer(0)) };
    let acknowledged = ids.iter().filter(|id| group.pending.remove(id).is_some()).count();
    data.changes += acknowledged as u64;
    Ok(Reply::Integer(acknowledged as i64))
}
