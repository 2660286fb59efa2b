//! A pool of buffers.

use crate::input::Input;
use crate::report::Stop;

/// A pool of buffers for a walk. Allocating fresh memory for each frame takes as much time as
/// digesting the frame.
///
/// A buffer that was used for a large frame stays large. The cost of a job is therefore the capacity
/// of its buffers, and the pool bounds the total capacity of unused buffers.
pub(super) struct Buffers {
    unused: Vec<Vec<u8>>,
    /// Total capacity of the unused buffers.
    capacity: u64,
    /// Limit of `capacity`.
    most: u64,
}

impl Buffers {
    /// An empty pool, which later keeps buffers of up to an eighth of `memory`.
    pub(super) fn new(memory: u64) -> Self {
        Self {
            unused: Vec::new(),
            capacity: 0,
            most: memory / 8,
        }
    }

    /// An empty buffer of any capacity.
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.unused.pop().unwrap_or_default();
        self.capacity -= buffer.capacity() as u64;
        buffer
    }

    /// Returns a buffer to the pool.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity() as u64;
        if self.capacity.saturating_add(capacity) > self.most {
            return;
        }
        self.capacity += capacity;
        buffer.clear();
        self.unused.push(buffer);
    }

    /// An empty buffer with a capacity of at least `len` bytes. Fails if the process has less memory.
    pub(super) fn with_capacity(&mut self, len: u64) -> Result<Vec<u8>, Stop> {
        let mut buffer = self.take();
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        match buffer.try_reserve_exact(wanted) {
            Ok(()) => Ok(buffer),
            Err(error) => Err(Stop::Failed(format!(
                "cannot allocate {len} bytes for a frame: {error}"
            ))),
        }
    }

    /// A buffer with up to `len` bytes at `offset`. The caller has checked `len` against the size of
    /// the file.
    pub(super) fn filled(
        &mut self,
        input: &Input,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Stop> {
        let mut buffer = self.with_capacity(len as u64)?;
        buffer.resize(len, 0);
        let got = input.read(&mut buffer, offset)?;
        buffer.truncate(got);
        Ok(buffer)
    }
}

/// The memory cost of a job with these buffers.
pub(super) fn cost(stored: &Vec<u8>, output: &Vec<u8>) -> u64 {
    (stored.capacity() as u64).saturating_add(output.capacity() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_bounded_and_a_job_costs_the_capacity_of_its_buffers() {
        let mut buffers = Buffers::new(8 << 20);
        for capacity in [600 << 10, 600 << 10, 300 << 10, 2 << 20, 0] {
            buffers.give(Vec::with_capacity(capacity));
        }
        assert!(buffers.capacity <= 1 << 20);
        let capacities = buffers.unused.iter().map(Vec::capacity);
        assert_eq!(capacities.sum::<usize>() as u64, buffers.capacity);
        assert_eq!(buffers.unused.len(), 3);
        let (small, large) = (buffers.take(), buffers.take());
        assert_eq!(buffers.capacity, 600 << 10);
        assert_eq!(cost(&small, &large), 300 << 10);
        buffers.give(large);
        assert_eq!(buffers.with_capacity(10).unwrap().capacity(), 300 << 10);
        let refused = buffers.with_capacity(u64::MAX).unwrap_err();
        assert!(matches!(refused, Stop::Failed(_)));
    }
}
