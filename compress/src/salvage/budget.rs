//! Limits of the work and the memory of a walk over damaged data.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, ReadAt};

/// Memory for each frame, in bytes: it is in several lists.
const FRAME: u64 = 256;
/// Work of reading a header, as bytes of content.
const READ: u64 = 256;
/// Work that each stored byte permits, as bytes of content.
const STORED: u64 = 8;
/// Work that every stream permits, as bytes of content.
const WORK_MIN: u64 = 1 << 30;

/// The remaining work on frames that turn out to be damaged. In crafted data, many offsets can each
/// look like the start of a long frame.
pub(super) struct Budget {
    left: u64,
    memory: u64,
}

impl Budget {
    /// The budget for `stored` bytes, with lists of at most `memory` bytes.
    pub(super) fn new(stored: u64, memory: u64) -> Self {
        Self {
            left: WORK_MIN.saturating_add(stored.saturating_mul(STORED)),
            memory,
        }
    }

    /// Uses the work of `reads` reads of headers and `content` bytes of content.
    pub(super) fn spend(&mut self, reads: u64, content: u64) {
        let work = reads.saturating_mul(READ).saturating_add(content);
        self.left = self.left.saturating_sub(work);
    }

    /// Whether no work is left.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Checks the memory for `frames` frames.
    pub(super) fn check(&self, frames: u64) -> Result<(), Error> {
        check_memory(frames, self.memory)
    }
}

/// Checks that lists of `frames` frames need at most `limit` bytes.
pub(super) fn check_memory(frames: u64, limit: u64) -> Result<(), Error> {
    let needed = frames.saturating_mul(FRAME);
    match needed <= limit {
        true => Ok(()),
        false => Err(Error::Memory {
            what: format!("salvaging {frames} frames"),
            needed,
            limit,
        }),
    }
}

/// A source that counts reads.
pub(super) struct Counted<'a> {
    source: &'a dyn ReadAt,
    reads: AtomicU64,
}

impl<'a> Counted<'a> {
    pub(super) fn new(source: &'a dyn ReadAt) -> Self {
        Self {
            source,
            reads: AtomicU64::new(0),
        }
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl ReadAt for Counted<'_> {
    fn size(&self) -> io::Result<u64> {
        self.source.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.source.read_at(buf, offset)
    }
}
