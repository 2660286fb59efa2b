//! A cache of decoded blocks, so that reading page by page decodes a block once.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A bounded cache of blocks by key. The oldest block is dropped first.
pub(crate) struct BlockCache {
    limit: usize,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    by_key: HashMap<u64, Arc<[u8]>>,
    order: VecDeque<u64>,
}

impl BlockCache {
    /// A cache of `bytes` bytes for blocks of `block` bytes, with at least one block for each
    /// thread.
    pub(crate) fn new(bytes: u64, block: u64) -> Self {
        let limit = bytes / block.max(1);
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX).max(4),
            blocks: Mutex::default(),
        }
    }

    /// The block `key`, created by `make` if it is not cached. Threads do not wait for each other.
    pub(crate) fn get(
        &self,
        key: u64,
        make: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Arc<[u8]>> {
        if let Some(block) = self.lock().by_key.get(&key) {
            return Ok(Arc::clone(block));
        }
        let block: Arc<[u8]> = make()?.into();
        let mut blocks = self.lock();
        if blocks.by_key.insert(key, Arc::clone(&block)).is_none() {
            blocks.order.push_back(key);
            if blocks.order.len() > self.limit
                && let Some(oldest) = blocks.order.pop_front()
            {
                blocks.by_key.remove(&oldest);
            }
        }
        Ok(block)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cached_up_to_the_limit_and_errors_never() {
        let cache = BlockCache::new(4 * 10, 10);
        let mut made = 0;
        for key in [1, 2, 1, 3, 4, 1, 5, 1] {
            let block = cache.get(key, || {
                made += 1;
                Ok(vec![key as u8; 10])
            });
            assert_eq!(block.unwrap()[..], [key as u8; 10]);
        }
        // 5 replaces 1, which is created again.
        assert_eq!(made, 6);
        assert!(cache.get(9, || Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(cache.get(9, || Ok(vec![9])).unwrap()[..], [9]);
    }
}
