//! A cache of decoded frames.
//!
//! Frames are distributed over shards by number, to reduce lock contention. A shard that is full
//! evicts its least recently used frame. While one reader decodes a frame, other readers of the same
//! frame wait for it.

use std::sync::{Arc, PoisonError};

use crate::Error;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Maximum number of shards.
const SHARDS: u64 = 8;

/// A frame's decoded bytes.
pub(super) type Content = Arc<Vec<u8>>;

enum Slot {
    /// A reader is decoding the frame.
    Busy,
    /// The frame is available.
    Ready(Content),
}

struct Cached {
    number: u64,
    used: u64,
    slot: Slot,
}

#[derive(Default)]
struct Shard {
    frames: Vec<Cached>,
    /// Counts uses.
    clock: u64,
}

/// A bounded set of decoded frames.
pub(super) struct FrameCache {
    shards: Vec<(Mutex<Shard>, Condvar)>,
    /// Maximum number of frames in a shard; at least one, which a small read needs.
    per_shard: usize,
}

impl FrameCache {
    /// A cache of `limit` bytes for frames of up to `frame_size` bytes.
    pub(super) fn new(limit: u64, frame_size: u32) -> Self {
        let frames = (limit / u64::from(frame_size.max(1))).max(1);
        let shards = SHARDS.min(frames);
        Self {
            shards: (0..shards).map(|_| Default::default()).collect(),
            per_shard: usize::try_from(frames / shards).unwrap_or(usize::MAX),
        }
    }

    /// Maximum number of frames.
    pub(super) fn frames(&self) -> u64 {
        (self.shards.len() as u64).saturating_mul(self.per_shard as u64)
    }

    /// Frame `number`, from the cache or from `decode`.
    pub(super) fn get(
        &self,
        number: u64,
        decode: impl FnOnce() -> Result<Vec<u8>, Error>,
    ) -> Result<Content, Error> {
        // There is at least one shard, and there are at most eight.
        let (shard, ready) = &self.shards[(number % self.shards.len() as u64) as usize];
        let mut guard = lock(shard);
        loop {
            guard.clock += 1;
            let clock = guard.clock;
            let Some(cached) = guard.frames.iter_mut().find(|k| k.number == number) else {
                break;
            };
            cached.used = clock;
            if let Slot::Ready(frame) = &cached.slot {
                return Ok(Arc::clone(frame));
            }
            guard = ready.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        let used = guard.clock;
        guard.evict(self.per_shard);
        guard.frames.push(Cached {
            number,
            used,
            slot: Slot::Busy,
        });
        drop(guard);

        let mut busy = Busy {
            shard,
            ready,
            number,
            frame: None,
        };
        let frame = Arc::new(decode()?);
        busy.frame = Some(Arc::clone(&frame));
        Ok(frame)
    }

    /// Drops all decoded frames, to free their memory.
    pub(super) fn clear(&self) {
        for (shard, _) in &self.shards {
            lock(shard)
                .frames
                .retain(|cached| matches!(cached.slot, Slot::Busy));
        }
    }

    /// Frame `number`, if it is in the cache.
    pub(super) fn peek(&self, number: u64) -> Option<Content> {
        let (shard, _) = &self.shards[(number % self.shards.len() as u64) as usize];
        let mut guard = lock(shard);
        guard.clock += 1;
        let clock = guard.clock;
        let cached = guard.frames.iter_mut().find(|k| k.number == number)?;
        cached.used = clock;
        match &cached.slot {
            Slot::Ready(frame) => Some(Arc::clone(frame)),
            Slot::Busy => None,
        }
    }
}

impl Shard {
    fn evict(&mut self, limit: usize) {
        while self.frames.len() >= limit {
            let oldest = (0..self.frames.len())
                .filter(|i| matches!(self.frames[*i].slot, Slot::Ready(_)))
                .min_by_key(|i| self.frames[*i].used);
            // Frames being decoded stay: there is at most one for each reader.
            let Some(oldest) = oldest else { return };
            self.frames.swap_remove(oldest);
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the waiting readers when dropped, with or without the frame, even after a panic.
struct Busy<'a> {
    shard: &'a Mutex<Shard>,
    ready: &'a Condvar,
    number: u64,
    frame: Option<Content>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut guard = lock(self.shard);
        if let Some(at) = guard.frames.iter().position(|k| k.number == self.number) {
            match self.frame.take() {
                Some(frame) => guard.frames[at].slot = Slot::Ready(frame),
                None => {
                    guard.frames.swap_remove(at);
                }
            }
        }
        drop(guard);
        self.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_frame_is_evicted_and_failures_are_not_cached() {
        let cache = FrameCache::new(2 * 100, 100);
        // There are two shards of one frame each; these numbers are in one shard.
        let fetch = |n: u64| cache.get(n, || Ok(vec![n as u8])).unwrap();
        assert_eq!(*fetch(0), [0]);
        assert_eq!(
            *cache.get(0, || panic!("the frame is cached")).unwrap(),
            [0]
        );
        assert_eq!(*fetch(2), [2]);
        assert!(cache.peek(0).is_none());
        assert!(cache.peek(2).is_some());
        assert!(cache.get(4, || Err(Error::Cancelled)).is_err());
        assert!(cache.peek(4).is_none());
    }

    #[test]
    fn a_cleared_cache_decodes_again() {
        let cache = FrameCache::new(1 << 20, 4096);
        for number in 0..20 {
            cache.get(number, || Ok(vec![1])).unwrap();
        }
        cache.clear();
        assert!((0..20).all(|number| cache.peek(number).is_none()));
        assert_eq!(*cache.get(3, || Ok(vec![2])).unwrap(), [2]);
    }

    #[test]
    fn many_readers_decode_a_frame_once() {
        let cache = FrameCache::new(1 << 20, 4096);
        let count = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..50 {
                        let frame = cache.get(number, || {
                            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            std::thread::yield_now();
                            Ok(vec![number as u8])
                        });
                        assert_eq!(*frame.unwrap(), [number as u8]);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 50);
    }
}
