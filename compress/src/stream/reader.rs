//! Reads of any length at any offset, over frames.
//!
//! A small read gets its frame from the cache, or decodes it into the cache. A read of a whole frame
//! decodes directly into the caller's buffer. Sequential reads are detected by their cache misses:
//! when the frame after the last miss is missing too, the next frames are decoded in parallel with
//! it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::cache::{Content, FrameCache};
use crate::decode::frame::{FrameDecoder, Kind};
use crate::table::Frame;
use crate::{Error, ReadAt};

/// A reader of one stream's frames.
pub(crate) struct FrameReader {
    kind: Kind,
    cache: FrameCache,
    decoders: Decoders,
    /// Number of frames to decode ahead of a sequential reader.
    ahead: u64,
    /// The last frame that was missing or decoded ahead.
    last: AtomicU64,
}

/// Looks up a frame by number.
pub(crate) type Find<'a> = dyn Fn(u64) -> Option<Frame> + Sync + 'a;

impl FrameReader {
    /// A reader of frames of up to `largest` bytes, with a cache of `cache` bytes.
    pub(crate) fn new(kind: Kind, largest: u32, cache: u64, threads: usize) -> Self {
        let cache = FrameCache::new(cache, largest);
        // Frames decoded ahead must not evict the frames being read.
        let ahead = (threads as u64 - 1).min((cache.limit() / 2).saturating_sub(1));
        Self {
            kind,
            cache,
            decoders: Decoders::default(),
            ahead,
            last: AtomicU64::new(u64::MAX),
        }
    }

    /// The codec and checks of the frames.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Copies content of `frame` from content offset `offset`, which is in the frame, to `buf`.
    pub(crate) fn read(
        &self,
        source: &dyn ReadAt,
        frame: &Frame,
        find: &Find<'_>,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<usize, Error> {
        let inside = (offset - frame.content_offset) as usize;
        let len = frame.content_len as usize;
        let n = buf.len().min(len - inside);
        let out = &mut buf[..n];
        if let Some(content) = self.cache.peek(frame.number) {
            return Ok(content.copy(inside, out));
        }
        if n == len {
            self.decoders
                .with(|d| d.decode(source, self.kind, frame, out))?;
            return Ok(n);
        }
        let before = self.last.swap(frame.number, Ordering::Relaxed);
        let content = if self.ahead > 0 && before.checked_add(1) == Some(frame.number) {
            let last = frame.number.saturating_add(self.ahead);
            self.last.store(last, Ordering::Relaxed);
            std::thread::scope(|scope| {
                for number in frame.number + 1..=last {
                    let Some(next) = find(number) else { break };
                    // Without a thread, or after an error, a later read decodes the frame.
                    let _ = std::thread::Builder::new()
                        .name(format!("ahead {number}"))
                        .spawn_scoped(scope, move || self.fetch(source, &next).map(drop));
                }
                self.fetch(source, frame)
            })?
        } else {
            self.fetch(source, frame)?
        };
        Ok(content.copy(inside, out))
    }

    /// A buffer for a frame, from `buffer`. If memory is exhausted, clears the cache first.
    fn memory_for(&self, mut buffer: Vec<u8>, len: usize) -> Result<Vec<u8>, Error> {
        let more = len.saturating_sub(buffer.len());
        if buffer.try_reserve_exact(more).is_err() {
            self.cache.clear();
            buffer.try_reserve_exact(more).map_err(|_| {
                let what = format!("no memory for a frame of {len} bytes");
                Error::Read(io::Error::new(io::ErrorKind::OutOfMemory, what))
            })?;
        }
        buffer.resize(len, 0);
        Ok(buffer)
    }

    /// A frame's content, from the cache.
    fn fetch(&self, source: &dyn ReadAt, frame: &Frame) -> Result<Content, Error> {
        self.cache.get(frame.number, |spare| {
            let mut content = self.memory_for(spare, frame.content_len as usize)?;
            self.decoders
                .with(|d| d.decode(source, self.kind, frame, &mut content))?;
            Ok(content)
        })
    }
}

/// Unused decoders: at most as many as there were concurrent readers.
#[derive(Default)]
struct Decoders(Mutex<Vec<FrameDecoder>>);

impl Decoders {
    fn with<T>(&self, work: impl FnOnce(&mut FrameDecoder) -> T) -> T {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decoder = spare.unwrap_or_default();
        let done = work(&mut decoder);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(decoder);
        done
    }
}
