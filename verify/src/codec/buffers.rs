//! Buffers that are used again.

use crate::input::Input;
use crate::report::Stop;

/// Buffers that a walk uses again: fresh memory for each frame costs the kernel as much time as
/// its digests cost us.
///
/// One that was needed for a large frame stays large. So a job is charged with the room of its
/// buffers, however little of it is used, and those that wait for a job have a bound together.
pub(super) struct Buffers {
    waiting: Vec<Vec<u8>>,
    /// The room of those that wait.
    held: u64,
    /// The most of it.
    most: u64,
}

impl Buffers {
    /// None yet, and later as many as an eighth of a run's memory holds.
    pub(super) fn new(memory: u64) -> Self {
        Self {
            waiting: Vec::new(),
            held: 0,
            most: memory / 8,
        }
    }

    /// An empty buffer.
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.waiting.pop().unwrap_or_default();
        self.held -= buffer.capacity() as u64;
        buffer
    }

    /// Takes one back that nobody needs any more.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let room = buffer.capacity() as u64;
        if self.held.saturating_add(room) > self.most {
            return;
        }
        self.held += room;
        buffer.clear();
        self.waiting.push(buffer);
    }

    /// An empty buffer with room for `len` bytes. Where a process may have less memory than the run,
    /// that ends the run and not the process.
    pub(super) fn room(&mut self, len: u64) -> Result<Vec<u8>, Stop> {
        let mut buffer = self.take();
        let wanted = usize::try_from(len).unwrap_or(usize::MAX);
        match buffer.try_reserve_exact(wanted) {
            Ok(()) => Ok(buffer),
            Err(error) => Err(Stop::Failed(format!("{len} bytes for a frame: {error}"))),
        }
    }

    /// A buffer with the `len` bytes at `offset`, or as many as there are. The file has been seen
    /// to be so long.
    pub(super) fn filled(
        &mut self,
        input: &Input,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, Stop> {
        let mut buffer = self.room(len as u64)?;
        buffer.resize(len, 0);
        let got = input.read(&mut buffer, offset)?;
        buffer.truncate(got);
        Ok(buffer)
    }
}

/// What a job costs that has these buffers, however little of them it uses.
pub(super) fn cost(stored: &Vec<u8>, room: &Vec<u8>) -> u64 {
    (stored.capacity() as u64).saturating_add(room.capacity() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_wait_are_bounded_together_and_jobs_pay_for_their_room() {
        let mut buffers = Buffers::new(8 << 20);
        for room in [600 << 10, 600 << 10, 300 << 10, 2 << 20, 0] {
            buffers.give(Vec::with_capacity(room));
        }
        assert!(buffers.held <= 1 << 20);
        let rooms = buffers.waiting.iter().map(Vec::capacity);
        assert_eq!(rooms.sum::<usize>() as u64, buffers.held);
        assert_eq!(buffers.waiting.len(), 3);
        let (small, large) = (buffers.take(), buffers.take());
        assert_eq!(buffers.held, 600 << 10);
        assert_eq!(cost(&small, &large), 300 << 10);
        buffers.give(large);
        assert_eq!(buffers.room(10).unwrap().capacity(), 300 << 10);
        let refused = buffers.room(u64::MAX).unwrap_err();
        assert!(matches!(refused, Stop::Failed(why) if why.contains("for a frame")));
    }
}
