//! Memory that QEMU's `dump-guest-memory` with paging wrote and did not claim.
//!
//! With paging, QEMU writes a segment for each mapping, and all of RAM, block by block in the order
//! of addresses, with nothing between the blocks. A mapping that runs over the end of a block (a
//! kernel's direct map runs over all of them) is claimed up to there only: its `p_filesz` is
//! smaller than its `p_memsz` (QEMU `dump/dump.c`, `get_offset_range`). The rest of it is in the
//! file all the same, and its place follows from what is claimed:
//!
//! * Between two claimed pieces with the same distance from address to offset there is no hole, so
//!   what lies between them has that distance as well.
//! * Memory above 4 GiB begins there, so its first claimed piece says where.
//! * What is left belongs behind the piece before it.
//!
//! Of this, what no mapping covers is left out. Behind the end of low RAM up to 256 KiB can come
//! from the flash, which QEMU writes behind it; no kernel has that in its `dump_avail`.

use std::ops::Range;

use super::raw_layout::FOUR_GIB;

/// Bytes of memory in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claimed {
    pub(super) pa: u64,
    pub(super) len: u64,
    pub(super) offset: u64,
}

impl Claimed {
    fn end(&self) -> u64 {
        self.pa.saturating_add(self.len)
    }

    fn offset_end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    fn distance(&self) -> u64 {
        self.offset.wrapping_sub(self.pa)
    }
}

/// What lies between and behind the claimed pieces of a file of `len` bytes, as far as `mapped`
/// covers it. Nothing if the pieces are not as QEMU writes them.
pub(super) fn unclaimed(mut pieces: Vec<Claimed>, mapped: &[Range<u64>], len: u64) -> Vec<Claimed> {
    pieces.sort_by_key(|piece| (piece.pa, std::cmp::Reverse(piece.len)));
    let mut joined: Vec<Claimed> = Vec::new();
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if piece.pa <= last.end() && piece.distance() == last.distance() => {
                last.len = last.len.max(piece.end() - last.pa);
            }
            Some(last) if piece.pa < last.end() || piece.offset < last.offset_end() => {
                return Vec::new();
            }
            _ => joined.push(piece),
        }
    }
    let mut found = Vec::new();
    let mut add = |pa: u64, end: u64, offset: u64| {
        for range in mapped {
            let (from, to) = (pa.max(range.start), end.min(range.end));
            if from < to {
                found.push(Claimed {
                    pa: from,
                    len: to - from,
                    offset: offset + (from - pa),
                });
            }
        }
    };
    for (index, before) in joined.iter().enumerate() {
        let (at, from) = (before.end(), before.offset_end());
        let Some(behind) = joined.get(index + 1) else {
            add(at, at.saturating_add(len.saturating_sub(from)), from);
            continue;
        };
        if behind.distance() == before.distance() {
            add(at, behind.pa, from);
            continue;
        }
        // Where memory from 4 GiB up begins, if it is between the two.
        let above = behind.pa.checked_sub(FOUR_GIB).filter(|_| at <= FOUR_GIB);
        let high = above.and_then(|above| behind.offset.checked_sub(above));
        let room = match high.filter(|high| *high >= from) {
            Some(high) => {
                add(FOUR_GIB, behind.pa, high);
                high - from
            }
            None => behind.offset - from,
        };
        let limit = if at <= FOUR_GIB { FOUR_GIB } else { behind.pa };
        add(at, at.saturating_add(room).min(limit), from);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(pa: u64, len: u64, offset: u64) -> Claimed {
        Claimed { pa, len, offset }
    }

    #[test]
    fn what_lies_between_pieces_of_one_distance_is_between_them_in_the_file() {
        let pieces = vec![
            claimed(0, 0xc0000, 0x700),
            claimed(0x20_0000, 0x1000, 0x20_0700),
        ];
        let mapped = 0..0x40_0000;
        let found = unclaimed(pieces, std::slice::from_ref(&mapped), 0x60_0000);
        assert_eq!(
            found,
            [
                claimed(0xc0000, 0x14_0000, 0xc0700),
                claimed(0x20_1000, 0x1f_f000, 0x20_1700),
            ]
        );
    }

    #[test]
    fn memory_above_4_gib_begins_there() {
        // 8 MiB below, then flash of 256 KiB, then 4 MiB.
        let high = 0x700 + (8 << 20) + (256 << 10);
        let pieces = vec![
            claimed(0, 0xc0000, 0x700),
            claimed(FOUR_GIB + 0x10_0000, 0x2000, high + 0x10_0000),
        ];
        let mapped = 0..FOUR_GIB + (4 << 20);
        let found = unclaimed(pieces, std::slice::from_ref(&mapped), high + (4 << 20));
        assert_eq!(
            found,
            [
                claimed(FOUR_GIB, 0x10_0000, high),
                claimed(0xc0000, (8 << 20) + (256 << 10) - 0xc0000, 0xc0700),
                claimed(
                    FOUR_GIB + 0x10_2000,
                    (4 << 20) - 0x10_2000,
                    high + 0x10_2000
                ),
            ]
        );
    }

    #[test]
    fn pieces_that_qemu_does_not_write_tell_nothing() {
        let mapped = 0..1 << 40;
        let mapped = std::slice::from_ref(&mapped);
        for pieces in [
            vec![claimed(0, 0x2000, 0x1000), claimed(0x1000, 0x1000, 0x9000)],
            vec![claimed(0, 0x1000, 0x9000), claimed(0x8000, 0x1000, 0x1000)],
        ] {
            assert_eq!(unclaimed(pieces, mapped, 1 << 30), []);
        }
        let extreme = vec![claimed(u64::MAX - 5, 5, 0), claimed(0, 1, u64::MAX - 1)];
        unclaimed(extreme, mapped, u64::MAX);
    }
}
