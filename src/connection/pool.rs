//! Buffers that connections borrow while they have something to keep, so that an idle connection owns none.

/// Capacities of the pooled buffers, in bytes. The smallest holds a dribbled head or a small answer and keeps
/// a slow client cheap; the largest holds `UNSENT_BYTES_MAX`.
const CLASS_BYTES: [usize; 5] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// Bytes that each class keeps at most while nobody uses them.
const SPARE_BYTES_PER_CLASS_MAX: usize = 1 << 20;

/// One core's spare buffers, by capacity.
#[derive(Debug, Default)]
pub struct BufferPool {
    spare: [Vec<Vec<u8>>; CLASS_BYTES.len()],
    queues: Vec<super::HeldAnswers>,
}

/// Spare queues of held answers.
const SPARE_QUEUES_MAX: usize = 64;

impl BufferPool {
    /// An empty pool.
    pub fn new() -> BufferPool {
        BufferPool::default()
    }

    /// An empty buffer that holds `bytes` without growing.
    pub fn take(&mut self, bytes: usize) -> Vec<u8> {
        match CLASS_BYTES.iter().position(|class| bytes <= *class) {
            Some(class) => self.spare[class].pop().unwrap_or_else(|| Vec::with_capacity(CLASS_BYTES[class])),
            None => Vec::with_capacity(bytes),
        }
    }

    /// Takes a buffer back; `buffer` owns nothing afterwards.
    pub fn put(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        let capacity = buffer.capacity();
        let Some(class) = CLASS_BYTES.iter().rposition(|class| *class <= capacity) else { return };
        // A buffer that grew far past its class would be kept at the price of a small one.
        let fits = capacity < CLASS_BYTES[class] * 2;
        if fits && self.spare[class].len() < SPARE_BYTES_PER_CLASS_MAX / CLASS_BYTES[class] {
            buffer.clear();
            self.spare[class].push(buffer);
        }
    }

    /// Makes room for `additional` more bytes: by a larger buffer from the pool, not by growing the one at
    /// hand.
    pub fn reserve(&mut self, buffer: &mut Vec<u8>, additional: usize) {
        if buffer.capacity() - buffer.len() < additional {
            self.replace(buffer, additional);
        }
    }

    #[inline(never)]
    fn replace(&mut self, buffer: &mut Vec<u8>, additional: usize) {
        let wanted = buffer.len() + additional;
        // Past the largest class a buffer at least doubles, so that appending stays linear.
        let largest = CLASS_BYTES[CLASS_BYTES.len() - 1];
        let mut larger = self.take(if wanted > largest { wanted.max(buffer.capacity() * 2) } else { wanted });
        larger.extend_from_slice(buffer);
        self.put(buffer);
        *buffer = larger;
    }

    /// Replaces a buffer by one that is just large enough for `buffer[start..]`, where the pool's sizes make
    /// a difference; returns where those bytes begin now. Moves happen at a quarter of a capacity at the
    /// latest, so that a buffer that is used up piece by piece is copied in linear time altogether.
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
        self.queues.pop().unwrap_or_default()
    }

    pub(super) fn put_queue(&mut self, queue: &mut super::HeldAnswers) {
        let mut queue = std::mem::take(queue);
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
        let mut pool = BufferPool::new();
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
        let mut pool = BufferPool::new();
        let mut buffer = Vec::new();
        for byte in 0..300_000_u32 {
            pool.reserve(&mut buffer, 1);
            buffer.push(byte as u8);
        }
        assert!(buffer.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        assert!(pool.spare.iter().all(|class| class.len() == 1));
    }

    #[test]
    fn spare_buffers_are_bounded() {
        let mut pool = BufferPool::new();
        let mut taken: Vec<_> = (0..3000).map(|_| pool.take(1)).collect();
        taken.iter_mut().for_each(|buffer| pool.put(buffer));
        assert_eq!(pool.spare[0].len(), 1024);
    }
}
