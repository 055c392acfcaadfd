//! Clients that read a stream: what each loop says of the time, as the latest it has whenever there is room. Between two other
//! requests of a pipeline, in its place; never something older after something newer; and in calm nothing that is old.
//!
//! No path of the product streams. [`Served`](crate::served::Served) answers `/sim/news/{parts}`, over the product's streams.

use super::*;
use crate::mutants::SeamKind;

/// Who has heard nothing for so long dials again, while there are faults.
const PATIENCE_US: u64 = 2_500_000;

/// In calm no stream is further behind: a loop turns at least once a sync.
const BEHIND_US: u64 = SYNC_INTERVAL_MS * 1_000 + 1_000_000;

const TICK_US: u64 = 400_000;

/// One of them.
pub struct Reader {
    pipe: Option<PipeId>,
    received: Vec<u8>,
    /// How many parts it has asked for, and which of the three answers comes next.
    parts: usize,
    answers: usize,
    /// The latest time that it was told of in this stream, in milliseconds.
    told_ms: Option<u64>,
    heard_at: u64,
    random: Random,
}

/// Those of a run; none where a mutant is to be found by what it does to bookings.
pub fn all(seed: u64, mutant: Option<Mutant>) -> Vec<Reader> {
    let are_there = mutant.is_none_or(|mutant| mutant.seam == Some(SeamKind::Asleep));
    (0..if are_there { 2 } else { 0 }).map(|number| Reader::new(seed, number)).collect()
}

impl Reader {
    fn new(seed: u64, number: usize) -> Reader {
        Reader {
            pipe: None,
            received: Vec::new(),
            parts: 0,
            answers: 0,
            told_ms: None,
            heard_at: 0,
            random: Random::new(seed, "reader", number as u64),
        }
    }

    /// Takes an answer, or a part of the stream, off what was received; `None` if there is none that is whole.
    ///
    /// # Errors
    /// What is wrong with it.
    fn take(&mut self, now: u64) -> Result<Option<()>, String> {
        let received = std::mem::take(&mut self.received);
        let text = std::str::from_utf8(&received).map_err(|error| error.to_string())?;
        let rest = match self.answers {
            0 | 2 => {
                let whole = text.split_once("\r\n\r\n").and_then(|(head, body)| {
                    let length = head.split("Content-Length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
                    Some((body.get(..length)?, body.get(length..)?))
                });
                whole.map(|(body, rest)| {
                    self.answers += 1;
                    body.contains("\"/problems/sold-out\"").then_some(rest).ok_or_else(|| body.to_owned())
                })
            }
            // The head of the stream, then its chunks.
            1 if text.starts_with("HTTP/") => text.split_once("\r\n\r\n").map(|(head, rest)| {
                head.contains("\r\nTransfer-Encoding: chunked").then_some(rest).ok_or_else(|| head.to_owned())
            }),
            _ => {
                let chunk = text.split_once("\r\n").map(|(size, after)| {
                    let size = usize::from_str_radix(size, 16).map_err(|_| text.to_owned())?;
                    Ok::<_, String>((size, after))
                });
                match chunk.transpose()? {
                    Some((size, after)) if after.len() >= size + 2 => {
                        let (part, rest) = after.split_at(size);
                        self.take_part(part, now)?;
                        Some(rest.strip_prefix("\r\n").ok_or_else(|| text.to_owned()))
                    }
                    _ => None,
                }
            }
        };
        match rest.transpose()? {
            None => {
                self.received = received;
                Ok(None)
            }
            Some(rest) => {
                self.received = rest.as_bytes().to_vec();
                self.heard_at = now;
                Ok(Some(()))
            }
        }
    }

    fn take_part(&mut self, part: &str, now: u64) -> Result<(), String> {
        if part.is_empty() {
            self.answers += 1;
            return Ok(());
        }
        let at_ms: u64 =
            part.split(' ').next().and_then(|word| word.parse().ok()).ok_or_else(|| part.to_owned())?;
        self.parts = self.parts.checked_sub(1).ok_or("more parts than it asked for")?;
        if self.told_ms.is_some_and(|told_ms| at_ms < told_ms) || at_ms > now / 1_000 {
            return Err(format!("of {at_ms} after {:?}", self.told_ms));
        }
        self.told_ms = Some(at_ms);
        Ok(())
    }

    /// Whether it waits for nothing, or was told something that is not old.
    fn is_up_to_date(&self, now: u64) -> bool {
        self.pipe.is_none() || self.told_ms.is_some_and(|told_ms| told_ms * 1_000 + BEHIND_US >= now)
    }
}

impl World {
    pub(super) fn readers_are_up_to_date(&self) -> bool {
        self.readers.iter().all(|reader| reader.is_up_to_date(self.now))
    }

    pub(super) fn wake_reader(&mut self, number: usize) {
        let now = self.now;
        let hosts = self.scenario.hosts;
        let reader = &mut self.readers[number];
        // What was lost before they healed is noticed by then.
        let is_faulty = now < self.scenario.healed_at + 2 * PATIENCE_US;
        if let Some(pipe) = reader.pipe
            && is_faulty
            && now > reader.heard_at + PATIENCE_US
        {
            self.net.abort(pipe, Side::Dialler, now);
            reader.pipe = None;
        }
        if reader.pipe.is_none() {
            let host = reader.random.below(hosts);
            let core = reader.random.below(self.scenario.cores);
            let to = Place::Loop { host, core, incarnation: self.hosts[host].incarnation };
            reader.pipe = Some(self.net.dial(Place::Reader(number), to, now));
            (reader.received, reader.heard_at) = (Vec::new(), now);
            self.ask_for_news(number);
        }
        self.push(now + TICK_US, Event::Reader(number));
    }

    fn ask_for_news(&mut self, number: usize) {
        let reader = &mut self.readers[number];
        let Some(pipe) = reader.pipe else { return };
        // In calm one that does not end: the latest is to be heard on it.
        let is_faulty = self.now < self.scenario.healed_at;
        reader.parts = if is_faulty { reader.random.range(1, 30) as usize } else { 1_000_000 };
        (reader.answers, reader.told_ms) = (0, None);
        let paths = [
            "/problems/sold-out".to_owned(),
            format!("/sim/news/{}", reader.parts),
            "/problems/sold-out".to_owned(),
        ];
        let requests = paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: sim\r\n\r\n")).concat();
        self.net.write_all(pipe, Side::Dialler, requests.as_bytes(), self.now);
    }

    pub(super) fn reader_piece(
        &mut self,
        number: usize,
        pipe: PipeId,
        piece: Piece,
    ) -> Result<(), Violation> {
        let now = self.now;
        let Some(reader) = self.readers.get_mut(number).filter(|reader| reader.pipe == Some(pipe)) else {
            return Ok(());
        };
        match piece {
            Piece::Open | Piece::Taken => {}
            Piece::End | Piece::Reset => {
                self.net.close(pipe, Side::Dialler, now);
                reader.pipe = None;
            }
            Piece::Bytes(bytes) => {
                // Turned away: another host may have room.
                reader.received.extend(bytes);
                if reader.answers == 0 && reader.received.starts_with(b"HTTP/1.1 503") {
                    self.net.close(pipe, Side::Dialler, now);
                    reader.pipe = None;
                    return Ok(());
                }
                loop {
                    match reader.take(now) {
                        Ok(None) => break,
                        Ok(Some(())) => {}
                        Err(what) => return Err(Violation::new("garbled stream", what)),
                    }
                }
                if reader.answers == 3 {
                    self.counts.add("stream heard to its end");
                    self.ask_for_news(number);
                }
            }
        }
        Ok(())
    }
}
