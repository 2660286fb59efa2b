//! Memory ranges of a full dump that have addresses in common.
//!
//! FreeBSD writes disjoint ranges. Other writers describe some memory twice, for example a kernel's
//! text in a segment of its own.

use std::io;

use livecore_compress::ReadAt;

use super::range::MemoryRange;
use crate::PhysAddr;

/// Maximum number of overlaps in a dump.
const MAX_OVERLAPS: usize = 4096;

/// Bytes to compare at once.
const BATCH: u64 = 64 << 10;

/// Memory that is in the payload twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overlap {
    /// Its first physical address.
    pub(crate) at: PhysAddr,
    /// Its size in bytes.
    len: u64,
    /// Its payload offset in the range that starts at the lower address, which is used.
    pub(crate) used: u64,
    /// Its payload offset in the other range.
    pub(crate) other: u64,
}

/// Sorts `ranges` and makes them disjoint. Of two ranges with a common address, the one that starts
/// lower keeps it. Returns what they had in common, except if it is at the same payload offset.
/// Returns `None` if this is more than `limit` bytes or [`MAX_OVERLAPS`].
pub(crate) fn separate(ranges: &mut Vec<MemoryRange>, limit: u64) -> Option<Vec<Overlap>> {
    ranges.sort_unstable_by_key(|range| (range.start, range.offset));
    let mut disjoint: Vec<MemoryRange> = Vec::with_capacity(ranges.len());
    let mut overlaps = Vec::new();
    let mut total: u64 = 0;
    for range in ranges.iter() {
        let end = disjoint.last().map_or(PhysAddr(0), MemoryRange::end);
        let both = end.min(range.end()).0.saturating_sub(range.start.0);
        // The ranges before this one ascend, and the last one has the highest end.
        let first = disjoint.partition_point(|other| other.end() <= range.start);
        for other in &disjoint[first..] {
            let from = other.start.max(range.start);
            let to = other.end().min(range.end());
            if from >= to {
                break;
            }
            let overlap = Overlap {
                at: from,
                len: to.0 - from.0,
                used: other.offset + (from.0 - other.start.0),
                other: range.offset + (from.0 - range.start.0),
            };
            if overlap.used != overlap.other {
                total = total.saturating_add(overlap.len);
                overlaps.push(overlap);
            }
            if total > limit || overlaps.len() > MAX_OVERLAPS {
                return None;
            }
        }
        let rest = MemoryRange {
            start: PhysAddr(range.start.0 + both),
            len: range.len - both,
            offset: range.offset + both,
        };
        match disjoint.last_mut() {
            _ if rest.len == 0 => {}
            // The same bytes continue.
            Some(last) if both > 0 && last.offset + last.len == rest.offset => last.len += rest.len,
            _ => disjoint.push(rest),
        }
    }
    *ranges = disjoint;
    Some(overlaps)
}

impl Overlap {
    /// The first address at which the two ranges have different bytes, or `None`. Does not compare
    /// bytes after the end of `content`.
    pub(crate) fn difference(&self, content: &dyn ReadAt) -> io::Result<Option<PhysAddr>> {
        let size = BATCH.min(self.len) as usize;
        let (mut used, mut other) = (vec![0; size], vec![0; size]);
        let mut done = 0;
        while done < self.len {
            let n = (self.len - done).min(BATCH) as usize;
            let a = content.read_full_at(&mut used[..n], self.used + done)?;
            let b = content.read_full_at(&mut other[..n], self.other + done)?;
            let n = a.min(b);
            let pairs = used[..n].iter().zip(&other[..n]);
            if let Some(first) = pairs.into_iter().position(|(a, b)| a != b) {
                return Ok(Some(PhysAddr(self.at.0 + done + first as u64)));
            }
            if n == 0 {
                break;
            }
            done += n as u64;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64, offset: u64) -> MemoryRange {
        MemoryRange {
            start: PhysAddr(start),
            len,
            offset,
        }
    }

    #[test]
    fn common_addresses_belong_to_the_range_that_starts_lower() {
        let mut ranges = vec![
            range(0x2000, 0x1000, 0x9000),
            range(0x3800, 0x2000, 0xa000),
            range(0x1000, 0x3000, 0x1000),
            range(0x7000, 0x1000, 0x4000),
        ];
        let overlaps = separate(&mut ranges, 0x10_0000).unwrap();
        let found: Vec<_> = overlaps
            .iter()
            .map(|o| (o.at.0, o.len, o.used, o.other))
            .collect();
        assert_eq!(
            found,
            [
                (0x2000, 0x1000, 0x2000, 0x9000),
                (0x3800, 0x800, 0x3800, 0xa000)
            ]
        );
        assert_eq!(
            ranges,
            [
                range(0x1000, 0x3000, 0x1000),
                range(0x4000, 0x1800, 0xa800),
                range(0x7000, 0x1000, 0x4000),
            ]
        );
    }

    #[test]
    fn memory_described_twice_by_the_same_bytes_is_not_compared() {
        let mut ranges = vec![
            range(0x1000, 0x3000, 0x1000),
            range(0x2000, 0x1000, 0x2000),
            range(0x3000, 0x4000, 0x3000),
        ];
        assert_eq!(separate(&mut ranges, 0), Some(Vec::new()));
        assert_eq!(ranges, [range(0x1000, 0x6000, 0x1000)]);
    }

    #[test]
    fn overlaps_are_limited_in_number_and_size() {
        let twice = vec![range(0x1000, 0x3000, 0x1000), range(0x1000, 0x3000, 0x4000)];
        assert!(separate(&mut twice.clone(), 0x2fff).is_none());
        assert!(separate(&mut twice.clone(), 0x3000).is_some());
        let many = |n: u64| (0..n).map(|i| range(0x1000, 1, 0x1000 + i)).collect();
        let (mut most, mut more): (Vec<_>, Vec<_>) = (many(4097), many(4098));
        assert_eq!(separate(&mut most, 1 << 20).map(|o| o.len()), Some(4096));
        assert!(separate(&mut more, 1 << 20).is_none());
    }

    #[test]
    fn the_first_different_byte_is_found_within_the_content() {
        let mut bytes = vec![7; 0x4_0000];
        bytes[0x3_2345] = 8;
        let overlap = Overlap {
            at: PhysAddr(0x10_0000),
            len: 0x1_8000,
            used: 0x1000,
            other: 0x2_0000,
        };
        let difference = |len: usize| overlap.difference(&bytes[..len].to_vec()).unwrap();
        assert_eq!(difference(0x4_0000), Some(PhysAddr(0x11_2345)));
        assert_eq!(difference(0x3_2345), None);
    }
}
