//! Buffers that connections borrow while they have something to keep, so that an idle connection owns none.
//!
//! The pool counts what it has lent, and bounds it. At the bound no half request is kept and no request is begun
//! ([`BufferPool::is_exhausted`], [`BufferPool::try_reserve`]): each is refused, once, and its connection closes. So nobody
//! waits for room, and nothing can wait for ever. Before that, the clients that hold most because they do not read pay for
//! it: above three quarters ([`BufferPool::is_pressed`]) each answer is written at once, and above seven eighths
//! ([`BufferPool::is_short`]) the engine cuts them. What is in progress by then is still written: the answers of requests
//! that were begun before, which `WAITING_PER_CORE_MAX` bounds, and one refusal per connection.

use crate::limits;

/// Capacities of the pooled buffers, in bytes. The smallest holds a dribbled head or a small answer and keeps
/// a slow client cheap; the largest holds the default of `unsent-bytes`.
const CLASS_BYTES: [usize; 5] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// Max spare bytes that each class keeps.
const SPARE_BYTES_PER_CLASS_MAX: usize = 1 << 20;

/// One core's spare buffers, by capacity.
#[derive(Debug)]
pub struct BufferPool {
    /// Capacity of all that is lent, in bytes.
    lent_bytes: usize,
    lent_bytes_max: usize,
    spare: [Vec<Vec<u8>>; CLASS_BYTES.len()],
    queues: Vec<super::HeldAnswers>,
}

/// Spare queues of held answers.
const SPARE_QUEUES_MAX: usize = 64;

/// What the places of a queue take, in bytes.
pub(super) fn queue_bytes(queue: &super::HeldAnswers) -> usize {
    queue.capacity() * size_of::<Option<Vec<u8>>>()
}

impl Default for BufferPool {
    fn default() -> BufferPool {
        BufferPool::new(limits::BUFFERED_BYTES_PER_CORE_MAX)
    }
}

impl BufferPool {
    /// An empty pool that lends that many bytes for requests.
    pub fn new(lent_bytes_max: usize) -> BufferPool {
        BufferPool { lent_bytes: 0, lent_bytes_max, spare: Default::default(), queues: Vec::new() }
    }

    /// Capacity of all that is lent, in bytes.
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    /// Whether so much is lent that output must be written as soon as it is made, so that what stays is what clients do not
    /// read.
    pub fn is_pressed(&self) -> bool {
        self.lent_bytes >= self.lent_bytes_max / 4 * 3
    }

    /// Whether so much is lent that the clients that hold most of it must go.
    pub fn is_short(&self) -> bool {
        self.lent_bytes >= self.lent_bytes_max / 8 * 7
    }

    /// Whether no further request may be begun.
    pub fn is_exhausted(&self) -> bool {
        self.lent_bytes >= self.lent_bytes_max
    }

    /// An empty buffer that holds `bytes` without growing.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        let buffer = match CLASS_BYTES.iter().position(|class| bytes <= *class) {
            Some(class) => self.spare[class].pop().unwrap_or_else(|| Vec::with_capacity(CLASS_BYTES[class])),
            None => Vec::with_capacity(bytes),
        };
        self.lent_bytes += buffer.capacity();
        buffer
    }

    /// Takes a buffer back; `buffer` owns nothing afterwards.
    pub fn put(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        let capacity = buffer.capacity();
        self.lent_bytes -= capacity;
        let Some(class) = CLASS_BYTES.iter().rposition(|class| *class <= capacity) else { return };
        // A buffer that grew far beyond its class would be kept at the price of a small one.
        let fits = capacity < CLASS_BYTES[class] * 2;
        if fits && self.spare[class].len() < SPARE_BYTES_PER_CLASS_MAX / CLASS_BYTES[class] {
            buffer.clear();
            self.spare[class].push(buffer);
        }
    }

    /// Makes room for `additional` more bytes of a request; false, and nothing done, if that would lend more than is
    /// allowed.
    pub fn try_reserve(&mut self, buffer: &mut Vec<u8>, additional: usize) -> bool {
        if buffer.capacity() - buffer.len() < additional {
            let wanted = buffer.len() + additional;
            let larger = CLASS_BYTES.into_iter().find(|class| wanted <= *class);
            let larger = larger.unwrap_or(wanted.max(buffer.capacity() * 2));
            if self.lent_bytes - buffer.capacity() + larger > self.lent_bytes_max {
                return false;
            }
            self.replace(buffer, additional);
        }
        true
    }

    /// Makes room for `additional` more bytes: by a larger buffer from the pool, not by growing the one at
    /// hand. Never refuses: for answers.
    pub fn reserve(&mut self, buffer: &mut Vec<u8>, additional: usize) {
        if buffer.capacity() - buffer.len() < additional {
            self.replace(buffer, additional);
        }
    }

    /// The same for a buffer of which the first `start` bytes are used up; returns where the others begin now. So a buffer
    /// that is used at its front while it is filled at its end grows to what it holds, and no further.
    pub(super) fn reserve_behind(&mut self, buffer: &mut Vec<u8>, start: usize, additional: usize) -> usize {
        if buffer.capacity() - buffer.len() >= additional {
            return start;
        }
        let rest = buffer.len() - start;
        if start < rest || buffer.capacity() - rest < additional {
            let mut larger = self.take_larger(rest + additional, buffer.capacity());
            larger.extend_from_slice(&buffer[start..]);
            self.put(buffer);
            *buffer = larger;
        } else {
            // No more is moved than was used up.
            buffer.drain(..start);
        }
        0
    }

    #[inline(never)]
    fn replace(&mut self, buffer: &mut Vec<u8>, additional: usize) {
        let mut larger = self.take_larger(buffer.len() + additional, buffer.capacity());
        larger.extend_from_slice(buffer);
        self.put(buffer);
        *buffer = larger;
    }

    /// A buffer for `wanted` bytes in place of one of that capacity.
    fn take_larger(&mut self, wanted: usize, capacity: usize) -> Vec<u8> {
        // Above the largest class a buffer at least doubles, so that appending stays linear.
        let largest = CLASS_BYTES[CLASS_BYTES.len() - 1];
        self.take(if wanted > largest { wanted.max(capacity * 2) } else { wanted })
    }

    /// Replaces a buffer by one that is just large enough for `buffer[start..]`, if the pool's sizes make a difference;
    /// returns where those bytes begin now. Moves happen at a quarter of a capacity at the latest, so that a buffer that is
    /// used up piece by piece is copied in linear time altogether.
    pub(super) fn shrink(&mut self, buffer: &mut Vec<u8>, start: usize) -> usize {
        let rest = &buffer[start..];
        let enough = CLASS_BYTES.into_iter().find(|class| rest.len() <= *class).unwrap_or(rest.len());
        if buffer.capacity() < enough * 4 {
            return start;
        }
        let mut smaller = self.take(enough);
        smaller.extend_from_slice(rest);
        self.put(buffer);
        *buffer = smaller;
        0
    }

    pub(super) fn take_queue(&mut self) -> super::HeldAnswers {
        let queue = self.queues.pop().unwrap_or_default();
        self.lent_bytes += queue_bytes(&queue);
        queue
    }

    /// Makes a queue `places` long.
    pub(super) fn grow_queue(&mut self, queue: &mut super::HeldAnswers, places: usize) {
        self.lent_bytes -= queue_bytes(queue);
        queue.resize_with(places, || None);
        self.lent_bytes += queue_bytes(queue);
    }

    pub(super) fn put_queue(&mut self, queue: &mut super::HeldAnswers) {
        let mut queue = std::mem::take(queue);
        self.lent_bytes -= queue_bytes(&queue);
        if queue.capacity() > 0 && self.queues.len() < SPARE_QUEUES_MAX {
            queue.clear();
            self.queues.push(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let mut pool = BufferPool::default();
        let mut buffer = pool.take(10);
        assert_eq!(buffer.capacity(), 1024);
        buffer.push(7);
        let address = buffer.as_ptr();
        pool.put(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        let again = pool.take(1024);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn growing_swaps_buffers_and_keeps_bytes() {
        let mut pool = BufferPool::default();
        let mut buffer = Vec::new();
        for byte in 0..300_000_u32 {
            pool.reserve(&mut buffer, 1);
            buffer.push(byte as u8);
        }
        assert!(buffer.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        assert!(pool.spare.iter().all(|class| class.len() == 1));
        assert_eq!(pool.lent_bytes(), buffer.capacity());
        pool.put(&mut buffer);
        assert_eq!(pool.lent_bytes(), 0);
    }

    #[test]
    fn no_more_is_lent_for_requests_than_is_allowed() {
        let mut pool = BufferPool::new(6 * 1024);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        assert!(pool.try_reserve(&mut one, 1) && pool.try_reserve(&mut other, 1_000));
        one.push(7);
        // 4 KiB for the one, which gives its kilobyte back.
        assert!(pool.try_reserve(&mut one, 1_024));
        assert_eq!((pool.lent_bytes(), one.len(), one.capacity()), (5 * 1024, 1, 4 * 1024));
        assert!(!pool.is_exhausted());
        assert!(!pool.try_reserve(&mut other, 1_025), "4 KiB and 4 KiB");
        assert_eq!((pool.lent_bytes(), other.capacity()), (5 * 1024, 1024));
        assert!(!pool.try_reserve(&mut Vec::new(), 300_000));
        // Answers are taken nevertheless.
        pool.reserve(&mut other, 1_025);
        assert!(pool.is_exhausted() && pool.try_reserve(&mut other, 1_025));
        let mut queue = pool.take_queue();
        pool.grow_queue(&mut queue, 100);
        assert!(pool.lent_bytes() >= 8 * 1024 + 100 * 24);
        pool.put_queue(&mut queue);
        pool.put(&mut one);
        pool.put(&mut other);
        assert_eq!(pool.lent_bytes(), 0);
        let mut again = pool.take_queue();
        assert!(pool.lent_bytes() > 0, "a queue that comes back counts");
        pool.put_queue(&mut again);
    }

    #[test]
    fn a_buffer_that_is_used_at_its_front_grows_to_what_it_holds() {
        let mut pool = BufferPool::default();
        let (mut buffer, mut start, mut moved) = (Vec::new(), 0, 0);
        let (mut written, mut taken) = (0_u32, 0_u32);
        for round in 0..200_000_u32 {
            let before = buffer.as_ptr();
            start = pool.reserve_behind(&mut buffer, start, 16);
            if start == 0 && buffer.as_ptr() == before {
                moved += buffer.len();
            }
            buffer.extend_from_slice(&written.to_le_bytes());
            written += 1;
            // As fast as it is filled once there are 500 bytes.
            if round >= 125 {
                let front: [u8; 4] = buffer[start..start + 4].try_into().unwrap();
                assert_eq!(u32::from_le_bytes(front), taken);
                taken += 1;
                start += 4;
            }
            assert!(buffer.capacity() <= 1024, "{round}");
        }
        assert!(moved <= 2 * 4 * 200_000, "{moved} bytes were moved");
        pool.reserve_behind(&mut buffer, start, 2_000);
        assert_eq!(buffer.capacity(), 4096);
        assert_eq!(pool.lent_bytes(), 4096);
    }

    #[test]
    fn pressed_before_short_before_exhausted() {
        let mut pool = BufferPool::new(16 * 1024);
        let mut taken = Vec::new();
        let states: Vec<_> = (0..16)
            .map(|_| {
                taken.push(pool.take(1));
                [pool.is_pressed(), pool.is_short(), pool.is_exhausted()].iter().filter(|it| **it).count()
            })
            .collect();
        assert_eq!(states, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let mut pool = BufferPool::default();
        let mut taken: Vec<_> = (0..3000).map(|_| pool.take(1)).collect();
        taken.iter_mut().for_each(|buffer| pool.put(buffer));
        assert_eq!(pool.spare[0].len(), 1024);
    }
}
