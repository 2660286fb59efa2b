//! Reads of any length at any offset, over frames.
//!
//! A small read finds its frame in the cache or decodes it there. A read of a whole frame goes
//! past the cache, straight into the caller's buffer. Readers who go from front to back are
//! noticed by their misses: when the frame after the last one is missing, those behind it are
//! decoded with it, one by each worker, so that reading in a row is as parallel as decoding.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::cache::FrameCache;
use crate::decode::frame::{FrameDecoder, Kind};
use crate::table::Frame;
use crate::{Error, ReadAt};

/// Frames of one stream, as they are read.
pub(crate) struct FrameReader {
    kind: Kind,
    cache: FrameCache,
    decoders: Decoders,
    /// Frames decoded ahead of a reader in a row.
    ahead: u64,
    /// The last frame that was missing or decoded ahead.
    last: AtomicU64,
}

/// The frame with a number, if there is one.
pub(crate) type Find<'a> = dyn Fn(u64) -> Option<Frame> + Sync + 'a;

impl FrameReader {
    /// Reads frames of up to `largest` bytes with a cache of `cache` bytes.
    pub(crate) fn new(kind: Kind, largest: u32, cache: u64, threads: usize) -> Self {
        let cache = FrameCache::new(cache, largest);
        // What is decoded ahead must not drive out what is being read.
        let ahead = (threads as u64 - 1).min((cache.frames() / 2).saturating_sub(1));
        Self {
            kind,
            cache,
            decoders: Decoders::default(),
            ahead,
            last: AtomicU64::new(u64::MAX),
        }
    }

    /// How the frames are stored.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Copies the part of `frame` from the content offset `offset` on to `buf`; `offset` lies in
    /// the frame.
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
            out.copy_from_slice(&content[inside..inside + n]);
            return Ok(n);
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
                    // Without a thread, and after an error, the frame is read when it is wanted.
                    let _ = std::thread::Builder::new()
                        .name(format!("ahead {number}"))
                        .spawn_scoped(scope, move || self.fetch(source, &next).map(drop));
                }
                self.fetch(source, frame)
            })?
        } else {
            self.fetch(source, frame)?
        };
        out.copy_from_slice(&content[inside..inside + n]);
        Ok(n)
    }

    /// A buffer for a frame. If there is no memory left, the cache gives up its own.
    fn memory_for(&self, len: usize) -> Result<Vec<u8>, Error> {
        let mut buffer = Vec::new();
        if buffer.try_reserve_exact(len).is_err() {
            self.cache.clear();
            buffer.try_reserve_exact(len).map_err(|_| {
                let what = format!("no memory for a frame of {len} bytes");
                Error::Read(io::Error::new(io::ErrorKind::OutOfMemory, what))
            })?;
        }
        buffer.resize(len, 0);
        Ok(buffer)
    }

    /// A frame's content, by way of the cache.
    fn fetch(&self, source: &dyn ReadAt, frame: &Frame) -> Result<super::cache::Content, Error> {
        self.cache.get(frame.number, || {
            let mut content = self.memory_for(frame.content_len as usize)?;
            self.decoders
                .with(|d| d.decode(source, self.kind, frame, &mut content))?;
            Ok(content)
        })
    }
}

/// Decoders that nobody uses. There are never more than there were readers at once.
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
