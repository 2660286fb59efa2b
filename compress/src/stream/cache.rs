//! A cache of decoded frames.
//!
//! A full cache evicts by second chance: a frame that was used since it was decoded, or since it was
//! last considered, stays. So a frame that a walk needs once does not evict one that it needs often.
//! While one reader decodes a frame, other readers of the same frame wait for it.
//!
//! The buffer of an evicted frame is used for the frame that replaces it. So memory does not depend
//! on which threads decode, and new memory need not be cleared.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use crate::Error;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A frame's decoded bytes.
pub(super) type Content = Arc<Vec<u8>>;

enum Slot {
    /// A reader is decoding the frame.
    Busy,
    /// The frame is available.
    Ready {
        content: Content,
        /// Whether it was used since it was decoded or last considered for eviction.
        used: bool,
    },
}

#[derive(Default)]
struct Frames {
    slots: HashMap<u64, Slot>,
    /// The available frames, in the order in which they are considered for eviction.
    order: VecDeque<u64>,
}

/// A bounded set of decoded frames.
pub(super) struct FrameCache {
    frames: Mutex<Frames>,
    /// Signals that a frame was decoded, or could not be.
    ready: Condvar,
    /// Maximum number of frames; at least one, which a small read needs.
    limit: usize,
}

impl FrameCache {
    /// A cache of `limit` bytes for frames of up to `frame_size` bytes.
    pub(super) fn new(limit: u64, frame_size: u32) -> Self {
        let frames = (limit / u64::from(frame_size.max(1))).max(1);
        Self {
            frames: Mutex::new(Frames::default()),
            ready: Condvar::new(),
            limit: usize::try_from(frames).unwrap_or(usize::MAX),
        }
    }

    /// Maximum number of frames.
    pub(super) fn limit(&self) -> u64 {
        self.limit as u64
    }

    /// Frame `number`, from the cache or from `decode`, which gets a buffer with old bytes.
    pub(super) fn get(
        &self,
        number: u64,
        decode: impl FnOnce(Vec<u8>) -> Result<Content, Error>,
    ) -> Result<Content, Error> {
        let mut frames = self.lock();
        loop {
            match frames.slots.get_mut(&number) {
                Some(Slot::Ready { content, used }) => {
                    *used = true;
                    return Ok(Arc::clone(content));
                }
                Some(Slot::Busy) => {}
                None => break,
            }
            frames = self
                .ready
                .wait(frames)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let spare = frames.evict(self.limit);
        frames.slots.insert(number, Slot::Busy);
        drop(frames);

        let mut busy = Busy {
            cache: self,
            number,
            content: None,
        };
        let content = decode(spare)?;
        busy.content = Some(Arc::clone(&content));
        Ok(content)
    }

    /// Adds frame `number`, unless a reader is decoding it. Returns a buffer with old bytes.
    pub(super) fn offer(&self, number: u64, content: Content) -> Vec<u8> {
        let mut frames = self.lock();
        if frames.slots.contains_key(&number) {
            return Vec::new();
        }
        let spare = frames.evict(self.limit);
        let used = false;
        frames.slots.insert(number, Slot::Ready { content, used });
        frames.order.push_back(number);
        spare
    }

    /// Drops all decoded frames, to free their memory.
    pub(super) fn clear(&self) {
        let mut frames = self.lock();
        frames.order.clear();
        frames.slots.retain(|_, slot| matches!(slot, Slot::Busy));
    }

    /// Frame `number`, if it is in the cache.
    pub(super) fn peek(&self, number: u64) -> Option<Content> {
        match self.lock().slots.get_mut(&number)? {
            Slot::Ready { content, used } => {
                *used = true;
                Some(Arc::clone(content))
            }
            Slot::Busy => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// Evicts frames until there is space for one more. Frames being decoded stay: there is at most
    /// one for each reader. Returns the buffer of an evicted frame that is not in use.
    fn evict(&mut self, limit: usize) -> Vec<u8> {
        let mut spare = Vec::new();
        while self.slots.len() >= limit {
            let Some(number) = self.order.pop_front() else {
                break;
            };
            match self.slots.get_mut(&number) {
                Some(Slot::Ready { used, .. }) if *used => {
                    *used = false;
                    self.order.push_back(number);
                }
                _ => {
                    if let Some(Slot::Ready { content, .. }) = self.slots.remove(&number) {
                        spare = Arc::try_unwrap(content).unwrap_or_default();
                    }
                }
            }
        }
        spare
    }
}

/// Wakes the waiting readers when dropped, with or without the frame, even after a panic.
struct Busy<'a> {
    cache: &'a FrameCache,
    number: u64,
    content: Option<Content>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut frames = self.cache.lock();
        match self.content.take() {
            Some(content) => {
                let used = false;
                frames
                    .slots
                    .insert(self.number, Slot::Ready { content, used });
                frames.order.push_back(self.number);
            }
            None => {
                frames.slots.remove(&self.number);
            }
        }
        drop(frames);
        self.cache.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_used_again_stays_and_failures_are_not_cached() {
        let cache = FrameCache::new(3 * 100, 100);
        let fetch = |n: u64| cache.get(n, |_| Ok(Arc::new(vec![n as u8]))).unwrap();
        for number in [0, 8, 16] {
            assert_eq!(*fetch(number), [number as u8]);
        }
        assert!(cache.peek(0).is_some());
        // Frames 24 to 56 are needed once each; frame 0 is needed between them.
        for number in [24, 32, 40, 48, 56] {
            fetch(number);
            assert!(cache.peek(0).is_some(), "{number}");
        }
        let kept = [0, 8, 16, 24, 32, 40, 48, 56].map(|n| cache.peek(n).is_some());
        assert_eq!(kept.iter().filter(|kept| **kept).count(), 3);
        assert!(kept[7], "the last frame");
        assert!(cache.get(4, |_| Err(Error::Cancelled)).is_err());
        assert!(cache.peek(4).is_none());
    }

    #[test]
    fn frames_fill_the_whole_limit_whatever_their_numbers_are() {
        let cache = FrameCache::new(16 * 100, 100);
        for number in (0..16).map(|n| n * 8) {
            cache.get(number, |_| Ok(Arc::new(vec![1]))).unwrap();
        }
        assert!((0..16).all(|n| cache.peek(n * 8).is_some()));
    }

    #[test]
    fn the_buffer_of_an_evicted_frame_is_used_again_unless_a_reader_has_it() {
        let cache = FrameCache::new(200, 100);
        let new = |number| {
            cache.get(number, |spare| {
                Ok(Arc::new([spare, vec![number as u8]].concat()))
            })
        };
        let first = new(1).unwrap();
        new(2).unwrap();
        assert_eq!(*new(3).unwrap(), [3], "frame 1 is in use");
        assert_eq!(*new(4).unwrap(), [2, 4]);
        assert_eq!(*first, [1]);
        assert_eq!(cache.offer(5, Arc::new(vec![5])), [3]);
    }

    #[test]
    fn a_cleared_cache_decodes_again() {
        let cache = FrameCache::new(1 << 20, 4096);
        for number in 0..20 {
            cache.get(number, |_| Ok(Arc::new(vec![1]))).unwrap();
        }
        cache.clear();
        assert!((0..20).all(|number| cache.peek(number).is_none()));
        assert_eq!(*cache.get(3, |_| Ok(Arc::new(vec![2]))).unwrap(), [2]);
    }

    #[test]
    fn many_readers_decode_a_frame_once() {
        let cache = FrameCache::new(1 << 20, 4096);
        let count = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for number in 0..50 {
                        let frame = cache.get(number, |_| {
                            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            std::thread::yield_now();
                            Ok(Arc::new(vec![number as u8]))
                        });
                        assert_eq!(*frame.unwrap(), [number as u8]);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 50);
    }
}
