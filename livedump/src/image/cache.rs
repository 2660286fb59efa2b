//! Decoded blocks that were read lately: what is walked through page by page is decoded once.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A bounded number of blocks by their key. The oldest goes first.
pub(super) struct BlockCache {
    limit: usize,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    by_key: HashMap<u64, Arc<[u8]>>,
    order: VecDeque<u64>,
}

impl BlockCache {
    /// Room for `bytes` of blocks of `block` bytes; for one of each thread at least.
    pub(super) fn new(bytes: u64, block: u64) -> Self {
        let limit = bytes / block.max(1);
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX).max(4),
            blocks: Mutex::default(),
        }
    }

    /// The block of this key, made by `make` if it is not there. Nobody waits for another's.
    pub(super) fn get(
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
    fn blocks_are_kept_up_to_the_limit_and_errors_never() {
        let cache = BlockCache::new(4 * 10, 10);
        let mut made = 0;
        for key in [1, 2, 1, 3, 4, 1, 5, 1] {
            let block = cache.get(key, || {
                made += 1;
                Ok(vec![key as u8; 10])
            });
            assert_eq!(block.unwrap()[..], [key as u8; 10]);
        }
        // 1 goes when 5 comes, and is made once more.
        assert_eq!(made, 6);
        assert!(cache.get(9, || Err(io::ErrorKind::Other.into())).is_err());
        assert_eq!(cache.get(9, || Ok(vec![9])).unwrap()[..], [9]);
    }
}
