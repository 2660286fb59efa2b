//! A cache of decoded frames.
//!
//! A full cache evicts by second chance: a frame that was used since it was decoded, or since it was
//! last considered, stays. So a frame that a walk needs once does not evict one that it needs often.
//! While one reader decodes a frame, other readers of the same frame wait for it.
//!
//! A frame that is mostly zeros is stored without them, so that the cache has more frames.
//!
//! The buffer of an evicted frame is used for the frame that replaces it. So memory does not depend
//! on which threads decode, and new memory need not be cleared.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError};

use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::{Error, Sparse};

/// A frame's decoded bytes.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Whole(Arc<Vec<u8>>),
    Sparse(Arc<Sparse>),
}

impl Content {
    /// Copies bytes from `offset` on to the beginning of `buf`. Returns their number, which is less than
    /// the length of `buf` only at the end.
    pub(super) fn copy(&self, offset: usize, buf: &mut [u8]) -> usize {
        match self {
            Self::Whole(bytes) => {
                let from = bytes.get(offset..).unwrap_or_default();
                let n = buf.len().min(from.len());
                buf[..n].copy_from_slice(&from[..n]);
                n
            }
            Self::Sparse(sparse) => sparse.copy(offset, buf),
        }
    }
}

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
    /// Memory of all slots, in bytes.
    bytes: u64,
    /// Buffers of frames that were stored without zeros: at most [`SPARE`].
    spare: Vec<Vec<u8>>,
}

/// A bounded set of decoded frames.
pub(super) struct FrameCache {
    frames: Mutex<Frames>,
    /// Signals that a frame was decoded, or could not be.
    ready: Condvar,
    /// Maximum memory, in bytes; at least one frame, which a small read needs.
    limit: u64,
    /// Size of the buffer of a frame.
    frame: u64,
}

impl FrameCache {
    /// A cache of `limit` bytes for frames of up to `frame_size` bytes.
    pub(super) fn new(limit: u64, frame_size: u32) -> Self {
        let frame = u64::from(frame_size.max(1));
        Self {
            frames: Mutex::new(Frames::default()),
            ready: Condvar::new(),
            limit: limit.max(frame),
            frame,
        }
    }

    /// Maximum number of frames that are not mostly zeros.
    pub(super) fn limit(&self) -> u64 {
        self.limit / self.frame
    }

    /// Frame `number`, from the cache or from `decode`, which gets a buffer with old bytes.
    pub(super) fn get(
        &self,
        number: u64,
        decode: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, Error>,
    ) -> Result<Content, Error> {
        let mut frames = self.lock();
        loop {
            match frames.slots.get_mut(&number) {
                Some(Slot::Ready { content, used }) => {
                    *used = true;
                    return Ok(content.clone());
                }
                Some(Slot::Busy) => {}
                None => break,
            }
            frames = self
                .ready
                .wait(frames)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let spare = self.make_space(&mut frames);
        frames.slots.insert(number, Slot::Busy);
        frames.bytes += self.frame;
        drop(frames);

        let mut busy = Busy {
            cache: self,
            number,
            content: None,
            spare: Vec::new(),
        };
        let bytes = decode(spare)?;
        let content = match self.sparse(&bytes) {
            Some(sparse) => {
                busy.spare = bytes;
                Content::Sparse(Arc::new(sparse))
            }
            None => Content::Whole(Arc::new(bytes)),
        };
        busy.content = Some(content.clone());
        Ok(content)
    }

    /// Adds frame `number`, unless a reader is decoding it, or the cache is full and `evict` is false.
    /// Returns a buffer with old bytes, if there is one.
    pub(super) fn offer(&self, number: u64, bytes: Arc<Vec<u8>>, evict: bool) -> Vec<u8> {
        if !evict && self.lock().bytes > self.limit.saturating_sub(self.frame) {
            return Arc::try_unwrap(bytes).unwrap_or_default();
        }
        let sparse = self.sparse(&bytes);
        let mut frames = self.lock();
        if frames.slots.contains_key(&number) {
            return Arc::try_unwrap(bytes).unwrap_or_default();
        }
        let spare = self.make_space(&mut frames);
        match sparse {
            Some(sparse) => {
                frames.add(number, Content::Sparse(Arc::new(sparse)), self.frame);
                Arc::try_unwrap(bytes).unwrap_or(spare)
            }
            None => {
                frames.add(number, Content::Whole(bytes), self.frame);
                spare
            }
        }
    }

    /// Drops all decoded frames, to free their memory.
    pub(super) fn clear(&self) {
        let mut frames = self.lock();
        frames.order.clear();
        frames.spare.clear();
        frames.slots.retain(|_, slot| matches!(slot, Slot::Busy));
        frames.bytes = frames.slots.len() as u64 * self.frame;
    }

    /// Frame `number`, if it is in the cache.
    pub(super) fn peek(&self, number: u64) -> Option<Content> {
        match self.lock().slots.get_mut(&number)? {
            Slot::Ready { content, used } => {
                *used = true;
                Some(content.clone())
            }
            Slot::Busy => None,
        }
    }

    /// The bytes without zeros, if that saves memory.
    fn sparse(&self, bytes: &[u8]) -> Option<Sparse> {
        let saves = |sparse: &Sparse| ((sparse.size() + SLOT) as u64) < self.frame;
        Sparse::new(bytes).filter(saves)
    }

    /// Evicts frames until there is space for one more. Returns a buffer with old bytes, if there is
    /// one.
    fn make_space(&self, frames: &mut Frames) -> Vec<u8> {
        let evicted = frames.evict(self.limit.saturating_sub(self.frame), self.frame);
        match evicted.capacity() {
            0 => frames.spare.pop().unwrap_or_default(),
            _ => evicted,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// Adds a frame. `frame` is the size of the buffer of one that has all its bytes.
    fn add(&mut self, number: u64, content: Content, frame: u64) {
        self.bytes += cost(&content, frame);
        let used = false;
        self.slots.insert(number, Slot::Ready { content, used });
        self.order.push_back(number);
    }

    /// Evicts frames until they use at most `limit` bytes. Frames being decoded stay: there is at most
    /// one for each reader. Returns the buffer of an evicted frame that is not in use.
    fn evict(&mut self, limit: u64, frame: u64) -> Vec<u8> {
        let mut spare = Vec::new();
        while self.bytes > limit {
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
                        self.bytes -= cost(&content, frame);
                        if let Content::Whole(bytes) = content {
                            spare = Arc::try_unwrap(bytes).unwrap_or_default();
                        }
                    }
                }
            }
        }
        spare
    }
}

/// Maximum number of unused buffers.
const SPARE: usize = 4;

/// Memory of a frame, in bytes. Frames without zeros have many sizes, and each reading thread may
/// allocate from an arena of its own, so about as much memory again is free but cannot be used.
fn cost(content: &Content, frame: u64) -> u64 {
    match content {
        Content::Whole(_) => frame,
        Content::Sparse(sparse) => frame.min(2 * (sparse.size() + SLOT) as u64),
    }
}

/// Memory of a slot without its content, in bytes: an entry of the map, which may be twice as large
/// as it must be, one of the order, and the counters of an [`Arc`].
const SLOT: usize = 2 * size_of::<(u64, Slot)>() + 2 * size_of::<u64>() + 2 * size_of::<usize>();

/// Wakes the waiting readers when dropped, with or without the frame, even after a panic.
struct Busy<'a> {
    cache: &'a FrameCache,
    number: u64,
    content: Option<Content>,
    /// A buffer for another frame.
    spare: Vec<u8>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut frames = self.cache.lock();
        frames.bytes = frames.bytes.saturating_sub(self.cache.frame);
        match self.content.take() {
            Some(content) => frames.add(self.number, content, self.cache.frame),
            None => {
                frames.slots.remove(&self.number);
            }
        }
        if self.spare.capacity() > 0 && frames.spare.len() < SPARE {
            frames.spare.push(std::mem::take(&mut self.spare));
        }
        drop(frames);
        self.cache.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 17];
        let len = content.copy(0, &mut bytes);
        bytes.truncate(len);
        bytes
    }

    #[test]
    fn a_frame_that_was_used_again_stays_and_failures_are_not_cached() {
        let cache = FrameCache::new(3 * 100, 100);
        let fetch = |n: u64| bytes(&cache.get(n, |_| Ok(vec![n as u8 + 1])).unwrap());
        for number in [0, 8, 16] {
            assert_eq!(fetch(number), [number as u8 + 1]);
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
            cache.get(number, |_| Ok(vec![1])).unwrap();
        }
        assert!((0..16).all(|n| cache.peek(n * 8).is_some()));
    }

    #[test]
    fn the_buffer_of_an_evicted_frame_is_used_again_unless_a_reader_has_it() {
        let cache = FrameCache::new(200, 100);
        let new = |number| {
            let found = cache.get(number, |spare| Ok([spare, vec![number as u8]].concat()));
            found.unwrap()
        };
        let first = new(1);
        new(2);
        assert_eq!(bytes(&new(3)), [3], "frame 1 is in use");
        assert_eq!(bytes(&new(4)), [2, 4]);
        assert_eq!(bytes(&first), [1]);
        assert_eq!(cache.offer(5, Arc::new(vec![5]), true), [3]);
    }

    #[test]
    fn a_cleared_cache_decodes_again() {
        let cache = FrameCache::new(1 << 20, 4096);
        for number in 0..20 {
            cache.get(number, |_| Ok(vec![1])).unwrap();
        }
        cache.clear();
        assert!((0..20).all(|number| cache.peek(number).is_none()));
        let found = cache.get(3, |_| Ok(vec![2]));
        assert_eq!(bytes(&found.unwrap()), [2]);
    }

    #[test]
    fn frames_of_zeros_use_little_of_the_limit_and_their_buffers_are_used_again() {
        let (frame, limit) = (1 << 16, 4 << 16);
        let cache = FrameCache::new(limit, frame);
        let content = |number: u64| {
            let mut content = vec![0; frame as usize];
            content[5000] = 1 + number as u8;
            content
        };
        for number in 0..50 {
            let found = cache.get(number, |spare| {
                // The first buffer is new.
                assert_eq!(spare.is_empty(), number == 0);
                Ok(content(number))
            });
            assert_eq!(bytes(&found.unwrap()), content(number));
        }
        for number in 50..60 {
            assert_eq!(
                cache.offer(number, Arc::new(content(number)), true).len(),
                1 << 16
            );
        }
        for number in 0..60 {
            let mut part = [9; 3];
            assert_eq!(cache.peek(number).unwrap().copy(4999, &mut part), 3);
            assert_eq!(part, [0, 1 + number as u8, 0]);
        }
        // Frames without zeros evict them.
        for number in 60..80 {
            cache.get(number, |_| Ok(vec![1; 1 << 16])).unwrap();
            let used = cache.lock().bytes;
            assert!(used <= limit, "{used}");
        }
        let frames = cache.lock();
        assert_eq!((frames.slots.len(), frames.order.len()), (4, 4));
        assert_eq!(frames.bytes, limit);
        drop(frames);
        assert_eq!(cache.offer(90, Arc::new(vec![2; 10]), false), [2; 10]);
        assert!(cache.peek(90).is_none() && cache.peek(79).is_some());
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
                            Ok(vec![number as u8])
                        });
                        assert_eq!(bytes(&frame.unwrap()), [number as u8]);
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 50);
    }
}
