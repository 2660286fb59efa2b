//! The blocks of objects that are in memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

/// The size of a block, in bytes. The last block of an object is shorter.
pub(crate) const BLOCK: u64 = 32 << 10;

/// The least memory for blocks.
const LEAST: u64 = 4 << 20;

/// How often a waiting thread checks whether to stop.
const CHECK: Duration = Duration::from_millis(100);

/// A block: the object and the number in it.
type Key = (u32, u64);

#[derive(Debug)]
enum Block {
    /// A request for it was sent.
    Requested,
    /// It arrived. The number is the time of its last use.
    Here(Bytes, u64),
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<Key, Block>,
    /// Bytes of the blocks that arrived.
    bytes: u64,
    time: u64,
}

/// The blocks of all objects of a client, within a limit of memory.
#[derive(Debug)]
pub(crate) struct Cache {
    state: Mutex<State>,
    changed: Condvar,
    limit: u64,
}

/// What a cache knows of a block.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its bytes.
    Here(Bytes),
    /// Another thread has requested it.
    Requested,
    /// It is missing.
    Missing,
}

impl Cache {
    /// A cache of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            limit: limit.max(LEAST),
        }
    }

    /// The largest number of blocks of one request.
    pub(crate) fn most_blocks(&self) -> u64 {
        (self.limit / 4 / BLOCK).clamp(1, (4 << 20) / BLOCK)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a block, and marks it as used.
    pub(crate) fn find(&self, object: u32, block: u64) -> Found {
        let mut state = self.state();
        state.time += 1;
        let time = state.time;
        match state.blocks.get_mut(&(object, block)) {
            Some(Block::Here(bytes, used)) => {
                *used = time;
                Found::Here(bytes.clone())
            }
            Some(Block::Requested) => Found::Requested,
            None => Found::Missing,
        }
    }

    /// Waits a short time, or until a block arrives or a request fails.
    pub(crate) fn wait(&self) {
        let state = self.state();
        let _ = self.changed.wait_timeout(state, CHECK);
    }

    /// Marks the missing blocks at the start of `blocks` as requested, and returns their range, which ends at the
    /// first block that is not missing.
    pub(crate) fn request(&self, object: u32, blocks: Range<u64>) -> Range<u64> {
        let mut state = self.state();
        let mut end = blocks.start;
        while end < blocks.end && !state.blocks.contains_key(&(object, end)) {
            state.blocks.insert((object, end), Block::Requested);
            end += 1;
        }
        blocks.start..end
    }

    /// Stores the bytes of the requested `blocks`; without bytes, they are missing again.
    pub(crate) fn arrived(&self, object: u32, blocks: Range<u64>, bytes: Option<&[u8]>) {
        let mut state = self.state();
        let mut pieces = bytes.map(|bytes| bytes.chunks(BLOCK as usize));
        for block in blocks {
            match pieces.as_mut().and_then(Iterator::next) {
                Some(piece) => {
                    state.bytes += piece.len() as u64;
                    let here = Block::Here(Bytes::copy_from_slice(piece), state.time);
                    state.blocks.insert((object, block), here);
                }
                None => drop(state.blocks.remove(&(object, block))),
            }
        }
        self.shrink(&mut state);
        self.changed.notify_all();
    }

    /// Removes the blocks that were not used for the longest time, if there are too many.
    fn shrink(&self, state: &mut State) {
        if state.bytes <= self.limit {
            return;
        }
        let here = state.blocks.iter().filter_map(|(key, block)| match block {
            Block::Here(bytes, used) => Some((*used, *key, bytes.len() as u64)),
            Block::Requested => None,
        });
        let mut oldest: Vec<_> = here.collect();
        oldest.sort_unstable();
        for (_, key, len) in oldest {
            if state.bytes <= self.limit / 8 * 7 {
                break;
            }
            state.blocks.remove(&key);
            state.bytes -= len;
        }
    }

    /// Removes the blocks of an object.
    pub(crate) fn forget(&self, object: u32) {
        let mut state = self.state();
        let mut freed = 0;
        state.blocks.retain(|key, block| match block {
            Block::Here(bytes, _) if key.0 == object => {
                freed += bytes.len() as u64;
                false
            }
            _ => true,
        });
        state.bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_limit_and_recent_blocks_stay() {
        let cache = Cache::new(LEAST);
        let block = vec![7; BLOCK as usize];
        for number in 0..1000 {
            assert_eq!(cache.request(0, number..number + 1), number..number + 1);
            cache.arrived(0, number..number + 1, Some(&block));
            assert!(matches!(cache.find(0, 0), Found::Here(_)), "{number}");
            assert!(cache.state().bytes <= LEAST);
        }
        assert!(matches!(cache.find(0, 1), Found::Missing));
        assert!(matches!(cache.find(0, 999), Found::Here(_)));
        cache.forget(0);
        assert_eq!(cache.state().bytes, 0);
        assert!(cache.state().blocks.is_empty());
    }

    #[test]
    fn failed_requests_leave_the_blocks_missing() {
        let cache = Cache::new(0);
        assert_eq!(cache.request(3, 5..9), 5..9);
        assert!(cache.request(3, 6..9).is_empty());
        assert_eq!(cache.request(3, 3..9), 3..5);
        cache.arrived(3, 5..9, None);
        assert!(matches!(cache.find(3, 5), Found::Missing));
        assert!(matches!(cache.find(3, 4), Found::Requested));
    }
}
