//! Memory ranges of a full dump that have addresses in common: their bytes are compared.
//!
//! The content is received once, so both copies are digested as they pass.

use xxhash_rust::xxh64::Xxh64;

use crate::finding::{Location, Sink};
use crate::full::Load;
use crate::rules;

/// Maximum number of overlaps in a dump.
const MAX_OVERLAPS: usize = 4096;

/// The overlaps of a dump.
#[derive(Default)]
pub(crate) struct Overlaps {
    /// Two per overlap. In order of payload offset.
    copies: Vec<Piece>,
    /// Index of the first copy that is not complete.
    next: usize,
}

/// A copy of memory that is in the payload twice.
struct Piece {
    start: u64,
    end: u64,
    /// The first address.
    at: u64,
    /// Number of the overlap.
    number: usize,
    digest: Xxh64,
    /// Number of bytes digested.
    digested: u64,
}

/// Part of a range that no earlier range has.
struct Part {
    start: u64,
    end: u64,
    offset: u64,
}

impl Overlaps {
    /// The overlaps of `loads`; `None` if they are more than `limit` bytes or [`MAX_OVERLAPS`].
    pub(crate) fn new(loads: impl Iterator<Item = Load>, limit: u64) -> Option<Self> {
        let mut parts: Vec<Part> = loads
            .filter_map(|load| {
                Some(Part {
                    start: load.paddr,
                    end: load.paddr.checked_add(load.filesz)?,
                    offset: load.offset,
                })
            })
            .collect();
        parts.sort_by_key(|part| (part.start, part.offset));
        let mut copies = Vec::new();
        let (mut left, mut number) = (limit, 0);
        let mut earlier: Vec<Part> = Vec::new();
        for mut part in parts {
            let first = earlier.partition_point(|e| e.end <= part.start);
            let end = earlier.last().map_or(0, |last| last.end);
            for other in &earlier[first..] {
                let (start, end) = (other.start.max(part.start), other.end.min(part.end));
                let places = [other, &part].map(|p| p.offset.saturating_add(start - p.start));
                if places[0] == places[1] {
                    continue;
                }
                left = left.checked_sub(end - start)?;
                number += 1;
                if number > MAX_OVERLAPS {
                    return None;
                }
                copies.extend(places.map(|place| Piece {
                    start: place,
                    end: place.saturating_add(end - start),
                    at: start,
                    number,
                    digest: Xxh64::new(0),
                    digested: 0,
                }));
            }
            let both = end.min(part.end).saturating_sub(part.start);
            part.start += both;
            part.offset = part.offset.saturating_add(both);
            match earlier.last_mut() {
                _ if part.start == part.end => {}
                Some(last)
                    if both > 0
                        && last.offset.wrapping_sub(last.start)
                            == part.offset.wrapping_sub(part.start) =>
                {
                    last.end = part.end;
                }
                _ => earlier.push(part),
            }
        }
        copies.sort_by_key(|copy| copy.start);
        Some(Self { copies, next: 0 })
    }

    /// Offset of the next byte to receive at or after `pos`; `None` if no more are needed.
    pub(crate) fn wants(&self, pos: u64) -> Option<u64> {
        let mut waiting = self.copies[self.next..]
            .iter()
            .filter(|copy| copy.end > pos);
        waiting.next().map(|copy| copy.start.max(pos))
    }

    /// Receives the bytes at `pos`.
    pub(crate) fn push(&mut self, pos: u64, bytes: &[u8]) {
        let end = pos.saturating_add(bytes.len() as u64);
        while self
            .copies
            .get(self.next)
            .is_some_and(|copy| copy.end <= pos)
        {
            self.next += 1;
        }
        for copy in &mut self.copies[self.next..] {
            let (from, to) = (copy.start.max(pos), copy.end.min(end));
            if copy.start >= end {
                break;
            }
            if from < to {
                // Within `bytes`.
                let piece = &bytes[(from - pos) as usize..(to - pos) as usize];
                copy.digest.update(piece);
                copy.digested += to - from;
            }
        }
    }

    /// Compares the copies that were received completely.
    pub(crate) fn check(&mut self, sink: &mut Sink) {
        self.copies.sort_by_key(|copy| (copy.number, copy.start));
        for pair in self.copies.chunks_exact(2) {
            if pair
                .iter()
                .any(|copy| copy.digested != copy.end - copy.start)
            {
                continue;
            }
            let [first, second] = [&pair[0], &pair[1]];
            let equal = first.digest.digest() == second.digest.digest();
            let place = Location::payload("memory", second.start);
            sink.check(&rules::FULL_OVERLAP, equal, &place, |f| {
                f.found(format!(
                    "other bytes for addresses {:#x} to {:#x}",
                    first.at,
                    first.at + (first.end - first.start)
                ))
                .expected(format!("the bytes at {:#x}", first.start))
            });
        }
    }
}
