use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use super::*;
use crate::limits;

/// A disk that can be full, slow, and looked at.
#[derive(Clone, Default)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Bytes that fit.
    room: Option<Arc<Mutex<usize>>>,
    synced: Arc<Mutex<bool>>,
    /// Each write waits for a word from here, and for ever for none.
    gate: Option<Arc<Mutex<mpsc::Receiver<()>>>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(gate) = &self.gate {
            let _ = gate.lock().unwrap().recv();
        }
        let mut count = bytes.len();
        if let Some(room) = &self.room {
            let mut room = room.lock().unwrap();
            count = count.min(*room);
            *room -= count;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        self.bytes.lock().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Disk {
    fn sync(&mut self) -> io::Result<()> {
        *self.synced.lock().unwrap() = true;
        Ok(())
    }
}

impl Disk {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

fn line(outcome: OutcomeLabel) -> Line<'static> {
    Line {
        at: WallTime(1_763_827_200_123),
        sale: None,
        booking: None,
        quantity: Quantity::ONE,
        buyer: None,
        outcome,
        status: 409,
        client: IpAddr::from([203, 0, 113, 9]),
        proxy: None,
    }
}

#[test]
fn lines_are_as_documented() {
    let disk = Disk::default();
    let log = AccessLog::start(disk.clone(), "test").unwrap();
    let mut buffer = log.buffer();
    let (sale, booking, buyer) = (
        SaleName::parse("ticket").unwrap(),
        BookingId::parse("b-1").unwrap(),
        BuyerId::parse("u-81").unwrap(),
    );
    buffer.push(&Line {
        sale: Some(&sale),
        booking: Some(&booking),
        quantity: Quantity::new(2).unwrap(),
        buyer: Some(&buyer),
        status: 201,
        client: "2001:db8::7".parse().unwrap(),
        proxy: Some(IpAddr::from([10, 0, 0, 1])),
        ..line(OutcomeLabel::Granted)
    });
    buffer.push(&Line { at: WallTime(0), ..line(OutcomeLabel::SoldOut) });
    buffer.hand_over();
    log.close().unwrap();
    let lines = disk.lines();
    assert_eq!(
        lines,
        [
            "{\"at\":\"2025-11-22T16:00:00.123Z\",\"sale\":\"ticket\",\"booking\":\"b-1\",\"quantity\":2,\
             \"buyer\":\"u-81\",\"outcome\":\"granted\",\"status\":201,\"client\":\"2001:db8::7\",\"proxy\":\"10.0.0.1\"}",
            "{\"at\":\"1970-01-01T00:00:00.000Z\",\"sale\":null,\"booking\":null,\"quantity\":1,\
             \"outcome\":\"sold-out\",\"status\":409,\"client\":\"203.0.113.9\"}",
        ]
    );
    for line in lines {
        let _: serde_json::Value = serde_json::from_str(&line).unwrap();
    }
    assert!(*disk.synced.lock().unwrap());
}

#[test]
fn every_outcome_has_a_word_of_its_own() {
    for outcome in OutcomeLabel::ALL {
        assert_eq!(OutcomeLabel::from_label(outcome.label()), Some(*outcome));
    }
    assert_eq!(OutcomeLabel::from_label("lost"), None);
}

#[test]
fn lines_of_many_cores_stay_whole_and_in_order() {
    let disk = Disk::default();
    let log = AccessLog::start(disk.clone(), "test").unwrap();
    std::thread::scope(|scope| {
        for core in 1..=4_u16 {
            let mut buffer = log.buffer();
            scope.spawn(move || {
                for turn in 1..=50_u32 {
                    for quantity in 1..=20 {
                        let quantity = Quantity::new(u64::from(turn * 100 + quantity)).unwrap();
                        buffer.push(&Line { quantity, status: core, ..line(OutcomeLabel::SoldOut) });
                    }
                    buffer.hand_over();
                }
            });
        }
    });
    let counters = log.counters();
    log.close().unwrap();
    assert_eq!(counters.dropped(), 0);
    let mut last = [0; 5];
    let lines = disk.lines();
    assert_eq!(lines.len(), 4 * 50 * 20);
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let core = line["status"].as_u64().unwrap() as usize;
        let quantity = line["quantity"].as_u64().unwrap();
        assert!(quantity > last[core]);
        last[core] = quantity;
    }
}

#[test]
fn a_log_that_falls_behind_drops_counts_and_says_so() {
    let (open, gate) = mpsc::channel();
    let disk = Disk { gate: Some(Arc::new(Mutex::new(gate))), ..Disk::default() };
    let log = AccessLog::start(disk.clone(), "test").unwrap();
    let counters = log.counters();
    let mut buffer = log.buffer();
    let blocks = 3 * limits::ACCESS_LOG_BLOCKS_MAX as u64;
    for _ in 0..blocks {
        buffer.push(&line(OutcomeLabel::SoldOut));
        buffer.push(&line(OutcomeLabel::SoldOut));
        buffer.hand_over();
    }
    assert!(counters.dropped() > 0);
    drop(open);
    log.close().unwrap();
    let lines = disk.lines();
    let told: u64 = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["dropped"].as_u64())
        .sum();
    assert_eq!(told, counters.dropped());
    let tellings = lines.iter().filter(|line| line.contains("dropped")).count();
    assert_eq!((lines.len() - tellings) as u64 + told, 2 * blocks);
    // What comes after the end is counted, too.
    buffer.push(&line(OutcomeLabel::SoldOut));
    buffer.hand_over();
    assert_eq!(counters.dropped(), told + 1);
}

#[test]
fn a_full_disk_is_counted_and_the_log_goes_on_when_there_is_room() {
    let room = Arc::new(Mutex::new(100));
    let disk = Disk { room: Some(room.clone()), ..Disk::default() };
    let log = AccessLog::start(disk.clone(), "test").unwrap();
    let counters = log.counters();
    let mut buffer = log.buffer();
    buffer.push(&line(OutcomeLabel::SoldOut));
    buffer.hand_over();
    while counters.write_errors() == 0 {
        std::thread::yield_now();
    }
    *room.lock().unwrap() = 10_000;
    buffer.push(&line(OutcomeLabel::Granted));
    buffer.hand_over();
    log.close().unwrap();
    let lines = disk.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0].len(), 100);
    assert!(lines[1].contains("granted"));
    assert_eq!(lines[2], "{\"dropped\":1}");
}

#[test]
fn a_closed_log_on_a_full_disk_says_so() {
    let disk = Disk { room: Some(Arc::new(Mutex::new(0))), ..Disk::default() };
    let log = AccessLog::start(disk, "test").unwrap();
    let mut buffer = log.buffer();
    buffer.push(&line(OutcomeLabel::SoldOut));
    drop(buffer);
    assert_eq!(log.close().unwrap_err().kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_torn_last_line_is_ended_before_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    for (before, lines) in [("", 1), ("{\"at\":\"2026", 2), ("{}\n", 2)] {
        std::fs::write(&path, before).unwrap();
        let log = AccessLog::open(&path).unwrap();
        log.buffer().push(&line(OutcomeLabel::SoldOut));
        log.close().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(text.starts_with(before) && text.ends_with("}\n"));
    }
}
