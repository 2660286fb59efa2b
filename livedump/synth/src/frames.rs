//! The allocator of the machine's physical memory.

use std::ops::Range;

use super::content::PAGE;
use super::error::Error;
use super::rng::Rng;

/// Allocates physical memory: single frames and short runs from many places, large blocks from the
/// top.
pub(crate) struct Frames {
    /// Free ranges of addresses, unordered. Each is allocated from its start.
    free: Vec<Range<u64>>,
    rng: Rng,
    /// Bytes that may be left unused between runs.
    slack: u64,
}

/// Maximum number of places from which runs are allocated.
const PLACES: u64 = 48;

impl Frames {
    /// Creates an allocator of which all of `ranges` is free.
    pub(crate) fn new(ranges: &[Range<u64>], seed: u64) -> Self {
        Self {
            free: ranges.to_vec(),
            rng: Rng::new(seed, "frames"),
            slack: 0,
        }
    }

    /// Returns the number of free bytes.
    pub(crate) fn left(&self) -> u64 {
        self.free.iter().map(|range| range.end - range.start).sum()
    }

    /// Removes a range. Parts of it that are already taken are ignored.
    pub(crate) fn take(&mut self, range: &Range<u64>) {
        let mut free = Vec::with_capacity(self.free.len() + 1);
        for piece in &self.free {
            let before = piece.start..piece.end.min(range.start);
            let after = piece.start.max(range.end)..piece.end;
            free.extend([before, after].into_iter().filter(|r| r.start < r.end));
        }
        self.free = free;
    }

    /// Allocates a contiguous block from the highest free range that is large enough.
    pub(crate) fn block(&mut self, what: &'static str, len: u64, align: u64) -> Result<u64, Error> {
        let len = len.next_multiple_of(PAGE as u64);
        let at = self
            .free
            .iter()
            .filter_map(|range| {
                let at = range.end.checked_sub(len)? / align * align;
                (at >= range.start).then_some(at)
            })
            .max()
            .ok_or(Error::NoSpace {
                what,
                need: len,
                left: self.left(),
            })?;
        self.take(&(at..at + len));
        Ok(at)
    }

    /// Splits the free memory into many places, so that runs come from all parts of it. `demand` is
    /// the number of bytes that will be allocated.
    pub(crate) fn scatter(&mut self, demand: u64) {
        let left = self.left();
        let piece = (left / PLACES)
            .next_multiple_of(64 * PAGE as u64)
            .max(1 << 20);
        let mut places = Vec::new();
        for range in &self.free {
            let mut at = range.start;
            while at < range.end {
                let end = at.saturating_add(piece).min(range.end);
                places.push(at..end);
                at = end;
            }
        }
        self.free = places;
        self.slack = left.saturating_sub(demand.saturating_add(demand / 16)) / 2;
    }

    /// Allocates a run of at least one and at most `pages` frames of `page` bytes.
    pub(crate) fn run(
        &mut self,
        what: &'static str,
        pages: u64,
        page: u64,
    ) -> Result<Range<u64>, Error> {
        loop {
            if self.free.is_empty() {
                return Err(Error::NoSpace {
                    what,
                    need: pages * page,
                    left: 0,
                });
            }
            let i = self.rng.below(self.free.len() as u64) as usize;
            let gap = self.rng.below(4) * page;
            let place = &mut self.free[i];
            let start = place.start.next_multiple_of(page);
            if gap <= self.slack && start + gap + page <= place.end {
                self.slack -= gap;
                place.start = start + gap;
            } else {
                place.start = start;
            }
            if place.start.saturating_add(page) > place.end {
                self.free.swap_remove(i);
                continue;
            }
            let end = place.start.saturating_add(pages * page).min(place.end);
            let end = place.start + (end - place.start) / page * page;
            let run = place.start..end;
            place.start = end;
            return Ok(run);
        }
    }

    /// Allocates one frame.
    pub(crate) fn one(&mut self, what: &'static str, page: u64) -> Result<u64, Error> {
        Ok(self.run(what, 1, page)?.start)
    }
}
